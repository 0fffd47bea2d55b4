/* @name@.c - a search strategy: a Halton sequence, which covers the space more evenly than chance.
 *
 * Dimension i takes the digits of the counter in base prime(i), mirrored at the point.  Nothing is
 * learned from results; a random shift by the run's seed makes runs differ.  Points already known
 * are stepped over. */
#include <sqz/space.h>
#include <stdio.h>

typedef struct state {
    const sqz_space *space;
    sqz_points seen;
    int64_t counter;
} state;

static const int primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53};
enum { N_PRIMES = sizeof primes / sizeof *primes };

static sqz_status open_state(const sqz_host *host, void **self)
{
    (void)host;
    *self = calloc(1, sizeof(state));
    return *self ? SQZ_OK : SQZ_E_NOMEM;
}

static void close_state(const sqz_host *host, void *self)
{
    (void)host;
    free(((state *)self)->seen.x);
    free(self);
}

static sqz_status set_space(const sqz_host *host, void *self, const sqz_space *space)
{
    state *s = self;
    (void)host;
    s->space = space;
    s->seen.n_dims = space->n_dims;
    return SQZ_OK;
}

static double mirrored(int64_t k, int base)
{
    double x = 0;
    for (double digit = 1.0 / base; k > 0; k /= base, digit /= base) x += digit * (double)(k % base);
    return x;
}

static sqz_status ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    state *s = self;
    int64_t tries = 0;
    do {
        s->counter++;
        for (int64_t i = 0; i < s->space->n_dims; i++) {
            double shift = (double)(sqz_mix(s->space->seed, (uint64_t)i) >> 11) * 0x1p-53;
            double u = mirrored(s->counter, primes[i % N_PRIMES]) + shift;
            x[i] = sqz_dim_value(sqz_dim_at(s->space, i), u - floor(u));
        }
        sqz_space_settle(s->space, x);
    } while (sqz_points_has(&s->seen, x) && ++tries < 10000);
    sqz_stream rest = {s->space->seed, (uint64_t)s->counter};
    if (sqz_points_has(&s->seen, x) && !sqz_space_fresh(s->space, &rest, &s->seen, x))
        return SQZ_SEARCH_EXHAUSTED;
    if (!sqz_points_add(&s->seen, x)) return host->fail(host, SQZ_E_NOMEM, "@name@: no memory");
    snprintf(why, (size_t)why_bytes, "point %lld of the sequence", (long long)s->counter);
    return SQZ_OK;
}

static sqz_status tell(const sqz_host *host, void *self, const double *x, const double *objectives,
                       int32_t feasible)
{
    (void)objectives, (void)feasible;
    return sqz_points_add(&((state *)self)->seen, x) ? SQZ_OK
                                                     : host->fail(host, SQZ_E_NOMEM, "@name@: no memory");
}

static const sqz_search search = {sizeof search, 0, set_space, ask, tell};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) ? NULL : &search;
}
static const sqz_agent agent = {sizeof agent, 5, "@id@", "search/1", "@name@",
                                "covers the space evenly (Halton sequence)", "0.1.0", "MIT", NULL,
                                open_state, close_state, NULL, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
