/* safetensors.h - one safetensors file, mapped and checked; and its streaming writer.
 *
 * Reading enforces every rule of the format (header length, UTF-8, duplicate names, contiguous
 * offsets, products with overflow checks, end of file), because the file is untrusted.
 * Writing orders tensors as the reference writer does, pads the header to 8 bytes, goes to a
 * temporary file and renames. */
#ifndef SQZ_RUNTIME_SAFETENSORS_H
#define SQZ_RUNTIME_SAFETENSORS_H
#include "error/error.h"
#include "io/file.h"
#include <sqz/format.h>

enum { ST_MAX_RANK = 8 };

typedef struct st_tensor {
    char *name;
    int32_t dtype; /* SQZ_F32 ...; 0 for a dtype of the format that sqz does not compute with */
    int32_t rank;
    int64_t shape[ST_MAX_RANK];
    const uint8_t *data; /* in the mapping; not necessarily aligned; NULL when there is a source */
    int64_t bytes;       /* of the elements in dtype */
    int64_t begin;       /* offset in the data buffer */
    /* Of tensors that a file holds in another form: how their bytes are made (tensor.h). */
    const struct tensor_source *source;
} st_tensor;

typedef struct st_file {
    char *path;
    file_map map;
    st_tensor *tensors; /* [n] by offset */
    int64_t n;
    st_tensor **by_name; /* [n] */
    char *metadata;      /* __metadata__ as JSON text, or NULL */
} st_file;

sqz_status st_open(const char *path, st_file **out, sqz_error *err);
const st_tensor *st_find(const st_file *, const char *name); /* NULL when absent; O(log n) */
void st_close(st_file *);

/* Bits of one element; 0 for an unknown dtype. */
int st_dtype_bits(int32_t dtype);
const char *st_dtype_name(int32_t dtype); /* "F32" */

/* Streaming writer: declare all tensors, begin, write each once, finish (or abort). */
typedef struct st_writer st_writer;
sqz_status st_writer_new(const char *path, st_writer **out, sqz_error *err);
sqz_status st_writer_declare(st_writer *, const char *name, int32_t dtype, int32_t rank,
                             const int64_t *shape, sqz_error *err);
/* One more string of __metadata__, which begins as {"format":"pt"}; before the first write. */
sqz_status st_writer_metadata(st_writer *, const char *key, const char *value, sqz_error *err);
sqz_status st_writer_write(st_writer *, const char *name, const void *data, int64_t bytes,
                           sqz_error *err);
/* Checks that everything was written, fsyncs, renames into place.  Frees the writer either way. */
/* The file lies in a folder that dir_sync makes durable: finish need not wait for the disk. */
void st_writer_sync_later(st_writer *);
sqz_status st_writer_finish(st_writer *, sqz_error *err);
void st_writer_abort(st_writer *);
#endif
