/* witness.c - a well-behaved plugin of a made-up kind: it tells what its arguments were, so that
 * tests see what the host binds, and does on request what good plugins do (log, tick, fail). */
#include <sqz/sqz.h>
#include "witness.h"
#include <string.h>

#define PARAMS(P)                                                                                  \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, big, 0, -9007199254740992.0, 9007199254740992.0, NULL, 0, "a wide whole number")    \
    P(SQZ_REAL, damp, 0.01, 1e-4, 0.5, NULL, SQZ_SEARCH | SQZ_LOG, "ridge")                        \
    P(SQZ_BOOL, act_order, 1, 0, 1, NULL, SQZ_SEARCH, "visit columns by importance")               \
    P(SQZ_CHOICE, order, 1, 0, 2, "none|static|group", 0, "column order")                          \
    P(SQZ_TEXT, note, 0, 0, 0, "as it is", 0, "a remark")                                          \
    P(SQZ_INT, rows, 1, 1, 100, NULL, 0, "a plain range")
SQZ_CALL(witness_run, PARAMS);

static sqz_status witness_run(const sqz_host *host, void *self, void *subject, int64_t bits,
                              int64_t big, double damp, int32_t act_order, int32_t order,
                              const char *note, int64_t rows)
{
    witness *w = subject;
    w->bits = bits;
    w->big = big;
    w->damp = damp;
    w->act_order = act_order;
    w->order = order;
    strncpy(w->note, note, sizeof w->note - 1);
    w->rows = rows;
    w->opened = *(int *)self;
    host->log(host, SQZ_LOG_INFO, "called");
    if (host->tick(host, 0.5, "half way"))
        return host->fail(host, SQZ_E_CANCELLED, "asked to stop");
    if (w->wish == WITNESS_FAIL)
        return sqz_failf(host, SQZ_E_NUMERIC, "damp %g is not enough", damp);
    if (w->wish == WITNESS_SILENT) return SQZ_E_UNSUPPORTED;
    if (w->wish == WITNESS_ODD) return 7;
    w->pool = host->service(host, SQZ_POOL_1);
    w->rng = host->service(host, SQZ_RNG_1);
    w->clock = host->service(host, SQZ_CLOCK_1);
    w->linalg = host->service(host, SQZ_LINALG_1);
    w->unknown = host->service(host, "org.example.unknown/1");
    return SQZ_OK;
}

static int instance = 42;

static sqz_status witness_open(const sqz_host *host, void **self)
{
    (void)host;
    *self = &instance;
    return SQZ_OK;
}

static const void *witness_extension(const char *id)
{
    static const int answer = 4;
    return strcmp(id, "org.example.answer/1") == 0 ? &answer : NULL;
}

static const char *const tags[] = {"test", NULL};
static const sqz_agent agents[] = {
    {sizeof(sqz_agent), 100, "org.example.witness", "witness/1", "Witness",
     "tells what it was given", "1.2.3", "MIT", tags, witness_open, NULL, &witness_run_call,
     witness_extension},
    {sizeof(sqz_agent), 50, "org.example.silent", "witness/1", "Silent", "has no parameters",
     "1.0.0", "MIT", NULL, NULL, NULL, NULL, NULL},
};
static const sqz_plugin plugin = {
    sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 2, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
