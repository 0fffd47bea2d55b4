/* searcher.c - the search plugin, loaded into the coordinator and spoken to through its table.
 *
 * Its state needs no saving: a resumed run asks and tells it the same again. */
#include "coordinator/state.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void on_log(void *ctx, int level, const char *agent_id, const char *text)
{
    run_log(ctx, level, "%s: %s", agent_id, text);
}

static int on_tick(void *ctx, double done, const char *what)
{
    run *r = ctx;
    (void)done;
    (void)what;
    return atomic_load(&r->cancel) > 1;
}

const agent_info *searcher_find(const config *c, const catalogue *cat, sqz_error *err)
{
    const agent_info *a = NULL;
    if (c->search) return catalogue_find(cat, "search/1", c->search, &a, err) ? NULL : a;
    a = catalogue_best(cat, "search/1");
    if (!a)
        err_set(err, ERR_PLUGIN,
                "no search plugin was found; `sqz plugin list` shows where sqz looked");
    return a;
}

sqz_status searcher_open(run *r, sqz_error *err)
{
    const agent_info *info = searcher_find(r->config, r->options.catalogue, err);
    if (!info) return err && err->code ? err->code : ERR_PLUGIN;
    host_hooks hooks = {on_log, on_tick, r};
    cJSON *with = NULL;
    sqz_status s = params_resolve(info, r->config->search_with, NULL, &with, err);
    if (s) return s;
    r->host = host_new(&hooks);
    s = agent_open(r->host, info, &r->agent, err);
    if (!s) r->search = agent_extension(r->agent, SQZ_SEARCH_1);
    if (!s && !r->search) s = err_set(err, ERR_PLUGIN, "%s: offers no %s", info->id, SQZ_SEARCH_1);
    if (!s && (s = r->search->space(agent_host(r->agent), agent_self(r->agent), &r->space->table)))
        s = agent_error(r->agent, s, err);
    if (!s && cJSON_GetArraySize(info->params)) s = agent_call(r->agent, NULL, with, err);
    cJSON_Delete(with);
    return s;
}

void searcher_close(run *r)
{
    if (r->agent) agent_close(r->agent);
    if (r->host) host_free(r->host);
    r->agent = NULL;
    r->host = NULL;
}

/* A plugin's answer is checked before anything is built on it. */
static sqz_status check_point(const run *r, double *x, sqz_error *err)
{
    sqz_space_settle(&r->space->table, x);
    for (int i = 0; i < r->space->n_dims; i++) {
        const sqz_dim *d = &r->space->dims[i];
        int legal = isfinite(x[i]) && x[i] >= d->lo && x[i] <= d->hi;
        if (legal && sqz_dim_levels(d) > 0)
            legal = sqz_dim_level(d, sqz_dim_index(d, x[i])) == x[i];
        if (!legal)
            return err_set(err, ERR_PLUGIN, "%s: proposed %s = %g, which is no legal value",
                           agent_describe(r->agent)->id, d->name, x[i]);
    }
    return SQZ_OK;
}

sqz_status searcher_ask(run *r, double *x, char *why, size_t why_bytes, sqz_error *err)
{
    why[0] = 0;
    sqz_status s =
        r->search->ask(agent_host(r->agent), agent_self(r->agent), x, why, (int64_t)why_bytes);
    why[why_bytes - 1] = 0;
    if (s == SQZ_SEARCH_EXHAUSTED) return s;
    if (s) return agent_error(r->agent, s, err);
    return check_point(r, x, err);
}

sqz_status searcher_tell(run *r, const trial *t, sqz_error *err)
{
    if (!t->x) return SQZ_OK;
    sqz_status s =
        r->search->tell(agent_host(r->agent), agent_self(r->agent), t->x, t->f, t->feasible);
    return s ? agent_error(r->agent, s, err) : SQZ_OK;
}
