/* hostile_tracker_hang.c - never answers, and ignores the signals that would end it. */
#include "hostile_tracker.h"
#include <signal.h>
#include <unistd.h>
HOSTILE_TRACKER("hostile_tracker_hang")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    for (int s = 1; s < 32; s++) signal(s, SIG_IGN);
    for (;;) sleep(1);
    return SQZ_OK;
}
