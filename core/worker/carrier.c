/* carrier.c - the run's side of carrier.h: spawn, ask, listen, judge. */
#include "worker/carrier.h"
#include "host/program.h"
#include "io/clock.h"
#include "io/file.h"
#include "worker/channel.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_FRAME = 8 << 20, MAX_LOG = 1 << 20 };
/* Seconds: before a process counts as hung, and that an idle one gets to end by itself. */
static const double SILENCE_S = 10, LEAVE_S = 0.02;

struct carrier {
    carrier_options options;
    pid_t pid;
    channel line;
    double heard_s; /* when it last said something */
    int lost;
};

/* ---- starting -------------------------------------------------------------------------------- */
static sqz_status spawn(carrier *c, const char *program, sqz_error *err)
{
    char word[40];
    const char *const argv[] = {word, NULL};
    int ends[2], flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    const char *id = c->options.info->id;
    snprintf(word, sizeof word, "--%.30s", c->options.what);
    int log = open(c->options.log, flags, 0644);
    if (log < 0)
        return err_set(err, ERR_STORAGE, "%s: cannot be opened: %s", c->options.log,
                       strerror(errno));
    int failure = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ? errno : 0;
    if (!failure) {
        /* A hung process reads nothing: then sending must end, too. */
        struct timeval limit = {(time_t)ceil(c->options.silence_s), 0};
        setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        program_start start = {program, argv, NULL, {-1, log, log, ends[1]}, NULL};
        failure = program_spawn(&start, &c->pid);
        close(ends[1]);
        c->line.fd = ends[0];
    }
    close(log);
    return failure ? err_set(err, SQZ_E_INTERNAL, "cannot start %s for the %s %s: %s", program,
                             c->options.what, id, strerror(failure))
                   : SQZ_OK;
}

sqz_status carrier_start(const carrier_options *o, carrier **out, sqz_error *err)
{
    carrier *c = calloc(1, sizeof *c);
    char *program = program_path();
    sqz_status status = SQZ_OK;
    if (!c || !program)
        status = err_set(err, SQZ_E_INTERNAL, "%s: no process: %s", o->info->id, strerror(errno));
    if (!status) {
        c->options = *o;
        if (c->options.silence_s <= 0) c->options.silence_s = SILENCE_S;
        c->line = (channel){.fd = -1, .limit = MAX_FRAME};
        status = spawn(c, program, err);
    }
    free(program);
    if (status) {
        if (c) channel_close(&c->line);
        free(c);
        return status;
    }
    *out = c;
    return SQZ_OK;
}

/* ---- listening ------------------------------------------------------------------------------- */
static void keep_text(carrier *c, const char *text)
{
    const carrier_hooks *h = &c->options.hooks;
    sqz_error err = {0};
    cJSON *m = cJSON_CreateObject();
    sqz_status status = h->save(h->ctx, text, &err);
    cJSON_AddStringToObject(m, "type", "saved");
    cJSON_AddNumberToObject(m, "code", status);
    cJSON_AddStringToObject(m, "text", err.text);
    channel_send(&c->line, m);
    cJSON_Delete(m);
}

/* Takes every message that has come; the answer to the call, or NULL while there is none. */
static cJSON *listen_to(carrier *c)
{
    const carrier_hooks *h = &c->options.hooks;
    cJSON *m;
    while ((m = channel_take(&c->line))) {
        const char *type = json_str(m, "type", "");
        c->heard_s = clock_s();
        if (!strcmp(type, "answer")) return m;
        if (!strcmp(type, "log"))
            h->log(h->ctx, (int)json_int(m, "level", SQZ_LOG_INFO), json_str(m, "text", ""));
        else if (!strcmp(type, "moved") && h->moved)
            h->moved(h->ctx);
        else if (!strcmp(type, "later") && h->later)
            h->later(h->ctx, json_num(m, "seconds", 0));
        else if (!strcmp(type, "save") && h->save)
            keep_text(c, json_str(m, "text", ""));
        cJSON_Delete(m);
    }
    return NULL;
}

/* A plugin that prints without end must not fill the disk. */
static void bound_log(const carrier *c)
{
    struct stat st;
    if (stat(c->options.log, &st) == 0 && st.st_size > MAX_LOG) (void)!truncate(c->options.log, 0);
}

/* ---- judging --------------------------------------------------------------------------------- */
static sqz_status lose(carrier *c, const char *during, const char *why, sqz_error *err)
{
    const char *id = c->options.info->id, *what = c->options.what;
    int status = program_reap(c->pid, NULL), number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const char *name = number ? sigabbrev_np(number) : NULL;
    c->pid = 0;
    c->lost = 1;
    channel_close(&c->line);
    if (why) return err_set(err, ERR_PLUGIN, "%s %s %s (%s)", what, id, why, during);
    if (number)
        return err_set(err, ERR_PLUGIN, "%s %s crashed with SIG%s (%s)", what, id,
                       name ? name : "?", during);
    return err_set(err, ERR_PLUGIN, "%s %s ended its process with status %d (%s)", what, id,
                   WEXITSTATUS(status), during);
}

/* The line is closed: by its end, whose cause shall be seen, or by the plugin. */
static sqz_status judge_silence(carrier *c, const char *during, sqz_error *err)
{
    double until = clock_s() + 0.5;
    while (!program_ended(c->pid) && clock_s() < until)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return lose(c, during,
                program_ended(c->pid) ? NULL : "closed the line to its run and was stopped", err);
}

static sqz_status wait_for_answer(carrier *c, const char *during, cJSON **answer, sqz_error *err)
{
    const carrier_hooks *h = &c->options.hooks;
    char text[80];
    c->heard_s = clock_s();
    while (!(*answer = listen_to(c))) {
        struct pollfd p = {c->line.fd, POLLIN, 0};
        if (c->line.broken)
            return lose(c, during, "wrote something else than messages and was stopped", err);
        if (c->line.fd < 0) return judge_silence(c, during, err);
        if (h->stop(h->ctx)) {
            lose(c, during, "was stopped", err);
            return err->code = SQZ_E_CANCELLED;
        }
        if (clock_s() - c->heard_s > c->options.silence_s) {
            snprintf(text, sizeof text, "has not answered for %g s and was stopped",
                     c->options.silence_s);
            return lose(c, during, text, err);
        }
        poll(&p, 1, 10);
    }
    return SQZ_OK;
}

sqz_status carrier_ask(carrier *c, cJSON *request, cJSON **out, sqz_error *err)
{
    sqz_error own = {0};
    char during[200];
    cJSON *answer = NULL;
    const char *call = json_str(request, "call", ""), *key = json_str(request, "key", "");
    if (!err) err = &own;
    snprintf(during, sizeof during, "%.40s%s%.120s", call, *key ? " " : "", key);
    bound_log(c);
    channel_send(&c->line, request);
    cJSON_Delete(request);
    sqz_status status = wait_for_answer(c, during, &answer, err);
    if (status) return status;
    status = (sqz_status)json_int(answer, "code", SQZ_E_INTERNAL);
    if (status) err_set(err, status, "%s", json_str(answer, "text", ""));
    if (status || !out)
        cJSON_Delete(answer);
    else
        *out = answer;
    return status;
}

sqz_status carrier_call(carrier *c, cJSON *request, sqz_error *err)
{
    return carrier_ask(c, request, NULL, err);
}

void carrier_name(cJSON *r, const agent_info *a, const cJSON *with)
{
    cJSON_AddStringToObject(r, "id", a->id);
    cJSON_AddStringToObject(r, "kind", a->kind);
    cJSON_AddStringToObject(r, "version", a->version);
    cJSON_AddStringToObject(r, "file", a->file);
    cJSON_AddStringToObject(r, "digest", a->file_digest);
    cJSON_AddItemToObject(r, "params", cJSON_Duplicate(a->params, 1));
    cJSON_AddItemToObject(r, "with", cJSON_Duplicate(with, 1));
}

int carrier_lost(const carrier *c)
{
    return c->lost;
}

void carrier_end(carrier *c)
{
    struct stat st;
    if (!c) return;
    channel_close(&c->line);
    double until = clock_s() + LEAVE_S;
    while (c->pid && !program_ended(c->pid) && clock_s() < until)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (c->pid) program_reap(c->pid, NULL);
    if (stat(c->options.log, &st) == 0 && st.st_size == 0) unlink(c->options.log);
    free(c->line.bytes);
    free(c);
}
