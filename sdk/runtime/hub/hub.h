/* hub.h - models and data sets by their name on the Hugging Face hub (docs/hub.md).
 *
 * The cache on disk is that of huggingface_hub (HF_HOME, HF_HUB_CACHE), so what either program has
 * downloaded the other finds.  Names, file names and headers are foreign: none of them can lead
 * out of the cache.  Every downloaded file is checked against its hash before it gets its name.
 * Left out: pickled weights (they execute code), the Xet protocol, uploads, git. */
#ifndef SQZ_RUNTIME_HUB_H
#define SQZ_RUNTIME_HUB_H
#include "error/error.h"

typedef struct hub_hooks {
    int (*tick)(void *ctx, double done, const char *what); /* non-zero cancels; may be NULL */
    void (*log)(void *ctx, const char *text);              /* a line for the user; may be NULL */
    void *ctx;
} hub_hooks;

typedef enum hub_want { HUB_CONFIG, HUB_TOKENIZER, HUB_MODEL } hub_want; /* each with the former */

/* Has the text the form owner/name[@revision]? */
int hub_is_name(const char *text);
/* The folder (malloc'd) that holds the files of a model: from the cache, else downloaded. */
sqz_status hub_model(const char *name, hub_want, const hub_hooks *, char **folder, sqz_error *err);
/* owner/name[@revision][:subset[:split]] as the spec of a local folder (malloc'd), with its files
 * in the cache.  NAME= in front is kept. */
sqz_status hub_dataset(const char *spec, int for_calibration, const hub_hooks *, char **local,
                       sqz_error *err);
/* A task (task/task.h) by its bare name, or its definition's path, as NAME=FOLDER (malloc'd) with
 * the files of the splits it needs in the cache: those that are measured and its examples', or its
 * training rows for a calibration.  shots < 0: as many as the task says.  One that names no
 * repository, or files of its own, stays as it is. */
sqz_status hub_task(const char *name, int64_t shots, int for_calibration, const hub_hooks *,
                    char **local, sqz_error *err);
/* Has a data set's spec that form, and is no file or folder of that name here? */
int hub_is_dataset(const char *spec);
#endif
