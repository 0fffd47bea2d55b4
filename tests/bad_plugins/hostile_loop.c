/* hostile_loop.c - works for ever and never asks whether to stop. */
#include "hostile.h"
HOSTILE("hostile_loop")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    volatile int64_t n = l->rows;
    (void)host;
    while (n) n = n + 1 ? n : 1;
    return SQZ_OK;
}
