/* unicode.h - character classes and normalization forms, as the `tokenizers` package has them.
 *
 * utf8proc's tables, corrected where the package's libraries follow another Unicode version
 * (unicode_tables.h). */
#ifndef SQZ_RUNTIME_TOKENIZER_UNICODE_H
#define SQZ_RUNTIME_TOKENIZER_UNICODE_H
#include "tokenizer/pieces.h"

typedef enum char_class {
    CHAR_SPACE,       /* White_Space                                                      */
    CHAR_DIGIT,       /* N*, of the Digits pre-tokenizer                                  */
    CHAR_PUNCTUATION, /* P*, and all ASCII punctuation and symbols                        */
    CHAR_WORD,        /* letters, marks, decimal digits, connectors, join controls        */
    CHAR_MARK,        /* M*                                                               */
    CHAR_NONSPACING,  /* Mn, in texts that are decomposed                                 */
    CHAR_OTHER,       /* Cc, Cf, Co: control, format, private; not tab, line feed, return */
    CHAR_LETTER,      /* \p{L} of expressions                                             */
    CHAR_NUMBER       /* \p{N} of expressions                                             */
} char_class;
int char_is(uint32_t c, char_class);
/* The script of the UnicodeScripts pre-tokenizer, from 1 on; 0: goes with any (spaces, code points
 * that its table lacks). */
int char_script(uint32_t c);
/* The letter's lower case, where that is one character (U+0130's is two). */
uint32_t char_lower(uint32_t c);

typedef enum unicode_form {
    UNICODE_NFD = 1,
    UNICODE_NFC,
    UNICODE_NFKD,
    UNICODE_NFKC
} unicode_form;

typedef struct unicode_scratch {
    int32_t *code, *sorted; /* [room] */
    uint8_t *order;         /* [room] combining classes */
    int64_t n, room;
    int failed;
    int64_t steps; /* characters handled and moved */
} unicode_scratch;
/* Appends s in the form; without memory out->failed is set.  Linear in n, whatever the marks. */
void unicode_normalize(unicode_scratch *, unicode_form, const char *s, int64_t n,
                       text_buffer *out);
void unicode_free(unicode_scratch *);
#endif
