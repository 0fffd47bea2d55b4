/* linear.c - y = x W^T for dense and int-affine weights.
 *
 * Few tokens (decode): each weight is read once, straight from its own form, and met by
 * activations in float32, or in bfloat16 where SQZ_BF16 has rounded them anyway; memory is the
 * limit.  Many tokens (prefill): a task takes 64 rows of W, packs 128 units of k at a time into a
 * 32 KiB panel (converting or dequantizing on the way) and multiplies it with all tokens;
 * arithmetic is the limit.  Sums run over k in one fixed order, so a result does not depend on
 * threads, nor (beyond the choice of path) on how many tokens share the call.
 *
 * With SQZ_BF16 activations are rounded once per call.  Dense weights are rounded at pack;
 * dequantized ones are rounded in prefill and taken exactly in decode, where no product forces it.
 */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    X_BYTES = 4 << 20,
    DOT_ROWS = BAND,      /* most rows of a unit of work with few tokens */
    UNIT_BYTES = 32 << 10 /* aim of one: small, so that threads finish together */
};

typedef struct packed {
    int32_t compute;
    int32_t dtype; /* of dense data; 0 = int-affine */
    int64_t rows, cols, bytes, unit_rows;
    const void *data; /* [rows, cols]: the caller's, or `owned` */
    void *owned;
    codes codes;
    stretch self, next; /* next: of the weight that came after this one the last time */
} packed;

/* ---- packing ------------------------------------------------------------------------------- */

static sqz_status pack_affine(device *d, const sqz_affine *a, packed *p)
{
    if (!a || a->rows != p->rows || a->cols != p->cols || a->group_size < 1)
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: int-affine weight and its shape disagree");
    if (a->bits != 2 && a->bits != 3 && a->bits != 4 && a->bits != 8)
        return device_fail(d, SQZ_E_UNSUPPORTED,
                           "hw_cpu: int-affine weights have 2, 3, 4 or 8 bits");
    sqz_status st = codes_new(d, a, &p->codes);
    int64_t bands = (p->rows + BAND - 1) / BAND;
    p->bytes = bands * p->codes.band_bytes;
    p->unit_rows = BAND;
    p->self = (stretch){p->codes.bands, bands, p->codes.band_bytes};
    return st;
}

typedef struct round_job {
    const kernels *k;
    const packed *p;
    uint16_t *to;
    const void *from;
    int32_t dtype;
    float *line; /* [threads, cols] */
} round_job;

static void round_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const round_job *j = arg;
    int64_t n = j->p->cols, size = j->dtype == SQZ_F32 ? 4 : 2;
    float *line = j->line + thread * n;
    for (int64_t r = begin; r < end; r++) {
        j->k->to_f32((const char *)j->from + r * n * size, j->dtype, n, line);
        j->k->to_bf16(line, n, j->to + r * n);
    }
}

static sqz_status pack_dense(device *d, const sqz_weight *w, packed *p)
{
    if (w->dtype != SQZ_F32 && w->dtype != SQZ_BF16 && w->dtype != SQZ_F16)
        return device_fail(d, SQZ_E_UNSUPPORTED,
                           "hw_cpu: dense weights are float32, bfloat16 or float16");
    p->dtype = w->dtype;
    p->data = w->data;
    if (p->compute == SQZ_BF16 && w->dtype != SQZ_BF16) {
        p->dtype = SQZ_BF16;
        p->data = p->owned = malloc((size_t)(w->rows * w->cols) * 2);
        float *lines = device_scratch(d, device_threads(d) * w->cols * 4);
        if (!p->owned)
            return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for a weight in bfloat16");
        if (!lines) return SQZ_E_NOMEM;
        round_job job = {d->k, p, p->owned, w->data, w->dtype, lines};
        device_for(d, w->rows, 1 + 16384 / w->cols, round_rows, &job);
    }
    int64_t row = w->cols * (p->dtype == SQZ_F32 ? 4 : 2);
    p->bytes = w->rows * row;
    p->unit_rows = least(DOT_ROWS, 4 + UNIT_BYTES / row / 4 * 4);
    p->self = (stretch){p->data, (p->rows + p->unit_rows - 1) / p->unit_rows, p->unit_rows * row};
    return SQZ_OK;
}

void linear_packed_free(void *dev, void *weight)
{
    device *d = dev;
    packed *p = weight;
    if (p) {
        (void)queue_run(d); /* what waits may read it */
        if (d->last == p) d->last = NULL;
        d->weight_bytes -= p->bytes;
        free(p->owned);
        codes_free(d, &p->codes);
    }
    free(p);
}

sqz_status linear_pack(void *dev, const sqz_weight *w, int32_t compute, void **out)
{
    device *d = dev;
    int64_t n;
    if (w->rows < 1 || w->cols < 1 || __builtin_mul_overflow(w->rows, w->cols, &n) ||
        n > INT64_MAX / 16)
        return device_fail(d, SQZ_E_INVALID,
                           "hw_cpu: a weight has no rows, no columns or too many");
    if (compute != SQZ_F32 && compute != SQZ_BF16)
        return device_fail(d, SQZ_E_UNSUPPORTED, "hw_cpu: compute is SQZ_F32 or SQZ_BF16");
    packed *p = calloc(1, sizeof *p);
    if (!p) return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for a packed weight");
    p->compute = compute;
    p->rows = w->rows;
    p->cols = w->cols;
    sqz_status status;
    if (strcmp(w->form, SQZ_FORM_DENSE) == 0) {
        status = pack_dense(d, w, p);
    } else if (strcmp(w->form, SQZ_FORM_INT_AFFINE) == 0) {
        status = pack_affine(d, w->affine, p);
    } else {
        char text[128];
        snprintf(text, sizeof text,
                 "hw_cpu: weight form %.40s is neither " SQZ_FORM_DENSE " nor " SQZ_FORM_INT_AFFINE,
                 w->form);
        status = device_fail(d, SQZ_E_UNSUPPORTED, text);
    }
    d->weight_bytes += p->bytes;
    if (status != SQZ_OK) {
        linear_packed_free(dev, p);
        return status;
    }
    *out = p;
    return SQZ_OK;
}

int64_t linear_packed_bytes(void *dev, const void *weight)
{
    (void)dev;
    return ((const packed *)weight)->bytes;
}

/* ---- few tokens ---------------------------------------------------------------------------- */

typedef struct few_job {
    device *d;
    const packed *p;
    sqz_op_linear op;
    int32_t half; /* x is bfloat16 */
} few_job;

/* x as the kernel wants it. */
typedef struct few_x {
    const void *x;
    const float *sum; /* [tokens, groups], or NULL */
    int64_t ldx;
} few_x;

/* out is [n, tokens]. */
static void store_few(const few_job *j, int64_t row, int64_t n, const float *out)
{
    const float *bias = mem_at(&j->op.bias);
    int64_t tokens = j->op.tokens;
    for (int64_t t = 0; t < tokens; t++) {
        float *y = mem_at(&j->op.y) + t * j->p->rows + row;
        for (int64_t r = 0; r < n; r++) {
            float v = out[r * tokens + t] + (bias ? bias[row + r] : 0);
            y[r] = j->op.accumulate ? y[r] + v : v;
        }
    }
}

static void few_dense(const few_job *j, const few_x *in, int64_t unit)
{
    const packed *p = j->p;
    float out[DOT_ROWS * MAX_DOT];
    int64_t row = unit * p->unit_rows;
    dot one = {.w = p->self.at + unit * p->self.bytes,
               .dtype = p->dtype,
               .tokens = (int32_t)j->op.tokens,
               .once = device_reads_once(j->d),
               .rows = least(p->unit_rows, p->rows - row),
               .cols = p->cols,
               .x = in->x,
               .ldx = in->ldx,
               .out = out};
    (j->half ? j->d->k->dot_pairs : j->d->k->dot)(&one);
    store_few(j, row, one.rows, out);
}

/* x rounded, arranged and summed in a member's own memory, unless it is there already. */
static few_x few_prepare(const few_job *j, char *own, int prepared)
{
    const packed *p = j->p;
    const codes *c = &p->codes;
    const kernels *k = j->d->k;
    const float *x = mem_at(&j->op.x);
    int64_t tokens = j->op.tokens, n = tokens * p->cols;
    float *rounded = (float *)(void *)own;
    uint16_t *half = (uint16_t *)(void *)(own + round_up(n * 4, 64));
    char *arranged = own + round_up(n * 4, 64) + round_up(n * 2, 64);
    float *sum = (float *)(void *)(arranged + round_up(tokens * c->x_cols * 4, 64));
    int asymmetric = !p->dtype && !c->symmetric;
    int arrange = !p->dtype && !(c->straight && c->x_cols == c->cols);
    if (p->compute == SQZ_BF16 && (!j->half || asymmetric)) {
        if (!prepared) k->round_bf16(x, n, rounded);
        x = rounded;
    }
    few_x in = {j->half ? (const void *)half : x, asymmetric ? sum : NULL, p->cols};
    if (j->half && !prepared) k->to_bf16(x, n, half);
    if (asymmetric && !prepared) codes_sums(c, tokens, x, sum);
    if (arrange && !prepared) codes_arrange(c, tokens, in.x, j->half ? 2 : 4, arranged);
    return arrange ? (few_x){arranged, in.sum, c->x_cols} : in;
}

static void few_units(void *job, int64_t begin, int64_t end, int32_t id)
{
    const few_job *j = job;
    const packed *p = j->p;
    int prepared;
    char *own = queue_own(j->d, job, id, &prepared);
    few_x in = few_prepare(j, own, prepared);
    if (p->dtype) {
        for (int64_t i = begin; i < end; i++) few_dense(j, &in, i);
        return;
    }
    codes_dot some = {.w = &p->codes,
                      .first = begin,
                      .bands = end - begin,
                      .tokens = (int32_t)j->op.tokens,
                      .once = device_reads_once(j->d),
                      .accumulate = j->op.accumulate,
                      .x = in.x,
                      .ldx = in.ldx,
                      .sum = in.sum,
                      .next = queue_after(j->d, job, end - 1),
                      .bias = mem_at(&j->op.bias),
                      .y = mem_at(&j->op.y)};
    (j->half ? j->d->k->dot_codes_pairs : j->d->k->dot_codes)(&some);
}

static int64_t few_bytes(const packed *p, int64_t tokens)
{
    int64_t n = tokens * p->cols;
    return round_up(n * 4, 64) + round_up(n * 2, 64) + round_up(tokens * p->codes.x_cols * 4, 64) +
           round_up(tokens * p->codes.groups * 4, 64);
}

/* Weights are used in the same order for every token. */
static void note_order(device *d, packed *p)
{
    packed *last = d->last;
    if (last && last != p) last->next = p->self;
    d->last = p;
}

static sqz_status run_few(device *d, packed *p, const sqz_op_linear *op)
{
    void *job;
    sqz_status st = queue_job(d, &job);
    if (st != SQZ_OK) return st;
    *(few_job *)job = (few_job){.d = d,
                                .p = p,
                                .op = *op,
                                .half = p->compute == SQZ_BF16 && d->k->pairs &&
                                        (p->dtype == 0 || p->dtype == SQZ_BF16)};
    work w = {.body = few_units,
              .n = p->self.units,
              .chunk = 1,
              .bytes = p->bytes,
              .own_bytes = few_bytes(p, op->tokens),
              .weights = p->self,
              .follows = &p->next};
    touches(&w, &op->x, op->tokens * p->cols, 0);
    touches(&w, &op->y, op->tokens * p->rows, 1);
    touches(&w, &op->bias, p->rows, 0);
    note_order(d, p);
    return queue_put(d, &w);
}

/* ---- many tokens --------------------------------------------------------------------------- */

typedef struct many_job {
    device *d;
    const packed *p;
    const void *x;                 /* units */
    int64_t x_row;                 /* in units */
    int64_t tokens, chunk, chunks; /* tokens a task takes, and how many tasks share a panel */
    float *y;
    const float *bias;
    int32_t accumulate, pairs;
    char *own; /* per thread: a panel, and rows before they are transposed into it */
    int64_t own_bytes;
} many_job;

enum { PANEL_BYTES = PANEL * STEPS * 4, ROWS_BYTES = PANEL_BYTES, LINE_BYTES = 2 * STEPS * 4 };

/* Elements k .. k+n-1 of rows r .. r+rows-1 of W as a panel of units; returns its steps. */
static int64_t fill_panel(const many_job *j, int64_t r, int64_t rows, int64_t k, int64_t n,
                          char *own)
{
    const packed *p = j->p;
    const kernels *kn = j->d->k;
    uint32_t *panel = (uint32_t *)own;
    char *to = own + PANEL_BYTES;
    float *line = (float *)(own + PANEL_BYTES + ROWS_BYTES);
    int64_t size = p->dtype == SQZ_F32 ? 4 : 2, at = r * p->cols + k;
    int64_t steps = j->pairs ? (n + 1) / 2 : n;
    if (p->dtype == (j->pairs ? SQZ_BF16 : SQZ_F32) && !(j->pairs && n % 2)) {
        kn->panel_rows((const char *)p->data + at * size, p->cols * size, rows, steps, panel);
        return steps;
    }
    if (!p->dtype) {
        int32_t how = j->pairs ? COPY_PAIRS : p->compute == SQZ_BF16 ? COPY_ROUNDED : COPY_F32;
        kn->codes_panel(&p->codes, r, rows, k, n, how, panel);
        return steps;
    }
    for (int64_t i = 0; i < rows; i++, at += p->cols) {
        float *row = j->pairs ? line : (float *)to + i * steps;
        kn->to_f32((const char *)p->data + at * size, p->dtype, n, row);
        if (j->pairs) {
            uint16_t *half = (uint16_t *)to + i * 2 * steps;
            half[2 * steps - 1] = 0;
            kn->to_bf16(row, n, half);
        } else if (p->compute == SQZ_BF16) {
            kn->round_bf16(row, n, row);
        }
    }
    kn->panel_rows(to, steps * 4, rows, steps, panel);
    return steps;
}

static void many_tasks(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const many_job *j = arg;
    const packed *p = j->p;
    char *own = j->own + thread * j->own_bytes;
    int64_t deep = j->pairs ? 2 * STEPS : STEPS;
    for (int64_t task = begin; task < end; task++) {
        int64_t r = task / j->chunks * PANEL, rows = least(PANEL, p->rows - r);
        int64_t t = task % j->chunks * j->chunk, tokens = least(j->chunk, j->tokens - t);
        for (int64_t k = 0; k < p->cols; k += deep) {
            int64_t n = least(deep, p->cols - k);
            product one = {
                .a = (const uint32_t *)j->x + t * j->x_row + (j->pairs ? k / 2 : k),
                .a_row = j->x_row,
                .a_step = 1,
                .b = own,
                .b_step = PANEL,
                .steps = fill_panel(j, r, rows, k, n, own),
                .c = j->y + t * p->rows + r,
                .ldc = p->rows,
                .m = tokens,
                .n = rows,
                .from_c = k > 0 || j->accumulate,
                .bias = j->bias && k + n == p->cols ? j->bias + r : NULL,
            };
            if (j->pairs)
                j->d->k->multiply_pairs(&one);
            else
                j->d->k->multiply(&one);
        }
    }
}

typedef struct x_job {
    const kernels *k;
    const float *x;
    void *to;
    int64_t cols, stride; /* of `to`, in elements */
    int32_t pairs;
} x_job;

static void round_x(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const x_job *j = arg;
    for (int64_t t = begin; t < end; t++) {
        const float *x = j->x + t * j->cols;
        if (j->pairs) {
            uint16_t *to = (uint16_t *)j->to + t * j->stride;
            to[j->stride - 1] = 0;
            j->k->to_bf16(x, j->cols, to);
        } else {
            j->k->round_bf16(x, j->cols, (float *)j->to + t * j->stride);
        }
    }
}

/* At most about X_BYTES of rounded x at a time: the panels are packed again for each such part. */
static sqz_status run_many(device *d, const packed *p, const sqz_op_linear *op)
{
    int32_t threads = device_threads(d), rounds = p->compute == SQZ_BF16;
    int32_t pairs = rounds && d->k->pairs;
    int64_t stride = pairs ? round_up(p->cols, 2) : p->cols, size = pairs ? 2 : 4;
    int64_t part = rounds ? round_up(X_BYTES / (stride * size) + 1, 64) : op->tokens;
    part = least(part, op->tokens);
    int64_t x_bytes = rounds ? round_up(part * stride * size, 64) : 0;
    many_job job = {.d = d,
                    .p = p,
                    .bias = mem_at(&op->bias),
                    .accumulate = op->accumulate,
                    .pairs = pairs,
                    .x_row = stride * size / 4,
                    .own_bytes = PANEL_BYTES + ROWS_BYTES + LINE_BYTES};
    char *work = device_scratch(d, x_bytes + threads * job.own_bytes);
    if (!work) return SQZ_E_NOMEM;
    job.own = work + x_bytes;
    int64_t panels = (p->rows + PANEL - 1) / PANEL;
    for (int64_t t = 0; t < op->tokens; t += part) {
        job.tokens = least(part, op->tokens - t);
        job.x = mem_at(&op->x) + t * p->cols;
        job.y = mem_at(&op->y) + t * p->rows;
        if (rounds) {
            x_job rounding = {d->k, job.x, work, p->cols, stride, pairs};
            device_for(d, job.tokens, 1 + 32768 / p->cols, round_x, &rounding);
            job.x = work;
        }
        /* enough tasks to share evenly, but no panel packed for fewer than 192 tokens */
        int64_t wanted = threads == 1 ? 1 : (6 * threads + panels - 1) / panels;
        wanted = least(wanted, job.tokens / 192);
        job.chunk =
            round_up((job.tokens + (wanted < 1 ? 1 : wanted) - 1) / (wanted < 1 ? 1 : wanted), 6);
        job.chunks = (job.tokens + job.chunk - 1) / job.chunk;
        device_for(d, panels * job.chunks, 1, many_tasks, &job);
    }
    return SQZ_OK;
}

sqz_status linear_run(void *dev, const sqz_op_linear *op)
{
    device *d = dev;
    packed *p = (packed *)(uintptr_t)op->packed;
    if (op->compute != p->compute)
        return device_fail(d, SQZ_E_INVALID,
                           "hw_cpu: a weight is used with another compute than it was packed for");
    if (op->tokens < 1) return SQZ_OK;
    if (op->tokens <= d->k->dot_tokens) return run_few(d, p, op);
    sqz_status st = queue_run(d);
    return st == SQZ_OK ? run_many(d, p, op) : st;
}
