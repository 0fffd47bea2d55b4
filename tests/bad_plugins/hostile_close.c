/* hostile_close.c - closes every descriptor that it can find. */
#include "hostile.h"
#include <unistd.h>
HOSTILE("hostile_close")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    for (int fd = 3; fd < 1024; fd++) close(fd);
    return dull(host, l, 0x1p-10f);
}
