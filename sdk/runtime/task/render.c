/* render.c - rows as requests: prompts with their examples, continuations, targets (task.h). */
#include "task/random.h"
#include "task/task.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEWSHOT_SEED = 1234, MAX_CHOICES = 64 };

/* The texts of one row. */
typedef struct asked {
    text_buffer prompt, target;
    text_buffer contexts[MAX_CHOICES], choices[MAX_CHOICES];
    int64_t n_contexts, n_choices, gold;
} asked;

typedef struct renderer {
    const task *t;
    const row_store *docs, *pool, *at; /* at, row: what field() reads */
    int64_t row;
    row_store *out;
    python_random random;
    int64_t *drawn; /* [shots + 1] */
    asked doc, shot;
    text_buffer context, piece;
    sqz_error *err;
} renderer;

/* ---- fields of the current row ------------------------------------------------------------------
 */

static const char *column(const renderer *r, const char *name, int64_t element, int64_t *n)
{
    for (int i = 0; i < r->t->n_columns; i++) {
        const column_list *c = &r->t->columns[i];
        if (strcmp(c->name, name)) continue;
        return element < c->columns.n ? rows_text(r->at, r->row, c->columns.at[element], n) : NULL;
    }
    return NULL;
}

static const char *field(const void *ctx, const char *name, int64_t element, int64_t *n)
{
    const renderer *r = ctx;
    if (r->t->member && !strcmp(name, "member") && element < 0) {
        *n = (int64_t)strlen(r->t->member);
        return r->t->member;
    }
    if (element < 0) return rows_text(r->at, r->row, name, n);
    const char *text = rows_list_text(r->at, r->row, name, element);
    if (!text) return column(r, name, element, n);
    *n = (int64_t)strlen(text);
    return text;
}

static int64_t field_length(const renderer *r, const char *name)
{
    int64_t n = rows_list_length(r->at, r->row, name);
    for (int i = 0; i < r->t->n_columns && n < 0; i++)
        if (!strcmp(r->t->columns[i].name, name)) n = r->t->columns[i].columns.n;
    return n;
}

static sqz_status render(renderer *r, const text_rule *rule, text_buffer *out)
{
    text_source source = {field, r};
    out->n = 0;
    if (!rule->text) return SQZ_OK;
    sqz_status st = text_template_render(rule->text, &source, out, r->err);
    return st ? st : text_steps_run(rule->steps, out, r->err);
}

static sqz_status render_list(renderer *r, const list_rule *rule, text_buffer *out, int64_t *n)
{
    int64_t count = rule->field ? field_length(r, rule->field) : rule->n;
    sqz_status st = SQZ_OK;
    *n = 0;
    if (count > MAX_CHOICES)
        return err_set(r->err, ERR_MODEL, "\"%s\" has %lld elements; at most %d",
                       rule->field ? rule->field : "a list", (long long)count, MAX_CHOICES);
    if (rule->field && count < 1) return err_set(r->err, ERR_MODEL, "no list \"%s\"", rule->field);
    for (int64_t k = 0; k < count && !st; k++) {
        if (!rule->field) {
            st = render(r, &rule->items[k], &out[k]);
            continue;
        }
        int64_t bytes = 0;
        const char *text = field(r, rule->field, k, &bytes);
        out[k].n = 0;
        if (!text)
            st =
                err_set(r->err, ERR_MODEL, "\"%s\" has no element %lld", rule->field, (long long)k);
        else
            text_add(&out[k], text, bytes);
        if (!st) st = text_steps_run(rule->steps, &out[k], r->err);
    }
    *n = count;
    return st;
}

static int same(const text_buffer *a, const char *b, int64_t n)
{
    return a->n == n && (!n || !memcmp(a->at, b, (size_t)n));
}

/* ---- one row ------------------------------------------------------------------------------------
 */

static int is_digits(const text_buffer *b)
{
    for (int64_t i = 0; i < b->n; i++)
        if (b->at[i] < '0' || b->at[i] > '9') return 0;
    return b->n > 0 && b->n < 10;
}

static int64_t find_text(const text_buffer *what, const text_buffer *list, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        if (same(what, list[k].at, list[k].n)) return k;
    return -1;
}

/* Index of the right choice: given, looked up in a list, or the place of the target's text. */
static sqz_status find_gold(renderer *r, asked *a)
{
    const task *t = r->t;
    int64_t n = a->n_contexts ? a->n_contexts : a->n_choices, in = 0;
    sqz_status st;
    a->gold = -1;
    if (t->indexed) {
        text_buffer list[MAX_CHOICES] = {0};
        st = render(r, &t->gold_value, &r->piece);
        if (!st) st = render_list(r, &t->gold_list, list, &in);
        if (!st) a->gold = find_text(&r->piece, list, in);
        for (int k = 0; k < MAX_CHOICES; k++) text_free(&list[k]);
    } else {
        st = render(r, a->n_contexts ? &t->gold_value : &t->target, &r->piece);
        if (!st && is_digits(&r->piece)) {
            text_add(&r->piece, "", 1);
            a->gold = atoll(r->piece.at);
            r->piece.n--;
        } else if (!st) {
            a->gold = find_text(&r->piece, a->choices, a->n_choices);
        }
    }
    if (!st && (a->gold < 0 || a->gold >= n))
        st = err_set(r->err, ERR_MODEL, "the target \"%.*s\" names none of its %lld choices",
                     r->piece.n > 60 ? 60 : (int)r->piece.n, r->piece.n ? r->piece.at : "",
                     (long long)n);
    return st;
}

static sqz_status ask(renderer *r, const row_store *store, int64_t row, asked *a)
{
    const task *t = r->t;
    r->at = store;
    r->row = row;
    a->n_contexts = a->n_choices = 0;
    a->gold = -1;
    sqz_status st = render(r, &t->prompt, &a->prompt);
    int lists = t->output == TASK_CHOICE;
    if (!st && lists && (t->contexts.field || t->contexts.n))
        st = render_list(r, &t->contexts, a->contexts, &a->n_contexts);
    if (!st && lists && (t->choices.field || t->choices.n))
        st = render_list(r, &t->choices, a->choices, &a->n_choices);
    if (!st && lists) st = find_gold(r, a);
    if (!st && (!lists || a->n_contexts)) st = render(r, &t->target, &a->target);
    if (!st && lists && !a->n_contexts) {
        a->target.n = 0;
        text_add(&a->target, a->choices[a->gold].at, a->choices[a->gold].n);
    }
    if (st)
        err_prefix(r->err, "%s:%lld: task %s", rows_path(store, row),
                   (long long)rows_line(store, row), t->name);
    return st;
}

/* ---- examples -----------------------------------------------------------------------------------
 */

/* Have both rows the same fields with the same values? */
static int same_row(const row_store *a, int64_t i, const row_store *b, int64_t j)
{
    if (a == b && i == j) return 1;
    const row_store *both[] = {a, b};
    for (int side = 0; side < 2; side++) {
        for (int64_t k = 0; k < rows_n_names(both[side]); k++) {
            const char *name = rows_name(both[side], k);
            int64_t n = rows_list_length(a, i, name), at = 0, bt = 0;
            const char *x = rows_text(a, i, name, &at), *y = rows_text(b, j, name, &bt);
            if (n != rows_list_length(b, j, name) || !x != !y) return 0;
            if (x && (at != bt || memcmp(x, y, (size_t)at))) return 0;
            for (int64_t e = 0; e < n; e++)
                if (strcmp(rows_list_text(a, i, name, e), rows_list_text(b, j, name, e))) return 0;
        }
    }
    return 1;
}

/* The harness hands the document itself to the sampler when both splits have one name - also when
 * neither is given; then one more row is drawn and the document taken out. */
static int excludes_itself(const task *t)
{
    return !t->fewshot ? !t->test : t->test && !strcmp(t->fewshot, t->test);
}

static sqz_status too_few(renderer *r)
{
    return err_set(r->err, ERR_MODEL, "task %s: %lld examples are wanted of %lld rows", r->t->name,
                   (long long)r->t->shots, (long long)rows_count(r->pool));
}

static sqz_status redraw(renderer *r, int64_t row)
{
    int64_t n = rows_count(r->pool), left = 0;
    int64_t *other = malloc((size_t)n * sizeof *other);
    if (!other) return err_set(r->err, SQZ_E_NOMEM, "task %s: no memory", r->t->name);
    for (int64_t i = 0; i < n; i++)
        if (!same_row(r->docs, row, r->pool, i)) other[left++] = i;
    sqz_status st = left < r->t->shots
                        ? too_few(r)
                        : python_random_sample(&r->random, left, r->t->shots, r->drawn, r->err);
    for (int64_t i = 0; i < r->t->shots && !st; i++) r->drawn[i] = other[r->drawn[i]];
    free(other);
    return st;
}

/* Rows of the pool to show before row `row` of the documents, into drawn[0 .. shots). */
static sqz_status draw(renderer *r, int64_t row)
{
    int64_t n = rows_count(r->pool), shots = r->t->shots, kept = 0;
    int exclude = excludes_itself(r->t), extra = exclude && !r->t->first_n;
    if (shots + extra > n) return too_few(r);
    if (r->t->first_n) {
        for (int64_t i = 0; i < n && kept < shots; i++)
            if (!exclude || !same_row(r->docs, row, r->pool, i)) r->drawn[kept++] = i;
        return kept < shots ? too_few(r) : SQZ_OK;
    }
    sqz_status st = python_random_sample(&r->random, n, shots + extra, r->drawn, r->err);
    if (st || !exclude) return st;
    for (int64_t i = 0; i <= shots && kept < shots; i++)
        if (!same_row(r->docs, row, r->pool, r->drawn[i])) r->drawn[kept++] = r->drawn[i];
    return kept < shots ? redraw(r, row) : SQZ_OK;
}

static void add_text(text_buffer *b, const char *text)
{
    text_add(b, text, (int64_t)strlen(text));
}

/* Description and examples: what stands before the row's own prompt. */
static sqz_status make_context(renderer *r, int64_t row)
{
    const task *t = r->t;
    r->at = r->docs;
    r->row = row;
    sqz_status st = render(r, &t->description, &r->context);
    if (!st && t->shots) st = draw(r, row);
    for (int64_t k = 0; k < t->shots && !st; k++) {
        asked *s = &r->shot;
        st = ask(r, r->pool, r->drawn[k], s);
        if (st) break;
        const text_buffer *q = s->n_contexts ? &s->contexts[s->gold] : &s->prompt;
        text_add(&r->context, q->at, q->n);
        if (!s->target.n) continue;
        add_text(&r->context, t->target_delimiter);
        text_add(&r->context, s->target.at, s->target.n);
        add_text(&r->context, t->fewshot_delimiter);
    }
    return st;
}

/* ---- requests -----------------------------------------------------------------------------------
 */

static sqz_status put(renderer *r, const char *name, const text_buffer *a, const text_buffer *b)
{
    r->piece.n = 0;
    if (a) text_add(&r->piece, a->at, a->n);
    if (b) text_add(&r->piece, b->at, b->n);
    return rows_put(r->out, name, ROW_STRING, r->piece.n ? r->piece.at : "", r->piece.n, r->err);
}

static sqz_status put_number(renderer *r, const char *name, int64_t value)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)value);
    return rows_put(r->out, name, ROW_NUMBER, text, n, r->err);
}

static sqz_status put_list(renderer *r, const char *name, const char *before,
                           const text_buffer *list, int64_t n)
{
    sqz_status st = rows_put_list(r->out, name, r->err);
    for (int64_t k = 0; k < n && !st; k++) {
        r->piece.n = 0;
        add_text(&r->piece, before);
        text_add(&r->piece, list[k].at, list[k].n);
        st = rows_put_element(r->out, r->piece.n ? r->piece.at : "", r->piece.n, r->err);
    }
    return st;
}

static sqz_status put_names(renderer *r, const char *name, const text_list *list)
{
    sqz_status st = rows_put_list(r->out, name, r->err);
    for (int k = 0; k < list->n && !st; k++)
        st = rows_put_element(r->out, list->at[k], (int64_t)strlen(list->at[k]), r->err);
    return st;
}

static sqz_status put_choice(renderer *r)
{
    asked *a = &r->doc;
    const task *t = r->t;
    sqz_status st;
    if (a->n_contexts) {
        text_buffer whole[MAX_CHOICES] = {0}, tail = {0};
        add_text(&tail, t->target_delimiter);
        text_add(&tail, a->target.at, a->target.n);
        for (int64_t k = 0; k < a->n_contexts; k++) {
            text_add(&whole[k], r->context.at, r->context.n);
            text_add(&whole[k], a->contexts[k].at, a->contexts[k].n);
        }
        st = put_list(r, "request.contexts", "", whole, a->n_contexts);
        if (!st) st = put(r, "request.continuation", &tail, NULL);
        if (!st) st = put_list(r, "request.choices", "", a->contexts, a->n_contexts);
        for (int64_t k = 0; k < a->n_contexts; k++) text_free(&whole[k]);
        text_free(&tail);
    } else {
        st = put(r, "request.context", &r->context, &a->prompt);
        if (!st)
            st =
                put_list(r, "request.continuations", t->target_delimiter, a->choices, a->n_choices);
        if (!st) st = put_list(r, "request.choices", "", a->choices, a->n_choices);
    }
    return st ? st : put_number(r, "request.gold", a->gold);
}

/* Pieces of re.split("\s+"): runs of white space and one. */
static int64_t count_words(const text_buffer *b)
{
    int64_t n = 1;
    int inside = 0;
    for (int64_t i = 0; i < b->n;) {
        uint32_t c = 0;
        int bytes = utf8_next(b->at + i, b->n - i, &c);
        int space = bytes && text_is_space(c);
        n += space && !inside;
        inside = space;
        i += bytes ? bytes : 1;
    }
    return n;
}

static sqz_status put_rolling(renderer *r)
{
    text_buffer counted = {0};
    sqz_status st = put(r, "request.text", &r->doc.target, NULL);
    if (!st) st = render(r, r->t->counted.text ? &r->t->counted : &r->t->target, &counted);
    if (!st) st = put_number(r, "request.words", count_words(&counted));
    if (!st) st = put_number(r, "request.bytes", counted.n);
    text_free(&counted);
    return st;
}

static sqz_status put_generation(renderer *r)
{
    sqz_status st = put(r, "request.prompt", &r->context, &r->doc.prompt);
    if (!st) st = put(r, "request.target", &r->doc.target, NULL);
    if (!st) st = put_names(r, "request.until", &r->t->until);
    return st ? st : put_number(r, "request.max_new_tokens", r->t->max_new);
}

static sqz_status put_kind(renderer *r)
{
    const char *kind = task_output_names[r->t->output];
    return rows_put(r->out, "request.kind", ROW_STRING, kind, (int64_t)strlen(kind), r->err);
}

/* Text that the evaluation makes itself: one row without any. */
static sqz_status render_nothing(renderer *r)
{
    sqz_status st = rows_begin(r->out, 1, r->err);
    if (!st) st = put_kind(r);
    return st ? st : put_names(r, "request.metrics", &r->t->metrics);
}

/* The row with its answer, as one text: for calibration, and to find rows that leaked. */
static sqz_status put_document(renderer *r)
{
    asked *a = &r->doc;
    text_buffer whole = {0};
    const text_buffer *q = a->n_contexts ? &a->contexts[a->gold] : &a->prompt;
    text_add(&whole, q->at, q->n);
    if (whole.n && r->t->output != TASK_LOGLIK) add_text(&whole, r->t->target_delimiter);
    text_add(&whole, a->target.at, a->target.n);
    sqz_status st = put(r, "request.document", &whole, NULL);
    text_free(&whole);
    return st;
}

static sqz_status render_row(renderer *r, int64_t row)
{
    sqz_status st = make_context(r, row);
    if (!st) st = ask(r, r->docs, row, &r->doc);
    if (!st) st = rows_begin(r->out, rows_line(r->docs, row), r->err);
    if (st) return st;
    switch (r->t->output) {
    case TASK_CHOICE: st = put_choice(r); break;
    case TASK_LOGLIK:
        st = put(r, "request.context", &r->context, &r->doc.prompt);
        if (!st) st = put(r, "request.continuation", &r->doc.target, NULL);
        break;
    case TASK_ROLLING: st = put_rolling(r); break;
    case TASK_GENERATE: st = put_generation(r); break;
    case TASK_NEEDLE:
    case TASK_GROWTH: st = put_kind(r); break;
    }
    if (!st) st = put_names(r, "request.metrics", &r->t->metrics);
    return st ? st : put_document(r);
}

static void asked_free(asked *a)
{
    text_free(&a->prompt);
    text_free(&a->target);
    for (int k = 0; k < MAX_CHOICES; k++) {
        text_free(&a->contexts[k]);
        text_free(&a->choices[k]);
    }
}

sqz_status task_render(const task *t, const row_store *docs, const row_store *pool, row_store **out,
                       sqz_error *err)
{
    renderer *r = calloc(1, sizeof *r);
    if (!r) return err_set(err, SQZ_E_NOMEM, "task %s: no memory", t->name);
    r->t = t;
    r->docs = docs;
    r->pool = pool;
    r->err = err;
    r->drawn = malloc((size_t)(t->shots + 1) * sizeof *r->drawn);
    python_random_seed(&r->random, FEWSHOT_SEED);
    sqz_status st = r->drawn ? rows_new(&r->out, err) : err_set(err, SQZ_E_NOMEM, "no memory");
    int64_t n = docs ? rows_count(docs) : 0;
    if (!st) st = rows_begin_file(r->out, n ? rows_path(docs, 0) : t->name, err);
    for (int64_t i = 0; i < n && !st; i++) st = render_row(r, i);
    if (!st && !docs) st = render_nothing(r);
    asked_free(&r->doc);
    asked_free(&r->shot);
    text_free(&r->context);
    text_free(&r->piece);
    free(r->drawn);
    if (st)
        rows_free(r->out);
    else
        *out = r->out;
    free(r);
    return st;
}
