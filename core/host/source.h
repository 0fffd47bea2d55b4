/* source.h - what a data plugin reads, opened, and the rows that it gives.
 *
 * Runs the plugin in this process: only workers and checks call it. */
#ifndef SQZ_CORE_HOST_SOURCE_H
#define SQZ_CORE_HOST_SOURCE_H
#include "hash/sha256.h"
#include "host/host.h"
#include "io/file.h"

typedef struct source {
    sqz_source table;
    char *name, *path;        /* behind the table */
    char digest[DIGEST_TEXT]; /* of the file's bytes as they lie on the disk; "": it is no file */
    file_map map;
    char *unpacked; /* of .gz and .zst */
} source;

/* A file is mapped, and unpacked in memory; everything else is a name.  ERR_MODEL when a file
 * cannot be read. */
sqz_status source_open(const char *text, source *out, sqz_error *err);
void source_close(source *);

/* File name without folder and without .gz or .zst; malloc'd. */
char *source_name(const char *text);

/* row: borrowed; anything but SQZ_OK ends the reading with that status. */
typedef sqz_status (*source_row)(void *ctx, const cJSON *row, sqz_error *err);
/* Calls the agent's `run` for the source, then its next() to the end.  Looks for a stop (tick)
 * before the first row and all the time between rows.  *n: rows that were given. */
sqz_status source_read(agent *, const sqz_source *, const cJSON *with, source_row row, void *ctx,
                       int64_t *n, sqz_error *err);

/* Agents of kind data/1, best rank first, that claim the name by its ending, or with name NULL all
 * that can be asked by probe(); returns their number, at most room. */
int source_readers(const catalogue *, const char *name, const agent_info **out, int room);
#endif
