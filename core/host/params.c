/* params.c - parameters by the rows of an agent's description: values, schema, help.
 *
 * Works from the catalogue alone, so that a configuration is checked before any plugin is loaded.
 * What is resolved here is hashed, stored and later bound to C arguments by bind.c.
 * Left out: search values ("search": {...}), which the coordinator reads by the same rows. */
#include "host/host.h"
#include "host/describe.h"
#include "io/file.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Whole numbers up to here are exact in a JSON number. */
static const double MAX_WHOLE = 9007199254740992.0;

typedef struct place {
    const agent_info *agent;
    const json_doc *doc;
    sqz_error *err;
} place;

/* "file:12:7: org.example.x: text". */
__attribute__((format(printf, 3, 4))) static sqz_status refuse(const place *at, const cJSON *item,
                                                               const char *fmt, ...)
{
    char text[700];
    int line = 0, column = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (at->doc && item) json_where(at->doc, item, &line, &column);
    if (line > 0)
        return err_set(at->err, ERR_USAGE, "%s:%d:%d: %s: %s", json_name(at->doc), line, column,
                       at->agent->id, text);
    return err_set(at->err, ERR_USAGE, "%s: %s", at->agent->id, text);
}

static int has_flag(const cJSON *row, const char *flag)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_get(row, "flags"))
    {
        if (cJSON_IsString(item) && !strcmp(item->valuestring, flag)) return 1;
    }
    return 0;
}

static int is_type(const cJSON *row, const char *type)
{
    return !strcmp(json_str(row, "type", ""), type);
}

/* "2, 3, 4 or 8". */
static void list_choices(const cJSON *row, char *out, size_t bytes)
{
    const cJSON *item;
    size_t used = 0;
    *out = 0;
    cJSON_ArrayForEach(item, json_get(row, "choices"))
    {
        const char *joint = used == 0 ? "" : item->next ? ", " : " or ";
        int n = cJSON_IsString(item)
                    ? snprintf(out + used, bytes - used, "%s%s", joint, item->valuestring)
                    : snprintf(out + used, bytes - used, "%s%.17g", joint, item->valuedouble);
        used += (size_t)n;
        if (used >= bytes) return;
    }
}

static int choice_index(const cJSON *row, const cJSON *value)
{
    const cJSON *item;
    int i = 0;
    cJSON_ArrayForEach(item, json_get(row, "choices"))
    {
        if (cJSON_IsString(item)
                ? cJSON_IsString(value) && !strcmp(item->valuestring, value->valuestring)
                : cJSON_IsNumber(value) && item->valuedouble == value->valuedouble)
            return i;
        i++;
    }
    return -1;
}

/* ---- checking one value
 * ------------------------------------------------------------------------------- */
static sqz_status check_choice(const place *at, const cJSON *row, const cJSON *value)
{
    const char *name = json_str(row, "name", "");
    const char *names[64];
    char legal[400];
    const cJSON *item;
    int n = 0;
    list_choices(row, legal, sizeof legal);
    if (choice_index(row, value) >= 0) return SQZ_OK;
    if (!cJSON_IsString(value))
        return refuse(at, value, "\"%s\" must be one of the strings %s", name, legal);
    cJSON_ArrayForEach(item, json_get(row, "choices"))
    {
        if (n < 64) names[n++] = item->valuestring;
    }
    const char *near = json_nearest(value->valuestring, names, n);
    return refuse(at, value, "\"%s\" is \"%.80s\"; it must be %s%s%s%s", name, value->valuestring,
                  legal, near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
}

static sqz_status check_number(const place *at, const cJSON *row, const cJSON *value)
{
    const char *name = json_str(row, "name", "");
    int whole = is_type(row, "int");
    if (!cJSON_IsNumber(value))
        return refuse(at, value, "\"%s\" must be a %s", name, whole ? "whole number" : "number");
    double x = value->valuedouble; /* not valueint: it saturates at 2^31 - 1 */
    if (!isfinite(x)) return refuse(at, value, "\"%s\" is not finite", name);
    if (whole && (x != floor(x) || fabs(x) > MAX_WHOLE))
        return refuse(at, value, "\"%s\" is %.17g; it must be a whole number within 2^53", name, x);
    if (json_get(row, "choices") && choice_index(row, value) < 0) {
        char legal[400];
        list_choices(row, legal, sizeof legal);
        return refuse(at, value, "\"%s\" is %.17g; it must be %s", name, x, legal);
    }
    double lo = json_num(row, "lo", -INFINITY), hi = json_num(row, "hi", INFINITY);
    if (x < lo || x > hi)
        return refuse(at, value, "\"%s\" is %.10g; it must lie in [%.10g, %.10g]", name, x, lo, hi);
    return SQZ_OK;
}

static sqz_status check_value(const place *at, const cJSON *row, const cJSON *value)
{
    const char *name = json_str(row, "name", "");
    if (is_type(row, "int") || is_type(row, "real")) return check_number(at, row, value);
    if (is_type(row, "choice")) return check_choice(at, row, value);
    if (is_type(row, "bool"))
        return cJSON_IsBool(value) ? SQZ_OK
                                   : refuse(at, value, "\"%s\" must be true or false", name);
    if (is_type(row, "text"))
        return cJSON_IsString(value) ? SQZ_OK : refuse(at, value, "\"%s\" must be a string", name);
    return refuse(at, value, "\"%s\" has a type this sqz does not know", name);
}

/* ---- the whole object
 * ---------------------------------------------------------------------------------- */
static const cJSON *find_row(const agent_info *a, const char *name)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, a->params) if (!strcmp(json_str(row, "name", ""), name)) return row;
    return NULL;
}

static sqz_status check_keys(const place *at, const cJSON *with)
{
    const char *names[CALL_MAX_PARAMS];
    char list[500] = "";
    const cJSON *item, *row;
    int n = 0;
    cJSON_ArrayForEach(row, at->agent->params)
    {
        if (n == CALL_MAX_PARAMS) break;
        names[n++] = json_str(row, "name", "");
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", names[n - 1]);
    }
    cJSON_ArrayForEach(item, with)
    {
        if (json_get(with, item->string) != item) /* cJSON keeps both and finds the first */
            return refuse(at, item, "\"%.80s\" is given twice", item->string);
        if (find_row(at->agent, item->string) || !strncmp(item->string, "x-", 2)) continue;
        const char *near = json_nearest(item->string, names, n);
        return refuse(at, item, "unknown parameter \"%.80s\"%s%s%s known: %s", item->string,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : ";",
                      *list ? list : "none");
    }
    return SQZ_OK;
}

sqz_status params_resolve(const agent_info *info, const cJSON *with, const json_doc *doc,
                          cJSON **resolved, sqz_error *err)
{
    const place at = {info, doc, err};
    const cJSON *row;
    if (cJSON_IsNull(with)) with = NULL;
    if (with && !cJSON_IsObject(with))
        return refuse(&at, with, "its parameters must be an object such as {\"name\": value}");
    sqz_status status = with ? check_keys(&at, with) : SQZ_OK;
    cJSON *out = status ? NULL : cJSON_CreateObject();
    cJSON_ArrayForEach(row, info->params)
    {
        if (status) break;
        const char *name = json_str(row, "name", "");
        const cJSON *value = with ? json_get(with, name) : NULL;
        if (value)
            status = check_value(&at, row, value);
        else if (has_flag(row, "required"))
            status = refuse(&at, with, "\"%s\" is required: %s", name, json_str(row, "help", ""));
        if (!status)
            cJSON_AddItemToObject(out, name,
                                  cJSON_Duplicate(value ? value : json_get(row, "default"), 1));
    }
    if (status) {
        cJSON_Delete(out);
        return status;
    }
    *resolved = out;
    return SQZ_OK;
}

/* ---- JSON Schema
 * ----------------------------------------------------------------------------------------- */
static cJSON *row_schema(const cJSON *row)
{
    static const char *const types[][2] = {{"int", "integer"},
                                           {"real", "number"},
                                           {"bool", "boolean"},
                                           {"text", "string"},
                                           {"choice", "string"}};
    cJSON *s = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (is_type(row, types[i][0])) cJSON_AddStringToObject(s, "type", types[i][1]);
    cJSON_AddStringToObject(s, "description", json_str(row, "help", ""));
    cJSON_AddItemToObject(s, "default", cJSON_Duplicate(json_get(row, "default"), 1));
    if (json_get(row, "choices"))
        cJSON_AddItemToObject(s, "enum", cJSON_Duplicate(json_get(row, "choices"), 1));
    json_add_num(s, "minimum", json_num(row, "lo", NAN));
    json_add_num(s, "maximum", json_num(row, "hi", NAN));
    return s;
}

cJSON *params_schema(const agent_info *info)
{
    cJSON *s = cJSON_CreateObject(), *required = cJSON_CreateArray();
    const cJSON *row;
    cJSON_AddStringToObject(s, "$schema", "http://json-schema.org/draft-07/schema#");
    cJSON_AddStringToObject(s, "title", info->id);
    cJSON_AddStringToObject(s, "description", info->summary);
    cJSON_AddStringToObject(s, "type", "object");
    cJSON *properties = cJSON_AddObjectToObject(s, "properties");
    cJSON_ArrayForEach(row, info->params)
    {
        const char *name = json_str(row, "name", "");
        cJSON_AddItemToObject(properties, name, row_schema(row));
        if (has_flag(row, "required")) cJSON_AddItemToArray(required, cJSON_CreateString(name));
    }
    cJSON_AddBoolToObject(cJSON_AddObjectToObject(s, "patternProperties"), "^x-", 1);
    cJSON_AddBoolToObject(s, "additionalProperties", 0);
    if (cJSON_GetArraySize(required) > 0)
        cJSON_AddItemToObject(s, "required", required);
    else
        cJSON_Delete(required);
    return s;
}

/* ---- help
 * --------------------------------------------------------------------------------------------------
 */
static void help_row(FILE *out, const cJSON *row)
{
    char legal[400];
    list_choices(row, legal, sizeof legal);
    char *standard = json_text(json_get(row, "default"), 0);
    fprintf(out, "  %-18s %-7s", json_str(row, "name", ""), json_str(row, "type", ""));
    if (has_flag(row, "required"))
        fprintf(out, "required");
    else
        fprintf(out, "default %s", standard ? standard : "");
    if (*legal)
        fprintf(out, ", one of %s", legal);
    else if (json_get(row, "lo") && json_get(row, "hi"))
        fprintf(out, ", from %.10g to %.10g", json_num(row, "lo", 0), json_num(row, "hi", 0));
    if (has_flag(row, "search")) fprintf(out, ", searched%s", has_flag(row, "log") ? " (log)" : "");
    fprintf(out, "\n  %-18s %s\n", "", json_str(row, "help", ""));
    free(standard);
}

char *params_help(const agent_info *info)
{
    char *text = NULL;
    size_t bytes = 0;
    const cJSON *row;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return path_format("%s\n", info->id);
    fprintf(out, "%s - %s\n%s\n\nkind     %s\nversion  %s\nlicense  %s\nfile     %s\n", info->id,
            info->name, info->summary, info->kind, info->version, info->license, info->file);
    if (cJSON_GetArraySize(info->params) > 0) fprintf(out, "\nparameters\n");
    cJSON_ArrayForEach(row, info->params) help_row(out, row);
    fclose(out);
    return text;
}
