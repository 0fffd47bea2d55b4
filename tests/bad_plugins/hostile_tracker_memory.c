/* hostile_tracker_memory.c - takes all memory that it gets, then touches what it did not get. */
#include "hostile_tracker.h"
HOSTILE_TRACKER("hostile_tracker_memory")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    for (;;) memset(malloc((size_t)64 << 20), 1, (size_t)64 << 20);
    return SQZ_OK;
}
