/* eval_repetition.c - how much does the model repeat itself when it writes freely?
 *
 * Rows with a prompt (fields prompt, question or text, the first `prompt_tokens` of it).  Greedy
 * generation of `new_tokens`; then seq-rep-n, the share of n-grams that are repeats,
 *     1 - |distinct n-grams| / |n-grams|
 * (Welleck et al., "Neural Text Generation with Unlikelihood Training", arXiv:1908.04319, 2019).
 * Compression that hurts a model often shows first as loops, which perplexity hardly sees.
 * Left out: sampling; a loop under greedy decoding is the symptom looked for. */
#include <sqz/eval.h>
#include <sqz/help.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REPETITION_PARAMS(P)                                                                       \
    P(SQZ_INT, n, 4, 1, 16, NULL, 0, "length of the n-grams")                                      \
    P(SQZ_INT, prompt_tokens, 32, 1, 4096, NULL, 0, "tokens of a row that are the prompt")         \
    P(SQZ_INT, new_tokens, 64, 1, 4096, NULL, 0, "tokens to generate")                             \
    P(SQZ_INT, batch, 16, 1, 1024, NULL, 0, "rows generated at once")
SQZ_CALL(repetition_run, REPETITION_PARAMS);

static const char *prompt_of(const sqz_rows *rows, int64_t i)
{
    static const char *const fields[] = {"prompt", "question", "text"};
    for (int k = 0; k < 3; k++) {
        const char *text = rows->text(rows, i, fields[k]);
        if (text) return text;
    }
    return NULL;
}

/* Share of the n-grams of ids that occurred before; -1 when there is none. */
static double repeated(const int32_t *ids, int64_t count, int64_t n)
{
    int64_t grams = count - n + 1, repeats = 0;
    if (grams < 1) return -1;
    for (int64_t i = 1; i < grams; i++) {
        for (int64_t k = 0; k < i; k++) {
            if (memcmp(ids + i, ids + k, (size_t)n * sizeof *ids) != 0) continue;
            repeats++;
            break;
        }
    }
    return (double)repeats / (double)grams;
}

typedef struct sums {
    double rate, square, longest;
    int64_t used;
} sums;

/* Prompts of `count` rows from `first`; rows without tokens are refused. */
static sqz_status make_prompts(const sqz_host *host, const sqz_eval *e, int64_t first,
                               int64_t count, int64_t most, sqz_generation *requests)
{
    for (int64_t k = 0; k < count; k++) {
        const char *text = prompt_of(e->rows, first + k);
        int64_t n;
        if (!text)
            return sqz_failf(host, SQZ_E_INVALID,
                             "repetition: row %lld of %s has no prompt, question or text",
                             (long long)(first + k + 1), e->rows->name);
        sqz_status st = e->encode(e, text, 1, &requests[k].prompt, &n);
        if (st) return st;
        if (n < 1)
            return sqz_failf(host, SQZ_E_INVALID, "repetition: row %lld of %s has an empty prompt",
                             (long long)(first + k + 1), e->rows->name);
        requests[k].n_prompt = n < most ? n : most;
    }
    return SQZ_OK;
}

static sqz_status run_batch(const sqz_host *host, const sqz_eval *e, int64_t first, int64_t count,
                            int64_t n, int64_t most, int64_t new_tokens, sqz_generation *requests,
                            int32_t *ids, sums *s)
{
    memset(requests, 0, (size_t)count * sizeof *requests);
    for (int64_t k = 0; k < count; k++) requests[k].ids = ids + k * new_tokens;
    sqz_status st = make_prompts(host, e, first, count, most, requests);
    if (!st) st = e->generate(e, requests, count, new_tokens);
    for (int64_t k = 0; k < count && !st; k++) {
        const char *text = NULL;
        double rate = repeated(requests[k].ids, requests[k].n_ids, n);
        if (rate < 0) continue; /* ended before one n-gram was full */
        st = e->decode(e, requests[k].ids, requests[k].n_ids, 1, &text);
        s->rate += rate;
        s->square += rate * rate;
        s->longest += (double)requests[k].n_ids;
        s->used++;
        if (!st) e->item(e, first + k, rate, text);
    }
    return st;
}

static sqz_status repetition_run(const sqz_host *host, void *self, void *subject, int64_t n,
                                 int64_t prompt_tokens, int64_t new_tokens, int64_t batch)
{
    const sqz_eval *e = subject;
    int64_t rows = e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
    int64_t room = e->context_size - new_tokens;
    int64_t most = prompt_tokens < room ? prompt_tokens : room;
    sums s = {0};
    (void)self;
    if (most < 1)
        return sqz_failf(host, SQZ_E_INVALID,
                         "repetition: %lld new tokens leave no room for a prompt in a context of "
                         "%lld; lower new_tokens",
                         (long long)new_tokens, (long long)e->context_size);
    if (batch > rows) batch = rows;
    sqz_generation *requests = calloc((size_t)batch, sizeof *requests);
    int32_t *ids = malloc((size_t)(batch * new_tokens) * sizeof *ids);
    sqz_status st =
        requests && ids ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "repetition: no memory");
    for (int64_t i = 0; i < rows && !st; i += batch) {
        if (host->tick(host, (double)i / (double)rows, "writing freely")) st = SQZ_E_CANCELLED;
        if (!st)
            st = run_batch(host, e, i, rows - i < batch ? rows - i : batch, n, most, new_tokens,
                           requests, ids, &s);
    }
    free(requests);
    free(ids);
    if (st) return st;
    if (!s.used)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "repetition: no generation reached %lld tokens; choose a smaller n",
                         (long long)n);
    double mean = s.rate / (double)s.used, spread = s.square / (double)s.used - mean * mean;
    e->metric(e, "repetition", mean,
              s.used > 1 ? sqrt((spread > 0 ? spread : 0) / (double)(s.used - 1)) : -1, s.used);
    e->metric(e, "mean_tokens", s.longest / (double)s.used, -1, s.used);
    return SQZ_OK;
}

/* Low: rows of these kinds belong to other evaluations unless this one is asked for by name. */
static int32_t match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && prompt_of(rows, 0) ? 1 : 0;
}

static const sqz_eval_match matcher = {sizeof matcher, 0, match, "repetition", 0, 0};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &matcher : NULL;
}

static const char *const tags[] = {"generation", "degeneration", NULL};
static const sqz_agent agent = {.struct_size = sizeof agent,
                                .rank = 50,
                                .id = "org.sqz-examples.repetition",
                                .kind = "eval/1",
                                .name = "Repetition",
                                .summary = "share of repeated n-grams in greedy generations",
                                .version = "1.0.0",
                                .license = "Apache-2.0",
                                .tags = tags,
                                .run = &repetition_run_call,
                                .extension = extension};
static const sqz_plugin plugin = {.struct_size = sizeof plugin,
                                  .abi_major = SQZ_ABI_MAJOR,
                                  .abi_minor = SQZ_ABI_MINOR,
                                  .n_agents = 1,
                                  .agent_stride = sizeof agent,
                                  .agents = &agent};
SQZ_PLUGIN_STAMP(0);

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
