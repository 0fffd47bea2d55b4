/* charsmap.h - SentencePiece's precompiled normalization: a table of replacements in a double
 * array.
 *
 * The bytes come from files: every index is checked, and a text that leads outside ends there. */
#ifndef SQZ_RUNTIME_TOKENIZER_CHARSMAP_H
#define SQZ_RUNTIME_TOKENIZER_CHARSMAP_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct charsmap charsmap;
/* blob: copied. */
sqz_status charsmap_new(const void *blob, int64_t n, const char *file, charsmap **out,
                        sqz_error *err);
sqz_status charsmap_base64(const char *text, const char *file, charsmap **out, sqz_error *err);
void charsmap_free(charsmap *);
/* Appends s normalized as the `tokenizers` package does it: clusters of fewer than 6 bytes as a
 * whole, else character by character, each by the shortest entry that it begins with. */
void charsmap_run(const charsmap *, const char *s, int64_t n, text_buffer *out);
#endif
