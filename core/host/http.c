/* http.c - sqz.http/1 on libcurl; see sqz/services.h.
 *
 * Redirects are followed by hand, because only those to the same scheme, host and port may be: any
 * other would carry credentials, or a server's idea of where to write, to a stranger.  Texts of
 * failures hold the URL without its query and never a header.
 * Left out: HTTP/2 multiplexing, cookies, answers that do not fit in memory. */
#include "host/http.h"
#include "net/curl.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_REDIRECTS = 3, MAX_HEADERS = 64 };

static const curl_library *lib;

/* One idle handle is kept: it holds the open connections. */
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static CURL *idle;

static CURL *handle_take(void)
{
    pthread_mutex_lock(&idle_lock);
    CURL *c = idle;
    idle = NULL;
    pthread_mutex_unlock(&idle_lock);
    if (c) lib->easy_reset(c);
    return c ? c : lib->easy_init();
}

static void handle_put(CURL *c)
{
    pthread_mutex_lock(&idle_lock);
    CURL *extra = idle;
    idle = c;
    pthread_mutex_unlock(&idle_lock);
    if (extra) lib->easy_cleanup(extra);
}

/* ---- one exchange ---------------------------------------------------------------------------- */
typedef struct exchange {
    const sqz_host *host;
    const sqz_http_request *request;
    char *body;
    size_t bytes, room, limit;
    double retry_after_s;
    FILE *file; /* of body_file */
    int too_long, cancelled;
} exchange;

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    exchange *x = ctx;
    size_t bytes = size * n;
    if (bytes > x->limit - x->bytes) {
        x->too_long = 1;
        return 0;
    }
    if (x->bytes + bytes + 1 > x->room) {
        size_t room = (x->bytes + bytes + 1) * 2;
        char *grown = realloc(x->body, room);
        if (!grown) return 0;
        x->body = grown;
        x->room = room;
    }
    memcpy(x->body + x->bytes, data, bytes);
    x->bytes += bytes;
    x->body[x->bytes] = 0;
    return bytes;
}

/* Retry-After is a number of seconds or a date. */
static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    static const char name[] = "retry-after:";
    exchange *x = ctx;
    char text[64];
    size_t bytes = size * n, skip = sizeof name - 1;
    if (bytes <= skip || bytes - skip >= sizeof text || strncasecmp(data, name, skip) != 0)
        return bytes;
    memcpy(text, data + skip, bytes - skip);
    text[bytes - skip] = 0;
    x->retry_after_s = curl_retry_after(text);
    return bytes;
}

static int on_progress(void *ctx, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    exchange *x = ctx;
    double done = ultotal > 0 ? (double)ulnow / (double)ultotal : 0;
    (void)dltotal;
    (void)dlnow;
    x->cancelled = x->host->tick(x->host, done, "http") != 0;
    return x->cancelled;
}

static size_t on_read(char *out, size_t size, size_t n, void *ctx)
{
    exchange *x = ctx;
    size_t got = fread(out, size, n, x->file);
    return got < n && ferror(x->file) ? CURL_READFUNC_ABORT : got * size;
}

/* The URL up to its query, for messages. */
static void url_show(const char *url, char out[256])
{
    snprintf(out, 256, "%.*s", (int)(strcspn(url, "?#") < 250 ? strcspn(url, "?#") : 250), url);
}

static void set_limits(CURL *c, const sqz_http_request *r)
{
    double connect = r->connect_timeout_s > 0 ? r->connect_timeout_s : 5;
    double total = r->timeout_s > 0 ? r->timeout_s : 30;
    lib->setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect * 1000));
    if (r->body_file) { /* a large file takes as long as it takes, but it must move */
        lib->setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        lib->setopt(c, CURLOPT_LOW_SPEED_TIME, (long)ceil(total));
    } else {
        lib->setopt(c, CURLOPT_TIMEOUT_MS, (long)(total * 1000));
    }
}

static void set_callbacks(CURL *c, exchange *x)
{
    lib->setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    lib->setopt(c, CURLOPT_WRITEDATA, x);
    lib->setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    lib->setopt(c, CURLOPT_HEADERDATA, x);
    lib->setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    lib->setopt(c, CURLOPT_XFERINFODATA, x);
    lib->setopt(c, CURLOPT_NOPROGRESS, 0L);
    lib->setopt(c, CURLOPT_SOCKOPTFUNCTION, curl_close_on_exec);
}

static sqz_status set_body(CURL *c, exchange *x)
{
    const sqz_http_request *r = x->request;
    struct stat st;
    lib->setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    if (!r->body_file) {
        if (strcmp(r->method, "GET") == 0 && !r->body) return SQZ_OK;
        lib->setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(r->body ? r->body_bytes : 0));
        lib->setopt(c, CURLOPT_POSTFIELDS, r->body ? r->body : "");
        return SQZ_OK;
    }
    if (x->file) fclose(x->file);
    x->file = fopen(r->body_file, "rbe");
    if (!x->file || fstat(fileno(x->file), &st) || !S_ISREG(st.st_mode))
        return sqz_failf(x->host, SQZ_E_INVALID, "%s: cannot be read: %s", r->body_file,
                         x->file && errno == 0 ? "no regular file" : strerror(errno));
    lib->setopt(c, CURLOPT_UPLOAD, 1L);
    lib->setopt(c, CURLOPT_READFUNCTION, on_read);
    lib->setopt(c, CURLOPT_READDATA, x);
    lib->setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
    return SQZ_OK;
}

static sqz_status set_all(CURL *c, exchange *x, const char *url, struct curl_slist *headers)
{
    const sqz_http_request *r = x->request;
    lib->setopt(c, CURLOPT_URL, url);
    lib->setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    lib->setopt(c, CURLOPT_NOSIGNAL, 1L);
    lib->setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    lib->setopt(c, CURLOPT_USERAGENT, "sqz/" SQZ_VERSION);
    if (headers) lib->setopt(c, CURLOPT_HTTPHEADER, headers);
    if (r->user) {
        lib->setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        lib->setopt(c, CURLOPT_USERNAME, r->user);
        lib->setopt(c, CURLOPT_PASSWORD, r->password ? r->password : "");
    }
    if (r->ca_file) lib->setopt(c, CURLOPT_CAINFO, r->ca_file);
    if (r->client_cert) lib->setopt(c, CURLOPT_SSLCERT, r->client_cert);
    if (r->flags & SQZ_HTTP_INSECURE) {
        lib->setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        lib->setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set_limits(c, r);
    set_callbacks(c, x);
    return set_body(c, x);
}

static sqz_status why_failed(exchange *x, const char *url, CURLcode code)
{
    char shown[256];
    url_show(url, shown);
    if (x->cancelled) return SQZ_E_CANCELLED;
    if (x->too_long)
        return sqz_failf(x->host, SQZ_E_IO, "%s: the answer is longer than %zu bytes", shown,
                         x->limit);
    return sqz_failf(x->host, SQZ_E_IO, "%s: %s", shown, lib->strerror(code));
}

/* Where an answer that redirects points to, when it may be followed (a malloc'd URL in *next). */
static sqz_status redirect(exchange *x, CURL *c, long status, const char *url, char **next)
{
    char *target = NULL, from[512], to[512], shown[256];
    int user = 0;
    lib->getinfo(c, CURLINFO_REDIRECT_URL, &target);
    *next = NULL;
    if (status < 300 || status > 399 || !target) return SQZ_OK;
    url_show(url, shown);
    if (!curl_origin(url, from, sizeof from, &user) || !curl_origin(target, to, sizeof to, &user) ||
        user || strcasecmp(from, to) != 0) {
        url_show(target, to);
        return sqz_failf(x->host, SQZ_E_IO,
                         "%s: refused a redirect to another host (%s); give that address when it "
                         "is the right one",
                         shown, to);
    }
    int keeps = status == 307 || status == 308 || !strcmp(x->request->method, "GET");
    if (!keeps)
        return sqz_failf(x->host, SQZ_E_IO, "%s: answered %s with redirect %ld", shown,
                         x->request->method, status);
    *next = strdup(target); /* the handle owns target */
    return *next ? SQZ_OK : SQZ_E_NOMEM;
}

static sqz_status perform(exchange *x, CURL *c, struct curl_slist *headers, long *status)
{
    char *url = strdup(x->request->url), *next = NULL;
    sqz_status s = url ? SQZ_OK : SQZ_E_NOMEM;
    for (int hop = 0; !s; hop++) {
        x->bytes = 0;
        x->retry_after_s = 0;
        lib->easy_reset(c);
        if ((s = set_all(c, x, url, headers))) break;
        CURLcode code = lib->perform(c);
        if (code) {
            s = why_failed(x, url, code);
            break;
        }
        lib->getinfo(c, CURLINFO_RESPONSE_CODE, status);
        s = redirect(x, c, *status, url, &next);
        if (s || !next) break;
        free(url);
        url = next;
        if (hop == MAX_REDIRECTS) s = sqz_failf(x->host, SQZ_E_IO, "%s: redirects in circles", url);
    }
    free(url);
    return s;
}

/* ---- the table ------------------------------------------------------------------------------- */
static sqz_status check_request(const sqz_host *h, const sqz_http_request *r)
{
    const char *offline = getenv("SQZ_OFFLINE");
    char origin[512];
    int user = 0;
    if (!r || r->struct_size < sizeof *r || !r->method || !r->url)
        return h->fail(h, SQZ_E_INVALID, "http: a request needs struct_size, method and url");
    if (offline && *offline && strcmp(offline, "0") != 0)
        return h->fail(h, SQZ_E_UNSUPPORTED, "http: offline, because SQZ_OFFLINE is set");
    lib = curl_open();
    if (!lib->usable) return sqz_failf(h, SQZ_E_UNSUPPORTED, "http: %s", lib->why);
    if (!curl_origin(r->url, origin, sizeof origin, &user))
        return h->fail(h, SQZ_E_INVALID, "http: the address must begin with http:// or https://");
    if (user) return h->fail(h, SQZ_E_INVALID, "http: an address may not carry a user or password");
    return SQZ_OK;
}

static sqz_status make_headers(const sqz_host *h, const sqz_http_request *r,
                               struct curl_slist **out)
{
    struct curl_slist *list = lib->slist_append(NULL, "Expect:"); /* no pause before a body */
    for (int i = 0; r->headers && r->headers[i] && i < MAX_HEADERS; i++) {
        struct curl_slist *more = NULL;
        if (!strpbrk(r->headers[i], "\r\n")) more = lib->slist_append(list, r->headers[i]);
        if (!more) {
            lib->slist_free(list);
            return h->fail(h, SQZ_E_INVALID, "http: a header has a line break");
        }
        list = more;
    }
    *out = list;
    return SQZ_OK;
}

static sqz_status http_request(const sqz_host *h, const sqz_http_request *r, sqz_http_response *out)
{
    struct curl_slist *headers = NULL;
    long status = 0;
    sqz_status s = check_request(h, r);
    if (s) return s;
    if ((s = make_headers(h, r, &headers))) return s;
    exchange x = {.host = h, .request = r};
    x.limit = r->max_bytes > 0 ? (size_t)r->max_bytes : (size_t)16 << 20;
    x.body = calloc(1, x.room = 1);
    CURL *c = handle_take();
    s = c && x.body ? perform(&x, c, headers, &status)
                    : h->fail(h, SQZ_E_NOMEM, "http: out of memory");
    if (c) {
        lib->easy_reset(c); /* it must not keep pointers to what ends here */
        handle_put(c);
    }
    lib->slist_free(headers);
    if (x.file) fclose(x.file);
    if (s) {
        free(x.body);
        return s;
    }
    x.body[x.bytes] = 0;
    out->status = (int32_t)status;
    out->body = out->impl = x.body;
    out->body_bytes = (int64_t)x.bytes;
    out->retry_after_s = x.retry_after_s;
    return SQZ_OK;
}

static void http_release(const sqz_host *h, sqz_http_response *r)
{
    (void)h;
    free(r->impl);
    r->impl = NULL;
    r->body = NULL;
    r->body_bytes = 0;
}

static const sqz_http table = {sizeof table, 0, http_request, http_release};

const sqz_http *http_table(void)
{
    return &table;
}
