/* program.c - see program.h. */
#include "host/program.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char *program_path(void)
{
    const char *named = secure_getenv("SQZ_EXE");
    return realpath(named && *named ? named : "/proc/self/exe", NULL);
}

static size_t length(const char *const *list)
{
    size_t n = 0;
    while (list && list[n]) n++;
    return n;
}

/* Does a change ("NAME=value" or "NAME") speak of this variable ("NAME=value")? */
static int same_name(const char *change, const char *variable)
{
    size_t n = strcspn(change, "=");
    return strncmp(change, variable, n) == 0 && variable[n] == '=';
}

/* environ with the changes; the array is malloc'd, the strings are borrowed. */
static char **changed_environment(const char *const *changes)
{
    size_t n_changes = length(changes), kept = 0;
    char **list = calloc(length((const char *const *)environ) + n_changes + 1, sizeof *list);
    if (!list) return NULL;
    for (char **e = environ; *e; e++) {
        size_t i = 0;
        while (i < n_changes && !same_name(changes[i], *e)) i++;
        if (i == n_changes) list[kept++] = *e;
    }
    for (size_t i = 0; i < n_changes; i++)
        if (strchr(changes[i], '=')) list[kept++] = (char *)changes[i];
    return list;
}

static void own_group(posix_spawnattr_t *attributes)
{
    sigset_t set;
    posix_spawnattr_init(attributes);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                             POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(attributes, 0);
    sigfillset(&set);
    posix_spawnattr_setsigdefault(attributes, &set);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(attributes, &set);
}

/* The numbers were moved above those of the child, so that a dup2 is never one onto itself, which
 * would keep the close-on-exec mark. */
static void plan_files(posix_spawn_file_actions_t *files, const program_start *s,
                       const int moved[4])
{
    posix_spawn_file_actions_init(files);
    for (int i = 0; i < 4; i++)
        if (moved[i] >= 0)
            posix_spawn_file_actions_adddup2(files, moved[i], i);
        else if (i < 3)
            posix_spawn_file_actions_addopen(files, i, "/dev/null", i ? O_WRONLY : O_RDONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(files, moved[3] >= 0 ? 4 : 3);
    if (s->folder) posix_spawn_file_actions_addchdir_np(files, s->folder);
}

static int spawn_moved(const program_start *s, const int moved[4], pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    size_t n = length(s->argv);
    char **argv = calloc(n + 2, sizeof *argv), **envp = changed_environment(s->environment);
    int failure = ENOMEM;
    if (argv && envp) {
        argv[0] = (char *)s->program;
        memcpy(argv + 1, s->argv, n * sizeof *argv);
        plan_files(&files, s, moved);
        own_group(&attributes);
        failure = posix_spawn(pid, s->program, &files, &attributes, argv, envp);
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
    }
    free(argv);
    free(envp);
    return failure;
}

int program_spawn(const program_start *s, pid_t *pid)
{
    int moved[4], failure = 0;
    for (int i = 0; i < 4; i++) {
        moved[i] = s->fd[i] < 0 ? -1 : fcntl(s->fd[i], F_DUPFD_CLOEXEC, 64);
        if (s->fd[i] >= 0 && moved[i] < 0) failure = errno;
    }
    if (!failure) failure = spawn_moved(s, moved, pid);
    for (int i = 0; i < 4; i++)
        if (moved[i] >= 0) close(moved[i]);
    return failure;
}

int program_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

int program_reap(pid_t pid, struct rusage *usage)
{
    int status = 0;
    kill(-pid, SIGKILL);
    while (wait4(pid, &status, 0, usage) < 0 && errno == EINTR) continue;
    return status;
}
