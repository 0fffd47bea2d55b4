/* config.c - config.json to model_config, in the spelling of transformers 5 (rope_parameters,
 * dtype) and the older one (rope_theta, rope_scaling, torch_dtype).
 *
 * The file is untrusted: each number is checked against a range in which later sizes cannot
 * overflow, and a wrong type is an error rather than a default.  Absent keys take the class default
 * of the family (family.c).  Left out: what a family cannot do is refused by name. */
#include "model/config_read.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- family ---------------------------------------------------------------------------------- */
static void read_family(reader *r, const cJSON *root, model_config *c)
{
    char known[512];
    family_list(known, sizeof known);
    const char *type = key_text(r, root, "model_type");
    if (r->status) return;
    if (!type) {
        key_reject(r, NULL, "model_type is missing; known families: %s", known);
        return;
    }
    c->family = family_find(type);
    if (!c->family) {
        key_reject(r, json_get(root, "model_type"),
                   "model family \"%.64s\" is not known; known families: %s", type, known);
        return;
    }
    const char *arch = c->family->architecture;
    const cJSON *list = key_present(root, "architectures");
    const cJSON *first = list && cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
    if (list && !first && !(cJSON_IsArray(list) && !cJSON_GetArraySize(list))) {
        key_reject(r, list, "architectures is not a list of names");
        return;
    }
    /* Early files write LLaMAForCausalLM. */
    if (first && (!cJSON_IsString(first) || strcasecmp(first->valuestring, arch)))
        key_reject(r, first, "architecture \"%.64s\" is not built; of family %s only %s is",
                   cJSON_IsString(first) ? first->valuestring : "?", type, arch);
    snprintf(c->architecture, sizeof c->architecture, "%s", arch);
}

/* Group sizes of attention; a family without the keys has as many key heads as query heads. */
static void read_heads(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->heads = key_int(r, root, family_key_name(c, KEY_HEADS), f->heads, 1, MAX_HEADS);
    /* A default that belongs to the class's own head count makes no sense for another one. */
    int64_t kv = f->kv_heads && f->kv_heads <= c->heads ? f->kv_heads : c->heads;
    const cJSON *kv_item = json_get(root, "num_key_value_heads");
    if (kv_item && cJSON_IsNull(kv_item)) kv = c->heads;
    c->kv_heads =
        f->ungrouped ? c->heads : key_int(r, root, "num_key_value_heads", kv, 1, MAX_HEADS);
    int64_t dim = f->ungrouped ? 0 : key_int(r, root, "head_dim", f->head_dim, 1, MAX_HEAD_DIM);
    if (r->status) return;
    if (!dim && c->hidden % c->heads) {
        key_reject(r, json_get(root, family_key_name(c, KEY_HIDDEN)),
                   "%s %lld is not a multiple of %s %lld%s", family_key_name(c, KEY_HIDDEN),
                   (long long)c->hidden, family_key_name(c, KEY_HEADS), (long long)c->heads,
                   f->ungrouped ? "" : ", and head_dim is not given");
        return;
    }
    c->head_dim = dim ? dim : c->hidden / c->heads;
    if ((f->position_kind == POSITIONS_ROTARY && c->head_dim % 2) || c->head_dim > MAX_HEAD_DIM)
        key_reject(r, json_get(root, "head_dim"),
                   "head_dim is %lld; rotary embeddings need an even number up to %d",
                   (long long)c->head_dim, MAX_HEAD_DIM);
    if (c->heads % c->kv_heads)
        key_reject(r, json_get(root, "num_key_value_heads"),
                   "num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                   (long long)c->heads, (long long)c->kv_heads);
}

static void read_shape(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->vocab = key_int(r, root, "vocab_size", f->vocab, 1, MAX_VOCAB);
    c->hidden = key_int(r, root, family_key_name(c, KEY_HIDDEN), f->hidden, 1, MAX_HIDDEN);
    int64_t ffn = f->ffn ? f->ffn : 4 * c->hidden;
    c->ffn = key_int(r, root, family_key_name(c, KEY_FFN), ffn, 1, MAX_FFN);
    c->layers = key_int(r, root, family_key_name(c, KEY_LAYERS), f->layers, 1, MAX_LAYERS);
    c->context = key_int(r, root, family_key_name(c, KEY_CONTEXT), f->context, 1, MAX_CONTEXT);
    /* OPT's is fixed. */
    c->norm_eps = f->norm_kind == NORM_KIND_LAYER && !f->keys[KEY_EPS]
                      ? f->norm_eps
                      : key_real(r, root, family_key_name(c, KEY_EPS), f->norm_eps, 0, 1);
    read_heads(r, root, c);
}

/* Which layers have experts: all, or those that decoder_sparse_step and mlp_only_layers leave. */
static void read_experts(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    if (!f->experts || r->status) return;
    /* transformers 5 writes num_local_experts for every family. */
    const char *key = key_present(root, f->experts_key) ? f->experts_key : "num_local_experts";
    c->experts = key_int(r, root, key, f->experts, 1, MAX_EXPERTS);
    c->experts_per_token =
        key_int(r, root, "num_experts_per_tok", f->experts_per_token, 1, MAX_EXPERTS);
    c->expert_ffn =
        f->expert_ffn ? key_int(r, root, "moe_intermediate_size", f->expert_ffn, 1, MAX_EXPERT_FFN)
                      : c->ffn;
    c->norm_topk = f->norm_topk_key ? key_bool(r, root, f->norm_topk_key, 0) : 1;
    if (c->expert_ffn > MAX_EXPERT_FFN)
        key_reject(r, json_get(root, "intermediate_size"), "experts of %lld are too wide",
                   (long long)c->expert_ffn);
    if (c->experts_per_token > c->experts)
        key_reject(r, json_get(root, "num_experts_per_tok"),
                   "num_experts_per_tok %lld exceeds the %lld experts",
                   (long long)c->experts_per_token, (long long)c->experts);
    int64_t step =
        f->linears[ROLE_DOWN] ? key_int(r, root, "decoder_sparse_step", 1, 1, MAX_LAYERS) : 1;
    const cJSON *dense = f->linears[ROLE_DOWN] ? key_present(root, "mlp_only_layers") : NULL, *item;
    if (r->status) return;
    c->sparse = malloc((size_t)c->layers);
    if (!c->sparse) {
        r->status = err_set(r->err, SQZ_E_NOMEM, "%s: no memory for %lld layers", r->name,
                            (long long)c->layers);
        return;
    }
    for (int64_t l = 0; l < c->layers; l++) c->sparse[l] = (l + 1) % step == 0;
    cJSON_ArrayForEach(item, dense)
    {
        double l = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(l >= 0 && l == floor(l))) {
            key_reject(r, item, "mlp_only_layers is not a list of layer numbers");
            return;
        }
        if (l < (double)c->layers) c->sparse[(int64_t)l] = 0;
    }
}

static int bias_rule(reader *r, const cJSON *root, int rule, const char *key, int usual)
{
    return rule == BIAS_CONFIG ? key_bool(r, root, key, usual) : rule == BIAS_ALWAYS;
}

static void read_act(reader *r, const cJSON *root, model_config *c)
{
    static const struct {
        const char *name;
        int32_t act;
    } acts[] = {{"silu", SQZ_ACT_SILU},
                {"swish", SQZ_ACT_SILU},
                {"gelu", SQZ_ACT_GELU},
                {"gelu_new", SQZ_ACT_GELU_TANH},
                {"gelu_fast", SQZ_ACT_GELU_TANH},
                {"gelu_pytorch_tanh", SQZ_ACT_GELU_TANH},
                {"relu", SQZ_ACT_RELU}};
    const model_family *f = c->family;
    const char *key = family_key_name(c, KEY_ACT);
    c->act = f->act;
    const char *act = key_text(r, root, key);
    if (!act) return;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(act, acts[i].name)) {
            c->act = acts[i].act;
            return;
        }
    key_reject(r, json_get(root, key),
               "%s \"%.64s\" is not known; known: silu, gelu, gelu_pytorch_tanh, relu", key, act);
}

/* Things that published configs may say and that would change the arithmetic unseen. */
static void refuse_rest(reader *r, const cJSON *root, const model_config *c)
{
    const model_family *f = c->family;
    for (int i = 0; i < FIXED_KEYS && f->fixed[i].key; i++)
        if (key_bool(r, root, f->fixed[i].key, f->fixed[i].built) != f->fixed[i].built)
            key_reject(r, json_get(root, f->fixed[i].key), "%s %s is not built for family %s",
                       f->fixed[i].key, f->fixed[i].built ? "false" : "true", f->type);
    int64_t width = key_int(r, root, "word_embed_proj_dim", c->hidden, 1, MAX_HIDDEN);
    if (width != c->hidden)
        key_reject(
            r, json_get(root, "word_embed_proj_dim"),
            "word_embed_proj_dim %lld differs from hidden_size %lld: the projections in and out "
            "of the embedding are not built",
            (long long)width, (long long)c->hidden);
}

static void read_block(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    /* gpt_neox biases all of attention unless told otherwise. */
    int usual = f->norm_kind == NORM_KIND_LAYER;
    c->qkv_bias = bias_rule(r, root, f->qkv_bias, "attention_bias", usual);
    c->o_bias = bias_rule(r, root, f->o_bias, "attention_bias", usual);
    c->mlp_bias = bias_rule(r, root, f->mlp_bias, "mlp_bias", 0);
    c->tied = key_bool(r, root, "tie_word_embeddings", f->tied);
    c->parallel = f->parallel && key_bool(r, root, "use_parallel_residual", 1);
    c->qk_norm = f->norms[NORM_Q] != NULL;
    c->final_norm = 1;
    if (f->order_keys) {
        c->post_norm = !key_bool(r, root, "do_layer_norm_before", 1);
        c->final_norm = !c->post_norm && !key_bool(r, root, "_remove_final_layer_norm", 0);
    }
    int64_t scalar =
        f->scalar ? key_int(r, root, "query_pre_attn_scalar", f->scalar, 1, 1 << 24) : c->head_dim;
    c->attn_scale = 1 / sqrt((double)scalar);
    if (f->scale_keys) {
        if (!key_bool(r, root, "scale_attn_weights", 1)) c->attn_scale = 1;
        c->attn_scale_by_layer = key_bool(r, root, "scale_attn_by_inverse_layer_idx", 0);
    }
    if (!f->soft_caps) return;
    /* null is "none", absent the class default */
    if (f->score_cap > 0) /* Gemma 3 has the key from Gemma 2, and no use for it */
        c->attn_softcap =
            key_real(r, root, "attn_logit_softcapping",
                     json_get(root, "attn_logit_softcapping") ? 0 : f->score_cap, 0, 1e6);
    c->final_softcap =
        key_real(r, root, "final_logit_softcapping",
                 json_get(root, "final_logit_softcapping") ? 0 : f->logit_cap, 0, 1e6);
}

static void read_tokens(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->bos = (int32_t)key_int(r, root, "bos_token_id", json_get(root, "bos_token_id") ? -1 : f->bos,
                              -1, INT32_MAX);
    const cJSON *eos = json_get(root, "eos_token_id");
    int n = eos && cJSON_IsArray(eos) ? cJSON_GetArraySize(eos) : 1;
    if (n > (int)(sizeof c->eos / sizeof *c->eos)) {
        key_reject(r, eos, "eos_token_id lists %d ids; at most 8 are supported", n);
        return;
    }
    for (int i = 0; i < n; i++) {
        const cJSON *item = eos && cJSON_IsArray(eos) ? cJSON_GetArrayItem(eos, i) : eos;
        double v = !item ? f->eos : cJSON_IsNull(item) ? -1 : item->valuedouble;
        if ((item && !cJSON_IsNull(item) && !cJSON_IsNumber(item)) || v != floor(v) || v < -1 ||
            v > INT32_MAX) {
            key_reject(r, item, "eos_token_id is not an id or a list of ids");
            return;
        }
        if (v >= 0) c->eos[c->n_eos++] = (int32_t)v;
    }
}

static void read_dtype(reader *r, const cJSON *root, model_config *c)
{
    const char *text = key_text(r, root, key_present(root, "dtype") ? "dtype" : "torch_dtype");
    if (!text) return; /* 0: model_open takes the dtype of the embedding */
    if (!strncmp(text, "torch.", 6)) text += 6;
    if (!strcmp(text, "float32")) c->dtype = SQZ_F32;
    if (!strcmp(text, "bfloat16")) c->dtype = SQZ_BF16;
    if (!strcmp(text, "float16")) c->dtype = SQZ_F16;
}

/* ---- sliding window -------------------------------------------------------------------------- */
static void read_layer_types(reader *r, const cJSON *list, model_config *c)
{
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != c->layers) {
        key_reject(r, list, "layer_types must be a list of num_hidden_layers = %lld names",
                   (long long)c->layers);
        return;
    }
    int64_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_IsString(item) ? item->valuestring : "?";
        int slides = !strcmp(text, "sliding_attention");
        if (!slides && strcmp(text, "full_attention")) {
            key_reject(
                r, item,
                "layer type \"%.64s\" is not built; full_attention and sliding_attention are",
                text);
            return;
        }
        c->sliding[i++] = (uint8_t)slides;
    }
}

static void read_window(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    if (r->status) return;
    c->sliding = calloc((size_t)c->layers, 1);
    if (!c->sliding) {
        r->status = err_set(r->err, SQZ_E_NOMEM, "%s: no memory for %lld layers", r->name,
                            (long long)c->layers);
        return;
    }
    if (f->window_rule == WINDOW_NEVER) return;
    const cJSON *item = json_get(root, "sliding_window");
    if (!(item && cJSON_IsNull(item)))
        c->window = key_int(r, root, "sliding_window", f->window, 1, INT32_MAX);
    int flagged = f->window_rule == WINDOW_FLAGGED || f->window_rule == WINDOW_FLAGGED_ALL;
    if (flagged && !key_bool(r, root, "use_sliding_window", 0)) c->window = 0;
    if (!c->window || r->status) return;
    if (f->window_rule == WINDOW_ALL || f->window_rule == WINDOW_FLAGGED_ALL) {
        memset(c->sliding, 1, (size_t)c->layers);
        return;
    }
    const cJSON *types = key_present(root, "layer_types");
    if (types) {
        read_layer_types(r, types, c);
    } else if (f->window_rule == WINDOW_PATTERN) {
        int64_t n = key_int(r, root, "sliding_window_pattern", f->window_pattern, 1, MAX_LAYERS);
        for (int64_t i = 0; i < c->layers; i++) c->sliding[i] = (i + 1) % n != 0;
    } else {
        int64_t from = key_int(r, root, "max_window_layers", f->max_window_layers, 0, INT32_MAX);
        for (int64_t i = from; i < c->layers; i++) c->sliding[i] = 1;
    }
}

/* ---- whole ----------------------------------------------------------------------------------- */
sqz_status model_config_parse(const char *json, const char *name, model_config *out, sqz_error *err)
{
    json_doc *doc;
    sqz_status st = json_parse(json, (int64_t)strlen(json), 0, name, &doc, err);
    if (st == SQZ_E_NOMEM) return st;
    if (st) return err_set(err, ERR_MODEL, "%s", err ? err->text : "");
    const cJSON *root = json_root(doc);
    reader r = {.doc = doc, .name = name, .err = err};
    model_config c = {.bos = -1};
    if (!cJSON_IsObject(root)) key_reject(&r, NULL, "is not a JSON object");
    if (!r.status) read_family(&r, root, &c);
    if (!r.status) read_shape(&r, root, &c);
    if (!r.status) read_act(&r, root, &c);
    if (!r.status) read_block(&r, root, &c);
    if (!r.status) refuse_rest(&r, root, &c);
    if (!r.status) read_experts(&r, root, &c);
    if (!r.status) read_tokens(&r, root, &c);
    if (!r.status) read_dtype(&r, root, &c);
    if (!r.status) read_window(&r, root, &c);
    if (!r.status) read_rope(&r, root, &c);
    const cJSON *quant = r.status ? NULL : key_present(root, "quantization_config");
    if (quant) {
        const char *method = key_text(&r, quant, "quant_method");
        snprintf(c.quant_method, sizeof c.quant_method, "%s", method ? method : "unknown");
    }
    json_free(doc);
    if (r.status)
        model_config_free(&c);
    else
        *out = c;
    return r.status;
}

void model_config_free(model_config *c)
{
    if (!c) return;
    free(c->sliding);
    free(c->sparse);
    free(c->rope.short_factor);
    free(c->rope.long_factor);
    c->sliding = c->sparse = NULL;
    c->rope.short_factor = c->rope.long_factor = NULL;
}
