/* weights.c - from tensors of the checkpoint, or forms of the overlay, to packed linears.
 *
 * Dense tensors are handed to the backend where they lie in the mapping (no copy, whatever the
 * dtype) unless a file holds them misaligned.  All shapes are checked when the model is opened, so
 * that a broken checkpoint is refused before anything is computed. */
#include "model/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t element_bytes(int32_t dtype)
{
    return dtype == SQZ_F32 ? 4 : 2;
}

static void shape_text(const st_tensor *t, char text[128])
{
    int used = snprintf(text, 128, "[");
    for (int i = 0; i < t->rank && used < 120; i++)
        used += snprintf(text + used, 128 - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)t->shape[i]);
    if (used < 127) snprintf(text + used, 128 - (size_t)used, "]");
}

/* A tensor of the expected shape (cols 0: a vector) and of a dtype that can be computed with.
 * *out is NULL when it is absent and may be. */
static sqz_status find(const model *m, const char *name, int64_t rows, int64_t cols, int optional,
                       const st_tensor **out, sqz_error *err)
{
    const st_tensor *t = checkpoint_find(m->ck, name);
    *out = t;
    if (!t && optional) return SQZ_OK;
    if (!t)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s is missing; config.json describes a %s model of %lld layers",
                       m->ck->dir, name, m->config.family->type, (long long)m->config.layers);
    char have[128];
    shape_text(t, have);
    int fits = cols ? t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols
                    : t->rank == 1 && t->shape[0] == rows;
    if (!fits && cols)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s has shape %s, but config.json makes it [%lld, %lld]",
                       m->ck->dir, name, have, (long long)rows, (long long)cols);
    if (!fits)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s has shape %s, but config.json makes it [%lld]", m->ck->dir,
                       name, have, (long long)rows);
    if (t->dtype != SQZ_F32 && t->dtype != SQZ_BF16 && t->dtype != SQZ_F16)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s has dtype %s; weights must be F32, BF16 or F16", m->ck->dir,
                       name, st_dtype_name(t->dtype));
    return SQZ_OK;
}

/* Elements that must be made anyway are made as the backend computes with them. */
static sqz_status make_dense(const st_tensor *t, int32_t compute, sqz_weight *out, void **owned,
                             sqz_error *err)
{
    out->data = tensor_bytes(t, owned, err);
    if (!out->data) return err && err->code ? err->code : SQZ_E_NOMEM;
    if (compute != SQZ_BF16 || t->dtype != SQZ_F32) return SQZ_OK;
    const float *wide = *owned;
    uint16_t *narrow = *owned; /* in place: element i is read before it is overwritten */
    for (int64_t i = 0; i < t->bytes / 4; i++) {
        float v = wide[i];
        narrow[i] = f32_to_bf16(v);
    }
    void *less = realloc(narrow, (size_t)t->bytes / 2);
    *owned = less ? less : narrow;
    out->data = *owned;
    out->dtype = SQZ_BF16;
    return SQZ_OK;
}

/* The tensor as a dense weight; *owned receives its elements when the file does not hold them so
 * and aligned. */
static sqz_status dense(const st_tensor *t, int32_t compute, sqz_weight *out, void **owned,
                        sqz_error *err)
{
    *owned = NULL;
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .dtype = t->dtype,
                        .form = SQZ_FORM_DENSE,
                        .rows = t->shape[0],
                        .cols = t->shape[1],
                        .data = t->data};
    if (t->source) return make_dense(t, compute, out, owned, err);
    if ((uintptr_t)t->data % (uintptr_t)element_bytes(t->dtype) == 0) return SQZ_OK;
    *owned = malloc((size_t)t->bytes);
    if (!*owned)
        return err_set(err, SQZ_E_NOMEM, "model: no memory for a copy of %s (%lld bytes)", t->name,
                       (long long)t->bytes);
    memcpy(*owned, t->data, (size_t)t->bytes);
    out->data = *owned;
    return SQZ_OK;
}

/* ---- checks at opening ----------------------------------------------------------------------- */
static sqz_status check_layer(model *m, int64_t layer, sqz_error *err)
{
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(&m->config, layer, spec);
    char name[192];
    const st_tensor *t;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%.127s.weight", spec[i].module);
        sqz_status st = find(m, name, spec[i].rows, spec[i].cols, m->overlay != NULL, &t, err);
        if (st) return st;
        snprintf(name, sizeof name, "%.127s.bias", spec[i].module);
        if (spec[i].has_bias) st = find(m, name, spec[i].rows, 0, 0, &t, err);
        if (st) return st;
    }
    for (int r = 0; r < NORM_COUNT; r++) {
        int64_t width = family_norm_width(&m->config, (norm_role)r);
        snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer,
                 family_norm_suffix((norm_role)r));
        sqz_status st = width ? find(m, name, width, 0, 0, &t, err) : SQZ_OK;
        if (st) return st;
    }
    return SQZ_OK;
}

sqz_status weights_check(model *m, sqz_error *err)
{
    const model_config *c = &m->config;
    const st_tensor *embed, *head, *t;
    sqz_status st = find(m, family_embed_name, c->vocab, c->hidden, 0, &embed, err);
    if (!st) st = find(m, family_head_name, c->vocab, c->hidden, c->tied, &head, err);
    if (!st) st = find(m, family_final_norm_name, c->hidden, 0, 0, &t, err);
    for (int64_t l = 0; l < c->layers && !st; l++) st = check_layer(m, l, err);
    if (st) return st;
    /* transformers 5 does not tie when the file holds a head that differs from the embedding. */
    if (c->tied && head &&
        (head->dtype != embed->dtype || !head->data || !embed->data ||
         memcmp(head->data, embed->data, (size_t)head->bytes)))
        m->config.tied = 0;
    if (!m->config.dtype) m->config.dtype = embed->dtype;
    /* rows of it become the input as they are: never rounded */
    st = dense(embed, SQZ_F32, &m->embed, &m->embed_owned, err);
    if (st) return st;
    m->head_weight = m->embed;
    return m->config.tied ? SQZ_OK : dense(head, m->compute, &m->head_weight, &m->head_owned, err);
}

/* ---- norms and biases
 * ---------------------------------------------------------------------------- */
static int64_t vector_bytes(int64_t n)
{
    return (n * (int64_t)sizeof(float) + 63) / 64 * 64;
}

static int64_t vector_layout(model *m)
{
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(&m->config, 0, spec);
    int64_t at = 0;
    for (int r = 0; r < NORM_COUNT; r++) {
        m->norm_offset[r] = at;
        at += vector_bytes(family_norm_width(&m->config, (norm_role)r));
    }
    for (int i = 0; i < n; i++) {
        m->bias_offset[i] = spec[i].has_bias ? at : -1;
        if (spec[i].has_bias) at += vector_bytes(spec[i].rows);
    }
    return at;
}

static void put_vector(const model *m, const char *name, uint8_t *stage, int64_t offset)
{
    const st_tensor *t = checkpoint_find(m->ck, name); /* weights_check found it */
    (void)tensor_values(t, (float *)(void *)(stage + offset), NULL);
}

sqz_status weights_vectors(model *m, sqz_error *err)
{
    m->layer_vectors = vector_layout(m);
    int64_t total = m->layer_vectors * m->config.layers + vector_bytes(m->config.hidden);
    uint8_t *stage = calloc(1, (size_t)total);
    if (!stage) return err_set(err, SQZ_E_NOMEM, "model: no memory for the norms and biases");
    char name[192];
    for (int64_t l = 0; l < m->config.layers; l++) {
        linear_spec spec[MODEL_MAX_LINEARS];
        int n = model_linears(&m->config, l, spec);
        int64_t at = l * m->layer_vectors;
        for (int r = 0; r < NORM_COUNT; r++) {
            if (!family_norm_width(&m->config, (norm_role)r)) continue;
            snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)l,
                     family_norm_suffix((norm_role)r));
            put_vector(m, name, stage, at + m->norm_offset[r]);
        }
        for (int i = 0; i < n; i++) {
            snprintf(name, sizeof name, "%.127s.bias", spec[i].module);
            if (spec[i].has_bias) put_vector(m, name, stage, at + m->bias_offset[i]);
        }
    }
    put_vector(m, family_final_norm_name, stage, m->layer_vectors * m->config.layers);
    sqz_status st = m->hw->alloc(m->dev, total, &m->vectors);
    sqz_mem to = {m->vectors, 0};
    if (!st) st = m->hw->upload(m->dev, &to, stage, total);
    free(stage);
    return st ? device_failed(m, st, "memory for the norms and biases", err) : SQZ_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------- */
static sqz_status overlay_weight(model *m, const linear_spec *spec, sqz_weight *w, int *found,
                                 sqz_error *err)
{
    *found = 0;
    if (!m->overlay) return SQZ_OK;
    int got = m->overlay->linear(m->overlay->impl, spec->module, w, err);
    if (got < 0) return err && err->code ? err->code : (sqz_status)got;
    *found = got > 0;
    if (got > 0 && (w->rows != spec->rows || w->cols != spec->cols)) {
        if (m->overlay->done) m->overlay->done(m->overlay->impl, spec->module);
        return err_set(err, ERR_MODEL, "%s is [%lld, %lld] in the artifact, but [%lld, %lld] here",
                       spec->module, (long long)w->rows, (long long)w->cols, (long long)spec->rows,
                       (long long)spec->cols);
    }
    return SQZ_OK;
}

static sqz_status load_linear(model *m, block *b, int i, const linear_spec *spec, sqz_error *err)
{
    sqz_weight w = {.struct_size = sizeof w};
    int found;
    sqz_status st = overlay_weight(m, spec, &w, &found, err);
    if (st) return st;
    b->overlaid[i] = (uint8_t)found;
    const st_tensor *t = NULL;
    if (!found) {
        char name[192];
        snprintf(name, sizeof name, "%.127s.weight", spec->module);
        st = find(m, name, spec->rows, spec->cols, 0, &t, err);
        if (!st) st = dense(t, m->compute, &w, &b->owned[i], err);
        if (st) return st;
    }
    st = m->hw->pack(m->dev, &w, m->compute, &b->packed[i]);
    if (st == SQZ_E_UNSUPPORTED)
        return err_set(err, st, "backend %s cannot run %s in form %s (%d bit)", m->info.name,
                       spec->module, w.form,
                       w.affine ? w.affine->bits : (int)element_bytes(w.dtype) * 8);
    if (st) return device_failed(m, st, spec->module, err);
    /* Packing read every page.  A backend that kept the pointer maps them again when it must. */
    if (t) tensor_drop(t);
    return SQZ_OK;
}

void block_drop(model *m, int64_t layer)
{
    block *b = &m->blocks[layer];
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(&m->config, layer, spec);
    for (int i = 0; i < n; i++) {
        if (b->packed[i]) m->hw->packed_free(m->dev, b->packed[i]);
        free(b->owned[i]);
        if (b->overlaid[i] && m->overlay->done) m->overlay->done(m->overlay->impl, spec[i].module);
        if (!b->loaded || b->overlaid[i]) continue;
        char name[192];
        snprintf(name, sizeof name, "%.127s.weight", spec[i].module);
        const st_tensor *t = checkpoint_find(m->ck, name);
        if (t) tensor_drop(t);
    }
    *b = (block){0};
}

sqz_status block_acquire(model *m, int64_t layer, sqz_error *err)
{
    block *b = &m->blocks[layer];
    if (b->loaded) return SQZ_OK;
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(&m->config, layer, spec);
    for (int i = 0; i < n; i++) {
        sqz_status st = load_linear(m, b, i, &spec[i], err);
        if (!st) continue;
        block_drop(m, layer);
        return st;
    }
    b->loaded = 1;
    return SQZ_OK;
}

void block_release(model *m, int64_t layer)
{
    if (!m->resident) block_drop(m, layer);
}

/* ---- head
 * ---------------------------------------------------------------------------------------- */
static void drop_head_pages(const model *m)
{
    const sqz_weight *w = &m->head_weight;
    if (w->data != m->head_owned && w->data != m->embed_owned)
        file_map_drop(w->data, w->rows * w->cols * element_bytes(w->dtype));
}

sqz_status head_acquire(model *m, sqz_error *err)
{
    if (m->head) return SQZ_OK;
    sqz_status st = m->hw->pack(m->dev, &m->head_weight, m->compute, &m->head);
    if (st) return device_failed(m, st, family_head_name, err);
    drop_head_pages(m);
    return SQZ_OK;
}

void head_drop(model *m)
{
    if (!m->head) return;
    m->hw->packed_free(m->dev, m->head);
    m->head = NULL;
    drop_head_pages(m);
}

void head_release(model *m)
{
    if (!m->resident) head_drop(m);
}
