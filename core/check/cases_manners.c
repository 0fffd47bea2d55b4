/* cases_manners.c - what an ordinary use leaves behind in the process: nothing. */
#include "check/probe.h"
#include "pool/pool.h"
#include <dirent.h>
#include <errno.h>
#include <fenv.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static void idle(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)arg, (void)begin, (void)end, (void)thread;
}

/* The pool's own threads, buffers and files are there before anything is counted. */
static int use(probe *p)
{
    sqz_error err = {0};
    probe_at(p, "one ordinary use");
    if (probe_use(p, NULL, USE_SMALL, NULL, &err) == SQZ_OK) return 1;
    FAIL(p, "%s", err.text);
    return 0;
}

static void warm_up(void)
{
    pool_for(1024, 1, idle, NULL);
}

static int entries_of(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void no_stdout(probe *p)
{
    struct stat said;
    use(p);
    fflush(stdout);
    if (fstat(STDOUT_FILENO, &said) == 0 && said.st_size > 0)
        FAIL(p, "wrote %lld bytes to stdout; use host->log", (long long)said.st_size);
    fflush(stderr);
    if (fstat(STDERR_FILENO, &said) == 0 && said.st_size > 0)
        WARN(p, "wrote %lld bytes to stderr; use host->log", (long long)said.st_size);
}

/* All variables in one string; caller frees. */
static char *environment(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    for (char **e = environ; out && *e; e++) fprintf(out, "%s\n", *e);
    if (out) fclose(out);
    return text;
}

static void no_env_change(probe *p)
{
    char *before = environment();
    use(p);
    char *after = environment();
    if (before && after && strcmp(before, after) != 0) FAIL(p, "changed the environment");
    free(before);
    free(after);
}

static void no_cwd_change(probe *p)
{
    char *before = getcwd(NULL, 0);
    use(p);
    char *after = getcwd(NULL, 0);
    if (!after || !before || strcmp(before, after) != 0) FAIL(p, "changed the working directory");
    free(before);
    free(after);
}

static void no_files_left(probe *p)
{
    static const char *const folders[] = {".", "home", "tmp"};
    int before[3];
    for (int i = 0; i < 3; i++) before[i] = entries_of(folders[i]);
    use(p);
    for (int i = 0; i < 3; i++)
        if (entries_of(folders[i]) != before[i])
            FAIL(p, "left files in the %s folder",
                 i == 0   ? "working"
                 : i == 1 ? "home"
                          : "temporary");
}

static void no_thread_left(probe *p)
{
    warm_up();
    use(p); /* libraries such as a BLAS make their pool at the first use and keep it */
    int before = entries_of("/proc/self/task"), after = 0;
    for (int i = 0; i < 3; i++) use(p);
    for (int wait = 0; wait < 25; wait++) { /* a thread just joined may still be listed */
        if ((after = entries_of("/proc/self/task")) <= before) break;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (after > before)
        FAIL(p, "every use leaves threads running: %d after three uses, %d before", after - 2,
             before - 2);
}

static void no_fd_left(probe *p)
{
    warm_up();
    use(p);
    int before = entries_of("/proc/self/fd");
    for (int i = 0; i < 3; i++) use(p);
    int after = entries_of("/proc/self/fd");
    if (after > before)
        FAIL(p, "leaves files open: %d more descriptors after three uses", after - before);
    if (after < before) FAIL(p, "closes descriptors that are not its own");
}

static void no_child_left(probe *p)
{
    use(p);
    errno = 0;
    if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) FAIL(p, "leaves a process running");
}

static void no_signal_change(probe *p)
{
    struct sigaction before[32], after;
    sigset_t mask, later;
    memset(before, 0, sizeof before);
    for (int i = 1; i < 32; i++) sigaction(i, NULL, &before[i]);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    use(p);
    for (int i = 1; i < 32; i++) {
        if (sigaction(i, NULL, &after) == 0 && after.sa_handler != before[i].sa_handler)
            FAIL(p, "changed what signal %d does (%s)", i, strsignal(i));
    }
    sigprocmask(SIG_SETMASK, NULL, &later);
    for (int i = 1; i < 32; i++)
        if (sigismember(&mask, i) != sigismember(&later, i)) FAIL(p, "changed the signal mask");
}

static void fpu_mode_restored(probe *p)
{
    int rounding = fegetround();
#if defined(__x86_64__)
    unsigned mode = _mm_getcsr() & ~0x3fu; /* without the sticky exception flags */
#endif
    use(p);
    if (fegetround() != rounding) FAIL(p, "changed the rounding mode");
#if defined(__x86_64__)
    if ((_mm_getcsr() & ~0x3fu) != mode)
        FAIL(p, "changed the floating point mode (denormals to zero?)");
#endif
}

static size_t held_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void memory_given_back(probe *p)
{
#if PROGRAM_SANITIZED
    SKIP(p, "the sanitizer's allocator does not count");
    return;
#endif
    const char *tunables = getenv("GLIBC_TUNABLES");
    if (!tunables || !strstr(tunables, "tcache_count=0")) { /* --in-process */
        SKIP(p, "the allocator of this process keeps caches");
        return;
    }
    enum { USES = 16, LOST = USES * 16 };
    size_t at[4];
    pool_set_threads(1); /* which thread's cache a block rests in is chance */
    for (int i = 0; i < USES; i++)
        if (!use(p)) return;
    for (int k = 0; k < 4; k++) {
        at[k] = held_bytes();
        for (int i = 0; i < USES && k < 3; i++)
            if (!use(p)) return;
    }
    if (at[1] >= at[0] + LOST && at[2] >= at[1] + LOST && at[3] >= at[2] + LOST)
        FAIL(p, "every use keeps about %zu bytes", (at[3] - at[0]) / (3 * USES));
}

const check_case cases_manners[] = {
    {"manners", "no-stdout", NULL, TEST_USES, 60, no_stdout, "prints nothing"},
    {"manners", "no-env-change", NULL, TEST_USES, 60, no_env_change,
     "leaves the environment alone"},
    {"manners", "no-cwd-change", NULL, TEST_USES, 60, no_cwd_change, "stays in its folder"},
    {"manners", "no-files-left", NULL, TEST_USES, 60, no_files_left, "leaves no files"},
    {"manners", "no-thread-left", NULL, TEST_USES, 60, no_thread_left, "leaves no thread running"},
    {"manners", "no-fd-left", NULL, TEST_USES, 60, no_fd_left, "leaves no descriptor open"},
    {"manners", "no-child-left", NULL, TEST_USES, 60, no_child_left, "leaves no process"},
    {"manners", "no-signal-change", NULL, TEST_USES, 60, no_signal_change, "leaves signals alone"},
    {"manners", "fpu-mode-restored", NULL, TEST_USES, 60, fpu_mode_restored,
     "leaves the floating point mode alone"},
    {"manners", "memory-given-back", NULL, TEST_USES, 120, memory_given_back,
     "gives its memory back"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
