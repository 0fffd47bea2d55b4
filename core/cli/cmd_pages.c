/* cmd_pages.c - sqz completions, sqz man: see pages.h. */
#include "cli/pages.h"
#include "cli/shared.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

/* ---- sqz completions SHELL ------------------------------------------------------------------- */
static sqz_status completions(cli *c, sqz_error *err)
{
    char *text = completion_script(c->args[0]);
    if (!text)
        return err_set(err, ERR_USAGE, "\"%.80s\" is no shell known here; give bash, zsh or fish",
                       c->args[0]);
    cli_say(c, "%s", text);
    cJSON_AddStringToObject(c->json, "script", text);
    free(text);
    return SQZ_OK;
}

const command cmd_completions = {
    .name = "completions",
    .arguments = "SHELL",
    .min_args = 1,
    .max_args = 1,
    .summary = "the completion script for bash, zsh or fish, on stdout",
    .details = "make install puts all three where the shells look for them.",
    .examples = "  source <(sqz completions bash)\n"
                "  sqz completions fish > ~/.config/fish/completions/sqz.fish\n",
    .run = completions};

/* ---- sqz man [COMMAND] ----------------------------------------------------------------------- */
static const cli_option man_options[] = {
    {"output", CLI_TEXT, "DIR", NULL, 0, 0, "write every page into this folder"},
};

static sqz_status write_page(const char *dir, const command *k, sqz_error *err)
{
    char *name = man_file_name(k), *path = path_format("%s/%s", dir, name), *text = man_page(k);
    sqz_status s = text ? file_write(path, text, (int64_t)strlen(text), err)
                        : err_set(err, SQZ_E_NOMEM, "no memory for %s", name);
    free(text);
    free(path);
    free(name);
    return s;
}

static sqz_status write_pages(cli *c, const char *dir, sqz_error *err)
{
    int n = 1;
    sqz_status s = dir_make(dir, err);
    if (!s) s = write_page(dir, NULL, err);
    for (int i = 0; i < cli_n_commands && !s; i++) {
        if (cli_commands[i]->hidden) continue;
        s = write_page(dir, cli_commands[i], err);
        n++;
    }
    if (s) return s;
    cli_say(c, "%d pages in %s\n", n, dir);
    cJSON_AddNumberToObject(c->json, "pages", n);
    return SQZ_OK;
}

static sqz_status man(cli *c, sqz_error *err)
{
    const command *found = NULL;
    char name[128];
    if (cli_given(c, "output")) {
        if (c->n_args)
            return err_set(err, ERR_USAGE, "--output writes every page; give no command");
        return write_pages(c, cli_text(c, "output"), err);
    }
    snprintf(name, sizeof name, "%s%s%s", c->n_args ? c->args[0] : "", c->n_args > 1 ? " " : "",
             c->n_args > 1 ? c->args[1] : "");
    for (int i = 0; i < cli_n_commands && *name; i++)
        if (!strcmp(cli_commands[i]->name, name)) found = cli_commands[i];
    if (*name && !found)
        return err_set(err, ERR_USAGE, "there is no command \"%s\"; `sqz help` lists them", name);
    char *text = man_page(found);
    if (!text) return err_set(err, SQZ_E_NOMEM, "no memory for the page");
    cli_say(c, "%s", text);
    cJSON_AddStringToObject(c->json, "page", text);
    free(text);
    return SQZ_OK;
}

const command cmd_man = {.name = "man",
                         .arguments = "[COMMAND]",
                         .max_args = 2,
                         .summary = "a manual page as troff, or all of them into a folder",
                         .examples = "  sqz man run | man -l -\n"
                                     "  sqz man --output /usr/local/share/man/man1\n",
                         OPTIONS(man_options),
                         .run = man};
