/* eval_loglik.c - evaluations by log-likelihood: multiple choice, partial scoring, continuations.
 *
 * Multiple choice, rows {ctx|question|query, endings|choices, label|answer|gold}: every choice is
 * scored as " " + choice after the context; acc picks the largest sum of log-probabilities,
 * acc_norm the largest sum per character of the choice.  Partial scoring, rows {context_options,
 * continuation, gold}: the same " " + continuation after each option.  Continuation, rows {context,
 * continuation}: acc = the greedy continuation equals it; perplexity of the continuations. Tokens
 * are split as lm-evaluation-harness does (formats, section 8.2): the continuation is what the
 * whole text has beyond the tokens of the context.  Left out: few-shot prompts and task templates.
 */
#include <sqz/eval.h>
#include <sqz/help.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

SQZ_PLUGIN_STAMP(0);

#define LOGLIK_PARAMS(P) P(SQZ_INT, batch, 32, 1, 4096, NULL, 0, "rows scored at once")
SQZ_CALL(choice_run, LOGLIK_PARAMS);
SQZ_CALL(continuation_run, LOGLIK_PARAMS);

enum { MAX_CHOICES = 64 };

/* Context and continuation of one request, as ids that stay with the host. */
static sqz_status encode_pair(const sqz_host *host, const sqz_eval *e, const char *context,
                              const char *continuation, sqz_loglik *r)
{
    size_t nc = strlen(context), nt = strlen(continuation);
    size_t tail = 0; /* white space at the end of the context moves to the continuation */
    while (tail < nc && isspace((unsigned char)context[nc - 1 - tail])) tail++;
    char *whole = malloc(nc + nt + 2);
    if (!whole) return host->fail(host, SQZ_E_NOMEM, "log-likelihood: no memory for a request");
    memcpy(whole, context, nc - tail);
    whole[nc - tail] = 0;
    const int32_t *ctx, *all;
    int64_t n_ctx, n_all;
    sqz_status st = e->encode(e, whole, 1, &ctx, &n_ctx);
    if (!st) {
        memcpy(whole + nc - tail, context + nc - tail, tail);
        memcpy(whole + nc, continuation, nt + 1);
        st = e->encode(e, whole, 1, &all, &n_all);
    }
    free(whole);
    if (st) return st;
    if (n_ctx < 1 || n_all <= n_ctx)
        return sqz_failf(
            host, SQZ_E_INVALID,
            "log-likelihood: %s has a row whose context or continuation encodes to nothing",
            e->rows->name);
    *r = (sqz_loglik){.context = all,
                      .n_context = n_ctx,
                      .continuation = all + n_ctx,
                      .n_continuation = n_all - n_ctx};
    (void)ctx;
    return SQZ_OK;
}

static int64_t characters(const char *utf8)
{
    int64_t n = 0;
    for (; *utf8; utf8++) n += ((unsigned char)*utf8 & 0xC0) != 0x80;
    return n;
}

/* ---- multiple choice ---------------------------------------------------------------------------
 */

typedef struct {
    char *context;       /* owned; NULL with partial scoring */
    const char *choices; /* field name */
    int64_t n;
    int64_t gold;
    int partial;
} question;

static const char *first_field(const sqz_rows *rows, int64_t i, const char *const *names, int list)
{
    for (; *names; names++)
        if (list ? rows->list_length(rows, i, *names) > 0 : rows->text(rows, i, *names) != NULL)
            return *names;
    return NULL;
}

/* 2, "2", or a letter "C". */
static int64_t gold_index(const sqz_rows *rows, int64_t i)
{
    static const char *const names[] = {"label", "answer", "gold", NULL};
    const char *field = first_field(rows, i, names, 0);
    if (!field) return -1;
    const char *text = rows->text(rows, i, field);
    if (isalpha((unsigned char)text[0]) && !text[1]) return toupper((unsigned char)text[0]) - 'A';
    char *end;
    long long v = strtoll(text, &end, 10);
    return end != text && !*end ? v : -1;
}

static sqz_status read_question(const sqz_host *host, const sqz_rows *rows, int64_t i, question *q)
{
    static const char *const lists[] = {"endings", "choices", "context_options", NULL};
    static const char *const texts[] = {"ctx", "query", "question", NULL};
    *q = (question){.choices = first_field(rows, i, lists, 1), .gold = gold_index(rows, i)};
    q->partial = q->choices && strcmp(q->choices, "context_options") == 0;
    const char *field = q->partial ? "continuation" : first_field(rows, i, texts, 0);
    if (!q->choices || !field || !rows->text(rows, i, field))
        return sqz_failf(host, SQZ_E_INVALID,
                         "multiple_choice: row %lld of %s has no choices or no question",
                         (long long)i + 1, rows->name);
    q->n = rows->list_length(rows, i, q->choices);
    if (q->n > MAX_CHOICES || q->gold < 0 || q->gold >= q->n)
        return sqz_failf(host, SQZ_E_INVALID,
                         "multiple_choice: row %lld of %s: the label must name one of its %lld "
                         "choices (at most %d)",
                         (long long)i + 1, rows->name, (long long)q->n, MAX_CHOICES);
    if (q->partial) return SQZ_OK;
    const char *text = rows->text(rows, i, field);
    size_t bytes = strlen(text) + 32;
    q->context = malloc(bytes);
    if (!q->context)
        return host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for a prompt");
    snprintf(q->context, bytes, strcmp(field, "question") == 0 ? "Question: %s\nAnswer:" : "%s",
             text);
    return SQZ_OK;
}

static sqz_status question_requests(const sqz_host *host, const sqz_eval *e, int64_t i,
                                    const question *q, sqz_loglik *out)
{
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < q->n && !st; k++) {
        const char *choice = e->rows->list_text(e->rows, i, q->choices, k);
        const char *tail = q->partial ? e->rows->text(e->rows, i, "continuation") : choice;
        size_t bytes = strlen(tail) + 2;
        char *spaced = malloc(bytes);
        if (!spaced)
            return host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for a choice");
        snprintf(spaced, bytes, " %s", tail);
        st = encode_pair(host, e, q->partial ? choice : q->context, spaced, &out[k]);
        free(spaced);
    }
    return st;
}

typedef struct {
    int64_t n, acc, acc_norm;
    int partial;
} tally;

static void judge(const sqz_eval *e, int64_t i, const question *q, const sqz_loglik *r, tally *t)
{
    int64_t best = 0, best_norm = 0;
    double top = -INFINITY, top_norm = -INFINITY;
    for (int64_t k = 0; k < q->n; k++) {
        double chars = (double)characters(e->rows->list_text(e->rows, i, q->choices, k));
        double norm = r[k].logprob / (chars > 0 ? chars : 1);
        if (r[k].logprob > top) top = r[k].logprob, best = k;
        if (norm > top_norm) top_norm = norm, best_norm = k;
    }
    t->n++;
    t->acc += best == q->gold;
    t->acc_norm += best_norm == q->gold;
    t->partial = q->partial;
    e->item(e, i, best == q->gold, NULL);
}

static void report_share(const sqz_eval *e, const char *name, int64_t hits, int64_t n)
{
    double p = (double)hits / (double)n;
    e->metric(e, name, p, n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : -1, n);
}

/* One batch of rows [first, first + count). */
static sqz_status choice_batch(const sqz_host *host, const sqz_eval *e, int64_t first,
                               int64_t count, question *qs, tally *t)
{
    sqz_status st = SQZ_OK;
    int64_t total = 0, at = 0;
    for (int64_t k = 0; k < count && !st; k++) {
        st = read_question(host, e->rows, first + k, &qs[k]);
        total += qs[k].n;
    }
    sqz_loglik *r = st ? NULL : calloc((size_t)total, sizeof *r);
    if (!st && !r) st = host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for one batch");
    for (int64_t k = 0; k < count && !st; at += qs[k].n, k++)
        st = question_requests(host, e, first + k, &qs[k], r + at);
    if (!st) st = e->loglik(e, r, total);
    at = 0;
    for (int64_t k = 0; k < count && !st; at += qs[k].n, k++)
        judge(e, first + k, &qs[k], r + at, t);
    for (int64_t k = 0; k < count; k++) {
        free(qs[k].context);
        qs[k].context = NULL;
    }
    free(r);
    return st;
}

static int64_t rows_wanted(const sqz_eval *e)
{
    return e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
}

static sqz_status choice_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    const sqz_eval *e = subject;
    (void)self;
    int64_t n = rows_wanted(e);
    tally t = {0};
    question *qs = calloc((size_t)batch, sizeof *qs);
    if (!qs) return host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for one batch");
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st; i += batch) {
        if (host->tick(host, (double)i / (double)n, "scoring choices"))
            st = SQZ_E_CANCELLED;
        else
            st = choice_batch(host, e, i, n - i < batch ? n - i : batch, qs, &t);
    }
    free(qs);
    if (st) return st;
    report_share(e, "acc", t.acc, t.n);
    if (!t.partial) report_share(e, "acc_norm", t.acc_norm, t.n);
    return SQZ_OK;
}

static int32_t choice_match(const sqz_rows *rows)
{
    static const char *const lists[] = {"endings", "choices", "context_options", NULL};
    return rows->n_rows > 0 && first_field(rows, 0, lists, 1) && gold_index(rows, 0) >= 0 ? 30 : 0;
}

/* ---- continuations
 * -------------------------------------------------------------------------------- */

static sqz_status continuation_batch(const sqz_host *host, const sqz_eval *e, int64_t first,
                                     int64_t count, sqz_loglik *r, int64_t *hits, double *nll)
{
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < count && !st; k++) {
        const char *context = e->rows->text(e->rows, first + k, "context");
        const char *tail = e->rows->text(e->rows, first + k, "continuation");
        if (!context || !tail)
            return sqz_failf(host, SQZ_E_INVALID,
                             "continuation: row %lld of %s has no context or no continuation",
                             (long long)(first + k + 1), e->rows->name);
        st = encode_pair(host, e, context, tail, &r[k]);
    }
    if (!st) st = e->loglik(e, r, count);
    for (int64_t k = 0; k < count && !st; k++) {
        *hits += r[k].greedy;
        *nll -= r[k].logprob;
        e->item(e, first + k, r[k].greedy, NULL);
    }
    return st;
}

static sqz_status continuation_run(const sqz_host *host, void *self, void *subject, int64_t batch)
{
    const sqz_eval *e = subject;
    (void)self;
    int64_t n = rows_wanted(e), hits = 0;
    double nll = 0;
    sqz_loglik *r = calloc((size_t)batch, sizeof *r);
    if (!r) return host->fail(host, SQZ_E_NOMEM, "continuation: no memory for one batch");
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st; i += batch) {
        if (host->tick(host, (double)i / (double)n, "scoring continuations"))
            st = SQZ_E_CANCELLED;
        else
            st = continuation_batch(host, e, i, n - i < batch ? n - i : batch, r, &hits, &nll);
    }
    free(r);
    if (st) return st;
    report_share(e, "acc", hits, n);
    e->metric(e, "perplexity", exp(nll / (double)n), -1, n);
    return SQZ_OK;
}

static int32_t continuation_match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "context") && rows->text(rows, 0, "continuation")
               ? 20
               : 0;
}

/* ---- description
 * ---------------------------------------------------------------------------------- */

static const sqz_eval_match choice_matcher = {sizeof choice_matcher, 0, choice_match, "acc", 1, 0};
static const sqz_eval_match continuation_matcher = {
    sizeof continuation_matcher, 0, continuation_match, "acc", 1, 0};

static const void *choice_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &choice_matcher : NULL;
}

static const void *continuation_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) == 0 ? &continuation_matcher : NULL;
}

static const char *const tags[] = {"log-likelihood", "accuracy", NULL};
static const sqz_agent agents[] = {
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.multiple_choice",
        .kind = "eval/1",
        .name = "Multiple choice",
        .summary = "Picks the choice with the largest log-likelihood.",
        .version = "1.0.0",
        .license = "Apache-2.0",
        .tags = tags,
        .run = &choice_run_call,
        .extension = choice_extension,
    },
    {
        .struct_size = sizeof(sqz_agent),
        .rank = 100,
        .id = "org.sqz.continuation",
        .kind = "eval/1",
        .name = "Continuation",
        .summary = "Log-likelihood and greedy match of given continuations.",
        .version = "1.0.0",
        .license = "Apache-2.0",
        .tags = tags,
        .run = &continuation_run_call,
        .extension = continuation_extension,
    },
};
static const sqz_plugin plugin = {
    .struct_size = sizeof(sqz_plugin),
    .abi_major = SQZ_ABI_MAJOR,
    .abi_minor = SQZ_ABI_MINOR,
    .n_agents = 2,
    .agent_stride = sizeof(sqz_agent),
    .agents = agents,
};
const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
