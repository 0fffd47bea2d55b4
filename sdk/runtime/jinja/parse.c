/* parse.c - the tree of a template: its statements (expression.c has the expressions). */
#include "jinja/ast.h"
#include "jinja/builtin.h"
#include <string.h>

static node *parse_body(parser *p, const char *const *ends);

static void expect_finish(parser *p)
{
    if (p->r->failed) return;
    if (p->at->type != T_FINISH)
        parse_fail(p, "expected the end of the tag, %}");
    else
        parser_advance(p);
}

/* Is the word one of a NULL-terminated list? */
static int at_one_of(const parser *p, const char *const *words)
{
    for (; words && *words; words++)
        if (at_word(p, *words)) return 1;
    return 0;
}

/* The rest of a tag, its body up to {% end %}, and that end. */
static node *block_until(parser *p, const char *const *ends)
{
    expect_finish(p);
    return parse_body(p, ends);
}

/* ---- targets --------------------------------------------------------------------------------- */

static node *parse_target_item(parser *p, int fields)
{
    static const char *const reserved[] = {"true", "True", "false", "False", "none", "None", NULL};
    node *n = node_new(p, N_NAME);
    if (take_sign(p, "(")) {
        n->kind = N_TUPLE;
        while (!p->r->failed && !at_sign(p, ")")) {
            if (!parser_enter(p)) break;
            node_add(p, n, parse_target_item(p, fields));
            p->depth--;
            if (!take_sign(p, ",")) break;
        }
        expect_sign(p, ")");
        return n;
    }
    if (at_one_of(p, reserved)) parse_fail(p, "nothing can be assigned to this name");
    n->name = take_name(p);
    if (fields && at_sign(p, ".") && p->at[1].type == T_NAME) {
        n->kind = N_FIELD;
        n->constant = value_str(p->at[1].at, p->at[1].n);
        p->at += 2;
    }
    return n;
}

static node *parse_target(parser *p, int fields, const char *stop)
{
    node *first = parse_target_item(p, fields);
    if (!at_sign(p, ",")) return first;
    node *tuple = node_new(p, N_TUPLE);
    node_add(p, tuple, first);
    while (!p->r->failed && take_sign(p, ",") && !(stop && at_word(p, stop)) && !at_sign(p, "="))
        node_add(p, tuple, parse_target_item(p, fields));
    return tuple;
}

/* ---- statements ------------------------------------------------------------------------------ */

static node *parse_if(parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif",
                                                                                        NULL};
    node *n = node_new(p, N_IF);
    parser_advance(p);
    for (;;) {
        node_add(p, n, parse_tuple(p, 0, NULL));
        node_add(p, n, block_until(p, ends));
        if (p->r->failed || !take_word(p, "elif")) break;
    }
    if (take_word(p, "else")) n->d = block_until(p, last);
    if (!p->r->failed && !take_word(p, "endif")) parse_fail(p, "expected endif");
    expect_finish(p);
    return n;
}

static node *parse_for(parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    node *n = node_new(p, N_FOR);
    parser_advance(p);
    if (at_word(p, "loop")) parse_fail(p, "a loop cannot assign to loop");
    n->a = parse_target(p, 0, "in");
    if (!p->r->failed && !take_word(p, "in")) parse_fail(p, "expected \"in\"");
    n->b = parse_tuple(p, 0, "recursive");
    if (take_word(p, "if")) n->e = parse_expression(p);
    if (at_word(p, "recursive")) {
        p->r->line = p->at->line;
        render_fail(p->r, SQZ_E_UNSUPPORTED, "recursive loops are not supported");
    }
    p->loops++;
    n->c = block_until(p, ends);
    p->loops--;
    if (take_word(p, "else")) n->d = block_until(p, last);
    if (!p->r->failed && !take_word(p, "endfor")) parse_fail(p, "expected endfor");
    expect_finish(p);
    return n;
}

/* Statements whose body is a function in Jinja: a break in them cannot leave a loop outside. */
static node *separate_body(parser *p, const char *const *ends, int macro)
{
    int loops = p->loops, in_macro = p->in_macro;
    p->loops = 0;
    p->in_macro |= macro;
    node *body = block_until(p, ends);
    p->loops = loops;
    p->in_macro = in_macro;
    parser_advance(p); /* the end word */
    expect_finish(p);
    return body;
}

static node *parse_set(parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    node *n = node_new(p, N_SET);
    parser_advance(p);
    n->a = parse_target(p, 1, NULL);
    if (take_sign(p, "=")) {
        n->b = parse_tuple(p, 1, NULL);
        expect_finish(p);
        return n;
    }
    n->kind = N_SET_BODY;
    if (at_sign(p, "|")) n->b = parse_filters(p, node_new(p, N_HOLE), 0);
    int loops = p->loops;
    n->c = block_until(p, ends);
    p->loops = loops;
    parser_advance(p);
    expect_finish(p);
    return n;
}

static node *parse_macro(parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    node *n = node_new(p, N_MACRO);
    parser_advance(p);
    n->name = take_name(p);
    expect_sign(p, "(");
    while (!p->r->failed && !at_sign(p, ")")) {
        if (n->n) expect_sign(p, ",");
        node *parameter = node_new(p, N_NAME);
        parameter->name = take_name(p);
        node_add(p, n, parameter);
        if (take_sign(p, "="))
            node_add_value(p, n, parse_expression(p), NULL);
        else if (n->n_values)
            parse_fail(p, "a parameter without a default behind one with");
        if (n->n > MAX_ARGUMENTS) parse_fail(p, "too many parameters");
    }
    expect_sign(p, ")");
    n->c = separate_body(p, ends, 1);
    return n;
}

static node *parse_with(parser *p)
{
    static const char *const ends[] = {"endwith", NULL};
    node *n = node_new(p, N_WITH);
    parser_advance(p);
    while (!p->r->failed && p->at->type != T_FINISH) {
        if (n->n) expect_sign(p, ",");
        node_add(p, n, parse_target_item(p, 0));
        expect_sign(p, "=");
        node_add_value(p, n, parse_expression(p), NULL);
    }
    n->c = block_until(p, ends);
    parser_advance(p);
    expect_finish(p);
    return n;
}

static node *parse_filtered(parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    node *n = node_new(p, N_FILTERED);
    parser_advance(p);
    n->b = parse_filters(p, node_new(p, N_HOLE), 1);
    n->c = block_until(p, ends);
    parser_advance(p);
    expect_finish(p);
    return n;
}

static node *parse_generation(parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    node *n = node_new(p, N_SCOPED);
    parser_advance(p);
    n->c = separate_body(p, ends, 0);
    return n;
}

static node *parse_jump(parser *p)
{
    node *n = node_new(p, at_word(p, "break") ? N_BREAK : N_CONTINUE);
    if (!p->loops) parse_fail(p, "outside of a loop");
    parser_advance(p);
    expect_finish(p);
    return n;
}

static node *parse_statement(parser *p)
{
    static const struct {
        const char *word;
        node *(*parse)(parser *);
    } table[] = {
        {"if", parse_if},       {"for", parse_for},       {"set", parse_set},
        {"macro", parse_macro}, {"with", parse_with},     {"filter", parse_filtered},
        {"break", parse_jump},  {"continue", parse_jump}, {"generation", parse_generation}};
    static const char *const refused[] = {"block", "extends",    "include", "import", "from",
                                          "call",  "autoescape", "print",   "trans",  "do",
                                          "debug", "pluralize",  NULL};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (at_word(p, table[i].word)) return table[i].parse(p);
    if (at_one_of(p, refused)) {
        p->r->line = p->at->line;
        render_fail(p->r, SQZ_E_UNSUPPORTED, "the tag \"%.*s\" is not supported", (int)p->at->n,
                    p->at->at);
    }
    parse_fail(p, "unknown tag");
    return node_new(p, N_BODY);
}

/* Ends at the first tag that is one of the words, with that word as the current token. */
static node *parse_body(parser *p, const char *const *ends)
{
    node *body = node_new(p, N_BODY);
    if (!parser_enter(p)) return body;
    while (!p->r->failed) {
        token_type type = p->at->type;
        if (type == T_END) {
            if (ends) {
                p->r->line = body->line;
                render_fail(p->r, ERR_MODEL, "the block that begins here has no %s",
                            ends[1] ? ends[ends[2] != NULL ? 2 : 1] : ends[0]);
            }
            break;
        }
        node *n = node_new(p, type == T_DATA ? N_TEXT : N_PRINT);
        const token *t = p->at;
        parser_advance(p);
        if (type == T_DATA) {
            n->constant = value_str(t->at, t->n);
        } else if (type == T_OPEN) {
            n->a = parse_tuple(p, 1, NULL);
            if (!p->r->failed && p->at->type != T_CLOSE) parse_fail(p, "expected }}");
            parser_advance(p);
        } else {
            if (at_one_of(p, ends)) break;
            n = parse_statement(p);
        }
        node_add(p, body, n);
    }
    p->depth--;
    return body;
}

void jinja_parse(run *r, struct jinja *t, const token_list *tokens)
{
    parser p = {.r = r, .t = t, .at = tokens->at};
    if (!r->failed) t->body = parse_body(&p, NULL);
}
