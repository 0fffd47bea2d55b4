/* names.c - models and data sets by their names on the hub, for commands that take them. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"

static int on_tick(void *ctx, double done, const char *what)
{
    (void)ctx;
    progress_update(done, what);
    return signals_count() > 0;
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    terminal_log(SQZ_LOG_INFO, "%s", text);
}

static const hub_hooks hooks = {on_tick, on_log, NULL};

sqz_status cli_model_folder(const char *word, hub_want want, char **folder, sqz_error *err)
{
    if (path_exists(word) || !hub_is_name(word)) {
        *folder = cli_absolute(word);
        return SQZ_OK;
    }
    progress_begin("download");
    sqz_status s = hub_model(word, want, &hooks, folder, err);
    progress_end();
    return s;
}

sqz_status cli_dataset(const char *spec, int for_calibration, char **local, sqz_error *err)
{
    if (!hub_is_dataset(spec)) {
        *local = path_format("%s", spec);
        return SQZ_OK;
    }
    progress_begin("download");
    sqz_status s = hub_dataset(spec, for_calibration, &hooks, local, err);
    progress_end();
    return s;
}
