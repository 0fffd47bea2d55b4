/* forward.c - the one forward of all families: embedding, blocks, final norm, head.
 *
 * A block is attention and an MLP (gated, plain or routed), with norms before each half, behind its
 * output, or behind its addition (see family.h for what varies).  Attention sees the whole batch;
 * the MLP passes it in slices of rows, so that its two wide activations stay in cache and the arena
 * stays small for long sequences.  Nothing is copied between operations: residual additions are the
 * `accumulate` of the products. */
#include "model/internal.h"
#include <stdlib.h>
#include <string.h>

enum {
    MLP_ROWS = 1024,        /* rows of a slice */
    LOGIT_BYTES = 4 << 20,  /* aim of one chunk of logits */
    LOGIT_MIN_ROWS = 64,    /* ... but never fewer rows, or the head is read too often */
    STREAM_BYTES = 64 << 20 /* hidden states that are kept while blocks stream past */
};

sqz_status device_failed(const model *m, sqz_status st, const char *what, sqz_error *err)
{
    return err_set(err, st, "backend %s: %s failed (%s)",
                   m->info.name[0] ? m->info.name : "of the model", what, err_name(st));
}

sqz_status progress(model *m, double done, const char *what, sqz_error *err)
{
    if (m->tick && m->tick(m->tick_ctx, m->tick_from + m->tick_span * done, what))
        return err_set(err, SQZ_E_CANCELLED, "%s: cancelled", what);
    return SQZ_OK;
}

sqz_status ids_check(const model *m, const int32_t *ids, int64_t n, sqz_error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocab)
            return err_set(err, ERR_MODEL,
                           "token id %d at position %lld is outside the vocabulary of %lld", ids[i],
                           (long long)i, (long long)m->config.vocab);
    return SQZ_OK;
}

/* ---- scratch --------------------------------------------------------------------------------- */
static int64_t place(int64_t *at, int64_t rows, int64_t width)
{
    int64_t offset = *at;
    *at += (rows * width * (int64_t)sizeof(float) + 63) / 64 * 64;
    return offset;
}

static sqz_status logits_ensure(model *m, sqz_error *err)
{
    if (m->logits) return SQZ_OK;
    int64_t row = m->config.vocab * (int64_t)sizeof(float), rows = LOGIT_BYTES / row;
    if (rows < LOGIT_MIN_ROWS) rows = LOGIT_MIN_ROWS;
    sqz_status st = m->hw->alloc(m->dev, rows * row, &m->logits);
    if (st) return device_failed(m, st, "memory for the logits", err);
    m->logit_rows = rows;
    return SQZ_OK;
}

sqz_status scratch_ensure(model *m, int64_t tokens, sqz_error *err)
{
    arena *a = &m->arena;
    sqz_status st = logits_ensure(m, err);
    if (st || tokens <= a->tokens) return st;
    const model_config *c = &m->config;
    int64_t rows = tokens < MLP_ROWS ? tokens : MLP_ROWS, at = 0;
    arena next = {.tokens = tokens, .mlp_rows = rows};
    place(&at, tokens, c->hidden);
    next.norm = place(&at, tokens, c->hidden);
    next.gate = at;
    next.up = at;
    int64_t mlp_end = at;
    int64_t wide = c->expert_ffn > c->ffn ? c->expert_ffn : c->ffn;
    next.gate = place(&mlp_end, rows, wide);
    next.up = place(&mlp_end, rows, wide);
    next.route = place(&mlp_end, rows, c->experts);
    next.routed = place(&mlp_end, c->experts ? rows : 0, c->hidden);
    next.q = place(&at, tokens, c->heads * c->head_dim);
    next.k = place(&at, tokens, c->kv_heads * c->head_dim);
    next.v = place(&at, tokens, c->kv_heads * c->head_dim);
    next.att = place(&at, tokens, c->heads * c->head_dim);
    if (a->handle) m->hw->release(m->dev, a->handle);
    *a = (arena){0};
    st = m->hw->alloc(m->dev, at > mlp_end ? at : mlp_end, &next.handle);
    if (st) return device_failed(m, st, "memory for the activations", err);
    *a = next;
    return SQZ_OK;
}

static sqz_mem region(const model *m, int64_t offset, int64_t row, int64_t width)
{
    return (sqz_mem){m->arena.handle, offset + row * width * (int64_t)sizeof(float)};
}

sqz_mem forward_region(const model *m, int64_t offset)
{
    return region(m, offset, 0, 0);
}

sqz_mem forward_x(const model *m, int64_t row)
{
    return region(m, 0, row, m->config.hidden);
}

sqz_mem forward_norm(const model *m, int64_t row)
{
    return region(m, m->arena.norm, row, m->config.hidden);
}

const float *device_read(model *m, const sqz_mem *src, int64_t n, sqz_error *err)
{
    sqz_status st = m->hw->sync(m->dev);
    uint8_t *seen = st ? NULL : m->hw->map(m->dev, src->handle);
    if (seen) return (const float *)(const void *)(seen + src->offset);
    int64_t bytes = n * (int64_t)sizeof(float);
    if (!st && bytes > m->bounce_bytes) {
        free(m->bounce);
        m->bounce = malloc((size_t)bytes);
        m->bounce_bytes = m->bounce ? bytes : 0;
        if (!m->bounce) st = SQZ_E_NOMEM;
    }
    if (!st) st = m->hw->download(m->dev, m->bounce, src, bytes);
    if (!st) return m->bounce;
    device_failed(m, st, "download", err);
    return NULL;
}

/* ---- batches --------------------------------------------------------------------------------- */
static int grow(void **array, int64_t n, size_t size)
{
    void *p = realloc(*array, (size_t)n * size);
    if (!p) return 0;
    *array = p;
    return 1;
}

sqz_status batch_begin(model *m, int64_t sequences, int64_t tokens, void *kv, sqz_error *err)
{
    batch *b = &m->batch;
    int ok = 1;
    if (sequences > b->cap_sequences) {
        ok = grow((void **)&b->first, sequences + 1, sizeof *b->first) &&
             grow((void **)&b->slot, sequences, sizeof *b->slot) &&
             grow((void **)&b->past, sequences, sizeof *b->past) &&
             grow((void **)&b->length, sequences, sizeof *b->length);
        if (ok) b->cap_sequences = sequences;
    }
    if (ok && tokens > b->cap_tokens) {
        ok = grow((void **)&b->ids, tokens, sizeof *b->ids) &&
             grow((void **)&b->position[0], tokens, sizeof **b->position) &&
             grow((void **)&b->position[1], tokens, sizeof **b->position);
        if (ok) b->cap_tokens = tokens;
    }
    if (!ok) return err_set(err, SQZ_E_NOMEM, "model: no memory for a batch");
    b->tokens = b->sequences = 0;
    b->first[0] = 0;
    b->kv = kv;
    return scratch_ensure(m, tokens, err);
}

void batch_add(batch *b, const int32_t *ids, int64_t n, int32_t slot, int64_t past, int64_t length)
{
    int64_t s = b->sequences++;
    if (ids) memcpy(b->ids + b->tokens, ids, (size_t)n * sizeof *ids);
    b->slot[s] = slot;
    b->past[s] = past;
    b->length[s] = length;
    b->tokens += n;
    b->first[s + 1] = b->tokens;
}

sqz_status batch_windows(model *m, const int32_t *ids, int64_t n, int64_t window, sqz_error *err)
{
    sqz_status st = batch_begin(m, n, n * window, NULL, err);
    for (int64_t i = 0; i < n && !st; i++)
        batch_add(&m->batch, ids ? ids + i * window : NULL, window, 0, 0, window);
    return st ? st : rope_prepare(m, &m->batch, err);
}

/* ---- one block ------------------------------------------------------------------------------- */
/* `at`: of the norm's weight in m->vectors. */
static sqz_status norm_rows(model *m, sqz_mem x, sqz_mem y, int64_t at, int64_t rows, int64_t n,
                            sqz_error *err)
{
    const model_config *c = &m->config;
    sqz_status st;
    if (c->family->norm_kind == NORM_KIND_LAYER) {
        sqz_op_layer_norm op = {.struct_size = sizeof op,
                                .rows = rows,
                                .n = n,
                                .x = x,
                                .y = y,
                                .weight = {m->vectors, at},
                                .bias = {m->vectors, at + vector_bytes(n)},
                                .eps = c->norm_eps};
        st = m->hw->layer_norm(m->dev, &op);
    } else {
        sqz_op_norm op = {.struct_size = sizeof op,
                          .rows = rows,
                          .n = n,
                          .x = x,
                          .y = y,
                          .weight = {m->vectors, at},
                          .eps = c->norm_eps};
        st = m->hw->norm(m->dev, &op);
    }
    return st ? device_failed(m, st, "norm", err) : SQZ_OK;
}

/* One of the block's norms over rows of the residual stream's width. */
static sqz_status block_norm(model *m, int64_t layer, norm_role role, sqz_mem x, sqz_mem y,
                             int64_t rows, sqz_error *err)
{
    return norm_rows(m, x, y, layer * m->layer_vectors + m->norm_offset[role], rows,
                     m->config.hidden, err);
}

sqz_status forward_linear(model *m, int64_t layer, int64_t slot, int64_t tokens, sqz_mem x,
                          sqz_mem y, int accumulate, sqz_error *err)
{
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = m->compute,
                        .packed = m->blocks[layer].pieces[slot].packed,
                        .tokens = tokens,
                        .x = x,
                        .y = y,
                        .accumulate = accumulate};
    if (slot < SLOT_EXPERT && m->bias_offset[slot] >= 0)
        op.bias = (sqz_mem){m->vectors, layer * m->layer_vectors + m->bias_offset[slot]};
    sqz_status st = m->hw->linear(m->dev, &op);
    return st ? device_failed(m, st, "linear", err) : SQZ_OK;
}

/* Norm of each head (when the family has it) and rotation, in place on queries or keys. */
static sqz_status rotate(model *m, int64_t layer, sqz_mem x, int64_t heads, norm_role role,
                         sqz_error *err)
{
    const model_config *c = &m->config;
    const batch *b = &m->batch;
    if (c->qk_norm) {
        sqz_status st = norm_rows(m, x, x, layer * m->layer_vectors + m->norm_offset[role],
                                  b->tokens * heads, c->head_dim, err);
        if (st) return st;
    }
    if (!c->rotary) return SQZ_OK;
    int table = c->local_theta > 0 && c->sliding[layer] ? ROPE_LOCAL : ROPE_FULL;
    sqz_op_rope op = {.struct_size = sizeof op,
                      .tokens = b->tokens,
                      .heads = heads,
                      .head_dim = c->head_dim,
                      .n = c->rotary,
                      .x = x,
                      .cosines = {m->rope[table].cosines, 0},
                      .sines = {m->rope[table].sines, 0},
                      .position = b->position[table]};
    sqz_status st = m->hw->rope(m->dev, &op);
    return st ? device_failed(m, st, "rope", err) : SQZ_OK;
}

static sqz_status attend(model *m, int64_t layer, sqz_error *err)
{
    const model_config *c = &m->config;
    const batch *b = &m->batch;
    const arena *a = &m->arena;
    sqz_mem q = region(m, a->q, 0, 0), k = region(m, a->k, 0, 0), v = region(m, a->v, 0, 0);
    if (b->kv) {
        sqz_op_kv_append op = {.struct_size = sizeof op,
                               .layer = (int32_t)layer,
                               .sequences = b->sequences,
                               .first = b->first,
                               .slot = b->slot,
                               .past = b->past,
                               .k = k,
                               .v = v,
                               .kv = b->kv};
        sqz_status st = m->hw->kv_append(m->dev, &op);
        if (st) return device_failed(m, st, "kv_append", err);
    }
    sqz_op_attend op = {.struct_size = sizeof op,
                        .layer = (int32_t)layer,
                        .sequences = b->sequences,
                        .first = b->first,
                        .slot = b->slot,
                        .past = b->past,
                        .heads = c->heads,
                        .kv_heads = c->kv_heads,
                        .head_dim = c->head_dim,
                        .window = c->sliding[layer] ? c->window : 0,
                        .scale = c->attn_scale / (c->attn_scale_by_layer ? (double)(layer + 1) : 1),
                        .softcap = c->attn_softcap,
                        .q = q,
                        .k = k,
                        .v = v,
                        .y = region(m, a->att, 0, 0),
                        .kv = b->kv};
    sqz_status st = m->hw->attend(m->dev, &op);
    return st ? device_failed(m, st, "attend", err) : SQZ_OK;
}

typedef struct hook {
    model_capture fn;
    void *ctx;
} hook;

static sqz_status captured(hook h, int64_t layer, const char *input, int64_t tokens, int64_t cols,
                           sqz_mem x, sqz_error *err)
{
    if (h.fn && h.fn(h.ctx, layer, input, tokens, cols, &x))
        return err_set(err, SQZ_E_CANCELLED, "block %lld: stopped while recording %s",
                       (long long)layer, input);
    return SQZ_OK;
}

/* The output of a half goes into the residual stream: at once, or through a norm of its own. */
static sqz_status add_output(model *m, int64_t layer, int64_t slot, norm_role post, int64_t n,
                             sqz_mem in, sqz_mem stage, sqz_mem x, sqz_error *err)
{
    const model_config *c = &m->config;
    if (!c->family->norms[post]) return forward_linear(m, layer, slot, n, in, x, 1, err);
    sqz_status st = forward_linear(m, layer, slot, n, in, stage, 0, err);
    if (!st) st = block_norm(m, layer, post, stage, stage, n, err);
    if (st) return st;
    st = m->hw->add(m->dev, n * c->hidden, &stage, &x);
    return st ? device_failed(m, st, "add", err) : SQZ_OK;
}

static sqz_status attention_half(model *m, int64_t layer, hook h, sqz_error *err)
{
    const model_config *c = &m->config;
    const arena *a = &m->arena;
    int64_t tokens = m->batch.tokens;
    sqz_mem x = forward_x(m, 0), n = forward_norm(m, 0), att = region(m, a->att, 0, 0);
    sqz_mem q = region(m, a->q, 0, 0), k = region(m, a->k, 0, 0), v = region(m, a->v, 0, 0);
    sqz_mem in = c->post_norm ? x : n;
    sqz_status st = c->post_norm ? SQZ_OK : block_norm(m, layer, NORM_ATTN, x, n, tokens, err);
    if (!st) st = captured(h, layer, "attn_in", tokens, c->hidden, in, err);
    if (!st) st = forward_linear(m, layer, SLOT_Q, tokens, in, q, 0, err);
    if (!st) st = forward_linear(m, layer, SLOT_K, tokens, in, k, 0, err);
    if (!st) st = forward_linear(m, layer, SLOT_V, tokens, in, v, 0, err);
    /* What the MLP reads beside attention must be taken before attention is added. */
    if (!st && c->parallel) st = block_norm(m, layer, NORM_MLP, x, n, tokens, err);
    if (!st) st = rotate(m, layer, q, c->heads, NORM_Q, err);
    if (!st) st = rotate(m, layer, k, c->kv_heads, NORM_K, err);
    if (!st) st = attend(m, layer, err);
    if (!st) st = captured(h, layer, "attn_out", tokens, c->heads * c->head_dim, att, err);
    if (!st) st = add_output(m, layer, SLOT_O, NORM_ATTN_POST, tokens, att, n, x, err);
    if (!st && c->post_norm) st = block_norm(m, layer, NORM_ATTN, x, x, tokens, err);
    return st;
}

/* in [n, hidden] to the MLP's middle, in the gate or the up region. */
static sqz_status mlp_middle(model *m, int64_t layer, int64_t n, sqz_mem in, sqz_mem *mid,
                             sqz_error *err)
{
    const model_config *c = &m->config;
    int gated = m->blocks[layer].pieces[SLOT_GATE].packed != NULL;
    sqz_mem gate = region(m, m->arena.gate, 0, 0), up = region(m, m->arena.up, 0, 0);
    sqz_status st = gated ? forward_linear(m, layer, SLOT_GATE, n, in, gate, 0, err) : SQZ_OK;
    if (!st) st = forward_linear(m, layer, SLOT_UP, n, in, up, 0, err);
    if (st) return st;
    *mid = gated ? gate : up;
    st = gated ? m->hw->gate(m->dev, c->act, n * c->ffn, &gate, &up, &gate)
               : m->hw->activate(m->dev, c->act, n * c->ffn, &up, &up);
    return st ? device_failed(m, st, "activation", err) : SQZ_OK;
}

/* Rows row .. row + n - 1 of the batch through the MLP. */
static sqz_status mlp_slice(model *m, int64_t layer, int64_t row, int64_t n, hook h, sqz_error *err)
{
    const model_config *c = &m->config;
    sqz_mem x = forward_x(m, row), y = forward_norm(m, row), in = c->post_norm ? x : y, mid;
    sqz_status st = c->post_norm || c->parallel
                        ? SQZ_OK /* the normed input is there, or is not wanted */
                        : block_norm(m, layer, NORM_MLP, x, y, n, err);
    if (st) return st;
    if (c->sparse && c->sparse[layer]) return experts_forward(m, layer, n, in, x, h.fn, h.ctx, err);
    st = captured(h, layer, "mlp_in", n, c->hidden, in, err);
    if (!st) st = mlp_middle(m, layer, n, in, &mid, err);
    if (!st) st = captured(h, layer, "mlp_mid", n, c->ffn, mid, err);
    if (!st) st = add_output(m, layer, SLOT_DOWN, NORM_MLP_POST, n, mid, y, x, err);
    if (!st && c->post_norm) st = block_norm(m, layer, NORM_MLP, x, x, n, err);
    return st;
}

sqz_status forward_block(model *m, int64_t layer, model_capture capture, void *ctx, sqz_error *err)
{
    hook h = {capture, ctx};
    sqz_status st = attention_half(m, layer, h, err);
    int64_t tokens = m->batch.tokens, rows = m->arena.mlp_rows;
    for (int64_t row = 0; row < tokens && !st; row += rows)
        st = mlp_slice(m, layer, row, tokens - row < rows ? tokens - row : rows, h, err);
    if (st) err_prefix(err, "block %lld", (long long)layer);
    return st;
}

/* ---- whole model ----------------------------------------------------------------------------- */
/* position: rows of the learned table, NULL without one. */
static sqz_status embed(model *m, const int32_t *ids, const int32_t *position, int64_t tokens,
                        sqz_error *err)
{
    sqz_mem x = forward_x(m, 0), y = forward_norm(m, 0);
    int64_t width = m->config.hidden;
    sqz_status st = ids_check(m, ids, tokens, err);
    if (st) return st;
    st = m->hw->embed(m->dev, m->embed.data, m->embed.dtype, width, ids, tokens, &x);
    if (!st && m->embed_scale != 1) st = m->hw->scale(m->dev, tokens * width, m->embed_scale, &x);
    if (!st && position) {
        st = m->hw->embed(m->dev, m->positions.data, m->positions.dtype, width, position, tokens,
                          &y);
        if (!st) st = m->hw->add(m->dev, tokens * width, &y, &x);
    }
    return st ? device_failed(m, st, "embed", err) : SQZ_OK;
}

sqz_status forward_batch(model *m, sqz_error *err)
{
    batch *b = &m->batch;
    sqz_status st = rope_prepare(m, b, err);
    if (!st && m->hw->begin) {
        st = m->hw->begin(m->dev);
        if (st) return device_failed(m, st, "begin", err);
    }
    if (!st) st = embed(m, b->ids, m->config.rotary ? NULL : b->position[0], b->tokens, err);
    for (int64_t l = 0; l < m->config.layers && !st; l++) {
        st = block_acquire(m, l, err);
        if (!st) st = forward_block(m, l, NULL, NULL, err);
        block_release(m, l);
    }
    return st;
}

sqz_status final_norm(model *m, const sqz_mem *from, const sqz_mem *to, int64_t rows,
                      sqz_error *err)
{
    const model_config *c = &m->config;
    int64_t bytes = rows * c->hidden * (int64_t)sizeof(float);
    if (c->final_norm)
        return norm_rows(m, *from, *to, c->layers * m->layer_vectors, rows, c->hidden, err);
    if (from->handle == to->handle && from->offset == to->offset) return SQZ_OK;
    const float *seen = device_read(m, from, rows * c->hidden, err);
    if (!seen) return SQZ_E_DEVICE;
    sqz_status st = m->hw->upload(m->dev, to, seen, bytes);
    return st ? device_failed(m, st, "upload", err) : SQZ_OK;
}

sqz_status head_logits(model *m, const sqz_mem *states, int64_t rows, sqz_error *err)
{
    const model_config *c = &m->config;
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = m->compute,
                        .packed = m->head,
                        .tokens = rows,
                        .x = *states,
                        .y = {m->logits, 0}};
    sqz_status st = m->hw->linear(m->dev, &op);
    if (!st && c->final_softcap > 0)
        st = m->hw->softcap(m->dev, rows * c->vocab, c->final_softcap, &op.y);
    return st ? device_failed(m, st, "output head", err) : SQZ_OK;
}

sqz_status gather_rows(model *m, const int64_t *rows, int64_t n, sqz_error *err)
{
    sqz_mem x = forward_x(m, 0), all = forward_norm(m, 0);
    sqz_status st = m->hw->gather(m->dev, n, m->config.hidden, rows, &x, &all);
    if (st) return device_failed(m, st, "gather", err);
    return final_norm(m, &all, &all, n, err);
}

/* Rows of the learned table for tokens at .. at + n - 1 of windows that follow one another. */
static sqz_status window_positions(const model *m, int64_t at, int64_t n, int64_t window,
                                   int32_t *out, sqz_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t position = (at + i) % window;
        sqz_status st = learned_check(m, position, err);
        if (st) return st;
        out[i] = (int32_t)(position + m->config.family->position_offset);
    }
    return SQZ_OK;
}

sqz_status model_embed(model *m, const int32_t *ids, int64_t windows, int64_t window, float *hidden,
                       sqz_error *err)
{
    int64_t width = m->config.hidden, tokens = windows * window;
    for (int64_t at = 0; at < tokens; at += m->batch_tokens) {
        int64_t n = tokens - at < m->batch_tokens ? tokens - at : m->batch_tokens;
        sqz_status st = batch_begin(m, 1, n, NULL, err);
        int32_t *position = m->config.rotary ? NULL : m->batch.position[0];
        if (!st && position) st = window_positions(m, at, n, window, position, err);
        if (!st) st = embed(m, ids + at, position, n, err);
        if (st) return st;
        sqz_mem x = forward_x(m, 0);
        st = m->hw->download(m->dev, hidden + at * width, &x, n * width * (int64_t)sizeof(float));
        if (st) return device_failed(m, st, "download", err);
    }
    if (!m->resident && !m->embed_owned)
        file_map_drop(m->embed.data, m->embed.rows * m->embed.cols * element_bytes(m->embed.dtype));
    return SQZ_OK;
}

static int64_t windows_at_once(const model *m, int64_t window)
{
    return window < m->batch_tokens ? m->batch_tokens / window : 1;
}

static sqz_status block_chunk(model *m, int64_t layer, int64_t n, int64_t window, float *hidden,
                              model_capture capture, void *ctx, sqz_error *err)
{
    int64_t bytes = n * window * m->config.hidden * (int64_t)sizeof(float);
    sqz_status st = batch_windows(m, NULL, n, window, err);
    if (st) return st;
    sqz_mem x = forward_x(m, 0);
    st = m->hw->upload(m->dev, &x, hidden, bytes);
    if (st) return device_failed(m, st, "upload", err);
    st = forward_block(m, layer, capture, ctx, err);
    if (st) return st;
    st = m->hw->download(m->dev, hidden, &x, bytes);
    return st ? device_failed(m, st, "download", err) : SQZ_OK;
}

sqz_status model_block(model *m, int64_t layer, int64_t windows, int64_t window, float *hidden,
                       model_capture capture, void *ctx, sqz_error *err)
{
    if (layer < 0 || layer >= m->config.layers || windows < 0 || window < 1)
        return err_set(err, SQZ_E_INVALID, "model_block: layer %lld, %lld windows of %lld",
                       (long long)layer, (long long)windows, (long long)window);
    int64_t step = windows_at_once(m, window);
    sqz_status st = block_acquire(m, layer, err);
    for (int64_t i = 0; i < windows && !st; i += step) {
        int64_t n = windows - i < step ? windows - i : step;
        st = block_chunk(m, layer, n, window, hidden + i * window * m->config.hidden, capture, ctx,
                         err);
        if (!st) st = progress(m, (double)(i + n) / (double)windows, "block", err);
    }
    block_release(m, layer);
    return st;
}

/* ---- many windows ---------------------------------------------------------------------------- */
static sqz_status run_resident(model *m, const int32_t *ids, int64_t n, int64_t window,
                               window_sink sink, void *ctx, const char *what, sqz_error *err)
{
    int64_t step = windows_at_once(m, window);
    for (int64_t i = 0; i < n; i += step) {
        int64_t count = n - i < step ? n - i : step;
        sqz_status st = batch_windows(m, ids + i * window, count, window, err);
        if (!st) st = forward_batch(m, err);
        if (!st) st = sink(m, ctx, i, count, err);
        if (!st) st = progress(m, (double)(i + count) / (double)n, what, err);
        if (st) return st;
    }
    return SQZ_OK;
}

/* Windows from .. from + n - 1 through all blocks, one block in memory at a time. */
static sqz_status run_group(model *m, const int32_t *ids, int64_t from, int64_t n, int64_t window,
                            float *hidden, window_sink sink, void *ctx, sqz_error *err)
{
    double outer_from = m->tick_from, outer_span = m->tick_span;
    int64_t layers = m->config.layers, width = m->config.hidden;
    sqz_status st = model_embed(m, ids + from * window, n, window, hidden, err);
    for (int64_t l = 0; l < layers && !st; l++) {
        m->tick_span = outer_span / (double)layers;
        m->tick_from = outer_from + m->tick_span * (double)l;
        st = model_block(m, l, n, window, hidden, NULL, NULL, err);
    }
    m->tick_from = outer_from;
    m->tick_span = outer_span;
    int64_t step = windows_at_once(m, window);
    for (int64_t i = 0; i < n && !st; i += step) {
        int64_t count = n - i < step ? n - i : step;
        sqz_mem x = forward_x(m, 0);
        st = m->hw->upload(m->dev, &x, hidden + i * window * width,
                           count * window * width * (int64_t)sizeof(float));
        if (st) return device_failed(m, st, "upload", err);
        st = sink(m, ctx, from + i, count, err);
    }
    return st;
}

static sqz_status run_streaming(model *m, const int32_t *ids, int64_t n, int64_t window,
                                window_sink sink, void *ctx, sqz_error *err)
{
    int64_t bytes = window * m->config.hidden * (int64_t)sizeof(float);
    int64_t group = STREAM_BYTES / bytes;
    if (group < windows_at_once(m, window)) group = windows_at_once(m, window);
    if (group > n) group = n;
    float *hidden = malloc((size_t)(group * bytes));
    if (!hidden)
        return err_set(err, SQZ_E_NOMEM, "model: no memory for the hidden states of %lld windows",
                       (long long)group);
    double outer_from = m->tick_from, outer_span = m->tick_span;
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st; i += group) {
        int64_t count = n - i < group ? n - i : group;
        m->tick_from = outer_from + outer_span * (double)i / (double)n;
        m->tick_span = outer_span * (double)count / (double)n;
        st = run_group(m, ids, i, count, window, hidden, sink, ctx, err);
    }
    m->tick_from = outer_from;
    m->tick_span = outer_span;
    free(hidden);
    return st;
}

sqz_status windows_run(model *m, const int32_t *ids, int64_t n, int64_t window, window_sink sink,
                       void *ctx, const char *what, sqz_error *err)
{
    if (n < 0 || window < 1)
        return err_set(err, SQZ_E_INVALID, "%s: %lld windows of %lld tokens", what, (long long)n,
                       (long long)window);
    sqz_status st = ids_check(m, ids, n * window, err);
    if (!st) st = head_acquire(m, err);
    if (!st && n)
        st = m->resident ? run_resident(m, ids, n, window, sink, ctx, what, err)
                         : run_streaming(m, ids, n, window, sink, ctx, err);
    head_release(m);
    return st;
}
