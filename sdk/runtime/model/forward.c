/* forward.c - the one forward of all families: embedding, blocks, final norm, head.
 *
 * A block is pre-norm attention and a gated MLP (see family.h for what varies).  Attention sees the
 * whole batch; the MLP passes it in slices of rows, so that its two wide activations stay in cache
 * and the arena stays small for long sequences.  Nothing is copied between operations: residual
 * additions are the `accumulate` of the products. */
#include "model/internal.h"
#include <math.h>
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
    next.gate = place(&mlp_end, rows, c->ffn);
    next.up = place(&mlp_end, rows, c->ffn);
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
             grow((void **)&b->position, tokens, sizeof *b->position);
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
static sqz_mem norm_weight(const model *m, int64_t layer, norm_role role)
{
    return (sqz_mem){m->vectors, layer * m->layer_vectors + m->norm_offset[role]};
}

static sqz_status norm_rows(model *m, sqz_mem x, sqz_mem y, sqz_mem weight, int64_t rows, int64_t n,
                            sqz_error *err)
{
    sqz_op_norm op = {.struct_size = sizeof op,
                      .rows = rows,
                      .n = n,
                      .x = x,
                      .y = y,
                      .weight = weight,
                      .eps = m->config.norm_eps};
    sqz_status st = m->hw->norm(m->dev, &op);
    return st ? device_failed(m, st, "norm", err) : SQZ_OK;
}

static sqz_status linear(model *m, int64_t layer, int role, int64_t tokens, sqz_mem x, sqz_mem y,
                         int accumulate, sqz_error *err)
{
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = m->compute,
                        .packed = m->blocks[layer].packed[role],
                        .tokens = tokens,
                        .x = x,
                        .y = y,
                        .accumulate = accumulate};
    if (m->bias_offset[role] >= 0)
        op.bias = (sqz_mem){m->vectors, layer * m->layer_vectors + m->bias_offset[role]};
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
        sqz_status st =
            norm_rows(m, x, x, norm_weight(m, layer, role), b->tokens * heads, c->head_dim, err);
        if (st) return st;
    }
    sqz_op_rope op = {.struct_size = sizeof op,
                      .tokens = b->tokens,
                      .heads = heads,
                      .head_dim = c->head_dim,
                      .n = c->head_dim,
                      .x = x,
                      .cosines = {m->rope.cosines, 0},
                      .sines = {m->rope.sines, 0},
                      .position = b->position};
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
                        .scale = 1 / sqrt((double)c->head_dim),
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

static sqz_status attention_half(model *m, int64_t layer, hook h, sqz_error *err)
{
    const model_config *c = &m->config;
    const arena *a = &m->arena;
    int64_t tokens = m->batch.tokens;
    sqz_mem x = forward_x(m, 0), n = forward_norm(m, 0), att = region(m, a->att, 0, 0);
    sqz_mem q = region(m, a->q, 0, 0), k = region(m, a->k, 0, 0), v = region(m, a->v, 0, 0);
    sqz_status st = norm_rows(m, x, n, norm_weight(m, layer, NORM_ATTN), tokens, c->hidden, err);
    if (!st) st = captured(h, layer, "attn_in", tokens, c->hidden, n, err);
    if (!st) st = linear(m, layer, ROLE_Q, tokens, n, q, 0, err);
    if (!st) st = linear(m, layer, ROLE_K, tokens, n, k, 0, err);
    if (!st) st = linear(m, layer, ROLE_V, tokens, n, v, 0, err);
    if (!st) st = rotate(m, layer, q, c->heads, NORM_Q, err);
    if (!st) st = rotate(m, layer, k, c->kv_heads, NORM_K, err);
    if (!st) st = attend(m, layer, err);
    if (!st) st = captured(h, layer, "attn_out", tokens, c->heads * c->head_dim, att, err);
    if (!st) st = linear(m, layer, ROLE_O, tokens, att, x, 1, err);
    return st;
}

/* Rows row .. row + n - 1 of the batch through the MLP. */
static sqz_status mlp_slice(model *m, int64_t layer, int64_t row, int64_t n, hook h, sqz_error *err)
{
    const model_config *c = &m->config;
    sqz_mem x = forward_x(m, row), y = forward_norm(m, row);
    sqz_mem gate = region(m, m->arena.gate, 0, 0), up = region(m, m->arena.up, 0, 0);
    sqz_status st = norm_rows(m, x, y, norm_weight(m, layer, NORM_MLP), n, c->hidden, err);
    if (!st) st = captured(h, layer, "mlp_in", n, c->hidden, y, err);
    if (!st) st = linear(m, layer, ROLE_GATE, n, y, gate, 0, err);
    if (!st) st = linear(m, layer, ROLE_UP, n, y, up, 0, err);
    if (st) return st;
    st = m->hw->gate(m->dev, c->act, n * c->ffn, &gate, &up, &gate);
    if (st) return device_failed(m, st, "gate", err);
    st = captured(h, layer, "mlp_mid", n, c->ffn, gate, err);
    return st ? st : linear(m, layer, ROLE_DOWN, n, gate, x, 1, err);
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
static sqz_status embed(model *m, const int32_t *ids, int64_t tokens, sqz_error *err)
{
    sqz_mem x = forward_x(m, 0);
    sqz_status st = ids_check(m, ids, tokens, err);
    if (st) return st;
    st = m->hw->embed(m->dev, m->embed.data, m->embed.dtype, m->config.hidden, ids, tokens, &x);
    return st ? device_failed(m, st, "embed", err) : SQZ_OK;
}

sqz_status forward_batch(model *m, sqz_error *err)
{
    sqz_status st = embed(m, m->batch.ids, m->batch.tokens, err);
    if (!st) st = rope_prepare(m, &m->batch, err);
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
    sqz_mem weight = {m->vectors, m->config.layers * m->layer_vectors};
    return norm_rows(m, *from, *to, weight, rows, m->config.hidden, err);
}

sqz_status head_logits(model *m, const sqz_mem *states, int64_t rows, sqz_error *err)
{
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = m->compute,
                        .packed = m->head,
                        .tokens = rows,
                        .x = *states,
                        .y = {m->logits, 0}};
    sqz_status st = m->hw->linear(m->dev, &op);
    return st ? device_failed(m, st, "output head", err) : SQZ_OK;
}

sqz_status gather_rows(model *m, const int64_t *rows, int64_t n, sqz_error *err)
{
    int64_t width = m->config.hidden, bytes = width * (int64_t)sizeof(float);
    for (int64_t i = 0; i < n;) {
        int64_t run = 1;
        while (i + run < n && rows[i + run] == rows[i] + run) run++;
        sqz_mem from = forward_x(m, rows[i]), to = forward_norm(m, i);
        const float *seen = device_read(m, &from, run * width, err);
        if (!seen) return SQZ_E_DEVICE;
        sqz_status st = m->hw->upload(m->dev, &to, seen, run * bytes);
        if (st) return device_failed(m, st, "upload", err);
        i += run;
    }
    sqz_mem all = forward_norm(m, 0);
    return final_norm(m, &all, &all, n, err);
}

sqz_status model_embed(model *m, const int32_t *ids, int64_t tokens, float *hidden, sqz_error *err)
{
    int64_t width = m->config.hidden;
    for (int64_t at = 0; at < tokens; at += m->batch_tokens) {
        int64_t n = tokens - at < m->batch_tokens ? tokens - at : m->batch_tokens;
        sqz_status st = scratch_ensure(m, n, err);
        if (!st) st = embed(m, ids + at, n, err);
        if (st) return st;
        sqz_mem x = forward_x(m, 0);
        st = m->hw->download(m->dev, hidden + at * width, &x, n * width * (int64_t)sizeof(float));
        if (st) return device_failed(m, st, "download", err);
    }
    if (!m->resident && !m->embed_owned)
        file_map_drop(m->embed.data,
                      m->embed.rows * m->embed.cols * (m->embed.dtype == SQZ_F32 ? 4 : 2));
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
    sqz_status st = model_embed(m, ids + from * window, n * window, hidden, err);
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
