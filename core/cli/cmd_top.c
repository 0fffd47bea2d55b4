/* cmd_top.c - sqz top RUN: a live view of a run that goes on in another terminal.
 *
 * Reads the files of the run folder and nothing else: run.json, trials.jsonl, pareto.json, the
 * journal, and the events of the running job.  So it can start and end at any time without the run
 * noticing, and a finished or killed run can be looked at, too.  No curses: every drawing is the
 * whole page from the top of the alternate screen. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "coordinator/pareto.h"
#include "io/file.h"
#include "journal.h"
#include "report/report.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const cli_option top_options[] = {
    {"once", CLI_FLAG, NULL, NULL, 0, 0, "print the state once and end"},
    {"interval", CLI_SECONDS, "TIME", "1s", 0, 0, "between two looks"},
};

enum { MAX_AXES = 8, EVENTS_TAIL = 64 << 10, SPARK = 48 };

typedef struct snapshot {
    const char *dir;
    report_data data;
    journal *journal;
    struct timespec seen; /* change time of the journal that was read */
    off_t seen_bytes;
    /* worked out from the journal */
    int64_t trials, budget_trials, failed;
    double elapsed, budget_s, volume[SPARK]; /* volume: normalised, over the finished trials */
    int n_volume;
    char job[160]; /* "s0004.proxy" of the running job, "" = none */
    /* from the job's events */
    double done;
    char what[200];
    int alive; /* a process holds the journal */
} snapshot;

/* ---- reading --------------------------------------------------------------------------------- */

/* Whoever runs the study holds the journal's lock. */
static int is_alive(const char *dir)
{
    char *path = path_format("%s/journal.jsonl", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    if (fd >= 0) close(fd);
    free(path);
    return held;
}

static int changed(const snapshot *s, struct stat *st)
{
    char *path = path_format("%s/journal.jsonl", s->dir);
    int ok = stat(path, st) == 0;
    free(path);
    return !ok || !s->journal || st->st_size != s->seen_bytes ||
           st->st_mtim.tv_sec != s->seen.tv_sec || st->st_mtim.tv_nsec != s->seen.tv_nsec;
}

/* The volume after each "tell" of the journal, by the reference that pareto.json names. */
static void volumes(snapshot *s)
{
    const cJSON *axes = json_get(s->data.pareto, "objectives"), *item;
    const cJSON *reference = json_get(s->data.pareto, "reference");
    int m = cJSON_GetArraySize(axes), k = 0;
    int64_t n = 0, length = journal_length(s->journal);
    double ref[MAX_AXES], last = json_num(s->data.pareto, "hypervolume", NAN),
                          scale = json_num(s->data.pareto, "hypervolume_normalised", NAN) / last;
    double *points = calloc((size_t)(length + 1) * MAX_AXES, sizeof *points);
    double *all = calloc((size_t)length + 1, sizeof *all);
    s->n_volume = 0;
    if (points && all && m > 0 && m <= MAX_AXES && cJSON_GetArraySize(reference) == m) {
        cJSON_ArrayForEach(item, axes)
        {
            double sign = strcmp(json_str(item, "direction", ""), "maximize") ? 1 : -1;
            ref[k] = sign * cJSON_GetArrayItem(reference, k)->valuedouble;
            k++;
        }
        for (int64_t i = 0; i < length; i++) {
            const cJSON *r = journal_record(s->journal, i), *f = json_get(r, "f");
            if (strcmp(json_str(r, "type", ""), "tell") != 0) continue;
            for (int a = 0; a < m; a++) {
                const cJSON *x = cJSON_GetArrayItem(f, a);
                points[n * m + a] =
                    json_bool(r, "feasible", 0) && cJSON_IsNumber(x) ? x->valuedouble : NAN;
            }
            n++;
            all[n - 1] = pareto_hypervolume(points, n, m, ref) * (isfinite(scale) ? scale : 0);
        }
        int64_t first = n > SPARK ? n - SPARK : 0;
        for (int64_t i = first; i < n; i++) s->volume[s->n_volume++] = all[i];
    }
    free(points);
    free(all);
}

static void read_journal(snapshot *s)
{
    s->job[0] = 0;
    s->elapsed = 0;
    for (int64_t i = 0; i < journal_length(s->journal); i++) {
        const cJSON *r = journal_record(s->journal, i);
        const char *type = json_str(r, "type", "");
        s->elapsed = fmax(s->elapsed, json_num(r, "at", 0));
        if (!strcmp(type, "start"))
            snprintf(s->job, sizeof s->job, "%.100s.%.40s", json_str(r, "trial", ""),
                     json_str(r, "rung", ""));
        else if (strcmp(type, "resumed") != 0)
            s->job[0] = 0;
    }
}

static sqz_status look(snapshot *s, sqz_error *err)
{
    struct stat st = {0};
    s->alive = is_alive(s->dir);
    if (!changed(s, &st)) return SQZ_OK;
    report_data data = {0};
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", s->dir);
    sqz_status status = report_load(s->dir, &data, err);
    if (!status && path_exists(path)) status = journal_read(path, &j, err);
    free(path);
    if (status) {
        report_data_free(&data);
        return status;
    }
    report_data_free(&s->data);
    journal_close(s->journal);
    s->data = data;
    s->journal = j;
    s->seen = st.st_mtim;
    s->seen_bytes = st.st_size;
    const cJSON *spec = json_get(data.run, "spec"), *t;
    s->budget_trials = json_int(json_get(spec, "budget_trials"), "value", 0);
    s->budget_s = json_num(json_get(spec, "budget_wall"), "value", NAN);
    s->trials = s->failed = 0;
    cJSON_ArrayForEach(t, data.trials)
    {
        const char *outcome = json_str(t, "outcome", "");
        if (!strcmp(json_str(t, "kind", ""), "baseline")) continue;
        s->trials++;
        s->failed += strcmp(outcome, "ok") && strcmp(outcome, "killed");
    }
    if (j) {
        read_journal(s);
        volumes(s);
    }
    return SQZ_OK;
}

/* The last progress line of the running job; the file is being written, so its end may be torn. */
static void read_events(snapshot *s)
{
    s->done = 0;
    s->what[0] = 0;
    if (!s->job[0] || strchr(s->job, '/')) return;
    char *path = path_format("%s/jobs/%s/events.jsonl", s->dir, s->job), *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    free(path);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (text = malloc(EVENTS_TAIL + 1))) {
        off_t from = st.st_size > EVENTS_TAIL ? st.st_size - EVENTS_TAIL : 0;
        ssize_t n = pread(fd, text, EVENTS_TAIL, from);
        text[n > 0 ? n : 0] = 0;
        char *save = NULL;
        for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
            cJSON *e = cJSON_Parse(l);
            if (!strcmp(json_str(e, "type", ""), "progress")) {
                s->done = json_num(e, "done", 0);
                snprintf(s->what, sizeof s->what, "%s", json_str(e, "what", ""));
            }
            cJSON_Delete(e);
        }
    }
    if (fd >= 0) close(fd);
    free(text);
}

static void snapshot_free(snapshot *s)
{
    report_data_free(&s->data);
    journal_close(s->journal);
}

/* ---- the page -------------------------------------------------------------------------------- */

static const char *state_of(const snapshot *s)
{
    const char *state = json_str(s->data.run, "state", "unknown");
    if (strcmp(state, "running") != 0) return state;
    return s->alive ? "running" : "not running any more";
}

static int is_over(const snapshot *s)
{
    return !s->alive;
}

static void safe(FILE *f, const char *text, int width)
{
    int n = 0, column = 0;
    while (text[n] && column < width) {
        n++;
        while (((unsigned char)text[n] & 0xc0) == 0x80) n++;
        column++;
    }
    print_safe(f, text, (size_t)n);
    for (; column < width; column++) fputc(' ', f);
}

static void spark(FILE *f, const snapshot *s)
{
    static const char *const blocks[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                         "\u2585", "\u2586", "\u2587", "\u2588"};
    double top = 0;
    for (int i = 0; i < s->n_volume; i++) top = fmax(top, s->volume[i]);
    for (int i = 0; i < s->n_volume; i++) {
        int level = top > 0 ? (int)(s->volume[i] / top * 7.999) : 0;
        fputs(blocks[level < 0 ? 0 : level > 7 ? 7 : level], f);
    }
}

static void head(FILE *f, const snapshot *s)
{
    char elapsed[32], budget[48] = "", count[48];
    double now = s->elapsed;
    if (s->alive && s->seen.tv_sec) now += difftime(time(NULL), s->seen.tv_sec);
    format_seconds(now, elapsed);
    if (isfinite(s->budget_s)) {
        char b[32];
        format_seconds(s->budget_s, b);
        snprintf(budget, sizeof budget, " of %s", b);
    }
    snprintf(count, sizeof count, s->budget_trials > 0 ? "%lld/%lld" : "%lld", (long long)s->trials,
             (long long)s->budget_trials);
    fprintf(f, "%s", term_on(stdout, TERM_BOLD));
    safe(f, json_str(s->data.run, "id", s->dir),
         0 + (int)strlen(json_str(s->data.run, "id", s->dir)));
    fprintf(f, "%s  %s\n", term_off(stdout), state_of(s));
    fprintf(f, "trials %s, %lld failed or refused, front %d, hypervolume %.3f, %s%s\n", count,
            (long long)s->failed, cJSON_GetArraySize(json_get(s->data.pareto, "members")),
            json_num(s->data.pareto, "hypervolume_normalised", 0), elapsed, budget);
    if (s->n_volume) {
        fprintf(f, "hypervolume  %s", term_on(stdout, TERM_CYAN));
        spark(f, s);
        fprintf(f, "%s\n", term_off(stdout));
    }
}

static const cJSON *trial_of(const snapshot *s, const char *id, size_t n)
{
    const cJSON *t;
    if (s->journal)
        for (int64_t i = journal_length(s->journal) - 1; i >= 0; i--) {
            t = journal_record(s->journal, i);
            const char *have = json_str(t, "trial", "");
            if (!strcmp(json_str(t, "type", ""), "propose") && strlen(have) == n &&
                !memcmp(have, id, n))
                return t;
        }
    return NULL;
}

static void job_line(FILE *f, const snapshot *s)
{
    enum { CELLS = 24 };
    if (!s->job[0] || !s->alive) return;
    int full = (int)(fmin(fmax(s->done, 0), 1) * CELLS + 0.5);
    const cJSON *p = trial_of(s, s->job, strcspn(s->job, "."));
    safe(f, s->job, 18);
    fputs(term_on(stdout, TERM_CYAN), f);
    for (int i = 0; i < CELLS; i++) fputs(i < full ? "\u2501" : "\u2500", f);
    fprintf(f, "%s %3.0f %%  ", term_off(stdout), fmin(fmax(s->done, 0), 1) * 100);
    print_safe(f, s->what, strlen(s->what));
    if (p) {
        const char *why = json_str(p, "why", "");
        fprintf(f, "\n%s                  ", term_on(stdout, TERM_DIM));
        print_safe(f, why, strlen(why));
        fputs(term_off(stdout), f);
    }
    fputc('\n', f);
}

static void row(FILE *f, const char *id, const char *label, const cJSON *m, const char *end)
{
    char bytes[32] = "-", quality[32] = "-";
    if (json_get(m, "bytes")) format_size(json_int(m, "bytes", 0), bytes);
    if (json_get(m, "quality"))
        snprintf(quality, sizeof quality, "%.5g", json_num(m, "quality", NAN));
    safe(f, id, 7);
    safe(f, label, 34);
    fprintf(f, " %11s %10s  ", quality, bytes);
    print_safe(f, end, strcspn(end, "\n"));
    fputc('\n', f);
}

static void front_table(FILE *f, const snapshot *s, int room)
{
    const cJSON *m, *dense = json_get(s->data.pareto, "baseline");
    if (!s->data.pareto) return;
    fprintf(f, "\n%sFRONT  %-34s %11.11s %10s  SMALLER%s\n", term_on(stdout, TERM_BOLD), "",
            json_str(dense, "quality_metric", "quality"), "BYTES", term_off(stdout));
    double size = json_num(dense, "bytes", NAN);
    if (room-- > 0) row(f, "dense", "the unchanged model", dense, "");
    cJSON_ArrayForEach(m, json_get(s->data.pareto, "members"))
    {
        char ratio[32] = "";
        const cJSON *metrics = json_get(m, "metrics");
        double b = json_num(metrics, "bytes", NAN);
        if (room-- <= 0) break;
        if (size > 0 && b > 0) snprintf(ratio, sizeof ratio, "%.2fx", size / b);
        row(f, json_str(m, "strategy_id", ""), json_str(m, "label", ""), metrics, ratio);
    }
}

/* Newest first. */
static void trial_table(FILE *f, const snapshot *s, int room)
{
    int n = cJSON_GetArraySize(s->data.trials);
    if (!n) return;
    fprintf(f, "\n%sTRIAL  %-34s %10s %10s%s\n", term_on(stdout, TERM_BOLD), "newest first", "", "",
            term_off(stdout));
    for (int i = n - 1; i >= 0 && room-- > 0; i--) {
        const cJSON *t = cJSON_GetArrayItem(s->data.trials, i);
        const char *outcome = json_str(t, "outcome", ""), *reason = json_str(t, "reason", "");
        int ok = !strcmp(outcome, "ok");
        char *end = path_format("%s%s%s",
                                ok ? json_bool(t, "front", 0) ? "* on the front"
                                     : json_get(t, "feasible") && !json_bool(t, "feasible", 1)
                                         ? "misses a constraint"
                                         : ""
                                   : outcome,
                                !ok && *reason ? ": " : "", ok ? "" : reason);
        row(f, json_str(t, "strategy_id", ""), json_str(t, "label", ""), json_get(t, "metrics"),
            end);
        free(end);
    }
}

static char *page(const snapshot *s, int rows)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    int members = cJSON_GetArraySize(json_get(s->data.pareto, "members")) + 1;
    int room = rows - 10, front = members < room / 2 ? members : room / 2;
    if (front < 3) front = 3;
    head(f, s);
    job_line(f, s);
    front_table(f, s, front);
    trial_table(f, s, room - front > 3 ? room - front : 3);
    fclose(f);
    return text;
}

static void add_json(cli *c, const snapshot *s)
{
    cJSON *j = c->json;
    cJSON_AddStringToObject(j, "id", json_str(s->data.run, "id", ""));
    cJSON_AddStringToObject(j, "state", state_of(s));
    cJSON_AddBoolToObject(j, "alive", s->alive);
    cJSON_AddNumberToObject(j, "trials", (double)s->trials);
    cJSON_AddNumberToObject(j, "failed", (double)s->failed);
    cJSON_AddNumberToObject(j, "front", cJSON_GetArraySize(json_get(s->data.pareto, "members")));
    json_add_num(j, "hypervolume", json_num(s->data.pareto, "hypervolume_normalised", NAN));
    json_add_num(j, "elapsed_seconds", s->elapsed);
    cJSON_AddItemToObject(j, "hypervolume_history",
                          cJSON_CreateDoubleArray(s->volume, s->n_volume));
    if (s->job[0] && s->alive) {
        cJSON *job = cJSON_AddObjectToObject(j, "job");
        cJSON_AddStringToObject(job, "id", s->job);
        json_add_num(job, "done", s->done);
        cJSON_AddStringToObject(job, "what", s->what);
    }
}

/* ---- the terminal ---------------------------------------------------------------------------- */
static int terminal_rows(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 8 ? w.ws_row : 24;
}

/* Prints what fits on the screen, so that nothing wraps and nothing scrolls. */
static void draw(const char *text)
{
    struct winsize w;
    int width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
    int rows = terminal_rows() - 1, column = 0;
    fputs("\033[?2026h\033[H", stdout);
    for (const char *s = text; *s && rows > 0; s++) {
        if (*s == '\033') {
            const char *end = strchr(s, 'm');
            if (!end) break;
            fwrite(s, 1, (size_t)(end - s) + 1, stdout);
            s = end;
        } else if (*s == '\n') {
            fputs("\033[0m\033[K\r\n", stdout);
            column = 0;
            rows--;
        } else {
            column += ((unsigned char)*s & 0xc0) != 0x80;
            if (column < width) fputc(*s, stdout);
        }
    }
    fputs("\033[J\033[2mq ends this view, the run goes on\033[0m\033[?2026l", stdout);
    fflush(stdout);
}

/* Waits for the next look; 1 = the user wants to end. */
static int wait_for_key(double seconds)
{
    char keys[32];
    if (signals_wait(STDIN_FILENO, fmax(seconds, 0.05))) {
        ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
        if (n == 0) return 1; /* the terminal is gone */
        for (ssize_t i = 0; i < n; i++)
            if (keys[i] == 'q' || keys[i] == 'Q' || keys[i] == 3) return 1;
    }
    return signals_count() > 0;
}

static sqz_status live(snapshot *s, double interval, sqz_error *err)
{
    struct termios before, raw;
    int keys = tcgetattr(STDIN_FILENO, &before) == 0;
    if (keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs("\033[?1049h\033[?25l", stdout);
    sqz_status status = SQZ_OK;
    do {
        status = look(s, err);
        read_events(s);
        char *text = status ? NULL : page(s, terminal_rows());
        if (text) draw(text);
        free(text);
    } while (!status && !is_over(s) && !wait_for_key(interval));
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (keys) tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return status;
}

/* Where nobody can press a key: a line whenever a trial has finished. */
static sqz_status follow(cli *c, snapshot *s, double interval, sqz_error *err)
{
    int64_t told = -1;
    sqz_status status = look(s, err);
    while (!status && !is_over(s) && !signals_count()) {
        if (s->trials != told)
            cli_say(c, "trials %lld, front %d, hypervolume %.3f\n", (long long)s->trials,
                    cJSON_GetArraySize(json_get(s->data.pareto, "members")),
                    json_num(s->data.pareto, "hypervolume_normalised", 0));
        fflush(stdout);
        told = s->trials;
        signals_wait(-1, interval);
        status = look(s, err);
    }
    return status;
}

static sqz_status top(cli *c, sqz_error *err)
{
    snapshot s = {.dir = c->args[0]};
    double interval = cli_real(c, "interval");
    sqz_status status = look(&s, err);
    int terminal = terminal_is_tty(stdout) && isatty(STDIN_FILENO) && !cli_given(c, "json");
    if (!status && !cli_flag(c, "once") && !is_over(&s))
        status = terminal ? live(&s, interval, err) : follow(c, &s, interval, err);
    if (!status) {
        read_events(&s);
        char *text = page(&s, cli_flag(c, "once") ? 1000 : terminal_rows());
        cli_say(c, "%s", text ? text : "");
        free(text);
        add_json(c, &s);
        if (!s.alive && !strcmp(json_str(s.data.run, "state", ""), "running"))
            terminal_log(SQZ_LOG_WARN,
                         "the run was stopped half-way; `sqz run --resume %s` "
                         "continues it",
                         s.dir);
    }
    snapshot_free(&s);
    return status;
}

const command cmd_top = {
    .name = "top",
    .arguments = "RUN",
    .min_args = 1,
    .max_args = 1,
    .summary = "a live view of a run that goes on in another terminal",
    .details = "Trials, front and hypervolume, from the files of the run folder alone. Ends with "
               "the run; q or Ctrl-C ends the view and not the run. Without a terminal it prints "
               "a line for every finished trial.",
    .examples = "  sqz top runs/quickstart\n  sqz top runs/quickstart --once --json -\n",
    OPTIONS(top_options),
    .run = top};
