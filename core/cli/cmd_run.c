/* cmd_run.c - sqz run and sqz plan: the coordinator's run, rendered.
 *
 * The run itself knows no terminal and no signals; here its events become lines, and Ctrl-C becomes
 * run_cancel: the first stops asking and leaves a report, the second stops at once. */
#include "cli/ask.h"
#include "cli/shared.h"
#include "cli/study.h"
#include "cli/terminal.h"
#include "io/disk.h"
#include "io/file.h"
#include "report/report.h"
#include "tracker/tracking.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cli_option run_options_table[] = {
    STUDY_OPTIONS,
    {"resume", CLI_TEXT, "RUN", NULL, 0, 0, "continue the run of this folder"},
    {"yes", CLI_FLAG, NULL, NULL, 0, 0, "never ask, take the defaults"},
};

static void on_signal(void *ctx, int count)
{
    run_cancel(ctx, count > 1 ? 2 : 1);
}

static sqz_status resume_conflicts(const cli *c, sqz_error *err)
{
    static const char *const others[] = {"config",   "model", "dataset", "budget",
                                         "max-vram", "set",   "output"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (cli_given(c, others[i]))
            return err_set(err, ERR_USAGE,
                           "--resume continues the run as recorded; --%s would "
                           "change it",
                           others[i]);
    return SQZ_OK;
}

/* The report must exist however the run ended; its failure matters only when nothing else failed.
 */
static sqz_status leave_report(const run *r, sqz_status finished, sqz_error *err)
{
    sqz_error local = {0};
    sqz_status s = report_write(run_dir(r), &local);
    if (!s) return finished;
    terminal_log(SQZ_LOG_WARN, "report: %s", local.text);
    if (finished) return finished;
    *err = local;
    return s;
}

static void tell_result(cli *c, const run *r, sqz_status state)
{
    char *dir = cli_absolute(run_dir(r));
    const cJSON *front = run_front(r);
    cli_say(c, "\n");
    view_front(c, front, run_baseline(r));
    cli_say(c, "\n%s/report.html\n", dir);
    cJSON_AddStringToObject(c->json, "id", run_id(r));
    cJSON_AddStringToObject(c->json, "output", dir);
    cJSON_AddStringToObject(c->json, "state", state ? err_name(state) : "ok");
    cJSON_AddNumberToObject(c->json, "trials", (double)run_trial_count(r));
    char *report = path_format("%s/report.html", dir);
    cJSON_AddStringToObject(c->json, "report", report);
    if (front) cJSON_AddItemToObject(c->json, "pareto", cJSON_Duplicate(front, 1));
    free(report);
    free(dir);
}

/* ---- trackers -------------------------------------------------------------------------------- */
/* Who is told of a run's events. */
typedef struct listeners {
    view view;
    tracking *tracking; /* NULL = no trackers */
    double began_s;
} listeners;

static void on_event(void *ctx, const run_event *e)
{
    listeners *l = ctx;
    view_event(&l->view, e);
    if (l->tracking) tracking_observe(l->tracking, e);
}

static void on_tracker_log(void *ctx, int level, const char *text)
{
    (void)ctx;
    terminal_log(level, "%s", text);
}

/* The recorded configuration names the trackers, so that a resumed run has the same ones.  Tracking
 * that cannot begin is a warning. */
static void listeners_track(listeners *l, const cli *c, const run *r, const catalogue *cat)
{
    json_doc *doc = NULL;
    sqz_error err = {0};
    char *path = path_format("%s/run.json", run_dir(r));
    l->began_s = clock_s();
    sqz_status s = json_read(path, 256 << 20, 0, &doc, &err);
    const cJSON *trackers = s ? NULL : json_get(json_get(json_root(doc), "config_full"), "tracker");
    if (cJSON_GetArraySize(trackers) > 0) {
        tracking_options o = {
            .catalogue = cat, .dir = run_dir(r), .trackers = trackers, .log = on_tracker_log};
        s = tracking_open(&o, &l->tracking, &err);
        if (!s && cli_given(c, "resume")) tracking_add_folder(l->tracking, 0);
    }
    if (s) terminal_log(SQZ_LOG_WARN, "the run is not tracked: %s", err.text);
    json_free(doc);
    free(path);
}

static void listeners_finish(listeners *l, cli *c)
{
    if (!l->tracking) return;
    tracking_finish(l->tracking, clock_s() - l->began_s);
    cJSON_AddItemToObject(c->json, "tracking", tracking_status(l->tracking));
    double cost = tracking_cost_s(l->tracking), closing = clock_s();
    tracking_close(l->tracking);
    json_add_num(c->json, "tracking_seconds", cost + clock_s() - closing);
}

static sqz_status drive(cli *c, run *r, listeners *l, sqz_error *err)
{
    int more = 1;
    sqz_status s = SQZ_OK;
    sqz_error step_error = {0};
    signals_tell(on_signal, r);
    progress_begin("run");
    while (more && !s) s = run_step(r, &more, &step_error);
    progress_end();
    sqz_error finish_error = {0};
    sqz_status finished = run_finish(r, &finish_error);
    signals_tell(NULL, NULL);
    if (s) finished = s, finish_error = step_error;
    *err = finish_error;
    finished = leave_report(r, finished, err);
    listeners_finish(l, c);
    tell_result(c, r, finished);
    if (finished == SQZ_E_CANCELLED && !err->text[0])
        err_set(err, finished, "interrupted; `sqz run --resume %s` continues", run_dir(r));
    return finished;
}

static const char from_cache[] = "the hub's cache";

/* What the hub has under the names of the file - model, data sets, calibration - becomes folders.
 */
static sqz_status fetch_names(const config *cfg, config_override *more, int *n, sqz_error *err)
{
    char *local = NULL;
    sqz_status s = SQZ_OK;
    if (!path_exists(cfg->model) && hub_is_name(cfg->model)) {
        s = cli_model_folder(cfg->model, HUB_MODEL, &local, err);
        if (!s) more[(*n)++] = (config_override){path_format("model=%s", local), from_cache};
        free(local);
    }
    for (int i = 0; i < cfg->n_datasets && !s; i++) {
        const char *source = cfg->datasets[i].source;
        if (cfg->datasets[i].reader) continue; /* its name is its own */
        s = cli_hub_dataset(source, -1, 0, &local, err);
        if (!s && strcmp(source, local) != 0)
            more[(*n)++] =
                (config_override){path_format("dataset[%d].source=%s", i, local), from_cache};
        if (!s) free(local);
    }
    if (s || !cfg->calibration || cfg->calibration_reader) return s;
    s = cli_hub_mix(cfg->calibration, &local, err);
    if (!s && strcmp(cfg->calibration, local) != 0)
        more[(*n)++] = (config_override){path_format("calibration.source=%s", local), from_cache};
    if (!s) free(local);
    return s;
}

/* The configuration, with a person's answers for the key constraints that nobody set. */
static sqz_status new_config(const cli *c, config **cfg, sqz_error *err)
{
    int n = 0, answers = 0;
    sqz_status s = study_config(c, cfg, err);
    if (s) return s;
    config_override *more = calloc((size_t)(ASK_MOST + 2 + (*cfg)->n_datasets), sizeof *more);
    if (!more) s = err_set(err, SQZ_E_NOMEM, "no memory for the names of the configuration");
    if (!s) s = fetch_names(*cfg, more, &n, err);
    if (!s && ask_allowed(c)) s = ask_constraints(*cfg, more + n, &answers, err);
    n += answers;
    if (n || (s && *cfg)) {
        config_free(*cfg);
        *cfg = NULL;
    }
    if (!s && n) s = study_config_with(c, more, n, cfg, err);
    for (int i = 0; i < n; i++) free((char *)more[i].text);
    free(more);
    return s;
}

static void tell_near_tasks(const config *cfg)
{
    for (int i = 0; i < cfg->n_datasets; i++) cli_tell_near_task(cfg->datasets[i].source);
}

static sqz_status run_command(cli *c, sqz_error *err)
{
    catalogue *cat = NULL;
    config *cfg = NULL;
    run *r = NULL;
    listeners l = {.view = {.c = c}};
    const char *resume = cli_text(c, "resume");
    sqz_status s = resume ? resume_conflicts(c, err) : new_config(c, &cfg, err);
    if (!s && cfg) tell_near_tasks(cfg);
    if (!s)
        s = resume ? study_recorded_catalogue(c, resume, &cat, err)
                   : study_catalogue(c, cfg, &cat, err);
    if (!s) {
        char *store = cli_registry_dir(c);
        run_options ro = {.config = cfg,
                          .catalogue = cat,
                          .output = cli_text(c, "output"),
                          .store = store,
                          .threads = cli_threads(c),
                          .observer = on_event,
                          .observer_ctx = &l,
                          .reading = &cli_reading};
        s = resume ? run_resume(resume, &ro, &r, err) : run_open(&ro, &r, err);
        if (!s) listeners_track(&l, c, r, cat);
        if (!s) s = drive(c, r, &l, err);
        free(store);
    }
    if (r) run_close(r);
    if (cat) catalogue_close(cat);
    if (cfg) config_free(cfg);
    return s;
}

const command cmd_run = {
    .name = "run",
    .arguments = "",
    .summary = "search for the Pareto front of compressed models and leave a report",
    .details =
        "Tries compression strategies in worker processes, measures them, exports the front "
        "and writes report.html. `sqz --config F` and `sqz --model M --dataset D` are the same "
        "without the word run. The first Ctrl-C stops asking and leaves a report (exit 130), "
        "the second stops at once; --resume continues after either, and after a crash.",
    .examples =
        "  sqz --config configs/pipelines/quickstart.json\n"
        "  sqz --model examples/tiny-arith/model --dataset examples/tiny-arith/data/test.jsonl "
        "--budget 12trials --yes\n"
        "  sqz run --config p.json --set budget.trials=20 --output runs/a\n"
        "  sqz run --resume runs/a\n",
    OPTIONS(run_options_table),
    .run = run_command};

/* ---- sqz plan -------------------------------------------------------------------------------- */
static const cli_option plan_options[] = {STUDY_OPTIONS};

/* Sizes among the inferred values are for people, too. */
static char *value_text(const char *key, const cJSON *value)
{
    char size[32];
    int bytes = strstr(key, "bytes") || strstr(key, "memory") || strcmp(key, "max_vram") == 0;
    if (!cJSON_IsNumber(value) || !bytes) return json_text(value, 0);
    format_size((int64_t)value->valuedouble, size);
    return path_format("%s", size);
}

static void say_value(const cli *c, const cJSON *entry)
{
    char *value = value_text(entry->string, json_get(entry, "value"));
    cli_say(c, "  %-20s %-34s  %s%s%s\n", entry->string, value ? value : "",
            term_on(stdout, TERM_DIM), json_str(entry, "origin", ""), term_off(stdout));
    free(value);
}

static void say_predicted(const cli *c, const cJSON *p)
{
    char bytes[32], memory[32], seconds[32];
    format_size(json_int(p, "bytes", 0), bytes);
    format_size(json_int(p, "memory_bytes", 0), memory);
    format_seconds(json_num(p, "seconds", NAN), seconds);
    cli_say(c, "%10s %12s %10s", bytes, memory, seconds);
}

static void say_plan(const cli *c, const cJSON *plan)
{
    const cJSON *item;
    const char *b = term_on(stdout, TERM_BOLD), *n = term_off(stdout);
    cli_say(c, "%sWhat follows from the model, the data and the configuration%s\n", b, n);
    cJSON_ArrayForEach(item, json_get(plan, "spec")) say_value(c, item);
    cli_say(c, "\n%sMethods and what is searched%s\n", b, n);
    cJSON_ArrayForEach(item, json_get(plan, "methods"))
    {
        char *params = json_text(json_get(item, "params"), 0);
        cli_say(c, "  %-24s %s\n", json_str(item, "id", "?"), params ? params : "");
        free(params);
    }
    cli_say(c, "\n%s%-36s %10s %12s %10s%s\n", b, "First strategies (predicted)", "file", "memory",
            "time", n);
    cJSON_ArrayForEach(item, json_get(plan, "seeds"))
    {
        const cJSON *refused = json_get(item, "refused");
        cli_say(c, "  %-34s ", json_str(item, "label", "?"));
        say_predicted(c, json_get(item, "predicted"));
        if (cJSON_IsString(refused)) cli_say(c, "  refused: %s", refused->valuestring);
        cli_say(c, "\n");
    }
    const cJSON *total = json_get(plan, "predicted"), *memory = json_get(plan, "memory");
    char time[32], disk[32], have[32];
    format_seconds(json_num(total, "seconds", NAN), time);
    format_size(json_int(total, "disk_bytes", 0), disk);
    format_size(json_int(memory, "available_bytes", 0), have);
    cli_say(c,
            "\nin all about %s and %s of disk; %s of memory are free here; %lld points can be "
            "searched\n",
            time, disk, have, (long long)json_int(plan, "space_points", 0));
}

/* The registry and the run folder may lie on different disks; the registry takes nearly all. */
static void warn_of_disk(const cJSON *plan, const char *store)
{
    double need = json_num(json_get(plan, "predicted"), "disk_bytes", 0);
    char *why = disk_refusal("the whole run", need, store, disk_free(store),
                             "a smaller budget, `sqz registry gc` or --registry on another disk "
                             "helps; a run stops, to be resumed, when a step does not fit");
    if (why) terminal_log(SQZ_LOG_WARN, "%s", why);
    free(why);
}

static sqz_status plan_command(cli *c, sqz_error *err)
{
    catalogue *cat = NULL;
    config *cfg = NULL;
    cJSON *plan = NULL;
    sqz_status s = study_config(c, &cfg, err);
    if (!s) tell_near_tasks(cfg);
    if (!s) s = study_catalogue(c, cfg, &cat, err);
    if (!s) {
        char *store = cli_registry_dir(c);
        run_options ro = {.config = cfg,
                          .catalogue = cat,
                          .output = cli_text(c, "output"),
                          .store = store,
                          .threads = cli_threads(c),
                          .reading = &cli_reading};
        s = run_plan(&ro, &plan, err);
        if (!s) warn_of_disk(plan, store);
        free(store);
    }
    if (!s) {
        say_plan(c, plan);
        cJSON_Delete(c->json);
        c->json = plan;
    }
    if (cat) catalogue_close(cat);
    if (cfg) config_free(cfg);
    return s;
}

const command cmd_plan = {
    .name = "plan",
    .arguments = "",
    .summary = "what a run would do: every inferred value with its origin, predicted size and time",
    .details = "Nothing is executed and no folder is made. --model may be a bare name here.",
    .examples = "  sqz plan --model examples/tiny-arith/model --dataset "
                "examples/tiny-arith/data/arith_test.jsonl\n"
                "  sqz plan --config pipeline.json --json plan.json\n",
    OPTIONS(plan_options),
    .run = plan_command};
