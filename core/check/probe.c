/* probe.c - the child's side of a check: sets the stage for one test, runs it, reports.
 *
 * With --in-process the stage is sqz's own process. */
#include "check/probe.h"
#include "io/file.h"
#include "pool/pool.h"
#include "reference/reference.h"
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const check_case *const tables[] = {
    cases_file,   cases_host,     cases_method,  cases_eval, cases_search,
    cases_format, cases_hardware, cases_tracker, cases_data, cases_age, cases_manners};
static const subject_kind *const subjects[] = {&subject_method,   &subject_eval,
                                               &subject_search,   &subject_format,
                                               &subject_hardware, &subject_tracker,
                                               &subject_data};

/* ---- reporting ------------------------------------------------------------------------------- */
static int weight_of(const char *verdict)
{
    static const char *const order[] = {"pass", "skip", "warn", "fail"};
    for (int i = 0; i < 4; i++)
        if (strcmp(order[i], verdict) == 0) return i;
    return 3;
}

void verdict(probe *p, const char *word, const char *fmt, ...)
{
    va_list ap;
    if (p->verdict && weight_of(word) <= weight_of(p->verdict)) return;
    p->verdict = word;
    va_start(ap, fmt);
    vsnprintf(p->text, sizeof p->text, fmt, ap);
    va_end(ap);
}

static void send_text(int fd, const char *text)
{
    for (size_t n = strlen(text); n > 0;) {
        ssize_t k = write(fd, text, n);
        if (k <= 0) return;
        text += k;
        n -= (size_t)k;
    }
}

void probe_at(probe *p, const char *fmt, ...)
{
    char line[400] = "@";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + 1, sizeof line - 2, fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++)
        if (*c == '\n') *c = ' ';
    strcat(line, "\n");
    send_text(p->report_fd, line);
}

static void report(const probe *p)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "verdict", p->verdict ? p->verdict : "pass");
    cJSON_AddStringToObject(o, "text", p->text);
    char *text = json_text(o, 0);
    if (text) send_text(p->report_fd, text);
    send_text(p->report_fd, "\n");
}

/* ---- time, chance, progress ------------------------------------------------------------------ */
double probe_random(const probe *p, uint64_t stream, uint64_t index)
{
    uint64_t z = p->seed * 0x9e3779b97f4a7c15u + stream * 0xd1342543de82ef95u + index + 1;
    for (int i = 0; i < 2; i++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-52 - 1;
}

static int on_tick(void *ctx, double done, const char *what)
{
    probe *p = ctx;
    double now = clock_s();
    (void)what;
    if (!(done >= 0 && done <= 1.000001))
        WARN(p, "tick was told a progress of %g; it is 0 to 1", done);
    if (now - p->last_tick_s > p->widest_gap_s) p->widest_gap_s = now - p->last_tick_s;
    p->last_tick_s = now;
    p->ticks++;
    if (p->stop_at_s > 0 && now >= p->stop_at_s) return 1;
    if (!p->stop_at_tick || p->ticks < p->stop_at_tick) return 0;
    if (p->stopped_s == 0) p->stopped_s = now;
    return 1;
}

/* ---- using the agent ------------------------------------------------------------------------- */
const subject_kind *subject_of(const char *kind)
{
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (strcmp(subjects[i]->kind, kind) == 0) return subjects[i];
    return NULL;
}

sqz_status probe_use(probe *p, const cJSON *with, int size, char digest[DIGEST_TEXT],
                     sqz_error *err)
{
    const subject_kind *kind = subject_of(p->info->kind);
    char own[DIGEST_TEXT];
    agent *a;
    sqz_status s = agent_open(p->host, p->info, &a, err);
    if (s) return s;
    sha256 *sum = sha256_new();
    p->ticks = 0;
    p->widest_gap_s = p->stopped_s = 0;
    p->last_tick_s = clock_s();
    s = kind->use(p, a, with, size, sum, err);
    double now = clock_s();
    if (now - p->last_tick_s > p->widest_gap_s) p->widest_gap_s = now - p->last_tick_s;
    sha256_final(sum, digest ? digest : own);
    agent_close(a);
    return s;
}

/* ---- the child ------------------------------------------------------------------------------- */
static sqz_status find_agent(probe *p, const char *agent, sqz_error *err)
{
    const char *paths[] = {p->file};
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = "..", .only_paths = 1};
    sqz_status s = catalogue_open(&o, &p->catalogue, err);
    if (s) return s;
    for (int i = 0; i < catalogue_count(p->catalogue) && strcmp(agent, "-") != 0; i++)
        if (!strcmp(catalogue_at(p->catalogue, i)->id, agent))
            p->info = catalogue_at(p->catalogue, i);
    if (p->info || !strcmp(agent, "-")) return SQZ_OK;
    const char *file, *why = "the file offers no such agent";
    if (catalogue_problems(p->catalogue)) catalogue_problem(p->catalogue, 0, &file, &why);
    return err_set(err, ERR_PLUGIN, "%s", why);
}

static const check_case *find_case(const char *name, const char *kind)
{
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const check_case *c = tables[t]; c->stage; c++)
            if (!strcmp(c->name, name) && (!c->kind || (kind && !strcmp(c->kind, kind)))) return c;
    return NULL;
}

static void limit_resources(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#if !PROGRAM_SANITIZED
    struct rlimit data = {(rlim_t)8 << 30, (rlim_t)8 << 30};
    setrlimit(RLIMIT_DATA, &data);
#endif
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void check_here(const char *file, const char *test, const char *agent, uint64_t seed, int report_fd)
{
    sqz_error err = {0};
    probe p = {.file = file, .seed = seed, .report_fd = report_fd};
    host_hooks hooks = {.tick = on_tick, .ctx = &p};
    p.host = host_new(&hooks);
    host_set_device(p.host, (device){reference_hardware(), NULL});
    sqz_status s = strcmp(agent, "-") ? find_agent(&p, agent, &err) : SQZ_OK;
    const check_case *c = s ? NULL : find_case(test, p.info ? p.info->kind : NULL);
    if (s)
        FAIL(&p, "%s", err.text);
    else if (!c)
        FAIL(&p, "there is no test %s for this agent", test);
    else if ((c->flags & TEST_USES) && !subject_of(p.info->kind))
        SKIP(&p, "no subject is built in for kind %s", p.info->kind);
    else
        c->run(&p);
    report(&p);
    close(report_fd);
    host_free(p.host);
    if (p.catalogue) catalogue_close(p.catalogue);
}

int check_child_main(const char *file, const char *test, const char *agent, const char *seed)
{
    /* High and closed on exec: a plugin that tidies up descriptors 3 and 4 does not end the report.
     */
    int report_fd = fcntl(3, F_DUPFD_CLOEXEC, 400);
    if (report_fd < 0) {
        fprintf(stderr, "sqz: --check-plugin is for sqz's own use; say `sqz plugin check FILE`\n");
        return 2;
    }
    close(3);
    limit_resources();
    check_here(file, test, agent, strtoull(seed, NULL, 10), report_fd);
    _exit(0); /* what a plugin does in its destructors is none of our business */
}
