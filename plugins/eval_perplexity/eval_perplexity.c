/* eval_perplexity.c - perplexity of running text by fixed windows (contracts: "{text} files").
 *
 * The token stream (documents framed and concatenated by the host) is cut into windows; every token
 * of a window but the first is scored.  A last short window is dropped.
 * Left out: rolling (strided) perplexity and its per-word and per-byte forms. */
#include <sqz/eval.h>
#include <sqz/help.h>
#include <math.h>
#include <stdlib.h>

SQZ_PLUGIN_STAMP(0);

#define PERPLEXITY_PARAMS(P)                                                                       \
    P(SQZ_INT, batch, 16, 1, 1024, NULL, 0, "windows scored between two progress reports")
SQZ_CALL(perplexity_run, PERPLEXITY_PARAMS);

typedef struct {
    double nll, nll_sq; /* over windows: mean loss of a window and its square */
    int64_t windows, tokens;
} sums;

static void add_window(const sqz_eval *e, sums *s, const float *logprob, int64_t window)
{
    double nll = 0;
    for (int64_t t = 1; t < window; t++) nll -= logprob[t];
    double mean = nll / (double)(window - 1);
    s->nll += mean;
    s->nll_sq += mean * mean;
    e->item(e, s->windows, mean, NULL);
    s->windows++;
    s->tokens += window - 1;
}

/* exp of the mean loss; its standard error by the delta method from the spread over windows, which
 * are nearly independent where single tokens are not. */
static void report(const sqz_eval *e, const sums *s)
{
    double n = (double)s->windows, mean = s->nll / n, ppl = exp(mean), se = -1;
    if (s->windows > 1) {
        double var = fmax(0, s->nll_sq - n * mean * mean) / (n - 1);
        se = ppl * sqrt(var / n);
    }
    e->metric(e, "perplexity", ppl, se, s->tokens);
}

static sqz_status perplexity_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    const sqz_eval *e = subject;
    const int32_t *ids;
    int64_t n_ids;
    (void)self;
    sqz_status st = e->stream(e, &ids, &n_ids);
    if (st) return st;
    int64_t window = e->window > 0 ? e->window : (e->context_size < 2048 ? e->context_size : 2048);
    if (window < 2)
        return sqz_failf(host, SQZ_E_INVALID,
                         "perplexity: window %lld is too short; use at least 2", (long long)window);
    int64_t n = n_ids / window;
    if (n == 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "perplexity: %s has %lld tokens, fewer than one window of %lld; use a "
                         "smaller --window or more text",
                         e->rows->name, (long long)n_ids, (long long)window);
    if (e->limit > 0 && e->limit < n) n = e->limit;
    batch = sqz_eval_batch(e, batch);
    float *logprob = malloc((size_t)(batch * window) * sizeof *logprob);
    if (!logprob) return host->fail(host, SQZ_E_NOMEM, "perplexity: no memory for one batch");
    sums s = {0};
    for (int64_t i = 0; i < n && !st && !(i && sqz_eval_enough(e)); i += batch) {
        int64_t count = n - i < batch ? n - i : batch;
        if (host->tick(host, (double)i / (double)n, "perplexity")) st = SQZ_E_CANCELLED;
        if (!st) st = e->score_windows(e, ids + i * window, count, window, logprob);
        for (int64_t k = 0; k < count && !st; k++) add_window(e, &s, logprob + k * window, window);
    }
    free(logprob);
    if (st) return st;
    if (!isfinite(s.nll))
        return host->fail(host, SQZ_E_NUMERIC,
                          "perplexity: the model's log-probabilities are not finite");
    report(e, &s);
    return SQZ_OK;
}

static int32_t match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "text") ? 10 : 0;
}

static const sqz_eval_match matcher = {sizeof matcher, 0, match, "perplexity", 0, 0};

static const void *extension(const char *id)
{
    return __builtin_strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &matcher : NULL;
}

static const char *const tags[] = {"text", "perplexity", NULL};
static const sqz_agent agents[] = {{
    .struct_size = sizeof(sqz_agent),
    .rank = 100,
    .id = "org.sqz.perplexity",
    .kind = "eval/1",
    .name = "Perplexity",
    .summary = "Perplexity of text by fixed windows.",
    .version = "1.0.0",
    .license = "Apache-2.0",
    .tags = tags,
    .run = &perplexity_run_call,
    .extension = extension,
}};
static const sqz_plugin plugin = {
    .struct_size = sizeof(sqz_plugin),
    .abi_major = SQZ_ABI_MAJOR,
    .abi_minor = SQZ_ABI_MINOR,
    .n_agents = 1,
    .agent_stride = sizeof(sqz_agent),
    .agents = agents,
};
const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
