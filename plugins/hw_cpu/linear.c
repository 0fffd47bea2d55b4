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

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    X_BYTES = 4 << 20,
    DOT_ROWS = BAND,        /* most rows of a unit of work with few tokens */
    UNIT_BYTES = 32 << 10,  /* aim of one: small, so that threads finish together */
    THREAD_BYTES = 64 << 10 /* of weights: what a thread is worth starting for */
};

/* A weight as decode reads it: units of work, one behind the other. */
typedef struct stretch {
    const uint8_t *at;
    int64_t units, bytes; /* bytes of a unit */
} stretch;

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
        if (d->last == p) d->last = NULL;
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

/* The rows are cut into one slice for each thread, so that each reads one stream of memory; a
 * thread that is done with its own helps with the others. */
typedef struct few_job {
    device *d;
    const packed *p;
    const sqz_op_linear *op;
    const void *x; /* as the kernel wants it */
    const float *sum;
    int64_t ldx;
    int32_t half; /* x is bfloat16 */
    int32_t slices;
    struct slice *slice;
} few_job;

/* Alone on its cache line. */
typedef struct slice {
    _Alignas(64) atomic_llong next; /* unit that nobody has taken */
} slice;

static int64_t slice_begin(const few_job *j, const stretch *of, int64_t s)
{
    return s * of->units / j->slices;
}

/* What the thread of slice s reads after `unit`: the next one, or its part of the next weight, so
 * that memory does not rest while the operations between two products run. */
static const uint8_t *read_after(const few_job *j, int64_t s, int64_t unit)
{
    const stretch *self = &j->p->self, *next = &j->p->next;
    if (!next->at || unit + 1 < slice_begin(j, self, s + 1))
        return self->at + (unit + 1) * self->bytes;
    return next->at + slice_begin(j, next, s) * next->bytes;
}

/* out is [n, tokens]. */
static void store_few(const few_job *j, int64_t row, int64_t n, const float *out)
{
    const float *bias = mem_at(&j->op->bias);
    int64_t tokens = j->op->tokens;
    for (int64_t t = 0; t < tokens; t++) {
        float *y = mem_at(&j->op->y) + t * j->p->rows + row;
        for (int64_t r = 0; r < n; r++) {
            float v = out[r * tokens + t] + (bias ? bias[row + r] : 0);
            y[r] = j->op->accumulate ? y[r] + v : v;
        }
    }
}

static void few_dense(const few_job *j, int64_t unit)
{
    const packed *p = j->p;
    float out[DOT_ROWS * MAX_DOT];
    int64_t row = unit * p->unit_rows;
    dot one = {.w = p->self.at + unit * p->self.bytes,
               .dtype = p->dtype,
               .tokens = (int32_t)j->op->tokens,
               .rows = least(p->unit_rows, p->rows - row),
               .cols = p->cols,
               .x = j->x,
               .ldx = j->ldx,
               .out = out};
    (j->half ? j->d->k->dot_pairs : j->d->k->dot)(&one);
    store_few(j, row, one.rows, out);
}

/* Units unit .. unit + n - 1 of slice s. */
static void few_units(const few_job *j, int64_t s, int64_t unit, int64_t n)
{
    const packed *p = j->p;
    if (p->dtype) {
        for (int64_t i = 0; i < n; i++) few_dense(j, unit + i);
        return;
    }
    codes_dot some = {.w = &p->codes,
                      .first = unit,
                      .bands = n,
                      .tokens = (int32_t)j->op->tokens,
                      .accumulate = j->op->accumulate,
                      .x = j->x,
                      .ldx = j->ldx,
                      .sum = j->sum,
                      .next = read_after(j, s, unit + n - 1),
                      .bias = mem_at(&j->op->bias),
                      .y = mem_at(&j->op->y)};
    (j->half ? j->d->k->dot_codes_pairs : j->d->k->dot_codes)(&some);
}

/* The next units of a slice, several at a time until its end is near; returns how many. */
static int64_t take_units(atomic_llong *next, int64_t stop, int64_t *unit)
{
    enum { MANY = 4, NEAR = 6 };
    long long at = atomic_load_explicit(next, memory_order_relaxed), n;
    do {
        if (at >= stop) return 0;
        n = stop - at > NEAR ? MANY : 1;
    } while (!atomic_compare_exchange_weak_explicit(next, &at, at + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    *unit = at;
    return n;
}

static void few_slices(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const few_job *j = arg;
    for (int64_t s = begin; s < end; s++)
        for (int64_t i = 0; i < j->slices; i++) {
            int64_t from = (s + i) % j->slices, unit, n;
            int64_t stop = slice_begin(j, &j->p->self, from + 1);
            while ((n = take_units(&j->slice[from].next, stop, &unit)) > 0)
                few_units(j, from, unit, n);
        }
}

/* x rounded, arranged and summed in the work space; *j points at what is used. */
static void few_x(few_job *j, char *work)
{
    const packed *p = j->p;
    const codes *c = &p->codes;
    const kernels *k = j->d->k;
    const float *x = mem_at(&j->op->x);
    int64_t tokens = j->op->tokens, n = tokens * p->cols;
    float *rounded = (float *)(void *)work;
    uint16_t *half = (uint16_t *)(void *)(work + round_up(n * 4, 64));
    char *arranged = work + round_up(n * 4, 64) + round_up(n * 2, 64);
    int asymmetric = !p->dtype && !c->symmetric;
    if (p->compute == SQZ_BF16 && (!j->half || asymmetric)) {
        k->round_bf16(x, n, rounded);
        x = rounded;
    }
    if (j->half) k->to_bf16(x, n, half);
    j->x = j->half ? (const void *)half : x;
    j->ldx = p->cols;
    if (p->dtype) return;
    if (asymmetric) {
        float *sum = (float *)(void *)(arranged + round_up(tokens * c->x_cols * 4, 64));
        codes_sums(c, tokens, x, sum);
        j->sum = sum;
    }
    if (c->straight && c->x_cols == c->cols) return;
    codes_arrange(c, tokens, j->x, j->half ? 2 : 4, arranged);
    j->x = arranged;
    j->ldx = c->x_cols;
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
    int64_t size = few_bytes(p, op->tokens);
    few_job job = {.d = d,
                   .p = p,
                   .op = op,
                   .half = p->compute == SQZ_BF16 && d->k->pairs &&
                           (p->dtype == 0 || p->dtype == SQZ_BF16),
                   .slices = (int32_t)least(device_threads(d), 1 + p->bytes / THREAD_BYTES)};
    char *work = device_scratch(d, size + job.slices * (int64_t)sizeof(slice));
    if (!work) return SQZ_E_NOMEM;
    note_order(d, p);
    few_x(&job, work);
    job.slice = (slice *)(void *)(work + size);
    for (int64_t s = 0; s < job.slices; s++)
        atomic_init(&job.slice[s].next, slice_begin(&job, &p->self, s));
    device_for(d, job.slices, 1, few_slices, &job);
    return SQZ_OK;
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
    return op->tokens <= d->k->dot_tokens ? run_few(d, p, op) : run_many(d, p, op);
}
