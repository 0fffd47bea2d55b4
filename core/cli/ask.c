/* ask.c - see ask.h. */
#include "cli/ask.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ask_allowed(const cli *c)
{
    return !cli_flag(c, "yes") && !cli_flag(c, "quiet") && !cli_json_stdout(c) &&
           isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

/* ---- answers --------------------------------------------------------------------------------- */

char *ask_read_drop(const char *answer, sqz_error *err)
{
    char *end;
    double v = strtod(answer, &end);
    int percent = 0;
    while (isspace((unsigned char)*end)) end++;
    if (*end == '%') percent = 1, end++;
    while (isspace((unsigned char)*end)) end++;
    if (end == answer || *end || !isfinite(v) || v < 0) {
        err_set(err, ERR_USAGE, "write a number such as 0.02, or 2%%");
        return NULL;
    }
    if (!percent && v >= 1) {
        err_set(err, ERR_USAGE, "%g is %g %%; write %g or %g%% when that is what you mean", v,
                100 * v, v / 100, v);
        return NULL;
    }
    return path_format("%.10g", percent ? v / 100 : v);
}

char *ask_read_size(const char *answer, sqz_error *err)
{
    int64_t bytes;
    if (parse_size(answer, &bytes, err)) return NULL;
    if (bytes > 0) return path_format("%lld", (long long)bytes);
    err_set(err, ERR_USAGE, "nothing fits into 0 bytes; write a size such as 8GB");
    return NULL;
}

/* ---- asking ---------------------------------------------------------------------------------- */
typedef struct question {
    const char *text, *fallback, *key;
    char *(*read)(const char *, sqz_error *);
} question;

/* A trimmed line; 0 at the end of input or after a signal.  The terminal gives a line a read, so
 * that nothing waits in stdin's buffer unseen by poll. */
static int read_line(char *line, size_t size)
{
    if (!signals_wait(STDIN_FILENO, INFINITY) || !fgets(line, (int)size, stdin)) {
        clearerr(stdin); /* Ctrl-D ends the answer, not the terminal */
        fputc('\n', stderr);
        return 0;
    }
    size_t n = strlen(line);
    while (n && isspace((unsigned char)line[n - 1])) line[--n] = 0;
    size_t blank = strspn(line, " \t");
    memmove(line, line + blank, n - blank + 1);
    return 1;
}

/* *value: the answer, or NULL for the default. */
static sqz_status ask(const question *q, char **value, sqz_error *err)
{
    enum { TRIES = 3 };
    *value = NULL;
    for (int i = 0; i < TRIES; i++) {
        char line[256];
        sqz_error why = {0};
        fprintf(stderr, "%s%s%s [%s]: ", term_on(stderr, TERM_BOLD), q->text, term_off(stderr),
                q->fallback);
        fflush(stderr);
        int got = read_line(line, sizeof line);
        if (signals_count())
            return err_set(err, SQZ_E_CANCELLED, "interrupted at a question; nothing was begun");
        if (!got || !*line) return SQZ_OK;
        if ((*value = q->read(line, &why))) return SQZ_OK;
        fputs("  ", stderr);
        print_safe(stderr, why.text, strlen(why.text));
        fputc('\n', stderr);
    }
    fprintf(stderr, "  the default is taken: %s\n", q->fallback);
    return SQZ_OK;
}

sqz_status ask_constraints(const config *c, config_override out[ASK_MOST], int *n, sqz_error *err)
{
    const question questions[ASK_MOST] = {
        {"How much accuracy may be lost? (0.02 = two points; of perplexity 2 %)", "0.02",
         "constraints.max_accuracy_drop", ask_read_drop},
        {"How much memory may the result take? (such as 8GB)", "no limit", "constraints.max_vram",
         ask_read_size},
    };
    const double given[ASK_MOST] = {c->max_accuracy_drop, c->max_vram};
    *n = 0;
    for (int i = 0; i < ASK_MOST; i++) {
        char *value = NULL;
        if (isfinite(given[i])) continue;
        sqz_status s = ask(&questions[i], &value, err);
        if (s) {
            while (*n) free((char *)out[--*n].text);
            return s;
        }
        if (!value) continue;
        out[(*n)++] =
            (config_override){path_format("%s=%s", questions[i].key, value), "your answer"};
        free(value);
    }
    return SQZ_OK;
}
