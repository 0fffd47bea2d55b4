/* hang_in_constructor.c - never finishes loading. */
#include "bad.h"
#include <unistd.h>
BAD_PLUGIN("hang_in_constructor", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return SQZ_OK;
}

__attribute__((constructor)) static void wait_for_ever(void)
{
    for (;;) sleep(1);
}
