/* schema.c - a value checked against a JSON Schema (draft-07), with messages for people.
 *
 * Built: type, properties, patternProperties with a ^prefix, additionalProperties, required, items,
 * minItems, enum, minimum, maximum, exclusiveMinimum, anyOf, local $ref, and the formats sqz-bytes
 * and sqz-duration.  anyOf is decided by type: the first alternative that takes the value's type
 * gives the message, because "matches none of 3 schemas" helps nobody.  Other keywords are ignored.
 */
#include "config/config.h"
#include "io/file.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    const cJSON *root; /* of the schema, for $ref */
    const json_doc *doc;
    sqz_error *err;
    int depth;
} check;

static const char *type_name(const cJSON *v)
{
    if (cJSON_IsNull(v)) return "null";
    if (cJSON_IsBool(v)) return "boolean";
    if (cJSON_IsNumber(v)) return v->valuedouble == floor(v->valuedouble) ? "integer" : "number";
    if (cJSON_IsString(v)) return "string";
    return cJSON_IsArray(v) ? "array" : "object";
}

static int type_is(const cJSON *v, const char *type)
{
    const char *have = type_name(v);
    return !strcmp(have, type) || (!strcmp(type, "number") && !strcmp(have, "integer"));
}

static int type_fits(const cJSON *schema, const cJSON *v)
{
    const cJSON *type = json_get(schema, "type"), *one;
    if (!type) return 1;
    if (cJSON_IsString(type)) return type_is(v, type->valuestring);
    cJSON_ArrayForEach(one, type) if (cJSON_IsString(one) && type_is(v, one->valuestring)) return 1;
    return 0;
}

/* The message, with FILE:LINE:COLUMN where the value stands in a document. */
__attribute__((format(printf, 4, 5))) static sqz_status
complain(const check *c, const cJSON *at, const char *path, const char *fmt, ...)
{
    char text[640], where[320] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int line = 0, column = 0;
    if (c->doc) {
        json_where(c->doc, at, &line, &column);
        if (line)
            snprintf(where, sizeof where, "%.250s:%d:%d: ", json_name(c->doc), line, column);
        else
            snprintf(where, sizeof where, "%.250s: ", json_name(c->doc));
    }
    return err_set(c->err, ERR_USAGE, "%s%s%s%s", where, path, *path ? ": " : "", text);
}

static const cJSON *follow(const check *c, const cJSON *schema)
{
    for (int hops = 0; hops < 16; hops++) {
        const char *ref = json_str(schema, "$ref", NULL);
        if (!ref || ref[0] != '#') return schema;
        const cJSON *at = c->root;
        char part[128];
        for (const char *p = ref + 1; *p == '/' && at;) {
            size_t n = strcspn(++p, "/");
            snprintf(part, sizeof part, "%.*s", (int)n, p);
            at = json_get(at, part);
            p += n;
        }
        if (!at) return schema;
        schema = at;
    }
    return schema;
}

static void list_types(const cJSON *schema, const check *c, char *out, size_t size)
{
    const cJSON *any = json_get(schema, "anyOf"), *one;
    if (any) {
        cJSON_ArrayForEach(one, any) list_types(follow(c, one), c, out, size);
        return;
    }
    const cJSON *type = json_get(schema, "type");
    if (cJSON_IsString(type) && strcmp(type->valuestring, "null") != 0) {
        size_t n = strlen(out);
        snprintf(out + n, size - n, "%s%s", n ? " or " : "", type->valuestring);
    }
    if (cJSON_IsArray(type))
        cJSON_ArrayForEach(one, type) if (strcmp(one->valuestring, "null") != 0)
        {
            size_t n = strlen(out);
            snprintf(out + n, size - n, "%s%s", n ? " or " : "", one->valuestring);
        }
}

static sqz_status visit(check *c, const cJSON *schema, const cJSON *v, const char *path);

static int prefix_allowed(const cJSON *schema, const char *key, const cJSON **sub)
{
    const cJSON *patterns = json_get(schema, "patternProperties"), *one;
    cJSON_ArrayForEach(one, patterns)
    {
        const char *p = one->string;
        if (*p == '^' && !strncmp(key, p + 1, strlen(p + 1))) {
            *sub = one;
            return 1;
        }
    }
    return 0;
}

static sqz_status unknown_key(const check *c, const cJSON *properties, const cJSON *v,
                              const char *path)
{
    const char *names[128], *near;
    char known[400] = "";
    int n = 0;
    const cJSON *one;
    cJSON_ArrayForEach(one, properties) if (n < 128)
    {
        names[n++] = one->string;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", one->string);
    }
    near = json_nearest(v->string, names, n);
    if (near)
        return complain(c, v, path, "unknown key \"%.80s\"; did you mean \"%s\"?", v->string, near);
    return complain(c, v, path, "unknown key \"%.80s\"; known here: %s (x-... is free)", v->string,
                    known);
}

static sqz_status visit_object(check *c, const cJSON *schema, const cJSON *v, const char *path)
{
    const cJSON *properties = json_get(schema, "properties"), *item, *need;
    const cJSON *more = json_get(schema, "additionalProperties");
    cJSON_ArrayForEach(item, v)
    {
        const cJSON *sub = json_get(properties, item->string);
        if (!sub && !prefix_allowed(schema, item->string, &sub)) {
            if (cJSON_IsFalse(more)) return unknown_key(c, properties, item, path);
            sub = cJSON_IsObject(more) ? more : NULL;
        }
        if (!sub) continue;
        char *below = path_format("%s%s%s", path, *path ? "." : "", item->string);
        sqz_status s = visit(c, sub, item, below);
        free(below);
        if (s) return s;
    }
    cJSON_ArrayForEach(
        need,
        json_get(schema,
                 "required")) if (!json_get(v,
                                            need->valuestring)) return complain(c, v, path,
                                                                                "\"%s\" is missing",
                                                                                need->valuestring);
    return SQZ_OK;
}

static sqz_status visit_array(check *c, const cJSON *schema, const cJSON *v, const char *path)
{
    const cJSON *items = json_get(schema, "items"), *item;
    int64_t least = json_int(schema, "minItems", 0), i = 0;
    if (cJSON_GetArraySize(v) < least)
        return complain(c, v, path, "has %d elements, at least %lld are needed",
                        cJSON_GetArraySize(v), (long long)least);
    cJSON_ArrayForEach(item, v)
    {
        char *below = path_format("%s[%lld]", path, (long long)i++);
        sqz_status s = items ? visit(c, items, item, below) : SQZ_OK;
        free(below);
        if (s) return s;
    }
    return SQZ_OK;
}

static sqz_status visit_enum(const check *c, const cJSON *words, const cJSON *v, const char *path)
{
    const char *names[128];
    char known[400] = "";
    int n = 0;
    const cJSON *one;
    cJSON_ArrayForEach(one, words)
    {
        if (cJSON_Compare(one, v, 1)) return SQZ_OK;
        if (cJSON_IsString(one) && n < 128) {
            names[n++] = one->valuestring;
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", one->valuestring);
        }
    }
    const char *near = cJSON_IsString(v) ? json_nearest(v->valuestring, names, n) : NULL;
    return complain(c, v, path, "\"%.80s\" is none of: %s%s%s%s",
                    cJSON_IsString(v) ? v->valuestring : type_name(v), known,
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static sqz_status visit_number(const check *c, const cJSON *schema, double x, const cJSON *v,
                               const char *path)
{
    double lo = json_num(schema, "minimum", -INFINITY), hi = json_num(schema, "maximum", INFINITY);
    double over = json_num(schema, "exclusiveMinimum", -INFINITY);
    if (!(x >= lo)) return complain(c, v, path, "is %g, must be at least %.17g", x, lo);
    if (!(x <= hi)) return complain(c, v, path, "is %g, must be at most %.17g", x, hi);
    if (!(x > over)) return complain(c, v, path, "is %g, must be more than %.17g", x, over);
    return SQZ_OK;
}

static sqz_status visit_text(const check *c, const cJSON *schema, const cJSON *v, const char *path)
{
    const char *format = json_str(schema, "format", "");
    double x = NAN;
    if (!strcmp(format, "sqz-bytes") && !config_parse_bytes(v->valuestring, &x))
        return complain(c, v, path, "\"%.80s\" is no size; write bytes or e.g. \"8GB\", \"512MiB\"",
                        v->valuestring);
    if (!strcmp(format, "sqz-duration") && !config_parse_seconds(v->valuestring, &x))
        return complain(c, v, path,
                        "\"%.80s\" is no duration; write seconds or e.g. \"90s\", \"1h30m\"",
                        v->valuestring);
    return isnan(x) ? SQZ_OK : visit_number(c, schema, x, v, path);
}

static sqz_status visit(check *c, const cJSON *schema, const cJSON *v, const char *path)
{
    if (c->depth > 64) return complain(c, v, path, "nests deeper than 64 levels");
    schema = follow(c, schema);
    const cJSON *any = json_get(schema, "anyOf"), *one, *words = json_get(schema, "enum");
    if (any) {
        cJSON_ArrayForEach(one, any) if (type_fits(follow(c, one), v))
        {
            c->depth++;
            sqz_status s = visit(c, one, v, path);
            c->depth--;
            return s;
        }
    }
    if (any || !type_fits(schema, v)) {
        char want[200] = "";
        list_types(schema, c, want, sizeof want);
        return complain(c, v, path, "is of type %s, must be %s", type_name(v), want);
    }
    if (words && !cJSON_IsNull(v)) {
        sqz_status s = visit_enum(c, words, v, path);
        if (s) return s;
    }
    sqz_status s = SQZ_OK;
    c->depth++;
    if (cJSON_IsObject(v))
        s = visit_object(c, schema, v, path);
    else if (cJSON_IsArray(v))
        s = visit_array(c, schema, v, path);
    else if (cJSON_IsNumber(v))
        s = visit_number(c, schema, v->valuedouble, v, path);
    else if (cJSON_IsString(v))
        s = visit_text(c, schema, v, path);
    c->depth--;
    return s;
}

sqz_status schema_check(const cJSON *schema, const cJSON *value, const json_doc *doc,
                        sqz_error *err)
{
    check c = {schema, doc, err, 0};
    return visit(&c, schema, value, "");
}
