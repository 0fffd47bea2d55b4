/* gguf_model.c - architecture keys to config.json, tensor names and layouts to those of the folder.
 *
 * One row per architecture; what a converter changed (rotary rows, norms with one added, transposed
 * matrices) is undone by the tensor's source.  A tensor that has no place in its architecture is
 * refused: nothing of a model is passed over silently.
 * Left out: mixtures of experts and architectures without a row, refused by name. */
#include "checkpoint/gguf_model.h"
#include "checkpoint/gguf_config.h"
#include <stdlib.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */
typedef struct name_row {
    const char *gguf, *folder;
    int32_t row_order;
    int transposed;
} name_row;

/* Of the families whose blocks are called model.layers.N. */
static const name_row llama_rows[] = {
    {"attn_norm", "input_layernorm", 0, 0},    {"ffn_norm", "post_attention_layernorm", 0, 0},
    {"attn_q", "self_attn.q_proj", 0, 0},      {"attn_k", "self_attn.k_proj", 0, 0},
    {"attn_v", "self_attn.v_proj", 0, 0},      {"attn_output", "self_attn.o_proj", 0, 0},
    {"attn_q_norm", "self_attn.q_norm", 0, 0}, {"attn_k_norm", "self_attn.k_norm", 0, 0},
    {"ffn_gate", "mlp.gate_proj", 0, 0},       {"ffn_up", "mlp.up_proj", 0, 0},
    {"ffn_down", "mlp.down_proj", 0, 0},       {0},
};
static const name_row gemma_rows[] = {
    {"ffn_norm", "pre_feedforward_layernorm", 0, 0},
    {"post_attention_norm", "post_attention_layernorm", 0, 0},
    {"post_ffw_norm", "post_feedforward_layernorm", 0, 0},
    {0},
};
static const name_row phi3_rows[] = {
    {"attn_qkv", "self_attn.qkv_proj", 0, 0},
    {"ffn_up", "mlp.gate_up_proj", 0, 0},
    {0},
};
static const name_row gpt2_rows[] = {
    {"attn_norm", "ln_1", 0, 0},
    {"ffn_norm", "ln_2", 0, 0},
    {"attn_qkv", "attn.c_attn", 0, 1},
    {"attn_output", "attn.c_proj", 0, 1},
    {"ffn_up", "mlp.c_fc", 0, 1},
    {"ffn_down", "mlp.c_proj", 0, 1},
    {0},
};
static const name_row neox_rows[] = {
    {"attn_norm", "input_layernorm", 0, 0},
    {"ffn_norm", "post_attention_layernorm", 0, 0},
    {"attn_qkv", "attention.query_key_value", ROWS_QKV, 0},
    {"attn_output", "attention.dense", 0, 0},
    {"ffn_up", "mlp.dense_h_to_4h", 0, 0},
    {"ffn_down", "mlp.dense_4h_to_h", 0, 0},
    {0},
};

static const struct layout {
    const char *arch, *block;
    const name_row *own, *common; /* own wins */
    const char *embed, *position, *final_norm, *head;
    int rotary_pairs; /* q and k are stored in pairs */
    int plus_one;     /* norms are stored with one added */
} layouts[] = {
    {"llama", "model.layers", NULL, llama_rows, "model.embed_tokens", NULL, "model.norm", "lm_head",
     1, 0},
    {"qwen2", "model.layers", NULL, llama_rows, "model.embed_tokens", NULL, "model.norm", "lm_head",
     0, 0},
    {"qwen3", "model.layers", NULL, llama_rows, "model.embed_tokens", NULL, "model.norm", "lm_head",
     0, 0},
    {"gemma2", "model.layers", gemma_rows, llama_rows, "model.embed_tokens", NULL, "model.norm",
     "lm_head", 0, 1},
    {"gemma3", "model.layers", gemma_rows, llama_rows, "model.embed_tokens", NULL, "model.norm",
     "lm_head", 0, 1},
    {"phi3", "model.layers", phi3_rows, llama_rows, "model.embed_tokens", NULL, "model.norm",
     "lm_head", 0, 0},
    {"gpt2", "transformer.h", gpt2_rows, NULL, "transformer.wte", "transformer.wpe",
     "transformer.ln_f", "lm_head", 0, 0},
    {"gptneox", "gpt_neox.layers", neox_rows, NULL, "gpt_neox.embed_in", NULL,
     "gpt_neox.final_layer_norm", "embed_out", 0, 0},
};

static const struct layout *find_layout(const char *arch)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (!strcmp(layouts[i].arch, arch)) return &layouts[i];
    return NULL;
}

static const name_row *find_row(const name_row *rows, const char *name, size_t n)
{
    for (; rows && rows->gguf; rows++)
        if (strlen(rows->gguf) == n && !memcmp(rows->gguf, name, n)) return rows;
    return NULL;
}

/* What the configuration says instead (gguf_config.c). */
static int is_rotary_table(const char *name)
{
    static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                        "rope_factors_short.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return 1;
    return 0;
}

typedef struct place {
    char *name;          /* malloc'd */
    const name_row *row; /* NULL: not of a block */
    int is_norm;
} place;

/* "blk.3.attn_q.weight" to its place; 0 when it has none. */
static int find_place(const struct layout *l, const char *name, place *out)
{
    const char *dot = strrchr(name, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)) return 0;
    size_t stem = (size_t)(dot - name);
    const struct {
        const char *gguf, *folder;
    } outer[] = {{"token_embd", l->embed},
                 {"position_embd", l->position},
                 {"output_norm", l->final_norm},
                 {"output", l->head}};
    for (size_t i = 0; i < sizeof outer / sizeof *outer; i++)
        if (outer[i].folder && strlen(outer[i].gguf) == stem &&
            !memcmp(name, outer[i].gguf, stem)) {
            *out = (place){path_format("%s%s", outer[i].folder, dot), NULL, i == 2};
            return 1;
        }
    if (strncmp(name, "blk.", 4) != 0) return 0;
    const char *digits = name + 4, *after = digits + strspn(digits, "0123456789");
    if (after == digits || after - digits > 5 || *after != '.' || after >= dot) return 0;
    if (digits[0] == '0' && after - digits > 1) return 0; /* two spellings of one layer */
    const char *part = after + 1;
    size_t n = (size_t)(dot - part);
    const name_row *row = find_row(l->own, part, n);
    if (!row) row = find_row(l->common, part, n);
    if (!row) return 0;
    *out = (place){
        path_format("%s.%.*s.%s%s", l->block, (int)(after - digits), digits, row->folder, dot), row,
        n >= 4 && !memcmp(part + n - 4, "norm", 4)};
    return 1;
}

/* ---- one tensor ------------------------------------------------------------------------------ */
static int32_t plain_dtype(int32_t type)
{
    return type == GGML_F32    ? SQZ_F32
           : type == GGML_F16  ? SQZ_F16
           : type == GGML_BF16 ? SQZ_BF16
                               : 0;
}

static sqz_status set_order(const gguf_file *f, const struct layout *l, const gguf_tensor *g,
                            const place *p, tensor_source *s, sqz_error *err)
{
    const char *what = p->row ? p->row->gguf : "";
    int is_q = !strcmp(what, "attn_q"), is_k = !strcmp(what, "attn_k");
    if (p->row) s->row_order = p->row->row_order, s->transposed = p->row->transposed;
    if (l->rotary_pairs && (is_q || is_k)) s->row_order = ROWS_ROTARY;
    if (p->is_norm && l->plus_one) s->add = -1;
    if (g->rank < 2) s->transposed = 0;
    if (s->row_order == ROWS_AS_THEY_ARE) return SQZ_OK;
    int64_t heads = gguf_arch_int(f, "attention.head_count", 0);
    s->heads = is_k ? gguf_arch_int(f, "attention.head_count_kv", heads) : heads;
    int64_t parts = s->row_order == ROWS_QKV ? 3 : 2;
    if (s->heads < 1 || s->heads > INT32_MAX || g->rank < 1 || g->shape[0] % (s->heads * parts) ||
        (g->rank == 1 && ggml_block_elements(g->type) > 1))
        return err_set(err, ERR_MODEL,
                       "%s: tensor '%s' of %lld rows cannot be divided among %lld heads", f->path,
                       g->name, (long long)(g->rank ? g->shape[0] : 0), (long long)s->heads);
    return SQZ_OK;
}

static sqz_status make_tensor(const gguf_file *f, const struct layout *l, const gguf_tensor *g,
                              st_tensor *t, tensor_source *s, sqz_error *err)
{
    place p;
    if (!find_place(l, g->name, &p))
        return err_set(err, ERR_MODEL,
                       "%s: tensor '%s' has no place in a %s model; this kind of model is not "
                       "built",
                       f->path, g->name, l->arch);
    t->name = p.name;
    t->rank = g->rank;
    memcpy(t->shape, g->shape, sizeof g->shape);
    *s = (tensor_source){.type = g->type, .data = g->data, .bytes = g->bytes};
    sqz_status st = set_order(f, l, g, &p, s, err);
    if (st) return st;
    if (!ggml_decodes(g->type))
        return err_set(err, ERR_MODEL,
                       "%s: tensor '%s' is of type %s, which is not read; F32, F16, BF16, Q4_0, "
                       "Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K and IQ4_NL are",
                       f->path, g->name, ggml_type_name(g->type));
    if (s->transposed) {
        t->shape[0] = g->shape[1];
        t->shape[1] = g->shape[0];
    }
    t->dtype = plain_dtype(g->type);
    if (t->dtype && !s->transposed && s->add == 0) {
        t->bytes = g->bytes;
        if (s->row_order == ROWS_AS_THEY_ARE) t->data = g->data;
    } else {
        t->dtype = SQZ_F32;
        if (__builtin_mul_overflow(g->elements, (int64_t)4, &t->bytes))
            return err_set(err, ERR_MODEL, "%s: tensor '%s' is too large", f->path, g->name);
    }
    if (!t->data || !g->bytes) t->source = s;
    return SQZ_OK;
}

sqz_status gguf_tensors(const gguf_file *f, st_tensor **tensors, tensor_source **sources,
                        int64_t *n, sqz_error *err)
{
    char *arch = gguf_string(f, "general.architecture");
    const struct layout *l = find_layout(arch ? arch : "");
    free(arch);
    if (!l) return err_set(err, ERR_MODEL, "%s: its architecture is not built", f->path);
    st_tensor *t = calloc((size_t)f->n_tensors + 1, sizeof *t);
    tensor_source *s = calloc((size_t)f->n_tensors + 1, sizeof *s);
    int64_t made = 0;
    sqz_status st =
        t && s ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory for its tensors", f->path);
    for (int64_t i = 0; i < f->n_tensors && !st; i++) {
        if (is_rotary_table(f->tensors[i].name)) continue;
        st = make_tensor(f, l, &f->tensors[i], &t[made], &s[made], err);
        made++;
    }
    if (st) {
        gguf_tensors_free(t, s, made);
        return st;
    }
    *tensors = t;
    *sources = s;
    *n = made;
    return SQZ_OK;
}

void gguf_tensors_free(st_tensor *t, tensor_source *s, int64_t n)
{
    for (int64_t i = 0; t && i < n; i++) free(t[i].name);
    free(t);
    free(s);
}
