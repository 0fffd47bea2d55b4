/* hostile_stdout.c - writes to stdout. */
#include "hostile.h"
#include <stdio.h>
HOSTILE("hostile_stdout")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    printf("{\"schema\":\"sqz.result/1\",\"state\":\"ok\"}\n");
    fflush(stdout);
    return dull(host, l, 0x1p-10f);
}
