/* builtin.h - what a template may call: filters, tests, methods of texts and collections,
 * functions.
 *
 * To add one: a function with the table's signature and a row in the table of its file. */
#ifndef SQZ_RUNTIME_JINJA_BUILTIN_H
#define SQZ_RUNTIME_JINJA_BUILTIN_H
#include "jinja/value.h"

enum { MAX_ARGUMENTS = 32 };

typedef struct arguments {
    value at[MAX_ARGUMENTS]; /* positional, then named */
    const char *names[MAX_ARGUMENTS];
    int n, n_named; /* at[n + k] belongs to names[n + k] */
} arguments;

/* Argument number `index`, or the one of that name, or the fallback. */
value argument(const arguments *, int index, const char *name, value fallback);
int has_argument(const arguments *, int index, const char *name);
/* Fails unless every argument is one of these names ("a b c"); `least` must be there. */
int arguments_check(run *, const char *what, const arguments *, int least, const char *names);
int64_t argument_int(run *, const char *what, value);
value argument_str(run *, const char *what, value); /* fails unless a string */

/* Indices are stable within one program; -1: unknown. */
int filter_find(const char *name, int64_t n);
int test_find(const char *name, int64_t n);
int function_find(const char *name, int64_t n);
value filter_apply(run *, int which, value, const arguments *);
int test_apply(run *, int which, value, const arguments *);
value function_call(run *, int which, const arguments *);

/* The method of that name as a value; undefined when there is none.  Methods that change their
 * object, and methods of Python that are not built, fail by name. */
value method_find(run *, value self, const char *name, int64_t n);
value method_call(run *, value method, const arguments *);

/* obj.name: a method first, then a member.  obj[key]: a member first. */
value attribute_get(run *, value object, value name);
value item_get(run *, value object, value key);

/* strings.c: str methods; the filters of the same name use them */
typedef enum strip_side { STRIP_LEFT = 1, STRIP_RIGHT = 2, STRIP_BOTH = 3 } strip_side;
value str_strip(run *, value text, value chars, strip_side);
value str_case(run *, value text, int how); /* text_case */
value str_replace(run *, value text, value old, value new, int64_t count);
value str_join(run *, value glue, value items);
value str_lines(run *, value text, int keep_ends);
int string_method_find(const char *name, int64_t n);
int string_method_known(const char *name, int64_t n);
value string_method_call(run *, int which, value self, const arguments *);
/* sort.c */
/* In place, stable; key: attribute path or undefined. */
void sort_values(run *, list *, value attribute, int reverse, int case_sensitive);
/* path: "a.b.0"; what is missing on the way becomes the fallback, unless that is none. */
value attribute_path(run *, value object, value path, value fallback);
#endif
