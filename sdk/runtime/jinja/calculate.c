/* calculate.c - the value of an expression; see eval.h. */
#include "jinja/chars.h"
#include "jinja/eval.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

static value look_up(run *r, const scope *s, const char *name)
{
    const value *v = scope_find(s, name);
    if (v) return *v;
    int which = function_find(name, (int64_t)strlen(name));
    if (which >= 0) return (value){.type = V_FUNCTION, .which = (uint16_t)which};
    if (!strcmp(name, "cycler") || !strcmp(name, "joiner") || !strcmp(name, "lipsum") ||
        !strcmp(name, "self"))
        return render_fail(r, SQZ_E_UNSUPPORTED, "\"%s\" is not supported", name);
    return value_undefined(name, (int64_t)strlen(name));
}

static value fail_undefined(run *r, value v)
{
    if (!v.n) return render_fail(r, ERR_MODEL, "an undefined value is used");
    return render_fail(r, ERR_MODEL, "\"%.*s\" is undefined", v.n > 80 ? 80 : (int)v.n, v.at);
}

/* ---- members --------------------------------------------------------------------------------- */

value attribute_get(run *r, value object, value name)
{
    int found;
    if (object.type == V_UNDEFINED) return fail_undefined(r, object);
    if (object.type == V_LOOP) return loop_attribute(r, object, name);
    if (object.type == V_NAMESPACE) {
        value *v = dict_find(r, object.dict, name);
        return v ? *v : value_undefined(name.at, name.n);
    }
    value v = method_find(r, object, name.at, name.n);
    if (v.type != V_UNDEFINED || r->failed) return v;
    v = value_index(r, object, name, &found);
    if (found) return v;
    if (object.type == V_MACRO && value_is_str(name, "name"))
        return value_str(object.macro->node->name, (int64_t)strlen(object.macro->node->name));
    return value_undefined(name.at, name.n);
}

value item_get(run *r, value object, value key)
{
    int found;
    if (object.type == V_UNDEFINED) return fail_undefined(r, object);
    value v = value_index(r, object, key, &found);
    if (found || r->failed) return v;
    if (key.type == V_STR && object.type != V_DICT) return attribute_get(r, object, key);
    if (key.type == V_STR) {
        v = method_find(r, object, key.at, key.n);
        return v.type == V_UNDEFINED ? value_undefined(key.at, key.n) : v;
    }
    return value_undefined("an item", 7);
}

static value slice(run *r, scope *s, const node *n)
{
    value object = render_expression(r, s, n->a);
    value from = n->b ? render_expression(r, s, n->b) : value_none();
    value to = n->c ? render_expression(r, s, n->c) : value_none();
    value step = n->d ? render_expression(r, s, n->d) : value_none();
    if (r->failed) return object;
    if (object.type == V_UNDEFINED) return fail_undefined(r, object);
    return value_slice(r, object, from, to, step);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void collect(run *r, scope *s, const node *n, arguments *a)
{
    a->n = (int)n->n;
    a->n_named = (int)n->n_values;
    for (int i = 0; i < a->n && !r->failed; i++) a->at[i] = render_expression(r, s, n->items[i]);
    for (int i = 0; i < a->n_named && !r->failed; i++) {
        a->names[a->n + i] = n->keywords[i];
        for (int k = 0; k < i; k++)
            if (n->keywords[k] == n->keywords[i])
                render_fail(r, ERR_MODEL, "the argument %s is given twice", n->keywords[i]);
        a->at[a->n + i] = render_expression(r, s, n->values[i]);
    }
}

static value call(run *r, scope *s, const node *n)
{
    value callee = render_expression(r, s, n->a);
    arguments a = {.n = 0};
    if (!r->failed) collect(r, s, n, &a);
    if (r->failed) return callee;
    r->line = n->line;
    switch ((value_type)callee.type) {
    case V_MACRO: return macro_call(r, callee.macro, &a);
    case V_FUNCTION: return function_call(r, callee.which, &a);
    case V_METHOD:
        return callee.bound->self.type == V_LOOP ? loop_call(r, callee, &a)
                                                 : method_call(r, callee, &a);
    case V_UNDEFINED: return fail_undefined(r, callee);
    case V_LOOP: return render_fail(r, SQZ_E_UNSUPPORTED, "recursive loops are not supported");
    default: return render_fail(r, ERR_MODEL, "%s cannot be called", value_word(callee));
    }
}

static value filter(run *r, scope *s, const node *n, value operand)
{
    arguments a = {.n = 0};
    if (!r->failed) collect(r, s, n, &a);
    if (r->failed) return operand;
    r->line = n->line;
    return filter_apply(r, n->which, operand, &a);
}

value apply_filters(run *r, scope *s, const node *n, value text)
{
    if (r->failed || !n || n->kind == N_HOLE) return text;
    return filter(r, s, n, apply_filters(r, s, n->a, text));
}

static value test(run *r, scope *s, const node *n)
{
    value operand = render_expression(r, s, n->a);
    arguments a = {.n = 0};
    if (!r->failed) collect(r, s, n, &a);
    if (r->failed) return operand;
    return value_bool(test_apply(r, n->which, operand, &a));
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static value no_operator(run *r, const char *sign, value a, value b)
{
    if (a.type == V_UNDEFINED) return fail_undefined(r, a);
    if (b.type == V_UNDEFINED) return fail_undefined(r, b);
    return render_fail(r, ERR_MODEL, "%s %s %s has no meaning", value_word(a), sign, value_word(b));
}

static value too_large(run *r)
{
    return render_fail(r, SQZ_E_UNSUPPORTED, "integers beyond 64 bits are not supported");
}

static int needs_escape(value v)
{
    for (int64_t i = 0; i < v.n; i++)
        if (strchr("&<>'\"", v.at[i]) && v.at[i]) return 1;
    return 0;
}

static value add_strings(run *r, value a, value b)
{
    if (a.markup != b.markup && needs_escape(a.markup ? b : a))
        return render_fail(r, SQZ_E_UNSUPPORTED,
                           "adding a string to one from |safe escapes it; that is not supported");
    text_buffer text = {0};
    text_add(&text, a.at, a.n);
    text_add(&text, b.at, b.n);
    value v = value_take(r, &text);
    v.markup = a.markup | b.markup;
    return v;
}

static value add(run *r, value a, value b)
{
    int64_t sum;
    if (a.type == V_STR && b.type == V_STR) return add_strings(r, a, b);
    if (a.type == b.type && (a.type == V_LIST || a.type == V_TUPLE)) {
        value out = value_list_new(r, (value_type)a.type, a.list->n + b.list->n);
        if (r->failed || !render_step(r, a.list->n + b.list->n)) return out;
        for (int64_t i = 0; i < a.list->n; i++) list_add(r, out.list, a.list->at[i]);
        for (int64_t i = 0; i < b.list->n; i++) list_add(r, out.list, b.list->at[i]);
        return out;
    }
    if (!value_is_number(a) || !value_is_number(b)) return no_operator(r, "+", a, b);
    if (a.type == V_FLOAT || b.type == V_FLOAT)
        return value_float(value_as_double(a) + value_as_double(b));
    return __builtin_add_overflow(a.i, b.i, &sum) ? too_large(r) : value_int(sum);
}

static value repeat(run *r, value what, int64_t times)
{
    int64_t size = what.type == V_STR ? what.n : what.list->n, total;
    if (times < 0) times = 0;
    if (__builtin_mul_overflow(size, times, &total) || total > r->output_limit)
        return render_fail(r, ERR_MODEL, "a repetition longer than the limit of %lld",
                           (long long)r->output_limit);
    if (!render_step(r, total / 16 + 1)) return what;
    if (what.type == V_STR) {
        text_buffer text = {0};
        for (int64_t i = 0; i < times && size; i++) text_add(&text, what.at, what.n);
        return value_take(r, &text);
    }
    value out = value_list_new(r, (value_type)what.type, total);
    for (int64_t i = 0; i < times && size && !r->failed; i++)
        for (int64_t k = 0; k < size; k++) list_add(r, out.list, what.list->at[k]);
    return out;
}

static int is_sequence(value v)
{
    return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE;
}

static value multiply(run *r, value a, value b)
{
    int64_t product;
    if (is_sequence(a) && (b.type == V_INT || b.type == V_BOOL)) return repeat(r, a, b.i);
    if (is_sequence(b) && (a.type == V_INT || a.type == V_BOOL)) return repeat(r, b, a.i);
    if (!value_is_number(a) || !value_is_number(b)) return no_operator(r, "*", a, b);
    if (a.type == V_FLOAT || b.type == V_FLOAT)
        return value_float(value_as_double(a) * value_as_double(b));
    return __builtin_mul_overflow(a.i, b.i, &product) ? too_large(r) : value_int(product);
}

static value power(run *r, value a, value b)
{
    if (a.type == V_FLOAT || b.type == V_FLOAT || b.i < 0) {
        if (value_as_double(a) == 0 && value_as_double(b) < 0)
            return render_fail(r, ERR_MODEL, "zero to a negative power");
        if (value_as_double(a) < 0 && value_as_double(b) != floor(value_as_double(b)))
            return render_fail(r, SQZ_E_UNSUPPORTED, "complex numbers are not supported");
        return value_float(pow(value_as_double(a), value_as_double(b)));
    }
    int64_t result = 1, base = a.i;
    for (int64_t e = b.i; e; e >>= 1) {
        if ((e & 1) && __builtin_mul_overflow(result, base, &result)) return too_large(r);
        if (e > 1 && __builtin_mul_overflow(base, base, &base)) return too_large(r);
    }
    return value_int(result);
}

/* Division and remainder round towards minus infinity, as Python's do. */
static value divide(run *r, operator_kind op, value a, value b)
{
    double x = value_as_double(a), y = value_as_double(b);
    if (y == 0) return render_fail(r, ERR_MODEL, "division by zero");
    if (op == OP_DIV) return value_float(x / y);
    if (a.type == V_FLOAT || b.type == V_FLOAT) {
        double rest = fmod(x, y);
        if (rest != 0 && (rest < 0) != (y < 0)) rest += y;
        return value_float(op == OP_MOD ? rest : floor((x - rest) / y + 0.5));
    }
    if (b.i == -1) { /* INT64_MIN / -1 */
        int64_t minus;
        if (op == OP_MOD) return value_int(0);
        return __builtin_sub_overflow((int64_t)0, a.i, &minus) ? too_large(r) : value_int(minus);
    }
    int64_t rest = a.i % b.i, quotient = a.i / b.i;
    if (rest && (rest < 0) != (b.i < 0)) {
        rest += b.i;
        quotient--;
    }
    return value_int(op == OP_MOD ? rest : quotient);
}

static value arithmetic(run *r, operator_kind op, value a, value b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    int64_t difference;
    if (op == OP_ADD) return add(r, a, b);
    if (op == OP_MUL) return multiply(r, a, b);
    if (op == OP_MOD && a.type == V_STR)
        return render_fail(r, SQZ_E_UNSUPPORTED, "formatting with %% is not supported");
    if (!value_is_number(a) || !value_is_number(b)) return no_operator(r, signs[op], a, b);
    if (op == OP_POW) return power(r, a, b);
    if (op != OP_SUB) return divide(r, op, a, b);
    if (a.type == V_FLOAT || b.type == V_FLOAT)
        return value_float(value_as_double(a) - value_as_double(b));
    return __builtin_sub_overflow(a.i, b.i, &difference) ? too_large(r) : value_int(difference);
}

static value negate(run *r, value v, int sign)
{
    int64_t minus;
    if (v.type == V_UNDEFINED) return fail_undefined(r, v);
    if (!value_is_number(v)) return render_fail(r, ERR_MODEL, "%s has no sign", value_word(v));
    if (v.type == V_FLOAT) return value_float(sign < 0 ? -v.f : v.f);
    if (sign > 0) return value_int(v.i);
    return __builtin_sub_overflow((int64_t)0, v.i, &minus) ? too_large(r) : value_int(minus);
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static int compare_one(run *r, operator_kind op, value a, value b)
{
    int ordered = op == OP_LT || op == OP_LE || op == OP_GT || op == OP_GE;
    if (ordered && (a.type == V_UNDEFINED || b.type == V_UNDEFINED)) {
        fail_undefined(r, a.type == V_UNDEFINED ? a : b);
        return 0;
    }
    switch (op) {
    case OP_EQ: return value_equal(r, a, b, 0);
    case OP_NE: return !value_equal(r, a, b, 0);
    case OP_LT: return value_less(r, a, b, 0);
    case OP_GT: return value_less(r, b, a, 0);
    case OP_LE: return value_less(r, a, b, 0) || value_equal(r, a, b, 0);
    case OP_GE: return value_less(r, b, a, 0) || value_equal(r, a, b, 0);
    case OP_IN: return value_contains(r, a, b);
    default: return !value_contains(r, a, b);
    }
}

static value compare(run *r, scope *s, const node *n)
{
    value left = render_expression(r, s, n->a);
    for (int64_t i = 0; i < n->n && !r->failed; i++) {
        value right = render_expression(r, s, n->items[i]);
        if (r->failed || !compare_one(r, n->ops[i], left, right)) return value_bool(0);
        left = right;
    }
    return value_bool(1);
}

/* ---- everything ------------------------------------------------------------------------------ */

static value concat(run *r, scope *s, const node *n)
{
    text_buffer text = {0};
    for (int64_t i = 0; i < n->n && !r->failed; i++) {
        value v = render_expression(r, s, n->items[i]);
        if (!r->failed) value_print(r, v, &text);
        if (text.n > r->output_limit) render_fail(r, ERR_MODEL, "a string longer than the limit");
    }
    return value_take(r, &text);
}

static value collection(run *r, scope *s, const node *n)
{
    value out = value_list_new(r, n->kind == N_TUPLE ? V_TUPLE : V_LIST, n->n);
    for (int64_t i = 0; i < n->n && !r->failed; i++)
        list_add(r, out.list, render_expression(r, s, n->items[i]));
    return out;
}

static value dictionary(run *r, scope *s, const node *n)
{
    value out = value_dict_new(r, V_DICT);
    for (int64_t i = 0; i < n->n && !r->failed; i++) {
        value key = render_expression(r, s, n->items[i]);
        value v = render_expression(r, s, n->values[i]);
        if (!r->failed) dict_put(r, out.dict, key, v);
    }
    return out;
}

static value condition(run *r, scope *s, const node *n)
{
    value v = render_expression(r, s, n->b);
    if (r->failed) return v;
    if (value_true(v)) return render_expression(r, s, n->a);
    return n->c ? render_expression(r, s, n->c)
                : value_undefined("the value of an if without else", 31);
}

static value calculate_one(run *r, scope *s, const node *n)
{
    value a, b;
    switch (n->kind) {
    case N_NAME: return look_up(r, s, n->name);
    case N_CONST: return n->constant;
    case N_TUPLE:
    case N_LIST: return collection(r, s, n);
    case N_DICT: return dictionary(r, s, n);
    case N_COND: return condition(r, s, n);
    case N_COMPARE: return compare(r, s, n);
    case N_CONCAT: return concat(r, s, n);
    case N_SLICE: return slice(r, s, n);
    case N_CALL: return call(r, s, n);
    case N_TEST: return test(r, s, n);
    default: break;
    }
    a = render_expression(r, s, n->a);
    if (r->failed) return a;
    switch (n->kind) {
    case N_AND: return value_true(a) ? render_expression(r, s, n->b) : a;
    case N_OR: return value_true(a) ? a : render_expression(r, s, n->b);
    case N_NOT: return value_bool(!value_true(a));
    case N_NEGATE: return negate(r, a, -1);
    case N_PLUS: return negate(r, a, 1);
    case N_ATTR: return attribute_get(r, a, n->constant);
    case N_FILTER: return filter(r, s, n, a);
    default: break;
    }
    b = render_expression(r, s, n->b);
    if (r->failed) return b;
    return n->kind == N_ITEM ? item_get(r, a, b) : arithmetic(r, n->op, a, b);
}

value render_expression(run *r, scope *s, const node *n)
{
    if (r->failed || !render_enter(r)) return value_undefined(NULL, 0);
    r->line = n->line;
    value v = calculate_one(r, s, n);
    r->depth--;
    return v;
}
