/* delimited.c - see delimited.h. */
#include "data/delimited.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_COLUMNS = 4096 };

typedef struct record {
    int64_t first, n; /* cells */
    int64_t line;
} record;

typedef struct table {
    const char *path;
    char delimiter;
    const char *data;
    int64_t bytes, at, line;
    pieces cells; /* quotes removed, each zero-terminated */
    record *records;
    int64_t n_records, room;
} table;

/* ---- records ------------------------------------------------------------------------------------
 */

static int is_break(char c)
{
    return c == '\n' || c == '\r';
}

/* One cell from t->at up to the delimiter, line break or end that stops it. */
static sqz_status read_cell(table *t, sqz_error *err)
{
    int64_t start = t->cells.text.n, line = t->line;
    int quoted = t->at < t->bytes && t->data[t->at] == '"';
    t->at += quoted;
    for (;;) {
        if (t->at == t->bytes && quoted)
            return err_set(err, ERR_MODEL, "%s:%lld: a quoted cell begins here and never ends",
                           t->path, (long long)line);
        if (t->at == t->bytes) break;
        char c = t->data[t->at];
        if (quoted && c == '"') {
            int twice = t->at + 1 < t->bytes && t->data[t->at + 1] == '"';
            if (twice) text_add(&t->cells.text, "\"", 1);
            quoted = twice;
            t->at += 1 + twice;
            continue;
        }
        if (!quoted && (c == t->delimiter || is_break(c))) break;
        t->line += c == '\n';
        text_add(&t->cells.text, &c, 1);
        t->at++;
    }
    pieces_add_span(&t->cells, start, t->cells.text.n - start);
    text_add(&t->cells.text, "", 1);
    if (!pieces_ok(&t->cells))
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for its cells", t->path);
    return SQZ_OK;
}

static void skip_break(table *t)
{
    if (t->at < t->bytes && t->data[t->at] == '\r') t->at++;
    if (t->at < t->bytes && t->data[t->at] == '\n') t->at++;
    t->line++;
}

/* A line of nothing but spaces is no record. */
static int skip_blank_line(table *t)
{
    int64_t i = t->at;
    while (i < t->bytes && (t->data[i] == ' ' || t->data[i] == '\t') && t->data[i] != t->delimiter)
        i++;
    if (i < t->bytes && !is_break(t->data[i])) return 0;
    t->at = i;
    skip_break(t);
    return 1;
}

static sqz_status read_record(table *t, sqz_error *err)
{
    record r = {t->cells.n, 0, t->line};
    for (;;) {
        sqz_status st = read_cell(t, err);
        if (st != SQZ_OK) return st;
        if (++r.n > MAX_COLUMNS)
            return err_set(err, ERR_MODEL, "%s:%lld: more than %d columns", t->path,
                           (long long)r.line, MAX_COLUMNS);
        if (t->at == t->bytes || t->data[t->at] != t->delimiter) break;
        t->at++;
    }
    if (t->at < t->bytes) skip_break(t);
    if (t->n_records == t->room) {
        t->room = t->room ? 2 * t->room : 256;
        record *more = realloc(t->records, (size_t)t->room * sizeof *more);
        if (!more) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its rows", t->path);
        t->records = more;
    }
    t->records[t->n_records++] = r;
    return SQZ_OK;
}

static const char *cell(const table *t, const record *r, int64_t k, int64_t *n)
{
    if (k >= r->n) return NULL;
    span at = t->cells.spans[r->first + k];
    *n = at.n;
    return t->cells.text.at + at.at;
}

/* ---- types --------------------------------------------------------------------------------------
 */

typedef enum column_type {
    COLUMN_INT,
    COLUMN_FLOAT,
    COLUMN_BOOL,
    COLUMN_TEXT,
    COLUMN_NONE
} column_type;

/* What the reference reader takes for a missing value. */
static int is_missing(const char *p)
{
    static const char *const words[] = {"",         "#N/A", "#N/A N/A", "#NA",    "-1.#IND",
                                        "-1.#QNAN", "-NaN", "-nan",     "1.#IND", "1.#QNAN",
                                        "<NA>",     "N/A",  "NA",       "NULL",   "NaN",
                                        "None",     "n/a",  "nan",      "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(p, words[i])) return 1;
    return 0;
}

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* An integer of 64 bits, signed or not, as it is printed. */
static int parse_int(const char *p, char out[24])
{
    char *end;
    while (is_space(*p)) p++;
    if (!strchr("+-0123456789", *p) || !*p) return 0;
    errno = 0;
    long long whole = strtoll(p, &end, 10);
    int large = errno == ERANGE && *p != '-';
    errno = large ? 0 : errno;
    unsigned long long natural = large ? strtoull(p, &end, 10) : 0;
    if (errno || end == p) return 0;
    if (large)
        snprintf(out, 24, "%llu", natural);
    else
        snprintf(out, 24, "%lld", whole);
    while (is_space(*end)) end++;
    return !*end;
}

/* More digits than an integer of 64 bits has: kept as text, as a float would lose some. */
static int is_long_integer(const char *p)
{
    char *end;
    errno = 0;
    strtoll(p, &end, 10);
    while (is_space(*end)) end++;
    return errno == ERANGE && !*end;
}

static int parse_float(const char *p, double *value)
{
    char *end;
    while (is_space(*p)) p++;
    const char *digits = p + (*p == '+' || *p == '-');
    if (!*digits || (!strchr(".0123456789", *digits) && strcasecmp(digits, "inf") != 0 &&
                     strcasecmp(digits, "infinity") != 0))
        return 0;
    if (strpbrk(p, "xXpP") || is_long_integer(p)) return 0; /* strtod also reads hexadecimal */
    *value = strtod(p, &end);
    if (end == p) return 0;
    while (is_space(*end)) end++;
    return !*end;
}

static int parse_bool(const char *p, int *value)
{
    *value = !strcmp(p, "True") || !strcmp(p, "TRUE") || !strcmp(p, "true");
    return *value || !strcmp(p, "False") || !strcmp(p, "FALSE") || !strcmp(p, "false");
}

static int all_are(const table *t, const record *rows, int64_t n_rows, int64_t k, column_type type,
                   int *missing)
{
    int64_t seen = 0;
    *missing = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        int64_t n;
        char whole[24];
        double real;
        int flag;
        const char *p = cell(t, &rows[i], k, &n);
        if (!p || is_missing(p)) {
            *missing = 1;
            continue;
        }
        seen++;
        if ((int64_t)strlen(p) != n) return 0;
        if (type == COLUMN_INT && !parse_int(p, whole)) return 0;
        if (type == COLUMN_FLOAT && !parse_float(p, &real)) return 0;
        if (type == COLUMN_BOOL && !parse_bool(p, &flag)) return 0;
    }
    return seen > 0 || type == COLUMN_NONE;
}

/* An integer column with holes is a column of floats: there is no missing integer. */
static column_type infer_type(const table *t, const record *rows, int64_t n_rows, int64_t k)
{
    int missing;
    if (all_are(t, rows, n_rows, k, COLUMN_INT, &missing))
        return missing ? COLUMN_FLOAT : COLUMN_INT;
    if (all_are(t, rows, n_rows, k, COLUMN_FLOAT, &missing)) return COLUMN_FLOAT;
    if (all_are(t, rows, n_rows, k, COLUMN_BOOL, &missing)) return COLUMN_BOOL;
    return COLUMN_TEXT;
}

static sqz_status put_cell(row_store *s, const char *name, column_type type, const char *p,
                           int64_t n, sqz_error *err)
{
    char text[40];
    double real;
    int flag;
    if (type == COLUMN_INT && parse_int(p, text))
        return rows_put(s, name, ROW_NUMBER, text, (int64_t)strlen(text), err);
    if (type == COLUMN_FLOAT && parse_float(p, &real))
        return rows_put(s, name, ROW_NUMBER, text, rows_print_double(real, text), err);
    if (type == COLUMN_BOOL && parse_bool(p, &flag))
        return rows_put(s, name, ROW_WORD, flag ? "true" : "false", flag ? 4 : 5, err);
    return rows_put(s, name, ROW_STRING, p, n, err);
}

/* ---- the table ----------------------------------------------------------------------------------
 */

/* Names as the reference makes them unique: a, a.1, a.2; "Unnamed: 3" for an empty one. */
static char *column_name(const table *t, const delimited_options *o, char *const *before, int64_t k)
{
    char *name = NULL, *made = NULL;
    int64_t n;
    const char *given = o->header ? o->header[k] : cell(t, &t->records[0], k, &n);
    if (!*given && asprintf(&name, "Unnamed: %lld", (long long)k) < 0) return NULL;
    if (*given && !(name = strdup(given))) return NULL;
    for (int64_t i = 0, copy = 0; i < k;) {
        if (strcmp(before[i], made ? made : name) != 0) {
            i++;
            continue;
        }
        free(made);
        if (asprintf(&made, "%s.%lld", name, (long long)++copy) < 0) made = NULL;
        if (!made) break;
        i = 0;
    }
    if (made) free(name);
    return made ? made : name;
}

static sqz_status add_rows(row_store *s, const table *t, const delimited_options *o, char **names,
                           int64_t n_names, int64_t max_rows, sqz_error *err)
{
    const record *rows = t->records + !o->header;
    int64_t n_rows = t->n_records - !o->header;
    column_type types[MAX_COLUMNS];
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < n_names; k++)
        types[k] = o->as_text ? COLUMN_TEXT : infer_type(t, rows, n_rows, k);
    for (int64_t i = 0; i < n_rows && st == SQZ_OK; i++) {
        if (max_rows >= 0 && rows_count(s) >= max_rows) break;
        if (rows[i].n > n_names)
            return err_set(err, ERR_MODEL, "%s:%lld: %lld cells where the header has %lld", t->path,
                           (long long)rows[i].line, (long long)rows[i].n, (long long)n_names);
        st = rows_begin(s, rows[i].line, err);
        for (int64_t k = 0; k < n_names && st == SQZ_OK; k++) {
            int64_t n = 0;
            const char *p = cell(t, &rows[i], k, &n);
            if (p && (o->as_text || !is_missing(p)))
                st = put_cell(s, names[k], types[k], p, n, err);
        }
    }
    return st;
}

static sqz_status add_table(row_store *s, const table *t, const delimited_options *o,
                            int64_t max_rows, sqz_error *err)
{
    if (!t->n_records) return SQZ_OK;
    int64_t n = o->header ? o->n_header : t->records[0].n;
    char **names = calloc((size_t)n + 1, sizeof *names);
    sqz_status st = names ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory", t->path);
    for (int64_t k = 0; k < n && st == SQZ_OK; k++) {
        names[k] = column_name(t, o, names, k);
        if (!names[k]) st = err_set(err, SQZ_E_NOMEM, "%s: no memory for its columns", t->path);
    }
    if (st == SQZ_OK) st = add_rows(s, t, o, names, n, max_rows, err);
    for (int64_t k = 0; k < n && names; k++) free(names[k]);
    free(names);
    return st;
}

sqz_status rows_add_delimited(row_store *s, const char *path, const char *data, int64_t bytes,
                              const delimited_options *o, int64_t max_rows, sqz_error *err)
{
    table t = {.path = path, .delimiter = o->delimiter, .data = data, .bytes = bytes, .line = 1};
    int64_t bad = utf8_check(data, bytes);
    for (int64_t i = 0; i < bad; i++) t.line += data[i] == '\n';
    if (bad >= 0)
        return err_set(err, ERR_MODEL, "%s:%lld: invalid UTF-8; save the file as UTF-8", path,
                       (long long)t.line);
    if (o->header && (o->n_header < 1 || o->n_header > MAX_COLUMNS))
        return err_set(err, ERR_USAGE, "%s: %lld column names; 1 to %d", path,
                       (long long)o->n_header, MAX_COLUMNS);
    if (bytes >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3)) t.at = 3; /* byte order mark */
    sqz_status st = rows_begin_file(s, path, err);
    while (t.at < bytes && st == SQZ_OK)
        if (!skip_blank_line(&t)) st = read_record(&t, err);
    if (st == SQZ_OK) st = add_table(s, &t, o, max_rows, err);
    pieces_free(&t.cells);
    free(t.records);
    return st;
}
