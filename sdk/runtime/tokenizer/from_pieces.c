/* from_pieces.c - see from_pieces.h.
 *
 * The stages are given as the objects that a tokenizer.json would hold and read by the same
 * readers. */
#include "tokenizer/from_pieces.h"
#include "tokenizer/load.h"
#include "tokenizer/merges.h"
#include <stdlib.h>
#include <string.h>

/* ---- vocabulary ---------------------------------------------------------------------------------
 */

typedef struct maker {
    const piece_list *list;
    loader l;
} maker;

/* The last of equal pieces has the word, as where a table is filled in order. */
static sqz_status add_pieces(const maker *k)
{
    vocab *v = k->l.t->model.vocab;
    sqz_status st = SQZ_OK;
    for (int64_t id = k->list->n - 1; id >= 0 && st == SQZ_OK; id--) {
        const piece_entry *p = &k->list->pieces[id];
        int64_t bad = utf8_check(p->text, p->n);
        if (bad >= 0)
            return err_set(k->l.err, ERR_MODEL, "%s: piece %lld is not UTF-8 at byte %lld",
                           k->list->file, (long long)id, (long long)bad);
        if (vocab_find(v, p->text, p->n) < 0)
            st = vocab_add(v, p->text, p->n, id, k->l.err);
        else
            st = vocab_name_id(v, p->text, p->n, id, k->l.err);
    }
    return st;
}

/* ---- the model ----------------------------------------------------------------------------------
 */

static sqz_status make_unigram(const maker *k)
{
    word_model *m = &k->l.t->model;
    double *scores = calloc((size_t)k->list->n, sizeof *scores);
    if (!scores) return load_no_memory(&k->l);
    for (int64_t i = 0; i < k->list->n; i++) scores[i] = (double)k->list->pieces[i].score;
    return unigram_new(m->vocab, scores, k->list->unk, k->list->byte_fallback, &m->unigram,
                       k->l.err);
}

static sqz_status make_merges(const maker *k)
{
    merge_list m;
    sqz_status st =
        merges_find(k->l.t->model.vocab, k->list->pieces, k->list->n, MERGES_BY_ID, &m, k->l.err);
    for (int64_t i = 0; i < m.n && st == SQZ_OK; i++) {
        const piece_entry *a = &k->list->pieces[m.at[i].left], *b = &k->list->pieces[m.at[i].right];
        st = bpe_add_merge(k->l.t->model.bpe, a->text, a->n, b->text, b->n, k->l.err);
    }
    free(m.at);
    return st;
}

static sqz_status make_bpe(const maker *k)
{
    word_model *m = &k->l.t->model;
    const piece_list *list = k->list;
    const piece_entry *unk = list->unk >= 0 ? &list->pieces[list->unk] : NULL;
    char *name = unk ? strndup(unk->text, (size_t)unk->n) : NULL;
    if ((unk && !name) || !(m->bpe = bpe_new(m->vocab))) {
        free(name);
        return load_no_memory(&k->l);
    }
    bpe_options options = {.unk_token = name, .fuse_unk = 1, .byte_fallback = list->byte_fallback};
    sqz_status st = bpe_ready(m->bpe, &options, k->l.err);
    free(name);
    return st == SQZ_OK ? make_merges(k) : st;
}

/* ---- stages -------------------------------------------------------------------------------------
 */

static sqz_status make_stages(const maker *k)
{
    const piece_list *p = k->list;
    const char *text[3] = {p->normalizer, p->pre_tokenizer, p->decoder};
    cJSON *json[3] = {0};
    int ok = 1;
    for (int i = 0; i < 3; i++) {
        json[i] = text[i] ? cJSON_Parse(text[i]) : NULL;
        ok &= !text[i] || json[i];
    }
    sqz_status st = ok ? load_stages(&k->l, json[0], json[1], json[2]) : load_no_memory(&k->l);
    for (int i = 0; i < 3; i++) cJSON_Delete(json[i]);
    if (st == SQZ_OK && p->charsmap && p->n_charsmap)
        st = normalizer_put_charsmap(k->l.t->normalizer, p->charsmap, p->n_charsmap, p->file,
                                     k->l.err);
    return st;
}

/* ---- pieces that are found in the text ----------------------------------------------------------
 */

static sqz_status add_found(const maker *k)
{
    sqz_status st = SQZ_OK;
    cJSON *flags = cJSON_CreateObject();
    if (!flags || !cJSON_AddFalseToObject(flags, "normalized")) st = load_no_memory(&k->l);
    for (int64_t id = 0; id < k->list->n && st == SQZ_OK; id++) {
        const piece_entry *p = &k->list->pieces[id];
        int special = p->kind == PIECE_CONTROL || p->kind == PIECE_UNKNOWN;
        if ((!special && p->kind != PIECE_USER_DEFINED) || !p->n) continue;
        char *text = strndup(p->text, (size_t)p->n);
        if (!text) st = load_no_memory(&k->l);
        if (text && !load_has_added(k->l.t, text)) st = load_added(&k->l, text, id, flags, special);
        free(text);
    }
    cJSON_Delete(flags);
    return st;
}

sqz_status load_pieces(const piece_list *p, tokenizer *t, sqz_error *err)
{
    maker k = {p, {.t = t, .dir = p->file, .file = p->file, .err = err}};
    if (p->n <= 0 || p->n > INT32_MAX || p->unk >= p->n || p->bos >= p->n || p->eos >= p->n)
        return err_set(err, ERR_MODEL, "%s: unk %d, bos %d or eos %d is no id of the %lld pieces",
                       p->file, (int)p->unk, (int)p->bos, (int)p->eos, (long long)p->n);
    sqz_status st = (t->model.vocab = vocab_new(p->file)) ? add_pieces(&k) : load_no_memory(&k.l);
    if (st == SQZ_OK) st = p->merged ? make_bpe(&k) : make_unigram(&k);
    if (st == SQZ_OK) st = make_stages(&k);
    if (st == SQZ_OK) st = add_found(&k);
    if (st != SQZ_OK) return st;
    t->bos = p->bos;
    t->eos = p->eos;
    if (p->add_bos && p->bos >= 0) ids_add(&t->before, p->bos);
    if (p->add_eos && p->eos >= 0) ids_add(&t->after, p->eos);
    return t->before.failed || t->after.failed ? load_no_memory(&k.l) : SQZ_OK;
}
