/* jinja.h - the part of the Jinja language that chat templates are written in.
 *
 * A template is foreign code: it is parsed into a tree and walked by an evaluator with limits on
 * nesting, steps, memory and output; it can read the variables it is given and nothing else.
 * Semantics are those of Jinja 3.1 in the environment that transformers makes for chat templates:
 * trim_blocks and lstrip_blocks on, break and continue, the generation tag, tojson without HTML
 * escapes, raise_exception, strftime_now.
 * Left out, and refused by name with the line: inheritance, includes and imports, call and
 * autoescape blocks, recursive loops, printf-like formatting, whatever changes a list or
 * dictionary in place. */
#ifndef SQZ_RUNTIME_JINJA_H
#define SQZ_RUNTIME_JINJA_H
#include "error/error.h"
#include "json/json.h"

typedef struct jinja jinja;

/* name is used in messages ("NAME:LINE: ..."). */
sqz_status jinja_compile(const char *text, int64_t bytes, const char *name, jinja **out,
                         sqz_error *err);
void jinja_free(jinja *);

typedef struct jinja_limits {
    int64_t output_bytes, memory_bytes, steps; /* 0 = the default */
    int64_t now_s; /* what strftime_now shows, seconds since 1970; 0 = the clock */
} jinja_limits;
/* variables: an object; its members are the template's variables.  *text is malloc'd and
 * zero-terminated.  A compiled template may be rendered by several threads. */
sqz_status jinja_render(const jinja *, const cJSON *variables, const jinja_limits *, char **text,
                        int64_t *bytes, sqz_error *err);
#endif
