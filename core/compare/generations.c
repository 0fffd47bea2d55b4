/* generations.c - what two models write after the same prompts, and what went wrong in it. */
#include "compare/compare.h"
#include "compare/degenerate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct text_ids {
    int32_t *ids; /* NULL without memory */
    int64_t n;
} text_ids;

static text_ids read_ids(const cJSON *generation)
{
    const cJSON *list = json_get(generation, "ids"), *item;
    text_ids t = {malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof(int32_t)), 0};
    cJSON_ArrayForEach(item, list) if (t.ids) t.ids[t.n++] = item->valueint;
    return t;
}

/* ---- limits ---------------------------------------------------------------------------------- */
typedef struct limits {
    double loss, worst; /* infinite: not known */
} limits;
/* A shorter answer may be wrong; it is no text that could be incoherent. */
enum { FEWEST_TOKENS = 8 };

static double limit_of(const cJSON *samples, const char *key)
{
    int n = cJSON_GetArraySize(samples), k = 0;
    double *v = malloc(((size_t)n + 1) * sizeof *v), limit = INFINITY;
    const cJSON *item;
    cJSON_ArrayForEach(item, samples)
    {
        double x = json_num(item, key, NAN);
        if (v && isfinite(x)) v[k++] = x;
    }
    if (v) limit = surprise_limit(v, k);
    free(v);
    return limit;
}

/* ---- one text -------------------------------------------------------------------------------- */
/* Adds "failures": "loop", "incoherent", "empty"; tells how many.  surprise: the base's. */
static int judge(cJSON *o, const text_ids *t, const cJSON *surprise, const limits *l)
{
    repetition r;
    int n = 0, loop = repetition_find(t->ids, t->n, &r);
    cJSON *list = cJSON_AddArrayToObject(o, "failures");
    json_add_num(o, "tokens", (double)t->n);
    json_add_num(o, "repeated_4grams", r.repeated);
    if (loop) {
        cJSON_AddItemToArray(list, cJSON_CreateString("loop"));
        json_add_num(o, "loop_period", (double)r.period);
        json_add_num(o, "loop_tokens", (double)r.tokens);
        n++;
    }
    int surprising =
        json_num(surprise, "loss", 0) > l->loss || json_num(surprise, "worst", 0) > l->worst;
    if (surprising && t->n >= FEWEST_TOKENS) {
        cJSON_AddItemToArray(list, cJSON_CreateString("incoherent"));
        n++;
    }
    if (!t->n) {
        cJSON_AddItemToArray(list, cJSON_CreateString("empty"));
        n++;
    }
    return n;
}

static cJSON *side(const cJSON *generation, const text_ids *t, const cJSON *surprise,
                   const limits *l, int *failures)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "text", json_str(generation, "text", ""));
    cJSON_AddBoolToObject(o, "stopped", json_bool(generation, "stopped", 0));
    json_add_num(o, "own_loss", json_num(generation, "loss", NAN));
    json_add_num(o, "base_loss", json_num(surprise, "loss", NAN));
    json_add_num(o, "base_worst", json_num(surprise, "worst", NAN));
    *failures = judge(o, t, surprise, l);
    return o;
}

static int has(const cJSON *side, const char *failure)
{
    const cJSON *item;
    cJSON_ArrayForEach(
        item, json_get(side, "failures")) if (cJSON_IsString(item) &&
                                              !strcmp(item->valuestring, failure)) return 1;
    return 0;
}

/* Bytes that both texts begin with, up to the beginning of a character. */
static size_t common_bytes(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    while (n && (((unsigned char)a[n] & 0xC0) == 0x80 || ((unsigned char)b[n] & 0xC0) == 0x80)) n--;
    return n;
}

/* ---- all ------------------------------------------------------------------------------------- */
static const char *const kinds[] = {"loop", "incoherent", "empty"};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

typedef struct tally {
    int64_t n, same, new_failures, base[N_KINDS], model[N_KINDS], fresh[N_KINDS];
    double matched; /* sum over texts of the share of ids before the first difference */
} tally;

static void compare_pair(cJSON *list, const cJSON *base, const cJSON *model, const text_ids ids[2],
                         const cJSON *scored, const limits *l, tally *t)
{
    cJSON *o = cJSON_CreateObject(), *sides[2];
    int failures[2];
    int64_t first = 0, least = ids[0].n < ids[1].n ? ids[0].n : ids[1].n;
    int64_t most = ids[0].n < ids[1].n ? ids[1].n : ids[0].n;
    while (first < least && ids[0].ids[first] == ids[1].ids[first]) first++;
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "prompt", json_str(base, "prompt", ""));
    sides[0] = side(base, &ids[0], base, l, &failures[0]);
    sides[1] = side(model, &ids[1], scored, l, &failures[1]);
    cJSON_AddBoolToObject(o, "same", first == most);
    if (first < most) json_add_num(o, "first_difference", (double)first);
    json_add_num(
        o, "common_bytes",
        (double)common_bytes(json_str(sides[0], "text", ""), json_str(sides[1], "text", "")));
    int fresh = 0;
    for (int k = 0; k < N_KINDS; k++) {
        int a = has(sides[0], kinds[k]), b = has(sides[1], kinds[k]);
        t->base[k] += a;
        t->model[k] += b;
        t->fresh[k] += b && !a;
        fresh |= b && !a;
    }
    t->n++;
    t->same += first == most;
    t->matched += most ? (double)first / (double)most : 1;
    t->new_failures += fresh;
    cJSON_AddItemToObject(o, "base", sides[0]);
    cJSON_AddItemToObject(o, "model", sides[1]);
}

static void add_tally(cJSON *o, const tally *t)
{
    json_add_num(o, "n", (double)t->n);
    json_add_num(o, "same", (double)t->same);
    json_add_num(o, "mean_share_before_difference", t->matched / (double)t->n);
    json_add_num(o, "new_failures", (double)t->new_failures);
    for (int k = 0; k < N_KINDS; k++) {
        cJSON *f = cJSON_AddObjectToObject(o, kinds[k]);
        json_add_num(f, "base", (double)t->base[k]);
        json_add_num(f, "model", (double)t->model[k]);
        json_add_num(f, "new", (double)t->fresh[k]);
    }
}

cJSON *compare_generations(const cJSON *base, const cJSON *model, const cJSON *scored,
                           const cJSON *samples)
{
    int n = cJSON_GetArraySize(base), m = cJSON_GetArraySize(model), least = n < m ? n : m;
    limits l = {limit_of(samples, "loss"), limit_of(samples, "worst")};
    cJSON *o = cJSON_CreateObject(), *list = cJSON_CreateArray();
    const int32_t **ids[2] = {calloc((size_t)least + 1, sizeof(int32_t *)),
                              calloc((size_t)least + 1, sizeof(int32_t *))};
    int64_t *lengths[2] = {calloc((size_t)least + 1, 8), calloc((size_t)least + 1, 8)};
    tally t = {0};
    int i = 0;
    for (; i < least && ids[0] && ids[1] && lengths[0] && lengths[1]; i++) {
        const cJSON *a = cJSON_GetArrayItem(base, i), *b = cJSON_GetArrayItem(model, i);
        text_ids both[2] = {read_ids(a), read_ids(b)};
        if (both[0].ids && both[1].ids)
            compare_pair(list, a, b, both, cJSON_GetArrayItem(scored, i), &l, &t);
        for (int k = 0; k < 2; k++) {
            ids[k][i] = both[k].ids;
            lengths[k][i] = both[k].n;
        }
    }
    if (t.n) add_tally(o, &t);
    json_add_num(o, "base_loss_limit", l.loss);
    json_add_num(o, "base_worst_limit", l.worst);
    for (int k = 0; k < 2; k++) {
        if (t.n)
            json_add_num(o, k ? "model_distinct_2" : "base_distinct_2",
                         distinct_pairs(ids[k], lengths[k], i));
        for (int j = 0; j < i; j++) free((void *)(uintptr_t)ids[k][j]);
        free(ids[k]);
        free(lengths[k]);
    }
    cJSON_AddItemToObject(o, "pairs", list);
    return o;
}
