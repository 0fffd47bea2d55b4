/* clock.h - seconds that only go forward, for durations and deadlines.  Dates are another matter:
 * what is named or shown by the wall clock asks time() where it is written. */
#ifndef SQZ_RUNTIME_IO_CLOCK_H
#define SQZ_RUNTIME_IO_CLOCK_H
#include <time.h>

static inline double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
