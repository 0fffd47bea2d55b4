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
    if (s_fit) *s_fit = lane_pick(ll > 0, wl / lane_pick(ll > 0, ll, lane_set(1)), g.s);
    return err;
}

LANE_INLINE void grid_keep(grid *best, lane_f *best_err, grid g, lane_f err)
{
    lane_i better = err < *best_err;
    best->s = lane_pick(better, g.s, best->s);
    best->z = lane_pick(better, g.z, best->z);
    *best_err = lane_pick(better, err, *best_err);
}

/* Scale candidates are steps t of the inverse scale: s = m / t.  From the grid that clips nothing
 * down to one that clips the tails; wider for few bits, where clipping pays. */
LANE_INLINE float grid_step(const grid_rule *rule, int k)
{
    const float n = (float)(1 << (rule->bits - 1));
    float lo = rule->bits == 2 ? 0.8f : n - 1.4f;
    float hi = rule->bits == 2   ? 4.0f
               : rule->bits == 3 ? 7.5f
               : rule->bits == 4 ? 13.0f
                                 : 1.15f * n;
    return lo + (hi - lo) * (float)k / (float)(rule->search > 1 ? rule->search - 1 : 1);
}

/* Fit the grid of one group for sixteen rows.  h weighs the columns (a Hessian diagonal); all-zero
 * rows get the smallest scale and code z. */
LANE_INLINE grid grid_fit(const grid_rule *rule, const float *w /* [n][ld] */, int64_t ld,
                          const float *h /* [n] */, int64_t n)
{
    const float top = grid_top(rule), half = (float)(1 << (rule->bits - 1));
    lane_f lo = lane_set(0), hi = lane_set(0);
    for (int64_t j = 0; j < n; j++) {
        lane_f x = lane_load(w + j * ld);
        lo = lane_min(lo, x);
        hi = lane_max(hi, x);
    }
    lane_f m = lane_max(lane_max(-lo, hi), lane_set(0x1p-24f)), span = hi - lo;
    grid best;
    if (rule->symmetric) {
        best.s = lane_half(m / lane_set(half - 1));
        best.z = lane_set(half);
    } else {
        best.s = lane_half(lane_max(span, lane_set(0x1p-24f)) / lane_set(top));
        best.z = lane_min(lane_max(lane_round(-lo / best.s), lane_set(1)), lane_set(top));
    }
    if (rule->search <= 0) return best;
    lane_f best_err = grid_error(w, ld, h, n, best, top, NULL);
    for (int k = 0; k < rule->search; k++) {
        grid g = {.z = best.z};
        if (rule->symmetric) {
            g.s = lane_half(m / lane_set(grid_step(rule, k)));
            grid_keep(&best, &best_err, g, grid_error(w, ld, h, n, g, top, NULL));
            if (!rule->signed_s) continue;
            g.s = -g.s;
            grid_keep(&best, &best_err, g, grid_error(w, ld, h, n, g, top, NULL));
        } else {
            /* the same steps, of the half span; the zero point follows the middle of the span */
            float t = grid_step(rule, k);
            g.s = lane_half(lane_max(span, lane_set(0x1p-24f)) / lane_set(2 * t + 1));
            lane_f mid = lane_set(top / 2) - (hi + lo) / (g.s + g.s);
            int spread = rule->bits <= 3 ? 1 : 0;
            for (int dz = -spread; dz <= spread; dz++) {
                g.z = lane_min(lane_max(lane_round(mid + lane_set((float)dz)), lane_set(1)),
                               lane_set(top));
                grid_keep(&best, &best_err, g, grid_error(w, ld, h, n, g, top, NULL));
            }
        }
    }
    for (int pass = 0; pass < 3; pass++) {
        grid g = best;
        lane_f s;
        grid_error(w, ld, h, n, best, top, &s);
        g.s = lane_half(s);
        grid_keep(&best, &best_err, g, grid_error(w, ld, h, n, g, top, NULL));
    }
    return best;
}
#endif
