/* completion.c - shell completions, written from the command and option tables.
 *
 * Static scripts: commands, options, the legal words of a choice, and files where a value is a
 * path.  Left out: values that only a running program knows (plugin ids, tags), because starting it
 * at every press of a key would be slow. */
#include "cli/pages.h"
#include <stdlib.h>
#include <string.h>

int command_options(const command *k)
{
    return k->n_options + cli_n_common;
}

const cli_option *command_option(const command *k, int i)
{
    return i < k->n_options ? &k->options[i] : &cli_common[i - k->n_options];
}

int names_a_path(const char *value)
{
    static const char *const words[] = {"FILE", "DIR", "MODEL", "RUN", "FOLDER", "PATH"};
    for (size_t i = 0; value && i < sizeof words / sizeof *words; i++)
        if (strstr(value, words[i])) return 1;
    return 0;
}

/* ---- what the three scripts share ------------------------------------------------------------ */

/* Visits the command groups ("plugin") once each; returns the group's length, 0 when the command
 * stands alone or its group came before. */
static size_t group_first(int i)
{
    const char *name = cli_commands[i]->name, *space = strchr(name, ' ');
    if (!space || cli_commands[i]->hidden) return 0;
    size_t n = (size_t)(space - name);
    for (int k = 0; k < i; k++)
        if (!strncmp(cli_commands[k]->name, name, n + 1)) return 0;
    return n;
}

static int in_group(const command *k, const char *group, size_t n)
{
    return !k->hidden && !strncmp(k->name, group, n) && k->name[n] == ' ';
}

/* First words: plain commands, and each group once. */
static void first_words(FILE *f, const char *between)
{
    int any = 0;
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        size_t n = group_first(i);
        if (k->hidden || (strchr(k->name, ' ') && !n)) continue;
        fprintf(f, "%s%.*s", any++ ? between : "", n ? (int)n : (int)strlen(k->name), k->name);
    }
}

static void second_words(FILE *f, const char *group, size_t n, const char *between)
{
    int any = 0;
    for (int i = 0; i < cli_n_commands; i++)
        if (in_group(cli_commands[i], group, n))
            fprintf(f, "%s%s", any++ ? between : "", cli_commands[i]->name + n + 1);
}

/* The words of "a|b|c" with spaces. */
static void choice_words(FILE *f, const char *words)
{
    for (; *words; words++) fputc(*words == '|' ? ' ' : *words, f);
}

/* ---- bash ------------------------------------------------------------------------------------ */
static void bash_head(FILE *f)
{
    fprintf(
        f, "# bash completion of sqz, written by `sqz completions bash`\n"
           "_sqz() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local command='' word i\n"
           "    COMPREPLY=()\n"
           "    [ \"$cur\" = '=' ] && cur=''\n"
           "    [ \"$prev\" = '=' ] && prev=${COMP_WORDS[COMP_CWORD-2]}\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        word=${COMP_WORDS[i]}\n"
           "        case \"$command\" in\n"
           "        '') case \"$word\" in -*) command=run; break ;; *) command=$word ;; esac ;;\n");
    for (int i = 0; i < cli_n_commands; i++) {
        size_t n = group_first(i);
        if (!n) continue;
        fprintf(f, "        %.*s) command=\"$command $word\"; break ;;\n", (int)n,
                cli_commands[i]->name);
    }
    fprintf(f, "        *) break ;;\n"
               "        esac\n"
               "    done\n"
               "    case \"$cur\" in -*) [ -n \"$command\" ] || command=run ;; esac\n");
}

static void bash_words(FILE *f)
{
    fprintf(f, "    case \"$command\" in\n    '') COMPREPLY=($(compgen -W '");
    first_words(f, " ");
    fprintf(f, "' -- \"$cur\")); return ;;\n");
    for (int i = 0; i < cli_n_commands; i++) {
        size_t n = group_first(i);
        if (!n) continue;
        fprintf(f, "    %.*s) COMPREPLY=($(compgen -W '", (int)n, cli_commands[i]->name);
        second_words(f, cli_commands[i]->name, n, " ");
        fprintf(f, "' -- \"$cur\")); return ;;\n");
    }
    fprintf(f, "    esac\n");
}

static void bash_command(FILE *f, const command *k)
{
    fprintf(f, "    '%s')\n        case \"$prev\" in\n", k->name);
    for (int i = 0; i < command_options(k); i++) {
        const cli_option *o = command_option(k, i);
        if (o->type == CLI_FLAG) continue;
        fprintf(f, "        --%s) ", o->name);
        if (o->type == CLI_CHOICE) {
            fprintf(f, "COMPREPLY=($(compgen -W '");
            choice_words(f, o->value);
            fprintf(f, "' -- \"$cur\"))");
        } else if (names_a_path(o->value)) {
            fprintf(f, "COMPREPLY=($(compgen -f -- \"$cur\"))");
        }
        fprintf(f, "%sreturn ;;\n", o->type == CLI_CHOICE || names_a_path(o->value) ? "; " : "");
    }
    fprintf(f, "        esac\n        options='");
    for (int i = 0; i < command_options(k); i++)
        fprintf(f, "%s--%s", i ? " " : "", command_option(k, i)->name);
    fprintf(f, "' ;;\n");
}

static void bash_script(FILE *f)
{
    bash_head(f);
    bash_words(f);
    fprintf(f, "    local options=''\n    case \"$command\" in\n");
    for (int i = 0; i < cli_n_commands; i++)
        if (!cli_commands[i]->hidden) bash_command(f, cli_commands[i]);
    fprintf(f, "    esac\n"
               "    case \"$cur\" in\n"
               "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
               "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
               "    esac\n"
               "}\n"
               "complete -o filenames -F _sqz sqz\n");
}

/* ---- zsh ------------------------------------------------------------------------------------- */
/* Inside single quotes; `special` characters get a backslash. */
static void quoted(FILE *f, const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\''", f);
            continue;
        }
        if (strchr(special, *text)) fputc('\\', f);
        fputc(*text, f);
    }
}

static void zsh_option(FILE *f, const cli_option *o)
{
    fprintf(f, " \\\n            '%s--%s%s[", o->type == CLI_LIST ? "*" : "", o->name,
            o->type == CLI_FLAG ? "" : "=");
    quoted(f, o->help, "[]\\");
    fputc(']', f);
    if (o->type == CLI_CHOICE) {
        fprintf(f, ":word:(");
        choice_words(f, o->value);
        fputc(')', f);
    } else if (o->type != CLI_FLAG) {
        fputc(':', f);
        quoted(f, o->value ? o->value : "value", ":\\");
        fprintf(f, ":%s", names_a_path(o->value) ? "_files" : " ");
    }
    fputc('\'', f);
}

static void zsh_described(FILE *f, const char *name, size_t n, const char *summary)
{
    fprintf(f, " \\\n            '%.*s:", (int)n, name);
    quoted(f, summary, ":\\");
    fputc('\'', f);
}

static void zsh_words(FILE *f)
{
    fprintf(f, "    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n        commands=(");
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        size_t n = group_first(i);
        if (n) {
            char text[160];
            snprintf(text, sizeof text, "commands of the %.*s", (int)n, k->name);
            zsh_described(f, k->name, n, text);
        } else if (!k->hidden && !strchr(k->name, ' ')) {
            zsh_described(f, k->name, strlen(k->name), k->summary);
        }
    }
    fprintf(f, ")\n        _describe command commands\n        return\n    fi\n"
               "    case $words[2] in\n    -*) ;;\n");
    for (int i = 0; i < cli_n_commands; i++) {
        size_t n = group_first(i);
        if (!n) continue;
        fprintf(f, "    %.*s)\n        if (( CURRENT == 3 )); then\n            commands=(", (int)n,
                cli_commands[i]->name);
        for (int k = 0; k < cli_n_commands; k++)
            if (in_group(cli_commands[k], cli_commands[i]->name, n))
                zsh_described(f, cli_commands[k]->name + n + 1,
                              strlen(cli_commands[k]->name + n + 1), cli_commands[k]->summary);
        fprintf(f, ")\n            _describe command commands\n            return\n        fi\n"
                   "        command=\"$words[2] $words[3]\"\n"
                   "        words=(sqz \"${(@)words[4,-1]}\")\n"
                   "        (( CURRENT -= 2 )) ;;\n");
    }
    fprintf(f, "    *)\n        command=$words[2]\n        words=(sqz \"${(@)words[3,-1]}\")\n"
               "        (( CURRENT -= 1 )) ;;\n    esac\n");
}

static void zsh_script(FILE *f)
{
    fprintf(f, "#compdef sqz\n# zsh completion of sqz, written by `sqz completions zsh`\n"
               "_sqz() {\n    local -a commands\n    local command=run\n");
    zsh_words(f);
    fprintf(f, "    case $command in\n");
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        if (k->hidden) continue;
        fprintf(f, "    '%s')\n        _arguments", k->name);
        for (int o = 0; o < command_options(k); o++) zsh_option(f, command_option(k, o));
        if (k->max_args) fprintf(f, " \\\n            '*:argument:_files'");
        fprintf(f, " ;;\n");
    }
    fprintf(f, "    esac\n}\n"
               "if [ \"$funcstack[1]\" = _sqz ]; then _sqz \"$@\"; else compdef _sqz sqz; fi\n");
}

/* ---- fish ------------------------------------------------------------------------------------ */
static void fish_option(FILE *f, const char *condition, const cli_option *o)
{
    fprintf(f, "complete -c sqz%s%s%s -l %s", *condition ? " -n '__sqz_is \"" : "", condition,
            *condition ? "\"'" : "", o->name);
    if (o->type == CLI_CHOICE) {
        fprintf(f, " -x -a '");
        choice_words(f, o->value);
        fputc('\'', f);
    } else if (o->type != CLI_FLAG) {
        fputs(names_a_path(o->value) ? " -r -F" : " -x", f);
    }
    fprintf(f, " -d '");
    for (const char *s = o->help; *s; s++) {
        if (*s == '\'' || *s == '\\') fputc('\\', f);
        fputc(*s, f);
    }
    fprintf(f, "'\n");
}

static void fish_head(FILE *f)
{
    fprintf(f, "# fish completion of sqz, written by `sqz completions fish`\n"
               "function __sqz_is --description 'is this the command being typed?'\n"
               "    set -l words (commandline -opc)\n"
               "    set -e words[1]\n"
               "    set -l command ''\n"
               "    if set -q words[1]\n"
               "        set command $words[1]\n"
               "        switch $command\n"
               "            case '-*'\n"
               "                set command run\n");
    for (int i = 0; i < cli_n_commands; i++) {
        size_t n = group_first(i);
        if (!n) continue;
        fprintf(f,
                "            case %.*s\n"
                "                set -q words[2]; and set command \"$command $words[2]\"\n",
                (int)n, cli_commands[i]->name);
    }
    fprintf(f, "        end\n"
               "    else if string match -q -- '-*' (commandline -ct)\n"
               "        set command run\n"
               "    end\n"
               "    test \"$command\" = \"$argv[1]\"\n"
               "end\n");
}

static void fish_word(FILE *f, const char *after, const char *word, size_t n, const char *summary)
{
    fprintf(f, "complete -c sqz -f -n '__sqz_is \"%s\"' -a %.*s -d '", after, (int)n, word);
    for (const char *s = summary; *s; s++) {
        if (*s == '\'' || *s == '\\') fputc('\\', f);
        fputc(*s, f);
    }
    fprintf(f, "'\n");
}

static void fish_script(FILE *f)
{
    fish_head(f);
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        const char *space = strchr(k->name, ' ');
        char group[64];
        size_t n = group_first(i);
        if (k->hidden) continue;
        snprintf(group, sizeof group, "%.*s", space ? (int)(space - k->name) : 0, k->name);
        if (n) fish_word(f, "", k->name, n, "its commands");
        fish_word(f, group, space ? space + 1 : k->name, strlen(space ? space + 1 : k->name),
                  k->summary);
        for (int o = 0; o < k->n_options; o++) fish_option(f, k->name, &k->options[o]);
    }
    for (int i = 0; i < cli_n_common; i++) fish_option(f, "", &cli_common[i]);
}

/* ---- by name --------------------------------------------------------------------------------- */
char *completion_script(const char *shell)
{
    void (*write)(FILE *) = !strcmp(shell, "bash")   ? bash_script
                            : !strcmp(shell, "zsh")  ? zsh_script
                            : !strcmp(shell, "fish") ? fish_script
                                                     : NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *f = write ? open_memstream(&text, &size) : NULL;
    if (!f) return NULL;
    write(f);
    fclose(f);
    return text;
}
