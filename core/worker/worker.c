/* worker.c - one job in one child process, from the parent's side; see worker.h.
 *
 * The child is not trusted to end, to stop growing or to tell the truth.  It leads its own process
 * group; whatever happens, that group is killed and the child reaped before worker_run returns.
 * Left out: how many workers run at once, and trying again (the coordinator decides both). */
#include "worker/worker.h"
#include "host/program.h"
#include "io/clock.h"
#include "io/file.h"
#include "registry.h"
#include "worker/channel.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RESULT = 256 << 20, MAX_STDERR = 64 << 20, TAIL_LINES = 50, PLACE = 320 };
/* Seconds: between looks at the child, for a kind stop, and for SIGTERM. */
static const double LOOK_S = 0.05, GRACE_S = 5, TERM_S = 2;
/* Room beyond the resident limit for what is reserved but not resident: stacks, arenas, BLAS
 * buffers. */
static const int64_t DATA_SLACK = (int64_t)1 << 30;

typedef enum stop_cause { RUNNING, BY_CALLER, BY_DEADLINE, BY_MEMORY, BY_PROTOCOL } stop_cause;
typedef enum stop_stage { NOT_STOPPING, ASKED, TERMED, KILLED } stop_stage;

typedef struct watch {
    const worker_limits *limits;
    const worker_hooks *hooks;
    const char *dir;
    pid_t pid;
    channel child;
    double start, stage_at;
    stop_cause cause;
    stop_stage stage;
    int64_t peak_bytes;
    int64_t oom_kills; /* of our control group before the job */
    int greeted;
    char agent[160]; /* "method org.example.x" once an agent ran */
    char what[256];  /* last progress */
    double done;
    char unwritten[600]; /* why there is no result.json, as the worker says */
} watch;

const char *outcome_name(outcome_state state)
{
    static const char *const names[] = {"ok",      "failed",  "unsupported", "cancelled",
                                        "timeout", "crashed", "oom",         "protocol"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "protocol";
}

void worker_outcome_free(worker_outcome *o)
{
    free(o->stderr_tail);
    cJSON_Delete(o->result);
    memset(o, 0, sizeof *o);
}

/* ---- starting
 * ------------------------------------------------------------------------------------------- */
static int spawn_with(watch *w, const char *program, const char *log, int socket)
{
    int64_t bytes = 0;
    char limit[48] = "SQZ_WORKER_DATA"; /* without a value: not even one of our own */
    if (w->limits->memory_bytes > 0 &&
        !__builtin_add_overflow(w->limits->memory_bytes, DATA_SLACK, &bytes))
        snprintf(limit, sizeof limit, "SQZ_WORKER_DATA=%lld", (long long)bytes);
    const char *const argv[] = {"worker", w->dir, NULL};
    const char *const environment[] = {"SQZ_WORKER_FD=3", limit, NULL};
    int said = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (said < 0) return errno;
    program_start start = {program, argv, environment, {-1, said, said, socket}, NULL};
    int failure = program_spawn(&start, &w->pid);
    close(said);
    return failure;
}

static sqz_status spawn(watch *w, sqz_error *err)
{
    int ends[2];
    char *program = program_path(), *log = path_format("%s/stderr.log", w->dir);
    sqz_status status = SQZ_OK;
    if (!program || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        status = err_set(err, SQZ_E_INTERNAL, "cannot start a worker: %s", strerror(errno));
    } else {
        int failure = spawn_with(w, program, log, ends[1]);
        close(ends[1]);
        w->child.fd = ends[0];
        /* Only the log is written while a worker starts. */
        if (failure == ENOSPC || failure == EDQUOT || failure == EROFS || failure == EIO)
            status = err_set(err, ERR_STORAGE, "%s: cannot be written: %s%s", log,
                             strerror(failure), file_room_hint(failure));
        else if (failure)
            status = err_set(err, SQZ_E_INTERNAL, "cannot start %s as a worker: %s", program,
                             strerror(failure));
    }
    free(program);
    free(log);
    return status;
}

/* When the machine itself runs out, the kernel shall take the worker and not the run. */
static void prefer_as_victim(const watch *w)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)w->pid);
    FILE *f = fopen(path, "we");
    if (!f) return;
    fprintf(f, "500\n");
    fclose(f);
}

/* ---- watching
 * ------------------------------------------------------------------------------------------- */
static int64_t resident_bytes(pid_t pid)
{
    char path[64];
    long long total, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%lld %lld", &total, &resident) != 2) resident = 0;
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* How often the kernel killed for memory in our control group; 0 where it does not tell. */
static int64_t kernel_oom_kills(void)
{
    char line[512], path[600] = "/sys/fs/cgroup/memory.events";
    long long kills = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) == 0)
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.events", line + 3);
    }
    if (f) fclose(f);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "oom_kill %lld", &kills) == 1) break;
    if (f) fclose(f);
    return kills;
}

/* A plugin that prints without end must not fill the disk; the files are opened for appending, so
 * cutting them is safe. */
static void bound_output(const watch *w)
{
    static const char *const names[] = {"stderr.log", "stdout.log"};
    struct stat st;
    for (int i = 0; i < 2; i++) {
        char *log = path_format("%s/%s", w->dir, names[i]);
        if (stat(log, &st) == 0 && st.st_size > MAX_STDERR && truncate(log, 0) != 0)
            fprintf(stderr, "%s: cannot be shortened: %s\n", log, strerror(errno));
        free(log);
    }
}

/* The temporary files of a child that could not tidy up itself. */
static void remove_temporary(const watch *w)
{
    char *tmp = path_format("%s/tmp", w->dir);
    if (path_exists(tmp)) dir_remove(tmp, NULL);
    free(tmp);
}

static void listen_to(watch *w)
{
    cJSON *m;
    while ((m = channel_take(&w->child))) {
        const char *type = json_str(m, "type", "");
        if (!strcmp(type, "hello")) {
            w->greeted = 1;
        } else if (!strcmp(type, "agent")) {
            const char *kind = json_str(m, "kind", "");
            snprintf(w->agent, sizeof w->agent, "%.*s %.120s", (int)(strcspn(kind, "/") % 32), kind,
                     json_str(m, "id", ""));
        } else if (!strcmp(type, "progress")) {
            snprintf(w->what, sizeof w->what, "%.250s", json_str(m, "what", ""));
            w->done = json_num(m, "done", 0);
            if (w->hooks->progress) w->hooks->progress(w->hooks->ctx, w->done, w->what);
        } else if (!strcmp(type, "unwritten")) {
            snprintf(w->unwritten, sizeof w->unwritten, "%.590s", json_str(m, "text", ""));
        } else if (!strcmp(type, "log") && w->hooks->log) {
            w->hooks->log(w->hooks->ctx, (int)json_int(m, "level", 1), json_str(m, "text", ""));
        }
        cJSON_Delete(m);
    }
}

/* ---- stopping
 * ------------------------------------------------------------------------------------------- */
static void stage_enter(watch *w, stop_stage stage)
{
    cJSON *m;
    w->stage = stage;
    w->stage_at = clock_s();
    switch (stage) {
    case ASKED:
        m = cJSON_CreateObject();
        cJSON_AddStringToObject(m, "type", "stop");
        channel_send(&w->child, m);
        cJSON_Delete(m);
        break;
    case TERMED: kill(-w->pid, SIGTERM); break;
    case KILLED: kill(-w->pid, SIGKILL); break;
    default: break;
    }
}

static void stop(watch *w, stop_cause cause, stop_stage stage)
{
    if (w->cause == RUNNING) w->cause = cause;
    if (stage > w->stage) stage_enter(w, stage);
}

/* Looks at every reason to stop, and goes on to the next stage when one was not enough. */
static void enforce(watch *w)
{
    double now = clock_s();
    int cancel = w->hooks->cancel ? w->hooks->cancel(w->hooks->ctx) : 0;
    if (cancel) stop(w, BY_CALLER, cancel >= 2 ? KILLED : ASKED);
    if (w->limits->deadline_s > 0 && now - w->start > w->limits->deadline_s)
        stop(w, BY_DEADLINE, ASKED);
    int64_t resident = resident_bytes(w->pid);
    if (resident > w->peak_bytes) w->peak_bytes = resident;
    if (w->limits->memory_bytes > 0 && resident > w->limits->memory_bytes)
        stop(w, BY_MEMORY, KILLED);
    if (w->child.broken) stop(w, BY_PROTOCOL, KILLED);
    if (w->stage == ASKED && now - w->stage_at > GRACE_S) stage_enter(w, TERMED);
    if (w->stage == TERMED && now - w->stage_at > TERM_S) stage_enter(w, KILLED);
}

/* Until the child has ended and been reaped, with everything it started.  Returns its wait status.
 */
static int attend(watch *w, struct rusage *usage)
{
    double looked = 0, sized = clock_s();
    while (!program_ended(w->pid)) {
        struct pollfd fd = {w->child.fd, POLLIN, 0};
        if (w->child.fd < 0) { /* it is about to end, or closed its socket */
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        } else {
            poll(&fd, 1, (int)(LOOK_S * 1000));
        }
        listen_to(w);
        if (clock_s() - looked >= LOOK_S) {
            looked = clock_s();
            enforce(w);
        }
        if (clock_s() - sized >= 1) {
            sized = clock_s();
            bound_output(w);
        }
    }
    listen_to(w);
    return program_reap(w->pid, usage);
}

/* ---- judging
 * -------------------------------------------------------------------------------------------- */
/* The last lines of stderr.log; NULL when there are none. */
static char *read_tail(const char *dir)
{
    enum { TAIL_BYTES = 64 << 10 };
    char *path = path_format("%s/stderr.log", dir), *text = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && (text = malloc(TAIL_BYTES + 1))) {
        off_t from = st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
        ssize_t n = pread(fd, text, TAIL_BYTES, from);
        text[n > 0 ? n : 0] = 0;
        char *begin = text + (n > 0 ? n : 0);
        int lines = 0;
        /* A last line with its newline counts once. */
        for (char *p = begin - 1; p > text; p--)
            if (p[-1] == '\n' && ++lines == TAIL_LINES) {
                memmove(text, p, (size_t)(begin - p) + 1);
                break;
            }
    }
    if (fd >= 0) close(fd);
    if (text && !*text) {
        free(text);
        text = NULL;
    }
    return text;
}

/* Who it was, "method org.example.x", and how far it had come, " in model.layers.0 (25 % done)". */
static const char *who(const watch *w)
{
    return w->agent[0] ? w->agent : "the worker";
}

static const char *how_far(const watch *w, char out[PLACE])
{
    *out = 0;
    if (w->what[0]) snprintf(out, PLACE, " in %s (%.0f %% done)", w->what, 100 * w->done);
    return out;
}

/* result.json when it is there and answers this job; else NULL and why. */
static cJSON *read_result(const watch *w, const cJSON *job, outcome_state *state, sqz_error *err)
{
    static const outcome_state reported[] = {OUTCOME_OK, OUTCOME_FAILED, OUTCOME_UNSUPPORTED,
                                             OUTCOME_CANCELLED};
    json_doc *doc = NULL;
    cJSON *result = NULL;
    char *path = path_format("%s/result.json", w->dir);
    if (json_read(path, MAX_RESULT, 0, &doc, err) == SQZ_OK) {
        const cJSON *root = json_root(doc);
        const char *word = json_str(root, "state", "");
        for (size_t i = 0; i < sizeof reported / sizeof *reported && !result; i++)
            if (!strcmp(word, outcome_name(reported[i]))) {
                *state = reported[i];
                result = cJSON_Duplicate(root, 1);
            }
        if (!result) {
            err_set(err, SQZ_E_INTERNAL, "result.json has the unknown state \"%.40s\"", word);
        } else if (strcmp(json_str(root, "schema", ""), "sqz.result/1") != 0 ||
                   strcmp(json_str(root, "job", ""), json_str(job, "job", "")) != 0) {
            err_set(err, SQZ_E_INTERNAL, "result.json answers job \"%.80s\", not \"%.80s\"",
                    json_str(root, "job", ""), json_str(job, "job", ""));
            cJSON_Delete(result);
            result = NULL;
        }
        json_free(doc);
    }
    free(path);
    return result;
}

static void conclude(worker_outcome *o, outcome_state state, sqz_status code, const char *text)
{
    o->state = state;
    o->code = code;
    snprintf(o->message, sizeof o->message, "%s", text);
}

/* We ended it: why. */
static void judge_stopped(const watch *w, worker_outcome *o)
{
    char place[PLACE], text[sizeof o->message];
    how_far(w, place);
    switch (w->cause) {
    case BY_DEADLINE:
        snprintf(text, sizeof text, "%s was stopped at its deadline of %g s%s", who(w),
                 w->limits->deadline_s, place);
        conclude(o, OUTCOME_TIMEOUT, SQZ_E_CANCELLED, text);
        return;
    case BY_MEMORY:
        snprintf(text, sizeof text,
                 "%s held %lld MiB of memory, more than its limit of %lld MiB,%s", who(w),
                 (long long)(w->peak_bytes >> 20), (long long)(w->limits->memory_bytes >> 20),
                 *place ? place : " and was stopped");
        conclude(o, OUTCOME_OOM, SQZ_E_NOMEM, text);
        return;
    case BY_PROTOCOL:
        snprintf(text, sizeof text, "%s wrote something else than messages to its parent%s", who(w),
                 place);
        conclude(o, OUTCOME_PROTOCOL, SQZ_E_INTERNAL, text);
        return;
    default:
        snprintf(text, sizeof text, "%s was cancelled%s", who(w), place);
        conclude(o, OUTCOME_CANCELLED, SQZ_E_CANCELLED, text);
    }
}

static void judge_signal(const watch *w, int number, worker_outcome *o)
{
    char place[PLACE], text[sizeof o->message];
    const char *name = sigabbrev_np(number);
    how_far(w, place);
    o->signal = number;
    if (number == SIGKILL && kernel_oom_kills() > w->oom_kills) {
        snprintf(text, sizeof text,
                 "%s was killed by the kernel because memory ran out (%lld MiB held)%s", who(w),
                 (long long)(o->peak_rss_bytes >> 20), place);
        conclude(o, OUTCOME_OOM, SQZ_E_NOMEM, text);
        return;
    }
    snprintf(text, sizeof text, "%s crashed with SIG%s (%s)%s", who(w), name ? name : "?",
             strsignal(number), place);
    conclude(o, OUTCOME_CRASHED, ERR_PLUGIN, text);
}

/* The job's own word, corrected by what we know better. */
static void judge_result(const watch *w, outcome_state state, worker_outcome *o)
{
    const cJSON *e = json_get(o->result, "error");
    sqz_status code =
        (sqz_status)json_int(e, "code", state == OUTCOME_OK ? SQZ_OK : SQZ_E_INTERNAL);
    const char *message = json_str(e, "message", outcome_name(state));
    if (state == OUTCOME_CANCELLED && w->cause != RUNNING) {
        judge_stopped(w, o);
    } else if (state == OUTCOME_CANCELLED) {
        /* Nobody asked: the child takes a lost line to its parent for the parent's end. */
        char text[sizeof o->message];
        snprintf(text, sizeof text,
                 "%s lost the line to its parent (did it close descriptors?): %s", who(w), message);
        conclude(o, OUTCOME_PROTOCOL, SQZ_E_INTERNAL, text);
    } else if (state == OUTCOME_OK) {
        conclude(o, OUTCOME_OK, SQZ_OK, "ok");
    } else {
        conclude(o, code == SQZ_E_NOMEM ? OUTCOME_OOM : state, code, message);
    }
}

static void judge(const watch *w, const cJSON *job, int wait_status, worker_outcome *o)
{
    sqz_error err = {0};
    char place[PLACE], text[sizeof o->message];
    outcome_state state = OUTCOME_PROTOCOL;
    /* A result that was written whole counts, however the process ended after it. */
    o->result = read_result(w, job, &state, &err);
    if (o->result) {
        judge_result(w, state, o);
    } else if (w->cause != RUNNING) {
        judge_stopped(w, o);
    } else if (WIFSIGNALED(wait_status)) {
        judge_signal(w, WTERMSIG(wait_status), o);
    } else if (WEXITSTATUS(wait_status) == WORKER_NO_MEMORY) {
        snprintf(text, sizeof text, "the worker ran out of memory%s; stderr.log says for what",
                 how_far(w, place));
        conclude(o, OUTCOME_OOM, SQZ_E_NOMEM, text);
    } else if (WEXITSTATUS(wait_status) == WORKER_UNWRITTEN && *w->unwritten) {
        conclude(o, OUTCOME_FAILED, ERR_STORAGE, w->unwritten); /* nobody's fault but the disk's */
    } else {
        snprintf(text, sizeof text, "%s ended with exit status %d and no valid result%s: %.400s",
                 who(w), WEXITSTATUS(wait_status), how_far(w, place), err.text);
        if (!w->greeted)
            snprintf(text, sizeof text,
                     "the worker ended with exit status %d before it began; does the program that "
                     "SQZ_EXE or /proc/self/exe names answer \"worker DIR\"?",
                     WEXITSTATUS(wait_status));
        conclude(o, OUTCOME_PROTOCOL, SQZ_E_INTERNAL, text);
    }
}

/* ---- the whole
 * ------------------------------------------------------------------------------------------ */
/* The job with the limit that it has to keep within: text, or NULL. */
static char *job_text(const cJSON *job, const worker_limits *limits)
{
    cJSON *limited = cJSON_Duplicate(job, 1);
    if (limited && limits->memory_bytes > 0)
        json_add_num(limited, "memory_limit", (double)limits->memory_bytes);
    char *text = limited ? json_text(limited, 1) : NULL;
    cJSON_Delete(limited);
    return text;
}

/* DIR with job.json, and without the remains of an earlier attempt. */
static sqz_status prepare(const cJSON *job, const worker_limits *limits, const char *dir,
                          sqz_error *err)
{
    static const char *const stale[] = {"result.json", "events.jsonl", "stderr.log", "stdout.log"};
    sqz_status status = dir_make(dir, err);
    for (size_t i = 0; i < sizeof stale / sizeof *stale && !status; i++) {
        char *path = path_format("%s/%s", dir, stale[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            status = err_set(err, ERR_STORAGE, "%s: cannot be removed: %s", path, strerror(errno));
        free(path);
    }
    if (status) return status;
    char *text = job_text(job, limits), *path = path_format("%s/job.json", dir);
    status = text ? file_write(path, text, (int64_t)strlen(text), err)
                  : err_set(err, SQZ_E_NOMEM, "%s: no memory to write it", path);
    free(text);
    free(path);
    return status;
}

void worker_run(const cJSON *job, const char *dir, const worker_limits *limits,
                const worker_hooks *hooks, worker_outcome *out)
{
    static const worker_limits no_limits = {0};
    static const worker_hooks no_hooks = {0};
    sqz_error err = {0};
    struct rusage usage = {0};
    char *full = realpath(dir, NULL);
    watch w = {.limits = limits ? limits : &no_limits,
               .hooks = hooks ? hooks : &no_hooks,
               .child = {.fd = -1},
               .start = clock_s()};
    memset(out, 0, sizeof *out);
    w.dir = full ? full : dir;
    sqz_status status = SQZ_OK;
    if (getenv("SQZ_WORKER_FD")) /* or it would start itself without end */
        status = err_set(&err, SQZ_E_INTERNAL, "a worker cannot start workers; set SQZ_EXE to sqz");
    if (!status) status = prepare(job, w.limits, w.dir, &err);
    w.oom_kills = kernel_oom_kills();
    if (!status) status = spawn(&w, &err);
    if (status) {
        conclude(out, OUTCOME_FAILED, status, err.text);
    } else {
        prefer_as_victim(&w);
        int wait_status = attend(&w, &usage);
        remove_temporary(&w);
        int64_t peak = (int64_t)usage.ru_maxrss * 1024;
        out->peak_rss_bytes = peak > w.peak_bytes ? peak : w.peak_bytes;
        judge(&w, job, wait_status, out);
        const char *store = json_str(job, "store", NULL);
        if (!out->result && store) object_forget(store, w.pid);
        out->stderr_tail = read_tail(w.dir);
    }
    out->seconds = clock_s() - w.start;
    channel_close(&w.child);
    free(w.child.bytes);
    free(full);
}
