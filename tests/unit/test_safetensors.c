/* safetensors: every rule of the format has a file that breaks it, and the writer's bytes are the
 * reference writer's. */
#include "checkpoint/safetensors.h"
#include "scratch.h"
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

static char *make_path(void)
{
    return path_format("%s/x.safetensors", scratch);
}

/* Header length, header, data_bytes bytes 0, 1, 2, ... */
static char *write_raw(uint64_t length, const char *header, size_t header_bytes, size_t data_bytes)
{
    char *path = make_path();
    FILE *f = fopen(path, "wb");
    for (int i = 0; i < 8; i++) fputc((int)(length >> 8 * i & 255), f);
    fwrite(header, 1, header_bytes, f);
    for (size_t i = 0; i < data_bytes; i++) fputc((int)(i & 255), f);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

#define T(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *message;
} refused[] = {
    {"[1]", 0, "does not begin with '{'"},
    {" {}", 0, "does not begin with '{'"},
    {"{\"a\":", 0, "the text ends"},
    {"{} x", 0, "unexpected text after"},
    {"{\"a\xFF\":" T("U8", "[1]", 0, 1) "}", 1, "invalid UTF-8"},
    {"{\"a\":" T("U8", "[1]", 0, 1) ",\"a\":" T("U8", "[1]", 1, 2) "}", 2, "duplicate key"},
    {"{\"a\":1}", 0, "no object"},
    {"{\"a\":" T("I4", "[2]", 0, 1) "}", 1, "unknown dtype"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "unknown dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "shape is not an array"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets must be"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "data_offsets must be"},
    {"{\"a\":" T("U8", "[1]", 1, 0) "}", 1, "data_offsets must be"},
    {"{\"a\":" T("U8", "[1]", -1, 0) "}", 1, "data_offsets must be"},
    {"{\"a\":" T("U8", "[1]", 0, 1e300) "}", 1, "data_offsets must be"},
    {"{\"a\":" T("U8", "[1]", 0.5, 1.5) "}", 1, "data_offsets must be"},
    {"{\"a\":" T("U8", "[-1]", 0, 1) "}", 1, "not a whole number"},
    {"{\"a\":" T("U8", "[\"1\"]", 0, 1) "}", 1, "not a whole number"},
    {"{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1, "more than 8 dimensions"},
    {"{\"a\":" T("U8", "[4294967296,4294967296]", 0, 1) "}", 1, "elements overflows"},
    {"{\"a\":" T("F64", "[4503599627370496,1024]", 0, 1) "}", 1, "bits overflows"},
    {"{\"a\":" T("F4", "[3]", 0, 2) "}", 2, "whole number of bytes"},
    {"{\"a\":" T("F32", "[2]", 0, 7) "}", 7, "span 7 bytes"},
    {"{\"a\":" T("F32", "[]", 0, 0) "}", 0, "span 0 bytes"},
    {"{\"a\":" T("U8", "[2]", 0, 2) ",\"b\":" T("U8", "[2]", 1, 3) "}", 3, "overlap"},
    {"{\"a\":" T("U8", "[2]", 0, 2) ",\"b\":" T("U8", "[2]", 3, 5) "}", 5, "hole"},
    {"{\"a\":" T("U8", "[2]", 1, 3) "}", 3, "hole"},
    {"{\"a\":" T("U8", "[3]", 0, 3) "}", 2, "cut short"},
    {"{\"a\":" T("U8", "[3]", 0, 3) "}", 4, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "is not a string"},
};

START_TEST(refuses)
{
    const char *header = refused[_i].header;
    char *path = write_raw(strlen(header), header, strlen(header), refused[_i].data_bytes);
    st_file *f = NULL;
    sqz_error err = {0};
    sqz_status st = st_open(path, &f, &err);
    ck_assert_msg(st == ERR_MODEL, "%s: status %d", header, st);
    ck_assert_int_eq(err.code, ERR_MODEL);
    ck_assert_msg(strstr(err.text, refused[_i].message), "%s: message '%s'", header, err.text);
    ck_assert_msg(strstr(err.text, "x.safetensors"), "no file name in '%s'", err.text);
    ck_assert_ptr_null(f);
    free(path);
}
END_TEST

START_TEST(refuses_lengths)
{
    static const uint64_t lengths[] = {0, 3, 100000001, UINT64_MAX, (uint64_t)1 << 63};
    for (int i = 0; i < 5; i++) {
        char *path = write_raw(lengths[i], "{}", 2, 0);
        st_file *f;
        ck_assert_int_eq(st_open(path, &f, NULL), ERR_MODEL);
        free(path);
    }
    char *path = make_path();
    for (int64_t n = 0; n < 8; n++) {
        st_file *f;
        ck_assert_int_eq(file_write(path, "\2\0\0\0\0\0\0", n, NULL), SQZ_OK);
        ck_assert_int_eq(st_open(path, &f, NULL), ERR_MODEL);
    }
    free(path);
}
END_TEST

static void rewrite(const char *path, const char *data, int64_t bytes)
{
    FILE *f = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(data, 1, (size_t)bytes, f), (size_t)bytes);
    ck_assert_int_eq(fclose(f), 0);
}

/* Cutting a good file anywhere must be noticed. */
START_TEST(refuses_every_truncation)
{
    static const char header[] =
        "{\"__metadata__\":{\"k\":\"v\"},\"a\":" T("U8", "[5]", 0, 5) "}      ";
    char *path = write_raw(sizeof header - 1, header, sizeof header - 1, 5), *data;
    int64_t bytes;
    st_file *f;
    ck_assert_int_eq(file_read(path, 1000, &data, &bytes, NULL), SQZ_OK);
    ck_assert_int_eq(st_open(path, &f, NULL), SQZ_OK);
    ck_assert_str_eq(f->metadata, "{\"k\":\"v\"}");
    st_close(f);
    for (int64_t n = 0; n < bytes; n++) {
        rewrite(path, data, n);
        ck_assert_int_eq(st_open(path, &f, NULL), ERR_MODEL);
    }
    free(data);
    free(path);
}
END_TEST

/* Whatever one flipped bit makes of a file: refused, or every byte of every tensor is in the file.
 */
START_TEST(survives_every_flipped_bit)
{
    static const char header[] = "{\"__metadata__\":{\"k\":\"v\"},\"a\":" T(
        "F16", "[3]", 0, 6) ",\"b\":" T("U8", "[2,2]", 6, 10) "}  ";
    char *path = write_raw(sizeof header - 1, header, sizeof header - 1, 10), *data;
    int64_t bytes, accepted = 0;
    unsigned sum = 0;
    ck_assert_int_eq(file_read(path, 1000, &data, &bytes, NULL), SQZ_OK);
    for (int64_t bit = 0; bit < (bytes - 10) * 8; bit++) {
        st_file *f;
        data[bit / 8] ^= (char)(1 << bit % 8);
        rewrite(path, data, bytes);
        data[bit / 8] ^= (char)(1 << bit % 8);
        if (st_open(path, &f, NULL) != SQZ_OK) continue;
        accepted++;
        for (int64_t i = 0; i < f->n; i++)
            for (int64_t k = 0; k < f->tensors[i].bytes; k++) sum += f->tensors[i].data[k];
        st_close(f);
    }
    ck_assert_int_gt(accepted, 0); /* names and metadata may change freely */
    ck_assert_int_lt(accepted, bytes * 4);
    ck_assert_uint_eq(sum, (unsigned)accepted * 45); /* 0 + 1 + ... + 9 */
    free(data);
    free(path);
}
END_TEST

START_TEST(reads)
{
    static const char header[] =
        "{\"c\":" T("F4", "[2,3]", 8, 11) ",\"scalar\":" T("F32", "[]", 0, 4) ",\"empty\":" T(
            "I64", "[0,4294967296,4294967296]", 8, 8) ",\"b\":" T("BF16", "[2,1]", 4, 8) "}";
    char *path = write_raw(sizeof header - 1, header, sizeof header - 1, 11);
    st_file *f;
    sqz_error err;
    ck_assert_msg(st_open(path, &f, &err) == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(f->n, 4);
    static const char *const order[] = {"scalar", "b", "empty", "c"};
    for (int i = 0; i < 4; i++) ck_assert_str_eq(f->tensors[i].name, order[i]);
    const st_tensor *b = st_find(f, "b"), *c = st_find(f, "c");
    ck_assert_int_eq(b->dtype, SQZ_BF16);
    ck_assert_int_eq(b->rank, 2);
    ck_assert_int_eq(b->shape[0] * 10 + b->shape[1], 21);
    ck_assert_int_eq(b->data[0], 4);
    ck_assert_int_eq(b->bytes, 4);
    ck_assert_int_eq(c->dtype, 0);
    ck_assert_int_eq(c->data[2], 10);
    ck_assert_int_eq(st_find(f, "empty")->bytes, 0);
    ck_assert_int_eq(st_find(f, "scalar")->rank, 0);
    ck_assert_ptr_null(st_find(f, "d"));
    ck_assert_ptr_null(f->metadata);
    st_close(f);
    free(path);
}
END_TEST

/* One F32 tensor `a` of shape [2]: the bytes the reference writer makes. */
START_TEST(writes_the_reference_bytes)
{
    static const char expected[] = "\x58\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},\"a\":{"
                                   "\"dtype\":\"F32\",\"shape\":[2],"
                                   "\"data_offsets\":[0,8]}}   \0\0\x80\x3f\0\0\0\xc0";
    float values[2] = {1.0f, -2.0f};
    int64_t shape = 2, bytes;
    char *path = make_path(), *data;
    st_writer *w;
    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "a", SQZ_F32, 1, &shape, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_write(w, "a", values, 8, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_finish(w, NULL), SQZ_OK);
    ck_assert_int_eq(file_read(path, 1000, &data, &bytes, NULL), SQZ_OK);
    ck_assert_int_eq(bytes, 104);
    ck_assert_mem_eq(data, expected, 104);
    free(data);
    free(path);
}
END_TEST

/* Strictest alignment first, names within; every tensor aligned; written in another order. */
START_TEST(writes_in_reference_order)
{
    static const struct {
        const char *name;
        int32_t dtype;
    } in[] = {{"z", SQZ_U8},  {"a", SQZ_BOOL8}, {"m", SQZ_F16}, {"b", SQZ_F32},
              {"k", SQZ_U64}, {"c", SQZ_F32},   {"h", SQZ_I64}, {"g", SQZ_BF16}};
    static const char *const order[] = {"k", "h", "b", "c", "g", "m", "z", "a"};
    uint8_t data[24];
    char *path = make_path();
    st_writer *w;
    st_file *f;
    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_metadata(w, "note", "\"quoted\"", NULL), SQZ_OK);
    for (int i = 0; i < 8; i++) {
        int64_t shape[2] = {1, 3};
        ck_assert_int_eq(st_writer_declare(w, in[i].name, in[i].dtype, 2, shape, NULL), SQZ_OK);
    }
    for (int i = 7; i >= 0; i--) {
        memset(data, in[i].name[0], sizeof data);
        int64_t bytes = 3 * st_dtype_bits(in[i].dtype) / 8;
        ck_assert_int_eq(st_writer_write(w, in[i].name, data, bytes, NULL), SQZ_OK);
    }
    ck_assert_int_eq(st_writer_finish(w, NULL), SQZ_OK);
    ck_assert_int_eq(st_open(path, &f, NULL), SQZ_OK);
    ck_assert_str_eq(f->metadata, "{\"format\":\"pt\",\"note\":\"\\\"quoted\\\"\"}");
    for (int i = 0; i < 8; i++) {
        const st_tensor *t = &f->tensors[i];
        ck_assert_str_eq(t->name, order[i]);
        ck_assert_int_eq((int64_t)((uintptr_t)t->data % (uintptr_t)(st_dtype_bits(t->dtype) / 8)),
                         0);
        for (int64_t k = 0; k < t->bytes; k++) ck_assert_int_eq(t->data[k], t->name[0]);
    }
    st_close(f);
    free(path);
}
END_TEST

static int count(void)
{
    char *command = path_format("test -z \"$(ls -A %s)\"", scratch);
    int n = system(command) != 0;
    free(command);
    return n;
}

START_TEST(misuse_leaves_nothing)
{
    int64_t shape[2] = {2, 3}, huge[2] = {(int64_t)1 << 62, 4};
    char *path = make_path();
    sqz_error err;
    st_writer *w;
    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_ne(st_writer_declare(w, "a", 99, 1, shape, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_declare(w, "a", SQZ_F32, 9, shape, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_declare(w, "a", SQZ_F32, 2, huge, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "a", SQZ_U8, 2, shape, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "b", SQZ_U8, 2, shape, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_write(w, "a", shape, 5, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_write(w, "c", shape, 6, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_write(w, "a", shape, 6, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_write(w, "a", shape, 6, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_declare(w, "late", SQZ_U8, 2, shape, &err), SQZ_OK);
    ck_assert_int_eq(count(), 1); /* the temporary */
    ck_assert_int_ne(st_writer_finish(w, &err), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "'b' was declared but not written"));
    ck_assert_int_eq(count(), 0);

    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "a", SQZ_U8, 2, shape, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "a", SQZ_U8, 2, shape, &err), SQZ_OK);
    ck_assert_int_ne(st_writer_write(w, "a", shape, 6, &err), SQZ_OK);
    st_writer_abort(w);
    ck_assert_int_eq(count(), 0);
    free(path);
}
END_TEST

/* A disk without room, played by the limit of file sizes. */
START_TEST(no_space)
{
    struct rlimit limit = {4096, 4096};
    int64_t shape = 100000;
    char *path = make_path(), *data = calloc(1, 100000);
    sqz_error err;
    st_writer *w;
    ck_assert_int_eq(file_write(path, "old", 3, NULL), SQZ_OK);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(st_writer_new(path, &w, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "a", SQZ_U8, 1, &shape, &err), SQZ_OK);
    ck_assert_int_eq(st_writer_write(w, "a", data, 100000, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "x.safetensors"));
    st_writer_abort(w);
    ck_assert_int_eq(file_write(path, data, 100000, &err), ERR_STORAGE);
    free(data);
    int64_t bytes;
    ck_assert_int_eq(file_read(path, 100, &data, &bytes, NULL), SQZ_OK);
    ck_assert_str_eq(data, "old");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(count(), 0); /* no temporary is left */
    free(data);
    free(path);
}
END_TEST

START_TEST(no_tensors)
{
    char *path = make_path();
    st_writer *w;
    st_file *f;
    ck_assert_int_eq(st_writer_new(path, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_finish(w, NULL), SQZ_OK);
    ck_assert_int_eq(st_open(path, &f, NULL), SQZ_OK);
    ck_assert_int_eq(f->n, 0);
    ck_assert_ptr_null(st_find(f, "a"));
    st_close(f);
    free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_loop_test(t, refuses, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, refuses_lengths);
    tcase_add_test(t, refuses_every_truncation);
    tcase_add_test(t, survives_every_flipped_bit);
    tcase_add_test(t, reads);
    tcase_add_test(t, writes_the_reference_bytes);
    tcase_add_test(t, writes_in_reference_order);
    tcase_add_test(t, misuse_leaves_nothing);
    tcase_add_test(t, no_space);
    tcase_add_test(t, no_tensors);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
