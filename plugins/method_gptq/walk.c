/* walk.c - grids, and the GPTQ walk over the columns.
 *
 * Columns are quantized one after the other in the factor's order; each is corrected by the
 * residuals D = W - Q of those before it, weighted by L.  Inside a block of up to 128 columns a
 * column collects its corrections just before its turn, on one tile of 64 rows in cache; what the
 * first half of a range of blocks owes its second half is one matrix product, from blocks up to the
 * whole matrix.
 * Left out: the choice of order and damping (factor.c), refinement (descend.c). */
#include "polish.h"
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

/* The level of a corrected weight x; d goes from the weight to the residual. */
LANE_INLINE void quantize_column(gptq_job *job, walk_tile *tile, int64_t j, int64_t column,
                                 int64_t row, const lane_f *x, float top)
{
    const int64_t k = column / job->group;
    for (int v = 0; v < TILE_ROWS / LANES; v++) {
        int64_t r = row + v * LANES, at = j * TILE_ROWS + v * LANES;
        lane_f s = lane_load(job->scales + k * job->stride + r);
        lane_f z = lane_load(job->zeros + k * job->stride + r);
        lane_f level = lane_level(x[v] * (1.0f / s), -z, top - z);
        lane_store(tile->d + at, lane_load(tile->d + at) - s * level);
        if (job->polish) {
            lane_store(tile->x + at, x[v] - s * level);
            lane_store(tile->level + at, level);
        } else {
            lane_store_u8(job->codes + column * job->stride + r, level + z);
        }
    }
}

/* The grid of the group in columns from..to of the block, on its corrected weights. */
LANE_INLINE void late_grid(gptq_job *job, const tile_work *t, walk_tile *tile, int64_t row,
                           int64_t from, int64_t to)
{
    const factor *f = job->factor;
    const int64_t k = f->perm[t->first + from] / job->group;
    for (int64_t j = from; j < to; j++) {
        lane_f y[TILE_ROWS / LANES];
        memcpy(y, tile->x + j * TILE_ROWS, sizeof y);
        collect(f->l + (t->first + j) * job->cols + t->first, tile->d, 0, from, y);
        memcpy(tile->x + j * TILE_ROWS, y, sizeof y);
    }
    for (int v = 0; v < TILE_ROWS / LANES; v++)
        grid_store(job, k, row + v * LANES,
                   grid_fit(&job->rule, tile->x + from * TILE_ROWS + v * LANES, TILE_ROWS,
                            f->late + t->first + from, to - from));
}

LANE_INLINE void polish_group(gptq_job *job, const tile_work *t, walk_tile *tile, int64_t row,
                              int64_t from, int64_t to)
{
    const factor *f = job->factor;
    const int64_t k = f->perm[t->first + from] / job->group, at = k * job->stride + row;
    polish_scale(tile, f->l + t->first * job->cols + t->first, job->cols, f->cost + t->first, from,
                 to, job->scales + at);
    polish_codes(tile, f->within + (t->first + from) * (job->group + 1), job->group, from, to,
                 job->scales + at, job->zeros + at, grid_top(&job->rule));
    for (int64_t j = from; j < to; j++) {
        uint8_t *codes = job->codes + f->perm[t->first + j] * job->stride + row;
        for (int v = 0; v < TILE_ROWS / LANES; v++)
            lane_store_u8(codes + v * LANES, lane_load(tile->level + j * TILE_ROWS + v * LANES) +
                                                 lane_load(job->zeros + at + v * LANES));
    }
}

/* Where the group that begins at column `from` of the block ends. */
LANE_INLINE int64_t group_end(const gptq_job *job, const tile_work *t, int64_t from)
{
    const int32_t *column = job->factor->perm + t->first;
    int64_t to = from + 1;
    while (to < t->count && column[to] / job->group == column[from] / job->group) to++;
    return to;
}

/* Columns from..to; what came before them is in x. */
LANE_INLINE void walk_run(gptq_job *job, const tile_work *t, walk_tile *tile, int64_t row,
                          int64_t from, int64_t to)
{
    const factor *f = job->factor;
    const float top = grid_top(&job->rule);
    for (int64_t j = from; j < to; j++) {
        lane_f y[TILE_ROWS / LANES];
        memcpy(y, tile->x + j * TILE_ROWS, sizeof y);
        collect(f->l + (t->first + j) * job->cols + t->first, tile->d, from, j, y);
        quantize_column(job, tile, j, f->perm[t->first + j], row, y, top);
    }
}

LANE_INLINE void load_walk(const gptq_job *job, const tile_work *t, int64_t row, walk_tile *tile)
{
    for (int64_t j = 0; j < t->count; j++) {
        int64_t at = (t->first + j) * job->stride + row;
        memcpy(tile->d + j * TILE_ROWS, job->w + at, TILE_ROWS * sizeof(float));
        memcpy(tile->x + j * TILE_ROWS, job->w + at, TILE_ROWS * sizeof(float));
        for (int64_t r = 0; t->first > 0 && r < TILE_ROWS; r++)
            tile->x[j * TILE_ROWS + r] += job->f[at + r];
    }
}

LANE_INLINE void walk_rows_at(gptq_job *job, const tile_work *t, int64_t row)
{
    walk_tile tile;
    load_walk(job, t, row, &tile);
    if (!job->late_grids) walk_run(job, t, &tile, row, 0, t->count);
    for (int64_t from = 0; job->late_grids && from < t->count;) {
        int64_t to = group_end(job, t, from);
        late_grid(job, t, &tile, row, from, to);
        walk_run(job, t, &tile, row, from, to);
        if (job->polish) polish_group(job, t, &tile, row, from, to);
        from = to;
    }
    for (int64_t j = 0; j < t->count; j++)
        memcpy(job->w + (t->first + j) * job->stride + row, tile.d + j * TILE_ROWS,
               TILE_ROWS * sizeof(float));
}

LANE_INLINE void walk_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const tile_work *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) walk_rows_at(t->job, t, i * TILE_ROWS);
}
LANE_DISPATCH(walk_rows_pick, walk_rows)

/* The weight, permuted and transposed, in squares of sixteen: what is written is whole lines of the
 * cache, because rows of job->w lie a power of two apart and lie in one set of it. */
LANE_INLINE void load_columns(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    gptq_job *job = ((const tile_work *)arg)->job;
    const int32_t *place = job->factor->perm + job->cols;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t from = 0; from < job->cols; from += LANES) {
            const int64_t n = from + LANES < job->cols ? LANES : job->cols - from;
            lane_f square[LANES];
            for (int64_t lane = 0; lane < LANES; lane++) {
                const int64_t row = i * LANES + lane;
                const float *w = job->linear->weight + row * job->cols + from;
                square[lane] = lane_set(0);
                if (row < job->rows && n == LANES)
                    square[lane] = lane_load(w);
                else if (row < job->rows)
                    memcpy(&square[lane], w, (size_t)n * sizeof *w);
            }
            lane_transpose(square);
            for (int64_t j = 0; j < n; j++)
                lane_store(job->w + place[from + j] * job->stride + i * LANES, square[j]);
        }
    }
}
LANE_DISPATCH(load_columns_pick, load_columns)

/* Length of the block at `first`: at most TILE_COLS positions, and whole groups when grids are
 * fitted on the way. */
static int64_t block_length(const gptq_job *job, int64_t first)
{
    const int32_t *perm = job->factor->perm;
    int64_t n = job->cols - first < TILE_COLS ? job->cols - first : TILE_COLS;
    if (!job->late_grids || first + n == job->cols) return n;
    while (perm[first + n - 1] / job->group == perm[first + n] / job->group) n--;
    return n;
}

static sqz_status walk_block(gptq_job *job, int64_t first, int64_t end)
{
    tile_work t = {.job = job, .first = first, .count = end - first};
    job->pool->parallel_for(job->host, job->stride / TILE_ROWS, 1, walk_rows_pick(), &t);
    return job->host->tick(job->host, 0.1 + 0.5 * (double)end / (double)job->cols, "quantize")
               ? SQZ_E_CANCELLED
               : SQZ_OK;
}

/* Blocks lo..hi-1; start[] are their first positions.  The feedback of a range that reaches past
 * its left half is begun by the first product that writes it. */
static sqz_status walk_range(gptq_job *job, const int64_t *start, int64_t lo, int64_t hi)
{
    if (hi - lo == 1) return walk_block(job, start[lo], start[hi]);
    int64_t half = (lo + hi) / 2, first = start[lo], mid = start[half], end = start[hi];
    int64_t cols = job->cols, stride = job->stride;
    sqz_status st = walk_range(job, start, lo, half);
    if (st == SQZ_OK)
        st = job->linalg->gemm_rounded(
            job->host, end - mid, stride, mid - first, job->factor->l + mid * cols + first, cols,
            job->w + first * stride, stride, first > 0 ? 1.0 : 0.0, job->f + mid * stride, stride);
    return st == SQZ_OK ? walk_range(job, start, half, hi) : st;
}

sqz_status walk_columns(gptq_job *job)
{
    tile_work t = {.job = job};
    int64_t n = 0, *start = malloc(((size_t)job->cols + 1) * sizeof *start);
    if (!start) return job->host->fail(job->host, SQZ_E_NOMEM, "gptq: no memory for the blocks");
    for (start[0] = 0; start[n] < job->cols; n++)
        start[n + 1] = start[n] + block_length(job, start[n]);
    job->pool->parallel_for(job->host, job->stride / LANES, 1, load_columns_pick(), &t);
    sqz_status st = walk_range(job, start, 0, n);
    free(start);
    return st;
}
