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

enum { X_BYTES = 4 << 20, DOT_ROWS = 32 };

typedef struct packed {
    int32_t compute;
    int32_t dtype; /* of dense data; 0 = int-affine */
    int64_t rows, cols, bytes;
    const void *data; /* [rows, cols]: the caller's, or `owned` */
    void *owned;
    sqz_affine affine;
    int64_t blocks;       /* of dot_affine; 0 = this weight is dequantized row by row */
    int32_t *lanes;       /* [blocks, 16] */
    int32_t *first_group; /* [blocks] */
} packed;

/* ---- packing ------------------------------------------------------------------------------- */

/* The lane map of dot_affine.  Every lane must lie inside one group and a block may span at most
 * 16; other group sizes take the slow path. */
static sqz_status map_lanes(device *d, packed *p)
{
    const sqz_affine *a = &p->affine;
    int64_t lane = affine_lane(a->bits), width = 16 * lane;
    if (!d->k->dot_affine || (a->group_size % lane && a->group_size < a->cols)) return SQZ_OK;
    p->blocks = (a->cols + width - 1) / width;
    p->lanes = malloc((size_t)p->blocks * 16 * sizeof *p->lanes);
    p->first_group = malloc((size_t)p->blocks * sizeof *p->first_group);
    if (!p->lanes || !p->first_group)
        return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for a packed weight");
    for (int64_t b = 0; b < p->blocks; b++) {
        p->first_group[b] = (int32_t)(b * width / a->group_size);
        for (int64_t i = 0; i < 16; i++) {
            int64_t col = least(b * width + i * lane, a->cols - 1);
            p->lanes[b * 16 + i] = (int32_t)(col / a->group_size) - p->first_group[b];
        }
    }
    return SQZ_OK;
}

static sqz_status pack_affine(device *d, const sqz_affine *a, packed *p)
{
    if (!a || a->rows != p->rows || a->cols != p->cols || a->group_size < 1)
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: int-affine weight and its shape disagree");
    if (a->bits != 2 && a->bits != 3 && a->bits != 4 && a->bits != 8)
        return device_fail(d, SQZ_E_UNSUPPORTED,
                           "hw_cpu: int-affine weights have 2, 3, 4 or 8 bits");
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    p->affine = *a;
    p->bytes = a->rows * ((a->cols * a->bits + 31) / 32 * 4 + groups * (a->symmetric ? 2 : 3));
    return map_lanes(d, p);
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
    p->bytes = w->rows * w->cols * (p->dtype == SQZ_F32 ? 4 : 2);
    return SQZ_OK;
}

void linear_packed_free(void *dev, void *weight)
{
    (void)dev;
    packed *p = weight;
    if (p) {
        free(p->owned);
        free(p->lanes);
        free(p->first_group);
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

typedef struct few_job {
    device *d;
    const packed *p;
    const sqz_op_linear *op;
    const float *x;        /* as given, rounded, or in the order of the bits */
    const float *sum;      /* lane sums of the ordered x */
    const uint16_t *pairs; /* the ordered x in bfloat16, in place of x */
    int64_t ldx;
    char *own; /* per-thread work space */
    int64_t own_bytes;
} few_job;

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

static void few_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const few_job *j = arg;
    const packed *p = j->p;
    const kernels *k = j->d->k;
    int32_t tokens = (int32_t)j->op->tokens;
    float out[DOT_ROWS * MAX_DOT];
    float *line = (float *)(j->own + thread * j->own_bytes);
    for (int64_t r = begin; r < end; r += DOT_ROWS) {
        int64_t n = least(DOT_ROWS, end - r);
        if (p->dtype) {
            int64_t size = p->dtype == SQZ_F32 ? 4 : 2;
            dot one = {(const char *)p->data + r * p->cols * size,
                       p->dtype,
                       tokens,
                       n,
                       p->cols,
                       j->x,
                       j->ldx,
                       out};
            k->dot(&one);
        } else if (p->blocks) {
            affine_dot one = {.w = &p->affine,
                              .lanes = p->lanes,
                              .first_group = p->first_group,
                              .tokens = tokens,
                              .first_row = r,
                              .rows = n,
                              .x = j->x,
                              .pairs = j->pairs,
                              .sum = j->sum,
                              .out = out};
            if (j->pairs)
                k->dot_affine_pairs(&one);
            else
                k->dot_affine(&one);
        } else {
            for (int64_t i = 0; i < n; i++) {
                dot one = {line, SQZ_F32, tokens, 1, p->cols, j->x, j->ldx, out + i * tokens};
                k->affine_row(&p->affine, r + i, 0, p->cols, line);
                k->dot(&one);
            }
        }
        store_few(j, r, n, out);
    }
}

/* x in the order in which dot_affine's vectors come out of the bits, [blocks, lane, tokens, 16];
 * zero beyond the last column. */
static void order_x(const packed *p, int64_t tokens, const float *x, float *to)
{
    int64_t lane = affine_lane(p->affine.bits), width = 16 * lane;
    for (int64_t b = 0; b < p->blocks; b++, to += width * tokens) {
        if (p->cols - b * width < width) memset(to, 0, (size_t)(width * tokens) * sizeof *to);
        for (int64_t t = 0; t < tokens; t++) {
            const float *from = x + t * p->cols + b * width;
            int64_t left = least(width, p->cols - b * width);
            for (int64_t i = 0; i * lane < left; i++)
                for (int64_t s = 0; s < least(lane, left - i * lane); s++)
                    to[(s * tokens + t) * 16 + i] = from[i * lane + s];
        }
    }
}

/* The same for dot_affine_pairs: [blocks, vectors, tokens, 32], lane i of vector s is column
 * n i + s of the block, n = 16 / bits; 8-bit codes are met half by half, so their x comes twice. */
static void order_pairs(const packed *p, int64_t tokens, const uint16_t *x, uint16_t *to)
{
    int64_t n = 16 / p->affine.bits, width = 32 * n, twice = p->affine.bits == 8 ? 2 : 1;
    for (int64_t b = 0; b < p->blocks; b++, to += width * twice * tokens) {
        if (p->cols - b * width < width)
            memset(to, 0, (size_t)(width * twice * tokens) * sizeof *to);
        for (int64_t t = 0; t < tokens; t++) {
            const uint16_t *from = x + t * p->cols + b * width;
            int64_t left = least(width, p->cols - b * width);
            for (int64_t s = 0; s < n * twice; s++) {
                uint16_t *line = to + (s * tokens + t) * 32;
                for (int64_t i = 0, c = s / twice; c < left; i++, c += n) line[i] = from[c];
            }
        }
    }
}

/* The sum of x over each lane of 32 bits, [blocks, tokens, 16]. */
static void sum_lanes(const packed *p, int64_t tokens, const float *x, float *sum)
{
    int64_t lane = affine_lane(p->affine.bits), width = 16 * lane;
    for (int64_t b = 0; b < p->blocks; b++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = 0; i < 16; i++) {
                int64_t col = b * width + i * lane, n = least(lane, p->cols - col);
                const float *from = x + t * p->cols + col;
                float total = 0;
                for (int64_t s = 0; s < n; s++) total += from[s];
                *sum++ = total;
            }
}

static sqz_status run_few(device *d, const packed *p, const sqz_op_linear *op)
{
    int64_t tokens = op->tokens, n = tokens * p->cols;
    int64_t width = 16 * affine_lane(p->affine.bits) * p->blocks;
    int64_t rounded = p->compute == SQZ_BF16 ? round_up(n * 4, 64) : 0;
    int pairs = rounded && p->blocks && d->k->dot_affine_pairs && p->affine.bits != 3;
    int64_t halves = pairs ? round_up(n * 2, 64) : 0;
    int64_t ordered = tokens * (width + 16 * p->blocks) * 4;
    int64_t own = p->dtype || p->blocks ? 0 : round_up(p->cols * 4, 64); /* a row */
    char *work = device_scratch(d, rounded + halves + ordered + own * device_threads(d) + 64);
    if (!work) return SQZ_E_NOMEM;
    few_job job = {.d = d,
                   .p = p,
                   .op = op,
                   .x = mem_at(&op->x),
                   .ldx = p->cols,
                   .own = work + rounded + halves + ordered,
                   .own_bytes = own};
    if (rounded) {
        d->k->round_bf16(job.x, n, (float *)work);
        job.x = (const float *)work;
    }
    if (p->blocks) {
        float *to = (float *)(work + rounded + halves), *sum = to + tokens * width;
        if (!p->affine.symmetric) sum_lanes(p, tokens, job.x, sum);
        job.sum = sum;
        if (pairs) {
            d->k->to_bf16(job.x, n, (uint16_t *)(work + rounded));
            order_pairs(p, tokens, (uint16_t *)(work + rounded), (uint16_t *)to);
            job.pairs = (uint16_t *)to;
        } else {
            order_x(p, tokens, job.x, to);
        }
        job.x = to;
    }
    /* A thread is worth starting for about 64 KiB of weights; large weights are dealt out in larger
     * pieces, because what is prefetched beyond the end of one is lost. */
    int64_t piece = p->bytes < (1 << 20) ? 64 << 10 : 128 << 10;
    int64_t grain = round_up(piece / (p->bytes / p->rows + 1) + 1, 4);
    device_for(d, p->rows, grain, few_rows, &job);
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
    for (int64_t i = 0; i < rows; i++, at += p->cols) {
        float *row = j->pairs ? line : (float *)to + i * steps;
        if (p->dtype)
            kn->to_f32((const char *)p->data + at * size, p->dtype, n, row);
        else
            kn->affine_row(&p->affine, r + i, k, n, row);
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
    const packed *p = op->packed;
    if (op->compute != p->compute)
        return device_fail(d, SQZ_E_INVALID,
                           "hw_cpu: a weight is used with another compute than it was packed for");
    if (op->tokens < 1) return SQZ_OK;
    return op->tokens <= d->k->dot_tokens ? run_few(d, p, op) : run_many(d, p, op);
}
