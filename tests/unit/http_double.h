/* http_double.h - a stand-in for an MLflow server, for tests only: it keeps what it is told, checks
 * it as the real one does, and misbehaves on demand. */
#ifndef SQZ_TEST_HTTP_DOUBLE_H
#define SQZ_TEST_HTTP_DOUBLE_H
#include "json/json.h"
#include <arpa/inet.h>
#include <check.h>
#include <ctype.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum fault {
    FAULT_NONE,
    FAULT_SLOW, /* no answer while the fault lasts */
    FAULT_429,  /* with Retry-After: 1 */
    FAULT_500,
    FAULT_GARBAGE,   /* 200 and a page of HTML */
    FAULT_CUT,       /* the connection ends before the request is acted on */
    FAULT_CUT_AFTER, /* ... after it was acted on */
    FAULT_REDIRECT,  /* to another host */
    FAULT_REFUSED,   /* 401 */
    FAULT_COUNT
} fault;

typedef struct http_double {
    int listener, port, reopen;
    pthread_t thread;
    pthread_mutex_t lock; /* of state */
    atomic_int stop, requests, bad;
    atomic_int fault; /* of the next `faults` requests */
    atomic_int faults;
    atomic_int kill_at; /* at this request kill_pid dies, 0 = never; acted on first when odd */
    atomic_int kill_pid;
    const char *authorization; /* every request must carry this, or NULL */
    cJSON *state; /* {"experiments":{name:id},"runs":{id:{"key","parent","params","tags","metrics",
                     "status"}},"files":{path:bytes},"models":{name:[versions]}} */
} http_double;

typedef struct http_in {
    char method[8], path[4096], authorization[4200];
    char *body;
    long bytes;
} http_in;

/* ---- what a server checks -------------------------------------------------------------------- */
static int double_key_ok(const char *key)
{
    size_t n = strlen(key);
    if (!n || n > 250 || key[0] == '/' || key[n - 1] == '/' || strstr(key, "//")) return 0;
    if (!strcmp(key, "..") || !strncmp(key, "../", 3) || strstr(key, "/../")) return 0;
    for (const char *p = key; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-. /:", *p)) return 0;
    return 1;
}

static cJSON *double_part(cJSON *object, const char *key)
{
    cJSON *part = json_get(object, key);
    return part ? part : cJSON_AddObjectToObject(object, key);
}

static void double_put(cJSON *object, const char *key, const char *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddStringToObject(object, key, value);
}

static const char *double_error(const char *code, const char *text, int *status)
{
    static char out[400];
    *status = !strcmp(code, "RESOURCE_DOES_NOT_EXIST") ? 404 : 400;
    snprintf(out, sizeof out, "{\"error_code\":\"%s\",\"message\":\"%s\"}", code, text);
    return out;
}

static const char *double_batch(cJSON *run, const cJSON *body, int *status)
{
    const cJSON *item;
    cJSON *params = double_part(run, "params"), *tags = double_part(run, "tags"),
          *metrics = double_part(run, "metrics");
    cJSON_ArrayForEach(item, json_get(body, "metrics"))
    {
        const cJSON *value = json_get(item, "value");
        if (!double_key_ok(json_str(item, "key", "")) || !cJSON_IsNumber(value))
            return double_error("INVALID_PARAMETER_VALUE", "bad metric", status);
        char id[700]; /* an identical point is one point */
        snprintf(id, sizeof id, "%s|%.0f|%.0f|%.17g", json_str(item, "key", ""),
                 json_num(item, "step", -1), json_num(item, "timestamp", -1), value->valuedouble);
        double_put(metrics, id, "");
    }
    cJSON_ArrayForEach(item, json_get(body, "params"))
    {
        const char *key = json_str(item, "key", ""), *value = json_str(item, "value", "");
        const char *before = json_str(params, key, NULL);
        if (!double_key_ok(key) || strlen(value) > 6000)
            return double_error("INVALID_PARAMETER_VALUE", "bad param", status);
        if (before && strcmp(before, value) != 0)
            return double_error("INVALID_PARAMETER_VALUE", "param changed", status);
        double_put(params, key, value);
    }
    cJSON_ArrayForEach(item, json_get(body, "tags"))
    {
        if (!double_key_ok(json_str(item, "key", "")) || strlen(json_str(item, "value", "")) > 5000)
            return double_error("INVALID_PARAMETER_VALUE", "bad tag", status);
        double_put(tags, json_str(item, "key", ""), json_str(item, "value", ""));
    }
    return "{}";
}

static char *double_run_answer(const char *id)
{
    static char out[500];
    snprintf(out, sizeof out,
             "{\"info\":{\"run_id\":\"%s\",\"artifact_uri\":\"mlflow-artifacts:/7/%s/artifacts\"}}",
             id, id);
    return out;
}

static const char *double_create_run(cJSON *state, const cJSON *body)
{
    static char out[600];
    cJSON *runs = double_part(state, "runs"), *run;
    const cJSON *tag;
    char id[40];
    snprintf(id, sizeof id, "%032x", cJSON_GetArraySize(runs) + 1);
    run = cJSON_AddObjectToObject(runs, id);
    cJSON_ArrayForEach(tag, json_get(body, "tags"))
        double_put(double_part(run, "tags"), json_str(tag, "key", ""), json_str(tag, "value", ""));
    cJSON_AddStringToObject(run, "status", "RUNNING");
    snprintf(out, sizeof out, "{\"run\":%s}", double_run_answer(id));
    return out;
}

static const char *double_search(cJSON *state, const cJSON *body)
{
    static char out[600];
    char key[600] = "";
    cJSON *run;
    const char *quote = strchr(json_str(body, "filter", "'"), '\'');
    if (quote) sscanf(quote, "'%599[^']'", key);
    cJSON_ArrayForEach(run, double_part(state, "runs"))
    {
        if (strcmp(json_str(json_get(run, "tags"), "sqz.key", ""), key) != 0) continue;
        snprintf(out, sizeof out, "{\"runs\":[%s]}", double_run_answer(run->string));
        return out;
    }
    return "{}";
}

static const char *double_models(cJSON *state, const http_in *in, const cJSON *body, int *status)
{
    static char out[4000];
    cJSON *models = double_part(state, "models");
    const char *name = json_str(body, "name", "");
    if (strstr(in->path, "registered-models/create")) {
        if (json_get(models, name)) return double_error("RESOURCE_ALREADY_EXISTS", name, status);
        cJSON_AddArrayToObject(models, name);
        return "{}";
    }
    cJSON *versions = strstr(in->path, "create") ? json_get(models, name)
                      : models->child            ? models->child
                                                 : NULL;
    if (strstr(in->path, "create")) {
        cJSON *v = cJSON_Duplicate(body, 1);
        cJSON_AddStringToObject(v, "version", "1");
        cJSON_AddItemToArray(versions, v);
        return "{\"model_version\":{\"version\":\"1\"}}";
    }
    char *text = versions ? json_text(versions, 0) : NULL;
    snprintf(out, sizeof out, "{\"model_versions\":%s}", text ? text : "[]");
    free(text);
    return out;
}

static const char *double_act(http_double *d, const http_in *in, int *status)
{
    static char out[200];
    cJSON *body = cJSON_Parse(in->body ? in->body : ""), *run;
    const char *answer = "{}";
    run = json_get(double_part(d->state, "runs"), json_str(body, "run_id", ""));
    *status = 200;
    if (strstr(in->path, "/mlflow-artifacts/artifacts/")) {
        char bytes[32];
        snprintf(bytes, sizeof bytes, "%ld", in->bytes);
        double_put(double_part(d->state, "files"), strstr(in->path, "artifacts/7/"), bytes);
        answer = "";
    } else if (strstr(in->path, "experiments/get-by-name")) {
        if (json_get(d->state, "experiment"))
            answer = "{\"experiment\":{\"experiment_id\":\"7\",\"lifecycle_stage\":\"active\"}}";
        else
            answer = double_error("RESOURCE_DOES_NOT_EXIST", "none", status);
    } else if (strstr(in->path, "experiments/create")) {
        if (json_get(d->state, "experiment"))
            answer = double_error("RESOURCE_ALREADY_EXISTS", "taken", status);
        else {
            double_put(d->state, "experiment", json_str(body, "name", ""));
            answer = "{\"experiment_id\":\"7\"}";
        }
    } else if (strstr(in->path, "runs/create")) {
        answer = double_create_run(d->state, body);
    } else if (strstr(in->path, "runs/search")) {
        answer = double_search(d->state, body);
    } else if (strstr(in->path, "model")) {
        answer = double_models(d->state, in, body, status);
    } else if (!strcmp(in->path, "/here")) {
        answer = "{\"here\":1}";
    } else if (!strcmp(in->path, "/long")) {
        answer = "0123456789012345678901234567890123456789";
    } else if (!run) {
        answer = double_error("RESOURCE_DOES_NOT_EXIST", "no such run", status);
    } else if (strstr(in->path, "runs/log-batch")) {
        answer = double_batch(run, body, status);
    } else if (strstr(in->path, "runs/update")) {
        double_put(run, "status", json_str(body, "status", ""));
    } else {
        snprintf(out, sizeof out, "no %.100s", in->path);
        answer = double_error("ENDPOINT_NOT_FOUND", out, status);
    }
    cJSON_Delete(body);
    return answer;
}

/* ---- the connection -------------------------------------------------------------------------- */
static int double_read(int fd, http_in *in)
{
    static char head[65536];
    size_t n = 0;
    char *end = NULL;
    while (!end && n < sizeof head - 1) {
        ssize_t got = recv(fd, head + n, sizeof head - 1 - n, 0);
        if (got <= 0) return 0;
        n += (size_t)got;
        head[n] = 0;
        end = strstr(head, "\r\n\r\n");
    }
    if (!end || sscanf(head, "%7s %4095s", in->method, in->path) != 2) return 0;
    char *length = strcasestr(head, "content-length:"), *auth = strcasestr(head, "authorization:");
    in->bytes = length && length < end ? strtol(length + 15, NULL, 10) : 0;
    in->authorization[0] = 0;
    if (auth && auth < end) sscanf(auth + 14, " %4199[^\r]", in->authorization);
    in->body = calloc(1, (size_t)in->bytes + 1);
    size_t have = n - (size_t)(end + 4 - head);
    if (have > (size_t)in->bytes) have = (size_t)in->bytes;
    memcpy(in->body, end + 4, have);
    while (have < (size_t)in->bytes) {
        ssize_t got = recv(fd, in->body + have, (size_t)in->bytes - have, 0);
        if (got <= 0) return 0;
        have += (size_t)got;
    }
    return 1;
}

static void double_send(int fd, int status, const char *extra, const char *body)
{
    char head[700];
    snprintf(head, sizeof head,
             "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
             "Connection: close\r\n%s\r\n",
             status, strlen(body), extra);
    send(fd, head, strlen(head), MSG_NOSIGNAL);
    send(fd, body, strlen(body), MSG_NOSIGNAL);
}

static void double_misbehave(http_double *d, int fd, fault f, const http_in *in)
{
    int status;
    char location[200];
    if (f == FAULT_CUT_AFTER) (void)double_act(d, in, &status);
    if (f == FAULT_429) double_send(fd, 429, "Retry-After: 1\r\n", "{}");
    if (f == FAULT_500) double_send(fd, 500, "", "{\"error_code\":\"INTERNAL_ERROR\"}");
    if (f == FAULT_GARBAGE) double_send(fd, 200, "", "<html><b>welcome</b></html>");
    if (f == FAULT_REFUSED) double_send(fd, 401, "", "who are you?");
    snprintf(location, sizeof location, "Location: http://127.0.0.2:%d/evil\r\n", d->port);
    if (f == FAULT_REDIRECT) double_send(fd, 302, location, "");
    while (f == FAULT_SLOW && atomic_load(&d->fault) == FAULT_SLOW && !atomic_load(&d->stop))
        usleep(2000);
}

static void double_serve(http_double *d, int fd)
{
    http_in in = {0};
    int status, n;
    if (double_read(fd, &in)) {
        n = atomic_fetch_add(&d->requests, 1) + 1;
        if (d->authorization && strcmp(in.authorization, d->authorization) != 0)
            atomic_fetch_add(&d->bad, 1);
        if (strstr(in.path, "evil")) atomic_fetch_add(&d->bad, 1);
        pthread_mutex_lock(&d->lock);
        int f = atomic_load(&d->faults) != 0 ? atomic_load(&d->fault) : FAULT_NONE;
        if (atomic_load(&d->kill_at) == n) {
            if (n & 1) (void)double_act(d, &in, &status);
            kill(atomic_load(&d->kill_pid), SIGKILL);
        } else if (f != FAULT_NONE) {
            if (atomic_load(&d->faults) > 0) atomic_fetch_sub(&d->faults, 1);
            double_misbehave(d, fd, (fault)f, &in);
        } else if (!strcmp(in.path, "/moved")) {
            double_send(fd, 307, "Location: /here\r\n", "");
        } else {
            const char *answer = double_act(d, &in, &status);
            double_send(fd, status, "", answer);
        }
        pthread_mutex_unlock(&d->lock);
    }
    free(in.body);
    close(fd);
}

static void *double_main(void *arg)
{
    http_double *d = arg;
    while (!atomic_load(&d->stop)) {
        int fd = accept(d->listener, NULL, NULL);
        if (fd >= 0) double_serve(d, fd);
    }
    return NULL;
}

/* port 0 = any */
static void double_start(http_double *d, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t n = sizeof a;
    int yes = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    d->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(d->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    ck_assert_int_eq(bind(d->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(d->listener, 64), 0);
    getsockname(d->listener, (struct sockaddr *)&a, &n);
    d->port = ntohs(a.sin_port);
    if (!d->state) {
        d->state = cJSON_CreateObject();
        pthread_mutex_init(&d->lock, NULL);
    }
    atomic_store(&d->stop, 0);
    ck_assert_int_eq(pthread_create(&d->thread, NULL, double_main, d), 0);
}

/* Down: nobody listens; the state stays. */
static void double_stop(http_double *d)
{
    atomic_store(&d->stop, 1);
    shutdown(d->listener, SHUT_RDWR);
    pthread_join(d->thread, NULL);
    close(d->listener);
}

static void double_fault(http_double *d, fault f, int times)
{
    atomic_store(&d->fault, f);
    atomic_store(&d->faults, f == FAULT_NONE ? 0 : times);
}
#endif
