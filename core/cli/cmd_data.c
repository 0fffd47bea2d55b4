/* cmd_data.c - sqz data stats and sqz data show: what a data set holds, as sqz reads it.
 *
 * stats: every split with its rows, fields, kind, lengths and duplicates, token lengths of a model,
 * and how much of it stands in another set.  show: the rows themselves, one JSON object a line. */
#include "chat/chat.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "data/documents.h"
#include "data/folder.h"
#include "data/overlap.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

/* What reads the rows of a set as a model would; both NULL without --model. */
typedef struct reader {
    tokenizer *tok;
    chat *template; /* NULL: the model has none */
} reader;

/* ---- lengths -----------------------------------------------------------------------------------
 */

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* {"min","p5","p25","median","p75","p95","max","mean","total"} of n numbers, which are sorted. */
static cJSON *distribution(int64_t *v, int64_t n)
{
    static const struct {
        const char *name;
        double at;
    } points[] = {{"min", 0},    {"p5", 0.05},  {"p25", 0.25}, {"median", 0.5},
                  {"p75", 0.75}, {"p95", 0.95}, {"max", 1}};
    cJSON *o = cJSON_CreateObject();
    double total = 0;
    qsort(v, (size_t)n, sizeof *v, by_size);
    for (int64_t i = 0; i < n; i++) total += (double)v[i];
    for (size_t k = 0; k < sizeof points / sizeof *points && n; k++) /* nearest rank */
        json_add_num(o, points[k].name, (double)v[(int64_t)(points[k].at * (double)(n - 1) + 0.5)]);
    if (n) json_add_num(o, "mean", total / (double)n);
    json_add_num(o, "total", total);
    return o;
}

/* Bytes, and with a tokenizer tokens, of every row that can be read as text. */
static sqz_status add_lengths(const dataset *d, const reader *with, cJSON *out, sqz_error *err)
{
    int64_t rows = d->rows.n_rows, n = 0;
    int64_t *bytes = malloc((size_t)rows * sizeof *bytes),
            *tokens = malloc((size_t)rows * sizeof *tokens);
    text_buffer text = {0};
    sqz_status s = bytes && tokens ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory", d->path);
    for (int64_t i = 0; i < rows && !s; i++) {
        if (!document_text(d, i, &text)) continue;
        bytes[n] = text.n;
        int32_t *ids = NULL;
        if (with->tok)
            s = tokenizer_encode(with->tok, text.n ? text.at : "", text.n, 0, &ids, &tokens[n],
                                 err);
        free(ids);
        n++;
    }
    if (!s && n) {
        cJSON_AddItemToObject(out, "bytes", distribution(bytes, n));
        if (with->tok) cJSON_AddItemToObject(out, "tokens", distribution(tokens, n));
    }
    text_free(&text);
    free(bytes);
    free(tokens);
    return s;
}

/* ---- fields ------------------------------------------------------------------------------------
 */

/* How often each field is there, and as what. */
static void add_fields(const dataset *d, cJSON *out)
{
    const row_store *s = data_rows(d);
    cJSON *fields = cJSON_AddObjectToObject(out, "fields");
    for (int64_t k = 0; k < rows_n_names(s); k++) {
        const char *name = rows_name(s, k);
        int64_t texts = 0, lists = 0, others = 0, elements = 0;
        for (int64_t i = 0; i < rows_count(s); i++) {
            int64_t n = rows_list_length(s, i, name);
            if (n >= 0)
                lists++, elements += n;
            else if (rows_is_string(s, i, name))
                texts++;
            else
                others += rows_text(s, i, name, NULL) != NULL;
        }
        cJSON *f = cJSON_AddObjectToObject(fields, name);
        int kinds = (texts > 0) + (lists > 0) + (others > 0);
        cJSON_AddStringToObject(f, "type",
                                kinds > 1 ? "mixed"
                                : lists   ? "list"
                                : texts   ? "text"
                                          : "number");
        json_add_num(f, "rows", (double)(texts + lists + others));
        if (lists) json_add_num(f, "elements", (double)elements / (double)lists);
    }
}

/* ---- one split ---------------------------------------------------------------------------------
 */

static sqz_status add_split(const dataset *d, const reader *with, cJSON *splits, sqz_error *err)
{
    cJSON *o = cJSON_CreateObject();
    int64_t duplicates = 0;
    cJSON_AddItemToArray(splits, o);
    if (d->config) cJSON_AddStringToObject(o, "subset", d->config);
    if (d->split) cJSON_AddStringToObject(o, "split", d->split);
    json_add_num(o, "files", (double)d->n_files);
    json_add_num(o, "rows", (double)d->rows.n_rows);
    cJSON_AddStringToObject(o, "kind", data_kind_name(d->kind));
    cJSON_AddStringToObject(o, "digest", d->digest);
    add_fields(d, o);
    sqz_status s = documents_duplicates(d, &duplicates, err);
    json_add_num(o, "duplicates", (double)duplicates);
    return s ? s : add_lengths(d, with, o, err);
}

static sqz_status open_and_add(const char *spec, const reader *with, cJSON *splits, sqz_error *err)
{
    dataset *d;
    sqz_status s = dataset_open(spec, &d, err);
    if (s) return s;
    d->chat = with->template;
    s = add_split(d, with, splits, err);
    dataset_close(d);
    return s;
}

/* Files of one split that are no one set are looked at one by one. */
static sqz_status add_files(const data_split *split, const reader *with, cJSON *splits,
                            sqz_error *err)
{
    sqz_status s = SQZ_OK;
    for (int64_t k = 0; k < split->n_files && !s; k++) {
        s = open_and_add(split->files[k], with, splits, err);
        cJSON *o = s ? NULL : cJSON_GetArrayItem(splits, cJSON_GetArraySize(splits) - 1);
        const char *slash = strrchr(split->files[k], '/');
        if (o) cJSON_AddStringToObject(o, "file", slash ? slash + 1 : split->files[k]);
        if (o) cJSON_AddStringToObject(o, "split", split->name);
    }
    return s;
}

/* A folder that is named without a split: each of them. */
static sqz_status add_folder(const char *path, const reader *with, cJSON *splits, sqz_error *err)
{
    data_folder f;
    sqz_status s = folder_scan(path, &f, err);
    if (s) return s;
    for (int64_t i = 0; i < f.n_splits && !s; i++) {
        char *spec = path_format("%s:%s:%s", path, f.splits[i].config, f.splits[i].name);
        progress_update((double)i / (double)f.n_splits, spec);
        s = open_and_add(spec, with, splits, err);
        if (s == ERR_MODEL && f.splits[i].n_files > 1)
            s = add_files(&f.splits[i], with, splits, err);
        free(spec);
    }
    folder_free(&f);
    return s;
}

static void add_shares(cJSON *splits)
{
    cJSON *split;
    double total = 0;
    cJSON_ArrayForEach(split, splits) total += json_num(split, "rows", 0);
    cJSON_ArrayForEach(split, splits)
        json_add_num(split, "share", total ? json_num(split, "rows", 0) / total : 0);
}

/* ---- against another set -----------------------------------------------------------------------
 */

static void add_side(cJSON *out, const char *name, const overlap_side *side)
{
    cJSON *o = cJSON_AddObjectToObject(out, name);
    json_add_num(o, "rows", (double)side->rows);
    json_add_num(o, "long_rows", (double)side->long_rows);
    json_add_num(o, "exact_rows", (double)side->exact_rows);
    json_add_num(o, "overlapping_rows", (double)side->overlapping_rows);
    json_add_num(o, "runs", (double)side->runs);
    json_add_num(o, "shared_runs", (double)side->shared_runs);
}

static sqz_status add_against(const cli *c, const char *data, cJSON *out, sqz_error *err)
{
    const char *const *specs;
    int n = cli_list(c, "against", &specs);
    if (!n) return SQZ_OK;
    cJSON *list = cJSON_AddArrayToObject(out, "against");
    dataset *mine = NULL;
    sqz_status s = dataset_open(data, &mine, err);
    for (int i = 0; i < n && !s; i++) {
        dataset *other = NULL;
        overlap found;
        char *spec = NULL;
        s = cli_dataset(c, specs[i], -1, &spec, err);
        if (!s) s = dataset_open(spec, &other, err);
        free(spec);
        if (!s) s = overlap_measure(mine, (const dataset *const *)&other, 1, &found, err);
        if (!s) {
            cJSON *o = cJSON_CreateObject();
            cJSON_AddItemToArray(list, o);
            cJSON_AddStringToObject(o, "data", specs[i]);
            if (mine->split) cJSON_AddStringToObject(o, "split", mine->split);
            if (other->split) cJSON_AddStringToObject(o, "against_split", other->split);
            json_add_num(o, "words", OVERLAP_WORDS);
            add_side(o, "this", &found.a);
            add_side(o, "other", &found.b);
        }
        dataset_close(other);
    }
    dataset_close(mine);
    return s;
}

/* ---- for people --------------------------------------------------------------------------------
 */

static void say_lengths(const cli *c, const char *name, const cJSON *d)
{
    if (!d) return;
    cli_say(c, "  %-10s", name);
    static const char *const points[] = {"min", "p5", "median", "p95", "max"};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        cli_say(c, "%s %s %.0f", i ? "," : "", points[i], json_num(d, points[i], 0));
    cli_say(c, "; %.0f in all\n", json_num(d, "total", 0));
}

static void say_split(const cli *c, const cJSON *o, int several)
{
    const cJSON *f;
    const char *subset = json_str(o, "subset", ""), *split = json_str(o, "split", "");
    const char *file = json_str(o, "file", "");
    cli_say(c, "%s%s%s%s%s%s%s%lld rows", term_on(stdout, TERM_BOLD), file, *file ? "  " : "",
            strcmp(subset, "default") ? subset : "",
            strcmp(subset, "default") && *subset ? ":" : "", split, *split ? "  " : "",
            (long long)json_int(o, "rows", 0));
    cli_say(c, "%s", term_off(stdout));
    if (several) cli_say(c, " (%.1f %%)", 100 * json_num(o, "share", 0));
    cli_say(c, " in %lld file%s, %s, %lld duplicate%s\n", (long long)json_int(o, "files", 0),
            json_int(o, "files", 0) == 1 ? "" : "s", json_str(o, "kind", ""),
            (long long)json_int(o, "duplicates", 0), json_int(o, "duplicates", 0) == 1 ? "" : "s");
    cJSON_ArrayForEach(f, json_get(o, "fields"))
    {
        cli_say(c, "  %-24s %s", f->string, json_str(f, "type", ""));
        if (json_get(f, "elements")) cli_say(c, " of %.3g on average", json_num(f, "elements", 0));
        if (json_int(f, "rows", 0) != json_int(o, "rows", 0))
            cli_say(c, ", in %lld rows", (long long)json_int(f, "rows", 0));
        cli_say(c, "\n");
    }
    say_lengths(c, "bytes", json_get(o, "bytes"));
    say_lengths(c, "tokens", json_get(o, "tokens"));
}

static double percent(const cJSON *side, const char *key)
{
    double rows = json_num(side, "rows", 0);
    return rows > 0 ? 100 * json_num(side, key, 0) / rows : 0;
}

static void say_against(const cli *c, const cJSON *o)
{
    const cJSON *mine = json_get(o, "this"), *other = json_get(o, "other");
    cli_say(c,
            "against %s%s%s: %lld of %lld rows (%.1f %%) are in it word for word, %lld (%.1f %%) "
            "share %lld words "
            "in a row with it; of its %lld rows %lld (%.1f %%) and %lld (%.1f %%)\n",
            json_str(o, "data", ""), json_get(o, "against_split") ? ", split " : "",
            json_str(o, "against_split", ""), (long long)json_int(mine, "exact_rows", 0),
            (long long)json_int(mine, "rows", 0), percent(mine, "exact_rows"),
            (long long)json_int(mine, "overlapping_rows", 0), percent(mine, "overlapping_rows"),
            (long long)json_int(o, "words", 0), (long long)json_int(other, "rows", 0),
            (long long)json_int(other, "exact_rows", 0), percent(other, "exact_rows"),
            (long long)json_int(other, "overlapping_rows", 0), percent(other, "overlapping_rows"));
}

/* given: as the user wrote it; data: with names of the hub as their folders (NAME=FOLDER), whose
 * splits are all looked at when none is named. */
static sqz_status add_data(const char *given, const char *data, const reader *with, cJSON *splits,
                           sqz_error *err)
{
    const char *folder = hub_is_dataset(given) && strchr(data, '=') ? strchr(data, '=') + 1 : data;
    return path_is_dir(folder) ? add_folder(folder, with, splits, err)
                               : open_and_add(data, with, splits, err);
}

/* ---- the commands ------------------------------------------------------------------------------
 */

static sqz_status run_stats(cli *c, sqz_error *err)
{
    reader with = {0};
    const cJSON *o;
    const char *model = cli_text(c, "model");
    char *data = NULL;
    sqz_status s = model ? subject_check_path(model, err) : SQZ_OK;
    if (!s) s = cli_dataset(c, c->args[0], -1, &data, err);
    if (!s && model) s = tokenizer_open(model, &with.tok, err);
    if (!s && model) chat_open(model, &with.template, NULL);
    if (s) {
        free(data);
        return s;
    }
    cJSON_AddStringToObject(c->json, "data", c->args[0]);
    cJSON *splits = cJSON_AddArrayToObject(c->json, "splits");
    progress_begin("data stats");
    s = add_data(c->args[0], data, &with, splits, err);
    tokenizer_free(with.tok);
    chat_free(with.template);
    add_shares(splits);
    if (!s) s = add_against(c, data, c->json, err);
    progress_end();
    free(data);
    if (s) return s;
    cJSON_ArrayForEach(o, splits) say_split(c, o, cJSON_GetArraySize(splits) > 1);
    cJSON_ArrayForEach(o, json_get(c->json, "against")) say_against(c, o);
    return SQZ_OK;
}

/* A row as it was read: texts, numbers, lists of texts. */
static cJSON *row_json(const row_store *s, int64_t i)
{
    cJSON *o = cJSON_CreateObject();
    for (int64_t k = 0; k < rows_n_names(s); k++) {
        const char *name = rows_name(s, k), *text = rows_text(s, i, name, NULL);
        int64_t n = rows_list_length(s, i, name);
        if (text && rows_is_string(s, i, name))
            cJSON_AddStringToObject(o, name, text);
        else if (text)
            cJSON_AddRawToObject(
                o, name, strpbrk(text, "0123456789tf") && !strchr("in", *text) ? text : "null");
        if (n < 0) continue;
        cJSON *list = cJSON_AddArrayToObject(o, name);
        for (int64_t e = 0; e < n; e++)
            cJSON_AddItemToArray(list, cJSON_CreateString(rows_list_text(s, i, name, e)));
    }
    return o;
}

static sqz_status run_show(cli *c, sqz_error *err)
{
    dataset *d;
    dataset_options o = {.max_rows = cli_int(c, "rows")};
    char *data = NULL;
    sqz_status s = cli_dataset(c, c->args[0], -1, &data, err);
    if (!s) s = dataset_open_with(data, &o, &d, err);
    free(data);
    if (s) return s;
    cJSON_AddStringToObject(c->json, "data", c->args[0]);
    cJSON_AddStringToObject(c->json, "kind", data_kind_name(d->kind));
    cJSON *rows = cJSON_AddArrayToObject(c->json, "rows");
    text_buffer text = {0};
    for (int64_t i = 0; i < d->rows.n_rows && !s; i++) {
        cJSON *row = NULL;
        if (!cli_flag(c, "as-text")) {
            row = row_json(data_rows(d), i);
        } else if (document_text(d, i, &text)) {
            text_add(&text, "", 1);
            row = text.failed ? NULL : cJSON_CreateString(text.at);
        } else {
            s = err_set(err, ERR_MODEL, "%s:%lld: no rule reads this row as text",
                        rows_path(data_rows(d), i), (long long)rows_line(data_rows(d), i));
            break;
        }
        char *line = row ? json_text(row, 0) : NULL;
        cli_say(c, "%s\n", line ? line : "");
        if (!line) s = err_set(err, SQZ_E_NOMEM, "%s: no memory to show a row", d->path);
        free(line);
        cJSON_AddItemToArray(rows, row);
    }
    text_free(&text);
    dataset_close(d);
    return s;
}

static const cli_option stats_options[] = {
    {"model", CLI_TEXT, "MODEL", NULL, 0, 0, "also count tokens, by this model's tokenizer"},
    {"against", CLI_LIST, "FILE", NULL, 0, 0,
     "how much of the data stands in this set too; may be given several times"},
    READER_OPTIONS,
};

const command cmd_data_stats = {
    .name = "data stats",
    .arguments = "FILE",
    .min_args = 1,
    .max_args = 1,
    .summary = "rows, fields, lengths, duplicates and leaks of a data set",
    .details =
        "FILE is JSONL, JSON, CSV, TSV, Parquet or .txt (also .gz and .zst), or a folder of them: "
        "FOLDER for all splits, FOLDER:SPLIT or FOLDER:SUBSET:SPLIT for one; files of other "
        "formats "
        "are read by data plugins. --against finds rows "
        "that are in both sets word for word, and rows that share 13 words in a row.",
    .examples = "  sqz data stats examples/tiny-arith/data\n"
                "  sqz data stats train.parquet --model examples/tiny-arith/model\n"
                "  sqz data stats calib.jsonl --against test.jsonl --json -\n",
    OPTIONS(stats_options),
    .run = run_stats};

static const cli_option show_options[] = {
    {"rows", CLI_INT, "N", "5", 0, 1e12, "the first N rows; 0 = all"},
    {"as-text", CLI_FLAG, NULL, NULL, 0, 0, "each row as the text that calibration reads"},
    READER_OPTIONS,
};

const command cmd_data_show = {
    .name = "data show",
    .arguments = "FILE",
    .min_args = 1,
    .max_args = 1,
    .summary = "the rows of a data set as sqz reads them, one JSON object a line",
    .details = "Nested objects are flattened (choices.text), missing values left out, elements of "
               "lists shown as texts.",
    .examples = "  sqz data show examples/tiny-arith/data/facts_test.jsonl --rows 2\n"
                "  sqz data show data:validation --as-text\n",
    OPTIONS(show_options),
    .run = run_show};
