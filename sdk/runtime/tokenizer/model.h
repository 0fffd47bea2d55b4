/* model.h - the model of a tokenizer, one of four kinds, and the words it has seen before.
 *
 * Words are the same again and again: their ids are kept in a cache whose size is bounded. */
#ifndef SQZ_RUNTIME_TOKENIZER_MODEL_H
#define SQZ_RUNTIME_TOKENIZER_MODEL_H
#include "tokenizer/bpe.h"
#include "tokenizer/unigram.h"
#include "tokenizer/vocab.h"
#include "tokenizer/wordlevel.h"
#include "tokenizer/wordpiece.h"

typedef struct word_cache word_cache;

typedef struct word_model {
    vocab *vocab;
    /* exactly one of them */
    bpe *bpe;
    unigram *unigram;
    wordpiece *wordpiece;
    wordlevel *wordlevel;
    word_cache *cache; /* made by the first word */
} word_model;

void word_model_free(word_model *);
/* Appends the ids of one word.  SQZ_OK, or why the model has none for it. */
sqz_status word_model_encode(word_model *, const char *word, int64_t n, id_list *out,
                             sqz_error *err);
/* Work done so far, in bytes and entries handled: what tests of growth count. */
int64_t word_model_steps(const word_model *);
#endif
