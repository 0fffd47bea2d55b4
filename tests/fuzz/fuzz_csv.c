/* fuzz_csv.c - CSV and TSV; the first byte chooses the delimiter and how cells are typed. */
#include "data/delimited.h"
#include "fuzz.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const header[] = {"text", "label", "text"};
    row_store *s;
    if (!size || rows_new(&s, NULL) != SQZ_OK) return 0;
    delimited_options o = {.delimiter = data[0] & 1 ? '\t' : ',', .as_text = data[0] & 2};
    if (data[0] & 4) {
        o.header = header;
        o.n_header = 3;
    }
    char *text = fuzz_text(data + 1, size - 1);
    if (rows_add_delimited(s, "fuzz.csv", text, (int64_t)size - 1, &o, 1000, NULL) == SQZ_OK)
        for (int64_t i = 0; i < rows_count(s); i++)
            for (int64_t k = 0; k < rows_n_names(s); k++) {
                int64_t n = 0;
                double number;
                const char *cell = rows_text(s, i, rows_name(s, k), &n);
                if (cell) fuzz_touch(cell, (size_t)n + 1);
                rows_number(s, i, rows_name(s, k), &number);
            }
    free(text);
    rows_free(s);
    return 0;
}
