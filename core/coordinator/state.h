/* state.h - what a run holds, shared by the files of this room and by nobody else.
 *
 * Resume is replay: the loop of run.c runs the same code again, and every outside effect (a
 * proposal, a job's result, the decision to stop) is taken from the journal as long as it has a
 * next record (decided() in ledger.c), then done for real.  So a resumed run cannot decide anything
 * differently. */
#ifndef SQZ_CORE_STATE_H
#define SQZ_CORE_STATE_H
#include "coordinator/room.h"
#include "coordinator/run.h"
#include "coordinator/seeds.h"
#include "coordinator/sources.h"
#include "coordinator/space.h"
#include "coordinator/spec.h"
#include "io/clock.h"
#include "journal.h"
#include "paired/paired.h"
#include "worker/carrier.h"
#include "registry.h"
#include <stdatomic.h>

enum { MAX_OBJECTIVES = 8 };

typedef struct objective {
    const char *name;    /* of the config */
    const char *dataset; /* accuracy, perplexity, quality: whose metric; NULL otherwise */
    const char *metric;
    int higher_is_better;
} objective;

typedef struct trial {
    cJSON *json;   /* TRIAL of run.h */
    double *x;     /* [n_dims] */
    int evaluated; /* the full rung succeeded */
    int feasible;
    double f[MAX_OBJECTIVES]; /* minimised; NaN when not measured */
} trial;

typedef enum phase { PHASE_BASELINE, PHASE_SEARCH, PHASE_EXPORT, PHASE_DONE } phase;

struct run {
    run_options options;
    const config *config;
    config *own_config; /* of a resumed run, when the caller gave none */
    char *dir, *id, *store;
    cJSON *spec, *plan, *fingerprint;
    spec_machine machine;
    sources data;
    model_config model;
    int64_t model_bytes; /* of the checkpoint's tensors */
    strategy_space *space;
    seed_list seeds;
    int next_seed;
    registry *registry; /* for lineage; NULL when it cannot be opened */

    const agent_info *search; /* its process is started by the first question */
    cJSON *search_with;       /* its parameters, resolved */
    carrier *searcher;
    char *search_log;
    cJSON *told;          /* finished points that it is told with the next question */
    char *search_failure; /* why it is asked no more */
    int search_replaced;  /* another one proposed recorded points: they are taken, not asked for */

    journal *journal;
    const cJSON **replay; /* [n_replay] records still to be taken, in order */
    int64_t n_replay, at;
    const cJSON **exported; /* [n_exported] recorded results of exports that went well */
    int64_t n_exported;
    double elapsed_before; /* seconds of earlier sessions */
    double started;        /* monotonic */
    char *began;           /* wall clock of the first session */

    phase phase;
    trial baseline;
    trial *trials;
    int64_t n_trials;
    objective objectives[MAX_OBJECTIVES];
    int n_objectives;
    double reference[MAX_OBJECTIVES], ideal[MAX_OBJECTIVES]; /* minimised */
    double hypervolume, hypervolume_norm;
    cJSON *history;     /* [{"trial","seconds","hypervolume"}] */
    int64_t since_gain; /* finished trials since the volume last grew */
    int64_t n_failed, n_killed, n_refused;
    int64_t n_aside; /* of n_refused: because a method was put aside */
    int exhausted;               /* the search has nothing new */
    int kl_distrusted;           /* the divergence stopped predicting quality */
    cJSON *front;                /* pareto.json */
    int64_t *members, n_members; /* indices of trials */
    int64_t next_export;
    char *stop_kind, *stop_text;
    int cut_off;          /* cancelled at level 2: no exports */
    double time_scale;    /* measured / predicted seconds, from the baseline */
    double trial_seconds; /* sum over finished trials */
    cJSON *hardware;      /* what the workers said about themselves */
    cJSON *said;          /* the last different lines of the workers' logs */
    room_monitor monitor; /* of memory and disk while jobs run */

    atomic_int cancel;
};

/* ---- ledger.c: the journal as the only source of decisions -------------------------------------
 */
/* The next recorded decision of this type (borrowed), or NULL when the replay is over.  A record of
 * another type is a conflict: the journal was not written by this code and these inputs. */
sqz_status ledger_take(run *, const char *type, const cJSON **out, sqz_error *err);
int ledger_replaying(const run *);
/* Type of the next record, or NULL. */
const char *ledger_peek(const run *);
/* Appends (durably) and returns the record, borrowed; takes ownership of record. */
sqz_status ledger_append(run *, cJSON *record, const cJSON **out, sqz_error *err);
cJSON *ledger_record(const char *type);
/* The recorded result of this trial's export when it went well (borrowed), else NULL: exports
 * decide nothing, so they are found by name, and one that failed is tried again. */
const cJSON *ledger_exported(const run *, const char *strategy_id);
/* Records that resume must not repeat: what an interrupted session did after it was told to stop.
 */
sqz_status ledger_prepare(run *, sqz_error *err);
double run_elapsed(const run *);

/* ---- predict.c
 * ----------------------------------------------------------------------------------- */
typedef struct prediction {
    double bytes, memory_bytes, seconds;
} prediction;
prediction predict_trial(const model_config *, const cJSON *spec, const config *,
                         const cJSON *steps);
prediction predict_baseline(const model_config *, const cJSON *spec, const config *);

/* ---- searcher.c
 * ----------------------------------------------------------------------------------- */
sqz_status searcher_open(run *, sqz_error *err);
/* SQZ_SEARCH_EXHAUSTED when nothing is left, and when the search failed (search_failure then); an
 * error in a replay, whose question was answered before.  JOB_CANCELLED when the user was faster. */
sqz_status searcher_ask(run *, double *x, char *why, size_t why_bytes, sqz_error *err);
/* The point of a recorded proposal. */
sqz_status searcher_recorded(const run *, const cJSON *record, double *x, char *why,
                             size_t why_bytes, sqz_error *err);
void searcher_tell(run *, const trial *);
void searcher_close(run *);
const agent_info *searcher_find(const config *, const catalogue *, sqz_error *err);

/* ---- jobs.c
 * ---------------------------------------------------------------------------------------- */
enum { JOB_CANCELLED = 1 }; /* positive: no failure, but nothing was recorded */
/* Runs (or replays) one rung of a trial; *result: the ledger's record, borrowed. */
sqz_status job_baseline(run *, const cJSON **result, sqz_error *err);
sqz_status job_proxy(run *, trial *, const cJSON **result, sqz_error *err);
sqz_status job_full(run *, trial *, const cJSON **result, sqz_error *err);
sqz_status job_export(run *, trial *, const cJSON **result, sqz_error *err);
/* The task of this name in a record's result, or NULL. */
const cJSON *job_task(const cJSON *record, const char *task);
/* Copies the per-item files of an eval task into the run folder: {"NAME": relative path}. */
cJSON *job_keep_items(run *, const char *strategy_id, const char *rung, const cJSON *eval);

/* ---- judge.c
 * --------------------------------------------------------------------------------------- */
/* Per-item outcomes of one data set of two trials. */
paired judge_paired(const run *, const char *items_a, const char *items_b);
const char *judge_items(const trial *, const char *rung, const char *dataset);
sqz_status judge_baseline(run *, sqz_error *err);
/* Fills metrics, objectives, reward, feasible, violations of a fully evaluated trial. */
void judge_trial(run *, trial *);
/* Are two members distinct (A7)? */
int judge_distinct(const run *, const trial *, const trial *);
const char *trial_text(const trial *, const char *key);

/* ---- filter.c
 * -------------------------------------------------------------------------------------- */
/* 1 = worth the full evaluation; 0 = dropped, with a sentence in why. */
int filter_promotes(run *, const trial *, char *why, size_t bytes);

/* ---- front.c
 * --------------------------------------------------------------------------------------- */
void front_set_reference(run *);
/* Recomputes the front, its distinct members and the volume; 1 when the members changed. */
int front_update(run *);

/* ---- stop.c
 * ---------------------------------------------------------------------------------------- */
/* Why no further trial may start: fills kind and text, or returns 0. */
int stop_due(run *, const char **kind, char *text, size_t bytes);

/* ---- plan.c
 * ---------------------------------------------------------------------------------------- */
sqz_status plan_make(const config *, const catalogue *, const cJSON *spec, const spec_machine *,
                     const strategy_space *, const model_config *shape /* or NULL */, cJSON **plan,
                     sqz_error *err);
/* NULL when it fits, else the sentence that refuses it; malloc'd. */
char *plan_refusal(const model_config * /* or NULL */, const cJSON *spec, const prediction *);

/* ---- records.c
 * ------------------------------------------------------------------------------------- */
sqz_status records_write_run(run *, const char *state, sqz_error *err);
sqz_status records_write_progress(run *, sqz_error *err); /* trials.jsonl, pareto.json */
sqz_status records_write_final(run *, const char *state, sqz_error *err);
/* Removes the temporary files that a killed session or worker left in the run folder; only while no
 * worker runs. */
void records_sweep(const run *);
cJSON *records_fingerprint(const config *, const catalogue *, const cJSON *spec, const sources *,
                           const char *store, sqz_error *err);

/* ---- session.c
 * ------------------------------------------------------------------------------------- */
/* The data sets of a run or plan; nothing is read yet. */
sqz_status run_sources(const run_options *, const config *, const spec_machine *, sources *out,
                       sqz_error *err);

/* ---- aside.c
 * --------------------------------------------------------------------------------------- */
/* Why these steps are not tried any more in this run, malloc'd; NULL when they may be. */
char *aside_refusal(const run *, const cJSON *steps);

/* ---- run.c
 * ----------------------------------------------------------------------------------------- */
void run_emit(run *, run_event_kind, const trial *, const char *rung, const char *text,
              const cJSON *detail);
void run_log(run *, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#endif
