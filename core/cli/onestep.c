/* onestep.c - quantize, eval and bench run as one job in a worker, under the contract that trials
 * use: a plugin that crashes is a sentence on stderr and an exit code, not a dead program.
 *
 * The attempt's folder lies under the temporary folder and goes away; after a failure --verbose
 * keeps it. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Nested steps report from 0 again; what is shown only goes forward. */
static void on_progress(void *ctx, double done, const char *what)
{
    double *furthest = ctx;
    if (done > *furthest) *furthest = done;
    progress_update(*furthest, what);
}

static void on_log(void *ctx, int level, const char *text)
{
    (void)ctx;
    terminal_log(level, "%s", text);
}

static int on_cancel(void *ctx)
{
    static int told;
    (void)ctx;
    int n = signals_count();
    if (n == 1 && !told) terminal_log(SQZ_LOG_WARN, "stopping; once more Ctrl-C stops at once");
    if (n) told = 1;
    return n;
}

static cJSON *make_job(const cli *c, const one_step *o, const model_ref *ref)
{
    cJSON *job = cJSON_CreateObject();
    char *store = cli_registry_dir(c);
    const char *const *paths;
    int n = cli_list(c, "plugin-path", &paths);
    cJSON_AddStringToObject(job, "schema", "sqz.job/1");
    cJSON_AddStringToObject(job, "job", o->title);
    cJSON_AddStringToObject(job, "store", store);
    cJSON_AddNumberToObject(job, "threads", cli_threads(c));
    cJSON_AddNumberToObject(job, "seed", (double)cli_seed(c));
    cJSON *plugins = cJSON_AddObjectToObject(job, "plugins");
    cJSON *path = cJSON_AddArrayToObject(plugins, "path");
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(path, cJSON_CreateString(paths[i]));
    cJSON_AddArrayToObject(plugins, "allow");
    cJSON_AddArrayToObject(plugins, "deny");
    cJSON_AddStringToObject(job, "model", ref->folder);
    if (ref->digest[0]) cJSON_AddStringToObject(job, "artifact", ref->digest);
    cJSON_AddStringToObject(job, "compute", o->compute ? o->compute : "auto");
    cJSON_AddItemToObject(job, "tasks", o->tasks);
    free(store);
    return job;
}

/* The state of the worker as a status with an exit code. */
static sqz_status outcome_status(const worker_outcome *w)
{
    if (w->state == OUTCOME_OK) return SQZ_OK;
    if (w->state == OUTCOME_CANCELLED) return SQZ_E_CANCELLED;
    if (w->code) return w->code;
    return w->state == OUTCOME_UNSUPPORTED ? SQZ_E_UNSUPPORTED : SQZ_E_INTERNAL;
}

static sqz_status tell_failure(const cli *c, const worker_outcome *w, const char *dir,
                               sqz_error *err)
{
    sqz_status s = outcome_status(w);
    if (!s) return s;
    if (cli_flag(c, "verbose")) {
        if (w->stderr_tail) terminal_log(SQZ_LOG_DEBUG, "worker's stderr:\n%s", w->stderr_tail);
        terminal_log(SQZ_LOG_DEBUG, "the work folder is kept: %s", dir);
    }
    return err_set(err, s, "%s", w->message[0] ? w->message : outcome_name(w->state));
}

sqz_status one_step_run(const cli *c, const one_step *o, one_step_result *out, sqz_error *err)
{
    *out = (one_step_result){0};
    model_ref ref;
    sqz_status s = model_ref_open(c, o->model, &ref, err);
    if (s) {
        cJSON_Delete(o->tasks);
        return s;
    }
    char *dir;
    cJSON *job = make_job(c, o, &ref);
    s = dir_make_temporary(&dir, err);
    if (!s) {
        char *attempt = path_format("%s/job", dir);
        worker_limits limits = {0, cli_given(c, "max-memory") ? cli_int(c, "max-memory") : 0};
        double furthest = 0;
        worker_hooks hooks = {on_progress, on_log, on_cancel, &furthest};
        worker_outcome w = {0};
        progress_begin(o->title);
        worker_run(job, attempt, &limits, &hooks, &w);
        progress_end();
        s = tell_failure(c, &w, attempt, err);
        if (!s && w.result) {
            out->results = cJSON_Duplicate(json_get(w.result, "tasks"), 1);
            out->seconds = w.seconds;
            out->peak_rss_bytes =
                json_int(json_get(w.result, "usage"), "peak_rss_bytes", w.peak_rss_bytes);
        }
        if (!s && cJSON_GetArraySize(out->results) < 1)
            s = err_set(err, SQZ_E_INTERNAL, "the worker returned no task results");
        if (!s || !cli_flag(c, "verbose")) dir_remove(dir, NULL);
        worker_outcome_free(&w);
        free(attempt);
    }
    if (s) one_step_free(out);
    cJSON_Delete(job);
    free(dir);
    model_ref_free(&ref);
    return s;
}

void one_step_free(one_step_result *r)
{
    cJSON_Delete(r->results);
    *r = (one_step_result){0};
}
