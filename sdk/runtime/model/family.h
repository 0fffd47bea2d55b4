/* family.h - what distinguishes one model family from another, as data.
 *
 * A family is one row of the table in families.c: its names in config.json and in the checkpoint,
 * the class defaults that published configs rely on, and the few rules in which families differ.
 * docs/add-a-family.md walks through one.  Private to model/. */
#ifndef SQZ_RUNTIME_MODEL_FAMILY_H
#define SQZ_RUNTIME_MODEL_FAMILY_H
#include "model/model.h"

/* Does a projection have a bias: no, as config.json's key says, or always. */
enum { BIAS_NO = 0, BIAS_CONFIG = 1, BIAS_ALWAYS = 2 };
/* Which layers slide: none; all when sliding_window is set; those that layer_types or
 * max_window_layers name when use_sliding_window is set; all when use_sliding_window is set; all
 * but every n-th, n = sliding_window_pattern, or as layer_types says. */
enum { WINDOW_NEVER, WINDOW_ALL, WINDOW_FLAGGED, WINDOW_FLAGGED_ALL, WINDOW_PATTERN };
/* RMSNorm, RMSNorm with weight 1 + w, LayerNorm with bias. */
enum { NORM_KIND_RMS, NORM_KIND_RMS_PLUS_ONE, NORM_KIND_LAYER };
/* Where positions enter: rotations of queries and keys, or a learned table added to the input. */
enum { POSITIONS_ROTARY, POSITIONS_LEARNED };
/* How a linear's tensor lies: [out, in]; [in, out] (Conv1D); [out, in] with the rows of queries,
 * keys and values taking turns head by head. */
enum { LAYOUT_ROWS, LAYOUT_TRANSPOSED, LAYOUT_HEADS };

/* Keys of config.json that some families spell in their own way. */
typedef enum {
    KEY_HIDDEN,
    KEY_LAYERS,
    KEY_HEADS,
    KEY_FFN,
    KEY_CONTEXT,
    KEY_EPS,
    KEY_ACT,
    KEY_PARTIAL,
    KEY_THETA,
    KEY_COUNT
} family_key;

/* The norms of a block.  *_POST: of the half's output, before it is added. */
typedef enum {
    NORM_ATTN,
    NORM_MLP,
    NORM_Q,
    NORM_K,
    NORM_ATTN_POST,
    NORM_MLP_POST,
    NORM_COUNT
} norm_role;

/* The linears of a block as they are stored, in forward order.  QKV and GATE_UP are several in one
 * tensor; a gate without `up` does not exist, an `up` without gate is a plain MLP. */
enum {
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_QKV,
    ROLE_O,
    ROLE_GATE,
    ROLE_UP,
    ROLE_GATE_UP,
    ROLE_DOWN,
    ROLE_COUNT
};

enum { FIXED_KEYS = 2 };

typedef struct model_family {
    const char *type, *architecture; /* model_type, architectures[0] */
    /* ---- tensor names ---- */
    const char *root; /* of all names but the head; some files leave it out */
    const char *embed, *positions, *final_norm; /* below the root; positions NULL: none */
    const char *head;                           /* whole name, of a head that is not tied */
    const char *layer;                          /* below the root, %lld is the layer */
    const char *norms[NORM_COUNT];              /* below the layer, NULL: no such norm */
    const char *linears[ROLE_COUNT];            /* below the layer, NULL: no such linear */
    /* routed experts, below the layer: the router, gate, up and down of expert %lld, and the three
     * tensors that transformers 5 keeps them in */
    const char *router, *expert_gate, *expert_up, *expert_down;
    const char *fused_router, *fused_gate_up, *fused_down;
    int layout; /* LAYOUT_... of ROLE_QKV, or of all linears when transposed */
    /* ---- config.json ---- */
    const char *keys[KEY_COUNT]; /* NULL: the usual one */
    /* class defaults; kv_heads 0 = heads, head_dim 0 = hidden / heads, ffn 0 = 4 hidden */
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim, context;
    int64_t window, max_window_layers, window_pattern;
    int64_t experts, experts_per_token, expert_ffn; /* expert_ffn 0 = ffn */
    const char *experts_key, *norm_topk_key;        /* norm_topk_key NULL: always normalised */
    double norm_eps, theta, theta_local; /* theta 0 = 10000; theta_local 0: one table for all */
    double partial;                      /* part of a head that is rotated; 0 = all, always */
    double score_cap, logit_cap;         /* attn_logit_softcapping, final_logit_softcapping */
    int soft_caps;                       /* reads those two keys */
    int64_t scalar;                      /* query_pre_attn_scalar; 0: head_dim */
    int32_t bos, eos;                    /* -1 none */
    int tied;
    int qkv_bias, o_bias, mlp_bias; /* BIAS_... */
    int window_rule;                /* WINDOW_... */
    int act;                        /* SQZ_ACT_... */
    /* ---- the block ---- */
    int norm_kind;       /* NORM_KIND_... */
    int position_kind;   /* POSITIONS_... */
    int position_offset; /* row of the table for position 0 */
    int embed_scaled;    /* times sqrt(hidden) */
    int parallel;        /* use_parallel_residual, true by default, is read */
    int ungrouped;       /* num_key_value_heads and head_dim do not exist */
    int order_keys;      /* reads do_layer_norm_before and _remove_final_layer_norm */
    int scale_keys;      /* reads scale_attn_weights and scale_attn_by_inverse_layer_idx */
    struct {             /* flags of config.json of which one value is built */
        const char *key;
        int built;
    } fixed[FIXED_KEYS];
} model_family;

const model_family *family_find(const char *model_type); /* NULL when unknown */
const model_family *family_at(int i);                    /* NULL past the end */
/* "llama, mistral, ..." */
void family_list(char *text, size_t bytes);

/* ---- tensors ----------------------------------------------------------------------------------
 */
enum { FAMILY_NAME = 192 };
void family_embed_name(const model_config *, char name[FAMILY_NAME]);
/* 0 when the family has none. */
int family_positions_name(const model_config *, char name[FAMILY_NAME]);
const char *family_head_name(const model_config *);
/* Without ".weight"; 0 when this model has none. */
int family_final_norm_module(const model_config *, char name[FAMILY_NAME]);
int family_norm_module(const model_config *, int64_t layer, norm_role, char name[FAMILY_NAME]);
/* Entries of a norm's weight; 0 when this model has no such norm. */
int64_t family_norm_width(const model_config *, norm_role);
/* Tensor of a sparse layer's router [experts, hidden]. */
void family_router_name(const model_config *, int64_t layer, char name[FAMILY_NAME]);

/* ---- what the forward multiplies with ---------------------------------------------------------
 * One packed weight per slot; a stored linear fills one to three of them.  Expert e has the slots
 * SLOT_EXPERT + 3 e (gate), + 1 (up), + 2 (down). */
enum { SLOT_Q, SLOT_K, SLOT_V, SLOT_O, SLOT_GATE, SLOT_UP, SLOT_DOWN, SLOT_ROUTER, SLOT_EXPERT };
int64_t family_slots(const model_config *);
/* Rows of a stored linear that make a slot: stored row of row r is first + r / run * stride +
 * r % run. */
typedef struct linear_part {
    int slot;
    int64_t rows, first, run, stride;
} linear_part;
enum { MAX_PARTS = 3 };
int family_parts(const model_config *, const linear_spec *, linear_part out[MAX_PARTS]);
#endif
