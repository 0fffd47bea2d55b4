/* serve.c - see serve.h: the child's side of a job.
 *
 * Everything a job does that could disturb the others happens in this process: it dies with its
 * parent, keeps stdout away from plugins, and tells progress to the parent and to DIR/events.jsonl.
 * Limits come from the parent, who does not trust us and watches them as well. */
#include "worker/serve.h"
#include "host/host.h"
#include "host/program.h"
#include "io/clock.h"
#include "io/file.h"
#include "worker/channel.h"
#include "worker/manners.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_JOB = 64 << 20, MAX_WHAT = 200 };
/* Progress goes out when its subject changes, but not more often than this, and at least so often.
 */
static const double NEWS_S = 0.01, SAME_S = 0.1, EVENT_S = 0.25;

typedef struct server {
    channel parent;
    FILE *events;              /* or NULL */
    pthread_mutex_t lock;      /* log may come from any thread */
    double start, sent, noted; /* seconds: begin, last progress to the parent, last into events */
    char what[MAX_WHAT];       /* of the last progress sent */
    int stop;                  /* the parent asked, or is gone */
    int had_parent;
    const agent_info *agent; /* last told; only changes are news */
    manners *manners;
} server;

/* ---- telling
 * -------------------------------------------------------------------------------------------- */
static cJSON *message_new(const char *type)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "type", type);
    return m;
}

/* Adds text without the halves of characters that a cut at a byte limit leaves. */
static void add_text(cJSON *m, const char *key, const char *text, size_t limit)
{
    size_t n = strnlen(text, limit);
    while (n > 0 && text[n] && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    char *cut = path_format("%.*s", (int)n, text);
    cJSON_AddStringToObject(m, key, cut);
    free(cut);
}

/* To the parent and, when `note` is set, into the events file; frees the message. */
static void tell(server *s, cJSON *m, int note)
{
    channel_send(&s->parent, m);
    if (note && s->events) {
        json_add_num(m, "t", clock_s() - s->start);
        char *line = json_text(m, 0);
        if (line) fprintf(s->events, "%s\n", line);
        fflush(s->events);
        free(line);
    }
    cJSON_Delete(m);
}

static void hear(server *s)
{
    cJSON *m;
    while ((m = channel_take(&s->parent))) {
        if (!strcmp(json_str(m, "type", ""), "stop")) s->stop = 1;
        cJSON_Delete(m);
    }
    if (s->had_parent && (s->parent.fd < 0 || s->parent.broken)) s->stop = 1;
}

static int on_tick(void *ctx, double done, const char *what)
{
    server *s = ctx;
    pthread_mutex_lock(&s->lock);
    double now = clock_s(), wait = strncmp(s->what, what, MAX_WHAT - 1) ? NEWS_S : SAME_S;
    if (now - s->sent >= wait) {
        cJSON *m = message_new("progress");
        json_add_num(m, "done", done);
        add_text(m, "what", what, MAX_WHAT - 1);
        int note = now - s->noted >= EVENT_S;
        if (note) s->noted = now;
        snprintf(s->what, sizeof s->what, "%s", what);
        s->sent = now;
        tell(s, m, note);
    }
    hear(s);
    int stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

static void on_log(void *ctx, int level, const char *text)
{
    server *s = ctx;
    if (level < SQZ_LOG_INFO) return;
    pthread_mutex_lock(&s->lock);
    cJSON *m = message_new("log");
    cJSON_AddNumberToObject(m, "level", level);
    add_text(m, "text", text, 4000);
    tell(s, m, 1);
    pthread_mutex_unlock(&s->lock);
}

static void on_enter(void *ctx, const agent_info *info)
{
    server *s = ctx;
    manners_before(s->manners, info);
    if (info == s->agent) return;
    s->agent = info;
    pthread_mutex_lock(&s->lock);
    cJSON *m = message_new("agent");
    add_text(m, "id", info->id, 128);
    add_text(m, "kind", info->kind, 64);
    tell(s, m, 0);
    pthread_mutex_unlock(&s->lock);
}

static void on_leave(void *ctx, const agent_info *info)
{
    server *s = ctx;
    manners_after(s->manners, info);
}

/* ---- beginning and end
 * ---------------------------------------------------------------------------------- */
/* The socket that the parent passed by number; -1 when this worker was started by something else.
 */
static int parent_socket(void)
{
    struct stat st;
    const char *text = getenv("SQZ_WORKER_FD");
    int fd = text ? atoi(text) : -1;
    unsetenv("SQZ_WORKER_FD");
    if (fd < 3 || fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode)) return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

/* The limit that the kernel enforces, given by the parent; set before anything foreign is loaded,
 * and hard, so that nothing raises it again.  A build with sanitizers reserves terabytes of address
 * space as private data, so there only the parent's watch works. */
static void limit_data(void)
{
    const char *text = getenv("SQZ_WORKER_DATA");
    long long bytes = text ? atoll(text) : 0;
    unsetenv("SQZ_WORKER_DATA");
    struct rlimit limit = {(rlim_t)bytes, (rlim_t)bytes};
    if (bytes > 0 && !PROGRAM_SANITIZED) setrlimit(RLIMIT_DATA, &limit);
}

static void begin(server *s, const char *dir)
{
    struct rlimit none = {0, 0};
    char *path = path_format("%s/events.jsonl", dir);
    setrlimit(RLIMIT_CORE, &none);
    limit_data();
    memory_failed_status(WORKER_NO_MEMORY);
    s->start = clock_s();
    s->parent.fd = parent_socket();
    s->had_parent = s->parent.fd >= 0;
    /* The signal is missed when the parent died before this line; then the socket is closed, which
     * hear() notices. */
    if (s->had_parent) prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_mutex_init(&s->lock, NULL);
    /* What plugins print must not reach a stdout that belongs to a command's own output. */
    fflush(stdout);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    setvbuf(stdout, NULL, _IOLBF, 0);
    s->events = fopen(path, "ae");
    free(path);
    tell(s, message_new("hello"), 0);
    hear(s);
}

static const char *state_of(sqz_status status)
{
    switch (status) {
    case SQZ_OK: return "ok";
    case SQZ_E_UNSUPPORTED: return "unsupported";
    case SQZ_E_CANCELLED: return "cancelled";
    default: return "failed";
    }
}

/* Completes what execute gave and writes it. */
static sqz_status finish(server *s, const char *dir, const cJSON *job, cJSON *result,
                         sqz_status status, sqz_error *err)
{
    if (!result) result = cJSON_CreateObject();
    if (!json_get(result, "schema")) cJSON_AddStringToObject(result, "schema", "sqz.result/1");
    if (!json_get(result, "job")) cJSON_AddStringToObject(result, "job", json_str(job, "job", ""));
    if (!json_get(result, "state")) cJSON_AddStringToObject(result, "state", state_of(status));
    if (status && !json_get(result, "error")) {
        cJSON *e = cJSON_AddObjectToObject(result, "error");
        cJSON_AddNumberToObject(e, "code", status);
        cJSON_AddStringToObject(e, "name", err_name(status));
        cJSON_AddStringToObject(e, "message", err->text);
    }
    cJSON *seen = manners_end(s->manners), *item;
    cJSON_ArrayForEach(item, seen)
    {
        char *line = path_format("%s %s", json_str(item, "agent", "?"), json_str(item, "did", "?"));
        on_log(s, SQZ_LOG_WARN, line);
        free(line);
    }
    if (cJSON_GetArraySize(seen))
        cJSON_AddItemToObject(result, "manners", seen);
    else
        cJSON_Delete(seen);
    if (!json_get(result, "usage")) {
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        cJSON *usage = cJSON_AddObjectToObject(result, "usage");
        json_add_num(usage, "seconds", clock_s() - s->start);
        cJSON_AddNumberToObject(usage, "peak_rss_bytes", (double)u.ru_maxrss * 1024);
    }
    char *text = json_text(result, 1), *path = path_format("%s/result.json", dir);
    sqz_status written = text ? file_write(path, text, (int64_t)strlen(text), err)
                              : err_set(err, SQZ_E_NOMEM, "%s: no memory to write it", path);
    cJSON_Delete(result);
    free(text);
    free(path);
    return written;
}

int worker_serve(const char *dir, job_function execute)
{
    server s = {.parent = {.fd = -1}};
    job_context context = {
        .tick = on_tick, .log = on_log, .ctx = &s, .enter = on_enter, .leave = on_leave};
    sqz_error err = {0};
    json_doc *doc = NULL;
    cJSON *result = NULL;
    char *path = path_format("%s/job.json", dir);
    begin(&s, dir);
    sqz_status status = json_read(path, MAX_JOB, 0, &doc, &err);
    free(path);
    if (status) {
        fprintf(stderr, "sqz worker: %s\n", err.text);
        return err_exit_code(status);
    }
    s.manners = manners_new(dir, json_str(json_root(doc), "model", NULL));
    status = s.stop ? err_set(&err, SQZ_E_CANCELLED, "stopped before it began")
                    : execute(json_root(doc), &context, &result, &err);
    sqz_status written = finish(&s, dir, json_root(doc), result, status, &err);
    if (written) fprintf(stderr, "sqz worker: %s\n", err.text);
    if (written == ERR_STORAGE) {
        cJSON *m = message_new("unwritten");
        add_text(m, "text", err.text, 590);
        tell(&s, m, 0);
    }
    json_free(doc);
    if (s.events) fclose(s.events);
    free(s.parent.bytes);
    channel_close(&s.parent);
    return written == ERR_STORAGE   ? WORKER_UNWRITTEN
           : written == SQZ_E_NOMEM ? WORKER_NO_MEMORY
           : written                ? err_exit_code(written)
                                    : 0;
}
