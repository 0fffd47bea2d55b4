/* task_eval.c - evaluates the current artifact (or the dense model) on data sets.
 *
 * {"task":"eval","evals":[{"name","dataset","limit","window","shots","use","with",
 *                          "document_tokens"}],
 *  "kl":{"dataset","tokens","window","make":true | "record":digest},"reuse":bool}
 * "early" of an evaluation: see early.h.  kl may be a list, and so is its result then.
 * Each data set goes to the evaluation plugin that recognises its fields best (or the one named by
 * `use`).  Per-item outcomes become an object of the registry.  kl: divergence from the baseline's
 * record of top log-probabilities (a lower bound, see model.h), which the baseline's own job makes.
 */
#include "task/task.h"
#include "worker/divergence.h"
#include "worker/early.h"
#include "worker/eval_group.h"
#include "worker/tasks.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What sqz_eval.impl points to. */
typedef struct eval_run {
    job_state *job;
    subject *subject;
    model *model;
    tokenizer *tokenizer;
    dataset *data;
    framing frame;
    agent *agent;
    void **arena; /* ids and texts handed out, freed when the evaluation is over */
    int64_t n_arena, arena_room;
    cJSON *metrics;
    char *items; /* JSON lines */
    size_t items_bytes, items_room;
    int items_lost; /* no memory for one */
    int64_t scored_tokens;
    int64_t window, limit; /* of running text */
    early *early;          /* NULL: every item is evaluated */
} eval_run;

/* A runtime error inside a service becomes the plugin's fail() text. */
static sqz_status relay(eval_run *r, sqz_status st, const sqz_error *e)
{
    return st ? host_fail(agent_host(r->agent), st, e->text) : SQZ_OK;
}

/* Until the evaluation is over; what cannot be kept is freed. */
static sqz_status keep(eval_run *r, void *p)
{
    if (r->n_arena == r->arena_room) {
        int64_t room = r->arena_room ? 2 * r->arena_room : 256;
        void **grown = realloc(r->arena, (size_t)room * sizeof *grown);
        if (!grown) {
            free(p);
            return host_fail(agent_host(r->agent), SQZ_E_NOMEM,
                             "no memory for the texts of the evaluation");
        }
        r->arena = grown;
        r->arena_room = room;
    }
    r->arena[r->n_arena++] = p;
    return SQZ_OK;
}

/* ---- services of the subject
 * ------------------------------------------------------------------------- */

static sqz_status ev_encode(const sqz_eval *e, const char *text, int32_t special,
                            const int32_t **ids, int64_t *n)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    int32_t *out;
    sqz_status st =
        tokenizer_encode(r->tokenizer, text, (int64_t)strlen(text), special, &out, n, &er);
    if (st) return relay(r, st, &er);
    if ((st = keep(r, out))) return st;
    *ids = out;
    return SQZ_OK;
}

static sqz_status ev_decode(const sqz_eval *e, const int32_t *ids, int64_t n, int32_t skip,
                            const char **text)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    char *out;
    int64_t bytes;
    sqz_status st = tokenizer_decode(r->tokenizer, ids, n, skip, &out, &bytes, &er);
    if (st) return relay(r, st, &er);
    if ((st = keep(r, out))) return st;
    *text = out;
    return SQZ_OK;
}

static sqz_status ev_stream(const sqz_eval *e, const int32_t **ids, int64_t *n)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    int32_t *out;
    sqz_status st = data_stream(r->data, r->tokenizer, r->frame, NULL, &out, n, &er);
    if (!st && r->early) {
        st = early_windows(r->early, out, n, r->window, r->limit, &er);
        if (st) free(out);
    }
    if (st) return relay(r, st, &er);
    if ((st = keep(r, out))) return st;
    *ids = out;
    return SQZ_OK;
}

static sqz_status ev_score_windows(const sqz_eval *e, const int32_t *ids, int64_t n, int64_t window,
                                   float *logprob)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    int64_t context = r->subject->config.context;
    if (window > context && !r->scored_tokens)
        job_log(r->job, SQZ_LOG_WARN,
                "%s: windows of %lld tokens are longer than the model's context of %lld; beyond it "
                "the model extrapolates",
                r->data->path, (long long)window, (long long)context);
    r->scored_tokens += n * window;
    return relay(r, model_score_windows(r->model, ids, n, window, logprob, NULL, &er), &er);
}

static sqz_status ev_loglik(const sqz_eval *e, sqz_loglik *requests, int64_t n)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    for (int64_t i = 0; i < n; i++)
        r->scored_tokens += requests[i].n_context + requests[i].n_continuation;
    return relay(r, model_loglik(r->model, requests, n, &er), &er);
}

/* Has the request written one of its task's stop strings?  Only the end of it can be new. */
typedef struct stop_watch {
    eval_run *run;
    const sqz_generation *requests;
    int64_t tokens; /* the longest stop string spans */
} stop_watch;

static int64_t longest_stop(const text_list *until)
{
    size_t longest = 0;
    for (int i = 0; i < until->n; i++)
        if (strlen(until->at[i]) > longest) longest = strlen(until->at[i]);
    return (int64_t)longest + 2;
}

static int heard(void *ctx, int64_t request, int32_t id)
{
    const stop_watch *w = ctx;
    const sqz_generation *r = &w->requests[request];
    const text_list *until = &w->run->data->task->until;
    int64_t from = r->n_ids > w->tokens ? r->n_ids - w->tokens : 0, bytes;
    char *text;
    int found = 0;
    (void)id;
    if (tokenizer_decode(w->run->tokenizer, r->ids + from, r->n_ids - from, 0, &text, &bytes, NULL))
        return 0; /* the whole is decoded, and refused, at the end */
    for (int i = 0; i < until->n && !found; i++)
        found = *until->at[i] && strstr(text, until->at[i]) != NULL;
    free(text);
    return found ? GENERATE_STOP_ONE : 0;
}

static sqz_status ev_generate(const sqz_eval *e, sqz_generation *requests, int64_t n,
                              int64_t max_new)
{
    eval_run *r = e->impl;
    sqz_error er = {0};
    sampling greedy = {.top_p = 1};
    stop_watch watch = {.run = r, .requests = requests};
    const task *t = r->data->task;
    if (t) watch.tokens = longest_stop(&t->until);
    sqz_status st = model_generate(r->model, requests, n, max_new, &greedy, 0, t ? heard : NULL,
                                   &watch, NULL, &er);
    for (int64_t i = 0; i < n && !st; i++)
        r->scored_tokens += requests[i].n_prompt + requests[i].n_ids;
    return relay(r, st, &er);
}

static void ev_metric(const sqz_eval *e, const char *name, double value, double stderr_, int64_t n)
{
    eval_run *r = e->impl;
    char key[128];
    json_add_num(r->metrics, name, value);
    const char *comma = strchr(name, ','); /* "exact_match,strict-match" */
    snprintf(key, sizeof key, "%.*s_stderr%s", comma ? (int)(comma - name) : 96, name,
             comma ? comma : "");
    if (stderr_ >= 0) json_add_num(r->metrics, key, stderr_);
    if (!json_get(r->metrics, "n")) json_add_num(r->metrics, "n", (double)n);
}

static void ev_item(const sqz_eval *e, int64_t index, double outcome, const char *text)
{
    eval_run *r = e->impl;
    cJSON *j = cJSON_CreateObject();
    if (r->early) index = early_item(r->early, index, outcome);
    json_add_num(j, "i", (double)index);
    json_add_num(j, "outcome", outcome);
    if (text) cJSON_AddStringToObject(j, "note", text);
    char *line = json_text(j, 0);
    size_t n = strlen(line);
    cJSON_Delete(j);
    if (r->items_bytes + n + 2 > r->items_room) {
        size_t room = 2 * (r->items_bytes + n + 2) + 4096;
        char *grown = realloc(r->items, room);
        if (!grown) { /* the plugin cannot be told here; store_items refuses */
            r->items_lost = 1;
            free(line);
            return;
        }
        r->items = grown;
        r->items_room = room;
    }
    memcpy(r->items + r->items_bytes, line, n);
    r->items_bytes += n;
    r->items[r->items_bytes++] = '\n';
    free(line);
}

static int32_t ev_enough(const sqz_eval *e)
{
    const eval_run *r = e->impl;
    return r->early && early_enough(r->early);
}

/* ---- choosing the evaluation
 * ------------------------------------------------------------------------- */

static sqz_status open_best(job_state *s, const dataset *d, agent **out, sqz_error *err)
{
    int best = 0;
    *out = NULL;
    for (int i = 0; i < catalogue_count(s->catalogue); i++) {
        const agent_info *info = catalogue_at(s->catalogue, i);
        if (info->shadowed || strcmp(info->kind, "eval/1") != 0) continue;
        agent *a;
        sqz_status st = agent_open(s->host, info, &a, err);
        if (st) return st;
        const sqz_eval_match *m = agent_extension(a, SQZ_EVAL_MATCH_1);
        int score = m && m->match ? m->match(&d->rows) : 0;
        if (score > best) {
            if (*out) agent_close(*out);
            *out = a;
            best = score;
        } else {
            agent_close(a);
        }
    }
    if (*out) return SQZ_OK;
    return err_set(
        err, ERR_MODEL,
        "%s: no evaluation recognises its fields; use rows with {text}, {question, answer}, "
        "{ctx|question, endings|choices, label|answer} or {context, continuation}",
        d->path);
}

static sqz_status open_eval(job_state *s, const cJSON *spec, const dataset *d, agent **out,
                            sqz_error *err)
{
    const char *use = json_str(spec, "use", NULL);
    if (!use) return open_best(s, d, out, err);
    const agent_info *info;
    sqz_status st = catalogue_find(s->catalogue, "eval/1", use, &info, err);
    return st ? st : agent_open(s->host, info, out, err);
}

/* ---- one evaluation
 * ------------------------------------------------------------------------------------ */

static sqz_status store_items(eval_run *r, const char *name, cJSON *items, sqz_error *err)
{
    char digest[DIGEST_TEXT];
    if (r->items_lost)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for the outcomes of its items", name);
    if (!r->items_bytes) return SQZ_OK;
    sqz_status st = object_put(r->job->registry, r->items, (int64_t)r->items_bytes, digest, err);
    if (st) return st;
    char *path = object_path(r->job->registry, digest);
    cJSON_AddStringToObject(items, name, path ? path : digest);
    free(path);
    return SQZ_OK;
}

static sqz_status call_eval(eval_run *r, const cJSON *spec, sqz_error *err)
{
    cJSON *with = NULL;
    sqz_status st =
        params_resolve(agent_describe(r->agent), json_get(spec, "with"), NULL, &with, err);
    if (st) return st;
    int text = r->data->kind == DATA_TEXT;
    sqz_eval e = {.struct_size = sizeof e,
                  .impl = r,
                  .rows = &r->data->rows,
                  .limit = r->early ? 0 : r->limit,
                  .window = r->early && text ? r->window : json_int(spec, "window", 0),
                  .context_size = r->subject->config.context,
                  .bos = tokenizer_bos(r->tokenizer),
                  .eos = tokenizer_eos(r->tokenizer),
                  .encode = ev_encode,
                  .decode = ev_decode,
                  .stream = ev_stream,
                  .score_windows = ev_score_windows,
                  .loglik = ev_loglik,
                  .generate = ev_generate,
                  .metric = ev_metric,
                  .item = ev_item,
                  .look = r->early ? EARLY_LOOK : 0,
                  .enough = ev_enough};
    st = agent_call(r->agent, &e, with, err);
    cJSON_Delete(with);
    return st;
}

static sqz_status open_early(eval_run *r, const cJSON *spec, const char *name, sqz_error *err)
{
    const sqz_eval_match *m = agent_extension(r->agent, SQZ_EVAL_MATCH_1);
    const cJSON *early = json_get(spec, "early");
    if (!early) return SQZ_OK;
    sqz_status st = early_open(early, name, m ? m->primary : "", &r->early, err);
    if (!st && r->data->kind != DATA_TEXT) st = early_rows(r->early, r->data, r->limit, err);
    return st;
}

static sqz_status run_eval(job_state *s, subject *subj, const cJSON *spec, cJSON *results,
                           cJSON *items, sqz_error *err)
{
    eval_run r = {.job = s, .subject = subj};
    dataset *d = NULL;
    dataset_options with = {.shots = json_int(spec, "shots", -1) + 1};
    sqz_status st = dataset_open_with(json_str(spec, "dataset", ""), &with, &d, err);
    if (st) return st;
    r.data = d;
    if (!framing_parse(json_str(spec, "document_tokens", "default"), &r.frame))
        st = err_set(err, ERR_USAGE, "document_tokens is \"%s\"; use none, bos, eos or bos+eos",
                     json_str(spec, "document_tokens", ""));
    if (!st) st = subject_tokenizer(subj, &r.tokenizer, err);
    if (!st) st = subject_model(subj, &r.model, err);
    if (!st) st = open_eval(s, spec, d, &r.agent, err);
    const char *name = json_str(spec, "name", d->rows.name);
    int64_t context = subj->config.context;
    r.window = json_int(spec, "window", context < 2048 ? context : 2048);
    r.limit = json_int(spec, "limit", 0);
    if (!st) st = open_early(&r, spec, name, err);
    r.metrics = cJSON_CreateObject();
    double start = clock_s();
    if (!st && (st = call_eval(&r, spec, err))) err_prefix(err, "%s", name);
    double seconds = clock_s() - start;
    if (!st) {
        const sqz_eval_match *m = agent_extension(r.agent, SQZ_EVAL_MATCH_1);
        json_add_num(r.metrics, "seconds", seconds);
        json_add_num(r.metrics, "tokens_per_second", (double)r.scored_tokens / seconds);
        cJSON_AddStringToObject(r.metrics, "evaluation", agent_describe(r.agent)->id);
        if (m) cJSON_AddStringToObject(r.metrics, "primary", m->primary);
        if (m) cJSON_AddBoolToObject(r.metrics, "higher_is_better", m->higher_is_better);
        if (d->task) json_add_num(r.metrics, "shots", (double)d->task->shots);
        if (r.early) early_report(r.early, r.metrics);
        cJSON_AddItemToObject(results, name, r.metrics);
        st = store_items(&r, name, items, err);
    } else {
        cJSON_Delete(r.metrics);
    }
    for (int64_t i = 0; i < r.n_arena; i++) free(r.arena[i]);
    free(r.arena);
    free(r.items);
    if (r.agent) agent_close(r.agent);
    dataset_close(d);
    early_close(r.early);
    return st;
}

/* One evaluation, or all members of a group and what they say together. */
static sqz_status run_spec(job_state *s, subject *subj, const cJSON *spec, cJSON *results,
                           cJSON *items, sqz_error *err)
{
    task_set group;
    if (!eval_group_find(spec, &group)) return run_eval(s, subj, spec, results, items, err);
    double from = s->part_from, to = s->part_to;
    const char *given = strchr(json_str(spec, "dataset", ""), '=');
    sqz_status st =
        given ? task_group_rows(json_str(spec, "name", ""), group.tasks.at[0], given + 1, err)
              : SQZ_OK;
    for (int k = 0; k < group.tasks.n && !st; k++) {
        cJSON *member = eval_group_member(&group, spec, k);
        s->part_from = from + (to - from) * k / group.tasks.n;
        s->part_to = from + (to - from) * (k + 1) / group.tasks.n;
        st = run_eval(s, subj, member, results, items, err);
        cJSON_Delete(member);
    }
    s->part_from = from, s->part_to = to;
    if (!st) eval_group_add(&group, results);
    task_set_free(&group);
    return st;
}

/* ---- the task
 * ------------------------------------------------------------------------------------------------
 */

sqz_status task_eval(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    subject *subj;
    sqz_status st = job_subject(s, 1, 1, &subj, err);
    if (st) return st;
    cJSON *results = cJSON_AddObjectToObject(result, "results");
    cJSON *items = cJSON_AddObjectToObject(result, "items");
    const cJSON *evals = json_get(task, "evals"), *kl = json_get(task, "kl"), *spec;
    char class[96];
    backend_compute_class(&s->backend, subj->compute, class);
    cJSON_AddStringToObject(result, "compute", subj->compute == SQZ_BF16 ? "bf16" : "fp32");
    cJSON_AddStringToObject(result, "compute_class", class);
    double from = s->part_from, to = s->part_to;
    int n = cJSON_GetArraySize(evals) + (kl != NULL), i = 0;
    cJSON_ArrayForEach(spec, evals)
    {
        s->part_from = from + (to - from) * i / n;
        s->part_to = from + (to - from) * (i + 1) / n;
        i++;
        if (!st) st = run_spec(s, subj, spec, results, items, err);
    }
    if (!st && cJSON_IsArray(kl)) {
        cJSON *out = cJSON_AddArrayToObject(result, "kl");
        cJSON_ArrayForEach(spec, kl)
        {
            cJSON *one = cJSON_CreateObject();
            cJSON_AddItemToArray(out, one);
            if (!st) st = divergence_run(s, subj, spec, one, err);
        }
    } else if (!st && kl) {
        st = divergence_run(s, subj, kl, cJSON_AddObjectToObject(result, "kl"), err);
    }
    s->part_from = from, s->part_to = to;
    subject_close(subj);
    return st;
}
