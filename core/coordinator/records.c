/* records.c - the files of a run folder besides the journal; each is whole or absent, and all can
 * be made again from the journal. */
#include "coordinator/state.h"
#include "data/data.h"
#include "io/file.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

static sqz_status write_json(const run *r, const char *name, const cJSON *value, sqz_error *err)
{
    char *path = path_format("%s/%s", r->dir, name), *text = json_text(value, 1);
    sqz_status s = file_printf(path, err, "%s\n", text);
    free(text);
    free(path);
    return s;
}

static void copy(cJSON *to, const char *key, const cJSON *value)
{
    if (value) cJSON_AddItemToObject(to, key, cJSON_Duplicate(value, 1));
}

static void add_now(cJSON *object, const char *key)
{
    char text[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    cJSON_AddStringToObject(object, key, text);
}

/* ---- what must not change between sessions
 * ------------------------------------------------------- */

static void add_file_digest(cJSON *to, const char *key, const char *source, sqz_status *s,
                            sqz_error *err)
{
    char digest[DIGEST_TEXT];
    if (*s) return;
    *s = dataset_digest(source, NULL, digest, err);
    if (!*s) cJSON_AddStringToObject(to, key, digest);
}

/* One data set as its digest, several as an object of digests. */
static void add_calibration_digest(cJSON *to, const char *source, sqz_status *s, sqz_error *err)
{
    mix_spec mix;
    if (*s || (*s = mix_parse(source, &mix, err))) return;
    const dataset_options with = {.for_calibration = 1};
    cJSON *all = cJSON_CreateObject();
    char digest[DIGEST_TEXT];
    for (int64_t i = 0; i < mix.n && !*s; i++) {
        *s = dataset_digest(mix.specs[i], &with, digest, err);
        if (!*s) cJSON_AddStringToObject(all, mix.specs[i], digest);
    }
    if (!*s && mix.n == 1)
        cJSON_AddStringToObject(to, "calibration", digest);
    else if (!*s)
        cJSON_AddItemToObject(to, "calibration", cJSON_Duplicate(all, 1));
    cJSON_Delete(all);
    mix_free(&mix);
}

cJSON *records_fingerprint(const config *c, const catalogue *cat, const cJSON *spec,
                           const sources *from, const char *store, sqz_error *err)
{
    cJSON *f = cJSON_CreateObject(), *data, *plugins;
    char digest[DIGEST_TEXT];
    sqz_status s = checkpoint_digest(c->model, store, digest, err);
    if (!s) cJSON_AddStringToObject(f, "model", digest);
    data = cJSON_AddObjectToObject(f, "data");
    for (int i = 0; i < c->n_datasets; i++)
        add_file_digest(data, c->datasets[i].name, sources_dataset_spec(from, c, i), &s, err);
    const char *calibration = sources_calibration_spec(from, spec_str(spec, "calibration", NULL));
    if (calibration) add_calibration_digest(f, calibration, &s, err);
    plugins = cJSON_AddObjectToObject(f, "plugins");
    for (int i = 0; i < catalogue_count(cat); i++) {
        const agent_info *a = catalogue_at(cat, i);
        if (!a->shadowed) cJSON_AddStringToObject(plugins, a->id, a->file_digest);
    }
    if (!s) return f;
    cJSON_Delete(f);
    return NULL;
}

/* ---- run.json, environment.json
 * ------------------------------------------------------------------ */

static cJSON *machine_json(const run *r)
{
    cJSON *m = cJSON_CreateObject();
    struct utsname u;
    char line[512];
    if (uname(&u) == 0) {
        cJSON_AddStringToObject(m, "system", u.sysname);
        cJSON_AddStringToObject(m, "host", u.nodename);
        cJSON_AddStringToObject(m, "kernel", u.release);
        cJSON_AddStringToObject(m, "architecture", u.machine);
    }
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        colon[strcspn(colon, "\n")] = 0;
        cJSON_AddStringToObject(m, "cpu", colon + 2);
        break;
    }
    if (f) fclose(f);
    cJSON_AddNumberToObject(m, "threads", r->machine.threads);
    cJSON_AddNumberToObject(m, "memory_available_bytes", (double)r->machine.memory_bytes);
    copy(m, "hardware", json_get(r->hardware, "hardware"));
    copy(m, "isa", json_get(r->hardware, "isa"));
    copy(m, "compute_class", json_get(r->hardware, "compute_class"));
    return m;
}

static cJSON *versions_json(void)
{
    cJSON *v = cJSON_CreateObject();
    char abi[32];
    snprintf(abi, sizeof abi, "%d.%d", SQZ_ABI_MAJOR, SQZ_ABI_MINOR);
    cJSON_AddStringToObject(v, "sqz", SQZ_VERSION);
    cJSON_AddStringToObject(v, "plugin_abi", abi);
    cJSON_AddStringToObject(v, "compiler", __VERSION__);
    return v;
}

static cJSON *plugins_json(const run *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < catalogue_count(r->options.catalogue); i++) {
        const agent_info *a = catalogue_at(r->options.catalogue, i);
        if (a->shadowed) continue;
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "id", a->id);
        cJSON_AddStringToObject(j, "kind", a->kind);
        cJSON_AddStringToObject(j, "version", a->version);
        cJSON_AddStringToObject(j, "digest", a->file_digest);
        cJSON_AddItemToArray(list, j);
    }
    return list;
}

static void add_state(const run *r, cJSON *to, const char *state)
{
    cJSON_AddStringToObject(to, "id", r->id);
    cJSON_AddStringToObject(to, "state", state);
    if (r->stop_kind) {
        cJSON *stop = cJSON_AddObjectToObject(to, "stopped");
        cJSON_AddStringToObject(stop, "kind", r->stop_kind);
        cJSON_AddStringToObject(stop, "text", r->stop_text);
    }
    cJSON_AddStringToObject(to, "started", r->began);
    add_now(to, "updated");
    json_add_num(to, "elapsed_seconds", run_elapsed(r));
}

sqz_status records_write_run(run *r, const char *state, sqz_error *err)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "schema", "sqz.run/1");
    add_state(r, j, state);
    cJSON_AddStringToObject(j, "model", r->config->model);
    copy(j, "config", r->config->given);
    copy(j, "config_full", r->config->full);
    copy(j, "spec", r->spec);
    copy(j, "fingerprint", r->fingerprint);
    copy(j, "plan", r->plan);
    if (cJSON_GetArraySize(r->data.facts)) copy(j, "readers", r->data.facts);
    cJSON_AddItemToObject(j, "versions", versions_json());
    cJSON_AddItemToObject(j, "machine", machine_json(r));
    cJSON_AddNumberToObject(j, "seed", (double)r->config->seed);
    cJSON_AddStringToObject(j, "store", r->store);
    sqz_status s = write_json(r, "run.json", j, err);
    cJSON_Delete(j);
    return s;
}

static sqz_status write_environment(run *r, sqz_error *err)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "schema", "sqz.environment/1");
    cJSON_AddItemToObject(j, "versions", versions_json());
    cJSON_AddItemToObject(j, "machine", machine_json(r));
    cJSON_AddItemToObject(j, "plugins", plugins_json(r));
    copy(j, "fingerprint", r->fingerprint);
    sqz_status s = write_json(r, "environment.json", j, err);
    cJSON_Delete(j);
    return s;
}

/* ---- trials.jsonl, pareto.json
 * ------------------------------------------------------------------- */

sqz_status records_write_progress(run *r, sqz_error *err)
{
    char *path = path_format("%s/trials.jsonl", r->dir), *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) {
        free(path);
        return err_set(err, SQZ_E_NOMEM, "trials.jsonl: no memory to write it");
    }
    for (int64_t i = -1; i < r->n_trials; i++) {
        const cJSON *j = i < 0 ? r->baseline.json : r->trials[i].json;
        char *line = json_text(j, 0);
        fprintf(f, "%s\n", line);
        free(line);
    }
    int lost = ferror(f);
    lost |= fclose(f) != 0;
    sqz_status s = lost ? err_set(err, SQZ_E_NOMEM, "%s: no memory to write it", path)
                        : file_write(path, text, (int64_t)bytes, err);
    free(text);
    free(path);
    return s || !r->front ? s : write_json(r, "pareto.json", r->front, err);
}

/* ---- metrics.json
 * -------------------------------------------------------------------------------- */

static void add_count(cJSON *to, const char *key, int64_t n)
{
    cJSON_AddNumberToObject(to, key, (double)n);
}

static cJSON *funnel_json(const run *r)
{
    cJSON *j = cJSON_CreateObject();
    int64_t promoted = 0, evaluated = 0, feasible = 0, on_front = 0;
    for (int64_t i = 0; i < r->n_trials; i++) {
        const trial *t = &r->trials[i];
        promoted += json_bool(t->json, "promoted", 0);
        evaluated += t->evaluated;
        feasible += t->feasible;
        on_front += json_bool(t->json, "front", 0);
    }
    add_count(j, "proposed", r->n_trials);
    add_count(j, "refused", r->n_refused);
    add_count(j, "failed", r->n_failed);
    add_count(j, "killed", r->n_killed);
    add_count(j, "promoted", promoted);
    add_count(j, "evaluated", evaluated);
    add_count(j, "feasible", feasible);
    add_count(j, "front", on_front);
    add_count(j, "distinct", r->n_members);
    return j;
}

/* Neighbours on the front, item by item on the primary data set. */
static cJSON *comparisons_json(const run *r)
{
    cJSON *list = cJSON_CreateArray();
    const char *dataset = r->config->datasets[0].name;
    for (int64_t i = 0; i + 1 < r->n_members; i++) {
        const trial *a = &r->trials[r->members[i]], *b = &r->trials[r->members[i + 1]];
        paired p =
            judge_paired(r, judge_items(a, "full", dataset), judge_items(b, "full", dataset));
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "a", trial_text(a, "strategy_id"));
        cJSON_AddStringToObject(j, "b", trial_text(b, "strategy_id"));
        cJSON_AddStringToObject(j, "dataset", dataset);
        json_add_num(j, "mean_difference", p.mean);
        json_add_num(j, "stderr", p.stderr_);
        json_add_num(j, "n", (double)p.n);
        json_add_num(j, "p", p.p);
        cJSON_AddItemToArray(list, j);
    }
    return list;
}

static sqz_status write_metrics(run *r, const char *state, sqz_error *err)
{
    cJSON *j = cJSON_CreateObject(), *run_part, *list;
    cJSON_AddStringToObject(j, "schema", "sqz.metrics/1");
    run_part = cJSON_AddObjectToObject(j, "run");
    add_state(r, run_part, state);
    cJSON_AddNumberToObject(run_part, "seed", (double)r->config->seed);
    cJSON_AddStringToObject(run_part, "model", r->config->model);
    copy(j, "objectives", json_get(r->front, "objectives"));
    copy(j, "constraints", json_get(r->config->full, "constraints"));
    copy(j, "spec", r->spec);
    copy(j, "baseline", r->baseline.json);
    list = cJSON_AddArrayToObject(j, "trials");
    for (int64_t i = 0; i < r->n_trials; i++)
        cJSON_AddItemToArray(list, cJSON_Duplicate(r->trials[i].json, 1));
    list = cJSON_AddArrayToObject(j, "front");
    for (int64_t i = 0; i < r->n_members; i++)
        cJSON_AddItemToArray(
            list, cJSON_CreateString(trial_text(&r->trials[r->members[i]], "strategy_id")));
    cJSON *volume = cJSON_AddObjectToObject(j, "hypervolume");
    copy(volume, "reference", json_get(r->front, "reference"));
    json_add_num(volume, "value", r->hypervolume);
    json_add_num(volume, "normalised", r->hypervolume_norm);
    copy(volume, "history", r->history);
    cJSON_AddItemToObject(j, "funnel", funnel_json(r));
    cJSON_AddItemToObject(j, "comparisons", comparisons_json(r));
    cJSON_AddItemToObject(j, "machine", machine_json(r));
    sqz_status s = write_json(r, "metrics.json", j, err);
    cJSON_Delete(j);
    return s;
}

/* ---- quantization_summary.json
 * ------------------------------------------------------------------- */

static sqz_status write_summary(run *r, sqz_error *err)
{
    cJSON *j = cJSON_CreateObject(), *list;
    const cJSON *m0 = json_get(r->baseline.json, "metrics");
    cJSON_AddStringToObject(j, "schema", "sqz.summary/1");
    cJSON_AddStringToObject(j, "model", r->config->model);
    copy(j, "baseline", m0);
    list = cJSON_AddArrayToObject(j, "members");
    for (int64_t i = 0; i < r->n_members; i++) {
        const trial *t = &r->trials[r->members[i]];
        const cJSON *m = json_get(t->json, "metrics");
        cJSON *k = cJSON_CreateObject();
        copy(k, "strategy_id", json_get(t->json, "strategy_id"));
        copy(k, "label", json_get(t->json, "label"));
        copy(k, "steps", json_get(t->json, "steps"));
        copy(k, "metrics", m);
        json_add_num(k, "size_ratio", json_num(m0, "bytes", NAN) / json_num(m, "bytes", NAN));
        json_add_num(k, "speedup", json_num(m0, "tpot_ms", NAN) / json_num(m, "tpot_ms", NAN));
        copy(k, "artifact", json_get(t->json, "artifact"));
        copy(k, "export", json_get(t->json, "export"));
        cJSON_AddItemToArray(list, k);
    }
    sqz_status s = write_json(r, "quantization_summary.json", j, err);
    cJSON_Delete(j);
    return s;
}

sqz_status records_write_final(run *r, const char *state, sqz_error *err)
{
    sqz_status s = records_write_progress(r, err);
    if (!s) s = write_metrics(r, state, err);
    if (!s) s = write_environment(r, err);
    if (!s && r->front) s = write_summary(r, err);
    return s ? s : records_write_run(r, state, err);
}

/* ---- what a kill leaves
 * -------------------------------------------------------------------------- */

/* NAME.tmp.PID or NAME.tmp.PID.N, as file_temp_name and the export make them. */
static int is_unfinished(const char *name)
{
    const char *at = strstr(name, ".tmp.");
    return at && at[5] && strspn(at + 5, "0123456789.") == strlen(at + 5);
}

void records_sweep(const run *r)
{
    static const char *const places[] = {"", "/items", "/models"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *dir = path_format("%s%s", r->dir, places[i]);
        DIR *d = opendir(dir);
        for (struct dirent *e; d && (e = readdir(d));) {
            if (!is_unfinished(e->d_name)) continue;
            char *path = path_format("%s/%s", dir, e->d_name);
            (void)dir_remove(path, NULL); /* what cannot be removed disturbs nobody */
            free(path);
        }
        if (d) closedir(d);
        free(dir);
    }
}
