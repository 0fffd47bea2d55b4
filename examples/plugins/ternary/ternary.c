/* ternary.c - ternary weights: every weight of a group becomes -a, 0 or +a.
 *
 * Ternary Weight Networks (Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks",
 * arXiv:1605.04711, 2016).  For a threshold D the best scale is the mean magnitude of the weights
 * beyond it,  a(D) = mean{|w| : |w| > D},  and the squared error falls by n(D) a(D)^2, where n(D)
 * counts those weights.  The paper takes D = 0.7 mean|w|, which is optimal for nearly normal
 * weights; `exact` tries the threshold behind every weight instead, which costs a sort of the
 * group.
 *
 * Held as int-affine/1 with 2 bits: zero point 2, codes 1, 2 and 3; code 0 stays unused.
 * Left out: training with ternary weights, where the paper gets its accuracy from. */
#include <sqz/help.h>
#include <sqz/sqz.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TERNARY_PARAMS(P)                                                                          \
    P(SQZ_INT, group_size, 64, 8, 4096, NULL, SQZ_SEARCH, "input features that share a scale")     \
    P(SQZ_REAL, threshold, 0.7, 0.1, 2, NULL, SQZ_SEARCH,                                          \
      "weights below this times the mean magnitude become zero")                                   \
    P(SQZ_BOOL, exact, 1, 0, 1, NULL, SQZ_SEARCH,                                                  \
      "best threshold of each group instead of the fixed one")
SQZ_CALL(ternary_linear, TERNARY_PARAMS);

/* Nearest IEEE half, kept within the normal ones: what set_affine asks of scales. */
static float half_round(double x)
{
    int e;
    if (!(x > 0x1p-14)) return 0x1p-14f;
    if (x >= 65504) return 65504;
    double m = frexp(x, &e);
    return (float)ldexp(rint(m * 2048) / 2048, e);
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The scale a(D) and the threshold D with the largest n(D) a(D)^2 = (sum)^2 / n. */
static double best_scale(float *sorted /* [n] magnitudes */, int64_t n, double *threshold)
{
    double sum = 0, best = -1, scale = 0;
    qsort(sorted, (size_t)n, sizeof *sorted, descending);
    for (int64_t k = 0; k < n; k++) {
        sum += sorted[k];
        double gain = sum * sum / (double)(k + 1);
        if (gain <= best) continue;
        best = gain;
        scale = sum / (double)(k + 1);
        /* half way to the next one; equal magnitudes stay together because their gain grows */
        *threshold = k + 1 < n ? 0.5 * ((double)sorted[k] + (double)sorted[k + 1]) : 0;
    }
    return scale;
}

/* The paper's threshold: a share of the mean magnitude. */
static double fixed_scale(const float *w, int64_t n, double share, double *threshold)
{
    double mean = 0, sum = 0;
    int64_t beyond = 0;
    for (int64_t i = 0; i < n; i++) mean += fabs((double)w[i]);
    *threshold = share * mean / (double)n;
    for (int64_t i = 0; i < n; i++)
        if (fabs((double)w[i]) > *threshold) sum += fabs((double)w[i]), beyond++;
    return beyond ? sum / (double)beyond : 0;
}

typedef struct ternary {
    const float *w; /* [rows, cols] */
    int64_t cols, group, groups;
    double share;
    int exact;
    uint8_t *codes; /* [rows, cols] */
    float *scales;  /* [rows, groups] */
    float *scratch; /* [threads, group] */
} ternary;

static void ternary_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const ternary *t = arg;
    float *sorted = t->scratch + thread * t->group;
    for (int64_t i = begin * t->groups; i < end * t->groups; i++) {
        int64_t r = i / t->groups, first = i % t->groups * t->group;
        int64_t n = first + t->group > t->cols ? t->cols - first : t->group;
        const float *w = t->w + r * t->cols + first;
        uint8_t *codes = t->codes + r * t->cols + first;
        double threshold = 0, scale;
        for (int64_t k = 0; k < n; k++) sorted[k] = fabsf(w[k]);
        scale =
            t->exact ? best_scale(sorted, n, &threshold) : fixed_scale(w, n, t->share, &threshold);
        t->scales[i] = half_round(scale);
        for (int64_t k = 0; k < n; k++)
            codes[k] = fabs((double)w[k]) > threshold ? (w[k] > 0 ? 3 : 1) : 2;
        if (scale < 0x1p-15) memset(codes, 2, (size_t)n); /* nothing a half can hold */
    }
}

static int all_finite(const float *x, int64_t n)
{
    float bad = 0;
    for (int64_t i = 0; i < n; i++) bad += x[i] * 0.0f; /* NaN and infinity leave NaN */
    return bad == 0.0f;
}

/* Rows in slices: between two of them the host is asked whether to stop. */
static sqz_status convert(const sqz_host *host, const sqz_pool *pool, ternary t, int64_t rows)
{
    int64_t slice = (1 << 20) / t.cols + 1;
    for (int64_t r = 0; r < rows; r += slice) {
        if (host->tick(host, (double)r / (double)rows, "ternary")) return SQZ_E_CANCELLED;
        ternary part = t;
        part.w += r * t.cols;
        part.codes += r * t.cols;
        part.scales += r * t.groups;
        pool->parallel_for(host, rows - r < slice ? rows - r : slice, 8, ternary_rows, &part);
    }
    return SQZ_OK;
}

static sqz_status ternary_linear(const sqz_host *host, void *self, void *subject,
                                 int64_t group_size, double threshold, int32_t exact)
{
    const sqz_linear *l = subject;
    const sqz_pool *pool = host->service(host, SQZ_POOL_1);
    (void)self;
    if (!pool) return host->fail(host, SQZ_E_UNSUPPORTED, "ternary: this host lacks sqz.pool/1");
    if (!all_finite(l->weight, l->rows * l->cols))
        return sqz_failf(host, SQZ_E_NUMERIC,
                         "ternary: %s holds NaN or infinite weights; exclude it by a rule",
                         l->module);
    int64_t group = group_size < l->cols ? group_size : l->cols;
    int64_t groups = (l->cols + group - 1) / group;
    size_t n_scales = (size_t)(l->rows * groups);
    uint8_t *zeros = malloc(n_scales);
    ternary t = {.w = l->weight,
                 .cols = l->cols,
                 .group = group,
                 .groups = groups,
                 .share = threshold,
                 .exact = exact,
                 .codes = malloc((size_t)(l->rows * l->cols)),
                 .scales = malloc(n_scales * sizeof(float)),
                 .scratch = malloc((size_t)(pool->threads(host) * group) * sizeof(float))};
    sqz_status st = SQZ_OK;
    if (!zeros || !t.codes || !t.scales || !t.scratch)
        st = sqz_failf(host, SQZ_E_NOMEM, "ternary: no memory for %s", l->module);
    if (!st) st = convert(host, pool, t, l->rows);
    if (!st) memset(zeros, 2, n_scales);
    if (!st) st = l->set_affine(l, host, 2, group, 1, t.codes, t.scales, zeros);
    free(zeros);
    free(t.codes);
    free(t.scales);
    free(t.scratch);
    return st;
}

static const sqz_method_steps steps = {sizeof steps, SQZ_PER_LINEAR, 0, 0, SQZ_FORM_INT_AFFINE};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) == 0 ? &steps : NULL;
}

static const char *const tags[] = {"quantization", "weight-only", "ternary", "data-free", NULL};
static const sqz_agent agent = {.struct_size = sizeof agent,
                                .rank = 50,
                                .id = "org.sqz-examples.ternary",
                                .kind = "method/1",
                                .name = "Ternary weights",
                                .summary =
                                    "weights of -a, 0, +a with the best scale (Li et al. 2016)",
                                .version = "1.0.0",
                                .license = "Apache-2.0",
                                .tags = tags,
                                .run = &ternary_linear_call,
                                .extension = extension};
static const sqz_plugin plugin = {.struct_size = sizeof plugin,
                                  .abi_major = SQZ_ABI_MAJOR,
                                  .abi_minor = SQZ_ABI_MINOR,
                                  .n_agents = 1,
                                  .agent_stride = sizeof agent,
                                  .agents = &agent};
SQZ_PLUGIN_STAMP(0);

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
