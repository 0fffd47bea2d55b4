/* divergence.h - how far a model's predictions are from the baseline's, on the same tokens. */
#ifndef SQZ_CORE_WORKER_DIVERGENCE_H
#define SQZ_CORE_WORKER_DIVERGENCE_H
#include "worker/tasks.h"

/* spec: {"dataset","tokens","window","make":true} makes the record of a baseline's likeliest
 * tokens, {"record":digest} measures against one; out receives the result. */
sqz_status divergence_run(job_state *, subject *, const cJSON *spec, cJSON *out, sqz_error *err);
#endif
