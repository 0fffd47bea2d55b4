/* config.h - pipeline.json as a checked value: read, validated, overridden, every default visible.
 *
 * The keys are one table (keys.c).  From it come the JSON Schema that is shipped and used for the
 * check, the defaults, and the types of --set.  Strings stand for objects with only their main
 * field
 * ("dataset": "a.jsonl" is {"source": "a.jsonl"}).  What a step's `with` may hold is the method's
 * business and is checked against the catalogue by the coordinator.
 *
 * Paths in the file are relative to the file; paths given on the command line (--model, --set) and
 * `output` are relative to the working directory. */
#ifndef SQZ_CORE_CONFIG_H
#define SQZ_CORE_CONFIG_H
#include "error/error.h"
#include "json/json.h"

typedef struct config_dataset {
    const char *name;   /* key of its results: NAME of NAME=FILE, else the file's stem */
    const char *source; /* FILE or NAME=FILE, path resolved */
    const char *use;    /* evaluation agent, or NULL = by the fields of the rows */
    const char *reader; /* data plugin, or NULL = none is named */
    const cJSON *reader_with;
    int64_t limit;      /* rows, 0 = all */
    int64_t window;     /* perplexity window, 0 = eval.window, then the default */
} config_dataset;

/* All pointers belong to the config.  Numbers that are not set are NaN (doubles) or 0 (counts). */
typedef struct config {
    cJSON *given;  /* the file as written, comments gone (an empty object without a file) */
    cJSON *full;   /* shorthand expanded, paths resolved, overrides applied, defaults filled in */
    json_doc *doc; /* positions for messages, or NULL */
    const char *path;

    const char *model;        /* folder, or a bare name (only `plan` can use a name) */
    config_dataset *datasets; /* [n_datasets], the first is primary */
    int n_datasets;
    const char *calibration;                          /* FILE or NULL = chosen by the spec */
    int64_t calibration_samples, calibration_seq_len; /* 0 = chosen by the spec */
    int64_t calibration_tokens;                       /* 0 = by samples */
    const char *calibration_reader;                   /* data plugin, or NULL */
    const cJSON *calibration_reader_with;
    const char *const *objectives;
    int n_objectives;
    double max_accuracy_drop, max_vram, max_bytes, max_latency_s; /* bytes, seconds */
    double target_accuracy_drop, target_bytes; /* budget.until: hard targets of A8, NaN = none */
    double weights[4];                         /* alpha beta gamma delta */
    int64_t budget_trials;                     /* 0 = none */
    double budget_wall_s;                      /* NaN = none */
    int64_t patience;   /* budget.patience: rounds without hypervolume gain, 0 = chosen */
    const cJSON *steps; /* array of {"use","with","search","rules"}; may be empty */
    const char *search; /* agent name, or NULL = the best of the catalogue */
    const cJSON *search_with;
    const cJSON *proxy, *full_eval; /* eval.proxy, eval.full */
    int64_t window;                 /* eval.window */
    const char *compute;            /* "auto", "fp32", "bf16" */
    const char *const *plugin_paths, *const *plugin_allow, *const *plugin_deny;
    int n_plugin_paths, n_plugin_allow, n_plugin_deny;
    const char *format;   /* export[0].format, or NULL = the best that can hold the result */
    const cJSON *tracker; /* array */
    int64_t seed;
    int64_t threads;    /* hardware.threads, 0 = all */
    const char *output; /* NULL = runs/<id> */
} config;

/* One --set a.b[2].c=value, a command-line flag that means the same, or ~a.b (delete).  The value
 * is read by the type the key has; a JSON literal is taken where the key is an object or an array.
 */
typedef struct config_override {
    const char *text;   /* "budget.trials=20" */
    const char *origin; /* "--set", "--budget": for messages and for `plan` */
} config_override;

/* path NULL: no file, only overrides (sqz --model M --dataset D).  ERR_USAGE with file, line,
 * column and the nearest known key on any problem. */
sqz_status config_load(const char *path, const config_override *, int n_overrides, config **out,
                       sqz_error *err);
/* The same from text; base_dir (may be NULL) resolves relative paths; name is for messages. */
sqz_status config_parse(const char *text, int64_t bytes, const char *name, const char *base_dir,
                        const config_override *, int n_overrides, config **out, sqz_error *err);
void config_free(config *);
/* Where the value of a key of `full` comes from: "default", "file.json:12:7", "--set"; malloc'd. */
char *config_origin(const config *, const char *key_path);

/* "8GB", "512MiB", "1e9" -> bytes; "90", "3m", "1h30m" -> seconds.  0 when the text is neither. */
int config_parse_bytes(const char *text, double *bytes);
int config_parse_seconds(const char *text, double *seconds);

/* The draft-07 schema of pipeline.json, from the table; configs/schema/pipeline.schema.json is this
 * text (a test compares).  Caller frees. */
cJSON *config_schema(void);

/* A draft-07 subset: type, properties, patternProperties, additionalProperties, required, items,
 * minItems, enum, minimum, maximum, exclusiveMinimum, pattern-free; anyOf; local $ref.  doc may be
 * NULL.  Used for pipeline.json and, in tests, for metrics.json. */
sqz_status schema_check(const cJSON *schema, const cJSON *value, const json_doc *doc,
                        sqz_error *err);
#endif
