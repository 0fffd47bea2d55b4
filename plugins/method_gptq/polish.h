/* polish.h - refinement of a group inside the walk: its scale, then its codes, once each.
 *
 * With H = L^T D L the loss of a row is E D E^T, E = d L^T: what the walk leaves at each column
 * when everything before it is paid back.  Later columns can still make their own part of E
 * anything they like, so when the walk reaches the end of a group, the group's part is all that its
 * codes and its scale decide, and it is known.  Both are improved on it before the residuals go on
 * to the columns that follow; nothing but the group is read, so the work stays in cache.  No step
 * raises that part. Left out: zero points, and steps that later columns would have to answer
 * (descend.c). */
#ifndef GPTQ_POLISH_H
#define GPTQ_POLISH_H
#include "job.h"

/* A block of the walk, 64 rows of it; levels, E and v of the columns of the group in work. */
typedef struct walk_tile {
    float d[TILE_COLS * TILE_ROWS]; /* residual */
    float x[TILE_COLS * TILE_ROWS]; /* corrected weight, then E: that less what it became */
    float level[TILE_COLS * TILE_ROWS];
    float v[TILE_COLS * TILE_ROWS]; /* L level */
} walk_tile;

/* x += sum over i in from..to of d[i] * l[i] */
LANE_INLINE void collect(const float *l /* a row */, const float *d /* [][TILE_ROWS] */,
                         int64_t from, int64_t to, lane_f *x)
{
    for (int64_t i = from; i < to; i++)
        for (int v = 0; v < TILE_ROWS / LANES; v++)
            x[v] += lane_load(d + i * TILE_ROWS + v * LANES) * l[i];
}

/* The least-squares scale of columns from..to of the block for their levels: E falls by the change
 * times v = L level. */
LANE_INLINE void polish_scale(walk_tile *t, const float *l /* [..][cols] of the block */,
                              int64_t cols, const float *cost, int64_t from, int64_t to,
                              float *scale /* [TILE_ROWS] */)
{
    lane_f num[TILE_ROWS / LANES] = {0}, den[TILE_ROWS / LANES] = {0}, ds[TILE_ROWS / LANES];
    for (int64_t j = from; j < to; j++) {
        lane_f y[TILE_ROWS / LANES] = {0};
        collect(l + j * cols, t->level, from, j + 1, y);
        memcpy(t->v + j * TILE_ROWS, y, sizeof y);
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            lane_f weighted = cost[j] * y[v];
            num[v] += weighted * lane_load(t->x + j * TILE_ROWS + v * LANES);
            den[v] += weighted * y[v];
        }
    }
    for (int v = 0; v < TILE_ROWS / LANES; v++) {
        lane_f s = lane_load(scale + v * LANES);
        ds[v] = lane_scale_step(s, num[v], den[v]);
        lane_store(scale + v * LANES, s + ds[v]);
    }
    for (int64_t j = from; j < to; j++) {
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t at = j * TILE_ROWS + v * LANES;
            lane_store(t->x + at, lane_load(t->x + at) - ds[v] * lane_load(t->v + at));
            lane_store(t->d + at, lane_load(t->d + at) - ds[v] * lane_load(t->level + at));
        }
    }
}

/* Each level of columns from..to in turn to the one nearest to the minimum along its column, which
 * sees the steps of those before it.  E becomes those steps, negative: one row of `within` meets
 * both (factor_within). */
LANE_INLINE void polish_codes(walk_tile *t, const float *within /* [to - from][group + 1] */,
                              int64_t group, int64_t from, int64_t to,
                              const float *scale /* [TILE_ROWS] */,
                              const float *zero /* [TILE_ROWS] */, float top)
{
    float *e = t->x + from * TILE_ROWS;
    for (int64_t j = 0; j < to - from; j++) {
        const float *row = within + j * (group + 1);
        lane_f y[TILE_ROWS / LANES] = {0};
        collect(row, e, 0, to - from, y);
        for (int v = 0; v < TILE_ROWS / LANES; v++) {
            int64_t at = (from + j) * TILE_ROWS + v * LANES;
            lane_f s = lane_load(scale + v * LANES), z = lane_load(zero + v * LANES);
            lane_f old = lane_load(t->level + at);
            lane_f new = lane_level(old + y[v] / (row[group] * s), -z, top - z);
            lane_f step = s * (old - new);
            lane_store(t->level + at, new);
            lane_store(t->x + at, step);
            lane_store(t->d + at, lane_load(t->d + at) + step);
        }
    }
}
#endif
