/* eval_group.c - see eval_group.h. */
#include "worker/eval_group.h"
#include "io/file.h"
#include "json/json.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int eval_group_find(const cJSON *spec, task_set *out)
{
    const char *data = json_str(spec, "dataset", ""), *equals = strchr(data, '=');
    int is_task;
    *out = (task_set){0};
    if (task_spec(data, &is_task, NULL) || !is_task)
        return 0; /* a failure is told at the opening */
    char *name = equals ? path_format("%.*s", (int)(equals - data), data) : path_format("%s", data);
    int is = task_set_open(name, out, NULL) == SQZ_OK && out->n_groups > 0;
    if (!is) task_set_free(out);
    free(name);
    return is;
}

cJSON *eval_group_member(const task_set *s, const cJSON *spec, int k)
{
    const char *data = json_str(spec, "dataset", ""), *equals = strchr(data, '=');
    char *own = path_format("%s%s", s->tasks.at[k], equals ? equals : "");
    cJSON *copy = cJSON_Duplicate(spec, 1);
    cJSON_DeleteItemFromObjectCaseSensitive(copy, "dataset");
    cJSON_DeleteItemFromObjectCaseSensitive(copy, "name");
    cJSON_AddStringToObject(copy, "dataset", own);
    cJSON_AddStringToObject(copy, "name", s->names.at[k]);
    free(own);
    return copy;
}

typedef struct sums {
    double items, value, variance, tasks, seconds;
    int errors; /* members with a standard error */
} sums;

static sums add_up(const task_set *s, const task_group *g, const cJSON *results, const char *metric)
{
    sums t = {0};
    char *error = path_format("%s_stderr", metric);
    for (int i = 0; i < g->n; i++) {
        const cJSON *r = json_get(results, s->names.at[g->members[i]]);
        double n = json_num(r, "n", 0), se = json_num(r, error, -1);
        if (!json_get(r, metric)) continue;
        t.tasks++;
        t.items += n;
        t.value += n * json_num(r, metric, 0);
        t.seconds += json_num(r, "seconds", 0);
        if (se < 0) continue;
        t.errors++;
        t.variance += (n - 1) * se * se * n;
    }
    free(error);
    return t;
}

/* Is this key of a result a metric?  The primary one is; others have a standard error, at least
 * where a member has more than one row. */
static int is_metric(const task_set *s, const task_group *g, const cJSON *results, const char *key)
{
    const cJSON *first = json_get(results, s->names.at[g->members[0]]);
    int is = !strcmp(json_str(first, "primary", ""), key);
    char *error = path_format("%s_stderr", key);
    for (int i = 0; i < g->n && !is; i++)
        is = json_get(json_get(results, s->names.at[g->members[i]]), error) != NULL;
    free(error);
    return is;
}

static void add_group(const task_set *s, const task_group *g, cJSON *results)
{
    static const char *const copied[] = {"evaluation", "primary", "higher_is_better"};
    const cJSON *first = json_get(results, s->names.at[g->members[0]]), *m;
    cJSON *out = cJSON_CreateObject();
    cJSON_ArrayForEach(m, first)
    {
        if (!is_metric(s, g, results, m->string)) continue;
        sums t = add_up(s, g, results, m->string);
        char *error = path_format("%s_stderr", m->string);
        json_add_num(out, m->string, t.value / t.items);
        if (t.errors == (int)t.tasks && t.items > t.tasks)
            json_add_num(out, error, sqrt(t.variance / (t.items - t.tasks) / t.items));
        if (!json_get(out, "n")) {
            json_add_num(out, "n", t.items);
            json_add_num(out, "seconds", t.seconds);
        }
        free(error);
    }
    for (int i = 0; i < 3; i++) {
        const cJSON *item = json_get(first, copied[i]);
        if (item) cJSON_AddItemToObject(out, copied[i], cJSON_Duplicate(item, 1));
    }
    json_add_num(out, "tasks", g->n);
    cJSON_DeleteItemFromObjectCaseSensitive(results, g->name);
    cJSON_AddItemToObject(results, g->name, out);
}

void eval_group_add(const task_set *s, cJSON *results)
{
    for (int i = 0; i < s->n_groups; i++) add_group(s, &s->groups[i], results);
}
