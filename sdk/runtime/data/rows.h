/* rows.h - the rows of a data set in memory: parsed once, fields found by name.
 *
 * Nested objects are flattened ("choices.text"); null fields are absent. */
#ifndef SQZ_RUNTIME_DATA_ROWS_H
#define SQZ_RUNTIME_DATA_ROWS_H
#include "error/error.h"
#include "tokenizer/pieces.h"

typedef struct row_store row_store;

/* ---- reading files ---- */
/* Readers add rows to a store, so that the files of one split become one set.  data: the whole
 * file, borrowed during the call.  path: for messages, as path:line:column.  No reader adds a row
 * beyond max_rows of the whole store (< 0: no limit). */
sqz_status rows_new(row_store **out, sqz_error *err);
sqz_status rows_add_jsonl(row_store *, const char *path, const char *data, int64_t bytes,
                          int64_t max_rows, sqz_error *err);
/* An array of objects, or an object with one array of objects among other things ({"version": 1,
 * "data": [...]}). */
sqz_status rows_add_json(row_store *, const char *path, const char *data, int64_t bytes,
                         int64_t max_rows, sqz_error *err);
/* One row whose field "text" is the whole file. */
sqz_status rows_add_text(row_store *, const char *path, const char *data, int64_t bytes,
                         sqz_error *err);

/* ---- making rows, for other readers ---- */
typedef enum row_value { ROW_STRING, ROW_NUMBER, ROW_WORD /* true, false */ } row_value;
sqz_status rows_begin_file(row_store *, const char *path, sqz_error *err);
sqz_status rows_begin(row_store *, int64_t line, sqz_error *err); /* a row of that file */
sqz_status rows_put(row_store *, const char *name, row_value, const char *text, int64_t n,
                    sqz_error *err);
sqz_status rows_put_list(row_store *, const char *name, sqz_error *err); /* elements follow */
sqz_status rows_put_element(row_store *, const char *text, int64_t n, sqz_error *err);
/* A double as Python prints it: the fewest digits that read back the same, with a point or an
 * exponent.  Returns the length. */
int rows_print_double(double value, char out[40]);

/* ---- looking up ---- */
void rows_free(row_store *);

int64_t rows_count(const row_store *);
const char *rows_path(const row_store *, int64_t row); /* of the file the row stands in */
int64_t rows_line(const row_store *,
                  int64_t row); /* 1-based, where the row begins; Parquet: its number */
/* Every field name of the set, in the order of appearance. */
int64_t rows_n_names(const row_store *);
const char *rows_name(const row_store *, int64_t k);
/* Text of a field with its length (texts may hold zeros), or NULL. */
const char *rows_text(const row_store *, int64_t row, const char *field, int64_t *n);
int64_t rows_list_length(const row_store *, int64_t row, const char *field); /* -1: no list */
const char *rows_list_text(const row_store *, int64_t row, const char *field, int64_t k);
/* A number, or a text that is nothing but one. */
int rows_number(const row_store *, int64_t row, const char *field, double *value);
/* Is the field a JSON string? */
int rows_is_string(const row_store *, int64_t row, const char *field);
#endif
