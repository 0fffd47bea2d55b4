/* study.h - what `sqz run` and `sqz plan` share: the configuration from the command line, and the
 * view of a run's events. */
#ifndef SQZ_CORE_CLI_STUDY_H
#define SQZ_CORE_CLI_STUDY_H
#include "cli/shared.h"
#include "config/config.h"
#include "coordinator/run.h"

/* Rows of the option table that describe a run. */
#define STUDY_OPTIONS                                                                              \
    {"config", CLI_TEXT, "FILE", NULL, 0, 0, "pipeline.json: JSON, comments allowed"},             \
        {"model", CLI_TEXT, "MODEL", NULL, 0, 0, "model folder"},                                  \
        {"dataset",                                                                                \
         CLI_LIST,                                                                                 \
         "FILE",                                                                                   \
         NULL,                                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         "data set; several with commas or several times, the first one decides"},                 \
        {"budget", CLI_LIST, "BUDGET", NULL, 0, 0, "2h, 90s or 12trials; may be given twice"},     \
        {"max-vram", CLI_SIZE, "SIZE", NULL, 0, 0, "memory the result may take, such as 8GB"},     \
        {"output", CLI_TEXT, "DIR", NULL, 0, 0, "run folder (default: runs/<id>)"},                \
        {"set",                                                                                    \
         CLI_LIST,                                                                                 \
         "K=V",                                                                                    \
         NULL,                                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         "set a key of the configuration, such as budget.trials=20; ~key takes it away"},          \
    {                                                                                              \
        "target", CLI_TEXT, "NAME", NULL, 0, 0, "target hardware: not built yet"                   \
    }

/* --plugin-path becomes the first of its plugins.path. */
sqz_status study_config(const cli *, config **out, sqz_error *err);
/* The same with further overrides behind those of the command line. */
sqz_status study_config_with(const cli *, const config_override *more, int n_more, config **out,
                             sqz_error *err);
/* The configuration's paths, allow and deny lists; behind --plugin-path, which a resumed run's
 * configuration need not have. */
sqz_status study_catalogue(const cli *, const config *, catalogue **out, sqz_error *err);

/* The plugins of the run in folder dir; without its configuration those of the command line: what is
 * wrong with the folder is told by who opens it. */
sqz_status study_recorded_catalogue(const cli *, const char *dir, catalogue **out, sqz_error *err);

typedef struct view {
    cli *c;
    char label[160], rung[32];
    double done; /* furthest point of the running job: nested steps report from 0 again */
} view;
void view_event(void *ctx /* view */, const run_event *);
/* The front as a table on stdout. */
void view_front(const cli *, const cJSON *front, const cJSON *baseline);
#endif
