/* hostile_tracker_crash.c - follows a null pointer. */
#include "hostile_tracker.h"
HOSTILE_TRACKER("hostile_tracker_crash")

static sqz_status attack(const sqz_host *host)
{
    volatile int *nothing = NULL;
    (void)host;
    return *nothing;
}
