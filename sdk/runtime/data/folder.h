/* folder.h - the data files of a folder: which subset ("config") and which split each belongs to.
 *
 * A folder is a data set repository as it lies on the hub, a snapshot of the hub's cache, or files
 * put together by hand.  The split is what the name says: SPLIT-00000-of-00001.ext; a word of the
 * file's or a folder's name that means train, validation or test; train where nothing is said.  The
 * subset is the first folder that is neither "data" nor a split.  Left out: the YAML head of
 * README.md. */
#ifndef SQZ_RUNTIME_FOLDER_H
#define SQZ_RUNTIME_FOLDER_H
#include "error/error.h"

typedef enum data_format {
    FORMAT_PARQUET, /* in this order one format is taken where a split has several */
    FORMAT_JSONL,
    FORMAT_JSON,
    FORMAT_CSV,
    FORMAT_TSV,
    FORMAT_TEXT,
    FORMAT_NONE
} data_format;
/* By the ending, also before .gz and .zst. */
data_format format_of(const char *path);

typedef struct data_split {
    char *config; /* "default" where there are no subsets */
    char *name;   /* "train", "validation", "test", or as the files call it */
    data_format format;
    char **files; /* paths, sorted */
    int64_t n_files;
} data_split;

typedef struct data_folder {
    char *path; /* the snapshot's, for a folder of the hub's cache */
    data_split *splits;
    int64_t n_splits;
} data_folder;

sqz_status folder_scan(const char *path, data_folder *out, sqz_error *err);
void folder_free(data_folder *);

/* config NULL: the only one, or "default" or "main".  split NULL: the only one, else test, else
 * validation: what evaluations take.  "dev", "valid" and so on find "validation". */
sqz_status folder_find(const data_folder *, const char *config, const char *split,
                       const data_split **out, sqz_error *err);
/* The files whose path in the folder matches (fnmatch; * stays inside a folder), as a split called
 * `split`; *out NULL: none does.  Pointers to other splits are lost. */
sqz_status folder_match(data_folder *, const char *pattern, const char *split,
                        const data_split **out, sqz_error *err);
/* The split that calibration takes when none is named: calibration, else train, else validation;
 * NULL: there is none. */
const data_split *folder_calibration(const data_folder *, const char *config);
/* "train", "validation", "test" or "calibration" for their other names; the name itself for any
 * other. */
const char *split_meaning(const char *name);
#endif
