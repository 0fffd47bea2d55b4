/* subject.c - see subject.h. */
#include "worker/subject.h"
#include "quant/affine.h"
#include "quant/gguf_affine.h"
#include "reference/reference.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- hardware
 * ------------------------------------------------------------------------------------ */

sqz_status backend_open(const catalogue *cat, host *host, backend *out, sqz_error *err)
{
    const agent_info *info = catalogue_best(cat, "hardware/1");
    if (!info)
        return err_set(
            err, ERR_PLUGIN,
            "no hardware backend plugin was found; `sqz plugin list` shows the search path");
    memset(out, 0, sizeof *out);
    sqz_status st = agent_open(host, info, &out->agent, err);
    if (st) return st;
    const sqz_hardware *table = agent_extension(out->agent, SQZ_HARDWARE_1);
    if (!table) {
        agent_close(out->agent);
        return err_set(err, ERR_PLUGIN, "%s: the agent %s offers no %s table", info->file, info->id,
                       SQZ_HARDWARE_1);
    }
    hardware_complete(table, &out->table);
    out->device = (device){&out->table, agent_self(out->agent)};
    out->info.struct_size = sizeof out->info;
    st = out->table.describe(out->device.dev, &out->info);
    if (st) {
        agent_error(out->agent, st, err);
        agent_close(out->agent);
        return st;
    }
    host_set_device(host, out->device);
    return SQZ_OK;
}

void backend_close(backend *b)
{
    if (b->agent) agent_close(b->agent);
    memset(b, 0, sizeof *b);
}

void backend_compute_class(const backend *b, int32_t compute, char out[96])
{
    const char *dot = strrchr(agent_describe(b->agent)->id, '.');
    snprintf(out, 96, "%s/%s/%s/t%d", dot ? dot + 1 : agent_describe(b->agent)->id, b->info.isa,
             compute == SQZ_BF16 ? "bf16" : "fp32", b->info.threads);
}

/* ---- forms: where the linears that are not dense come from
 * ---------------------------------------- */

/* An object of the registry, mapped: it holds the linears of a block, so neighbours share it. */
typedef struct held_object {
    char digest[DIGEST_TEXT];
    st_file *file;
    int users;
} held_object;

typedef struct held_form { /* of one module */
    char *module;
    char *object;            /* digest, for artifacts */
    const st_tensor *packed; /* in its GGUF file, for GGUF */
    held_object *in;         /* the mapped object, for artifacts */
    sqz_affine affine;       /* in the object, or owned (formats) */
    int loaded;
} held_form;

typedef struct forms {
    held_form *held;
    int64_t n, last;    /* last: the one that was found last */
    registry *registry; /* artifact */
    held_object **open; /* [n_open] objects in use, and the last one that was */
    int n_open;
    agent *agent; /* format */
    const sqz_format *format;
    sqz_import import; /* impl = the checkpoint */
} forms;

static sqz_status import_tensor(const sqz_import *im, const char *name, sqz_tensor_view *out)
{
    const st_tensor *t = checkpoint_find(im->impl, name);
    if (!t || t->source) return SQZ_E_UNSUPPORTED;
    *out = (sqz_tensor_view){.struct_size = sizeof *out,
                             .dtype = t->dtype,
                             .name = t->name,
                             .rank = t->rank,
                             .data = t->data,
                             .bytes = t->bytes};
    memcpy(out->shape, t->shape, sizeof out->shape);
    return SQZ_OK;
}

/* Unmaps what nobody uses. */
static void close_idle_objects(forms *f)
{
    int kept = 0;
    for (int i = 0; i < f->n_open; i++) {
        if (f->open[i]->users) {
            f->open[kept++] = f->open[i];
            continue;
        }
        st_close(f->open[i]->file);
        free(f->open[i]);
    }
    f->n_open = kept;
}

static sqz_status open_object(forms *f, const held_form *h, held_object **out, sqz_error *err)
{
    for (int i = 0; i < f->n_open; i++)
        if (strcmp(f->open[i]->digest, h->object) == 0) {
            *out = f->open[i];
            return SQZ_OK;
        }
    close_idle_objects(f);
    char *path = object_path(f->registry, h->object);
    if (!path)
        return err_set(
            err, ERR_STORAGE,
            "%s: object %s is missing from the registry %s; `sqz registry verify` names the damage",
            h->module, h->object, registry_dir(f->registry));
    held_object **grown = realloc(f->open, (size_t)(f->n_open + 1) * sizeof *grown);
    held_object *o = calloc(1, sizeof *o);
    sqz_status st = object_checked(f->registry, h->object, err);
    if (grown) f->open = grown;
    if (!st && (!grown || !o))
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory to open object %s", h->module, h->object);
    if (!st) st = st_open(path, &o->file, err);
    free(path);
    if (st) {
        free(o);
        return st;
    }
    snprintf(o->digest, sizeof o->digest, "%s", h->object);
    f->open[f->n_open++] = o;
    *out = o;
    return SQZ_OK;
}

static sqz_status load_object(forms *f, held_form *h, sqz_error *err)
{
    held_object *o = NULL;
    sqz_status st = open_object(f, h, &o, err);
    if (st) return st;
    st = affine_load(o->file, h->module, &h->affine, err);
    if (st) {
        err_prefix(err, "%s", h->module);
        return st;
    }
    o->users++;
    h->in = o;
    return SQZ_OK;
}

static sqz_status allocate_affine(sqz_affine *a, sqz_error *err)
{
    int64_t rows = a->rows, groups;
    if (rows <= 0 || a->cols <= 0 || rows > 1 << 24 || a->cols > 1 << 24 || a->group_size <= 0 ||
        a->bits < 1 || a->bits > 8)
        return err_set(err, ERR_MODEL, "a quantized linear has an impossible shape");
    groups = affine_groups(a->cols, a->group_size);
    a->codes = calloc((size_t)rows, (size_t)affine_row_bytes(a->bits, a->cols));
    a->scales = calloc((size_t)(rows * groups), sizeof *a->scales);
    a->zeros = calloc((size_t)(rows * groups), 1);
    if (a->codes && a->scales && a->zeros) return SQZ_OK;
    affine_free(a);
    return err_set(err, SQZ_E_NOMEM, "no memory for a quantized linear of %lld x %lld",
                   (long long)rows, (long long)a->cols);
}

static sqz_status load_packed(held_form *h, sqz_error *err)
{
    sqz_status st = gguf_affine(h->packed, &h->affine, err);
    if (st) err_prefix(err, "%s", h->module);
    return st;
}

/* 1 loaded, 0 dense in this folder. */
static int import_form(forms *f, held_form *h, sqz_error *err)
{
    void *self = agent_self(f->agent);
    const sqz_host *host = agent_host(f->agent);
    sqz_affine a = {.struct_size = sizeof a};
    sqz_status st = f->format->import_linear(host, self, &f->import, h->module, &a);
    if (st == SQZ_E_UNSUPPORTED) return 0;
    if (!st) {
        if ((st = allocate_affine(&a, err))) return st;
        st = f->format->import_linear(host, self, &f->import, h->module, &a);
    }
    if (st) {
        agent_error(f->agent, st, err);
        if (err) err->code = ERR_MODEL;
        affine_free(&a);
        return ERR_MODEL;
    }
    if ((st = affine_check(&a, err))) {
        err_prefix(err, "%s", h->module);
        affine_free(&a);
        return st;
    }
    h->affine = a;
    return 1;
}

/* What was read is a copy now: the file's pages are not needed any more. */
static int load_format(forms *f, held_form *h, sqz_error *err)
{
    int got = import_form(f, h, err);
    checkpoint_drop(f->import.impl);
    return got;
}

/* Linears are asked for in their order: the search begins where the last one ended, which for the
 * thousands of a model with experts matters. */
static held_form *find_held(forms *f, const char *module)
{
    for (int64_t k = 0; k < f->n; k++) {
        int64_t i = (f->last + k) % f->n;
        if (strcmp(f->held[i].module, module) != 0) continue;
        f->last = i;
        return &f->held[i];
    }
    return NULL;
}

static int forms_linear(void *impl, const char *module, sqz_weight *out, sqz_error *err)
{
    forms *f = impl;
    held_form *h = find_held(f, module);
    if (!h) return 0;
    if (!h->loaded) {
        int got = 1;
        sqz_status st = SQZ_OK;
        if (h->object)
            st = load_object(f, h, err);
        else if (h->packed)
            st = load_packed(h, err);
        else
            got = load_format(f, h, err);
        if (st) return st;
        if (got <= 0) return got;
        h->loaded = 1;
    }
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .form = SQZ_FORM_INT_AFFINE,
                        .rows = h->affine.rows,
                        .cols = h->affine.cols,
                        .affine = &h->affine};
    return 1;
}

static void forms_done(void *impl, const char *module)
{
    held_form *h = find_held(impl, module);
    if (!h || !h->loaded) return;
    if (h->in) {
        if (--h->in->users == 0) file_map_drop(h->in->file->map.data, h->in->file->map.bytes);
        h->in = NULL;
    } else {
        affine_free(&h->affine);
    }
    h->loaded = 0;
}

static void forms_free(forms *f)
{
    if (!f) return;
    /* forms_done looks names up, so all of them go first. */
    for (int64_t i = 0; i < f->n; i++) forms_done(f, f->held[i].module);
    for (int64_t i = 0; i < f->n; i++) {
        free(f->held[i].module);
        free(f->held[i].object);
    }
    free(f->held);
    close_idle_objects(f);
    free(f->open);
    if (f->agent) agent_close(f->agent);
    free(f);
}

static sqz_status forms_none(sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "no memory for the list of quantized linears");
}

static sqz_status forms_add(forms *f, const char *module, const char *object, sqz_error *err)
{
    held_form *grown = realloc(f->held, (size_t)(f->n + 1) * sizeof *grown);
    if (!grown) return forms_none(err);
    f->held = grown;
    f->held[f->n++] = (held_form){.module = path_format("%s", module),
                                  .object = object ? path_format("%s", object) : NULL};
    return SQZ_OK;
}

static sqz_status forms_of_artifact(subject *s, sqz_error *err)
{
    char digest[DIGEST_TEXT];
    registry *reg = s->options.registry;
    if (!reg) return err_set(err, SQZ_E_INTERNAL, "an artifact needs an open registry");
    sqz_status st = SQZ_OK;
    if (digest_valid(s->options.artifact))
        snprintf(digest, sizeof digest, "%s", s->options.artifact);
    else
        st = artifact_resolve(reg, s->options.artifact, digest, err);
    cJSON *manifest = st ? NULL : artifact_manifest(reg, digest, err);
    if (!manifest) return st ? st : err->code == SQZ_E_NOMEM ? SQZ_E_NOMEM : ERR_STORAGE;
    s->forms = calloc(1, sizeof *s->forms);
    if (!s->forms) {
        cJSON_Delete(manifest);
        return forms_none(err);
    }
    s->forms->registry = reg;
    const cJSON *t;
    cJSON_ArrayForEach(t, json_get(manifest, "tensors"))
    {
        const char *object = json_str(t, "object", "");
        if (strcmp(json_str(t, "form", ""), SQZ_FORM_INT_AFFINE) != 0 || !digest_valid(object)) {
            st = err_set(err, ERR_STORAGE,
                         "artifact %s: %s has the form \"%s\", which this version cannot run",
                         digest, t->string, json_str(t, "form", ""));
            break;
        }
        if ((st = forms_add(s->forms, t->string, object, err))) break;
    }
    cJSON_Delete(manifest);
    return st;
}

/* The linears of a GGUF file whose packed type is a grid that the hardware multiplies with; the
 * others are dense tensors that are decoded when a block is loaded. */
static sqz_status forms_of_gguf(subject *s, sqz_error *err)
{
    s->forms = calloc(1, sizeof *s->forms);
    if (!s->forms) return forms_none(err);
    for (int64_t l = 0; l < s->config.layers; l++)
        for (int64_t k = 0, n = model_linear_count(&s->config, l); k < n; k++) {
            linear_spec spec;
            model_linear(&s->config, l, k, &spec);
            const st_tensor *t = checkpoint_find(s->checkpoint, spec.tensor);
            if (!t || !gguf_is_affine(t)) continue;
            sqz_status st = forms_add(s->forms, spec.module, NULL, err);
            if (st) return st;
            s->forms->held[s->forms->n - 1].packed = t;
        }
    return SQZ_OK;
}

/* A folder with quantization_config: find the format plugin that reads it. */
static sqz_status forms_of_format(subject *s, sqz_error *err)
{
    const catalogue *cat = s->options.catalogue;
    for (int i = 0; i < catalogue_count(cat); i++) {
        const agent_info *info = catalogue_at(cat, i);
        if (info->shadowed || strcmp(info->kind, "format/1") != 0) continue;
        agent *a;
        sqz_status st = agent_open(s->options.host, info, &a, err);
        if (st) return st;
        const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
        if (!f || !f->probe || !f->import_linear || !f->probe(s->checkpoint->config_text)) {
            agent_close(a);
            continue;
        }
        s->forms = calloc(1, sizeof *s->forms);
        if (!s->forms) {
            agent_close(a);
            return forms_none(err);
        }
        s->forms->agent = a;
        s->forms->format = f;
        s->forms->import = (sqz_import){sizeof(sqz_import), 0, s->checkpoint,
                                        s->checkpoint->config_text, import_tensor};
        for (int64_t l = 0; l < s->config.layers && !st; l++)
            for (int64_t k = 0, n = model_linear_count(&s->config, l); k < n && !st; k++) {
                linear_spec spec;
                model_linear(&s->config, l, k, &spec);
                st = forms_add(s->forms, spec.module, NULL, err);
            }
        return st;
    }
    return err_set(err, ERR_MODEL,
                   "%s: quantized with \"%s\", which no installed format plugin reads; `sqz plugin "
                   "list` shows the formats",
                   s->options.model, s->config.quant_method);
}

/* ---- the subject
 * --------------------------------------------------------------------------------- */

sqz_status subject_check_path(const char *model, sqz_error *err)
{
    if (path_exists(model)) return checkpoint_check_path(model, err);
    return err_set(err, ERR_MODEL,
                   "%s: no such folder; give a model folder with config.json and safetensors, a "
                   ".gguf file, or "
                   "a name of the hub (owner/name) to a command that takes one",
                   model);
}

sqz_status subject_compute(const char *word, const backend *b, const model_config *c, int32_t *out,
                           sqz_error *err)
{
    if (!word || strcmp(word, "auto") == 0)
        *out = b->info.fast_bf16 && c->dtype != SQZ_F32 ? SQZ_BF16 : SQZ_F32;
    else if (strcmp(word, "fp32") == 0)
        *out = SQZ_F32;
    else if (strcmp(word, "bf16") == 0)
        *out = SQZ_BF16;
    else
        return err_set(err, ERR_USAGE, "compute \"%s\" is unknown; use fp32, bf16 or auto", word);
    return SQZ_OK;
}

static sqz_status parse_config(subject *s, sqz_error *err)
{
    const char *model = s->options.model;
    char *name = path_format(path_is_dir(model) ? "%s/config.json" : "%s", model);
    sqz_status st = model_config_parse(s->checkpoint->config_text, name, &s->config, err);
    free(name);
    return st;
}

sqz_status subject_open(const subject_options *o, subject **out, sqz_error *err)
{
    sqz_status st = subject_check_path(o->model, err);
    if (st) return st;
    subject *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, SQZ_E_NOMEM, "no memory to open %s", o->model);
    s->options = *o;
    st = checkpoint_open(o->model, &s->checkpoint, err);
    if (!st) st = parse_config(s, err);
    if (!st) model_config_bind(&s->config, s->checkpoint);
    if (!st) st = subject_compute(o->compute, o->backend, &s->config, &s->compute, err);
    if (!st && o->artifact)
        st = forms_of_artifact(s, err);
    else if (!st && s->config.quant_method[0])
        st = forms_of_format(s, err);
    else if (!st && s->checkpoint->gguf)
        st = forms_of_gguf(s, err);
    if (st) {
        subject_close(s);
        return st;
    }
    s->overlay = (weight_overlay){s->forms, forms_linear, forms_done};
    *out = s;
    return SQZ_OK;
}

void subject_close(subject *s)
{
    if (!s) return;
    if (s->model) model_close(s->model);
    if (s->tokenizer) tokenizer_free(s->tokenizer);
    forms_free(s->forms);
    model_config_free(&s->config);
    if (s->checkpoint) checkpoint_close(s->checkpoint);
    free(s);
}

/* Bytes of the model's weights in the form that they are computed with. */
static double weights_in_memory(const subject *s)
{
    double bytes = 0;
    for (int64_t i = 0; i < s->checkpoint->n_tensors; i++) {
        const st_tensor *t = s->checkpoint->tensors[i];
        if (gguf_is_affine(t))
            bytes += (double)tensor_file_bytes(t);
        else
            bytes += (double)t->bytes / (t->dtype == SQZ_F32 && s->compute == SQZ_BF16 ? 2 : 1);
    }
    return bytes;
}

/* A quarter of the limit is left for activations, caches and what else the process holds.  What
 * does not fit is read from its file again, block by block, in every pass. */
static int may_hold(const subject *s)
{
    double limit = (double)s->options.memory_limit;
    if (limit <= 0) limit = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return weights_in_memory(s) <= 0.75 * limit;
}

sqz_status subject_model(subject *s, model **out, sqz_error *err)
{
    if (!s->model) {
        model_options o = {.device = s->options.backend->device,
                           .compute = s->compute,
                           .overlay = s->forms ? &s->overlay : NULL,
                           .batch_tokens = s->options.batch_tokens,
                           .resident = s->options.resident && may_hold(s)};
        sqz_status st = model_open(s->checkpoint, &o, &s->model, err);
        if (st) return st;
    }
    *out = s->model;
    return SQZ_OK;
}

sqz_status subject_tokenizer(subject *s, tokenizer **out, sqz_error *err)
{
    if (!s->tokenizer) {
        sqz_status st = tokenizer_open(s->options.model, &s->tokenizer, err);
        if (st) return st;
    }
    *out = s->tokenizer;
    return SQZ_OK;
}

int subject_linear(subject *s, const char *module, sqz_weight *out, sqz_error *err)
{
    return s->forms ? forms_linear(s->forms, module, out, err) : 0;
}

void subject_linear_done(subject *s, const char *module)
{
    if (s->forms) forms_done(s->forms, module);
}

sqz_status subject_dense(const subject *s, const linear_spec *spec, sqz_weight *out, void **owned,
                         sqz_error *err)
{
    return model_dense(&s->config, s->checkpoint, spec, out, owned, err);
}
