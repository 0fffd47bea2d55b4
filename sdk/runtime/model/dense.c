/* dense.c - the dense tensors of a checkpoint as matrices and vectors: found by name, checked
 * against the shape that config.json makes, turned or copied only when they have to be.
 *
 * A tensor is handed out where it lies in the mapping unless it is stored transposed, packed, or
 * misaligned. */
#include "model/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t element_bytes(int32_t dtype)
{
    return dtype == SQZ_F32 ? 4 : 2;
}

static void shape_text(int rank, const int64_t *shape, char text[128])
{
    int used = snprintf(text, 128, "[");
    for (int i = 0; i < rank && used < 120; i++)
        used +=
            snprintf(text + used, 128 - (size_t)used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < 127) snprintf(text + used, 128 - (size_t)used, "]");
}

sqz_status tensor_find(const model_config *c, const checkpoint *ck, const char *name, int rank,
                       const int64_t *shape, int optional, const st_tensor **out, sqz_error *err)
{
    const st_tensor *t = checkpoint_find(ck, name);
    *out = t;
    if (!t && optional) return SQZ_OK;
    if (!t)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s is missing; config.json describes a %s model of %lld layers",
                       ck->dir, name, c->family->type, (long long)c->layers);
    if (t->rank != rank || memcmp(t->shape, shape, (size_t)rank * sizeof *shape)) {
        char have[128], want[128];
        shape_text(t->rank, t->shape, have);
        shape_text(rank, shape, want);
        return err_set(err, ERR_MODEL, "%s: tensor %s has shape %s, but config.json makes it %s",
                       ck->dir, name, have, want);
    }
    if (t->dtype != SQZ_F32 && t->dtype != SQZ_BF16 && t->dtype != SQZ_F16)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s has dtype %s; weights must be F32, BF16 or F16", ck->dir,
                       name, st_dtype_name(t->dtype));
    return SQZ_OK;
}

sqz_status linear_tensor(const model_config *c, const checkpoint *ck, const linear_spec *s,
                         int optional, const st_tensor **out, sqz_error *err)
{
    int64_t flat[2] = {s->rows, s->cols}, turned[2] = {s->cols, s->rows};
    if (!s->tensor_rows)
        return tensor_find(c, ck, s->tensor, 2, s->transposed ? turned : flat, optional, out, err);
    int64_t cube[3] = {c->experts, s->tensor_rows / c->experts, s->cols};
    return tensor_find(c, ck, s->tensor, 3, cube, optional, out, err);
}

/* out[r][c] = in[c][r], in squares that stay in cache. */
static void transpose(const uint8_t *in, int64_t rows, int64_t cols, int64_t size, uint8_t *out)
{
    enum { SIDE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += SIDE)
        for (int64_t c0 = 0; c0 < cols; c0 += SIDE)
            for (int64_t r = r0; r < rows && r < r0 + SIDE; r++)
                for (int64_t c = c0; c < cols && c < c0 + SIDE; c++)
                    memcpy(out + (r * cols + c) * size, in + (c * rows + r) * size, (size_t)size);
}

/* Elements that must be made anyway are made as the backend computes with them. */
static void narrow(sqz_weight *w, void **owned)
{
    const float *wide = *owned;
    uint16_t *half = *owned; /* in place: element i is read before it is overwritten */
    int64_t n = w->rows * w->cols;
    for (int64_t i = 0; i < n; i++) {
        float v = wide[i];
        half[i] = f32_to_bf16(v);
    }
    void *less = realloc(half, (size_t)n * sizeof *half);
    *owned = less ? less : half;
    w->dtype = SQZ_BF16;
}

/* Rows first .. first + rows - 1 of a tensor with rows of w->cols elements, or of its transpose. */
static sqz_status view(const st_tensor *t, int64_t first, int transposed, int32_t compute,
                       sqz_weight *w, void **owned, sqz_error *err)
{
    int64_t size = element_bytes(t->dtype), bytes = w->rows * w->cols * size;
    void *made = NULL;
    const uint8_t *data = t->source ? tensor_bytes(t, &made, err) : t->data;
    *owned = made;
    if (!data) return err && err->code ? err->code : SQZ_E_NOMEM;
    data += first * w->cols * size;
    if (transposed || (!made && (uintptr_t)data % (uintptr_t)size)) {
        *owned = malloc((size_t)bytes);
        if (*owned && transposed) transpose(data, w->rows, w->cols, size, *owned);
        if (*owned && !transposed) memcpy(*owned, data, (size_t)bytes);
        free(made);
        if (!*owned)
            return err_set(err, SQZ_E_NOMEM, "model: no memory for a copy of %s (%lld bytes)",
                           t->name, (long long)bytes);
        data = *owned;
    }
    if (t->source && compute == SQZ_BF16 && w->dtype == SQZ_F32) narrow(w, owned);
    w->data = *owned ? *owned : data;
    return SQZ_OK;
}

sqz_status dense_tensor(const st_tensor *t, int64_t rows, int64_t cols, int32_t compute,
                        sqz_weight *out, void **owned, sqz_error *err)
{
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .dtype = t->dtype,
                        .form = SQZ_FORM_DENSE,
                        .rows = rows,
                        .cols = cols};
    return view(t, 0, 0, compute, out, owned, err);
}

sqz_status dense_linear(const model_config *c, const checkpoint *ck, const linear_spec *s,
                        int32_t compute, sqz_weight *out, void **owned, sqz_error *err)
{
    const st_tensor *t;
    *owned = NULL;
    sqz_status st = linear_tensor(c, ck, s, 0, &t, err);
    if (st) return st;
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .dtype = t->dtype,
                        .form = SQZ_FORM_DENSE,
                        .rows = s->rows,
                        .cols = s->cols};
    return view(t, s->first_row, s->transposed, compute, out, owned, err);
}

sqz_status model_dense(const model_config *c, const checkpoint *ck, const linear_spec *s,
                       sqz_weight *out, void **owned, sqz_error *err)
{
    return dense_linear(c, ck, s, SQZ_F32, out, owned, err);
}

sqz_status model_dense_values(const model_config *c, const checkpoint *ck, const linear_spec *s,
                              float *out, sqz_error *err)
{
    const st_tensor *t;
    sqz_weight w;
    void *owned;
    sqz_status st = linear_tensor(c, ck, s, 0, &t, err);
    if (st) return st;
    if (!s->transposed && !s->tensor_rows) return tensor_values(t, out, err);
    st = dense_linear(c, ck, s, SQZ_F32, &w, &owned, err);
    if (!st) to_f32(w.dtype, w.data, w.rows * w.cols, out);
    free(owned);
    return st;
}

void model_dense_done(const checkpoint *ck, const linear_spec *s)
{
    const st_tensor *t = checkpoint_find(ck, s->tensor);
    if (!t) return;
    int64_t row = s->cols * element_bytes(t->dtype);
    if (s->tensor_rows && t->data)
        file_map_drop(t->data + s->first_row * row, s->rows * row);
    else
        tensor_drop(t);
}
