/* models.c - the recommended member in the model registry.
 *
 * Its folder is stored with its trial's run (large files only up to a limit), and one version is
 * made for it; a version of the same run is taken for the one we made.  Left out: the MLmodel file,
 * so Python's pyfunc cannot load it; the folder's README says what can. */
#include "mlflow.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SMALL_FILE = 4 << 20, MAX_FILES = 200 };

static double folder_bytes(const char *folder)
{
    double bytes = 0;
    struct stat st;
    char path[8192];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%.7000s/%s", folder, e->d_name);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) bytes += (double)st.st_size;
    }
    if (d) closedir(d);
    return bytes;
}

static const char *media_type(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (dot && !strcmp(dot, ".json")) return "application/json";
    if (dot && !strcmp(dot, ".md")) return "text/markdown";
    return "application/octet-stream";
}

static sqz_status upload_folder(mlflow *m, const cJSON *run, const char *folder)
{
    int whole = folder_bytes(folder) <= m->upload_limit_bytes, n = 0;
    struct dirent **list = NULL;
    int count = scandir(folder, &list, NULL, alphasort);
    sqz_status s = SQZ_OK;
    for (int i = 0; i < count; i++) {
        char path[8192], name[300];
        struct stat st;
        snprintf(path, sizeof path, "%.7000s/%s", folder, list[i]->d_name);
        snprintf(name, sizeof name, "model/%s", list[i]->d_name);
        if (!s && lstat(path, &st) == 0 && S_ISREG(st.st_mode) && n < MAX_FILES &&
            (whole || st.st_size <= SMALL_FILE)) {
            s = api_upload(m, get_str(run, "artifact_uri", ""), name, path, media_type(name));
            n++;
        }
        free(list[i]);
    }
    free(list);
    if (!s && !whole)
        sqz_logf(m->host, SQZ_LOG_INFO,
                 "only small files of %s are uploaded; the parameter upload_limit_mb allows more",
                 folder);
    return s;
}

/* Names have neither slash nor colon. */
static void model_name(mlflow *m, char out[257])
{
    const char *name =
        *m->registered_model ? m->registered_model : get_str(m->study, "registered_model", "sqz");
    char *clean = text_value(name, 250);
    m->lost |= !clean;
    snprintf(out, 257, "%s", clean && *clean ? clean : "sqz");
    for (char *p = out; *p; p++)
        if (strchr("/:'\\\n\t", *p)) *p = '_';
    free(clean);
}

static sqz_status find_version(mlflow *m, const char *name, const char *run_id, char version[32])
{
    char filter[600], path[MAX_URL] = "model-versions/search?max_results=1000&filter=";
    cJSON *answer = NULL;
    const cJSON *v;
    snprintf(filter, sizeof filter, "name='%s'", name);
    size_t n = strlen(path);
    api_quote(filter, 0, path + n, sizeof path - n);
    sqz_status s = api_call(m, "GET", path, NULL, &answer, NULL);
    version[0] = 0;
    cJSON_ArrayForEach(v, get(answer, "model_versions"))
    {
        const cJSON *number = get(v, "version");
        if (strcmp(get_str(v, "run_id", ""), run_id) != 0) continue;
        if (cJSON_IsNumber(number)) snprintf(version, 32, "%.0f", number->valuedouble);
        if (cJSON_IsString(number)) snprintf(version, 32, "%.31s", number->valuestring);
    }
    cJSON_Delete(answer);
    return s;
}

static sqz_status make_version(mlflow *m, const char *name, const cJSON *run,
                               const cJSON *recommended)
{
    char source[MAX_URL];
    cJSON *body = cJSON_CreateObject(), *tags;
    snprintf(source, sizeof source, "%.1900s/model", get_str(run, "artifact_uri", ""));
    put_text(m, body, "name", name);
    put_text(m, body, "source", source);
    put_text(m, body, "run_id", get_str(run, "run_id", ""));
    char *label = text_plain(get_str(recommended, "label", ""), 1000);
    put_text(m, body, "description", label);
    free(label);
    tags = put_array(m, body, "tags");
    put_pair(m, tags, "sqz.artifact", get_str(recommended, "artifact", ""), MAX_TAG);
    put_pair(m, tags, "sqz.format", get_str(recommended, "format", ""), MAX_TAG);
    put_pair(m, tags, "sqz.study", get_str(m->study, "id", ""), MAX_TAG);
    return api_call(m, "POST", "model-versions/create", body, NULL, NULL);
}

sqz_status models_register(mlflow *m, const cJSON *recommended, int64_t time_ms)
{
    const char *trial = get_str(recommended, "trial", NULL),
               *path = get_str(recommended, "path", "");
    char name[257], folder[8192], version[32], code[64];
    cJSON *run = NULL;
    if (!m->register_model || !trial || !*path || *path == '/' || strstr(path, "..")) return SQZ_OK;
    sqz_status s = runs_get(m, trial, trial, time_ms, &run);
    snprintf(folder, sizeof folder, "%s/%s", m->tracking->folder, path);
    if (!s) s = upload_folder(m, run, folder);
    if (s == SQZ_E_UNSUPPORTED) { /* no place for artifacts, so nothing to register */
        sqz_logf(m->host, SQZ_LOG_WARN,
                 "the model is not registered: the server serves no "
                 "artifacts");
        return SQZ_OK;
    }
    model_name(m, name);
    if (!s) {
        cJSON *body = cJSON_CreateObject();
        put_text(m, body, "name", name);
        s = api_call(m, "POST", "registered-models/create", body, NULL, code);
        if (s == SQZ_E_INVALID && !strcmp(code, "RESOURCE_ALREADY_EXISTS")) s = SQZ_OK;
    }
    if (!s) s = find_version(m, name, get_str(run, "run_id", ""), version);
    return s || *version ? s : make_version(m, name, run, recommended);
}
