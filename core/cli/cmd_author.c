/* cmd_author.c - sqz plugin new, sqz plugin check: from an idea to a plugin that others can load.
 */
#include "check/check.h"
#include "check/scaffold.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include <stdlib.h>
#include <string.h>

/* ---- plugin new ------------------------------------------------------------------------------ */
static const cli_option new_options[] = {
    {"kind", CLI_CHOICE, "method|eval|search|format|hardware|tracker|data", "method", 0, 0,
     "what the plugin offers"},
    {"id", CLI_TEXT, "ID", NULL, 0, 0,
     "its id, a reverse domain name of yours (default: org.example.NAME)"},
    {"output", CLI_TEXT, "DIR", NULL, 0, 0, "the folder to make (default: ./NAME)"},
};

static sqz_status make_new(cli *c, sqz_error *err)
{
    const char *name = c->args[0], *kind = cli_text(c, "kind");
    const char *folder = cli_given(c, "output") ? cli_text(c, "output") : name;
    char *made;
    sqz_status s = scaffold_make(kind, name, cli_text(c, "id"), folder, &made, err);
    if (s) return s;
    cJSON_AddStringToObject(c->json, "folder", folder);
    cJSON_AddStringToObject(c->json, "source", made);
    cli_say(c,
            "%s: a %s plugin.  Edit %s, then\n"
            "  make -C %s                      build it (cmake works, too)\n"
            "  sqz plugin check %s/%s.so   find out whether it is fit\n",
            folder, kind, made, folder, folder, name);
    free(made);
    return SQZ_OK;
}

const command cmd_plugin_new = {
    .name = "plugin new",
    .arguments = "NAME",
    .min_args = 1,
    .max_args = 1,
    .summary = "make a plugin project of your own: source, build files, test, README",
    .details =
        "The project stands outside sqz's tree and builds against the installed headers alone.",
    .examples = "  sqz plugin new mymethod --kind method\n"
                "  sqz plugin new mymetric --kind eval --output ~/src/mymetric\n",
    OPTIONS(new_options),
    .run = make_new};

/* ---- plugin check ---------------------------------------------------------------------------- */
static const cli_option check_options_table[] = {
    {"only", CLI_TEXT, "TEST", NULL, 0, 0, "run this test only"},
    {"list", CLI_FLAG, NULL, NULL, 0, 0, "show the tests and what each asks"},
    {"fuzz", CLI_SECONDS, "TIME", NULL, 0, 0,
     "then go on with random parameters and inputs, such as 60s or 5m for each agent"},
    {"in-process", CLI_FLAG, NULL, NULL, 0, 0,
     "run the tests in this process, for a debugger; a crash ends sqz"},
};

static void list_tests(cli *c)
{
    cJSON *tests = cJSON_AddArrayToObject(c->json, "tests");
    for (int i = 0; i < check_tests(); i++) {
        const char *stage, *name, *kind, *says;
        check_test(i, &stage, &name, &kind, &says);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "stage", stage);
        cJSON_AddStringToObject(o, "test", name);
        if (kind) cJSON_AddStringToObject(o, "kind", kind);
        cJSON_AddStringToObject(o, "says", says);
        cJSON_AddItemToArray(tests, o);
        cli_say(c, "%-11s %-26s %-11s %s\n", stage, name, kind ? kind : "", says);
    }
}

static int colour_of(const char *verdict)
{
    if (!strcmp(verdict, "pass")) return TERM_GREEN;
    if (!strcmp(verdict, "warn")) return TERM_YELLOW;
    return strcmp(verdict, "skip") ? TERM_RED : TERM_DIM;
}

static void show_row(void *ctx, const check_row *row)
{
    cli *c = ctx;
    cli_say(c, "%s%-8s%s %-11s %-26s %s%s%s\n", term_on(stdout, colour_of(row->verdict)),
            row->verdict, term_off(stdout), row->stage, row->test, row->agent ? row->agent : "",
            row->agent ? ": " : "", row->text);
    fflush(stdout);
}

static int stop_asked(void *ctx)
{
    (void)ctx;
    return signals_count() > 0;
}

static sqz_status check(cli *c, sqz_error *err)
{
    if (cli_flag(c, "list")) {
        list_tests(c);
        return SQZ_OK;
    }
    if (c->n_args != 1)
        return err_set(err, ERR_USAGE, "which file? `sqz plugin check FILE.so`, or --list");
    check_options o = {.file = c->args[0],
                       .only = cli_text(c, "only"),
                       .seed = cli_seed(c),
                       .fuzz_s = cli_given(c, "fuzz") ? cli_real(c, "fuzz") : 0,
                       .in_process = cli_flag(c, "in-process"),
                       .done = show_row,
                       .stop = stop_asked,
                       .ctx = c};
    int passed = 0;
    sqz_status s = check_run(&o, c->json, &passed, err);
    if (s) return s;
    const cJSON *n = json_get(c->json, "counts");
    cli_say(c,
            "\n%s: %s  (%d passed, %d warnings, %d failed, %d crashed, %d timed out, %d skipped)\n",
            c->args[0], passed ? "fit" : "NOT fit", (int)json_num(n, "pass", 0),
            (int)json_num(n, "warn", 0), (int)json_num(n, "fail", 0), (int)json_num(n, "crash", 0),
            (int)json_num(n, "timeout", 0), (int)json_num(n, "skip", 0));
    c->exit_code = passed ? 0 : err_exit_code(ERR_PLUGIN);
    return SQZ_OK;
}

const command cmd_plugin_check = {
    .name = "plugin check",
    .arguments = "[FILE]",
    .max_args = 1,
    .summary = "is a plugin fit to be given to others? every test in a process of its own",
    .details = "Exit code 0 without a failed, crashed or timed-out test, else 4.  Needs no model.",
    .examples = "  sqz plugin check build/mymethod.so\n"
                "  sqz plugin check mymethod.so --only odd-shapes --seed 7\n"
                "  sqz plugin check mymethod.so --json check.json\n"
                "  sqz plugin check mymethod.so --fuzz 60s\n"
                "  gdb --args sqz plugin check mymethod.so --only works-once --in-process\n"
                "  sqz plugin check --list\n",
    OPTIONS(check_options_table),
    .run = check};
