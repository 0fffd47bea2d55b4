/* pages.c - a comparison as Markdown and as one HTML file without scripts or network.
 *
 * Both walk the same JSON and print its "summary" sentences; everything that comes from models,
 * data or the command line is escaped. */
#include "compare/compare.h"
#include "report/html.h"
#include "report/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_TEXT = 1200 };

/* A page of either kind. */
typedef struct page {
    txt t;
    int html;
} page;

static void text(page *p, const char *untrusted)
{
    p->html ? txt_html(&p->t, untrusted) : txt_md(&p->t, untrusted);
}

static void heading(page *p, int level, const char *untrusted)
{
    if (p->html)
        txt_addf(&p->t, "<h%d>", level);
    else
        txt_addf(&p->t, "\n%.*s ", level, "####");
    text(p, untrusted);
    if (p->html)
        txt_addf(&p->t, "</h%d>\n", level);
    else
        txt_add(&p->t, "\n\n");
}

static void paragraph(page *p, const char *untrusted)
{
    if (p->html) txt_add(&p->t, "<p>");
    text(p, untrusted);
    txt_add(&p->t, p->html ? "</p>\n" : "\n\n");
}

/* ---- tables: table_open, then rows of cells, table_close ------------------------------------- */
static void table_open(page *p, const char *const *columns)
{
    int n = 0;
    if (p->html) txt_add(&p->t, "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
    for (; columns[n]; n++) {
        txt_add(&p->t, p->html ? "<th class=\"l\">" : "| ");
        text(p, columns[n]);
        txt_add(&p->t, p->html ? "</th>" : " ");
    }
    txt_add(&p->t, p->html ? "</tr></thead><tbody>\n" : "|\n");
    for (int i = 0; i < n && !p->html; i++) txt_add(&p->t, "|---");
    if (!p->html) txt_add(&p->t, "|\n");
}

static void row_open(page *p)
{
    if (p->html) txt_add(&p->t, "<tr>");
}

static void cell(page *p, const char *untrusted)
{
    char *cut = strndup(untrusted ? untrusted : "", SHOWN_TEXT);
    txt_add(&p->t, p->html ? "<td class=\"l w\">" : "| ");
    text(p, cut ? cut : "");
    txt_add(&p->t, p->html ? "</td>" : " ");
    free(cut);
}

/* One of our own words. */
static void cell_word(page *p, const char *word)
{
    txt_add(&p->t, p->html ? "<td class=\"l\">" : "| ");
    text(p, word);
    txt_add(&p->t, p->html ? "</td>" : " ");
}

static void cell_number(page *p, const cJSON *o, const char *key)
{
    double v = json_num(o, key, NAN);
    txt_add(&p->t, p->html ? "<td class=\"l\">" : "| ");
    if (isfinite(v)) txt_addf(&p->t, "%.4g", v);
    txt_add(&p->t, p->html ? "</td>" : " ");
}

static void row_close(page *p)
{
    txt_add(&p->t, p->html ? "</tr>\n" : "|\n");
}

static void table_close(page *p)
{
    txt_add(&p->t, p->html ? "</tbody></table></div>\n" : "\n");
}

/* ---- a data set ------------------------------------------------------------------------------ */
static void divergence(page *p, const cJSON *kl)
{
    char line[320];
    if (!json_get(kl, "mean")) return;
    snprintf(line, sizeof line,
             "Predictions: divergence from the base %.4g nats a token (± %.2g; median %.3g, 99th "
             "percentile %.3g, largest %.3g), the same likeliest token in %.2f %% of %.0f (%.0f "
             "flips).",
             json_num(kl, "mean", 0), json_num(kl, "stderr", 0), json_num(kl, "median", 0),
             json_num(kl, "p99", 0), json_num(kl, "max", 0), 100 * json_num(kl, "same_top", 0),
             json_num(kl, "tokens", 0), json_num(kl, "flips", 0));
    paragraph(p, line);
}

static void groups(page *p, const cJSON *list)
{
    const cJSON *by, *g;
    cJSON_ArrayForEach(by, list)
    {
        const char *columns[] = {json_str(by, "by", ""), "items", "lost", "gained",
                                 "difference",           NULL};
        table_open(p, columns);
        cJSON_ArrayForEach(g, json_get(by, "groups"))
        {
            row_open(p);
            cell(p, json_str(g, "name", ""));
            cell_number(p, g, "n");
            cell_number(p, g, "lost");
            cell_number(p, g, "gained");
            cell_number(p, g, "difference");
            row_close(p);
        }
        table_close(p);
    }
}

static void changed_items(page *p, const cJSON *list)
{
    static const char *const columns[] = {"item",          "change",         "question",
                                          "base's answer", "model's answer", NULL};
    static const char *const losses[] = {"window", "change", "base's loss", "model's loss", NULL};
    const cJSON *d;
    if (!cJSON_GetArraySize(list)) return;
    int text_set = !json_get(list->child, "base_answer");
    table_open(p, text_set ? losses : columns);
    cJSON_ArrayForEach(d, list)
    {
        row_open(p);
        cell_number(p, d, "i");
        cell_word(p, json_str(d, "change", ""));
        if (text_set) {
            cell_number(p, d, "base");
            cell_number(p, d, "model");
        } else {
            cell(p, json_str(d, "question", ""));
            cell(p, json_str(d, "base_answer", ""));
            cell(p, json_str(d, "model_answer", ""));
        }
        row_close(p);
    }
    table_close(p);
}

static void data_set(page *p, const cJSON *set)
{
    if (p->html) txt_add(&p->t, "<section>");
    heading(p, 2, set->string);
    paragraph(p, json_str(set, "summary", ""));
    divergence(p, json_get(set, "kl"));
    if (cJSON_GetArraySize(json_get(set, "groups"))) {
        heading(p, 3, "Where");
        groups(p, json_get(set, "groups"));
    }
    if (cJSON_GetArraySize(json_get(set, "differ"))) {
        heading(p, 3, "Items that changed");
        changed_items(p, json_get(set, "differ"));
    }
    if (p->html) txt_add(&p->t, "</section>\n");
}

/* ---- generations ----------------------------------------------------------------------------- */
/* The text, its part from `from` on marked. */
static void marked(page *p, const char *whole, size_t from)
{
    size_t n = strlen(whole);
    char *head = strndup(whole, from < n ? from : n);
    txt_add(&p->t, p->html ? "<pre>" : "");
    text(p, head ? head : "");
    if (from < n) {
        txt_add(&p->t, p->html ? "<mark>" : " **⟦** ");
        text(p, whole + from);
        txt_add(&p->t, p->html ? "</mark>" : "");
    }
    txt_add(&p->t, p->html ? "</pre>" : "\n");
    free(head);
}

static void failures(page *p, const cJSON *side)
{
    const cJSON *f;
    cJSON_ArrayForEach(f, json_get(side, "failures"))
    {
        txt_add(&p->t, p->html ? " <b class=\"worse\">" : " **");
        text(p, cJSON_IsString(f) ? f->valuestring : "");
        txt_add(&p->t, p->html ? "</b>" : "**");
    }
}

static void generation(page *p, const cJSON *pair, const char *key, const char *title)
{
    const cJSON *side = json_get(pair, key);
    int same = json_bool(pair, "same", 0);
    const char *whole = json_str(side, "text", "");
    size_t from = same ? strlen(whole) : (size_t)json_int(pair, "common_bytes", 0);
    txt_add(&p->t, p->html ? "<h4>" : "- ");
    text(p, title);
    failures(p, side);
    txt_add(&p->t, p->html ? "</h4>" : ": ");
    marked(p, whole, from);
}

static void all_generations(page *p, const cJSON *g)
{
    const cJSON *pair;
    char line[400];
    if (!json_get(g, "n")) return;
    if (p->html) txt_add(&p->t, "<section>");
    heading(p, 2, "Generations");
    snprintf(line, sizeof line,
             "%.0f prompts, greedy: %.0f texts are the same, on average %.0f %% of the tokens come "
             "before the first difference (marked). Failures that the base has not: %.0f loops, "
             "%.0f incoherent, %.0f empty.",
             json_num(g, "n", 0), json_num(g, "same", 0),
             100 * json_num(g, "mean_share_before_difference", 0),
             json_num(json_get(g, "loop"), "new", 0), json_num(json_get(g, "incoherent"), "new", 0),
             json_num(json_get(g, "empty"), "new", 0));
    paragraph(p, line);
    cJSON_ArrayForEach(pair, json_get(g, "pairs"))
    {
        heading(p, 3, json_str(pair, "prompt", ""));
        generation(p, pair, "base", json_bool(pair, "same", 0) ? "both" : "base");
        if (!json_bool(pair, "same", 0)) generation(p, pair, "model", "model");
    }
    if (p->html) txt_add(&p->t, "</section>\n");
}

/* ---- the whole ------------------------------------------------------------------------------- */
static char *make(const cJSON *j, int html)
{
    page p = {.html = html};
    const cJSON *set;
    if (html) {
        txt_add(&p.t, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
                      "name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
        text(&p, json_str(j, "model", ""));
        txt_add(&p.t, " - comparison</title>\n<style>");
        txt_add(&p.t, report_style);
        txt_add(&p.t, "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
                      "mark{background:var(--accent-soft);color:inherit}h4{margin:12px 0 4px}"
                      "</style></head><body><header><h1>comparison</h1><p class=\"answer\">");
    } else {
        txt_add(&p.t, "# ");
    }
    text(&p, json_str(j, "model", ""));
    txt_add(&p.t, " against ");
    text(&p, json_str(j, "base", ""));
    txt_add(&p.t, html ? "</p></header>\n<main>\n" : "\n");
    cJSON_ArrayForEach(set, json_get(j, "comparisons")) data_set(&p, set);
    all_generations(&p, json_get(j, "generations"));
    if (html) txt_add(&p.t, "</main></body></html>\n");
    return txt_take(&p.t);
}

char *compare_markdown(const cJSON *comparison)
{
    return make(comparison, 0);
}

char *compare_html(const cJSON *comparison)
{
    return make(comparison, 1);
}
