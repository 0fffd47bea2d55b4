/* front.c - the front of a run: exact over all objectives, thinned to distinct members, with its
 * volume.
 *
 * The reference is fixed by the dense model and the constraints, before any candidate is known: ten
 * percent beyond the worst acceptable quality, ten percent above the dense model elsewhere.  The
 * volume is normalised by the box from there to the dense quality at no cost. */
#include "coordinator/pareto.h"
#include "coordinator/state.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void front_set_reference(run *r)
{
    double drop = 1.1 * spec_num(r->spec, "max_accuracy_drop", 0.02);
    for (int k = 0; k < r->n_objectives; k++) {
        const objective *o = &r->objectives[k];
        double f = r->baseline.f[k]; /* minimised: accuracies are negative */
        if (!o->dataset) {
            r->reference[k] = 1.1 * f;
            r->ideal[k] = 0;
        } else {
            int primary = !strcmp(o->dataset, r->config->datasets[0].name);
            double loss = primary ? drop : 0.5;
            r->reference[k] = o->higher_is_better ? f + loss : f * (1 + loss);
            r->ideal[k] = f;
        }
    }
}

/* ---- members -----------------------------------------------------------------------------------
 */

static int by_quality(const trial *a, const trial *b)
{
    for (int k = 0; k < MAX_OBJECTIVES; k++) {
        if (a->f[k] < b->f[k]) return -1;
        if (a->f[k] > b->f[k]) return 1;
    }
    return 0;
}

static void sort_members(const run *r, int64_t *list, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        for (int64_t k = i; k > 0 && by_quality(&r->trials[list[k]], &r->trials[list[k - 1]]) < 0;
             k--) {
            int64_t t = list[k];
            list[k] = list[k - 1];
            list[k - 1] = t;
        }
}

/* Best first; a later one that is like a kept one is left out and says so. */
static int64_t keep_distinct(run *r, const int64_t *list, int64_t n, int64_t *members)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        trial *t = &r->trials[list[i]];
        const trial *like = NULL;
        for (int64_t k = 0; k < kept && !like; k++)
            if (!judge_distinct(r, t, &r->trials[members[k]])) like = &r->trials[members[k]];
        cJSON_DeleteItemFromObjectCaseSensitive(t->json, "like");
        if (like)
            cJSON_AddStringToObject(t->json, "like", trial_text(like, "strategy_id"));
        else
            members[kept++] = list[i];
    }
    return kept;
}

static void mark(trial *t, int on)
{
    cJSON_DeleteItemFromObjectCaseSensitive(t->json, "front");
    cJSON_AddBoolToObject(t->json, "front", on);
    if (!on) cJSON_DeleteItemFromObjectCaseSensitive(t->json, "like");
}

/* ---- pareto.json -------------------------------------------------------------------------------
 */

static void copy(cJSON *to, const char *key, const cJSON *value)
{
    if (value) cJSON_AddItemToObject(to, key, cJSON_Duplicate(value, 1));
}

static cJSON *member_json(const trial *t)
{
    cJSON *m = cJSON_CreateObject();
    const cJSON *exported = json_get(t->json, "export");
    char *path = path_format("models/%s", trial_text(t, "strategy_id"));
    copy(m, "strategy_id", json_get(t->json, "strategy_id"));
    copy(m, "label", json_get(t->json, "label"));
    copy(m, "steps", json_get(t->json, "steps"));
    copy(m, "metrics", json_get(t->json, "metrics"));
    copy(m, "objectives", json_get(t->json, "objectives"));
    copy(m, "reward", json_get(t->json, "reward"));
    copy(m, "artifact", json_get(t->json, "artifact"));
    if (exported && json_get(exported, "path")) {
        cJSON_AddStringToObject(m, "path", path);
        copy(m, "format", json_get(exported, "format"));
        copy(m, "file_bytes", json_get(exported, "bytes"));
        copy(m, "load_back", json_get(exported, "load_back"));
    } else if (exported) {
        copy(m, "export_failed", json_get(exported, "message"));
    }
    free(path);
    return m;
}

static cJSON *front_json(const run *r)
{
    cJSON *out = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(out, "objectives");
    cJSON *reference = cJSON_AddArrayToObject(out, "reference");
    const trial *best = NULL;
    for (int k = 0; k < r->n_objectives; k++) {
        const objective *o = &r->objectives[k];
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "name", o->name);
        cJSON_AddStringToObject(j, "direction", o->higher_is_better ? "maximize" : "minimize");
        if (o->dataset) cJSON_AddStringToObject(j, "dataset", o->dataset);
        if (o->metric) cJSON_AddStringToObject(j, "metric", o->metric);
        cJSON_AddItemToArray(list, j);
        cJSON_AddItemToArray(reference, cJSON_CreateNumber(o->higher_is_better ? -r->reference[k]
                                                                               : r->reference[k]));
    }
    json_add_num(out, "hypervolume", r->hypervolume);
    json_add_num(out, "hypervolume_normalised", r->hypervolume_norm);
    copy(out, "baseline", json_get(r->baseline.json, "metrics"));
    cJSON *members = cJSON_AddArrayToObject(out, "members");
    for (int64_t i = 0; i < r->n_members; i++) {
        const trial *t = &r->trials[r->members[i]];
        cJSON_AddItemToArray(members, member_json(t));
        if (!best || json_num(t->json, "reward", 0) > json_num(best->json, "reward", 0)) best = t;
    }
    if (best) cJSON_AddStringToObject(out, "best", trial_text(best, "strategy_id"));
    cJSON *alike = cJSON_AddArrayToObject(out, "indistinct");
    for (int64_t i = 0; i < r->n_trials; i++) {
        const char *like = json_str(r->trials[i].json, "like", NULL);
        if (!like) continue;
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "strategy_id", trial_text(&r->trials[i], "strategy_id"));
        cJSON_AddStringToObject(j, "like", like);
        cJSON_AddItemToArray(alike, j);
    }
    return out;
}

static void update_volume(run *r, const double *points, int64_t n)
{
    double box = 1;
    for (int k = 0; k < r->n_objectives; k++) box *= r->reference[k] - r->ideal[k];
    r->hypervolume = pareto_hypervolume(points, n, r->n_objectives, r->reference);
    r->hypervolume_norm = box > 0 ? r->hypervolume / box : 0;
}

int front_update(run *r)
{
    int m = r->n_objectives;
    size_t room = (size_t)r->n_trials + 1;
    double *points = calloc(room * (size_t)(m + 1), sizeof *points);
    uint8_t *on = calloc(room, 1);
    int64_t *list = calloc(room, sizeof *list), *members = calloc(room, sizeof *members), n = 0;
    if (!points || !on || !list || !members) memory_failed("the front");
    for (int64_t i = 0; i < r->n_trials; i++)
        for (int k = 0; k < m; k++)
            points[i * m + k] = r->trials[i].feasible ? r->trials[i].f[k] : NAN;
    pareto_front(points, r->n_trials, m, on);
    for (int64_t i = 0; i < r->n_trials; i++) {
        mark(&r->trials[i], on[i]);
        if (on[i]) list[n++] = i;
    }
    update_volume(r, points, r->n_trials);
    sort_members(r, list, n);
    int64_t kept = keep_distinct(r, list, n, members);
    int changed = kept != r->n_members ||
                  (kept && memcmp(members, r->members, (size_t)kept * sizeof *members) != 0);
    free(r->members);
    r->members = members;
    r->n_members = kept;
    cJSON_Delete(r->front);
    r->front = front_json(r);
    free(points);
    free(on);
    free(list);
    return changed;
}
