/* markdown.c - report.md: the same facts for terminals, mail and version control. */
#include "report/chart.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void row(txt *t, const facts *f, const char *number, const char *label, const cJSON *m,
                int dense, const char *path)
{
    char ratio[32] = "1";
    double r = json_num(f->dense, "bytes", NAN) / json_num(m, "bytes", NAN);
    if (!dense) snprintf(ratio, sizeof ratio, isfinite(r) ? "%.2fx" : "-", r);
    txt_addf(t, "| %s | ", number);
    txt_md(t, label);
    txt_addf(t, " | %s | %s | %s | %s | %s | %s | %s | %s | ",
             show_pm(json_num(m, "quality", NAN), json_num(m, "quality_stderr", NAN)).s,
             dense ? "-" : show_drop(f, m).s, show_value(json_num(m, "perplexity", NAN)).s,
             show_bytes(json_num(m, "bytes", NAN)).s, ratio,
             show_bytes(json_num(m, "memory_bytes", NAN)).s, show_ms(json_num(m, "ttft_ms", NAN)).s,
             show_ms(json_num(m, "tpot_ms", NAN)).s);
    txt_md(t, path);
    txt_add(t, " |\n");
}

static void front(txt *t, const facts *f)
{
    points p;
    char number[16];
    points_make(f, &p);
    txt_add(t, "## The front\n\n| # | strategy | ");
    txt_md(t, f->metric);
    txt_add(
        t,
        " | to dense, 95 % | perplexity | file | smaller | peak memory | first token | per token | "
        "checkpoint |\n"
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
    if (f->dense) row(t, f, "", "dense model", f->dense, 1, "");
    for (int i = 0; i < p.n && p.at[i].kind == POINT_FRONT; i++) {
        snprintf(number, sizeof number, "%d", p.at[i].number);
        row(t, f, number, member_label(p.at[i].trial), p.at[i].metrics, 0,
            member_unexported(p.at[i].trial) ? "not exported"
                                             : json_str(p.at[i].trial, "path", ""));
    }
    if (!f->n_members) txt_add(t, "\nThe front is empty.\n");
    points_free(&p);
}

static void lines(txt *t, char *const *items, int n)
{
    for (int i = 0; i < n; i++) {
        txt_add(t, "- ");
        txt_md(t, items[i]);
        txt_add(t, "\n");
    }
}

static void trials(txt *t, const facts *f)
{
    const cJSON *trial;
    txt_addf(
        t,
        "\n## Trials\n\n%lld proposed: %lld refused before the start, %lld failed, %lld stopped by "
        "the "
        "proxy, %lld evaluated in full (%lld of them break a constraint), %lld on the front; %s of "
        "work.\n",
        (long long)f->n_trials, (long long)f->n_refused, (long long)f->n_failed,
        (long long)f->n_killed, (long long)f->n_evaluated, (long long)f->n_infeasible,
        (long long)f->n_members, show_seconds(f->seconds).s);
    int n = 0;
    cJSON_ArrayForEach(trial, f->data->trials)
    {
        if (!trial_went_wrong(trial) || n++ >= 100) continue;
        txt_add(t, n == 1 ? "\nWhat failed:\n\n- " : "- ");
        txt_md(t, member_label(trial));
        txt_add(t, ", ");
        txt_md(t, json_str(trial, "outcome", "?"));
        txt_add(t, ": ");
        txt_md(t, json_str(trial, "reason", "no reason was recorded"));
        txt_add(t, "\n");
    }
}

static void unexported(txt *t, const facts *f)
{
    const cJSON *m;
    int n = 0;
    cJSON_ArrayForEach(m, f->members)
    {
        if (!member_unexported(m)) continue;
        txt_add(t, n++ ? "- " : "\nWhat was not exported:\n\n- ");
        txt_md(t, member_label(m));
        txt_add(t, ": ");
        txt_md(t, member_unexported(m));
        txt_add(t, "\n");
    }
}

/* What plugins did besides their work. */
static void manners(txt *t, const facts *f)
{
    cJSON *list = facts_manners(f), *item;
    cJSON_ArrayForEach(item, list)
    {
        txt_add(t, item == list->child ? "\nBad manners of plugins:\n\n- " : "- ");
        txt_md(t, item->string);
        txt_addf(t, " (%g trial%s)\n", item->valuedouble, item->valuedouble == 1 ? "" : "s");
    }
    cJSON_Delete(list);
}

char *report_markdown(const report_data *d)
{
    facts f;
    txt t = {0};
    facts_make(d, &f);
    txt_add(&t, "# ");
    txt_md(&t, f.model);
    txt_add(&t, " on ");
    txt_md(&t, f.dataset);
    txt_add(&t, "\n\n**");
    txt_md(&t, f.answer);
    txt_add(&t, "**\n\n");
    front(&t, &f);
    if (f.balanced) {
        txt_add(&t, "\n## Why ");
        txt_md(&t, member_label(f.balanced));
        txt_add(&t, "\n\n");
        lines(&t, f.why, f.n_why);
    }
    txt_add(&t, "\n## What to try next\n\n");
    lines(&t, f.advice, f.n_advice);
    trials(&t, &f);
    unexported(&t, &f);
    manners(&t, &f);
    txt_add(&t, "\n## Do it again\n\nThe configuration is in `run.json` under `config`:\n\n    sqz "
                "--config "
                "pipeline.json");
    const cJSON *number = json_get(d->run, "seed");
    char *seed = cJSON_IsNumber(number) ? json_text(number, 0) : NULL;
    if (seed) txt_addf(&t, " --seed %s", seed);
    free(seed);
    txt_add(&t, "\n\n`report.html` beside this file has the chart and the layers.\n");
    facts_free(&f);
    return txt_take(&t);
}
