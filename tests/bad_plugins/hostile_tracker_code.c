/* hostile_tracker_code.c - returns a status that does not exist. */
#include "hostile_tracker.h"
HOSTILE_TRACKER("hostile_tracker_code")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    return -12345;
}
