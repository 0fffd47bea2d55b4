/* row_line.h - the host's side of sqz_row: one row that a data plugin fills, checked, as JSON.
 *
 * The first thing that is wrong with a row fails it for good, whether or not the plugin passes the
 * failure on.  Left out: what the row is good for (its fields say, as in every data set). */
#ifndef SQZ_CORE_HOST_ROW_LINE_H
#define SQZ_CORE_HOST_ROW_LINE_H
#include "error/error.h"
#include "json/json.h"
#include <sqz/data.h>

enum {
    ROW_MAX_NAME = 200,
    ROW_MAX_FIELDS = 1024,
    ROW_MAX_ITEMS = 1 << 20, /* elements of all its lists */
    ROW_MAX_BYTES = 64 << 20 /* of all its texts */
};

typedef struct row_line {
    sqz_row table; /* what the plugin is given */
    const sqz_host *host;
    cJSON *row;
    int64_t number; /* of the row, from 1, for messages */
    int64_t fields, items, bytes;
    sqz_error failure; /* code 0: none */
} row_line;

/* host: of the agent, for fail(). */
void row_line_init(row_line *, const sqz_host *host);
/* Begins a row; what the last one held is dropped.  0: no memory. */
int row_line_begin(row_line *, int64_t number);
void row_line_free(row_line *);
#endif
