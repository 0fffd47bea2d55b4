/* expand.c - from what a person writes to the one full form: texts become objects, single objects
 * become lists, sizes and durations become numbers, paths become absolute, defaults appear. */
#include "config/keys.h"
#include "io/file.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *expand_row(const key_row *row, const cJSON *v);

/* The object under `path` with every known key expanded. */
static cJSON *expand_object(const char *path, const cJSON *v)
{
    cJSON *out = cJSON_CreateObject();
    const cJSON *item;
    cJSON_ArrayForEach(item, v)
    {
        char below[256];
        const key_row *parent = *path ? config_key(path) : NULL;
        snprintf(below, sizeof below, "%s%s%s%.90s", path,
                 parent && parent->kind == KEY_LIST ? "[]" : "", *path ? "." : "", item->string);
        const key_row *row = config_key(below);
        cJSON_AddItemToObject(out, item->string,
                              row ? expand_row(row, item) : cJSON_Duplicate(item, 1));
    }
    return out;
}

static cJSON *expand_one(const key_row *row, const cJSON *v)
{
    if (cJSON_IsString(v) && row->main) {
        cJSON *short_form = cJSON_CreateObject(), *out;
        cJSON_AddStringToObject(short_form, row->main, v->valuestring);
        out = expand_object(row->path, short_form);
        cJSON_Delete(short_form);
        return out;
    }
    return cJSON_IsObject(v) ? expand_object(row->path, v) : cJSON_Duplicate(v, 1);
}

static cJSON *expand_row(const key_row *row, const cJSON *v)
{
    double x;
    if (cJSON_IsNull(v)) return cJSON_CreateNull();
    if (row->kind == KEY_OBJECT) return expand_one(row, v);
    if (row->kind == KEY_LIST) {
        cJSON *list = cJSON_CreateArray();
        const cJSON *item;
        if (!cJSON_IsArray(v))
            cJSON_AddItemToArray(list, expand_one(row, v));
        else
            cJSON_ArrayForEach(item, v) cJSON_AddItemToArray(list, expand_one(row, item));
        return list;
    }
    if (cJSON_IsString(v) &&
        ((row->kind == KEY_BYTES && config_parse_bytes(v->valuestring, &x)) ||
         (row->kind == KEY_SECONDS && config_parse_seconds(v->valuestring, &x))))
        return cJSON_CreateNumber(x);
    return cJSON_Duplicate(v, 1);
}

cJSON *config_expand(const cJSON *given)
{
    return expand_object("", given);
}

/* ---- paths --------------------------------------------------------------------------------- */

/* Absolute when the file exists; a name that is no file stays as it is written (a model's name is
 * enough for `plan`; whoever opens it says what is missing). */
static char *resolve_file(const char *text, const char *base_dir)
{
    if (!*text) return path_format("%s", ""); /* not the folder itself */
    char *joined = text[0] == '/' || !base_dir ? path_format("%s", text)
                                               : path_format("%s/%s", base_dir, text);
    char *real = realpath(joined, NULL);
    free(joined);
    return real ? real : path_format("%s", text);
}

/* FOLDER:SUBSET:SPLIT: the longest part before a colon that exists; n: bytes of text. */
static char *resolve_data(const char *text, size_t n, const char *base_dir)
{
    char *whole = path_format("%.*s", (int)n, text), *file = resolve_file(whole, base_dir);
    for (char *colon = strrchr(whole, ':'); colon && !path_exists(file);
         colon = strrchr(whole, ':')) {
        *colon = 0;
        free(file);
        file = resolve_file(whole, base_dir);
    }
    char *out = path_exists(file)
                    ? path_format("%s%.*s", file, (int)(n - strlen(whole)), text + strlen(whole))
                    : path_format("%.*s", (int)n, text);
    free(file);
    free(whole);
    return out;
}

/* Does NAME=FILE name a file that is there, whatever @ and , are in its path? */
static int is_named_file(const char *text, const char *base_dir)
{
    const char *equals = strchr(text, '=');
    char *file = equals ? resolve_file(equals + 1, base_dir) : NULL;
    int is = file && path_exists(file);
    free(file);
    return is;
}

/* Every part of a mix A@2,B@1 that names something there, NAME= kept. */
static char *resolve_mix(const char *text, const char *base_dir)
{
    char *out = path_format("%s", "");
    int one = is_named_file(text, base_dir);
    for (const char *p = text; p;) {
        size_t n = one ? strlen(p) : strcspn(p, ","), weight = n;
        const char *at = one ? NULL : memrchr(p, '@', n), *equals = memchr(p, '=', n);
        if (at) weight = (size_t)(at - p);
        size_t name =
            equals && equals > p && (size_t)(equals - p) < weight ? (size_t)(equals + 1 - p) : 0;
        char *file = resolve_data(p + name, weight - name, base_dir);
        char *longer = path_format("%s%s%.*s%s%.*s", out, *out ? "," : "", (int)name, p, file,
                                   (int)(n - weight), p + weight);
        free(file);
        free(out);
        out = longer;
        p = p[n] ? p + n + 1 : NULL;
    }
    return out;
}

void config_resolve_value(cJSON *v, key_kind kind, const char *base_dir)
{
    cJSON *one;
    if (kind == KEY_PATHS) cJSON_ArrayForEach(one, v) config_resolve_value(one, KEY_PATH, base_dir);
    if (!cJSON_IsString(v) || (kind != KEY_PATH && kind != KEY_DATA)) return;
    char *whole = resolve_file(v->valuestring, base_dir), *out = NULL;
    if (kind == KEY_DATA && *whole && !path_exists(whole))
        out = resolve_mix(v->valuestring, base_dir);
    cJSON_SetValuestring(v, out ? out : whole);
    free(out);
    free(whole);
}

static void resolve_object(const char *path, cJSON *v, const char *base_dir)
{
    cJSON *item, *one;
    cJSON_ArrayForEach(item, v)
    {
        char below[256];
        snprintf(below, sizeof below, "%s%s%.90s", path, *path ? "." : "", item->string);
        const key_row *row = config_key(below);
        if (!row) continue;
        config_resolve_value(item, row->kind, base_dir);
        if (row->kind == KEY_OBJECT)
            resolve_object(below, item, base_dir);
        else if (row->kind == KEY_LIST) {
            strncat(below, "[]", sizeof below - strlen(below) - 1);
            cJSON_ArrayForEach(one, item) resolve_object(below, one, base_dir);
        }
    }
}

void config_resolve_paths(cJSON *full, const char *base_dir)
{
    resolve_object("", full, base_dir);
}

/* ---- defaults ------------------------------------------------------------------------------ */

static void fill_object(const char *path, int is_list, cJSON *v)
{
    const char *names[64];
    char prefix[200];
    int n = config_children(path, names, 64);
    snprintf(prefix, sizeof prefix, "%s%s%s", path, is_list ? "[]" : "", *path ? "." : "");
    for (int i = 0; i < n; i++) {
        char below[300];
        snprintf(below, sizeof below, "%s%s", prefix, names[i]);
        const key_row *row = config_key(below);
        cJSON *item = json_get(v, names[i]), *one;
        if ((!item || cJSON_IsNull(item)) && !row->required) {
            cJSON *value = row->def                  ? cJSON_Parse(row->def)
                           : row->kind == KEY_OBJECT ? cJSON_CreateObject()
                                                     : cJSON_CreateNull();
            if (row->kind == KEY_BYTES || row->kind == KEY_SECONDS) {
                cJSON *number = expand_row(row, value);
                cJSON_Delete(value);
                value = number;
            }
            if (item)
                cJSON_ReplaceItemInObjectCaseSensitive(v, names[i], value);
            else
                cJSON_AddItemToObject(v, names[i], value);
            item = value;
        }
        /* "calibration": {} would miss its required source; an object whose keys are all unset may
         * be empty, so required keys below an optional object are not invented here. */
        if (item && row->kind == KEY_OBJECT && cJSON_IsObject(item)) fill_object(below, 0, item);
        if (item && row->kind == KEY_LIST)
            cJSON_ArrayForEach(one, item) if (cJSON_IsObject(one)) fill_object(below, 1, one);
    }
}

void config_fill_defaults(cJSON *full)
{
    fill_object("", 0, full);
}
