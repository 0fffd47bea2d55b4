/* rows.c - operations that touch each element once: embedding, norms, rope, activations, soft
 * capping, add, rows gathered and scattered, scores.
 * All of them are limited by memory; the pool helps only on large inputs, which `grain` says.
 * Small ones may wait (queue.c). */
#include "device.h"

#include <stdio.h>
#include <string.h>

enum {
    GRAIN = 16 << 10, /* elements a thread should get at least, */
    PARTS = 8         /* or of which this part where threads are at work anyway */
};

static int64_t row_grain(int64_t width)
{
    return width >= GRAIN ? 1 : GRAIN / (width < 1 ? 1 : width);
}

static sqz_status rows_now(device *d, int64_t n, int64_t grain, pool_body *body, const void *job)
{
    sqz_status st = queue_run(d);
    if (st == SQZ_OK) device_for(d, n, grain, body, (void *)(uintptr_t)job);
    return st;
}

/* Runs body over [0, w->n), or leaves it to the queue when it is small. */
static sqz_status rows_do(device *d, work *w, int64_t grain, const void *job, size_t job_bytes)
{
    void *kept;
    if (!queue_waits(d) || w->n > 4 * grain) return rows_now(d, w->n, grain, w->body, job);
    if (w->n < 1) return SQZ_OK;
    sqz_status st = queue_job(d, &kept);
    if (st != SQZ_OK) return st;
    memcpy(kept, job, job_bytes);
    w->chunk = grain / PARTS + (grain < PARTS);
    return queue_put(d, w);
}

typedef struct embed_job {
    const kernels *k;
    const char *table;
    const int32_t *ids;
    float *y;
    int64_t width, size;
    int32_t dtype;
} embed_job;

static void embed_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const embed_job *j = arg;
    for (int64_t t = begin; t < end; t++)
        j->k->to_f32(j->table + j->ids[t] * j->width * j->size, j->dtype, j->width,
                     j->y + t * j->width);
}

sqz_status rows_embed(void *dev, const void *table, int32_t dtype, int64_t width,
                      const int32_t *ids, int64_t tokens, const sqz_mem *y)
{
    device *d = dev;
    if (dtype != SQZ_F32 && dtype != SQZ_BF16 && dtype != SQZ_F16)
        return device_fail(d, SQZ_E_UNSUPPORTED,
                           "hw_cpu: embeddings are float32, bfloat16 or float16");
    for (int64_t t = 0; t < tokens; t++)
        if (ids[t] < 0) return device_fail(d, SQZ_E_INVALID, "hw_cpu: a token id is negative");
    embed_job job = {d->k, table, ids, mem_at(y), width, dtype == SQZ_F32 ? 4 : 2, dtype};
    return rows_now(d, tokens, row_grain(width), embed_rows, &job);
}

typedef struct norm_job {
    const kernels *k;
    sqz_op_norm op;
} norm_job;

static void norm_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const norm_job *j = arg;
    for (int64_t r = begin; r < end; r++)
        j->k->norm(mem_at(&j->op.x) + r * j->op.n, mem_at(&j->op.weight), j->op.n, j->op.eps,
                   mem_at(&j->op.y) + r * j->op.n);
}

sqz_status rows_norm(void *dev, const sqz_op_norm *op)
{
    device *d = dev;
    norm_job job = {d->k, *op};
    work w = {.body = norm_rows, .n = op->rows};
    touches(&w, &op->x, op->rows * op->n, 0);
    touches(&w, &op->y, op->rows * op->n, 1);
    touches(&w, &op->weight, op->n, 0);
    return rows_do(d, &w, row_grain(op->n), &job, sizeof job);
}

typedef struct layer_norm_job {
    const kernels *k;
    sqz_op_layer_norm op;
} layer_norm_job;

static void layer_norm_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const layer_norm_job *j = arg;
    const sqz_op_layer_norm *op = &j->op;
    for (int64_t r = begin; r < end; r++)
        j->k->layer_norm(mem_at(&op->x) + r * op->n, mem_at(&op->weight), mem_at(&op->bias), op->n,
                         op->eps, mem_at(&op->y) + r * op->n);
}

sqz_status rows_layer_norm(void *dev, const sqz_op_layer_norm *op)
{
    device *d = dev;
    layer_norm_job job = {d->k, *op};
    work w = {.body = layer_norm_rows, .n = op->rows};
    touches(&w, &op->x, op->rows * op->n, 0);
    touches(&w, &op->y, op->rows * op->n, 1);
    touches(&w, &op->weight, op->n, 0);
    touches(&w, &op->bias, op->n, 0);
    return rows_do(d, &w, row_grain(op->n), &job, sizeof job);
}

typedef struct rope_job {
    const kernels *k;
    sqz_op_rope op;
    int32_t few[MAX_DOT]; /* positions of few tokens, which may wait */
} rope_job;

static void rope_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const rope_job *j = arg;
    const sqz_op_rope *op = &j->op;
    const int32_t *position = op->tokens <= MAX_DOT ? j->few : op->position;
    int64_t half = op->n / 2;
    for (int64_t t = begin; t < end; t++) {
        const float *c = mem_at(&op->cosines) + position[t] * half;
        const float *s = mem_at(&op->sines) + position[t] * half;
        for (int64_t h = 0; h < op->heads; h++)
            j->k->rotate(mem_at(&op->x) + (t * op->heads + h) * op->head_dim, c, s, half);
    }
}

sqz_status rows_rope(void *dev, const sqz_op_rope *op)
{
    device *d = dev;
    if (op->n % 2 || op->n > op->head_dim || op->n < 0)
        return device_fail(d, SQZ_E_INVALID,
                           "hw_cpu: rope needs an even number of entries within the head");
    int64_t grain = row_grain(op->heads * op->n);
    rope_job job = {d->k, *op, {0}};
    work w = {.body = rope_rows, .n = op->tokens};
    touches(&w, &op->x, op->tokens * op->heads * op->head_dim, 1);
    if (op->tokens > MAX_DOT) return rows_now(d, op->tokens, grain, rope_rows, &job);
    if (op->tokens > 0) memcpy(job.few, op->position, (size_t)op->tokens * sizeof *job.few);
    return rows_do(d, &w, grain, &job, sizeof job);
}

typedef struct gate_job {
    const kernels *k;
    const float *gate, *up;
    float *y;
    int32_t act;
} gate_job;

static void gate_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const gate_job *j = arg;
    j->k->gate(j->act, j->gate + begin, j->up + begin, end - begin, j->y + begin);
}

sqz_status rows_gate(void *dev, int32_t act, int64_t n, const sqz_mem *gate, const sqz_mem *up,
                     const sqz_mem *y)
{
    device *d = dev;
    if (act < SQZ_ACT_SILU || act > SQZ_ACT_RELU)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: activation is not one of SQZ_ACT_...");
    gate_job job = {d->k, mem_at(gate), mem_at(up), mem_at(y), act};
    work w = {.body = gate_range, .n = n};
    touches(&w, gate, n, 0);
    touches(&w, up, n, 0);
    touches(&w, y, n, 1);
    return rows_do(d, &w, GRAIN, &job, sizeof job);
}

static void activate_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const gate_job *j = arg;
    j->k->activate(j->act, j->gate + begin, end - begin, j->y + begin);
}

sqz_status rows_activate(void *dev, int32_t act, int64_t n, const sqz_mem *x, const sqz_mem *y)
{
    device *d = dev;
    if (act < SQZ_ACT_SILU || act > SQZ_ACT_RELU)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: activation is not one of SQZ_ACT_...");
    gate_job job = {d->k, mem_at(x), NULL, mem_at(y), act};
    work w = {.body = activate_range, .n = n};
    touches(&w, x, n, 0);
    touches(&w, y, n, 1);
    return rows_do(d, &w, GRAIN, &job, sizeof job);
}

typedef struct scale_job {
    const kernels *k;
    float *y;
    float by; /* the factor, or the cap */
} scale_job;

static void scale_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const scale_job *j = arg;
    j->k->scale(j->y + begin, j->by, end - begin);
}

static void softcap_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const scale_job *j = arg;
    j->k->softcap(j->y + begin, 1, j->by, end - begin);
}

sqz_status rows_scale(void *dev, int64_t n, double by, const sqz_mem *y)
{
    device *d = dev;
    scale_job job = {d->k, mem_at(y), (float)by};
    work w = {.body = scale_range, .n = n};
    touches(&w, y, n, 1);
    return rows_do(d, &w, 2 * GRAIN, &job, sizeof job);
}

sqz_status rows_softcap(void *dev, int64_t n, double cap, const sqz_mem *y)
{
    device *d = dev;
    if (!(cap > 0)) return device_fail(d, SQZ_E_INVALID, "hw_cpu: a soft cap must be positive");
    scale_job job = {d->k, mem_at(y), (float)cap};
    work w = {.body = softcap_range, .n = n};
    touches(&w, y, n, 1);
    return rows_do(d, &w, GRAIN, &job, sizeof job);
}

/* Rows moved by number, in either direction. */
typedef struct move_job {
    const kernels *k;
    const float *x, *weight;
    float *y;
    const int64_t *rows;  /* NULL: few */
    int64_t few[MAX_DOT]; /* of few rows, which may wait */
    int64_t width;
} move_job;

static void gather_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const move_job *j = arg;
    const int64_t *rows = j->rows ? j->rows : j->few;
    for (int64_t r = begin; r < end; r++)
        memcpy(j->y + r * j->width, j->x + rows[r] * j->width, (size_t)j->width * sizeof *j->y);
}

static void scatter_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const move_job *j = arg;
    for (int64_t r = begin; r < end; r++)
        j->k->add_scaled(j->x + r * j->width, j->weight[r], j->width, j->y + j->rows[r] * j->width);
}

sqz_status rows_gather(void *dev, int64_t n, int64_t width, const int64_t *rows, const sqz_mem *x,
                       const sqz_mem *y)
{
    device *d = dev;
    move_job job = {d->k, mem_at(x), NULL, mem_at(y), n > MAX_DOT ? rows : NULL, {0}, width};
    if (n > MAX_DOT) return rows_now(d, n, row_grain(width), gather_range, &job);
    int64_t low = 0, high = -1;
    for (int64_t r = 0; r < n; r++) {
        low = r ? least(low, rows[r]) : rows[r];
        high = r && rows[r] < high ? high : rows[r];
        job.few[r] = rows[r];
    }
    work w = {.body = gather_range, .n = n};
    sqz_mem from = {x->handle, x->offset + low * width * (int64_t)sizeof(float)};
    touches(&w, &from, (high - low + 1) * width, 0);
    touches(&w, y, n * width, 1);
    return rows_do(d, &w, row_grain(width), &job, sizeof job);
}

sqz_status rows_scatter(void *dev, int64_t n, int64_t width, const int64_t *rows,
                        const float *weight, const sqz_mem *x, const sqz_mem *y)
{
    device *d = dev;
    move_job job = {d->k, mem_at(x), weight, mem_at(y), rows, {0}, width};
    return rows_now(d, n, row_grain(width), scatter_range, &job);
}

typedef struct add_job {
    const kernels *k;
    const float *x;
    float *y;
} add_job;

static void add_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const add_job *j = arg;
    j->k->add(j->x + begin, end - begin, j->y + begin);
}

sqz_status rows_add(void *dev, int64_t n, const sqz_mem *x, const sqz_mem *y)
{
    device *d = dev;
    add_job job = {d->k, mem_at(x), mem_at(y)};
    work w = {.body = add_range, .n = n};
    touches(&w, x, n, 0);
    touches(&w, y, n, 1);
    return rows_do(d, &w, 2 * GRAIN, &job, sizeof job);
}

typedef struct score_job {
    const kernels *k;
    const sqz_op_score *op;
} score_job;

static void score_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const score_job *j = arg;
    const sqz_op_score *op = j->op;
    for (int64_t r = begin; r < end; r++) {
        const float *x = mem_at(&op->logits) + r * op->n;
        int32_t best;
        double total;
        j->k->scores(x, op->n, &best, &total);
        if (op->argmax) op->argmax[r] = best;
        if (op->logsumexp) op->logsumexp[r] = (float)total;
        if (op->logprob && op->target && op->target[r] >= 0)
            op->logprob[r] = (float)(x[op->target[r]] - total);
    }
}

sqz_status rows_score(void *dev, const sqz_op_score *op)
{
    device *d = dev;
    if (op->n < 1) return device_fail(d, SQZ_E_INVALID, "hw_cpu: scores of rows without entries");
    for (int64_t r = 0; op->target && r < op->rows; r++)
        if (op->target[r] >= op->n)
            return device_fail(d, SQZ_E_INVALID, "hw_cpu: a score target is outside its row");
    score_job job = {d->k, op};
    return rows_now(d, op->rows, row_grain(op->n), score_rows, &job);
}
