/* pareto.h - the set of points nobody beats, and the volume they cover.  Smaller is better on every
 * axis; callers negate what they maximise.  A point with a NaN or infinite axis is beaten by every
 * finite point and covers nothing. */
#ifndef SQZ_CORE_PARETO_H
#define SQZ_CORE_PARETO_H
#include <stdint.h>

/* a is at least as good on every axis and better on one. */
int pareto_dominates(const double *a, const double *b, int n_axes);
/* on[i] = 1 where point i is finite and no finite point dominates it.  points is [n, n_axes].
 * Equal points are all kept.  Returns how many are on the front. */
int64_t pareto_front(const double *points, int64_t n, int n_axes, uint8_t *on);
/* Exact volume between the points and the reference; points at or beyond the reference add nothing.
 * O(n log n) in 2-D, O(n^2 log n) in 3-D, WFG recursion (While et al. 2012) above. */
double pareto_hypervolume(const double *points, int64_t n, int n_axes, const double *reference);
#endif
