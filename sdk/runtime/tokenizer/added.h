/* added.h - tokens that are found in the text before the model sees it. */
#ifndef SQZ_RUNTIME_TOKENIZER_ADDED_H
#define SQZ_RUNTIME_TOKENIZER_ADDED_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct added_token {
    char *content;
    int64_t n;   /* bytes of content */
    char *shown; /* what decoding takes for it: the normalized content */
    int64_t n_shown;
    int32_t id;
    int single_word, lstrip, rstrip, normalized, special;
} added_token;

/* A set of contents searched together: leftmost match first, the longest of those. */
typedef struct added_set added_set;
added_set *added_set_new(void);
void added_set_free(added_set *);
/* text: what is searched for (the content, normalized where the token says so).  token is
 * borrowed.  Of equal texts the first added wins.  0 without memory. */
int added_set_add(added_set *, const char *text, int64_t n, const added_token *token);

typedef struct added_match {
    int64_t at, n;
    int32_t id; /* -1: text between tokens */
} added_match;
/* Calls nothing when the text is empty.  The matches cover the text in order; *matches belongs to
 * the set and lives until its next use. */
sqz_status added_set_split(added_set *, const char *text, int64_t n, const added_match **matches,
                           int64_t *n_matches, sqz_error *err);
#endif
