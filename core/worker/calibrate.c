/* calibrate.c - the calibration windows of a job: made from the data, or taken from the registry
 * where the same bytes went through the same tokenizer with the same options before.
 *
 * {"source":"FILE" | "FILE@2,FOLDER:train@1","samples","tokens","seq_len","packing","shuffle",
 *  "seed","document_tokens","exclude":[data sets that are evaluated]}
 * Rows that also occur in an excluded set are left out; how much of the rest shares 13 words in a
 * row with them is reported. */
#include "chat/chat.h"
#include "data/documents.h"
#include "data/folder.h"
#include "data/overlap.h"
#include "worker/tasks.h"
#include <stdlib.h>
#include <string.h>

static dataset_options source_options(void)
{
    return (dataset_options){
        .for_calibration = 1, .fields = document_fields, .n_fields = document_n_fields};
}

/* ---- the spec ----------------------------------------------------------------------------------
 */

static sqz_status read_options(const subject *subj, const cJSON *spec, calibration_options *o,
                               sqz_error *err)
{
    int64_t context = subj->config.context;
    *o = (calibration_options){.samples = json_int(spec, "samples", 128),
                               .seq_len = json_int(spec, "seq_len", 0),
                               .tokens = json_int(spec, "tokens", 0),
                               .shuffle = json_bool(spec, "shuffle", 0),
                               .seed = (uint64_t)json_num(spec, "seed", 0)};
    const char *frame = json_str(spec, "document_tokens", "default");
    const char *packing = json_str(spec, "packing", "concat");
    if (o->seq_len <= 0) o->seq_len = context < 2048 ? context : 2048;
    if (!framing_parse(frame, &o->frame))
        return err_set(err, ERR_USAGE, "document_tokens is \"%s\"; use none, bos, eos or bos+eos",
                       frame);
    if (!packing_parse(packing, &o->packing))
        return err_set(err, ERR_USAGE, "packing is \"%s\"; use concat, document or row", packing);
    return SQZ_OK;
}

/* ---- the key -----------------------------------------------------------------------------------
 */

/* The bytes of a set and how they are read: the same bytes are other rows under another ending. */
static sqz_status add_set(cJSON *list, const char *spec, double weight, const dataset_options *with,
                          sqz_error *err)
{
    char digest[DIGEST_TEXT];
    sqz_status st = dataset_digest(spec, with, digest, err);
    if (st) return st;
    char *path = dataset_path(spec);
    cJSON *set = cJSON_CreateObject();
    cJSON_AddStringToObject(set, "digest", digest);
    json_add_num(set, "format", path ? format_of(path) : FORMAT_NONE);
    json_add_num(set, "weight", weight);
    cJSON_AddItemToArray(list, set);
    free(path);
    return SQZ_OK;
}

/* Everything the windows depend on; NULL on failure. */
static cJSON *key_inputs(const job_state *s, const cJSON *spec, const mix_spec *mix,
                         const calibration_options *o, sqz_error *err)
{
    cJSON *k = cJSON_CreateObject(), *sources, *exclude;
    const dataset_options with = source_options(), plain = {0};
    const cJSON *item;
    sqz_status st = SQZ_OK;
    cJSON_AddStringToObject(k, "schema", "sqz.calibration-windows/1");
    cJSON_AddStringToObject(k, "model", s->base); /* its digest covers the tokenizer's files */
    sources = cJSON_AddArrayToObject(k, "sources");
    exclude = cJSON_AddArrayToObject(k, "exclude");
    for (int64_t i = 0; i < mix->n && !st; i++)
        st = add_set(sources, mix->specs[i], mix->weights[i], &with, err);
    cJSON_ArrayForEach(item, json_get(spec, "exclude")) if (!st && cJSON_IsString(item)) st =
        add_set(exclude, item->valuestring, 1, &plain, err);
    json_add_num(k, "samples", (double)o->samples);
    json_add_num(k, "tokens", (double)o->tokens);
    json_add_num(k, "seq_len", (double)o->seq_len);
    json_add_num(k, "packing", o->packing);
    json_add_num(k, "document_tokens", o->frame);
    cJSON_AddBoolToObject(k, "shuffle", o->shuffle);
    json_add_num(k, "seed", o->shuffle ? (double)o->seed : 0);
    if (!st) return k;
    cJSON_Delete(k);
    return NULL;
}

/* ---- the store ---------------------------------------------------------------------------------
 */

static sqz_status save(job_state *s, const char *key, const calibration *c, const cJSON *facts,
                       sqz_error *err)
{
    char digest[DIGEST_TEXT];
    cJSON *record = cJSON_CreateObject();
    sqz_status st = object_put(s->registry, c->ids, calibration_tokens(c) * 4, digest, err);
    if (!st) cJSON_AddStringToObject(record, "ids", digest);
    if (!st && c->lengths) {
        st = object_put(s->registry, c->lengths, c->windows * 4, digest, err);
        if (!st) cJSON_AddStringToObject(record, "lengths", digest);
    }
    json_add_num(record, "windows", (double)c->windows);
    json_add_num(record, "window", (double)c->window);
    json_add_num(record, "left_out", (double)c->left_out);
    json_add_num(record, "passed_over", (double)c->passed_over);
    cJSON_AddStringToObject(record, "digest", c->digest);
    cJSON_AddItemToObject(record, "facts", cJSON_Duplicate(facts, 1));
    if (!st) st = action_put(s->registry, key, record, err);
    cJSON_Delete(record);
    return st;
}

/* An object of 32-bit integers, verified; NULL: absent, damaged, or of another size (< 0: any). */
static int32_t *load_ints(const job_state *s, const char *digest, int64_t wanted, int64_t *n)
{
    char *data = NULL;
    int64_t bytes = 0;
    if (!digest || object_read(s->registry, digest, &data, &bytes, NULL)) return NULL;
    *n = bytes / 4;
    if (bytes % 4 == 0 && bytes > 0 && (wanted < 0 || *n == wanted))
        return (int32_t *)(void *)data; /* malloc'd, so aligned */
    free(data);
    return NULL;
}

/* 0: the record does not fit together, and the windows are made anew. */
static int load(const job_state *s, const cJSON *record, calibration *out)
{
    calibration c = {.windows = json_int(record, "windows", 0),
                     .window = json_int(record, "window", 0),
                     .left_out = json_int(record, "left_out", 0),
                     .passed_over = json_int(record, "passed_over", 0)};
    int64_t n = 0, n_lengths = 0, total;
    const char *lengths = json_str(record, "lengths", NULL);
    if (c.windows < 1 || c.window < 2 || c.window > INT32_MAX ||
        __builtin_mul_overflow(c.windows, c.window, &total))
        return 0;
    c.ids = load_ints(s, json_str(record, "ids", NULL), -1, &n);
    if (lengths) c.lengths = load_ints(s, lengths, c.windows, &n_lengths);
    int ok = c.ids && (!lengths || c.lengths);
    for (int64_t i = 0; ok && c.lengths && i < c.windows; i++)
        ok = c.lengths[i] >= 2 && c.lengths[i] <= (i ? c.lengths[i - 1] : c.window);
    ok = ok && n == calibration_tokens(&c);
    snprintf(c.digest, sizeof c.digest, "%s", json_str(record, "digest", ""));
    if (ok)
        *out = c;
    else
        calibration_free(&c);
    return ok;
}

/* ---- making ------------------------------------------------------------------------------------
 */

typedef struct open_sets {
    calibration_part *parts;
    dataset **sources, **exclude;
    int64_t n_sources, n_exclude;
} open_sets;

static void close_sets(open_sets *o)
{
    for (int64_t i = 0; i < o->n_sources; i++) dataset_close(o->sources[i]);
    for (int64_t i = 0; i < o->n_exclude; i++) dataset_close(o->exclude[i]);
    free(o->parts);
    free(o->sources);
    free(o->exclude);
}

static sqz_status open_all(const cJSON *spec, const mix_spec *mix, open_sets *o, sqz_error *err)
{
    const dataset_options with = source_options();
    const cJSON *list = json_get(spec, "exclude"), *item;
    sqz_status st = SQZ_OK;
    o->parts = calloc((size_t)mix->n, sizeof *o->parts);
    o->sources = calloc((size_t)mix->n, sizeof *o->sources);
    o->exclude = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *o->exclude);
    if (!o->parts || !o->sources || !o->exclude)
        return err_set(err, SQZ_E_NOMEM, "no memory for the calibration data");
    for (int64_t i = 0; i < mix->n && !st; i++) {
        st = dataset_open_with(mix->specs[i], &with, &o->sources[i], err);
        if (st) break;
        o->n_sources++;
        o->parts[i] = (calibration_part){.data = o->sources[i], .weight = mix->weights[i]};
    }
    cJSON_ArrayForEach(item, list)
    {
        if (st || !cJSON_IsString(item)) continue;
        st = dataset_open(item->valuestring, &o->exclude[o->n_exclude], err);
        o->n_exclude += !st;
    }
    return st;
}

static cJSON *side_json(const overlap_side *side)
{
    cJSON *o = cJSON_CreateObject();
    json_add_num(o, "rows", (double)side->rows);
    json_add_num(o, "exact_rows", (double)side->exact_rows);
    json_add_num(o, "overlapping_rows", (double)side->overlapping_rows);
    return o;
}

/* What each set gave, and how it overlaps with what is evaluated. */
static sqz_status describe_sets(const open_sets *o, const mix_spec *mix, cJSON *facts,
                                sqz_error *err)
{
    cJSON *sources = cJSON_AddArrayToObject(facts, "sources");
    for (int64_t i = 0; i < o->n_sources; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddItemToArray(sources, one);
        cJSON_AddStringToObject(one, "source", mix->specs[i]);
        if (o->sources[i]->split) cJSON_AddStringToObject(one, "split", o->sources[i]->split);
        json_add_num(one, "weight", mix->weights[i]);
        json_add_num(one, "rows", (double)o->sources[i]->rows.n_rows);
        json_add_num(one, "windows", (double)o->parts[i].windows);
        json_add_num(one, "left_out", (double)o->parts[i].left_out);
        if (!o->n_exclude) continue;
        overlap found;
        sqz_status st = overlap_measure(o->sources[i], (const dataset *const *)o->exclude,
                                        o->n_exclude, &found, err);
        if (st) return st;
        cJSON *overlap_ = cJSON_AddObjectToObject(one, "overlap");
        json_add_num(overlap_, "words", OVERLAP_WORDS);
        cJSON_AddItemToObject(overlap_, "calibration", side_json(&found.a));
        cJSON_AddItemToObject(overlap_, "evaluation", side_json(&found.b));
    }
    return SQZ_OK;
}

/* Conversations are rendered by the model's own chat template. */
static sqz_status open_chat(const open_sets *o, const char *model, chat **out, sqz_error *err)
{
    for (int64_t i = 0; i < o->n_sources; i++) {
        if (o->sources[i]->kind != DATA_CHAT) continue;
        sqz_status st = *out ? SQZ_OK : chat_open(model, out, err);
        if (st) return st;
        o->sources[i]->chat = *out;
    }
    return SQZ_OK;
}

static sqz_status make(const cJSON *spec, const mix_spec *mix, const char *model,
                       calibration_options *o, tokenizer *tok, calibration *c, cJSON *facts,
                       sqz_error *err)
{
    open_sets sets = {0};
    chat *template = NULL;
    sqz_status st = open_all(spec, mix, &sets, err);
    if (!st) st = open_chat(&sets, model, &template, err);
    o->leak_check = (const dataset *const *)sets.exclude;
    o->n_leak_check = sets.n_exclude;
    if (!st) st = calibration_mix(sets.parts, sets.n_sources, tok, o, c, err);
    if (!st && (st = describe_sets(&sets, mix, facts, err))) calibration_free(c);
    close_sets(&sets);
    chat_free(template);
    return st;
}

/* In the log, so that a leak is seen without opening a file. */
static void log_leaks(job_state *s, const calibrated *c)
{
    const cJSON *one;
    if (c->windows.left_out)
        job_log(s, SQZ_LOG_INFO, "%lld calibration rows left out: they are evaluated too",
                (long long)c->windows.left_out);
    cJSON_ArrayForEach(one, json_get(c->facts, "sources"))
    {
        const cJSON *eval = json_get(json_get(one, "overlap"), "evaluation");
        int64_t n = json_int(eval, "overlapping_rows", 0), rows = json_int(eval, "rows", 0);
        if (n)
            job_log(s, SQZ_LOG_WARN,
                    "%s shares %d words in a row with %lld of %lld evaluated rows (%.1f %%)",
                    json_str(one, "source", ""), OVERLAP_WORDS, (long long)n, (long long)rows,
                    100.0 * (double)n / (double)rows);
    }
}

sqz_status calibrate(job_state *s, const cJSON *spec, calibrated *out, sqz_error *err)
{
    subject *subj;
    calibrated c = {0};
    calibration_options o;
    mix_spec mix = {0};
    char key[SHA256_HEX];
    sqz_status st = job_subject(s, 0, 0, &subj, err);
    if (st) return st;
    st = read_options(subj, spec, &o, err);
    if (!st) st = mix_parse(json_str(spec, "source", ""), &mix, err);
    cJSON *inputs = st ? NULL : key_inputs(s, spec, &mix, &o, err), *record = NULL;
    if (!st && !inputs) st = err ? err->code : ERR_MODEL;
    if (inputs) {
        action_key(inputs, key);
        record = action_get(s->registry, key);
    }
    if (record && load(s, record, &c.windows)) {
        c.facts = cJSON_Duplicate(json_get(record, "facts"), 1);
        c.cached = 1;
    } else if (!st) {
        tokenizer *tok;
        c.facts = cJSON_CreateObject();
        st = subject_tokenizer(subj, &tok, err);
        if (!st) st = make(spec, &mix, job_model(s), &o, tok, &c.windows, c.facts, err);
        if (!st) st = save(s, key, &c.windows, c.facts, err);
    }
    if (!st) cJSON_AddStringToObject(c.facts, "packing", json_str(spec, "packing", "concat"));
    cJSON_Delete(inputs);
    cJSON_Delete(record);
    mix_free(&mix);
    subject_close(subj);
    if (st) {
        calibrated_free(&c);
        return st;
    }
    log_leaks(s, &c);
    *out = c;
    return SQZ_OK;
}

void calibrated_free(calibrated *c)
{
    cJSON_Delete(c->facts);
    calibration_free(&c->windows);
    c->facts = NULL;
}
