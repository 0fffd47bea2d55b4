/* newer_needs.c - needs a host of a later minor; its constructor must never run. */
#include "bad.h"
#include <stdlib.h>
BAD_PLUGIN("newer_needs", 1, 9)
SQZ_PLUGIN_STAMP(9);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return SQZ_OK;
}

__attribute__((constructor)) static void never(void)
{
    abort();
}
