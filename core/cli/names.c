/* names.c - models and data sets by their names on the hub, for commands that take them. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "data/data.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

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

/* A part of a mix without its weight: SPEC of SPEC@2.5; NULL: it has none. */
static char *without_weight(const char *part, const char **weight)
{
    const char *at = strrchr(part, '@');
    char *whole = dataset_path(part); /* a file may be called x@2 */
    int is_local = whole != NULL;
    *weight = "";
    free(whole);
    if (is_local || !at || !at[1] || strspn(at + 1, "0123456789.") != strlen(at + 1))
        return path_format("%s", part);
    *weight = at;
    return path_format("%.*s", (int)(at - part), part);
}

sqz_status cli_calibration(const char *mix, char **local, sqz_error *err)
{
    char *copy = path_format("%s", mix), *all = path_format("%s", ""), *save = NULL;
    sqz_status s = SQZ_OK;
    for (char *w = strtok_r(copy, ",", &save); w && !s; w = strtok_r(NULL, ",", &save)) {
        const char *weight;
        char *spec = without_weight(w, &weight), *one = NULL;
        s = cli_dataset(spec, 1, &one, err);
        if (!s) {
            char *more = path_format("%s%s%s%s", all, *all ? "," : "", one, weight);
            free(all);
            all = more;
        }
        free(one);
        free(spec);
    }
    free(copy);
    if (s)
        free(all);
    else
        *local = all;
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
