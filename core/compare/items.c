/* items.c - one data set, item by item: is the difference real, which items changed, and what have
 * they in common. */
#include "compare/compare.h"
#include "data/data.h"
#include "paired/outcomes.h"
#include "paired/paired.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CHOICES = 64, MOST_GROUPS = 16, MOST_TEXT = 2000 };

/* ---- what a row says ------------------------------------------------------------------------- */
static const char *first_text(const sqz_rows *rows, int64_t i, const char *const *names)
{
    const char *text = NULL;
    for (; *names && !text; names++) text = rows->text(rows, i, *names);
    return text;
}

static const char *question_of(const sqz_rows *rows, int64_t i)
{
    static const char *const names[] = {"question",
                                        "ctx",
                                        "query",
                                        "context",
                                        "sentence",
                                        "goal",
                                        "request.prompt",
                                        "request.context",
                                        "prompt",
                                        "request.document",
                                        NULL};
    return rows && i < rows->n_rows ? first_text(rows, i, names) : NULL;
}

static const char *subject_of(const sqz_rows *rows, int64_t i)
{
    static const char *const names[] = {"subject", "category", "topic", "type", "domain", NULL};
    return rows && i < rows->n_rows ? first_text(rows, i, names) : NULL;
}

/* ---- what a model answered ------------------------------------------------------------------- */
/* The log-likelihoods of the choices in a note "logprobs -1.5 -2 greedy 0 1"; their number. */
static int read_logprobs(const char *note, double out[MOST_CHOICES])
{
    int n = 0;
    if (!note || strncmp(note, "logprobs ", 9) != 0) return 0;
    for (const char *at = note + 8; n < MOST_CHOICES; n++) {
        char *end;
        out[n] = strtod(at, &end);
        if (end == at) break;
        at = end;
    }
    return n;
}

/* How far the likeliest choice is before the next one; NaN when there are no choices. */
static double margin_of(const outcome *o)
{
    double v[MOST_CHOICES], best = -INFINITY, next = -INFINITY;
    int n = read_logprobs(o->note, v);
    for (int k = 0; k < n; k++) {
        if (v[k] > best)
            next = best, best = v[k];
        else if (v[k] > next)
            next = v[k];
    }
    return n > 1 ? best - next : NAN;
}

/* The text of the choice that was picked, else the note as it is. */
static const char *answer_of(const sqz_rows *rows, const outcome *o)
{
    static const char *const lists[] = {"request.choices", "endings", "choices", "context_options"};
    double v[MOST_CHOICES];
    int n = read_logprobs(o->note, v), best = 0;
    for (int k = 1; k < n; k++)
        if (v[k] > v[best]) best = k;
    for (size_t l = 0; l < sizeof lists / sizeof *lists && n > 1 && rows && o->i < rows->n_rows;
         l++)
        if (rows->list_length(rows, o->i, lists[l]) == n)
            return rows->list_text(rows, o->i, lists[l], best);
    return o->note;
}

/* At most MOST_TEXT bytes, cut where a character begins. */
static void add_text(cJSON *o, const char *key, const char *text)
{
    if (!text) return;
    size_t n = strnlen(text, MOST_TEXT + 1);
    if (n > MOST_TEXT) {
        n = MOST_TEXT;
        while (n && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    }
    char *cut = strndup(text, n);
    cJSON_AddStringToObject(o, key, cut ? cut : "");
    free(cut);
}

/* ---- items that changed ---------------------------------------------------------------------- */
static void add_item(cJSON *list, const sqz_rows *rows, const outcome_pairs *p, int64_t k,
                     const char *change)
{
    const outcome *a = p->first[k], *b = p->second[k];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    json_add_num(o, "i", (double)a->i);
    cJSON_AddStringToObject(o, "change", change);
    json_add_num(o, "base", p->a[k]);
    json_add_num(o, "model", p->b[k]);
    add_text(o, "question", question_of(rows, a->i));
    add_text(o, "subject", subject_of(rows, a->i));
    add_text(o, "base_answer", answer_of(rows, a));
    add_text(o, "model_answer", answer_of(rows, b));
    add_text(o, "base_note", a->note);
    add_text(o, "model_note", b->note);
    json_add_num(o, "base_margin", margin_of(a));
    json_add_num(o, "model_margin", margin_of(b));
}

typedef struct change {
    double size;
    int64_t k;
} change;

static int largest_first(const void *a, const void *b)
{
    const change *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return (x->k > y->k) - (x->k < y->k);
}

/* Right and wrong: the first that were lost, then the first that were gained.  Losses: the largest
 * changes. */
static sqz_status add_changes(cJSON *out, const sqz_rows *rows, const outcome_pairs *p, int binary,
                              int64_t show, sqz_error *err)
{
    cJSON *list = cJSON_AddArrayToObject(out, "differ");
    for (int lost = 1; lost >= 0 && binary; lost--)
        for (int64_t k = 0, n = 0; k < p->n && n < show; k++)
            if (lost ? p->a[k] > p->b[k] : p->a[k] < p->b[k]) {
                add_item(list, rows, p, k, lost ? "lost" : "gained");
                n++;
            }
    if (binary) return SQZ_OK;
    change *all = malloc((size_t)p->n * sizeof *all);
    if (!all) return err_set(err, SQZ_E_NOMEM, "no memory to order the items");
    for (int64_t k = 0; k < p->n; k++) all[k] = (change){fabs(p->b[k] - p->a[k]), k};
    qsort(all, (size_t)p->n, sizeof *all, largest_first);
    for (int64_t k = 0; k < p->n && k < show && all[k].size > 0; k++)
        add_item(list, rows, p, all[k].k, p->b[all[k].k] > p->a[all[k].k] ? "worse" : "better");
    free(all);
    return SQZ_OK;
}

/* ---- where ----------------------------------------------------------------------------------- */
typedef struct group {
    char name[96];
    int64_t n, lost, gained;
} group;

static void count(group *g, const outcome_pairs *p, int64_t k)
{
    g->n++;
    g->lost += p->a[k] > p->b[k];
    g->gained += p->a[k] < p->b[k];
}

static void add_groups(cJSON *out, const char *by, const group *g, int n)
{
    int filled = 0;
    for (int i = 0; i < n; i++) filled += g[i].n > 0;
    if (filled < 2) return; /* nothing to tell apart */
    cJSON *o = cJSON_CreateObject(), *list;
    cJSON_AddItemToArray(out, o);
    cJSON_AddStringToObject(o, "by", by);
    list = cJSON_AddArrayToObject(o, "groups");
    for (int i = 0; i < n; i++) {
        if (!g[i].n) continue;
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(list, row);
        cJSON_AddStringToObject(row, "name", g[i].name);
        json_add_num(row, "n", (double)g[i].n);
        json_add_num(row, "lost", (double)g[i].lost);
        json_add_num(row, "gained", (double)g[i].gained);
        json_add_num(row, "difference", (double)(g[i].gained - g[i].lost) / (double)g[i].n);
    }
}

static int most_items_first(const void *a, const void *b)
{
    const group *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* What does not fit is one group, "others". */
static void by_subject(cJSON *out, const sqz_rows *rows, const outcome_pairs *p)
{
    group g[MOST_GROUPS + 1] = {{.name = ""}};
    int n = 0;
    snprintf(g[MOST_GROUPS].name, sizeof g[0].name, "others");
    for (int64_t k = 0; k < p->n; k++) {
        const char *subject = subject_of(rows, p->first[k]->i);
        char name[sizeof g[0].name];
        int i = 0;
        if (!subject) continue;
        snprintf(name, sizeof name, "%s", subject);
        while (i < n && strcmp(g[i].name, name) != 0) i++;
        if (i == n && n < MOST_GROUPS)
            memcpy(g[n++].name, name, sizeof name);
        else if (i == n)
            i = MOST_GROUPS;
        count(&g[i], p, k);
    }
    qsort(g, (size_t)n, sizeof *g, most_items_first);
    if (n < MOST_GROUPS) g[n] = g[MOST_GROUPS];
    add_groups(out, "subject", g, n + 1);
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Three groups of equally many items by a number that each has (NaN: it has none). */
static sqz_status by_thirds(cJSON *out, const char *by, const char *const names[3],
                            const double *value, const outcome_pairs *p, sqz_error *err)
{
    double *sorted = malloc((size_t)(p->n + 1) * sizeof *sorted);
    group g[3] = {{.name = ""}};
    int64_t n = 0;
    if (!sorted) return err_set(err, SQZ_E_NOMEM, "no memory to order the items");
    for (int64_t k = 0; k < p->n; k++)
        if (isfinite(value[k])) sorted[n++] = value[k];
    qsort(sorted, (size_t)n, sizeof *sorted, rising);
    double low = n ? sorted[(n - 1) / 3] : 0, high = n ? sorted[2 * (n - 1) / 3] : 0;
    double bounds[3][2] = {{n ? sorted[0] : 0, low}, {low, high}, {high, n ? sorted[n - 1] : 0}};
    for (int i = 0; i < 3; i++)
        snprintf(g[i].name, sizeof g[i].name, "%s (%.4g to %.4g)", names[i], bounds[i][0],
                 bounds[i][1]);
    for (int64_t k = 0; k < p->n; k++)
        if (isfinite(value[k])) count(&g[value[k] <= low ? 0 : value[k] <= high ? 1 : 2], p, k);
    if (n >= 6) add_groups(out, by, g, 3);
    free(sorted);
    return SQZ_OK;
}

static sqz_status add_where(cJSON *out, const sqz_rows *rows, const outcome_pairs *p,
                            sqz_error *err)
{
    static const char *const lengths[] = {"short", "middle", "long"};
    static const char *const margins[] = {"unsure", "middle", "sure"};
    cJSON *list = cJSON_AddArrayToObject(out, "groups");
    double *length = malloc((size_t)p->n * sizeof *length);
    double *margin = malloc((size_t)p->n * sizeof *margin);
    sqz_status st =
        length && margin ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory to group the items");
    for (int64_t k = 0; k < p->n && !st; k++) {
        const char *question = question_of(rows, p->first[k]->i);
        length[k] = question ? (double)strlen(question) : NAN;
        margin[k] = margin_of(p->first[k]);
    }
    if (!st) by_subject(list, rows, p);
    if (!st) st = by_thirds(list, "length of the question, bytes", lengths, length, p, err);
    if (!st) st = by_thirds(list, "margin of the base's choice, nats", margins, margin, p, err);
    free(length);
    free(margin);
    return st;
}

/* ---- is it real ------------------------------------------------------------------------------ */
/* Of McNemar's test at 5 % with 80 % power, or without m of the t test. */
static double needed_for(double difference, const paired *p, const mcnemar *m)
{
    return m ? mcnemar_items_needed((double)(m->lost + m->gained) / (double)p->n, difference, 0.05,
                                    0.8)
             : paired_items_needed(p->sd, difference, 0.05, 0.8);
}

static void add_summary(cJSON *out, const paired *p, const interval *mean, const mcnemar *m,
                        double wanted)
{
    double needed = needed_for(p->mean, p, m), scale = m ? 100 : 1;
    int real = m ? m->mid < 0.05 : mean->lo > 0 || mean->hi < 0;
    char text[512], how[128] = "";
    int n = snprintf(text, sizeof text, "%s %s by %.4g%s (95 %% interval %+.4g to %+.4g; %lld %s)",
                     m ? "Accuracy" : "Mean loss", mean->mean < 0 ? "falls" : "rises",
                     fabs(mean->mean) * scale, m ? " points" : "", mean->lo * scale,
                     mean->hi * scale, (long long)p->n, m ? "items" : "windows");
    if (m)
        snprintf(how, sizeof how, ", %lld lost and %lld gained: McNemar p %.3g exact, %.3g mid-p",
                 (long long)m->lost, (long long)m->gained, m->exact, m->mid);
    else
        snprintf(how, sizeof how, ", perplexity by a factor of %.5g", exp(mean->mean));
    n += snprintf(text + n, sizeof text - (size_t)n, "%s. ", how);
    size_t room = sizeof text - (size_t)n;
    if (real)
        n += snprintf(text + n, room, "The difference is beyond chance.");
    else if (isfinite(needed))
        n += snprintf(text + n, room,
                      "That may be chance; a test would need about %.10g to see such a difference.",
                      needed);
    else
        n += snprintf(text + n, room, "No difference was seen.");
    double items = wanted > 0 ? needed_for(wanted, p, m) : NAN;
    if (isfinite(items))
        snprintf(text + n, sizeof text - (size_t)n, " To see one of %.4g%s it takes about %.10g.",
                 wanted * scale, m ? " points" : "", items);
    cJSON_AddBoolToObject(out, "significant", real);
    cJSON_AddStringToObject(out, "summary", text);
}

static sqz_status add_statistics(const compare_input *in, const outcome_pairs *pairs, int binary,
                                 cJSON *out, sqz_error *err)
{
    paired p = paired_mean(pairs->a, pairs->b, pairs->n);
    mcnemar m = paired_mcnemar(pairs->a, pairs->b, pairs->n);
    interval mean;
    if (paired_bootstrap(pairs->a, pairs->b, pairs->n, in->draws, 0.95, in->seed, &mean))
        return err_set(err, SQZ_E_NOMEM, "no memory for the resamples of %s", in->name);
    json_add_num(out, "n", (double)pairs->n);
    json_add_num(out, "difference", mean.mean);
    json_add_num(out, "difference_stderr", p.stderr_);
    json_add_num(out, "low", mean.lo);
    json_add_num(out, "high", mean.hi);
    json_add_num(out, "items_needed", needed_for(p.mean, &p, binary ? &m : NULL));
    if (in->difference > 0) {
        cJSON *wanted = cJSON_AddObjectToObject(out, "items_needed_for");
        json_add_num(wanted, "difference", in->difference);
        json_add_num(wanted, "items", needed_for(in->difference, &p, binary ? &m : NULL));
    }
    if (binary) {
        json_add_num(out, "lost", (double)m.lost);
        json_add_num(out, "gained", (double)m.gained);
        json_add_num(out, "p_exact", m.exact);
        json_add_num(out, "p_mid", m.mid);
    }
    add_summary(out, &p, &mean, binary ? &m : NULL, in->difference);
    return SQZ_OK;
}

sqz_status compare_items(const compare_input *in, cJSON *out, sqz_error *err)
{
    outcomes a = {0}, b = {0};
    outcome_pairs pairs = {0};
    dataset *d = NULL;
    dataset_options with = {.shots = in->shots + 1};
    sqz_status s = outcomes_read(in->base_items, in->name, 1, &a, err);
    if (!s) s = outcomes_read(in->model_items, in->name, 1, &b, err);
    if (!s) s = outcomes_pair(&a, &b, &pairs, err);
    if (!s && !pairs.n)
        s = err_set(err, ERR_MODEL, "%s: the models have no item in common", in->name);
    if (!s && in->dataset) s = dataset_open_with(in->dataset, &with, &d, err);
    const sqz_rows *rows =
        !s && d && d->kind != DATA_TEXT ? &d->rows : NULL; /* windows are no rows */
    int binary = !s && paired_binary(pairs.a, pairs.b, pairs.n);
    if (!s) s = add_statistics(in, &pairs, binary, out, err);
    if (!s) s = add_changes(out, rows, &pairs, binary, in->show, err);
    if (!s && binary) s = add_where(out, rows, &pairs, err);
    outcome_pairs_free(&pairs);
    outcomes_free(&a);
    outcomes_free(&b);
    if (d) dataset_close(d);
    return s;
}
