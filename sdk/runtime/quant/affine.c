/* affine.c - int-affine/1 in memory and in the store: see affine.h and sqz/form.h.
 *
 * Left out: fast kernels (hardware backends repack privately) and file layouts of other programs
 * (formats).  A row is one little-endian bit stream, so codes may cross byte and word borders. */
#include "quant/affine.h"
#include "checkpoint/checkpoint.h"
#include "json/json.h"
#include "pool/pool.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DIM = 1 << 28, /* per side; keeps every product of sizes below 2^63 */
    BLOCK = 512        /* codes unpacked at once; begins on a byte at every width */
};

int64_t affine_row_bytes(int bits, int64_t cols)
{
    return 4 * ((cols * bits + 31) / 32);
}

int64_t affine_groups(int64_t cols, int64_t group_size)
{
    return (cols + group_size - 1) / group_size;
}

int64_t affine_bytes(const sqz_affine *a)
{
    return a->rows *
           (affine_row_bytes(a->bits, a->cols) + 3 * affine_groups(a->cols, a->group_size));
}

double affine_bits_per_weight(const sqz_affine *a)
{
    return 8.0 * (double)affine_bytes(a) / ((double)a->rows * (double)a->cols);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static sqz_status check_header(const sqz_affine *a, sqz_error *err)
{
    if (a->bits != 2 && a->bits != 3 && a->bits != 4 && a->bits != 8)
        return err_set(err, SQZ_E_INVALID, "int-affine/1: %d bits; use 2, 3, 4 or 8", a->bits);
    if (a->rows < 1 || a->cols < 1 || a->rows > MAX_DIM || a->cols > MAX_DIM)
        return err_set(err, SQZ_E_INVALID, "int-affine/1: shape [%lld, %lld] is out of range",
                       (long long)a->rows, (long long)a->cols);
    if (a->group_size < 1 || a->group_size > a->cols)
        return err_set(err, SQZ_E_INVALID,
                       "int-affine/1: group size %lld is not in 1..%lld (the columns)",
                       (long long)a->group_size, (long long)a->cols);
    return SQZ_OK;
}

static sqz_status name_bad_group(const sqz_affine *a, int64_t i, int64_t groups, sqz_error *err)
{
    int top = (1 << a->bits) - 1;
    long long row = i / groups, group = i % groups;
    if ((a->scales[i] & 0x7C00) == 0x7C00)
        return err_set(err, SQZ_E_INVALID,
                       "int-affine/1: the scale of row %lld, group %lld is not finite", row, group);
    if (a->zeros[i] < 1 || a->zeros[i] > top)
        return err_set(err, SQZ_E_INVALID,
                       "int-affine/1: the zero of row %lld, group %lld is %d; allowed are "
                       "1..%d",
                       row, group, a->zeros[i], top);
    return err_set(err, SQZ_E_INVALID,
                   "int-affine/1: the zero of row %lld, group %lld is %d; a symmetric "
                   "grid has %d",
                   row, group, a->zeros[i], 1 << (a->bits - 1));
}

/* Finite scales, zeros in reach: stretches are looked at whole, a bad one entry by entry. */
static sqz_status check_groups(const sqz_affine *a, sqz_error *err)
{
    int64_t groups = affine_groups(a->cols, a->group_size), n = a->rows * groups;
    const int middle = 1 << (a->bits - 1);
    const uint8_t least = (uint8_t)(a->symmetric ? middle : 1);
    const uint8_t span = (uint8_t)(a->symmetric ? 0 : (1 << a->bits) - 2);
    for (int64_t from = 0; from < n; from += BLOCK) {
        int64_t count = n - from < BLOCK ? n - from : BLOCK;
        const uint16_t *s = a->scales + from;
        const uint8_t *z = a->zeros + from;
        uint16_t wild = 0;
        uint8_t out = 0;
        for (int64_t i = 0; i < count; i++) wild |= (uint16_t)((s[i] & 0x7C00) == 0x7C00);
        for (int64_t i = 0; i < count; i++) out |= (uint8_t)((uint8_t)(z[i] - least) > span);
        for (int64_t i = 0; (wild || out) && i < count; i++)
            if ((s[i] & 0x7C00) == 0x7C00 || (uint8_t)(z[i] - least) > span)
                return name_bad_group(a, from + i, groups, err);
    }
    return SQZ_OK;
}

/* Equal matrices must have equal bytes, because their hash names them. */
static sqz_status check_padding(const sqz_affine *a, sqz_error *err)
{
    int64_t row_bytes = affine_row_bytes(a->bits, a->cols), used = a->cols * a->bits;
    for (int64_t row = 0; row < a->rows; row++) {
        const uint8_t *p = a->codes + row * row_bytes;
        int bad = used % 8 ? p[used / 8] >> used % 8 : 0;
        for (int64_t i = (used + 7) / 8; i < row_bytes; i++) bad |= p[i];
        if (bad)
            return err_set(err, SQZ_E_INVALID, "int-affine/1: padding bits of row %lld are not 0",
                           (long long)row);
    }
    return SQZ_OK;
}

sqz_status affine_check(const sqz_affine *a, sqz_error *err)
{
    sqz_status st = check_header(a, err);
    if (st == SQZ_OK) st = check_groups(a, err);
    return st == SQZ_OK ? check_padding(a, err) : st;
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Eight codes, a byte each, to 8 * bits bits: neighbours move together, in pairs, fours, eights. */
static uint64_t squeeze(int bits, uint64_t x)
{
    const int gap = 8 - bits;
    const uint64_t two = ((uint64_t)1 << 2 * bits) - 1, four = ((uint64_t)1 << 4 * bits) - 1;
    x = (x | x >> gap) & (two | two << 16 | two << 32 | two << 48);
    x = (x | x >> 2 * gap) & (four | four << 32);
    return x | x >> 4 * gap;
}

/* bits: 2, 3, 4 or 8 */
static void pack_row(int bits, int64_t cols, const uint8_t *codes, uint8_t *row)
{
    if (bits == 8) {
        memcpy(row, codes, (size_t)cols);
        return;
    }
    int64_t c = 0;
    for (; c + 8 <= cols; c += 8, row += bits) {
        uint64_t x = 0;
        for (int i = 7; i >= 0; i--) x = x << 8 | codes[c + i];
        x = squeeze(bits, x);
        for (int i = 0; i < bits; i++) row[i] = (uint8_t)(x >> 8 * i);
    }
    uint32_t rest = 0;
    for (int64_t i = c; i < cols; i++) rest |= (uint32_t)codes[i] << (i - c) * bits;
    for (int64_t used = 0; used < (cols - c) * bits; used += 8) *row++ = (uint8_t)(rest >> used);
}

typedef struct pack_job {
    const uint8_t *codes;
    const sqz_affine *a;
    uint8_t *packed;
    _Atomic int64_t bad_row; /* some row with a code that is too large, or -1 */
} pack_job;

static void pack_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    pack_job *j = arg;
    const sqz_affine *a = j->a;
    int64_t row_bytes = affine_row_bytes(a->bits, a->cols);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *from = j->codes + r * a->cols;
        uint8_t all = 0;
        for (int64_t c = 0; c < a->cols; c++) all |= from[c];
        if (all >> a->bits) j->bad_row = r;
        pack_row(a->bits, a->cols, from, j->packed + r * row_bytes);
    }
}

static sqz_status pack_rows(const uint8_t *codes, sqz_affine *a, uint8_t *packed, sqz_error *err)
{
    pack_job j = {codes, a, packed, -1};
    pool_for(a->rows, 32, pack_range, &j);
    if (j.bad_row < 0) return SQZ_OK;
    return err_set(err, SQZ_E_INVALID,
                   "int-affine/1: row %lld has a code above %d, the largest of %d bits",
                   (long long)j.bad_row, (1 << a->bits) - 1, a->bits);
}

static sqz_status round_scales(const float *scales, int64_t n, int64_t groups, uint16_t *half,
                               sqz_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        half[i] = f32_to_f16(scales[i]);
        if (!isfinite(scales[i]) || f16_to_f32(half[i]) != scales[i])
            return err_set(err, SQZ_E_INVALID,
                           "int-affine/1: scale %.9g of row %lld, group %lld is not an IEEE half; "
                           "round scales to half before quantizing",
                           (double)scales[i], (long long)(i / groups), (long long)(i % groups));
    }
    return SQZ_OK;
}

sqz_status affine_pack(int bits, int64_t rows, int64_t cols, int64_t group_size, int symmetric,
                       const uint8_t *codes, const float *scales, const uint8_t *zeros,
                       sqz_affine *out, sqz_error *err)
{
    sqz_affine a = {.struct_size = sizeof a,
                    .bits = bits,
                    .rows = rows,
                    .cols = cols,
                    .group_size = group_size,
                    .symmetric = symmetric != 0};
    sqz_status st = check_header(&a, err);
    if (st != SQZ_OK) return st;
    int64_t groups = affine_groups(cols, group_size), n = rows * groups;
    uint8_t *packed = calloc((size_t)rows, (size_t)affine_row_bytes(bits, cols));
    uint16_t *half = malloc((size_t)n * sizeof *half);
    uint8_t *copy = malloc((size_t)n);
    a.codes = packed;
    a.scales = half;
    a.zeros = copy;
    if (!packed || !half || !copy) {
        affine_free(&a);
        return err_set(err, SQZ_E_NOMEM, "int-affine/1: no memory to pack [%lld, %lld]",
                       (long long)rows, (long long)cols);
    }
    memcpy(copy, zeros, (size_t)n);
    st = round_scales(scales, n, groups, half, err);
    if (st == SQZ_OK) st = check_groups(&a, err);
    if (st == SQZ_OK) st = pack_rows(codes, &a, packed, err);
    if (st != SQZ_OK)
        affine_free(&a);
    else
        *out = a;
    return st;
}

void affine_free(sqz_affine *a)
{
    free((void *)(uintptr_t)a->codes);
    free((void *)(uintptr_t)a->scales);
    free((void *)(uintptr_t)a->zeros);
    memset(a, 0, sizeof *a);
}

/* ---- unpacking ------------------------------------------------------------------------------- */

/* n codes from the stream at p. */
static void unpack(int bits, const uint8_t *p, int64_t n, uint8_t *codes)
{
    if (bits == 8) {
        memcpy(codes, p, (size_t)n);
        return;
    }
    unsigned mask = (1u << bits) - 1;
    uint32_t hold = 0;
    int held = 0;
    for (int64_t c = 0; c < n; c++) {
        if (held < bits) {
            hold |= (uint32_t)*p++ << held;
            held += 8;
        }
        codes[c] = (uint8_t)(hold & mask);
        hold >>= bits;
        held -= bits;
    }
}

void affine_unpack_row(const sqz_affine *a, int64_t row, uint8_t *codes)
{
    unpack(a->bits, a->codes + row * affine_row_bytes(a->bits, a->cols), a->cols, codes);
}

static void dequantize_row(const sqz_affine *a, int64_t row, float *w /* [cols] */)
{
    uint8_t codes[BLOCK];
    const uint8_t *stream = a->codes + row * affine_row_bytes(a->bits, a->cols);
    int64_t groups = affine_groups(a->cols, a->group_size);
    for (int64_t begin = 0; begin < a->cols; begin += BLOCK) {
        int64_t n = a->cols - begin < BLOCK ? a->cols - begin : BLOCK;
        unpack(a->bits, stream + begin * a->bits / 8, n, codes);
        for (int64_t c = 0; c < n;) {
            int64_t group = (begin + c) / a->group_size, end = (group + 1) * a->group_size - begin;
            float scale = f16_to_f32(a->scales[row * groups + group]);
            int zero = a->zeros[row * groups + group];
            for (end = end < n ? end : n; c < end; c++)
                w[begin + c] = scale * (float)((int)codes[c] - zero);
        }
    }
}

void affine_dequantize(const sqz_affine *a, int64_t first_row, int64_t rows, float *w)
{
    for (int64_t r = 0; r < rows; r++) dequantize_row(a, first_row + r, w + r * a->cols);
}

/* ---- the object file ------------------------------------------------------------------------- */

/* "<key>.<part>", malloc'd. */
static char *part(const char *key, const char *name)
{
    return path_format("%s.%s", key, name);
}

enum { PARTS = 4 };
static const char *const part_names[PARTS] = {"header", "codes", "scales", "zeros"};
static const int32_t part_dtypes[PARTS] = {SQZ_I64, SQZ_U8, SQZ_F16, SQZ_U8};

/* Shape of one part; returns its rank. */
static int part_shape(const sqz_affine *a, int k, int64_t shape[2])
{
    shape[0] = k ? a->rows : PARTS;
    shape[1] = k == 1 ? affine_row_bytes(a->bits, a->cols) : affine_groups(a->cols, a->group_size);
    return k ? 2 : 1;
}

static sqz_status save_item(st_writer *w, const affine_item *item, int declare, sqz_error *err)
{
    const sqz_affine *a = item->affine;
    int64_t header[PARTS] = {a->bits, a->cols, a->group_size, a->symmetric != 0};
    const void *data[PARTS] = {header, a->codes, a->scales, a->zeros};
    sqz_status st = SQZ_OK;
    for (int k = 0; k < PARTS && st == SQZ_OK; k++) {
        int64_t shape[2];
        int rank = part_shape(a, k, shape);
        int64_t bytes = shape[0] * (rank == 2 ? shape[1] : 1) * st_dtype_bits(part_dtypes[k]) / 8;
        char *name = part(item->key, part_names[k]);
        st = declare ? st_writer_declare(w, name, part_dtypes[k], rank, shape, err)
                     : st_writer_write(w, name, data[k], bytes, err);
        free(name);
    }
    return st;
}

sqz_status affine_save(const affine_item *items, int n, const char *path, sqz_error *err)
{
    st_writer *w;
    sqz_status st = st_writer_new(path, &w, err);
    if (st != SQZ_OK) return st;
    st = st_writer_metadata(w, "form", SQZ_FORM_INT_AFFINE, err);
    for (int i = 0; i < n && st == SQZ_OK; i++) st = save_item(w, &items[i], 1, err);
    for (int i = 0; i < n && st == SQZ_OK; i++) st = save_item(w, &items[i], 0, err);
    if (st == SQZ_OK) return st_writer_finish(w, err);
    st_writer_abort(w);
    return st;
}

static const st_tensor *find_part(const st_file *f, const char *key, int k)
{
    char *name = part(key, part_names[k]);
    const st_tensor *t = st_find(f, name);
    free(name);
    return t && t->dtype == part_dtypes[k] && t->rank == (k ? 2 : 1) ? t : NULL;
}

static sqz_status bad_object(const st_file *f, const char *key, const char *what, sqz_error *err)
{
    return err_set(err, ERR_STORAGE, "%s: %s: %s", f->path, key, what);
}

sqz_status affine_load(const st_file *f, const char *key, sqz_affine *out, sqz_error *err)
{
    const st_tensor *parts[PARTS];
    for (int k = 0; k < PARTS; k++)
        if (!(parts[k] = find_part(f, key, k)))
            return bad_object(f, key, "header, codes, scales or zeros are missing or misshapen",
                              err);
    int64_t header[PARTS];
    if (parts[0]->shape[0] != PARTS) return bad_object(f, key, "the header is misshapen", err);
    memcpy(header, parts[0]->data, sizeof header);
    if (header[0] < 0 || header[0] > 8 || (header[3] != 0 && header[3] != 1))
        return bad_object(f, key, "the header holds impossible values", err);
    sqz_affine a = {.struct_size = sizeof a,
                    .bits = (int32_t)header[0],
                    .rows = parts[1]->shape[0],
                    .cols = header[1],
                    .group_size = header[2],
                    .symmetric = (int32_t)header[3],
                    .codes = parts[1]->data,
                    .scales = (const uint16_t *)(const void *)parts[2]->data,
                    .zeros = parts[3]->data};
    sqz_status st = check_header(&a, err);
    for (int k = 1; k < PARTS && st == SQZ_OK; k++) {
        int64_t shape[2];
        part_shape(&a, k, shape);
        if (parts[k]->shape[0] != shape[0] || parts[k]->shape[1] != shape[1])
            return bad_object(f, key, "codes, scales or zeros are misshapen", err);
    }
    if (st == SQZ_OK && (uintptr_t)a.scales % 2)
        return bad_object(f, key, "scales are not aligned", err);
    if (st == SQZ_OK) st = affine_check(&a, err);
    if (st != SQZ_OK) return bad_object(f, key, err ? err->text : "is damaged", err);
    *out = a;
    return SQZ_OK;
}
