/* reference.c - the naive twin of every hardware operation.
 *
 * Plain loops that say what each row of sqz_hardware means: products and sums in float64, results
 * rounded once to float32, one thread.  It is the oracle of the kernel tests and the fallback for
 * rows a backend leaves NULL, so it shares no code with any backend (nor with the quantizer: it
 * unpacks int-affine/1 from the layout in sqz/form.h by itself).
 * Memory is host memory and a handle is the pointer itself.  Left out: speed. */
#include "reference/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- element types ------------------------------------------------------------------------- */

static float f32_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float from_bf16(uint16_t b)
{
    return f32_from_bits((uint32_t)b << 16);
}

static float from_f16(uint16_t h)
{
    int exponent = (h >> 10) & 31, mantissa = h & 1023;
    double magnitude;
    if (exponent == 31)
        magnitude = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(mantissa, -24);
    else
        magnitude = ldexp(1024 + mantissa, exponent - 25);
    return (float)(h & 0x8000 ? -magnitude : magnitude);
}

/* x rounded to bfloat16, ties to even, as a float32. */
static float round_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return f32_from_bits((bits | 0x00400000u) & 0xffff0000u); /* a NaN stays one */
    bits += 0x7fffu + ((bits >> 16) & 1);
    return f32_from_bits(bits & 0xffff0000u);
}

static int element_bytes(int32_t dtype)
{
    return dtype == SQZ_F32 ? 4 : dtype == SQZ_BF16 || dtype == SQZ_F16 ? 2 : 0;
}

static float element(const void *data, int32_t dtype, int64_t i)
{
    if (dtype == SQZ_F32) return ((const float *)data)[i];
    uint16_t half = ((const uint16_t *)data)[i];
    return dtype == SQZ_BF16 ? from_bf16(half) : from_f16(half);
}

/* The int-affine/1 element [row, col], from the layout in sqz/form.h. */
static float affine_element(const sqz_affine *a, int64_t row, int64_t col)
{
    int64_t row_bytes = (a->cols * a->bits + 31) / 32 * 4;
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    const uint8_t *stream = a->codes + row * row_bytes;
    int code = 0;
    for (int b = 0; b < a->bits; b++) {
        int64_t at = col * a->bits + b;
        code |= (stream[at / 8] >> (at % 8) & 1) << b;
    }
    int64_t g = row * groups + col / a->group_size;
    return from_f16(a->scales[g]) * (float)(code - a->zeros[g]);
}

static float *at(const sqz_mem *m)
{
    return m->handle ? (float *)((char *)m->handle + m->offset) : NULL;
}

/* ---- device and memory --------------------------------------------------------------------- */

static sqz_status ref_describe(void *dev, sqz_device_info *out)
{
    (void)dev;
    uint32_t size = out->struct_size;
    if (size < sizeof *out) return SQZ_E_INVALID;
    memset(out, 0, sizeof *out);
    out->struct_size = size;
    out->threads = 1;
    snprintf(out->name, sizeof out->name, "reference");
    snprintf(out->isa, sizeof out->isa, "reference");
    return SQZ_OK;
}

static sqz_status ref_alloc(void *dev, int64_t bytes, void **handle)
{
    (void)dev;
    if (bytes < 0) return SQZ_E_INVALID;
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes ? (size_t)bytes : 1)) return SQZ_E_NOMEM;
    *handle = p;
    return SQZ_OK;
}

static void ref_release(void *dev, void *handle)
{
    (void)dev;
    free(handle);
}

static void *ref_map(void *dev, void *handle)
{
    (void)dev;
    return handle;
}

static sqz_status ref_upload(void *dev, const sqz_mem *dst, const void *src, int64_t bytes)
{
    (void)dev;
    if (bytes > 0) memcpy(at(dst), src, (size_t)bytes);
    return SQZ_OK;
}

static sqz_status ref_download(void *dev, void *dst, const sqz_mem *src, int64_t bytes)
{
    (void)dev;
    if (bytes > 0) memcpy(dst, at(src), (size_t)bytes);
    return SQZ_OK;
}

static sqz_status ref_sync(void *dev)
{
    (void)dev;
    return SQZ_OK;
}

/* ---- linear -------------------------------------------------------------------------------- */

/* A packed weight: the float32 values, with the compute it was packed for. */
typedef struct ref_packed {
    int32_t compute;
    int64_t rows, cols, bytes;
    float *w; /* [rows, cols], rounded to bfloat16 for SQZ_BF16 */
} ref_packed;

static sqz_status weight_check(const sqz_weight *w, int32_t compute)
{
    if (w->rows < 1 || w->cols < 1 || (compute != SQZ_F32 && compute != SQZ_BF16))
        return SQZ_E_INVALID;
    if (strcmp(w->form, SQZ_FORM_DENSE) == 0)
        return element_bytes(w->dtype) ? SQZ_OK : SQZ_E_UNSUPPORTED;
    if (strcmp(w->form, SQZ_FORM_INT_AFFINE) != 0) return SQZ_E_UNSUPPORTED;
    const sqz_affine *a = w->affine;
    if (!a || a->rows != w->rows || a->cols != w->cols || a->group_size < 1) return SQZ_E_INVALID;
    return a->bits == 2 || a->bits == 3 || a->bits == 4 || a->bits == 8 ? SQZ_OK
                                                                        : SQZ_E_UNSUPPORTED;
}

/* What a decode step reads of the weight in its own form. */
static int64_t weight_bytes(const sqz_weight *w)
{
    if (strcmp(w->form, SQZ_FORM_DENSE) == 0) return w->rows * w->cols * element_bytes(w->dtype);
    const sqz_affine *a = w->affine;
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    return w->rows * ((a->cols * a->bits + 31) / 32 * 4 + groups * 3);
}

static sqz_status ref_pack(void *dev, const sqz_weight *w, int32_t compute, void **packed)
{
    (void)dev;
    sqz_status status = weight_check(w, compute);
    if (status != SQZ_OK) return status;
    int64_t n;
    if (__builtin_mul_overflow(w->rows, w->cols, &n) || n > INT64_MAX / 16) return SQZ_E_INVALID;
    ref_packed *p = malloc(sizeof *p);
    float *values = malloc((size_t)n * sizeof *values);
    if (!p || !values) {
        free(p);
        free(values);
        return SQZ_E_NOMEM;
    }
    int dense = strcmp(w->form, SQZ_FORM_DENSE) == 0;
    for (int64_t i = 0; i < n; i++) {
        float v = dense ? element(w->data, w->dtype, i)
                        : affine_element(w->affine, i / w->cols, i % w->cols);
        values[i] = compute == SQZ_BF16 ? round_bf16(v) : v;
    }
    *p = (ref_packed){compute, w->rows, w->cols, weight_bytes(w), values};
    *packed = p;
    return SQZ_OK;
}

static void ref_packed_free(void *dev, void *packed)
{
    (void)dev;
    if (packed) free(((ref_packed *)packed)->w);
    free(packed);
}

static int64_t ref_packed_bytes(void *dev, const void *packed)
{
    (void)dev;
    return ((const ref_packed *)packed)->bytes;
}

static sqz_status ref_linear(void *dev, const sqz_op_linear *op)
{
    (void)dev;
    const ref_packed *p = op->packed;
    if (op->compute != p->compute) return SQZ_E_INVALID;
    const float *x = at(&op->x), *bias = at(&op->bias);
    float *y = at(&op->y);
    for (int64_t t = 0; t < op->tokens; t++)
        for (int64_t r = 0; r < p->rows; r++) {
            double sum = 0;
            for (int64_t c = 0; c < p->cols; c++) {
                float xc = x[t * p->cols + c];
                sum +=
                    (double)(p->compute == SQZ_BF16 ? round_bf16(xc) : xc) * p->w[r * p->cols + c];
            }
            if (bias) sum += bias[r];
            if (op->accumulate) sum += y[t * p->rows + r];
            y[t * p->rows + r] = (float)sum;
        }
    return SQZ_OK;
}

/* ---- embedding, norm, rope, gate, add ------------------------------------------------------ */

static sqz_status ref_embed(void *dev, const void *table, int32_t dtype, int64_t width,
                            const int32_t *ids, int64_t tokens, const sqz_mem *y)
{
    (void)dev;
    if (!element_bytes(dtype)) return SQZ_E_UNSUPPORTED;
    float *out = at(y);
    for (int64_t t = 0; t < tokens; t++) {
        if (ids[t] < 0) return SQZ_E_INVALID;
        for (int64_t i = 0; i < width; i++)
            out[t * width + i] = element(table, dtype, ids[t] * width + i);
    }
    return SQZ_OK;
}

static sqz_status ref_norm(void *dev, const sqz_op_norm *op)
{
    (void)dev;
    const float *weight = at(&op->weight);
    for (int64_t r = 0; r < op->rows; r++) {
        const float *x = at(&op->x) + r * op->n;
        float *y = at(&op->y) + r * op->n;
        double squares = 0;
        for (int64_t i = 0; i < op->n; i++) squares += (double)x[i] * x[i];
        double inverse = 1 / sqrt(squares / (double)op->n + op->eps);
        for (int64_t i = 0; i < op->n; i++) y[i] = (float)(x[i] * inverse * weight[i]);
    }
    return SQZ_OK;
}

static sqz_status ref_layer_norm(void *dev, const sqz_op_layer_norm *op)
{
    (void)dev;
    const float *weight = at(&op->weight), *bias = at(&op->bias);
    for (int64_t r = 0; r < op->rows; r++) {
        const float *x = at(&op->x) + r * op->n;
        float *y = at(&op->y) + r * op->n;
        double mean = 0, squares = 0;
        for (int64_t i = 0; i < op->n; i++) mean += x[i];
        mean /= (double)op->n;
        for (int64_t i = 0; i < op->n; i++) squares += (x[i] - mean) * (x[i] - mean);
        double inverse = 1 / sqrt(squares / (double)op->n + op->eps);
        for (int64_t i = 0; i < op->n; i++)
            y[i] = (float)((x[i] - mean) * inverse * weight[i] + (bias ? bias[i] : 0));
    }
    return SQZ_OK;
}

static sqz_status ref_rope(void *dev, const sqz_op_rope *op)
{
    (void)dev;
    if (op->n % 2 || op->n > op->head_dim) return SQZ_E_INVALID;
    int64_t half = op->n / 2;
    for (int64_t t = 0; t < op->tokens; t++) {
        const float *c = at(&op->cosines) + op->position[t] * half;
        const float *s = at(&op->sines) + op->position[t] * half;
        for (int64_t h = 0; h < op->heads; h++) {
            float *x = at(&op->x) + (t * op->heads + h) * op->head_dim;
            for (int64_t i = 0; i < half; i++) {
                double a = x[i], b = x[i + half];
                x[i] = (float)(a * c[i] - b * s[i]);
                x[i + half] = (float)(b * c[i] + a * s[i]);
            }
        }
    }
    return SQZ_OK;
}

static double activate(int32_t act, double x)
{
    switch (act) {
    case SQZ_ACT_SILU: return x / (1 + exp(-x));
    case SQZ_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case SQZ_ACT_GELU: return 0.5 * x * erfc(-x * M_SQRT1_2);
    default: return x > 0 ? x : 0;
    }
}

static sqz_status ref_gate(void *dev, int32_t act, int64_t n, const sqz_mem *gate,
                           const sqz_mem *up, const sqz_mem *y)
{
    (void)dev;
    if (act < SQZ_ACT_SILU || act > SQZ_ACT_RELU) return SQZ_E_UNSUPPORTED;
    for (int64_t i = 0; i < n; i++) at(y)[i] = (float)(activate(act, at(gate)[i]) * at(up)[i]);
    return SQZ_OK;
}

static sqz_status ref_activate(void *dev, int32_t act, int64_t n, const sqz_mem *x,
                               const sqz_mem *y)
{
    (void)dev;
    if (act < SQZ_ACT_SILU || act > SQZ_ACT_RELU) return SQZ_E_UNSUPPORTED;
    for (int64_t i = 0; i < n; i++) at(y)[i] = (float)activate(act, at(x)[i]);
    return SQZ_OK;
}

static sqz_status ref_scale(void *dev, int64_t n, double by, const sqz_mem *y)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) at(y)[i] = (float)(at(y)[i] * by);
    return SQZ_OK;
}

static sqz_status ref_softcap(void *dev, int64_t n, double cap, const sqz_mem *y)
{
    (void)dev;
    if (!(cap > 0)) return SQZ_E_INVALID;
    for (int64_t i = 0; i < n; i++) at(y)[i] = (float)(cap * tanh(at(y)[i] / cap));
    return SQZ_OK;
}

static sqz_status ref_gather(void *dev, int64_t n, int64_t width, const int64_t *rows,
                             const sqz_mem *x, const sqz_mem *y)
{
    (void)dev;
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < width; i++) at(y)[r * width + i] = at(x)[rows[r] * width + i];
    return SQZ_OK;
}

static sqz_status ref_scatter(void *dev, int64_t n, int64_t width, const int64_t *rows,
                              const float *weight, const sqz_mem *x, const sqz_mem *y)
{
    (void)dev;
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < width; i++) {
            float *to = at(y) + rows[r] * width + i;
            *to = (float)(*to + (double)weight[r] * at(x)[r * width + i]);
        }
    return SQZ_OK;
}

static sqz_status ref_add(void *dev, int64_t n, const sqz_mem *x, const sqz_mem *y)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) at(y)[i] += at(x)[i];
    return SQZ_OK;
}

/* ---- attention and its cache --------------------------------------------------------------- */

typedef struct ref_kv {
    int64_t layers, slots, capacity, kv_heads, head_dim;
    float *k, *v; /* [layers, slots, capacity, kv_heads, head_dim] */
} ref_kv;

static int64_t kv_row(const ref_kv *kv, int64_t layer, int64_t slot, int64_t position)
{
    return ((layer * kv->slots + slot) * kv->capacity + position) * kv->kv_heads * kv->head_dim;
}

static sqz_status ref_kv_new(void *dev, const sqz_kv_desc *d, void **out)
{
    (void)dev;
    if (strcmp(d->schema, "f32/1") != 0) return SQZ_E_UNSUPPORTED;
    const int64_t sides[] = {d->layers, d->slots, d->capacity, d->kv_heads, d->head_dim};
    int64_t n = 1;
    for (int i = 0; i < 5; i++)
        if (sides[i] < 1 || __builtin_mul_overflow(n, sides[i], &n)) return SQZ_E_INVALID;
    ref_kv *kv = malloc(sizeof *kv);
    if (!kv) return SQZ_E_NOMEM;
    *kv = (ref_kv){d->layers,
                   d->slots,
                   d->capacity,
                   d->kv_heads,
                   d->head_dim,
                   calloc((size_t)n, sizeof(float)),
                   calloc((size_t)n, sizeof(float))};
    if (!kv->k || !kv->v) {
        free(kv->k);
        free(kv->v);
        free(kv);
        return SQZ_E_NOMEM;
    }
    *out = kv;
    return SQZ_OK;
}

static void ref_kv_free(void *dev, void *cache)
{
    (void)dev;
    ref_kv *kv = cache;
    if (kv) {
        free(kv->k);
        free(kv->v);
    }
    free(kv);
}

static int kv_fits(const ref_kv *kv, int64_t layer, int64_t slot, int64_t past, int64_t n)
{
    return layer >= 0 && layer < kv->layers && slot >= 0 && slot < kv->slots && past >= 0 &&
           n >= 0 && past <= kv->capacity - n;
}

static sqz_status ref_kv_append(void *dev, const sqz_op_kv_append *op)
{
    (void)dev;
    ref_kv *kv = op->kv;
    int64_t width = kv->kv_heads * kv->head_dim;
    for (int64_t s = 0; s < op->sequences; s++)
        if (!kv_fits(kv, op->layer, op->slot[s], op->past[s], op->first[s + 1] - op->first[s]))
            return SQZ_E_INVALID;
    for (int64_t s = 0; s < op->sequences; s++)
        for (int64_t t = op->first[s]; t < op->first[s + 1]; t++) {
            int64_t row = kv_row(kv, op->layer, op->slot[s], op->past[s] + t - op->first[s]);
            for (int64_t i = 0; i < width; i++) {
                kv->k[row + i] = at(&op->k)[t * width + i];
                kv->v[row + i] = at(&op->v)[t * width + i];
            }
        }
    return SQZ_OK;
}

static sqz_status ref_kv_copy(void *dev, void *cache, int32_t from, int32_t to, int64_t n)
{
    (void)dev;
    ref_kv *kv = cache;
    if (!kv_fits(kv, 0, from, 0, n) || !kv_fits(kv, 0, to, 0, n)) return SQZ_E_INVALID;
    size_t bytes = (size_t)(n * kv->kv_heads * kv->head_dim) * sizeof(float);
    for (int64_t layer = 0; layer < kv->layers; layer++) {
        memmove(kv->k + kv_row(kv, layer, to, 0), kv->k + kv_row(kv, layer, from, 0), bytes);
        memmove(kv->v + kv_row(kv, layer, to, 0), kv->v + kv_row(kv, layer, from, 0), bytes);
    }
    return SQZ_OK;
}

/* One query row against positions 0..self of one head; k and v point at position 0. */
static void attend_row(const sqz_op_attend *op, const float *q, const float *k, const float *v,
                       int64_t stride, int64_t self, double *weight /* [self + 1] */, float *y)
{
    int64_t low = op->window && self - op->window + 1 > 0 ? self - op->window + 1 : 0;
    double top = -INFINITY, total = 0, cap = SQZ_HAS(op, sqz_op_attend, softcap) ? op->softcap : 0;
    for (int64_t j = low; j <= self; j++) {
        double dot = 0;
        for (int64_t i = 0; i < op->head_dim; i++) dot += (double)q[i] * k[j * stride + i];
        weight[j] = dot * op->scale;
        if (cap > 0) weight[j] = cap * tanh(weight[j] / cap);
        top = weight[j] > top ? weight[j] : top;
    }
    for (int64_t j = low; j <= self; j++) total += weight[j] = exp(weight[j] - top);
    for (int64_t i = 0; i < op->head_dim; i++) {
        double sum = 0;
        for (int64_t j = low; j <= self; j++) sum += weight[j] * v[j * stride + i];
        y[i] = (float)(sum / total);
    }
}

static sqz_status attend_check(const sqz_op_attend *op, int64_t *longest)
{
    const ref_kv *kv = op->kv;
    if (op->kv_heads < 1 || op->head_dim < 1 || op->heads % op->kv_heads || op->window < 0)
        return SQZ_E_INVALID;
    if (kv && (kv->kv_heads != op->kv_heads || kv->head_dim != op->head_dim)) return SQZ_E_INVALID;
    *longest = 1;
    for (int64_t s = 0; s < op->sequences; s++) {
        int64_t n = op->first[s + 1] - op->first[s], past = kv ? op->past[s] : 0;
        if (n < 0 || (kv && !kv_fits(kv, op->layer, op->slot[s], past, n))) return SQZ_E_INVALID;
        *longest = past + n > *longest ? past + n : *longest;
    }
    return SQZ_OK;
}

static sqz_status ref_attend(void *dev, const sqz_op_attend *op)
{
    (void)dev;
    const ref_kv *kv = op->kv;
    int64_t longest, width = op->kv_heads * op->head_dim;
    sqz_status status = attend_check(op, &longest);
    if (status != SQZ_OK) return status;
    double *weight = malloc((size_t)longest * sizeof *weight);
    if (!weight) return SQZ_E_NOMEM;
    for (int64_t s = 0; s < op->sequences; s++) {
        int64_t past = kv ? op->past[s] : 0;
        const float *k =
            kv ? kv->k + kv_row(kv, op->layer, op->slot[s], 0) : at(&op->k) + op->first[s] * width;
        const float *v =
            kv ? kv->v + kv_row(kv, op->layer, op->slot[s], 0) : at(&op->v) + op->first[s] * width;
        for (int64_t t = op->first[s]; t < op->first[s + 1]; t++)
            for (int64_t h = 0; h < op->heads; h++) {
                int64_t row = (t * op->heads + h) * op->head_dim;
                int64_t shared = h / (op->heads / op->kv_heads) * op->head_dim;
                attend_row(op, at(&op->q) + row, k + shared, v + shared, width,
                           past + t - op->first[s], weight, at(&op->y) + row);
            }
    }
    free(weight);
    return SQZ_OK;
}

/* ---- scores -------------------------------------------------------------------------------- */

static sqz_status ref_score(void *dev, const sqz_op_score *op)
{
    (void)dev;
    for (int64_t r = 0; r < op->rows; r++) {
        const float *x = at(&op->logits) + r * op->n;
        int64_t best = 0;
        double total = 0;
        for (int64_t i = 1; i < op->n; i++)
            if (x[i] > x[best]) best = i;
        for (int64_t i = 0; i < op->n; i++) total += exp((double)x[i] - x[best]);
        double log_total = x[best] + log(total);
        if (op->argmax) op->argmax[r] = (int32_t)best;
        if (op->logsumexp) op->logsumexp[r] = (float)log_total;
        if (op->logprob && op->target && op->target[r] >= 0) {
            if (op->target[r] >= op->n) return SQZ_E_INVALID;
            op->logprob[r] = (float)(x[op->target[r]] - log_total);
        }
    }
    return SQZ_OK;
}

/* ---- statistics and linear algebra --------------------------------------------------------- */

static sqz_status ref_second_moment(void *dev, int32_t compute, int64_t tokens, int64_t n,
                                    const sqz_mem *x, const sqz_mem *s)
{
    (void)dev;
    const float *in = at(x);
    float *out = at(s);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++) {
            double sum = 0;
            for (int64_t t = 0; t < tokens; t++) {
                float a = in[t * n + i], b = in[t * n + j];
                sum += compute == SQZ_BF16 ? (double)round_bf16(a) * round_bf16(b) : (double)a * b;
            }
            out[i * n + j] = (float)(out[i * n + j] + sum);
        }
    return SQZ_OK;
}

static sqz_status ref_gemm(void *dev, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                           double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                           double beta, float *c, int64_t ldc)
{
    (void)dev;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)(ta ? a[l * lda + i] : a[i * lda + l]) *
                       (tb ? b[j * ldb + l] : b[l * ldb + j]);
            /* beta = 0 must not read c, which may hold anything */
            c[i * ldc + j] = (float)(alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]));
        }
    return SQZ_OK;
}

static sqz_status ref_gemm_rounded(void *dev, int64_t m, int64_t n, int64_t k, const float *a,
                                   int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                                   int64_t ldc)
{
    return ref_gemm(dev, 0, 0, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

/* r holds A in its upper triangle and becomes R, upper triangular, with A = R R^T: columns are
 * found from the last to the first. */
static int reversed_cholesky(double *r, int64_t n)
{
    for (int64_t j = n - 1; j >= 0; j--) {
        for (int64_t i = j; i >= 0; i--) {
            double sum = r[i * n + j];
            for (int64_t k = j + 1; k < n; k++) sum -= r[i * n + k] * r[j * n + k];
            if (i == j && !(sum > 0 && isfinite(sum))) return 0;
            r[i * n + j] = i == j ? sqrt(sum) : sum / r[j * n + j];
        }
    }
    return 1;
}

/* A = R R^T, so L = R^T. */
static sqz_status ref_reverse_cholesky(void *dev, float *a, int64_t n)
{
    (void)dev;
    double *r = malloc((size_t)(n * n) * sizeof *r);
    if (!r) return SQZ_E_NOMEM;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) r[j * n + i] = a[i * n + j];
    sqz_status status = reversed_cholesky(r, n) ? SQZ_OK : SQZ_E_NUMERIC;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) a[i * n + j] = j > i ? 0 : (float)r[j * n + i];
    free(r);
    return status;
}

/* Reads the upper triangle of a.  A = R R^T gives inverse(A) = R^-T R^-1, so U = R^-1. */
static sqz_status ref_inverse_factor(void *dev, float *a, int64_t n)
{
    (void)dev;
    double *r = malloc((size_t)(n * n) * sizeof *r), *u = calloc((size_t)(n * n), sizeof *u);
    sqz_status status = r && u ? SQZ_OK : SQZ_E_NOMEM;
    for (int64_t i = 0; status == SQZ_OK && i < n * n; i++) r[i] = a[i];
    if (status == SQZ_OK && !reversed_cholesky(r, n)) status = SQZ_E_NUMERIC;
    if (status == SQZ_OK) {
        for (int64_t j = 0; j < n; j++) /* back substitution of R u = e_j */
            for (int64_t i = j; i >= 0; i--) {
                double sum = i == j;
                for (int64_t k = i + 1; k <= j; k++) sum -= r[i * n + k] * u[k * n + j];
                u[i * n + j] = sum / r[i * n + i];
            }
        for (int64_t i = 0; i < n * n; i++) a[i] = (float)u[i];
    }
    free(r);
    free(u);
    return status;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What these loops reach, not what the machine could. */
static sqz_status ref_measure(void *dev, double *read_bandwidth, double *f32_flops,
                              double *bf16_flops)
{
    enum { WORDS = 4 << 20, SIDE = 192 };
    uint32_t *words = calloc(WORDS, sizeof *words);
    float *m = calloc(3 * SIDE * SIDE, sizeof *m);
    if (!words || !m) {
        free(words);
        free(m);
        return SQZ_E_NOMEM;
    }
    memset(words, 1, WORDS * sizeof *words); /* touch the pages before the clock runs */
    volatile uint32_t sink = 0;
    double start = seconds_now(), bytes = 0, flops = 0;
    do {
        uint32_t sum = 0;
        for (int64_t i = 0; i < WORDS; i++) sum += words[i];
        sink = sink + sum;
        bytes += WORDS * sizeof *words;
    } while (seconds_now() - start < 0.3);
    if (read_bandwidth) *read_bandwidth = bytes / (seconds_now() - start);
    start = seconds_now();
    do {
        ref_gemm(dev, 0, 0, SIDE, SIDE, SIDE, 1, m, SIDE, m + SIDE * SIDE, SIDE, 0,
                 m + 2 * SIDE * SIDE, SIDE);
        flops += 2.0 * SIDE * SIDE * SIDE;
    } while (seconds_now() - start < 0.3);
    if (f32_flops) *f32_flops = flops / (seconds_now() - start);
    if (bf16_flops) *bf16_flops = 0;
    free(words);
    free(m);
    return SQZ_OK;
}

/* ---- the table ----------------------------------------------------------------------------- */

static const sqz_hardware table = {
    .struct_size = sizeof(sqz_hardware),
    .describe = ref_describe,
    .alloc = ref_alloc,
    .release = ref_release,
    .map = ref_map,
    .upload = ref_upload,
    .download = ref_download,
    .sync = ref_sync,
    .pack = ref_pack,
    .packed_free = ref_packed_free,
    .packed_bytes = ref_packed_bytes,
    .linear = ref_linear,
    .embed = ref_embed,
    .norm = ref_norm,
    .rope = ref_rope,
    .attend = ref_attend,
    .gate = ref_gate,
    .add = ref_add,
    .score = ref_score,
    .kv_new = ref_kv_new,
    .kv_free = ref_kv_free,
    .kv_append = ref_kv_append,
    .kv_copy = ref_kv_copy,
    .second_moment = ref_second_moment,
    .gemm = ref_gemm,
    .inverse_factor = ref_inverse_factor,
    .measure = ref_measure,
    .reverse_cholesky = ref_reverse_cholesky,
    .features = SQZ_HARDWARE_SOFTCAP | SQZ_HARDWARE_READS,
    .layer_norm = ref_layer_norm,
    .activate = ref_activate,
    .scale = ref_scale,
    .softcap = ref_softcap,
    .gather = ref_gather,
    .scatter = ref_scatter,
    .gemm_rounded = ref_gemm_rounded,
};

const sqz_hardware *reference_hardware(void)
{
    return &table;
}

/* Rows that share an opaque object must come from one side, so an incomplete group is replaced as
 * a whole: allocation, packed weights, and the cache with the attention that reads it. */
void hardware_complete(const sqz_hardware *backend, sqz_hardware *out)
{
    sqz_hardware b = {0}, done = table;
    /* an older backend's table may be shorter than ours */
    memcpy(&b, backend, backend->struct_size < sizeof b ? backend->struct_size : sizeof b);
    if (b.alloc && b.release && b.map) {
        done.alloc = b.alloc;
        done.release = b.release;
        done.map = b.map;
    }
    if (b.pack && b.packed_free && b.packed_bytes && b.linear) {
        done.pack = b.pack;
        done.packed_free = b.packed_free;
        done.packed_bytes = b.packed_bytes;
        done.linear = b.linear;
        done.features |= b.features & SQZ_HARDWARE_COPIES;
    }
    if (b.kv_new && b.kv_free && b.kv_append && b.kv_copy && b.attend) {
        done.kv_new = b.kv_new;
        done.kv_free = b.kv_free;
        done.kv_append = b.kv_append;
        done.kv_copy = b.kv_copy;
        done.attend = b.attend;
        done.features &= ~SQZ_HARDWARE_SOFTCAP;
        done.features |= b.features & SQZ_HARDWARE_SOFTCAP;
    }
    int whole = done.linear == b.linear && done.attend == b.attend;
#define TAKE(row) done.row = b.row ? b.row : (whole = 0, done.row)
    if (b.measure && !(b.features & SQZ_HARDWARE_READS)) done.features &= ~SQZ_HARDWARE_READS;
    TAKE(describe);
    TAKE(upload);
    TAKE(download);
    TAKE(sync);
    TAKE(embed);
    TAKE(norm);
    TAKE(rope);
    TAKE(gate);
    TAKE(add);
    TAKE(score);
    TAKE(second_moment);
    TAKE(gemm);
    TAKE(inverse_factor);
    TAKE(measure);
    TAKE(reverse_cholesky);
    TAKE(layer_norm);
    TAKE(activate);
    TAKE(scale);
    TAKE(softcap);
    TAKE(gather);
    TAKE(scatter);
    TAKE(gemm_rounded);
#undef TAKE
    if (whole) done.begin = b.begin; /* twins work at once, so nothing may be left undone */
    *out = done;
}
