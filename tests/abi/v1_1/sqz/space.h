/* sqz/space.h - inline helpers for authors of search plugins: what values a dimension may take, the
 * points of a conditional space in a fixed order, and a set of points already proposed.
 * Inline on purpose, like help.h.  Left out: anything that decides what to propose. */
#ifndef SQZ_SPACE_H
#define SQZ_SPACE_H
#include <sqz/search.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define SQZ_MAYBE __attribute__((unused)) static inline
#else
#define SQZ_MAYBE static inline
#endif

SQZ_MAYBE const sqz_dim *sqz_dim_at(const sqz_space *s, int64_t i)
{
    return (const sqz_dim *)((const char *)s->dims + (size_t)i * s->dim_stride);
}

/* Number of legal values, or 0 when the dimension is continuous. */
SQZ_MAYBE int64_t sqz_dim_levels(const sqz_dim *d)
{
    if (d->n_values > 0) return d->n_values;
    return d->type == SQZ_REAL ? (d->lo == d->hi) : (int64_t)(d->hi - d->lo) + 1;
}

/* The k-th legal value of a dimension with levels. */
SQZ_MAYBE double sqz_dim_level(const sqz_dim *d, int64_t k)
{
    return d->n_values > 0 ? d->values[k] : d->lo + (double)k;
}

SQZ_MAYBE double sqz_dim_first(const sqz_dim *d)
{
    return d->n_values > 0 ? d->values[0] : d->lo;
}

/* Which level x is (the nearest one). */
SQZ_MAYBE int64_t sqz_dim_index(const sqz_dim *d, double x)
{
    int64_t n = sqz_dim_levels(d), best = 0;
    if (d->n_values <= 0) {
        best = (int64_t)floor(x - d->lo + 0.5);
        return best < 0 ? 0 : best >= n ? n - 1 : best;
    }
    for (int64_t k = 1; k < n; k++)
        if (fabs(d->values[k] - x) < fabs(d->values[best] - x)) best = k;
    return best;
}

/* The value at u in [0, 1): every level has an equal share; SQZ_LOG dimensions are even in log x.
 */
SQZ_MAYBE double sqz_dim_value(const sqz_dim *d, double u)
{
    int64_t n = sqz_dim_levels(d);
    if (u < 0) u = 0;
    if (u >= 1) u = 1 - 0x1p-53;
    if (n > 0 && (d->n_values > 0 || !(d->flags & SQZ_LOG) || d->lo <= 0))
        return sqz_dim_level(d, (int64_t)(u * (double)n));
    if ((d->flags & SQZ_LOG) && d->lo > 0) {
        double x = exp(log(d->lo) + u * (log(d->hi) - log(d->lo)));
        x = n > 0 ? sqz_dim_level(d, sqz_dim_index(d, x)) : x;
        return x < d->lo ? d->lo : x > d->hi ? d->hi : x;
    }
    return d->lo + u * (d->hi - d->lo);
}

/* Where x lies in [0, 1]: the inverse of sqz_dim_value up to the width of a level. */
SQZ_MAYBE double sqz_dim_unit(const sqz_dim *d, double x)
{
    int64_t n = sqz_dim_levels(d);
    if ((d->flags & SQZ_LOG) && d->lo > 0 && d->n_values <= 0 && d->hi > d->lo)
        return (log(x) - log(d->lo)) / (log(d->hi) - log(d->lo));
    if (n > 0) return ((double)sqz_dim_index(d, x) + 0.5) / (double)n;
    return d->hi > d->lo ? (x - d->lo) / (d->hi - d->lo) : 0;
}

/* Does dimension i matter at x?  A parent that does not matter makes its children not matter. */
SQZ_MAYBE int sqz_dim_active(const sqz_space *s, const double *x, int64_t i)
{
    for (const sqz_dim *d = sqz_dim_at(s, i); d->parent >= 0; d = sqz_dim_at(s, d->parent))
        if (x[d->parent] != d->parent_value) return 0;
    return 1;
}

/* Dimensions that do not matter get their first legal value, so that equal points have equal bytes.
 */
SQZ_MAYBE void sqz_space_settle(const sqz_space *s, double *x)
{
    for (int64_t i = 0; i < s->n_dims; i++) {
        if (!sqz_dim_active(s, x, i)) x[i] = sqz_dim_first(sqz_dim_at(s, i));
        x[i] += 0.0; /* -0 becomes 0 */
    }
}

SQZ_MAYBE void sqz_space_first(const sqz_space *s, double *x)
{
    for (int64_t i = 0; i < s->n_dims; i++) x[i] = sqz_dim_first(sqz_dim_at(s, i)) + 0.0;
}

/* The next settled point in a fixed order (the last dimension runs fastest; continuous dimensions
 * stay where they are); 0 after the last one. */
SQZ_MAYBE int sqz_space_next(const sqz_space *s, double *x)
{
    for (int64_t i = s->n_dims - 1; i >= 0; i--) {
        const sqz_dim *d = sqz_dim_at(s, i);
        int64_t n = sqz_dim_levels(d), k = n > 0 ? sqz_dim_index(d, x[i]) : 0;
        if (k + 1 >= n || !sqz_dim_active(s, x, i)) continue;
        x[i] = sqz_dim_level(d, k + 1) + 0.0;
        for (int64_t j = i + 1; j < s->n_dims; j++) {
            const sqz_dim *e = sqz_dim_at(s, j);
            if (sqz_dim_levels(e) > 0) x[j] = sqz_dim_first(e) + 0.0;
        }
        sqz_space_settle(s, x);
        return 1;
    }
    return 0;
}

/* Distinct points, counted up to `most`; most + 1 = more, or a continuous dimension. */
SQZ_MAYBE int64_t sqz_space_points(const sqz_space *s, int64_t most)
{
    int64_t n = 1;
    for (int64_t i = 0; i < s->n_dims; i++)
        if (sqz_dim_levels(sqz_dim_at(s, i)) == 0) return most + 1;
    double *x = (double *)calloc((size_t)s->n_dims + 1, sizeof *x);
    if (!x) return most + 1;
    sqz_space_first(s, x);
    while (n <= most && sqz_space_next(s, x)) n++;
    free(x);
    return n;
}

/* ---- points already proposed or told ------------------------------------------------------------
 */
typedef struct sqz_points {
    int64_t n_dims, n, room;
    double *x; /* [n, n_dims] */
} sqz_points;

SQZ_MAYBE int sqz_points_has(const sqz_points *p, const double *x)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!memcmp(p->x + i * p->n_dims, x, (size_t)p->n_dims * sizeof *x)) return 1;
    return 0;
}

/* Adds a settled point unless it is there; 0 when memory is gone. */
SQZ_MAYBE int sqz_points_add(sqz_points *p, const double *x)
{
    if (sqz_points_has(p, x)) return 1;
    if (p->n == p->room) {
        int64_t room = p->room ? 2 * p->room : 64;
        double *grown =
            (double *)realloc(p->x, (size_t)(room * (p->n_dims ? p->n_dims : 1)) * sizeof *x);
        if (!grown) return 0;
        p->x = grown;
        p->room = room;
    }
    memcpy(p->x + p->n * p->n_dims, x, (size_t)p->n_dims * sizeof *x);
    p->n++;
    return 1;
}

/* ---- random numbers as a pure function of (seed, index)
 * ------------------------------------------- */
SQZ_MAYBE uint64_t sqz_mix(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + 0x9e3779b97f4a7c15ull * (index + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* A stream: state counts the numbers drawn. */
typedef struct sqz_stream {
    uint64_t seed, drawn;
} sqz_stream;

SQZ_MAYBE double sqz_uniform(sqz_stream *r) /* in [0, 1) */
{
    return (double)(sqz_mix(sqz_mix(r->seed, 0), ++r->drawn) >> 11) * 0x1p-53;
}

/* A random settled point that is not in `seen`; 1 = written, 0 = none is left. */
SQZ_MAYBE int sqz_space_fresh(const sqz_space *s, sqz_stream *r, const sqz_points *seen, double *x)
{
    for (int tries = 0; tries < 64; tries++) {
        for (int64_t i = 0; i < s->n_dims; i++)
            x[i] = sqz_dim_value(sqz_dim_at(s, i), sqz_uniform(r));
        sqz_space_settle(s, x);
        if (!sqz_points_has(seen, x)) return 1;
    }
    /* Nearly everything was seen: go on from the last draw in the fixed order, once around. */
    for (int turn = 0; turn < 2; turn++) {
        do {
            if (!sqz_points_has(seen, x)) return 1;
        } while (sqz_space_next(s, x));
        sqz_space_first(s, x);
    }
    return 0;
}
#endif
