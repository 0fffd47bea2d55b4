/* judge.c - from measured results to the result vector, the reward and the constraints (A7).
 *
 * Noise: two candidates are compared item by item (the same questions, the same windows), which
 * removes the spread of the questions themselves: the standard error of the mean difference is what
 * counts. */
#include "coordinator/state.h"
#include "io/file.h"
#include "paired/outcomes.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Grams of CO2 a kilowatt-hour, world average of electricity; the one constant behind co2_*. */
static const double CO2_G_PER_KWH = 475;
static const double PENALTY = -1000; /* reward of a candidate that breaks a hard constraint */

const char *trial_text(const trial *t, const char *key)
{
    return json_str(t->json, key, "");
}

static const cJSON *full_results(const trial *t)
{
    return json_get(json_get(json_get(t->json, "rungs"), "full"), "results");
}

/* ---- paired comparison -------------------------------------------------------------------------
 */

/* Of a file of the run folder; one that cannot be read is simply not there. */
static outcomes read_outcomes(const run *r, const char *relative)
{
    outcomes o = {0};
    char *path = path_format("%s/%s", r->dir, relative);
    sqz_status s = outcomes_read(path, NULL, 0, &o, NULL);
    free(path);
    if (s == SQZ_E_NOMEM) memory_failed("the outcomes of an evaluation"); /* they are there */
    return o;
}

paired judge_paired(const run *r, const char *items_a, const char *items_b)
{
    outcome_pairs pairs;
    if (!items_a || !items_b) return paired_mean(NULL, NULL, 0);
    outcomes a = read_outcomes(r, items_a), b = read_outcomes(r, items_b);
    if (outcomes_pair(&a, &b, &pairs, NULL)) memory_failed("the outcomes of an evaluation");
    paired p = paired_mean(pairs.a, pairs.b, pairs.n);
    outcome_pairs_free(&pairs);
    outcomes_free(&a);
    outcomes_free(&b);
    return p;
}

const char *judge_items(const trial *t, const char *rung, const char *dataset)
{
    return json_str(json_get(json_get(t->json, "items"), rung), dataset, NULL);
}

/* ---- objectives --------------------------------------------------------------------------------
 */

/* The metric that ranks a data set: what the evaluation says, else the first known name. */
static const char *primary_metric(const cJSON *result, int *higher)
{
    static const char *const known[] = {"acc_norm", "acc", "exact_match", "perplexity"};
    const char *said = json_str(result, "primary", NULL);
    for (int i = 0; !said && i < 4; i++)
        if (json_get(result, known[i])) said = known[i];
    *higher = json_bool(result, "higher_is_better", said && strcmp(said, "perplexity") != 0);
    return said && json_get(result, said) ? said : NULL;
}

static sqz_status no_metric(const objective *o, sqz_error *err)
{
    return err_set(err, ERR_USAGE, "objective \"%s\": no data set gives such a metric", o->name);
}

/* Which data set and metric stand behind quality, accuracy and perplexity. */
static sqz_status resolve_objective(run *r, objective *o, sqz_error *err)
{
    const cJSON *results = full_results(&r->baseline);
    int is_quality = !strcmp(o->name, "quality"), is_ppl = !strcmp(o->name, "perplexity");
    if (!is_quality && !is_ppl && strcmp(o->name, "accuracy") != 0) return SQZ_OK;
    for (int i = 0; i < r->config->n_datasets; i++) {
        const char *name = r->config->datasets[i].name;
        int higher = 0;
        const cJSON *result = json_get(results, name);
        const char *metric = primary_metric(result, &higher);
        if (is_ppl) metric = json_get(result, "perplexity") ? "perplexity" : NULL, higher = 0;
        if (metric && (is_quality || is_ppl || higher)) {
            o->dataset = name;
            o->metric = metric;
            o->higher_is_better = higher;
            return SQZ_OK;
        }
        if (is_quality)
            return err_set(err, ERR_MODEL,
                           "%s: the evaluation gave no metric that could rank candidates", name);
    }
    return no_metric(o, err);
}

/* The value as measured; NaN when it was not. */
static double measured(const trial *t, const objective *o)
{
    const cJSON *m = json_get(t->json, "metrics");
    if (o->dataset) return json_num(json_get(full_results(t), o->dataset), o->metric, NAN);
    if (!strcmp(o->name, "bytes")) return json_num(m, "bytes", NAN);
    if (!strcmp(o->name, "memory")) return json_num(m, "memory_bytes", NAN);
    if (!strcmp(o->name, "energy")) return json_num(m, "energy_j_per_1k_tokens", NAN);
    return json_num(m, !strcmp(o->name, "ttft") ? "ttft_ms" : "tpot_ms", NAN);
}

static void fill_objectives(const run *r, trial *t)
{
    cJSON *list = cJSON_CreateArray();
    for (int k = 0; k < r->n_objectives; k++) {
        double x = measured(t, &r->objectives[k]);
        t->f[k] = r->objectives[k].higher_is_better ? -x : x;
        cJSON_AddItemToArray(list, isfinite(x) ? cJSON_CreateNumber(x) : cJSON_CreateNull());
    }
    cJSON_DeleteItemFromObjectCaseSensitive(t->json, "objectives");
    cJSON_AddItemToObject(t->json, "objectives", list);
}

/* ---- the result vector -------------------------------------------------------------------------
 */

static double median_of(const cJSON *bench, const char *key)
{
    return json_num(json_get(bench, key), "median", NAN);
}

static void add_speed(const trial *t, cJSON *m)
{
    const cJSON *bench = json_get(t->json, "bench");
    double tpot = median_of(bench, "tpot_seconds"), ttft = median_of(bench, "ttft_seconds");
    double memory = json_num(bench, "peak_rss_bytes", NAN);
    double joules = json_num(bench, "energy_j_per_1k_tokens", NAN);
    json_add_num(m, "latency_ms", 1000 * tpot);
    json_add_num(m, "ttft_ms", 1000 * ttft);
    json_add_num(m, "tpot_ms", 1000 * tpot);
    json_add_num(m, "throughput_tokens_per_second", median_of(bench, "decode_tokens_per_second"));
    json_add_num(m, "prefill_tokens_per_second", median_of(bench, "prefill_tokens_per_second"));
    json_add_num(m, "memory_bytes", memory);
    json_add_num(m, "memory_gb", memory / 1e9);
    json_add_num(m, "energy_j_per_1k_tokens", joules);
    if (isfinite(joules))
        cJSON_AddStringToObject(m, "energy_origin", json_str(bench, "energy_origin", "estimate"));
    json_add_num(m, "co2_g_per_1k_tokens", joules / 3.6e6 * CO2_G_PER_KWH);
}

/* accuracy: of the first data set with one; perplexity: likewise. */
static void add_firsts(const run *r, const trial *t, cJSON *m)
{
    const cJSON *results = full_results(t);
    for (int i = 0; i < r->config->n_datasets; i++) {
        const cJSON *result = json_get(results, r->config->datasets[i].name);
        int higher;
        const char *metric = primary_metric(result, &higher);
        if (metric && higher && !json_get(m, "accuracy")) {
            char key[128];
            snprintf(key, sizeof key, "%s_stderr", metric);
            json_add_num(m, "accuracy", json_num(result, metric, NAN));
            json_add_num(m, "accuracy_stderr", json_num(result, key, NAN));
        }
        if (!json_get(m, "perplexity"))
            json_add_num(m, "perplexity", json_num(result, "perplexity", NAN));
    }
}

static double quality_of(const trial *t)
{
    return json_num(json_get(t->json, "metrics"), "quality", NAN);
}

static int quality_higher(const trial *t)
{
    return json_bool(json_get(t->json, "metrics"), "quality_higher_is_better", 1);
}

/* Drop against the baseline with its paired standard error: acc0 - acc, or ppl/ppl0 - 1. */
static void add_drop(const run *r, const trial *t, cJSON *m)
{
    const char *dataset = json_str(m, "quality_dataset", "");
    double q = json_num(m, "quality", NAN), q0 = quality_of(&r->baseline);
    int higher = json_bool(m, "quality_higher_is_better", 1);
    paired p = judge_paired(r, judge_items(&r->baseline, "full", dataset),
                            judge_items(t, "full", dataset));
    const cJSON *early = json_get(json_get(full_results(t), dataset), "sequential");
    if (json_bool(early, "stopped", 0)) { /* q0 is of all items: only those in common compare */
        json_add_num(m, "evaluated_items", json_num(early, "items", NAN));
        q = higher ? q0 + p.mean : q0 * exp(p.mean);
    }
    json_add_num(m, "accuracy_drop", higher ? q0 - q : q / q0 - 1);
    json_add_num(m, "accuracy_drop_stderr", higher ? p.stderr_ : q / q0 * p.stderr_);
    if (p.n) {
        cJSON *against = cJSON_AddObjectToObject(m, "paired_with_baseline");
        json_add_num(against, "mean", p.mean);
        json_add_num(against, "stderr", p.stderr_);
        json_add_num(against, "n", (double)p.n);
        json_add_num(against, "p", p.p);
    }
}

static cJSON *result_vector(const run *r, const trial *t)
{
    cJSON *m = cJSON_CreateObject();
    const char *dataset = r->config->datasets[0].name;
    const cJSON *result = json_get(full_results(t), dataset);
    const cJSON *steps = json_get(t->json, "steps_result");
    int higher = 1;
    const char *metric = primary_metric(result, &higher);
    char key[128];
    cJSON_AddStringToObject(m, "strategy_id", trial_text(t, "strategy_id"));
    if (metric) {
        snprintf(key, sizeof key, "%s_stderr", metric);
        json_add_num(m, "quality", json_num(result, metric, NAN));
        cJSON_AddStringToObject(m, "quality_metric", metric);
        cJSON_AddStringToObject(m, "quality_dataset", dataset);
        json_add_num(m, "quality_stderr", json_num(result, key, NAN));
        cJSON_AddBoolToObject(m, "quality_higher_is_better", higher);
    }
    add_firsts(r, t, m);
    json_add_num(m, "bytes",
                 json_num(steps, "bytes", t == &r->baseline ? (double)r->model_bytes : NAN));
    json_add_num(m, "effective_bits_per_weight", json_num(steps, "effective_bits_per_weight", NAN));
    add_speed(t, m);
    json_add_num(
        m, "kl",
        json_num(json_get(json_get(json_get(t->json, "rungs"), "proxy"), "kl"), "mean", NAN));
    const char *compute = json_str(json_get(json_get(t->json, "rungs"), "full"), "compute", NULL);
    if (compute) cJSON_AddStringToObject(m, "compute", compute);
    return m;
}

/* ---- reward and constraints
 * ---------------------------------------------------------------------- */

static double ratio(const cJSON *m, const cJSON *m0, const char *key, double fallback)
{
    double x = json_num(m, key, NAN), x0 = json_num(m0, key, NAN);
    return isfinite(x) && isfinite(x0) && x0 > 0 ? x / x0 : fallback;
}

/* R = a Acc_norm - b Latency_norm - c Mem_norm - d CO2_norm; what was not measured counts as the
 * baseline's, memory as the file's size. */
static double reward_of(const run *r, const trial *t)
{
    const cJSON *m = json_get(t->json, "metrics"), *m0 = json_get(r->baseline.json, "metrics");
    const double *w = r->config->weights;
    double q = quality_of(t), q0 = quality_of(&r->baseline);
    double acc = quality_higher(&r->baseline) ? (q0 > 0 ? q / q0 : 1) : q0 / q;
    double bytes = ratio(m, m0, "bytes", 1);
    return w[0] * acc - w[1] * ratio(m, m0, "tpot_ms", 1) -
           w[2] * ratio(m, m0, "memory_bytes", bytes) -
           w[3] * ratio(m, m0, "energy_j_per_1k_tokens", 1);
}

static void violate(cJSON *list, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void violate(cJSON *list, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

/* Violated hard constraints as sentences; *drop_excess: by how much the drop passes its limit. */
static cJSON *violations_of(const run *r, const trial *t, double *drop_excess, int *invalid)
{
    const cJSON *m = json_get(t->json, "metrics");
    cJSON *list = cJSON_CreateArray();
    double limit = spec_num(r->spec, "max_accuracy_drop", INFINITY);
    double vram = spec_num(r->spec, "max_vram", INFINITY), drop = json_num(m, "accuracy_drop", NAN);
    double bytes = json_num(m, "bytes", 0), memory = json_num(m, "memory_bytes", 0);
    double latency = json_num(m, "latency_ms", 0) / 1000;
    *drop_excess = 0;
    *invalid = 0;
    if (!(drop <= limit)) {
        *drop_excess = isfinite(drop) ? drop - limit : 1;
        violate(list, "accuracy drop %.4f passes the limit of %.4f", drop, limit);
    }
    if (memory > vram) {
        *invalid = 1;
        violate(list, "memory of %.0f bytes passes the target's %.0f", memory, vram);
    }
    if (isfinite(r->config->max_bytes) && bytes > r->config->max_bytes)
        violate(list, "size of %.0f bytes passes the limit of %.0f", bytes, r->config->max_bytes);
    if (isfinite(r->config->max_latency_s) && latency > r->config->max_latency_s)
        violate(list, "%.6g seconds a token pass the limit of %.6g", latency,
                r->config->max_latency_s);
    return list;
}

static void put(cJSON *object, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddItemToObject(object, key, value);
}

sqz_status judge_baseline(run *r, sqz_error *err)
{
    trial *b = &r->baseline;
    put(b->json, "metrics", result_vector(r, b));
    const cJSON *objectives = spec_value(r->spec, "objectives"), *name;
    r->n_objectives = 0;
    cJSON_ArrayForEach(name, objectives)
    {
        if (r->n_objectives == MAX_OBJECTIVES) break;
        objective *o = &r->objectives[r->n_objectives++];
        *o = (objective){.name = name->valuestring};
        sqz_status s = resolve_objective(r, o, err);
        if (s) return s;
        if (!o->dataset && !isfinite(measured(b, o)))
            return err_set(err, ERR_USAGE, "objective \"%s\" was not measured on the dense model%s",
                           o->name, json_get(b->json, "bench") ? "" : "; it needs eval.bench");
    }
    if (!isfinite(quality_of(b)))
        return err_set(err, ERR_MODEL,
                       "%s: the evaluation of the dense model gave no usable metric",
                       r->config->datasets[0].name);
    cJSON *m = json_get(b->json, "metrics");
    json_add_num(m, "reward", reward_of(r, b));
    cJSON_AddTrueToObject(m, "valid");
    fill_objectives(r, b);
    return SQZ_OK;
}

void judge_trial(run *r, trial *t)
{
    double excess;
    int invalid;
    cJSON *m = result_vector(r, t);
    put(t->json, "metrics", m);
    add_drop(r, t, m);
    fill_objectives(r, t);
    cJSON *violations = violations_of(r, t, &excess, &invalid);
    int broken = cJSON_GetArraySize(violations);
    int finite = 1;
    for (int k = 0; k < r->n_objectives; k++) finite &= isfinite(t->f[k]) != 0;
    t->feasible = t->evaluated && !broken && finite;
    double reward = broken ? PENALTY * (1 + excess) : reward_of(r, t);
    json_add_num(m, "reward", reward);
    cJSON_AddBoolToObject(m, "valid", finite && !invalid);
    cJSON_DeleteItemFromObjectCaseSensitive(t->json, "reward");
    json_add_num(t->json, "reward", reward);
    put(t->json, "feasible", cJSON_CreateBool(t->feasible));
    put(t->json, "violations", violations);
}

int judge_distinct(const run *r, const trial *a, const trial *b)
{
    const cJSON *ma = json_get(a->json, "metrics"), *mb = json_get(b->json, "metrics");
    double ba = json_num(ma, "bytes", 0), bb = json_num(mb, "bytes", 0);
    double larger = ba > bb ? ba : bb;
    if (fabs(ba - bb) > 0.01 * larger) return 1;
    const char *dataset = json_str(ma, "quality_dataset", "");
    double qa = json_num(ma, "quality", NAN), qb = json_num(mb, "quality", NAN);
    paired p = judge_paired(r, judge_items(a, "full", dataset), judge_items(b, "full", dataset));
    double se = p.n > 1
                    ? p.stderr_ * (quality_higher(a) ? 1 : 0.5 * (qa + qb))
                    : hypot(json_num(ma, "quality_stderr", 0), json_num(mb, "quality_stderr", 0));
    return fabs(qa - qb) > se;
}
