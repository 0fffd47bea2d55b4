/* hostile_babble.c - writes rubbish to every open socket, the protocol'\''s included. */
#include "hostile.h"
#include <sys/socket.h>
HOSTILE("hostile_babble")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    for (int fd = 3; fd < 64; fd++) send(fd, "\\xff\\xff\\xff\\xff rubbish", 12, MSG_NOSIGNAL);
    return dull(host, l, 0x1p-10f);
}
