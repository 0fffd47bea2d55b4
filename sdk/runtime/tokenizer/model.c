/* model.c - see model.h. */
#include "tokenizer/model.h"
#include <stdlib.h>
#include <string.h>

enum {
    CACHED_WORD = 128,     /* bytes */
    CACHE_SLOTS = 1 << 16, /* half of them used at most */
    CACHE_BYTES = 16 << 20 /* of words and ids */
};

typedef struct cache_slot {
    uint64_t hash;
    int32_t word, ids; /* offsets */
    int32_t n_word;    /* 0: free */
    int32_t n_ids;
} cache_slot;

struct word_cache {
    cache_slot slots[CACHE_SLOTS];
    int64_t n;
    text_buffer words;
    id_list ids;
};

void word_model_free(word_model *m)
{
    vocab_free(m->vocab);
    bpe_free(m->bpe);
    unigram_free(m->unigram);
    wordpiece_free(m->wordpiece);
    wordlevel_free(m->wordlevel);
    if (m->cache) {
        text_free(&m->cache->words);
        ids_free(&m->cache->ids);
    }
    free(m->cache);
    *m = (word_model){0};
}

int64_t word_model_steps(const word_model *m)
{
    return m->bpe         ? bpe_steps(m->bpe)
           : m->unigram   ? unigram_steps(m->unigram)
           : m->wordpiece ? wordpiece_steps(m->wordpiece)
                          : wordlevel_steps(m->wordlevel);
}

static sqz_status encode_new(word_model *m, const char *word, int64_t n, const id_list **ids,
                             sqz_error *err)
{
    sqz_status st = SQZ_OK;
    if (m->bpe)
        *ids = bpe_encode(m->bpe, word, n);
    else if (m->unigram)
        st = unigram_encode(m->unigram, word, n, ids, err);
    else if (m->wordpiece)
        *ids = wordpiece_encode(m->wordpiece, word, n);
    else
        st = wordlevel_encode(m->wordlevel, word, n, ids, err);
    if (st == SQZ_OK && (*ids)->failed)
        st = err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for a word of %lld bytes",
                     (long long)n);
    return st;
}

static void emit(id_list *out, const int32_t *ids, int64_t n)
{
    int32_t *to = n ? ids_reserve(out, n) : NULL;
    if (!to) return;
    for (int64_t i = 0; i < n; i++) to[i] = ids[i];
    out->n += n;
}

/* The word's slot, or the free one for it. */
static cache_slot *cache_slot_of(word_cache *c, uint64_t hash, const char *word, int64_t n)
{
    for (uint64_t i = hash;; i++) {
        cache_slot *slot = &c->slots[i & (CACHE_SLOTS - 1)];
        if (!slot->n_word || (slot->hash == hash && slot->n_word == n &&
                              !memcmp(c->words.at + slot->word, word, (size_t)n)))
            return slot;
    }
}

/* slot is free.  Failure to remember is no failure. */
static void cache_put(word_cache *c, cache_slot *slot, uint64_t hash, const char *word, int64_t n,
                      const id_list *ids)
{
    int64_t at = c->words.n, ids_at = c->ids.n;
    emit(&c->ids, ids->at, ids->n);
    text_add(&c->words, word, n);
    if (c->ids.failed || c->words.failed) return;
    *slot = (cache_slot){hash, (int32_t)at, (int32_t)ids_at, (int32_t)n, (int32_t)ids->n};
    c->n++;
}

static void cache_reset(word_cache *c)
{
    memset(c->slots, 0, sizeof c->slots);
    c->n = c->words.n = c->ids.n = 0;
}

sqz_status word_model_encode(word_model *m, const char *word, int64_t n, id_list *out,
                             sqz_error *err)
{
    const id_list *ids;
    cache_slot *slot = NULL;
    uint64_t hash = 0;
    if (n <= 0) return SQZ_OK;
    if (!m->cache) m->cache = calloc(1, sizeof *m->cache);
    if (n <= CACHED_WORD && m->cache) {
        word_cache *c = m->cache;
        if (c->n * 2 >= CACHE_SLOTS || c->words.n + 4 * c->ids.n > (int64_t)CACHE_BYTES)
            cache_reset(c);
        hash = hash_bytes(word, n);
        slot = cache_slot_of(c, hash, word, n);
        if (slot->n_word) {
            emit(out, c->ids.at + slot->ids, slot->n_ids);
            return SQZ_OK;
        }
    }
    sqz_status st = encode_new(m, word, n, &ids, err);
    if (st != SQZ_OK) return st;
    if (slot) cache_put(m->cache, slot, hash, word, n, ids);
    emit(out, ids->at, ids->n);
    return SQZ_OK;
}
