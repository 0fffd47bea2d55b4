/* sources.h - the data sets of a run as they are opened: themselves, or the rows that a data plugin
 * made of them.
 *
 * The configuration and every record keep what the user wrote; only what opens a data set asks
 * here.  A resumed run makes (or finds) the rows again, and its fingerprint tells when they differ.
 */
#ifndef SQZ_CORE_SOURCES_H
#define SQZ_CORE_SOURCES_H
#include "config/config.h"
#include "worker/convert.h"

typedef struct sources {
    convert_options options;
    char *store; /* behind options */
    int n;
    char **datasets;   /* [n] specs to open, NULL until sources_dataset */
    char *calibration; /* of `of`, NULL until sources_calibration */
    char *of;
    cJSON *facts; /* {name: what task_convert says}, of the data sets that were read by plugins */
} sources;

sqz_status sources_open(const config *, const convert_options *, sources *out, sqz_error *err);
void sources_close(sources *);
/* Makes the i-th data set, or a calibration spec, ready to be opened; does so once. */
sqz_status sources_dataset(sources *, const config *, int i, sqz_error *err);
sqz_status sources_calibration(sources *, const config *, const char *spec, sqz_error *err);
/* What to open: made ready, else as it was given.  sources may be NULL. */
const char *sources_dataset_spec(const sources *, const config *, int i);
const char *sources_calibration_spec(const sources *, const char *spec);
#endif
