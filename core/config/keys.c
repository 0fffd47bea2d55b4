/* keys.c - every key of pipeline.json: type, default, legal values, one line of help.
 *
 * The one place where a key is added.  The shipped JSON Schema, the check, the defaults and the
 * types of --set are made from these rows; docs/config.md is written beside them. */
#include "config/keys.h"
#include "io/file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTIVES "quality|accuracy|perplexity|bytes|memory|ttft|tpot|energy"

const key_row config_keys[] = {
    {"$schema", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0, "where editors find the schema"},
    {"model", KEY_OBJECT, "source", NULL, NAN, NAN, NULL, 1, "the checkpoint to compress"},
    {"model.source", KEY_PATH, NULL, NULL, NAN, NAN, NULL, 1, "folder of the checkpoint"},
    {"dataset", KEY_LIST, "source", NULL, NAN, NAN, NULL, 1,
     "what quality is measured on; the first is primary"},
    {"dataset[].source", KEY_DATA, NULL, NULL, NAN, NAN, NULL, 1,
     "FILE, FOLDER:SPLIT, or NAME=FILE"},
    {"dataset[].limit", KEY_INT, NULL, NULL, 1, NAN, NULL, 0,
     "rows (text: windows) of the full evaluation; all when unset"},
    {"dataset[].window", KEY_INT, NULL, NULL, 2, NAN, NULL, 0,
     "perplexity window in tokens; eval.window when unset"},
    {"dataset[].use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0,
     "evaluation agent; by the fields of the rows when unset"},
    {"dataset[].reader", KEY_OBJECT, "use", NULL, NAN, NAN, NULL, 0,
     "data plugin that reads the source"},
    {"dataset[].reader.use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0,
     "its name; when unset by the file's ending or first bytes, if sqz does not read it itself"},
    {"dataset[].reader.with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0, "its parameters"},
    {"calibration", KEY_OBJECT, "source", NULL, NAN, NAN, NULL, 0,
     "text that methods measure activations on"},
    {"calibration.source", KEY_DATA, NULL, NULL, NAN, NAN, NULL, 0,
     "FILE, FOLDER:SPLIT, or a mix A@2,B@1; beside the primary data set when unset"},
    {"calibration.samples", KEY_INT, NULL, NULL, 1, 1000000, NULL, 0,
     "windows; chosen by the model's size when unset"},
    {"calibration.seq_len", KEY_INT, NULL, NULL, 2, 1048576, NULL, 0,
     "tokens of a window; chosen by the model's context when unset"},
    {"calibration.tokens", KEY_INT, NULL, NULL, 2, 1e12, NULL, 0,
     "tokens of all windows, in place of samples"},
    {"calibration.packing", KEY_TEXT, NULL, "\"concat\"", NAN, NAN, "concat|document|row", 0,
     "windows cut from all rows in one stream, from inside single rows, or one row each"},
    {"calibration.shuffle", KEY_BOOL, NULL, "false", NAN, NAN, NULL, 0,
     "draw windows or rows by the seed instead of taking the first"},
    {"calibration.document_tokens", KEY_TEXT, NULL, "\"default\"", NAN, NAN,
     "default|none|bos|eos|bos+eos", 0, "special tokens around each document"},
    {"calibration.reader", KEY_OBJECT, "use", NULL, NAN, NAN, NULL, 0,
     "data plugin that reads the source, every part of a mix"},
    {"calibration.reader.use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0,
     "its name; when unset by each file's ending or first bytes"},
    {"calibration.reader.with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0, "its parameters"},
    {"objectives", KEY_TEXTS, NULL, "[\"quality\",\"bytes\"]", NAN, NAN, OBJECTIVES, 0,
     "axes of the Pareto front"},
    {"constraints", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "what a front member must meet"},
    {"constraints.max_accuracy_drop", KEY_NUM, NULL, NULL, 0, NAN, NULL, 0,
     "accuracy lost (0.02 = two points), or relative perplexity gained; 0.02 when unset"},
    {"constraints.max_vram", KEY_BYTES, NULL, NULL, 0, NAN, NULL, 0,
     "memory of the target while running; detected when unset"},
    {"constraints.max_bytes", KEY_BYTES, NULL, NULL, 0, NAN, NULL, 0, "size of the checkpoint"},
    {"constraints.max_latency", KEY_SECONDS, NULL, NULL, 0, NAN, NULL, 0,
     "seconds per new token (\"20ms\")"},
    {"weights", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "weights of the reward"},
    {"weights.alpha", KEY_NUM, NULL, "1", 0, NAN, NULL, 0, "accuracy"},
    {"weights.beta", KEY_NUM, NULL, "0.3", 0, NAN, NULL, 0, "latency"},
    {"weights.gamma", KEY_NUM, NULL, "0.3", 0, NAN, NULL, 0, "memory"},
    {"weights.delta", KEY_NUM, NULL, "0.1", 0, NAN, NULL, 0, "energy and CO2"},
    {"budget", KEY_OBJECT, "wall", NULL, NAN, NAN, NULL, 0, "when to stop at the latest"},
    {"budget.trials", KEY_INT, NULL, NULL, 1, 1000000, NULL, 0,
     "candidates tried; 32 when neither this nor wall is set"},
    {"budget.wall", KEY_SECONDS, NULL, NULL, 0, NAN, NULL, 0, "time, e.g. \"2h\""},
    {"budget.gpu_hours", KEY_NUM, NULL, NULL, 0, NAN, NULL, 0, "hours on a GPU"},
    {"budget.patience", KEY_INT, NULL, NULL, 1, 1000000, NULL, 0,
     "stop after so many trials without hypervolume gain; max(20, 2 x dimensions) when unset"},
    {"budget.until", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0,
     "hard targets: stop as soon as one candidate meets all that are set"},
    {"budget.until.accuracy_drop", KEY_NUM, NULL, NULL, 0, NAN, NULL, 0, "at most this drop"},
    {"budget.until.bytes", KEY_BYTES, NULL, NULL, 0, NAN, NULL, 0, "at most this size"},
    {"steps", KEY_LIST, "use", "[]", NAN, NAN, NULL, 0,
     "what a strategy does; one step by any compatible method when empty"},
    {"steps[].use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 1,
     "method by id or last part of it; \"auto\" = any compatible one"},
    {"steps[].with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0,
     "fixed parameters; \"auto\" leaves one to the search"},
    {"steps[].search", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0,
     "parameter: true, false, [values] or {\"lo\",\"hi\"}; the method's own list when empty"},
    {"steps[].rules", KEY_LIST, "match", "[]", NAN, NAN, NULL, 0,
     "exceptions by module name or role, the last match wins"},
    {"steps[].rules[].match", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 1,
     "pattern of module names, * matches anything"},
    {"steps[].rules[].skip", KEY_BOOL, NULL, "false", NAN, NAN, NULL, 0, "leave the module alone"},
    {"steps[].rules[].with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0,
     "parameters that differ for these modules"},
    {"search", KEY_OBJECT, "use", NULL, NAN, NAN, NULL, 0, "who proposes candidates"},
    {"search.use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0,
     "search agent; the best of the catalogue when unset"},
    {"search.with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0, "its parameters"},
    {"eval", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "how candidates are measured"},
    {"eval.proxy", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "the quick filter before"},
    {"eval.proxy.enabled", KEY_BOOL, NULL, "true", NAN, NAN, NULL, 0,
     "false sends every candidate to the full evaluation"},
    {"eval.proxy.limit", KEY_INT, NULL, "64", 1, NAN, NULL, 0,
     "rows (text: windows) of the primary data set"},
    {"eval.proxy.kl_tokens", KEY_INT, NULL, "8192", 0, NAN, NULL, 0,
     "tokens of the divergence from the dense model; 0 = none"},
    {"eval.proxy.confidence", KEY_NUM, NULL, "0.95", 0.5, 0.9999, NULL, 0,
     "a candidate is dropped only when it is worse with this confidence"},
    {"eval.full", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "the evaluation that counts"},
    {"eval.full.limit", KEY_INT, NULL, NULL, 1, NAN, NULL, 0,
     "rows of every data set that has no limit of its own"},
    {"eval.full.stop_alpha", KEY_NUM, NULL, NULL, 1e-9, 0.5, NULL, 0,
     "stop a candidate once it is certain, with this error rate, that it loses more than "
     "constraints.max_accuracy_drop; unset = measure all of it"},
    {"eval.window", KEY_INT, NULL, NULL, 2, NAN, NULL, 0,
     "perplexity window; min(2048, context) when unset"},
    {"eval.bench", KEY_BOOL, NULL, "true", NAN, NAN, NULL, 0,
     "measure speed and memory of fully evaluated candidates"},
    {"hardware", KEY_OBJECT, "use", NULL, NAN, NAN, NULL, 0, "what runs the jobs"},
    {"hardware.use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0,
     "hardware agent; the best of the catalogue when unset"},
    {"hardware.compute", KEY_TEXT, NULL, "\"auto\"", NAN, NAN, "auto|fp32|bf16", 0,
     "how products are taken"},
    {"hardware.threads", KEY_INT, NULL, NULL, 1, 4096, NULL, 0, "all cores when unset"},
    {"hardware.memory", KEY_BYTES, NULL, NULL, 0, NAN, NULL, 0,
     "limit of one job; what is available when unset"},
    {"hardware.job_timeout", KEY_SECONDS, NULL, "\"2h\"", 0, NAN, NULL, 0, "deadline of one job"},
    {"target", KEY_TEXT, NULL, "\"local\"", NAN, NAN, NULL, 0,
     "machine the result is for; only \"local\" is built"},
    {"plugins", KEY_OBJECT, NULL, NULL, NAN, NAN, NULL, 0, "which plugins may take part"},
    {"plugins.path", KEY_PATHS, NULL, "[]", NAN, NAN, NULL, 0, "folders searched first"},
    {"plugins.allow", KEY_TEXTS, NULL, "[]", NAN, NAN, NULL, 0, "only these; all when empty"},
    {"plugins.deny", KEY_TEXTS, NULL, "[]", NAN, NAN, NULL, 0, "never these"},
    {"export", KEY_LIST, "format", "[]", NAN, NAN, NULL, 0, "how front members are written"},
    {"export[].format", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 1, "format agent"},
    {"tracker", KEY_LIST, "use", "[]", NAN, NAN, NULL, 0, "where runs are logged besides"},
    {"tracker[].use", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 1, "tracker agent"},
    {"tracker[].with", KEY_FREE, NULL, "{}", NAN, NAN, NULL, 0, "its parameters"},
    {"seed", KEY_INT, NULL, "0", 0, 9007199254740991.0, NULL, 0, "of everything drawn"},
    {"output", KEY_TEXT, NULL, NULL, NAN, NAN, NULL, 0, "run folder; runs/<id> when unset"},
};
const int config_n_keys = (int)(sizeof config_keys / sizeof config_keys[0]);

const key_row *config_key(const char *path)
{
    for (int i = 0; i < config_n_keys; i++)
        if (!strcmp(config_keys[i].path, path)) return &config_keys[i];
    return NULL;
}

/* Is `row` directly under `parent` ("" = top)?  Returns the key's name in that object, or NULL. */
static const char *child_name(const key_row *row, const char *parent)
{
    size_t n = strlen(parent);
    const char *rest = row->path;
    if (n) {
        if (strncmp(rest, parent, n) != 0) return NULL;
        rest += n;
        if (!strncmp(rest, "[]", 2)) rest += 2;
        if (*rest != '.') return NULL;
        rest++;
    }
    return *rest && !strpbrk(rest, ".[") ? rest : NULL;
}

int config_children(const char *path, const char **names, int max)
{
    int n = 0;
    for (int i = 0; i < config_n_keys && n < max; i++) {
        const char *name = child_name(&config_keys[i], path);
        if (name) names[n++] = name;
    }
    return n;
}

int config_split_path(const char *path, size_t bytes, key_step *steps, int max)
{
    int n = 0;
    size_t i = 0;
    while (i < bytes) {
        if (n == max) return -1;
        key_step *s = &steps[n];
        s->name[0] = 0;
        s->index = -1;
        if (path[i] == '[') {
            char *end;
            long v = strtol(path + i + 1, &end, 10);
            if (end == path + i + 1 || *end != ']' || v < 0 || v > 100000 || n == 0) return -1;
            s->index = (int)v;
            i = (size_t)(end - path) + 1;
        } else {
            if (n > 0) {
                if (path[i] != '.') return -1;
                i++;
            }
            size_t k = 0;
            while (i < bytes && path[i] != '.' && path[i] != '[') {
                if (k + 1 >= sizeof s->name) return -1;
                s->name[k++] = path[i++];
            }
            s->name[k] = 0;
            if (!k) return -1;
        }
        n++;
    }
    return n;
}

/* ---- the schema ---------------------------------------------------------------------------- */

static void add_type(cJSON *schema, const char *type, int nullable)
{
    if (!nullable) {
        cJSON_AddStringToObject(schema, "type", type);
        return;
    }
    cJSON *types = cJSON_AddArrayToObject(schema, "type");
    cJSON_AddItemToArray(types, cJSON_CreateString(type));
    cJSON_AddItemToArray(types, cJSON_CreateString("null"));
}

static void add_range(cJSON *schema, const key_row *row)
{
    if (!isnan(row->lo)) cJSON_AddNumberToObject(schema, "minimum", row->lo);
    if (!isnan(row->hi)) cJSON_AddNumberToObject(schema, "maximum", row->hi);
}

static void add_words(cJSON *schema, const char *words)
{
    cJSON *list = cJSON_AddArrayToObject(schema, "enum");
    while (words) {
        const char *bar = strchr(words, '|');
        char word[64];
        int n = bar ? (int)(bar - words) : (int)strlen(words);
        snprintf(word, sizeof word, "%.*s", n, words);
        cJSON_AddItemToArray(list, cJSON_CreateString(word));
        words = bar ? bar + 1 : NULL;
    }
}

static cJSON *object_schema(const char *path);

/* anyOf: the object, and with a main field a string for it; for lists also the array of both. */
static void add_alternatives(cJSON *schema, const key_row *row)
{
    cJSON *any = cJSON_AddArrayToObject(schema, "anyOf");
    if (row->main) {
        cJSON *text = cJSON_CreateObject();
        cJSON_AddStringToObject(text, "type", "string");
        cJSON_AddItemToArray(any, text);
    }
    cJSON_AddItemToArray(any, object_schema(row->path));
    if (row->kind == KEY_LIST) {
        cJSON *array = cJSON_CreateObject(), *items = cJSON_CreateObject();
        cJSON_AddStringToObject(array, "type", "array");
        if (row->required) cJSON_AddNumberToObject(array, "minItems", 1);
        cJSON *each = cJSON_AddArrayToObject(items, "anyOf");
        if (row->main) {
            cJSON *text = cJSON_CreateObject();
            cJSON_AddStringToObject(text, "type", "string");
            cJSON_AddItemToArray(each, text);
        }
        cJSON_AddItemToArray(each, object_schema(row->path));
        cJSON_AddItemToObject(array, "items", items);
        cJSON_AddItemToArray(any, array);
    }
    if (!row->required) {
        cJSON *none = cJSON_CreateObject();
        cJSON_AddStringToObject(none, "type", "null");
        cJSON_AddItemToArray(any, none);
    }
}

static cJSON *key_schema(const key_row *row)
{
    cJSON *schema = cJSON_CreateObject();
    int nullable = !row->required && !row->def;
    cJSON_AddStringToObject(schema, "description", row->help);
    switch (row->kind) {
    case KEY_TEXT:
    case KEY_PATH:
    case KEY_DATA:
        add_type(schema, "string", nullable);
        if (row->words) add_words(schema, row->words);
        break;
    case KEY_INT:
        add_type(schema, "integer", nullable);
        add_range(schema, row);
        break;
    case KEY_NUM:
        add_type(schema, "number", nullable);
        add_range(schema, row);
        break;
    case KEY_BOOL: add_type(schema, "boolean", nullable); break;
    case KEY_BYTES:
    case KEY_SECONDS: {
        cJSON *types = cJSON_AddArrayToObject(schema, "type");
        cJSON_AddItemToArray(types, cJSON_CreateString("number"));
        cJSON_AddItemToArray(types, cJSON_CreateString("string"));
        if (nullable) cJSON_AddItemToArray(types, cJSON_CreateString("null"));
        add_range(schema, row);
        cJSON_AddStringToObject(schema, "format",
                                row->kind == KEY_BYTES ? "sqz-bytes" : "sqz-duration");
        break;
    }
    case KEY_PATHS:
    case KEY_TEXTS: {
        add_type(schema, "array", nullable);
        cJSON *items = cJSON_AddObjectToObject(schema, "items");
        cJSON_AddStringToObject(items, "type", "string");
        if (row->words) add_words(items, row->words);
        break;
    }
    case KEY_FREE: add_type(schema, "object", nullable); break;
    case KEY_OBJECT:
    case KEY_LIST: add_alternatives(schema, row); break;
    }
    if (row->def) cJSON_AddItemToObject(schema, "default", cJSON_Parse(row->def));
    return schema;
}

static cJSON *object_schema(const char *path)
{
    cJSON *schema = cJSON_CreateObject();
    cJSON_AddStringToObject(schema, "type", "object");
    cJSON *properties = cJSON_AddObjectToObject(schema, "properties");
    cJSON *required = cJSON_CreateArray();
    for (int i = 0; i < config_n_keys; i++) {
        const char *name = child_name(&config_keys[i], path);
        if (!name) continue;
        cJSON_AddItemToObject(properties, name, key_schema(&config_keys[i]));
        if (config_keys[i].required) cJSON_AddItemToArray(required, cJSON_CreateString(name));
    }
    if (cJSON_GetArraySize(required))
        cJSON_AddItemToObject(schema, "required", required);
    else
        cJSON_Delete(required);
    cJSON *free_keys = cJSON_AddObjectToObject(schema, "patternProperties");
    cJSON_AddItemToObject(free_keys, "^x-", cJSON_CreateObject());
    cJSON_AddFalseToObject(schema, "additionalProperties");
    return schema;
}

cJSON *config_schema(void)
{
    cJSON *schema = cJSON_CreateObject(), *body = object_schema("");
    cJSON_AddStringToObject(schema, "$schema", "http://json-schema.org/draft-07/schema#");
    cJSON_AddStringToObject(schema, "title", "sqz pipeline.json");
    for (cJSON *item = body->child; item; item = body->child) {
        char *name = path_format("%s", item->string);
        cJSON_AddItemToObject(schema, name, cJSON_DetachItemViaPointer(body, item));
        free(name);
    }
    cJSON_Delete(body);
    return schema;
}
