/* expression.c - the tree of an expression; precedence as in Jinja's own parser:
 * if-else, or, and, not, comparisons, + -, ~, * / // %, **, unary, postfix, filters and tests. */
#include "jinja/ast.h"
#include "jinja/builtin.h"
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 150 };

static node *parse_unary(parser *p, int with_filters);
static node *parse_or(parser *p);
static void parse_arguments(parser *p, node *call);

/* ---- the parser's small words ---------------------------------------------------------------- */

value parse_fail(parser *p, const char *what)
{
    p->r->line = p->at->line;
    int n = p->at->n > 40 ? 40 : (int)p->at->n;
    if (p->at->type == T_NAME || p->at->type == T_SIGN || p->at->type == T_STRING ||
        p->at->type == T_NUMBER)
        return render_fail(p->r, ERR_MODEL, "%s, at \"%.*s\"", what, n, p->at->at);
    return render_fail(p->r, ERR_MODEL, "%s", what);
}

int parser_enter(parser *p)
{
    if (++p->depth > MAX_DEPTH) parse_fail(p, "the template is nested too deeply");
    return !p->r->failed;
}

void parser_advance(parser *p)
{
    if (!p->r->failed && p->at->type != T_END) p->at++;
}

int at_sign(const parser *p, const char *sign)
{
    return p->at->type == T_SIGN && (size_t)p->at->n == strlen(sign) &&
           !memcmp(p->at->at, sign, strlen(sign));
}

int at_word(const parser *p, const char *word)
{
    return p->at->type == T_NAME && (size_t)p->at->n == strlen(word) &&
           !memcmp(p->at->at, word, strlen(word));
}

int take_sign(parser *p, const char *sign)
{
    int hit = at_sign(p, sign);
    p->at += hit;
    return hit;
}

int take_word(parser *p, const char *word)
{
    int hit = at_word(p, word);
    p->at += hit;
    return hit;
}

void expect_sign(parser *p, const char *sign)
{
    char text[64];
    if (p->r->failed || take_sign(p, sign)) return;
    snprintf(text, sizeof text, "expected '%s'", sign);
    parse_fail(p, text);
}

const char *take_name(parser *p)
{
    if (p->r->failed) return NULL;
    if (p->at->type != T_NAME) {
        parse_fail(p, "expected a name");
        return NULL;
    }
    const char *name = jinja_name(p->t, p->at->at, p->at->n);
    if (!name) render_fail(p->r, SQZ_E_NOMEM, "the template is too large");
    parser_advance(p);
    return name;
}

/* Never NULL: after a failure a scratch node that nobody evaluates. */
node *node_new(parser *p, node_kind kind)
{
    static _Thread_local node scratch;
    node *n = p->r->failed ? NULL : arena_take(&p->r->memory, sizeof *n);
    if (!n) {
        render_fail(p->r, SQZ_E_NOMEM, "the template is too large");
        n = &scratch;
        memset(n, 0, sizeof *n);
    }
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

/* Doubles at every power of two. */
static void *grow(parser *p, void *old, int64_t n, size_t size)
{
    if (n & (n - 1)) return old;
    void *more = p->r->failed ? NULL : arena_take(&p->r->memory, (n ? n * 2 : 1) * (int64_t)size);
    if (!more) {
        render_fail(p->r, SQZ_E_NOMEM, "the template is too large");
        return NULL;
    }
    if (n) memcpy(more, old, (size_t)n * size);
    return more;
}

void node_add(parser *p, node *n, node *item)
{
    node **items = grow(p, n->items, n->n, sizeof *items);
    if (!items || p->r->failed) return;
    n->items = items;
    n->items[n->n++] = item;
}

void node_add_value(parser *p, node *n, node *item, const char *keyword)
{
    node **values = grow(p, n->values, n->n_values, sizeof *values);
    const char **keywords = grow(p, n->keywords, n->n_values, sizeof *keywords);
    if (!values || !keywords || p->r->failed) return;
    n->values = values;
    n->keywords = keywords;
    n->values[n->n_values] = item;
    n->keywords[n->n_values++] = keyword;
}

static node *pair(parser *p, node_kind kind, node *a, node *b)
{
    node *n = node_new(p, kind);
    n->a = a;
    n->b = b;
    return n;
}

/* ---- primaries ------------------------------------------------------------------------------- */

static node *constant(parser *p, value v)
{
    node *n = node_new(p, N_CONST);
    n->constant = v;
    return n;
}

static node *parse_word(parser *p)
{
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    for (int i = 0; i < 6; i++)
        if (at_word(p, words[i])) {
            node *n = constant(p, i < 4 ? value_bool(i < 2) : value_none());
            parser_advance(p);
            return n;
        }
    node *n = node_new(p, N_NAME);
    n->name = take_name(p);
    if (p->in_macro && n->name &&
        (n->name == p->t->varargs || n->name == p->t->kwargs || n->name == p->t->caller)) {
        p->r->line = n->line;
        render_fail(p->r, SQZ_E_UNSUPPORTED, "\"%s\" in a macro is not supported", n->name);
    }
    return n;
}

/* Strings beside each other are one. */
static node *parse_strings(parser *p)
{
    node *n = node_new(p, N_CONST);
    text_buffer text = {0};
    for (; p->at->type == T_STRING && !p->r->failed; parser_advance(p))
        text_add(&text, p->at->value.at, p->at->value.n);
    n->constant = value_take(p->r, &text);
    return n;
}

static node *parse_list(parser *p)
{
    node *n = node_new(p, N_LIST);
    parser_advance(p);
    while (!p->r->failed && !at_sign(p, "]")) {
        if (n->n) expect_sign(p, ",");
        if (at_sign(p, "]")) break;
        node_add(p, n, parse_expression(p));
    }
    expect_sign(p, "]");
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = node_new(p, N_DICT);
    parser_advance(p);
    while (!p->r->failed && !at_sign(p, "}")) {
        if (n->n) expect_sign(p, ",");
        if (at_sign(p, "}")) break;
        node *key = parse_expression(p);
        expect_sign(p, ":");
        node_add(p, n, key);
        node_add_value(p, n, parse_expression(p), NULL);
    }
    expect_sign(p, "}");
    return n;
}

static node *parse_parentheses(parser *p)
{
    parser_advance(p);
    if (take_sign(p, ")")) return node_new(p, N_TUPLE);
    node *n = parse_tuple(p, 1, NULL);
    expect_sign(p, ")");
    return n;
}

static node *parse_primary(parser *p)
{
    if (p->r->failed) return node_new(p, N_CONST);
    switch (p->at->type) {
    case T_NAME: return parse_word(p);
    case T_STRING: return parse_strings(p);
    case T_NUMBER: {
        node *n = constant(p, p->at->value);
        parser_advance(p);
        return n;
    }
    default: break;
    }
    if (at_sign(p, "(")) return parse_parentheses(p);
    if (at_sign(p, "[")) return parse_list(p);
    if (at_sign(p, "{")) return parse_dict(p);
    parse_fail(p, "expected an expression");
    return node_new(p, N_CONST);
}

/* ---- postfix: .name [item] (call) ------------------------------------------------------------ */

static node *parse_subscript(parser *p, node *object)
{
    node *from = NULL, *n;
    parser_advance(p);
    if (!at_sign(p, ":")) from = parse_expression(p);
    if (!at_sign(p, ":")) {
        n = pair(p, N_ITEM, object, from);
        if (at_sign(p, ",")) parse_fail(p, "an index of several parts is not supported");
    } else {
        n = pair(p, N_SLICE, object, from);
        parser_advance(p);
        if (!at_sign(p, "]") && !at_sign(p, ":")) n->c = parse_expression(p);
        if (take_sign(p, ":") && !at_sign(p, "]")) n->d = parse_expression(p);
    }
    expect_sign(p, "]");
    return n;
}

static node *parse_member(parser *p, node *object)
{
    parser_advance(p);
    node *n = node_new(p, N_ATTR);
    n->a = object;
    if (p->at->type == T_NAME) {
        n->constant = value_str(p->at->at, p->at->n);
    } else if (p->at->type == T_NUMBER && p->at->value.type == V_INT) {
        n->kind = N_ITEM;
        n->b = constant(p, p->at->value);
    } else {
        parse_fail(p, "expected a name behind the dot");
    }
    parser_advance(p);
    return n;
}

static node *parse_call(parser *p, node *callee)
{
    node *n = node_new(p, N_CALL);
    n->a = callee;
    parse_arguments(p, n);
    return n;
}

static void parse_arguments(parser *p, node *call)
{
    expect_sign(p, "(");
    for (int first = 1; !p->r->failed && !at_sign(p, ")"); first = 0) {
        if (!first) expect_sign(p, ",");
        if (at_sign(p, ")")) break;
        if (at_sign(p, "*") || at_sign(p, "**")) {
            p->r->line = p->at->line;
            render_fail(p->r, SQZ_E_UNSUPPORTED, "* and ** arguments are not supported");
        } else if (p->at->type == T_NAME && p->at[1].type == T_SIGN && p->at[1].n == 1 &&
                   p->at[1].at[0] == '=') {
            const char *name = take_name(p);
            parser_advance(p);
            node_add_value(p, call, parse_expression(p), name);
        } else if (call->n_values) {
            parse_fail(p, "a positional argument behind a named one");
        } else {
            node_add(p, call, parse_expression(p));
        }
        if (call->n + call->n_values > MAX_ARGUMENTS) parse_fail(p, "too many arguments");
    }
    expect_sign(p, ")");
}

static node *parse_postfix(parser *p, node *n)
{
    while (!p->r->failed) {
        if (at_sign(p, "."))
            n = parse_member(p, n);
        else if (at_sign(p, "["))
            n = parse_subscript(p, n);
        else if (at_sign(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- filters and tests ----------------------------------------------------------------------- */

static node *parse_filter(parser *p, node *operand)
{
    node *n = node_new(p, N_FILTER);
    if (p->at->type != T_NAME) parse_fail(p, "expected the name of a filter");
    n->a = operand;
    n->which = p->r->failed ? 0 : filter_find(p->at->at, p->at->n);
    if (n->which < 0) {
        p->r->line = p->at->line;
        render_fail(p->r, SQZ_E_UNSUPPORTED, "the filter \"%.*s\" is not supported",
                    p->at->n > 60 ? 60 : (int)p->at->n, p->at->at);
    }
    parser_advance(p);
    if (at_sign(p, "(")) parse_arguments(p, n);
    return n;
}

node *parse_filters(parser *p, node *operand, int first_without_pipe)
{
    if (first_without_pipe) operand = parse_filter(p, operand);
    while (!p->r->failed && take_sign(p, "|")) operand = parse_filter(p, operand);
    return operand;
}

static int starts_argument(const parser *p)
{
    if (p->at->type == T_STRING || p->at->type == T_NUMBER) return 1;
    if (p->at->type == T_NAME)
        return !at_word(p, "else") && !at_word(p, "and") && !at_word(p, "or");
    return at_sign(p, "(") || at_sign(p, "[") || at_sign(p, "{");
}

static node *parse_test(parser *p, node *operand)
{
    parser_advance(p); /* is */
    int not = take_word(p, "not");
    node *n = node_new(p, N_TEST);
    n->a = operand;
    if (p->at->type != T_NAME) parse_fail(p, "expected the name of a test");
    n->which = p->r->failed ? 0 : test_find(p->at->at, p->at->n);
    if (n->which < 0) {
        p->r->line = p->at->line;
        render_fail(p->r, SQZ_E_UNSUPPORTED, "the test \"%.*s\" is not supported",
                    p->at->n > 60 ? 60 : (int)p->at->n, p->at->at);
    }
    parser_advance(p);
    if (p->r->failed) return n;
    if (at_sign(p, "("))
        parse_arguments(p, n);
    else if (at_word(p, "is"))
        parse_fail(p, "tests cannot follow each other");
    else if (starts_argument(p))
        node_add(p, n, parse_postfix(p, parse_primary(p)));
    return not ? pair(p, N_NOT, n, NULL) : n;
}

static node *parse_filters_and_tests(parser *p, node *n)
{
    while (!p->r->failed) {
        if (at_sign(p, "|"))
            n = parse_filters(p, n, 0);
        else if (at_word(p, "is"))
            n = parse_test(p, n);
        else if (at_sign(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- operators, from the tightest to the loosest --------------------------------------------- */

static node *parse_unary(parser *p, int with_filters)
{
    node *n;
    if (!parser_enter(p)) return node_new(p, N_CONST);
    if (at_sign(p, "-") || at_sign(p, "+")) {
        node_kind kind = at_sign(p, "-") ? N_NEGATE : N_PLUS;
        parser_advance(p);
        n = pair(p, kind, parse_unary(p, 0), NULL);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (with_filters) n = parse_filters_and_tests(p, n);
    p->depth--;
    return n;
}

static node *binary(parser *p, operator_kind op, node *a, node *b)
{
    node *n = pair(p, N_BINARY, a, b);
    n->op = op;
    return n;
}

static node *parse_power(parser *p)
{
    node *n = parse_unary(p, 1);
    while (!p->r->failed && take_sign(p, "**")) n = binary(p, OP_POW, n, parse_unary(p, 1));
    return n;
}

static node *parse_product(parser *p)
{
    static const struct {
        const char *sign;
        operator_kind op;
    } signs[] = {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR}, {"%", OP_MOD}};
    node *n = parse_power(p);
    for (size_t i = 0; !p->r->failed && i < 4;) {
        if (take_sign(p, signs[i].sign)) {
            n = binary(p, signs[i].op, n, parse_power(p));
            i = 0;
        } else {
            i++;
        }
    }
    return n;
}

static node *parse_concat(parser *p)
{
    node *first = parse_product(p);
    if (!at_sign(p, "~")) return first;
    node *n = node_new(p, N_CONCAT);
    node_add(p, n, first);
    while (!p->r->failed && take_sign(p, "~")) node_add(p, n, parse_product(p));
    return n;
}

static node *parse_sum(parser *p)
{
    node *n = parse_concat(p);
    while (!p->r->failed) {
        if (take_sign(p, "+"))
            n = binary(p, OP_ADD, n, parse_concat(p));
        else if (take_sign(p, "-"))
            n = binary(p, OP_SUB, n, parse_concat(p));
        else
            break;
    }
    return n;
}

static int take_comparison(parser *p, operator_kind *op)
{
    static const struct {
        const char *sign;
        operator_kind op;
    } signs[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
                 {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (size_t i = 0; i < 6; i++)
        if (take_sign(p, signs[i].sign)) {
            *op = signs[i].op;
            return 1;
        }
    *op = OP_IN;
    if (take_word(p, "in")) return 1;
    if (!at_word(p, "not") || p->at[1].type != T_NAME || p->at[1].n != 2 ||
        memcmp(p->at[1].at, "in", 2) != 0)
        return 0;
    *op = OP_NOT_IN;
    p->at += 2;
    return 1;
}

static node *parse_comparison(parser *p)
{
    node *first = parse_sum(p), *n = NULL;
    operator_kind op;
    while (!p->r->failed && take_comparison(p, &op)) {
        if (!n) {
            n = node_new(p, N_COMPARE);
            n->a = first;
        }
        operator_kind *ops = grow(p, n->ops, n->n, sizeof *ops);
        if (!ops) break;
        n->ops = ops;
        n->ops[n->n] = op;
        node_add(p, n, parse_sum(p));
    }
    return n ? n : first;
}

static node *parse_not(parser *p)
{
    if (!at_word(p, "not")) return parse_comparison(p);
    if (!parser_enter(p)) return node_new(p, N_CONST);
    parser_advance(p);
    node *n = pair(p, N_NOT, parse_not(p), NULL);
    p->depth--;
    return n;
}

static node *parse_and(parser *p)
{
    node *n = parse_not(p);
    while (!p->r->failed && take_word(p, "and")) n = pair(p, N_AND, n, parse_not(p));
    return n;
}

static node *parse_or(parser *p)
{
    node *n = parse_and(p);
    while (!p->r->failed && take_word(p, "or")) n = pair(p, N_OR, n, parse_and(p));
    return n;
}

node *parse_expression(parser *p)
{
    if (!parser_enter(p)) return node_new(p, N_CONST);
    node *n = parse_or(p);
    while (!p->r->failed && take_word(p, "if")) {
        n = pair(p, N_COND, n, parse_or(p));
        if (take_word(p, "else")) n->c = parse_expression(p);
    }
    p->depth--;
    return n;
}

/* Does a list without parentheses end here? */
static int tuple_ends(const parser *p, const char *stop)
{
    return p->at->type == T_FINISH || p->at->type == T_CLOSE || p->at->type == T_END ||
           at_sign(p, ")") || (stop && at_word(p, stop));
}

node *parse_tuple(parser *p, int conditions, const char *stop)
{
    node *n = conditions ? parse_expression(p) : parse_or(p);
    if (!at_sign(p, ",")) return n;
    node *tuple = node_new(p, N_TUPLE);
    node_add(p, tuple, n);
    while (!p->r->failed && take_sign(p, ",") && !tuple_ends(p, stop))
        node_add(p, tuple, conditions ? parse_expression(p) : parse_or(p));
    return tuple;
}
