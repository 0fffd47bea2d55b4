/* run.c - the loop: propose, apply, evaluate, judge, remember, until it is enough.
 *
 * Reads top-down from run_step.  Every decision passes the ledger before it is acted on, so the
 * same code runs a fresh run and replays an interrupted one.  Opening, resuming and closing are in
 * session.c. */
#include "coordinator/state.h"
#include "io/file.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sqz_status measure_baseline(run *, sqz_error *);
static sqz_status stop_decide(run *, sqz_error *);
static sqz_status trial_propose(run *, trial *, sqz_error *);
static sqz_status trial_evaluate(run *, trial *, sqz_error *);
static sqz_status trial_finish(run *, trial *, sqz_error *);
static sqz_status export_next(run *, sqz_error *);

/* One episode. */
static sqz_status episode(run *r, sqz_error *err)
{
    trial t = {0};
    sqz_status s = trial_propose(r, &t, err);
    if (!s && !t.json) return SQZ_OK; /* exhausted, or a strategy that was tried before */
    if (!s) s = trial_evaluate(r, &t, err);
    if (!s) return trial_finish(r, &t, err);
    cJSON_Delete(t.json);
    free(t.x);
    return s == JOB_CANCELLED ? SQZ_OK : s; /* the next step sees the cancel and stops */
}

sqz_status run_step(run *r, int *more, sqz_error *err)
{
    sqz_status s = SQZ_OK;
    switch (r->phase) {
    case PHASE_BASELINE: s = measure_baseline(r, err); break;
    case PHASE_SEARCH:
        s = stop_decide(r, err);
        if (!s && r->phase == PHASE_SEARCH) s = episode(r, err);
        break;
    case PHASE_EXPORT: s = export_next(r, err); break;
    case PHASE_DONE: break;
    }
    *more = !s && r->phase != PHASE_DONE;
    return s;
}

/* ---- baseline ----------------------------------------------------------------------------------
 */

static void put(cJSON *object, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddItemToObject(object, key, value);
}

static void put_copy(cJSON *object, const char *key, const cJSON *value)
{
    if (value) put(object, key, cJSON_Duplicate(value, 1));
}

static cJSON *object_in(cJSON *object, const char *key)
{
    cJSON *inner = json_get(object, key);
    return inner ? inner : cJSON_AddObjectToObject(object, key);
}

/* What an eval task measured becomes a rung of the trial. */
static void take_eval(run *r, trial *t, const char *rung, const cJSON *record)
{
    const cJSON *eval = job_task(record, "eval");
    cJSON *out = cJSON_CreateObject();
    if (!eval) {
        cJSON_Delete(out);
        return;
    }
    put_copy(out, "results", json_get(eval, "results"));
    put_copy(out, "kl", json_get(eval, "kl"));
    put_copy(out, "compute", json_get(eval, "compute"));
    json_add_num(out, "seconds", json_num(record, "seconds", NAN));
    put(object_in(t->json, "rungs"), rung, out);
    put(object_in(t->json, "items"), rung,
        job_keep_items(r, trial_text(t, "strategy_id"), rung, eval));
}

static void take_bench(trial *t, const cJSON *record)
{
    put_copy(t->json, "bench", job_task(record, "bench"));
}

/* What its plugins did that they should not have, each once: "ID wrote to stdout ...". */
static void take_manners(trial *t, const cJSON *record)
{
    const cJSON *seen, *known;
    cJSON_ArrayForEach(seen, json_get(json_get(record, "result"), "manners"))
    {
        char *text = path_format("%s %s", json_str(seen, "agent", "?"), json_str(seen, "did", "?"));
        cJSON *list = json_get(t->json, "manners");
        int there = 0;
        if (!list) list = cJSON_AddArrayToObject(t->json, "manners");
        cJSON_ArrayForEach(known, list) there |= !strcmp(known->valuestring, text);
        if (!there) cJSON_AddItemToArray(list, cJSON_CreateString(text));
        free(text);
    }
}

static void take_outcome(trial *t, const cJSON *record)
{
    put_copy(t->json, "outcome", json_get(record, "outcome"));
    put_copy(t->json, "reason", json_get(record, "message"));
    put_copy(t->json, "stderr", json_get(record, "stderr"));
    take_manners(t, record);
    double before = json_num(t->json, "seconds", 0);
    put(t->json, "seconds", cJSON_CreateNumber(before + json_num(record, "seconds", 0)));
}

static int failed(const cJSON *record)
{
    return strcmp(json_str(record, "outcome", ""), "ok") != 0;
}

static sqz_status measure_baseline(run *r, sqz_error *err)
{
    trial *b = &r->baseline;
    const cJSON *record = NULL;
    if (atomic_load(&r->cancel)) {
        r->phase = PHASE_DONE;
        return SQZ_OK;
    }
    sqz_status s = job_baseline(r, &record, err);
    if (s == JOB_CANCELLED) {
        r->phase = PHASE_DONE;
        return SQZ_OK;
    }
    if (s) return s;
    take_outcome(b, record);
    if (failed(record)) {
        sqz_status code = (sqz_status)json_int(record, "code", 0);
        return err_set(err, code < 0 ? code : SQZ_E_INTERNAL,
                       "the dense model cannot be measured (%s): %s",
                       json_str(record, "outcome", "?"), json_str(record, "message", "no message"));
    }
    put_copy(r->hardware, "hardware", json_get(json_get(record, "result"), "hardware"));
    put_copy(r->hardware, "isa", json_get(json_get(record, "result"), "isa"));
    put_copy(r->hardware, "compute_class", json_get(job_task(record, "eval"), "compute_class"));
    take_eval(r, b, "full", record);
    take_bench(b, record);
    if ((s = judge_baseline(r, err))) return s;
    prediction p = predict_baseline(&r->model, r->spec, r->config);
    r->time_scale = json_num(record, "seconds", p.seconds) / p.seconds;
    front_set_reference(r);
    front_update(r);
    r->phase = PHASE_SEARCH;
    run_emit(r, RUN_EVENT_TRIAL_FINISHED, b, "baseline", NULL, b->json);
    return ledger_replaying(r) ? SQZ_OK : records_write_progress(r, err);
}

/* ---- stopping ----------------------------------------------------------------------------------
 */

static sqz_status stop_decide(run *r, sqz_error *err)
{
    const char *kind = NULL;
    char text[300] = "";
    const cJSON *record = NULL;
    sqz_status s = SQZ_OK;
    if (ledger_replaying(r)) {
        if (strcmp(ledger_peek(r), "stop") != 0) return SQZ_OK;
        s = ledger_take(r, "stop", &record, err);
    } else if (stop_due(r, &kind, text, sizeof text)) {
        cJSON *stop = ledger_record("stop");
        cJSON_AddStringToObject(stop, "kind", kind);
        cJSON_AddStringToObject(stop, "text", text);
        s = ledger_append(r, stop, &record, err);
    }
    if (s || !record) return s;
    r->stop_kind = path_format("%s", json_str(record, "kind", ""));
    r->stop_text = path_format("%s", json_str(record, "text", ""));
    r->phase = atomic_load(&r->cancel) > 1 ? PHASE_DONE : PHASE_EXPORT;
    run_emit(r, RUN_EVENT_STOPPED, NULL, NULL, r->stop_text, NULL);
    return SQZ_OK;
}

/* ---- proposing ---------------------------------------------------------------------------------
 */

/* Writes the next point: a seed, or what the search asks for.  by and why are malloc'd. */
static sqz_status next_point(run *r, double *x, char **by, char **why, sqz_error *err)
{
    char text[400];
    if (r->next_seed < r->seeds.n) {
        const seed *s = &r->seeds.at[r->next_seed++];
        memcpy(x, s->x, (size_t)r->space->n_dims * sizeof *x);
        *by = path_format("seed: %s", s->name);
        *why = path_format("%s", s->why);
        return SQZ_OK;
    }
    const char *next = r->search_replaced ? ledger_peek(r) : NULL;
    const cJSON *record = next && !strcmp(next, "propose") ? r->replay[r->at] : NULL;
    sqz_status s = record ? searcher_recorded(r, record, x, text, sizeof text, err)
                          : searcher_ask(r, x, text, sizeof text, err);
    if (s) return s;
    *by = path_format("%s", record ? json_str(record, "by", "?") : r->search->id);
    *why = path_format("%s", text);
    return SQZ_OK;
}

/* The trial with the same strategy, or NULL: parameters that a method ignores can make two points
 * one. */
static const trial *same_strategy(const run *r, const cJSON *steps)
{
    char *identity = space_identity(steps);
    const trial *found = NULL;
    for (int64_t i = 0; i < r->n_trials && !found; i++) {
        char *other = space_identity(json_get(r->trials[i].json, "steps"));
        found = !strcmp(identity, other) ? &r->trials[i] : NULL;
        free(other);
    }
    free(identity);
    return found;
}

static sqz_status note_proposal(run *r, const trial *t, sqz_error *err)
{
    const cJSON *record = NULL;
    const char *id = trial_text(t, "strategy_id");
    cJSON *x = cJSON_CreateDoubleArray(t->x, r->space->n_dims);
    sqz_status s = SQZ_OK;
    if (ledger_replaying(r)) {
        s = ledger_take(r, "propose", &record, err);
        if (!s && !cJSON_Compare(json_get(record, "x"), x, 1))
            s = err_set(err, ERR_CONFLICT,
                        "%s/journal.jsonl: trial %s was another point than %s proposes now; the "
                        "search plugin has changed",
                        r->dir, id, trial_text(t, "proposed_by"));
        cJSON_Delete(x);
        return s;
    }
    cJSON *propose = ledger_record("propose");
    cJSON_AddStringToObject(propose, "trial", id);
    cJSON_AddItemToObject(propose, "x", x);
    put_copy(propose, "by", json_get(t->json, "proposed_by"));
    put_copy(propose, "why", json_get(t->json, "why"));
    put_copy(propose, "steps", json_get(t->json, "steps"));
    return ledger_append(r, propose, NULL, err);
}

static void add_prediction(run *r, trial *t)
{
    prediction p = predict_trial(&r->model, r->spec, r->config, json_get(t->json, "steps"));
    cJSON *j = cJSON_AddObjectToObject(t->json, "predicted");
    json_add_num(j, "bytes", floor(p.bytes));
    json_add_num(j, "memory_bytes", floor(p.memory_bytes));
    json_add_num(j, "seconds", p.seconds * r->time_scale);
    char *refusal = plan_refusal(&r->model, r->spec, &p);
    int fits = !refusal;
    if (fits) refusal = aside_refusal(r, json_get(t->json, "steps"));
    if (refusal) {
        if (fits) cJSON_AddBoolToObject(t->json, "aside", 1);
        cJSON_AddStringToObject(t->json, "outcome", "refused");
        cJSON_AddStringToObject(t->json, "reason", refusal);
    }
    free(refusal);
}

/* The caller frees what is left in the trial, too. */
static void drop_point(trial *t)
{
    free(t->x);
    t->x = NULL;
}

/* t->json stays NULL when there is nothing to evaluate this time. */
static sqz_status trial_propose(run *r, trial *t, sqz_error *err)
{
    char *by = NULL, *why = NULL, id[24];
    cJSON *steps = NULL;
    t->x = calloc((size_t)r->space->n_dims + 1, sizeof *t->x);
    if (!t->x) memory_failed("a trial");
    int from_search = r->next_seed >= r->seeds.n;
    sqz_status s = next_point(r, t->x, &by, &why, err);
    if (s == SQZ_SEARCH_EXHAUSTED) {
        r->exhausted = 1;
        drop_point(t);
        return SQZ_OK;
    }
    if (!s) s = space_steps(r->space, t->x, from_search ? "search" : "seed", &steps, err);
    const trial *twin = s ? NULL : same_strategy(r, steps);
    if (s || twin) {
        trial copy = twin ? *twin : (trial){0};
        copy.x = t->x;
        if (!s) searcher_tell(r, &copy);
        cJSON_Delete(steps);
        drop_point(t);
    } else {
        snprintf(id, sizeof id, "s%04lld", (long long)r->n_trials + 1);
        char *label = space_label(r->space, steps);
        t->json = cJSON_CreateObject();
        cJSON_AddStringToObject(t->json, "strategy_id", id);
        cJSON_AddStringToObject(t->json, "label", label);
        cJSON_AddNumberToObject(t->json, "index", (double)r->n_trials + 1);
        cJSON_AddStringToObject(t->json, "kind", from_search ? "search" : "seed");
        cJSON_AddStringToObject(t->json, "proposed_by", by);
        cJSON_AddStringToObject(t->json, "why", why);
        cJSON_AddItemToObject(t->json, "steps", steps);
        for (int k = 0; k < MAX_OBJECTIVES; k++) t->f[k] = NAN;
        free(label);
        if ((s = note_proposal(r, t, err)) == SQZ_OK)
            add_prediction(r, t);
        else {
            cJSON_Delete(t->json);
            t->json = NULL;
            drop_point(t);
        }
        if (!s) run_emit(r, RUN_EVENT_TRIAL_PROPOSED, t, NULL, why, t->json);
    }
    free(by);
    free(why);
    return s;
}

/* ---- evaluating --------------------------------------------------------------------------------
 */

/* Registry metadata is a convenience: a failure to write it is told, not fatal. */
static void record_lineage(run *r, const trial *t)
{
    const char *digest = json_str(t->json, "artifact", "");
    /* also in a replay: the session may have died between the result and this */
    if (!r->registry || !digest_valid(digest)) return;
    char *steps = json_text(json_get(t->json, "steps"), 0);
    artifact_row row = {.model = (char *)r->config->model,
                        .label = (char *)trial_text(t, "label"),
                        .steps_json = steps,
                        .run = r->id,
                        .bytes = (int64_t)json_num(json_get(t->json, "steps_result"), "bytes", 0),
                        .created = (double)time(NULL)};
    snprintf(row.digest, sizeof row.digest, "%s", digest);
    snprintf(row.base, sizeof row.base, "%s", json_str(r->fingerprint, "model", ""));
    sqz_error err = {0};
    if (artifact_record(r->registry, &row, NULL, &err))
        run_log(r, SQZ_LOG_WARN, "the registry does not list %s: %s", trial_text(t, "strategy_id"),
                err.text);
    free(steps);
}

/* Promote or drop, as recorded or as the filter says now. */
static sqz_status decide(run *r, trial *t, int *promote, sqz_error *err)
{
    char why[400];
    const cJSON *record = NULL;
    sqz_status s = ledger_take(r, "decide", &record, err);
    if (s) return s;
    int now = filter_promotes(r, t, why, sizeof why);
    if (!record) {
        cJSON *j = ledger_record("decide");
        cJSON_AddStringToObject(j, "trial", trial_text(t, "strategy_id"));
        cJSON_AddBoolToObject(j, "promote", now);
        cJSON_AddStringToObject(j, "why", why);
        if ((s = ledger_append(r, j, &record, err))) return s;
    }
    *promote = json_bool(record, "promote", now);
    put(t->json, "promoted", cJSON_CreateBool(*promote));
    put_copy(t->json, "decision", json_get(record, "why"));
    if (!*promote) {
        put(t->json, "outcome", cJSON_CreateString("killed"));
        put_copy(t->json, "reason", json_get(record, "why"));
    }
    return SQZ_OK;
}

static sqz_status trial_evaluate(run *r, trial *t, sqz_error *err)
{
    const cJSON *record = NULL;
    int promote = 0;
    if (!strcmp(trial_text(t, "outcome"), "refused")) return SQZ_OK;
    sqz_status s = job_proxy(r, t, &record, err);
    if (s) return s;
    take_outcome(t, record);
    if (failed(record)) return SQZ_OK;
    put_copy(t->json, "steps_result", job_task(record, "steps"));
    put_copy(t->json, "artifact", json_get(job_task(record, "steps"), "artifact"));
    take_eval(r, t, "proxy", record);
    record_lineage(r, t);
    s = decide(r, t, &promote, err);
    if (s || !promote) return s;
    if ((s = job_full(r, t, &record, err))) return s;
    take_outcome(t, record);
    if (failed(record)) return SQZ_OK;
    take_eval(r, t, "full", record);
    take_bench(t, record);
    t->evaluated = 1;
    return SQZ_OK;
}

/* ---- remembering -------------------------------------------------------------------------------
 */

static sqz_status keep_trial(run *r, const trial *t, sqz_error *err)
{
    trial *grown = realloc(r->trials, (size_t)(r->n_trials + 1) * sizeof *grown);
    if (!grown)
        return err_set(err, SQZ_E_NOMEM, "out of memory for trial %lld",
                       (long long)r->n_trials + 1);
    r->trials = grown;
    r->trials[r->n_trials++] = *t;
    return SQZ_OK;
}

static void count_outcome(run *r, const trial *t)
{
    const char *outcome = trial_text(t, "outcome");
    r->n_refused += !strcmp(outcome, "refused");
    r->n_aside += json_bool(t->json, "aside", 0);
    r->n_killed += !strcmp(outcome, "killed");
    r->n_failed += strcmp(outcome, "ok") && strcmp(outcome, "refused") && strcmp(outcome, "killed");
    r->trial_seconds += json_num(t->json, "seconds", 0);
}

static sqz_status note_tell(run *r, const trial *t, sqz_error *err)
{
    const cJSON *record = NULL;
    sqz_status s = ledger_take(r, "tell", &record, err);
    if (s || record) return s;
    cJSON *tell = ledger_record("tell"), *f = cJSON_AddArrayToObject(tell, "f");
    cJSON_AddStringToObject(tell, "trial", trial_text(t, "strategy_id"));
    for (int k = 0; k < r->n_objectives; k++)
        cJSON_AddItemToArray(f,
                             isfinite(t->f[k]) ? cJSON_CreateNumber(t->f[k]) : cJSON_CreateNull());
    cJSON_AddBoolToObject(tell, "feasible", t->feasible);
    return ledger_append(r, tell, NULL, err);
}

static void note_volume(run *r, double before)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "trial", (double)r->n_trials);
    json_add_num(j, "seconds", run_elapsed(r));
    json_add_num(j, "hypervolume", r->hypervolume);
    json_add_num(j, "normalised", r->hypervolume_norm);
    cJSON_AddItemToArray(r->history, j);
    r->since_gain = r->hypervolume > before * 1.001 ? 0 : r->since_gain + 1;
}

/* Takes over *t. */
static sqz_status trial_finish(run *r, trial *t, sqz_error *err)
{
    double before = r->hypervolume;
    if (t->evaluated)
        judge_trial(r, t);
    else
        put(t->json, "feasible", cJSON_CreateBool(0));
    sqz_status s = keep_trial(r, t, err);
    if (s) return s;
    t = &r->trials[r->n_trials - 1];
    count_outcome(r, t);
    int changed = front_update(r);
    note_volume(r, before);
    s = note_tell(r, t, err);
    searcher_tell(r, t);
    if (!s && !ledger_replaying(r)) s = records_write_progress(r, err);
    run_emit(r, RUN_EVENT_TRIAL_FINISHED, t, NULL, json_str(t->json, "reason", NULL), t->json);
    if (changed) run_emit(r, RUN_EVENT_FRONT_CHANGED, t, NULL, NULL, r->front);
    return s;
}

/* ---- exporting ---------------------------------------------------------------------------------
 */

static void tag_member(run *r, const trial *t)
{
    sqz_error err = {0};
    char *tag = path_format("%s/%s", r->id, trial_text(t, "strategy_id"));
    if (r->registry && digest_valid(trial_text(t, "artifact")) &&
        artifact_tag(r->registry, tag, trial_text(t, "artifact"), &err))
        run_log(r, SQZ_LOG_WARN, "the registry has no tag %s: %s", tag, err.text);
    free(tag);
}

/* Stays in pareto.json, the reports and the exit code until a later session exports it. */
static void note_unexported(run *r, trial *t, const char *outcome, sqz_status code,
                            const char *message)
{
    cJSON *out = cJSON_CreateObject();
    cJSON_AddStringToObject(out, "outcome", outcome);
    cJSON_AddNumberToObject(out, "code", code);
    cJSON_AddStringToObject(out, "message", message);
    put(t->json, "export", out);
    run_log(r, SQZ_LOG_WARN, "%s (%s) could not be exported: %s", trial_text(t, "strategy_id"),
            trial_text(t, "label"), message);
}

static sqz_status export_next(run *r, sqz_error *err)
{
    sqz_error why = {0};
    if (r->next_export >= r->n_members || atomic_load(&r->cancel) > 1) {
        r->phase = PHASE_DONE;
        return SQZ_OK;
    }
    trial *t = &r->trials[r->members[r->next_export++]];
    const cJSON *record = ledger_exported(r, trial_text(t, "strategy_id"));
    int known = record != NULL;
    sqz_status s = known ? SQZ_OK : job_export(r, t, &record, &why);
    if (s == JOB_CANCELLED) return SQZ_OK;
    if (s)
        note_unexported(r, t, "failed", s, why.text);
    else if (failed(record) || !job_task(record, "export"))
        note_unexported(r, t, json_str(record, "outcome", "failed"),
                        (sqz_status)json_int(record, "code", 0),
                        json_str(record, "message", "no message"));
    else
        put_copy(t->json, "export", job_task(record, "export"));
    tag_member(r, t);
    front_update(r);
    if (s && err) *err = why;
    if (!s && !known && !json_get(json_get(t->json, "export"), "message"))
        run_emit(r, RUN_EVENT_EXPORTED, t, "export", NULL, t->json);
    return s;
}
