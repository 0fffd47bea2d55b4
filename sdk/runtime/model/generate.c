/* generate.c - continuing prompts: greedy or sampled, many sequences in one batch.
 *
 * Continuous batching: a slot of the cache that becomes free takes the next prompt at once.  Each
 * step is one ragged batch of the sequences that decode (one token each) and of as much waiting
 * prompt as fits beside them.  What all prompts begin with is read once, into a slot of its own, and
 * copied from there.  Left out: prefixes that only some prompts share, speculative decoding. */
#include "io/clock.h"
#include "model/internal.h"
#include <stdlib.h>
#include <string.h>

enum {
    MAX_SLOTS = 64,
    MIN_PREFIX = 32, /* shorter beginnings are read again */
    MAX_NEW = 1 << 24,
    CACHE_SHARE = 4 /* part of the device's memory that a cache may take */
};

sqz_status cache_new(model *m, int64_t capacity, int64_t *slots, void **kv, sqz_error *err)
{
    const model_config *c = &m->config;
    double position = 2.0 * sizeof(float) * (double)(c->layers * c->kv_heads * c->head_dim);
    double room = (double)m->info.memory_bytes / CACHE_SHARE;
    double fit = room / (position * (double)capacity);
    if (room > 0 && fit < (double)*slots) *slots = fit < 1 ? 1 : (int64_t)fit;
    sqz_kv_desc desc = {.struct_size = sizeof desc,
                        .layers = (int32_t)c->layers,
                        .slots = *slots,
                        .capacity = capacity,
                        .kv_heads = c->kv_heads,
                        .head_dim = c->head_dim,
                        .schema = "f32/1"};
    sqz_status st = m->hw->kv_new(m->dev, &desc, kv);
    if (st)
        return err_set(err, st,
                       "model: a key/value cache of %lld sequences of %lld positions needs %.0f "
                       "MiB, which backend %s refused (%s)",
                       (long long)*slots, (long long)capacity,
                       position * (double)capacity * (double)*slots / 1048576, m->info.name,
                       err_name(st));
    return SQZ_OK;
}

typedef struct sequence {
    int64_t request; /* -1: the slot is free */
    int64_t past;    /* tokens in the cache */
    int32_t last;    /* token that the next step feeds, once the prompt is read */
    int64_t row;     /* of the batch: its last token, or -1 when no token is due */
} sequence;

typedef struct session {
    model *m;
    sqz_generation *requests;
    int64_t n, next, finished, max_new;
    const sampling *how;
    int ignore_eos, stop;
    int (*on_token)(void *, int64_t, int32_t);
    void *ctx;
    sequence seq[MAX_SLOTS];
    int64_t slots;
    int64_t prefix; /* tokens that all prompts begin with, in the slot behind the last; or 0 */
    void *kv;
    int64_t rows[MAX_SLOTS];
    float *probabilities;
    int32_t *order;
    double begin, first_token, last_token;
    int64_t first_count;
} session;

static int is_eos(const session *s, int32_t id)
{
    const model_config *c = &s->m->config;
    for (int i = 0; i < c->n_eos && !s->ignore_eos; i++)
        if (c->eos[i] == id) return 1;
    return 0;
}

/* Puts what sequence `slot` still has to read into the batch, up to `room` tokens. */
static void feed(session *s, int64_t slot, int64_t room)
{
    sequence *q = &s->seq[slot];
    const sqz_generation *r = &s->requests[q->request];
    batch *b = &s->m->batch;
    if (q->past >= r->n_prompt) {
        batch_add(b, &q->last, 1, (int32_t)slot, q->past, q->past + 1);
        q->past++;
        q->row = b->tokens - 1;
        return;
    }
    int64_t left = r->n_prompt - q->past, take = left < room ? left : room;
    if (take < 1) return;
    batch_add(b, r->prompt + q->past, take, (int32_t)slot, q->past, r->n_prompt);
    q->past += take;
    q->row = take == left ? b->tokens - 1 : -1;
}

/* What all prompts begin with, less one token: each prompt must bring its last itself. */
static int64_t common_prefix(const session *s, int64_t longest)
{
    const sqz_generation *head = &s->requests[0];
    int64_t n = head->n_prompt - 1;
    for (int64_t i = 1; i < s->n; i++) {
        const sqz_generation *r = &s->requests[i];
        int64_t k = 0;
        if (r->n_prompt - 1 < n) n = r->n_prompt - 1;
        while (k < n && r->prompt[k] == head->prompt[k]) k++;
        n = k;
    }
    /* There some kinds of RoPE turn every key by the whole length. */
    int fits = !rope_stretched(&s->m->config, longest + s->max_new);
    return s->n > 1 && n >= MIN_PREFIX && fits ? n : 0;
}

static sqz_status read_prefix(session *s, sqz_error *err)
{
    model *m = s->m;
    sqz_status st = SQZ_OK;
    for (int64_t at = 0; at < s->prefix && !st;) {
        int64_t n = s->prefix - at < m->batch_tokens ? s->prefix - at : m->batch_tokens;
        st = batch_begin(m, 1, n, s->kv, err);
        if (!st)
            batch_add(&m->batch, s->requests[0].prompt + at, n, (int32_t)s->slots, at, s->prefix);
        if (!st) st = forward_batch(m, err);
        at += n;
    }
    return st;
}

/* Free slots take the next prompts. */
static sqz_status seat(session *s, sqz_error *err)
{
    model *m = s->m;
    for (int64_t i = 0; i < s->slots; i++) {
        s->seq[i].row = -1;
        if (s->seq[i].request >= 0 || s->next >= s->n) continue;
        s->seq[i] = (sequence){.request = s->next++, .past = s->prefix, .row = -1};
        if (!s->prefix) continue;
        sqz_status st = m->hw->kv_copy(m->dev, s->kv, (int32_t)s->slots, (int32_t)i, s->prefix);
        if (st) return device_failed(m, st, "kv_copy", err);
    }
    return SQZ_OK;
}

static sqz_status fill_batch(session *s, sqz_error *err)
{
    model *m = s->m;
    sqz_status st = seat(s, err);
    if (st) return st;
    /* How much there is to read, so that a short prompt does not make a large arena. */
    int64_t waiting = 0, decoding = 0;
    for (int64_t i = 0; i < s->slots; i++) {
        const sequence *q = &s->seq[i];
        if (q->request < 0) continue;
        int64_t left = s->requests[q->request].n_prompt - q->past;
        decoding += left <= 0;
        waiting += left > 0 ? left : 0;
    }
    int64_t room = m->batch_tokens > decoding ? m->batch_tokens - decoding : 1;
    if (room > waiting) room = waiting;
    st = batch_begin(m, s->slots, decoding + room, s->kv, err);
    if (st) return st;
    for (int64_t i = 0; i < s->slots; i++) {
        sequence *q = &s->seq[i];
        if (q->request < 0) continue;
        int64_t before = m->batch.tokens;
        int decodes = q->past >= s->requests[q->request].n_prompt;
        feed(s, i, room);
        if (!decodes) room -= m->batch.tokens - before;
    }
    return SQZ_OK;
}

static void take_token(session *s, int64_t slot, int32_t id)
{
    sequence *q = &s->seq[slot];
    sqz_generation *r = &s->requests[q->request];
    if (q->request == 0) {
        s->last_token = clock_s();
        if (!s->first_count++) s->first_token = s->last_token;
    }
    q->last = id;
    if (is_eos(s, id))
        r->stopped = 1;
    else
        r->ids[r->n_ids++] = id;
    if (!r->stopped && s->on_token) {
        int wish = s->on_token(s->ctx, q->request, id);
        if (wish == GENERATE_STOP_ONE)
            r->stopped = 1;
        else if (wish)
            s->stop = 1;
    }
    if (r->stopped || r->n_ids >= s->max_new) {
        q->request = -1;
        s->finished++;
    }
}

/* Logits of the rows that are due, a chunk at a time, and a token for each. */
static sqz_status draw_tokens(session *s, sqz_error *err)
{
    model *m = s->m;
    int64_t due[MAX_SLOTS], n = 0, vocab = m->config.vocab;
    for (int64_t i = 0; i < s->slots; i++) {
        if (s->seq[i].request < 0 || s->seq[i].row < 0) continue;
        due[n] = i;
        s->rows[n++] = s->seq[i].row;
    }
    sqz_status st = n ? gather_rows(m, s->rows, n, err) : SQZ_OK;
    for (int64_t at = 0; at < n && !st; at += m->logit_rows) {
        int64_t rows = n - at < m->logit_rows ? n - at : m->logit_rows;
        int32_t best[MAX_SLOTS];
        sqz_mem states = forward_norm(m, at), logits = {m->logits, 0};
        st = head_logits(m, &states, rows, err);
        if (st) return st;
        const float *seen = NULL;
        if (s->how->temperature > 0) {
            seen = device_read(m, &logits, rows * vocab, err);
            if (!seen) return SQZ_E_DEVICE;
        } else {
            sqz_op_score op = {.struct_size = sizeof op,
                               .rows = rows,
                               .n = vocab,
                               .logits = logits,
                               .argmax = best};
            st = m->hw->score(m->dev, &op);
            if (!st) st = m->hw->sync(m->dev);
            if (st) return device_failed(m, st, "score", err);
        }
        for (int64_t i = 0; i < rows; i++) {
            const sequence *q = &s->seq[due[at + i]];
            const sqz_generation *r = &s->requests[q->request];
            if (seen)
                best[i] = sample_draw(seen + i * vocab, vocab, s->how, (uint64_t)q->request,
                                      (uint64_t)r->n_ids, s->probabilities, s->order);
            take_token(s, due[at + i], best[i]);
        }
    }
    return st;
}

static sqz_status check_requests(const model *m, sqz_generation *requests, int64_t n,
                                 int64_t max_new, int64_t *longest, sqz_error *err)
{
    *longest = 0;
    if (max_new > MAX_NEW)
        return err_set(err, SQZ_E_INVALID, "generate: %lld new tokens; at most %d",
                       (long long)max_new, MAX_NEW);
    for (int64_t i = 0; i < n; i++) {
        if (requests[i].n_prompt < 1)
            return err_set(err, SQZ_E_INVALID, "generate: prompt %lld is empty", (long long)i);
        sqz_status st = ids_check(m, requests[i].prompt, requests[i].n_prompt, err);
        if (st) {
            err_prefix(err, "prompt %lld", (long long)i);
            return st;
        }
        if (requests[i].n_prompt > *longest) *longest = requests[i].n_prompt;
    }
    for (int64_t i = 0; i < n; i++) requests[i].n_ids = requests[i].stopped = 0;
    return SQZ_OK;
}

/* Finished requests, and of running ones the part of max_new that they have. */
static double session_done(const session *s)
{
    double done = (double)s->finished;
    for (int64_t i = 0; i < s->slots; i++)
        if (s->seq[i].request >= 0)
            done += (double)s->requests[s->seq[i].request].n_ids / (double)s->max_new;
    return done / (double)s->n;
}

static sqz_status session_run(session *s, int64_t longest, sqz_error *err)
{
    model *m = s->m;
    if (s->how->temperature > 0) {
        s->probabilities = malloc((size_t)m->config.vocab * sizeof *s->probabilities);
        s->order = malloc((size_t)m->config.vocab * sizeof *s->order);
        if (!s->probabilities || !s->order)
            return err_set(err, SQZ_E_NOMEM, "generate: out of memory");
    }
    s->slots = s->n < MAX_SLOTS ? s->n : MAX_SLOTS;
    s->prefix = common_prefix(s, longest);
    int64_t slots = s->slots + (s->prefix > 0);
    sqz_status st = cache_new(m, longest + s->max_new, &slots, &s->kv, err);
    if (slots < 2) s->prefix = 0; /* memory for one sequence only */
    s->slots = slots - (s->prefix > 0);
    if (!st) st = read_prefix(s, err);
    if (!st) st = head_acquire(m, err);
    for (int i = 0; i < MAX_SLOTS; i++) s->seq[i].request = -1;
    while (!st && s->finished < s->n && !s->stop) {
        st = fill_batch(s, err);
        if (!st) st = forward_batch(m, err);
        if (!st) st = draw_tokens(s, err);
        if (!st) st = progress(m, session_done(s), "generate", err);
    }
    head_release(m);
    return st;
}

sqz_status model_generate(model *m, sqz_generation *requests, int64_t n, int64_t max_new,
                          const sampling *how, int ignore_eos,
                          int (*on_token)(void *ctx, int64_t request, int32_t id), void *ctx,
                          generate_times *times, sqz_error *err)
{
    static const sampling greedy = {.top_p = 1};
    int64_t longest;
    sqz_status st = check_requests(m, requests, n, max_new, &longest, err);
    if (times) *times = (generate_times){0};
    if (st || n < 1 || max_new < 1) return st;
    session s = {.m = m,
                 .requests = requests,
                 .n = n,
                 .max_new = max_new,
                 .how = how ? how : &greedy,
                 .ignore_eos = ignore_eos,
                 .on_token = on_token,
                 .ctx = ctx,
                 .begin = clock_s()};
    st = session_run(&s, longest, err);
    if (!st && times && s.first_count) {
        times->ttft_s = s.first_token - s.begin;
        if (s.first_count > 1)
            times->tpot_s = (s.last_token - s.first_token) / (double)(s.first_count - 1);
    }
    if (s.kv) m->hw->kv_free(m->dev, s.kv);
    free(s.probabilities);
    free(s.order);
    return st;
}
