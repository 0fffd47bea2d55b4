/* config_rope.c - the rotary embedding in config.json: rope_scaling beside rope_theta, or
 * transformers 5's rope_parameters, for all layers or per layer type (gemma3). */
#include "model/config_read.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void read_rope_kind(reader *r, const cJSON *rope, model_config *c)
{
    static const struct {
        const char *name;
        rope_kind kind;
    } kinds[] = {{"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3},   {"yarn", ROPE_YARN},     {"longrope", ROPE_LONGROPE},
                 {"su", ROPE_LONGROPE}};
    const char *key = key_present(rope, "rope_type") ? "rope_type" : "type";
    const char *text = key_text(r, rope, key);
    if (!text) return;
    /* Early phi3 files call longrope yarn. */
    if (!strcmp(text, "yarn") && key_present(rope, "long_factor")) text = "longrope";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(text, kinds[i].name)) {
            c->rope.kind = kinds[i].kind;
            return;
        }
    key_reject(
        r, json_get(rope, key),
        "rope type \"%.64s\" is not built; known: default, linear, dynamic, llama3, yarn, longrope",
        text);
}

/* One positive number for every pair of rotated entries. */
static float *read_factors(reader *r, const cJSON *rope, const char *key, int64_t n)
{
    const cJSON *list = key_present(rope, key), *item;
    if (r->status) return NULL;
    if (!list || !cJSON_IsArray(list) || cJSON_GetArraySize(list) != n) {
        key_reject(r, list ? list : rope,
                   "%s must be a list of %lld numbers, half of what is rotated", key, (long long)n);
        return NULL;
    }
    float *out = malloc((size_t)n * sizeof *out), *at = out;
    if (!out) {
        r->status = err_set(r->err, SQZ_E_NOMEM, "%s: no memory for %s", r->name, key);
        return NULL;
    }
    cJSON_ArrayForEach(item, list)
    {
        double v = cJSON_IsNumber(item) ? item->valuedouble : 0;
        if (!(v >= 1e-6 && v <= 1e9)) {
            key_reject(r, item, "%s holds something that is no positive number", key);
            free(out);
            return NULL;
        }
        *at++ = (float)v;
    }
    return out;
}

static void read_rope_numbers(reader *r, const cJSON *root, const cJSON *rope, model_config *c)
{
    rope_config *p = &c->rope;
    const cJSON *factor = key_present(rope, "factor");
    if (!factor && (p->kind == ROPE_LINEAR || p->kind == ROPE_DYNAMIC || p->kind == ROPE_LLAMA3))
        key_reject(r, rope, "the rope scaling has no factor");
    p->original_context =
        key_int(r, rope, "original_max_position_embeddings",
                p->kind == ROPE_LONGROPE ? c->family->context : c->context, 1, MAX_CONTEXT);
    p->original_context =
        key_int(r, root, "original_max_position_embeddings", p->original_context, 1, MAX_CONTEXT);
    double ratio = (double)c->context / (double)p->original_context;
    int derived = p->kind == ROPE_YARN || p->kind == ROPE_LONGROPE;
    p->factor = key_real(r, rope, "factor", derived ? ratio : 1, 1e-3, 1e6);
    if (derived) /* 0 means "not given", as in transformers */
        p->attention_factor = key_real(r, rope, "attention_factor", 0, 0, 1e3);
    if (p->kind == ROPE_LLAMA3) {
        p->low_freq_factor = key_real(r, rope, "low_freq_factor", 1, 1e-6, 1e6);
        p->high_freq_factor = key_real(r, rope, "high_freq_factor", 4, 1e-6, 1e6);
        if (p->high_freq_factor <= p->low_freq_factor)
            key_reject(r, rope, "high_freq_factor %g must exceed low_freq_factor %g",
                       p->high_freq_factor, p->low_freq_factor);
    }
    if (p->kind == ROPE_YARN) {
        /* so it does for all of these */
        p->mscale = key_real(r, rope, "mscale", 0, 0, 1e3);
        p->mscale_all_dim = key_real(r, rope, "mscale_all_dim", 0, 0, 1e3);
        p->beta_fast = key_real(r, rope, "beta_fast", 32, 0, 1e6);
        p->beta_slow = key_real(r, rope, "beta_slow", 1, 0, 1e6);
        p->truncate = key_bool(r, rope, "truncate", 1);
        if (p->beta_fast == 0) p->beta_fast = 32;
        if (p->beta_slow == 0) p->beta_slow = 1;
    }
    if (p->kind == ROPE_LONGROPE) {
        p->short_factor = read_factors(r, rope, "short_factor", c->rotary / 2);
        p->long_factor = read_factors(r, rope, "long_factor", c->rotary / 2);
    }
    if (p->kind == ROPE_DYNAMIC && c->rotary < 4)
        key_reject(r, rope, "dynamic rope needs a head_dim of at least 4, not %lld",
                   (long long)c->rotary);
}

/* How many entries of a head are rotated. */
static void read_partial(reader *r, const cJSON *root, const cJSON *rope, model_config *c)
{
    const char *key = family_key_name(c, KEY_PARTIAL);
    double usual = c->family->partial > 0 ? c->family->partial : 1;
    double partial = key_real(r, root, key, usual, 0, 1);
    if (rope) partial = key_real(r, rope, "partial_rotary_factor", partial, 0, 1);
    c->rotary = (int64_t)((double)c->head_dim * partial);
    if (partial != 1 && !(c->family->partial > 0))
        key_reject(r, rope, "partial_rotary_factor %g is not built for family %s; only 1 is",
                   partial, c->family->type);
    if (!r->status && (c->rotary < 2 || c->rotary % 2))
        key_reject(r, rope, "%s %g rotates %lld entries of a head; it must be an even number", key,
                   partial, (long long)c->rotary);
}

/* rope_parameters per layer type: the full layers' are the model's, the sliding ones have a base of
 * their own and no scaling. */
static const cJSON *read_layer_kinds(reader *r, const cJSON *rope, model_config *c)
{
    const cJSON *item, *local = key_present(rope, "sliding_attention");
    int nested = 0;
    cJSON_ArrayForEach(item, rope) if (cJSON_IsObject(item)) nested = 1;
    if (!nested) return rope;
    if (!(c->family->theta_local > 0)) {
        key_reject(r, rope->child, "rope parameters per layer type are not built for family %s",
                   c->family->type);
        return rope;
    }
    if (local) {
        const char *kind = key_text(r, local, "rope_type");
        c->local_theta = key_real(r, local, "rope_theta", c->local_theta, 1.0001, 1e15);
        if (kind && strcmp(kind, "default"))
            key_reject(r, local, "rope type \"%.64s\" of the sliding layers is not built", kind);
    }
    return key_present(rope, "full_attention");
}

void read_rope(reader *r, const cJSON *root, model_config *c)
{
    const model_family *f = c->family;
    c->rope = (rope_config){.kind = ROPE_DEFAULT, .theta = 10000, .factor = 1, .truncate = 1};
    c->rope.original_context = c->context;
    if (f->position_kind != POSITIONS_ROTARY || r->status) return;
    const cJSON *rope = key_present(root, "rope_scaling");
    if (!rope || !(cJSON_IsObject(rope) && rope->child)) {
        const cJSON *v5 = key_present(root, "rope_parameters");
        rope = v5 ? v5 : rope;
    }
    double theta = f->theta > 0 ? f->theta : 10000;
    theta = key_real(r, root, family_key_name(c, KEY_THETA), theta, 1.0001, 1e15);
    c->rope.theta = key_real(r, root, "rope_theta", theta, 1.0001, 1e15);
    if (f->theta_local > 0)
        c->local_theta = key_real(r, root, "rope_local_base_freq", f->theta_local, 1.0001, 1e15);
    if (rope && !cJSON_IsObject(rope)) key_reject(r, rope, "the rope parameters are not an object");
    if (r->status) return;
    if (rope) rope = read_layer_kinds(r, rope, c);
    read_partial(r, root, rope, c);
    if (!rope || r->status) return;
    c->rope.theta = key_real(r, rope, "rope_theta", c->rope.theta, 1.0001, 1e15);
    read_rope_kind(r, rope, c);
    read_rope_numbers(r, root, rope, c);
}
