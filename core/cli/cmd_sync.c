/* cmd_sync.c - sqz sync RUN: to the trackers what they have not got yet. */
#include "cli/study.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "journal.h"
#include "tracker/tracking.h"
#include <stdlib.h>
#include <string.h>

static const cli_option sync_options[] = {
    {"tracker", CLI_TEXT, "ID", NULL, 0, 0,
     "begin with this tracker, for a run that was made without it"},
    {"param", CLI_LIST, "K=V", NULL, 0, 0, "parameter of --tracker"},
    {"attempts", CLI_INT, "N", "5", 1, 1000, "failures in a row after which to give up"},
};

static void on_log(void *ctx, int level, const char *text)
{
    (void)ctx;
    terminal_log(level, "%s", text);
}

static int on_stop(void *ctx)
{
    (void)ctx;
    return signals_count() > 0;
}

/* Whoever holds the journal delivers by itself, and its end is not known yet. */
static sqz_status refuse_running(const char *dir, sqz_error *err)
{
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", dir);
    sqz_status s = path_exists(path) ? journal_open(path, &j, NULL, err)
                                     : err_set(err, ERR_MODEL,
                                               "%s: holds no journal.jsonl, so there is no run to "
                                               "deliver",
                                               dir);
    if (s == ERR_CONFLICT)
        err_set(err, s, "%s: the run is still going on and delivers itself", dir);
    journal_close(j);
    free(path);
    return s;
}

/* [{"use","with"}] of --tracker, or NULL: those that the run has. */
static sqz_status wanted(const cli *c, const catalogue *cat, cJSON **out, sqz_error *err)
{
    const agent_info *tracker;
    *out = NULL;
    if (!cli_given(c, "tracker"))
        return cli_given(c, "param") ? err_set(err, ERR_USAGE, "--param needs --tracker") : SQZ_OK;
    sqz_status s = catalogue_find(cat, "tracker/1", cli_text(c, "tracker"), &tracker, err);
    if (s) return s;
    cJSON *list = cJSON_CreateArray(), *one = cJSON_CreateObject(), *with;
    cJSON_AddItemToArray(list, one);
    cJSON_AddStringToObject(one, "use", cli_text(c, "tracker"));
    with = cJSON_AddObjectToObject(one, "with");
    s = cli_params(c, "param", tracker, with, err);
    if (!s) s = tracking_check(list, cat, err);
    if (s)
        cJSON_Delete(list);
    else
        *out = list;
    return s;
}

static sqz_status tell_result(cli *c, tracking *t, const char *dir, sqz_error *err)
{
    cJSON *status = tracking_status(t);
    const cJSON *j;
    const char *why = "";
    cJSON_ArrayForEach(j, status)
    {
        cli_say(c, "%-12s %lld of %lld events delivered", json_str(j, "name", "?"),
                (long long)json_int(j, "delivered", 0), (long long)json_int(j, "events", 0));
        if (json_int(j, "rejected", 0))
            cli_say(c, ", %lld refused for good", (long long)json_int(j, "rejected", 0));
        cli_say(c, "\n");
        if (json_str(j, "error", NULL)) why = json_str(j, "error", "");
    }
    int n = cJSON_GetArraySize(status);
    int64_t left = tracking_undelivered(t);
    sqz_status s = SQZ_OK;
    if (!n)
        s = err_set(err, ERR_USAGE,
                    "%s: no tracker to deliver to; name one with --tracker, such as --tracker "
                    "NAME (`sqz plugin list` shows them)",
                    dir);
    else if (left)
        s = err_set(err, ERR_REMOTE, "%lld events wait in %s/spool%s%s; try again later",
                    (long long)left, dir, *why ? ": " : "", why);
    cJSON_AddItemToObject(c->json, "tracking", status);
    return s;
}

static sqz_status sync_command(cli *c, sqz_error *err)
{
    catalogue *cat = NULL;
    cJSON *trackers = NULL;
    tracking *t = NULL;
    const char *dir = c->args[0];
    sqz_status s = refuse_running(dir, err);
    if (!s) s = study_recorded_catalogue(c, dir, &cat, err);
    if (!s) s = wanted(c, cat, &trackers, err);
    if (!s) {
        tracking_options o = {.catalogue = cat, .dir = dir, .trackers = trackers, .log = on_log};
        s = tracking_open(&o, &t, err);
    }
    if (!s) {
        tracking_wait w = {.max_failures = (int)cli_int(c, "attempts"), .stop = on_stop};
        tracking_add_folder(t, 1);
        tracking_drain(t, &w);
        s = tell_result(c, t, dir, err);
        if (s == ERR_REMOTE && on_stop(NULL)) s = err->code = SQZ_E_CANCELLED;
        tracking_close(t);
    }
    cJSON_Delete(trackers);
    if (cat) catalogue_close(cat);
    return s;
}

const command cmd_sync = {
    .name = "sync",
    .arguments = "RUN",
    .min_args = 1,
    .max_args = 1,
    .summary = "deliver to the trackers what a run could not",
    .details = "A run never waits for a tracking server: what is not delivered stays in RUN/spool. "
               "Delivering again does no harm, everything arrives once. Exit code 8 when a server "
               "does not answer.",
    .examples = "  sqz sync runs/quickstart\n"
                "  sqz sync runs/old --tracker mlflow --param uri=http://127.0.0.1:5000\n",
    OPTIONS(sync_options),
    .run = sync_command};
