/* early.h - an evaluation that ends when its decision is certain (paired/sequential.h).
 *
 * "early" of an evaluation's spec: {"against": FILE of the other model's outcomes, "margin": D,
 * "alpha": A, "seed": N, "only_worse": bool}.  Rows (windows of text) that the other model has,
 * too, are evaluated in an order drawn by the seed.  Decided is whether this model is worse than
 * the other by more than D: of right and wrong items, accuracy lost; of text, perplexity / its
 * perplexity - 1.  only_worse: a model within the margin is evaluated to the end.  other_tokens:
 * the other model splits text differently, so that text is refused. */
#ifndef SQZ_CORE_WORKER_EARLY_H
#define SQZ_CORE_WORKER_EARLY_H
#include "data/data.h"
#include "json/json.h"

enum { EARLY_LOOK = 16 }; /* items between two looks */

typedef struct early early;
/* name: of the data set; primary: metric that the evaluation says ranks models. */
sqz_status early_open(const cJSON *spec, const char *name, const char *primary, early **out,
                      sqz_error *err);
void early_close(early *);
/* The rows of the set become those in common, in random order.  limit > 0: of the first so many. */
sqz_status early_rows(early *, dataset *, int64_t limit, sqz_error *err);
/* The same for the windows of running text; *n ids stay. */
sqz_status early_windows(early *, int32_t *ids, int64_t *n, int64_t window, int64_t limit,
                         sqz_error *err);
/* The row behind the index-th item; its outcome counts. */
int64_t early_item(early *, int64_t index, double outcome);
int early_enough(const early *);
/* Adds "sequential" to the results. */
void early_report(const early *, cJSON *metrics);
#endif
