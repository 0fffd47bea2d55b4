/* parts.h - the inside of a tokenizer: what load.c fills and tokenizer.c runs. */
#ifndef SQZ_RUNTIME_TOKENIZER_PARTS_H
#define SQZ_RUNTIME_TOKENIZER_PARTS_H
#include "tokenizer/added.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pieces.h"
#include "tokenizer/split.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trie.h"

struct tokenizer {
    word_model model;
    normalizer *normalizer;
    splitter *splitter;
    decoder *decoder;
    added_token *added; /* [n_added] */
    int64_t n_added;
    trie *added_names;           /* content to index in `added`; NULL: none yet */
    added_set *raw, *normalized; /* added tokens found before and after the normalizer */
    id_list before, after;       /* the template's ids around a text */
    int32_t *added_of;           /* [vocab_size] index in `added`, or -1 */
    int32_t bos, eos;
    int cut_at_spaces; /* words may be cut before each U+2581 (bpe_cuts_at_spaces) */
    pieces words;      /* scratch */
    text_buffer segment;
};

/* t is empty; on failure the caller frees it. */
sqz_status tokenizer_load(tokenizer *t, const char *dir, sqz_error *err);
tokenizer *tokenizer_new(void); /* nothing in it; NULL without memory */
/* The added token with this content, or NULL. */
const added_token *tokenizer_added(const tokenizer *, const char *content, int64_t n);
#endif
