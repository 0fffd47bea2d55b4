/* sqz/tracker.h - where a study is logged besides its run folder: a tracking server, a file.
 *
 * The host turns a run into a sequence of events, keeps them in a spool file of the run folder and
 * hands them, in order, to the tracker on a thread of its own: a tracker may be slow, fail or wait
 * for its server without disturbing the run.  What is not delivered when the run ends is delivered
 * later by `sqz sync`.
 *
 * Exactly once: an event counts as delivered when a flush after it succeeded.  After a failure or a
 * crash the host hands over again everything since then, so a tracker must recognise what it has
 * already done.  For that an event carries a sequence number, a key and a time that never change,
 * and save() keeps a text of the tracker's (ids that a server gave out) across crashes.
 *
 * Offered through extension("sqz.tracker/1") of an agent of kind "tracker/1"; the agent's `run`,
 * when present, is only a parameter list bound once before begin (subject NULL).  Parameters end up
 * in the run folder: a secret must come from the environment or a file, never from a parameter. */
#ifndef SQZ_TRACKER_H
#define SQZ_TRACKER_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_TRACKER_1 "sqz.tracker/1"

/* One study, borrowed from begin to end. */
typedef struct sqz_tracking sqz_tracking;
struct sqz_tracking {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;         /* the host's */
    const char *study;  /* JSON: {"id","name","experiment","model","datasets","objectives",
                           "started_ms","version","seed","params":{},"tags":{},"registered_model"} */
    const char *folder; /* the run folder, absolute; paths in events are relative to it */
    const char *state;  /* what the last save() kept, or NULL */
    /* Keeps a text (at most 4 MiB, valid UTF-8): durable when it returns.  [call] */
    sqz_status (*save)(const sqz_tracking *, const char *text);
    /* The other side asked for a pause before the next attempt (Retry-After).  [call] */
    void (*later)(const sqz_tracking *, double seconds);
};
SQZ_SEALED(sqz_tracking, later, 56);

/* Kinds and their JSON (unknown kinds and keys are to be skipped; metrics are arrays of
 * {"name","value","step"}, always finite):
 *   trial_begin  {"trial","label","index","kind","proposed_by","why","params":{},"steps":[]}
 *   trial_end    {"trial",...,"outcome","reason","feasible","front","violations":[],"artifact",
 *                 "seconds","metrics":[],"nonfinite":[]}   everything of trial_begin, too
 *   progress     {"metrics":[]}                            of the study; step = trial number
 *   front        {"members":[trial],"objectives","reference","hypervolume","metrics":[]}
 *   export       {"trial","path","format","bytes"}
 *   file         {"path","bytes","sha256","media_type"}    of the study, to be kept beside it
 *   end          {"state":"done|interrupted|failed","summary" (Markdown),"recommended":{}|absent}
 *   resume       {}                                        the study goes on after an end */
typedef struct sqz_track_event {
    uint32_t struct_size;
    uint32_t zero;
    int64_t seq;     /* counts from 1 without gaps over the study */
    int64_t time_ms; /* since 1970, when it happened */
    const char *kind;
    const char *key;  /* unique in the study, such as "trial_end/s0007" */
    const char *json; /* an object */
} sqz_track_event;
SQZ_SEALED(sqz_track_event, json, 48);

typedef struct sqz_tracker {
    uint32_t struct_size;
    uint32_t zero;
    /* Called once, first; should not need the network.  [call] */
    sqz_status (*begin)(const sqz_host *, void *self, const sqz_tracking *);
    /* SQZ_E_IO: try again later.  SQZ_E_INVALID or SQZ_E_UNSUPPORTED: this event can never be
     * delivered; it is told to the user and skipped.  Calls tick() while it waits.  [call] */
    sqz_status (*event)(const sqz_host *, void *self, const sqz_track_event *);
    /* Everything accepted so far is delivered when it returns SQZ_OK; may be NULL when event()
     * delivers at once.  [call] */
    sqz_status (*flush)(const sqz_host *, void *self);
    /* No more events in this session; must not wait.  May be NULL.  [call] */
    void (*end)(const sqz_host *, void *self);
} sqz_tracker;
SQZ_SEALED(sqz_tracker, end, 40);

#ifdef __cplusplus
}
#endif
#endif
