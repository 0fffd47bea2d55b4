/* rows.c - see rows.h.
 *
 * A row is a run of fields in one array; all texts stand zero-terminated in one buffer.  The JSON
 * tree of a row is dropped as soon as its texts are copied. */
#include "data/rows.h"
#include "json/json.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NAMES = 4096, /* different fields in one set */
    MAX_FILES = 1 << 20,
    MAX_ROW_BYTES = 1 << 30
};

typedef enum field_kind {
    FIELD_STRING = ROW_STRING,
    FIELD_NUMBER = ROW_NUMBER,
    FIELD_WORD = ROW_WORD,
    FIELD_LIST
} field_kind;

typedef struct field {
    int32_t name; /* index in `names` */
    field_kind kind;
    int64_t at, n; /* bytes of `text`; of a list: elements of `elements` */
} field;

typedef struct row {
    int64_t first, n; /* fields */
    int64_t line, file;
} row;

struct row_store {
    char **paths; /* of the files, in order; the last is being read */
    int64_t n_paths, path_room;
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
    for (int64_t i = 0; i < s->n_paths; i++) free(s->paths[i]);
    free(s->names);
    free(s->paths);
    free(s->fields);
    free(s->elements);
    free(s->rows);
    text_free(&s->text);
    free(s);
}

/* The file that is being read. */
static const char *path_of(const row_store *s)
{
    return s->n_paths ? s->paths[s->n_paths - 1] : "data set";
}

static sqz_status no_memory(const row_store *s, sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", path_of(s));
}

sqz_status rows_new(row_store **out, sqz_error *err)
{
    row_store *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, SQZ_E_NOMEM, "no memory for the rows of a data set");
    *out = s;
    return SQZ_OK;
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

/* Negative: no room (-1), no memory (-2). */
static int32_t name_index(row_store *s, const char *name)
{
    for (int64_t i = 0; i < s->n_names; i++)
        if (!strcmp(s->names[i], name)) return (int32_t)i;
    if (s->n_names == MAX_NAMES) return -1;
    if (!s->names) s->names = calloc(MAX_NAMES, sizeof *s->names);
    char *copy = s->names ? strdup(name) : NULL;
    if (!copy) return -2;
    s->names[s->n_names] = copy;
    return (int32_t)s->n_names++;
}

sqz_status rows_begin_file(row_store *s, const char *path, sqz_error *err)
{
    if (s->n_paths == MAX_FILES)
        return err_set(err, ERR_MODEL, "%s: more than %d files in one data set", path, MAX_FILES);
    void *array = s->paths;
    int ok = array_room(&array, s->n_paths, &s->path_room, sizeof *s->paths);
    s->paths = array;
    char *copy = ok ? strdup(path) : NULL;
    if (!copy) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", path);
    s->paths[s->n_paths++] = copy;
    return SQZ_OK;
}

sqz_status rows_begin(row_store *s, int64_t line, sqz_error *err)
{
    void *array = s->rows;
    int ok = array_room(&array, s->n_rows, &s->row_room, sizeof *s->rows);
    s->rows = array;
    if (!ok) return no_memory(s, err);
    s->rows[s->n_rows++] = (row){s->n_fields, 0, line, s->n_paths - 1};
    return SQZ_OK;
}

/* Zero-terminated in the buffer, for the view that evaluations get. */
static span add_bytes(row_store *s, const char *text, int64_t n)
{
    int64_t at = s->text.n;
    text_add(&s->text, text, n);
    text_add(&s->text, "", 1);
    return (span){at, n};
}

static sqz_status add_a_field(row_store *s, const char *name, field f, sqz_error *err)
{
    f.name = name_index(s, name);
    if (f.name == -2) return no_memory(s, err);
    if (f.name < 0)
        return err_set(err, ERR_MODEL, "%s: more than %d different fields", path_of(s), MAX_NAMES);
    void *array = s->fields;
    int ok = array_room(&array, s->n_fields, &s->field_room, sizeof *s->fields);
    s->fields = array;
    if (!ok || s->text.failed) return no_memory(s, err);
    s->fields[s->n_fields++] = f;
    s->rows[s->n_rows - 1].n++;
    return SQZ_OK;
}

/* Evaluations see the fields of rows as C strings, which would end at a zero byte; refused here as
 * in JSON, never cut in silence. */
static sqz_status check_zero(const row_store *s, const char *name, const char *text, int64_t n,
                             sqz_error *err)
{
    if (n < 1 || !memchr(text, 0, (size_t)n)) return SQZ_OK;
    return err_set(err, ERR_MODEL,
                   "%s:%lld: the field \"%s\" has a zero byte, which no text may hold; remove it",
                   path_of(s), (long long)s->rows[s->n_rows - 1].line, name);
}

static sqz_status put(row_store *s, const char *name, row_value kind, const char *text, int64_t n,
                      sqz_error *err)
{
    span at = add_bytes(s, text, n);
    return add_a_field(s, name, (field){0, (field_kind)kind, at.at, at.n}, err);
}

sqz_status rows_put(row_store *s, const char *name, row_value kind, const char *text, int64_t n,
                    sqz_error *err)
{
    sqz_status st = check_zero(s, name, text, n, err);
    return st != SQZ_OK ? st : put(s, name, kind, text, n, err);
}

sqz_status rows_put_list(row_store *s, const char *name, sqz_error *err)
{
    return add_a_field(s, name, (field){0, FIELD_LIST, s->n_elements, 0}, err);
}

sqz_status rows_put_element(row_store *s, const char *text, int64_t n, sqz_error *err)
{
    field *list = &s->fields[s->n_fields - 1];
    sqz_status st = check_zero(s, s->names[list->name], text, n, err);
    if (st != SQZ_OK) return st;
    void *array = s->elements;
    int ok = array_room(&array, s->n_elements, &s->element_room, sizeof *s->elements);
    s->elements = array;
    if (!ok) return no_memory(s, err);
    s->elements[s->n_elements++] = add_bytes(s, text, n);
    list->n++;
    return s->text.failed ? no_memory(s, err) : SQZ_OK;
}

int rows_print_double(double value, char out[40])
{
    if (isnan(value)) return snprintf(out, 40, "nan");
    if (isinf(value)) return snprintf(out, 40, value < 0 ? "-inf" : "inf");
    /* Python changes to exponents at 1e16 and below 1e-4; %g does so by its number of digits. */
    double size = fabs(value);
    int plain = size == 0 || (size >= 1e-4 && size < 1e16), n = 0;
    for (int digits = 1; digits <= 17; digits++) {
        n = snprintf(out, 40, "%.*e", digits - 1, value);
        if (strtod(out, NULL) != value) continue;
        if (!plain) break;
        int exponent = atoi(strchr(out, 'e') + 1), places = digits - 1 - exponent;
        n = snprintf(out, 40, "%.*f", places < 1 ? 1 : places, value);
        break;
    }
    return n;
}

/* ---- from JSON ----------------------------------------------------------------------------------
 */

/* Text of a value: strings as they are, everything else as JSON. */
static char *value_text(const cJSON *value)
{
    return cJSON_IsString(value) ? strdup(value->valuestring) : json_text(value, 0);
}

static sqz_status add_list(row_store *s, const char *name, const cJSON *list, sqz_error *err)
{
    const cJSON *item;
    sqz_status st = rows_put_list(s, name, err);
    cJSON_ArrayForEach(item, list)
    {
        if (st != SQZ_OK) return st;
        char *text = value_text(item);
        if (!text) return no_memory(s, err);
        st = rows_put_element(s, text, (int64_t)strlen(text), err);
        free(text);
    }
    return st;
}

static sqz_status add_object(row_store *s, const cJSON *object, const char *prefix, sqz_error *err);

static sqz_status add_field(row_store *s, const char *name, const cJSON *value, sqz_error *err)
{
    if (cJSON_IsNull(value)) return SQZ_OK;
    if (cJSON_IsObject(value)) return add_object(s, value, name, err);
    if (cJSON_IsArray(value)) return add_list(s, name, value, err);
    char *text = value_text(value);
    if (!text) return no_memory(s, err);
    row_value kind = cJSON_IsString(value)   ? ROW_STRING
                     : cJSON_IsNumber(value) ? ROW_NUMBER
                                             : ROW_WORD;
    sqz_status st = rows_put(s, name, kind, text, (int64_t)strlen(text), err);
    free(text);
    return st;
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
                       path_of(s), (long long)line);
    sqz_status st = rows_begin(s, line, err);
    return st != SQZ_OK ? st : add_object(s, value, NULL, err);
}

/* ---- reading ------------------------------------------------------------------------------------
 */

/* The parser saw one line and called it line 1 of nothing. */
static sqz_status line_error(const row_store *s, int64_t line, sqz_status st, sqz_error *err)
{
    if (st == SQZ_E_NOMEM || !err) return st == SQZ_E_NOMEM ? st : ERR_MODEL;
    int inner, column, used = 0;
    if (sscanf(err->text, ":%d:%d: %n", &inner, &column, &used) == 2 && used)
        return err_set(err, ERR_MODEL, "%s:%lld:%d: %s", path_of(s), (long long)line, column,
                       err->text + used);
    return err_set(err, ERR_MODEL, "%s:%lld%s", path_of(s), (long long)line, err->text);
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
        return err_set(err, ERR_MODEL, "%s:%lld: a row of %lld bytes; at most %d", path_of(s),
                       (long long)line, (long long)n, MAX_ROW_BYTES);
    sqz_status st = json_parse(p, n, 0, "", &doc, err);
    if (st != SQZ_OK) return line_error(s, line, st, err);
    st = add_row(s, json_root(doc), line, err);
    json_free(doc);
    return st;
}

sqz_status rows_add_jsonl(row_store *s, const char *path, const char *data, int64_t bytes,
                          int64_t max_rows, sqz_error *err)
{
    sqz_status st = rows_begin_file(s, path, err);
    int64_t line = 1;
    for (int64_t i = 0; i < bytes && st == SQZ_OK; line++) {
        if (max_rows >= 0 && s->n_rows >= max_rows) break;
        const char *end = memchr(data + i, '\n', (size_t)(bytes - i));
        int64_t n = end ? end - (data + i) : bytes - i;
        st = read_line(s, data + i, n, line, err);
        i += n + 1;
    }
    return st;
}

/* The rows of a document: the array itself, or the only array of objects in an object. */
static const cJSON *array_of_rows(const cJSON *root)
{
    const cJSON *item, *found = NULL;
    if (cJSON_IsArray(root)) return root;
    cJSON_ArrayForEach(item, root)
    {
        if (!cJSON_IsArray(item) || !cJSON_IsObject(item->child)) continue;
        if (found) return NULL;
        found = item;
    }
    return found;
}

sqz_status rows_add_json(row_store *s, const char *path, const char *data, int64_t bytes,
                         int64_t max_rows, sqz_error *err)
{
    json_doc *doc = NULL;
    const cJSON *item;
    sqz_status st = rows_begin_file(s, path, err);
    if (st == SQZ_OK) st = json_parse(data, bytes, 0, path, &doc, err);
    if (st != SQZ_OK && st != SQZ_E_NOMEM) {
        st = ERR_MODEL;
        if (err) err->code = st;
    }
    const cJSON *root = st == SQZ_OK ? json_root(doc) : NULL, *list = array_of_rows(root);
    if (root && !list) st = add_row(s, root, 1, err);
    cJSON_ArrayForEach(item, list)
    {
        int line, column;
        if (st != SQZ_OK || (max_rows >= 0 && s->n_rows >= max_rows)) break;
        json_where(doc, item, &line, &column);
        st = add_row(s, item, line, err);
    }
    json_free(doc);
    return st;
}

sqz_status rows_add_text(row_store *s, const char *path, const char *data, int64_t bytes,
                         sqz_error *err)
{
    int64_t bad = utf8_check(data, bytes), line = 1;
    for (int64_t i = 0; i < bad; i++) line += data[i] == '\n';
    if (bad >= 0)
        return err_set(err, ERR_MODEL, "%s:%lld: invalid UTF-8; save the file as UTF-8", path,
                       (long long)line);
    sqz_status st = rows_begin_file(s, path, err);
    if (st == SQZ_OK) st = rows_begin(s, 1, err);
    return st != SQZ_OK ? st : put(s, "text", ROW_STRING, data, bytes, err);
}

/* ---- looking up ---------------------------------------------------------------------------------
 */

int64_t rows_count(const row_store *s)
{
    return s->n_rows;
}

const char *rows_path(const row_store *s, int64_t i)
{
    return i >= 0 && i < s->n_rows ? s->paths[s->rows[i].file] : path_of(s);
}

int64_t rows_n_names(const row_store *s)
{
    return s->n_names;
}

const char *rows_name(const row_store *s, int64_t k)
{
    return k >= 0 && k < s->n_names ? s->names[k] : NULL;
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
