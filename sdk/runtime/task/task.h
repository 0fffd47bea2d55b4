/* task.h - evaluation tasks as data: what is asked of a model, row by row, and how it is measured.
 *
 * A definition is a JSON object with the keys of lm-evaluation-harness (docs/tasks.md): prompt,
 * choices, target, few-shot examples, filters, metrics.  The known tasks are such files in
 * configs/tasks, built into the program; users give their own by path.  A group (mmlu) stands for
 * many tasks of one form.  Rendering gives rows with the fields "request.*" that the evaluations
 * understand:
 *     request.context, or the list request.contexts      the prompt, or one per choice
 *     request.continuations                              list, with the delimiter
 *     request.choices, request.gold                      texts whose length acc_norm divides by
 *     request.continuation                               of a loglikelihood task
 *     request.text, request.words, request.bytes         of a rolling task
 *     request.prompt, request.until, request.max_new_tokens, request.target   of a generation
 *     request.kind                                       "needle" or "long_perplexity"
 *     request.metrics, request.document                  metric names; the row with its answer
 * Left out: Python functions in definitions, several targets of one row, chat templates. */
#ifndef SQZ_RUNTIME_TASK_TASK_H
#define SQZ_RUNTIME_TASK_TASK_H
#include "data/rows.h"
#include "error/error.h"
#include "task/answers.h"
#include "task/template.h"
#include <cjson/cJSON.h>

struct task;
typedef enum task_output {
    TASK_CHOICE,   /* "multiple_choice"       */
    TASK_LOGLIK,   /* "loglikelihood"         */
    TASK_ROLLING,  /* "loglikelihood_rolling" */
    TASK_GENERATE, /* "generate_until"       */
    TASK_NEEDLE,   /* "needle": text to hide something in, or none       */
    TASK_GROWTH    /* "long_perplexity": running text at growing lengths */
} task_output;

enum { TASK_OUTPUTS = 6 };
extern const char *const task_output_names[TASK_OUTPUTS];
/* Is what is asked of the model the rows' plain text? */
int task_is_text(const struct task *);

typedef struct text_rule {
    text_template *text; /* NULL: not given */
    text_steps *steps;
} text_rule;

typedef struct list_rule {
    char *field; /* a list field of the row, or NULL: items */
    text_rule *items;
    int n; /* items; 0 with field NULL: not given */
    text_steps *steps;
} list_rule;

typedef struct text_list {
    char **at;
    int n;
} text_list;

/* A list field that rows may give as separate columns. */
typedef struct column_list {
    char *name;
    text_list columns;
} column_list;

typedef struct task task;
struct task {
    char *name;
    char *where;  /* the file, for messages */
    char *member; /* of a group, or NULL */
    task_output output;
    char *dataset, *config;                    /* hub repository and configuration, or NULL */
    char *revision;                            /* of the repository, or NULL: main */
    cJSON *patterns;                           /* split to the pattern of its files, or NULL */
    char *train, *validation, *test, *fewshot; /* names of splits, or NULL */
    text_rule prompt, target, description, counted;
    list_rule contexts, choices;
    int indexed; /* the target is the index of gold_value in gold_list */
    text_rule gold_value;
    list_rule gold_list;
    char *target_delimiter, *fewshot_delimiter;
    int64_t shots;
    int first_n; /* shots are the first rows, not drawn ones */
    text_list metrics, until;
    int64_t max_new;
    answers *judge; /* of a generation */
    column_list *columns;
    int n_columns;
    cJSON *files;    /* "data_files": split to path, or NULL */
    char digest[72]; /* of the definition */
};

void task_free(task *);
/* The split that is measured, and the one that examples come from. */
const char *task_eval_split(const task *);
const char *task_shot_split(const task *);

/* The pattern (malloc'd; as of fnmatch) of the split's files in the repository; *out NULL: the
 * usual names are enough. */
sqz_status task_pattern(const task *, const char *split, char **out, sqz_error *err);

/* One definition; member replaces {{member}} in names. */
sqz_status task_parse(const cJSON *definition, const char *where, const char *member, task **out,
                      sqz_error *err);

/* ---- known.c: by name ---- */
/* The k-th known task or group with its line of help, or NULL after the last. */
const char *task_known(int k, const char **about);
/* The known task within `most` edits of the word, or NULL. */
const char *task_near(const char *word, int most);
/* Is `name` a known task or group, or the path of a definition?  PATH#MEMBER is a group's task. */
sqz_status task_exists(const char *name, int *known, sqz_error *err);
sqz_status task_open(const char *name, task **out, sqz_error *err);

/* The tasks behind a name: one, or the members of a group with the groups they belong to. */
typedef struct task_group {
    char *name;
    int *members, n; /* indices of tasks */
} task_group;
typedef struct task_set {
    text_list tasks, names; /* what task_open takes; what results are called */
    task_group *groups;     /* the whole last */
    int n_groups;
} task_set;
sqz_status task_set_open(const char *name, task_set *out, sqz_error *err);
void task_set_free(task_set *);

/* Rows of `docs` as requests; shots are rows of `pool` (NULL with no shots; may be docs).  docs
 * NULL: one row, of a task that needs no data. */
sqz_status task_render(const task *, const row_store *docs, const row_store *pool, row_store **out,
                       sqz_error *err);

/* ---- source.c: the data set of a task ---- */
/* "TASK=FILE" or "TASK=FOLDER" names a task rather than a file of its own.  Fails without memory
 * only. */
sqz_status task_spec(const char *spec, int *is, sqz_error *err);
/* Refuses rows that are not divided by the members of a group: each would be measured on all. */
sqz_status task_group_rows(const char *group, const char *member, const char *given,
                           sqz_error *err);
struct dataset;
struct dataset_options;
sqz_status task_dataset(const char *spec, const struct dataset_options *, struct dataset **out,
                        sqz_error *err);
#endif
