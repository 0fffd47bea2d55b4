/* bpe.h - merges: one word to ids.
 *
 * Left out: dropout (a training device; refused when the file asks for it), and the memory of words
 * seen before (model.h). */
#ifndef SQZ_RUNTIME_TOKENIZER_BPE_H
#define SQZ_RUNTIME_TOKENIZER_BPE_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include "tokenizer/vocab.h"

typedef struct bpe bpe;

typedef struct bpe_options {
    const char *unk_token; /* NULL: characters without a piece vanish */
    const char *prefix;    /* of every symbol of a word but the first, or NULL */
    const char *suffix;    /* of the last symbol of a word, or NULL */
    int fuse_unk, byte_fallback, ignore_merges;
} bpe_options;

/* vocab: borrowed; all pieces are in it before bpe_ready, and merges follow in order of their rank.
 */
bpe *bpe_new(const vocab *vocab); /* NULL without memory */
void bpe_free(bpe *);
sqz_status bpe_ready(bpe *, const bpe_options *, sqz_error *err);
sqz_status bpe_add_merge(bpe *, const char *left, int64_t n_left, const char *right,
                         int64_t n_right, sqz_error *err);
/* Words are raw bytes from now on, each standing for its GPT-2 character. */
void bpe_read_bytes(bpe *);
/* No merge ever joins something to a following U+2581, so a text may be cut before each of them. */
int bpe_cuts_at_spaces(const bpe *);
/* The ids belong to the model and live until its next use; `failed` is set without memory. */
const id_list *bpe_encode(bpe *, const char *word, int64_t n);
/* Bytes read and heap entries handled so far: what tests of growth count. */
int64_t bpe_steps(const bpe *);
#endif
