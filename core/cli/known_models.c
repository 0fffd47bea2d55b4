/* known_models.c - see known_models.h. */
#include "cli/known_models.h"
#include "host/program.h"
#include "io/file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_TABLE = 16 << 20, MAX_CANDIDATES = 1024 };

static char *shipped_path(const char *file)
{
    char *program = program_path(), *slash = program ? strrchr(program, '/') : NULL;
    if (slash) *slash = 0;
    char *path = slash ? path_format("%s/../share/sqz/configs/%s", program, file) : NULL;
    free(program);
    return path;
}

static char *user_path(const char *file)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config == '/') return path_format("%s/sqz/%s", config, file);
    return home && *home ? path_format("%s/.config/sqz/%s", home, file) : NULL;
}

/* *doc stays NULL when there is no such file; takes the path. */
static sqz_status read_table(char *path, json_doc **doc, sqz_error *err)
{
    *doc = NULL;
    sqz_status s = SQZ_OK;
    if (path && path_exists(path)) {
        s = json_read(path, MAX_TABLE, JSON_COMMENTS, doc, err);
        if (s && s != SQZ_E_NOMEM) s = err_set(err, ERR_USAGE, "%s", err->text);
    }
    free(path);
    return s;
}

sqz_status config_table(const char *file, json_doc **doc, sqz_error *err)
{
    sqz_status s = read_table(user_path(file), doc, err);
    return s || *doc ? s : read_table(shipped_path(file), doc, err);
}

/* ---- models ---------------------------------------------------------------------------------- */
static const char *behind_owner(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash ? slash + 1 : name;
}

static int is_called(const cJSON *model, const char *word)
{
    const char *name = json_str(model, "name", "");
    if (!strcasecmp(name, word) || !strcasecmp(behind_owner(name), word)) return 1;
    const cJSON *alias;
    cJSON_ArrayForEach(alias, json_get(model, "aliases"))
    {
        if (!cJSON_IsString(alias)) continue;
        if (!strcasecmp(alias->valuestring, word)) return 1;
        /* The sibling of the same owner: owner/alias. */
        size_t owner = (size_t)(behind_owner(name) - name);
        if (owner && !strncasecmp(name, word, owner) &&
            !strcasecmp(alias->valuestring, word + owner))
            return 1;
    }
    return 0;
}

static sqz_status take(const json_doc *doc, const cJSON *model, known_model *out, sqz_error *err)
{
    const cJSON *config = json_get(model, "config");
    if (!cJSON_IsObject(config)) {
        int line, column;
        json_where(doc, model, &line, &column);
        return err_set(err, ERR_USAGE, "%s:%d: model \"%.100s\" has no object \"config\"",
                       json_name(doc), line, json_str(model, "name", ""));
    }
    snprintf(out->name, sizeof out->name, "%s", json_str(model, "name", ""));
    double parameters = json_num(model, "parameters", 0);
    out->parameters = parameters > 0 ? parameters : 0;
    out->config = json_text(config, 0);
    return out->config ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory for a model's shape");
}

static void nearest(const json_doc *doc, const char *word, known_model *out)
{
    const char *names[MAX_CANDIDATES];
    int n = 0;
    const cJSON *model;
    cJSON_ArrayForEach(model, json_get(json_root(doc), "models"))
    {
        if (n == MAX_CANDIDATES) break;
        names[n++] = behind_owner(json_str(model, "name", ""));
    }
    const char *best = json_nearest(behind_owner(word), names, n);
    if (best) snprintf(out->name, sizeof out->name, "%s", best);
}

sqz_status known_model_find(const char *word, known_model *out, sqz_error *err)
{
    static const char file[] = "models.json";
    *out = (known_model){0};
    for (int shipped = 0; shipped < 2; shipped++) {
        json_doc *doc;
        sqz_status s = read_table(shipped ? shipped_path(file) : user_path(file), &doc, err);
        if (s) return s;
        if (!doc) continue;
        const cJSON *model, *found = NULL;
        cJSON_ArrayForEach(model, json_get(json_root(doc), "models"))
        {
            if (!is_called(model, word)) continue;
            found = model;
            break;
        }
        if (found)
            s = take(doc, found, out, err);
        else
            nearest(doc, word, out);
        json_free(doc);
        if (s || out->config) return s;
    }
    return SQZ_OK;
}

/* ---- recommendations ------------------------------------------------------------------------- */
sqz_status recommendation_open(recommendation *out, sqz_error *err)
{
    static const char file[] = "recommendations.json";
    *out = (recommendation){0};
    sqz_status s = config_table(file, &out->doc, err);
    if (s || !out->doc) return s;
    out->usable = json_num(json_root(out->doc), "usable_fraction", 1);
    if (!(out->usable > 0 && out->usable <= 1)) {
        s = err_set(err, ERR_USAGE, "%s: usable_fraction must lie in (0, 1]", json_name(out->doc));
        recommendation_close(out);
    }
    return s;
}

void recommendation_close(recommendation *r)
{
    json_free(r->doc);
    *r = (recommendation){0};
}

const char *recommend_hardware(const recommendation *r, const char *device, double bytes)
{
    const cJSON *row;
    if (!r->doc) return NULL;
    cJSON_ArrayForEach(row, json_get(json_root(r->doc), "hardware"))
    {
        if (!strcmp(json_str(row, "device", ""), device) &&
            json_num(row, "memory_bytes", 0) * r->usable >= bytes)
            return json_str(row, "name", NULL);
    }
    return NULL;
}

const cJSON *recommend_strategy(const recommendation *r, const char *device, double parameters)
{
    const cJSON *row;
    if (!r->doc) return NULL;
    cJSON_ArrayForEach(row, json_get(json_root(r->doc), "strategies"))
    {
        if (!strcmp(json_str(row, "device", device), device) &&
            parameters < json_num(row, "below_parameters", INFINITY))
            return row;
    }
    return NULL;
}
