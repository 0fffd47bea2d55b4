/* wordlevel.c - see wordlevel.h. */
#include "tokenizer/wordlevel.h"
#include <stdlib.h>
#include <string.h>

struct wordlevel {
    const vocab *vocab;
    int32_t unk; /* -1: none */
    id_list ids;
    int64_t steps;
};

wordlevel *wordlevel_new(const vocab *vocab, const char *unk_token)
{
    wordlevel *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->vocab = vocab;
    m->unk = vocab_find(vocab, unk_token, (int64_t)strlen(unk_token));
    return m;
}

void wordlevel_free(wordlevel *m)
{
    if (!m) return;
    ids_free(&m->ids);
    free(m);
}

int64_t wordlevel_steps(const wordlevel *m)
{
    return m->steps;
}

sqz_status wordlevel_encode(wordlevel *m, const char *word, int64_t n, const id_list **ids,
                            sqz_error *err)
{
    int32_t id = vocab_find(m->vocab, word, n);
    m->ids.n = m->ids.failed = 0;
    m->steps += n;
    if (id < 0) id = m->unk;
    if (id < 0)
        return err_set(err, ERR_MODEL,
                       "%s: the word \"%.*s\" is not in the vocabulary, which has no unknown token",
                       vocab_file(m->vocab), (int)(n > 60 ? 60 : n), word);
    ids_add(&m->ids, id);
    *ids = &m->ids;
    return SQZ_OK;
}
