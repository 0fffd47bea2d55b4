/* carrier_child.c - the plugin's side of carrier.h: `sqz --tracker` answers calls on descriptor 3
 * until it is closed. */
#include "host/program.h"
#include "io/clock.h"
#include "io/file.h"
#include "tracker/carrier.h"
#include "worker/channel.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_FD = 3, MAX_FRAME = 8 << 20, MAX_SAVED = 4 << 20, MAX_TEXT = 4000 };
/* Seconds between two signs of life. */
static const double NEWS_S = 0.05;
/* A tracker holds one event and one piece of a file at a time. */
static const rlim_t DATA_LIMIT = (rlim_t)2 << 30;

typedef struct child {
    channel line;
    host *host;
    agent *agent;
    agent_info info;
    const sqz_tracker *table;
    cJSON *opened; /* the first request: owns the strings of info and tracking */
    sqz_tracking tracking;
    int begun;
    double told_s, done; /* last sign of life, last progress */
} child;

/* ---- what the plugin may ask of the host ----------------------------------------------------- */
static void send_message(child *c, cJSON *m)
{
    channel_send(&c->line, m);
    cJSON_Delete(m);
}

static cJSON *message_new(const char *type)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "type", type);
    return m;
}

static void add_text(cJSON *m, const char *text)
{
    char *cut = path_format("%.*s", MAX_TEXT, text);
    cJSON_AddStringToObject(m, "text", cut);
    free(cut);
}

static void on_log(void *ctx, int level, const char *agent_id, const char *text)
{
    if (level < SQZ_LOG_INFO) return;
    cJSON *m = message_new("log");
    char *line = path_format("%s: %s", agent_id, text);
    cJSON_AddNumberToObject(m, "level", level);
    add_text(m, line);
    send_message(ctx, m);
    free(line);
}

static int on_tick(void *ctx, double done, const char *what)
{
    child *c = ctx;
    (void)what;
    double now = clock_s();
    if (now - c->told_s < NEWS_S) return c->line.fd < 0;
    int moved = done != c->done;
    c->told_s = now;
    c->done = done;
    send_message(c, message_new(moved ? "moved" : "alive"));
    return c->line.fd < 0;
}

/* Waits for the run's next message; NULL when it is gone. */
static cJSON *receive(child *c)
{
    cJSON *m;
    while (!(m = channel_take(&c->line))) {
        struct pollfd p = {c->line.fd, POLLIN, 0};
        if (c->line.fd < 0 || c->line.broken) return NULL;
        poll(&p, 1, -1);
    }
    return m;
}

static sqz_status on_save(const sqz_tracking *t, const char *text)
{
    child *c = t->impl;
    const sqz_host *h = agent_host(c->agent);
    if (!text || strnlen(text, MAX_SAVED) == MAX_SAVED)
        return h->fail(h, SQZ_E_INVALID, "save: at most 4 MiB of text can be kept");
    cJSON *m = message_new("save");
    cJSON_AddStringToObject(m, "text", text);
    send_message(c, m);
    cJSON *answer = receive(c);
    if (!answer) return h->fail(h, SQZ_E_CANCELLED, "save: the run is gone");
    sqz_status code = (sqz_status)json_int(answer, "code", SQZ_E_INTERNAL);
    code = code ? h->fail(h, SQZ_E_IO, json_str(answer, "text", "")) : SQZ_OK;
    cJSON_Delete(answer);
    return code;
}

static void on_later(const sqz_tracking *t, double seconds)
{
    cJSON *m = message_new("later");
    json_add_num(m, "seconds", seconds);
    send_message(t->impl, m);
}

/* ---- the calls ------------------------------------------------------------------------------- */
static char *borrow(const cJSON *request, const char *key)
{
    return (char *)json_str(request, key, "");
}

static sqz_status open_agent(child *c, cJSON *request, sqz_error *err)
{
    host_hooks hooks = {on_log, on_tick, c};
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
/* Ours to lose: no core file, bounded memory, the kernel's first choice, and the run's end. */
static void limit_self(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    struct rlimit data = {DATA_LIMIT, DATA_LIMIT};
    if (!PROGRAM_SANITIZED) setrlimit(RLIMIT_DATA, &data);
    FILE *f = fopen("/proc/self/oom_score_adj", "we");
    if (f) {
        fprintf(f, "500\n");
        fclose(f);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
}

int carrier_main(void)
{
    struct stat st;
    child c = {.line = {.fd = LINE_FD, .limit = MAX_FRAME}};
    cJSON *request;
    if (fstat(LINE_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        fprintf(stderr, "sqz: --tracker is for sqz's own use\n");
        return 2;
    }
    limit_self();
    while ((request = receive(&c))) {
        sqz_error err = {0};
        sqz_status status = answer_call(&c, &request, &err);
        cJSON *m = message_new("answer");
        cJSON_AddNumberToObject(m, "code", status);
        add_text(m, status ? err.text : "");
        send_message(&c, m);
        cJSON_Delete(request);
    }
    if (c.begun && SQZ_HAS(c.table, sqz_tracker, end) && c.table->end)
        c.table->end(agent_host(c.agent), agent_self(c.agent));
    agent_close(c.agent);
    fflush(NULL);
    _exit(0); /* the plugin's destructors are none of our business */
}
