/* hang.c - never comes back and never asks whether to stop. */
#include "bad.h"
#include <unistd.h>
BAD_PLUGIN("hang", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)self, (void)subject;
    host->tick(host, 0.5, "about to hang");
    while (n >= 0) sleep(1);
    return SQZ_OK;
}
