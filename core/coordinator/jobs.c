/* jobs.c - the four jobs of a run as worker jobs (contract: worker.h), and their results through
 * the ledger: a recorded result is taken as it is and never measured again. */
#include "coordinator/state.h"
#include "io/disk.h"
#include "io/file.h"
#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- job.json -------------------------------------------------------------------------------- */

static void add_texts(cJSON *object, const char *key, const char *const *texts, int n)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(list, cJSON_CreateString(texts[i]));
}

/* The worker must find what this process found, and not what else lies in the same folders: the
 * catalogue's files, in order. */
static cJSON *plugin_files(const run *r)
{
    cJSON *list = cJSON_CreateArray(), *item;
    for (int i = 0; i < catalogue_count(r->options.catalogue); i++) {
        const char *file = catalogue_at(r->options.catalogue, i)->file;
        int known = 0;
        cJSON_ArrayForEach(item, list) known |= !strcmp(item->valuestring, file);
        if (!known && *file) cJSON_AddItemToArray(list, cJSON_CreateString(file));
    }
    return list;
}

static cJSON *job_new(const run *r, const char *id, const char *rung)
{
    const config *c = r->config;
    cJSON *job = cJSON_CreateObject(), *plugins;
    char *name = path_format("%s.%s.%s", r->id, id, rung);
    cJSON_AddStringToObject(job, "schema", "sqz.job/1");
    cJSON_AddStringToObject(job, "job", name);
    cJSON_AddStringToObject(job, "store", r->store);
    cJSON_AddNumberToObject(job, "threads", spec_num(r->spec, "threads", 0));
    cJSON_AddNumberToObject(job, "seed", (double)c->seed);
    plugins = cJSON_AddObjectToObject(job, "plugins");
    cJSON_AddItemToObject(plugins, "path", plugin_files(r));
    add_texts(plugins, "allow", c->plugin_allow, c->n_plugin_allow);
    add_texts(plugins, "deny", c->plugin_deny, c->n_plugin_deny);
    cJSON_AddStringToObject(job, "model", c->model);
    cJSON_AddStringToObject(job, "compute", spec_str(r->spec, "compute", "auto"));
    cJSON_AddArrayToObject(job, "tasks");
    free(name);
    return job;
}

static cJSON *add_task(cJSON *job, const char *name)
{
    cJSON *task = cJSON_CreateObject();
    cJSON_AddStringToObject(task, "task", name);
    cJSON_AddItemToArray(json_get(job, "tasks"), task);
    return task;
}

static void add_eval_of(const run *r, cJSON *evals, int i, int64_t limit)
{
    const config_dataset *d = &r->config->datasets[i];
    cJSON *e = cJSON_CreateObject();
    cJSON_AddStringToObject(e, "name", d->name);
    cJSON_AddStringToObject(e, "dataset", sources_dataset_spec(&r->data, r->config, i));
    if (limit > 0) cJSON_AddNumberToObject(e, "limit", (double)limit);
    int64_t window = d->window ? d->window : r->config->window;
    if (window) cJSON_AddNumberToObject(e, "window", (double)window);
    if (d->use) cJSON_AddStringToObject(e, "use", d->use);
    cJSON_AddItemToArray(evals, e);
}

static int64_t full_limit(const run *r, int i)
{
    int64_t own = r->config->datasets[i].limit;
    return own ? own : json_int(r->config->full_eval, "limit", 0);
}

/* Running text gives the most tokens a second, so the divergence is taken on the first text set. */
static const char *kl_dataset(const run *r)
{
    const cJSON *results =
        json_get(json_get(json_get(r->baseline.json, "rungs"), "full"), "results");
    for (int i = 0; i < r->config->n_datasets; i++)
        if (json_get(json_get(results, r->config->datasets[i].name), "perplexity"))
            return sources_dataset_spec(&r->data, r->config, i);
    const char *source = sources_calibration_spec(&r->data, spec_str(r->spec, "calibration", NULL));
    return source ? source : sources_dataset_spec(&r->data, r->config, 0);
}

static void add_bench(const run *r, cJSON *job)
{
    if (!json_bool(json_get(r->config->full, "eval"), "bench", 1)) return;
    cJSON *task = add_task(job, "bench");
    cJSON_AddNumberToObject(task, "new_tokens", 64);
    cJSON_AddNumberToObject(task, "repeats", 3);
}

static void add_full_eval(const run *r, cJSON *job)
{
    cJSON *task = add_task(job, "eval");
    cJSON *evals = cJSON_AddArrayToObject(task, "evals");
    for (int i = 0; i < r->config->n_datasets; i++) add_eval_of(r, evals, i, full_limit(r, i));
}

/* A candidate that breaks the limit for certain need not be measured to the end (worker/early.h);
 * one that keeps it is, because its figure counts. */
static void stop_when_lost(const run *r, cJSON *job)
{
    const cJSON *m = json_get(r->baseline.json, "metrics");
    const char *dataset = r->config->datasets[0].name, *metric = json_str(m, "quality_metric", "");
    const char *items = judge_items(&r->baseline, "full", dataset);
    double alpha = json_num(r->config->full_eval, "stop_alpha", 0);
    double drop = spec_num(r->spec, "max_accuracy_drop", INFINITY);
    int known =
        !strcmp(metric, "acc") || !strcmp(metric, "exact_match") || !strcmp(metric, "perplexity");
    if (!(alpha > 0) || !items || !known || !(drop < 1)) return;
    cJSON *early =
        cJSON_AddObjectToObject(json_get(json_get(job, "tasks")->child, "evals")->child, "early");
    char *path = path_format("%s/%s", r->dir, items);
    cJSON_AddStringToObject(early, "against", path);
    cJSON_AddNumberToObject(early, "margin", drop);
    cJSON_AddNumberToObject(early, "alpha", alpha);
    cJSON_AddNumberToObject(early, "seed", (double)r->config->seed);
    cJSON_AddTrueToObject(early, "only_worse");
    free(path);
}

static void add_steps(const run *r, const trial *t, cJSON *job)
{
    cJSON *task = add_task(job, "steps"), *step;
    const char *source = sources_calibration_spec(&r->data, spec_str(r->spec, "calibration", NULL));
    if (source) {
        cJSON *c = cJSON_AddObjectToObject(task, "calibration");
        cJSON_AddStringToObject(c, "source", source);
        cJSON_AddNumberToObject(c, "samples", spec_num(r->spec, "calibration_samples", 128));
        cJSON_AddNumberToObject(c, "seq_len", spec_num(r->spec, "calibration_seq_len", 2048));
        const cJSON *given = json_get(r->config->full, "calibration");
        static const char *const keys[] = {"packing", "shuffle", "document_tokens", "tokens"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const cJSON *value = json_get(given, keys[i]);
            if (value && !cJSON_IsNull(value))
                cJSON_AddItemToObject(c, keys[i], cJSON_Duplicate(value, 1));
        }
        cJSON_AddNumberToObject(c, "seed", json_num(r->config->full, "seed", 0));
        cJSON *exclude = cJSON_AddArrayToObject(c, "exclude");
        for (int i = 0; i < r->config->n_datasets; i++)
            cJSON_AddItemToArray(exclude,
                                 cJSON_CreateString(sources_dataset_spec(&r->data, r->config, i)));
    }
    cJSON *steps = cJSON_Duplicate(json_get(t->json, "steps"), 1);
    cJSON_ArrayForEach(step, steps) cJSON_DeleteItemFromObjectCaseSensitive(step, "origin");
    cJSON_AddItemToObject(task, "steps", steps);
    if (r->config->format) cJSON_AddStringToObject(task, "format", r->config->format);
    cJSON_AddTrueToObject(task, "must_export"); /* the front is checkpoints, not figures */
}

/* The dense model's likeliest tokens, that candidates are compared with. */
static void add_record(const run *r, cJSON *job)
{
    cJSON *task = add_task(job, "eval"), *kl = cJSON_AddObjectToObject(task, "kl");
    cJSON_AddArrayToObject(task, "evals");
    cJSON_AddStringToObject(kl, "dataset", kl_dataset(r));
    cJSON_AddNumberToObject(kl, "tokens", (double)json_int(r->config->proxy, "kl_tokens", 0));
    cJSON_AddTrueToObject(kl, "make");
}

/* ---- running --------------------------------------------------------------------------------- */

enum { ATTEMPTS = 3 };

typedef struct watch {
    run *r;
    const trial *t;
    const char *rung;
} watch;

static void on_progress(void *ctx, double done, const char *what)
{
    watch *w = ctx;
    cJSON *detail = cJSON_CreateObject();
    cJSON_AddNumberToObject(detail, "done", done);
    run_emit(w->r, RUN_EVENT_TRIAL_PROGRESS, w->t, w->rung, what, detail);
    cJSON_Delete(detail);
}

/* Each trial finds the same things in the same data: what a worker said before in this session is
 * said again only to who asked for every detail. */
static void on_log(void *ctx, int level, const char *text)
{
    enum { REMEMBERED = 64 };
    run *r = ((watch *)ctx)->r;
    const cJSON *line;
    cJSON_ArrayForEach(line, r->said) if (!strcmp(line->valuestring, text)) level = SQZ_LOG_DEBUG;
    run_log(r, level, "%s", text);
    if (level == SQZ_LOG_DEBUG) return;
    if (!r->said) r->said = cJSON_CreateArray();
    if (cJSON_GetArraySize(r->said) == REMEMBERED) cJSON_DeleteItemFromArray(r->said, 0);
    cJSON_AddItemToArray(r->said, cJSON_CreateString(text));
}

/* After the first cancel no trial goes on, but the front found so far is still exported. */
static int cancel_level(const run *r, const char *rung)
{
    int level = atomic_load(&r->cancel);
    return level == 1 && !strcmp(rung, "export") ? 0 : level;
}

static void look(const run *r, room *now)
{
    if (r->options.look)
        r->options.look(r->options.look_ctx, r->store, r->dir, now);
    else
        room_look(r->store, r->dir, now);
}

/* At most every two seconds, and only where somebody can be told. */
static void watch_room(run *r)
{
    room now;
    double t = clock_s();
    if (!r->options.observer || t - r->monitor.looked_s < 2) return;
    r->monitor.looked_s = t;
    look(r, &now);
    char *text = room_watch(&r->monitor, r->spec, r->store, r->dir, &now);
    if (text) run_log(r, SQZ_LOG_WARN, "%s", text);
    free(text);
}

static void warn_whole(run *r, double whole, const room *now)
{
    char need[32], have[32];
    disk_amount(whole, need);
    disk_amount((double)now->store_bytes, have);
    run_log(r, SQZ_LOG_WARN,
            "the whole run is predicted to write %s and %s are free in %s; it stops, to be "
            "resumed, when a step does not fit",
            need, have, r->store);
}

/* Does the job's output fit on the disk?  Nothing is recorded when it does not, so that the run can
 * be resumed at this very step. */
static sqz_status check_room(run *r, const trial *t, const char *id, const char *rung,
                             sqz_error *err)
{
    room now;
    room_need need = room_predict(&r->model, r->spec, r->config, json_get(t->json, "steps"), rung);
    double whole = json_num(json_get(r->plan, "predicted"), "disk_bytes", 0);
    look(r, &now);
    if (!strcmp(rung, "baseline") && now.store_bytes >= 0 && whole > (double)now.store_bytes)
        warn_whole(r, whole, &now);
    char *why = room_refusal(r->spec, &need, r->store, r->dir, &now);
    sqz_status s =
        why ? err_set(err, ERR_STORAGE, "%s.%s is not begun: %s", id, rung, why) : SQZ_OK;
    free(why);
    return s;
}

static int on_cancel(void *ctx)
{
    const watch *w = ctx;
    watch_room(w->r);
    return cancel_level(w->r, w->rung);
}

static cJSON *result_record(const char *id, const char *rung, worker_outcome *o)
{
    cJSON *record = ledger_record("result");
    cJSON_AddStringToObject(record, "trial", id);
    cJSON_AddStringToObject(record, "rung", rung);
    cJSON_AddStringToObject(record, "outcome", outcome_name(o->state));
    cJSON_AddNumberToObject(record, "code", o->code);
    if (o->state != OUTCOME_OK) {
        cJSON_AddStringToObject(record, "message", o->message);
        if (o->signal) cJSON_AddNumberToObject(record, "signal", o->signal);
        if (o->stderr_tail) cJSON_AddStringToObject(record, "stderr", o->stderr_tail);
    }
    json_add_num(record, "seconds", o->seconds);
    json_add_num(record, "peak_rss_bytes", (double)o->peak_rss_bytes);
    if (o->result) cJSON_AddItemToObject(record, "result", cJSON_Duplicate(o->result, 1));
    return record;
}

static sqz_status note_start(run *r, const char *id, const char *rung, sqz_error *err)
{
    cJSON *record = ledger_record("start");
    cJSON_AddStringToObject(record, "trial", id);
    cJSON_AddStringToObject(record, "rung", rung);
    return ledger_append(r, record, NULL, err);
}

/* Nothing in the worker sends these to itself: somebody else did, and neither the job nor its
 * plugins are to blame.  (The kernel's and our own kills for memory are told apart in worker.c.) */
static int killed_by_others(const worker_outcome *o)
{
    return o->state == OUTCOME_CRASHED && (o->signal == SIGKILL || o->signal == SIGTERM);
}

/* noted: the journal says that the job was begun. */
static sqz_status attempt_job(watch *w, const char *id, const cJSON *job, const char *dir,
                              int noted, worker_outcome *o, sqz_error *err)
{
    run *r = w->r;
    worker_hooks hooks = {on_progress, on_log, on_cancel, w};
    worker_limits limits = {json_num(json_get(r->config->full, "hardware"), "job_timeout", 0),
                            (int64_t)spec_num(r->spec, "memory_limit", 0)};
    sqz_status s = check_room(r, w->t, id, w->rung, err);
    if (!s) s = dir_remove(dir, err);
    if (!s && noted) s = note_start(r, id, w->rung, err);
    if (s) return s;
    run_emit(r, RUN_EVENT_TRIAL_STARTED, w->t, w->rung, NULL, w->t->json);
    if (r->options.job)
        r->options.job(r->options.job_ctx, job, dir, &limits, &hooks, o);
    else
        worker_run(job, dir, &limits, &hooks, o);
    return SQZ_OK;
}

/* ---- objects of the registry that were damaged since they were recorded ---------------------- */
/* What a job reads of the registry, and the job that made it: a trial's artifact, or the record of
 * the dense model's predictions. */
typedef struct source_object {
    const char *digest; /* NULL: the job reads none */
    const char *rung;   /* of the job that made it, for room and messages */
} source_object;

static const char *record_of(const cJSON *job)
{
    const cJSON *task;
    cJSON_ArrayForEach(task, json_get(job, "tasks"))
    {
        const char *record = json_str(json_get(task, "kl"), "record", NULL);
        if (record) return record;
    }
    return NULL;
}

/* The first of the job's objects whose bytes are not what was recorded; why says so. */
static source_object damaged_source(run *r, const cJSON *job, sqz_error *why)
{
    source_object artifact = {json_str(job, "artifact", NULL), "proxy"},
                  record = {record_of(job), "divergence"};
    registry *fresh = NULL; /* the run's own handle does not hash again what it has hashed */
    if (registry_open(r->store, &fresh, NULL)) return (source_object){0};
    if (artifact.digest && artifact_checked(fresh, artifact.digest, why) != ERR_STORAGE)
        artifact.digest = NULL;
    if (!artifact.digest && record.digest &&
        object_checked(fresh, record.digest, why) != ERR_STORAGE)
        record.digest = NULL;
    registry_close(fresh);
    return artifact.digest ? artifact : record;
}

/* 1: a job of this one's failed because an object was damaged, and that object was made again. */
static int make_again(run *r, const trial *t, const char *id, const cJSON *failed)
{
    sqz_error why = {0}, err = {0};
    source_object lost = damaged_source(r, failed, &why);
    if (!lost.digest) return 0;
    int dense = !strcmp(lost.rung, "divergence");
    run_log(r, SQZ_LOG_WARN, "%s: %s is made again: %s", id,
            dense ? "the record of the dense model" : "its artifact", why.text);
    cJSON *job = job_new(r, dense ? "dense" : id, "again");
    if (dense)
        add_record(r, job);
    else
        add_steps(r, t, job);
    char *dir = path_format("%s/jobs/%s.again", r->dir, id);
    watch w = {r, dense ? &r->baseline : t, lost.rung};
    worker_outcome o = {0};
    /* What is recorded stays as it is: a replay must not meet this job. */
    sqz_status s = attempt_job(&w, dense ? "dense" : id, job, dir, 0, &o, &err);
    if (!s && o.state != OUTCOME_OK) s = err_set(&err, ERR_STORAGE, "%s", o.message);
    source_object still = s ? lost : damaged_source(r, failed, &why);
    int made = !still.digest || strcmp(still.digest, lost.digest) != 0;
    if (!made && !cancel_level(r, lost.rung))
        run_log(r, SQZ_LOG_WARN,
                "%s: it could not be made again: %s; a run in a new folder measures what this "
                "machine makes now",
                id, s ? err.text : "other bytes came out of it");
    worker_outcome_free(&o);
    free(dir);
    cJSON_Delete(job);
    return made;
}

/* Has the job to be run once more? */
static int worth_again(run *r, const trial *t, const char *id, const char *rung, const cJSON *job,
                       const worker_outcome *o)
{
    if (cancel_level(r, rung)) return 0;
    /* a plugin passes a storage error on as SQZ_E_IO */
    if (o->code == ERR_STORAGE || o->code == SQZ_E_IO) return make_again(r, t, id, job);
    if (!killed_by_others(o)) return 0;
    records_sweep(r);
    run_log(r, SQZ_LOG_WARN, "%s.%s: its worker was killed from outside; trying again", id, rung);
    return 1;
}

static sqz_status execute(run *r, const trial *t, const char *id, const char *rung,
                          const cJSON *job, const cJSON **result, sqz_error *err)
{
    char *dir = path_format("%s/jobs/%s.%s", r->dir, id, rung);
    watch w = {r, t, rung};
    worker_outcome o = {0};
    sqz_status s = SQZ_OK;
    for (int attempt = 1; !s; attempt++) {
        worker_outcome_free(&o);
        s = attempt_job(&w, id, job, dir, 1, &o, err);
        if (s || attempt == ATTEMPTS || !worth_again(r, t, id, rung, job, &o)) break;
    }
    if (s) { /* said */
    } else if (cancel_level(r, rung) && o.state != OUTCOME_OK) {
        s = JOB_CANCELLED;
    } else if (o.code == ERR_STORAGE) { /* a full disk fails the run, not trial after trial */
        s = err_set(err, ERR_STORAGE, "%s.%s: %s", id, rung, o.message);
    } else {
        s = ledger_append(r, result_record(id, rung, &o), result, err);
    }
    worker_outcome_free(&o);
    free(dir);
    return s;
}

/* Takes the recorded result, or runs the job.  A "start" without a result is a session that was
 * killed there. */
static sqz_status settle(run *r, const trial *t, const char *id, const char *rung, cJSON *job,
                         const cJSON **result, sqz_error *err)
{
    const char *next;
    const cJSON *record = NULL;
    sqz_status s = SQZ_OK;
    while (!s && (next = ledger_peek(r)) && !strcmp(next, "start"))
        s = ledger_take(r, "start", &record, err);
    if (!s && ledger_replaying(r)) {
        s = ledger_take(r, "result", &record, err);
        if (!s && (strcmp(json_str(record, "trial", ""), id) != 0 ||
                   strcmp(json_str(record, "rung", ""), rung) != 0))
            s = err_set(err, ERR_CONFLICT,
                        "%s/journal.jsonl: holds a result of %s.%s where %s.%s was expected",
                        r->dir, json_str(record, "trial", "?"), json_str(record, "rung", "?"), id,
                        rung);
        if (!s) *result = record;
    } else if (!s) {
        s = execute(r, t, id, rung, job, result, err);
    }
    cJSON_Delete(job);
    return s;
}

sqz_status job_baseline(run *r, const cJSON **result, sqz_error *err)
{
    cJSON *job = job_new(r, "dense", "baseline");
    add_full_eval(r, job);
    add_bench(r, job);
    sqz_status s = settle(r, &r->baseline, "dense", "baseline", job, result, err);
    return s;
}

/* The record of the dense model's likeliest tokens; its own job, so that the data set can be chosen
 * by what the baseline's evaluation found. */
static sqz_status kl_record(run *r, const char **digest, sqz_error *err)
{
    const cJSON *record = NULL;
    *digest = json_str(json_get(r->baseline.json, "kl_record"), "record", NULL);
    if (*digest || json_int(r->config->proxy, "kl_tokens", 0) <= 0 ||
        json_get(r->baseline.json, "kl_record"))
        return SQZ_OK;
    cJSON *job = job_new(r, "dense", "divergence");
    add_record(r, job);
    sqz_status s = settle(r, &r->baseline, "dense", "divergence", job, &record, err);
    if (s) return s;
    const cJSON *made = json_get(job_task(record, "eval"), "kl");
    cJSON_AddItemToObject(r->baseline.json, "kl_record",
                          made ? cJSON_Duplicate(made, 1) : cJSON_CreateObject());
    *digest = json_str(made, "record", NULL);
    if (!*digest)
        run_log(r, SQZ_LOG_WARN, "the divergence from the dense model is not available: %s",
                json_str(record, "message", "no record was made"));
    return SQZ_OK;
}

sqz_status job_proxy(run *r, trial *t, const cJSON **result, sqz_error *err)
{
    const char *digest = NULL;
    int filtering = json_bool(r->config->proxy, "enabled", 1);
    sqz_status s = filtering ? kl_record(r, &digest, err) : SQZ_OK;
    if (s) return s;
    cJSON *job = job_new(r, trial_text(t, "strategy_id"), "proxy");
    add_steps(r, t, job);
    if (filtering) {
        cJSON *task = add_task(job, "eval");
        int64_t limit = json_int(r->config->proxy, "limit", 64), most = full_limit(r, 0);
        add_eval_of(r, cJSON_AddArrayToObject(task, "evals"), 0,
                    most && most < limit ? most : limit);
        if (digest) {
            cJSON *kl = cJSON_AddObjectToObject(task, "kl");
            cJSON_AddStringToObject(kl, "dataset", kl_dataset(r));
            cJSON_AddNumberToObject(kl, "tokens",
                                    (double)json_int(r->config->proxy, "kl_tokens", 0));
            cJSON_AddStringToObject(kl, "record", digest);
        }
    }
    return settle(r, t, trial_text(t, "strategy_id"), "proxy", job, result, err);
}

sqz_status job_full(run *r, trial *t, const cJSON **result, sqz_error *err)
{
    cJSON *job = job_new(r, trial_text(t, "strategy_id"), "full");
    cJSON_AddStringToObject(job, "artifact", trial_text(t, "artifact"));
    add_full_eval(r, job);
    stop_when_lost(r, job);
    add_bench(r, job);
    return settle(r, t, trial_text(t, "strategy_id"), "full", job, result, err);
}

sqz_status job_export(run *r, trial *t, const cJSON **result, sqz_error *err)
{
    cJSON *job = job_new(r, trial_text(t, "strategy_id"), "export");
    char *output = path_format("%s/models/%s", r->dir, trial_text(t, "strategy_id"));
    cJSON_AddStringToObject(job, "artifact", trial_text(t, "artifact"));
    cJSON *task = add_task(job, "export");
    if (r->config->format) cJSON_AddStringToObject(task, "format", r->config->format);
    cJSON_AddStringToObject(task, "output", output);
    free(output);
    return settle(r, t, trial_text(t, "strategy_id"), "export", job, result, err);
}

/* ---- results --------------------------------------------------------------------------------- */

const cJSON *job_task(const cJSON *record, const char *task)
{
    const cJSON *item;
    cJSON_ArrayForEach(
        item, json_get(json_get(record, "result"), "tasks")) if (!strcmp(json_str(item, "task", ""),
                                                                         task)) return item;
    return NULL;
}

/* Hard link where the file systems allow it, else a copy. */
static void keep_file(run *r, const char *from, const char *to)
{
    char *data = NULL;
    int64_t bytes;
    sqz_error err = {0};
    if (path_exists(to) || link(from, to) == 0) return;
    sqz_status s = file_read(from, (int64_t)1 << 30, &data, &bytes, &err);
    if (!s) s = file_write(to, data, bytes, &err);
    if (s) run_log(r, SQZ_LOG_WARN, "per-item outcomes are not kept: %s", err.text);
    free(data);
}

cJSON *job_keep_items(run *r, const char *strategy_id, const char *rung, const cJSON *eval)
{
    cJSON *kept = cJSON_CreateObject();
    const cJSON *item;
    char *dir = path_format("%s/items", r->dir);
    sqz_error err = {0};
    if (dir_make(dir, &err)) run_log(r, SQZ_LOG_WARN, "%s", err.text);
    cJSON_ArrayForEach(item, json_get(eval, "items"))
    {
        if (!cJSON_IsString(item)) continue;
        char *name = path_format("items/%s.%s.%s.jsonl", strategy_id, rung, item->string);
        for (char *p = name + 6; *p; p++)
            if (!isalnum((unsigned char)*p) && !strchr("._-", *p)) *p = '_';
        char *to = path_format("%s/%s", r->dir, name);
        keep_file(r, item->valuestring, to);
        cJSON_AddStringToObject(kept, item->string, name);
        free(to);
        free(name);
    }
    free(dir);
    return kept;
}
