/* split.h - the pre-tokenizer of a tokenizer file: normalized text to words. */
#ifndef SQZ_RUNTIME_TOKENIZER_SPLIT_H
#define SQZ_RUNTIME_TOKENIZER_SPLIT_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

typedef struct splitter splitter;
/* json: "pre_tokenizer", or NULL / null for one that leaves each segment a single word. */
sqz_status splitter_new(const cJSON *json, const char *file, splitter **out, sqz_error *err);
void splitter_free(splitter *);
/* Where the last step is the byte map, drops it: words then come out as raw bytes, for the model to
 * read as GPT-2 characters.  Was it so? */
int splitter_leave_bytes(splitter *);
/* Does every step keep a whole segment in one word? */
int splitter_keeps_whole(const splitter *);
/* Bytes passed by all steps so far: what tests of growth count. */
int64_t splitter_steps(const splitter *);
/* words holds one span: the segment.  first: the segment begins the text. */
sqz_status splitter_run(splitter *, pieces *words, int first, sqz_error *err);
#endif
