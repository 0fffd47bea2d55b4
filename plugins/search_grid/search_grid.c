/* search_grid.c - every combination of legal values once, in a fixed order.
 *
 * The first dimension changes slowest.  A continuous dimension is cut into five values, evenly in x
 * or (where the dimension is logarithmic) in log x. */
#include <sqz/help.h>
#include <sqz/space.h>

enum { CUTS = 5 };

typedef struct state {
    sqz_space space; /* a copy in which every dimension has levels */
    sqz_dim *dims;
    double *cuts; /* [n_dims, CUTS] */
    double *x;    /* the next point */
    sqz_points seen;
    int done;
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
    free(s->dims);
    free(s->cuts);
    free(s->x);
    free(s->seen.x);
    free(s);
}

static sqz_status set_space(const sqz_host *host, void *self, const sqz_space *space)
{
    state *s = self;
    size_t n = (size_t)space->n_dims + 1;
    s->dims = calloc(n, sizeof *s->dims);
    s->cuts = calloc(n * CUTS, sizeof *s->cuts);
    s->x = calloc(n, sizeof *s->x);
    if (!s->dims || !s->cuts || !s->x)
        return host->fail(host, SQZ_E_NOMEM, "grid search: no memory for the space");
    s->space = *space;
    s->space.dims = s->dims;
    s->space.dim_stride = sizeof(sqz_dim);
    s->seen.n_dims = space->n_dims;
    for (int64_t i = 0; i < space->n_dims; i++) {
        sqz_dim *d = &s->dims[i];
        *d = *sqz_dim_at(space, i);
        if (sqz_dim_levels(d) > 0) continue;
        for (int k = 0; k < CUTS; k++) {
            double u = (double)k / (CUTS - 1);
            s->cuts[i * CUTS + k] = (d->flags & SQZ_LOG) && d->lo > 0
                                        ? d->lo * pow(d->hi / d->lo, u)
                                        : d->lo + u * (d->hi - d->lo);
        }
        s->cuts[i * CUTS + CUTS - 1] = d->hi;
        d->values = &s->cuts[i * CUTS];
        d->n_values = CUTS;
    }
    sqz_space_first(&s->space, s->x);
    return SQZ_OK;
}

static sqz_status ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    state *s = self;
    while (!s->done && sqz_points_has(&s->seen, s->x)) s->done = !sqz_space_next(&s->space, s->x);
    if (s->done) return SQZ_SEARCH_EXHAUSTED;
    memcpy(x, s->x, (size_t)s->space.n_dims * sizeof *x);
    if (!sqz_points_add(&s->seen, x))
        return host->fail(host, SQZ_E_NOMEM, "grid search: no memory for another point");
    snprintf(why, (size_t)why_bytes, "the next combination of the grid");
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
               : host->fail(host, SQZ_E_NOMEM, "grid search: no memory for another point");
}

static const sqz_search search = {sizeof(sqz_search), 0, set_space, ask, tell};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) == 0 ? &search : NULL;
}

static const char *const tags[] = {"search", "builtin", NULL};
static const sqz_agent agents[] = {{sizeof(sqz_agent), 5, "org.sqz.grid", "search/1", "grid",
                                    "Every combination of legal values once, in a fixed order",
                                    "1.0.0", "Apache-2.0", tags, open_state, close_state, NULL,
                                    extension}};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
