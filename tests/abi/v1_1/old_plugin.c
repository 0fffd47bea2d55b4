/* old_plugin.c - a plugin of the past: built with the headers of version 1.1 that lie beside it,
 * run on today's host.  Neither this file nor those headers change any more.
 *
 * A method that needs what 1.1 added: the Cholesky factor from the far end, and the number by which
 * linears that read one input know each other's second moments. */
#include <sqz/sqz.h>
#include <sqz/help.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define METHOD_PARAMS(P)                                                                           \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_REAL, ridge, 0.01, 1e-4, 1, NULL, 0, "added to the diagonal, relative to its mean")
SQZ_CALL(older_linear, METHOD_PARAMS);

typedef struct older_state {
    uint64_t id; /* of the moments whose weights are held */
    int64_t n;
    double *column; /* [n] how much an error of a column costs, given those before it */
} older_state;

static sqz_status older_open(const sqz_host *host, void **self)
{
    *self = calloc(1, sizeof(older_state));
    return *self ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "older: no memory");
}

static void older_close(const sqz_host *host, void *self)
{
    older_state *s = self;
    (void)host;
    free(s->column);
    free(s);
}

/* The squared diagonal of L with A = L transposed times L. */
static sqz_status weigh_columns(const sqz_host *host, const sqz_linear *l, double ridge,
                                older_state *s)
{
    const sqz_linalg *la = host->service(host, SQZ_LINALG_1);
    int64_t n = l->cols;
    double mean = 0;
    if (!la || !SQZ_HAS(la, sqz_linalg, reverse_cholesky) || !la->reverse_cholesky)
        return host->fail(host, SQZ_E_UNSUPPORTED, "older: needs sqz.linalg/1 of ABI 1.1");
    float *a = malloc((size_t)(n * n) * sizeof *a);
    double *column = realloc(s->column, (size_t)n * sizeof *column);
    if (column) s->column = column;
    sqz_status st = a && column ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "older: no memory");
    if (!st) {
        memcpy(a, l->xtx, (size_t)(n * n) * sizeof *a);
        for (int64_t i = 0; i < n; i++) mean += (double)a[i * n + i] / (double)n;
        if (!(mean > 0)) mean = 1;
        for (int64_t i = 0; i < n; i++) a[i * n + i] += (float)(ridge * mean);
        st = la->reverse_cholesky(host, a, n);
        if (st) st = sqz_failf(host, st, "older: %s: no Cholesky factor; raise ridge", l->module);
    }
    for (int64_t i = 0; i < n && !st; i++) column[i] = (double)a[i * n + i] * (double)a[i * n + i];
    s->id = st ? 0 : l->xtx_id;
    s->n = n;
    free(a);
    return st;
}

static float as_half(float x)
{
    int e;
    if (!(x > 0x1p-14f)) return 0x1p-14f;
    float m = frexpf(x > 65504.0f ? 65504.0f : x, &e);
    return ldexpf(rintf(m * 2048.0f) / 2048.0f, e);
}

/* The best of eight scales of one row; codes of the last one that was better stay. */
static float round_row(const float *w, const double *column, int64_t n, int bits, uint8_t *codes)
{
    const float zero = (float)(1 << (bits - 1));
    float widest = 0, best_scale = 1;
    double best = INFINITY;
    for (int64_t c = 0; c < n; c++) widest = fmaxf(widest, fabsf(w[c]));
    for (int t = 0; t < 8; t++) {
        float scale = as_half((1 - 0.05f * (float)t) * widest / fmaxf(zero - 1, 1));
        double error = 0;
        for (int64_t c = 0; c < n; c++) {
            float q = fminf(fmaxf(rintf(w[c] / scale) + zero, 0), 2 * zero - 1);
            double d = (double)(q - zero) * scale - w[c];
            error += d * d * column[c];
        }
        if (error >= best && t) continue;
        best = error;
        best_scale = scale;
    }
    for (int64_t c = 0; c < n; c++)
        codes[c] = (uint8_t)fminf(fmaxf(rintf(w[c] / best_scale) + zero, 0), 2 * zero - 1);
    return best_scale;
}

static sqz_status older_linear(const sqz_host *host, void *self, void *subject, int64_t bits,
                               double ridge)
{
    const sqz_linear *l = subject;
    older_state *s = self;
    for (int64_t i = 0; i < l->rows * l->cols; i++)
        if (!isfinite(l->weight[i]))
            return sqz_failf(host, SQZ_E_NUMERIC, "older: %s holds NaN or infinity", l->module);
    if (host->tick(host, 0, l->module)) return SQZ_E_CANCELLED;
    sqz_status st = SQZ_OK;
    if (!s->column || !l->xtx_id || l->xtx_id != s->id || s->n != l->cols)
        st = weigh_columns(host, l, ridge, s);
    if (st) return st;
    uint8_t *codes = malloc((size_t)(l->rows * l->cols)), *zeros = malloc((size_t)l->rows);
    float *scales = malloc((size_t)l->rows * sizeof *scales);
    if (!codes || !zeros || !scales) st = host->fail(host, SQZ_E_NOMEM, "older: no memory");
    for (int64_t r = 0; r < l->rows && !st; r++) {
        if (host->tick(host, (double)r / (double)l->rows, l->module)) st = SQZ_E_CANCELLED;
        if (!st)
            scales[r] = round_row(l->weight + r * l->cols, s->column, l->cols, (int)bits,
                                  codes + r * l->cols);
    }
    if (!st) memset(zeros, 1 << (bits - 1), (size_t)l->rows);
    if (!st) st = l->set_affine(l, host, (int32_t)bits, l->cols, 1, codes, scales, zeros);
    free(codes), free(zeros), free(scales);
    return st;
}

static const sqz_method_steps steps = {sizeof steps, SQZ_PER_LINEAR, SQZ_STAT_XTX, 0,
                                       SQZ_FORM_INT_AFFINE};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) ? NULL : &steps;
}
static const sqz_agent agent = {sizeof agent,
                                1,
                                "com.old.method11",
                                "method/1",
                                "Older method",
                                "built for ABI 1.1",
                                "1.0.0",
                                "MIT",
                                NULL,
                                older_open,
                                older_close,
                                &older_linear_call,
                                extension};
static const sqz_plugin plugin = {
    sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 1, 0, 1, sizeof agent, 0, &agent};
SQZ_PLUGIN_STAMP(1);

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
