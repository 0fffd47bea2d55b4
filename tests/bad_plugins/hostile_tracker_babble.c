/* hostile_tracker_babble.c - writes rubbish to every descriptor. */
#include "hostile_tracker.h"
#include <unistd.h>
HOSTILE_TRACKER("hostile_tracker_babble")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    for (int fd = 1; fd < 64; fd++) (void)!write(fd, "\xff\xff\xff\xff rubbish", 12);
    for (;;) sleep(1);
    return SQZ_OK;
}
