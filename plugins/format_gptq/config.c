/* config.c - quantization_config: recognised, read, written.
 *
 * Writing leaves the source's config.json alone except for this one key: numbers keep their
 * spelling and unknown keys their place, which parsing and printing would not promise.
 * Left out: `dynamic` (per-module overrides), refused by name when reading. */
#include "gptq_file.h"
#include <cjson/cJSON.h>
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>

static cJSON *key(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

int config_probe(const char *config_json)
{
    cJSON *root = config_json ? cJSON_Parse(config_json) : NULL;
    const char *method =
        cJSON_GetStringValue(key(key(root, "quantization_config"), "quant_method"));
    int yes = method && strcmp(method, "gptq") == 0;
    cJSON_Delete(root);
    return yes;
}

int config_kind(const char *config_json)
{
    cJSON *root = config_json ? cJSON_Parse(config_json) : NULL;
    const char *type = cJSON_GetStringValue(key(root, "model_type"));
    int kind = type && strcmp(type, "gpt2") == 0 ? GPTQ_CONV1D : 0;
    if (key(root, "rope_parameters")) kind |= GPTQ_KEYS_OF_5;
    cJSON_Delete(root);
    return kind;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int flag(const cJSON *q, const char *name, int fallback)
{
    const cJSON *v = key(q, name);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : fallback;
}

static sqz_status read_object(const sqz_host *host, const cJSON *q, gptq_config *out)
{
    const cJSON *bits = key(q, "bits"), *group = key(q, "group_size"), *v;
    if (!cJSON_IsNumber(bits) || !(bits->valuedouble == 2 || bits->valuedouble == 3 ||
                                   bits->valuedouble == 4 || bits->valuedouble == 8))
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "gptq: quantization_config.bits must be 2, 3, 4 or 8");
    if (!cJSON_IsNumber(group) || !(group->valuedouble == -1 ||
                                    (group->valuedouble >= 1 && group->valuedouble <= GPTQ_LIMIT &&
                                     group->valuedouble == (double)(int64_t)group->valuedouble)))
        return host->fail(host, SQZ_E_INVALID,
                          "gptq: quantization_config.group_size must be -1 or a positive integer");
    v = key(q, "dynamic");
    if (v && !cJSON_IsNull(v) && v->child)
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "gptq: quantization_config.dynamic (per-module overrides) is not read");
    const char *pack = cJSON_GetStringValue(key(q, "pack_dtype"));
    if (pack && strcmp(pack, "int32") != 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED, "gptq: pack_dtype %.40s is not read, only int32",
                         pack);
    const char *layout = cJSON_GetStringValue(key(q, "checkpoint_format"));
    if (!layout) layout = cJSON_GetStringValue(key(q, "format"));
    if (!layout) layout = "gptq";
    int v2 = strcmp(layout, "gptq_v2") == 0;
    if (!v2 && strcmp(layout, "gptq") != 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "gptq: checkpoint_format %.40s is not read, only gptq and gptq_v2",
                         layout);
    *out =
        (gptq_config){(int)bits->valuedouble, (int64_t)group->valuedouble, flag(q, "desc_act", 0),
                      flag(q, "sym", 1),      flag(q, "lm_head", 0),       v2 ? 0 : 1};
    if (out->lm_head)
        return host->fail(host, SQZ_E_UNSUPPORTED, "gptq: a quantized lm_head is not read");
    return SQZ_OK;
}

sqz_status config_read(const sqz_host *host, const char *config_json, gptq_config *out)
{
    cJSON *root = config_json ? cJSON_Parse(config_json) : NULL;
    const cJSON *q = key(root, "quantization_config");
    sqz_status st = cJSON_IsObject(q)
                        ? read_object(host, q, out)
                        : host->fail(host, SQZ_E_INVALID,
                                     "gptq: config.json holds no object quantization_config");
    cJSON_Delete(root);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

char *config_object(const sqz_host *host, int bits, int64_t group_size, int symmetric,
                    const char *const *subset, int n_subset)
{
    char version[64];
    snprintf(version, sizeof version, "sqz:%.50s", host->version ? host->version : "0");
    cJSON *q = cJSON_CreateObject(), *meta, *list, *suffixes;
    cJSON_AddStringToObject(q, "quant_method", "gptq");
    cJSON_AddNumberToObject(q, "bits", bits);
    cJSON_AddNumberToObject(q, "group_size", (double)group_size);
    cJSON_AddBoolToObject(q, "desc_act", 0);
    cJSON_AddBoolToObject(q, "sym", symmetric);
    cJSON_AddBoolToObject(q, "lm_head", 0);
    cJSON_AddBoolToObject(q, "true_sequential", 0);
    cJSON_AddNumberToObject(q, "damp_percent", 0.01); /* readers check that it lies in (0, 1) */
    cJSON_AddBoolToObject(q, "static_groups", 0);
    cJSON_AddStringToObject(q, "checkpoint_format", "gptq");
    cJSON_AddStringToObject(q, "pack_dtype", "int32");
    if (subset) {
        list = cJSON_AddArrayToObject(q, "modules_in_block_to_quantize");
        suffixes = cJSON_CreateArray();
        for (int i = 0; i < n_subset; i++)
            cJSON_AddItemToArray(suffixes, cJSON_CreateString(subset[i]));
        cJSON_AddItemToArray(list, suffixes);
    }
    meta = cJSON_AddObjectToObject(q, "meta");
    list = cJSON_AddArrayToObject(meta, "quantizer");
    cJSON_AddItemToArray(list, cJSON_CreateString(version));
    char *text = cJSON_Print(q);
    cJSON_Delete(q);
    return text;
}

static const char *skip_string(const char *p)
{
    for (p++; *p && *p != '"'; p++)
        if (*p == '\\' && p[1]) p++;
    return *p ? p + 1 : p;
}

/* End of the value that begins at p, in a text that is known to be valid JSON. */
static const char *skip_value(const char *p)
{
    int depth = 0;
    while (*p) {
        if (*p == '"') {
            p = skip_string(p);
        } else {
            if (*p == '{' || *p == '[') depth++;
            if (depth == 0 && (*p == ',' || *p == '}' || *p == ']')) return p;
            if (*p == '}' || *p == ']') depth--;
            p++;
        }
        if (depth == 0 && (p[-1] == '"' || p[-1] == '}' || p[-1] == ']')) return p;
    }
    return p;
}

static const char *skip_blank(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

char *config_splice(const char *config_json, const char *object)
{
    cJSON *root = cJSON_Parse(config_json);
    int usable = cJSON_IsObject(root), empty = usable && !root->child;
    cJSON_Delete(root);
    if (!usable) return NULL;
    const char *p = skip_blank(config_json), *cut = NULL, *cut_end = NULL;
    for (p = skip_blank(p + 1); *p == '"';) { /* top-level members: find an old value to replace */
        const char *name = p, *after = skip_string(p);
        const char *value = skip_blank(skip_blank(after) + 1);
        p = skip_value(value);
        if ((size_t)(after - name) == sizeof "\"quantization_config\"" - 1 &&
            memcmp(name, "\"quantization_config\"", (size_t)(after - name)) == 0) {
            cut = value;
            cut_end = p;
        }
        p = skip_blank(p);
        if (*p == ',') p = skip_blank(p + 1);
    }
    size_t length = strlen(config_json) + strlen(object) + 64;
    char *out = malloc(length);
    if (!out) return NULL;
    if (cut) {
        snprintf(out, length, "%.*s%s%s", (int)(cut - config_json), config_json, object, cut_end);
        return out;
    }
    const char *end = strrchr(config_json, '}'), *last = end; /* blanks before the brace go */
    while (last > config_json && strchr(" \t\r\n", last[-1])) last--;
    snprintf(out, length, "%.*s%s\n  \"quantization_config\": %s\n%s", (int)(last - config_json),
             config_json, empty ? "" : ",", object, end);
    return out;
}
