/* data.h - data sets: rows of files and folders, recognised by their fields; token streams and
 * calibration windows made from them (docs/data.md). */
#ifndef SQZ_RUNTIME_DATA_H
#define SQZ_RUNTIME_DATA_H
#include "error/error.h"
#include "tokenizer/tokenizer.h"
#include <sqz/eval.h>

typedef enum data_kind {
    DATA_TEXT,     /* {text} rows, or a .txt file: perplexity      */
    DATA_GENERATE, /* {question, answer}: generation, exact match  */
    DATA_CHOICE,   /* {ctx|question, endings|choices, label|answer}, {query, choices, gold} */
    DATA_OTHER,    /* readable rows that no rule above recognises  */
    DATA_TASK,     /* the requests of a known or declared task      */
    DATA_CHAT      /* {messages}: conversations; for calibration, by the model's chat template */
} data_kind;
const char *data_kind_name(data_kind);

typedef struct dataset {
    sqz_rows rows; /* what evaluations see; rows.impl = this */
    char *path;
    data_kind kind;
    int is_txt;           /* one document, a plain text file */
    char digest[72];      /* of the file's bytes; of several files: of their names and digests */
    char *config, *split; /* of a folder; NULL for a file */
    int64_t n_files;
    const struct chat *chat; /* of DATA_CHAT: the template that renders it; set by the caller, NULL
                                = none */
    struct task *task;       /* of DATA_TASK: whose requests the rows are */
} dataset;

/* spec: FILE, FOLDER, FOLDER:SPLIT or FOLDER:SUBSET:SPLIT, each also as NAME=... (the name is used
 * as the key of results); TASK=FILE or TASK=FOLDER for the requests of a known task or of a task
 * definition's path (task/task.h).  What is none of these is refused with that explanation.  An
 * empty file is an error that says so.  A folder without a split gives its test split, else
 * validation. */
sqz_status dataset_open(const char *spec, dataset **out, sqz_error *err);

typedef struct dataset_options {
    const char *config, *split; /* of a folder, when the spec names none; NULL = the usual */
    int for_calibration;        /* a folder's training rows by default, never its test split */
    const char *const *fields;  /* only these top-level fields are wanted (Parquet skips the other
                                   columns), or NULL */
    int64_t n_fields;
    int64_t max_rows;          /* 0 = all */
    const char *const *header; /* columns of CSV and TSV files that have no header line, or NULL */
    int64_t n_header;
    int cells_as_text;   /* CSV and TSV: no cell is a number or missing */
    int any_rows;        /* rows of every kind and mixture, unchecked */
    const char *pattern; /* of a folder: read the files that match (fnmatch), if any do */
    int64_t shots;       /* of a task: examples before each row + 1; 0 = as the task says */
} dataset_options;
sqz_status dataset_open_with(const char *spec, const dataset_options *, dataset **out,
                             sqz_error *err);
/* The digest that dataset_open_with would give, from the bytes alone: rows are not read. */
sqz_status dataset_digest(const char *spec, const dataset_options *, char digest[72],
                          sqz_error *err);
/* The FILE or FOLDER part of a spec that exists (malloc'd), or NULL. */
char *dataset_path(const char *spec);
/* The task behind the rows of one of these data sets, or NULL (also for rows of another make). */
struct task *dataset_task(const sqz_rows *);
void dataset_close(dataset *);
/* The view `rows` becomes the n rows order[0], order[1], ...; borrowed until the set is closed. */
void dataset_reorder(dataset *, const int64_t *order, int64_t n);

typedef enum framing { FRAME_DEFAULT, FRAME_NONE, FRAME_BOS, FRAME_EOS, FRAME_BOS_EOS } framing;
int framing_parse(const char *text, framing *out); /* 0 when the word is unknown */

/* The contract's token stream of a DATA_TEXT set: each document framed, all concatenated.  skip
 * (may be NULL) drops rows: skip[i] != 0.  *ids is malloc'd. */
sqz_status data_stream(const dataset *, tokenizer *, framing, const uint8_t *skip, int32_t **ids,
                       int64_t *n, sqz_error *err);

/* How rows become windows. */
typedef enum packing {
    PACK_CONCAT, /* all rows, framed, are one stream that is cut into windows; the rest drops out */
    PACK_DOCUMENT, /* each window lies inside one row; rows shorter than a window are passed over */
    PACK_ROW       /* each row is one window, cut where it is longer; nothing is padded */
} packing;
int packing_parse(const char *text, packing *out); /* 0 when the word is unknown */

typedef struct calibration {
    int32_t *ids; /* the windows behind each other */
    int64_t windows;
    int64_t window;      /* tokens of each; with `lengths` the most of any */
    int32_t *lengths;    /* tokens of each window, falling, or NULL: all are full */
    int64_t left_out;    /* rows dropped because they also occur in the evaluation data */
    int64_t passed_over; /* rows shorter than a window (PACK_DOCUMENT) */
    char digest[72];     /* of the ids and the shape: the key of all statistics */
} calibration;
int64_t calibration_tokens(const calibration *);

typedef struct calibration_options {
    int64_t samples; /* windows wanted; fewer when the data ends */
    int64_t seq_len;
    int shuffle; /* draw windows by the seed instead of taking the first */
    uint64_t seed;
    framing frame;
    const dataset *const *leak_check; /* evaluation sets whose rows must not be used, or NULL */
    int64_t n_leak_check;
    packing packing;
    int64_t tokens; /* when set: as many windows as hold about so many tokens, not `samples` */
} calibration_options;
/* Rows of other kinds are rendered as text first (question and answer, context and right choice).
 * Rows whose text or question also occurs in a leak_check set are left out and counted. */
sqz_status calibration_make(const dataset *, tokenizer *, const calibration_options *,
                            calibration *out, sqz_error *err);

typedef struct calibration_part {
    const dataset *data;
    double weight;             /* share of the windows, relative to the other parts' */
    int64_t windows, left_out; /* out */
} calibration_part;
/* Several sets in one calibration.  Each gives its share of the windows, evenly spread over the
 * whole; one that has less gives what it has, and the others do not make up for it. */
sqz_status calibration_mix(calibration_part *, int64_t n_parts, tokenizer *,
                           const calibration_options *, calibration *out, sqz_error *err);
void calibration_free(calibration *);

/* "FILE", or "FILE@2,FOLDER:train@1": data sets with their weights (1 when not given).  A text that
 * is itself a data set is one part.  Every string is malloc'd; free with mix_free. */
typedef struct mix_spec {
    char **specs;
    double *weights;
    int64_t n;
} mix_spec;
int mix_is_one(const char *text); /* a data set that is here, whatever @ and , are in its path */
sqz_status mix_parse(const char *text, mix_spec *out, sqz_error *err);
void mix_free(mix_spec *);
#endif
