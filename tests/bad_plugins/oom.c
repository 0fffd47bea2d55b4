/* oom.c - takes memory until somebody objects. */
#include "bad.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
BAD_PLUGIN("oom", 1, 0)
SQZ_PLUGIN_STAMP(0);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)self, (void)subject;
    volatile int64_t sum = 0; /* the compiler drops blocks that nobody reads */
    for (int64_t i = 0; i < 4096; i++) {
        char *block = malloc(4 << 20);
        if (!block) return host->fail(host, SQZ_E_NOMEM, "no memory for another block");
        memset(block, (int)(i + n), 4 << 20);
        sum += *(volatile char *)block;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return sum == 1 ? SQZ_E_INTERNAL : SQZ_OK;
}
