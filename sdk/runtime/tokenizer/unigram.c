/* unigram.c - see unigram.h. */
#include "tokenizer/unigram.h"
#include "tokenizer/trie.h"
#include <stdlib.h>
#include <string.h>

#define UNKNOWN_PENALTY 10.0

typedef struct best {
    double score;
    int32_t id;    /* of the last piece of the best path that ends here */
    int32_t begin; /* of that piece; -1: no path yet */
} best;

struct unigram {
    const vocab *vocab;
    trie *pieces;
    double *scores;
    double unknown_score;
    int32_t unk;
    int32_t byte_ids[256]; /* of <0xHH>; -1: none */
    int byte_fallback;
    best *path; /* [room]; one entry a byte position */
    int64_t room;
    id_list ids;
    int64_t steps;
};

static sqz_status fill(unigram *m, sqz_error *err)
{
    int64_t size = vocab_size(m->vocab), n;
    double low = 0;
    for (int64_t id = 0; id < size; id++) {
        const char *piece = vocab_piece(m->vocab, id, &n);
        if (!piece) continue;
        if (!id || m->scores[id] < low) low = m->scores[id];
        if (vocab_find(m->vocab, piece, n) == id && !trie_add(m->pieces, piece, n, (int32_t)id))
            return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer",
                           vocab_file(m->vocab));
    }
    m->unknown_score = low - UNKNOWN_PENALTY;
    for (int b = 0; b < 256; b++) m->byte_ids[b] = vocab_find_byte(m->vocab, (uint8_t)b);
    return SQZ_OK;
}

sqz_status unigram_new(const vocab *vocab, double *scores, int32_t unk, int byte_fallback,
                       unigram **out, sqz_error *err)
{
    unigram *m = calloc(1, sizeof *m);
    if (!m || !(m->pieces = trie_new())) {
        free(m);
        free(scores);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", vocab_file(vocab));
    }
    m->vocab = vocab;
    m->scores = scores;
    m->unk = unk;
    m->byte_fallback = byte_fallback;
    sqz_status st = fill(m, err);
    if (st == SQZ_OK)
        *out = m;
    else
        unigram_free(m);
    return st;
}

void unigram_free(unigram *m)
{
    if (!m) return;
    trie_free(m->pieces);
    free(m->scores);
    free(m->path);
    ids_free(&m->ids);
    free(m);
}

int64_t unigram_steps(const unigram *m)
{
    return m->steps;
}

/* ---- the best path ------------------------------------------------------------------------------
 */

/* The first of equal scores stays. */
static void offer(best *end, double score, int32_t id, int64_t begin)
{
    if (end->begin >= 0 && score <= end->score) return;
    *end = (best){score, id, (int32_t)begin};
}

static sqz_status find_path(unigram *m, const char *word, int64_t n, sqz_error *err)
{
    best *path = m->path;
    uint32_t c;
    path[0] = (best){0, -1, -1};
    for (int64_t i = 1; i <= n; i++) path[i].begin = -1;
    for (int64_t at = 0, length; at < n; at += length) {
        length = utf8_next(word + at, n - at, &c);
        if (!length) length = 1;
        int single = 0;
        int32_t node = 0;
        for (int64_t i = at; i < n; i++) {
            node = trie_child(m->pieces, node, (uint8_t)word[i]);
            if (node < 0) break;
            m->steps++;
            int32_t id = trie_value(m->pieces, node);
            if (id < 0) continue;
            offer(&path[i + 1], path[at].score + m->scores[id], id, at);
            if (i + 1 - at == length) single = 1;
        }
        m->steps++;
        if (single) continue;
        if (m->unk < 0)
            return err_set(err, ERR_MODEL,
                           "%s: the text has U+%04X, which no piece covers, and unk_id is not set",
                           vocab_file(m->vocab), (unsigned)c);
        offer(&path[at + length], path[at].score + m->unknown_score, m->unk, at);
    }
    return SQZ_OK;
}

/* A run of unknown characters: a piece after all, its bytes, or unk. */
static void add_unknown(unigram *m, const char *s, int64_t n)
{
    int32_t id = vocab_find(m->vocab, s, n);
    int bytes = id < 0 && m->byte_fallback;
    for (int64_t i = 0; i < n && bytes; i++) bytes = m->byte_ids[(uint8_t)s[i]] >= 0;
    if (!bytes) {
        ids_add(&m->ids, id >= 0 ? id : m->unk);
        return;
    }
    for (int64_t i = 0; i < n; i++) ids_add(&m->ids, m->byte_ids[(uint8_t)s[i]]);
}

/* Turns the links round: path[i].id of a beginning becomes the end of its piece. */
static void turn_path(best *path, int64_t n)
{
    for (int64_t end = n; end > 0;) {
        int64_t begin = path[end].begin;
        path[begin].score = (double)end;
        end = begin;
    }
}

sqz_status unigram_encode(unigram *m, const char *word, int64_t n, const id_list **ids,
                          sqz_error *err)
{
    *ids = &m->ids;
    m->ids.n = m->ids.failed = 0;
    if (n + 1 > m->room) {
        free(m->path);
        m->room = 0;
        m->path = n < INT32_MAX ? malloc(((size_t)n + 1) * sizeof *m->path) : NULL;
        if (!m->path)
            return err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for a word of %lld bytes",
                           (long long)n);
        m->room = n + 1;
    }
    sqz_status st = find_path(m, word, n, err);
    if (st != SQZ_OK) return st;
    turn_path(m->path, n);
    int64_t unknown = -1; /* where a run of unknown characters began */
    for (int64_t at = 0; at < n;) {
        int64_t end = (int64_t)m->path[at].score;
        int32_t id = m->path[end].id;
        if (id == m->unk && unknown < 0) unknown = at;
        if (id != m->unk) {
            if (unknown >= 0) add_unknown(m, word + unknown, at - unknown);
            unknown = -1;
            ids_add(&m->ids, id);
        }
        at = end;
    }
    if (unknown >= 0) add_unknown(m, word + unknown, n - unknown);
    return SQZ_OK;
}
