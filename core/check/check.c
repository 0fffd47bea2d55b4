/* check.c - the parent's side of `sqz plugin check`: one child a test, and what became of it.
 *
 * A child leads its own process group, works in a folder that is removed afterwards, and is killed
 * with everything it started when its time is over.  It reports through one pipe: lines "@what it
 * tries now", at the end one line of JSON with the verdict.  Left out: what is tested (cases_*.c).
 */
#include "check/check.h"
#include "check/probe.h"
#include "host/program.h"
#include "host/scan.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_REPORT = 64 << 10 };

static const check_case *const tables[] = {
    cases_file,     cases_host,    cases_method, cases_eval, cases_search, cases_format,
    cases_hardware, cases_tracker, cases_data,   cases_age,  cases_manners};
enum { N_TABLES = sizeof tables / sizeof *tables };

static const check_case *case_at(int i)
{
    for (int t = 0; t < N_TABLES; t++)
        for (const check_case *c = tables[t]; c->stage; c++)
            if (i-- == 0) return c;
    return NULL;
}

int check_tests(void)
{
    int n = 0;
    while (case_at(n)) n++;
    return n;
}

void check_test(int i, const char **stage, const char **name, const char **kind, const char **says)
{
    const check_case *c = case_at(i);
    *stage = c->stage;
    *name = c->name;
    *kind = c->kind;
    *says = c->says;
}

/* ---- one child ------------------------------------------------------------------------------- */
typedef struct trial {
    const check_options *options;
    const char *program, *file, *work; /* work: the folder of the whole check */
    pid_t pid;
    int fd;
    char report[MAX_REPORT];
    size_t bytes;
    int timed_out, stopped, status;
    uint64_t seed;
    double seconds;
} trial;

/* HOME and TMPDIR lie inside the work folder, so that what is left there is seen; the allocator
 * counts exactly (no per-thread caches) and fills fresh memory with rubbish. */
static int spawn_with(trial *t, const char *folder, const char *const *argv, int out)
{
    char *home = path_format("HOME=%s/home", folder), *tmp = path_format("TMPDIR=%s/tmp", folder);
    char *said = path_format("%s/stdout", t->work), *cried = path_format("%s/stderr", t->work);
    const char *const environment[] = {
        home, tmp, "GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.perturb=165", NULL};
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
    program_start start = {t->program, argv, environment, {-1, -1, -1, out}, folder};
    int failure = 0;
    start.fd[1] = open(said, flags, 0600);
    start.fd[2] = open(cried, flags, 0600);
    if (start.fd[1] < 0 || start.fd[2] < 0) failure = errno;
    if (!failure) failure = program_spawn(&start, &t->pid);
    for (int i = 1; i < 3; i++)
        if (start.fd[i] >= 0) close(start.fd[i]);
    free(home);
    free(tmp);
    free(said);
    free(cried);
    return failure;
}

/* The child's own folders; the plugin may leave nothing in them. */
static sqz_status make_folders(const trial *t, char **folder, sqz_error *err)
{
    *folder = path_format("%s/run", t->work);
    char *home = path_format("%s/home", *folder), *tmp = path_format("%s/tmp", *folder);
    sqz_status s = dir_remove(*folder, err);
    if (!s) s = dir_make(home, err);
    if (!s) s = dir_make(tmp, err);
    free(home);
    free(tmp);
    return s;
}

static sqz_status start(trial *t, const check_case *c, const char *agent, sqz_error *err)
{
    int ends[2];
    char *folder, seed[32];
    const char *const argv[] = {"--check-plugin", t->file, c->name, agent, seed, NULL};
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)t->seed);
    sqz_status s = make_folders(t, &folder, err);
    if (!s && pipe2(ends, O_CLOEXEC) != 0)
        s = err_set(err, SQZ_E_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    if (!s) {
        int failure = spawn_with(t, folder, argv, ends[1]);
        close(ends[1]);
        t->fd = ends[0];
        fcntl(t->fd, F_SETFL, O_NONBLOCK);
        if (failure) {
            close(t->fd);
            s = err_set(err, SQZ_E_INTERNAL, "cannot start %s: %s", t->program, strerror(failure));
        }
    }
    free(folder);
    return s;
}

/* Takes what stands in the pipe; 0 at its end.  What is beyond the room is dropped. */
static int drain(trial *t)
{
    char chunk[4096];
    for (;;) {
        ssize_t n = read(t->fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN;
        if (n == 0) return 0;
        size_t room = sizeof t->report - 1 - t->bytes, take = (size_t)n < room ? (size_t)n : room;
        memcpy(t->report + t->bytes, chunk, take);
        t->bytes += take;
        t->report[t->bytes] = 0;
    }
}

static void collect(trial *t, double timeout_s)
{
    double begin = clock_s();
    int open = 1, ended = 0;
    while (!(ended = program_ended(t->pid)) && !t->stopped) {
        if (clock_s() - begin > timeout_s) break;
        struct pollfd p = {open ? t->fd : -1, POLLIN, 0};
        poll(&p, 1, open ? 20 : 5);
        if (open) open = drain(t);
        if (t->options->stop) t->stopped = t->options->stop(t->options->ctx);
    }
    t->timed_out = !ended && !t->stopped;
    t->status = program_reap(t->pid, NULL);
    if (open) drain(t);
    close(t->fd);
    t->seconds = clock_s() - begin;
}

/* The test in this process: folders and stdout as a child has them, put back afterwards. */
static sqz_status run_here(trial *t, const check_case *c, const char *agent, sqz_error *err)
{
    char *folder, *said = path_format("%s/stdout", t->work),
                  *path = path_format("%s/report", t->work);
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
    int was = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), out = dup(STDOUT_FILENO);
    int fd = open(said, flags, 0600), report = open(path, flags, 0600);
    double begin = clock_s();
    sqz_status s = make_folders(t, &folder, err);
    if (!s && (was < 0 || out < 0 || fd < 0 || report < 0 || chdir(folder) != 0))
        s = err_set(err, SQZ_E_INTERNAL, "%s: cannot work there: %s", folder, strerror(errno));
    if (!s) {
        fflush(stdout);
        dup2(fd, STDOUT_FILENO);
        check_here(t->file, c->name, agent, t->seed, report);
        fflush(stdout);
        dup2(out, STDOUT_FILENO);
        t->fd = open(path, O_RDONLY | O_CLOEXEC);
        drain(t);
        close(t->fd);
        t->status = t->timed_out = 0;
        t->seconds = clock_s() - begin;
        if (fchdir(was) != 0)
            s = err_set(err, SQZ_E_INTERNAL, "cannot go back: %s", strerror(errno));
    }
    close(fd);
    close(out);
    close(was);
    free(folder);
    free(said);
    free(path);
    return s;
}

/* ---- what became of it ----------------------------------------------------------------------- */
/* Cuts the report: *doing is the last "@" line, the result the line of JSON; either may be "". */
static const char *cut_report(char *report, const char **doing)
{
    const char *json = "";
    *doing = "";
    for (char *line = strtok(report, "\n"); line; line = strtok(NULL, "\n")) {
        if (*line == '@') *doing = line + 1;
        if (*line == '{') json = line;
    }
    return json;
}

/* The last line that the child wrote to stderr, printable; caller frees. */
static char *last_words(const trial *t)
{
    char *path = path_format("%s/stderr", t->work), *text = NULL;
    int64_t bytes = 0;
    if (file_read(path, 16 << 20, &text, &bytes, NULL)) text = strdup("");
    free(path);
    for (size_t n = strlen(text); n > 0 && strchr(" \r\n", text[n - 1]); n--) text[n - 1] = 0;
    char *line = strrchr(text, '\n');
    char *words = path_format("%.300s", line ? line + 1 : text);
    for (char *p = words; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) *p = ' ';
    free(text);
    return words;
}

static const char *judge(trial *t, const check_case *c, char *text, size_t size)
{
    const char *doing, *json = cut_report(t->report, &doing), *colon = *doing ? ": " : "";
    json_doc *doc = NULL;
    if (t->timed_out) {
        snprintf(text, size, "did not finish within %g s%s%s", c->timeout_s, colon, doing);
        return "timeout";
    }
    if (*json && WIFEXITED(t->status) && WEXITSTATUS(t->status) == 0 &&
        json_parse(json, (int64_t)strlen(json), 0, "verdict", &doc, NULL) == SQZ_OK) {
        static const char *const known[] = {"pass", "warn", "fail", "skip"};
        const char *word = json_str(json_root(doc), "verdict", ""), *found = "fail";
        snprintf(text, size, "%s", json_str(json_root(doc), "text", ""));
        for (int i = 0; i < 4; i++)
            if (strcmp(word, known[i]) == 0) found = known[i];
        json_free(doc);
        return found;
    }
    char *words = last_words(t);
    const char *joint = *words ? "; it said: " : "";
    if (WIFSIGNALED(t->status))
        snprintf(text, size, "%s%s%s%s%s", strsignal(WTERMSIG(t->status)), colon, doing, joint,
                 words);
    else
        snprintf(text, size, "ended the process with status %d%s%s%s%s", WEXITSTATUS(t->status),
                 colon, doing, joint, words);
    free(words);
    return "crash";
}

/* ---- the walk over tests and agents ---------------------------------------------------------- */
typedef struct walk {
    const check_options *options;
    trial *trial;
    cJSON *tests, *counts;
    int failed, ran;
    int load_lost;      /* loading itself does not survive */
    char lost[64][160]; /* agents whose ordinary use does not survive */
    int n_lost;
} walk;

static int is_lost(const walk *w, const char *agent)
{
    for (int i = 0; i < w->n_lost; i++)
        if (strcmp(w->lost[i], agent) == 0) return 1;
    return 0;
}

static void record(walk *w, const check_row *row)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "stage", row->stage);
    cJSON_AddStringToObject(o, "test", row->test);
    if (row->agent) cJSON_AddStringToObject(o, "agent", row->agent);
    cJSON_AddStringToObject(o, "verdict", row->verdict);
    cJSON_AddStringToObject(o, "text", row->text);
    json_add_num(o, "seconds", row->seconds);
    cJSON_AddItemToArray(w->tests, o);
    cJSON *count = json_get(w->counts, row->verdict);
    cJSON_SetNumberValue(count, count->valuedouble + 1);
    w->failed |= !strcmp(row->verdict, "fail") || !strcmp(row->verdict, "crash") ||
                 !strcmp(row->verdict, "timeout");
    if (w->options->done) w->options->done(w->options->ctx, row);
}

static sqz_status run_case(walk *w, const check_case *c, const char *agent, sqz_error *err)
{
    char text[1200];
    check_row row = {.stage = c->stage, .test = c->name, .agent = agent, .text = text};
    w->ran++;
    if ((w->load_lost && !(c->flags & TEST_FILE)) ||
        (agent && (c->flags & TEST_USES) && is_lost(w, agent))) {
        row.verdict = "skip";
        snprintf(text, sizeof text, "%s",
                 w->load_lost ? "the file cannot be loaded" : "one ordinary use does not survive");
        record(w, &row);
        return SQZ_OK;
    }
    trial *t = w->trial;
    t->bytes = 0;
    t->report[0] = 0;
    sqz_status s = w->options->in_process ? run_here(t, c, agent ? agent : "-", err)
                                          : start(t, c, agent ? agent : "-", err);
    if (s) return s;
    if (!w->options->in_process) collect(t, c->timeout_s);
    if (t->stopped) return err_set(err, SQZ_E_CANCELLED, "stopped in test %s", c->name);
    row.verdict = judge(t, c, text, sizeof text);
    row.seconds = t->seconds;
    if (!*text) snprintf(text, sizeof text, "%s", c->says);
    int dead = !strcmp(row.verdict, "crash") || !strcmp(row.verdict, "timeout");
    if ((c->flags & TEST_LOADS) && (dead || !strcmp(row.verdict, "fail"))) w->load_lost = 1;
    if ((c->flags & TEST_GATE) && dead && agent && w->n_lost < 64)
        snprintf(w->lost[w->n_lost++], sizeof w->lost[0], "%s", agent);
    record(w, &row);
    return SQZ_OK;
}

/* The agents as the scan described them; an empty array when it failed. */
static sqz_status run_all(walk *w, const cJSON *agents, sqz_error *err)
{
    sqz_status s = SQZ_OK;
    const char *only = w->options->only;
    const check_case *c;
    for (int i = 0; (c = case_at(i)) && !s; i++) {
        const cJSON *a;
        if (only && strcmp(only, c->name) != 0) continue;
        if (c->flags & (TEST_FILE | TEST_ONCE)) {
            s = run_case(w, c, NULL, err);
            continue;
        }
        cJSON_ArrayForEach(a, agents)
        {
            if (s || (c->kind && strcmp(c->kind, json_str(a, "kind", "")) != 0)) continue;
            s = run_case(w, c, json_str(a, "id", ""), err);
        }
    }
    return s;
}

/* With other seeds until the time is over or something is found; one row an agent. */
static sqz_status fuzz_agent(walk *w, const char *agent, sqz_error *err)
{
    static const char *const names[] = {"fuzz-inside", "works-once"};
    trial *t = w->trial;
    char text[1400], found[1200] = "";
    const char *verdict = "pass";
    double begin = clock_s();
    int64_t runs = 0;
    sqz_status s = SQZ_OK;
    for (; !s && !*found && clock_s() - begin < w->options->fuzz_s; runs++) {
        const check_case *c = NULL;
        for (int i = 0; !c || strcmp(c->name, names[runs % 2]) != 0; i++) c = case_at(i);
        t->bytes = 0;
        t->report[0] = 0;
        t->seed = w->options->seed + (uint64_t)runs + 1;
        s = w->options->in_process ? run_here(t, c, agent, err) : start(t, c, agent, err);
        if (!s && !w->options->in_process) collect(t, c->timeout_s);
        if (!s && t->stopped) s = err_set(err, SQZ_E_CANCELLED, "stopped while fuzzing");
        if (s) break;
        const char *word = judge(t, c, text, sizeof text);
        if (!strcmp(word, "pass") || !strcmp(word, "skip") || !strcmp(word, "warn")) continue;
        verdict = word;
        snprintf(found, sizeof found, "--only %s --seed %llu: %.1000s", c->name,
                 (unsigned long long)t->seed, text);
    }
    t->seed = w->options->seed;
    if (s) return s;
    snprintf(text, sizeof text, "%s%s%lld runs with other parameters and inputs", found,
             *found ? "; after " : "", (long long)runs);
    check_row row = {"fuzz", "fuzz", agent, verdict, text, clock_s() - begin};
    record(w, &row);
    return SQZ_OK;
}

static sqz_status fuzz_all(walk *w, const cJSON *agents, sqz_error *err)
{
    sqz_status s = SQZ_OK;
    const cJSON *a;
    cJSON_ArrayForEach(a, agents)
    {
        const char *id = json_str(a, "id", "");
        if (!s && w->options->fuzz_s > 0 && !w->load_lost && !is_lost(w, id))
            s = fuzz_agent(w, id, err);
    }
    return s;
}

static sqz_status check_name(const char *only, sqz_error *err)
{
    const char *names[256], *near;
    const check_case *c;
    int n = 0;
    for (int i = 0; (c = case_at(i)) && n < 256; i++) {
        if (only && !strcmp(only, c->name)) return SQZ_OK;
        names[n++] = c->name;
    }
    near = only ? json_nearest(only, names, n) : NULL;
    return only ? err_set(err, ERR_USAGE, "there is no test \"%s\"%s%s; --list shows them all",
                          only, near ? "; did you mean " : "", near ? near : "")
                : SQZ_OK;
}

static void describe_file(const char *file, cJSON *out, cJSON **agents)
{
    char digest[DIGEST_TEXT];
    cJSON *description = NULL;
    scan_fault fault;
    *agents = cJSON_AddArrayToObject(out, "agents");
    if (sha256_file(file, digest, NULL) == SQZ_OK) cJSON_AddStringToObject(out, "digest", digest);
    if (scan_file(file, 10, &description, &fault, NULL)) return;
    const cJSON *a;
    cJSON_ArrayForEach(a, json_get(description, "agents"))
    {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "id", json_str(a, "id", ""));
        cJSON_AddStringToObject(o, "kind", json_str(a, "kind", ""));
        cJSON_AddStringToObject(o, "version", json_str(a, "version", ""));
        cJSON_AddItemToArray(*agents, o);
    }
    cJSON_Delete(description);
}

sqz_status check_run(const check_options *options, cJSON *out, int *passed, sqz_error *err)
{
    static const char *const words[] = {"pass", "warn", "fail", "skip", "crash", "timeout"};
    sqz_status s = check_name(options->only, err);
    if (s) return s;
    char *file = realpath(options->file, NULL);
    const char *why = file ? "is a folder" : strerror(errno);
    char *program = program_path();
    char *work = NULL;
    trial *t = calloc(1, sizeof *t);
    if (!file || path_is_dir(file))
        s = err_set(err, ERR_USAGE, "%s: %s; give the path of a plugin's .so file", options->file,
                    why);
    else if (!program)
        s = err_set(err, SQZ_E_INTERNAL, "cannot find the sqz program: %s", strerror(errno));
    else if (!t)
        s = err_set(err, SQZ_E_NOMEM, "no memory for the checks");
    else
        s = dir_make_temporary(&work, err);
    if (!s) {
        cJSON *agents;
        walk w = {.options = options, .trial = t};
        *t = (trial){.options = options,
                     .program = program,
                     .file = file,
                     .work = work,
                     .seed = options->seed};
        cJSON_AddStringToObject(out, "schema", "sqz.check/1");
        cJSON_AddStringToObject(out, "file", file);
        describe_file(file, out, &agents);
        w.counts = cJSON_AddObjectToObject(out, "counts");
        for (int i = 0; i < 6; i++) cJSON_AddNumberToObject(w.counts, words[i], 0);
        w.tests = cJSON_AddArrayToObject(out, "tests");
        s = run_all(&w, agents, err);
        if (!s) s = fuzz_all(&w, agents, err);
        if (!s && !w.ran)
            s = err_set(err, ERR_USAGE, "%s: test %s is for agents of another kind", options->file,
                        options->only);
        *passed = !s && !w.failed;
        cJSON_AddBoolToObject(out, "passed", *passed);
        dir_remove(work, NULL);
    }
    free(t);
    free(work);
    free(program);
    free(file);
    return s;
}
