/* search_random.c - points drawn evenly from the space, never one twice.
 *
 * The honest baseline for every other strategy: nothing is learned from tells. */
#include <sqz/space.h>
#include <stdio.h>

typedef struct state {
    const sqz_space *space;
    sqz_stream random;
    sqz_points seen;
} state;

static sqz_status open_state(const sqz_host *host, void **self)
{
    (void)host;
    *self = calloc(1, sizeof(state));
    return *self ? SQZ_OK : SQZ_E_NOMEM;
}

static void close_state(const sqz_host *host, void *self)
{
    (void)host;
    state *s = self;
    free(s->seen.x);
    free(s);
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

static sqz_status ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    state *s = self;
    if (!sqz_space_fresh(s->space, &s->random, &s->seen, x)) return SQZ_SEARCH_EXHAUSTED;
    if (!sqz_points_add(&s->seen, x))
        return host->fail(host, SQZ_E_NOMEM, "random search: no memory for another point");
    snprintf(why, (size_t)why_bytes, "drawn at random");
    return SQZ_OK;
}

static sqz_status tell(const sqz_host *host, void *self, const double *x, const double *objectives,
                       int32_t feasible)
{
    (void)objectives;
    (void)feasible;
    state *s = self;
    return sqz_points_add(&s->seen, x)
               ? SQZ_OK
               : host->fail(host, SQZ_E_NOMEM, "random search: no memory for another point");
}

static const sqz_search search = {sizeof(sqz_search), 0, set_space, ask, tell};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) == 0 ? &search : NULL;
}

static const char *const tags[] = {"search", "builtin", NULL};
static const sqz_agent agents[] = {{sizeof(sqz_agent), 10, "org.sqz.random", "search/1", "random",
                                    "Draws points evenly, never one twice", "1.0.0", "Apache-2.0",
                                    tags, open_state, close_state, NULL, extension}};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
