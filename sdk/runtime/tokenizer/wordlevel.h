/* wordlevel.h - the model of tokenizers that know whole words only: a word is its id, or unknown.
 */
#ifndef SQZ_RUNTIME_TOKENIZER_WORDLEVEL_H
#define SQZ_RUNTIME_TOKENIZER_WORDLEVEL_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include "tokenizer/vocab.h"

typedef struct wordlevel wordlevel;
/* vocab: borrowed, complete.  An unk_token that it does not have makes every unknown word an
 * error, as in the reference. */
wordlevel *wordlevel_new(const vocab *vocab, const char *unk_token); /* NULL without memory */
void wordlevel_free(wordlevel *);
/* word: valid UTF-8.  The ids belong to the model and live until its next use; `failed` is set
 * without memory. */
sqz_status wordlevel_encode(wordlevel *, const char *word, int64_t n, const id_list **ids,
                            sqz_error *err);
int64_t wordlevel_steps(const wordlevel *);
#endif
