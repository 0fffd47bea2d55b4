/* disk.c - see disk.h. */
#include "io/disk.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* The journal and the reports must still fit beside what a step writes. */
static const double SPARE_BYTES = 16e6;

int64_t disk_free(const char *path)
{
    struct statvfs v;
    int64_t bytes;
    char *at = path_format("%s", path && *path ? path : ".");
    while (statvfs(at, &v) != 0) {
        char *slash = strrchr(at, '/');
        if (!slash || !strcmp(at, "/") || !strcmp(at, ".")) {
            int hopeless = !strcmp(at, "/") || !strcmp(at, ".");
            free(at);
            if (hopeless) return -1;
            at = path_format(".");
            continue;
        }
        slash[slash == at] = 0;
    }
    free(at);
    if (__builtin_mul_overflow((int64_t)v.f_bavail, (int64_t)v.f_frsize, &bytes)) return -1;
    return bytes;
}

/* "5.1 GB", "820 MB" */
void disk_amount(double bytes, char out[32])
{
    if (bytes >= 1e9)
        snprintf(out, 32, "%.1f GB", bytes / 1e9);
    else if (bytes >= 1e7)
        snprintf(out, 32, "%.0f MB", bytes / 1e6);
    else if (bytes >= 1e5)
        snprintf(out, 32, "%.1f MB", bytes / 1e6);
    else
        snprintf(out, 32, "%.0f bytes", bytes);
}

char *disk_refusal(const char *what, double need, const char *path, int64_t free_bytes,
                   const char *remedy)
{
    char wanted[32], have[32];
    if (free_bytes < 0 || !(need > 0) || need + SPARE_BYTES <= (double)free_bytes) return NULL;
    disk_amount(need, wanted);
    disk_amount((double)free_bytes, have);
    return path_format("%s needs about %s in %s, %s are free%s; %s", what, wanted, path, have,
                       need <= (double)free_bytes ? " and 16 MB are kept spare" : "", remedy);
}

sqz_status disk_check(const char *what, double need, const char *path, const char *remedy,
                      sqz_error *err)
{
    char *why = disk_refusal(what, need, path, disk_free(path), remedy);
    sqz_status s = why ? err_set(err, ERR_STORAGE, "%s", why) : SQZ_OK;
    free(why);
    return s;
}
