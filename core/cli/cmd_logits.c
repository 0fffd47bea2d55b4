/* cmd_logits.c - sqz logits: the raw output of a model for given ids, for comparisons with other
 * programs.  One row of the batch at a time, so that memory beyond the result stays small. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "checkpoint/safetensors.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"input-ids", CLI_TEXT, "FILE", NULL, 0, 0,
     "safetensors with `input_ids`, int64 or int32, [B, T] or [T]"},
    {"output", CLI_TEXT, "FILE", NULL, 0, 0,
     "safetensors to write: `logits` float32 [B, T, vocabulary]"},
    {"hidden", CLI_FLAG, NULL, NULL, 0, 0,
     "also `hidden.0` ... `hidden.L` [B, T, H]: the embedding, each block's output, the last one "
     "after the final norm"},
    COMPUTE_OPTION("fp32"),
    MEMORY_OPTION,
};

typedef struct batch {
    int32_t *ids; /* [b, t] */
    int64_t b, t;
    float *logits; /* [b, t, v] */
    float *hidden; /* [l + 1, b, t, h] */
    int64_t v, h, l;
} batch;

static sqz_status read_ids(const char *path, int64_t vocab, batch *out, sqz_error *err)
{
    st_file *f;
    if (!path_exists(path))
        return err_set(err, ERR_MODEL, "--input-ids: %s: there is no such file", path);
    sqz_status s = st_open(path, &f, err);
    if (s) return s;
    const st_tensor *t = st_find(f, "input_ids");
    int64_t n = 1;
    if (!t || (t->dtype != SQZ_I64 && t->dtype != SQZ_I32) || t->rank < 1 || t->rank > 2) {
        s = err_set(err, ERR_MODEL, "%s: wants a tensor input_ids, int64 or int32, [B, T] or [T]",
                    path);
    } else {
        out->t = t->shape[t->rank - 1];
        out->b = t->rank == 2 ? t->shape[0] : 1;
        n = out->b * out->t;
        out->ids = n > 0 ? malloc((size_t)n * sizeof *out->ids) : NULL;
        if (n <= 0)
            s = err_set(err, ERR_MODEL, "%s: input_ids is empty", path);
        else if (!out->ids)
            s = err_set(err, SQZ_E_NOMEM, "no memory for the ids");
    }
    for (int64_t i = 0; i < n && !s; i++) {
        int64_t id = 0;
        int32_t narrow;
        if (t->dtype == SQZ_I64)
            memcpy(&id, t->data + 8 * i, 8);
        else
            memcpy(&narrow, t->data + 4 * i, 4), id = narrow;
        if (id < 0 || id >= vocab)
            s = err_set(err, ERR_MODEL, "%s: id %lld at %lld is outside the vocabulary of %lld",
                        path, (long long)id, (long long)i, (long long)vocab);
        else
            out->ids[i] = (int32_t)id;
    }
    st_close(f);
    return s;
}

static sqz_status allocate(batch *o, int hidden, sqz_error *err)
{
    int64_t n, n_hidden = 0;
    if (__builtin_mul_overflow(o->b * o->t, o->v, &n) ||
        __builtin_mul_overflow(o->b * o->t * (o->l + 1), o->h, &n_hidden) || n > INT64_MAX / 8 ||
        n_hidden > INT64_MAX / 8)
        return err_set(err, SQZ_E_NOMEM, "the result is too large");
    o->logits = malloc((size_t)n * sizeof(float));
    o->hidden = hidden ? malloc((size_t)n_hidden * sizeof(float)) : NULL;
    if (!o->logits || (hidden && !o->hidden))
        return err_set(err, SQZ_E_NOMEM, "no memory for %lld x %lld x %lld logits; give fewer ids",
                       (long long)o->b, (long long)o->t, (long long)o->v);
    return SQZ_OK;
}

static sqz_status compute(model *m, batch *o, sqz_error *err)
{
    int64_t row = o->t * o->h;
    float *one = o->hidden ? malloc((size_t)(row * (o->l + 1)) * sizeof(float)) : NULL;
    if (o->hidden && !one) return err_set(err, SQZ_E_NOMEM, "no memory for the hidden states");
    sqz_status s = SQZ_OK;
    for (int64_t b = 0; b < o->b && !s; b++) {
        s = model_logits(m, o->ids + b * o->t, 1, o->t, o->logits + b * o->t * o->v, one, err);
        for (int64_t l = 0; one && !s && l <= o->l; l++)
            memcpy(o->hidden + (l * o->b + b) * row, one + l * row, (size_t)row * sizeof(float));
        progress_update((double)(b + 1) / (double)o->b, "rows");
        if (!s && signals_count()) s = err_set(err, SQZ_E_CANCELLED, "interrupted");
    }
    free(one);
    return s;
}

static sqz_status write_out(const char *path, const batch *o, sqz_error *err)
{
    st_writer *w;
    char name[32];
    int64_t shape[3] = {o->b, o->t, o->v}, hidden_shape[3] = {o->b, o->t, o->h};
    int64_t layers = o->hidden ? o->l + 1 : 0, one = o->b * o->t * o->h;
    sqz_status s = st_writer_new(path, &w, err);
    if (s) return s;
    s = st_writer_declare(w, "logits", SQZ_F32, 3, shape, err);
    for (int64_t l = 0; l < layers && !s; l++) {
        snprintf(name, sizeof name, "hidden.%lld", (long long)l);
        s = st_writer_declare(w, name, SQZ_F32, 3, hidden_shape, err);
    }
    if (!s) s = st_writer_write(w, "logits", o->logits, o->b * o->t * o->v * 4, err);
    for (int64_t l = 0; l < layers && !s; l++) {
        snprintf(name, sizeof name, "hidden.%lld", (long long)l);
        s = st_writer_write(w, name, o->hidden + l * one, one * 4, err);
    }
    if (!s) return st_writer_finish(w, err);
    st_writer_abort(w);
    return s;
}

static void describe(cli *c, const batch *o, const char *path, int32_t how)
{
    cJSON *shape = cJSON_AddArrayToObject(c->json, "logits");
    const int64_t dims[] = {o->b, o->t, o->v};
    for (int i = 0; i < 3; i++) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)dims[i]));
    if (o->hidden) {
        cJSON *hidden = cJSON_AddObjectToObject(c->json, "hidden");
        cJSON_AddNumberToObject(hidden, "count", (double)(o->l + 1));
        cJSON *hs = cJSON_AddArrayToObject(hidden, "shape");
        const int64_t hd[] = {o->b, o->t, o->h};
        for (int i = 0; i < 3; i++) cJSON_AddItemToArray(hs, cJSON_CreateNumber((double)hd[i]));
    }
    cJSON_AddStringToObject(c->json, "output", path);
    cJSON_AddStringToObject(c->json, "compute", compute_word(how));
    cli_say(c, "%s: logits [%lld, %lld, %lld]%s\n", path, (long long)o->b, (long long)o->t,
            (long long)o->v, o->hidden ? " and hidden states" : "");
}

static sqz_status run(cli *c, sqz_error *err)
{
    const char *in = cli_text(c, "input-ids"), *out = cli_text(c, "output");
    if (!in || !out) return err_set(err, ERR_USAGE, "--input-ids and --output are needed");
    in_process p;
    sqz_status s = in_process_open(c, c->args[0], 1, &p, err);
    if (s) return s;
    const model_config *m = &p.subject->config;
    batch o = {.v = m->vocab, .h = m->hidden, .l = m->layers};
    progress_begin("logits");
    s = read_ids(in, m->vocab, &o, err);
    if (!s) s = allocate(&o, cli_flag(c, "hidden"), err);
    if (!s) s = compute(p.model, &o, err);
    if (!s) s = write_out(out, &o, err);
    progress_end();
    if (!s) describe(c, &o, out, p.subject->compute);
    free(o.ids);
    free(o.logits);
    free(o.hidden);
    in_process_close(&p);
    return s;
}

const command cmd_logits = {
    .name = "logits",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "raw logits (and hidden states) for given ids",
    .examples = "  sqz logits examples/tiny-arith/model --input-ids ids.safetensors --output "
                "logits.safetensors\n"
                "  sqz logits MODEL --input-ids ids.safetensors --output out.safetensors --hidden "
                "--compute bf16\n",
    OPTIONS(options),
    .run = run};
