/* vec_avx2.h - the vector words of kernels_body.h in AVX2 + FMA + F16C, 8 lanes. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VW 8 /* lanes */
#define NV 2 /* vectors across a product tile: 6 x 2 accumulators of the 16 registers */
#define DOT_TOKENS 4
#define VFN static inline __attribute__((always_inline, target(KERNEL_TARGET)))

typedef __m256 vf;
typedef __m256i vi;

VFN vi v_mask(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VFN vf v_zero(void)
{
    return _mm256_setzero_ps();
}
VFN vf v_set1(float x)
{
    return _mm256_set1_ps(x);
}
VFN vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
VFN vf v_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, v_mask(n));
}
VFN void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
VFN void v_store_n(float *p, vf x, int64_t n)
{
    _mm256_maskstore_ps(p, v_mask(n), x);
}
VFN vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
VFN vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
VFN vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
VFN vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
VFN vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
VFN vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
VFN vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
VFN float v_sum(vf x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VFN float v_hmax(vf x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
VFN vf v_rint(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for integral n in -252..254, in two steps so that subnormals come out right */
VFN vf v_scale2(vf x, vf n)
{
    vi whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    vi rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(x,
                         _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
VFN vf v_from_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
VFN vf v_from_bf16_n(const uint16_t *p, int64_t n)
{
    uint16_t part[VW] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return v_from_bf16(part);
}
VFN vf v_from_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
VFN vf v_from_f16_n(const uint16_t *p, int64_t n)
{
    uint16_t part[VW] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return v_from_f16(part);
}
VFN vi v_bf16_bits(vf x)
{
    vi bits = _mm256_castps_si256(x);
    vi odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    vi up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    vi quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    vi nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(up, quiet, nan);
}
VFN vf v_round_bf16(vf x)
{
    return _mm256_castsi256_ps(
        _mm256_and_si256(v_bf16_bits(x), _mm256_set1_epi32((int)0xffff0000u)));
}
VFN void v_to_bf16(uint16_t *p, vf x)
{
    vi high = _mm256_srli_epi32(v_bf16_bits(x), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(high),
                                                    _mm256_extracti128_si256(high, 1)));
}
VFN vf v_from_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* VW words, and the codes in them. */
VFN vi v_words(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
VFN vi v_shift(vi x, int by)
{
    return _mm256_srli_epi32(x, by);
}
VFN vi v_bits(vi x, int mask)
{
    return _mm256_and_si256(x, _mm256_set1_epi32(mask));
}
VFN vi v_either(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
/* code - 2^(bits-1) for the codes at bit `at` */
VFN vf v_level(vi x, int at, int bits)
{
    vi code = v_bits(v_shift(x, at), (1 << bits) - 1);
    return _mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps((float)(1 << (bits - 1))));
}

/* Transposes 8 rows of 8 32-bit units; row i starts at src + i * ld bytes. */
VFN void v_transpose(const char *src, int64_t ld, uint32_t *dst, int64_t ldd)
{
    vi r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_si256((const __m256i *)(src + i * ld));
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)(dst + i * ldd),
                            _mm256_permute2x128_si256(r[i], r[4 + i], 0x20));
        _mm256_storeu_si256((__m256i *)(dst + (4 + i) * ldd),
                            _mm256_permute2x128_si256(r[i], r[4 + i], 0x31));
    }
}
