/* answers.c - see answers.h. */
#include "task/answers.h"
#include "json/json.h"
#include "task/regex.h"
#include "task/template.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_FILTERS = 16, MAX_FUNCTIONS = 16 };

typedef struct function {
    regex *expression; /* or NULL: steps */
    int64_t select;    /* which match; from the end when negative */
    char *fallback;
    text_steps *steps;
} function;

typedef struct filter {
    char *name;
    function chain[MAX_FUNCTIONS];
    int n;
} filter;

struct answers {
    filter filters[MAX_FILTERS];
    int n;
    text_steps *clean; /* of both sides, or NULL */
};

void answers_free(answers *a)
{
    if (!a) return;
    for (int i = 0; i < a->n; i++) {
        for (int k = 0; k < a->filters[i].n; k++) {
            regex_free(a->filters[i].chain[k].expression);
            free(a->filters[i].chain[k].fallback);
            text_steps_free(a->filters[i].chain[k].steps);
        }
        free(a->filters[i].name);
    }
    text_steps_free(a->clean);
    free(a);
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static void add_step(cJSON *list, const char *name, const char *a, const char *b)
{
    cJSON *step = cJSON_CreateArray();
    cJSON_AddItemToArray(step, cJSON_CreateString(name));
    if (a) cJSON_AddItemToArray(step, cJSON_CreateString(a));
    if (b) cJSON_AddItemToArray(step, cJSON_CreateString(b));
    cJSON_AddItemToArray(list, step);
}

static sqz_status one_step(const char *name, const char *where, text_steps **out, sqz_error *err)
{
    cJSON *list = cJSON_CreateArray();
    add_step(list, name, NULL, NULL);
    sqz_status st = text_steps_new(list, NULL, where, out, err);
    cJSON_Delete(list);
    return st;
}

static sqz_status read_function(filter *f, const cJSON *json, const char *where, sqz_error *err)
{
    const char *name = json_str(json, "function", "");
    if (!strcmp(name, "take_first")) return SQZ_OK; /* there is one response */
    if (f->n == MAX_FUNCTIONS)
        return err_set(err, ERR_USAGE, "%s: more than %d functions in a filter", where,
                       MAX_FUNCTIONS);
    function *u = &f->chain[f->n++];
    if (!strcmp(name, "remove_whitespace")) return one_step("trim", where, &u->steps, err);
    if (!strcmp(name, "lowercase")) return one_step("lower", where, &u->steps, err);
    if (!strcmp(name, "uppercase")) return one_step("upper", where, &u->steps, err);
    if (strcmp(name, "regex"))
        return err_set(err, ERR_USAGE,
                       "%s: filter function \"%.60s\" is not built; use regex, remove_whitespace, "
                       "lowercase, uppercase or take_first",
                       where, name);
    u->select = json_int(json, "group_select", 0);
    u->fallback = strdup(json_str(json, "fallback", "[invalid]"));
    if (!u->fallback) return err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    return regex_new(json_str(json, "regex_pattern", "#### (\\-?[0-9\\.\\,]+)"), where,
                     &u->expression, err);
}

static sqz_status read_filter(answers *a, const cJSON *json, const char *where, sqz_error *err)
{
    const cJSON *item, *name = json_get(json, "name"), *chain = json_get(json, "filter");
    if (!cJSON_IsString(name) || !cJSON_IsArray(chain))
        return err_set(err, ERR_USAGE, "%s: a filter has a \"name\" and a list \"filter\"", where);
    if (a->n == MAX_FILTERS)
        return err_set(err, ERR_USAGE, "%s: more than %d filters", where, MAX_FILTERS);
    filter *f = &a->filters[a->n++];
    f->name = strdup(name->valuestring);
    sqz_status st = f->name ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    cJSON_ArrayForEach(item, chain) if (!st) st = read_function(f, item, where, err);
    return st;
}

/* exact_match's options as steps, in the order it applies them. */
static sqz_status read_clean_up(answers *a, const cJSON *metric, const char *where, sqz_error *err)
{
    cJSON *steps = cJSON_CreateArray();
    const cJSON *item, *ignore = json_get(metric, "regexes_to_ignore");
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, ignore)
    {
        if (cJSON_IsString(item))
            add_step(steps, "regex", item->valuestring, "");
        else
            st = err_set(err, ERR_USAGE, "%s: regexes_to_ignore is a list of strings", where);
    }
    if (json_bool(metric, "ignore_case", 0)) add_step(steps, "lower", NULL, NULL);
    if (json_bool(metric, "ignore_punctuation", 0))
        add_step(steps, "regex", "[!-/:-@\\[-`{-~]", "");
    if (json_bool(metric, "ignore_numbers", 0)) add_step(steps, "regex", "[0-9]", "");
    if (!st && cJSON_GetArraySize(steps)) st = text_steps_new(steps, NULL, where, &a->clean, err);
    cJSON_Delete(steps);
    return st;
}

sqz_status answers_new(const cJSON *filters, const cJSON *metric, const char *where, answers **out,
                       sqz_error *err)
{
    const cJSON *item;
    answers *a = calloc(1, sizeof *a);
    sqz_status st = a ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    cJSON_ArrayForEach(item, filters) if (!st) st = read_filter(a, item, where, err);
    if (!st && !a->n) {
        a->filters[a->n++].name = strdup("none");
        if (!a->filters[0].name) st = err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    }
    if (!st && metric) st = read_clean_up(a, metric, where, err);
    if (st)
        answers_free(a);
    else
        *out = a;
    return st;
}

/* ---- judging ------------------------------------------------------------------------------------
 */

int64_t answers_filters(const answers *a)
{
    return a->n;
}

const char *answers_name(const answers *a, int64_t filter)
{
    return filter >= 0 && filter < a->n ? a->filters[filter].name : NULL;
}

/* The selected match as re.findall gives it: the whole, the one group, or of several groups the
 * first that is not empty.  0: there is none. */
static sqz_status select_match(function *f, const text_buffer *t, span *out, int *found,
                               sqz_error *err)
{
    int64_t count = 0, wanted = f->select;
    *found = 0;
    for (int pass = f->select < 0 ? 0 : 1; pass < 2; pass++) {
        regex_walk w = {.text = t->at ? t->at : "", .n = t->n};
        for (int64_t i = 0;; i++) {
            int more;
            sqz_status st = regex_next(f->expression, &w, &more, err);
            if (st) return st;
            if (!more) break;
            count += pass == 0;
            if (pass == 0 || i != wanted) continue;
            int groups = regex_groups(f->expression);
            *out = regex_group(f->expression, groups > 0);
            for (int g = 2; g <= groups && !out->n; g++) *out = regex_group(f->expression, g);
            *found = groups < 2 || out->n > 0;
            return SQZ_OK;
        }
        if (pass == 0) wanted += count;
    }
    return SQZ_OK;
}

static sqz_status apply(function *f, text_steps *trim, text_buffer *t, sqz_error *err)
{
    if (!f->expression) return text_steps_run(f->steps, t, err);
    span hit = {0, 0};
    int found;
    sqz_status st = select_match(f, t, &hit, &found, err);
    if (st) return st;
    if (!found) {
        t->n = 0;
        text_add(t, f->fallback, (int64_t)strlen(f->fallback));
        return SQZ_OK;
    }
    if (hit.n) memmove(t->at, t->at + hit.at, (size_t)hit.n);
    t->n = hit.n;
    return text_steps_run(trim, t, err);
}

sqz_status answers_judge(answers *a, int64_t filter, const char *response, const char *target,
                         text_buffer *extracted, int *same, sqz_error *err)
{
    text_steps *trim = NULL;
    text_buffer left = {0}, right = {0};
    if (filter < 0 || filter >= a->n)
        return err_set(err, SQZ_E_INVALID, "answers: there is no filter %lld", (long long)filter);
    sqz_status st = one_step("trim", "answers", &trim, err);
    extracted->n = 0;
    text_add(extracted, response, (int64_t)strlen(response));
    for (int k = 0; k < a->filters[filter].n && !st; k++)
        st = apply(&a->filters[filter].chain[k], trim, extracted, err);
    text_add(&left, extracted->at, extracted->n);
    text_add(&right, target, (int64_t)strlen(target));
    if (!st) st = text_steps_run(a->clean, &left, err);
    if (!st) st = text_steps_run(a->clean, &right, err);
    if (!st && (extracted->failed || left.failed || right.failed))
        st = err_set(err, SQZ_E_NOMEM, "answers: no memory");
    *same = !st && left.n == right.n && (!left.n || !memcmp(left.at, right.at, (size_t)left.n));
    text_free(&left);
    text_free(&right);
    text_steps_free(trim);
    return st;
}
