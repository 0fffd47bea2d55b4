/* kernels_avx512.c - the kernels for x86-64 with AVX-512 F, BW, DQ and VL. */
#if defined(__x86_64__)
#define KERNEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#define KERNEL_FN static __attribute__((target(KERNEL_TARGET)))
#define KERNEL_TABLE kernels_avx512
#define KERNEL_ISA "avx512"
#include "vec_avx512.h"

#include "kernels_body.h"
#endif
typedef int kernels_avx512_file; /* ISO C wants a declaration on other machines */
