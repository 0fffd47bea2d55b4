/* curl.c - see curl.h. */
#include "net/curl.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static curl_library lib;

static void find(void *handle, const char *name, void *slot)
{
    void *symbol = dlsym(handle, name);
    if (!symbol) lib.usable = 0;
    memcpy(slot, &symbol, sizeof symbol); /* no cast from object to function pointer in ISO C */
}

static void library_open(void)
{
    void *h = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!h) {
        snprintf(lib.why, sizeof lib.why, "%s; install libcurl4", dlerror());
        return;
    }
    lib.usable = 1;
    find(h, "curl_global_init", &lib.global_init);
    find(h, "curl_easy_init", &lib.easy_init);
    find(h, "curl_easy_cleanup", &lib.easy_cleanup);
    find(h, "curl_easy_reset", &lib.easy_reset);
    find(h, "curl_easy_setopt", &lib.setopt);
    find(h, "curl_easy_getinfo", &lib.getinfo);
    find(h, "curl_easy_perform", &lib.perform);
    find(h, "curl_easy_strerror", &lib.strerror);
    find(h, "curl_slist_append", &lib.slist_append);
    find(h, "curl_slist_free_all", &lib.slist_free);
    find(h, "curl_url", &lib.url_new);
    find(h, "curl_url_cleanup", &lib.url_free);
    find(h, "curl_url_set", &lib.url_set);
    find(h, "curl_url_get", &lib.url_get);
    find(h, "curl_free", &lib.free);
    find(h, "curl_getdate", &lib.getdate);
    if (!lib.usable || lib.global_init(CURL_GLOBAL_DEFAULT)) {
        lib.usable = 0;
        snprintf(lib.why, sizeof lib.why, "libcurl.so.4: too old or damaged; 7.85 is needed");
    }
}

const curl_library *curl_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_open);
    return &lib;
}

int curl_origin(const char *url, char *out, size_t bytes, int *has_user)
{
    CURLU *u = lib.url_new();
    char *scheme = NULL, *name = NULL, *port = NULL, *user = NULL;
    int ok = u && !lib.url_set(u, CURLUPART_URL, url, 0) &&
             !lib.url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
             !lib.url_get(u, CURLUPART_HOST, &name, 0) &&
             !lib.url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) &&
             (!strcasecmp(scheme, "http") || !strcasecmp(scheme, "https"));
    if (ok) {
        snprintf(out, bytes, "%s://%s:%s", scheme, name, port);
        *has_user = lib.url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK;
    }
    lib.free(scheme);
    lib.free(name);
    lib.free(port);
    lib.free(user);
    lib.url_free(u);
    return ok;
}

int curl_close_on_exec(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
    (void)ctx;
    (void)purpose;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return CURL_SOCKOPT_OK;
}

double curl_retry_after(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text) {
        time_t when = lib.getdate(text, NULL);
        seconds = when > 0 ? difftime(when, time(NULL)) : 0;
    }
    return isfinite(seconds) && seconds > 0 ? seconds : 0;
}
