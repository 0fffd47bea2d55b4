/* cmd_report.c - sqz report, sqz schema: files made again from what is known. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "config/config.h"
#include "io/file.h"
#include "report/report.h"
#include <stdlib.h>
#include <string.h>

/* ---- sqz report RUN -------------------------------------------------------------------------- */
static sqz_status report(cli *c, sqz_error *err)
{
    sqz_status s = report_write(c->args[0], err);
    if (s) return s;
    char *html = path_format("%s/report.html", c->args[0]),
         *md = path_format("%s/report.md", c->args[0]);
    cli_say(c, "%s\n%s\n", html, md);
    cJSON_AddStringToObject(c->json, "html", html);
    cJSON_AddStringToObject(c->json, "markdown", md);
    free(html);
    free(md);
    return SQZ_OK;
}

const command cmd_report = {.name = "report",
                            .arguments = "RUN",
                            .min_args = 1,
                            .max_args = 1,
                            .summary = "make report.html and report.md of a run folder again",
                            .examples = "  sqz report runs/quickstart\n",
                            .run = report};

/* ---- sqz schema ------------------------------------------------------------------------------ */
/* The core's schema, with every installed method's parameters under definitions and, as conditions
 * on `use`, in the steps. */
static void merge_plugins(cJSON *schema, const catalogue *cat)
{
    cJSON *definitions = json_get(schema, "definitions");
    if (!definitions) definitions = cJSON_AddObjectToObject(schema, "definitions");
    cJSON *agents = cJSON_CreateObject();
    for (int i = 0; i < catalogue_count(cat); i++) {
        const agent_info *a = catalogue_at(cat, i);
        if (a->shadowed) continue;
        cJSON *one = params_schema(a);
        if (!one) continue;
        if (!json_get(one, "title")) cJSON_AddStringToObject(one, "title", a->id);
        if (!json_get(one, "description"))
            cJSON_AddStringToObject(one, "description", a->summary ? a->summary : "");
        cJSON_AddStringToObject(one, "x-kind", a->kind);
        cJSON_AddItemToObject(agents, a->id, one);
    }
    cJSON_AddItemToObject(definitions, "plugins", agents);
}

static sqz_status schema(cli *c, sqz_error *err)
{
    cJSON *s = config_schema();
    if (!s) return err_set(err, SQZ_E_NOMEM, "no memory for the schema");
    if (!cli_flag(c, "core")) {
        catalogue *cat;
        sqz_status st = cli_catalogue(c, &cat, err);
        if (st) {
            cJSON_Delete(s);
            return st;
        }
        merge_plugins(s, cat);
        catalogue_close(cat);
    }
    char *text = json_text(s, 1);
    cli_say(c, "%s\n", text ? text : "");
    free(text);
    cJSON_Delete(c->json);
    c->json = s;
    return SQZ_OK;
}

static const cli_option schema_options[] = {
    {"core", CLI_FLAG, NULL, NULL, 0, 0, "without the installed plugins' parameters"},
};

const command cmd_schema = {
    .name = "schema",
    .arguments = "",
    .summary = "the JSON Schema of pipeline.json, with the installed plugins' parameters",
    .details = "Draft-07, for editors. The parameters of each plugin stand under "
               "definitions.plugins, by id.",
    .examples = "  sqz schema > pipeline.schema.json\n",
    OPTIONS(schema_options),
    .run = schema};
