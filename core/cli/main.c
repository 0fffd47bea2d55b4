/* main.c - the program's entry; everything else of the command line is in the library so that tests
 * can link it. */
#include "cli/cli.h"
#include <stdlib.h>
#include <unistd.h>

/* Three libraries read the environment while they are loaded, before main could set it, so the
 * program starts itself once more.  Whatever the user set wins. libgomp's waiting threads spin for
 * milliseconds by default, which costs a factor of ten as soon as anything else runs on the
 * machine.  OpenBLAS before 0.3.22 does not know CPUs newer than itself and takes one with AVX-512
 * for a Haswell.  glibc asks for huge pages for what malloc gives, which saves two thirds of the
 * page faults of matrices that come and go. */
static void prepare_environment(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 0);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
#endif
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    prepare_environment(argv);
    return cli_main(argc, argv);
}
