/* requests.h - generation as a task declares it; requests.c says how. */
#ifndef EVAL_EXACT_MATCH_REQUESTS_H
#define EVAL_EXACT_MATCH_REQUESTS_H
#include <sqz/eval.h>
#include <sqz/help.h>

/* Are the rows requests of a task? */
int requests_are(const sqz_rows *);
sqz_status requests_run(const sqz_host *, const sqz_eval *, int64_t batch);
#endif
