/* house.c - verify and gc.
 *
 * gc runs beside writers, which create an object before they record the reference.  Three things
 * keep live objects: the grace; storing an object again refreshes its time; and deleting in two
 * steps - rename into trash/, look at its time and mark again, and only then unlink.  A writer that
 * touched the file before the rename is seen by its time; one that comes after finds no file and
 * writes it anew. */
#include "store.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { MAX_MANIFEST = 64 << 20 };

__attribute__((format(printf, 2, 3))) static void problem(registry_report *report, const char *fmt,
                                                          ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cJSON_AddItemToArray(report->problems, cJSON_CreateString(text));
}

/* ---- verify ---------------------------------------------------------------------------------- */

typedef struct checking {
    registry *r;
    registry_report *report;
    sqz_error *err;
    sqz_status st;
} checking;

static int check_object(void *arg, const char *path, const char *digest, const struct stat *info)
{
    checking *c = arg;
    sqz_error why;
    if (!*digest) {
        problem(c->report, "%s: not an object; something else put it there", path);
        return 0;
    }
    c->report->objects++;
    c->report->bytes += info->st_size;
    if (object_check(path, digest, &why) != SQZ_OK) {
        c->report->bad++;
        problem(c->report, "%s", why.text);
    }
    return 0;
}

/* References of one artifact; corrupt objects were already counted, so only absence matters here.
 */
static int check_artifact(void *arg, const artifact_row *row, cJSON *tags)
{
    checking *c = arg;
    sqz_error why;
    (void)tags;
    cJSON *manifest = artifact_manifest(c->r, row->digest, &why);
    if (!manifest) {
        char *path = object_path(c->r, row->digest);
        if (!path) c->report->missing++;
        free(path);
        problem(c->report, "artifact %s: %s", row->digest, why.text);
        return 0;
    }
    digest_set needed = {0};
    digest_set_collect(&needed, json_get(manifest, "tensors"));
    for (size_t i = 0; i < needed.room; i++) {
        if (!needed.slots[i][0]) continue;
        char *path = object_path(c->r, needed.slots[i]);
        if (!path) {
            c->report->missing++;
            problem(c->report, "artifact %s: object %s is missing", row->digest, needed.slots[i]);
        }
        free(path);
    }
    digest_set_free(&needed);
    cJSON_Delete(manifest);
    return 0;
}

static sqz_status check_database(checking *c)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;
    sqz_error why;
    if (registry_db(c->r, &db, &why) != SQZ_OK) {
        c->report->bad++;
        problem(c->report, "%s", why.text);
        return SQZ_OK;
    }
    int code = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &q, NULL);
    if (code == SQLITE_OK) code = SQLITE_ROW;
    while (code == SQLITE_ROW && (code = sqlite3_step(q)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(q, 0);
        if (text && !strcmp(text, "ok")) continue;
        c->report->bad++;
        problem(c->report, "%s/registry.db: %s", c->r->dir, text ? text : "damaged");
    }
    sqlite3_finalize(q);
    if (code != SQLITE_DONE) {
        db_error(c->r, db, "cannot be checked", &why);
        c->report->bad++;
        problem(c->report, "%s", why.text);
        return SQZ_OK;
    }
    if (artifact_list(c->r, check_artifact, c, &why) != SQZ_OK) {
        c->report->bad++;
        problem(c->report, "%s", why.text);
    }
    return SQZ_OK;
}

sqz_status registry_verify(registry *r, registry_report *report, sqz_error *err)
{
    *report = (registry_report){.problems = cJSON_CreateArray()};
    checking c = {.r = r, .report = report, .err = err};
    sqz_status st = object_each(r, check_object, &c, err);
    if (st == SQZ_OK) st = check_database(&c);
    if (st != SQZ_OK) {
        cJSON_Delete(report->problems);
        report->problems = NULL;
    }
    return st;
}

/* ---- gc: marking ----------------------------------------------------------------------------- */

typedef struct sweep {
    registry *r;
    registry_report *report;
    digest_set live;
    double oldest; /* unix seconds: what was used before may go */
    int dry_run;
    sqz_error *err;
    sqz_status st;
} sweep;

static double used_at(const struct stat *info)
{
    return (double)info->st_mtim.tv_sec + 1e-9 * (double)info->st_mtim.tv_nsec;
}

static int is_old(const sweep *s, const struct stat *info)
{
    return used_at(info) <= s->oldest;
}

static char *trash_path(const registry *r, const char *digest)
{
    return path_format("%s/trash/%s", r->dir, digest + 7);
}

/* *text of the object, wherever it is now, when it may be a JSON object of ours; else NULL.  Fails
 * when it is there and cannot be read: what it refers to would be taken for garbage. */
static sqz_status json_object(const sweep *s, const char *digest, char **text, int64_t *bytes)
{
    struct stat info;
    char first = 0, *path = object_location(s->r, digest);
    sqz_status st = SQZ_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *text = NULL;
    if (fd < 0 && errno == ENOENT) {
        free(path);
        path = trash_path(s->r, digest);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    int missing = fd < 0 && errno == ENOENT;
    if (!missing && (fd < 0 || fstat(fd, &info) < 0 || pread(fd, &first, 1, 0) < 0))
        st = err_set(s->err, ERR_STORAGE, "%s: cannot be read: %s", path, strerror(errno));
    else if (!missing && info.st_size <= MAX_MANIFEST && first == '{')
        st = file_read(path, MAX_MANIFEST, text, bytes, s->err);
    if (fd >= 0) close(fd);
    free(path);
    return st;
}

/* Marks what a JSON object of ours (a manifest, say) refers to; others have no references. */
static sqz_status mark_content(sweep *s, const char *digest, digest_set *next)
{
    int64_t bytes;
    json_doc *doc;
    char *text;
    sqz_error damaged = {0};
    sqz_status st = json_object(s, digest, &text, &bytes);
    if (st || !text) return st;
    st = json_parse(text, bytes, 0, digest, &doc, &damaged);
    if (!st) {
        digest_set_collect(next, json_root(doc));
        json_free(doc);
    }
    free(text);
    return st == SQZ_E_NOMEM ? err_set(s->err, st, "%s", damaged.text) : SQZ_OK;
}

/* Adds the roots and all they reach to live. */
static sqz_status mark_from(sweep *s, digest_set *roots)
{
    sqz_status st = SQZ_OK;
    while (roots->n) {
        digest_set next = {0};
        for (size_t i = 0; i < roots->room && !st; i++)
            if (roots->slots[i][0] && digest_set_add(&s->live, roots->slots[i]))
                st = mark_content(s, roots->slots[i], &next);
        digest_set_free(roots);
        *roots = next;
        if (st) break;
    }
    digest_set_free(roots);
    return st;
}

typedef struct marking {
    sweep *s;
    digest_set roots;
    sqz_status st;
} marking;

static int mark_artifact(void *arg, const artifact_row *row, cJSON *tags)
{
    (void)tags;
    digest_set_add(&((marking *)arg)->roots, row->digest);
    return 0;
}

static int mark_action(void *arg, const char *path, const char *name, const struct stat *info)
{
    marking *m = arg;
    char key[SHA256_HEX];
    if (is_old(m->s, info)) return 0;
    snprintf(key, sizeof key, "%.64s", name);
    cJSON *result = NULL;
    m->st = action_load(path, key, &result, m->s->err);
    if (m->st && !path_exists(path)) m->st = SQZ_OK; /* gone meanwhile */
    if (result) digest_set_collect(&m->roots, result);
    cJSON_Delete(result);
    return m->st != SQZ_OK;
}

static int mark_actions(void *arg, const char *path, const char *name, const struct stat *info)
{
    marking *m = arg;
    (void)name;
    sqz_status st = S_ISDIR(info->st_mode) ? file_each(path, mark_action, m, m->s->err) : SQZ_OK;
    if (st) m->st = st;
    return m->st != SQZ_OK;
}

static sqz_status mark_all(sweep *s)
{
    marking m = {.s = s};
    char *actions = path_format("%s/actions", s->r->dir);
    sqz_status st = artifact_list(s->r, mark_artifact, &m, s->err);
    if (st == SQZ_OK) st = file_each(actions, mark_actions, &m, s->err);
    if (st == SQZ_OK) st = m.st;
    if (st == SQZ_OK) st = mark_from(s, &m.roots);
    digest_set_free(&m.roots);
    free(actions);
    return st;
}

/* ---- gc: sweeping ---------------------------------------------------------------------------- */

static int sweep_object(void *arg, const char *path, const char *digest, const struct stat *info)
{
    sweep *s = arg;
    if (!*digest) return 0;
    s->report->objects++;
    s->report->bytes += info->st_size;
    if (!is_old(s, info) || digest_set_has(&s->live, digest)) return 0;
    if (s->dry_run) {
        s->report->removed++;
        s->report->removed_bytes += info->st_size;
        return 0;
    }
    char *trash = trash_path(s->r, digest);
    if (rename(path, trash) < 0 && errno != ENOENT)
        s->st = err_set(s->err, ERR_STORAGE, "%s: cannot be removed: %s", path, strerror(errno));
    free(trash);
    return s->st != SQZ_OK;
}

/* Second look at one file of trash/: back to its place when somebody wanted it meanwhile. */
static int empty_trash(void *arg, const char *path, const char *name, const struct stat *info)
{
    sweep *s = arg;
    char digest[DIGEST_TEXT + 8];
    snprintf(digest, sizeof digest, "sha256:%.70s", name);
    if (!digest_valid(digest)) return 0;
    if (!is_old(s, info) || digest_set_has(&s->live, digest)) {
        char *home = object_location(s->r, digest);
        if (link(path, home) < 0 && errno != EEXIST)
            s->st =
                err_set(s->err, ERR_STORAGE, "%s: cannot be put back: %s", path, strerror(errno));
        else
            unlink(path);
        free(home);
    } else if (unlink(path) == 0) {
        s->report->removed++;
        s->report->removed_bytes += info->st_size;
    }
    return s->st != SQZ_OK;
}

static int sweep_file(void *arg, const char *path, const char *name, const struct stat *info)
{
    sweep *s = arg;
    (void)name;
    if (!S_ISREG(info->st_mode) || !is_old(s, info)) return 0;
    if (s->dry_run || unlink(path) == 0) {
        s->report->removed++;
        s->report->removed_bytes += info->st_size;
    }
    return 0;
}

/* Beside the database lie remembered digests; only what a kill left unfinished goes. */
static int sweep_unfinished(void *arg, const char *path, const char *name, const struct stat *info)
{
    return strstr(name, ".tmp.") ? sweep_file(arg, path, name, info) : 0;
}

static int sweep_actions(void *arg, const char *path, const char *name, const struct stat *info)
{
    sweep *s = arg;
    (void)name;
    if (S_ISDIR(info->st_mode)) s->st = file_each(path, sweep_file, s, s->err);
    return s->st != SQZ_OK;
}

static sqz_status sweep_all(sweep *s)
{
    char *trash = path_format("%s/trash", s->r->dir), *tmp = path_format("%s/tmp", s->r->dir);
    char *actions = path_format("%s/actions", s->r->dir);
    sqz_status st = s->dry_run ? SQZ_OK : dir_make(trash, s->err);
    if (st == SQZ_OK) st = mark_all(s);
    if (st == SQZ_OK) st = object_each(s->r, sweep_object, s, s->err);
    if (st == SQZ_OK) st = s->st;
    if (!s->dry_run) { /* also what an interrupted gc left; on an error everything goes back */
        if (st != SQZ_OK) s->oldest = 0;
        sqz_status second = mark_all(s);
        if (second != SQZ_OK) s->oldest = 0;
        s->st = SQZ_OK;
        (void)file_each(trash, empty_trash, s, s->err);
        if (st == SQZ_OK) st = second != SQZ_OK ? second : s->st;
    }
    if (st == SQZ_OK) st = file_each(tmp, sweep_file, s, s->err);
    if (st == SQZ_OK) st = file_each(s->r->dir, sweep_unfinished, s, s->err);
    if (st == SQZ_OK) st = file_each(actions, sweep_actions, s, s->err);
    free(actions);
    free(tmp);
    free(trash);
    return st != SQZ_OK ? st : s->st;
}

sqz_status registry_gc(registry *r, double grace_s, int dry_run, registry_report *report,
                       sqz_error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *report = (registry_report){.problems = cJSON_CreateArray()};
    sweep s = {.r = r, .report = report, .dry_run = dry_run, .err = err};
    s.oldest = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - (grace_s > 0 ? grace_s : 0);
    char *path = path_format("%s/gc.lock", r->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    sqz_status st;
    if (fd < 0)
        st = err_set(err, ERR_STORAGE, "%s: cannot be opened: %s", path, strerror(errno));
    else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        st = err_set(err, ERR_CONFLICT, "%s: another gc is running", r->dir);
    else
        st = sweep_all(&s);
    if (fd >= 0) close(fd);
    free(path);
    digest_set_free(&s.live);
    if (st != SQZ_OK) {
        cJSON_Delete(report->problems);
        report->problems = NULL;
    }
    return st;
}
