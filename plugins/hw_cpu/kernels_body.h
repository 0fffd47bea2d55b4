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
 * 0 = all.  Everything but `p` and the pointers is a compile-time constant where it is called. */
VFN void tile(const product *p, const uint32_t *a, const uint32_t *b, float *c, const float *bias,
              const int mr, const int nv, int64_t tail, const int pairs)
{
    vf acc[MR][NV], col[NV];
    const int full = tail ? nv - 1 : nv;
    for (int i = 0; i < mr; i++) {
        for (int j = 0; j < full; j++)
            acc[i][j] = p->from_c ? v_load(c + i * p->ldc + j * VW) : v_zero();
        if (tail)
            acc[i][nv - 1] = p->from_c ? v_load_n(c + i * p->ldc + (nv - 1) * VW, tail) : v_zero();
    }
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

/* Eight codes of `bits` each, spread to one a byte. */
VFN uint64_t spread(uint64_t x, int32_t bits)
{
    switch (bits) {
    case 2:
        x = (x | x << 24) & 0x000000ff000000ffu;
        x = (x | x << 12) & 0x000f000f000f000fu;
        return (x | x << 6) & 0x0303030303030303u;
    case 3:
        x = (x | x << 20) & 0x00000fff00000fffu;
        x = (x | x << 10) & 0x003f003f003f003fu;
        return (x | x << 5) & 0x0707070707070707u;
    case 4:
        x = (x | x << 16) & 0x0000ffff0000ffffu;
        x = (x | x << 8) & 0x00ff00ff00ff00ffu;
        return (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    default: return x;
    }
}

/* Codes first .. first+n-1 of a row's bit stream, one a byte; out has room for n + 7. */
VFN void unpack(const uint8_t *stream, int32_t bits, int64_t first, int64_t n, uint8_t *out)
{
    stream += first / 8 * bits;
    for (int64_t i = 0; i < n; i += 8, stream += bits) {
        uint64_t word = 0;
        int64_t left = n - i < 8 ? n - i : 8;
        memcpy(&word, stream, (size_t)(left * bits + 7) / 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        word = spread(word, bits);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        memcpy(out + i, &word, 8);
    }
}

VFN float half_value(const uint16_t *p)
{
    float x[VW];
    v_store(x, v_from_f16_n(p, 1));
    return x[0];
}

/* dst = scale * (code - zero) of n codes of one group, in bytes. */
VFN void affine_run(const uint8_t *codes, int64_t n, float scale, float zero, float *dst)
{
    int64_t i = 0;
    vf s = v_set1(scale), z = v_set1(zero);
    for (; i + VW <= n; i += VW) v_store(dst + i, v_mul(s, v_sub(v_from_u8(codes + i), z)));
    for (; i < n; i++) dst[i] = scale * ((float)codes[i] - zero);
}

#if VW == 16
/* The 16 codes at column `at` (a multiple of 16) of a stream, as 32-bit lanes; the bits above the
 * code are not cleared.  Reads 8 bytes (16 for 8 bits). */
VFN vi codes16(const uint8_t *stream, int32_t bits, int64_t at)
{
    if (bits == 8) return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(stream + at)));
    int64_t word;
    memcpy(&word, stream + at / 8 * bits, sizeof word);
    vi all = _mm512_set1_epi64(word), step = _mm512_set1_epi64(bits);
    vi low = _mm512_mullo_epi64(step, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    vi high = _mm512_add_epi64(low, _mm512_slli_epi64(step, 3));
    vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_epi32(_mm512_srlv_epi64(all, low), even,
                                     _mm512_srlv_epi64(all, high));
}

/* 16-entry table of scale * (code - zero); indices use four bits, so for 2 and 3 bits it repeats.
 */
VFN vf code_table(int32_t bits, float scale, float zero)
{
    vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vi code = _mm512_and_si512(lane, _mm512_set1_epi32((1 << bits) - 1));
    return v_mul(v_set1(scale), v_sub(_mm512_cvtepi32_ps(code), v_set1(zero)));
}

/* Whole vectors of a group that starts on a multiple of 16; returns how many columns it did.  It
 * stays clear of the last 8 bytes of the stream (16 for 8 bits), which a load could overrun. */
VFN int64_t affine_fast(const uint8_t *stream, int32_t bits, int64_t first, int64_t n, int64_t safe,
                        float scale, float zero, float *dst)
{
    int64_t i = 0;
    vf table = code_table(bits == 8 ? 4 : bits, scale, zero);
    for (; i + VW <= n && first + i + VW <= safe; i += VW) {
        vi code = codes16(stream, bits, first + i);
        v_store(dst + i, bits == 8
                             ? v_mul(v_set1(scale), v_sub(_mm512_cvtepi32_ps(code), v_set1(zero)))
                             : _mm512_permutexvar_ps(code, table));
    }
    return i;
}
#endif

VFN void affine_row_of(const sqz_affine *w, int64_t row, int64_t first, int64_t n, float *dst,
                       const int32_t bits)
{
    int64_t row_bytes = (w->cols * bits + 31) / 32 * 4;
    int64_t groups = (w->cols + w->group_size - 1) / w->group_size;
    const uint8_t *stream = w->codes + row * row_bytes;
    const uint16_t *scales = w->scales + row * groups;
    const uint8_t *zeros = w->zeros + row * groups;
    uint8_t codes[256 + 8];
#if VW == 16
    /* the loads of codes16 may reach 8 bytes past their codes */
    int64_t safe = row + 1 < w->rows ? w->cols : (row_bytes - 8) * 8 / bits;
#endif
    for (int64_t at = first; at < first + n;) {
        int64_t g = at / w->group_size, end = (g + 1) * w->group_size;
        end = end < first + n ? end : first + n;
        float scale = half_value(scales + g), zero = zeros[g];
#if VW == 16
        if (at % VW == 0) {
            int64_t did =
                affine_fast(stream, bits, at, end - at, safe, scale, zero, dst + at - first);
            at += did;
        }
#endif
        while (at < end) { /* from the multiple of 8 at or before `at` */
            int64_t base = at & ~(int64_t)7;
            int64_t stop = base + 256 < end ? base + 256 : end;
            unpack(stream, bits, base, stop - base, codes);
            affine_run(codes + (at - base), stop - at, scale, zero, dst + at - first);
            at = stop;
        }
    }
}

KERNEL_FN void affine_row(const sqz_affine *w, int64_t row, int64_t first, int64_t n, float *dst)
{
    switch (w->bits) {
    case 2: affine_row_of(w, row, first, n, dst, 2); break;
    case 3: affine_row_of(w, row, first, n, dst, 3); break;
    case 4: affine_row_of(w, row, first, n, dst, 4); break;
    default: affine_row_of(w, row, first, n, dst, 8);
    }
}

/* ---- dot products of few tokens ------------------------------------------------------------ */

/* Weights are read a few rows abreast, but fetched ahead of that in the order in which they lie:
 * one stream is what the memory delivers fastest.  In bytes, more than the rows of one step. */
enum { AHEAD = 20 << 10 };

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
            __builtin_prefetch(ahead + ((c + u * VW) * nr + r * VW) * size);
        }
        UNROLL
        for (int t = 0; t < nt; t++) {
            vf x = v_load(d->x + t * d->ldx + c + u * VW);
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
                acc[r][t][0] = v_fma(a, v_load_n(d->x + t * d->ldx + c, n), acc[r][t][0]);
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

#if VW == 16
/* Vector s of a block, as values code - 2^(bits-1): lane i is column lane * i + s of the block. For
 * bits <= 4 the table ignores what stands above the code; 8-bit words come with their sign flipped.
 */
VFN vf block_vector(const vi *w, const int32_t bits, const int s, vf table)
{
    if (bits == 8)
        return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(w[0], 24 - 8 * s), 24));
    if (bits == 4 || bits == 2)
        return _mm512_permutexvar_ps(_mm512_srli_epi32(w[0], (unsigned)(bits * s)), table);
    vi code = s < 10    ? _mm512_srli_epi32(w[0], (unsigned)(3 * s))
              : s == 10 ? _mm512_or_si512(_mm512_srli_epi32(w[0], 30), _mm512_slli_epi32(w[1], 2))
              : s < 21  ? _mm512_srli_epi32(w[1], (unsigned)(3 * s - 32))
              : s == 21 ? _mm512_or_si512(_mm512_srli_epi32(w[1], 31), _mm512_slli_epi32(w[2], 1))
                        : _mm512_srli_epi32(w[2], (unsigned)(3 * s - 64));
    return _mm512_permutexvar_ps(code, table);
}

/* The 16 words (48 for 3 bits) of a block, absent ones zero; 3-bit words are dealt out so that lane
 * i of w[j] is word 3 i + j. */
VFN void block_words(const uint8_t *at, int64_t words, const int32_t bits, vi *w)
{
    const int parts = bits == 3 ? 3 : 1;
    vi raw[3];
    for (int j = 0; j < parts; j++) {
        int64_t n = words - 16 * j;
        raw[j] = n >= 16  ? _mm512_loadu_si512(at + 64 * j)
                 : n <= 0 ? _mm512_setzero_si512()
                          : _mm512_maskz_loadu_epi32(v_mask(n), at + 64 * j);
    }
    if (bits == 8)
        w[0] = _mm512_xor_si512(raw[0], _mm512_set1_epi32((int)0x80808080u));
    else if (bits != 3)
        w[0] = raw[0];
    else
        for (int j = 0; j < 3; j++) {
            vi lane = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45);
            vi from = _mm512_add_epi32(lane, _mm512_set1_epi32(j));
            vi two = _mm512_permutex2var_epi32(raw[0], from, raw[1]); /* right below word 32 */
            __mmask16 late = _mm512_cmpge_epi32_mask(from, _mm512_set1_epi32(32));
            w[j] = _mm512_mask_permutexvar_epi32(two, late, from, raw[2]);
        }
}

/* Scales of the lanes of a block, and with `offset` also scale * (centre - zero). */
VFN vf lane_scales(const affine_dot *d, int64_t row, int64_t block, int64_t groups, float centre,
                   vf *offset)
{
    vi lane = _mm512_loadu_si512(d->lanes + 16 * block);
    int64_t first = d->first_group[block], n = groups - first < 16 ? groups - first : 16;
    vf scale = v_from_f16_n(d->w->scales + row * groups + first, n);
    if (offset) {
        __m128i zeros = _mm_maskz_loadu_epi8(v_mask(n), d->w->zeros + row * groups + first);
        vf from = v_sub(v_set1(centre), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(zeros)));
        *offset = _mm512_permutexvar_ps(lane, v_mul(scale, from));
    }
    return _mm512_permutexvar_ps(lane, scale);
}

#ifdef KERNEL_PAIRS
/* by * (code - from) in bfloat16 for codes of `bits`, repeated up to the 32 entries of a table. */
VFN vi half_table(int32_t bits, float by, float from)
{
    float x[32];
    uint16_t half[32];
    for (int i = 0; i < 32; i++) x[i] = by * ((float)(i & ((1 << bits) - 1)) - from);
    for (int i = 0; i < 32; i += VW) v_to_bf16(half + i, v_load(x + i));
    return _mm512_loadu_si512(half);
}
#endif

/* nr rows of packed bits against nt tokens:
 *   sum scale (code - zero) x = sum scale ((code - c) x) - sum scale (zero - c) x,  c = 2^(bits-1)
 * the second sum over lanes, and nothing at all for symmetric grids. */
VFN void affine_block(const affine_dot *d, int64_t out, const int bits, const int nr, const int nt)
{
    const int vectors = (int)affine_lane(bits);
    const int64_t width = 16 * vectors, row_bytes = (d->w->cols * bits + 31) / 32 * 4;
    const int64_t groups = (d->w->cols + d->w->group_size - 1) / d->w->group_size;
    const int64_t blocks = (d->w->cols + width - 1) / width, row = d->first_row + out;
    const float centre = (float)(1 << (bits - 1));
    const vf table = bits == 8 ? v_zero() : code_table(bits, 1, centre);
    vf total[4][DOT_TOKENS];
    UNROLL
    for (int r = 0; r < nr; r++) UNROLL
    for (int t = 0; t < nt; t++) total[r][t] = v_zero();
    for (int64_t b = 0; b < blocks; b++) {
        vi w[4][3];
        vf acc[4][DOT_TOKENS];
        const float *x = d->x + b * width * nt;
        UNROLL
        for (int r = 0; r < nr; r++) {
            block_words(d->w->codes + (row + r) * row_bytes + b * width * bits / 8,
                        row_bytes / 4 - b * width * bits / 32, bits, w[r]);
            UNROLL
            for (int t = 0; t < nt; t++) acc[r][t] = v_zero();
        }
        UNROLL
        for (int s = 0; s < vectors; s++) {
            vf v[4];
            UNROLL
            for (int r = 0; r < nr; r++) v[r] = block_vector(w[r], bits, s, table);
            UNROLL
            for (int t = 0; t < nt; t++) {
                vf xs = v_load(x + (s * nt + t) * 16);
                UNROLL
                for (int r = 0; r < nr; r++) acc[r][t] = v_fma(v[r], xs, acc[r][t]);
            }
        }
        UNROLL
        for (int r = 0; r < nr; r++) {
            vf offset, scale = lane_scales(d, row + r, b, groups, centre,
                                           d->w->symmetric ? NULL : &offset);
            UNROLL
            for (int t = 0; t < nt; t++) total[r][t] = v_fma(scale, acc[r][t], total[r][t]);
            if (!d->w->symmetric) {
                UNROLL
                for (int t = 0; t < nt; t++)
                    total[r][t] = v_fma(offset, v_load(d->sum + (b * nt + t) * 16), total[r][t]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++) UNROLL
    for (int t = 0; t < nt; t++) d->out[(out + r) * nt + t] = v_sum(total[r][t]);
}

VFN void affine_rows(const affine_dot *d, const int bits, const int nt)
{
    const int nr = nt == 1 && bits != 3 ? 4 : nt <= 4 ? 2 : 1;
    int64_t r = 0;
    for (; r + nr <= d->rows; r += nr) affine_block(d, r, bits, nr, nt);
    for (; r < d->rows; r++) affine_block(d, r, bits, 1, nt);
}

#define AFFINE_TOKENS(bits)                                                                        \
    KERNEL_FN void affine_dot##bits(const affine_dot *d)                                           \
    {                                                                                              \
        switch (d->tokens) {                                                                       \
        case 1: affine_rows(d, bits, 1); break;                                                    \
        case 2: affine_rows(d, bits, 2); break;                                                    \
        case 3: affine_rows(d, bits, 3); break;                                                    \
        case 4: affine_rows(d, bits, 4); break;                                                    \
        case 5: affine_rows(d, bits, 5); break;                                                    \
        case 6: affine_rows(d, bits, 6); break;                                                    \
        case 7: affine_rows(d, bits, 7); break;                                                    \
        default: affine_rows(d, bits, 8);                                                          \
        }                                                                                          \
    }
AFFINE_TOKENS(2)
AFFINE_TOKENS(3)
AFFINE_TOKENS(4)
AFFINE_TOKENS(8)

KERNEL_FN void dot_affine(const affine_dot *d)
{
    switch (d->w->bits) {
    case 2: affine_dot2(d); break;
    case 3: affine_dot3(d); break;
    case 4: affine_dot4(d); break;
    default: affine_dot8(d);
    }
}

#ifdef KERNEL_PAIRS
/* The same for activations rounded to bfloat16: code - c is exact in bfloat16, so one look-up and
 * one vdpbf16ps do 32 products.  Lanes are 16 bits wide here; an 8-bit code is two look-ups, of
 * its lower half and of 16 (upper half) - c.  Rows are read in the order in which they lie, and
 * ahead of their use: this loop is to be limited by memory alone. */
VFN void pairs_block(const affine_dot *d, int64_t out, vi low, vi high, const int bits,
                     const int nr, const int nt)
{
    const int step = bits == 8 ? 4 : bits, vectors = 16 / step;
    const int64_t row_bytes = (d->w->cols * bits + 31) / 32 * 4, width = 512 / bits;
    const int64_t groups = (d->w->cols + d->w->group_size - 1) / d->w->group_size;
    const int64_t blocks = (d->w->cols + width - 1) / width, row = d->first_row + out;
    const vf centre = v_set1((float)(1 << (bits - 1)));
    const uint8_t *at = d->w->codes + row * row_bytes, *ahead = at + AHEAD;
    const uint8_t *zeros = d->w->symmetric ? NULL : d->w->zeros + row * groups;
    const uint16_t *x = d->pairs, *scales = d->w->scales + row * groups;
    vf total[4][DOT_TOKENS];
    UNROLL
    for (int r = 0; r < nr; r++) {
        __builtin_prefetch(scales + (AHEAD / row_bytes + r) * groups);
        UNROLL
        for (int t = 0; t < nt; t++) total[r][t] = v_zero();
    }
    for (int64_t b = 0; b < blocks; b++, at += 64, x += 32 * vectors * nt) {
        const int64_t words = row_bytes / 4 - 16 * b, first = d->first_group[b];
        const __mmask16 there = words < 16 ? v_mask(words) : 0xffff;
        const __mmask16 own = groups - first < 16 ? v_mask(groups - first) : 0xffff;
        const vi lane = _mm512_loadu_si512(d->lanes + 16 * b);
        vi w[4];
        vf acc[4][DOT_TOKENS];
        UNROLL
        for (int r = 0; r < nr; r++) {
            w[r] = _mm512_maskz_loadu_epi32(there, at + r * row_bytes);
            __builtin_prefetch(ahead + (b * nr + r) * 64);
            UNROLL
            for (int t = 0; t < nt; t++) acc[r][t] = v_zero();
        }
        UNROLL
        for (int s = 0; s < vectors; s++) {
            UNROLL
            for (int r = 0; r < nr; r++) {
                vi code = _mm512_srli_epi16(w[r], (unsigned)(step * s));
                vi v = _mm512_permutexvar_epi16(code, bits == 8 && s % 2 ? high : low);
                UNROLL
                for (int t = 0; t < nt; t++)
                    acc[r][t] = v_pairs(_mm512_castsi512_ps(v),
                                        v_load((const float *)(x + 32 * (s * nt + t))), acc[r][t]);
            }
        }
        UNROLL
        for (int r = 0; r < nr; r++) {
            vf scale = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(own, scales + r * groups + first));
            vf each = _mm512_permutexvar_ps(lane, scale);
            UNROLL
            for (int t = 0; t < nt; t++) total[r][t] = v_fma(each, acc[r][t], total[r][t]);
            if (zeros) {
                vi zero =
                    _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(own, zeros + r * groups + first));
                vf from = v_mul(scale, v_sub(centre, _mm512_cvtepi32_ps(zero)));
                from = _mm512_permutexvar_ps(lane, from);
                UNROLL
                for (int t = 0; t < nt; t++)
                    total[r][t] = v_fma(from, v_load(d->sum + (b * nt + t) * 16), total[r][t]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++) UNROLL
    for (int t = 0; t < nt; t++) d->out[(out + r) * nt + t] = v_sum(total[r][t]);
}

VFN void pairs_rows(const affine_dot *d, const int bits, const int nt)
{
    const int nr = nt == 1 ? 4 : nt <= 4 ? 2 : 1;
    const vi low = half_table(bits == 8 ? 4 : bits, 1, bits == 8 ? 0 : (float)(1 << (bits - 1)));
    const vi high = bits == 8 ? half_table(4, 16, 8) : low;
    int64_t r = 0;
    for (; r + nr <= d->rows; r += nr) pairs_block(d, r, low, high, bits, nr, nt);
    for (; r < d->rows; r++) pairs_block(d, r, low, high, bits, 1, nt);
}

#define PAIRS_TOKENS(bits)                                                                         \
    KERNEL_FN void affine_pairs##bits(const affine_dot *d)                                         \
    {                                                                                              \
        switch (d->tokens) {                                                                       \
        case 1: pairs_rows(d, bits, 1); break;                                                     \
        case 2: pairs_rows(d, bits, 2); break;                                                     \
        case 3: pairs_rows(d, bits, 3); break;                                                     \
        case 4: pairs_rows(d, bits, 4); break;                                                     \
        case 5: pairs_rows(d, bits, 5); break;                                                     \
        case 6: pairs_rows(d, bits, 6); break;                                                     \
        case 7: pairs_rows(d, bits, 7); break;                                                     \
        default: pairs_rows(d, bits, 8);                                                           \
        }                                                                                          \
    }
PAIRS_TOKENS(2)
PAIRS_TOKENS(4)
PAIRS_TOKENS(8)

KERNEL_FN void dot_affine_pairs(const affine_dot *d)
{
    switch (d->w->bits) {
    case 2: affine_pairs2(d); break;
    case 4: affine_pairs4(d); break;
    default: affine_pairs8(d);
    }
}
#endif
#endif

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
#endif
#if VW == 16
        .dot_affine = dot_affine,
#ifdef KERNEL_PAIRS
        .dot_affine_pairs = dot_affine_pairs,
#endif
#endif
        .dot_tokens = DOT_TOKENS,
        .multiply = strip_f32_all,
        .panel_rows = panel_rows,
        .panel_copy = panel_copy,
        .to_f32 = to_f32,
        .to_bf16 = to_bf16,
        .round_bf16 = round_bf16,
        .affine_row = affine_row,
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
