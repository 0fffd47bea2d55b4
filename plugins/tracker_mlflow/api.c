/* api.c - requests to an MLflow server, and what its answers mean.
 *
 * Three kinds of failure: the server cannot just now (SQZ_E_IO: no connection, 408, 429, 5xx, an
 * answer that is not MLflow's, missing rights, which the user can mend before `sqz sync`); the
 * request is wrong (SQZ_E_INVALID: it would be wrong again); the host said stop.
 * A server's paths are only ever used in URLs of the same server. */
#include "mlflow.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- credentials ----------------------------------------------------------------------------- */
static void take_env(const char *name, char *out, size_t bytes)
{
    const char *value = getenv(name);
    if (value && strlen(value) < bytes) snprintf(out, bytes, "%s", value);
}

/* The first line of a file, without what ends it. */
static sqz_status read_token(mlflow *m)
{
    char line[4000];
    FILE *f = fopen(m->token_file, "re");
    char *got = f ? fgets(line, sizeof line, f) : NULL;
    if (f) fclose(f);
    if (!got)
        return sqz_failf(m->host, SQZ_E_INVALID, "token_file %s: cannot be read", m->token_file);
    line[strcspn(line, "\r\n")] = 0;
    snprintf(m->bearer, sizeof m->bearer, "Authorization: Bearer %s", line);
    explicit_bzero(line, sizeof line);
    return SQZ_OK;
}

/* ~/.mlflow/credentials: section [mlflow], mlflow_tracking_username and _password. */
static void read_credentials(mlflow *m)
{
    char path[1024], line[1024], key[64], value[512];
    const char *home = getenv("HOME");
    if (!home) return;
    snprintf(path, sizeof path, "%s/.mlflow/credentials", home);
    FILE *f = fopen(path, "re");
    int inside = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (line[0] == '[') inside = strncmp(line, "[mlflow]", 8) == 0;
        if (!inside || sscanf(line, " %63[a-z_] = %511[^\r\n]", key, value) != 2) continue;
        if (!strcmp(key, "mlflow_tracking_username"))
            snprintf(m->user, sizeof m->user, "%.*s", (int)sizeof m->user - 1, value);
        if (!strcmp(key, "mlflow_tracking_password"))
            snprintf(m->password, sizeof m->password, "%s", value);
    }
    if (f) fclose(f);
}

static sqz_status take_credentials(mlflow *m)
{
    const char *token = getenv("MLFLOW_TRACKING_TOKEN"), *space = getenv("MLFLOW_WORKSPACE");
    take_env("MLFLOW_TRACKING_USERNAME", m->user, sizeof m->user);
    take_env("MLFLOW_TRACKING_PASSWORD", m->password, sizeof m->password);
    if (space && *space)
        snprintf(m->workspace, sizeof m->workspace, "X-MLFLOW-WORKSPACE: %.250s", space);
    if (*m->user && *m->password) return SQZ_OK;
    *m->user = 0;
    if (token && *token && strlen(token) < sizeof m->bearer - 32) {
        snprintf(m->bearer, sizeof m->bearer, "Authorization: Bearer %s", token);
        return SQZ_OK;
    }
    if (*m->token_file) return read_token(m);
    read_credentials(m);
    return SQZ_OK;
}

sqz_status api_open(mlflow *m)
{
    const char *uri = getenv("MLFLOW_TRACKING_URI");
    if (!*m->uri && uri && strlen(uri) < sizeof m->uri) snprintf(m->uri, sizeof m->uri, "%s", uri);
    if (strncasecmp(m->uri, "http://", 7) && strncasecmp(m->uri, "https://", 8))
        return m->host->fail(m->host, SQZ_E_INVALID,
                             "no server: set the parameter uri or MLFLOW_TRACKING_URI to "
                             "http://HOST:PORT or https://HOST");
    if (memchr(m->uri + 7, '@', strcspn(m->uri + 7, "/?#")))
        return m->host->fail(m->host, SQZ_E_INVALID,
                             "the server's address holds a user or password; set "
                             "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead");
    for (size_t n = strlen(m->uri); n > 8 && m->uri[n - 1] == '/'; n--) m->uri[n - 1] = 0;
    m->http = m->host->service(m->host, SQZ_HTTP_1);
    if (!m->http) return m->host->fail(m->host, SQZ_E_UNSUPPORTED, "this host has no sqz.http/1");
    return take_credentials(m);
}

/* ---- one request ----------------------------------------------------------------------------- */
static void fill(mlflow *m, sqz_http_request *r, const char *method, const char *url,
                 const char *type, const char *headers[4])
{
    const char *insecure = getenv("MLFLOW_TRACKING_INSECURE_TLS");
    int n = 0;
    if (type) headers[n++] = type;
    if (*m->bearer && !*m->user) headers[n++] = m->bearer;
    if (*m->workspace) headers[n++] = m->workspace;
    headers[n] = NULL;
    *r = (sqz_http_request){.struct_size = sizeof *r,
                            .method = method,
                            .url = url,
                            .headers = headers,
                            .user = *m->user ? m->user : NULL,
                            .password = m->password,
                            .ca_file = getenv("MLFLOW_TRACKING_SERVER_CERT_PATH"),
                            .client_cert = getenv("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
                            .timeout_s = m->timeout_s};
    if (insecure && strcasecmp(insecure, "true") == 0) r->flags |= SQZ_HTTP_INSECURE;
}

/* Text of a server, fit for one line of a log. */
static char *one_line(const char *text)
{
    char *line = text_value(text ? text : "", 300);
    for (char *p = line; p && *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    return line;
}

static sqz_status refuse_answer(mlflow *m, const char *what, const sqz_http_response *a,
                                const cJSON *json, char code[64])
{
    const char *word = get_str(json, "error_code", NULL);
    char *line = one_line(get_str(json, "message", ""));
    const char *text = line ? line : "";
    sqz_status s = SQZ_E_IO;
    if (a->retry_after_s > 0) m->tracking->later(m->tracking, a->retry_after_s);
    if (a->status == 401 || a->status == 403)
        s = sqz_failf(m->host, s,
                      "%s: %d, no access; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME "
                      "and MLFLOW_TRACKING_PASSWORD",
                      m->uri, a->status);
    else if (a->status == 408 || a->status == 429 || a->status >= 500)
        s = sqz_failf(m->host, s, "%s: %s answered %d%s%s", m->uri, what, a->status,
                      *text ? " " : "", text);
    else if (!word)
        s = sqz_failf(m->host, s, "%s: %s answered %d and is no MLflow server", m->uri, what,
                      a->status);
    else {
        snprintf(code, 64, "%s", word);
        s = sqz_failf(m->host, SQZ_E_INVALID, "%s: %s", what, *text ? text : word);
    }
    free(line);
    return s;
}

static sqz_status read_answer(mlflow *m, const char *what, const sqz_http_response *a,
                              cJSON **answer, char code[64])
{
    cJSON *json = cJSON_ParseWithOpts(a->body, NULL, 1);
    sqz_status s = SQZ_OK;
    if (a->status < 200 || a->status > 299)
        s = refuse_answer(m, what, a, json, code);
    else if (!cJSON_IsObject(json))
        s = sqz_failf(m->host, SQZ_E_IO, "%s: %s answered something that is no JSON object", m->uri,
                      what);
    if (s || !answer)
        cJSON_Delete(json);
    else
        *answer = json;
    return s;
}

sqz_status api_call(mlflow *m, const char *method, const char *path, cJSON *body, cJSON **answer,
                    char code[64])
{
    char url[2 * MAX_URL], unused[64];
    const char *headers[4];
    sqz_http_request r;
    sqz_http_response a = {.struct_size = sizeof a};
    if (!code) code = unused;
    code[0] = 0;
    char *text = body ? cJSON_PrintUnformatted(body) : NULL;
    m->lost |= body && !text;
    cJSON_Delete(body);
    if (m->lost) {
        free(text);
        return m->host->fail(m->host, SQZ_E_NOMEM, "no memory for a request");
    }
    snprintf(url, sizeof url, "%s/api/2.0/mlflow/%s", m->uri, path);
    fill(m, &r, method, url, "Content-Type: application/json", headers);
    r.body = text;
    r.body_bytes = text ? (int64_t)strlen(text) : 0;
    sqz_status s = m->http->request(m->host, &r, &a);
    free(text);
    if (s) return s;
    char what[100];
    snprintf(what, sizeof what, "%.*s", (int)strcspn(path, "?"), path);
    s = read_answer(m, what, &a, answer, code);
    m->http->release(m->host, &a);
    return s;
}

/* ---- artifacts ------------------------------------------------------------------------------- */
void api_quote(const char *text, int keep_slash, char *out, size_t bytes)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 4 < bytes; p++) {
        if (strchr(plain, *p) || (keep_slash && *p == '/'))
            out[n++] = (char)*p;
        else
            n += (size_t)snprintf(out + n, bytes - n, "%%%02X", *p);
    }
    out[n] = 0;
}

/* Length of "scheme://host:port". */
static size_t origin_length(const char *url)
{
    const char *p = strstr(url, "://");
    return p ? (size_t)(p - url) + 3 + strcspn(p + 3, "/?#") : 0;
}

/* The URL that a run's artifact folder is reached by: only ever one of our own server. */
static int artifact_url(const mlflow *m, const char *uri, char *out, size_t bytes)
{
    static const char proxied[] = "mlflow-artifacts:";
    size_t origin = origin_length(m->uri), skip = sizeof proxied - 1;
    if (strstr(uri, "..")) return 0;
    if (!strncmp(uri, proxied, skip)) {
        const char *path = uri + skip;
        if (!strncmp(path, "//", 2)) { /* //host:port/path: must be ours */
            const char *ours = strstr(m->uri, "://") + 3;
            size_t n = strcspn(path + 2, "/");
            if (n != strcspn(ours, "/") || strncasecmp(path + 2, ours, n)) return 0;
            path += 2 + n;
        }
        while (*path == '/') path++;
        return snprintf(out, bytes, "%s/api/2.0/mlflow-artifacts/artifacts/%s", m->uri, path) <
               (int)bytes;
    }
    if (strncasecmp(uri, m->uri, origin) != 0 || (uri[origin] != '/' && uri[origin])) return 0;
    return snprintf(out, bytes, "%s", uri) < (int)bytes;
}

sqz_status api_upload(mlflow *m, const char *artifact_uri, const char *name, const char *file,
                      const char *media_type)
{
    char base[MAX_URL], quoted[MAX_URL], url[2 * MAX_URL + 8], type[128];
    const char *headers[4];
    sqz_http_request r;
    sqz_http_response a = {.struct_size = sizeof a};
    if (!artifact_url(m, artifact_uri, base, sizeof base))
        return sqz_failf(m->host, SQZ_E_UNSUPPORTED,
                         "%s is not stored: the server keeps artifacts where it does not serve "
                         "them itself; start it with --serve-artifacts",
                         name);
    api_quote(name, 1, quoted, sizeof quoted);
    snprintf(url, sizeof url, "%s/%s", base, quoted);
    snprintf(type, sizeof type, "Content-Type: %s", media_type);
    fill(m, &r, "PUT", url, type, headers);
    r.body_file = file;
    sqz_status s = m->http->request(m->host, &r, &a);
    if (s) return s;
    char code[64] = "";
    if (a.status == 503 && a.body && strstr(a.body, "serve-artifacts"))
        s = sqz_failf(m->host, SQZ_E_UNSUPPORTED,
                      "%s is not stored: the server runs with --no-serve-artifacts", name);
    else if (a.status < 200 || a.status > 299 || a.body_bytes) /* servers answer nothing, or {} */
        s = read_answer(m, "artifact upload", &a, NULL, code);
    m->http->release(m->host, &a);
    return s;
}
