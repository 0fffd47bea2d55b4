/* load.c - tokenizer files to a tokenizer.
 *
 * tokenizer.json is read when it is there; else vocab.json and merges.txt, which say nothing about
 * splitting, so that tokenizer_config.json's class decides.  Truncation and padding entries are not
 * applied: callers cut texts themselves. */
#include "io/file.h"
#include "json/json.h"
#include "tokenizer/parts.h"
#include "tokenizer/template.h"
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENIZER_BYTES ((int64_t)512 << 20)
#define MAX_CONFIG_BYTES ((int64_t)64 << 20)
enum { MAX_ADDED_BYTES = 4096, MAX_ADDED = 1 << 20 };

static const char qwen2_expression[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                       "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

typedef struct loader {
    tokenizer *t;
    const char *dir;
    const char *file; /* the one that is being read, for messages */
    json_doc *config; /* tokenizer_config.json, or NULL */
    json_doc *map;    /* special_tokens_map.json, or NULL */
    sqz_error *err;
} loader;

static sqz_status no_memory(const loader *l)
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

/* ---- vocabulary and merges ----------------------------------------------------------------------
 */

static sqz_status read_vocab(const loader *l, const cJSON *vocab)
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
        sqz_status st = bpe_add_piece(l->t->model, item->string, (int64_t)strlen(item->string),
                                      (int64_t)id, l->err);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}

/* "a b" */
static sqz_status add_merge_text(const loader *l, const char *text, int64_t n, int64_t line)
{
    const char *space = memchr(text, ' ', (size_t)n);
    if (!space || memchr(space + 1, ' ', (size_t)(text + n - space - 1)))
        return err_set(l->err, ERR_MODEL, "%s: merge %lld is not two pieces and a space: \"%.*s\"",
                       l->file, (long long)line, (int)(n > 60 ? 60 : n), text);
    char *copy = strndup(text, (size_t)n); /* so that messages can print both sides */
    if (!copy) return no_memory(l);
    int64_t left = space - text;
    copy[left] = 0;
    sqz_status st = bpe_add_merge(l->t->model, copy, left, copy + left + 1, n - left - 1, l->err);
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
            st = add_merge_text(l, item->valuestring, (int64_t)strlen(item->valuestring), rank);
        else if (cJSON_IsString(a) && cJSON_IsString(b) && !b->next)
            st = bpe_add_merge(l->t->model, a->valuestring, (int64_t)strlen(a->valuestring),
                               b->valuestring, (int64_t)strlen(b->valuestring), l->err);
        else
            st = err_set(l->err, ERR_MODEL, "%s: merge %lld is neither \"a b\" nor [\"a\", \"b\"]",
                         l->file, (long long)rank);
        if (st != SQZ_OK) return st;
        rank++;
    }
    return SQZ_OK;
}

static sqz_status read_model(const loader *l, const cJSON *model)
{
    const char *type = json_str(model, "type", json_get(model, "merges") ? "BPE" : "none");
    if (!cJSON_IsObject(model)) return err_set(l->err, ERR_MODEL, "%s: no \"model\"", l->file);
    if (strcmp(type, "BPE") != 0)
        return err_set(l->err, SQZ_E_UNSUPPORTED,
                       "%s: tokenizer model \"%s\" is not built; only BPE is", l->file, type);
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
    sqz_status st = read_vocab(l, json_get(model, "vocab"));
    if (st == SQZ_OK) st = bpe_ready(l->t->model, &options, l->err);
    return st == SQZ_OK ? read_merges(l, json_get(model, "merges")) : st;
}

/* ---- added tokens -------------------------------------------------------------------------------
 */

/* The vocabulary's id wins where the content is a piece already, as in the reference. */
static sqz_status add_token(const loader *l, const char *content, int64_t id, const cJSON *flags,
                            int special)
{
    tokenizer *t = l->t;
    int64_t n = content ? (int64_t)strlen(content) : 0;
    if (!n) return SQZ_OK;
    if (n > MAX_ADDED_BYTES || t->n_added >= MAX_ADDED)
        return err_set(l->err, ERR_MODEL, "%s: added token \"%.60s\": at most %d of %d bytes",
                       l->file, content, MAX_ADDED, MAX_ADDED_BYTES);
    int32_t known = bpe_find(t->model, content, n);
    if (known < 0) {
        sqz_status st = bpe_name_id(t->model, content, n, id, l->err);
        if (st != SQZ_OK) return st;
    }
    if ((t->n_added & (t->n_added - 1)) == 0) { /* room doubles at powers of two */
        size_t room = t->n_added ? 2 * (size_t)t->n_added : 1;
        added_token *more = realloc(t->added, room * sizeof *more);
        if (!more) return no_memory(l);
        t->added = more;
    }
    char *copy = strdup(content);
    if (!copy) return no_memory(l);
    special = json_bool(flags, "special", special);
    t->added[t->n_added++] = (added_token){
        .content = copy,
        .n = n,
        .id = known >= 0 ? known : (int32_t)id,
        .single_word = json_bool(flags, "single_word", 0),
        .lstrip = json_bool(flags, "lstrip", 0),
        .rstrip = json_bool(flags, "rstrip", 0),
        .normalized = json_bool(flags, "normalized", !special),
        .special = special,
    };
    return SQZ_OK;
}

static int has_token(const tokenizer *t, const char *content)
{
    for (int64_t i = 0; i < t->n_added; i++)
        if (!strcmp(t->added[i].content, content)) return 1;
    return 0;
}

static sqz_status read_added_list(const loader *l, const cJSON *list)
{
    const cJSON *item;
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        const char *content = json_str(item, "content", NULL);
        if (!content)
            return err_set(l->err, ERR_MODEL, "%s: an added token has no \"content\"", l->file);
        if (!has_token(l->t, content))
            st = add_token(l, content, json_int(item, "id", -1), item, 0);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}

/* Tokens that say so are searched for, and decoded, in the form the normalizer gives them. */
static sqz_status search_token(const loader *l, added_token *a)
{
    tokenizer *t = l->t;
    sqz_status st = SQZ_OK;
    t->segment.n = 0;
    text_add(&t->segment, a->content, a->n);
    if (t->segment.failed) return no_memory(l);
    if (a->normalized) st = normalizer_run(t->normalizer, &t->segment, l->err);
    if (st != SQZ_OK) return st;
    a->n_shown = t->segment.n;
    a->shown = malloc((size_t)a->n_shown + 1);
    if (!a->shown) return no_memory(l);
    if (a->n_shown) memcpy(a->shown, t->segment.at, (size_t)a->n_shown);
    added_set *set = a->normalized ? t->normalized : t->raw;
    return added_set_add(set, a->shown, a->n_shown, a) ? SQZ_OK : no_memory(l);
}

static sqz_status index_added(const loader *l)
{
    tokenizer *t = l->t;
    int64_t size = bpe_size(t->model);
    t->raw = added_set_new();
    t->normalized = added_set_new();
    t->added_of = malloc((size_t)size * sizeof *t->added_of);
    if (!t->raw || !t->normalized || !t->added_of) return no_memory(l);
    for (int64_t i = 0; i < size; i++) t->added_of[i] = -1;
    for (int special = 1; special >= 0; special--) /* of equal texts the special token wins */
        for (int64_t i = 0; i < t->n_added; i++) {
            if (t->added[i].special != special) continue;
            sqz_status st = search_token(l, &t->added[i]);
            if (st != SQZ_OK) return st;
            t->added_of[t->added[i].id] = (int32_t)i;
        }
    return SQZ_OK;
}

/* ---- tokenizer.json -----------------------------------------------------------------------------
 */

static sqz_status build_stages(const loader *l, const cJSON *normalize, const cJSON *split,
                               const cJSON *decode)
{
    tokenizer *t = l->t;
    sqz_status st = normalizer_new(normalize, l->file, &t->normalizer, l->err);
    if (st == SQZ_OK) st = splitter_new(split, l->file, &t->splitter, l->err);
    if (st == SQZ_OK) st = decoder_new(decode, l->file, &t->decoder, l->err);
    if (st != SQZ_OK) return st;
    if (splitter_leaves_bytes(t->splitter)) bpe_read_bytes(t->model);
    t->cut_at_spaces = splitter_keeps_whole(t->splitter) && bpe_cuts_at_spaces(t->model);
    return SQZ_OK;
}

static sqz_status load_tokenizer_json(loader *l, const char *path)
{
    json_doc *doc = NULL;
    l->file = path;
    sqz_status st = read_json(path, MAX_TOKENIZER_BYTES, &doc, l->err);
    if (st != SQZ_OK) return st;
    const cJSON *root = json_root(doc);
    l->t->model = bpe_new(path);
    st = l->t->model ? read_model(l, json_get(root, "model")) : no_memory(l);
    if (st == SQZ_OK)
        st = build_stages(l, json_get(root, "normalizer"), json_get(root, "pre_tokenizer"),
                          json_get(root, "decoder"));
    if (st == SQZ_OK)
        st = template_read(json_get(root, "post_processor"), path, &l->t->before, &l->t->after,
                           l->err);
    if (st == SQZ_OK) st = read_added_list(l, json_get(root, "added_tokens"));
    json_free(doc);
    return st == SQZ_OK ? index_added(l) : st;
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
            st = add_merge_text(l, text + i, length, line++);
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
    int32_t id = content ? bpe_find(l->t->model, content, (int64_t)strlen(content)) : -1;
    if (id < 0 || has_token(l->t, content)) return SQZ_OK;
    return add_token(l, content, id, cJSON_IsObject(entry) ? entry : NULL, 1);
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
        if (st == SQZ_OK) st = add_token(l, json_str(item, "content", ""), id, item, 0);
    }
    if (st == SQZ_OK && !table) st = read_optional(l, "added_tokens.json", &doc);
    cJSON_ArrayForEach(item, root_of(doc))
    {
        int special = is_special_name(config, item->string) || is_special_name(names, item->string);
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (st == SQZ_OK)
            st = add_token(l, item->string, id >= 0 && id < INT32_MAX ? (int64_t)id : -1, NULL,
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
    sqz_status st = split && decode ? build_stages(l, normalize, split, decode) : no_memory(l);
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
    l->t->model = bpe_new(path);
    st = l->t->model ? read_vocab(l, json_root(doc)) : no_memory(l);
    json_free(doc);
    if (st == SQZ_OK) st = bpe_ready(l->t->model, &options, l->err);
    if (st == SQZ_OK) st = read_merges_txt(l);
    if (st == SQZ_OK) st = build_from_class(l, config);
    if (st == SQZ_OK) st = add_config_tokens(l, config, names);
    if (st == SQZ_OK) st = add_special_names(l, config);
    if (st == SQZ_OK) st = add_special_names(l, names);
    return st == SQZ_OK ? index_added(l) : st;
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
    int64_t n, value = cJSON_IsNumber(number) && number->valuedouble >= 0 &&
                               number->valuedouble < INT32_MAX
                           ? (int64_t)number->valuedouble
                           : -1;
    *id = bpe_piece(l->t->model, value, &n) ? (int32_t)value : -1;
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
        if (!bpe_piece(l->t->model, list->at[i], &n))
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
    if (l->t->before.failed || l->t->after.failed) return no_memory(l);
    st = check_template(l, &l->t->before);
    return st == SQZ_OK ? check_template(l, &l->t->after) : st;
}

static sqz_status refuse_folder(const char *dir, sqz_error *err)
{
    char *model = path_format("%s/tokenizer.model", dir);
    int sentencepiece = path_exists(model);
    free(model);
    if (sentencepiece)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: tokenizer.model alone is not read; save the tokenizer with its "
                       "tokenizer.json",
                       dir);
    if (!path_is_dir(dir))
        return err_set(err, ERR_MODEL, "%s: %s", dir,
                       path_exists(dir) ? "not a folder with tokenizer files" : "no such folder");
    return err_set(err, ERR_MODEL,
                   "%s: no tokenizer; expected tokenizer.json, or vocab.json with merges.txt", dir);
}

sqz_status tokenizer_load(tokenizer *t, const char *dir, sqz_error *err)
{
    loader l = {.t = t, .dir = dir, .file = dir, .err = err};
    char *json = path_format("%s/tokenizer.json", dir), *vocab = path_format("%s/vocab.json", dir);
    sqz_status st = read_optional(&l, "tokenizer_config.json", &l.config);
    if (st == SQZ_OK) st = read_optional(&l, "special_tokens_map.json", &l.map);
    if (st == SQZ_OK && path_exists(json))
        st = load_tokenizer_json(&l, json);
    else if (st == SQZ_OK && path_exists(vocab))
        st = load_vocab_merges(&l, vocab);
    else if (st == SQZ_OK)
        st = refuse_folder(dir, err);
    if (st == SQZ_OK) st = find_ends(&l);
    free(json);
    free(vocab);
    json_free(l.config);
    json_free(l.map);
    return st;
}
