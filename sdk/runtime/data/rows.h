/* rows.h - the rows of a data set in memory: parsed once, fields found by name.
 *
 * Nested objects are flattened ("choices.text"); null fields are absent. */
#ifndef SQZ_RUNTIME_DATA_ROWS_H
#define SQZ_RUNTIME_DATA_ROWS_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct row_store row_store;

/* data: the whole file, borrowed during the call.  path: for messages, as path:line:column. */
sqz_status rows_from_jsonl(const char *path, const char *data, int64_t bytes, row_store **out,
                           sqz_error *err);
sqz_status rows_from_array(const char *path, const char *data, int64_t bytes, row_store **out,
                           sqz_error *err);
/* One row whose field "text" is the whole file. */
sqz_status rows_from_text(const char *path, const char *data, int64_t bytes, row_store **out,
                          sqz_error *err);
void rows_free(row_store *);

int64_t rows_count(const row_store *);
int64_t rows_line(const row_store *, int64_t row); /* 1-based, where the row begins */
/* Text of a field with its length (texts may hold zeros), or NULL. */
const char *rows_text(const row_store *, int64_t row, const char *field, int64_t *n);
int64_t rows_list_length(const row_store *, int64_t row, const char *field); /* -1: no list */
const char *rows_list_text(const row_store *, int64_t row, const char *field, int64_t k);
/* A number, or a text that is nothing but one. */
int rows_number(const row_store *, int64_t row, const char *field, double *value);
/* Is the field a JSON string? */
int rows_is_string(const row_store *, int64_t row, const char *field);
#endif
