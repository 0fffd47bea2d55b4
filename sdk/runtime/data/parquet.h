/* parquet.h - the rows of a Parquet file.
 *
 * Read one row group after the other, only the wanted columns, each page checked against what the
 * file says of it.  Data pages v1 and v2; plain, dictionary, run-length, delta and byte-split
 * values; snappy, gzip and zstd; nulls, structs, lists and maps of any nesting.  Structs become
 * "a.b" fields, lists of plain values become lists, deeper elements JSON text, as in JSONL.  Dates
 * and times become ISO 8601 text, decimals numbers; bytes that are no UTF-8 text are left out.
 * Refused by name: encryption, LZ4, Brotli, LZO, columns kept in other files. */
#ifndef SQZ_RUNTIME_PARQUET_H
#define SQZ_RUNTIME_PARQUET_H
#include "data/rows.h"

typedef struct parquet_options {
    const char *const *fields; /* names of the top-level columns that are wanted; NULL = all */
    int64_t n_fields;
    int64_t max_rows; /* of the whole store; < 0 = all.  Row groups beyond are not read */
} parquet_options;

/* data: the whole file, 16 bytes aligned or not. */
sqz_status rows_add_parquet(row_store *, const char *path, const uint8_t *data, int64_t bytes,
                            const parquet_options *, sqz_error *err);
#endif
