/* vocab.h - the pieces of a tokenizer and their ids, both ways.
 *
 * Shared by the models (BPE, Unigram, WordPiece, WordLevel): they look words up here, decoding reads the
 * pieces back, and added tokens extend it. */
#ifndef SQZ_RUNTIME_TOKENIZER_VOCAB_H
#define SQZ_RUNTIME_TOKENIZER_VOCAB_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct vocab vocab;

vocab *vocab_new(const char *file); /* file: for messages; kept.  NULL without memory */
void vocab_free(vocab *);
const char *vocab_file(const vocab *);

/* Each piece once and each id once; else an error. */
sqz_status vocab_add(vocab *, const char *piece, int64_t n, int64_t id, sqz_error *err);
/* A piece that only decoding and added tokens know: words never become it. */
sqz_status vocab_name_id(vocab *, const char *piece, int64_t n, int64_t id, sqz_error *err);

int32_t vocab_find(const vocab *, const char *piece, int64_t n); /* -1 when absent */
int32_t vocab_find_byte(const vocab *, uint8_t byte);            /* <0xHH>, upper case; -1: none */
const char *vocab_piece(const vocab *, int64_t id, int64_t *n);  /* NULL when absent */
int64_t vocab_size(const vocab *);                               /* largest id + 1 */
int64_t vocab_count(const vocab *);                              /* pieces that words can become */

uint64_t hash_bytes(const char *s, int64_t n);
#endif
