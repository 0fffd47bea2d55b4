/* known_models.h - tables that users may edit: shapes of published models, what to recommend,
 * and the acceptance criteria of sqz validate.
 *
 * All are plain JSON in share/sqz/configs beside the program; the user's own files lie in
 * $XDG_CONFIG_HOME/sqz, else ~/.config/sqz.  The user's models are looked up before the shipped
 * ones; the user's recommendations take the place of the shipped ones. */
#ifndef SQZ_CORE_CLI_KNOWN_MODELS_H
#define SQZ_CORE_CLI_KNOWN_MODELS_H
#include "json/json.h"

/* The user's file of that name, else the shipped one; *doc stays NULL when there is neither. */
sqz_status config_table(const char *file, json_doc **doc, sqz_error *err);

typedef struct known_model {
    char name[128];    /* as published: owner/name */
    char *config;      /* config.json text of its shape; malloc'd, NULL = not known */
    double parameters; /* published total, 0 = not said */
} known_model;
/* By its full name, the part behind the owner, or an alias; case does not matter.  An unknown name
 * is no error: config stays NULL and name receives the nearest known one, or "". */
sqz_status known_model_find(const char *word, known_model *out, sqz_error *err);

typedef struct recommendation {
    json_doc *doc;
    double usable; /* fraction of the nominal memory that is counted */
} recommendation;
sqz_status recommendation_open(recommendation *out, sqz_error *err);
void recommendation_close(recommendation *);
/* Name of the first hardware of that device kind that holds so many bytes, or NULL. */
const char *recommend_hardware(const recommendation *, const char *device, double bytes);
/* The row for a model of that size, or NULL. */
const cJSON *recommend_strategy(const recommendation *, const char *device, double parameters);
#endif
