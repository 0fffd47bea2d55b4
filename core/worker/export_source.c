/* export_source.c - see export_source.h. */
#include "worker/export_source.h"
#include <stdlib.h>
#include <string.h>

static sqz_status no_memory(sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "no memory for the list of tensors");
}

static sqz_status add(source_list *l, const char *name, const st_tensor *t, int64_t linear,
                      sqz_error *err)
{
    source_tensor *grown = realloc(l->tensors, (size_t)(l->n + 1) * sizeof *grown);
    if (!grown) return no_memory(err);
    l->tensors = grown;
    l->tensors[l->n] = (source_tensor){strdup(name), t, linear};
    return l->tensors[l->n].name ? (l->n++, SQZ_OK) : no_memory(err);
}

static sqz_status list_linears(const model_config *c, source_list *out, sqz_error *err)
{
    int64_t n = 0, at = 0;
    for (int64_t l = 0; l < c->layers; l++) n += model_linear_count(c, l);
    out->linears = calloc((size_t)n, sizeof *out->linears);
    if (!out->linears) return no_memory(err);
    out->n_linears = n;
    for (int64_t l = 0; l < c->layers; l++)
        for (int64_t i = 0, own = model_linear_count(c, l); i < own; i++)
            model_linear(c, l, i, &out->linears[at++]);
    return SQZ_OK;
}

static int shared(const source_list *l, const char *name)
{
    for (int64_t i = 0; i < l->n_linears; i++)
        if (l->linears[i].tensor_rows && strcmp(l->linears[i].tensor, name) == 0) return 1;
    return 0;
}

sqz_status source_list_open(const subject *s, source_list *out, sqz_error *err)
{
    const checkpoint *ck = s->checkpoint;
    char name[256];
    *out = (source_list){0};
    sqz_status st = list_linears(&s->config, out, err);
    for (int64_t i = 0; i < ck->n_tensors && !st; i++) {
        const st_tensor *t = ck->tensors[i];
        if (s->config.fused_experts && shared(out, t->name)) continue;
        int renamed = model_tensor_name(&s->config, t->name, name, sizeof name);
        st = add(out, renamed ? name : t->name, t, -1, err);
    }
    for (int64_t i = 0; i < out->n_linears && s->config.fused_experts && !st; i++) {
        const linear_spec *spec = &out->linears[i];
        const st_tensor *t = spec->tensor_rows ? checkpoint_find(ck, spec->tensor) : NULL;
        if (!t) continue;
        snprintf(name, sizeof name, "%s.weight", spec->module);
        st = add(out, name, t, i, err);
    }
    return st;
}

void source_list_close(source_list *l)
{
    for (int64_t i = 0; i < l->n; i++) free(l->tensors[i].name);
    free(l->tensors);
    free(l->linears);
    *l = (source_list){0};
}

void source_view(const source_list *l, int64_t i, sqz_tensor_view *out)
{
    const source_tensor *s = &l->tensors[i];
    const st_tensor *t = s->tensor;
    *out = (sqz_tensor_view){.struct_size = sizeof *out,
                             .dtype = t->dtype,
                             .name = s->name,
                             .rank = t->rank,
                             .data = t->data,
                             .bytes = t->bytes};
    memcpy(out->shape, t->shape, sizeof out->shape);
    if (s->linear < 0) return;
    const linear_spec *spec = &l->linears[s->linear];
    int64_t row = spec->cols * st_dtype_bits(t->dtype) / 8;
    memset(out->shape, 0, sizeof out->shape);
    out->rank = 2;
    out->shape[0] = spec->rows;
    out->shape[1] = spec->cols;
    out->data = (const uint8_t *)t->data + spec->first_row * row;
    out->bytes = spec->rows * row;
}
