/* store.h - what the registry's own files share; nobody else includes it. */
#ifndef SQZ_REGISTRY_STORE_H
#define SQZ_REGISTRY_STORE_H
#include "registry.h"
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

/* ---- a set of digests ------------------------------------------------------------------------ */
typedef struct digest_set {
    char (*slots)[DIGEST_TEXT]; /* [room]; "" = free */
    size_t n, room;             /* room is a power of two */
} digest_set;
int digest_set_add(digest_set *, const char *digest); /* 1 when it was not in yet */
int digest_set_has(const digest_set *, const char *digest);
void digest_set_free(digest_set *);
/* Adds every string of the tree that is a digest. */
void digest_set_collect(digest_set *, const cJSON *);

/* ---- the registry ---------------------------------------------------------------------------- */
struct registry {
    char *dir;
    pthread_mutex_t lock; /* around opening the database, and around `known` */
    sqlite3 *db;          /* opened when first used: most workers only need objects */
    digest_set known;     /* objects that this handle wrote or hashed */
};

/* The open database. */
sqz_status registry_db(registry *, sqlite3 **db, sqz_error *err);
/* Describes the last failure of db. */
sqz_status db_error(const registry *, sqlite3 *db, const char *doing, sqz_error *err);

/* ---- files ----------------------------------------------------------------------------------- */
char *object_location(const registry *, const char *digest); /* whether or not it is there */
/* Calls fn for every entry of objects/sha256/xx/.  digest is "" when the name is not one. */
sqz_status object_each(const registry *,
                       int (*fn)(void *, const char *path, const char *digest, const struct stat *),
                       void *ctx, sqz_error *err);
/* Calls fn for every file below dir, not recursively; an absent dir has none. */
sqz_status file_each(const char *dir,
                     int (*fn)(void *, const char *path, const char *name, const struct stat *),
                     void *ctx, sqz_error *err);
/* Digest of the file's bytes equals digest? */
sqz_status object_check(const char *path, const char *digest, sqz_error *err);
/* *out: the payload of an action's file when it is intact and carries this key, else NULL.  Fails when
 * the file cannot be read. */
sqz_status action_load(const char *path, const char *key, cJSON **out, sqz_error *err);
#endif
