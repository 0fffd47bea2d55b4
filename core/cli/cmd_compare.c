/* cmd_compare.c - sqz compare: two models on the same items and after the same prompts. */
#include "cli/duel.h"
#include "cli/terminal.h"
#include "compare/compare.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    EVAL_OPTIONS,
    READER_OPTIONS,
    DUEL_OPTIONS,
    {"generations", CLI_INT, "N", "4", 0, 4096, "prompts to generate from, of each data set"},
    {"output", CLI_TEXT, "FILE", NULL, 0, 0,
     "write the comparison: HTML when the name ends in .html, else Markdown"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

static void say_groups(const cli *c, const cJSON *groups)
{
    const cJSON *by, *g;
    cJSON_ArrayForEach(by, groups)
    {
        cli_say(c, "  by %s -", json_str(by, "by", ""));
        cJSON_ArrayForEach(g, json_get(by, "groups"))
            cli_say(c, "%s %s: %lld lost, %lld gained of %lld",
                    g == json_get(by, "groups")->child ? "" : ";", json_str(g, "name", ""),
                    (long long)json_int(g, "lost", 0), (long long)json_int(g, "gained", 0),
                    (long long)json_int(g, "n", 0));
        cli_say(c, "\n");
    }
}

static void say_generations(const cli *c, const cJSON *g)
{
    static const char *const kinds[] = {"loop", "incoherent", "empty"};
    if (!json_get(g, "n")) return;
    cli_say(c,
            "%sgenerations%s\n  %lld of %lld are the same; on average %.0f %% before the first "
            "difference\n",
            term_on(stdout, TERM_BOLD), term_off(stdout), (long long)json_int(g, "same", 0),
            (long long)json_int(g, "n", 0), 100 * json_num(g, "mean_share_before_difference", 0));
    for (int k = 0; k < 3; k++)
        cli_say(c, "  %-11s base %lld, model %lld\n", kinds[k],
                (long long)json_int(json_get(g, kinds[k]), "base", 0),
                (long long)json_int(json_get(g, kinds[k]), "model", 0));
}

static void say(const cli *c)
{
    const cJSON *set;
    cJSON_ArrayForEach(set, json_get(c->json, "comparisons"))
    {
        const cJSON *kl = json_get(set, "kl");
        cli_say(c, "%s%s%s\n  %s\n", term_on(stdout, TERM_BOLD), set->string, term_off(stdout),
                json_str(set, "summary", ""));
        if (kl)
            cli_say(c, "  divergence %.4g nats a token, same likeliest token in %.2f %%\n",
                    json_num(kl, "mean", 0), 100 * json_num(kl, "same_top", 0));
        if (json_num(set, "lost", 0) + json_num(set, "gained", 0) > 0)
            say_groups(c, json_get(set, "groups"));
    }
    say_generations(c, json_get(c->json, "generations"));
}

static sqz_status write_page(const cli *c, sqz_error *err)
{
    const char *path = cli_text(c, "output"), *dot = strrchr(path, '.');
    char *page = dot && !strcmp(dot, ".html") ? compare_html(c->json) : compare_markdown(c->json);
    sqz_status s = file_write(path, page, (int64_t)strlen(page), err);
    free(page);
    return s;
}

static sqz_status run(cli *c, sqz_error *err)
{
    duel d;
    duel_plan plan = {.generations = cli_int(c, "generations")};
    sqz_status s = duel_run(c, &plan, &d, err);
    if (s) return s;
    s = duel_json(c, &d, c->json, err);
    if (!s && cli_given(c, "output")) s = write_page(c, err);
    if (!s) say(c);
    duel_free(&d);
    return s;
}

const command cmd_compare = {
    .name = "compare",
    .arguments = "BASE MODEL",
    .min_args = 2,
    .max_args = 2,
    .summary = "two models side by side: is the difference real, and where is it",
    .details = "Outcomes are paired item by item: McNemar's test where items are right or wrong, a "
               "paired bootstrap of the mean for all; then the divergence of the predictions, what "
               "the changed items have in common, and greedy generations after the same prompts. "
               "Of text, outcomes are losses per window.",
    .examples = "  sqz compare examples/tiny-arith/model out/q4 --dataset "
                "examples/tiny-arith/data/arith_test.jsonl --output compare.html\n"
                "  sqz compare MODEL out/q4 --dataset hellaswag --limit 500 --prompt \"Once\"\n",
    OPTIONS(options),
    .run = run};
