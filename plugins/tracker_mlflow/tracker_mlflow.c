/* tracker_mlflow.c - a study on an MLflow server: the experiment is model and data set, the parent
 * run the study, each child run a trial.
 *
 * Every event is sent when it comes, so nothing is buffered here.  Doing one again does no harm:
 * runs are found by their tag (runs.c), parameters keep their text, metrics their step and time,
 * tags and files are overwritten with the same. */
#include "mlflow.h"
#include <stdlib.h>
#include <string.h>

/* ---- trials ---------------------------------------------------------------------------------- */
/* What the event does not say is left out. */
static void add_text(mlflow *m, cJSON *to, const char *key, const char *value)
{
    if (value && *value) put_text(m, to, key, value);
}

static void add_bool(mlflow *m, cJSON *to, const char *key, const cJSON *value)
{
    if (cJSON_IsBool(value)) put_text(m, to, key, cJSON_IsTrue(value) ? "true" : "false");
}

static sqz_status trial_run(mlflow *m, const cJSON *data, int64_t time_ms, cJSON **run)
{
    const char *id = get_str(data, "trial", NULL);
    char name[300];
    if (!id || !*id) return m->host->fail(m->host, SQZ_E_INVALID, "an event without its trial");
    const char *label = get_str(data, "label", "");
    int named = !strncmp(label, id, strlen(id)); /* "dense", "dense baseline" */
    snprintf(name, sizeof name, "%.40s%s%.200s", named ? "" : id, named ? "" : " ", label);
    return runs_get(m, id, name, time_ms, run);
}

static cJSON *trial_tags(mlflow *m, const cJSON *data)
{
    cJSON *tags = cJSON_CreateObject();
    char *why = text_plain(get_str(data, "why", ""), MAX_TAG);
    m->lost |= !why;
    add_text(m, tags, "mlflow.note.content", why);
    free(why);
    add_text(m, tags, "sqz.label", get_str(data, "label", NULL));
    add_text(m, tags, "sqz.kind", get_str(data, "kind", NULL));
    add_text(m, tags, "sqz.proposed_by", get_str(data, "proposed_by", NULL));
    put_json(m, tags, "sqz.steps", get(data, "steps"));
    return tags;
}

static sqz_status trial_begin(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL, *tags = trial_tags(m, data);
    sqz_status s = trial_run(m, data, time_ms, &run);
    if (!s) s = runs_log(m, run, get(data, "params"), tags, NULL, time_ms);
    cJSON_Delete(tags);
    return s;
}

static const char *run_status(const char *outcome)
{
    if (!strcmp(outcome, "ok")) return "FINISHED";
    return !strcmp(outcome, "killed") || !strcmp(outcome, "cancelled") ? "KILLED" : "FAILED";
}

static sqz_status trial_end(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL, *tags = trial_tags(m, data);
    const char *outcome = get_str(data, "outcome", "");
    sqz_status s = trial_run(m, data, time_ms, &run);
    add_text(m, tags, "sqz.status", outcome);
    add_text(m, tags, "sqz.reason", get_str(data, "reason", NULL));
    add_text(m, tags, "sqz.artifact", get_str(data, "artifact", NULL));
    add_bool(m, tags, "sqz.feasible", get(data, "feasible"));
    add_bool(m, tags, "sqz.pareto", get(data, "front"));
    if (cJSON_GetArraySize(get(data, "violations")))
        put_json(m, tags, "sqz.violations", get(data, "violations"));
    if (cJSON_GetArraySize(get(data, "nonfinite")))
        put_json(m, tags, "sqz.nonfinite", get(data, "nonfinite"));
    if (!s) s = runs_log(m, run, get(data, "params"), tags, get(data, "metrics"), time_ms);
    if (!s) s = runs_set_status(m, run, run_status(outcome), time_ms);
    cJSON_Delete(tags);
    return s;
}

/* ---- the study ------------------------------------------------------------------------------- */
static sqz_status study_run(mlflow *m, cJSON **run)
{
    double started = cJSON_GetNumberValue(get(m->study, "started_ms"));
    return runs_get(m, NULL, get_str(m->study, "name", "study"), started > 0 ? (int64_t)started : 0,
                    run);
}

static int listed(const cJSON *list, const char *text)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && !strcmp(item->valuestring, text)) return 1;
    }
    return 0;
}

/* Those of `these` that are not in `others` are told whether they are on the front. */
static sqz_status tag_members(mlflow *m, const cJSON *these, const cJSON *others, const char *word,
                              int64_t time_ms)
{
    const cJSON *item;
    sqz_status s = SQZ_OK;
    cJSON *tags = cJSON_CreateObject();
    put_text(m, tags, "sqz.pareto", word);
    cJSON_ArrayForEach(item, these)
    {
        cJSON *run = NULL;
        if (s || !cJSON_IsString(item) || listed(others, item->valuestring)) continue;
        s = runs_get(m, item->valuestring, item->valuestring, time_ms, &run);
        if (!s) s = runs_log(m, run, NULL, tags, NULL, 0);
    }
    cJSON_Delete(tags);
    return s;
}

static sqz_status front(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL, *tags = cJSON_CreateObject();
    const cJSON *before = get(m->state, "front"), *now = get(data, "members");
    sqz_status s = study_run(m, &run);
    if (!s) s = tag_members(m, before, now, "false", time_ms);
    if (!s) s = tag_members(m, now, before, "true", time_ms);
    put_json(m, tags, "sqz.front", now);
    put_json(m, tags, "sqz.reference", get(data, "reference"));
    if (!s) s = runs_log(m, run, NULL, tags, get(data, "metrics"), time_ms);
    cJSON_Delete(tags);
    cJSON *kept = now ? cJSON_Duplicate(now, 1) : cJSON_CreateArray();
    if (!s && !kept) s = m->host->fail(m->host, SQZ_E_NOMEM, "no memory for the front");
    if (s) {
        cJSON_Delete(kept);
        return s;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(m->state, "front");
    put_item(m, m->state, "front", kept);
    return m->lost ? SQZ_OK : state_save(m); /* event() says why */
}

static sqz_status progress(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL;
    sqz_status s = study_run(m, &run);
    return s ? s : runs_log(m, run, NULL, NULL, get(data, "metrics"), time_ms);
}

static sqz_status exported(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL, *tags = cJSON_CreateObject();
    sqz_status s = trial_run(m, data, time_ms, &run);
    add_text(m, tags, "sqz.export.path", get_str(data, "path", NULL));
    add_text(m, tags, "sqz.export.format", get_str(data, "format", NULL));
    if (!s) s = runs_log(m, run, NULL, tags, NULL, time_ms);
    cJSON_Delete(tags);
    return s;
}

static sqz_status keep_file(mlflow *m, const cJSON *data)
{
    const char *path = get_str(data, "path", "");
    char file[8192];
    cJSON *run = NULL;
    if (!*path || *path == '/' || strstr(path, ".."))
        return m->host->fail(m->host, SQZ_E_INVALID, "a file outside the run folder");
    snprintf(file, sizeof file, "%s/%s", m->tracking->folder, path);
    sqz_status s = study_run(m, &run);
    return s ? s
             : api_upload(m, get_str(run, "artifact_uri", ""), path, file,
                          get_str(data, "media_type", "application/octet-stream"));
}

static sqz_status study_end(mlflow *m, const cJSON *data, int64_t time_ms)
{
    cJSON *run = NULL, *tags = cJSON_CreateObject();
    const char *state = get_str(data, "state", "");
    sqz_status s = study_run(m, &run);
    add_text(m, tags, "mlflow.note.content", get_str(data, "summary", NULL));
    add_text(m, tags, "sqz.status", state);
    add_text(m, tags, "sqz.recommended", get_str(get(data, "recommended"), "trial", NULL));
    if (!s) s = runs_log(m, run, NULL, tags, NULL, time_ms);
    cJSON_Delete(tags);
    if (!s && !strcmp(state, "done") && get(data, "recommended"))
        s = models_register(m, get(data, "recommended"), time_ms);
    if (s) return s;
    const char *status = !strcmp(state, "done")     ? "FINISHED"
                         : !strcmp(state, "failed") ? "FAILED"
                                                    : "KILLED";
    return runs_set_status(m, run, status, time_ms);
}

static sqz_status study_resume(mlflow *m)
{
    cJSON *run = NULL;
    sqz_status s = study_run(m, &run);
    return s ? s : runs_set_status(m, run, "RUNNING", 0);
}

/* ---- the table ------------------------------------------------------------------------------- */
static sqz_status event(const sqz_host *host, void *self, const sqz_track_event *e)
{
    mlflow *m = self;
    cJSON *data = cJSON_Parse(e->json);
    sqz_status s = SQZ_OK;
    m->lost = 0;
    if (!data)
        s = host->fail(host, SQZ_E_NOMEM, "an event could not be read: no memory, or no JSON");
    else if (!cJSON_IsObject(data))
        s = host->fail(host, SQZ_E_INVALID, "an event that is no JSON object");
    else if (!strcmp(e->kind, "trial_begin"))
        s = trial_begin(m, data, e->time_ms);
    else if (!strcmp(e->kind, "trial_end"))
        s = trial_end(m, data, e->time_ms);
    else if (!strcmp(e->kind, "progress"))
        s = progress(m, data, e->time_ms);
    else if (!strcmp(e->kind, "front"))
        s = front(m, data, e->time_ms);
    else if (!strcmp(e->kind, "export"))
        s = exported(m, data, e->time_ms);
    else if (!strcmp(e->kind, "file"))
        s = keep_file(m, data);
    else if (!strcmp(e->kind, "end"))
        s = study_end(m, data, e->time_ms);
    else if (!strcmp(e->kind, "resume"))
        s = study_resume(m);
    cJSON_Delete(data);
    return s || !m->lost ? s : host->fail(host, SQZ_E_NOMEM, "no memory to tell the server");
}

static sqz_status begin(const sqz_host *host, void *self, const sqz_tracking *t)
{
    mlflow *m = self;
    m->host = host;
    m->tracking = t;
    m->lost = 0;
    cJSON_Delete(m->study); /* of a begin that failed */
    cJSON_Delete(m->state);
    m->study = m->state = NULL;
    sqz_status s = api_open(m);
    if (s) return s;
    m->study = cJSON_Parse(t->study);
    m->state = t->state ? cJSON_Parse(t->state) : NULL;
    if (!m->study || (t->state && !m->state))
        return host->fail(host, SQZ_E_NOMEM, "no memory for the study's description");
    if (!cJSON_IsObject(m->study))
        return host->fail(host, SQZ_E_INVALID, "the study's description is no JSON object");
    const char *uri = get_str(m->state, "uri", m->uri);
    if (strcmp(uri, m->uri) != 0)
        return sqz_failf(host, SQZ_E_INVALID,
                         "this run was begun on %.300s, now the server is %.300s; deliver it to "
                         "the first one, or track it anew from a copy of its folder without spool/",
                         uri, m->uri);
    if (!cJSON_IsObject(m->state)) {
        cJSON_Delete(m->state);
        m->state = cJSON_CreateObject();
        put_text(m, m->state, "uri", m->uri);
    }
    return m->lost ? host->fail(host, SQZ_E_NOMEM, "no memory for what is kept") : SQZ_OK;
}

static const sqz_tracker tracker = {sizeof(sqz_tracker), 0, begin, event, NULL, NULL};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_TRACKER_1) == 0 ? &tracker : NULL;
}

/* ---- parameters and instances ---------------------------------------------------------------- */
#define MLFLOW_PARAMS(P)                                                                           \
    P(SQZ_TEXT, uri, 0, 0, 0, "", 0, "server, http://HOST:PORT; empty: MLFLOW_TRACKING_URI")       \
    P(SQZ_TEXT, experiment, 0, 0, 0, "", 0,                                                        \
      "name; empty: MLFLOW_EXPERIMENT_NAME, else model and data set")                              \
    P(SQZ_TEXT, token_file, 0, 0, 0, "", 0,                                                        \
      "file whose first line is the bearer token, when MLFLOW_TRACKING_TOKEN is not set")          \
    P(SQZ_BOOL, register_model, 1, 0, 1, NULL, 0, "register the recommended model")                \
    P(SQZ_TEXT, registered_model, 0, 0, 0, "", 0, "its name; empty: the model's, with -sqz")       \
    P(SQZ_REAL, upload_limit_mb, 200, 0, 1e7, NULL, 0,                                             \
      "a recommended model up to this size is uploaded, of a larger one only small files")         \
    P(SQZ_REAL, timeout, 30, 0.1, 3600, NULL, 0, "seconds for one request")
SQZ_CALL(mlflow_params, MLFLOW_PARAMS);

static sqz_status mlflow_params(const sqz_host *host, void *self, void *subject, const char *uri,
                                const char *experiment, const char *token_file,
                                int32_t register_model, const char *registered_model,
                                double upload_limit_mb, double timeout)
{
    mlflow *m = self;
    (void)subject;
    if (strlen(uri) >= sizeof m->uri || strlen(experiment) >= sizeof m->experiment ||
        strlen(token_file) >= sizeof m->token_file ||
        strlen(registered_model) >= sizeof m->registered_model)
        return host->fail(host, SQZ_E_INVALID, "a parameter's text is too long");
    snprintf(m->uri, sizeof m->uri, "%s", uri);
    snprintf(m->experiment, sizeof m->experiment, "%s", experiment);
    snprintf(m->token_file, sizeof m->token_file, "%s", token_file);
    snprintf(m->registered_model, sizeof m->registered_model, "%s", registered_model);
    m->register_model = register_model;
    m->upload_limit_bytes = upload_limit_mb * 1e6;
    m->timeout_s = timeout;
    return SQZ_OK;
}

static sqz_status open_mlflow(const sqz_host *host, void **self)
{
    (void)host;
    *self = calloc(1, sizeof(mlflow));
    return *self ? SQZ_OK : SQZ_E_NOMEM;
}

static void close_mlflow(const sqz_host *host, void *self)
{
    mlflow *m = self;
    (void)host;
    cJSON_Delete(m->study);
    cJSON_Delete(m->state);
    explicit_bzero(m, sizeof *m);
    free(m);
}

static const char *const tags[] = {"tracker", "builtin", NULL};
static const sqz_agent agents[] = {{sizeof(sqz_agent), 100, "org.sqz.mlflow", "tracker/1", "MLflow",
                                    "Logs a study to an MLflow server over REST", "1.0.0",
                                    "Apache-2.0", tags, open_mlflow, close_mlflow,
                                    &mlflow_params_call, extension}};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
