/* serve.h - the child side of a worker, apart from what a job does. */
#ifndef SQZ_CORE_WORKER_SERVE_H
#define SQZ_CORE_WORKER_SERVE_H
#include "worker/worker.h"

typedef sqz_status (*job_function)(const cJSON *job, const job_context *, cJSON **result,
                                   sqz_error *err);
/* Reads DIR/job.json, runs it by `execute`, writes DIR/result.json and DIR/events.jsonl, and speaks with
 * the parent when there is one.  Returns the exit status: 0 once result.json is written, whatever the
 * job came to. */
int worker_serve(const char *dir, job_function execute);
#endif
