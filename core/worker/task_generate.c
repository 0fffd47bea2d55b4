/* task_generate.c - what the current artifact (or the dense model) writes by itself, and how likely
 * it finds what another model wrote.
 *
 * {"task":"generate","prompts":[text],"datasets":[spec],"count":N,"max_new_tokens":N,"rounds":N,
 *  "samples":bool,"seed":N,"score":[{"prompt_ids":[],"ids":[]}]}
 * Prompts: the given texts, and those of the first `count` rows of each data set: what a task asks,
 * a question, a context, or the first half of a running text (at most PROMPT_TOKENS of it).
 *
 * "generations": [{"prompt","prompt_ids","ids","text","stopped","loss","worst"}], greedy; loss:
 * mean negative log-likelihood of a new token, absent when there is none; worst: of the most
 * surprising WORST_TOKENS in a row.  "samples": [{"loss","worst"}] of one text per prompt drawn at
 * temperature 1: how surprising the model's own language is to it.  "scored": the same of `score`.
 * "rounds": all of it again, each round with its seconds, the resident memory after it, and whether
 * the ids were those of the first one. */
#include "worker/tasks.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROMPT_TOKENS = 32, MOST_PROMPTS = 4096, MOST_TEXT = 1 << 20 };

typedef struct writer {
    job_state *job;
    subject *subject;
    tokenizer *tokenizer;
    model *model;
    int64_t max_new, n, room;
    sqz_generation *g; /* [n] prompts are ours, ids lie in `ids` */
    int32_t *ids;      /* [n, max_new] */
} writer;

static void writer_free(writer *w)
{
    for (int64_t i = 0; i < w->n; i++) free((void *)(uintptr_t)w->g[i].prompt);
    free(w->g);
    free(w->ids);
}

/* ---- prompts --------------------------------------------------------------------------------- */
/* Takes ids.  The prompt loses its beginning where the context has no room for it. */
static sqz_status add_prompt(writer *w, int32_t *ids, int64_t n, sqz_error *err)
{
    int64_t room = w->subject->config.context - w->max_new;
    if (w->n == w->room) {
        w->room = w->room ? 2 * w->room : 16;
        sqz_generation *grown = realloc(w->g, (size_t)w->room * sizeof *grown);
        if (!grown) {
            free(ids);
            return err_set(err, SQZ_E_NOMEM, "no memory for the prompts");
        }
        w->g = grown;
    }
    if (n > room) {
        memmove(ids, ids + (n - room), (size_t)room * sizeof *ids);
        n = room;
    }
    w->g[w->n++] = (sqz_generation){.prompt = ids, .n_prompt = n};
    return SQZ_OK;
}

/* half: of running text only the beginning. */
static sqz_status add_text(writer *w, const char *text, int half, sqz_error *err)
{
    int32_t *ids = NULL;
    int64_t n = 0;
    size_t bytes = strnlen(text, MOST_TEXT);
    sqz_status st = tokenizer_encode(w->tokenizer, text, (int64_t)bytes, 1, &ids, &n, err);
    if (st) return st;
    if (half && n > 1) n = n / 2 < PROMPT_TOKENS ? n / 2 : PROMPT_TOKENS;
    if (n > 0) return add_prompt(w, ids, n, err);
    free(ids);
    int32_t bos = tokenizer_bos(w->tokenizer), *only = malloc(sizeof *only);
    if (bos < 0 || !only) {
        free(only);
        return err_set(err, ERR_USAGE, "a prompt is empty and the tokenizer has no start token");
    }
    *only = bos;
    return add_prompt(w, only, 1, err);
}

static sqz_status add_row(writer *w, const sqz_rows *rows, int64_t i, sqz_error *err)
{
    static const char *const asked[] = {"request.prompt", "request.context", "ctx",
                                        "query",          "context",         "prompt"};
    const char *text = NULL;
    for (size_t k = 0; k < sizeof asked / sizeof *asked && !text; k++)
        text = rows->text(rows, i, asked[k]);
    if (text && *text) return add_text(w, text, 0, err);
    if ((text = rows->text(rows, i, "question"))) {
        size_t bytes = strlen(text) + 32;
        char *prompt = malloc(bytes);
        if (!prompt) return err_set(err, SQZ_E_NOMEM, "no memory for a prompt");
        snprintf(prompt, bytes, "Question: %s\nAnswer:", text);
        sqz_status st = add_text(w, prompt, 0, err);
        free(prompt);
        return st;
    }
    text = rows->text(rows, i, "request.text");
    if (!text) text = rows->text(rows, i, "text");
    return text ? add_text(w, text, 1, err) : SQZ_OK;
}

static sqz_status add_set(writer *w, const char *spec, int64_t count, sqz_error *err)
{
    dataset *d;
    dataset_options with = {0};
    sqz_status st = dataset_open_with(spec, &with, &d, err);
    if (st) return st;
    for (int64_t i = 0; i < d->rows.n_rows && i < count && !st; i++)
        st = add_row(w, &d->rows, i, err);
    dataset_close(d);
    return st;
}

static sqz_status read_prompts(writer *w, const cJSON *task, sqz_error *err)
{
    int64_t count = json_int(task, "count", 16), context = w->subject->config.context;
    const cJSON *item;
    sqz_status st = SQZ_OK;
    w->max_new = json_int(task, "max_new_tokens", 128);
    if (w->max_new > context / 2) w->max_new = context / 2;
    if (w->max_new < 1 || count < 0 || count > MOST_PROMPTS)
        return err_set(err, ERR_USAGE, "generate: at least 1 new token, at most %d prompts a set",
                       MOST_PROMPTS);
    cJSON_ArrayForEach(item, json_get(task, "prompts")) if (!st && cJSON_IsString(item)) st =
        add_text(w, item->valuestring, 0, err);
    cJSON_ArrayForEach(item, json_get(task, "datasets")) if (!st && cJSON_IsString(item)) st =
        add_set(w, item->valuestring, count, err);
    w->ids = calloc((size_t)(w->n * w->max_new) + 1, sizeof *w->ids);
    if (!st && !w->ids) st = err_set(err, SQZ_E_NOMEM, "no memory for the generations");
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */
static sqz_status write_all(writer *w, const sampling *how, sqz_error *err)
{
    for (int64_t i = 0; i < w->n; i++) {
        w->g[i].ids = w->ids + i * w->max_new;
        w->g[i].n_ids = 0;
    }
    return w->n ? model_generate(w->model, w->g, w->n, w->max_new, how, 0, NULL, NULL, NULL, err)
                : SQZ_OK;
}

/* How likely a model finds a text: negative log-likelihoods of its new tokens. */
typedef struct surprise {
    double loss;  /* mean; NaN without a new token */
    double worst; /* largest mean of WORST_TOKENS in a row */
} surprise;
enum { WORST_TOKENS = 8 };

static surprise sum_up(const float *logprob, int64_t n)
{
    double sum = 0, run = 0, worst = 0;
    for (int64_t t = 0; t < n; t++) {
        sum -= logprob[t];
        run -= logprob[t];
        if (t >= WORST_TOKENS) run += logprob[t - WORST_TOKENS];
        if (t + 1 >= WORST_TOKENS || t + 1 == n)
            worst = fmax(worst, run / (double)(t < WORST_TOKENS ? t + 1 : WORST_TOKENS));
    }
    return (surprise){n ? sum / (double)n : NAN, n ? worst : NAN};
}

static sqz_status surprises(const writer *w, const sqz_generation *g, int64_t n, surprise *out,
                            sqz_error *err)
{
    int64_t context = w->subject->config.context, most = 0;
    for (int64_t i = 0; i < n; i++)
        if (g[i].n_prompt + g[i].n_ids > most) most = g[i].n_prompt + g[i].n_ids;
    if (most > context)
        return err_set(err, ERR_USAGE, "a text of %lld tokens passes the context of %lld",
                       (long long)most, (long long)context);
    int32_t *ids = malloc((size_t)(most + 1) * sizeof *ids);
    float *logprob = malloc((size_t)(most + 1) * sizeof *logprob);
    sqz_status st = ids && logprob ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory to score texts");
    for (int64_t i = 0; i < n && !st; i++) {
        const sqz_generation *k = &g[i];
        memcpy(ids, k->prompt, (size_t)k->n_prompt * sizeof *ids);
        memcpy(ids + k->n_prompt, k->ids, (size_t)k->n_ids * sizeof *ids);
        if (k->n_ids)
            st = model_score_windows(w->model, ids, 1, k->n_prompt + k->n_ids, logprob, NULL, err);
        out[i] = sum_up(logprob + k->n_prompt, st ? 0 : k->n_ids);
    }
    free(ids);
    free(logprob);
    return st;
}

static void add_surprise(cJSON *o, surprise s)
{
    json_add_num(o, "loss", s.loss);
    json_add_num(o, "worst", s.worst);
}

static void add_ids(cJSON *o, const char *key, const int32_t *ids, int64_t n)
{
    cJSON *list = cJSON_CreateIntArray(ids, (int)n);
    cJSON_AddItemToObject(o, key, list ? list : cJSON_CreateArray());
}

static sqz_status add_decoded(writer *w, cJSON *o, const char *key, const int32_t *ids, int64_t n,
                              sqz_error *err)
{
    char *text;
    int64_t bytes;
    sqz_status st = tokenizer_decode(w->tokenizer, ids, n, 1, &text, &bytes, err);
    if (st) return st;
    cJSON_AddStringToObject(o, key, text);
    free(text);
    return SQZ_OK;
}

static sqz_status add_generations(writer *w, cJSON *result, sqz_error *err)
{
    cJSON *list = cJSON_AddArrayToObject(result, "generations");
    surprise *found = malloc(((size_t)w->n + 1) * sizeof *found);
    sqz_status st = found ? surprises(w, w->g, w->n, found, err)
                          : err_set(err, SQZ_E_NOMEM, "no memory to score the generations");
    for (int64_t i = 0; i < w->n && !st; i++) {
        const sqz_generation *g = &w->g[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        add_ids(o, "prompt_ids", g->prompt, g->n_prompt);
        add_ids(o, "ids", g->ids, g->n_ids);
        cJSON_AddBoolToObject(o, "stopped", g->stopped);
        add_surprise(o, found[i]);
        st = add_decoded(w, o, "prompt", g->prompt, g->n_prompt, err);
        if (!st) st = add_decoded(w, o, "text", g->ids, g->n_ids, err);
    }
    free(found);
    return st;
}

/* ---- again and again ------------------------------------------------------------------------- */
static double resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long long pages = 0;
    if (f && fscanf(f, "%*d %lld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static sqz_status write_rounds(writer *w, int64_t rounds, cJSON *result, sqz_error *err)
{
    sampling greedy = {.top_p = 1};
    size_t bytes = (size_t)(w->n * w->max_new) * sizeof *w->ids;
    int32_t *first = malloc(bytes + 1);
    cJSON *list = cJSON_AddArrayToObject(result, "rounds");
    sqz_status st = first ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory for the generations");
    for (int64_t k = 0; k < rounds && !st; k++) {
        double start = clock_s(), tokens = 0;
        if (job_tick(w->job, (double)k / (double)(rounds + 1), "generating"))
            st = err_set(err, SQZ_E_CANCELLED, "cancelled");
        memset(w->ids, 0, bytes);
        if (!st) st = write_all(w, &greedy, err);
        if (!k) memcpy(first, w->ids, bytes);
        for (int64_t i = 0; i < w->n; i++) tokens += (double)w->g[i].n_ids;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        json_add_num(o, "seconds", clock_s() - start);
        json_add_num(o, "tokens", tokens);
        json_add_num(o, "resident_bytes", resident_bytes());
        cJSON_AddBoolToObject(o, "same", !memcmp(first, w->ids, bytes));
    }
    free(first);
    return st;
}

static sqz_status add_samples(writer *w, int64_t seed, cJSON *result, sqz_error *err)
{
    sampling drawn = {.temperature = 1, .top_p = 1, .seed = (uint64_t)seed};
    surprise *found = malloc(((size_t)w->n + 1) * sizeof *found);
    sqz_status st = found ? write_all(w, &drawn, err) : err_set(err, SQZ_E_NOMEM, "no memory");
    if (!st) st = surprises(w, w->g, w->n, found, err);
    cJSON *list = cJSON_AddArrayToObject(result, "samples");
    for (int64_t i = 0; i < w->n && !st; i++) {
        if (!isfinite(found[i].loss)) continue;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        add_surprise(o, found[i]);
    }
    free(found);
    return st;
}

/* ---- what another model wrote ---------------------------------------------------------------- */
/* A list of token ids (malloc'd), or NULL with an error. */
static int32_t *read_ids(const cJSON *list, int64_t vocab, int64_t *n, sqz_error *err)
{
    const cJSON *item;
    int32_t *ids = malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof *ids);
    *n = 0;
    if (!ids) err_set(err, SQZ_E_NOMEM, "no memory for the ids to score");
    cJSON_ArrayForEach(item, list)
    {
        if (!ids) break;
        if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < (double)vocab) {
            ids[(*n)++] = (int32_t)item->valuedouble;
            continue;
        }
        err_set(err, ERR_MODEL,
                "a token to score is not in the vocabulary of %lld; the models "
                "have different tokenizers",
                (long long)vocab);
        free(ids);
        ids = NULL;
    }
    return ids;
}

static sqz_status add_scored(writer *w, const cJSON *texts, cJSON *result, sqz_error *err)
{
    int n = cJSON_GetArraySize(texts), k = 0;
    int64_t vocab = w->subject->config.vocab;
    cJSON *list = cJSON_AddArrayToObject(result, "scored");
    sqz_generation *g = calloc((size_t)n + 1, sizeof *g);
    surprise *found = malloc(((size_t)n + 1) * sizeof *found);
    sqz_status st = g && found ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory to score texts");
    const cJSON *text;
    cJSON_ArrayForEach(text, texts)
    {
        if (st) break;
        g[k].prompt = read_ids(json_get(text, "prompt_ids"), vocab, &g[k].n_prompt, err);
        g[k].ids = g[k].prompt ? read_ids(json_get(text, "ids"), vocab, &g[k].n_ids, err) : NULL;
        if (!g[k].ids || !g[k].n_prompt) st = ERR_MODEL;
        k++;
    }
    if (!st) st = surprises(w, g, n, found, err);
    for (int i = 0; i < n && !st; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        add_surprise(o, found[i]);
    }
    for (int i = 0; i < k; i++) {
        free((void *)(uintptr_t)g[i].prompt);
        free(g[i].ids);
    }
    free(g);
    free(found);
    return st;
}

sqz_status task_generate(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    writer w = {.job = s};
    int64_t rounds = json_int(task, "rounds", 1);
    sqz_status st = job_subject(s, 1, 1, &w.subject, err);
    if (st) return st;
    st = subject_tokenizer(w.subject, &w.tokenizer, err);
    if (!st) st = subject_model(w.subject, &w.model, err);
    if (!st) st = read_prompts(&w, task, err);
    if (!st) st = write_rounds(&w, rounds < 1 ? 1 : rounds, result, err);
    if (!st) st = add_generations(&w, result, err);
    if (!st && json_bool(task, "samples", 0))
        st = add_samples(&w, json_int(task, "seed", 0), result, err);
    if (!st && json_get(task, "score")) st = add_scored(&w, json_get(task, "score"), result, err);
    writer_free(&w);
    subject_close(w.subject);
    return st;
}
