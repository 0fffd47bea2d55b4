/* cmd_plugin.c - sqz plugin list, sqz plugin info: what is installed and what it takes. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include <stdlib.h>
#include <string.h>

static const cli_option list_options[] = {
    {"kind", CLI_TEXT, "KIND", NULL, 0, 0,
     "only agents of this kind: method, eval, hardware, search, format, tracker, data"},
};
static const cli_option info_options[] = {
    {"kind", CLI_TEXT, "KIND", NULL, 0, 0, "when agents of several kinds share the name"},
};

/* "method" and "method/1" both name the kind method/1. */
static int kind_matches(const agent_info *a, const char *kind)
{
    size_t n = kind ? strlen(kind) : 0;
    return !kind || (strncmp(a->kind, kind, n) == 0 && (!a->kind[n] || a->kind[n] == '/'));
}

static cJSON *agent_json(const agent_info *a)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", a->id);
    cJSON_AddStringToObject(o, "kind", a->kind);
    cJSON_AddStringToObject(o, "name", a->name ? a->name : "");
    cJSON_AddStringToObject(o, "summary", a->summary ? a->summary : "");
    cJSON_AddStringToObject(o, "version", a->version ? a->version : "");
    cJSON_AddStringToObject(o, "license", a->license ? a->license : "");
    cJSON_AddStringToObject(o, "file", a->file);
    cJSON_AddStringToObject(o, "digest", a->file_digest);
    cJSON_AddNumberToObject(o, "rank", a->rank);
    cJSON_AddBoolToObject(o, "shadowed", a->shadowed);
    return o;
}

static int by_kind(const void *a, const void *b)
{
    const agent_info *x = *(const agent_info *const *)a, *y = *(const agent_info *const *)b;
    int d = strcmp(x->kind, y->kind);
    return d ? d : strcmp(x->id, y->id);
}

static sqz_status no_such_kind(const catalogue *cat, const char *kind, sqz_error *err)
{
    char known[200] = "";
    for (int i = 0; i < catalogue_count(cat); i++) {
        const char *have = catalogue_at(cat, i)->kind;
        char word[40];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(have, "/"), have);
        size_t used = strlen(known);
        if (!strstr(known, word))
            snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", word);
    }
    return err_set(err, ERR_USAGE, "no plugin of the kind \"%.40s\" was found, only of %s", kind,
                   *known ? known : "none");
}

static sqz_status list(cli *c, sqz_error *err)
{
    catalogue *cat;
    sqz_status s = cli_catalogue(c, &cat, err);
    if (s) return s;
    const char *kind = cli_text(c, "kind");
    int n = 0;
    const agent_info **sorted = calloc((size_t)catalogue_count(cat) + 1, sizeof *sorted);
    for (int i = 0; sorted && i < catalogue_count(cat); i++)
        if (kind_matches(catalogue_at(cat, i), kind)) sorted[n++] = catalogue_at(cat, i);
    if (!sorted)
        s = err_set(err, SQZ_E_NOMEM, "no memory for the list");
    else if (kind && !n)
        s = no_such_kind(cat, kind, err);
    if (s) {
        free(sorted);
        catalogue_close(cat);
        return s;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_kind);
    cJSON *plugins = cJSON_AddArrayToObject(c->json, "plugins");
    cli_say(c, "%s%-12s %-26s %-9s %s%s\n", term_on(stdout, TERM_BOLD), "KIND", "ID", "VERSION",
            "WHAT IT DOES", term_off(stdout));
    for (int i = 0; i < n; i++) {
        const agent_info *a = sorted[i];
        cJSON_AddItemToArray(plugins, agent_json(a));
        cli_say(c, "%-12s %-26s %-9s %s%s\n", a->kind, a->id, a->version ? a->version : "",
                a->summary ? a->summary : "", a->shadowed ? " (shadowed by another file)" : "");
    }
    free(sorted);
    cJSON *problems = cJSON_AddArrayToObject(c->json, "problems");
    for (int i = 0; i < catalogue_problems(cat); i++) {
        const char *file, *why;
        catalogue_problem(cat, i, &file, &why);
        cJSON *p = cJSON_CreateObject();
        cJSON_AddStringToObject(p, "file", file);
        cJSON_AddStringToObject(p, "why", why);
        cJSON_AddItemToArray(problems, p);
        int named = strncmp(why, file, strlen(file)) == 0;
        terminal_log(SQZ_LOG_WARN, "%s%s%s", named ? "" : file, named ? "" : ": ", why);
    }
    catalogue_close(cat);
    return SQZ_OK;
}

static int name_matches(const agent_info *a, const char *name)
{
    const char *dot = strrchr(a->id, '.');
    return strcmp(a->id, name) == 0 || (dot && strcmp(dot + 1, name) == 0);
}

static const char *nearest_agent(const catalogue *cat, const char *name, const char *kind)
{
    int n = catalogue_count(cat);
    const char **names = calloc((size_t)n * 2 + 1, sizeof *names), *near = NULL;
    int known = 0;
    for (int i = 0; names && i < n; i++) {
        const char *id = catalogue_at(cat, i)->id, *dot = strrchr(id, '.');
        if (!kind_matches(catalogue_at(cat, i), kind)) continue;
        names[known++] = id;
        names[known++] = dot ? dot + 1 : id;
    }
    if (names) near = json_nearest(name, names, known);
    free(names);
    return near;
}

static sqz_status info(cli *c, sqz_error *err)
{
    catalogue *cat;
    const char *name = c->args[0];
    sqz_status s = cli_catalogue(c, &cat, err);
    if (s) return s;
    int found = 0;
    cJSON *list_json = cJSON_CreateArray();
    for (int i = 0; i < catalogue_count(cat); i++) {
        const agent_info *a = catalogue_at(cat, i);
        if (a->shadowed || !name_matches(a, name) || !kind_matches(a, cli_text(c, "kind")))
            continue;
        char *help = params_help(a);
        cli_say(c, "%s%s%s %s (%s)\n%s\n%s\nlicence %s\n\n%s", found++ ? "\n" : "",
                term_on(stdout, TERM_BOLD), a->id, a->version ? a->version : "", a->kind,
                term_off(stdout), a->file, a->license ? a->license : "not stated",
                help ? help : "");
        free(help);
        cJSON *o = agent_json(a);
        cJSON_AddItemToObject(o, "params", cJSON_Duplicate(a->params, 1));
        cJSON_AddItemToObject(o, "extensions", cJSON_Duplicate(a->extensions, 1));
        cJSON_AddItemToObject(o, "schema", params_schema(a));
        cJSON_AddItemToArray(list_json, o);
    }
    cJSON_AddItemToObject(c->json, "plugins", list_json);
    if (!found) {
        const char *kind = cli_text(c, "kind"), *near = nearest_agent(cat, name, kind);
        s = err_set(err, ERR_USAGE,
                    "there is no plugin \"%s\"%s%s%s%s; `sqz plugin list` has them all", name,
                    kind ? " of the kind " : "", kind ? kind : "", near ? "; did you mean " : "",
                    near ? near : "");
    }
    catalogue_close(cat);
    return s;
}

const command cmd_plugin_list = {
    .name = "plugin list",
    .arguments = "",
    .summary = "the plugins found, and the files that cannot be used and why",
    .details = "Looked for in --plugin-path, $SQZ_PLUGIN_PATH and the folder beside the program, "
               "never in the working directory.",
    .examples = "  sqz plugin list\n  sqz plugin list --kind method --json -\n",
    OPTIONS(list_options),
    .run = list};

const command cmd_plugin_info = {
    .name = "plugin info",
    .arguments = "NAME",
    .min_args = 1,
    .max_args = 1,
    .summary = "one plugin: its parameters with ranges, defaults and meaning",
    .examples = "  sqz plugin info NAME\n  sqz plugin info NAME --kind method --json -\n",
    OPTIONS(info_options),
    .run = info};
