/* attend.c - causal attention of a ragged batch, and the key/value cache.
 *
 * A unit of work is one key/value head of one sequence and up to QUERIES of its queries.  It walks
 * the keys in blocks of KEYS, packs each block once, and lets all query heads that share it meet it
 * in tiles of ROWS rows: scores, running maximum and sum (online softmax), weighted values added
 * into y.  Work space is per thread and does not grow with the sequence.  A step of one or two
 * tokens takes the heads as rows; where fewer than SHARED heads share the keys, it takes its scores
 * as plain inner products, since packing would cost more.
 * Everything is float32, whatever the compute of the products around it. */
#include "device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 256, ROWS = 36, QUERIES = 384, STEP_TOKENS = 2, SHARED = 4 };

/* Terms of a score that are summed one behind the other; the exponential makes of a score's error a
 * probability's, and scores reach hundreds. */
enum { PARTIAL = 32 };

/* ---- cache --------------------------------------------------------------------------------- */

typedef struct cache {
    int64_t layers, slots, capacity, kv_heads, head_dim;
    float *k, *v; /* [layers, slots, kv_heads, capacity, head_dim] */
} cache;

static int64_t cache_at(const cache *c, int64_t layer, int64_t slot, int64_t head, int64_t position)
{
    return (((layer * c->slots + slot) * c->kv_heads + head) * c->capacity + position) *
           c->head_dim;
}

sqz_status kv_new(void *dev, const sqz_kv_desc *desc, void **out)
{
    device *d = dev;
    if (strcmp(desc->schema, "f32/1") != 0)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: the cache schema must be f32/1");
    const int64_t sides[] = {desc->layers, desc->slots, desc->capacity, desc->kv_heads,
                             desc->head_dim};
    int64_t n = 4;
    for (int i = 0; i < 5; i++)
        if (sides[i] < 1 || __builtin_mul_overflow(n, sides[i], &n))
            return device_fail(d, SQZ_E_INVALID, "hw_cpu: a cache side is below 1 or too large");
    cache *c = malloc(sizeof *c);
    if (!c) return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for a cache");
    /* calloc: pages of positions never reached are never touched */
    *c = (cache){desc->layers,   desc->slots,          desc->capacity,      desc->kv_heads,
                 desc->head_dim, calloc(1, (size_t)n), calloc(1, (size_t)n)};
    if (!c->k || !c->v) {
        kv_free(dev, c);
        char text[128];
        snprintf(text, sizeof text,
                 "hw_cpu: no memory for a cache of %lld bytes; use fewer or "
                 "shorter sequences",
                 (long long)(n > INT64_MAX / 2 ? INT64_MAX : 2 * n));
        return device_fail(d, SQZ_E_NOMEM, text);
    }
    *out = c;
    return SQZ_OK;
}

void kv_free(void *dev, void *kv)
{
    cache *c = kv;
    if (c) {
        (void)queue_run(dev); /* what waits may use it */
        free(c->k);
        free(c->v);
    }
    free(c);
}

static int cache_fits(const cache *c, int64_t layer, int64_t slot, int64_t past, int64_t n)
{
    return layer >= 0 && layer < c->layers && slot >= 0 && slot < c->slots && past >= 0 && n >= 0 &&
           past <= c->capacity - n;
}

/* Where few tokens of few sequences stand, copied for operations that wait. */
typedef struct few {
    int64_t first[MAX_DOT + 1], past[MAX_DOT];
    int32_t slot[MAX_DOT];
} few;

static int may_wait(const device *d, int64_t sequences, const int64_t *first)
{
    return queue_waits(d) && sequences <= MAX_DOT && first[sequences] - first[0] <= MAX_DOT;
}

/* Copies an operation's lists and points it at the copies. */
static void few_keep(few *to, int64_t sequences, const int64_t **first, const int64_t **past,
                     const int32_t **slot)
{
    memcpy(to->first, *first, (size_t)(sequences + 1) * sizeof **first);
    if (*past) memcpy(to->past, *past, (size_t)sequences * sizeof **past);
    if (*slot) memcpy(to->slot, *slot, (size_t)sequences * sizeof **slot);
    *first = to->first;
    *past = to->past;
    *slot = to->slot;
}

/* The whole cache is one thing to the queue. */
static void touches_cache(work *w, const void *kv, int32_t writes)
{
    if (kv) w->touches[w->n_touches++] = (touch){kv, 1, writes};
}

typedef struct append_job {
    sqz_op_kv_append op;
    few few;
} append_job;

/* Heads begin .. end - 1 of all tokens. */
static void append_heads(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const append_job *j = arg;
    const sqz_op_kv_append *op = &j->op;
    const cache *c = op->kv;
    const float *k = mem_at(&op->k), *v = mem_at(&op->v);
    size_t bytes = (size_t)c->head_dim * sizeof *k;
    for (int64_t s = 0; s < op->sequences; s++)
        for (int64_t t = op->first[s]; t < op->first[s + 1]; t++)
            for (int64_t h = begin; h < end; h++) {
                int64_t to = cache_at(c, op->layer, op->slot[s], h, op->past[s] + t - op->first[s]);
                int64_t from = (t * c->kv_heads + h) * c->head_dim;
                memcpy(c->k + to, k + from, bytes);
                memcpy(c->v + to, v + from, bytes);
            }
}

sqz_status kv_append(void *dev, const sqz_op_kv_append *op)
{
    device *d = dev;
    const cache *c = op->kv;
    for (int64_t s = 0; s < op->sequences; s++)
        if (!cache_fits(c, op->layer, op->slot[s], op->past[s], op->first[s + 1] - op->first[s]))
            return device_fail(d, SQZ_E_INVALID, "hw_cpu: tokens do not fit into the cache");
    if (!may_wait(d, op->sequences, op->first)) {
        sqz_status st = queue_run(d);
        append_job all = {.op = *op};
        if (st == SQZ_OK) append_heads(&all, 0, c->kv_heads, 0);
        return st;
    }
    void *room;
    sqz_status st = queue_job(d, &room);
    if (st != SQZ_OK) return st;
    append_job *j = room;
    j->op = *op;
    few_keep(&j->few, op->sequences, &j->op.first, &j->op.past, &j->op.slot);
    work w = {.body = append_heads, .n = c->kv_heads, .chunk = c->kv_heads};
    int64_t floats = op->first[op->sequences] * c->kv_heads * c->head_dim;
    touches(&w, &op->k, floats, 0);
    touches(&w, &op->v, floats, 0);
    touches_cache(&w, op->kv, 1);
    return queue_put(d, &w);
}

sqz_status kv_copy(void *dev, void *kv, int32_t from, int32_t to, int64_t n)
{
    device *d = dev;
    const cache *c = kv;
    if (!cache_fits(c, 0, from, 0, n) || !cache_fits(c, 0, to, 0, n))
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: a cache copy is outside the cache");
    sqz_status st = queue_run(d);
    if (st != SQZ_OK) return st;
    size_t bytes = (size_t)(n * c->head_dim) * sizeof(float);
    for (int64_t layer = 0; from != to && layer < c->layers; layer++)
        for (int64_t h = 0; h < c->kv_heads; h++) {
            int64_t a = cache_at(c, layer, from, h, 0), b = cache_at(c, layer, to, h, 0);
            memcpy(c->k + b, c->k + a, bytes);
            memcpy(c->v + b, c->v + a, bytes);
        }
    return SQZ_OK;
}

/* ---- one unit ------------------------------------------------------------------------------ */

typedef struct unit {
    int64_t sequence, query, n; /* queries query .. query+n-1 of the sequence */
} unit;

typedef struct attend_job {
    const device *d;
    const kernels *k;
    sqz_op_attend op;
    const unit *units;
    char *own;                 /* NULL where the queue has it */
    int64_t own_bytes, shared; /* query heads per key/value head */
    float softcap;             /* 0 = none */
    few few;                   /* what op and units point to, where the step waits */
    unit few_units[MAX_DOT];
} attend_job;
_Static_assert(sizeof(attend_job) <= JOB_BYTES, "steps are large enough");

/* Per-thread work space. */
typedef struct space {
    float *keys;        /* [KEYS / PANEL, head_dim, PANEL], the block transposed */
    float *values;      /* [KEYS, head_dim] */
    float *scores;      /* [ROWS, KEYS] */
    float *top, *total; /* [shared * QUERIES] running maximum and sum of each row */
} space;

static int64_t space_floats(int64_t head_dim, int64_t shared)
{
    return 2 * KEYS * head_dim + ROWS * KEYS + 2 * shared * QUERIES;
}

static space space_at(const attend_job *j, int32_t thread)
{
    space s;
    int prepared;
    void *own = j->own ? j->own + thread * j->own_bytes : queue_own(j->d, j, thread, &prepared);
    s.keys = own;
    s.values = s.keys + KEYS * j->op.head_dim;
    s.scores = s.values + KEYS * j->op.head_dim;
    s.top = s.scores + ROWS * KEYS;
    s.total = s.top + j->shared * QUERIES;
    return s;
}

/* Keys and values of one head of one sequence. */
typedef struct source {
    const float *k, *v;
    int64_t row; /* stride between positions */
    int64_t past;
} source;

static source source_of(const sqz_op_attend *op, int64_t sequence, int64_t head)
{
    const cache *c = op->kv;
    if (c) {
        int64_t at = cache_at(c, op->layer, op->slot[sequence], head, 0);
        return (source){c->k + at, c->v + at, c->head_dim, op->past[sequence]};
    }
    int64_t row = op->kv_heads * op->head_dim, at = op->first[sequence] * row + head * op->head_dim;
    return (source){mem_at(&op->k) + at, mem_at(&op->v) + at, row, 0};
}

/* Up to ROWS rows that meet one block: consecutive queries of one head, or the heads of one query.
 */
typedef struct tile_rows {
    const float *q;
    float *y;
    int64_t n, stride;  /* between rows of q and y */
    int64_t self, step; /* position of the first row, and of each further one */
    float *top, *total;
} tile_rows;

static int64_t lowest(const sqz_op_attend *op, int64_t self)
{
    return op->window && self + 1 > op->window ? self + 1 - op->window : 0;
}

/* Scores, softmax and weighted values of positions at .. at+n-1. */
static void tile_block(const attend_job *j, const space *s, const tile_rows *r, const source *from,
                       int64_t at, int64_t n, int packed)
{
    const sqz_op_attend *op = &j->op;
    int64_t dim = op->head_dim, last = r->self + (r->n - 1) * r->step;
    int64_t hi = least(n, last + 1 - at), lo = lowest(op, r->self) - at;
    lo = lo < 0 ? 0 : lo;
    if (hi <= lo) return;
    lo = packed ? lo / PANEL * PANEL : lo;
    for (int64_t c = lo; packed && c < hi; c += PANEL)
        for (int64_t i = 0; i < dim; i += PARTIAL) {
            product one = {.a = r->q + i,
                           .a_row = r->stride,
                           .a_step = 1,
                           .b = s->keys + c * dim + i * PANEL,
                           .b_step = PANEL,
                           .steps = least(PARTIAL, dim - i),
                           .c = s->scores + c,
                           .ldc = KEYS,
                           .m = r->n,
                           .n = least(PANEL, hi - c),
                           .from_c = i > 0};
            j->k->multiply(&one);
        }
    for (int64_t i = 0; !packed && i < r->n; i++)
        for (int64_t c = lo; c < hi; c++)
            s->scores[i * KEYS + c] =
                j->k->inner(r->q + i * r->stride, from->k + (at + c) * from->row, dim);
    int started = r->total[0] > 0; /* the first row sees its keys first */
    float factor = j->softcap > 0 ? 1 : (float)op->scale;
    for (int64_t i = 0; i < r->n; i++) {
        int64_t self = r->self + i * r->step, end = least(hi, self + 1 - at);
        int64_t begin = lowest(op, self) - at;
        begin = begin < lo ? lo : begin;
        if (j->softcap > 0 && begin < end)
            j->k->softcap(s->scores + i * KEYS + begin, (float)op->scale, j->softcap, end - begin);
        float keep = j->k->softmax(s->scores + i * KEYS + lo, begin - lo, end - lo, hi - lo, factor,
                                   r->top + i, r->total + i);
        if (started && keep != 1) j->k->scale(r->y + i * r->stride, keep, dim);
    }
    const float *values = from->row == dim ? from->v + at * dim : s->values;
    for (int64_t c = 0; c < dim; c += PANEL) {
        product one = {.a = s->scores + lo,
                       .a_row = KEYS,
                       .a_step = 1,
                       .b = values + lo * dim + c,
                       .b_step = dim,
                       .steps = hi - lo,
                       .c = r->y + c,
                       .ldc = r->stride,
                       .m = r->n,
                       .n = least(PANEL, dim - c),
                       .from_c = started};
        j->k->multiply(&one);
    }
}

/* The block as the products want it: keys transposed, values together. */
static void pack_block(const attend_job *j, const space *s, const source *from, int64_t at,
                       int64_t n, int keys)
{
    int64_t dim = j->op.head_dim;
    for (int64_t c = 0; keys && c < n; c += PANEL)
        j->k->panel_rows(from->k + (at + c) * from->row, from->row * 4, least(PANEL, n - c), dim,
                         (uint32_t *)(s->keys + c * dim));
    for (int64_t i = 0; from->row != dim && i < n; i++)
        memcpy(s->values + i * dim, from->v + (at + i) * from->row, (size_t)dim * sizeof(float));
}

static void finish_rows(const attend_job *j, const tile_rows *r)
{
    for (int64_t i = 0; i < r->n; i++)
        j->k->scale(r->y + i * r->stride, 1 / r->total[i], j->op.head_dim);
}

/* The tile-th set of rows of a unit.  A step takes the shared heads of one query, prefill takes
 * queries of one head. */
static tile_rows rows_of(const attend_job *j, const space *s, const unit *u, int64_t kv_head,
                         int64_t past, int64_t tile, int step)
{
    const sqz_op_attend *op = &j->op;
    int64_t per = step ? (j->shared + ROWS - 1) / ROWS : (u->n + ROWS - 1) / ROWS;
    int64_t outer = tile / per, inner = tile % per * ROWS; /* outer: query or head of the group */
    int64_t query = step ? outer : inner, head = step ? inner : outer;
    int64_t row = op->first[u->sequence] + u->query + query;
    int64_t at = (row * op->heads + kv_head * j->shared + head) * op->head_dim;
    int64_t state = step ? query * j->shared + head : head * u->n + query;
    return (tile_rows){.q = mem_at(&op->q) + at,
                       .y = mem_at(&op->y) + at,
                       .n = least(ROWS, (step ? j->shared : u->n) - inner),
                       .stride = step ? op->head_dim : op->heads * op->head_dim,
                       .self = past + u->query + query,
                       .step = !step,
                       .top = s->top + state,
                       .total = s->total + state};
}

static void unit_run(const attend_job *j, const unit *u, int64_t kv_head, const space *s)
{
    const sqz_op_attend *op = &j->op;
    source from = source_of(op, u->sequence, kv_head);
    int step = u->n <= STEP_TOKENS, packed = !step || j->shared >= SHARED;
    int64_t tiles =
        step ? u->n * ((j->shared + ROWS - 1) / ROWS) : j->shared * ((u->n + ROWS - 1) / ROWS);
    int64_t begin = lowest(op, from.past + u->query), end = from.past + u->query + u->n;
    for (int64_t i = 0; i < j->shared * u->n; i++) {
        s->top[i] = -INFINITY;
        s->total[i] = 0;
    }
    for (int64_t at = begin; at < end; at += KEYS) {
        int64_t n = least(KEYS, end - at);
        pack_block(j, s, &from, at, n, packed);
        for (int64_t i = 0; i < tiles; i++) {
            tile_rows r = rows_of(j, s, u, kv_head, from.past, i, step);
            tile_block(j, s, &r, &from, at, n, packed);
        }
    }
    for (int64_t i = 0; i < tiles; i++) {
        tile_rows r = rows_of(j, s, u, kv_head, from.past, i, step);
        finish_rows(j, &r);
    }
}

static void attend_units(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const attend_job *j = arg;
    space s = space_at(j, thread);
    for (int64_t i = begin; i < end; i++)
        unit_run(j, j->units + i / j->op.kv_heads, i % j->op.kv_heads, &s);
}

/* ---- the operation ------------------------------------------------------------------------- */

static sqz_status attend_check(device *d, const sqz_op_attend *op, int64_t *units)
{
    const cache *c = op->kv;
    if (op->kv_heads < 1 || op->head_dim < 1 || op->heads % op->kv_heads || op->window < 0)
        return device_fail(d, SQZ_E_INVALID,
                           "hw_cpu: query heads must be a multiple of key/value heads");
    if (c && (c->kv_heads != op->kv_heads || c->head_dim != op->head_dim))
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: the cache was made for other heads");
    *units = 0;
    for (int64_t s = 0; s < op->sequences; s++) {
        int64_t n = op->first[s + 1] - op->first[s];
        if (n < 0 || (c && !cache_fits(c, op->layer, op->slot[s], op->past[s], n)))
            return device_fail(d, SQZ_E_INVALID, "hw_cpu: a sequence lies outside the cache");
        *units += (n + QUERIES - 1) / QUERIES;
    }
    return SQZ_OK;
}

/* Equal parts, so that no unit is a sliver. */
static void cut_units(const sqz_op_attend *op, unit *units)
{
    for (int64_t s = 0; s < op->sequences; s++) {
        int64_t tokens = op->first[s + 1] - op->first[s], parts = (tokens + QUERIES - 1) / QUERIES;
        for (int64_t i = 0; i < parts; i++) {
            int64_t a = tokens * i / parts, b = tokens * (i + 1) / parts;
            *units++ = (unit){s, a, b - a};
        }
    }
}

/* job and the n units of few tokens to the queue. */
static sqz_status attend_later(device *d, const attend_job *job, int64_t n)
{
    void *room;
    sqz_status status = queue_job(d, &room);
    if (status != SQZ_OK) return status;
    attend_job *j = room;
    sqz_op_attend *op = &j->op;
    *j = *job;
    few_keep(&j->few, op->sequences, &op->first, &op->past, &op->slot);
    cut_units(op, j->few_units);
    j->units = j->few_units;
    int64_t tokens = op->first[op->sequences], seen = tokens;
    for (int64_t s = 0; op->kv && s < op->sequences; s++) seen += op->past[s];
    work w = {.body = attend_units,
              .n = n * op->kv_heads,
              .chunk = 1,
              .bytes = 2 * seen * op->kv_heads * op->head_dim * (int64_t)sizeof(float),
              .own_bytes = j->own_bytes};
    touches(&w, &op->q, tokens * op->heads * op->head_dim, 0);
    touches(&w, &op->k, tokens * op->kv_heads * op->head_dim, 0);
    touches(&w, &op->v, tokens * op->kv_heads * op->head_dim, 0);
    touches(&w, &op->y, tokens * op->heads * op->head_dim, 1);
    touches_cache(&w, op->kv, 0);
    return queue_put(d, &w);
}

sqz_status attend_run(void *dev, const sqz_op_attend *op)
{
    device *d = dev;
    int64_t n = 0;
    sqz_status status = attend_check(d, op, &n);
    if (status != SQZ_OK || n == 0) return status;
    attend_job job = {.d = d, .k = d->k, .shared = op->heads / op->kv_heads};
    memcpy(&job.op, op, least((int64_t)sizeof job.op, op->struct_size));
    if (SQZ_HAS(op, sqz_op_attend, softcap)) job.softcap = (float)op->softcap;
    job.own_bytes = round_up(space_floats(op->head_dim, job.shared) * 4, 64);
    if (may_wait(d, op->sequences, op->first)) return attend_later(d, &job, n);
    status = queue_run(d);
    if (status != SQZ_OK) return status;
    int64_t list = round_up(n * (int64_t)sizeof(unit), 64);
    char *work = device_scratch(d, list + device_threads(d) * job.own_bytes);
    if (!work) return SQZ_E_NOMEM;
    cut_units(op, (unit *)work);
    job.units = (unit *)work;
    job.own = work + list;
    device_for(d, n * op->kv_heads, 1, attend_units, &job);
    return SQZ_OK;
}
