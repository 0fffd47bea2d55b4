/* subject_eval.c - a toy language model and small data sets for evaluations, and their duties.
 *
 * The model has 256 tokens, one a byte; its log-probabilities are a hash of the last two tokens, so
 * that everything is deterministic and no model file is needed. */
#include "check/probe.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EOS = 0, CONTEXT = 512, ROWS = 6, MAX_METRICS = 64 };

typedef struct toy {
    probe *probe;
    agent *agent;
    const cJSON *rows; /* array of objects */
    sqz_rows table;
    void **arena;
    int n_arena, room;
    int fail_after; /* calls of services until one fails; 0 = never */
    int calls;
    int n_metrics, bad_metrics, n_items;
    int64_t worst_item, metric_n;
    char metrics[MAX_METRICS][64];
    sha256 *digest;
} toy;

/* ---- rows ------------------------------------------------------------------------------------ */
static const cJSON *field(const sqz_rows *r, int64_t i, const char *name)
{
    const toy *t = r->impl;
    if (i < 0 || i >= r->n_rows || !name) return NULL;
    return json_get(cJSON_GetArrayItem(t->rows, (int)i), name);
}

static void *keep(toy *t, void *p)
{
    if (t->n_arena == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->arena = realloc(t->arena, (size_t)t->room * sizeof *t->arena);
    }
    return t->arena[t->n_arena++] = p;
}

static const char *row_text(const sqz_rows *r, int64_t i, const char *name)
{
    const cJSON *f = field(r, i, name);
    if (cJSON_IsString(f)) return f->valuestring;
    return cJSON_IsNumber(f) ? keep(r->impl, json_text(f, 0)) : NULL;
}

static int64_t row_list_length(const sqz_rows *r, int64_t i, const char *name)
{
    const cJSON *f = field(r, i, name);
    return cJSON_IsArray(f) ? cJSON_GetArraySize(f) : -1;
}

static const char *row_list_text(const sqz_rows *r, int64_t i, const char *name, int64_t k)
{
    const cJSON *e = cJSON_GetArrayItem(field(r, i, name), (int)k);
    return cJSON_IsString(e) ? e->valuestring : NULL;
}

static double row_number(const sqz_rows *r, int64_t i, const char *name, int32_t *ok)
{
    const cJSON *f = field(r, i, name);
    *ok = cJSON_IsNumber(f);
    return *ok ? f->valuedouble : 0;
}

static const char *const data_sets[] = {
    "[{\"text\":\"Lead melts at 327 degrees, and tin at 232.\"},{\"text\":\"Ohne Zinn kein Lot.\"},"
    "{\"text\":\"a\"},{\"text\":\"The quick brown fox jumps over the lazy dog, twice a day.\"},"
    "{\"text\":\"one two three four five six seven eight nine ten\"},{\"text\":\"end\"}]",
    "[{\"question\":\"What is 2 + 2?\",\"answer\":\"It is 4. #### 4\"},{\"question\":\"What is 7 - "
    "5?\","
    "\"answer\":\"#### 2\"},{\"question\":\"6 * 7?\",\"answer\":\"#### 42\"},{\"question\":\"0 + "
    "0?\","
    "\"answer\":\"#### 0\"},{\"question\":\"9 / 3?\",\"answer\":\"#### 3\"},{\"question\":\"1 + "
    "1?\","
    "\"answer\":\"#### 2\"}]",
    "[{\"ctx\":\"The sky is\",\"endings\":[\"blue.\",\"a loud "
    "square.\"],\"label\":0},{\"ctx\":\"Ice "
    "is\",\"endings\":[\"warm.\",\"cold.\",\"green.\"],\"label\":1},{\"ctx\":\"Two and two "
    "are\",\"endings\":[\"four.\",\"five.\"],\"label\":0},{\"ctx\":\"Birds\",\"endings\":[\"fly.\","
    "\"melt.\"]"
    ",\"label\":0},{\"ctx\":\"Salt "
    "is\",\"endings\":[\"sweet.\",\"salty.\"],\"label\":1},{\"ctx\":\"Night "
    "is\",\"endings\":[\"dark.\",\"noon.\"],\"label\":0}]",
    "[{\"context\":\"The capital of France is\",\"continuation\":\" Paris\"},{\"context\":\"One, "
    "two,\","
    "\"continuation\":\" three\"},{\"context\":\"a\",\"continuation\":\"b\"},{\"context\":\"x\","
    "\"continuation\":\"y\"},{\"context\":\"p\",\"continuation\":\"q\"},{\"context\":\"m\","
    "\"continuation\":\"n\"}]",
    "[{\"prompt\":\"Once upon a time\",\"completion\":\" there was\"},{\"prompt\":\"Hello,\","
    "\"completion\":\" world\"},{\"prompt\":\"a\",\"completion\":\"b\"},{\"prompt\":\"One\","
    "\"completion\":\" two\"},{\"prompt\":\"Red\",\"completion\":\" blue\"},{\"prompt\":\"End\","
    "\"completion\":\" it\"}]"};
enum { N_SETS = sizeof data_sets / sizeof *data_sets };

static void toy_begin(toy *t, probe *p, const cJSON *rows)
{
    *t = (toy){.probe = p, .rows = rows, .worst_item = -1};
    t->table = (sqz_rows){.struct_size = sizeof t->table,
                          .impl = t,
                          .name = "check",
                          .n_rows = cJSON_GetArraySize(rows),
                          .text = row_text,
                          .list_length = row_list_length,
                          .list_text = row_list_text,
                          .number = row_number};
}

static void toy_end(toy *t)
{
    for (int i = 0; i < t->n_arena; i++) free(t->arena[i]);
    free(t->arena);
    t->arena = NULL;
    t->n_arena = t->room = 0;
}

/* ---- the model ------------------------------------------------------------------------------- */
static uint32_t hash3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t h = a * 0x9e3779b1u ^ b * 0x85ebca77u ^ c * 0xc2b2ae3du;
    h = (h ^ (h >> 15)) * 0x2c1b3c6du;
    return h ^ (h >> 13);
}

static double score_of(int32_t before, int32_t last, int32_t next)
{
    return (double)(hash3((uint32_t)before, (uint32_t)last, (uint32_t)next) >> 8) *
           0x1p-22; /* 0..4 */
}

static double logprob(int32_t before, int32_t last, int32_t next, int32_t *best)
{
    double sum = 0, top = -1;
    for (int32_t v = 0; v < 256; v++) {
        double s = score_of(before, last, v);
        sum += exp(s);
        if (s > top) top = s, *best = v;
    }
    return score_of(before, last, next) - log(sum);
}

/* Does this service call fail, as a full disk or an ill model would make it? */
static sqz_status refuse(toy *t)
{
    t->calls++;
    if (!t->fail_after || t->calls < t->fail_after) return SQZ_OK;
    const sqz_host *h = agent_host(t->agent);
    return h->fail(h, SQZ_E_NUMERIC, "the model failed on purpose");
}

static sqz_status to_ids(toy *t, const char *text, size_t n, const int32_t **ids, int64_t *count)
{
    int32_t *out = keep(t, malloc((n + 1) * sizeof *out));
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)text[i];
    *ids = out;
    *count = (int64_t)n;
    return SQZ_OK;
}

static sqz_status toy_encode(const sqz_eval *e, const char *text, int32_t special,
                             const int32_t **ids, int64_t *n)
{
    (void)special;
    sqz_status s = refuse(e->impl);
    return s ? s : to_ids(e->impl, text, strlen(text), ids, n);
}

static sqz_status toy_decode(const sqz_eval *e, const int32_t *ids, int64_t n, int32_t skip,
                             const char **text)
{
    (void)skip;
    char *out = keep(e->impl, malloc((size_t)n + 1));
    sqz_status s = refuse(e->impl);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] > 255)
            FAIL(((toy *)e->impl)->probe, "decodes id %d of a vocabulary of 256", ids[i]);
        out[i] = (char)(' ' + (ids[i] & 63));
    }
    out[n] = 0;
    *text = out;
    return s;
}

static sqz_status toy_stream(const sqz_eval *e, const int32_t **ids, int64_t *n)
{
    toy *t = e->impl;
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    for (int repeat = 0; repeat < 40; repeat++)
        for (int64_t i = 0; i < t->table.n_rows; i++) {
            const char *row = row_text(&t->table, i, "text");
            fprintf(f, "%s\n", row ? row : "no text field");
        }
    fclose(f);
    keep(t, text);
    sqz_status s = refuse(t);
    return s ? s : to_ids(t, text, bytes, ids, n);
}

static void check_ids(toy *t, const int32_t *ids, int64_t n, const char *what)
{
    if (n <= 0) FAIL(t->probe, "%s of %lld tokens; at least one", what, (long long)n);
    if (n > CONTEXT)
        FAIL(t->probe, "%s of %lld tokens; the model's context is %d", what, (long long)n, CONTEXT);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] > 255) FAIL(t->probe, "%s holds id %d", what, ids[i]);
}

static sqz_status toy_windows(const sqz_eval *e, const int32_t *ids, int64_t n, int64_t window,
                              float *out)
{
    int32_t best;
    sqz_status s = refuse(e->impl);
    for (int64_t i = 0; i < n && !s; i++) {
        const int32_t *w = ids + i * window;
        check_ids(e->impl, w, window, "a window");
        out[i * window] = 0;
        for (int64_t k = 1; k < window; k++)
            out[i * window + k] = (float)logprob(k > 1 ? w[k - 2] : 0, w[k - 1], w[k], &best);
    }
    return s;
}

static sqz_status toy_loglik(const sqz_eval *e, sqz_loglik *q, int64_t n)
{
    sqz_status s = refuse(e->impl);
    for (int64_t i = 0; i < n && !s; i++) {
        check_ids(e->impl, q[i].context, q[i].n_context, "a context");
        check_ids(e->impl, q[i].continuation, q[i].n_continuation, "a continuation");
        if (q[i].n_context < 1 || q[i].n_continuation < 1) return SQZ_E_INVALID;
        int32_t last = q[i].context[q[i].n_context - 1], before = 0, best = 0;
        q[i].logprob = 0;
        q[i].greedy = 1;
        for (int64_t k = 0; k < q[i].n_continuation; k++) {
            q[i].logprob += logprob(before, last, q[i].continuation[k], &best);
            q[i].greedy &= best == q[i].continuation[k];
            before = last;
            last = q[i].continuation[k];
        }
    }
    return s;
}

/* Greedy; ends after a number of tokens that the prompt decides. */
static sqz_status toy_generate(const sqz_eval *e, sqz_generation *q, int64_t n, int64_t max_new)
{
    sqz_status s = refuse(e->impl);
    for (int64_t i = 0; i < n && !s; i++) {
        check_ids(e->impl, q[i].prompt, q[i].n_prompt, "a prompt");
        if (q[i].n_prompt < 1 || !q[i].ids) return SQZ_E_INVALID;
        int32_t before = 0, last = q[i].prompt[q[i].n_prompt - 1], best = 0;
        int64_t length = hash3((uint32_t)last, (uint32_t)q[i].n_prompt, 9) % 40;
        for (q[i].n_ids = 0; q[i].n_ids < max_new && q[i].n_ids < length; q[i].n_ids++) {
            logprob(before, last, 0, &best);
            q[i].ids[q[i].n_ids] = best;
            before = last;
            last = best;
        }
        q[i].stopped = q[i].n_ids < max_new;
    }
    return s;
}

static void toy_metric(const sqz_eval *e, const char *name, double value, double stderr_, int64_t n)
{
    toy *t = e->impl;
    if (!isfinite(value)) t->bad_metrics++;
    t->metric_n = n;
    if (t->n_metrics < MAX_METRICS) snprintf(t->metrics[t->n_metrics++], 64, "%s", name);
    if (t->digest) {
        sha256_update(t->digest, name, strlen(name));
        sha256_update(t->digest, &value, sizeof value);
        sha256_update(t->digest, &stderr_, sizeof stderr_);
    }
}

static void toy_item(const sqz_eval *e, int64_t index, double outcome, const char *note)
{
    toy *t = e->impl;
    t->n_items++;
    if (index > t->worst_item) t->worst_item = index;
    if (index < 0) FAIL(t->probe, "reports item %lld", (long long)index);
    if (t->digest) {
        sha256_update(t->digest, &index, sizeof index);
        sha256_update(t->digest, &outcome, sizeof outcome);
        if (note) sha256_update(t->digest, note, strlen(note));
    }
}

static sqz_status call(toy *t, agent *a, const cJSON *with, int64_t limit, sqz_error *err)
{
    t->agent = a;
    sqz_eval e = {.struct_size = sizeof e,
                  .impl = t,
                  .rows = &t->table,
                  .limit = limit,
                  .window = 64,
                  .context_size = CONTEXT,
                  .bos = -1,
                  .eos = EOS,
                  .encode = toy_encode,
                  .decode = toy_decode,
                  .stream = toy_stream,
                  .score_windows = toy_windows,
                  .loglik = toy_loglik,
                  .generate = toy_generate,
                  .metric = toy_metric,
                  .item = toy_item};
    return agent_call(a, &e, with, err);
}

/* The built-in rows that the agent says it understands, or NULL; caller frees. */
static cJSON *rows_for(probe *p, agent *a)
{
    const sqz_eval_match *m = agent_extension(a, SQZ_EVAL_MATCH_1);
    for (int i = 0; i < N_SETS; i++) {
        toy t;
        cJSON *rows = cJSON_Parse(data_sets[i]);
        toy_begin(&t, p, rows);
        int score = m->match(&t.table);
        toy_end(&t);
        if (score > 0) return rows;
        cJSON_Delete(rows);
    }
    SKIP(p, "recognises none of the built-in data sets (text; question, answer; ctx, endings, "
            "label; context, continuation; prompt, completion)");
    return NULL;
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    toy t;
    cJSON *rows = rows_for(p, a);
    if (!rows) return SQZ_OK;
    (void)size; /* rows are few: what takes long is the host's model, not the evaluation */
    toy_begin(&t, p, rows);
    t.digest = digest;
    sqz_status s = call(&t, a, with, 0, err);
    if (!s && !t.n_metrics) s = err_set(err, SQZ_E_INTERNAL, "reported no metric");
    toy_end(&t);
    cJSON_Delete(rows);
    return s;
}

const subject_kind subject_eval = {"eval/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
/* Opens the agent and its rows; 0 after a verdict. */
static int prepare(probe *p, agent **a, cJSON **rows)
{
    sqz_error err = {0};
    if (agent_open(p->host, p->info, a, &err)) {
        FAIL(p, "%s", err.text);
        return 0;
    }
    *rows = rows_for(p, *a);
    return *rows != NULL;
}

static void reports_primary(probe *p)
{
    agent *a;
    cJSON *rows;
    toy t;
    sqz_error err = {0};
    if (!prepare(p, &a, &rows)) return;
    const sqz_eval_match *m = agent_extension(a, SQZ_EVAL_MATCH_1);
    toy_begin(&t, p, rows);
    if (call(&t, a, NULL, 0, &err)) FAIL(p, "%s", err.text);
    int found = 0;
    for (int i = 0; i < t.n_metrics; i++) found |= !strcmp(t.metrics[i], m->primary);
    if (!p->verdict && !found) FAIL(p, "does not report its primary metric %s", m->primary);
    if (t.bad_metrics) FAIL(p, "reports %d metrics that are not finite", t.bad_metrics);
    if (!t.n_items) WARN(p, "reports no items; paired comparisons need them");
    toy_end(&t);
    cJSON_Delete(rows);
    agent_close(a);
}

static void limit_kept(probe *p)
{
    agent *a;
    cJSON *rows;
    if (!prepare(p, &a, &rows)) return;
    for (int64_t limit = 1; limit <= 1000; limit = limit * 10 + 1) {
        toy t;
        sqz_error err = {0};
        probe_at(p, "limit %lld", (long long)limit);
        toy_begin(&t, p, rows);
        if (call(&t, a, NULL, limit, &err))
            FAIL(p, "limit %lld: %s", (long long)limit, err.text);
        else if (limit < ROWS && t.n_items > limit)
            FAIL(p, "was given limit %lld and reports %d items", (long long)limit, t.n_items);
        toy_end(&t);
    }
    cJSON_Delete(rows);
    agent_close(a);
}

static void blank_texts(cJSON *item)
{
    if (cJSON_IsString(item)) cJSON_SetValuestring(item, "");
    cJSON *child;
    cJSON_ArrayForEach(child, item) blank_texts(child);
}

static void odd_rows(probe *p)
{
    agent *a;
    cJSON *rows;
    if (!prepare(p, &a, &rows)) return;
    for (int kind = 0; kind < 3; kind++) {
        toy t;
        sqz_error err = {0};
        cJSON *odd = cJSON_Duplicate(rows, 1);
        if (kind == 0) blank_texts(odd);
        if (kind == 1) cJSON_AddItemToArray(odd, cJSON_CreateObject());
        while (kind == 2 && cJSON_GetArraySize(odd) > 1) cJSON_DeleteItemFromArray(odd, 1);
        const char *what = kind == 0   ? "empty texts"
                           : kind == 1 ? "a row without fields"
                                       : "one row only";
        probe_at(p, "%s", what);
        toy_begin(&t, p, odd);
        sqz_status s = call(&t, a, NULL, 0, &err);
        if (s && strstr(err.text, "without saying why")) FAIL(p, "%s: %s", what, err.text);
        if (!s && t.bad_metrics) WARN(p, "%s: a metric is not finite", what);
        if (s && kind == 2) FAIL(p, "%s: %s", what, err.text);
        toy_end(&t);
        cJSON_Delete(odd);
    }
    cJSON_Delete(rows);
    agent_close(a);
}

static void match_is_picky(probe *p)
{
    agent *a;
    sqz_error err = {0};
    if (agent_open(p->host, p->info, &a, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    const sqz_eval_match *m = agent_extension(a, SQZ_EVAL_MATCH_1);
    static const char *const foreign[] = {"[{\"weather\":\"rain\",\"degrees\":4}]", "[{}]", "[]"};
    for (int i = 0; i < 3; i++) {
        toy t;
        cJSON *rows = cJSON_Parse(foreign[i]);
        probe_at(p, "matching %s", foreign[i]);
        toy_begin(&t, p, rows);
        if (m->match(&t.table) > 0) FAIL(p, "claims to understand rows such as %s", foreign[i]);
        toy_end(&t);
        cJSON_Delete(rows);
    }
    agent_close(a);
}

static void failures_passed_on(probe *p)
{
    agent *a;
    cJSON *rows;
    if (!prepare(p, &a, &rows)) return;
    for (int at = 1; at < 40; at++) {
        toy t;
        sqz_error err = {0};
        probe_at(p, "the host's call number %d fails", at);
        toy_begin(&t, p, rows);
        t.fail_after = at;
        sqz_status s = call(&t, a, NULL, 0, &err);
        int reached = t.calls >= at;
        toy_end(&t);
        if (!reached) break;
        if (s == SQZ_OK) FAIL(p, "a failing call of the host (number %d) is ignored", at);
        if (s && strstr(err.text, "without saying why"))
            WARN(p, "a failing call of the host loses its text");
    }
    cJSON_Delete(rows);
    agent_close(a);
}

const check_case cases_eval[] = {
    {"behave", "reports-primary", "eval/1", TEST_USES, 60, reports_primary,
     "reports its primary metric, finite"},
    {"behave", "limit-kept", "eval/1", TEST_USES, 60, limit_kept, "uses no more rows than asked"},
    {"behave", "odd-rows", "eval/1", TEST_USES, 60, odd_rows,
     "empty, missing and single rows work or are refused in a sentence"},
    {"behave", "match-is-picky", "eval/1", TEST_USES, 60, match_is_picky,
     "claims only rows that it understands"},
    {"behave", "failures-passed-on", "eval/1", TEST_USES, 60, failures_passed_on,
     "a failing call of the host ends it"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
