/* commands.c - the table of subcommands, and from argv to an exit code.
 *
 * `sqz --config pipeline.json` and `sqz --model M --dataset D` are `sqz run` without the word.  The
 * commands of the design that are not built yet are known by name, so that nobody hunts for a
 * typing mistake. */
#include "check/check.h"
#include "cli/cli.h"
#include "cli/terminal.h"
#include "host/host.h"
#include "worker/carrier.h"
#include "io/file.h"
#include "pool/pool.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const command *const cli_commands[] = {
    &cmd_run,
    &cmd_plan,
    &cmd_top,
    &cmd_report,
    &cmd_sync,
    &cmd_quantize,
    &cmd_eval,
    &cmd_compare,
    &cmd_validate,
    &cmd_bench,
    &cmd_generate,
    &cmd_logits,
    &cmd_tokenize,
    &cmd_estimate,
    &cmd_data_stats,
    &cmd_data_show,
    &cmd_plugin_list,
    &cmd_plugin_info,
    &cmd_plugin_why,
    &cmd_plugin_new,
    &cmd_plugin_check,
    &cmd_registry_ls,
    &cmd_registry_show,
    &cmd_registry_tag,
    &cmd_registry_verify,
    &cmd_registry_gc,
    &cmd_schema,
    &cmd_doctor,
    &cmd_explain,
    &cmd_completions,
    &cmd_man,
    &cmd_help,
    &cmd_version,
    &cmd_worker,
};
const int cli_n_commands = sizeof cli_commands / sizeof *cli_commands;

static const struct {
    const char *word, *instead;
} not_built[] = {
    {"scan", "`sqz plan --model M --dataset D` shows what sqz knows about a model"},
    {"prune", "`sqz quantize` is the compression that works today"},
    {"distill", "`sqz quantize` is the compression that works today"},
    {"finetune", "`sqz quantize` is the compression that works today"},
    {"export", "`sqz quantize --output DIR` and `sqz run` export what they make"},
    {"profile", "the `rules` of a step in pipeline.json give parts of a model their own settings"},
};

const char *command_not_built(const char *word)
{
    for (size_t i = 0; i < sizeof not_built / sizeof *not_built; i++)
        if (strcmp(not_built[i].word, word) == 0) return not_built[i].instead;
    return NULL;
}

/* ---- finding the command --------------------------------------------------------------------- */
/* Words of argv that name the command: 0 none, 1 "eval", 2 "plugin list". */
static const command *find_command(int argc, char **argv, int *words)
{
    char both[128];
    for (int i = 0; i < cli_n_commands; i++) {
        const char *name = cli_commands[i]->name;
        *words = strchr(name, ' ') ? 2 : 1;
        if (argc < 1 + *words) continue;
        snprintf(both, sizeof both, *words == 2 ? "%s %s" : "%s", argv[1], argc > 2 ? argv[2] : "");
        if (strcmp(both, name) == 0) return cli_commands[i];
    }
    return NULL;
}

/* The subcommands of a group such as "plugin", as "list|info"; empty when it is no group. */
static void group_words(const char *group, char *out, size_t size)
{
    size_t length = strlen(group);
    *out = 0;
    for (int i = 0; i < cli_n_commands; i++) {
        const char *name = cli_commands[i]->name;
        if (strncmp(name, group, length) == 0 && name[length] == ' ')
            snprintf(out + strlen(out), size - strlen(out), "%s%s", *out ? "|" : "",
                     name + length + 1);
    }
}

static int is_group(const char *word)
{
    char words[128];
    group_words(word, words, sizeof words);
    return *words != 0;
}

static int complain_about_command(int argc, char **argv)
{
    const char *word = argv[1], *instead = command_not_built(word), *near = NULL;
    char words[128], *text;
    group_words(word, words, sizeof words);
    if (*words) {
        text = path_format("sqz: `sqz %s` wants one of %s%s%s\n", word, words,
                           argc > 2 ? ", not " : "", argc > 2 ? argv[2] : "");
    } else if (instead) {
        text = path_format("sqz: sqz %s is not built yet; %s\n", word, instead);
    } else {
        const char *names[64];
        int n = 0;
        for (int i = 0; i < cli_n_commands && n < 60; i++)
            if (!cli_commands[i]->hidden && !strchr(cli_commands[i]->name, ' '))
                names[n++] = cli_commands[i]->name;
        names[n++] = "plugin";
        names[n++] = "registry";
        near = json_nearest(word, names, n);
        text =
            path_format("sqz: unknown command \"%s\"; %s%s%s\n", word, near ? "did you mean " : "",
                        near ? near : "`sqz help` lists the commands", near ? "?" : "");
    }
    print_safe(stderr, text, strlen(text));
    free(text);
    return 2;
}

/* ---- running it ------------------------------------------------------------------------------ */
static sqz_status write_json(const cli *c, sqz_error *err)
{
    const char *file = cli_text(c, "json");
    if (!file) return SQZ_OK;
    char *text = json_text(c->json, 1);
    if (!text) return err_set(err, SQZ_E_NOMEM, "no memory to write %s", file);
    sqz_status s = SQZ_OK;
    if (strcmp(file, "-") == 0) {
        if (isatty(STDOUT_FILENO))
            print_safe(stdout, text, strlen(text));
        else
            fputs(text, stdout);
        if (putchar('\n') < 0 || fflush(stdout) || ferror(stdout))
            s = err_set(err, ERR_STORAGE, "stdout: cannot be written");
    } else {
        s = file_printf(file, err, "%s\n", text);
    }
    free(text);
    return s;
}

static void json_failure(cli *c, const sqz_error *err, int exit_code)
{
    cJSON *e = cJSON_CreateObject();
    cJSON_AddStringToObject(e, "code", err_name(err->code));
    cJSON_AddStringToObject(e, "message", err->text);
    cJSON_AddNumberToObject(e, "exit_code", exit_code);
    cJSON_DeleteItemFromObjectCaseSensitive(c->json, "error");
    cJSON_AddItemToObject(c->json, "error", e);
}

static int finish(cli *c, sqz_status s, sqz_error *err)
{
    int exit_code = s ? err_exit_code(s) : c->exit_code;
    progress_end();
    sqz_error write_error = {0};
    if (s) json_failure(c, err, exit_code);
    sqz_status w = write_json(c, &write_error);
    if (s) terminal_log(SQZ_LOG_ERROR, "%s: %s", c->command->name, err->text);
    if (w) {
        terminal_log(SQZ_LOG_ERROR, "%s: --json: %s", c->command->name, write_error.text);
        if (!s) exit_code = err_exit_code(w);
    }
    /* A full disk behind stdout shows only when the buffer is flushed. */
    if (fflush(stdout) || ferror(stdout)) {
        terminal_log(SQZ_LOG_ERROR, "%s: stdout cannot be written", c->command->name);
        if (!exit_code) exit_code = 7;
    }
    return exit_code;
}

static int run_command(const command *k, int argc, char **argv)
{
    cli c;
    sqz_error err = {0};
    terminal_setup("auto", 0, 0);
    sqz_status s = cli_parse(k, argc, argv, &c, &err);
    if (s) {
        terminal_log(SQZ_LOG_ERROR, "%s: %s", k->name, err.text);
        return err_exit_code(s);
    }
    int exit_code = 0;
    if (cli_flag(&c, "help")) {
        char *text = cli_help(k);
        fputs(text, stdout);
        free(text);
    } else {
        terminal_setup(cli_text(&c, "color"), cli_flag(&c, "quiet"), cli_flag(&c, "verbose"));
        if (!k->hidden) signals_install();
        pool_set_threads(cli_threads(&c));
        s = k->run(&c, &err);
        exit_code = k->hidden && !s ? c.exit_code : finish(&c, s, &err);
    }
    cli_free(&c);
    return exit_code;
}

int cli_main(int argc, char **argv)
{
    int words = 0;
    if (argc < 2) {
        run_command(&cmd_help, 0, NULL);
        return 2;
    }
    if (strcmp(argv[1], "--scan-plugin") == 0 && argc == 3) return host_scan_main(argv[2]);
    if (strcmp(argv[1], "--check-plugin") == 0 && argc == 6)
        return check_child_main(argv[2], argv[3], argv[4], argv[5]);
    if (strcmp(argv[1], "--tracker") == 0 && argc == 2) return carrier_main();
    if (strcmp(argv[1], "--search") == 0 && argc == 2) return searcher_main();
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return run_command(&cmd_help, 0, NULL);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return run_command(&cmd_version, 0, NULL);
    const command *k = find_command(argc, argv, &words);
    if (k) return run_command(k, argc - 1 - words, argv + 1 + words);
    if (argv[1][0] == '-') return run_command(&cmd_run, argc - 1, argv + 1);
    if (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")) && is_group(argv[1]))
        return run_command(&cmd_help, 1, argv + 1);
    return complain_about_command(argc, argv);
}
