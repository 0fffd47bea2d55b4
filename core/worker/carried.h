/* carried.h - what the processes behind carrier.h have in common: a line to the run on descriptor
 * 3, answers, signs of life, and limits that keep a plugin's mistakes its own. */
#ifndef SQZ_CORE_WORKER_CARRIED_H
#define SQZ_CORE_WORKER_CARRIED_H
#include "host/host.h"
#include "worker/channel.h"

typedef struct carried {
    channel line;
    double told_s, done; /* last sign of life, last progress */
} carried;

/* Takes the line over and limits this process; 0 when there is no line: somebody typed the hidden
 * word. */
int carried_begin(carried *, const char *word);
cJSON *carried_message(const char *type);
/* "text", cut to what a frame takes. */
void carried_text(cJSON *message, const char *text);
/* Owns the message. */
void carried_send(carried *, cJSON *message);
/* Waits for the run's next message; NULL when it is gone. */
cJSON *carried_receive(carried *);
/* For host_hooks; ctx is the carried. */
void carried_log(void *ctx, int level, const char *agent_id, const char *text);
int carried_tick(void *ctx, double done, const char *what);
#endif
