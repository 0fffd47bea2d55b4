/* decoder.h - the decoder of a tokenizer file: pieces back to text. */
#ifndef SQZ_RUNTIME_TOKENIZER_DECODER_H
#define SQZ_RUNTIME_TOKENIZER_DECODER_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

typedef struct decoder decoder;
/* json: "decoder", or NULL / null: pieces joined by single spaces, as the reference does. */
sqz_status decoder_new(const cJSON *json, const char *file, decoder **out, sqz_error *err);
void decoder_free(decoder *);
/* Rewrites the pieces of the ids; the text is their concatenation in order. */
sqz_status decoder_run(decoder *, pieces *tokens, sqz_error *err);
#endif
