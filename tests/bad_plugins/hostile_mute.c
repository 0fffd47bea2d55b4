/* hostile_mute.c - fails without a word, with a status that does not exist. */
#include "hostile.h"
HOSTILE("hostile_mute")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    (void)host, (void)l;
    return -77;
}
