/* template.h - the post-processor: the special ids that stand around a single text. */
#ifndef SQZ_RUNTIME_TOKENIZER_TEMPLATE_H
#define SQZ_RUNTIME_TOKENIZER_TEMPLATE_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

/* json: "post_processor", or NULL / null.  Adds to both lists.  Templates for pairs are not read:
 * nothing here encodes pairs. */
sqz_status template_read(const cJSON *json, const char *file, id_list *before, id_list *after,
                         sqz_error *err);
#endif
