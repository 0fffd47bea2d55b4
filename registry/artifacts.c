/* artifacts.c - manifests, and what the database knows of them: base, steps, lineage, tags.
 *
 * A manifest is an object like any other; the database only makes artifacts findable and keeps
 * them from gc.  Left out: deleting records (an artifact that was recorded stays). */
#include "store.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANIFEST "sqz.artifact/1"

/* ---- manifests ------------------------------------------------------------------------------- */

static sqz_status check_manifest(const registry *r, const cJSON *manifest, sqz_error *err)
{
    const cJSON *tensors = json_get(manifest, "tensors");
    if (strcmp(json_str(manifest, "schema", ""), MANIFEST) != 0)
        return err_set(err, SQZ_E_INVALID, "artifact manifest: schema is not " MANIFEST);
    if (!digest_valid(json_str(manifest, "base", "")))
        return err_set(err, SQZ_E_INVALID, "artifact manifest: base is not a digest");
    if (!cJSON_IsObject(tensors))
        return err_set(err, SQZ_E_INVALID, "artifact manifest: no object 'tensors'");
    digest_set needed = {0};
    digest_set_collect(&needed, tensors);
    sqz_status st = SQZ_OK;
    for (size_t i = 0; i < needed.room && st == SQZ_OK; i++) {
        if (!needed.slots[i][0]) continue;
        char *path = object_path(r, needed.slots[i]);
        if (!path)
            st = err_set(err, ERR_STORAGE,
                         "artifact manifest: object %s is not in the store %s; put it there first",
                         needed.slots[i], r->dir);
        else /* used again: gc must not take it before the artifact is recorded */
            (void)utimensat(AT_FDCWD, path, NULL, 0);
        free(path);
    }
    digest_set_free(&needed);
    return st;
}

sqz_status artifact_put(registry *r, const cJSON *manifest, char digest[DIGEST_TEXT],
                        sqz_error *err)
{
    sqz_status st = check_manifest(r, manifest, err);
    if (st != SQZ_OK) return st;
    char *text = json_canonical(manifest);
    st = object_put(r, text, (int64_t)strlen(text), digest, err);
    free(text);
    return st;
}

cJSON *artifact_manifest(const registry *r, const char *digest, sqz_error *err)
{
    char *text;
    int64_t bytes;
    json_doc *doc;
    if (object_read(r, digest, &text, &bytes, err) != SQZ_OK) return NULL;
    sqz_status st = json_parse(text, bytes, 0, digest, &doc, err);
    free(text);
    if (st != SQZ_OK) return NULL;
    cJSON *manifest = NULL;
    if (!strcmp(json_str(json_root(doc), "schema", ""), MANIFEST))
        manifest = cJSON_Duplicate(json_root(doc), 1);
    else
        err_set(err, SQZ_E_INVALID, "object %s is not an artifact's manifest", digest);
    json_free(doc);
    return manifest;
}

sqz_status artifact_checked(registry *r, const char *digest, sqz_error *err)
{
    const cJSON *t;
    sqz_status st = object_checked(r, digest, err);
    cJSON *manifest = st ? NULL : artifact_manifest(r, digest, err);
    if (!st && !manifest) st = err && err->code ? err->code : ERR_STORAGE;
    cJSON_ArrayForEach(t, json_get(manifest, "tensors")) if (!st) st =
        object_checked(r, json_str(t, "object", ""), err);
    cJSON_Delete(manifest);
    return st;
}

/* ---- database -------------------------------------------------------------------------------- */

/* Runs one statement that returns no rows, with n text parameters (NULL = SQL null). */
static sqz_status run(registry *r, const char *sql, int n, const char *const *text, sqz_error *err)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    sqz_status st = registry_db(r, &db, err);
    if (st != SQZ_OK) return st;
    int ok = sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK;
    for (int i = 0; i < n && ok; i++)
        ok = sqlite3_bind_text(q, i + 1, text[i], -1, SQLITE_TRANSIENT) == SQLITE_OK;
    if (!ok || sqlite3_step(q) != SQLITE_DONE) st = db_error(r, db, "cannot be written", err);
    sqlite3_finalize(q);
    return st;
}

sqz_status artifact_record(registry *r, const artifact_row *row, const char *parent, sqz_error *err)
{
    char bytes[24], created[40];
    if (!digest_valid(row->digest) || !digest_valid(row->base) || (parent && !digest_valid(parent)))
        return err_set(err, SQZ_E_INVALID, "artifact record: digest, base or parent is no digest");
    sqz_status st = object_verify(r, row->digest, err);
    if (st == SQZ_OK) st = run(r, "SAVEPOINT record", 0, NULL, err);
    if (st != SQZ_OK) return st;
    snprintf(bytes, sizeof bytes, "%lld", (long long)row->bytes);
    snprintf(created, sizeof created, "%.6f", row->created);
    const char *values[] = {row->digest,     row->base, row->model, row->label,
                            row->steps_json, row->run,  bytes,      created};
    /* The same artifact can come out of several runs: the first record stays. */
    st = run(r,
             "INSERT INTO artifacts VALUES(?1,?2,?3,?4,?5,?6,CAST(?7 AS INTEGER),"
             "CAST(?8 AS REAL)) ON CONFLICT(digest) DO NOTHING",
             8, values, err);
    const char *edge[] = {row->digest, parent};
    if (st == SQZ_OK && parent)
        st = run(r, "INSERT INTO lineage VALUES(?1,?2) ON CONFLICT DO NOTHING", 2, edge, err);
    if (st == SQZ_OK) st = run(r, "RELEASE record", 0, NULL, err);
    if (st != SQZ_OK) {
        (void)run(r, "ROLLBACK TO record", 0, NULL, NULL);
        (void)run(r, "RELEASE record", 0, NULL, NULL);
    }
    return st;
}

sqz_status artifact_tag(registry *r, const char *tag, const char *digest, sqz_error *err)
{
    size_t n = strlen(tag);
    if (!n || n > 128 || !isalnum((unsigned char)tag[0]) ||
        strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != n ||
        (n == 64 && strspn(tag, "0123456789abcdef") == 64))
        return err_set(
            err, ERR_USAGE,
            "'%.150s' cannot be a tag; use up to 128 letters, digits and ._-/, beginning "
            "with a letter or digit",
            tag);
    char known[DIGEST_TEXT];
    sqz_status st = artifact_resolve(r, digest, known, err);
    if (st != SQZ_OK) return st;
    const char *values[] = {tag, known};
    return run(r,
               "INSERT INTO tags VALUES(?1,?2,(julianday('now')-2440587.5)*86400.0) "
               "ON CONFLICT(tag) DO UPDATE SET digest=excluded.digest,created=excluded.created",
               2, values, err);
}

/* First column of up to two rows; returns how many there are. */
static int lookup(registry *r, const char *sql, const char *value, char digest[DIGEST_TEXT],
                  sqz_status *st, sqz_error *err)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    int rows = 0, code;
    *st = registry_db(r, &db, err);
    if (*st != SQZ_OK) return 0;
    code = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (code == SQLITE_OK) code = sqlite3_bind_text(q, 1, value, -1, SQLITE_TRANSIENT);
    if (code == SQLITE_OK) code = SQLITE_ROW;
    while (code == SQLITE_ROW && rows < 2)
        if ((code = sqlite3_step(q)) == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(q, 0);
            if (text && !rows) snprintf(digest, DIGEST_TEXT, "%s", text);
            rows++;
        }
    if (code != SQLITE_ROW && code != SQLITE_DONE) *st = db_error(r, db, "cannot be read", err);
    sqlite3_finalize(q);
    return rows;
}

sqz_status artifact_resolve(registry *r, const char *name, char digest[DIGEST_TEXT], sqz_error *err)
{
    char found[DIGEST_TEXT] = "", pattern[DIGEST_TEXT + 8];
    sqz_status st;
    int rows = lookup(r, "SELECT digest FROM tags WHERE tag=?1", name, found, &st, err);
    const char *hex = strncmp(name, "sha256:", 7) ? name : name + 7;
    size_t n = strlen(hex);
    if (st == SQZ_OK && !rows && n >= 6 && n <= 64 && strspn(hex, "0123456789abcdef") == n) {
        snprintf(pattern, sizeof pattern, "sha256:%s", hex);
        rows = lookup(r, "SELECT digest FROM artifacts WHERE substr(digest,1,length(?1))=?1",
                      pattern, found, &st, err);
    }
    if (st != SQZ_OK) return st;
    if (rows > 1)
        return err_set(err, ERR_USAGE,
                       "'%s' begins more than one artifact's digest; give more of it", name);
    if (!rows)
        return err_set(err, ERR_USAGE,
                       "no artifact '%.100s' in %s; give a tag, a digest, or at least 6 of its hex "
                       "digits (sqz registry ls shows them)",
                       name, r->dir);
    memcpy(digest, found, DIGEST_TEXT);
    return SQZ_OK;
}

/* ---- listing --------------------------------------------------------------------------------- */

typedef struct listed {
    artifact_row row;
    cJSON *tags;
} listed;

/* NULL for a column without a value; *lost without memory. */
static char *column(sqlite3_stmt *q, int i, int *lost)
{
    const char *text = (const char *)sqlite3_column_text(q, i);
    char *copy = text ? strdup(text) : NULL;
    *lost |= !copy && sqlite3_column_type(q, i) != SQLITE_NULL;
    return copy;
}

/* 0 without memory. */
static int read_row(sqlite3_stmt *q, listed *l)
{
    int lost = 0;
    artifact_row *row = &l->row;
    snprintf(row->digest, sizeof row->digest, "%s", (const char *)sqlite3_column_text(q, 0));
    snprintf(row->base, sizeof row->base, "%s", (const char *)sqlite3_column_text(q, 1));
    row->model = column(q, 2, &lost);
    row->label = column(q, 3, &lost);
    row->steps_json = column(q, 4, &lost);
    row->run = column(q, 5, &lost);
    row->bytes = sqlite3_column_int64(q, 6);
    row->created = sqlite3_column_double(q, 7);
    /* tags come joined by newlines, which no tag contains */
    char *tags = column(q, 8, &lost), *rest = tags;
    l->tags = cJSON_CreateArray();
    for (char *tag; rest && (tag = strsep(&rest, "\n"));)
        cJSON_AddItemToArray(l->tags, cJSON_CreateString(tag));
    free(tags);
    return !lost;
}

static void free_listed(listed *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        free(list[i].row.model);
        free(list[i].row.label);
        free(list[i].row.steps_json);
        free(list[i].row.run);
        cJSON_Delete(list[i].tags);
    }
    free(list);
}

/* Everything is read before fn is called, so that fn may use the registry. */
sqz_status artifact_list(registry *r, int (*fn)(void *, const artifact_row *, cJSON *tags),
                         void *ctx, sqz_error *err)
{
    static const char sql[] =
        "SELECT digest,base,model,label,steps,run,bytes,created,"
        "(SELECT group_concat(tag,char(10)) FROM (SELECT tag FROM tags WHERE tags.digest="
        "artifacts.digest ORDER BY tag)) FROM artifacts ORDER BY created DESC, digest";
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    sqz_status st = registry_db(r, &db, err);
    if (st != SQZ_OK) return st;
    listed *list = NULL;
    int64_t n = 0, room = 0;
    int code = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (code == SQLITE_OK) code = SQLITE_ROW;
    while (code == SQLITE_ROW && (code = sqlite3_step(q)) == SQLITE_ROW) {
        if (n == room) {
            listed *more = realloc(list, (size_t)(room = room * 2 + 64) * sizeof *more);
            if (!more) break;
            list = more;
        }
        if (!read_row(q, &list[n++])) break;
    }
    if (code == SQLITE_ROW)
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory to list it", r->dir);
    else if (code != SQLITE_DONE)
        st = db_error(r, db, "cannot be read", err);
    sqlite3_finalize(q);
    for (int64_t i = 0; st == SQZ_OK && i < n; i++)
        if (fn(ctx, &list[i].row, list[i].tags)) break;
    free_listed(list, n);
    return st;
}

/* ---- lineage --------------------------------------------------------------------------------- */

sqz_status artifact_parents(registry *r, const char *digest, cJSON **parents, sqz_error *err)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    sqz_status st = registry_db(r, &db, err);
    if (st != SQZ_OK) return st;
    cJSON *list = cJSON_CreateArray();
    int code = sqlite3_prepare_v2(db, "SELECT parent FROM lineage WHERE child=?1 ORDER BY parent",
                                  -1, &q, NULL);
    if (code == SQLITE_OK) code = sqlite3_bind_text(q, 1, digest, -1, SQLITE_TRANSIENT);
    if (code == SQLITE_OK) code = SQLITE_ROW;
    while (code == SQLITE_ROW && (code = sqlite3_step(q)) == SQLITE_ROW)
        cJSON_AddItemToArray(list, cJSON_CreateString((const char *)sqlite3_column_text(q, 0)));
    if (code != SQLITE_DONE) st = db_error(r, db, "cannot be read", err);
    sqlite3_finalize(q);
    if (st == SQZ_OK)
        *parents = list;
    else
        cJSON_Delete(list);
    return st;
}
