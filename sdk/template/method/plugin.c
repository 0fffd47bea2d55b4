/* @name@.c - a compression method: rounding to a grid that is clipped at a quantile.
 *
 * A few large weights make the grid of their group coarse for all others.  Here the grid covers only
 * the given share of each group's magnitudes; larger weights are clipped to its end. */
#include <sqz/help.h>
#include <sqz/sqz.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define @NAME@_PARAMS(P)                                                                           \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, group_size, 64, 8, 1024, NULL, 0, "input features that share a scale")              \
    P(SQZ_REAL, keep, 0.98, 0.5, 1, NULL, SQZ_SEARCH, "share of magnitudes that the grid covers")
SQZ_CALL(@name@_linear, @NAME@_PARAMS);

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Scales must be exact as IEEE half: 11 significant bits, not below the smallest positive half. */
static float half_round(float x)
{
    int e;
    if (!(x > 0x1p-14f)) return 0x1p-14f;
    if (x >= 65504) return 65504;
    float m = frexpf(x, &e);
    return ldexpf(rintf(m * 2048) / 2048, e);
}

/* One group: codes 0 .. 2^bits - 1 around the zero point in the middle; returns the scale. */
static float round_group(const float *w, int64_t n, int bits, double keep, float *sorted,
                         uint8_t *codes)
{
    int middle = 1 << (bits - 1), top = 2 * middle - 1;
    for (int64_t i = 0; i < n; i++) sorted[i] = fabsf(w[i]);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    int64_t last = (int64_t)ceil(keep * (double)n) - 1;
    float scale = half_round(sorted[last < 0 ? 0 : last] / (float)(middle - 1));
    for (int64_t i = 0; i < n; i++) {
        float q = rintf(w[i] / scale) + (float)middle;
        codes[i] = (uint8_t)(q < 0 ? 0 : q > (float)top ? top : (int)q);
    }
    return scale;
}

static sqz_status @name@_linear(const sqz_host *host, void *self, void *subject, int64_t bits,
                                int64_t group_size, double keep)
{
    const sqz_linear *l = subject;
    int64_t group = group_size < l->cols ? group_size : l->cols;
    int64_t groups = (l->cols + group - 1) / group;
    uint8_t *codes = malloc((size_t)(l->rows * l->cols)), *zeros = malloc((size_t)(l->rows * groups));
    float *scales = malloc((size_t)(l->rows * groups) * sizeof *scales);
    float *sorted = malloc((size_t)group * sizeof *sorted);
    sqz_status st = SQZ_OK;
    (void)self;
    if (!codes || !zeros || !scales || !sorted)
        st = sqz_failf(host, SQZ_E_NOMEM, "@name@: no memory for %s", l->module);
    for (int64_t r = 0; r < l->rows && !st; r++) {
        if (host->tick(host, (double)r / (double)l->rows, l->module)) st = SQZ_E_CANCELLED;
        for (int64_t c = 0; c < l->cols && !st; c++)
            if (!isfinite(l->weight[r * l->cols + c]))
                st = sqz_failf(host, SQZ_E_NUMERIC, "@name@: %s holds NaN or infinity", l->module);
        for (int64_t k = 0; k < groups && !st; k++) {
            int64_t at = r * l->cols + k * group;
            int64_t n = (k + 1) * group > l->cols ? l->cols - k * group : group;
            scales[r * groups + k] =
                round_group(l->weight + at, n, (int)bits, keep, sorted, codes + at);
        }
    }
    if (!st) memset(zeros, 1 << (bits - 1), (size_t)(l->rows * groups));
    if (!st) st = l->set_affine(l, host, (int32_t)bits, group, 1, codes, scales, zeros);
    free(codes), free(zeros), free(scales), free(sorted);
    return st;
}

static const sqz_method_steps steps = {sizeof steps, SQZ_PER_LINEAR, 0, 0, SQZ_FORM_INT_AFFINE};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) ? NULL : &steps;
}
static const sqz_agent agent = {sizeof agent, 100, "@id@", "method/1", "@name@",
                                "rounds to a grid clipped at a quantile", "0.1.0", "MIT", NULL, NULL,
                                NULL, &@name@_linear_call, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
