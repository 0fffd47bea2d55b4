/* hostile_environment.c - changes the environment, the folder and the rounding mode. */
#include "hostile.h"
#include <fenv.h>
#include <unistd.h>
HOSTILE("hostile_environment")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    setenv("LD_PRELOAD", "/nonexistent", 1);
    if (chdir("/")) return SQZ_E_IO;
    fesetround(FE_UPWARD);
    return dull(host, l, 0x1p-10f);
}
