/* main.c - the program's entry; everything else of the command line is in the library so that tests
 * can link it. */
#include "cli/cli.h"
#include <stdlib.h>
#include <unistd.h>

/* libgomp's waiting threads spin for milliseconds by default, which costs a factor of ten as soon
 * as anything else runs on the machine.  It reads its environment while it is loaded, before main,
 * so the program starts itself once more with a short spin.  Whatever the user set wins. */
static void wait_politely(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    wait_politely(argv);
    return cli_main(argc, argv);
}
