/* manners.h - what a plugin's call leaves behind in its worker: nothing, or it is named.
 *
 * A worker contains whatever a plugin does, so bad manners cost no result; but somebody should know
 * of them.  After each call of a method or an evaluation the process is compared with what it was
 * before: text on stdout, threads, child processes, the working folder, the environment, the
 * rounding mode, and files in folders that are not the job's (home, the model's and the plugin's).  Folder, rounding mode and temporary files are put right.
 *
 * Limits, because a call takes microseconds and the look must not cost more: only the folders named
 * above, their top level only; a single thread that is left may be a library's pool, so only
 * growth over three calls counts; who wrote a file cannot be known, only that it appeared while the
 * plugin ran.  `sqz plugin check` looks closer. */
#ifndef SQZ_CORE_WORKER_MANNERS_H
#define SQZ_CORE_WORKER_MANNERS_H
#include "host/host.h"

typedef struct manners manners;
/* dir: the job's folder, where stdout goes from now on and TMPDIR lies; model: its folder. */
manners *manners_new(const char *dir, const char *model);
/* Around each call of an agent. */
void manners_before(manners *, const agent_info *);
void manners_after(manners *, const agent_info *);
/* What was seen, [{"agent","did"}], each once; owned by the caller.  Ends the watch. */
cJSON *manners_end(manners *);
#endif
