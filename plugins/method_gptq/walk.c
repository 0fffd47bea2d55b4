/* walk.c - grids, and the GPTQ walk over the columns.
 *
 * Columns are quantized one after the other in the factor's order; each rounding error is spread
 * over the columns still to come, weighted by U.  Inside a block of up to 128 columns the spreading
 * is lazy (a column collects what it owes just before its turn) and runs on one tile of 64 rows in
 * cache; what a block owes the rest of the matrix is one matrix product.
 * Left out: the choice of order and damping (factor.c), refinement (descend.c). */
#include "job.h"
#include <stdlib.h>

typedef struct tile_work {
    gptq_job *job;
    const float *h; /* [cols] weights of the grid search */
    float *scratch; /* [threads][group][LANES] for the grid search */
    int64_t first;  /* block of positions first .. first + count - 1 */
    int64_t count;
} tile_work;

/* ---- grids ----------------------------------------------------------------------------------- */

LANE_INLINE void grid_store(gptq_job *job, int64_t group, int64_t row, grid g)
{
    lane_store(job->scales + group * job->stride + row, g.s);
    lane_store(job->zeros + group * job->stride + row, g.z);
}

/* Transpose part of 16 rows of the weight; rows past the end are zero. */
LANE_INLINE void load_rows(const gptq_job *job, int64_t row, int64_t first, int64_t n,
                           float *tile /* [n][LANES] */)
{
    for (int64_t lane = 0; lane < LANES; lane++) {
        const float *w = job->linear->weight + (row + lane) * job->cols + first;
        int inside = row + lane < job->rows;
        for (int64_t j = 0; j < n; j++) tile[j * LANES + lane] = inside ? w[j] : 0.0f;
    }
}

LANE_INLINE void fit_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const tile_work *t = arg;
    gptq_job *job = t->job;
    float *tile = t->scratch + thread * job->group * LANES;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i * LANES;
        for (int64_t k = 0; k < job->n_groups; k++) {
            int64_t first = k * job->group;
            int64_t n = first + job->group > job->cols ? job->cols - first : job->group;
            load_rows(job, row, first, n, tile);
            grid_store(job, k, row, grid_fit(&job->rule, tile, LANES, t->h + first, n));
        }
    }
}
LANE_DISPATCH(fit_rows_pick, fit_rows)

sqz_status grids_fit(gptq_job *job, const float *h)
{
    const sqz_host *host = job->host;
    int64_t lanes = job->stride / LANES;
    tile_work t = {.job = job, .h = h};
    size_t bytes = (size_t)job->pool->threads(host) * (size_t)job->group * LANES * sizeof(float);
    t.scratch = malloc(bytes);
    if (!t.scratch) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for the grid search");
    job->pool->parallel_for(host, lanes, 1, fit_rows_pick(), &t);
    free(t.scratch);
    return host->tick(host, 0.1, "grids") ? SQZ_E_CANCELLED : SQZ_OK;
}

/* Data-free: every weight to the nearest level of its grid. */
LANE_INLINE void nearest_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const tile_work *t = arg;
    gptq_job *job = t->job;
    const float top = grid_top(&job->rule);
    float *tile = t->scratch + thread * job->group * LANES;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i * LANES;
        for (int64_t k = 0; k < job->n_groups; k++) {
            int64_t first = k * job->group;
            int64_t n = first + job->group > job->cols ? job->cols - first : job->group;
            load_rows(job, row, first, n, tile);
            lane_f s = lane_load(job->scales + k * job->stride + row);
            lane_f z = lane_load(job->zeros + k * job->stride + row);
            for (int64_t j = 0; j < n; j++) {
                lane_f level = lane_level(lane_load(tile + j * LANES) * (1.0f / s), -z, top - z);
                lane_store_u8(job->codes + (first + j) * job->stride + row, level + z);
            }
        }
    }
}
LANE_DISPATCH(nearest_rows_pick, nearest_rows)

sqz_status round_nearest(gptq_job *job)
{
    const sqz_host *host = job->host;
    tile_work t = {.job = job};
    size_t bytes = (size_t)job->pool->threads(host) * (size_t)job->group * LANES * sizeof(float);
    t.scratch = malloc(bytes);
    if (!t.scratch) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for rounding");
    job->pool->parallel_for(host, job->stride / LANES, 1, nearest_rows_pick(), &t);
    free(t.scratch);
    return SQZ_OK;
}

/* ---- the walk -------------------------------------------------------------------------------- */

LANE_INLINE void quantize_column(gptq_job *job, int64_t column, int64_t row, const lane_f *x,
                                 float u_inv, float *e, float top)
{
    const int64_t k = column / job->group;
    for (int v = 0; v < TILE_ROWS / LANES; v++) {
        int64_t r = row + v * LANES;
        lane_f s = lane_load(job->scales + k * job->stride + r);
        lane_f z = lane_load(job->zeros + k * job->stride + r);
        lane_f level = lane_level(x[v] * (1.0f / s), -z, top - z);
        lane_store_u8(job->codes + column * job->stride + r, level + z);
        lane_store(e + v * LANES, (x[v] - s * level) * u_inv);
    }
}

/* x[j] -= sum over i in from..to of e[i] * U[first + i][first + j] */
LANE_INLINE void collect(const float *u, int64_t ld, const float *e /* [][TILE_ROWS] */,
                         int64_t from, int64_t to, int64_t j, lane_f *x)
{
    for (int64_t i = from; i < to; i++) {
        float c = u[i * ld + j];
        for (int v = 0; v < TILE_ROWS / LANES; v++)
            x[v] -= lane_load(e + i * TILE_ROWS + v * LANES) * c;
    }
}

LANE_INLINE void walk_tile(gptq_job *job, const tile_work *t, int64_t row)
{
    float w[TILE_COLS * TILE_ROWS], e[TILE_COLS * TILE_ROWS], h[TILE_COLS];
    const factor *f = job->factor;
    const float *u = f->u + t->first * job->cols + t->first;
    const float top = grid_top(&job->rule);
    for (int64_t j = 0; j < t->count; j++)
        memcpy(w + j * TILE_ROWS, job->w + (t->first + j) * job->stride + row,
               TILE_ROWS * sizeof *w);
    for (int64_t j = 0, base = 0; j < t->count; j++) {
        const int32_t *column = f->perm + t->first;
        int64_t k = column[j] / job->group;
        if (job->late_grids && (j == 0 || column[j - 1] / job->group != k)) {
            int64_t n = 0;
            for (; j + n < t->count && column[j + n] / job->group == k; n++) {
                lane_f x[TILE_ROWS / LANES];
                memcpy(x, w + (j + n) * TILE_ROWS, sizeof x);
                collect(u, job->cols, e, base, j, j + n, x);
                memcpy(w + (j + n) * TILE_ROWS, x, sizeof x);
                h[n] = t->h[column[j + n]];
            }
            base = j;
            for (int v = 0; v < TILE_ROWS / LANES; v++)
                grid_store(job, k, row + v * LANES,
                           grid_fit(&job->rule, w + j * TILE_ROWS + v * LANES, TILE_ROWS, h, n));
        }
        lane_f x[TILE_ROWS / LANES];
        memcpy(x, w + j * TILE_ROWS, sizeof x);
        collect(u, job->cols, e, base, j, j, x);
        quantize_column(job, column[j], row, x, 1.0f / u[j * job->cols + j], e + j * TILE_ROWS,
                        top);
    }
    for (int64_t j = 0; j < t->count; j++)
        memcpy(job->e + j * job->stride + row, e + j * TILE_ROWS, TILE_ROWS * sizeof *e);
}

LANE_INLINE void walk_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const tile_work *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) walk_tile(t->job, t, i * TILE_ROWS);
}
LANE_DISPATCH(walk_rows_pick, walk_rows)

/* The weight, permuted and transposed.  Through a tile: rows of job->w lie a power of two apart,
 * and writing them a column at a time would fight over one set of the cache. */
LANE_INLINE void load_columns(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    gptq_job *job = ((const tile_work *)arg)->job;
    const int32_t *perm = job->factor->perm;
    float tile[LANES * STRIP]; /* [lane][position] */
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t from = 0; from < job->cols; from += STRIP) {
            int64_t n = from + STRIP < job->cols ? STRIP : job->cols - from;
            for (int64_t lane = 0; lane < LANES; lane++) {
                int64_t r = i * LANES + lane;
                const float *w = job->linear->weight + r * job->cols;
                float *t = tile + lane * STRIP;
                if (r < job->rows)
                    for (int64_t p = 0; p < n; p++) t[p] = w[perm[from + p]];
                else
                    memset(t, 0, STRIP * sizeof *t);
            }
            for (int64_t p = 0; p < n; p++) {
                float x[LANES];
                for (int64_t lane = 0; lane < LANES; lane++) x[lane] = tile[lane * STRIP + p];
                memcpy(job->w + (from + p) * job->stride + i * LANES, x, sizeof x);
            }
        }
    }
}
LANE_DISPATCH(load_columns_pick, load_columns)

/* The next block: at most TILE_COLS positions, and whole groups when grids are fitted on the way.
 */
static int64_t block_length(const gptq_job *job, int64_t first)
{
    const int32_t *perm = job->factor->perm;
    int64_t n = job->cols - first < TILE_COLS ? job->cols - first : TILE_COLS;
    if (!job->late_grids || first + n == job->cols) return n;
    while (perm[first + n - 1] / job->group == perm[first + n] / job->group) n--;
    return n;
}

sqz_status walk_columns(gptq_job *job)
{
    const sqz_host *host = job->host;
    const factor *f = job->factor;
    int64_t cols = job->cols, stride = job->stride;
    tile_work t = {.job = job, .h = f->h};
    job->pool->parallel_for(host, stride / LANES, 1, load_columns_pick(), &t);
    for (t.first = 0; t.first < cols; t.first += t.count) {
        t.count = block_length(job, t.first);
        job->pool->parallel_for(host, stride / TILE_ROWS, 1, walk_rows_pick(), &t);
        int64_t next = t.first + t.count;
        if (host->tick(host, 0.1 + 0.5 * (double)next / (double)cols, "quantize"))
            return SQZ_E_CANCELLED;
        if (next == cols) break;
        sqz_status st = job->linalg->gemm(host, 1, 0, cols - next, stride, t.count, -1.0,
                                          f->u + t.first * cols + next, cols, job->e, stride, 1.0,
                                          job->w + next * stride, stride);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}
