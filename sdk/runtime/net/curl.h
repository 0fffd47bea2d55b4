/* curl.h - libcurl, opened when the first request is made.
 *
 * Linked, it and its forty libraries would cost every worker and every scan of a plugin some ten
 * milliseconds at start.  Only functions that callers use are found; types are libcurl's own. */
#ifndef SQZ_RUNTIME_NET_CURL_H
#define SQZ_RUNTIME_NET_CURL_H
#define CURL_DISABLE_TYPECHECK /* its macros would call curl_easy_setopt by name */
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

typedef struct curl_library {
    CURLcode (*global_init)(long);
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *);
    void (*easy_reset)(CURL *);
    CURLcode (*setopt)(CURL *, CURLoption, ...);
    CURLcode (*getinfo)(CURL *, CURLINFO, ...);
    CURLcode (*perform)(CURL *);
    const char *(*strerror)(CURLcode);
    struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
    void (*slist_free)(struct curl_slist *);
    CURLU *(*url_new)(void);
    void (*url_free)(CURLU *);
    CURLUcode (*url_set)(CURLU *, CURLUPart, const char *, unsigned int);
    CURLUcode (*url_get)(const CURLU *, CURLUPart, char **, unsigned int);
    void (*free)(void *);
    time_t (*getdate)(const char *, const time_t *);
    int usable;
    char why[256]; /* when it is not */
} curl_library;

/* Never NULL; opened once for the process. */
const curl_library *curl_open(void);
/* "scheme://host:port" of an http or https URL in `out`; 0 when it is none. */
int curl_origin(const char *url, char *out, size_t bytes, int *has_user);
/* For CURLOPT_SOCKOPTFUNCTION: a process that is started meanwhile must not inherit the socket. */
int curl_close_on_exec(void *ctx, curl_socket_t fd, curlsocktype purpose);
/* Retry-After as seconds: a number or a date; never negative. */
double curl_retry_after(const char *text);
#endif
