/* searcher_child.c - the plugin's side of searcher.c: `sqz --search` answers calls on descriptor 3
 * until it is closed.
 *
 *   {"call":"open","id",...,"with","dims":[...],"n_objectives","seed"}
 *   {"call":"ask","told":[{"x","f","feasible"}]} -> {"x","why"} or {"exhausted":true} */
#include "worker/carried.h"
#include "worker/carrier.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WHY = 400 };

typedef struct child {
    carried run; /* the line to it, and the agent; run.opened owns the strings of dims */
    const sqz_search *table;
    sqz_dim *dims; /* [space.n_dims] */
    sqz_space space;
    double *x, *f; /* [n_dims], [n_objectives]: of one point */
} child;

/* Copies the numbers of a list; what is none, or beyond its end, becomes NaN. */
static void numbers(const cJSON *list, double *out, int64_t n)
{
    const cJSON *item = list ? list->child : NULL;
    for (int64_t i = 0; i < n; i++, item = item ? item->next : NULL)
        out[i] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static sqz_status read_dim(const cJSON *j, sqz_dim *d, sqz_error *err)
{
    const cJSON *values = json_get(j, "values");
    int n = cJSON_GetArraySize(values);
    double *copy = calloc((size_t)n + 1, sizeof *copy);
    if (!copy) return err_set(err, SQZ_E_NOMEM, "no memory for the space");
    numbers(values, copy, n);
    *d = (sqz_dim){.struct_size = sizeof *d,
                   .type = (int32_t)json_int(j, "type", 0),
                   .name = json_str(j, "name", ""),
                   .lo = json_num(j, "lo", 0),
                   .hi = json_num(j, "hi", 0),
                   .flags = (uint32_t)json_int(j, "flags", 0),
                   .parent = (int32_t)json_int(j, "parent", -1),
                   .parent_value = json_num(j, "parent_value", 0),
                   .n_values = n,
                   .values = n ? copy : NULL};
    if (!n) free(copy);
    return SQZ_OK;
}

static sqz_status read_space(child *c, sqz_error *err)
{
    const cJSON *dims = json_get(c->run.opened, "dims"), *dim;
    int64_t n = cJSON_GetArraySize(dims), m = json_int(c->run.opened, "n_objectives", 1), i = 0;
    sqz_status s = SQZ_OK;
    c->dims = calloc((size_t)n + 1, sizeof *c->dims);
    c->x = calloc((size_t)n + 1, sizeof *c->x);
    c->f = calloc((size_t)m + 1, sizeof *c->f);
    if (!c->dims || !c->x || !c->f) return err_set(err, SQZ_E_NOMEM, "no memory for the space");
    cJSON_ArrayForEach(dim, dims) if (!s) s = read_dim(dim, &c->dims[i++], err);
    c->space = (sqz_space){.struct_size = sizeof c->space,
                           .dim_stride = sizeof *c->dims,
                           .n_dims = n,
                           .dims = c->dims,
                           .n_objectives = m,
                           .seed = strtoull(json_str(c->run.opened, "seed", "0"), NULL, 10)};
    return s;
}

static sqz_status call_open(child *c, cJSON **request, sqz_error *err)
{
    carried *run = &c->run;
    if (run->opened) return err_set(err, SQZ_E_INTERNAL, "open was called twice");
    cJSON *taken = *request;
    *request = NULL;
    sqz_status s = carried_open(run, taken, err);
    if (!s) s = read_space(c, err);
    if (s) return s;
    const sqz_search *table = agent_extension(run->agent, SQZ_SEARCH_1);
    if (!table || !table->space || !table->ask || !table->tell)
        return err_set(err, ERR_PLUGIN, "%s: offers no %s", run->info.id, SQZ_SEARCH_1);
    s = table->space(agent_host(run->agent), agent_self(run->agent), &c->space);
    if (s) return agent_error(run->agent, s, err);
    s = carried_set(run, err);
    if (!s) c->table = table;
    return s;
}

static sqz_status call_ask(child *c, const cJSON *request, cJSON *answer, sqz_error *err)
{
    const sqz_host *host = agent_host(c->run.agent);
    void *self = agent_self(c->run.agent);
    const cJSON *told;
    char why[MAX_WHY] = "";
    cJSON_ArrayForEach(told, json_get(request, "told"))
    {
        numbers(json_get(told, "x"), c->x, c->space.n_dims);
        numbers(json_get(told, "f"), c->f, c->space.n_objectives);
        sqz_status s = c->table->tell(host, self, c->x, c->f, json_bool(told, "feasible", 0));
        if (s) return agent_error(c->run.agent, s, err);
    }
    sqz_status s = c->table->ask(host, self, c->x, why, sizeof why);
    why[sizeof why - 1] = 0;
    if (s == SQZ_SEARCH_EXHAUSTED) {
        cJSON_AddTrueToObject(answer, "exhausted");
        return SQZ_OK;
    }
    if (s) return agent_error(c->run.agent, s, err);
    cJSON_AddItemToObject(answer, "x", cJSON_CreateDoubleArray(c->x, (int)c->space.n_dims));
    cJSON_AddStringToObject(answer, "why", why);
    return SQZ_OK;
}

static sqz_status answer_call(void *ctx, cJSON **request, cJSON *answer, sqz_error *err)
{
    child *c = ctx;
    const char *call = json_str(*request, "call", "");
    if (!strcmp(call, "open")) return call_open(c, request, err);
    if (!c->table) return err_set(err, SQZ_E_INTERNAL, "%s before open", call);
    if (!strcmp(call, "ask")) return call_ask(c, *request, answer, err);
    return err_set(err, SQZ_E_INTERNAL, "unknown call \"%s\"", call);
}

int searcher_main(void)
{
    child c = {0};
    if (!carried_begin(&c.run, "--search")) return 2;
    carried_serve(&c.run, answer_call, &c);
    carried_end(&c.run);
}
