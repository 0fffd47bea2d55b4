/* criteria.c - see criteria.h. */
#include "compare/criteria.h"
#include <math.h>
#include <string.h>

static const struct {
    const char *name, *meaning;
} known[] = {
    {"accuracy_drop", "accuracy lost, as a share of the items"},
    {"perplexity_increase", "perplexity / the base's perplexity - 1"},
    {"divergence", "mean divergence of the predictions from the base's, nats a token"},
    {"same_top", "share of tokens with the base's likeliest one"},
    {"loops", "share of generations in a repetition loop where the base's is in none"},
    {"incoherent", "share of generations that the base finds incoherent, its own not"},
    {"empty", "share of generations without a token where the base writes some"},
    {"loads_back", "1 when the model opens and its export's proof says so"},
    {"repeatable", "1 when every round of generations gave the same tokens"},
    {"memory_growth", "resident memory after the last round / after the first - 1"},
    {"slowdown", "seconds a token of the slowest round / of the fastest - 1"},
    {"smaller", "bytes of the compressed weights in the base / in the model"},
    {"speedup", "the base's time per token / the model's"},
    {"memory", "the base's peak memory / the model's"},
};
enum { N_KNOWN = sizeof known / sizeof *known };

const char *criterion_name(int k, const char **meaning)
{
    if (k < 0 || k >= N_KNOWN) return NULL;
    if (meaning) *meaning = known[k].meaning;
    return known[k].name;
}

static const char *meaning_of(const char *name)
{
    for (int k = 0; k < N_KNOWN; k++)
        if (!strcmp(known[k].name, name)) return known[k].meaning;
    return NULL;
}

/* A number, or numbers by bits. */
static int is_limit(const cJSON *limit)
{
    const cJSON *by;
    if (cJSON_IsNumber(limit)) return 1;
    if (!cJSON_IsObject(limit)) return 0;
    cJSON_ArrayForEach(by, limit) if (!cJSON_IsNumber(by)) return 0;
    return 1;
}

sqz_status criteria_check(const cJSON *preset, const char *where, sqz_error *err)
{
    const cJSON *one, *limit, *all = json_get(preset, "criteria");
    const char *certainty = json_str(preset, "certainty", "estimate"), *names[N_KNOWN];
    if (!cJSON_IsObject(all))
        return err_set(err, ERR_USAGE, "%s: an object \"criteria\" is needed", where);
    if (strcmp(certainty, "estimate") != 0 && strcmp(certainty, "interval") != 0)
        return err_set(err, ERR_USAGE, "%s: certainty is \"%.40s\"; use estimate or interval",
                       where, certainty);
    for (int k = 0; k < N_KNOWN; k++) names[k] = known[k].name;
    cJSON_ArrayForEach(one, all)
    {
        const char *near = json_nearest(one->string, names, N_KNOWN);
        if (!meaning_of(one->string))
            return err_set(err, ERR_USAGE, "%s: there is no criterion \"%.60s\"%s%s%s", where,
                           one->string, near ? "; did you mean " : "", near ? near : "",
                           near ? "?" : "");
        cJSON_ArrayForEach(
            limit,
            one) if ((strcmp(limit->string, "most") != 0 && strcmp(limit->string, "least") != 0) ||
                     !is_limit(limit)) return err_set(err, ERR_USAGE,
                                                      "%s: %s: a limit is \"most\" or \"least\" "
                                                      "with a number, or with "
                                                      "numbers by bits",
                                                      where, one->string);
    }
    return SQZ_OK;
}

/* NaN: no limit of this kind. */
static double limit_of(const criteria *c, const cJSON *one, const char *kind)
{
    const cJSON *limit = json_get(one, kind);
    return cJSON_IsObject(limit) ? json_num(limit, c->bits, NAN) : json_num(one, kind, NAN);
}

void criteria_judge(criteria *c, const char *name, const char *of, criterion_value v)
{
    const cJSON *one = json_get(json_get(c->preset, "criteria"), name);
    int whole = !strcmp(json_str(c->preset, "certainty", "estimate"), "interval");
    double most = limit_of(c, one, "most"), least = limit_of(c, one, "least");
    double high = whole && isfinite(v.high) ? v.high : v.value;
    double low = whole && isfinite(v.low) ? v.low : v.value;
    const char *verdict = "pass";
    if (!isfinite(v.value))
        verdict = "not measured";
    else if (isnan(most) && isnan(least))
        verdict = "told";
    else if (high > most || low < least) /* comparisons with NaN are false */
        verdict = "fail";
    c->failed += !strcmp(verdict, "fail");
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(c->list, o);
    cJSON_AddStringToObject(o, "name", name);
    if (of) cJSON_AddStringToObject(o, "of", of);
    json_add_num(o, "value", v.value);
    json_add_num(o, "low", v.low);
    json_add_num(o, "high", v.high);
    json_add_num(o, "most", most);
    json_add_num(o, "least", least);
    cJSON_AddStringToObject(o, "verdict", verdict);
    cJSON_AddStringToObject(o, "meaning", meaning_of(name));
}
