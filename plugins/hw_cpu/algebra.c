/* algebra.c - second moments, host-memory products, the factor GPTQ walks along, and measurement.
 *
 * Products use the panels and kernels of linear.c's prefill; LAPACK factorisations are OpenBLAS's.
 */
#include "device.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Fortran LAPACK: triangles of column-major matrices, in place */
extern void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);
extern void strtri_(const char *uplo, const char *diag, const int *n, float *a, const int *lda,
                    int *info);

/* ---- second moment ------------------------------------------------------------------------- */

enum { MOMENT_BYTES = 4 << 20, PANEL_UNITS = PANEL * STEPS };

typedef struct moment_job {
    device *d;
    const float *x;
    float *s;
    int64_t n, tokens, steps, panels;
    int32_t how;
    uint32_t *packed; /* [panels, steps, PANEL] */
    float *own;       /* [threads, PANEL, PANEL], the blocks on the diagonal */
} moment_job;

static void moment_pack(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const moment_job *j = arg;
    for (int64_t i = begin; i < end; i++)
        j->d->k->panel_copy(j->x + i * PANEL, j->n, j->tokens, least(PANEL, j->n - i * PANEL),
                            j->how, j->packed + i * j->steps * PANEL);
}

/* Block (row, col) of S += X_row^T X_col; both sides are packed panels. */
static void moment_block(const moment_job *j, int64_t row, int64_t col, float *c, int64_t ldc,
                         int32_t from_c)
{
    const kernels *k = j->d->k;
    for (int64_t at = 0; at < j->steps; at += STEPS) {
        product one = {
            .a = j->packed + (row * j->steps + at) * PANEL,
            .a_row = 1,
            .a_step = PANEL,
            .b = j->packed + (col * j->steps + at) * PANEL,
            .b_step = PANEL,
            .steps = least(STEPS, j->steps - at),
            .c = c,
            .ldc = ldc,
            .m = least(PANEL, j->n - row * PANEL),
            .n = least(PANEL, j->n - col * PANEL),
            .from_c = from_c || at > 0,
        };
        if (j->how == COPY_PAIRS)
            k->multiply_pairs(&one);
        else
            k->multiply(&one);
    }
}

static void moment_blocks(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const moment_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        /* i counts the upper triangle row by row, from the last row so that ranges are found fast
         */
        int64_t back = j->panels * (j->panels + 1) / 2 - 1 - i;
        int64_t depth = (int64_t)((sqrt(8.0 * (double)back + 1) - 1) / 2);
        depth += (depth + 1) * (depth + 2) / 2 <= back; /* the square root may be off by one */
        depth -= depth * (depth + 1) / 2 > back;
        int64_t row = j->panels - 1 - depth;
        int64_t col = j->panels - 1 - (back - depth * (depth + 1) / 2);
        float *s = j->s + row * PANEL * j->n + col * PANEL;
        if (row != col) {
            moment_block(j, row, col, s, j->n, 1);
            continue;
        }
        /* the lower triangle is not ours to write */
        float *own = j->own + thread * PANEL * PANEL;
        int64_t m = least(PANEL, j->n - row * PANEL);
        moment_block(j, row, col, own, PANEL, 0);
        for (int64_t r = 0; r < m; r++) j->d->k->add(own + r * PANEL + r, m - r, s + r * j->n + r);
    }
}

sqz_status algebra_second_moment(void *dev, int32_t compute, int64_t tokens, int64_t n,
                                 const sqz_mem *x, const sqz_mem *s)
{
    device *d = dev;
    if (compute != SQZ_F32 && compute != SQZ_BF16)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: compute is SQZ_F32 or SQZ_BF16");
    sqz_status st = queue_run(d);
    if (st != SQZ_OK || n < 1 || tokens < 1) return st;
    moment_job job = {.d = d, .n = n, .s = mem_at(s), .panels = (n + PANEL - 1) / PANEL};
    job.how = compute == SQZ_F32 ? COPY_F32 : d->k->pairs ? COPY_PAIRS : COPY_ROUNDED;
    int64_t per = job.how == COPY_PAIRS ? 2 : 1; /* tokens in a unit */
    /* whole panels of k, as many as fit the work space */
    int64_t part = MOMENT_BYTES / (job.panels * PANEL * 4) / STEPS * STEPS * per;
    part = least(part < per * STEPS ? per * STEPS : part, round_up(tokens, per));
    int64_t packed = job.panels * PANEL * (part / per) * 4;
    char *work = device_scratch(d, packed + device_threads(d) * PANEL * PANEL * 4);
    if (!work) return SQZ_E_NOMEM;
    job.packed = (uint32_t *)work;
    job.own = (float *)(work + packed);
    for (int64_t t = 0; t < tokens; t += part) {
        job.x = mem_at(x) + t * n;
        job.tokens = least(part, tokens - t);
        job.steps = (job.tokens + per - 1) / per;
        device_for(d, job.panels, 1, moment_pack, &job);
        device_for(d, job.panels * (job.panels + 1) / 2, 1, moment_blocks, &job);
    }
    return SQZ_OK;
}

/* ---- products of host matrices ------------------------------------------------------------- */

typedef struct gemm_job {
    device *d;
    int32_t ta, tb, pairs; /* pairs: units are two bfloat16, neighbours in k */
    int64_t m, n, k, lda, ldb, ldc, chunk, chunks;
    float alpha, beta;
    const float *a, *b;
    float *c;
    float *own; /* per thread: a panel of B and, for a transposed or rounded A, one of A */
} gemm_job;

enum { A_ROWS = PANEL };

static void gemm_prepare_c(const gemm_job *j, int64_t i, int64_t m, int64_t col, int64_t n)
{
    for (int64_t r = i; r < i + m && j->beta != 1 && j->beta != 0; r++)
        j->d->k->scale(j->c + r * j->ldc + col, j->beta, n);
}

/* Rows i .. i+m-1 of C += (panel of B) * A, k .. k+steps-1. */
static void gemm_rows(const gemm_job *j, int64_t i, int64_t m, int64_t col, int64_t n, int64_t k,
                      int64_t steps, float *own)
{
    product one = {.b = own,
                   .b_step = PANEL,
                   .steps = steps,
                   .n = n,
                   .from_c = k > 0 || j->beta != 0,
                   .ldc = j->ldc,
                   .a_row = j->lda,
                   .a_step = 1};
    if (!j->ta) {
        one.a = j->a + i * j->lda + k;
        one.c = j->c + i * j->ldc + col;
        one.m = m;
        j->d->k->multiply(&one);
        return;
    }
    float *part = own + PANEL_UNITS; /* A^T in reach: [steps, A_ROWS] */
    for (int64_t r = i; r < i + m; r += A_ROWS) {
        one.m = least(A_ROWS, i + m - r);
        j->d->k->panel_copy(j->a + k * j->lda + r, j->lda, steps, one.m, COPY_F32,
                            (uint32_t *)part);
        one.a = part;
        one.a_row = 1;
        one.a_step = PANEL;
        one.c = j->c + r * j->ldc + col;
        j->d->k->multiply(&one);
    }
}

static void gemm_tasks(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const gemm_job *j = arg;
    const kernels *kn = j->d->k;
    float *own = j->own + (int64_t)thread * 2 * PANEL_UNITS;
    for (int64_t task = begin; task < end; task++) {
        int64_t col = task / j->chunks * PANEL, n = least(PANEL, j->n - col);
        int64_t i = task % j->chunks * j->chunk, m = least(j->chunk, j->m - i);
        gemm_prepare_c(j, i, m, col, n);
        for (int64_t k = 0; k < j->k; k += STEPS) {
            int64_t steps = least(STEPS, j->k - k);
            if (j->tb)
                kn->panel_rows(j->b + col * j->ldb + k, j->ldb * 4, n, steps, (uint32_t *)own);
            else
                kn->panel_copy(j->b + k * j->ldb + col, j->ldb, steps, n, COPY_F32,
                               (uint32_t *)own);
            for (int64_t s = 0; s < steps && j->alpha != 1; s++)
                kn->scale(own + s * PANEL, j->alpha, n);
            gemm_rows(j, i, m, col, n, k, steps, own);
        }
    }
}

/* The same of bfloat16 pairs: A is rounded in strips of A_ROWS rows. */
static void gemm_pair_rows(const gemm_job *j, int64_t i, int64_t m, int64_t col, int64_t n,
                           int64_t k, int64_t values, float *own)
{
    uint16_t *part = (uint16_t *)(own + PANEL_UNITS); /* [A_ROWS, 2 STEPS] */
    product one = {.b = own,
                   .b_step = PANEL,
                   .steps = (values + 1) / 2,
                   .n = n,
                   .from_c = k > 0 || j->beta != 0,
                   .ldc = j->ldc,
                   .a = part,
                   .a_row = STEPS,
                   .a_step = 1};
    for (int64_t r = i; r < i + m; r += A_ROWS) {
        one.m = least(A_ROWS, i + m - r);
        for (int64_t q = 0; q < one.m; q++) {
            j->d->k->to_bf16(j->a + (r + q) * j->lda + k, values, part + q * 2 * STEPS);
            if (values % 2) part[q * 2 * STEPS + values] = 0;
        }
        one.c = j->c + r * j->ldc + col;
        j->d->k->multiply_pairs(&one);
    }
}

static void gemm_pair_tasks(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const gemm_job *j = arg;
    float *own = j->own + (int64_t)thread * 2 * PANEL_UNITS;
    for (int64_t task = begin; task < end; task++) {
        int64_t col = task / j->chunks * PANEL, n = least(PANEL, j->n - col);
        int64_t i = task % j->chunks * j->chunk, m = least(j->chunk, j->m - i);
        gemm_prepare_c(j, i, m, col, n);
        for (int64_t k = 0; k < j->k; k += 2 * STEPS) {
            int64_t values = least(2 * STEPS, j->k - k);
            j->d->k->panel_copy(j->b + k * j->ldb + col, j->ldb, values, n, COPY_PAIRS,
                                (uint32_t *)own);
            gemm_pair_rows(j, i, m, col, n, k, values, own);
        }
    }
}

/* Splits the columns into panels and the rows into chunks, a few tasks for each thread. */
static sqz_status gemm_run(device *d, gemm_job *job)
{
    int64_t threads = device_threads(d), panels = (job->n + PANEL - 1) / PANEL;
    int64_t wanted = threads == 1 ? 1 : (6 * threads + panels - 1) / panels;
    wanted = least(wanted, job->m / 96);
    wanted = wanted < 1 ? 1 : wanted;
    job->chunk = round_up((job->m + wanted - 1) / wanted, 6);
    job->chunks = (job->m + job->chunk - 1) / job->chunk;
    job->own = device_scratch(d, threads * 2 * PANEL_UNITS * 4);
    if (!job->own) return SQZ_E_NOMEM;
    device_for(d, panels * job->chunks, 1, job->pairs ? gemm_pair_tasks : gemm_tasks, job);
    return SQZ_OK;
}

sqz_status algebra_gemm_rounded(void *dev, int64_t m, int64_t n, int64_t k, const float *a,
                                int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                                int64_t ldc)
{
    device *d = dev;
    if (m < 1 || n < 1 || k < 1 || !d->k->pairs)
        return algebra_gemm(dev, 0, 0, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
    gemm_job job = {.d = d,
                    .pairs = 1,
                    .m = m,
                    .n = n,
                    .k = k,
                    .lda = lda,
                    .ldb = ldb,
                    .ldc = ldc,
                    .beta = (float)beta,
                    .a = a,
                    .b = b,
                    .c = c};
    return gemm_run(d, &job);
}

sqz_status algebra_gemm(void *dev, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                        double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                        double beta, float *c, int64_t ldc)
{
    device *d = dev;
    if (m < 1 || n < 1) return SQZ_OK;
    if (k < 1 || alpha == 0) { /* C = beta C, and zero even where C held no number */
        for (int64_t i = 0; i < m; i++)
            for (int64_t l = 0; l < n; l++)
                c[i * ldc + l] = beta == 0 ? 0 : (float)beta * c[i * ldc + l];
        return SQZ_OK;
    }
    gemm_job job = {.d = d,
                    .ta = ta,
                    .tb = tb,
                    .m = m,
                    .n = n,
                    .k = k,
                    .lda = lda,
                    .ldb = ldb,
                    .ldc = ldc,
                    .alpha = (float)alpha,
                    .beta = (float)beta,
                    .a = a,
                    .b = b,
                    .c = c};
    return gemm_run(d, &job);
}

/* ---- A = L^T L and inverse(A) = U^T U ------------------------------------------------------- */

/* With the exchange matrix J, a Cholesky factor C of J A J = C C^T gives A = L^T L with L =
 * J C^T J, and U = inverse(L^T).  J . J is the flat array backwards: it turns a triangle into the
 * opposite one, and a row-major triangle is LAPACK's opposite column-major one, so everything
 * happens in place. */
typedef struct turn {
    float *a;
    int64_t n;
} turn;

static void upper_to_lower(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const turn *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *from = t->a + i * t->n;
        float *to = t->a + (t->n - 1 - i) * t->n + t->n - 1;
        for (int64_t j = i + 1; j < t->n; j++) to[-j] = from[j];
    }
}

static void lower_to_upper(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const turn *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *from = t->a + (t->n - 1 - i) * t->n + t->n - 1;
        float *to = t->a + i * t->n;
        for (int64_t j = i + 1; j < t->n; j++) to[j] = from[-j];
    }
}

static void clear_lower(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const turn *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) memset(t->a + i * t->n, 0, (size_t)i * sizeof *t->a);
}

static void clear_upper(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const turn *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        memset(t->a + i * (t->n + 1) + 1, 0, (size_t)(t->n - 1 - i) * sizeof *t->a);
}

static void turn_diagonal(const turn *t)
{
    for (int64_t i = 0, j = t->n - 1; i < j; i++, j--) {
        float *x = t->a + i * (t->n + 1), *y = t->a + j * (t->n + 1), z = *x;
        *x = *y;
        *y = z;
    }
}

/* L, or with `inverted` U. */
static sqz_status triangular_factor(device *d, float *a, int64_t n, int inverted)
{
    enum { ROWS = 32 };
    if (n < 1) return SQZ_OK;
    if (n > INT_MAX)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: a matrix is too large for LAPACK");
    device_blas(d);
    turn t = {a, n};
    const char *triangle = inverted ? "U" : "L"; /* as LAPACK sees it */
    int side = (int)n, info = 0;
    device_for(d, n, ROWS, inverted ? upper_to_lower : lower_to_upper, &t);
    turn_diagonal(&t);
    spotrf_(triangle, &side, a, &side, &info);
    if (info == 0 && inverted) strtri_(triangle, "N", &side, a, &side, &info);
    if (info != 0) return SQZ_E_NUMERIC;
    turn_diagonal(&t);
    device_for(d, n, ROWS, inverted ? lower_to_upper : upper_to_lower, &t);
    device_for(d, n, ROWS, inverted ? clear_lower : clear_upper, &t);
    for (int64_t i = 0; i < n; i++) /* NaN slips through the factorisation */
        if (!(a[i * n + i] > 0) || !isfinite(a[i * n + i])) return SQZ_E_NUMERIC;
    return SQZ_OK;
}

sqz_status algebra_reverse_cholesky(void *dev, float *a, int64_t n)
{
    return triangular_factor(dev, a, n, 0);
}

sqz_status algebra_inverse_factor(void *dev, float *a, int64_t n)
{
    return triangular_factor(dev, a, n, 1);
}

/* ---- ceilings ------------------------------------------------------------------------------ */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct read_job {
    const device *d;
    int64_t bytes;
    uint64_t *sink; /* [threads * 8] */
} read_job;

enum { READ_CHUNK = 1 << 20 };

static void read_chunks(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const read_job *j = arg;
    int64_t at = begin * READ_CHUNK, stop = least(end * READ_CHUNK, j->bytes), n;
    for (; at < stop; at += n) {
        const char *p = store_at(j->d, at, &n);
        n = least(n, stop - at);
        j->sink[thread * 8] ^= j->d->k->read(p, n);
    }
}

/* Bytes that caches do not help to read again: of a buffer of four times the last level a sixth
 * was still found in it, of sixteen times nothing. */
static int64_t beyond_caches(const device *d)
{
    int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return least(least(8 * d->cache_bytes, 1 << 30), memory / 8);
}

/* Sustained over about `seconds`: the packed weights there are, filled up where they are few, read
 * one pass after the other. */
static sqz_status measure_reads(device *d, double seconds, double *bandwidth)
{
    int64_t missing = beyond_caches(d) - store_bytes(d), passes = 0;
    void *owner = NULL;
    uint64_t *sink = calloc((size_t)device_threads(d) * 8, sizeof *sink);
    if (!sink) return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory to measure bandwidth with");
    char *p = missing > 0 ? store_take(d, missing, &owner) : NULL;
    if (p) memset(p, 1, (size_t)missing);
    if (!p && missing > 0) {
        free(sink);
        return SQZ_E_NOMEM;
    }
    read_job job = {d, store_bytes(d), sink};
    double start = seconds_now(), took = 0;
    for (; passes < 2 || took < seconds; passes++) {
        device_for(d, (job.bytes + READ_CHUNK - 1) / READ_CHUNK, 8, read_chunks, &job);
        took = seconds_now() - start;
    }
    *bandwidth = (double)(passes * job.bytes) / took;
    if (p) store_give(d, owner);
    free(sink);
    return SQZ_OK;
}

/* Best rate of y = x W^T at 1024 x 1024 x 1024 in `compute`. */
static sqz_status measure_products(device *d, int32_t compute, double *flops)
{
    enum { SIDE = 1024 };
    float *m = calloc((size_t)3 * SIDE * SIDE, sizeof *m);
    if (!m) return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory to measure products with");
    sqz_weight w = {sizeof w, SQZ_F32, SQZ_FORM_DENSE, SIDE, SIDE, m, NULL};
    void *p = NULL;
    sqz_status status = linear_pack(d, &w, compute, &p);
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = compute,
                        .packed = p,
                        .tokens = SIDE,
                        .x = {m + SIDE * SIDE, 0},
                        .y = {m + 2 * SIDE * SIDE, 0}};
    *flops = 0;
    for (double start = seconds_now(); status == SQZ_OK && seconds_now() - start < 0.25;) {
        double t = seconds_now();
        status = linear_run(d, &op);
        t = 2.0 * SIDE * SIDE * SIDE / (seconds_now() - t);
        *flops = t > *flops ? t : *flops;
    }
    linear_packed_free(d, p);
    free(m);
    return status;
}

sqz_status algebra_measure(void *dev, double *read_bandwidth, double *f32_flops, double *bf16_flops)
{
    device *d = dev;
    double bandwidth = 0, single = 0, half = 0;
    sqz_status status = SQZ_OK;
    if (read_bandwidth) status = measure_reads(d, f32_flops || bf16_flops ? 0.3 : 0.05, &bandwidth);
    if (status == SQZ_OK && f32_flops) status = measure_products(d, SQZ_F32, &single);
    if (status == SQZ_OK && bf16_flops && d->k->pairs)
        status = measure_products(d, SQZ_BF16, &half);
    if (status != SQZ_OK) return status;
    if (read_bandwidth) *read_bandwidth = bandwidth;
    if (f32_flops) *f32_flops = single;
    if (bf16_flops) *bf16_flops = half;
    return SQZ_OK;
}
