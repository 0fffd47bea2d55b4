/* session.c - a run's beginning and end: open, resume, finish, close, and telling the observer. */
#include "coordinator/state.h"
#include "io/file.h"
#include "checkpoint/checkpoint.h"
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- events ------------------------------------------------------------------------------------
 */

static run_event event_of(const run *r, run_event_kind kind)
{
    return (run_event){.kind = kind,
                       .trials = r->n_trials,
                       .budget_trials = (int64_t)spec_num(r->spec, "budget_trials", 0),
                       .failed = r->n_failed + r->n_refused,
                       .killed = r->n_killed,
                       .front_size = r->n_members,
                       .hypervolume = r->hypervolume_norm,
                       .elapsed_s = run_elapsed(r),
                       .budget_s = spec_num(r->spec, "budget_wall", NAN)};
}

void run_emit(run *r, run_event_kind kind, const trial *t, const char *rung, const char *text,
              const cJSON *detail)
{
    if (!r->options.observer || (ledger_replaying(r) && kind != RUN_EVENT_RESUMED)) return;
    run_event e = event_of(r, kind);
    e.strategy_id = t ? json_str(t->json, "strategy_id", NULL) : NULL;
    e.label = t ? json_str(t->json, "label", NULL) : NULL;
    e.rung = rung;
    e.text = text;
    e.detail = detail;
    e.done = kind == RUN_EVENT_TRIAL_PROGRESS ? json_num(detail, "done", 0) : 0;
    r->options.observer(r->options.observer_ctx, &e);
}

void run_log(run *r, int level, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!r->options.observer) return;
    run_event e = event_of(r, RUN_EVENT_LOG);
    e.text = text;
    e.level = level;
    r->options.observer(r->options.observer_ctx, &e);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static run *run_new(const run_options *o)
{
    run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    char id[64];
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    strftime(id, sizeof id, "%Y%m%d-%H%M%S", gmtime_r(&t.tv_sec, &tm));
    r->options = *o;
    r->config = o->config;
    r->id = path_format("%s-%04lx", id, (unsigned long)((t.tv_nsec >> 8) ^ getpid()) & 0xffff);
    strftime(id, sizeof id, "%Y-%m-%dT%H:%M:%SZ", &tm);
    r->began = path_format("%s", id);
    r->started = clock_s();
    r->history = cJSON_CreateArray();
    r->hardware = cJSON_CreateObject();
    r->time_scale = 1;
    atomic_init(&r->cancel, 0);
    r->baseline.json = cJSON_CreateObject();
    cJSON_AddStringToObject(r->baseline.json, "strategy_id", "dense");
    cJSON_AddStringToObject(r->baseline.json, "label", "dense baseline");
    cJSON_AddNumberToObject(r->baseline.json, "index", 0);
    cJSON_AddStringToObject(r->baseline.json, "kind", "baseline");
    cJSON_AddStringToObject(r->baseline.json, "proposed_by", "sqz");
    cJSON_AddStringToObject(r->baseline.json, "why",
                            "the unchanged model: what candidates are compared with");
    cJSON_AddArrayToObject(r->baseline.json, "steps");
    return r;
}

/* Absolute, so that workers and later sessions agree. */
static char *absolute(const char *path)
{
    char here[4096];
    if (path[0] == '/' || !getcwd(here, sizeof here)) return path_format("%s", path);
    return path_format("%s/%s", here, path);
}

static sqz_status open_model(run *r, sqz_error *err)
{
    checkpoint *c = NULL;
    sqz_status s = spec_model_config(r->config->model, &r->model, err);
    if (s == SQZ_E_UNSUPPORTED)
        return err_set(err, ERR_MODEL,
                       "%s: is neither a folder with a config.json nor a .gguf file; a run needs a "
                       "local checkpoint",
                       r->config->model);
    if (!s) s = checkpoint_open(r->config->model, &c, err);
    if (s) return s;
    r->model_bytes = c->bytes;
    checkpoint_close(c);
    return SQZ_OK;
}

sqz_status run_sources(const run_options *o, const config *c, const spec_machine *machine,
                       sources *out, sqz_error *err)
{
    char *store = o->store ? path_format("%s", o->store) : registry_default_dir();
    const cJSON *hardware = json_get(c->full, "hardware");
    double memory = json_num(hardware, "memory", (double)machine->memory_bytes);
    const worker_limits limits = {json_num(hardware, "job_timeout", 0), (int64_t)memory};
    const convert_options convert = {o->catalogue, store, limits, o->reading};
    sqz_status s = sources_open(c, &convert, out, err);
    free(store);
    return s;
}

/* Everything that jobs will open. */
static sqz_status prepare_data(run *r, sqz_error *err)
{
    const char *calibration = spec_str(r->spec, "calibration", NULL);
    const cJSON *read;
    sqz_status s = SQZ_OK;
    for (int i = 0; i < r->config->n_datasets && !s; i++)
        s = sources_dataset(&r->data, r->config, i, err);
    if (!s && calibration) s = sources_calibration(&r->data, r->config, calibration, err);
    cJSON_ArrayForEach(read, r->data.facts)
        run_log(r, SQZ_LOG_INFO, "%s: %lld rows, read by %s", read->string,
                (long long)json_int(read, "rows", 0), json_str(read, "reader", "?"));
    return s;
}

/* What follows from config and spec, for new and resumed runs alike. */
static sqz_status prepare(run *r, sqz_error *err)
{
    const char *store = r->options.store;
    sqz_error local = {0};
    r->store = store ? path_format("%s", store) : registry_default_dir();
    sqz_status s = open_model(r, err);
    if (!s) s = prepare_data(r, err);
    if (!s)
        s = space_build(r->config, r->options.catalogue, r->spec,
                        cJSON_GetArraySize(spec_value(r->spec, "objectives")), &r->space, err);
    if (!s)
        s = plan_make(r->config, r->options.catalogue, r->spec, &r->machine, r->space, &r->model,
                      &r->plan, err);
    if (s) return s;
    r->seeds = seeds_make(r->space);
    if (registry_open(r->store, &r->registry, &local) || /* the workers would fail on it, too */
        registry_check(r->registry, &local))
        return err_set(err, local.code, "%s", local.text);
    r->fingerprint =
        records_fingerprint(r->config, r->options.catalogue, r->spec, &r->data, r->store, err);
    if (!r->fingerprint) return err && err->code ? err->code : ERR_MODEL;
    return searcher_open(r, err);
}

static sqz_status check_folder(const char *dir, sqz_error *err)
{
    int entries = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        entries += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d) closedir(d);
    if (entries)
        return err_set(err, ERR_CONFLICT,
                       "%s: is not empty; continue its run with --resume %s, or choose another "
                       "output folder",
                       dir, dir);
    return dir_make(dir, err);
}

static sqz_status open_journal(run *r, sqz_error *err)
{
    int64_t dropped = 0;
    char *path = path_format("%s/journal.jsonl", r->dir);
    sqz_status s = journal_open(path, &r->journal, &dropped, err);
    free(path);
    if (!s && dropped)
        run_log(r, SQZ_LOG_WARN,
                "%s/journal.jsonl: its last %lld bytes are unfinished or damaged and are not used; "
                "the %lld records before them are intact",
                r->dir, (long long)dropped, (long long)journal_length(r->journal));
    return s;
}

static sqz_status refuse_baseline(const run *r, sqz_error *err)
{
    prediction p = predict_baseline(&r->model, r->spec, r->config);
    char *why = plan_refusal(&r->model, r->spec, &(prediction){0, p.memory_bytes, 0});
    sqz_status s =
        why ? err_set(err, ERR_USAGE, "the dense model cannot be measured here: %s", why) : SQZ_OK;
    free(why);
    return s;
}

static sqz_status begin(run *r, sqz_error *err)
{
    spec_detect(&r->machine);
    if (r->options.threads > 0) r->machine.threads = r->options.threads;
    const char *output = r->options.output ? r->options.output : r->config->output;
    char *named = output ? path_format("%s", output) : path_format("runs/%s", r->id);
    r->dir = absolute(named);
    free(named);
    sqz_status s = run_sources(&r->options, r->config, &r->machine, &r->data, err);
    if (!s) s = infer_spec(r->config, r->options.catalogue, &r->machine, &r->data, &r->spec, err);
    if (!s) s = prepare(r, err);
    if (!s) s = refuse_baseline(r, err);
    if (!s) s = check_folder(r->dir, err);
    if (!s) s = open_journal(r, err);
    if (s) return s;
    cJSON *record = ledger_record("open");
    cJSON_AddStringToObject(record, "schema", "sqz.journal/1");
    cJSON_AddStringToObject(record, "id", r->id);
    cJSON_AddStringToObject(record, "began", r->began);
    cJSON_AddStringToObject(record, "version", SQZ_VERSION);
    cJSON_AddStringToObject(record, "store", r->store);
    cJSON_AddItemToObject(record, "config", cJSON_Duplicate(r->config->full, 1));
    cJSON_AddItemToObject(record, "given", cJSON_Duplicate(r->config->given, 1));
    cJSON_AddItemToObject(record, "spec", cJSON_Duplicate(r->spec, 1));
    cJSON_AddItemToObject(record, "fingerprint", cJSON_Duplicate(r->fingerprint, 1));
    if ((s = ledger_append(r, record, NULL, err))) return s;
    s = records_write_run(r, "running", err);
    if (!s) run_emit(r, RUN_EVENT_PLANNED, NULL, NULL, NULL, r->plan);
    return s;
}

sqz_status run_open(const run_options *o, run **out, sqz_error *err)
{
    if (!o->config || !o->catalogue)
        return err_set(err, SQZ_E_INVALID, "run_open: needs a config and a catalogue");
    run *r = run_new(o);
    if (!r) return err_set(err, SQZ_E_NOMEM, "out of memory");
    sqz_status s = begin(r, err);
    if (s)
        run_close(r);
    else
        *out = r;
    return s;
}

/* ---- resuming ----------------------------------------------------------------------------------
 */

static void replace_text(char **text, const char *with)
{
    free(*text);
    *text = path_format("%s", with);
}

static sqz_status recorded_config(run *r, const cJSON *open, sqz_error *err)
{
    char *text = json_text(json_get(open, "config"), 0);
    sqz_status s = SQZ_OK;
    if (!r->config) {
        s = config_parse(text, (int64_t)strlen(text), "the recorded configuration", NULL, NULL, 0,
                         &r->own_config, err);
        r->config = r->own_config;
        if (!s && json_get(open, "given")) {
            cJSON_Delete(r->own_config->given);
            r->own_config->given = cJSON_Duplicate(json_get(open, "given"), 1);
        }
    } else if (!cJSON_Compare(r->config->full, json_get(open, "config"), 1)) {
        s = err_set(err, ERR_CONFLICT,
                    "%s: the configuration differs from the recorded one; resume without one, or "
                    "start a new run",
                    r->dir);
    }
    free(text);
    return s;
}

static void note_id(cJSON *ids, const char *id)
{
    if (!json_get(ids, id)) cJSON_AddTrueToObject(ids, id);
}

/* Ids of the plugins whose work is in the journal, or whose parameters the recorded points are made
 * of.  The others - search, formats, trackers, evaluations of other data - may be repaired. */
static cJSON *taking_part(const run *r)
{
    cJSON *ids = cJSON_CreateObject();
    const cJSON *item, *result;
    const agent_info *hardware = catalogue_best(r->options.catalogue, "hardware/1");
    if (hardware) note_id(ids, hardware->id);
    cJSON_ArrayForEach(item, json_get(r->plan, "methods")) note_id(ids, json_str(item, "id", "?"));
    cJSON_ArrayForEach(item, r->data.facts) note_id(ids, json_str(item, "reader", "?"));
    for (int64_t i = 0; i < r->n_replay; i++)
        cJSON_ArrayForEach(result, json_get(job_task(r->replay[i], "eval"), "results"))
            note_id(ids, json_str(result, "evaluation", "?"));
    return ids;
}

static sqz_status compare_plugins(run *r, const cJSON *then, const cJSON *now, sqz_error *err)
{
    const cJSON *item;
    cJSON *bound = taking_part(r);
    sqz_status s = SQZ_OK;
    cJSON_ArrayForEach(item, then)
    {
        const cJSON *other = json_get(now, item->string);
        if (s || (other && cJSON_Compare(item, other, 1))) continue;
        if (json_get(bound, item->string))
            s = err_set(err, ERR_CONFLICT,
                        "%s: the plugin %s is not what it was when the run began, and the journal "
                        "holds its results; restore it, or start a new run",
                        r->dir, item->string);
        else
            run_log(r, SQZ_LOG_INFO,
                    "the plugin %s %s since the run began; it made none of the "
                    "recorded results, so the run goes on",
                    item->string, other ? "has changed" : "has gone");
    }
    cJSON_Delete(bound);
    return s;
}

/* Did another search, or another build of it, propose some of the recorded points? */
static int search_replaced(const run *r, const cJSON *open)
{
    const cJSON *digest =
        json_get(json_get(json_get(open, "fingerprint"), "plugins"), r->search->id);
    int replaced = !cJSON_IsString(digest) || strcmp(digest->valuestring, r->search->file_digest);
    for (int64_t i = 0; i < journal_length(r->journal); i++) {
        const cJSON *record = journal_record(r->journal, i), *by = json_get(record, "search");
        if (strcmp(json_str(record, "type", ""), "resumed") != 0 || !by) continue;
        replaced |= strcmp(json_str(by, "id", ""), r->search->id) != 0 ||
                    strcmp(json_str(by, "digest", ""), r->search->file_digest) != 0;
    }
    return replaced;
}

static cJSON *resumed_record(const run *r)
{
    cJSON *record = ledger_record("resumed"), *search = cJSON_AddObjectToObject(record, "search");
    cJSON_AddStringToObject(search, "id", r->search->id);
    cJSON_AddStringToObject(search, "digest", r->search->file_digest);
    return record;
}

/* Names the first input that changed since the run began. */
static sqz_status compare_fingerprints(run *r, const cJSON *then, const char *path,
                                       const cJSON *now, sqz_error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, then)
    {
        const cJSON *other = json_get(now, item->string);
        char *below = path_format("%s%s%s", path, *path ? "." : "", item->string);
        sqz_status s = SQZ_OK;
        if (!strcmp(below, "plugins"))
            s = compare_plugins(r, item, other, err);
        else if (cJSON_IsObject(item))
            s = compare_fingerprints(r, item, below, other, err);
        else if (!other || !cJSON_Compare(item, other, 1))
            s = err_set(
                err, ERR_CONFLICT,
                "%s: \"%s\" is not what it was when the run began; restore it, or start a new "
                "run",
                r->dir, below);
        free(below);
        if (s) return s;
    }
    return SQZ_OK;
}

static sqz_status continue_run(run *r, sqz_error *err)
{
    const cJSON *open;
    char *journal_path = path_format("%s/journal.jsonl", r->dir);
    int exists = path_exists(journal_path);
    free(journal_path);
    if (!exists)
        return err_set(err, ERR_USAGE, "%s: holds no journal.jsonl, so there is no run to continue",
                       r->dir);
    spec_detect(&r->machine);
    sqz_status s = open_journal(r, err);
    if (!s) s = ledger_prepare(r, err);
    if (!s && r->n_replay == 0)
        s = err_set(
            err, ERR_CONFLICT,
            "%s: its journal has no intact first record, so nothing can be continued; start "
            "a new run",
            r->dir);
    if (!s) s = ledger_take(r, "open", &open, err);
    if (!s && strcmp(json_str(open, "schema", ""), "sqz.journal/1") != 0)
        s = err_set(err, ERR_CONFLICT,
                    "%s/journal.jsonl: is of the kind \"%.40s\", this sqz reads sqz.journal/1; "
                    "continue it with the version that began it",
                    r->dir, json_str(open, "schema", "?"));
    if (s) return s;
    records_sweep(r);
    replace_text(&r->id, json_str(open, "id", r->id));
    replace_text(&r->began, json_str(open, "began", r->began));
    r->spec = cJSON_Duplicate(json_get(open, "spec"), 1);
    if (!r->options.store) r->options.store = json_str(open, "store", NULL);
    s = recorded_config(r, open, err);
    if (!s) s = run_sources(&r->options, r->config, &r->machine, &r->data, err);
    if (!s) s = prepare(r, err);
    if (!s) s = compare_fingerprints(r, json_get(open, "fingerprint"), "", r->fingerprint, err);
    if (s) return s;
    int64_t kept = r->n_replay;
    r->search_replaced = search_replaced(r, open);
    if ((s = ledger_append(r, resumed_record(r), NULL, err))) return s;
    char *text =
        path_format("%lld decisions and results are taken from the journal", (long long)kept - 1);
    run_emit(r, RUN_EVENT_RESUMED, NULL, NULL, text, r->plan);
    free(text);
    return records_write_run(r, "running", err);
}

sqz_status run_recorded_config(const char *dir, config **out, sqz_error *err)
{
    journal *j = NULL;
    char *path = path_format("%s/journal.jsonl", dir), *text = NULL;
    sqz_status s = journal_read(path, &j, err);
    free(path);
    const cJSON *open = !s && journal_length(j) ? journal_record(j, 0) : NULL;
    const cJSON *recorded = json_get(open, "config");
    if (!s && !cJSON_IsObject(recorded))
        s = err_set(err, ERR_CONFLICT, "%s: its journal records no configuration", dir);
    if (!s && !(text = json_text(recorded, 0)))
        s = err_set(err, SQZ_E_NOMEM, "%s: no memory for its configuration", dir);
    if (!s)
        s = config_parse(text, (int64_t)strlen(text), "the recorded configuration", NULL, NULL, 0,
                         out, err);
    free(text);
    if (j) journal_close(j);
    return s;
}

sqz_status run_resume(const char *dir, const run_options *o, run **out, sqz_error *err)
{
    if (!o->catalogue) return err_set(err, SQZ_E_INVALID, "run_resume: needs a catalogue");
    run *r = run_new(o);
    if (!r) return err_set(err, SQZ_E_NOMEM, "out of memory");
    r->dir = absolute(dir);
    sqz_status s = continue_run(r, err);
    if (s)
        run_close(r);
    else
        *out = r;
    return s;
}

/* ---- ending ------------------------------------------------------------------------------------
 */

void run_cancel(run *r, int level)
{
    if (level > atomic_load(&r->cancel)) atomic_store(&r->cancel, level);
}

static sqz_status nothing_evaluated(const run *r, sqz_error *err)
{
    const cJSON *first = r->n_trials ? r->trials[0].json : NULL;
    const char *why = json_str(first, "reason", NULL);
    return err_set(err, ERR_NO_RESULT,
                   "none of %lld candidates could be evaluated (%lld failed, %lld dropped by the "
                   "proxy, %lld refused)%s%s%s%.300s; trials.jsonl says why",
                   (long long)r->n_trials, (long long)r->n_failed, (long long)r->n_killed,
                   (long long)r->n_refused, why ? "; " : "",
                   why ? json_str(first, "label", "") : "", why ? ": " : "", why ? why : "");
}

/* The candidate that misses the constraints least, for the message. */
static sqz_status no_result(const run *r, sqz_error *err)
{
    const trial *near = NULL;
    double least = INFINITY;
    for (int64_t i = 0; i < r->n_trials; i++) {
        double drop = json_num(json_get(r->trials[i].json, "metrics"), "accuracy_drop", NAN);
        if (r->trials[i].evaluated && drop < least) {
            least = drop;
            near = &r->trials[i];
        }
    }
    if (!near) return nothing_evaluated(r, err);
    const cJSON *broken = json_get(near->json, "violations"), *one;
    char *list = path_format("%s", "");
    cJSON_ArrayForEach(one, broken)
    {
        char *longer = path_format("%s%s%s", list, *list ? "; " : "", one->valuestring);
        free(list);
        list = longer;
    }
    err_set(err, ERR_NO_RESULT, "no candidate meets the constraints; the nearest is %s (%s): %s%s",
            trial_text(near, "strategy_id"), trial_text(near, "label"), list,
            least > spec_num(r->spec, "max_accuracy_drop", INFINITY)
                ? "; relax constraints.max_accuracy_drop, allow more bits, or give more "
                  "calibration data"
                : "");
    free(list);
    return ERR_NO_RESULT;
}

static int not_exported(const run *r, int64_t member)
{
    return json_get(json_get(r->trials[r->members[member]].json, "export"), "message") != NULL;
}

/* The first member without its checkpoint gives the cause and the exit code. */
static sqz_status unexported(const run *r, sqz_error *err)
{
    const trial *first = NULL;
    int64_t n = 0;
    for (int64_t i = r->n_members; i-- > 0;)
        if (not_exported(r, i)) {
            first = &r->trials[r->members[i]];
            n++;
        }
    if (!first) return SQZ_OK;
    const cJSON *export = json_get(first->json, "export");
    sqz_status code = (sqz_status)json_int(export, "code", 0);
    return err_set(err, code < 0 && code != SQZ_E_CANCELLED ? code : SQZ_E_INTERNAL,
                   "%lld of the front's %lld models could not be exported: %s (%s): %.400s; `sqz "
                   "run --resume %s` tries again",
                   (long long)n, (long long)r->n_members, trial_text(first, "strategy_id"),
                   trial_text(first, "label"), json_str(export, "message", ""), r->dir);
}

static sqz_status verdict(const run *r, const char **state, sqz_error *err)
{
    int64_t evaluated = 0;
    for (int64_t i = 0; i < r->n_trials; i++) evaluated += r->trials[i].evaluated;
    if (atomic_load(&r->cancel)) {
        *state = "interrupted";
        return err_set(err, SQZ_E_CANCELLED,
                       "interrupted after %lld trials; `sqz run --resume %s` continues",
                       (long long)r->n_trials, r->dir);
    }
    *state = "failed";
    if (r->phase != PHASE_DONE) return SQZ_OK; /* the failed step has said why */
    sqz_status missing = unexported(r, err);
    if (missing) return missing;
    if (r->search_failure)
        return err_set(err, ERR_PLUGIN,
                       "%.700s; the front is that of %lld trials, `sqz run --resume %s` asks again",
                       r->search_failure, (long long)r->n_trials, r->dir);
    *state = "done";
    if (r->n_members) return SQZ_OK;
    int fitting = !r->n_trials || r->n_refused < r->n_trials;
    int spent = fitting && r->stop_kind &&
                (!strcmp(r->stop_kind, "trials") || !strcmp(r->stop_kind, "wall"));
    if (!evaluated && spent && !r->n_failed)
        return err_set(err, ERR_BUDGET, "%s before any candidate was fully evaluated; give more",
                       r->stop_text);
    return no_result(r, err);
}

sqz_status run_finish(run *r, sqz_error *err)
{
    const char *state;
    sqz_error local = {0};
    sqz_status result = verdict(r, &state, err);
    if (r->front) front_update(r);
    sqz_status s = records_write_final(r, state, &local);
    if (!s && !ledger_replaying(r)) {
        cJSON *finish = ledger_record("finish");
        cJSON_AddStringToObject(finish, "state", state);
        s = ledger_append(r, finish, NULL, &local);
    }
    if (s && (!result || result == SQZ_E_CANCELLED)) {
        if (err) *err = local;
        return s;
    }
    return result;
}

void run_close(run *r)
{
    if (!r) return;
    searcher_close(r);
    free(r->search_failure);
    if (r->journal) journal_close(r->journal);
    if (r->registry) registry_close(r->registry);
    for (int64_t i = 0; i < r->n_trials; i++) {
        cJSON_Delete(r->trials[i].json);
        free(r->trials[i].x);
    }
    free(r->trials);
    cJSON_Delete(r->baseline.json);
    cJSON_Delete(r->spec);
    cJSON_Delete(r->plan);
    cJSON_Delete(r->fingerprint);
    cJSON_Delete(r->history);
    cJSON_Delete(r->hardware);
    cJSON_Delete(r->said);
    cJSON_Delete(r->front);
    model_config_free(&r->model);
    sources_close(&r->data);
    seeds_free(&r->seeds);
    space_free(r->space);
    config_free(r->own_config);
    free(r->replay);
    free(r->exported);
    free(r->members);
    free(r->stop_kind);
    free(r->stop_text);
    free(r->dir);
    free(r->id);
    free(r->began);
    free(r->store);
    free(r);
}

/* ---- looking -----------------------------------------------------------------------------------
 */

const char *run_dir(const run *r)
{
    return r->dir;
}

const char *run_id(const run *r)
{
    return r->id;
}

const cJSON *run_front(const run *r)
{
    return r->front;
}

const cJSON *run_baseline(const run *r)
{
    return r->front ? r->baseline.json : NULL;
}

int64_t run_trial_count(const run *r)
{
    return r->n_trials;
}

const cJSON *run_trial(const run *r, int64_t i)
{
    return i >= 0 && i < r->n_trials ? r->trials[i].json : NULL;
}
