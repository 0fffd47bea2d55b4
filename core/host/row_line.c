/* row_line.c - see row_line.h. */
#include "host/row_line.h"
#include "host/host.h"
#include "tokenizer/pieces.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Remembers the first failure; returns what the plugin is to return. */
__attribute__((format(printf, 3, 4))) static sqz_status refuse(row_line *l, sqz_status code,
                                                               const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!l->failure.code) err_set(&l->failure, code, "row %lld: %s", (long long)l->number, text);
    return host_fail(l->host, l->failure.code, l->failure.text);
}

static sqz_status no_memory(row_line *l)
{
    return refuse(l, SQZ_E_NOMEM, "no memory for its fields");
}

/* A valid name that the row has not yet; *list: the list of this name that is being filled, when
 * the caller adds elements. */
static sqz_status take_name(row_line *l, const char *name, cJSON **list)
{
    size_t n = name ? strnlen(name, ROW_MAX_NAME + 1) : 0;
    if (l->failure.code) return refuse(l, l->failure.code, "-");
    if (n < 1 || n > ROW_MAX_NAME || utf8_check(name, (int64_t)n) >= 0)
        return refuse(l, SQZ_E_INVALID, "a field's name must be 1 to %d bytes of UTF-8",
                      ROW_MAX_NAME);
    cJSON *there = json_get(l->row, name), *last = l->row->child ? l->row->child->prev : NULL;
    if (list && there && there == last && cJSON_IsArray(there)) {
        *list = there;
        return SQZ_OK;
    }
    if (there)
        return refuse(l, SQZ_E_INVALID, "field \"%.80s\" is given twice%s", name,
                      list ? "; the elements of a list must follow each other" : "");
    if (l->fields++ == ROW_MAX_FIELDS)
        return refuse(l, SQZ_E_INVALID, "more than %d fields", ROW_MAX_FIELDS);
    if (list && !(*list = cJSON_AddArrayToObject(l->row, name))) return no_memory(l);
    return SQZ_OK;
}

/* The text as a JSON value. */
static sqz_status take_text(row_line *l, const char *name, const char *text, int64_t n,
                            cJSON **value)
{
    if (n < 0) n = (int64_t)strlen(text);
    if (n > ROW_MAX_BYTES || (l->bytes += n) > ROW_MAX_BYTES)
        return refuse(l, SQZ_E_INVALID, "its texts have more than %d MiB", ROW_MAX_BYTES >> 20);
    int64_t bad = utf8_check(text, n);
    if (bad >= 0 || memchr(text, 0, (size_t)n))
        return refuse(l, SQZ_E_INVALID, "field \"%.80s\" is no UTF-8 text without zero bytes",
                      name);
    char *copy = strndup(text, (size_t)n);
    *value = copy ? cJSON_CreateString(copy) : NULL;
    free(copy);
    return *value ? SQZ_OK : no_memory(l);
}

static sqz_status put_text(const sqz_row *r, const char *name, const char *text, int64_t n)
{
    row_line *l = r->impl;
    cJSON *value = NULL;
    sqz_status s = take_name(l, name, NULL);
    if (!s && !text) s = refuse(l, SQZ_E_INVALID, "field \"%.80s\" has no text", name);
    if (!s) s = take_text(l, name, text, n, &value);
    if (s || cJSON_AddItemToObject(l->row, name, value)) return s;
    cJSON_Delete(value);
    return no_memory(l);
}

static sqz_status put_number(const sqz_row *r, const char *name, double value)
{
    row_line *l = r->impl;
    sqz_status s = take_name(l, name, NULL);
    if (!s && !isfinite(value))
        s = refuse(l, SQZ_E_INVALID, "field \"%.80s\" is no finite number", name);
    if (s || cJSON_AddNumberToObject(l->row, name, value)) return s;
    return no_memory(l);
}

static sqz_status put_item(const sqz_row *r, const char *name, const char *text, int64_t n)
{
    row_line *l = r->impl;
    cJSON *list = NULL, *value = NULL;
    sqz_status s = take_name(l, name, &list);
    if (s || !text) return s;
    if (l->items++ == ROW_MAX_ITEMS)
        return refuse(l, SQZ_E_INVALID, "its lists have more than %d elements", ROW_MAX_ITEMS);
    s = take_text(l, name, text, n, &value);
    if (s || cJSON_AddItemToArray(list, value)) return s;
    cJSON_Delete(value);
    return no_memory(l);
}

void row_line_init(row_line *l, const sqz_host *host)
{
    *l = (row_line){.host = host};
    l->table = (sqz_row){sizeof l->table, 0, l, put_text, put_number, put_item};
}

int row_line_begin(row_line *l, int64_t number)
{
    row_line_free(l);
    l->number = number;
    l->fields = l->items = l->bytes = 0;
    l->row = cJSON_CreateObject();
    return l->row != NULL;
}

void row_line_free(row_line *l)
{
    cJSON_Delete(l->row);
    l->row = NULL;
}
