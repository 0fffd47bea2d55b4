/* sink.h - one tracker of a run: its spool and the thread that delivers it. */
#ifndef SQZ_CORE_TRACKER_SINK_H
#define SQZ_CORE_TRACKER_SINK_H
#include "host/host.h"
#include "io/clock.h"
#include "tracker/spool.h"
#include <pthread.h>
#include <stdatomic.h>

typedef struct sink {
    const char *folder;     /* run folder, borrowed */
    char *name;             /* "mlflow", of its spool */
    const agent_info *info; /* borrowed from the catalogue */
    spool *spool;
    double retry_s, silence_s;
    void (*tell)(void *ctx, int level, const char *text); /* [any] */
    void *ctx;

    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* new records, or stop */
    atomic_int stop;
    atomic_int failures;     /* attempts in a row that failed */
    atomic_int dead;         /* can do nothing in this process */
    _Atomic double moved_s;  /* monotonic: when something last went forward */
    _Atomic double later_s;  /* pause that the tracker asked for */
    _Atomic double called_s; /* since when a call of the plugin is on its way; 0 = none */
    char *log;               /* file for what the plugin prints; this thread's */
    char error[1024];        /* the last failure; under lock */
} sink;

sqz_status sink_start(sink *, sqz_error *err);
void sink_wake(sink *);
/* Stops and joins the thread, closes the spool. */
void sink_stop(sink *);
#endif
