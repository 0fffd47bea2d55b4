/* compare.h - two models side by side, from what their evaluations left: JSON first, and pages made
 * from it.  The keys are documented in docs/compare.md. */
#ifndef SQZ_CORE_COMPARE_H
#define SQZ_CORE_COMPARE_H
#include "error/error.h"
#include "json/json.h"
#include <stdint.h>

typedef struct compare_input {
    const char *name;                     /* of the data set */
    const char *dataset;                  /* its spec: what the rows say; NULL = not known */
    const char *base_items, *model_items; /* files of outcomes */
    int64_t shots;                        /* of a task, as it was evaluated; < 0 = as it says */
    int64_t draws, show;                  /* resamples; items listed of each kind of change */
    double difference;                    /* > 0: also say how many items would show it */
    uint64_t seed;
} compare_input;
/* Fills out: statistics, "summary" (a sentence), "differ" (items that changed), "groups" (where).
 */
sqz_status compare_items(const compare_input *, cJSON *out, sqz_error *err);

/* Lists of the results of two "generate" tasks; scored: what the base finds of the model's texts,
 * samples: of its own drawn ones; both NULL when they were not made.  malloc'd by cJSON. */
cJSON *compare_generations(const cJSON *base, const cJSON *model, const cJSON *scored,
                           const cJSON *samples);

/* Pages of a whole comparison: {"base","model","base_results","results","comparisons",
 * "generations"}.  malloc'd. */
char *compare_markdown(const cJSON *comparison);
char *compare_html(const cJSON *comparison);
#endif
