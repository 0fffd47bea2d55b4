/* program.h - this program started once more as a child: to scan or check a plugin, to run a job,
 * to speak with a tracker.
 *
 * A child leads its own process group, with default signals, and is not trusted to end:
 * program_reap kills whatever the group still holds. */
#ifndef SQZ_CORE_HOST_PROGRAM_H
#define SQZ_CORE_HOST_PROGRAM_H
#include <sys/resource.h>
#include <sys/types.h>

/* Sanitizers bring an allocator and terabytes of reserved address space of their own.  gcc says so
 * by macros, clang by a feature test. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PROGRAM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PROGRAM_SANITIZED 1
#endif
#endif
#ifndef PROGRAM_SANITIZED
#define PROGRAM_SANITIZED 0
#endif

/* The program that children run: this one, or $SQZ_EXE (test doubles, wrappers; ignored when the
 * process is set-id).  Absolute path; caller frees; NULL and errno. */
char *program_path(void);

typedef struct program_start {
    const char *program;     /* absolute */
    const char *const *argv; /* behind argv[0], ended by NULL */
    /* "NAME=value" replaces or adds a variable, "NAME" alone removes it; ended by NULL.  NULL = the
     * environment as it is. */
    const char *const *environment;
    int fd[4];          /* become 0 to 3, borrowed; -1: /dev/null for 0 to 2, nothing for 3 */
    const char *folder; /* to work in, or NULL */
} program_start;
/* 0 and *pid, or the errno of the failure.  Every other descriptor is closed in the child. */
int program_spawn(const program_start *, pid_t *pid);

/* Has it ended?  As a zombie it keeps its number, so that the group can be killed without hitting a
 * stranger. */
int program_ended(pid_t);
/* Kills the group, waits for the child and returns its wait status; usage may be NULL. */
int program_reap(pid_t, struct rusage *usage);
#endif
