/* value.h - what a template computes with: Python's values as far as templates see them.
 *
 * Values live in the arena of one rendering (or, constants, of one template) and are never freed
 * singly.  A failure is kept in the run: the first one wins, later calls return undefined, and
 * loops look at `failed`. */
#ifndef SQZ_RUNTIME_JINJA_VALUE_H
#define SQZ_RUNTIME_JINJA_VALUE_H
#include "error/error.h"
#include "json/json.h"
#include "tokenizer/pieces.h"

/* ---- memory of one template or one rendering ------------------------------------------------- */
typedef struct arena {
    struct chunk *chunks;
    int64_t used, limit; /* bytes */
} arena;
void *arena_take(arena *, int64_t bytes); /* zeroed; NULL without memory or beyond the limit */
void arena_free(arena *);

/* ---- values ---------------------------------------------------------------------------------- */
typedef enum value_type {
    V_UNDEFINED, /* at: the name that has no value */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR, /* UTF-8, at[0..n) */
    V_LIST,
    V_TUPLE,
    V_RANGE,    /* a list that prints as no list does */
    V_VIEW,     /* keys(), values(), items() of a dictionary */
    V_ITERATOR, /* what filters such as map give: read once, no length, always true */
    V_DICT,
    V_NAMESPACE,
    V_MACRO,
    V_FUNCTION, /* raise_exception and friends */
    V_METHOD,   /* of a text, list or dictionary */
    V_LOOP
} value_type;

typedef struct value {
    uint8_t type;   /* value_type */
    uint8_t markup; /* V_STR: went through `safe`, after which Jinja escapes what is added */
    uint16_t which; /* V_FUNCTION, V_METHOD: index of a table; V_VIEW: 0 keys, 1 values, 2 items */
    int64_t n;      /* V_STR, V_UNDEFINED: bytes */
    union {
        int64_t i; /* also V_BOOL */
        double f;
        const char *at;
        struct list *list;
        struct dict *dict; /* also V_NAMESPACE */
        struct macro *macro;
        struct bound *bound;
        struct loop *loop;
    };
} value;

typedef struct list {
    value *at;
    int64_t n, room;
    int64_t next; /* V_ITERATOR: what is left begins here */
} list;

typedef struct entry {
    value key, value;
} entry;
typedef struct dict {
    entry *at; /* in order of insertion */
    int64_t n, room;
} dict;

typedef struct bound { /* a method and what it belongs to */
    value self;
} bound;

/* ---- one rendering --------------------------------------------------------------------------- */
typedef struct run {
    const struct jinja *template;
    arena memory;
    text_buffer *out;
    const char *name;
    int line; /* of what is evaluated */
    int failed;
    int depth;
    int64_t steps, output_limit, now_s;
    sqz_error *err;
} run;

/* Records the first failure with the template's name and line; returns undefined. */
__attribute__((format(printf, 3, 4))) value render_fail(run *, sqz_status code, const char *fmt,
                                                        ...);
/* n steps of work; 0 when the limit is reached (which is a failure). */
int render_step(run *, int64_t n);

/* ---- making values --------------------------------------------------------------------------- */
value value_undefined(const char *name, int64_t n);
value value_none(void);
value value_bool(int);
value value_int(int64_t);
value value_float(double);
value value_str(const char *borrowed, int64_t n);
value value_copy(run *, const char *bytes, int64_t n);
value value_take(run *, text_buffer *); /* the buffer's text; the buffer is emptied and freed */
value value_list_new(run *, value_type, int64_t room);
int list_add(run *, list *, value); /* 0 on failure */
value value_dict_new(run *, value_type);
int dict_put(run *, dict *, value key, value);
value value_from_json(run *, const cJSON *, int depth);

/* ---- asking values --------------------------------------------------------------------------- */
int value_is_str(value, const char *text);
int value_is_number(value);   /* bool, int, float: Python's numbers */
int value_is_key(value);      /* hashable: no list, no dictionary, no tuple of tuples or of these */
int value_is_listlike(value); /* list, tuple, range, view */
int value_true(value);
const char *value_word(value); /* Python's name of the type, for messages */
double value_as_double(value);
int value_equal(run *, value, value, int depth);
int value_less(run *, value, value, int depth); /* fails where Python does */
int value_contains(run *, value needle, value hay);
value *dict_find(run *, const dict *, value key);
int64_t value_length(run *, value); /* Python's len */
/* Everything an iteration gives; uses an iterator up. */
value value_iterate(run *, value);
value value_index(run *, value object, value key, int *found); /* object[key] of data, no methods */
value value_slice(run *, value object, value from, value to, value step);

/* str() and repr() */
void value_print(run *, value, text_buffer *);
void value_repr(run *, value, text_buffer *, int depth);
value value_to_str(run *, value);
typedef struct json_style {
    int ascii, sort;
    const char *indent; /* NULL = one line */
    int64_t n_indent;
    value item_separator, key_separator;
} json_style;
void value_json(run *, value, const json_style *, text_buffer *, int depth);
#endif
