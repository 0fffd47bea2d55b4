/* degenerate.c - see degenerate.h. */
#include "compare/degenerate.h"
#include "paired/paired.h"
#include <math.h>
#include <stdlib.h>

/* How many of the n-grams have stood before, by sorting their places. */
typedef struct grams {
    const int32_t *ids;
    int64_t length;
} grams;

static int64_t compare_at(const grams *g, int64_t a, int64_t b)
{
    for (int64_t k = 0; k < g->length; k++)
        if (g->ids[a + k] != g->ids[b + k]) return g->ids[a + k] < g->ids[b + k] ? -1 : 1;
    return 0;
}

static int by_gram(const void *a, const void *b, void *ctx)
{
    return (int)compare_at(ctx, *(const int64_t *)a, *(const int64_t *)b);
}

/* Different among `count` places, which are sorted. */
static int64_t different(const grams *g, int64_t *places, int64_t count)
{
    int64_t found = count > 0;
    qsort_r(places, (size_t)count, sizeof *places, by_gram, (void *)(uintptr_t)g);
    for (int64_t i = 1; i < count; i++) found += compare_at(g, places[i - 1], places[i]) != 0;
    return found;
}

static double share_repeated(const int32_t *ids, int64_t n)
{
    enum { LENGTH = 4 };
    grams g = {ids, LENGTH};
    int64_t count = n - LENGTH + 1, *places = count > 0 ? malloc((size_t)count * 8) : NULL;
    if (!places) return 0;
    for (int64_t i = 0; i < count; i++) places[i] = i;
    double share = 1 - (double)different(&g, places, count) / (double)count;
    free(places);
    return share;
}

int repetition_find(const int32_t *ids, int64_t n, repetition *out)
{
    *out = (repetition){0, 0, share_repeated(ids, n)};
    for (int64_t period = 1; period <= REPEAT_PERIOD && period < n; period++) {
        int64_t run = 0; /* ids so far in a row that equal the one a period before */
        for (int64_t i = period; i < n; i++) {
            run = ids[i] == ids[i - period] ? run + 1 : 0;
            int64_t tokens = run + period;
            if (run && tokens >= REPEAT_TOKENS && tokens / period >= REPEAT_TURNS &&
                tokens > out->tokens) {
                out->period = period;
                out->tokens = tokens;
            }
        }
    }
    return out->tokens > 0;
}

double distinct_pairs(const int32_t *const *ids, const int64_t *n, int64_t texts)
{
    int64_t all = 0, count = 0, at = 0;
    for (int64_t t = 0; t < texts; t++) all += n[t];
    int32_t *joined = malloc((size_t)(all + 1) * sizeof *joined);
    int64_t *places = malloc((size_t)(all + 1) * sizeof *places);
    for (int64_t t = 0; t < texts && joined && places; t++) {
        for (int64_t i = 0; i < n[t]; i++) {
            if (i + 1 < n[t]) places[count++] = at; /* no pair across two texts */
            joined[at++] = ids[t][i];
        }
    }
    grams g = {joined, 2};
    double share = count ? (double)different(&g, places, count) / (double)count : NAN;
    free(joined);
    free(places);
    return share;
}

double surprise_limit(const double *references, int64_t n)
{
    double mean = 0, squares = 0, m = (double)n;
    if (n < 4) return INFINITY;
    for (int64_t i = 0; i < n; i++) mean += references[i] / m;
    for (int64_t i = 0; i < n; i++) squares += pow(references[i] - mean, 2);
    return mean + normal_quantile(0.999) * sqrt(squares / (m - 1) * (1 + 1 / m));
}
