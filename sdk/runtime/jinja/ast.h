/* ast.h - a template after parsing: tokens, and the tree that eval.c walks.
 *
 * Everything lives in the template's arena and is only read after jinja_compile. */
#ifndef SQZ_RUNTIME_JINJA_AST_H
#define SQZ_RUNTIME_JINJA_AST_H
#include "jinja/jinja.h"
#include "jinja/value.h"

/* ---- tokens ---------------------------------------------------------------------------------- */
typedef enum token_type {
    T_END,
    T_DATA,   /* text outside of tags */
    T_OPEN,   /* {{ */
    T_CLOSE,  /* }} */
    T_BEGIN,  /* {% */
    T_FINISH, /* %} */
    T_NAME,
    T_STRING,
    T_NUMBER,
    T_SIGN /* operator or bracket */
} token_type;

typedef struct token {
    token_type type;
    int line;
    const char *at; /* T_DATA, T_NAME, T_SIGN: the text */
    int64_t n;
    value value; /* T_STRING, T_NUMBER */
} token;

typedef struct token_list {
    token *at;
    int64_t n, room;
} token_list;

/* Cuts the source into tokens, the last one T_END; fails through the run. */
void jinja_lex(run *, const char *source, int64_t bytes, token_list *out);

/* ---- tree ------------------------------------------------------------------------------------ */
typedef enum node_kind {
    /* statements */
    N_BODY,     /* items */
    N_TEXT,     /* constant */
    N_PRINT,    /* a */
    N_FOR,      /* a target, b iterable, c body, d else or NULL, e condition or NULL */
    N_IF,       /* items: condition, body, condition, body...; d else or NULL */
    N_SET,      /* a target, b value */
    N_SET_BODY, /* a target, b filters on N_HOLE or NULL, c body */
    N_MACRO,    /* name; items: parameters (N_NAME); values[]: defaults of the last ones; c body */
    N_WITH,     /* items: targets; values[]; c body */
    N_FILTERED, /* b filters on N_HOLE, c body */
    N_SCOPED,   /* c body, in a scope of its own: generation */
    N_BREAK,
    N_CONTINUE,
    /* targets and expressions */
    N_NAME,    /* name */
    N_FIELD,   /* target ns.attr: name, constant = attr */
    N_CONST,   /* constant */
    N_HOLE,    /* what a block filter is applied to */
    N_TUPLE,   /* items */
    N_LIST,    /* items */
    N_DICT,    /* items keys, values[] */
    N_COND,    /* a if b else c (NULL: undefined) */
    N_AND,     /* a, b */
    N_OR,      /* a, b */
    N_NOT,     /* a */
    N_COMPARE, /* a; items: operands; ops[] */
    N_BINARY,  /* a, b; op */
    N_CONCAT,  /* items */
    N_NEGATE,  /* a */
    N_PLUS,    /* a */
    N_ATTR,    /* a; constant */
    N_ITEM,    /* a, b */
    N_SLICE,   /* a; b from, c to, d step, each or NULL */
    N_CALL,    /* a; items; keywords */
    N_FILTER,  /* a; which; items; keywords */
    N_TEST     /* a; which; items; keywords */
} node_kind;

typedef enum operator_kind {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
} operator_kind;

typedef struct node node;
struct node {
    node_kind kind;
    int line;
    operator_kind op;
    int which; /* index of a filter or test */
    node *a, *b, *c, *d, *e;
    node **items;
    int64_t n;
    node **values;
    int64_t n_values;
    const char **keywords; /* [n_values] names of values[], in calls */
    operator_kind *ops;    /* [n] */
    const char *name;      /* interned: equal names have equal pointers */
    value constant;
};

typedef struct name {
    struct name *next;
    const char *text;
} name;

struct jinja {
    arena memory; /* of names */
    arena nodes;  /* of the source, the tokens and the tree */
    char *title;  /* for messages */
    const char *source;
    node *body;
    name *names;
    const char *loop, *caller, *varargs, *kwargs; /* interned */
};

/* The interned form of a name: jinja_find gives NULL for one that the template does not use,
 * jinja_name adds it (NULL: no memory). */
const char *jinja_find(const struct jinja *, const char *text, int64_t n);
const char *jinja_name(struct jinja *, const char *text, int64_t n);
/* Builds t->body; fails through the run. */
void jinja_parse(run *, struct jinja *t, const token_list *);
/* expression.c, for parse.c */
typedef struct parser {
    run *r;
    struct jinja *t;
    const token *at; /* the current token */
    int depth, loops;
    int in_macro;
} parser;
node *node_new(parser *, node_kind);
void node_add(parser *, node *, node *item);
void node_add_value(parser *, node *, node *item, const char *keyword);
node *parse_expression(parser *);
/* A tuple without parentheses; conditions: `a if b else c` may be in it. */
node *parse_tuple(parser *, int conditions, const char *stop);
node *parse_filters(parser *, node *operand, int first_without_pipe);
void parser_advance(parser *); /* to the next token, never past the end */
int at_sign(const parser *, const char *sign);
int at_word(const parser *, const char *word);
int take_sign(parser *, const char *sign); /* and advance */
int take_word(parser *, const char *word);
void expect_sign(parser *, const char *sign);
const char *take_name(parser *); /* interned; NULL after a failure */
int parser_enter(parser *);      /* 0: too deep.  Undone by p->depth-- */
value parse_fail(parser *, const char *what);
#endif
