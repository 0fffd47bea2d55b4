/* wordpiece.c - see wordpiece.h. */
#include "tokenizer/wordpiece.h"
#include "tokenizer/trie.h"
#include <stdlib.h>
#include <string.h>

struct wordpiece {
    trie *pieces;
    int32_t inside; /* node below the prefix, or -1: no piece has it */
    int32_t unk;
    int64_t max_chars;
    id_list ids;
    int64_t steps;
};

static sqz_status fill(wordpiece *m, const vocab *vocab, const char *prefix, sqz_error *err)
{
    int64_t n;
    for (int64_t id = 0; id < vocab_size(vocab); id++) {
        const char *piece = vocab_piece(vocab, id, &n);
        if (piece && !trie_add(m->pieces, piece, n, (int32_t)id))
            return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", vocab_file(vocab));
    }
    m->inside = trie_walk(m->pieces, prefix, (int64_t)strlen(prefix));
    return SQZ_OK;
}

sqz_status wordpiece_new(const vocab *vocab, const char *unk_token, const char *prefix,
                         int64_t max_chars, wordpiece **out, sqz_error *err)
{
    int32_t unk = vocab_find(vocab, unk_token, (int64_t)strlen(unk_token));
    if (unk < 0)
        return err_set(err, ERR_MODEL, "%s: unk_token \"%.60s\" is not in the vocabulary",
                       vocab_file(vocab), unk_token);
    wordpiece *m = calloc(1, sizeof *m);
    if (!m || !(m->pieces = trie_new())) {
        free(m);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", vocab_file(vocab));
    }
    m->unk = unk;
    m->max_chars = max_chars;
    sqz_status st = fill(m, vocab, prefix, err);
    if (st == SQZ_OK)
        *out = m;
    else
        wordpiece_free(m);
    return st;
}

void wordpiece_free(wordpiece *m)
{
    if (!m) return;
    trie_free(m->pieces);
    ids_free(&m->ids);
    free(m);
}

int64_t wordpiece_steps(const wordpiece *m)
{
    return m->steps;
}

/* Bytes of the longest piece at s, below `node`; its id in *id.  0: none. */
static int64_t longest(wordpiece *m, int32_t node, const char *s, int64_t n, int32_t *id)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < n && node >= 0; i++) {
        node = trie_child(m->pieces, node, (uint8_t)s[i]);
        m->steps++;
        if (node < 0 || trie_value(m->pieces, node) < 0) continue;
        *id = trie_value(m->pieces, node);
        bytes = i + 1;
    }
    return bytes;
}

static int too_long(const wordpiece *m, const char *word, int64_t n)
{
    int64_t chars = 0;
    for (int64_t i = 0; i < n; i++) chars += ((uint8_t)word[i] & 0xC0) != 0x80;
    return chars > m->max_chars;
}

const id_list *wordpiece_encode(wordpiece *m, const char *word, int64_t n)
{
    m->ids.n = m->ids.failed = 0;
    m->steps += n;
    int unknown = too_long(m, word, n);
    for (int64_t at = 0, bytes; at < n && !unknown; at += bytes) {
        int32_t id = -1;
        bytes = longest(m, at ? m->inside : 0, word + at, n - at, &id);
        if (bytes)
            ids_add(&m->ids, id);
        else
            unknown = 1;
    }
    if (unknown) {
        m->ids.n = 0;
        ids_add(&m->ids, m->unk);
    }
    return &m->ids;
}
