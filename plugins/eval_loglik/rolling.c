/* rolling.c - log-likelihood of whole texts, window by window, per word and per byte.
 *
 * Every token is predicted once: the first window starts from the prefix token, full windows see
 * one token of the one before, and the last, shorter one is filled up with old context. */
#include "requests.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const sqz_host *host;
    const sqz_eval *e;
    sqz_loglik *requests; /* [batch] */
    int64_t *row;         /* [batch] whose text a request is of */
    int64_t batch, n;
    double *logprobs; /* [rows] */
} roller;

static sqz_status flush(roller *r)
{
    sqz_status st = r->n ? r->e->loglik(r->e, r->requests, r->n) : SQZ_OK;
    for (int64_t i = 0; i < r->n && !st; i++) r->logprobs[r->row[i]] += r->requests[i].logprob;
    r->n = 0;
    return st;
}

static sqz_status add(roller *r, int64_t row, const int32_t *context, int64_t n_context,
                      const int32_t *continuation, int64_t n_continuation)
{
    r->requests[r->n] = (sqz_loglik){.context = context,
                                     .n_context = n_context,
                                     .continuation = continuation,
                                     .n_continuation = n_continuation};
    r->row[r->n++] = row;
    return r->n == r->batch ? flush(r) : SQZ_OK;
}

/* prefix: one token that outlives the requests. */
static sqz_status add_text(roller *r, int64_t row, const int32_t *prefix)
{
    const sqz_eval *e = r->e;
    const char *text = e->rows->text(e->rows, row, "request.text");
    const int32_t *ids;
    int64_t n, size = e->context_size;
    if (!text)
        return sqz_failf(r->host, SQZ_E_INVALID, "rolling: row %lld of %s has no text",
                         (long long)(row + 1), e->rows->name);
    sqz_status st = request_encode(e, text, &ids, &n);
    if (st || !n) return st;
    int64_t done = n < size ? n : size;
    st = add(r, row, prefix, 1, ids, done);
    while (done < n && !st) {
        int64_t take = n - done < size ? n - done : size, end = done + take;
        const int32_t *from = ids + end - size - 1;
        st = add(r, row, from, size + 1 - take, ids + done, take);
        done = end;
    }
    return st;
}

static sqz_status report(const roller *r, int64_t n)
{
    const sqz_rows *rows = r->e->rows;
    double sum = 0, words = 0, bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t ok[2];
        double w = rows->number(rows, i, "request.words", &ok[0]);
        double b = rows->number(rows, i, "request.bytes", &ok[1]);
        if (!ok[0] || !ok[1])
            return sqz_failf(r->host, SQZ_E_INVALID, "rolling: row %lld of %s has no length",
                             (long long)(i + 1), rows->name);
        sum += r->logprobs[i];
        words += w;
        bytes += b;
        char note[64];
        snprintf(note, sizeof note, "logprobs %.12g", r->logprobs[i]);
        r->e->item(r->e, i, -r->logprobs[i] / (b > 0 ? b : 1), note);
    }
    if (!isfinite(sum) || words < 1 || bytes < 1)
        return r->host->fail(r->host, SQZ_E_NUMERIC,
                             "rolling: no text, or log-probabilities that are not finite");
    if (task_wants(rows, "word_perplexity"))
        r->e->metric(r->e, "word_perplexity", exp(-sum / words), -1, n);
    if (task_wants(rows, "byte_perplexity"))
        r->e->metric(r->e, "byte_perplexity", exp(-sum / bytes), -1, n);
    if (task_wants(rows, "bits_per_byte"))
        r->e->metric(r->e, "bits_per_byte", -sum / bytes / log(2), -1, n);
    return SQZ_OK;
}

sqz_status rolling_score(const sqz_host *host, const sqz_eval *e, int64_t batch)
{
    int64_t n = rows_wanted(e);
    int32_t prefix = request_prefix(e);
    if (prefix < 0)
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "rolling: the tokenizer has neither bos nor eos to begin a text with");
    roller r = {.host = host, .e = e, .batch = batch};
    r.requests = calloc((size_t)batch, sizeof *r.requests);
    r.row = calloc((size_t)batch, sizeof *r.row);
    r.logprobs = calloc((size_t)n, sizeof *r.logprobs);
    sqz_status st = SQZ_OK;
    if (!r.requests || !r.row || !r.logprobs)
        st = host->fail(host, SQZ_E_NOMEM, "rolling: no memory for one batch");
    for (int64_t i = 0; i < n && !st; i++) {
        if (host->tick(host, (double)i / (double)n, "scoring texts"))
            st = SQZ_E_CANCELLED;
        else
            st = add_text(&r, i, &prefix);
    }
    if (!st) st = flush(&r);
    if (!st) st = report(&r, n);
    free(r.requests);
    free(r.row);
    free(r.logprobs);
    return st;
}

int32_t rolling_match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "request.text") ? 40 : 0;
}
