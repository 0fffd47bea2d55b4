/* no_stamp.c - a shared object that never meant to be a plugin. */
#include "bad.h"
#include <stdlib.h>
BAD_PLUGIN("no_stamp", 1, 0)

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return SQZ_OK;
}

__attribute__((constructor)) static void never(void)
{
    abort();
}
