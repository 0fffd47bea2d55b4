/* json.h - strict reading and writing of JSON on top of cJSON.
 *
 * Reading: the whole text must be one value; duplicate keys, nesting beyond 64 levels, invalid UTF-8
 * and non-finite numbers are errors with line and column.  With JSON_COMMENTS, // and C comments and
 * trailing commas are accepted.  Writing: json_text gives numbers that read back to the same
 * double, and json_canonical sorts keys, so that equal values have equal bytes (hash input). */
#ifndef SQZ_RUNTIME_JSON_H
#define SQZ_RUNTIME_JSON_H
#include "error/error.h"
#include <cjson/cJSON.h>

enum {
    JSON_COMMENTS = 1,
    JSON_NUMBER_TEXT = 2 /* numbers keep how they were written in valuestring: 1.0 is not 1 */
};

typedef struct json_doc json_doc; /* the tree with the text position of every value */
sqz_status json_parse(const char *text, int64_t bytes, int flags, const char *name, json_doc **out,
                      sqz_error *err);
sqz_status json_read(const char *path, int64_t max_bytes, int flags, json_doc **out, sqz_error *err);
cJSON *json_root(const json_doc *);
/* 1-based line and column where the value (or its key) begins; 0, 0 when not of this document. */
void json_where(const json_doc *, const cJSON *item, int *line, int *column);
const char *json_name(const json_doc *);
void json_free(json_doc *);

/* Getters: the default when the key is absent or of another type. */
const char *json_str(const cJSON *object, const char *key, const char *fallback);
double json_num(const cJSON *object, const char *key, double fallback);
int64_t json_int(const cJSON *object, const char *key, int64_t fallback);
int json_bool(const cJSON *object, const char *key, int fallback);
cJSON *json_get(const cJSON *object, const char *key); /* case-sensitive, or NULL */
/* Adds a number, or nothing when it is not finite (contract: absent instead of NaN). */
void json_add_num(cJSON *object, const char *key, double value);

char *json_text(const cJSON *, int pretty); /* malloc'd */
char *json_canonical(const cJSON *);        /* malloc'd: sorted keys, no spaces */
/* Nearest of n names within edit distance 3 (2 for up to five letters, and less than the length),
 * or NULL. */
const char *json_nearest(const char *name, const char *const *names, int n);
/* The same within `most` edits, if that is fewer. */
const char *json_nearest_within(const char *name, int most, const char *const *names, int n);
#endif
