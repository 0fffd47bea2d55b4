/* test_hw_cpu.c - every operation of the CPU backend against its naive twin, at odd shapes, for
 * every instruction set this machine has (SQZ_CPU_ISA caps the choice when the agent opens).
 *
 * Tolerances.  u = 2^-24 is half a unit of float32.  A float32 sum of n products has an error below
 * n u S, S = sum |a b|; errors of random sign grow like sqrt(n), so sums are held to
 * (8 + 2 sqrt n) u S, far below what a wrong element or a missing term would make.
 * Products of bfloat16 are exact in float32, so SQZ_BF16 has the same bound. */
#include "device_host.h"
#include "quant/affine.h"
#include "reference/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER
#endif
#endif

/* ---- the devices under test ----------------------------------------------------------------- */

enum { MOST = 4 };
static struct {
    void *dev;
    char isa[32];
} devices[MOST];
static int n_devices;
static const sqz_hardware *ref;

/* One device per instruction set that the machine really has. */
static void open_devices(void)
{
    static const char *const caps[MOST] = {"generic", "avx2", "avx512", "avx512_bf16"};
    load_backend();
    ref = reference_hardware();
    n_devices = 0;
    for (int i = 0; i < MOST; i++) {
        sqz_device_info info = {.struct_size = sizeof info};
        setenv("SQZ_CPU_ISA", caps[i], 1);
        ck_assert_int_eq(agent->open(&host, &devices[n_devices].dev), SQZ_OK);
        ck_assert_int_eq(hw->describe(devices[n_devices].dev, &info), SQZ_OK);
        if (strcmp(info.isa, caps[i]) != 0) {
            printf("%s: this machine has %s only\n", caps[i], info.isa);
            agent->close(&host, devices[n_devices].dev);
            continue;
        }
        memcpy(devices[n_devices++].isa, info.isa, sizeof info.isa);
    }
    unsetenv("SQZ_CPU_ISA");
}

static void close_devices(void)
{
    for (int i = 0; i < n_devices; i++) agent->close(&host, devices[i].dev);
}

/* ---- data ---------------------------------------------------------------------------------- */

static uint64_t seed;

static double uniform(void) /* -1 .. 1 */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(seed >> 11) / (double)(1ull << 52) - 1;
}

static float *fresh(int64_t n)
{
    float *p = malloc((size_t)(n ? n : 1) * sizeof *p);
    ck_assert(p != NULL);
    for (int64_t i = 0; i < n; i++) p[i] = (float)uniform();
    return p;
}

static float *copy_of(const float *x, int64_t n)
{
    float *p = malloc((size_t)(n ? n : 1) * sizeof *p);
    ck_assert(p != NULL);
    memcpy(p, x, (size_t)n * sizeof *p);
    return p;
}

static sqz_mem mem(void *p)
{
    return (sqz_mem){p, 0};
}

static uint16_t bf16_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, 4);
    return (uint16_t)((b + 0x7fff + ((b >> 16) & 1)) >> 16);
}

static float bf16_value(uint16_t h)
{
    uint32_t b = (uint32_t)h << 16;
    float x;
    memcpy(&x, &b, 4);
    return x;
}

/* A half whose value is near x: sign, 10 mantissa bits, normal range only. */
static uint16_t f16_of(float x)
{
    int e;
    double m = frexp(fabs((double)x), &e); /* m in [0.5, 1) */
    if (e < -13) return 0;
    int mantissa = (int)((m * 2 - 1) * 1024);
    return (uint16_t)((x < 0 ? 0x8000 : 0) | (e + 14) << 10 | mantissa);
}

static float f16_value(uint16_t h)
{
    int e = h >> 10 & 31;
    double m = e ? ldexp(1024 + (h & 1023), e - 25) : ldexp(h & 1023, -24);
    return (float)(h & 0x8000 ? -m : m);
}

/* Check's own assertions write a file on every call; these compare millions of numbers. */
#define NEAR(got, want, allowed)                                                                   \
    do {                                                                                           \
        double got_ = (got), want_ = (want), allowed_ = (allowed);                                 \
        if (!(fabs(got_ - want_) <= allowed_) && !(isnan(got_) && isnan(want_)))                   \
            ck_abort_msg("%s is %.9g, not %.9g, allowed %g", #got, got_, want_, allowed_);         \
    } while (0)

static double sum_tolerance(int64_t n, double magnitude)
{
    return (8 + 2 * sqrt((double)n)) * 0x1p-24 * magnitude + 1e-30;
}

/* ---- linear -------------------------------------------------------------------------------- */

/* The plain sums, once for all devices: want and the allowed error. */
static void plain_linear(const float *w, const float *x, int64_t rows, int64_t cols, int64_t tokens,
                         double *want, double *allowed)
{
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            for (int64_t c = 0; c < cols; c++) {
                double product = (double)x[t * cols + c] * w[r * cols + c];
                sum += product;
                size += fabs(product);
            }
            want[t * rows + r] = sum;
            allowed[t * rows + r] = sum_tolerance(cols, size + 2);
        }
}

static float *rounded_copy(const float *x, int64_t n)
{
    float *p = copy_of(x, n);
    for (int64_t i = 0; i < n; i++) p[i] = bf16_value(bf16_of(p[i]));
    return p;
}

/* One linear on every device.  w holds the exact values; in SQZ_BF16 the prefill path rounds
 * dequantized ones to bfloat16, while the decode path (few tokens) takes them as they are. */
static void check_linear(const sqz_weight *weight, const float *w, int32_t compute, int64_t tokens,
                         int with_bias, int accumulate, void *const *packed)
{
    int64_t rows = weight->rows, cols = weight->cols, n = tokens * rows;
    int affine = strcmp(weight->form, SQZ_FORM_INT_AFFINE) == 0, half = compute == SQZ_BF16;
    float *x = fresh(tokens * cols), *bias = fresh(rows), *start = fresh(n);
    float *xr = rounded_copy(x, tokens * cols), *wr = rounded_copy(w, rows * cols);
    double *want = malloc((size_t)n * 4 * sizeof *want), *allowed = want + n; /* many tokens */
    double *few_want = want + 2 * n, *few_allowed = want + 3 * n;
    plain_linear(half ? wr : w, half ? xr : x, rows, cols, tokens, want, allowed);
    if (half && affine) {
        plain_linear(w, xr, rows, cols, tokens, few_want, few_allowed);
    } else {
        few_want = want;
        few_allowed = allowed;
    }
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = compute,
                        .tokens = tokens,
                        .x = mem(x),
                        .bias = mem(with_bias ? bias : NULL),
                        .accumulate = accumulate};
    for (int i = 0; i < n_devices; i++) {
        float *y = copy_of(start, n);
        op.packed = packed[i];
        op.y = mem(y);
        ck_assert_int_eq(hw->linear(devices[i].dev, &op), SQZ_OK);
        int few = tokens <= (strncmp(devices[i].isa, "avx512", 6) == 0 ? 8 : 4);
        for (int64_t e = 0; e < n; e++) {
            double sum = few ? few_want[e] : want[e];
            sum += (with_bias ? bias[e % rows] : 0) + (accumulate ? start[e] : 0);
            double off = fabs(sum - y[e]), limit = few ? few_allowed[e] : allowed[e];
            if (!(off <= limit))
                ck_abort_msg(
                    "%s: [%lld x %lld] dtype %d %s, %lld tokens, compute %d, y[%lld] is off by "
                    "%g of %g",
                    devices[i].isa, (long long)rows, (long long)cols, weight->dtype, weight->form,
                    (long long)tokens, compute, (long long)e, off, limit);
        }
        free(y);
    }
    free(x);
    free(xr);
    free(wr);
    free(want);
    free(bias);
    free(start);
}

static void check_weight(const sqz_weight *weight, const float *w, const int64_t *tokens, int n)
{
    static int turn;
    for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
        void *packed[MOST];
        for (int i = 0; i < n_devices; i++)
            ck_assert_int_eq(hw->pack(devices[i].dev, weight, compute, &packed[i]), SQZ_OK);
        for (int i = 0; i < n; i++, turn++)
            check_linear(weight, w, compute, tokens[i], turn & 1, turn >> 1 & 1, packed);
        for (int i = 0; i < n_devices; i++) {
            ck_assert_int_gt(hw->packed_bytes(devices[i].dev, packed[i]), 0);
            hw->packed_free(devices[i].dev, packed[i]);
        }
    }
}

START_TEST(linear_dense)
{
    static const int64_t rows[] = {1, 7, 64, 129}, cols[] = {1, 7, 63, 64, 129, 172, 257, 520};
    static const int64_t tokens[] = {1, 2, 3, 4, 5, 8, 9, 13, 49};
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 8; b++)
            for (int32_t dtype = SQZ_F32; dtype <= SQZ_F16; dtype++) {
                int64_t n = rows[a] * cols[b];
                float *w = fresh(n);
                uint16_t *half = malloc((size_t)n * 2);
                for (int64_t i = 0; i < n && dtype != SQZ_F32; i++) {
                    half[i] = dtype == SQZ_BF16 ? bf16_of(w[i]) : f16_of(w[i]);
                    w[i] = dtype == SQZ_BF16 ? bf16_value(half[i]) : f16_value(half[i]);
                }
                sqz_weight weight = {sizeof weight, dtype,   SQZ_FORM_DENSE,
                                     rows[a],       cols[b], dtype == SQZ_F32 ? (void *)w : half,
                                     NULL};
                check_weight(&weight, w, tokens, 9);
                free(w);
                free(half);
            }
}
END_TEST

/* What is added to a large residual is a sum, not terms: each of these alone is below half a last
 * digit of the residual and would leave it as it is. */
START_TEST(linear_onto_a_residual)
{
    enum { LINES = 70, COLS = 512 };
    static const int64_t tokens[] = {1, 13};
    float *w = fresh(LINES * COLS), *x = fresh(13 * COLS);
    for (int64_t i = 0; i < LINES * COLS; i++) w[i] = 1;
    for (int64_t i = 0; i < 13 * COLS; i++) x[i] = 0x3p-13f;
    sqz_weight weight = {sizeof weight, SQZ_F32, SQZ_FORM_DENSE, LINES, COLS, w, NULL};
    for (int i = 0; i < 2 * n_devices; i++) {
        int64_t n = tokens[i % 2] * LINES;
        float *y = fresh(n);
        for (int64_t e = 0; e < n; e++) y[e] = 8192;
        void *packed = NULL;
        ck_assert_int_eq(hw->pack(devices[i / 2].dev, &weight, SQZ_F32, &packed), SQZ_OK);
        sqz_op_linear op = {.struct_size = sizeof op,
                            .packed = packed,
                            .compute = SQZ_F32,
                            .tokens = tokens[i % 2],
                            .x = mem(x),
                            .y = mem(y),
                            .accumulate = 1};
        ck_assert_int_eq(hw->linear(devices[i / 2].dev, &op), SQZ_OK);
        for (int64_t e = 0; e < n; e++) NEAR(y[e], 8192 + COLS * 0x3p-13, 0x1p-10);
        hw->packed_free(devices[i / 2].dev, packed);
        free(y);
    }
    free(w);
    free(x);
}
END_TEST

/* A random int-affine weight and its exact values; the arrays are heap blocks of exact size, so
 * that the address sanitizer sees a kernel that reads past them. */
static float *random_affine(int bits, int64_t rows, int64_t cols, int64_t group, int symmetric,
                            sqz_affine *out)
{
    int64_t groups = affine_groups(cols, group);
    uint8_t *codes = malloc((size_t)(rows * cols)), *zeros = malloc((size_t)(rows * groups));
    float *scales = fresh(rows * groups), *w = malloc((size_t)(rows * cols) * sizeof *w);
    int top = 1 << bits;
    for (int64_t i = 0; i < rows * cols; i++)
        codes[i] = (uint8_t)((uint64_t)((uniform() + 1) * 1e6) % (unsigned)top);
    for (int64_t i = 0; i < rows * groups; i++) {
        scales[i] = f16_value(f16_of(scales[i] / (float)top));
        zeros[i] = symmetric
                       ? (uint8_t)(top / 2)
                       : (uint8_t)(1 + (uint64_t)((uniform() + 1) * 1e6) % (unsigned)(top - 1));
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            int64_t g = r * groups + c / group;
            w[r * cols + c] = scales[g] * (float)(codes[r * cols + c] - zeros[g]);
        }
    sqz_error err;
    ck_assert_msg(
        affine_pack(bits, rows, cols, group, symmetric, codes, scales, zeros, out, &err) == SQZ_OK,
        "%s", err.text);
    free(codes);
    free(zeros);
    free(scales);
    return w;
}

static void check_affine(int bits)
{
    static const int64_t cols[] = {7, 172, 256, 776}, rows[] = {1, 67};
    static const int64_t groups[] = {7, 8, 20, 32, 64, 128, 1000}; /* 1000: the whole row */
    static const int64_t tokens[] = {1, 3, 8, 9};
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 4; b++)
            for (int g = 0; g < 7; g++)
                for (int symmetric = 0; symmetric < 2; symmetric++) {
                    sqz_affine q;
                    int64_t group = groups[g] < cols[b] ? groups[g] : cols[b];
                    float *w = random_affine(bits, rows[a], cols[b], group, symmetric, &q);
                    sqz_weight weight = {sizeof weight, 0, SQZ_FORM_INT_AFFINE, rows[a], cols[b],
                                         NULL,          &q};
                    check_weight(&weight, w, tokens, 4);
                    affine_free(&q);
                    free(w);
                }
}

START_TEST(linear_2bit)
{
    check_affine(2);
}
END_TEST
START_TEST(linear_3bit)
{
    check_affine(3);
}
END_TEST
START_TEST(linear_4bit)
{
    check_affine(4);
}
END_TEST
START_TEST(linear_8bit)
{
    check_affine(8);
}
END_TEST

/* The twin itself agrees with the plain sums above, so that it may serve as oracle elsewhere. */
START_TEST(reference_linear)
{
    sqz_affine q;
    float *w = random_affine(3, 5, 50, 20, 0, &q), *x = fresh(2 * 50), y[10];
    sqz_weight weight = {sizeof weight, 0, SQZ_FORM_INT_AFFINE, 5, 50, NULL, &q};
    void *packed;
    ck_assert_int_eq(ref->pack(NULL, &weight, SQZ_F32, &packed), SQZ_OK);
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = SQZ_F32,
                        .packed = packed,
                        .tokens = 2,
                        .x = mem(x),
                        .y = mem(y)};
    ck_assert_int_eq(ref->linear(NULL, &op), SQZ_OK);
    for (int t = 0; t < 2; t++)
        for (int r = 0; r < 5; r++) {
            double sum = 0;
            for (int c = 0; c < 50; c++) sum += (double)x[t * 50 + c] * w[r * 50 + c];
            NEAR(sum, y[t * 5 + r], 1e-6);
        }
    ref->packed_free(NULL, packed);
    affine_free(&q);
    free(w);
    free(x);
}
END_TEST

/* More than one part of rounded activations (4 MiB) and several tasks a panel. */
START_TEST(linear_large)
{
    enum { ROWS = 70, COLS = 2052, TOKENS = 1100 };
    float *w = fresh(ROWS * COLS), *x = fresh((int64_t)TOKENS * COLS), *y = fresh(TOKENS * ROWS);
    sqz_weight weight = {sizeof weight, SQZ_F32, SQZ_FORM_DENSE, ROWS, COLS, w, NULL};
    for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
        float *expected = fresh(TOKENS * ROWS);
        void *packed;
        sqz_op_linear op = {.struct_size = sizeof op,
                            .compute = compute,
                            .tokens = TOKENS,
                            .x = mem(x),
                            .y = mem(expected)};
        ck_assert_int_eq(ref->pack(NULL, &weight, compute, &packed), SQZ_OK);
        op.packed = packed;
        ck_assert_int_eq(ref->linear(NULL, &op), SQZ_OK);
        ref->packed_free(NULL, packed);
        for (int i = 0; i < n_devices; i++) {
            ck_assert_int_eq(hw->pack(devices[i].dev, &weight, compute, &packed), SQZ_OK);
            op.packed = packed;
            op.y = mem(y);
            ck_assert_int_eq(hw->linear(devices[i].dev, &op), SQZ_OK);
            for (int64_t k = 0; k < TOKENS * ROWS; k++) /* sum |x w| is about COLS / 4 */
                NEAR(y[k], expected[k], sum_tolerance(COLS, COLS / 4.0));
            hw->packed_free(devices[i].dev, packed);
        }
        free(expected);
    }
    free(w);
    free(x);
    free(y);
}
END_TEST

/* ---- rows ---------------------------------------------------------------------------------- */

START_TEST(embed)
{
    float table[5 * 37], y[3 * 37], z[3 * 37];
    uint16_t half[5 * 37];
    const int32_t ids[] = {4, 0, 3};
    for (int32_t dtype = SQZ_F32; dtype <= SQZ_F16; dtype++) {
        for (int i = 0; i < 5 * 37; i++) {
            table[i] = (float)uniform();
            half[i] =
                (uint16_t)(dtype == SQZ_F16 && i < 40 ? i : f16_of(table[i])); /* subnormals */
        }
        const void *data = dtype == SQZ_F32 ? (void *)table : half;
        sqz_mem to = mem(y), other = mem(z);
        ck_assert_int_eq(ref->embed(NULL, data, dtype, 37, ids, 3, &other), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            memset(y, 0, sizeof y);
            ck_assert_int_eq(hw->embed(devices[i].dev, data, dtype, 37, ids, 3, &to), SQZ_OK);
            ck_assert_mem_eq(y, z, sizeof y); /* conversions are exact */
        }
    }
    const int32_t bad[] = {-1};
    sqz_mem to = mem(y);
    ck_assert_int_eq(hw->embed(devices[0].dev, table, SQZ_F32, 37, bad, 1, &to), SQZ_E_INVALID);
    ck_assert_int_eq(hw->embed(devices[0].dev, table, SQZ_I8, 37, ids, 1, &to), SQZ_E_UNSUPPORTED);
}
END_TEST

START_TEST(norm)
{
    static const int64_t widths[] = {1, 7, 63, 64, 129, 172, 256};
    for (int a = 0; a < 7; a++) {
        int64_t n = widths[a];
        float *x = fresh(3 * n), *weight = fresh(n), *z = fresh(3 * n);
        sqz_op_norm op = {.struct_size = sizeof op,
                          .rows = 3,
                          .n = n,
                          .x = mem(x),
                          .y = mem(z),
                          .weight = mem(weight),
                          .eps = 1e-5};
        ref->norm(NULL, &op);
        for (int i = 0; i < n_devices; i++) {
            float *y = copy_of(x, 3 * n); /* in place */
            op.x = op.y = mem(y);
            ck_assert_int_eq(hw->norm(devices[i].dev, &op), SQZ_OK);
            op.x = mem(x);
            op.y = mem(z);
            for (int64_t k = 0; k < 3 * n; k++) /* three roundings and the sum's error */
                NEAR(y[k], z[k], (6 + sqrt((double)n)) * 0x1p-24 * fabs(z[k]));
            free(y);
        }
        free(x);
        free(weight);
        free(z);
    }
}
END_TEST

START_TEST(rope)
{
    enum { T = 5, H = 3, POSITIONS = 11 };
    static const int64_t dims[][2] = {{2, 2}, {14, 14}, {64, 64}, {80, 32}, {127, 126}};
    const int32_t position[T] = {0, 10, 3, 3, 7};
    for (int a = 0; a < 5; a++) {
        int64_t dim = dims[a][0], n = dims[a][1], size = T * H * dim;
        float *x = fresh(size), *c = fresh(POSITIONS * n / 2), *s = fresh(POSITIONS * n / 2);
        float *z = copy_of(x, size);
        sqz_op_rope op = {.struct_size = sizeof op,
                          .tokens = T,
                          .heads = H,
                          .head_dim = dim,
                          .n = n,
                          .x = mem(z),
                          .cosines = mem(c),
                          .sines = mem(s),
                          .position = position};
        ref->rope(NULL, &op);
        for (int i = 0; i < n_devices; i++) {
            float *y = copy_of(x, size);
            op.x = mem(y);
            ck_assert_int_eq(hw->rope(devices[i].dev, &op), SQZ_OK);
            for (int64_t k = 0; k < size; k++) /* two products below 1, one sum */
                NEAR(y[k], z[k], 3 * 0x1p-24);
            free(y);
        }
        free(x);
        free(c);
        free(s);
        free(z);
    }
}
END_TEST

START_TEST(gate)
{
    enum { N = 1003 };
    float *g = fresh(N), *u = fresh(N), *z = fresh(N), *y = fresh(N);
    for (int i = 0; i < N; i++) g[i] *= i < 600 ? 8 : 120; /* far into both tails */
    sqz_mem mg = mem(g), mu = mem(u), mz = mem(z), my = mem(y);
    for (int32_t act = SQZ_ACT_SILU; act <= SQZ_ACT_RELU; act++) {
        ref->gate(NULL, act, N, &mg, &mu, &mz);
        for (int i = 0; i < n_devices; i++) {
            ck_assert_int_eq(hw->gate(devices[i].dev, act, N, &mg, &mu, &my), SQZ_OK);
            for (int k = 0; k < N; k++) {
                /* SiLU: exp within 1.01 ulp, then sum, quotient, product: 6 ulp.  The GELUs
                 * evaluate their exponent or argument in float32, whose rounding the tail
                 * multiplies by the slope of the exponential; |g|^3 / 20 bounds it. */
                double slope =
                    act == SQZ_ACT_SILU || act == SQZ_ACT_RELU
                        ? 0
                        : fmin(1, exp(-g[k] * g[k] / 2.2)) * fabs(pow(g[k], 3)) * fabs(g[k]);
                double allowed = (12 * fabs(z[k]) + 4 * slope * fabs(u[k])) * 0x1p-24 + 1e-30;
                if (!(fabs((double)y[k] - z[k]) <= allowed))
                    ck_abort_msg("%s act %d g %g: %.9g not %.9g", devices[i].isa, act, g[k], y[k],
                                 z[k]);
            }
        }
    }
    float *in_place = copy_of(g, N);
    sqz_mem mi = mem(in_place);
    ref->gate(NULL, SQZ_ACT_SILU, N, &mg, &mu, &mz);
    hw->gate(devices[0].dev, SQZ_ACT_SILU, N, &mi, &mu, &mi);
    for (int k = 0; k < N; k++) NEAR(in_place[k], z[k], 12 * fabs(z[k]) * 0x1p-24 + 1e-30);
    ck_assert_int_eq(hw->gate(devices[0].dev, 9, N, &mg, &mu, &my), SQZ_E_UNSUPPORTED);
    free(in_place);
    free(g);
    free(u);
    free(z);
    free(y);
}
END_TEST

START_TEST(layer_norm)
{
    static const int64_t widths[] = {1, 7, 63, 64, 129, 172, 256};
    for (int a = 0; a < 14; a++) {
        int64_t n = widths[a % 7];
        float *x = fresh(3 * n), *weight = fresh(n), *bias = fresh(n), *z = fresh(3 * n);
        for (int64_t k = n; k < 2 * n; k++) x[k] += 100; /* a mean far above the deviations */
        sqz_op_layer_norm op = {.struct_size = sizeof op,
                                .rows = 3,
                                .n = n,
                                .x = mem(x),
                                .y = mem(z),
                                .weight = mem(weight),
                                .bias = mem(a < 7 ? bias : NULL),
                                .eps = 1e-5};
        ref->layer_norm(NULL, &op);
        for (int i = 0; i < n_devices; i++) {
            float *y = copy_of(x, 3 * n); /* in place */
            op.x = op.y = mem(y);
            ck_assert_int_eq(hw->layer_norm(devices[i].dev, &op), SQZ_OK);
            op.x = mem(x);
            op.y = mem(z);
            /* The mean is off by half a unit of itself or so; one value alone is all mean, and
             * 1 / sqrt(eps) = 316 times its rounding. */
            for (int64_t k = 0; k < 3 * n; k++) {
                double mean = k / n == 1 ? 100 : 1, gain = n == 1 ? 320 : 8;
                NEAR(y[k], z[k], (12 + sqrt((double)n)) * 0x1p-24 * (2 + gain * mean));
            }
            free(y);
        }
        free(x);
        free(weight);
        free(bias);
        free(z);
    }
}
END_TEST

/* An activation alone is the gated one with a factor of 1. */
START_TEST(activate)
{
    enum { N = 1003 };
    float *x = fresh(N), *one = fresh(N), *z = fresh(N), *y = fresh(N), *w = fresh(N);
    for (int i = 0; i < N; i++) x[i] *= i < 600 ? 8 : 120, one[i] = 1;
    sqz_mem mx = mem(x), m1 = mem(one), mz = mem(z), my = mem(y), mw = mem(w);
    for (int32_t act = SQZ_ACT_SILU; act <= SQZ_ACT_RELU; act++) {
        ref->activate(NULL, act, N, &mx, &mz);
        for (int i = 0; i < n_devices; i++) {
            ck_assert_int_eq(hw->activate(devices[i].dev, act, N, &mx, &my), SQZ_OK);
            ck_assert_int_eq(hw->gate(devices[i].dev, act, N, &mx, &m1, &mw), SQZ_OK);
            for (int k = 0; k < N; k++) {
                NEAR(y[k], w[k], 0x1p-23 * fabs(w[k]));
                NEAR(y[k], z[k], 1e-5 * fabs(z[k]) + 1e-5);
            }
        }
    }
    ck_assert_int_eq(hw->activate(devices[0].dev, 9, N, &mx, &my), SQZ_E_UNSUPPORTED);
    ck_assert_int_eq(ref->activate(NULL, 9, N, &mx, &my), SQZ_E_UNSUPPORTED);
    free(x), free(one), free(z), free(y), free(w);
}
END_TEST

START_TEST(scaled_and_capped)
{
    static const int64_t sizes[] = {1, 7, 16, 33, 1003, 70001};
    for (int a = 0; a < 6; a++) {
        int64_t n = sizes[a];
        float *x = fresh(n), *z = copy_of(x, n);
        for (int64_t i = 0; i < n; i++) z[i] = x[i] *= i % 3 ? 40 : 4000;
        sqz_mem mz = mem(z);
        ck_assert_int_eq(ref->softcap(NULL, n, 30, &mz), SQZ_OK);
        ck_assert_int_eq(ref->scale(NULL, n, 45.25, &mz), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            float *y = copy_of(x, n);
            sqz_mem my = mem(y);
            ck_assert_int_eq(hw->softcap(devices[i].dev, n, 30, &my), SQZ_OK);
            for (int64_t k = 0; k < n; k++) NEAR(y[k], 30 * tanh(x[k] / 30.0), 30 * 4 * 0x1p-24);
            ck_assert_int_eq(hw->scale(devices[i].dev, n, 45.25, &my), SQZ_OK);
            for (int64_t k = 0; k < n; k++) NEAR(y[k], z[k], 30 * 45.25 * 5 * 0x1p-24);
            free(y);
        }
        ck_assert_int_eq(hw->softcap(devices[0].dev, n, 0, &mz), SQZ_E_INVALID);
        free(x), free(z);
    }
}
END_TEST

START_TEST(rows_moved)
{
    static const int64_t widths[] = {1, 7, 64, 129, 3000};
    static const int64_t rows[] = {4, 0, 11, 7};
    static const float weight[] = {0.25f, 1, -3, 0.1f};
    for (int a = 0; a < 5; a++) {
        int64_t w = widths[a];
        float *x = fresh(12 * w), *base = fresh(12 * w), *z = copy_of(base, 12 * w);
        sqz_mem mx = mem(x), mz = mem(z);
        ck_assert_int_eq(ref->scatter(NULL, 4, w, rows, weight, &mx, &mz), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            float *y = copy_of(base, 12 * w), *got = fresh(4 * w);
            sqz_mem my = mem(y), mg = mem(got);
            ck_assert_int_eq(hw->scatter(devices[i].dev, 4, w, rows, weight, &mx, &my), SQZ_OK);
            for (int64_t k = 0; k < 12 * w; k++) NEAR(y[k], z[k], 4 * 0x1p-24);
            ck_assert_int_eq(hw->gather(devices[i].dev, 4, w, rows, &mx, &mg), SQZ_OK);
            for (int r = 0; r < 4; r++)
                ck_assert(!memcmp(got + r * w, x + rows[r] * w, (size_t)w * sizeof *x));
            free(y), free(got);
        }
        free(x), free(base), free(z);
    }
}
END_TEST

START_TEST(add)
{
    enum { N = 100003 };
    float *x = fresh(N), *start = fresh(N);
    sqz_mem mx = mem(x);
    for (int i = 0; i < n_devices; i++) {
        float *y = copy_of(start, N);
        sqz_mem my = mem(y);
        ck_assert_int_eq(hw->add(devices[i].dev, N, &mx, &my), SQZ_OK);
        for (int k = 0; k < N; k++) ck_assert(y[k] == start[k] + x[k]);
        free(y);
    }
    free(x);
    free(start);
}
END_TEST

START_TEST(score)
{
    static const int64_t widths[] = {1, 7, 64, 129, 32003};
    for (int a = 0; a < 5; a++) {
        int64_t n = widths[a];
        float *x = fresh(4 * n), p[4], q[4], sum[4], expected[4];
        int32_t target[4] = {0, (int32_t)n - 1, -1, (int32_t)(n / 2)}, best[4], other[4];
        for (int64_t i = 0; i < 4 * n; i++) x[i] *= 20;
        x[0] = x[n - 1] = 21;           /* a tie: the lowest index wins */
        for (int64_t i = 0; i < n; i++) /* large logits must not overflow */
            x[n + i] += 1000;
        sqz_op_score op = {.struct_size = sizeof op,
                           .rows = 4,
                           .n = n,
                           .logits = mem(x),
                           .target = target,
                           .logprob = q,
                           .argmax = other,
                           .logsumexp = expected};
        ref->score(NULL, &op);
        op.logprob = p;
        op.argmax = best;
        op.logsumexp = sum;
        for (int i = 0; i < n_devices; i++) {
            p[2] = 5; /* untouched where target < 0 */
            ck_assert_int_eq(hw->score(devices[i].dev, &op), SQZ_OK);
            ck_assert_float_eq(p[2], 5);
            for (int r = 0; r < 4; r++) {
                ck_assert_int_eq(best[r], other[r]);
                /* the result is rounded to float32 once; the sum's own error is 1e-7 of it */
                NEAR(sum[r], expected[r], 0x1p-23 * fabs(expected[r]) + 2e-7);
                if (r != 2) NEAR(p[r], q[r], 0x1p-23 * fabs(q[r]) + 2e-7);
            }
        }
        free(x);
    }
    float x[3] = {1, 2, 3};
    int32_t target = 3;
    sqz_op_score op = {
        .struct_size = sizeof op, .rows = 1, .n = 3, .logits = mem(x), .target = &target};
    ck_assert_int_eq(hw->score(devices[0].dev, &op), SQZ_E_INVALID);
}
END_TEST

/* ---- attention ----------------------------------------------------------------------------- */

/* Values are below 1 and their weights sum to 1.  Scores carry (8 + 2 sqrt dim) u of sum |q k| *
 * scale, about dim / 4 * scale, which the softmax passes on twice; the sums over keys add
 * sqrt(keys) u. */
static double attend_tolerance(int64_t dim, double scale, int64_t keys)
{
    return 2 * sum_tolerance(dim, (double)dim / 3 * scale) + (16 + sqrt((double)keys)) * 0x1p-24;
}

static void check_attend(int64_t heads, int64_t kv_heads, int64_t dim, int64_t window, double cap)
{
    static const int64_t first[] = {0, 1, 8, 8, 71, 200, 500, 502};
    enum { SEQUENCES = 7, TOKENS = 502 };
    int64_t width = heads * dim, kv_width = kv_heads * dim, n = TOKENS * width;
    float *q = fresh(n), *k = fresh(TOKENS * kv_width), *v = fresh(TOKENS * kv_width),
          *z = fresh(n);
    sqz_op_attend op = {.struct_size = sizeof op,
                        .sequences = SEQUENCES,
                        .first = first,
                        .heads = heads,
                        .kv_heads = kv_heads,
                        .head_dim = dim,
                        .window = window,
                        .scale = 1 / sqrt((double)dim),
                        .q = mem(q),
                        .k = mem(k),
                        .v = mem(v),
                        .y = mem(z),
                        .softcap = cap};
    ck_assert_int_eq(ref->attend(NULL, &op), SQZ_OK);
    /* a capped score is off by 3 units of cap */
    double allowed = attend_tolerance(dim, op.scale, 300) + 12 * cap * 0x1p-24;
    for (int i = 0; i < n_devices; i++) {
        float *y = fresh(n);
        op.y = mem(y);
        ck_assert_int_eq(hw->attend(devices[i].dev, &op), SQZ_OK);
        for (int64_t e = 0; e < n; e++)
            if (!(fabs((double)y[e] - z[e]) <= allowed))
                ck_abort_msg("%s: heads %lld/%lld dim %lld window %lld token %lld: %.9g not %.9g",
                             devices[i].isa, (long long)heads, (long long)kv_heads, (long long)dim,
                             (long long)window, (long long)(e / width), y[e], z[e]);
        free(y);
    }
    free(q);
    free(k);
    free(v);
    free(z);
}

START_TEST(attend)
{
    static const int64_t shapes[][3] = {{4, 4, 16}, {6, 2, 64}, {5, 1, 7}, {2, 1, 80}, {40, 1, 8}};
    for (int a = 0; a < 5; a++)
        for (int64_t window = 0; window <= 70; window = window ? window * 10 : 7)
            check_attend(shapes[a][0], shapes[a][1], shapes[a][2], window, a % 2 ? 0.7 : 0);
    check_attend(4, 4, 16, 0, 0);
    check_attend(6, 2, 64, 7, 50);
}
END_TEST

/* Peaked scores: the running maximum moves from block to block, by much. */
START_TEST(attend_rescaling)
{
    enum { T = 700, D = 16 };
    static const int64_t first[] = {0, T};
    float *q = fresh(T * D), *k = fresh(T * D), *v = fresh(T * D), *z = fresh(T * D);
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < D; i++) {
            q[t * D + i] = 1;
            k[t * D + i] += (float)(t / 100);
        }
    sqz_op_attend op = {.struct_size = sizeof op,
                        .sequences = 1,
                        .first = first,
                        .heads = 1,
                        .kv_heads = 1,
                        .head_dim = D,
                        .scale = 1,
                        .q = mem(q),
                        .k = mem(k),
                        .v = mem(v),
                        .y = mem(z)};
    ref->attend(NULL, &op);
    for (int i = 0; i < n_devices; i++) {
        float *y = fresh(T * D);
        op.y = mem(y);
        ck_assert_int_eq(hw->attend(devices[i].dev, &op), SQZ_OK);
        for (int64_t e = 0; e < T * D; e++) /* scores up to 110: their rounding is 110 * 2^-24 */
            NEAR(y[e], z[e], 600 * 0x1p-24);
        free(y);
    }
    free(q);
    free(k);
    free(v);
    free(z);
}
END_TEST

/* Prompt, then steps of 1, 2 and 40 tokens on two slots, a copied prefix, all against the twin. */
static void check_cache(int64_t heads, int64_t kv_heads, int64_t dim, int64_t window)
{
    static const int64_t lengths[][2] = {{300, 5}, {1, 1}, {2, 40}, {1, 0}, {1, 2}};
    sqz_kv_desc desc = {sizeof desc, 2, 3, 400, kv_heads, dim, "f32/1"};
    void *theirs, *ours[MOST];
    ck_assert_int_eq(ref->kv_new(NULL, &desc, &theirs), SQZ_OK);
    for (int i = 0; i < n_devices; i++)
        ck_assert_int_eq(hw->kv_new(devices[i].dev, &desc, &ours[i]), SQZ_OK);
    int32_t slot[2] = {2, 0};
    int64_t past[2] = {0, 0};
    for (int step = 0; step < 5; step++) {
        int64_t first[3] = {0, lengths[step][0], lengths[step][0] + lengths[step][1]};
        int64_t n = first[2];
        float *q = fresh(n * heads * dim), *k = fresh(n * kv_heads * dim);
        float *v = fresh(n * kv_heads * dim), *z = fresh(n * heads * dim);
        if (step == 3) { /* slot 1 goes on where slot 2 is */
            ref->kv_copy(NULL, theirs, 2, 1, past[0]);
            for (int i = 0; i < n_devices; i++)
                ck_assert_int_eq(hw->kv_copy(devices[i].dev, ours[i], 2, 1, past[0]), SQZ_OK);
            slot[0] = 1;
        }
        sqz_op_kv_append append = {.struct_size = sizeof append,
                                   .layer = 1,
                                   .sequences = 2,
                                   .first = first,
                                   .slot = slot,
                                   .past = past,
                                   .k = mem(k),
                                   .v = mem(v),
                                   .kv = theirs};
        sqz_op_attend op = {.struct_size = sizeof op,
                            .layer = 1,
                            .sequences = 2,
                            .first = first,
                            .slot = slot,
                            .past = past,
                            .heads = heads,
                            .kv_heads = kv_heads,
                            .head_dim = dim,
                            .window = window,
                            .scale = 1 / sqrt((double)dim),
                            .q = mem(q),
                            .y = mem(z),
                            .kv = theirs};
        ck_assert_int_eq(ref->kv_append(NULL, &append), SQZ_OK);
        ck_assert_int_eq(ref->attend(NULL, &op), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            float *y = fresh(n * heads * dim);
            append.kv = op.kv = ours[i];
            op.y = mem(y);
            ck_assert_int_eq(hw->kv_append(devices[i].dev, &append), SQZ_OK);
            ck_assert_int_eq(hw->attend(devices[i].dev, &op), SQZ_OK);
            for (int64_t e = 0; e < n * heads * dim; e++)
                if (!(fabs((double)y[e] - z[e]) <= attend_tolerance(dim, op.scale, 310)))
                    ck_abort_msg("%s: step %d heads %lld/%lld dim %lld window %lld: %.9g not %.9g",
                                 devices[i].isa, step, (long long)heads, (long long)kv_heads,
                                 (long long)dim, (long long)window, y[e], z[e]);
            free(y);
        }
        past[0] += lengths[step][0];
        past[1] += lengths[step][1];
        free(q);
        free(k);
        free(v);
        free(z);
    }
    /* a full slot is refused, and nothing written */
    int64_t first[3] = {0, 100, 100}, full[2] = {350, 0};
    float *k = fresh(100 * kv_heads * dim);
    sqz_op_kv_append append = {.struct_size = sizeof append,
                               .sequences = 2,
                               .first = first,
                               .slot = slot,
                               .past = full,
                               .k = mem(k),
                               .v = mem(k),
                               .kv = ours[0]};
    ck_assert_int_eq(hw->kv_append(devices[0].dev, &append), SQZ_E_INVALID);
    ck_assert_int_eq(hw->kv_copy(devices[0].dev, ours[0], 0, 3, 1), SQZ_E_INVALID);
    free(k);
    ref->kv_free(NULL, theirs);
    for (int i = 0; i < n_devices; i++) hw->kv_free(devices[i].dev, ours[i]);
}

START_TEST(attend_cache)
{
    check_cache(4, 2, 64, 0);
    check_cache(6, 2, 16, 33);
    check_cache(3, 3, 7, 0);
    sqz_kv_desc desc = {sizeof desc, 1, 1, 1, 1, 1, "f16/1"};
    void *kv;
    ck_assert_int_eq(hw->kv_new(devices[0].dev, &desc, &kv), SQZ_E_UNSUPPORTED);
}
END_TEST

/* ---- algebra ------------------------------------------------------------------------------- */

START_TEST(second_moment)
{
    static const int64_t sides[] = {1, 7, 64, 129, 172, 320}, tokens[] = {1, 7, 129, 601};
    for (int a = 0; a < 6; a++)
        for (int b = 0; b < 4; b++)
            for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
                int64_t n = sides[a], t = tokens[b];
                float *x = fresh(t * n), *start = fresh(n * n), *z = copy_of(start, n * n);
                sqz_mem mx = mem(x), mz = mem(z);
                ck_assert_int_eq(ref->second_moment(NULL, compute, t, n, &mx, &mz), SQZ_OK);
                for (int i = 0; i < n_devices; i++) {
                    float *s = copy_of(start, n * n);
                    sqz_mem ms = mem(s);
                    ck_assert_int_eq(hw->second_moment(devices[i].dev, compute, t, n, &mx, &ms),
                                     SQZ_OK);
                    for (int64_t r = 0; r < n; r++)
                        for (int64_t c = 0; c < n; c++) {
                            double allowed = c < r ? 0 : sum_tolerance(t, (double)t / 3 + 2);
                            NEAR(s[r * n + c], z[r * n + c], allowed);
                        }
                    free(s);
                }
                free(x);
                free(start);
                free(z);
            }
}
END_TEST

/* More tokens than one part of the packed activations holds (4 MiB). */
START_TEST(second_moment_parts)
{
    enum { N = 1030, T = 2200 };
    float *x = fresh((int64_t)T * N), *s = calloc(N * N, sizeof *s),
          *once = calloc(N * N, sizeof *once);
    for (int i = n_devices - 1; i < n_devices; i++)
        for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
            memset(s, 0, N * N * sizeof *s);
            sqz_mem mx = mem(x), ms = mem(s);
            ck_assert_int_eq(hw->second_moment(devices[i].dev, compute, T, N, &mx, &ms), SQZ_OK);
            for (int64_t r = 0; r < N; r += 103) /* spot checks: the whole would take too long */
                for (int64_t c = r; c < N; c += 41) {
                    double sum = 0;
                    for (int64_t t = 0; t < T; t++) {
                        float p = x[t * N + r], q = x[t * N + c];
                        sum += compute == SQZ_BF16
                                   ? (double)bf16_value(bf16_of(p)) * bf16_value(bf16_of(q))
                                   : (double)p * q;
                    }
                    NEAR(s[r * N + c], sum, sum_tolerance(T, T / 3.0));
                }
        }
    free(x);
    free(s);
    free(once);
}
END_TEST

START_TEST(gemm)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {7, 129, 63}, {64, 64, 172}, {200, 70, 300}, {5, 3, 0}};
    for (int a = 0; a < 5; a++)
        for (int form = 0; form < 12; form++) {
            int32_t ta = form & 1, tb = form >> 1 & 1;
            int64_t m = shapes[a][0], n = shapes[a][1], k = shapes[a][2];
            int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
            double alpha = form >= 4 ? -0.5 : 1, beta = form >= 8 ? 1 : form >= 4 ? 0.25 : 0;
            float *x = fresh((ta ? k : m) * lda + 1), *y = fresh((tb ? n : k) * ldb + 1);
            float *start = fresh(m * ldc), *z = copy_of(start, m * ldc);
            if (beta == 0) start[0] = NAN; /* must not be read */
            ref->gemm(NULL, ta, tb, m, n, k, alpha, x, lda, y, ldb, beta, z, ldc);
            for (int i = 0; i < n_devices; i++) {
                float *c = copy_of(start, m * ldc);
                ck_assert_int_eq(
                    hw->gemm(devices[i].dev, ta, tb, m, n, k, alpha, x, lda, y, ldb, beta, c, ldc),
                    SQZ_OK);
                for (int64_t e = 0; e < m * ldc; e++)
                    NEAR(c[e], z[e], sum_tolerance(k, (double)k / 3 + 2));
                free(c);
            }
            free(x);
            free(y);
            free(start);
            free(z);
        }
}
END_TEST

START_TEST(gemm_rounded)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {7, 129, 63}, {64, 64, 172}, {200, 70, 301}};
    for (int a = 0; a < 4; a++)
        for (int form = 0; form < 2; form++) {
            int64_t m = shapes[a][0], n = shapes[a][1], k = shapes[a][2];
            int64_t lda = k + 3, ldb = n + 1, ldc = n + 2;
            float *x = fresh(m * lda), *y = fresh(k * ldb);
            float *start = fresh(m * ldc), *z = copy_of(start, m * ldc);
            if (form == 0) start[0] = NAN; /* must not be read */
            ref->gemm(NULL, 0, 0, m, n, k, 1, x, lda, y, ldb, form, z, ldc);
            for (int i = 0; i < n_devices; i++) {
                float *c = copy_of(start, m * ldc);
                ck_assert_int_eq(
                    hw->gemm_rounded(devices[i].dev, m, n, k, x, lda, y, ldb, form, c, ldc),
                    SQZ_OK);
                for (int64_t r = 0; r < m; r++)
                    for (int64_t q = 0; q < ldc; q++) {
                        double sum = 0; /* each factor off by 2^-8, no more */
                        for (int64_t l = 0; q < n && l < k; l++)
                            sum += fabs((double)x[r * lda + l] * y[l * ldb + q]);
                        if (q >= n) ck_assert(c[r * ldc + q] == start[r * ldc + q]);
                        NEAR(q < n ? c[r * ldc + q] : 0, q < n ? z[r * ldc + q] : 0,
                             sum * 0x1.01p-7 + sum_tolerance(k, (double)k / 3 + 2));
                    }
                free(c);
            }
            free(x);
            free(y);
            free(start);
            free(z);
        }
}
END_TEST

/* A well-conditioned symmetric matrix; the caller's. */
static float *moments_with_ridge(int64_t n)
{
    float *x = fresh(2 * n * n), *s = calloc((size_t)(n * n), sizeof *s);
    sqz_mem mx = mem(x), ms = mem(s);
    ref->second_moment(NULL, SQZ_F32, 2 * n, n, &mx, &ms);
    for (int64_t i = 0; i < n; i++) s[i * n + i] += 0.1f * (float)n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) s[i * n + j] = s[j * n + i];
    free(x);
    return s;
}

START_TEST(reverse_cholesky)
{
    static const int64_t sides[] = {1, 2, 7, 64, 129, 200};
    for (int a = 0; a < 6; a++) {
        int64_t n = sides[a];
        float *s = moments_with_ridge(n), *z = copy_of(s, n * n);
        ck_assert_int_eq(ref->reverse_cholesky(NULL, z, n), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            float *l = copy_of(s, n * n);
            for (int64_t r = 0; r < n; r++) /* the upper triangle is not read */
                for (int64_t c = r + 1; c < n; c++) l[r * n + c] = NAN;
            ck_assert_int_eq(hw->reverse_cholesky(devices[i].dev, l, n), SQZ_OK);
            for (int64_t r = 0; r < n; r++)
                for (int64_t c = 0; c < n; c++) {
                    if (c > r) ck_assert(l[r * n + c] == 0);
                    /* condition number below 50 (the ridge) */
                    NEAR(l[r * n + c] / z[n * n - 1], z[r * n + c] / z[n * n - 1],
                         50 * (4 + sqrt((double)n)) * 0x1p-24);
                }
            free(l);
        }
        for (int64_t r = 0; r < n; r++) /* L^T L = A */
            for (int64_t c = 0; c < n; c++) {
                double sum = 0;
                for (int64_t k = r > c ? r : c; k < n; k++)
                    sum += (double)z[k * n + r] * z[k * n + c];
                NEAR(sum, s[r * n + c], 1e-5 * s[0]);
            }
        free(s);
        free(z);
    }
    float singular[4] = {1, 1, 1, 1}, nan[4] = {1, 0, NAN, 1};
    for (int i = 0; i < n_devices; i++) {
        float again[4];
        memcpy(again, singular, sizeof again);
        ck_assert_int_eq(hw->reverse_cholesky(devices[i].dev, again, 2), SQZ_E_NUMERIC);
        memcpy(again, nan, sizeof nan);
        ck_assert_int_eq(hw->reverse_cholesky(devices[i].dev, again, 2), SQZ_E_NUMERIC);
    }
}
END_TEST

START_TEST(inverse_factor)
{
    static const int64_t sides[] = {1, 2, 7, 64, 129, 200};
    for (int a = 0; a < 6; a++) {
        int64_t n = sides[a];
        float *s = moments_with_ridge(n), *z = copy_of(s, n * n);
        ck_assert_int_eq(ref->inverse_factor(NULL, z, n), SQZ_OK);
        for (int i = 0; i < n_devices; i++) {
            float *u = copy_of(s, n * n);
            ck_assert_int_eq(hw->inverse_factor(devices[i].dev, u, n), SQZ_OK);
            double worst = 0;
            for (int64_t r = 0; r < n; r++)
                for (int64_t c = 0; c < n; c++) {
                    if (c < r) ck_assert(u[r * n + c] == 0);
                    worst = fmax(worst, fabs((double)u[r * n + c] - z[r * n + c]) / z[0]);
                }
            /* condition number below 50 (the ridge), n u of it at worst */
            ck_assert_msg(worst < 50 * (4 + sqrt((double)n)) * 0x1p-24, "n %lld: off by %g",
                          (long long)n, worst);
            free(u);
        }
        /* U^T U A = 1 */
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < n; c++) {
                double sum = 0;
                for (int64_t k = 0; k < n; k++) {
                    double inverse = 0;
                    for (int64_t l = 0; l <= (r < k ? r : k); l++)
                        inverse += (double)z[l * n + r] * z[l * n + k];
                    sum += inverse * s[k * n + c];
                }
                NEAR(sum, r == c, 1e-4);
                if (n > 100) c += 13;
            }
        free(s);
        free(z);
    }
    float singular[4] = {1, 1, 1, 1}, negative[1] = {-1}, nan[1] = {NAN};
    for (int i = 0; i < n_devices; i++) {
        float again[4];
        memcpy(again, singular, sizeof again);
        ck_assert_int_eq(hw->inverse_factor(devices[i].dev, again, 2), SQZ_E_NUMERIC);
        memcpy(again, negative, sizeof negative);
        ck_assert_int_eq(hw->inverse_factor(devices[i].dev, again, 1), SQZ_E_NUMERIC);
        memcpy(again, nan, sizeof nan);
        ck_assert_int_eq(hw->inverse_factor(devices[i].dev, again, 1), SQZ_E_NUMERIC);
    }
}
END_TEST

/* ---- memory, identity, repeatability ------------------------------------------------------- */

START_TEST(memory)
{
    void *dev = devices[0].dev, *a, *b, *c;
    char bytes[100];
    for (int i = 0; i < 100; i++) bytes[i] = (char)i;
    ck_assert_int_eq(hw->alloc(dev, 1000, &a), SQZ_OK);
    ck_assert_uint_eq((uintptr_t)hw->map(dev, a) % 64, 0);
    sqz_mem at = {a, 17};
    ck_assert_int_eq(hw->upload(dev, &at, bytes, 100), SQZ_OK);
    ck_assert_mem_eq((char *)hw->map(dev, a) + 17, bytes, 100);
    char back[100];
    ck_assert_int_eq(hw->download(dev, back, &at, 100), SQZ_OK);
    ck_assert_mem_eq(back, bytes, 100);
    hw->release(dev, a);
    ck_assert_int_eq(hw->alloc(dev, 990, &b), SQZ_OK);
    ck_assert_ptr_eq(a, b); /* handed out again */
    ck_assert_int_eq(hw->alloc(dev, 0, &c), SQZ_OK);
    hw->release(dev, b);
    hw->release(dev, c);
    hw->release(dev, NULL);
    void *many[100];
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(hw->alloc(dev, (int64_t)(1 + i % 7) << 20, &many[i]), SQZ_OK);
    for (int i = 0; i < 100; i++) hw->release(dev, many[i]);
    ck_assert_int_eq(hw->alloc(dev, (int64_t)100 << 20, &a), SQZ_OK);
    hw->release(dev, a);
    ck_assert_int_eq(hw->alloc(dev, -1, &a), SQZ_E_INVALID);
#ifndef ADDRESS_SANITIZER /* which ends the process instead */
    ck_assert_int_eq(hw->alloc(dev, INT64_MAX / 2, &a), SQZ_E_NOMEM);
#endif
    ck_assert_int_eq(hw->sync(dev), SQZ_OK);
}
END_TEST

START_TEST(refusals)
{
    void *dev = devices[0].dev, *packed;
    float w[6] = {0}, x[3] = {0}, y[2];
    sqz_weight weight = {sizeof weight, SQZ_F32, SQZ_FORM_DENSE, 2, 3, w, NULL};
    ck_assert_int_eq(hw->pack(dev, &weight, SQZ_F32, &packed), SQZ_OK);
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = SQZ_BF16,
                        .packed = packed,
                        .tokens = 1,
                        .x = mem(x),
                        .y = mem(y)};
    ck_assert_int_eq(hw->linear(dev, &op), SQZ_E_INVALID);
    ck_assert(strstr(last_failure, "compute") != NULL);
    hw->packed_free(dev, packed);
    weight.dtype = SQZ_I8;
    ck_assert_int_eq(hw->pack(dev, &weight, SQZ_F32, &packed), SQZ_E_UNSUPPORTED);
    weight.form = "sparse/9";
    ck_assert_int_eq(hw->pack(dev, &weight, SQZ_F32, &packed), SQZ_E_UNSUPPORTED);
    ck_assert(strstr(last_failure, "sparse/9") != NULL);
}
END_TEST

/* The same bytes with one thread and with all, and from one run to the next. */
START_TEST(repeatable)
{
    enum { ROWS = 200, COLS = 300, TOKENS = 450 };
    static const int64_t first[] = {0, 450};
    sqz_affine q;
    float *w = random_affine(4, ROWS, COLS, 32, 0, &q), *x = fresh(TOKENS * COLS);
    sqz_weight weight = {sizeof weight, 0, SQZ_FORM_INT_AFFINE, ROWS, COLS, NULL, &q};
    int all = pool_threads();
    for (int i = 0; i < n_devices; i++)
        for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
            float *y[3], *s[3], *z[3];
            void *packed;
            ck_assert_int_eq(hw->pack(devices[i].dev, &weight, compute, &packed), SQZ_OK);
            for (int run = 0; run < 3; run++) {
                pool_set_threads(run == 0 ? 1 : all < 2 ? 2 : all);
                y[run] = fresh(TOKENS * ROWS);
                z[run] = fresh(TOKENS * COLS);
                s[run] = calloc(COLS * COLS, sizeof(float));
                sqz_op_linear op = {.struct_size = sizeof op,
                                    .compute = compute,
                                    .packed = packed,
                                    .tokens = TOKENS,
                                    .x = mem(x),
                                    .y = mem(y[run])};
                sqz_op_attend at = {.struct_size = sizeof at,
                                    .sequences = 1,
                                    .first = first,
                                    .heads = 10,
                                    .kv_heads = 10,
                                    .head_dim = 30,
                                    .scale = 0.2,
                                    .q = mem(x),
                                    .k = mem(x),
                                    .v = mem(x),
                                    .y = mem(z[run])};
                sqz_mem mx = mem(x), ms = mem(s[run]);
                ck_assert_int_eq(hw->linear(devices[i].dev, &op), SQZ_OK);
                ck_assert_int_eq(hw->attend(devices[i].dev, &at), SQZ_OK);
                ck_assert_int_eq(hw->second_moment(devices[i].dev, compute, TOKENS, COLS, &mx, &ms),
                                 SQZ_OK);
            }
            for (int run = 1; run < 3; run++) {
                ck_assert_mem_eq(y[0], y[run], TOKENS * ROWS * sizeof(float));
                ck_assert_mem_eq(z[0], z[run], TOKENS * COLS * sizeof(float));
                ck_assert_mem_eq(s[0], s[run], COLS * COLS * sizeof(float));
            }
            for (int run = 0; run < 3; run++) {
                free(y[run]);
                free(z[run]);
                free(s[run]);
            }
            hw->packed_free(devices[i].dev, packed);
        }
    pool_set_threads(all);
    affine_free(&q);
    free(w);
    free(x);
}
END_TEST

START_TEST(measures)
{
    double read = 0, single = 0, half = -1;
    ck_assert_int_eq(hw->measure(devices[n_devices - 1].dev, &read, &single, &half), SQZ_OK);
    ck_assert(read > 1e8 && single > 1e8 && half >= 0);
    sqz_device_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(hw->describe(devices[n_devices - 1].dev, &info), SQZ_OK);
    ck_assert_int_eq(info.fast_bf16, strcmp(info.isa, "avx512_bf16") == 0);
    ck_assert_int_eq(info.threads, pool_threads());
    ck_assert(info.memory_bytes > 0 && info.name[0]);
}
END_TEST

/* A backend with holes is completed by the twin, whole groups at a time. */
START_TEST(completed)
{
    sqz_hardware part = *hw, whole;
    part.kv_copy = NULL;
    part.norm = NULL;
    hardware_complete(&part, &whole);
    ck_assert(whole.attend == ref->attend && whole.kv_new == ref->kv_new);
    ck_assert(whole.softcap == hw->softcap &&
              whole.features == (ref->features | SQZ_HARDWARE_COPIES));
    sqz_hardware old = *hw; /* a table of ABI 1.0 ends before the new rows */
    old.struct_size = offsetof(sqz_hardware, features);
    hardware_complete(&old, &whole);
    ck_assert(whole.attend == hw->attend && whole.features == 0);
    ck_assert(whole.layer_norm == ref->layer_norm && whole.scatter == ref->scatter);
    hardware_complete(&part, &whole);
    ck_assert(whole.norm == ref->norm && whole.linear == hw->linear && whole.alloc == hw->alloc);
    /* a twin works at once, on memory that an operation left undone has not reached */
    ck_assert(whole.begin == NULL);
    hardware_complete(hw, &whole);
    ck_assert(hw->begin && whole.begin == hw->begin);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {linear_dense,
                                  linear_onto_a_residual,
                                  linear_2bit,
                                  linear_3bit,
                                  linear_4bit,
                                  linear_8bit,
                                  reference_linear,
                                  linear_large,
                                  embed,
                                  norm,
                                  rope,
                                  gate,
                                  add,
                                  layer_norm,
                                  activate,
                                  scaled_and_capped,
                                  rows_moved,
                                  score,
                                  attend,
                                  attend_rescaling,
                                  attend_cache,
                                  second_moment,
                                  second_moment_parts,
                                  gemm,
                                  gemm_rounded,
                                  reverse_cholesky,
                                  inverse_factor,
                                  memory,
                                  refusals,
                                  repeatable,
                                  measures,
                                  completed};
    Suite *suite = suite_create("hw_cpu");
    TCase *tc = tcase_create("operations");
    /* one process for all: OpenMP threads do not survive a fork, and the devices are opened once */
    tcase_add_unchecked_fixture(tc, open_devices, close_devices);
    tcase_set_timeout(tc, 120);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
