/* tensor.h - the elements of a checkpoint's tensor, whatever form its file holds them in.
 *
 * A safetensors file holds what is computed with.  A GGUF file may hold packed blocks, rows in
 * another order, transposed matrices, norms with one added: such a tensor has a source instead of
 * data, and its elements are made when they are asked for. */
#ifndef SQZ_RUNTIME_TENSOR_H
#define SQZ_RUNTIME_TENSOR_H
#include "checkpoint/safetensors.h"

/* Which row of the file is row r of the tensor. */
enum {
    ROWS_AS_THEY_ARE,
    ROWS_ROTARY, /* in each head the file has pairs (2i, 2i + 1), the tensor halves (i, i + d / 2)
                  */
    ROWS_QKV     /* the file has all q, all k, all v; the tensor q, k, v of each head */
};

typedef struct tensor_source {
    int32_t type;      /* GGML_... */
    int32_t row_order; /* ROWS_... */
    int64_t heads;     /* of the row order */
    int transposed;    /* the file has [shape[1], shape[0]] */
    float add;         /* to every element */
    const uint8_t *data;
    int64_t bytes; /* in the file */
} tensor_source;

/* The tensor's bytes in its dtype: in the mapping, or made in *owned (malloc'd, NULL when nothing
 * was made).  NULL: no memory, and err is set. */
const void *tensor_bytes(const st_tensor *, void **owned, sqz_error *err);
/* All elements as float32.  SQZ_E_UNSUPPORTED for a dtype that is not computed with. */
sqz_status tensor_values(const st_tensor *, float *out, sqz_error *err);
/* Of a tensor with a source: the row of the file that holds row r. */
int64_t tensor_file_row(const st_tensor *, int64_t r);
/* Bytes in the file. */
int64_t tensor_file_bytes(const st_tensor *);
/* Its pages are not needed now (file_map_drop). */
void tensor_drop(const st_tensor *);
#endif
