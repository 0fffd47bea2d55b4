/* @name@.c - an evaluation: is the last token of a text the one the model would have written?
 *
 * Rows {text}.  The text without its last token is the context; metrics are the share of rows where
 * greedy decoding gives that token (acc) and the mean log-probability that it gets. */
#include <sqz/eval.h>
#include <sqz/help.h>
#include <math.h>
#include <string.h>

#define @NAME@_PARAMS(P) P(SQZ_INT, min_tokens, 2, 2, 4096, NULL, 0, "shorter texts are left out")
SQZ_CALL(@name@_run, @NAME@_PARAMS);

static sqz_status @name@_run(const sqz_host *host, void *self, void *subject, int64_t min_tokens)
{
    const sqz_eval *e = subject;
    int64_t n = e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
    int64_t used = 0, right = 0;
    double sum = 0;
    (void)self;
    for (int64_t i = 0; i < n; i++) {
        const char *text = e->rows->text(e->rows, i, "text");
        const int32_t *ids;
        int64_t n_ids;
        if (host->tick(host, (double)i / (double)n, "last tokens")) return SQZ_E_CANCELLED;
        if (!text)
            return sqz_failf(host, SQZ_E_INVALID, "@name@: row %lld of %s has no text",
                             (long long)i + 1, e->rows->name);
        sqz_status st = e->encode(e, text, 1, &ids, &n_ids);
        if (st) return st;
        if (n_ids < min_tokens) continue;
        /* What does not fit into the model's context is cut off in front. */
        int64_t first = n_ids > e->context_size ? n_ids - e->context_size : 0;
        sqz_loglik q = {.context = ids + first,
                        .n_context = n_ids - 1 - first,
                        .continuation = ids + n_ids - 1,
                        .n_continuation = 1};
        st = e->loglik(e, &q, 1);
        if (st) return st;
        used++;
        right += q.greedy != 0;
        sum += q.logprob;
        e->item(e, i, q.greedy, NULL);
    }
    if (!used)
        return sqz_failf(host, SQZ_E_INVALID, "@name@: no row of %s has %lld tokens", e->rows->name,
                         (long long)min_tokens);
    double acc = (double)right / (double)used;
    e->metric(e, "acc", acc, used > 1 ? sqrt(acc * (1 - acc) / (double)(used - 1)) : -1, used);
    e->metric(e, "logprob", sum / (double)used, -1, used);
    return SQZ_OK;
}

/* The field this evaluation is for; a low score lets more specific evaluations win. */
static int32_t match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "text") ? 1 : 0;
}

static const sqz_eval_match matcher = {sizeof matcher, 0, match, "acc", 1, 0};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) ? NULL : &matcher;
}
static const sqz_agent agent = {sizeof agent, 100, "@id@", "eval/1", "@name@",
                                "is the last token the greedy one", "0.1.0", "MIT", NULL, NULL, NULL,
                                &@name@_run_call, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
