/* hostile_inf.c - hands over infinite scales. */
#include "hostile.h"
#include <math.h>
HOSTILE("hostile_inf")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    return dull(host, l, INFINITY);
}
