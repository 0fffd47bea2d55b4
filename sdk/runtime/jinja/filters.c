/* filters.c - what stands behind a bar: {{ messages|length }}.
 *
 * One function per filter and one row in the table at the end.  Filters that give a generator in
 * Jinja give a V_ITERATOR here: it has no length and is true even when empty. */
#include "jinja/builtin.h"
#include "jinja/chars.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static value iterator(value list)
{
    if (list.type == V_LIST) list.type = V_ITERATOR;
    return list;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static value f_trim(run *r, value v, const arguments *a)
{
    v = value_to_str(r, v);
    return r->failed ? v : str_strip(r, v, argument(a, 0, "chars", value_none()), STRIP_BOTH);
}

static value f_upper(run *r, value v, const arguments *a)
{
    (void)a;
    v = value_to_str(r, v);
    return r->failed ? v : str_case(r, v, CASE_UPPER);
}

static value f_lower(run *r, value v, const arguments *a)
{
    (void)a;
    v = value_to_str(r, v);
    return r->failed ? v : str_case(r, v, CASE_LOWER);
}

static value f_capitalize(run *r, value v, const arguments *a)
{
    (void)a;
    v = value_to_str(r, v);
    return r->failed ? v : str_case(r, v, CASE_CAPITAL);
}

/* Unlike str.title, words begin behind spaces, hyphens and opening brackets only. */
static value f_title(run *r, value v, const arguments *a)
{
    text_buffer out = {0};
    (void)a;
    v = value_to_str(r, v);
    for (int64_t at = 0; !r->failed && at < v.n;) {
        int64_t end = at;
        while (end < v.n && !strchr("-({[<", v.at[end]) && !space_at(v.at + end, v.n - end)) end++;
        if (end > at) {
            int k = char_length((unsigned char)v.at[at]);
            text_add_case(&out, v.at + at, k, CASE_UPPER);
            text_add_case(&out, v.at + at + k, end - at - k, CASE_LOWER);
        }
        at = end;
        while (at < v.n && (strchr("-({[<", v.at[at]) || space_at(v.at + at, v.n - at))) {
            int k = char_length((unsigned char)v.at[at]);
            text_add(&out, v.at + at, k);
            at += k;
        }
    }
    return value_take(r, &out);
}

static value f_string(run *r, value v, const arguments *a)
{
    (void)a;
    return value_to_str(r, v);
}

static value f_safe(run *r, value v, const arguments *a)
{
    (void)a;
    v = value_to_str(r, v);
    v.markup = 1;
    return v;
}

static value f_replace(run *r, value v, const arguments *a)
{
    v = value_to_str(r, v);
    value old = value_to_str(r, argument(a, 0, "old", value_none()));
    value new = value_to_str(r, argument(a, 1, "new", value_none()));
    value count = argument(a, 2, "count", value_none());
    int64_t most = count.type == V_NONE ? -1 : argument_int(r, "count", count);
    return r->failed ? v : str_replace(r, v, old, new, most);
}

static value f_indent(run *r, value v, const arguments *a)
{
    value width = argument(a, 0, "width", value_int(4));
    int first = value_true(argument(a, 1, "first", value_bool(0)));
    int blank = value_true(argument(a, 2, "blank", value_bool(0)));
    text_buffer out = {0}, by = {0};
    v = argument_str(r, "indent", v);
    if (width.type == V_STR)
        text_add(&by, width.at, width.n);
    else
        for (int64_t i = argument_int(r, "width", width); i > 0 && i <= 10000; i--)
            text_add(&by, " ", 1);
    value lines = r->failed ? v : str_lines(r, v, 0);
    int ends = v.n > 0 && v.at[v.n - 1] == '\n';
    int64_t n = r->failed ? 0 : lines.list->n;
    for (int64_t i = 0; i < n; i++) {
        value line = lines.list->at[i];
        if (i) text_add(&out, "\n", 1);
        if (i ? blank || line.n : first) text_add(&out, by.at, by.n);
        text_add(&out, line.at, line.n);
    }
    if (n == 0 && first) text_add(&out, by.at, by.n);
    if (ends) { /* Jinja adds a line end before it cuts, so that the last one stays */
        text_add(&out, "\n", 1);
        if (blank) text_add(&out, by.at, by.n);
    }
    text_free(&by);
    return value_take(r, &out);
}

static value f_join(run *r, value v, const arguments *a)
{
    value glue = value_to_str(r, argument(a, 0, "d", value_str("", 0)));
    value path = argument(a, 1, "attribute", value_none());
    value items = value_iterate(r, v), texts = value_list_new(r, V_LIST, 0);
    for (int64_t i = 0; !r->failed && i < items.list->n; i++) {
        value item = items.list->at[i];
        if (path.type != V_NONE) item = attribute_path(r, item, path, value_none());
        list_add(r, texts.list, item);
    }
    return r->failed ? v : str_join(r, glue, texts);
}

static value f_tojson(run *r, value v, const arguments *a)
{
    char spaces[65];
    value indent = argument(a, 1, "indent", value_none());
    value separators = argument(a, 2, "separators", value_none());
    json_style s = {.ascii = value_true(argument(a, 0, "ensure_ascii", value_bool(0))),
                    .sort = value_true(argument(a, 3, "sort_keys", value_bool(0))),
                    .item_separator = value_str(", ", 2),
                    .key_separator = value_str(": ", 2)};
    if (indent.type == V_STR) {
        s.indent = indent.at;
        s.n_indent = indent.n;
    } else if (indent.type != V_NONE) {
        int64_t n = argument_int(r, "indent", indent);
        if (n > 64) render_fail(r, SQZ_E_UNSUPPORTED, "tojson: an indent beyond 64");
        s.n_indent = n > 0 && n <= 64 ? n : 0;
        memset(spaces, ' ', sizeof spaces);
        s.indent = spaces;
    }
    if (s.indent) s.item_separator = value_str(",", 1);
    if (separators.type != V_NONE) {
        value pair = value_iterate(r, separators);
        if (!r->failed && pair.list->n != 2)
            render_fail(r, ERR_MODEL, "tojson: separators are two strings");
        if (r->failed) return v;
        s.item_separator = argument_str(r, "tojson", pair.list->at[0]);
        s.key_separator = argument_str(r, "tojson", pair.list->at[1]);
    }
    text_buffer out = {0};
    if (!r->failed) value_json(r, v, &s, &out, 0);
    return value_take(r, &out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* A text as Python's float() reads it; 0: it is none. */
static int read_float(run *r, value text, double *out)
{
    char copy[320];
    size_t n = 0;
    text = str_strip(r, text, value_none(), STRIP_BOTH);
    for (int64_t i = 0; i < text.n; i++) {
        char c = text.at[i];
        if (c == '_' && i > 0 && i + 1 < text.n && text.at[i - 1] >= '0' && text.at[i - 1] <= '9' &&
            text.at[i + 1] >= '0' && text.at[i + 1] <= '9')
            continue;
        if (!strchr("+-.0123456789eEinfatyINFATY", c) || n + 1 >= sizeof copy) return 0;
        copy[n++] = c;
    }
    copy[n] = 0;
    char *end;
    *out = strtod(copy, &end);
    return n > 0 && !*end;
}

static value f_float(run *r, value v, const arguments *a)
{
    double d;
    if (v.type == V_UNDEFINED) return render_fail(r, ERR_MODEL, "float of an undefined value");
    if (value_is_number(v)) return value_float(value_as_double(v));
    if (v.type == V_STR && read_float(r, v, &d)) return value_float(d);
    return argument(a, 0, "default", value_float(0));
}

static value whole(run *r, double d, value fallback)
{
    if (!isfinite(d)) return fallback;
    if (fabs(d) >= 0x1p63)
        return render_fail(r, SQZ_E_UNSUPPORTED, "integers beyond 64 bits are not supported");
    return value_int((int64_t)d);
}

static int is_integer_text(value text)
{
    for (int64_t i = 0; i < text.n; i++)
        if (!strchr("+-0123456789", text.at[i])) return 0;
    return 1;
}

static value f_int(run *r, value v, const arguments *a)
{
    value fallback = argument(a, 0, "default", value_int(0));
    double d;
    if (has_argument(a, 1, "base"))
        return render_fail(r, SQZ_E_UNSUPPORTED, "int with a base is not supported");
    if (v.type == V_UNDEFINED) return render_fail(r, ERR_MODEL, "int of an undefined value");
    if (v.type == V_INT || v.type == V_BOOL) return value_int(v.i);
    if (v.type == V_FLOAT) return whole(r, v.f, fallback);
    if (v.type != V_STR || !read_float(r, v, &d)) return fallback;
    value text = str_strip(r, v, value_none(), STRIP_BOTH);
    char copy[32];
    if (text.n < (int64_t)sizeof copy && is_integer_text(text)) {
        memcpy(copy, text.at, (size_t)text.n);
        copy[text.n] = 0;
        if (fabs(d) < 0x1p62) return value_int(strtoll(copy, NULL, 10));
    }
    return whole(r, d, fallback);
}

static value f_abs(run *r, value v, const arguments *a)
{
    (void)a;
    if (!value_is_number(v)) return render_fail(r, ERR_MODEL, "abs of %s", value_word(v));
    if (v.type == V_FLOAT) return value_float(fabs(v.f));
    if (v.i == INT64_MIN) return render_fail(r, SQZ_E_UNSUPPORTED, "integers beyond 64 bits");
    return value_int(v.i < 0 ? -v.i : v.i);
}

static value f_round(run *r, value v, const arguments *a)
{
    char text[400];
    int64_t digits = argument_int(r, "precision", argument(a, 0, "precision", value_int(0)));
    value method = argument(a, 1, "method", value_str("common", 6));
    if (!value_is_number(v)) return render_fail(r, ERR_MODEL, "round of %s", value_word(v));
    if (digits < 0 || digits > 15)
        return render_fail(r, SQZ_E_UNSUPPORTED, "round: a precision of 0 to 15 is supported");
    if (value_is_str(method, "ceil") || value_is_str(method, "floor")) {
        double scale = pow(10, (double)digits), x = value_as_double(v) * scale;
        return value_float((value_is_str(method, "ceil") ? ceil(x) : floor(x)) / scale);
    }
    if (!value_is_str(method, "common"))
        return render_fail(r, ERR_MODEL, "round: the method is common, ceil or floor");
    if (v.type != V_FLOAT) return value_int(v.i);
    snprintf(text, sizeof text, "%.*f", (int)digits, v.f); /* halves to even, exactly */
    return value_float(strtod(text, NULL));
}

/* ---- collections ----------------------------------------------------------------------------- */

static value f_default(run *r, value v, const arguments *a)
{
    (void)r;
    int falsy = value_true(argument(a, 1, "boolean", value_bool(0)));
    if (v.type != V_UNDEFINED && !(falsy && !value_true(v))) return v;
    return argument(a, 0, "default_value", value_str("", 0));
}

static value f_length(run *r, value v, const arguments *a)
{
    (void)a;
    int64_t n = value_length(r, v);
    return value_int(n);
}

static value f_list(run *r, value v, const arguments *a)
{
    (void)a;
    value all = value_iterate(r, v), out = value_list_new(r, V_LIST, 0);
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) list_add(r, out.list, all.list->at[i]);
    return out;
}

static value f_first(run *r, value v, const arguments *a)
{
    (void)a;
    if (v.type == V_ITERATOR && v.list->next < v.list->n) return v.list->at[v.list->next++];
    value all = value_iterate(r, v);
    if (r->failed || all.list->n > 0) return r->failed ? all : all.list->at[0];
    return value_undefined("the first item of nothing", 25);
}

static value f_last(run *r, value v, const arguments *a)
{
    (void)a;
    if (v.type == V_ITERATOR)
        return render_fail(r, ERR_MODEL, "last of an iterator; use list first");
    value all = value_iterate(r, v);
    if (r->failed || all.list->n > 0) return r->failed ? all : all.list->at[all.list->n - 1];
    return value_undefined("the last item of nothing", 24);
}

static value f_reverse(run *r, value v, const arguments *a)
{
    if (v.type == V_STR) return value_slice(r, v, value_none(), value_none(), value_int(-1));
    value out = f_list(r, v, a);
    for (int64_t i = 0, k = r->failed ? 0 : out.list->n - 1; i < k; i++, k--) {
        value swap = out.list->at[i];
        out.list->at[i] = out.list->at[k];
        out.list->at[k] = swap;
    }
    return iterator(out);
}

static value f_items(run *r, value v, const arguments *a)
{
    (void)a;
    if (v.type == V_UNDEFINED) return iterator(value_list_new(r, V_LIST, 0));
    if (v.type != V_DICT)
        return render_fail(r, SQZ_E_UNSUPPORTED, "items of %s is not supported", value_word(v));
    arguments none = {.n = 0};
    value view = method_call(r, method_find(r, v, "items", 5), &none);
    return r->failed ? view : iterator(f_list(r, view, &none));
}

/* The arguments behind the first `skip`, for a filter or test that is named in an argument. */
static arguments rest_of(const arguments *a, int skip)
{
    arguments rest = {.n = a->n > skip ? a->n - skip : 0, .n_named = a->n_named};
    for (int i = 0; i < rest.n; i++) rest.at[i] = a->at[skip + i];
    for (int i = 0; i < a->n_named; i++) {
        rest.at[rest.n + i] = a->at[a->n + i];
        rest.names[rest.n + i] = a->names[a->n + i];
    }
    return rest;
}

static int find_named(run *r, const char *what, value name, int (*find)(const char *, int64_t))
{
    if (name.type != V_STR) {
        render_fail(r, ERR_MODEL, "the name of a %s must be a string", what);
        return -1;
    }
    int which = find(name.at, name.n);
    if (which < 0)
        render_fail(r, SQZ_E_UNSUPPORTED, "the %s \"%.*s\" is not supported", what,
                    name.n > 60 ? 60 : (int)name.n, name.at);
    return which;
}

/* map, select and friends look at what is true only: none and 0 are empty to them. */
static value iterate_true(run *r, value v)
{
    return value_true(v) ? value_iterate(r, v) : value_list_new(r, V_LIST, 0);
}

static value f_map(run *r, value v, const arguments *a)
{
    value all = iterate_true(r, v), out = value_list_new(r, V_LIST, 0);
    value path = argument(a, a->n, "attribute", value_none());
    value fallback = argument(a, a->n, "default", value_none());
    int which = -1;
    if (a->n) {
        which = find_named(r, "filter", a->at[0], filter_find);
    } else if (path.type == V_NONE || !arguments_check(r, "map", a, 1, "attribute default")) {
        render_fail(r, ERR_MODEL, "map needs a filter or an attribute");
    }
    arguments rest = rest_of(a, 1);
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) {
        value item = all.list->at[i];
        if (which >= 0) {
            item = filter_apply(r, which, item, &rest);
        } else {
            item = attribute_path(r, item, path, fallback);
        }
        list_add(r, out.list, item);
    }
    return iterator(out);
}

/* select, reject, selectattr, rejectattr */
static value choose(run *r, value v, const arguments *a, int by_attribute, int wanted)
{
    value all = iterate_true(r, v), out = value_list_new(r, V_LIST, 0);
    if (by_attribute && a->n < 1) render_fail(r, ERR_MODEL, "the name of an attribute is missing");
    if (r->failed) return v;
    int which = a->n > by_attribute ? find_named(r, "test", a->at[by_attribute], test_find) : -1;
    arguments rest = rest_of(a, by_attribute + 1);
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) {
        value item = all.list->at[i], seen = item;
        if (by_attribute) seen = attribute_path(r, item, a->at[0], value_none());
        if (r->failed) break;
        int hit = which >= 0 ? test_apply(r, which, seen, &rest) : value_true(seen);
        if ((hit != 0) == wanted) list_add(r, out.list, item);
    }
    return iterator(out);
}

static value f_select(run *r, value v, const arguments *a)
{
    return choose(r, v, a, 0, 1);
}
static value f_reject(run *r, value v, const arguments *a)
{
    return choose(r, v, a, 0, 0);
}
static value f_selectattr(run *r, value v, const arguments *a)
{
    return choose(r, v, a, 1, 1);
}
static value f_rejectattr(run *r, value v, const arguments *a)
{
    return choose(r, v, a, 1, 0);
}

static value f_sort(run *r, value v, const arguments *a)
{
    arguments none = {.n = 0};
    value out = f_list(r, v, &none);
    if (!r->failed)
        sort_values(r, out.list, argument(a, 2, "attribute", value_none()),
                    value_true(argument(a, 0, "reverse", value_bool(0))),
                    value_true(argument(a, 1, "case_sensitive", value_bool(0))));
    return out;
}

static value f_dictsort(run *r, value v, const arguments *a)
{
    value by = argument(a, 1, "by", value_str("key", 3));
    int by_value = value_is_str(by, "value");
    if (v.type != V_DICT) return render_fail(r, ERR_MODEL, "dictsort of %s", value_word(v));
    if (!by_value && !value_is_str(by, "key"))
        return render_fail(r, ERR_MODEL, "dictsort: by is \"key\" or \"value\"");
    arguments none = {.n = 0};
    value out = f_list(r, f_items(r, v, &none), &none);
    if (!r->failed)
        sort_values(r, out.list, value_int(by_value),
                    value_true(argument(a, 2, "reverse", value_bool(0))),
                    value_true(argument(a, 0, "case_sensitive", value_bool(0))));
    return out;
}

/* What min, max, sort and unique compare: texts without regard to case, unless told. */
static value key_of(run *r, value v, value path, int case_sensitive)
{
    if (path.type != V_NONE) v = attribute_path(r, v, path, value_none());
    return v.type == V_STR && !case_sensitive && !r->failed ? str_case(r, v, CASE_LOWER) : v;
}

static value extreme(run *r, value v, const arguments *a, int largest)
{
    int exact = value_true(argument(a, 0, "case_sensitive", value_bool(0)));
    value path = argument(a, 1, "attribute", value_none());
    value all = value_iterate(r, v), best = value_undefined("the extreme of nothing", 22),
          key = best;
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) {
        value k = key_of(r, all.list->at[i], path, exact);
        if (i && !(largest ? value_less(r, key, k, 0) : value_less(r, k, key, 0))) continue;
        best = all.list->at[i];
        key = k;
    }
    return best;
}

static value f_min(run *r, value v, const arguments *a)
{
    return extreme(r, v, a, 0);
}
static value f_max(run *r, value v, const arguments *a)
{
    return extreme(r, v, a, 1);
}

static value f_unique(run *r, value v, const arguments *a)
{
    int exact = value_true(argument(a, 0, "case_sensitive", value_bool(0)));
    value path = argument(a, 1, "attribute", value_none());
    value all = value_iterate(r, v), out = value_list_new(r, V_LIST, 0);
    value seen = value_list_new(r, V_LIST, 0);
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) {
        value key = key_of(r, all.list->at[i], path, exact);
        int known = 0;
        if (!r->failed && !value_is_key(key))
            render_fail(r, ERR_MODEL, "unique: %s cannot be compared", value_word(key));
        for (int64_t k = 0; !known && !r->failed && k < seen.list->n; k++)
            known = value_equal(r, seen.list->at[k], key, 0);
        if (known || r->failed) continue;
        list_add(r, seen.list, key);
        list_add(r, out.list, all.list->at[i]);
    }
    return iterator(out);
}

static value f_sum(run *r, value v, const arguments *a)
{
    value path = argument(a, 0, "attribute", value_none());
    value total = argument(a, 1, "start", value_int(0)), all = value_iterate(r, v);
    for (int64_t i = 0; !r->failed && i < all.list->n; i++) {
        value item = all.list->at[i];
        if (path.type != V_NONE) item = attribute_path(r, item, path, value_none());
        if (!value_is_number(item) || !value_is_number(total)) {
            render_fail(r, SQZ_E_UNSUPPORTED, "the sum of %s is not supported", value_word(item));
        } else if (item.type == V_FLOAT || total.type == V_FLOAT) {
            total = value_float(value_as_double(total) + value_as_double(item));
        } else if (__builtin_add_overflow(total.i, item.i, &total.i)) {
            render_fail(r, SQZ_E_UNSUPPORTED, "integers beyond 64 bits are not supported");
        } else {
            total.type = V_INT;
        }
    }
    return total;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    value (*apply)(run *, value, const arguments *);
    int least;
    const char *names; /* NULL: any, the filter looks itself */
} filters[] = {
    {"abs", f_abs, 0, ""},
    {"capitalize", f_capitalize, 0, ""},
    {"count", f_length, 0, ""},
    {"d", f_default, 0, "default_value boolean"},
    {"default", f_default, 0, "default_value boolean"},
    {"dictsort", f_dictsort, 0, "case_sensitive by reverse"},
    {"first", f_first, 0, ""},
    {"float", f_float, 0, "default"},
    {"indent", f_indent, 0, "width first blank"},
    {"int", f_int, 0, "default base"},
    {"items", f_items, 0, ""},
    {"join", f_join, 0, "d attribute"},
    {"last", f_last, 0, ""},
    {"length", f_length, 0, ""},
    {"list", f_list, 0, ""},
    {"lower", f_lower, 0, ""},
    {"map", f_map, 0, NULL},
    {"max", f_max, 0, "case_sensitive attribute"},
    {"min", f_min, 0, "case_sensitive attribute"},
    {"reject", f_reject, 0, NULL},
    {"rejectattr", f_rejectattr, 0, NULL},
    {"replace", f_replace, 2, "old new count"},
    {"reverse", f_reverse, 0, ""},
    {"round", f_round, 0, "precision method"},
    {"safe", f_safe, 0, ""},
    {"select", f_select, 0, NULL},
    {"selectattr", f_selectattr, 0, NULL},
    {"sort", f_sort, 0, "reverse case_sensitive attribute"},
    {"string", f_string, 0, ""},
    {"sum", f_sum, 0, "attribute start"},
    {"title", f_title, 0, ""},
    {"tojson", f_tojson, 0, "ensure_ascii indent separators sort_keys"},
    {"trim", f_trim, 0, "chars"},
    {"unique", f_unique, 0, "case_sensitive attribute"},
    {"upper", f_upper, 0, ""},
};

int filter_find(const char *name, int64_t n)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == (size_t)n && !memcmp(filters[i].name, name, (size_t)n))
            return (int)i;
    return -1;
}

value filter_apply(run *r, int which, value v, const arguments *a)
{
    if (!render_step(r, 1)) return v;
    if (filters[which].names &&
        !arguments_check(r, filters[which].name, a, filters[which].least, filters[which].names))
        return v;
    return filters[which].apply(r, v, a);
}
