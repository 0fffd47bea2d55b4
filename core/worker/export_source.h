/* export_source.h - the tensors of a checkpoint as an export sees them: every linear its own
 * tensor.  A file that keeps all experts of a layer in one tensor is shown as the files that name
 * each expert, because only those can be quantized one by one. */
#ifndef SQZ_CORE_EXPORT_SOURCE_H
#define SQZ_CORE_EXPORT_SOURCE_H
#include "worker/subject.h"

typedef struct source_tensor {
    char *name;              /* as the export calls it */
    const st_tensor *tensor; /* that holds it */
    int64_t linear;          /* of the list below when it is a part of that tensor, else -1 */
} source_tensor;

typedef struct source_list {
    source_tensor *tensors;
    int64_t n;
    linear_spec *linears; /* of all blocks, in model order */
    int64_t n_linears;
} source_list;

/* Also after a failure the list is there to be closed. */
sqz_status source_list_open(const subject *, source_list *out, sqz_error *err);
void source_list_close(source_list *);
/* Borrowed from the mapping; data NULL when the tensor's bytes have to be made (tensor.h). */
void source_view(const source_list *, int64_t i, sqz_tensor_view *out);
#endif
