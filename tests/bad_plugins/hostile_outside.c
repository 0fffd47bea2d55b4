/* hostile_outside.c - writes files that are none of its business. */
#include "hostile.h"
#include <stdio.h>
HOSTILE("hostile_outside")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    char path[4096];
    const char *home = getenv("HOME");
    snprintf(path, sizeof path, "%s/hostile_was_here", home ? home : ".");
    FILE *f = fopen(path, "w");
    if (f) fclose(f);
    return dull(host, l, 0x1p-10f);
}
