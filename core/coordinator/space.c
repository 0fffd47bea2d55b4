/* space.c - see space.h. */
#include "coordinator/space.h"
#include "coordinator/spec.h"
#include "io/file.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIMS = 256, MAX_LEVELS = 4096 };

const cJSON *space_param(const agent_info *a, const char *name)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, a->params) if (!strcmp(json_str(row, "name", ""), name)) return row;
    return NULL;
}

static int has_flag(const cJSON *row, const char *flag)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_get(row, "flags")) if (cJSON_IsString(item) &&
                                                         !strcmp(item->valuestring, flag)) return 1;
    return 0;
}

static int is_type(const cJSON *row, const char *type)
{
    return !strcmp(json_str(row, "type", ""), type);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The JSON value of dimension value x. */
static cJSON *json_of(const cJSON *row, double x)
{
    if (is_type(row, "bool")) return cJSON_CreateBool(x != 0);
    if (is_type(row, "choice"))
        return cJSON_Duplicate(cJSON_GetArrayItem(json_get(row, "choices"), (int)x), 1);
    return cJSON_CreateNumber(x);
}

/* The dimension value of a JSON value; 0 when it has none. */
static int double_of(const cJSON *row, const cJSON *v, double *x)
{
    if (is_type(row, "bool") && cJSON_IsBool(v)) {
        *x = cJSON_IsTrue(v);
        return 1;
    }
    if (is_type(row, "choice") && cJSON_IsString(v)) {
        const cJSON *item;
        *x = 0;
        cJSON_ArrayForEach(item, json_get(row, "choices"))
        {
            if (!strcmp(item->valuestring, v->valuestring)) return 1;
            *x += 1;
        }
        return 0;
    }
    *x = cJSON_IsNumber(v) ? v->valuedouble : 0;
    return cJSON_IsNumber(v) && !is_type(row, "bool") && !is_type(row, "choice");
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- building -------------------------------------------------------------------------------- */

typedef struct maker {
    strategy_space *space;
    sqz_error *err;
} maker;

static sqz_status add_dim(maker *m, int step, const agent_info *method, const cJSON *row,
                          sqz_dim dim, double *values)
{
    strategy_space *s = m->space;
    if (s->n_dims == MAX_DIMS)
        return err_set(m->err, ERR_USAGE, "steps: more than %d searched parameters", MAX_DIMS);
    int i = s->n_dims++;
    const char *dot = method ? strrchr(method->id, '.') : NULL;
    s->meaning[i] = (space_dim){
        step, method, row,
        method ? path_format("%s.%s", dot ? dot + 1 : method->id, json_str(row, "name", ""))
               : path_format("step%d.method", step + 1),
        values};
    dim.struct_size = sizeof dim;
    dim.name = s->meaning[i].name;
    dim.values = values;
    s->dims[i] = dim;
    return SQZ_OK;
}

/* The values the configuration lists: [v, ...], each checked as the method would. */
static sqz_status listed_values(maker *m, const agent_info *a, const cJSON *row, const cJSON *list,
                                double **values, int64_t *n)
{
    const char *name = json_str(row, "name", "");
    const cJSON *item;
    int count = cJSON_GetArraySize(list);
    if (count < 1 || count > MAX_LEVELS)
        return err_set(m->err, ERR_USAGE, "steps: search of \"%s\" lists %d values; 1 to %d can be",
                       name, count, MAX_LEVELS);
    double *v = calloc((size_t)count, sizeof *v);
    sqz_status s = v ? SQZ_OK : err_set(m->err, SQZ_E_NOMEM, "out of memory");
    *n = 0;
    cJSON_ArrayForEach(item, list)
    {
        cJSON *with = cJSON_CreateObject(), *resolved = NULL;
        cJSON_AddItemToObject(with, name, cJSON_Duplicate(item, 1));
        if (!s) s = params_resolve(a, with, NULL, &resolved, m->err);
        if (!s && !double_of(row, item, &v[(*n)++]))
            s = err_set(m->err, ERR_USAGE, "steps: \"%s\" cannot be searched", name);
        cJSON_Delete(resolved);
        cJSON_Delete(with);
    }
    if (s) {
        free(v);
        return s;
    }
    qsort(v, (size_t)*n, sizeof *v, compare_doubles);
    int64_t kept = 0;
    for (int64_t i = 0; i < *n; i++)
        if (!kept || v[i] != v[kept - 1]) v[kept++] = v[i];
    *n = kept;
    *values = v;
    return SQZ_OK;
}

/* The dimension of one searched parameter; `how` is true, [values] or {"lo","hi"}. */
static sqz_status param_dim(maker *m, int step, const agent_info *a, const cJSON *row,
                            const cJSON *how, int parent, double parent_value)
{
    const char *name = json_str(row, "name", "");
    sqz_dim d = {.parent = parent, .parent_value = parent_value};
    double *values = NULL;
    sqz_status s;
    d.type = is_type(row, "int")    ? SQZ_INT
             : is_type(row, "real") ? SQZ_REAL
             : is_type(row, "bool") ? SQZ_BOOL
                                    : SQZ_CHOICE;
    if (is_type(row, "text"))
        return err_set(m->err, ERR_USAGE, "%s: \"%s\" is a text and cannot be searched", a->id,
                       name);
    d.flags = has_flag(row, "log") ? SQZ_LOG : 0;
    const cJSON *choices = json_get(row, "choices");
    if (cJSON_IsArray(how)) {
        if ((s = listed_values(m, a, row, how, &values, &d.n_values))) return s;
    } else if (d.type == SQZ_INT && choices) {
        if ((s = listed_values(m, a, row, choices, &values, &d.n_values))) return s;
    }
    if (d.n_values > 0) {
        d.lo = values[0];
        d.hi = values[d.n_values - 1];
    } else if (d.type == SQZ_BOOL || d.type == SQZ_CHOICE) {
        d.lo = 0;
        d.hi = d.type == SQZ_BOOL ? 1 : cJSON_GetArraySize(choices) - 1;
    } else {
        d.lo = json_num(row, "lo", NAN);
        d.hi = json_num(row, "hi", NAN);
    }
    if (cJSON_IsObject(how)) {
        double lo = json_num(how, "lo", d.lo), hi = json_num(how, "hi", d.hi);
        if (d.n_values > 0) {
            int64_t k = 0;
            for (int64_t i = 0; i < d.n_values; i++)
                if (values[i] >= lo && values[i] <= hi) values[k++] = values[i];
            d.n_values = k;
        }
        if (lo < d.lo || hi > d.hi || !(lo <= hi) || (values && d.n_values == 0)) {
            free(values);
            return err_set(m->err, ERR_USAGE,
                           "%s: search of \"%s\" from %g to %g lies outside its range %g to %g",
                           a->id, name, lo, hi, d.lo, d.hi);
        }
        d.lo = values ? values[0] : lo;
        d.hi = values ? values[d.n_values - 1] : hi;
    }
    if (!isfinite(d.lo) || !isfinite(d.hi))
        return err_set(m->err, ERR_USAGE,
                       "%s: \"%s\" has no finite range; give search {\"lo\",\"hi\"}", a->id, name);
    return add_dim(m, step, a, row, d, values);
}

/* Who decides a parameter: NULL = it is not searched. */
static const cJSON *searched_how(const space_step *step, const cJSON *row)
{
    static const cJSON yes = {.type = cJSON_True};
    const char *name = json_str(row, "name", "");
    const cJSON *given = json_get(step->with, name), *how = json_get(step->search, name);
    int is_auto =
        cJSON_IsString(given) && !strcmp(given->valuestring, "auto") && !is_type(row, "text");
    if (how && !cJSON_IsFalse(how)) return how;
    if (how || (given && !is_auto)) return NULL;
    if (is_auto) return &yes;
    return !cJSON_GetArraySize(step->search) && has_flag(row, "search") ? &yes : NULL;
}

/* Every key of with and search must be known to at least one of the step's methods. */
static sqz_status check_keys(maker *m, const config *c, int index, const char *part)
{
    const space_step *step = &m->space->steps[index];
    const cJSON *item, *keys = strcmp(part, "with") ? step->search : step->with;
    cJSON_ArrayForEach(item, keys)
    {
        const char *names[256];
        int n = 0, known = 0;
        for (int i = 0; i < step->n_methods; i++) {
            const cJSON *row;
            known |= space_param(step->methods[i], item->string) != NULL;
            cJSON_ArrayForEach(row, step->methods[i]->params) if (n < 256) names[n++] =
                json_str(row, "name", "");
        }
        if (known) continue;
        const char *near = json_nearest(item->string, names, n);
        char *key = path_format("steps[%d].%s.%s", index, part, item->string);
        char *origin = config_origin(c, key);
        err_set(m->err, ERR_USAGE, "%s: steps[%d].%s: %s has no parameter \"%s\"%s%s%s", origin,
                index, part, step->n_methods == 1 ? step->methods[0]->id : "none of the methods",
                item->string, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        free(origin);
        free(key);
        return ERR_USAGE;
    }
    return SQZ_OK;
}

static sqz_status step_dims(maker *m, const config *c, int index)
{
    space_step *step = &m->space->steps[index];
    sqz_status s = check_keys(m, c, index, "with");
    if (!s) s = check_keys(m, c, index, "search");
    step->method_dim = -1;
    if (!s && step->n_methods > 1) {
        step->method_dim = m->space->n_dims;
        sqz_dim d = {.type = SQZ_CHOICE, .hi = step->n_methods - 1, .parent = -1};
        s = add_dim(m, index, NULL, NULL, d, NULL);
    }
    for (int k = 0; k < step->n_methods && !s; k++) {
        const cJSON *row, *how;
        cJSON_ArrayForEach(row, step->methods[k]->params) if (!s && (how = searched_how(step, row)))
            s = param_dim(m, index, step->methods[k], row, how, step->method_dim, k);
    }
    return s;
}

/* The methods a step may use. */
static sqz_status step_methods(maker *m, const catalogue *cat, const cJSON *spec, const char *use,
                               space_step *step)
{
    const cJSON *ids = spec_value(spec, "methods"), *id;
    const agent_info *a;
    sqz_status s;
    step->methods = calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof *step->methods);
    if (!step->methods) memory_failed("the methods of a step");
    if (strcmp(use, "auto") != 0) {
        if ((s = catalogue_find(cat, "method/1", use, &a, m->err))) return s;
        cJSON_ArrayForEach(id, ids) if (!strcmp(id->valuestring, a->id))
        {
            step->methods[step->n_methods++] = a;
            return SQZ_OK;
        }
        return err_set(m->err, ERR_USAGE, "steps: %s %s", a->id,
                       json_str(spec_value(spec, "methods_left_out"), a->id, "cannot take part"));
    }
    cJSON_ArrayForEach(id, ids)
    {
        if ((s = catalogue_find(cat, "method/1", id->valuestring, &a, m->err))) return s;
        step->methods[step->n_methods++] = a;
    }
    if (!step->n_methods)
        return err_set(
            m->err, ERR_PLUGIN,
            "no compression method can take part; `sqz plugin list` shows what was found");
    return SQZ_OK;
}

sqz_status space_build(const config *c, const catalogue *cat, const cJSON *spec, int n_objectives,
                       strategy_space **out, sqz_error *err)
{
    strategy_space *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, SQZ_E_NOMEM, "out of memory");
    maker m = {s, err};
    const cJSON *list = c->steps, *item;
    s->none = cJSON_Parse("[{\"use\":\"auto\",\"with\":{},\"search\":{},\"rules\":[]}]");
    if (!cJSON_GetArraySize(list)) list = s->none;
    s->steps = calloc((size_t)cJSON_GetArraySize(list), sizeof *s->steps);
    s->dims = calloc(MAX_DIMS, sizeof *s->dims);
    s->meaning = calloc(MAX_DIMS, sizeof *s->meaning);
    sqz_status status = s->steps && s->dims && s->meaning ? SQZ_OK : SQZ_E_NOMEM;
    cJSON_ArrayForEach(item, list)
    {
        if (status) break;
        space_step *step = &s->steps[s->n_steps];
        step->with = json_get(item, "with");
        step->search = json_get(item, "search");
        step->rules = json_get(item, "rules");
        status = step_methods(&m, cat, spec, json_str(item, "use", ""), step);
        s->n_steps++;
        if (!status) status = step_dims(&m, c, s->n_steps - 1);
    }
    if (status) {
        space_free(s);
        return status;
    }
    s->table = (sqz_space){sizeof(sqz_space), sizeof(sqz_dim), s->n_dims,
                           s->dims,           n_objectives,    (uint64_t)c->seed};
    *out = s;
    return SQZ_OK;
}

void space_free(strategy_space *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_dims; i++) {
        free(s->meaning[i].name);
        free(s->meaning[i].values);
    }
    for (int i = 0; i < s->n_steps; i++) free(s->steps[i].methods);
    free(s->meaning);
    free(s->dims);
    free(s->steps);
    cJSON_Delete(s->none);
    free(s);
}

/* ---- points to strategies -------------------------------------------------------------------- */

static sqz_status one_step(const strategy_space *s, int index, const double *x, const char *by,
                           cJSON *steps, sqz_error *err)
{
    const space_step *step = &s->steps[index];
    const agent_info *a = step->methods[step->method_dim < 0 ? 0 : (int)x[step->method_dim]];
    cJSON *with = cJSON_CreateObject(), *origin = cJSON_CreateObject(), *resolved = NULL;
    const cJSON *row;
    cJSON_ArrayForEach(row, a->params)
    {
        const char *name = json_str(row, "name", "");
        const cJSON *given = json_get(step->with, name);
        const char *who = "default";
        for (int i = 0; i < s->n_dims; i++)
            if (s->meaning[i].step == index && s->meaning[i].row == row) {
                cJSON_AddItemToObject(with, name, json_of(row, x[i]));
                who = by;
            }
        if (given && !json_get(with, name)) {
            cJSON_AddItemToObject(with, name, cJSON_Duplicate(given, 1));
            who = "user";
        }
        cJSON_AddStringToObject(origin, name, who);
    }
    sqz_status status = params_resolve(a, with, NULL, &resolved, err);
    cJSON_Delete(with);
    if (status) {
        cJSON_Delete(origin);
        return status;
    }
    cJSON *out = cJSON_CreateObject();
    cJSON_AddStringToObject(out, "use", a->id);
    cJSON_AddItemToObject(out, "with", resolved);
    cJSON_AddItemToObject(out, "origin", origin);
    cJSON_AddItemToObject(out, "rules",
                          step->rules ? cJSON_Duplicate(step->rules, 1) : cJSON_CreateArray());
    cJSON_AddItemToArray(steps, out);
    return SQZ_OK;
}

sqz_status space_steps(const strategy_space *s, const double *x, const char *by, cJSON **steps,
                       sqz_error *err)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < s->n_steps; i++) {
        sqz_status status = one_step(s, i, x, by, list, err);
        if (status) {
            cJSON_Delete(list);
            return status;
        }
    }
    *steps = list;
    return SQZ_OK;
}

char *space_identity(const cJSON *steps)
{
    cJSON *copy = cJSON_Duplicate(steps, 1), *step;
    cJSON_ArrayForEach(step, copy) cJSON_DeleteItemFromObjectCaseSensitive(step, "origin");
    char *text = json_canonical(copy);
    cJSON_Delete(copy);
    return text;
}

static void append(char *label, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void append(char *label, size_t size, const char *fmt, ...)
{
    size_t used = strlen(label);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(label + used, size - used, fmt, ap);
    va_end(ap);
}

/* Bits, group size and symmetry in words; other parameters only where they differ from the default.
 */
static void label_param(char *label, size_t size, const cJSON *row, const cJSON *v)
{
    const char *name = json_str(row, "name", "");
    if (!strcmp(name, "bits") && cJSON_IsNumber(v))
        append(label, size, " %g-bit", v->valuedouble);
    else if (!strcmp(name, "group_size") && cJSON_IsNumber(v))
        append(label, size, v->valuedouble > 0 ? " g%g" : " per row", v->valuedouble);
    else if (!strcmp(name, "symmetric") && cJSON_IsBool(v))
        append(label, size, cJSON_IsTrue(v) ? " sym" : " asym");
    else if (v && !cJSON_Compare(v, json_get(row, "default"), 1)) {
        char *text = cJSON_IsString(v) ? path_format("%s", v->valuestring) : json_text(v, 0);
        append(label, size, " %s=%.40s", name, text);
        free(text);
    }
}

char *space_label(const strategy_space *s, const cJSON *steps)
{
    char label[512] = "";
    const cJSON *step, *row;
    int i = 0;
    cJSON_ArrayForEach(step, steps)
    {
        const char *id = json_str(step, "use", ""), *dot = strrchr(id, '.');
        append(label, sizeof label, "%s%s", i ? " + " : "", dot ? dot + 1 : id);
        for (int k = 0; i < s->n_steps && k < s->steps[i].n_methods; k++)
            if (!strcmp(s->steps[i].methods[k]->id, id))
                cJSON_ArrayForEach(row, s->steps[i].methods[k]->params)
                    label_param(label, sizeof label, row,
                                json_get(json_get(step, "with"), json_str(row, "name", "")));
        if (cJSON_GetArraySize(json_get(step, "rules"))) append(label, sizeof label, " with rules");
        i++;
    }
    return path_format("%s", label);
}

cJSON *space_describe(const strategy_space *s, const agent_info *a)
{
    cJSON *out = cJSON_CreateObject();
    for (int i = 0; i < s->n_dims; i++) {
        const space_dim *m = &s->meaning[i];
        const sqz_dim *d = &s->dims[i];
        const char *name = m->row ? json_str(m->row, "name", "") : "";
        if (m->method != a || json_get(out, name)) continue;
        cJSON *values = cJSON_AddArrayToObject(out, name);
        int64_t n = sqz_dim_levels(d);
        if (n == 0 || n > 64) {
            cJSON_AddItemToArray(values, cJSON_CreateNumber(d->lo));
            cJSON_AddItemToArray(values, cJSON_CreateString("to"));
            cJSON_AddItemToArray(values, cJSON_CreateNumber(d->hi));
            continue;
        }
        for (int64_t k = 0; k < n; k++)
            cJSON_AddItemToArray(values, json_of(m->row, sqz_dim_level(d, k)));
    }
    return out;
}
