/* runs.c - experiments and runs: each made once, found again after a crash.
 *
 * A run carries the tag sqz.key = "<study>/<trial>".  When its id is not in the state, it is
 * searched for by that tag before it is made: the server may have made it and died, or we may
 * have, before the id could be kept. */
#include "mlflow.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

const char *get_str(const cJSON *object, const char *key, const char *fallback)
{
    const cJSON *item = get(object, key);
    return cJSON_IsString(item) ? item->valuestring : fallback;
}

sqz_status state_save(mlflow *m)
{
    char *text = cJSON_PrintUnformatted(m->state);
    if (!text) return m->host->fail(m->host, SQZ_E_NOMEM, "out of memory");
    sqz_status s = m->tracking->save(m->tracking, text);
    free(text);
    return s;
}

/* ---- the experiment -------------------------------------------------------------------------- */
/* id: an int64 that servers send as text or number. */
static int take_id(mlflow *m, const cJSON *item)
{
    char number[32];
    if (cJSON_IsNumber(item)) snprintf(number, sizeof number, "%.0f", item->valuedouble);
    const char *id = cJSON_IsString(item) ? item->valuestring : number;
    if (!cJSON_IsString(item) && !cJSON_IsNumber(item)) return 0;
    cJSON_DeleteItemFromObjectCaseSensitive(m->state, "experiment_id");
    put_text(m, m->state, "experiment_id", id);
    return 1;
}

static sqz_status find_experiment(mlflow *m, const char *name, char code[64])
{
    char path[MAX_URL] = "experiments/get-by-name?experiment_name=";
    cJSON *answer = NULL;
    size_t n = strlen(path);
    api_quote(name, 0, path + n, sizeof path - n);
    sqz_status s = api_call(m, "GET", path, NULL, &answer, code);
    if (s) return s;
    const cJSON *e = get(answer, "experiment");
    if (!strcmp(get_str(e, "lifecycle_stage", "active"), "deleted"))
        s = sqz_failf(m->host, SQZ_E_IO,
                      "the experiment \"%s\" is deleted; restore it, or name another one", name);
    else if (!take_id(m, get(e, "experiment_id")))
        s = sqz_failf(m->host, SQZ_E_IO, "%s: its answer has no experiment id", m->uri);
    cJSON_Delete(answer);
    return s;
}

static sqz_status get_experiment(mlflow *m)
{
    char code[64];
    const char *given = getenv("MLFLOW_EXPERIMENT_NAME");
    if (get(m->state, "experiment_id")) return SQZ_OK;
    if (*m->experiment) given = m->experiment;
    char *name = text_value(given && *given ? given : get_str(m->study, "experiment", "sqz"), 500);
    if (!name) return m->host->fail(m->host, SQZ_E_NOMEM, "no memory for the experiment's name");
    sqz_status s = find_experiment(m, name, code);
    if (s == SQZ_E_INVALID && !strcmp(code, "RESOURCE_DOES_NOT_EXIST")) {
        cJSON *body = cJSON_CreateObject(), *answer = NULL;
        put_text(m, body, "name", name);
        s = api_call(m, "POST", "experiments/create", body, &answer, code);
        if (!s && !take_id(m, get(answer, "experiment_id")))
            s = sqz_failf(m->host, SQZ_E_IO, "%s: its answer has no experiment id", m->uri);
        cJSON_Delete(answer);
        if (s == SQZ_E_INVALID && !strcmp(code, "RESOURCE_ALREADY_EXISTS"))
            s = find_experiment(m, name, code); /* somebody else was faster */
    }
    free(name);
    return s ? s : state_save(m);
}

/* ---- runs ------------------------------------------------------------------------------------ */
/* Keeps id and artifact folder under `slot`. */
static sqz_status keep_run(mlflow *m, const char *slot, const cJSON *run, cJSON **out)
{
    const cJSON *info = get(run, "info");
    const char *id = get_str(info, "run_id", NULL);
    if (!id || strspn(id, "0123456789abcdefABCDEF-") != strlen(id) || strlen(id) > 64)
        return sqz_failf(m->host, SQZ_E_IO, "%s: its answer has no run id", m->uri);
    cJSON *runs = cJSON_GetObjectItemCaseSensitive(m->state, "runs"), *r = cJSON_CreateObject();
    if (!runs) runs = cJSON_AddObjectToObject(m->state, "runs");
    put_text(m, r, "run_id", id);
    put_text(m, r, "artifact_uri", get_str(info, "artifact_uri", ""));
    cJSON_DeleteItemFromObjectCaseSensitive(runs, slot);
    put_item(m, runs, slot, r);
    if (m->lost) { /* the run is found by its tag the next time */
        cJSON_DeleteItemFromObjectCaseSensitive(runs, slot);
        return m->host->fail(m->host, SQZ_E_NOMEM, "no memory for a run's id");
    }
    *out = r;
    return state_save(m);
}

static sqz_status search_run(mlflow *m, const char *slot, const char *key, cJSON **run)
{
    char filter[700];
    cJSON *body = cJSON_CreateObject(), *answer = NULL, *ids;
    snprintf(filter, sizeof filter, "tags.`sqz.key` = '%.500s'", key);
    ids = put_array(m, body, "experiment_ids");
    put_text(m, ids, NULL, get_str(m->state, "experiment_id", "0"));
    put_text(m, body, "filter", filter);
    put_number(m, body, "max_results", 1);
    sqz_status s = api_call(m, "POST", "runs/search", body, &answer, NULL);
    const cJSON *found = cJSON_GetArrayItem(get(answer, "runs"), 0);
    *run = NULL;
    if (!s && found) s = keep_run(m, slot, found, run);
    cJSON_Delete(answer);
    return s;
}

static cJSON *new_run_tags(mlflow *m, const char *key, const char *parent, const char *name)
{
    const char *user = getenv("USER");
    cJSON *tags = cJSON_CreateArray();
    put_pair(m, tags, "sqz.key", key, MAX_TAG);
    put_pair(m, tags, "mlflow.runName", name, MAX_TAG);
    put_pair(m, tags, "mlflow.user", user && *user ? user : "sqz", MAX_TAG);
    put_pair(m, tags, "mlflow.source.name", "sqz", MAX_TAG);
    put_pair(m, tags, "mlflow.source.type", "LOCAL", MAX_TAG);
    put_pair(m, tags, "sqz.version", get_str(m->study, "version", ""), MAX_TAG);
    if (parent) put_pair(m, tags, "mlflow.parentRunId", parent, MAX_TAG);
    return tags;
}

static sqz_status create_run(mlflow *m, const char *slot, const char *key, const char *parent,
                             const char *name, int64_t start_ms, cJSON **run)
{
    cJSON *body = cJSON_CreateObject(), *answer = NULL;
    char *clean = text_value(name, 250);
    put_text(m, body, "experiment_id", get_str(m->state, "experiment_id", "0"));
    put_text(m, body, "run_name", clean);
    put_number(m, body, "start_time", (double)start_ms);
    put_item(m, body, "tags", new_run_tags(m, key, parent, clean ? clean : ""));
    free(clean);
    sqz_status s = api_call(m, "POST", "runs/create", body, &answer, NULL);
    if (!s) s = keep_run(m, slot, get(answer, "run"), run);
    cJSON_Delete(answer);
    return s;
}

/* What the parent says once: how the study was asked for. */
static sqz_status describe_study(mlflow *m, cJSON *run)
{
    sqz_status s = runs_log(m, run, get(m->study, "params"), get(m->study, "tags"), NULL, 0);
    if (s) return s;
    cJSON_AddTrueToObject(run, "described");
    return state_save(m);
}

sqz_status runs_get(mlflow *m, const char *trial, const char *name, int64_t start_ms, cJSON **run)
{
    const char *slot = trial ? trial : "study", *study = get_str(m->study, "id", "study");
    char key[600];
    cJSON *parent = NULL;
    *run = cJSON_GetObjectItemCaseSensitive(get(m->state, "runs"), slot);
    if (*run && (trial || get(*run, "described"))) return SQZ_OK;
    sqz_status s = get_experiment(m);
    if (!s && trial)
        s = runs_get(m, NULL, get_str(m->study, "name", study),
                     (int64_t)(cJSON_GetNumberValue(get(m->study, "started_ms"))), &parent);
    if (s) return s;
    snprintf(key, sizeof key, "%.400s/%.150s", study, slot);
    for (char *p = key; *p; p++)
        if (*p == '\'' || *p == '\\') *p = '_'; /* it stands in a filter */
    if (!*run) s = search_run(m, slot, key, run);
    if (!s && !*run)
        s = create_run(m, slot, key, parent ? get_str(parent, "run_id", NULL) : NULL, name,
                       start_ms, run);
    return s || trial ? s : describe_study(m, *run);
}

/* ---- logging --------------------------------------------------------------------------------- */
/* Takes items over. */
static sqz_status send_batch(mlflow *m, const cJSON *run, const char *what, cJSON *items,
                             char code[64])
{
    if (!cJSON_GetArraySize(items) && !m->lost) {
        cJSON_Delete(items);
        return SQZ_OK;
    }
    cJSON *body = cJSON_CreateObject();
    put_text(m, body, "run_id", get_str(run, "run_id", ""));
    put_item(m, body, what, items);
    return api_call(m, "POST", "runs/log-batch", body, NULL, code);
}

/* Cleaning the keys may make two of them one, which a server refuses; the first is kept. */
static int is_repeated(const cJSON *texts, const cJSON *item, const char *key)
{
    char other[MAX_KEY + 1];
    for (const cJSON *t = texts->child; t && t != item; t = t->next) {
        text_key(t->string, other);
        if (cJSON_IsString(t) && !strcmp(other, key)) return 1;
    }
    return 0;
}

static sqz_status log_texts(mlflow *m, const cJSON *run, const char *what, const cJSON *texts,
                            size_t max, char code[64])
{
    const cJSON *item;
    cJSON *batch = cJSON_CreateArray();
    size_t bytes = 0;
    sqz_status s = SQZ_OK;
    cJSON_ArrayForEach(item, texts)
    {
        char key[MAX_KEY + 1];
        if (!cJSON_IsString(item)) continue;
        text_key(item->string, key);
        if (is_repeated(texts, item, key)) continue;
        size_t n = strlen(item->valuestring);
        n = 2 * (n < max ? n : max) + strlen(key) + 32; /* with what JSON escapes */
        if (cJSON_GetArraySize(batch) == MAX_TEXTS || bytes + n > MAX_BATCH_BYTES) {
            if ((s = send_batch(m, run, what, batch, code))) return s;
            batch = cJSON_CreateArray();
            bytes = 0;
        }
        put_pair(m, batch, key, item->valuestring, max);
        bytes += n;
    }
    return send_batch(m, run, what, batch, code);
}

/* JSON has no word for infinity or no number; those are named in sqz.nonfinite. */
static sqz_status log_metrics(mlflow *m, const cJSON *run, const cJSON *metrics, int64_t time_ms)
{
    const cJSON *item;
    cJSON *batch = cJSON_CreateArray();
    sqz_status s = SQZ_OK;
    cJSON_ArrayForEach(item, metrics)
    {
        char key[MAX_KEY + 1];
        const cJSON *value = get(item, "value"), *step = get(item, "step");
        if (!cJSON_IsNumber(value) || !isfinite(value->valuedouble)) continue;
        if (cJSON_GetArraySize(batch) == MAX_METRICS) {
            if ((s = send_batch(m, run, "metrics", batch, NULL))) return s;
            batch = cJSON_CreateArray();
        }
        cJSON *one = cJSON_CreateObject();
        text_key(get_str(item, "name", "_"), key);
        put_text(m, one, "key", key);
        put_number(m, one, "value", value->valuedouble);
        put_number(m, one, "timestamp", time_ms > 0 ? (double)time_ms : 0);
        put_number(m, one, "step", cJSON_IsNumber(step) ? floor(step->valuedouble) : 0);
        put_item(m, batch, NULL, one);
    }
    return send_batch(m, run, "metrics", batch, NULL);
}

/* A parameter is written once.  One that is there with another text (an older sqz may have put it
 * otherwise) keeps it, and must not hold up the rest of the event. */
static sqz_status log_params(mlflow *m, const cJSON *run, const cJSON *params)
{
    char code[64] = "";
    sqz_status s = log_texts(m, run, "params", params, MAX_PARAM, code);
    if (s != SQZ_E_INVALID || strcmp(code, "INVALID_PARAMETER_VALUE") != 0) return s;
    sqz_logf(m->host, SQZ_LOG_WARN,
             "run %.64s keeps the parameters that the server has; others were refused",
             get_str(run, "run_id", "?"));
    return SQZ_OK;
}

sqz_status runs_log(mlflow *m, const cJSON *run, const cJSON *params, const cJSON *tags,
                    const cJSON *metrics, int64_t time_ms)
{
    sqz_status s = log_metrics(m, run, metrics, time_ms);
    if (!s) s = log_texts(m, run, "tags", tags, MAX_TAG, NULL);
    return s ? s : log_params(m, run, params);
}

sqz_status runs_set_status(mlflow *m, const cJSON *run, const char *status, int64_t end_ms)
{
    cJSON *body = cJSON_CreateObject();
    put_text(m, body, "run_id", get_str(run, "run_id", ""));
    put_text(m, body, "status", status);
    if (end_ms > 0) put_number(m, body, "end_time", (double)end_ms);
    return api_call(m, "POST", "runs/update", body, NULL, NULL);
}
