/* segv.c - reads from where nothing is mapped when run. */
#include "bad.h"
BAD_PLUGIN("segv", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    /* Not null: an undefined-behaviour sanitizer would step in. */
    volatile int *nowhere = (volatile int *)(uintptr_t)(16 * n);
    (void)self, (void)subject;
    host->tick(host, 0.25, "model.layers.0.self_attn.q_proj");
    return *nowhere;
}
