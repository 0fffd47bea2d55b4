/* config.c - config.json to model_config, in the spelling of transformers 5 (rope_parameters,
 * dtype) and the older one (rope_theta, rope_scaling, torch_dtype).
 *
 * The file is untrusted: each number is checked against a range in which later sizes cannot
 * overflow, and a wrong type is an error rather than a default.  Absent keys take the class default
 * of the family (family.c).  Left out: what a family cannot do is refused by name. */
#include "json/json.h"
#include "model/family.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Products of any three stay below 2^63: vocab * hidden < 2^41, hidden * ffn * layers < 2^49. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_HIDDEN = 1 << 17,
    MAX_FFN = 1 << 20,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 12,
    MAX_CONTEXT = 1 << 28
};

/* Reads keys of one document; the first failure sticks in `status` and later reads do nothing. */
typedef struct reader {
    const json_doc *doc;
    const char *name;
    sqz_error *err;
    sqz_status status;
} reader;

__attribute__((format(printf, 3, 4))) static void reject(reader *r, const cJSON *item,
                                                         const char *fmt, ...)
{
    if (r->status) return;
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int line = 0, column = 0;
    if (item) json_where(r->doc, item, &line, &column);
    if (line)
        r->status = err_set(r->err, ERR_MODEL, "%s:%d:%d: %s", r->name, line, column, text);
    else
        r->status = err_set(r->err, ERR_MODEL, "%s: %s", r->name, text);
}

/* The item, or NULL when absent or null. */
static const cJSON *present(const cJSON *object, const char *key)
{
    const cJSON *item = json_get(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static double read_real(reader *r, const cJSON *object, const char *key, double fallback, double lo,
                        double hi)
{
    const cJSON *item = present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsNumber(item)) {
        reject(r, item, "%s is not a number", key);
        return fallback;
    }
    double v = item->valuedouble;
    if (!(v >= lo && v <= hi)) {
        reject(r, item, "%s is %g; it must lie between %g and %g", key, v, lo, hi);
        return fallback;
    }
    return v;
}

static int64_t read_int(reader *r, const cJSON *object, const char *key, int64_t fallback,
                        int64_t lo, int64_t hi)
{
    const cJSON *item = present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsNumber(item)) {
        reject(r, item, "%s is not a number", key);
        return fallback;
    }
    double v = item->valuedouble;
    if (!(v >= (double)lo && v <= (double)hi) || v != floor(v)) {
        reject(r, item, "%s is %.17g; it must be a whole number from %lld to %lld", key, v,
               (long long)lo, (long long)hi);
        return fallback;
    }
    return (int64_t)v;
}

static int read_bool(reader *r, const cJSON *object, const char *key, int fallback)
{
    const cJSON *item = present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsBool(item)) {
        reject(r, item, "%s is neither true nor false", key);
        return fallback;
    }
    return cJSON_IsTrue(item);
}

static const char *read_text(reader *r, const cJSON *object, const char *key)
{
    const cJSON *item = present(object, key);
    if (!item || r->status) return NULL;
    if (!cJSON_IsString(item)) {
        reject(r, item, "%s is not a string", key);
        return NULL;
    }
    return item->valuestring;
}

/* ---- family ---------------------------------------------------------------------------------- */
static void read_family(reader *r, const cJSON *root, model_config *c)
{
    char known[256];
    family_list(known, sizeof known);
    const char *type = read_text(r, root, "model_type");
    if (r->status) return;
    if (!type) {
        reject(r, NULL, "model_type is missing; known families: %s", known);
        return;
    }
    c->family = family_find(type);
    if (!c->family) {
        reject(r, json_get(root, "model_type"),
               "model family \"%.64s\" is not known; known families: %s", type, known);
        return;
    }
    const char *arch = c->family->architecture;
    const cJSON *list = present(root, "architectures");
    const cJSON *first = list && cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
    if (list && !first && !(cJSON_IsArray(list) && !cJSON_GetArraySize(list))) {
        reject(r, list, "architectures is not a list of names");
        return;
    }
    /* Early files write LLaMAForCausalLM. */
    if (first && (!cJSON_IsString(first) || strcasecmp(first->valuestring, arch)))
        reject(r, first, "architecture \"%.64s\" is not built; of family %s only %s is",
               cJSON_IsString(first) ? first->valuestring : "?", type, arch);
    snprintf(c->architecture, sizeof c->architecture, "%s", arch);
}

static void read_shape(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->vocab = read_int(r, root, "vocab_size", f->vocab, 1, MAX_VOCAB);
    c->hidden = read_int(r, root, "hidden_size", f->hidden, 1, MAX_HIDDEN);
    c->ffn = read_int(r, root, "intermediate_size", f->ffn, 1, MAX_FFN);
    c->layers = read_int(r, root, "num_hidden_layers", f->layers, 1, MAX_LAYERS);
    c->heads = read_int(r, root, "num_attention_heads", f->heads, 1, MAX_HEADS);
    /* A default that belongs to the class's own head count makes no sense for another one. */
    int64_t kv = f->kv_heads && f->kv_heads <= c->heads ? f->kv_heads : c->heads;
    const cJSON *kv_item = json_get(root, "num_key_value_heads");
    if (kv_item && cJSON_IsNull(kv_item)) kv = c->heads;
    c->kv_heads = read_int(r, root, "num_key_value_heads", kv, 1, MAX_HEADS);
    c->context = read_int(r, root, "max_position_embeddings", f->context, 1, MAX_CONTEXT);
    c->norm_eps = read_real(r, root, "rms_norm_eps", f->norm_eps, 0, 1);
    int64_t dim = read_int(r, root, "head_dim", f->head_dim, 1, MAX_HEAD_DIM);
    if (r->status) return;
    if (!dim) {
        if (c->hidden % c->heads) {
            reject(r, json_get(root, "hidden_size"),
                   "hidden_size %lld is not a multiple of num_attention_heads %lld, and head_dim "
                   "is not given",
                   (long long)c->hidden, (long long)c->heads);
            return;
        }
        dim = c->hidden / c->heads;
    }
    c->head_dim = dim;
    if (dim % 2 || dim > MAX_HEAD_DIM)
        reject(r, json_get(root, "head_dim"),
               "head_dim is %lld; rotary embeddings need an even number up to %d", (long long)dim,
               MAX_HEAD_DIM);
    if (c->heads % c->kv_heads)
        reject(r, json_get(root, "num_key_value_heads"),
               "num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
               (long long)c->heads, (long long)c->kv_heads);
}

static int bias_rule(reader *r, const cJSON *root, int rule, const char *key)
{
    return rule == BIAS_CONFIG ? read_bool(r, root, key, 0) : rule == BIAS_ALWAYS;
}

static void read_flags(reader *r, const cJSON *root, model_config *c)
{
    static const struct {
        const char *name;
        int32_t act;
    } acts[] = {{"silu", SQZ_ACT_SILU},
                {"swish", SQZ_ACT_SILU},
                {"gelu", SQZ_ACT_GELU},
                {"gelu_new", SQZ_ACT_GELU_TANH},
                {"gelu_pytorch_tanh", SQZ_ACT_GELU_TANH},
                {"relu", SQZ_ACT_RELU}};
    const model_family *f = c->family;
    c->qkv_bias = bias_rule(r, root, f->qkv_bias, "attention_bias");
    c->o_bias = bias_rule(r, root, f->o_bias, "attention_bias");
    c->mlp_bias = bias_rule(r, root, f->mlp_bias, "mlp_bias");
    c->qk_norm = f->qk_norm;
    c->tied = read_bool(r, root, "tie_word_embeddings", 0);
    c->act = f->act;
    const char *act = read_text(r, root, "hidden_act");
    if (!act) return;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(act, acts[i].name)) {
            c->act = acts[i].act;
            return;
        }
    reject(r, json_get(root, "hidden_act"),
           "hidden_act \"%.64s\" is not known; known: silu, gelu, gelu_pytorch_tanh, relu", act);
}

static void read_tokens(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->bos = (int32_t)read_int(r, root, "bos_token_id",
                               json_get(root, "bos_token_id") ? -1 : f->bos, -1, INT32_MAX);
    const cJSON *eos = json_get(root, "eos_token_id");
    int n = eos && cJSON_IsArray(eos) ? cJSON_GetArraySize(eos) : 1;
    if (n > (int)(sizeof c->eos / sizeof *c->eos)) {
        reject(r, eos, "eos_token_id lists %d ids; at most 8 are supported", n);
        return;
    }
    for (int i = 0; i < n; i++) {
        const cJSON *item = eos && cJSON_IsArray(eos) ? cJSON_GetArrayItem(eos, i) : eos;
        double v = !item ? f->eos : cJSON_IsNull(item) ? -1 : item->valuedouble;
        if ((item && !cJSON_IsNull(item) && !cJSON_IsNumber(item)) || v != floor(v) || v < -1 ||
            v > INT32_MAX) {
            reject(r, item, "eos_token_id is not an id or a list of ids");
            return;
        }
        if (v >= 0) c->eos[c->n_eos++] = (int32_t)v;
    }
}

static void read_dtype(reader *r, const cJSON *root, model_config *c)
{
    const char *text = read_text(r, root, present(root, "dtype") ? "dtype" : "torch_dtype");
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
        reject(r, list, "layer_types must be a list of num_hidden_layers = %lld names",
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
            reject(r, item,
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
        c->window = read_int(r, root, "sliding_window", f->window, 1, INT32_MAX);
    if (f->window_rule == WINDOW_FLAGGED && !read_bool(r, root, "use_sliding_window", 0))
        c->window = 0;
    if (!c->window || r->status) return;
    if (f->window_rule == WINDOW_ALL) {
        memset(c->sliding, 1, (size_t)c->layers);
        return;
    }
    const cJSON *types = present(root, "layer_types");
    if (types) {
        read_layer_types(r, types, c);
    } else {
        int64_t from = read_int(r, root, "max_window_layers", f->max_window_layers, 0, INT32_MAX);
        for (int64_t i = from; i < c->layers; i++) c->sliding[i] = 1;
    }
}

/* ---- rotary embedding ------------------------------------------------------------------------ */
static void read_rope_kind(reader *r, const cJSON *rope, model_config *c)
{
    static const struct {
        const char *name;
        rope_kind kind;
    } kinds[] = {{"default", ROPE_DEFAULT},
                 {"linear", ROPE_LINEAR},
                 {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN}};
    const char *key = present(rope, "rope_type") ? "rope_type" : "type";
    const char *text = read_text(r, rope, key);
    if (!text) return;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(text, kinds[i].name)) {
            c->rope.kind = kinds[i].kind;
            return;
        }
    reject(r, json_get(rope, key),
           "rope type \"%.64s\" is not built; known: default, linear, dynamic, llama3, yarn", text);
}

static void read_rope_numbers(reader *r, const cJSON *root, const cJSON *rope, model_config *c)
{
    rope_config *p = &c->rope;
    const cJSON *factor = present(rope, "factor");
    if (!factor && (p->kind == ROPE_LINEAR || p->kind == ROPE_DYNAMIC || p->kind == ROPE_LLAMA3))
        reject(r, rope, "the rope scaling has no factor");
    p->original_context =
        read_int(r, rope, "original_max_position_embeddings", c->context, 1, MAX_CONTEXT);
    p->original_context =
        read_int(r, root, "original_max_position_embeddings", p->original_context, 1, MAX_CONTEXT);
    double ratio = (double)c->context / (double)p->original_context;
    p->factor = read_real(r, rope, "factor", p->kind == ROPE_YARN ? ratio : 1, 1e-3, 1e6);
    if (p->kind == ROPE_LLAMA3) {
        p->low_freq_factor = read_real(r, rope, "low_freq_factor", 1, 1e-6, 1e6);
        p->high_freq_factor = read_real(r, rope, "high_freq_factor", 4, 1e-6, 1e6);
        if (p->high_freq_factor <= p->low_freq_factor)
            reject(r, rope, "high_freq_factor %g must exceed low_freq_factor %g",
                   p->high_freq_factor, p->low_freq_factor);
    }
    if (p->kind == ROPE_YARN) {
        /* 0 means "not given" for all of these, as in transformers. */
        p->attention_factor = read_real(r, rope, "attention_factor", 0, 0, 1e3);
        p->mscale = read_real(r, rope, "mscale", 0, 0, 1e3);
        p->mscale_all_dim = read_real(r, rope, "mscale_all_dim", 0, 0, 1e3);
        p->beta_fast = read_real(r, rope, "beta_fast", 32, 0, 1e6);
        p->beta_slow = read_real(r, rope, "beta_slow", 1, 0, 1e6);
        p->truncate = read_bool(r, rope, "truncate", 1);
        if (p->beta_fast == 0) p->beta_fast = 32;
        if (p->beta_slow == 0) p->beta_slow = 1;
    }
    if (p->kind == ROPE_DYNAMIC && c->head_dim < 4)
        reject(r, rope, "dynamic rope needs a head_dim of at least 4, not %lld",
               (long long)c->head_dim);
}

static void read_rope(reader *r, const cJSON *root, model_config *c)
{
    const cJSON *rope = present(root, "rope_scaling");
    if (!rope || !(cJSON_IsObject(rope) && rope->child)) {
        const cJSON *v5 = present(root, "rope_parameters");
        rope = v5 ? v5 : rope;
    }
    c->rope = (rope_config){.kind = ROPE_DEFAULT, .factor = 1, .truncate = 1};
    c->rope.original_context = c->context;
    c->rope.theta = read_real(r, root, "rope_theta", 10000, 1.0001, 1e15);
    double partial = read_real(r, root, "partial_rotary_factor", 1, 0, 1);
    if (rope && !cJSON_IsObject(rope)) reject(r, rope, "the rope parameters are not an object");
    if (rope && !r->status) {
        const cJSON *item;
        cJSON_ArrayForEach(item, rope) if (cJSON_IsObject(item)) reject(
            r, item, "rope parameters per layer type are not built for family %s", c->family->type);
        c->rope.theta = read_real(r, rope, "rope_theta", c->rope.theta, 1.0001, 1e15);
        partial = read_real(r, rope, "partial_rotary_factor", partial, 0, 1);
        read_rope_kind(r, rope, c);
        read_rope_numbers(r, root, rope, c);
    }
    if (partial != 1)
        reject(r, rope, "partial_rotary_factor %g is not built for family %s; only 1 is", partial,
               c->family->type);
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
    if (!cJSON_IsObject(root)) reject(&r, NULL, "is not a JSON object");
    if (!r.status) read_family(&r, root, &c);
    if (!r.status) read_shape(&r, root, &c);
    if (!r.status) read_flags(&r, root, &c);
    if (!r.status) read_tokens(&r, root, &c);
    if (!r.status) read_dtype(&r, root, &c);
    if (!r.status) read_window(&r, root, &c);
    if (!r.status) read_rope(&r, root, &c);
    const cJSON *quant = r.status ? NULL : present(root, "quantization_config");
    if (quant) {
        const char *method = read_text(&r, quant, "quant_method");
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
    c->sliding = NULL;
}
