/* wordpiece.h - BERT's model: the longest piece that a word begins with, again and again.
 *
 * Pieces inside a word carry a prefix (##).  A word with a part that no piece covers, or longer
 * than the limit, is one unknown. */
#ifndef SQZ_RUNTIME_TOKENIZER_WORDPIECE_H
#define SQZ_RUNTIME_TOKENIZER_WORDPIECE_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include "tokenizer/vocab.h"

typedef struct wordpiece wordpiece;
/* vocab: borrowed, complete. */
sqz_status wordpiece_new(const vocab *vocab, const char *unk_token, const char *prefix,
                         int64_t max_chars, wordpiece **out, sqz_error *err);
void wordpiece_free(wordpiece *);
/* word: valid UTF-8.  The ids belong to the model and live until its next use; `failed` is set
 * without memory. */
const id_list *wordpiece_encode(wordpiece *, const char *word, int64_t n);
int64_t wordpiece_steps(const wordpiece *);
#endif
