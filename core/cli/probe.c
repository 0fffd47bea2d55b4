/* probe.c - one probe in a child process; see probe.h. */
#include "cli/probe.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const state_words[] = {"ok", "warn", "fail"};

void probe_row(cJSON *rows, const char *group, const char *name, probe_state state,
               const char *remedy, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "group", group);
    cJSON_AddStringToObject(row, "name", name);
    cJSON_AddStringToObject(row, "state", state_words[state]);
    cJSON_AddStringToObject(row, "text", text);
    if (remedy) cJSON_AddStringToObject(row, "remedy", remedy);
    cJSON_AddItemToArray(rows, row);
}

/* The child: rows as one JSON text into the pipe, and out without destructors. */
static void answer(const probe *p, const cli *c, int fd)
{
    cJSON *rows = cJSON_CreateArray();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* in a group of its own it would outlive a kill -9 */
    p->run(c, rows);
    char *text = json_text(rows, 0);
    for (size_t at = 0, n = text ? strlen(text) : 0; at < n;) {
        ssize_t w = write(fd, text + at, n - at);
        if (w <= 0) break;
        at += (size_t)w;
    }
    _exit(0);
}

typedef struct reading {
    char *text;
    size_t n;
} reading;

/* Until the pipe ends, the time is up (0) or the user interrupts (-1). */
static int listen_for(int fd, double until, reading *r)
{
    for (;;) {
        struct pollfd in = {fd, POLLIN, 0};
        double left = until - clock_s();
        if (signals_count()) return -1;
        if (left <= 0) return 0;
        if (poll(&in, 1, left < 0.1 ? (int)(left * 1000) + 1 : 100) <= 0) continue;
        char block[4096];
        ssize_t n = read(fd, block, sizeof block);
        if (n == 0) return 1;
        if (n < 0) continue;
        char *grown = realloc(r->text, r->n + (size_t)n + 1);
        if (!grown) return 0;
        memcpy(grown + r->n, block, (size_t)n);
        r->text = grown;
        r->n += (size_t)n;
        r->text[r->n] = 0;
    }
}

static void take(const probe *p, cJSON *rows, const reading *r, int ended, int status, double limit)
{
    cJSON *list = r->text ? cJSON_Parse(r->text) : NULL, *row;
    while ((row = list ? cJSON_DetachItemFromArray(list, 0) : NULL))
        cJSON_AddItemToArray(rows, row);
    if (!ended)
        probe_row(rows, p->group, "probe", PROBE_FAIL, "sqz plugin list --verbose",
                  "did not answer in %g s", limit);
    else if (!list && WIFSIGNALED(status))
        probe_row(rows, p->group, "probe", PROBE_FAIL, "sqz plugin list --verbose",
                  "crashed with SIG%s while it was tried",
                  sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else if (!list)
        probe_row(rows, p->group, "probe", PROBE_FAIL, "sqz plugin list --verbose",
                  "ended without an answer");
    cJSON_Delete(list);
}

int probe_run(const probe *p, const cli *c, double limit_s, cJSON *rows)
{
    int ends[2], status = 0;
    reading r = {0};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        probe_row(rows, p->group, "probe", PROBE_FAIL, NULL, "no pipe: %s", strerror(errno));
        return 1;
    }
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        answer(p, c, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        probe_row(rows, p->group, "probe", PROBE_FAIL, NULL, "no process: %s", strerror(errno));
        close(ends[0]);
        return 1;
    }
    setpgid(pid, pid); /* whoever comes first */
    int ended = listen_for(ends[0], clock_s() + limit_s, &r);
    close(ends[0]);
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (ended >= 0) take(p, rows, &r, ended, status, limit_s);
    free(r.text);
    return ended >= 0;
}
