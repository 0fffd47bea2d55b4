/* kernels_avx2.c - the kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#define KERNEL_TARGET "avx2,fma,f16c"
#define KERNEL_FN static __attribute__((target(KERNEL_TARGET)))
#define KERNEL_TABLE kernels_avx2
#define KERNEL_ISA "avx2"
#include "vec_avx2.h"

#include "kernels_body.h"
#endif
typedef int kernels_avx2_file; /* ISO C wants a declaration on other machines */
