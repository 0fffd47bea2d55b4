/* known.c - tasks by name: the definitions of configs/tasks, which the build puts into the program,
 * and files that users give by path; groups and their members (task.h). */
#include "io/file.h"
#include "json/json.h"
#include "task/task.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEFINITION = 1 << 20, MAX_MEMBERS = 1024 };

/* Made by the build, in the order of their names. */
extern const char *const builtin_tasks[][2];
extern const int builtin_task_count;

static sqz_status parse_builtin(int k, json_doc **out, sqz_error *err)
{
    const char *text = builtin_tasks[k][1];
    return json_parse(text, (int64_t)strlen(text), 0, builtin_tasks[k][0], out, err);
}

const char *task_known(int k, const char **about)
{
    static char text[200];
    json_doc *doc;
    if (k < 0 || k >= builtin_task_count) return NULL;
    *text = 0;
    if (about && parse_builtin(k, &doc, NULL) == SQZ_OK) {
        snprintf(text, sizeof text, "%s", json_str(json_root(doc), "about", ""));
        json_free(doc);
    }
    if (about) *about = text;
    return builtin_tasks[k][0];
}

const char *task_near(const char *word, int most)
{
    enum { MOST = 64 };
    const char *names[MOST];
    int n = builtin_task_count < MOST ? builtin_task_count : MOST;
    for (int k = 0; k < n; k++) names[k] = builtin_tasks[k][0];
    return json_nearest_within(word, most, names, n);
}

/* ---- a name as a definition ---------------------------------------------------------------------
 */

/* doc: the file; group: a sub-group's key, or NULL for the whole; member: or NULL. */
typedef struct found {
    json_doc *doc;
    char *group, *member;
} found;

static void found_free(found *f)
{
    json_free(f->doc);
    free(f->group);
    free(f->member);
}

static int has_member(const cJSON *root, const char *member)
{
    const cJSON *list, *item;
    cJSON_ArrayForEach(list, json_get(root, "groups")) cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && !strcmp(item->valuestring, member)) return 1;
    }
    return 0;
}

/* Does `name` stand for a sub-group or a member of the group in f->doc? */
static int find_in_group(const char *name, found *f)
{
    const cJSON *root = json_root(f->doc);
    const char *form = json_str(json_get(root, "each"), "task", "");
    const char *mark = strstr(form, "{{member}}");
    if (json_get(json_get(root, "groups"), name)) return (f->group = strdup(name)) != NULL;
    size_t n = mark ? (size_t)(mark - form) : 0, tail = mark ? strlen(mark + 10) : 0;
    if (!mark || strlen(name) <= n + tail || strncmp(name, form, n) ||
        strcmp(name + strlen(name) - tail, mark + 10))
        return 0;
    char *member = strndup(name + n, strlen(name) - n - tail);
    if (member && has_member(root, member)) {
        f->member = member;
        return 1;
    }
    free(member);
    return 0;
}

static sqz_status find_file(const char *name, found *f, sqz_error *err)
{
    const char *hash = strrchr(name, '#');
    char *path = hash && !path_exists(name) ? strndup(name, (size_t)(hash - name)) : strdup(name);
    sqz_status st = path ? json_read(path, MAX_DEFINITION, JSON_COMMENTS, &f->doc, err)
                         : err_set(err, SQZ_E_NOMEM, "%s: no memory", name);
    if (!st && strlen(path) < strlen(name)) {
        f->member = strdup(hash + 1);
        if (!f->member || !has_member(json_root(f->doc), hash + 1))
            st = err_set(err, ERR_USAGE, "%s: the group has no member \"%.80s\"", path, hash + 1);
    }
    free(path);
    return st;
}

/* Known names come first; a name with / or .json is a path. */
static sqz_status find(const char *name, found *f, sqz_error *err)
{
    *f = (found){0};
    for (int k = 0; k < builtin_task_count; k++) {
        sqz_status st = parse_builtin(k, &f->doc, err);
        if (st || !strcmp(builtin_tasks[k][0], name)) return st;
        if (json_get(json_root(f->doc), "group") && find_in_group(name, f)) return SQZ_OK;
        json_free(f->doc);
        f->doc = NULL;
    }
    if (strchr(name, '/') || strstr(name, ".json")) return find_file(name, f, err);
    return err_set(err, ERR_USAGE,
                   "there is no task \"%s\"; known are those of configs/tasks, and "
                   "a definition's path",
                   name);
}

static int is_definition(const cJSON *root)
{
    return cJSON_IsObject(root) && (cJSON_IsString(json_get(root, "output_type")) ||
                                    (json_get(root, "group") && json_get(root, "each")));
}

sqz_status task_exists(const char *name, int *known, sqz_error *err)
{
    found f;
    sqz_status st = find(name, &f, err);
    *known = st == SQZ_OK && is_definition(json_root(f.doc));
    found_free(&f);
    return st == SQZ_E_NOMEM ? st : SQZ_OK;
}

sqz_status task_open(const char *name, task **out, sqz_error *err)
{
    found f;
    sqz_status st = find(name, &f, err);
    const cJSON *root = st ? NULL : json_root(f.doc);
    if (!st && json_get(root, "group") && !f.member)
        st = err_set(err, ERR_USAGE, "%s is a group of tasks; name one of them", name);
    if (!st)
        st = task_parse(f.member ? json_get(root, "each") : root, json_name(f.doc), f.member, out,
                        err);
    found_free(&f);
    return st;
}

/* ---- groups -------------------------------------------------------------------------------------
 */

static int list_add(text_list *l, char *owned)
{
    char **at = owned ? realloc(l->at, (size_t)(l->n + 1) * sizeof *at) : NULL;
    if (!at) {
        free(owned);
        return 0;
    }
    l->at = at;
    at[l->n++] = owned;
    return 1;
}

void task_set_free(task_set *s)
{
    text_list *lists[] = {&s->tasks, &s->names};
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < lists[i]->n; k++) free(lists[i]->at[k]);
        free(lists[i]->at);
    }
    for (int i = 0; i < s->n_groups; i++) {
        free(s->groups[i].name);
        free(s->groups[i].members);
    }
    free(s->groups);
    *s = (task_set){0};
}

static task_group *add_group(task_set *s, const char *name)
{
    task_group *g = realloc(s->groups, (size_t)(s->n_groups + 1) * sizeof *g);
    if (!g) return NULL;
    s->groups = g;
    g += s->n_groups++;
    *g = (task_group){.name = strdup(name), .members = calloc(MAX_MEMBERS, sizeof(int))};
    return g->name && g->members ? g : NULL;
}

/* name: of the file, when the group is a user's. */
static int add_member(task_set *s, const cJSON *root, const char *path, const char *member)
{
    const char *form = json_str(json_get(root, "each"), "task", "");
    const char *mark = strstr(form, "{{member}}");
    if (!mark) return 0;
    char *name = path_format("%.*s%s%s", (int)(mark - form), form, member, mark + 10);
    char *spec = path ? path_format("%s#%s", path, member) : strdup(name);
    return list_add(&s->names, name) && list_add(&s->tasks, spec);
}

static sqz_status add_groups(task_set *s, const found *f, const char *path, sqz_error *err)
{
    const cJSON *root = json_root(f->doc), *list, *item;
    const char *name = json_str(root, "group", "");
    sqz_status no_memory = SQZ_E_NOMEM;
    cJSON_ArrayForEach(list, json_get(root, "groups"))
    {
        if (f->group && strcmp(f->group, list->string)) continue;
        task_group *g = add_group(s, list->string);
        if (!g) return err_set(err, no_memory, "task %s: no memory", name);
        cJSON_ArrayForEach(item, list)
        {
            if (!cJSON_IsString(item) || s->tasks.n == MAX_MEMBERS ||
                !add_member(s, root, path, item->valuestring))
                return err_set(
                    err, ERR_USAGE,
                    "%s: \"groups\" holds lists of up to %d names, and \"each\".\"task\" "
                    "has {{member}}",
                    name, MAX_MEMBERS);
            g->members[g->n++] = s->tasks.n - 1;
        }
    }
    if (!s->tasks.n) return err_set(err, ERR_USAGE, "%s: the group has no members", name);
    if (f->group || (s->n_groups == 1 && !strcmp(s->groups[0].name, name))) return SQZ_OK;
    task_group *all = add_group(s, name);
    if (!all) return err_set(err, no_memory, "task %s: no memory", name);
    for (; all->n < s->tasks.n; all->n++) all->members[all->n] = all->n;
    return SQZ_OK;
}

sqz_status task_set_open(const char *name, task_set *out, sqz_error *err)
{
    found f;
    *out = (task_set){0};
    sqz_status st = find(name, &f, err);
    const cJSON *root = st ? NULL : json_root(f.doc);
    if (!st && json_get(root, "group") && !f.member) {
        st = add_groups(out, &f, path_exists(name) ? name : NULL, err);
    } else if (!st) {
        const char *called = json_get(root, "each") ? name : json_str(root, "task", name);
        if (!list_add(&out->names, strdup(called)) || !list_add(&out->tasks, strdup(name)))
            st = err_set(err, SQZ_E_NOMEM, "task %s: no memory", name);
    }
    found_free(&f);
    if (st) task_set_free(out);
    return st;
}
