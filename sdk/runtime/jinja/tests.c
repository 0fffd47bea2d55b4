/* tests.c - what stands behind `is`: {{ x is defined }}. */
#include "jinja/builtin.h"
#include "jinja/chars.h"
#include <math.h>
#include <string.h>

typedef enum test_kind {
    IS_DEFINED,
    IS_UNDEFINED,
    IS_NONE,
    IS_STRING,
    IS_MAPPING,
    IS_ITERABLE,
    IS_SEQUENCE,
    IS_NUMBER,
    IS_INTEGER,
    IS_FLOAT,
    IS_BOOLEAN,
    IS_TRUE,
    IS_FALSE,
    IS_CALLABLE,
    IS_ODD,
    IS_EVEN,
    IS_DIVISIBLE,
    IS_UPPER,
    IS_LOWER,
    IS_EQUAL,
    IS_UNEQUAL,
    IS_LESS,
    IS_LESS_EQUAL,
    IS_GREATER,
    IS_GREATER_EQUAL,
    IS_IN,
    IS_SAME,
    IS_FILTER,
    IS_TEST
} test_kind;

static const struct {
    const char *name;
    test_kind kind;
    int arguments;
} tests[] = {
    {"defined", IS_DEFINED, 0},
    {"undefined", IS_UNDEFINED, 0},
    {"none", IS_NONE, 0},
    {"string", IS_STRING, 0},
    {"mapping", IS_MAPPING, 0},
    {"iterable", IS_ITERABLE, 0},
    {"sequence", IS_SEQUENCE, 0},
    {"number", IS_NUMBER, 0},
    {"integer", IS_INTEGER, 0},
    {"float", IS_FLOAT, 0},
    {"boolean", IS_BOOLEAN, 0},
    {"true", IS_TRUE, 0},
    {"false", IS_FALSE, 0},
    {"callable", IS_CALLABLE, 0},
    {"odd", IS_ODD, 0},
    {"even", IS_EVEN, 0},
    {"divisibleby", IS_DIVISIBLE, 1},
    {"upper", IS_UPPER, 0},
    {"lower", IS_LOWER, 0},
    {"equalto", IS_EQUAL, 1},
    {"eq", IS_EQUAL, 1},
    {"==", IS_EQUAL, 1},
    {"ne", IS_UNEQUAL, 1},
    {"!=", IS_UNEQUAL, 1},
    {"lt", IS_LESS, 1},
    {"lessthan", IS_LESS, 1},
    {"<", IS_LESS, 1},
    {"le", IS_LESS_EQUAL, 1},
    {"<=", IS_LESS_EQUAL, 1},
    {"gt", IS_GREATER, 1},
    {"greaterthan", IS_GREATER, 1},
    {">", IS_GREATER, 1},
    {"ge", IS_GREATER_EQUAL, 1},
    {">=", IS_GREATER_EQUAL, 1},
    {"in", IS_IN, 1},
    {"sameas", IS_SAME, 1},
    {"filter", IS_FILTER, 0},
    {"test", IS_TEST, 0},
};

int test_find(const char *name, int64_t n)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strlen(tests[i].name) == (size_t)n && !memcmp(tests[i].name, name, (size_t)n))
            return (int)i;
    return -1;
}

static int is_iterable(value v)
{
    return v.type == V_UNDEFINED || v.type == V_STR || v.type == V_DICT || v.type == V_ITERATOR ||
           v.type == V_LOOP || value_is_listlike(v);
}

/* What has a length and can be indexed; texts and dictionaries are such, too. */
static int is_sequence(value v)
{
    return v.type == V_UNDEFINED || v.type == V_STR || v.type == V_DICT || v.type == V_LIST ||
           v.type == V_TUPLE || v.type == V_RANGE;
}

/* v % by, as Python rounds it. */
static double remainder_of(run *r, const char *what, value v, value by)
{
    double divisor = value_is_number(by) ? value_as_double(by) : 0;
    if (!value_is_number(v) || divisor == 0) {
        render_fail(r, ERR_MODEL, "%s of %s", what, value_word(v));
        return 0;
    }
    if (v.type != V_FLOAT && by.type != V_FLOAT && by.i == -1) return 0;
    if (v.type != V_FLOAT && by.type != V_FLOAT) {
        int64_t rest = v.i % by.i;
        return (double)(rest && (rest < 0) != (by.i < 0) ? rest + by.i : rest);
    }
    double rest = fmod(value_as_double(v), divisor);
    return rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
}

/* str(v).isupper() and islower() */
static int has_case(run *r, value v, int upper)
{
    arguments none = {.n = 0};
    const char *name = upper ? "isupper" : "islower";
    v = value_to_str(r, v);
    if (r->failed) return 0;
    return value_true(string_method_call(r, string_method_find(name, 7), v, &none));
}

static int is_same(run *r, value a, value b)
{
    if (a.type != b.type) return 0;
    if (a.type == V_NONE || a.type == V_BOOL) return value_equal(r, a, b, 0);
    if (value_is_listlike(a) || a.type == V_DICT || a.type == V_NAMESPACE) return a.list == b.list;
    render_fail(r, SQZ_E_UNSUPPORTED, "the test sameas on %s is not supported", value_word(a));
    return 0;
}

static int compares(run *r, test_kind kind, value v, value other)
{
    switch (kind) {
    case IS_EQUAL: return value_equal(r, v, other, 0);
    case IS_UNEQUAL: return !value_equal(r, v, other, 0);
    case IS_LESS: return value_less(r, v, other, 0);
    case IS_LESS_EQUAL: return value_less(r, v, other, 0) || value_equal(r, v, other, 0);
    case IS_GREATER: return value_less(r, other, v, 0);
    case IS_GREATER_EQUAL: return value_less(r, other, v, 0) || value_equal(r, v, other, 0);
    case IS_IN: return value_contains(r, v, other);
    default: return is_same(r, v, other);
    }
}

int test_apply(run *r, int which, value v, const arguments *a)
{
    test_kind kind = tests[which].kind;
    if (!render_step(r, 1) || !arguments_check(r, tests[which].name, a, tests[which].arguments,
                                               tests[which].arguments ? "value" : ""))
        return 0;
    switch (kind) {
    case IS_DEFINED: return v.type != V_UNDEFINED;
    case IS_UNDEFINED: return v.type == V_UNDEFINED;
    case IS_NONE: return v.type == V_NONE;
    case IS_STRING: return v.type == V_STR;
    case IS_MAPPING: return v.type == V_DICT;
    case IS_ITERABLE: return is_iterable(v);
    case IS_SEQUENCE: return is_sequence(v);
    case IS_NUMBER: return value_is_number(v);
    case IS_INTEGER: return v.type == V_INT;
    case IS_FLOAT: return v.type == V_FLOAT;
    case IS_BOOLEAN: return v.type == V_BOOL;
    case IS_TRUE: return v.type == V_BOOL && v.i;
    case IS_FALSE: return v.type == V_BOOL && !v.i;
    case IS_CALLABLE: return v.type == V_MACRO || v.type == V_FUNCTION || v.type == V_METHOD;
    case IS_ODD: return remainder_of(r, "odd", v, value_int(2)) == 1;
    case IS_EVEN: return remainder_of(r, "even", v, value_int(2)) == 0;
    case IS_DIVISIBLE: return remainder_of(r, "divisibleby", v, a->at[0]) == 0;
    case IS_UPPER: return has_case(r, v, 1);
    case IS_LOWER: return has_case(r, v, 0);
    case IS_FILTER: return v.type == V_STR && filter_find(v.at, v.n) >= 0;
    case IS_TEST: return v.type == V_STR && test_find(v.at, v.n) >= 0;
    default: return compares(r, kind, v, a->at[0]);
    }
}
