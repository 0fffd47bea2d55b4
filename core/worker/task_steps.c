/* task_steps.c - the walk: applies the steps of a strategy to the model, one linear at a time.
 *
 * {"task":"steps","calibration":{see
 * calibrate.c},"steps":[{"use","with","rules":[{"match","skip"|"with"}]}],"format","must_export"}
 * Weights are streamed block by block; statistics come from statistics.c; results become objects of
 * the registry and one artifact per step.  A step whose key exists is not run again. Rules: `match`
 * is a shell pattern over module names ("model.layers.0.*", "*.down_proj") or roles
 * ("down"); the last match wins; skip leaves the module as it is, with overrides parameters. */
#include "quant/affine.h"
#include "io/disk.h"
#include "worker/tasks.h"
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows on which a layer's error is measured: enough for two digits, cheap at every width. */
enum { ERROR_ROWS = 16 };

typedef struct step_run {
    job_state *job;
    subject *subject;
    agent *agent;
    const agent_info *info;
    const sqz_method_steps *steps; /* what the method needs */
    const cJSON *rules;
    uint64_t rules_met; /* bit i: rule i matched a linear; later ones are not followed */
    const cJSON *with;  /* resolved */
    const calibration *calibration; /* NULL when nothing needs data */
    statistics stats;
    prefix *prefix;              /* true-sequential only, instead of stats */
    struct block_results *fresh; /* the block being quantized */
    uint64_t seed;
    cJSON *tensors; /* manifest entries */
    cJSON *layers;  /* records */
    double quantize_s;
    int64_t done, total; /* linears */
} step_run;

/* What sqz_linear.impl points to while the method runs on one linear. */
typedef struct linear_run {
    step_run *run;
    sqz_affine affine;
    int has_affine;
    cJSON *notes;
} linear_run;

/* ---- the subject handed to the method
 * -------------------------------------------------------------- */

static sqz_status set_affine(const sqz_linear *l, const sqz_host *h, int32_t bits,
                             int64_t group_size, int32_t symmetric, const uint8_t *codes,
                             const float *scales, const uint8_t *zeros)
{
    linear_run *r = l->impl;
    sqz_error e = {0};
    if (r->has_affine)
        return h->fail(h, SQZ_E_INVALID, "set_affine was called twice for one linear");
    sqz_status st = affine_pack(bits, l->rows, l->cols, group_size, symmetric, codes, scales, zeros,
                                &r->affine, &e);
    if (st) return host_fail(h, st, e.text);
    r->has_affine = 1;
    return SQZ_OK;
}

static void note(const sqz_linear *l, const sqz_host *h, const char *text)
{
    linear_run *r = l->impl;
    (void)h;
    cJSON_AddItemToArray(r->notes, cJSON_CreateString(text));
    job_log(r->run->job, SQZ_LOG_WARN, "%s: %s", l->module, text);
}

/* ---- rules
 * -------------------------------------------------------------------------------------------- */

static int rule_matches(const cJSON *rule, const linear_spec *spec)
{
    const char *pattern = json_str(rule, "match", "");
    return fnmatch(pattern, spec->module, 0) == 0 || fnmatch(pattern, spec->role, 0) == 0;
}

/* 1 skip, 0 convert with *with (owned by the caller), negative error. */
static int resolve_rules(step_run *r, const linear_spec *spec, cJSON **with, sqz_error *err)
{
    cJSON *merged = cJSON_Duplicate(r->with, 1);
    int skip = 0, i = 0;
    const cJSON *rule, *over;
    cJSON_ArrayForEach(rule, r->rules)
    {
        uint64_t bit = i < 64 ? UINT64_C(1) << i : 0;
        i++;
        if (!rule_matches(rule, spec)) continue;
        r->rules_met |= bit;
        skip = json_bool(rule, "skip", 0);
        cJSON_ArrayForEach(over, json_get(rule, "with"))
        {
            cJSON_DeleteItemFromObjectCaseSensitive(merged, over->string);
            cJSON_AddItemToObject(merged, over->string, cJSON_Duplicate(over, 1));
        }
    }
    sqz_status st = skip ? SQZ_OK : params_resolve(r->info, merged, NULL, with, err);
    cJSON_Delete(merged);
    return st ? st : skip;
}

/* A rule that met nothing is most often a misspelt name. */
static void say_idle_rules(const step_run *r)
{
    const cJSON *rule;
    int i = 0;
    cJSON_ArrayForEach(rule, r->rules)
    {
        if (i == 64) return;
        if (!(r->rules_met >> i++ & 1))
            job_log(r->job, SQZ_LOG_WARN, "%s: the rule \"%s\" matches no linear of this model",
                    r->info->id, json_str(rule, "match", ""));
    }
}

/* ---- one linear
 * ----------------------------------------------------------------------------------------- */

static sqz_status dense_weight(subject *s, const linear_spec *spec, float **out, sqz_error *err)
{
    float *w = malloc((size_t)(spec->rows * spec->cols) * sizeof *w);
    if (!w) return err_set(err, SQZ_E_NOMEM, "no memory for %s", spec->module);
    sqz_weight held;
    int form = subject_linear(s, spec->module, &held, err);
    sqz_status st = form < 0 ? form : SQZ_OK;
    if (form == 1) {
        affine_dequantize(held.affine, 0, spec->rows, w);
        subject_linear_done(s, spec->module);
    } else if (!st) {
        st = model_dense_values(&s->config, s->checkpoint, spec, w, err);
        checkpoint_drop(s->checkpoint);
    }
    if (st)
        free(w);
    else
        *out = w;
    return st;
}

/* Mean over a sample of rows of d H d^T, and the same relative to w H w^T (H = identity without
 * statistics). */
static sqz_status layer_error(step_run *r, const sqz_linear *l, const sqz_affine *a, double *error,
                              double *relative, int64_t *rows, sqz_error *err)
{
    const device *d = &r->job->backend.device;
    int64_t n = l->cols, take = l->rows < ERROR_ROWS ? l->rows : ERROR_ROWS;
    float *x = malloc((size_t)(2 * take * n) * sizeof *x); /* differences, then weights */
    float *xh = malloc((size_t)(2 * take * n) * sizeof *xh);
    if (!x || !xh) {
        free(x);
        free(xh);
        return err_set(err, SQZ_E_NOMEM, "no memory to measure the error of %lld rows",
                       (long long)take);
    }
    for (int64_t k = 0; k < take; k++) {
        int64_t row = k * l->rows / take;
        const float *w = l->weight + row * n;
        affine_dequantize(a, row, 1, x + k * n);
        for (int64_t i = 0; i < n; i++) x[k * n + i] -= w[i];
        memcpy(x + (take + k) * n, w, (size_t)n * sizeof *w);
    }
    if (l->xtx)
        d->hw->gemm(d->dev, 0, 0, 2 * take, n, n, 1.0, x, n, l->xtx, n, 0.0, xh, n);
    else
        memcpy(xh, x, (size_t)(2 * take * n) * sizeof *x);
    double sums[2] = {0, 0};
    for (int half = 0; half < 2; half++)
        for (int64_t i = half * take * n; i < (half + 1) * take * n; i++)
            sums[half] += (double)x[i] * (double)xh[i];
    free(x);
    free(xh);
    *error = sums[0] / (double)take;
    *relative = sums[1] > 0 ? sums[0] / sums[1] : 0;
    *rows = take;
    return SQZ_OK;
}

static sqz_status layer_record(const linear_spec *spec, const linear_run *lr, const sqz_linear *l,
                               double seconds, cJSON *layers, sqz_error *err)
{
    double error = 0, relative = 0;
    int64_t rows = 0;
    sqz_status st = layer_error(lr->run, l, &lr->affine, &error, &relative, &rows, err);
    if (st) return st;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddItemToArray(layers, j);
    cJSON_AddStringToObject(j, "name", spec->module);
    json_add_num(j, "bits", lr->affine.bits);
    json_add_num(j, "group_size", (double)lr->affine.group_size);
    cJSON_AddBoolToObject(j, "symmetric", lr->affine.symmetric);
    json_add_num(j, "error", error);
    json_add_num(j, "relative_error", relative);
    json_add_num(j, "error_rows", (double)rows);
    json_add_num(j, "seconds", seconds);
    if (cJSON_GetArraySize(lr->notes))
        cJSON_AddItemToObject(j, "notes", cJSON_Duplicate(lr->notes, 1));
    return SQZ_OK;
}

/* The results of one block, until they are stored together. */
typedef struct block_results {
    sqz_affine *affine;
    char (*module)[128];
    int n;
} block_results;

static sqz_status block_results_open(block_results *b, int64_t linears, sqz_error *err)
{
    *b = (block_results){calloc((size_t)linears, sizeof *b->affine),
                         calloc((size_t)linears, sizeof *b->module), 0};
    return b->affine && b->module ? SQZ_OK
                                  : err_set(err, SQZ_E_NOMEM, "no memory for a block's results");
}

static void block_results_close(block_results *b)
{
    for (int i = 0; i < b->n; i++) affine_free(&b->affine[i]);
    free(b->affine);
    free(b->module);
    *b = (block_results){0};
}

/* A finished block on its way into the registry, while the statistics of the next are read. */
typedef struct storing {
    registry *registry;
    const block_results *block;
    char digest[DIGEST_TEXT];
    sqz_status status;
    sqz_error error;
} storing;

static void store_object(void *arg)
{
    storing *s = arg;
    const block_results *b = s->block;
    affine_item *items = calloc((size_t)b->n + 1, sizeof *items);
    char *path = object_temp(s->registry);
    for (int i = 0; items && i < b->n; i++) items[i] = (affine_item){b->module[i], &b->affine[i]};
    if (!items)
        s->status = err_set(&s->error, SQZ_E_NOMEM, "no memory for a block's results");
    else if (b->n)
        s->status = affine_save(items, b->n, path, &s->error);
    if (b->n && !s->status) s->status = object_adopt(s->registry, path, s->digest, &s->error);
    free(items);
    free(path);
}

/* The block is in the registry (or not): its linears into the manifest, its memory back. */
static sqz_status stored(step_run *r, storing *s, block_results *b, sqz_error *err)
{
    for (int i = 0; i < b->n && !s->status; i++) {
        cJSON *t = cJSON_AddObjectToObject(r->tensors, b->module[i]);
        cJSON_AddStringToObject(t, "form", SQZ_FORM_INT_AFFINE);
        cJSON_AddStringToObject(t, "object", s->digest);
    }
    if (s->status && err) *err = s->error;
    block_results_close(b);
    return s->status;
}

static sqz_status store_block(step_run *r, block_results *b, sqz_error *err)
{
    storing s = {.registry = r->job->registry, .block = b};
    store_object(&s);
    return stored(r, &s, b, err);
}

/* Stable 64-bit mix of the trial's seed and the module's name (FNV-1a). */
static uint64_t linear_seed(uint64_t seed, const char *module)
{
    uint64_t h = 1469598103934665603ull ^ seed;
    for (; *module; module++) h = (h ^ (uint8_t)*module) * 1099511628211ull;
    return h;
}

static sqz_status run_linear(step_run *r, const linear_spec *spec, int64_t layer,
                             const layer_statistics *moments, block_results *block, sqz_error *err)
{
    cJSON *with = NULL;
    int skip = resolve_rules(r, spec, &with, err);
    if (skip < 0) return skip;
    if (skip) return SQZ_OK;
    float *w = NULL;
    double start = clock_s();
    linear_run lr = {.run = r, .notes = cJSON_CreateArray()};
    const moment *m = layer_statistics_find(moments, spec->input);
    sqz_status st = dense_weight(r->subject, spec, &w, err);
    if (!st) {
        sqz_linear l = {.struct_size = sizeof l,
                        .layer = (int32_t)layer,
                        .module = spec->module,
                        .role = spec->role,
                        .rows = spec->rows,
                        .cols = spec->cols,
                        .weight = w,
                        .xtx = m ? m->xtx : NULL,
                        .xtx_id = m ? m->id : 0,
                        .tokens = m ? m->tokens : 0,
                        .seed = linear_seed(r->seed, spec->module),
                        .impl = &lr,
                        .set_affine = set_affine,
                        .note = note};
        st = agent_call(r->agent, &l, with, err);
        if (st)
            err_prefix(err, "%s", spec->module);
        else if (!lr.has_affine)
            st = err_set(err, SQZ_E_INTERNAL, "%s: %s returned without a result", spec->module,
                         r->info->id);
        double seconds = clock_s() - start;
        if (!st) st = layer_record(spec, &lr, &l, seconds, r->layers, err);
    }
    if (!st) { /* the block owns it now */
        memcpy(block->module[block->n], spec->module, sizeof spec->module);
        block->affine[block->n++] = lr.affine;
    } else {
        affine_free(&lr.affine);
    }
    cJSON_Delete(lr.notes);
    cJSON_Delete(with);
    free(w);
    return st;
}

/* Linears that share an input follow one another; with a prefix, moments are of the model as the
 * linears before them left it, and are taken input by input. */
static sqz_status run_block_linears(step_run *r, int64_t layer, layer_statistics *moments,
                                    block_results *block, sqz_error *err)
{
    const model_config *c = &r->subject->config;
    char input[32] = "";
    sqz_status st = SQZ_OK;
    for (int64_t k = 0; k < model_linear_count(c, layer) && !st; k++) {
        linear_spec spec;
        model_linear(c, layer, k, &spec);
        if (r->prefix && strcmp(input, spec.input) != 0) {
            layer_statistics_free(moments);
            memcpy(input, spec.input, sizeof input);
            st = prefix_statistics(r->prefix, layer, input, moments, err);
        }
        if (!st) st = run_linear(r, &spec, layer, moments, block, err);
    }
    return st ? st : r->prefix ? prefix_advance(r->prefix, layer, err) : SQZ_OK;
}

/* Statistics of the block; the block before it is stored meanwhile. */
static sqz_status begin_block(step_run *r, int64_t layer, block_results *before,
                              layer_statistics *moments, sqz_error *err)
{
    if (!r->calibration || r->prefix) return store_block(r, before, err);
    storing s = {.registry = r->job->registry, .block = before};
    sqz_status st =
        statistics_load(r->job, r->subject, &r->stats, layer, store_object, &s, moments, err);
    sqz_status kept = stored(r, &s, before, st ? NULL : err);
    return st ? st : kept;
}

static sqz_status walk(step_run *r, sqz_error *err)
{
    const model_config *c = &r->subject->config;
    double start = clock_s(), from = r->calibration && !r->prefix ? 0.6 : 0.0;
    sqz_status st = SQZ_OK;
    block_results block = {0};
    r->total = c->layers;
    for (int64_t l = 0; l < c->layers && !st; l++) {
        char what[96];
        snprintf(what, sizeof what, "%s: block %lld of %lld", r->info->name, (long long)l + 1,
                 (long long)c->layers);
        if (job_tick(r->job, from + (1 - from) * (double)l / (double)c->layers, what)) {
            st = err_set(err, SQZ_E_CANCELLED, "cancelled in block %lld", (long long)l);
            break;
        }
        layer_statistics moments = {0};
        st = begin_block(r, l, &block, &moments, err);
        if (!st) st = block_results_open(&block, model_linear_count(c, l), err);
        r->fresh = &block;
        if (!st) st = run_block_linears(r, l, &moments, &block, err);
        r->fresh = NULL;
        layer_statistics_free(&moments);
    }
    if (!st) st = store_block(r, &block, err);
    block_results_close(&block);
    r->quantize_s = clock_s() - start;
    return st;
}

/* prefix_results.find: of the block that is being quantized. */
static const sqz_affine *fresh_result(void *ctx, const char *module)
{
    const step_run *r = ctx;
    for (int64_t i = 0; r->fresh && i < r->fresh->n; i++)
        if (strcmp(r->fresh->module[i], module) == 0) return &r->fresh->affine[i];
    return NULL;
}

/* ---- one step: key, run or reuse, artifact
 * ------------------------------------------------------------------ */

static cJSON *step_inputs(step_run *r)
{
    char class[96];
    backend_compute_class(&r->job->backend, r->subject->compute, class);
    cJSON *k = cJSON_CreateObject();
    cJSON_AddStringToObject(k, "schema", "sqz.step/1");
    cJSON_AddStringToObject(k, "model", r->job->artifact[0] ? r->job->artifact : r->job->base);
    cJSON_AddStringToObject(k, "method", r->info->id);
    cJSON_AddStringToObject(k, "version", r->info->version);
    cJSON_AddStringToObject(k, "plugin", r->info->file_digest);
    cJSON_AddItemToObject(k, "with", cJSON_Duplicate(r->with, 1));
    if (r->rules) cJSON_AddItemToObject(k, "rules", cJSON_Duplicate(r->rules, 1));
    cJSON_AddStringToObject(k, "calibration", r->calibration ? r->calibration->digest : "");
    json_add_num(k, "seed", (double)r->seed);
    cJSON_AddStringToObject(k, "compute_class", class);
    return k;
}

/* The manifest of the result: the parent's changed tensors, replaced where this step changed them.
 */
static sqz_status make_artifact(step_run *r, char digest[DIGEST_TEXT], sqz_error *err)
{
    cJSON *m = cJSON_CreateObject(), *tensors;
    cJSON_AddStringToObject(m, "schema", "sqz.artifact/1");
    cJSON_AddStringToObject(m, "base", r->job->base);
    if (r->job->artifact[0]) {
        cJSON *parent = artifact_manifest(r->job->registry, r->job->artifact, err);
        if (!parent) {
            cJSON_Delete(m);
            return err->code == SQZ_E_NOMEM ? SQZ_E_NOMEM : ERR_STORAGE;
        }
        tensors = cJSON_DetachItemFromObjectCaseSensitive(parent, "tensors");
        cJSON_Delete(parent);
    } else {
        tensors = cJSON_CreateObject();
    }
    const cJSON *t;
    cJSON_ArrayForEach(t, r->tensors)
    {
        cJSON_DeleteItemFromObjectCaseSensitive(tensors, t->string);
        cJSON_AddItemToObject(tensors, t->string, cJSON_Duplicate(t, 1));
    }
    cJSON_AddItemToObject(m, "tensors", tensors);
    cJSON_AddObjectToObject(m, "runtime");
    sqz_status st = artifact_put(r->job->registry, m, digest, err);
    cJSON_Delete(m);
    return st;
}

static sqz_status run_method(step_run *r, cJSON *record, char digest[DIGEST_TEXT], sqz_error *err)
{
    if (r->calibration) {
        sqz_status st = json_bool(r->with, SQZ_PARAM_TRUE_SEQUENTIAL, 0)
                            ? prefix_open(r->job, r->subject, r->calibration,
                                          (prefix_results){r, fresh_result}, &r->prefix, err)
                            : statistics_ensure(r->job, r->subject, r->calibration, &r->stats, err);
        if (st) return st;
    }
    r->tensors = cJSON_CreateObject();
    r->layers = cJSON_CreateArray();
    sqz_status st = walk(r, err);
    if (!st) say_idle_rules(r);
    if (!st && cJSON_GetArraySize(r->layers) == 0)
        st =
            err_set(err, ERR_USAGE,
                    "%s: the rules skip every linear, so nothing would be compressed", r->info->id);
    if (!st) st = make_artifact(r, digest, err);
    cJSON_Delete(r->tensors);
    cJSON_AddItemToObject(record, "layers", r->layers);
    if (st) return st;
    cJSON *seconds = cJSON_AddObjectToObject(record, "seconds");
    json_add_num(seconds, "calibrate", r->calibration ? r->stats.seconds : 0);
    json_add_num(seconds, "quantize", r->quantize_s);
    cJSON_AddBoolToObject(record, "statistics_cached", r->calibration && r->stats.cached);
    cJSON_AddStringToObject(record, "artifact", digest);
    return SQZ_OK;
}

/* A finished step with the same key, every byte of it still whole in the registry. */
static cJSON *reuse(step_run *r, const char *key)
{
    registry *from = r->job->registry;
    cJSON *found = action_get(from, key);
    if (!found) return NULL;
    sqz_error why = {0};
    const char *artifact = json_str(found, "artifact", "");
    if (!artifact_checked(from, artifact, &why)) return found;
    char *path = object_path(from, artifact);
    if (path) /* else gc took it, and nothing is wrong */
        job_log(r->job, SQZ_LOG_WARN, "%s: a recorded step is done again: %s", r->info->id,
                why.text);
    free(path);
    cJSON_Delete(found);
    return NULL;
}

static sqz_status open_method(job_state *s, const cJSON *step, step_run *r, cJSON **with,
                              sqz_error *err)
{
    sqz_status st =
        catalogue_find(s->catalogue, "method/1", json_str(step, "use", ""), &r->info, err);
    if (!st) st = params_resolve(r->info, json_get(step, "with"), NULL, with, err);
    if (!st) st = agent_open(s->host, r->info, &r->agent, err);
    if (st) return st;
    r->steps = agent_extension(r->agent, SQZ_METHOD_STEPS_1);
    if (!r->steps || r->steps->granularity != SQZ_PER_LINEAR ||
        strcmp(r->steps->form, SQZ_FORM_INT_AFFINE) != 0)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: works on whole models or makes a form this version cannot run; "
                       "per-linear int-affine methods run",
                       r->info->id);
    return SQZ_OK;
}

/* What the step will store at most: codes of the widest of its rules, scales and zeros; a method
 * without "bits" is taken to keep 16 bits a weight. */
static double step_bytes(const step_run *r)
{
    double bits = json_num(r->with, "bits", 16), group = json_num(r->with, "group_size", 128);
    double bytes = 0;
    const cJSON *rule;
    cJSON_ArrayForEach(rule, r->rules) bits =
        fmax(bits, json_num(json_get(rule, "with"), "bits", bits));
    const model_config *c = &r->subject->config;
    for (int64_t l = 0; l < c->layers; l++)
        for (int64_t k = 0, n = model_linear_count(c, l); k < n; k++) {
            linear_spec spec;
            model_linear(c, l, k, &spec);
            double rows = (double)spec.rows, cols = (double)spec.cols;
            double groups = group > 0 ? ceil(cols / group) : 1;
            bytes += rows * cols * bits / 8 + rows * groups * (2 + bits / 8);
        }
    return bytes;
}

static sqz_status run_step_of(job_state *s, const cJSON *step, const calibration *c, cJSON *record,
                              sqz_error *err)
{
    step_run r = {
        .job = s, .rules = json_get(step, "rules"), .seed = (uint64_t)json_num(s->job, "seed", 0)};
    cJSON *with = NULL, *found = NULL;
    char key[SHA256_HEX], digest[DIGEST_TEXT];
    sqz_status st = open_method(s, step, &r, &with, err);
    r.with = with;
    if (!st) st = job_subject(s, 1, 0, &r.subject, err);
    if (!st) {
        r.calibration = r.steps->statistics ? c : NULL;
        if (r.steps->statistics && !c)
            st = err_set(err, ERR_USAGE, "%s: needs calibration data; give --calibration FILE",
                         r.info->id);
    }
    if (!st) {
        cJSON *inputs = step_inputs(&r);
        action_key(inputs, key);
        cJSON_Delete(inputs);
        found = reuse(&r, key);
        cJSON_AddStringToObject(record, "use", r.info->id);
        cJSON_AddItemToObject(record, "with", cJSON_Duplicate(with, 1));
        cJSON_AddStringToObject(record, "key", key);
        cJSON_AddBoolToObject(record, "reused", found != NULL);
    }
    if (found) {
        job_log(s, SQZ_LOG_INFO, "%s: this step was done before and is reused (key %.12s)",
                r.info->id, key);
        cJSON *item;
        while ((item = found->child))
            cJSON_AddItemToObject(record, item->string, cJSON_DetachItemViaPointer(found, item));
        snprintf(digest, sizeof digest, "%s", json_str(record, "artifact", ""));
    } else if (!st) {
        cJSON *result = cJSON_CreateObject();
        st = disk_check("the artifact of this step", step_bytes(&r), registry_dir(s->registry),
                        "`sqz registry gc` may free some", err);
        if (!st) st = run_method(&r, result, digest, err);
        if (!st) st = action_put(s->registry, key, result, err);
        cJSON *item;
        while ((item = result->child))
            cJSON_AddItemToObject(record, item->string, cJSON_DetachItemViaPointer(result, item));
        cJSON_Delete(result);
    }
    if (!st) memcpy(s->artifact, digest, sizeof digest);
    cJSON_Delete(found);
    cJSON_Delete(with);
    statistics_free(&r.stats);
    prefix_close(r.prefix);
    if (r.agent) agent_close(r.agent);
    subject_close(r.subject);
    return st;
}

/* ---- the task
 * ----------------------------------------------------------------------------------------------------
 */

/* Totals over the artifact as it now is, and what the chosen format would write. */
static sqz_status summarise(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    subject *subj;
    sqz_status st = job_subject(s, 1, 0, &subj, err);
    if (st) return st;
    double bits = 0, weights = 0;
    int64_t changed = 0, replaced = 0;
    for (int64_t l = 0; l < subj->config.layers && !st; l++) {
        int64_t n = model_linear_count(&subj->config, l);
        for (int64_t k = 0; k < n && !st; k++) {
            linear_spec spec;
            sqz_weight w;
            int64_t dense = 0;
            model_linear(&subj->config, l, k, &spec);
            int form = subject_linear(subj, spec.module, &w, err);
            if (form < 0) st = form;
            const st_tensor *t = checkpoint_find(subj->checkpoint, spec.tensor);
            double count = (double)(spec.rows * spec.cols);
            if (t && spec.tensor_rows)
                dense = spec.rows * spec.cols * st_dtype_bits(t->dtype) / 8;
            else if (t)
                dense = tensor_file_bytes(t);
            weights += count;
            bits += 8.0 * (double)(form == 1 ? affine_bytes(w.affine) : dense);
            if (form != 1) continue;
            changed += affine_bytes(w.affine);
            replaced += dense;
            subject_linear_done(subj, spec.module);
        }
    }
    if (!st) {
        int64_t in_format;
        sqz_error why = {0};
        sqz_status fits = export_fits(s, subj, json_str(task, "format", NULL), &in_format, &why);
        if (fits && json_bool(task, "must_export", 0))
            st = err_set(err, fits, "cannot be exported: %s", why.text);
        cJSON_AddStringToObject(result, "artifact", s->artifact);
        json_add_num(result, "effective_bits_per_weight", bits / weights);
        json_add_num(
            result, "bytes",
            (double)(in_format ? in_format : subj->checkpoint->bytes - replaced + changed));
        cJSON_AddStringToObject(result, "bytes_origin",
                                in_format ? "tensors of the exported checkpoint"
                                          : "tensors of the artifact");
    }
    subject_close(subj);
    return st;
}

static void describe_calibration(const calibrated *in, const cJSON *steps, cJSON *result)
{
    cJSON *c = cJSON_AddObjectToObject(result, "calibration");
    int cached = 1;
    const cJSON *step, *fact;
    cJSON_ArrayForEach(step, steps)
    {
        if (!json_bool(step, "reused", 0))
            cached = cached && json_bool(step, "statistics_cached", 0);
    }
    json_add_num(c, "tokens", (double)calibration_tokens(&in->windows));
    json_add_num(c, "windows", (double)in->windows.windows);
    json_add_num(c, "seq_len", (double)in->windows.window);
    cJSON_AddStringToObject(c, "hash", in->windows.digest);
    cJSON_AddBoolToObject(c, "cached", cached);
    cJSON_AddBoolToObject(c, "windows_cached", in->cached);
    json_add_num(c, "left_out", (double)in->windows.left_out);
    json_add_num(c, "passed_over", (double)in->windows.passed_over);
    cJSON_ArrayForEach(fact, in->facts)
        cJSON_AddItemToObject(c, fact->string, cJSON_Duplicate(fact, 1));
}

/* Layers and seconds of all steps, side by side for readers who want one list. */
static void collect(const cJSON *steps, double load_s, cJSON *result)
{
    double calibrate = 0, quantize = 0;
    cJSON *layers = cJSON_AddArrayToObject(result, "layers");
    const cJSON *step, *layer;
    cJSON_ArrayForEach(step, steps)
    {
        int reused = json_bool(step, "reused", 0);
        calibrate += reused ? 0 : json_num(json_get(step, "seconds"), "calibrate", 0);
        quantize += reused ? 0 : json_num(json_get(step, "seconds"), "quantize", 0);
        cJSON_ArrayForEach(layer, json_get(step, "layers"))
            cJSON_AddItemToArray(layers, cJSON_Duplicate(layer, 1));
    }
    cJSON *seconds = cJSON_AddObjectToObject(result, "seconds");
    json_add_num(seconds, "load", load_s);
    json_add_num(seconds, "calibrate", calibrate);
    json_add_num(seconds, "quantize", quantize);
}

sqz_status task_steps(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    double start = clock_s();
    calibrated in = {0};
    const cJSON *spec = json_get(task, "calibration"), *step;
    sqz_status st = job_base(s, err);
    if (!st && spec) st = calibrate(s, spec, &in, err);
    double load_s = clock_s() - start;
    cJSON *records = cJSON_CreateArray();
    cJSON_ArrayForEach(step, json_get(task, "steps"))
    {
        if (st) break;
        cJSON *record = cJSON_CreateObject();
        cJSON_AddItemToArray(records, record);
        st = run_step_of(s, step, spec ? &in.windows : NULL, record, err);
    }
    if (!st) st = summarise(s, task, result, err);
    if (!st) {
        if (spec) describe_calibration(&in, records, result);
        collect(records, load_s, result);
        cJSON_ArrayForEach(step, records)
            cJSON_DeleteItemFromObjectCaseSensitive((cJSON *)step, "layers");
        cJSON_AddItemToObject(result, "steps", records);
    } else {
        cJSON_Delete(records);
    }
    calibrated_free(&in);
    return st;
}
