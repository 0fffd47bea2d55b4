/* sqz/form.h - how a weight matrix is held: dense, or quantized with its exact bits.
 *
 * A form is what an artifact stores, what the hardware executes and what a format exports; there
 * is one representation per form id, so that the measured model is the exported model.
 * Left out: kernel layouts (hardware backends repack privately) and file layouts (formats). */
#ifndef SQZ_FORM_H
#define SQZ_FORM_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_FORM_DENSE "dense/1"
#define SQZ_FORM_INT_AFFINE "int-affine/1"

/* Element types; numbers are part of the ABI. */
enum {
    SQZ_F32 = 1,
    SQZ_BF16 = 2,
    SQZ_F16 = 3,
    SQZ_F64 = 4,
    SQZ_I8 = 5,
    SQZ_U8 = 6,
    SQZ_I16 = 7,
    SQZ_U16 = 8,
    SQZ_I32 = 9,
    SQZ_U32 = 10,
    SQZ_I64 = 11,
    SQZ_U64 = 12,
    SQZ_BOOL8 = 13,
    SQZ_F8_E4M3 = 14,
    SQZ_F8_E5M2 = 15
};

/* int-affine/1:  w[r][c] = scale[r][c / group] * (code[r][c] - zero[r][c / group]).
 *   codes   unsigned, `bits` wide, row-major; each row is a little-endian bit stream (code c at
 *           stream bits bits*c ...) padded with zero bits to a whole number of 32-bit words:
 *           row_bytes = 4 * ceil(cols * bits / 32)
 *   scales  IEEE half, [rows, groups], groups = ceil(cols / group_size)
 *   zeros   [rows, groups], 1 <= zero <= 2^bits - 1 (GPTQ v1 files cannot hold 0);
 *           symmetric grids have zero = 2^(bits-1) everywhere
 * Arrays are borrowed: whoever hands out the struct says until when. */
typedef struct sqz_affine {
    uint32_t struct_size;
    int32_t bits;       /* 2, 3, 4, 8 */
    int64_t rows, cols; /* out features, in features */
    int64_t group_size; /* > 0; a whole row is group_size = cols */
    int32_t symmetric;
    int32_t zero;
    const uint8_t *codes;
    const uint16_t *scales;
    const uint8_t *zeros;
} sqz_affine;
SQZ_SEALED(sqz_affine, zeros, 64);

/* A linear layer's weight in either form.  dense: `data` is [rows, cols] of dtype. */
typedef struct sqz_weight {
    uint32_t struct_size;
    int32_t dtype;      /* of data, when dense */
    const char *form;   /* SQZ_FORM_... */
    int64_t rows, cols;
    const void *data;   /* dense only */
    const sqz_affine *affine; /* int-affine only */
} sqz_weight;
SQZ_SEALED(sqz_weight, affine, 48);

#ifdef __cplusplus
}
#endif
#endif
