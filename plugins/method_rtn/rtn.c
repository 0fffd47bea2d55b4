/* rtn.c - round to nearest: the baseline that needs no data.
 *
 * Each group of input features gets the uniform grid that covers its extremes and every weight goes
 * to the nearest level.  This is what any calibrated method has to beat, so nothing clever hides in
 * it; `search` turns on the one data-free improvement, a smaller step where that lowers the group's
 * squared error.
 * Left out: anything weighted by activations (org.sqz.gptq has that search). */
#include <sqz/help.h>
#include <sqz/sqz.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RTN_PARAMS(P)                                                                              \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, group_size, 128, -1, 128, "-1|32|64|128", SQZ_SEARCH,                               \
      "input features that share a scale; -1 is the whole row")                                    \
    P(SQZ_BOOL, symmetric, 1, 0, 1, NULL, SQZ_SEARCH,                                              \
      "fixed zero point in the middle of the grid")                                                \
    P(SQZ_INT, search, 0, 0, 100, NULL, 0,                                                         \
      "smaller scales tried against the squared error; 0 covers the extremes")
SQZ_CALL(rtn_linear, RTN_PARAMS);

/* ---- one group ------------------------------------------------------------------------------- */

/* Nearest IEEE half, ties to even, kept within [2^-24, 65504]: a scale is positive and finite. */
static float half_round(float x)
{
    if (!(x > 0x1p-24f)) return 0x1p-24f;
    if (x >= 65504.0f) return 65504.0f;
    if (x < 0x1p-14f) return rintf(x * 0x1p24f) * 0x1p-24f;
    int exponent;
    float m = frexpf(x, &exponent); /* 11 significant bits */
    return ldexpf(rintf(m * 2048.0f) / 2048.0f, exponent);
}

typedef struct group_grid {
    float scale;
    int zero;
} group_grid;

static int code_of(float w, group_grid g, int top)
{
    float q = rintf(w / g.scale) + (float)g.zero;
    return q < 0 ? 0 : q > (float)top ? top : (int)q;
}

/* The zero point of an asymmetric grid puts the smallest weight on code 0; it stays within 1..top
 * because GPTQ files cannot hold 0. */
static group_grid grid_of(float scale, float lo, int symmetric, int top)
{
    group_grid g = {half_round(scale), (top + 1) / 2};
    if (!symmetric) {
        float zero = rintf(-lo / g.scale);
        g.zero = zero < 1 ? 1 : zero > (float)top ? top : (int)zero;
    }
    return g;
}

static double group_error(const float *w, int64_t n, group_grid g, int top)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double d = (double)w[j] - (double)g.scale * (code_of(w[j], g, top) - g.zero);
        sum += d * d;
    }
    return sum;
}

static group_grid fit_group(const float *w /* [n] */, int64_t n, int bits, int symmetric,
                            int64_t search)
{
    const int top = (1 << bits) - 1;
    float lo = 0, hi = 0; /* the grid always holds zero */
    for (int64_t j = 0; j < n; j++) {
        if (w[j] < lo) lo = w[j];
        if (w[j] > hi) hi = w[j];
    }
    /* symmetric levels are -2^(b-1) .. 2^(b-1)-1: the positive side is the short one */
    float widest = symmetric ? (hi > -lo ? hi : -lo) / (float)(top / 2) : (hi - lo) / (float)top;
    group_grid best = grid_of(widest, lo, symmetric, top);
    if (search <= 0) return best;
    double best_error = group_error(w, n, best, top);
    for (int64_t k = 1; k <= search; k++) {
        float shrink = 1.0f - 0.8f * (float)k / (float)(search + 1);
        group_grid g = grid_of(widest * shrink, lo * shrink, symmetric, top);
        double error = group_error(w, n, g, top);
        if (error < best_error) {
            best_error = error;
            best = g;
        }
    }
    return best;
}

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct rounding {
    const float *w; /* [rows, cols] */
    int64_t cols, group, n_groups, search;
    int bits, symmetric;
    uint8_t *codes; /* [rows, cols] */
    float *scales;  /* [rows, n_groups] */
    uint8_t *zeros; /* [rows, n_groups] */
} rounding;

static void round_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const rounding *t = arg;
    const int top = (1 << t->bits) - 1;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t k = 0; k < t->n_groups; k++) {
            int64_t first = k * t->group;
            int64_t n = first + t->group > t->cols ? t->cols - first : t->group;
            const float *w = t->w + r * t->cols + first;
            group_grid g = fit_group(w, n, t->bits, t->symmetric, t->search);
            for (int64_t j = 0; j < n; j++)
                t->codes[r * t->cols + first + j] = (uint8_t)code_of(w[j], g, top);
            t->scales[r * t->n_groups + k] = g.scale;
            t->zeros[r * t->n_groups + k] = (uint8_t)g.zero;
        }
    }
}

static int all_finite(const float *x, int64_t n)
{
    float bad = 0;
    for (int64_t i = 0; i < n; i++) bad += x[i] * 0.0f; /* NaN and infinity leave NaN */
    return bad == 0.0f;
}

/* Rows in slices, so that a cancelled run stops within a fraction of a second. */
static sqz_status round_all(const sqz_host *host, const sqz_pool *pool, rounding t, int64_t rows)
{
    int64_t slice = (1 << 22) / ((t.search + 1) * t.cols) + 1;
    rounding at = t;
    for (int64_t r = 0; r < rows; r += slice) {
        if (host->tick(host, (double)r / (double)rows, "round")) return SQZ_E_CANCELLED;
        at.w = t.w + r * t.cols;
        at.codes = t.codes + r * t.cols;
        at.scales = t.scales + r * t.n_groups;
        at.zeros = t.zeros + r * t.n_groups;
        pool->parallel_for(host, rows - r < slice ? rows - r : slice, 8, round_rows, &at);
    }
    return SQZ_OK;
}

static sqz_status rtn_linear(const sqz_host *host, void *self, void *subject, int64_t bits,
                             int64_t group_size, int32_t symmetric, int64_t search)
{
    const sqz_linear *linear = subject;
    const sqz_pool *pool = host->service(host, SQZ_POOL_1);
    (void)self;
    if (!pool)
        return host->fail(host, SQZ_E_UNSUPPORTED, "rtn: this host lacks the service sqz.pool/1");
    int64_t rows = linear->rows, cols = linear->cols;
    if (rows <= 0 || cols <= 0)
        return sqz_failf(host, SQZ_E_INVALID, "rtn: %s has shape [%lld, %lld]", linear->module,
                         (long long)rows, (long long)cols);
    if (!all_finite(linear->weight, rows * cols))
        return sqz_failf(host, SQZ_E_NUMERIC,
                         "rtn: %s holds NaN or infinite weights; repair the checkpoint or exclude "
                         "the module by a rule",
                         linear->module);
    int64_t group = group_size < 0 || group_size > cols ? cols : group_size;
    int64_t n_groups = (cols + group - 1) / group;
    size_t n_scales = (size_t)rows * (size_t)n_groups;
    rounding t = {linear->weight,
                  cols,
                  group,
                  n_groups,
                  search,
                  (int)bits,
                  symmetric,
                  malloc((size_t)rows * (size_t)cols),
                  malloc(n_scales * sizeof(float)),
                  malloc(n_scales)};
    sqz_status st = SQZ_OK;
    if (!t.codes || !t.scales || !t.zeros)
        st = sqz_failf(host, SQZ_E_NOMEM, "rtn: no memory for %s, [%lld, %lld]", linear->module,
                       (long long)rows, (long long)cols);
    if (st == SQZ_OK) st = round_all(host, pool, t, rows);
    if (st == SQZ_OK)
        st = linear->set_affine(linear, host, (int32_t)bits, group, symmetric, t.codes, t.scales,
                                t.zeros);
    free(t.codes);
    free(t.scales);
    free(t.zeros);
    return st;
}

/* ---- description ----------------------------------------------------------------------------- */

static const sqz_method_steps rtn_steps = {sizeof rtn_steps, SQZ_PER_LINEAR, 0, 0,
                                           SQZ_FORM_INT_AFFINE};

static const void *rtn_extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) == 0 ? &rtn_steps : NULL;
}

static const char *const rtn_tags[] = {"quantization", "weight-only", "int", "data-free", NULL};
static const sqz_agent rtn_agent = {sizeof(sqz_agent),
                                    100,
                                    "org.sqz.rtn",
                                    "method/1",
                                    "Round to nearest",
                                    "integer weights by plain rounding, without data",
                                    "1.0.0",
                                    "Apache-2.0",
                                    rtn_tags,
                                    NULL,
                                    NULL,
                                    &rtn_linear_call,
                                    rtn_extension};
static const sqz_plugin rtn_plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, &rtn_agent};

const sqz_plugin *sqz_plugin_v1(void)
{
    return &rtn_plugin;
}
SQZ_PLUGIN_STAMP(0);
