/* template.c - see template.h. */
#include "task/template.h"
#include "json/json.h"
#include "task/regex.h"
#include "tokenizer/unicode.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_OPERATIONS = 64, MAX_PARTS = 256, MAX_DEPTH = 4 };

typedef enum operation_kind {
    OP_TRIM,
    OP_TRIM_LEFT,
    OP_TRIM_RIGHT,
    OP_LOWER,
    OP_UPPER,
    OP_CAPITALIZE,
    OP_REPLACE,
    OP_REGEX,
    OP_BEFORE,
    OP_AFTER,
    OP_BEFORE_LAST,
    OP_AFTER_LAST,
    OP_STEPS
} operation_kind;

static const struct {
    const char *name;
    operation_kind kind;
    int arguments;
} operations[] = {
    {"trim", OP_TRIM, 0},
    {"trim_left", OP_TRIM_LEFT, 0},
    {"trim_right", OP_TRIM_RIGHT, 0},
    {"lower", OP_LOWER, 0},
    {"upper", OP_UPPER, 0},
    {"capitalize", OP_CAPITALIZE, 0},
    {"replace", OP_REPLACE, 2},
    {"regex", OP_REGEX, 2},
    {"before", OP_BEFORE, 1},
    {"after", OP_AFTER, 1},
    {"before_last", OP_BEFORE_LAST, 1},
    {"after_last", OP_AFTER_LAST, 1},
};
enum { N_OPERATIONS = sizeof operations / sizeof *operations };

typedef struct operation {
    operation_kind kind;
    char *a, *b;
    regex *expression;
    text_steps *steps;
} operation;

struct text_steps {
    operation list[MAX_OPERATIONS];
    int n;
};

void text_steps_free(text_steps *s)
{
    if (!s) return;
    for (int i = 0; i < s->n; i++) {
        free(s->list[i].a);
        free(s->list[i].b);
        regex_free(s->list[i].expression);
        text_steps_free(s->list[i].steps);
    }
    free(s);
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static sqz_status steps_from_list(const cJSON *list, const cJSON *named, int depth,
                                  const char *where, text_steps **out, sqz_error *err);

static sqz_status unknown(const char *name, const char *where, sqz_error *err)
{
    char known[256] = "";
    for (int i = 0; i < N_OPERATIONS; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 operations[i].name);
    return err_set(err, ERR_USAGE,
                   "%s: \"%.80s\" is neither a filter (%s) nor one of the task's \"steps\"", where,
                   name, known);
}

/* Adds the operation `name` with its n arguments. */
static sqz_status add_operation(text_steps *s, const char *name, const char *const *arguments,
                                int n, const cJSON *named, int depth, const char *where,
                                sqz_error *err)
{
    if (s->n == MAX_OPERATIONS)
        return err_set(err, ERR_USAGE, "%s: more than %d operations on one text", where,
                       MAX_OPERATIONS);
    operation *o = &s->list[s->n];
    *o = (operation){0};
    const cJSON *list = named ? json_get(named, name) : NULL;
    if (list) {
        if (depth >= MAX_DEPTH)
            return err_set(err, ERR_USAGE, "%s: steps \"%s\" name each other too deeply", where,
                           name);
        o->kind = OP_STEPS;
        s->n++;
        return steps_from_list(list, named, depth + 1, where, &o->steps, err);
    }
    int k = 0;
    while (k < N_OPERATIONS && strcmp(operations[k].name, name)) k++;
    if (k == N_OPERATIONS) return unknown(name, where, err);
    if (n != operations[k].arguments || (n && !arguments[0][0]))
        return err_set(err, ERR_USAGE, "%s: %s takes %d arguments, the first not empty", where,
                       name, operations[k].arguments);
    o->kind = operations[k].kind;
    s->n++;
    if (n > 0) o->a = strdup(arguments[0]);
    if (n > 1) o->b = strdup(arguments[1]);
    if ((n > 0 && !o->a) || (n > 1 && !o->b))
        return err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    return o->kind == OP_REGEX ? regex_new(o->a, where, &o->expression, err) : SQZ_OK;
}

static sqz_status steps_from_list(const cJSON *list, const cJSON *named, int depth,
                                  const char *where, text_steps **out, sqz_error *err)
{
    const cJSON *item;
    if (!cJSON_IsArray(list))
        return err_set(err, ERR_USAGE, "%s: steps are a list of [\"name\", arguments...]", where);
    text_steps *s = calloc(1, sizeof *s);
    sqz_status st = s ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory", where);
    cJSON_ArrayForEach(item, list)
    {
        const char *words[3];
        int n = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0, ok = n >= 1 && n <= 3;
        for (int i = 0; i < n && ok; i++) {
            const cJSON *w = cJSON_GetArrayItem(item, i);
            ok = cJSON_IsString(w);
            words[i] = ok ? w->valuestring : NULL;
        }
        if (st) break;
        st = ok ? add_operation(s, words[0], words + 1, n - 1, named, depth, where, err)
                : err_set(err, ERR_USAGE, "%s: a step is [\"name\", up to two strings]", where);
    }
    if (st)
        text_steps_free(s);
    else
        *out = s;
    return st;
}

sqz_status text_steps_new(const cJSON *list, const cJSON *named, const char *where,
                          text_steps **out, sqz_error *err)
{
    return steps_from_list(list, named, 0, where, out, err);
}

/* ---- running ------------------------------------------------------------------------------------
 */

int text_is_space(uint32_t c)
{
    return (c >= 0x1c && c <= 0x1f) || char_is(c, CHAR_SPACE);
}

static void trim(text_buffer *t, int left, int right)
{
    int64_t from = 0, end = 0;
    int seen = 0;
    for (int64_t i = 0; i < t->n;) {
        uint32_t c = 0;
        int bytes = utf8_next(t->at + i, t->n - i, &c);
        if (!bytes) bytes = 1, c = 0xFFFD;
        if (!text_is_space(c)) {
            if (!seen) from = i;
            seen = 1;
            end = i + bytes;
        }
        i += bytes;
    }
    if (!seen) {
        if (left || right) t->n = 0;
        return;
    }
    if (!left) from = 0;
    if (right) t->n = end;
    if (from) memmove(t->at, t->at + from, (size_t)(t->n - from));
    t->n -= from;
}

/* Simple mappings, code point by code point. */
static void recase(text_buffer *t, operation_kind kind)
{
    text_buffer out = {0};
    for (int64_t i = 0; i < t->n;) {
        uint32_t c = 0;
        int bytes = utf8_next(t->at + i, t->n - i, &c);
        if (!bytes) bytes = 1, c = 0xFFFD;
        int title = kind == OP_CAPITALIZE && i == 0;
        utf8proc_int32_t to = title              ? utf8proc_totitle((utf8proc_int32_t)c)
                              : kind == OP_UPPER ? utf8proc_toupper((utf8proc_int32_t)c)
                                                 : utf8proc_tolower((utf8proc_int32_t)c);
        text_add_char(&out, (uint32_t)to);
        i += bytes;
    }
    text_swap(t, &out);
    text_free(&out);
}

static void replace(text_buffer *t, const char *from, const char *to)
{
    text_buffer out = {0};
    int64_t n = (int64_t)strlen(from), m = (int64_t)strlen(to), i = 0;
    while (i < t->n) {
        const char *hit = memmem(t->at + i, (size_t)(t->n - i), from, (size_t)n);
        int64_t end = hit ? hit - t->at : t->n;
        text_add(&out, t->at + i, end - i);
        if (hit) text_add(&out, to, m);
        i = hit ? end + n : end;
    }
    text_swap(t, &out);
    text_free(&out);
}

/* What stands before or after the first or last occurrence.  Without one: "before" keeps all and
 * "after" nothing; from the end it is the other way round, as for a list of words. */
static void cut(text_buffer *t, const char *mark, operation_kind kind)
{
    int64_t n = (int64_t)strlen(mark), at = -1;
    int last = kind == OP_BEFORE_LAST || kind == OP_AFTER_LAST;
    int before = kind == OP_BEFORE || kind == OP_BEFORE_LAST;
    for (int64_t i = 0; i + n <= t->n; i++) {
        if (memcmp(t->at + i, mark, (size_t)n)) continue;
        at = i;
        if (!last) break;
    }
    if (at < 0) {
        if (before == last) t->n = 0;
    } else if (before) {
        t->n = at;
    } else {
        memmove(t->at, t->at + at + n, (size_t)(t->n - at - n));
        t->n -= at + n;
    }
}

sqz_status text_steps_run(text_steps *s, text_buffer *t, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    for (int i = 0; s && i < s->n && !st; i++) {
        operation *o = &s->list[i];
        switch (o->kind) {
        case OP_TRIM: trim(t, 1, 1); break;
        case OP_TRIM_LEFT: trim(t, 1, 0); break;
        case OP_TRIM_RIGHT: trim(t, 0, 1); break;
        case OP_LOWER:
        case OP_UPPER:
        case OP_CAPITALIZE: recase(t, o->kind); break;
        case OP_REPLACE: replace(t, o->a, o->b); break;
        case OP_REGEX: st = regex_replace(o->expression, o->b, t, err); break;
        case OP_BEFORE:
        case OP_AFTER:
        case OP_BEFORE_LAST:
        case OP_AFTER_LAST: cut(t, o->a, o->kind); break;
        case OP_STEPS: st = text_steps_run(o->steps, t, err); break;
        }
        if (!st && t->failed) st = err_set(err, SQZ_E_NOMEM, "no memory for a text");
    }
    return st;
}

/* ---- templates ----------------------------------------------------------------------------------
 */

typedef struct part {
    char *literal; /* or NULL: a field */
    char *field;
    int64_t element; /* -1: the field itself */
    text_steps *steps;
} part;

struct text_template {
    part *parts; /* [MAX_PARTS] */
    int n;
    char *where;
};

void text_template_free(text_template *t)
{
    if (!t) return;
    for (int i = 0; i < t->n; i++) {
        free(t->parts[i].literal);
        free(t->parts[i].field);
        text_steps_free(t->parts[i].steps);
    }
    free(t->parts);
    free(t->where);
    free(t);
}

typedef struct reader {
    const char *p, *end, *where;
    sqz_error *err;
} reader;

static void blanks(reader *r)
{
    while (r->p < r->end && strchr(" \t\n", *r->p)) r->p++;
}

static sqz_status refuse(const reader *r, const char *what)
{
    return err_set(r->err, ERR_USAGE, "%s: {{%.*s}}: %s", r->where, (int)(r->end - r->p), r->p,
                   what);
}

static int is_name(char c)
{
    return c == '_' || c == '.' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

static char *read_name(reader *r)
{
    const char *from = r->p;
    while (r->p < r->end && is_name(*r->p)) r->p++;
    return strndup(from, (size_t)(r->p - from));
}

/* 'text' or "text", with \n, \t, \\ and the quotes. */
static char *read_string(reader *r)
{
    char quote = *r->p++;
    text_buffer b = {0};
    while (r->p < r->end && *r->p != quote) {
        char c = *r->p++;
        if (c == '\\' && r->p < r->end) {
            c = *r->p++;
            if (c == 'n')
                c = '\n';
            else if (c == 't')
                c = '\t';
            else if (c != quote && c != '\\')
                text_add(&b, "\\", 1);
        }
        text_add(&b, &c, 1);
    }
    int closed = r->p < r->end;
    if (closed) r->p++;
    text_add(&b, "", 1);
    if (closed && !b.failed) return b.at;
    text_free(&b);
    return NULL;
}

static sqz_status read_filter(reader *r, part *p, const cJSON *named)
{
    char *words[2] = {NULL, NULL}, *name;
    int n = 0;
    blanks(r);
    name = read_name(r);
    blanks(r);
    sqz_status st = name && *name ? SQZ_OK : refuse(r, "a filter's name is missing");
    if (!st && r->p < r->end && *r->p == '(') {
        do {
            r->p++;
            blanks(r);
            if (n < 2 && r->p < r->end && (*r->p == '\'' || *r->p == '"'))
                words[n] = read_string(r);
            if (n == 2 || !words[n])
                st = refuse(r, "a filter takes up to two strings in quotes");
            else
                n++;
            blanks(r);
        } while (!st && r->p < r->end && *r->p == ',');
        if (!st && (r->p >= r->end || *r->p != ')')) st = refuse(r, "a ) is missing");
        if (!st) r->p++;
    }
    if (!st && !p->steps) p->steps = calloc(1, sizeof *p->steps);
    if (!st && !p->steps) st = err_set(r->err, SQZ_E_NOMEM, "%s: no memory", r->where);
    if (!st)
        st = add_operation(p->steps, name, (const char *const *)words, n, named, 0, r->where,
                           r->err);
    free(name);
    free(words[0]);
    free(words[1]);
    return st;
}

/* What stands between {{ and }}. */
static sqz_status read_field(reader *r, part *p, const cJSON *named)
{
    p->element = -1;
    blanks(r);
    p->field = read_name(r);
    if (!p->field || !*p->field) return refuse(r, "a field's name is missing");
    if (r->p < r->end && *r->p == '[') {
        char *stop;
        long long k = strtoll(++r->p, &stop, 10);
        if (stop == r->p || k < 0 || k > 4096 || *stop != ']')
            return refuse(r, "an element is [0] ... [4096]");
        p->element = k;
        r->p = stop + 1;
    }
    blanks(r);
    while (r->p < r->end && *r->p == '|') {
        r->p++;
        sqz_status st = read_filter(r, p, named);
        if (st) return st;
        blanks(r);
    }
    return r->p == r->end ? SQZ_OK
                          : refuse(r, "only a field, an element [k] and | filters are understood");
}

static sqz_status read_parts(text_template *t, const char *source, const cJSON *named,
                             sqz_error *err)
{
    for (const char *p = source; *p;) {
        const char *open = strstr(p, "{{");
        if (t->n + 2 > MAX_PARTS)
            return err_set(err, ERR_USAGE, "%s: more than %d parts", t->where, MAX_PARTS);
        size_t n = open ? (size_t)(open - p) : strlen(p);
        if (n) {
            t->parts[t->n] = (part){.literal = strndup(p, n)};
            if (!t->parts[t->n++].literal) return err_set(err, SQZ_E_NOMEM, "no memory");
        }
        if (!open) break;
        const char *close = strstr(open, "}}");
        if (!close) return err_set(err, ERR_USAGE, "%s: {{ without }}", t->where);
        reader r = {open + 2, close, t->where, err};
        t->parts[t->n] = (part){0};
        sqz_status st = read_field(&r, &t->parts[t->n++], named);
        if (st) return st;
        p = close + 2;
    }
    if (strstr(source, "{%"))
        return err_set(err, ERR_USAGE, "%s: {%% is not understood; texts have {{field}} only",
                       t->where);
    return SQZ_OK;
}

sqz_status text_template_new(const char *source, const cJSON *named, const char *where,
                             text_template **out, sqz_error *err)
{
    text_template *t = calloc(1, sizeof *t);
    if (t) t->parts = calloc(MAX_PARTS, sizeof *t->parts);
    if (t) t->where = strdup(where);
    sqz_status st = t && t->parts && t->where
                        ? read_parts(t, source, named, err)
                        : err_set(err, SQZ_E_NOMEM, "%s: no memory for a template", where);
    if (st)
        text_template_free(t);
    else
        *out = t;
    return st;
}

sqz_status text_template_render(text_template *t, const text_source *source, text_buffer *out,
                                sqz_error *err)
{
    for (int i = 0; i < t->n; i++) {
        const part *p = &t->parts[i];
        if (p->literal) {
            text_add(out, p->literal, (int64_t)strlen(p->literal));
            continue;
        }
        int64_t n = 0;
        const char *text = source->field(source->ctx, p->field, p->element, &n);
        if (!text) {
            char element[32] = "";
            if (p->element >= 0) snprintf(element, sizeof element, "[%lld]", (long long)p->element);
            return err_set(err, ERR_MODEL, "no field \"%s%s\", which %s asks for", p->field,
                           element, t->where);
        }
        text_buffer piece = {0};
        text_add(&piece, text, n);
        sqz_status st = text_steps_run(p->steps, &piece, err);
        text_add(out, piece.at, piece.n);
        int failed = piece.failed || out->failed;
        text_free(&piece);
        if (st) return st;
        if (failed) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a text", t->where);
    }
    return SQZ_OK;
}
