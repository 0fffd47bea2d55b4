/* exit_in_constructor.c - ends the process that loads it. */
#include "bad.h"
#include <stdio.h>
#include <stdlib.h>
BAD_PLUGIN("exit_in_constructor", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return SQZ_OK;
}

__attribute__((constructor)) static void leave(void)
{
    fprintf(stderr, "licence server not found\n");
    exit(0);
}
