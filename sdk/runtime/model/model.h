/* model.h - decoder language models: families as data tables and one forward for all.
 *
 * Three layers: model_config (what config.json says), model (weights streamed block by block or held
 * whole, in whatever form each linear has), session functions (log-probabilities, generation).
 * All arithmetic goes through a hardware backend (sqz/hardware.h). */
#ifndef SQZ_RUNTIME_MODEL_H
#define SQZ_RUNTIME_MODEL_H
#include "checkpoint/checkpoint.h"
#include "error/error.h"
#include <sqz/eval.h>
#include <sqz/hardware.h>

/* ---- configuration --------------------------------------------------------------------------- */
typedef enum rope_kind {
    ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONGROPE
} rope_kind;
typedef struct rope_config {
    rope_kind kind;
    double theta, factor, low_freq_factor, high_freq_factor;
    double beta_fast, beta_slow, attention_factor /* 0 = derive */, mscale, mscale_all_dim;
    int truncate;
    int64_t original_context;
    float *short_factor, *long_factor; /* [rotary / 2] of longrope, owned by the model_config */
} rope_config;

typedef struct model_config {
    const struct model_family *family;
    char architecture[64];
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, ffn, context;
    double norm_eps;
    int32_t act;          /* SQZ_ACT_... */
    int qkv_bias, o_bias, mlp_bias, qk_norm, tied;
    int final_norm;       /* 0: the last block's output goes to the head as it is */
    int post_norm;        /* norms follow the residual additions instead of leading the halves */
    int parallel;         /* attention and MLP read the same input */
    double attn_scale, attn_softcap, final_softcap; /* caps 0 = none */
    int attn_scale_by_layer;                        /* divided by the layer's number from 1 */
    int64_t window;       /* sliding window, 0 = none */
    uint8_t *sliding;     /* [layers] 1 where the window applies */
    int64_t rotary;       /* leading entries of a head that are rotated; 0: learned positions */
    rope_config rope;
    double local_theta;   /* of the sliding layers' own, unscaled rotation; 0: they share rope */
    int64_t experts, experts_per_token, expert_ffn; /* experts 0 = none */
    int norm_topk;        /* weights of the chosen experts are made to sum to 1 */
    uint8_t *sparse;      /* [layers] 1 where experts take the MLP's place, or NULL */
    int rootless, fused_experts; /* how the checkpoint spells names: model_config_bind */
    int32_t bos, eos[8];  /* -1 / none */
    int n_eos;
    int32_t dtype;        /* of the checkpoint: SQZ_BF16 ... */
    char quant_method[32];/* quantization_config.quant_method or "" */
} model_config;

/* Parses config.json text in either spelling.  Unknown family or rope kind: ERR_MODEL by name, with
 * the list of known ones. */
sqz_status model_config_parse(const char *json, const char *name, model_config *out, sqz_error *err);
void model_config_free(model_config *);
/* Adapts the names to those that the checkpoint uses. */
void model_config_bind(model_config *, const checkpoint *);
/* Parameters in total and in the linears of the blocks. */
int64_t model_parameters(const model_config *, int64_t *in_block_linears);

/* The linears of one block that methods change, in forward order.  An expert's are named as files
 * with one tensor per expert name them, whatever this checkpoint does. */
typedef struct linear_spec {
    char module[128];  /* "model.layers.3.mlp.up_proj" */
    const char *role;  /* "q", "k", "v", "qkv", "o", "gate", "up", "gate_up" or "down" */
    char input[32];    /* which activation it reads: "attn_in", "attn_out", "mlp_in", "mlp_mid",
                          "expert.7.in", "expert.7.mid" */
    int64_t rows, cols; /* out features, in features */
    int has_bias;
    int32_t expert;     /* -1: of the layer itself */
    /* where the dense weight lies in the checkpoint */
    char tensor[136];
    int transposed;       /* the tensor is [cols, rows] */
    int64_t first_row;    /* in a tensor of several experts that is read as [tensor_rows, cols] */
    int64_t tensor_rows;  /* 0: the tensor is this linear's own */
    int index;            /* private to model/ */
} linear_spec;
/* What a tensor beside the experts is called in a checkpoint with one tensor per expert; 0 when it
 * keeps its name. */
int model_tensor_name(const model_config *, const char *stored, char *name, size_t bytes);
int64_t model_linear_count(const model_config *, int64_t layer);
void model_linear(const model_config *, int64_t layer, int64_t i, linear_spec *out);
/* The dense weight of a linear in the checkpoint as a [rows, cols] matrix.  *owned receives the copy
 * (malloc) that a transposed, packed or misaligned tensor needs, else NULL: the data lie in the
 * mapping.
 * ERR_MODEL by name when it is missing or has another shape or dtype. */
sqz_status model_dense(const model_config *, const checkpoint *, const linear_spec *,
                       sqz_weight *out, void **owned, sqz_error *err);
/* The same as float32 into out [rows, cols]. */
sqz_status model_dense_values(const model_config *, const checkpoint *, const linear_spec *,
                              float *out, sqz_error *err);
/* Its pages may leave memory again. */
void model_dense_done(const checkpoint *, const linear_spec *);
/* Bytes of the second moments of all linears' inputs as they are kept: upper triangles in float32,
 * one for the linears of a block that share an input. */
int64_t model_moment_bytes(const model_config *);

/* ---- where weights come from ----------------------------------------------------------------- */
/* The form of a linear by module name: fills *out (arrays borrowed until weights_done is called with
 * the same module, or forever) and returns 1; 0 = take the dense tensor of the checkpoint; negative
 * = error.  Used for artifacts (their changed tensors) and quantized folders (a format plugin). */
typedef struct weight_overlay {
    void *impl;
    int (*linear)(void *impl, const char *module, sqz_weight *out, sqz_error *err);
    void (*done)(void *impl, const char *module); /* may be NULL */
} weight_overlay;

typedef struct device {
    const sqz_hardware *hw;
    void *dev;
} device;

typedef struct model_options {
    device device;
    int32_t compute;               /* SQZ_F32 or SQZ_BF16 */
    const weight_overlay *overlay; /* borrowed for the model's life, or NULL */
    int64_t batch_tokens;          /* rows per forward chunk, 0 = 2048 */
    int resident;                  /* 1: pack all blocks once and keep them (generation, many evals);
                                      0: pack a block, run everything through it, drop it */
} model_options;

typedef struct model model;
/* `checkpoint` is borrowed for the model's life. */
sqz_status model_open(const checkpoint *, const model_options *, model **out, sqz_error *err);
void model_close(model *);
const model_config *model_get_config(const model *);
/* Bytes of weights read per decoded token (packed linears + head). */
int64_t model_weight_bytes(model *);

/* ---- forward --------------------------------------------------------------------------------- */
/* Called with the inputs of the block's linears while a batch passes: x is [tokens, cols] in device
 * memory, `input` one of linear_spec's names.  Return non-zero to stop. */
typedef int (*model_capture)(void *ctx, int64_t layer, const char *input, int64_t tokens,
                             int64_t cols, const sqz_mem *x);

/* Hidden states of n independent windows of equal length, kept outside so that one block at a time
 * can be streamed over all of them: hidden is host memory [n * window, H] float32.
 * Embedding: */
sqz_status model_embed(model *, const int32_t *ids, int64_t windows, int64_t window, float *hidden,
                       sqz_error *err);
/* One block, in place.  capture may be NULL. */
sqz_status model_block(model *, int64_t layer, int64_t windows, int64_t window, float *hidden,
                       model_capture capture, void *ctx, sqz_error *err);
/* tick: called between chunks with done 0..1; non-zero stops with SQZ_E_CANCELLED.  Set before use. */
void model_set_tick(model *, int (*tick)(void *ctx, double done, const char *what), void *ctx);

/* All logits of [B, T] ids into host memory [B*T, V]; hidden_out, when not NULL, receives L + 1
 * arrays [B*T, H] one after another (the last one after the final norm). */
sqz_status model_logits(model *, const int32_t *ids, int64_t b, int64_t t, float *logits,
                        float *hidden_out, sqz_error *err);
/* See sqz_eval.score_windows. argmax (may be NULL) [n, window]: arg max predicted FROM position t. */
sqz_status model_score_windows(model *, const int32_t *ids, int64_t n, int64_t window,
                               float *logprob, int32_t *argmax, sqz_error *err);
/* See sqz_eval.loglik.  Requests with the same context share its work exactly. */
sqz_status model_loglik(model *, sqz_loglik *requests, int64_t n, sqz_error *err);

/* KL divergence support: for n windows, the K largest log-probabilities per position of the model, or
 * the divergence of this model from such a record.  Partition KL over the K tokens plus "the rest":
 * a lower bound of the full KL. */
enum { MODEL_KL_TOP = 64 };
sqz_status model_top_record(model *, const int32_t *ids, int64_t n, int64_t window,
                            int32_t *top_ids /* [n*window, K] */, float *top_lp, sqz_error *err);
typedef struct model_divergence {
    double kl, kl_stderr;             /* mean over positions; error by the spread of windows */
    double kl_median, kl_p99, kl_max; /* of single positions */
    double perplexity;                /* of the same windows */
    double same_top, same_top_stderr; /* share of positions with the record's arg max */
    int64_t positions, flips;         /* flips: positions with another arg max */
} model_divergence;
sqz_status model_kl(model *, const int32_t *ids, int64_t n, int64_t window, const int32_t *top_ids,
                    const float *top_lp, model_divergence *out, sqz_error *err);

/* ---- generation ------------------------------------------------------------------------------ */
typedef struct sampling {
    double temperature; /* 0 = greedy */
    double top_p;       /* 1 = off */
    int64_t top_k;      /* 0 = off */
    uint64_t seed;
} sampling;
enum { GENERATE_STOP = 1, GENERATE_STOP_ONE = 2 }; /* what on_token returns */
typedef struct generate_times { double ttft_s, tpot_s; } generate_times;
/* n prompts at once (continuous batching up to 64 sequences); on_token (may be NULL) is told each new
 * id as it comes and may stop everything or this one request.  Stop ids: the config's eos ids (ignored when
 * ignore_eos).  times: of the first prompt, may be NULL. */
sqz_status model_generate(model *, sqz_generation *requests, int64_t n, int64_t max_new,
                          const sampling *, int ignore_eos,
                          int (*on_token)(void *ctx, int64_t request, int32_t id), void *ctx,
                          generate_times *times, sqz_error *err);
#endif
