/* load_model.c - the "model" of a tokenizer.json: vocabulary, merges, scores. */
#include "json/json.h"
#include "tokenizer/load.h"
#include <stdlib.h>
#include <string.h>

/* ---- vocabulary and merges ----------------------------------------------------------------------
 */

sqz_status load_vocab(const loader *l, const cJSON *vocab)
{
    const cJSON *item;
    if (!cJSON_IsObject(vocab))
        return err_set(l->err, ERR_MODEL, "%s: the vocabulary is no object of pieces and ids",
                       l->file);
    cJSON_ArrayForEach(item, vocab)
    {
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(id >= 0 && id <= INT32_MAX) || id != (double)(int32_t)id)
            return err_set(l->err, ERR_MODEL, "%s: \"%.60s\" has no usable id", l->file,
                           item->string);
        sqz_status st = vocab_add(l->t->model.vocab, item->string, (int64_t)strlen(item->string),
                                  (int64_t)id, l->err);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}

/* "a b" */
sqz_status load_merge_text(const loader *l, const char *text, int64_t n, int64_t line)
{
    const char *space = memchr(text, ' ', (size_t)n);
    if (!space || memchr(space + 1, ' ', (size_t)(text + n - space - 1)))
        return err_set(l->err, ERR_MODEL, "%s: merge %lld is not two pieces and a space: \"%.*s\"",
                       l->file, (long long)line, (int)(n > 60 ? 60 : n), text);
    char *copy = strndup(text, (size_t)n); /* so that messages can print both sides */
    if (!copy) return load_no_memory(l);
    int64_t left = space - text;
    copy[left] = 0;
    sqz_status st =
        bpe_add_merge(l->t->model.bpe, copy, left, copy + left + 1, n - left - 1, l->err);
    free(copy);
    return st;
}

static sqz_status read_merges(const loader *l, const cJSON *merges)
{
    const cJSON *item;
    int64_t rank = 0;
    if (!cJSON_IsArray(merges))
        return err_set(l->err, ERR_MODEL, "%s: \"merges\" is no list", l->file);
    cJSON_ArrayForEach(item, merges)
    {
        sqz_status st;
        const cJSON *a = cJSON_IsArray(item) ? item->child : NULL, *b = a ? a->next : NULL;
        if (cJSON_IsString(item))
            st = load_merge_text(l, item->valuestring, (int64_t)strlen(item->valuestring), rank);
        else if (cJSON_IsString(a) && cJSON_IsString(b) && !b->next)
            st = bpe_add_merge(l->t->model.bpe, a->valuestring, (int64_t)strlen(a->valuestring),
                               b->valuestring, (int64_t)strlen(b->valuestring), l->err);
        else
            st = err_set(l->err, ERR_MODEL, "%s: merge %lld is neither \"a b\" nor [\"a\", \"b\"]",
                         l->file, (long long)rank);
        if (st != SQZ_OK) return st;
        rank++;
    }
    return SQZ_OK;
}

static sqz_status load_bpe(const loader *l, const cJSON *model)
{
    word_model *m = &l->t->model;
    if (json_num(model, "dropout", 0) > 0)
        return err_set(l->err, SQZ_E_UNSUPPORTED,
                       "%s: BPE dropout makes ids random; set \"dropout\" to null", l->file);
    bpe_options options = {
        .unk_token = json_str(model, "unk_token", NULL),
        .prefix = json_str(model, "continuing_subword_prefix", NULL),
        .suffix = json_str(model, "end_of_word_suffix", NULL),
        .fuse_unk = json_bool(model, "fuse_unk", 0),
        .byte_fallback = json_bool(model, "byte_fallback", 0),
        .ignore_merges = json_bool(model, "ignore_merges", 0),
    };
    sqz_status st = load_vocab(l, json_get(model, "vocab"));
    if (st == SQZ_OK && !(m->bpe = bpe_new(m->vocab))) st = load_no_memory(l);
    if (st == SQZ_OK) st = bpe_ready(m->bpe, &options, l->err);
    return st == SQZ_OK ? read_merges(l, json_get(model, "merges")) : st;
}

/* [[piece, score], ...]; the position is the id, and of equal pieces the last has the word. */
static sqz_status read_scored(const loader *l, const cJSON *list, int64_t n, double *scores)
{
    const cJSON **items = malloc((size_t)n * sizeof *items), *item;
    sqz_status st = items ? SQZ_OK : load_no_memory(l);
    int64_t id = 0;
    if (items) cJSON_ArrayForEach(item, list) items[id++] = item;
    for (id = n - 1; id >= 0 && st == SQZ_OK; id--) {
        const cJSON *text = items[id]->child, *score = text ? text->next : NULL;
        if (!cJSON_IsArray(items[id]) || !cJSON_IsString(text) || !cJSON_IsNumber(score)) {
            st = err_set(l->err, ERR_MODEL, "%s: entry %lld of the vocabulary is no [piece, score]",
                         l->file, (long long)id);
            break;
        }
        int64_t bytes = (int64_t)strlen(text->valuestring);
        scores[id] = score->valuedouble;
        if (vocab_find(l->t->model.vocab, text->valuestring, bytes) < 0)
            st = vocab_add(l->t->model.vocab, text->valuestring, bytes, id, l->err);
        else
            st = vocab_name_id(l->t->model.vocab, text->valuestring, bytes, id, l->err);
    }
    free(items);
    return st;
}

static sqz_status load_unigram(const loader *l, const cJSON *model)
{
    const cJSON *list = json_get(model, "vocab"), *unk = json_get(model, "unk_id");
    int64_t n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    double id = cJSON_IsNumber(unk) ? unk->valuedouble : -1;
    if (!n)
        return err_set(l->err, ERR_MODEL, "%s: the vocabulary is no list of pieces and scores",
                       l->file);
    if (cJSON_IsNumber(unk) && (!(id >= 0 && id < (double)n) || id != (double)(int32_t)id))
        return err_set(l->err, ERR_MODEL, "%s: unk_id %g is no id of the %lld pieces", l->file, id,
                       (long long)n);
    double *scores = calloc((size_t)n, sizeof *scores);
    if (!scores) return load_no_memory(l);
    sqz_status st = read_scored(l, list, n, scores);
    if (st == SQZ_OK)
        return unigram_new(l->t->model.vocab, scores, (int32_t)id,
                           json_bool(model, "byte_fallback", 0), &l->t->model.unigram, l->err);
    free(scores);
    return st;
}

static sqz_status load_wordpiece(const loader *l, const cJSON *model)
{
    sqz_status st = load_vocab(l, json_get(model, "vocab"));
    if (st == SQZ_OK && !vocab_count(l->t->model.vocab))
        st = err_set(l->err, ERR_MODEL, "%s: the vocabulary is empty", l->file);
    if (st != SQZ_OK) return st;
    return wordpiece_new(l->t->model.vocab, json_str(model, "unk_token", "[UNK]"),
                         json_str(model, "continuing_subword_prefix", "##"),
                         json_int(model, "max_input_chars_per_word", 100), &l->t->model.wordpiece,
                         l->err);
}

static sqz_status load_wordlevel(const loader *l, const cJSON *model)
{
    const char *unk = json_str(model, "unk_token", NULL);
    sqz_status st = load_vocab(l, json_get(model, "vocab"));
    if (st == SQZ_OK && !vocab_count(l->t->model.vocab))
        st = err_set(l->err, ERR_MODEL, "%s: the vocabulary is empty", l->file);
    if (st == SQZ_OK && !unk)
        st = err_set(l->err, ERR_MODEL, "%s: model WordLevel without \"unk_token\"", l->file);
    if (st == SQZ_OK && !(l->t->model.wordlevel = wordlevel_new(l->t->model.vocab, unk)))
        st = load_no_memory(l);
    return st;
}

/* Files of old versions do not name the kind; the reference tells it by the fields too. */
static const char *kind_of(const cJSON *model)
{
    const char *guess = json_get(model, "merges")                     ? "BPE"
                        : cJSON_IsArray(json_get(model, "vocab"))     ? "Unigram"
                        : json_get(model, "max_input_chars_per_word") ? "WordPiece"
                        : json_get(model, "unk_token")                ? "WordLevel"
                                                                      : "none";
    return json_str(model, "type", guess);
}

sqz_status load_model(const loader *l, const cJSON *model)
{
    const char *type = kind_of(model);
    if (!cJSON_IsObject(model)) return err_set(l->err, ERR_MODEL, "%s: no \"model\"", l->file);
    if (!(l->t->model.vocab = vocab_new(l->file))) return load_no_memory(l);
    if (!strcmp(type, "BPE")) return load_bpe(l, model);
    if (!strcmp(type, "Unigram")) return load_unigram(l, model);
    if (!strcmp(type, "WordPiece")) return load_wordpiece(l, model);
    if (!strcmp(type, "WordLevel")) return load_wordlevel(l, model);
    return err_set(
        l->err, SQZ_E_UNSUPPORTED,
        "%s: tokenizer model \"%s\" is not built; BPE, Unigram, WordPiece and WordLevel are",
        l->file, type);
}
