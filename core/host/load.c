/* load.c - plugins in this process: loaded, opened, called; see host.h.
 *
 * A plugin is loaded only where it runs, and only when its bytes are those that were scanned.  It
 * is never unloaded: thread-local destructors, exit handlers and library threads would outlive it.
 */
#include "host/bind.h"
#include "host/describe.h"
#include "host/host.h"
#include "host/services.h"
#include "host/stamp.h"
#include "hash/sha256.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct agent {
    host_seat seat;
    const sqz_agent *table;
    binding *run; /* NULL when the kind has no run function */
    void *self;
};

host *host_new(const host_hooks *hooks)
{
    host *h = calloc(1, sizeof *h);
    if (h && hooks) h->hooks = *hooks;
    return h;
}

void host_free(host *h)
{
    free(h);
}

void host_set_enter(host *h, void (*enter)(void *ctx, const agent_info *),
                    void (*leave)(void *ctx, const agent_info *), void *ctx)
{
    h->enter = enter;
    h->leave = leave;
    h->enter_ctx = ctx;
}

void host_set_device(host *h, device d)
{
    h->device = d;
}

void host_set_dress(host *h, const sqz_host *(*dress)(void *ctx, const sqz_host *), void *ctx)
{
    h->dress = dress;
    h->dress_ctx = ctx;
}

/* ---- opening
 * ------------------------------------------------------------------------------------------ */
static sqz_status check_file(const agent_info *info, sqz_error *err)
{
    char digest[DIGEST_TEXT];
    plugin_stamp stamp;
    sqz_status status = sha256_file(info->file, digest, err);
    if (status) {
        if (status == SQZ_E_NOMEM) return status;
        err->code = ERR_PLUGIN;
        return ERR_PLUGIN;
    }
    if (strcmp(digest, info->file_digest) != 0)
        return err_set(err, ERR_PLUGIN,
                       "%s: changed since it was scanned (was %.19s..., is %.19s...); run again to "
                       "scan it anew",
                       info->file, info->file_digest, digest);
    status = stamp_read(info->file, &stamp, err);
    return status ? status : stamp_accept(&stamp, info->file, err);
}

/* Do the loaded tables still say what the catalogue says of this agent? */
static sqz_status check_description(const sqz_plugin *plugin, const agent_info *info,
                                    sqz_error *err)
{
    cJSON *description = NULL;
    const cJSON *item;
    sqz_status status = describe_plugin(plugin, info->file, &description, err);
    if (status) return status;
    int same = 0;
    cJSON_ArrayForEach(item, json_get(description, "agents"))
    {
        if (strcmp(json_str(item, "id", ""), info->id) != 0) continue;
        char *now = json_canonical(json_get(item, "params")), *then = json_canonical(info->params);
        same = now && then && !strcmp(now, then) &&
               !strcmp(json_str(item, "version", ""), info->version);
        free(now);
        free(then);
    }
    cJSON_Delete(description);
    return same ? SQZ_OK
                : err_set(err, ERR_PLUGIN,
                          "%s: describes %s differently now than when it was scanned; its tables "
                          "must be constant",
                          info->file, info->id);
}

static const sqz_agent *find_agent(const sqz_plugin *plugin, const char *id)
{
    for (uint32_t i = 0; i < plugin->n_agents; i++)
        if (!strcmp(plugin_agent(plugin, i)->id, id)) return plugin_agent(plugin, i);
    return NULL;
}

static sqz_status load(const agent_info *info, const sqz_agent **out, sqz_error *err)
{
    const sqz_plugin *plugin;
    sqz_status status = check_file(info, err);
    if (status) return status;
    void *handle = dlopen(info->file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) return err_set(err, ERR_PLUGIN, "%s: cannot be loaded: %s", info->file, dlerror());
    status = describe_entry(handle, info->file, &plugin, err);
    if (!status) status = check_description(plugin, info, err);
    if (!status) *out = find_agent(plugin, info->id);
    return status;
}

sqz_status agent_open(host *h, const agent_info *info, agent **out, sqz_error *err)
{
    sqz_error own = {0};
    if (!err) err = &own;
    agent *a = calloc(1, sizeof *a);
    if (!a) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", info->id);
    seat_init(&a->seat, h, info);
    sqz_status status = load(info, &a->table, err);
    if (!status && a->table->run) {
        status = binding_new(a->table->run, &a->run, err);
        if (status) err_prefix(err, "%s", info->id);
    }
    if (!status && a->table->open) {
        sqz_status opened = a->table->open(a->seat.shown, &a->self);
        if (opened) status = agent_error(a, opened, err);
    }
    if (status) {
        binding_free(a->run);
        free(a);
        return status;
    }
    *out = a;
    return SQZ_OK;
}

void agent_close(agent *a)
{
    if (!a) return;
    if (a->table->close) a->table->close(a->seat.shown, a->self);
    binding_free(a->run);
    free(a);
}

/* ---- using
 * -------------------------------------------------------------------------------------------- */
const agent_info *agent_describe(const agent *a)
{
    return a->seat.info;
}

const void *agent_extension(const agent *a, const char *id)
{
    return a->table->extension ? a->table->extension(id) : NULL;
}

void *agent_self(const agent *a)
{
    return a->self;
}

const sqz_host *agent_host(const agent *a)
{
    return a->seat.shown;
}

sqz_status agent_error(agent *a, sqz_status status, sqz_error *err)
{
    const char *id = a->seat.info->id;
    /* The ABI's failures are negative; anything else must not pass for success or for a code of
     * ours. */
    sqz_status code = status < 0 && status >= SQZ_E_INTERNAL ? status : SQZ_E_INTERNAL;
    if (a->seat.code == status && a->seat.own) code = a->seat.own;
    if (code == SQZ_E_INTERNAL && status != SQZ_E_INTERNAL && !a->seat.own)
        err_set(err, code, "%s: returned %d, which is no status of the plugin ABI", id, status);
    else if (a->seat.code == status && a->seat.text[0])
        err_set(err, code, "%s: %s", id, a->seat.text);
    else if (code == SQZ_E_CANCELLED)
        err_set(err, code, "%s: stopped as asked", id);
    else
        err_set(err, code, "%s: failed (%s) without saying why", id, err_name(code));
    a->seat.code = a->seat.own = SQZ_OK;
    a->seat.text[0] = 0;
    return code;
}

void agent_enter(agent *a)
{
    const host *owner = a->seat.owner;
    a->seat.code = a->seat.own = SQZ_OK;
    a->seat.text[0] = 0;
    if (owner->enter) owner->enter(owner->enter_ctx, a->seat.info);
}

void agent_leave(agent *a)
{
    const host *owner = a->seat.owner;
    if (owner->leave) owner->leave(owner->enter_ctx, a->seat.info);
}

sqz_status agent_call(agent *a, void *subject, const cJSON *with, sqz_error *err)
{
    cJSON *resolved = NULL;
    sqz_status returned = SQZ_OK;
    if (!a->run)
        return err_set(err, SQZ_E_INVALID, "%s: kind %s has no run function", a->seat.info->id,
                       a->seat.info->kind);
    sqz_status status = params_resolve(a->seat.info, with, NULL, &resolved, err);
    if (status) return status;
    agent_enter(a);
    status = binding_call(a->run, a->seat.shown, a->self, subject, resolved, &returned, err);
    agent_leave(a);
    if (status)
        err_prefix(err, "%s", a->seat.info->id);
    else if (returned)
        status = agent_error(a, returned, err);
    cJSON_Delete(resolved);
    return status;
}
