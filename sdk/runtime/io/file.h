/* file.h - files that are whole or absent: read whole, map, write-fsync-rename, folders. */
#ifndef SQZ_RUNTIME_FILE_H
#define SQZ_RUNTIME_FILE_H
#include "error/error.h"
#include <stdio.h>

/* Whole file into a malloc'd, zero-terminated buffer.  Fails above max_bytes. */
sqz_status file_read(const char *path, int64_t max_bytes, char **data, int64_t *bytes,
                     sqz_error *err);
/* Write to <path>.tmp.<pid>.<n>, fsync, rename, fsync the folder.  ENOSPC and friends: ERR_STORAGE,
 * and nothing half-written is left. */
sqz_status file_write(const char *path, const void *data, int64_t bytes, sqz_error *err);
__attribute__((format(printf, 3, 4))) sqz_status file_printf(const char *path, sqz_error *err,
                                                             const char *fmt, ...);

/* For a folder that nobody looks into before it is whole: like file_write, but on its way to the
 * disk only; dir_sync waits until all files of the folder, and the folder, are there. */
sqz_status file_put(const char *path, const void *data, int64_t bytes, sqz_error *err);
sqz_status dir_sync(const char *path, sqz_error *err);

/* The parts of file_write, for streaming writers: a temporary name beside path (malloc'd), a full
 * pwrite, and fsync + close + rename + fsync of the folder (on failure the temporary is removed).
 */
char *file_temp_name(const char *path);
sqz_status file_pwrite(int fd, const char *path, const void *data, int64_t bytes, int64_t offset,
                       sqz_error *err);
sqz_status file_commit(int fd, const char *temp, const char *path, sqz_error *err);
/* The same with what file_put promises. */
sqz_status file_commit_later(int fd, const char *temp, const char *path, sqz_error *err);
sqz_status file_sync_parent(const char *path, sqz_error *err);

/* A private read-only mapping of a regular file. */
typedef struct file_map {
    const uint8_t *data;
    int64_t bytes;
    int fd;
} file_map;
sqz_status file_map_open(const char *path, file_map *out, sqz_error *err);
void file_map_close(file_map *);
/* Tell the kernel that the pages under [p, p + bytes) are not needed now, so that they leave this
 * process's resident memory; reading them again works. */
void file_map_drop(const void *p, int64_t bytes);

/* "; free some space and try again" after ENOSPC and EDQUOT, else "". */
const char *file_room_hint(int error_number);

sqz_status dir_make(const char *path, sqz_error *err); /* with parents */
/* $TMPDIR, else /tmp. */
const char *dir_for_temporary(void);
/* A new empty folder there; *out is malloc'd. */
sqz_status dir_make_temporary(char **out, sqz_error *err);
sqz_status dir_remove(const char *path,
                      sqz_error *err); /* recursively; absent is fine; never follows links */
int path_exists(const char *path);
int path_is_dir(const char *path);
/* printf into a malloc'd string; never NULL (memory_failed). */
__attribute__((format(printf, 1, 2))) char *path_format(const char *fmt, ...);
#endif
