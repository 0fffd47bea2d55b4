/* manners.c - see manners.h. */
#include "worker/manners.h"
#include "io/file.h"
#include "pool/pool.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { MAX_FOLDERS = 8, MAX_NAMES = 4096, MAX_ECHO = 64 << 10, THREAD_CALLS = 3 };

typedef struct folder {
    char *path;
    const char *role; /* "the home folder" */
    struct timespec changed;
    char **names; /* sorted; NULL when it has too many to remember */
    int n_names;
} folder;

struct manners {
    folder folders[MAX_FOLDERS];
    int n_folders;
    char *said_path, *tmp_path, *cwd; /* stdout's file, TMPDIR, the working folder */
    int cwd_fd;
    uint64_t environment;
    int rounding;
    unsigned mode; /* of SSE: denormals */
    int threads, growths, had_child;
    const agent_info *growing; /* whose calls left threads */
    cJSON *seen;
};

/* ---- telling --------------------------------------------------------------------------------- */
__attribute__((format(printf, 4, 5))) static void note(manners *m, const agent_info *info,
                                                       const char *kind, const char *fmt, ...)
{
    char did[400];
    va_list ap;
    const cJSON *item;
    cJSON_ArrayForEach(item, m->seen) if (!strcmp(json_str(item, "agent", ""), info->id) &&
                                          !strcmp(json_str(item, "kind", ""), kind)) return;
    va_start(ap, fmt);
    vsnprintf(did, sizeof did, fmt, ap);
    va_end(ap);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "agent", info->id);
    cJSON_AddStringToObject(o, "kind", kind);
    cJSON_AddStringToObject(o, "did", did);
    cJSON_AddItemToArray(m->seen, o);
}

/* ---- folders --------------------------------------------------------------------------------- */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void forget_names(folder *f)
{
    for (int i = 0; i < f->n_names; i++) free(f->names[i]);
    free(f->names);
    f->names = NULL;
    f->n_names = 0;
}

static void read_names(folder *f)
{
    DIR *d = opendir(f->path);
    struct dirent *e;
    forget_names(f);
    f->names = d ? calloc(MAX_NAMES, sizeof *f->names) : NULL;
    while (f->names && (e = readdir(d))) {
        if (e->d_name[0] == '.') continue; /* caches and settings of any program */
        if (f->n_names == MAX_NAMES || !(f->names[f->n_names] = strdup(e->d_name))) {
            forget_names(f);
            break;
        }
        f->n_names++;
    }
    if (d) closedir(d);
    if (f->names) qsort(f->names, (size_t)f->n_names, sizeof *f->names, by_name);
}

static int is_name_of(const folder *f, const char *name)
{
    return bsearch(&name, f->names, (size_t)f->n_names, sizeof *f->names, by_name) != NULL;
}

static void watch_folder(manners *m, const char *path, const char *role)
{
    struct stat st;
    char *full = path && *path ? realpath(path, NULL) : NULL;
    int known = !full || m->n_folders == MAX_FOLDERS || stat(full, &st) != 0;
    for (int i = 0; i < m->n_folders && !known; i++) known = !strcmp(m->folders[i].path, full);
    if (known) {
        free(full);
        return;
    }
    folder *f = &m->folders[m->n_folders++];
    *f = (folder){.path = full, .role = role, .changed = st.st_mtim};
    read_names(f);
}

static void look_into(manners *m, const agent_info *info, folder *f)
{
    struct stat st;
    folder now = {.path = f->path};
    if (stat(f->path, &st) != 0 || !memcmp(&st.st_mtim, &f->changed, sizeof st.st_mtim)) return;
    read_names(&now);
    for (int i = 0; i < now.n_names && f->names; i++) {
        char *path = path_format("%s/%s", f->path, now.names[i]);
        if (!is_name_of(f, now.names[i]) && lstat(path, &st) == 0 && st.st_uid == geteuid())
            note(m, info, f->role, "%s appeared in %s while it ran", path, f->role);
        free(path);
    }
    for (int i = 0; i < f->n_names && now.names; i++)
        if (!is_name_of(&now, f->names[i]))
            note(m, info, f->role, "%s/%s disappeared while it ran", f->path, f->names[i]);
    forget_names(f);
    f->names = now.names;
    f->n_names = now.n_names;
    if (stat(f->path, &st) == 0) f->changed = st.st_mtim;
}

/* ---- the process ----------------------------------------------------------------------------- */
static uint64_t environment_hash(void)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (char **e = environ; *e; e++)
        for (const unsigned char *p = (const unsigned char *)*e; *p; p++)
            h = (h ^ *p) * 0x100000001b3u;
    return h;
}

/* The task folder of a process has a link for each thread, besides its own two. */
static int threads_now(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) == 0 ? (int)st.st_nlink - 2 : 0;
}

static int has_child(void)
{
    return waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static unsigned sse_mode(void)
{
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3fu; /* without the sticky exception flags */
#else
    return 0;
#endif
}

static void look_at_arithmetic(manners *m, const agent_info *info)
{
    if (fegetround() != m->rounding || sse_mode() != m->mode)
        note(m, info, "arithmetic", "changed the rounding or denormal mode (put back)");
    fesetround(m->rounding);
#if defined(__x86_64__)
    _mm_setcsr((_mm_getcsr() & 0x3fu) | m->mode);
#endif
}

static void look_at_threads(manners *m, const agent_info *info)
{
    int now = threads_now();
    /* A thread that was just joined may still be listed. */
    for (int i = 0; i < 10 && now > m->threads; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        now = threads_now();
    }
    if (now > m->threads) {
        m->growths = m->growing == info ? m->growths + 1 : 1;
        m->growing = info;
        if (m->growths >= THREAD_CALLS)
            note(m, info, "threads", "leaves threads running: more after each of %d calls",
                 m->growths);
    }
    m->threads = now;
}

/* What was printed goes to the log, where people look; nobody is named without info. */
static void look_at_stdout(manners *m, const agent_info *info)
{
    struct stat st;
    char text[MAX_ECHO];
    fflush(stdout);
    if (fstat(STDOUT_FILENO, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) return;
    int fd = open(m->said_path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    if (n > 0) {
        int line = (int)strcspn(text, "\n");
        (void)!write(STDERR_FILENO, text, (size_t)n);
        if (info)
            note(m, info, "stdout", "wrote to stdout: \"%.*s\"%s", line < 80 ? line : 80, text,
                 n > line + 1 ? " ..." : "");
    }
    (void)!ftruncate(STDOUT_FILENO, 0);
}

static void look_at_temporary(manners *m, const agent_info *info)
{
    struct stat st;
    /* Two links of its own and its parent: an empty folder; a file shows in its time of change. */
    folder f = {.path = m->tmp_path};
    if (stat(m->tmp_path, &st) != 0) return;
    read_names(&f);
    if (f.n_names > 2) {
        note(m, info, "temporary", "left temporary files (removed)");
        dir_remove(m->tmp_path, NULL);
        dir_make(m->tmp_path, NULL);
    }
    forget_names(&f);
}

/* ---- from outside ---------------------------------------------------------------------------- */
static void idle(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)arg, (void)begin, (void)end, (void)thread;
}

manners *manners_new(const char *dir, const char *model)
{
    manners *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->seen = cJSON_CreateArray();
    m->said_path = path_format("%s/stdout.log", dir);
    m->tmp_path = path_format("%s/tmp", dir);
    int fd = open(m->said_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        fflush(stdout);
        dup2(fd, STDOUT_FILENO);
        close(fd);
    }
    if (dir_make(m->tmp_path, NULL) == SQZ_OK) setenv("TMPDIR", m->tmp_path, 1);
    m->cwd = getcwd(NULL, 0);
    m->cwd_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    m->environment = environment_hash();
    m->rounding = fegetround();
    m->mode = sse_mode();
    watch_folder(m, getenv("HOME"), "the home folder");
    watch_folder(m, model, "the model's folder");
    pool_for(1024, 1, idle, NULL); /* its threads are there before any are counted */
    m->threads = threads_now();
    return m;
}

void manners_before(manners *m, const agent_info *info)
{
    if (!m) return;
    char *file = path_format("%s", info->file), *slash = strrchr(file, '/');
    if (slash) *slash = 0;
    watch_folder(m, file, "the plugin's folder");
    free(file);
    m->threads = threads_now();
    m->had_child = has_child(); /* somebody was blamed for it */
}

void manners_after(manners *m, const agent_info *info)
{
    if (!m) return;
    look_at_arithmetic(m, info);
    look_at_stdout(m, info);
    look_at_threads(m, info);
    look_at_temporary(m, info);
    if (!m->had_child && has_child())
        note(m, info, "child", "left a process running (it ends with the worker)");
    char *cwd = getcwd(NULL, 0);
    if (m->cwd && (!cwd || strcmp(cwd, m->cwd) != 0)) {
        note(m, info, "cwd", "changed the working folder (put back)");
        if (fchdir(m->cwd_fd) != 0) errno = 0;
    }
    free(cwd);
    uint64_t environment = environment_hash();
    if (environment != m->environment) note(m, info, "environment", "changed the environment");
    m->environment = environment;
    for (int i = 0; i < m->n_folders; i++) look_into(m, info, &m->folders[i]);
}

cJSON *manners_end(manners *m)
{
    struct stat st;
    if (!m) return NULL;
    cJSON *seen = m->seen;
    look_at_stdout(m, NULL);
    if (fstat(STDOUT_FILENO, &st) == 0 && st.st_size == 0) unlink(m->said_path);
    dir_remove(m->tmp_path, NULL);
    for (int i = 0; i < m->n_folders; i++) {
        forget_names(&m->folders[i]);
        free(m->folders[i].path);
    }
    if (m->cwd_fd >= 0) close(m->cwd_fd);
    free(m->cwd);
    free(m->said_path);
    free(m->tmp_path);
    free(m);
    return seen;
}
