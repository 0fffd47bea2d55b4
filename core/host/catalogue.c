/* catalogue.c - every plugin on the search path, described; see host.h.
 *
 * Opening the catalogue runs no plugin code in this process.  A file goes through: permissions,
 * deny list, cache, ELF stamp, scan in a child; the first that refuses it gives the reason that
 * `sqz plugin list` shows.  Left out: loading (load.c). */
#include "host/cache.h"
#include "host/host.h"
#include "host/program.h"
#include "host/scan.h"
#include "host/stamp.h"
#include "io/file.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct problem {
    char *file, *why;
} problem;

typedef struct agent_list {
    agent_info **at;
    int n, room;
} agent_list;

struct catalogue {
    agent_list agents;
    agent_list excluded; /* by allow or deny: known only for messages */
    char **rules;        /* [excluded.n] which of them, and why */
    int rule_room;
    problem *problems;
    int n_problems, problem_room;
    char **seen; /* real paths of folders and files already looked at */
    int n_seen, seen_room;
    scan_cache *cache;
    const catalogue_options *options;
};

/* ---- small containers
 * ------------------------------------------------------------------------------- */
static void *grow(void *array, int n, int *room, size_t size)
{
    if (n < *room) return array;
    *room = *room ? 2 * *room : 16;
    array = realloc(array, (size_t)*room * size);
    if (!array) memory_failed("the catalogue");
    return array;
}

static void list_add(agent_list *list, agent_info *a)
{
    list->at = grow(list->at, list->n, &list->room, sizeof *list->at);
    list->at[list->n++] = a;
}

static void add_problem(catalogue *c, const char *file, const char *why)
{
    c->problems = grow(c->problems, c->n_problems, &c->problem_room, sizeof *c->problems);
    c->problems[c->n_problems++] = (problem){path_format("%s", file), path_format("%s", why)};
}

/* 1 when the path was not there before. */
static int mark_seen(catalogue *c, const char *path)
{
    for (int i = 0; i < c->n_seen; i++)
        if (!strcmp(c->seen[i], path)) return 0;
    c->seen = grow(c->seen, c->n_seen, &c->seen_room, sizeof *c->seen);
    c->seen[c->n_seen++] = path_format("%s", path);
    return 1;
}

static const char *short_name(const char *id)
{
    const char *dot = strrchr(id, '.');
    return dot ? dot + 1 : id;
}

/* ---- agents of one description
 * ---------------------------------------------------------------------- */
static void agent_free(agent_info *a)
{
    if (!a) return;
    free(a->id);
    free(a->kind);
    free(a->name);
    free(a->summary);
    free(a->version);
    free(a->license);
    free(a->file);
    free(a->shadowed_by);
    cJSON_Delete(a->params);
    cJSON_Delete(a->extensions);
    cJSON_Delete(a->tags);
    free(a);
}

/* NULL when a field is missing, as a cache edited by hand could have it. */
static agent_info *agent_read(const cJSON *json, const file_identity *file)
{
    const cJSON *params = json_get(json, "params"), *extensions = json_get(json, "extensions");
    const char *id = json_str(json, "id", NULL), *kind = json_str(json, "kind", NULL);
    if (!id || !kind || !cJSON_IsArray(params) || !cJSON_IsObject(extensions)) return NULL;
    agent_info *a = calloc(1, sizeof *a);
    if (!a) memory_failed("the catalogue"); /* NULL says that the description is wrong */
    a->id = path_format("%s", id);
    a->kind = path_format("%s", kind);
    a->name = path_format("%s", json_str(json, "name", id));
    a->summary = path_format("%s", json_str(json, "summary", ""));
    a->version = path_format("%s", json_str(json, "version", ""));
    a->license = path_format("%s", json_str(json, "license", ""));
    a->file = path_format("%s", file->path);
    a->rank = (int)json_int(json, "rank", 0);
    a->params = cJSON_Duplicate(params, 1);
    a->extensions = cJSON_Duplicate(extensions, 1);
    a->tags = cJSON_Duplicate(json_get(json, "tags"), 1);
    memcpy(a->file_digest, file->digest, sizeof a->file_digest);
    return a;
}

/* The entry that names the agent, or NULL. */
static const char *named(const agent_info *a, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], a->id) || !strcmp(names[i], short_name(a->id))) return names[i];
    return NULL;
}

static void exclude(catalogue *c, agent_info *a, const char *denied)
{
    c->rules = grow(c->rules, c->excluded.n, &c->rule_room, sizeof *c->rules);
    c->rules[c->excluded.n] =
        denied ? path_format("plugins.deny names \"%s\"", denied)
               : path_format("plugins.allow is set (%d named) and does not name it",
                             c->options->n_allow);
    list_add(&c->excluded, a);
}

static void take_agent(catalogue *c, agent_info *a)
{
    const catalogue_options *o = c->options;
    const char *denied = named(a, o->deny, o->n_deny);
    if (denied || (o->n_allow > 0 && !named(a, o->allow, o->n_allow))) {
        exclude(c, a, denied);
        return;
    }
    for (int i = 0; i < c->agents.n && !a->shadowed; i++)
        if (!strcmp(c->agents.at[i]->id, a->id)) {
            a->shadowed = 1;
            a->shadowed_by = path_format("%s", c->agents.at[i]->file);
        }
    list_add(&c->agents, a);
}

/* Takes all agents or none; 0 when the description is malformed. */
static int take_description(catalogue *c, const cJSON *description, const file_identity *file)
{
    const cJSON *item, *list = json_get(description, "agents");
    agent_list read = {0};
    int ok = cJSON_IsArray(list);
    cJSON_ArrayForEach(item, list)
    {
        agent_info *a = ok ? agent_read(item, file) : NULL;
        if (a)
            list_add(&read, a);
        else
            ok = 0;
    }
    for (int i = 0; i < read.n; i++) {
        if (ok)
            take_agent(c, read.at[i]);
        else
            agent_free(read.at[i]);
    }
    free(read.at);
    return ok;
}

/* ---- one file
 * ----------------------------------------------------------------------------------------- */
static sqz_status identify(const char *path, file_identity *id, sqz_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0) return err_set(err, ERR_PLUGIN, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(err, ERR_PLUGIN, "%s: is no regular file", path);
    /* Anyone on the machine could change what will run with this user's rights. */
    if (st.st_mode & S_IWOTH)
        return err_set(err, ERR_PLUGIN, "%s: is writable by everyone; run chmod o-w on it", path);
    *id = (file_identity){.path = path, .bytes = st.st_size};
    snprintf(id->times, sizeof id->times, "%lld.%09ld %lld.%09ld", (long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    return SQZ_OK;
}

/* Describes the file by a child process and remembers the answer. */
static sqz_status scan(catalogue *c, file_identity *id, sqz_error *err)
{
    plugin_stamp stamp;
    cJSON *description = NULL;
    scan_fault fault = SCAN_REFUSED;
    double timeout = c->options->scan_timeout_s > 0 ? c->options->scan_timeout_s : 10;
    int again = cache_was_slow(c->cache, id);
    if (again) timeout *= 2;
    sqz_status status = stamp_read(id->path, &stamp, err);
    if (!status) status = stamp_accept(&stamp, id->path, err);
    if (!status && !*id->digest) status = sha256_file(id->path, id->digest, err);
    if (!status) status = scan_file(id->path, timeout, &description, &fault, err);
    if (status) {
        if (fault != SCAN_REFUSED)
            cache_deny(c->cache, id, err->text, fault == SCAN_CRASHED || again);
        return status;
    }
    cache_put(c->cache, id, description);
    if (!take_description(c, description, id))
        status = err_set(err, ERR_PLUGIN, "%s: its description is incomplete", id->path);
    cJSON_Delete(description);
    return status;
}

static void look_at_file(catalogue *c, const char *path)
{
    sqz_error err = {0};
    file_identity id;
    sqz_status status = identify(path, &id, &err);
    if (!status) {
        const char *denied = cache_denied(c->cache, &id);
        if (denied) {
            char *why =
                path_format("%s; not opened again until the file or sqz changes (listed in %s)",
                            denied, cache_denied_path(c->cache));
            add_problem(c, path, why);
            free(why);
            return;
        }
        const cJSON *known = cache_description(c->cache, &id);
        if (known && take_description(c, known, &id)) return;
        status = scan(c, &id, &err);
    }
    if (status == SQZ_E_NOMEM) memory_failed("the catalogue"); /* not the file's fault */
    if (status) add_problem(c, path, err.text);
}

/* ---- folders
 * -------------------------------------------------------------------------------------------- */
static int is_plugin_name(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && n > 3 && !strcmp(e->d_name + n - 3, ".so");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort: it depends on the locale */
}

/* A folder of plugins or a single file.  ERR_USAGE when it is not there. */
static sqz_status look_at(catalogue *c, const char *path, sqz_error *err)
{
    struct dirent **names = NULL;
    char *real = realpath(path, NULL);
    if (!real) return err_set(err, ERR_USAGE, "plugin path %s: %s", path, strerror(errno));
    if (mark_seen(c, real)) {
        if (path_is_dir(real)) {
            int n = scandir(real, &names, is_plugin_name, by_name);
            if (n < 0 && errno == ENOMEM) memory_failed("the catalogue");
            if (n < 0) add_problem(c, real, strerror(errno));
            for (int i = 0; i < n; i++) {
                char *file = path_format("%s/%s", real, names[i]->d_name);
                char *target = realpath(file, NULL);
                if (!target)
                    add_problem(c, file, strerror(errno));
                else if (mark_seen(c, target))
                    look_at_file(c, target);
                free(target);
                free(file);
                free(names[i]);
            }
            free(names);
        } else {
            look_at_file(c, real);
        }
    }
    free(real);
    return SQZ_OK;
}

/* Entries of $SQZ_PLUGIN_PATH.  An empty or relative one would mean the working directory. */
static void look_at_environment(catalogue *c)
{
    const char *list = secure_getenv("SQZ_PLUGIN_PATH");
    while (list && *list) {
        size_t n = strcspn(list, ":");
        char *entry = path_format("%.*s", (int)n, list);
        if (*entry == '/')
            look_at(c, entry, NULL);
        else if (*entry)
            add_problem(c, entry,
                        "entry of SQZ_PLUGIN_PATH is no absolute path; it is not searched");
        free(entry);
        list += n + (list[n] == ':');
    }
}

static void look_at_standard_places(catalogue *c)
{
    char *program = program_path();
    char *slash = program ? strrchr(program, '/') : NULL;
    if (slash) {
        *slash = 0;
        char *beside = path_format("%s/../lib/sqz/plugins", program);
        look_at(c, beside, NULL);
        free(beside);
    }
    free(program);
    look_at_environment(c);
    const char *data = secure_getenv("XDG_DATA_HOME"), *home = secure_getenv("HOME");
    char *own = NULL;
    if (data && *data == '/')
        own = path_format("%s/sqz/plugins", data);
    else if (home && *home == '/')
        own = path_format("%s/.local/share/sqz/plugins", home);
    if (own) look_at(c, own, NULL);
    free(own);
}

sqz_status catalogue_open(const catalogue_options *options, catalogue **out, sqz_error *err)
{
    static const catalogue_options standard = {0};
    sqz_status status = SQZ_OK;
    catalogue *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, SQZ_E_NOMEM, "no memory for the plugin catalogue");
    c->options = options ? options : &standard;
    c->cache = cache_open(c->options->cache_dir);
    for (int i = 0; i < c->options->n_paths && !status; i++)
        status = look_at(c, c->options->paths[i], err);
    if (!status && !c->options->only_paths) look_at_standard_places(c);
    cache_close(c->cache);
    c->cache = NULL;
    c->options = NULL; /* borrowed for this call only */
    if (status) {
        catalogue_close(c);
        return status;
    }
    *out = c;
    return SQZ_OK;
}

void catalogue_close(catalogue *c)
{
    if (!c) return;
    for (int i = 0; i < c->agents.n; i++) agent_free(c->agents.at[i]);
    for (int i = 0; i < c->excluded.n; i++) {
        agent_free(c->excluded.at[i]);
        free(c->rules[i]);
    }
    free(c->rules);
    for (int i = 0; i < c->n_problems; i++) {
        free(c->problems[i].file);
        free(c->problems[i].why);
    }
    for (int i = 0; i < c->n_seen; i++) free(c->seen[i]);
    free(c->agents.at);
    free(c->excluded.at);
    free(c->problems);
    free(c->seen);
    free(c);
}

/* ---- questions
 * ------------------------------------------------------------------------------------------- */
int catalogue_count(const catalogue *c)
{
    return c->agents.n;
}
const agent_info *catalogue_at(const catalogue *c, int i)
{
    return c->agents.at[i];
}
int catalogue_problems(const catalogue *c)
{
    return c->n_problems;
}

void catalogue_problem(const catalogue *c, int i, const char **file, const char **why)
{
    *file = c->problems[i].file;
    *why = c->problems[i].why;
}

int catalogue_excluded(const catalogue *c)
{
    return c->excluded.n;
}

const agent_info *catalogue_excluded_at(const catalogue *c, int i, const char **rule)
{
    *rule = c->rules[i];
    return c->excluded.at[i];
}

const char *catalogue_seen(const catalogue *c, int i)
{
    return i >= 0 && i < c->n_seen ? c->seen[i] : NULL;
}

const agent_info *catalogue_best(const catalogue *c, const char *kind)
{
    const agent_info *best = NULL;
    for (int i = 0; i < c->agents.n; i++) {
        const agent_info *a = c->agents.at[i];
        if (a->shadowed || strcmp(a->kind, kind) != 0) continue;
        if (!best || a->rank > best->rank || (a->rank == best->rank && strcmp(a->id, best->id) < 0))
            best = a;
    }
    return best;
}

static int fits(const agent_info *a, const char *kind, const char *name)
{
    if (a->shadowed || (kind && strcmp(a->kind, kind) != 0)) return 0;
    return !strcmp(a->id, name) || !strcmp(short_name(a->id), name);
}

/* "method/1" as people say it: "method". */
static int kind_word(const char *kind)
{
    return kind ? (int)strcspn(kind, "/") : 6;
}

static sqz_status unknown(const catalogue *c, const char *kind, const char *name, sqz_error *err)
{
    const char *words = kind ? kind : "plugin";
    const char **names = calloc(2 * (size_t)c->agents.n + 1, sizeof *names);
    char list[400] = "";
    int n = 0;
    for (int i = 0; i < c->excluded.n; i++)
        if (fits(c->excluded.at[i], kind, name)) {
            free(names);
            return err_set(err, ERR_USAGE,
                           "%.*s \"%s\" is installed (%s) but excluded by plugins.allow or "
                           "plugins.deny",
                           kind_word(kind), words, name, c->excluded.at[i]->file);
        }
    for (int i = 0; names && i < c->agents.n; i++) {
        const agent_info *a = c->agents.at[i];
        if (a->shadowed || (kind && strcmp(a->kind, kind) != 0)) continue;
        names[n++] = short_name(a->id);
        names[n++] = a->id;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", short_name(a->id));
    }
    const char *near = names ? json_nearest(name, names, n) : NULL;
    char problems[64] = "";
    if (c->n_problems)
        snprintf(problems, sizeof problems, "; %d plugin file(s) could not be used", c->n_problems);
    err_set(err, ERR_USAGE, "unknown %.*s \"%s\"%s%s%s known: %s%s (see sqz plugin list)",
            kind_word(kind), words, name, near ? "; did you mean \"" : "", near ? near : "",
            near ? "\"?" : ";", *list ? list : "none", problems);
    free(names);
    return ERR_USAGE;
}

sqz_status catalogue_find(const catalogue *c, const char *kind, const char *name,
                          const agent_info **out, sqz_error *err)
{
    const agent_info *found = NULL;
    for (int i = 0; i < c->agents.n; i++) {
        const agent_info *a = c->agents.at[i];
        if (!fits(a, kind, name)) continue;
        if (!strcmp(a->id, name)) {
            *out = a;
            return SQZ_OK;
        }
        if (found)
            return err_set(err, ERR_USAGE, "%.*s \"%s\" is ambiguous: %s or %s; give the full id",
                           kind_word(kind), kind ? kind : "plugin", name, found->id, a->id);
        found = a;
    }
    if (!found) return unknown(c, kind, name, err);
    *out = found;
    return SQZ_OK;
}
