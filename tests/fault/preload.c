/* preload.c - faults on demand in a program that knows nothing of them (LD_PRELOAD).
 *
 * SQZ_FAULT="key=value;..." says which calls are counted and what happens at one of them:
 *   who=coordinator|worker|any   by the program's first argument (worker, plugin-scan ...)
 *   calls=write,sync,...         create write sync rename link mkdir truncate unlink, journal; all
 * when absent path=PREFIX                  only calls on files below it; a second one may follow as
 * path2= not=PART                     but none whose path contains PART n=K the K-th counted call
 * fires; 0 = only count times=T                      and the T-1 after it; 0 = for ever
 *   do=kill|short|ENOSPC|EIO|EDQUOT|EROFS|EACCES|EMFILE
 *   when=before|after            of a kill, as seen from the call; before when absent
 * SQZ_FAULT_COUNT=FILE holds the shared count of every process: two 64-bit numbers (counted, fired)
 * and the text of what fired first.  SQZ_FAULT_CLOCK=S: every second look at the wall clock is S
 * seconds off.  SQZ_FAULT_FREE="BYTES PREFIX": so much is free on the disk below that path.
 * Left out: what stdio writes by itself (libc calls the kernel directly there); the product writes
 * nothing that matters with stdio. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PATH_ROOM = 4096, TEXT_ROOM = 400 };

typedef struct shared {
    _Atomic uint64_t counted, fired;
    char what[TEXT_ROOM];
} shared;

static struct plan {
    int active, kill, after, cut, error;
    char calls[128], path[PATH_ROOM], path2[PATH_ROOM], not_part[128];
    uint64_t n, times;
    shared *count;
    long clock_off;
    char free_path[PATH_ROOM];
    uint64_t free_bytes;
} plan;
static atomic_uint clock_looks;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int error_of(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EDQUOT", EDQUOT},
                  {"EROFS", EROFS},   {"EACCES", EACCES}, {"EMFILE", EMFILE}};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, name)) return errors[i].number;
    return EIO;
}

static void take_word(const char *key, const char *value)
{
    if (!strcmp(key, "calls")) snprintf(plan.calls, sizeof plan.calls, ",%s,", value);
    if (!strcmp(key, "path")) snprintf(plan.path, sizeof plan.path, "%s", value);
    if (!strcmp(key, "path2")) snprintf(plan.path2, sizeof plan.path2, "%s", value);
    if (!strcmp(key, "not")) snprintf(plan.not_part, sizeof plan.not_part, "%s", value);
    if (!strcmp(key, "n")) plan.n = strtoull(value, NULL, 10);
    if (!strcmp(key, "times")) plan.times = strtoull(value, NULL, 10);
    if (!strcmp(key, "when")) plan.after = !strcmp(value, "after");
    if (strcmp(key, "do") != 0) return;
    plan.kill = !strcmp(value, "kill");
    plan.cut = !strcmp(value, "short");
    if (!plan.kill && !plan.cut) plan.error = error_of(value);
}

/* prepare must not come back to itself through our own open. */
static int open_plain(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0666);
}

/* The second word of this process's command line: "worker", "plugin-scan", "run", "--config" ... */
static void first_argument(char word[64])
{
    char line[PATH_ROOM] = "";
    int fd = open_plain("/proc/self/cmdline", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    size_t program = n > 0 ? strlen(line) + 1 : 0;
    snprintf(word, 64, "%s", (ssize_t)program < n ? line + program : "");
}

static void prepare(void)
{
    const char *text = getenv("SQZ_FAULT"), *file = getenv("SQZ_FAULT_COUNT");
    const char *off = getenv("SQZ_FAULT_CLOCK");
    plan.clock_off = off ? atol(off) : 0;
    const char *room = getenv("SQZ_FAULT_FREE"), *below = room ? strchr(room, ' ') : NULL;
    if (below) {
        plan.free_bytes = strtoull(room, NULL, 10);
        snprintf(plan.free_path, sizeof plan.free_path, "%s", below + 1);
    }
    if (!text || !file) return;
    char copy[2 * PATH_ROOM], word[64], who[32] = "any", *rest = copy;
    snprintf(copy, sizeof copy, "%s", text);
    plan.times = 1;
    for (char *part; (part = strsep(&rest, ";"));) {
        char *equals = strchr(part, '=');
        if (!equals) continue;
        *equals = 0;
        if (!strcmp(part, "who"))
            snprintf(who, sizeof who, "%.20s", equals + 1);
        else
            take_word(part, equals + 1);
    }
    first_argument(word);
    int worker = !strcmp(word, "worker");
    if (!strcmp(who, "worker") && !worker) return;
    if (!strcmp(who, "coordinator") && (worker || strstr(word, "scan"))) return;
    int fd = open_plain(file, O_RDWR | O_CREAT);
    if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof(shared)) < 0) return;
    void *p = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    plan.count = p == MAP_FAILED ? NULL : p;
    plan.active = plan.count != NULL;
}

static int below(const char *path, const char *prefix)
{
    return *prefix && !strncmp(path, prefix, strlen(prefix));
}

static int counts(const char *call, const char *path)
{
    char key[24];
    snprintf(key, sizeof key, ",%.20s,", call);
    if (*plan.calls && !strstr(plan.calls, key)) {
        size_t n = strlen(path);
        int journal = n > 14 && !strcmp(path + n - 14, "/journal.jsonl");
        if (!journal || strcmp(call, "sync") != 0 || !strstr(plan.calls, ",journal,")) return 0;
    }
    if (*plan.path && !below(path, plan.path) && !below(path, plan.path2)) return 0;
    return !*plan.not_part || !strstr(path, plan.not_part);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Is this the call?  A kill that comes before does not return. */
static int fires(const char *call, const char *path)
{
    pthread_once(&once, prepare);
    if (!plan.active || !path || !counts(call, path)) return 0;
    int saved = errno;
    uint64_t i = atomic_fetch_add(&plan.count->counted, 1) + 1;
    int hit = plan.n && i >= plan.n && (!plan.times || i < plan.n + plan.times);
    if (hit && atomic_fetch_add(&plan.count->fired, 1) == 0)
        snprintf(plan.count->what, TEXT_ROOM, "%s %.300s", call, path);
    if (hit && plan.kill && !plan.after) die();
    errno = saved;
    return hit;
}

static const char *path_of(int fd, char path[PATH_ROOM])
{
    char link_name[64];
    int saved = errno;
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link_name, path, PATH_ROOM - 1);
    errno = saved;
    if (n < 0) return NULL;
    path[n] = 0;
    return *path == '/' ? path : NULL;
}

static void *next_of(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p) _exit(125);
    return p;
}

#define REAL(type, name, arguments)                                                                \
    static type(*real) arguments;                                                                  \
    if (!real) real = (type(*) arguments)next_of(name)

/* After the call `result` of which fired: dies, or gives the error. */
#define OUTCOME(hit, call)                                                                         \
    do {                                                                                           \
        if ((hit) && plan.error) {                                                                 \
            errno = plan.error;                                                                    \
            return -1;                                                                             \
        }                                                                                          \
        int result = (int)(call);                                                                  \
        if ((hit) && plan.kill) die();                                                             \
        return result;                                                                             \
    } while (0)

/* ---- descriptors ----------------------------------------------------------------------------- */

static int fires_fd(const char *call, int fd)
{
    char path[PATH_ROOM];
    pthread_once(&once, prepare);
    return plan.active && fires(call, path_of(fd, path));
}

/* A write that fires gives an error, or writes its first half only; a kill leaves that behind. */
static int shorten(int hit, size_t *bytes)
{
    if (hit && plan.error) {
        errno = plan.error;
        return -1;
    }
    if (hit && (plan.cut || plan.kill) && *bytes > 1) *bytes /= 2;
    return 0;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(ssize_t, "write", (int, const void *, size_t));
    int hit = fires_fd("write", fd);
    if (shorten(hit, &bytes)) return -1;
    ssize_t n = real(fd, data, bytes);
    if (hit && plan.kill) die();
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    REAL(ssize_t, "pwrite", (int, const void *, size_t, off_t));
    int hit = fires_fd("write", fd);
    if (shorten(hit, &bytes)) return -1;
    ssize_t n = real(fd, data, bytes, at);
    if (hit && plan.kill) die();
    return n;
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at)
{
    return pwrite(fd, data, bytes, at);
}

int fsync(int fd)
{
    REAL(int, "fsync", (int));
    int hit = fires_fd("sync", fd);
    OUTCOME(hit, real(fd));
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", (int));
    int hit = fires_fd("sync", fd);
    OUTCOME(hit, real(fd));
}

int ftruncate(int fd, off_t bytes)
{
    REAL(int, "ftruncate", (int, off_t));
    int hit = fires_fd("truncate", fd);
    OUTCOME(hit, real(fd, bytes));
}

int ftruncate64(int fd, off64_t bytes)
{
    return ftruncate(fd, bytes);
}

/* ---- names ----------------------------------------------------------------------------------- */

int rename(const char *from, const char *to)
{
    REAL(int, "rename", (const char *, const char *));
    int hit = fires("rename", to);
    OUTCOME(hit, real(from, to));
}

int link(const char *from, const char *to)
{
    REAL(int, "link", (const char *, const char *));
    int hit = fires("link", to);
    OUTCOME(hit, real(from, to));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", (const char *, mode_t));
    int hit = fires("mkdir", path);
    OUTCOME(hit, real(path, mode));
}

int unlink(const char *path)
{
    REAL(int, "unlink", (const char *));
    int hit = fires("unlink", path);
    OUTCOME(hit, real(path));
}

static int open_with(const char *path, int flags, mode_t mode)
{
    REAL(int, "open", (const char *, int, ...));
    int hit = flags & O_CREAT && fires("create", path);
    OUTCOME(hit, real(path, flags, mode));
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_with(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_with(path, flags, mode);
}

/* ---- room on the disk ------------------------------------------------------------------------ */

int statvfs64(const char *path, struct statvfs64 *out)
{
    REAL(int, "statvfs64", (const char *, struct statvfs64 *));
    int result = real(path, out);
    pthread_once(&once, prepare);
    if (result == 0 && below(path, plan.free_path)) out->f_bavail = plan.free_bytes / out->f_frsize;
    return result;
}

int statvfs(const char *path, struct statvfs *out)
{
    return statvfs64(path, (struct statvfs64 *)out);
}

/* ---- the wall clock -------------------------------------------------------------------------- */

static long clock_shift(void)
{
    pthread_once(&once, prepare);
    return plan.clock_off && atomic_fetch_add(&clock_looks, 1) % 2 ? plan.clock_off : 0;
}

int clock_gettime(clockid_t which, struct timespec *t)
{
    REAL(int, "clock_gettime", (clockid_t, struct timespec *));
    int result = real(which, t);
    if (result == 0 && which == CLOCK_REALTIME) t->tv_sec += clock_shift();
    return result;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
