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

/* Several linears as one safetensors object; for each key (a module name):
 *   <key>.header I64 [4] = bits, cols, group_size, symmetric; <key>.codes U8 [rows, row_bytes];
 *   <key>.scales F16 [rows, groups]; <key>.zeros U8 [rows, groups]
 * One object for the linears of a block: a file costs an fsync, a linear should not. */
typedef struct affine_item {
    const char *key;
    const sqz_affine *affine;
} affine_item;
sqz_status affine_save(const affine_item *, int n, const char *path, sqz_error *err);
/* Borrows from the mapped file until st_close. */
sqz_status affine_load(const st_file *, const char *key, sqz_affine *out, sqz_error *err);
#endif
