/* carrier_child.c - the plugin's side of carrier.h: `sqz --tracker` answers calls on descriptor 3
 * until it is closed. */
#include "worker/carried.h"
#include "worker/carrier.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SAVED = 4 << 20 };

typedef struct child {
    carried run; /* the line to it */
    host *host;
    agent *agent;
    agent_info info;
    const sqz_tracker *table;
    cJSON *opened; /* the first request: owns the strings of info and tracking */
    sqz_tracking tracking;
    int begun;
} child;

/* ---- what the plugin may ask of the host ----------------------------------------------------- */
static sqz_status on_save(const sqz_tracking *t, const char *text)
{
    child *c = t->impl;
    const sqz_host *h = agent_host(c->agent);
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
static char *borrow(const cJSON *request, const char *key)
{
    return (char *)json_str(request, key, "");
}

static sqz_status open_agent(child *c, cJSON *request, sqz_error *err)
{
    host_hooks hooks = {carried_log, carried_tick, &c->run};
    c->opened = request;
    c->info = (agent_info){.id = borrow(request, "id"),
                           .kind = borrow(request, "kind"),
                           .version = borrow(request, "version"),
                           .file = borrow(request, "file"),
                           .params = json_get(request, "params")};
    snprintf(c->info.file_digest, sizeof c->info.file_digest, "%s", borrow(request, "digest"));
    c->host = host_new(&hooks);
    if (!c->host) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", c->info.id);
    sqz_status status = agent_open(c->host, &c->info, &c->agent, err);
    if (status) return status;
    c->table = agent_extension(c->agent, SQZ_TRACKER_1);
    if (!c->table || !c->table->begin || !c->table->event)
        return err_set(err, ERR_PLUGIN, "%s: offers no %s", c->info.id, SQZ_TRACKER_1);
    if (cJSON_GetArraySize(c->info.params))
        status = agent_call(c->agent, NULL, json_get(request, "with"), err);
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
    if (!c->opened) {
        status = open_agent(c, *request, err);
        *request = NULL;
    }
    if (status) return status;
    if (!c->table) return err_set(err, ERR_PLUGIN, "%s: could not be opened", c->info.id);
    status = c->table->begin(agent_host(c->agent), agent_self(c->agent), &c->tracking);
    c->begun |= !status;
    return status ? agent_error(c->agent, status, err) : SQZ_OK;
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
    sqz_status status = c->table->event(agent_host(c->agent), agent_self(c->agent), &e);
    free(json);
    return status ? agent_error(c->agent, status, err) : SQZ_OK;
}

static sqz_status call_flush(child *c, sqz_error *err)
{
    if (!c->table->flush) return SQZ_OK;
    sqz_status status = c->table->flush(agent_host(c->agent), agent_self(c->agent));
    return status ? agent_error(c->agent, status, err) : SQZ_OK;
}

static sqz_status answer_call(child *c, cJSON **request, sqz_error *err)
{
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
    cJSON *request;
    if (!carried_begin(&c.run, "--tracker")) return 2;
    while ((request = carried_receive(&c.run))) {
        sqz_error err = {0};
        sqz_status status = answer_call(&c, &request, &err);
        cJSON *m = carried_message("answer");
        cJSON_AddNumberToObject(m, "code", status);
        carried_text(m, status ? err.text : "");
        carried_send(&c.run, m);
        cJSON_Delete(request);
    }
    if (c.begun && SQZ_HAS(c.table, sqz_tracker, end) && c.table->end)
        c.table->end(agent_host(c.agent), agent_self(c.agent));
    agent_close(c.agent);
    fflush(NULL);
    _exit(0); /* the plugin's destructors are none of our business */
}
