/* template.h - the texts of a task definition: templates over the fields of a row, and steps.
 *
 *     "Question: {{question | trim}}\nAnswer:"     fields, list elements {{choices[0]}}, filters
 *     [["trim"], ["replace", "  ", " "], ["regex", "\\[.*?\\]", ""]]        steps
 *
 * Filters and steps are the same operations (docs/tasks.md lists them); a filter may also name a
 * list of steps that the task declares.  White space and letter case follow Python's str.  Left
 * out: expressions, loops and conditions; what is not one of these forms is refused by name. */
#ifndef SQZ_RUNTIME_TASK_TEMPLATE_H
#define SQZ_RUNTIME_TASK_TEMPLATE_H
#include "error/error.h"
#include "tokenizer/pieces.h"
#include <cjson/cJSON.h>

typedef struct text_steps text_steps;
/* list: the JSON form above; named (may be NULL): object of named lists, for ["name"]. */
sqz_status text_steps_new(const cJSON *list, const cJSON *named, const char *where,
                          text_steps **out, sqz_error *err);
void text_steps_free(text_steps *);
sqz_status text_steps_run(text_steps *, text_buffer *, sqz_error *err); /* NULL steps: nothing */

typedef struct text_template text_template;
sqz_status text_template_new(const char *source, const cJSON *named, const char *where,
                             text_template **out, sqz_error *err);
void text_template_free(text_template *);

/* Where the fields come from: element < 0 asks for a scalar; NULL when there is none. */
typedef struct text_source {
    const char *(*field)(const void *ctx, const char *name, int64_t element, int64_t *n);
    const void *ctx;
} text_source;
/* Appends to out. */
sqz_status text_template_render(text_template *, const text_source *, text_buffer *out,
                                sqz_error *err);

int text_is_space(uint32_t c); /* str.isspace */
#endif
