/* cmd_eval.c - sqz eval: a model on data sets, in a worker. */
#include "cli/duel.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "task/task.h"
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    EVAL_OPTIONS,
    READER_OPTIONS,
    {"items", CLI_TEXT, "FILE", NULL, 0, 0,
     "write the outcome of every item, one JSON object a line (default with --json FILE: "
     "FILE.items.jsonl)"},
    {"against", CLI_TEXT, "BASE", NULL, 0, 0,
     "another model, or the --items FILE of its evaluation: stop as soon as it is certain whether "
     "this model is worse by more than --margin"},
    {"margin", CLI_REAL, "D", "0.02", 0, 0.99,
     "accuracy that may be lost, or relative increase of perplexity"},
    {"alpha", CLI_REAL, "A", "0.05", 1e-9, 0.5, "probability of a wrong decision, at most"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

/* The key of a data set in the results: the task's name, NAME of NAME=FILE, or the file's stem. */
static char *stem(const char *spec)
{
    const char *equals = strchr(spec, '=');
    task_set set;
    char *name = path_format("%.*s", equals ? (int)(equals - spec) : (int)strlen(spec), spec);
    int is_task; /* no memory: told when the data set is opened */
    if (!task_spec(spec, &is_task, NULL) && is_task && !task_set_open(name, &set, NULL)) {
        free(name);
        name =
            path_format("%s", set.n_groups ? set.groups[set.n_groups - 1].name : set.names.at[0]);
        task_set_free(&set);
        return name;
    }
    free(name);
    if (equals && !memchr(spec, '/', (size_t)(equals - spec)))
        return path_format("%.*s", (int)(equals - spec), spec);
    const char *slash = strrchr(spec, '/'), *base = slash ? slash + 1 : spec;
    const char *dot = strrchr(base, '.');
    return path_format("%.*s", (int)(dot && dot > base ? dot - base : (long)strlen(base)), base);
}

static sqz_status add_eval(const cli *c, cJSON *evals, const char *spec, sqz_error *err)
{
    char *name, *local = NULL;
    const cJSON *other;
    int64_t shots = cli_given(c, "num-fewshot") ? cli_int(c, "num-fewshot") : -1;
    sqz_status s = cli_dataset(c, spec, shots, &local, err);
    if (s) return s;
    name = stem(local);
    cJSON_ArrayForEach(other, evals) if (strcmp(json_str(other, "name", ""), name) == 0) s =
        err_set(err, ERR_USAGE, "two data sets are called \"%s\"; name one: NAME=FILE", name);
    if (!*spec) s = err_set(err, ERR_USAGE, "--dataset holds an empty name");
    if (!s) {
        cJSON *e = cJSON_CreateObject();
        cJSON_AddItemToArray(evals, e);
        cJSON_AddStringToObject(e, "name", name);
        cJSON_AddStringToObject(e, "dataset", local);
        if (cli_int(c, "limit")) cJSON_AddNumberToObject(e, "limit", (double)cli_int(c, "limit"));
        if (cli_given(c, "window"))
            cJSON_AddNumberToObject(e, "window", (double)cli_int(c, "window"));
        if (cli_given(c, "num-fewshot"))
            cJSON_AddNumberToObject(e, "shots", (double)cli_int(c, "num-fewshot"));
        if (cli_given(c, "use")) cJSON_AddStringToObject(e, "use", cli_text(c, "use"));
        cJSON_AddStringToObject(e, "document_tokens", cli_text(c, "document-tokens"));
        if (cli_given(c, "param")) /* of which evaluation, the rows will tell */
            s = cli_params(c, "param", NULL, cJSON_AddObjectToObject(e, "with"), err);
    }
    free(name);
    free(local);
    return s;
}

sqz_status cli_eval_tasks(const cli *c, cJSON **out, sqz_error *err)
{
    const char *const *items;
    int n = cli_list(c, "dataset", &items);
    if (!n) return err_set(err, ERR_USAGE, "--dataset FILE is needed");
    cJSON *tasks = cJSON_CreateArray(), *task = cJSON_CreateObject();
    cJSON_AddItemToArray(tasks, task);
    cJSON_AddStringToObject(task, "task", "eval");
    if (cli_int(c, "batch-tokens"))
        cJSON_AddNumberToObject(task, "batch_tokens", (double)cli_int(c, "batch-tokens"));
    cJSON *evals = cJSON_AddArrayToObject(task, "evals");
    sqz_status s = SQZ_OK;
    for (int i = 0; i < n && !s; i++) {
        cJSON *parts = cli_split_data(items[i]), *part;
        cJSON_ArrayForEach(part, parts) if (!s) s = add_eval(c, evals, part->valuestring, err);
        cJSON_Delete(parts);
    }
    if (!s && !cJSON_GetArraySize(evals)) s = err_set(err, ERR_USAGE, "--dataset is empty");
    if (s)
        cJSON_Delete(tasks);
    else
        *out = tasks;
    return s;
}

/* The lines of one data set's outcomes, each with the data set's name in front. */
static sqz_status append_items(FILE *out, const char *name, const char *path, sqz_error *err)
{
    char *text = NULL, *quoted, *save = NULL;
    int64_t bytes = 0;
    sqz_status s = file_read(path, (int64_t)1 << 32, &text, &bytes, err);
    if (s) return s;
    cJSON *string = cJSON_CreateString(name);
    quoted = json_text(string, 0);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (line[0] == '{' && line[1] != '}')
            fprintf(out, "{\"dataset\":%s,%s\n", quoted ? quoted : "\"\"", line + 1);
    free(quoted);
    cJSON_Delete(string);
    free(text);
    return SQZ_OK;
}

/* Without a file of the user's the text becomes an object of the registry. */
static sqz_status keep_items(const cli *c, const char *text, int64_t bytes, char **path,
                             sqz_error *err)
{
    registry *r = NULL;
    char digest[DIGEST_TEXT];
    sqz_status s = cli_registry(c, &r, err);
    if (!s) s = object_put(r, text, bytes, digest, err);
    if (!s) *path = object_path(r, digest);
    if (r) registry_close(r);
    return s;
}

/* Per-item outcomes go to one JSON-lines file of their own: they are as many as the rows.  The
 * worker left one object of the registry a data set. */
static sqz_status write_items(cli *c, const cJSON *items, sqz_error *err)
{
    const char *json = cli_text(c, "json"), *given = cli_text(c, "items");
    cJSON_AddItemToObject(c->json, "item_files", cJSON_Duplicate(items, 1));
    if (!given && !json) return SQZ_OK;
    int to_file = given || strcmp(json, "-") != 0;
    if (!to_file && cJSON_GetArraySize(items) == 1 && cJSON_IsString(items->child)) {
        cJSON_AddStringToObject(c->json, "items", items->child->valuestring);
        return SQZ_OK;
    }
    char *path = given     ? path_format("%s", given)
                 : to_file ? path_format("%s.items.jsonl", json)
                           : NULL;
    char *text = NULL;
    size_t size = 0;
    const cJSON *item;
    sqz_status s = SQZ_OK;
    FILE *out = open_memstream(&text, &size);
    if (!out) s = err_set(err, SQZ_E_NOMEM, "no memory for the items");
    cJSON_ArrayForEach(item, items) if (!s && cJSON_IsString(item)) s =
        append_items(out, item->string, item->valuestring, err);
    int lost = out && ferror(out);
    if (out) lost |= fclose(out) != 0;
    if (lost && !s) s = err_set(err, SQZ_E_NOMEM, "no memory for the items");
    if (!s)
        s = to_file ? file_write(path, text, (int64_t)size, err)
                    : keep_items(c, text, (int64_t)size, &path, err);
    if (!s) cJSON_AddStringToObject(c->json, "items", path);
    free(text);
    free(path);
    return s;
}

/* ---- until a decision is certain ------------------------------------------------------------- */
static int is_items_file(const char *path)
{
    const char *dot = strrchr(path, '.');
    return path_exists(path) && !path_is_dir(path) && dot && !strcmp(dot, ".jsonl");
}

/* The other model's outcomes by data set: files of the registry. */
static sqz_status evaluate_base(const cli *c, const char *base, cJSON **items, sqz_error *err)
{
    one_step o = {.title = "base", .model = base, .compute = cli_text(c, "compute")};
    one_step_result r = {0};
    sqz_status s = cli_eval_tasks(c, &o.tasks, err);
    if (!s) s = one_step_run(c, &o, &r, err);
    if (!s)
        *items = cJSON_DetachItemFromObjectCaseSensitive(cJSON_GetArrayItem(r.results, 0), "items");
    one_step_free(&r);
    return s;
}

/* Adds "early" to every evaluation of the tasks. */
static sqz_status compare_with(const cli *c, cJSON *tasks, sqz_error *err)
{
    const char *against = cli_text(c, "against");
    cJSON *items = NULL, *eval;
    if (!against) return SQZ_OK;
    int is_file = is_items_file(against);
    int same = 1; /* the tokens of both; of a file it is not known */
    sqz_status s = is_file ? SQZ_OK : duel_same_tokens(c, against, c->args[0], &same, err);
    if (!s && !is_file) s = evaluate_base(c, against, &items, err);
    char *file = is_file ? cli_absolute(against) : NULL;
    cJSON_ArrayForEach(eval, json_get(tasks->child, "evals"))
    {
        const char *of = file ? file : json_str(items, json_str(eval, "name", ""), NULL);
        if (!s && !of)
            s = err_set(err, SQZ_E_UNSUPPORTED,
                        "%s: a group of tasks has no outcomes of its own to compare; name its "
                        "members, or leave --against out",
                        json_str(eval, "name", ""));
        cJSON *early = cJSON_AddObjectToObject(eval, "early");
        cJSON_AddStringToObject(early, "against", of ? of : "");
        if (!same) cJSON_AddTrueToObject(early, "other_tokens");
        cJSON_AddNumberToObject(early, "margin", cli_real(c, "margin"));
        cJSON_AddNumberToObject(early, "alpha", cli_real(c, "alpha"));
        cJSON_AddNumberToObject(early, "seed", (double)cli_seed(c));
    }
    free(file);
    cJSON_Delete(items);
    return s;
}

static void say_decision(const cli *c, const cJSON *task)
{
    const cJSON *q = json_get(task, "sequential");
    const char *decision = json_str(q, "decision", "open");
    if (!q) return;
    cli_say(c, "  %s after %lld of %lld items: ",
            json_bool(q, "stopped", 0) ? "stopped" : "evaluated to the end",
            (long long)json_int(q, "items", 0), (long long)json_int(q, "of", 0));
    if (!strcmp(decision, "open"))
        cli_say(c, "not certain whether it is worse by more than %g\n", json_num(q, "margin", 0));
    else
        cli_say(c, "%sworse by more than %g (wrong with probability %g%s)\n",
                strcmp(decision, "worse") ? "not " : "", json_num(q, "margin", 0),
                json_num(q, "alpha", 0),
                strcmp(json_str(q, "guarantee", ""), "many items")
                    ? " at most"
                    : ", unless a few windows differ far more than all that were read");
}

static int is_metric(const cJSON *m, const cJSON *all)
{
    static const char *const other[] = {"n",      "seconds", "tokens_per_second",
                                        "tokens", "shots",   "tasks"};
    const char *name = m->string;
    (void)all;
    if (!cJSON_IsNumber(m) || strstr(name, "_stderr")) return 0;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strcmp(name, other[i]) == 0) return 0;
    return 1;
}

static void say(const cli *c)
{
    const cJSON *task, *m;
    char took[32];
    cJSON_ArrayForEach(task, json_get(c->json, "results"))
    {
        int width = 18;
        cJSON_ArrayForEach(m, task) if (is_metric(m, task) && (int)strlen(m->string) > width)
            width = (int)strlen(m->string);
        format_seconds(json_num(task, "seconds", 0), took);
        cli_say(c, "%s%s%s  n %lld, %s\n", term_on(stdout, TERM_BOLD), task->string,
                term_off(stdout), (long long)json_int(task, "n", 0), took);
        cJSON_ArrayForEach(m, task)
        {
            if (!is_metric(m, task)) continue;
            char key[160];
            const char *comma = strchr(m->string, ',');
            snprintf(key, sizeof key, "%.*s_stderr%s", comma ? (int)(comma - m->string) : 96,
                     m->string, comma ? comma : "");
            double se = json_num(task, key, -1);
            cli_say(c, "  %-*s %.6g", width, m->string, m->valuedouble);
            if (se >= 0) cli_say(c, " \u00b1 %.2g", se);
            cli_say(c, "\n");
        }
        say_decision(c, task);
    }
}

static sqz_status run(cli *c, sqz_error *err)
{
    one_step o = {.title = "eval", .model = c->args[0], .compute = cli_text(c, "compute")};
    one_step_result r;
    sqz_status s = cli_eval_tasks(c, &o.tasks, err);
    if (!s) cli_tell_near_tasks(json_get(o.tasks->child, "evals"));
    if (!s && (s = compare_with(c, o.tasks, err))) cJSON_Delete(o.tasks);
    if (!s) s = one_step_run(c, &o, &r, err);
    if (s) return s;
    cJSON *task = cJSON_GetArrayItem(r.results, 0), *item;
    cJSON *items = cJSON_DetachItemFromObjectCaseSensitive(task, "items");
    cJSON_AddStringToObject(c->json, "model", c->args[0]);
    cJSON_DeleteItemFromObjectCaseSensitive(task, "task");
    while ((item = task->child)) {
        cJSON_DetachItemViaPointer(task, item);
        char *key = path_format("%s", item->string);
        cJSON_AddItemToObject(c->json, key, item);
        free(key);
    }
    cJSON_AddNumberToObject(c->json, "peak_rss_bytes", (double)r.peak_rss_bytes);
    if (items) s = write_items(c, items, err);
    cJSON_Delete(items);
    if (!s) say(c);
    one_step_free(&r);
    return s;
}

const command cmd_eval = {
    .name = "eval",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "measure a model on data sets",
    .details =
        "The kind of a data set follows from its fields: {question, answer} = generation with "
        "exact match; {ctx|question, endings|choices, label|answer} = multiple choice by "
        "log-likelihood; {text} or .txt = perplexity. Known tasks (arc_easy, arc_challenge, boolq, "
        "gsm8k, hellaswag, lambada_openai, mmlu, openbookqa, piqa, wikitext, winogrande) ask and "
        "score as lm-evaluation-harness does: TASK=FILE or TASK=FOLDER with that set's fields, or "
        "TASK alone for the rows of its "
        "repository (docs/hub.md); "
        "needle and long_perplexity=FILE measure how a model does as its context grows; "
        "your own tasks are JSON definitions (docs/tasks.md). With --against, rows are drawn in "
        "random order and the evaluation ends when a sequential test is certain "
        "(docs/compare.md).",
    .examples = "  sqz eval examples/tiny-arith/model --dataset "
                "examples/tiny-arith/data/test.jsonl --window 256\n"
                "  sqz eval out/q4 --dataset problems.jsonl,endings.jsonl --limit 100 --json -\n"
                "  sqz eval out/q4 --dataset hellaswag=rows.jsonl,mmlu=mmlu/ --num-fewshot 5\n"
                "  sqz eval out/q4 --dataset problems.jsonl --against MODEL --margin 0.02\n",
    OPTIONS(options),
    .run = run};
