/* gguf.h - one GGUF file (versions 2 and 3, little endian), mapped and checked: its key/value
 * pairs, its tensors, and the values of packed tensors.
 *
 * Every rule of the format is enforced before anything is used (counts against the file's size,
 * lengths, types, alignment, offsets, duplicate names), because the file is untrusted.
 * Left out, refused by name: version 1, big-endian files, nested arrays, split files. */
#ifndef SQZ_RUNTIME_GGUF_H
#define SQZ_RUNTIME_GGUF_H
#include "error/error.h"
#include "io/file.h"

/* Types of values. */
enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_VALUE_TYPES
};

/* Types of tensors that are computed with; others are known in size only. */
enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q5_0 = 6,
    GGML_Q5_1 = 7,
    GGML_Q8_0 = 8,
    GGML_Q2_K = 10,
    GGML_Q3_K = 11,
    GGML_Q4_K = 12,
    GGML_Q5_K = 13,
    GGML_Q6_K = 14,
    GGML_IQ4_NL = 20,
    GGML_BF16 = 30
};

typedef struct gguf_entry {
    char *key;
    int32_t type;
    int32_t element;   /* of an array */
    int64_t count;     /* of an array; bytes of a string; else 1 */
    const uint8_t *at; /* first byte of the value, in the mapping; not aligned */
} gguf_entry;

enum { GGUF_MAX_RANK = 4 };
typedef struct gguf_tensor {
    char *name;
    int32_t type, rank;
    int64_t shape[GGUF_MAX_RANK]; /* row-major: the file's sizes reversed */
    int64_t elements, bytes;
    const uint8_t *data; /* in the mapping */
} gguf_tensor;

typedef struct gguf_file {
    char *path;
    file_map map;
    uint32_t version;
    int64_t alignment;
    gguf_entry *entries; /* [n_entries] in the file's order */
    gguf_entry **by_key; /* [n_entries] */
    int64_t n_entries;
    gguf_tensor *tensors;  /* [n_tensors] in the file's order */
    gguf_tensor **by_name; /* [n_tensors] */
    int64_t n_tensors;
} gguf_file;

sqz_status gguf_open(const char *path, gguf_file **out, sqz_error *err);
void gguf_close(gguf_file *);
/* Does the name end in ".gguf" and name no folder? */
int gguf_is_path(const char *path);

const gguf_entry *gguf_find(const gguf_file *, const char *key); /* NULL when absent */
const gguf_tensor *gguf_find_tensor(const gguf_file *, const char *name);
/* The value when it is there and of such a type (any integer type that holds it, any real type,
 * ...), else the fallback.  gguf_int: an array counts as its value when all elements are equal. */
int64_t gguf_int(const gguf_file *, const char *key, int64_t fallback);
double gguf_real(const gguf_file *, const char *key, double fallback);
int gguf_bool(const gguf_file *, const char *key, int fallback);
char *gguf_string(const gguf_file *, const char *key); /* malloc'd, or NULL */

/* Element i of an array of integers or reals, as a double. */
double gguf_element(const gguf_entry *, int64_t i);
/* Walks an array of strings: *at begins as entry->at; the string is [*text, *text + bytes). */
void gguf_next_string(const uint8_t **at, const char **text, int64_t *bytes);

const char *ggml_type_name(int32_t type); /* "Q4_K"; "unknown" */
/* Elements and bytes of one block; 0 for a type whose size is not known. */
int64_t ggml_block_elements(int32_t type);
int64_t ggml_block_bytes(int32_t type);
/* Can ggml_decode make its values? */
int ggml_decodes(int32_t type);
/* Values of whole blocks, bit for bit those of the `gguf` package; in parallel when there are
 * many. elements: a multiple of the block's. */
void ggml_decode(int32_t type, const uint8_t *blocks, int64_t elements, float *out);
#endif
