/* cache.h - what earlier scans found, so that a plugin file is opened once and not at every start.
 *
 * plugins-KEY.json holds descriptions, denied-KEY.json the files whose scan crashed, hung twice, or
 * took too long once, which may be the machine's fault.  Entries are keyed by path and size, then
 * times or, when those differ, SHA-256.  KEY is of the program that scanned, its version, size and
 * time: another build scans for itself, and builds used in turn do not drop each other's answers;
 * those of the last eight are kept.  Losing them costs a scan, so trouble in writing them is not
 * reported. */
#ifndef SQZ_CORE_HOST_CACHE_H
#define SQZ_CORE_HOST_CACHE_H
#include "error/error.h"
#include "hash/sha256.h"
#include "json/json.h"

typedef struct scan_cache scan_cache;

typedef struct file_identity {
    const char *path;  /* absolute, borrowed */
    int64_t bytes;
    char times[72];    /* "mtime ctime", each seconds.nanoseconds (JSON numbers would be rounded);
                          packages may fix the mtime, but nobody replaces a file without a new ctime */
    char digest[DIGEST_TEXT]; /* "" until known */
} file_identity;

/* dir NULL: $XDG_CACHE_HOME/sqz or ~/.cache/sqz.  Never fails; without a folder nothing is kept. */
scan_cache *cache_open(const char *dir);
/* Writes what changed and frees. */
void cache_close(scan_cache *);
/* Why the file is denied, or NULL.  Fills id->digest when it had to be read. */
const char *cache_denied(scan_cache *, file_identity *id);
/* The description of the unchanged file, or NULL; id->digest is then filled.  Borrowed. */
const cJSON *cache_description(scan_cache *, file_identity *id);
void cache_put(scan_cache *, const file_identity *, const cJSON *description);
/* for_good 0: a scan that took too long; the file is opened once more. */
void cache_deny(scan_cache *, const file_identity *, const char *why, int for_good);
/* Did an earlier scan of the file take too long? */
int cache_was_slow(scan_cache *, file_identity *id);
const char *cache_denied_path(const scan_cache *); /* where the deny list is kept, for messages */
#endif
