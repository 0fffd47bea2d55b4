/* rows.c - see rows.h.
 *
 * A row is a run of fields in one array; all texts stand zero-terminated in one buffer.  The JSON
 * tree of a row is dropped as soon as its texts are copied. */
#include "data/rows.h"
#include "json/json.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NAMES = 4096, /* different fields in one file */
    MAX_ROW_BYTES = 1 << 30
};

typedef enum field_kind { FIELD_STRING, FIELD_NUMBER, FIELD_WORD, FIELD_LIST } field_kind;

typedef struct field {
    int32_t name; /* index in `names` */
    field_kind kind;
    int64_t at, n; /* bytes of `text`; of a list: elements of `elements` */
} field;

typedef struct row {
    int64_t first, n; /* fields */
    int64_t line;
} row;

struct row_store {
    char *path;
    char **names;
    int64_t n_names;
    field *fields;
    int64_t n_fields, field_room;
    span *elements;
    int64_t n_elements, element_room;
    row *rows;
    int64_t n_rows, row_room;
    text_buffer text;
};

void rows_free(row_store *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->n_names; i++) free(s->names[i]);
    free(s->names);
    free(s->fields);
    free(s->elements);
    free(s->rows);
    text_free(&s->text);
    free(s->path);
    free(s);
}

static sqz_status no_memory(const row_store *s, sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", s->path);
}

static row_store *store_new(const char *path)
{
    row_store *s = calloc(1, sizeof *s);
    if (s) s->path = strdup(path);
    if (s && !s->path) {
        free(s);
        s = NULL;
    }
    return s;
}

/* ---- adding -------------------------------------------------------------------------------------
 */

static int array_room(void **array, int64_t n, int64_t *room, size_t size)
{
    if (n < *room) return 1;
    int64_t more = *room ? 2 * *room : 256;
    void *grown = realloc(*array, (size_t)more * size);
    if (!grown) return 0;
    *array = grown;
    *room = more;
    return 1;
}

static int32_t name_index(row_store *s, const char *name)
{
    for (int64_t i = 0; i < s->n_names; i++)
        if (!strcmp(s->names[i], name)) return (int32_t)i;
    if (s->n_names == MAX_NAMES) return -1;
    if (!s->names) s->names = calloc(MAX_NAMES, sizeof *s->names);
    char *copy = s->names ? strdup(name) : NULL;
    if (!copy) return -1;
    s->names[s->n_names] = copy;
    return (int32_t)s->n_names++;
}

/* Text of a value: strings as they are, everything else as JSON. */
static span add_text(row_store *s, const cJSON *value)
{
    int64_t at = s->text.n;
    if (cJSON_IsString(value)) {
        text_add(&s->text, value->valuestring, (int64_t)strlen(value->valuestring));
    } else {
        char *json = json_text(value, 0);
        if (json)
            text_add(&s->text, json, (int64_t)strlen(json));
        else
            s->text.failed = 1;
        free(json);
    }
    int64_t n = s->text.n - at;
    text_add(&s->text, "", 1);
    return (span){at, n};
}

static sqz_status add_list(row_store *s, const cJSON *list, field *f, sqz_error *err)
{
    const cJSON *item;
    f->kind = FIELD_LIST;
    f->at = s->n_elements;
    cJSON_ArrayForEach(item, list)
    {
        void *array = s->elements;
        int ok = array_room(&array, s->n_elements, &s->element_room, sizeof *s->elements);
        s->elements = array;
        if (!ok) return no_memory(s, err);
        s->elements[s->n_elements++] = add_text(s, item);
    }
    f->n = s->n_elements - f->at;
    return SQZ_OK;
}

static sqz_status add_object(row_store *s, const cJSON *object, const char *prefix, sqz_error *err);

static sqz_status add_field(row_store *s, const char *name, const cJSON *value, sqz_error *err)
{
    if (cJSON_IsNull(value)) return SQZ_OK;
    if (cJSON_IsObject(value)) return add_object(s, value, name, err);
    field f = {.name = name_index(s, name)};
    if (f.name < 0)
        return err_set(err, ERR_MODEL, "%s: more than %d different fields", s->path, MAX_NAMES);
    if (cJSON_IsArray(value)) {
        sqz_status st = add_list(s, value, &f, err);
        if (st != SQZ_OK) return st;
    } else {
        f.kind = cJSON_IsString(value)   ? FIELD_STRING
                 : cJSON_IsNumber(value) ? FIELD_NUMBER
                                         : FIELD_WORD;
        span text = add_text(s, value);
        f.at = text.at;
        f.n = text.n;
    }
    void *array = s->fields;
    int ok = array_room(&array, s->n_fields, &s->field_room, sizeof *s->fields);
    s->fields = array;
    if (!ok || s->text.failed) return no_memory(s, err);
    s->fields[s->n_fields++] = f;
    return SQZ_OK;
}

static sqz_status add_object(row_store *s, const cJSON *object, const char *prefix, sqz_error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        char *joined = NULL;
        if (prefix && asprintf(&joined, "%s.%s", prefix, item->string) < 0)
            return no_memory(s, err);
        sqz_status st = add_field(s, joined ? joined : item->string, item, err);
        free(joined);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}

static sqz_status add_row(row_store *s, const cJSON *value, int64_t line, sqz_error *err)
{
    if (!cJSON_IsObject(value))
        return err_set(err, ERR_MODEL, "%s:%lld: a row must be an object {\"field\": value, ...}",
                       s->path, (long long)line);
    void *array = s->rows;
    int ok = array_room(&array, s->n_rows, &s->row_room, sizeof *s->rows);
    s->rows = array;
    if (!ok) return no_memory(s, err);
    row r = {s->n_fields, 0, line};
    sqz_status st = add_object(s, value, NULL, err);
    if (st != SQZ_OK) return st;
    r.n = s->n_fields - r.first;
    s->rows[s->n_rows++] = r;
    return SQZ_OK;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

/* The parser saw one line and called it line 1 of nothing. */
static sqz_status line_error(const row_store *s, int64_t line, sqz_status st, sqz_error *err)
{
    if (st == SQZ_E_NOMEM || !err) return st == SQZ_E_NOMEM ? st : ERR_MODEL;
    int inner, column, used = 0;
    if (sscanf(err->text, ":%d:%d: %n", &inner, &column, &used) == 2 && used)
        return err_set(err, ERR_MODEL, "%s:%lld:%d: %s", s->path, (long long)line, column,
                       err->text + used);
    return err_set(err, ERR_MODEL, "%s:%lld%s", s->path, (long long)line, err->text);
}

static int is_blank(const char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return 0;
    return 1;
}

static sqz_status read_line(row_store *s, const char *p, int64_t n, int64_t line, sqz_error *err)
{
    json_doc *doc = NULL;
    if (is_blank(p, n)) return SQZ_OK;
    if (n > MAX_ROW_BYTES)
        return err_set(err, ERR_MODEL, "%s:%lld: a row of %lld bytes; at most %d", s->path,
                       (long long)line, (long long)n, MAX_ROW_BYTES);
    sqz_status st = json_parse(p, n, 0, "", &doc, err);
    if (st != SQZ_OK) return line_error(s, line, st, err);
    st = add_row(s, json_root(doc), line, err);
    json_free(doc);
    return st;
}

sqz_status rows_from_jsonl(const char *path, const char *data, int64_t bytes, row_store **out,
                           sqz_error *err)
{
    row_store *s = store_new(path);
    sqz_status st = s ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", path);
    int64_t line = 1;
    for (int64_t i = 0; i < bytes && st == SQZ_OK; line++) {
        const char *end = memchr(data + i, '\n', (size_t)(bytes - i));
        int64_t n = end ? end - (data + i) : bytes - i;
        st = read_line(s, data + i, n, line, err);
        i += n + 1;
    }
    if (st != SQZ_OK) {
        rows_free(s);
        return st;
    }
    *out = s;
    return SQZ_OK;
}

sqz_status rows_from_array(const char *path, const char *data, int64_t bytes, row_store **out,
                           sqz_error *err)
{
    json_doc *doc = NULL;
    const cJSON *item;
    row_store *s = store_new(path);
    if (!s) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", path);
    sqz_status st = json_parse(data, bytes, 0, path, &doc, err);
    if (st != SQZ_OK && st != SQZ_E_NOMEM) {
        st = ERR_MODEL;
        if (err) err->code = st;
    }
    const cJSON *list = st == SQZ_OK ? json_root(doc) : NULL;
    cJSON_ArrayForEach(item, list)
    {
        int line, column;
        json_where(doc, item, &line, &column);
        if (st == SQZ_OK) st = add_row(s, item, line, err);
    }
    json_free(doc);
    if (st != SQZ_OK) {
        rows_free(s);
        return st;
    }
    *out = s;
    return SQZ_OK;
}

sqz_status rows_from_text(const char *path, const char *data, int64_t bytes, row_store **out,
                          sqz_error *err)
{
    int64_t bad = utf8_check(data, bytes), line = 1;
    for (int64_t i = 0; i < bad; i++) line += data[i] == '\n';
    if (bad >= 0)
        return err_set(err, ERR_MODEL, "%s:%lld: invalid UTF-8; save the file as UTF-8", path,
                       (long long)line);
    row_store *s = store_new(path);
    if (!s) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its text", path);
    text_add(&s->text, data, bytes);
    text_add(&s->text, "", 1);
    s->fields = malloc(sizeof *s->fields);
    s->rows = malloc(sizeof *s->rows);
    if (s->text.failed || !s->fields || !s->rows || name_index(s, "text") < 0) {
        sqz_status st = no_memory(s, err);
        rows_free(s);
        return st;
    }
    s->fields[0] = (field){0, FIELD_STRING, 0, bytes};
    s->rows[0] = (row){0, 1, 1};
    s->n_fields = s->field_room = s->n_rows = s->row_room = 1;
    *out = s;
    return SQZ_OK;
}

/* ---- looking up ---------------------------------------------------------------------------------
 */

int64_t rows_count(const row_store *s)
{
    return s->n_rows;
}

int64_t rows_line(const row_store *s, int64_t i)
{
    return i >= 0 && i < s->n_rows ? s->rows[i].line : 0;
}

static const field *find(const row_store *s, int64_t i, const char *name)
{
    if (i < 0 || i >= s->n_rows) return NULL;
    const row *r = &s->rows[i];
    for (int64_t k = 0; k < r->n; k++) {
        const field *f = &s->fields[r->first + k];
        if (!strcmp(s->names[f->name], name)) return f;
    }
    return NULL;
}

const char *rows_text(const row_store *s, int64_t i, const char *name, int64_t *n)
{
    const field *f = find(s, i, name);
    if (!f || f->kind == FIELD_LIST) return NULL;
    if (n) *n = f->n;
    return s->text.at + f->at;
}

int64_t rows_list_length(const row_store *s, int64_t i, const char *name)
{
    const field *f = find(s, i, name);
    return f && f->kind == FIELD_LIST ? f->n : -1;
}

const char *rows_list_text(const row_store *s, int64_t i, const char *name, int64_t k)
{
    const field *f = find(s, i, name);
    if (!f || f->kind != FIELD_LIST || k < 0 || k >= f->n) return NULL;
    return s->text.at + s->elements[f->at + k].at;
}

int rows_number(const row_store *s, int64_t i, const char *name, double *value)
{
    const field *f = find(s, i, name);
    if (!f || f->kind == FIELD_LIST || !f->n) return 0;
    const char *text = s->text.at + f->at;
    if (f->kind == FIELD_WORD) {
        *value = *text == 't'; /* true, false */
        return 1;
    }
    if (!strchr("-0123456789", *text)) return 0; /* strtod also takes names, signs and spaces */
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (errno || *end || strpbrk(text, "xXpP")) return 0;
    *value = v;
    return 1;
}

int rows_is_string(const row_store *s, int64_t i, const char *name)
{
    const field *f = find(s, i, name);
    return f && f->kind == FIELD_STRING;
}
