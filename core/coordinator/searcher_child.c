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
#include <unistd.h>

enum { MAX_WHY = 400 };

typedef struct child {
    carried run; /* the line to it */
    host *host;
    agent *agent;
    agent_info info;
    const sqz_search *table;
    cJSON *opened; /* the first request: owns the strings of info and dims */
    sqz_dim *dims; /* [space.n_dims] */
    sqz_space space;
    double *x, *f; /* [n_dims], [n_objectives]: of one point */
} child;

static char *borrow(const cJSON *request, const char *key)
{
    return (char *)json_str(request, key, "");
}

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
    const cJSON *dims = json_get(c->opened, "dims"), *dim;
    int64_t n = cJSON_GetArraySize(dims), m = json_int(c->opened, "n_objectives", 1), i = 0;
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
                           .seed = strtoull(json_str(c->opened, "seed", "0"), NULL, 10)};
    return s;
}

/* Takes the request: its strings live as long as the agent. */
static sqz_status call_open(child *c, cJSON **request, sqz_error *err)
{
    host_hooks hooks = {carried_log, carried_tick, &c->run};
    if (c->opened) return err_set(err, SQZ_E_INTERNAL, "open was called twice");
    c->opened = *request;
    *request = NULL;
    c->info = (agent_info){.id = borrow(c->opened, "id"),
                           .kind = borrow(c->opened, "kind"),
                           .version = borrow(c->opened, "version"),
                           .file = borrow(c->opened, "file"),
                           .params = json_get(c->opened, "params")};
    snprintf(c->info.file_digest, sizeof c->info.file_digest, "%s", borrow(c->opened, "digest"));
    sqz_status s = read_space(c, err);
    if (s) return s;
    c->host = host_new(&hooks);
    if (!c->host) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", c->info.id);
    if ((s = agent_open(c->host, &c->info, &c->agent, err))) return s;
    const sqz_search *table = agent_extension(c->agent, SQZ_SEARCH_1);
    if (!table || !table->space || !table->ask || !table->tell)
        return err_set(err, ERR_PLUGIN, "%s: offers no %s", c->info.id, SQZ_SEARCH_1);
    s = table->space(agent_host(c->agent), agent_self(c->agent), &c->space);
    if (s) return agent_error(c->agent, s, err);
    if (cJSON_GetArraySize(c->info.params))
        s = agent_call(c->agent, NULL, json_get(c->opened, "with"), err);
    if (!s) c->table = table;
    return s;
}

static sqz_status call_ask(child *c, const cJSON *request, cJSON *answer, sqz_error *err)
{
    const sqz_host *host = agent_host(c->agent);
    void *self = agent_self(c->agent);
    const cJSON *told;
    char why[MAX_WHY] = "";
    cJSON_ArrayForEach(told, json_get(request, "told"))
    {
        numbers(json_get(told, "x"), c->x, c->space.n_dims);
        numbers(json_get(told, "f"), c->f, c->space.n_objectives);
        sqz_status s = c->table->tell(host, self, c->x, c->f, json_bool(told, "feasible", 0));
        if (s) return agent_error(c->agent, s, err);
    }
    sqz_status s = c->table->ask(host, self, c->x, why, sizeof why);
    why[sizeof why - 1] = 0;
    if (s == SQZ_SEARCH_EXHAUSTED) {
        cJSON_AddTrueToObject(answer, "exhausted");
        return SQZ_OK;
    }
    if (s) return agent_error(c->agent, s, err);
    cJSON_AddItemToObject(answer, "x", cJSON_CreateDoubleArray(c->x, (int)c->space.n_dims));
    cJSON_AddStringToObject(answer, "why", why);
    return SQZ_OK;
}

static sqz_status answer_call(child *c, cJSON **request, cJSON *answer, sqz_error *err)
{
    const char *call = json_str(*request, "call", "");
    if (!strcmp(call, "open")) return call_open(c, request, err);
    if (!c->table) return err_set(err, SQZ_E_INTERNAL, "%s before open", call);
    if (!strcmp(call, "ask")) return call_ask(c, *request, answer, err);
    return err_set(err, SQZ_E_INTERNAL, "unknown call \"%s\"", call);
}

int searcher_main(void)
{
    child c = {0};
    cJSON *request;
    if (!carried_begin(&c.run, "--search")) return 2;
    while ((request = carried_receive(&c.run))) {
        sqz_error err = {0};
        cJSON *m = carried_message("answer");
        sqz_status status = answer_call(&c, &request, m, &err);
        cJSON_AddNumberToObject(m, "code", status);
        carried_text(m, status ? err.text : "");
        carried_send(&c.run, m);
        cJSON_Delete(request);
    }
    if (c.agent) agent_close(c.agent);
    fflush(NULL);
    _exit(0); /* the plugin's destructors are none of our business */
}
