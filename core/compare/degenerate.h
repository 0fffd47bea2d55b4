/* degenerate.h - generations gone wrong: repetition loops and incoherent text (docs/validate.md).
 *
 * Loops are looked for in the token ids, without a model.  Incoherent is a text that the baseline
 * finds far more surprising than the texts it would itself draw: a one-sided test of typicality.
 * Left out: whether a text is true. */
#ifndef SQZ_CORE_COMPARE_DEGENERATE_H
#define SQZ_CORE_COMPARE_DEGENERATE_H
#include <stdint.h>

typedef struct repetition {
    int64_t period, tokens; /* of the longest loop: ids of one turn, ids of all turns; 0 = none */
    double repeated;        /* share of the 4-grams that occurred before (seq-rep-4) */
} repetition;
/* 1 when the ids hold a loop: REPEAT_TURNS whole turns or more, over REPEAT_TOKENS ids or more,
 * with a period up to REPEAT_PERIOD. */
enum { REPEAT_TURNS = 4, REPEAT_TOKENS = 16, REPEAT_PERIOD = 64 };
int repetition_find(const int32_t *ids, int64_t n, repetition *out);

/* Different 2-grams over all 2-grams of several texts (distinct-2); NaN without any. */
double distinct_pairs(const int32_t *const *ids, const int64_t *n, int64_t texts);

/* Above it a value does not belong to the distribution of the n references: their mean plus the
 * normal quantile of 99.9 % times their spread, widened for the number of references.  Infinite
 * below 4 references. */
double surprise_limit(const double *references, int64_t n);
#endif
