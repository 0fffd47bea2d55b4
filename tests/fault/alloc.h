/* alloc.h - allocations that fail on demand, in a program linked with the --wrap options of
 * tests/fault/CMakeLists.txt.
 *
 * Counted are malloc, calloc, realloc, strdup, strndup, vasprintf, posix_memalign and the opening
 * of a memory stream, where our own objects call them; what libraries allocate for themselves
 * (SQLite, libcrypto, stdio) is not, nor what plugins do.  A counted call can be told apart by who
 * called it: the return addresses of some frames, hashed.
 *
 * With SQZ_ALLOC_TRACE in the environment a failing call says on stderr who asked. */
#ifndef SQZ_TESTS_FAULT_ALLOC_H
#define SQZ_TESTS_FAULT_ALLOC_H
#include <stdint.h>

/* Counting begins at 0.  The fails_at-th call fails (0 = none), and with `all` every later one. */
void alloc_begin(long fails_at, int all);
/* Counting pauses, for what a test does on its own behalf. */
void alloc_pause(void);
void alloc_continue(void);
long alloc_counted(void);
/* From now on the hash of so many callers of the n-th call goes to sites[n - 1], for n <= room. */
void alloc_note(uint64_t *sites, long room, int callers);
#endif
