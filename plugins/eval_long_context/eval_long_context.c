/* eval_long_context.c - how a model does as its context grows: retrieval and perplexity by length.
 *
 * Two agents.  Needle: rows of a task of kind "needle", or plain {text} rows as the text to hide
 * in. Long perplexity: rows of a task of kind "long_perplexity", or plain {text} rows by --use.
 * This file is the plugin's description; needle.c and growth.c measure. */
#include "long_context.h"
#include <string.h>

SQZ_PLUGIN_STAMP(0);

#define MIN_LENGTH(P)                                                                              \
    P(SQZ_INT, min_length, 256, 16, 1 << 20, NULL, 0,                                              \
      "shortest length in tokens; each next one "                                                  \
      "is twice as long")
#define NEEDLE_PARAMS(P)                                                                           \
    MIN_LENGTH(P)                                                                                  \
    P(SQZ_INT, depths, 5, 1, 101, NULL, 0, "places of the needle, from the beginning to the end")  \
    P(SQZ_INT, samples, 4, 1, 1000, NULL, 0, "questions of each length and depth")                 \
    P(SQZ_INT, choices, 10, 2, 32, NULL, 0, "numbers of which the true one must be the likeliest") \
    P(SQZ_INT, distractors, 0, 0, 15, NULL, 0,                                                     \
      "further boxes, whose numbers are among the choices")                                        \
    P(SQZ_INT, seed, 0, 0, 9007199254740992.0, NULL, 0, "of the text, the numbers and the places") \
    P(SQZ_BOOL, prompts, 0, 0, 1, NULL, 0, "write every prompt into the items file")
SQZ_CALL(needle_run, NEEDLE_PARAMS);

#define GROWTH_PARAMS(P)                                                                           \
    MIN_LENGTH(P)                                                                                  \
    P(SQZ_INT, windows, 16, 1, 100000, NULL, 0, "places of the text whose last tokens are scored") \
    P(SQZ_INT, scored, 128, 1, 1 << 19, NULL, 0, "tokens scored at the end of every window")
SQZ_CALL(growth_run, GROWTH_PARAMS);

static sqz_status needle_run(const sqz_host *host, void *self, void *subject, int64_t min_length,
                             int64_t depths, int64_t samples, int64_t choices, int64_t distractors,
                             int64_t seed, int32_t prompts)
{
    needle_options o = {min_length, depths, samples, choices, distractors, seed, prompts};
    (void)self;
    return needle_score(host, subject, &o);
}

static sqz_status growth_run(const sqz_host *host, void *self, void *subject, int64_t min_length,
                             int64_t windows, int64_t scored)
{
    growth_options o = {min_length, windows, scored};
    (void)self;
    return growth_score(host, subject, &o);
}

/* Plain text belongs to the perplexity of fixed windows unless --use says otherwise. */
static int32_t needle_match(const sqz_rows *rows)
{
    return rows_are(rows, "needle") ? 40 : 0;
}

static int32_t growth_match(const sqz_rows *rows)
{
    return rows_are(rows, "long_perplexity") ? 40 : 0;
}

static const sqz_eval_match needle_matcher = {sizeof needle_matcher, 0, needle_match, "acc", 1, 0};
static const sqz_eval_match growth_matcher = {sizeof growth_matcher, 0, growth_match,
                                              "perplexity",          0, 0};

static const void *needle_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &needle_matcher : NULL;
}

static const void *growth_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &growth_matcher : NULL;
}

static const char *const needle_tags[] = {"long context", "retrieval", NULL};
static const char *const growth_tags[] = {"long context", "perplexity", NULL};
static const sqz_agent agents[] = {
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.needle",
        .kind = "eval/1",
        .name = "Needle in a haystack",
        .summary = "Finds a number hidden in text of growing length, by depth.",
        .version = "1.0.0",
        .license = "Apache-2.0",
        .tags = needle_tags,
        .run = &needle_run_call,
        .extension = needle_extension,
    },
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.long_perplexity",
        .kind = "eval/1",
        .name = "Perplexity by length",
        .summary = "Perplexity of the same tokens with more and more context.",
        .version = "1.0.0",
        .license = "Apache-2.0",
        .tags = growth_tags,
        .run = &growth_run_call,
        .extension = growth_extension,
    },
};
static const sqz_plugin plugin = {
    .struct_size = sizeof(sqz_plugin),
    .abi_major = SQZ_ABI_MAJOR,
    .abi_minor = SQZ_ABI_MINOR,
    .n_agents = 2,
    .agent_stride = sizeof(sqz_agent),
    .agents = agents,
};
const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
