/* family.h - what distinguishes one model family from another, as data.
 *
 * A family is one row of the table in family.c: its names in config.json, the class defaults that
 * published configs rely on, and the few rules in which families differ.  Private to model/. */
#ifndef SQZ_RUNTIME_MODEL_FAMILY_H
#define SQZ_RUNTIME_MODEL_FAMILY_H
#include "model/model.h"

/* Does a projection have a bias: no, as config.json's key says, or always. */
enum { BIAS_NO = 0, BIAS_CONFIG = 1, BIAS_ALWAYS = 2 };
/* Which layers slide: none; all when sliding_window is set; those that layer_types or
 * max_window_layers name when use_sliding_window is set. */
enum { WINDOW_NEVER = 0, WINDOW_ALL = 1, WINDOW_FLAGGED = 2 };

typedef struct model_family {
    const char *type, *architecture; /* model_type, architectures[0] */
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim, context;
    /* class defaults; kv_heads 0 = heads, head_dim 0 = hidden / heads */
    int64_t window, max_window_layers;
    double norm_eps;
    int32_t bos, eos;               /* class defaults, -1 none */
    int qkv_bias, o_bias, mlp_bias; /* BIAS_... */
    int window_rule;                /* WINDOW_... */
    int qk_norm;                    /* RMS norm of every query and key head before RoPE */
    int act;                        /* default hidden_act, SQZ_ACT_... */
} model_family;

const model_family *family_find(const char *model_type); /* NULL when unknown */
/* "llama, mistral, ..." */
void family_list(char *text, size_t bytes);

/* The linears of a block; their order is that of model_linears. */
enum { ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_GATE, ROLE_UP, ROLE_DOWN, ROLE_COUNT };

/* Tensor names; %lld is the layer. */
extern const char family_embed_name[], family_final_norm_name[], family_head_name[];
typedef enum { NORM_ATTN, NORM_MLP, NORM_Q, NORM_K, NORM_COUNT } norm_role;
const char *family_norm_suffix(norm_role);
/* Entries of a norm's weight; 0 when this model has no such norm. */
int64_t family_norm_width(const model_config *, norm_role);
#endif
