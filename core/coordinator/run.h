/* run.h - one compression run as a value: open, step until done, close.
 *
 * No globals, no terminal, no signals, no exit: the caller renders the events and decides about
 * Ctrl-C.  What was decided is in journal.jsonl before it is acted on, so a run continues after a
 * kill at any point (run_resume).  The report is made from the run folder (core/report), not here.
 *
 * Files of the run folder, written by this room: run.json, journal.jsonl, trials.jsonl,
 * pareto.json, metrics.json, environment.json, quantization_summary.json, models/<strategy_id>/ (by
 * the workers).
 *
 * A trial (TRIAL below; one line of trials.jsonl, and what events carry) is an object:
 *   "strategy_id","label","index","kind": "baseline|seed|search","proposed_by","why",
 *   "steps":[{"use": full id,"with":{every parameter, resolved},"origin":{parameter: who chose it:
 *             "user","seed","search","default"},"rules":[...]}],
 *   "predicted":{"bytes","memory_bytes","seconds"},
 *   "outcome":"ok|failed|unsupported|cancelled|timeout|crashed|oom|protocol|refused|killed","reason",
 *   "rungs":{"proxy":{"results":{NAME:{metric..}},"kl":{..}},"full":{...}},   (as the worker gave)
 *   "items":{"full":{NAME: digest or path of the per-item outcomes}},
 *   "steps_result":{"bytes","effective_bits_per_weight","seconds","layers","calibration"},
 *   "bench":{contract's bench object},
 *   "metrics":{RESULT VECTOR},"objectives":[one value per objective, as measured],
 *   "reward","feasible","violations":[sentence],"front":bool,"artifact":digest,"seconds",
 *   "export":{"path","bytes","format","load_back"}  (front members, at the end), or
 *            {"outcome","code","message"} of one that failed
 * RESULT VECTOR C1 (absent where not measured):
 *   "quality" (the primary metric's value),"quality_metric","quality_dataset","quality_stderr",
 *   "quality_higher_is_better","accuracy","accuracy_stderr","perplexity","accuracy_drop",
 *   "accuracy_drop_stderr" (paired),"latency_ms" (per new token),"ttft_ms","tpot_ms",
 *   "throughput_tokens_per_second","prefill_tokens_per_second","memory_bytes","memory_gb","bytes",
 *   "effective_bits_per_weight","energy_j_per_1k_tokens","energy_origin":"measured|estimate",
 *   "co2_g_per_1k_tokens","compute","kl","reward","valid" */
#ifndef SQZ_CORE_RUN_H
#define SQZ_CORE_RUN_H
#include "config/config.h"
#include "host/host.h"
#include "worker/worker.h"

typedef struct run run;

typedef enum run_event_kind {
    RUN_EVENT_PLANNED,        /* detail = the plan (see run_plan) */
    RUN_EVENT_RESUMED,        /* text says what was taken from the journal */
    RUN_EVENT_TRIAL_PROPOSED, /* detail = TRIAL so far */
    RUN_EVENT_TRIAL_STARTED,  /* detail = TRIAL; rung says "baseline", "proxy", "full", "export" */
    RUN_EVENT_TRIAL_PROGRESS, /* done 0..1 and text of the running job */
    RUN_EVENT_TRIAL_FINISHED, /* detail = TRIAL, complete */
    RUN_EVENT_FRONT_CHANGED,  /* detail = pareto.json's object; front_size and hypervolume set */
    RUN_EVENT_EXPORTED,       /* detail = TRIAL with "export" */
    RUN_EVENT_STOPPED,        /* text = why no more trials are started */
    RUN_EVENT_LOG             /* text, level (SQZ_LOG_...) */
} run_event_kind;

/* Every event carries the state of the whole run, so a renderer needs no memory of its own. */
typedef struct run_event {
    run_event_kind kind;
    const char *strategy_id, *label, *rung, *text; /* may be NULL */
    const cJSON *detail;                           /* borrowed, may be NULL */
    double done;                                   /* of the running job */
    int level;
    int64_t trials, budget_trials; /* finished (baseline not counted); 0 = no budget */
    int64_t failed, killed;
    int64_t front_size;         /* distinct members */
    double hypervolume;         /* normalised to the box between ideal and reference, 0..1 */
    double elapsed_s, budget_s; /* budget NaN = none */
} run_event;
typedef void (*run_observer)(void *ctx, const run_event *);

/* Executes one job and fills *out; the product uses worker_run, tests inject a synthetic one. */
typedef void (*run_job_fn)(void *ctx, const cJSON *job, const char *dir, const worker_limits *,
                           const worker_hooks *, worker_outcome *out);

/* What memory and disk are left; the product looks at the machine, tests say their own. */
struct room;
typedef void (*run_look_fn)(void *ctx, const char *store, const char *dir, struct room *out);

typedef struct run_options {
    const config *config;       /* borrowed for the run's life; run_resume: NULL = as recorded */
    const catalogue *catalogue; /* borrowed */
    const char *output;         /* run folder; NULL = config's output, else runs/<id> */
    const char *store;          /* registry folder; NULL = registry_default_dir() */
    int threads;                /* 0 = config's, else all */
    run_observer observer;      /* may be NULL */
    void *observer_ctx;
    run_job_fn job; /* NULL = worker_run */
    void *job_ctx;
    run_look_fn look; /* NULL = room_look */
    void *look_ctx;
    const worker_hooks *reading; /* of data plugins that read data before the run begins, or NULL */
    double search_silence_s; /* a search without a word for so long is hung; 0 = 60 */
} run_options;

/* What would be done, without doing it: {"model","spec":{key:{"value","origin"}},"objectives",
 * "constraints","budget","methods":[{"id","params":{searched: [legal values]}}],"search","seeds":
 * [{"label","steps","predicted":{"bytes","memory_bytes","seconds"},"refused"}],"space_points",
 * "memory":{"available_bytes","limit_bytes"},"predicted":{"seconds","statistics_bytes",
 * "disk_bytes"},"config":full}.
 * Needs no output folder; the model may be a bare name. */
sqz_status run_plan(const run_options *, cJSON **plan, sqz_error *err);

/* A new run in an empty or absent folder (ERR_CONFLICT when it already holds a run). */
sqz_status run_open(const run_options *, run **out, sqz_error *err);
/* Continue the run of folder dir.  ERR_CONFLICT when the model, the data, a plugin whose results
 * are recorded or the config differ from the recorded ones, or another process holds the journal.
 */
sqz_status run_resume(const char *dir, const run_options *, run **out, sqz_error *err);
/* The configuration of the run of folder dir, for whoever needs it before resuming: its plugins. */
sqz_status run_recorded_config(const char *dir, config **, sqz_error *err);
/* Does the next thing (baseline, one trial, one export) and returns; *more = 0 when all is done.
 * A failed trial is no error.  Errors: storage, or a baseline that cannot be measured. */
sqz_status run_step(run *, int *more, sqz_error *err);
/* 1 = ask no more, let the running job end at its next tick, export and finish; 2 = kill it, too,
 * and skip exports.  Async-signal-safe. */
void run_cancel(run *, int level);
/* Writes the files of the folder in their final state.  Returns SQZ_OK, ERR_NO_RESULT (5),
 * ERR_BUDGET (6), SQZ_E_CANCELLED (130), ERR_PLUGIN (4) after a search that failed, the cause of an export that failed, or a storage error. */
sqz_status run_finish(run *, sqz_error *err);
void run_close(run *);

const char *run_dir(const run *);
const char *run_id(const run *);
const cJSON *run_front(const run *);    /* pareto.json's object */
const cJSON *run_baseline(const run *); /* TRIAL, or NULL before it was measured */
int64_t run_trial_count(const run *);
const cJSON *run_trial(const run *, int64_t i);
#endif
