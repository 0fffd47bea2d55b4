/* hostile_exit.c - ends the process as if all were well. */
#include "hostile.h"
HOSTILE("hostile_exit")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host, (void)l;
    exit(0);
}
