/* gptq.c - GPTQ: weights quantized column by column against the layer's second moments.
 *
 * The plugin's face: its description, its parameters, and the order of the stages.  The mathematics
 * is in factor.c (order, damping), grid.h (scales), walk.c (the columns), polish.h and descend.c
 * (refinement); docs/methods/gptq.md leads from the papers to these files. */
#include "job.h"
#include <sqz/help.h>
#include <math.h>
#include <stdlib.h>

#define GPTQ_PARAMS(P)                                                                             \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, group_size, 128, -1, 128, "-1|32|64|128", SQZ_SEARCH,                               \
      "input features that share a scale; -1 is the whole row")                                    \
    P(SQZ_BOOL, symmetric, 1, 0, 1, NULL, SQZ_SEARCH,                                              \
      "fixed zero point in the middle of the grid")                                                \
    P(SQZ_CHOICE, order, 2, 0, 2, "natural|activation|group", 0,                                   \
      "columns walked as they stand, or by falling Hessian diagonal: all, or inside their groups") \
    P(SQZ_REAL, damp, 0.01, 0, 1, NULL, 0, "ridge, as a share of the mean Hessian diagonal")       \
    P(SQZ_INT, scale_search, -1, -1, 400, NULL, 0,                                                 \
      "candidate scales a group; 0: cover the extremes; -1: 13, 20, 40 and 1 at 2, 3, 4 and 8 "    \
      "bits")                                                                                      \
    P(SQZ_CHOICE, negative_scales, 0, 0, 2, "auto|never|always", 0,                                \
      "symmetric: a scale may be negative, which turns the longer side of the grid over; auto: "   \
      "2, 3 bits")                                                                                 \
    P(SQZ_BOOL, late_grids, 1, 0, 1, NULL, 0,                                                      \
      "fit a group's grid when the walk reaches it (orders natural and group)")                    \
    P(SQZ_CHOICE, polish, 0, 0, 2, "auto|never|always", 0,                                         \
      "refine a group's scale and codes before the walk leaves it (needs late_grids); auto: "      \
      "2 bits")                                                                                    \
    P(SQZ_INT, sweeps, 0, 0, 100, NULL, 0, "refinement passes over codes and scales at the end")   \
    P(SQZ_REAL, min_tokens, 0.25, 0, 16, NULL, 0,                                                  \
      "calibration tokens per input feature below which the layer is rounded to nearest")          \
    P(SQZ_BOOL, true_sequential, 0, 0, 1, NULL, 0,                                                 \
      "statistics of the model as quantized so far, input by input; about ten times the time")
SQZ_CALL(gptq_linear, GPTQ_PARAMS);
enum { AUTO, NEVER, ALWAYS };

/* ---- checks ---------------------------------------------------------------------------------- */

typedef struct scan {
    const float *x;
    _Atomic int bad;
} scan;

static void scan_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    scan *s = arg;
    uint32_t bad = 0;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        uint32_t bits;
        memcpy(&bits, s->x + i, sizeof bits);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u); /* NaN and infinity */
    }
    if (bad) s->bad = 1;
}

static int all_finite(const sqz_host *host, const sqz_pool *pool, const float *x, int64_t n)
{
    scan s = {x, 0};
    pool->parallel_for(host, n, 1 << 16, scan_range, &s);
    return !s.bad;
}

static sqz_status check_subject(const sqz_host *host, const sqz_pool *pool,
                                const sqz_linear *linear)
{
    if (linear->rows <= 0 || linear->cols <= 0 || linear->cols > INT32_MAX)
        return sqz_failf(host, SQZ_E_INVALID, "gptq: %s has shape [%lld, %lld]", linear->module,
                         (long long)linear->rows, (long long)linear->cols);
    if (!all_finite(host, pool, linear->weight, linear->rows * linear->cols))
        return sqz_failf(host, SQZ_E_NUMERIC,
                         "gptq: %s holds NaN or infinite weights; repair the checkpoint or exclude "
                         "the module by a rule",
                         linear->module);
    return SQZ_OK;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static void job_free(gptq_job *job)
{
    free(job->work);
    free(job->codes);
    free(job->scales);
    free(job->zeros);
}

static sqz_status job_allocate(gptq_job *job, int with_statistics)
{
    size_t stride = (size_t)job->stride, cols = (size_t)job->cols, groups = (size_t)job->n_groups;
    enum { LINE = 64 }; /* bytes, of the cache */
    job->codes = calloc(cols, stride);
    job->scales = calloc(groups * stride, sizeof(float));
    job->zeros = calloc(groups * stride, sizeof(float));
    int ok = job->codes && job->scales && job->zeros;
    if (with_statistics) {
        job->work = malloc(2 * cols * stride * sizeof(float) + LINE);
        ok = ok && job->work;
        if (ok) job->w = job->work + (LINE - (uintptr_t)job->work % LINE) / sizeof(float);
        if (ok) job->f = job->w + cols * stride; /* a stride is whole lines */
    }
    if (ok) return SQZ_OK;
    return sqz_failf(job->host, SQZ_E_NOMEM, "gptq: no memory for %s, [%lld, %lld]",
                     job->linear->module, (long long)job->rows, (long long)job->cols);
}

/* ---- result ---------------------------------------------------------------------------------- */

typedef struct hand_over {
    const gptq_job *job;
    uint8_t *codes, *zeros;
    float *scales;
} hand_over;

/* Codes of rows begin..end, at most STRIP of them, back to row order through a tile (see
 * load_columns). */
static void hand_over_codes(const hand_over *o, int64_t begin, int64_t end)
{
    const gptq_job *job = o->job;
    uint8_t tile[STRIP][STRIP]; /* [row][column] */
    for (int64_t from = 0; from < job->cols; from += STRIP) {
        int64_t n = from + STRIP < job->cols ? STRIP : job->cols - from;
        for (int64_t j = 0; j < n; j++) {
            const uint8_t *column = job->codes + (from + j) * job->stride + begin;
            for (int64_t r = 0; r < end - begin; r++) tile[r][j] = column[r];
        }
        for (int64_t r = begin; r < end; r++)
            memcpy(o->codes + r * job->cols + from, tile[r - begin], (size_t)n);
    }
}

static void hand_over_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const hand_over *o = arg;
    const gptq_job *job = o->job;
    (void)thread;
    for (int64_t r = begin; r < end; r += STRIP)
        hand_over_codes(o, r, r + STRIP < end ? r + STRIP : end);
    for (int64_t r = begin; r < end; r++) {
        for (int64_t k = 0; k < job->n_groups; k++) {
            o->scales[r * job->n_groups + k] = job->scales[k * job->stride + r];
            o->zeros[r * job->n_groups + k] = (uint8_t)job->zeros[k * job->stride + r];
        }
    }
}

static sqz_status hand_over_result(gptq_job *job)
{
    size_t rows = (size_t)job->rows, groups = rows * (size_t)job->n_groups;
    hand_over o = {job, malloc(rows * (size_t)job->cols), malloc(groups),
                   malloc(groups * sizeof(float))};
    sqz_status st = SQZ_OK;
    free(job->work); /* room for the result */
    job->work = NULL;
    if (o.codes && o.zeros && o.scales) {
        job->pool->parallel_for(job->host, job->rows, 64, hand_over_rows, &o);
        st = job->linear->set_affine(job->linear, job->host, job->rule.bits, job->group,
                                     job->rule.symmetric, o.codes, o.scales, o.zeros);
    } else {
        st = sqz_failf(job->host, SQZ_E_NOMEM, "gptq: no memory for the result of %s",
                       job->linear->module);
    }
    free(o.codes);
    free(o.zeros);
    free(o.scales);
    return st;
}

/* ---- stages ---------------------------------------------------------------------------------- */

/* Round to nearest on unweighted grids: what is left when the statistics cannot be used. */
static sqz_status fall_back(gptq_job *job, const char *why)
{
    job->linear->note(job->linear, job->host, why);
    float *ones = malloc((size_t)job->cols * sizeof *ones);
    if (!ones) return job->host->fail(job->host, SQZ_E_NOMEM, "gptq: no memory for the fallback");
    for (int64_t j = 0; j < job->cols; j++) ones[j] = 1;
    sqz_status st = job_allocate(job, 0);
    if (st == SQZ_OK) st = grids_fit(job, ones);
    if (st == SQZ_OK) st = round_nearest(job);
    free(ones);
    return st;
}

static sqz_status quantize(gptq_job *job, double min_tokens)
{
    const sqz_linear *linear = job->linear;
    char why[256];
    double needed = ceil(min_tokens * (double)linear->cols);
    if (!linear->xtx || linear->tokens <= 0)
        return fall_back(job, "rounded to nearest: no calibration tokens reached this layer");
    if ((double)linear->tokens < needed) {
        snprintf(why, sizeof why,
                 "rounded to nearest: %lld calibration tokens reached this layer, fewer than %.0f "
                 "(min_tokens %g x %lld input features); calibrate with more text",
                 (long long)linear->tokens, needed, min_tokens, (long long)linear->cols);
        return fall_back(job, why);
    }
    double trace = 0;
    for (int64_t j = 0; j < linear->cols; j++) trace += linear->xtx[j * linear->cols + j];
    sqz_status st = trace > 0 ? factor_prepare(job->host, job->pool, job->linalg, linear,
                                               job->order, job->group, job->damp, job->factor)
                              : SQZ_E_NUMERIC;
    if (st == SQZ_E_NUMERIC &&
        !all_finite(job->host, job->pool, linear->xtx,
                    linear->cols * linear->cols)) /* read only now: it is large */
        return sqz_failf(job->host, SQZ_E_NUMERIC,
                         "gptq: the input statistics of %s hold NaN or infinities; the model "
                         "overflows on this calibration text",
                         linear->module);
    if (st == SQZ_E_NUMERIC)
        return fall_back(
            job, trace > 0 ? "rounded to nearest: the Hessian has no factor even with damping 1"
                           : "rounded to nearest: every input of this layer is zero");
    if (st != SQZ_OK) return st;
    if (job->factor->damp != job->damp) {
        snprintf(why, sizeof why,
                 "damping raised from %g to %g: the Hessian was not positive "
                 "definite",
                 job->damp, job->factor->damp);
        job->linear->note(job->linear, job->host, why);
    }
    if (job->polish) st = factor_within(job->host, job->pool, job->group, job->factor);
    if (st == SQZ_OK) st = job_allocate(job, 1);
    if (st == SQZ_OK && !job->late_grids) st = grids_fit(job, job->factor->h);
    if (st == SQZ_OK) st = walk_columns(job);
    if (st == SQZ_OK && job->sweeps > 0) st = descend(job);
    return st;
}

/* Fewer levels, fewer grids that differ; the extremes of 8-bit codes are never worth clipping. */
static int default_search(int64_t bits)
{
    return bits <= 2 ? 13 : bits == 3 ? 20 : bits == 4 ? 40 : 1;
}

/* A choice that is left to the bit width: on up to `bits`. */
static int chosen(int32_t choice, int64_t bits, int64_t up_to)
{
    return choice == ALWAYS || (choice == AUTO && bits <= up_to);
}

static sqz_status gptq_linear(const sqz_host *host, void *self, void *subject, int64_t bits,
                              int64_t group_size, int32_t symmetric, int32_t order, double damp,
                              int64_t scale_search, int32_t negative_scales, int32_t late_grids,
                              int32_t polish, int64_t sweeps, double min_tokens,
                              int32_t true_sequential)
{
    (void)true_sequential; /* the host's: it changes what the statistics are of */
    const sqz_linear *linear = subject;
    const sqz_pool *pool = host->service(host, SQZ_POOL_1);
    const sqz_linalg *linalg = host->service(host, SQZ_LINALG_1);
    if (!pool || !linalg)
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "gptq: this host lacks the service sqz.pool/1 or sqz.linalg/1");
    if (!SQZ_HAS(linalg, sqz_linalg, gemm_rounded))
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "gptq: sqz.linalg/1 of this host is older than ABI 1.1");
    sqz_status st = check_subject(host, pool, linear);
    if (st != SQZ_OK) return st;
    int64_t group = group_size < 0 || group_size > linear->cols ? linear->cols : group_size;
    gptq_job job = {.host = host,
                    .pool = pool,
                    .linalg = linalg,
                    .linear = linear,
                    .rule = {(int)bits, symmetric,
                             scale_search < 0 ? default_search(bits) : (int)scale_search,
                             chosen(negative_scales, bits, 3)},
                    .order = order,
                    .late_grids = late_grids && order != ORDER_ACTIVATION && group <= TILE_COLS,
                    .sweeps = (int)sweeps,
                    .damp = damp,
                    .rows = linear->rows,
                    .cols = linear->cols,
                    .group = group,
                    .n_groups = (linear->cols + group - 1) / group,
                    .stride = (linear->rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS,
                    .factor = self};
    job.polish = job.late_grids && chosen(polish, bits, 2);
    st = host->tick(host, 0, "prepare") ? SQZ_E_CANCELLED : quantize(&job, min_tokens);
    if (st == SQZ_OK) st = hand_over_result(&job);
    job_free(&job);
    return st;
}

/* ---- description ----------------------------------------------------------------------------- */

static sqz_status gptq_open(const sqz_host *host, void **self)
{
    *self = calloc(1, sizeof(factor));
    return *self ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "gptq: no memory for an instance");
}

static void gptq_close(const sqz_host *host, void *self)
{
    (void)host;
    factor_free(self);
    free(self);
}

static const sqz_method_steps gptq_steps = {sizeof gptq_steps, SQZ_PER_LINEAR, SQZ_STAT_XTX, 0,
                                            SQZ_FORM_INT_AFFINE};

static const void *gptq_extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) == 0 ? &gptq_steps : NULL;
}

static const char *const gptq_tags[] = {"quantization", "weight-only", "int", "calibrated", NULL};
static const sqz_agent gptq_agent = {
    sizeof(sqz_agent),
    100,
    "org.sqz.gptq",
    "method/1",
    "GPTQ",
    "integer weights, errors compensated by second-order statistics, then refined",
    "1.0.0",
    "Apache-2.0",
    gptq_tags,
    gptq_open,
    gptq_close,
    &gptq_linear_call,
    gptq_extension};
static const sqz_plugin gptq_plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 1, 0, 1, sizeof(sqz_agent), 0, &gptq_agent};

const sqz_plugin *sqz_plugin_v1(void)
{
    return &gptq_plugin;
}
SQZ_PLUGIN_STAMP(1);
