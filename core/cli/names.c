/* names.c - models and data sets as the user named them, made ready to be opened: names on the hub
 * become folders in its cache, what only a data plugin can read becomes a file of rows. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "coordinator/spec.h"
#include "data/data.h"
#include "io/file.h"
#include "task/task.h"
#include "worker/convert.h"
#include <stdlib.h>
#include <string.h>

static int on_tick(void *ctx, double done, const char *what)
{
    (void)ctx;
    progress_update(done, what);
    return signals_count() > 0;
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    terminal_log(SQZ_LOG_INFO, "%s", text);
}

static const hub_hooks hooks = {on_tick, on_log, NULL};

sqz_status cli_model_folder(const char *word, hub_want want, char **folder, sqz_error *err)
{
    if (path_exists(word) || !hub_is_name(word)) {
        *folder = cli_absolute(word);
        return SQZ_OK;
    }
    progress_begin("download");
    sqz_status s = hub_model(word, want, &hooks, folder, err);
    progress_end();
    return s;
}

/* ---- data plugins ---------------------------------------------------------------------------- */
static void on_worker_progress(void *ctx, double done, const char *what)
{
    on_tick(ctx, done, what);
}

static void on_worker_log(void *ctx, int level, const char *text)
{
    (void)ctx;
    terminal_log(level, "%s", text);
}

static int on_worker_cancel(void *ctx)
{
    (void)ctx;
    return signals_count();
}

const worker_hooks cli_reading = {on_worker_progress, on_worker_log, on_worker_cancel, NULL};

/* What --reader and --reader-param say; *with is the caller's. */
static sqz_status given_reader(const cli *c, const catalogue *cat, reader_choice *out, cJSON **with,
                               sqz_error *err)
{
    const agent_info *reader;
    const char *const *pairs;
    int n = cli_list(c, "reader-param", &pairs);
    *with = NULL;
    *out = (reader_choice){cli_text(c, "reader"), NULL};
    if (!out->use) return n ? err_set(err, ERR_USAGE, "--reader-param needs --reader") : SQZ_OK;
    sqz_status s = catalogue_find(cat, "data/1", out->use, &reader, err);
    if (s) return s;
    *with = cJSON_CreateObject();
    s = cli_params(c, "reader-param", reader, *with, err);
    out->use = reader->id;
    out->with = *with;
    return s;
}

/* one: a mix otherwise. */
static sqz_status readable(const cli *c, const char *spec, int one, char **local, sqz_error *err)
{
    catalogue *cat = NULL;
    reader_choice reader = {0};
    cJSON *with = NULL;
    spec_machine machine;
    sqz_status s = cli_catalogue(c, &cat, err);
    if (!s) s = given_reader(c, cat, &reader, &with, err);
    if (!s) {
        char *store = cli_registry_dir(c);
        spec_detect(&machine);
        convert_options o = {cat, store, {0, machine.memory_bytes}, &cli_reading};
        progress_begin("read data");
        s = one ? convert_dataset(&o, spec, &reader, local, NULL, err)
                : convert_mix(&o, spec, &reader, local, err);
        progress_end();
        free(store);
    }
    cJSON_Delete(with);
    if (cat) catalogue_close(cat);
    return s;
}

sqz_status cli_readable(const cli *c, const char *spec, char **local, sqz_error *err)
{
    const reader_choice named = {cli_text(c, "reader"), NULL};
    if (convert_may_need(spec, &named)) return readable(c, spec, 1, local, err);
    *local = path_format("%s", spec);
    return SQZ_OK;
}

/* ---- data sets ------------------------------------------------------------------------------- */
void cli_tell_near_task(const char *spec)
{
    const char *equals = strchr(spec, '=');
    int is_task = 1;
    if (!equals || path_exists(spec) || task_spec(spec, &is_task, NULL) || is_task) return;
    char *name = path_format("%.*s", (int)(equals - spec), spec);
    /* Two edits make another word of a short one. */
    const char *near = strpbrk(name, "/.") ? NULL : task_near(name, strlen(name) > 5 ? 2 : 1);
    if (near)
        terminal_log(SQZ_LOG_WARN,
                     "data set %s: \"%s\" is no task, only a name for the results, and the rows "
                     "are measured by their fields; did you mean %s%s?",
                     spec, name, near, equals);
    free(name);
}

void cli_tell_near_tasks(const cJSON *evals)
{
    const cJSON *eval;
    cJSON_ArrayForEach(eval, evals) cli_tell_near_task(json_str(eval, "dataset", ""));
}

cJSON *cli_split_data(const char *text)
{
    cJSON *parts = cJSON_CreateArray();
    char *copy = path_format("%s", text), *save = NULL;
    if (mix_is_one(copy))
        cJSON_AddItemToArray(parts, cJSON_CreateString(copy));
    else
        for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
            cJSON_AddItemToArray(parts, cJSON_CreateString(w));
    free(copy);
    return parts;
}

sqz_status cli_hub_dataset(const char *spec, int64_t shots, int for_calibration, char **local,
                           sqz_error *err)
{
    int is_task = 0;
    sqz_status s = strchr(spec, '=') ? SQZ_OK : task_spec(spec, &is_task, err);
    if (s) return s;
    if (!is_task && !hub_is_dataset(spec)) {
        *local = path_format("%s", spec);
        return SQZ_OK;
    }
    progress_begin("download");
    s = is_task ? hub_task(spec, shots, for_calibration, &hooks, local, err)
                : hub_dataset(spec, for_calibration, &hooks, local, err);
    progress_end();
    return s;
}

sqz_status cli_dataset(const cli *c, const char *spec, int64_t shots, char **local, sqz_error *err)
{
    char *here = NULL;
    if (cli_text(c, "reader")) return cli_readable(c, spec, local, err); /* its name is its own */
    sqz_status s = cli_hub_dataset(spec, shots, 0, &here, err);
    if (!s) s = cli_readable(c, here, local, err);
    free(here);
    return s;
}

/* A part of a mix without its weight: SPEC of SPEC@2.5; NULL: it has none. */
static char *without_weight(const char *part, const char **weight)
{
    const char *at = strrchr(part, '@');
    *weight = "";
    if (mix_is_one(part) || !at || !at[1] || strspn(at + 1, "0123456789.") != strlen(at + 1))
        return path_format("%s", part);
    *weight = at;
    return path_format("%.*s", (int)(at - part), part);
}

sqz_status cli_hub_mix(const char *mix, char **local, sqz_error *err)
{
    cJSON *parts = cli_split_data(mix), *part;
    char *all = path_format("%s", "");
    sqz_status s = SQZ_OK;
    cJSON_ArrayForEach(part, parts)
    {
        const char *weight;
        char *spec = without_weight(part->valuestring, &weight), *one = NULL;
        s = cli_hub_dataset(spec, -1, 1, &one, err);
        if (!s) {
            char *more = path_format("%s%s%s%s", all, *all ? "," : "", one, weight);
            free(all);
            all = more;
        }
        free(one);
        free(spec);
        if (s) break;
    }
    cJSON_Delete(parts);
    if (s)
        free(all);
    else
        *local = all;
    return s;
}

sqz_status cli_calibration(const cli *c, const char *mix, char **local, sqz_error *err)
{
    char *here = NULL;
    int named = cli_text(c, "reader") != NULL, needed = named;
    mix_spec parts;
    sqz_status s = named ? SQZ_OK : cli_hub_mix(mix, &here, err);
    if (s) return s;
    if (!here) here = path_format("%s", mix);
    if (!needed && mix_parse(here, &parts, NULL) == SQZ_OK) {
        for (int64_t i = 0; i < parts.n; i++) needed |= convert_may_need(parts.specs[i], NULL);
        mix_free(&parts);
    }
    if (!needed) {
        *local = here;
        return SQZ_OK;
    }
    s = readable(c, here, 0, local, err);
    free(here);
    return s;
}
