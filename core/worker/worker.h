/* worker.h - one job, one child process: spawn, limits, outcome.
 *
 * The parent writes <dir>/job.json, spawns this program as `sqz worker <dir>` (posix_spawn, own process
 * group, PR_SET_PDEATHSIG, RLIMIT_DATA), reads progress lines from a socketpair, watches deadline and
 * resident memory, and reads <dir>/result.json.  stderr goes to <dir>/stderr.log.
 *
 * job.json   {"schema":"sqz.job/1","job":id,"store":dir,"threads":n,"seed":n,
 *             "plugins":{"path":[],"allow":[],"deny":[]},"model":MODEL dir,"compute":"fp32|bf16|auto",
 *             "artifact":digest or absent,"tasks":[TASK,...],
 *             "memory_limit":bytes of worker_limits, absent without one}
 * TASK is one of (see core/worker/tasks/):
 *   {"task":"steps","calibration":{...},"steps":[{"use","with","rules"}],"must_export"}
 *       -> an artifact, which later tasks use; must_export: unsupported when no format can hold it
 *   {"task":"eval","evals":[{"name","dataset","limit","window","use","with"}],"kl":{...}}
 *   {"task":"generate","prompts":[],"datasets":[],"count","max_new_tokens","rounds","samples","score":[]}
 *   {"task":"bench","prompt_tokens","new_tokens","repeats"}
 *   {"task":"export","format","output"}
 *   {"task":"convert","source","reader":{"use","with"}}    (a job of only these needs no model)
 * result.json {"schema":"sqz.result/1","job":id,"state":"ok|failed|unsupported|cancelled",
 *             "error":{"code","message"},"tasks":[result of each finished task],
 *             "manners":[{"agent","did"}] (see manners.h; absent when there is nothing to say),
 *             "usage":{"seconds","peak_rss_bytes"}} */
#ifndef SQZ_CORE_WORKER_H
#define SQZ_CORE_WORKER_H
#include "error/error.h"
#include "json/json.h"

typedef enum outcome_state {
    OUTCOME_OK, OUTCOME_FAILED, OUTCOME_UNSUPPORTED, OUTCOME_CANCELLED,
    OUTCOME_TIMEOUT, OUTCOME_CRASHED, OUTCOME_OOM, OUTCOME_PROTOCOL
} outcome_state;
const char *outcome_name(outcome_state);

typedef struct worker_limits {
    double deadline_s;     /* 0 = none */
    int64_t memory_bytes;  /* resident; 0 = none */
} worker_limits;

typedef struct worker_outcome {
    outcome_state state;
    sqz_status code;       /* of the failure, for the exit code of one-step commands */
    int signal;            /* of a crash, else 0 */
    char message[1024];    /* one sentence, what happened */
    char *stderr_tail;     /* last 50 lines, or NULL */
    cJSON *result;         /* result.json, or NULL */
    double seconds;
    int64_t peak_rss_bytes;
} worker_outcome;
void worker_outcome_free(worker_outcome *);

typedef struct worker_hooks {
    /* Progress of the running task; called from worker_run / worker_poll. */
    void (*progress)(void *ctx, double done, const char *what);
    /* Log lines of agents (level >= INFO). */
    void (*log)(void *ctx, int level, const char *text);
    /* Polled at least every 100 ms; 1 = cancel kindly (tick says stop, 5 s, SIGTERM, 2 s, SIGKILL),
     * 2 = kill now. */
    int (*cancel)(void *ctx);
    void *ctx;
} worker_hooks;

/* Runs the job to its end.  dir is created; job is borrowed. */
void worker_run(const cJSON *job, const char *dir, const worker_limits *, const worker_hooks *,
                worker_outcome *out);
/* The child: `sqz worker DIR`; returns its exit status. */
int worker_main(const char *dir);

/* What the child executes for one job; implemented in job.c, called by worker_main (and in-process by
 * tests).  *result: the object for result.json. */
struct agent_info;
typedef struct job_context {
    int (*tick)(void *ctx, double done, const char *what); /* non-zero = stop */
    void (*log)(void *ctx, int level, const char *text);
    void *ctx;
    /* An agent is about to run, and has run (see host_set_enter); may be NULL. */
    void (*enter)(void *ctx, const struct agent_info *);
    void (*leave)(void *ctx, const struct agent_info *);
} job_context;
sqz_status job_execute(const cJSON *job, const job_context *, cJSON **result, sqz_error *err);
#endif
