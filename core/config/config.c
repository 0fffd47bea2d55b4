/* config.c - from a file and overrides to a checked config.
 *
 * Order: parse, check what the file says (so that messages have its lines), expand, resolve paths,
 * fill defaults, apply overrides one by one (each checked, so that the message names it), extract.
 */
#include "config/config.h"
#include "config/keys.h"
#include "io/file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 4 << 20 };

typedef struct holder {
    config c; /* first: config_free gets this address */
    cJSON *schema;
    cJSON *overridden; /* {key path: origin} */
    char *name;
    char **owned; /* texts made here */
    int n_owned;
} holder;

static const char *keep(holder *h, char *text)
{
    char **grown = realloc(h->owned, (size_t)(h->n_owned + 1) * sizeof *grown);
    if (!grown) memory_failed("the configuration");
    h->owned = grown;
    h->owned[h->n_owned++] = text;
    return text;
}

void config_free(config *c)
{
    if (!c) return;
    holder *h = (holder *)c;
    for (int i = 0; i < h->n_owned; i++) free(h->owned[i]);
    free(h->owned);
    free((void *)c->objectives);
    free((void *)c->plugin_paths);
    free((void *)c->plugin_allow);
    free((void *)c->plugin_deny);
    free(c->datasets);
    cJSON_Delete(c->given);
    cJSON_Delete(c->full);
    cJSON_Delete(h->schema);
    cJSON_Delete(h->overridden);
    json_free(c->doc);
    free(h->name);
    free(h);
}

/* ---- extraction: the full form into typed fields --------------------------------------------- */

static const char *const *texts(const cJSON *list, int *n)
{
    const cJSON *item;
    const char **out = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *out);
    if (!out) memory_failed("the configuration");
    *n = 0;
    cJSON_ArrayForEach(item, list) out[(*n)++] = item->valuestring;
    return out;
}

/* NAME of NAME=FILE, else the file's stem. */
static char *dataset_name(const char *source)
{
    const char *equals = strchr(source, '='), *slash, *dot;
    if (equals && equals > source && !path_exists(source))
        return path_format("%.*s", (int)(equals - source), source);
    slash = strrchr(source, '/');
    slash = slash ? slash + 1 : source;
    dot = strrchr(slash, '.');
    return path_format("%.*s", dot && dot > slash ? (int)(dot - slash) : (int)strlen(slash), slash);
}

static sqz_status extract_datasets(holder *h, sqz_error *err)
{
    config *c = &h->c;
    const cJSON *list = json_get(c->full, "dataset"), *item;
    c->datasets = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *c->datasets);
    if (!c->datasets) memory_failed("the configuration");
    cJSON_ArrayForEach(item, list)
    {
        config_dataset *d = &c->datasets[c->n_datasets];
        d->source = json_str(item, "source", "");
        if (!*d->source)
            return err_set(err, ERR_USAGE, "%s: dataset[%d].source is empty", h->name,
                           c->n_datasets);
        d->name = keep(h, dataset_name(d->source));
        d->use = json_str(item, "use", NULL);
        d->reader = json_str(json_get(item, "reader"), "use", NULL);
        d->reader_with = json_get(json_get(item, "reader"), "with");
        d->limit = json_int(item, "limit", 0);
        d->window = json_int(item, "window", 0);
        for (int i = 0; i < c->n_datasets; i++)
            if (!strcmp(c->datasets[i].name, d->name))
                return err_set(
                    err, ERR_USAGE,
                    "%s: two data sets are called \"%s\"; name one of them with NAME=FILE", h->name,
                    d->name);
        c->n_datasets++;
    }
    return SQZ_OK;
}

static void extract_limits(config *c)
{
    const cJSON *limits = json_get(c->full, "constraints"), *budget = json_get(c->full, "budget");
    const cJSON *until = json_get(budget, "until"), *weights = json_get(c->full, "weights");
    c->max_accuracy_drop = json_num(limits, "max_accuracy_drop", NAN);
    c->max_vram = json_num(limits, "max_vram", NAN);
    c->max_bytes = json_num(limits, "max_bytes", NAN);
    c->max_latency_s = json_num(limits, "max_latency", NAN);
    c->target_accuracy_drop = json_num(until, "accuracy_drop", NAN);
    c->target_bytes = json_num(until, "bytes", NAN);
    c->weights[0] = json_num(weights, "alpha", 1);
    c->weights[1] = json_num(weights, "beta", 0.3);
    c->weights[2] = json_num(weights, "gamma", 0.3);
    c->weights[3] = json_num(weights, "delta", 0.1);
    c->budget_trials = json_int(budget, "trials", 0);
    c->budget_wall_s = json_num(budget, "wall", NAN);
    c->patience = json_int(budget, "patience", 0);
}

static sqz_status extract(holder *h, sqz_error *err)
{
    config *c = &h->c;
    const cJSON *f = c->full, *plugins = json_get(f, "plugins"), *eval = json_get(f, "eval");
    c->model = json_str(json_get(f, "model"), "source", "");
    if (!*c->model) return err_set(err, ERR_USAGE, "%s: model.source is empty", h->name);
    sqz_status s = extract_datasets(h, err);
    if (s) return s;
    extract_limits(c);
    const cJSON *calibration = json_get(f, "calibration");
    c->calibration = json_str(calibration, "source", NULL);
    c->calibration_samples = json_int(calibration, "samples", 0);
    c->calibration_seq_len = json_int(calibration, "seq_len", 0);
    c->calibration_tokens = json_int(calibration, "tokens", 0);
    c->calibration_reader = json_str(json_get(calibration, "reader"), "use", NULL);
    c->calibration_reader_with = json_get(json_get(calibration, "reader"), "with");
    if (c->calibration_samples && c->calibration_tokens)
        return err_set(err, ERR_USAGE,
                       "%s: calibration.samples and calibration.tokens exclude each other",
                       h->name);
    c->objectives = texts(json_get(f, "objectives"), &c->n_objectives);
    if (c->n_objectives == 0 || c->n_objectives > 8)
        return err_set(err, ERR_USAGE, "%s: objectives has %d entries, 1 to 8 are possible",
                       h->name, c->n_objectives);
    for (int i = 0; i < c->n_objectives; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(c->objectives[i], c->objectives[k]))
                return err_set(err, ERR_USAGE, "%s: objective \"%s\" is listed twice", h->name,
                               c->objectives[i]);
    c->steps = json_get(f, "steps");
    c->search = json_str(json_get(f, "search"), "use", NULL);
    c->search_with = json_get(json_get(f, "search"), "with");
    c->proxy = json_get(eval, "proxy");
    c->full_eval = json_get(eval, "full");
    c->window = json_int(eval, "window", 0);
    c->compute = json_str(json_get(f, "hardware"), "compute", "auto");
    c->threads = json_int(json_get(f, "hardware"), "threads", 0);
    c->plugin_paths = texts(json_get(plugins, "path"), &c->n_plugin_paths);
    c->plugin_allow = texts(json_get(plugins, "allow"), &c->n_plugin_allow);
    c->plugin_deny = texts(json_get(plugins, "deny"), &c->n_plugin_deny);
    c->format = json_str(cJSON_GetArrayItem(json_get(f, "export"), 0), "format", NULL);
    c->tracker = json_get(f, "tracker");
    c->seed = json_int(f, "seed", 0);
    c->output = json_str(f, "output", NULL);
    return SQZ_OK;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* The contract writes the weights as Greek letters; both spellings mean the same. */
static void rename_greek(cJSON *root)
{
    static const char *const pairs[][2] = {
        {"\xce\xb1", "alpha"}, {"\xce\xb2", "beta"}, {"\xce\xb3", "gamma"}, {"\xce\xb4", "delta"}};
    cJSON *weights = json_get(root, "weights"), *item;
    if (!cJSON_IsObject(weights)) return; /* refused later, with its place */
    cJSON_ArrayForEach(item, weights) for (size_t i = 0; i < 4; i++)
    {
        if (strcmp(item->string, pairs[i][0]) != 0 || json_get(weights, pairs[i][1])) continue;
        char *name = cJSON_malloc(strlen(pairs[i][1]) + 1);
        if (!name) return;
        strcpy(name, pairs[i][1]);
        cJSON_free(item->string);
        item->string = name;
    }
}

static void normalise(config *c)
{
    cJSON *again = config_expand(c->full);
    cJSON_Delete(c->full);
    c->full = again;
    config_fill_defaults(c->full);
}

static sqz_status apply_overrides(holder *h, const config_override *o, int n, sqz_error *err)
{
    for (int i = 0; i < n; i++) {
        sqz_status s = config_override_apply(h->c.full, &o[i], err);
        if (s) return s;
        normalise(&h->c);
        if ((s = schema_check(h->schema, h->c.full, NULL, err))) {
            err_prefix(err, "%s %.200s", o[i].origin ? o[i].origin : "--set", o[i].text);
            return s;
        }
        const char *path = o[i].text + (o[i].text[0] == '~');
        char *key = path_format("%.*s", (int)strcspn(path, "="), path);
        cJSON_DeleteItemFromObjectCaseSensitive(h->overridden, key);
        cJSON_AddStringToObject(h->overridden, key, o[i].origin ? o[i].origin : "--set");
        free(key);
    }
    return SQZ_OK;
}

static sqz_status build(holder *h, const char *base_dir, const config_override *o, int n_overrides,
                        sqz_error *err)
{
    config *c = &h->c;
    const cJSON *root = c->doc ? json_root(c->doc) : NULL;
    cJSON *required = cJSON_DetachItemFromObjectCaseSensitive(h->schema, "required");
    sqz_status s = SQZ_OK;
    if (root) {
        rename_greek(json_root(c->doc));
        s = schema_check(h->schema, root, c->doc, err);
    }
    if (!s) {
        c->given = root ? cJSON_Duplicate(root, 1) : cJSON_CreateObject();
        c->full = config_expand(c->given);
        config_resolve_paths(c->full, base_dir);
        config_fill_defaults(c->full);
        s = apply_overrides(h, o, n_overrides, err);
    }
    cJSON_AddItemToObject(h->schema, "required", required);
    if (s) return s;
    const cJSON *need;
    cJSON_ArrayForEach(need, required) if (!json_get(c->full, need->valuestring)) return err_set(
        err, ERR_USAGE, "%s: \"%s\" is missing; set it in the file or with --%s", h->name,
        need->valuestring, need->valuestring);
    if ((s = schema_check(h->schema, c->full, NULL, err))) {
        err_prefix(err, "%s", h->name);
        return s;
    }
    return extract(h, err);
}

static sqz_status load(json_doc *doc, const char *name, const char *path, const char *base_dir,
                       const config_override *o, int n, config **out, sqz_error *err)
{
    holder *h = calloc(1, sizeof *h);
    if (!h) {
        json_free(doc);
        return err_set(err, SQZ_E_NOMEM, "config: out of memory");
    }
    h->c.doc = doc;
    h->name = path_format("%s", name);
    h->c.path = path ? keep(h, path_format("%s", path)) : NULL;
    h->schema = config_schema();
    h->overridden = cJSON_CreateObject();
    sqz_status s = build(h, base_dir, o, n, err);
    if (s)
        config_free(&h->c);
    else
        *out = &h->c;
    return s;
}

/* Everything that is wrong with the text of a config is a usage error (exit 2). */
static sqz_status as_usage(sqz_status s, sqz_error *err)
{
    if (s != SQZ_E_INVALID && s != SQZ_E_IO && s != ERR_MODEL) return s;
    if (err) err->code = ERR_USAGE;
    return ERR_USAGE;
}

sqz_status config_load(const char *path, const config_override *o, int n, config **out,
                       sqz_error *err)
{
    json_doc *doc = NULL;
    if (!path) return load(NULL, "the command line", NULL, NULL, o, n, out, err);
    sqz_status s = json_read(path, MAX_FILE, JSON_COMMENTS, &doc, err);
    if (s) return as_usage(s, err);
    if (!cJSON_IsObject(json_root(doc))) {
        json_free(doc);
        return err_set(err, ERR_USAGE, "%s: is no JSON object", path);
    }
    const char *slash = strrchr(path, '/');
    char *dir = slash ? path_format("%.*s", (int)(slash - path) + 1, path) : path_format(".");
    s = load(doc, path, path, dir, o, n, out, err);
    free(dir);
    return s;
}

sqz_status config_parse(const char *text, int64_t bytes, const char *name, const char *base_dir,
                        const config_override *o, int n, config **out, sqz_error *err)
{
    json_doc *doc = NULL;
    sqz_status s = json_parse(text, bytes, JSON_COMMENTS, name, &doc, err);
    if (s) return as_usage(s, err);
    if (!cJSON_IsObject(json_root(doc))) {
        json_free(doc);
        return err_set(err, ERR_USAGE, "%s: is no JSON object", name);
    }
    return load(doc, name, NULL, base_dir, o, n, out, err);
}

/* ---- origins --------------------------------------------------------------------------------- */

char *config_origin(const config *c, const char *key_path)
{
    const holder *h = (const holder *)c;
    key_step steps[24];
    size_t bytes = strlen(key_path);
    const cJSON *item;
    cJSON_ArrayForEach(item, h->overridden)
    {
        size_t n = strlen(item->string);
        if (!strncmp(key_path, item->string, n) &&
            (!key_path[n] || key_path[n] == '.' || key_path[n] == '['))
            return path_format("%s", item->valuestring);
    }
    int n = config_split_path(key_path, bytes, steps, 24);
    const cJSON *at = c->doc ? json_root(c->doc) : NULL;
    for (int i = 0; at && i < n; i++) {
        if (cJSON_IsString(at) || cJSON_IsNumber(at)) break; /* the short form of this object */
        if (steps[i].index >= 0 && !cJSON_IsArray(at) && steps[i].index == 0)
            continue; /* one object for a list of one */
        at = steps[i].index >= 0 ? cJSON_GetArrayItem(at, steps[i].index)
                                 : json_get(at, steps[i].name);
    }
    int line = 0, column = 0;
    if (at) json_where(c->doc, at, &line, &column);
    return line ? path_format("%s:%d:%d", json_name(c->doc), line, column) : path_format("default");
}
