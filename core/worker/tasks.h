/* tasks.h - what one worker process holds while it executes the tasks of a job, and the tasks.
 * Private to core/worker. */
#ifndef SQZ_CORE_TASKS_H
#define SQZ_CORE_TASKS_H
#include "data/data.h"
#include "io/clock.h"
#include "worker/subject.h"
#include "worker/worker.h"

/* The format that fits an artifact; asking is dear, so the answer is kept from task to task. */
typedef struct export_plan {
    char artifact[DIGEST_TEXT];
    const agent_info *only;   /* the format that was asked for, or NULL */
    const agent_info *format; /* the one that fits; NULL until found */
    int64_t bytes;            /* of all tensors that it would write */
} export_plan;

typedef struct job_state {
    const cJSON *job;
    const job_context *ctx;
    registry *registry;
    catalogue *catalogue;
    host *host;
    backend backend;
    char base[DIGEST_TEXT];     /* of the model folder; "" until job_base */
    char artifact[DIGEST_TEXT]; /* what later tasks work on; "" = the folder as it is */
    export_plan plan;
    double part_from, part_to; /* this task's share of the job's progress */
} job_state;

const char *job_model(const job_state *);
sqz_status job_base(job_state *, sqz_error *err);
/* Progress of the current task; non-zero = stop. */
int job_tick(job_state *, double done, const char *what);
__attribute__((format(printf, 3, 4))) void job_log(job_state *, int level, const char *fmt, ...);
/* Open the job's model, with the current artifact when with_artifact is set. */
sqz_status job_subject(job_state *, int with_artifact, int resident, subject **out, sqz_error *err);

sqz_status task_steps(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
sqz_status task_eval(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
sqz_status task_bench(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
sqz_status task_generate(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
sqz_status task_export(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
sqz_status task_convert(job_state *, const cJSON *task, cJSON *result, sqz_error *err);
/* Bytes of all tensors the format would write for the current artifact; 0 and the format's reason
 * when it cannot hold it.  format NULL = the best one. */
sqz_status export_fits(job_state *, subject *, const char *format, int64_t *bytes, sqz_error *err);

/* ---- calibrate.c: the windows that methods are calibrated on, from the data or the registry ----
 */
typedef struct calibrated {
    calibration windows;
    cJSON *facts; /* {"sources":[{"source","split","weight","rows","windows","left_out","overlap"}],
                     "packing"} */
    int cached;   /* found, not tokenized now */
} calibrated;
sqz_status calibrate(job_state *, const cJSON *spec, calibrated *out, sqz_error *err);
void calibrated_free(calibrated *);

/* ---- statistics.c: second moments of every linear's inputs, once per (model, calibration)
 * ---------- */
typedef struct statistics {
    cJSON *index; /* {"tokens","layers":[object digest per block]} */
    int cached;   /* found, not computed now */
    double seconds;
} statistics;
sqz_status statistics_ensure(job_state *, subject *, const calibration *, statistics *out,
                             sqz_error *err);
void statistics_free(statistics *);

typedef struct moment {
    char input[32]; /* linear_spec.input */
    int64_t n;
    int64_t tokens; /* that were this input */
    float *xtx;     /* [n, n], both triangles, divided by the tokens; NULL when there were none */
    uint64_t id;    /* sqz_linear.xtx_id: differs between layers and inputs */
} moment;

typedef struct layer_statistics {
    moment *moments;
    int64_t n;
} layer_statistics;
/* The object's hash is proved.  beside (may be NULL) is called once, whatever comes of it, at the
 * same time, on a thread of the pool. */
sqz_status statistics_load(job_state *, subject *, const statistics *, int64_t layer,
                           void (*beside)(void *), void *ctx, layer_statistics *out,
                           sqz_error *err);
void layer_statistics_free(layer_statistics *);

/* The model as a step has quantized it so far, and the calibration's hidden states before the block
 * that is being quantized.  Moments are of one input of that block at a time. */
typedef struct prefix prefix;
typedef struct prefix_results {
    void *ctx;
    const sqz_affine *(*find)(void *ctx, const char *module); /* NULL: not quantized (yet) */
} prefix_results;
sqz_status prefix_open(job_state *, subject *, const calibration *, prefix_results fresh,
                       prefix **out, sqz_error *err);
void prefix_close(prefix *);
sqz_status prefix_statistics(prefix *, int64_t layer, const char *input, layer_statistics *out,
                             sqz_error *err);
/* After the last linear of the block, while its results are still there. */
sqz_status prefix_advance(prefix *, int64_t layer, sqz_error *err);
const moment *layer_statistics_find(const layer_statistics *, const char *input);
#endif
