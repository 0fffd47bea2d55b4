/* Model folders: single and sharded, links, what is refused by name; digests; half precision. */
#include "checkpoint/checkpoint.h"
#include "hash/sha256.h"
#include "scratch.h"
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(const char *name, const char *text)
{
    char *path = path_format("%s/%s", scratch, name);
    ck_assert_int_eq(file_write(path, text, (int64_t)strlen(text), NULL), SQZ_OK);
    free(path);
}

/* A shard with one U8 tensor of `bytes` bytes, all equal to its first letter. */
static void put_shard(const char *dir, const char *file, const char *tensor, int64_t bytes)
{
    char *path = path_format("%s/%s", dir, file), *data = malloc((size_t)bytes);
    memset(data, tensor[0], (size_t)bytes);
    st_writer *w;
    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, tensor, SQZ_U8, 1, &bytes, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_write(w, tensor, data, bytes, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_finish(w, NULL), SQZ_OK);
    free(data);
    free(path);
}

static void refused(const char *dir, const char *message)
{
    checkpoint *c = NULL;
    sqz_error err = {0};
    sqz_status st = checkpoint_open(dir, &c, &err);
    ck_assert_msg(st == ERR_MODEL && err.code == ERR_MODEL, "status %d for '%s'", st, message);
    ck_assert_msg(strstr(err.text, message), "message '%s', expected '%s'", err.text, message);
    ck_assert_ptr_null(c);
}

START_TEST(refuses_folders)
{
    refused("/nonexistent/model", "/nonexistent/model: no such folder");
    refused(scratch, "no config.json");
    put("config.json", "{}");
    char *file = path_format("%s/config.json", scratch);
    refused(file, "not a folder");
    free(file);
    put("x.gguf", "GGUF");
    file = path_format("%s/x.gguf", scratch);
    refused(file, "cut short");
    free(file);
    refused(scratch, "neither model.safetensors");
    put("pytorch_model.bin", "x");
    refused(scratch, "pickle");
    put("model.safetensors", "x");
    refused(scratch, "too few for a safetensors file");
}
END_TEST

START_TEST(single)
{
    checkpoint *c;
    put("config.json", "{\"a\": 1}");
    put_shard(scratch, "model.safetensors", "w", 5);
    ck_assert_int_eq(checkpoint_open(scratch, &c, NULL), SQZ_OK);
    ck_assert_str_eq(c->config_text, "{\"a\": 1}");
    ck_assert_int_eq(c->n_tensors, 1);
    ck_assert_int_eq(c->bytes, 5);
    ck_assert_int_eq(checkpoint_find(c, "w")->data[4], 'w');
    ck_assert_ptr_null(checkpoint_find(c, "v"));
    checkpoint_close(c);
}
END_TEST

START_TEST(sharded)
{
    checkpoint *c;
    put("config.json", "{}");
    put_shard(scratch, "model-00001-of-00002.safetensors", "b", 3);
    put_shard(scratch, "model-00002-of-00002.safetensors", "a", 4);
    /* the index is used even where a single file lies beside it */
    put_shard(scratch, "model.safetensors", "single", 1);
    put("model.safetensors.index.json",
        "{\"metadata\":{},\"weight_map\":{\"b\":\"model-00001-of-00002.safetensors\","
        "\"a\":\"model-00002-of-00002.safetensors\"}}");
    ck_assert_int_eq(checkpoint_open(scratch, &c, NULL), SQZ_OK);
    ck_assert_int_eq(c->n_files, 2);
    ck_assert_int_eq(c->n_tensors, 2);
    ck_assert_str_eq(c->tensors[0]->name, "a");
    ck_assert_int_eq(checkpoint_find(c, "b")->data[2], 'b');
    ck_assert_int_eq(c->bytes, 7);
    checkpoint_close(c);
}
END_TEST

static const struct {
    const char *index, *message;
} indexes[] = {
    {"{", "index.json:1:2"},
    {"{}", "no object 'weight_map'"},
    {"{\"weight_map\":{}}", "no tensors"},
    {"{\"weight_map\":{\"a\":1}}", "is not a string"},
    {"{\"weight_map\":{\"a\":\"s.safetensors\",\"a\":\"s.safetensors\"}}", "duplicate key"},
    {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors: missing"},
    {"{\"weight_map\":{\"x\":\"s.safetensors\"}}", "'x' is missing"},
    {"{\"weight_map\":{\"a\":\"../s.safetensors\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"..\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"link.safetensors\"}}", "a link out of the model's folder"},
};

START_TEST(refuses_indexes)
{
    char *dir = path_format("%s/m", scratch), *out = path_format("%s/out.safetensors", scratch);
    char *link = path_format("%s/m/link.safetensors", scratch);
    ck_assert_int_eq(dir_make(dir, NULL), SQZ_OK);
    put("m/config.json", "{}");
    put_shard(dir, "s.safetensors", "a", 2);
    put_shard(scratch, "out.safetensors", "a", 2);
    ck_assert_int_eq(symlink(out, link), 0);
    put("m/model.safetensors.index.json", indexes[_i].index);
    refused(dir, indexes[_i].message);
    free(link);
    free(out);
    free(dir);
}
END_TEST

/* <repo>/snapshots/<revision>/model.safetensors -> ../../blobs/<hash>, as the hub's cache has it.
 */
START_TEST(hub_cache)
{
    checkpoint *c;
    char *blobs = path_format("%s/blobs", scratch), *dir = path_format("%s/snapshots/r1", scratch);
    char *link = path_format("%s/model.safetensors", dir);
    ck_assert_int_eq(dir_make(blobs, NULL), SQZ_OK);
    ck_assert_int_eq(dir_make(dir, NULL), SQZ_OK);
    put("snapshots/r1/config.json", "{}");
    put_shard(blobs, "0123abcd", "w", 2);
    ck_assert_int_eq(symlink("../../blobs/0123abcd", link), 0);
    ck_assert_int_eq(checkpoint_open(dir, &c, NULL), SQZ_OK);
    checkpoint_close(c);
    free(link);
    free(dir);
    free(blobs);
}
END_TEST

START_TEST(digests)
{
    char a[DIGEST_TEXT], b[DIGEST_TEXT], *cache = path_format("%s/cache", scratch);
    char *model = path_format("%s/model.safetensors", scratch);
    struct timespec old[2] = {{1600000000, 0}, {1600000000, 0}};
    put("config.json", "{}");
    put("README.md", "not part of the model");
    put_shard(scratch, "model.safetensors", "w", 2 << 20);
    ck_assert_int_eq(utimensat(AT_FDCWD, model, old, 0), 0);
    ck_assert_int_eq(checkpoint_digest(scratch, NULL, a, NULL), SQZ_OK);
    ck_assert(digest_valid(a));
    ck_assert_int_eq(checkpoint_digest(scratch, cache, b, NULL), SQZ_OK);
    ck_assert_str_eq(a, b);
    /* remembered: one entry, and it is believed */
    char *count = path_format("test $(ls %s | wc -l) = 1 && sed -i 's/.$/x/' %s/*", cache, cache);
    ck_assert_int_eq(system(count), 0);
    ck_assert_int_eq(checkpoint_digest(scratch, cache, b, NULL), SQZ_OK);
    ck_assert_str_eq(a, b); /* a damaged memory is no digest: hashed again */
    put("README.md", "changed");
    ck_assert_int_eq(checkpoint_digest(scratch, cache, b, NULL), SQZ_OK);
    ck_assert_str_eq(a, b);
    put("tokenizer.json", "{}");
    ck_assert_int_eq(checkpoint_digest(scratch, cache, b, NULL), SQZ_OK);
    ck_assert_str_ne(a, b);
    ck_assert_int_eq(checkpoint_digest(scratch, cache, a, NULL), SQZ_OK);
    ck_assert_str_eq(a, b);
    /* same size and time, other bytes */
    put_shard(scratch, "model.safetensors", "v", 2 << 20);
    ck_assert_int_eq(utimensat(AT_FDCWD, model, old, 0), 0);
    ck_assert_int_eq(checkpoint_digest(scratch, cache, b, NULL), SQZ_OK);
    ck_assert_str_ne(a, b);
    free(count);
    free(model);
    free(cache);
}
END_TEST

/* ---- half precision: against the definition of the formats
 * ---------------------------------------- */

static double half_value(unsigned h)
{
    int exponent = (int)(h >> 10 & 31);
    double mantissa = h & 0x3FF;
    double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -v : v;
}

START_TEST(all_halves)
{
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) == 0x7C00) {
            ck_assert((h & 0x3FF) ? isnan(f) : isinf(f));
            ck_assert_int_eq(signbit(f) != 0, h >> 15);
            ck_assert_int_eq(f32_to_f16(f), (h & 0x3FF) ? (h | 0x200) : h);
            continue;
        }
        ck_assert(f == half_value(h) && (signbit(f) != 0) == (h >> 15));
        ck_assert_int_eq(f32_to_f16(f), h);
        if ((h & 0x7FFF) == 0x7BFF) continue;
        /* exactly between two neighbours: to the even one; a hair off: to the nearer one */
        float middle = (float)((half_value(h) + half_value(h + 1)) / 2);
        ck_assert_int_eq(f32_to_f16(middle), h & 1 ? h + 1 : h);
        ck_assert_int_eq(f32_to_f16(nextafterf(middle, 0)), h);
        ck_assert_int_eq(f32_to_f16(nextafterf(middle, signbit(f) ? -1e9f : 1e9f)), h + 1);
    }
    ck_assert_int_eq(f32_to_f16(65519.996f), 0x7BFF);
    ck_assert_int_eq(f32_to_f16(65520.0f), 0x7C00);
    ck_assert_int_eq(f32_to_f16(1e-40f), 0);
    ck_assert_int_eq(f32_to_f16(-1e-8f), 0x8000);
}
END_TEST

START_TEST(bulk_conversion)
{
    static uint8_t raw[2 * 0x10000 + 2];
    static float f[0x10000];
    uint8_t *odd = raw + 1; /* tensors need not be aligned */
    for (unsigned i = 0; i < 0x10000; i++) {
        odd[2 * i] = (uint8_t)i;
        odd[2 * i + 1] = (uint8_t)(i >> 8);
    }
    for (int64_t n = 0x10000 - 9; n <= 0x10000; n++) {
        ck_assert_int_eq(to_f32(SQZ_F16, odd, n, f), SQZ_OK);
        for (int64_t i = 0; i < n; i++) {
            float one = f16_to_f32((uint16_t)i);
            if (memcmp(&one, &f[i], 4)) ck_abort_msg("half %llx differs", (long long)i);
        }
    }
    ck_assert_int_eq(to_f32(SQZ_BF16, odd, 0x10000, f), SQZ_OK);
    for (uint32_t i = 0; i < 0x10000; i++) {
        uint32_t bits;
        memcpy(&bits, &f[i], 4);
        ck_assert_uint_eq(bits, i << 16);
        if ((i & 0x7FFF) <= 0x7F80) ck_assert_uint_eq(f32_to_bf16(f[i]), i);
    }
    ck_assert_int_eq(to_f32(SQZ_F32, f, 3, f + 8), SQZ_OK);
    ck_assert_int_eq(to_f32(SQZ_I8, f, 3, f), SQZ_E_UNSUPPORTED);
}
END_TEST

START_TEST(bf16_rounding)
{
    ck_assert_uint_eq(f32_to_bf16(1.0f), 0x3F80);
    ck_assert_uint_eq(f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);           /* tie, even below */
    ck_assert_uint_eq(f32_to_bf16(1.0f + 0x1p-7f + 0x1p-8f), 0x3F82); /* tie, even above */
    ck_assert_uint_eq(f32_to_bf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3F81);
    ck_assert_uint_eq(f32_to_bf16(3.4028235e38f), 0x7F80);
    ck_assert_uint_eq(f32_to_bf16(-0.0f), 0x8000);
    ck_assert_uint_eq(f32_to_bf16(NAN) & 0x7FC0, 0x7FC0);
    float signalling;
    uint32_t bits = 0x7F800001;
    memcpy(&signalling, &bits, 4);
    ck_assert_uint_eq(f32_to_bf16(signalling) & 0x7FC0, 0x7FC0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, refuses_folders);
    tcase_add_test(t, single);
    tcase_add_test(t, sharded);
    tcase_add_loop_test(t, refuses_indexes, 0, (int)(sizeof indexes / sizeof *indexes));
    tcase_add_test(t, hub_cache);
    tcase_add_test(t, digests);
    tcase_add_test(t, all_halves);
    tcase_add_test(t, bulk_conversion);
    tcase_add_test(t, bf16_rounding);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
