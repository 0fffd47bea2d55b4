/* hostile_deaf.c - works for ever and ignores the signals that would end it. */
#include "hostile.h"
#include <signal.h>
HOSTILE("hostile_deaf")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    volatile int64_t n = l->rows;
    (void)host;
    for (int s = 1; s < 32; s++) signal(s, SIG_IGN);
    while (n) n = n + 1 ? n : 1;
    return SQZ_OK;
}
