/* load.c - tokenizer files to a tokenizer.
 *
 * tokenizer.json is read when it is there; else vocab.json and merges.txt, or tokenizer.model,
 * which say nothing about the stages around the model, so that tokenizer_config.json's class
 * decides. Truncation and padding entries are not applied: callers cut texts themselves. */
#include "checkpoint/checkpoint.h"
#include "io/file.h"
#include "json/json.h"
#include "tokenizer/load.h"
#include "tokenizer/template.h"
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENIZER_BYTES ((int64_t)512 << 20)
#define MAX_CONFIG_BYTES ((int64_t)64 << 20)

static const char qwen2_expression[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                       "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

sqz_status load_no_memory(const loader *l)
{
    return err_set(l->err, SQZ_E_NOMEM, "%s: no memory for the tokenizer", l->file);
}

/* A file of this folder that cannot be parsed makes the model invalid, whatever the cause. */
static sqz_status read_json(const char *path, int64_t limit, json_doc **out, sqz_error *err)
{
    sqz_status st = json_read(path, limit, 0, out, err);
    if (st == SQZ_OK || st == SQZ_E_NOMEM) return st;
    if (err) err->code = ERR_MODEL;
    return ERR_MODEL;
}

/* *out stays NULL when the folder has no such file. */
static sqz_status read_optional(const loader *l, const char *name, json_doc **out)
{
    char *path = path_format("%s/%s", l->dir, name);
    sqz_status st = path_exists(path) ? read_json(path, MAX_CONFIG_BYTES, out, l->err) : SQZ_OK;
    free(path);
    return st;
}

static const cJSON *root_of(const json_doc *doc)
{
    return doc ? json_root(doc) : NULL;
}

/* ---- tokenizer.json -----------------------------------------------------------------------------
 */

sqz_status load_stages(const loader *l, const cJSON *normalize, const cJSON *split,
                       const cJSON *decode)
{
    tokenizer *t = l->t;
    sqz_status st = normalizer_new(normalize, l->file, &t->normalizer, l->err);
    if (st == SQZ_OK) st = splitter_new(split, l->file, &t->splitter, l->err);
    if (st == SQZ_OK) st = decoder_new(decode, l->file, &t->decoder, l->err);
    if (st != SQZ_OK) return st;
    if (!t->model.bpe) return SQZ_OK;
    if (splitter_leave_bytes(t->splitter)) bpe_read_bytes(t->model.bpe);
    t->cut_at_spaces = splitter_keeps_whole(t->splitter) && bpe_cuts_at_spaces(t->model.bpe);
    return SQZ_OK;
}

/* Frees doc. */
static sqz_status load_tokenizer_doc(loader *l, const char *path, json_doc *doc)
{
    sqz_status st;
    l->file = path;
    const cJSON *root = json_root(doc);
    st = load_model(l, json_get(root, "model"));
    if (st == SQZ_OK)
        st = load_stages(l, json_get(root, "normalizer"), json_get(root, "pre_tokenizer"),
                         json_get(root, "decoder"));
    if (st == SQZ_OK)
        st = template_read(json_get(root, "post_processor"), path, &l->t->before, &l->t->after,
                           l->err);
    if (st == SQZ_OK) st = load_added_list(l, json_get(root, "added_tokens"));
    json_free(doc);
    return st == SQZ_OK ? load_index_added(l) : st;
}

static sqz_status load_tokenizer_json(loader *l, const char *path)
{
    json_doc *doc = NULL;
    sqz_status st = read_json(path, MAX_TOKENIZER_BYTES, &doc, l->err);
    return st == SQZ_OK ? load_tokenizer_doc(l, path, doc) : st;
}

/* One of the files that a GGUF file stands for. */
static sqz_status read_gguf_file(const loader *l, const char *name, json_doc **out)
{
    char *text;
    int64_t bytes;
    sqz_status st = checkpoint_text(l->dir, name, MAX_TOKENIZER_BYTES, &text, &bytes, l->err);
    if (st == SQZ_OK) st = json_parse(text, bytes, 0, l->dir, out, l->err);
    free(text);
    if (st == SQZ_E_INVALID) st = ERR_MODEL;
    if (st != SQZ_OK && l->err) l->err->code = st;
    return st;
}

static sqz_status load_gguf(loader *l)
{
    json_doc *doc = NULL;
    sqz_status st = read_gguf_file(l, "tokenizer_config.json", &l->config);
    if (st == SQZ_OK) st = read_gguf_file(l, "tokenizer.json", &doc);
    return st == SQZ_OK ? load_tokenizer_doc(l, l->dir, doc) : st;
}

/* ---- vocab.json and merges.txt ------------------------------------------------------------------
 */

static sqz_status read_merges_txt(loader *l)
{
    char *path = path_format("%s/merges.txt", l->dir), *text = NULL;
    const char *before = l->file;
    int64_t n = 0, line = 0;
    l->file = path;
    sqz_status st = file_read(path, MAX_TOKENIZER_BYTES, &text, &n, l->err);
    if (st != SQZ_OK && st != SQZ_E_NOMEM) st = ERR_MODEL;
    if (st == ERR_MODEL && l->err) l->err->code = st;
    int64_t bad = st == SQZ_OK ? utf8_check(text, n) : -1;
    if (bad >= 0)
        st = err_set(l->err, ERR_MODEL, "%s: not UTF-8 at byte %lld", path, (long long)bad);
    for (int64_t i = 0; i < n && st == SQZ_OK;) {
        const char *end = memchr(text + i, '\n', (size_t)(n - i));
        int64_t length = end ? end - (text + i) : n - i, skip = length + 1;
        if (length && text[i + length - 1] == '\r') length--;
        if (length && strncmp(text + i, "#version", 8) != 0)
            st = load_merge_text(l, text + i, length, line++);
        i += skip;
    }
    free(text);
    l->file = before;
    free(path);
    return st;
}

/* "<s>" or {"content": "<s>", ...} */
static const char *content_of(const cJSON *entry)
{
    if (cJSON_IsString(entry)) return entry->valuestring;
    return json_str(entry, "content", NULL);
}

static sqz_status add_named(const loader *l, const cJSON *entry)
{
    const char *content = content_of(entry);
    int32_t id = content ? vocab_find(l->t->model.vocab, content, (int64_t)strlen(content)) : -1;
    if (id < 0 || load_has_added(l->t, content)) return SQZ_OK;
    return load_added(l, content, id, cJSON_IsObject(entry) ? entry : NULL, 1);
}

/* Special tokens by name, for folders without a table of added tokens. */
static sqz_status add_special_names(const loader *l, const cJSON *from)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                       "sep_token", "cls_token", "mask_token"};
    sqz_status st = SQZ_OK;
    const cJSON *item;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && st == SQZ_OK; i++)
        st = add_named(l, json_get(from, keys[i]));
    cJSON_ArrayForEach(item, json_get(from, "additional_special_tokens"))
    {
        if (st == SQZ_OK) st = add_named(l, item);
    }
    return st;
}

static int is_special_name(const cJSON *from, const char *content)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, from)
    {
        const char *text = content_of(item);
        if (text && !strcmp(text, content)) return 1;
    }
    cJSON_ArrayForEach(item, json_get(from, "additional_special_tokens"))
    {
        const char *text = content_of(item);
        if (text && !strcmp(text, content)) return 1;
    }
    return 0;
}

static sqz_status add_config_tokens(const loader *l, const cJSON *config, const cJSON *names)
{
    const cJSON *item, *table = json_get(config, "added_tokens_decoder");
    json_doc *doc = NULL;
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, table)
    {
        char *end;
        long long id = strtoll(item->string, &end, 10);
        if (*end || end == item->string || id < 0)
            return err_set(l->err, ERR_MODEL, "%s: added_tokens_decoder has the key \"%.40s\"",
                           json_name(l->config), item->string);
        if (st == SQZ_OK) st = load_added(l, json_str(item, "content", ""), id, item, 0);
    }
    if (st == SQZ_OK && !table) st = read_optional(l, "added_tokens.json", &doc);
    cJSON_ArrayForEach(item, root_of(doc))
    {
        int special = is_special_name(config, item->string) || is_special_name(names, item->string);
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (st == SQZ_OK)
            st = load_added(l, item->string, id >= 0 && id < INT32_MAX ? (int64_t)id : -1, NULL,
                            special);
    }
    json_free(doc);
    return st;
}

/* The stages that tokenizer.json would have spelled out. */
static sqz_status build_from_class(const loader *l, const cJSON *config)
{
    const char *class = json_str(config, "tokenizer_class", "GPT2Tokenizer");
    cJSON *normalize = NULL, *split = NULL, *decode = cJSON_Parse("{\"type\":\"ByteLevel\"}");
    if (!strncmp(class, "Qwen2", 5)) {
        normalize = cJSON_Parse("{\"type\":\"NFC\"}");
        split = cJSON_Parse(
            "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
            "\"pattern\":{\"Regex\":\"\"},\"behavior\":\"Isolated\",\"invert\":false},"
            "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}");
        cJSON *first = cJSON_GetArrayItem(json_get(split, "pretokenizers"), 0);
        cJSON_ReplaceItemInObjectCaseSensitive(json_get(first, "pattern"), "Regex",
                                               cJSON_CreateString(qwen2_expression));
    } else if (!strncmp(class, "GPT2Tokenizer", 13) || !strncmp(class, "CodeGenTokenizer", 16)) {
        split = cJSON_Parse(json_bool(config, "add_prefix_space", 0)
                                ? "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"
                                : "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}");
    } else {
        cJSON_Delete(decode);
        return err_set(
            l->err, SQZ_E_UNSUPPORTED,
            "%s: tokenizer class \"%s\" from vocab.json and merges.txt is not built; save "
            "the tokenizer with its tokenizer.json",
            l->dir, class);
    }
    sqz_status st = split && decode ? load_stages(l, normalize, split, decode) : load_no_memory(l);
    cJSON_Delete(normalize);
    cJSON_Delete(split);
    cJSON_Delete(decode);
    return st;
}

static sqz_status load_vocab_merges(loader *l, const char *path)
{
    json_doc *doc = NULL;
    const cJSON *config = root_of(l->config), *names = root_of(l->map);
    l->file = path;
    sqz_status st = read_json(path, MAX_TOKENIZER_BYTES, &doc, l->err);
    if (st != SQZ_OK) return st;
    bpe_options options = {0};
    word_model *m = &l->t->model;
    st = (m->vocab = vocab_new(path)) ? load_vocab(l, json_root(doc)) : load_no_memory(l);
    json_free(doc);
    if (st == SQZ_OK && !(m->bpe = bpe_new(m->vocab))) st = load_no_memory(l);
    if (st == SQZ_OK) st = bpe_ready(l->t->model.bpe, &options, l->err);
    if (st == SQZ_OK) st = read_merges_txt(l);
    if (st == SQZ_OK) st = build_from_class(l, config);
    if (st == SQZ_OK) st = add_config_tokens(l, config, names);
    if (st == SQZ_OK) st = add_special_names(l, config);
    if (st == SQZ_OK) st = add_special_names(l, names);
    return st == SQZ_OK ? load_index_added(l) : st;
}

/* ---- the ends of a text -------------------------------------------------------------------------
 */

/* Looks for `key` in one file: 1 found (*id is -1 for null), 0 not there. */
static int special_id(const loader *l, const cJSON *from, const char *key, int32_t *id,
                      sqz_status *st)
{
    const cJSON *entry = json_get(from, key);
    if (!entry) return 0;
    const char *content = content_of(entry);
    *id = content ? tokenizer_id(l->t, content) : -1;
    if (content && *id < 0)
        *st = err_set(l->err, ERR_MODEL, "%s: %s \"%.60s\" is not in the vocabulary", l->dir, key,
                      content);
    return 1;
}

static sqz_status find_end(const loader *l, const cJSON *model_config, const char *which,
                           int32_t *id)
{
    char key[16];
    sqz_status st = SQZ_OK;
    snprintf(key, sizeof key, "%s_token", which);
    if (special_id(l, root_of(l->config), key, id, &st)) return st;
    if (special_id(l, root_of(l->map), key, id, &st)) return st;
    snprintf(key, sizeof key, "%s_token_id", which);
    const cJSON *number = json_get(model_config, key);
    if (cJSON_IsArray(number)) number = number->child; /* several ends: the first is the text's */
    if (!number) return SQZ_OK; /* what the vocabulary's own file said, if anything */
    int64_t n, value = cJSON_IsNumber(number) && number->valuedouble >= 0 &&
                               number->valuedouble < INT32_MAX
                           ? (int64_t)number->valuedouble
                           : -1;
    *id = vocab_piece(l->t->model.vocab, value, &n) ? (int32_t)value : -1;
    return SQZ_OK;
}

/* Llama's class rebuilds the template from two switches (formats, "tokenizer_config.json"). */
static void apply_switches(const loader *l)
{
    const cJSON *config = root_of(l->config);
    tokenizer *t = l->t;
    const char *class = json_str(config, "tokenizer_class", "");
    const cJSON *bos = json_get(config, "add_bos_token"), *eos = json_get(config, "add_eos_token");
    if (strncmp(class, "LlamaTokenizer", 14) != 0 && strncmp(class, "GemmaTokenizer", 14) != 0)
        return;
    if (cJSON_IsBool(bos)) {
        t->before.n = 0;
        if (cJSON_IsTrue(bos) && t->bos >= 0) ids_add(&t->before, t->bos);
    }
    if (cJSON_IsBool(eos)) {
        t->after.n = 0;
        if (cJSON_IsTrue(eos) && t->eos >= 0) ids_add(&t->after, t->eos);
    }
}

static sqz_status check_template(const loader *l, const id_list *list)
{
    int64_t n;
    for (int64_t i = 0; i < list->n; i++)
        if (!vocab_piece(l->t->model.vocab, list->at[i], &n))
            return err_set(l->err, ERR_MODEL, "%s: post_processor names id %d, which has no piece",
                           l->dir, (int)list->at[i]);
    return SQZ_OK;
}

static sqz_status find_ends(const loader *l)
{
    json_doc *doc = NULL;
    sqz_status st = read_optional(l, "config.json", &doc);
    if (st == SQZ_OK) st = find_end(l, root_of(doc), "bos", &l->t->bos);
    if (st == SQZ_OK) st = find_end(l, root_of(doc), "eos", &l->t->eos);
    json_free(doc);
    if (st != SQZ_OK) return st;
    apply_switches(l);
    if (l->t->before.failed || l->t->after.failed) return load_no_memory(l);
    st = check_template(l, &l->t->before);
    return st == SQZ_OK ? check_template(l, &l->t->after) : st;
}

/* tokenizer.model says nothing about the class; without tokenizer_config.json the model's family
 * tells it. */
static sqz_status load_spm(loader *l, const char *path)
{
    static const char *const families[][2] = {
        {"llama", "LlamaTokenizer"},       {"mistral", "LlamaTokenizer"},
        {"mixtral", "LlamaTokenizer"},     {"phi3", "LlamaTokenizer"},
        {"gemma", "GemmaTokenizer"},       {"gemma2", "GemmaTokenizer"},
        {"gemma3_text", "GemmaTokenizer"}, {"t5", "T5Tokenizer"},
    };
    json_doc *doc = NULL;
    sqz_status st = read_optional(l, "config.json", &doc);
    const char *family = json_str(root_of(doc), "model_type", ""), *class = "";
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i][0], family)) class = families[i][1];
    json_free(doc);
    if (st != SQZ_OK) return st;
    st = load_sentencepiece(l, path, json_str(root_of(l->config), "tokenizer_class", class));
    if (st == SQZ_OK) st = add_config_tokens(l, root_of(l->config), root_of(l->map));
    if (st == SQZ_OK) st = add_special_names(l, root_of(l->config));
    if (st == SQZ_OK) st = add_special_names(l, root_of(l->map));
    return st == SQZ_OK ? load_index_added(l) : st;
}

static sqz_status refuse_folder(const char *dir, sqz_error *err)
{
    if (!path_is_dir(dir))
        return err_set(err, ERR_MODEL, "%s: %s", dir,
                       path_exists(dir) ? "not a folder with tokenizer files" : "no such folder");
    return err_set(err, ERR_MODEL,
                   "%s: no tokenizer; expected tokenizer.json, tokenizer.model, or vocab.json with "
                   "merges.txt",
                   dir);
}

sqz_status tokenizer_load(tokenizer *t, const char *dir, sqz_error *err)
{
    loader l = {.t = t, .dir = dir, .file = dir, .err = err};
    char *json = path_format("%s/tokenizer.json", dir), *vocab = path_format("%s/vocab.json", dir),
         *spm = path_format("%s/tokenizer.model", dir);
    sqz_status st = read_optional(&l, "tokenizer_config.json", &l.config);
    if (st == SQZ_OK) st = read_optional(&l, "special_tokens_map.json", &l.map);
    if (st == SQZ_OK && gguf_is_path(dir))
        st = load_gguf(&l);
    else if (st == SQZ_OK && path_exists(json))
        st = load_tokenizer_json(&l, json);
    else if (st == SQZ_OK && path_exists(vocab))
        st = load_vocab_merges(&l, vocab);
    else if (st == SQZ_OK && path_exists(spm))
        st = load_spm(&l, spm);
    else if (st == SQZ_OK)
        st = refuse_folder(dir, err);
    if (st == SQZ_OK) st = find_ends(&l);
    free(json);
    free(vocab);
    free(spm);
    json_free(l.config);
    json_free(l.map);
    return st;
}
