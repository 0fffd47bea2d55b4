/* gguf_config.c - the keys of a GGUF file to the config.json of the folder it was converted from.
 *
 * Written in the spelling of transformers, so that one parser (model/config.c) checks every value
 * and an exported model carries a config.json that other tools read.  Float32 keys are written
 * with as few digits as name them: 1e-05, not 9.99999974737875e-06. */
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_model.h"
#include "json/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROTARY = 4096 };

static char *arch_key(const gguf_file *f, const char *key)
{
    char *arch = gguf_string(f, "general.architecture");
    char *full = path_format("%s.%s", arch ? arch : "", key);
    free(arch);
    return full;
}

int64_t gguf_arch_int(const gguf_file *f, const char *key, int64_t fallback)
{
    char *full = arch_key(f, key);
    int64_t v = gguf_int(f, full, fallback);
    free(full);
    return v;
}

double gguf_arch_real(const gguf_file *f, const char *key, double fallback)
{
    char *full = arch_key(f, key);
    double v = gguf_real(f, full, fallback);
    free(full);
    return v;
}

/* ---- numbers --------------------------------------------------------------------------------- */
/* The shortest decimal that is this float32. */
static double short_real(double v)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtof(text, NULL) == (float)v) return strtod(text, NULL);
    }
    return v;
}

static void put_int(cJSON *o, const gguf_file *f, const char *name, const char *key)
{
    int64_t v = gguf_arch_int(f, key, INT64_MIN);
    if (v != INT64_MIN) cJSON_AddNumberToObject(o, name, (double)v);
}

static void put_real(cJSON *o, const gguf_file *f, const char *name, const char *key)
{
    double v = gguf_arch_real(f, key, NAN);
    if (isfinite(v)) cJSON_AddNumberToObject(o, name, short_real(v));
}

/* A number per layer is a model that this program has no form for. */
static sqz_status check_uniform(const gguf_file *f, sqz_error *err)
{
    static const char *const keys[] = {"attention.head_count", "attention.head_count_kv",
                                       "feed_forward_length"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *key = arch_key(f, keys[i]);
        const gguf_entry *e = gguf_find(f, key);
        int varies = e && e->type == GGUF_ARRAY && gguf_int(f, key, -1) < 0;
        sqz_status st =
            varies ? err_set(err, ERR_MODEL,
                             "%s: %s differs from layer to layer, which is not built", f->path, key)
                   : SQZ_OK;
        free(key);
        if (st) return st;
    }
    return SQZ_OK;
}

/* ---- rotary embedding ------------------------------------------------------------------------ */
/* A float32 vector of divisors; NULL when the tensor is absent. */
static cJSON *divisors(const gguf_file *f, const char *name)
{
    const gguf_tensor *t = gguf_find_tensor(f, name);
    if (!t || t->type != GGML_F32 || t->elements > MAX_ROTARY) return NULL;
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < t->elements; i++) {
        float v;
        memcpy(&v, t->data + 4 * i, sizeof v);
        cJSON_AddItemToArray(list, cJSON_CreateNumber(isfinite(v) ? short_real((double)v) : 0));
    }
    return list;
}

/* Divisors of Llama 3.1's rule: low_freq_factor 1, high_freq_factor 4, over a context of 8192. */
static int is_llama3(const cJSON *list, double theta, double factor)
{
    int n = cJSON_GetArraySize(list), i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        double wave = 2 * 3.14159265358979323846 * pow(theta, 2.0 * i++ / (2.0 * n));
        double s = (8192 / wave - 1) / 3;
        double want = wave > 8192 ? factor : wave < 8192 / 4 ? 1 : 1 / ((1 - s) / factor + s);
        if (fabs(item->valuedouble - want) > 1e-4 * want) return 0;
    }
    return n > 0;
}

/* Divisors of one table, whatever made them. */
static void put_divisors(cJSON *o, const gguf_file *f, cJSON *list)
{
    double theta = short_real(gguf_arch_real(f, "rope.freq_base", 10000));
    const cJSON *last = cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1);
    cJSON *scaling = cJSON_AddObjectToObject(o, "rope_scaling");
    if (last && is_llama3(list, theta, last->valuedouble)) {
        cJSON_AddStringToObject(scaling, "rope_type", "llama3");
        cJSON_AddNumberToObject(scaling, "factor", last->valuedouble);
        cJSON_AddNumberToObject(scaling, "low_freq_factor", 1);
        cJSON_AddNumberToObject(scaling, "high_freq_factor", 4);
        cJSON_AddNumberToObject(scaling, "original_max_position_embeddings", 8192);
        cJSON_Delete(list);
        return;
    }
    cJSON_AddStringToObject(scaling, "rope_type", "longrope");
    cJSON_AddNumberToObject(scaling, "attention_factor", 1);
    cJSON_AddItemToObject(scaling, "short_factor", cJSON_Duplicate(list, 1));
    cJSON_AddItemToObject(scaling, "long_factor", list);
}

static void put_yarn(cJSON *o, const gguf_file *f)
{
    cJSON *scaling = cJSON_AddObjectToObject(o, "rope_scaling");
    double factor = gguf_arch_real(f, "rope.scaling.factor", 1);
    double more = gguf_arch_real(f, "rope.scaling.attn_factor", 1);
    cJSON_AddStringToObject(scaling, "rope_type", "yarn");
    put_real(scaling, f, "factor", "rope.scaling.factor");
    put_int(scaling, f, "original_max_position_embeddings", "rope.scaling.original_context_length");
    put_real(scaling, f, "beta_fast", "rope.scaling.yarn_beta_fast");
    put_real(scaling, f, "beta_slow", "rope.scaling.yarn_beta_slow");
    if (more != 1 && factor > 1)
        cJSON_AddNumberToObject(scaling, "attention_factor", more * (0.1 * log(factor) + 1));
}

/* Phi-3's two tables; the attention factor follows from the contexts, as in the folder. */
static void put_longrope(cJSON *o, const gguf_file *f, cJSON *shorter, cJSON *longer)
{
    cJSON *scaling = cJSON_AddObjectToObject(o, "rope_scaling");
    cJSON_AddStringToObject(scaling, "type", "longrope");
    cJSON_AddItemToObject(scaling, "short_factor", shorter);
    cJSON_AddItemToObject(scaling, "long_factor", longer);
    put_int(o, f, "original_max_position_embeddings", "rope.scaling.original_context_length");
}

static sqz_status put_rope(cJSON *o, const gguf_file *f, sqz_error *err)
{
    put_real(o, f, "rope_theta", "rope.freq_base");
    cJSON *list = divisors(f, "rope_freqs.weight");
    cJSON *shorter = divisors(f, "rope_factors_short.weight");
    cJSON *longer = divisors(f, "rope_factors_long.weight");
    char *key = arch_key(f, "rope.scaling.type"), *kind = gguf_string(f, key);
    sqz_status st = SQZ_OK;
    double factor = gguf_arch_real(f, "rope.scaling.factor", 1);
    /* files of 2023 have the factor alone, under another name */
    if (!kind) factor = gguf_arch_real(f, "rope.scale_linear", factor);
    if (shorter && longer) {
        put_longrope(o, f, shorter, longer);
        shorter = longer = NULL;
    } else if (list) {
        put_divisors(o, f, list);
        list = NULL;
    } else if (kind && !strcmp(kind, "yarn")) {
        put_yarn(o, f);
    } else if ((!kind || !strcmp(kind, "linear")) && factor != 1) {
        cJSON *scaling = cJSON_AddObjectToObject(o, "rope_scaling");
        cJSON_AddStringToObject(scaling, "rope_type", "linear");
        cJSON_AddNumberToObject(scaling, "factor", short_real(factor));
    } else if (kind && strcmp(kind, "none") != 0 && strcmp(kind, "linear") != 0) {
        st = err_set(err, ERR_MODEL, "%s: rope scaling \"%.60s\" without its tables is not built",
                     f->path, kind);
    }
    cJSON_Delete(list);
    cJSON_Delete(shorter);
    cJSON_Delete(longer);
    free(key);
    free(kind);
    return st;
}

/* ---- what differs between families ----------------------------------------------------------- */
static int has(const gguf_file *f, const char *tensor)
{
    return gguf_find_tensor(f, tensor) != NULL;
}

static void put_window(cJSON *o, const gguf_file *f)
{
    int64_t window = gguf_arch_int(f, "attention.sliding_window", 0);
    if (window > 0)
        cJSON_AddNumberToObject(o, "sliding_window", (double)window);
    else
        cJSON_AddNullToObject(o, "sliding_window");
}

static void put_llama(cJSON *o, const gguf_file *f)
{
    cJSON_AddBoolToObject(o, "attention_bias", has(f, "blk.0.attn_q.bias"));
    cJSON_AddBoolToObject(o, "mlp_bias", has(f, "blk.0.ffn_up.bias"));
}

static void put_qwen(cJSON *o, const gguf_file *f)
{
    (void)f;
    cJSON_AddBoolToObject(o, "use_sliding_window", 0);
    cJSON_AddStringToObject(o, "hidden_act", "silu");
}

/* The attention's scale is not in the file: the largest of each generation divides by
 * hidden / heads, the others by the head's size. */
static void put_gemma(cJSON *o, const gguf_file *f)
{
    int64_t layers = gguf_arch_int(f, "block_count", 0);
    int64_t heads = gguf_arch_int(f, "attention.head_count", 1);
    int64_t dim = gguf_arch_int(f, "attention.key_length", 256);
    int largest = layers == 46 || layers == 62;
    int64_t hidden = gguf_arch_int(f, "embedding_length", 0);
    cJSON_AddNumberToObject(o, "query_pre_attn_scalar",
                            (double)(largest && heads > 0 ? hidden / heads : dim));
    cJSON_AddStringToObject(o, "hidden_activation", "gelu_pytorch_tanh");
    put_window(o, f);
}

static void put_gemma2(cJSON *o, const gguf_file *f)
{
    put_gemma(o, f);
    put_real(o, f, "attn_logit_softcapping", "attn_logit_softcapping");
    put_real(o, f, "final_logit_softcapping", "final_logit_softcapping");
}

static void put_gemma3(cJSON *o, const gguf_file *f)
{
    put_gemma(o, f);
    cJSON_AddNumberToObject(o, "rope_local_base_freq",
                            short_real(gguf_arch_real(f, "rope.freq_base_swa", 10000)));
    cJSON_AddNumberToObject(o, "sliding_window_pattern", 6);
    if (!json_get(o, "rope_theta")) cJSON_AddNumberToObject(o, "rope_theta", 1e6);
}

static void put_gpt2(cJSON *o, const gguf_file *f)
{
    cJSON_AddStringToObject(o, "activation_function", "gelu_new");
    put_int(o, f, "n_positions", "context_length");
    put_int(o, f, "n_embd", "embedding_length");
    put_int(o, f, "n_layer", "block_count");
    put_int(o, f, "n_head", "attention.head_count");
    put_int(o, f, "n_inner", "feed_forward_length");
    put_real(o, f, "layer_norm_epsilon", "attention.layer_norm_epsilon");
}

static void put_neox(cJSON *o, const gguf_file *f)
{
    int64_t heads = gguf_arch_int(f, "attention.head_count", 1);
    int64_t dim = heads > 0 ? gguf_arch_int(f, "embedding_length", 0) / heads : 0;
    int64_t turned = gguf_arch_int(f, "rope.dimension_count", dim);
    char *key = arch_key(f, "use_parallel_residual");
    cJSON_AddStringToObject(o, "hidden_act", "gelu");
    cJSON_AddBoolToObject(o, "attention_bias", has(f, "blk.0.attn_qkv.bias"));
    cJSON_AddBoolToObject(o, "use_parallel_residual", gguf_bool(f, key, 1));
    cJSON_AddNumberToObject(o, "rotary_pct", dim > 0 ? (double)turned / (double)dim : 1);
    put_real(o, f, "rotary_emb_base", "rope.freq_base");
    put_real(o, f, "layer_norm_eps", "attention.layer_norm_epsilon");
    free(key);
}

static const struct {
    const char *arch, *type, *class;
    void (*put)(cJSON *, const gguf_file *);
} families[] = {
    {"llama", "llama", "LlamaForCausalLM", put_llama},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", put_qwen},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", put_qwen},
    {"gemma2", "gemma2", "Gemma2ForCausalLM", put_gemma2},
    {"gemma3", "gemma3_text", "Gemma3ForCausalLM", put_gemma3},
    {"phi3", "phi3", "Phi3ForCausalLM", put_window},
    {"gpt2", "gpt2", "GPT2LMHeadModel", put_gpt2},
    {"gptneox", "gpt_neox", "GPTNeoXForCausalLM", put_neox},
};

static sqz_status find_family(const gguf_file *f, int *out, sqz_error *err)
{
    char *arch = gguf_string(f, "general.architecture"), known[256];
    int used = 0;
    *out = -1;
    for (int i = 0; i < (int)(sizeof families / sizeof *families); i++) {
        if (arch && !strcmp(arch, families[i].arch)) *out = i;
        used += snprintf(known + used, sizeof known - (size_t)used, "%s%s", i ? ", " : "",
                         families[i].arch);
    }
    sqz_status st = SQZ_OK;
    if (!arch)
        st = err_set(err, ERR_MODEL, "%s: names no general.architecture", f->path);
    else if (*out < 0)
        st = err_set(err, ERR_MODEL, "%s: architecture \"%.60s\" is not built; built are %s",
                     f->path, arch, known);
    free(arch);
    return st;
}

/* ---- whole ----------------------------------------------------------------------------------- */
static void put_shape(cJSON *o, const gguf_file *f)
{
    const gguf_tensor *embed = gguf_find_tensor(f, "token_embd.weight");
    const gguf_entry *tokens = gguf_find(f, "tokenizer.ggml.tokens");
    int64_t vocab = gguf_arch_int(f, "vocab_size", tokens ? tokens->count : 0);
    if (embed && embed->rank == 2) vocab = embed->shape[0];
    int64_t heads = gguf_arch_int(f, "attention.head_count", 0);
    int64_t hidden = gguf_arch_int(f, "embedding_length", 0);
    int64_t dim = gguf_arch_int(f, "attention.key_length", heads > 0 ? hidden / heads : 0);
    int64_t turned = gguf_arch_int(f, "rope.dimension_count", dim);
    cJSON_AddNumberToObject(o, "vocab_size", (double)vocab);
    put_int(o, f, "hidden_size", "embedding_length");
    put_int(o, f, "intermediate_size", "feed_forward_length");
    put_int(o, f, "num_hidden_layers", "block_count");
    put_int(o, f, "num_attention_heads", "attention.head_count");
    put_int(o, f, "num_key_value_heads", "attention.head_count_kv");
    if (!json_get(o, "num_key_value_heads"))
        put_int(o, f, "num_key_value_heads", "attention.head_count");
    if (dim > 0) cJSON_AddNumberToObject(o, "head_dim", (double)dim);
    put_int(o, f, "max_position_embeddings", "context_length");
    put_real(o, f, "rms_norm_eps", "attention.layer_norm_rms_epsilon");
    if (dim > 0 && turned != dim)
        cJSON_AddNumberToObject(o, "partial_rotary_factor", (double)turned / (double)dim);
}

static void put_id(cJSON *o, const gguf_file *f, const char *name, const char *key)
{
    int64_t id = gguf_int(f, key, -1);
    if (id >= 0)
        cJSON_AddNumberToObject(o, name, (double)id);
    else
        cJSON_AddNullToObject(o, name);
}

/* The end of a turn ends a generation, too. */
static void put_ids(cJSON *o, const gguf_file *f)
{
    static const char *const more[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    put_id(o, f, "bos_token_id", "tokenizer.ggml.bos_token_id");
    int64_t eos = gguf_int(f, "tokenizer.ggml.eos_token_id", -1);
    int64_t also[2] = {gguf_int(f, more[0], -1), gguf_int(f, more[1], -1)};
    if ((also[0] < 0 || also[0] == eos) && (also[1] < 0 || also[1] == eos)) {
        put_id(o, f, "eos_token_id", "tokenizer.ggml.eos_token_id");
        return;
    }
    cJSON *list = cJSON_AddArrayToObject(o, "eos_token_id");
    if (eos >= 0) cJSON_AddItemToArray(list, cJSON_CreateNumber((double)eos));
    for (int i = 0; i < 2; i++)
        if (also[i] >= 0 && also[i] != eos && (i == 0 || also[1] != also[0]))
            cJSON_AddItemToArray(list, cJSON_CreateNumber((double)also[i]));
}

/* The type that most elements are of says how precise the model is. */
static const char *precision(const gguf_file *f)
{
    int64_t single = 0, brain = 0, all = 0;
    for (int64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        all += t->elements / 2; /* no overflow of the sum: each is below the file's bits */
        if (t->type == GGML_F32) single += t->elements / 2;
        if (t->type == GGML_BF16) brain += t->elements / 2;
    }
    return single > all / 2 ? "float32" : brain > all / 2 ? "bfloat16" : "float16";
}

sqz_status gguf_config(const gguf_file *f, char **json, sqz_error *err)
{
    int family;
    sqz_status st = find_family(f, &family, err);
    if (!st) st = check_uniform(f, err);
    if (st) return st;
    int64_t experts = gguf_arch_int(f, "expert_count", 0);
    if (experts > 0)
        return err_set(err, ERR_MODEL,
                       "%s: a mixture of %lld experts; GGUF files of these are not read", f->path,
                       (long long)experts);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model_type", families[family].type);
    cJSON *list = cJSON_AddArrayToObject(o, "architectures");
    cJSON_AddItemToArray(list, cJSON_CreateString(families[family].class));
    put_shape(o, f);
    st = put_rope(o, f, err);
    families[family].put(o, f);
    cJSON_AddBoolToObject(o, "tie_word_embeddings", !has(f, "output.weight"));
    put_ids(o, f);
    cJSON_AddStringToObject(o, "torch_dtype", precision(f));
    if (!st) *json = json_text(o, 1);
    cJSON_Delete(o);
    return st;
}
