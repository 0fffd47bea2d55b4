/* eval.h - what runs a tree: scopes, macros, loops; shared by eval.c (statements) and
 * calculate.c (expressions). */
#ifndef SQZ_RUNTIME_JINJA_EVAL_H
#define SQZ_RUNTIME_JINJA_EVAL_H
#include "jinja/ast.h"
#include "jinja/builtin.h"

typedef struct binding {
    struct binding *next;
    const char *name; /* interned */
    value value;
} binding;
typedef struct scope {
    struct scope *parent;
    binding *first;
} scope;

typedef struct macro {
    const node *node;
    scope *home; /* where it was defined: what its free names mean */
} macro;

typedef struct loop {
    const list *items;
    int64_t at;
    value seen; /* of loop.changed */
} loop;

value render_expression(run *, scope *, const node *);
/* Output goes to r->out.  What a statement leaves with: */
typedef enum leave { LEAVE_NOT, LEAVE_BREAK, LEAVE_CONTINUE } leave;
leave render_statement(run *, scope *, const node *);
/* The text that a body puts out, in a scope of its own. */
value render_capture(run *, scope *parent, const node *body);
scope *scope_new(run *, scope *parent);
void scope_set(run *, scope *, const char *name, value);
const value *scope_find(const scope *, const char *name); /* NULL: nowhere */
value macro_call(run *, const macro *, const arguments *);
value loop_attribute(run *, value loop, value name);
value loop_call(run *, value method, const arguments *);
int render_enter(run *); /* 0: too deep; undone by r->depth-- */
/* Applies the filters of a block to its text. */
value apply_filters(run *, scope *, const node *filters, value text);
#endif
