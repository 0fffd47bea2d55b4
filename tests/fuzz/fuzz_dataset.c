/* fuzz_dataset.c - a data set file: rows found, kind recognised, every text read, rows rendered. */
#include "data/documents.h"
#include "fuzz.h"
#include <stdlib.h>
#include <string.h>

static void touch_row(const dataset *d, int64_t i, text_buffer *text)
{
    static const char *const fields[] = {"text",    "question",     "answer", "ctx",
                                         "endings", "choices.text", "label"};
    const row_store *s = data_rows(d);
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        int64_t n = 0, list = rows_list_length(s, i, fields[k]);
        double number;
        const char *value = rows_text(s, i, fields[k], &n);
        if (value) fuzz_touch(value, (size_t)n + 1);
        for (int64_t e = 0; e < list; e++) {
            const char *item = rows_list_text(s, i, fields[k], e);
            if (item) fuzz_touch(item, strlen(item) + 1);
        }
        rows_number(s, i, fields[k], &number);
    }
    if (document_text(d, i, text)) fuzz_touch(text->at, (size_t)text->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dataset *d = NULL;
    text_buffer text = {0};
    sqz_error err;
    if (dataset_open(fuzz_file(data, size), &d, &err) != SQZ_OK) return 0;
    for (int64_t i = 0; i < d->rows.n_rows; i++) touch_row(d, i, &text);
    text_free(&text);
    dataset_close(d);
    return 0;
}
