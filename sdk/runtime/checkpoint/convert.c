/* convert.c - half precision and back: the conversions every weight passes through.
 *
 * Results are the same on every CPU: instructions and the portable code both round to nearest even
 * and keep subnormals. */
#include "checkpoint/checkpoint.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    if (exponent == 31) {
        uint32_t quiet = mantissa ? 0x400000 : 0; /* as the instruction does */
        return from_bits(sign | 0x7F800000 | quiet | mantissa << 13);
    }
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float small = (float)mantissa * 0x1p-24f; /* exact */
    return from_bits(sign | to_bits(small));
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits = to_bits(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF)); /* NaN, quiet */
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);    /* 65520 and up: infinity */
    if (magnitude < 0x38800000) { /* below 2^-14: subnormal, in steps of 2^-24 */
        /* Adding 0.5 leaves the result in the low bits, rounded to nearest even by the FPU. */
        float shifted = from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (to_bits(shifted) - 0x3F000000));
    }
    uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

uint16_t f32_to_bf16(float f)
{
    uint32_t bits = to_bits(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static void widen_bf16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, src + 2 * i, sizeof half);
        dst[i] = from_bits((uint32_t)half << 16);
    }
}

static void widen_f16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, src + 2 * i, sizeof half);
        dst[i] = f16_to_f32(half);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static void widen_f16_fast(const uint8_t *src, int64_t n,
                                                               float *dst)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(half));
    }
    widen_f16(src + 2 * i, n - i, dst + i);
}
#endif

sqz_status to_f32(int32_t dtype, const void *src, int64_t n, float *dst)
{
    if (dtype == SQZ_F32) {
        if (n > 0) memcpy(dst, src, (size_t)n * sizeof *dst);
        return SQZ_OK;
    }
    if (dtype == SQZ_BF16) {
        widen_bf16(src, n, dst);
        return SQZ_OK;
    }
    if (dtype != SQZ_F16) return SQZ_E_UNSUPPORTED;
#if defined(__x86_64__)
    /* Clang 14 cannot ask for f16c; every CPU with AVX2 has it. */
    if (__builtin_cpu_supports("avx2")) {
        widen_f16_fast(src, n, dst);
        return SQZ_OK;
    }
#endif
    widen_f16(src, n, dst);
    return SQZ_OK;
}
