/* tokenizer.c - encoding and decoding, stage by stage (see tokenizer.h; load.c reads the files).
 *
 * Text -> added tokens that are searched raw -> normalizer, for each gap apart -> added tokens that
 * are searched normalized -> splitter -> model.  Scratch memory is kept between calls. */
#include "tokenizer/parts.h"
#include <stdlib.h>
#include <string.h>

tokenizer *tokenizer_new(void)
{
    tokenizer *t = calloc(1, sizeof *t);
    if (t) t->bos = t->eos = -1;
    return t;
}

sqz_status tokenizer_open(const char *dir, tokenizer **out, sqz_error *err)
{
    tokenizer *t = tokenizer_new();
    if (!t) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a tokenizer", dir);
    sqz_status st = tokenizer_load(t, dir, err);
    if (st != SQZ_OK) {
        tokenizer_free(t);
        return st;
    }
    *out = t;
    return SQZ_OK;
}

void tokenizer_free(tokenizer *t)
{
    if (!t) return;
    word_model_free(&t->model);
    normalizer_free(t->normalizer);
    splitter_free(t->splitter);
    decoder_free(t->decoder);
    for (int64_t i = 0; i < t->n_added; i++) {
        free(t->added[i].content);
        free(t->added[i].shown);
    }
    free(t->added);
    trie_free(t->added_names);
    added_set_free(t->raw);
    added_set_free(t->normalized);
    ids_free(&t->before);
    ids_free(&t->after);
    free(t->added_of);
    pieces_free(&t->words);
    text_free(&t->segment);
    free(t);
}

int32_t tokenizer_bos(const tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const tokenizer *t)
{
    return t->eos;
}

int64_t tokenizer_size(const tokenizer *t)
{
    return vocab_size(t->model.vocab);
}

int32_t tokenizer_id(const tokenizer *t, const char *piece)
{
    int64_t n = (int64_t)strlen(piece);
    const added_token *added = tokenizer_added(t, piece, n);
    return added ? added->id : vocab_find(t->model.vocab, piece, n);
}

const added_token *tokenizer_added(const tokenizer *t, const char *content, int64_t n)
{
    if (!t->added_names) return NULL;
    int32_t node = trie_walk(t->added_names, content, n);
    int32_t index = node < 0 ? -1 : trie_value(t->added_names, node);
    return index < 0 ? NULL : &t->added[index];
}

int64_t tokenizer_steps(const tokenizer *t)
{
    return word_model_steps(&t->model) + normalizer_steps(t->normalizer) +
           splitter_steps(t->splitter);
}

static int holds(const id_list *list, int32_t id)
{
    for (int64_t i = 0; i < list->n; i++)
        if (list->at[i] == id) return 1;
    return 0;
}

void tokenizer_template(const tokenizer *t, int *adds_bos, int *adds_eos)
{
    *adds_bos = t->bos >= 0 && holds(&t->before, t->bos);
    *adds_eos = t->eos >= 0 && holds(&t->after, t->eos);
}

/* ---- encoding -----------------------------------------------------------------------------------
 */

/* A word with many spaces in it, cut before each U+2581 that follows another character: no merge
 * crosses these places, and short words are found in the cache. */
static sqz_status encode_cut(tokenizer *t, const char *p, int64_t n, id_list *out, sqz_error *err)
{
    static const char mark[] = "\xE2\x96\x81";
    int64_t begin = 0, from = 0;
    sqz_status st = SQZ_OK;
    while (from < n && st == SQZ_OK) {
        const char *hit = memmem(p + from, (size_t)(n - from), mark, 3);
        if (!hit) break;
        int64_t at = hit - p;
        if (at > begin && !(at - begin >= 3 && !memcmp(hit - 3, mark, 3))) {
            st = word_model_encode(&t->model, p + begin, at - begin, out, err);
            begin = at;
        }
        from = at + 3;
    }
    return st == SQZ_OK ? word_model_encode(&t->model, p + begin, n - begin, out, err) : st;
}

/* Text between added tokens, normalized. */
static sqz_status encode_gap(tokenizer *t, const char *text, int64_t n, int first, id_list *out,
                             sqz_error *err)
{
    pieces *w = &t->words;
    pieces_clear(w);
    pieces_add(w, text, n);
    if (!pieces_ok(w)) return err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for the text");
    sqz_status st = splitter_run(t->splitter, w, first, err);
    if (st != SQZ_OK) return st;
    for (int64_t i = 0; i < w->n && st == SQZ_OK; i++) {
        const char *p = w->text.at + w->spans[i].at;
        st = t->cut_at_spaces ? encode_cut(t, p, w->spans[i].n, out, err)
                              : word_model_encode(&t->model, p, w->spans[i].n, out, err);
    }
    if (st != SQZ_OK) return st;
    return out->failed ? err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for the ids") : SQZ_OK;
}

/* Text between raw added tokens. */
static sqz_status encode_segment(tokenizer *t, const char *text, int64_t n, int first, id_list *out,
                                 sqz_error *err)
{
    const added_match *match;
    int64_t n_matches;
    sqz_status st;
    if (!normalizer_is_empty(t->normalizer)) {
        t->segment.n = 0;
        text_add(&t->segment, text, n);
        if (t->segment.failed)
            return err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for the text");
        st = normalizer_run(t->normalizer, &t->segment, err);
        if (st != SQZ_OK) return st;
        text = t->segment.at;
        n = t->segment.n;
    }
    st = added_set_split(t->normalized, text, n, &match, &n_matches, err);
    for (int64_t i = 0; i < n_matches && st == SQZ_OK; i++) {
        if (match[i].id >= 0)
            ids_add(out, match[i].id);
        else
            st = encode_gap(t, text + match[i].at, match[i].n, first && match[i].at == 0, out, err);
    }
    return st;
}

static sqz_status encode_text(tokenizer *t, const char *text, int64_t n, id_list *out,
                              sqz_error *err)
{
    const added_match *match;
    int64_t n_matches;
    sqz_status st = added_set_split(t->raw, text, n, &match, &n_matches, err);
    for (int64_t i = 0; i < n_matches && st == SQZ_OK; i++) {
        if (match[i].id >= 0)
            ids_add(out, match[i].id);
        else
            st = encode_segment(t, text + match[i].at, match[i].n, match[i].at == 0, out, err);
    }
    return st;
}

static void add_ids(id_list *out, const id_list *in)
{
    for (int64_t i = 0; i < in->n; i++) ids_add(out, in->at[i]);
}

sqz_status tokenizer_encode(tokenizer *t, const char *text, int64_t bytes, int special,
                            int32_t **ids, int64_t *n, sqz_error *err)
{
    id_list out = {0};
    if (bytes < 0 || bytes > INT32_MAX)
        return err_set(err, SQZ_E_INVALID,
                       "tokenizer: a text of %lld bytes; at most %d at once, split it",
                       (long long)bytes, INT32_MAX);
    int64_t bad = utf8_check(text, bytes);
    if (bad >= 0)
        return err_set(err, ERR_MODEL, "tokenizer: the text is not UTF-8 at byte %lld",
                       (long long)bad);
    ids_reserve(&out, bytes / 4 + 8);
    if (special) add_ids(&out, &t->before);
    sqz_status st = encode_text(t, text, bytes, &out, err);
    if (special) add_ids(&out, &t->after);
    if (st == SQZ_OK && out.failed)
        st = err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for the ids");
    if (st != SQZ_OK) {
        ids_free(&out);
        return st;
    }
    *ids = out.at;
    *n = out.n;
    return SQZ_OK;
}

/* ---- decoding -----------------------------------------------------------------------------------
 */

/* Ids that the vocabulary has not are passed over, as the reference does: models have more rows
 * than their tokenizers have pieces. */
sqz_status tokenizer_decode(tokenizer *t, const int32_t *ids, int64_t n, int skip, char **text,
                            int64_t *bytes, sqz_error *err)
{
    pieces *w = &t->words;
    pieces_clear(w);
    for (int64_t i = 0; i < n; i++) {
        int64_t length;
        if (ids[i] < 0)
            return err_set(err, SQZ_E_INVALID, "tokenizer: id %d at position %lld is negative",
                           (int)ids[i], (long long)i);
        const char *piece = vocab_piece(t->model.vocab, ids[i], &length);
        const added_token *added =
            piece && t->added_of[ids[i]] >= 0 ? &t->added[t->added_of[ids[i]]] : NULL;
        if (added && skip && added->special) continue;
        if (added)
            pieces_add(w, added->shown, added->n_shown);
        else if (piece)
            pieces_add(w, piece, length);
    }
    sqz_status st = pieces_ok(w) ? decoder_run(t->decoder, w, err) : SQZ_E_NOMEM;
    char *copy = st == SQZ_OK ? malloc((size_t)w->text.n + 1) : NULL;
    if (st == SQZ_OK && !copy) st = SQZ_E_NOMEM;
    if (st == SQZ_E_NOMEM) return err_set(err, st, "tokenizer: no memory to decode");
    if (st != SQZ_OK) return st;
    if (w->text.n) memcpy(copy, w->text.at, (size_t)w->text.n);
    copy[w->text.n] = 0;
    *text = copy;
    *bytes = w->text.n;
    return SQZ_OK;
}
