/* test_tokenizer.c - the tokenizer against vectors of the `tokenizers` package, and against small
 * tokenizers made here, one for each component, whose ids were worked out by hand or taken from
 * that package.
 *
 * tests/golden/tokenizer/tiny-arith.jsonl is ours; other published tokenizers are compared when
 * SQZ_SHARED names a folder that has them. */
#include "io/file.h"
#include "json/json.h"
#include "tokenizer/tokenizer.h"
#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- vectors ------------------------------------------------------------------------------------
 * Texts hold U+0000, which the JSON reader refuses, so lines are read here. */

/* Folders in tests/golden/tokenizer. */
static const char *const kinds[] = {
    "gpt2",
    "llama3",
    "cl100k",
    "digits-punctuation",
    "clip",
    "unigram",
    "split-behaviours",
    "scripts",
    "wordlevel",
    "fixed-length",
    "unigram-charsmap",
    "unigram-bytes",
    "bert",
    "bert-cased",
    "wordpiece-accents",
    "added-tokens",
    "spm-bpe-llama",
    "spm-bpe-llama-legacy",
    "spm-bpe-gemma",
    "spm-unigram-t5",
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct vector {
    char *text, *decoded;
    int64_t n_text, n_decoded, n_ids, n_special;
    int32_t *ids, *special;
} vector;

static const char *value_of(const char *line, const char *key)
{
    char quoted[40];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *p = strstr(line, quoted);
    ck_assert_msg(p != NULL, "no key %s in: %.80s", key, line);
    return p + strlen(quoted);
}

static unsigned read_hex(const char *p)
{
    char four[5] = {p[0], p[1], p[2], p[3], 0};
    return (unsigned)strtoul(four, NULL, 16);
}

static char *put_utf8(char *o, unsigned c)
{
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xC0 | c >> 6);
        *o++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *o++ = (char)(0xE0 | c >> 12);
        *o++ = (char)(0x80 | (c >> 6 & 63));
        *o++ = (char)(0x80 | (c & 63));
    } else {
        *o++ = (char)(0xF0 | c >> 18);
        *o++ = (char)(0x80 | (c >> 12 & 63));
        *o++ = (char)(0x80 | (c >> 6 & 63));
        *o++ = (char)(0x80 | (c & 63));
    }
    return o;
}

static char *read_string(const char *p, int64_t *n)
{
    char *out = malloc(strlen(p) + 1), *o = out;
    ck_assert_int_eq(*p, '"');
    for (p++; *p != '"'; p++) {
        if (*p != '\\') {
            *o++ = *p;
            continue;
        }
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *simple = strchr(from, *++p);
        if (simple) {
            *o++ = to[simple - from];
            continue;
        }
        unsigned c = read_hex(p + 1);
        p += 4;
        if (c >= 0xD800 && c < 0xDC00) {
            c = 0x10000 + ((c - 0xD800) << 10) + (read_hex(p + 3) - 0xDC00);
            p += 6;
        }
        o = put_utf8(o, c);
    }
    *n = o - out;
    return out;
}

static int32_t *read_ids(const char *p, int64_t *n)
{
    int32_t *ids = malloc((strlen(p) / 2 + 1) * sizeof *ids);
    *n = 0;
    ck_assert_int_eq(*p, '[');
    for (p++; *p != ']';) {
        char *end;
        ids[(*n)++] = (int32_t)strtol(p, &end, 10);
        p = end + strspn(end, ", ");
    }
    return ids;
}

static vector read_vector(const char *line)
{
    vector v;
    v.text = read_string(value_of(line, "text"), &v.n_text);
    v.ids = read_ids(value_of(line, "ids"), &v.n_ids);
    v.special = read_ids(value_of(line, "ids_special"), &v.n_special);
    v.decoded = read_string(value_of(line, "decoded"), &v.n_decoded);
    return v;
}

static void free_vector(vector *v)
{
    free(v->text);
    free(v->ids);
    free(v->special);
    free(v->decoded);
}

static tokenizer *open_ok(const char *dir)
{
    tokenizer *t = NULL;
    sqz_error err = {0};
    sqz_status st = tokenizer_open(dir, &t, &err);
    ck_assert_msg(st == SQZ_OK, "%s: %s", dir, err.text);
    return t;
}

static void expect_ids(tokenizer *t, const char *text, int64_t n_text, int special,
                       const int32_t *want, int64_t n_want, int64_t line)
{
    int32_t *ids;
    int64_t n;
    sqz_error err = {0};
    sqz_status st = tokenizer_encode(t, text, n_text, special, &ids, &n, &err);
    ck_assert_msg(st == SQZ_OK, "line %lld: %s", (long long)line, err.text);
    int64_t same = 0;
    while (same < n && same < n_want && ids[same] == want[same]) same++;
    ck_assert_msg(n == n_want && same == n,
                  "line %lld, special %d: %lld ids for %lld, differ at %lld: %d for %d; text %.80s",
                  (long long)line, special, (long long)n, (long long)n_want, (long long)same,
                  same < n ? ids[same] : -1, same < n_want ? want[same] : -1, text);
    free(ids);
}

static void expect_text(tokenizer *t, const int32_t *ids, int64_t n, int skip, const char *want,
                        int64_t n_want, int64_t line)
{
    char *text;
    int64_t bytes;
    sqz_error err = {0};
    sqz_status st = tokenizer_decode(t, ids, n, skip, &text, &bytes, &err);
    ck_assert_msg(st == SQZ_OK, "line %lld: %s", (long long)line, err.text);
    ck_assert_msg(bytes == n_want && !memcmp(text, want, (size_t)bytes) && text[bytes] == 0,
                  "line %lld: decoded \"%s\" for \"%.*s\"", (long long)line, text, (int)n_want,
                  want);
    free(text);
}

/* Every line, both ways. */
static void check_vectors(const char *dir, const char *file, int64_t want)
{
    char *data;
    int64_t bytes, lines = 0;
    sqz_error err = {0};
    tokenizer *t = open_ok(dir);
    ck_assert_msg(file_read(file, 1 << 24, &data, &bytes, &err) == SQZ_OK, "%s", err.text);
    for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
        vector v = read_vector(line);
        lines++;
        expect_ids(t, v.text, v.n_text, 0, v.ids, v.n_ids, lines);
        expect_ids(t, v.text, v.n_text, 1, v.special, v.n_special, lines);
        expect_text(t, v.ids, v.n_ids, 0, v.decoded, v.n_decoded, lines);
        free_vector(&v);
    }
    ck_assert_int_eq(lines, want);
    free(data);
    tokenizer_free(t);
}

START_TEST(test_golden)
{
    check_vectors(SQZ_SOURCE_DIR "/examples/tiny-arith/model",
                  SQZ_SOURCE_DIR "/tests/golden/tokenizer/tiny-arith.jsonl", 351);
}
END_TEST

/* One for each kind of model and each component (tests/golden/make_tokenizers.py). */
START_TEST(test_kinds)
{
    char *dir = path_format("%s/tests/golden/tokenizer/%s", SQZ_SOURCE_DIR, kinds[_i]);
    char *file = path_format("%s/vectors.jsonl", dir);
    check_vectors(dir, file, 60);
    free(dir);
    free(file);
}
END_TEST

START_TEST(test_published)
{
    static const char *const folders[] = {
        "data/tokenizers/llama-2",       "data/tokenizers/phi-2", "data/tokenizers/qwen2.5",
        "models/stories260K-hf",         "models/tiny-gpt2-hf",   "data/tokenizers/unigram-ours",
        "data/tokenizers/wordpiece-ours"};
    const char *shared = getenv("SQZ_SHARED");
    if (!shared || !path_is_dir(shared)) {
        printf("test_published skipped: SQZ_SHARED names no folder\n");
        return;
    }
    char *dir = path_format("%s/%s", shared, folders[_i]);
    char *file = path_format("%s/vectors.jsonl", dir);
    if (path_exists(file))
        check_vectors(dir, file, 351);
    else
        printf("%s skipped: no vectors there\n", folders[_i]);
    free(dir);
    free(file);
}
END_TEST

/* The file of texts between marker lines, and one line of ids for each, as llama.cpp keeps them. */
static void check_pair(const char *model, const char *texts, const char *ids)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char *in, *out, *line;
    int64_t n_in, n_out;
    int count = 0;
    sqz_error err = {0};
    tokenizer *t = open_ok(model);
    ck_assert_msg(file_read(texts, 1 << 20, &in, &n_in, &err) == SQZ_OK, "%s", err.text);
    ck_assert_msg(file_read(ids, 1 << 20, &out, &n_out, &err) == SQZ_OK, "%s", err.text);
    line = out;
    for (char *at = in, *end; at; at = end ? end + strlen(mark) : NULL, count++) {
        end = memmem(at, (size_t)(in + n_in - at), mark, strlen(mark));
        line += strspn(line, " ");
        char *list = path_format("[%.*s]", (int)strcspn(line, "\n"), line);
        int64_t n;
        int32_t *want = read_ids(list, &n);
        expect_ids(t, at, end ? end - at : in + n_in - at, 0, want, n, count);
        line += strcspn(line, "\n");
        if (*line) line++;
        free(want);
        free(list);
    }
    ck_assert_int_eq(count, 47);
    free(in);
    free(out);
    tokenizer_free(t);
}

START_TEST(test_vocabulary_pairs)
{
    static const char *const names[] = {"deepseek-coder", "gpt-2", "llama-spm", "phi-3"};
    const char *shared = getenv("SQZ_SHARED");
    if (!shared || !path_is_dir(shared)) {
        printf("test_vocabulary_pairs skipped: SQZ_SHARED names no folder\n");
        return;
    }
    char *model = path_format("%s/data/tokenizers/ggml-vocab-%s.gguf", shared, names[_i]);
    char *in = path_format("%s.inp", model), *out = path_format("%s.out", model);
    if (path_exists(in))
        check_pair(model, in, out);
    else
        printf("%s skipped: not there\n", in);
    free(model);
    free(in);
    free(out);
}
END_TEST

START_TEST(test_special_ids)
{
    tokenizer *t = open_ok(SQZ_SOURCE_DIR "/examples/tiny-arith/model");
    int bos, eos;
    ck_assert_int_eq(tokenizer_bos(t), 0);
    ck_assert_int_eq(tokenizer_eos(t), 1);
    ck_assert_int_eq(tokenizer_size(t), 1843);
    ck_assert_int_eq(tokenizer_id(t, "<|end_of_text|>"), 1);
    ck_assert_int_eq(tokenizer_id(t, "no such piece"), -1);
    tokenizer_template(t, &bos, &eos);
    ck_assert_int_eq(bos, 1);
    ck_assert_int_eq(eos, 0);
    int32_t ids[] = {0, tokenizer_id(t, "a"), 1, 1850};
    expect_text(t, ids, 4, 1, "a", 1, 0);
    tokenizer_free(t);
}
END_TEST

/* ---- small tokenizers made here -----------------------------------------------------------------
 */

static char folder[] = "/tmp/sqz_tokenizer_XXXXXX";

static void setup(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    dir_remove(folder, NULL);
}

static void write_file(const char *name, const char *text)
{
    char *path = path_format("%s/%s", folder, name);
    sqz_error err = {0};
    ck_assert_msg(file_write(path, text, (int64_t)strlen(text), &err) == SQZ_OK, "%s", err.text);
    free(path);
}

/* Pieces without an id of their own, each the character it is: a=0, b=1, ... and merges. */
static tokenizer *make(const char *top, const char *model)
{
    char *text = path_format("{\"version\":\"1.0\",%s%s\"model\":{\"type\":\"BPE\",%s}}", top,
                             *top ? "," : "", model);
    write_file("tokenizer.json", text);
    free(text);
    return open_ok(folder);
}

static void expect(tokenizer *t, const char *text, int n, ...)
{
    int32_t want[64] = {0};
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++) want[i] = va_arg(ap, int);
    va_end(ap);
    expect_ids(t, text, (int64_t)strlen(text), 0, want, n, 0);
}

static void expect_decoded(tokenizer *t, const char *want, int n, ...)
{
    int32_t ids[64] = {0};
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++) ids[i] = va_arg(ap, int);
    va_end(ap);
    expect_text(t, ids, n, 0, want, (int64_t)strlen(want), 0);
}

#define ABC "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5,\"<unk>\":6,\" \":7}"

START_TEST(test_merge_order)
{
    /* the lowest rank first, then the leftmost: "abc" becomes a+bc, "aab" keeps its first a */
    tokenizer *t = make("", ABC ",\"merges\":[\"b c\",\"a b\",[\"a\",\"bc\"]]");
    expect(t, "abc", 1, 5);
    expect(t, "aab", 2, 0, 3);
    expect(t, "abab", 2, 3, 3);
    expect(t, "abbc", 2, 3, 4);
    expect(t, "", 0);
    expect(t, "xay", 1, 0); /* no unk: unknown characters vanish */
    tokenizer_free(t);
}
END_TEST

START_TEST(test_unk)
{
    tokenizer *t = make("", ABC ",\"merges\":[],\"unk_token\":\"<unk>\",\"fuse_unk\":true");
    expect(t, "xyaz", 3, 6, 0, 6);
    tokenizer_free(t);
    t = make("", ABC ",\"merges\":[],\"unk_token\":\"<unk>\"");
    expect(t, "xyaz", 4, 6, 6, 0, 6);
    tokenizer_free(t);
}
END_TEST

START_TEST(test_byte_fallback)
{
    static const char decode[] =
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"
        "\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":"
        "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
    tokenizer *t = make(decode, "\"vocab\":{\"<0xC3>\":0,\"<0xA9>\":1,\"a\":2,\"<unk>\":3,"
                                "\"\xE2\x96\x81\":4,\"<0xE2>\":5},\"merges\":[],\"byte_fallback\":"
                                "true,\"unk_token\":\"<unk>\",\"fuse_unk\":true");
    expect(t, "a\xC3\xA9", 3, 2, 0, 1);
    expect(t, "\xC3\xA8\xC3\xA8", 1, 3); /* a byte is missing: unknown, fused */
    expect_decoded(t, "a\xC3\xA9 ", 5, 4, 2, 0, 1, 4);
    expect_decoded(t, "\xEF\xBF\xBD\xEF\xBF\xBD\x61", 3, 0, 5, 2);
    expect_decoded(t, "  a", 4, 4, 4, 4, 2); /* one leading space goes */
    tokenizer_free(t);
}
END_TEST

START_TEST(test_ignore_merges_and_affixes)
{
    tokenizer *t = make("", ABC ",\"merges\":[\"a b\"],\"ignore_merges\":true");
    expect(t, "abc", 1, 5);
    expect(t, "abca", 3, 3, 2, 0);
    tokenizer_free(t);
    t = make("\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}",
             "\"vocab\":{\"a\":0,\"b</w>\":1,\"ab</w>\":2,\"a</w>\":3},\"end_of_word_suffix\":"
             "\"</w>\",\"merges\":[\"a b</w>\"]");
    expect(t, "ab a", 2, 2, 3);
    tokenizer_free(t);
    t = make("", "\"vocab\":{\"a\":0,\"##b\":1,\"ab\":2},\"continuing_subword_prefix\":\"##\","
                 "\"merges\":[\"a ##b\"]");
    expect(t, "ab", 1, 2);
    expect(t, "abb", 2, 2, 1);
    tokenizer_free(t);
}
END_TEST

#define LETTERS                                                                                    \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"1\":3,\"2\":4,\" \":5,\".\":6,\"\xE2\x96\x81\":7,"       \
    "\"\xC3\xA9\":8,\"ab\":9,\"12\":10,\"\xE2\x96\x81"                                             \
    "a\":11,\"a.\":12,\" a\":13,\"e\":14},\"merges\":[\"a b\",\"1 2\",\"\xE2\x96\x81 a\",\"a "     \
    ".\",[\" \",\"a\"]]"

static tokenizer *with_normalizer(const char *normalizer)
{
    char *top = path_format("\"normalizer\":%s", normalizer);
    tokenizer *t = make(top, LETTERS);
    free(top);
    return t;
}

START_TEST(test_normalizers)
{
    tokenizer *t = with_normalizer("{\"type\":\"NFC\"}");
    expect(t, "e\xCC\x81", 1, 8);
    tokenizer_free(t);
    t = with_normalizer("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":"
                        "\"StripAccents\"},{\"type\":\"Lowercase\"}]}");
    expect(t,
           "\xC3\x89"
           "A",
           2, 14, 0);
    tokenizer_free(t);
    t = with_normalizer("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
                        "\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                        "\"content\":\"\xE2\x96\x81\"}]}");
    expect(t, "a  a", 3, 11, 7, 11);
    expect(t, "", 0);
    tokenizer_free(t);
    t = with_normalizer(
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[bc]+\"},\"content\":\"a\"}");
    expect(t, "bcb1", 2, 0, 3);
    tokenizer_free(t);
    t = with_normalizer("{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}");
    expect(t, " \t1 1 ", 3, 3, 5, 3);
    tokenizer_free(t);
    t = with_normalizer("{\"type\":\"NFKC\"}");
    expect(t, "\xEF\xBC\x91\xC2\xB2", 1, 10);
    tokenizer_free(t);
}
END_TEST

static tokenizer *with_splitter(const char *splitter)
{
    char *top = path_format("\"pre_tokenizer\":%s", splitter);
    tokenizer *t = make(top, LETTERS);
    free(top);
    return t;
}

static tokenizer *with_split(const char *pattern, const char *behaviour, int invert)
{
    char *text =
        path_format("{\"type\":\"Split\",\"pattern\":%s,\"behavior\":\"%s\",\"invert\":%s}",
                    pattern, behaviour, invert ? "true" : "false");
    tokenizer *t = with_splitter(text);
    free(text);
    return t;
}

/* " a", "a." and "12" are single pieces only where no cut falls inside. */
START_TEST(test_split_behaviours)
{
    tokenizer *t = with_split("{\"String\":\" \"}", "Isolated", 0);
    expect(t, "a a", 3, 0, 5, 0);
    tokenizer_free(t);
    t = with_split("{\"String\":\" \"}", "Removed", 0);
    expect(t, "a  a", 2, 0, 0);
    tokenizer_free(t);
    t = with_split("{\"String\":\" \"}", "MergedWithNext", 0);
    expect(t, "a  a ", 4, 0, 5, 13, 5);
    tokenizer_free(t);
    t = with_split("{\"String\":\".\"}", "MergedWithPrevious", 0);
    expect(t, "a..b", 3, 12, 6, 1);
    tokenizer_free(t);
    t = with_split("{\"Regex\":\"[0-9]\"}", "Contiguous", 0);
    expect(t, "a12b", 3, 0, 10, 1);
    tokenizer_free(t);
    t = with_split("{\"Regex\":\"[0-9]\"}", "Isolated", 0);
    expect(t, "a12b", 4, 0, 3, 4, 1);
    tokenizer_free(t);
    t = with_split("{\"Regex\":\"[ab]+\"}", "Removed", 1); /* keeps what matches */
    expect(t, "ab12ab", 2, 9, 9);
    tokenizer_free(t);
}
END_TEST

START_TEST(test_splitters)
{
    tokenizer *t = with_splitter("{\"type\":\"Digits\",\"individual_digits\":true}");
    expect(t, "12a", 3, 3, 4, 0);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"Digits\",\"individual_digits\":false}");
    expect(t, "12a", 2, 10, 0);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":"
                      "\"first\",\"split\":true}");
    expect(t, "a a", 2, 11, 11);
    expect(t, " a", 1, 11);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":"
                      "\"never\",\"split\":false}");
    expect(t, "a a", 2, 0, 11);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{"
                      "\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}]}");
    expect(t, "a. 12", 3, 0, 6, 10);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"Whitespace\"}");
    expect(t, "a. 12", 3, 0, 6, 10);
    tokenizer_free(t);
    t = with_splitter("{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"c\"}");
    expect(t, "acb", 2, 0, 1);
    tokenizer_free(t);
}
END_TEST

/* U+180E is no white space since Unicode 6.3; the expression must not take it for one. */
START_TEST(test_expression_dialect)
{
    tokenizer *t = with_split("{\"Regex\":\"\\\\s\"}", "Removed", 0);
    expect(t,
           "a\xC2\x85"
           "b",
           2, 0, 1);
    expect(t,
           "a\xE1\xA0\x8E"
           "b",
           1, 9); /* unknown, vanishes, and a+b meet */
    tokenizer_free(t);
    t = with_split("{\"Regex\":\"(?i:B)|[^\\\\s\\\\p{L}]\"}", "Isolated", 0);
    expect(t, "ab1", 3, 0, 1, 3);
    tokenizer_free(t);
    sqz_error err = {0};
    write_file("tokenizer.json", "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
                                 "\"[a&&[b]]\"},\"behavior\":\"Isolated\"},\"model\":{\"type\":"
                                 "\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), SQZ_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "intersection"));
}
END_TEST

/* The byte-level pieces of "a b" and of U+00E9: C3 A9 are written U+00C3 U+00A9. */
START_TEST(test_byte_level)
{
    tokenizer *t = make("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                        "\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"}",
                        "\"vocab\":{\"\xC4\xA0\":0,\"a\":1,\"\xC4\xA0"
                        "a\":2,\"\xC3\x83\":3,\"\xC2\xA9\":4,\"\xC4\x80\":5,\"b\":6},\"merges\":["
                        "\"\xC4\xA0 a\"]");
    expect(t, "a a", 2, 2, 2);
    expect(t, " a", 1, 2);
    expect(t, "\xC3\xA9", 3, 0, 3, 4);
    tokenizer_free(t);
}
END_TEST

/* ---- added tokens -------------------------------------------------------------------------------
 */

static tokenizer *with_added(const char *flags, const char *rest)
{
    char *top = path_format("\"added_tokens\":[{\"id\":20,\"content\":\"<x>\",%s}]%s", flags, rest);
    tokenizer *t = make(top, LETTERS);
    free(top);
    return t;
}

START_TEST(test_added_flags)
{
    tokenizer *t = with_added("\"normalized\":false,\"special\":true", "");
    expect(t, "a<x>b<x>", 4, 0, 20, 1, 20);
    ck_assert_int_eq(tokenizer_size(t), 21);
    ck_assert_int_eq(tokenizer_id(t, "<x>"), 20);
    tokenizer_free(t);
    t = with_added("\"normalized\":false,\"single_word\":true", "");
    expect(t, "a<x>b <x> b<x>", 5, 9, 5, 20, 5, 1); /* only the one that stands alone */
    expect(t, "<x>.", 2, 20, 6);
    tokenizer_free(t);
    t = with_added("\"normalized\":false,\"lstrip\":true", "");
    expect(t, "a  <x> b", 4, 0, 20, 5, 1);
    tokenizer_free(t);
    t = with_added("\"normalized\":false,\"rstrip\":true", "");
    expect(t, "a <x>  b", 4, 0, 5, 20, 1);
    tokenizer_free(t);
}
END_TEST

/* A token that is searched in the normalized text is normalized itself: Llama-2's "<s>" matches
 * only after a space or at the beginning, and decodes with its space. */
START_TEST(test_added_normalized)
{
    static const char normalizer[] =
        ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
        "\"\xE2\x96\x81\"}]},\"decoder\":{\"type\":\"Metaspace\"}";
    tokenizer *t = with_added("\"normalized\":true,\"special\":true", normalizer);
    expect(t, "<x>a <x>", 3, 20, 0, 20);
    expect(t, "a<x>", 1, 11);
    expect_decoded(t, "a <x>", 2, 0, 20);
    expect_text(t, (int32_t[]){0, 20, 1}, 3, 1, "ab", 2, 0);
    tokenizer_free(t);
    /* not normalized: found first, and each gap is prepended anew */
    t = with_added("\"normalized\":false,\"special\":true", normalizer);
    expect(t, "a<x>a", 3, 11, 20, 11);
    tokenizer_free(t);
}
END_TEST

/* Leftmost first, then longest: runs of spaces as in Phi-2. */
START_TEST(test_added_longest)
{
    tokenizer *t = make("\"added_tokens\":[{\"id\":21,\"content\":\"  \",\"normalized\":true},{"
                        "\"id\":22,\"content\":\"   \",\"normalized\":true}]",
                        LETTERS);
    expect(t, "a     a", 4, 0, 22, 21, 0);
    expect(t, " a", 1, 13);
    tokenizer_free(t);
}
END_TEST

/* ---- the ends of a text -------------------------------------------------------------------------
 */

#define ENDS "\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2,\"<e>\":3},\"merges\":[]"
#define TEMPLATE                                                                                   \
    "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{"         \
    "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{"            \
    "\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"E\"}}],\"special_tokens\":{"         \
    "\"<s>\":{\"ids\":[1]},\"E\":{\"ids\":[3,2]}}}]}"

START_TEST(test_template_and_ends)
{
    int bos, eos;
    write_file("tokenizer_config.json",
               "{\"bos_token\":{\"__type\":\"AddedToken\",\"content\":\"<s>\"},"
               "\"eos_token\":\"</s>\"}");
    tokenizer *t = make(TEMPLATE, ENDS);
    expect_ids(t, "a", 1, 1, (int32_t[]){1, 0, 3, 2}, 4, 0);
    expect_ids(t, "", 0, 1, (int32_t[]){1, 3, 2}, 3, 0);
    expect_ids(t, "a", 1, 0, (int32_t[]){0}, 1, 0);
    ck_assert_int_eq(tokenizer_bos(t), 1);
    ck_assert_int_eq(tokenizer_eos(t), 2);
    tokenizer_template(t, &bos, &eos);
    ck_assert(bos && eos);
    tokenizer_free(t);
    /* Llama's class decides by its two switches */
    write_file("tokenizer_config.json",
               "{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<s>\",\"eos_token\":"
               "\"</s>\",\"add_bos_token\":false,\"add_eos_token\":true}");
    t = make(TEMPLATE, ENDS);
    expect_ids(t, "a", 1, 1, (int32_t[]){0, 2}, 2, 0);
    tokenizer_free(t);
    /* null says there is none; a missing key asks the next file */
    write_file("tokenizer_config.json", "{\"bos_token\":null}");
    write_file("config.json", "{\"bos_token_id\":1,\"eos_token_id\":[3,2]}");
    t = make("", ENDS);
    ck_assert_int_eq(tokenizer_bos(t), -1);
    ck_assert_int_eq(tokenizer_eos(t), 3);
    tokenizer_free(t);
    write_file("special_tokens_map.json", "{\"eos_token\":{\"content\":\"</s>\"}}");
    t = make("", ENDS);
    ck_assert_int_eq(tokenizer_eos(t), 2);
    tokenizer_free(t);
}
END_TEST

/* ---- vocab.json and merges.txt ------------------------------------------------------------------
 */

START_TEST(test_vocab_and_merges)
{
    write_file("vocab.json",
               "{\"a\":0,\"b\":1,\"\xC4\xA0\":2,\"ab\":3,\"\xC3\x83\":4,\"\xC2\xA9\":5,"
               "\"1\":6,\"11\":7,\"e\":8,\"<s>\":9}");
    write_file("merges.txt", "#version: 0.2\na b\n1 1\n");
    write_file("tokenizer_config.json",
               "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"eos_token\":\"<e>\",\"bos_token\":null,"
               "\"added_tokens_decoder\":{\"10\":{\"content\":\"<e>\",\"special\":true,"
               "\"normalized\":false}}}");
    tokenizer *t = open_ok(folder);
    expect(t, "ab ab<e>", 4, 3, 2, 3, 10);
    expect(t, "11", 2, 6, 6);        /* Qwen2 takes digits one by one */
    expect(t, "e\xCC\x81", 2, 4, 5); /* and composes */
    expect_decoded(t, "\xC3\xA9 ab", 4, 4, 5, 2, 3);
    expect_text(t, (int32_t[]){3, 10}, 2, 1, "ab", 2, 0);
    ck_assert_int_eq(tokenizer_eos(t), 10);
    tokenizer_free(t);
    write_file("tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":"
                                        "\"<s>\"}");
    t = open_ok(folder);
    expect(t, "11<s>", 2, 7, 9);
    tokenizer_free(t);
    sqz_error err = {0};
    write_file("tokenizer_config.json", "{\"tokenizer_class\":\"RobertaTokenizer\"}");
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), SQZ_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "RobertaTokenizer"));
    write_file("tokenizer_config.json", "{}");
    write_file("merges.txt", "a b\na\n");
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "merges.txt: merge 1 "));
}
END_TEST

/* ---- what is refused ----------------------------------------------------------------------------
 */

START_TEST(test_refused)
{
    static const struct {
        const char *text;
        sqz_status code;
        const char *part;
    } bad[] = {
        {"{\"model\":{\"type\":\"Word2Level\",\"vocab\":{}}}", SQZ_E_UNSUPPORTED, "\"Word2Level\""},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{},\"unk_token\":\"u\"}}", ERR_MODEL,
         "empty"},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", ERR_MODEL, "unk_token"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", ERR_MODEL, "no list of pieces"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", ERR_MODEL, "entry 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}}", ERR_MODEL,
         "unk_id 1"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", ERR_MODEL, "empty"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", ERR_MODEL,
         "unk_token \"[UNK]\""},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"},\"model\":{"
         "\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "charsmap"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", ERR_MODEL,
         "merge 0 names \"b\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", ERR_MODEL,
         "merge 0 makes \"aa\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\":1},\"merges\":[[\"a\",\"\"]]}}",
         ERR_MODEL, "empty side"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", ERR_MODEL,
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",1]]}}", ERR_MODEL,
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}", ERR_MODEL, "no list"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", ERR_MODEL, "\"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", ERR_MODEL, "\"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000000},\"merges\":[]}}", ERR_MODEL,
         "2000000000"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300},\"merges\":[]}}", ERR_MODEL,
         "\"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", ERR_MODEL,
         "id 0 belongs"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", ERR_MODEL, "no object"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", ERR_MODEL, "empty"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}",
         ERR_MODEL, "unk_token \"u\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}",
         SQZ_E_UNSUPPORTED, "dropout"},
        {"{\"added_tokens\":[{\"id\":-5,\"content\":\"x\"}],\"model\":{\"type\":\"BPE\",\"vocab\":"
         "{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "id -5"},
        {"{\"added_tokens\":[{\"id\":0,\"content\":\"x\"}],\"model\":{\"type\":\"BPE\",\"vocab\":"
         "{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "id 0 belongs"},
        {"{\"normalizer\":{\"type\":\"Nmt2\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":"
         "0},\"merges\":[]}}",
         SQZ_E_UNSUPPORTED, "\"Nmt2\""},
        {"{\"pre_tokenizer\":{\"type\":\"FixedWidth\"},\"model\":{\"type\":\"BPE\",\"vocab\":{"
         "\"a\":0},\"merges\":[]}}",
         SQZ_E_UNSUPPORTED, "\"FixedWidth\""},
        {"{\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0},\"model\":{\"type\":\"BPE\","
         "\"vocab\":{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "FixedLength of 0"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
         "\"Isolated\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "compiled"},
        {"{\"decoder\":{\"type\":\"Ctx\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
         "\"merges\":[]}}",
         SQZ_E_UNSUPPORTED, "\"Ctx\""},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
         "\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[77]}}},\"model\":{\"type\":\"BPE\","
         "\"vocab\":{\"a\":0},\"merges\":[]}}",
         SQZ_E_UNSUPPORTED, "0 texts"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",77],\"sep\":[\"a\",0]},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         ERR_MODEL, "77"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},", ERR_MODEL, "tokenizer.json:1:"},
        {"{}", ERR_MODEL, "model"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tokenizer *t = NULL;
        sqz_error err = {0};
        write_file("tokenizer.json", bad[i].text);
        sqz_status st = tokenizer_open(folder, &t, &err);
        ck_assert_msg(st == bad[i].code && err.code == st, "%s: %d %s", bad[i].text, st, err.text);
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(err.text, bad[i].part) != NULL, "\"%s\" has no %s", err.text,
                      bad[i].part);
        ck_assert_msg(strstr(err.text, folder) != NULL, "\"%s\" names no file", err.text);
    }
}
END_TEST

/* tokenizer.model cut at every length: an error that names the file, or a smaller vocabulary. */
START_TEST(test_sentencepiece_damaged)
{
    char *data, *path = path_format("%s/tokenizer.model", folder);
    int64_t n;
    int read = 0;
    sqz_error err = {0};
    tokenizer *t = NULL;
    ck_assert(file_read(SQZ_SOURCE_DIR "/tests/golden/tokenizer/spm-unigram-t5/tokenizer.model",
                        1 << 20, &data, &n, &err) == SQZ_OK);
    write_file("tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\"}");
    for (int64_t cut = 0; cut < n; cut += cut < 300 ? 1 : 37) {
        FILE *f = fopen(path, "wb"); /* file_write waits for the disk */
        ck_assert(f && fwrite(data, 1, (size_t)cut, f) == (size_t)cut && !fclose(f));
        sqz_status st = tokenizer_open(folder, &t, &err);
        if (st == SQZ_OK) {
            read++;
            tokenizer_free(t);
            t = NULL;
            continue;
        }
        ck_assert_msg(st == ERR_MODEL && strstr(err.text, "tokenizer.model"), "%lld: %d %s",
                      (long long)cut, st, err.text);
    }
    ck_assert_int_gt(read, 0);
    ck_assert(file_write(path, data, n, &err) == SQZ_OK);
    write_file("tokenizer_config.json", "{\"tokenizer_class\":\"XLMRobertaTokenizer\"}");
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), SQZ_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "XLMRobertaTokenizer"));
    free(path);
    free(data);
}
END_TEST

START_TEST(test_no_tokenizer)
{
    tokenizer *t = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "tokenizer.json"));
    write_file("tokenizer.model", "x");
    ck_assert_int_eq(tokenizer_open(folder, &t, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "not a SentencePiece model"));
    ck_assert_int_eq(tokenizer_open("/no/such/folder", &t, &err), ERR_MODEL);
}
END_TEST

START_TEST(test_bad_arguments)
{
    tokenizer *t = make("", LETTERS);
    sqz_error err = {0};
    int32_t *ids, negative = -3;
    int64_t n;
    char *text;
    ck_assert_int_eq(tokenizer_encode(t, "a\xFF", 2, 0, &ids, &n, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "byte 1"));
    ck_assert_int_eq(tokenizer_decode(t, &negative, 1, 0, &text, &n, &err), SQZ_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "-3"));
    tokenizer_free(t);
}
END_TEST

/* ---- long words ---------------------------------------------------------------------------------
 * 2^18 letters; the answer is known: pairs of pairs up to sixteen, all of them full. */

START_TEST(test_long_word)
{
    enum { N = 1 << 18 };
    tokenizer *t = make("", "\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2,\"aaaaaaaa\":3,\"b\":4},"
                            "\"merges\":[\"a a\",\"aa aa\",\"aaaa aaaa\"]");
    char *text = malloc(N + 1);
    int32_t *ids;
    int64_t n;
    sqz_error err = {0};
    memset(text, 'a', N);
    ck_assert_int_eq(tokenizer_encode(t, text, N, 0, &ids, &n, &err), SQZ_OK);
    ck_assert_int_eq(n, N / 8);
    for (int64_t i = 0; i < n; i++) ck_assert_int_eq(ids[i], 3);
    free(ids);
    text[N] = 'b'; /* and short words give the same as the heap does */
    for (int k = 1; k < 130; k++) {
        ck_assert_int_eq(tokenizer_encode(t, text + N - k, k + 1, 0, &ids, &n, &err), SQZ_OK);
        ck_assert_int_eq(n, k / 8 + (k >> 2 & 1) + (k >> 1 & 1) + (k & 1) + 1);
        free(ids);
    }
    free(text);
    tokenizer_free(t);
}
END_TEST

/* Texts that a careless implementation takes quadratic time for: sixteen times the text may take
 * little more than sixteen times the work. */
START_TEST(test_growth)
{
    enum { SMALL = 1 << 14, TIMES = 16 };
    static const char *const unit[] = {"a",        " ",
                                       "\xCC\x81", "\xCC\x81\xCC\xA3",
                                       "\n",       "ab",
                                       "!",        "\xE2\x96\x81",
                                       " a",       "\xE6\x97\xA5",
                                       "\t "};
    char *dir = path_format("%s/tests/golden/tokenizer/%s", SQZ_SOURCE_DIR, kinds[_i]);
    char *text = malloc((size_t)SMALL * TIMES);
    tokenizer *t = open_ok(dir);
    for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
        int64_t length = (int64_t)strlen(unit[u]), steps[2], n;
        for (int64_t i = 0; i + length <= SMALL * TIMES; i += length)
            memcpy(text + i, unit[u], (size_t)length);
        for (int large = 0; large < 2; large++) {
            int64_t before = tokenizer_steps(t), bytes = large ? SMALL * TIMES : SMALL;
            int32_t *ids;
            sqz_error err = {0};
            sqz_status st = tokenizer_encode(t, text, bytes - bytes % length, 0, &ids, &n, &err);
            ck_assert_msg(st == SQZ_OK, "%s: %s", kinds[_i], err.text);
            free(ids);
            steps[large] = tokenizer_steps(t) - before;
        }
        ck_assert_msg(steps[0] > 0 && steps[1] < 2 * TIMES * (steps[0] + 1000),
                      "%s, unit %zu: %lld steps, of %d times the text %lld", kinds[_i], u,
                      (long long)steps[0], TIMES, (long long)steps[1]);
    }
    free(dir);
    free(text);
    tokenizer_free(t);
}
END_TEST

/* Cutting at U+2581 must not be seen: the same text with a merge that forbids the cut. */
START_TEST(test_cut_at_spaces)
{
    static const char vocab[] =
        "\"vocab\":{\"a\":0,\"\xE2\x96\x81\":1,\"\xE2\x96\x81\xE2\x96\x81\":2,"
        "\"\xE2\x96\x81"
        "a\":3,\"a\xE2\x96\x81\":4},\"merges\":["
        "\"\xE2\x96\x81 \xE2\x96\x81\",\"\xE2\x96\x81 a\"%s]";
    static const char top[] = "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":"
                              "\"never\",\"split\":false}";
    char *plain = path_format(vocab, ""), *joined = path_format(vocab, ",\"a \xE2\x96\x81\"");
    tokenizer *t = make(top, plain);
    expect(t, "a a  a   a", 6, 0, 3, 2, 0, 2, 3);
    tokenizer_free(t);
    t = make(top, joined);
    expect(t, "a ", 1, 4);
    expect(t, "a a", 2, 0, 3);
    tokenizer_free(t);
    free(plain);
    free(joined);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *c = tcase_create("vectors");
    tcase_add_test(c, test_golden);
    tcase_add_loop_test(c, test_kinds, 0, KINDS);
    tcase_add_loop_test(c, test_published, 0, 7);
    tcase_add_loop_test(c, test_vocabulary_pairs, 0, 4);
    tcase_add_test(c, test_special_ids);
    suite_add_tcase(s, c);
    c = tcase_create("components");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_merge_order);
    tcase_add_test(c, test_unk);
    tcase_add_test(c, test_byte_fallback);
    tcase_add_test(c, test_ignore_merges_and_affixes);
    tcase_add_test(c, test_normalizers);
    tcase_add_test(c, test_split_behaviours);
    tcase_add_test(c, test_splitters);
    tcase_add_test(c, test_expression_dialect);
    tcase_add_test(c, test_byte_level);
    tcase_add_test(c, test_added_flags);
    tcase_add_test(c, test_added_normalized);
    tcase_add_test(c, test_added_longest);
    tcase_add_test(c, test_template_and_ends);
    tcase_add_test(c, test_vocab_and_merges);
    tcase_add_test(c, test_refused);
    tcase_add_test(c, test_no_tokenizer);
    tcase_add_test(c, test_sentencepiece_damaged);
    tcase_add_test(c, test_bad_arguments);
    tcase_add_test(c, test_long_word);
    tcase_add_test(c, test_cut_at_spaces);
    suite_add_tcase(s, c);
    c = tcase_create("growth");
    tcase_add_loop_test(c, test_growth, 0, KINDS);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
