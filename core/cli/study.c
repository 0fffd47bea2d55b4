/* study.c - see study.h. */
#include "cli/shared.h"
#include "cli/study.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- from the command line to a configuration ------------------------------------------------ */
typedef struct overrides {
    config_override *rows;
    int n;
} overrides;

/* text becomes the overrides' */
static void add(overrides *o, char *text, const char *origin)
{
    config_override *grown = realloc(o->rows, ((size_t)o->n + 1) * sizeof *grown);
    if (!grown) memory_failed("the command line");
    o->rows = grown;
    o->rows[o->n++] = (config_override){text, origin};
}

/* What only plans goes on without the rows when the hub cannot be asked. */
static sqz_status fetch_dataset(const cli *c, const char *name, char **local, sqz_error *err)
{
    sqz_status s = cli_hub_dataset(name, -1, 0, local, err);
    if (s != ERR_REMOTE || !strcmp(c->command->name, "run")) return s;
    terminal_log(SQZ_LOG_WARN, "%s; its rows are not known, only its name is used", err->text);
    *local = path_format("%s", name);
    return SQZ_OK;
}

/* Commas and repetition both make a list; one data set stays a plain string. */
static sqz_status add_datasets(const cli *c, overrides *o, sqz_error *err)
{
    const char *const *given;
    int n = cli_list(c, "dataset", &given);
    sqz_status s = SQZ_OK;
    if (!n) return SQZ_OK;
    cJSON *all = cJSON_CreateArray();
    for (int i = 0; i < n && !s; i++) {
        cJSON *parts = cli_split_data(given[i]), *part;
        cJSON_ArrayForEach(part, parts)
        {
            char *local;
            if ((s = fetch_dataset(c, part->valuestring, &local, err))) break;
            cJSON_AddItemToArray(all, cJSON_CreateString(local));
            free(local);
        }
        cJSON_Delete(parts);
    }
    char *text = json_text(all, 0);
    add(o, path_format("dataset=%s", text), "--dataset");
    free(text);
    cJSON_Delete(all);
    return s;
}

/* "12trials" or "12 trials" or a duration. */
static sqz_status add_budget(overrides *o, const char *text, sqz_error *err)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    double seconds;
    while (*end == ' ') end++;
    if (end != text && (strcmp(end, "trials") == 0 || strcmp(end, "trial") == 0) && n > 0) {
        add(o, path_format("budget.trials=%lld", n), "--budget");
        return SQZ_OK;
    }
    if (parse_seconds(text, &seconds, NULL) || !(seconds > 0))
        return err_set(err, ERR_USAGE, "--budget %s: write 2h, 90s or 12trials", text);
    add(o, path_format("budget.wall=%s", text), "--budget");
    return SQZ_OK;
}

sqz_status study_config(const cli *c, config **out, sqz_error *err)
{
    return study_config_with(c, NULL, 0, out, err);
}

/* --plugin-path stands before the paths of the configuration and becomes part of it, so that the
 * run folder records it and a resumed run searches the same folders.  *out is made anew then. */
static sqz_status record_plugin_paths(const cli *c, overrides *o, config **out, sqz_error *err)
{
    const char *const *given;
    int n = cli_list(c, "plugin-path", &given);
    if (!n) return SQZ_OK;
    cJSON *paths = cJSON_CreateArray();
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(paths, cJSON_CreateString(given[i]));
    for (int i = 0; i < (*out)->n_plugin_paths; i++)
        cJSON_AddItemToArray(paths, cJSON_CreateString((*out)->plugin_paths[i]));
    char *text = json_text(paths, 0);
    cJSON_Delete(paths);
    if (!text) memory_failed("the plugin paths");
    add(o, path_format("plugins.path=%s", text), "--plugin-path");
    free(text);
    config_free(*out);
    *out = NULL;
    return config_load(cli_text(c, "config"), o->rows, o->n, out, err);
}

sqz_status study_config_with(const cli *c, const config_override *more, int n_more, config **out,
                             sqz_error *err)
{
    if (cli_given(c, "target"))
        return err_set(err, ERR_USAGE,
                       "--target is not built yet; runs measure on this machine, and "
                       "--max-vram limits the memory");
    if (!cli_given(c, "config") && !(cli_given(c, "model") && cli_given(c, "dataset")))
        return err_set(err, ERR_USAGE, "give --config FILE, or --model MODEL and --dataset FILE");
    overrides o = {0};
    const char *const *list;
    if (cli_given(c, "model")) add(&o, path_format("model=%s", cli_text(c, "model")), "--model");
    sqz_status s = add_datasets(c, &o, err);
    int n = cli_list(c, "budget", &list);
    for (int i = 0; i < n && !s; i++) s = add_budget(&o, list[i], err);
    if (cli_given(c, "max-vram"))
        add(&o, path_format("constraints.max_vram=%s", cli_text(c, "max-vram")), "--max-vram");
    if (cli_given(c, "seed")) add(&o, path_format("seed=%s", cli_text(c, "seed")), "--seed");
    n = cli_list(c, "set", &list);
    for (int i = 0; i < n; i++) add(&o, path_format("%s", list[i]), "--set");
    for (int i = 0; i < n_more; i++) add(&o, path_format("%s", more[i].text), more[i].origin);
    if (!s) s = config_load(cli_text(c, "config"), o.rows, o.n, out, err);
    if (!s) s = record_plugin_paths(c, &o, out, err);
    for (int i = 0; i < o.n; i++) free((char *)o.rows[i].text);
    free(o.rows);
    return s;
}

sqz_status study_catalogue(const cli *c, const config *cfg, catalogue **out, sqz_error *err)
{
    const char *const *first;
    int n = cli_list(c, "plugin-path", &first);
    const char **paths = calloc((size_t)(n + cfg->n_plugin_paths) + 1, sizeof *paths);
    if (!paths) return err_set(err, SQZ_E_NOMEM, "no memory for the plugin paths");
    for (int i = 0; i < n; i++) paths[i] = first[i];
    for (int i = 0; i < cfg->n_plugin_paths; i++) paths[n + i] = cfg->plugin_paths[i];
    catalogue_options o = {.paths = paths,
                           .n_paths = n + cfg->n_plugin_paths,
                           .allow = cfg->plugin_allow,
                           .n_allow = cfg->n_plugin_allow,
                           .deny = cfg->plugin_deny,
                           .n_deny = cfg->n_plugin_deny};
    sqz_status s = catalogue_open(&o, out, err);
    free(paths);
    return s;
}

sqz_status study_recorded_catalogue(const cli *c, const char *dir, catalogue **out, sqz_error *err)
{
    config *cfg = NULL;
    if (run_recorded_config(dir, &cfg, NULL)) return cli_catalogue(c, out, err);
    sqz_status s = study_catalogue(c, cfg, out, err);
    config_free(cfg);
    return s;
}

/* ---- events as lines ------------------------------------------------------------------------- */
static void count_text(const run_event *e, char *out, size_t size)
{
    if (e->budget_trials > 0)
        snprintf(out, size, "%lld/%lld", (long long)e->trials, (long long)e->budget_trials);
    else
        snprintf(out, size, "%lld", (long long)e->trials);
}

/* Time left: what the budget leaves, or what the remaining trials take at the pace so far. */
static double time_left(const run_event *e)
{
    double left = INFINITY;
    if (isfinite(e->budget_s) && e->budget_s > 0) left = fmax(0, e->budget_s - e->elapsed_s);
    if (e->budget_trials > 0 && e->trials > 0 && e->budget_trials >= e->trials)
        left =
            fmin(left, e->elapsed_s / (double)e->trials * (double)(e->budget_trials - e->trials));
    return left;
}

static void study_line(const run_event *e, char *out, size_t size)
{
    char count[48], elapsed[32], budget[40] = "", left[32], eta[48] = "";
    count_text(e, count, sizeof count);
    format_seconds(e->elapsed_s, elapsed);
    if (isfinite(e->budget_s) && e->budget_s > 0) {
        char b[32];
        format_seconds(e->budget_s, b);
        snprintf(budget, sizeof budget, " of %s", b);
    }
    if (isfinite(time_left(e))) {
        format_seconds(time_left(e), left);
        snprintf(eta, sizeof eta, ", %s left", left);
    }
    snprintf(out, size, "trials %s, front %lld, hypervolume %.3f, %s%s%s", count,
             (long long)e->front_size, e->hypervolume, elapsed, budget, eta);
}

static void draw_progress(view *v, const run_event *e)
{
    enum { CELLS = 24 };
    char study[256], first[320], second[512], bar[3 * CELLS + 1] = "";
    double done = v->done = fmin(fmax(e->done, v->done), 1);
    int full = (int)(done * CELLS + 0.5);
    for (int i = 0; i < CELLS; i++) strcat(bar, i < full ? "\u2501" : "\u2500");
    study_line(e, study, sizeof study);
    snprintf(first, sizeof first, "%s%s%s", term_on(stderr, TERM_BOLD), study, term_off(stderr));
    snprintf(second, sizeof second, "%s%s%s %3.0f %%  %s%s%s  %s%s", term_on(stderr, TERM_CYAN),
             bar, term_off(stderr), done * 100, v->label, *v->rung ? ", " : "", v->rung,
             term_on(stderr, TERM_DIM), e->text ? e->text : "");
    progress_block((const char *const[]){first, second}, 2, study);
}

static void metric_text(const cJSON *m, char *out, size_t size)
{
    char bytes[32];
    double q = json_num(m, "quality", NAN);
    *out = 0;
    if (isfinite(q)) snprintf(out, size, "%s %.5g", json_str(m, "quality_metric", "quality"), q);
    if (json_get(m, "bytes")) {
        format_size(json_int(m, "bytes", 0), bytes);
        snprintf(out + strlen(out), size - strlen(out), "%s%s", *out ? ", " : "", bytes);
    }
}

static void tell_finished(view *v, const run_event *e)
{
    char count[48], metrics[160], took[32];
    const cJSON *t = e->detail;
    const char *outcome = json_str(t, "outcome", ""), *reason = json_str(t, "reason", "");
    int ok = strcmp(outcome, "ok") == 0;
    count_text(e, count, sizeof count);
    metric_text(json_get(t, "metrics"), metrics, sizeof metrics);
    format_seconds(json_num(t, "seconds", NAN), took);
    int front = json_bool(t, "front", 0);
    terminal_log(SQZ_LOG_INFO, "%7s  %-34s %s%s%s%s%s  (%s)",
                 strcmp(json_str(t, "kind", ""), "baseline") == 0 ? "dense" : count,
                 json_str(t, "label", e->label ? e->label : ""), metrics, *metrics ? "  " : "",
                 ok ? front ? "* on the front" : "" : outcome, !ok && *reason ? ": " : "",
                 ok ? "" : reason, took);
    v->label[0] = v->rung[0] = 0;
}

static void tell_plan(const cJSON *plan)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, json_get(plan, "spec"))
    {
        char *value = json_text(json_get(v, "value"), 0);
        terminal_log(SQZ_LOG_DEBUG, "%s = %s (%s)", v->string, value ? value : "?",
                     json_str(v, "origin", "?"));
        free(value);
    }
}

void view_event(void *ctx, const run_event *e)
{
    view *v = ctx;
    switch (e->kind) {
    case RUN_EVENT_PLANNED: tell_plan(e->detail); break;
    case RUN_EVENT_TRIAL_STARTED:
        v->done = 0;
        snprintf(v->label, sizeof v->label, "%s", e->label ? e->label : "");
        snprintf(v->rung, sizeof v->rung, "%s", e->rung ? e->rung : "");
        draw_progress(v, e);
        break;
    case RUN_EVENT_TRIAL_PROGRESS:
        if (e->label && *e->label) snprintf(v->label, sizeof v->label, "%s", e->label);
        if (e->rung && *e->rung) snprintf(v->rung, sizeof v->rung, "%s", e->rung);
        draw_progress(v, e);
        break;
    case RUN_EVENT_TRIAL_FINISHED: tell_finished(v, e); break;
    case RUN_EVENT_EXPORTED:
        terminal_log(SQZ_LOG_INFO, "exported %s",
                     json_str(json_get(e->detail, "export"), "path", e->label ? e->label : ""));
        break;
    case RUN_EVENT_RESUMED:
    case RUN_EVENT_STOPPED: terminal_log(SQZ_LOG_INFO, "%s", e->text ? e->text : ""); break;
    case RUN_EVENT_LOG: terminal_log(e->level, "%s", e->text ? e->text : ""); break;
    case RUN_EVENT_TRIAL_PROPOSED:
    case RUN_EVENT_FRONT_CHANGED: break;
    }
}

/* ---- the front as a table -------------------------------------------------------------------- */
enum { LABEL = 34, COLUMNS = 7, CELL = 48 };

/* rank: where the terminal is too narrow, the highest go first; the reports have them all */
static const struct {
    const char *title; /* NULL = the name of the metric */
    int width, rank;
} table[COLUMNS] = {{NULL, 17, 0},     {"PERPLEXITY", 10, 4}, {"FILE", 10, 1}, {"SMALLER", 7, 3},
                    {"MEMORY", 10, 5}, {"TTFT", 10, 6},       {"TPOT", 10, 2}};

typedef struct layout {
    int label, rank; /* columns of the label; the highest rank that is shown */
} layout;

static layout fit_table(const cJSON *members)
{
    layout l = {LABEL, COLUMNS - 1};
    if (!isatty(STDOUT_FILENO)) return l;
    int room = terminal_width(), longest = (int)strlen("dense baseline"), all = 0;
    const cJSON *m;
    cJSON_ArrayForEach(m, members)
    {
        int n = (int)strlen(json_str(m, "label", json_str(m, "strategy_id", "?")));
        longest = n > longest ? n : longest;
    }
    for (int k = 0; k < COLUMNS; k++) all += table[k].width + 1;
    if (LABEL + all <= room) return l;
    l.label = longest < LABEL ? longest : LABEL;
    for (; l.rank > 0 && l.label + all > room; l.rank--)
        for (int k = 0; k < COLUMNS; k++)
            if (table[k].rank == l.rank) all -= table[k].width + 1;
    return l;
}

static void print_row(const cli *c, const layout *l, const char *label, char cells[COLUMNS][CELL])
{
    cli_say(c, "%-*.*s", l->label, l->label, label);
    for (int k = 0; k < COLUMNS; k++) {
        int two_bytes = strstr(cells[k], "\u00b1") != NULL;
        if (table[k].rank <= l->rank) cli_say(c, " %*s", table[k].width + two_bytes, cells[k]);
    }
}

static void cell_ms(const cJSON *m, const char *key, char out[CELL])
{
    double v = json_num(m, key, NAN);
    if (isfinite(v))
        snprintf(out, CELL, "%.3g ms", v);
    else
        snprintf(out, CELL, "-");
}

static void cell_size(const cJSON *m, const char *key, char out[CELL])
{
    snprintf(out, CELL, "-");
    if (json_get(m, key)) format_size(json_int(m, key, 0), out);
}

static void front_row(const cli *c, const layout *l, const char *label, const cJSON *m,
                      double dense_bytes)
{
    char cells[COLUMNS][CELL] = {"-", "-"};
    double q = json_num(m, "quality", NAN), se = json_num(m, "quality_stderr", NAN),
           b = json_num(m, "bytes", NAN);
    if (isfinite(q) && isfinite(se))
        snprintf(cells[0], CELL, "%.4f \u00b1 %.4f", q, se);
    else if (isfinite(q))
        snprintf(cells[0], CELL, "%.4f", q);
    if (json_get(m, "perplexity")) snprintf(cells[1], CELL, "%.5g", json_num(m, "perplexity", NAN));
    cell_size(m, "bytes", cells[2]);
    if (dense_bytes > 0 && b > 0) snprintf(cells[3], CELL, "%.2fx", dense_bytes / b);
    cell_size(m, "memory_bytes", cells[4]);
    cell_ms(m, "ttft_ms", cells[5]);
    cell_ms(m, "tpot_ms", cells[6]);
    print_row(c, l, label, cells);
    cli_say(c, "\n");
}

void view_front(const cli *c, const cJSON *front, const cJSON *baseline)
{
    const cJSON *members = json_get(front, "members"), *m;
    const cJSON *dense =
        json_get(front, "baseline") ? json_get(front, "baseline") : json_get(baseline, "metrics");
    double dense_bytes = json_num(dense, "bytes", 0);
    layout l = fit_table(members);
    char titles[COLUMNS][CELL];
    cJSON_ArrayForEach(m, members) break;
    const char *metric = json_str(dense, "quality_metric",
                                  json_str(json_get(m, "metrics"), "quality_metric", "quality"));
    for (int k = 0; k < COLUMNS; k++)
        snprintf(titles[k], CELL, "%s", table[k].title ? table[k].title : metric);
    cli_say(c, "%s", term_on(stdout, TERM_BOLD));
    print_row(c, &l, "STRATEGY", titles);
    cli_say(c, "%s\n", term_off(stdout));
    if (dense) front_row(c, &l, "dense baseline", dense, 0);
    cJSON_ArrayForEach(m, members)
        front_row(c, &l, json_str(m, "label", json_str(m, "strategy_id", "?")),
                  json_get(m, "metrics"), dense_bytes);
}
