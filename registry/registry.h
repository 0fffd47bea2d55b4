/* registry.h - the artifact registry: a content-addressed store, SQLite metadata, and the journal.
 *
 *   <dir>/objects/sha256/ab/cdef...   immutable files (0444), named by their SHA-256
 *   <dir>/actions/ab/<key>.json       results by action key (never the only copy of anything)
 *   <dir>/registry.db                 artifacts with their run, lineage, tags (SQLite, WAL)
 *   <dir>/tmp/                        unfinished files; swept by gc
 * Written by write-fsync-rename.  Objects and actions may be written by several processes at once;
 * the database is written by the coordinator or a one-step command.
 * An artifact's manifest is itself an object: {"schema":"sqz.artifact/1","base":digest,
 * "tensors":{module:{"form","object":digest,...}},"runtime":{}}. */
#ifndef SQZ_REGISTRY_H
#define SQZ_REGISTRY_H
#include "error/error.h"
#include "hash/sha256.h"
#include "json/json.h"
#include <sys/types.h>

typedef struct registry registry;

/* $SQZ_REGISTRY, else $XDG_DATA_HOME/sqz/registry, else ~/.local/share/sqz/registry; malloc'd. */
char *registry_default_dir(void);
sqz_status registry_open(const char *dir, registry **out, sqz_error *err);
/* Is its database usable by this version?  Otherwise it is only opened when first needed. */
sqz_status registry_check(registry *, sqz_error *err);
void registry_close(registry *);
const char *registry_dir(const registry *);

/* ---- objects --------------------------------------------------------------------------------- */
sqz_status object_put(registry *, const void *data, int64_t bytes, char digest[DIGEST_TEXT],
                      sqz_error *err);
/* Moves the finished file `path` (on any file system) into the store; it is hashed while it is
 * copied, or once where it can be renamed.  Storing bytes again repairs a corrupt object. */
sqz_status object_adopt(registry *, const char *path, char digest[DIGEST_TEXT], sqz_error *err);
/* A path for a new temporary file in the store's own file system; malloc'd. */
char *object_temp(registry *);
/* Removes what a process of this machine that was killed left unfinished in the store of `dir`. */
void object_forget(const char *dir, pid_t pid);
/* Path of a present object, or NULL; malloc'd. */
char *object_path(const registry *, const char *digest);
/* Re-hash; ERR_STORAGE naming the object when it is corrupt or absent. */
sqz_status object_verify(const registry *, const char *digest, sqz_error *err);
/* The same before the first use, and at once for what this handle wrote or has hashed. */
sqz_status object_checked(registry *, const char *digest, sqz_error *err);
sqz_status object_read(const registry *, const char *digest, char **data, int64_t *bytes,
                       sqz_error *err); /* verified */

/* ---- actions: work done once ----------------------------------------------------------------- */
/* key: 64 hex digits, sha256 of the canonical JSON of everything the result depends on. */
void action_key(const cJSON *inputs, char key[SHA256_HEX]);
cJSON *action_get(const registry *,
                  const char *key); /* NULL when absent or damaged; caller frees */
sqz_status action_put(registry *, const char *key, const cJSON *result, sqz_error *err);

/* ---- artifacts ------------------------------------------------------------------------------- */
typedef struct artifact_row {
    char digest[DIGEST_TEXT], base[DIGEST_TEXT];
    char *model, *label, *steps_json, *run; /* owned by the row */
    int64_t bytes;
    double created; /* unix seconds */
} artifact_row;
sqz_status artifact_put(registry *, const cJSON *manifest, char digest[DIGEST_TEXT],
                        sqz_error *err); /* manifest as object; checks that its objects exist */
cJSON *artifact_manifest(const registry *, const char *digest, sqz_error *err);
/* Is everything of the artifact there and of the bytes that were recorded?  ERR_STORAGE names what
 * is not; objects that this handle wrote or has hashed are not hashed again. */
sqz_status artifact_checked(registry *, const char *digest, sqz_error *err);
sqz_status artifact_record(registry *, const artifact_row *, const char *parent /* or NULL */,
                           sqz_error *err);
sqz_status artifact_tag(registry *, const char *tag, const char *digest, sqz_error *err);
/* digest, unique digest prefix (>= 6 hex), or tag. */
sqz_status artifact_resolve(registry *, const char *name, char digest[DIGEST_TEXT], sqz_error *err);
/* Digests of the artifacts it was made from (an array of strings; caller frees). */
sqz_status artifact_parents(registry *, const char *digest, cJSON **parents, sqz_error *err);
/* Every artifact, newest first; fn returns non-zero to stop. */
sqz_status artifact_list(registry *, int (*fn)(void *, const artifact_row *, cJSON *tags),
                         void *ctx, sqz_error *err);

/* ---- house keeping --------------------------------------------------------------------------- */
typedef struct registry_report {
    int64_t objects, bytes, bad, missing, removed, removed_bytes;
    cJSON *problems; /* array of sentences; caller frees */
} registry_report;
/* Re-hash every object, check every manifest's references and the database. */
sqz_status registry_verify(registry *, registry_report *, sqz_error *err);
/* Remove what nobody used for grace_s seconds: temporary files, actions, and objects that neither a
 * recorded artifact nor a younger action refers to.  Writers may work meanwhile.  dry_run: only
 * count. */
sqz_status registry_gc(registry *, double grace_s, int dry_run, registry_report *, sqz_error *err);
#endif
