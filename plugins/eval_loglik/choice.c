/* choice.c - multiple choice and partial scoring: which of the texts is the likeliest. */
#include "requests.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 64 };

/* Where the texts of a row stand: fields of the rows. */
typedef struct {
    const char *choices;      /* list; what acc_norm measures the length of */
    const char *context;      /* text, or NULL: the elements of `contexts` */
    const char *contexts;     /* list */
    const char *continuation; /* text after every context, or NULL: of `continuations` */
    const char *continuations;
    const char *before; /* of each continuation */
    int asks;           /* the context is a bare question */
    int64_t n, gold;
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
    static const char *const names[] = {"request.gold", "label", "answer", "gold", NULL};
    const char *field = first_field(rows, i, names, 0);
    if (!field) return -1;
    const char *text = rows->text(rows, i, field);
    if (isalpha((unsigned char)text[0]) && !text[1]) return toupper((unsigned char)text[0]) - 'A';
    char *end;
    long long v = strtoll(text, &end, 10);
    return end != text && !*end ? v : -1;
}

static void find_texts(const sqz_rows *rows, int64_t i, question *q)
{
    static const char *const lists[] = {"endings", "choices", "context_options", NULL};
    static const char *const texts[] = {"ctx", "query", "question", NULL};
    *q = (question){.before = " ", .gold = gold_index(rows, i)};
    if (rows->list_length(rows, i, "request.choices") > 0) {
        q->before = "";
        q->choices = "request.choices";
        q->contexts = "request.contexts";
        q->continuations = "request.continuations";
        if (rows->list_length(rows, i, q->contexts) < 0) q->context = "request.context";
        if (!q->context) q->continuation = "request.continuation";
        return;
    }
    q->choices = first_field(rows, i, lists, 1);
    if (q->choices && !strcmp(q->choices, "context_options")) {
        q->contexts = q->choices;
        q->continuation = "continuation";
    } else {
        q->context = first_field(rows, i, texts, 0);
        q->continuations = q->choices;
        q->asks = q->context && !strcmp(q->context, "question");
    }
}

static sqz_status read_question(const sqz_host *host, const sqz_rows *rows, int64_t i, question *q)
{
    find_texts(rows, i, q);
    q->n = q->choices ? rows->list_length(rows, i, q->choices) : 0;
    const char *must = q->contexts && !q->context ? q->continuation : q->context;
    if (q->n < 1 || !must || !rows->text(rows, i, must))
        return sqz_failf(host, SQZ_E_INVALID,
                         "multiple_choice: row %lld of %s has no choices or no question",
                         (long long)i + 1, rows->name);
    if (q->n > MAX_CHOICES || q->gold < 0 || q->gold >= q->n)
        return sqz_failf(host, SQZ_E_INVALID,
                         "multiple_choice: row %lld of %s: the label must name one of its %lld "
                         "choices (at most %d)",
                         (long long)i + 1, rows->name, (long long)q->n, MAX_CHOICES);
    return SQZ_OK;
}

/* before + text + after, malloc'd. */
static char *joined(const char *before, const char *text, const char *after)
{
    size_t bytes = strlen(before) + strlen(text) + strlen(after) + 1;
    char *out = malloc(bytes);
    if (out) snprintf(out, bytes, "%s%s%s", before, text, after);
    return out;
}

static sqz_status question_requests(const sqz_host *host, const sqz_eval *e, int64_t i,
                                    const question *q, sqz_loglik *out)
{
    const sqz_rows *rows = e->rows;
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < q->n && !st; k++) {
        const char *context =
            q->context ? rows->text(rows, i, q->context) : rows->list_text(rows, i, q->contexts, k);
        const char *tail = q->continuation ? rows->text(rows, i, q->continuation)
                                           : rows->list_text(rows, i, q->continuations, k);
        if (!context || !tail)
            return sqz_failf(host, SQZ_E_INVALID, "multiple_choice: row %lld of %s lacks a choice",
                             (long long)i + 1, rows->name);
        char *asked = joined(q->asks ? "Question: " : "", context, q->asks ? "\nAnswer:" : "");
        char *spaced = joined(q->before, tail, "");
        st = asked && spaced
                 ? request_make(host, e, asked, spaced, &out[k])
                 : host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for a choice");
        free(asked);
        free(spaced);
    }
    return st;
}

/* ---- judging -----------------------------------------------------------------------------------
 */

typedef enum { ACC, ACC_NORM, ACC_BYTES, EXACT_MATCH, N_METRICS } metric;
static const char *const metric_names[] = {"acc", "acc_norm", "acc_bytes", "exact_match"};

typedef struct {
    int64_t n, hits[N_METRICS];
    int partial;
} tally;

static int64_t characters(const char *utf8)
{
    int64_t n = 0;
    for (; *utf8; utf8++) n += ((unsigned char)*utf8 & 0xC0) != 0x80;
    return n;
}

/* "logprobs -12.25 -9.5 greedy 0 1": what each choice had. */
static void note_of(const question *q, const sqz_loglik *r, char *out, size_t bytes)
{
    size_t at = (size_t)snprintf(out, bytes, "logprobs");
    for (int64_t k = 0; k < q->n && at < bytes; k++)
        at += (size_t)snprintf(out + at, bytes - at, " %.9g", r[k].logprob);
    if (at < bytes) at += (size_t)snprintf(out + at, bytes - at, " greedy");
    for (int64_t k = 0; k < q->n && at < bytes; k++)
        at += (size_t)snprintf(out + at, bytes - at, " %d", r[k].greedy);
}

static void judge(const sqz_eval *e, int64_t i, const question *q, const sqz_loglik *r, tally *t)
{
    int64_t best[3] = {0, 0, 0};
    double top[3] = {-INFINITY, -INFINITY, -INFINITY};
    char note[MAX_CHOICES * 32];
    for (int64_t k = 0; k < q->n; k++) {
        const char *choice = e->rows->list_text(e->rows, i, q->choices, k);
        double length[3] = {1, (double)characters(choice), (double)strlen(choice)};
        for (int m = 0; m < 3; m++) {
            double score = r[k].logprob / (length[m] > 0 ? length[m] : 1);
            if (score > top[m]) top[m] = score, best[m] = k;
        }
    }
    t->n++;
    for (int m = 0; m < 3; m++) t->hits[m] += best[m] == q->gold;
    t->hits[EXACT_MATCH] += r[q->gold].greedy;
    t->partial = q->continuation != NULL;
    note_of(q, r, note, sizeof note);
    e->item(e, i, best[ACC] == q->gold, note);
}

/* One batch of rows [first, first + count). */
static sqz_status run_batch(const sqz_host *host, const sqz_eval *e, int64_t first, int64_t count,
                            question *qs, tally *t)
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
    free(r);
    return st;
}

sqz_status choice_score(const sqz_host *host, const sqz_eval *e, int64_t batch)
{
    int64_t n = rows_wanted(e);
    tally t = {0};
    batch = sqz_eval_batch(e, batch);
    question *qs = calloc((size_t)batch, sizeof *qs);
    if (!qs) return host->fail(host, SQZ_E_NOMEM, "multiple_choice: no memory for one batch");
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st && !(i && sqz_eval_enough(e)); i += batch) {
        if (host->tick(host, (double)i / (double)n, "scoring choices"))
            st = SQZ_E_CANCELLED;
        else
            st = run_batch(host, e, i, n - i < batch ? n - i : batch, qs, &t);
    }
    free(qs);
    for (int m = 0; m < N_METRICS && !st; m++) {
        int wanted = task_wants(e->rows, metric_names[m]);
        if (wanted < 0) wanted = m == ACC || (m == ACC_NORM && !t.partial);
        if (wanted) report_share(e, metric_names[m], t.hits[m], t.n);
    }
    return st;
}

int32_t choice_match(const sqz_rows *rows)
{
    static const char *const lists[] = {"request.choices", "endings", "choices", "context_options",
                                        NULL};
    return rows->n_rows > 0 && first_field(rows, 0, lists, 1) && gold_index(rows, 0) >= 0 ? 30 : 0;
}
