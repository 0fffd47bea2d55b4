/* job.c - executes the tasks of one job, in the worker process (contract: worker.h). */
#include "pool/pool.h"
#include "worker/tasks.h"
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

const char *job_model(const job_state *s)
{
    return json_str(s->job, "model", "");
}

int job_tick(job_state *s, double done, const char *what)
{
    if (!s->ctx || !s->ctx->tick) return 0;
    return s->ctx->tick(s->ctx->ctx, s->part_from + (s->part_to - s->part_from) * done, what);
}

void job_log(job_state *s, int level, const char *fmt, ...)
{
    if (!s->ctx || !s->ctx->log) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->ctx->log(s->ctx->ctx, level, text);
}

static void hook_log(void *ctx, int level, const char *agent_id, const char *text)
{
    job_log(ctx, level, "%s: %s", agent_id, text);
}

static int hook_tick(void *ctx, double done, const char *what)
{
    return job_tick(ctx, done, what);
}

static void hook_enter(void *ctx, const agent_info *info)
{
    job_state *s = ctx;
    if (s->ctx && s->ctx->enter) s->ctx->enter(s->ctx->ctx, info);
}

static void hook_leave(void *ctx, const agent_info *info)
{
    job_state *s = ctx;
    if (s->ctx && s->ctx->leave) s->ctx->leave(s->ctx->ctx, info);
}

sqz_status job_base(job_state *s, sqz_error *err)
{
    if (s->base[0]) return SQZ_OK;
    sqz_status st = subject_check_path(job_model(s), err);
    return st ? st : checkpoint_digest(job_model(s), registry_dir(s->registry), s->base, err);
}

sqz_status job_subject(job_state *s, int with_artifact, int resident, subject **out, sqz_error *err)
{
    subject_options o = {.catalogue = s->catalogue,
                         .host = s->host,
                         .backend = &s->backend,
                         .registry = s->registry,
                         .model = job_model(s),
                         .artifact = with_artifact && s->artifact[0] ? s->artifact : NULL,
                         .compute = json_str(s->job, "compute", "auto"),
                         .resident = resident,
                         .memory_limit = json_int(s->job, "memory_limit", 0),
                         .batch_tokens = json_int(s->job, "batch_tokens", 0)};
    return subject_open(&o, out, err);
}

/* The strings of a JSON array; the pointers belong to the JSON, the vector to the caller; NULL
 * without memory. */
static const char **strings(const cJSON *array, int *n)
{
    *n = cJSON_GetArraySize(array);
    const char **v = calloc((size_t)*n + 1, sizeof *v);
    int i = 0;
    const cJSON *item;
    if (v) cJSON_ArrayForEach(item, array) v[i++] = cJSON_IsString(item) ? item->valuestring : "";
    return v;
}

static sqz_status open_catalogue(job_state *s, sqz_error *err)
{
    const cJSON *p = json_get(s->job, "plugins");
    catalogue_options o = {0};
    const char **path = strings(json_get(p, "path"), &o.n_paths);
    const char **allow = strings(json_get(p, "allow"), &o.n_allow);
    const char **deny = strings(json_get(p, "deny"), &o.n_deny);
    o.paths = path, o.allow = allow, o.deny = deny;
    sqz_status st = path && allow && deny
                        ? catalogue_open(&o, &s->catalogue, err)
                        : err_set(err, SQZ_E_NOMEM, "no memory for the job's plugin folders");
    free(path), free(allow), free(deny);
    return st;
}

static sqz_status open_state(job_state *s, sqz_error *err)
{
    if (strcmp(json_str(s->job, "schema", ""), "sqz.job/1") != 0)
        return err_set(err, ERR_USAGE, "job.json: schema is \"%s\"; this program reads sqz.job/1",
                       json_str(s->job, "schema", ""));
    char *store = path_format("%s", json_str(s->job, "store", ""));
    if (!store[0]) {
        free(store);
        store = registry_default_dir();
    }
    pool_set_threads((int)json_int(s->job, "threads", 0));
    sqz_status st = registry_open(store, &s->registry, err);
    free(store);
    if (!st) st = open_catalogue(s, err);
    if (st) return st;
    host_hooks hooks = {hook_log, hook_tick, s};
    s->host = host_new(&hooks);
    host_set_enter(s->host, hook_enter, hook_leave, s);
    if (job_model(s)[0]) /* converting data needs none */
        st = backend_open(s->catalogue, s->host, &s->backend, err);
    const char *artifact = json_str(s->job, "artifact", "");
    if (!st && digest_valid(artifact))
        snprintf(s->artifact, sizeof s->artifact, "%s", artifact);
    else if (!st && artifact[0])
        st = artifact_resolve(s->registry, artifact, s->artifact, err);
    return st;
}

static void close_state(job_state *s)
{
    backend_close(&s->backend);
    if (s->host) host_free(s->host);
    if (s->catalogue) catalogue_close(s->catalogue);
    if (s->registry) registry_close(s->registry);
}

static const struct {
    const char *name;
    double weight; /* rough share of the job's time, for the progress bar only */
    sqz_status (*run)(job_state *, const cJSON *, cJSON *, sqz_error *);
} tasks[] = {{"steps", 4, task_steps},
             {"eval", 4, task_eval},
             {"generate", 2, task_generate},
             {"bench", 1, task_bench},
             {"export", 1, task_export},
             {"convert", 1, task_convert}};

static int task_index(const cJSON *task)
{
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(json_str(task, "task", ""), tasks[i].name) == 0) return (int)i;
    return -1;
}

static sqz_status run_tasks(job_state *s, cJSON *results, sqz_error *err)
{
    const cJSON *list = json_get(s->job, "tasks"), *task;
    double total = 0, at = 0;
    cJSON_ArrayForEach(task, list)
    {
        int k = task_index(task);
        if (k < 0)
            return err_set(
                err, ERR_USAGE,
                "job.json: task \"%s\" is unknown; this program runs steps, eval, generate, bench, "
                "export and convert",
                json_str(task, "task", ""));
        total += tasks[k].weight;
    }
    cJSON_ArrayForEach(task, list)
    {
        int k = task_index(task);
        s->part_from = at / total;
        at += tasks[k].weight;
        s->part_to = at / total;
        cJSON *result = cJSON_CreateObject();
        cJSON_AddItemToArray(results, result);
        cJSON_AddStringToObject(result, "task", tasks[k].name);
        double start = clock_s();
        sqz_status st = tasks[k].run(s, task, result, err);
        if (st) return st;
        if (!json_get(result, "seconds")) json_add_num(result, "seconds", clock_s() - start);
    }
    return SQZ_OK;
}

static void add_usage(cJSON *result, double start)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    cJSON *usage = cJSON_AddObjectToObject(result, "usage");
    json_add_num(usage, "seconds", clock_s() - start);
    json_add_num(usage, "cpu_seconds",
                 (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
                     1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    json_add_num(usage, "peak_rss_bytes", (double)u.ru_maxrss * 1024);
}

/* Matrices of megabytes come and go once per linear; fresh pages for each cost more than the
 * arithmetic of small models, so freed memory stays in the process (task_bench trims before it
 * measures). */
static void keep_freed_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 256 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
}

sqz_status job_execute(const cJSON *job, const job_context *ctx, cJSON **result, sqz_error *err)
{
    double start = clock_s();
    keep_freed_memory();
    job_state s = {.job = job, .ctx = ctx, .part_to = 1};
    cJSON *out = cJSON_CreateObject();
    cJSON_AddStringToObject(out, "schema", "sqz.result/1");
    cJSON_AddStringToObject(out, "job", json_str(job, "job", ""));
    cJSON *results = cJSON_CreateArray();
    sqz_error local = {0};
    sqz_status st = open_state(&s, &local);
    if (!st) {
        cJSON_AddStringToObject(out, "hardware", s.backend.info.name);
        cJSON_AddStringToObject(out, "isa", s.backend.info.isa);
        st = run_tasks(&s, results, &local);
    }
    const char *state = st == SQZ_OK              ? "ok"
                        : st == SQZ_E_UNSUPPORTED ? "unsupported"
                        : st == SQZ_E_CANCELLED   ? "cancelled"
                                                  : "failed";
    cJSON_AddStringToObject(out, "state", state);
    if (st) {
        cJSON *e = cJSON_AddObjectToObject(out, "error");
        json_add_num(e, "code", st);
        cJSON_AddStringToObject(e, "name", err_name(st));
        cJSON_AddStringToObject(e, "message", local.text);
        if (err) *err = local;
    }
    cJSON_AddItemToObject(out, "tasks", results);
    close_state(&s);
    add_usage(out, start);
    *result = out;
    return st;
}
