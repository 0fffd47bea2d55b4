/* plan.c - what a run would do, and the check that refuses a step before it starts. */
#include "coordinator/state.h"
#include "io/disk.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

char *plan_refusal(const model_config *m, const cJSON *spec, const prediction *p)
{
    double limit = spec_num(spec, "memory_limit", INFINITY),
           vram = spec_num(spec, "max_vram", INFINITY);
    if (limit > 0 && p->memory_bytes > limit) {
        char *advice = room_advice(m, spec, limit);
        char need[32], have[32];
        disk_amount(p->memory_bytes, need);
        disk_amount(limit, have);
        char *text = path_format("predicted to need %s of memory, %s are allowed%s; set "
                                 "hardware.memory or free some",
                                 need, have, advice);
        free(advice);
        return text;
    }
    if (!(p->bytes > vram)) return NULL;
    char need[32], have[32];
    disk_amount(p->bytes, need);
    disk_amount(vram, have);
    return path_format("its weights are predicted to take %s, max_vram is %s", need, have);
}

static void add_prediction(cJSON *object, const prediction *p)
{
    cJSON *j = cJSON_AddObjectToObject(object, "predicted");
    json_add_num(j, "bytes", floor(p->bytes));
    json_add_num(j, "memory_bytes", floor(p->memory_bytes));
    json_add_num(j, "seconds", p->seconds);
}

static cJSON *methods_json(const strategy_space *s)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < s->n_steps; i++)
        for (int k = 0; k < s->steps[i].n_methods; k++) {
            const agent_info *a = s->steps[i].methods[k];
            cJSON *j = cJSON_CreateObject();
            cJSON_AddStringToObject(j, "id", a->id);
            cJSON_AddNumberToObject(j, "step", i + 1);
            cJSON_AddStringToObject(j, "version", a->version);
            cJSON_AddStringToObject(j, "summary", a->summary);
            cJSON_AddItemToObject(j, "params", space_describe(s, a));
            cJSON_AddItemToArray(list, j);
        }
    return list;
}

static sqz_status seeds_json(const config *c, const cJSON *spec, const strategy_space *s,
                             const model_config *shape, cJSON **out, double *seconds, double *disk,
                             sqz_error *err)
{
    seed_list seeds = seeds_make(s);
    cJSON *list = cJSON_CreateArray();
    sqz_status status = SQZ_OK;
    *seconds = *disk = 0;
    for (int i = 0; i < seeds.n && !status; i++) {
        cJSON *steps = NULL, *j = cJSON_CreateObject();
        cJSON_AddItemToArray(list, j);
        if ((status = space_steps(s, seeds.at[i].x, "seed", &steps, err))) break;
        prediction p = predict_trial(shape, spec, c, steps);
        char *label = space_label(s, steps), *refused = plan_refusal(shape, spec, &p);
        cJSON_AddStringToObject(j, "name", seeds.at[i].name);
        cJSON_AddStringToObject(j, "label", label);
        cJSON_AddStringToObject(j, "why", seeds.at[i].why);
        cJSON_AddItemToObject(j, "steps", steps);
        add_prediction(j, &p);
        cJSON_AddItemToObject(j, "refused",
                              refused ? cJSON_CreateString(refused) : cJSON_CreateNull());
        *seconds += p.seconds / seeds.n;
        *disk += room_predict(shape, spec, c, steps, "proxy").store / seeds.n;
        free(label);
        free(refused);
    }
    seeds_free(&seeds);
    if (status)
        cJSON_Delete(list);
    else
        *out = list;
    return status;
}

/* Whole run: the baseline and every trial of the budget; on disk the statistics once, an artifact a
 * trial, and eight exported checkpoints. */
static void add_totals(cJSON *plan, const config *c, const cJSON *spec, const model_config *shape,
                       double trial_s, double artifact_bytes)
{
    prediction b = predict_baseline(shape, spec, c);
    double trials = spec_num(spec, "budget_trials", NAN), wall = spec_num(spec, "budget_wall", NAN);
    double seconds = b.seconds + (isfinite(trials) ? trials * trial_s : INFINITY);
    if (isfinite(wall)) seconds = fmin(seconds, wall);
    cJSON *j = cJSON_AddObjectToObject(plan, "predicted");
    json_add_num(j, "seconds", seconds);
    double statistics = shape ? (double)model_moment_bytes(shape) : 0, n = isfinite(trials) ? trials : 16;
    double exported = fmin(n, 8) * (b.bytes -
                                    spec_num(spec, "block_parameters", 0) * b.bytes /
                                        fmax(spec_num(spec, "parameters", 1), 1) +
                                    artifact_bytes);
    json_add_num(j, "statistics_bytes", statistics);
    json_add_num(j, "disk_bytes", floor(statistics + n * artifact_bytes + exported));
}

/* Plugins named in the configuration that only a later step would miss. */
static sqz_status check_names(const config *c, const catalogue *cat, const agent_info *searcher,
                              sqz_error *err)
{
    const char *use = json_str(json_get(c->full, "hardware"), "use", NULL);
    const agent_info *found, *best = catalogue_best(cat, "hardware/1");
    cJSON *with = NULL;
    sqz_status s = params_resolve(searcher, c->search_with, NULL, &with, err);
    cJSON_Delete(with);
    if (!s && c->format) s = catalogue_find(cat, "format/1", c->format, &found, err);
    if (s || !use || (s = catalogue_find(cat, "hardware/1", use, &found, err)) || found == best)
        return s;
    return err_set(
        err, ERR_USAGE,
        "hardware.use: jobs run on %s, which ranks before %s; name it in plugins.deny to "
        "have the other",
        best ? best->id : "none", found->id);
}

sqz_status plan_make(const config *c, const catalogue *cat, const cJSON *spec,
                     const spec_machine *machine, const strategy_space *s,
                     const model_config *shape, cJSON **plan, sqz_error *err)
{
    cJSON *p = cJSON_CreateObject(), *seeds = NULL;
    double trial_s = 0, artifact_bytes = 0;
    const agent_info *searcher = searcher_find(c, cat, err);
    sqz_status status = searcher ? SQZ_OK : err && err->code ? err->code : ERR_PLUGIN;
    if (!status) status = check_names(c, cat, searcher, err);
    if (!status) status = seeds_json(c, spec, s, shape, &seeds, &trial_s, &artifact_bytes, err);
    if (status) {
        cJSON_Delete(p);
        return status;
    }
    cJSON_AddStringToObject(p, "model", c->model);
    cJSON_AddItemToObject(p, "spec", cJSON_Duplicate(spec, 1));
    cJSON_AddItemToObject(p, "objectives", cJSON_Duplicate(spec_value(spec, "objectives"), 1));
    cJSON_AddItemToObject(p, "constraints", cJSON_Duplicate(json_get(c->full, "constraints"), 1));
    cJSON_AddItemToObject(p, "budget", cJSON_Duplicate(json_get(c->full, "budget"), 1));
    cJSON_AddItemToObject(p, "methods", methods_json(s));
    cJSON_AddStringToObject(p, "search", searcher->id);
    cJSON_AddItemToObject(p, "seeds", seeds);
    int64_t points = sqz_space_points(&s->table, 1000000);
    if (points <= 1000000) cJSON_AddNumberToObject(p, "space_points", (double)points);
    cJSON *memory = cJSON_AddObjectToObject(p, "memory");
    cJSON_AddNumberToObject(memory, "available_bytes", (double)machine->memory_bytes);
    json_add_num(memory, "limit_bytes", spec_num(spec, "memory_limit", NAN));
    add_totals(p, c, spec, shape, trial_s, artifact_bytes);
    cJSON_AddItemToObject(p, "config", cJSON_Duplicate(c->full, 1));
    *plan = p;
    return SQZ_OK;
}

sqz_status run_plan(const run_options *o, cJSON **plan, sqz_error *err)
{
    spec_machine machine;
    cJSON *spec = NULL;
    strategy_space *space = NULL;
    model_config shape = {0};
    spec_detect(&machine);
    if (o->threads > 0) machine.threads = o->threads;
    sources data = {0};
    sqz_status s = run_sources(o, o->config, &machine, &data, err);
    if (!s) s = infer_spec(o->config, o->catalogue, &machine, &data, &spec, err);
    sources_close(&data);
    if (s) return s;
    int known = spec_model_config(o->config->model, &shape, NULL) == SQZ_OK;
    s = space_build(o->config, o->catalogue, spec,
                    cJSON_GetArraySize(spec_value(spec, "objectives")), &space, err);
    if (!s)
        s = plan_make(o->config, o->catalogue, spec, &machine, space, known ? &shape : NULL, plan,
                      err);
    space_free(space);
    if (known) model_config_free(&shape);
    cJSON_Delete(spec);
    return s;
}
