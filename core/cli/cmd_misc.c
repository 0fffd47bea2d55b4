/* cmd_misc.c - help, version, and the hidden worker: the commands that are too short for a file
 * each. */
#include "cli/cli.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "worker/worker.h"
#include <stdlib.h>
#include <string.h>

/* ---- sqz help -------------------------------------------------------------------------------- */
static const char overview[] =
    "sqz - compresses a language model and measures what that costs\n"
    "\n"
    "Usage: sqz --model MODEL --dataset FILE [options]      a whole run from two facts\n"
    "       sqz --config pipeline.json [--set key=value]    a whole run as written down\n"
    "       sqz COMMAND [arguments] [options]\n"
    "\n"
    "A run leaves the Pareto front of compressed models: checkpoints that other tools load, each "
    "with\n"
    "measured quality, size and speed, and a report.\n"
    "\nCommands:\n";

const cli_exit_code cli_exit_codes[] = {
    {0, "done"},
    {1, "internal error"},
    {2, "usage or configuration"},
    {3, "model or data invalid"},
    {4, "plugin cannot be loaded"},
    {5, "no candidate meets the constraints"},
    {6, "budget spent before any full evaluation"},
    {7, "storage"},
    {8, "remote"},
    {9, "resume conflict"},
    {130, "interrupted"},
};
const int cli_n_exit_codes = sizeof cli_exit_codes / sizeof *cli_exit_codes;

static void say_exit_codes(const cli *c)
{
    int column = 0;
    for (int i = 0; i < cli_n_exit_codes; i++) {
        char text[96];
        int last = i + 1 == cli_n_exit_codes;
        int n = snprintf(text, sizeof text, "%s%d %s%s",
                         i ? "" : "Exit codes: ", cli_exit_codes[i].code, cli_exit_codes[i].meaning,
                         last ? "." : ",");
        if (column && column + 1 + n > 98) column = 0, cli_say(c, "\n");
        cli_say(c, "%s%s", column ? " " : "", text);
        column += n + (column > 0);
    }
    cli_say(c, "\n");
}

static sqz_status help_one(const cli *c, sqz_error *err)
{
    char name[128];
    snprintf(name, sizeof name, c->n_args > 1 ? "%s %s" : "%s", c->args[0],
             c->n_args > 1 ? c->args[1] : "");
    size_t length = strlen(name);
    int found = 0;
    for (int i = 0; i < cli_n_commands; i++) {
        const char *have = cli_commands[i]->name;
        if (strcmp(have, name) != 0 && (strncmp(have, name, length) != 0 || have[length] != ' '))
            continue;
        char *text = cli_help(cli_commands[i]);
        cli_say(c, "%s%s", found++ ? "\n" : "", text);
        free(text);
    }
    if (found) return SQZ_OK;
    const char *instead = command_not_built(name);
    if (instead) return err_set(err, ERR_USAGE, "sqz %s is not built yet; %s", name, instead);
    return err_set(err, ERR_USAGE, "there is no command \"%s\"; `sqz help` lists them", name);
}

static sqz_status run_help(cli *c, sqz_error *err)
{
    if (c->n_args) return help_one(c, err);
    cli_say(c, "%s", overview);
    cJSON *list = cJSON_AddArrayToObject(c->json, "commands");
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        if (k->hidden) continue;
        cli_say(c, "  %-18s %s\n", k->name, k->summary);
        cJSON_AddItemToArray(list, cJSON_CreateString(k->name));
    }
    cli_say(c, "\n`sqz COMMAND --help` has the options and examples of each.\n\n");
    say_exit_codes(c);
    return SQZ_OK;
}

const command cmd_help = {.name = "help",
                          .arguments = "[COMMAND]",
                          .max_args = 2,
                          .summary = "this list, or the help of one command",
                          .examples = "  sqz help quantize\n",
                          .run = run_help};

/* ---- sqz version ----------------------------------------------------------------------------- */
static sqz_status run_version(cli *c, sqz_error *err)
{
    (void)err;
    cli_say(c, "sqz %s (plugin ABI %d.%d)\n", SQZ_VERSION, SQZ_ABI_MAJOR, SQZ_ABI_MINOR);
    cJSON_AddStringToObject(c->json, "version", SQZ_VERSION);
    cJSON_AddNumberToObject(c->json, "abi_major", SQZ_ABI_MAJOR);
    cJSON_AddNumberToObject(c->json, "abi_minor", SQZ_ABI_MINOR);
    return SQZ_OK;
}

const command cmd_version = {.name = "version",
                             .arguments = "",
                             .summary = "version of sqz and of its plugin ABI",
                             .examples = "  sqz version\n",
                             .run = run_version};

/* ---- sqz worker DIR -------------------------------------------------------------------------- */
static sqz_status run_worker(cli *c, sqz_error *err)
{
    (void)err;
    c->exit_code = worker_main(c->args[0]);
    return SQZ_OK;
}

const command cmd_worker = {.name = "worker",
                            .arguments = "DIR",
                            .min_args = 1,
                            .max_args = 1,
                            .summary = "runs DIR/job.json and writes DIR/result.json",
                            .details =
                                "Started by sqz itself for every step, so that a plugin that "
                                "crashes or hangs costs one trial.",
                            .examples = "  sqz worker /tmp/attempt\n",
                            .run = run_worker,
                            .hidden = 1};
