/* events.h - what trackers are told, made from a run's events and from the files of its folder.
 *
 * Both ways give the same records with the same keys, so that whatever the live way missed (a kill,
 * a full queue) is added from the folder later, and nothing is there twice.
 * A record is {"type": kind, "key", "time_ms", "data": the JSON of sqz/tracker.h}. */
#ifndef SQZ_CORE_TRACKER_EVENTS_H
#define SQZ_CORE_TRACKER_EVENTS_H
#include "coordinator/run.h"

int64_t events_now_ms(void);
/* Records of one event of a run, as an array; NULL when trackers are not told of it. */
cJSON *events_of_run(const run_event *, const cJSON *objectives /* names */);
/* The description of the study, from run.json of the folder.  ERR_MODEL when it is no run. */
sqz_status events_study(const char *dir, cJSON **study, sqz_error *err);

enum { EVENTS_ENDED = 1, EVENTS_LIVE = 0 };
/* Everything that the folder's files say, in an order that makes sense; with EVENTS_ENDED also the
 * files to keep and the end. */
sqz_status events_of_folder(const char *dir, int ended, cJSON **records, sqz_error *err);
#endif
