/* sqz/eval.h - evaluations: from a model and the rows of a data set to metrics.
 *
 * An agent of kind "eval/1".  `run` is called with its parameters and a sqz_eval as subject;
 * extension("sqz.eval.match/1") tells which data sets it understands.  Metric names are those of
 * lm-evaluation-harness. */
#ifndef SQZ_EVAL_H
#define SQZ_EVAL_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- rows of a data set ------------------------------------------------------------------------ */
typedef struct sqz_rows sqz_rows;
struct sqz_rows {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;
    const char *name; /* the file's stem or the task's name */
    int64_t n_rows;
    /* Text of a field of row i (numbers as their JSON text), or NULL; valid as long as the rows.
     * [any] */
    const char *(*text)(const sqz_rows *, int64_t i, const char *field);
    /* Elements of a list field: their count (-1 when the field is no list) and each text.  [any] */
    int64_t (*list_length)(const sqz_rows *, int64_t i, const char *field);
    const char *(*list_text)(const sqz_rows *, int64_t i, const char *field, int64_t k);
    /* A number field; 0 and *ok = 0 when absent.  [any] */
    double (*number)(const sqz_rows *, int64_t i, const char *field, int32_t *ok);
};
SQZ_SEALED(sqz_rows, number, 64);

#define SQZ_EVAL_MATCH_1 "sqz.eval.match/1"
typedef struct sqz_eval_match {
    uint32_t struct_size;
    uint32_t zero;
    /* 0 when the rows have not the fields it needs, else how specific the match is.  [any] */
    int32_t (*match)(const sqz_rows *);
    const char *primary;        /* metric that ranks candidates, e.g. "acc_norm" */
    int32_t higher_is_better;
    int32_t zero2;
} sqz_eval_match;
SQZ_SEALED(sqz_eval_match, zero2, 32);

/* ---- the model under test ------------------------------------------------------------------------ */
typedef struct sqz_loglik {
    const int32_t *context;      /* ids, at least one */
    const int32_t *continuation; /* ids, at least one */
    int64_t n_context, n_continuation;
    double logprob;              /* out: natural log, summed over the continuation */
    int32_t greedy;              /* out: every continuation token was the arg max */
    int32_t zero;
} sqz_loglik;
SQZ_SEALED(sqz_loglik, zero, 48);

typedef struct sqz_generation {
    const int32_t *prompt;
    int64_t n_prompt;
    int32_t *ids;      /* out, room for max_new */
    int64_t n_ids;     /* out, without the stop token */
    int32_t stopped;   /* out: 1 a stop token came, 0 max_new reached */
    int32_t zero;
} sqz_generation;
SQZ_SEALED(sqz_generation, zero, 40);

/* The subject of run. */
typedef struct sqz_eval sqz_eval;
struct sqz_eval {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;
    const sqz_rows *rows;
    int64_t limit;         /* rows (or, for text, windows) to use; all when 0 */
    int64_t window;        /* window wanted for perplexity, 0 = default min(2048, context) */
    int64_t context_size;  /* the model's */
    int32_t bos, eos;      /* ids or -1 */

    /* Encode text; special != 0 adds what the tokenizer's template adds.  *ids is the host's, valid
     * until the eval returns.  [call] */
    sqz_status (*encode)(const sqz_eval *, const char *text, int32_t special, const int32_t **ids,
                         int64_t *n);
    /* Decode ids (special tokens skipped when skip != 0).  [call] */
    sqz_status (*decode)(const sqz_eval *, const int32_t *ids, int64_t n, int32_t skip,
                         const char **text);
    /* The whole data set as the contract's token stream (documents framed, concatenated).  [call] */
    sqz_status (*stream)(const sqz_eval *, const int32_t **ids, int64_t *n);
    /* Log-probability of each token of n windows of `window` ids given the ones before it:
     * logprob[i*window + t] for t >= 1, 0 at t = 0.  [call] */
    sqz_status (*score_windows)(const sqz_eval *, const int32_t *ids /* [n, window] */, int64_t n,
                                int64_t window, float *logprob /* [n, window], out */);
    /* Requests that share a context should stand beside each other.  [call] */
    sqz_status (*loglik)(const sqz_eval *, sqz_loglik *requests, int64_t n);
    /* Greedy continuations until eos or max_new tokens.  [call] */
    sqz_status (*generate)(const sqz_eval *, sqz_generation *requests, int64_t n, int64_t max_new);

    /* Results.  stderr_ < 0: none.  [call] */
    void (*metric)(const sqz_eval *, const char *name, double value, double stderr_, int64_t n);
    /* Outcome of one item (1/0 for correct, or a loss), with an optional note such as the
     * generation; kept for paired comparisons.  [call] */
    void (*item)(const sqz_eval *, int64_t index, double outcome, const char *note);
};
SQZ_SEALED(sqz_eval, item, 120);

/* ---- sqz.task/1: what the task behind the rows says about answers --------------------------------
 * A host service.  Rows of a task have the fields "request.*" (docs/tasks.md). */
#define SQZ_TASK_1 "sqz.task/1"
typedef struct sqz_task {
    uint32_t struct_size;
    uint32_t zero;
    /* How many ways the task has to take an answer from a generated text; 0: rows of no such task.
     * The name of each.  [call] */
    int64_t (*filters)(const sqz_host *, const sqz_rows *);
    const char *(*filter_name)(const sqz_host *, const sqz_rows *, int64_t filter);
    /* What the filter takes from the response to row i (valid until the next call), and whether it
     * is the right answer.  [call] */
    sqz_status (*judge)(const sqz_host *, const sqz_rows *, int64_t i, int64_t filter,
                        const char *response, const char **answer, int32_t *right);
    /* Standard error of exp(-mean(values)), by the resamples that lm-evaluation-harness draws.
     * [call] */
    sqz_status (*perplexity_stderr)(const sqz_host *, const double *values, int64_t n,
                                    double *stderr_);
} sqz_task;
SQZ_SEALED(sqz_task, perplexity_stderr, 40);

#ifdef __cplusplus
}
#endif
#endif
