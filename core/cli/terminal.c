/* terminal.c - see terminal.h.
 *
 * Progress is redrawn in place: the cursor goes up over the lines of the last drawing, they are
 * overwritten inside a synchronised update (DEC 2026) so that nothing flickers, and cleared before
 * a log line is printed. */
#include "cli/terminal.h"
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "cli/cli.h"
#include <sqz/plugin.h>

enum { MAX_LINES = 8, WINDOW = 10 };

static struct {
    int color_out, color_err, tty_err, quiet, verbose;
    /* progress */
    int active, drawn; /* drawn: lines on the screen */
    char title[128];
    double began, last_draw, last_beat;
    double when[WINDOW], done[WINDOW]; /* one sample a second, a ring */
    int samples, next;
} term;

/* ---- colour ---------------------------------------------------------------------------------- */
static int env_set(const char *name)
{
    const char *v = getenv(name);
    return v && *v;
}

static int env_forces(const char *name)
{
    return env_set(name) && strcmp(getenv(name), "0") != 0;
}

static int dumb(void)
{
    const char *t = getenv("TERM");
    return !t || !*t || strcmp(t, "dumb") == 0;
}

static int wants_color(const char *flag, int fd)
{
    if (flag && strcmp(flag, "always") == 0) return 1;
    if (flag && strcmp(flag, "never") == 0) return 0;
    if (env_set("NO_COLOR")) return 0;
    if (env_forces("CLICOLOR_FORCE") || env_forces("FORCE_COLOR")) return 1;
    return isatty(fd) && !dumb();
}

void terminal_setup(const char *color, int quiet, int verbose)
{
    term.color_out = wants_color(color, STDOUT_FILENO);
    term.color_err = wants_color(color, STDERR_FILENO);
    term.tty_err = isatty(STDERR_FILENO) && !dumb();
    term.quiet = quiet;
    term.verbose = verbose;
}

int terminal_is_tty(FILE *f)
{
    return isatty(fileno(f)) && !dumb();
}

const char *term_on(FILE *f, term_style style)
{
    static const char *const codes[] = {"",         "\033[1m",  "\033[2m", "\033[31m",
                                        "\033[32m", "\033[33m", "\033[36m"};
    return (f == stdout ? term.color_out : term.color_err) ? codes[style] : "";
}

const char *term_off(FILE *f)
{
    return (f == stdout ? term.color_out : term.color_err) ? "\033[0m" : "";
}

int terminal_width(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

/* ---- text ------------------------------------------------------------------------------------ */
/* Length of the valid UTF-8 sequence at s, 0 when invalid. */
static size_t utf8_length(const unsigned char *s, size_t left, unsigned *code)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80             ? 1
               : (s[0] & 0xe0) == 0xc0 ? 2
               : (s[0] & 0xf0) == 0xe0 ? 3
               : (s[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    if (!n || n > left) return 0;
    unsigned c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if ((n > 1 && c < least[n]) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return n;
}

/* Marks that change the direction of the text around them: what is read is not what is there. */
static int turns_text(unsigned code)
{
    return code == 0x61c || code == 0x200e || code == 0x200f ||
           (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void print_safe(FILE *f, const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        unsigned code = 0;
        size_t n = utf8_length(s + i, bytes - i, &code);
        int control =
            (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7f && code < 0xa0);
        if (!n)
            fputs("\xef\xbf\xbd", f);
        else if (control)
            fprintf(f, "\\x%02x", code);
        else if (turns_text(code))
            fprintf(f, "\\u%04x", code);
        else
            fwrite(s + i, 1, n, f);
        i += n ? n : 1;
    }
}

/* Bytes of the code of ours (term_on, term_off) that the text begins with, or 0. */
static size_t own_code(const char *s)
{
    static const char *const codes[] = {"\033[0m",  "\033[1m",  "\033[2m", "\033[31m",
                                        "\033[32m", "\033[33m", "\033[36m"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strncmp(s, codes[i], strlen(codes[i]))) return strlen(codes[i]);
    return 0;
}

void print_styled(FILE *f, const char *text)
{
    int color = f == stdout ? term.color_out : term.color_err;
    while (*text) {
        size_t n = color ? own_code(text) : 0;
        if (n) {
            fwrite(text, 1, n, f);
        } else {
            n = 1 + strcspn(text + 1, "\033");
            print_safe(f, text, n);
        }
        text += n;
    }
}

/* ---- drawing --------------------------------------------------------------------------------- */
static void erase(void)
{
    if (!term.drawn) return;
    if (term.drawn > 1) fprintf(stderr, "\033[%dA", term.drawn - 1);
    fprintf(stderr, "\r\033[J");
    term.drawn = 0;
}

/* Prints at most `width` columns of the line (one column a code point). */
static void put_line(const char *line, int width)
{
    int column = 0;
    for (const char *s = line; *s && column < width;) {
        unsigned code;
        size_t n = own_code(s); /* has no width */
        if (n) {
            fwrite(s, 1, n, stderr);
        } else {
            n = utf8_length((const unsigned char *)s, strlen(s), &code);
            n = n ? n : 1;
            if (*s == '\n' || *s == '\t')
                fputc(' ', stderr);
            else
                print_safe(stderr, s, n);
            column++;
        }
        s += n;
    }
    fputs(term.color_err ? "\033[0m" : "", stderr);
}

static void draw(const char *const *lines, int n)
{
    int width = terminal_width() - 1;
    fputs("\033[?2026h", stderr);
    if (term.drawn > 1) fprintf(stderr, "\033[%dA", term.drawn - 1);
    for (int i = 0; i < n; i++) {
        fputs(i ? "\n\r\033[K" : "\r\033[K", stderr);
        put_line(lines[i], width);
    }
    fputs("\033[J\033[?2026l", stderr);
    fflush(stderr);
    term.drawn = n;
}

void terminal_log(int level, const char *fmt, ...)
{
    if (level <= SQZ_LOG_DEBUG && !term.verbose) return;
    if (level == SQZ_LOG_INFO && term.quiet) return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    erase();
    if (level >= SQZ_LOG_ERROR)
        fprintf(stderr, "%serror:%s ", term_on(stderr, TERM_RED), term_off(stderr));
    else if (level == SQZ_LOG_WARN)
        fprintf(stderr, "%swarning:%s ", term_on(stderr, TERM_YELLOW), term_off(stderr));
    print_safe(stderr, text, strlen(text));
    fputc('\n', stderr);
    fflush(stderr);
}

/* ---- progress -------------------------------------------------------------------------------- */
void progress_begin(const char *title)
{
    progress_end();
    snprintf(term.title, sizeof term.title, "%s", title);
    term.active = 1;
    term.began = term.last_beat = clock_s();
    term.last_draw = 0;
    term.samples = term.next = 0;
}

static void sample(double now, double done)
{
    int last = (term.next + WINDOW - 1) % WINDOW;
    if (term.samples && done < term.done[last]) term.samples = 0; /* a new phase began */
    if (term.samples && now - term.when[last] < 1) return;
    term.when[term.next] = now;
    term.done[term.next] = done;
    term.next = (term.next + 1) % WINDOW;
    if (term.samples < WINDOW) term.samples++;
}

double progress_eta(void)
{
    if (term.samples < 2) return -1;
    int last = (term.next + WINDOW - 1) % WINDOW;
    int first = (term.next + WINDOW - term.samples) % WINDOW;
    double rate = (term.done[last] - term.done[first]) / (term.when[last] - term.when[first]);
    return rate > 0 ? (1 - term.done[last]) / rate : -1;
}

/* Is it time to draw?  Also lets a non-terminal have its heartbeat. */
static int due(double now)
{
    if (!term.active || term.quiet || !term.tty_err) return 0;
    if (now - term.began < 0.5 || now - term.last_draw < 0.1) return 0;
    term.last_draw = now;
    return 1;
}

static int beat_due(double now)
{
    if (!term.active || term.quiet || term.tty_err || now - term.last_beat < 30) return 0;
    term.last_beat = now;
    return 1;
}

void progress_update(double done, const char *what)
{
    double now = clock_s();
    if (!term.active) return;
    if (done >= 0) sample(now, done);
    char line[512], eta[48] = "", left[32];
    double to_go = done >= 0 ? progress_eta() : -1;
    if (to_go >= 0) {
        format_seconds(to_go, left);
        snprintf(eta, sizeof eta, "  %s left", left);
    }
    if (beat_due(now)) {
        snprintf(line, sizeof line, "%s: %.0f %%%s %s\n", term.title, fmax(done, 0) * 100, eta,
                 what ? what : "");
        print_safe(stderr, line, strlen(line));
        fflush(stderr);
    }
    if (!due(now)) return;
    enum { CELLS = 24 };
    char bar[3 * CELLS + 1] = "";
    int full = (int)(fmin(fmax(done, 0), 1) * CELLS + 0.5);
    for (int i = 0; i < CELLS; i++) strcat(bar, i < full ? "\u2501" : "\u2500");
    snprintf(line, sizeof line, "%s%s%s %s%s%s %3.0f %%%s  %s%s", term_on(stderr, TERM_BOLD),
             term.title, term_off(stderr), term_on(stderr, TERM_CYAN), bar, term_off(stderr),
             fmax(done, 0) * 100, eta, term_on(stderr, TERM_DIM), what ? what : "");
    draw((const char *const[]){line}, 1);
}

void progress_block(const char *const *lines, int n, const char *heartbeat)
{
    double now = clock_s();
    if (heartbeat && beat_due(now)) {
        print_safe(stderr, heartbeat, strlen(heartbeat));
        fputc('\n', stderr);
        fflush(stderr);
    }
    if (due(now)) draw(lines, n < MAX_LINES ? n : MAX_LINES);
}

void progress_end(void)
{
    if (!term.active) return;
    erase();
    fflush(stderr);
    term.active = 0;
}

/* ---- signals --------------------------------------------------------------------------------- */
static volatile sig_atomic_t signals;
static void (*volatile listener)(void *, int);
static void *volatile listener_ctx;

static void on_signal(int sig)
{
    (void)sig;
    if (++signals >= 3) _exit(130);
    void (*fn)(void *, int) = listener;
    if (fn) fn(listener_ctx, signals);
}

void signals_tell(void (*fn)(void *, int), void *ctx)
{
    listener = NULL;
    listener_ctx = ctx;
    listener = fn;
    if (fn && signals) fn(ctx, signals_count()); /* one came before */
}

void signals_install(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that left is a write error, told once */
}

int signals_count(void)
{
    return signals > 2 ? 2 : signals;
}

int signals_wait(int fd, double seconds)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    double until = clock_s() + seconds;
    for (;;) {
        double left = until - clock_s();
        int slice = left < 0.05 ? (int)(1000 * fmax(left, 0)) + 1 : 50; /* ms */
        if (poll(&in, 1, slice) > 0) return 1;
        if (signals || left <= 0) return 0;
    }
}
