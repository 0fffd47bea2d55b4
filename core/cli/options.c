/* options.c - one table per command: parsing and help both come from it.
 *
 * Options and arguments may be mixed; --name VALUE and --name=VALUE are the same; `--` ends the
 * options.  Left out: abbreviations (they break scripts when an option is added) and short options
 * beyond -h, -q, -v. */
#include "cli/cli.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cli_option cli_common[] = {
    {"json", CLI_TEXT, "FILE", NULL, 0, 0,
     "write the result as JSON; - = stdout, and nothing else goes there"},
    {"seed", CLI_INT, "N", "0", 0, 9007199254740991.0, "seed of everything random"},
    {"threads", CLI_INT, "N", "0", 0, 4096, "threads to use; 0 = all this process may use"},
    {"registry", CLI_TEXT, "DIR", NULL, 0, 0,
     "artifact registry (default: $SQZ_REGISTRY, else ~/.local/share/sqz/registry)"},
    {"plugin-path", CLI_LIST, "DIR", NULL, 0, 0,
     "look for plugins here first; may be given several times"},
    {"color", CLI_CHOICE, "auto|always|never", "auto", 0, 0,
     "colour on the terminal; the flag wins over NO_COLOR and CLICOLOR_FORCE"},
    {"quiet", CLI_FLAG, NULL, NULL, 0, 0, "no progress, no log; errors only (-q)"},
    {"verbose", CLI_FLAG, NULL, NULL, 0, 0, "more log; keep work folders of failures (-v)"},
    {"help", CLI_FLAG, NULL, NULL, 0, 0, "this text (-h)"},
};
const int cli_n_common = sizeof cli_common / sizeof *cli_common;

/* ---- the table, own options first ------------------------------------------------------------ */
static int option_count(const command *c)
{
    return c->n_options + cli_n_common;
}

static const cli_option *option_at(const command *c, int i)
{
    return i < c->n_options ? &c->options[i] : &cli_common[i - c->n_options];
}

static int option_find(const command *c, const char *name, size_t length)
{
    for (int i = 0; i < option_count(c); i++) {
        const char *have = option_at(c, i)->name;
        if (strlen(have) == length && memcmp(have, name, length) == 0) return i;
    }
    return -1;
}

static sqz_status unknown_option(const command *c, const char *name, size_t length, sqz_error *err)
{
    char word[128];
    snprintf(word, sizeof word, "%.*s", (int)(length < 100 ? length : 100), name);
    const char **names = calloc((size_t)option_count(c) + 1, sizeof *names);
    const char *near = NULL;
    if (names) {
        for (int i = 0; i < option_count(c); i++) names[i] = option_at(c, i)->name;
        near = json_nearest(word, names, option_count(c));
        free(names);
    }
    if (near) return err_set(err, ERR_USAGE, "unknown option --%s; did you mean --%s?", word, near);
    return err_set(err, ERR_USAGE, "unknown option --%s; `sqz %s --help` lists the options", word,
                   c->name);
}

/* ---- values ---------------------------------------------------------------------------------- */
typedef struct unit {
    const char *name;
    double factor;
} unit;

static const unit size_units[] = {
    {"b", 1},
    {"k", 1e3},
    {"kb", 1e3},
    {"m", 1e6},
    {"mb", 1e6},
    {"g", 1e9},
    {"gb", 1e9},
    {"t", 1e12},
    {"tb", 1e12},
    {"kib", 1024},
    {"mib", 1048576},
    {"gib", 1073741824.0},
    {"tib", 1099511627776.0},
};
static const unit time_units[] = {
    {"ms", 1e-3}, {"s", 1},       {"sec", 1},      {"m", 60},    {"min", 60},
    {"h", 3600},  {"hour", 3600}, {"hours", 3600}, {"d", 86400},
};

/* A number and its unit at *text; moves *text behind both. */
static int number_with_unit(const char **text, const unit *units, size_t n, double *value)
{
    char *end;
    if (!isdigit((unsigned char)**text) && **text != '.') return 0;
    double v = strtod(*text, &end);
    if (end == *text || !isfinite(v)) return 0;
    while (*end == ' ') end++;
    char word[8];
    size_t length = 0;
    while (isalpha((unsigned char)*end) && length + 1 < sizeof word)
        word[length++] = (char)tolower((unsigned char)*end++);
    word[length] = 0;
    *text = end;
    *value = v;
    if (!length) return 1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(units[i].name, word) == 0) return *value = v * units[i].factor, 1;
    return 0;
}

sqz_status parse_size(const char *text, int64_t *bytes, sqz_error *err)
{
    const char *at = text;
    double value;
    if (!number_with_unit(&at, size_units, sizeof size_units / sizeof *size_units, &value) || *at ||
        value > 9e18)
        return err_set(err, ERR_USAGE, "\"%.80s\" is no size; write 8GB, 700MB, 1.5GiB or bytes",
                       text);
    *bytes = (int64_t)llround(value);
    return SQZ_OK;
}

sqz_status parse_seconds(const char *text, double *seconds, sqz_error *err)
{
    const char *at = text;
    double total = 0, value;
    int parts = 0;
    while (*at && number_with_unit(&at, time_units, sizeof time_units / sizeof *time_units, &value))
        total += value, parts++;
    if (*at || !parts)
        return err_set(err, ERR_USAGE, "\"%.80s\" is no duration; write 2h, 90s or 1h30m", text);
    *seconds = total;
    return SQZ_OK;
}

void format_size(int64_t bytes, char out[32])
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    while (fabs(v) >= 999.5 && u < 4) v /= 1000, u++;
    snprintf(out, 32, u == 0 ? "%.0f %s" : fabs(v) < 9.995 ? "%.2f %s" : "%.1f %s", v, names[u]);
}

void format_seconds(double s, char out[32])
{
    if (!(s >= 0))
        snprintf(out, 32, "-");
    else if (s < 0.0995)
        snprintf(out, 32, "%.1f ms", s * 1e3);
    else if (s < 9.95)
        snprintf(out, 32, "%.1f s", s);
    else if (s < 59.5)
        snprintf(out, 32, "%.0f s", s);
    else if (s < 3599.5)
        snprintf(out, 32, "%dm %02ds", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else if (s < 99 * 3600.0)
        snprintf(out, 32, "%dh %02dm", (int)(s / 3600), (int)(s / 60) % 60);
    else
        snprintf(out, 32, "99h+");
}

static int word_in(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = words; *at;) {
        const char *end = strchrnul(at, '|');
        if ((size_t)(end - at) == length && memcmp(at, word, length) == 0) return 1;
        at = *end ? end + 1 : end;
    }
    return 0;
}

static sqz_status check_range(const cli_option *o, double v, const char *text, sqz_error *err)
{
    if (o->lo < o->hi && !(v >= o->lo && v <= o->hi))
        return err_set(err, ERR_USAGE, "--%s %.80s is outside %.16g..%.16g", o->name, text, o->lo,
                       o->hi);
    return SQZ_OK;
}

/* Values are kept as text and checked once here; the getters convert again. */
static sqz_status check_value(const cli_option *o, const char *text, sqz_error *err)
{
    char *end;
    int64_t bytes;
    double seconds;
    sqz_status s = SQZ_OK;
    errno = 0;
    switch (o->type) {
    case CLI_INT: {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return err_set(err, ERR_USAGE, "--%s wants a whole number, not \"%.80s\"", o->name,
                           text);
        return check_range(o, (double)v, text, err);
    }
    case CLI_REAL: {
        double v = strtod(text, &end);
        if (end == text || *end || !isfinite(v))
            return err_set(err, ERR_USAGE, "--%s wants a number, not \"%.80s\"", o->name, text);
        return check_range(o, v, text, err);
    }
    case CLI_SIZE: s = parse_size(text, &bytes, err); break;
    case CLI_SECONDS: s = parse_seconds(text, &seconds, err); break;
    case CLI_CHOICE:
        if (!word_in(o->value, text))
            return err_set(err, ERR_USAGE, "--%s is one of %s, not \"%.80s\"", o->name, o->value,
                           text);
        break;
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_LIST: break;
    }
    if (s) err_prefix(err, "--%s", o->name);
    return s;
}

/* ---- parsing --------------------------------------------------------------------------------- */
static sqz_status set_value(cli *c, int i, const char *text, sqz_error *err)
{
    const cli_option *o = option_at(c->command, i);
    sqz_status s = check_value(o, text, err);
    if (s) return s;
    c->values[i] = text;
    if (o->type != CLI_LIST) return SQZ_OK;
    const char **grown = realloc(c->lists[i], ((size_t)c->n_lists[i] + 1) * sizeof *grown);
    if (!grown) return err_set(err, SQZ_E_NOMEM, "out of memory reading the command line");
    grown[c->n_lists[i]++] = text;
    c->lists[i] = grown;
    return SQZ_OK;
}

/* An option at argv[*at]; leaves *at on the last word used. */
static sqz_status take_option(cli *c, int argc, char **argv, int *at, sqz_error *err)
{
    const char *name = argv[*at] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    int i = option_find(c->command, name, length);
    if (i < 0) return unknown_option(c->command, name, length, err);
    const cli_option *o = option_at(c->command, i);
    if (o->type == CLI_FLAG) {
        if (equals) return err_set(err, ERR_USAGE, "--%s takes no value", o->name);
        c->values[i] = "1";
        return SQZ_OK;
    }
    if (equals) return set_value(c, i, equals + 1, err);
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (!next || (strncmp(next, "--", 2) == 0 && next[2] &&
                  option_find(c->command, next + 2, strcspn(next + 2, "=")) >= 0))
        return err_set(err, ERR_USAGE, "--%s needs a value: --%s=%s", o->name, o->name, o->value);
    ++*at;
    return set_value(c, i, next, err);
}

static const char *short_name(const char *word)
{
    if (strcmp(word, "-h") == 0) return "help";
    if (strcmp(word, "-q") == 0) return "quiet";
    if (strcmp(word, "-v") == 0) return "verbose";
    return NULL;
}

static sqz_status check_count(const cli *c, sqz_error *err)
{
    const command *k = c->command;
    if (c->n_args < k->min_args)
        return err_set(err, ERR_USAGE, "%s missing; usage: sqz %s %s",
                       k->min_args == 1 ? "an argument is" : "arguments are", k->name,
                       k->arguments);
    if (c->n_args > k->max_args)
        return err_set(err, ERR_USAGE, "\"%.80s\" is one argument too many; usage: sqz %s %s",
                       c->args[k->max_args], k->name, k->arguments);
    return SQZ_OK;
}

sqz_status cli_parse(const command *k, int argc, char **argv, cli *out, sqz_error *err)
{
    size_t n = (size_t)option_count(k);
    *out = (cli){.command = k};
    out->values = calloc(n, sizeof *out->values);
    out->lists = calloc(n, sizeof *out->lists);
    out->n_lists = calloc(n, sizeof *out->n_lists);
    out->args = calloc((size_t)argc + 1, sizeof *out->args);
    out->json = cJSON_CreateObject();
    sqz_status s = SQZ_OK;
    if (!out->values || !out->lists || !out->n_lists || !out->args || !out->json)
        s = err_set(err, SQZ_E_NOMEM, "out of memory reading the command line");
    int options = 1;
    for (int i = 0; i < argc && !s; i++) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0)
            options = 0;
        else if (options && strncmp(word, "--", 2) == 0)
            s = take_option(out, argc, argv, &i, err);
        else if (options && short_name(word))
            out->values[option_find(k, short_name(word), strlen(short_name(word)))] = "1";
        else if (options && word[0] == '-' && word[1] && !isdigit((unsigned char)word[1]))
            s = err_set(err, ERR_USAGE, "unknown option %.80s; options are written --name", word);
        else
            out->args[out->n_args++] = word;
    }
    if (!s && !cli_flag(out, "help")) s = check_count(out, err);
    if (s) cli_free(out);
    return s;
}

void cli_free(cli *c)
{
    for (int i = 0; c->lists && i < option_count(c->command); i++) free(c->lists[i]);
    free(c->lists);
    free(c->n_lists);
    free(c->values);
    free(c->args);
    cJSON_Delete(c->json);
    *c = (cli){0};
}

/* ---- getters --------------------------------------------------------------------------------- */
static int must_find(const cli *c, const char *name)
{
    int i = option_find(c->command, name, strlen(name));
    if (i < 0) {
        fprintf(stderr, "sqz: the table of `%s` has no --%s\n", c->command->name, name);
        abort();
    }
    return i;
}

int cli_given(const cli *c, const char *name)
{
    return c->values[must_find(c, name)] != NULL;
}
int cli_flag(const cli *c, const char *name)
{
    return cli_given(c, name);
}

const char *cli_text(const cli *c, const char *name)
{
    int i = must_find(c, name);
    return c->values[i] ? c->values[i] : option_at(c->command, i)->fallback;
}

int64_t cli_int(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);
    int64_t bytes = 0;
    if (!text) return 0;
    if (option_at(c->command, must_find(c, name))->type == CLI_SIZE)
        return parse_size(text, &bytes, NULL) ? 0 : bytes;
    return strtoll(text, NULL, 10);
}

double cli_real(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);
    double seconds = 0;
    if (!text) return 0;
    if (option_at(c->command, must_find(c, name))->type == CLI_SECONDS)
        return parse_seconds(text, &seconds, NULL) ? 0 : seconds;
    return strtod(text, NULL);
}

int cli_list(const cli *c, const char *name, const char *const **items)
{
    int i = must_find(c, name);
    if (items) *items = c->lists[i];
    return c->n_lists[i];
}

/* ---- help ------------------------------------------------------------------------------------ */
/* `text` wrapped at `width` columns, continuation lines indented. */
static void wrap(FILE *f, const char *text, int indent, int width)
{
    int column = indent;
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, " \n");
        if (column > indent && column + 1 + (int)length > width) {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', f);
            column++;
        }
        fprintf(f, "%.*s", (int)length, at);
        column += (int)length;
        at += length;
        if (*at == '\n') {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
        }
        if (*at) at++;
    }
    fputc('\n', f);
}

static void help_row(FILE *f, const cli_option *o)
{
    char left[64], text[512];
    snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    snprintf(text, sizeof text, "%s%s%s%s", o->help, o->fallback ? " (default: " : "",
             o->fallback ? o->fallback : "", o->fallback ? ")" : "");
    fprintf(f, "  %-26s", left);
    if (strlen(left) > 25) fprintf(f, "\n%28s", "");
    wrap(f, text, 28, 100);
}

char *cli_help(const command *k)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return strdup("out of memory\n");
    fprintf(f, "sqz %s - %s\n\nUsage: sqz %s%s%s [options]\n", k->name, k->summary, k->name,
            *k->arguments ? " " : "", k->arguments);
    if (k->details) {
        fputc('\n', f);
        wrap(f, k->details, 0, 100);
    }
    if (k->n_options) fprintf(f, "\nOptions:\n");
    for (int i = 0; i < k->n_options; i++) help_row(f, &k->options[i]);
    fprintf(f, "\nCommon options:\n");
    for (int i = 0; i < cli_n_common; i++) help_row(f, &cli_common[i]);
    if (k->examples) fprintf(f, "\nExamples:\n%s", k->examples);
    fclose(f);
    return text;
}
