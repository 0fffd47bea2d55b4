/* test_methods.c - RTN and GPTQ through a minimal host.
 *
 * RTN against a naive twin; GPTQ without refinement against OBQ as the paper states it (float64,
 * one column after the other, the inverse Hessian itself instead of a factor): equal codes.  Then
 * what holds beyond equality: refinement never raises the loss, results do not depend on how work
 * is cut among threads, odd shapes, dead inputs, damping that raises itself, and every fallback is
 * told. */
#include "checkpoint/checkpoint.h"
#include <sqz/sqz.h>
#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a minimal host -------------------------------------------------------------------------- */

static char failure[1024], noted[4096];
static int backwards; /* cut ranges differently: last chunk first, small chunks */
static int stop_after;

static void quiet(const sqz_host *h, int32_t level, const char *text)
{
    (void)h, (void)level, (void)text;
}
static sqz_status remember(const sqz_host *h, sqz_status code, const char *text)
{
    (void)h;
    snprintf(failure, sizeof failure, "%s", text);
    return code;
}
static int32_t tick(const sqz_host *h, double done, const char *what)
{
    (void)h, (void)what;
    ck_assert(done >= 0 && done <= 1);
    return stop_after > 0 && --stop_after == 0;
}
static int32_t three(const sqz_host *h)
{
    (void)h;
    return 3;
}
static void serial_for(const sqz_host *h, int64_t n, int64_t grain,
                       void (*body)(void *, int64_t, int64_t, int32_t), void *arg)
{
    (void)h, (void)grain;
    if (!backwards) {
        body(arg, 0, n, 0);
        return;
    }
    for (int64_t end = n; end > 0; end -= end < 2 ? 1 : 2)
        body(arg, end < 2 ? 0 : end - 2, end, (int32_t)(end % 3));
}
static sqz_status gemm(const sqz_host *h, int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k,
                       double alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       double beta, float *c, int64_t ldc)
{
    (void)h;
    double *row = malloc((size_t)n * sizeof *row);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) row[j] = 0;
        for (int64_t l = 0; l < k; l++) {
            double x = ta ? a[l * lda + i] : a[i * lda + l];
            for (int64_t j = 0; j < n; j++) row[j] += x * (tb ? b[j * ldb + l] : b[l * ldb + j]);
        }
        for (int64_t j = 0; j < n; j++)
            c[i * ldc + j] = (float)(alpha * row[j] + (beta != 0 ? beta * c[i * ldc + j] : 0));
    }
    free(row);
    return SQZ_OK;
}
/* inverse(A) = U^T U with U = inverse(R), A = R R^T, R upper. */
static sqz_status inverse_factor(const sqz_host *h, float *a, int64_t n)
{
    (void)h;
    double *r = calloc((size_t)(n * n), sizeof *r), *u = calloc((size_t)(n * n), sizeof *u);
    sqz_status st = SQZ_OK;
    for (int64_t j = n - 1; st == SQZ_OK && j >= 0; j--) {
        double d = a[j * n + j];
        for (int64_t k = j + 1; k < n; k++) d -= r[j * n + k] * r[j * n + k];
        if (!(d > 0)) {
            st = SQZ_E_NUMERIC;
            break;
        }
        r[j * n + j] = sqrt(d);
        for (int64_t i = 0; i < j; i++) {
            double s = a[i * n + j];
            for (int64_t k = j + 1; k < n; k++) s -= r[i * n + k] * r[j * n + k];
            r[i * n + j] = s / r[j * n + j];
        }
    }
    for (int64_t j = 0; st == SQZ_OK && j < n; j++) {
        u[j * n + j] = 1 / r[j * n + j];
        for (int64_t i = j - 1; i >= 0; i--) {
            double s = 0;
            for (int64_t k = i + 1; k <= j; k++) s -= r[i * n + k] * u[k * n + j];
            u[i * n + j] = s / r[i * n + i];
        }
    }
    for (int64_t i = 0; st == SQZ_OK && i < n * n; i++) a[i] = (float)u[i];
    free(r);
    free(u);
    return st;
}
/* A = L^T L: L is the transpose of the R above. */
static sqz_status reverse_cholesky(const sqz_host *h, float *a, int64_t n)
{
    (void)h;
    for (int64_t j = n - 1; j >= 0; j--)
        for (int64_t i = j; i >= 0; i--) {
            double s = a[j * n + i];
            for (int64_t k = j + 1; k < n; k++) s -= (double)a[k * n + i] * a[k * n + j];
            if (i == j && !(s > 0)) return SQZ_E_NUMERIC;
            a[j * n + i] = (float)(i == j ? sqrt(s) : s / a[j * n + j]);
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) a[i * n + j] = 0;
    return SQZ_OK;
}
static sqz_status gemm_rounded(const sqz_host *h, int64_t m, int64_t n, int64_t k, const float *a,
                               int64_t lda, const float *b, int64_t ldb, double beta, float *c,
                               int64_t ldc)
{
    return gemm(h, 0, 0, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}
static const void *service(const sqz_host *h, const char *id)
{
    static const sqz_pool pool = {sizeof pool, 0, three, serial_for};
    static const sqz_linalg linalg = {sizeof linalg,    0,           gemm, inverse_factor,
                                      reverse_cholesky, gemm_rounded};
    (void)h;
    if (strcmp(id, SQZ_POOL_1) == 0) return &pool;
    return strcmp(id, SQZ_LINALG_1) == 0 ? &linalg : NULL;
}
static const sqz_host host = {sizeof host, SQZ_ABI_MINOR, NULL, "9.9",
                              quiet,       remember,      tick, service};

/* ---- one linear ------------------------------------------------------------------------------ */

typedef struct layer {
    uint64_t xtx_id; /* the host's name of the statistics */
    int64_t rows, cols, group, groups;
    float *w, *xtx;
    int64_t tokens;
    int calls, bits, symmetric; /* set by the result */
    uint8_t *codes, *zeros;
    float *scales;
} layer;

static sqz_status keep(const sqz_linear *l, const sqz_host *h, int32_t bits, int64_t group,
                       int32_t symmetric, const uint8_t *codes, const float *scales,
                       const uint8_t *zeros)
{
    layer *y = l->impl;
    (void)h;
    y->calls++;
    y->bits = bits;
    y->symmetric = symmetric;
    y->group = group;
    y->groups = (y->cols + group - 1) / group;
    int64_t n = y->rows * y->cols, m = y->rows * y->groups;
    y->codes = realloc(y->codes, (size_t)n);
    y->zeros = realloc(y->zeros, (size_t)m);
    y->scales = realloc(y->scales, (size_t)m * sizeof(float));
    memcpy(y->codes, codes, (size_t)n);
    memcpy(y->zeros, zeros, (size_t)m);
    memcpy(y->scales, scales, (size_t)m * sizeof(float));
    for (int64_t i = 0; i < n; i++) ck_assert_int_lt(codes[i], 1 << bits);
    for (int64_t i = 0; i < m; i++) {
        ck_assert(zeros[i] >= 1 && zeros[i] < 1 << bits);
        if (symmetric) ck_assert_int_eq(zeros[i], 1 << (bits - 1));
        ck_assert(isfinite(scales[i]) && scales[i] != 0);
        ck_assert_float_eq(f16_to_f32(f32_to_f16(scales[i])), scales[i]);
    }
    return SQZ_OK;
}
static void note(const sqz_linear *l, const sqz_host *h, const char *text)
{
    (void)l, (void)h;
    snprintf(noted + strlen(noted), sizeof noted - strlen(noted), "%s\n", text);
}
static sqz_linear subject_of(layer *y)
{
    return (sqz_linear){.struct_size = sizeof(sqz_linear),
                        .layer = 0,
                        .module = "m.0.q",
                        .role = "q",
                        .rows = y->rows,
                        .cols = y->cols,
                        .weight = y->w,
                        .xtx = y->xtx,
                        .xtx_id = y->xtx_id,
                        .tokens = y->tokens,
                        .impl = y,
                        .set_affine = keep,
                        .note = note};
}

static uint64_t state;
static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}
static double normal(void)
{
    double s = -6;
    for (int i = 0; i < 12; i++) s += uniform();
    return s;
}

/* Correlated inputs with channels of very different size, as in a model. */
static layer layer_make(int64_t rows, int64_t cols, int64_t tokens, uint64_t seed)
{
    layer y = {.xtx_id = seed + 1, .rows = rows, .cols = cols, .tokens = tokens};
    y.w = malloc((size_t)(rows * cols) * sizeof(float));
    y.xtx = calloc((size_t)(cols * cols), sizeof(float));
    double *x = malloc((size_t)cols * sizeof *x), *size = malloc((size_t)cols * sizeof *size);
    double *sum = calloc((size_t)(cols * cols), sizeof *sum);
    state = seed;
    for (int64_t i = 0; i < rows * cols; i++) y.w[i] = (float)(0.05 * normal());
    for (int64_t j = 0; j < cols; j++) size[j] = 0.2 + 2 * uniform() * uniform();
    for (int64_t t = 0; t < tokens; t++) {
        double common = normal();
        for (int64_t j = 0; j < cols; j++) x[j] = size[j] * (normal() + 0.7 * common);
        for (int64_t i = 0; i < cols; i++)
            for (int64_t j = 0; j <= i; j++) sum[i * cols + j] += x[i] * x[j];
    }
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j <= i; j++)
            y.xtx[i * cols + j] = y.xtx[j * cols + i] = (float)(sum[i * cols + j] / (double)tokens);
    free(x);
    free(size);
    free(sum);
    return y;
}
static void layer_free(layer *y)
{
    free(y->w);
    free(y->xtx);
    free(y->codes);
    free(y->zeros);
    free(y->scales);
    *y = (layer){0};
}
static double value(const layer *y, int64_t r, int64_t c)
{
    int64_t g = r * y->groups + c / y->group;
    return (double)y->scales[g] * (y->codes[r * y->cols + c] - y->zeros[g]);
}
/* sum over rows of d (H + damp mean I) d^T */
static double loss(const layer *y, double damp)
{
    double mean = 0, sum = 0;
    double *d = malloc((size_t)y->cols * sizeof *d);
    for (int64_t j = 0; j < y->cols; j++) mean += y->xtx[j * y->cols + j];
    mean /= (double)y->cols;
    for (int64_t r = 0; r < y->rows; r++) {
        for (int64_t j = 0; j < y->cols; j++) d[j] = y->w[r * y->cols + j] - value(y, r, j);
        for (int64_t i = 0; i < y->cols; i++) {
            double s = damp * mean * d[i];
            for (int64_t j = 0; j < y->cols; j++) s += y->xtx[i * y->cols + j] * d[j];
            sum += d[i] * s;
        }
    }
    free(d);
    return sum;
}

/* ---- the plugins ----------------------------------------------------------------------------- */

typedef struct gptq_with {
    int64_t bits, group_size;
    int32_t symmetric, order;
    double damp;
    int64_t scale_search;
    int32_t negative_scales, late_grids, polish;
    int64_t sweeps;
    double min_tokens;
    int32_t true_sequential;
} gptq_with;
enum { NATURAL, ACTIVATION, GROUP };
enum { AUTO, NEVER, ALWAYS };
static const char *const gptq_names[] = {
    "bits",   "group_size",   "symmetric",       "order",
    "damp",   "scale_search", "negative_scales", "late_grids",
    "polish", "sweeps",       "min_tokens",      "true_sequential"};
static const char *const rtn_names[] = {"bits", "group_size", "symmetric", "search"};
static const sqz_agent *rtn, *gptq;

static const sqz_agent *load(const char *file, const char *const *names, uint32_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", SQZ_PLUGIN_DIR, file);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    const sqz_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "sqz_plugin_v1");
    const sqz_agent *a = entry()->agents;
    ck_assert_uint_eq(a->run->n_params, n);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_str_eq(a->run->params[i].name, names[i]);
        ck_assert_ptr_nonnull(a->run->params[i].help);
    }
    return a;
}
static void load_both(void)
{
    rtn = load("method_rtn.so", rtn_names, 4);
    gptq = load("method_gptq.so", gptq_names, 12);
    failure[0] = noted[0] = 0;
    backwards = stop_after = 0;
}
static sqz_status run_rtn(layer *y, int64_t bits, int64_t group, int32_t symmetric, int64_t search)
{
    typedef sqz_status fn(const sqz_host *, void *, void *, int64_t, int64_t, int32_t, int64_t);
    sqz_linear l = subject_of(y);
    return ((fn *)rtn->run->fn)(&host, NULL, &l, bits, group, symmetric, search);
}
static sqz_status call_gptq(void *self, layer *y, gptq_with p)
{
    typedef sqz_status fn(const sqz_host *, void *, void *, int64_t, int64_t, int32_t, int32_t,
                          double, int64_t, int32_t, int32_t, int32_t, int64_t, double, int32_t);
    sqz_linear l = subject_of(y);
    return ((fn *)gptq->run->fn)(&host, self, &l, p.bits, p.group_size, p.symmetric, p.order,
                                 p.damp, p.scale_search, p.negative_scales, p.late_grids, p.polish,
                                 p.sweeps, p.min_tokens, p.true_sequential);
}
static sqz_status run_gptq(layer *y, gptq_with p)
{
    void *self = NULL;
    ck_assert_int_eq(gptq->open(&host, &self), SQZ_OK);
    noted[0] = 0;
    sqz_status st = call_gptq(self, y, p);
    gptq->close(&host, self);
    return st;
}
static gptq_with defaults(void)
{
    const sqz_param *p = gptq->run->params;
    return (gptq_with){(int64_t)p[0].def, (int64_t)p[1].def, (int32_t)p[2].def, (int32_t)p[3].def,
                       p[4].def,          (int64_t)p[5].def, (int32_t)p[6].def, (int32_t)p[7].def,
                       (int32_t)p[8].def, (int64_t)p[9].def, p[10].def,         0};
}
static const int all_bits[] = {2, 3, 4, 8};

/* ---- RTN ------------------------------------------------------------------------------------- */

typedef struct plain_grid {
    double scale;
    int zero;
} plain_grid;
static plain_grid plain_fit(const float *w, int64_t n, int bits, int symmetric)
{
    double lo = 0, hi = 0;
    int top = (1 << bits) - 1;
    for (int64_t j = 0; j < n; j++) {
        lo = fmin(lo, w[j]);
        hi = fmax(hi, w[j]);
    }
    double s = symmetric ? fmax(hi, -lo) / (top / 2) : (hi - lo) / top;
    plain_grid g = {f16_to_f32(f32_to_f16((float)s)), (top + 1) / 2};
    if (!symmetric) g.zero = (int)fmin(fmax(rint(-lo / g.scale), 1), top);
    return g;
}
static int plain_code(double w, plain_grid g, int bits)
{
    return (int)fmin(fmax(rint(w / g.scale) + g.zero, 0), (1 << bits) - 1);
}

START_TEST(rtn_is_plain_rounding)
{
    static const int64_t groups[] = {-1, 32, 64, 128};
    load_both();
    for (int i = 0; i < 4 * 4 * 2; i++) {
        int bits = all_bits[i % 4], symmetric = i / 16;
        layer y = layer_make(7, 172, 1, 11 + (uint64_t)i);
        ck_assert_int_eq(run_rtn(&y, bits, groups[i / 4 % 4], symmetric, 0), SQZ_OK);
        ck_assert_int_eq(y.calls, 1);
        int64_t group = groups[i / 4 % 4] < 0 ? 172 : groups[i / 4 % 4];
        ck_assert_int_eq(y.group, group);
        for (int64_t r = 0; r < y.rows; r++)
            for (int64_t c = 0; c < y.cols; c++) {
                int64_t first = c / group * group, n = fmin(group, y.cols - first);
                plain_grid g = plain_fit(y.w + r * y.cols + first, n, bits, symmetric);
                ck_assert_double_eq(y.scales[r * y.groups + c / group], g.scale);
                ck_assert_int_eq(y.zeros[r * y.groups + c / group], g.zero);
                ck_assert_int_eq(y.codes[r * y.cols + c], plain_code(y.w[r * y.cols + c], g, bits));
            }
        layer_free(&y);
    }
}
END_TEST

static double squared_error(const layer *y)
{
    double sum = 0;
    for (int64_t r = 0; r < y->rows; r++)
        for (int64_t c = 0; c < y->cols; c++) sum += pow(y->w[r * y->cols + c] - value(y, r, c), 2);
    return sum;
}

START_TEST(rtn_search_lowers_the_squared_error)
{
    load_both();
    for (int i = 0; i < 8; i++) {
        layer y = layer_make(16, 128, 1, 5);
        ck_assert_int_eq(run_rtn(&y, all_bits[i % 4], 64, i / 4, 0), SQZ_OK);
        double plain = squared_error(&y);
        ck_assert_int_eq(run_rtn(&y, all_bits[i % 4], 64, i / 4, 30), SQZ_OK);
        if (all_bits[i % 4] == 2)
            ck_assert_double_lt(squared_error(&y), plain);
        else
            ck_assert_double_le(squared_error(&y), plain);
        layer_free(&y);
    }
}
END_TEST

/* ---- GPTQ against OBQ ------------------------------------------------------------------------ */

static void invert(double *a, int64_t n) /* Gauss-Jordan, positive definite */
{
    for (int64_t p = 0; p < n; p++) {
        double d = 1 / a[p * n + p];
        a[p * n + p] = 1;
        for (int64_t j = 0; j < n; j++) a[p * n + j] *= d;
        for (int64_t i = 0; i < n; i++) {
            double f = a[i * n + p];
            if (i == p || f == 0) continue;
            a[i * n + p] = 0;
            for (int64_t j = 0; j < n; j++) a[i * n + j] -= f * a[p * n + j];
        }
    }
}

static void slow_order(const layer *y, int order, int64_t group, int64_t *perm)
{
    for (int64_t i = 0; i < y->cols; i++) perm[i] = i;
    if (order == NATURAL) return;
#define DIAG(c) y->xtx[(c)*y->cols + (c)]
    for (int64_t i = 1; i < y->cols; i++) /* insertion sort: stable */
        for (int64_t j = i; j > 0; j--) {
            int64_t a = perm[j - 1], b = perm[j];
            double ka = DIAG(a), kb = DIAG(b);
            if (order == GROUP && a / group != b / group) {
                ka = kb = 0;
                for (int64_t c = 0; c < y->cols; c++) {
                    if (c / group == a / group) ka = fmax(ka, DIAG(c));
                    if (c / group == b / group) kb = fmax(kb, DIAG(c));
                }
            }
            if (ka >= kb) break;
            perm[j - 1] = b;
            perm[j] = a;
        }
}

/* H with its ridge, in double. */
static double *slow_hessian(const layer *y, double damp)
{
    int64_t n = y->cols;
    double *h = malloc((size_t)(n * n) * sizeof *h), mean = 0;
    for (int64_t i = 0; i < n; i++) mean += y->xtx[i * n + i] / (double)n;
    for (int64_t i = 0; i < n * n; i++) h[i] = y->xtx[i] + (i % (n + 1) ? 0 : damp * mean);
    return h;
}

/* H = L^T D L in walking order, L unit lower: the last column is eliminated first. */
static double *slow_factor(const double *h, const int64_t *perm, int64_t n)
{
    double *l = malloc((size_t)(n * n) * sizeof *l);
    for (int64_t i = 0; i < n * n; i++) l[i] = h[perm[i / n] * n + perm[i % n]];
    for (int64_t j = n - 1; j >= 0; j--) {
        double d = l[j * n + j];
        for (int64_t i = 0; i < j; i++)
            for (int64_t k = 0; k < j; k++) l[i * n + k] -= l[j * n + i] * l[j * n + k] / d;
        for (int64_t i = 0; i <= j; i++) l[j * n + i] /= d;
    }
    return l;
}

/* Columns in order; after each the inverse Hessian of the remaining columns is formed anew by
 * elimination (OBQ, eq. 2 and 3).  Late grids are those of the weights
 * with what the columns before the group owe them. */
static void slow_gptq(const layer *y, int bits, int64_t group, int symmetric, int order, int late,
                      double damp, uint8_t *codes)
{
    int64_t n = y->cols, *perm = malloc((size_t)n * sizeof *perm);
    double *inv = malloc((size_t)(n * n) * sizeof *inv), *h = slow_hessian(y, damp);
    double *w = malloc((size_t)n * sizeof *w);
    double *owed = malloc((size_t)n * sizeof *owed), *l; /* by position */
    float *now = malloc((size_t)n * sizeof *now);
    plain_grid g = {0};
    slow_order(y, order, group, perm);
    l = slow_factor(h, perm, n);
    invert(h, n);
    for (int64_t r = 0; r < y->rows; r++) {
        memcpy(inv, h, (size_t)(n * n) * sizeof *h);
        for (int64_t j = 0; j < n; j++) w[j] = y->w[r * n + j];
        for (int64_t p = 0; p < n; p++) {
            int64_t c = perm[p], first = c / group * group, count = fmin(group, n - first);
            int begins = !p || perm[p - 1] / group != c / group;
            for (int64_t j = 0; j < count && (begins || !late); j++) {
                double x = y->w[r * n + (late ? perm[p + j] : first + j)];
                for (int64_t i = 0; late && i < p; i++) x += owed[i] * l[(p + j) * n + i];
                now[j] = (float)x;
            }
            if (begins || !late) g = plain_fit(now, count, bits, symmetric);
            int code = plain_code(w[c], g, bits);
            double e = (w[c] - g.scale * (code - g.zero)) / inv[c * n + c];
            codes[r * n + c] = (uint8_t)code;
            owed[p] = y->w[r * n + c] - g.scale * (code - g.zero);
            for (int64_t j = 0; j < n; j++) w[j] -= e * inv[c * n + j];
            double d = inv[c * n + c];
            for (int64_t i = 0; i < n; i++) {
                double f = i == c ? 0 : inv[i * n + c] / d;
                for (int64_t j = 0; f != 0 && j < n; j++) inv[i * n + j] -= f * inv[c * n + j];
            }
            for (int64_t j = 0; j < n; j++) inv[c * n + j] = inv[j * n + c] = 0;
        }
    }
    free(perm);
    free(inv);
    free(h);
    free(w);
    free(owed);
    free(l);
    free(now);
}

START_TEST(gptq_is_obq_without_refinement)
{
    static const struct {
        int64_t rows, cols, group;
    } shape[] = {{7, 172, 128}, {5, 96, 32}, {3, 140, -1}};
    load_both();
    for (int i = 0; i < 2 * 3 * 3 * 2; i++) {
        int order = NATURAL + i % 3, symmetric = i / 9 % 2, bits = all_bits[i % 4], late = i / 18;
        if (late && (order == ACTIVATION || shape[i / 3 % 3].group < 0)) continue;
        layer y = layer_make(shape[i / 3 % 3].rows, shape[i / 3 % 3].cols, 600, 100 + (uint64_t)i);
        gptq_with p = {
            bits, shape[i / 3 % 3].group, symmetric, order, 0.01, 0, NEVER, late, NEVER, 0, 0.25,
            0};
        ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
        ck_assert_str_eq(noted, "");
        uint8_t *codes = malloc((size_t)(y.rows * y.cols));
        slow_gptq(&y, bits, y.group, symmetric, order, late, 0.01, codes);
        ck_assert_mem_eq(y.codes, codes, (size_t)(y.rows * y.cols));
        free(codes);
        layer_free(&y);
    }
}
END_TEST

/* ---- properties ------------------------------------------------------------------------------ */

START_TEST(refinement_never_raises_the_loss)
{
    static const int64_t groups[] = {-1, 32, 128};
    load_both();
    for (int i = 0; i < 4 * 2 * 3; i++) {
        layer y = layer_make(9, 172, 500, 7 + (uint64_t)i);
        gptq_with p = defaults();
        p.bits = all_bits[i % 4];
        p.symmetric = i / 4 % 2;
        p.group_size = groups[i / 8];
        double last = INFINITY, first = 0;
        for (p.sweeps = 0; p.sweeps <= 4; p.sweeps += p.sweeps + 1) { /* 0, 1, 3 */
            ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
            double now = loss(&y, p.damp);
            ck_assert_double_le(now, last * 1.00001);
            if (p.sweeps == 0) first = now;
            last = now;
        }
        ck_assert_double_lt(last, first);
        layer_free(&y);
    }
}
END_TEST

/* One least-squares scale and one pass over the codes, on the loss itself: what polishing comes to
 * where one group is the whole row. */
static void slow_polish(layer *y, int bits, double damp)
{
    const int64_t n = y->cols;
    double *h = slow_hessian(y, damp);
    for (int64_t r = 0; r < y->rows; r++) {
        double s = y->scales[r], z = y->zeros[r], num = 0, den = 0;
        uint8_t *codes = y->codes + r * n;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double li = codes[i] - z, lj = codes[j] - z;
                num += li * h[i * n + j] * (y->w[r * n + j] - s * lj);
                den += li * h[i * n + j] * lj;
            }
        double new = f16_to_f32(f32_to_f16((float)(s + num / den)));
        if ((new - s) * (new - s - 2 * num / den) < 0 && new *s > 0) s = new;
        for (int64_t i = 0; i < n; i++) {
            double gradient = 0;
            for (int64_t j = 0; j < n; j++)
                gradient += h[i * n + j] * (y->w[r * n + j] - s * (codes[j] - z));
            double code = rint(codes[i] + gradient / (h[i * n + i] * s));
            codes[i] = (uint8_t)fmin(fmax(code, 0), (1 << bits) - 1);
        }
        y->scales[r] = (float)s;
    }
    free(h);
}

START_TEST(polish_is_descent_on_the_loss)
{
    load_both();
    for (int i = 0; i < 4 * 2 * 2; i++) {
        layer a = layer_make(9, 96, 400, 50 + (uint64_t)i),
              b = layer_make(9, 96, 400, 50 + (uint64_t)i);
        gptq_with p = defaults();
        p.bits = all_bits[i % 4];
        p.symmetric = i / 4 % 2;
        p.order = NATURAL;
        p.group_size = -1;
        p.polish = NEVER;
        ck_assert_int_eq(run_gptq(&a, p), SQZ_OK);
        double before = loss(&a, p.damp);
        slow_polish(&a, (int)p.bits, p.damp);
        p.polish = ALWAYS;
        ck_assert_int_eq(run_gptq(&b, p), SQZ_OK);
        ck_assert_mem_eq(a.codes, b.codes, (size_t)(a.rows * a.cols));
        ck_assert_mem_eq(a.scales, b.scales, (size_t)a.rows * sizeof(float));
        ck_assert_double_lt(loss(&b, p.damp), before);
        layer_free(&a);
        layer_free(&b);
    }
}
END_TEST

/* With more groups the walk goes on from other residuals, so a layer may lose; many gain. */
START_TEST(polish_pays)
{
    double with = 0, without = 0;
    load_both();
    for (int i = 0; i < 8; i++) {
        layer y = layer_make(16, 172, 500, 70 + (uint64_t)i);
        gptq_with p = defaults();
        p.bits = 2;
        p.order = i % 2 ? GROUP : NATURAL;
        p.group_size = i / 2 % 2 ? 32 : 64;
        p.symmetric = i / 4;
        ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
        with += log(loss(&y, p.damp));
        p.polish = NEVER;
        ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
        without += log(loss(&y, p.damp));
        layer_free(&y);
    }
    ck_assert_double_lt(with, without + 8 * log(0.97)); /* measured 0.92 */
}
END_TEST

START_TEST(gptq_beats_rounding)
{
    load_both();
    for (int i = 0; i < 4 * 2; i++) {
        layer y = layer_make(32, 128, 500, 21);
        gptq_with p = defaults();
        p.bits = all_bits[i % 4];
        p.symmetric = i / 4;
        p.group_size = 64;
        ck_assert_int_eq(run_rtn(&y, p.bits, 64, p.symmetric, 0), SQZ_OK);
        double rounded = loss(&y, 0);
        ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
        ck_assert_double_lt(loss(&y, 0), 0.8 * rounded);
        layer_free(&y);
    }
}
END_TEST

START_TEST(same_bytes_however_work_is_cut)
{
    static const int64_t rows[] = {1, 7, 63, 129};
    load_both();
    for (int i = 0; i < 4; i++) {
        layer a = layer_make(rows[i], 172, 300, 31), b = layer_make(rows[i], 172, 300, 31);
        gptq_with p = defaults();
        p.bits = all_bits[i];
        p.group_size = i % 2 ? 32 : 128;
        p.symmetric = i < 2;
        backwards = 0;
        ck_assert_int_eq(run_gptq(&a, p), SQZ_OK);
        backwards = 1;
        ck_assert_int_eq(run_gptq(&b, p), SQZ_OK);
        ck_assert_mem_eq(a.codes, b.codes, (size_t)(a.rows * a.cols));
        ck_assert_mem_eq(a.scales, b.scales, (size_t)(a.rows * a.groups) * sizeof(float));
        ck_assert_mem_eq(a.zeros, b.zeros, (size_t)(a.rows * a.groups));
        layer_free(&a);
        layer_free(&b);
    }
}
END_TEST

/* The factor is kept from call to call; other statistics at the same address must not meet it. */
START_TEST(factor_is_recognised_by_content)
{
    load_both();
    layer a = layer_make(8, 64, 300, 1), b = layer_make(8, 64, 300, 2), fresh;
    gptq_with p = defaults();
    void *self = NULL;
    p.group_size = 32;
    ck_assert_int_eq(gptq->open(&host, &self), SQZ_OK);
    ck_assert_int_eq(call_gptq(self, &a, p), SQZ_OK);
    memcpy(a.xtx, b.xtx, 64 * 64 * sizeof(float));
    a.xtx_id = b.xtx_id;
    memcpy(a.w, b.w, 8 * 64 * sizeof(float));
    ck_assert_int_eq(call_gptq(self, &a, p), SQZ_OK);
    ck_assert_int_eq(call_gptq(self, &a, p), SQZ_OK); /* from the cache */
    gptq->close(&host, self);
    fresh = layer_make(8, 64, 300, 2);
    ck_assert_int_eq(run_gptq(&fresh, p), SQZ_OK);
    ck_assert_mem_eq(a.codes, fresh.codes, 8 * 64);
    ck_assert_mem_eq(a.scales, fresh.scales, 8 * 2 * sizeof(float));
    layer_free(&a);
    layer_free(&b);
    layer_free(&fresh);
}
END_TEST

/* A rule may give linears of one input other groups; the order of their columns may be the same. */
START_TEST(groups_change_on_one_factor)
{
    load_both();
    layer fresh = layer_make(8, 192, 400, 3), again = layer_make(8, 192, 400, 3);
    gptq_with p = defaults();
    void *self = NULL;
    p.order = NATURAL;
    p.polish = ALWAYS;
    ck_assert_int_eq(gptq->open(&host, &self), SQZ_OK);
    p.group_size = 32;
    ck_assert_int_eq(call_gptq(self, &again, p), SQZ_OK);
    p.group_size = 128;
    ck_assert_int_eq(call_gptq(self, &again, p), SQZ_OK);
    gptq->close(&host, self);
    ck_assert_int_eq(run_gptq(&fresh, p), SQZ_OK);
    ck_assert_mem_eq(again.codes, fresh.codes, (size_t)(fresh.rows * fresh.cols));
    layer_free(&fresh);
    layer_free(&again);
}
END_TEST

START_TEST(damping_raises_itself)
{
    load_both();
    layer y = layer_make(8, 64, 300, 3);
    gptq_with p = defaults();
    memset(y.xtx, 0, 64 * 64 * sizeof(float));
    for (int i = 0; i < 64; i++) y.xtx[i * 65] = 1;
    y.xtx[1] = y.xtx[64] = 1.2f; /* eigenvalue -0.2 */
    p.group_size = 64;
    ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(noted, "damping raised from 0.01 to"));
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 64; j++) y.xtx[i * 64 + j] = i == j ? 1 : 3; /* beyond any damping */
    ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(noted, "rounded to nearest"));
    layer_free(&y);
}
END_TEST

START_TEST(dead_inputs)
{
    load_both();
    layer y = layer_make(8, 64, 300, 4);
    for (int64_t dead = 5; dead < 64; dead += 13)
        for (int64_t j = 0; j < 64; j++) y.xtx[dead * 64 + j] = y.xtx[j * 64 + dead] = 0;
    for (int32_t order = NATURAL; order <= GROUP; order++) {
        for (int damped = 0; damped < 2; damped++) {
            gptq_with p = defaults();
            p.order = order;
            p.group_size = 32;
            p.damp = damped ? 0.01 : 0;
            ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
            ck_assert_str_eq(noted, "");
            for (int64_t r = 0; r < y.rows; r++)
                for (int64_t c = 5; c < 64; c += 13) { /* nobody pushes them: nearest level */
                    double s = y.scales[r * 2 + c / 32], w = y.w[r * 64 + c];
                    double level = fmin(fmax(rint(w / s), -8), 7);
                    ck_assert_double_le(fabs(value(&y, r, c) - w), fabs(level * s - w) + 1e-6);
                }
        }
    }
    memset(y.xtx, 0, 64 * 64 * sizeof(float));
    ck_assert_int_eq(run_gptq(&y, defaults()), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(noted, "every input of this layer is zero"));
    layer_free(&y);
}
END_TEST

START_TEST(too_few_tokens_is_rtn_and_said)
{
    load_both();
    layer y = layer_make(7, 172, 42, 6), plain = layer_make(7, 172, 42, 6);
    gptq_with p = defaults();
    p.scale_search = 0;
    ck_assert_int_eq(run_gptq(&y, p), SQZ_OK); /* 42 < 172 / 4 */
    ck_assert_ptr_nonnull(strstr(noted, "42 calibration tokens"));
    ck_assert_int_eq(run_rtn(&plain, p.bits, p.group_size, p.symmetric, 0), SQZ_OK);
    ck_assert_mem_eq(y.codes, plain.codes, 7 * 172);
    ck_assert_mem_eq(y.scales, plain.scales, 7 * 2 * sizeof(float));
    y.tokens = 43;
    ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
    ck_assert_str_eq(noted, "");
    float *xtx = y.xtx;
    y.xtx = NULL;
    ck_assert_int_eq(run_gptq(&y, p), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(noted, "no calibration tokens"));
    y.xtx = xtx;
    layer_free(&y);
    layer_free(&plain);
}
END_TEST

START_TEST(extreme_weights)
{
    static const float scale[] = {0, 1e-9f, 1e-5f, 1e4f, 1e30f};
    load_both();
    for (int i = 0; i < 5 * 2; i++) {
        layer y = layer_make(4, 64, 300, 8);
        for (int j = 0; j < 4 * 64; j++) y.w[j] *= scale[i % 5];
        gptq_with p = defaults();
        p.symmetric = i / 5;
        ck_assert_int_eq(run_gptq(&y, p), SQZ_OK); /* keep() checks ranges and halves */
        ck_assert_int_eq(run_rtn(&y, 4, 32, p.symmetric, 0), SQZ_OK);
        layer_free(&y);
    }
}
END_TEST

START_TEST(nan_is_refused)
{
    load_both();
    layer y = layer_make(4, 64, 300, 9);
    y.w[70] = NAN;
    ck_assert_int_eq(run_rtn(&y, 4, 32, 1, 0), SQZ_E_NUMERIC);
    ck_assert_ptr_nonnull(strstr(failure, "NaN"));
    ck_assert_int_eq(run_gptq(&y, defaults()), SQZ_E_NUMERIC);
    y.w[70] = 0;
    y.xtx[5] = y.xtx[5 * 64] = INFINITY;
    failure[0] = 0;
    ck_assert_int_eq(run_gptq(&y, defaults()), SQZ_E_NUMERIC);
    ck_assert_ptr_nonnull(strstr(failure, "statistics"));
    ck_assert_int_eq(y.calls, 0);
    layer_free(&y);
}
END_TEST

START_TEST(cancelled_hands_over_nothing)
{
    load_both();
    layer y = layer_make(4, 172, 300, 10);
    for (int k = 1; k <= 4; k++) {
        stop_after = k;
        ck_assert_int_eq(run_gptq(&y, defaults()), SQZ_E_CANCELLED);
    }
    stop_after = 1;
    ck_assert_int_eq(run_rtn(&y, 4, 32, 1, 0), SQZ_E_CANCELLED);
    ck_assert_int_eq(y.calls, 0);
    layer_free(&y);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("methods");
    TCase *t = tcase_create("methods");
    tcase_add_test(t, rtn_is_plain_rounding);
    tcase_add_test(t, rtn_search_lowers_the_squared_error);
    tcase_add_test(t, gptq_is_obq_without_refinement);
    tcase_add_test(t, refinement_never_raises_the_loss);
    tcase_add_test(t, polish_is_descent_on_the_loss);
    tcase_add_test(t, polish_pays);
    tcase_add_test(t, gptq_beats_rounding);
    tcase_add_test(t, same_bytes_however_work_is_cut);
    tcase_add_test(t, factor_is_recognised_by_content);
    tcase_add_test(t, groups_change_on_one_factor);
    tcase_add_test(t, damping_raises_itself);
    tcase_add_test(t, dead_inputs);
    tcase_add_test(t, too_few_tokens_is_rtn_and_said);
    tcase_add_test(t, extreme_weights);
    tcase_add_test(t, nan_is_refused);
    tcase_add_test(t, cancelled_hands_over_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
