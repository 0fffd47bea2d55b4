/* needle.c - a number hidden in long text: is it found again?
 *
 * A prompt is running text of a wanted length in tokens with the sentence "The number in the COLOUR
 * box is NUMBER." at one depth, then the question.  Two measures of one pass: acc, the true number
 * is the likeliest of several; and exact_match, every token of it is the arg max, which is what
 * greedy generation writes.  The k-th item hides the same number under the same name at the same
 * depth at every length, so that only the amount of text differs.  Distractors are further boxes,
 * whose numbers are then among the choices.
 * Left out: needles of several sentences, questions that need two of them. */
#include "haystack.h"
#include "long_context.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 32, MAX_DEPTHS = 101, TRIES = 8, LEAST_SENTENCES = 2 };

static const char *const colours[] = {"red",    "blue", "green", "yellow", "white",  "black",
                                      "brown",  "grey", "pink",  "orange", "purple", "silver",
                                      "golden", "dark", "pale",  "small"};
enum { COLOURS = sizeof colours / sizeof *colours };

typedef struct hits {
    int64_t n, acc, exact;
} hits;

/* What one item asks, whatever its length. */
typedef struct item {
    int64_t index, depth;        /* of the depths */
    uint64_t start;              /* its first sentence */
    int colour[MAX_CHOICES];     /* the asked box, then the distractors */
    int64_t number[MAX_CHOICES]; /* the true one, the distractors', then of no box */
} item;

/* A prompt as tokens; the text is the run's buffer. */
typedef struct prompt {
    const int32_t *ids;
    int64_t n;
} prompt;

typedef struct run {
    const sqz_host *host;
    const sqz_eval *e;
    const needle_options *o;
    haystack hay;
    lengths lengths;
    int64_t items; /* of one length */
    double tokens_per_sentence;
    char *text;
    size_t n_text, room;
    speeds speeds[MAX_LENGTHS];
    hits at_length[MAX_LENGTHS], at_depth[MAX_DEPTHS];
    int64_t done;
} run;

static int64_t percent(const run *r, int64_t depth)
{
    return r->o->depths > 1 ? 100 * depth / (r->o->depths - 1) : 50;
}

/* ---- what is asked -----------------------------------------------------------------------------
 */

static item item_of(const run *r, int64_t index)
{
    uint64_t seed = number_of((uint64_t)r->o->seed ^ 0x6E6565646C65, (uint64_t)index), at = 0;
    item q = {.index = index, .depth = index % r->o->depths, .start = number_of(seed, at++) >> 16};
    uint64_t first = number_of(seed, at++);
    for (int64_t k = 0; k < r->o->choices; k++) {
        int fresh;
        q.colour[k] = (int)((first + (uint64_t)k) % COLOURS);
        do { /* five digits, all different numbers */
            q.number[k] = 10000 + (int64_t)(number_of(seed, at++) % 90000);
            fresh = 1;
            for (int64_t j = 0; j < k; j++) fresh &= q.number[j] != q.number[k];
        } while (!fresh);
    }
    return q;
}

/* ---- the prompt --------------------------------------------------------------------------------
 */

static int append(run *r, const char *text, size_t n)
{
    if (r->n_text + n + 1 > r->room) {
        size_t room = 2 * (r->n_text + n + 1) + 4096;
        char *grown = realloc(r->text, room);
        if (!grown) return 0;
        r->text = grown;
        r->room = room;
    }
    memcpy(r->text + r->n_text, text, n);
    r->n_text += n;
    r->text[r->n_text] = 0;
    return 1;
}

static int append_box(run *r, const item *q, int64_t k)
{
    char text[128];
    int n = snprintf(text, sizeof text, "%sThe number in the %s box is %lld.", r->n_text ? " " : "",
                     colours[q->colour[k]], (long long)q->number[k]);
    return append(r, text, (size_t)n);
}

static void question_text(const item *q, char *out, size_t room)
{
    const char *colour = colours[q->colour[0]];
    snprintf(out, room, "What is the number in the %s box? The number in the %s box is", colour,
             colour);
}

/* Where the k-th box stands: the asked one at its depth, the others anywhere. */
static int64_t place_of(const run *r, const item *q, int64_t k, int64_t sentences)
{
    if (k == 0) return (sentences * percent(r, q->depth) + 50) / 100;
    return (int64_t)(number_of(q->start, (uint64_t)k) % (uint64_t)(sentences + 1));
}

static int write_prompt(run *r, const item *q, int64_t sentences)
{
    char sentence[HAYSTACK_SENTENCE], question[160];
    int ok = 1;
    r->n_text = 0;
    for (int64_t i = 0; i <= sentences && ok; i++) {
        for (int64_t k = 0; k <= r->o->distractors && ok; k++)
            if (place_of(r, q, k, sentences) == i) ok = append_box(r, q, k);
        if (i == sentences || !ok) break;
        size_t n = haystack_sentence(&r->hay, q->start + (uint64_t)i, sentence);
        if (r->n_text) ok = append(r, " ", 1);
        ok = ok && append(r, sentence, n);
    }
    question_text(q, question, sizeof question);
    return ok && append(r, "\n\n", 2) && append(r, question, strlen(question));
}

/* The longest prompt of at most `most` tokens, or as near as a few attempts come; out->n = 0: not
 * even the shortest fits. */
static sqz_status fit_prompt(run *r, const item *q, int64_t most, prompt *out)
{
    int64_t sentences = (int64_t)((double)most / r->tokens_per_sentence) + 1, best = 0;
    *out = (prompt){0};
    for (int attempt = 0; attempt < TRIES; attempt++) {
        const int32_t *ids;
        int64_t n;
        if (sentences < LEAST_SENTENCES) sentences = LEAST_SENTENCES;
        if (sentences == best) break;
        if (!write_prompt(r, q, sentences))
            return r->host->fail(r->host, SQZ_E_NOMEM, "needle: no memory for a prompt");
        sqz_status st = r->e->encode(r->e, r->text, 1, &ids, &n);
        if (st) return st;
        if (n <= most && n > out->n) *out = (prompt){ids, n}, best = sentences;
        if (n > most && sentences == LEAST_SENTENCES) break;
        double left = (double)(most - n) / r->tokens_per_sentence;
        if (n <= most && left < 1) break;
        sentences += left >= 0 ? (int64_t)left : (int64_t)floor(left);
    }
    if (out->n && !write_prompt(r, q, best)) /* the text of the chosen one */
        return r->host->fail(r->host, SQZ_E_NOMEM, "needle: no memory for a prompt");
    return SQZ_OK;
}

static sqz_status measure_sentences(run *r)
{
    enum { SAMPLE = 32 };
    char sentence[HAYSTACK_SENTENCE];
    const int32_t *ids;
    int64_t n;
    r->n_text = 0;
    for (int k = 0; k < SAMPLE; k++) {
        size_t bytes = haystack_sentence(&r->hay, (uint64_t)k, sentence);
        if (!append(r, sentence, bytes) || !append(r, " ", 1))
            return r->host->fail(r->host, SQZ_E_NOMEM, "needle: no memory for a prompt");
    }
    sqz_status st = r->e->encode(r->e, r->text, 0, &ids, &n);
    r->tokens_per_sentence = fmax(1, (double)n / SAMPLE);
    return st;
}

/* ---- the answer --------------------------------------------------------------------------------
 */

/* What " NUMBER" adds to the tokens of the question; the prompt itself need not be encoded again
 * for every choice. */
static sqz_status answers_of(run *r, const item *q, sqz_loglik *out, int64_t *longest)
{
    char question[192];
    const int32_t *asked, *whole;
    int64_t n_asked, n_whole;
    question_text(q, question, 160);
    size_t stem = strlen(question);
    sqz_status st = r->e->encode(r->e, question, 0, &asked, &n_asked);
    *longest = 0;
    for (int64_t k = 0; k < r->o->choices && !st; k++) {
        snprintf(question + stem, sizeof question - stem, " %lld", (long long)q->number[k]);
        st = r->e->encode(r->e, question, 0, &whole, &n_whole);
        if (!st && n_whole <= n_asked)
            st = sqz_failf(r->host, SQZ_E_UNSUPPORTED,
                           "needle: the tokenizer writes the number %lld with no token of its own",
                           (long long)q->number[k]);
        if (st) break;
        out[k] = (sqz_loglik){.continuation = whole + n_asked, .n_continuation = n_whole - n_asked};
        if (out[k].n_continuation > *longest) *longest = out[k].n_continuation;
    }
    return st;
}

static void tell_item(run *r, const item *q, int64_t length, const sqz_loglik *a, int hit)
{
    char facts[128 + 48 * MAX_CHOICES];
    size_t at = (size_t)snprintf(facts, sizeof facts, "length %lld depth %lld tokens %lld exact %d",
                                 (long long)length, (long long)percent(r, q->depth),
                                 (long long)(a[0].n_context + a[0].n_continuation), a[0].greedy);
    for (int64_t k = 0; k < r->o->choices && at < sizeof facts; k++)
        at += (size_t)snprintf(facts + at, sizeof facts - at, " %lld:%.9g", (long long)q->number[k],
                               a[k].logprob);
    size_t n = strlen(facts);
    char *note = r->o->prompts ? malloc(n + r->n_text + 2) : NULL;
    if (note) snprintf(note, n + r->n_text + 2, "%s\n%s", facts, r->text);
    r->e->item(r->e, r->done++, hit, note ? note : facts);
    free(note);
}

static sqz_status ask(run *r, const item *q, int at, int *fits)
{
    sqz_loglik a[MAX_CHOICES] = {{0}};
    int64_t longest, length = r->lengths.at[at], tokens = 0, best = 0;
    prompt p = {0};
    sqz_status st = answers_of(r, q, a, &longest);
    if (!st) st = fit_prompt(r, q, length - longest, &p);
    *fits = p.n > 0;
    if (st || !p.n) return st;
    tokens = p.n;
    for (int64_t k = 0; k < r->o->choices; k++) {
        a[k].context = p.ids;
        a[k].n_context = p.n;
        tokens += a[k].n_continuation;
    }
    double begin = now_s();
    st = r->e->loglik(r->e, a, r->o->choices);
    if (st) return st;
    r->speeds[at].at[r->speeds[at].n++] = (double)tokens / fmax(now_s() - begin, 1e-9);
    for (int64_t k = 1; k < r->o->choices; k++)
        if (!(a[best].logprob >= a[k].logprob)) best = k;
    int right = best == 0 && isfinite(a[0].logprob), exact = right && a[0].greedy;
    hits *both[] = {&r->at_length[at], &r->at_depth[q->depth]};
    for (int i = 0; i < 2; i++) {
        both[i]->n++;
        both[i]->acc += right;
        both[i]->exact += exact;
    }
    tell_item(r, q, length, a, right);
    return SQZ_OK;
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static void report_hits(const run *r, int64_t length, const hits *h)
{
    report_share(r->e, "acc", length, h->acc, h->n);
    report_share(r->e, "exact_match", length, h->exact, h->n);
    report_share(r->e, "error_rate", length, h->n - h->exact, h->n);
}

static void report(run *r)
{
    hits all = {0};
    char name[64];
    double first = 0, last = 0;
    for (int i = 0; i < r->lengths.n; i++) {
        all.n += r->at_length[i].n;
        all.acc += r->at_length[i].acc;
        all.exact += r->at_length[i].exact;
    }
    report_hits(r, 0, &all);
    for (int i = 0; i < r->lengths.n; i++) {
        if (!r->at_length[i].n) continue;
        report_hits(r, r->lengths.at[i], &r->at_length[i]);
        last = speeds_report(r->e, &r->speeds[i], r->lengths.at[i]);
        if (first <= 0) first = last;
    }
    for (int64_t d = 0; d < r->o->depths; d++) {
        snprintf(name, sizeof name, "acc,depth%lld", (long long)percent(r, d));
        report_share(r->e, name, 0, r->at_depth[d].acc, r->at_depth[d].n);
        snprintf(name, sizeof name, "exact_match,depth%lld", (long long)percent(r, d));
        report_share(r->e, name, 0, r->at_depth[d].exact, r->at_depth[d].n);
    }
    if (first > 0) report_at(r->e, "throughput_ratio", 0, last / first, -1, r->items);
}

static sqz_status ask_all(run *r)
{
    for (int at = 0; at < r->lengths.n; at++) {
        for (int64_t i = 0; i < r->items; i++) {
            double done = (double)(at * r->items + i) / (double)(r->lengths.n * r->items);
            if (r->host->tick(r->host, done, "looking for needles")) return SQZ_E_CANCELLED;
            item q = item_of(r, i);
            int fits = 0;
            sqz_status st = ask(r, &q, at, &fits);
            if (st) return st;
            if (fits) continue;
            sqz_logf(r->host, SQZ_LOG_WARN,
                     "needle: %lld tokens hold no question with %d sentences before it in this "
                     "tokenizer; the length is left out",
                     (long long)r->lengths.at[at], LEAST_SENTENCES);
            break;
        }
    }
    return SQZ_OK;
}

static sqz_status check_options(const run *r)
{
    const needle_options *o = r->o;
    if (o->choices > MAX_CHOICES || o->depths > MAX_DEPTHS || o->distractors >= o->choices ||
        o->distractors >= COLOURS)
        return sqz_failf(r->host, SQZ_E_INVALID,
                         "needle: distractors=%lld must be fewer than choices=%lld, and than %d",
                         (long long)o->distractors, (long long)o->choices, COLOURS);
    return SQZ_OK;
}

static sqz_status measure(run *r)
{
    sqz_status st = haystack_open(r->host, r->e->rows, (uint64_t)r->o->seed, &r->hay);
    if (!st) st = measure_sentences(r);
    r->items = r->o->depths * r->o->samples;
    if (r->e->limit > 0 && r->e->limit < r->items) r->items = r->e->limit;
    for (int i = 0; i < r->lengths.n && !st; i++) {
        r->speeds[i].at = calloc((size_t)r->items, sizeof *r->speeds[i].at);
        r->speeds[i].room = r->items;
        if (!r->speeds[i].at) st = r->host->fail(r->host, SQZ_E_NOMEM, "needle: no memory");
    }
    if (!st) st = ask_all(r);
    if (st) return st;
    int64_t longest = r->lengths.at[r->lengths.n - 1];
    if (!r->done)
        return sqz_failf(r->host, SQZ_E_UNSUPPORTED,
                         "needle: %lld tokens, the longest length, are too few for a question with "
                         "text before it; the model's context is %lld",
                         (long long)longest, (long long)r->e->context_size);
    if (r->hay.n_units && (double)r->hay.n_units * r->tokens_per_sentence < (double)longest)
        sqz_logf(r->host, SQZ_LOG_WARN,
                 "needle: the text of %s has fewer tokens than the longest length and is repeated",
                 r->e->rows->name);
    report(r);
    return SQZ_OK;
}

sqz_status needle_score(const sqz_host *host, const sqz_eval *e, const needle_options *o)
{
    run *r = calloc(1, sizeof *r);
    if (!r) return host->fail(host, SQZ_E_NOMEM, "needle: no memory");
    r->host = host;
    r->e = e;
    r->o = o;
    sqz_status st = check_options(r);
    if (!st) st = lengths_plan(host, e, "needle", o->shortest, &r->lengths);
    if (!st) st = measure(r);
    for (int i = 0; i < MAX_LENGTHS; i++) free(r->speeds[i].at);
    haystack_close(&r->hay);
    free(r->text);
    free(r);
    return st;
}
