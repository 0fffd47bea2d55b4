/* haystack.h - running text of any length: sentences made from a seed, or a user's own text. */
#ifndef EVAL_LONG_CONTEXT_HAYSTACK_H
#define EVAL_LONG_CONTEXT_HAYSTACK_H
#include <sqz/eval.h>
#include <stddef.h>

/* A piece of text; not terminated. */
typedef struct span {
    const char *at;
    size_t n;
} span;

typedef struct haystack {
    uint64_t seed;
    span *units; /* sentences of the user's text, or NULL: made */
    int64_t n_units;
    int64_t bytes; /* of all units */
} haystack;

/* Steele's and Lea's splitmix64: the n-th number of a seed. */
uint64_t number_of(uint64_t seed, uint64_t n);

/* Takes the text of all rows, or makes its own where they have none. */
sqz_status haystack_open(const sqz_host *, const sqz_rows *, uint64_t seed, haystack *out);
void haystack_close(haystack *);
/* Writes the k-th sentence (the user's text begins again after its end); returns its bytes.  A made
 * sentence has at most HAYSTACK_SENTENCE - 1. */
enum { HAYSTACK_SENTENCE = 400 };
size_t haystack_sentence(const haystack *, uint64_t k, char out[HAYSTACK_SENTENCE]);
#endif
