/* internal.h - what the files of model/ share: the opened model, one ragged batch, the forward.
 *
 * Device memory of a model: `vectors` (norms and biases of all layers, small), one arena of
 * activations that grows to the largest batch seen and is then reused (fresh pages cost more than
 * the arithmetic they serve), the logits of one chunk of rows, the rotary tables. */
#ifndef SQZ_RUNTIME_MODEL_INTERNAL_H
#define SQZ_RUNTIME_MODEL_INTERNAL_H
#include "model/family.h"

/* What one slot of a block is multiplied with. */
typedef struct piece {
    void *packed;
    void *owned;       /* rows collected from a tensor that mixes them, or NULL */
    sqz_affine affine; /* rows of a quantized linear, when it is one of several in there */
} piece;

/* The packed linears of one block. */
typedef struct block {
    piece *pieces; /* [family_slots] */
    struct source {
        void *owned;      /* copy of a tensor that is misaligned or transposed, or NULL */
        uint8_t overlaid; /* its arrays are the overlay's */
        uint8_t packed;   /* the backend has all it needs */
    } * sources;          /* [model_linear_count] */
    void *router_owned;
    int loaded;
} block;

/* Rotary tables: of all layers, or of the full ones and of the sliding ones. */
enum { ROPE_FULL, ROPE_LOCAL, ROPE_TABLES };

/* A ragged batch: sequence s owns the tokens first[s] .. first[s + 1] - 1.  Arrays belong to the
 * model and are reused. */
typedef struct batch {
    int64_t tokens, sequences;
    int64_t *first;  /* [sequences + 1] */
    int32_t *slot;   /* [sequences] of the cache */
    int64_t *past;   /* [sequences] tokens before the first one of this batch */
    int64_t *length; /* [sequences] that dynamic RoPE scales for */
    int32_t *ids;    /* [tokens] */
    /* [tokens] rows of the tables of positions, by rope_prepare: of the rotary ones of full and of
     * sliding layers, or (the first) of the learned table */
    int32_t *position[ROPE_TABLES];
    void *kv; /* NULL: every sequence starts here and is whole */
    int64_t cap_tokens, cap_sequences;
} batch;

typedef struct rope_tables {
    float *freq;      /* [rotary / 2] of the fixed part, then as many of the part that is not */
    double scale;     /* of cos and sin */
    int64_t rows;     /* fixed rows that are filled */
    int64_t capacity; /* rows allocated */
    void *cosines, *sines; /* device, [capacity, rotary / 2] */
    float *stage;          /* host, 2 x [capacity, rotary / 2] */
} rope_tables;

typedef struct arena {
    void *handle;
    int64_t tokens;   /* it has room for */
    int64_t mlp_rows; /* rows that pass the MLP at once */
    /* byte offsets; x is at 0; gate, up, route and routed overlay q ... att */
    int64_t norm, q, k, v, att, gate, up;
    int64_t route, routed; /* [mlp_rows, experts], [mlp_rows, hidden]: what the experts need */
} arena;

struct model {
    const checkpoint *ck;
    const weight_overlay *overlay;
    const sqz_hardware *hw;
    void *dev;
    sqz_device_info info;
    int32_t compute;
    int64_t batch_tokens;
    int resident;
    model_config config;

    sqz_weight embed;     /* [vocab, hidden], dense */
    sqz_weight positions; /* [context + offset, hidden], dense, of learned positions */
    void *embed_owned, *positions_owned;
    double embed_scale; /* 1 = none */
    sqz_weight head_weight;
    void *head_owned, *head; /* head: packed, or NULL */
    void *head_copy;         /* of a head in the mapped file, in the device's memory; or NULL */
    const void *head_file;   /* then: where it lies in the file */
    block *blocks;           /* [layers] */
    int64_t weight_bytes;    /* 0: not known yet */

    void *vectors;
    int64_t layer_vectors;                                     /* bytes of one layer's */
    int64_t norm_offset[NORM_COUNT], bias_offset[SLOT_EXPERT]; /* bias -1: none */

    arena arena;
    void *logits;
    int64_t logit_rows; /* rows that one chunk of logits holds */
    batch batch;
    rope_tables rope[ROPE_TABLES];
    struct routing *routing; /* experts.c; host memory */
    float *bounce;           /* host copy for backends whose memory the host cannot see */
    int64_t bounce_bytes;

    int (*tick)(void *, double, const char *);
    void *tick_ctx;
    double tick_from, tick_span; /* part of the whole that the running function covers */
};

/* ---- dense.c --------------------------------------------------------------------------------- */
int64_t element_bytes(int32_t dtype); /* of F32, BF16, F16 */
/* A tensor of the expected shape and of a dtype that can be computed with.  *out is NULL when it is
 * absent and may be. */
sqz_status tensor_find(const model_config *, const checkpoint *, const char *name, int rank,
                       const int64_t *shape, int optional, const st_tensor **out, sqz_error *err);
/* The tensor that holds a linear's dense weight. */
sqz_status linear_tensor(const model_config *, const checkpoint *, const linear_spec *,
                         int optional, const st_tensor **out, sqz_error *err);
/* A whole tensor as a [rows, cols] weight; see model_dense.  Elements that must be made anyway are
 * made as `compute` takes them. */
sqz_status dense_tensor(const st_tensor *, int64_t rows, int64_t cols, int32_t compute,
                        sqz_weight *out, void **owned, sqz_error *err);
sqz_status dense_linear(const model_config *, const checkpoint *, const linear_spec *,
                        int32_t compute, sqz_weight *out, void **owned, sqz_error *err);

/* ---- weights.c ------------------------------------------------------------------------------- */
sqz_status weights_check(model *, sqz_error *err); /* every tensor's presence, shape and dtype */
sqz_status weights_vectors(model *, sqz_error *err);
int64_t vector_bytes(int64_t n); /* that a vector takes there */
sqz_status block_acquire(model *, int64_t layer, sqz_error *err);
void block_release(model *, int64_t layer); /* keeps it when the model is resident */
void block_drop(model *, int64_t layer);
sqz_status head_acquire(model *, sqz_error *err);
void head_release(model *);
void head_drop(model *);

/* ---- rope.c ---------------------------------------------------------------------------------- */
sqz_status rope_open(model *, sqz_error *err);
void rope_close(model *);
/* Fills b->position and makes sure that the tables hold those rows. */
sqz_status rope_prepare(model *, batch *b, sqz_error *err);
/* Whether a sequence of this length is rotated otherwise than a short one. */
int rope_stretched(const model_config *, int64_t length);
/* ERR_MODEL when the learned table has no such position. */
sqz_status learned_check(const model *, int64_t position, sqz_error *err);

/* ---- experts.c ------------------------------------------------------------------------------- */
/* y [n, hidden], normed rows of a sparse layer, through its experts; their weighted sum is added to
 * x [n, hidden]. */
sqz_status experts_forward(model *, int64_t layer, int64_t n, sqz_mem y, sqz_mem x,
                           model_capture capture, void *ctx, sqz_error *err);
void experts_close(model *);

/* ---- forward.c ------------------------------------------------------------------------------- */
sqz_status device_failed(const model *, sqz_status, const char *what, sqz_error *err);
sqz_status progress(model *, double done, const char *what, sqz_error *err);
sqz_status ids_check(const model *, const int32_t *ids, int64_t n, sqz_error *err);
sqz_status scratch_ensure(model *, int64_t tokens, sqz_error *err);
/* Empties the batch and makes room. */
sqz_status batch_begin(model *, int64_t sequences, int64_t tokens, void *kv, sqz_error *err);
void batch_add(batch *, const int32_t *ids, int64_t n, int32_t slot, int64_t past, int64_t length);
/* n windows of one length as a batch; ids may be NULL when x is already filled. */
sqz_status batch_windows(model *, const int32_t *ids, int64_t n, int64_t window, sqz_error *err);
/* One acquired block over m->batch, in place on x. */
sqz_status forward_block(model *, int64_t layer, model_capture capture, void *ctx, sqz_error *err);
/* Embeds m->batch and runs all blocks: the residual stream is in x. */
sqz_status forward_batch(model *, sqz_error *err);
/* One packed linear; layer and slot name its bias. */
sqz_status forward_linear(model *, int64_t layer, int64_t slot, int64_t tokens, sqz_mem x,
                          sqz_mem y, int accumulate, sqz_error *err);
sqz_mem forward_region(const model *, int64_t offset);
sqz_mem forward_x(const model *, int64_t row);
sqz_mem forward_norm(const model *, int64_t row);
/* Final norm of n rows from one place of the arena to another (or in place). */
sqz_status final_norm(model *, const sqz_mem *from, const sqz_mem *to, int64_t rows,
                      sqz_error *err);
/* Logits of up to m->logit_rows rows of final-normed states, into m->logits.  The head must be
 * acquired. */
sqz_status head_logits(model *, const sqz_mem *states, int64_t rows, sqz_error *err);
/* Rows rows[i] of x, gathered and final-normed into the norm buffer. */
sqz_status gather_rows(model *, const int64_t *rows, int64_t n, sqz_error *err);
/* Host pointer to n floats of device memory: the memory itself, or a copy in m->bounce. */
const float *device_read(model *, const sqz_mem *, int64_t n, sqz_error *err);
/* Runs windows of one length through the model, chunk by chunk; sink sees the residual stream of
 * `windows` windows from number `first` in x. */
typedef sqz_status (*window_sink)(model *, void *ctx, int64_t first, int64_t windows,
                                  sqz_error *err);
sqz_status windows_run(model *, const int32_t *ids, int64_t n, int64_t window, window_sink sink,
                       void *ctx, const char *what, sqz_error *err);

/* ---- generate.c / sample.c ------------------------------------------------------------------- */
/* A cache for up to `slots` sequences of `capacity` positions; fewer slots when memory is short. */
sqz_status cache_new(model *, int64_t capacity, int64_t *slots, void **kv, sqz_error *err);
/* Draws an id from logits (scratch [n] is overwritten): temperature, then top-k, then top-p. */
int32_t sample_draw(const float *logits, int64_t n, const sampling *, uint64_t request,
                    uint64_t step, float *scratch, int32_t *order);
/* Uniform in [0, 1): a pure function of its arguments. */
double sample_uniform(uint64_t seed, uint64_t request, uint64_t step);

#endif
