/* calibration.c - windows of tokens that methods are calibrated on, kept apart from what is
 * evaluated. */
#include "data/data.h"
#include "data/documents.h"
#include "hash/sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts that must not be used ----------------------------------------------------------------
 * A set of strings, compared after white space is evened out, so that a line break or a trailing
 * space does not hide a row. */

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

/* ---- windows ------------------------------------------------------------------------------------
 */

/* splitmix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Moves `wanted` windows, drawn without repetition, to the front. */
static void draw_windows(int32_t *ids, int64_t windows, int64_t wanted, int64_t length,
                         uint64_t seed)
{
    for (int64_t i = 0; i < wanted; i++) {
        int64_t from = i + (int64_t)(next_random(&seed) % (uint64_t)(windows - i));
        int32_t *a = ids + i * length, *b = ids + from * length;
        for (int64_t k = 0; k < length; k++) {
            int32_t id = a[k];
            a[k] = b[k];
            b[k] = id;
        }
    }
}

static void hash_windows(calibration *c)
{
    sha256 *h = sha256_new();
    char shape[80];
    int n = snprintf(shape, sizeof shape, "sqz.calibration/1 %lld %lld\n", (long long)c->windows,
                     (long long)c->window);
    sha256_update(h, shape, (size_t)n);
    uint8_t bytes[4096];
    int64_t total = c->windows * c->window;
    for (int64_t i = 0; i < total;) {
        size_t used = 0;
        for (; i < total && used < sizeof bytes; i++, used += 4) {
            uint32_t v = (uint32_t)c->ids[i]; /* little-endian on every machine */
            for (int k = 0; k < 4; k++) bytes[used + (size_t)k] = (uint8_t)(v >> 8 * k);
        }
        sha256_update(h, bytes, used);
    }
    sha256_final(h, c->digest);
}

static sqz_status check_options(const dataset *d, const calibration_options *o, int64_t *limit,
                                sqz_error *err)
{
    if (o->samples < 1 || o->seq_len < 2 || __builtin_mul_overflow(o->samples, o->seq_len, limit))
        return err_set(err, ERR_USAGE,
                       "%s: %lld calibration windows of %lld tokens; use at least 1 of at least 2",
                       d->path, (long long)o->samples, (long long)o->seq_len);
    if (o->shuffle) *limit = -1;
    return SQZ_OK;
}

static sqz_status too_short(const dataset *d, int64_t tokens, const calibration *c, sqz_error *err)
{
    return err_set(err, ERR_MODEL,
                   "%s: %lld calibration tokens are less than one window of %lld (%lld rows left "
                   "out because they are evaluated too); use a shorter --seq-len or more data",
                   d->path, (long long)tokens, (long long)c->window, (long long)c->left_out);
}

sqz_status calibration_make(const dataset *d, tokenizer *t, const calibration_options *o,
                            calibration *out, sqz_error *err)
{
    calibration c = {.window = o->seq_len};
    id_list ids = {0};
    int64_t limit = -1;
    sqz_status st = check_options(d, o, &limit, err);
    if (st != SQZ_OK) return st;
    uint8_t *skip = calloc((size_t)d->rows.n_rows, 1);
    if (!skip) return err_set(err, SQZ_E_NOMEM, "%s: no memory to mark its rows", d->path);
    if (o->leak_check && o->n_leak_check)
        st = documents_mark_leaks(d, o->leak_check, o->n_leak_check, skip, &c.left_out, err);
    if (st == SQZ_OK) st = documents_stream(d, t, o->frame, skip, limit, &ids, err);
    free(skip);
    if (st == SQZ_OK && ids.n < c.window) st = too_short(d, ids.n, &c, err);
    if (st != SQZ_OK) {
        ids_free(&ids);
        return st;
    }
    int64_t windows = ids.n / c.window;
    c.windows = windows < o->samples ? windows : o->samples;
    if (o->shuffle) draw_windows(ids.at, windows, c.windows, c.window, o->seed);
    c.ids = realloc(ids.at, (size_t)(c.windows * c.window) * sizeof *c.ids);
    if (!c.ids) c.ids = ids.at; /* shrinking failed: the larger block serves as well */
    hash_windows(&c);
    *out = c;
    return SQZ_OK;
}

void calibration_free(calibration *c)
{
    if (!c) return;
    free(c->ids);
    *c = (calibration){0};
}
