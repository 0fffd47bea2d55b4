/* affine.h - the int-affine/1 form: owning storage, packing, checks, dequantization, and its object
 * file in the store.  Layout: sqz/form.h. */
#ifndef SQZ_RUNTIME_AFFINE_H
#define SQZ_RUNTIME_AFFINE_H
#include "checkpoint/safetensors.h"
#include <sqz/form.h>

int64_t affine_row_bytes(int bits, int64_t cols);
int64_t affine_groups(int64_t cols, int64_t group_size);
/* Bytes of codes + scales + zeros. */
int64_t affine_bytes(const sqz_affine *);
double affine_bits_per_weight(const sqz_affine *);

/* Pack one code a byte into int-affine/1 and check everything set_affine promises.  The result owns
 * its arrays: free with affine_free. */
sqz_status affine_pack(int bits, int64_t rows, int64_t cols, int64_t group_size, int symmetric,
                       const uint8_t *codes, const float *scales, const uint8_t *zeros,
                       sqz_affine *out, sqz_error *err);
void affine_free(sqz_affine *);
void affine_unpack_row(const sqz_affine *, int64_t row, uint8_t *codes /* [cols] */);
void affine_dequantize(const sqz_affine *, int64_t first_row, int64_t rows, float *w);
/* Untrusted input: shape, ranges, finite scales, zero padding bits. */
sqz_status affine_check(const sqz_affine *, sqz_error *err);

/* As one safetensors object: codes U8 [rows, row_bytes], scales F16, zeros U8, and metadata. */
sqz_status affine_save(const sqz_affine *, const char *path, sqz_error *err);
/* Borrows from the mapped file until st_close. */
sqz_status affine_load(const st_file *, sqz_affine *out, sqz_error *err);
#endif
