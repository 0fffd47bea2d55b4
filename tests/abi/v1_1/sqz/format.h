/* sqz/format.h - checkpoint formats: recognise and read a quantized checkpoint, write one.
 * Offered through extension("sqz.format/1") of an agent of kind "format/1".
 * The host owns files and streaming; a format owns names, layouts and the config keys. */
#ifndef SQZ_FORMAT_H
#define SQZ_FORMAT_H
#include <sqz/form.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_FORMAT_1 "sqz.format/1"

typedef struct sqz_tensor_view {
    uint32_t struct_size;
    int32_t dtype; /* SQZ_F32 ... */
    const char *name;
    int32_t rank;
    int32_t zero;
    int64_t shape[8];
    const void *data; /* borrowed, row-major; NULL when only declared */
    int64_t bytes;
} sqz_tensor_view;
SQZ_SEALED(sqz_tensor_view, bytes, 104);

/* The subject of `export`: the source checkpoint, the compressed linears, and the sink. */
typedef struct sqz_export sqz_export;
struct sqz_export {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;
    const char *config_json;  /* text of the source's config.json */
    int64_t n_tensors;        /* of the source checkpoint, in file order */
    int64_t n_linears;        /* linears of the blocks, in model order */
    /* i-th source tensor; its data stays valid until the next call.  [call] */
    sqz_status (*tensor)(const sqz_export *, int64_t i, sqz_tensor_view *out);
    /* i-th linear of the blocks: module name and weight (dense or affine), valid until the next
     * call; *weight has form SQZ_FORM_DENSE where the linear was left alone.  [call] */
    sqz_status (*linear)(const sqz_export *, int64_t i, const char **module, sqz_weight *weight);
    /* Sink, two passes: declare every tensor, then write each declared tensor once, in any order.
     * The host pads, shards, writes to a temporary file and renames.  [call] */
    sqz_status (*declare)(const sqz_export *, const sqz_tensor_view *);
    sqz_status (*write)(const sqz_export *, const char *name, const void *data, int64_t bytes);
    /* A small text file of the folder (config.json, quantize_config.json, ...).  [call] */
    sqz_status (*text)(const sqz_export *, const char *file, const char *text);
};
SQZ_SEALED(sqz_export, text, 80);

/* The subject of `import`: a checkpoint folder as the host opened it. */
typedef struct sqz_import sqz_import;
struct sqz_import {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;
    const char *config_json;
    /* Tensor by name; SQZ_E_UNSUPPORTED without fail() when absent; data stays mapped.  [call] */
    sqz_status (*tensor)(const sqz_import *, const char *name, sqz_tensor_view *out);
};
SQZ_SEALED(sqz_import, tensor, 32);

typedef struct sqz_format {
    uint32_t struct_size;
    uint32_t zero;
    /* 1 when config_json announces this format, else 0.  [any] */
    int32_t (*probe)(const char *config_json);
    /* Can this set of forms be written?  SQZ_E_UNSUPPORTED with fail() text otherwise.  [call] */
    sqz_status (*check)(const sqz_host *, void *self, const sqz_export *);
    sqz_status (*export_model)(const sqz_host *, void *self, const sqz_export *);
    /* Read the linear `module` into caller-owned arrays.  First call with arrays NULL fills the
     * header fields of *out (bits, rows, cols, group_size, symmetric); the second, with codes,
     * scales and zeros pointing to writable arrays of the sizes sqz/form.h gives, fills them.
     * SQZ_E_UNSUPPORTED without fail() when the module is dense in this checkpoint.  [call] */
    sqz_status (*import_linear)(const sqz_host *, void *self, const sqz_import *,
                                const char *module, sqz_affine *out);
} sqz_format;
SQZ_SEALED(sqz_format, import_linear, 40);

#ifdef __cplusplus
}
#endif
#endif
