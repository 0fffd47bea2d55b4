/* test_coordinator.c - the whole loop over a synthetic job runner: a pure function of the job
 * stands in for the worker, everything else (catalogue, search plugins, journal, files) is the
 * product's.
 *
 * Checked: constraints, every way of stopping, failed and crashed trials, the exit statuses, the
 * files, the schema of metrics.json, and that a run whose journal was cut after any record
 * continues to the identical front without repeating recorded work. */
#include "coordinator/room.h"
#include "coordinator/run.h"
#include "coordinator/space.h"
#include "io/file.h"
#include "journal.h"
#include "hash/sha256.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[64];
static catalogue *plugins;

/* ---- the stand-in for workers ------------------------------------------------------------------
 */

typedef struct fake {
    int jobs, baselines, exports;
    int crash_bits; /* trials with so many bits crash; 0 = none */
    int fail_all;
    int fail_export; /* which of the exports fails; 0 = none */
    sqz_status export_code;
    int cancel_after;    /* jobs after which the run is cancelled; 0 = never */
    int disk_full_after; /* likewise: ERR_STORAGE */
    double seconds;      /* what a job claims to have taken */
    run *run;
} fake;

static double unit(uint64_t i)
{
    uint64_t z = i * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Damage done by the steps, 0 = dense: falls with bits, grows with the group. */
static double damage_of(const cJSON *steps)
{
    const cJSON *with = json_get(cJSON_GetArrayItem(steps, 0), "with");
    if (!with) return 0;
    double bits = json_num(with, "bits", 16), group = json_num(with, "group_size", 128);
    const char *use = json_str(cJSON_GetArrayItem(steps, 0), "use", "");
    double skill = 0.5 + 0.5 * unit(strlen(use) + (unsigned char)use[strlen(use) - 1]);
    return skill * pow(4, 2 - bits) * (group <= 0 ? 1.6 : pow(group / 128, 0.25)) *
           (json_bool(with, "symmetric", 1) ? 1 : 0.9);
}

static double bytes_of(const cJSON *steps)
{
    const cJSON *with = json_get(cJSON_GetArrayItem(steps, 0), "with");
    if (!with) return 8e6;
    double bits = json_num(with, "bits", 16), group = json_num(with, "group_size", 128);
    return 1e6 +
           3.5e6 / 8 *
               (bits + (group <= 0 ? 0.1 : (16 + bits * !json_bool(with, "symmetric", 1)) / group));
}

static cJSON *evaluate(const cJSON *task, const cJSON *steps, const char *dir)
{
    cJSON *out = cJSON_CreateObject(), *results = cJSON_AddObjectToObject(out, "results");
    cJSON *items = cJSON_AddObjectToObject(out, "items");
    const cJSON *e;
    double damage = damage_of(steps);
    cJSON_ArrayForEach(e, json_get(task, "evals"))
    {
        const char *name = json_str(e, "name", "");
        int64_t n = json_int(e, "limit", 200);
        int is_text = strstr(name, "test") == name;
        char *path = path_format("%s/%s.jsonl", dir, name);
        FILE *f = fopen(path, "w");
        double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            double u = unit((uint64_t)i + 7);
            double x = is_text ? 0.5 + 0.1 * u + 0.3 * damage : u > 0.2 + 0.5 * damage;
            sum += x;
            fprintf(f, "{\"i\":%lld,\"outcome\":%.17g}\n", (long long)i, x);
        }
        fclose(f);
        cJSON *r = cJSON_AddObjectToObject(results, name);
        double mean = sum / (double)n;
        cJSON_AddNumberToObject(r, is_text ? "perplexity" : "exact_match",
                                is_text ? exp(mean) : mean);
        cJSON_AddNumberToObject(r, is_text ? "perplexity_stderr" : "exact_match_stderr",
                                sqrt(mean * fabs(1 - mean) / (double)n));
        cJSON_AddNumberToObject(r, "n", (double)n);
        cJSON_AddStringToObject(r, "evaluation",
                                is_text ? "org.sqz.perplexity" : "org.sqz.exact_match");
        cJSON_AddStringToObject(r, "primary", is_text ? "perplexity" : "exact_match");
        cJSON_AddBoolToObject(r, "higher_is_better", !is_text);
        cJSON_AddStringToObject(items, name, path);
        free(path);
    }
    const cJSON *kl = json_get(task, "kl");
    if (kl) {
        cJSON *k = cJSON_AddObjectToObject(out, "kl");
        if (json_bool(kl, "make", 0))
            cJSON_AddStringToObject(k, "record", "sha256:record");
        else {
            cJSON_AddNumberToObject(k, "mean", 0.2 * damage);
            cJSON_AddNumberToObject(k, "stderr", 0.002 * damage);
        }
    }
    return out;
}

static cJSON *bench(const cJSON *steps)
{
    cJSON *out = cJSON_CreateObject();
    static const char *const keys[] = {"ttft_seconds", "tpot_seconds", "decode_tokens_per_second"};
    double bytes = bytes_of(steps);
    for (int i = 0; i < 3; i++) {
        cJSON *v = cJSON_AddObjectToObject(out, keys[i]);
        cJSON_AddNumberToObject(v, "median", i == 0 ? 0.02 : i == 1 ? bytes / 8e9 : 8e9 / bytes);
    }
    cJSON_AddNumberToObject(out, "peak_rss_bytes", 5e7 + bytes);
    cJSON_AddNumberToObject(out, "energy_j_per_1k_tokens", bytes * 1e-6);
    cJSON_AddStringToObject(out, "energy_origin", "estimate");
    return out;
}

/* Artifacts live as files of the store that hold their steps. */
static void artifact_path(const cJSON *job, const char *digest, char *path, size_t size)
{
    snprintf(path, size, "%s/fake-%s", json_str(job, "store", ""), digest + 7);
}

static cJSON *apply(const cJSON *job, const cJSON *task, cJSON **steps)
{
    char digest[DIGEST_TEXT], path[600];
    char *text = json_canonical(json_get(task, "steps"));
    cJSON *out = cJSON_CreateObject();
    sha256_buffer(text, strlen(text), digest);
    artifact_path(job, digest, path, sizeof path);
    ck_assert_int_eq(file_write(path, text, (int64_t)strlen(text), NULL), SQZ_OK);
    *steps = cJSON_Parse(text);
    cJSON_AddStringToObject(out, "artifact", digest);
    cJSON_AddNumberToObject(out, "bytes", bytes_of(*steps));
    cJSON_AddNumberToObject(out, "effective_bits_per_weight", 4);
    cJSON_AddArrayToObject(out, "layers");
    free(text);
    return out;
}

static void end_as(worker_outcome *out, outcome_state state, sqz_status code, const char *why)
{
    out->state = state;
    out->code = code;
    snprintf(out->message, sizeof out->message, "%s", why);
}

static void run_fake(void *ctx, const cJSON *job, const char *dir, const worker_limits *limits,
                     const worker_hooks *hooks, worker_outcome *out)
{
    fake *f = ctx;
    cJSON *steps = NULL, *tasks = cJSON_CreateArray();
    const cJSON *task;
    const char *artifact = json_str(job, "artifact", NULL);
    memset(out, 0, sizeof *out);
    ck_assert(limits->memory_bytes > 0);
    ck_assert_str_eq(json_str(job, "schema", ""), "sqz.job/1");
    ck_assert_int_eq(dir_make(dir, NULL), SQZ_OK);
    f->jobs++;
    out->seconds = f->seconds;
    hooks->progress(hooks->ctx, 0.5, "half");
    hooks->log(hooks->ctx, SQZ_LOG_INFO, "the same in every trial");
    if (f->cancel_after && f->jobs >= f->cancel_after) run_cancel(f->run, 1);
    if (artifact) {
        char path[600], *text = NULL;
        int64_t n;
        artifact_path(job, artifact, path, sizeof path);
        ck_assert_int_eq(file_read(path, 1 << 20, &text, &n, NULL), SQZ_OK);
        steps = cJSON_Parse(text);
        free(text);
    }
    cJSON_ArrayForEach(task, json_get(job, "tasks"))
    {
        const char *name = json_str(task, "task", "");
        cJSON *result = !strcmp(name, "steps")   ? apply(job, task, &steps)
                        : !strcmp(name, "eval")  ? evaluate(task, steps, dir)
                        : !strcmp(name, "bench") ? bench(steps)
                                                 : cJSON_CreateObject();
        cJSON_AddStringToObject(result, "task", name);
        if (!strcmp(name, "export")) {
            f->exports++;
            cJSON_AddStringToObject(result, "path", json_str(task, "output", ""));
            cJSON_AddStringToObject(result, "format", "fake");
        }
        cJSON_AddItemToArray(tasks, result);
    }
    f->baselines += !artifact && !steps && json_get(json_get(job, "tasks"), "x") == NULL;
    out->result = cJSON_CreateObject();
    cJSON_AddItemToObject(out->result, "tasks", tasks);
    out->state = OUTCOME_OK;
    const cJSON *with = json_get(cJSON_GetArrayItem(steps, 0), "with");
    if (f->crash_bits && json_int(with, "bits", 0) == f->crash_bits)
        end_as(out, OUTCOME_CRASHED, SQZ_E_INTERNAL, "the worker was killed by signal 11");
    if (f->fail_all && steps) end_as(out, OUTCOME_FAILED, SQZ_E_NUMERIC, "diverged");
    if (f->disk_full_after && f->jobs >= f->disk_full_after)
        end_as(out, OUTCOME_FAILED, ERR_STORAGE, "no space left on device");
    const char *last =
        json_str(cJSON_GetArrayItem(tasks, cJSON_GetArraySize(tasks) - 1), "task", "");
    if (!strcmp(last, "export") && f->exports == f->fail_export)
        end_as(out, OUTCOME_FAILED, f->export_code, "the format plugin gave up");
    if (hooks->cancel(hooks->ctx)) end_as(out, OUTCOME_CANCELLED, SQZ_E_CANCELLED, "cancelled");
    cJSON_Delete(steps);
}

/* ---- running -----------------------------------------------------------------------------------
 */

typedef struct seen {
    int planned, started, finished, changed, stopped, progress, told, told_again;
} seen;

static void observe(void *ctx, const run_event *e)
{
    seen *s = ctx;
    s->planned += e->kind == RUN_EVENT_PLANNED;
    s->started += e->kind == RUN_EVENT_TRIAL_STARTED;
    s->finished += e->kind == RUN_EVENT_TRIAL_FINISHED;
    s->changed += e->kind == RUN_EVENT_FRONT_CHANGED;
    s->stopped += e->kind == RUN_EVENT_STOPPED;
    s->progress += e->kind == RUN_EVENT_TRIAL_PROGRESS && e->done == 0.5;
    if (e->kind != RUN_EVENT_LOG) return;
    if (e->level >= SQZ_LOG_ERROR) fprintf(stderr, "%s\n", e->text);
    if (strcmp(e->text, "the same in every trial")) return;
    s->told += e->level == SQZ_LOG_INFO;
    s->told_again += e->level == SQZ_LOG_DEBUG;
}

#define DATA SQZ_SOURCE_DIR "/examples/tiny-arith/data"

static config *make_config(const char *extra)
{
    config *c = NULL;
    sqz_error err = {0};
    char *text = path_format(
        "{\"model\":\"%s/examples/tiny-arith/model\",\"dataset\":[\"%s/arith_test.jsonl\","
        "\"%s/test.jsonl\"],\"constraints\":{\"max_accuracy_drop\":0.2},\"seed\":3%s%s}",
        SQZ_SOURCE_DIR, DATA, DATA, *extra ? "," : "", extra);
    sqz_status s = config_parse(text, (int64_t)strlen(text), "test", NULL, NULL, 0, &c, &err);
    ck_assert_msg(s == SQZ_OK, "%s", err.text);
    free(text);
    return c;
}

static run_options options_for(const config *c, const char *dir, fake *f, seen *s)
{
    static char store[96];
    snprintf(store, sizeof store, "%s/store", root);
    return (run_options){.config = c,
                         .catalogue = plugins,
                         .output = dir,
                         .store = store,
                         .observer = observe,
                         .observer_ctx = s,
                         .job = run_fake,
                         .job_ctx = f};
}

/* Steps to the end; returns run_finish's status, or the failing step's. */
static sqz_status drive(run *r, sqz_error *err)
{
    int more = 1;
    sqz_status s = SQZ_OK, f;
    for (int guard = 0; more && !s; guard++) {
        ck_assert_int_lt(guard, 5000);
        s = run_step(r, &more, err);
    }
    f = run_finish(r, s ? NULL : err);
    return s ? s : f;
}

static char *folder(const char *name)
{
    return path_format("%s/%s", root, name);
}

static sqz_status whole_run(const char *extra, const char *name, fake *f, run **out, sqz_error *err)
{
    static seen s;
    static config *kept[32]; /* a run borrows its config, and callers only see the run */
    static int n_kept;
    config *c = kept[n_kept++ % 32] = make_config(extra);
    char *dir = folder(name);
    run_options o = options_for(c, dir, f, &s);
    *out = NULL;
    sqz_status status = run_open(&o, out, err);
    ck_assert_msg(status == SQZ_OK, "%s", err->text);
    f->run = *out;
    status = drive(*out, err);
    free(dir);
    return status;
}

static cJSON *read_json(const char *dir, const char *name)
{
    char *path = path_format("%s/%s/%s", root, dir, name), *text = NULL;
    int64_t n;
    sqz_error err = {0};
    ck_assert_msg(!file_read(path, 64 << 20, &text, &n, &err), "%s", err.text);
    cJSON *j = cJSON_Parse(text);
    ck_assert_msg(j != NULL, "%s is no JSON", path);
    free(text);
    free(path);
    return j;
}

/* What must be identical after a resume: everything of the front but the paths. */
static char *front_text(const run *r)
{
    return json_canonical(run_front(r));
}

/* ---- tests -------------------------------------------------------------------------------------
 */

START_TEST(front_and_files)
{
    fake f = {.seconds = 1};
    sqz_error err = {0};
    run *r;
    sqz_status s = whole_run("\"budget\":{\"trials\":24}", "plain", &f, &r, &err);
    ck_assert_msg(s == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(run_trial_count(r), 24);
    const cJSON *front = run_front(r), *m, *n;
    ck_assert_int_ge(cJSON_GetArraySize(json_get(front, "members")), 4);
    ck_assert_int_eq(f.exports, cJSON_GetArraySize(json_get(front, "members")));
    cJSON_ArrayForEach(m, json_get(front, "members"))
    {
        const cJSON *a = json_get(m, "metrics");
        ck_assert_str_ne(json_str(m, "strategy_id", ""), "dense");
        ck_assert(json_num(a, "accuracy_drop", 9) <= 0.2);
        ck_assert(json_num(a, "bytes", 9e9) < 8e6);
        ck_assert(json_str(m, "path", NULL) != NULL);
        double acc0 = json_num(json_get(front, "baseline"), "quality", 0);
        double acc = json_num(a, "quality", 0), bytes = json_num(a, "bytes", 0);
        /* A7 with its default weights, by hand */
        double want =
            acc / acc0 - 0.3 * bytes / 8e6 - 0.3 * (5e7 + bytes) / (5e7 + 8e6) - 0.1 * bytes / 8e6;
        cJSON_ArrayForEach(n, json_get(front, "members"))
        {
            const cJSON *b = json_get(n, "metrics");
            ck_assert(m == n || json_num(b, "quality", 0) != acc ||
                      json_num(b, "bytes", 0) != bytes);
            ck_assert(!(json_num(b, "quality", 0) >= acc && json_num(b, "bytes", 0) < bytes));
        }
        ck_assert_double_eq_tol(json_num(a, "reward", 0), want, 1e-9);
    }
    for (int64_t i = 0; i < run_trial_count(r); i++) /* no strategy twice */
        for (int64_t k = 0; k < i; k++) {
            char *a = space_identity(json_get(run_trial(r, i), "steps"));
            char *b = space_identity(json_get(run_trial(r, k), "steps"));
            ck_assert_str_ne(a, b);
            free(a);
            free(b);
        }
    run_close(r);

    cJSON *metrics = read_json("plain", "metrics.json"), *run_json = read_json("plain", "run.json");
    cJSON *summary = read_json("plain", "quantization_summary.json");
    cJSON *environment = read_json("plain", "environment.json");
    ck_assert_str_eq(json_str(run_json, "state", ""), "done");
    ck_assert_str_eq(json_str(json_get(run_json, "stopped"), "kind", ""), "trials");
    ck_assert(cJSON_GetArraySize(json_get(environment, "plugins")) > 0);
    ck_assert_int_eq(cJSON_GetArraySize(json_get(metrics, "trials")), 24);
    ck_assert_int_gt(cJSON_GetArraySize(json_get(summary, "members")), 0);
    json_doc *schema = NULL;
    ck_assert_msg(
        !json_read(SQZ_SOURCE_DIR "/configs/schema/metrics.schema.json", 1 << 20, 0, &schema, &err),
        "%s", err.text);
    ck_assert_msg(!schema_check(json_root(schema), metrics, NULL, &err), "%s", err.text);
    json_free(schema);
    cJSON_Delete(metrics);
    cJSON_Delete(run_json);
    cJSON_Delete(summary);
    cJSON_Delete(environment);
}
END_TEST

START_TEST(crashes_cost_one_trial)
{
    fake f = {.seconds = 1, .crash_bits = 4};
    sqz_error err = {0};
    run *r;
    ck_assert_int_eq(whole_run("\"budget\":{\"trials\":20}", "crashes", &f, &r, &err), SQZ_OK);
    int crashed = 0;
    for (int64_t i = 0; i < run_trial_count(r); i++) {
        const cJSON *t = run_trial(r, i);
        int bits =
            (int)json_int(json_get(cJSON_GetArrayItem(json_get(t, "steps"), 0), "with"), "bits", 0);
        crashed += bits == 4;
        ck_assert_int_eq(!strcmp(json_str(t, "outcome", ""), "crashed"), bits == 4);
        ck_assert(bits != 4 || !json_bool(t, "front", 0));
        ck_assert(bits != 4 || strstr(json_str(t, "reason", ""), "signal 11") != NULL);
    }
    ck_assert_int_gt(crashed, 0);
    run_close(r);
}
END_TEST

START_TEST(statuses)
{
    sqz_error err = {0};
    run *r;
    fake none = {.seconds = 1, .fail_all = 1};
    ck_assert_int_eq(whole_run("\"budget\":{\"trials\":5}", "none", &none, &r, &err),
                     ERR_NO_RESULT);
    run_close(r);
    fake strict = {.seconds = 1};
    ck_assert_int_eq(
        whole_run("\"budget\":{\"trials\":6},\"steps\":[{\"use\":\"auto\",\"with\":{\"bits\":2}}],"
                  "\"x-a\":1",
                  "strict", &strict, &r, &err),
        ERR_NO_RESULT);
    ck_assert_msg(strstr(err.text, "nearest") || strstr(err.text, "dropped"), "%s", err.text);
    run_close(r);
    fake slow = {.seconds = 100};
    ck_assert_int_eq(whole_run("\"budget\":{\"wall\":0}", "slow", &slow, &r, &err), ERR_BUDGET);
    run_close(r);
    fake full = {.seconds = 1, .disk_full_after = 6};
    ck_assert_int_eq(whole_run("\"budget\":{\"trials\":9}", "full", &full, &r, &err), ERR_STORAGE);
    run_close(r);
    fake cancelled = {.seconds = 1, .cancel_after = 9};
    ck_assert_int_eq(whole_run("\"budget\":{\"trials\":9}", "cancel", &cancelled, &r, &err),
                     SQZ_E_CANCELLED);
    ck_assert_int_gt(cJSON_GetArraySize(json_get(run_front(r), "members")), 0);
    ck_assert_int_gt(cancelled.exports, 0); /* what was found is still exported */
    run_close(r);
}
END_TEST

static void small_disk(void *ctx, const char *store, const char *dir, room *out)
{
    (void)store;
    (void)dir;
    *out = (room){8000000000, 16000000000, *(const int64_t *)ctx, *(const int64_t *)ctx};
}

/* A candidate that would not fit on the disk is not begun, and the run goes on when there is room.
 */
START_TEST(no_room_on_the_disk)
{
    int64_t free_bytes = 17000000;
    sqz_error err = {0};
    seen s = {0};
    run *r = NULL;
    fake f = {.seconds = 1}, g = {.seconds = 1};
    config *c = make_config("\"budget\":{\"trials\":3}");
    char *dir = folder("room");
    run_options o = options_for(c, dir, &f, &s);
    o.look = small_disk;
    o.look_ctx = &free_bytes;
    ck_assert_msg(!run_open(&o, &r, &err), "%s", err.text);
    f.run = r;
    int more = 1;
    sqz_status status = SQZ_OK;
    while (more && !status) status = run_step(r, &more, &err);
    ck_assert_int_eq(status, ERR_STORAGE);
    ck_assert_msg(strstr(err.text, "s0001.proxy is not begun") &&
                      strstr(err.text, "17 MB are free"),
                  "%s", err.text);
    ck_assert_int_eq(run_trial_count(r), 0);
    run_finish(r, NULL);
    run_close(r);
    config_free(c);
    run_options again = options_for(NULL, NULL, &g, &s);
    free_bytes = 90000000000;
    again.look = small_disk;
    again.look_ctx = &free_bytes;
    ck_assert_msg(!run_resume(dir, &again, &r, &err), "%s", err.text);
    g.run = r;
    ck_assert_int_eq(drive(r, &err), SQZ_OK);
    ck_assert_int_eq(run_trial_count(r), 3);
    run_close(r);
    free(dir);
}
END_TEST

/* Members of pareto.json without a checkpoint; the text of the last one's cause in *why. */
static int unexported(const char *name, char why[200])
{
    cJSON *front = read_json(name, "pareto.json");
    const cJSON *m;
    int n = 0;
    cJSON_ArrayForEach(m, json_get(front, "members"))
    {
        const char *text = json_str(m, "export_failed", NULL);
        ck_assert(!text || !json_get(m, "path"));
        if (json_get(m, "path")) continue;
        n++;
        snprintf(why, 200, "%s", text ? text : "");
    }
    cJSON_Delete(front);
    return n;
}

/* An export that fails is named in pareto.json, in run.json's state, in the message and by the exit
 * status of its cause; the others are made, and resume makes the missing one and nothing else. */
START_TEST(failed_export_is_told_and_repeated)
{
    static const sqz_status codes[] = {SQZ_E_INTERNAL, SQZ_E_UNSUPPORTED, ERR_STORAGE};
    sqz_error err = {0};
    run *r;
    fake plain = {.seconds = 1};
    const char *extra = "\"budget\":{\"trials\":12}";
    ck_assert_int_eq(whole_run(extra, "export-whole", &plain, &r, &err), SQZ_OK);
    char *want = front_text(r), why[200];
    run_close(r);
    ck_assert_int_ge(plain.exports, 3);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char *name = path_format("export-%zu", i), *dir = folder(name), *have;
        fake f = {.seconds = 1, .fail_export = 2, .export_code = codes[i]}, g = {.seconds = 1};
        ck_assert_int_eq(whole_run(extra, name, &f, &r, &err), codes[i]);
        ck_assert_msg(strstr(err.text, "gave up") != NULL, "%s", err.text);
        ck_assert(codes[i] == ERR_STORAGE || strstr(err.text, "--resume") != NULL);
        run_close(r);
        /* a full disk ends the run, another cause costs only this model */
        int made = codes[i] == ERR_STORAGE ? 1 : plain.exports - 1;
        ck_assert_int_eq(unexported(name, why), plain.exports - made);
        ck_assert(codes[i] == ERR_STORAGE || strstr(why, "gave up") != NULL);
        cJSON *j = read_json(name, "run.json");
        ck_assert_str_eq(json_str(j, "state", ""), "failed");
        cJSON_Delete(j);
        seen s = {0};
        run_options o = options_for(NULL, NULL, &g, &s);
        ck_assert_msg(!run_resume(dir, &o, &r, &err), "%s", err.text);
        g.run = r;
        ck_assert_msg(drive(r, &err) == SQZ_OK, "%s", err.text);
        ck_assert_int_eq(g.jobs, plain.exports - made);
        ck_assert_int_eq(unexported(name, why), 0);
        have = front_text(r);
        ck_assert_str_eq(have, want);
        run_close(r);
        free(have);
        free(dir);
        free(name);
    }
    free(want);
}
END_TEST

/* A search that crashes, hangs, leaves or answers nonsense ends the asking, not the run: what was
 * evaluated is exported, the message names it, and resuming asks again and ends alike. */
START_TEST(search_that_fails)
{
    static const struct {
        const char *name, *words;
    } rows[] = {{"search-crash", "crashed with SIGSEGV (ask after "},
                {"search-hang", "has not answered for 1 s and was stopped"},
                {"search-leave", "ended its process with status 3"},
                {"search-nonsense", "which is no legal value"},
                {"search-refuse", "lost in the corner"}};
    static const char *const paths[] = {SQZ_PLUGIN_DIR, BAD_DIR "/search"};
    sqz_error err = {0};
    catalogue *all = NULL;
    char *cache = folder("search-cache");
    catalogue_options co = {.paths = paths, .n_paths = 2, .only_paths = 1, .cache_dir = cache};
    ck_assert_msg(!catalogue_open(&co, &all, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *extra = path_format("\"budget\":{\"trials\":40},\"search\":\"%s\"", rows[i].name);
        char *dir = folder(rows[i].name), *fronts[2];
        config *c = make_config(extra);
        int64_t trials = 0;
        for (int session = 0; session < 2; session++) {
            fake f = {.seconds = 1};
            seen s = {0};
            run *r = NULL;
            run_options o = options_for(session ? NULL : c, session ? NULL : dir, &f, &s);
            o.catalogue = all;
            int hangs = strstr(rows[i].name, "hang") != NULL;
            o.search_silence_s = hangs ? 1 : 0;
            ck_assert_msg(!(session ? run_resume(dir, &o, &r, &err) : run_open(&o, &r, &err)), "%s",
                          err.text);
            f.run = r;
            ck_assert_int_eq(drive(r, &err), ERR_PLUGIN);
            ck_assert_msg(strstr(err.text, rows[i].name) && strstr(err.text, rows[i].words) &&
                              strstr(err.text, "--resume"),
                          "%s", err.text);
            ck_assert(session || run_trial_count(r) >= 3);
            /* a busy machine may take an honest answer for silence */
            ck_assert(!session || hangs || run_trial_count(r) == trials);
            trials = run_trial_count(r);
            ck_assert_int_eq(f.exports, cJSON_GetArraySize(json_get(run_front(r), "members")));
            ck_assert_int_gt(f.exports, 0);
            fronts[session] = front_text(r);
            run_close(r);
        }
        if (!strstr(rows[i].name, "hang")) ck_assert_str_eq(fronts[0], fronts[1]);
        cJSON *j = read_json(rows[i].name, "run.json");
        ck_assert_str_eq(json_str(json_get(j, "stopped"), "kind", ""), "search");
        ck_assert_str_eq(json_str(j, "state", ""), "failed");
        cJSON_Delete(j);
        config_free(c);
        free(fronts[0]);
        free(fronts[1]);
        free(extra);
        free(dir);
    }
    catalogue_close(all);
    free(cache);
}
END_TEST

START_TEST(stops)
{
    sqz_error err = {0};
    run *r;
    struct {
        const char *config, *kind;
    } cases[] = {
        {"\"budget\":{\"trials\":3}", "trials"},
        {"\"budget\":{\"trials\":90,\"until\":{\"bytes\":3500000}}", "target"},
        {"\"budget\":{\"trials\":500,\"patience\":6}", "converged"},
        {"\"budget\":{\"trials\":500,\"patience\":500},\"steps\":[{\"use\":\"auto\",\"with\":{"
         "\"group_size\":64}}]",
         "exhausted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake f = {.seconds = 1};
        char *name = path_format("stop%zu", i), *path = path_format("%s/%s", root, name);
        sqz_status s = whole_run(cases[i].config, name, &f, &r, &err);
        ck_assert_msg(s == SQZ_OK, "%s", err.text);
        cJSON *j = read_json(name, "run.json");
        ck_assert_str_eq(json_str(json_get(j, "stopped"), "kind", ""), cases[i].kind);
        cJSON_Delete(j);
        run_close(r);
        free(path);
        free(name);
    }
}
END_TEST

/* Cuts the journal after its first n lines. */
static void cut_copy(const char *from, const char *to, int64_t lines, int torn)
{
    char *source = path_format("%s/journal.jsonl", from),
         *target = path_format("%s/journal.jsonl", to);
    char *text = NULL;
    int64_t bytes;
    sqz_error err = {0};
    ck_assert_int_eq(file_read(source, 64 << 20, &text, &bytes, &err), SQZ_OK);
    char *end = text;
    for (int64_t i = 0; i < lines; i++) end = strchr(end, '\n') + 1;
    int64_t keep = end - text + (torn ? 20 : 0);
    ck_assert_int_eq(dir_make(to, &err), SQZ_OK);
    FILE *f = fopen(target, "w");
    fwrite(text, 1, (size_t)(keep < bytes ? keep : bytes), f);
    fclose(f);
    free(text);
    free(source);
    free(target);
}

START_TEST(resume_at_every_record)
{
    fake f = {.seconds = 1, .crash_bits = 3};
    sqz_error err = {0};
    run *r;
    const char *extra = "\"budget\":{\"trials\":9}";
    ck_assert_int_eq(whole_run(extra, "resume-whole", &f, &r, &err), SQZ_OK);
    char *want = front_text(r), *whole = folder("resume-whole");
    int all_jobs = f.jobs;
    run_close(r);
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", whole);
    ck_assert_int_eq(journal_read(path, &j, &err), SQZ_OK);
    int64_t n = journal_length(j);
    ck_assert_int_gt(n, 60);
    int64_t results = 0;
    for (int64_t cut = 1; cut <= n; cut++) {
        results += !strcmp(json_str(journal_record(j, cut - 1), "type", ""), "result");
        char *name = path_format("resume-%lld", (long long)cut), *dir = folder(name);
        cut_copy(whole, dir, cut, cut % 3 == 0);
        fake g = {.seconds = 5, .crash_bits = 3};
        seen s = {0};
        run_options o = options_for(NULL, NULL, &g, &s);
        run *again = NULL;
        sqz_status status = run_resume(dir, &o, &again, &err);
        ck_assert_msg(status == SQZ_OK, "cut %lld: %s", (long long)cut, err.text);
        g.run = again;
        status = drive(again, &err);
        ck_assert_msg(status == SQZ_OK, "cut %lld: %s", (long long)cut, err.text);
        char *have = front_text(again);
        /* paths name the folder of the run; everything else is equal byte for byte */
        ck_assert_msg(!strcmp(have, want), "cut after %lld of %lld records:\n%s\n%s",
                      (long long)cut, (long long)n, have, want);
        ck_assert_int_eq(g.jobs, all_jobs - (int)results);
        free(have);
        run_close(again);
        ck_assert_int_eq(dir_remove(dir, &err), SQZ_OK);
        free(dir);
        free(name);
    }
    journal_close(j);
    free(path);
    free(want);
    free(whole);
}
END_TEST

/* Cancelled, then resumed twice: as if nothing had happened. */
START_TEST(resume_after_cancel)
{
    sqz_error err = {0};
    run *r;
    fake plain = {.seconds = 1};
    const char *extra = "\"budget\":{\"trials\":10}";
    ck_assert_int_eq(whole_run(extra, "uncut", &plain, &r, &err), SQZ_OK);
    char *want = front_text(r), *dir = folder("cut");
    run_close(r);
    fake f = {.seconds = 1, .cancel_after = 8};
    ck_assert_int_eq(whole_run(extra, "cut", &f, &r, &err), SQZ_E_CANCELLED);
    run_close(r);
    for (int round = 0; round < 2; round++) {
        fake g = {.seconds = 1, .cancel_after = round ? 0 : 6};
        seen s = {0};
        run_options o = options_for(NULL, NULL, &g, &s);
        ck_assert_msg(!run_resume(dir, &o, &r, &err), "%s", err.text);
        g.run = r;
        ck_assert_int_eq(drive(r, &err), round ? SQZ_OK : SQZ_E_CANCELLED);
        ck_assert_int_eq(s.told, 1); /* by the first job of the session; then only as a detail */
        ck_assert_int_eq(s.told_again, g.jobs - 1);
        if (round) {
            char *have = front_text(r);
            ck_assert_str_eq(have, want);
            free(have);
        }
        run_close(r);
    }
    free(want);
    free(dir);
}
END_TEST

/* The first `lines` records of a journal, as if plugin `id` had been another build then, and as if
 * the configuration had asked for `search`. */
static void rewrite(const char *from, const char *to, int64_t lines, const char *id,
                    const char *search)
{
    char *source = path_format("%s/journal.jsonl", from);
    char *target = path_format("%s/journal.jsonl", to);
    journal *in = NULL, *out = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(dir_make(to, &err), SQZ_OK);
    ck_assert_int_eq(journal_read(source, &in, &err), SQZ_OK);
    ck_assert_int_eq(journal_open(target, &out, NULL, &err), SQZ_OK);
    for (int64_t i = 0; i < lines; i++) {
        cJSON *record = cJSON_Duplicate(journal_record(in, i), 1);
        cJSON_DeleteItemFromObjectCaseSensitive(record, "seq");
        cJSON_DeleteItemFromObjectCaseSensitive(record, "crc");
        cJSON *plugins_then = json_get(json_get(record, "fingerprint"), "plugins");
        cJSON *use = json_get(json_get(record, "config"), "search");
        if (plugins_then && id)
            ck_assert(cJSON_ReplaceItemInObjectCaseSensitive(plugins_then, id,
                                                             cJSON_CreateString("sha256:00")));
        if (use && search)
            ck_assert(
                cJSON_ReplaceItemInObjectCaseSensitive(use, "use", cJSON_CreateString(search)));
        ck_assert_int_eq(journal_append(out, record, &err), SQZ_OK);
    }
    journal_close(in);
    journal_close(out);
    free(source);
    free(target);
}

static int told_of_change;

static void note_change(void *ctx, const run_event *e)
{
    (void)ctx;
    told_of_change += e->kind == RUN_EVENT_LOG && strstr(e->text, "has changed since") != NULL;
}

/* A plugin that made recorded results must be the same; any other may be repaired, and a repaired
 * search goes on from the recorded points, in later sessions, too. */
START_TEST(resume_with_other_plugins)
{
    static const struct {
        const char *id, *search;
        sqz_status status;
        int told;
    } cases[] = {
        {"org.sqz.gptq", NULL, ERR_CONFLICT, 0}, {"org.sqz.perplexity", NULL, ERR_CONFLICT, 0},
        {"org.sqz.cpu", NULL, ERR_CONFLICT, 0},  {"org.sqz.format.gptq", NULL, SQZ_OK, 1},
        {"org.sqz.jsonl", NULL, SQZ_OK, 1},      {"org.sqz.multiple_choice", NULL, SQZ_OK, 1},
        {"org.sqz.grid", "grid", SQZ_OK, 1}};
    fake f = {.seconds = 1};
    sqz_error err = {0};
    run *r;
    const char *extra = "\"budget\":{\"trials\":9},\"search\":{\"use\":\"nsga2\"}";
    ck_assert_int_eq(whole_run(extra, "plugins-whole", &f, &r, &err), SQZ_OK);
    char *whole = folder("plugins-whole");
    run_close(r);
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", whole);
    ck_assert_int_eq(journal_read(path, &j, &err), SQZ_OK);
    int64_t keep = journal_length(j) * 3 / 4;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *name = path_format("plugins-%zu", i), *dir = folder(name);
        rewrite(whole, dir, keep, cases[i].id, cases[i].search);
        for (int session = 0; session < 2; session++) {
            fake g = {.seconds = 1, .cancel_after = cases[i].search && !session ? 2 : 0};
            seen s = {0};
            run_options o = options_for(NULL, NULL, &g, &s);
            o.observer = note_change;
            told_of_change = 0;
            sqz_status status = run_resume(dir, &o, &r, &err);
            ck_assert_msg(status == cases[i].status, "%s: %d %s", cases[i].id, status, err.text);
            if (status) {
                ck_assert(strstr(err.text, cases[i].id) != NULL);
                break;
            }
            ck_assert_int_eq(told_of_change, cases[i].told);
            g.run = r;
            status = drive(r, &err);
            ck_assert_msg(status == (g.cancel_after ? SQZ_E_CANCELLED : SQZ_OK), "%s: %d %s",
                          cases[i].id, status, err.text);
            ck_assert(g.cancel_after || run_trial_count(r) == 9);
            run_close(r);
        }
        free(dir);
        free(name);
    }
    /* the same search under another name is no repaired one: its answers are compared */
    char *dir = folder("plugins-swapped");
    rewrite(whole, dir, keep, NULL, "grid");
    run_options o = options_for(NULL, NULL, &f, NULL);
    o.observer = NULL;
    ck_assert_int_eq(run_resume(dir, &o, &r, &err), SQZ_OK);
    ck_assert_int_eq(drive(r, &err), ERR_CONFLICT);
    run_close(r);
    journal_close(j);
    free(path);
    free(dir);
    free(whole);
}
END_TEST

START_TEST(recorded_config)
{
    sqz_error err = {0};
    run *r;
    config *c = NULL;
    fake f = {.seconds = 1};
    char *extra = path_format("\"budget\":{\"trials\":1},\"plugins\":{\"path\":[\"%s\"],"
                              "\"deny\":[\"rtn\"]}",
                              root);
    ck_assert_int_eq(whole_run(extra, "recorded", &f, &r, &err), SQZ_OK);
    run_close(r);
    char *dir = folder("recorded"), *nothing = folder("recorded-nothing");
    ck_assert_int_eq(run_recorded_config(dir, &c, &err), SQZ_OK);
    ck_assert_int_eq(c->n_plugin_paths, 1);
    ck_assert_str_eq(c->plugin_paths[0], root);
    ck_assert_str_eq(c->plugin_deny[0], "rtn");
    config_free(c);
    ck_assert_int_ne(run_recorded_config(nothing, &c, &err), SQZ_OK);
    free(nothing);
    free(extra);
    free(dir);
}
END_TEST

START_TEST(conflicts)
{
    sqz_error err = {0};
    run *r;
    fake f = {.seconds = 1};
    seen s = {0};
    ck_assert_int_eq(whole_run("\"budget\":{\"trials\":2}", "conflict", &f, &r, &err), SQZ_OK);
    run_close(r);
    char *dir = folder("conflict"), *nothing = folder("nothing");
    config *other = make_config("\"budget\":{\"trials\":3}");
    run_options o = options_for(other, dir, &f, &s);
    ck_assert_int_eq(run_open(&o, &r, &err), ERR_CONFLICT); /* holds a run */
    ck_assert(strstr(err.text, "--resume") != NULL);
    ck_assert_int_eq(run_resume(dir, &o, &r, &err), ERR_CONFLICT); /* another configuration */
    ck_assert_int_eq(run_resume(nothing, &o, &r, &err), ERR_USAGE);
    /* two writers */
    run_options same = options_for(NULL, NULL, &f, &s);
    run *second = NULL;
    ck_assert_int_eq(run_resume(dir, &same, &r, &err), SQZ_OK);
    ck_assert_int_eq(run_resume(dir, &same, &second, &err), ERR_CONFLICT);
    run_close(r);
    config_free(other);
    free(dir);
    free(nothing);
}
END_TEST

START_TEST(refusals)
{
    sqz_error err = {0};
    seen s = {0};
    fake f = {.seconds = 1};
    struct {
        const char *extra;
        sqz_status code;
        const char *text;
    } cases[] = {
        {"\"steps\":\"nosuch\"", ERR_USAGE, "nosuch"},
        {"\"steps\":[{\"use\":\"auto\",\"with\":{\"bitz\":4}}]", ERR_USAGE,
         "did you mean \"bits\""},
        {"\"steps\":[{\"use\":\"auto\",\"search\":{\"bits\":[4,5]}}]", ERR_USAGE, "bits"},
        {"\"search\":\"nosuch\"", ERR_USAGE, "nosuch"},
        {"\"search\":{\"use\":\"nsga2\",\"with\":{\"popul\":3}}", ERR_USAGE, "popul"},
        {"\"export\":[{\"format\":\"nosuch\"}]", ERR_USAGE, "nosuch"},
        {"\"hardware\":\"nosuch\"", ERR_USAGE, "nosuch"},
        {"\"target\":\"a100\"", ERR_USAGE, "a100"},
        {"\"tracker\":\"nosuch\"", ERR_USAGE, "nosuch"},
        {"\"budget\":{\"gpu_hours\":1}", ERR_USAGE, "gpu_hours"},
        {"\"hardware\":{\"memory\":1000000}", ERR_USAGE, "memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        config *c = make_config(cases[i].extra);
        char *dir = folder("refused");
        run_options o = options_for(c, dir, &f, &s);
        run *r = NULL;
        sqz_status status = run_open(&o, &r, &err);
        ck_assert_msg(status == cases[i].code, "%s: %d %s", cases[i].extra, status, err.text);
        ck_assert_msg(strstr(err.text, cases[i].text) != NULL, "%s: %s", cases[i].extra, err.text);
        ck_assert(!path_exists(dir));
        free(dir);
        config_free(c);
    }
    ck_assert_int_eq(f.jobs, 0);
}
END_TEST

START_TEST(plan_without_running)
{
    sqz_error err = {0};
    seen s = {0};
    cJSON *plan = NULL;
    config *c = make_config("\"budget\":{\"trials\":5}");
    run_options o = options_for(c, NULL, NULL, &s);
    ck_assert_msg(!run_plan(&o, &plan, &err), "%s", err.text);
    const cJSON *seeds = json_get(plan, "seeds"), *seed;
    ck_assert_int_ge(cJSON_GetArraySize(seeds), 3);
    double low = 1e18, high = 0;
    cJSON_ArrayForEach(seed, seeds)
    {
        double b = json_num(json_get(seed, "predicted"), "bytes", NAN);
        ck_assert(b > 1e5 && b < 9e6);
        low = fmin(low, b);
        high = fmax(high, b);
        ck_assert(cJSON_IsNull(json_get(seed, "refused")));
    }
    ck_assert(high > 1.5 * low);
    ck_assert(json_get(plan, "space_points") != NULL);
    cJSON_Delete(plan);
    config_free(c);
    config_override name[] = {{"model=Qwen/Qwen2.5-7B-Instruct", "--model"},
                              {"dataset=" DATA "/arith_test.jsonl", "--dataset"}};
    ck_assert_msg(!config_load(NULL, name, 2, &c, &err), "%s", err.text);
    o.config = c;
    ck_assert_msg(!run_plan(&o, &plan, &err), "%s", err.text);
    ck_assert_double_eq(json_num(json_get(json_get(plan, "spec"), "parameters"), "value", 0), 7e9);
    cJSON_Delete(plan);
    run *r = NULL;
    ck_assert_int_eq(run_open(&o, &r, &err), ERR_MODEL); /* a name can be planned, not run */
    config_free(c);
}
END_TEST

int main(void)
{
    sqz_error err = {0};
    char exe[] = SQZ_BUILD_DIR "/bin/sqz";
    setenv("SQZ_EXE", exe, 0);
    /* thousands of fsyncs: memory where there is a file system in memory */
    snprintf(root, sizeof root, "%s/sqz-coordinator-XXXXXX",
             path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
    if (!mkdtemp(root)) return 1;
    char *cache = folder("cache");
    const char *paths[] = {SQZ_PLUGIN_DIR};
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = cache};
    if (catalogue_open(&o, &plugins, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    Suite *s = suite_create("coordinator");
    TCase *t = tcase_create("coordinator");
    tcase_add_test(t, front_and_files);
    tcase_add_test(t, crashes_cost_one_trial);
    tcase_add_test(t, statuses);
    tcase_add_test(t, no_room_on_the_disk);
    tcase_add_test(t, failed_export_is_told_and_repeated);
    tcase_add_test(t, search_that_fails);
    tcase_add_test(t, stops);
    tcase_add_test(t, resume_at_every_record);
    tcase_add_test(t, resume_after_cancel);
    tcase_add_test(t, resume_with_other_plugins);
    tcase_add_test(t, recorded_config);
    tcase_add_test(t, conflicts);
    tcase_add_test(t, refusals);
    tcase_add_test(t, plan_without_running);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    catalogue_close(plugins);
    dir_remove(root, &err);
    free(cache);
    return failed != 0;
}
