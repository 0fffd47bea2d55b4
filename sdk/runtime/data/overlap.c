/* overlap.c - see overlap.h.
 *
 * Runs of words are kept as 64-bit hashes: among a billion different runs 0.03 pairs are expected
 * to be taken for equal wrongly, far below what the figures are read for. */
#include "data/overlap.h"
#include "data/documents.h"
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- a set of hashes ----------------------------------------------------------------------------
 */

typedef struct hash_set {
    uint64_t *slots; /* 0 = free; a hash of 0 is kept as 1 */
    uint64_t n_slots, n;
    int failed;
} hash_set;

static uint64_t *slot_of(const hash_set *s, uint64_t h)
{
    for (uint64_t i = h;; i++) {
        uint64_t *slot = &s->slots[i & (s->n_slots - 1)];
        if (!*slot || *slot == h) return slot;
    }
}

static void set_add(hash_set *s, uint64_t h)
{
    h += !h;
    if (2 * (s->n + 1) > s->n_slots) {
        hash_set larger = {NULL, s->n_slots ? 2 * s->n_slots : 4096, s->n, 0};
        larger.slots = calloc(larger.n_slots, sizeof *larger.slots);
        if (!larger.slots) {
            s->failed = 1;
            return;
        }
        for (uint64_t i = 0; i < s->n_slots; i++)
            if (s->slots[i]) *slot_of(&larger, s->slots[i]) = s->slots[i];
        free(s->slots);
        *s = larger;
    }
    uint64_t *slot = slot_of(s, h);
    s->n += !*slot;
    *slot = h;
}

static int set_has(const hash_set *s, uint64_t h)
{
    h += !h;
    return s->n_slots && *slot_of(s, h) == h;
}

/* ---- runs of words ------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The last 13 words, as hashes, oldest overwritten first. */
typedef struct window {
    uint64_t words[OVERLAP_WORDS];
    int64_t n;
} window;

static uint64_t run_hash(const window *w)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15);
    for (int64_t k = 0; k < OVERLAP_WORDS; k++)
        h = mix(h ^ w->words[(w->n + k) % OVERLAP_WORDS]) + UINT64_C(0x9E3779B97F4A7C15);
    return h;
}

typedef struct visit {
    hash_set *add;         /* every run goes here, or NULL */
    const hash_set *known; /* a run in here makes the row overlap, or NULL */
    hash_set *shared;      /* and goes here, or NULL */
    int64_t runs, hits;    /* of all rows so far */
    int is_long, overlaps; /* of this row */
} visit;

static void end_word(window *w, uint64_t *word, int *in_word, visit *v)
{
    if (!*in_word) return;
    w->words[w->n++ % OVERLAP_WORDS] = mix(*word);
    *in_word = 0;
    *word = 0;
    if (w->n < OVERLAP_WORDS) return;
    uint64_t h = run_hash(w);
    v->is_long = 1;
    v->runs++;
    if (v->add) set_add(v->add, h);
    if (!v->known || !set_has(v->known, h)) return;
    v->overlaps = 1;
    v->hits++;
    if (v->shared) set_add(v->shared, h);
}

static void visit_text(const char *p, int64_t n, visit *v)
{
    window w = {{0}, 0};
    uint64_t word = 0;
    int in_word = 0;
    for (int64_t i = 0; i < n;) {
        uint32_t c = (uint8_t)p[i];
        int length = 1;
        if (c >= 0x80) length = utf8_next(p + i, n - i, &c);
        if (!length) { /* no text; words end here */
            c = ' ';
            length = 1;
        }
        int letter = c < 0x80 ? (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')
                              : char_is(c, CHAR_WORD);
        if (letter) {
            c = c < 0x80 ? (c >= 'A' && c <= 'Z' ? c | 32 : c)
                         : (uint32_t)utf8proc_tolower((int32_t)c);
            word = (word + c + 1) * UINT64_C(0x100000001B3) ^ word >> 29;
            in_word = 1;
        } else if (c != '\'') { /* don't is one word */
            end_word(&w, &word, &in_word, v);
        }
        i += length;
    }
    end_word(&w, &word, &in_word, v);
}

/* Every text of the row by itself: a run does not reach from one field into the next. */
static void visit_row(const row_store *s, int64_t i, visit *v)
{
    v->is_long = v->overlaps = 0;
    for (int64_t k = 0; k < rows_n_names(s); k++) {
        int64_t n, list = rows_list_length(s, i, rows_name(s, k));
        const char *p = rows_text(s, i, rows_name(s, k), &n);
        if (p) visit_text(p, n, v);
        for (int64_t e = 0; e < list; e++) {
            const char *item = rows_list_text(s, i, rows_name(s, k), e);
            visit_text(item, (int64_t)strlen(item), v);
        }
    }
}

static void visit_set(const dataset *d, visit *v, overlap_side *side)
{
    for (int64_t i = 0; i < d->rows.n_rows; i++) {
        visit_row(data_rows(d), i, v);
        side->rows++;
        side->long_rows += v->is_long;
        side->overlapping_rows += v->overlaps;
    }
}

/* ---- both sides ---------------------------------------------------------------------------------
 */

static sqz_status mark_exact(const dataset *a, const dataset *const *b, int64_t n_b, int64_t *n,
                             sqz_error *err)
{
    int64_t marked = 0;
    uint8_t *skip = calloc((size_t)a->rows.n_rows + 1, 1);
    if (!skip) return err_set(err, SQZ_E_NOMEM, "%s: no memory to compare its rows", a->path);
    sqz_status st = documents_mark_leaks(a, b, n_b, skip, &marked, err);
    free(skip);
    *n += marked;
    return st;
}

/* Memory is that of b's runs: b is the smaller side, what is evaluated. */
sqz_status overlap_measure(const dataset *a, const dataset *const *b, int64_t n_b, overlap *out,
                           sqz_error *err)
{
    hash_set in_b = {0}, shared = {0};
    overlap o = {0};
    overlap_side ignored = {0};
    visit fill = {.add = &in_b}, of_a = {.known = &in_b, .shared = &shared},
          of_b = {.known = &shared};
    sqz_status st = mark_exact(a, b, n_b, &o.a.exact_rows, err);
    for (int64_t k = 0; k < n_b; k++) visit_set(b[k], &fill, &ignored);
    visit_set(a, &of_a, &o.a);
    for (int64_t k = 0; k < n_b && st == SQZ_OK; k++) {
        visit_set(b[k], &of_b, &o.b);
        st = mark_exact(b[k], &a, 1, &o.b.exact_rows, err);
    }
    o.a.runs = of_a.runs;
    o.a.shared_runs = of_a.hits;
    o.b.runs = of_b.runs;
    o.b.shared_runs = of_b.hits;
    if (st == SQZ_OK && (in_b.failed || shared.failed))
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory to compare its rows", a->path);
    free(in_b.slots);
    free(shared.slots);
    if (st == SQZ_OK) *out = o;
    return st;
}
