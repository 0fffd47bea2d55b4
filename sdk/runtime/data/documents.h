/* documents.h - rows as text: what a row says when it is read rather than scored. */
#ifndef SQZ_RUNTIME_DATA_DOCUMENTS_H
#define SQZ_RUNTIME_DATA_DOCUMENTS_H
#include "data/data.h"
#include "data/rows.h"

row_store *data_rows(const dataset *);
/* A data set of a task's requests; takes rows (also when it fails) and, when it succeeds, task. */
sqz_status dataset_of_requests(row_store *rows, struct task *task, const char *path, dataset **out,
                               sqz_error *err);

/* The top-level fields that document_text reads: all that calibration needs of a set. */
extern const char *const document_fields[];
extern const int64_t document_n_fields;

/* Index of the right choice (label, answer or gold; a number or a letter), or -1. */
int64_t document_gold(const row_store *, int64_t row, int64_t n_choices);
/* Name of the row's list of choices, or NULL. */
const char *document_choices(const row_store *, int64_t row);
/* The row as one text, as its evaluation would show it with the right answer; the buffer is
 * overwritten.  0: no rule applies (or no memory: then buffer->failed). */
int document_text(const dataset *, int64_t row, text_buffer *);
/* A conversation by the set's chat template, special tokens included; the buffer is overwritten. */
sqz_status document_chat(const dataset *, int64_t row, text_buffer *, sqz_error *err);

/* Adds ids of documents as data_stream does, until `limit` ids are there (limit < 0: all). */
sqz_status documents_stream(const dataset *, tokenizer *, framing, const uint8_t *skip,
                            int64_t limit, id_list *out, sqz_error *err);

/* Marks the rows of `calibration` that also occur in one of the sets.  skip: [rows], zeroed. */
sqz_status documents_mark_leaks(const dataset *calibration, const dataset *const *sets,
                                int64_t n_sets, uint8_t *skip, int64_t *n_marked, sqz_error *err);
sqz_status documents_duplicates(const dataset *, int64_t *n, sqz_error *err);

/* Appends the framed ids of one row. */
typedef struct frame_tokens {
    int32_t bos, eos; /* -1: none */
} frame_tokens;
sqz_status documents_frame(const dataset *, const tokenizer *, framing, frame_tokens *out,
                           sqz_error *err);
sqz_status documents_add(const dataset *, tokenizer *, int64_t row, const frame_tokens *,
                         text_buffer *scratch, id_list *out, sqz_error *err);
#endif
