/* normalize.h - the normalizer of a tokenizer file: text to text, before anything is split. */
#ifndef SQZ_RUNTIME_TOKENIZER_NORMALIZE_H
#define SQZ_RUNTIME_TOKENIZER_NORMALIZE_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

typedef struct normalizer normalizer;
/* json: the "normalizer" of a tokenizer.json, or NULL / null for one that changes nothing. */
sqz_status normalizer_new(const cJSON *json, const char *file, normalizer **out, sqz_error *err);
/* Puts a precompiled charsmap before the other steps. */
sqz_status normalizer_put_charsmap(normalizer *, const void *blob, int64_t n, const char *file,
                                   sqz_error *err);
void normalizer_free(normalizer *);
/* In place; text is valid UTF-8 before and after. */
sqz_status normalizer_run(normalizer *, text_buffer *text, sqz_error *err);
/* Bytes and characters handled so far: what tests of growth count. */
int64_t normalizer_steps(const normalizer *);
int normalizer_is_empty(const normalizer *);
#endif
