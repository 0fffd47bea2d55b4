/* override.c - one --set a.b[2].c=value (or ~a.b) applied to the full form.
 *
 * The value is read by the type of the key, so `seed=7` is a number and `output=7` a text.  Paths
 * that the table does not know are refused; below a free object (a method's `with`) any key may be
 * set, and the method's own parameter check comes later. */
#include "config/keys.h"
#include "data/data.h"
#include "io/file.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct place {
    cJSON *container;   /* object or array that holds the value */
    const key_row *row; /* of the value; NULL inside a free object */
    key_step last;
    int in_list; /* the value is one element of row's list */
} place;

static cJSON *child_of(const cJSON *container, const key_step *s)
{
    return s->index >= 0 ? cJSON_GetArrayItem(container, s->index) : json_get(container, s->name);
}

static sqz_status unknown(const char *where, const char *path, const char *key, sqz_error *err)
{
    const char *names[64];
    int n = config_children(path, names, 64);
    const char *near = json_nearest(key, names, n);
    char known[400] = "";
    for (int i = 0; i < n; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", names[i]);
    }
    if (near)
        return err_set(err, ERR_USAGE, "%s: unknown key \"%s\"; did you mean \"%s\"?", where, key,
                       near);
    return err_set(err, ERR_USAGE, "%s: unknown key \"%s\"; known here: %s", where, key, known);
}

/* Walks the steps, keeping the table's path beside the tree's. */
static sqz_status locate(cJSON *full, const key_step *steps, int n, const char *where, place *out,
                         sqz_error *err)
{
    char path[256] = "";
    const key_row *row = NULL;
    cJSON *at = full;
    int inside = 0; /* of a free object */
    for (int i = 0; i < n; i++) {
        const key_step *s = &steps[i];
        int on_list = row && row->kind == KEY_LIST && cJSON_IsArray(at) && !inside;
        if (s->index < 0 && on_list) { /* dataset.limit means dataset[0].limit */
            at = cJSON_GetArrayItem(at, 0);
            if (!at)
                return err_set(err, ERR_USAGE, "%s: \"%s\" is empty, so \"%s\" cannot be set in it",
                               where, path, s->name);
        }
        if (s->index >= 0) {
            if (!cJSON_IsArray(at) || s->index >= cJSON_GetArraySize(at))
                return err_set(err, ERR_USAGE, "%s: \"%s\" has %d elements, there is no [%d]",
                               where, path, cJSON_IsArray(at) ? cJSON_GetArraySize(at) : 0,
                               s->index);
        } else if (!inside) {
            char below[256];
            int w = snprintf(below, sizeof below, "%s%s%s%s", path,
                             row && row->kind == KEY_LIST ? "[]" : "", *path ? "." : "", s->name);
            const key_row *next = w < (int)sizeof below ? config_key(below) : NULL;
            if (!next) return unknown(where, path, s->name, err);
            snprintf(path, sizeof path, "%s", below);
            row = next;
        }
        out->container = at;
        out->last = *s;
        out->in_list = s->index >= 0;
        out->row = inside ? NULL : row;
        if (i + 1 == n) return SQZ_OK;
        cJSON *next = child_of(at, s);
        if (row->kind == KEY_FREE) inside = 1;
        if (!next || (!cJSON_IsObject(next) && !cJSON_IsArray(next))) {
            if (!inside && row->kind != KEY_OBJECT)
                return err_set(err, ERR_USAGE, "%s: \"%s\" holds no object or list", where, path);
            cJSON *made = cJSON_CreateObject();
            if (next)
                cJSON_ReplaceItemInObjectCaseSensitive(at, s->name, made);
            else
                cJSON_AddItemToObject(at, s->name, made);
            next = made;
        }
        at = next;
    }
    return err_set(err, ERR_USAGE, "%s: the path is empty", where);
}

/* ---- values -------------------------------------------------------------------------------- */

static cJSON *literal(const char *text)
{
    json_doc *doc = NULL;
    if (json_parse(text, (int64_t)strlen(text), JSON_COMMENTS, "value", &doc, NULL)) return NULL;
    cJSON *copy = cJSON_Duplicate(json_root(doc), 1);
    json_free(doc);
    return copy;
}

static cJSON *split_commas(const char *text)
{
    cJSON *list = cJSON_CreateArray();
    if (mix_is_one(text)) { /* a data set that is here, with commas in its name */
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
        return list;
    }
    while (*text) {
        size_t n = strcspn(text, ",");
        char *part = path_format("%.*s", (int)n, text);
        if (*part) cJSON_AddItemToArray(list, cJSON_CreateString(part));
        free(part);
        text += n + (text[n] == ',');
    }
    return list;
}

static cJSON *typed_number(const char *text, int whole)
{
    char *end;
    errno = 0;
    double x = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(x) || (whole && x != floor(x))) return NULL;
    return cJSON_CreateNumber(x);
}

/* The JSON value of `text` for this key; NULL when it cannot be one. */
static cJSON *typed(const key_row *row, int element, const char *text)
{
    key_kind kind = row ? row->kind : KEY_FREE;
    if (row && !strcmp(text, "null") && !row->required && !element) return cJSON_CreateNull();
    switch (kind) {
    case KEY_INT: return typed_number(text, 1);
    case KEY_NUM: return typed_number(text, 0);
    case KEY_BOOL:
        return !strcmp(text, "true")    ? cJSON_CreateTrue()
               : !strcmp(text, "false") ? cJSON_CreateFalse()
                                        : NULL;
    case KEY_TEXTS:
    case KEY_PATHS:
        if (element) return cJSON_CreateString(text);
        return *text == '[' ? literal(text) : split_commas(text);
    case KEY_LIST:
    case KEY_OBJECT: {
        if (*text == '[' || *text == '{') return literal(text);
        return !row->main                     ? NULL
               : kind == KEY_LIST && !element ? split_commas(text)
                                              : cJSON_CreateString(text);
    }
    case KEY_FREE:
        if (row && row->kind == KEY_FREE) return literal(text);
        {
            cJSON *v = literal(text);
            return v ? v : cJSON_CreateString(text);
        }
    default: return cJSON_CreateString(text);
    }
}

static const char *kind_words(const key_row *row)
{
    static const char *const words[] = {"a text",
                                        "a path",
                                        "FILE or NAME=FILE",
                                        "a whole number",
                                        "a number",
                                        "true or false",
                                        "a size such as 8GB",
                                        "a duration such as 1h30m",
                                        "a list such as a,b",
                                        "a JSON object or its main field",
                                        "a JSON array or a list of main fields",
                                        "a JSON object"};
    return words[row->kind];
}

/* Expanded and with absolute paths, as if it had stood in a file of the working directory. */
static cJSON *settle(const key_row *row, int element, cJSON *value)
{
    if (!row) return value;
    if (element && row->kind != KEY_LIST) {
        if (row->kind == KEY_PATHS) config_resolve_value(value, KEY_PATH, ".");
        return value;
    }
    char top[96];
    size_t n = strcspn(row->path, ".");
    snprintf(top, sizeof top, "%.*s", (int)n, row->path);
    if (strcmp(top, row->path) != 0) {
        config_resolve_value(value, row->kind, ".");
        return value;
    }
    cJSON *holder = cJSON_CreateObject(), *full;
    cJSON_AddItemToObject(holder, top, value);
    full = config_expand(holder);
    config_resolve_paths(full, ".");
    value = cJSON_DetachItemFromObjectCaseSensitive(full, top);
    if (element) {
        cJSON *list = value;
        value = cJSON_DetachItemFromArray(list, 0);
        cJSON_Delete(list);
    }
    cJSON_Delete(full);
    cJSON_Delete(holder);
    return value;
}

static sqz_status unset(const place *p, const char *where, sqz_error *err)
{
    if (p->row && p->row->required)
        return err_set(err, ERR_USAGE, "%s: a required key cannot be removed", where);
    if (p->last.index >= 0)
        cJSON_DeleteItemFromArray(p->container, p->last.index);
    else
        cJSON_DeleteItemFromObjectCaseSensitive(p->container, p->last.name);
    return SQZ_OK;
}

sqz_status config_override_apply(cJSON *full, const config_override *o, sqz_error *err)
{
    const char *equals = strchr(o->text, '=');
    int remove = o->text[0] == '~';
    char *where = path_format("%s %.200s", o->origin ? o->origin : "--set", o->text);
    size_t bytes = remove ? strlen(o->text + 1) : equals ? (size_t)(equals - o->text) : 0;
    key_step steps[24];
    place p = {0};
    int n = config_split_path(o->text + remove, bytes, steps, 24);
    sqz_status s = SQZ_OK;
    if (n <= 0 || (!remove && !equals)) {
        s = err_set(err, ERR_USAGE, "%s: write key=value, e.g. budget.trials=20, or ~key to unset",
                    where);
        goto done;
    }
    if ((s = locate(full, steps, n, where, &p, err))) goto done;
    if (remove) {
        s = unset(&p, where, err);
        goto done;
    }
    cJSON *value = typed(p.row, p.in_list, equals + 1);
    if (!value) {
        s = err_set(err, ERR_USAGE, "%s: \"%.80s\" is not %s", where, equals + 1,
                    p.row ? kind_words(p.row) : "a value");
        goto done;
    }
    value = settle(p.row, p.in_list, value);
    if (p.last.index >= 0)
        cJSON_ReplaceItemInArray(p.container, p.last.index, value);
    else if (json_get(p.container, p.last.name))
        cJSON_ReplaceItemInObjectCaseSensitive(p.container, p.last.name, value);
    else
        cJSON_AddItemToObject(p.container, p.last.name, value);
done:
    free(where);
    return s;
}
