/* answers.h - what a task takes from a generated text, and when that is the right answer.
 *
 * filter_list and the exact_match metric of a task definition: each filter is a chain of functions
 * (regex, remove_whitespace, lowercase, uppercase, take_first), and exact_match compares after its
 * own clean-up of both sides.  Left out: filters that look at several responses. */
#ifndef SQZ_RUNTIME_TASK_ANSWERS_H
#define SQZ_RUNTIME_TASK_ANSWERS_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

typedef struct answers answers;
/* filters: "filter_list" or NULL; metric: the exact_match entry of "metric_list" or NULL. */
sqz_status answers_new(const cJSON *filters, const cJSON *metric, const char *where, answers **out,
                       sqz_error *err);
void answers_free(answers *);
int64_t answers_filters(const answers *); /* at least 1 */
const char *answers_name(const answers *, int64_t filter);
/* What the filter leaves of the response, and whether exact_match calls it the target. */
sqz_status answers_judge(answers *, int64_t filter, const char *response, const char *target,
                         text_buffer *extracted, int *same, sqz_error *err);
#endif
