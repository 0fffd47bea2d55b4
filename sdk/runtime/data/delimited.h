/* delimited.h - CSV and TSV as rows.
 *
 * RFC 4180 (quotes doubled, line breaks in quotes, any of \n, \r\n, \r), read leniently as the
 * reader behind the `datasets` package does: text after a closing quote continues the cell, short
 * rows lack their last cells.  Types are those it infers, but over the whole file: a column of
 * nothing but integers, numbers or true/false is one; cells such as "", NA, null, NaN and None are
 * absent. */
#ifndef SQZ_RUNTIME_DELIMITED_H
#define SQZ_RUNTIME_DELIMITED_H
#include "data/rows.h"

typedef struct delimited_options {
    char delimiter;            /* ',' or '\t' */
    const char *const *header; /* names of the columns of a file without a header line, or NULL */
    int64_t n_header;
    int as_text; /* every cell is the text it is: nothing is a number, nothing is absent */
} delimited_options;

sqz_status rows_add_delimited(row_store *, const char *path, const char *data, int64_t bytes,
                              const delimited_options *, int64_t max_rows, sqz_error *err);
#endif
