/* gguf_affine.h - packed GGUF tensors that are an int-affine/1 grid, exactly.
 *
 * Q4_0 is d (nibble - 8) and Q8_0 is d q in groups of 32: symmetric grids of 4 and 8 bits with the
 * same half-precision scales.  The other types have a minimum that is no multiple of the scale,
 * five or six bits, or scales of scales: they are decoded. */
#ifndef SQZ_RUNTIME_GGUF_AFFINE_H
#define SQZ_RUNTIME_GGUF_AFFINE_H
#include "checkpoint/tensor.h"
#include <sqz/form.h>

/* Is the tensor a matrix in such a form? */
int gguf_is_affine(const st_tensor *);
/* The same weights as int-affine/1; owns its arrays (affine_free).  ERR_MODEL for a scale that is
 * not finite. */
sqz_status gguf_affine(const st_tensor *, sqz_affine *out, sqz_error *err);
#endif
