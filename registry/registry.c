/* registry.c - opening a registry: its folders, its database. */
#include "store.h"
#include "io/file.h"
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCHEMA = 1, BUSY_MS = 20000 };

char *registry_default_dir(void)
{
    const char *dir = getenv("SQZ_REGISTRY");
    if (dir && *dir) return path_format("%s", dir);
    dir = getenv("XDG_DATA_HOME");
    if (dir && *dir == '/') return path_format("%s/sqz/registry", dir);
    dir = getenv("HOME");
    if (!dir || !*dir) {
        const struct passwd *user = getpwuid(geteuid());
        dir = user ? user->pw_dir : "/var/tmp";
    }
    return path_format("%s/.local/share/sqz/registry", dir);
}

static sqz_status make_folders(const char *dir, sqz_error *err)
{
    static const char *const folders[] = {"objects/sha256", "actions", "tmp"};
    sqz_status st = SQZ_OK;
    for (int i = 0; i < 3 && st == SQZ_OK; i++) {
        char *path = path_format("%s/%s", dir, folders[i]);
        st = dir_make(path, err);
        if (st == SQZ_OK && access(path, W_OK | X_OK) < 0)
            st = err_set(err, ERR_STORAGE,
                         "%s: no permission to write; choose another registry with SQZ_REGISTRY",
                         path);
        free(path);
    }
    return st;
}

sqz_status registry_open(const char *dir, registry **out, sqz_error *err)
{
    sqz_status st = make_folders(dir, err);
    if (st != SQZ_OK) return st;
    registry *r = calloc(1, sizeof *r);
    if (!r) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", dir);
    r->dir = path_format("%s", dir);
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return SQZ_OK;
}

void registry_close(registry *r)
{
    if (!r) return;
    sqlite3_close(r->db);
    digest_set_free(&r->known);
    pthread_mutex_destroy(&r->lock);
    free(r->dir);
    free(r);
}

const char *registry_dir(const registry *r)
{
    return r->dir;
}

/* ---- database -------------------------------------------------------------------------------- */

sqz_status db_error(const registry *r, sqlite3 *db, const char *doing, sqz_error *err)
{
    int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
    /* A full disk is also "disk I/O error" (the file for shared memory) or "unable to open" (the
     * write-ahead log): the system's number says so. */
    int number = db && (code == SQLITE_IOERR || code == SQLITE_CANTOPEN || code == SQLITE_FULL)
                     ? sqlite3_system_errno(db)
                     : 0;
    if (number == ENOSPC || number == EDQUOT)
        return err_set(err, ERR_STORAGE, "%s/registry.db: %s: %s%s", r->dir, doing,
                       strerror(number), file_room_hint(number));
    const char *remedy = code == SQLITE_BUSY   ? "; another process holds it, try again"
                         : code == SQLITE_FULL ? "; free some space and try again"
                         : code == SQLITE_CORRUPT || code == SQLITE_NOTADB
                             ? "; move the file away, objects and actions stay usable"
                             : "";
    return err_set(err, ERR_STORAGE, "%s/registry.db: %s: %s%s", r->dir, doing,
                   db ? sqlite3_errmsg(db) : "no memory", remedy);
}

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS artifacts(digest TEXT PRIMARY KEY, base TEXT NOT NULL,"
    " model TEXT, label TEXT, steps TEXT, run TEXT, bytes INTEGER NOT NULL,"
    " created REAL NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS lineage(child TEXT NOT NULL REFERENCES artifacts(digest),"
    " parent TEXT NOT NULL, PRIMARY KEY(child, parent)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tags(tag TEXT PRIMARY KEY,"
    " digest TEXT NOT NULL REFERENCES artifacts(digest), created REAL NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS artifacts_created ON artifacts(created);"
    "CREATE INDEX IF NOT EXISTS tags_digest ON tags(digest);"
    "PRAGMA user_version=1;"
    "COMMIT;";

static int schema_version(sqlite3 *db)
{
    sqlite3_stmt *q;
    int version = -1;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK) return -1;
    if (sqlite3_step(q) == SQLITE_ROW) version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return version;
}

static sqz_status prepare_db(const registry *r, sqlite3 *db, sqz_error *err)
{
    sqlite3_busy_timeout(db, BUSY_MS);
    int version = schema_version(db);
    if (version > SCHEMA)
        return err_set(err, ERR_STORAGE,
                       "%s/registry.db: made by a newer sqz (schema %d, this one knows %d); update "
                       "sqz or choose another registry with SQZ_REGISTRY",
                       r->dir, version, SCHEMA);
    if (version < 0 || sqlite3_exec(db,
                                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                    "PRAGMA foreign_keys=ON;",
                                    NULL, NULL, NULL) != SQLITE_OK)
        return db_error(r, db, "cannot be opened", err);
    if (version < SCHEMA && sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return db_error(r, db, "its tables cannot be made", err);
    return SQZ_OK;
}

sqz_status registry_db(registry *r, sqlite3 **db, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    pthread_mutex_lock(&r->lock);
    if (!r->db) {
        char *path = path_format("%s/registry.db", r->dir);
        sqlite3 *fresh = NULL;
        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
        if (sqlite3_open_v2(path, &fresh, flags, NULL) != SQLITE_OK)
            st = db_error(r, fresh, "cannot be opened", err);
        else
            st = prepare_db(r, fresh, err);
        if (st == SQZ_OK)
            r->db = fresh;
        else
            sqlite3_close(fresh);
        free(path);
    }
    *db = r->db;
    pthread_mutex_unlock(&r->lock);
    return st;
}

sqz_status registry_check(registry *r, sqz_error *err)
{
    sqlite3 *db;
    return registry_db(r, &db, err);
}
