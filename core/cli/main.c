/* main.c - the program's entry; everything else of the command line is in the library so that tests
 * can link it. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
