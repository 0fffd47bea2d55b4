/* subject_search.c - a space with every type of dimension for search strategies, and their duties.
 */
#include "check/probe.h"
#include <math.h>
#include <sqz/space.h>
#include <stdlib.h>
#include <string.h>

static const double bits[] = {2, 3, 4, 8}, groups[] = {-1, 32, 128};
static const sqz_dim mixed[] = {
    {sizeof(sqz_dim), SQZ_CHOICE, "method", 0, 2, 0, -1, 0, 0, NULL},
    {sizeof(sqz_dim), SQZ_INT, "bits", 2, 8, 0, -1, 0, 4, bits},
    {sizeof(sqz_dim), SQZ_INT, "group_size", -1, 128, 0, 0, 1, 3, groups},
    {sizeof(sqz_dim), SQZ_REAL, "damp", 1e-4, 0.5, SQZ_LOG, 0, 2, 0, NULL},
    {sizeof(sqz_dim), SQZ_BOOL, "order", 0, 1, 0, -1, 0, 0, NULL}};
/* Without the continuous one: 4 * 2 + 4 * 3 * 2 = 32 distinct points. */
static const sqz_dim countable[] = {
    {sizeof(sqz_dim), SQZ_CHOICE, "method", 0, 1, 0, -1, 0, 0, NULL},
    {sizeof(sqz_dim), SQZ_INT, "bits", 2, 8, 0, -1, 0, 4, bits},
    {sizeof(sqz_dim), SQZ_INT, "group_size", -1, 128, 0, 0, 1, 3, groups},
    {sizeof(sqz_dim), SQZ_BOOL, "order", 0, 1, 0, -1, 0, 0, NULL}};
enum { N_MIXED = 5, N_FINITE = 4, FINITE_POINTS = 32 };

static sqz_space space_of(const probe *p, const sqz_dim *dims, int64_t n)
{
    return (sqz_space){sizeof(sqz_space), sizeof(sqz_dim), n, dims, 2, p->seed};
}

static int is_legal(const sqz_dim *d, double x)
{
    if (d->n_values > 0) {
        for (int64_t i = 0; i < d->n_values; i++)
            if (d->values[i] == x) return 1;
        return 0;
    }
    return x >= d->lo && x <= d->hi && (d->type == SQZ_REAL || x == floor(x));
}

/* Quality falls with bits, bytes grow with them: a front, and a pure function of the point. */
static void measure(const sqz_space *s, const double *x, double objectives[2])
{
    double sum = 0;
    for (int64_t i = 0; i < s->n_dims; i++)
        sum += fabs(x[i]) / (1 + fabs(sqz_dim_at(s, i)->hi)) * (double)(i + 1);
    objectives[0] = 1 / (0.1 + x[1]) + 0.01 * sin(sum);
    objectives[1] = x[1] + 0.1 * x[0];
}

/* Binds the agent's own parameters, as the host does: once, after space. */
static sqz_status begin(probe *p, agent *a, const cJSON *with, const sqz_space *s,
                        const sqz_search **table, sqz_error *err)
{
    *table = agent_extension(a, SQZ_SEARCH_1);
    sqz_status status = (*table)->space(agent_host(a), agent_self(a), s);
    if (status) return agent_error(a, status, err);
    if (cJSON_GetArraySize(p->info->params) > 0) return agent_call(a, NULL, with, err);
    return SQZ_OK;
}

static sqz_status step(probe *p, agent *a, const sqz_search *t, const sqz_space *s, double *x,
                       sqz_error *err)
{
    char why[200];
    memset(why, 0x7f, sizeof why);
    for (int64_t i = 0; i < s->n_dims; i++) x[i] = NAN;
    sqz_status status = t->ask(agent_host(a), agent_self(a), x, why, sizeof why);
    if (status == SQZ_SEARCH_EXHAUSTED) return status;
    if (status) return agent_error(a, status, err);
    if (!memchr(why, 0, sizeof why)) FAIL(p, "its sentence of why does not end");
    for (int64_t i = 0; i < s->n_dims; i++)
        if (!is_legal(sqz_dim_at(s, i), x[i]))
            FAIL(p, "proposed %s = %.17g, which is not legal", sqz_dim_at(s, i)->name, x[i]);
    return SQZ_OK;
}

/* n asks and tells; the digest takes the points. */
static sqz_status walk(probe *p, agent *a, const cJSON *with, const sqz_space *s, int n,
                       sha256 *digest, sqz_error *err)
{
    const sqz_search *t;
    double x[N_MIXED], objectives[2];
    sqz_status status = begin(p, a, with, s, &t, err);
    for (int k = 0; k < n && !status; k++) {
        probe_at(p, "ask number %d", k + 1);
        status = step(p, a, t, s, x, err);
        if (status) break;
        sha256_update(digest, x, (size_t)s->n_dims * sizeof *x);
        measure(s, x, objectives);
        int feasible = k % 7 != 3;
        if (!feasible) objectives[0] = objectives[1] = NAN;
        status = t->tell(agent_host(a), agent_self(a), x, objectives, feasible);
        if (status) status = agent_error(a, status, err);
    }
    return status == SQZ_SEARCH_EXHAUSTED ? SQZ_OK : status;
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    sqz_space s = space_of(p, mixed, N_MIXED);
    return walk(p, a, with, &s, size == USE_LARGE ? 200 : 40, digest, err);
}

const subject_kind subject_search = {"search/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
/* Every point of a small space once, then the end. */
static void no_repeats(probe *p)
{
    sqz_space s = space_of(p, countable, N_FINITE);
    sqz_points seen = {.n_dims = N_FINITE};
    const sqz_search *t;
    double x[N_FINITE], objectives[2];
    sqz_error err = {0};
    agent *a;
    if (agent_open(p->host, p->info, &a, &err) || begin(p, a, NULL, &s, &t, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    int repeats = 0;
    sqz_status status = SQZ_OK;
    for (int k = 0; k < FINITE_POINTS && !status; k++) {
        probe_at(p, "ask number %d in a space of %d points", k + 1, FINITE_POINTS);
        status = step(p, a, t, &s, x, &err);
        if (status) break;
        sqz_space_settle(&s, x);
        repeats += sqz_points_has(&seen, x);
        sqz_points_add(&seen, x);
        measure(&s, x, objectives);
        t->tell(agent_host(a), agent_self(a), x, objectives, 1);
    }
    if (status < 0) FAIL(p, "%s", err.text);
    if (repeats) WARN(p, "%d of %d proposals were repeats", repeats, FINITE_POINTS);
    if (status == SQZ_SEARCH_EXHAUSTED && seen.n < FINITE_POINTS)
        WARN(p, "gave up after %lld of %d points", (long long)seen.n, FINITE_POINTS);
    PASS(p, "%lld of %d points found", (long long)seen.n, FINITE_POINTS);
    agent_close(a);
    free(seen.x);
}

/* Points it never asked for (seeds), and asks while others are pending. */
static void seeds_and_pending(probe *p)
{
    sqz_space s = space_of(p, countable, N_FINITE);
    const sqz_search *t;
    double x[8][N_FINITE], objectives[2];
    sqz_error err = {0};
    agent *a;
    if (agent_open(p->host, p->info, &a, &err) || begin(p, a, NULL, &s, &t, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    sqz_space_first(&s, x[0]);
    measure(&s, x[0], objectives);
    if (t->tell(agent_host(a), agent_self(a), x[0], objectives, 1))
        FAIL(p, "refuses to be told of a point that it never asked for");
    for (int k = 0; k < 8; k++) {
        probe_at(p, "ask number %d without a tell", k + 1);
        sqz_status status = step(p, a, t, &s, x[k], &err);
        if (status < 0) FAIL(p, "with %d points pending: %s", k, err.text);
        if (status) break;
    }
    for (int k = 7; k >= 0; k--) {
        measure(&s, x[k], objectives);
        if (t->tell(agent_host(a), agent_self(a), x[k], objectives, 1))
            FAIL(p, "refuses results that come in another order than asked");
    }
    agent_close(a);
}

static void empty_space(probe *p)
{
    static const sqz_dim one[] = {{sizeof(sqz_dim), SQZ_INT, "bits", 4, 4, 0, -1, 0, 0, NULL}};
    for (int64_t n = 0; n < 2; n++) {
        sqz_space s = space_of(p, one, n);
        const sqz_search *t;
        double x[1] = {0}, objectives[2] = {1, 1};
        sqz_error err = {0};
        agent *a;
        probe_at(p, "a space of %d dimensions", (int)n);
        if (agent_open(p->host, p->info, &a, &err) || begin(p, a, NULL, &s, &t, &err)) {
            FAIL(p, "%s", err.text);
            return;
        }
        for (int k = 0; k < 3; k++) {
            sqz_status status = step(p, a, t, &s, x, &err);
            if (status < 0) FAIL(p, "a space of one point: %s", err.text);
            if (status) break;
            if (k == 2) WARN(p, "does not say when a space of one point is exhausted");
            t->tell(agent_host(a), agent_self(a), x, objectives, 1);
        }
        agent_close(a);
    }
}

const check_case cases_search[] = {{"behave", "no-repeats", "search/1", TEST_USES, 60, no_repeats,
                                    "proposes every point of a small space once"},
                                   {"behave", "seeds-and-pending", "search/1", TEST_USES, 60,
                                    seeds_and_pending,
                                    "takes foreign points, and results in any order"},
                                   {"behave", "empty-space", "search/1", TEST_USES, 60, empty_space,
                                    "a space without choice ends quietly"},
                                   {NULL, NULL, NULL, 0, 0, NULL, NULL}};
