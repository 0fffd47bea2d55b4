/* from_pieces.c - see from_pieces.h.
 *
 * The usual stages are written as the objects that a tokenizer.json would hold and read by the same
 * readers.  Expressions are named as GGUF names them; an unknown name is refused, because a wrong
 * split gives plausible but wrong ids. */
#include "tokenizer/from_pieces.h"
#include "tokenizer/load.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- byte-level expressions by GGUF's names -----------------------------------------------------
 * As JSON strings. */

#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|"                 \
    "\\\\s+(?!\\\\S)|\\\\s+"
#define WORDS_THEN(numbers)                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" numbers                \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(expression)                                                                          \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" expression                                     \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define THEN_BYTES ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define SEQUENCE "{\"type\":\"Sequence\",\"pretokenizers\":["
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"

static const struct named_split {
    const char *names; /* between bars */
    const char *pre_tokenizer, *normalizer;
    int whole_words; /* a word that is a piece is not merged */
} splits[] = {
    {"|gpt-2|phi-2|mpt|olmo|jais|trillion|granite-docling|default|",
     SEQUENCE SPLIT(GPT2) THEN_BYTES, NULL, 0},
    {"|llama-bpe|llama3|llama-v3|dbrx|smaug-bpe|falcon3|",
     SEQUENCE SPLIT(WORDS_THEN("\\\\p{N}{1,3}")) THEN_BYTES, NULL, 1},
    {"|qwen2|deepseek-r1-qwen|stablelm2|megrez|", SEQUENCE SPLIT(WORDS_THEN("\\\\p{N}")) THEN_BYTES,
     "{\"type\":\"NFC\"}", 0},
    {"|starcoder|refact|command-r|smollm|codeshell|", SEQUENCE DIGITS "," SPLIT(GPT2) THEN_BYTES,
     NULL, 0},
    {"|deepseek-coder|",
     SEQUENCE SPLIT("[\\\\r\\\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT(
         "\\\\s?\\\\p{P}+") "," SPLIT("[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+") "," DIGITS
         THEN_BYTES,
     NULL, 0},
};

static const struct named_split *split_named(const char *name)
{
    char quoted[64];
    if (!name || snprintf(quoted, sizeof quoted, "|%s|", name) >= (int)sizeof quoted) return NULL;
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
        if (strstr(splits[i].names, quoted)) return &splits[i];
    return NULL;
}

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

/* ---- merges -------------------------------------------------------------------------------------
 */

typedef struct merge {
    int32_t id, left, right; /* what it makes, of what */
    int32_t chars, rest;     /* of the left side and of the right one */
} merge;

typedef struct merge_list {
    merge *at;
    int64_t n, room;
} merge_list;

static int merges_add(merge_list *m, merge one)
{
    if (m->n == m->room) {
        int64_t room = m->room ? 2 * m->room : 1024;
        merge *more = realloc(m->at, (size_t)room * sizeof *more);
        if (!more) return 0;
        m->at = more;
        m->room = room;
    }
    m->at[m->n++] = one;
    return 1;
}

/* Every cut of the piece into two pieces. */
static sqz_status cut_piece(const maker *k, int32_t id, merge_list *out)
{
    enum { MAX_PIECE = 4096 };
    const vocab *v = k->l.t->model.vocab;
    const piece_entry *p = &k->list->pieces[id];
    int32_t chars = 0;
    int64_t first = out->n;
    if (p->n > MAX_PIECE)
        return err_set(k->l.err, ERR_MODEL, "%s: piece %d has %lld bytes; at most %d",
                       k->list->file, (int)id, (long long)p->n, MAX_PIECE);
    for (int64_t i = 1; i < p->n; i++) {
        if (((uint8_t)p->text[i] & 0xC0) == 0x80) continue;
        chars++;
        int32_t left = vocab_find(v, p->text, i);
        int32_t right = left < 0 ? -1 : vocab_find(v, p->text + i, p->n - i);
        if (right >= 0 && !merges_add(out, (merge){id, left, right, chars, 0}))
            return load_no_memory(&k->l);
    }
    for (; first < out->n; first++) out->at[first].rest = chars + 1 - out->at[first].chars;
    return SQZ_OK;
}

/* Smaller ids first; of one piece the shorter left side. */
static int by_id(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->chars < y->chars ? -1 : x->chars > y->chars;
}

/* Higher scores first, then the longer left side, then the longer right one. */
static int by_score(const void *a, const void *b, void *list)
{
    const merge *x = a, *y = b;
    const piece_entry *pieces = list;
    float s = pieces[x->id].score, t = pieces[y->id].score;
    if (s != t) return s > t ? -1 : 1;
    if (x->chars != y->chars) return x->chars > y->chars ? -1 : 1;
    if (x->rest != y->rest) return x->rest > y->rest ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static sqz_status make_merges(const maker *k)
{
    merge_list m = {0};
    sqz_status st = SQZ_OK;
    for (int64_t id = 0; id < k->list->n && st == SQZ_OK; id++) st = cut_piece(k, (int32_t)id, &m);
    if (st == SQZ_OK && m.n && k->list->order == ORDER_SCORE)
        qsort_r(m.at, (size_t)m.n, sizeof *m.at, by_score, (void *)(uintptr_t)k->list->pieces);
    else if (st == SQZ_OK && m.n)
        qsort(m.at, (size_t)m.n, sizeof *m.at, by_id);
    for (int64_t i = 0; i < m.n && st == SQZ_OK; i++) {
        const piece_entry *a = &k->list->pieces[m.at[i].left], *b = &k->list->pieces[m.at[i].right];
        st = bpe_add_merge(k->l.t->model.bpe, a->text, a->n, b->text, b->n, k->l.err);
    }
    free(m.at);
    return st;
}

static sqz_status add_merges(const maker *k)
{
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < k->list->n_merges && st == SQZ_OK; i++)
        st = load_merge_text(&k->l, k->list->merges[i].text, k->list->merges[i].n, i);
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

static sqz_status make_bpe(const maker *k, const struct named_split *split)
{
    word_model *m = &k->l.t->model;
    const piece_list *list = k->list;
    int merged = list->model == PIECES_MERGED;
    const piece_entry *unk = merged && list->unk >= 0 ? &list->pieces[list->unk] : NULL;
    char *name = unk ? strndup(unk->text, (size_t)unk->n) : NULL;
    if ((unk && !name) || !(m->bpe = bpe_new(m->vocab))) {
        free(name);
        return load_no_memory(&k->l);
    }
    bpe_options options = {.unk_token = name,
                           .fuse_unk = merged,
                           .byte_fallback = list->byte_fallback,
                           .ignore_merges = split && split->whole_words};
    sqz_status st = bpe_ready(m->bpe, &options, k->l.err);
    free(name);
    if (st != SQZ_OK) return st;
    return merged ? make_merges(k) : add_merges(k);
}

/* ---- stages -------------------------------------------------------------------------------------
 */

#define MARK "\xE2\x96\x81"
#define TO_MARK "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}"
#define FROM_MARK "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},\"content\":\" \"}"

static const char *usual_normalizer(const piece_list *p, const struct named_split *split)
{
    if (p->model == PIECES_BYTE_LEVEL) return split->normalizer;
    if (p->model == PIECES_UNIGRAM)
        return "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\",\"strip_left\":false,"
               "\"strip_right\":true},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},"
               "\"content\":\"" MARK "\"}]}";
    return p->no_space_prefix
               ? TO_MARK
               : "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" MARK
                 "\"}," TO_MARK "]}";
}

static const char *usual_pre_tokenizer(const piece_list *p, const struct named_split *split)
{
    if (p->model == PIECES_BYTE_LEVEL) return split->pre_tokenizer;
    if (p->model == PIECES_MERGED) return NULL;
    return p->no_space_prefix ? "{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\"}"
                              : "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}";
}

static const char *usual_decoder(const piece_list *p)
{
    if (p->model == PIECES_BYTE_LEVEL) return "{\"type\":\"ByteLevel\"}";
    if (p->model == PIECES_UNIGRAM)
        return p->no_space_prefix ? "{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\"}"
                                  : "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}";
    return p->no_space_prefix
               ? "{\"type\":\"Sequence\",\"decoders\":[" FROM_MARK
                 ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}"
               : "{\"type\":\"Sequence\",\"decoders\":[" FROM_MARK
                 ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":"
                 "\" \",\"start\":1,\"stop\":0}]}";
}

static sqz_status make_stages(const maker *k, const struct named_split *split)
{
    const piece_list *p = k->list;
    const char *text[3] = {p->normalizer ? p->normalizer : usual_normalizer(p, split),
                           p->pre_tokenizer ? p->pre_tokenizer : usual_pre_tokenizer(p, split),
                           p->decoder ? p->decoder : usual_decoder(p)};
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

static sqz_status check_list(const piece_list *p, const struct named_split *split, sqz_error *err)
{
    if (p->n <= 0 || p->n > INT32_MAX)
        return err_set(err, ERR_MODEL, "%s: a vocabulary of %lld pieces", p->file, (long long)p->n);
    if (p->unk >= p->n || p->bos >= p->n || p->eos >= p->n)
        return err_set(err, ERR_MODEL, "%s: unk %d, bos %d or eos %d is no id of the %lld pieces",
                       p->file, (int)p->unk, (int)p->bos, (int)p->eos, (long long)p->n);
    if (p->model == PIECES_BYTE_LEVEL && !split)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: pre-tokenizer \"%s\" is not known; use the model's tokenizer.json",
                       p->file, p->split ? p->split : "");
    return SQZ_OK;
}

sqz_status load_pieces(const piece_list *p, tokenizer *t, sqz_error *err)
{
    const struct named_split *split = split_named(p->split);
    maker k = {p, {.t = t, .dir = p->file, .file = p->file, .err = err}};
    sqz_status st = check_list(p, split, err);
    if (st != SQZ_OK) return st;
    st = (t->model.vocab = vocab_new(p->file)) ? add_pieces(&k) : load_no_memory(&k.l);
    if (st == SQZ_OK) st = p->model == PIECES_UNIGRAM ? make_unigram(&k) : make_bpe(&k, split);
    if (st == SQZ_OK) st = make_stages(&k, split);
    if (st == SQZ_OK) st = add_found(&k);
    if (st != SQZ_OK) return st;
    t->bos = p->bos;
    t->eos = p->eos;
    if (p->add_bos && p->bos >= 0) ids_add(&t->before, p->bos);
    if (p->add_eos && p->eos >= 0) ids_add(&t->after, p->eos);
    return t->before.failed || t->after.failed ? load_no_memory(&k.l) : SQZ_OK;
}

sqz_status tokenizer_from_pieces(const piece_list *p, tokenizer **out, sqz_error *err)
{
    tokenizer *t = tokenizer_new();
    if (!t) return err_set(err, SQZ_E_NOMEM, "%s: no memory for a tokenizer", p->file);
    loader l = {.t = t, .dir = p->file, .file = p->file, .err = err};
    sqz_status st = load_pieces(p, t, err);
    if (st == SQZ_OK) st = load_index_added(&l);
    if (st == SQZ_OK)
        *out = t;
    else
        tokenizer_free(t);
    return st;
}
