/* grid.h - the uniform grid of one group: scale and zero point, chosen by a weighted search.
 * Inline because it runs inside the column walk as well as before it.  Paper: docs/methods/gptq.md.
 */
#ifndef GPTQ_GRID_H
#define GPTQ_GRID_H
#include "lanes.h"

typedef struct grid_rule {
    int bits;
    int symmetric;
    int search;   /* 0: the grid that covers the extremes; n: n candidate scales */
    int signed_s; /* symmetric: also try negative scales (the long side of the grid turns over) */
} grid_rule;

/* A grid for sixteen rows: w ~ s * level, level = code - z in lo..hi. */
typedef struct grid {
    lane_f s, z;
} grid;

LANE_INLINE float grid_top(const grid_rule *rule)
{
    return (float)((1 << rule->bits) - 1);
}

/* Weighted squared error of the grid; sums for the least-squares scale beside it. */
LANE_INLINE lane_f grid_error(const float *w /* [n][ld] */, int64_t ld, const float *h /* [n] */,
                              int64_t n, grid g, float top, lane_f *s_fit)
{
    const lane_f inv = 1.0f / g.s, lo = -g.z, hi = top - g.z;
    lane_f err = lane_set(0), wl = lane_set(0), ll = lane_set(0);
    for (int64_t j = 0; j < n; j++) {
        lane_f x = lane_load(w + j * ld);
        lane_f l = lane_level(x * inv, lo, hi);
        lane_f d = x - g.s * l, hl = h[j] * l;
        err += h[j] * d * d;
        if (s_fit) {
            wl += hl * x;
            ll += hl * l;
        }
    }
    const lane_i usable = lane_below(lane_set(0), ll);
    if (s_fit) *s_fit = lane_pick(usable, wl / lane_pick(usable, ll, lane_set(1)), g.s);
    return err;
}

/* What is known of a group before its grid is. */
typedef struct grid_group {
    const float *w; /* [n][ld] */
    const float *h; /* [n] weights of the columns' errors */
    int64_t ld, n;
    lane_f lo, hi; /* extremes, zero included */
} grid_group;

LANE_INLINE grid_group grid_look(const float *w, int64_t ld, const float *h, int64_t n)
{
    grid_group g = {w, h, ld, n, lane_set(0), lane_set(0)};
    for (int64_t j = 0; j < n; j++) {
        lane_f x = lane_load(w + j * ld);
        g.lo = lane_min(g.lo, x);
        g.hi = lane_max(g.hi, x);
    }
    return g;
}

/* Scale candidates are steps t of the inverse scale: s = m / t.  From the grid that clips nothing
 * down to one that clips the tails; wider for few bits, where clipping pays.  `at` counts them. */
LANE_INLINE lane_f grid_step(const grid_rule *rule, lane_f at)
{
    const float n = (float)(1 << (rule->bits - 1));
    float lo = rule->bits == 2 ? 0.8f : n - 1.4f;
    float hi = rule->bits == 2   ? 4.0f
               : rule->bits == 3 ? 7.5f
               : rule->bits == 4 ? 13.0f
                                 : 1.15f * n;
    return lane_set(lo) + at * ((hi - lo) / (float)(rule->search > 1 ? rule->search - 1 : 1));
}

/* Candidate `at`.  Symmetric: turn is the sign of the scale.  Asymmetric: the zero point follows
 * the middle of the span, turn levels beside it. */
LANE_INLINE grid grid_candidate(const grid_rule *rule, const grid_group *g, lane_f at, lane_f turn)
{
    const lane_f tiny = lane_set(0x1p-24f), t = grid_step(rule, at);
    const float top = grid_top(rule);
    if (rule->symmetric)
        return (grid){lane_half(lane_max(lane_max(-g->lo, g->hi), tiny) / t) * turn,
                      lane_set((float)(1 << (rule->bits - 1)))};
    lane_f s = lane_half(lane_max(g->hi - g->lo, tiny) / (t + t + 1.0f));
    lane_f z = lane_round(lane_set(top / 2) - (g->hi + g->lo) / (s + s) + turn);
    return (grid){s, lane_min(lane_max(z, lane_set(1)), lane_set(top))};
}

/* The grid that covers the extremes. */
LANE_INLINE grid grid_cover(const grid_rule *rule, const grid_group *g)
{
    const lane_f tiny = lane_set(0x1p-24f);
    const float top = grid_top(rule), half = (float)(1 << (rule->bits - 1));
    if (rule->symmetric)
        return (grid){lane_half(lane_max(lane_max(-g->lo, g->hi), tiny) / lane_set(half - 1)),
                      lane_set(half)};
    lane_f s = lane_half(lane_max(g->hi - g->lo, tiny) / lane_set(top));
    return (grid){s, lane_min(lane_max(lane_round(-g->lo / s), lane_set(1)), lane_set(top))};
}

typedef struct grid_best {
    grid grid;
    lane_f err, at, turn;
} grid_best;

LANE_INLINE void grid_try(const grid_rule *rule, const grid_group *g, lane_f at, lane_f turn,
                          grid_best *best)
{
    grid c = grid_candidate(rule, g, at, turn);
    lane_f err = grid_error(g->w, g->ld, g->h, g->n, c, grid_top(rule), NULL);
    lane_i better = lane_below(err, best->err);
    best->grid.s = lane_pick(better, c.s, best->grid.s);
    best->grid.z = lane_pick(better, c.z, best->grid.z);
    best->at = lane_pick(better, at, best->at);
    best->turn = lane_pick(better, turn, best->turn);
    best->err = lane_pick(better, err, best->err);
}

/* Scales by least squares given the levels, levels given the scales.  Each look at a grid gives its
 * error and the scale to look at next. */
LANE_INLINE void grid_refine(const grid_rule *rule, const grid_group *g, grid_best *best)
{
    const float top = grid_top(rule);
    grid c = best->grid;
    lane_f fit;
    grid_error(g->w, g->ld, g->h, g->n, c, top, &fit);
    for (int pass = 0; pass < 3; pass++) {
        c.s = lane_half(fit);
        lane_f err = grid_error(g->w, g->ld, g->h, g->n, c, top, pass < 2 ? &fit : NULL);
        lane_i better = lane_below(err, best->err);
        fit = lane_pick(better, fit, best->grid.s); /* a row that lost has nothing new to try */
        best->grid.s = lane_pick(better, c.s, best->grid.s);
        best->err = lane_pick(better, err, best->err);
    }
}

/* Fit the grid of one group for sixteen rows; all-zero rows get the smallest scale and code z.
 * Every third candidate is tried, then the neighbours of each row's best. */
LANE_INLINE grid grid_fit(const grid_rule *rule, const float *w /* [n][ld] */, int64_t ld,
                          const float *h /* [n] */, int64_t n)
{
    const grid_group g = grid_look(w, ld, h, n);
    const int turns = rule->symmetric ? rule->signed_s : rule->bits <= 3; /* beside the first */
    grid_best best = {.grid = grid_cover(rule, &g)};
    if (rule->search <= 0) return best.grid;
    best.err = grid_error(w, ld, h, n, best.grid, grid_top(rule), NULL);
    best.turn = lane_set(rule->symmetric);
    for (int k = rule->search > 1; k < rule->search; k += 3) {
        const lane_f at = lane_set((float)k);
        grid_try(rule, &g, at, lane_set(rule->symmetric), &best);
        if (turns) grid_try(rule, &g, at, lane_set(-1), &best);
        if (turns && !rule->symmetric) grid_try(rule, &g, at, lane_set(1), &best);
    }
    const lane_f centre = best.at, turn = best.turn;
    if (rule->search > 1) {
        grid_try(rule, &g, lane_max(centre - 1.0f, lane_set(0)), turn, &best);
        grid_try(rule, &g, centre + 1.0f, turn, &best);
    }
    grid_refine(rule, &g, &best);
    return best.grid;
}
#endif
