/* kernels_avx512_bf16.c - the kernels for x86-64 with AVX-512 and its bfloat16 dot product, which
 * multiplies pairs and adds in float32. */
#if defined(__x86_64__)
#define KERNEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"
#define KERNEL_FN static __attribute__((target(KERNEL_TARGET)))
#define KERNEL_TABLE kernels_avx512_bf16
#define KERNEL_ISA "avx512_bf16"
#define KERNEL_PAIRS
#include "vec_avx512.h"

/* sum + a.low * b.low + a.high * b.high, per lane of bfloat16 pairs */
VFN vf v_pairs(vf a, vf b, vf sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a),
                            (__m512bh)_mm512_castps_si512(b));
}

/* n <= 32 bfloat16, and zeros behind them */
VFN vf v_load_halves(const uint16_t *p, int64_t n)
{
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)(0xffffffffu >> (32 - n)), p));
}

#include "kernels_body.h"
#endif
typedef int kernels_avx512_bf16_file; /* ISO C wants a declaration on other machines */
