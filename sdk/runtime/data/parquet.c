/* parquet.c - rows put together again from the columns of a Parquet file.
 *
 * A column is a list of values with two levels each: the repetition level says which list goes on,
 * the definition level how far down the path something is there.  Rows are read off the schema
 * tree: every node looks at the levels of its first wanted column. */
#include "data/parquet.h"
#include "data/parquet_parts.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct assembly {
    pq_file *file;
    row_store *store;
    pq_column *columns; /* [n_leaves]; those not wanted are empty */
    text_buffer text;   /* of the value at hand */
    int64_t row;        /* in the file, from 1 */
    sqz_error *err;
} assembly;

/* ---- values as text -----------------------------------------------------------------------------
 */

__attribute__((format(printf, 2, 3))) static void print(text_buffer *b, const char *fmt, ...)
{
    char text[80];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    text_add(b, text, n < (int)sizeof text ? n : (int)sizeof text - 1);
}

/* Civil date of a day since 1970 (the usual era arithmetic on years of 400). */
static void print_date(text_buffer *b, int64_t day)
{
    int64_t z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), m = (5 * doy + 2) / 153;
    int64_t d = doy - (153 * m + 2) / 5 + 1, month = m < 10 ? m + 3 : m - 9;
    print(b, "%04lld-%02lld-%02lld", (long long)(yoe + era * 400 + (month <= 2)), (long long)month,
          (long long)d);
}

/* ticks since midnight, `unit` a second. */
static void print_clock(text_buffer *b, int64_t ticks, int32_t unit)
{
    int64_t s = ticks / unit, nanos = ticks % unit * (1000000000 / unit);
    print(b, "%02lld:%02lld:%02lld", (long long)(s / 3600), (long long)(s / 60 % 60),
          (long long)(s % 60));
    if (nanos % 1000)
        print(b, ".%09lld", (long long)nanos);
    else if (nanos)
        print(b, ".%06lld", (long long)(nanos / 1000));
}

static void print_timestamp(text_buffer *b, int64_t ticks, int32_t unit)
{
    int64_t day = (int64_t)86400 * unit, whole = ticks / day, rest = ticks % day;
    if (rest < 0) rest += day, whole--;
    print_date(b, whole);
    text_add(b, " ", 1);
    print_clock(b, rest, unit);
}

/* Digits with the point `scale` places from the right. */
static void print_scaled(text_buffer *b, const char *digits, int negative, int32_t scale)
{
    int n = (int)strlen(digits);
    if (negative) text_add(b, "-", 1);
    if (scale <= 0) {
        text_add(b, digits, n);
        return;
    }
    if (n <= scale) {
        text_add(b, "0.", 2);
        for (int k = n; k < scale; k++) text_add(b, "0", 1);
        text_add(b, digits, n);
        return;
    }
    text_add(b, digits, n - scale);
    text_add(b, ".", 1);
    text_add(b, digits + n - scale, scale);
}

/* A big-endian integer of at most 16 bytes (38 digits); 0: longer. */
static int print_decimal(text_buffer *b, const uint8_t *p, int64_t n, int32_t scale)
{
    char digits[48];
    int at = (int)sizeof digits - 1;
    if (n < 1 || n > 16) return 0;
    int negative = p[0] >> 7;
    unsigned __int128 v = negative ? ~(unsigned __int128)0 : 0;
    for (int64_t i = 0; i < n; i++) v = v << 8 | p[i];
    if (negative) v = -v;
    digits[at] = 0;
    do digits[--at] = (char)('0' + (int)(v % 10)), v /= 10;
    while (v);
    print_scaled(b, digits + at, negative, scale);
    return 1;
}

static double half(const uint8_t *p)
{
    int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return bits >> 15 ? -v : v;
}

static void print_double(text_buffer *b, double v)
{
    char text[40];
    text_add(b, text, rows_print_double(v, text));
}

static void print_whole(text_buffer *b, const pq_node *n, int64_t v)
{
    char digits[24];
    int32_t unit = n->scale > 0 ? n->scale : 1000;
    if (n->type == PQ_INT96) {
        print_timestamp(b, v, 1000000000);
    } else if (n->meaning == PQ_DATE) {
        print_date(b, v);
    } else if (n->meaning == PQ_TIMESTAMP) {
        print_timestamp(b, v, unit);
    } else if (n->meaning == PQ_TIME && v >= 0) {
        print_clock(b, v, unit);
    } else if (n->meaning == PQ_DECIMAL) {
        snprintf(digits, sizeof digits, "%llu",
                 v < 0 ? -(unsigned long long)v : (unsigned long long)v);
        print_scaled(b, digits, v < 0, n->scale < 64 ? n->scale : 0);
    } else if (n->meaning == PQ_UNSIGNED) {
        print(b, "%llu",
              n->type == PQ_INT32 ? (unsigned long long)(uint32_t)v : (unsigned long long)v);
    } else {
        print(b, "%lld", (long long)v);
    }
}

static int is_number(const pq_node *n)
{
    return n->meaning == PQ_DECIMAL || n->meaning == PQ_FLOAT16 ||
           (n->type != PQ_BYTE_ARRAY && n->type != PQ_FIXED && n->type != PQ_INT96 &&
            (n->meaning == PQ_PLAIN || n->meaning == PQ_UNSIGNED));
}

/* The value's text into a->text.  0: bytes that are no text; -1: text that is not UTF-8. */
static int value_text(assembly *a, const pq_node *n, const pq_value *v, row_value *kind)
{
    text_buffer *b = &a->text;
    b->n = 0;
    *kind = n->type == PQ_BOOLEAN ? ROW_WORD : is_number(n) ? ROW_NUMBER : ROW_STRING;
    if (n->type == PQ_BOOLEAN) {
        text_add(b, v->whole ? "true" : "false", v->whole ? 4 : 5);
    } else if (n->type == PQ_FLOAT || n->type == PQ_DOUBLE) {
        print_double(b, v->real);
    } else if (n->type != PQ_BYTE_ARRAY && n->type != PQ_FIXED) {
        print_whole(b, n, v->whole);
    } else if (n->meaning == PQ_DECIMAL) {
        return print_decimal(b, v->bytes.at, v->bytes.n, n->scale < 64 ? n->scale : 0);
    } else if (n->meaning == PQ_FLOAT16 && v->bytes.n == 2) {
        print_double(b, half(v->bytes.at));
    } else {
        const char *bytes = (const char *)v->bytes.at;
        int is_text = utf8_check(bytes, v->bytes.n) < 0;
        if (n->meaning != PQ_TEXT && v->bytes.n > 0 && memchr(bytes, 0, (size_t)v->bytes.n))
            is_text = 0;
        if (!is_text) return n->meaning == PQ_TEXT ? -1 : 0;
        text_add(b, (const char *)v->bytes.at, v->bytes.n);
    }
    return 1;
}

/* ---- levels -------------------------------------------------------------------------------------
 */

static sqz_status corrupt(const assembly *a, const pq_node *n, const char *what)
{
    return pq_corrupt(a->file, a->err, "row %lld, column %s: %s", (long long)a->row, n->name, what);
}

/* The first wanted column at or below a node. */
static pq_column *first_column(const assembly *a, const pq_node *n)
{
    const pq_file *f = a->file;
    for (int32_t i = (int32_t)(n - f->nodes); i < n->next; i++)
        if (f->nodes[i].leaf >= 0) return &a->columns[f->nodes[i].leaf];
    return NULL;
}

static int def_level(const pq_column *c)
{
    return c->def ? c->def[c->level] : 0;
}

/* Does the list at this repetition level go on? */
static int goes_on(const pq_column *c, int32_t max_rep)
{
    return c->level < c->n && c->rep && c->rep[c->level] >= max_rep;
}

/* Steps every column below over one entry that has no value here. */
static sqz_status skip_entry(assembly *a, const pq_node *n)
{
    pq_file *f = a->file;
    for (int32_t i = (int32_t)(n - f->nodes); i < n->next; i++) {
        if (f->nodes[i].leaf < 0) continue;
        pq_column *c = &a->columns[f->nodes[i].leaf];
        if (c->level >= c->n) return corrupt(a, n, "a column ends before the others");
        if (def_level(c) == c->node->max_def)
            return corrupt(a, n, "columns disagree on what is null");
        c->level++;
    }
    return SQZ_OK;
}

static sqz_status take_value(assembly *a, const pq_node *n, const pq_value **v)
{
    pq_column *c = &a->columns[n->leaf];
    if (c->level >= c->n || def_level(c) != n->max_def || c->value >= c->n_values)
        return corrupt(a, n, "columns disagree on what is null");
    *v = &c->values[c->value++];
    c->level++;
    return SQZ_OK;
}

/* The node that a list's elements are: the child of the repeated group, or that group itself in
 * files by old writers (see the format's rules for backward compatibility). */
static const pq_node *element_of(const assembly *a, const pq_node *repeated)
{
    size_t n = strlen(repeated->name);
    if (repeated->leaf >= 0 || repeated->n_children != 1 || !strcmp(repeated->name, "array") ||
        (n > 6 && !strcmp(repeated->name + n - 6, "_tuple")))
        return repeated;
    const pq_node *child = repeated + 1;
    (void)a;
    return child->repetition == PQ_REPEATED ? repeated : child;
}

/* Is the node a list: a repeated one, or a group around one? */
static const pq_node *repeated_of(const pq_node *n)
{
    if (n->repetition == PQ_REPEATED) return n;
    int wraps =
        n->leaf < 0 && (n->meaning == PQ_LIST || n->meaning == PQ_MAP) && n->n_children == 1;
    return wraps && n[1].repetition == PQ_REPEATED ? n + 1 : NULL;
}

/* ---- nested values as JSON ----------------------------------------------------------------------
 */

static void json_string(text_buffer *b, const char *p, int64_t n)
{
    text_add(b, "\"", 1);
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\')
            print(b, "\\%c", c);
        else if (c == '\n')
            text_add(b, "\\n", 2);
        else if (c == '\t')
            text_add(b, "\\t", 2);
        else if (c == '\r')
            text_add(b, "\\r", 2);
        else if (c < 0x20)
            print(b, "\\u%04x", c);
        else
            text_add(b, p + i, 1);
    }
    text_add(b, "\"", 1);
}

static sqz_status json_value(assembly *a, const pq_node *n, text_buffer *out);

/* ignore_repeat: the node is the element of a list that is being read. */
static sqz_status json_node(assembly *a, const pq_node *n, int ignore_repeat, text_buffer *out);

static sqz_status json_list(assembly *a, const pq_node *repeated, text_buffer *out)
{
    const pq_node *element = element_of(a, repeated);
    const pq_column *c = first_column(a, repeated);
    sqz_status st = SQZ_OK;
    text_add(out, "[", 1);
    if (c->level >= c->n) return corrupt(a, repeated, "a column ends before the others");
    if (def_level(c) < repeated->max_def) {
        st = skip_entry(a, repeated);
    } else {
        int64_t k = 0;
        do {
            if (k++) text_add(out, ",", 1);
            st = json_node(a, element, element == repeated, out);
        } while (st == SQZ_OK && goes_on(c, repeated->max_rep));
    }
    text_add(out, "]", 1);
    return st;
}

static sqz_status json_struct(assembly *a, const pq_node *n, text_buffer *out)
{
    pq_file *f = a->file;
    sqz_status st = SQZ_OK;
    text_add(out, "{", 1);
    for (int32_t i = (int32_t)(n - f->nodes) + 1; i < n->next && st == SQZ_OK;
         i = f->nodes[i].next) {
        const pq_node *child = &f->nodes[i];
        if (child != n + 1) text_add(out, ",", 1);
        json_string(out, child->name, (int64_t)strlen(child->name));
        text_add(out, ":", 1);
        st = json_node(a, child, 0, out);
    }
    text_add(out, "}", 1);
    return st;
}

static sqz_status json_value(assembly *a, const pq_node *n, text_buffer *out)
{
    const pq_value *v = NULL;
    row_value kind;
    sqz_status st = take_value(a, n, &v);
    if (st != SQZ_OK) return st;
    int known = value_text(a, n, v, &kind);
    if (known < 0) return corrupt(a, n, "text that is not UTF-8");
    if (!known ||
        (kind == ROW_NUMBER && a->text.n && strchr("in", a->text.at[a->text.at[0] == '-'])))
        text_add(out, "null", 4); /* JSON has no infinity and no bytes */
    else if (kind == ROW_STRING)
        json_string(out, a->text.at, a->text.n);
    else
        text_add(out, a->text.at, a->text.n);
    return SQZ_OK;
}

static sqz_status json_node(assembly *a, const pq_node *n, int ignore_repeat, text_buffer *out)
{
    const pq_column *c = first_column(a, n);
    const pq_node *repeated = ignore_repeat ? NULL : repeated_of(n);
    if (c->level >= c->n) return corrupt(a, n, "a column ends before the others");
    if (n->repetition == PQ_OPTIONAL && def_level(c) < n->max_def) {
        text_add(out, "null", 4);
        return skip_entry(a, n);
    }
    if (repeated) return json_list(a, repeated, out);
    return n->leaf >= 0 ? json_value(a, n, out) : json_struct(a, n, out);
}

/* ---- fields -------------------------------------------------------------------------------------
 */

static sqz_status put_leaf(assembly *a, const pq_node *n, const char *name, int as_element)
{
    const pq_value *v = NULL;
    row_value kind;
    sqz_status st = take_value(a, n, &v);
    if (st != SQZ_OK) return st;
    int known = value_text(a, n, v, &kind);
    if (known < 0) return corrupt(a, n, "text that is not UTF-8");
    if (a->text.failed)
        return err_set(a->err, SQZ_E_NOMEM, "%s: no memory for a value", a->file->path);
    if (!pq_spend(a->file, a->text.n + 64))
        return err_set(a->err, ERR_MODEL, "%s: its rows hold far more text than the file",
                       a->file->path);
    const char *text = a->text.n ? a->text.at : "";
    if (as_element)
        return rows_put_element(a->store, known ? text : "", known ? a->text.n : 0, a->err);
    return known ? rows_put(a->store, name, kind, text, a->text.n, a->err) : SQZ_OK;
}

static sqz_status put_nested_element(assembly *a, const pq_node *element, int is_repeated)
{
    text_buffer json = {0};
    sqz_status st = json_node(a, element, is_repeated, &json);
    if (st == SQZ_OK && !pq_spend(a->file, json.n + 64))
        st = err_set(a->err, ERR_MODEL, "%s: its rows hold far more text than the file",
                     a->file->path);
    if (st == SQZ_OK && (json.failed || a->text.failed))
        st = err_set(a->err, SQZ_E_NOMEM, "%s: no memory for a value", a->file->path);
    if (st == SQZ_OK) st = rows_put_element(a->store, json.at, json.n, a->err);
    text_free(&json);
    return st;
}

static sqz_status put_list(assembly *a, const pq_node *repeated, const char *name)
{
    const pq_node *element = element_of(a, repeated);
    const pq_column *c = first_column(a, repeated);
    sqz_status st = rows_put_list(a->store, name, a->err);
    if (st != SQZ_OK) return st;
    if (def_level(c) < repeated->max_def) return skip_entry(a, repeated);
    do {
        int plain =
            element->leaf >= 0 && (element == repeated || element->repetition != PQ_REPEATED);
        if (c->level >= c->n) return corrupt(a, repeated, "a column ends before the others");
        if (plain && def_level(c) == element->max_def)
            st = put_leaf(a, element, name, 1);
        else
            st = put_nested_element(a, element, element == repeated);
    } while (st == SQZ_OK && goes_on(c, repeated->max_rep));
    return st;
}

static sqz_status put_field(assembly *a, const pq_node *n, const char *name)
{
    pq_file *f = a->file;
    const pq_column *c = first_column(a, n);
    const pq_node *repeated = repeated_of(n);
    sqz_status st = SQZ_OK;
    if (c->level >= c->n) return corrupt(a, n, "a column ends before the others");
    if (n->repetition == PQ_OPTIONAL && def_level(c) < n->max_def) return skip_entry(a, n);
    if (repeated) return put_list(a, repeated, name);
    if (n->leaf >= 0) return put_leaf(a, n, name, 0);
    for (int32_t i = (int32_t)(n - f->nodes) + 1; i < n->next && st == SQZ_OK;
         i = f->nodes[i].next) {
        char *joined;
        if (asprintf(&joined, "%s.%s", name, f->nodes[i].name) < 0)
            return err_set(a->err, SQZ_E_NOMEM, "%s: no memory", f->path);
        st = put_field(a, &f->nodes[i], joined);
        free(joined);
    }
    return st;
}

/* ---- the file -----------------------------------------------------------------------------------
 */

static int is_wanted(const parquet_options *o, const char *name)
{
    for (int64_t i = 0; i < o->n_fields && o->fields; i++)
        if (!strcmp(o->fields[i], name)) return 1;
    return !o->fields;
}

static int choose_columns(pq_file *f, const parquet_options *o)
{
    int any = 0;
    for (int32_t i = 1; i < f->n_nodes; i = f->nodes[i].next) {
        int wanted = is_wanted(o, f->nodes[i].name);
        for (int32_t k = i; k < f->nodes[i].next; k++) f->nodes[k].wanted = wanted;
        any |= wanted;
    }
    return any;
}

/* What one row group may unpack to: no writer reaches a thousandfold over a whole file. */
static int64_t budget_of(const pq_file *f)
{
    int64_t most = (int64_t)16 << 30, least = (int64_t)64 << 20;
    int64_t b = f->bytes > most / 1024 ? most : f->bytes * 1024;
    return b < least ? least : b;
}

static sqz_status put_rows(assembly *a, const pq_group *g, int64_t max_rows)
{
    pq_file *f = a->file;
    sqz_status st = SQZ_OK;
    for (int64_t r = 0; r < g->n_rows && st == SQZ_OK; r++) {
        if (max_rows >= 0 && rows_count(a->store) >= max_rows) return SQZ_OK;
        a->row++;
        if (!pq_spend(f, 64))
            return err_set(a->err, ERR_MODEL, "%s: far more rows than the file can hold", f->path);
        st = rows_begin(a->store, a->row, a->err);
        for (int32_t i = 1; i < f->n_nodes && st == SQZ_OK; i = f->nodes[i].next)
            if (f->nodes[i].wanted) st = put_field(a, &f->nodes[i], f->nodes[i].name);
    }
    for (int32_t k = 0; k < f->n_leaves && st == SQZ_OK; k++)
        if (a->columns[k].level != a->columns[k].n)
            st = corrupt(a, &f->nodes[f->leaves[k]],
                         "it has more values than the row group has rows");
    return st;
}

static sqz_status read_group(assembly *a, const pq_group *g, int64_t max_rows)
{
    pq_file *f = a->file;
    sqz_status st = SQZ_OK;
    f->budget = budget_of(f);
    for (int32_t k = 0; k < f->n_leaves && st == SQZ_OK; k++) {
        pq_column *c = &a->columns[k];
        c->node = &f->nodes[f->leaves[k]];
        if (c->node->wanted) st = pq_read_column(f, &g->chunks[k], c, a->err);
    }
    if (st == SQZ_OK) st = put_rows(a, g, max_rows);
    for (int32_t k = 0; k < f->n_leaves; k++) pq_column_free(&a->columns[k]);
    return st;
}

sqz_status rows_add_parquet(row_store *s, const char *path, const uint8_t *data, int64_t bytes,
                            const parquet_options *o, sqz_error *err)
{
    pq_file f = {.path = path, .data = data, .bytes = bytes};
    assembly a = {.file = &f, .store = s, .err = err};
    sqz_status st = rows_begin_file(s, path, err);
    if (st == SQZ_OK) st = pq_footer(&f, err);
    if (st == SQZ_OK && !choose_columns(&f, o))
        st = err_set(err, ERR_MODEL, "%s: it has none of the columns that are needed", path);
    if (st == SQZ_OK && !(a.columns = calloc((size_t)f.n_leaves, sizeof *a.columns)))
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory for its columns", path);
    for (int64_t i = 0; i < f.n_groups && st == SQZ_OK; i++)
        if (f.groups[i].n_rows && (o->max_rows < 0 || rows_count(s) < o->max_rows))
            st = read_group(&a, &f.groups[i], o->max_rows);
    free(a.columns);
    text_free(&a.text);
    pq_free(&f);
    return st;
}
