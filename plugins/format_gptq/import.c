/* import.c - one linear out of a GPTQ checkpoint, as untrusted input.
 *
 * Shapes, types and sizes must agree with each other and with quantization_config before anything
 * is read.  The result is exact: codes, scales and zero points are copied, never recomputed.
 * Left out: permuted groups (desc_act with a g_idx that is not monotone), refused by name, because
 * int-affine/1 has contiguous groups; bit-plane layouts. */
#include "gptq_file.h"
#include <sqz/help.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct parts {
    sqz_tensor_view qweight, qzeros, scales, g_idx;
    int has_g_idx;
    gptq_config config;
    int64_t rows, cols, group, groups;
} parts;

static sqz_status find(const sqz_host *host, const sqz_import *im, const char *module,
                       const char *part, sqz_tensor_view *out)
{
    char name[1024];
    if (snprintf(name, sizeof name, "%s.%s", module, part) >= (int)sizeof name)
        return host->fail(host, SQZ_E_INVALID, "gptq: a module name is longer than 1000 bytes");
    *out = (sqz_tensor_view){.struct_size = sizeof *out};
    return im->tensor(im, name, out);
}

static sqz_status find_needed(const sqz_host *host, const sqz_import *im, const char *module,
                              const char *part, sqz_tensor_view *out)
{
    sqz_status st = find(host, im, module, part, out);
    if (st != SQZ_E_UNSUPPORTED) return st;
    return sqz_failf(host, SQZ_E_INVALID, "gptq: %.200s has qweight but no %s", module, part);
}

static sqz_status expect(const sqz_host *host, const char *module, const char *part,
                         const sqz_tensor_view *v, int32_t dtype, int32_t rank, int64_t d0,
                         int64_t d1)
{
    int64_t n = rank == 2 ? d0 * d1 : d0, bytes = n * (dtype == SQZ_F16 ? 2 : 4);
    if (v->dtype != dtype)
        return sqz_failf(host, SQZ_E_INVALID, "gptq: %.200s.%s must be %s", module, part,
                         dtype == SQZ_F16 ? "F16" : "I32");
    if (v->rank != rank || v->shape[0] != d0 || (rank == 2 && v->shape[1] != d1)) {
        char shape[64];
        snprintf(shape, sizeof shape, rank == 2 ? "[%lld, %lld]" : "[%lld]", (long long)d0,
                 (long long)d1);
        return sqz_failf(host, SQZ_E_INVALID,
                         "gptq: %.200s.%s must have shape %s for this bit width and group size",
                         module, part, shape);
    }
    if (v->bytes != bytes || !v->data)
        return sqz_failf(host, SQZ_E_INVALID, "gptq: %.200s.%s holds %lld bytes instead of %lld",
                         module, part, (long long)v->bytes, (long long)bytes);
    return SQZ_OK;
}

/* rows and cols follow from qweight; everything else has to agree. */
static sqz_status read_shapes(const sqz_host *host, const char *module, parts *p)
{
    const sqz_tensor_view *q = &p->qweight;
    int bits = p->config.bits;
    if (q->rank != 2 || q->shape[0] < 1 || q->shape[1] < 1 || q->shape[0] > GPTQ_LIMIT / 32 * 8 ||
        q->shape[1] > GPTQ_LIMIT || q->shape[0] * 32 % bits != 0)
        return sqz_failf(host, SQZ_E_INVALID,
                         "gptq: %.200s.qweight must have shape [in * %d / 32, out]", module, bits);
    p->rows = q->shape[1];
    p->cols = q->shape[0] * 32 / bits;
    if (p->rows % 32 != 0 || p->cols % 32 != 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "gptq: %.200s is %lld x %lld; features must be multiples of 32", module,
                         (long long)p->rows, (long long)p->cols);
    int64_t g = p->config.group_size;
    p->group = g < 0 || g > p->cols ? p->cols : g;
    p->groups = (p->cols + p->group - 1) / p->group;
    sqz_status st = expect(host, module, "qweight", q, SQZ_I32, 2, q->shape[0], p->rows);
    if (st == SQZ_OK)
        st = expect(host, module, "scales", &p->scales, SQZ_F16, 2, p->groups, p->rows);
    if (st == SQZ_OK)
        st = expect(host, module, "qzeros", &p->qzeros, SQZ_I32, 2, p->groups, p->rows * bits / 32);
    if (st == SQZ_OK && p->has_g_idx)
        st = expect(host, module, "g_idx", &p->g_idx, SQZ_I32, 1, p->cols, 0);
    return st;
}

static sqz_status check_groups(const sqz_host *host, const char *module, const parts *p)
{
    if (!p->has_g_idx) {
        if (!p->config.desc_act || p->groups == 1) return SQZ_OK;
        return sqz_failf(host, SQZ_E_INVALID, "gptq: desc_act is set, but %.200s has no g_idx",
                         module);
    }
    const uint8_t *g_idx = p->g_idx.data;
    for (int64_t c = 0; c < p->cols; c++) {
        int32_t k;
        memcpy(&k, g_idx + 4 * c, sizeof k);
        if (k != c / p->group)
            return sqz_failf(host, SQZ_E_UNSUPPORTED,
                             "gptq: %.200s.g_idx assigns input %lld to group %ld instead of %lld: "
                             "permuted groups (desc_act) are not read; re-quantize with desc_act "
                             "false",
                             module, (long long)c, (long)k, (long long)(c / p->group));
    }
    return SQZ_OK;
}

static sqz_status open_parts(const sqz_host *host, const sqz_import *im, const char *module,
                             parts *p)
{
    *p = (parts){0};
    sqz_status st = find(host, im, module, "qweight", &p->qweight);
    if (st != SQZ_OK) return st; /* absent: dense in this checkpoint */
    st = config_read(host, im->config_json, &p->config);
    if (st == SQZ_OK) st = find_needed(host, im, module, "qzeros", &p->qzeros);
    if (st == SQZ_OK) st = find_needed(host, im, module, "scales", &p->scales);
    if (st != SQZ_OK) return st;
    st = find(host, im, module, "g_idx", &p->g_idx);
    if (st != SQZ_OK && st != SQZ_E_UNSUPPORTED) return st;
    p->has_g_idx = st == SQZ_OK;
    st = read_shapes(host, module, p);
    return st == SQZ_OK ? check_groups(host, module, p) : st;
}

/* Zero points of group k, [rows] */
static void read_zeros(const parts *p, int64_t k, uint16_t *zeros)
{
    const uint8_t *words = (const uint8_t *)p->qzeros.data + k * (p->rows * p->config.bits / 8);
    layout_get_zeros(words, p->rows, p->config.bits, p->config.zero_offset, zeros);
}

/* The grid is symmetric when every zero point is the middle, whatever the config says. */
static int all_middle(const parts *p, uint16_t *zeros /* [rows] scratch */)
{
    const uint16_t middle = (uint16_t)(1u << (p->config.bits - 1));
    for (int64_t k = 0; k < p->groups; k++) {
        int other = 0;
        read_zeros(p, k, zeros);
        for (int64_t r = 0; r < p->rows; r++) other |= zeros[r] != middle;
        if (other) return 0;
    }
    return 1;
}

/* Group k of scales and zeros. */
static sqz_status fill_group(const sqz_host *host, const char *module, const parts *p, int64_t k,
                             const uint16_t *group_zeros, uint16_t *scales, uint8_t *zeros)
{
    uint32_t top = (1u << p->config.bits) - 1;
    for (int64_t r = 0; r < p->rows; r++) {
        uint32_t z = group_zeros[r];
        uint16_t s;
        memcpy(&s, (const uint8_t *)p->scales.data + 2 * (k * p->rows + r), sizeof s);
        if (z < 1 || z > top)
            return sqz_failf(host, SQZ_E_UNSUPPORTED,
                             "gptq: %.200s has zero point %s at output %lld, group %lld; only 1 "
                             "to %u can be held",
                             module, z == 0 ? "0" : "0 wrapped around (v1 stores z - 1)",
                             (long long)r, (long long)k, top);
        if ((s & 0x7c00) == 0x7c00)
            return sqz_failf(host, SQZ_E_INVALID,
                             "gptq: %.200s.scales holds NaN or infinity at group %lld, output "
                             "%lld",
                             module, (long long)k, (long long)r);
        scales[r * p->groups + k] = s;
        zeros[r * p->groups + k] = (uint8_t)z;
    }
    return SQZ_OK;
}

sqz_status gptq_import_linear(const sqz_host *host, void *self, const sqz_import *im,
                              const char *module, sqz_affine *out)
{
    parts p;
    (void)self;
    sqz_status st = open_parts(host, im, module, &p);
    if (st != SQZ_OK) return st;
    /* the form's arrays are const for its readers; here the caller lends them to be written */
    uint8_t *codes = (uint8_t *)(uintptr_t)out->codes, *zeros = (uint8_t *)(uintptr_t)out->zeros;
    uint16_t *scales = (uint16_t *)(uintptr_t)out->scales;
    out->bits = p.config.bits;
    out->rows = p.rows;
    out->cols = p.cols;
    out->group_size = p.group;
    uint16_t *group_zeros = malloc((size_t)p.rows * sizeof *group_zeros);
    if (!group_zeros) return sqz_failf(host, SQZ_E_NOMEM, "gptq: no memory to read %.200s", module);
    out->symmetric = all_middle(&p, group_zeros);
    int wanted = codes && scales && zeros;
    if (wanted) layout_turn(host, p.qweight.data, p.qweight.shape[0], p.rows, codes);
    for (int64_t k = 0; k < p.groups && wanted && st == SQZ_OK; k++) {
        read_zeros(&p, k, group_zeros);
        st = fill_group(host, module, &p, k, group_zeros, scales, zeros);
    }
    free(group_zeros);
    return st;
}
