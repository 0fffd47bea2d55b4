/* hostile_tracker_exit.c - ends its process. */
#include "hostile_tracker.h"
HOSTILE_TRACKER("hostile_tracker_exit")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    exit(0);
}
