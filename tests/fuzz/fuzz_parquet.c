/* fuzz_parquet.c - a Parquet file: footer, pages, levels, values, rows put together. */
#include "data/parquet.h"
#include "fuzz.h"
#include <string.h>

static void touch_row(const row_store *s, int64_t i)
{
    for (int64_t k = 0; k < rows_n_names(s); k++) {
        int64_t n = 0, list = rows_list_length(s, i, rows_name(s, k));
        const char *text = rows_text(s, i, rows_name(s, k), &n);
        if (text) fuzz_touch(text, (size_t)n + 1);
        for (int64_t e = 0; e < list; e++) {
            const char *item = rows_list_text(s, i, rows_name(s, k), e);
            fuzz_touch(item, strlen(item) + 1);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const fields[] = {"answer", "same"};
    row_store *s;
    if (rows_new(&s, NULL) != SQZ_OK) return 0;
    /* The whole file, or after it only two columns of the first rows. */
    parquet_options all = {.max_rows = 10000}, some = {fields, 2, 3};
    if (rows_add_parquet(s, "fuzz.parquet", data, (int64_t)size, &all, NULL) == SQZ_OK)
        for (int64_t i = 0; i < rows_count(s); i++) touch_row(s, i);
    rows_free(s);
    if (rows_new(&s, NULL) != SQZ_OK) return 0;
    rows_add_parquet(s, "fuzz.parquet", data, (int64_t)size, &some, NULL);
    rows_free(s);
    return 0;
}
