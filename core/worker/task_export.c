/* task_export.c - writes the current artifact as a checkpoint folder that other tools load, and
 * proves it.
 *
 * {"task":"export","format","output"}: the format plugin names tensors, layouts and config keys;
 * this file owns the folder: shards, tokenizer files, validation_report.json, the load-back check,
 * and that the folder appears whole or not at all. Load-back: the folder is opened again through
 * its format; codes, scales and zeros of every linear must be bit-equal, every other tensor
 * bit-identical to the source, logits equal at the same compute. */
#include "io/disk.h"
#include "quant/affine.h"
#include "worker/export_source.h"
#include "worker/tasks.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOGIT_TOKENS = 8 };
static const int64_t SHARD_BYTES = 5000000000; /* the hub's customary limit */

typedef struct declared {
    char *name;
    int32_t dtype, rank;
    int64_t shape[8], bytes;
    int shard;
} declared;

typedef struct sink {
    job_state *job;
    subject *subject;
    source_list source;
    int64_t held;    /* linear whose form is borrowed, or -1 */
    void *made;      /* elements of what was handed out last, when they had to be made */
    const char *dir; /* NULL: only count */
    declared *tensors;
    int64_t n, room, bytes;
    st_writer **shards;
    int n_shards;
    sqz_error error;
    const sqz_host *host; /* of the format agent, for fail() */
} sink;

static sqz_status sink_fail(sink *k, sqz_status st)
{
    return st ? host_fail(k->host, st, k->error.text) : SQZ_OK;
}

/* What was handed out last is not needed any more. */
static void sink_return(sink *k)
{
    free(k->made);
    k->made = NULL;
    checkpoint_drop(k->subject->checkpoint);
}

/* ---- what the format reads
 * ------------------------------------------------------------------------------ */

static sqz_status ex_tensor(const sqz_export *e, int64_t i, sqz_tensor_view *out)
{
    sink *k = e->impl;
    if (i < 0 || i >= k->source.n)
        return k->host->fail(k->host, SQZ_E_INVALID, "tensor index out of range");
    sink_return(k);
    source_view(&k->source, i, out);
    if (out->data) return SQZ_OK;
    out->data = tensor_bytes(k->source.tensors[i].tensor, &k->made, &k->error);
    return out->data ? SQZ_OK : sink_fail(k, SQZ_E_NOMEM);
}

static sqz_status ex_linear(const sqz_export *e, int64_t i, const char **module, sqz_weight *w)
{
    sink *k = e->impl;
    const source_list *l = &k->source;
    if (i < 0 || i >= l->n_linears)
        return k->host->fail(k->host, SQZ_E_INVALID, "linear index out of range");
    if (k->held >= 0 && k->held != i) subject_linear_done(k->subject, l->linears[k->held].module);
    k->held = i;
    sink_return(k);
    const linear_spec *spec = &l->linears[i];
    *module = spec->module;
    int form = subject_linear(k->subject, spec->module, w, &k->error);
    if (form < 0) return sink_fail(k, form);
    if (form == 1) return SQZ_OK;
    return sink_fail(k, subject_dense(k->subject, spec, w, &k->made, &k->error));
}

/* ---- what the format writes
 * ------------------------------------------------------------------------------- */

static sqz_status ex_declare(const sqz_export *e, const sqz_tensor_view *v)
{
    sink *k = e->impl;
    int64_t bytes = st_dtype_bits(v->dtype);
    if (v->rank < 0 || v->rank > ST_MAX_RANK || bytes == 0)
        return k->host->fail(k->host, SQZ_E_INVALID,
                             "a declared tensor has an impossible rank or dtype");
    for (int i = 0; i < v->rank; i++)
        if (v->shape[i] < 0 || __builtin_mul_overflow(bytes, v->shape[i], &bytes))
            return k->host->fail(k->host, SQZ_E_INVALID, "a declared tensor is too large");
    if (k->n == k->room) {
        int64_t room = k->room ? 2 * k->room : 256;
        declared *grown = realloc(k->tensors, (size_t)room * sizeof *grown);
        if (!grown) return k->host->fail(k->host, SQZ_E_NOMEM, "no memory for the list of tensors");
        k->tensors = grown;
        k->room = room;
    }
    declared *d = &k->tensors[k->n++];
    *d = (declared){
        .name = path_format("%s", v->name), .dtype = v->dtype, .rank = v->rank, .bytes = bytes / 8};
    memcpy(d->shape, v->shape, sizeof d->shape);
    k->bytes += d->bytes;
    return SQZ_OK;
}

static char *shard_name(int i, int n)
{
    return n == 1 ? path_format("model.safetensors")
                  : path_format("model-%05d-of-%05d.safetensors", i + 1, n);
}

/* Everything is declared: spread it over shards, open them. */
static sqz_status open_shards(sink *k)
{
    int64_t filled = 0;
    int n_shards = 1;
    for (int64_t i = 0; i < k->n; i++) {
        if (filled > 0 && filled + k->tensors[i].bytes > SHARD_BYTES) n_shards++, filled = 0;
        filled += k->tensors[i].bytes;
        k->tensors[i].shard = n_shards - 1;
    }
    k->shards = calloc((size_t)n_shards, sizeof(st_writer *));
    if (!k->shards) return err_set(&k->error, SQZ_E_NOMEM, "no memory for the list of shards");
    k->n_shards = n_shards;
    sqz_status st = SQZ_OK;
    for (int s = 0; s < k->n_shards && !st; s++) {
        char *name = shard_name(s, k->n_shards), *path = path_format("%s/%s", k->dir, name);
        st = st_writer_new(path, &k->shards[s], &k->error);
        if (!st) st_writer_sync_later(k->shards[s]);
        free(name);
        free(path);
    }
    for (int64_t i = 0; i < k->n && !st; i++) {
        const declared *d = &k->tensors[i];
        st =
            st_writer_declare(k->shards[d->shard], d->name, d->dtype, d->rank, d->shape, &k->error);
    }
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const declared *)a)->name, ((const declared *)b)->name);
}

static sqz_status ex_write(const sqz_export *e, const char *name, const void *data, int64_t bytes)
{
    sink *k = e->impl;
    if (!k->dir) return SQZ_E_CANCELLED; /* only counting: the declarations were all we wanted */
    if (!k->shards) {
        sqz_status st = open_shards(k);
        if (st) return sink_fail(k, st);
        qsort(k->tensors, (size_t)k->n, sizeof *k->tensors, by_name);
    }
    declared wanted = {.name = (char *)name};
    const declared *d = bsearch(&wanted, k->tensors, (size_t)k->n, sizeof *k->tensors, by_name);
    if (!d)
        return k->host->fail(k->host, SQZ_E_INVALID, "a tensor was written that was not declared");
    if (d->bytes != bytes)
        return k->host->fail(k->host, SQZ_E_INVALID,
                             "a tensor was written with another size than declared");
    return sink_fail(k, st_writer_write(k->shards[d->shard], name, data, bytes, &k->error));
}

static sqz_status write_text(const char *dir, const char *file, const char *text, sqz_error *err)
{
    if (strchr(file, '/') || file[0] == '.')
        return err_set(err, SQZ_E_INVALID, "\"%s\" is no plain file name", file);
    char *path = path_format("%s/%s", dir, file);
    sqz_status st = file_put(path, text, (int64_t)strlen(text), err);
    free(path);
    return st;
}

static sqz_status ex_text(const sqz_export *e, const char *file, const char *text)
{
    sink *k = e->impl;
    return k->dir ? sink_fail(k, write_text(k->dir, file, text, &k->error)) : SQZ_OK;
}

/* Also after a failure the sink is there to be closed. */
static sqz_status sink_open(sink *k, job_state *s, subject *subj, const char *dir, sqz_export *e,
                            sqz_error *err)
{
    *k = (sink){.job = s, .subject = subj, .dir = dir, .held = -1};
    sqz_status st = source_list_open(subj, &k->source, err);
    if (st) return st;
    *e = (sqz_export){.struct_size = sizeof *e,
                      .impl = k,
                      .config_json = subj->checkpoint->config_text,
                      .n_tensors = k->source.n,
                      .n_linears = k->source.n_linears,
                      .tensor = ex_tensor,
                      .linear = ex_linear,
                      .declare = ex_declare,
                      .write = ex_write,
                      .text = ex_text};
    return SQZ_OK;
}

/* Finishes the shards (or throws them away) and frees everything. */
static sqz_status sink_close(sink *k, sqz_status st, sqz_error *err)
{
    if (k->held >= 0) subject_linear_done(k->subject, k->source.linears[k->held].module);
    cJSON *index = cJSON_CreateObject();
    json_add_num(cJSON_AddObjectToObject(index, "metadata"), "total_size", (double)k->bytes);
    cJSON *map = cJSON_AddObjectToObject(index, "weight_map");
    for (int s = 0; s < k->n_shards; s++) {
        if (!k->shards[s]) continue;
        if (st)
            st_writer_abort(k->shards[s]);
        else
            st = st_writer_finish(k->shards[s], err);
    }
    for (int64_t i = 0; i < k->n; i++) {
        char *name = shard_name(k->tensors[i].shard, k->n_shards);
        cJSON_AddStringToObject(map, k->tensors[i].name, name);
        free(name);
        free(k->tensors[i].name);
    }
    if (!st && k->n_shards > 1) {
        char *text = json_text(index, 1);
        st = write_text(k->dir, "model.safetensors.index.json", text, err);
        free(text);
    }
    cJSON_Delete(index);
    sink_return(k);
    free(k->tensors);
    free(k->shards);
    source_list_close(&k->source);
    return st;
}

/* ---- choosing the format
 * -------------------------------------------------------------------------------------- */

typedef struct chosen {
    agent *agent;
    const sqz_format *format;
} chosen;

/* The format asked for, or (only NULL) the first whose check passes; the last refusal is the error.
 */
static sqz_status choose_format(job_state *s, subject *subj, const agent_info *only, chosen *out,
                                sqz_error *err)
{
    sqz_status st =
        err_set(err, SQZ_E_UNSUPPORTED, "no format plugin that writes checkpoints is installed");
    for (int i = 0; i < catalogue_count(s->catalogue); i++) {
        const agent_info *info = only ? only : catalogue_at(s->catalogue, i);
        if (info->shadowed || strcmp(info->kind, "format/1") != 0) continue;
        agent *a;
        st = agent_open(s->host, info, &a, err);
        if (st) return st;
        const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
        if (f && f->check && f->export_model) {
            sink k;
            sqz_export e;
            st = sink_open(&k, s, subj, NULL, &e, err);
            k.host = agent_host(a);
            if (!st && (st = f->check(agent_host(a), agent_self(a), &e))) agent_error(a, st, err);
            sink_close(&k, SQZ_E_CANCELLED, NULL);
            if (!st) {
                *out = (chosen){a, f};
                return SQZ_OK;
            }
        }
        agent_close(a);
        if (only) break;
    }
    return st;
}

/* The format for the current artifact, and what it would write, into s->plan: found once, because
 * every linear is looked at for it. */
static sqz_status plan_export(job_state *s, subject *subj, const char *name, sqz_error *err)
{
    export_plan *p = &s->plan;
    const agent_info *only = NULL;
    sqz_status st = name ? catalogue_find(s->catalogue, "format/1", name, &only, err) : SQZ_OK;
    if (st || (p->format && p->only == only && strcmp(p->artifact, s->artifact) == 0)) return st;
    chosen c = {0};
    sink k;
    sqz_export e;
    p->format = NULL;
    st = choose_format(s, subj, only, &c, err);
    if (st) return st;
    st = sink_open(&k, s, subj, NULL, &e, err);
    k.host = agent_host(c.agent);
    if (!st) c.format->export_model(agent_host(c.agent), agent_self(c.agent), &e);
    *p = (export_plan){.only = only, .format = agent_describe(c.agent), .bytes = k.bytes};
    memcpy(p->artifact, s->artifact, sizeof p->artifact);
    if (st) p->format = NULL;
    sink_close(&k, SQZ_E_CANCELLED, NULL);
    agent_close(c.agent);
    return st;
}

sqz_status export_fits(job_state *s, subject *subj, const char *format, int64_t *bytes,
                       sqz_error *err)
{
    sqz_status st = plan_export(s, subj, format, err);
    *bytes = st ? 0 : s->plan.bytes;
    return st;
}

/* ---- load-back
 * ----------------------------------------------------------------------------------------------------
 */

static int same_affine(const sqz_affine *a, const sqz_affine *b)
{
    size_t groups = (size_t)(a->rows * affine_groups(a->cols, a->group_size));
    return a->bits == b->bits && a->rows == b->rows && a->cols == b->cols &&
           a->group_size == b->group_size &&
           memcmp(a->codes, b->codes, (size_t)(a->rows * affine_row_bytes(a->bits, a->cols))) ==
               0 &&
           memcmp(a->scales, b->scales, groups * sizeof *a->scales) == 0 &&
           memcmp(a->zeros, b->zeros, groups) == 0;
}

/* Two models side by side: what was evaluated, and what was written. */
typedef struct load_back_run {
    subject *ours, *theirs;
    source_list source;
    uint8_t *same; /* [source.n_linears] linears whose form was compared */
    int64_t at;    /* linear looked for last */
    int64_t linears, tensors;
    sqz_status status;
    sqz_error error; /* of a comparison while the model loads */
} load_back_run;

/* A linear as it is read back (see weight_overlay), after its form was compared with ours. */
static int compare_form(load_back_run *r, int64_t i, sqz_weight *b, sqz_error *err)
{
    const char *module = r->source.linears[i].module;
    sqz_weight a;
    int fa = subject_linear(r->ours, module, &a, err);
    int fb = fa < 0 ? fa : subject_linear(r->theirs, module, b, err);
    int same = fa == fb && (fa != 1 || same_affine(a.affine, b->affine));
    if (fa == 1) subject_linear_done(r->ours, module);
    if (fa >= 0 && fb >= 0 && !same)
        err_set(err, ERR_STORAGE, "load-back: %s differs from what was evaluated", module);
    if (fa >= 0 && fb == 1 && !same) subject_linear_done(r->theirs, module);
    if (fa < 0 || fb < 0) return fa < 0 ? fa : fb;
    if (!same) return ERR_STORAGE;
    r->linears += fa == 1 && !r->same[i];
    r->same[i] = 1;
    return fb;
}

/* Models read their linears in order, so the search goes on from the last one. */
static int compared_linear(void *impl, const char *module, sqz_weight *out, sqz_error *err)
{
    load_back_run *r = impl;
    for (int64_t n = 0; n < r->source.n_linears; n++) {
        r->at = r->at + 1 < r->source.n_linears ? r->at + 1 : 0;
        if (strcmp(r->source.linears[r->at].module, module)) continue;
        int form = compare_form(r, r->at, out, &r->error);
        if (form < 0) r->status = form;
        if (form < 0 && err) *err = r->error;
        return form;
    }
    return subject_linear(r->theirs, module, out, err);
}

static void compared_linear_done(void *impl, const char *module)
{
    subject_linear_done(((load_back_run *)impl)->theirs, module);
}

/* Those that the model did not load: experts that no token was sent to. */
static sqz_status compare_forms(load_back_run *r, sqz_error *err)
{
    for (int64_t i = 0; i < r->source.n_linears; i++) {
        sqz_weight b;
        int form = r->same[i] ? 0 : compare_form(r, i, &b, err);
        if (form < 0) return form;
        if (form == 1) subject_linear_done(r->theirs, r->source.linears[i].module);
    }
    return SQZ_OK;
}

enum { COMPARE_BYTES = 8 << 20 };

/* In parts, so that no more than a part of each mapping is resident at a time. */
static int same_bytes(const uint8_t *a, const uint8_t *b, int64_t bytes)
{
    int same = 1;
    for (int64_t at = 0; at < bytes && same; at += COMPARE_BYTES) {
        int64_t n = bytes - at < COMPARE_BYTES ? bytes - at : COMPARE_BYTES;
        same = memcmp(a + at, b + at, (size_t)n) == 0;
        file_map_drop(b + at, n);
    }
    return same;
}

/* a: of the source (whole: its tensor, where the elements must be made), b: of the export. */
static sqz_status same_tensor(const sqz_tensor_view *a, const st_tensor *whole, const st_tensor *b,
                              int *same, sqz_error *err)
{
    *same = b && b->dtype == a->dtype && b->bytes == a->bytes;
    if (!*same) return SQZ_OK;
    for (int64_t at = 0; a->data && at < a->bytes && *same; at += COMPARE_BYTES) {
        int64_t n = a->bytes - at < COMPARE_BYTES ? a->bytes - at : COMPARE_BYTES;
        const uint8_t *part = (const uint8_t *)a->data + at;
        *same = same_bytes(part, b->data + at, n);
        file_map_drop(part, n);
    }
    if (a->data) return SQZ_OK;
    void *made;
    const void *bytes = tensor_bytes(whole, &made, err);
    if (!bytes) return SQZ_E_NOMEM;
    *same = same_bytes(bytes, b->data, a->bytes);
    free(made);
    return SQZ_OK;
}

/* Every tensor of the source that is not a converted linear must be there, bit for bit. */
static sqz_status compare_dense(load_back_run *r, sqz_error *err)
{
    const source_list *source = &r->source;
    subject *ours = r->ours, *theirs = r->theirs;
    for (int64_t i = 0; i < source->n; i++) {
        sqz_tensor_view a;
        source_view(source, i, &a);
        const st_tensor *b = checkpoint_find(theirs->checkpoint, a.name);
        sqz_weight w;
        char *module = path_format("%s", a.name), *dot = strrchr(module, '.');
        int converted = 0, same;
        if (dot && strcmp(dot, ".weight") == 0) {
            *dot = 0;
            converted = subject_linear(ours, module, &w, err);
            if (converted == 1) subject_linear_done(ours, module);
        }
        free(module);
        if (converted < 0) return converted;
        if (converted) continue;
        sqz_status st = same_tensor(&a, source->tensors[i].tensor, b, &same, err);
        checkpoint_drop(ours->checkpoint);
        checkpoint_drop(theirs->checkpoint);
        if (st) return st;
        if (!same)
            return err_set(err, ERR_STORAGE, "load-back: %s is not bit-identical to the source",
                           a.name);
        r->tensors++;
    }
    return SQZ_OK;
}

/* Logits of a few tokens by the model as it is, or (r given) as it is read back. */
static sqz_status some_logits(subject *s, load_back_run *r, const int32_t *ids, int64_t tokens,
                              float *logits, sqz_error *err)
{
    model *m;
    if (!r) {
        sqz_status st = subject_model(s, &m, err);
        return st ? st : model_logits(m, ids, 1, tokens, logits, NULL, err);
    }
    weight_overlay overlay = {r, compared_linear, compared_linear_done};
    model_options o = {.device = s->options.backend->device,
                       .compute = s->compute,
                       .overlay = &overlay,
                       .batch_tokens = s->options.batch_tokens};
    sqz_status st = model_open(s->checkpoint, &o, &m, err);
    if (st) return st;
    st = model_logits(m, ids, 1, tokens, logits, NULL, err);
    model_close(m);
    if (r->status && err) *err = r->error;
    return r->status ? r->status : st;
}

static sqz_status compare_logits(load_back_run *r, double *worst, sqz_error *err)
{
    const model_config *c = &r->ours->config;
    int64_t vocab = c->vocab, tokens = c->context < LOGIT_TOKENS ? c->context : LOGIT_TOKENS;
    float *logits = malloc((size_t)(2 * tokens * vocab) * sizeof *logits);
    int32_t ids[LOGIT_TOKENS];
    if (!logits)
        return err_set(err, SQZ_E_NOMEM, "no memory for the logits of the load-back check");
    for (int64_t i = 0; i < tokens; i++) ids[i] = (int32_t)((7919 * (i + 1)) % vocab);
    sqz_status st = some_logits(r->ours, NULL, ids, tokens, logits, err);
    if (!st) st = some_logits(r->theirs, r, ids, tokens, logits + tokens * vocab, err);
    *worst = 0;
    for (int64_t i = 0; i < tokens * vocab && !st; i++)
        *worst = fmax(*worst, fabs((double)logits[i] - (double)logits[tokens * vocab + i]));
    free(logits);
    if (!st && !(*worst == 0))
        st = err_set(err, ERR_STORAGE,
                     "load-back: logits differ by up to %g from the evaluated model's", *worst);
    return st;
}

static sqz_status load_back(job_state *s, const char *dir, cJSON *report, sqz_error *err)
{
    load_back_run r = {.at = -1};
    double worst = 0;
    sqz_status st = job_subject(s, 1, 0, &r.ours, err);
    if (st) return st;
    subject_options o = r.ours->options;
    o.model = dir;
    o.artifact = NULL;
    o.compute = r.ours->compute == SQZ_BF16 ? "bf16" : "fp32";
    st = subject_open(&o, &r.theirs, err);
    if (st) {
        subject_close(r.ours);
        err_prefix(err, "load-back");
        return st;
    }
    st = source_list_open(r.ours, &r.source, err);
    if (!st) r.same = calloc((size_t)r.source.n_linears + 1, 1);
    if (!st && !r.same) st = err_set(err, SQZ_E_NOMEM, "no memory for the load-back check");
    if (!st) st = compare_dense(&r, err);
    if (!st) st = compare_logits(&r, &worst, err);
    if (!st) st = compare_forms(&r, err);
    source_list_close(&r.source);
    free(r.same);
    json_add_num(report, "linears_bit_equal", (double)r.linears);
    json_add_num(report, "tensors_bit_identical", (double)r.tensors);
    json_add_num(report, "max_logit_difference", worst);
    cJSON_AddStringToObject(report, "compute", o.compute);
    subject_close(r.ours);
    subject_close(r.theirs);
    return st;
}

/* ---- the folder
 * ------------------------------------------------------------------------------------------------------
 */

static const char *const copied[] = {"tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "tokenizer.model",
                                     "generation_config.json",
                                     "chat_template.jinja",
                                     "chat_template.json",
                                     NULL};

static sqz_status copy_files(const char *from, const char *to, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    for (int i = 0; copied[i] && !st; i++) {
        char *dst = path_format("%s/%s", to, copied[i]), *data;
        int64_t bytes;
        st = checkpoint_text(from, copied[i], 256 << 20, &data, &bytes, err);
        if (!st && data) st = file_put(dst, data, bytes, err);
        free(data);
        free(dst);
    }
    return st;
}

/* quantization_config.json: the object that the format put into config.json, on its own. */
static sqz_status write_quantization_config(const char *dir, sqz_error *err)
{
    char *path = path_format("%s/config.json", dir);
    json_doc *doc;
    sqz_status st = json_read(path, 16 << 20, 0, &doc, err);
    free(path);
    if (st) return st;
    const cJSON *q = json_get(json_root(doc), "quantization_config");
    char *text = q ? json_text(q, 1) : NULL;
    if (text) st = write_text(dir, "quantization_config.json", text, err);
    free(text);
    json_free(doc);
    return st;
}

static sqz_status write_folder(job_state *s, const char *format, const char *dir, cJSON *result,
                               sqz_error *err)
{
    subject *subj;
    agent *a;
    sqz_status st = job_subject(s, 1, 0, &subj, err);
    if (st) return st;
    st = plan_export(s, subj, format, err);
    if (!st)
        st = disk_check("the exported checkpoint", (double)s->plan.bytes, dir,
                        "free some, or name an --output on another disk", err);
    if (!st) st = agent_open(s->host, s->plan.format, &a, err);
    if (st) {
        subject_close(subj);
        return st;
    }
    const sqz_format *writer = agent_extension(a, SQZ_FORMAT_1);
    sink k;
    sqz_export e;
    st = sink_open(&k, s, subj, dir, &e, err);
    k.host = agent_host(a);
    if (!st && (st = writer->export_model(agent_host(a), agent_self(a), &e)))
        st = agent_error(a, st, err);
    else if (!st && !k.shards)
        st = err_set(err, SQZ_E_INTERNAL, "%s wrote no tensor", agent_describe(a)->id);
    json_add_num(result, "bytes", (double)k.bytes);
    cJSON_AddStringToObject(result, "format", agent_describe(a)->id);
    st = sink_close(&k, st, err);
    agent_close(a);
    if (!st) st = copy_files(job_model(s), dir, err);
    if (!st) st = write_quantization_config(dir, err);
    subject_close(subj);
    return st;
}

static sqz_status write_validation(job_state *s, const char *dir, const cJSON *report,
                                   sqz_error *err)
{
    cJSON *v = cJSON_CreateObject();
    cJSON_AddStringToObject(v, "schema", "sqz.validation/1");
    cJSON_AddStringToObject(v, "sqz", SQZ_VERSION);
    cJSON_AddStringToObject(v, "artifact", s->artifact);
    cJSON_AddStringToObject(v, "base", s->base);
    cJSON_AddItemToObject(v, "load_back", cJSON_Duplicate(report, 1));
    char *text = json_text(v, 1);
    sqz_status st = write_text(dir, "validation_report.json", text, err);
    free(text);
    cJSON_Delete(v);
    return st;
}

/* An existing output is replaced only when an earlier export made it (or it is empty). */
static sqz_status check_output(const char *output, sqz_error *err)
{
    char *mark = path_format("%s/validation_report.json", output);
    int ours = path_exists(mark), empty = 1;
    free(mark);
    DIR *d = opendir(output);
    for (struct dirent *e; d && (e = readdir(d));)
        empty = empty && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."));
    if (d) closedir(d);
    if ((path_exists(output) && !path_is_dir(output)) || (!ours && !empty))
        return err_set(err, ERR_USAGE,
                       "%s exists and is not an export of sqz; choose another --output", output);
    return SQZ_OK;
}

sqz_status task_export(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    double start = clock_s();
    const char *output = json_str(task, "output", "");
    if (!output[0]) return err_set(err, ERR_USAGE, "export: no output folder was given");
    if (!s->artifact[0])
        return err_set(err, ERR_USAGE, "export: there is no compressed model to write");
    if (job_tick(s, 0, "writing the checkpoint")) return err_set(err, SQZ_E_CANCELLED, "cancelled");
    sqz_status st = check_output(output, err);
    if (!st) st = job_base(s, err);
    if (st) return st;
    char *tmp = path_format("%s.tmp.%d", output, (int)getpid());
    dir_remove(tmp, NULL);
    st = dir_make(tmp, err);
    if (!st) st = write_folder(s, json_str(task, "format", NULL), tmp, result, err);
    cJSON *report = cJSON_CreateObject();
    if (!st && job_tick(s, 0.7, "load-back check")) st = err_set(err, SQZ_E_CANCELLED, "cancelled");
    if (!st) st = load_back(s, tmp, report, err);
    if (!st) st = write_validation(s, tmp, report, err);
    cJSON_AddItemToObject(result, "load_back", report);
    if (!st) st = dir_sync(tmp, err);
    if (!st) st = dir_remove(output, err);
    if (!st && rename(tmp, output))
        st = err_set(err, ERR_STORAGE, "%s: cannot be moved into place: %m", output);
    if (!st) st = file_sync_parent(output, err);
    if (st) dir_remove(tmp, NULL);
    free(tmp);
    cJSON_AddStringToObject(result, "path", output);
    json_add_num(result, "seconds", clock_s() - start);
    return st;
}
