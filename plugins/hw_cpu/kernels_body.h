/* kernels_body.h - every kernel once, in the vector words of vec_*.h; each kernels_*.c includes it
 * after choosing them.  Sums run in a fixed order, so a result depends on the instruction set only.
 *
 * KERNEL_FN     how a kernel is declared (static, target of the instruction set)
 * KERNEL_TABLE  name of the function that returns the table */
#include "kernels.h"

#include <math.h>
#include <string.h>

/* Loops over accumulators must unroll, or the accumulators live in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* ---- products ------------------------------------------------------------------------------ */

enum { MR = 6 };

/* MR rows (fewer at the edge) of C times nv vectors of columns; `tail` lanes in the last vector,
 * 0 = all.  Everything but `p` and the pointers is a compile-time constant where it is called.
 * What C holds is added to the finished sum: as the sum's beginning, a large residual would round
 * every term to its own last digit, the small ones to nothing. */
VFN void tile(const product *p, const uint32_t *a, const uint32_t *b, float *c, const float *bias,
              const int mr, const int nv, int64_t tail, const int pairs)
{
    vf acc[MR][NV], col[NV];
    const int full = tail ? nv - 1 : nv;
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) acc[i][j] = v_zero();
    for (int64_t k = 0; k < p->steps; k++, a += p->a_step, b += p->b_step) {
        for (int j = 0; j < full; j++) col[j] = v_load((const float *)b + j * VW);
        if (tail) col[nv - 1] = v_load_n((const float *)b + (nv - 1) * VW, tail);
        for (int i = 0; i < mr; i++) {
            vf one = v_set1(((const float *)a)[i * p->a_row]);
            for (int j = 0; j < nv; j++)
#ifdef KERNEL_PAIRS
                acc[i][j] = pairs ? v_pairs(one, col[j], acc[i][j]) : v_fma(one, col[j], acc[i][j]);
#else
                acc[i][j] = v_fma(one, col[j], acc[i][j]);
#endif
        }
    }
    (void)pairs;
    if (p->from_c) {
        UNROLL
        for (int i = 0; i < mr; i++) {
            for (int j = 0; j < full; j++)
                acc[i][j] = v_add(acc[i][j], v_load(c + i * p->ldc + j * VW));
            if (tail)
                acc[i][nv - 1] =
                    v_add(acc[i][nv - 1], v_load_n(c + i * p->ldc + (nv - 1) * VW, tail));
        }
    }
    for (int i = 0; i < mr; i++) {
        for (int j = 0; j < full; j++)
            v_store(c + i * p->ldc + j * VW,
                    bias ? v_add(acc[i][j], v_load(bias + j * VW)) : acc[i][j]);
        if (tail)
            v_store_n(c + i * p->ldc + (nv - 1) * VW,
                      bias ? v_add(acc[i][nv - 1], v_load_n(bias + (nv - 1) * VW, tail))
                           : acc[i][nv - 1],
                      tail);
    }
}

#define TILE_ROWS(nv, tail, pairs)                                                                 \
    switch (mr) {                                                                                  \
    case 6: tile(p, a, b, c, bias, 6, nv, tail, pairs); break;                                     \
    case 5: tile(p, a, b, c, bias, 5, nv, tail, pairs); break;                                     \
    case 4: tile(p, a, b, c, bias, 4, nv, tail, pairs); break;                                     \
    case 3: tile(p, a, b, c, bias, 3, nv, tail, pairs); break;                                     \
    case 2: tile(p, a, b, c, bias, 2, nv, tail, pairs); break;                                     \
    default: tile(p, a, b, c, bias, 1, nv, tail, pairs);                                           \
    }

/* One strip of mr rows: full column tiles, then the vectors and lanes that are left. */
#define STRIP(name, pairs)                                                                         \
    KERNEL_FN void name(const product *p, const uint32_t *a, float *c, const int mr)               \
    {                                                                                              \
        const uint32_t *b = p->b;                                                                  \
        const float *bias = p->bias;                                                               \
        int64_t n = p->n;                                                                          \
        for (; n >= NV * VW; n -= NV * VW, b += NV * VW, c += NV * VW) {                           \
            TILE_ROWS(NV, 0, pairs)                                                                \
            bias = bias ? bias + NV * VW : NULL;                                                   \
        }                                                                                          \
        for (; n >= VW; n -= VW, b += VW, c += VW) {                                               \
            TILE_ROWS(1, 0, pairs)                                                                 \
            bias = bias ? bias + VW : NULL;                                                        \
        }                                                                                          \
        if (n) TILE_ROWS(1, n, pairs)                                                              \
    }                                                                                              \
    KERNEL_FN void name##_all(const product *p)                                                    \
    {                                                                                              \
        for (int64_t i = 0; i < p->m; i += MR)                                                     \
            name(p, (const uint32_t *)p->a + i * p->a_row, p->c + i * p->ldc,                      \
                 (int)(p->m - i < MR ? p->m - i : MR));                                            \
    }

STRIP(strip_f32, 0)
#ifdef KERNEL_PAIRS
STRIP(strip_pairs, 1)
#endif

KERNEL_FN void panel_rows(const void *src, int64_t ld, int64_t n, int64_t steps, uint32_t *panel)
{
    const char *rows = src;
    int64_t r = 0;
    for (; r + VW <= n; r += VW) {
        int64_t k = 0;
        for (; k + VW <= steps; k += VW)
            v_transpose(rows + r * ld + k * 4, ld, panel + k * PANEL + r, PANEL);
        for (; k < steps; k++)
            for (int64_t i = r; i < r + VW; i++)
                memcpy(panel + k * PANEL + i, rows + i * ld + k * 4, 4);
    }
    for (; r < n; r++)
        for (int64_t k = 0; k < steps; k++) memcpy(panel + k * PANEL + r, rows + r * ld + k * 4, 4);
}

KERNEL_FN void panel_copy(const float *src, int64_t ld, int64_t k, int64_t n, int32_t how,
                          uint32_t *panel)
{
    if (how != COPY_PAIRS) {
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < n; j += VW) {
                vf x = n - j < VW ? v_load_n(src + i * ld + j, n - j) : v_load(src + i * ld + j);
                v_store((float *)panel + i * PANEL + j, how == COPY_ROUNDED ? v_round_bf16(x) : x);
            }
        return;
    }
#ifdef KERNEL_PAIRS
    for (int64_t i = 0; i < k; i += 2)
        for (int64_t j = 0; j < n; j += VW) {
            int64_t lanes = n - j < VW ? n - j : VW;
            const float *at = src + i * ld + j;
            v_store_pairs(panel + i / 2 * PANEL + j, v_load_n(at, lanes),
                          i + 1 < k ? v_load_n(at + ld, lanes) : v_zero());
        }
#endif
}

/* ---- conversions --------------------------------------------------------------------------- */

VFN vf load_as(const void *src, int64_t i, const int32_t dtype)
{
    return dtype == SQZ_F32    ? v_load((const float *)src + i)
           : dtype == SQZ_BF16 ? v_from_bf16((const uint16_t *)src + i)
                               : v_from_f16((const uint16_t *)src + i);
}

VFN vf load_as_n(const void *src, int64_t i, int64_t n, const int32_t dtype)
{
    return dtype == SQZ_F32    ? v_load_n((const float *)src + i, n)
           : dtype == SQZ_BF16 ? v_from_bf16_n((const uint16_t *)src + i, n)
                               : v_from_f16_n((const uint16_t *)src + i, n);
}

VFN void to_f32_of(const void *src, const int32_t dtype, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(dst + i, load_as(src, i, dtype));
    if (i < n) v_store_n(dst + i, load_as_n(src, i, n - i, dtype), n - i);
}

KERNEL_FN void to_f32(const void *src, int32_t dtype, int64_t n, float *dst)
{
    if (dtype == SQZ_F32)
        memcpy(dst, src, (size_t)n * sizeof *dst);
    else if (dtype == SQZ_BF16)
        to_f32_of(src, SQZ_BF16, n, dst);
    else
        to_f32_of(src, SQZ_F16, n, dst);
}

KERNEL_FN void to_bf16(const float *src, int64_t n, uint16_t *dst)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_to_bf16(dst + i, v_load(src + i));
    if (i < n) {
        uint16_t part[VW];
        v_to_bf16(part, v_load_n(src + i, n - i));
        memcpy(dst + i, part, (size_t)(n - i) * sizeof *dst);
    }
}

KERNEL_FN void round_bf16(const float *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(dst + i, v_round_bf16(v_load(src + i)));
    if (i < n) v_store_n(dst + i, v_round_bf16(v_load_n(src + i, n - i)), n - i);
}

/* ---- dot products of few tokens ------------------------------------------------------------ */

/* Weights are read a few rows abreast, but fetched ahead of that in the order in which they lie:
 * one stream is what the memory delivers fastest.  In bytes, more than the rows of one step. */
enum { AHEAD = 20 << 10, PAIRS_AHEAD = 8 << 10 };

/* A line of weights.  `once`: they will have left the caches before they are read again, so they
 * take no room in the outer ones, which hold what the operations in between work with. */
VFN void fetch(const void *p, int32_t once)
{
    if (once)
        __builtin_prefetch(p, 0, 0);
    else
        __builtin_prefetch(p);
}

/* `nr` rows against `nt` tokens, `nu` vectors of each row at a time, so that about 16 sums run at
 * once: enough to hide the latency of each, few enough for the registers. */
VFN void dot_block(const dot *d, int64_t row, const int nr, const int nt, const int nu,
                   const int32_t dtype)
{
    vf acc[4][DOT_TOKENS][2];
    const int64_t w = row * d->cols, size = dtype == SQZ_F32 ? 4 : 2;
    const char *ahead = (const char *)d->w + w * size + AHEAD;
    int64_t c = 0;
    UNROLL
    for (int r = 0; r < nr; r++) UNROLL
    for (int t = 0; t < nt; t++) acc[r][t][0] = acc[r][t][1] = v_zero();
    for (; c + nu * VW <= d->cols; c += nu * VW) UNROLL
    for (int u = 0; u < nu; u++) {
        vf a[4];
        UNROLL
        for (int r = 0; r < nr; r++) {
            a[r] = load_as(d->w, w + r * d->cols + c + u * VW, dtype);
            fetch(ahead + ((c + u * VW) * nr + r * VW) * size, d->once);
        }
        UNROLL
        for (int t = 0; t < nt; t++) {
            vf x = v_load((const float *)d->x + t * d->ldx + c + u * VW);
            UNROLL
            for (int r = 0; r < nr; r++) acc[r][t][u] = v_fma(a[r], x, acc[r][t][u]);
        }
    }
    for (; c < d->cols; c += VW) {
        int64_t n = d->cols - c < VW ? d->cols - c : VW;
        UNROLL
        for (int r = 0; r < nr; r++) {
            vf a = load_as_n(d->w, w + r * d->cols + c, n, dtype);
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[r][t][0] =
                    v_fma(a, v_load_n((const float *)d->x + t * d->ldx + c, n), acc[r][t][0]);
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++) UNROLL
    for (int t = 0; t < nt; t++)
        d->out[(row + r) * nt + t] =
            v_sum(nu == 1 ? acc[r][t][0] : v_add(acc[r][t][0], acc[r][t][1]));
}

VFN void dot_rows(const dot *d, const int nt, const int32_t dtype)
{
    const int nr = nt <= 2 ? 4 : nt <= 4 ? DOT_TOKENS / 2 : 2, nu = nt <= 2 ? 2 : 1;
    int64_t row = 0;
    for (; row + nr <= d->rows; row += nr) dot_block(d, row, nr, nt, nu, dtype);
    for (; row < d->rows; row++) dot_block(d, row, 1, nt, nu, dtype);
}

#define DOT_CASE(nt)                                                                               \
    case nt: dot_rows(d, nt, dtype); break;

VFN void dot_of(const dot *d, const int32_t dtype)
{
    switch (d->tokens) {
        DOT_CASE(1)
        DOT_CASE(2)
        DOT_CASE(3)
#if DOT_TOKENS == 8
        DOT_CASE(4)
        DOT_CASE(5)
        DOT_CASE(6)
        DOT_CASE(7)
#endif
    default: dot_rows(d, DOT_TOKENS, dtype);
    }
}

KERNEL_FN void dot_f32(const dot *d)
{
    dot_of(d, SQZ_F32);
}
KERNEL_FN void dot_bf16(const dot *d)
{
    dot_of(d, SQZ_BF16);
}
KERNEL_FN void dot_f16(const dot *d)
{
    dot_of(d, SQZ_F16);
}
KERNEL_FN void dot_dense(const dot *d)
{
    if (d->dtype == SQZ_F32)
        dot_f32(d);
    else if (d->dtype == SQZ_BF16)
        dot_bf16(d);
    else
        dot_f16(d);
}

#ifdef KERNEL_PAIRS
/* The same in bfloat16, a row at a time: nothing is converted, and one stream is read. */
VFN void pairs_row(const dot *d, int64_t row, const int nt, const int nu)
{
    vf sum[DOT_TOKENS][8];
    const uint16_t *w = (const uint16_t *)d->w + row * d->cols, *x = d->x;
    int64_t c = 0;
    UNROLL
    for (int t = 0; t < nt; t++) UNROLL
    for (int u = 0; u < nu; u++) sum[t][u] = v_zero();
    for (; c + nu * 2 * VW <= d->cols; c += nu * 2 * VW) UNROLL
    for (int u = 0; u < nu; u++) {
        const int64_t at = c + u * 2 * VW;
        vf a = v_load((const float *)(const void *)(w + at));
        fetch((const char *)(w + at) + PAIRS_AHEAD, d->once);
        UNROLL
        for (int t = 0; t < nt; t++)
            sum[t][u] =
                v_pairs(a, v_load((const float *)(const void *)(x + t * d->ldx + at)), sum[t][u]);
    }
    for (; c < d->cols; c += 2 * VW) {
        int64_t n = d->cols - c < 2 * VW ? d->cols - c : 2 * VW;
        vf a = v_load_halves(w + c, n);
        UNROLL
        for (int t = 0; t < nt; t++)
            sum[t][0] = v_pairs(a, v_load_halves(x + t * d->ldx + c, n), sum[t][0]);
    }
    UNROLL
    for (int t = 0; t < nt; t++) {
        vf all = sum[t][0];
        UNROLL
        for (int u = 1; u < nu; u++) all = v_add(all, sum[t][u]);
        d->out[row * nt + t] = v_sum(all);
    }
}

VFN void pairs_rows(const dot *d, const int nt)
{
    const int nu = nt == 1 ? 8 : nt == 2 ? 4 : nt <= 4 ? 2 : 1;
    for (int64_t row = 0; row < d->rows; row++) pairs_row(d, row, nt, nu);
}

KERNEL_FN void dot_pairs(const dot *d)
{
    switch (d->tokens) {
    case 1: pairs_rows(d, 1); break;
    case 2: pairs_rows(d, 2); break;
    case 3: pairs_rows(d, 3); break;
    case 4: pairs_rows(d, 4); break;
    case 5: pairs_rows(d, 5); break;
    case 6: pairs_rows(d, 6); break;
    case 7: pairs_rows(d, 7); break;
    default: pairs_rows(d, 8);
    }
}
#endif

#include "kernels_codes.h"

/* ---- elementwise --------------------------------------------------------------------------- */

/* e^x: x = n ln 2 + r, |r| <= ln 2 / 2, and a degree-5 polynomial for (e^r - 1 - r) / r^2 (Cephes).
 * Within 1.01 ulp of the exact value (sampled densely); subnormal, zero, infinite and NaN results
 * as in libm. */
VFN vf v_exp(vf x)
{
    x = v_max(v_set1(-104.0f), v_min(v_set1(89.0f), x));
    vf n = v_rint(v_mul(x, v_set1(1.44269504088896341f)));
    vf r = v_fma(n, v_set1(-0.693359375f), x);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    vf p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    return v_scale2(v_add(v_fma(p, v_mul(r, r), r), v_set1(1)), n);
}

KERNEL_FN void norm(const float *x, const float *weight, int64_t n, double eps, float *y)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        for (int u = 0; u < 4; u++) {
            vf a = v_load(x + i + u * VW);
            sum[u] = v_fma(a, a, sum[u]);
        }
    for (; i < n; i += VW) {
        vf a = v_load_n(x + i, n - i < VW ? n - i : VW);
        sum[0] = v_fma(a, a, sum[0]);
    }
    double squares = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
    vf inverse = v_set1((float)(1 / sqrt(squares / (double)n + eps)));
    for (i = 0; i + VW <= n; i += VW)
        v_store(y + i, v_mul(v_mul(v_load(x + i), inverse), v_load(weight + i)));
    if (i < n) {
        vf a = v_mul(v_load_n(x + i, n - i), inverse);
        v_store_n(y + i, v_mul(a, v_load_n(weight + i, n - i)), n - i);
    }
}

/* Two passes: the squares of deviations, not of values, so that a large mean costs no digits. */
KERNEL_FN void layer_norm(const float *x, const float *weight, const float *bias, int64_t n,
                          double eps, float *y)
{
    vf sum = v_zero();
    int64_t i = 0;
    for (; i < n; i += VW) sum = v_add(sum, v_load_n(x + i, n - i < VW ? n - i : VW));
    vf mean = v_set1((float)(v_sum(sum) / (double)n)), squares = v_zero();
    for (i = 0; i + VW <= n; i += VW) {
        vf d = v_sub(v_load(x + i), mean);
        squares = v_fma(d, d, squares);
    }
    double all = v_sum(squares);
    float part[VW];
    v_store(part, mean);
    for (; i < n; i++) all += ((double)x[i] - part[0]) * ((double)x[i] - part[0]);
    vf inverse = v_set1((float)(1 / sqrt(all / (double)n + eps)));
    for (i = 0; i < n; i += VW) {
        int64_t lanes = n - i < VW ? n - i : VW;
        vf d = v_mul(v_sub(v_load_n(x + i, lanes), mean), inverse);
        vf b = bias ? v_load_n(bias + i, lanes) : v_zero();
        v_store_n(y + i, v_fma(d, v_load_n(weight + i, lanes), b), lanes);
    }
}

KERNEL_FN void rotate(float *x, const float *c, const float *s, int64_t half)
{
    for (int64_t i = 0; i < half; i += VW) {
        int64_t n = half - i < VW ? half - i : VW;
        vf a = v_load_n(x + i, n), b = v_load_n(x + half + i, n);
        vf cos = v_load_n(c + i, n), sin = v_load_n(s + i, n);
        v_store_n(x + i, v_sub(v_mul(a, cos), v_mul(b, sin)), n);
        v_store_n(x + half + i, v_fma(b, cos, v_mul(a, sin)), n);
    }
}

/* act(g) * u.  tanh(z) = 1 - 2 / (1 + e^2z) makes both SiLU and the tanh GELU g / (1 + e^-z). */
VFN vf gated(const int32_t act, vf g, vf u)
{
    if (act == SQZ_ACT_RELU) return v_mul(v_max(v_zero(), g), u);
    vf z = g;
    if (act == SQZ_ACT_GELU_TANH) {
        vf cubic = v_fma(v_mul(v_mul(g, g), v_set1(0.044715f)), g, g);
        z = v_mul(v_set1(1.5957691216057308f), cubic);
    }
    vf below = v_add(v_set1(1), v_exp(v_sub(v_zero(), z)));
    return v_mul(v_div(g, below), u);
}

VFN void gate_of(const int32_t act, const float *g, const float *u, int64_t n, float *y)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(y + i, gated(act, v_load(g + i), v_load(u + i)));
    if (i < n) v_store_n(y + i, gated(act, v_load_n(g + i, n - i), v_load_n(u + i, n - i)), n - i);
}

KERNEL_FN void gate(int32_t act, const float *g, const float *u, int64_t n, float *y)
{
    if (act == SQZ_ACT_SILU)
        gate_of(SQZ_ACT_SILU, g, u, n, y);
    else if (act == SQZ_ACT_GELU_TANH)
        gate_of(SQZ_ACT_GELU_TANH, g, u, n, y);
    else if (act == SQZ_ACT_RELU)
        gate_of(SQZ_ACT_RELU, g, u, n, y);
    else
        for (int64_t i = 0; i < n; i++) /* the error function is libm's: rare, and exact there */
            y[i] = 0.5f * g[i] * erfcf(-g[i] * 0.70710678118654752f) * u[i];
}

VFN void activate_of(const int32_t act, const float *x, int64_t n, float *y)
{
    vf one = v_set1(1);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(y + i, gated(act, v_load(x + i), one));
    if (i < n) v_store_n(y + i, gated(act, v_load_n(x + i, n - i), one), n - i);
}

KERNEL_FN void activate(int32_t act, const float *x, int64_t n, float *y)
{
    if (act == SQZ_ACT_SILU)
        activate_of(SQZ_ACT_SILU, x, n, y);
    else if (act == SQZ_ACT_GELU_TANH)
        activate_of(SQZ_ACT_GELU_TANH, x, n, y);
    else if (act == SQZ_ACT_RELU)
        activate_of(SQZ_ACT_RELU, x, n, y);
    else
        for (int64_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * erfcf(-x[i] * 0.70710678118654752f);
}

/* tanh(z) = 1 - 2 / (1 + e^2z): its error is absolute, 2^-23 or so of cap. */
VFN vf capped(vf x, vf twice /* 2 factor / cap */, vf cap)
{
    vf below = v_add(v_set1(1), v_exp(v_mul(x, twice)));
    return v_mul(cap, v_sub(v_set1(1), v_div(v_set1(2), below)));
}

KERNEL_FN void softcap(float *x, float factor, float cap, int64_t n)
{
    vf twice = v_set1(2 * factor / cap), top = v_set1(cap);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(x + i, capped(v_load(x + i), twice, top));
    if (i < n) v_store_n(x + i, capped(v_load_n(x + i, n - i), twice, top), n - i);
}

KERNEL_FN void add_scaled(const float *x, float by, int64_t n, float *y)
{
    vf b = v_set1(by);
    for (int64_t i = 0; i < n; i += VW) {
        int64_t lanes = n - i < VW ? n - i : VW;
        v_store_n(y + i, v_fma(v_load_n(x + i, lanes), b, v_load_n(y + i, lanes)), lanes);
    }
}

KERNEL_FN void add(const float *x, int64_t n, float *y)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

KERNEL_FN void scale(float *x, float by, int64_t n)
{
    int64_t i = 0;
    for (; i + VW <= n; i += VW) v_store(x + i, v_mul(v_load(x + i), v_set1(by)));
    for (; i < n; i++) x[i] *= by;
}

VFN float highest(const float *x, int64_t n)
{
    int64_t i = 0;
    vf top = v_set1(-INFINITY);
    for (; i + VW <= n; i += VW) top = v_max(v_load(x + i), top);
    float best = v_hmax(top);
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

KERNEL_FN void scores(const float *x, int64_t n, int32_t *argmax, double *logsumexp)
{
    float best = highest(x, n);
    int64_t where = 0, i = 0;
    while (where < n - 1 && x[where] != best) where++;
    *argmax = (int32_t)(x[where] == best ? where : 0);
    double total = 0;
    vf top = v_set1(best);
    while (i + VW <= n) { /* short float32 sums, collected in float64 */
        vf sum = v_zero();
        for (int64_t end = i + 64 * VW; i + VW <= n && i < end; i += VW)
            sum = v_add(sum, v_exp(v_sub(v_load(x + i), top)));
        total += v_sum(sum);
    }
    for (; i < n; i++) total += exp((double)x[i] - best);
    *logsumexp = best + log(total);
}

KERNEL_FN float softmax(float *s, int64_t lo, int64_t hi, int64_t n, float factor, float *top,
                        float *total)
{
    if (lo >= hi) {
        memset(s, 0, (size_t)n * sizeof *s);
        return 1;
    }
    scale(s + lo, factor, hi - lo);
    float best = highest(s + lo, hi - lo);
    best = best > *top ? best : *top;
    vf sum = v_zero(), b = v_set1(best);
    int64_t i = lo;
    for (; i + VW <= hi; i += VW) {
        vf e = v_exp(v_sub(v_load(s + i), b));
        v_store(s + i, e);
        sum = v_add(sum, e);
    }
    float part[VW], more = 0;
    if (i < hi) {
        v_store(part, v_exp(v_sub(v_load_n(s + i, hi - i), b)));
        for (int64_t j = 0; j < hi - i; j++) more += s[i + j] = part[j];
    }
    memset(s, 0, (size_t)lo * sizeof *s);
    memset(s + hi, 0, (size_t)(n - hi) * sizeof *s);
    float keep = *top == best ? 1 : expf(*top - best); /* 0 for the first block of a row */
    *total = *total * keep + (v_sum(sum) + more);
    *top = best;
    return keep;
}

KERNEL_FN float inner(const float *a, const float *b, int64_t n)
{
    vf sum = v_zero(), more = v_zero();
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        sum = v_fma(v_load(a + i), v_load(b + i), sum);
        more = v_fma(v_load(a + i + VW), v_load(b + i + VW), more);
    }
    for (; i < n; i += VW) {
        int64_t lanes = n - i < VW ? n - i : VW;
        sum = v_fma(v_load_n(a + i, lanes), v_load_n(b + i, lanes), sum);
    }
    return v_sum(v_add(sum, more));
}

/* Bandwidth probe: integer vectors, so that no bit pattern is slow. */
KERNEL_FN uint64_t read_lines(const void *p, int64_t bytes)
{
    typedef uint64_t lanes __attribute__((vector_size(4 * VW), aligned(8)));
    const int each = (int)(4 * VW);
    lanes sum[4] = {{0}, {0}, {0}, {0}};
    const char *at = p;
    for (int64_t i = 0; i + 4 * each <= bytes; i += 4 * each)
        for (int u = 0; u < 4; u++) sum[u] ^= *(const lanes *)(at + i + u * each);
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    uint64_t out = 0;
    for (int i = 0; i < VW / 2; i++) out ^= sum[0][i];
    return out;
}

const kernels *KERNEL_TABLE(void)
{
    static const kernels table = {
        .isa = KERNEL_ISA,
#ifdef KERNEL_PAIRS
        .pairs = 1,
        .multiply_pairs = strip_pairs_all,
        .dot_pairs = dot_pairs,
        .dot_codes_pairs = dot_codes_pairs,
#endif
        .dot_codes = dot_codes,
        .dot_tokens = DOT_TOKENS,
        .multiply = strip_f32_all,
        .panel_rows = panel_rows,
        .panel_copy = panel_copy,
        .to_f32 = to_f32,
        .to_bf16 = to_bf16,
        .round_bf16 = round_bf16,
        .codes_pack = codes_pack,
        .codes_panel = codes_panel,
        .dot = dot_dense,
        .norm = norm,
        .layer_norm = layer_norm,
        .rotate = rotate,
        .gate = gate,
        .activate = activate,
        .softcap = softcap,
        .add = add,
        .add_scaled = add_scaled,
        .scale = scale,
        .scores = scores,
        .softmax = softmax,
        .inner = inner,
        .read = read_lines,
    };
    return &table;
}
