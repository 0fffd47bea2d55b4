/* sqz/method.h - what a compression method sees: one linear layer at a time.
 *
 * The host drives the walk over the model; it resolves rules, streams the weights, computes the
 * calibration statistics the method asked for (once per model and calibration, shared by every
 * trial) and stores the result.  The method's `run` is called once per linear, in model order,
 * with `subject` pointing to a sqz_linear.
 *
 * Left out: whole-model methods (LoRA, distillation), which ask for another extension id. */
#ifndef SQZ_METHOD_H
#define SQZ_METHOD_H
#include <sqz/form.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- extension("sqz.method.steps/1") -------------------------------------------------------- */
#define SQZ_METHOD_STEPS_1 "sqz.method.steps/1"
enum { SQZ_PER_LINEAR = 1 };
enum {
    SQZ_STAT_XTX = 1u << 0 /* second moment of the linear's inputs */
};
/* A method with SQZ_STAT_XTX may have a boolean parameter of this name.  Where a step sets it, the
 * statistics are those of the model as the step has quantized it so far, input by input (q, k, v;
 * then o; then gate, up; then down), at the cost of a pass over each block for each. */
#define SQZ_PARAM_TRUE_SEQUENTIAL "true_sequential"

typedef struct sqz_method_steps {
    uint32_t struct_size;
    int32_t granularity; /* SQZ_PER_LINEAR */
    uint32_t statistics; /* SQZ_STAT_... needed */
    uint32_t zero;
    const char *form;    /* the form it produces, e.g. SQZ_FORM_INT_AFFINE */
} sqz_method_steps;
SQZ_SEALED(sqz_method_steps, form, 24);

/* ---- the subject of run ----------------------------------------------------------------------- */
typedef struct sqz_linear sqz_linear;
struct sqz_linear {
    uint32_t struct_size;
    int32_t layer;       /* block index, -1 outside the blocks */
    const char *module;  /* "model.layers.0.self_attn.q_proj" */
    const char *role;    /* "q", "k", "v", "o", "gate", "up", "down" */
    int64_t rows, cols;  /* out features, in features */
    const float *weight; /* [rows, cols], borrowed until run returns */

    /* (1/T) sum_t x_t x_t^T over the T calibration tokens that reached this linear in the original
     * model, symmetric, both triangles filled; NULL when not asked for.  Borrowed; read only. */
    const float *xtx;    /* [cols, cols] */
    int64_t tokens;      /* T; 0 without statistics */
    uint64_t seed;       /* of this trial and linear */
    void *impl;          /* the host's */

    /* Hand over the result: everything is copied, checked (shape, finite scales, code and zero
     * ranges) and packed.  codes is [rows, cols], one code a byte.  scales are float32 that must
     * be exactly representable as IEEE half (round them before quantizing).  Call once.  [call] */
    sqz_status (*set_affine)(const sqz_linear *, const sqz_host *, int32_t bits,
                             int64_t group_size, int32_t symmetric,
                             const uint8_t *codes /* [rows, cols] */,
                             const float *scales /* [rows, groups] */,
                             const uint8_t *zeros /* [rows, groups] */);
    /* A remark kept with this layer's record and shown in the report, e.g. why a fallback was
     * taken; copied.  [call] */
    void (*note)(const sqz_linear *, const sqz_host *, const char *text);

    /* Since 1.1.  Names the bytes of xtx while the agent is open: calls with the same non-zero
     * number see the same matrix (q, k and v read one input), wherever it lies.  0: unknown. */
    uint64_t xtx_id;
};
SQZ_SEALED(sqz_linear, xtx_id, 104);

#ifdef __cplusplus
}
#endif
#endif
