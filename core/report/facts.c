/* facts.c - see facts.h. */
#include "report/facts.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- small questions ------------------------------------------------------------------------- */
const char *member_label(const cJSON *m)
{
    const char *label = json_str(m, "label", "");
    return *label ? label : json_str(m, "strategy_id", "?");
}

const char *member_unexported(const cJSON *m)
{
    return json_str(m, "export_failed", NULL);
}

int trial_went_wrong(const cJSON *t)
{
    const char *o = json_str(t, "outcome", "");
    return *o && strcmp(o, "ok") != 0 && strcmp(o, "killed") != 0;
}

int is_baseline(const cJSON *t)
{
    return strcmp(json_str(t, "kind", ""), "baseline") == 0;
}

static const cJSON *metrics_of(const cJSON *m)
{
    return json_get(m, "metrics");
}

static double reward_of(const cJSON *m)
{
    return json_num(metrics_of(m), "reward", json_num(m, "reward", NAN));
}

const cJSON *report_best(const cJSON *pareto)
{
    const cJSON *m, *best = NULL;
    cJSON_ArrayForEach(m, json_get(pareto, "members"))
    {
        double r = reward_of(m), b = reward_of(best);
        if (!best || (isfinite(r) && (!isfinite(b) || r > b))) best = m;
    }
    return best;
}

const cJSON *facts_trial(const facts *f, const cJSON *member)
{
    const cJSON *t;
    const char *id = json_str(member, "strategy_id", "");
    cJSON_ArrayForEach(t, f->data->trials) if (strcmp(json_str(t, "strategy_id", ""), id) ==
                                               0) return t;
    return NULL;
}

double quality_drop(const facts *f, const cJSON *m, double *se)
{
    *se = json_num(m, "accuracy_drop_stderr", NAN);
    double drop = json_num(m, "accuracy_drop", NAN);
    if (isfinite(drop)) return drop;
    double q = json_num(m, "quality", NAN), q0 = json_num(f->dense, "quality", NAN);
    return f->higher ? q0 - q : q / q0 - 1;
}

/* Values that print as zero lose their sign. */
static double unsigned_zero(double v, double half)
{
    return fabs(v) < half ? 0 : v;
}

num show_drop(const facts *f, const cJSON *m)
{
    num o = {"-"};
    double se, drop = quality_drop(f, m, &se);
    char ci[32] = "";
    if (!isfinite(drop)) return o;
    if (isfinite(se) && se > 0) snprintf(ci, sizeof ci, " \u00b1 %.2g", 100 * 1.96 * se);
    /* A drop of accuracy is shown as a change, so its sign turns. */
    if (f->higher)
        snprintf(o.s, sizeof o.s, "%+.1f%s points", unsigned_zero(-100 * drop, 0.05), ci);
    else
        snprintf(o.s, sizeof o.s, "%+.2f%s %%", unsigned_zero(100 * drop, 0.005), ci);
    return o;
}

static void add_params(txt *t, const cJSON *step, int all)
{
    const cJSON *p, *origin = json_get(step, "origin");
    int n = 0;
    cJSON_ArrayForEach(p, json_get(step, "with"))
    {
        /* Defaults are noise in a one-liner; the full list stands in the details. */
        if (!all && strcmp(json_str(origin, p->string, ""), "default") == 0) continue;
        char *value = cJSON_IsString(p) ? path_format("%s", p->valuestring) : json_text(p, 0);
        txt_addf(t, "%s%s %s", n++ ? ", " : " (", p->string, value ? value : "?");
        free(value);
    }
    txt_add(t, n ? ")" : "");
}

char *describe_steps(const cJSON *steps, int all)
{
    txt t = {0};
    const cJSON *s;
    int n = 0;
    cJSON_ArrayForEach(s, steps)
    {
        const char *id = json_str(s, "use", "?"), *dot = strrchr(id, '.');
        txt_addf(&t, "%s%s", n++ ? " then " : "", dot && dot[1] ? dot + 1 : id);
        add_params(&t, s, all);
        int rules = cJSON_GetArraySize(json_get(s, "rules"));
        if (rules) txt_addf(&t, " with %d rule%s", rules, rules == 1 ? "" : "s");
    }
    if (!n) txt_add(&t, "nothing");
    return txt_take(&t);
}

/* ---- picks and counts ------------------------------------------------------------------------ */
static void choose(facts *f)
{
    const cJSON *m;
    double best_drop = INFINITY, least = INFINITY;
    cJSON_ArrayForEach(m, f->members)
    {
        double se, drop = quality_drop(f, metrics_of(m), &se);
        double bytes = json_num(metrics_of(m), "bytes", INFINITY);
        f->n_members++;
        if (!f->conservative || drop < best_drop) f->conservative = m, best_drop = drop;
        if (!f->aggressive || bytes < least) f->aggressive = m, least = bytes;
    }
    f->balanced = report_best(f->data->pareto);
}

static void count(facts *f)
{
    const cJSON *t;
    cJSON_ArrayForEach(t, f->data->trials)
    {
        const char *outcome = json_str(t, "outcome", "");
        f->seconds += fmax(0, json_num(t, "seconds", 0));
        if (is_baseline(t)) continue;
        f->n_trials++;
        if (strcmp(outcome, "refused") == 0)
            f->n_refused++;
        else if (strcmp(outcome, "killed") == 0)
            f->n_killed++;
        else if (strcmp(outcome, "ok") != 0)
            f->n_failed++;
        else {
            f->n_evaluated++;
            if (!json_bool(t, "feasible", 1)) f->n_infeasible++;
        }
    }
}

/* "a/b/model" -> the last part that says something. */
static char *short_name(const char *path)
{
    char *copy = path_format("%s", path), *slash;
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/') copy[--n] = 0;
    slash = strrchr(copy, '/');
    if (slash && strcmp(slash, "/model") == 0) { /* examples/NAME/model */
        *slash = 0;
        slash = strrchr(copy, '/');
    }
    char *name = path_format("%s", slash && slash[1] ? slash + 1 : copy);
    free(copy);
    return name;
}

static const char *string_of(const cJSON *v)
{
    if (cJSON_IsString(v)) return v->valuestring;
    if (cJSON_IsArray(v)) return string_of(v->child);
    return json_str(v, "source", json_str(v, "name", ""));
}

static void name_things(facts *f)
{
    const cJSON *config = json_get(f->data->run, "config");
    const char *model = json_str(config, "model", json_str(f->data->run, "model", ""));
    const char *data = json_str(f->dense, "quality_dataset", "");
    if (!*model) model = json_str(json_get(config, "model"), "source", "the model");
    if (!*data) data = string_of(json_get(config, "dataset"));
    f->model = short_name(model);
    f->dataset = short_name(*data ? data : "the data set");
    f->state = json_str(f->data->run, "state", "");
}

/* ---- sentences ------------------------------------------------------------------------------- */
static double ratio_of(const facts *f, const cJSON *m, const char *key)
{
    return json_num(f->dense, key, NAN) / json_num(metrics_of(m), key, NAN);
}

static char *make_answer(const facts *f)
{
    const cJSON *b = f->balanced, *m = metrics_of(b);
    txt t = {0};
    if (!b) {
        txt_addf(&t,
                 "No compressed model of %s met the constraints: %lld of %lld trials were "
                 "evaluated in full, %lld failed.",
                 f->model, (long long)f->n_evaluated, (long long)f->n_trials,
                 (long long)f->n_failed);
        return txt_take(&t);
    }
    double smaller = ratio_of(f, b, "bytes");
    txt_addf(&t, "%s makes %s ", member_label(b), f->model);
    if (isfinite(smaller))
        txt_addf(&t, "%.1f times smaller (%s instead of %s)", smaller,
                 show_bytes(json_num(m, "bytes", NAN)).s,
                 show_bytes(json_num(f->dense, "bytes", NAN)).s);
    else
        txt_addf(&t, "%s large", show_bytes(json_num(m, "bytes", NAN)).s);
    txt_addf(&t, "; %s on %s is %s", f->metric, f->dataset,
             show_value(json_num(m, "quality", NAN)).s);
    if (f->dense)
        txt_addf(&t, " against %s (%s)", show_value(json_num(f->dense, "quality", NAN)).s,
                 show_drop(f, m).s);
    txt_add(&t, ".");
    return txt_take(&t);
}

static void add_why(facts *f, char *text)
{
    if (f->n_why < MAX_WHY)
        f->why[f->n_why++] = text;
    else
        free(text);
}

static const char *runner_up(const facts *f, double *reward)
{
    const cJSON *m, *best = NULL;
    cJSON_ArrayForEach(m, f->members)
    {
        if (m == f->balanced || !isfinite(reward_of(m))) continue;
        if (!best || reward_of(m) > reward_of(best)) best = m;
    }
    *reward = reward_of(best);
    return best ? member_label(best) : NULL;
}

/* "bits 4, symmetric true" of the parameters that `who` filled; malloc'd. */
static char *filled_by(const cJSON *trial, const char *who)
{
    txt t = {0};
    const cJSON *step, *p;
    int n = 0;
    cJSON_ArrayForEach(step, json_get(trial, "steps")) cJSON_ArrayForEach(p, json_get(step, "with"))
    {
        if (strcmp(json_str(json_get(step, "origin"), p->string, ""), who) != 0) continue;
        char *value = cJSON_IsString(p) ? path_format("%s", p->valuestring) : json_text(p, 0);
        txt_addf(&t, "%s%s %s", n++ ? ", " : "", p->string, value ? value : "?");
        free(value);
    }
    return txt_take(&t);
}

/* Who filled which parameter; defaults are not listed. */
static void why_values(facts *f, const cJSON *trial)
{
    static const char *const who[][2] = {
        {"user", "the configuration"}, {"seed", "the seed"}, {"search", "the search"}};
    txt t = {0};
    for (size_t i = 0; i < sizeof who / sizeof *who; i++) {
        char *list = filled_by(trial, who[i][0]);
        if (*list) txt_addf(&t, "%s%s by %s", t.n ? "; " : "", list, who[i][1]);
        free(list);
    }
    char *all = txt_take(&t);
    if (*all)
        add_why(f, path_format(
                       "Its parameters were filled: %s; the rest are the method's defaults.", all));
    free(all);
}

static void make_why(facts *f)
{
    const cJSON *b = f->balanced, *trial = b ? facts_trial(f, b) : NULL;
    if (!b) return;
    double reward = reward_of(b), second, se;
    const char *next = runner_up(f, &second);
    if (isfinite(reward) && next)
        add_why(f,
                path_format("It has the highest reward of the %lld strategies on the front: %.3f; "
                            "%s follows with %.3f. The reward weighs quality, latency, memory and "
                            "energy against the dense model.",
                            (long long)f->n_members, reward, next, second));
    else if (f->n_members == 1)
        add_why(f, path_format("It is the only strategy on the front."));
    double drop = quality_drop(f, metrics_of(b), &se);
    if (isfinite(drop) && isfinite(se) && se > 0)
        add_why(f,
                fabs(drop) <= 1.96 * se
                    ? path_format("Its difference in %s to the dense model is within what chance "
                                  "gives on this data (95 %% interval, paired).",
                                  f->metric)
                    : path_format("Its %s in %s is larger than chance explains (95 %% interval, "
                                  "paired): the price of the size is real.",
                                  drop > 0 ? "loss" : "gain", f->metric));
    const char *why = json_str(trial, "why", json_str(b, "why", ""));
    if (*why)
        add_why(f, path_format("It was proposed by %s: %s",
                               json_str(trial, "proposed_by", "the search"), why));
    why_values(f, trial);
    if (f->conservative && f->conservative != b)
        add_why(f, path_format("%s keeps quality best (%s) at %s.", member_label(f->conservative),
                               show_drop(f, metrics_of(f->conservative)).s,
                               show_bytes(json_num(metrics_of(f->conservative), "bytes", NAN)).s));
    if (f->aggressive && f->aggressive != b)
        add_why(f, path_format("%s is the smallest at %s (%s).", member_label(f->aggressive),
                               show_bytes(json_num(metrics_of(f->aggressive), "bytes", NAN)).s,
                               show_drop(f, metrics_of(f->aggressive)).s));
}

static void add_advice(facts *f, char *text)
{
    if (f->n_advice < MAX_ADVICE)
        f->advice[f->n_advice++] = text;
    else
        free(text);
}

/* The linear with the largest relative error in the smallest member. */
static const cJSON *worst_layer(const facts *f, double *share)
{
    const cJSON *t = f->aggressive ? facts_trial(f, f->aggressive) : NULL, *l, *worst = NULL;
    double sum = 0, top = -1;
    int n = 0;
    cJSON_ArrayForEach(l, json_get(json_get(t, "steps_result"), "layers"))
    {
        double e = json_num(l, "relative_error", NAN);
        if (!isfinite(e)) continue;
        sum += e, n++;
        if (e > top) top = e, worst = l;
    }
    *share = n ? top / (sum / n) : 0;
    return worst;
}

/* ".self_attn.v_proj" of "model.layers.0.self_attn.v_proj": the same linear of every block, because
 * formats name what stays dense by suffix. */
static const char *below_block(const char *name)
{
    const char *below = name;
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        const char *end = dot + 1 + strspn(dot + 1, "0123456789");
        if (end > dot + 1 && *end == '.') below = end;
    }
    return below;
}

static void advise_export(facts *f)
{
    const cJSON *m;
    int n = 0;
    cJSON_ArrayForEach(m, f->members) n += member_unexported(m) != NULL;
    if (n)
        add_advice(f, path_format("%d model%s of the front could not be exported: `sqz run "
                                  "--resume` on this folder tries again.",
                                  n, n == 1 ? "" : "s"));
}

static void make_advice(facts *f)
{
    double se, share;
    const cJSON *worst = worst_layer(f, &share);
    double smallest_drop = f->aggressive ? quality_drop(f, metrics_of(f->aggressive), &se) : NAN;
    if (strcmp(f->state, "interrupted") == 0 || strcmp(f->state, "cancelled") == 0)
        add_advice(f, path_format("The run was interrupted: `sqz run --resume` on this folder "
                                  "continues it."));
    advise_export(f);
    if (worst && share > 2.5)
        add_advice(
            f, path_format("In the smallest model %s has %.1f times the mean error. A rule that "
                           "leaves these linears in 16 bits shows what they cost: \"rules\": "
                           "[{\"match\": \"*%s\", \"skip\": true}].",
                           json_str(worst, "name", "?"), share,
                           below_block(json_str(worst, "name", "?"))));
    if (f->conservative && f->dense && quality_drop(f, metrics_of(f->conservative), &se) > 0 &&
        isfinite(se) && quality_drop(f, metrics_of(f->conservative), &se) > 1.96 * se)
        add_advice(f,
                   path_format("Even the most careful strategy loses quality beyond chance; more "
                               "calibration data (calibration.samples) is the next thing to try."));
    if (f->n_members > 0 && isfinite(smallest_drop) && smallest_drop < 0.01)
        add_advice(
            f, path_format("The smallest model loses almost nothing: there may be room for fewer "
                           "bits or larger groups than were searched."));
    if (f->n_killed > f->n_trials / 2 && f->n_trials >= 4)
        add_advice(
            f, path_format("The cheap filter stopped %lld of %lld trials; a looser eval.proxy or "
                           "narrower search ranges would spend the budget better.",
                           (long long)f->n_killed, (long long)f->n_trials));
    if (f->n_failed)
        add_advice(f, path_format("%lld trial%s failed; the reasons are listed below.",
                                  (long long)f->n_failed, f->n_failed == 1 ? "" : "s"));
    if (!f->n_members && f->n_infeasible)
        add_advice(f, path_format("%lld candidates were measured but break a constraint; a larger "
                                  "constraints.max_accuracy_drop would admit them.",
                                  (long long)f->n_infeasible));
    if (json_num(f->dense, "quality_stderr", 0) > 0.02 && f->higher)
        add_advice(
            f, path_format("One standard error of %s is %.1f points: more evaluation rows would "
                           "separate neighbours on the front.",
                           f->metric, 100 * json_num(f->dense, "quality_stderr", 0)));
    if (!f->n_advice || f->n_members)
        add_advice(f, path_format("A larger budget (budget.trials, budget.wall) searches further; "
                                  "finished steps and statistics are reused."));
}

void facts_make(const report_data *d, facts *f)
{
    *f = (facts){.data = d, .members = json_get(d->pareto, "members")};
    const cJSON *t;
    f->dense = json_get(d->pareto, "baseline");
    if (json_get(f->dense, "metrics")) f->dense = json_get(f->dense, "metrics");
    cJSON_ArrayForEach(t, d->trials) if (!cJSON_IsObject(f->dense) && is_baseline(t)) f->dense =
        json_get(t, "metrics");
    if (!cJSON_IsObject(f->dense)) f->dense = NULL;
    const cJSON *any = f->dense ? f->dense : metrics_of(f->members ? f->members->child : NULL);
    f->metric = json_str(any, "quality_metric", "quality");
    f->higher = json_bool(any, "quality_higher_is_better", strcmp(f->metric, "perplexity") != 0);
    name_things(f);
    count(f);
    choose(f);
    f->answer = make_answer(f);
    make_why(f);
    make_advice(f);
}

void facts_free(facts *f)
{
    free(f->model);
    free(f->dataset);
    free(f->answer);
    for (int i = 0; i < f->n_why; i++) free(f->why[i]);
    for (int i = 0; i < f->n_advice; i++) free(f->advice[i]);
    *f = (facts){0};
}

cJSON *facts_manners(const facts *f)
{
    cJSON *list = cJSON_CreateObject();
    const cJSON *trial, *text;
    cJSON_ArrayForEach(trial, f->data->trials) cJSON_ArrayForEach(text, json_get(trial, "manners"))
    {
        if (!cJSON_IsString(text)) continue;
        cJSON *known = json_get(list, text->valuestring);
        if (known)
            cJSON_SetNumberValue(known, known->valuedouble + 1);
        else if (cJSON_GetArraySize(list) < 100)
            cJSON_AddNumberToObject(list, text->valuestring, 1);
    }
    return list;
}
