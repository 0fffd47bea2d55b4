/* checkpoint.h - a Hugging Face model folder: config.json, safetensors (single or sharded), the
 * tokenizer's files; or a GGUF file, presented as the folder that it was converted from.
 * Memory-mapped, never wholly in RAM.
 *
 * Left out: names of the hub (hub/), pickle (refused for good: it executes code). */
#ifndef SQZ_RUNTIME_CHECKPOINT_H
#define SQZ_RUNTIME_CHECKPOINT_H
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor.h"

typedef struct checkpoint {
    char *dir;
    char *config_text; /* config.json as it is */
    st_file **files;   /* [n_files] */
    int64_t n_files;
    const st_tensor **tensors; /* [n_tensors] sorted by name, over all files */
    int64_t n_tensors;
    int64_t bytes; /* of all tensors, in their files */
    /* of a GGUF file: */
    gguf_file *gguf;
    st_tensor *made; /* [n_tensors] what `tensors` points to */
    tensor_source *sources;
} checkpoint;

/* dir is a GGUF file, or a folder: it must hold config.json and model.safetensors or
 * model.safetensors.index.json.  Shard names are plain file names inside dir; anything else (..,
 * absolute, symbolic link out) is refused, except the blobs/ folder that the snapshots of a Hugging
 * Face cache link to. */
sqz_status checkpoint_open(const char *dir, checkpoint **out, sqz_error *err);
/* One small text file of the model ("config.json", "tokenizer.json", "tokenizer_config.json", ...),
 * malloc'd and zero-terminated: of the folder, or made from a GGUF file's keys.  *text is NULL when
 * the model has none. */
sqz_status checkpoint_text(const char *dir, const char *name, int64_t max_bytes, char **text,
                           int64_t *bytes, sqz_error *err);
/* Refuses what no checkpoint can be, by name and with the way out: nothing there, a pickle, a file
 * of another kind. */
sqz_status checkpoint_check_path(const char *dir, sqz_error *err);
const st_tensor *checkpoint_find(const checkpoint *, const char *name);
void checkpoint_close(checkpoint *);
/* No page of the files needs to stay in this process's memory now.  Whole mappings, because one
 * read may map far more than it asked for: kernels map a page cache of large folios in 2 MB steps.
 */
void checkpoint_drop(const checkpoint *);
/* Content digest over config.json, tensors and tokenizer files.  Hashing 10 GB takes 10 s, so the
 * digest of each file is remembered in cache_dir (may be NULL) by path, size, mtime and inode. */
sqz_status checkpoint_digest(const char *dir, const char *cache_dir, char digest[72],
                             sqz_error *err);
/* Convert n elements to float32.  SQZ_F32, SQZ_BF16, SQZ_F16. */
sqz_status to_f32(int32_t dtype, const void *src, int64_t n, float *dst);
uint16_t f32_to_f16(float); /* nearest even */
float f16_to_f32(uint16_t);
uint16_t f32_to_bf16(float); /* nearest even, NaN kept */
#endif
