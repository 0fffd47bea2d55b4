/* cmd_compare.c - sqz compare: two models on the same items.
 *
 * Both are evaluated as by `sqz eval`; their per-item outcomes are paired by row.  Left out: text
 * generated side by side, divergence and flips on text. */
#include "cli/shared.h"
#include "io/file.h"
#include "paired/paired.h"
#include "report/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    EVAL_OPTIONS,
    READER_OPTIONS,
    {"draws", CLI_INT, "N", "2000", 100, 1e6, "resamples of the bootstrap"},
    {"show", CLI_INT, "N", "20", 0, 1e6, "items on which the models differ, in the report"},
    {"output", CLI_TEXT, "FILE", NULL, 0, 0,
     "write the comparison: HTML when the name ends in .html, else Markdown"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

static cJSON *read_items(const char *path, sqz_error *err)
{
    char *text = NULL, *save = NULL;
    int64_t bytes = 0;
    if (file_read(path, (int64_t)1 << 30, &text, &bytes, err)) return NULL;
    cJSON *list = cJSON_CreateArray();
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *row = cJSON_Parse(line);
        if (isfinite(json_num(row, "i", NAN)) && isfinite(json_num(row, "outcome", NAN)))
            cJSON_AddItemToArray(list, row);
        else
            cJSON_Delete(row);
    }
    free(text);
    return list;
}

/* Items of both, by rising row; a and b need room for the shorter list. */
static int64_t pair_up(const cJSON *first, const cJSON *second, double *a, double *b, cJSON *differ,
                       int64_t show)
{
    int64_t n = 0;
    const cJSON *x = first->child, *y = second->child;
    while (x && y) {
        double i = json_num(x, "i", 0), k = json_num(y, "i", 0);
        if (i == k) {
            a[n] = json_num(x, "outcome", 0);
            b[n] = json_num(y, "outcome", 0);
            if (a[n] != b[n] && cJSON_GetArraySize(differ) < show) {
                cJSON *d = cJSON_CreateObject();
                cJSON_AddItemToArray(differ, d);
                json_add_num(d, "i", i);
                json_add_num(d, "base", a[n]);
                json_add_num(d, "model", b[n]);
                cJSON_AddStringToObject(d, "base_note", json_str(x, "note", ""));
                cJSON_AddStringToObject(d, "model_note", json_str(y, "note", ""));
            }
            n++;
        }
        const cJSON *next = i <= k ? x->next : x;
        y = k <= i ? y->next : y;
        x = next;
    }
    return n;
}

static void add_statistics(const cli *c, cJSON *j, const double *a, const double *b, int64_t n,
                           const interval *mean)
{
    int binary = 1;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        binary &= (a[i] == 0 || a[i] == 1) && (b[i] == 0 || b[i] == 1);
        squares += pow(b[i] - a[i] - mean->mean, 2);
    }
    double sd = sqrt(squares / (double)(n > 1 ? n - 1 : 1));
    json_add_num(j, "n", (double)n);
    json_add_num(j, "difference", mean->mean);
    json_add_num(j, "difference_stderr", sd / sqrt((double)n));
    json_add_num(j, "low", mean->lo);
    json_add_num(j, "high", mean->hi);
    json_add_num(j, "items_needed", paired_items_needed(sd, mean->mean, 0.05, 0.8));
    cli_say(c, "  difference %.5g, 95 %% of resamples in [%.5g, %.5g]; %lld items\n", mean->mean,
            mean->lo, mean->hi, (long long)n);
    if (!binary) return;
    mcnemar m = paired_mcnemar(a, b, n);
    json_add_num(j, "lost", (double)m.lost);
    json_add_num(j, "gained", (double)m.gained);
    json_add_num(j, "p_exact", m.exact);
    json_add_num(j, "p_mid", m.mid);
    cli_say(c, "  lost %lld, gained %lld; McNemar p %.3g exact, %.3g mid-p\n", (long long)m.lost,
            (long long)m.gained, m.exact, m.mid);
}

static sqz_status compare_items(cli *c, const char *name, const char *base, const char *model,
                                cJSON *into, sqz_error *err)
{
    cJSON *first = read_items(base, err), *second = first ? read_items(model, err) : NULL;
    sqz_status s = second ? SQZ_OK : ERR_STORAGE;
    size_t most = second ? (size_t)cJSON_GetArraySize(first) + 1 : 1;
    double *a = malloc(most * sizeof *a), *b = malloc(most * sizeof *b);
    cJSON *j = cJSON_AddObjectToObject(into, name), *differ = cJSON_AddArrayToObject(j, "differ");
    if (!s && (!a || !b)) s = err_set(err, SQZ_E_NOMEM, "no memory for the outcomes of %s", name);
    int64_t n = s ? 0 : pair_up(first, second, a, b, differ, cli_int(c, "show"));
    interval mean;
    if (!s && !n) s = err_set(err, ERR_MODEL, "%s: the models have no item in common", name);
    if (!s && paired_bootstrap(a, b, n, cli_int(c, "draws"), 0.95, cli_seed(c), &mean))
        s = err_set(err, SQZ_E_NOMEM, "no memory for the resamples of %s", name);
    if (!s) {
        cli_say(c, "%s\n", name);
        add_statistics(c, j, a, b, n, &mean);
    }
    free(a);
    free(b);
    cJSON_Delete(first);
    cJSON_Delete(second);
    return s;
}

static void markdown_set(txt *t, const cJSON *set)
{
    txt_add(t, "\n## ");
    txt_md(t, set->string);
    txt_addf(t, "\n\nDifference %.5g, 95 %% interval [%.5g, %.5g], %lld items.\n",
             json_num(set, "difference", 0), json_num(set, "low", 0), json_num(set, "high", 0),
             (long long)json_int(set, "n", 0));
    if (json_get(set, "p_exact"))
        txt_addf(t, "Lost %lld, gained %lld; McNemar p %.3g exact, %.3g mid-p.\n",
                 (long long)json_int(set, "lost", 0), (long long)json_int(set, "gained", 0),
                 json_num(set, "p_exact", 1), json_num(set, "p_mid", 1));
    txt_add(t,
            "\n| item | base | model | base's answer | model's answer |\n|---|---|---|---|---|\n");
    const cJSON *d;
    cJSON_ArrayForEach(d, json_get(set, "differ"))
    {
        txt_addf(t, "| %lld | %.4g | %.4g | ", (long long)json_int(d, "i", 0),
                 json_num(d, "base", 0), json_num(d, "model", 0));
        txt_md(t, json_str(d, "base_note", ""));
        txt_add(t, " | ");
        txt_md(t, json_str(d, "model_note", ""));
        txt_add(t, " |\n");
    }
}

static void markdown(const cli *c, txt *t)
{
    const cJSON *set;
    txt_add(t, "# ");
    txt_md(t, c->args[1]);
    txt_add(t, " against ");
    txt_md(t, c->args[0]);
    txt_add(t, "\n");
    cJSON_ArrayForEach(set, json_get(c->json, "comparisons")) markdown_set(t, set);
}

static void html_set(txt *t, const cJSON *set)
{
    txt_add(t, "<h2>");
    txt_html(t, set->string);
    txt_addf(t, "</h2>\n<p>Difference %.5g, 95 %% interval [%.5g, %.5g], %lld items.",
             json_num(set, "difference", 0), json_num(set, "low", 0), json_num(set, "high", 0),
             (long long)json_int(set, "n", 0));
    if (json_get(set, "p_exact"))
        txt_addf(t, " Lost %lld, gained %lld; McNemar p %.3g exact, %.3g mid-p.",
                 (long long)json_int(set, "lost", 0), (long long)json_int(set, "gained", 0),
                 json_num(set, "p_exact", 1), json_num(set, "p_mid", 1));
    txt_add(t,
            "</p>\n<table border=\"1\"><tr><th>item<th>base<th>model<th>base's answer<th>model's "
            "answer</tr>\n");
    const cJSON *d;
    cJSON_ArrayForEach(d, json_get(set, "differ"))
    {
        txt_addf(t, "<tr><td>%lld<td>%.4g<td>%.4g<td><pre>", (long long)json_int(d, "i", 0),
                 json_num(d, "base", 0), json_num(d, "model", 0));
        txt_html(t, json_str(d, "base_note", ""));
        txt_add(t, "</pre><td><pre>");
        txt_html(t, json_str(d, "model_note", ""));
        txt_add(t, "</pre></tr>\n");
    }
    txt_add(t, "</table>\n");
}

static void html(const cli *c, txt *t)
{
    const cJSON *set;
    txt_add(t, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>sqz "
               "compare</title>\n<h1>");
    txt_html(t, c->args[1]);
    txt_add(t, " against ");
    txt_html(t, c->args[0]);
    txt_add(t, "</h1>\n");
    cJSON_ArrayForEach(set, json_get(c->json, "comparisons")) html_set(t, set);
    txt_add(t, "</html>\n");
}

static sqz_status write_report(const cli *c, sqz_error *err)
{
    txt t = {0};
    const char *path = cli_text(c, "output"), *dot = strrchr(path, '.');
    if (dot && !strcmp(dot, ".html"))
        html(c, &t);
    else
        markdown(c, &t);
    char *text = txt_take(&t);
    sqz_status s = file_write(path, text, (int64_t)strlen(text), err);
    free(text);
    return s;
}

static sqz_status run(cli *c, sqz_error *err)
{
    one_step_result r[2] = {{0}, {0}};
    sqz_status s = SQZ_OK;
    for (int i = 0; i < 2 && !s; i++) {
        one_step o = {
            .title = i ? "model" : "base", .model = c->args[i], .compute = cli_text(c, "compute")};
        s = cli_eval_tasks(c, &o.tasks, err);
        if (!s) s = one_step_run(c, &o, &r[i], err);
    }
    if (!s) {
        const cJSON *base = cJSON_GetArrayItem(r[0].results, 0), *item;
        const cJSON *model = cJSON_GetArrayItem(r[1].results, 0);
        cJSON_AddStringToObject(c->json, "base", c->args[0]);
        cJSON_AddStringToObject(c->json, "model", c->args[1]);
        cJSON_AddItemToObject(c->json, "base_results",
                              cJSON_Duplicate(json_get(base, "results"), 1));
        cJSON_AddItemToObject(c->json, "results", cJSON_Duplicate(json_get(model, "results"), 1));
        cJSON *into = cJSON_AddObjectToObject(c->json, "comparisons");
        cJSON_ArrayForEach(item, json_get(base, "items"))
        {
            const char *other = json_str(json_get(model, "items"), item->string, NULL);
            if (!s && other && cJSON_IsString(item))
                s = compare_items(c, item->string, item->valuestring, other, into, err);
        }
    }
    if (!s && cli_given(c, "output")) s = write_report(c, err);
    one_step_free(&r[0]);
    one_step_free(&r[1]);
    return s;
}

const command cmd_compare = {
    .name = "compare",
    .arguments = "BASE MODEL",
    .min_args = 2,
    .max_args = 2,
    .summary = "two models on the same items: is the difference real, and where is it",
    .details = "Outcomes are paired item by item: McNemar's test where items are right or wrong, a "
               "paired bootstrap of the mean for all; items_needed is for 5 % error and 80 % power "
               "at the difference seen. Of text, outcomes are losses per window.",
    .examples = "  sqz compare examples/tiny-arith/model out/q4 --dataset "
                "examples/tiny-arith/data/arith_test.jsonl --output compare.md\n",
    OPTIONS(options),
    .run = run};
