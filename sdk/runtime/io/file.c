/* file.c - files that are whole or absent; see file.h.
 *
 * Reading errors are SQZ_E_IO (the caller knows whether a missing file is a usage or a model
 * error); writing errors are ERR_STORAGE and leave nothing behind. */
#include "io/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading --------------------------------------------------------------------------------- */

static sqz_status read_error(const char *path, sqz_error *err)
{
    return err_set(err, SQZ_E_IO, "%s: cannot be read: %s", path, strerror(errno));
}

/* Reads to the end of fd, which may be a pipe, so the size known beforehand is only a hint. */
static sqz_status read_all(int fd, const char *path, int64_t hint, int64_t max_bytes, char **data,
                           int64_t *bytes, sqz_error *err)
{
    int64_t room = (hint > 0 && hint <= max_bytes ? hint : 4096) + 2, used = 0;
    char *buffer = malloc((size_t)room);
    if (!buffer)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for %lld bytes", path, (long long)room);
    for (;;) {
        if (used > max_bytes) {
            free(buffer);
            return err_set(err, SQZ_E_IO, "%s: larger than the limit of %lld bytes", path,
                           (long long)max_bytes);
        }
        if (used + 1 >= room) {
            char *more = realloc(buffer, (size_t)room * 2);
            if (!more) {
                free(buffer);
                return err_set(err, SQZ_E_NOMEM, "%s: no memory for %lld bytes", path,
                               (long long)room * 2);
            }
            buffer = more;
            room *= 2;
        }
        ssize_t got = read(fd, buffer + used, (size_t)(room - 1 - used));
        if (got == 0) break;
        if (got > 0) {
            used += got;
        } else if (errno != EINTR) {
            sqz_status st = read_error(path, err);
            free(buffer);
            return st;
        }
    }
    buffer[used] = 0;
    *data = buffer;
    *bytes = used;
    return SQZ_OK;
}

enum { PIPE_WAIT_MS = 2000 }; /* for the other end to begin */

sqz_status file_read(const char *path, int64_t max_bytes, char **data, int64_t *bytes,
                     sqz_error *err)
{
    /* opening a pipe that nobody writes to would wait for ever */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return read_error(path, err);
    struct stat info;
    char *text = NULL;
    int64_t n = 0;
    sqz_status st;
    if (fstat(fd, &info) < 0 || fcntl(fd, F_SETFL, 0) < 0)
        st = read_error(path, err);
    else if (S_ISFIFO(info.st_mode) &&
             poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PIPE_WAIT_MS) <= 0)
        st = err_set(err, SQZ_E_IO, "%s: a pipe that nobody writes to", path);
    else if (S_ISREG(info.st_mode) && info.st_size > max_bytes)
        st = err_set(err, SQZ_E_IO, "%s: %lld bytes, more than the limit of %lld", path,
                     (long long)info.st_size, (long long)max_bytes);
    else
        st =
            read_all(fd, path, S_ISREG(info.st_mode) ? info.st_size : 0, max_bytes, &text, &n, err);
    close(fd);
    if (st != SQZ_OK) return st;
    *data = text;
    if (bytes) *bytes = n;
    return SQZ_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

const char *file_room_hint(int failure)
{
    return failure == ENOSPC || failure == EDQUOT ? "; free some space and try again" : "";
}

static sqz_status write_error(const char *path, sqz_error *err)
{
    return err_set(err, ERR_STORAGE, "%s: cannot be written: %s%s", path, strerror(errno),
                   file_room_hint(errno));
}

sqz_status file_pwrite(int fd, const char *path, const void *data, int64_t bytes, int64_t offset,
                       sqz_error *err)
{
    const char *p = data;
    while (bytes > 0) {
        /* Linux writes at most 2 GiB at once anyway. */
        size_t part = bytes > (1 << 30) ? (size_t)1 << 30 : (size_t)bytes;
        ssize_t put = pwrite(fd, p, part, offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return write_error(path, err);
        p += put;
        offset += put;
        bytes -= put;
    }
    return SQZ_OK;
}

/* Folders of some file systems refuse fsync with EINVAL; they order renames themselves. */
sqz_status file_sync_parent(const char *path, sqz_error *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? path_format("%.*s", slash == path ? 1 : (int)(slash - path), path)
                      : path_format(".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || (fsync(fd) < 0 && errno != EINVAL);
    sqz_status st = bad ? write_error(dir, err) : SQZ_OK;
    if (fd >= 0) close(fd);
    free(dir);
    return st;
}

char *file_temp_name(const char *path)
{
    static atomic_uint counter;
    return path_format("%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&counter, 1));
}

/* Ends a file that was written under another name. */
static sqz_status give_name(int fd, sqz_status st, const char *temp, const char *path,
                            sqz_error *err)
{
    if (close(fd) < 0 && st == SQZ_OK) st = write_error(path, err);
    if (st == SQZ_OK && rename(temp, path) < 0) st = write_error(path, err);
    if (st != SQZ_OK) unlink(temp);
    return st;
}

sqz_status file_commit(int fd, const char *temp, const char *path, sqz_error *err)
{
    sqz_status st = fsync(fd) < 0 ? write_error(path, err) : SQZ_OK;
    st = give_name(fd, st, temp, path, err);
    return st == SQZ_OK ? file_sync_parent(path, err) : st;
}

/* The disk begins to write; errors are seen by the fsync that follows one day. */
static void start_writing(int fd)
{
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

sqz_status file_commit_later(int fd, const char *temp, const char *path, sqz_error *err)
{
    start_writing(fd);
    return give_name(fd, SQZ_OK, temp, path, err);
}

sqz_status file_put(const char *path, const void *data, int64_t bytes, sqz_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return write_error(path, err);
    sqz_status st = file_pwrite(fd, path, data, bytes, 0, err);
    start_writing(fd);
    if (close(fd) < 0 && st == SQZ_OK) st = write_error(path, err);
    if (st != SQZ_OK) unlink(path);
    return st;
}

sqz_status dir_sync(const char *path, sqz_error *err)
{
    DIR *d = opendir(path);
    if (!d) return write_error(path, err);
    sqz_status st = SQZ_OK;
    for (struct dirent *e; st == SQZ_OK && (e = readdir(d));) {
        struct stat info;
        if (fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(info.st_mode))
            continue;
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0) st = write_error(e->d_name, err);
        if (fd >= 0) close(fd);
    }
    if (st == SQZ_OK && fsync(dirfd(d)) < 0 && errno != EINVAL) st = write_error(path, err);
    closedir(d);
    return st;
}

sqz_status file_write(const char *path, const void *data, int64_t bytes, sqz_error *err)
{
    char *temp = file_temp_name(path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        sqz_status st = write_error(path, err);
        free(temp);
        return st;
    }
    sqz_status st = file_pwrite(fd, path, data, bytes, 0, err);
    if (st == SQZ_OK) {
        st = file_commit(fd, temp, path, err);
    } else {
        close(fd);
        unlink(temp);
    }
    free(temp);
    return st;
}

sqz_status file_printf(const char *path, sqz_error *err, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its text", path);
    sqz_status st = file_write(path, text, n, err);
    free(text);
    return st;
}

/* ---- mappings -------------------------------------------------------------------------------- */

sqz_status file_map_open(const char *path, file_map *out, sqz_error *err)
{
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would block */
    if (fd < 0) return read_error(path, err);
    struct stat info;
    if (fstat(fd, &info) < 0) {
        sqz_status st = read_error(path, err);
        close(fd);
        return st;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return err_set(err, SQZ_E_IO, "%s: not a regular file", path);
    }
    void *p = NULL;
    if (info.st_size > 0) {
        p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            sqz_status st =
                err_set(err, SQZ_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
            close(fd);
            return st;
        }
    }
    *out = (file_map){p, info.st_size, fd};
    return SQZ_OK;
}

void file_map_close(file_map *map)
{
    if (map->data) {
        munmap((void *)(uintptr_t)map->data, (size_t)map->bytes);
        close(map->fd);
    } else if (map->fd > 0) {
        close(map->fd);
    }
    *map = (file_map){NULL, 0, -1};
}

void file_map_drop(const void *p, int64_t bytes)
{
    if (bytes <= 0) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)p & ~(page - 1);
    uintptr_t end = ((uintptr_t)p + (uintptr_t)bytes + page - 1) & ~(page - 1);
    (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* ---- folders and paths ----------------------------------------------------------------------- */

const char *dir_for_temporary(void)
{
    const char *dir = getenv("TMPDIR");
    return dir && *dir ? dir : "/tmp";
}

sqz_status dir_make_temporary(char **out, sqz_error *err)
{
    *out = path_format("%s/sqz-XXXXXX", dir_for_temporary());
    return mkdtemp(*out) ? SQZ_OK
                         : err_set(err, ERR_STORAGE, "%s: no temporary folder can be made", *out);
}

sqz_status dir_make(const char *path, sqz_error *err)
{
    char *copy = path_format("%s", path);
    sqz_status st = SQZ_OK;
    for (char *p = copy + 1; *copy && st == SQZ_OK; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        int failure = mkdir(copy, 0777) < 0 ? errno : 0; /* path_is_dir changes errno */
        if (failure && !path_is_dir(copy)) {
            if (failure == EEXIST)
                st = err_set(err, ERR_STORAGE, "%s: exists and is not a folder", copy);
            else
                st = err_set(err, ERR_STORAGE, "%s: cannot be created: %s%s", copy,
                             strerror(failure), file_room_hint(failure));
        }
        *p = c;
        if (!c) break;
    }
    free(copy);
    return st;
}

static sqz_status remove_error(const char *path, sqz_error *err)
{
    return err_set(err, ERR_STORAGE, "%s: cannot be removed: %s", path, strerror(errno));
}

/* Empties and removes `name` in the folder parent; `shown` is its path for messages. */
static sqz_status remove_at(int parent, const char *name, const char *shown, sqz_error *err)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return SQZ_OK;
    if (errno != EISDIR && errno != EPERM) return remove_error(shown, err);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        sqz_status st = remove_error(shown, err);
        if (fd >= 0) close(fd);
        return st;
    }
    sqz_status st = SQZ_OK;
    for (struct dirent *e; st == SQZ_OK && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *child = path_format("%s/%s", shown, e->d_name);
        st = remove_at(dirfd(dir), e->d_name, child, err);
        free(child);
    }
    closedir(dir);
    if (st != SQZ_OK) return st;
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return remove_error(shown, err);
    return SQZ_OK;
}

sqz_status dir_remove(const char *path, sqz_error *err)
{
    return remove_at(AT_FDCWD, path, path, err);
}

int path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

int path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *path_format(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) memory_failed("a path");
    return text;
}
