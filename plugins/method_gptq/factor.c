/* factor.c - the order of the walk, the damping, and the factor L of the Hessian.
 *
 * The factor costs 1/3 n^3 and depends only on the statistics, the order and the damping, so the
 * instance keeps the last one: q, k, v and gate, up read the same input.  It is recognised by the
 * number that the host gave the statistics, never by their address, which the host may reuse.
 * Left out: the factorisation itself, which is the host's (sqz.linalg/1). */
#include "job.h"
#include <math.h>
#include <stdlib.h>

void factor_free(factor *f)
{
    free(f->l);
    free(f->h);
    free(f->late);
    free(f->cost);
    free(f->within);
    free(f->perm);
    *f = (factor){0};
}

/* ---- order -------------------------------------------------------------------------------------
 */

typedef struct rank {
    float group_key, key; /* larger first */
    int32_t index;
} rank;

static int rank_compare(const void *pa, const void *pb)
{
    const rank *a = pa, *b = pb;
    if (a->group_key != b->group_key) return a->group_key > b->group_key ? -1 : 1;
    if (a->key != b->key) return a->key > b->key ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Group-aware: groups by their largest diagonal entry, columns inside a group by theirs.  Equal
 * groups must not interleave, so the tie is broken by the group's own number. */
static sqz_status sort_columns(const sqz_host *host, const float *h, int64_t n, int order,
                               int64_t group, int32_t *perm)
{
    for (int64_t i = 0; i < n; i++) perm[i] = (int32_t)i;
    if (order == ORDER_NATURAL) return SQZ_OK;
    rank *r = malloc((size_t)n * sizeof *r);
    if (!r) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for the column order");
    int64_t n_groups = (n + group - 1) / group, at = 0;
    if (order == ORDER_ACTIVATION) {
        for (int64_t i = 0; i < n; i++) r[i] = (rank){0, h[i], (int32_t)i};
        qsort(r, (size_t)n, sizeof *r, rank_compare);
        for (int64_t i = 0; i < n; i++) perm[i] = r[i].index;
        free(r);
        return SQZ_OK;
    }
    for (int64_t k = 0; k < n_groups; k++) {
        r[k] = (rank){0, 0, (int32_t)k};
        for (int64_t i = k * group; i < n && i < (k + 1) * group; i++)
            if (h[i] > r[k].key) r[k].key = h[i];
    }
    qsort(r, (size_t)n_groups, sizeof *r, rank_compare);
    for (int64_t k = 0; k < n_groups; k++) perm[k] = r[k].index;
    int32_t *groups = malloc((size_t)n_groups * sizeof *groups);
    if (!groups) {
        free(r);
        return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for the column order");
    }
    memcpy(groups, perm, (size_t)n_groups * sizeof *groups);
    for (int64_t k = 0; k < n_groups; k++) {
        int64_t first = groups[k] * group, count = first + group > n ? n - first : group;
        for (int64_t i = 0; i < count; i++) r[i] = (rank){0, h[first + i], (int32_t)(first + i)};
        qsort(r, (size_t)count, sizeof *r, rank_compare);
        for (int64_t i = 0; i < count; i++) perm[at++] = r[i].index;
    }
    free(groups);
    free(r);
    return SQZ_OK;
}

/* perm: [2 n], columns by position and positions by column. */
static sqz_status order_columns(const sqz_host *host, const float *h, int64_t n, int order,
                                int64_t group, int32_t *perm)
{
    sqz_status st = sort_columns(host, h, n, order, group, perm);
    for (int64_t p = 0; p < n && st == SQZ_OK; p++) perm[n + perm[p]] = (int32_t)p;
    return st;
}

/* ---- damping and factor ---------------------------------------------------------------------- */

typedef struct gather {
    const float *xtx;
    const int32_t *perm;
    const float *h;
    float *a;
    float *late, *cost;
    int64_t n;
} gather;

/* The lower triangle of the damped Hessian in walking order. */
static void gather_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const gather *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *from = t->xtx + t->perm[i] * t->n;
        float *to = t->a + i * t->n;
        for (int64_t j = 0; j < i; j++) to[j] = from[t->perm[j]];
        to[i] = t->h[t->perm[i]];
    }
}

/* Rows of L over their diagonal entry.  That entry squared, D, is what an error of the column costs
 * in the end, where those after it make up for it; H's is what it costs when nothing does.  While a
 * group's grid is fitted the truth lies between: the geometric mean weighs its columns. */
static void unit_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const gather *t = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *row = t->a + i * t->n, inv = 1.0f / row[i];
        t->cost[i] = row[i] * row[i];
        t->late[i] = row[i] * sqrtf(t->h[t->perm[i]]);
        for (int64_t j = 0; j < i; j++) row[j] *= inv;
        row[i] = 1;
    }
}

/* Channels that never fired leave zero rows, and rounding can make a nearly singular H indefinite.
 * A ridge of a percent of the mean diagonal moves the optimum less than rounding does; where it is
 * not enough it grows fourfold, up to the mean diagonal itself.  (GPTQ, step 2) */
static sqz_status factor_damped(const sqz_host *host, const sqz_pool *pool,
                                const sqz_linalg *linalg, const float *xtx, factor *f)
{
    enum { ROWS = 16 }; /* short: later rows of a triangle are longer */
    int64_t n = f->cols;
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += xtx[i * n + i];
    mean /= (double)n;
    gather t = {xtx, f->perm, f->h, f->l, f->late, f->cost, n};
    sqz_status st = SQZ_E_NUMERIC;
    for (double damp = f->asked;
         st == SQZ_E_NUMERIC && f->damp<1; damp = damp> 0 ? (damp < 0.25 ? damp * 4 : 1) : 1e-4) {
        for (int64_t i = 0; i < n; i++) {
            float d = xtx[i * n + i];
            /* a dead column has no neighbours: any positive entry keeps it out of the way */
            f->h[i] = d > 0 ? (float)(d + damp * mean) : (float)(damp > 0 ? damp * mean : mean);
        }
        pool->parallel_for(host, n, ROWS, gather_rows, &t);
        if (host->tick(host, 0.05, "factorise")) return SQZ_E_CANCELLED;
        st = linalg->reverse_cholesky(host, f->l, n);
        f->damp = damp;
    }
    if (st == SQZ_OK) pool->parallel_for(host, n, ROWS, unit_rows, &t);
    return st;
}

sqz_status factor_prepare(const sqz_host *host, const sqz_pool *pool, const sqz_linalg *linalg,
                          const sqz_linear *linear, int order, int64_t group, double damp,
                          factor *f)
{
    int64_t n = linear->cols;
    uint64_t id = SQZ_HAS(linear, sqz_linear, xtx_id) ? linear->xtx_id : 0;
    int32_t *perm = malloc(2 * (size_t)n * sizeof *perm);
    float *h = malloc((size_t)n * sizeof *h);
    if (!perm || !h) {
        free(perm);
        free(h);
        return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for the column order");
    }
    for (int64_t i = 0; i < n; i++) h[i] = linear->xtx[i * n + i];
    sqz_status st = order_columns(host, h, n, order, group, perm);
    if (st == SQZ_OK && id && f->id == id && f->cols == n && f->asked == damp &&
        memcmp(f->perm, perm, (size_t)n * sizeof *perm) == 0) {
        free(perm);
        free(h);
        return SQZ_OK;
    }
    factor_free(f);
    *f = (factor){.cols = n, .asked = damp, .perm = perm, .h = h};
    if (st == SQZ_OK) {
        f->l = malloc((size_t)n * (size_t)n * sizeof *f->l);
        f->late = malloc((size_t)n * sizeof *f->late);
        f->cost = malloc((size_t)n * sizeof *f->cost);
        st = f->l && f->late && f->cost
                 ? factor_damped(host, pool, linalg, linear->xtx, f)
                 : sqz_failf(host, SQZ_E_NOMEM, "gptq: no memory for the %lld x %lld factor of %s",
                             (long long)n, (long long)n, linear->module);
    }
    if (st != SQZ_OK) {
        factor_free(f);
        return st;
    }
    f->id = id;
    return SQZ_OK;
}

/* ---- inside a group -------------------------------------------------------------------------- */

/* Row j of a group's matrix: see factor_within. */
static void inside_rows(const factor *f, int64_t first, int64_t count)
{
    const int64_t n = f->cols, group = f->within_group;
    for (int64_t j = 0; j < count; j++) {
        float *row = f->within + (first + j) * (group + 1);
        for (int64_t a = j; a < count; a++)
            row[a] = f->cost[first + a] * f->l[(first + a) * n + first + j];
        for (int64_t b = 0; b < j; b++) row[b] = 0;
        row[group] = 0;
        for (int64_t a = j; a < count; a++) {
            const float *l = f->l + (first + a) * n + first, c = row[a];
            for (int64_t b = 0; b < j; b++) row[b] += c * l[b];
            row[group] += c * l[j];
        }
    }
}

static void inside_groups(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const factor *f = arg;
    const int64_t group = f->within_group;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t k = f->perm[i] / group, count = 1;
        if (i > 0 && f->perm[i - 1] / group == k) continue; /* not where a group begins */
        while (i + count < f->cols && f->perm[i + count] / group == k) count++;
        inside_rows(f, i, count);
    }
}

sqz_status factor_within(const sqz_host *host, const sqz_pool *pool, int64_t group, factor *f)
{
    if (f->within && f->within_group == group) return SQZ_OK;
    free(f->within);
    f->within_group = group;
    f->within = malloc((size_t)f->cols * (size_t)(group + 1) * sizeof *f->within);
    if (!f->within)
        return sqz_failf(host, SQZ_E_NOMEM,
                         "gptq: no memory for the groups of a %lld x %lld factor",
                         (long long)f->cols, (long long)f->cols);
    pool->parallel_for(host, f->cols, group, inside_groups, f);
    return SQZ_OK;
}
