/* load.c - the files of a run folder that a report is made from.
 *
 * The folder may be of an interrupted run: whatever is missing is left out, and a last line of
 * trials.jsonl without its end is dropped. */
#include "io/file.h"
#include "report/facts.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 512 << 20, MAX_README = 64 << 10 };

static sqz_status read_object(const char *dir, const char *name, cJSON **out, sqz_error *err)
{
    char *path = path_format("%s/%s", dir, name);
    json_doc *doc = NULL;
    sqz_status s = SQZ_OK;
    if (path_exists(path)) {
        s = json_read(path, MAX_FILE, 0, &doc, err);
        if (s && s != SQZ_E_NOMEM)
            s = err_set(err, ERR_MODEL, "%s", err ? err->text : name);
        else if (!s && !cJSON_IsObject(json_root(doc)))
            s = err_set(err, ERR_MODEL, "%s: is no JSON object", path);
        else if (!s)
            *out = cJSON_Duplicate(json_root(doc), 1);
        json_free(doc);
    }
    free(path);
    return s;
}

/* One object a line; a line that does not parse ends the list (only the last can be torn).  Fails
 * only without memory, which says nothing about the line. */
static sqz_status add_lines(cJSON *trials, const char *text, int64_t bytes, const char *name,
                            sqz_error *err)
{
    const char *end = text + bytes;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        json_doc *doc = NULL;
        if (stop > at) {
            sqz_status s = json_parse(at, stop - at, 0, name, &doc, err);
            if (s) return s == SQZ_E_NOMEM ? s : SQZ_OK;
            if (cJSON_IsObject(json_root(doc)))
                cJSON_AddItemToArray(trials, cJSON_Duplicate(json_root(doc), 1));
            json_free(doc);
        }
        at = stop + 1;
    }
    return SQZ_OK;
}

/* How to load a member in other programs is the exporter's knowledge: the code blocks of its
 * README.md are shown. */
static void add_readme(const char *dir, cJSON *member)
{
    const char *path = json_str(member, "path", "");
    if (!*path || *path == '/' || strstr(path, "..")) return;
    char *file = path_format("%s/%s/README.md", dir, path), *text = NULL;
    int64_t bytes = 0;
    if (path_exists(file) && file_read(file, MAX_README, &text, &bytes, NULL) == SQZ_OK &&
        strlen(text) == (size_t)bytes)
        cJSON_AddStringToObject(member, "x-readme", text);
    free(text);
    free(file);
}

sqz_status report_load(const char *dir, report_data *out, sqz_error *err)
{
    report_data d = {0};
    char *path = path_format("%s/trials.jsonl", dir), *text = NULL;
    int64_t bytes = 0;
    sqz_status s = SQZ_OK;
    if (!path_is_dir(dir)) s = err_set(err, ERR_MODEL, "%s: no such run folder", dir);
    if (!s) s = read_object(dir, "run.json", &d.run, err);
    if (!s) s = read_object(dir, "pareto.json", &d.pareto, err);
    if (!s) s = read_object(dir, "metrics.json", &d.metrics, err);
    if (!s) s = read_object(dir, "environment.json", &d.environment, err);
    if (!s && !d.run && !d.pareto)
        s = err_set(err, ERR_MODEL, "%s: is no run folder (neither run.json nor pareto.json)", dir);
    d.trials = cJSON_CreateArray();
    if (!s && path_exists(path)) {
        s = file_read(path, MAX_FILE, &text, &bytes, err);
        if (!s) s = add_lines(d.trials, text, bytes, path, err);
    }
    cJSON *m;
    cJSON_ArrayForEach(m, json_get(d.pareto, "members")) add_readme(dir, m);
    free(text);
    free(path);
    if (s)
        report_data_free(&d);
    else
        *out = d;
    return s;
}

void report_data_free(report_data *d)
{
    cJSON_Delete(d->run);
    cJSON_Delete(d->pareto);
    cJSON_Delete(d->metrics);
    cJSON_Delete(d->environment);
    cJSON_Delete(d->trials);
    *d = (report_data){0};
}

static sqz_status write_one(const char *dir, const char *name, char *text, sqz_error *err)
{
    char *path = path_format("%s/%s", dir, name);
    sqz_status s = file_write(path, text, (int64_t)strlen(text), err);
    free(path);
    free(text);
    return s;
}

sqz_status report_write(const char *dir, sqz_error *err)
{
    report_data d;
    sqz_status s = report_load(dir, &d, err);
    if (s) return s;
    s = write_one(dir, "report.md", report_markdown(&d), err);
    if (!s) s = write_one(dir, "report.html", report_html(&d), err);
    report_data_free(&d);
    return s;
}
