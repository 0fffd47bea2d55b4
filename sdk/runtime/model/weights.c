/* weights.c - from tensors of the checkpoint, or forms of the overlay, to packed linears.
 *
 * Dense tensors are handed to the backend where they lie in the mapping (no copy, whatever the
 * dtype) unless dense.c had to copy them.  A tensor that holds several linears (queries, keys and
 * values; gate and up) is packed as its parts.  All shapes are checked when the model is opened, so
 * that a broken checkpoint is refused before anything is computed. */
#include "model/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- checks at opening ----------------------------------------------------------------------- */
static sqz_status find_vector(const model *m, const char *module, const char *what, int64_t n,
                              const st_tensor **t, sqz_error *err)
{
    char name[FAMILY_NAME + 16];
    snprintf(name, sizeof name, "%s.%s", module, what);
    return tensor_find(&m->config, m->ck, name, 1, &n, 0, t, err);
}

static sqz_status find_matrix(const model *m, const char *name, int64_t rows, int64_t cols,
                              int optional, const st_tensor **t, sqz_error *err)
{
    int64_t shape[2] = {rows, cols};
    return tensor_find(&m->config, m->ck, name, 2, shape, optional, t, err);
}

static sqz_status check_norm(const model *m, const char *module, int64_t width, sqz_error *err)
{
    const st_tensor *t;
    sqz_status st = find_vector(m, module, "weight", width, &t, err);
    if (!st && m->config.family->norm_kind == NORM_KIND_LAYER)
        st = find_vector(m, module, "bias", width, &t, err);
    return st;
}

static sqz_status check_layer(model *m, int64_t layer, sqz_error *err)
{
    const model_config *c = &m->config;
    int64_t n = model_linear_count(c, layer);
    char name[FAMILY_NAME];
    const st_tensor *t;
    for (int64_t i = 0; i < n; i++) {
        linear_spec spec;
        model_linear(c, layer, i, &spec);
        sqz_status st = linear_tensor(c, m->ck, &spec, m->overlay != NULL, &t, err);
        if (!st && spec.has_bias) st = find_vector(m, spec.module, "bias", spec.rows, &t, err);
        if (st) return st;
    }
    for (int r = 0; r < NORM_COUNT; r++) {
        if (!family_norm_module(c, layer, (norm_role)r, name)) continue;
        sqz_status st = check_norm(m, name, family_norm_width(c, (norm_role)r), err);
        if (st) return st;
    }
    if (!c->sparse || !c->sparse[layer]) return SQZ_OK;
    family_router_name(c, layer, name);
    return find_matrix(m, name, c->experts, c->hidden, 0, &t, err);
}

static sqz_status check_tables(model *m, const st_tensor **embed, const st_tensor **head,
                               sqz_error *err)
{
    const model_config *c = &m->config;
    char name[FAMILY_NAME];
    const st_tensor *t;
    family_embed_name(c, name);
    sqz_status st = find_matrix(m, name, c->vocab, c->hidden, 0, embed, err);
    if (!st) st = find_matrix(m, family_head_name(c), c->vocab, c->hidden, c->tied, head, err);
    if (!st && family_final_norm_module(c, name)) st = check_norm(m, name, c->hidden, err);
    if (st || !family_positions_name(c, name)) return st;
    int64_t rows = c->context + c->family->position_offset;
    st = find_matrix(m, name, rows, c->hidden, 0, &t, err);
    if (!st)
        st = dense_tensor(t, rows, c->hidden, SQZ_F32, &m->positions, &m->positions_owned, err);
    return st;
}

sqz_status weights_check(model *m, sqz_error *err)
{
    const model_config *c = &m->config;
    const st_tensor *embed, *head;
    sqz_status st = check_tables(m, &embed, &head, err);
    for (int64_t l = 0; l < c->layers && !st; l++) st = check_layer(m, l, err);
    if (st) return st;
    /* transformers 5 does not tie when the file holds a head that differs from the embedding. */
    if (c->tied && head &&
        (head->dtype != embed->dtype || !head->data || !embed->data ||
         memcmp(head->data, embed->data, (size_t)head->bytes)))
        m->config.tied = 0;
    if (!m->config.dtype) m->config.dtype = embed->dtype;
    /* rows of it become the input as they are: never rounded */
    st = dense_tensor(embed, c->vocab, c->hidden, SQZ_F32, &m->embed, &m->embed_owned, err);
    if (st) return st;
    m->head_weight = m->embed;
    return m->config.tied ? SQZ_OK
                          : dense_tensor(head, c->vocab, c->hidden, m->compute, &m->head_weight,
                                         &m->head_owned, err);
}

/* ---- norms and biases ------------------------------------------------------------------------ */
int64_t vector_bytes(int64_t n)
{
    return (n * (int64_t)sizeof(float) + 63) / 64 * 64;
}

/* A norm's weight, and behind it its bias. */
static int64_t norm_bytes(const model_config *c, int64_t width)
{
    return vector_bytes(width) * (c->family->norm_kind == NORM_KIND_LAYER ? 2 : 1);
}

static int64_t vector_layout(model *m)
{
    const model_config *c = &m->config;
    int64_t at = 0;
    for (int r = 0; r < NORM_COUNT; r++) {
        m->norm_offset[r] = at;
        at += norm_bytes(c, family_norm_width(c, (norm_role)r));
    }
    for (int s = 0; s < SLOT_EXPERT; s++) m->bias_offset[s] = -1;
    for (int64_t l = 0; l < c->layers; l++)
        for (int64_t i = 0, n = model_linear_count(c, l); i < n; i++) {
            linear_spec spec;
            linear_part part[MAX_PARTS];
            model_linear(c, l, i, &spec);
            if (spec.expert >= 0) break;
            int parts = spec.has_bias ? family_parts(c, &spec, part) : 0;
            for (int p = 0; p < parts; p++) {
                if (m->bias_offset[part[p].slot] >= 0) continue;
                m->bias_offset[part[p].slot] = at;
                at += vector_bytes(part[p].rows);
            }
        }
    return at;
}

static void put_norm(const model *m, const char *module, int64_t width, uint8_t *stage)
{
    const st_tensor *t; /* weights_check found them */
    float *to = (float *)(void *)stage;
    find_vector(m, module, "weight", width, &t, NULL);
    (void)tensor_values(t, to, NULL);
    if (m->config.family->norm_kind == NORM_KIND_RMS_PLUS_ONE)
        for (int64_t i = 0; i < width; i++) to[i] += 1;
    if (m->config.family->norm_kind != NORM_KIND_LAYER) return;
    find_vector(m, module, "bias", width, &t, NULL);
    (void)tensor_values(t, (float *)(void *)(stage + vector_bytes(width)), NULL);
}

/* The bias of a linear, in the order of its parts. */
static sqz_status put_bias(const model *m, const linear_spec *spec, uint8_t *stage, sqz_error *err)
{
    const st_tensor *t;
    linear_part part[MAX_PARTS];
    float *whole = malloc((size_t)spec->rows * sizeof *whole);
    if (!whole) return err_set(err, SQZ_E_NOMEM, "model: no memory for the biases");
    find_vector(m, spec->module, "bias", spec->rows, &t, NULL);
    (void)tensor_values(t, whole, NULL);
    int parts = family_parts(&m->config, spec, part);
    for (int p = 0; p < parts; p++) {
        float *to = (float *)(void *)(stage + m->bias_offset[part[p].slot]);
        for (int64_t r = 0; r < part[p].rows; r++)
            to[r] = whole[part[p].first + r / part[p].run * part[p].stride + r % part[p].run];
    }
    free(whole);
    return SQZ_OK;
}

static sqz_status put_layer(const model *m, int64_t layer, uint8_t *stage, sqz_error *err)
{
    const model_config *c = &m->config;
    char name[FAMILY_NAME];
    for (int r = 0; r < NORM_COUNT; r++)
        if (family_norm_module(c, layer, (norm_role)r, name))
            put_norm(m, name, family_norm_width(c, (norm_role)r), stage + m->norm_offset[r]);
    for (int64_t i = 0, n = model_linear_count(c, layer); i < n; i++) {
        linear_spec spec;
        model_linear(c, layer, i, &spec);
        if (spec.expert >= 0) break;
        sqz_status st = spec.has_bias ? put_bias(m, &spec, stage, err) : SQZ_OK;
        if (st) return st;
    }
    return SQZ_OK;
}

sqz_status weights_vectors(model *m, sqz_error *err)
{
    const model_config *c = &m->config;
    char name[FAMILY_NAME];
    m->layer_vectors = vector_layout(m);
    int64_t total = m->layer_vectors * c->layers + norm_bytes(c, c->hidden);
    uint8_t *stage = calloc(1, (size_t)total);
    if (!stage) return err_set(err, SQZ_E_NOMEM, "model: no memory for the norms and biases");
    sqz_status st = SQZ_OK;
    for (int64_t l = 0; l < c->layers && !st; l++) {
        st = put_layer(m, l, stage + l * m->layer_vectors, err);
        checkpoint_drop(m->ck); /* small tensors, spread over the whole file */
    }
    if (!st && family_final_norm_module(c, name))
        put_norm(m, name, c->hidden, stage + m->layer_vectors * c->layers);
    checkpoint_drop(m->ck);
    if (st) {
        free(stage);
        return st;
    }
    st = m->hw->alloc(m->dev, total, &m->vectors);
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

static sqz_status pack_piece(model *m, piece *p, const sqz_weight *w, const char *module,
                             sqz_error *err)
{
    sqz_status st = m->hw->pack(m->dev, w, m->compute, &p->packed);
    if (st == SQZ_E_UNSUPPORTED)
        return err_set(err, st, "backend %s cannot run %s in form %s (%d bit)", m->info.name,
                       module, w->form,
                       w->affine ? w->affine->bits : (int)element_bytes(w->dtype) * 8);
    return st ? device_failed(m, st, module, err) : SQZ_OK;
}

/* Rows of a matrix with `size` bytes a row, collected as the part says. */
static void collect_rows(const linear_part *p, const void *in, int64_t size, uint8_t *out)
{
    for (int64_t r = 0; r < p->rows; r += p->run)
        memcpy(out + r * size, (const uint8_t *)in + (p->first + r / p->run * p->stride) * size,
               (size_t)(p->run * size));
}

static sqz_status piece_dense(piece *p, const linear_part *part, const sqz_weight *whole,
                              sqz_weight *w, sqz_error *err)
{
    int64_t row = whole->cols * element_bytes(whole->dtype);
    w->data = (const uint8_t *)whole->data + part->first * row;
    if (part->run == part->rows) return SQZ_OK;
    p->owned = malloc((size_t)(part->rows * row));
    if (!p->owned) return err_set(err, SQZ_E_NOMEM, "model: no memory for rows of a linear");
    collect_rows(part, whole->data, row, p->owned);
    w->data = p->owned;
    return SQZ_OK;
}

static sqz_status piece_affine(piece *p, const linear_part *part, const sqz_weight *whole,
                               sqz_weight *w, sqz_error *err)
{
    const sqz_affine *a = whole->affine;
    int64_t row = (a->cols * a->bits + 31) / 32 * 4;
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    p->affine = *a;
    p->affine.rows = part->rows;
    w->affine = &p->affine;
    if (part->run == part->rows) {
        p->affine.codes = a->codes + part->first * row;
        p->affine.scales = a->scales + part->first * groups;
        p->affine.zeros = a->zeros + part->first * groups;
        return SQZ_OK;
    }
    uint8_t *to = malloc((size_t)(part->rows * (row + 3 * groups)));
    p->owned = to;
    if (!to) return err_set(err, SQZ_E_NOMEM, "model: no memory for rows of a linear");
    collect_rows(part, a->codes, row, to);
    p->affine.codes = to;
    to += part->rows * row;
    collect_rows(part, a->scales, groups * 2, to);
    p->affine.scales = (const uint16_t *)(const void *)to;
    to += part->rows * groups * 2;
    collect_rows(part, a->zeros, groups, to);
    p->affine.zeros = to;
    return SQZ_OK;
}

/* The arrays of a linear that the backend has copied. */
static void let_go(model *m, block *b, int64_t i, const linear_spec *spec)
{
    linear_part part[MAX_PARTS];
    for (int k = family_parts(&m->config, spec, part) - 1; k >= 0; k--) {
        piece *p = &b->pieces[part[k].slot];
        free(p->owned);
        p->owned = NULL;
    }
    if (b->sources[i].overlaid && m->overlay->done)
        m->overlay->done(m->overlay->impl, spec->module);
    b->sources[i].overlaid = 0;
    b->sources[i].packed = 1;
}

static sqz_status load_linear(model *m, block *b, int64_t i, const linear_spec *spec,
                              sqz_error *err)
{
    sqz_weight whole = {.struct_size = sizeof whole};
    linear_part part[MAX_PARTS];
    int found, parts = family_parts(&m->config, spec, part);
    sqz_status st = overlay_weight(m, spec, &whole, &found, err);
    if (st) return st;
    b->sources[i].overlaid = (uint8_t)found;
    if (!found)
        st = dense_linear(&m->config, m->ck, spec, m->compute, &whole, &b->sources[i].owned, err);
    int affine = !st && strcmp(whole.form, SQZ_FORM_INT_AFFINE) == 0;
    int dense = !st && strcmp(whole.form, SQZ_FORM_DENSE) == 0;
    for (int k = 0; k < parts && !st; k++) {
        piece *p = &b->pieces[part[k].slot];
        sqz_weight w = whole;
        w.rows = part[k].rows;
        if (parts > 1 && affine) st = piece_affine(p, &part[k], &whole, &w, err);
        if (parts > 1 && dense) st = piece_dense(p, &part[k], &whole, &w, err);
        if (parts > 1 && !affine && !dense)
            st = err_set(err, SQZ_E_UNSUPPORTED, "%s: form %s cannot be split into its parts",
                         spec->module, whole.form);
        if (!st) st = pack_piece(m, p, &w, spec->module, err);
    }
    /* Packing read every page.  A backend that kept the pointer maps them again when it must. */
    if (!st && !found) model_dense_done(m->ck, spec);
    if (!st && affine && (m->hw->features & SQZ_HARDWARE_COPIES)) let_go(m, b, i, spec);
    return st;
}

static sqz_status load_router(model *m, block *b, int64_t layer, sqz_error *err)
{
    const model_config *c = &m->config;
    char name[FAMILY_NAME];
    sqz_weight w;
    family_router_name(c, layer, name);
    const st_tensor *t = checkpoint_find(m->ck, name); /* weights_check found it */
    sqz_status st = dense_tensor(t, c->experts, c->hidden, m->compute, &w, &b->router_owned, err);
    return st ? st : pack_piece(m, &b->pieces[SLOT_ROUTER], &w, name, err);
}

void block_drop(model *m, int64_t layer)
{
    block *b = &m->blocks[layer];
    const model_config *c = &m->config;
    for (int64_t i = 0, n = family_slots(c); b->pieces && i < n; i++) {
        if (b->pieces[i].packed) m->hw->packed_free(m->dev, b->pieces[i].packed);
        free(b->pieces[i].owned);
    }
    for (int64_t i = 0, n = model_linear_count(c, layer); b->sources && i < n; i++) {
        linear_spec spec;
        model_linear(c, layer, i, &spec);
        free(b->sources[i].owned);
        if (b->sources[i].overlaid && m->overlay->done)
            m->overlay->done(m->overlay->impl, spec.module);
        if (b->loaded && !b->sources[i].overlaid && !b->sources[i].packed)
            model_dense_done(m->ck, &spec);
    }
    free(b->router_owned);
    free(b->pieces);
    free(b->sources);
    if (!m->resident) checkpoint_drop(m->ck);
    *b = (block){0};
}

sqz_status block_acquire(model *m, int64_t layer, sqz_error *err)
{
    block *b = &m->blocks[layer];
    const model_config *c = &m->config;
    if (b->loaded) return SQZ_OK;
    int64_t n = model_linear_count(c, layer);
    b->pieces = calloc((size_t)family_slots(c), sizeof *b->pieces);
    b->sources = calloc((size_t)n, sizeof *b->sources);
    sqz_status st =
        b->pieces && b->sources
            ? SQZ_OK
            : err_set(err, SQZ_E_NOMEM, "model: no memory for block %lld", (long long)layer);
    for (int64_t i = 0; i < n && !st; i++) {
        linear_spec spec;
        model_linear(c, layer, i, &spec);
        st = load_linear(m, b, i, &spec, err);
    }
    if (!st && c->sparse && c->sparse[layer]) st = load_router(m, b, layer, err);
    if (st)
        block_drop(m, layer);
    else
        b->loaded = 1;
    return st;
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
    if (!m->head_copy && w->data != m->head_owned && w->data != m->embed_owned)
        file_map_drop(w->data, w->rows * w->cols * element_bytes(w->dtype));
}

/* In a quantized model the head is a large part of what decode reads, so it goes from the mapped
 * file into the device's memory, where the host can see that; it is not needed in both. */
static void copy_head(model *m)
{
    enum { STEP = 8 << 20 };
    sqz_weight *w = &m->head_weight;
    int64_t bytes = w->rows * w->cols * element_bytes(w->dtype);
    int mapped = w->data != m->head_owned && w->data != m->embed_owned;
    int as_is = w->dtype == m->compute || m->compute == SQZ_F32;
    if (!m->resident || !m->overlay || !mapped || !as_is) return;
    if (m->hw->alloc(m->dev, bytes, &m->head_copy)) return; /* the file will do */
    void *seen = m->hw->map(m->dev, m->head_copy);
    sqz_status st = seen ? SQZ_OK : SQZ_E_UNSUPPORTED;
    for (int64_t at = 0; at < bytes && !st; at += STEP) {
        int64_t n = bytes - at < STEP ? bytes - at : STEP;
        sqz_mem to = {m->head_copy, at};
        st = m->hw->upload(m->dev, &to, (const uint8_t *)w->data + at, n);
        file_map_drop((const uint8_t *)w->data + at, n);
    }
    if (!st) st = m->hw->sync(m->dev);
    if (!st) {
        m->head_file = w->data;
        w->data = seen;
        return;
    }
    m->hw->release(m->dev, m->head_copy);
    m->head_copy = NULL;
}

sqz_status head_acquire(model *m, sqz_error *err)
{
    if (m->head) return SQZ_OK;
    copy_head(m);
    sqz_status st = m->hw->pack(m->dev, &m->head_weight, m->compute, &m->head);
    if (st) return device_failed(m, st, "output head", err);
    drop_head_pages(m);
    return SQZ_OK;
}

void head_drop(model *m)
{
    if (m->head) {
        m->hw->packed_free(m->dev, m->head);
        m->head = NULL;
        drop_head_pages(m);
    }
    if (m->head_copy) {
        m->hw->release(m->dev, m->head_copy);
        m->head_copy = NULL;
        m->head_weight.data = m->head_file;
    }
}

void head_release(model *m)
{
    if (!m->resident) head_drop(m);
}
