/* download.c - one file of a repository into the cache.
 *
 * A HEAD tells its hash, size and where it lies.  The bytes go to blobs/HASH.sqz.incomplete, which
 * a later process continues, and get the name HASH when they have that hash.  A lock, the one that
 * huggingface_hub takes, lets one process at a time work on a file. */
#include "hub/parts.h"
#include "io/disk.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct job {
    const hub_place *place;
    const hub_repo *repo;
    const char *commit;
    const hub_file *file;
    const hub_hooks *hooks;
    double done_before, done_total;
    char *url, *incomplete, *blob;
    char etag[HUB_HEX];
    int64_t size;
    char *location;
    sqz_error *err;
} job;

/* ---- addresses ------------------------------------------------------------------------------- */

static void add_quoted(char **out, const char *text, const char *keep)
{
    for (; *text; text++) {
        int plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                    (*text >= '0' && *text <= '9') || strchr("-_.~", *text) || strchr(keep, *text);
        char *more = plain ? path_format("%s%c", *out, *text)
                           : path_format("%s%%%02X", *out, (unsigned char)*text);
        free(*out);
        *out = more;
    }
}

static char *file_url(const job *j)
{
    char *url = path_format("%s/%s%s/resolve/", j->place->endpoint,
                            j->repo->dataset ? "datasets/" : "", j->repo->id);
    add_quoted(&url, j->commit, "");
    char *with_slash = path_format("%s/", url);
    free(url);
    add_quoted(&with_slash, j->file->path, "/");
    return with_slash;
}

/* ---- the hash -------------------------------------------------------------------------------- */

/* 64 digits: SHA-256 of the content; 40: git's blob id, SHA-1 of a header and the content. */
static int hash_is(const job *j, int fd, int64_t size)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1] = "", header[64];
    int64_t at = 0;
    ssize_t got = 0;
    char *buffer = malloc(1 << 20);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    int is_sha256 = strlen(j->etag) == 64;
    int ok = buffer && c && EVP_DigestInit_ex(c, is_sha256 ? EVP_sha256() : EVP_sha1(), NULL);
    if (ok && !is_sha256) {
        int length = snprintf(header, sizeof header, "blob %lld", (long long)size) + 1;
        ok = EVP_DigestUpdate(c, header, (size_t)length);
    }
    while (ok && at < size && (got = pread(fd, buffer, 1 << 20, at)) > 0) {
        ok = EVP_DigestUpdate(c, buffer, (size_t)got);
        at += got;
    }
    ok = ok && at == size && EVP_DigestFinal_ex(c, digest, &n);
    for (unsigned int i = 0; ok && i < n; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(c);
    free(buffer);
    return ok && !strcmp(text, j->etag);
}

/* ---- the bytes ------------------------------------------------------------------------------- */

static int64_t file_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? -1 : (int64_t)st.st_size;
}

/* One GET from where the file ends; SQZ_OK: worth looking at, ERR_REMOTE: worth trying again. */
static sqz_status fetch_rest(job *j, int fd, double *retry_after_s)
{
    int64_t have = file_size(fd);
    if (have > j->size && ftruncate(fd, 0) == 0) have = 0;
    if (have == j->size && have > 0) return SQZ_OK;
    hub_answer a = {.size = -1};
    hub_request r = {.place = j->place,
                     .hooks = j->hooks,
                     .url = j->location ? j->location : j->url,
                     .max_bytes = j->size,
                     .fd = fd,
                     .resume_at = have,
                     .done_before = j->done_before,
                     .done_total = j->done_total,
                     .what = j->file->path};
    sqz_status s = hub_exchange(&r, &a, j->err);
    *retry_after_s = a.retry_after_s;
    if (!s && a.status == 416 && ftruncate(fd, 0) == 0) {
        s = err_set(j->err, ERR_REMOTE, "%s: the rest of the file was refused", j->file->path);
    } else if (!s && a.status != 200 && a.status != 206) {
        int busy = a.status == 429 || (a.status >= 500 && a.status <= 504);
        s = hub_refused(j->repo, &a, j->file->path, j->err);
        if (busy && a.retry_after_s <= 300) s = ERR_REMOTE;
    } else if (!s && file_size(fd) < j->size) {
        s = err_set(j->err, ERR_REMOTE, "%s: the connection ended at %lld of %lld bytes",
                    j->file->path, (long long)file_size(fd), (long long)j->size);
    }
    hub_answer_free(&a);
    return s;
}

/* Tries again while it helps: five times without a new byte are the end. */
static sqz_status fetch_all(job *j, int fd)
{
    double retry_after_s = 0;
    for (int attempt = 0; attempt < HUB_ATTEMPTS; attempt++) {
        int64_t before = file_size(fd);
        sqz_status s = fetch_rest(j, fd, &retry_after_s);
        if (s != ERR_REMOTE) return s;
        if (file_size(fd) > before) attempt = -1;
        if (attempt + 1 == HUB_ATTEMPTS) return s;
        if (hub_wait(j->hooks, attempt < 0 ? 0 : attempt, retry_after_s, j->file->path))
            return err_set(j->err, SQZ_E_CANCELLED, "interrupted");
    }
    return ERR_REMOTE;
}

static sqz_status fetch_blob(job *j)
{
    int fd = open(j->incomplete, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return err_set(j->err, ERR_STORAGE, "%s: cannot be written: %s", j->incomplete,
                       strerror(errno));
    sqz_status s = SQZ_OK;
    for (int again = 0; again < 2; again++) {
        s = fetch_all(j, fd);
        if (s) break;
        if (file_size(fd) == j->size && hash_is(j, fd, j->size)) {
            s = file_commit(fd, j->incomplete, j->blob, j->err);
            return s;
        }
        s = err_set(j->err, ERR_STORAGE,
                    "%s of \"%s\": the downloaded bytes have not the announced hash; nothing was "
                    "kept",
                    j->file->path, j->repo->id);
        if (ftruncate(fd, 0)) break;
    }
    if (s == ERR_STORAGE) unlink(j->incomplete);
    close(fd);
    return s;
}

/* ---- the file -------------------------------------------------------------------------------- */

static sqz_status ask_head(job *j)
{
    hub_answer a = {.size = -1};
    hub_request r = {.place = j->place,
                     .hooks = j->hooks,
                     .url = j->url,
                     .head = 1,
                     .fd = -1,
                     .done_before = j->done_before,
                     .done_total = j->done_total,
                     .what = j->file->path};
    sqz_status s = hub_exchange(&r, &a, j->err);
    int fine = !s && ((a.status >= 200 && a.status < 300) || (a.status < 400 && a.location));
    if (!s && !fine) s = hub_refused(j->repo, &a, j->file->path, j->err);
    if (!s && (!a.etag[0] || a.size < 0 || (a.commit[0] && strcmp(a.commit, j->commit) != 0)))
        s = err_set(j->err, ERR_REMOTE,
                    "%s of \"%s\": the server tells no hash, size or commit; is HF_ENDPOINT a hub?",
                    j->file->path, j->repo->id);
    if (!s && j->file->size >= 0 && a.size != j->file->size)
        s = err_set(j->err, ERR_REMOTE, "%s of \"%s\": listed with %lld bytes, offered with %lld",
                    j->file->path, j->repo->id, (long long)j->file->size, (long long)a.size);
    if (!s) {
        memcpy(j->etag, a.etag, sizeof j->etag);
        j->size = a.size;
        j->location = a.location;
        a.location = NULL;
    }
    hub_answer_free(&a);
    return s;
}

/* Waits for another process that downloads the same file. */
static sqz_status lock_file(const job *j, int *fd)
{
    char *path = path_format("%s/%s.lock", j->place->locks, j->etag);
    sqz_status s = dir_make(j->place->locks, j->err);
    *fd = s ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (!s && *fd < 0)
        s = err_set(j->err, ERR_STORAGE, "%s: cannot be opened: %s", path, strerror(errno));
    while (!s && flock(*fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            s = err_set(j->err, ERR_STORAGE, "%s: cannot be locked: %s", path, strerror(errno));
        else if (hub_wait(j->hooks, 0, 0.2, "waiting for another download"))
            s = err_set(j->err, SQZ_E_CANCELLED, "interrupted");
    }
    free(path);
    return s;
}

static sqz_status get(job *j)
{
    int lock = -1;
    char *blobs = path_format("%s/blobs", j->place->folder);
    j->url = file_url(j);
    sqz_status s = ask_head(j);
    if (!s) s = dir_make(blobs, j->err);
    if (!s) {
        j->blob = path_format("%s/%s", blobs, j->etag);
        j->incomplete = path_format("%s.sqz.incomplete", j->blob);
        s = lock_file(j, &lock);
    }
    if (!s && !path_exists(j->blob)) {
        s = disk_check("the download", (double)j->size, blobs,
                       "free some space, or set HF_HOME to a larger disk", j->err);
        if (!s) s = fetch_blob(j);
    }
    if (!s) s = hub_link(j->place, j->commit, j->file->path, j->etag, j->err);
    if (lock >= 0) close(lock);
    free(j->url);
    free(j->blob);
    free(j->incomplete);
    free(j->location);
    free(blobs);
    return s;
}

sqz_status hub_file_get(const hub_place *p, const hub_repo *repo, const char *commit,
                        const hub_file *file, const hub_hooks *hooks, double done_before,
                        double done_total, sqz_error *err)
{
    sqz_error own = {0};
    job j = {.place = p,
             .repo = repo,
             .commit = commit,
             .file = file,
             .hooks = hooks,
             .done_before = done_before,
             .done_total = done_total,
             .err = err ? err : &own};
    return get(&j);
}
