/* html.c - report.html, section by section, in the order in which a reader asks.
 *
 * Everything is there without JavaScript; axis and visibility switches are plain form controls and
 * CSS.  Every string of the run goes through txt_html or txt_script_json. */
#include "report/html.h"
#include "io/file.h"
#include "report/chart.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 600, MAX_HEAT_MEMBERS = 8, MAX_HEAT_LAYERS = 128, MAX_ROLES = 16 };

static const char csp[] =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'";

static const cJSON *metrics_of(const cJSON *m)
{
    return json_get(m, "metrics");
}
static double metric(const cJSON *m, const char *key)
{
    return json_num(metrics_of(m), key, NAN);
}

/* Perplexity stands beside another quality measure where it was measured. */
static int has_perplexity(const facts *f)
{
    return strcmp(f->metric, "perplexity") != 0 &&
           (isfinite(json_num(f->dense, "perplexity", NAN)) ||
            (f->balanced && isfinite(metric(f->balanced, "perplexity"))));
}

/* ---- head, answer, tiles --------------------------------------------------------------------- */
static void head(txt *t, const facts *f)
{
    txt_addf(t,
             "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"%s\">\n"
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
             "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
             csp);
    txt_html(t, f->model);
    txt_add(t, " on ");
    txt_html(t, f->dataset);
    txt_add(t, ": sqz report</title>\n<style>");
    txt_add(t, report_style);
    txt_add(t, "</style></head>\n<body>\n");
}

static void tile(txt *t, const char *value, const char *what)
{
    txt_add(t, "<li><b>");
    txt_html(t, value);
    txt_add(t, "</b><span>");
    txt_html(t, what);
    txt_add(t, "</span></li>\n");
}

static void tiles(txt *t, const facts *f)
{
    char count[64], ratio[32];
    txt_add(t, "<ul class=tiles>");
    snprintf(count, sizeof count, "%lld", (long long)f->n_members);
    tile(t, count, "models on the front");
    if (f->aggressive && f->dense) {
        snprintf(ratio, sizeof ratio, "%.1f\u00d7",
                 json_num(f->dense, "bytes", NAN) / metric(f->aggressive, "bytes"));
        if (isfinite(metric(f->aggressive, "bytes"))) tile(t, ratio, "smaller at most");
    }
    if (f->dense && isfinite(json_num(f->dense, "quality", NAN)))
        tile(t, show_value(json_num(f->dense, "quality", NAN)).s, "dense quality");
    snprintf(count, sizeof count, "%lld", (long long)f->n_trials);
    tile(t, count, f->n_trials == 1 ? "trial" : "trials");
    if (f->seconds > 0) tile(t, show_seconds(f->seconds).s, "of work");
    txt_add(t, "</ul>\n");
}

static void top(txt *t, const facts *f)
{
    txt_add(t, "<header><h1>");
    txt_html(t, f->model);
    txt_add(t, " on ");
    txt_html(t, f->dataset);
    txt_add(t, "</h1>\n<p class=answer>");
    txt_html(t, f->answer);
    txt_add(t, "</p>\n");
    tiles(t, f);
    txt_add(
        t, "<nav aria-label=\"Sections\"><a href=\"#models\">Models</a><a href=\"#front\">Front</a>"
           "<a href=\"#table\">Table</a><a href=\"#dense\">Against dense</a>"
           "<a href=\"#why\">Why and what next</a><a href=\"#layers\">Layers</a>"
           "<a href=\"#trials\">Trials</a><a href=\"#again\">Do it "
           "again</a></nav></header>\n<main>\n");
    if (f->state[0] && strcmp(f->state, "done") != 0 && strcmp(f->state, "finished") != 0 &&
        strcmp(f->state, "ok") != 0) {
        txt_add(t, "<section><p><b>This run is not complete</b> (state: ");
        txt_html(t, f->state);
        txt_add(t, "). What was measured until then is shown.</p></section>\n");
    }
}

/* ---- recommended checkpoints ----------------------------------------------------------------- */
static void pair_row(txt *t, const char *name, const char *value)
{
    txt_add(t, "<dt>");
    txt_html(t, name);
    txt_add(t, "</dt><dd>");
    txt_html(t, value);
    txt_add(t, "</dd>");
}

/* The fenced code blocks of the exporter's README: how to load the checkpoint elsewhere. */
static void load_commands(txt *t, const cJSON *m)
{
    const char *readme = json_str(m, "x-readme", ""), *path = json_str(m, "path", "");
    txt commands = {0};
    for (const char *at = strstr(readme, "```"); at;) {
        const char *begin = strchr(at, '\n'), *end = begin ? strstr(begin, "\n```") : NULL;
        if (!end) break;
        txt_addf(&commands, "%.*s\n", (int)(end - begin - 1), begin + 1);
        at = strstr(end + 4, "```");
    }
    if (!commands.n && *path) txt_addf(&commands, "sqz generate %s --prompt \"...\"", path);
    if (commands.n) {
        char *text = txt_take(&commands);
        txt_add(t, "<details><summary>Load it</summary><pre>");
        txt_html(t, text);
        txt_add(t, "</pre></details>");
        free(text);
    }
    free(commands.data);
}

static void card(txt *t, const facts *f, const cJSON *m)
{
    const char *path = json_str(m, "path", ""), *digest = json_str(m, "artifact", "");
    double ratio = json_num(f->dense, "bytes", NAN) / metric(m, "bytes");
    char text[64];
    txt_addf(t, "<article class=\"pickcard%s\">", m == f->balanced ? " best" : "");
    if (m == f->balanced) txt_add(t, "<span class=tag>Recommended</span>");
    if (m == f->conservative) txt_add(t, "<span class=tag>Best quality</span>");
    if (m == f->aggressive) txt_add(t, "<span class=tag>Smallest</span>");
    txt_add(t, "<h3>");
    txt_html(t, member_label(m));
    txt_add(t, "</h3><dl>");
    pair_row(t, "file", show_bytes(metric(m, "bytes")).s);
    snprintf(text, sizeof text, "%.2f\u00d7", ratio);
    if (isfinite(ratio)) pair_row(t, "smaller", text);
    pair_row(t, f->metric, show_pm(metric(m, "quality"), metric(m, "quality_stderr")).s);
    if (f->dense) pair_row(t, "to dense (95 %)", show_drop(f, metrics_of(m)).s);
    if (isfinite(metric(m, "tpot_ms"))) pair_row(t, "per token", show_ms(metric(m, "tpot_ms")).s);
    if (isfinite(metric(m, "memory_bytes")))
        pair_row(t, "peak memory", show_bytes(metric(m, "memory_bytes")).s);
    txt_add(t, "</dl>");
    if (*path) {
        txt_add(t, "<div><a href=\"");
        txt_href(t, path);
        txt_add(t, "\"><code>");
        txt_html(t, path);
        txt_add(t, "</code></a></div>");
    }
    if (*digest) {
        txt_add(t, "<div class=hash><code>");
        txt_html(t, digest);
        txt_add(t, "</code></div>");
    }
    if (member_unexported(m)) {
        txt_add(t, "<div><b>Not exported</b>: ");
        txt_html(t, member_unexported(m));
        txt_add(t, "</div>");
    }
    load_commands(t, m);
    txt_add(t, "</article>\n");
}

static void picks(txt *t, const facts *f)
{
    txt_add(t, "<section id=models><h2>Recommended models</h2>");
    if (!f->balanced) txt_add(t, "<p>There is no model to recommend.</p>");
    txt_add(t, "<div class=picks>");
    if (f->balanced) card(t, f, f->balanced);
    if (f->conservative && f->conservative != f->balanced) card(t, f, f->conservative);
    if (f->aggressive && f->aggressive != f->balanced && f->aggressive != f->conservative)
        card(t, f, f->aggressive);
    txt_add(t, "</div></section>\n");
}

/* ---- the chart ------------------------------------------------------------------------------- */
static void legend(txt *t, const facts *f, const points *p)
{
    txt_add(
        t,
        "<ul class=legend><li class=front><svg viewBox=\"0 0 18 18\" aria-hidden=true>"
        "<circle class=mark cx=9 cy=9 r=7 /></svg>on the front, with 95 % interval; numbers as in "
        "the table</li>");
    txt_add(
        t,
        "<li><svg viewBox=\"0 0 18 18\" aria-hidden=true><circle class=ring cx=9 cy=9 r=7 /></svg>"
        "recommended</li>");
    int kinds[3] = {0};
    for (int i = 0; i < p->n; i++) kinds[p->at[i].kind]++;
    if (kinds[POINT_DOMINATED])
        txt_addf(
            t,
            "<li class=dominated><svg viewBox=\"0 0 18 18\" aria-hidden=true><circle class=mark "
            "cx=9 cy=9 r=5 /></svg>beaten by another (%d%s)</li>",
            kinds[POINT_DOMINATED], p->thinned ? " drawn" : "");
    if (kinds[POINT_INFEASIBLE])
        txt_addf(
            t,
            "<li class=infeasible><svg viewBox=\"0 0 18 18\" aria-hidden=true><path class=mark "
            "d=\"M9 2 l7 7 l-7 7 l-7 -7 Z\"/></svg>breaks a constraint (%d)</li>",
            kinds[POINT_INFEASIBLE]);
    if (f->dense)
        txt_add(
            t, "<li class=dense><svg viewBox=\"0 0 18 18\" aria-hidden=true><rect x=4 y=4 width=10 "
               "height=10 /></svg>dense model</li>");
    txt_add(t, "</ul>");
    if (p->thinned)
        txt_addf(
            t, "<p class=soft>%lld more beaten trials are not drawn; they are in trials.jsonl.</p>",
            (long long)p->thinned);
}

static void front(txt *t, const facts *f, const points *p)
{
    axis axes[MAX_AXES];
    int n = chart_axes(f, p, axes);
    txt_add(t, "<section id=front><h2>The front</h2>");
    if (!n) {
        txt_add(t, "<p>No trial was measured far enough to draw it.</p></section>\n");
        return;
    }
    txt_add(t, "<div class=plot>");
    for (int k = 0; k < n; k++) {
        const char *hidden = n > 1 ? "" : " hidden";
        txt_addf(t, "<input type=radio name=ax id=ax%d%s%s><label for=ax%d%s>", k,
                 k ? "" : " checked", hidden, k, hidden);
        if (strcmp(axes[k].y, "quality") != 0) txt_addf(t, "%s and ", axes[k].y_title);
        txt_addf(t, "%s</label>", axes[k].title);
    }
    txt_add(t, "<input type=checkbox id=showd checked><label for=showd>beaten trials</label>"
               "<input type=checkbox id=showi checked><label for=showi>infeasible trials</label>");
    txt_add(t, "<div class=fig>\n");
    for (int k = 0; k < n; k++) {
        char id[16];
        snprintf(id, sizeof id, "c%d", k);
        chart_svg(t, f, p, &axes[k], id);
    }
    txt_add(t, "<div id=tip hidden></div></div></div>\n");
    legend(t, f, p);
    txt_add(t,
            "<p class=soft>Point at a model, or focus one and use the arrow keys along the front; "
            "Enter goes to its row.</p><p class=sr id=live aria-live=polite></p>");
    chart_progress(t, f);
    txt_add(t, "</section>\n");
}

/* ---- what the script shows beside a point ---------------------------------------------------- */
static void detail(cJSON *rows, const char *name, const char *value)
{
    if (!*value || strcmp(value, "-") == 0) return;
    cJSON *pair = cJSON_CreateArray();
    cJSON_AddItemToArray(pair, cJSON_CreateString(name));
    cJSON_AddItemToArray(pair, cJSON_CreateString(value));
    cJSON_AddItemToArray(rows, pair);
}

static void detail_steps(cJSON *rows, const cJSON *trial)
{
    const cJSON *step, *p;
    cJSON_ArrayForEach(step, json_get(trial, "steps"))
    {
        detail(rows, "step", json_str(step, "use", "?"));
        cJSON_ArrayForEach(p, json_get(step, "with"))
        {
            char *v = cJSON_IsString(p) ? path_format("%s", p->valuestring) : json_text(p, 0);
            const char *who = json_str(json_get(step, "origin"), p->string, "");
            char *text =
                path_format("%s%s%s%s", v ? v : "", *who ? " (" : "", who, *who ? ")" : "");
            /* Defaults would make the card longer than the chart. */
            if (strcmp(who, "default") != 0) detail(rows, p->string, text);
            free(text);
            free(v);
        }
    }
}

static void point_details(txt *t, const facts *f, const points *p)
{
    cJSON *all = cJSON_CreateArray();
    for (int i = 0; i < p->n; i++) {
        const cJSON *m = p->at[i].metrics, *trial = p->at[i].trial;
        cJSON *o = cJSON_CreateObject(), *rows;
        cJSON_AddItemToArray(all, o);
        cJSON_AddStringToObject(o, "label", member_label(trial));
        rows = cJSON_AddArrayToObject(o, "rows");
        detail(rows, f->metric,
               show_pm(json_num(m, "quality", NAN), json_num(m, "quality_stderr", NAN)).s);
        if (f->dense) detail(rows, "to dense", show_drop(f, m).s);
        if (has_perplexity(f))
            detail(rows, "perplexity", show_value(json_num(m, "perplexity", NAN)).s);
        detail(rows, "file", show_bytes(json_num(m, "bytes", NAN)).s);
        detail(rows, "bits a weight", show_value(json_num(m, "effective_bits_per_weight", NAN)).s);
        detail(rows, "peak memory", show_bytes(json_num(m, "memory_bytes", NAN)).s);
        detail(rows, "first token", show_ms(json_num(m, "ttft_ms", NAN)).s);
        detail(rows, "per token", show_ms(json_num(m, "tpot_ms", NAN)).s);
        detail(rows, "reward", show_value(json_num(m, "reward", NAN)).s);
        detail_steps(rows, trial);
        detail(rows, "checkpoint", json_str(trial, "path", ""));
        const cJSON *v = json_get(trial, "violations");
        if (cJSON_IsArray(v) && cJSON_IsString(v->child))
            detail(rows, "breaks", v->child->valuestring);
    }
    txt_add(t, "<script type=\"application/json\" id=\"points\">");
    txt_script_json(t, all);
    txt_add(t, "</script>\n");
    cJSON_Delete(all);
}

/* ---- the table ------------------------------------------------------------------------------- */
static void cell(txt *t, const char *text)
{
    txt_add(t, "<td>");
    txt_html(t, text);
    txt_add(t, "</td>");
}

static void metric_cells(txt *t, const facts *f, const cJSON *m, int dense)
{
    char ratio[32] = "1";
    double r = json_num(f->dense, "bytes", NAN) / json_num(m, "bytes", NAN), se,
           drop = quality_drop(f, m, &se);
    if (!dense) snprintf(ratio, sizeof ratio, isfinite(r) ? "%.2f\u00d7" : "-", r);
    cell(t, show_pm(json_num(m, "quality", NAN), json_num(m, "quality_stderr", NAN)).s);
    txt_addf(t, "<td class=%s>",
             dense || !isfinite(drop) || !(fabs(drop) > 1.96 * fmax(0, isfinite(se) ? se : 0))
                 ? "soft"
             : drop > 0 ? "worse"
                        : "better");
    txt_html(t, dense ? "-" : show_drop(f, m).s);
    txt_add(t, "</td>");
    if (has_perplexity(f)) cell(t, show_value(json_num(m, "perplexity", NAN)).s);
    cell(t, show_bytes(json_num(m, "bytes", NAN)).s);
    cell(t, ratio);
    cell(t, show_value(json_num(m, "effective_bits_per_weight", NAN)).s);
    cell(t, show_bytes(json_num(m, "memory_bytes", NAN)).s);
    cell(t, show_ms(json_num(m, "ttft_ms", NAN)).s);
    cell(t, show_ms(json_num(m, "tpot_ms", NAN)).s);
    cell(t, show_value(json_num(m, "reward", NAN)).s);
}

static void member_row(txt *t, const facts *f, const point *p)
{
    const cJSON *m = p->trial;
    const char *path = json_str(m, "path", "");
    txt_addf(t, "<tr data-i=%d%s><td>%d</td><td class=\"l w\">", p->index,
             m == f->balanced ? " class=best" : "", p->number);
    txt_html(t, member_label(m));
    txt_add(t, "</td>");
    metric_cells(t, f, p->metrics, 0);
    txt_add(t, "<td class=l>");
    if (*path) {
        txt_add(t, "<a href=\"");
        txt_href(t, path);
        txt_add(t, "\">");
        txt_html(t, json_str(m, "strategy_id", path));
        txt_add(t, "</a>");
    } else {
        txt_html(t, json_str(m, "strategy_id", "-"));
        if (member_unexported(m)) txt_add(t, ", not exported");
    }
    txt_add(t, "</td></tr>\n");
}

static void table(txt *t, const facts *f, const points *p)
{
    txt_add(t,
            "<section id=table><h2>All models of the front</h2><div class=scroll tabindex=0 "
            "role=region "
            "aria-label=\"Models of the front\"><table><thead><tr><th>#<th class=l>strategy<th>");
    txt_html(t, f->metric);
    txt_add(t, "<th>to dense, 95 %");
    if (has_perplexity(f)) txt_add(t, "<th>perplexity");
    txt_add(t, "<th>file<th>smaller<th>bits a weight<th>peak memory<th>first token"
               "<th>per token<th>reward<th class=l>checkpoint</tr></thead><tbody>\n");
    if (f->dense) {
        txt_add(t, "<tr class=dense><td></td><td class=\"l w\">dense model</td>");
        metric_cells(t, f, f->dense, 1);
        txt_add(t, "<td class=l>-</td></tr>\n");
    }
    for (int i = 0; i < p->n && p->at[i].kind == POINT_FRONT; i++) member_row(t, f, &p->at[i]);
    txt_add(t, "</tbody></table></div>\n");
    if (!f->n_members) txt_add(t, "<p>The front is empty.</p>");
    txt_add(t, "</section>\n");
}

/* ---- against the dense model ----------------------------------------------------------------- */
static void compare_row(txt *t, const facts *f, const cJSON *const *columns, int n,
                        const char *name, const char *key, num (*show)(double), int higher)
{
    double d = json_num(f->dense, key, NAN);
    int any = 0;
    for (int i = 0; i < n; i++) any |= isfinite(metric(columns[i], key));
    if (!any) return;
    txt_add(t, "<tr><td class=l>");
    txt_html(t, name);
    txt_add(t, "</td>");
    cell(t, show(d).s);
    for (int i = 0; i < n; i++) {
        double v = metric(columns[i], key), change = v / d - 1;
        cell(t, show(v).s);
        if (!isfinite(change)) {
            txt_add(t, "<td class=soft>-</td>");
            continue;
        }
        txt_addf(t, "<td class=%s>%+.1f %%</td>",
                 fabs(change) < 5e-4      ? "soft"
                 : (change > 0) == higher ? "better"
                                          : "worse",
                 100 * change);
    }
    txt_add(t, "</tr>\n");
}

static void against(txt *t, const facts *f)
{
    const cJSON *columns[3];
    int n = 0;
    txt_add(t, "<section id=dense><h2>Against the dense model</h2>");
    if (f->balanced) columns[n++] = f->balanced;
    if (f->conservative && f->conservative != f->balanced) columns[n++] = f->conservative;
    if (f->aggressive && f->aggressive != f->balanced && f->aggressive != f->conservative)
        columns[n++] = f->aggressive;
    if (!f->dense || !n) {
        txt_add(t, "<p>There is nothing to compare yet.</p></section>\n");
        return;
    }
    txt_add(
        t,
        "<div class=scroll tabindex=0 role=region aria-label=\"Comparison with the dense model\">"
        "<table><thead><tr><th class=l>measure<th>dense");
    for (int i = 0; i < n; i++) {
        txt_add(t, "<th colspan=2>");
        txt_html(t, member_label(columns[i]));
    }
    txt_add(t, "</tr></thead><tbody>\n");
    compare_row(t, f, columns, n, f->metric, "quality", show_value, f->higher);
    if (strcmp(f->metric, "perplexity") != 0)
        compare_row(t, f, columns, n, "perplexity", "perplexity", show_value, 0);
    compare_row(t, f, columns, n, "file", "bytes", show_bytes, 0);
    compare_row(t, f, columns, n, "peak memory", "memory_bytes", show_bytes, 0);
    compare_row(t, f, columns, n, "time to first token", "ttft_ms", show_ms, 0);
    compare_row(t, f, columns, n, "time per token", "tpot_ms", show_ms, 0);
    compare_row(t, f, columns, n, "tokens per second", "throughput_tokens_per_second", show_value,
                1);
    compare_row(t, f, columns, n, "energy, J per 1k tokens", "energy_j_per_1k_tokens", show_value,
                0);
    compare_row(t, f, columns, n, "CO\u2082, g per 1k tokens", "co2_g_per_1k_tokens", show_value,
                0);
    txt_add(t, "</tbody></table></div>");
    if (strcmp(json_str(f->dense, "energy_origin", ""), "estimate") == 0)
        txt_add(t, "<p class=soft>Energy and CO\u2082 are estimates: this machine has no power "
                   "counter that can "
                   "be read.</p>");
    txt_add(t, "</section>\n");
}

/* ---- every data set -------------------------------------------------------------------------- */
static int is_plain_metric(const cJSON *m)
{
    static const char *const other[] = {"n", "seconds", "tokens_per_second", "tokens", "windows"};
    size_t n = strlen(m->string);
    if (!cJSON_IsNumber(m) || (n > 7 && strcmp(m->string + n - 7, "_stderr") == 0)) return 0;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strcmp(m->string, other[i]) == 0) return 0;
    return 1;
}

static const cJSON *full_results(const cJSON *trial)
{
    return json_get(json_get(json_get(trial, "rungs"), "full"), "results");
}

static void result_row(txt *t, const char *label, const cJSON *columns, const cJSON *trial,
                       int dense)
{
    const cJSON *task, *m;
    txt_addf(t, "<tr%s><td class=\"l w\">", dense ? " class=dense" : "");
    txt_html(t, label);
    txt_add(t, "</td>");
    cJSON_ArrayForEach(task, columns) cJSON_ArrayForEach(m, task) if (is_plain_metric(m))
    {
        char *key = path_format("%s_stderr", m->string);
        const cJSON *have = json_get(full_results(trial), task->string);
        cell(t, show_pm(json_num(have, m->string, NAN), json_num(have, key, NAN)).s);
        free(key);
    }
    txt_add(t, "</tr>\n");
}

static void evaluations(txt *t, const facts *f, const points *p)
{
    const cJSON *baseline = NULL, *trial, *task, *m;
    cJSON_ArrayForEach(trial, f->data->trials) if (is_baseline(trial)) baseline = trial;
    const cJSON *columns = full_results(baseline);
    if (!columns && f->n_members) columns = full_results(facts_trial(f, p->at[0].trial));
    if (!cJSON_GetArraySize(columns)) return;
    txt_add(t, "<section id=evals><h2>Every data set</h2><div class=scroll tabindex=0 role=region "
               "aria-label=\"Results on every data set\"><table><thead><tr><th class=l>model");
    cJSON_ArrayForEach(task, columns) cJSON_ArrayForEach(m, task) if (is_plain_metric(m))
    {
        txt_add(t, "<th>");
        txt_html(t, task->string);
        txt_add(t, "<br>");
        txt_html(t, m->string);
    }
    txt_add(t, "</tr></thead><tbody>\n");
    if (baseline) result_row(t, "dense model", columns, baseline, 1);
    for (int i = 0; i < p->n && p->at[i].kind == POINT_FRONT; i++)
        result_row(t, member_label(p->at[i].trial), columns, facts_trial(f, p->at[i].trial), 0);
    txt_add(t, "</tbody></table></div><p class=soft>\u00b1 is one standard error.</p></section>\n");
}

/* ---- why, next ------------------------------------------------------------------------------- */
static void list(txt *t, char *const *lines, int n)
{
    txt_add(t, "<ul class=plain>");
    for (int i = 0; i < n; i++) {
        txt_add(t, "<li>");
        txt_html(t, lines[i]);
        txt_add(t, "</li>\n");
    }
    txt_add(t, "</ul>");
}

static void why(txt *t, const facts *f)
{
    txt_add(t, "<section id=why>");
    if (f->balanced) {
        txt_add(t, "<h2>Why ");
        txt_html(t, member_label(f->balanced));
        txt_add(t, "</h2>");
        list(t, f->why, f->n_why);
    }
    txt_add(t, "<h2>What to try next</h2>");
    list(t, f->advice, f->n_advice);
    txt_add(t, "</section>\n");
}

/* ---- layers ---------------------------------------------------------------------------------- */
/* "model.layers.3.mlp.up_proj" -> 3 and "mlp.up_proj"; -1 outside the blocks. */
static int split_layer(const char *name, const char **role)
{
    const char *dot = strstr(name, ".layers.");
    char *end = NULL;
    long block = dot ? strtol(dot + 8, &end, 10) : -1;
    *role = end && *end == '.' ? end + 1 : name;
    return dot && block >= 0 && block < MAX_HEAT_LAYERS ? (int)block : -1;
}

typedef struct heat {
    const char *roles[MAX_ROLES];
    int n_roles, n_blocks;
    double lo, hi; /* relative errors over all members, log scale */
} heat;

static int role_index(heat *h, const char *role, int add)
{
    for (int i = 0; i < h->n_roles; i++)
        if (strcmp(h->roles[i], role) == 0) return i;
    if (!add || h->n_roles == MAX_ROLES) return -1;
    h->roles[h->n_roles] = role;
    return h->n_roles++;
}

static const cJSON *layers_of(const facts *f, const point *p)
{
    return json_get(json_get(facts_trial(f, p->trial), "steps_result"), "layers");
}

static void heat_range(heat *h, const cJSON *layers)
{
    const cJSON *l;
    cJSON_ArrayForEach(l, layers)
    {
        const char *role;
        int block = split_layer(json_str(l, "name", ""), &role);
        double e = json_num(l, "relative_error", NAN);
        if (block < 0 || role_index(h, role, 1) < 0) continue;
        if (block >= h->n_blocks) h->n_blocks = block + 1;
        if (!(e > 0)) continue;
        if (!(h->lo <= e)) h->lo = e;
        if (!(h->hi >= e)) h->hi = e;
    }
}

static void heat_table(txt *t, heat *h, const cJSON *layers)
{
    const cJSON **grid = calloc((size_t)h->n_blocks * (size_t)h->n_roles + 1, sizeof *grid), *l;
    const char *role;
    if (!grid) memory_failed("the report");
    cJSON_ArrayForEach(l, layers)
    {
        int block = split_layer(json_str(l, "name", ""), &role), r = role_index(h, role, 0);
        if (block >= 0 && block < h->n_blocks && r >= 0) grid[block * h->n_roles + r] = l;
    }
    txt_add(t, "<div class=scroll tabindex=0 role=region aria-label=\"Bits and error per "
               "layer\"><table class=heat>"
               "<thead><tr><th>block");
    for (int r = 0; r < h->n_roles; r++) {
        txt_add(t, "<th>");
        const char *dot = strrchr(h->roles[r], '.');
        txt_html(t, dot ? dot + 1 : h->roles[r]);
    }
    txt_add(t, "</tr></thead><tbody>\n");
    for (int b = 0; b < h->n_blocks; b++) {
        txt_addf(t, "<tr><th>%d", b);
        for (int r = 0; r < h->n_roles; r++) {
            const cJSON *c = grid[b * h->n_roles + r];
            double e = json_num(c, "relative_error", NAN);
            int level =
                e > 0 && h->hi > h->lo ? (int)(7.99 * log(e / h->lo) / log(h->hi / h->lo)) : 0;
            if (!c)
                txt_add(t, "<td class=\"c soft\" title=\"left as it is\">16");
            else
                txt_addf(t, "<td class=\"c h%d\" title=\"relative error %s, group %lld\">%lld",
                         level, show_value(e).s, (long long)json_int(c, "group_size", 0),
                         (long long)json_int(c, "bits", 0));
        }
        txt_add(t, "\n");
    }
    txt_add(t, "</tbody></table></div>");
    free(grid);
}

static void layer_notes(txt *t, const cJSON *layers)
{
    const cJSON *l, *note;
    int n = 0;
    cJSON_ArrayForEach(l, layers)
        cJSON_ArrayForEach(note, json_get(l, "notes")) if (cJSON_IsString(note))
    {
        txt_add(t, n++ ? "<li>" : "<ul class=plain><li>");
        txt_html(t, json_str(l, "name", "?"));
        txt_add(t, ": ");
        txt_html(t, note->valuestring);
    }
    if (n) txt_add(t, "</ul>");
}

static void layers(txt *t, const facts *f, const points *p)
{
    heat h = {.lo = NAN, .hi = NAN};
    int shown = 0;
    txt_add(t, "<section id=layers><h2>Layer by layer</h2>");
    for (int i = 0; i < p->n && p->at[i].kind == POINT_FRONT; i++)
        heat_range(&h, layers_of(f, &p->at[i]));
    if (!h.n_blocks) {
        txt_add(t, "<p>No layer records were kept.</p></section>\n");
        return;
    }
    txt_addf(t,
             "<p>Each cell shows the bits of one linear; the colour is its relative error, from %s "
             "(pale blue) "
             "to %s (red), on one logarithmic scale for all models.</p>",
             show_value(h.lo).s, show_value(h.hi).s);
    for (int i = 0; i < p->n && p->at[i].kind == POINT_FRONT && shown < MAX_HEAT_MEMBERS; i++) {
        const cJSON *list_of = layers_of(f, &p->at[i]);
        if (!cJSON_GetArraySize(list_of)) continue;
        txt_addf(t, "<details%s><summary>%d. ", p->at[i].trial == f->balanced ? " open" : "",
                 p->at[i].number);
        txt_html(t, member_label(p->at[i].trial));
        txt_add(t, "</summary>");
        heat_table(t, &h, list_of);
        layer_notes(t, list_of);
        txt_add(t, "</details>\n");
        shown++;
    }
    if (f->n_members > shown)
        txt_addf(t, "<p class=soft>%lld more models: see metrics.json.</p>",
                 (long long)f->n_members - shown);
    txt_add(t, "</section>\n");
}

/* ---- trials ---------------------------------------------------------------------------------- */
static void funnel_row(txt *t, const char *name, int64_t n, int64_t of, const char *class)
{
    if (!n && *class) return;
    txt_addf(t, "<span>%s</span><i class=\"%s\" style=\"width:%.1f%%\"></i><b>%lld</b>\n", name,
             class, of > 0 ? 100.0 * (double)n / (double)of : 0, (long long)n);
}

static void funnel(txt *t, const facts *f)
{
    int64_t n = f->n_trials;
    txt_add(t, "<div class=funnel>");
    funnel_row(t, "proposed", n, n, "");
    funnel_row(t, "refused before the start", f->n_refused, n, "faint");
    funnel_row(t, "failed", f->n_failed, n, "bad");
    funnel_row(t, "stopped by the proxy", f->n_killed, n, "faint");
    funnel_row(t, "evaluated in full", f->n_evaluated, n, "");
    funnel_row(t, "broke a constraint", f->n_infeasible, n, "bad");
    funnel_row(t, "on the front", f->n_members, n, "");
    txt_add(t, "</div>\n");
}

static void failures(txt *t, const facts *f)
{
    const cJSON *trial;
    int n = 0;
    cJSON_ArrayForEach(trial, f->data->trials)
    {
        if (!trial_went_wrong(trial) || n >= 100) continue;
        txt_add(t, n++ ? "<li>" : "<h3>What failed</h3><ul class=plain><li>");
        txt_html(t, member_label(trial));
        txt_add(t, ", ");
        txt_html(t, json_str(trial, "outcome", "?"));
        txt_add(t, ": ");
        txt_html(t, json_str(trial, "reason", "no reason was recorded"));
        txt_add(t, "</li>\n");
    }
    if (n) txt_add(t, "</ul>");
}

static void unexported(txt *t, const facts *f)
{
    const cJSON *m;
    int n = 0;
    cJSON_ArrayForEach(m, f->members)
    {
        if (!member_unexported(m)) continue;
        txt_add(t, n++ ? "<li>" : "<h3>What was not exported</h3><ul class=plain><li>");
        txt_html(t, member_label(m));
        txt_add(t, ": ");
        txt_html(t, member_unexported(m));
        txt_add(t, "</li>\n");
    }
    if (n) txt_add(t, "</ul>");
}

/* What plugins did besides their work. */
static void manners(txt *t, const facts *f)
{
    cJSON *list = facts_manners(f), *item;
    cJSON_ArrayForEach(item, list)
    {
        txt_add(t, item == list->child ? "<h3>Bad manners of plugins</h3><ul class=plain><li>"
                                       : "<li>");
        txt_html(t, item->string);
        txt_addf(t, " (%g trial%s)</li>\n", item->valuedouble, item->valuedouble == 1 ? "" : "s");
    }
    if (cJSON_GetArraySize(list)) txt_add(t, "</ul>");
    cJSON_Delete(list);
}

static void trial_row(txt *t, const facts *f, const points *p, const cJSON *trial)
{
    const cJSON *m = metrics_of(trial);
    int index = -1;
    for (int i = 0; i < p->n && index < 0; i++)
        if (strcmp(json_str(p->at[i].trial, "strategy_id", ""),
                   json_str(trial, "strategy_id", "?")) == 0)
            index = i;
    txt_add(t, "<tr");
    if (index >= 0) txt_addf(t, " data-i=%d", index);
    txt_add(t, "><td>");
    if (json_get(trial, "index")) txt_addf(t, "%lld", (long long)json_int(trial, "index", 0));
    txt_add(t, "</td><td class=\"l w\">");
    char *steps = describe_steps(json_get(trial, "steps"), 0);
    txt_html(t, is_baseline(trial)              ? "dense model"
                : *json_str(trial, "label", "") ? member_label(trial)
                                                : steps);
    free(steps);
    txt_add(t, "</td><td class=l>");
    txt_html(t, json_str(trial, "outcome", ""));
    if (json_bool(trial, "front", 0))
        txt_add(t, ", front");
    else if (cJSON_IsFalse(json_get(trial, "feasible")))
        txt_add(t, ", infeasible");
    txt_add(t, "</td>");
    cell(t, show_pm(json_num(m, "quality", NAN), json_num(m, "quality_stderr", NAN)).s);
    cell(t, show_bytes(json_num(m, "bytes", NAN)).s);
    cell(t, show_value(json_num(m, "reward", NAN)).s);
    cell(t, show_seconds(json_num(trial, "seconds", NAN)).s);
    txt_add(t, "<td class=\"l w\">");
    txt_html(t, json_str(trial, "proposed_by", json_str(trial, "kind", "")));
    if (*json_str(trial, "why", "")) txt_add(t, ": ");
    txt_html(t, json_str(trial, "why", ""));
    const cJSON *v;
    cJSON_ArrayForEach(v, json_get(trial, "violations")) if (cJSON_IsString(v))
    {
        txt_add(t, "; ");
        txt_html(t, v->valuestring);
    }
    txt_add(t, "</td></tr>\n");
    (void)f;
}

static void trials(txt *t, const facts *f, const points *p)
{
    const cJSON *trial;
    int n = cJSON_GetArraySize(f->data->trials), k = 0;
    txt_add(t, "<section id=trials><h2>What happened to the trials</h2>");
    funnel(t, f);
    failures(t, f);
    unexported(t, f);
    manners(t, f);
    txt_addf(t,
             "<details><summary>All %d trials</summary><div class=scroll tabindex=0 role=region "
             "aria-label=\"All trials\"><table><thead><tr><th>#<th class=l>strategy<th "
             "class=l>outcome<th>",
             n);
    txt_html(t, f->metric);
    txt_add(t, "<th>file<th>reward<th>took<th class=l>proposed by, and why</tr></thead><tbody>\n");
    cJSON_ArrayForEach(trial, f->data->trials) if (k++ < MAX_ROWS) trial_row(t, f, p, trial);
    txt_add(t, "</tbody></table></div>");
    if (n > MAX_ROWS) txt_addf(t, "<p class=soft>%d more are in trials.jsonl.</p>", n - MAX_ROWS);
    txt_add(t, "</details></section>\n");
}

/* ---- reproduction ---------------------------------------------------------------------------- */
static void json_block(txt *t, const char *title, const cJSON *v)
{
    char *text = v ? json_text(v, 1) : NULL;
    if (!text) return;
    txt_add(t, "<details><summary>");
    txt_html(t, title);
    txt_add(t, "</summary><pre>");
    txt_html(t, text);
    txt_add(t, "</pre></details>\n");
    free(text);
}

static void again(txt *t, const facts *f)
{
    const cJSON *r = f->data->run;
    const cJSON *number = json_get(r, "seed");
    char *seed = cJSON_IsNumber(number) ? json_text(number, 0) : NULL;
    txt_add(t, "<section id=again><h2>Do it again</h2><p>Save the complete configuration below as "
               "<code>pipeline.json</code>.</p><pre>sqz --config "
               "pipeline.json");
    if (seed) txt_addf(t, " --seed %s", seed);
    txt_add(t, "</pre>\n");
    free(seed);
    const cJSON *full = json_get(r, "config_full");
    json_block(t, "Configuration, complete", full ? full : json_get(r, "config"));
    if (full) json_block(t, "Configuration as given", json_get(r, "config"));
    json_block(t, "Everything inferred, with its origin", json_get(r, "spec"));
    json_block(t, "Versions", json_get(r, "versions"));
    json_block(t, "Machine and environment",
               f->data->environment ? f->data->environment : json_get(r, "machine"));
    json_block(t, "Objectives and reference point", json_get(f->data->pareto, "objectives"));
    txt_add(t, "</section>\n");
}

char *report_html(const report_data *d)
{
    facts f;
    points p;
    txt t = {0};
    facts_make(d, &f);
    points_make(&f, &p);
    head(&t, &f);
    top(&t, &f);
    picks(&t, &f);
    front(&t, &f, &p);
    table(&t, &f, &p);
    against(&t, &f);
    evaluations(&t, &f, &p);
    why(&t, &f);
    layers(&t, &f, &p);
    trials(&t, &f, &p);
    again(&t, &f);
    txt_add(&t, "</main><footer>Made by sqz ");
    txt_html(&t, SQZ_VERSION);
    txt_add(&t, " from the files beside it; run ");
    txt_html(&t, json_str(d->run, "id", "?"));
    txt_add(&t, ".</footer>\n");
    point_details(&t, &f, &p);
    txt_add(&t, "<script>");
    txt_add(&t, report_script);
    txt_add(&t, "</script>\n</body></html>\n");
    points_free(&p);
    facts_free(&f);
    return txt_take(&t);
}
