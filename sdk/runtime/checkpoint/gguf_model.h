/* gguf_model.h - a GGUF file as the checkpoint that it was converted from: config.json, tensor
 * names, layouts. */
#ifndef SQZ_RUNTIME_GGUF_MODEL_H
#define SQZ_RUNTIME_GGUF_MODEL_H
#include "checkpoint/gguf.h"
#include "checkpoint/tensor.h"

/* The config.json of the model in the spelling of transformers, malloc'd.  An architecture that is
 * not known: ERR_MODEL by name. */
sqz_status gguf_config(const gguf_file *, char **json, sqz_error *err);
/* Tensors under the names and in the layouts of the original folder: *tensors [*n] and the
 * sources they point to, *sources [*n], both malloc'd (gguf_tensors_free).  They borrow from the
 * file. */
sqz_status gguf_tensors(const gguf_file *, st_tensor **tensors, tensor_source **sources, int64_t *n,
                        sqz_error *err);
void gguf_tensors_free(st_tensor *, tensor_source *, int64_t n);
#endif
