/* eval.c - runs the statements of a template; see eval.h.
 *
 * Scopes are those of Jinja: loops (each pass), macros, with, captured and generation bodies have
 * one, if has none.  What a loop's body sets is gone after the pass; namespaces are the way out. */
#include "jinja/eval.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MAX_DEPTH = 600, /* nested nodes and macro calls */
    MAX_TEMPLATE = 1 << 20
};
static const int64_t DEFAULT_OUTPUT = 64 << 20, DEFAULT_MEMORY = 256 << 20,
                     DEFAULT_STEPS = 50000000, TEMPLATE_MEMORY = 256 << 20;

int render_enter(run *r)
{
    if (++r->depth > MAX_DEPTH)
        render_fail(r, ERR_MODEL, "calls are nested too deeply (%d levels)", MAX_DEPTH);
    return render_step(r, 1);
}

/* ---- scopes ---------------------------------------------------------------------------------- */

static void *take(run *r, int64_t bytes)
{
    void *p = r->failed ? NULL : arena_take(&r->memory, bytes);
    if (!p)
        render_fail(r, SQZ_E_NOMEM,
                    "no memory, or more than the limit of %lld bytes for one rendering",
                    (long long)r->memory.limit);
    return p;
}

scope *scope_new(run *r, scope *parent)
{
    scope *s = take(r, (int64_t)sizeof *s);
    if (s) s->parent = parent;
    return s;
}

void scope_set(run *r, scope *s, const char *name, value v)
{
    if (r->failed || !s) return;
    for (binding *b = s->first; b; b = b->next)
        if (b->name == name) {
            b->value = v;
            return;
        }
    binding *b = take(r, (int64_t)sizeof *b);
    if (!b) return;
    *b = (binding){s->first, name, v};
    s->first = b;
}

const value *scope_find(const scope *s, const char *name)
{
    for (; s; s = s->parent)
        for (const binding *b = s->first; b; b = b->next)
            if (b->name == name) return &b->value;
    return NULL;
}

static void set_field(run *r, scope *s, const node *target, value v)
{
    const value *space = scope_find(s, target->name);
    if (!space || space->type != V_NAMESPACE)
        render_fail(r, ERR_MODEL, "\"%s\" is no namespace; its members cannot be set",
                    target->name);
    else if (target->constant.n && target->constant.at[0] == '_')
        render_fail(r, ERR_MODEL, "members of a namespace cannot begin with _");
    else
        dict_put(r, space->dict, target->constant, v);
}

static void assign(run *r, scope *s, const node *target, value v)
{
    if (target->kind == N_NAME) {
        scope_set(r, s, target->name, v);
    } else if (target->kind == N_FIELD) {
        set_field(r, s, target, v);
    } else {
        value parts = v.type == V_UNDEFINED
                          ? render_fail(r, ERR_MODEL, "an undefined value cannot be unpacked")
                          : value_iterate(r, v);
        if (r->failed) return;
        if (parts.list->n != target->n) {
            render_fail(r, ERR_MODEL, "%lld values for %lld names", (long long)parts.list->n,
                        (long long)target->n);
            return;
        }
        for (int64_t i = 0; i < target->n && !r->failed; i++)
            assign(r, s, target->items[i], parts.list->at[i]);
    }
}

/* ---- output ---------------------------------------------------------------------------------- */

static void put(run *r, value v)
{
    value_print(r, v, r->out);
    if (r->out->failed)
        render_fail(r, SQZ_E_NOMEM, "no memory for the text");
    else if (r->out->n > r->output_limit)
        render_fail(r, ERR_MODEL, "the text is longer than the limit of %lld bytes",
                    (long long)r->output_limit);
}

static value capture_here(run *r, scope *s, const node *body)
{
    text_buffer text = {0}, *outer = r->out;
    r->out = &text;
    render_statement(r, s, body);
    r->out = outer;
    return value_take(r, &text);
}

value render_capture(run *r, scope *parent, const node *body)
{
    scope *s = scope_new(r, parent);
    return r->failed ? value_undefined(NULL, 0) : capture_here(r, s, body);
}

/* ---- loops ----------------------------------------------------------------------------------- */

/* What the condition of a loop lets through. */
static value loop_items(run *r, scope *s, const node *n)
{
    value all = render_expression(r, s, n->b);
    if (r->failed) return all;
    all = value_iterate(r, all);
    if (r->failed || !n->e) return all;
    value kept = value_list_new(r, V_LIST, 0);
    for (int64_t i = 0; i < all.list->n && !r->failed; i++) {
        scope *pass = scope_new(r, s);
        if (!pass) break;
        assign(r, pass, n->a, all.list->at[i]);
        if (value_true(render_expression(r, pass, n->e))) list_add(r, kept.list, all.list->at[i]);
    }
    return kept;
}

static leave run_for(run *r, scope *s, const node *n)
{
    value items = loop_items(r, s, n);
    loop *l = take(r, (int64_t)sizeof *l);
    if (r->failed || !l) return LEAVE_NOT;
    *l = (loop){.items = items.list};
    for (l->at = 0; l->at < items.list->n && !r->failed; l->at++) {
        scope *pass = scope_new(r, s);
        if (!pass) break;
        scope_set(r, pass, r->template->loop, (value){.type = V_LOOP, .loop = l});
        assign(r, pass, n->a, items.list->at[l->at]);
        if (render_statement(r, pass, n->c) == LEAVE_BREAK) break;
    }
    if (items.list->n == 0 && n->d && !r->failed) return render_statement(r, scope_new(r, s), n->d);
    return LEAVE_NOT;
}

value loop_attribute(run *r, value v, value name)
{
    const loop *l = v.loop;
    int64_t n = l->items->n, i = l->at;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"index", i + 1}, {"index0", i}, {"revindex", n - i}, {"revindex0", n - i - 1},
                   {"length", n},    {"depth", 1},  {"depth0", 0}};
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        if (value_is_str(name, numbers[k].name)) return value_int(numbers[k].value);
    if (value_is_str(name, "first")) return value_bool(i == 0);
    if (value_is_str(name, "last")) return value_bool(i == n - 1);
    if (value_is_str(name, "previtem"))
        return i > 0 ? l->items->at[i - 1] : value_undefined("loop.previtem", 13);
    if (value_is_str(name, "nextitem"))
        return i + 1 < n ? l->items->at[i + 1] : value_undefined("loop.nextitem", 13);
    int which = value_is_str(name, "cycle") ? 1 : value_is_str(name, "changed") ? 2 : 0;
    if (!which) return value_undefined(name.at, name.n);
    bound *b = take(r, (int64_t)sizeof *b);
    if (!b) return value_undefined(NULL, 0);
    b->self = v;
    return (value){.type = V_METHOD, .which = (uint16_t)which, .bound = b};
}

value loop_call(run *r, value method, const arguments *a)
{
    loop *l = method.bound->self.loop;
    if (!arguments_check(r, "loop method", a, method.which == 1, NULL)) return value_none();
    if (method.which == 1) return a->at[l->at % a->n];
    value now = value_list_new(r, V_TUPLE, a->n);
    for (int i = 0; i < a->n && !r->failed; i++) list_add(r, now.list, a->at[i]);
    if (r->failed) return now;
    int same = l->seen.type == V_TUPLE && value_equal(r, l->seen, now, 0);
    l->seen = now;
    return value_bool(!same);
}

/* ---- macros ---------------------------------------------------------------------------------- */

value macro_call(run *r, const macro *m, const arguments *a)
{
    const node *n = m->node;
    scope *s = scope_new(r, m->home);
    if (a->n > n->n)
        render_fail(r, ERR_MODEL, "macro %s: %d arguments, at most %lld are taken", n->name, a->n,
                    (long long)n->n);
    for (int k = 0; k < a->n_named && !r->failed; k++) {
        int known = 0;
        for (int64_t i = 0; i < n->n; i++)
            known |= n->items[i]->name == a->names[a->n + k] && i >= a->n;
        if (!known)
            render_fail(r, ERR_MODEL, "macro %s: takes no argument %s, or has it already", n->name,
                        a->names[a->n + k]);
    }
    for (int64_t i = 0; i < n->n && !r->failed; i++) {
        const char *name = n->items[i]->name;
        int64_t fallback = i - (n->n - n->n_values);
        value v = value_undefined(name, (int64_t)strlen(name));
        if (has_argument(a, (int)i, name))
            v = argument(a, (int)i, name, v);
        else if (fallback >= 0)
            v = render_expression(r, s, n->values[fallback]);
        scope_set(r, s, name, v);
    }
    if (!render_enter(r)) return value_undefined(NULL, 0);
    value text = capture_here(r, s, n->c);
    r->depth--;
    return text;
}

static void define_macro(run *r, scope *s, const node *n)
{
    macro *m = take(r, (int64_t)sizeof *m);
    if (!m) return;
    *m = (macro){n, s};
    scope_set(r, s, n->name, (value){.type = V_MACRO, .macro = m});
}

/* ---- statements ------------------------------------------------------------------------------ */

static leave run_body(run *r, scope *s, const node *n)
{
    leave l = LEAVE_NOT;
    for (int64_t i = 0; i < n->n && !l && !r->failed; i++) l = render_statement(r, s, n->items[i]);
    return l;
}

static leave run_if(run *r, scope *s, const node *n)
{
    for (int64_t i = 0; i + 1 < n->n && !r->failed; i += 2) {
        value v = render_expression(r, s, n->items[i]);
        if (!r->failed && value_true(v)) return render_statement(r, s, n->items[i + 1]);
    }
    return n->d && !r->failed ? render_statement(r, s, n->d) : LEAVE_NOT;
}

static leave run_with(run *r, scope *s, const node *n)
{
    scope *inner = scope_new(r, s);
    for (int64_t i = 0; i < n->n && !r->failed; i++)
        assign(r, inner, n->items[i], render_expression(r, s, n->values[i]));
    return r->failed ? LEAVE_NOT : render_statement(r, inner, n->c);
}

static leave run_one(run *r, scope *s, const node *n)
{
    value v;
    switch (n->kind) {
    case N_BODY: return run_body(r, s, n);
    case N_TEXT: put(r, n->constant); return LEAVE_NOT;
    case N_FOR: return run_for(r, s, n);
    case N_IF: return run_if(r, s, n);
    case N_WITH: return run_with(r, s, n);
    case N_BREAK: return LEAVE_BREAK;
    case N_CONTINUE: return LEAVE_CONTINUE;
    case N_MACRO: define_macro(r, s, n); return LEAVE_NOT;
    case N_SET:
        v = render_expression(r, s, n->b);
        if (!r->failed) assign(r, s, n->a, v);
        return LEAVE_NOT;
    case N_SET_BODY:
        v = apply_filters(r, s, n->b, render_capture(r, s, n->c));
        if (!r->failed) assign(r, s, n->a, v);
        return LEAVE_NOT;
    case N_FILTERED: v = apply_filters(r, s, n->b, render_capture(r, s, n->c)); break;
    case N_SCOPED: v = render_capture(r, s, n->c); break;
    default: v = render_expression(r, s, n->a); break; /* N_PRINT */
    }
    if (!r->failed) put(r, v);
    return LEAVE_NOT;
}

leave render_statement(run *r, scope *s, const node *n)
{
    if (r->failed || !render_enter(r)) return LEAVE_NOT;
    r->line = n->line;
    leave l = run_one(r, s, n);
    r->depth--;
    return l;
}

/* ---- compiling and rendering ----------------------------------------------------------------- */

const char *jinja_find(const struct jinja *t, const char *text, int64_t n)
{
    for (const name *at = t->names; at; at = at->next)
        if (strlen(at->text) == (size_t)n && !memcmp(at->text, text, (size_t)n)) return at->text;
    return NULL;
}

const char *jinja_name(struct jinja *t, const char *text, int64_t n)
{
    const char *known = jinja_find(t, text, n);
    if (known) return known;
    name *fresh = arena_take(&t->memory, (int64_t)sizeof *fresh);
    char *copy = fresh ? arena_take(&t->memory, n + 1) : NULL;
    if (!copy) return NULL;
    memcpy(copy, text, (size_t)n);
    *fresh = (name){t->names, copy};
    t->names = fresh;
    return copy;
}

/* Line ends become \n, and one at the end of the source goes, as Jinja's lexer does. */
static const char *clean_source(arena *a, const char *text, int64_t bytes, int64_t *n)
{
    char *copy = arena_take(a, bytes + 1);
    if (!copy) return NULL;
    *n = 0;
    for (int64_t i = 0; i < bytes; i++) {
        if (text[i] == '\r' && i + 1 < bytes && text[i + 1] == '\n') continue;
        copy[(*n)++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (*n && copy[*n - 1] == '\n') --*n;
    return copy;
}

sqz_status jinja_compile(const char *text, int64_t bytes, const char *title, jinja **out,
                         sqz_error *err)
{
    if (bytes > MAX_TEMPLATE)
        return err_set(err, ERR_MODEL, "%s: %lld bytes; a template has at most %d", title,
                       (long long)bytes, MAX_TEMPLATE);
    if (utf8_check(text, bytes) >= 0) return err_set(err, ERR_MODEL, "%s: is not UTF-8", title);
    jinja *t = calloc(1, sizeof *t);
    if (t) t->title = strdup(title);
    if (!t || !t->title) {
        free(t);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory", title);
    }
    run r = {.template = t, .name = t->title, .err = err, .steps = INT64_MAX};
    r.memory.limit = TEMPLATE_MEMORY;
    int64_t n = 0;
    token_list tokens = {0};
    const char *source = clean_source(&r.memory, text, bytes, &n);
    if (!source) render_fail(&r, SQZ_E_NOMEM, "no memory");
    t->memory.limit = TEMPLATE_MEMORY;
    t->loop = jinja_name(t, "loop", 4);
    t->caller = jinja_name(t, "caller", 6);
    t->varargs = jinja_name(t, "varargs", 7);
    t->kwargs = jinja_name(t, "kwargs", 6);
    if (!t->loop || !t->caller || !t->varargs || !t->kwargs)
        render_fail(&r, SQZ_E_NOMEM, "no memory");
    if (!r.failed) jinja_lex(&r, source, n, &tokens);
    if (!r.failed) jinja_parse(&r, t, &tokens);
    t->nodes = r.memory;
    if (r.failed) {
        jinja_free(t);
        return r.failed;
    }
    *out = t;
    return SQZ_OK;
}

void jinja_free(jinja *t)
{
    if (!t) return;
    arena_free(&t->memory);
    arena_free(&t->nodes);
    free(t->title);
    free(t);
}

/* Only variables that the template names are converted. */
static scope *scope_of_variables(run *r, const cJSON *variables)
{
    scope *s = scope_new(r, NULL);
    const cJSON *item;
    if (s) cJSON_ArrayForEach(item, variables)
        {
            const char *name = jinja_find(r->template, item->string, (int64_t)strlen(item->string));
            if (!name) continue;
            value v = value_from_json(r, item, 0);
            if (r->failed) break;
            scope_set(r, s, name, v);
        }
    return s;
}

sqz_status jinja_render(const jinja *t, const cJSON *variables, const jinja_limits *limits,
                        char **text, int64_t *bytes, sqz_error *err)
{
    jinja_limits l = limits ? *limits : (jinja_limits){0};
    text_buffer out = {0};
    run r = {.template = t, .name = t->title, .err = err, .out = &out, .line = 1};
    r.memory.limit = l.memory_bytes > 0 ? l.memory_bytes : DEFAULT_MEMORY;
    r.output_limit = l.output_bytes > 0 ? l.output_bytes : DEFAULT_OUTPUT;
    r.steps = l.steps > 0 ? l.steps : DEFAULT_STEPS;
    r.now_s = l.now_s ? l.now_s : (int64_t)time(NULL);
    scope *given = scope_of_variables(&r, variables);
    if (!r.failed) render_statement(&r, scope_new(&r, given), t->body);
    if (!r.failed) text_add(&out, "", 1);
    if (out.failed) render_fail(&r, SQZ_E_NOMEM, "no memory for the text");
    arena_free(&r.memory);
    if (r.failed) {
        text_free(&out);
        return r.failed;
    }
    *text = out.at;
    *bytes = out.n - 1;
    return SQZ_OK;
}
