/* carried.h - what the processes behind carrier.h have in common: a line to the run on descriptor
 * 3, answers, signs of life, and limits that keep a plugin's mistakes its own. */
#ifndef SQZ_CORE_WORKER_CARRIED_H
#define SQZ_CORE_WORKER_CARRIED_H
#include "host/host.h"
#include "worker/channel.h"

typedef struct carried {
    channel line;
    double told_s, done; /* last sign of life, last progress */
    cJSON *opened;       /* the request of carried_open: owns the strings of info */
    agent_info info;
    host *host;
    agent *agent;
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
/* Opens the agent that the request names (carrier_name).  Owns the request: its strings live as
 * long as the agent. */
sqz_status carried_open(carried *, cJSON *request, sqz_error *err);
/* Hands the agent the parameters of that request. */
sqz_status carried_set(carried *, sqz_error *err);
/* Answers call by call until the run is gone.  `one` may take the request over by setting it to
 * NULL, and may add to the answer. */
typedef sqz_status carried_call(void *ctx, cJSON **request, cJSON *answer, sqz_error *err);
void carried_serve(carried *, carried_call *one, void *ctx);
/* Ends the process without the plugin's destructors, which are none of our business. */
_Noreturn void carried_end(carried *);
#endif
