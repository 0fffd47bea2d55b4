/* tracking.h - a run told to trackers, without the run noticing.
 *
 * The run's thread turns its events into records and puts them into a bounded queue; nothing it
 * does here touches a disk or waits.  One thread writes the queue to a spool file for each tracker
 * (spool.h); one thread for each tracker hands the spool's records to the plugin, in order, and
 * tries again later when that fails.  Whatever is left when the run ends stays in the spool until
 * `sqz sync`.  What never reached the spool is made again from the run folder (events.h).
 * A tracker that fails is told as a warning; it never is an error of the run.
 * Each plugin runs in a process of its own (carrier.h): one that crashes or hangs is named, and put
 * aside after the third time. */
#ifndef SQZ_CORE_TRACKER_TRACKING_H
#define SQZ_CORE_TRACKER_TRACKING_H
#include "coordinator/run.h"
#include "host/host.h"

typedef struct tracking tracking;
typedef struct tracking_options {
    const catalogue *catalogue; /* borrowed */
    const char *dir;            /* run folder */
    const cJSON *trackers;      /* [{"use","with"}]; NULL = those that have a spool in dir */
    void (*log)(void *ctx, int level, const char *text); /* only from the caller's thread */
    void *ctx;
    double retry_s;   /* first pause after a failure, doubled up to 60 s; 0 = 1 */
    double silence_s; /* a plugin that says nothing for so long is hung; 0 = 10 */
} tracking_options;

/* Are the trackers of a configuration known, their parameters legal and free of secrets? */
sqz_status tracking_check(const cJSON *trackers, const catalogue *, sqz_error *err);

/* Starts the threads.  A tracker whose spool cannot be opened is left out with a warning.  Fails
 * only when dir holds no run. */
sqz_status tracking_open(const tracking_options *, tracking **out, sqz_error *err);
/* An observer of runs (ctx = tracking). */
void tracking_observe(void *tracking, const run_event *);
/* Adds what the folder holds and was not told; with `ended` the files and the end, too, which the
 * writing thread then reads. */
void tracking_add_folder(tracking *, int ended);
/* Waits until everything is delivered, at most total_s, and only while every quiet_s something
 * moves.  max_failures > 0: gives up after so many failed attempts in a row; 0: at the first. */
typedef struct tracking_wait {
    double total_s, quiet_s;
    int max_failures;
    int (*stop)(void *ctx); /* may be NULL */
    void *ctx;
} tracking_wait;
void tracking_drain(tracking *, const tracking_wait *);
/* The end of a run, as `sqz run` does it: the folder, then a wait that with all that tracking cost
 * before stays below 1 % of elapsed_s.  What is left is told in one line. */
void tracking_finish(tracking *, double elapsed_s);

/* [{"name","agent","events","delivered","rejected","error"}]; caller frees. */
cJSON *tracking_status(tracking *);
int64_t tracking_undelivered(tracking *);
/* Seconds of the caller's thread that tracking has taken so far. */
double tracking_cost_s(const tracking *);
/* Stops the threads; a call that is under way is given up, its process killed. */
void tracking_close(tracking *);
#endif
