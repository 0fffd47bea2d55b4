/* test_tracker.c - spool, HTTP service, delivery and the two trackers, against a server that fails
 * in every way (http_double.h).
 *
 * The main check: whatever went wrong meanwhile, the server ends up with exactly what it has after
 * an undisturbed delivery. */
#include "check/failing.h"
#include "host/services.h"
#include "http_double.h"
#include "io/file.h"
#include "scratch.h"
#include "tracker/events.h"
#include "tracker/spool.h"
#include "tracker/tracking.h"
#include "journal.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

static const char SECRET[] = "Bearer sesame-3f9a1c";
static catalogue *plugins;

static void make_all(void)
{
    static const char *const paths[] = {SQZ_PLUGIN_DIR "/tracker_mlflow.so",
                                        SQZ_PLUGIN_DIR "/tracker_jsonl.so"};
    catalogue_options o = {.paths = paths, .n_paths = 2, .only_paths = 1};
    sqz_error err = {0};
    scratch_make();
    static const char *const unset[] = {"http_proxy", "MLFLOW_TRACKING_URI", "SQZ_OFFLINE",
                                        "MLFLOW_TRACKING_USERNAME", "MLFLOW_EXPERIMENT_NAME"};
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++) unsetenv(unset[i]);
    setenv("MLFLOW_TRACKING_TOKEN", SECRET + 7, 1);
    setenv("HOME", scratch, 1);
    ck_assert_msg(!catalogue_open(&o, &plugins, &err), "%s", err.text);
    ck_assert_int_eq(catalogue_count(plugins), 2);
}

static void remove_all(void)
{
    catalogue_close(plugins);
    scratch_remove();
}

/* ---- a run folder ---------------------------------------------------------------------------- */
enum { N_TRIALS = 4 };

/* Names as hostile as users and data sets can make them. */
static char *trial_text(int i)
{
    return path_format(
        "{\"strategy_id\":\"s%04d\",\"label\":\"<b>x</b> '%d' \\\\ | "
        "\\u0007\",\"index\":%d,\"kind\":"
        "\"search\",\"proposed_by\":\"org.example.s\",\"why\":\"<script>alert(1)</script> [a](b)\","
        "\"steps\":[{\"use\":\"org.example.m\",\"with\":{\"bits\":%d,\"damp\":0.01},\"origin\":{"
        "\"bits\":\"search\",\"damp\":\"default\"}}],\"outcome\":\"%s\",\"feasible\":true,"
        "\"front\":"
        "true,\"artifact\":\"sha256:00\",\"seconds\":1.5,\"metrics\":{\"quality\":%.17g,\"bytes\":%"
        "d,"
        "\"valid\":true},\"rungs\":{\"proxy\":{\"results\":{\"../a,b//"
        "c\":{\"acc,none\":0.5,\"n\":9}}},"
        "\"full\":{\"results\":{\"../a,b//c\":{\"acc,none\":0.75}}}},\"objectives\":[null,%d]}",
        i, i, i, i + 1, i == 2 ? "crashed" : "ok", 1.0 / (3 + i), 1000 - i, 1000 - i);
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char *path = path_format("%s/%s", dir, name);
    sqz_error err = {0};
    ck_assert_msg(!file_write(path, text, (int64_t)strlen(text), &err), "%s", err.text);
    free(path);
}

static char *make_run(const char *name)
{
    char *dir = path_format("%s/%s", scratch, name), *model = path_format("%s/models/s0001", dir),
         *lines = NULL, *path = path_format("%s/journal.jsonl", dir);
    size_t n;
    journal *j;
    ck_assert_int_eq(dir_make(model, NULL), 0);
    put_file(
        dir, "run.json",
        "{\"schema\":\"sqz.run/1\",\"id\":\"it's a run\",\"state\":\"done\",\"started\":"
        "\"2026-01-02T03:04:05Z\",\"model\":\"/m/tiny\",\"seed\":3,\"versions\":{\"sqz\":\"9\"},"
        "\"config_full\":{\"dataset\":[{\"source\":\"/d/test.jsonl\"}]},\"spec\":{\"objectives\":"
        "{\"value\":[\"quality\",\"bytes\"]}}}\n");
    put_file(
        dir, "pareto.json",
        "{\"objectives\":[{\"name\":\"quality\",\"direction\":\"maximize\"},{\"name\":\"bytes\","
        "\"direction\":\"minimize\"}],\"reference\":[1,2],\"hypervolume\":5,\"members\":[{"
        "\"strategy_id\":\"s0001\",\"label\":\"one\",\"reward\":1,\"objectives\":[0.25,999],"
        "\"metrics\":{},\"path\":\"models/s0001\",\"artifact\":\"sha256:00\"}]}\n");
    FILE *f = open_memstream(&lines, &n);
    for (int i = 1; i <= N_TRIALS; i++) {
        char *t = trial_text(i);
        fprintf(f, "%s\n", t);
        free(t);
    }
    fclose(f);
    put_file(dir, "trials.jsonl", lines);
    put_file(dir, "report.md", "# report\n");
    put_file(model, "config.json", "{}");
    put_file(model, "model.safetensors", "weights");
    ck_assert_int_eq(journal_open(path, &j, NULL, NULL), 0);
    ck_assert_int_eq(journal_append(j, cJSON_Parse("{\"type\":\"open\"}"), NULL), 0);
    journal_close(j);
    free(lines);
    free(model);
    free(path);
    return dir;
}

/* ---- delivering ------------------------------------------------------------------------------ */
static char logged[1 << 16];

static void on_log(void *ctx, int level, const char *text)
{
    (void)ctx;
    (void)level;
    size_t n = strlen(logged);
    snprintf(logged + n, sizeof logged - n, "%s\n", text);
}

static tracking *start(const char *dir, const cJSON *trackers)
{
    tracking *t = NULL;
    sqz_error err = {0};
    tracking_options o = {plugins, dir, trackers, on_log, NULL, 0.01, 0};
    logged[0] = 0;
    sqz_status s = tracking_open(&o, &t, &err);
    ck_assert_msg(s == SQZ_OK, "%s", err.text);
    return t;
}

static cJSON *mlflow_at(const http_double *d, double timeout_s)
{
    cJSON *list = cJSON_CreateArray(), *one = cJSON_CreateObject(), *with;
    char uri[64];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%d", d->port);
    cJSON_AddItemToArray(list, one);
    cJSON_AddStringToObject(one, "use", "mlflow");
    with = cJSON_AddObjectToObject(one, "with");
    cJSON_AddStringToObject(with, "uri", uri);
    cJSON_AddNumberToObject(with, "timeout", timeout_s);
    return list;
}

/* A run's events as its thread tells them, then what the folder adds. */
static void tell_run(tracking *t)
{
    for (int i = 1; i <= N_TRIALS; i++) {
        char *text = trial_text(i);
        cJSON *trial = cJSON_Parse(text);
        run_event e = {.kind = RUN_EVENT_TRIAL_PROPOSED, .detail = trial, .trials = i - 1};
        tracking_observe(t, &e);
        e.kind = RUN_EVENT_TRIAL_PROGRESS;
        tracking_observe(t, &e);
        e.kind = RUN_EVENT_TRIAL_FINISHED;
        e.trials = i;
        e.hypervolume = 0.125 * i;
        e.elapsed_s = i;
        tracking_observe(t, &e);
        cJSON_Delete(trial);
        free(text);
    }
}

/* Everything the server knows but times, in one text. */
static char *known(http_double *d)
{
    pthread_mutex_lock(&d->lock);
    cJSON *copy = cJSON_Duplicate(d->state, 1), *run, *metric;
    pthread_mutex_unlock(&d->lock);
    cJSON_ArrayForEach(run, json_get(copy, "runs"))
        cJSON_ArrayForEach(metric, json_get(run, "metrics"))
    {
        char *last = strrchr(metric->string, '|'), *time = NULL;
        for (char *p = metric->string; p < last; p++)
            if (*p == '|') time = p;
        memset(time + 1, '-', (size_t)(last - time - 1));
    }
    char *text = json_canonical(copy);
    cJSON_Delete(copy);
    return text;
}

static void drain(tracking *t, int max_failures)
{
    tracking_wait w = {.total_s = 30, .max_failures = max_failures};
    tracking_drain(t, &w);
}

/* What the server knows after a delivery without faults. */
static char *undisturbed(void)
{
    http_double d = {.authorization = SECRET};
    double_start(&d, 0);
    char *dir = make_run("plain");
    cJSON *trackers = mlflow_at(&d, 30);
    tracking *t = start(dir, trackers);
    tell_run(t);
    tracking_add_folder(t, 1);
    drain(t, 3);
    ck_assert_msg(tracking_undelivered(t) == 0, "%s", logged);
    cJSON *status = tracking_status(t);
    ck_assert_msg(json_int(cJSON_GetArrayItem(status, 0), "rejected", 9) == 0, "%s", logged);
    cJSON_Delete(status);
    tracking_close(t);
    cJSON_Delete(trackers);
    ck_assert_int_eq(dir_remove(dir, NULL), 0);
    free(dir);
    double_stop(&d);
    ck_assert_int_eq(atomic_load(&d.bad), 0);
    char *text = known(&d);
    cJSON_Delete(d.state);
    return text;
}

static cJSON *run_of(const cJSON *state, const char *trial)
{
    cJSON *run;
    cJSON_ArrayForEach(run, json_get(state, "runs"))
    {
        const char *key = json_str(json_get(run, "tags"), "sqz.key", ""), *end = strrchr(key, '/');
        if (end && !strcmp(end + 1, trial)) return run;
    }
    ck_abort_msg("no run of %s", trial);
    return NULL;
}

START_TEST(study_on_the_server)
{
    char *text = undisturbed();
    cJSON *state = cJSON_Parse(text);
    ck_assert_str_eq(json_str(state, "experiment", ""), "tiny on test");
    ck_assert_int_eq(cJSON_GetArraySize(json_get(state, "runs")), N_TRIALS + 1);
    const cJSON *study = run_of(state, "study"), *one = run_of(state, "s0001"),
                *two = run_of(state, "s0002");
    ck_assert_str_eq(json_str(study, "status", ""), "FINISHED");
    ck_assert_str_eq(json_str(two, "status", ""), "FAILED");
    ck_assert_str_eq(json_str(json_get(two, "tags"), "sqz.pareto", ""), "true");
    ck_assert_str_eq(json_str(json_get(one, "params"), "bits", ""), "2");
    ck_assert_ptr_null(json_get(json_get(one, "params"), "damp")); /* does not vary */
    ck_assert_str_eq(json_str(json_get(one, "tags"), "sqz.nonfinite", ""), "[\"quality\"]");
    ck_assert_ptr_nonnull(json_str(json_get(one, "tags"), "mlflow.parentRunId", NULL));
    /* nothing that a page would execute */
    ck_assert_ptr_null(strstr(json_str(json_get(one, "tags"), "mlflow.note.content", "<"), "<"));
    ck_assert_ptr_nonnull(
        json_get(json_get(one, "metrics"), "__/a_b/c/acc_none|1|-------------|0.75"));
    ck_assert_ptr_nonnull(
        json_get(json_get(study, "metrics"), "hypervolume|3|-------------|0.375"));
    ck_assert_ptr_nonnull(json_get(json_get(state, "models"), "tiny-sqz"));
    ck_assert_int_eq(cJSON_GetArraySize(json_get(json_get(state, "models"), "tiny-sqz")), 1);
    ck_assert_int_ge(cJSON_GetArraySize(json_get(state, "files")), 6);
    cJSON_Delete(state);
    free(text);
}
END_TEST

/* Each fault hits every request in turn, several times over. */
START_TEST(faults_change_nothing)
{
    char *right = undisturbed();
    for (int f = FAULT_NONE + 1; f < FAULT_COUNT; f++) {
        if (f == FAULT_SLOW) continue; /* below */
        http_double d = {.authorization = SECRET};
        double_start(&d, 0);
        char *dir = make_run("faulty");
        cJSON *trackers = mlflow_at(&d, 30);
        double_fault(&d, (fault)f, 1);
        tracking *t = start(dir, trackers);
        tell_run(t);
        tracking_add_folder(t, 1);
        for (int n = 0; n < 20000 && !atomic_load(&d.requests); n++) usleep(1000);
        int times = f == FAULT_429 ? 1 : 8; /* that one asks for a second each time */
        for (int i = 0; i < times && tracking_undelivered(t) > 0; i++) {
            double_fault(&d, (fault)f, 1);
            int before = atomic_load(&d.requests);
            for (int n = 0; n < 2000 && atomic_load(&d.requests) < before + 1 + i; n++)
                usleep(1000);
        }
        double_fault(&d, FAULT_NONE, 0);
        drain(t, 1000);
        ck_assert_msg(tracking_undelivered(t) == 0, "fault %d: %s", f, logged);
        ck_assert_msg(f != FAULT_REDIRECT || strstr(logged, "redirect"), "%s", logged);
        ck_assert_msg(f != FAULT_REFUSED || strstr(logged, "MLFLOW_TRACKING_TOKEN"), "%s", logged);
        ck_assert_ptr_null(strstr(logged, "sesame"));
        tracking_close(t);
        double_stop(&d);
        char *now = known(&d);
        ck_assert_msg(!strcmp(now, right), "fault %d:\n%s\n%s", f, now, right);
        ck_assert_int_eq(atomic_load(&d.bad), 0);
        cJSON_Delete(d.state);
        cJSON_Delete(trackers);
        ck_assert_int_eq(dir_remove(dir, NULL), 0);
        free(now);
        free(dir);
    }
    free(right);
}
END_TEST

/* Down or silent, the run ends all the same; the next session delivers. */
START_TEST(down_then_synced)
{
    char *right = undisturbed();
    for (int silent = 0; silent < 2; silent++) {
        http_double d = {.authorization = SECRET};
        double_start(&d, 0);
        char *dir = make_run("down");
        cJSON *trackers = mlflow_at(&d, 600);
        if (silent)
            double_fault(&d, FAULT_SLOW, -1);
        else
            double_stop(&d);
        tracking *t = start(dir, trackers);
        tell_run(t);
        tracking_finish(t, 200);
        ck_assert_int_gt(tracking_undelivered(t), 10);
        ck_assert_msg(strstr(logged, "sqz sync"), "%s", logged);
        tracking_close(t); /* gives up the request under way */
        double_fault(&d, FAULT_NONE, 0);
        if (!silent) double_start(&d, d.port);
        t = start(dir, NULL);
        tracking_add_folder(t, 1);
        drain(t, 5);
        ck_assert_msg(tracking_undelivered(t) == 0, "%s", logged);
        tracking_close(t);
        double_stop(&d);
        char *now = known(&d);
        ck_assert_msg(!strcmp(now, right), "\n%s\n%s", now, right);
        cJSON_Delete(d.state);
        cJSON_Delete(trackers);
        ck_assert_int_eq(dir_remove(dir, NULL), 0);
        free(now);
        free(dir);
    }
    free(right);
}
END_TEST

/* ---- the program, killed --------------------------------------------------------------------- */
static pid_t spawn_sync(const char *dir)
{
    const char *exe = getenv("SQZ_EXE");
    char *argv[] = {(char *)(exe ? exe : SQZ_BUILD_DIR "/bin/sqz"),
                    "sync",
                    (char *)dir,
                    "--quiet",
                    "--plugin-path",
                    SQZ_PLUGIN_DIR,
                    NULL};
    posix_spawn_file_actions_t files;
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    ck_assert_int_eq(posix_spawn(&pid, argv[0], &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

/* `sqz sync` dies at the n-th request, acted on or not; the next one finishes. */
START_TEST(killed_then_synced)
{
    char *right = undisturbed();
    int requests = 1;
    for (int n = 1; n < requests + 6; n += 3) {
        http_double d = {.authorization = SECRET};
        int status = 0;
        double_start(&d, 0);
        char *dir = make_run("killed");
        double_stop(&d); /* down: everything stays in the spool */
        cJSON *trackers = mlflow_at(&d, 30);
        tracking *t = start(dir, trackers);
        tell_run(t);
        tracking_finish(t, 200);
        tracking_close(t);
        atomic_store(&d.kill_at, 1 << 30);
        pthread_mutex_lock(&d.lock); /* no request is served before it is known whom to kill */
        double_start(&d, d.port);
        pid_t pid = spawn_sync(dir);
        atomic_store(&d.kill_pid, pid);
        atomic_store(&d.kill_at, n);
        pthread_mutex_unlock(&d.lock);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSIGNALED(status) || n + 2 > requests || requests == 1, "%d", n);
        atomic_store(&d.kill_at, 0);
        pid = spawn_sync(dir);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
        double_stop(&d);
        if (requests == 1) requests = atomic_load(&d.requests);
        char *now = known(&d);
        ck_assert_msg(!strcmp(now, right), "killed at request %d:\n%s\n%s", n, now, right);
        cJSON_Delete(d.state);
        cJSON_Delete(trackers);
        ck_assert_int_eq(dir_remove(dir, NULL), 0);
        free(now);
        free(dir);
    }
    free(right);
}
END_TEST

/* ---- secrets --------------------------------------------------------------------------------- */
static void search_tree(const char *dir, const char *text)
{
    char *command = path_format("grep -r -q -- '%s' '%s'", text, dir);
    int rc = system(command);
    ck_assert_msg(WIFEXITED(rc) && WEXITSTATUS(rc) == 1, "%s is in %s", text, dir);
    free(command);
}

START_TEST(secrets_stay_out)
{
    http_double d = {0};
    sqz_error err = {0};
    double_start(&d, 0);
    double_fault(&d, FAULT_REFUSED, -1);
    char *dir = make_run("secret");
    cJSON *trackers = mlflow_at(&d, 5), *with = json_get(trackers->child, "with");
    ck_assert_int_eq(tracking_check(trackers, plugins, &err), SQZ_OK);
    tracking *t = start(dir, trackers);
    tell_run(t);
    tracking_finish(t, 200);
    cJSON *status = tracking_status(t);
    char *text = json_text(status, 0);
    ck_assert_ptr_null(strstr(text, "sesame"));
    ck_assert_ptr_null(strstr(logged, "sesame"));
    tracking_close(t);
    search_tree(dir, "sesame");
    cJSON_DeleteItemFromObject(with, "uri");
    cJSON_AddStringToObject(with, "uri", "http://me:sesame@127.0.0.1:5000");
    ck_assert_int_eq(tracking_check(trackers, plugins, &err), ERR_USAGE);
    ck_assert_ptr_null(strstr(err.text, "sesame"));
    free(text);
    cJSON_Delete(status);
    cJSON_Delete(trackers);
    free(dir);
    double_stop(&d);
    cJSON_Delete(d.state);
}
END_TEST

/* ---- the HTTP service ------------------------------------------------------------------------ */
static int stop_now;

static int on_tick(void *ctx, double done, const char *what)
{
    (void)ctx;
    (void)done;
    (void)what;
    return stop_now;
}

static sqz_status ask(host_seat *seat, const char *url, double timeout_s, int64_t max,
                      sqz_http_response *a)
{
    static const char *const headers[] = {"Authorization: Bearer sesame", NULL};
    const sqz_http *http = seat->table.service(&seat->table, SQZ_HTTP_1);
    sqz_http_request r = {.struct_size = sizeof r,
                          .method = "GET",
                          .url = url,
                          .headers = headers,
                          .timeout_s = timeout_s,
                          .max_bytes = max};
    *a = (sqz_http_response){.struct_size = sizeof *a};
    seat->text[0] = 0;
    sqz_status s = http->request(&seat->table, &r, a);
    ck_assert_ptr_null(strstr(seat->text, "sesame"));
    return s;
}

START_TEST(http_service)
{
    http_double d = {0};
    host_hooks hooks = {NULL, on_tick, NULL};
    agent_info info = {.id = "org.example.t", .kind = "tracker/1"};
    host_seat seat;
    sqz_http_response a;
    char url[200];
    double_start(&d, 0);
    host *h = host_new(&hooks);
    seat_init(&seat, h, &info);
    const sqz_http *http = seat.table.service(&seat.table, SQZ_HTTP_1);
#define URL(path) (snprintf(url, sizeof url, "http://127.0.0.1:%d%s", d.port, path), url)
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_OK);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(a.body, "{\"here\":1}");
    http->release(&seat.table, &a);
    ck_assert_int_eq(ask(&seat, URL("/moved"), 5, 0, &a), SQZ_OK); /* same host: followed */
    ck_assert_str_eq(a.body, "{\"here\":1}");
    http->release(&seat.table, &a);
    ck_assert_int_eq(ask(&seat, URL("/long"), 5, 20, &a), SQZ_E_IO);
    ck_assert_msg(strstr(seat.text, "longer than 20"), "%s", seat.text);
    double_fault(&d, FAULT_REDIRECT, 1);
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_E_IO);
    ck_assert_msg(strstr(seat.text, "another host"), "%s", seat.text);
    double_fault(&d, FAULT_429, 1);
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_OK);
    ck_assert_int_eq(a.status, 429);
    ck_assert(a.retry_after_s == 1);
    http->release(&seat.table, &a);
    double_fault(&d, FAULT_CUT, 1);
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_E_IO);
    double_fault(&d, FAULT_SLOW, 1);
    ck_assert_int_eq(ask(&seat, URL("/here?q=sesame"), 0.05, 0, &a), SQZ_E_IO);
    stop_now = 1;
    ck_assert_int_eq(ask(&seat, URL("/here"), 60, 0, &a), SQZ_E_CANCELLED);
    stop_now = 0;
    double_fault(&d, FAULT_NONE, 0);
    ck_assert_int_eq(ask(&seat, "http://u:sesame@127.0.0.1/", 5, 0, &a), SQZ_E_INVALID);
    ck_assert_int_eq(ask(&seat, "file:///etc/passwd", 5, 0, &a), SQZ_E_INVALID);
    setenv("SQZ_OFFLINE", "1", 1);
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_E_UNSUPPORTED);
    unsetenv("SQZ_OFFLINE");
    double_stop(&d);
    ck_assert_int_eq(ask(&seat, URL("/here"), 5, 0, &a), SQZ_E_IO);
    ck_assert_int_eq(atomic_load(&d.bad), 0);
    host_free(h);
    cJSON_Delete(d.state);
}
END_TEST

/* ---- spool ----------------------------------------------------------------------------------- */
static cJSON *event(const char *key)
{
    char *text = path_format("{\"type\":\"progress\",\"key\":\"%s\",\"data\":{}}", key);
    cJSON *j = cJSON_Parse(text);
    free(text);
    return j;
}

START_TEST(spool_keeps)
{
    spool *s, *second;
    char key[32];
    int added;
    ck_assert_int_eq(spool_open(scratch, "x", &s, NULL), SQZ_OK);
    ck_assert_int_eq(spool_open(scratch, "x", &second, NULL), ERR_CONFLICT);
    for (int i = 0; i < 600; i++) {
        snprintf(key, sizeof key, "k/%d", i % 300);
        ck_assert_int_eq(spool_append(s, event(key), &added, NULL), SQZ_OK);
        ck_assert_int_eq(added, i < 300);
    }
    ck_assert_int_eq(spool_length(s), 300);
    ck_assert_int_eq(spool_acknowledge(s, 120, NULL), SQZ_OK);
    ck_assert_int_eq(spool_save_text(s, "ids \"\\ \n", NULL), SQZ_OK);
    spool_close(s);
    /* a torn record at the end is dropped, the rest is there */
    char *path = path_format("%s/spool/x.jsonl", scratch);
    FILE *f = fopen(path, "a");
    fputs("{\"seq\":300,\"crc\":\"0000", f);
    fclose(f);
    ck_assert_int_eq(spool_open(scratch, "x", &s, NULL), SQZ_OK);
    ck_assert_int_eq(spool_length(s), 300);
    ck_assert_int_eq(spool_delivered(s), 120);
    char *text = spool_text(s);
    ck_assert_str_eq(text, "ids \"\\ \n");
    ck_assert(spool_has(s, "k/299") && !spool_has(s, "k/300"));
    free(text);
    spool_close(s);
    /* a damaged state is none */
    put_file(scratch, "spool/x.state.json", "{\"delivered\":12");
    ck_assert_int_eq(spool_open(scratch, "x", &s, NULL), SQZ_OK);
    ck_assert_int_eq(spool_delivered(s), 0);
    spool_close(s);
    free(path);
}
END_TEST

/* ---- plain files ----------------------------------------------------------------------------- */
static int count_lines(const char *path)
{
    char *text;
    int64_t n;
    int lines = 0;
    ck_assert_int_eq(file_read(path, 1 << 24, &text, &n, NULL), 0);
    for (int64_t i = 0; i < n; i++) lines += text[i] == '\n';
    free(text);
    return lines;
}

START_TEST(plain_files)
{
    char *dir = make_run("files"), *events = path_format("%s/tracking/events.jsonl", dir),
         *state = path_format("%s/spool/jsonl.state.json", dir);
    cJSON *trackers = cJSON_Parse("[{\"use\":\"jsonl\"},{\"use\":\"org.sqz.jsonl\",\"with\":{"
                                  "\"folder\":\"/proc/nowhere\"}}]");
    tracking *t = start(dir, trackers);
    tell_run(t);
    tracking_wait w = {.total_s = 60, .quiet_s = 30};
    tracking_add_folder(t, 1);
    tracking_drain(t, &w);
    cJSON *status = tracking_status(t);
    int64_t n = json_int(cJSON_GetArrayItem(status, 0), "events", 0);
    ck_assert_int_eq(json_int(cJSON_GetArrayItem(status, 0), "delivered", 0), n);
    ck_assert_int_eq(json_int(cJSON_GetArrayItem(status, 1), "delivered", 9), 0);
    ck_assert_str_eq(json_str(cJSON_GetArrayItem(status, 1), "name", ""), "jsonl-2");
    tracking_close(t);
    ck_assert_int_eq(count_lines(events), n);
    /* the acknowledgement is lost and the last line torn: each event is there once again */
    ck_assert_int_eq(unlink(state), 0);
    ck_assert_int_eq(truncate(events, 900), 0);
    t = start(dir, NULL);
    tracking_drain(t, &w);
    tracking_close(t);
    ck_assert_msg(count_lines(events) == n, "%d of %d: %s", count_lines(events), (int)n, logged);
    cJSON_Delete(status);
    cJSON_Delete(trackers);
    free(dir);
    free(events);
    free(state);
}
END_TEST

/* ---- memory that runs out -------------------------------------------------------------------- */
/* The n-th allocation of cJSON on the thread that asked for it fails, once. */
static _Thread_local int64_t json_left;

static void *json_malloc(size_t n)
{
    return json_left > 0 && --json_left == 0 ? NULL : malloc(n);
}

static sqz_status keep_state(const sqz_tracking *t, const char *text)
{
    char **kept = t->impl;
    free(*kept);
    *kept = path_format("%s", text);
    return SQZ_OK;
}

static void not_later(const sqz_tracking *t, double seconds)
{
    (void)t;
    (void)seconds;
}

static sqz_status tell_one(const sqz_tracker *t, agent *a, int64_t seq, const cJSON *record)
{
    char *json = json_text(json_get(record, "data"), 0);
    sqz_track_event e = {
        sizeof e, 0,   seq, json_int(record, "time_ms", 0), json_str(record, "type", ""),
        "key",    json};
    sqz_status s = t->event(agent_host(a), agent_self(a), &e);
    free(json);
    return s;
}

/* Nothing that was logged is empty. */
static void check_whole(http_double *d, int64_t n)
{
    pthread_mutex_lock(&d->lock);
    const cJSON *run, *item;
    cJSON_ArrayForEach(run, json_get(d->state, "runs"))
    {
        static const char *const parts[] = {"tags", "params"};
        for (int k = 0; k < 2; k++)
            cJSON_ArrayForEach(item, json_get(run, parts[k]))
                ck_assert_msg(*item->valuestring, "allocation %lld: %s of %s is empty",
                              (long long)n, item->string, run->string);
    }
    pthread_mutex_unlock(&d->lock);
}

/* Tells the tracker a study's events in this process; every allocation of its own and of cJSON for
 * it fails once (after the first 60 only some) before an event gets through.  What the server knows
 * in the end. */
static char *told_without_memory(int failing)
{
    http_double d = {.authorization = SECRET};
    sqz_error err = {0};
    agent *a;
    const agent_info *info;
    char *dir = make_run("memory"), *state = NULL;
    cJSON *study, *records, *record, *trackers;
    int64_t failures = 0, seq = 0;
    double_start(&d, 0);
    trackers = mlflow_at(&d, 30);
    host *h = host_new(NULL);
    ck_assert_int_eq(catalogue_find(plugins, "tracker/1", "mlflow", &info, &err), 0);
    ck_assert(failing_install(info->file));
    ck_assert_msg(!agent_open(h, info, &a, &err), "%s", err.text);
    ck_assert_int_eq(agent_call(a, NULL, json_get(cJSON_GetArrayItem(trackers, 0), "with"), &err),
                     0);
    ck_assert_int_eq(events_study(dir, &study, &err), 0);
    ck_assert_int_eq(events_of_folder(dir, EVENTS_ENDED, &records, &err), 0);
    char *about = json_text(study, 0);
    const sqz_tracker *t = agent_extension(a, SQZ_TRACKER_1);
    sqz_tracking with = {sizeof with, 0, &state, about, dir, NULL, keep_state, not_later};
    for (int64_t n = 1; failing; n++) {
        json_left = n;
        sqz_status s = t->begin(agent_host(a), agent_self(a), &with);
        if (json_left > 0 && !s) break; /* not reached any more */
        ck_assert(s == SQZ_OK || s == SQZ_E_NOMEM);
    }
    json_left = 0;
    ck_assert_int_eq(t->begin(agent_host(a), agent_self(a), &with), 0);
    cJSON_ArrayForEach(record, records)
    {
        seq++;
        for (int own = 0; failing && own < 2; own++)
            for (int64_t n = 1;; n += n < 60 ? 1 : n / 8) {
                json_left = own ? 0 : n;
                failing_at(own ? n : 0);
                sqz_status s = tell_one(t, a, seq, record);
                int fired = own ? failing_calls() >= n : json_left == 0;
                failing_at(0);
                json_left = 0;
                check_whole(&d, n);
                ck_assert_msg(s == SQZ_OK || s == SQZ_E_NOMEM || s == SQZ_E_IO,
                              "allocation %lld of %s: %d", (long long)n,
                              json_str(record, "type", "?"), s);
                failures += fired;
                if (!fired) break;
            }
        ck_assert_int_eq(tell_one(t, a, seq, record), SQZ_OK);
    }
    ck_assert(!failing || failures > 300);
    if (SQZ_HAS(t, sqz_tracker, end) && t->end) t->end(agent_host(a), agent_self(a));
    agent_close(a);
    host_free(h);
    double_stop(&d);
    char *text = known(&d);
    ck_assert_int_eq(atomic_load(&d.bad), 0);
    cJSON_Delete(d.state);
    cJSON_Delete(study);
    cJSON_Delete(records);
    cJSON_Delete(trackers);
    ck_assert_int_eq(dir_remove(dir, NULL), 0);
    free(about);
    free(state);
    free(dir);
    return text;
}

START_TEST(memory_runs_out)
{
    cJSON_InitHooks(&(cJSON_Hooks){json_malloc, free});
    char *right = told_without_memory(0), *now = told_without_memory(1);
    ck_assert_msg(!strcmp(now, right), "%s\n%s", now, right);
    cJSON_InitHooks(NULL);
    free(now);
    free(right);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tracker");
    TCase *c = tcase_create("tracker");
    tcase_add_checked_fixture(c, make_all, remove_all);
    tcase_add_test(c, spool_keeps);
    tcase_add_test(c, http_service);
    tcase_add_test(c, study_on_the_server);
    tcase_add_test(c, faults_change_nothing);
    tcase_add_test(c, down_then_synced);
    tcase_add_test(c, killed_then_synced);
    tcase_add_test(c, secrets_stay_out);
    tcase_add_test(c, plain_files);
    tcase_add_test(c, memory_runs_out);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
