/* cache.c - see cache.h. */
#include "host/cache.h"
#include "host/program.h"
#include "io/file.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CACHE = 64 << 20, MAX_HOSTS = 8, KEY = 12 };

typedef struct table {
    const char *name, *schema;
    char *path;   /* FOLDER/NAME-KEY.json; NULL: nothing is kept */
    int found;    /* the file was there, and of this host */
    cJSON *files; /* path -> {size, times, digest, ...} */
    int changed;
} table;

struct scan_cache {
    table described, denied;
    char host[160]; /* the program that scanned: version, ABI, size and time of its file */
};

static void identify_program(char host[160])
{
    struct stat st = {0};
    char *program = program_path();
    if (!program || stat(program, &st) != 0) st.st_size = 0;
    snprintf(host, 160, "sqz %s, ABI %d.%d, %lld bytes of %lld.%09ld", SQZ_VERSION, SQZ_ABI_MAJOR,
             SQZ_ABI_MINOR, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec);
    free(program);
}

/* ---- one file a host --------------------------------------------------------------------------
 */
static int is_of_a_host(const char *file, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(file, name, n) && file[n] == '-' && strlen(file) == n + 1 + KEY + 5 &&
           !strcmp(file + n + 1 + KEY, ".json");
}

/* Of NAME-KEY.json the oldest, when there are more than MAX_HOSTS. */
static char *one_too_many(const char *folder, const char *name)
{
    char *oldest = NULL;
    struct stat st;
    struct timespec when = {0};
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_of_a_host(e->d_name, name) || fstatat(dirfd(d), e->d_name, &st, 0)) continue;
        int older = st.st_mtim.tv_sec < when.tv_sec ||
                    (st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec < when.tv_nsec);
        if (n++ && !older) continue;
        free(oldest);
        oldest = path_format("%s/%s", folder, e->d_name);
        when = st.st_mtim;
    }
    if (d) closedir(d);
    if (n > MAX_HOSTS) return oldest;
    free(oldest);
    return NULL;
}

static char *table_path(const char *folder, const table *t, const char *host)
{
    char key[DIGEST_TEXT];
    sha256_buffer(host, strlen(host), key);
    return path_format("%s/%s-%.*s.json", folder, t->name, KEY, key + strlen("sha256:"));
}

/* The times of the files tell which hosts are in use. */
static void forget_old_hosts(const table *t)
{
    char *folder = path_format("%s", t->path), *slash = strrchr(folder, '/'), *old;
    *slash = 0;
    while ((old = one_too_many(folder, t->name))) {
        int gone = unlink(old) == 0;
        free(old);
        if (!gone) break;
    }
    free(folder);
}

/* ---- reading and writing --------------------------------------------------------------------- */
static void table_load(table *t, const char *host)
{
    json_doc *doc = NULL;
    if (t->path && json_read(t->path, MAX_CACHE, 0, &doc, NULL) == SQZ_OK) {
        const cJSON *root = json_root(doc), *files = json_get(root, "files");
        if (!strcmp(json_str(root, "schema", ""), t->schema) &&
            !strcmp(json_str(root, "host", ""), host) && cJSON_IsObject(files))
            t->files = cJSON_Duplicate(files, 1);
        t->found = t->files != NULL;
        json_free(doc);
    }
    if (!t->files) t->files = cJSON_CreateObject();
}

static void table_save(table *t, const char *host)
{
    if (t->path && t->found && !t->changed) utimensat(AT_FDCWD, t->path, NULL, 0); /* in use */
    if (t->path && t->changed) {
        cJSON *root = cJSON_CreateObject();
        cJSON_AddStringToObject(root, "schema", t->schema);
        cJSON_AddStringToObject(root, "host", host);
        cJSON_AddItemToObject(root, "files", cJSON_Duplicate(t->files, 1));
        char *text = json_text(root, 1);
        if (text) file_write(t->path, text, (int64_t)strlen(text), NULL);
        if (!t->found) forget_old_hosts(t);
        free(text);
        cJSON_Delete(root);
    }
    free(t->path);
    cJSON_Delete(t->files);
}

static char *default_dir(void)
{
    const char *cache = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
    if (cache && *cache == '/') return path_format("%s/sqz", cache);
    if (home && *home == '/') return path_format("%s/.cache/sqz", home);
    return NULL;
}

scan_cache *cache_open(const char *dir)
{
    scan_cache *c = calloc(1, sizeof *c);
    char *folder = dir ? path_format("%s", dir) : default_dir();
    if (!c) memory_failed("the plugin cache");
    c->described = (table){.name = "plugins", .schema = "sqz.plugins/1"};
    c->denied = (table){.name = "denied", .schema = "sqz.denied/1"};
    identify_program(c->host);
    if (folder && dir_make(folder, NULL) == SQZ_OK) {
        c->described.path = table_path(folder, &c->described, c->host);
        c->denied.path = table_path(folder, &c->denied, c->host);
    }
    free(folder);
    table_load(&c->described, c->host);
    table_load(&c->denied, c->host);
    return c;
}

void cache_close(scan_cache *c)
{
    if (!c) return;
    table_save(&c->described, c->host);
    table_save(&c->denied, c->host);
    free(c);
}

/* The entry of the same bytes at the same path; a stale one is removed. */
static cJSON *table_find(table *t, file_identity *id)
{
    cJSON *entry = json_get(t->files, id->path);
    if (!entry) return NULL;
    const char *digest = json_str(entry, "digest", "");
    if (json_int(entry, "size", -1) == id->bytes && digest_valid(digest)) {
        if (!strcmp(json_str(entry, "times", ""), id->times)) {
            strcpy(id->digest, digest);
            return entry;
        }
        if ((*id->digest || sha256_file(id->path, id->digest, NULL) == SQZ_OK) &&
            !strcmp(digest, id->digest)) {
            cJSON_ReplaceItemInObjectCaseSensitive(entry, "times", cJSON_CreateString(id->times));
            t->changed = 1;
            return entry;
        }
    }
    cJSON_DeleteItemFromObjectCaseSensitive(t->files, id->path);
    t->changed = 1;
    return NULL;
}

static cJSON *table_put(table *t, const file_identity *id)
{
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddNumberToObject(entry, "size", (double)id->bytes);
    cJSON_AddStringToObject(entry, "times", id->times);
    cJSON_AddStringToObject(entry, "digest", id->digest);
    cJSON_DeleteItemFromObjectCaseSensitive(t->files, id->path);
    cJSON_AddItemToObject(t->files, id->path, entry);
    t->changed = 1;
    return entry;
}

const char *cache_denied(scan_cache *c, file_identity *id)
{
    cJSON *entry = table_find(&c->denied, id);
    if (!entry || json_bool(entry, "slow", 0)) return NULL;
    return json_str(entry, "why", "no reason is recorded");
}

int cache_was_slow(scan_cache *c, file_identity *id)
{
    return json_bool(table_find(&c->denied, id), "slow", 0);
}

const cJSON *cache_description(scan_cache *c, file_identity *id)
{
    cJSON *entry = table_find(&c->described, id);
    return entry ? json_get(entry, "description") : NULL;
}

void cache_put(scan_cache *c, const file_identity *id, const cJSON *description)
{
    if (json_get(c->denied.files, id->path)) { /* of a scan that was slow */
        cJSON_DeleteItemFromObjectCaseSensitive(c->denied.files, id->path);
        c->denied.changed = 1;
    }
    cJSON_AddItemToObject(table_put(&c->described, id), "description",
                          cJSON_Duplicate(description, 1));
}

void cache_deny(scan_cache *c, const file_identity *id, const char *why, int for_good)
{
    cJSON *entry = table_put(&c->denied, id);
    cJSON_AddStringToObject(entry, "why", why);
    if (!for_good) cJSON_AddTrueToObject(entry, "slow");
}

const char *cache_denied_path(const scan_cache *c)
{
    return c->denied.path ? c->denied.path : "-";
}
