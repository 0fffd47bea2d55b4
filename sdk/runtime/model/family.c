/* family.c - what follows from a family's row and a config: names, shapes, counts. */
#include "model/family.h"
#include "checkpoint/checkpoint.h"
#include <stdio.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */
static const char *root_of(const model_config *c)
{
    return c->rootless ? "" : c->family->root;
}

/* The root and the layer's prefix into name; returns their length. */
static size_t layer_prefix(const model_config *c, int64_t layer, char *name, size_t bytes)
{
    size_t n = (size_t)snprintf(name, bytes, "%s", root_of(c));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the table's own formats */
    return n + (size_t)snprintf(name + n, bytes - n, c->family->layer, (long long)layer);
#pragma GCC diagnostic pop
}

static void in_layer(const model_config *c, int64_t layer, const char *suffix, char *name,
                     size_t bytes)
{
    size_t n = layer_prefix(c, layer, name, bytes);
    snprintf(name + n, bytes - n, "%s", suffix);
}

static void of_expert(const model_config *c, int64_t layer, const char *suffix, int64_t expert,
                      char *name, size_t bytes)
{
    size_t n = layer_prefix(c, layer, name, bytes);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name + n, bytes - n, suffix, (long long)expert);
#pragma GCC diagnostic pop
}

void family_embed_name(const model_config *c, char name[FAMILY_NAME])
{
    snprintf(name, FAMILY_NAME, "%s%s", root_of(c), c->family->embed);
}

int family_positions_name(const model_config *c, char name[FAMILY_NAME])
{
    if (!c->family->positions) return 0;
    snprintf(name, FAMILY_NAME, "%s%s", root_of(c), c->family->positions);
    return 1;
}

const char *family_head_name(const model_config *c)
{
    return c->family->head;
}

int family_final_norm_module(const model_config *c, char name[FAMILY_NAME])
{
    if (!c->final_norm) return 0;
    snprintf(name, FAMILY_NAME, "%s%s", root_of(c), c->family->final_norm);
    return 1;
}

int family_norm_module(const model_config *c, int64_t layer, norm_role role, char name[FAMILY_NAME])
{
    if (!c->family->norms[role]) return 0;
    in_layer(c, layer, c->family->norms[role], name, FAMILY_NAME);
    return 1;
}

int64_t family_norm_width(const model_config *c, norm_role role)
{
    if (!c->family->norms[role]) return 0;
    return role == NORM_Q || role == NORM_K ? c->head_dim : c->hidden;
}

void family_router_name(const model_config *c, int64_t layer, char name[FAMILY_NAME])
{
    const char *module = c->fused_experts ? c->family->fused_router : c->family->router;
    in_layer(c, layer, module, name, FAMILY_NAME);
    snprintf(name + strlen(name), FAMILY_NAME - strlen(name), ".weight");
}

/* ---- linears --------------------------------------------------------------------------------- */
static const struct {
    const char *role, *input;
} roles[ROLE_COUNT] = {[ROLE_Q] = {"q", "attn_in"},      [ROLE_K] = {"k", "attn_in"},
                       [ROLE_V] = {"v", "attn_in"},      [ROLE_QKV] = {"qkv", "attn_in"},
                       [ROLE_O] = {"o", "attn_out"},     [ROLE_GATE] = {"gate", "mlp_in"},
                       [ROLE_UP] = {"up", "mlp_in"},     [ROLE_GATE_UP] = {"gate_up", "mlp_in"},
                       [ROLE_DOWN] = {"down", "mlp_mid"}};

static int sparse(const model_config *c, int64_t layer)
{
    return c->sparse && c->sparse[layer];
}

/* Roles of a layer's own linears: of a sparse layer only those of attention. */
static int role_exists(const model_config *c, int64_t layer, int role)
{
    return c->family->linears[role] && (role <= ROLE_O || !sparse(c, layer));
}

static int64_t own_linears(const model_config *c, int64_t layer)
{
    int64_t n = 0;
    for (int r = 0; r < ROLE_COUNT; r++) n += role_exists(c, layer, r);
    return n;
}

int64_t model_linear_count(const model_config *c, int64_t layer)
{
    return own_linears(c, layer) + (sparse(c, layer) ? 3 * c->experts : 0);
}

static void own_linear(const model_config *c, int64_t layer, int role, linear_spec *out)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, h = c->hidden, f = c->ffn;
    const struct {
        int64_t rows, cols;
        int bias;
    } shape[ROLE_COUNT] = {
        [ROLE_Q] = {q, h, c->qkv_bias},   [ROLE_K] = {kv, h, c->qkv_bias},
        [ROLE_V] = {kv, h, c->qkv_bias},  [ROLE_QKV] = {q + 2 * kv, h, c->qkv_bias},
        [ROLE_O] = {h, q, c->o_bias},     [ROLE_GATE] = {f, h, c->mlp_bias},
        [ROLE_UP] = {f, h, c->mlp_bias},  [ROLE_GATE_UP] = {2 * f, h, c->mlp_bias},
        [ROLE_DOWN] = {h, f, c->mlp_bias}};
    *out = (linear_spec){.role = roles[role].role,
                         .index = role,
                         .expert = -1,
                         .rows = shape[role].rows,
                         .cols = shape[role].cols,
                         .has_bias = shape[role].bias,
                         .transposed = c->family->layout == LAYOUT_TRANSPOSED};
    snprintf(out->input, sizeof out->input, "%s", roles[role].input);
    in_layer(c, layer, c->family->linears[role], out->module, sizeof out->module);
    snprintf(out->tensor, sizeof out->tensor, "%s.weight", out->module);
}

static void expert_linear(const model_config *c, int64_t layer, int64_t i, linear_spec *out)
{
    static const int role[] = {ROLE_GATE, ROLE_UP, ROLE_DOWN};
    const model_family *f = c->family;
    const char *const names[] = {f->expert_gate, f->expert_up, f->expert_down};
    int64_t expert = i / 3, which = i % 3;
    int down = which == 2;
    *out = (linear_spec){.role = roles[role[which]].role,
                         .index = role[which],
                         .expert = (int32_t)expert,
                         .rows = down ? c->hidden : c->expert_ffn,
                         .cols = down ? c->expert_ffn : c->hidden};
    snprintf(out->input, sizeof out->input, down ? "expert.%lld.mid" : "expert.%lld.in",
             (long long)expert);
    of_expert(c, layer, names[which], expert, out->module, sizeof out->module);
    if (!c->fused_experts) {
        snprintf(out->tensor, sizeof out->tensor, "%s.weight", out->module);
        return;
    }
    in_layer(c, layer, down ? f->fused_down : f->fused_gate_up, out->tensor, sizeof out->tensor);
    out->first_row = down ? expert * c->hidden : (2 * expert + which) * c->expert_ffn;
    out->tensor_rows = (down ? c->hidden : 2 * c->expert_ffn) * c->experts;
}

void model_linear(const model_config *c, int64_t layer, int64_t i, linear_spec *out)
{
    int64_t own = own_linears(c, layer);
    if (i >= own) {
        expert_linear(c, layer, i - own, out);
        return;
    }
    int role = 0;
    for (; role < ROLE_COUNT; role++)
        if (role_exists(c, layer, role) && i-- == 0) break;
    own_linear(c, layer, role, out);
}

int64_t family_slots(const model_config *c)
{
    return SLOT_EXPERT + 3 * c->experts;
}

int family_parts(const model_config *c, const linear_spec *s, linear_part out[MAX_PARTS])
{
    static const int slot[ROLE_COUNT] = {
        [ROLE_Q] = SLOT_Q,   [ROLE_K] = SLOT_K,          [ROLE_V] = SLOT_V,
        [ROLE_QKV] = SLOT_Q, [ROLE_O] = SLOT_O,          [ROLE_GATE] = SLOT_GATE,
        [ROLE_UP] = SLOT_UP, [ROLE_GATE_UP] = SLOT_GATE, [ROLE_DOWN] = SLOT_DOWN};
    int first = slot[s->index], n = 1;
    int64_t rows[MAX_PARTS] = {s->rows};
    if (s->expert >= 0) first = SLOT_EXPERT + 3 * s->expert + first - SLOT_GATE;
    if (s->index == ROLE_QKV) {
        n = 3;
        rows[0] = c->heads * c->head_dim;
        rows[1] = rows[2] = c->kv_heads * c->head_dim;
    } else if (s->index == ROLE_GATE_UP) {
        n = 2;
        rows[0] = rows[1] = c->ffn;
    }
    int turns = s->index == ROLE_QKV && c->family->layout == LAYOUT_HEADS;
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        out[i] = (linear_part){first + i, rows[i], at, rows[i], rows[i]};
        if (turns) {
            out[i].run = c->head_dim;
            out[i].stride = 3 * c->head_dim;
        }
        at += turns ? c->head_dim : rows[i];
    }
    return n;
}

/* ---- how the files spell it ------------------------------------------------------------------ */
void model_config_bind(model_config *c, const checkpoint *ck)
{
    char name[FAMILY_NAME];
    c->rootless = 0;
    family_embed_name(c, name);
    if (!checkpoint_find(ck, name)) {
        c->rootless = 1;
        family_embed_name(c, name);
        if (!checkpoint_find(ck, name)) c->rootless = 0; /* neither: report the usual name */
    }
    for (int64_t l = 0; l < c->layers && c->family->fused_gate_up; l++) {
        if (!sparse(c, l)) continue;
        in_layer(c, l, c->family->fused_gate_up, name, sizeof name);
        c->fused_experts = checkpoint_find(ck, name) != NULL;
        break;
    }
}

int model_tensor_name(const model_config *c, const char *stored, char *name, size_t bytes)
{
    if (!c->fused_experts || strcmp(c->family->router, c->family->fused_router) == 0) return 0;
    for (int64_t l = 0; l < c->layers; l++) {
        char router[FAMILY_NAME];
        if (!sparse(c, l)) continue;
        family_router_name(c, l, router);
        if (strcmp(router, stored)) continue;
        in_layer(c, l, c->family->router, name, bytes);
        snprintf(name + strlen(name), bytes - strlen(name), ".weight");
        return 1;
    }
    return 0;
}

/* ---- counts ---------------------------------------------------------------------------------- */
static int64_t sparse_layers(const model_config *c)
{
    int64_t n = 0;
    for (int64_t l = 0; c->sparse && l < c->layers; l++) n += c->sparse[l];
    return n;
}

/* One layer of a kind, or -1. */
static int64_t layer_of_kind(const model_config *c, int kind)
{
    for (int64_t l = 0; l < c->layers; l++)
        if (sparse(c, l) == kind) return l;
    return -1;
}

static int64_t layer_moment_bytes(const model_config *c, int64_t layer)
{
    int64_t bytes = 0, n = own_linears(c, layer);
    linear_spec spec, seen;
    for (int64_t i = 0; i < n; i++) {
        int known = 0;
        model_linear(c, layer, i, &spec);
        for (int64_t k = 0; k < i && !known; k++) {
            model_linear(c, layer, k, &seen);
            known = strcmp(seen.input, spec.input) == 0;
        }
        if (!known) bytes += 4 * (spec.cols * (spec.cols + 1) / 2);
    }
    int64_t in = 4 * (c->hidden * (c->hidden + 1) / 2);
    int64_t mid = 4 * (c->expert_ffn * (c->expert_ffn + 1) / 2);
    return bytes + (sparse(c, layer) ? c->experts * (in + mid) : 0);
}

int64_t model_moment_bytes(const model_config *c)
{
    int64_t many = sparse_layers(c), bytes = 0;
    for (int kind = 0; kind < 2; kind++) {
        int64_t layer = layer_of_kind(c, kind);
        if (layer >= 0) bytes += layer_moment_bytes(c, layer) * (kind ? many : c->layers - many);
    }
    return bytes;
}

int64_t model_parameters(const model_config *c, int64_t *in_block_linears)
{
    int64_t many = sparse_layers(c), linears = 0, small = 0;
    int biased = c->family->norm_kind == NORM_KIND_LAYER;
    for (int kind = 0; kind < 2; kind++) {
        int64_t layer = layer_of_kind(c, kind), count = kind ? many : c->layers - many;
        if (layer < 0) continue;
        int64_t n = own_linears(c, layer);
        for (int64_t i = 0; i < n; i++) {
            linear_spec spec;
            model_linear(c, layer, i, &spec);
            linears += spec.rows * spec.cols * count;
            if (spec.has_bias) small += spec.rows * count;
        }
        if (!kind) continue;
        linears += 3 * c->experts * c->expert_ffn * c->hidden * count;
        small += c->experts * c->hidden * count;
    }
    for (int r = 0; r < NORM_COUNT; r++)
        small += family_norm_width(c, (norm_role)r) * (1 + biased) * c->layers;
    if (c->final_norm) small += c->hidden * (1 + biased);
    if (c->family->positions) small += (c->context + c->family->position_offset) * c->hidden;
    if (in_block_linears) *in_block_linears = linears;
    return linears + small + c->vocab * c->hidden * (c->tied ? 1 : 2);
}
