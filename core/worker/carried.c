/* carried.c - see carried.h. */
#include "worker/carried.h"
#include "host/program.h"
#include "io/clock.h"
#include "io/file.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_FD = 3, MAX_FRAME = 8 << 20, MAX_TEXT = 4000 };
/* Seconds between two signs of life. */
static const double NEWS_S = 0.05;
/* Neither a tracker nor a search holds more than a study's trials. */
static const rlim_t DATA_LIMIT = (rlim_t)2 << 30;

/* ---- messages -------------------------------------------------------------------------------- */
void carried_send(carried *c, cJSON *m)
{
    channel_send(&c->line, m);
    cJSON_Delete(m);
}

cJSON *carried_message(const char *type)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "type", type);
    return m;
}

void carried_text(cJSON *m, const char *text)
{
    char *cut = path_format("%.*s", MAX_TEXT, text);
    cJSON_AddStringToObject(m, "text", cut);
    free(cut);
}

cJSON *carried_receive(carried *c)
{
    cJSON *m;
    while (!(m = channel_take(&c->line))) {
        struct pollfd p = {c->line.fd, POLLIN, 0};
        if (c->line.fd < 0 || c->line.broken) return NULL;
        poll(&p, 1, -1);
    }
    return m;
}

static void on_log(void *ctx, int level, const char *agent_id, const char *text)
{
    if (level < SQZ_LOG_INFO) return;
    cJSON *m = carried_message("log");
    char *line = path_format("%s: %s", agent_id, text);
    cJSON_AddNumberToObject(m, "level", level);
    carried_text(m, line);
    carried_send(ctx, m);
    free(line);
}

static int on_tick(void *ctx, double done, const char *what)
{
    carried *c = ctx;
    (void)what;
    double now = clock_s();
    if (now - c->told_s < NEWS_S) return c->line.fd < 0;
    int moved = done != c->done;
    c->told_s = now;
    c->done = done;
    carried_send(c, carried_message(moved ? "moved" : "alive"));
    return c->line.fd < 0;
}

/* ---- the agent ------------------------------------------------------------------------------- */
static char *borrow(const cJSON *request, const char *key)
{
    return (char *)json_str(request, key, "");
}

sqz_status carried_open(carried *c, cJSON *request, sqz_error *err)
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
    return agent_open(c->host, &c->info, &c->agent, err);
}

sqz_status carried_set(carried *c, sqz_error *err)
{
    if (!cJSON_GetArraySize(c->info.params)) return SQZ_OK;
    return agent_call(c->agent, NULL, json_get(c->opened, "with"), err);
}

void carried_serve(carried *c, carried_call *one, void *ctx)
{
    cJSON *request;
    while ((request = carried_receive(c))) {
        sqz_error err = {0};
        cJSON *m = carried_message("answer");
        sqz_status status = one(ctx, &request, m, &err);
        cJSON_AddNumberToObject(m, "code", status);
        carried_text(m, status ? err.text : "");
        carried_send(c, m);
        cJSON_Delete(request);
    }
}

void carried_end(carried *c)
{
    if (c->agent) agent_close(c->agent);
    fflush(NULL);
    _exit(0);
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

int carried_begin(carried *c, const char *word)
{
    struct stat st;
    if (fstat(LINE_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        fprintf(stderr, "sqz: %s is for sqz's own use\n", word);
        return 0;
    }
    *c = (carried){.line = {.fd = LINE_FD, .limit = MAX_FRAME}};
    limit_self();
    return 1;
}
