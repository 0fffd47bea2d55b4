/* parquet_page.c - one column of one row group: its pages unpacked, their levels and values
 * decoded.
 *
 * Everything a page claims is held against the bytes that are there, and what decoding allocates
 * against the budget of the row group, so that a small file cannot ask for much memory. */
#include "data/parquet_parts.h"
#include "data/thrift.h"
#include "data/unpack.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PAGE_DATA = 0, PAGE_INDEX = 1, PAGE_DICTIONARY = 2, PAGE_DATA_V2 = 3 };

enum {
    ENCODING_PLAIN = 0,
    ENCODING_PLAIN_DICTIONARY = 2,
    ENCODING_RLE = 3,
    ENCODING_DELTA = 5,
    ENCODING_DELTA_LENGTH = 6,
    ENCODING_DELTA_BYTES = 7,
    ENCODING_DICTIONARY = 8,
    ENCODING_SPLIT = 9
};

typedef struct page {
    int64_t kind, unpacked, packed, crc, n_values, n_nulls, encoding, def_encoding, rep_encoding;
    int64_t def_bytes, rep_bytes; /* v2 */
    int has_crc, plain_bytes;     /* plain_bytes: v2, the values are not compressed */
    const uint8_t *at;            /* the body */
} page;

typedef struct reader {
    pq_file *file;
    const pq_chunk *chunk;
    pq_column *column;
    pq_value *dictionary;
    int64_t n_dictionary;
    sqz_error *err;
} reader;

int pq_spend(pq_file *f, int64_t n)
{
    if (n < 0 || n > f->budget) return 0;
    f->budget -= n;
    return 1;
}

static sqz_status corrupt(const reader *r, const char *what)
{
    return pq_corrupt(r->file, r->err, "column %s: %s", r->column->node->name, what);
}

static sqz_status too_large(const reader *r)
{
    return err_set(r->err, ERR_MODEL,
                   "%s: column %s of a row group unpacks to far more than the file holds; it is "
                   "damaged, or write it with smaller row groups",
                   r->file->path, r->column->node->name);
}

static sqz_status no_memory(const reader *r)
{
    return err_set(r->err, SQZ_E_NOMEM, "%s: no memory for column %s", r->file->path,
                   r->column->node->name);
}

void pq_column_free(pq_column *c)
{
    for (int64_t i = 0; i < c->n_buffers; i++) free(c->buffers[i]);
    free(c->buffers);
    free(c->def);
    free(c->rep);
    free(c->values);
    *c = (pq_column){0};
}

/* A buffer that lives as long as the column; NULL with the status in *st. */
static uint8_t *new_buffer(reader *r, int64_t bytes, sqz_status *st)
{
    pq_column *c = r->column;
    *st = SQZ_OK;
    if (!pq_spend(r->file, bytes)) {
        *st = too_large(r);
        return NULL;
    }
    if (c->n_buffers == c->buffer_room) {
        int64_t room = c->buffer_room ? 2 * c->buffer_room : 16;
        uint8_t **more = realloc(c->buffers, (size_t)room * sizeof *more);
        if (!more) {
            *st = no_memory(r);
            return NULL;
        }
        c->buffers = more;
        c->buffer_room = room;
    }
    uint8_t *b = malloc((size_t)bytes + 1);
    if (!b)
        *st = no_memory(r);
    else
        c->buffers[c->n_buffers++] = b;
    return b;
}

/* ---- page headers -------------------------------------------------------------------------------
 */

/* The sub-header of a data page v1 (kind 0), a dictionary page (2) or a data page v2 (3). */
static void read_sub_header(thrift *t, int32_t type, int kind, page *p)
{
    if (type != THRIFT_STRUCT) t->failed = 1;
    for (thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id == 1)
            p->n_values = thrift_int(t, f.type);
        else if (f.id == 2 && kind == PAGE_DATA_V2)
            p->n_nulls = thrift_int(t, f.type);
        else if (f.id == (kind == PAGE_DATA_V2 ? 4 : 2))
            p->encoding = thrift_int(t, f.type);
        else if (f.id == 3 && kind == PAGE_DATA)
            p->def_encoding = thrift_int(t, f.type);
        else if (f.id == 4 && kind == PAGE_DATA)
            p->rep_encoding = thrift_int(t, f.type);
        else if (f.id == 5 && kind == PAGE_DATA_V2)
            p->def_bytes = thrift_int(t, f.type);
        else if (f.id == 6 && kind == PAGE_DATA_V2)
            p->rep_bytes = thrift_int(t, f.type);
        else if (f.id == 7 && kind == PAGE_DATA_V2)
            p->plain_bytes = !thrift_bool(t, f.type);
        else
            thrift_skip(t, f.type);
    }
}

/* at: where the header begins; afterwards p->at + p->packed is the end of the page. */
static sqz_status read_header(reader *r, const uint8_t *at, const uint8_t *end, page *p)
{
    thrift t = {at, end, 0};
    *p = (page){.kind = -1,
                .unpacked = -1,
                .packed = -1,
                .n_values = -1,
                .encoding = -1,
                .def_encoding = ENCODING_RLE,
                .rep_encoding = ENCODING_RLE};
    for (thrift_field f = {0}; thrift_next(&t, &f);) {
        switch (f.id) {
        case 1: p->kind = thrift_int(&t, f.type); break;
        case 2: p->unpacked = thrift_int(&t, f.type); break;
        case 3: p->packed = thrift_int(&t, f.type); break;
        case 4:
            p->crc = thrift_int(&t, f.type);
            p->has_crc = 1;
            break;
        case 5: read_sub_header(&t, f.type, PAGE_DATA, p); break;
        case 7: read_sub_header(&t, f.type, PAGE_DICTIONARY, p); break;
        case 8: read_sub_header(&t, f.type, PAGE_DATA_V2, p); break;
        default: thrift_skip(&t, f.type);
        }
    }
    if (t.failed || p->unpacked < 0 || p->packed < 0 || p->packed > end - t.at)
        return corrupt(r, "a page header cannot be read or claims more bytes than there are");
    if (p->unpacked > PQ_MAX_PAGE || p->n_values > INT32_MAX) return too_large(r);
    if (p->kind != PAGE_INDEX && p->n_values < 0)
        return corrupt(r, "a page without a number of values");
    p->at = t.at;
    if (p->has_crc && (uint32_t)crc32(0, p->at, (uInt)p->packed) != (uint32_t)p->crc)
        return corrupt(r, "the checksum of a page is wrong");
    return SQZ_OK;
}

/* ---- values -------------------------------------------------------------------------------------
 */

static int64_t width_of(const pq_node *n)
{
    switch (n->type) {
    case PQ_INT32:
    case PQ_FLOAT: return 4;
    case PQ_INT64:
    case PQ_DOUBLE: return 8;
    case PQ_INT96: return 12;
    case PQ_FIXED: return n->length;
    default: return 0;
    }
}

/* Nanoseconds of the day and a Julian day, as nanoseconds since 1970. */
static int64_t from_int96(const uint8_t *p)
{
    uint64_t nanos;
    int32_t day;
    memcpy(&nanos, p, 8);
    memcpy(&day, p + 8, 4);
    return (int64_t)((uint64_t)((int64_t)day - 2440588) * UINT64_C(86400000000000) + nanos);
}

static pq_value fixed_value(const pq_node *n, const uint8_t *p)
{
    pq_value v = {0};
    int32_t whole;
    float real;
    switch (n->type) {
    case PQ_INT32:
        memcpy(&whole, p, 4);
        v.whole = whole;
        break;
    case PQ_INT64: memcpy(&v.whole, p, 8); break;
    case PQ_INT96: v.whole = from_int96(p); break;
    case PQ_FLOAT:
        memcpy(&real, p, 4);
        v.real = real;
        break;
    case PQ_DOUBLE: memcpy(&v.real, p, 8); break;
    default: v.bytes.at = p; v.bytes.n = n->length;
    }
    return v;
}

static int plain_values(const pq_node *n, const uint8_t *src, int64_t n_src, int64_t count,
                        pq_value *out)
{
    int64_t width = width_of(n), i = 0;
    if (n->type == PQ_BOOLEAN) {
        if (count > n_src * 8) return 0;
        for (int64_t k = 0; k < count; k++) out[k].whole = src[k >> 3] >> (k & 7) & 1;
        return 1;
    }
    if (width) {
        if (count > n_src / width) return 0;
        for (int64_t k = 0; k < count; k++) out[k] = fixed_value(n, src + k * width);
        return 1;
    }
    for (int64_t k = 0; k < count; k++) {
        uint32_t length;
        if (n_src - i < 4) return 0;
        memcpy(&length, src + i, 4);
        i += 4;
        if (length > n_src - i) return 0;
        out[k].bytes.at = src + i;
        out[k].bytes.n = length;
        i += length;
    }
    return 1;
}

static sqz_status dictionary_values(reader *r, const uint8_t *src, int64_t n, int64_t count,
                                    pq_value *out)
{
    if (!count) return SQZ_OK;
    if (n < 1 || src[0] > 32) return corrupt(r, "dictionary indices of more than 32 bits");
    if (!pq_spend(r->file, 4 * count)) return too_large(r);
    uint32_t *index = malloc((size_t)count * sizeof *index);
    if (!index) return no_memory(r);
    int ok = pq_hybrid(src + 1, n - 1, src[0], count, index);
    for (int64_t k = 0; k < count && ok; k++) {
        ok = index[k] < r->n_dictionary;
        if (ok) out[k] = r->dictionary[index[k]];
    }
    free(index);
    r->file->budget += 4 * count;
    return ok ? SQZ_OK : corrupt(r, "dictionary indices outside the dictionary");
}

static sqz_status rle_values(reader *r, const uint8_t *src, int64_t n, int64_t count, pq_value *out)
{
    uint32_t length;
    if (r->column->node->type != PQ_BOOLEAN || n < 4)
        return corrupt(r, "run-length values that are not true or false");
    memcpy(&length, src, 4);
    uint32_t *bit = malloc((size_t)count * sizeof *bit + 1);
    if (!bit) return no_memory(r);
    int ok = length <= n - 4 && pq_hybrid(src + 4, length, 1, count, bit);
    for (int64_t k = 0; k < count && ok; k++) out[k].whole = bit[k];
    free(bit);
    return ok ? SQZ_OK : corrupt(r, "run-length values end too early");
}

/* `count` delta-packed numbers, malloc'd; NULL with the status in *st. */
static int64_t *delta_numbers(reader *r, const uint8_t *src, int64_t n, int64_t count,
                              int64_t *used, sqz_status *st)
{
    int64_t *out = malloc((size_t)count * sizeof *out + 1);
    *st = out ? SQZ_OK : no_memory(r);
    if (out && !pq_delta(src, n, count, out, used)) {
        *st = corrupt(r, "delta-packed numbers cannot be read");
        free(out);
        out = NULL;
    }
    return out;
}

static sqz_status delta_values(reader *r, const uint8_t *src, int64_t n, int64_t count,
                               pq_value *out)
{
    sqz_status st;
    int64_t used;
    pq_physical type = r->column->node->type;
    if (type != PQ_INT32 && type != PQ_INT64)
        return corrupt(r, "delta-packed values of no integer type");
    int64_t *numbers = delta_numbers(r, src, n, count, &used, &st);
    for (int64_t k = 0; k < count && numbers; k++)
        out[k].whole = type == PQ_INT32 ? (int32_t)numbers[k] : numbers[k];
    free(numbers);
    return st;
}

/* Lengths, then all bytes behind each other. */
static sqz_status delta_length_values(reader *r, const uint8_t *src, int64_t n, int64_t count,
                                      pq_value *out)
{
    sqz_status st;
    int64_t at;
    if (r->column->node->type != PQ_BYTE_ARRAY && r->column->node->type != PQ_FIXED)
        return corrupt(r, "delta lengths of values that are no bytes");
    int64_t *lengths = delta_numbers(r, src, n, count, &at, &st);
    for (int64_t k = 0; k < count && lengths && st == SQZ_OK; k++) {
        if (lengths[k] < 0 || lengths[k] > n - at) {
            st = corrupt(r, "delta lengths beyond the page");
            break;
        }
        out[k].bytes.at = src + at;
        out[k].bytes.n = lengths[k];
        at += lengths[k];
    }
    free(lengths);
    return st;
}

/* Each value is a prefix of the one before it and a suffix of its own. */
static sqz_status delta_bytes_values(reader *r, const uint8_t *src, int64_t n, int64_t count,
                                     pq_value *out)
{
    sqz_status st;
    int64_t used = 0, total = 0, before = 0;
    int64_t *prefix = delta_numbers(r, src, n, count, &used, &st);
    if (st == SQZ_OK) st = delta_length_values(r, src + used, n - used, count, out);
    for (int64_t k = 0; k < count && st == SQZ_OK; k++) {
        int64_t length;
        if (prefix[k] < 0 || prefix[k] > before ||
            __builtin_add_overflow(prefix[k], out[k].bytes.n, &length) ||
            __builtin_add_overflow(total, length, &total))
            st = corrupt(r, "a prefix longer than the value before it");
        else
            before = length;
    }
    uint8_t *to = st == SQZ_OK ? new_buffer(r, total, &st) : NULL;
    for (int64_t k = 0; k < count && st == SQZ_OK; k++) {
        if (prefix[k]) memcpy(to, out[k - 1].bytes.at, (size_t)prefix[k]);
        if (out[k].bytes.n) memcpy(to + prefix[k], out[k].bytes.at, (size_t)out[k].bytes.n);
        out[k].bytes.at = to;
        out[k].bytes.n += prefix[k];
        to += out[k].bytes.n;
    }
    free(prefix);
    return st;
}

/* Byte j of every value stands in stream j. */
static sqz_status split_values(reader *r, const uint8_t *src, int64_t n, int64_t count,
                               pq_value *out)
{
    const pq_node *node = r->column->node;
    int64_t width = width_of(node);
    sqz_status st = SQZ_OK;
    if (!width || count > n / width) return corrupt(r, "byte streams end too early");
    uint8_t *whole = new_buffer(r, count * width, &st);
    if (!whole) return st;
    for (int64_t k = 0; k < count; k++)
        for (int64_t j = 0; j < width; j++) whole[k * width + j] = src[j * count + k];
    return plain_values(node, whole, count * width, count, out) ? SQZ_OK
                                                                : corrupt(r, "byte streams");
}

/* count values that are not null, at the end of the column's. */
static sqz_status add_values(reader *r, int64_t encoding, const uint8_t *src, int64_t n,
                             int64_t count)
{
    pq_column *c = r->column;
    if (count && c->n_values + count > c->value_room) {
        int64_t room =
            c->n_values + count > 2 * c->value_room ? c->n_values + count : 2 * c->value_room;
        if (!pq_spend(r->file, (room - c->value_room) * (int64_t)sizeof *c->values))
            return too_large(r);
        pq_value *more = realloc(c->values, (size_t)room * sizeof *more);
        if (!more) return no_memory(r);
        c->values = more;
        c->value_room = room;
    }
    if (!count) return SQZ_OK;
    sqz_status st;
    pq_value *out = c->values + c->n_values;
    switch (encoding) {
    case ENCODING_PLAIN:
        st = plain_values(c->node, src, n, count, out) ? SQZ_OK
                                                       : corrupt(r, "plain values end too early");
        break;
    case ENCODING_PLAIN_DICTIONARY:
    case ENCODING_DICTIONARY: st = dictionary_values(r, src, n, count, out); break;
    case ENCODING_RLE: st = rle_values(r, src, n, count, out); break;
    case ENCODING_DELTA: st = delta_values(r, src, n, count, out); break;
    case ENCODING_DELTA_LENGTH: st = delta_length_values(r, src, n, count, out); break;
    case ENCODING_DELTA_BYTES: st = delta_bytes_values(r, src, n, count, out); break;
    case ENCODING_SPLIT: st = split_values(r, src, n, count, out); break;
    default:
        return err_set(r->err, SQZ_E_UNSUPPORTED,
                       "%s: column %s is in encoding %lld, which is not read", r->file->path,
                       c->node->name, (long long)encoding);
    }
    if (st == SQZ_OK) c->n_values += count;
    return st;
}

/* ---- pages --------------------------------------------------------------------------------------
 */

static int bits_for(int32_t max)
{
    return max ? 32 - __builtin_clz((unsigned)max) : 0;
}

/* n levels of at most `max` at the end of a column's; counts those that equal max. */
static int add_levels(const uint8_t *src, int64_t n_src, int32_t max, int64_t n, uint32_t *scratch,
                      uint8_t *out, int64_t *at_max)
{
    if (!pq_hybrid(src, n_src, bits_for(max), n, scratch)) return 0;
    *at_max = 0;
    for (int64_t i = 0; i < n; i++) {
        if (scratch[i] > (uint32_t)max) return 0;
        out[i] = (uint8_t)scratch[i];
        *at_max += scratch[i] == (uint32_t)max;
    }
    return 1;
}

static sqz_status level_room(reader *r, int64_t n)
{
    pq_column *c = r->column;
    int64_t room = 2 * c->room > c->n + n ? 2 * c->room : c->n + n;
    if (c->n + n <= c->room) return SQZ_OK;
    if (room > r->chunk->n_values) room = r->chunk->n_values;
    if (!pq_spend(r->file, 2 * (room - c->room))) return too_large(r);
    uint8_t *def = c->node->max_def ? realloc(c->def, (size_t)room) : NULL;
    if (def) c->def = def;
    uint8_t *rep = c->node->max_rep ? realloc(c->rep, (size_t)room) : NULL;
    if (rep) c->rep = rep;
    if ((c->node->max_def && !def) || (c->node->max_rep && !rep)) return no_memory(r);
    c->room = room;
    return SQZ_OK;
}

/* The levels of a page; *n_present = values that are not null.  rep, def: the encoded bytes. */
static sqz_status read_levels(reader *r, const page *p, const uint8_t *rep, int64_t rep_bytes,
                              const uint8_t *def, int64_t def_bytes, int64_t *n_present)
{
    pq_column *c = r->column;
    int64_t n = p->n_values, ignored;
    if (n > r->chunk->n_values - c->n) return corrupt(r, "more values than the column claims");
    *n_present = n;
    if (!n) return SQZ_OK;
    sqz_status st = level_room(r, n);
    if (st != SQZ_OK) return st;
    if (!pq_spend(r->file, 4 * n)) return too_large(r);
    uint32_t *scratch = malloc((size_t)n * sizeof *scratch + 1);
    if (!scratch) return no_memory(r);
    int ok = 1;
    if (c->node->max_rep)
        ok = add_levels(rep, rep_bytes, c->node->max_rep, n, scratch, c->rep + c->n, &ignored);
    if (ok && c->node->max_def)
        ok = add_levels(def, def_bytes, c->node->max_def, n, scratch, c->def + c->n, n_present);
    free(scratch);
    r->file->budget += 4 * n;
    if (!ok) return corrupt(r, "the levels of a page cannot be read");
    c->n += n;
    return SQZ_OK;
}

/* The unpacked bytes: the file's own where nothing is packed. */
static const uint8_t *unpacked(reader *r, const uint8_t *src, int64_t n_src, int64_t n_dst,
                               int plain, sqz_status *st)
{
    int32_t codec = plain ? CODEC_NONE : r->chunk->codec;
    *st = SQZ_OK;
    if (codec == CODEC_NONE && n_src == n_dst) return src;
    uint8_t *to = new_buffer(r, n_dst, st);
    if (!to) return NULL;
    if (unpack_block(codec, src, n_src, to, n_dst)) return to;
    *st = corrupt(r, "a page cannot be unpacked to the size it claims");
    return NULL;
}

/* One level stream of a v1 page: u32 length and as many bytes. */
static int take_stream(const uint8_t **at, int64_t *left, const uint8_t **stream, int64_t *n)
{
    uint32_t length;
    if (*left < 4) return 0;
    memcpy(&length, *at, 4);
    if (length > *left - 4) return 0;
    *stream = *at + 4;
    *n = length;
    *at += 4 + (int64_t)length;
    *left -= 4 + (int64_t)length;
    return 1;
}

static sqz_status read_page_v1(reader *r, const page *p)
{
    sqz_status st;
    const pq_node *node = r->column->node;
    const uint8_t *at = unpacked(r, p->at, p->packed, p->unpacked, 0, &st), *rep = NULL,
                  *def = NULL;
    int64_t left = p->unpacked, n_rep = 0, n_def = 0, present;
    if (st != SQZ_OK) return st;
    if ((node->max_rep && p->rep_encoding != ENCODING_RLE) ||
        (node->max_def && p->def_encoding != ENCODING_RLE))
        return err_set(r->err, SQZ_E_UNSUPPORTED,
                       "%s: column %s has bit-packed levels, which no writer has made for years",
                       r->file->path, node->name);
    if ((node->max_rep && !take_stream(&at, &left, &rep, &n_rep)) ||
        (node->max_def && !take_stream(&at, &left, &def, &n_def)))
        return corrupt(r, "the levels reach beyond their page");
    st = read_levels(r, p, rep, n_rep, def, n_def, &present);
    return st == SQZ_OK ? add_values(r, p->encoding, at, left, present) : st;
}

static sqz_status read_page_v2(reader *r, const page *p)
{
    sqz_status st;
    int64_t levels, present;
    if (p->rep_bytes < 0 || p->def_bytes < 0 ||
        __builtin_add_overflow(p->rep_bytes, p->def_bytes, &levels) || levels > p->packed ||
        levels > p->unpacked)
        return corrupt(r, "the levels reach beyond their page");
    st = read_levels(r, p, p->at, p->rep_bytes, p->at + p->rep_bytes, p->def_bytes, &present);
    if (st != SQZ_OK) return st;
    const uint8_t *at = unpacked(r, p->at + levels, p->packed - levels, p->unpacked - levels,
                                 p->plain_bytes || p->packed == levels, &st);
    return st == SQZ_OK ? add_values(r, p->encoding, at, p->unpacked - levels, present) : st;
}

static sqz_status read_dictionary(reader *r, const page *p)
{
    sqz_status st;
    if (r->dictionary) return corrupt(r, "two dictionaries");
    if (p->encoding != ENCODING_PLAIN && p->encoding != ENCODING_PLAIN_DICTIONARY)
        return corrupt(r, "a dictionary that is not plain");
    const uint8_t *at = unpacked(r, p->at, p->packed, p->unpacked, 0, &st);
    if (st != SQZ_OK) return st;
    if (!pq_spend(r->file, p->n_values * (int64_t)sizeof *r->dictionary)) return too_large(r);
    r->dictionary = malloc((size_t)p->n_values * sizeof *r->dictionary + 1);
    if (!r->dictionary) return no_memory(r);
    if (!plain_values(r->column->node, at, p->unpacked, p->n_values, r->dictionary))
        return corrupt(r, "the dictionary ends too early");
    r->n_dictionary = p->n_values;
    return SQZ_OK;
}

static sqz_status read_pages(reader *r)
{
    const uint8_t *at = r->file->data + r->chunk->start, *end = at + r->chunk->bytes;
    sqz_status st = SQZ_OK;
    while (r->column->n < r->chunk->n_values && st == SQZ_OK) {
        page p;
        if (at >= end) return corrupt(r, "it ends before its last value");
        st = read_header(r, at, end, &p);
        if (st != SQZ_OK) return st;
        if (p.kind == PAGE_DATA)
            st = read_page_v1(r, &p);
        else if (p.kind == PAGE_DATA_V2)
            st = read_page_v2(r, &p);
        else if (p.kind == PAGE_DICTIONARY)
            st = read_dictionary(r, &p);
        else if (p.kind != PAGE_INDEX)
            return corrupt(r, "a page of an unknown kind");
        at = p.at + p.packed;
    }
    return st;
}

sqz_status pq_read_column(pq_file *f, const pq_chunk *chunk, pq_column *c, sqz_error *err)
{
    reader r = {f, chunk, c, NULL, 0, err};
    if (!codec_known(chunk->codec))
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: column %s is packed with %s, which is not read; write it with snappy, "
                       "gzip or zstd",
                       f->path, c->node->name, codec_name(chunk->codec));
    sqz_status st = read_pages(&r);
    free(r.dictionary);
    return st;
}
