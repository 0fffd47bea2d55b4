/* room.h - memory and disk that a run has left: what a step will take, whether it fits, and a watch
 * over both while it runs.
 *
 * Sizes are predicted from shapes and bit widths.  A candidate that needs more memory than is
 * allowed is refused (plan_refusal, a function of the recorded inputs alone, so that resume decides
 * alike).  A full disk stops the run before the step, to be resumed: the next candidate would meet
 * the same disk. */
#ifndef SQZ_CORE_ROOM_H
#define SQZ_CORE_ROOM_H
#include "config/config.h"
#include "model/model.h"

/* What is left now; -1 = unknown. */
typedef struct room {
    int64_t memory_bytes, memory_total; /* available, and of the machine or its control group */
    int64_t store_bytes, run_bytes;     /* free where the registry and the run folder lie */
} room;
void room_look(const char *store, const char *dir, room *out);

/* What one job will write. */
typedef struct room_need {
    double store, run; /* bytes */
} room_need;
/* rung: "proxy" writes an artifact, "export" a checkpoint; the others next to nothing. */
room_need room_predict(const model_config *, const cJSON *spec, const config *, const cJSON *steps,
                       const char *rung);
/* Why the job must not start, with what would fit; malloc'd, NULL when it may. */
char *room_refusal(const cJSON *spec, const room_need *, const char *store, const char *dir,
                   const room *);

/* What was low at the last look, so that each shortage is told once. */
typedef struct room_monitor {
    double looked_s;
    int memory_low, store_low, run_low;
} room_monitor;
/* A sentence for each shortage that began since the last look, malloc'd; NULL when none did.
 * A shortage is over when half as much again as its threshold is free. */
char *room_watch(room_monitor *, const cJSON *spec, const char *store, const char *dir,
                 const room *);

/* Settings under which the steps would fit into `limit` bytes, as "; calibration.samples=64 would
 * fit"; "" when none is known.  malloc'd. */
char *room_advice(const model_config *, const cJSON *spec, double limit);
#endif
