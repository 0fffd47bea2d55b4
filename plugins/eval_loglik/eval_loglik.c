/* eval_loglik.c - evaluations by log-likelihood: multiple choice, continuations, whole texts.
 *
 * Requests of tasks (fields "request.*", docs/tasks.md), and plain rows without a task.  Multiple
 * choice, rows {ctx|question|query, endings|choices, label|answer|gold}: every choice is scored as
 * " " + choice after the context; acc picks the largest sum of log-probabilities, acc_norm the
 * largest sum per character of the choice.  Partial scoring, rows {context_options, continuation,
 * gold}: the same " " + continuation after each option.  Continuation, rows {context,
 * continuation}: acc = the greedy continuation equals it; perplexity of the continuations.  This
 * file is the plugin's description; each kind has a file, and requests.c what they share. */
#include "requests.h"
#include <string.h>

SQZ_PLUGIN_STAMP(0);

#define ROWS_PARAMS(P) P(SQZ_INT, batch, 256, 1, 4096, NULL, 0, "rows scored at once")
SQZ_CALL(choice_run, ROWS_PARAMS);
SQZ_CALL(continuation_run, ROWS_PARAMS);
#define ROLLING_PARAMS(P) P(SQZ_INT, batch, 64, 1, 4096, NULL, 0, "windows scored at once")
SQZ_CALL(rolling_run, ROLLING_PARAMS);

static sqz_status choice_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    (void)self;
    return choice_score(host, subject, batch);
}

static sqz_status continuation_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    (void)self;
    return continuation_score(host, subject, batch);
}

static sqz_status rolling_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    (void)self;
    return rolling_score(host, subject, batch);
}

static const sqz_eval_match choice_matcher = {sizeof choice_matcher, 0, choice_match, "acc", 1, 0};
static const sqz_eval_match continuation_matcher = {
    sizeof continuation_matcher, 0, continuation_match, "acc", 1, 0};

static const sqz_eval_match rolling_matcher = {sizeof rolling_matcher, 0, rolling_match,
                                               "bits_per_byte",        0, 0};

static const void *choice_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &choice_matcher : NULL;
}

static const void *continuation_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &continuation_matcher : NULL;
}

static const void *rolling_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &rolling_matcher : NULL;
}

static const char *const tags[] = {"log-likelihood", "accuracy", NULL};
static const char *const rolling_tags[] = {"log-likelihood", "perplexity", NULL};
static const sqz_agent agents[] = {
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.multiple_choice",
        .kind = "eval/1",
        .name = "Multiple choice",
        .summary = "Picks the choice with the largest log-likelihood.",
        .version = "1.1.0",
        .license = "Apache-2.0",
        .tags = tags,
        .run = &choice_run_call,
        .extension = choice_extension,
    },
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.continuation",
        .kind = "eval/1",
        .name = "Continuation",
        .summary = "Log-likelihood and greedy match of given continuations.",
        .version = "1.1.0",
        .license = "Apache-2.0",
        .tags = tags,
        .run = &continuation_run_call,
        .extension = continuation_extension,
    },
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.rolling",
        .kind = "eval/1",
        .name = "Rolling log-likelihood",
        .summary = "Perplexity of whole texts per word and per byte.",
        .version = "1.1.0",
        .license = "Apache-2.0",
        .tags = rolling_tags,
        .run = &rolling_run_call,
        .extension = rolling_extension,
    },
};
static const sqz_plugin plugin = {
    .struct_size = sizeof(sqz_plugin),
    .abi_major = SQZ_ABI_MAJOR,
    .abi_minor = SQZ_ABI_MINOR,
    .n_agents = 3,
    .agent_stride = sizeof(sqz_agent),
    .agents = agents,
};
const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
