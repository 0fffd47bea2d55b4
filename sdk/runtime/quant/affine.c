/* affine.c - int-affine/1 in memory and in the store: see affine.h and sqz/form.h.
 *
 * Left out: fast kernels (hardware backends repack privately) and file layouts of other programs
 * (formats).  A row is one little-endian bit stream, so codes may cross byte and word borders. */
#include "quant/affine.h"
#include "checkpoint/checkpoint.h"
#include "json/json.h"
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

/* ---- checks -------------------------------------------------------------------------------------
 */

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

static sqz_status check_groups(const sqz_affine *a, sqz_error *err)
{
    int64_t groups = affine_groups(a->cols, a->group_size);
    int top = (1 << a->bits) - 1, middle = 1 << (a->bits - 1);
    for (int64_t i = 0; i < a->rows * groups; i++) {
        long long row = i / groups, group = i % groups;
        if ((a->scales[i] & 0x7C00) == 0x7C00)
            return err_set(err, SQZ_E_INVALID,
                           "int-affine/1: the scale of row %lld, group %lld is not finite", row,
                           group);
        if (a->zeros[i] < 1 || a->zeros[i] > top)
            return err_set(err, SQZ_E_INVALID,
                           "int-affine/1: the zero of row %lld, group %lld is %d; allowed are "
                           "1..%d",
                           row, group, a->zeros[i], top);
        if (a->symmetric && a->zeros[i] != middle)
            return err_set(err, SQZ_E_INVALID,
                           "int-affine/1: the zero of row %lld, group %lld is %d; a symmetric "
                           "grid has %d",
                           row, group, a->zeros[i], middle);
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

/* ---- packing ------------------------------------------------------------------------------------
 */

static void pack_row(int bits, int64_t cols, const uint8_t *codes, uint8_t *row)
{
    uint64_t hold = 0;
    int held = 0;
    for (int64_t c = 0; c < cols; c++) {
        hold |= (uint64_t)codes[c] << held;
        held += bits;
        while (held >= 8) {
            *row++ = (uint8_t)hold;
            hold >>= 8;
            held -= 8;
        }
    }
    if (held) *row = (uint8_t)hold;
}

static sqz_status pack_rows(const uint8_t *codes, sqz_affine *a, uint8_t *packed, sqz_error *err)
{
    int64_t row_bytes = affine_row_bytes(a->bits, a->cols);
    for (int64_t r = 0; r < a->rows; r++) {
        const uint8_t *from = codes + r * a->cols;
        uint8_t all = 0;
        for (int64_t c = 0; c < a->cols; c++) all |= from[c];
        if (all >> a->bits)
            return err_set(err, SQZ_E_INVALID,
                           "int-affine/1: row %lld has a code above %d, the largest of %d bits",
                           (long long)r, (1 << a->bits) - 1, a->bits);
        pack_row(a->bits, a->cols, from, packed + r * row_bytes);
    }
    return SQZ_OK;
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

/* ---- unpacking ----------------------------------------------------------------------------------
 */

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

/* ---- the object file ----------------------------------------------------------------------------
 */

sqz_status affine_save(const sqz_affine *a, const char *path, sqz_error *err)
{
    int64_t groups = affine_groups(a->cols, a->group_size);
    int64_t row_bytes = affine_row_bytes(a->bits, a->cols);
    int64_t code_shape[2] = {a->rows, row_bytes}, group_shape[2] = {a->rows, groups};
    char text[4][24];
    snprintf(text[0], sizeof text[0], "%d", a->bits);
    snprintf(text[1], sizeof text[1], "%lld", (long long)a->cols);
    snprintf(text[2], sizeof text[2], "%lld", (long long)a->group_size);
    snprintf(text[3], sizeof text[3], "%d", a->symmetric != 0);
    st_writer *w;
    sqz_status st = st_writer_new(path, &w, err);
    if (st != SQZ_OK) return st;
    st = st_writer_metadata(w, "form", SQZ_FORM_INT_AFFINE, err);
    if (st == SQZ_OK) st = st_writer_metadata(w, "bits", text[0], err);
    if (st == SQZ_OK) st = st_writer_metadata(w, "cols", text[1], err);
    if (st == SQZ_OK) st = st_writer_metadata(w, "group_size", text[2], err);
    if (st == SQZ_OK) st = st_writer_metadata(w, "symmetric", text[3], err);
    if (st == SQZ_OK) st = st_writer_declare(w, "codes", SQZ_U8, 2, code_shape, err);
    if (st == SQZ_OK) st = st_writer_declare(w, "scales", SQZ_F16, 2, group_shape, err);
    if (st == SQZ_OK) st = st_writer_declare(w, "zeros", SQZ_U8, 2, group_shape, err);
    if (st == SQZ_OK) st = st_writer_write(w, "codes", a->codes, a->rows * row_bytes, err);
    if (st == SQZ_OK) st = st_writer_write(w, "scales", a->scales, a->rows * groups * 2, err);
    if (st == SQZ_OK) st = st_writer_write(w, "zeros", a->zeros, a->rows * groups, err);
    if (st == SQZ_OK) return st_writer_finish(w, err);
    st_writer_abort(w);
    return st;
}

/* A decimal number of the metadata, or -1. */
static int64_t metadata_number(const cJSON *metadata, const char *key)
{
    const char *text = json_str(metadata, key, "");
    size_t digits = strspn(text, "0123456789");
    return digits && digits < 12 && !text[digits] ? strtoll(text, NULL, 10) : -1;
}

static const void *array(const st_file *f, const char *name, int32_t dtype, int64_t rows,
                         int64_t cols)
{
    const st_tensor *t = st_find(f, name);
    if (!t || t->dtype != dtype || t->rank != 2 || t->shape[0] != rows || t->shape[1] != cols)
        return NULL;
    return t->data;
}

sqz_status affine_load(const st_file *f, sqz_affine *out, sqz_error *err)
{
    json_doc *doc;
    const char *text = f->metadata ? f->metadata : "{}";
    sqz_status st = json_parse(text, (int64_t)strlen(text), 0, f->path, &doc, err);
    if (st != SQZ_OK) return st;
    const cJSON *m = json_root(doc);
    int known = !strcmp(json_str(m, "form", ""), SQZ_FORM_INT_AFFINE);
    const st_tensor *codes = st_find(f, "codes");
    int64_t bits = metadata_number(m, "bits"), symmetric = metadata_number(m, "symmetric");
    sqz_affine a = {.struct_size = sizeof a,
                    .bits = bits > 8 ? -1 : (int32_t)bits,
                    .rows = codes && codes->rank == 2 ? codes->shape[0] : -1,
                    .cols = metadata_number(m, "cols"),
                    .group_size = metadata_number(m, "group_size"),
                    .symmetric = symmetric == 1};
    json_free(doc);
    if (!known || symmetric < 0 || symmetric > 1)
        return err_set(err, ERR_STORAGE, "%s: not an %s object", f->path, SQZ_FORM_INT_AFFINE);
    st = check_header(&a, err);
    if (st == SQZ_OK) {
        int64_t groups = affine_groups(a.cols, a.group_size);
        a.codes = array(f, "codes", SQZ_U8, a.rows, affine_row_bytes(a.bits, a.cols));
        a.scales = array(f, "scales", SQZ_F16, a.rows, groups);
        a.zeros = array(f, "zeros", SQZ_U8, a.rows, groups);
        if (!a.codes || !a.scales || !a.zeros)
            return err_set(err, ERR_STORAGE, "%s: codes, scales or zeros are missing or misshapen",
                           f->path);
        if ((uintptr_t)a.scales % 2)
            return err_set(err, ERR_STORAGE, "%s: scales are not aligned", f->path);
        st = affine_check(&a, err);
    }
    if (st != SQZ_OK) {
        err_prefix(err, "%s", f->path);
        return st == SQZ_E_INVALID ? err_set(err, ERR_STORAGE, "%s", err ? err->text : "") : st;
    }
    *out = a;
    return SQZ_OK;
}
