/* cmd_doctor.c - sqz doctor: can this machine and this installation do the work, and if not, what
 * helps. */
#include "cli/probe.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include <stdlib.h>
#include <string.h>

static const cli_option doctor_options[] = {
    {"only", CLI_LIST, "GROUP", NULL, 0, 0,
     "ask only this group: cpu, backend, memory, gpu, disk, plugins, registry, permissions, clock"},
    {"strict", CLI_FLAG, NULL, NULL, 0, 0, "a warning fails, too"},
};

static const double PROBE_LIMIT_S = 10;

static int asked_for(const cli *c, const char *group)
{
    const char *const *only;
    int n = cli_list(c, "only", &only), found = n == 0;
    for (int i = 0; i < n; i++) found |= !strcmp(only[i], group);
    return found;
}

static sqz_status check_groups(const cli *c, sqz_error *err)
{
    const char *const *only;
    int n = cli_list(c, "only", &only);
    for (int i = 0; i < n; i++) {
        const char *names[32];
        int known = 0;
        for (int k = 0; k < n_probes && k < 32; k++) {
            names[k] = probes[k].group;
            known |= !strcmp(only[i], names[k]);
        }
        if (known) continue;
        const char *near = json_nearest(only[i], names, n_probes);
        return err_set(err, ERR_USAGE, "--only %.60s: no such group%s%s%s", only[i],
                       near ? "; did you mean " : "; `sqz doctor --help` lists them",
                       near ? near : "", near ? "?" : "");
    }
    return SQZ_OK;
}

static void say_row(const cli *c, const cJSON *row)
{
    const char *state = json_str(row, "state", ""), *remedy = json_str(row, "remedy", NULL);
    const char *text = json_str(row, "text", "");
    term_style style = !strcmp(state, "ok")     ? TERM_GREEN
                       : !strcmp(state, "warn") ? TERM_YELLOW
                                                : TERM_RED;
    if (cli_json_stdout(c)) return;
    printf("  %s%-4s%s  %-16s ", term_on(stdout, style), state, term_off(stdout),
           json_str(row, "name", ""));
    print_safe(stdout, text, strlen(text));
    putchar('\n');
    if (remedy) {
        printf("        %-16s %s-> ", "", term_on(stdout, TERM_BOLD));
        print_safe(stdout, remedy, strlen(remedy));
        printf("%s\n", term_off(stdout));
    }
}

/* Counts rows of a state in [from, end). */
static int count(const cJSON *rows, int from, const char *state)
{
    int n = 0;
    for (int i = from; i < cJSON_GetArraySize(rows); i++)
        n += !strcmp(json_str(cJSON_GetArrayItem(rows, i), "state", ""), state);
    return n;
}

static sqz_status doctor(cli *c, sqz_error *err)
{
    sqz_status s = check_groups(c, err);
    if (s) return s;
    cJSON *rows = cJSON_AddArrayToObject(c->json, "rows");
    int exit_code = 0;
    for (int i = 0; i < n_probes; i++) {
        int from = cJSON_GetArraySize(rows);
        if (!asked_for(c, probes[i].group)) continue;
        if (!probe_run(&probes[i], c, PROBE_LIMIT_S, rows))
            return err_set(err, SQZ_E_CANCELLED, "interrupted at %s", probes[i].group);
        cli_say(c, "%s%s%s\n", term_on(stdout, TERM_BOLD), probes[i].group, term_off(stdout));
        for (int k = from; k < cJSON_GetArraySize(rows); k++)
            say_row(c, cJSON_GetArrayItem(rows, k));
        if (!exit_code && count(rows, from, "fail")) exit_code = probes[i].exit_code;
    }
    int warn = count(rows, 0, "warn"), fail = count(rows, 0, "fail");
    cJSON_AddNumberToObject(c->json, "ok", count(rows, 0, "ok"));
    cJSON_AddNumberToObject(c->json, "warn", warn);
    cJSON_AddNumberToObject(c->json, "fail", fail);
    cli_say(c, "\n%d ok, %d to look at, %d failed\n", count(rows, 0, "ok"), warn, fail);
    c->exit_code = exit_code ? exit_code : warn && cli_flag(c, "strict") ? 1 : 0;
    return SQZ_OK;
}

const command cmd_doctor = {
    .name = "doctor",
    .arguments = "",
    .summary = "is everything there that sqz needs, and what helps where it is not",
    .details = "Each group is asked in a process of its own for at most 10 s. Exit code 0 unless "
               "something required fails (4 plugins or backend, 7 disk, registry or permissions, "
               "else 1); with --strict a warning gives 1.",
    .examples = "  sqz doctor\n  sqz doctor --only plugins --only registry\n"
                "  sqz doctor --strict --json -\n",
    OPTIONS(doctor_options),
    .run = doctor};
