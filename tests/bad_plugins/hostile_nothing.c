/* hostile_nothing.c - claims success without a result. */
#include "hostile.h"
HOSTILE("hostile_nothing")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host, (void)l;
    return SQZ_OK;
}
