/* carrier.h - a plugin in a process of its own for as long as a run lasts (a tracker, the search),
 * and the calls that reach it there.
 *
 * A plugin may crash, hang, eat memory or print: that costs its process, never the run.  One call
 * is on its way at a time; while it is, the process must say something (a tick of the plugin) every
 * few seconds or it is taken for hung and killed.  Killing is always safe: what a tracker had not
 * confirmed is handed over again, and a search is told and asked the same again.
 * The process's stdout and stderr go to a file.  Left out: trying again, and when to give up (sink.c
 * and searcher.c decide both). */
#ifndef SQZ_CORE_WORKER_CARRIER_H
#define SQZ_CORE_WORKER_CARRIER_H
#include "host/host.h"

typedef struct carrier carrier;
typedef struct carrier_hooks {
    void (*log)(void *ctx, int level, const char *text);
    /* those three may be NULL */
    void (*moved)(void *ctx); /* the plugin got further */
    void (*later)(void *ctx, double seconds);
    sqz_status (*save)(void *ctx, const char *text, sqz_error *err);
    int (*stop)(void *ctx); /* polled while a call is on its way; non-zero kills the process */
    void *ctx;
} carrier_hooks;
typedef struct carrier_options {
    const agent_info *info; /* borrowed, as all of these */
    const char *what;       /* "tracker", "search": for messages, and `sqz --WHAT` is started */
    const char *log;        /* file for what the process prints */
    double silence_s;       /* without a word for so long: hung; 0 = 10 */
    carrier_hooks hooks;
} carrier_options;

/* Starts the process; nothing of the plugin runs before the first call.  The thread that starts it
 * must live as long as it does. */
sqz_status carrier_start(const carrier_options *, carrier **out, sqz_error *err);
/* One call, {"call":name,...}; owns the request.  What the plugin answered, or
 * ERR_PLUGIN when the process is lost (carrier_lost), or SQZ_E_CANCELLED after stop. */
sqz_status carrier_call(carrier *, cJSON *request, sqz_error *err);
/* The same with the whole answer, which the caller frees. */
sqz_status carrier_ask(carrier *, cJSON *request, cJSON **answer, sqz_error *err);
/* Adds to the first request which agent is to be opened, and with which parameters. */
void carrier_name(cJSON *request, const agent_info *, const cJSON *with);
int carrier_lost(const carrier *);
/* Lets an idle process end for a moment, kills it otherwise. */
void carrier_end(carrier *);

/* The hidden children: `sqz --tracker`, `sqz --search`. */
int carrier_main(void);
int searcher_main(void);
#endif
