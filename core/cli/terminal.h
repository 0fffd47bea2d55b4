/* terminal.h - the terminal's manners: log lines, progress, colour, signals.
 *
 * One per process, so plain functions on static state.  Results go to stdout by cli_say; everything
 * here goes to stderr.  When stderr is no terminal: no escape codes, plain lines, at most one
 * heartbeat in 30 s. */
#ifndef SQZ_CORE_CLI_TERMINAL_H
#define SQZ_CORE_CLI_TERMINAL_H
#include "io/clock.h"
#include <stdio.h>

typedef enum term_style {
    TERM_PLAIN,
    TERM_BOLD,
    TERM_DIM,
    TERM_RED,
    TERM_GREEN,
    TERM_YELLOW,
    TERM_CYAN
} term_style;

/* color: "auto", "always" or "never". */
void terminal_setup(const char *color, int quiet, int verbose);
/* Escape code of the style for this stream, or "" where colour is off.  term_off ends it. */
const char *term_on(FILE *, term_style);
const char *term_off(FILE *);
int terminal_is_tty(FILE *); /* a terminal that understands escape codes */
int terminal_width(void);

/* A log line; level as in sqz/plugin.h (SQZ_LOG_...).  INFO shows unless quiet, DEBUG only with
 * --verbose, WARN and ERROR always. */
__attribute__((format(printf, 2, 3))) void terminal_log(int level, const char *fmt, ...);

/* Progress of one thing, done 0..1 (negative: unknown).  Drawn after 500 ms, at most every 100 ms.
 */
void progress_begin(const char *title);
void progress_update(double done, const char *what);
/* Several lines at once (the study view); n <= 8.  heartbeat: the plain line when not a terminal.
 */
void progress_block(const char *const *lines, int n, const char *heartbeat);
void progress_end(void);
/* Seconds to go by the rate of the last 10 s; negative when unknown. */
double progress_eta(void);

/* ---- text from models and plugins ------------------------------------------------------------ */
/* Writes UTF-8 text; control characters other than newline and tab, and marks that turn the
 * direction of text, become \x1b-like escapes, so that a model cannot drive the terminal.  Invalid
 * bytes become U+FFFD. */
void print_safe(FILE *, const char *text, size_t bytes);
/* The same for text with term_on's codes in it: these pass where colour is on, nothing else does.
 */
void print_styled(FILE *, const char *text);

/* ---- signals --------------------------------------------------------------------------------- */
/* SIGINT and SIGTERM count; the third one ends the process at once. */
void signals_install(void);
int signals_count(void);
/* Until fd can be read (1), a signal came, or the time is up (0); fd -1 waits for the others, seconds
 * INFINITY has no end.  Looks every 50 ms, so that a signal is not slept over that came just before
 * the wait, or to another thread. */
int signals_wait(int fd, double seconds); /* 0, 1 = cancel kindly, 2 = now */
/* Also tell fn, from the handler: it must be async-signal-safe.  NULL = nobody any more. */
void signals_tell(void (*fn)(void *ctx, int count), void *ctx);
#endif
