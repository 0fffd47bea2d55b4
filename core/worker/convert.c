/* convert.c - see convert.h. */
#include "worker/convert.h"
#include "data/data.h"
#include "data/folder.h"
#include "host/source.h"
#include "task/task.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- is a plugin needed ---------------------------------------------------------------------- */
int convert_may_need(const char *spec, const reader_choice *reader)
{
    if (reader && reader->use) return 1;
    char *path = dataset_path(spec);
    int unknown = path && !path_is_dir(path) && format_of(path) == FORMAT_NONE;
    free(path);
    return unknown;
}

/* Do the first bytes tell the built-in readers enough? */
static int reads_itself(const char *path)
{
    char head[64] = "";
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(head, 1, sizeof head - 1, f) : 0;
    if (f) fclose(f);
    size_t i = n >= 3 && !memcmp(head, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (i < n && head[i] && strchr(" \t\r\n", head[i])) i++;
    return !f || i == n || head[i] == '{' || head[i] == '[' || !memcmp(head, "PAR1", 4);
}

static int is_needed(const catalogue *c, const char *path, const reader_choice *reader)
{
    const agent_info *one[1];
    if (reader && reader->use) return 1;
    if (!path || path_is_dir(path) || format_of(path) != FORMAT_NONE) return 0;
    char *name = source_name(path);
    int claimed = source_readers(c, name, one, 1);
    free(name);
    return claimed || (source_readers(c, NULL, one, 1) && !reads_itself(path));
}

/* ---- the job --------------------------------------------------------------------------------- */
/* The worker finds the data plugins that this process found, and nothing else. */
static void add_plugins(cJSON *job, const catalogue *c)
{
    cJSON *plugins = cJSON_AddObjectToObject(job, "plugins");
    cJSON *path = cJSON_AddArrayToObject(plugins, "path"),
          *allow = cJSON_AddArrayToObject(plugins, "allow");
    cJSON_AddArrayToObject(plugins, "deny");
    for (int i = 0; i < catalogue_count(c); i++) {
        const agent_info *a = catalogue_at(c, i);
        if (a->shadowed || strcmp(a->kind, "data/1") != 0) continue;
        cJSON_AddItemToArray(path, cJSON_CreateString(a->file));
        cJSON_AddItemToArray(allow, cJSON_CreateString(a->id));
    }
}

static cJSON *make_job(const convert_options *o, const char *source, const reader_choice *reader,
                       const char *temp)
{
    cJSON *job = cJSON_CreateObject(), *task = cJSON_CreateObject();
    cJSON_AddStringToObject(job, "schema", "sqz.job/1");
    cJSON_AddStringToObject(job, "job", "convert");
    cJSON_AddStringToObject(job, "store", o->store);
    add_plugins(job, o->catalogue);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(job, "tasks"), task);
    cJSON_AddStringToObject(task, "task", "convert");
    cJSON_AddStringToObject(task, "source", source);
    cJSON_AddStringToObject(task, "temp", temp);
    cJSON *given = cJSON_AddObjectToObject(task, "reader");
    if (reader && reader->use) cJSON_AddStringToObject(given, "use", reader->use);
    if (reader && cJSON_IsObject(reader->with))
        cJSON_AddItemToObject(given, "with", cJSON_Duplicate(reader->with, 1));
    return job;
}

static sqz_status outcome_status(const worker_outcome *w)
{
    if (w->state == OUTCOME_OK) return SQZ_OK;
    if (w->state == OUTCOME_CANCELLED) return SQZ_E_CANCELLED;
    if (w->state == OUTCOME_TIMEOUT) return ERR_PLUGIN; /* nobody asked it to stop */
    /* Text that a plugin cannot read is data that is not valid. */
    if (w->code == SQZ_E_INVALID || w->code == SQZ_E_IO) return ERR_MODEL;
    return w->code ? w->code : SQZ_E_INTERNAL;
}

/* *result: of the task. */
static sqz_status run_job(const convert_options *o, const char *source, const reader_choice *reader,
                          cJSON **result, sqz_error *err)
{
    static atomic_uint counter;
    const worker_hooks none = {0};
    char *dir, *temp = path_format("%s/tmp/%ld.rows%u", o->store, (long)getpid(),
                                   atomic_fetch_add(&counter, 1));
    cJSON *job = make_job(o, source, reader, temp);
    sqz_status s = dir_make_temporary(&dir, err);
    if (!s) {
        char *attempt = path_format("%s/job", dir);
        worker_outcome w = {0};
        worker_run(job, attempt, &o->limits, o->hooks ? o->hooks : &none, &w);
        s = outcome_status(&w);
        cJSON *task = cJSON_GetArrayItem(json_get(w.result, "tasks"), 0);
        if (!s && !*json_str(task, "path", "")) s = SQZ_E_INTERNAL;
        if (s)
            err_set(err, s, "%s", w.message[0] ? w.message : outcome_name(w.state));
        else
            *result = cJSON_Duplicate(task, 1);
        if (s && err && !strstr(err->text, source)) err_prefix(err, "%s", source);
        worker_outcome_free(&w);
        unlink(temp);
        dir_remove(dir, NULL);
        free(attempt);
    }
    cJSON_Delete(job);
    free(temp);
    free(dir);
    return s;
}

/* ---- specs ----------------------------------------------------------------------------------- */
/* NAME of NAME=SOURCE (malloc'd), or NULL; *rest: what is behind it. */
static char *given_name(const char *spec, const char **rest)
{
    const char *equals = strchr(spec, '=');
    *rest = spec;
    if (!equals || equals == spec || path_exists(spec)) return NULL;
    *rest = equals + 1;
    return path_format("%.*s", (int)(equals - spec), spec);
}

/* The name of results where none is given: the file's stem, without what means something in a spec,
 * and the whole file name where the stem is a known task. */
static char *stem_name(const char *source)
{
    char *name = source_name(source), *dot;
    for (char *p = name; *p; p++)
        if (strchr("=,@:/", *p)) *p = '_';
    char *whole = path_format("%s", name);
    if ((dot = strrchr(name, '.')) && dot > name) *dot = 0;
    char *spec = path_format("%s=x", name);
    int is_task = 0;
    int keep = task_spec(spec, &is_task, NULL) == SQZ_OK && !is_task;
    free(spec);
    free(keep ? whole : name);
    return keep ? name : whole;
}

sqz_status convert_dataset(const convert_options *o, const char *spec, const reader_choice *reader,
                           char **local, cJSON **facts, sqz_error *err)
{
    char *path = dataset_path(spec);
    int needed = is_needed(o->catalogue, path, reader);
    free(path);
    if (facts) *facts = NULL;
    if (!needed) {
        *local = path_format("%s", spec);
        return SQZ_OK;
    }
    const char *source;
    char *name = given_name(spec, &source);
    cJSON *result = NULL;
    sqz_status s = run_job(o, source, reader, &result, err);
    if (!s) {
        if (!name) name = stem_name(source);
        *local = path_format("%s=%s", name, json_str(result, "path", ""));
    }
    free(name);
    if (!s && facts)
        *facts = result;
    else
        cJSON_Delete(result);
    return s;
}

sqz_status convert_mix(const convert_options *o, const char *mix, const reader_choice *reader,
                       char **local, sqz_error *err)
{
    mix_spec parts;
    sqz_status s = mix_parse(mix, &parts, err);
    if (s) return s;
    char *all = path_format("%s", "");
    int changed = 0;
    for (int64_t i = 0; i < parts.n && !s; i++) {
        char *one = NULL, *more;
        s = convert_dataset(o, parts.specs[i], reader, &one, NULL, err);
        if (s) break;
        changed |= strcmp(one, parts.specs[i]) != 0;
        more = parts.n == 1 && parts.weights[i] == 1
                   ? path_format("%s", one)
                   : path_format("%s%s%s@%.17g", all, *all ? "," : "", one, parts.weights[i]);
        free(one);
        free(all);
        all = more;
    }
    mix_free(&parts);
    if (!s) *local = changed ? all : path_format("%s", mix);
    if (s || !changed) free(all);
    return s;
}
