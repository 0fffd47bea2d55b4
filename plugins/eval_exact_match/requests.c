/* requests.c - generation requests of a task: prompts, stop strings, filters.
 *
 * A prompt longer than the model's context less the longest generation loses its beginning.  The
 * text up to the first stop string is what the filters see. */
#include "requests.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILTERS = 16 };

typedef struct {
    const sqz_host *host;
    const sqz_eval *e;
    const sqz_task *task;
    int64_t filters, max_new, hits[MAX_FILTERS];
    sqz_generation *requests; /* [batch] */
    int32_t *ids;             /* [batch, max_new] */
} generation;

int requests_are(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "request.prompt") != NULL;
}

static sqz_status make_prompts(generation *g, int64_t first, int64_t count)
{
    const sqz_eval *e = g->e;
    int64_t room = e->context_size - g->max_new;
    for (int64_t k = 0; k < count; k++) {
        const char *prompt = e->rows->text(e->rows, first + k, "request.prompt");
        if (!prompt)
            return sqz_failf(g->host, SQZ_E_INVALID, "exact_match: row %lld of %s has no prompt",
                             (long long)(first + k + 1), e->rows->name);
        sqz_generation *r = &g->requests[k];
        *r = (sqz_generation){.ids = g->ids + k * g->max_new};
        sqz_status st = e->encode(e, prompt, 1, &r->prompt, &r->n_prompt);
        if (st) return st;
        if (r->n_prompt > room) {
            r->prompt += r->n_prompt - room;
            r->n_prompt = room;
        }
    }
    return SQZ_OK;
}

/* The text up to the earliest stop string, malloc'd. */
static char *stopped(const sqz_rows *rows, int64_t row, const char *text)
{
    size_t n = strlen(text);
    for (int64_t k = 0; k < rows->list_length(rows, row, "request.until"); k++) {
        const char *stop = rows->list_text(rows, row, "request.until", k);
        const char *at = *stop ? strstr(text, stop) : NULL;
        if (at && (size_t)(at - text) < n) n = (size_t)(at - text);
    }
    return strndup(text, n);
}

static sqz_status judge(generation *g, int64_t row, const sqz_generation *r)
{
    const sqz_eval *e = g->e;
    const char *whole, *answer;
    int32_t right = 0, first = 0;
    sqz_status st = e->decode(e, r->ids, r->n_ids, 1, &whole);
    char *text = st ? NULL : stopped(e->rows, row, whole);
    if (!st && !text) st = g->host->fail(g->host, SQZ_E_NOMEM, "exact_match: no memory");
    for (int64_t k = 0; k < g->filters && !st; k++) {
        st = g->task->judge(g->host, e->rows, row, k, text, &answer, &right);
        g->hits[k] += right;
        if (k == 0) first = right;
    }
    if (!st) e->item(e, row, first, text);
    free(text);
    return st;
}

static sqz_status run_batch(generation *g, int64_t first, int64_t count)
{
    sqz_status st = make_prompts(g, first, count);
    if (!st) st = g->e->generate(g->e, g->requests, count, g->max_new);
    for (int64_t k = 0; k < count && !st; k++) st = judge(g, first + k, &g->requests[k]);
    return st;
}

/* exact_match is the first filter's; each filter has its own beside it. */
static void report(const generation *g, int64_t n)
{
    char name[128];
    for (int64_t k = -1; k < g->filters; k++) {
        const char *filter = k < 0 ? "none" : g->task->filter_name(g->host, g->e->rows, k);
        double p = (double)g->hits[k < 0 ? 0 : k] / (double)n;
        int plain = !strcmp(filter, "none");
        if (k >= 0 && plain) continue;
        snprintf(name, sizeof name, "exact_match%s%s", plain ? "" : ",", plain ? "" : filter);
        g->e->metric(g->e, name, p, n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : -1, n);
    }
}

static sqz_status prepare(generation *g, int64_t batch)
{
    int32_t ok;
    g->max_new = (int64_t)g->e->rows->number(g->e->rows, 0, "request.max_new_tokens", &ok);
    g->task = g->host->service(g->host, SQZ_TASK_1);
    g->filters = g->task ? g->task->filters(g->host, g->e->rows) : 0;
    if (g->filters < 1 || g->filters > MAX_FILTERS || !ok || g->max_new < 1)
        return sqz_failf(g->host, SQZ_E_UNSUPPORTED,
                         "exact_match: %s has prompts but no task that judges answers",
                         g->e->rows->name);
    if (g->max_new >= g->e->context_size)
        return sqz_failf(g->host, SQZ_E_UNSUPPORTED,
                         "exact_match: %s generates up to %lld tokens; the model's context of %lld "
                         "has no room for a prompt",
                         g->e->rows->name, (long long)g->max_new, (long long)g->e->context_size);
    g->requests = calloc((size_t)batch, sizeof *g->requests);
    g->ids = malloc((size_t)(batch * g->max_new) * sizeof *g->ids);
    if (!g->requests || !g->ids)
        return g->host->fail(g->host, SQZ_E_NOMEM, "exact_match: no memory for one batch");
    return SQZ_OK;
}

sqz_status requests_run(const sqz_host *host, const sqz_eval *e, int64_t batch)
{
    generation g = {.host = host, .e = e};
    int64_t n = e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
    int64_t done = 0;
    batch = sqz_eval_batch(e, batch);
    sqz_status st = prepare(&g, batch);
    while (done < n && !st && !(done && sqz_eval_enough(e))) {
        int64_t count = n - done < batch ? n - done : batch;
        if (host->tick(host, (double)done / (double)n, "generating answers"))
            st = SQZ_E_CANCELLED;
        else
            st = run_batch(&g, done, count);
        done += count;
    }
    if (!st) report(&g, done);
    free(g.requests);
    free(g.ids);
    return st;
}
