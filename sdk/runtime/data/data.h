/* data.h - data sets: rows of JSONL or a text file, recognised by their fields; token streams and
 * calibration windows made from them (contracts.md, "One-step commands"). */
#ifndef SQZ_RUNTIME_DATA_H
#define SQZ_RUNTIME_DATA_H
#include "error/error.h"
#include "tokenizer/tokenizer.h"
#include <sqz/eval.h>

typedef enum data_kind {
    DATA_TEXT,     /* {text} rows, or a .txt file: perplexity      */
    DATA_GENERATE, /* {question, answer}: generation, exact match  */
    DATA_CHOICE,   /* {ctx|question, endings|choices, label|answer}, {query, choices, gold} */
    DATA_OTHER     /* readable rows that no rule above recognises  */
} data_kind;

typedef struct dataset {
    sqz_rows rows;   /* what evaluations see; rows.impl = this */
    char *path;
    data_kind kind;
    int is_txt;      /* one document, a plain text file */
    char digest[72]; /* of the file's bytes */
} dataset;

/* spec: FILE, or NAME=FILE (the name is used as the key of results; a known task's own protocol is
 * not built yet and NAME of a known task is refused by name).  A name that is neither a file nor
 * NAME=FILE is refused with that explanation.  An empty file is an error that says so. */
sqz_status dataset_open(const char *spec, dataset **out, sqz_error *err);
void dataset_close(dataset *);

typedef enum framing { FRAME_DEFAULT, FRAME_NONE, FRAME_BOS, FRAME_EOS, FRAME_BOS_EOS } framing;
int framing_parse(const char *text, framing *out); /* 0 when the word is unknown */

/* The contract's token stream of a DATA_TEXT set: each document framed, all concatenated.  skip
 * (may be NULL) drops rows: skip[i] != 0.  *ids is malloc'd. */
sqz_status data_stream(const dataset *, tokenizer *, framing, const uint8_t *skip, int32_t **ids,
                       int64_t *n, sqz_error *err);

typedef struct calibration {
    int32_t *ids;      /* [windows, window] */
    int64_t windows, window;
    int64_t left_out;  /* rows dropped because they also occur in the evaluation data */
    char digest[72];   /* of the ids and the shape: the key of all statistics */
} calibration;

typedef struct calibration_options {
    int64_t samples;   /* windows wanted; fewer when the data ends */
    int64_t seq_len;
    int shuffle;       /* draw windows by the seed instead of taking the first */
    uint64_t seed;
    framing frame;
    const dataset *const *leak_check; /* evaluation sets whose rows must not be used, or NULL */
    int64_t n_leak_check;
} calibration_options;
/* Rows of other kinds are rendered as text first (question and answer, context and right choice).
 * Rows whose text or question also occurs in a leak_check set are left out and counted. */
sqz_status calibration_make(const dataset *, tokenizer *, const calibration_options *,
                            calibration *out, sqz_error *err);
void calibration_free(calibration *);
#endif
