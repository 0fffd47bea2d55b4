/* convert.h - data sets that only a data plugin can read, as data sets that everybody can.
 *
 * The parent's side of task_convert.c: decides whether a plugin is needed, runs it in a worker, and
 * gives the spec of the file of JSON lines that it made.  A plugin that crashes is a sentence. */
#ifndef SQZ_CORE_CONVERT_H
#define SQZ_CORE_CONVERT_H
#include "host/host.h"
#include "worker/worker.h"

typedef struct reader_choice {
    const char *use;   /* data plugin by name, or NULL: by the file */
    const cJSON *with; /* its parameters, or NULL */
} reader_choice;

typedef struct convert_options {
    const catalogue *catalogue;
    const char *store; /* registry folder */
    worker_limits limits;
    const worker_hooks *hooks; /* or NULL */
} convert_options;

/* Is it worth opening a catalogue?  A plugin is named, or the spec is a file that the built-in
 * readers do not know by its ending. */
int convert_may_need(const char *spec, const reader_choice *);

/* *local (malloc'd): the spec itself where no data plugin is needed, else NAME=FILE with the rows.
 * *facts (may be NULL): the job's result, NULL when nothing was read. */
sqz_status convert_dataset(const convert_options *, const char *spec, const reader_choice *,
                           char **local, cJSON **facts, sqz_error *err);
/* The same for every part of a mix, A@2,B@1. */
sqz_status convert_mix(const convert_options *, const char *mix, const reader_choice *,
                       char **local, sqz_error *err);
#endif
