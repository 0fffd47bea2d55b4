/* score.c - windows to numbers: all logits, log-probabilities, divergence from a recorded model.
 *
 * Logits exist only for one chunk of rows at a time, whatever the vocabulary. */
#include "model/internal.h"
#include "pool/pool.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Calls each(ctx, row, rows) with the logits of rows row .. row + rows - 1 of x in m->logits. */
typedef sqz_status (*logits_sink)(model *, void *ctx, int64_t row, int64_t rows, sqz_error *err);

static sqz_status each_logits(model *m, int64_t tokens, logits_sink each, void *ctx, sqz_error *err)
{
    sqz_mem x = forward_x(m, 0), y = forward_norm(m, 0);
    sqz_status st = final_norm(m, &x, &y, tokens, err);
    for (int64_t row = 0; row < tokens && !st; row += m->logit_rows) {
        int64_t rows = tokens - row < m->logit_rows ? tokens - row : m->logit_rows;
        sqz_mem states = forward_norm(m, row);
        st = head_logits(m, &states, rows, err);
        if (!st) st = each(m, ctx, row, rows, err);
    }
    return st;
}

/* ---- all logits ------------------------------------------------------------------------------ */
typedef struct logits_job {
    float *out; /* of the current windows */
    int64_t window;
    float *all;
} logits_job;

static sqz_status copy_logits(model *m, void *ctx, int64_t row, int64_t rows, sqz_error *err)
{
    logits_job *j = ctx;
    sqz_mem from = {m->logits, 0};
    int64_t vocab = m->config.vocab;
    sqz_status st =
        m->hw->download(m->dev, j->out + row * vocab, &from, rows * vocab * (int64_t)sizeof(float));
    return st ? device_failed(m, st, "download", err) : SQZ_OK;
}

static sqz_status logits_windows(model *m, void *ctx, int64_t first, int64_t windows,
                                 sqz_error *err)
{
    logits_job *j = ctx;
    j->out = j->all + first * j->window * m->config.vocab;
    return each_logits(m, windows * j->window, copy_logits, j, err);
}

/* The residual stream after the embedding and after each block; the last one final-normed. */
static sqz_status hidden_states(model *m, const int32_t *ids, int64_t b, int64_t t, float *out,
                                sqz_error *err)
{
    int64_t n = b * t * m->config.hidden, width = m->config.hidden;
    sqz_status st = ids_check(m, ids, b * t, err);
    if (!st) st = model_embed(m, ids, b, t, out, err);
    for (int64_t l = 0; l < m->config.layers && !st; l++) {
        memcpy(out + (l + 1) * n, out + l * n, (size_t)n * sizeof *out);
        st = model_block(m, l, b, t, out + (l + 1) * n, NULL, NULL, err);
    }
    float *last = out + m->config.layers * n;
    for (int64_t row = 0; row < b * t && !st; row += m->batch_tokens) {
        int64_t rows = b * t - row < m->batch_tokens ? b * t - row : m->batch_tokens;
        int64_t bytes = rows * width * (int64_t)sizeof *out;
        st = scratch_ensure(m, rows, err);
        if (st) return st;
        sqz_mem x = forward_x(m, 0), y = forward_norm(m, 0);
        st = m->hw->upload(m->dev, &x, last + row * width, bytes);
        if (!st) st = final_norm(m, &x, &y, rows, err);
        if (!st) st = m->hw->download(m->dev, last + row * width, &y, bytes);
        if (st) return device_failed(m, st, "final norm", err);
    }
    return st;
}

sqz_status model_logits(model *m, const int32_t *ids, int64_t b, int64_t t, float *logits,
                        float *hidden_out, sqz_error *err)
{
    logits_job j = {.window = t, .all = logits};
    sqz_status st = windows_run(m, ids, b, t, logits_windows, &j, "logits", err);
    if (!st && hidden_out) st = hidden_states(m, ids, b, t, hidden_out, err);
    return st;
}

/* ---- log-probabilities
 * --------------------------------------------------------------------------- */
typedef struct score_job {
    const int32_t *ids;
    int64_t window, first; /* first token of the current windows */
    float *logprob;
    int32_t *argmax;
    int32_t *target; /* [logit_rows] */
    float *lp, *lse; /* [logit_rows] */
} score_job;

static int score_job_new(score_job *j, const model *m)
{
    j->target = malloc((size_t)m->logit_rows * sizeof *j->target);
    j->lp = malloc((size_t)m->logit_rows * sizeof *j->lp);
    j->lse = malloc((size_t)m->logit_rows * sizeof *j->lse);
    return j->target && j->lp && j->lse;
}

static void score_job_free(score_job *j)
{
    free(j->target);
    free(j->lp);
    free(j->lse);
}

/* Rows at..at+rows-1 of all tokens: j->lp (0 at the end of a window), and what the caller wants. */
static sqz_status score_rows(model *m, score_job *j, int64_t at, int64_t rows, int32_t *argmax,
                             float *lse, sqz_error *err)
{
    for (int64_t i = 0; i < rows; i++) {
        j->lp[i] = 0;
        j->target[i] = (at + i) % j->window == j->window - 1 ? -1 : j->ids[at + i + 1];
    }
    sqz_op_score op = {.struct_size = sizeof op,
                       .rows = rows,
                       .n = m->config.vocab,
                       .logits = {m->logits, 0},
                       .target = j->target,
                       .logprob = j->lp,
                       .argmax = argmax,
                       .logsumexp = lse};
    sqz_status st = m->hw->score(m->dev, &op);
    if (!st) st = m->hw->sync(m->dev);
    return st ? device_failed(m, st, "score", err) : SQZ_OK;
}

static sqz_status score_chunk(model *m, void *ctx, int64_t row, int64_t rows, sqz_error *err)
{
    score_job *j = ctx;
    int64_t at = j->first + row;
    sqz_status st = score_rows(m, j, at, rows, j->argmax ? j->argmax + at : NULL, NULL, err);
    if (st) return st;
    for (int64_t i = 0; i < rows; i++) {
        if ((at + i) % j->window == 0) j->logprob[at + i] = 0;
        if (j->target[i] >= 0) j->logprob[at + i + 1] = j->lp[i];
    }
    return SQZ_OK;
}

static sqz_status score_windows(model *m, void *ctx, int64_t first, int64_t windows, sqz_error *err)
{
    score_job *j = ctx;
    j->first = first * j->window;
    return each_logits(m, windows * j->window, score_chunk, j, err);
}

sqz_status model_score_windows(model *m, const int32_t *ids, int64_t n, int64_t window,
                               float *logprob, int32_t *argmax, sqz_error *err)
{
    score_job j = {.ids = ids, .window = window, .logprob = logprob, .argmax = argmax};
    sqz_status st = scratch_ensure(m, 1, err);
    if (!st && !score_job_new(&j, m)) st = err_set(err, SQZ_E_NOMEM, "score: out of memory");
    if (!st) st = windows_run(m, ids, n, window, score_windows, &j, "score", err);
    score_job_free(&j);
    return st;
}

/* ---- divergence
 * ---------------------------------------------------------------------------------- */
typedef struct kl_job {
    score_job score;
    int32_t *top_ids; /* [tokens, K] */
    float *top_lp;
    const int32_t *want_ids;
    const float *want_lp;
    float *kl;           /* [tokens] */
    uint8_t *flip;       /* [tokens] another arg max than the record's */
    double *loss;        /* [windows] */
    const float *logits; /* host view of the chunk */
    int64_t at, vocab, k;
} kl_job;

/* The K largest of v[n], sorted downwards, ties by the lower id.  A heap of the best so far: its
 * root is the worst of them, so that nearly every entry is refused by one comparison. */
static int worse(const float *v, int32_t a, int32_t b)
{
    return v[a] < v[b] || (v[a] == v[b] && a > b);
}

static void sift(const float *v, int32_t *heap, int64_t n, int64_t i)
{
    for (;;) {
        int64_t low = i, left = 2 * i + 1;
        if (left < n && worse(v, heap[left], heap[low])) low = left;
        if (left + 1 < n && worse(v, heap[left + 1], heap[low])) low = left + 1;
        if (low == i) return;
        int32_t t = heap[i];
        heap[i] = heap[low];
        heap[low] = t;
        i = low;
    }
}

static void top_k(const float *v, int64_t n, int64_t k, int32_t *out)
{
    for (int64_t i = 0; i < k; i++) out[i] = (int32_t)i;
    for (int64_t i = k / 2; i-- > 0;) sift(v, out, k, i);
    for (int64_t i = k; i < n; i++) {
        if (!(v[i] > v[out[0]])) continue;
        out[0] = (int32_t)i;
        sift(v, out, k, 0);
    }
    for (int64_t end = k - 1; end > 0; end--) {
        int32_t t = out[0];
        out[0] = out[end];
        out[end] = t;
        sift(v, out, end, 0);
    }
}

static void record_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    kl_job *j = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = (j->at + i) * MODEL_KL_TOP;
        const float *row = j->logits + i * j->vocab;
        top_k(row, j->vocab, j->k, j->top_ids + at);
        for (int64_t c = 0; c < j->k; c++)
            j->top_lp[at + c] = row[j->top_ids[at + c]] - j->score.lse[i];
        for (int64_t c = j->k; c < MODEL_KL_TOP; c++) { /* a vocabulary below K */
            j->top_ids[at + c] = -1;
            j->top_lp[at + c] = -INFINITY;
        }
    }
}

/* sum_top p (log p - log q) + rest_p (log rest_p - log rest_q), both rests being 1 - sum. */
static void compare_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    kl_job *j = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int32_t *ids = j->want_ids + (j->at + i) * MODEL_KL_TOP;
        const float *lp = j->want_lp + (j->at + i) * MODEL_KL_TOP;
        const float *row = j->logits + i * j->vocab;
        double kl = 0, rest_p = 1, rest_q = 1;
        for (int64_t c = 0; c < j->k && ids[c] >= 0; c++) {
            double p = exp((double)lp[c]), lq = (double)row[ids[c]] - (double)j->score.lse[i];
            if (p > 0) kl += p * ((double)lp[c] - lq);
            rest_p -= p;
            rest_q -= exp(lq);
        }
        /* Below rounding of the float32 log-probabilities there is no rest to compare. */
        if (rest_p > 1e-6) kl += rest_p * (log(rest_p) - log(fmax(rest_q, 1e-12)));
        j->kl[j->at + i] = (float)fmax(kl, 0);
        int64_t top = 0;
        for (int64_t c = 1; c < j->vocab; c++)
            if (row[c] > row[top]) top = c;
        j->flip[j->at + i] = top != ids[0];
    }
}

static sqz_status kl_chunk(model *m, void *ctx, int64_t row, int64_t rows, sqz_error *err)
{
    kl_job *j = ctx;
    j->at = j->score.first + row;
    sqz_status st = score_rows(m, &j->score, j->at, rows, NULL, j->score.lse, err);
    if (st) return st;
    sqz_mem logits = {m->logits, 0};
    j->logits = device_read(m, &logits, rows * j->vocab, err);
    if (!j->logits) return SQZ_E_DEVICE;
    pool_for(rows, 16, j->want_ids ? compare_rows : record_rows, j);
    for (int64_t i = 0; i < rows && j->want_ids; i++) {
        if (j->score.target[i] >= 0) j->loss[(j->at + i) / j->score.window] -= j->score.lp[i];
    }
    return SQZ_OK;
}

static sqz_status kl_windows(model *m, void *ctx, int64_t first, int64_t windows, sqz_error *err)
{
    kl_job *j = ctx;
    j->score.first = first * j->score.window;
    return each_logits(m, windows * j->score.window, kl_chunk, j, err);
}

static sqz_status kl_run(model *m, kl_job *j, int64_t n, const char *what, sqz_error *err)
{
    sqz_status st = scratch_ensure(m, 1, err);
    if (st) return st;
    j->vocab = m->config.vocab;
    j->k = j->vocab < MODEL_KL_TOP ? j->vocab : MODEL_KL_TOP;
    if (!score_job_new(&j->score, m)) st = err_set(err, SQZ_E_NOMEM, "%s: out of memory", what);
    if (!st) st = windows_run(m, j->score.ids, n, j->score.window, kl_windows, j, what, err);
    score_job_free(&j->score);
    return st;
}

sqz_status model_top_record(model *m, const int32_t *ids, int64_t n, int64_t window,
                            int32_t *top_ids, float *top_lp, sqz_error *err)
{
    kl_job j = {.score = {.ids = ids, .window = window}, .top_ids = top_ids, .top_lp = top_lp};
    return kl_run(m, &j, n, "top record", err);
}

/* Mean over all positions.  Positions of one window depend on each other: the error is that of
 * window means. */
static void mean_of(const kl_job *j, int64_t n, int flips, double *mean, double *error)
{
    int64_t window = j->score.window;
    double sum = 0, squares = 0;
    *mean = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t w = 0; w < n; w++) {
            double of = 0;
            for (int64_t i = w * window; i < (w + 1) * window; i++)
                of += flips ? j->flip[i] : (double)j->kl[i];
            of /= (double)window;
            sum += pass ? 0 : of;
            squares += pass ? (of - *mean) * (of - *mean) : 0;
        }
        *mean = sum / (double)n;
    }
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
}

static int rising(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void sum_up(kl_job *j, int64_t n, model_divergence *out)
{
    int64_t window = j->score.window, all = n * window;
    double loss = 0, flips;
    *out = (model_divergence){.positions = all};
    mean_of(j, n, 0, &out->kl, &out->kl_stderr);
    mean_of(j, n, 1, &flips, &out->same_top_stderr);
    out->same_top = 1 - flips;
    for (int64_t i = 0; i < all; i++) out->flips += j->flip[i];
    for (int64_t w = 0; w < n; w++) loss += j->loss[w];
    out->perplexity = window > 1 ? exp(loss / (double)(n * (window - 1))) : 1;
    qsort(j->kl, (size_t)all, sizeof *j->kl, rising); /* by position no more */
    out->kl_median = j->kl[all / 2];
    out->kl_p99 = j->kl[(all - 1) * 99 / 100];
    out->kl_max = j->kl[all - 1];
}

sqz_status model_kl(model *m, const int32_t *ids, int64_t n, int64_t window, const int32_t *top_ids,
                    const float *top_lp, model_divergence *out, sqz_error *err)
{
    if (n < 1) return err_set(err, SQZ_E_INVALID, "kl: no windows");
    for (int64_t i = 0; i < n * window * MODEL_KL_TOP; i++)
        if (top_ids[i] < -1 || top_ids[i] >= m->config.vocab)
            return err_set(err, SQZ_E_INVALID,
                           "kl: the record names token %d, outside the vocabulary of %lld",
                           top_ids[i], (long long)m->config.vocab);
    kl_job j = {.score = {.ids = ids, .window = window}, .want_ids = top_ids, .want_lp = top_lp};
    j.kl = malloc((size_t)(n * window) * sizeof *j.kl);
    j.flip = malloc((size_t)(n * window));
    j.loss = calloc((size_t)n, sizeof *j.loss);
    sqz_status st = j.kl && j.flip && j.loss ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "kl: no memory");
    if (!st) st = kl_run(m, &j, n, "kl", err);
    if (!st) sum_up(&j, n, out);
    free(j.kl);
    free(j.flip);
    free(j.loss);
    return st;
}
