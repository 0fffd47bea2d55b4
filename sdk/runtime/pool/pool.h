/* pool.h - the process's only thread pool.
 *
 * Normally libgomp's, entered through GOMP_parallel, so that OpenBLAS, oneDNN and our loops share
 * their threads under gcc and clang; with -DSQZ_POOL_PTHREAD (ThreadSanitizer builds, which cannot
 * see libgomp's synchronisation) a plain pthread pool. */
#ifndef SQZ_RUNTIME_POOL_H
#define SQZ_RUNTIME_POOL_H
#include <stdint.h>

/* Threads to use from now on; n <= 0 = as many as this process may run on.  Call before the first use. */
void pool_set_threads(int n);
int pool_threads(void);
/* See sqz.pool/1. */
void pool_for(int64_t n, int64_t grain,
              void (*body)(void *arg, int64_t begin, int64_t end, int32_t thread), void *arg);
#endif
