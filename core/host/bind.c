/* bind.c - see bind.h.
 *
 * The cif depends only on the table's types, so it is prepared once per opened agent.  Results are
 * read from an ffi_arg: libffi widens small integers to a register (libffi#35), and an int32_t
 * result would be written beyond its end. */
#include "host/bind.h"
#include "host/describe.h"
#include <ffi.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAD = 3 }; /* host, self, subject */

typedef union cell {
    int64_t i;
    double d;
    int32_t b;
    const char *s;
} cell;

struct binding {
    const sqz_call *call;
    ffi_cif cif;
    ffi_type *types[LEAD + CALL_MAX_PARAMS];
};

static ffi_type *type_of(int32_t type)
{
    switch (type) {
    case SQZ_INT: return &ffi_type_sint64;
    case SQZ_REAL: return &ffi_type_double;
    case SQZ_BOOL:
    case SQZ_CHOICE: return &ffi_type_sint32;
    case SQZ_TEXT: return &ffi_type_pointer;
    default: return NULL;
    }
}

sqz_status binding_new(const sqz_call *call, binding **out, sqz_error *err)
{
    if (call->n_params > CALL_MAX_PARAMS)
        return err_set(err, ERR_PLUGIN, "%u parameters; at most %d can be bound", call->n_params,
                       CALL_MAX_PARAMS);
    binding *b = calloc(1, sizeof *b);
    if (!b) return err_set(err, SQZ_E_NOMEM, "no memory to bind a call");
    b->call = call;
    for (int i = 0; i < LEAD; i++) b->types[i] = &ffi_type_pointer;
    int known = 1;
    for (uint32_t i = 0; i < call->n_params; i++)
        known &= (b->types[LEAD + i] = type_of(call_param(call, i)->type)) != NULL;
    if (!known || ffi_prep_cif(&b->cif, FFI_DEFAULT_ABI, LEAD + call->n_params, &ffi_type_sint32,
                               b->types) != FFI_OK) {
        free(b);
        return err_set(err, ERR_PLUGIN, "libffi cannot bind the function's parameter types");
    }
    *out = b;
    return SQZ_OK;
}

void binding_free(binding *b)
{
    free(b);
}

/* The position of a string in "a|b|c", or -1. */
static int32_t index_in(const char *choices, const char *value)
{
    size_t bytes = strlen(value);
    for (int32_t index = 0; choices; index++) {
        size_t n = strcspn(choices, "|");
        if (n == bytes && !memcmp(choices, value, n)) return index;
        choices = choices[n] ? choices + n + 1 : NULL;
    }
    return -1;
}

static int read_cell(const sqz_param *p, const cJSON *value, cell *out)
{
    switch (p->type) {
    case SQZ_INT:
        if (!cJSON_IsNumber(value) || !(fabs(value->valuedouble) <= 9007199254740992.0)) return 0;
        out->i = (int64_t)value->valuedouble;
        return 1;
    case SQZ_REAL:
        if (!cJSON_IsNumber(value)) return 0;
        out->d = value->valuedouble;
        return 1;
    case SQZ_BOOL:
        if (!cJSON_IsBool(value)) return 0;
        out->b = cJSON_IsTrue(value) != 0;
        return 1;
    case SQZ_CHOICE:
        if (!cJSON_IsString(value)) return 0;
        out->b = index_in(p->choices, value->valuestring);
        return out->b >= 0;
    case SQZ_TEXT:
        if (!cJSON_IsString(value)) return 0;
        out->s = value->valuestring;
        return 1;
    default: return 0;
    }
}

sqz_status binding_call(binding *b, const sqz_host *host, void *self, void *subject,
                        const cJSON *resolved, sqz_status *returned, sqz_error *err)
{
    cell cells[CALL_MAX_PARAMS];
    void *values[LEAD + CALL_MAX_PARAMS] = {&host, &self, &subject};
    ffi_arg result = 0;
    for (uint32_t i = 0; i < b->call->n_params; i++) {
        const sqz_param *p = call_param(b->call, i);
        if (!read_cell(p, json_get(resolved, p->name), &cells[i]))
            return err_set(err, SQZ_E_INTERNAL, "parameter \"%s\" was not resolved", p->name);
        values[LEAD + i] = &cells[i];
    }
    ffi_call(&b->cif, b->call->fn, &result, values);
    *returned = (sqz_status)(int32_t)result;
    return SQZ_OK;
}
