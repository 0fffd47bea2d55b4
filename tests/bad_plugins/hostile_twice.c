/* hostile_twice.c - writes through memory that is not its own, then frees it twice. */
#include "hostile.h"
HOSTILE("hostile_twice")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host;
    void *volatile weight = (void *)(uintptr_t)l->weight;
    memset((char *)weight - 256, 0, 4096);
    for (int i = 0; i < 2; i++) free(weight);
    abort();
}
