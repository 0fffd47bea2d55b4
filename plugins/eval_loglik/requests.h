/* requests.h - from texts to requests for log-likelihoods, as lm-evaluation-harness makes them. */
#ifndef EVAL_LOGLIK_REQUESTS_H
#define EVAL_LOGLIK_REQUESTS_H
#include <sqz/eval.h>
#include <sqz/help.h>

/* Ids of one text with the tokenizer's default special tokens - none when it already begins with
 * the text of bos. */
sqz_status request_encode(const sqz_eval *, const char *text, const int32_t **ids, int64_t *n);
/* What an empty context is: bos, or eos; -1: neither is defined. */
int32_t request_prefix(const sqz_eval *);
/* One request: white space at the end of the context moves to the continuation, the continuation
 * is what the whole text has beyond the context's tokens, and of more tokens than the model's
 * context (and one) the last are kept.  Ids stay with the host. */
sqz_status request_make(const sqz_host *, const sqz_eval *, const char *context,
                        const char *continuation, sqz_loglik *out);

int64_t rows_wanted(const sqz_eval *);
/* Is `name` among the metrics that the rows' task lists?  -1: the rows are of no task. */
int task_wants(const sqz_rows *, const char *name);
/* Share of hits with its standard error. */
void report_share(const sqz_eval *, const char *name, int64_t hits, int64_t n);

/* The evaluations: batch = rows (windows) scored at once. */
sqz_status choice_score(const sqz_host *, const sqz_eval *, int64_t batch);
sqz_status continuation_score(const sqz_host *, const sqz_eval *, int64_t batch);
sqz_status rolling_score(const sqz_host *, const sqz_eval *, int64_t batch);
int32_t choice_match(const sqz_rows *);
int32_t continuation_match(const sqz_rows *);
int32_t rolling_match(const sqz_rows *);
#endif
