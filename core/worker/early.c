/* early.c - see early.h. */
#include "worker/early.h"
#include "paired/outcomes.h"
#include "paired/sequential.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct early {
    outcomes base;
    double margin, alpha;
    uint64_t seed;
    int only_worse, binary, unbounded;
    int64_t *order;   /* [n] rows or windows in the order drawn; NULL: not drawn (yet) */
    double *expected; /* [n] the other model's outcomes in that order */
    int64_t n;
    sequential test;
};

/* Items are right (1) or wrong (0), more is better; or losses of windows, less is better. */
static sqz_status check(early *e, const cJSON *spec, const char *name, const char *primary,
                        sqz_error *err)
{
    e->binary = 1;
    for (int64_t k = 0; k < e->base.n; k++)
        e->binary &= e->base.at[k].value == 0 || e->base.at[k].value == 1;
    if (!e->base.n)
        return err_set(err, ERR_USAGE, "%s: there are no outcomes of it to compare with", name);
    if (!e->binary && strcmp(primary, "perplexity") != 0)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: an early end needs items that are right or wrong, or windows of text; "
                       "evaluate it without --against",
                       name);
    if (!e->binary && json_bool(spec, "other_tokens", 0))
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: the models split text into different tokens, and losses of other "
                       "tokens do not compare; evaluate it without --against",
                       name);
    if (!(e->margin >= 0 && e->margin < 1) || !(e->alpha > 0 && e->alpha < 1))
        return err_set(err, ERR_USAGE, "%s: margin must lie in [0, 1), alpha in (0, 1)", name);
    return SQZ_OK;
}

sqz_status early_open(const cJSON *spec, const char *name, const char *primary, early **out,
                      sqz_error *err)
{
    early *e = calloc(1, sizeof *e);
    *out = e;
    if (!e) return err_set(err, SQZ_E_NOMEM, "no memory for the early end of %s", name);
    e->margin = json_num(spec, "margin", NAN);
    e->alpha = json_num(spec, "alpha", NAN);
    e->seed = (uint64_t)json_int(spec, "seed", 0);
    e->only_worse = json_bool(spec, "only_worse", 0);
    sqz_status st = outcomes_read(json_str(spec, "against", ""), name, 0, &e->base, err);
    return st ? st : check(e, spec, name, primary, err);
}

void early_close(early *e)
{
    if (!e) return;
    outcomes_free(&e->base);
    free(e->order);
    free(e->expected);
    free(e);
}

/* Draws the order of the items in common among the first `most`. */
static sqz_status draw(early *e, int64_t most, sqz_error *err)
{
    int64_t n = 0;
    if (e->order) return SQZ_OK;                         /* asked again: the same order */
    while (n < e->base.n && e->base.at[n].i < most) n++; /* rows rise */
    if (!n) return err_set(err, ERR_USAGE, "no item in common with the outcomes compared with");
    e->order = malloc((size_t)n * sizeof *e->order);
    e->expected = malloc((size_t)n * sizeof *e->expected);
    if (!e->order || !e->expected)
        return err_set(err, SQZ_E_NOMEM, "no memory to draw %lld items", (long long)n);
    sequential_shuffle(e->order, n, e->seed);
    for (int64_t k = 0; k < n; k++) {
        const outcome *base = &e->base.at[e->order[k]];
        e->expected[k] = base->value;
        e->order[k] = base->i;
    }
    e->n = n;
    /* Losses per window: exp(mean difference) = ratio of the perplexities. */
    double margin = e->binary ? -e->margin : log1p(e->margin);
    sequential_begin(&e->test, e->binary ? SEQUENTIAL_BOUNDED : SEQUENTIAL_NORMAL, margin, e->alpha,
                     -1, 1, n);
    return SQZ_OK;
}

sqz_status early_rows(early *e, dataset *d, int64_t limit, sqz_error *err)
{
    int64_t most = limit > 0 && limit < d->rows.n_rows ? limit : d->rows.n_rows;
    sqz_status st = draw(e, most, err);
    if (!st) dataset_reorder(d, e->order, e->n);
    return st;
}

sqz_status early_windows(early *e, int32_t *ids, int64_t *n, int64_t window, int64_t limit,
                         sqz_error *err)
{
    int64_t most = window > 0 ? *n / window : 0;
    if (limit > 0 && limit < most) most = limit;
    if (!most) return SQZ_OK; /* the evaluation says so better */
    sqz_status st = draw(e, most, err);
    size_t bytes = (size_t)(e->n * window) * sizeof *ids, one = (size_t)window * sizeof *ids;
    int32_t *drawn = st ? NULL : malloc(bytes);
    if (!st && !drawn) st = err_set(err, SQZ_E_NOMEM, "no memory to draw windows of text");
    if (st) return st;
    for (int64_t k = 0; k < e->n; k++) memcpy(drawn + k * window, ids + e->order[k] * window, one);
    memcpy(ids, drawn, bytes);
    free(drawn);
    *n = e->n * window;
    return SQZ_OK;
}

int64_t early_item(early *e, int64_t index, double outcome)
{
    if (index < 0 || index >= e->n) return index;
    /* An outcome that is neither right nor wrong has no bounds: nothing is certain any more. */
    e->unbounded |= e->binary && outcome != 0 && outcome != 1;
    sequential_add(&e->test, outcome - e->expected[index]);
    return e->order[index];
}

static int is_worse(const early *e)
{
    return e->binary ? e->test.decided < 0 : e->test.decided > 0;
}

int early_enough(const early *e)
{
    return e->test.decided && !e->unbounded && (!e->only_worse || is_worse(e));
}

void early_report(const early *e, cJSON *metrics)
{
    cJSON *j = cJSON_AddObjectToObject(metrics, "sequential");
    const sequential *t = &e->test;
    int stopped = t->n < e->n;
    cJSON_AddStringToObject(j, "decision", !t->decided ? "open" : is_worse(e) ? "worse" : "within");
    cJSON_AddBoolToObject(j, "stopped", stopped);
    json_add_num(j, "items", (double)t->n);
    json_add_num(j, "of", (double)e->n);
    if (t->decided) json_add_num(j, "decided_after", (double)t->decided_at);
    json_add_num(j, "margin", e->margin);
    json_add_num(j, "alpha", e->alpha);
    json_add_num(j, "difference", t->mean);
    cJSON_AddStringToObject(j, "method",
                            e->binary ? "betting on a bounded mean, without replacement"
                                      : "mixture sequential probability ratio test");
    cJSON_AddStringToObject(j, "guarantee", e->binary ? "every number of items" : "many items");
}
