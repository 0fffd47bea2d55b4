/* loglik.c - log-likelihoods of continuations.
 *
 * Requests with the same context form a unit that computes the context once:
 *   - continuations of one token need nothing but the context's last logits;
 *   - longer ones are run on top of the context's cache slot, the k-th continuation of many units
 * in one batch; the next round overwrites the positions behind the context;
 *   - a lone request runs as one sequence without a cache.
 * What all contexts begin with (the examples of a task) is computed once and copied into every slot
 * of the cache; then all units run behind it.
 * Under dynamic RoPE beyond the model's context the keys of a context depend on the whole length,
 * so there every request runs alone.  The last token of a continuation is never fed. */
#include "model/internal.h"
#include <stdlib.h>
#include <string.h>

enum {
    MAX_SLOTS = 256,
    MIN_PREFIX = 32 /* shorter beginnings are not worth a cache */
};

typedef struct unit {
    int64_t first, n; /* in the sorted order of requests */
    int64_t tokens;   /* of its first pass */
    int cached;
} unit;

/* Log-probability of `target`, read from row `row` of the gathered states. */
typedef struct want {
    int64_t row, request;
    int32_t target, zero;
} want;

typedef struct job {
    model *m;
    sqz_loglik *requests;
    int64_t *order; /* [n] */
    int64_t n;
    unit *units;
    int64_t n_units;
    int64_t *rows; /* of x that are wanted */
    want *wants;
    int64_t n_rows, n_wants, cap_rows, cap_wants;
    void *kv;
    int64_t slots, done;
    int64_t prefix;  /* tokens that all contexts begin with and that the slots hold, or 0 */
    int32_t *joined; /* context and continuation of one request */
    int64_t joined_room;
} job;

/* ---- units ----------------------------------------------------------------------------------- */
/* Longer contexts first; equal contexts side by side; then by position. */
static int compare_context(const sqz_loglik *a, const sqz_loglik *b)
{
    if (a->n_context != b->n_context) return a->n_context > b->n_context ? -1 : 1;
    if (a->context == b->context) return 0;
    return memcmp(a->context, b->context, (size_t)a->n_context * sizeof *a->context);
}

static int compare_requests(const void *pa, const void *pb, void *arg)
{
    const sqz_loglik *all = arg;
    int64_t a = *(const int64_t *)pa, b = *(const int64_t *)pb;
    int by_context = compare_context(&all[a], &all[b]);
    return by_context ? by_context : (a > b) - (a < b);
}

static int stretched(const model *m, const sqz_loglik *r)
{
    return rope_stretched(&m->config, r->n_context + r->n_continuation - 1);
}

static const sqz_loglik *request(const job *j, int64_t i)
{
    return &j->requests[j->order[i]];
}

/* The beginning that all contexts share, less the token whose logits are wanted. */
static int64_t common_prefix(const job *j)
{
    const sqz_loglik *head = &j->requests[0];
    int64_t n = head->n_context - 1;
    int different = 0;
    for (int64_t i = 1; i < j->n; i++) {
        const sqz_loglik *r = &j->requests[i];
        int64_t k = 0;
        if (r->n_context - 1 < n) n = r->n_context - 1;
        while (r->context != head->context && k < n && r->context[k] == head->context[k]) k++;
        if (r->context != head->context) n = k;
        different |= compare_context(head, r) != 0;
    }
    for (int64_t i = 0; i < j->n; i++)
        if (stretched(j->m, &j->requests[i])) return 0;
    return different && n >= MIN_PREFIX ? n : 0;
}

static void make_units(job *j)
{
    for (int64_t i = 0; i < j->n;) {
        const sqz_loglik *head = request(j, i);
        int64_t end = i + 1, longest = head->n_continuation;
        while (end < j->n && !stretched(j->m, head) && !compare_context(head, request(j, end)) &&
               !stretched(j->m, request(j, end))) {
            if (request(j, end)->n_continuation > longest)
                longest = request(j, end)->n_continuation;
            end++;
        }
        unit u = {.first = i, .n = end - i, .cached = j->prefix || (end - i > 1 && longest > 1)};
        u.tokens = head->n_context - j->prefix + (u.n == 1 ? head->n_continuation - 1 : 0);
        j->units[j->n_units++] = u;
        i = end;
    }
}

/* Cached units last; within each kind longer ones first. */
static int compare_units(const void *pa, const void *pb)
{
    const unit *a = pa, *b = pb;
    if (a->cached != b->cached) return a->cached - b->cached;
    if (a->tokens != b->tokens) return a->tokens > b->tokens ? -1 : 1;
    return (a->first > b->first) - (a->first < b->first);
}

/* ---- wanted rows
 * --------------------------------------------------------------------------------- */
static sqz_status want_row(job *j, int64_t row, sqz_error *err)
{
    if (j->n_rows == j->cap_rows) {
        int64_t cap = j->cap_rows ? 2 * j->cap_rows : 1024;
        int64_t *p = realloc(j->rows, (size_t)cap * sizeof *p);
        if (!p) return err_set(err, SQZ_E_NOMEM, "loglik: out of memory");
        j->rows = p;
        j->cap_rows = cap;
    }
    j->rows[j->n_rows++] = row;
    return SQZ_OK;
}

/* Target of the row that was wanted last. */
static sqz_status want_target(job *j, int64_t request_index, int32_t target, sqz_error *err)
{
    if (j->n_wants == j->cap_wants) {
        int64_t cap = j->cap_wants ? 2 * j->cap_wants : 1024;
        want *p = realloc(j->wants, (size_t)cap * sizeof *p);
        if (!p) return err_set(err, SQZ_E_NOMEM, "loglik: out of memory");
        j->wants = p;
        j->cap_wants = cap;
    }
    j->wants[j->n_wants++] = (want){j->n_rows - 1, request_index, target, 0};
    return SQZ_OK;
}

/* Tokens 1.. of a continuation whose first token is row `row` of x. */
static sqz_status want_rest(job *j, int64_t i, int64_t row, sqz_error *err)
{
    const sqz_loglik *r = request(j, i);
    for (int64_t t = 1; t < r->n_continuation; t++) {
        sqz_status st = want_row(j, row + t - 1, err);
        if (!st) st = want_target(j, j->order[i], r->continuation[t], err);
        if (st) return st;
    }
    return SQZ_OK;
}

static sqz_status take_chunk(job *j, int64_t at, int64_t rows, int64_t *next, sqz_error *err)
{
    model *m = j->m;
    float lse[1024];
    int32_t argmax[1024];
    int64_t vocab = m->config.vocab;
    sqz_op_score op = {.struct_size = sizeof op,
                       .rows = rows,
                       .n = vocab,
                       .logits = {m->logits, 0},
                       .argmax = argmax,
                       .logsumexp = lse};
    sqz_status st = m->hw->score(m->dev, &op);
    if (!st) st = m->hw->sync(m->dev);
    if (st) return device_failed(m, st, "score", err);
    for (; *next < j->n_wants && j->wants[*next].row < at + rows; ++*next) {
        const want *w = &j->wants[*next];
        int64_t row = w->row - at;
        float logit;
        sqz_mem from = {m->logits, (row * vocab + w->target) * (int64_t)sizeof(float)};
        st = m->hw->download(m->dev, &logit, &from, sizeof logit);
        if (st) return device_failed(m, st, "download", err);
        j->requests[w->request].logprob += (double)logit - (double)lse[row];
        j->requests[w->request].greedy &= argmax[row] == w->target;
    }
    return SQZ_OK;
}

/* Logits of the wanted rows of x, and their targets' log-probabilities. */
static sqz_status settle(job *j, sqz_error *err)
{
    model *m = j->m;
    int64_t step = m->logit_rows < 1024 ? m->logit_rows : 1024, next = 0;
    sqz_status st = j->n_rows ? gather_rows(m, j->rows, j->n_rows, err) : SQZ_OK;
    for (int64_t at = 0; at < j->n_rows && !st; at += step) {
        int64_t rows = j->n_rows - at < step ? j->n_rows - at : step;
        sqz_mem states = forward_norm(m, at);
        st = head_logits(m, &states, rows, err);
        if (!st) st = take_chunk(j, at, rows, &next, err);
    }
    j->n_rows = j->n_wants = 0;
    return st;
}

/* ---- passes
 * -------------------------------------------------------------------------------------- */
static const int32_t *join(job *j, const sqz_loglik *r)
{
    memcpy(j->joined, r->context, (size_t)r->n_context * sizeof *j->joined);
    memcpy(j->joined + r->n_context, r->continuation,
           (size_t)(r->n_continuation - 1) * sizeof *j->joined);
    return j->joined;
}

/* The contexts of units from .. to - 1 (a lone request with its continuation). */
static sqz_status first_pass(job *j, int64_t from, int64_t to, int64_t tokens, sqz_error *err)
{
    model *m = j->m;
    sqz_status st = batch_begin(m, to - from, tokens, j->units[from].cached ? j->kv : NULL, err);
    for (int64_t i = from; i < to && !st; i++) {
        const unit *u = &j->units[i];
        const sqz_loglik *r = request(j, u->first);
        int64_t row = m->batch.tokens + r->n_context - 1 - j->prefix;
        const int32_t *ids = u->n == 1 ? join(j, r) : r->context;
        batch_add(&m->batch, ids + j->prefix, u->tokens, (int32_t)(i - from), j->prefix,
                  j->prefix + u->tokens);
        st = want_row(j, row, err);
        for (int64_t k = 0; k < u->n && !st; k++)
            st = want_target(j, j->order[u->first + k], request(j, u->first + k)->continuation[0],
                             err);
        if (!st && u->n == 1) st = want_rest(j, u->first, row + 1, err);
    }
    if (!st) st = forward_batch(m, err);
    return st ? st : settle(j, err);
}

/* Tokens of the unit's `round`-th continuation that are still to be run; a lone request went whole. */
static int64_t round_tokens(const job *j, const unit *u, int64_t round)
{
    return u->n > 1 && round < u->n ? request(j, u->first + round)->n_continuation - 1 : 0;
}

/* Units from `*at` on, as long as their `round`-th continuations fit one batch. */
static sqz_status round_batch(job *j, int64_t from, int64_t to, int64_t round, int64_t *at,
                              sqz_error *err)
{
    model *m = j->m;
    int64_t tokens = 0, end = *at;
    for (; end < to; end++) {
        int64_t n = round_tokens(j, &j->units[end], round);
        if (tokens && tokens + n > m->batch_tokens) break;
        tokens += n;
    }
    int64_t begin = *at;
    *at = end;
    if (!tokens) return SQZ_OK;
    sqz_status st = batch_begin(m, end - begin, tokens, j->kv, err);
    for (int64_t i = begin; i < end && !st; i++) {
        const unit *u = &j->units[i];
        if (!round_tokens(j, u, round)) continue;
        const sqz_loglik *r = request(j, u->first + round);
        st = want_rest(j, u->first + round, m->batch.tokens, err);
        batch_add(&m->batch, r->continuation, r->n_continuation - 1, (int32_t)(i - from),
                  r->n_context, r->n_context + r->n_continuation - 1);
    }
    if (!st) st = forward_batch(m, err);
    return st ? st : settle(j, err);
}

/* The common beginning into slot 0, and from there into the others. */
static sqz_status fill_slots(job *j, sqz_error *err)
{
    model *m = j->m;
    const int32_t *ids = j->requests[0].context;
    sqz_status st = SQZ_OK;
    for (int64_t at = 0; at < j->prefix && !st;) {
        int64_t n = j->prefix - at < m->batch_tokens ? j->prefix - at : m->batch_tokens;
        st = batch_begin(m, 1, n, j->kv, err);
        if (!st) batch_add(&m->batch, ids + at, n, 0, at, j->prefix);
        if (!st) st = forward_batch(m, err);
        at += n;
    }
    for (int32_t slot = 1; slot < j->slots && j->prefix && !st; slot++) {
        st = m->hw->kv_copy(m->dev, j->kv, 0, slot, j->prefix);
        if (st) return device_failed(m, st, "kv_copy", err);
    }
    return st;
}

static sqz_status run_units(job *j, int64_t from, int64_t to, int64_t tokens, sqz_error *err)
{
    sqz_status st = first_pass(j, from, to, tokens, err);
    int64_t rounds = 0;
    for (int64_t i = from; i < to && j->units[from].cached; i++)
        if (j->units[i].n > rounds) rounds = j->units[i].n;
    for (int64_t round = 0; round < rounds && !st; round++)
        for (int64_t at = from; at < to && !st;) st = round_batch(j, from, to, round, &at, err);
    for (int64_t i = from; i < to; i++) j->done += j->units[i].n;
    return st ? st : progress(j->m, (double)j->done / (double)j->n, "loglik", err);
}

static sqz_status run_all(job *j, sqz_error *err)
{
    for (int64_t from = 0; from < j->n_units;) {
        int64_t to = from, tokens = 0;
        int cached = j->units[from].cached;
        int64_t limit = cached ? j->slots : MAX_SLOTS;
        while (to < j->n_units && j->units[to].cached == cached && to - from < limit &&
               (to == from || tokens + j->units[to].tokens <= j->m->batch_tokens))
            tokens += j->units[to++].tokens;
        sqz_status st = run_units(j, from, to, tokens, err);
        if (st) return st;
        from = to;
    }
    return SQZ_OK;
}

/* ---- whole
 * --------------------------------------------------------------------------------------- */
static sqz_status check(const model *m, const sqz_loglik *r, int64_t i, sqz_error *err)
{
    if (r->n_context < 1 || r->n_continuation < 1)
        return err_set(err, SQZ_E_INVALID,
                       "loglik: request %lld has %lld context and %lld continuation tokens; both "
                       "need one",
                       (long long)i, (long long)r->n_context, (long long)r->n_continuation);
    sqz_status st = ids_check(m, r->context, r->n_context, err);
    if (!st) st = ids_check(m, r->continuation, r->n_continuation, err);
    if (st) err_prefix(err, "request %lld", (long long)i);
    return st;
}

/* A cache for the units that need one, with no more slots than one batch of contexts can use. */
static sqz_status prepare_cache(job *j, sqz_error *err)
{
    int64_t capacity = 0, shortest = INT64_MAX;
    for (int64_t i = 0; i < j->n_units; i++) {
        const unit *u = &j->units[i];
        if (!u->cached) continue;
        if (u->tokens < shortest) shortest = u->tokens;
        for (int64_t k = 0; k < u->n; k++) {
            const sqz_loglik *r = request(j, u->first + k);
            if (r->n_context + r->n_continuation > capacity)
                capacity = r->n_context + r->n_continuation;
        }
    }
    if (!capacity) return SQZ_OK;
    j->slots = j->m->batch_tokens / shortest + 1;
    if (j->slots > MAX_SLOTS) j->slots = MAX_SLOTS;
    if (j->slots > j->n_units) j->slots = j->n_units;
    return cache_new(j->m, capacity, &j->slots, &j->kv, err);
}

static sqz_status prepare(job *j, sqz_error *err)
{
    for (int64_t i = 0; i < j->n; i++) {
        sqz_loglik *r = &j->requests[i];
        sqz_status st = check(j->m, r, i, err);
        if (st) return st;
        if (r->n_context + r->n_continuation > j->joined_room)
            j->joined_room = r->n_context + r->n_continuation;
        r->logprob = 0;
        r->greedy = 1;
    }
    j->order = malloc((size_t)j->n * sizeof *j->order);
    j->units = malloc((size_t)j->n * sizeof *j->units);
    j->joined = malloc((size_t)j->joined_room * sizeof *j->joined);
    if (!j->order || !j->units || !j->joined)
        return err_set(err, SQZ_E_NOMEM, "loglik: out of memory");
    for (int64_t i = 0; i < j->n; i++) j->order[i] = i;
    qsort_r(j->order, (size_t)j->n, sizeof *j->order, compare_requests, j->requests);
    j->prefix = common_prefix(j);
    make_units(j);
    qsort(j->units, (size_t)j->n_units, sizeof *j->units, compare_units);
    return prepare_cache(j, err);
}

sqz_status model_loglik(model *m, sqz_loglik *requests, int64_t n, sqz_error *err)
{
    if (n < 1) return SQZ_OK;
    job j = {.m = m, .requests = requests, .n = n};
    sqz_status st = prepare(&j, err);
    if (!st) st = head_acquire(m, err);
    if (!st) st = fill_slots(&j, err);
    if (!st) st = run_all(&j, err);
    head_release(m);
    if (j.kv) m->hw->kv_free(m->dev, j.kv);
    free(j.order);
    free(j.units);
    free(j.rows);
    free(j.wants);
    free(j.joined);
    return st;
}
