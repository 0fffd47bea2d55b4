/* kernels_generic.c - the kernels for any machine. */
#define KERNEL_FN static
#define KERNEL_TABLE kernels_generic
#define KERNEL_ISA "generic"
#include "vec_generic.h"

#include "kernels_body.h"
