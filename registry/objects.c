/* objects.c - the content-addressed store: immutable files named by their SHA-256.
 *
 * A new object is a finished, synced, read-only file in tmp/ that gets its name by link(), so that
 * a name never shows half an object and two writers of the same bytes cannot harm each other.
 * When the name is taken, the file behind it is hashed: a good one gets a fresh time (so that gc
 * spares it), a corrupt one is replaced.  Storing something again therefore heals it.
 * Left out: compression and chunking (weights do not compress; matrices are shared whole). */
#include "store.h"
#include "io/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };
#define MAX_READ ((int64_t)1 << 40)

static sqz_status storage(const char *path, const char *what, sqz_error *err)
{
    return err_set(err, ERR_STORAGE, "%s: %s: %s%s", path, what, strerror(errno),
                   file_room_hint(errno));
}

char *object_location(const registry *r, const char *digest)
{
    return path_format("%s/objects/sha256/%.2s/%s", r->dir, digest + 7, digest + 9);
}

char *object_temp(registry *r)
{
    static atomic_uint counter;
    return path_format("%s/tmp/%ld.%u", r->dir, (long)getpid(), atomic_fetch_add(&counter, 1));
}

static int forget(void *arg, const char *path, const char *name, const struct stat *info)
{
    const char *of = arg;
    if (S_ISREG(info->st_mode) && !strncmp(name, of, strlen(of))) unlink(path);
    return 0;
}

void object_forget(const char *dir, pid_t pid)
{
    char of[24], *tmp = path_format("%s/tmp", dir);
    snprintf(of, sizeof of, "%ld.", (long)pid);
    (void)file_each(tmp, forget, of, NULL);
    free(tmp);
}

char *object_path(const registry *r, const char *digest)
{
    if (!digest_valid(digest)) return NULL;
    char *path = object_location(r, digest);
    struct stat info; /* a link is no object: what it points to can change */
    if (lstat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, R_OK) == 0) return path;
    free(path);
    return NULL;
}

sqz_status object_check(const char *path, const char *digest, sqz_error *err)
{
    char actual[DIGEST_TEXT];
    sqz_status st = sha256_file(path, actual, err);
    if (st != SQZ_OK) {
        if (err) err->code = ERR_STORAGE;
        return ERR_STORAGE;
    }
    if (!strcmp(actual, digest)) return SQZ_OK;
    return err_set(err, ERR_STORAGE,
                   "object %s is corrupt: its bytes hash to %s; delete %s and make it again",
                   digest, actual, path);
}

static void know(registry *r, const char *digest)
{
    pthread_mutex_lock(&r->lock);
    digest_set_add(&r->known, digest);
    pthread_mutex_unlock(&r->lock);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Gives the finished file `temp` (same file system, synced) its name and removes the old one. */
static sqz_status publish(const registry *r, const char *temp, const char *digest, sqz_error *err)
{
    char *path = object_location(r, digest), *folder = path_format("%s", path);
    *strrchr(folder, '/') = 0;
    sqz_status st = SQZ_OK;
    if (mkdir(folder, 0777) < 0 && errno != EEXIST)
        st = storage(folder, "cannot be created", err);
    else if (chmod(temp, 0444) < 0)
        st = storage(temp, "cannot be made read-only", err);
    else if (link(temp, path) == 0)
        st = file_sync_parent(path, err);
    else if (errno != EEXIST)
        st = storage(path, "cannot be created", err);
    /* touch first: from here on a running gc spares it */
    else if (utimensat(AT_FDCWD, path, NULL, 0) < 0 || object_check(path, digest, NULL) != SQZ_OK)
        st = rename(temp, path) < 0 ? storage(path, "cannot be replaced", err)
                                    : file_sync_parent(path, err);
    unlink(temp);
    free(folder);
    free(path);
    return st;
}

static sqz_status write_temp(const char *temp, const void *data, int64_t bytes, sqz_error *err)
{
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return storage(temp, "cannot be created", err);
    sqz_status st = file_pwrite(fd, temp, data, bytes, 0, err);
    if (st == SQZ_OK && fsync(fd) < 0) st = storage(temp, "cannot be written", err);
    close(fd);
    if (st != SQZ_OK) unlink(temp);
    return st;
}

sqz_status object_put(registry *r, const void *data, int64_t bytes, char digest[DIGEST_TEXT],
                      sqz_error *err)
{
    char name[DIGEST_TEXT];
    sha256_buffer(data, (size_t)bytes, name);
    char *path = object_location(r, name), *temp = object_temp(r);
    sqz_status st = SQZ_OK;
    if (utimensat(AT_FDCWD, path, NULL, 0) < 0 || object_check(path, name, NULL) != SQZ_OK) {
        st = write_temp(temp, data, bytes, err);
        if (st == SQZ_OK) st = publish(r, temp, name, err);
    }
    free(temp);
    free(path);
    if (st != SQZ_OK) return st;
    know(r, name);
    memcpy(digest, name, DIGEST_TEXT);
    return SQZ_OK;
}

/* Hashes what it copies. */
static sqz_status copy_hashed(int from, int to, const char *path, char digest[DIGEST_TEXT],
                              sqz_error *err)
{
    char *buffer = malloc(COPY_BYTES);
    if (!buffer) return err_set(err, SQZ_E_NOMEM, "%s: no memory to copy it", path);
    sha256 *h = sha256_new();
    sqz_status st = SQZ_OK;
    for (int64_t at = 0; st == SQZ_OK;) {
        ssize_t got = read(from, buffer, COPY_BYTES);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = storage(path, "cannot be read", err);
        } else {
            sha256_update(h, buffer, (size_t)got);
            st = file_pwrite(to, path, buffer, got, at, err);
            at += got;
        }
    }
    if (st == SQZ_OK && fsync(to) < 0) st = storage(path, "cannot be copied into the store", err);
    sha256_final(h, digest);
    free(buffer);
    return st;
}

static sqz_status adopt_copy(registry *r, int from, const char *path, char digest[DIGEST_TEXT],
                             sqz_error *err)
{
    char *temp = object_temp(r);
    int to = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    sqz_status st =
        to < 0 ? storage(temp, "cannot be created", err) : copy_hashed(from, to, path, digest, err);
    if (to >= 0) close(to);
    if (st == SQZ_OK)
        st = publish(r, temp, digest, err);
    else
        unlink(temp);
    free(temp);
    return st;
}

/* The file itself becomes the object: read once for its hash, never copied. */
static sqz_status adopt_move(registry *r, int fd, const char *path, char digest[DIGEST_TEXT],
                             sqz_error *err)
{
    char *temp = object_temp(r);
    sqz_status st = SQZ_OK;
    if (fsync(fd) < 0)
        st = storage(path, "cannot be written", err);
    else if (rename(path, temp) < 0)
        st = storage(path, "cannot be moved into the store", err);
    if (st == SQZ_OK) {
        st = sha256_file(temp, digest, err);
        if (st == SQZ_OK)
            st = publish(r, temp, digest, err);
        else
            unlink(temp);
    }
    free(temp);
    return st;
}

sqz_status object_adopt(registry *r, const char *path, char digest[DIGEST_TEXT], sqz_error *err)
{
    struct stat info, home;
    char name[DIGEST_TEXT], *tmp = path_format("%s/tmp", r->dir);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), known = stat(tmp, &home) == 0;
    free(tmp);
    if (fd < 0 || fstat(fd, &info) < 0 || !known) {
        sqz_status st = storage(path, "cannot be read", err);
        if (fd >= 0) close(fd);
        return st;
    }
    sqz_status st;
    if (!S_ISREG(info.st_mode))
        st = err_set(err, SQZ_E_INVALID, "%s: not a regular file", path);
    else if (info.st_dev == home.st_dev && info.st_nlink == 1 && info.st_uid == geteuid())
        st = adopt_move(r, fd, path, name, err);
    else { /* elsewhere, or somebody else could still write it */
        st = adopt_copy(r, fd, path, name, err);
        if (st == SQZ_OK) unlink(path);
    }
    close(fd);
    if (st != SQZ_OK) return st;
    know(r, name);
    memcpy(digest, name, DIGEST_TEXT);
    return SQZ_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static sqz_status locate(const registry *r, const char *digest, char **path, sqz_error *err)
{
    if (!digest_valid(digest))
        return err_set(err, SQZ_E_INVALID, "'%.80s' is not a digest (sha256: and 64 hex digits)",
                       digest ? digest : "");
    *path = object_path(r, digest);
    if (*path) return SQZ_OK;
    return err_set(err, ERR_STORAGE, "object %s is not in the store %s", digest, r->dir);
}

sqz_status object_verify(const registry *r, const char *digest, sqz_error *err)
{
    char *path;
    sqz_status st = locate(r, digest, &path, err);
    if (st != SQZ_OK) return st;
    st = object_check(path, digest, err);
    free(path);
    return st;
}

sqz_status object_checked(registry *r, const char *digest, sqz_error *err)
{
    pthread_mutex_lock(&r->lock);
    int known = digest_set_has(&r->known, digest);
    pthread_mutex_unlock(&r->lock);
    if (known) return SQZ_OK;
    sqz_status st = object_verify(r, digest, err);
    if (st == SQZ_OK) know(r, digest);
    return st;
}

sqz_status object_read(const registry *r, const char *digest, char **data, int64_t *bytes,
                       sqz_error *err)
{
    char *path, *text, actual[DIGEST_TEXT];
    int64_t n;
    sqz_status st = locate(r, digest, &path, err);
    if (st != SQZ_OK) return st;
    st = file_read(path, MAX_READ, &text, &n, err);
    if (st == SQZ_OK) {
        sha256_buffer(text, (size_t)n, actual);
        if (strcmp(actual, digest) != 0) {
            st = err_set(err, ERR_STORAGE,
                         "object %s is corrupt: its bytes hash to %s; delete %s and make it again",
                         digest, actual, path);
            free(text);
        }
    }
    free(path);
    if (st != SQZ_OK) return st;
    *data = text;
    if (bytes) *bytes = n;
    return SQZ_OK;
}

/* ---- walking --------------------------------------------------------------------------------- */

sqz_status file_each(const char *dir,
                     int (*fn)(void *, const char *path, const char *name, const struct stat *),
                     void *ctx, sqz_error *err)
{
    DIR *d = opendir(dir);
    if (!d) return errno == ENOENT ? SQZ_OK : storage(dir, "cannot be listed", err);
    int stop = 0;
    for (struct dirent *e; !stop && (e = readdir(d));) {
        struct stat info;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        /* a file that went away meanwhile is no news */
        if (fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) continue;
        char *path = path_format("%s/%s", dir, e->d_name);
        stop = fn(ctx, path, e->d_name, &info);
        free(path);
    }
    closedir(d);
    return SQZ_OK;
}

typedef struct object_walk {
    int (*fn)(void *, const char *, const char *, const struct stat *);
    void *ctx;
    const char *fold; /* the two digits of the folder */
    sqz_error *err;
    sqz_status st;
    int stop;
} object_walk;

static int visit_object(void *arg, const char *path, const char *name, const struct stat *info)
{
    object_walk *w = arg;
    char digest[DIGEST_TEXT + 8];
    snprintf(digest, sizeof digest, "sha256:%.2s%.70s", w->fold, name);
    if (!S_ISREG(info->st_mode) || !digest_valid(digest)) *digest = 0;
    return w->stop = w->fn(w->ctx, path, digest, info);
}

static int visit_fold(void *arg, const char *path, const char *name, const struct stat *info)
{
    object_walk *w = arg;
    if (!S_ISDIR(info->st_mode)) return w->stop = w->fn(w->ctx, path, "", info);
    w->fold = name;
    w->st = file_each(path, visit_object, w, w->err);
    return w->stop || w->st != SQZ_OK;
}

sqz_status object_each(const registry *r,
                       int (*fn)(void *, const char *path, const char *digest, const struct stat *),
                       void *ctx, sqz_error *err)
{
    char *dir = path_format("%s/objects/sha256", r->dir);
    object_walk w = {.fn = fn, .ctx = ctx, .err = err};
    sqz_status st = file_each(dir, visit_fold, &w, err);
    free(dir);
    return st != SQZ_OK ? st : w.st;
}
