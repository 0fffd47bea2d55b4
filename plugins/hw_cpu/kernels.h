/* kernels.h - what the instruction sets implement: one table per set, chosen once when the agent
 * opens.  Drivers (linear.c, attend.c, ...) split the work and own the memory; kernels are single-
 * threaded and hold no state.
 *
 * Products work on 32-bit units: a float32, or a pair of bfloat16 that are neighbours in k.  A
 * panel is a packed right-hand side, [steps, PANEL] units, so that one kernel serves both. */
#ifndef HW_CPU_KERNELS_H
#define HW_CPU_KERNELS_H
#include <sqz/hardware.h>

enum {
    PANEL = 64,  /* columns of a packed panel */
    STEPS = 128, /* units of k in a panel: 32 KiB, two thirds of a 48 KiB first-level cache */
    MAX_DOT = 8  /* most tokens of one dot call in any instruction set */
};

/* C[m, n] = A[m, steps] B[steps, n] (+ C) (+ bias), n <= PANEL. */
typedef struct product {
    const void *a;
    int64_t a_row, a_step; /* strides of A in units */
    const void *b;
    int64_t b_step; /* row stride of B in units */
    int64_t steps;
    float *c;
    int64_t ldc;
    int64_t m, n;
    int32_t from_c;    /* add to what C holds */
    const float *bias; /* [n] or NULL */
} product;

/* out[r, t] = sum_c w[r, c] x[t, c], for few tokens: every weight is read once. */
typedef struct dot {
    const void *w; /* [rows, cols] of dtype: SQZ_F32, SQZ_BF16, SQZ_F16 */
    int32_t dtype;
    int32_t tokens; /* <= dot_tokens */
    int64_t rows, cols;
    const float *x;
    int64_t ldx;
    float *out; /* [rows, tokens] */
} dot;

/* The same from packed bits.  x is in the order of order_x (linear.c); lanes[] says which group,
 * counted from first_group of its block, each of the 16 lanes of a block belongs to. */
typedef struct affine_dot {
    const sqz_affine *w;
    const int32_t *lanes;       /* [blocks, 16] */
    const int32_t *first_group; /* [blocks] */
    int32_t tokens;
    int32_t zero;
    int64_t first_row, rows;
    const float *x;        /* [blocks, lane, tokens, 16]: vectors in the order the bits come out */
    const uint16_t *pairs; /* bfloat16 x for dot_affine_pairs, [blocks, vectors, tokens, 32] */
    const float *sum;      /* [blocks, tokens, 16]: sum of each lane's x */
    float *out;            /* [rows, tokens] */
} affine_dot;

enum { COPY_F32, COPY_ROUNDED, COPY_PAIRS };

typedef struct kernels {
    const char *isa;
    int32_t pairs;                           /* multiplies bfloat16 pairs */
    int32_t dot_tokens;                      /* tokens of one dot call */
    void (*multiply)(const product *);       /* float32 units */
    void (*multiply_pairs)(const product *); /* NULL without */
    /* Panel from rows of B^T: n <= PANEL rows of `steps` units, ld bytes apart. */
    void (*panel_rows)(const void *src, int64_t ld, int64_t n, int64_t steps, uint32_t *panel);
    /* Panel from rows of B: k rows of n <= PANEL float32, converted as COPY_... says. */
    void (*panel_copy)(const float *src, int64_t ld, int64_t k, int64_t n, int32_t how,
                       uint32_t *panel);
    void (*to_f32)(const void *src, int32_t dtype, int64_t n, float *dst);
    void (*to_bf16)(const float *src, int64_t n, uint16_t *dst);
    void (*round_bf16)(const float *src, int64_t n, float *dst);
    /* Values of columns first .. first+n-1 of one row; first is a multiple of 8. */
    void (*affine_row)(const sqz_affine *, int64_t row, int64_t first, int64_t n, float *dst);
    void (*dot)(const dot *);
    void (*dot_affine)(const affine_dot *); /* NULL: dequantize a row, then dot */
    /* The same of bfloat16 x; not for 3 bits. */
    void (*dot_affine_pairs)(const affine_dot *);
    void (*norm)(const float *x, const float *weight, int64_t n, double eps, float *y);
    void (*layer_norm)(const float *x, const float *weight, const float *bias /* or NULL */,
                       int64_t n, double eps, float *y);
    void (*rotate)(float *x, const float *c, const float *s, int64_t half);
    void (*gate)(int32_t act, const float *gate, const float *up, int64_t n, float *y);
    void (*activate)(int32_t act, const float *x, int64_t n, float *y);
    /* x = cap * tanh(x * factor / cap) */
    void (*softcap)(float *x, float factor, float cap, int64_t n);
    void (*add)(const float *x, int64_t n, float *y);
    void (*add_scaled)(const float *x, float by, int64_t n, float *y); /* y += by * x */
    void (*scale)(float *x, float by, int64_t n);
    void (*scores)(const float *x, int64_t n, int32_t *argmax, double *logsumexp);
    /* s[lo..hi) becomes exp(scale * s - max) and the rest of [0, n) zero; *top and *total are the
     * running maximum and sum of the row.  Returns what earlier partial sums must be multiplied by.
     */
    float (*softmax)(float *s, int64_t lo, int64_t hi, int64_t n, float scale, float *top,
                     float *total);
    float (*inner)(const float *a, const float *b, int64_t n);
    uint64_t (*read)(const void *p, int64_t bytes); /* touches every 64-byte line */
} kernels;

const kernels *kernels_generic(void);
#if defined(__x86_64__)
const kernels *kernels_avx2(void);
const kernels *kernels_avx512(void);
const kernels *kernels_avx512_bf16(void);
#endif

/* Layout of dot_affine: a block is 16 lanes of `lane` neighbouring columns each. */
static inline int64_t affine_lane(int32_t bits)
{
    return bits == 8 ? 4 : bits == 4 ? 8 : bits == 2 ? 16 : 32;
}
#endif
