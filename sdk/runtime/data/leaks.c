/* leaks.c - which rows of one set also occur in others, by their whole text or question.
 *
 * Texts are compared after white space is evened out, so that a line break or a trailing space does
 * not hide a row.  Longer overlaps inside different texts are overlap.c's. */
#include "data/data.h"
#include "data/documents.h"
#include <stdlib.h>
#include <string.h>

/* ---- a set of strings ---------------------------------------------------------------------------
 */

enum { MIN_LINE = 16 }; /* bytes; shorter lines of a .txt file name no document */

typedef struct text_set {
    text_buffer text;
    span *slots; /* n = -1: free */
    uint64_t n_slots, n_used;
    text_buffer key; /* scratch */
    int failed;
} text_set;

static uint64_t hash_text(const char *p, int64_t n)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * UINT64_C(0x100000001B3);
    return h ^ h >> 32;
}

static span *slot_of(const text_set *s, const char *p, int64_t n)
{
    for (uint64_t i = hash_text(p, n);; i++) {
        span *slot = &s->slots[i & (s->n_slots - 1)];
        if (slot->n < 0) return slot;
        if (slot->n == n && !memcmp(s->text.at + slot->at, p, (size_t)n)) return slot;
    }
}

static int set_grow(text_set *s)
{
    text_set bigger = *s;
    bigger.n_slots = s->n_slots ? 2 * s->n_slots : 1024;
    bigger.slots = malloc(bigger.n_slots * sizeof *bigger.slots);
    if (!bigger.slots) return 0;
    for (uint64_t i = 0; i < bigger.n_slots; i++) bigger.slots[i] = (span){0, -1};
    for (uint64_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].n >= 0)
            *slot_of(&bigger, s->text.at + s->slots[i].at, s->slots[i].n) = s->slots[i];
    free(s->slots);
    s->slots = bigger.slots;
    s->n_slots = bigger.n_slots;
    return 1;
}

/* Leaves the evened-out text in s->key. */
static void make_key(text_set *s, const char *p, int64_t n)
{
    int pending = 0;
    s->key.n = 0;
    for (int64_t i = 0; i < n; i++) {
        int space = p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r');
        if (!space && pending && s->key.n) text_add(&s->key, " ", 1);
        if (!space) text_add(&s->key, p + i, 1);
        pending = space;
    }
    if (s->key.failed) s->failed = 1;
}

typedef int (*use_key)(text_set *, const char *, int64_t);

static int set_add(text_set *s, const char *p, int64_t n)
{
    make_key(s, p, n);
    if (!s->key.n || s->failed) return 0;
    if (2 * (s->n_used + 1) > s->n_slots && !set_grow(s)) {
        s->failed = 1;
        return 0;
    }
    span *slot = slot_of(s, s->key.at, s->key.n);
    if (slot->n >= 0) return 0;
    span added = {s->text.n, s->key.n};
    text_add(&s->text, s->key.at, s->key.n);
    if (s->text.failed) {
        s->failed = 1;
        return 0;
    }
    *slot = added;
    s->n_used++;
    return 0;
}

static int set_has(text_set *s, const char *p, int64_t n)
{
    make_key(s, p, n);
    return s->key.n && s->n_slots && slot_of(s, s->key.at, s->key.n)->n >= 0;
}

static void set_free(text_set *s)
{
    text_free(&s->text);
    text_free(&s->key);
    free(s->slots);
}

/* "Question: Q\nAnswer: ..." in a text is the question Q. */
static int visit_question(text_set *set, const char *p, int64_t n, use_key use)
{
    static const char head[] = "Question: ", tail[] = "\nAnswer:";
    int64_t skip = (int64_t)strlen(head);
    if (n < skip || memcmp(p, head, (size_t)skip) != 0) return 0;
    const char *end = memmem(p + skip, (size_t)(n - skip), tail, strlen(tail));
    return end ? use(set, p + skip, end - (p + skip)) : 0;
}

/* Everything by which the row could be known again; stops at the first `use` that says 1. */
static int visit_keys(text_set *set, const dataset *d, int64_t i, text_buffer *scratch, use_key use)
{
    static const char *const fields[] = {"text", "question", "ctx", "query", "context"};
    const row_store *s = data_rows(d);
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        int64_t n;
        const char *p = rows_text(s, i, fields[k], &n);
        if (p && (use(set, p, n) || visit_question(set, p, n, use))) return 1;
    }
    return d->kind != DATA_TEXT && document_text(d, i, scratch) &&
           use(set, scratch->at, scratch->n);
}

static void add_lines(text_set *set, const char *p, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        const char *end = memchr(p + i, '\n', (size_t)(n - i));
        int64_t length = end ? end - (p + i) : n - i;
        if (length >= MIN_LINE) set_add(set, p + i, length);
        i += length + 1;
    }
}

sqz_status documents_mark_leaks(const dataset *d, const dataset *const *sets, int64_t n_sets,
                                uint8_t *skip, int64_t *n_marked, sqz_error *err)
{
    text_set known = {0};
    text_buffer scratch = {0};
    *n_marked = 0;
    for (int64_t k = 0; k < n_sets; k++)
        for (int64_t i = 0; i < sets[k]->rows.n_rows; i++) {
            int64_t n;
            visit_keys(&known, sets[k], i, &scratch, set_add);
            if (sets[k]->is_txt) {
                const char *text = rows_text(data_rows(sets[k]), i, "text", &n);
                add_lines(&known, text, n);
            }
        }
    for (int64_t i = 0; i < d->rows.n_rows && !known.failed; i++) {
        skip[i] = (uint8_t)visit_keys(&known, d, i, &scratch, set_has);
        *n_marked += skip[i];
    }
    int failed = known.failed || scratch.failed;
    set_free(&known);
    text_free(&scratch);
    return failed ? err_set(err, SQZ_E_NOMEM, "%s: no memory to compare its rows", d->path)
                  : SQZ_OK;
}

/* Every row that says what an earlier row says: its document, or where no rule makes one, all its
 * fields. */
sqz_status documents_duplicates(const dataset *d, int64_t *n, sqz_error *err)
{
    text_set known = {0};
    text_buffer text = {0};
    const row_store *s = data_rows(d);
    *n = 0;
    for (int64_t i = 0; i < d->rows.n_rows && !known.failed; i++) {
        if (!document_text(d, i, &text)) {
            text.n = 0;
            for (int64_t k = 0; k < rows_n_names(s); k++) {
                int64_t bytes = 0, list = rows_list_length(s, i, rows_name(s, k));
                const char *p = rows_text(s, i, rows_name(s, k), &bytes);
                text_add(&text, p ? p : "", bytes);
                for (int64_t e = 0; e < list; e++) {
                    const char *item = rows_list_text(s, i, rows_name(s, k), e);
                    text_add(&text, item, (int64_t)strlen(item));
                    text_add(&text, "\x1F", 1);
                }
                text_add(&text, "\x1E", 1);
            }
        }
        if (set_has(&known, text.at, text.n))
            ++*n;
        else
            set_add(&known, text.at, text.n);
    }
    int failed = known.failed || text.failed;
    set_free(&known);
    text_free(&text);
    return failed ? err_set(err, SQZ_E_NOMEM, "%s: no memory to compare its rows", d->path)
                  : SQZ_OK;
}
