/* gguf_tokenizer.c - tokenizer.ggml.* keys to tokenizer.json and tokenizer_config.json.
 *
 * One loader (load.c) then reads folders and GGUF files alike, and an exported folder has a
 * tokenizer.  A GGUF file of the "llama" kind has scores instead of merges: every way to put a
 * piece together from two others is a merge, the best score first.  Of the "gpt2" kind it has
 * merges, but only the name of its split expression; the table below knows these names. Left out
 * and refused by name: bert, t5, rwkv and other kinds. */
#include "tokenizer/gguf_tokenizer.h"
#include "json/json.h"
#include "tokenizer/merges.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 22, MAX_TEXT = 4096 };

typedef struct vocabulary {
    const gguf_file *f;
    piece_entry *tokens; /* [n] by id; their text lies in the file */
    int64_t n;
    vocab *ids;
    text_buffer out;
    sqz_error *err;
} vocabulary;

static void vocabulary_free(vocabulary *v)
{
    free(v->tokens);
    vocab_free(v->ids);
}

/* ---- reading the lists ----------------------------------------------------------------------- */
static const gguf_entry *array_of(const gguf_file *f, const char *key, int32_t element)
{
    const gguf_entry *e = gguf_find(f, key);
    return e && e->type == GGUF_ARRAY && e->element == element ? e : NULL;
}

static sqz_status index_tokens(vocabulary *v)
{
    v->ids = vocab_new(v->f->path);
    if (!v->ids) return err_set(v->err, SQZ_E_NOMEM, "%s: no memory for its tokens", v->f->path);
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < v->n && !st; i++)
        st = vocab_add(v->ids, v->tokens[i].text, v->tokens[i].n, i, v->err);
    return st;
}

static sqz_status read_tokens(const gguf_file *f, vocabulary *v, sqz_error *err)
{
    const gguf_entry *texts = array_of(f, "tokenizer.ggml.tokens", GGUF_STRING);
    const gguf_entry *types = array_of(f, "tokenizer.ggml.token_type", GGUF_I32);
    const gguf_entry *scores = array_of(f, "tokenizer.ggml.scores", GGUF_F32);
    *v = (vocabulary){.f = f, .err = err};
    if (!texts || texts->count < 1 || texts->count > MAX_TOKENS)
        return err_set(err, ERR_MODEL, "%s: tokenizer.ggml.tokens is not a list of 1 to %d strings",
                       f->path, MAX_TOKENS);
    if ((types && types->count != texts->count) || (scores && scores->count != texts->count))
        return err_set(err, ERR_MODEL,
                       "%s: tokenizer.ggml.tokens, token_type and scores differ in length",
                       f->path);
    v->n = texts->count;
    v->tokens = calloc((size_t)v->n, sizeof *v->tokens);
    if (!v->tokens) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its tokens", f->path);
    const uint8_t *at = texts->at;
    for (int64_t i = 0; i < v->n; i++) {
        piece_entry *t = &v->tokens[i];
        gguf_next_string(&at, &t->text, &t->n);
        t->kind = types ? (int32_t)gguf_element(types, i) : PIECE_NORMAL;
        double score = scores ? gguf_element(scores, i) : 0;
        t->score = isfinite(score) ? (float)score : 0;
        if (t->n > MAX_TEXT || utf8_check(t->text, t->n) >= 0 || memchr(t->text, 0, (size_t)t->n))
            return err_set(err, ERR_MODEL, "%s: token %lld is not UTF-8 text of at most %d bytes",
                           f->path, (long long)i, MAX_TEXT);
    }
    return index_tokens(v);
}

/* ---- writing JSON ---------------------------------------------------------------------------- */
static void put(vocabulary *v, const char *text)
{
    text_add(&v->out, text, (int64_t)strlen(text));
}

static void put_string(vocabulary *v, const char *p, int64_t n)
{
    static const char hex[] = "0123456789abcdef";
    put(v, "\"");
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        char escape[7] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0};
        if (c == '"' || c == '\\') {
            text_add(&v->out, "\\", 1);
            text_add(&v->out, p + i, 1);
        } else if (c < 0x20) {
            put(v, escape);
        } else {
            text_add(&v->out, p + i, 1);
        }
    }
    put(v, "\"");
}

static void put_number(vocabulary *v, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)n);
    put(v, text);
}

static int is_added(const piece_entry *t)
{
    return t->kind == PIECE_CONTROL || t->kind == PIECE_USER_DEFINED || t->kind == PIECE_UNKNOWN;
}

/* Phi-3's converter loses that its tokens swallow the spaces after them. */
static int swallows(const vocabulary *v, const piece_entry *t)
{
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    char *arch = gguf_string(v->f, "general.architecture");
    int phi3 = arch && !strcmp(arch, "phi3");
    free(arch);
    for (size_t i = 0; i < sizeof plain / sizeof *plain && phi3; i++)
        if ((int64_t)strlen(plain[i]) == t->n && !memcmp(plain[i], t->text, (size_t)t->n)) phi3 = 0;
    return phi3;
}

static void put_added(vocabulary *v, int may_swallow)
{
    int n = 0;
    put(v, "\"added_tokens\":[");
    for (int64_t i = 0; i < v->n; i++) {
        const piece_entry *t = &v->tokens[i];
        if (!is_added(t) || !t->n) continue;
        put(v, n++ ? ",\n{\"id\":" : "\n{\"id\":");
        put_number(v, i);
        put(v, ",\"content\":");
        put_string(v, t->text, t->n);
        put(v, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":");
        put(v, may_swallow && swallows(v, t) ? "true" : "false");
        put(v, ",\"normalized\":false,\"special\":");
        put(v, t->kind == PIECE_USER_DEFINED ? "false}" : "true}");
    }
    put(v, "],\n");
}

/* with_added: pieces that are added tokens, too. */
static void put_vocab(vocabulary *v, int with_added)
{
    int n = 0;
    put(v, "\"vocab\":{");
    for (int64_t i = 0; i < v->n; i++) {
        const piece_entry *t = &v->tokens[i];
        if (t->kind == PIECE_UNUSED || !t->n || (is_added(t) && !with_added)) continue;
        put(v, n++ ? ",\n" : "\n");
        put_string(v, t->text, t->n);
        put(v, ":");
        put_number(v, i);
    }
    put(v, "}");
}

/* ---- the ends of a text ---------------------------------------------------------------------- */
static const piece_entry *special_token(const vocabulary *v, const char *key)
{
    int64_t id = gguf_int(v->f, key, -1);
    return id >= 0 && id < v->n ? &v->tokens[id] : NULL;
}

static void put_end(vocabulary *v, const piece_entry *t, int n)
{
    if (n) put(v, ",");
    put(v, "{\"SpecialToken\":{\"id\":");
    put_string(v, t->text, t->n);
    put(v, ",\"type_id\":0}}");
}

static void put_template(vocabulary *v, int adds_bos)
{
    const piece_entry *bos = special_token(v, "tokenizer.ggml.bos_token_id");
    const piece_entry *eos = special_token(v, "tokenizer.ggml.eos_token_id"), *ends[2];
    int n = 0;
    if (!gguf_bool(v->f, "tokenizer.ggml.add_bos_token", adds_bos)) bos = NULL;
    if (!gguf_bool(v->f, "tokenizer.ggml.add_eos_token", 0)) eos = NULL;
    if (!bos && !eos) {
        put(v, "\"post_processor\":null,\n");
        return;
    }
    put(v, "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[");
    if (bos) put_end(v, ends[n++] = bos, 0);
    put(v, bos ? "," : "");
    put(v, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
    if (eos) put_end(v, eos, 1);
    if (eos && eos != bos) ends[n++] = eos;
    put(v, "],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
           "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{");
    for (int i = 0; i < n; i++) {
        if (i) put(v, ",");
        put_string(v, ends[i]->text, ends[i]->n);
        put(v, ":{\"id\":");
        put_string(v, ends[i]->text, ends[i]->n);
        put(v, ",\"ids\":[");
        put_number(v, ends[i] - v->tokens);
        put(v, "],\"tokens\":[");
        put_string(v, ends[i]->text, ends[i]->n);
        put(v, "]}");
    }
    put(v, "}},\n");
}

/* ---- SentencePiece BPE ----------------------------------------------------------------------- */
static sqz_status put_sentencepiece(vocabulary *v)
{
    merge_list merges;
    int prefix = gguf_bool(v->f, "tokenizer.ggml.add_space_prefix", 1);
    const piece_entry *unk = special_token(v, "tokenizer.ggml.unknown_token_id");
    sqz_status st = merges_find(v->ids, v->tokens, v->n, MERGES_BY_SCORE, &merges, v->err);
    if (st) {
        free(merges.at);
        return st;
    }
    put(v, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(v, 1);
    put(v, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (prefix) put(v, "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},");
    put(v, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},\n"
           "\"pre_tokenizer\":null,\n");
    put_template(v, 1);
    put(v, "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
           "{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
           "{\"type\":\"Fuse\"}");
    if (prefix) put(v, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    put(v, "]},\n\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (unk)
        put_string(v, unk->text, unk->n);
    else
        put(v, "null");
    put(v, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
           "\"byte_fallback\":");
    put(v, vocab_find_byte(v->ids, 0) >= 0 ? "true" : "false");
    put(v, ",\"ignore_merges\":false,\n");
    put_vocab(v, 1);
    put(v, ",\n\"merges\":[");
    for (int64_t i = 0; i < merges.n; i++) {
        const piece_entry *left = &v->tokens[merges.at[i].left];
        const piece_entry *right = &v->tokens[merges.at[i].right];
        put(v, i ? ",\n[" : "\n[");
        put_string(v, left->text, left->n);
        put(v, ",");
        put_string(v, right->text, right->n);
        put(v, "]");
    }
    put(v, "]}}\n");
    free(merges.at);
    return SQZ_OK;
}

/* ---- byte-level BPE -------------------------------------------------------------------------- */
#define SUFFIXES "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES_AT_END "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                           "\\s+(?!\\S)|\\s+";
static const char llama3[] = SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES_AT_END;
static const char qwen2[] = SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                                     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES_AT_END;
static const char tekken[] =
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER
    "]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES_AT_END;
static const char gpt4o[] =
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" SUFFIXES "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER
    "]+[" LOWER "]*" SUFFIXES "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES_AT_END;
static const char one_digit[] = "\\p{N}";
static const char cjk[] = "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-"
                          "\xED\x9F\xBF]+";

enum { MAX_SPLITS = 5 };
/* tokenizer.ggml.pre: the expressions that split a text, one after another. */
static const struct split {
    const char *name;
    int nfc, ignore_merges, adds_bos;
    const char *expressions[MAX_SPLITS];
} splits[] = {
    {"gpt-2", 0, 0, 0, {gpt2}},
    {"gpt2", 0, 0, 0, {gpt2}},
    {"phi-2", 0, 0, 0, {gpt2}},
    {"olmo", 0, 0, 0, {gpt2}},
    {"mpt", 0, 0, 0, {gpt2}},
    {"roberta-bpe", 0, 0, 0, {gpt2}},
    {"llama-bpe", 0, 1, 1, {llama3}},
    {"llama3", 0, 1, 1, {llama3}},
    {"llama-v3", 0, 1, 1, {llama3}},
    {"dbrx", 0, 0, 0, {llama3}},
    {"smaug-bpe", 0, 0, 0, {llama3}},
    {"qwen2", 1, 0, 0, {qwen2}},
    {"deepseek-r1-qwen", 1, 0, 0, {qwen2}},
    {"stablelm2", 0, 0, 0, {qwen2}},
    {"tekken", 0, 1, 1, {tekken}},
    {"gpt-4o", 0, 0, 0, {gpt4o}},
    {"starcoder", 0, 0, 0, {one_digit, gpt2}},
    {"refact", 0, 0, 0, {one_digit, gpt2}},
    {"smollm", 0, 0, 0, {one_digit, gpt2}},
    {"codeshell", 0, 0, 0, {one_digit, gpt2}},
    {"command-r", 0, 0, 0, {one_digit, gpt2}},
    {"deepseek-coder", 0, 0, 0, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", cjk, one_digit}},
};

/* Files of early 2024 do not name the split; some architectures leave no choice. */
static char *split_name(const gguf_file *f)
{
    static const struct {
        const char *arch, *pre;
    } implied[] = {{"gpt2", "gpt-2"}, {"gptneox", "gpt-2"}, {"qwen2", "qwen2"}, {"qwen3", "qwen2"}};
    char *name = gguf_string(f, "tokenizer.ggml.pre");
    char *arch = gguf_string(f, "general.architecture");
    for (size_t i = 0; !name && arch && i < sizeof implied / sizeof *implied; i++)
        if (!strcmp(arch, implied[i].arch)) name = strdup(implied[i].pre);
    free(arch);
    return name;
}

static sqz_status find_split(const gguf_file *f, const struct split **out, sqz_error *err)
{
    char *name = split_name(f), known[512];
    int used = 0;
    *out = NULL;
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        if (name && !strcmp(name, splits[i].name)) *out = &splits[i];
        used += snprintf(known + used, sizeof known - (size_t)used, "%s%s", i ? ", " : "",
                         splits[i].name);
    }
    sqz_status st = SQZ_OK;
    if (!name)
        st = err_set(err, SQZ_E_UNSUPPORTED,
                     "%s: does not say how its tokenizer splits text (tokenizer.ggml.pre); convert "
                     "the model again with a newer converter",
                     f->path);
    else if (!*out)
        st = err_set(err, SQZ_E_UNSUPPORTED,
                     "%s: tokenizer.ggml.pre \"%.60s\" is not built; built are %s", f->path, name,
                     known);
    free(name);
    return st;
}

/* "left right"; a space inside a part is written otherwise, so the first one divides. */
static sqz_status put_merges(vocabulary *v)
{
    const gguf_entry *e = array_of(v->f, "tokenizer.ggml.merges", GGUF_STRING);
    if (!e)
        return err_set(v->err, ERR_MODEL, "%s: tokenizer.ggml.merges is no list of strings",
                       v->f->path);
    const uint8_t *at = e->at;
    put(v, "\"merges\":[");
    for (int64_t i = 0; i < e->count; i++) {
        const char *text;
        int64_t n;
        gguf_next_string(&at, &text, &n);
        const char *space = n > 1 ? memchr(text + 1, ' ', (size_t)n - 1) : NULL;
        int64_t left = space ? space - text : 0;
        if (!space || left + 1 >= n || utf8_check(text, n) >= 0 || memchr(text, 0, (size_t)n))
            return err_set(v->err, ERR_MODEL, "%s: merge %lld is not two pieces and a space",
                           v->f->path, (long long)i);
        put(v, i ? ",\n[" : "\n[");
        put_string(v, text, left);
        put(v, ",");
        put_string(v, space + 1, n - left - 1);
        put(v, "]");
    }
    put(v, "]");
    return SQZ_OK;
}

static sqz_status put_byte_level(vocabulary *v)
{
    const struct split *s;
    sqz_status st = find_split(v->f, &s, v->err);
    if (st) return st;
    put(v, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(v, 0);
    put(v, s->nfc ? "\"normalizer\":{\"type\":\"NFC\"},\n" : "\"normalizer\":null,\n");
    put(v, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < MAX_SPLITS && s->expressions[i]; i++) {
        put(v, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        put_string(v, s->expressions[i], (int64_t)strlen(s->expressions[i]));
        put(v, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    put(v, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
           "\"use_regex\":false}]},\n");
    put_template(v, s->adds_bos);
    put(v, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
           "\"use_regex\":true},\n"
           "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
           "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
           "\"byte_fallback\":false,\"ignore_merges\":");
    put(v, s->ignore_merges ? "true,\n" : "false,\n");
    put_vocab(v, 0);
    put(v, ",\n");
    st = put_merges(v);
    put(v, "}}\n");
    return st;
}

/* ---- whole ----------------------------------------------------------------------------------- */
static sqz_status put_model(vocabulary *v)
{
    char *model = gguf_string(v->f, "tokenizer.ggml.model");
    sqz_status st;
    if (!model)
        st =
            err_set(v->err, ERR_MODEL, "%s: holds no tokenizer (tokenizer.ggml.model)", v->f->path);
    else if (!strcmp(model, "llama"))
        st = put_sentencepiece(v);
    else if (!strcmp(model, "gpt2"))
        st = put_byte_level(v);
    else
        st = err_set(v->err, SQZ_E_UNSUPPORTED,
                     "%s: tokenizer.ggml.model \"%.60s\" is not built; llama and gpt2 are",
                     v->f->path, model);
    free(model);
    return st;
}

sqz_status gguf_tokenizer(const gguf_file *f, char **json, sqz_error *err)
{
    vocabulary v;
    sqz_status st = read_tokens(f, &v, err);
    if (!st) st = put_model(&v);
    text_add(&v.out, "", 1); /* the final zero */
    if (!st && v.out.failed)
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory for its tokenizer", f->path);
    vocabulary_free(&v);
    if (st)
        text_free(&v.out);
    else
        *json = v.out.at;
    return st;
}

/* "tokenizer.chat_template" is the default; "tokenizer.chat_template.NAME" are others. */
static void add_templates(cJSON *o, const gguf_file *f)
{
    static const char key[] = "tokenizer.chat_template";
    char *main = gguf_string(f, key);
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < f->n_entries; i++) {
        const gguf_entry *e = &f->entries[i];
        if (e->type != GGUF_STRING || strncmp(e->key, key, sizeof key - 1) != 0 ||
            e->key[sizeof key - 1] != '.')
            continue;
        char *text = gguf_string(f, e->key);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", e->key + sizeof key);
        cJSON_AddStringToObject(item, "template", text ? text : "");
        cJSON_AddItemToArray(list, item);
        free(text);
    }
    if (main && cJSON_GetArraySize(list)) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", "default");
        cJSON_AddStringToObject(item, "template", main);
        cJSON_InsertItemInArray(list, 0, item);
    }
    if (cJSON_GetArraySize(list)) {
        cJSON_AddItemToObject(o, "chat_template", list);
    } else {
        cJSON_Delete(list);
        if (main) cJSON_AddStringToObject(o, "chat_template", main);
    }
    free(main);
}

sqz_status gguf_tokenizer_config(const gguf_file *f, char **json, sqz_error *err)
{
    static const struct {
        const char *name, *key;
    } specials[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                    {"eos_token", "tokenizer.ggml.eos_token_id"},
                    {"unk_token", "tokenizer.ggml.unknown_token_id"},
                    {"pad_token", "tokenizer.ggml.padding_token_id"}};
    vocabulary v;
    sqz_status st = read_tokens(f, &v, err);
    if (st) {
        vocabulary_free(&v);
        return st;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "tokenizer_class", "PreTrainedTokenizerFast");
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        const piece_entry *t = special_token(&v, specials[i].key);
        char *text = t && t->n ? strndup(t->text, (size_t)t->n) : NULL;
        if (text)
            cJSON_AddStringToObject(o, specials[i].name, text);
        else
            cJSON_AddNullToObject(o, specials[i].name);
        free(text);
    }
    cJSON_AddBoolToObject(o, "clean_up_tokenization_spaces", 0);
    add_templates(o, f);
    *json = json_text(o, 1);
    cJSON_Delete(o);
    vocabulary_free(&v);
    return SQZ_OK;
}
