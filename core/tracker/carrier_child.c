/* carrier_child.c - the plugin's side of carrier.h: `sqz --tracker` answers calls on descriptor 3
 * until it is closed. */
#include "worker/carried.h"
#include "worker/carrier.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SAVED = 4 << 20 };

typedef struct child {
    carried run; /* the line to it, and the agent; run.opened owns the strings of tracking */
    const sqz_tracker *table;
    sqz_tracking tracking;
    int begun;
} child;

/* ---- what the plugin may ask of the host ----------------------------------------------------- */
static sqz_status on_save(const sqz_tracking *t, const char *text)
{
    child *c = t->impl;
    const sqz_host *h = agent_host(c->run.agent);
    if (!text || strnlen(text, MAX_SAVED) == MAX_SAVED)
        return h->fail(h, SQZ_E_INVALID, "save: at most 4 MiB of text can be kept");
    cJSON *m = carried_message("save");
    cJSON_AddStringToObject(m, "text", text);
    carried_send(&c->run, m);
    cJSON *answer = carried_receive(&c->run);
    if (!answer) return h->fail(h, SQZ_E_CANCELLED, "save: the run is gone");
    sqz_status code = (sqz_status)json_int(answer, "code", SQZ_E_INTERNAL);
    code = code ? h->fail(h, SQZ_E_IO, json_str(answer, "text", "")) : SQZ_OK;
    cJSON_Delete(answer);
    return code;
}

static void on_later(const sqz_tracking *t, double seconds)
{
    cJSON *m = carried_message("later");
    json_add_num(m, "seconds", seconds);
    carried_send(&((child *)t->impl)->run, m);
}

/* ---- the calls ------------------------------------------------------------------------------- */
static sqz_status open_agent(child *c, cJSON *request, sqz_error *err)
{
    carried *run = &c->run;
    sqz_status status = carried_open(run, request, err);
    if (status) return status;
    c->table = agent_extension(run->agent, SQZ_TRACKER_1);
    if (!c->table || !c->table->begin || !c->table->event)
        return err_set(err, ERR_PLUGIN, "%s: offers no %s", run->info.id, SQZ_TRACKER_1);
    status = carried_set(run, err);
    c->tracking = (sqz_tracking){sizeof c->tracking,
                                 0,
                                 c,
                                 json_str(request, "study", "{}"),
                                 json_str(request, "folder", ""),
                                 json_str(request, "state", NULL),
                                 on_save,
                                 on_later};
    return status;
}

/* Takes the request when it is the first: its strings live as long as the agent. */
static sqz_status call_begin(child *c, cJSON **request, sqz_error *err)
{
    sqz_status status = SQZ_OK;
    if (!c->run.opened) {
        status = open_agent(c, *request, err);
        *request = NULL;
    }
    if (status) return status;
    if (!c->table) return err_set(err, ERR_PLUGIN, "%s: could not be opened", c->run.info.id);
    status = c->table->begin(agent_host(c->run.agent), agent_self(c->run.agent), &c->tracking);
    c->begun |= !status;
    return status ? agent_error(c->run.agent, status, err) : SQZ_OK;
}

static sqz_status call_event(child *c, const cJSON *request, sqz_error *err)
{
    char *json = json_text(json_get(request, "data"), 0);
    sqz_track_event e = {sizeof e,
                         0,
                         json_int(request, "seq", 0),
                         json_int(request, "time_ms", 0),
                         json_str(request, "kind", ""),
                         json_str(request, "key", ""),
                         json ? json : "{}"};
    sqz_status status = c->table->event(agent_host(c->run.agent), agent_self(c->run.agent), &e);
    free(json);
    return status ? agent_error(c->run.agent, status, err) : SQZ_OK;
}

static sqz_status call_flush(child *c, sqz_error *err)
{
    if (!c->table->flush) return SQZ_OK;
    sqz_status status = c->table->flush(agent_host(c->run.agent), agent_self(c->run.agent));
    return status ? agent_error(c->run.agent, status, err) : SQZ_OK;
}

static sqz_status answer_call(void *ctx, cJSON **request, cJSON *answer, sqz_error *err)
{
    child *c = ctx;
    (void)answer;
    const char *call = json_str(*request, "call", "");
    if (!strcmp(call, "begin")) return call_begin(c, request, err);
    if (!c->begun) return err_set(err, SQZ_E_INTERNAL, "%s before begin", call);
    if (!strcmp(call, "event")) return call_event(c, *request, err);
    if (!strcmp(call, "flush")) return call_flush(c, err);
    return err_set(err, SQZ_E_INTERNAL, "unknown call \"%s\"", call);
}

/* ---- the process ----------------------------------------------------------------------------- */
int carrier_main(void)
{
    child c = {0};
    if (!carried_begin(&c.run, "--tracker")) return 2;
    carried_serve(&c.run, answer_call, &c);
    if (c.begun && SQZ_HAS(c.table, sqz_tracker, end) && c.table->end)
        c.table->end(agent_host(c.run.agent), agent_self(c.run.agent));
    carried_end(&c.run);
}
