/* cli.h - what the subcommands share: the option table, the parsed command line, the way results,
 * messages and failures leave the program.
 *
 * A subcommand is one row of the table in commands.c: help and parsing both come from its options.
 * It returns a status; main.c turns the status into the documented exit code.  Only this folder
 * touches signals, the terminal and the process's exit. */
#ifndef SQZ_CORE_CLI_H
#define SQZ_CORE_CLI_H
#include "error/error.h"
#include "host/host.h"
#include "json/json.h"
#include "registry.h"

/* ---- options --------------------------------------------------------------------------------- */
typedef enum cli_type {
    CLI_FLAG,
    CLI_INT,
    CLI_REAL,
    CLI_TEXT,
    CLI_LIST,    /* may be given several times */
    CLI_SIZE,    /* "8GB", "512MiB", "1000000": bytes */
    CLI_SECONDS, /* "2h", "90s", "1h30m" */
    CLI_CHOICE   /* one of the words in `value`, "a|b|c" */
} cli_type;

typedef struct cli_option {
    const char *name; /* without the dashes */
    cli_type type;
    const char *value;    /* shown in the help; for CLI_CHOICE the legal words */
    const char *fallback; /* text of the default; NULL = none */
    double lo, hi;        /* of a number, when lo < hi */
    const char *help;
} cli_option;

typedef struct cli cli;
typedef struct command {
    const char *name;      /* "eval", "plugin list" */
    const char *arguments; /* "MODEL" */
    int min_args, max_args;
    const char *summary;  /* one line */
    const char *details;  /* a paragraph or NULL */
    const char *examples; /* lines */
    const cli_option *options;
    int n_options;
    sqz_status (*run)(cli *, sqz_error *err);
    int hidden; /* not listed: called by sqz itself */
} command;

struct cli {
    const command *command;
    const char **args;
    int n_args;
    const char **values; /* [n_options + common] last text given, or NULL */
    const char ***lists; /* [n_options + common] of CLI_LIST */
    int *n_lists;
    cJSON *json;   /* the object for --json; a command fills it */
    int exit_code; /* of a command that succeeded with another code than 0, e.g. 5 */
};

/* Parses argv (after the command's words) by the command's table and the common options. */
sqz_status cli_parse(const command *, int argc, char **argv, cli *out, sqz_error *err);
void cli_free(cli *);
/* Values by name; the fallback of the table when not given.  Asking for a name that is not in the
 * table is a programming error and stops the program. */
int cli_given(const cli *, const char *name);
int cli_flag(const cli *, const char *name);
int64_t cli_int(const cli *, const char *name); /* also SIZE */
double cli_real(const cli *, const char *name); /* also SECONDS */
const char *cli_text(const cli *, const char *name);
int cli_list(const cli *, const char *name, const char *const **items);
char *cli_help(const command *); /* malloc'd */
extern const cli_option cli_common[];
extern const int cli_n_common;

/* "8GB", "1.5GiB", "700MB", "123": decimal units are powers of 1000, GiB and friends of 1024. */
sqz_status parse_size(const char *text, int64_t *bytes, sqz_error *err);
/* "2h", "90s", "1h30m", "500ms", "1d". */
sqz_status parse_seconds(const char *text, double *seconds, sqz_error *err);
/* Human forms: "3.1 MB", "1m 20s" (two units), "1.23e-05 s" never. */
void format_size(int64_t bytes, char out[32]);
void format_seconds(double seconds, char out[32]);

/* ---- commands -------------------------------------------------------------------------------- */
extern const command *const cli_commands[];
extern const int cli_n_commands;
/* The words that exist in the design and are not built yet; NULL when the word is not one of them.
 */
const char *command_not_built(const char *word);
int cli_main(int argc, char **argv);

extern const command cmd_run, cmd_sync, cmd_plan, cmd_quantize, cmd_eval, cmd_generate, cmd_logits,
    cmd_tokenize, cmd_bench, cmd_estimate, cmd_plugin_list, cmd_plugin_info, cmd_registry_ls,
    cmd_registry_show, cmd_registry_tag, cmd_registry_verify, cmd_registry_gc, cmd_report,
    cmd_schema, cmd_worker, cmd_help, cmd_version, cmd_plugin_new, cmd_plugin_check;

extern const command cmd_data_stats, cmd_data_show;
extern const command cmd_validate, cmd_compare, cmd_completions, cmd_man, cmd_explain, cmd_top, cmd_doctor,
    cmd_plugin_why;

typedef struct cli_exit_code {
    int code;
    const char *meaning;
} cli_exit_code;
extern const cli_exit_code cli_exit_codes[];
extern const int cli_n_exit_codes;

/* ---- shared by commands ---------------------------------------------------------------------- */
/* Number of threads asked for (--threads), 0 = all. */
int cli_threads(const cli *);
uint64_t cli_seed(const cli *);
/* stdout for human results: no output with --json -. */
__attribute__((format(printf, 2, 3))) void cli_say(const cli *, const char *fmt, ...);
sqz_status cli_catalogue(const cli *, catalogue **out, sqz_error *err);
sqz_status cli_registry(const cli *, registry **out, sqz_error *err);
char *cli_registry_dir(const cli *); /* malloc'd */
/* Refuses by name what is no local folder, artifact digest or tag, and says what works. */
sqz_status cli_check_model(const char *model, int allow_artifact, sqz_error *err);
/* A malloc'd absolute form of a path that exists; otherwise a copy. */
char *cli_absolute(const char *path);
#endif
