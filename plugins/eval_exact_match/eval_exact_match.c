/* eval_exact_match.c - greedy generation, then exact match of the final answer.
 *
 * Requests of tasks (fields "request.*", docs/tasks.md): the prompt with its examples, cut at the
 * left so that the longest generation fits the model's context; the text up to the first stop
 * string goes through the task's filters, each with its own exact_match.  Plain rows {question,
 * answer}: the prompt is "Question: {question}\nAnswer:", up to max_new_tokens or eos, and the text
 * after "####" of generation and reference is compared, stripped; where the reference has no
 * "####", the last number of each. */
#include "requests.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

SQZ_PLUGIN_STAMP(0);

#define EXACT_MATCH_PARAMS(P)                                                                      \
    P(SQZ_INT, max_new_tokens, 256, 1, 65536, NULL, 0, "longest generation of plain rows")         \
    P(SQZ_INT, batch, 256, 1, 4096, NULL, 0, "questions generated at once")
SQZ_CALL(exact_match_run, EXACT_MATCH_PARAMS);

/* A piece of a text; not terminated. */
typedef struct {
    const char *text;
    size_t n;
} span;

static span strip(const char *text, size_t n)
{
    while (n && isspace((unsigned char)text[0])) text++, n--;
    while (n && isspace((unsigned char)text[n - 1])) n--;
    return (span){text, n};
}

/* The last run of digits, with sign, thousands commas and decimals; empty when there is none. */
static span last_number(const char *text)
{
    span best = {text, 0};
    for (const char *p = text; *p;) {
        int sign = *p == '-' && isdigit((unsigned char)p[1]);
        if (!sign && !isdigit((unsigned char)*p)) {
            p++;
            continue;
        }
        const char *q = p + sign;
        while (isdigit((unsigned char)*q) ||
               ((*q == ',' || *q == '.') && isdigit((unsigned char)q[1])))
            q++;
        best = (span){p, (size_t)(q - p)};
        p = q;
    }
    return best;
}

/* The final answer, read the way the reference is written. */
static span answer_of(const char *text, int marked)
{
    if (!marked) return last_number(text);
    const char *mark = strstr(text, "####");
    if (!mark) return (span){text, 0};
    mark += 4;
    return strip(mark, strcspn(mark, "\n"));
}

static int same(span a, span b)
{
    return a.n == b.n && a.n > 0 && memcmp(a.text, b.text, a.n) == 0;
}

/* Encodes the prompts of `count` rows from `first`; ids stay with the host. */
static sqz_status make_prompts(const sqz_host *host, const sqz_eval *e, int64_t first,
                               int64_t count, sqz_generation *requests)
{
    for (int64_t k = 0; k < count; k++) {
        const char *question = e->rows->text(e->rows, first + k, "question");
        if (!question || !e->rows->text(e->rows, first + k, "answer"))
            return sqz_failf(host, SQZ_E_INVALID,
                             "exact_match: row %lld of %s has no question or answer",
                             (long long)(first + k + 1), e->rows->name);
        size_t bytes = strlen(question) + 32;
        char *prompt = malloc(bytes);
        if (!prompt) return host->fail(host, SQZ_E_NOMEM, "exact_match: no memory for a prompt");
        snprintf(prompt, bytes, "Question: %s\nAnswer:", question);
        sqz_status st = e->encode(e, prompt, 1, &requests[k].prompt, &requests[k].n_prompt);
        free(prompt);
        if (st) return st;
    }
    return SQZ_OK;
}

static sqz_status judge(const sqz_eval *e, int64_t row, const sqz_generation *r, int64_t *correct)
{
    const char *text, *reference = e->rows->text(e->rows, row, "answer");
    sqz_status st = e->decode(e, r->ids, r->n_ids, 1, &text);
    if (st) return st;
    int marked = strstr(reference, "####") != NULL;
    int hit = same(answer_of(text, marked), answer_of(reference, marked));
    *correct += hit;
    e->item(e, row, hit, text);
    return SQZ_OK;
}

static sqz_status run_batches(const sqz_host *host, const sqz_eval *e, int64_t n, int64_t batch,
                              int64_t max_new, sqz_generation *requests, int32_t *ids,
                              int64_t *done, int64_t *correct)
{
    for (int64_t i = 0; i < n && !(i && sqz_eval_enough(e)); i += batch) {
        int64_t count = n - i < batch ? n - i : batch;
        if (host->tick(host, (double)i / (double)n, "generating answers")) return SQZ_E_CANCELLED;
        memset(requests, 0, (size_t)count * sizeof *requests);
        for (int64_t k = 0; k < count; k++) requests[k].ids = ids + k * max_new;
        sqz_status st = make_prompts(host, e, i, count, requests);
        if (!st) st = e->generate(e, requests, count, max_new);
        for (int64_t k = 0; k < count && !st; k++) st = judge(e, i + k, &requests[k], correct);
        if (st) return st;
        *done = i + count;
    }
    return SQZ_OK;
}

static sqz_status exact_match_run(const sqz_host *host, void *self, void *subject,
                                  int64_t max_new_tokens, int64_t batch)
{
    const sqz_eval *e = subject;
    (void)self;
    if (requests_are(e->rows)) return requests_run(host, e, batch);
    int64_t n = e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
    int64_t correct = 0, done = 0;
    batch = sqz_eval_batch(e, batch);
    sqz_generation *requests = calloc((size_t)batch, sizeof *requests);
    int32_t *ids = malloc((size_t)(batch * max_new_tokens) * sizeof *ids);
    sqz_status st = SQZ_OK;
    if (!requests || !ids)
        st = host->fail(host, SQZ_E_NOMEM, "exact_match: no memory for one batch");
    if (!st) st = run_batches(host, e, n, batch, max_new_tokens, requests, ids, &done, &correct);
    free(requests);
    free(ids);
    if (st) return st;
    double acc = (double)correct / (double)done;
    e->metric(e, "exact_match", acc, done > 1 ? sqrt(acc * (1 - acc) / (double)(done - 1)) : -1,
              done);
    return SQZ_OK;
}

static int32_t match(const sqz_rows *rows)
{
    if (requests_are(rows)) return 40;
    return rows->n_rows > 0 && rows->text(rows, 0, "question") && rows->text(rows, 0, "answer") &&
                   rows->list_length(rows, 0, "choices") < 0 &&
                   rows->list_length(rows, 0, "endings") < 0
               ? 20
               : 0;
}

static const sqz_eval_match matcher = {sizeof matcher, 0, match, "exact_match", 1, 0};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &matcher : NULL;
}

static const char *const tags[] = {"generation", "accuracy", NULL};
static const sqz_agent agents[] = {{
    .struct_size = sizeof(sqz_agent),
    .rank = 100,
    .id = "org.sqz.exact_match",
    .kind = "eval/1",
    .name = "Exact match",
    .summary = "Generates answers and compares the final one with the reference.",
    .version = "1.1.0",
    .license = "Apache-2.0",
    .tags = tags,
    .run = &exact_match_run_call,
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
