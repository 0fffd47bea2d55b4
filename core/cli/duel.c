/* duel.c - see duel.h. */
#include "cli/duel.h"
#include "compare/compare.h"
#include "tokenizer/tokenizer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void duel_free(duel *d)
{
    cJSON_Delete(d->evals);
    cJSON_Delete(d->results[0]);
    cJSON_Delete(d->results[1]);
    cJSON_Delete(d->scored);
    *d = (duel){0};
}

const cJSON *duel_task(const duel *d, int side, const char *task)
{
    const cJSON *t;
    cJSON_ArrayForEach(t, d->results[side]) if (!strcmp(json_str(t, "task", ""), task)) return t;
    return NULL;
}

/* ---- what each of them does ------------------------------------------------------------------ */
/* One divergence a data set: against the records that the base made (NULL: it makes them now). */
static void add_divergences(const cli *c, cJSON *task, const cJSON *evals, const cJSON *records)
{
    cJSON *list = cJSON_AddArrayToObject(task, "kl");
    const cJSON *eval;
    int k = 0;
    cJSON_ArrayForEach(eval, evals)
    {
        cJSON *kl = cJSON_CreateObject();
        cJSON_AddItemToArray(list, kl);
        cJSON_AddStringToObject(kl, "dataset", json_str(eval, "dataset", ""));
        cJSON_AddNumberToObject(kl, "tokens", (double)cli_int(c, "kl-tokens"));
        if (json_get(eval, "window"))
            cJSON_AddNumberToObject(kl, "window", json_num(eval, "window", 0));
        const char *record = json_str(cJSON_GetArrayItem(records, k++), "record", NULL);
        if (record) cJSON_AddStringToObject(kl, "record", record);
    }
}

static void add_generate(const cli *c, const duel_plan *plan, cJSON *tasks, const cJSON *evals,
                         int is_base)
{
    const char *const *prompts;
    int n = cli_list(c, "prompt", &prompts);
    if (!n && !plan->generations) return;
    cJSON *task = cJSON_CreateObject(), *list;
    const cJSON *eval;
    cJSON_AddItemToArray(tasks, task);
    cJSON_AddStringToObject(task, "task", "generate");
    list = cJSON_AddArrayToObject(task, "prompts");
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(list, cJSON_CreateString(prompts[i]));
    list = cJSON_AddArrayToObject(task, "datasets");
    cJSON_ArrayForEach(eval, evals)
        cJSON_AddItemToArray(list, cJSON_CreateString(json_str(eval, "dataset", "")));
    cJSON_AddNumberToObject(task, "count", (double)plan->generations);
    cJSON_AddNumberToObject(task, "max_new_tokens", (double)cli_int(c, "max-new-tokens"));
    cJSON_AddNumberToObject(task, "rounds", (double)(plan->rounds > 0 ? plan->rounds : 1));
    cJSON_AddNumberToObject(task, "seed", (double)cli_seed(c));
    cJSON_AddBoolToObject(task, "samples", is_base);
}

static void add_bench(cJSON *tasks)
{
    cJSON *task = cJSON_CreateObject();
    cJSON_AddItemToArray(tasks, task);
    cJSON_AddStringToObject(task, "task", "bench");
}

static sqz_status run_side(const cli *c, const duel_plan *plan, int side, duel *d, sqz_error *err)
{
    one_step o = {.title = side ? "model" : "base",
                  .model = c->args[side],
                  .compute = cli_text(c, "compute")};
    one_step_result r = {0};
    sqz_status s = cli_eval_tasks(c, &o.tasks, err);
    if (s) return s;
    cJSON *eval = cJSON_GetArrayItem(o.tasks, 0), *evals = json_get(eval, "evals");
    const cJSON *records = side ? json_get(duel_task(d, 0, "eval"), "kl") : NULL;
    if (!side) {
        d->evals = cJSON_Duplicate(evals, 1);
        cli_tell_near_tasks(evals);
    }
    if (cli_int(c, "kl-tokens")) add_divergences(c, eval, evals, records);
    add_generate(c, plan, o.tasks, evals, !side);
    if (plan->bench) add_bench(o.tasks);
    s = one_step_run(c, &o, &r, err);
    if (s)
        err_prefix(err, "%s %s", side ? "model" : "base", c->args[side]);
    else
        d->results[side] = cJSON_Duplicate(r.results, 1);
    one_step_free(&r);
    return s;
}

/* The model's generations, read by the base. */
static sqz_status score(const cli *c, duel *d, sqz_error *err)
{
    const cJSON *written = json_get(duel_task(d, 1, "generate"), "generations"), *g;
    if (!cJSON_GetArraySize(written)) return SQZ_OK;
    cJSON *task = cJSON_CreateObject(), *list;
    one_step o = {.title = "base reads",
                  .model = c->args[0],
                  .compute = cli_text(c, "compute"),
                  .tasks = cJSON_CreateArray()};
    one_step_result r = {0};
    cJSON_AddItemToArray(o.tasks, task);
    cJSON_AddStringToObject(task, "task", "generate");
    cJSON_AddNumberToObject(task, "max_new_tokens", 1);
    list = cJSON_AddArrayToObject(task, "score");
    cJSON_ArrayForEach(g, written)
    {
        cJSON *text = cJSON_CreateObject();
        cJSON_AddItemToArray(list, text);
        cJSON_AddItemToObject(text, "prompt_ids", cJSON_Duplicate(json_get(g, "prompt_ids"), 1));
        cJSON_AddItemToObject(text, "ids", cJSON_Duplicate(json_get(g, "ids"), 1));
    }
    sqz_status s = one_step_run(c, &o, &r, err);
    if (!s) d->scored = cJSON_Duplicate(json_get(r.results->child, "scored"), 1);
    one_step_free(&r);
    return s;
}

static sqz_status probe_ids(const cli *c, const char *word, int32_t **ids, int64_t *n,
                            sqz_error *err)
{
    static const char probe[] =
        "The quick brown fox's 12345.67 wouldn't jump over 98 lazy DOGS;  quietly,\n\n\tit said: "
        "\"re-tokenization\" (x = [y_1, {z}]) costs $5 \xe2\x80\x94 caf\xc3\xa9, "
        "\xd0\xbc\xd0\xb8\xd1\x80, \xe6\x9d\xb1\xe4\xba\xac, \xf0\x9f\x99\x82.";
    model_ref ref = {0};
    tokenizer *tok = NULL;
    sqz_status s = model_ref_open(c, word, &ref, err);
    if (!s) s = tokenizer_open(ref.folder, &tok, err);
    if (!s) s = tokenizer_encode(tok, probe, (int64_t)strlen(probe), 0, ids, n, err);
    tokenizer_free(tok);
    model_ref_free(&ref);
    return s;
}

sqz_status duel_same_tokens(const cli *c, const char *base, const char *model, int *same,
                            sqz_error *err)
{
    int32_t *a = NULL, *b = NULL;
    int64_t n = 0, m = 0;
    sqz_status s = probe_ids(c, base, &a, &n, err);
    if (s) err_prefix(err, "base %s", base);
    if (!s && (s = probe_ids(c, model, &b, &m, err))) err_prefix(err, "model %s", model);
    *same = !s && n == m && memcmp(a, b, (size_t)n * sizeof *a) == 0;
    free(a);
    free(b);
    return s;
}

/* Predictions and generations are tokens: of other tokens they would be compared as nonsense. */
static sqz_status check_tokens(const cli *c, const duel_plan *plan, duel *d, sqz_error *err)
{
    const char *const *prompts;
    int asked = cli_int(c, "kl-tokens") || plan->generations || cli_list(c, "prompt", &prompts);
    sqz_status s = duel_same_tokens(c, c->args[0], c->args[1], &d->same_tokens, err);
    if (s || d->same_tokens || !asked) return s;
    return err_set(err, ERR_USAGE,
                   "%s and %s split text into different tokens, so that neither their predictions "
                   "nor their generations compare; right and wrong answers do: give --kl-tokens 0 "
                   "--generations 0 and no --prompt",
                   c->args[0], c->args[1]);
}

sqz_status duel_run(const cli *c, const duel_plan *plan, duel *out, sqz_error *err)
{
    *out = (duel){0};
    sqz_status s = check_tokens(c, plan, out, err);
    if (!s) s = run_side(c, plan, 0, out, err);
    if (!s) s = run_side(c, plan, 1, out, err);
    if (!s) s = score(c, out, err);
    if (s) duel_free(out);
    return s;
}

/* ---- what came of it ------------------------------------------------------------------------- */
const cJSON *duel_divergence(const duel *d, const char *name)
{
    const cJSON *eval, *kl = json_get(duel_task(d, 1, "eval"), "kl");
    int k = 0;
    cJSON_ArrayForEach(eval, d->evals)
    {
        if (!strcmp(json_str(eval, "name", ""), name)) return cJSON_GetArrayItem(kl, k);
        k++;
    }
    return NULL;
}

/* The spec behind a result's name; members of a group have their own. */
static sqz_status compare_set(const cli *c, const duel *d, const char *name, const char *base,
                              const char *model, cJSON *into, sqz_error *err)
{
    const cJSON *eval, *of = NULL;
    cJSON_ArrayForEach(eval, d->evals) if (!strcmp(json_str(eval, "name", ""), name)) of = eval;
    compare_input in = {.name = name,
                        .dataset = of ? json_str(of, "dataset", "") : NULL,
                        .base_items = base,
                        .model_items = model,
                        .shots = json_int(of, "shots", -1),
                        .draws = cli_int(c, "draws"),
                        .difference = cli_real(c, "difference"),
                        .show = cli_int(c, "show"),
                        .seed = cli_seed(c)};
    cJSON *set = cJSON_AddObjectToObject(into, name);
    const cJSON *kl = duel_divergence(d, name);
    sqz_status s = compare_items(&in, set, err);
    if (!s && !d->same_tokens && !json_get(set, "lost"))
        s = err_set(
            err, SQZ_E_UNSUPPORTED,
            "%s: the models split text into different tokens, and losses of other tokens do "
            "not compare; `sqz eval` with --dataset rolling_text=FILE gives each model's "
            "perplexity per byte",
            name);
    if (!s && kl) cJSON_AddItemToObject(set, "kl", cJSON_Duplicate(kl, 1));
    return s;
}

sqz_status duel_json(const cli *c, const duel *d, cJSON *j, sqz_error *err)
{
    const cJSON *base = duel_task(d, 0, "eval"), *model = duel_task(d, 1, "eval"), *item;
    const cJSON *written = duel_task(d, 1, "generate");
    sqz_status s = SQZ_OK;
    cJSON_AddStringToObject(j, "base", c->args[0]);
    cJSON_AddStringToObject(j, "model", c->args[1]);
    cJSON_AddItemToObject(j, "base_results", cJSON_Duplicate(json_get(base, "results"), 1));
    cJSON_AddItemToObject(j, "results", cJSON_Duplicate(json_get(model, "results"), 1));
    cJSON *into = cJSON_AddObjectToObject(j, "comparisons");
    cJSON_ArrayForEach(item, json_get(base, "items"))
    {
        const char *other = json_str(json_get(model, "items"), item->string, NULL);
        if (!s && other && cJSON_IsString(item))
            s = compare_set(c, d, item->string, item->valuestring, other, into, err);
    }
    if (written && !s) {
        const cJSON *own = duel_task(d, 0, "generate");
        cJSON_AddItemToObject(j, "generations",
                              compare_generations(json_get(own, "generations"),
                                                  json_get(written, "generations"), d->scored,
                                                  json_get(own, "samples")));
    }
    return s;
}
