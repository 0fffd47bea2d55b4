/* regex.h - regular expressions as task definitions write them: Python's dialect, over PCRE2.
 *
 * Left out: what only Python knows (conditionals on names, (?a), (?L)); PCRE2 refuses or takes them
 * by its own rules.  An expression keeps its match memory: one thread at a time. */
#ifndef SQZ_RUNTIME_TASK_REGEX_H
#define SQZ_RUNTIME_TASK_REGEX_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct regex regex;
/* where: the file and the part of it, for messages. */
sqz_status regex_new(const char *expression, const char *where, regex **out, sqz_error *err);
void regex_free(regex *);
int regex_groups(const regex *); /* how many the expression captures */

/* Walks the matches of a text in order, empty ones as Python's re does. */
typedef struct regex_walk {
    const char *text;
    int64_t n, at;
    int after_empty;
} regex_walk;
/* SQZ_OK and *found; group 0 is the whole match. */
sqz_status regex_next(regex *, regex_walk *, int *found, sqz_error *err);
/* Of the last match; n = 0 where the group took no part. */
span regex_group(const regex *, int group);

/* Replaces every match in place; \1 ... \9 of the replacement are groups. */
sqz_status regex_replace(regex *, const char *replacement, text_buffer *text, sqz_error *err);
#endif
