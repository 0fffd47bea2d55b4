/* sqz/hardware.h - device memory and operations, as one table per backend.
 *
 * Offered through extension("sqz.hardware/1") of an agent of kind "hardware/1".  Buffers are opaque
 * (handle + byte offset); operations are enqueued in order and `sync` completes them (on a CPU every
 * operation is complete when it returns, unless `begin` was called).  Activations are float32.
 * `compute` says how products are taken: SQZ_F32, or SQZ_BF16 = inputs of products rounded to
 * bfloat16 (nearest even), sums in float32.  Quantized weights are exact in both up to that
 * rounding; activations are never quantized.
 *
 * Every operation has a naive twin in sdk/runtime/reference, which is the oracle of the tests and
 * the fallback for rows that a backend leaves NULL.
 * Results depend on the compute class (backend, instruction set, dtype, threads), not on timing. */
#ifndef SQZ_HARDWARE_H
#define SQZ_HARDWARE_H
#include <sqz/form.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_HARDWARE_1 "sqz.hardware/1"

typedef struct sqz_mem {
    void *handle;
    int64_t offset; /* bytes */
} sqz_mem;

typedef struct sqz_device_info {
    uint32_t struct_size;
    int32_t threads;
    char name[96];
    char isa[32];           /* "avx512_bf16", "avx512", "avx2", "generic": part of the compute class */
    int64_t memory_bytes;   /* total device memory */
    int32_t fast_bf16;      /* bf16 products are faster than float32 ones */
    int32_t zero;
} sqz_device_info;
SQZ_SEALED(sqz_device_info, zero, 152);

/* y[t, rows] = x[t, cols] * W^T (+ bias) (+ y when accumulate). */
typedef struct sqz_op_linear {
    uint32_t struct_size;
    int32_t compute;    /* SQZ_F32 or SQZ_BF16 */
    const void *packed; /* from pack() */
    int64_t tokens;
    sqz_mem x;          /* row stride = cols */
    sqz_mem y;          /* row stride = rows */
    sqz_mem bias;       /* [rows] float32, handle NULL for none */
    int32_t accumulate;
    int32_t zero;
} sqz_op_linear;
SQZ_SEALED(sqz_op_linear, zero, 80);

/* RMSNorm over rows of width n: y = x * rsqrt(mean(x^2) + eps) * weight; x may equal y. */
typedef struct sqz_op_norm {
    uint32_t struct_size;
    uint32_t zero;
    int64_t rows, n;
    sqz_mem x, y, weight; /* [rows, n], [rows, n], [n] */
    double eps;
} sqz_op_norm;
SQZ_SEALED(sqz_op_norm, eps, 80);

/* Rotary embedding in place, half-split: pairs (i, i + n/2) of the first n entries of each head.
 * x is [tokens, heads, head_dim]; cos/sin are [positions, n/2]; position[t] is a row of them. */
typedef struct sqz_op_rope {
    uint32_t struct_size;
    uint32_t zero;
    int64_t tokens, heads, head_dim, n;
    sqz_mem x, cosines, sines;
    const int32_t *position; /* [tokens], host memory */
} sqz_op_rope;
SQZ_SEALED(sqz_op_rope, position, 96);

/* Causal attention of a ragged batch.  Sequence s owns the tokens first[s] .. first[s+1]-1 of q and y.
 * Without a cache (kv NULL) keys and values are k, v with the same rows and each sequence starts at
 * position 0.  With a cache, the keys and values were appended before (kv_append), the sequence uses
 * cache slot slot[s], and its first query stands at position past[s].
 * Key j is visible to query i iff j <= i and (window == 0 or j > i - window).
 * Query head h reads key/value head h / (heads / kv_heads).
 * The score of a pair is scale * q.k, and with softcap c > 0 c * tanh(scale * q.k / c): only a
 * backend with SQZ_HARDWARE_SOFTCAP reads that field. */
typedef struct sqz_op_attend {
    uint32_t struct_size;
    int32_t layer;           /* of the cache */
    int64_t sequences;
    const int64_t *first;    /* [sequences + 1], host */
    const int32_t *slot;     /* [sequences], host; with a cache */
    const int64_t *past;     /* [sequences], host; with a cache */
    int64_t heads, kv_heads, head_dim;
    int64_t window;          /* 0 = none */
    double scale;
    sqz_mem q, k, v, y;      /* [tokens, heads*head_dim], [tokens, kv_heads*head_dim] x2, like q */
    void *kv;
    double softcap;          /* 0 = none.  since 1.1 */
} sqz_op_attend;
SQZ_SEALED(sqz_op_attend, softcap, 160);

enum { SQZ_ACT_SILU = 1, SQZ_ACT_GELU_TANH = 2, SQZ_ACT_GELU = 3, SQZ_ACT_RELU = 4 };

typedef struct sqz_kv_desc {
    uint32_t struct_size;
    int32_t layers;
    int64_t slots, capacity; /* sequences, positions per sequence */
    int64_t kv_heads, head_dim;
    const char *schema;      /* "f32/1" */
} sqz_kv_desc;
SQZ_SEALED(sqz_kv_desc, schema, 48);

/* Appends rows of k, v ([tokens, kv_heads*head_dim]) of a ragged batch at positions past[s] ... */
typedef struct sqz_op_kv_append {
    uint32_t struct_size;
    int32_t layer;
    int64_t sequences;
    const int64_t *first;
    const int32_t *slot;
    const int64_t *past;
    sqz_mem k, v;
    void *kv;
} sqz_op_kv_append;
SQZ_SEALED(sqz_op_kv_append, kv, 80);

/* Per row of logits [rows, n]: natural log-probability of target[r] (skipped when target[r] < 0),
 * arg max (lowest index on ties), and log-sum-exp.  Output arrays are host memory and may be NULL. */
typedef struct sqz_op_score {
    uint32_t struct_size;
    uint32_t zero;
    int64_t rows, n;
    sqz_mem logits;
    const int32_t *target; /* [rows] or NULL */
    float *logprob;        /* [rows] */
    int32_t *argmax;       /* [rows] */
    float *logsumexp;      /* [rows] */
} sqz_op_score;
SQZ_SEALED(sqz_op_score, logsumexp, 72);

/* LayerNorm over rows of width n: y = (x - mean) * rsqrt(var + eps) * weight + bias, var the mean of
 * squared deviations; x may equal y.  Since 1.1. */
typedef struct sqz_op_layer_norm {
    uint32_t struct_size;
    uint32_t zero;
    int64_t rows, n;
    sqz_mem x, y, weight, bias; /* [rows, n], [rows, n], [n], [n] or handle NULL for none */
    double eps;
} sqz_op_layer_norm;
SQZ_SEALED(sqz_op_layer_norm, eps, 96);

/* sqz_hardware.features: what a backend does beyond 1.0. */
#define SQZ_HARDWARE_SOFTCAP (1ull << 0) /* reads sqz_op_attend.softcap */
#define SQZ_HARDWARE_COPIES (1ull << 1)  /* pack copies int-affine: its arrays may go at once */
#define SQZ_HARDWARE_READS (1ull << 2)   /* measure takes NULL for rates that are not wanted */

typedef struct sqz_hardware {
    uint32_t struct_size;
    uint32_t zero;
    sqz_status (*describe)(void *dev, sqz_device_info *out);

    /* Memory, uninitialised.  map gives a host pointer to the start of the handle, or NULL where
     * the host cannot see it. */
    sqz_status (*alloc)(void *dev, int64_t bytes, void **handle);
    void (*release)(void *dev, void *handle);
    void *(*map)(void *dev, void *handle);
    sqz_status (*upload)(void *dev, const sqz_mem *dst, const void *src, int64_t bytes);
    sqz_status (*download)(void *dev, void *dst, const sqz_mem *src, int64_t bytes);
    sqz_status (*sync)(void *dev);

    /* A linear's weight in the backend's own layout for `compute`.  The source arrays stay valid
     * and unchanged until packed_free, so a backend may keep pointers to them; those of an
     * int-affine weight only without SQZ_HARDWARE_COPIES.
     * SQZ_E_UNSUPPORTED for a form or dtype it cannot run. */
    sqz_status (*pack)(void *dev, const sqz_weight *, int32_t compute, void **packed);
    void (*packed_free)(void *dev, void *packed);
    int64_t (*packed_bytes)(void *dev, const void *packed); /* read per decoded token */

    sqz_status (*linear)(void *dev, const sqz_op_linear *);
    /* y[t] = row ids[t] of a dense [n, width] table in host memory, converted to float32. */
    sqz_status (*embed)(void *dev, const void *table, int32_t dtype, int64_t width,
                        const int32_t *ids, int64_t tokens, const sqz_mem *y);
    sqz_status (*norm)(void *dev, const sqz_op_norm *);
    sqz_status (*rope)(void *dev, const sqz_op_rope *);
    sqz_status (*attend)(void *dev, const sqz_op_attend *);
    /* y[i] = act(gate[i]) * up[i], n entries; y may equal gate. */
    sqz_status (*gate)(void *dev, int32_t act, int64_t n, const sqz_mem *gate, const sqz_mem *up,
                       const sqz_mem *y);
    sqz_status (*add)(void *dev, int64_t n, const sqz_mem *x, const sqz_mem *y); /* y += x */
    sqz_status (*score)(void *dev, const sqz_op_score *);

    sqz_status (*kv_new)(void *dev, const sqz_kv_desc *, void **kv);
    void (*kv_free)(void *dev, void *kv);
    sqz_status (*kv_append)(void *dev, const sqz_op_kv_append *);
    /* Copy positions 0..n-1 of every layer from one slot to another (shared prefixes). */
    sqz_status (*kv_copy)(void *dev, void *kv, int32_t from, int32_t to, int64_t n);

    /* S[n, n] += sum_t x_t x_t^T for x [tokens, n]; only the upper triangle (col >= row) is kept
     * up to date.  compute as above: with SQZ_BF16 the x are rounded first, as `linear` does. */
    sqz_status (*second_moment)(void *dev, int32_t compute, int64_t tokens, int64_t n,
                                const sqz_mem *x, const sqz_mem *s);

    /* Host-memory linear algebra, see sqz.linalg/1. */
    sqz_status (*gemm)(void *dev, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                       double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       double beta, float *c, int64_t ldc);
    sqz_status (*inverse_factor)(void *dev, float *a, int64_t n);

    /* Measured ceilings: sustained bytes/s reading memory, and flop/s of float32 and bf16 products
     * (0 when not available).  Takes about a second; with SQZ_HARDWARE_READS reads alone take a
     * tenth of it. */
    sqz_status (*measure)(void *dev, double *read_bandwidth, double *f32_flops, double *bf16_flops);

    /* ---- since 1.1 ---- */
    /* Host-memory linear algebra, see sqz.linalg/1. */
    sqz_status (*reverse_cholesky)(void *dev, float *a, int64_t n);
    uint64_t features; /* SQZ_HARDWARE_... */
    sqz_status (*layer_norm)(void *dev, const sqz_op_layer_norm *);
    /* y[i] = act(x[i]), n entries; y may equal x. */
    sqz_status (*activate)(void *dev, int32_t act, int64_t n, const sqz_mem *x, const sqz_mem *y);
    sqz_status (*scale)(void *dev, int64_t n, double by, const sqz_mem *y); /* y *= by */
    /* y[i] = cap * tanh(y[i] / cap) */
    sqz_status (*softcap)(void *dev, int64_t n, double cap, const sqz_mem *y);
    /* Rows of a matrix of `width` columns, rows[] in host memory: y[i] = x[rows[i]], and
     * y[rows[i]] += weight[i] * x[i] with every row named once.  x and y do not overlap. */
    sqz_status (*gather)(void *dev, int64_t n, int64_t width, const int64_t *rows, const sqz_mem *x,
                         const sqz_mem *y);
    sqz_status (*scatter)(void *dev, int64_t n, int64_t width, const int64_t *rows,
                          const float *weight, const sqz_mem *x, const sqz_mem *y);
    /* Host-memory linear algebra, see sqz.linalg/1. */
    sqz_status (*gemm_rounded)(void *dev, int64_t m, int64_t n, int64_t k, const float *a,
                               int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                               int64_t ldc);

    /* ---- since 1.2; NULL where nothing is gained ---- */
    /* Operations that follow may be left undone until sync, which ends this; calling it again
     * before is fine.  A backend copies what it needs of host memory (lists, structs); device
     * memory stays as it is until sync, or goes through upload, download, copy and release, which
     * do what was left first. */
    sqz_status (*begin)(void *dev);
} sqz_hardware;
SQZ_SEALED(sqz_hardware, begin, 296);

#ifdef __cplusplus
}
#endif
#endif
