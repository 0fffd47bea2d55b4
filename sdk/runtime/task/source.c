/* source.c - the data set of a task: its rows on this machine, rendered as requests (task.h).
 *
 * Rows come from the FILE or FOLDER of TASK=..., from the definition's own data_files, or by the
 * repository's name.  Examples come from the folder's split of that name; beside a single file,
 * from the file that is called the same but for the split ("gsm8k_test.jsonl": "gsm8k_train"). */
#include "data/data.h"
#include "data/documents.h"
#include "data/folder.h"
#include "hash/sha256.h"
#include "io/file.h"
#include "json/json.h"
#include "task/task.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* The task's part of a spec (malloc'd), and the rest behind "=" or NULL. */
static char *split_spec(const char *spec, const char **rest)
{
    const char *equals = strchr(spec, '=');
    *rest = equals ? equals + 1 : NULL;
    return equals ? strndup(spec, (size_t)(equals - spec)) : strdup(spec);
}

sqz_status task_spec(const char *spec, int *is, sqz_error *err)
{
    const char *rest = strchr(spec, '='), *end = strrchr(spec, '.');
    *is = 0;
    /* A file that happens to have a task's name is itself; a JSON file may be a definition. */
    if (!*spec || (!rest && path_exists(spec) && (!end || strcmp(end, ".json") != 0)))
        return SQZ_OK;
    char *name = split_spec(spec, &rest);
    if (!name) return err_set(err, SQZ_E_NOMEM, "%s: no memory", spec);
    sqz_status st = *name ? task_exists(name, is, err) : SQZ_OK;
    free(name);
    return st;
}

/* A member of a group as mmlu is passed around, {split}/{subject}_{split}.csv; any task in a folder
 * of several, {task}_{split}.jsonl. */
static char *named_file(const task *t, const char *folder, const char *split)
{
    static const char *const endings[] = {"csv", "jsonl", "parquet"};
    for (int i = 0; i < 3; i++) {
        char *path = t->member ? path_format("%s/%s/%s_%s.%s", folder, split,
                                             t->config ? t->config : t->member, split, endings[i])
                               : path_format("%s/%s_%s.%s", folder, t->name, split, endings[i]);
        if (path_exists(path)) return path;
        free(path);
    }
    return NULL;
}

/* Does the folder hold a file that is called as the split and nothing else: test.csv,
 * test-00000-of-00001.parquet? */
static int has_plain(const char *folder, const char *split)
{
    DIR *d = opendir(folder);
    size_t n = strlen(split);
    int has = 0;
    for (struct dirent *e; d && !has && (e = readdir(d));)
        has = !strncmp(e->d_name, split, n) && (e->d_name[n] == '.' || e->d_name[n] == '-');
    if (d) closedir(d);
    return has;
}

sqz_status task_group_rows(const char *group, const char *member, const char *given, sqz_error *err)
{
    task *t = NULL;
    sqz_status st = task_open(member, &t, err);
    if (st) return st;
    if (path_exists(given) && (!path_is_dir(given) || has_plain(given, task_eval_split(t))))
        st = err_set(err, ERR_USAGE,
                     "task %s: %s has rows of one task, not of every member of the group; say "
                     "which, for example %s=%s",
                     group, given, member, given);
    task_free(t);
    return st;
}

/* The file beside `file` that has another split's name in its own; NULL: there is none. */
static char *sibling(const char *file, const char *split, const char *wanted)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    for (const char *at = strstr(base, split); at; at = strstr(at + 1, split)) {
        char *path = path_format("%.*s%s%s", (int)(at - file), file, wanted, at + strlen(split));
        if (path_exists(path)) return path;
        free(path);
    }
    return NULL;
}

/* Where the rows of a split are, as a spec for dataset_open_with. */
static sqz_status locate(const task *t, const char *name, const char *given, const char *split,
                         char **out, sqz_error *err)
{
    const cJSON *own = json_get(t->files, split);
    const char *main_split = task_eval_split(t);
    if (!given && cJSON_IsString(own)) {
        const char *slash = strrchr(name, '/');
        int relative = own->valuestring[0] != '/' && slash;
        *out =
            path_format("%.*s%s", relative ? (int)(slash + 1 - name) : 0, name, own->valuestring);
        return SQZ_OK;
    }
    if (!given && !t->dataset)
        return err_set(err, ERR_USAGE, "task %s: its definition names no data; give %s=FILE",
                       t->name, name);
    if (!given) {
        *out = strdup(t->dataset);
        return *out ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory");
    }
    if (path_is_dir(given)) *out = named_file(t, given, split);
    if (path_is_dir(given) || !strcmp(split, main_split)) {
        if (!*out) *out = strdup(given);
        return *out ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory");
    }
    *out = sibling(given, main_split, split);
    return *out ? SQZ_OK
                : err_set(err, ERR_MODEL,
                          "task %s: its examples are rows of the %s split; give a folder that has "
                          "both, or a file \"...%s...\" beside \"...%s...\"",
                          t->name, split, split, main_split);
}

static int has_subset(const char *path, const char *subset)
{
    data_folder f = {0};
    int has = 0;
    if (folder_scan(path, &f, NULL)) return 0;
    for (int64_t i = 0; i < f.n_splits; i++) has |= !strcmp(f.splits[i].config, subset);
    folder_free(&f);
    return has;
}

/* A folder for the members of a group in which this one is missing. */
static sqz_status no_member(const task *t, const char *folder, const char *split, sqz_error *err)
{
    const char *subset = t->config ? t->config : t->member;
    return err_set(err, ERR_MODEL,
                   "task %s: %s has neither %s/%s_%s.csv (.jsonl, .parquet) nor a subset %s; put "
                   "its rows there, or name one by one the tasks whose rows are there: "
                   "TASK=FOLDER,TASK=FOLDER",
                   t->name, folder, split, subset, split, subset);
}

static sqz_status open_split(const task *t, const char *name, const char *given, const char *split,
                             dataset **out, sqz_error *err)
{
    char *where = NULL, *pattern = NULL;
    sqz_status st = locate(t, name, given, split, &where, err);
    if (!st) st = task_pattern(t, split, &pattern, err);
    dataset_options with = {.cells_as_text = 1, .any_rows = 1};
    if (!st && (!path_exists(where) || path_is_dir(where))) {
        with.config = t->config;
        with.split = split;
        with.pattern = pattern;
    }
    if (!st) st = dataset_open_with(where, &with, out, err);
    /* Rows put together by hand have no subsets; those of another member are not this one's. */
    if (st && with.config && path_exists(where) && (!t->member || has_plain(where, split))) {
        with.config = NULL;
        st = dataset_open_with(where, &with, out, err);
    } else if (st == ERR_MODEL && with.config && t->member && given &&
               !has_subset(where, with.config)) {
        st = no_member(t, given, split, err);
    }
    if (st && !given && err && err->code != SQZ_E_NOMEM)
        err_prefix(err, "task %s, data set %s (%s=FILE or %s=FOLDER takes local rows)", t->name,
                   t->dataset ? t->dataset : "", name, name);
    free(where);
    free(pattern);
    return st;
}

/* Definition, number of examples and rows: what an evaluation's result depends on. */
static void digest_of(const task *t, const dataset *docs, const dataset *pool, char *out)
{
    char *text = path_format("%s %lld %s %s", t->digest, (long long)t->shots,
                             docs ? docs->digest : "", pool ? pool->digest : "");
    sha256_buffer(text, strlen(text), out);
    free(text);
}

static sqz_status open_rows(task *t, const char *name, const char *given,
                            const dataset_options *with, dataset **out, sqz_error *err)
{
    dataset *docs = NULL, *pool = NULL;
    row_store *rows = NULL;
    const char *split = task_eval_split(t);
    if (with->for_calibration) {
        split = t->train ? t->train : t->validation;
        t->shots = 0;
        if (!split || (given && !path_is_dir(given)))
            return err_set(err, ERR_USAGE,
                           "task %s: calibration takes its training rows; give a folder that has "
                           "them, or the file itself",
                           t->name);
    }
    const char *shots = task_shot_split(t);
    int needless = !given && t->output == TASK_NEEDLE && !t->files && !t->dataset;
    sqz_status st = needless ? SQZ_OK : open_split(t, name, given, split, &docs, err);
    int apart = !st && t->shots > 0 && strcmp(split, shots) != 0;
    if (apart) st = open_split(t, name, given, shots, &pool, err);
    const row_store *own = docs ? data_rows(docs) : NULL;
    if (!st) st = task_render(t, own, pool ? data_rows(pool) : own, &rows, err);
    if (!st) st = dataset_of_requests(rows, t, docs ? docs->path : name, out, err);
    if (!st) digest_of(t, docs, pool, (*out)->digest);
    if (!st && docs) (*out)->is_txt = docs->is_txt;
    dataset_close(docs);
    dataset_close(pool);
    return st;
}

sqz_status task_dataset(const char *spec, const dataset_options *with, dataset **out,
                        sqz_error *err)
{
    const char *given;
    char *name = split_spec(spec, &given);
    task *t = NULL;
    sqz_status st = name ? task_open(name, &t, err) : err_set(err, SQZ_E_NOMEM, "no memory");
    if (!st && given && !path_exists(given))
        st = err_set(err, ERR_MODEL, "task %s: no such file: %s", t->name, given);
    if (!st && with->shots) t->shots = with->shots - 1;
    if (!st) st = open_rows(t, name, given, with, out, err);
    if (st) task_free(t);
    free(name);
    return st;
}
