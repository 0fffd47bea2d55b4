/* hostile_child.c - leaves a process behind at every call. */
#include "hostile.h"
#include <unistd.h>
HOSTILE("hostile_child")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    if (fork() == 0)
        for (;;) sleep(1);
    return dull(host, l, 0x1p-10f);
}
