/* device.h - one opened instance of the CPU backend, and what its files share.
 *
 * Ops run one at a time per instance; each splits its own work over the host's pool. */
#ifndef HW_CPU_DEVICE_H
#define HW_CPU_DEVICE_H
#include "kernels.h"

#include <sqz/services.h>
#include <stddef.h>

enum { KEPT_BLOCKS = 24 };

typedef struct device {
    const sqz_host *host;
    const sqz_pool *pool;
    const kernels *k;
    void *scratch; /* work space of the running operation; only grows */
    size_t scratch_bytes;
    void *kept[KEPT_BLOCKS]; /* released blocks, to be handed out again */
    int32_t n_kept;
    int32_t threads_set; /* the thread count OpenBLAS was told */
    int64_t kept_bytes;
    struct chunk *chunks; /* of packed weights */
    void *last;           /* weight of the last product with few tokens */
    struct queue *queue;  /* NULL until it is needed */
    int64_t weight_bytes; /* of all packed weights */
    int64_t cache_bytes;  /* of the last level */
} device;

/* Whether weights have left the caches before the next token reads them. */
static inline int32_t device_reads_once(const device *d)
{
    return d->weight_bytes > 2 * d->cache_bytes;
}

static inline float *mem_at(const sqz_mem *m)
{
    return m->handle ? (float *)((char *)m->handle + m->offset) : NULL;
}

static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef void pool_body(void *arg, int64_t begin, int64_t end, int32_t thread);
void device_for(device *, int64_t n, int64_t grain, pool_body *body, void *arg);
int32_t device_threads(const device *);
/* At least `bytes`, 64-byte aligned, until the next call; NULL after fail(). */
void *device_scratch(device *, int64_t bytes);
/* Tells OpenBLAS how many threads the pool has. */
void device_blas(device *);
sqz_status device_fail(device *, sqz_status code, const char *text);

/* queue.c */
enum { STEP_TOUCHES = 6, JOB_BYTES = 640 };

/* Weights as decode reads them: units of work, one behind the other. */
typedef struct stretch {
    const uint8_t *at;
    int64_t units, bytes; /* bytes of a unit */
} stretch;

typedef struct touch {
    const void *at;
    int64_t bytes;
    int32_t writes;
} touch;

/* body(job, begin, end, member) for parts of [0, n), each a unit of `chunk`. */
typedef struct work {
    pool_body *body;
    int64_t n, chunk;
    int64_t bytes;          /* of memory read */
    int64_t own_bytes;      /* of memory that each member has for it */
    stretch weights;        /* what its units read; at NULL where they read no weights */
    const stretch *follows; /* what was read after these weights the last time */
    touch touches[STEP_TOUCHES];
    int32_t n_touches;
} work;

typedef struct queue queue;
sqz_status queue_begin(void *dev);
sqz_status queue_sync(void *dev);
/* Whether steps wait for sync; else each one runs at once. */
int queue_waits(const device *);
/* JOB_BYTES for the job of the step that queue_put then adds (or runs). */
sqz_status queue_job(device *, void **job);
sqz_status queue_put(device *, const work *);
/* Runs what waits. */
sqz_status queue_run(device *);
void queue_free(device *);
/* For bodies: the member's own memory, 64-byte aligned, and whether this member used it last for
 * this very job; and what is read after a unit of the job. */
void *queue_own(const device *, const void *job, int32_t id, int *prepared);
const uint8_t *queue_after(const device *, const void *job, int64_t unit);

static inline void touches(work *w, const sqz_mem *m, int64_t floats, int32_t writes)
{
    if (m->handle) w->touches[w->n_touches++] = (touch){mem_at(m), floats * 4, writes};
}

/* memory.c */
sqz_status mem_alloc(void *dev, int64_t bytes, void **handle);
void mem_release(void *dev, void *handle);
void *mem_map(void *dev, void *handle);
sqz_status mem_upload(void *dev, const sqz_mem *dst, const void *src, int64_t bytes);
sqz_status mem_download(void *dev, void *dst, const sqz_mem *src, int64_t bytes);
void mem_drop(device *); /* gives kept blocks back to the system */
/* 64-byte aligned memory for packed weights, in large pages where the system has them; NULL after
 * fail().  *owner is what store_give wants. */
void *store_take(device *, int64_t bytes, void **owner);
void store_give(device *, void *owner);
void store_drop(device *); /* what is not in use */
int64_t store_bytes(const device *);
/* The store as one stretch of bytes: `offset` in it, and how many follow that in memory. */
const char *store_at(const device *, int64_t offset, int64_t *bytes);

/* codes.c */
sqz_status codes_new(device *, const sqz_affine *, codes *); /* codes_free after a failure, too */
void codes_free(device *, codes *);
/* Rows of x, `size` bytes an element, as codes_dot wants them: [tokens, x_cols]. */
void codes_arrange(const codes *, int64_t tokens, const void *x, int64_t size, void *to);
/* Sums of x over the groups, [tokens, groups]. */
void codes_sums(const codes *, int64_t tokens, const float *x, float *sum);

/* linear.c */
sqz_status linear_pack(void *dev, const sqz_weight *, int32_t compute, void **packed);
void linear_packed_free(void *dev, void *packed);
int64_t linear_packed_bytes(void *dev, const void *packed);
sqz_status linear_run(void *dev, const sqz_op_linear *);

/* rows.c */
sqz_status rows_embed(void *dev, const void *table, int32_t dtype, int64_t width,
                      const int32_t *ids, int64_t tokens, const sqz_mem *y);
sqz_status rows_norm(void *dev, const sqz_op_norm *);
sqz_status rows_rope(void *dev, const sqz_op_rope *);
sqz_status rows_gate(void *dev, int32_t act, int64_t n, const sqz_mem *gate, const sqz_mem *up,
                     const sqz_mem *y);
sqz_status rows_add(void *dev, int64_t n, const sqz_mem *x, const sqz_mem *y);
sqz_status rows_score(void *dev, const sqz_op_score *);
sqz_status rows_layer_norm(void *dev, const sqz_op_layer_norm *);
sqz_status rows_activate(void *dev, int32_t act, int64_t n, const sqz_mem *x, const sqz_mem *y);
sqz_status rows_scale(void *dev, int64_t n, double by, const sqz_mem *y);
sqz_status rows_softcap(void *dev, int64_t n, double cap, const sqz_mem *y);
sqz_status rows_gather(void *dev, int64_t n, int64_t width, const int64_t *rows, const sqz_mem *x,
                       const sqz_mem *y);
sqz_status rows_scatter(void *dev, int64_t n, int64_t width, const int64_t *rows,
                        const float *weight, const sqz_mem *x, const sqz_mem *y);

/* attend.c */
sqz_status attend_run(void *dev, const sqz_op_attend *);
sqz_status kv_new(void *dev, const sqz_kv_desc *, void **kv);
void kv_free(void *dev, void *kv);
sqz_status kv_append(void *dev, const sqz_op_kv_append *);
sqz_status kv_copy(void *dev, void *kv, int32_t from, int32_t to, int64_t n);

/* algebra.c */
sqz_status algebra_second_moment(void *dev, int32_t compute, int64_t tokens, int64_t n,
                                 const sqz_mem *x, const sqz_mem *s);
sqz_status algebra_gemm(void *dev, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                        double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                        double beta, float *c, int64_t ldc);
sqz_status algebra_inverse_factor(void *dev, float *a, int64_t n);
sqz_status algebra_reverse_cholesky(void *dev, float *a, int64_t n);
sqz_status algebra_gemm_rounded(void *dev, int64_t m, int64_t n, int64_t k, const float *a,
                                int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                                int64_t ldc);
sqz_status algebra_measure(void *dev, double *read_bandwidth, double *f32_flops,
                           double *bf16_flops);
#endif
