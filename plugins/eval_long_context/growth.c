/* growth.c - perplexity of the same tokens with more and more text before them.
 *
 * Places are spread evenly over the token stream.  At each the same last `scored` tokens are
 * predicted from windows of every length that end there, so nothing but the visible context differs
 * between two lengths.  A model that uses its context predicts better with more of it; one that
 * breaks beyond some length (positions never trained, a cache that was quantized too far) shows it
 * at that length.  Windows begin where they fall, without a bos, as in the fixed-window protocol.
 */
#include "long_context.h"
#include <math.h>
#include <stdlib.h>

typedef struct growth {
    const sqz_host *host;
    const sqz_eval *e;
    const growth_options *o;
    const int32_t *ids;
    int64_t n_ids, places;
    lengths lengths;
    speeds speeds;
    int64_t items, failed, tries;
} growth;

/* Mean loss of windows of one length: what the spread over places says about it. */
typedef struct losses {
    double sum, square;
    int64_t n;
} losses;

/* Where the window of the k-th place ends. */
static int64_t place_end(const growth *g, int64_t k)
{
    int64_t longest = g->lengths.at[g->lengths.n - 1], spread = g->n_ids - longest;
    return g->places > 1 ? longest + k * spread / (g->places - 1) : longest;
}

static sqz_status score_place(growth *g, int64_t k, int64_t length, losses *sum)
{
    int64_t scored = g->o->scored, end = place_end(g, k);
    sqz_loglik r = {.context = g->ids + end - length,
                    .n_context = length - scored,
                    .continuation = g->ids + end - scored,
                    .n_continuation = scored};
    char note[64];
    double begin = now_s();
    sqz_status st = g->e->loglik(g->e, &r, 1);
    if (st) return st;
    g->speeds.at[g->speeds.n++] = (double)length / fmax(now_s() - begin, 1e-9);
    double loss = -r.logprob / (double)scored;
    g->tries++;
    if (!isfinite(loss)) { /* counted, not averaged */
        g->failed++;
        return SQZ_OK;
    }
    sum->sum += loss;
    sum->square += loss * loss;
    sum->n++;
    snprintf(note, sizeof note, "length %lld end %lld", (long long)length, (long long)end);
    g->e->item(g->e, g->items++, loss, note);
    return SQZ_OK;
}

/* exp of the mean loss; standard error by the delta method from the spread over places. */
static void report_perplexity(const growth *g, int64_t length, const losses *s)
{
    double n = (double)s->n, mean = s->sum / n, se = -1;
    if (s->n > 1) se = exp(mean) * sqrt(fmax(0, s->square - n * mean * mean) / (n - 1) / n);
    report_at(g->e, "perplexity", length, exp(mean), se, s->n * g->o->scored);
}

static sqz_status score_lengths(growth *g)
{
    double first = 0, last = 0;
    losses longest = {0};
    sqz_status st = SQZ_OK;
    for (int i = 0; i < g->lengths.n && !st; i++) {
        int64_t length = g->lengths.at[i], failed = g->failed;
        losses sum = {0};
        g->speeds.n = 0;
        for (int64_t k = 0; k < g->places && !st; k++) {
            double done = (double)(i * g->places + k) / (double)(g->lengths.n * g->places);
            if (g->host->tick(g->host, done, "perplexity by length"))
                st = SQZ_E_CANCELLED;
            else
                st = score_place(g, k, length, &sum);
        }
        if (st) return st;
        if (sum.n) report_perplexity(g, length, &sum);
        report_share(g->e, "error_rate", length, g->failed - failed, g->places);
        last = speeds_report(g->e, &g->speeds, length);
        if (i == 0) first = last;
        longest = sum;
    }
    if (!st && !longest.n)
        return sqz_failf(g->host, SQZ_E_NUMERIC,
                         "long_perplexity: at %lld tokens no log-probability is finite",
                         (long long)g->lengths.at[g->lengths.n - 1]);
    report_perplexity(g, 0, &longest);
    report_share(g->e, "error_rate", 0, g->failed, g->tries);
    if (first > 0) report_at(g->e, "throughput_ratio", 0, last / first, -1, g->places);
    return SQZ_OK;
}

/* Lengths that the text has, and places whose scored tokens do not overlap. */
static sqz_status plan(growth *g)
{
    const growth_options *o = g->o;
    sqz_status st = lengths_plan(g->host, g->e, "long_perplexity", o->shortest, &g->lengths);
    if (st) return st;
    if (o->scored >= o->shortest)
        return sqz_failf(g->host, SQZ_E_INVALID,
                         "long_perplexity: scored=%lld must be less than min_length=%lld",
                         (long long)o->scored, (long long)o->shortest);
    int64_t wanted = g->lengths.at[g->lengths.n - 1];
    lengths_cut(&g->lengths, g->n_ids);
    if (!g->lengths.n)
        return sqz_failf(g->host, SQZ_E_UNSUPPORTED,
                         "long_perplexity: %s has %lld tokens, fewer than the shortest length, "
                         "%lld; give more text",
                         g->e->rows->name, (long long)g->n_ids, (long long)o->shortest);
    int64_t longest = g->lengths.at[g->lengths.n - 1];
    if (longest < wanted)
        sqz_logf(g->host, SQZ_LOG_WARN,
                 "long_perplexity: %s has %lld tokens: lengths end at %lld, not %lld",
                 g->e->rows->name, (long long)g->n_ids, (long long)longest, (long long)wanted);
    g->places = 1 + (g->n_ids - longest) / o->scored;
    if (g->places > o->windows) g->places = o->windows;
    if (g->e->limit > 0 && g->places > g->e->limit) g->places = g->e->limit;
    return SQZ_OK;
}

sqz_status growth_score(const sqz_host *host, const sqz_eval *e, const growth_options *o)
{
    growth g = {.host = host, .e = e, .o = o};
    sqz_status st = e->stream(e, &g.ids, &g.n_ids);
    if (!st) st = plan(&g);
    if (st) return st;
    g.speeds.room = g.places;
    g.speeds.at = calloc((size_t)g.places, sizeof *g.speeds.at);
    if (!g.speeds.at) return host->fail(host, SQZ_E_NOMEM, "long_perplexity: no memory");
    /* The first forward pass also allocates and starts threads: it is no measurement. */
    sqz_loglik warm = {.context = g.ids,
                       .n_context = g.lengths.at[0] - o->scored,
                       .continuation = g.ids + g.lengths.at[0] - o->scored,
                       .n_continuation = o->scored};
    st = e->loglik(e, &warm, 1);
    if (!st) st = score_lengths(&g);
    free(g.speeds.at);
    return st;
}
