/* parquet_footer.c - what a Parquet file says of itself: its schema as a tree, its row groups, and
 * where the bytes of every column lie.  Everything is checked here, so that the later stages only
 * check values against it. */
#include "data/parquet_parts.h"
#include "data/thrift.h"
#include "data/unpack.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sqz_status pq_corrupt(const pq_file *f, sqz_error *err, const char *fmt, ...)
{
    char what[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return err_set(err, ERR_MODEL, "%s: damaged Parquet: %s", f->path, what);
}

void pq_free(pq_file *f)
{
    for (int32_t i = 0; i < f->n_nodes; i++) free(f->nodes[i].name);
    for (int64_t i = 0; i < f->n_groups; i++) free(f->groups[i].chunks);
    free(f->nodes);
    free(f->leaves);
    free(f->groups);
}

/* ---- schema -------------------------------------------------------------------------------------
 */

/* Units of a second: 1 MILLIS, 2 MICROS, 3 NANOS. */
static int32_t time_unit(thrift *t, int32_t type)
{
    static const int32_t units[] = {0, 1000, 1000000, 1000000000};
    int32_t unit = 0;
    if (type != THRIFT_STRUCT) t->failed = 1;
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id >= 1 && f.id <= 3) unit = units[f.id];
        thrift_skip(t, f.type);
    }
    return unit;
}

/* The struct of one logical type: its scale, sign or unit. */
static void read_logical_facts(thrift *t, int32_t kind, pq_node *n)
{
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        if (kind == 5 && f.id == 1)
            n->scale = (int32_t)thrift_int(t, f.type);
        else if ((kind == 7 || kind == 8) && f.id == 2)
            n->scale = time_unit(t, f.type);
        else if (kind == 10 && f.id == 2)
            n->meaning = thrift_bool(t, f.type) ? PQ_PLAIN : PQ_UNSIGNED;
        else
            thrift_skip(t, f.type);
    }
}

static void read_logical(thrift *t, int32_t type, pq_node *n)
{
    static const pq_meaning meanings[] = {
        PQ_PLAIN,     PQ_TEXT,  PQ_MAP,   PQ_LIST,  PQ_TEXT, PQ_DECIMAL, PQ_DATE, PQ_TIME,
        PQ_TIMESTAMP, PQ_PLAIN, PQ_PLAIN, PQ_PLAIN, PQ_TEXT, PQ_PLAIN,   PQ_UUID, PQ_FLOAT16};
    if (type != THRIFT_STRUCT) t->failed = 1;
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.type != THRIFT_STRUCT) {
            thrift_skip(t, f.type);
            continue;
        }
        n->meaning = f.id < 16 ? meanings[f.id] : PQ_PLAIN;
        read_logical_facts(t, f.id, n);
    }
}

static void use_converted(int64_t converted, pq_node *n)
{
    switch (converted) {
    case 0:
    case 4:
    case 19: n->meaning = PQ_TEXT; break;
    case 1:
    case 2: n->meaning = PQ_MAP; break;
    case 3: n->meaning = PQ_LIST; break;
    case 5: n->meaning = PQ_DECIMAL; break;
    case 6: n->meaning = PQ_DATE; break;
    case 7:
    case 8: n->meaning = PQ_TIME; break;
    case 9:
    case 10: n->meaning = PQ_TIMESTAMP; break;
    case 11:
    case 12:
    case 13:
    case 14: n->meaning = PQ_UNSIGNED; break;
    default: break;
    }
    if (converted == 7 || converted == 9) n->scale = 1000;
    if (converted == 8 || converted == 10) n->scale = 1000000;
}

static void read_element(thrift *t, pq_node *n)
{
    int64_t converted = -1, scale = 0;
    pq_node logical = {0};
    int has_logical = 0, has_type = 0;
    const uint8_t *name = NULL;
    int64_t length = 0;
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        switch (f.id) {
        case 1:
            n->type = (pq_physical)thrift_int(t, f.type);
            has_type = 1;
            break;
        case 2: n->length = (int32_t)thrift_int(t, f.type); break;
        case 3: n->repetition = (pq_repetition)thrift_int(t, f.type); break;
        case 4: name = thrift_binary(t, f.type, &length); break;
        case 5: n->n_children = (int32_t)thrift_int(t, f.type); break;
        case 6: converted = thrift_int(t, f.type); break;
        case 7: scale = thrift_int(t, f.type); break;
        case 10:
            read_logical(t, f.type, &logical);
            has_logical = 1;
            break;
        default: thrift_skip(t, f.type);
        }
    }
    n->scale = (int32_t)scale;
    use_converted(converted, n);
    if (has_logical) {
        n->meaning = logical.meaning;
        if (n->meaning != PQ_DECIMAL || logical.scale) n->scale = logical.scale;
    }
    n->name = strndup(name ? (const char *)name : "", name ? (size_t)length : 0);
    n->leaf = has_type && !n->n_children ? 0 : -1;
    if (!n->name || n->n_children < 0 || (unsigned)n->type > PQ_FIXED ||
        (unsigned)n->repetition > PQ_REPEATED || (has_type && n->n_children) ||
        (n->leaf == 0 && n->type == PQ_FIXED && (n->length < 1 || n->length > PQ_MAX_PAGE)))
        t->failed = 1;
}

/* Parents, levels and columns of the flat list; iterative, as the file decides the depth. */
static sqz_status link_schema(pq_file *f, sqz_error *err)
{
    int32_t open[PQ_MAX_DEPTH], left[PQ_MAX_DEPTH], depth = 0;
    f->leaves = calloc((size_t)f->n_nodes, sizeof *f->leaves);
    if (!f->leaves) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its schema", f->path);
    if (f->nodes[0].leaf >= 0) return pq_corrupt(f, err, "the schema has no root");
    for (int32_t i = 0; i < f->n_nodes; i++) {
        pq_node *n = &f->nodes[i];
        if (i > 0) {
            while (depth > 0 && !left[depth - 1]) f->nodes[open[--depth]].next = i;
            if (!depth) return pq_corrupt(f, err, "the schema has nodes outside its root");
            const pq_node *up = &f->nodes[n->parent = open[depth - 1]];
            left[depth - 1]--;
            n->max_def = up->max_def + (n->repetition != PQ_REQUIRED);
            n->max_rep = up->max_rep + (n->repetition == PQ_REPEATED);
            if (n->leaf < 0 && !n->n_children)
                return pq_corrupt(f, err, "the group %s is empty", n->name);
        }
        n->next = i + 1;
        if (n->leaf >= 0) {
            n->leaf = f->n_leaves;
            f->leaves[f->n_leaves++] = i;
            continue;
        }
        if (depth == PQ_MAX_DEPTH)
            return err_set(err, ERR_MODEL, "%s: columns nested deeper than %d", f->path,
                           PQ_MAX_DEPTH);
        open[depth] = i;
        left[depth++] = n->n_children;
    }
    while (depth > 0) {
        if (left[depth - 1]) return pq_corrupt(f, err, "the schema ends too early");
        f->nodes[open[--depth]].next = f->n_nodes;
    }
    return f->n_leaves ? SQZ_OK : pq_corrupt(f, err, "the schema has no columns");
}

static sqz_status read_schema(pq_file *f, thrift *t, int32_t type, sqz_error *err)
{
    int32_t element;
    int64_t n = thrift_list(t, type, &element);
    if (t->failed || element != THRIFT_STRUCT || n < 1 || f->nodes)
        return pq_corrupt(f, err, "the schema cannot be read");
    if (n > PQ_MAX_NODES)
        return err_set(err, ERR_MODEL, "%s: a schema of %lld nodes; at most %d", f->path,
                       (long long)n, PQ_MAX_NODES);
    f->nodes = calloc((size_t)n, sizeof *f->nodes);
    if (!f->nodes) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its schema", f->path);
    for (int64_t i = 0; i < n && !t->failed; i++) {
        f->n_nodes++;
        read_element(t, &f->nodes[i]);
    }
    return t->failed ? pq_corrupt(f, err, "the schema cannot be read") : link_schema(f, err);
}

/* ---- row groups ---------------------------------------------------------------------------------
 */

typedef struct chunk_facts {
    int64_t codec, n_values, bytes, data, dictionary, type;
    int elsewhere, encrypted;
} chunk_facts;

static void read_column_meta(thrift *t, int32_t type, chunk_facts *c)
{
    if (type != THRIFT_STRUCT) t->failed = 1;
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        switch (f.id) {
        case 1: c->type = thrift_int(t, f.type); break;
        case 4: c->codec = thrift_int(t, f.type); break;
        case 5: c->n_values = thrift_int(t, f.type); break;
        case 7: c->bytes = thrift_int(t, f.type); break;
        case 9: c->data = thrift_int(t, f.type); break;
        case 11: c->dictionary = thrift_int(t, f.type); break;
        default: thrift_skip(t, f.type);
        }
    }
}

static sqz_status read_chunk(pq_file *f, thrift *t, const pq_node *n, pq_chunk *out, sqz_error *err)
{
    chunk_facts c = {.codec = -1, .type = -1, .data = -1, .dictionary = -1};
    for (thrift_field at = {0}; thrift_next(t, &at);) {
        if (at.id == 3) {
            read_column_meta(t, at.type, &c);
            continue;
        }
        c.elsewhere |= at.id == 1;
        c.encrypted |= at.id == 8 || at.id == 9;
        thrift_skip(t, at.type);
    }
    int64_t start = c.dictionary > 0 && c.dictionary < c.data ? c.dictionary : c.data, end;
    if (t->failed)
        return pq_corrupt(f, err, "the column %s of a row group cannot be read", n->name);
    if (c.encrypted || c.elsewhere)
        return err_set(err, SQZ_E_UNSUPPORTED, "%s: the column %s is %s; write it anew without",
                       f->path, n->name, c.encrypted ? "encrypted" : "kept in another file");
    if (c.n_values == 0) start = 4; /* writers leave the places of pages that are not there at 0 */
    if (c.type != n->type || c.n_values < 0 || start < 4 || c.bytes < 0 ||
        __builtin_add_overflow(start, c.bytes, &end) || end > f->bytes)
        return pq_corrupt(f, err, "the column %s lies outside the file or is of another type",
                          n->name);
    *out = (pq_chunk){n->type, (int32_t)c.codec, c.n_values, start, c.bytes};
    return SQZ_OK;
}

static sqz_status read_group(pq_file *f, thrift *t, pq_group *g, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    g->n_rows = -1;
    for (thrift_field at = {0}; thrift_next(t, &at);) {
        if (at.id == 3) {
            g->n_rows = thrift_int(t, at.type);
        } else if (at.id == 1 && !g->chunks) {
            int32_t element;
            if (thrift_list(t, at.type, &element) != f->n_leaves || element != THRIFT_STRUCT)
                return pq_corrupt(f, err, "a row group has not the columns of the schema");
            g->chunks = calloc((size_t)f->n_leaves, sizeof *g->chunks);
            if (!g->chunks) return err_set(err, SQZ_E_NOMEM, "%s: no memory", f->path);
            for (int32_t k = 0; k < f->n_leaves; k++) {
                st = read_chunk(f, t, &f->nodes[f->leaves[k]], &g->chunks[k], err);
                if (st != SQZ_OK) return st;
            }
        } else {
            thrift_skip(t, at.type);
        }
    }
    if (t->failed || g->n_rows < 0 || !g->chunks)
        return pq_corrupt(f, err, "a row group cannot be read");
    return SQZ_OK;
}

static sqz_status read_groups(pq_file *f, thrift *t, int32_t type, sqz_error *err)
{
    int32_t element;
    int64_t n = thrift_list(t, type, &element);
    if (!f->nodes || f->groups) return pq_corrupt(f, err, "row groups stand before the schema");
    if (t->failed || (n && element != THRIFT_STRUCT) || n > PQ_MAX_GROUPS)
        return pq_corrupt(f, err, "the row groups cannot be read");
    f->groups = calloc((size_t)n + 1, sizeof *f->groups);
    if (!f->groups) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its row groups", f->path);
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && st == SQZ_OK; i++) {
        f->n_groups++;
        st = read_group(f, t, &f->groups[i], err);
    }
    return st;
}

sqz_status pq_footer(pq_file *f, sqz_error *err)
{
    uint32_t length;
    if (f->bytes >= 4 && !memcmp(f->data + f->bytes - 4, "PARE", 4))
        return err_set(err, SQZ_E_UNSUPPORTED, "%s: an encrypted Parquet file", f->path);
    if (f->bytes < 12 || memcmp(f->data, "PAR1", 4) != 0 ||
        memcmp(f->data + f->bytes - 4, "PAR1", 4) != 0)
        return pq_corrupt(f, err, "it does not begin and end with PAR1; is it complete?");
    memcpy(&length, f->data + f->bytes - 8, 4);
    if (length > f->bytes - 12) return pq_corrupt(f, err, "a footer longer than the file");
    const uint8_t *end = f->data + f->bytes - 8;
    thrift t = {end - length, end, 0};
    sqz_status st = SQZ_OK;
    for (thrift_field at = {0}; st == SQZ_OK && thrift_next(&t, &at);) {
        if (at.id == 2)
            st = read_schema(f, &t, at.type, err);
        else if (at.id == 4)
            st = read_groups(f, &t, at.type, err);
        else
            thrift_skip(&t, at.type);
    }
    if (st == SQZ_OK && (t.failed || !f->nodes || !f->groups))
        st = pq_corrupt(f, err, "the footer cannot be read");
    return st;
}
