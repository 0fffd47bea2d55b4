/* hostile_stack.c - calls itself until the stack is gone. */
#include "hostile.h"
HOSTILE("hostile_stack")

static int64_t deeper(volatile char *above, int64_t depth)
{
    volatile char here[4096];
    here[depth % 4096] = above ? above[0] : 1;
    return depth < 0 ? here[0] : deeper(here, depth + 1) + here[depth % 4096];
}

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host;
    return deeper(NULL, l->rows) == 1 ? SQZ_OK : SQZ_E_INTERNAL;
}
