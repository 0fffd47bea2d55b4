/* vec_avx512.h - the vector words of kernels_body.h in AVX-512 (F, BW, DQ, VL), 16 lanes. */
#include <immintrin.h>
#include <stdint.h>

#define VW 16 /* lanes */
#define NV 4  /* vectors across a product tile: 6 x 4 accumulators of the 32 registers */
#define DOT_TOKENS 8
#define VFN static inline __attribute__((always_inline, target(KERNEL_TARGET)))

typedef __m512 vf;
typedef __m512i vi;

VFN __mmask16 v_mask(int64_t n)
{
    return (__mmask16)((1u << n) - 1);
}
VFN vf v_zero(void)
{
    return _mm512_setzero_ps();
}
VFN vf v_set1(float x)
{
    return _mm512_set1_ps(x);
}
VFN vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
VFN vf v_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(v_mask(n), p);
}
VFN void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
VFN void v_store_n(float *p, vf x, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_mask(n), x);
}
VFN vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
VFN vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
VFN vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
VFN vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
VFN vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
VFN vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
VFN vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
VFN float v_sum(vf x)
{
    return _mm512_reduce_add_ps(x);
}
VFN float v_hmax(vf x)
{
    return _mm512_reduce_max_ps(x);
}
VFN vf v_rint(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for integral n */
VFN vf v_scale2(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}
VFN vf v_from_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
VFN vf v_from_bf16_n(const uint16_t *p, int64_t n)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(v_mask(n), p)), 16));
}
VFN vf v_from_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
VFN vf v_from_f16_n(const uint16_t *p, int64_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_mask(n), p));
}
/* Rounded to nearest even by integer arithmetic: the conversion instruction flushes subnormals. */
VFN vi v_bf16_bits(vf x)
{
    vi bits = _mm512_castps_si512(x);
    vi odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    vi up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
}
VFN vf v_round_bf16(vf x)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(v_bf16_bits(x), _mm512_set1_epi32((int)0xffff0000u)));
}
VFN void v_to_bf16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(v_bf16_bits(x), 16)));
}
/* VW codes of one byte each as float32 */
VFN vf v_from_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* VW words, and the codes in them. */
VFN vi v_words(const void *p)
{
    return _mm512_loadu_si512(p);
}
/* x in a register: otherwise the compiler folds its load into each of its uses. */
VFN vi v_keep(vi x)
{
    __asm__("" : "+v"(x));
    return x;
}
VFN vi v_shift(vi x, int by)
{
    return _mm512_srli_epi32(x, (unsigned)by);
}
VFN vi v_bits(vi x, int mask)
{
    return _mm512_and_si512(x, _mm512_set1_epi32(mask));
}
VFN vi v_either(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
/* code - 2^(bits-1) for the codes at bit `at`: a look-up that ignores what stands above them. */
VFN vf v_level(vi x, int at, int bits)
{
    const float c = (float)(1 << (bits - 1)), b = bits > 2, d = bits > 3;
    if (bits == 8)
        return _mm512_sub_ps(_mm512_cvtepi32_ps(v_bits(v_shift(x, at), 255)), _mm512_set1_ps(c));
    vf table = _mm512_setr_ps(-c, 1 - c, 2 - c, 3 - c, 4 * b - c, 4 * b + 1 - c, 4 * b + 2 - c,
                              4 * b + 3 - c, 8 * d - c, 8 * d + 1 - c, 8 * d + 2 - c, 8 * d + 3 - c,
                              8 * d + 4 * b - c, 8 * d + 4 * b + 1 - c, 8 * d + 4 * b + 2 - c,
                              8 * d + 4 * b + 3 - c);
    return _mm512_permutexvar_ps(v_shift(x, at), table);
}

/* Two bfloat16 rows as the pairs (a[i], b[i]) of VW columns. */
VFN void v_store_pairs(uint32_t *p, vf a, vf b)
{
    vi low = _mm512_srli_epi32(v_bf16_bits(a), 16);
    vi high = _mm512_and_si512(v_bf16_bits(b), _mm512_set1_epi32((int)0xffff0000u));
    _mm512_storeu_si512(p, _mm512_or_si512(low, high));
}

/* Transposes 16 rows of 16 32-bit units; row i starts at src + i * ld bytes. */
VFN void v_transpose(const char *src, int64_t ld, uint32_t *dst, int64_t ldd)
{
    vi r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(src + i * ld);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* now 4x4 blocks: lane l of r[4q + i] is column 4l + i */
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(dst + i * ldd, _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88));
        _mm512_storeu_si512(dst + (4 + i) * ldd, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88));
        _mm512_storeu_si512(dst + (8 + i) * ldd, _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
        _mm512_storeu_si512(dst + (12 + i) * ldd, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd));
    }
}
