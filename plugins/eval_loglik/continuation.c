/* continuation.c - given continuations: how likely, and whether greedy decoding writes them. */
#include "requests.h"
#include <math.h>
#include <stdlib.h>

/* Texts of a task's request, or of a plain row. */
static const char *field(const sqz_rows *rows, int64_t i, const char *request, const char *plain)
{
    const char *text = rows->text(rows, i, request);
    return text ? text : rows->text(rows, i, plain);
}

static sqz_status run_batch(const sqz_host *host, const sqz_eval *e, int64_t first, int64_t count,
                            sqz_loglik *r, int64_t *hits, double *logprobs)
{
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < count && !st; k++) {
        const char *context = field(e->rows, first + k, "request.context", "context");
        const char *tail = field(e->rows, first + k, "request.continuation", "continuation");
        if (!context || !tail)
            return sqz_failf(host, SQZ_E_INVALID,
                             "continuation: row %lld of %s has no context or no continuation",
                             (long long)(first + k + 1), e->rows->name);
        st = request_make(host, e, context, tail, &r[k]);
    }
    if (!st) st = e->loglik(e, r, count);
    for (int64_t k = 0; k < count && !st; k++) {
        char note[64];
        *hits += r[k].greedy;
        logprobs[first + k] = r[k].logprob;
        snprintf(note, sizeof note, "logprobs %.9g greedy %d", r[k].logprob, r[k].greedy);
        e->item(e, first + k, r[k].greedy, note);
    }
    return st;
}

static sqz_status report(const sqz_host *host, const sqz_eval *e, int64_t hits,
                         const double *logprobs, int64_t n)
{
    double sum = 0, error = -1;
    for (int64_t i = 0; i < n; i++) sum += logprobs[i];
    if (task_wants(e->rows, "perplexity")) {
        const sqz_task *task = host->service(host, SQZ_TASK_1);
        sqz_status st = task && n > 1 ? task->perplexity_stderr(host, logprobs, n, &error) : SQZ_OK;
        if (st) return st;
        e->metric(e, "perplexity", exp(-sum / (double)n), error, n);
    }
    if (task_wants(e->rows, "acc")) report_share(e, "acc", hits, n);
    return SQZ_OK;
}

sqz_status continuation_score(const sqz_host *host, const sqz_eval *e, int64_t batch)
{
    int64_t n = rows_wanted(e), hits = 0, done = 0;
    batch = sqz_eval_batch(e, batch);
    sqz_loglik *r = calloc((size_t)batch, sizeof *r);
    double *logprobs = calloc((size_t)n, sizeof *logprobs);
    sqz_status st = SQZ_OK;
    if (!r || !logprobs)
        st = host->fail(host, SQZ_E_NOMEM, "continuation: no memory for one batch");
    while (done < n && !st && !(done && sqz_eval_enough(e))) {
        int64_t count = n - done < batch ? n - done : batch;
        if (host->tick(host, (double)done / (double)n, "scoring continuations"))
            st = SQZ_E_CANCELLED;
        else
            st = run_batch(host, e, done, count, r, &hits, logprobs);
        done += count;
    }
    if (!st) st = report(host, e, hits, logprobs, done);
    free(r);
    free(logprobs);
    return st;
}

int32_t continuation_match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && field(rows, 0, "request.context", "context") &&
                   field(rows, 0, "request.continuation", "continuation")
               ? 20
               : 0;
}
