/* disk.h - is there room on the disk for what is about to be written?
 *
 * Asked before a step starts, so that hours of work do not end at a full disk. */
#ifndef SQZ_RUNTIME_DISK_H
#define SQZ_RUNTIME_DISK_H
#include "error/error.h"

/* Bytes that this user may still write below path (of its nearest existing parent); -1 = unknown. */
int64_t disk_free(const char *path);
/* "5.1 GB", "820 MB", "3.6 MB", "1024 bytes" */
void disk_amount(double bytes, char out[32]);
/* NULL when `need` bytes fit into `free_bytes` (-1 = unknown: they fit) with a little to spare,
 * else "WHAT needs about 5.1 GB in PATH, 3.0 GB are free; REMEDY"; malloc'd. */
char *disk_refusal(const char *what, double need, const char *path, int64_t free_bytes,
                   const char *remedy);
/* The two together; ERR_STORAGE with that sentence. */
sqz_status disk_check(const char *what, double need, const char *path, const char *remedy,
                      sqz_error *err);
#endif
