/* hostile_memory.c - takes memory without end. */
#include "hostile.h"
#include <time.h>
HOSTILE("hostile_memory")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    volatile char sum = 0; /* the compiler drops blocks that nobody reads */
    (void)l;
    for (;;) {
        char *block = malloc(8 << 20);
        if (!block) return host->fail(host, SQZ_E_NOMEM, "no memory for another block");
        memset(block, 1, 8 << 20);
        sum = (char)(sum + *(volatile char *)block);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}
