/* report.h - report.md and report.html from the files of a run folder.
 *
 * Reads pareto.json, trials.jsonl and run.json (metrics.json where present) and nothing else, so a
 * report can be made again at any time, also of an interrupted run.  report.html is one file
 * without any network access; it works without JavaScript, which only adds hovering and the
 * keyboard. */
#ifndef SQZ_CORE_REPORT_H
#define SQZ_CORE_REPORT_H
#include "error/error.h"
#include "json/json.h"

/* What a report is made from; missing files are NULL or empty. */
typedef struct report_data {
    cJSON *run;         /* run.json */
    cJSON *pareto;      /* pareto.json */
    cJSON *metrics;     /* metrics.json */
    cJSON *environment; /* environment.json */
    cJSON *trials;      /* array of the lines of trials.jsonl */
} report_data;
/* ERR_MODEL when dir is no run folder; a damaged last line of trials.jsonl is left out. */
sqz_status report_load(const char *dir, report_data *out, sqz_error *err);
void report_data_free(report_data *);

char *report_markdown(const report_data *); /* malloc'd */
char *report_html(const report_data *);     /* malloc'd */
/* Writes both into the folder. */
sqz_status report_write(const char *dir, sqz_error *err);

/* The recommended member: best reward, else the first; NULL when the front is empty. */
const cJSON *report_best(const cJSON *pareto);
#endif
