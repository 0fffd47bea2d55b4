/* tokenizer.h - text to ids and back, as the `tokenizers` package does it for the same files.
 *
 * Reads tokenizer.json (BPE, Unigram, WordPiece), vocab.json with merges.txt (byte-level; the Qwen2
 * split and NFC when tokenizer_config.json names a Qwen2 class, else GPT-2's), or tokenizer.model
 * (SentencePiece: unigram and BPE), or the keys of a GGUF file. */
#ifndef SQZ_RUNTIME_TOKENIZER_H
#define SQZ_RUNTIME_TOKENIZER_H
#include "error/error.h"

typedef struct tokenizer tokenizer;

sqz_status tokenizer_open(const char *dir, tokenizer **out, sqz_error *err);
void tokenizer_free(tokenizer *);
/* UTF-8 text of `bytes` bytes (may contain zeros).  *ids is malloc'd.  special: add what the
 * post-processor's template adds.  Not thread-safe on one tokenizer (it caches words). */
sqz_status tokenizer_encode(tokenizer *, const char *text, int64_t bytes, int special,
                            int32_t **ids, int64_t *n, sqz_error *err);
/* *text is malloc'd and zero-terminated; *bytes its length.  skip: leave special tokens out. */
sqz_status tokenizer_decode(tokenizer *, const int32_t *ids, int64_t n, int skip, char **text,
                            int64_t *bytes, sqz_error *err);
int32_t tokenizer_bos(const tokenizer *); /* from tokenizer_config.json / special_tokens_map.json; -1 = none */
int32_t tokenizer_eos(const tokenizer *);
int64_t tokenizer_size(const tokenizer *); /* largest id + 1 */
int32_t tokenizer_id(const tokenizer *, const char *piece); /* -1 when absent */
/* Work done so far, in bytes, characters and queue entries handled: what tests of growth count. */
int64_t tokenizer_steps(const tokenizer *);
/* Does the template put bos / eos around a single text? */
void tokenizer_template(const tokenizer *, int *adds_bos, int *adds_eos);
#endif
