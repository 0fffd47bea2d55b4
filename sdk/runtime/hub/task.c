/* task.c - the rows of tasks by name: which splits of which repository, and getting them (hub.h).
 */
#include "data/data.h"
#include "hub/parts.h"
#include "io/file.h"
#include "task/task.h"
#include <stdlib.h>
#include <string.h>

/* The files of a task or of the members of a group: all of one repository. */
typedef struct wanted {
    char *repo, *revision; /* NULL: there is nothing to get */
    hub_part *parts;       /* their texts are malloc'd */
    int n, room;
} wanted;

static void wanted_free(wanted *w)
{
    for (int i = 0; i < w->n; i++) {
        free((char *)w->parts[i].config);
        free((char *)w->parts[i].split);
        free((char *)w->parts[i].pattern);
    }
    free(w->parts);
    free(w->repo);
    free(w->revision);
}

static sqz_status add_part(wanted *w, const task *t, const char *split, sqz_error *err)
{
    char *pattern = NULL;
    if (w->n == w->room) {
        int room = w->room ? 2 * w->room : 8;
        hub_part *grown = realloc(w->parts, (size_t)room * sizeof *grown);
        if (!grown) return err_set(err, SQZ_E_NOMEM, "task %s: no memory", t->name);
        w->parts = grown;
        w->room = room;
    }
    sqz_status st = task_pattern(t, split, &pattern, err);
    if (st) return st;
    w->parts[w->n++] = (hub_part){.config = t->config ? path_format("%s", t->config) : NULL,
                                  .split = path_format("%s", split),
                                  .pattern = pattern};
    return SQZ_OK;
}

static sqz_status add_task(wanted *w, task *t, int64_t shots, int for_calibration, sqz_error *err)
{
    const char *split = task_eval_split(t), *examples = task_shot_split(t);
    if (for_calibration) split = t->train ? t->train : t->validation;
    if (!split)
        return err_set(err, ERR_USAGE, "task %s: it names no training rows for a calibration",
                       t->name);
    if (!w->repo) {
        w->repo = path_format("%s", t->dataset);
        w->revision = path_format("%s", t->revision ? t->revision : "main");
    }
    if (strcmp(w->repo, t->dataset) != 0)
        return err_set(
            err, SQZ_E_UNSUPPORTED,
            "task %s: the members of a group must be of one repository, not of %s and %s", t->name,
            w->repo, t->dataset);
    sqz_status st = add_part(w, t, split, err);
    int64_t n = shots < 0 ? t->shots : shots;
    if (!st && n > 0 && !for_calibration && strcmp(examples, split) != 0)
        st = add_part(w, t, examples, err);
    return st;
}

static sqz_status add_all(wanted *w, const char *name, int64_t shots, int for_calibration,
                          sqz_error *err)
{
    task_set set;
    sqz_status st = task_set_open(name, &set, err);
    if (st) return st;
    if (set.n_groups && for_calibration)
        st = err_set(err, ERR_USAGE, "%s is a group of tasks; name one of them", name);
    for (int i = 0; i < set.tasks.n && !st; i++) {
        task *t = NULL;
        st = task_open(set.tasks.at[i], &t, err);
        if (!st && t->dataset && !t->files) st = add_task(w, t, shots, for_calibration, err);
        task_free(t);
    }
    task_set_free(&set);
    return st;
}

sqz_status hub_task(const char *name, int64_t shots, int for_calibration, const hub_hooks *hooks,
                    char **local, sqz_error *err)
{
    wanted w = {0};
    hub_repo repo;
    char *folder = NULL;
    sqz_status st = add_all(&w, name, shots, for_calibration, err);
    if (!st && w.repo) {
        char *text = path_format("%s@%s", w.repo, w.revision);
        if (!hub_parse(text, 1, &repo))
            st = err_set(err, ERR_USAGE, "task %s: \"%s\" is no name of the form owner/name", name,
                         text);
        free(text);
        if (!st) st = hub_data_files(&repo, w.parts, w.n, hooks, &folder, err);
        if (st && st != SQZ_E_CANCELLED && err)
            err_prefix(err, "task %s (%s=FILE or %s=FOLDER takes local rows)", name, name, name);
    }
    if (!st) *local = folder ? path_format("%s=%s", name, folder) : path_format("%s", name);
    free(folder);
    wanted_free(&w);
    return st;
}
