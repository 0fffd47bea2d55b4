/* services.h - the tables that host->service(id) hands to plugins, and what stands behind a sqz_host. */
#ifndef SQZ_CORE_HOST_SERVICES_H
#define SQZ_CORE_HOST_SERVICES_H
#include "host/host.h"

/* What sqz_host.impl points to: one for each opened agent. */
typedef struct host_seat {
    host *owner;
    const agent_info *info;
    sqz_host table;     /* ours ... */
    const sqz_host *shown; /* ... and the one that the agent was given, mostly the same */
    sqz_status code;    /* of the last fail(), 0 = none since the call began */
    sqz_status own;     /* the core's code behind it (host_fail), 0 = none */
    char text[768];     /* of the last fail() */
} host_seat;

struct host {
    host_hooks hooks;
    void (*enter)(void *ctx, const agent_info *); /* or NULL, as leave */
    void (*leave)(void *ctx, const agent_info *);
    void *enter_ctx;
    const sqz_host *(*dress)(void *ctx, const sqz_host *); /* or NULL */
    void *dress_ctx;
    device device; /* hw NULL until host_set_device */
};

/* Fills seat->table. */
void seat_init(host_seat *, host *, const agent_info *);
#endif
