/* cmd_validate.c - sqz validate: is a compressed model good enough?  Each criterion with its figure
 * and its verdict (C4); the limits are a preset that users may edit.
 *
 * Left out: correction for several criteria; long contexts (sqz eval --dataset needle). */
#include "cli/duel.h"
#include "cli/known_models.h"
#include "cli/terminal.h"
#include "compare/criteria.h"
#include "io/file.h"
#include "model/model.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option options[] = {
    EVAL_OPTIONS,
    READER_OPTIONS,
    DUEL_OPTIONS,
    {"preset", CLI_TEXT, "NAME|FILE", "strict", 0, 0,
     "limits: strict, lenient, one of your own in ~/.config/sqz/acceptance, or a file"},
    {"skip", CLI_LIST, "NAME", NULL, 0, 0,
     "leave a criterion out; without speedup and memory no speed is measured"},
    {"generations", CLI_INT, "N", "8", 0, 4096, "prompts to generate from, of each data set"},
    {"rounds", CLI_INT, "N", "3", 1, 100000, "times that everything is generated: a longer run"},
    {"update", CLI_FLAG, NULL, NULL, 0, 0,
     "add the verdict to validation_report.json of the folder MODEL"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

static int skipped(const cli *c, const char *name)
{
    const char *const *names;
    int n = cli_list(c, "skip", &names);
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name)) return 1;
    return 0;
}

static sqz_status no_criterion(const char *name, const char *near, const char *const *known, int n,
                               sqz_error *err)
{
    char all[400] = "";
    if (near)
        return err_set(err, ERR_USAGE, "--skip %.60s: there is no such criterion; did you mean %s?",
                       name, near);
    for (int k = 0; k < n; k++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", k ? ", " : "", known[k]);
    return err_set(err, ERR_USAGE, "--skip %.60s: there is no such criterion; there are %s", name,
                   all);
}

static sqz_status check_skip(const cli *c, sqz_error *err)
{
    const char *const *names;
    const char *known[64];
    int n = cli_list(c, "skip", &names), n_known = 0;
    while (n_known < 64 && (known[n_known] = criterion_name(n_known, NULL))) n_known++;
    for (int i = 0; i < n; i++) {
        const char *near = json_nearest(names[i], known, n_known);
        int k = 0;
        while (k < n_known && strcmp(known[k], names[i]) != 0) k++;
        if (k == n_known) return no_criterion(names[i], near, known, n_known, err);
    }
    return SQZ_OK;
}

/* ---- the preset ------------------------------------------------------------------------------ */
static sqz_status open_preset(const cli *c, json_doc **doc, sqz_error *err)
{
    const char *word = cli_text(c, "preset");
    sqz_status s;
    *doc = NULL;
    if (strchr(word, '/') || strchr(word, '.')) {
        s = json_read(word, 1 << 20, JSON_COMMENTS, doc, err);
        if (s && s != SQZ_E_NOMEM) s = err_set(err, ERR_USAGE, "%s", err->text);
    } else {
        char *file = path_format("acceptance/%s.json", word);
        s = config_table(file, doc, err);
        free(file);
        if (!s && !*doc)
            s = err_set(err, ERR_USAGE,
                        "--preset %.80s: there is no such preset; use strict, lenient, or the path "
                        "of a file",
                        word);
    }
    if (!s && (s = criteria_check(json_root(*doc), json_name(*doc), err))) {
        json_free(*doc);
        *doc = NULL;
    }
    return s;
}

/* ---- size ------------------------------------------------------------------------------------ */
/* Bytes of the weights' files of a folder, or of the file; 0 when it is neither. */
static double weight_file_bytes(const char *path)
{
    struct stat st;
    double bytes = 0;
    if (!path_is_dir(path)) return stat(path, &st) ? 0 : (double)st.st_size;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || (strcmp(dot, ".safetensors") != 0 && strcmp(dot, ".gguf") != 0)) continue;
        char *file = path_format("%s/%s", path, e->d_name);
        if (!stat(file, &st)) bytes += (double)st.st_size;
        free(file);
    }
    if (d) closedir(d);
    return bytes;
}

static char *config_text(const char *folder)
{
    char *text = NULL;
    int64_t bytes = 0;
    if (path_is_dir(folder)) checkpoint_text(folder, "config.json", 16 << 20, &text, &bytes, NULL);
    return text;
}

/* What quantization leaves alone (embeddings, norms, head) is in both files; the rest is compared.
 */
static double times_smaller(const char *base, const char *model)
{
    double b = weight_file_bytes(base), m = weight_file_bytes(model);
    model_config config;
    char *text = config_text(base);
    if (!(b > 0 && m > 0)) {
        free(text);
        return NAN;
    }
    if (text && !model_config_parse(text, base, &config, NULL)) {
        int64_t linears = 0;
        double all = (double)model_parameters(&config, &linears);
        double others = all > 0 ? b * (1 - (double)linears / all) : 0;
        model_config_free(&config);
        if (others < m && others < b) b -= others, m -= others;
    }
    free(text);
    return b / m;
}

/* The folder behind a name of the hub, which was fetched when it was measured; else the word. */
static char *folder_of(const char *word)
{
    char *folder = NULL;
    return cli_model_folder(word, HUB_CONFIG, &folder, NULL) ? path_format("%s", word) : folder;
}

/* Of the model's quantization_config, "" when it has none. */
static void bits_of(const char *model, char out[16])
{
    char *text = config_text(model);
    cJSON *config = text ? cJSON_Parse(text) : NULL;
    int64_t bits = json_int(json_get(config, "quantization_config"), "bits", 0);
    *out = 0;
    if (bits > 0 && bits < 100) snprintf(out, 16, "%d", (int)bits);
    cJSON_Delete(config);
    free(text);
}

/* ---- measured values ------------------------------------------------------------------------- */
static criterion_value plain(double value)
{
    return (criterion_value){value, NAN, NAN};
}

static void judge_set(const cli *c, criteria *k, const cJSON *set)
{
    double difference = json_num(set, "difference", NAN), low = json_num(set, "low", NAN);
    double high = json_num(set, "high", NAN);
    const cJSON *kl = json_get(set, "kl");
    double error = 1.96 * json_num(kl, "stderr", NAN), mean = json_num(kl, "mean", NAN);
    double top = json_num(kl, "same_top", NAN), off = 1.96 * json_num(kl, "same_top_stderr", NAN);
    if (json_get(set, "p_exact") && !skipped(c, "accuracy_drop"))
        criteria_judge(k, "accuracy_drop", set->string,
                       (criterion_value){0 - difference, 0 - high, 0 - low});
    if (!json_get(set, "p_exact") && !skipped(c, "perplexity_increase"))
        criteria_judge(k, "perplexity_increase", set->string,
                       (criterion_value){expm1(difference), expm1(low), expm1(high)});
    if (kl && !skipped(c, "divergence"))
        criteria_judge(k, "divergence", set->string,
                       (criterion_value){mean, fmax(0, mean - error), mean + error});
    if (kl && !skipped(c, "same_top"))
        criteria_judge(k, "same_top", set->string,
                       (criterion_value){top, top - off, fmin(1, top + off)});
}

static void judge_generations(const cli *c, criteria *k, const cJSON *g)
{
    static const char *const kinds[][2] = {
        {"loops", "loop"}, {"incoherent", "incoherent"}, {"empty", "empty"}};
    for (int i = 0; i < 3; i++) {
        double share = json_num(json_get(g, kinds[i][1]), "new", NAN) / json_num(g, "n", NAN);
        if (i == 1 && !json_get(g, "base_loss_limit") && !json_get(g, "base_worst_limit"))
            share = NAN; /* too few of the base's own texts to know what is usual */
        if (!skipped(c, kinds[i][0])) criteria_judge(k, kinds[i][0], NULL, plain(share));
    }
}

static void judge_rounds(const cli *c, criteria *k, const cJSON *rounds)
{
    const cJSON *r, *first = rounds ? rounds->child : NULL, *last = first ? first->prev : NULL;
    double same = first ? 1 : NAN, slow = 0, fast = INFINITY;
    cJSON_ArrayForEach(r, rounds)
    {
        double pace = json_num(r, "seconds", 0) / fmax(1, json_num(r, "tokens", 1));
        if (!json_bool(r, "same", 0)) same = 0;
        slow = fmax(slow, pace);
        fast = fmin(fast, pace);
    }
    double growth = json_num(last, "resident_bytes", NAN) / json_num(first, "resident_bytes", NAN);
    if (!skipped(c, "repeatable")) criteria_judge(k, "repeatable", NULL, plain(same));
    if (!skipped(c, "memory_growth")) criteria_judge(k, "memory_growth", NULL, plain(growth - 1));
    if (!skipped(c, "slowdown"))
        criteria_judge(k, "slowdown", NULL, plain(last != first ? slow / fast - 1 : NAN));
}

/* What the export proved when it was written; a model that came here has been opened and measured.
 */
static double loads_back(const cJSON *report)
{
    const cJSON *proof = json_get(report, "load_back");
    return !proof || json_num(proof, "max_logit_difference", 0) == 0;
}

static double bench_value(const duel *d, int side, const char *key, const char *which)
{
    const cJSON *bench = duel_task(d, side, "bench");
    return json_num(which ? json_get(bench, key) : bench, which ? which : key, NAN);
}

static void judge_speed(const cli *c, criteria *k, const duel *d)
{
    double median = bench_value(d, 0, "tpot_seconds", "median");
    criterion_value v = {median / bench_value(d, 1, "tpot_seconds", "median"),
                         median / bench_value(d, 1, "tpot_seconds", "max"),
                         median / bench_value(d, 1, "tpot_seconds", "min")};
    if (!skipped(c, "speedup")) criteria_judge(k, "speedup", NULL, v);
    if (!skipped(c, "memory"))
        criteria_judge(k, "memory", NULL,
                       plain(bench_value(d, 0, "peak_rss_bytes", NULL) /
                             bench_value(d, 1, "peak_rss_bytes", NULL)));
}

static void judge_all(const cli *c, criteria *k, const duel *d, const cJSON *report, double smaller)
{
    const cJSON *set;
    cJSON_ArrayForEach(set, json_get(c->json, "comparisons")) judge_set(c, k, set);
    if (json_get(c->json, "generations")) {
        judge_generations(c, k, json_get(c->json, "generations"));
        judge_rounds(c, k, json_get(duel_task(d, 1, "generate"), "rounds"));
    }
    if (!skipped(c, "loads_back")) criteria_judge(k, "loads_back", NULL, plain(loads_back(report)));
    if (!skipped(c, "smaller")) criteria_judge(k, "smaller", NULL, plain(smaller));
    judge_speed(c, k, d);
}

/* ---- telling --------------------------------------------------------------------------------- */
/* What a criterion wants where the run could not give it: "why" of its row. */
static void add_reasons(cJSON *rows)
{
    static const char *const reasons[][2] = {
        {"smaller", "it compares files: export both models, artifacts have none of their own"},
        {"slowdown", "it takes --rounds 2 or more"},
        {"loops", "nothing was generated"},
        {"incoherent", "it takes 4 prompts or more, and answers of 8 tokens or more"},
        {"empty", "nothing was generated"}};
    cJSON *row;
    cJSON_ArrayForEach(row, rows)
    {
        if (strcmp(json_str(row, "verdict", ""), "not measured")) continue;
        for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
            if (!strcmp(json_str(row, "name", ""), reasons[i][0]))
                cJSON_AddStringToObject(row, "why", reasons[i][1]);
    }
}

static void say_row(const cli *c, const cJSON *row)
{
    const char *verdict = json_str(row, "verdict", ""), *of = json_str(row, "of", "");
    term_style style = !strcmp(verdict, "fail")   ? TERM_RED
                       : !strcmp(verdict, "pass") ? TERM_GREEN
                                                  : TERM_DIM;
    char name[96], value[64] = "", limit[32] = "";
    snprintf(name, sizeof name, "%s%s%s", json_str(row, "name", ""), *of ? " " : "", of);
    if (json_get(row, "value")) snprintf(value, sizeof value, "%.4g", json_num(row, "value", 0));
    if (json_get(row, "low"))
        snprintf(value + strlen(value), sizeof value - strlen(value), " [%.4g, %.4g]",
                 json_num(row, "low", 0), json_num(row, "high", 0));
    if (json_get(row, "most"))
        snprintf(limit, sizeof limit, "<= %g", json_num(row, "most", 0));
    else if (json_get(row, "least"))
        snprintf(limit, sizeof limit, ">= %g", json_num(row, "least", 0));
    cli_say(c, "%s%-12s%s  %-34s %-30s %s\n", term_on(stdout, style), verdict, term_off(stdout),
            name, json_str(row, "why", value), limit);
}

static void say(const cli *c, const criteria *k)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, k->list) say_row(c, row);
    if (k->failed)
        cli_say(c, "%s: %d of %d criteria of \"%s\" are not met\n", c->args[1], k->failed,
                cJSON_GetArraySize(k->list), cli_text(c, "preset"));
    else
        cli_say(c, "%s: accepted by \"%s\"\n", c->args[1], cli_text(c, "preset"));
}

/* The export's report with the verdict beside its proof. */
static sqz_status update_report(const cli *c, cJSON *report, sqz_error *err)
{
    static const char *const keys[] = {"preset", "verdict", "criteria"};
    char *path = path_format("%s/validation_report.json", c->args[1]);
    if (!json_get(report, "schema")) cJSON_AddStringToObject(report, "schema", "sqz.validation/1");
    cJSON_DeleteItemFromObjectCaseSensitive(report, "against");
    cJSON_AddStringToObject(report, "against", c->args[0]);
    for (int i = 0; i < 3; i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(report, keys[i]);
        cJSON_AddItemToObject(report, keys[i], cJSON_Duplicate(json_get(c->json, keys[i]), 1));
    }
    char *text = json_text(report, 1);
    sqz_status s = text ? file_write(path, text, (int64_t)strlen(text), err)
                        : err_set(err, SQZ_E_NOMEM, "no memory for %s", path);
    free(text);
    free(path);
    return s;
}

/* An empty object when the folder has none. */
static sqz_status read_report(const cli *c, cJSON **out, sqz_error *err)
{
    char *path = path_format("%s/validation_report.json", c->args[1]);
    json_doc *doc = NULL;
    sqz_status s = SQZ_OK;
    if (cli_flag(c, "update") && !path_is_dir(c->args[1]))
        s = err_set(err, ERR_USAGE, "--update: %s is no folder to write its report into",
                    c->args[1]);
    if (!s && path_exists(path)) s = json_read(path, 16 << 20, 0, &doc, err);
    *out = doc && cJSON_IsObject(json_root(doc)) ? cJSON_Duplicate(json_root(doc), 1)
                                                 : cJSON_CreateObject();
    json_free(doc);
    free(path);
    return s;
}

static sqz_status judge(cli *c, const duel *d, const cJSON *preset, cJSON *report, sqz_error *err)
{
    char bits[16], *base = folder_of(c->args[0]), *model = folder_of(c->args[1]);
    double smaller = times_smaller(base, model);
    bits_of(model, bits);
    free(base);
    free(model);
    criteria k = {preset, bits, cJSON_CreateArray(), 0};
    sqz_status s = duel_json(c, d, c->json, err);
    if (!s) judge_all(c, &k, d, report, smaller);
    add_reasons(k.list);
    cJSON_AddStringToObject(c->json, "preset", cli_text(c, "preset"));
    cJSON_AddStringToObject(c->json, "verdict", k.failed ? "fail" : "pass");
    cJSON_AddItemToObject(c->json, "criteria", k.list);
    if (!s && cli_flag(c, "update")) s = update_report(c, report, err);
    if (!s) say(c, &k);
    if (!s && k.failed) c->exit_code = 5;
    return s;
}

static sqz_status run(cli *c, sqz_error *err)
{
    json_doc *preset = NULL;
    cJSON *report = NULL;
    duel d = {0};
    duel_plan plan = {cli_int(c, "generations"), cli_int(c, "rounds"),
                      !skipped(c, "speedup") || !skipped(c, "memory")};
    sqz_status s = check_skip(c, err);
    if (!s) s = open_preset(c, &preset, err);
    if (!s) s = read_report(c, &report, err);
    if (!s) s = duel_run(c, &plan, &d, err);
    if (!s) s = judge(c, &d, json_root(preset), report, err);
    duel_free(&d);
    cJSON_Delete(report);
    json_free(preset);
    return s;
}

const command cmd_validate = {
    .name = "validate",
    .arguments = "BASE MODEL",
    .min_args = 2,
    .max_args = 2,
    .summary = "is a compressed model good enough: each criterion with its figure and verdict",
    .details = "Accuracy, perplexity, divergence and top-1 agreement on the data sets; repetition "
               "loops and incoherent text in generations; the same tokens round after round; size, "
               "speed and memory. The limits are a preset, a JSON file (docs/validate.md). Exit "
               "code 5 when one is not met.",
    .examples = "  sqz validate examples/tiny-arith/model out/q4 --dataset "
                "examples/tiny-arith/data/arith_test.jsonl --preset lenient\n"
                "  sqz validate MODEL out/q4 --dataset hellaswag,gsm8k --limit 500 --update "
                "--json -\n",
    OPTIONS(options),
    .run = run};
