/* scan.c - see scan.h; both sides of `sqz --scan-plugin FILE`.
 *
 * The child is spawned, in its own process group, and always reaped: it is killed with everything
 * it started when its time is over.  What it prints travels through pipes of bounded size. */
#include "host/scan.h"
#include "host/describe.h"
#include "host/host.h"
#include "host/program.h"
#include "host/stamp.h"
#include "io/clock.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Set in the child's environment.  A program that does not know --scan-plugin would otherwise run
 * as usual, open the catalogue, scan, and spawn itself without end. */
static const char SCANNING[] = "SQZ_SCANNING";
/* The child's first bytes on stdout.  Without them the program was not sqz, and nothing that
 * happened says anything about the plugin. */
static const char GREETING[] = "sqz-scan/1\n";
enum { MAX_DESCRIPTION = 4 << 20, MAX_CHATTER = 16 << 10 };

/* ---- the child
 * -------------------------------------------------------------------------------------- */
static sqz_status load_and_describe(const char *file, cJSON **out, sqz_error *err)
{
    plugin_stamp stamp;
    const sqz_plugin *plugin;
    sqz_status status = stamp_read(file, &stamp, err);
    if (!status) status = stamp_accept(&stamp, file, err);
    if (status) return status;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) return err_set(err, ERR_PLUGIN, "%s: cannot be loaded: %s", file, dlerror());
    status = describe_entry(handle, file, &plugin, err);
    return status ? status : describe_plugin(plugin, file, out, err);
}

static int write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        text += n;
        bytes -= (size_t)n;
    }
    return 1;
}

int host_scan_main(const char *file)
{
    /* Whatever the plugin prints goes to stderr, so that stdout is the description alone. */
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return 1;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!write_all(out, GREETING, strlen(GREETING))) return 1;
    sqz_error err = {0};
    cJSON *description = NULL;
    char *path = realpath(file, NULL); /* a name without a slash would be searched for by dlopen */
    sqz_status status = path ? load_and_describe(path, &description, &err)
                             : err_set(&err, ERR_PLUGIN, "%s: %s", file, strerror(errno));
    if (status) {
        description = cJSON_CreateObject();
        cJSON_AddStringToObject(description, "error", err.text);
    }
    char *text = json_text(description, 0);
    int ok = text && write_all(out, text, strlen(text)) && write_all(out, "\n", 1);
    fflush(stderr);
    _exit(ok ? 0 : 1); /* the plugin's destructors are none of our business */
}

/* ---- the parent
 * ------------------------------------------------------------------------------------- */
typedef struct child {
    pid_t pid;
    int fd[2];     /* its stdout and stderr */
    char *text[2]; /* what came, zero-terminated */
    size_t bytes[2];
    int cut;  /* the description was longer than allowed */
    int lost; /* no memory for it */
} child;

static sqz_status spawn(child *c, const char *program, const char *file, sqz_error *err)
{
    int out[2], errors[2];
    if (pipe2(out, O_CLOEXEC) != 0)
        return err_set(err, SQZ_E_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(errors, O_CLOEXEC) != 0) {
        close(out[0]);
        close(out[1]);
        return err_set(err, SQZ_E_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    }
    const char *const argv[] = {"--scan-plugin", file, NULL};
    const char *const mark[] = {"SQZ_SCANNING=1", NULL};
    program_start start = {program, argv, mark, {-1, out[1], errors[1], -1}, NULL};
    int failure = program_spawn(&start, &c->pid);
    close(out[1]);
    close(errors[1]);
    c->fd[0] = out[0];
    c->fd[1] = errors[0];
    if (!failure) {
        fcntl(c->fd[0], F_SETFL, O_NONBLOCK);
        fcntl(c->fd[1], F_SETFL, O_NONBLOCK);
        return SQZ_OK;
    }
    close(out[0]);
    close(errors[0]);
    return err_set(err, failure == ENOMEM ? SQZ_E_NOMEM : SQZ_E_INTERNAL,
                   "cannot start %s to scan %s: %s", program, file, strerror(failure));
}

/* Takes what stands in pipe k; closes it at its end. */
static void drain(child *c, int k)
{
    char chunk[8192];
    size_t limit = k == 0 ? MAX_DESCRIPTION : MAX_CHATTER;
    while (c->fd[k] >= 0) {
        ssize_t n = read(c->fd[k], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            close(c->fd[k]);
            c->fd[k] = -1;
            return;
        }
        if (c->bytes[k] + (size_t)n > limit) {
            c->cut |= k == 0;
            continue;
        }
        char *grown = realloc(c->text[k], c->bytes[k] + (size_t)n + 1);
        if (!grown) {
            c->lost |= k == 0;
            continue;
        }
        memcpy(grown + c->bytes[k], chunk, (size_t)n);
        c->text[k] = grown;
        c->bytes[k] += (size_t)n;
        grown[c->bytes[k]] = 0;
    }
}

/* Waits for the end or the deadline, then leaves nothing of the child.  Returns its wait status. */
static int collect(child *c, double timeout_s, int *timed_out)
{
    double deadline = clock_s() + timeout_s;
    int ended = 0;
    /* Time first: a child that ended while this process was not running has not been slow. */
    for (;;) {
        int late = clock_s() >= deadline;
        ended = program_ended(c->pid);
        if (ended || late) break;
        struct pollfd fds[2] = {{c->fd[0], POLLIN, 0}, {c->fd[1], POLLIN, 0}};
        poll(fds, 2, c->fd[0] < 0 && c->fd[1] < 0 ? 1 : 20);
        drain(c, 0);
        drain(c, 1);
    }
    *timed_out = !ended;
    int status = program_reap(c->pid, NULL);
    for (int k = 0; k < 2; k++) {
        drain(c, k);
        if (c->fd[k] >= 0) close(c->fd[k]);
    }
    return status;
}

/* The last line of the child's stderr, for messages; "" when it said nothing. */
static const char *last_words(child *c)
{
    char *text = c->text[1];
    if (!text) return "";
    for (size_t n = c->bytes[1]; n > 0 && strchr(" \r\n", text[n - 1]); n--) text[n - 1] = 0;
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    return line;
}

static sqz_status read_description(const child *c, const char *file, cJSON **out, sqz_error *err)
{
    json_doc *doc = NULL;
    sqz_error inner = {0};
    if (c->cut)
        return err_set(err, ERR_PLUGIN, "%s: its description is longer than %d MiB", file,
                       MAX_DESCRIPTION >> 20);
    size_t skip = strlen(GREETING);
    sqz_status parsed = json_parse(c->text[0] + skip, (int64_t)(c->bytes[0] - skip), 0,
                                   "description", &doc, &inner);
    if (parsed)
        return err_set(err, parsed == SQZ_E_NOMEM ? parsed : ERR_PLUGIN,
                       "%s: its description cannot be read: %s", file, inner.text);
    sqz_status status = SQZ_OK;
    const char *refused = json_str(json_root(doc), "error", NULL);
    if (refused)
        status = err_set(err, ERR_PLUGIN, "%s", refused);
    else if (!cJSON_IsArray(json_get(json_root(doc), "agents")))
        status = err_set(err, ERR_PLUGIN, "%s: its description lists no agents", file);
    else
        *out = cJSON_Duplicate(json_root(doc), 1);
    json_free(doc);
    return status;
}

static sqz_status judge(child *c, const char *file, double timeout_s, int wait_status,
                        int timed_out, cJSON **out, scan_fault *fault, sqz_error *err)
{
    const char *words = last_words(c), *colon = *words ? ": " : "";
    if (c->lost) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its description", file);
    if (c->bytes[0] < strlen(GREETING) || memcmp(c->text[0], GREETING, strlen(GREETING)) != 0)
        return err_set(err, SQZ_E_INTERNAL,
                       "%s: not scanned: the program that SQZ_EXE or /proc/self/exe names does not "
                       "answer --scan-plugin%s%s",
                       file, colon, words);
    *fault = timed_out ? SCAN_TIMED_OUT : SCAN_CRASHED;
    if (timed_out)
        return err_set(err, ERR_PLUGIN, "%s: did not finish being scanned within %g s", file,
                       timeout_s);
    if (WIFSIGNALED(wait_status))
        return err_set(err, ERR_PLUGIN, "%s: crashed (%s) while being scanned%s%s", file,
                       strsignal(WTERMSIG(wait_status)), colon, words);
    if (WEXITSTATUS(wait_status) != 0 || c->bytes[0] == strlen(GREETING))
        return err_set(err, ERR_PLUGIN,
                       "%s: ended the process (exit status %d) before it was described%s%s", file,
                       WEXITSTATUS(wait_status), colon, words);
    *fault = SCAN_REFUSED;
    return read_description(c, file, out, err);
}

sqz_status scan_file(const char *file, double timeout_s, cJSON **out, scan_fault *fault,
                     sqz_error *err)
{
    child c = {.fd = {-1, -1}};
    int timed_out = 0;
    *fault = SCAN_REFUSED;
    if (getenv(SCANNING))
        return err_set(
            err, SQZ_E_INTERNAL,
            "this program does not answer --scan-plugin; set SQZ_EXE to the sqz program");
    char *program = program_path();
    if (!program)
        return err_set(err, errno == ENOMEM ? SQZ_E_NOMEM : SQZ_E_INTERNAL,
                       "cannot find the sqz program to scan %s: %s", file, strerror(errno));
    sqz_status status = spawn(&c, program, file, err);
    free(program);
    if (status) return status;
    int wait_status = collect(&c, timeout_s, &timed_out);
    status = judge(&c, file, timeout_s, wait_status, timed_out, out, fault, err);
    free(c.text[0]);
    free(c.text[1]);
    return status;
}
