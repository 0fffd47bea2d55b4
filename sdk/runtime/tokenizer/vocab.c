/* vocab.c - see vocab.h. */
#include "tokenizer/vocab.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_ID = 1 << 22 }; /* 16 times the largest vocabulary in use */

typedef struct piece_slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} piece_slot;

struct vocab {
    char *file;
    text_buffer text;
    span *pieces; /* [size]; n = -1: no such id */
    int64_t size, room;
    piece_slot *slots;
    uint64_t n_slots, n_used; /* a power of two */
};

uint64_t hash_bytes(const char *s, int64_t n)
{
    uint64_t h = (uint64_t)n * UINT64_C(0x9E3779B97F4A7C15), v;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
    }
    v = 0;
    for (int64_t i = 0; i < n; i++) v = v << 8 | (uint8_t)s[i];
    h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
    h ^= h >> 32;
    h *= UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

static sqz_status no_memory(const vocab *m, sqz_error *err)
{
    return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", m->file);
}

/* Bytes of a piece, which need not end in zero, in a message. */
static int shown(int64_t n)
{
    return n > 60 ? 60 : (int)n;
}

vocab *vocab_new(const char *file)
{
    vocab *m = calloc(1, sizeof *m);
    if (m && (m->file = strdup(file))) return m;
    free(m);
    return NULL;
}

void vocab_free(vocab *m)
{
    if (!m) return;
    free(m->file);
    text_free(&m->text);
    free(m->pieces);
    free(m->slots);
    free(m);
}

const char *vocab_file(const vocab *m)
{
    return m->file;
}

int64_t vocab_count(const vocab *m)
{
    return (int64_t)m->n_used;
}

int32_t vocab_find(const vocab *m, const char *piece, int64_t n)
{
    if (!m->n_slots) return -1;
    uint64_t hash = hash_bytes(piece, n);
    for (uint64_t i = hash;; i++) {
        const piece_slot *slot = &m->slots[i & (m->n_slots - 1)];
        if (slot->id < 0) return -1;
        const span *p = &m->pieces[slot->id];
        if (slot->hash == (uint32_t)hash && p->n == n &&
            (!n || !memcmp(m->text.at + p->at, piece, (size_t)n)))
            return slot->id;
    }
}

int32_t vocab_find_byte(const vocab *m, uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";
    char name[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
    return vocab_find(m, name, 6);
}

const char *vocab_piece(const vocab *m, int64_t id, int64_t *n)
{
    if (id < 0 || id >= m->size || m->pieces[id].n < 0) return NULL;
    *n = m->pieces[id].n;
    return *n ? m->text.at + m->pieces[id].at : "";
}

int64_t vocab_size(const vocab *m)
{
    return m->size;
}

static void slot_put(piece_slot *slots, uint64_t n_slots, uint64_t hash, int32_t id)
{
    uint64_t i = hash;
    while (slots[i & (n_slots - 1)].id >= 0) i++;
    slots[i & (n_slots - 1)] = (piece_slot){(uint32_t)hash, id};
}

static sqz_status slots_grow(vocab *m, sqz_error *err)
{
    uint64_t n = m->n_slots ? m->n_slots * 2 : 1024;
    piece_slot *slots = malloc(n * sizeof *slots);
    if (!slots) return no_memory(m, err);
    for (uint64_t i = 0; i < n; i++) slots[i].id = -1;
    for (uint64_t i = 0; i < m->n_slots; i++) {
        int32_t id = m->slots[i].id;
        if (id < 0) continue;
        const span *p = &m->pieces[id];
        slot_put(slots, n, hash_bytes(m->text.at + p->at, p->n), id);
    }
    free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    return SQZ_OK;
}

sqz_status vocab_name_id(vocab *m, const char *piece, int64_t n, int64_t id, sqz_error *err)
{
    if (id < 0 || id >= MAX_ID)
        return err_set(err, ERR_MODEL, "%s: \"%.*s\" has id %lld; ids go from 0 to %d", m->file,
                       shown(n), piece, (long long)id, MAX_ID - 1);
    if (id >= m->room) {
        int64_t room = m->room ? m->room : 1024;
        while (room <= id) room *= 2;
        span *more = realloc(m->pieces, (size_t)room * sizeof *more);
        if (!more) return no_memory(m, err);
        for (int64_t i = m->room; i < room; i++) more[i] = (span){0, -1};
        m->pieces = more;
        m->room = room;
    }
    if (m->pieces[id].n >= 0)
        return err_set(err, ERR_MODEL, "%s: id %lld belongs to \"%.*s\" and to \"%.*s\"", m->file,
                       (long long)id, shown(m->pieces[id].n), m->text.at + m->pieces[id].at,
                       shown(n), piece);
    m->pieces[id] = (span){m->text.n, n};
    text_add(&m->text, piece, n);
    text_add(&m->text, "", 1); /* so that even an empty piece lies somewhere */
    if (m->text.failed) return no_memory(m, err);
    if (id >= m->size) m->size = id + 1;
    return SQZ_OK;
}

sqz_status vocab_add(vocab *m, const char *piece, int64_t n, int64_t id, sqz_error *err)
{
    if (vocab_find(m, piece, n) >= 0)
        return err_set(err, ERR_MODEL, "%s: \"%.*s\" is in the vocabulary twice", m->file, shown(n),
                       piece);
    sqz_status st = vocab_name_id(m, piece, n, id, err);
    if (st == SQZ_OK && 2 * (m->n_used + 1) > m->n_slots) st = slots_grow(m, err);
    if (st != SQZ_OK) return st;
    slot_put(m->slots, m->n_slots, hash_bytes(piece, n), (int32_t)id);
    m->n_used++;
    return SQZ_OK;
}
