/* test_worker.c - one child process a job: every outcome, its sentence, and that nothing is left
 * behind. */
#include "io/file.h"
#include "worker/worker.h"
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *work;

static void setup(void)
{
    char name[] = "/tmp/sqz-worker-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(name));
    work = path_format("%s", name);
    setenv("SQZ_EXE", SQZ_DOUBLE, 1);
    setenv("ASAN_OPTIONS", "handle_segv=0:handle_sigbus=0:handle_abort=0:detect_leaks=0", 1);
}

static void teardown(void)
{
    /* Every child was reaped by worker_run. */
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    dir_remove(work, NULL);
    free(work);
}

static cJSON *job_new(const char *behave)
{
    cJSON *job = cJSON_CreateObject();
    cJSON_AddStringToObject(job, "schema", "sqz.job/1");
    cJSON_AddStringToObject(job, "job", "trial-7");
    cJSON_AddStringToObject(job, "behave", behave);
    return job;
}

/* Runs a job whose child behaves as asked; result and tail are freed at the end of each test. */
static worker_outcome run_job(cJSON *job, worker_limits limits, const worker_hooks *hooks)
{
    worker_outcome o;
    char *dir = path_format("%s/attempt", work);
    worker_run(job, dir, &limits, hooks, &o);
    cJSON_Delete(job);
    free(dir);
    ck_assert_int_ge(o.peak_rss_bytes, 0);
    return o;
}

static worker_outcome run(const char *behave)
{
    return run_job(job_new(behave), (worker_limits){.deadline_s = 60}, NULL);
}

#define says(text, part)                                                                           \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

/* ---- the eight outcomes
 * --------------------------------------------------------------------------------- */
typedef struct heard {
    int progress, logs, cancel_after; /* cancel once a progress came, with this strength */
    char what[64], log[64];
} heard;

static void on_progress(void *ctx, double done, const char *what)
{
    heard *h = ctx;
    (void)done;
    h->progress++;
    snprintf(h->what, sizeof h->what, "%s", what);
}

static void on_log(void *ctx, int level, const char *text)
{
    heard *h = ctx;
    ck_assert_int_eq(level, SQZ_LOG_WARN);
    h->logs++;
    snprintf(h->log, sizeof h->log, "%s", text);
}

static int on_cancel(void *ctx)
{
    heard *h = ctx;
    return h->progress > 0 ? h->cancel_after : 0;
}

START_TEST(ok_brings_result_progress_log_and_tail)
{
    heard h = {0};
    worker_hooks hooks = {on_progress, on_log, on_cancel, &h};
    worker_outcome o = run_job(job_new("ok"), (worker_limits){0}, &hooks);
    ck_assert_msg(o.state == OUTCOME_OK, "%s", o.message);
    ck_assert_str_eq(json_str(o.result, "state", ""), "ok");
    ck_assert_str_eq(json_str(o.result, "job", ""), "trial-7");
    ck_assert_int_gt(o.peak_rss_bytes, 100000);
    ck_assert_int_eq(h.progress, 1);
    ck_assert_str_eq(h.what, "half");
    ck_assert_int_eq(h.logs, 1);
    ck_assert_str_eq(h.log, "a warning");
    /* 60 lines went to stderr, at the end the plugin's print; the last 50 are kept. */
    int lines = 0;
    for (const char *p = o.stderr_tail; *p; p++) lines += *p == '\n';
    ck_assert_int_eq(lines, 50);
    ck_assert_msg(strncmp(o.stderr_tail, "line 12\n", 8) == 0, "%s", o.stderr_tail);
    ck_assert_ptr_nonnull(strstr(o.stderr_tail, "line 60\na plugin prints\n"));
    char *events = path_format("%s/attempt/events.jsonl", work), *text;
    int64_t bytes;
    ck_assert_int_eq(file_read(events, 1 << 20, &text, &bytes, NULL), SQZ_OK);
    says(text, "\"type\":\"progress\"");
    says(text, "\"what\":\"half\"");
    says(text, "\"text\":\"a warning\"");
    free(text);
    free(events);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(failed_and_unsupported_carry_the_jobs_words)
{
    worker_outcome o = run("failed");
    ck_assert_int_eq(o.state, OUTCOME_FAILED);
    ck_assert_int_eq(o.code, SQZ_E_NUMERIC);
    ck_assert_str_eq(o.message, "layer 3 diverged");
    worker_outcome_free(&o);
    o = run("unsupported");
    ck_assert_int_eq(o.state, OUTCOME_UNSUPPORTED);
    ck_assert_str_eq(o.message, "no such layers");
    worker_outcome_free(&o);
}
END_TEST

START_TEST(cancelled_kindly)
{
    heard h = {.cancel_after = 1};
    worker_hooks hooks = {on_progress, NULL, on_cancel, &h};
    worker_outcome o = run_job(job_new("wait"), (worker_limits){0}, &hooks);
    ck_assert_int_eq(o.state, OUTCOME_CANCELLED);
    ck_assert_str_eq(json_str(o.result, "state", ""), "cancelled"); /* it wrote its own end */
    says(o.message, "was cancelled in waiting");
    ck_assert(o.seconds < 4);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(cancelled_at_once)
{
    heard h = {.cancel_after = 2};
    worker_hooks hooks = {on_progress, NULL, on_cancel, &h};
    worker_outcome o = run_job(job_new("deaf"), (worker_limits){0}, &hooks);
    ck_assert_int_eq(o.state, OUTCOME_CANCELLED);
    ck_assert_ptr_null(o.result);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(timeout_of_a_job_that_listens)
{
    worker_outcome o = run_job(job_new("wait"), (worker_limits){.deadline_s = 0.5}, NULL);
    ck_assert_int_eq(o.state, OUTCOME_TIMEOUT);
    says(o.message, "was stopped at its deadline of 0.5 s in waiting");
    ck_assert(o.seconds < 4);
    worker_outcome_free(&o);
}
END_TEST

/* Hears neither the request nor SIGTERM: 5 s of grace, 2 s more, SIGKILL. */
START_TEST(timeout_of_a_deaf_job_escalates)
{
    worker_outcome o = run_job(job_new("deaf"), (worker_limits){.deadline_s = 0.3}, NULL);
    ck_assert_int_eq(o.state, OUTCOME_TIMEOUT);
    says(o.message, "deadline of 0.3 s in deaf now");
    ck_assert(o.seconds >= 7.2);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(crash_names_the_signal_and_keeps_stderr)
{
    worker_outcome o = run("abort");
    ck_assert_int_eq(o.state, OUTCOME_CRASHED);
    ck_assert_int_eq(o.signal, SIGABRT);
    says(o.message, "crashed with SIGABRT (Aborted)");
    says(o.stderr_tail, "about to abort");
    ck_assert_ptr_null(o.result);
    worker_outcome_free(&o);
}
END_TEST

static worker_outcome run_agent(const char *name, worker_limits limits)
{
    cJSON *job = job_new("agent");
    char *plugin = path_format("%s/%s.so", BAD_DIR, name);
    cJSON_AddStringToObject(job, "plugin", plugin);
    cJSON_AddStringToObject(job, "use", name);
    free(plugin);
    return run_job(job, limits, NULL);
}

/* A real plugin, found, described, loaded and called as any other. */
START_TEST(segfault_of_a_plugin_names_plugin_and_layer)
{
    worker_outcome o = run_agent("segv", (worker_limits){.deadline_s = 60});
    ck_assert_msg(o.state == OUTCOME_CRASHED, "%s: %s", outcome_name(o.state), o.message);
    ck_assert_int_eq(o.signal, SIGSEGV);
    ck_assert_str_eq(o.message, "bad org.example.segv crashed with SIGSEGV (Segmentation fault) in "
                                "model.layers.0.self_attn.q_proj (25 % done)");
    worker_outcome_free(&o);
}
END_TEST

START_TEST(hang_of_a_plugin_ends_at_its_deadline)
{
    worker_outcome o = run_agent("hang", (worker_limits){.deadline_s = 1});
    ck_assert_int_eq(o.state, OUTCOME_TIMEOUT);
    says(o.message, "bad org.example.hang was stopped at its deadline of 1 s in about to hang");
    worker_outcome_free(&o);
}
END_TEST

START_TEST(memory_of_a_plugin_is_bounded)
{
    const int64_t limit = 400 << 20;
    worker_outcome o = run_agent("oom", (worker_limits){.deadline_s = 60, .memory_bytes = limit});
    ck_assert_msg(o.state == OUTCOME_OOM, "%s: %s", outcome_name(o.state), o.message);
    ck_assert_int_eq(o.code, SQZ_E_NOMEM);
    says(o.message, "org.example.oom");
    says(o.message, "more than its limit of 400 MiB");
    ck_assert_int_gt(o.peak_rss_bytes, limit);
    ck_assert_int_lt(o.peak_rss_bytes, 4 * limit);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(a_refused_allocation_is_oom_too)
{
    worker_outcome o = run("nomem");
    ck_assert_int_eq(o.state, OUTCOME_OOM);
    ck_assert_str_eq(o.message, "no memory for statistics");
    worker_outcome_free(&o);
}
END_TEST

/* RLIMIT_DATA stops what the watch on resident memory cannot see. */
START_TEST(a_huge_reservation_is_refused_under_a_limit)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    worker_outcome o = run("reserve");
    ck_assert_msg(o.state == OUTCOME_OK, "%s", o.message);
    worker_outcome_free(&o);
    o = run_job(job_new("reserve"), (worker_limits){.memory_bytes = 400 << 20}, NULL);
    ck_assert_int_eq(o.state, OUTCOME_OOM);
    ck_assert_str_eq(o.message, "3 GiB were refused");
    worker_outcome_free(&o);
#endif
}
END_TEST

START_TEST(protocol_an_exit_without_result)
{
    worker_outcome o = run("exit");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    says(o.message, "ended with exit status 3 and no valid result");
    worker_outcome_free(&o);
    o = run("exit_well");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    says(o.message, "exit status 0");
    worker_outcome_free(&o);
}
END_TEST

START_TEST(protocol_a_result_of_another_job)
{
    worker_outcome o = run("lie");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    says(o.message, "answers job \"other\", not \"trial-7\"");
    ck_assert_ptr_null(o.result);
    worker_outcome_free(&o);
}
END_TEST

START_TEST(protocol_rubbish_on_the_socket)
{
    worker_outcome o = run("babble");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    says(o.message, "something else than messages");
    worker_outcome_free(&o);
}
END_TEST

START_TEST(protocol_a_program_that_is_no_worker)
{
    setenv("SQZ_EXE", "/bin/true", 1);
    worker_outcome o = run("ok");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    says(o.message, "before it began");
    worker_outcome_free(&o);
    setenv("SQZ_EXE", "/nonexistent/sqz", 1);
    o = run("ok");
    ck_assert_int_eq(o.state, OUTCOME_FAILED);
    worker_outcome_free(&o);
}
END_TEST

/* ---- nothing left behind
 * ---------------------------------------------------------------------------------- */
static int runs(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    fclose(f);
    return state && state != 'Z'; /* a zombie waits for whoever inherited it */
}

static pid_t read_pid(const char *name)
{
    char *path = path_format("%s/attempt/%s", work, name), *text = NULL;
    int64_t bytes;
    pid_t pid = 0;
    for (int i = 0; i < 500 && !text; i++) {
        if (file_read(path, 100, &text, &bytes, NULL) != SQZ_OK)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (text) pid = atoi(text);
    free(text);
    free(path);
    return pid;
}

static int gone_within(pid_t pid, int ms)
{
    for (int i = 0; i < ms / 10 && runs(pid); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return !runs(pid);
}

START_TEST(processes_that_a_job_started_die_with_it)
{
    static const char *const ends[] = {"ok", "exit", "abort"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        cJSON *job = job_new(ends[i]);
        cJSON_AddBoolToObject(job, "orphan", 1);
        worker_outcome o = run_job(job, (worker_limits){.deadline_s = 60}, NULL);
        pid_t pid = read_pid("orphan");
        ck_assert_int_gt(pid, 1);
        ck_assert_msg(gone_within(pid, 3000), "process %d outlived \"%s\"", (int)pid, ends[i]);
        worker_outcome_free(&o);
    }
}
END_TEST

/* A parent that dies, however suddenly, takes its worker along. */
START_TEST(worker_dies_with_its_parent)
{
    pid_t parent = fork();
    if (parent == 0) {
        worker_outcome o = run("deaf");
        worker_outcome_free(&o);
        _exit(0);
    }
    char *events = path_format("%s/attempt/events.jsonl", work);
    for (int i = 0; i < 500 && !path_exists(events); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    ck_assert(path_exists(events));
    /* Its child is the process whose parent is `parent`. */
    char path[64];
    int child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%d", &child) != 1) child = 0;
        fclose(f);
    }
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    if (child > 0)
        ck_assert_msg(gone_within(child, 3000), "worker %d outlived its parent", child);
    else
        printf("skipped: this kernel does not list children in /proc\n");
    free(events);
}
END_TEST

/* An earlier attempt's result in the same folder must not be taken for this one's. */
START_TEST(stale_results_are_removed)
{
    worker_outcome o = run("ok");
    ck_assert_int_eq(o.state, OUTCOME_OK);
    worker_outcome_free(&o);
    o = run("exit_well");
    ck_assert_int_eq(o.state, OUTCOME_PROTOCOL);
    worker_outcome_free(&o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, ok_brings_result_progress_log_and_tail);
    tcase_add_test(t, failed_and_unsupported_carry_the_jobs_words);
    tcase_add_test(t, cancelled_kindly);
    tcase_add_test(t, cancelled_at_once);
    tcase_add_test(t, timeout_of_a_job_that_listens);
    tcase_add_test(t, timeout_of_a_deaf_job_escalates);
    tcase_add_test(t, crash_names_the_signal_and_keeps_stderr);
    tcase_add_test(t, segfault_of_a_plugin_names_plugin_and_layer);
    tcase_add_test(t, hang_of_a_plugin_ends_at_its_deadline);
    tcase_add_test(t, memory_of_a_plugin_is_bounded);
    tcase_add_test(t, a_refused_allocation_is_oom_too);
    tcase_add_test(t, a_huge_reservation_is_refused_under_a_limit);
    tcase_add_test(t, protocol_an_exit_without_result);
    tcase_add_test(t, protocol_a_result_of_another_job);
    tcase_add_test(t, protocol_rubbish_on_the_socket);
    tcase_add_test(t, protocol_a_program_that_is_no_worker);
    tcase_add_test(t, processes_that_a_job_started_die_with_it);
    tcase_add_test(t, worker_dies_with_its_parent);
    tcase_add_test(t, stale_results_are_removed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
