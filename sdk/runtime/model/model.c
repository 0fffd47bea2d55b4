/* model.c - opening and closing a model, and what it costs to read. */
#include "model/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BATCH_TOKENS = 2048, MAX_BATCH_TOKENS = 1 << 20 };

/* Rows of the backend's table that the forward cannot do without. */
static const char *missing_operation(const sqz_hardware *hw)
{
    const struct {
        int there;
        const char *name;
    } need[] = {{hw->alloc != NULL, "alloc"},       {hw->release != NULL, "release"},
                {hw->upload != NULL, "upload"},     {hw->download != NULL, "download"},
                {hw->sync != NULL, "sync"},         {hw->map != NULL, "map"},
                {hw->pack != NULL, "pack"},         {hw->packed_free != NULL, "packed_free"},
                {hw->linear != NULL, "linear"},     {hw->embed != NULL, "embed"},
                {hw->norm != NULL, "norm"},         {hw->rope != NULL, "rope"},
                {hw->attend != NULL, "attend"},     {hw->gate != NULL, "gate"},
                {hw->score != NULL, "score"},       {hw->kv_new != NULL, "kv_new"},
                {hw->kv_free != NULL, "kv_free"},   {hw->kv_append != NULL, "kv_append"},
                {hw->describe != NULL, "describe"}, {hw->packed_bytes != NULL, "packed_bytes"},
                {hw->add != NULL, "add"},           {hw->layer_norm != NULL, "layer_norm"},
                {hw->scale != NULL, "scale"},       {hw->activate != NULL, "activate"},
                {hw->gather != NULL, "gather"},     {hw->softcap != NULL, "softcap"},
                {hw->scatter != NULL, "scatter"}};
    for (size_t i = 0; i < sizeof need / sizeof *need; i++)
        if (!need[i].there) return need[i].name;
    return NULL;
}

static sqz_status open_options(model *m, const model_options *o, sqz_error *err)
{
    const char *missing = missing_operation(o->device.hw);
    if (missing)
        return err_set(err, SQZ_E_UNSUPPORTED, "model: the hardware backend has no %s", missing);
    if (o->compute != SQZ_F32 && o->compute != SQZ_BF16)
        return err_set(err, SQZ_E_INVALID, "model: compute is %d, neither F32 nor BF16",
                       o->compute);
    if (o->batch_tokens < 0 || o->batch_tokens > MAX_BATCH_TOKENS)
        return err_set(err, SQZ_E_INVALID, "model: batch_tokens is %lld; it must be 0 to %d",
                       (long long)o->batch_tokens, MAX_BATCH_TOKENS);
    m->hw = o->device.hw;
    m->dev = o->device.dev;
    m->overlay = o->overlay;
    m->compute = o->compute;
    m->batch_tokens = o->batch_tokens ? o->batch_tokens : DEFAULT_BATCH_TOKENS;
    m->resident = o->resident;
    m->tick_span = 1;
    m->info.struct_size = sizeof m->info;
    sqz_status st = m->hw->describe(m->dev, &m->info);
    return st ? device_failed(m, st, "describe", err) : SQZ_OK;
}

static float bf16_value(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static sqz_status open_parts(model *m, const model_options *o, sqz_error *err)
{
    sqz_status st = open_options(m, o, err);
    if (!st) st = model_config_parse(m->ck->config_text, "config.json", &m->config, err);
    if (st) return st;
    if (m->config.quant_method[0] && !m->overlay)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: the weights are quantized (quant_method %s); open the folder with a "
                       "format plugin that reads it",
                       m->ck->dir, m->config.quant_method);
    if (m->config.attn_softcap > 0 && !(m->hw->features & SQZ_HARDWARE_SOFTCAP))
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "model: backend %s is older than soft-capped attention, which family %s "
                       "needs",
                       m->info.name, m->config.family->type);
    model_config_bind(&m->config, m->ck);
    m->blocks = calloc((size_t)m->config.layers, sizeof *m->blocks);
    if (!m->blocks) return err_set(err, SQZ_E_NOMEM, "model: no memory for its blocks");
    st = weights_check(m, err);
    if (!st) st = weights_vectors(m, err);
    if (!st) st = rope_open(m, err);
    m->embed_scale = m->config.family->embed_scaled ? sqrt((double)m->config.hidden) : 1;
    if (m->compute == SQZ_BF16) /* as transformers does when it computes in that dtype */
        m->embed_scale = (double)bf16_value(f32_to_bf16((float)m->embed_scale));
    for (int64_t l = 0; l < m->config.layers && !st && m->resident; l++)
        st = block_acquire(m, l, err);
    return st;
}

sqz_status model_open(const checkpoint *ck, const model_options *o, model **out, sqz_error *err)
{
    model *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, SQZ_E_NOMEM, "model: out of memory");
    m->ck = ck;
    sqz_status st = open_parts(m, o, err);
    if (st)
        model_close(m);
    else
        *out = m;
    return st;
}

void model_close(model *m)
{
    if (!m) return;
    for (int64_t l = 0; m->blocks && l < m->config.layers; l++) block_drop(m, l);
    head_drop(m);
    rope_close(m);
    if (m->vectors) m->hw->release(m->dev, m->vectors);
    if (m->arena.handle) m->hw->release(m->dev, m->arena.handle);
    if (m->logits) m->hw->release(m->dev, m->logits);
    free(m->blocks);
    free(m->embed_owned);
    free(m->positions_owned);
    free(m->head_owned);
    free(m->bounce);
    free(m->batch.first);
    free(m->batch.slot);
    free(m->batch.past);
    free(m->batch.length);
    free(m->batch.ids);
    for (int i = 0; i < ROPE_TABLES; i++) free(m->batch.position[i]);
    experts_close(m);
    model_config_free(&m->config);
    free(m);
}

const model_config *model_get_config(const model *m)
{
    return &m->config;
}

/* Of one loaded block; of its experts the share that a token meets. */
static int64_t block_bytes(model *m, const block *b)
{
    int64_t bytes = 0, experts = 0;
    for (int64_t i = 0, n = family_slots(&m->config); i < n; i++) {
        if (!b->pieces[i].packed) continue;
        int64_t one = m->hw->packed_bytes(m->dev, b->pieces[i].packed);
        *(i < SLOT_EXPERT ? &bytes : &experts) += one;
    }
    if (m->config.experts)
        bytes += (int64_t)((double)experts * (double)m->config.experts_per_token /
                           (double)m->config.experts);
    return bytes;
}

int64_t model_weight_bytes(model *m)
{
    if (m->weight_bytes) return m->weight_bytes;
    int64_t bytes = 0;
    for (int64_t l = 0; l < m->config.layers; l++) {
        if (block_acquire(m, l, NULL)) return 0;
        bytes += block_bytes(m, &m->blocks[l]);
        block_release(m, l);
    }
    if (head_acquire(m, NULL)) return 0;
    bytes += m->hw->packed_bytes(m->dev, m->head);
    head_release(m);
    m->weight_bytes = bytes;
    return bytes;
}

void model_set_tick(model *m, int (*tick)(void *ctx, double done, const char *what), void *ctx)
{
    m->tick = tick;
    m->tick_ctx = ctx;
}
