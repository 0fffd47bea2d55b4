/* web.c - one exchange with the hub: redirects by hand, retries, the token's one address.
 *
 * A redirect to another host is where the hub keeps large files; it is followed without the token,
 * and never from https to http.  Messages show addresses without their query, which may be signed,
 * and no headers. */
#include "hub/parts.h"
#include "io/file.h"
#include "net/curl.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOPS = 6, MAX_WAIT_S = 300 };

typedef struct transfer {
    const hub_request *request;
    hub_answer *answer;
    CURL *handle;
    size_t room;
    int64_t written; /* of the file */
    int too_long, disk_full, cancelled, checked;
} transfer;

void hub_answer_free(hub_answer *a)
{
    free(a->location);
    free(a->body);
    *a = (hub_answer){.size = -1, .from = -1};
}

/* ---- headers --------------------------------------------------------------------------------- */

static int header_is(const char *line, const char *name)
{
    return !strncasecmp(line, name, strlen(name));
}

/* W/"abc" and "abc" as abc; anything that is no hash is none. */
static void read_etag(const char *value, char out[HUB_HEX])
{
    char text[HUB_HEX];
    if (!strncmp(value, "W/", 2)) value += 2;
    if (*value == '"') value++;
    size_t n = strspn(value, "0123456789abcdef");
    if ((n != 40 && n != 64) || (value[n] && value[n] != '"')) return;
    snprintf(text, sizeof text, "%.*s", (int)n, value);
    memcpy(out, text, sizeof text);
}

static int64_t read_number(const char *value)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    return errno || end == value || n < 0 ? -1 : n;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    transfer *t = ctx;
    hub_answer *a = t->answer;
    char line[2048];
    size_t bytes = size * n;
    if (bytes >= sizeof line) return bytes;
    memcpy(line, data, bytes);
    line[bytes] = 0;
    line[strcspn(line, "\r\n")] = 0;
    const char *colon = strchr(line, ':'), *value = colon ? colon + 1 : "";
    while (*value == ' ' || *value == '\t') value++;
    if (header_is(line, "x-linked-etag:"))
        read_etag(value, a->etag);
    else if (header_is(line, "etag:") && !a->etag[0])
        read_etag(value, a->etag);
    else if (header_is(line, "x-repo-commit:") && hub_is_hex(value, 40))
        snprintf(a->commit, sizeof a->commit, "%s", value);
    else if (header_is(line, "x-linked-size:"))
        a->size = read_number(value);
    else if (header_is(line, "content-length:") && a->size < 0)
        a->size = read_number(value);
    else if (header_is(line, "content-range: bytes ") || header_is(line, "content-range:bytes "))
        a->from = read_number(value + 6);
    else if (header_is(line, "retry-after:"))
        a->retry_after_s = curl_retry_after(value);
    else if (header_is(line, "x-error-code:"))
        snprintf(a->code, sizeof a->code, "%.*s",
                 (int)strspn(value, "abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                 value);
    return bytes;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static size_t keep(transfer *t, const char *data, size_t bytes)
{
    hub_answer *a = t->answer;
    if ((int64_t)bytes > t->request->max_bytes - a->bytes) {
        t->too_long = 1;
        return 0;
    }
    if ((size_t)a->bytes + bytes + 1 > t->room) {
        size_t room = ((size_t)a->bytes + bytes + 1) * 2;
        char *grown = realloc(a->body, room);
        if (!grown) return 0;
        a->body = grown;
        t->room = room;
    }
    memcpy(a->body + a->bytes, data, bytes);
    a->bytes += (int64_t)bytes;
    a->body[a->bytes] = 0;
    return bytes;
}

/* A whole answer replaces what the file has; a part must begin where the file ends. */
static int begin_file(transfer *t, long status)
{
    const hub_request *r = t->request;
    t->checked = 1;
    t->written = r->resume_at;
    if (status == 206) return t->answer->from == r->resume_at;
    t->written = 0;
    return ftruncate(r->fd, 0) == 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    transfer *t = ctx;
    const hub_request *r = t->request;
    size_t bytes = size * n;
    long status = 0;
    sqz_error err;
    curl_open()->getinfo(t->handle, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) return bytes; /* pages of failures are not kept */
    if (r->fd < 0) return keep(t, data, bytes);
    if (!t->checked && !begin_file(t, status)) return 0;
    if ((int64_t)bytes > r->max_bytes - t->written) {
        t->too_long = 1;
        return 0;
    }
    if (file_pwrite(r->fd, r->what, data, (int64_t)bytes, t->written, &err)) {
        t->disk_full = 1;
        return 0;
    }
    t->written += (int64_t)bytes;
    return bytes;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    transfer *t = ctx;
    const hub_request *r = t->request;
    (void)total, (void)now, (void)up_total, (void)up_now;
    double done = r->done_total > 0 ? (r->done_before + (double)t->written) / r->done_total : 0;
    if (r->hooks && r->hooks->tick)
        t->cancelled = r->hooks->tick(r->hooks->ctx, done < 1 ? done : 1, r->what) != 0;
    return t->cancelled;
}

/* ---- one request ----------------------------------------------------------------------------- */

static void show_url(const char *url, char out[256])
{
    size_t n = strcspn(url, "?#");
    snprintf(out, 256, "%.*s", (int)(n < 250 ? n : 250), url);
}

static struct curl_slist *make_headers(const hub_request *r, int with_token)
{
    const curl_library *lib = curl_open();
    struct curl_slist *list = lib->slist_append(NULL, "Accept-Encoding: identity"), *more = list;
    if (list && with_token && r->place->token) {
        char *line = path_format("Authorization: Bearer %s", r->place->token);
        more = lib->slist_append(list, line);
        free(line);
    }
    if (more && r->fd >= 0 && r->resume_at > 0) {
        char *line = path_format("Range: bytes=%lld-", (long long)r->resume_at);
        list = more;
        more = lib->slist_append(list, line);
        free(line);
    }
    if (!more) lib->slist_free(list);
    return more;
}

static void set_options(transfer *t, const char *url, struct curl_slist *headers)
{
    const curl_library *lib = curl_open();
    const hub_request *r = t->request;
    CURL *c = t->handle;
    lib->easy_reset(c);
    lib->setopt(c, CURLOPT_URL, url);
    lib->setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    lib->setopt(c, CURLOPT_NOSIGNAL, 1L);
    lib->setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    lib->setopt(c, CURLOPT_USERAGENT, "sqz/" SQZ_VERSION);
    lib->setopt(c, CURLOPT_HTTPHEADER, headers);
    lib->setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(r->place->timeout_s * 1000));
    lib->setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib->setopt(c, CURLOPT_LOW_SPEED_TIME, (long)ceil(r->place->timeout_s));
    if (r->head) lib->setopt(c, CURLOPT_NOBODY, 1L);
    lib->setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    lib->setopt(c, CURLOPT_HEADERDATA, t);
    lib->setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    lib->setopt(c, CURLOPT_WRITEDATA, t);
    lib->setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    lib->setopt(c, CURLOPT_XFERINFODATA, t);
    lib->setopt(c, CURLOPT_NOPROGRESS, 0L);
    lib->setopt(c, CURLOPT_SOCKOPTFUNCTION, curl_close_on_exec);
}

static sqz_status why_failed(const transfer *t, const char *url, CURLcode code, sqz_error *err)
{
    char shown[256];
    show_url(url, shown);
    if (t->cancelled) return err_set(err, SQZ_E_CANCELLED, "interrupted");
    if (t->disk_full)
        return err_set(err, ERR_STORAGE, "%s: cannot be written: %s", t->request->what,
                       strerror(errno));
    if (t->too_long)
        return err_set(err, ERR_MODEL, "%s: longer than the %lld bytes that were announced", shown,
                       (long long)t->request->max_bytes);
    return err_set(err, ERR_REMOTE, "%s: %s", shown, curl_open()->strerror(code));
}

/* Where to go next: NULL in *next = nowhere.  Sets answer->location for another host in a HEAD. */
static sqz_status follow(transfer *t, const char *url, char **next, sqz_error *err)
{
    char from[512], to[512], shown[256];
    char *target = NULL;
    int user = 0, user_to = 0;
    hub_answer *a = t->answer;
    *next = NULL;
    curl_open()->getinfo(t->handle, CURLINFO_REDIRECT_URL, &target);
    if (a->status < 300 || a->status > 399 || !target) return SQZ_OK;
    show_url(url, shown);
    if (!curl_origin(url, from, sizeof from, &user) ||
        !curl_origin(target, to, sizeof to, &user_to) || user_to)
        return err_set(err, ERR_MODEL, "%s: redirects to no usable address", shown);
    if (!strncmp(from, "https:", 6) && strncmp(to, "https:", 6) != 0)
        return err_set(err, ERR_MODEL, "%s: refused a redirect from https to http", shown);
    *next = path_format("%s", target);
    if (t->request->head && strcasecmp(from, to) != 0) { /* the large file's own host */
        a->location = *next;
        *next = NULL;
    }
    return SQZ_OK;
}

static sqz_status once(const hub_request *r, CURL *c, hub_answer *a, sqz_error *err)
{
    char *url = path_format("%s", r->url), *next = NULL;
    char home[512] = "", here[512] = "";
    int user = 0;
    sqz_status s = SQZ_OK;
    for (int hop = 0; !s; hop++) {
        transfer t = {.request = r, .answer = a, .handle = c, .written = r->resume_at};
        hub_answer_free(a);
        if (!curl_origin(url, here, sizeof here, &user) || user ||
            !curl_origin(r->place->endpoint, home, sizeof home, &user)) {
            s = err_set(err, ERR_USAGE, "%s: no usable address", r->place->endpoint);
            break;
        }
        struct curl_slist *headers = make_headers(r, !strcasecmp(here, home));
        if (!headers) {
            s = err_set(err, SQZ_E_NOMEM, "no memory for a request");
            break;
        }
        set_options(&t, url, headers);
        CURLcode code = curl_open()->perform(c);
        curl_open()->getinfo(c, CURLINFO_RESPONSE_CODE, &a->status);
        curl_open()->slist_free(headers);
        if (code) s = why_failed(&t, url, code, err);
        if (!s) s = follow(&t, url, &next, err);
        if (s || !next) break;
        free(url);
        url = next;
        if (hop == MAX_HOPS) s = err_set(err, ERR_MODEL, "%s: redirects in circles", r->what);
    }
    free(url);
    return s;
}

sqz_status hub_wait(const hub_hooks *hooks, int attempt, double retry_after_s, const char *what)
{
    double left = retry_after_s > 0 ? retry_after_s : 0.25 * (double)(1 << attempt);
    for (; left > 0; left -= 0.1) {
        struct timespec pause = {0, 100000000};
        if (hooks && hooks->tick && hooks->tick(hooks->ctx, 0, what)) return SQZ_E_CANCELLED;
        nanosleep(&pause, NULL);
    }
    return SQZ_OK;
}

sqz_status hub_exchange(const hub_request *r, hub_answer *a, sqz_error *err)
{
    const curl_library *lib = curl_open();
    if (!lib->usable) return err_set(err, SQZ_E_UNSUPPORTED, "downloads: %s", lib->why);
    CURL *c = lib->easy_init();
    if (!c) return err_set(err, SQZ_E_NOMEM, "no memory for a request");
    sqz_status s;
    for (int attempt = 0;; attempt++) {
        s = once(r, c, a, err);
        int busy = !s && (a->status == 429 || (a->status >= 500 && a->status <= 504));
        if ((!busy && s != ERR_REMOTE) || attempt + 1 == HUB_ATTEMPTS || r->fd >= 0) break;
        if (a->retry_after_s > MAX_WAIT_S) break;
        if (hub_wait(r->hooks, attempt, a->retry_after_s, r->what)) {
            s = err_set(err, SQZ_E_CANCELLED, "interrupted");
            break;
        }
    }
    lib->easy_cleanup(c);
    if (s) hub_answer_free(a);
    return s;
}

sqz_status hub_refused(const hub_repo *repo, const hub_answer *a, const char *what, sqz_error *err)
{
    const char *kind = repo->dataset ? "data set" : "model";
    if (a->status == 401 || (a->status == 404 && !strcmp(a->code, "RepoNotFound")))
        return err_set(err, ERR_MODEL,
                       "%s \"%s\": the hub has none of that name, or it is private; set HF_TOKEN "
                       "to a token that may read it",
                       kind, repo->id);
    if (a->status == 403)
        return err_set(err, ERR_MODEL,
                       "%s \"%s\": access is refused; accept its conditions on its page and set "
                       "HF_TOKEN to a token of that account",
                       kind, repo->id);
    if (a->status == 404 && !strcmp(a->code, "RevisionNotFound"))
        return err_set(err, ERR_MODEL, "%s \"%s\": has no revision \"%s\"", kind, repo->id,
                       repo->revision);
    if (a->status == 404)
        return err_set(err, ERR_MODEL, "%s \"%s\": %s: not found", kind, repo->id, what);
    if (a->status == 429)
        return err_set(err, ERR_REMOTE,
                       "%s \"%s\": too many requests; try again in %.0f s, or set HF_TOKEN", kind,
                       repo->id, a->retry_after_s > 1 ? a->retry_after_s : 60);
    return err_set(err, ERR_REMOTE, "%s \"%s\": %s: the hub answered %ld", kind, repo->id, what,
                   a->status);
}
