/* probe.h - questions about this machine and this installation, for `sqz doctor`.
 *
 * A probe runs in a child process, because it may load a plugin that crashes or look at a folder
 * that hangs; its rows come back through a pipe. */
#ifndef SQZ_CORE_CLI_PROBE_H
#define SQZ_CORE_CLI_PROBE_H
#include "cli/cli.h"

typedef enum probe_state { PROBE_OK, PROBE_WARN, PROBE_FAIL } probe_state;

/* Appends {"group","name","state","text","remedy"} to rows (an array); remedy may be NULL. */
void probe_row(cJSON *rows, const char *group, const char *name, probe_state, const char *remedy,
               const char *fmt, ...) __attribute__((format(printf, 6, 7)));

typedef struct probe {
    const char *group;
    int exit_code; /* of a failure: the group is required */
    void (*run)(const cli *, cJSON *rows);
} probe;
extern const probe probes[];
extern const int n_probes;

/* Runs one probe for at most limit_s seconds; a crash or a hang becomes a failed row.  Returns 0
 * when the user interrupted it. */
int probe_run(const probe *, const cli *, double limit_s, cJSON *rows);
#endif
