/* hostile_duplicate.c - claims the id of a bundled method. */
#include "hostile.h"
HOSTILE_ID("org.sqz.rtn")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host, (void)l;
    abort();
}
