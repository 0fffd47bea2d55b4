/* pattern.h - the regular expressions and literal strings of tokenizer files.
 *
 * The expressions are written for Oniguruma; where PCRE2 reads the same letters differently
 * (white space, word characters, scripts, nested sets) they are rewritten or refused by name.
 * A pattern keeps its match memory, so one pattern serves one thread at a time. */
#ifndef SQZ_RUNTIME_TOKENIZER_PATTERN_H
#define SQZ_RUNTIME_TOKENIZER_PATTERN_H
#include "error/error.h"
#include <cjson/cJSON.h>

typedef struct pattern pattern;
/* where: the file and the part of it, for messages. */
sqz_status pattern_regex(const char *expression, const char *where, pattern **out, sqz_error *err);
sqz_status pattern_literal(const char *text, const char *where, pattern **out, sqz_error *err);
/* {"String": ...} or {"Regex": ...} */
sqz_status pattern_json(const cJSON *, const char *where, pattern **out, sqz_error *err);
void pattern_free(pattern *);
/* First match at or after `from` in valid UTF-8: 1 found, 0 none, -1 the match failed (limits);
 * then pattern_error says why. */
int pattern_find(pattern *, const char *s, int64_t n, int64_t from, int64_t *begin, int64_t *end);
sqz_status pattern_error(const pattern *, sqz_error *err);
#endif
