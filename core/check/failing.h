/* failing.h - memory that runs out for one plugin and for nobody else. */
#ifndef SQZ_CORE_CHECK_FAILING_H
#define SQZ_CORE_CHECK_FAILING_H
#include <stdint.h>

/* Puts counting stand-ins between a loaded plugin and malloc, calloc, realloc, aligned_alloc,
 * posix_memalign and free.  0 when the plugin calls none of them by itself (C++ new, say). */
int failing_install(const char *file);
/* From now on the n-th allocation fails, once; 0 = none.  Starts counting anew. */
void failing_at(int64_t n);
/* Allocations since then, and blocks that the plugin holds now. */
int64_t failing_calls(void);
int64_t failing_held(void);
#endif
