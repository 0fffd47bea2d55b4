/* events.c - see events.h.
 *
 * Few keys on purpose: tables of tracking servers get slow and unreadable with many.  The
 * parameters of a trial are those that vary over the run; all others are in its steps. */
#include "tracker/events.h"
#include "coordinator/spec.h"
#include "hash/sha256.h"
#include "io/file.h"
#include "journal.h"
#include "report/facts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { MAX_METRICS = 40, MAX_SUMMARY = 4800 };

int64_t events_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Takes ownership of data and key. */
static cJSON *record(const char *kind, char *key, cJSON *data)
{
    cJSON *r = cJSON_CreateObject();
    cJSON_AddStringToObject(r, "type", kind);
    cJSON_AddStringToObject(r, "key", key);
    cJSON_AddNumberToObject(r, "time_ms", (double)events_now_ms());
    cJSON_AddItemToObject(r, "data", data);
    free(key);
    return r;
}

static void copy(cJSON *to, const char *key, const cJSON *value)
{
    if (value && !cJSON_IsNull(value)) cJSON_AddItemToObject(to, key, cJSON_Duplicate(value, 1));
}

/* The part of an id or path that says something. */
static const char *last_part(const char *text, char separator)
{
    const char *at = strrchr(text, separator);
    return at && at[1] ? at + 1 : text;
}

/* ---- trials ---------------------------------------------------------------------------------- */
static void add_text(cJSON *to, const char *key, const cJSON *value)
{
    if (cJSON_IsString(value)) {
        cJSON_AddStringToObject(to, key, value->valuestring);
    } else if (value && !cJSON_IsNull(value)) {
        char *text = json_text(value, 0);
        cJSON_AddStringToObject(to, key, text);
        free(text);
    }
}

/* What was chosen for this trial, by seeds or the search, as texts. */
static cJSON *varying_params(const cJSON *steps)
{
    cJSON *out = cJSON_CreateObject();
    int n = cJSON_GetArraySize(steps), i = 0;
    char methods[256] = "";
    const cJSON *step, *value;
    cJSON_ArrayForEach(step, steps)
    {
        const char *id = last_part(json_str(step, "use", "?"), '.');
        snprintf(methods + strlen(methods), sizeof methods - strlen(methods), "%s%s",
                 *methods ? "+" : "", id);
        i++;
        cJSON_ArrayForEach(value, json_get(step, "with"))
        {
            const char *origin = json_str(json_get(step, "origin"), value->string, "");
            if (strcmp(origin, "seed") != 0 && strcmp(origin, "search") != 0) continue;
            char *key = n > 1 ? path_format("step%d.%s", i, value->string)
                              : path_format("%s", value->string);
            add_text(out, key, value);
            free(key);
        }
    }
    cJSON_AddStringToObject(out, "method", n ? methods : "dense");
    return out;
}

static void add_metric(cJSON *list, const char *name, double value, int64_t step)
{
    if (!isfinite(value) || cJSON_GetArraySize(list) >= MAX_METRICS) return;
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "name", name);
    cJSON_AddNumberToObject(m, "value", value);
    cJSON_AddNumberToObject(m, "step", (double)step);
    cJSON_AddItemToArray(list, m);
}

/* "DATASET/METRIC" of one rung; times and counts are not results. */
static void add_results(cJSON *list, const cJSON *results, int64_t step)
{
    static const char *const skipped[] = {"n", "seconds", "tokens_per_second"};
    const cJSON *dataset, *value;
    cJSON_ArrayForEach(dataset, results) cJSON_ArrayForEach(value, dataset)
    {
        int skip = !cJSON_IsNumber(value);
        for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++)
            skip |= !strcmp(value->string, skipped[i]);
        if (skip) continue;
        char *name = path_format("%s/%s", dataset->string, value->string);
        add_metric(list, name, value->valuedouble, step);
        free(name);
    }
}

enum { RUNG_PROXY = 0, RUNG_FULL = 1 }; /* steps of a trial's metrics */

static cJSON *trial_metrics(const cJSON *trial)
{
    cJSON *list = cJSON_CreateArray();
    const cJSON *value, *rungs = json_get(trial, "rungs");
    /* proxy first: servers show the last value */
    const cJSON *proxy = json_get(rungs, "proxy"), *full = json_get(rungs, "full");
    add_metric(list, "kl", json_num(json_get(proxy, "kl"), "mean", NAN), RUNG_PROXY);
    cJSON_ArrayForEach(value, json_get(trial, "metrics"))
    {
        if (!cJSON_IsNumber(value) || !strcmp(value->string, "kl")) continue;
        add_metric(list, value->string, value->valuedouble, RUNG_FULL);
    }
    add_metric(list, "seconds", json_num(trial, "seconds", NAN), RUNG_FULL);
    add_results(list, json_get(full, "results"), RUNG_FULL);
    add_results(list, json_get(proxy, "results"), RUNG_PROXY);
    return list;
}

/* Objectives of an evaluated trial that came out as no number. */
static cJSON *nonfinite(const cJSON *trial, const cJSON *objectives)
{
    cJSON *list = cJSON_CreateArray();
    const cJSON *values = json_get(trial, "objectives"), *value;
    int i = 0;
    cJSON_ArrayForEach(value, values)
    {
        const cJSON *name = cJSON_GetArrayItem(objectives, i++);
        if (cJSON_IsNumber(value) && isfinite(value->valuedouble)) continue;
        cJSON_AddItemToArray(list,
                             cJSON_CreateString(cJSON_IsString(name) ? name->valuestring : "?"));
    }
    return list;
}

static cJSON *trial_begin(const cJSON *trial)
{
    static const char *const keys[] = {"label", "index", "kind", "proposed_by", "why", "steps"};
    cJSON *j = cJSON_CreateObject();
    copy(j, "trial", json_get(trial, "strategy_id"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        copy(j, keys[i], json_get(trial, keys[i]));
    cJSON_AddItemToObject(j, "params", varying_params(json_get(trial, "steps")));
    return j;
}

static cJSON *trial_end(const cJSON *trial, const cJSON *objectives)
{
    static const char *const keys[] = {"outcome",    "reason",   "feasible", "front",
                                       "violations", "artifact", "seconds"};
    cJSON *j = trial_begin(trial);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        copy(j, keys[i], json_get(trial, keys[i]));
    /* as pareto.json says it: one that is like a member is none */
    if (json_get(trial, "like")) cJSON_ReplaceItemInObject(j, "front", cJSON_CreateFalse());
    cJSON_AddItemToObject(j, "metrics", trial_metrics(trial));
    cJSON_AddItemToObject(j, "nonfinite", nonfinite(trial, objectives));
    return j;
}

static cJSON *begin_record(const cJSON *trial)
{
    return record("trial_begin", path_format("trial_begin/%s", json_str(trial, "strategy_id", "?")),
                  trial_begin(trial));
}

static cJSON *end_record(const cJSON *trial, const cJSON *objectives)
{
    return record("trial_end", path_format("trial_end/%s", json_str(trial, "strategy_id", "?")),
                  trial_end(trial, objectives));
}

/* ---- the study ------------------------------------------------------------------------------- */
static void add_best(cJSON *list, const cJSON *pareto, int64_t step)
{
    const cJSON *objective, *member;
    int k = 0;
    cJSON_ArrayForEach(objective, json_get(pareto, "objectives"))
    {
        double best = NAN;
        int larger = !strncmp(json_str(objective, "direction", "min"), "max", 3);
        cJSON_ArrayForEach(member, json_get(pareto, "members"))
        {
            const cJSON *v = cJSON_GetArrayItem(json_get(member, "objectives"), k);
            if (!cJSON_IsNumber(v)) continue;
            if (isnan(best) || (larger ? v->valuedouble > best : v->valuedouble < best))
                best = v->valuedouble;
        }
        char *name = path_format("best/%s", json_str(objective, "name", "?"));
        add_metric(list, name, best, step);
        free(name);
        k++;
    }
}

static cJSON *progress_record(int64_t trials, cJSON *metrics)
{
    cJSON *data = cJSON_CreateObject();
    cJSON_AddItemToObject(data, "metrics", metrics);
    return record("progress", path_format("progress/%lld", (long long)trials), data);
}

static cJSON *live_progress(const run_event *e)
{
    cJSON *m = cJSON_CreateArray();
    add_metric(m, "hypervolume", e->hypervolume, e->trials);
    add_metric(m, "evaluated", (double)(e->trials - e->failed - e->killed), e->trials);
    add_metric(m, "failed", (double)e->failed, e->trials);
    add_metric(m, "killed", (double)e->killed, e->trials);
    add_metric(m, "front_size", (double)e->front_size, e->trials);
    add_metric(m, "elapsed_seconds", e->elapsed_s, e->trials);
    return progress_record(e->trials, m);
}

static cJSON *front_record(const cJSON *pareto)
{
    cJSON *data = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(data, "members"),
          *best = cJSON_AddArrayToObject(data, "metrics");
    const cJSON *member;
    cJSON_ArrayForEach(member, json_get(pareto, "members"))
        cJSON_AddItemToArray(ids, cJSON_CreateString(json_str(member, "strategy_id", "?")));
    copy(data, "objectives", json_get(pareto, "objectives"));
    copy(data, "reference", json_get(pareto, "reference"));
    copy(data, "hypervolume", json_get(pareto, "hypervolume_normalised"));
    char *text = json_text(ids, 0), digest[DIGEST_TEXT];
    double volume = json_num(pareto, "hypervolume", 0);
    char *full = path_format("%s %.17g", text, volume);
    sha256_buffer(full, strlen(full), digest);
    free(full);
    free(text);
    /* a front grows with the number of trials known to it, so the last id is a good step */
    int64_t step = 0;
    cJSON_ArrayForEach(member, ids)
    {
        int64_t n =
            strtoll(member->valuestring + strcspn(member->valuestring, "0123456789"), NULL, 10);
        if (n > step) step = n;
    }
    add_best(best, pareto, step);
    return record("front", path_format("front/%.16s", digest + 7), data);
}

static cJSON *export_record(const char *dir, const cJSON *trial)
{
    const cJSON *e = json_get(trial, "export");
    const char *id = json_str(trial, "strategy_id", "?"), *path = json_str(e, "path", NULL);
    if (!path || json_get(e, "message")) return NULL;
    cJSON *data = cJSON_CreateObject();
    size_t n = dir ? strlen(dir) : 0;
    if (n && !strncmp(path, dir, n) && path[n] == '/') path += n + 1;
    cJSON_AddStringToObject(data, "trial", id);
    cJSON_AddStringToObject(data, "path", path);
    copy(data, "format", json_get(e, "format"));
    copy(data, "bytes", json_get(e, "bytes"));
    return record("export", path_format("export/%s", id), data);
}

cJSON *events_of_run(const run_event *e, const cJSON *objectives)
{
    cJSON *list = cJSON_CreateArray();
    switch (e->kind) {
    case RUN_EVENT_TRIAL_PROPOSED: cJSON_AddItemToArray(list, begin_record(e->detail)); break;
    case RUN_EVENT_TRIAL_FINISHED:
        cJSON_AddItemToArray(list, end_record(e->detail, objectives));
        cJSON_AddItemToArray(list, live_progress(e));
        break;
    case RUN_EVENT_FRONT_CHANGED: cJSON_AddItemToArray(list, front_record(e->detail)); break;
    default: break; /* exports come from the folder, where their paths are relative */
    }
    if (cJSON_GetArraySize(list)) return list;
    cJSON_Delete(list);
    return NULL;
}

/* ---- from the folder ------------------------------------------------------------------------- */
static void add_study_params(cJSON *params, const cJSON *run)
{
    const cJSON *full = json_get(run, "config_full"), *spec = json_get(run, "spec"), *item;
    const cJSON *budget = json_get(full, "budget");
    add_text(params, "model", json_get(run, "model"));
    add_text(params, "budget.trials", json_get(json_get(spec, "budget_trials"), "value"));
    add_text(params, "budget.wall", json_get(budget, "wall"));
    add_text(params, "objectives", json_get(json_get(spec, "objectives"), "value"));
    add_text(params, "max_accuracy_drop", json_get(json_get(spec, "max_accuracy_drop"), "value"));
    add_text(params, "seed", json_get(run, "seed"));
    add_text(params, "search", json_get(json_get(full, "search"), "use"));
    add_text(params, "methods", json_get(json_get(spec, "methods"), "value"));
    add_text(params, "compute", json_get(json_get(spec, "compute"), "value"));
    add_text(params, "calibration", json_get(json_get(spec, "calibration"), "value"));
    add_text(params, "calibration.samples",
             json_get(json_get(spec, "calibration_samples"), "value"));
    add_text(params, "calibration.seq_len",
             json_get(json_get(spec, "calibration_seq_len"), "value"));
    int i = 0;
    cJSON_ArrayForEach(item, json_get(full, "dataset"))
    {
        char key[32];
        snprintf(key, sizeof key, "dataset.%d", i++);
        add_text(params, key, json_get(item, "source"));
    }
}

static void add_study_tags(cJSON *tags, const cJSON *run)
{
    char digest[DIGEST_TEXT];
    const cJSON *plan = json_get(run, "plan"), *machine = json_get(run, "machine");
    add_text(tags, "sqz.version", json_get(json_get(run, "versions"), "sqz"));
    add_text(tags, "sqz.run_id", json_get(run, "id"));
    add_text(tags, "sqz.host", json_get(machine, "host"));
    add_text(tags, "sqz.cpu", json_get(machine, "cpu"));
    add_text(tags, "sqz.threads", json_get(machine, "threads"));
    add_text(tags, "sqz.model_digest", json_get(json_get(run, "fingerprint"), "model"));
    char *text = plan ? json_canonical(plan) : NULL;
    if (text) {
        sha256_buffer(text, strlen(text), digest);
        cJSON_AddStringToObject(tags, "sqz.plan", digest);
    }
    free(text);
}

/* "started" or "updated" of run.json. */
static int64_t time_of(const cJSON *run, const char *key)
{
    struct tm tm = {0};
    const char *text = json_str(run, key, "");
    if (!strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm)) return events_now_ms();
    return (int64_t)timegm(&tm) * 1000;
}

static cJSON *study_json(const report_data *data)
{
    facts f;
    const cJSON *run = data->run;
    cJSON *j = cJSON_CreateObject();
    facts_make(data, &f);
    const cJSON *first = cJSON_GetArrayItem(json_get(json_get(run, "config_full"), "dataset"), 0);
    const char *source = json_str(first, "source", "data");
    char *file = path_format("%s", last_part(source, '/'));
    const char *equals = strchr(source, '=');
    size_t stem = equals ? strcspn(source, "=") : strcspn(file, ".");
    const char *model = f.model ? f.model : last_part(json_str(run, "model", "model"), '/');
    char *experiment = path_format("%s on %.*s", model, (int)stem, equals ? source : file);
    char *name = path_format("%s %s", model, json_str(run, "id", ""));
    char *registered = path_format("%s-sqz", model);
    copy(j, "id", json_get(run, "id"));
    cJSON_AddStringToObject(j, "name", name);
    cJSON_AddStringToObject(j, "experiment", experiment);
    cJSON_AddStringToObject(j, "registered_model", registered);
    copy(j, "model", json_get(run, "model"));
    copy(j, "datasets", json_get(json_get(run, "config_full"), "dataset"));
    copy(j, "objectives", json_get(json_get(json_get(run, "spec"), "objectives"), "value"));
    cJSON_AddNumberToObject(j, "started_ms", (double)time_of(run, "started"));
    copy(j, "version", json_get(json_get(run, "versions"), "sqz"));
    copy(j, "seed", json_get(run, "seed"));
    add_study_params(cJSON_AddObjectToObject(j, "params"), run);
    add_study_tags(cJSON_AddObjectToObject(j, "tags"), run);
    free(registered);
    free(name);
    free(experiment);
    free(file);
    facts_free(&f);
    return j;
}

sqz_status events_study(const char *dir, cJSON **study, sqz_error *err)
{
    report_data data = {0};
    sqz_status s = report_load(dir, &data, err);
    if (s) return s;
    if (data.run)
        *study = study_json(&data);
    else
        s = err_set(err, ERR_MODEL, "%s: holds no run.json, so there is no run to track", dir);
    report_data_free(&data);
    return s;
}

/* Files worth keeping beside the study, with what a browser should take them for. */
static const struct {
    const char *name, *media_type;
} kept[] = {{"report.html", "text/html"},
            {"report.md", "text/markdown"},
            {"metrics.json", "application/json"},
            {"pareto.json", "application/json"},
            {"run.json", "application/json"},
            {"environment.json", "application/json"},
            {"quantization_summary.json", "application/json"},
            {"trials.jsonl", "application/x-ndjson"},
            {"journal.jsonl", "application/x-ndjson"}};

static void add_files(const char *dir, cJSON *list)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct stat st;
        char digest[DIGEST_TEXT], *path = path_format("%s/%s", dir, kept[i].name);
        /* a link could lead out of the folder */
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && !sha256_file(path, digest, NULL)) {
            cJSON *data = cJSON_CreateObject();
            cJSON_AddStringToObject(data, "path", kept[i].name);
            cJSON_AddNumberToObject(data, "bytes", (double)st.st_size);
            cJSON_AddStringToObject(data, "sha256", digest);
            cJSON_AddStringToObject(data, "media_type", kept[i].media_type);
            cJSON_AddItemToArray(
                list, record("file", path_format("file/%s/%.16s", kept[i].name, digest + 7), data));
        }
        free(path);
    }
}

/* The beginning of report.md, up to a line's end. */
static char *summary_text(const char *dir)
{
    char *path = path_format("%s/report.md", dir), *text = NULL;
    int64_t bytes = 0;
    if (file_read(path, 16 << 20, &text, &bytes, NULL)) text = NULL;
    free(path);
    if (text && bytes > MAX_SUMMARY) {
        text[MAX_SUMMARY] = 0;
        char *cut = strrchr(text, '\n');
        if (cut) *cut = 0;
    }
    return text;
}

static int64_t journal_records(const char *dir)
{
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", dir);
    int64_t n = path_exists(path) && !journal_read(path, &j, NULL) ? journal_length(j) : 0;
    journal_close(j);
    free(path);
    return n;
}

static cJSON *end_of_study(const char *dir, const report_data *data)
{
    cJSON *j = cJSON_CreateObject();
    const char *state = json_str(data->run, "state", "");
    int killed = !strcmp(state, "running"); /* before it could say so */
    if (killed) state = "interrupted";
    cJSON_AddStringToObject(j, "state", state);
    char *summary = summary_text(dir);
    if (summary) cJSON_AddStringToObject(j, "summary", summary);
    free(summary);
    const cJSON *best = report_best(data->pareto);
    if (best && json_str(best, "path", NULL)) {
        cJSON *r = cJSON_AddObjectToObject(j, "recommended");
        copy(r, "trial", json_get(best, "strategy_id"));
        copy(r, "label", json_get(best, "label"));
        copy(r, "path", json_get(best, "path"));
        copy(r, "artifact", json_get(best, "artifact"));
        copy(r, "format", json_get(best, "format"));
    }
    char *key = path_format("end/%s/%lld", state, (long long)journal_records(dir));
    cJSON *r = record("end", key, j);
    if (!killed)
        cJSON_SetNumberValue(json_get(r, "time_ms"), (double)time_of(data->run, "updated"));
    return r;
}

static void add_history(const report_data *data, cJSON *list)
{
    const cJSON *h;
    cJSON_ArrayForEach(h, json_get(json_get(data->metrics, "hypervolume"), "history"))
    {
        cJSON *m = cJSON_CreateArray();
        int64_t n = json_int(h, "trial", 0);
        add_metric(m, "hypervolume", json_num(h, "normalised", NAN), n);
        add_metric(m, "elapsed_seconds", json_num(h, "seconds", NAN), n);
        cJSON_AddItemToArray(list, progress_record(n, m));
    }
}

sqz_status events_of_folder(const char *dir, int ended, cJSON **records, sqz_error *err)
{
    report_data data = {0};
    const cJSON *t;
    sqz_status s = report_load(dir, &data, err);
    if (s) return s;
    cJSON *list = cJSON_CreateArray();
    const cJSON *objectives = json_get(json_get(json_get(data.run, "spec"), "objectives"), "value");
    cJSON_ArrayForEach(t, data.trials)
    {
        cJSON_AddItemToArray(list, end_record(t, objectives));
        cJSON *exported = ended ? export_record(dir, t) : NULL;
        if (exported) cJSON_AddItemToArray(list, exported);
    }
    add_history(&data, list);
    if (data.pareto) cJSON_AddItemToArray(list, front_record(data.pareto));
    if (ended) {
        add_files(dir, list);
        cJSON_AddItemToArray(list, end_of_study(dir, &data));
    }
    report_data_free(&data);
    *records = list;
    return SQZ_OK;
}
