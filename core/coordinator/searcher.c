/* searcher.c - the search plugin, in a process of its own, asked and told over a line.
 *
 * What it is told goes with the next question, so that a run of seeds alone starts no process.  Its
 * state needs no saving: a resumed run asks and tells it the same again, and one that was replaced
 * meanwhile is told of the recorded points.  When it crashes, hangs or answers nonsense the run
 * ends with what was evaluated, and a resumed one asks again. */
#include "coordinator/state.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Seconds; asking takes milliseconds. */
static const double SILENCE_S = 60;

static void on_log(void *ctx, int level, const char *text)
{
    run_log(ctx, level, "%s", text);
}

static int on_stop(void *ctx)
{
    run *r = ctx;
    return atomic_load(&r->cancel) > 0;
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
    r->search = searcher_find(r->config, r->options.catalogue, err);
    if (!r->search) return err && err->code ? err->code : ERR_PLUGIN;
    r->told = cJSON_CreateArray();
    return params_resolve(r->search, r->config->search_with, NULL, &r->search_with, err);
}

void searcher_close(run *r)
{
    carrier_end(r->searcher);
    r->searcher = NULL;
    cJSON_Delete(r->told);
    cJSON_Delete(r->search_with);
    free(r->search_log);
    r->told = r->search_with = NULL;
    r->search_log = NULL;
}

/* ---- what is sent ---------------------------------------------------------------------------- */

static cJSON *dim_json(const sqz_dim *d)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "name", d->name);
    cJSON_AddNumberToObject(j, "type", d->type);
    cJSON_AddNumberToObject(j, "lo", d->lo);
    cJSON_AddNumberToObject(j, "hi", d->hi);
    cJSON_AddNumberToObject(j, "flags", d->flags);
    cJSON_AddNumberToObject(j, "parent", d->parent);
    cJSON_AddNumberToObject(j, "parent_value", d->parent_value);
    cJSON_AddItemToObject(j, "values", cJSON_CreateDoubleArray(d->values, (int)d->n_values));
    return j;
}

static cJSON *open_request(const run *r)
{
    const sqz_space *space = &r->space->table;
    char seed[24];
    cJSON *q = cJSON_CreateObject(), *dims;
    cJSON_AddStringToObject(q, "call", "open");
    carrier_name(q, r->search, r->search_with);
    dims = cJSON_AddArrayToObject(q, "dims");
    for (int i = 0; i < r->space->n_dims; i++)
        cJSON_AddItemToArray(dims, dim_json(&r->space->dims[i]));
    cJSON_AddNumberToObject(q, "n_objectives", (double)space->n_objectives);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)space->seed); /* more than a double */
    cJSON_AddStringToObject(q, "seed", seed);
    return q;
}

void searcher_tell(run *r, const trial *t)
{
    if (!t->x) return;
    cJSON *j = cJSON_CreateObject(), *f = cJSON_CreateArray();
    for (int64_t k = 0; k < r->space->table.n_objectives && k < MAX_OBJECTIVES; k++)
        cJSON_AddItemToArray(f,
                             isfinite(t->f[k]) ? cJSON_CreateNumber(t->f[k]) : cJSON_CreateNull());
    cJSON_AddItemToObject(j, "x", cJSON_CreateDoubleArray(t->x, r->space->n_dims));
    cJSON_AddItemToObject(j, "f", f);
    cJSON_AddBoolToObject(j, "feasible", t->feasible);
    cJSON_AddItemToArray(r->told, j);
}

static cJSON *ask_request(run *r)
{
    char key[60];
    cJSON *q = cJSON_CreateObject();
    snprintf(key, sizeof key, "after %lld trials", (long long)r->n_trials);
    cJSON_AddStringToObject(q, "call", "ask");
    cJSON_AddStringToObject(q, "key", key);
    cJSON_AddItemToObject(q, "told", r->told);
    r->told = cJSON_CreateArray();
    return q;
}

/* ---- what comes back ------------------------------------------------------------------------- */

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
                           r->search->id, d->name, x[i]);
    }
    return SQZ_OK;
}

static sqz_status take_answer(const run *r, const cJSON *answer, double *x, char *why,
                              size_t why_bytes, sqz_error *err)
{
    const cJSON *values = json_get(answer, "x");
    if (json_bool(answer, "exhausted", 0)) return SQZ_SEARCH_EXHAUSTED;
    if (cJSON_GetArraySize(values) != r->space->n_dims)
        return err_set(err, ERR_PLUGIN, "%s: its answer has %d values, the space has %d",
                       r->search->id, cJSON_GetArraySize(values), r->space->n_dims);
    for (int i = 0; i < r->space->n_dims; i++) {
        const cJSON *v = cJSON_GetArrayItem(values, i);
        x[i] = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    }
    snprintf(why, why_bytes, "%s", json_str(answer, "why", ""));
    return check_point(r, x, err);
}

sqz_status searcher_recorded(const run *r, const cJSON *record, double *x, char *why,
                             size_t why_bytes, sqz_error *err)
{
    return take_answer(r, record, x, why, why_bytes, err);
}

static sqz_status start_process(run *r, sqz_error *err)
{
    double silence = r->options.search_silence_s > 0 ? r->options.search_silence_s : SILENCE_S;
    r->search_log = path_format("%s/search.log", r->dir);
    carrier_options o = {.info = r->search,
                         .what = "search",
                         .log = r->search_log,
                         .silence_s = silence,
                         .hooks = {.log = on_log, .stop = on_stop, .ctx = r}};
    return carrier_start(&o, &r->searcher, err);
}

sqz_status searcher_ask(run *r, double *x, char *why, size_t why_bytes, sqz_error *err)
{
    sqz_error cause = {0};
    cJSON *answer = NULL;
    sqz_status s = SQZ_OK;
    if (!r->searcher) {
        if ((s = start_process(r, err))) return s;
        s = carrier_call(r->searcher, open_request(r), &cause);
    }
    if (!s) s = carrier_ask(r->searcher, ask_request(r), &answer, &cause);
    if (!s) s = take_answer(r, answer, x, why, why_bytes, &cause);
    cJSON_Delete(answer);
    if (s == SQZ_OK || s == SQZ_SEARCH_EXHAUSTED) return s;
    if (s == SQZ_E_CANCELLED && atomic_load(&r->cancel)) return JOB_CANCELLED;
    if (ledger_replaying(r)) return err_set(err, s, "%s", cause.text);
    r->search_failure = path_format("%s", cause.text);
    run_log(r, SQZ_LOG_ERROR, "%s; no more trials are begun", cause.text);
    return SQZ_SEARCH_EXHAUSTED;
}
