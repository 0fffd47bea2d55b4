/* cmd_plugin_why.c - sqz plugin why: where a plugin comes from, what it hides or is hidden by, and
 * why it cannot be used. */
#include "cli/study.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option why_options[] = {
    {"config", CLI_TEXT, "FILE", NULL, 0, 0,
     "with the plugins.path, allow and deny of this pipeline.json"},
};

typedef struct question {
    cli *c;
    catalogue *catalogue;
    const char *name; /* as asked */
    char *file;       /* real path when the name is a file, else NULL */
    cJSON *list;
    int found;
} question;

/* ---- one finding ----------------------------------------------------------------------------- */

static int asks_for(const question *q, const agent_info *a)
{
    const char *dot = strrchr(a->id, '.');
    if (q->file) return !strcmp(q->file, a->file);
    return !strcmp(a->id, q->name) || (dot && !strcmp(dot + 1, q->name));
}

/* Where the folder of a file came from, in words. */
static const char *folder_origin(const cli *c, const char *file)
{
    const char *const *paths;
    const char *environment = getenv("SQZ_PLUGIN_PATH");
    int n = cli_list(c, "plugin-path", &paths);
    char *dir = path_format("%.*s", (int)(strrchr(file, '/') - file), file);
    const char *word = "the user's folder or the configuration";
    for (int i = 0; i < n; i++) {
        char *real = realpath(paths[i], NULL);
        if (real && (!strcmp(real, dir) || !strcmp(real, file))) word = "--plugin-path";
        free(real);
    }
    while (environment && *environment) {
        size_t length = strcspn(environment, ":");
        char *entry = path_format("%.*s", (int)length, environment);
        char *real = realpath(entry, NULL);
        if (real && !strcmp(real, dir) && word[0] != '-') word = "SQZ_PLUGIN_PATH";
        free(real);
        free(entry);
        environment += length + (environment[length] == ':');
    }
    if (!strncmp(word, "the user", 8) && strstr(dir, "/lib/sqz/plugins"))
        word = "the folder beside the program";
    free(dir);
    return word;
}

static void tell(question *q, const char *state, const char *id, const char *kind, const char *file,
                 const char *why, const char *remedy)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "state", state);
    if (id) cJSON_AddStringToObject(j, "id", id);
    if (kind) cJSON_AddStringToObject(j, "kind", kind);
    cJSON_AddStringToObject(j, "file", file);
    cJSON_AddStringToObject(j, "why", why);
    if (remedy) cJSON_AddStringToObject(j, "remedy", remedy);
    cJSON_AddItemToArray(q->list, j);
    if (!cli_json_stdout(q->c)) {
        term_style style = !strcmp(state, "used") ? TERM_GREEN : TERM_YELLOW;
        printf("%s%s%s%s", q->found ? "\n" : "", term_on(stdout, style), state, term_off(stdout));
        if (id) printf("  %s%s%s (%s)", term_on(stdout, TERM_BOLD), id, term_off(stdout), kind);
        printf("\n  file     ");
        print_safe(stdout, file, strlen(file));
        printf("\n  why      ");
        print_safe(stdout, why, strlen(why));
        if (remedy) {
            printf("\n  remedy   ");
            print_safe(stdout, remedy, strlen(remedy));
        }
        putchar('\n');
    }
    q->found++;
}

/* ---- agents ---------------------------------------------------------------------------------- */
static void tell_agent(question *q, const agent_info *a)
{
    char *why, *remedy = NULL;
    if (a->shadowed) {
        why = path_format("%s offers the same id and comes earlier on the search path",
                          a->shadowed_by ? a->shadowed_by : "another file");
        remedy = path_format("remove one of the two files, or put --plugin-path %.*s first",
                             (int)(strrchr(a->file, '/') - a->file), a->file);
        tell(q, "shadowed", a->id, a->kind, a->file, why, remedy);
    } else {
        char *hides = path_format("%s", "");
        for (int i = 0; i < catalogue_count(q->catalogue); i++) {
            const agent_info *o = catalogue_at(q->catalogue, i);
            if (!o->shadowed || strcmp(o->id, a->id) != 0) continue;
            char *more = path_format("%s; it hides %s", hides, o->file);
            free(hides);
            hides = more;
        }
        const agent_info *best = catalogue_best(q->catalogue, a->kind);
        why = path_format("found through %s, version %s, rank %d of its kind%s%s",
                          folder_origin(q->c, a->file), a->version, a->rank,
                          best == a ? " (the first choice)" : "", hides);
        tell(q, "used", a->id, a->kind, a->file, why, NULL);
        free(hides);
    }
    free(why);
    free(remedy);
}

static void tell_agents(question *q)
{
    for (int i = 0; i < catalogue_count(q->catalogue); i++)
        if (asks_for(q, catalogue_at(q->catalogue, i)))
            tell_agent(q, catalogue_at(q->catalogue, i));
    for (int i = 0; i < catalogue_excluded(q->catalogue); i++) {
        const char *rule;
        const agent_info *a = catalogue_excluded_at(q->catalogue, i, &rule);
        if (asks_for(q, a))
            tell(q, "excluded", a->id, a->kind, a->file, rule,
                 "change plugins.allow or plugins.deny of the configuration");
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *remedy_for(const char *why)
{
    if (strstr(why, "not opened again")) return "rebuild or replace the file, then ask again";
    if (strstr(why, "writable by everyone")) return "chmod o-w FILE";
    if (strstr(why, "undefined symbol") || strstr(why, "cannot open shared object"))
        return "install the library it was linked with; `ldd FILE` names what is missing";
    return "sqz plugin check FILE";
}

/* A problem belongs to the question when its file is the one asked for, or is called like it. */
static int same_file(const question *q, const char *file)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    char *real = realpath(file, NULL);
    int same = q->file ? !strcmp(q->file, real ? real : file)
                       : !strcmp(base, q->name) || (!strncmp(base, q->name, strlen(q->name)) &&
                                                    !strcmp(base + strlen(q->name), ".so"));
    free(real);
    return same;
}

static void tell_problems(question *q, const catalogue *cat)
{
    for (int i = 0; i < catalogue_problems(cat); i++) {
        const char *file, *why;
        catalogue_problem(cat, i, &file, &why);
        if (same_file(q, file)) tell(q, "unusable", NULL, NULL, file, why, remedy_for(why));
    }
}

static int was_seen(const question *q)
{
    const char *seen;
    for (int i = 0; (seen = catalogue_seen(q->catalogue, i)); i++)
        if (!strcmp(seen, q->file)) return 1;
    return 0;
}

/* A file that is nowhere on the search path: could it be used? */
static sqz_status tell_outsider(question *q, sqz_error *err)
{
    catalogue *alone = NULL;
    const char *const path[] = {q->file};
    catalogue_options o = {.paths = path, .n_paths = 1, .only_paths = 1};
    sqz_status s = catalogue_open(&o, &alone, err);
    if (s) return s;
    char *remedy =
        path_format("--plugin-path %s, or put it into a folder of SQZ_PLUGIN_PATH", q->file);
    for (int i = 0; i < catalogue_count(alone); i++)
        tell(q, "not installed", catalogue_at(alone, i)->id, catalogue_at(alone, i)->kind, q->file,
             "it can be used, but lies in no folder that is searched", remedy);
    tell_problems(q, alone);
    free(remedy);
    catalogue_close(alone);
    return SQZ_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */
static void say_places(const question *q)
{
    const char *seen;
    cli_say(q->c, "searched, in this order:\n");
    for (int i = 0; (seen = catalogue_seen(q->catalogue, i)); i++)
        if (path_is_dir(seen)) cli_say(q->c, "  %s\n", seen);
}

static sqz_status open_catalogue(const cli *c, catalogue **out, sqz_error *err)
{
    config *cfg = NULL;
    /* Only the plugin keys matter, so a configuration without a model will do. */
    const config_override o[] = {{"model=.", "--model"}, {"dataset=.", "--dataset"}};
    if (!cli_given(c, "config")) return cli_catalogue(c, out, err);
    sqz_status s = config_load(cli_text(c, "config"), o, 0, &cfg, err);
    if (s && strstr(err->text, "is missing"))
        s = config_load(cli_text(c, "config"), o, 2, &cfg, err);
    if (s) return s;
    s = study_catalogue(c, cfg, out, err);
    config_free(cfg);
    return s;
}

static sqz_status why(cli *c, sqz_error *err)
{
    struct stat st;
    question q = {.c = c, .name = c->args[0]};
    sqz_status s = open_catalogue(c, &q.catalogue, err);
    if (s) return s;
    int is_file = stat(q.name, &st) == 0 && S_ISREG(st.st_mode);
    q.file = is_file ? realpath(q.name, NULL) : NULL;
    q.list = cJSON_AddArrayToObject(c->json, "findings");
    tell_agents(&q);
    tell_problems(&q, q.catalogue);
    if (!q.found && q.file && !was_seen(&q)) s = tell_outsider(&q, err);
    if (!s && !q.found) {
        say_places(&q);
        const agent_info *none;
        s = catalogue_find(q.catalogue, NULL, q.name, &none, err);
        if (!s) s = err_set(err, ERR_USAGE, "%s: nothing is known about it", q.name);
    }
    free(q.file);
    catalogue_close(q.catalogue);
    return s;
}

const command cmd_plugin_why = {
    .name = "plugin why",
    .arguments = "ID_OR_FILE",
    .min_args = 1,
    .max_args = 1,
    .summary = "where a plugin comes from, what hides it, and why it cannot be used",
    .details = "ID_OR_FILE is an id, its last part, a .so file, or the name of one that could not "
               "be loaded.",
    .examples = "  sqz plugin why NAME\n  sqz plugin why ./build/my_method.so\n"
                "  sqz plugin why my_method --config pipeline.json\n",
    OPTIONS(why_options),
    .run = why};
