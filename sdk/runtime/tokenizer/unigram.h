/* unigram.h - the pieces of a word whose scores have the largest sum (Viterbi).
 *
 * As the `tokenizers` package does it: an unknown character costs the smallest score minus 10,
 * neighbouring unknowns are one, and scores are added in double precision, so that ties fall the
 * same way.  Left out: sampling and n-best lists (training devices). */
#ifndef SQZ_RUNTIME_TOKENIZER_UNIGRAM_H
#define SQZ_RUNTIME_TOKENIZER_UNIGRAM_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include "tokenizer/vocab.h"

typedef struct unigram unigram;
/* vocab: borrowed, complete.  scores: [vocab_size(vocab)], taken over also on failure; unk: -1 =
 * none (unknown characters are then an error). */
sqz_status unigram_new(const vocab *vocab, double *scores, int32_t unk, int byte_fallback,
                       unigram **out, sqz_error *err);
void unigram_free(unigram *);
/* word: valid UTF-8.  The ids belong to the model and live until its next use; `failed` is set
 * without memory. */
sqz_status unigram_encode(unigram *, const char *word, int64_t n, const id_list **ids,
                          sqz_error *err);
int64_t unigram_steps(const unigram *);
#endif
