/* manual.c - manual pages (troff, man macros) from the command and option tables. */
#include "cli/pages.h"
#include "io/file.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Text of a table as troff: no escapes, no requests, hyphens that can be copied. */
static void escaped(FILE *f, const char *text)
{
    int start = 1;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) fputs("\\&", f);
        if (*text == '\\')
            fputs("\\e", f);
        else if (*text == '-')
            fputs("\\-", f);
        else
            fputc(*text, f);
        start = *text == '\n';
    }
}

static void option_rows(FILE *f, const cli_option *rows, int n)
{
    for (int i = 0; i < n; i++) {
        const cli_option *o = &rows[i];
        fprintf(f, ".TP\n\\fB\\-\\-");
        escaped(f, o->name);
        fprintf(f, "\\fR");
        if (o->value) {
            fprintf(f, " \\fI");
            escaped(f, o->value);
            fprintf(f, "\\fR");
        }
        fputc('\n', f);
        escaped(f, o->help);
        if (o->fallback) {
            fprintf(f, " (default: ");
            escaped(f, o->fallback);
            fputc(')', f);
        }
        fputc('\n', f);
    }
}

static void examples(FILE *f, const char *text)
{
    fprintf(f, ".SH EXAMPLES\n.nf\n");
    escaped(f, text);
    fprintf(f, ".fi\n");
}

static void exit_codes(FILE *f)
{
    fprintf(f, ".SH EXIT STATUS\n");
    for (int i = 0; i < cli_n_exit_codes; i++) {
        fprintf(f, ".TP\n.B %d\n", cli_exit_codes[i].code);
        escaped(f, cli_exit_codes[i].meaning);
        fputc('\n', f);
    }
}

char *man_file_name(const command *k)
{
    if (!k) return path_format("sqz.1");
    char *name = path_format("sqz-%s.1", k->name);
    for (char *c = name; *c; c++)
        if (*c == ' ') *c = '-';
    return name;
}

/* "SQZ-PLUGIN-LIST" of "sqz-plugin-list.1" */
static void title(FILE *f, const command *k)
{
    char *name = man_file_name(k);
    fprintf(f, ".TH \"");
    for (char *c = name; *c && *c != '.'; c++) fputc(toupper((unsigned char)*c), f);
    fprintf(f, "\" 1 \"\" \"sqz %s\" \"sqz manual\"\n", SQZ_VERSION);
    free(name);
}

static void command_page(FILE *f, const command *k)
{
    char *name = man_file_name(k);
    title(f, k);
    fprintf(f, ".SH NAME\n");
    name[strlen(name) - 2] = 0;
    escaped(f, name);
    free(name);
    fprintf(f, " \\- ");
    escaped(f, k->summary);
    fprintf(f, "\n.SH SYNOPSIS\n\\fBsqz %s\\fR", k->name);
    if (*k->arguments) fprintf(f, " \\fI%s\\fR", k->arguments);
    fprintf(f, " [options]\n");
    if (k->details) {
        fprintf(f, ".SH DESCRIPTION\n");
        escaped(f, k->details);
        fputc('\n', f);
    }
    if (k->n_options) fprintf(f, ".SH OPTIONS\n");
    option_rows(f, k->options, k->n_options);
    fprintf(f, ".SH COMMON OPTIONS\n");
    option_rows(f, cli_common, cli_n_common);
    exit_codes(f);
    if (k->examples) examples(f, k->examples);
    fprintf(f, ".SH SEE ALSO\n.BR sqz (1)\n");
}

static void program_page(FILE *f)
{
    title(f, NULL);
    fprintf(f,
            ".SH NAME\nsqz \\- compresses a language model and measures what that costs\n"
            ".SH SYNOPSIS\n"
            "\\fBsqz \\-\\-model\\fR \\fIMODEL\\fR \\fB\\-\\-dataset\\fR \\fIFILE\\fR [options]\n"
            ".br\n\\fBsqz \\-\\-config\\fR \\fIpipeline.json\\fR [\\fB\\-\\-set\\fR "
            "\\fIkey=value\\fR]\n"
            ".br\n\\fBsqz\\fR \\fICOMMAND\\fR [arguments] [options]\n"
            ".SH DESCRIPTION\n"
            "A run leaves the Pareto front of compressed models: checkpoints that other tools "
            "load, each with measured quality, size and speed, and a report.\n"
            ".SH COMMANDS\n");
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        if (k->hidden) continue;
        char *name = man_file_name(k);
        name[strlen(name) - 2] = 0;
        fprintf(f, ".TP\n.BR %s (1)\n", name);
        escaped(f, k->summary);
        fputc('\n', f);
        free(name);
    }
    fprintf(f, ".SH COMMON OPTIONS\n");
    option_rows(f, cli_common, cli_n_common);
    exit_codes(f);
}

char *man_page(const command *k)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    if (k)
        command_page(f, k);
    else
        program_page(f);
    fclose(f);
    return text;
}
