/* cmd_explain.c - sqz explain KEY: the value of a configuration key, where it came from, what it
 * means, and what follows from the model and the data where nobody set it.
 *
 * Without --config (or --model and --dataset) the table alone answers: meaning, type, default. */
#include "cli/study.h"
#include "cli/terminal.h"
#include "config/keys.h"
#include "coordinator/spec.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cli_option explain_options[] = {STUDY_OPTIONS};

/* Keys whose value is inferred where it is unset, and its name among the inferred values. */
static const char *const inferred[][2] = {
    {"calibration.source", "calibration"},
    {"calibration.samples", "calibration_samples"},
    {"calibration.seq_len", "calibration_seq_len"},
    {"objectives", "objectives"},
    {"constraints.max_accuracy_drop", "max_accuracy_drop"},
    {"constraints.max_vram", "max_vram"},
    {"budget.trials", "budget_trials"},
    {"budget.wall", "budget_wall"},
    {"budget.patience", "patience"},
    {"hardware.compute", "compute"},
    {"hardware.threads", "threads"},
    {"hardware.memory", "memory_limit"},
};

/* ---- the key --------------------------------------------------------------------------------- */

/* "dataset[0].limit" and "dataset.limit" have the row "dataset[].limit"; NULL when there is none.
 * *inside_free: the path goes on below a row of kind KEY_FREE, whose keys belong to a plugin. */
static const key_row *row_of(const char *path, int *inside_free)
{
    key_step steps[24];
    char at[256] = "";
    int n = config_split_path(path, strlen(path), steps, 24);
    const key_row *row = NULL;
    *inside_free = 0;
    for (int i = 0; i < n; i++) {
        if (steps[i].index >= 0) continue; /* lists are written with [] from their row */
        char below[256];
        int w = snprintf(below, sizeof below, "%s%s%s%s", at,
                         row && row->kind == KEY_LIST ? "[]" : "", *at ? "." : "", steps[i].name);
        const key_row *next = w < (int)sizeof below ? config_key(below) : NULL;
        if (!next) {
            *inside_free = row && row->kind == KEY_FREE;
            return *inside_free ? row : NULL;
        }
        snprintf(at, sizeof at, "%s", below);
        row = next;
    }
    return row;
}

static const char *last_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The path a person may have meant: the nearest whole path, else a path that ends alike. */
static const char *nearest_key(const char *key)
{
    const char **names = calloc((size_t)config_n_keys + 1, sizeof *names), *near = NULL;
    if (!names) return NULL;
    for (int i = 0; i < config_n_keys; i++) {
        names[i] = config_keys[i].path;
        if (!near && !strcmp(last_name(names[i]), last_name(key))) near = names[i];
    }
    if (!near) near = json_nearest(key, names, config_n_keys);
    for (int i = 0; i < config_n_keys; i++) names[i] = last_name(config_keys[i].path);
    const char *end = near ? NULL : json_nearest(last_name(key), names, config_n_keys);
    for (int i = 0; end && i < config_n_keys && !near; i++)
        if (names[i] == end) near = config_keys[i].path;
    free(names);
    return near;
}

/* ---- the value ------------------------------------------------------------------------------- */

/* Follows a path through the full form; an index may be left out of a list (its first element). */
static const cJSON *value_at(const cJSON *full, const char *path)
{
    key_step steps[24];
    int n = config_split_path(path, strlen(path), steps, 24);
    const cJSON *at = full;
    for (int i = 0; at && i < n; i++) {
        if (steps[i].index < 0 && cJSON_IsArray(at)) at = cJSON_GetArrayItem(at, 0);
        at = steps[i].index >= 0 ? cJSON_GetArrayItem(at, steps[i].index)
                                 : json_get(at, steps[i].name);
    }
    return at;
}

static const char *kind_word(const key_row *row)
{
    static const char *const words[] = {
        [KEY_TEXT] = "text",
        [KEY_PATH] = "path",
        [KEY_DATA] = "file",
        [KEY_INT] = "whole number",
        [KEY_NUM] = "number",
        [KEY_BOOL] = "true or false",
        [KEY_BYTES] = "size",
        [KEY_SECONDS] = "duration",
        [KEY_TEXTS] = "list",
        [KEY_PATHS] = "list",
        [KEY_OBJECT] = "object",
        [KEY_LIST] = "list",
        [KEY_FREE] = "object of a plugin's parameters",
    };
    return words[row->kind];
}

/* "whole number, 1 to 4096" or "text, auto|fp32|bf16" */
static void describe_type(const key_row *row, char *out, size_t size)
{
    int n = snprintf(out, size, "%s", kind_word(row));
    if (row->words) n += snprintf(out + n, size - (size_t)n, ", %s", row->words);
    if (!isnan(row->lo) && !isnan(row->hi))
        snprintf(out + n, size - (size_t)n, ", %.10g to %.10g", row->lo, row->hi);
    else if (!isnan(row->lo))
        snprintf(out + n, size - (size_t)n, ", at least %.10g", row->lo);
}

/* What the run would use where nobody set the key. */
static const cJSON *inferred_of(const cJSON *spec, const key_row *row)
{
    for (size_t i = 0; i < sizeof inferred / sizeof *inferred; i++)
        if (!strcmp(inferred[i][0], row->path)) return json_get(spec, inferred[i][1]);
    return NULL;
}

typedef struct explained {
    config *config; /* NULL without one */
    cJSON *full;    /* of config, or the defaults */
    cJSON *spec;    /* or NULL */
} explained;

static void explained_free(explained *e)
{
    if (e->config)
        config_free(e->config);
    else
        cJSON_Delete(e->full);
    cJSON_Delete(e->spec);
}

/* A configuration that cannot be inferred from (no such model here) still has its values. */
static void infer(const cli *c, explained *e)
{
    catalogue *cat = NULL;
    spec_machine machine;
    sqz_error local = {0};
    spec_detect(&machine);
    sqz_status s = study_catalogue(c, e->config, &cat, &local);
    sources data = {0};
    char *store = cli_registry_dir(c);
    const convert_options convert = {cat, store, {0, machine.memory_bytes}, &cli_reading};
    if (!s) s = sources_open(e->config, &convert, &data, &local);
    if (!s) s = infer_spec(e->config, cat, &machine, &data, &e->spec, &local);
    sources_close(&data);
    free(store);
    if (s) terminal_log(SQZ_LOG_WARN, "inferred values are not available: %s", local.text);
    if (cat) catalogue_close(cat);
}

static sqz_status load(const cli *c, explained *e, sqz_error *err)
{
    const char *const *sets;
    sqz_status s = SQZ_OK;
    if (cli_given(c, "config") || (cli_given(c, "model") && cli_given(c, "dataset"))) {
        s = study_config(c, &e->config, err);
        if (s) return s;
        e->full = e->config->full;
        infer(c, e);
        return SQZ_OK;
    }
    e->full = cJSON_CreateObject();
    config_fill_defaults(e->full);
    int n = cli_list(c, "set", &sets);
    for (int i = 0; i < n && !s; i++)
        s = config_override_apply(e->full, &(config_override){sets[i], "--set"}, err);
    return s;
}

/* ---- saying it ------------------------------------------------------------------------------- */

/* Without a file there is only "default" or the --set that named the key or something above it. */
static char *origin_of(const cli *c, const explained *e, const char *key)
{
    const char *const *sets;
    if (e->config) return config_origin(e->config, key);
    int n = cli_list(c, "set", &sets);
    for (int i = 0; i < n; i++) {
        size_t k = strcspn(sets[i], "=");
        if (!strncmp(sets[i], key, k) && (!key[k] || key[k] == '.' || key[k] == '['))
            return path_format("--set");
    }
    return path_format("default");
}

static cJSON *explain_one(const cli *c, const explained *e, const char *key, const key_row *row)
{
    char type[160];
    const cJSON *value = value_at(e->full, key), *derived = inferred_of(e->spec, row);
    char *origin = origin_of(c, e, key);
    cJSON *j = cJSON_CreateObject();
    int unset = !value || cJSON_IsNull(value);
    describe_type(row, type, sizeof type);
    cJSON_AddStringToObject(j, "key", key);
    cJSON_AddItemToObject(j, "value", unset ? cJSON_CreateNull() : cJSON_Duplicate(value, 1));
    cJSON_AddStringToObject(j, "origin", unset ? "unset" : origin);
    if (unset && derived) {
        cJSON_AddItemToObject(j, "inferred", cJSON_Duplicate(json_get(derived, "value"), 1));
        cJSON_AddStringToObject(j, "inferred_from", json_str(derived, "origin", ""));
    }
    cJSON_AddStringToObject(j, "type", type);
    if (row->def) cJSON_AddItemToObject(j, "default", cJSON_Parse(row->def));
    cJSON_AddStringToObject(j, "help", row->help);
    free(origin);
    return j;
}

static void say_one(const cli *c, const cJSON *j, const key_row *row, int inside_free)
{
    char *value = json_text(json_get(j, "value"), 0), *own = json_text(json_get(j, "inferred"), 0);
    int unset = cJSON_IsNull(json_get(j, "value"));
    cli_say(c, "%s%s%s = %s  (%s)\n", term_on(stdout, TERM_BOLD), json_str(j, "key", ""),
            term_off(stdout), unset ? "unset" : value, json_str(j, "origin", ""));
    if (json_get(j, "inferred"))
        cli_say(c, "  a run here would use %s  (%s)\n", own, json_str(j, "inferred_from", ""));
    cli_say(c, "  %s%s\n", row->help,
            inside_free ? "; `sqz plugin info NAME` explains a plugin's own" : "");
    cli_say(c, "  %s%s%s\n", json_str(j, "type", ""), row->def ? ", default " : "",
            row->def        ? row->def
            : row->required ? ", required"
                            : "");
    free(value);
    free(own);
}

/* Every key that holds a value of its own, in the order of the table. */
static void explain_all(cli *c, const explained *e)
{
    cJSON *list = cJSON_AddArrayToObject(c->json, "keys");
    for (int i = 0; i < config_n_keys; i++) {
        const key_row *row = &config_keys[i];
        if (row->kind == KEY_OBJECT || row->kind == KEY_LIST || strstr(row->path, "[]")) continue;
        cJSON *j = explain_one(c, e, row->path, row);
        char *value = json_text(json_get(j, "value"), 0);
        char *own = json_text(json_get(j, "inferred"), 0);
        int derived = json_get(j, "inferred") != NULL;
        cli_say(c, "%-32s %-28s %s%s%s\n", row->path,
                derived                              ? own
                : cJSON_IsNull(json_get(j, "value")) ? "-"
                                                     : value,
                term_on(stdout, TERM_DIM),
                derived ? json_str(j, "inferred_from", "") : json_str(j, "origin", ""),
                term_off(stdout));
        cJSON_AddItemToArray(list, j);
        free(own);
        free(value);
    }
}

static sqz_status explain(cli *c, sqz_error *err)
{
    explained e = {0};
    const char *key = c->n_args ? c->args[0] : NULL;
    int inside_free = 0;
    const key_row *row = key ? row_of(key, &inside_free) : NULL;
    if (key && !row) {
        const char *near = nearest_key(key);
        return err_set(err, ERR_USAGE, "unknown key \"%.120s\"%s%s%s; `sqz explain` lists them all",
                       key, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    sqz_status s = load(c, &e, err);
    if (!s && row) {
        cJSON *j = explain_one(c, &e, key, row);
        say_one(c, j, row, inside_free);
        cJSON_Delete(c->json);
        c->json = j;
    } else if (!s) {
        explain_all(c, &e);
    }
    explained_free(&e);
    return s;
}

const command cmd_explain = {
    .name = "explain",
    .arguments = "[KEY]",
    .max_args = 1,
    .summary = "a configuration key: its value, where it came from, and what it means",
    .details = "KEY is a path such as budget.trials or dataset[0].limit; without one every key is "
               "listed. With --config, or with --model and --dataset, the values are those of "
               "that run, and keys that nobody set show what a run would infer.",
    .examples = "  sqz explain constraints.max_accuracy_drop\n"
                "  sqz explain budget.trials --config pipeline.json --set budget.trials=20\n",
    OPTIONS(explain_options),
    .run = explain};
