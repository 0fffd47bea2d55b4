/* segv.c - reads through a null pointer when run. */
#include "bad.h"
BAD_PLUGIN("segv", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    volatile int *nowhere = NULL;
    (void)self, (void)subject, (void)n;
    host->tick(host, 0.25, "model.layers.0.self_attn.q_proj");
    return *nowhere;
}
