/* methods.c - arguments, methods of dictionaries and lists, and the functions of the environment.
 */
#include "jinja/builtin.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- arguments ------------------------------------------------------------------------------- */

static int named_argument(const arguments *a, const char *name)
{
    for (int i = 0; name && i < a->n_named; i++)
        if (!strcmp(a->names[a->n + i], name)) return a->n + i;
    return -1;
}

value argument(const arguments *a, int index, const char *name, value fallback)
{
    if (index < a->n) return a->at[index];
    int named = named_argument(a, name);
    return named >= 0 ? a->at[named] : fallback;
}

int has_argument(const arguments *a, int index, const char *name)
{
    return index < a->n || named_argument(a, name) >= 0;
}

/* Number of the words in `names`, and whether `name` is one of them. */
static int count_words(const char *names, const char *name, int *found)
{
    int n = 0;
    *found = 0;
    while (*names) {
        size_t length = strcspn(names, " ");
        if (name && strlen(name) == length && !memcmp(names, name, length)) *found = 1;
        n++;
        names += length;
        names += *names == ' ';
    }
    return n;
}

int arguments_check(run *r, const char *what, const arguments *a, int least, const char *names)
{
    int found, most = count_words(names ? names : "", NULL, &found);
    if (a->n + a->n_named < least)
        render_fail(r, ERR_MODEL, "%s: %d arguments, at least %d are needed", what,
                    a->n + a->n_named, least);
    if (names && a->n > most)
        render_fail(r, ERR_MODEL, "%s: %d arguments, at most %d are taken", what, a->n, most);
    for (int i = 0; i < a->n_named && !r->failed; i++) {
        count_words(names ? names : "", a->names[a->n + i], &found);
        if (!found) render_fail(r, ERR_MODEL, "%s: takes no argument %s", what, a->names[a->n + i]);
    }
    return !r->failed;
}

int64_t argument_int(run *r, const char *what, value v)
{
    if (v.type == V_INT || v.type == V_BOOL) return v.i;
    render_fail(r, ERR_MODEL, "%s must be an integer, not %s", what, value_word(v));
    return 0;
}

value argument_str(run *r, const char *what, value v)
{
    if (v.type != V_STR)
        return render_fail(r, ERR_MODEL, "%s needs a string, not %s", what, value_word(v));
    return v;
}

/* ---- methods --------------------------------------------------------------------------------- */

enum { D_GET, D_KEYS, D_VALUES, D_ITEMS, D_COPY, L_INDEX, L_COUNT, L_COPY };

static int same(const char *word, const char *name, int64_t n)
{
    return strlen(word) == (size_t)n && !memcmp(word, name, (size_t)n);
}

static int method_index(run *r, value self, const char *name, int64_t n)
{
    static const char *const of_dict[] = {"get", "keys", "values", "items", "copy"};
    static const char *const of_list[] = {"index", "count", "copy"};
    static const char *const of_number[] = {
        "real",       "imag",      "numerator",       "denominator", "conjugate",
        "bit_length", "bit_count", "to_bytes",        "from_bytes",  "is_integer",
        "hex",        "fromhex",   "as_integer_ratio"};
    static const char *const changing[] = {"clear",  "pop",     "popitem", "setdefault",
                                           "update", "append",  "extend",  "insert",
                                           "remove", "reverse", "sort"};
    size_t from = self.type == V_DICT ? 0 : 5, to = self.type == V_DICT ? 5 : 11;
    int is_list = self.type == V_LIST || self.type == V_TUPLE || self.type == V_RANGE;
    if (self.type == V_STR) {
        int which = string_method_find(name, n);
        if (which < 0 && string_method_known(name, n))
            render_fail(r, SQZ_E_UNSUPPORTED, "the string method \"%.*s\" is not supported", (int)n,
                        name);
        return which;
    }
    for (size_t i = 0; value_is_number(self) && i < sizeof of_number / sizeof *of_number; i++)
        if (same(of_number[i], name, n))
            render_fail(r, SQZ_E_UNSUPPORTED, "\"%s\" of a number is not supported", of_number[i]);
    for (int i = 0; self.type == V_DICT && i < 5; i++)
        if (same(of_dict[i], name, n)) return D_GET + i;
    for (int i = 0; is_list && i < (self.type == V_LIST ? 3 : 2); i++)
        if (same(of_list[i], name, n)) return L_INDEX + i;
    if (self.type == V_LIST && (same("clear", name, n) || same("pop", name, n))) from = 0;
    if (self.type == V_DICT || self.type == V_LIST)
        for (size_t i = from; i < to; i++)
            if (same(changing[i], name, n))
                render_fail(r, ERR_MODEL,
                            "\"%.*s\" changes its object, which the sandbox of templates refuses",
                            (int)n, name);
    return -1;
}

value method_find(run *r, value self, const char *name, int64_t n)
{
    int which = method_index(r, self, name, n);
    if (which < 0 || r->failed) return value_undefined(name, n);
    bound *b = arena_take(&r->memory, (int64_t)sizeof *b);
    if (!b) return render_fail(r, SQZ_E_NOMEM, "no memory");
    b->self = self;
    return (value){.type = V_METHOD, .which = (uint16_t)which, .bound = b};
}

static value pair_of(run *r, value a, value b)
{
    value pair = value_list_new(r, V_TUPLE, 2);
    if (r->failed) return pair;
    list_add(r, pair.list, a);
    list_add(r, pair.list, b);
    return pair;
}

static value dict_view(run *r, const dict *d, int which)
{
    value out = value_list_new(r, V_VIEW, d->n);
    out.which = (uint16_t)which;
    for (int64_t i = 0; i < d->n && !r->failed; i++) {
        value v = which == 0   ? d->at[i].key
                  : which == 1 ? d->at[i].value
                               : pair_of(r, d->at[i].key, d->at[i].value);
        list_add(r, out.list, v);
    }
    return out;
}

static value dict_copy(run *r, value self)
{
    value out = value_dict_new(r, V_DICT);
    for (int64_t i = 0; i < self.dict->n && !r->failed; i++)
        dict_put(r, out.dict, self.dict->at[i].key, self.dict->at[i].value);
    return out;
}

static value dict_call(run *r, int which, value self, const arguments *a)
{
    static const char *const names[] = {"get", "keys", "values", "items", "copy"};
    if (!arguments_check(r, names[which], a, which == D_GET, which == D_GET ? "key default" : ""))
        return self;
    if (which == D_COPY) return dict_copy(r, self);
    if (which != D_GET) return dict_view(r, self.dict, which - D_KEYS);
    if (a->n_named) return render_fail(r, ERR_MODEL, "get: takes no named arguments");
    value *v = dict_find(r, self.dict, a->at[0]);
    return v ? *v : argument(a, 1, NULL, value_none());
}

static value list_call(run *r, int which, value self, const arguments *a)
{
    if (!arguments_check(r, "a list method", a, which != L_COPY, which == L_COPY ? "" : "value"))
        return self;
    value out = value_list_new(r, V_LIST, 0);
    int64_t count = 0;
    for (int64_t i = 0; i < self.list->n && !r->failed; i++) {
        if (which == L_COPY) {
            list_add(r, out.list, self.list->at[i]);
            continue;
        }
        int equal = value_equal(r, self.list->at[i], a->at[0], 0);
        if (equal && which == L_INDEX) return value_int(i);
        count += equal;
    }
    if (which == L_INDEX) return render_fail(r, ERR_MODEL, "index: the value is not in the list");
    return which == L_COPY ? out : value_int(count);
}

value method_call(run *r, value method, const arguments *a)
{
    value self = method.bound->self;
    if (self.type == V_STR) return string_method_call(r, method.which, self, a);
    if (self.type == V_DICT) return dict_call(r, method.which, self, a);
    return list_call(r, method.which, self, a);
}

/* ---- functions ------------------------------------------------------------------------------- */

static const char *const functions[] = {"raise_exception", "strftime_now", "range", "dict",
                                        "namespace"};

int function_find(const char *name, int64_t n)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (same(functions[i], name, n)) return (int)i;
    return -1;
}

static value raise(run *r, const arguments *a)
{
    if (!arguments_check(r, "raise_exception", a, 1, "message")) return value_none();
    value text = value_to_str(r, argument(a, 0, "message", value_none()));
    if (r->failed) return text;
    return render_fail(r, ERR_MODEL, "the template refuses the conversation: %.*s",
                       text.n > 400 ? 400 : (int)text.n, text.at);
}

static value now(run *r, const arguments *a)
{
    char format[256], text[1024];
    struct tm tm;
    time_t t = (time_t)r->now_s;
    if (!arguments_check(r, "strftime_now", a, 1, "format")) return value_none();
    value f = argument_str(r, "strftime_now", argument(a, 0, "format", value_none()));
    if (r->failed) return f;
    if (f.n >= (int64_t)sizeof format || !localtime_r(&t, &tm))
        return render_fail(r, ERR_MODEL, "strftime_now: the format is too long");
    memcpy(format, f.at, (size_t)f.n);
    format[f.n] = 0;
    return value_copy(r, text, (int64_t)strftime(text, sizeof text, format, &tm));
}

enum { MAX_RANGE = 100000 }; /* as Jinja's sandbox */

static value range(run *r, const arguments *a)
{
    int64_t from = 0, to, by = 1;
    if (!arguments_check(r, "range", a, 1, "start stop step") || a->n_named)
        return render_fail(r, ERR_MODEL, "range: one to three integers are needed");
    to = argument_int(r, "range", a->at[0]);
    if (a->n > 1) {
        from = to;
        to = argument_int(r, "range", a->at[1]);
    }
    if (a->n > 2) by = argument_int(r, "range", a->at[2]);
    if (by == 0) return render_fail(r, ERR_MODEL, "range: the step is 0");
    value out = value_list_new(r, V_RANGE, 0);
    for (int64_t i = from; !r->failed && (by > 0 ? i < to : i > to);) {
        if (out.list->n == MAX_RANGE)
            return render_fail(r, ERR_MODEL, "range: more than %d values", MAX_RANGE);
        list_add(r, out.list, value_int(i));
        if (__builtin_add_overflow(i, by, &i)) break;
    }
    return out;
}

static void put_pairs(run *r, dict *d, value from)
{
    value pairs = from.type == V_DICT ? dict_view(r, from.dict, 2) : value_iterate(r, from);
    for (int64_t i = 0; !r->failed && i < pairs.list->n; i++) {
        value pair = value_iterate(r, pairs.list->at[i]);
        if (!r->failed && pair.list->n != 2)
            render_fail(r, ERR_MODEL, "dict: a member that is no pair");
        if (!r->failed) dict_put(r, d, pair.list->at[0], pair.list->at[1]);
    }
}

static value make_dict(run *r, const arguments *a, value_type type)
{
    value out = value_dict_new(r, type);
    if (a->n > 1) render_fail(r, ERR_MODEL, "dict: at most one positional argument is taken");
    if (a->n && !r->failed) put_pairs(r, out.dict, a->at[0]);
    for (int i = 0; i < a->n_named && !r->failed; i++) {
        const char *name = a->names[a->n + i];
        dict_put(r, out.dict, value_str(name, (int64_t)strlen(name)), a->at[a->n + i]);
    }
    for (int64_t i = 0; type == V_NAMESPACE && !r->failed && i < out.dict->n; i++)
        if (out.dict->at[i].key.type == V_STR && out.dict->at[i].key.n &&
            out.dict->at[i].key.at[0] == '_')
            render_fail(r, ERR_MODEL, "members of a namespace cannot begin with _");
    return out;
}

value function_call(run *r, int which, const arguments *a)
{
    switch (which) {
    case 0: return raise(r, a);
    case 1: return now(r, a);
    case 2: return range(r, a);
    case 3: return make_dict(r, a, V_DICT);
    default: return make_dict(r, a, V_NAMESPACE);
    }
}
