/* outcomes.h - per-item outcomes of an evaluation, as `sqz eval` leaves them: lines of JSON with
 * "i" (the row), "outcome", and a "note"; and the items that two evaluations have in common. */
#ifndef SQZ_CORE_PAIRED_OUTCOMES_H
#define SQZ_CORE_PAIRED_OUTCOMES_H
#include "error/error.h"
#include <stdint.h>

typedef struct outcome {
    int64_t i;
    double value;
    char *note; /* NULL: none, or not asked for */
} outcome;
typedef struct outcomes {
    outcome *at; /* by rising row, each row once */
    int64_t n;
} outcomes;
/* dataset: of a file that holds several (lines with "dataset"), only this one's; NULL = all.
 * Lines that are no outcomes are passed over. */
sqz_status outcomes_read(const char *path, const char *dataset, int with_notes, outcomes *out,
                         sqz_error *err);
void outcomes_free(outcomes *);

typedef struct outcome_pairs {
    double *a, *b;                   /* outcomes of the first and of the second */
    const outcome **first, **second; /* borrowed */
    int64_t n;
} outcome_pairs;
sqz_status outcomes_pair(const outcomes *a, const outcomes *b, outcome_pairs *out, sqz_error *err);
void outcome_pairs_free(outcome_pairs *);
#endif
