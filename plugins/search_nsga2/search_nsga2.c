/* search_nsga2.c - NSGA-II (Deb et al. 2002), one child at a time.
 *
 * Steady state instead of generations: the parents of each ask are the `population` best of
 * everything told so far, which spends a budget of tens of trials better and needs no barrier
 * between asks. rank      constrained domination: feasible before infeasible, then Pareto among
 * equals spread    crowding distance within a rank parents   binary tournament on (rank, crowding)
 *   child     with probability `crossover`: simulated binary crossover (Deb & Agrawal 1995, eta =
 * 15) for ordered dimensions, a fair coin for choices and booleans; then each dimension mutates
 *             with probability `mutation` (1/d when 0): polynomial (eta = 20) where it is
 * continuous or has many levels, a neighbour or any other level where it has few No point is
 * proposed twice while others are left.  State is a function of (space, seed, asks and tells), so a
 * replay proposes the same. */
#include <sqz/help.h>
#include <sqz/space.h>

enum { MANY_LEVELS = 9 };
#define ETA_CROSSOVER 15.0
#define ETA_MUTATION 20.0

typedef struct member {
    double *x; /* [n_dims] */
    double *f; /* [n_objectives] */
    int feasible;
    int rank;
    double crowding;
} member;

typedef struct state {
    const sqz_space *space;
    sqz_stream random;
    sqz_points seen;
    member *told;
    int64_t n_told, room;
    int64_t *order; /* of told, best first, at least the `population` that are the parents */
    int64_t population;
    double crossover, mutation;
} state;

static sqz_status open_state(const sqz_host *host, void **self)
{
    (void)host;
    state *s = calloc(1, sizeof *s);
    if (!s) return SQZ_E_NOMEM;
    s->population = 20;
    s->crossover = 0.9;
    *self = s;
    return SQZ_OK;
}

static void close_state(const sqz_host *host, void *self)
{
    (void)host;
    state *s = self;
    for (int64_t i = 0; i < s->n_told; i++) {
        free(s->told[i].x);
        free(s->told[i].f);
    }
    free(s->told);
    free(s->order);
    free(s->seen.x);
    free(s);
}

#define PARAMS(P)                                                                                  \
    P(SQZ_INT, population, 20, 4, 1000, NULL, 0, "parents kept")                                   \
    P(SQZ_REAL, crossover, 0.9, 0, 1, NULL, 0, "probability that a child has two parents")         \
    P(SQZ_REAL, mutation, 0, 0, 1, NULL, 0, "probability per dimension; 0 = one over dimensions")
SQZ_CALL(configure, PARAMS);

static sqz_status configure(const sqz_host *host, void *self, void *subject, int64_t population,
                            double crossover, double mutation)
{
    (void)host;
    (void)subject;
    state *s = self;
    s->population = population;
    s->crossover = crossover;
    s->mutation = mutation;
    return SQZ_OK;
}

static sqz_status set_space(const sqz_host *host, void *self, const sqz_space *space)
{
    (void)host;
    state *s = self;
    s->space = space;
    s->random = (sqz_stream){space->seed, 0};
    s->seen.n_dims = space->n_dims;
    return SQZ_OK;
}

/* ---- ranking --------------------------------------------------------------------------------- */

static int dominates(const member *a, const member *b, int64_t n_objectives)
{
    if (a->feasible != b->feasible) return a->feasible;
    int better = 0;
    for (int64_t m = 0; m < n_objectives; m++) {
        if (a->f[m] > b->f[m]) return 0;
        better |= a->f[m] < b->f[m];
    }
    return better;
}

/* Peels fronts until enough parents are ranked and returns how many are; the others keep rank -1,
 * for nothing looks at them.  O(fronts * n^2), n is the number of trials. */
static int64_t set_ranks(state *s)
{
    int64_t ranked = 0;
    for (int64_t i = 0; i < s->n_told; i++) s->told[i].rank = -1;
    for (int rank = 0; ranked < s->n_told && ranked < s->population; rank++) {
        for (int64_t i = 0; i < s->n_told; i++) {
            member *a = &s->told[i];
            if (a->rank >= 0) continue;
            int beaten = 0;
            for (int64_t k = 0; k < s->n_told && !beaten; k++) {
                const member *b = &s->told[k];
                beaten = k != i && (b->rank < 0 || b->rank == rank) &&
                         dominates(b, a, s->space->n_objectives);
            }
            if (!beaten) {
                a->rank = rank;
                ranked++;
            }
        }
    }
    return ranked;
}

/* Distance to the neighbours along each objective within one rank; ends are infinitely far. */
static void set_crowding(state *s, int64_t *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++) s->told[list[i]].crowding = 0;
    for (int64_t m = 0; m < s->space->n_objectives; m++) {
        for (int64_t i = 1; i < n; i++) /* insertion sort: stable, so ties keep the told order */
            for (int64_t k = i; k > 0 && s->told[list[k]].f[m] < s->told[list[k - 1]].f[m]; k--) {
                int64_t t = list[k];
                list[k] = list[k - 1];
                list[k - 1] = t;
            }
        double lo = s->told[list[0]].f[m], hi = s->told[list[n - 1]].f[m];
        s->told[list[0]].crowding = s->told[list[n - 1]].crowding = INFINITY;
        if (!(hi > lo) || !isfinite(hi - lo)) continue;
        for (int64_t i = 1; i + 1 < n; i++)
            s->told[list[i]].crowding +=
                (s->told[list[i + 1]].f[m] - s->told[list[i - 1]].f[m]) / (hi - lo);
    }
}

static int before(const state *s, int64_t a, int64_t b)
{
    const member *x = &s->told[a], *y = &s->told[b];
    if (x->rank != y->rank) return x->rank < y->rank;
    if (x->crowding != y->crowding) return x->crowding > y->crowding;
    return a < b;
}

static void sort_members(state *s)
{
    int64_t n = 0, ranked = set_ranks(s);
    for (int rank = 0; n < ranked; rank++) {
        int64_t first = n;
        for (int64_t i = 0; i < s->n_told; i++)
            if (s->told[i].rank == rank) s->order[n++] = i;
        set_crowding(s, s->order + first, n - first);
        for (int64_t i = first + 1; i < n; i++)
            for (int64_t k = i; k > first && before(s, s->order[k], s->order[k - 1]); k--) {
                int64_t t = s->order[k];
                s->order[k] = s->order[k - 1];
                s->order[k - 1] = t;
            }
    }
}

/* ---- variation ------------------------------------------------------------------------------- */

static int64_t below(state *s, int64_t n)
{
    return (int64_t)(sqz_uniform(&s->random) * (double)n);
}

/* Parents stand in `order` best first, so the smaller of two positions wins. */
static const member *tournament(state *s)
{
    int64_t n = s->n_told < s->population ? s->n_told : s->population;
    int64_t a = below(s, n), b = below(s, n);
    return &s->told[s->order[a < b ? a : b]];
}

static int is_ordered(const sqz_dim *d)
{
    return d->type == SQZ_INT || d->type == SQZ_REAL;
}

/* Simulated binary crossover in unit coordinates: children lie around the parents, spread like the
 * parents are.  beta: spread factor, eq. 9 of the paper. */
static double cross_value(state *s, const sqz_dim *d, double p, double q)
{
    double u = sqz_uniform(&s->random), side = sqz_uniform(&s->random);
    if (!is_ordered(d) || p == q) return side < 0.5 ? p : q;
    double a = sqz_dim_unit(d, p), b = sqz_dim_unit(d, q);
    double beta = u < 0.5 ? pow(2 * u, 1 / (ETA_CROSSOVER + 1))
                          : pow(1 / (2 * (1 - u)), 1 / (ETA_CROSSOVER + 1));
    double c = side < 0.5 ? 0.5 * ((1 + beta) * a + (1 - beta) * b)
                          : 0.5 * ((1 - beta) * a + (1 + beta) * b);
    return sqz_dim_value(d, c);
}

static double mutate_value(state *s, const sqz_dim *d, double x)
{
    int64_t n = sqz_dim_levels(d);
    double u = sqz_uniform(&s->random), v = sqz_uniform(&s->random);
    if (n == 1) return x;
    if (n > 0 && (n < MANY_LEVELS || !is_ordered(d))) {
        int64_t k = sqz_dim_index(d, x), to;
        if (is_ordered(d) && u < 0.5) /* a neighbour */
            to = k == 0 ? 1 : k == n - 1 ? n - 2 : k + (v < 0.5 ? -1 : 1);
        else { /* any other */
            to = (int64_t)(v * (double)(n - 1));
            to += to >= k;
        }
        return sqz_dim_level(d, to);
    }
    double c = sqz_dim_unit(d, x);
    double delta = u < 0.5 ? pow(2 * u, 1 / (ETA_MUTATION + 1)) - 1
                           : 1 - pow(2 * (1 - u), 1 / (ETA_MUTATION + 1));
    return sqz_dim_value(d, v < 0.1 ? u : c + delta); /* one in ten is drawn anew */
}

/* harder: how often a child of these parents was already known; mutation grows with it. */
static void make_child(state *s, const member *p, const member *q, int harder, double *x)
{
    const sqz_space *space = s->space;
    double rate = s->mutation > 0 ? s->mutation : 1 / (double)space->n_dims;
    int both = sqz_uniform(&s->random) < s->crossover;
    rate *= 1 + 0.25 * harder;
    for (int64_t i = 0; i < space->n_dims; i++) {
        const sqz_dim *d = sqz_dim_at(space, i);
        x[i] = both ? cross_value(s, d, p->x[i], q->x[i]) : p->x[i];
        if (sqz_uniform(&s->random) < rate) x[i] = mutate_value(s, d, x[i]);
    }
    sqz_space_settle(space, x);
}

static sqz_status ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    state *s = self;
    int found = 0;
    if (s->seen.n < s->population || s->n_told < 2) {
        found = sqz_space_fresh(s->space, &s->random, &s->seen, x);
        snprintf(why, (size_t)why_bytes, "drawn at random for the first population (%lld of %lld)",
                 (long long)s->seen.n + 1, (long long)s->population);
    } else {
        for (int tries = 0; tries < 24 && !found; tries++) {
            const member *p = tournament(s), *q = tournament(s);
            make_child(s, p, q, tries, x);
            found = !sqz_points_has(&s->seen, x);
            snprintf(why, (size_t)why_bytes, "child of trials told as %lld and %lld (front %d)",
                     (long long)(p - s->told) + 1, (long long)(q - s->told) + 1, p->rank + 1);
        }
        if (!found) {
            found = sqz_space_fresh(s->space, &s->random, &s->seen, x);
            snprintf(why, (size_t)why_bytes,
                     "every child near the front is known, so drawn at random");
        }
    }
    if (!found) return SQZ_SEARCH_EXHAUSTED;
    return sqz_points_add(&s->seen, x)
               ? SQZ_OK
               : host->fail(host, SQZ_E_NOMEM, "nsga2: no memory for another point");
}

static int make_room(state *s)
{
    if (s->n_told < s->room) return 1;
    int64_t room = s->room ? 2 * s->room : 64;
    member *told = realloc(s->told, (size_t)room * sizeof *told);
    if (told) s->told = told;
    int64_t *order = realloc(s->order, (size_t)room * sizeof *order);
    if (order) s->order = order;
    if (!told || !order) return 0;
    s->room = room;
    return 1;
}

static sqz_status tell(const sqz_host *host, void *self, const double *x, const double *objectives,
                       int32_t feasible)
{
    state *s = self;
    size_t d = (size_t)s->space->n_dims, m = (size_t)s->space->n_objectives;
    member *new = make_room(s) ? &s->told[s->n_told] : NULL;
    if (!new || !sqz_points_add(&s->seen, x))
        return host->fail(host, SQZ_E_NOMEM, "nsga2: no memory for another trial");
    *new = (member){calloc(d + 1, sizeof(double)), calloc(m + 1, sizeof(double)), feasible, 0, 0};
    if (!new->x || !new->f) {
        free(new->x);
        free(new->f);
        return host->fail(host, SQZ_E_NOMEM, "nsga2: no memory for another trial");
    }
    memcpy(new->x, x, d * sizeof *x);
    for (size_t k = 0; k < m; k++) {
        new->f[k] = objectives[k];
        if (!isfinite(objectives[k])) { /* a failed trial: behind everything measured */
            new->f[k] = INFINITY;
            new->feasible = 0;
        }
    }
    s->n_told++;
    sort_members(s);
    return SQZ_OK;
}

static const sqz_search search = {sizeof(sqz_search), 0, set_space, ask, tell};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) == 0 ? &search : NULL;
}

static const char *const tags[] = {"search", "builtin", NULL};
static const sqz_agent agents[] = {
    {sizeof(sqz_agent), 100, "org.sqz.nsga2", "search/1", "NSGA-II",
     "Evolution by non-dominated sorting and crowding, one child at a time", "1.0.0", "Apache-2.0",
     tags, open_state, close_state, &configure_call, extension}};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
