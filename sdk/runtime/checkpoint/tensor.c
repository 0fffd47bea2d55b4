/* tensor.c - see tensor.h. */
#include "checkpoint/tensor.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "pool/pool.h"
#include <stdlib.h>
#include <string.h>

int64_t tensor_file_row(const st_tensor *t, int64_t r)
{
    const tensor_source *s = t->source;
    int64_t rows = t->shape[0];
    if (s->row_order == ROWS_ROTARY) {
        int64_t d = rows / s->heads, half = d / 2, head = r / d, at = r % d;
        return head * d + 2 * (at % half) + at / half;
    }
    if (s->row_order == ROWS_QKV) {
        int64_t d = rows / (3 * s->heads), head = r / (3 * d), part = r / d % 3;
        return (part * s->heads + head) * d + r % d;
    }
    return r;
}

typedef struct row_job {
    const st_tensor *t;
    int64_t cols;
    uint8_t *raw;  /* copy as it is, or */
    float *values; /* decode */
} row_job;

static void make_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const row_job *j = arg;
    const tensor_source *s = j->t->source;
    int64_t bytes = j->cols / ggml_block_elements(s->type) * ggml_block_bytes(s->type);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *from = s->data + tensor_file_row(j->t, r) * bytes;
        if (j->raw)
            memcpy(j->raw + r * bytes, from, (size_t)bytes);
        else
            ggml_decode(s->type, from, j->cols, j->values + r * j->cols);
    }
}

static void transpose_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const row_job *j = arg; /* values: [shape[1], shape[0]], raw: the float32 result */
    float *out = (float *)(void *)j->raw;
    int64_t rows = j->t->shape[0], cols = j->t->shape[1];
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < cols; c++) out[r * cols + c] = j->values[c * rows + r];
}

static sqz_status decode_transposed(const st_tensor *t, float *out, sqz_error *err)
{
    float *turned = malloc((size_t)t->bytes);
    if (!turned)
        return err_set(err, SQZ_E_NOMEM, "no memory to transpose %s (%lld bytes)", t->name,
                       (long long)t->bytes);
    ggml_decode(t->source->type, t->source->data, t->shape[0] * t->shape[1], turned);
    row_job j = {t, t->shape[1], (uint8_t *)out, turned};
    pool_for(t->shape[0], 16, transpose_rows, &j);
    free(turned);
    return SQZ_OK;
}

static int64_t elements_of(const st_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

typedef struct widen_job {
    const st_tensor *t;
    float *out;
} widen_job;

static void widen_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const widen_job *j = arg;
    const uint8_t *from = j->t->data;
    (void)thread;
    (void)to_f32(j->t->dtype, from + begin * st_dtype_bits(j->t->dtype) / 8, end - begin,
                 j->out + begin);
}

sqz_status tensor_values(const st_tensor *t, float *out, sqz_error *err)
{
    const tensor_source *s = t->source;
    int64_t n = elements_of(t);
    sqz_status st = SQZ_OK;
    if (!s) {
        st = to_f32(t->dtype, t->data, 0, out);
        if (!st) pool_for(n, 1 << 16, widen_range, &(widen_job){t, out});
        return st ? err_set(err, st,
                            "%s holds %s, which is not computed with; float32, bfloat16 and "
                            "float16 are",
                            t->name, st_dtype_name(t->dtype))
                  : SQZ_OK;
    }
    if (!n) return SQZ_OK;
    if (s->transposed) {
        st = decode_transposed(t, out, err);
    } else if (s->row_order == ROWS_AS_THEY_ARE) {
        ggml_decode(s->type, s->data, n, out);
    } else {
        row_job j = {t, n / t->shape[0], NULL, out};
        pool_for(t->shape[0], 16, make_rows, &j);
    }
    if (s->add != 0 && !st)
        for (int64_t i = 0; i < n; i++) out[i] += s->add;
    return st;
}

const void *tensor_bytes(const st_tensor *t, void **owned, sqz_error *err)
{
    *owned = NULL;
    if (!t->source) return t->data;
    void *made = malloc((size_t)t->bytes + 1);
    sqz_status st = SQZ_OK;
    if (!made)
        st = err_set(err, SQZ_E_NOMEM, "no memory for %s (%lld bytes)", t->name,
                     (long long)t->bytes);
    else if (t->dtype == SQZ_F32)
        st = tensor_values(t, made, err);
    else if (t->bytes) { /* 16-bit elements in another order */
        row_job j = {t, elements_of(t) / t->shape[0], made, NULL};
        pool_for(t->shape[0], 16, make_rows, &j);
    }
    if (st) {
        free(made);
        return NULL;
    }
    *owned = made;
    return made;
}

int64_t tensor_file_bytes(const st_tensor *t)
{
    return t->source ? t->source->bytes : t->bytes;
}

void tensor_drop(const st_tensor *t)
{
    if (t->source)
        file_map_drop(t->source->data, t->source->bytes);
    else
        file_map_drop(t->data, t->bytes);
}
