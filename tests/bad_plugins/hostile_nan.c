/* hostile_nan.c - hands over scales that are no numbers. */
#include "hostile.h"
#include <math.h>
HOSTILE("hostile_nan")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    return dull(host, l, NAN);
}
