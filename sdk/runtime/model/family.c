/* family.c - the table of model families, and what follows from it: names, shapes, counts.
 *
 * Adding a family whose block is pre-norm attention and a gated MLP is one row here.  Left out:
 * families with other blocks (gemma, phi3, gpt2, ...), which config.c refuses by name. */
#include "model/family.h"
#include <stdio.h>
#include <string.h>

static const model_family families[] = {
    {.type = "llama",
     .architecture = "LlamaForCausalLM",
     .vocab = 32000,
     .hidden = 4096,
     .ffn = 11008,
     .layers = 32,
     .heads = 32,
     .context = 2048,
     .norm_eps = 1e-6,
     .bos = 1,
     .eos = 2,
     .act = SQZ_ACT_SILU,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .mlp_bias = BIAS_CONFIG,
     .window_rule = WINDOW_NEVER},
    {.type = "mistral",
     .architecture = "MistralForCausalLM",
     .vocab = 32000,
     .hidden = 4096,
     .ffn = 14336,
     .layers = 32,
     .heads = 32,
     .kv_heads = 8,
     .context = 131072,
     .window = 4096,
     .norm_eps = 1e-6,
     .bos = 1,
     .eos = 2,
     .act = SQZ_ACT_SILU,
     .window_rule = WINDOW_ALL},
    {.type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .vocab = 151936,
     .hidden = 4096,
     .ffn = 22016,
     .layers = 32,
     .heads = 32,
     .kv_heads = 32,
     .context = 32768,
     .window = 4096,
     .max_window_layers = 28,
     .norm_eps = 1e-6,
     .bos = -1,
     .eos = -1,
     .act = SQZ_ACT_SILU,
     .qkv_bias = BIAS_ALWAYS,
     .window_rule = WINDOW_FLAGGED},
    {.type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .vocab = 151936,
     .hidden = 4096,
     .ffn = 22016,
     .layers = 32,
     .heads = 32,
     .kv_heads = 32,
     .head_dim = 128,
     .context = 32768,
     .window = 4096,
     .max_window_layers = 28,
     .norm_eps = 1e-6,
     .bos = -1,
     .eos = -1,
     .act = SQZ_ACT_SILU,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .window_rule = WINDOW_FLAGGED,
     .qk_norm = 1},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const char family_embed_name[] = "model.embed_tokens.weight";
const char family_final_norm_name[] = "model.norm.weight";
const char family_head_name[] = "lm_head.weight";

const model_family *family_find(const char *model_type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (!strcmp(families[i].type, model_type)) return &families[i];
    return NULL;
}

void family_list(char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < N_FAMILIES && used < bytes; i++)
        used +=
            (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", families[i].type);
}

const char *family_norm_suffix(norm_role role)
{
    static const char *const suffix[NORM_COUNT] = {
        [NORM_ATTN] = "input_layernorm.weight",
        [NORM_MLP] = "post_attention_layernorm.weight",
        [NORM_Q] = "self_attn.q_norm.weight",
        [NORM_K] = "self_attn.k_norm.weight",
    };
    return suffix[role];
}

int64_t family_norm_width(const model_config *c, norm_role role)
{
    if (role == NORM_ATTN || role == NORM_MLP) return c->hidden;
    return c->qk_norm ? c->head_dim : 0;
}

/* ---- linears --------------------------------------------------------------------------------- */
int model_linears(const model_config *c, int64_t layer, linear_spec out[MODEL_MAX_LINEARS])
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        const char *suffix, *role, *input;
        int64_t rows, cols;
        int bias;
    } rows[ROLE_COUNT] = {
        [ROLE_Q] = {"self_attn.q_proj", "q", "attn_in", q, c->hidden, c->qkv_bias},
        [ROLE_K] = {"self_attn.k_proj", "k", "attn_in", kv, c->hidden, c->qkv_bias},
        [ROLE_V] = {"self_attn.v_proj", "v", "attn_in", kv, c->hidden, c->qkv_bias},
        [ROLE_O] = {"self_attn.o_proj", "o", "attn_out", c->hidden, q, c->o_bias},
        [ROLE_GATE] = {"mlp.gate_proj", "gate", "mlp_in", c->ffn, c->hidden, c->mlp_bias},
        [ROLE_UP] = {"mlp.up_proj", "up", "mlp_in", c->ffn, c->hidden, c->mlp_bias},
        [ROLE_DOWN] = {"mlp.down_proj", "down", "mlp_mid", c->hidden, c->ffn, c->mlp_bias},
    };
    for (int i = 0; i < ROLE_COUNT; i++) {
        snprintf(out[i].module, sizeof out[i].module, "model.layers.%lld.%s", (long long)layer,
                 rows[i].suffix);
        out[i].role = rows[i].role;
        out[i].input = rows[i].input;
        out[i].rows = rows[i].rows;
        out[i].cols = rows[i].cols;
        out[i].has_bias = rows[i].bias;
    }
    return ROLE_COUNT;
}

int64_t model_moment_bytes(const model_config *c)
{
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(c, 0, spec);
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        int known = 0;
        for (int k = 0; k < i; k++) known |= strcmp(spec[k].input, spec[i].input) == 0;
        if (!known) bytes += 4 * (spec[i].cols * (spec[i].cols + 1) / 2);
    }
    return bytes * c->layers;
}

int64_t model_parameters(const model_config *c, int64_t *in_block_linears)
{
    linear_spec spec[MODEL_MAX_LINEARS];
    int n = model_linears(c, 0, spec);
    int64_t linears = 0, small = 0;
    for (int i = 0; i < n; i++) {
        linears += spec[i].rows * spec[i].cols;
        if (spec[i].has_bias) small += spec[i].rows;
    }
    for (int r = 0; r < NORM_COUNT; r++) small += family_norm_width(c, (norm_role)r);
    if (in_block_linears) *in_block_linears = linears * c->layers;
    int64_t table = c->vocab * c->hidden;
    return (linears + small) * c->layers + table * (c->tied ? 1 : 2) + c->hidden;
}
