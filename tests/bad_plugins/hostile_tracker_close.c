/* hostile_tracker_close.c - closes every descriptor, its line to the run among them, and works on.
 */
#include "hostile_tracker.h"
#include <unistd.h>
HOSTILE_TRACKER("hostile_tracker_close")

static sqz_status attack(const sqz_host *host)
{
    (void)host;
    for (int fd = 0; fd < 1024; fd++) close(fd);
    for (;;) sleep(1);
    return SQZ_OK;
}
