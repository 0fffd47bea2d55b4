/* descend.c - refinement at the end: cyclic descent of codes and scales on the layer's own loss.
 *
 * The walk is greedy: it never revisits a column.  With H in hand the loss
 *     L = sum over rows of d H d^T,   d = w - s * (code - z)
 * is exact, so each step here can be the best one: a code moves to the level nearest to the
 * minimum of L along its column, a scale to the least-squares value of its group given the codes.
 * No step increases L.  The gradient G = H D of a chunk is one matrix product with the residual as
 * it stands, in bfloat16 where that is faster: D is exact, so roundings do not add up.  From block
 * to block of the chunk it is corrected by a smaller product, inside a block on a tile of 64 rows
 * in cache.  Columns are visited in the weight's own order, where groups are contiguous. Left out:
 * zero points, which stay where the grid search put them. */
#include "job.h"

enum { CHUNK_BLOCKS = 4 }; /* a longer chunk repacks D less often and is corrected more */

typedef struct sweep {
    gptq_job *job;
    int64_t first, count; /* columns of the block: whole groups where these fit */
    float *gradient;      /* [count, stride] of the block, in job->f; its steps once swept */
} sweep;

/* The residual of the walk from its order to the weight's own, from job->w into job->f. */
static void residual_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    gptq_job *job = arg;
    const int32_t *place = job->factor->perm + job->cols;
    size_t bytes = (size_t)job->stride * sizeof *job->w;
    (void)thread;
    for (int64_t j = begin; j < end; j++)
        memcpy(job->f + j * job->stride, job->w + place[j] * job->stride, bytes);
}

typedef struct tile {
    float g[TILE_COLS * TILE_ROWS];     /* gradient */
    float level[TILE_COLS * TILE_ROWS]; /* code - z */
    float delta[TILE_COLS * TILE_ROWS]; /* change of the dequantized weight so far */
    float t[TILE_COLS * TILE_ROWS];     /* last step, or H level */
} tile;

/* y[j] -= sum_i H[i][j] x[i] over columns from..to of the block, i != j where h replaces it. */
LANE_INLINE void subtract_product(const gptq_job *job, const sweep *sw, const float *x,
                                  int64_t from, int64_t to, int64_t j, lane_f *y)
{
    const float *xtx = job->linear->xtx + (sw->first) * job->cols + sw->first + j;
    for (int64_t i = from; i < to; i++) {
        float c = i == j ? job->factor->h[sw->first + j] : xtx[i * job->cols];
        for (int v = 0; v < TILE_ROWS / LANES; v++)
            y[v] -= lane_load(x + i * TILE_ROWS + v * LANES) * c;
    }
}

/* One pass over the codes of columns from..to, each seeing the steps of those before it. */
LANE_INLINE void step_codes(gptq_job *job, const sweep *sw, tile *t, int64_t row, int64_t from,
                            int64_t to)
{
    const float top = grid_top(&job->rule);
    const int64_t k = (sw->first + from) / job->group;
    for (int64_t j = from; j < to; j++) {
        lane_f y[TILE_ROWS / LANES];
        memcpy(y, t->g + j * TILE_ROWS, sizeof y);
        subtract_product(job, sw, t->t, from, j, j, y);
        float h_inv = 1.0f / job->factor->h[sw->first + j];
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t at = j * TILE_ROWS + v * LANES, r = row + v * LANES;
            lane_f s = lane_load(job->scales + k * job->stride + r);
            lane_f z = lane_load(job->zeros + k * job->stride + r);
            lane_f old = lane_load(t->level + at);
            lane_f new = lane_level(old + y[v] * h_inv / s, -z, top - z);
            lane_f step = s * (new - old);
            lane_store(t->level + at, new);
            lane_store(t->t + at, step);
            lane_store(t->delta + at, lane_load(t->delta + at) + step);
        }
    }
}

/* The least-squares scale of one group given its codes and everything outside it; the gradient of
 * the group follows. */
LANE_INLINE void step_scale(gptq_job *job, const sweep *sw, tile *t, int64_t row, int64_t from,
                            int64_t to)
{
    const int64_t k = (sw->first + from) / job->group;
    lane_f num[TILE_ROWS / LANES] = {0}, den[TILE_ROWS / LANES] = {0}, ds[TILE_ROWS / LANES];
    for (int64_t j = from; j < to; j++) {
        lane_f y[TILE_ROWS / LANES] = {0};
        subtract_product(job, sw, t->level, from, to, j, y);
        memcpy(t->t + j * TILE_ROWS, y, sizeof y); /* minus H level */
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t at = j * TILE_ROWS + v * LANES;
            lane_f level = lane_load(t->level + at);
            num[v] += level * lane_load(t->g + at);
            den[v] -= level * y[v];
        }
    }
    for (int v = 0; v < TILE_ROWS / LANES; v++) {
        float *scale = job->scales + k * job->stride + row + v * LANES;
        lane_f s = lane_load(scale);
        ds[v] = lane_scale_step(s, num[v], den[v]);
        lane_store(scale, s + ds[v]);
    }
    for (int64_t j = from; j < to; j++) {
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t at = j * TILE_ROWS + v * LANES;
            lane_store(t->g + at, lane_load(t->g + at) + ds[v] * lane_load(t->t + at));
            lane_store(t->delta + at, lane_load(t->delta + at) + ds[v] * lane_load(t->level + at));
        }
    }
}

LANE_INLINE void load_tile(const gptq_job *job, const sweep *sw, int64_t row, tile *t)
{
    memset(t->delta, 0, (size_t)sw->count * TILE_ROWS * sizeof *t->delta);
    for (int64_t j = 0; j < sw->count; j++) {
        int64_t c = sw->first + j, k = c / job->group;
        /* the ridge is added here: xtx is the host's and holds the bare diagonal */
        float ridge = job->factor->h[c] - job->linear->xtx[c * job->cols + c];
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t r = row + v * LANES, at = j * TILE_ROWS + v * LANES;
            lane_store(t->g + at, lane_load(sw->gradient + j * job->stride + r) +
                                      ridge * lane_load(job->w + c * job->stride + r));
            lane_f z = lane_load(job->zeros + k * job->stride + r);
            lane_store(t->level + at, lane_load_u8(job->codes + c * job->stride + r) - z);
        }
    }
}

LANE_INLINE void store_tile(gptq_job *job, const sweep *sw, int64_t row, const tile *t)
{
    for (int64_t j = 0; j < sw->count; j++) {
        int64_t c = sw->first + j, k = c / job->group;
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t r = row + v * LANES, at = j * TILE_ROWS + v * LANES;
            float *d = job->w + c * job->stride + r;
            lane_f step = -lane_load(t->delta + at);
            lane_store(d, lane_load(d) + step);
            lane_store(sw->gradient + j * job->stride + r, step);
            lane_f z = lane_load(job->zeros + k * job->stride + r);
            lane_store_u8(job->codes + c * job->stride + r, lane_load(t->level + at) + z);
        }
    }
}

LANE_INLINE void sweep_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const sweep *sw = arg;
    gptq_job *job = sw->job;
    int64_t group = job->group < sw->count ? job->group : sw->count;
    tile t;
    (void)thread;
    for (int64_t row = begin * TILE_ROWS; row < end * TILE_ROWS; row += TILE_ROWS) {
        load_tile(job, sw, row, &t);
        for (int64_t from = 0; from < sw->count; from += group) {
            int64_t to = from + group < sw->count ? from + group : sw->count;
            for (int64_t j = from; from > 0 && j < to; j++) { /* what groups before it changed */
                lane_f y[TILE_ROWS / LANES];
                memcpy(y, t.g + j * TILE_ROWS, sizeof y);
                subtract_product(job, sw, t.delta, 0, from, j, y);
                memcpy(t.g + j * TILE_ROWS, y, sizeof y);
            }
            if (job->group <= TILE_COLS) step_scale(job, sw, &t, row, from, to);
            step_codes(job, sw, &t, row, from, to);
        }
        store_tile(job, sw, row, &t);
    }
}
LANE_DISPATCH(sweep_rows_pick, sweep_rows)

/* Columns from .. to - 1, block by block.  One product gives the gradient of all of them, because
 * it rounds and repacks the whole residual; what a block changes reaches those after it by a small
 * product of its steps. */
static sqz_status descend_chunk(gptq_job *job, int64_t from, int64_t to, int64_t block)
{
    const float *h = job->linear->xtx;
    int64_t n = job->cols, stride = job->stride;
    sqz_status st = job->linalg->gemm_rounded(job->host, to - from, stride, n, h + from * n, n,
                                              job->w, stride, 0.0, job->f, stride);
    for (int64_t first = from; first < to && st == SQZ_OK; first += block) {
        int64_t count = to - first < block ? to - first : block, next = first + count;
        sweep sw = {job, first, count, job->f + (first - from) * stride};
        job->pool->parallel_for(job->host, stride / TILE_ROWS, 1, sweep_rows_pick(), &sw);
        if (next < to)
            st = job->linalg->gemm_rounded(job->host, to - next, stride, count,
                                           h + next * n + first, n, sw.gradient, stride, 1.0,
                                           job->f + (next - from) * stride, stride);
    }
    return st;
}

sqz_status descend(gptq_job *job)
{
    const sqz_host *host = job->host;
    int64_t n = job->cols, block = TILE_COLS, chunk;
    if (job->group <= TILE_COLS) block = TILE_COLS / job->group * job->group;
    chunk = CHUNK_BLOCKS * block;
    job->pool->parallel_for(host, n, 16, residual_rows, job);
    float *walked = job->w;
    job->w = job->f;
    job->f = walked; /* from here on the gradient of a chunk */
    for (int pass = 0; pass < job->sweeps; pass++) {
        for (int64_t from = 0; from < n; from += chunk) {
            double done = pass + (double)from / (double)n;
            if (host->tick(host, 0.6 + 0.4 * done / job->sweeps, "refine")) return SQZ_E_CANCELLED;
            sqz_status st = descend_chunk(job, from, n - from < chunk ? n : from + chunk, block);
            if (st != SQZ_OK) return st;
        }
    }
    return SQZ_OK;
}
