/* duel.h - two models put through the same jobs, for `sqz compare` and `sqz validate`: evaluations,
 * divergence, generations, speed.  One worker at a time: memory is that of one model. */
#ifndef SQZ_CORE_CLI_DUEL_H
#define SQZ_CORE_CLI_DUEL_H
#include "cli/shared.h"

#define DUEL_OPTIONS                                                                               \
    {"draws", CLI_INT, "N", "2000", 100, 1e6, "resamples of the bootstrap"},                       \
        {"difference",                                                                             \
         CLI_REAL,                                                                                 \
         "D",                                                                                      \
         "0",                                                                                      \
         0,                                                                                        \
         100,                                                                                      \
         "say how many items would show a difference of D (0.01: a point of accuracy; of text: "   \
         "mean loss)"},                                                                            \
        {"show", CLI_INT, "N", "20", 0, 1e6, "items of each kind of change in the report"},        \
        {"kl-tokens",                                                                              \
         CLI_INT,                                                                                  \
         "N",                                                                                      \
         "8192",                                                                                   \
         0,                                                                                        \
         1e9,                                                                                      \
         "tokens of each data set for the divergence and the top-1 flips; 0 = not measured"},      \
        {"prompt",                                                                                 \
         CLI_LIST,                                                                                 \
         "TEXT",                                                                                   \
         NULL,                                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         "a prompt to generate from; may be given several times"},                                 \
    {                                                                                              \
        "max-new-tokens", CLI_INT, "N", "64", 1, 1e6, "tokens of each generation, at most"         \
    }

typedef struct duel_plan {
    int64_t generations; /* prompts from each data set; 0 and no --prompt: nothing is generated */
    int64_t rounds;      /* times that everything is generated */
    int bench;           /* measure speed */
} duel_plan;

typedef struct duel {
    cJSON *evals;      /* what was evaluated: [{"name","dataset",...}] */
    cJSON *results[2]; /* lists of task results, of the base and of the model */
    cJSON *scored;     /* what the base finds of the model's generations, or NULL */
    int same_tokens;
} duel;
/* Do the two models (as the user named them) split text into the same tokens?  Told by a text in
 * which tokenizers part. */
sqz_status duel_same_tokens(const cli *, const char *base, const char *model, int *same,
                            sqz_error *err);
/* Everything that the options and the plan ask for.  Of models with different tokens nothing can be
 * asked but right and wrong answers. */
sqz_status duel_run(const cli *, const duel_plan *, duel *out, sqz_error *err);
void duel_free(duel *);
/* The result of the model's (side 1) or base's (0) task "eval", "generate", "bench"; or NULL. */
const cJSON *duel_task(const duel *, int side, const char *task);
/* The key of an evaluation's divergence in the base's and the model's "kl", by its name; or NULL.
 */
const cJSON *duel_divergence(const duel *, const char *name);
/* Fills "base", "model", "base_results", "results", "comparisons", "generations" of j. */
sqz_status duel_json(const cli *, const duel *, cJSON *j, sqz_error *err);
#endif
