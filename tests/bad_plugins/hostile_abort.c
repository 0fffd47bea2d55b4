/* hostile_abort.c - calls abort. */
#include "hostile.h"
HOSTILE("hostile_abort")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host, (void)l;
    abort();
}
