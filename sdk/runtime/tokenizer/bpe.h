/* bpe.h - the vocabulary and the merges: one word to ids.
 *
 * Left out: dropout (a training device; refused when the file asks for it). */
#ifndef SQZ_RUNTIME_TOKENIZER_BPE_H
#define SQZ_RUNTIME_TOKENIZER_BPE_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct bpe bpe;

typedef struct bpe_options {
    const char *unk_token; /* NULL: characters without a piece vanish */
    const char *prefix;    /* of every symbol of a word but the first, or NULL */
    const char *suffix;    /* of the last symbol of a word, or NULL */
    int fuse_unk, byte_fallback, ignore_merges;
} bpe_options;

/* file: for messages; kept. */
bpe *bpe_new(const char *file); /* NULL without memory */
void bpe_free(bpe *);

/* First all pieces, then bpe_ready, then the merges in order of their rank. */
sqz_status bpe_add_piece(bpe *, const char *piece, int64_t n, int64_t id, sqz_error *err);
sqz_status bpe_ready(bpe *, const bpe_options *, sqz_error *err);
sqz_status bpe_add_merge(bpe *, const char *left, int64_t n_left, const char *right,
                         int64_t n_right, sqz_error *err);
/* A piece that only decoding and added tokens know: words never become it. */
sqz_status bpe_name_id(bpe *, const char *piece, int64_t n, int64_t id, sqz_error *err);

/* Words are raw bytes from now on, each standing for its GPT-2 character. */
void bpe_read_bytes(bpe *);
/* No merge ever joins something to a following U+2581, so a text may be cut before each of them. */
int bpe_cuts_at_spaces(const bpe *);
void bpe_encode(bpe *, const char *word, int64_t n, id_list *out);

int32_t bpe_find(const bpe *, const char *piece, int64_t n); /* -1 when absent */
const char *bpe_piece(const bpe *, int64_t id, int64_t *n);  /* NULL when absent */
int64_t bpe_size(const bpe *);                               /* largest id + 1 */
#endif
