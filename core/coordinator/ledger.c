/* ledger.c - decisions through the journal; see state.h.
 *
 * Types, in the order a run writes them:
 *   open      config, fingerprint of model, data and plugins          (first record)
 *   start     a job is about to run: {"trial","rung"}
 *   result    it ended: {"trial","rung","outcome","message","code","result","seconds"}
 *   propose   a trial: {"trial","x","by","why","steps"}
 *   decide    promote or drop after the proxy: {"trial","promote","why"}
 *   tell      what the search was told: {"trial","f","feasible"}
 *   stop      no further trial: {"kind","text"}
 *   resumed   a later session continues: {"search":{"id","digest"}}
 *   finish    the folder is complete */
#include "coordinator/state.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

double run_elapsed(const run *r)
{
    return r->elapsed_before + (clock_s() - r->started);
}

cJSON *ledger_record(const char *type)
{
    cJSON *record = cJSON_CreateObject();
    cJSON_AddStringToObject(record, "type", type);
    return record;
}

int ledger_replaying(const run *r)
{
    return r->at < r->n_replay;
}

const char *ledger_peek(const run *r)
{
    return ledger_replaying(r) ? json_str(r->replay[r->at], "type", "") : NULL;
}

sqz_status ledger_take(run *r, const char *type, const cJSON **out, sqz_error *err)
{
    *out = NULL;
    if (!ledger_replaying(r)) return SQZ_OK;
    const cJSON *record = r->replay[r->at];
    if (strcmp(json_str(record, "type", ""), type) != 0)
        return err_set(
            err, ERR_CONFLICT,
            "%s/journal.jsonl: record %lld is \"%s\" where \"%s\" was expected; the run was "
            "made by another version and cannot be continued by this one",
            r->dir, (long long)json_int(record, "seq", -1), json_str(record, "type", "?"), type);
    r->at++;
    *out = record;
    return SQZ_OK;
}

sqz_status ledger_append(run *r, cJSON *record, const cJSON **out, sqz_error *err)
{
    json_add_num(record, "at", run_elapsed(r));
    sqz_status s = journal_append(r->journal, record, err);
    if (!s && out) *out = journal_record(r->journal, journal_length(r->journal) - 1);
    return s;
}

const cJSON *ledger_exported(const run *r, const char *strategy_id)
{
    for (int64_t i = r->n_exported; i-- > 0;)
        if (!strcmp(json_str(r->exported[i], "trial", ""), strategy_id)) return r->exported[i];
    return NULL;
}

static int is_type(const cJSON *record, const char *type)
{
    return !strcmp(json_str(record, "type", ""), type);
}

static int is_export(const cJSON *record)
{
    return (is_type(record, "start") || is_type(record, "result")) &&
           !strcmp(json_str(record, "rung", ""), "export");
}

/* After these a session only exports what it has. */
static int is_early_stop(const cJSON *record)
{
    const char *kind = json_str(record, "kind", "");
    return is_type(record, "stop") && (!strcmp(kind, "interrupted") || !strcmp(kind, "search"));
}

/* After a "stop" because of a cancel or a search that failed the trials go on from there, so that
 * everything up to the next "resumed" is left out. */
sqz_status ledger_prepare(run *r, sqz_error *err)
{
    int64_t n = journal_length(r->journal);
    int skipping = 0;
    r->replay = calloc((size_t)n + 1, sizeof *r->replay);
    r->exported = calloc((size_t)n + 1, sizeof *r->exported);
    if (!r->replay || !r->exported) return err_set(err, SQZ_E_NOMEM, "out of memory");
    for (int64_t i = 0; i < n; i++) {
        const cJSON *record = journal_record(r->journal, i);
        double at = json_num(record, "at", 0);
        if (at > r->elapsed_before) r->elapsed_before = at;
        if (is_early_stop(record))
            skipping = 1;
        else if (is_type(record, "resumed"))
            skipping = 0;
        else if (!skipping && is_export(record)) {
            if (!strcmp(json_str(record, "outcome", ""), "ok"))
                r->exported[r->n_exported++] = record;
        } else if (!skipping && !is_type(record, "finish"))
            r->replay[r->n_replay++] = record;
    }
    return SQZ_OK;
}
