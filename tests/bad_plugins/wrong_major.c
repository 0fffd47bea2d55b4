/* wrong_major.c - stamped for ABI 2; its constructor must never run. */
#include "bad.h"
#include <stdlib.h>
BAD_PLUGIN("wrong_major", 2, 0)
SQZ_STAMP static const char stamp[] = "sqz-abi 2.3";

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return SQZ_OK;
}

__attribute__((constructor)) static void never(void)
{
    abort();
}
