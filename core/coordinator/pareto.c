/* pareto.c - see pareto.h.  Runs hold hundreds of points: flat arrays, plain loops. */
#include "coordinator/pareto.h"
#include "error/error.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int finite_point(const double *p, int n_axes)
{
    for (int m = 0; m < n_axes; m++)
        if (!isfinite(p[m])) return 0;
    return 1;
}

int pareto_dominates(const double *a, const double *b, int n_axes)
{
    int better = 0;
    for (int m = 0; m < n_axes; m++) {
        if (!(a[m] <= b[m])) return 0;
        better |= a[m] < b[m];
    }
    return better;
}

int64_t pareto_front(const double *points, int64_t n, int n_axes, uint8_t *on)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *p = points + i * n_axes;
        on[i] = (uint8_t)finite_point(p, n_axes);
        for (int64_t k = 0; k < n && on[i]; k++) {
            const double *q = points + k * n_axes;
            on[i] = !(finite_point(q, n_axes) && pareto_dominates(q, p, n_axes));
        }
        kept += on[i];
    }
    return kept;
}

/* ---- volume ---------------------------------------------------------------------------------- */

/* Insertion sort by one axis, ascending: stable, deterministic, and the sets are small. */
static void sort_by(double *points, int64_t n, int n_axes, int axis)
{
    double hold[16];
    size_t bytes = (size_t)n_axes * sizeof *points;
    for (int64_t i = 1; i < n; i++) {
        int64_t k = i;
        memcpy(hold, points + i * n_axes, bytes);
        for (; k > 0 && points[(k - 1) * n_axes + axis] > hold[axis]; k--)
            memcpy(points + k * n_axes, points + (k - 1) * n_axes, bytes);
        memcpy(points + k * n_axes, hold, bytes);
    }
}

static double box(const double *p, int n_axes, const double *r)
{
    double v = 1;
    for (int m = 0; m < n_axes; m++) v *= r[m] - p[m];
    return v;
}

/* Staircase from the best first axis on; `points` is scratch. */
static double volume_2(double *points, int64_t n, const double *r)
{
    double v = 0, top = r[1];
    sort_by(points, n, 2, 0);
    for (int64_t i = 0; i < n; i++)
        if (points[2 * i + 1] < top) {
            v += (r[0] - points[2 * i]) * (top - points[2 * i + 1]);
            top = points[2 * i + 1];
        }
    return v;
}

/* Slices along the third axis, each a staircase of the points seen so far. */
static double volume_3(double *points, int64_t n, const double *r)
{
    double v = 0, *slice = malloc((size_t)n * 2 * sizeof *slice);
    if (!slice) memory_failed("the hypervolume");
    sort_by(points, n, 3, 2);
    for (int64_t i = 0; i < n; i++) {
        double next = i + 1 < n ? points[3 * (i + 1) + 2] : r[2];
        if (next <= points[3 * i + 2]) continue; /* equal heights form one slice */
        for (int64_t k = 0; k <= i; k++) memcpy(slice + 2 * k, points + 3 * k, 2 * sizeof *slice);
        v += volume_2(slice, i + 1, r) * (next - points[3 * i + 2]);
    }
    free(slice);
    return v;
}

/* Keeps the non-dominated points, one of each equal group; returns how many.  Compaction in place
 * is safe: a dropped point is dominated by (or equal to) a kept one, which is still there to be
 * compared with, before position `kept` or at its own place. */
static int64_t thin(double *points, int64_t n, int n_axes)
{
    size_t bytes = (size_t)n_axes * sizeof *points;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *p = points + i * n_axes;
        int drop = 0;
        for (int64_t k = 0; k < kept && !drop; k++) {
            const double *q = points + k * n_axes;
            drop = pareto_dominates(q, p, n_axes) || !memcmp(p, q, bytes);
        }
        for (int64_t k = i + 1; k < n && !drop; k++)
            drop = pareto_dominates(points + k * n_axes, p, n_axes);
        if (!drop) memmove(points + n_axes * kept++, p, bytes);
    }
    return kept;
}

static double volume(double *points, int64_t n, int n_axes, const double *r);

/* WFG: the volume is the sum over points of what each adds to those after it, and that is its box
 * less the volume of the others limited to its box. */
static double volume_wfg(double *points, int64_t n, int n_axes, const double *r)
{
    double total = 0;
    double *limited = malloc((size_t)(n * n_axes) * sizeof *limited);
    if (!limited) memory_failed("the hypervolume");
    sort_by(points, n, n_axes, n_axes - 1);
    for (int64_t i = 0; i < n; i++) {
        const double *p = points + i * n_axes;
        int64_t k = 0;
        for (int64_t j = i + 1; j < n; j++, k++)
            for (int m = 0; m < n_axes; m++)
                limited[k * n_axes + m] = fmax(p[m], points[j * n_axes + m]);
        k = thin(limited, k, n_axes);
        total += box(p, n_axes, r) - volume(limited, k, n_axes, r);
    }
    free(limited);
    return total;
}

static double volume(double *points, int64_t n, int n_axes, const double *r)
{
    if (n == 0) return 0;
    if (n == 1) return box(points, n_axes, r);
    if (n_axes == 1) {
        sort_by(points, n, 1, 0);
        return r[0] - points[0];
    }
    return n_axes == 2   ? volume_2(points, n, r)
           : n_axes == 3 ? volume_3(points, n, r)
                         : volume_wfg(points, n, n_axes, r);
}

double pareto_hypervolume(const double *points, int64_t n, int n_axes, const double *reference)
{
    if (n_axes > 16) return NAN;
    double *inside = malloc((size_t)(n * n_axes + 1) * sizeof *inside);
    int64_t kept = 0;
    if (!inside) memory_failed("the hypervolume");
    for (int64_t i = 0; i < n; i++) {
        const double *p = points + i * n_axes;
        int in = finite_point(p, n_axes);
        for (int m = 0; m < n_axes && in; m++) in = p[m] < reference[m];
        if (in) memcpy(inside + n_axes * kept++, p, (size_t)n_axes * sizeof *p);
    }
    kept = thin(inside, kept, n_axes);
    double v = volume(inside, kept, n_axes, reference);
    free(inside);
    return v;
}
