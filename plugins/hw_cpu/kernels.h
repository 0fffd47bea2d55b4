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
    int32_t once;   /* all weights together are larger than the caches */
    int64_t rows, cols;
    const void *x; /* float32, or bfloat16 for dot_pairs */
    int64_t ldx;   /* elements */
    float *out;    /* [rows, tokens] */
} dot;

/* An int-affine/1 weight in the order in which the kernels read it: bands of BAND rows, each one
 * stream of memory.  A band holds the halves of its scales [groups, BAND], its zero points
 * [groups, BAND] (not when symmetric), and from cells_at on its codes [cells, words, BAND] in
 * 32-bit words, so that a vector of words is one place of many rows and no sum runs across lanes.
 *
 * A cell is the 8, 16 or 4 codes of one word (4, 2, 8 bits) or the 32 codes of three (3 bits). Code
 * 2p of a cell stands in the lower half of a word and code 2p + 1 in its upper half, both at bit
 * bits * p: what one shift and one look-up turn into the bfloat16 pair p.  With 3 bits a half holds
 * five codes, and the last two codes are the three words' bits 15 and 31.  Rows beyond the last
 * have scale 0, codes beyond the last are 0. */
enum { BAND = 32 };

typedef struct codes {
    int32_t bits, symmetric;
    int64_t rows, cols, group_size, groups, cells;
    int64_t zeros_at, cells_at, band_bytes;
    int32_t *first, *end; /* [groups]: the cells of a group; neighbours may share one */
    int64_t x_cols;       /* entries of x as codes_dot wants it */
    int32_t straight;     /* which is then x itself and zeros behind it */
    uint8_t *bands;       /* 64-byte aligned */
    void *store;          /* whom `bands` goes back to */
} codes;

static inline int64_t cell_codes(int32_t bits)
{
    return bits == 8 ? 4 : bits == 4 ? 8 : bits == 2 ? 16 : 32;
}

static inline int64_t cell_words(int32_t bits)
{
    return bits == 3 ? 3 : 1;
}

/* y[t, r] = sum_c w[r, c] x[t, c] (+ bias[r]) (+ y) for the rows of a few bands.  x lists the cells
 * of group after group; where a cell belongs to two groups it comes twice, each time with the
 * other's x zero. */
typedef struct codes_dot {
    const codes *w;
    int64_t first, bands;
    int32_t tokens; /* <= dot_tokens */
    int32_t once;   /* all weights together are larger than the caches */
    int32_t accumulate;
    const void *x;       /* float32, or bfloat16 for dot_codes_pairs */
    int64_t ldx;         /* elements */
    const float *sum;    /* [tokens, groups] of x; not when symmetric */
    const uint8_t *next; /* what is read after these bands */
    const float *bias;   /* [rows] or NULL */
    float *y;            /* [tokens, rows] */
} codes_dot;

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
    /* Rows first .. first + BAND - 1 of *w into `band`. */
    void (*codes_pack)(const sqz_affine *w, int64_t first, const codes *to, uint8_t *band);
    /* Panel of `rows` <= PANEL rows from `row`, a multiple of PANEL, and columns k .. k + n - 1, k
     * a multiple of STEPS. */
    void (*codes_panel)(const codes *, int64_t row, int64_t rows, int64_t k, int64_t n, int32_t how,
                        uint32_t *panel);
    void (*dot)(const dot *);
    void (*dot_pairs)(const dot *); /* bfloat16 weights and x; NULL without */
    void (*dot_codes)(const codes_dot *);
    void (*dot_codes_pairs)(const codes_dot *); /* NULL without */
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
#endif
