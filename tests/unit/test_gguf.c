/* GGUF: values of every packed type against the `gguf` package, logits against transformers, the
 * grid forms, and files that break a rule.  Goldens: tests/golden/make_gguf.py. */
#include "checkpoint/checkpoint.h"
#include "model/model.h"
#include "quant/affine.h"
#include "quant/gguf_affine.h"
#include "reference/reference.h"
#include "scratch.h"
#include "tokenizer/tokenizer.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SQZ_SOURCE_DIR "/tests/golden/gguf/"

/* ---- goldens --------------------------------------------------------------------------------- */
START_TEST(packed_values)
{
    gguf_file *f;
    char *raw;
    int64_t bytes, at = 0;
    ck_assert_int_eq(gguf_open(GOLDEN "types.gguf", &f, NULL), SQZ_OK);
    ck_assert_int_eq(f->n_tensors, 14);
    ck_assert_int_eq(file_read(GOLDEN "types.f32", 1 << 20, &raw, &bytes, NULL), SQZ_OK);
    for (int64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        ck_assert_str_eq(t->name, ggml_type_name(t->type));
        ck_assert_msg(ggml_decodes(t->type), "%s is not decoded", t->name);
        float *values = malloc((size_t)t->elements * sizeof *values);
        ggml_decode(t->type, t->data, t->elements, values);
        ck_assert_int_le(at + 4 * t->elements, bytes);
        ck_assert_msg(!memcmp(values, raw + at, (size_t)t->elements * 4), "%s differs", t->name);
        at += 4 * t->elements;
        free(values);
    }
    ck_assert_int_eq(at, bytes);
    free(raw);
    gguf_close(f);
}
END_TEST

START_TEST(logits_of_transformers)
{
    checkpoint *c;
    st_file *golden;
    model *m;
    sqz_error err = {0};
    ck_assert_int_eq(checkpoint_open(GOLDEN "llama.gguf", &c, &err), SQZ_OK);
    ck_assert_int_eq(st_open(GOLDEN "llama.safetensors", &golden, &err), SQZ_OK);
    const st_tensor *ids = st_find(golden, "input_ids"), *want = st_find(golden, "logits");
    int64_t b = want->shape[0], t = want->shape[1], v = want->shape[2], n = b * t;
    int32_t *narrow = malloc((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++)
        narrow[i] = (int32_t)((const int64_t *)(const void *)ids->data)[i];
    float *logits = malloc((size_t)(n * v) * sizeof *logits);
    model_options o = {.device = {reference_hardware(), NULL}, .compute = SQZ_F32};
    ck_assert_msg(!model_open(c, &o, &m, &err), "%s", err.text);
    ck_assert_msg(!model_logits(m, narrow, b, t, logits, NULL, &err), "%s", err.text);
    const float *reference = (const float *)(const void *)want->data;
    for (int64_t i = 0; i < n * v; i++)
        ck_assert_msg(fabsf(logits[i] - reference[i]) < 2e-4f, "logit %lld is %g, not %g",
                      (long long)i, (double)logits[i], (double)reference[i]);
    model_close(m);
    free(logits);
    free(narrow);
    st_close(golden);
    checkpoint_close(c);
}
END_TEST

START_TEST(grids_are_exact)
{
    checkpoint *c;
    int grids = 0;
    ck_assert_int_eq(checkpoint_open(GOLDEN "llama.gguf", &c, NULL), SQZ_OK);
    for (int64_t i = 0; i < c->n_tensors; i++) {
        const st_tensor *t = c->tensors[i];
        if (!gguf_is_affine(t)) continue;
        sqz_affine a;
        int64_t n = t->shape[0] * t->shape[1];
        float *values = malloc((size_t)n * 4), *grid = malloc((size_t)n * 4);
        ck_assert_int_eq(gguf_affine(t, &a, NULL), SQZ_OK);
        ck_assert_int_eq(tensor_values(t, values, NULL), SQZ_OK);
        affine_dequantize(&a, 0, a.rows, grid);
        for (int64_t k = 0; k < n; k++)
            ck_assert_msg(values[k] == grid[k], "%s: element %lld is %g, not %g", t->name,
                          (long long)k, (double)grid[k], (double)values[k]);
        affine_free(&a);
        free(values);
        free(grid);
        grids++;
    }
    ck_assert_int_eq(grids, 16);
    checkpoint_close(c);
}
END_TEST

/* Rows of one head of four: the file has pairs, the tensor halves. */
START_TEST(rotary_rows)
{
    float rows[4] = {0, 1, 2, 3}, out[4];
    tensor_source s = {.type = GGML_F32,
                       .row_order = ROWS_ROTARY,
                       .heads = 1,
                       .data = (const uint8_t *)rows,
                       .bytes = sizeof rows};
    st_tensor t = {.dtype = SQZ_F32, .rank = 2, .shape = {4, 1}, .bytes = 16, .source = &s};
    ck_assert_int_eq(tensor_values(&t, out, NULL), SQZ_OK);
    ck_assert(out[0] == 0 && out[1] == 2 && out[2] == 1 && out[3] == 3);
    /* q q k k v v of two heads of one entry, to q k v q k v */
    float parts[6] = {0, 1, 2, 3, 4, 5}, six[6];
    s = (tensor_source){
        .type = GGML_F32, .row_order = ROWS_QKV, .heads = 2, .data = (const uint8_t *)parts};
    t.shape[0] = 6, t.bytes = 24;
    ck_assert_int_eq(tensor_values(&t, six, NULL), SQZ_OK);
    ck_assert(six[0] == 0 && six[1] == 2 && six[2] == 4 && six[3] == 1 && six[4] == 3 &&
              six[5] == 5);
    /* stored [3, 2] transposed, one less */
    s = (tensor_source){
        .type = GGML_F32, .transposed = 1, .add = -1, .data = (const uint8_t *)parts};
    t.shape[0] = 2, t.shape[1] = 3;
    ck_assert_int_eq(tensor_values(&t, six, NULL), SQZ_OK);
    ck_assert(six[0] == -1 && six[1] == 1 && six[2] == 3 && six[3] == 0 && six[4] == 2 &&
              six[5] == 4);
}
END_TEST

/* ---- files made here ------------------------------------------------------------------------- */
typedef struct maker {
    uint8_t at[1 << 16];
    int64_t n;
} maker;

static void put_bytes(maker *m, const void *p, size_t n)
{
    memcpy(m->at + m->n, p, n);
    m->n += (int64_t)n;
}
static void put_u32(maker *m, uint32_t v)
{
    put_bytes(m, &v, 4);
}
static void put_u64(maker *m, uint64_t v)
{
    put_bytes(m, &v, 8);
}
static void put_text(maker *m, const char *text)
{
    put_u64(m, strlen(text));
    put_bytes(m, text, strlen(text));
}
static void put_head(maker *m, uint32_t version, uint64_t tensors, uint64_t entries)
{
    m->n = 0;
    put_bytes(m, "GGUF", 4);
    put_u32(m, version);
    put_u64(m, tensors);
    put_u64(m, entries);
}
static void put_string(maker *m, const char *key, const char *value)
{
    put_text(m, key);
    put_u32(m, GGUF_STRING);
    put_text(m, value);
}
static void put_number(maker *m, const char *key, uint32_t value)
{
    put_text(m, key);
    put_u32(m, GGUF_U32);
    put_u32(m, value);
}
static void put_info(maker *m, const char *name, uint64_t cols, uint64_t rows, uint32_t type,
                     uint64_t offset)
{
    put_text(m, name);
    put_u32(m, 2);
    put_u64(m, cols);
    put_u64(m, rows);
    put_u32(m, type);
    put_u64(m, offset);
}
static void put_zeros(maker *m, int64_t align, int64_t n)
{
    while (m->n % align) m->at[m->n++] = 0;
    memset(m->at + m->n, 0, (size_t)n);
    m->n += n;
}

static sqz_status open_made(const maker *m, gguf_file **f, sqz_error *err)
{
    char *path = path_format("%s/made.gguf", scratch);
    ck_assert_int_eq(file_write(path, m->at, m->n, NULL), SQZ_OK);
    sqz_status st = gguf_open(path, f, err);
    free(path);
    return st;
}

static void refused(const maker *m, const char *message)
{
    gguf_file *f = NULL;
    sqz_error err = {0};
    sqz_status st = open_made(m, &f, &err);
    ck_assert_msg(st == ERR_MODEL, "status %d, expected the message '%s'", st, message);
    ck_assert_msg(strstr(err.text, message), "'%s', expected '%s'", err.text, message);
}

/* A good file of two tensors: each case below breaks one thing of it. */
static void put_good(maker *m, uint32_t version)
{
    put_head(m, version, 2, 2);
    put_string(m, "general.architecture", "llama");
    put_number(m, "general.alignment", 64);
    put_info(m, "a", 32, 3, GGML_Q4_0, 0);
    put_info(m, "b", 5, 1, GGML_F32, 64);
    put_zeros(m, 64, 64 + 20);
}

START_TEST(reads_what_is_written)
{
    static maker m;
    gguf_file *f;
    for (uint32_t version = 2; version <= 3; version++) {
        put_good(&m, version);
        ck_assert_int_eq(open_made(&m, &f, NULL), SQZ_OK);
        ck_assert_int_eq(f->alignment, 64);
        const gguf_tensor *a = gguf_find_tensor(f, "a"), *b = gguf_find_tensor(f, "b");
        ck_assert_int_eq(a->shape[0], 3);
        ck_assert_int_eq(a->shape[1], 32);
        ck_assert_int_eq(a->bytes, 54);
        ck_assert_int_eq(b->data - a->data, 64);
        ck_assert_int_eq(gguf_int(f, "general.alignment", -1), 64);
        ck_assert_int_eq(gguf_int(f, "absent", -1), -1);
        gguf_close(f);
    }
}
END_TEST

START_TEST(refuses_broken_files)
{
    static maker m;
    for (int64_t n = 0; n < 300; n += 13) { /* cut anywhere */
        gguf_file *f = NULL;
        put_good(&m, 3);
        if (n >= m.n) break;
        m.n = n;
        ck_assert_int_eq(open_made(&m, &f, NULL), ERR_MODEL);
    }
    put_good(&m, 3), m.at[0] = 'X', refused(&m, "not a GGUF file");
    put_good(&m, 1), refused(&m, "version 1");
    put_good(&m, 4), refused(&m, "version 4");
    put_good(&m, 0x03000000), refused(&m, "big-endian");
    put_head(&m, 3, 0, UINT64_MAX), refused(&m, "impossible count");
    put_head(&m, 3, 0, 1ull << 40), refused(&m, "more keys");
    put_head(&m, 3, 1ull << 40, 0), refused(&m, "more tensors");
    put_head(&m, 3, 0, 1), put_text(&m, ""), put_u64(&m, 0), refused(&m, "a key of 0 bytes");
    put_head(&m, 3, 0, 1), put_text(&m, "a\nb"), put_u64(&m, 0), refused(&m, "printable");
    put_head(&m, 3, 0, 1), put_text(&m, "a"), put_u32(&m, 13), put_u64(&m, 0);
    refused(&m, "unknown type 13");
    put_head(&m, 3, 0, 1), put_text(&m, "a"), put_u32(&m, GGUF_BOOL), m.at[m.n++] = 2;
    put_zeros(&m, 1, 8), refused(&m, "neither 0 nor 1");
    put_head(&m, 3, 0, 1), put_text(&m, "a"), put_u32(&m, GGUF_ARRAY), put_u32(&m, GGUF_ARRAY);
    put_u64(&m, 1), put_u64(&m, 0), refused(&m, "array of arrays");
    put_head(&m, 3, 0, 1), put_text(&m, "a"), put_u32(&m, GGUF_ARRAY), put_u32(&m, GGUF_U64);
    put_u64(&m, 1ull << 61), put_u64(&m, 0), refused(&m, "impossible count");
    put_head(&m, 3, 0, 1), put_text(&m, "a"), put_u32(&m, GGUF_ARRAY), put_u32(&m, GGUF_STRING);
    put_u64(&m, 1ull << 50), put_u64(&m, 0), refused(&m, "are announced");
    put_head(&m, 3, 0, 2), put_number(&m, "a", 1), put_number(&m, "a", 2);
    refused(&m, "key a is there twice");
    put_head(&m, 3, 0, 1), put_number(&m, "general.alignment", 48), refused(&m, "power of two");
    put_head(&m, 3, 0, 1), put_number(&m, "split.count", 3), refused(&m, "llama-gguf-split");
}
END_TEST

START_TEST(refuses_broken_tensors)
{
    static maker m;
    static const char long_name[] =
        "a23456789012345678901234567890123456789012345678901234567890123_";
    put_head(&m, 3, 1, 0), put_info(&m, long_name, 1, 1, 0, 0), put_zeros(&m, 32, 4);
    refused(&m, "tensor name of 64 bytes");
    put_head(&m, 3, 1, 0), put_text(&m, "a"), put_u32(&m, 5), put_zeros(&m, 32, 64);
    refused(&m, "more than 4 dimensions");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 1ull << 40, 1ull << 40, 0, 0),
        refused(&m, "overflows");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 1ull << 40, 1ull << 10, 0, 0), refused(&m, "larger");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 32, 1, 4, 0), refused(&m, "unknown type 4");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 33, 1, GGML_Q4_0, 0), put_zeros(&m, 32, 64);
    refused(&m, "no multiple of the 32");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 8, 1, 0, 32), put_zeros(&m, 32, 64);
    refused(&m, "begins at 32");
    put_head(&m, 3, 2, 0), put_info(&m, "a", 8, 1, 0, 0), put_info(&m, "b", 8, 1, 0, 16);
    put_zeros(&m, 32, 64), refused(&m, "begins at 16");
    put_head(&m, 3, 2, 0), put_info(&m, "a", 8, 1, 0, 0), put_info(&m, "a", 8, 1, 0, 32);
    put_zeros(&m, 32, 64), refused(&m, "is there twice");
    put_head(&m, 3, 1, 0), put_info(&m, "a", 8, 1, 0, 0), put_zeros(&m, 32, 31);
    refused(&m, "cut short");
}
END_TEST

/* ---- models and tokenizers ------------------------------------------------------------------- */
static void checkpoint_refused(const maker *m, const char *message)
{
    char *path = path_format("%s/made.gguf", scratch);
    checkpoint *c = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(file_write(path, m->at, m->n, NULL), SQZ_OK);
    ck_assert_int_eq(checkpoint_open(path, &c, &err), ERR_MODEL);
    ck_assert_msg(strstr(err.text, message), "'%s', expected '%s'", err.text, message);
    free(path);
}

START_TEST(refuses_models)
{
    static maker m;
    put_head(&m, 3, 0, 0), checkpoint_refused(&m, "names no general.architecture");
    put_head(&m, 3, 0, 1), put_string(&m, "general.architecture", "rwkv6");
    checkpoint_refused(&m, "architecture \"rwkv6\" is not built; built are llama");
    put_head(&m, 3, 0, 2), put_string(&m, "general.architecture", "llama");
    put_number(&m, "llama.expert_count", 8), checkpoint_refused(&m, "mixture of 8 experts");
    put_head(&m, 3, 1, 1), put_string(&m, "general.architecture", "llama");
    put_info(&m, "blk.0.ssm_in.weight", 1, 1, 0, 0), put_zeros(&m, 32, 4);
    checkpoint_refused(&m, "'blk.0.ssm_in.weight' has no place");
    put_head(&m, 3, 1, 1), put_string(&m, "general.architecture", "llama");
    put_info(&m, "blk.0.ffn_up.weight", 256, 1, 16, 0), put_zeros(&m, 32, 66);
    checkpoint_refused(&m, "IQ2_XXS");
    put_head(&m, 3, 1, 2), put_string(&m, "general.architecture", "llama");
    put_number(&m, "llama.attention.head_count", 3);
    put_info(&m, "blk.0.attn_q.weight", 1, 8, 0, 0), put_zeros(&m, 32, 32);
    checkpoint_refused(&m, "cannot be divided among 3 heads");
}
END_TEST

START_TEST(sentencepiece_tokens)
{
    tokenizer *t;
    int32_t *ids, want[] = {1, 3 + 0xE2, 3 + 0x96, 3 + 0x81, 3 + 'A'};
    int64_t n, bytes;
    char *text;
    ck_assert_int_eq(tokenizer_open(GOLDEN "llama.gguf", &t, NULL), SQZ_OK);
    ck_assert_int_eq(tokenizer_bos(t), 1);
    ck_assert_int_eq(tokenizer_eos(t), 2);
    ck_assert_int_eq(tokenizer_encode(t, "A", 1, 1, &ids, &n, NULL), SQZ_OK);
    ck_assert_int_eq(n, 5);
    ck_assert(!memcmp(ids, want, sizeof want));
    ck_assert_int_eq(tokenizer_decode(t, ids, n, 1, &text, &bytes, NULL), SQZ_OK);
    ck_assert_str_eq(text, "\xE2\x96\x81"
                           "A"); /* bytes: the mark has no piece here */
    free(text);
    free(ids);
    tokenizer_free(t);
}
END_TEST

static void put_strings(maker *m, const char *key, const char *const *list, uint64_t n)
{
    put_text(m, key);
    put_u32(m, GGUF_ARRAY);
    put_u32(m, GGUF_STRING);
    put_u64(m, n);
    for (uint64_t i = 0; i < n; i++) put_text(m, list[i]);
}

static sqz_status open_tokens(const char *pre, const char *template, tokenizer **t, sqz_error *err)
{
    static const char *const tokens[] = {"a",
                                         "b",
                                         "\xC4\xA0",
                                         "ab",
                                         ("\xC4\xA0"
                                          "ab"),
                                         "<|end|>"};
    static const char *const merges[] = {"a b", "\xC4\xA0 ab"};
    static maker m;
    put_head(&m, 3, 0, 7);
    put_string(&m, "general.architecture", "llama");
    put_string(&m, "tokenizer.ggml.model", "gpt2");
    put_string(&m, "tokenizer.ggml.pre", pre);
    put_strings(&m, "tokenizer.ggml.tokens", tokens, 6);
    put_strings(&m, "tokenizer.ggml.merges", merges, 2);
    put_number(&m, "tokenizer.ggml.eos_token_id", 5);
    put_string(&m, "tokenizer.chat_template", template);
    char *path = path_format("%s/made.gguf", scratch);
    ck_assert_int_eq(file_write(path, m.at, m.n, NULL), SQZ_OK);
    sqz_status st = tokenizer_open(path, t, err);
    free(path);
    return st;
}

START_TEST(byte_level_tokens)
{
    tokenizer *t;
    int32_t *ids;
    int64_t n, bytes;
    char *text, *path = path_format("%s/made.gguf", scratch);
    sqz_error err = {0};
    ck_assert_int_eq(open_tokens("gpt-2", "{{ \"x\" }}", &t, &err), SQZ_OK);
    ck_assert_int_eq(tokenizer_encode(t, "ab abb", 6, 1, &ids, &n, NULL), SQZ_OK);
    ck_assert_int_eq(n, 3);
    ck_assert(ids[0] == 3 && ids[1] == 4 && ids[2] == 1);
    free(ids);
    tokenizer_free(t);
    ck_assert_int_eq(checkpoint_text(path, "tokenizer_config.json", 1 << 20, &text, &bytes, &err),
                     SQZ_OK);
    ck_assert_msg(strstr(text, "\"chat_template\""), "no chat template in %s", text);
    ck_assert_msg(strstr(text, "{{ \\\"x\\\" }}"), "not the file's chat template in %s", text);
    free(text);
    free(path);
    ck_assert_int_eq(open_tokens("no-such-split", "", &t, &err), SQZ_E_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "\"no-such-split\" is not built"), "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gguf");
    TCase *c = tcase_create("gguf");
    tcase_add_checked_fixture(c, scratch_make, scratch_remove);
    tcase_add_test(c, packed_values);
    tcase_add_test(c, logits_of_transformers);
    tcase_add_test(c, grids_are_exact);
    tcase_add_test(c, rotary_rows);
    tcase_add_test(c, reads_what_is_written);
    tcase_add_test(c, refuses_broken_files);
    tcase_add_test(c, refuses_broken_tensors);
    tcase_add_test(c, refuses_models);
    tcase_add_test(c, sentencepiece_tokens);
    tcase_add_test(c, byte_level_tokens);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
