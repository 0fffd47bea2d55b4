/* bpe.c - see bpe.h.
 *
 * Short words are merged by scanning for the lowest rank, long ones with a heap over a linked list
 * (n log n), and both give what the `tokenizers` package gives: lowest rank first, leftmost of
 * equals. */
#include "tokenizer/bpe.h"
#include <stdlib.h>
#include <string.h>

enum {
    SHORT_WORD = 48 /* symbols; beyond it the heap wins */
};

typedef struct merge_slot {
    uint64_t pair; /* left id in the high half; NO_PAIR: free */
    int32_t rank, id;
} merge_slot;
#define NO_PAIR UINT64_MAX

typedef struct symbol {
    int32_t id;           /* -1: merged into the one before it */
    int64_t before, next; /* -1: none */
} symbol;

struct bpe {
    const vocab *vocab;
    merge_slot *merges;
    uint64_t n_merge_slots;
    int64_t n_merges;
    int32_t unk;
    int32_t byte_ids[256]; /* of <0xHH>, with byte fallback; -1: none */
    int32_t char_ids[256]; /* of the byte's GPT-2 character */
    char *prefix, *suffix;
    int64_t n_prefix, n_suffix;
    int fuse_unk, byte_fallback, all_bytes, ignore_merges, reads_bytes, joins_spaces;

    id_list symbols; /* scratch */
    text_buffer mapped, extended;
    symbol *list;
    uint64_t *heap;
    int64_t list_room, heap_room, n_heap;
    int64_t steps;
};

static uint64_t hash_pair(uint64_t pair)
{
    pair *= UINT64_C(0x9E3779B97F4A7C15);
    return pair ^ pair >> 32;
}

static sqz_status no_memory(const bpe *m, sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", vocab_file(m->vocab));
}

bpe *bpe_new(const vocab *vocab)
{
    bpe *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->vocab = vocab;
    m->unk = -1;
    for (int i = 0; i < 256; i++) m->byte_ids[i] = -1;
    return m;
}

void bpe_free(bpe *m)
{
    if (!m) return;
    free(m->merges);
    free(m->prefix);
    free(m->suffix);
    ids_free(&m->symbols);
    text_free(&m->mapped);
    text_free(&m->extended);
    free(m->list);
    free(m->heap);
    free(m);
}

/* ---- options ------------------------------------------------------------------------------------
 */

sqz_status bpe_ready(bpe *m, const bpe_options *o, sqz_error *err)
{
    if (!vocab_count(m->vocab))
        return err_set(err, ERR_MODEL, "%s: the vocabulary is empty", vocab_file(m->vocab));
    if (o->unk_token) {
        m->unk = vocab_find(m->vocab, o->unk_token, (int64_t)strlen(o->unk_token));
        if (m->unk < 0)
            return err_set(err, ERR_MODEL, "%s: unk_token \"%.60s\" is not in the vocabulary",
                           vocab_file(m->vocab), o->unk_token);
    }
    m->fuse_unk = o->fuse_unk;
    m->byte_fallback = o->byte_fallback;
    m->ignore_merges = o->ignore_merges;
    if (o->prefix && *o->prefix && !(m->prefix = strdup(o->prefix))) return no_memory(m, err);
    if (o->suffix && *o->suffix && !(m->suffix = strdup(o->suffix))) return no_memory(m, err);
    m->n_prefix = m->prefix ? (int64_t)strlen(m->prefix) : 0;
    m->n_suffix = m->suffix ? (int64_t)strlen(m->suffix) : 0;
    for (int b = 0; b < 256 && m->byte_fallback; b++)
        m->byte_ids[b] = vocab_find_byte(m->vocab, (uint8_t)b);
    return SQZ_OK;
}

void bpe_read_bytes(bpe *m)
{
    m->reads_bytes = 1;
    m->all_bytes = !m->prefix && !m->suffix;
    for (int b = 0; b < 256; b++) {
        char text[4];
        m->char_ids[b] = vocab_find(m->vocab, text, utf8_put(byte_to_char((uint8_t)b), text));
        if (m->char_ids[b] < 0) m->all_bytes = 0;
    }
}

/* ---- merges -------------------------------------------------------------------------------------
 */

static const merge_slot *merge_find(const bpe *m, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if (!m->n_merge_slots) return NULL;
    for (uint64_t i = hash_pair(pair);; i++) {
        const merge_slot *slot = &m->merges[i & (m->n_merge_slots - 1)];
        if (slot->pair == pair) return slot;
        if (slot->pair == NO_PAIR) return NULL;
    }
}

static void merge_put(merge_slot *slots, uint64_t n_slots, merge_slot merge)
{
    uint64_t i = hash_pair(merge.pair);
    while (slots[i & (n_slots - 1)].pair != NO_PAIR && slots[i & (n_slots - 1)].pair != merge.pair)
        i++;
    slots[i & (n_slots - 1)] = merge; /* of equal pairs the last counts */
}

static sqz_status merges_grow(bpe *m, sqz_error *err)
{
    uint64_t n = m->n_merge_slots ? m->n_merge_slots * 2 : 1024;
    merge_slot *slots = malloc(n * sizeof *slots);
    if (!slots) return no_memory(m, err);
    for (uint64_t i = 0; i < n; i++) slots[i].pair = NO_PAIR;
    for (uint64_t i = 0; i < m->n_merge_slots; i++)
        if (m->merges[i].pair != NO_PAIR) merge_put(slots, n, m->merges[i]);
    free(m->merges);
    m->merges = slots;
    m->n_merge_slots = n;
    return SQZ_OK;
}

/* U+2581, SentencePiece's space. */
static int begins_with_space(const char *s, int64_t n)
{
    return n >= 3 && !memcmp(s, "\xE2\x96\x81", 3);
}

sqz_status bpe_add_merge(bpe *m, const char *left, int64_t n_left, const char *right,
                         int64_t n_right, sqz_error *err)
{
    int64_t rank = m->n_merges;
    int skip = m->n_prefix && n_right >= m->n_prefix ? (int)m->n_prefix : 0;
    if (n_left <= 0 || n_right <= 0)
        return err_set(err, ERR_MODEL, "%s: merge %lld has an empty side", vocab_file(m->vocab),
                       (long long)rank);
    int32_t a = vocab_find(m->vocab, left, n_left), b = vocab_find(m->vocab, right, n_right);
    if (a < 0 || b < 0)
        return err_set(err, ERR_MODEL, "%s: merge %lld names \"%.60s\", not in the vocabulary",
                       vocab_file(m->vocab), (long long)rank, a < 0 ? left : right);
    m->mapped.n = 0;
    text_add(&m->mapped, left, n_left);
    text_add(&m->mapped, right + skip, n_right - skip);
    if (m->mapped.failed) return no_memory(m, err);
    int32_t id = vocab_find(m->vocab, m->mapped.at, m->mapped.n);
    if (id < 0)
        return err_set(err, ERR_MODEL, "%s: merge %lld makes \"%.*s\", not in the vocabulary",
                       vocab_file(m->vocab), (long long)rank,
                       (int)(m->mapped.n > 60 ? 60 : m->mapped.n), m->mapped.at);
    if (begins_with_space(right, n_right) &&
        !(n_left >= 3 && begins_with_space(left + n_left - 3, 3)))
        m->joins_spaces = 1;
    if (2 * ((uint64_t)rank + 1) > m->n_merge_slots) {
        sqz_status st = merges_grow(m, err);
        if (st != SQZ_OK) return st;
    }
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    merge_put(m->merges, m->n_merge_slots, (merge_slot){pair, (int32_t)rank, id});
    m->n_merges++;
    return SQZ_OK;
}

int bpe_cuts_at_spaces(const bpe *m)
{
    return !m->joins_spaces && !m->ignore_merges && !m->prefix && !m->suffix &&
           vocab_find(m->vocab, "\xE2\x96\x81", 3) >= 0;
}

/* ---- a word's first symbols ---------------------------------------------------------------------
 */

/* *unk: an unknown symbol waits, so that unknowns after it can be fused into it. */
static void flush_unk(bpe *m, int *unk)
{
    if (*unk) ids_add(&m->symbols, m->unk);
    *unk = 0;
}

/* All bytes of the symbol have a fallback piece: add them.  As in the reference, an unknown that
 * waits is not written first. */
static int add_bytes(bpe *m, const char *s, int64_t n)
{
    if (!m->byte_fallback) return 0;
    for (int64_t i = 0; i < n; i++)
        if (m->byte_ids[(uint8_t)s[i]] < 0) return 0;
    for (int64_t i = 0; i < n; i++) ids_add(&m->symbols, m->byte_ids[(uint8_t)s[i]]);
    return 1;
}

static void add_symbol(bpe *m, const char *s, int64_t n, int *unk)
{
    int32_t id = vocab_find(m->vocab, s, n);
    if (id >= 0) {
        flush_unk(m, unk);
        ids_add(&m->symbols, id);
    } else if (!add_bytes(m, s, n) && m->unk >= 0) {
        if (!m->fuse_unk) flush_unk(m, unk);
        *unk = 1;
    }
}

/* word: valid UTF-8. */
static void first_symbols(bpe *m, const char *word, int64_t n)
{
    int unk = 0;
    uint32_t c;
    for (int64_t i = 0, length; i < n; i += length) {
        length = utf8_next(word + i, n - i, &c);
        if (!length) length = 1;
        int first = i == 0, last = i + length >= n;
        if ((first || !m->prefix) && (!last || !m->suffix)) {
            add_symbol(m, word + i, length, &unk);
            continue;
        }
        m->extended.n = 0;
        if (!first) text_add(&m->extended, m->prefix, m->n_prefix);
        text_add(&m->extended, word + i, length);
        if (last) text_add(&m->extended, m->suffix, m->n_suffix);
        if (m->extended.failed)
            m->symbols.failed = 1;
        else
            add_symbol(m, m->extended.at, m->extended.n, &unk);
    }
    flush_unk(m, &unk);
}

/* ---- merging ------------------------------------------------------------------------------------
 */

static int64_t merge_short(const bpe *m, int32_t *id, int64_t n)
{
    const merge_slot *pair[SHORT_WORD];
    for (int64_t i = 0; i + 1 < n; i++) pair[i] = merge_find(m, id[i], id[i + 1]);
    while (n > 1) {
        int64_t best = -1;
        for (int64_t i = 0; i + 1 < n; i++)
            if (pair[i] && (best < 0 || pair[i]->rank < pair[best]->rank)) best = i;
        if (best < 0) break;
        id[best] = pair[best]->id;
        n--;
        for (int64_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            pair[i - 1] = pair[i];
        }
        if (best > 0) pair[best - 1] = merge_find(m, id[best - 1], id[best]);
        if (best + 1 < n) pair[best] = merge_find(m, id[best], id[best + 1]);
    }
    return n;
}

/* Entries are rank in the high half, position in the low one: the order that merging needs. */
static void heap_push(bpe *m, uint64_t v)
{
    int64_t i = m->n_heap++;
    for (; i > 0 && m->heap[(i - 1) / 2] > v; i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = v;
}

static uint64_t heap_pop(bpe *m)
{
    uint64_t top = m->heap[0], v = m->heap[--m->n_heap];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= m->n_heap) break;
        if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child]) child++;
        if (m->heap[child] >= v) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = v;
    return top;
}

static void push_pair(bpe *m, int64_t at)
{
    if (at < 0 || m->list[at].next < 0) return;
    const merge_slot *pair = merge_find(m, m->list[at].id, m->list[m->list[at].next].id);
    if (pair) heap_push(m, (uint64_t)(uint32_t)pair->rank << 32 | (uint32_t)at);
}

/* A heap entry is stale when its position has merged since; pairs only ever grow, so the pair that
 * stands there now has another rank. */
static void merge_list(bpe *m)
{
    while (m->n_heap) {
        m->steps++;
        uint64_t top = heap_pop(m);
        int64_t at = (int64_t)(top & UINT32_MAX), next = m->list[at].next;
        if (m->list[at].id < 0 || next < 0) continue;
        const merge_slot *pair = merge_find(m, m->list[at].id, m->list[next].id);
        if (!pair || (uint32_t)pair->rank != top >> 32) continue;
        m->list[at].id = pair->id;
        m->list[at].next = m->list[next].next;
        if (m->list[at].next >= 0) m->list[m->list[at].next].before = at;
        m->list[next].id = -1;
        push_pair(m, m->list[at].before);
        push_pair(m, at);
    }
}

static int64_t merge_long(bpe *m, int32_t *id, int64_t n)
{
    if (n > m->list_room) { /* a merge takes one symbol and adds at most two entries */
        free(m->list);
        free(m->heap);
        m->list = malloc((size_t)n * sizeof *m->list);
        m->heap = malloc((size_t)n * 3 * sizeof *m->heap);
        m->list_room = m->list && m->heap ? n : 0;
        if (!m->list_room) return -1;
    }
    for (int64_t i = 0; i < n; i++) m->list[i] = (symbol){id[i], i - 1, i + 1 < n ? i + 1 : -1};
    m->n_heap = 0;
    for (int64_t i = 0; i < n; i++) push_pair(m, i);
    merge_list(m);
    int64_t left = 0;
    for (int64_t i = 0; i >= 0; i = m->list[i].next) id[left++] = m->list[i].id;
    return left;
}

/* Leaves the word's ids in m->symbols. */
static void encode_new(bpe *m, const char *word, int64_t n)
{
    m->steps += n;
    int32_t *raw = m->all_bytes && !m->ignore_merges ? ids_reserve(&m->symbols, n) : NULL;
    if (raw) {
        for (int64_t i = 0; i < n; i++) raw[i] = m->char_ids[(uint8_t)word[i]];
        m->symbols.n = n;
    } else {
        if (m->reads_bytes) {
            m->mapped.n = 0;
            for (int64_t i = 0; i < n; i++)
                text_add_char(&m->mapped, byte_to_char((uint8_t)word[i]));
            if (m->mapped.failed) m->symbols.failed = 1;
            word = m->mapped.at;
            n = m->mapped.n;
        }
        int32_t whole = m->ignore_merges && !m->symbols.failed ? vocab_find(m->vocab, word, n) : -1;
        if (whole >= 0) {
            ids_add(&m->symbols, whole);
            return;
        }
        if (!m->symbols.failed) first_symbols(m, word, n);
    }
    if (m->symbols.failed) return;
    int64_t left = m->symbols.n <= SHORT_WORD ? merge_short(m, m->symbols.at, m->symbols.n)
                                              : merge_long(m, m->symbols.at, m->symbols.n);
    if (left < 0)
        m->symbols.failed = 1;
    else
        m->symbols.n = left;
}

const id_list *bpe_encode(bpe *m, const char *word, int64_t n)
{
    m->symbols.n = 0;
    m->symbols.failed = m->mapped.failed = m->extended.failed = 0;
    if (n > 0) encode_new(m, word, n);
    return &m->symbols;
}

int64_t bpe_steps(const bpe *m)
{
    return m->steps;
}
