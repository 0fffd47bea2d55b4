/* shared.h - a model as the user named it, opened for a command that runs in this process. */
#ifndef SQZ_CORE_CLI_SHARED_H
#define SQZ_CORE_CLI_SHARED_H
#include "cli/cli.h"
#include "hub/hub.h"
#include "worker/subject.h"
#include "worker/worker.h"

/* MODEL: a folder, or an artifact of the registry (digest, prefix, tag) on top of its source
 * folder. */
typedef struct model_ref {
    char *folder;
    char digest[DIGEST_TEXT]; /* "" = the folder as it is */
    registry *registry;       /* open when digest is set */
} model_ref;
/* Refuses by name what is neither, and says what works. */
sqz_status model_ref_open(const cli *, const char *word, model_ref *out, sqz_error *err);
void model_ref_free(model_ref *);

/* Names of the hub; downloads show their progress and end at Ctrl-C.  `word` as a local folder
 * (malloc'd): itself when it is no name of the hub. */
sqz_status cli_model_folder(const char *word, hub_want want, char **folder, sqz_error *err);
/* A data set's spec with a name of the hub, or a task's name alone, replaced by its folder
 * (malloc'd).  shots: examples before each row of a task, < 0 as the task says. */
sqz_status cli_hub_dataset(const char *spec, int64_t shots, int for_calibration, char **local,
                           sqz_error *err);
/* Warns where NAME of NAME=FILE is no task but so like one that it was hardly meant as a name. */
void cli_tell_near_task(const char *spec);
/* The same for every "dataset" of [{"dataset",...}]. */
void cli_tell_near_tasks(const cJSON *evals);
/* The parts of "A,B" as an array of texts, which is the caller's; a text that is a data set of this
 * machine is one part, whatever commas are in its name. */
cJSON *cli_split_data(const char *text);
/* The same for the parts of a calibration mix, A@2,B@1. */
sqz_status cli_hub_mix(const char *mix, char **local, sqz_error *err);
/* A spec of a file that only a data plugin can read, replaced by the rows that it made in a worker
 * (malloc'd).  This and what follows for commands with READER_OPTIONS. */
sqz_status cli_readable(const cli *, const char *spec, char **local, sqz_error *err);
/* Both, for a data set that is evaluated. */
sqz_status cli_dataset(const cli *, const char *spec, int64_t shots, char **local, sqz_error *err);
/* Both, for the parts of a calibration mix, A@2,B@1. */
sqz_status cli_calibration(const cli *, const char *mix, char **local, sqz_error *err);
/* Progress, log and Ctrl-C of what reads data in a worker. */
extern const worker_hooks cli_reading;
/* The K=V texts of a list option as parameters of the agent, typed by its rows, not checked yet;
 * agent NULL: not known yet, numbers and true and false are taken as such. */
sqz_status cli_params(const cli *, const char *option, const agent_info *, cJSON *with,
                      sqz_error *err);
#define READER_OPTIONS                                                                             \
    {"reader",                                                                                     \
     CLI_TEXT,                                                                                     \
     "PLUGIN",                                                                                     \
     NULL,                                                                                         \
     0,                                                                                            \
     0,                                                                                            \
     "data plugin that reads the data (default: for files that sqz does not read itself, by the "  \
     "file's ending or first bytes)"},                                                             \
    {                                                                                              \
        "reader-param", CLI_LIST, "K=V", NULL, 0, 0,                                               \
            "a parameter of --reader; `sqz plugin info PLUGIN` lists them"                         \
    }

typedef struct in_process {
    model_ref ref;
    catalogue *catalogue;
    host *host;
    backend backend;
    subject *subject;
    model *model;
} in_process;
/* Everything a forward needs, by --compute.  Ctrl-C stops the model at its next tick. */
sqz_status in_process_open(const cli *, const char *word, int resident, in_process *out,
                           sqz_error *err);
void in_process_close(in_process *);
int in_process_tick(void *ctx, double done, const char *what);
const char *compute_word(int32_t compute);
int cli_json_stdout(const cli *);
/* A whole file, or stdin for "-"; zero-terminated, caller frees. */
sqz_status read_text(const char *file, char **data, int64_t *bytes, sqz_error *err);

/* One job in a worker of its own, with progress on the terminal: the contract that trials use, too.
 * tasks becomes part of the job (owned).  *results: array of task results, caller frees. */
typedef struct one_step {
    const char *title;   /* of the progress line */
    const char *model;   /* as the user wrote it */
    const char *compute; /* or NULL */
    cJSON *tasks;
} one_step;
typedef struct one_step_result {
    cJSON *results; /* array */
    double seconds;
    int64_t peak_rss_bytes;
} one_step_result;
sqz_status one_step_run(const cli *, const one_step *, one_step_result *out, sqz_error *err);
void one_step_free(one_step_result *);

/* The eval task of EVAL_OPTIONS; *out (owned by the caller) is an array of one task. */
sqz_status cli_eval_tasks(const cli *, cJSON **out, sqz_error *err);
#define EVAL_OPTIONS                                                                               \
    {"dataset",                                                                                    \
     CLI_LIST,                                                                                     \
     "FILE",                                                                                       \
     NULL,                                                                                         \
     0,                                                                                            \
     0,                                                                                            \
     "data set (a file, FOLDER:SPLIT, or owner/name:subset:split of the hub), or several with "    \
     "commas; recognised by its fields, NAME=FILE names the result; TASK, TASK=FILE or "           \
     "TASK=FOLDER "                                                                                \
     "for a known task or the path of a task definition"},                                         \
        {"num-fewshot",                                                                            \
         CLI_INT,                                                                                  \
         "N",                                                                                      \
         NULL,                                                                                     \
         0,                                                                                        \
         1024,                                                                                     \
         "examples before each row of a task (default: as the task says)"},                        \
        {"limit", CLI_INT, "N", "0", 0, 1e12, "only the first N rows (or windows); 0 = all"},      \
        {"window",                                                                                 \
         CLI_INT,                                                                                  \
         "N",                                                                                      \
         NULL,                                                                                     \
         2,                                                                                        \
         1e9,                                                                                      \
         "tokens per perplexity window (default: min(2048, the model's context))"},                \
        {"batch-tokens", CLI_INT, "N", "0", 0, 1e9, "rows of a forward pass; 0 = chosen"},         \
        {"document-tokens",                                                                        \
         CLI_CHOICE,                                                                               \
         "default|none|bos|eos|bos+eos",                                                           \
         "default",                                                                                \
         0,                                                                                        \
         0,                                                                                        \
         "special tokens around each document of a text set"},                                     \
        {"param",                                                                                  \
         CLI_LIST,                                                                                 \
         "K=V",                                                                                    \
         NULL,                                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         "a parameter of the evaluation; `sqz plugin info EVAL` lists them"},                      \
    {                                                                                              \
        "use", CLI_TEXT, "EVAL", NULL, 0, 0,                                                       \
            "evaluation plugin (default: by the fields of the rows)"                               \
    }

#define MEMORY_OPTION                                                                              \
    {                                                                                              \
        "max-memory", CLI_SIZE, "SIZE", NULL, 0, 0,                                                \
            "resident memory at most; a model that does not fit is read from its files block by "  \
            "block"                                                                                \
    }
#define COMPUTE_OPTION(fallback)                                                                   \
    {                                                                                              \
        "compute", CLI_CHOICE, "auto|fp32|bf16", fallback, 0, 0,                                   \
            "products in float32, or of bfloat16 inputs with float32 sums; auto = bf16 where the " \
            "CPU "                                                                                 \
            "multiplies it fast and the checkpoint is 16-bit"                                      \
    }
#define OPTIONS(table) .options = table, .n_options = sizeof table / sizeof *table
#endif
