/* random.h - CPython's random module, as far as lm-evaluation-harness draws from it.
 *
 * MT19937 seeded with a whole number, `sample` of indices, `random` and the resampling that its
 * bootstrap makes, so that few-shot examples and standard errors are the harness's own. */
#ifndef SQZ_RUNTIME_TASK_RANDOM_H
#define SQZ_RUNTIME_TASK_RANDOM_H
#include "error/error.h"

typedef struct python_random {
    uint32_t state[624];
    int at;
} python_random;

void python_random_seed(python_random *, uint32_t seed);
double python_random_next(python_random *); /* [0, 1) with 53 bits */
/* sample(range(n), k) into out[k]; k <= n. */
sqz_status python_random_sample(python_random *, int64_t n, int64_t k, int64_t *out,
                                sqz_error *err);
/* Standard error of exp(-mean(values)) by 100,000 resamples in 100 chunks, each with its own
 * generator; runs on the pool. */
sqz_status bootstrap_perplexity(const double *values, int64_t n, double *out, sqz_error *err);
#endif
