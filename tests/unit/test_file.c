/* Files that are whole or absent; folders; mappings. */
#include "hash/sha256.h"
#include "scratch.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *in(const char *name)
{
    return path_format("%s/%s", scratch, name);
}

START_TEST(write_and_read)
{
    char *path = in("f"), *data = NULL;
    int64_t bytes = -1;
    sqz_error err;
    ck_assert_int_eq(file_write(path, "a\0b", 3, &err), SQZ_OK);
    ck_assert_int_eq(file_read(path, 3, &data, &bytes, &err), SQZ_OK);
    ck_assert_int_eq(bytes, 3);
    ck_assert_mem_eq(data, "a\0b", 4);
    free(data);
    data = NULL;
    ck_assert_int_eq(file_read(path, 2, &data, &bytes, &err), SQZ_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "limit of 2"));
    ck_assert_ptr_null(data);
    ck_assert_int_eq(file_printf(path, &err, "%d-%s", 7, "x"), SQZ_OK);
    ck_assert_int_eq(file_read(path, 100, &data, &bytes, &err), SQZ_OK);
    ck_assert_str_eq(data, "7-x");
    free(data);
    ck_assert_int_eq(file_write(path, NULL, 0, &err), SQZ_OK);
    ck_assert_int_eq(file_read(path, 0, &data, &bytes, &err), SQZ_OK);
    ck_assert_int_eq(bytes, 0);
    free(data);
    free(path);
}
END_TEST

START_TEST(failures)
{
    char *inside = in("none/f"), *folder = in("d"), *data;
    int64_t bytes;
    sqz_error err;
    ck_assert_int_eq(file_write(inside, "x", 1, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, inside));
    ck_assert_int_eq(file_read(inside, 10, &data, &bytes, &err), SQZ_E_IO);
    ck_assert_int_eq(dir_make(folder, &err), SQZ_OK);
    ck_assert_int_eq(file_read(folder, 10, &data, &bytes, &err), SQZ_E_IO);
    ck_assert_int_eq(file_write(folder, "x", 1, &err), ERR_STORAGE);
    char *command = path_format("test $(ls -A %s | wc -l) = 1", scratch);
    ck_assert_int_eq(system(command), 0); /* no temporary is left */
    free(command);
    free(folder);
    free(inside);
}
END_TEST

START_TEST(reads_pipes)
{
    char *path = in("fifo"), *data;
    int64_t bytes;
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    char *command = path_format("head -c 100000 /dev/zero > %s &", path);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(file_read(path, 1 << 20, &data, &bytes, NULL), SQZ_OK);
    ck_assert_int_eq(bytes, 100000);
    free(data);
    free(command);
    free(path);
}
END_TEST

START_TEST(folders)
{
    char *deep = in("a//b/c/"), *file = in("file"), *under = in("file/x"), *root = in("a");
    char *outside = in("outside"), *kept = in("outside/kept"), *link = in("a/b/link");
    sqz_error err;
    ck_assert_int_eq(dir_make(deep, &err), SQZ_OK);
    ck_assert_int_eq(dir_make(deep, &err), SQZ_OK);
    ck_assert(path_is_dir(deep));
    ck_assert_int_eq(file_write(file, "x", 1, NULL), SQZ_OK);
    ck_assert(!path_is_dir(file) && path_exists(file));
    ck_assert_int_eq(dir_make(under, &err), ERR_STORAGE);
    ck_assert_int_eq(dir_make(file, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "not a folder"));
    /* what a link points to survives */
    ck_assert_int_eq(dir_make(outside, NULL), SQZ_OK);
    ck_assert_int_eq(file_write(kept, "x", 1, NULL), SQZ_OK);
    ck_assert_int_eq(symlink(outside, link), 0);
    ck_assert_int_eq(dir_remove(root, &err), SQZ_OK);
    ck_assert(!path_exists(root) && path_exists(kept));
    ck_assert_int_eq(dir_remove(root, &err), SQZ_OK); /* absent is fine */
    ck_assert_int_eq(symlink(outside, root), 0);
    ck_assert_int_eq(dir_remove(root, &err), SQZ_OK);
    ck_assert(!path_exists(root) && path_exists(kept));
    free(link);
    free(kept);
    free(outside);
    free(root);
    free(under);
    free(file);
    free(deep);
}
END_TEST

static long resident_pages(void)
{
    long total, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_int_eq(fscanf(f, "%ld %ld", &total, &resident), 2);
    fclose(f);
    return resident;
}

START_TEST(mappings)
{
    enum { BYTES = 8 << 20 };
    char *path = in("big"), *data = malloc(BYTES), *empty = in("empty");
    file_map map;
    sqz_error err;
    memset(data, 5, BYTES);
    ck_assert_int_eq(file_write(path, data, BYTES, NULL), SQZ_OK);
    free(data);
    long before = resident_pages();
    ck_assert_int_eq(file_map_open(path, &map, NULL), SQZ_OK);
    ck_assert_int_eq(map.bytes, BYTES);
    unsigned sum = 0;
    for (int i = 0; i < BYTES; i += 512) sum += map.data[i];
    long touched = resident_pages();
    file_map_drop(map.data + 100, BYTES - 200);
    long after = resident_pages();
    ck_assert_uint_eq(sum, 5 * BYTES / 512);
    ck_assert_int_ge(touched - before, 1500);
    ck_assert_int_le(after - before, 500);
    ck_assert_int_eq(map.data[BYTES / 2], 5); /* reads again */
    file_map_close(&map);
    ck_assert_int_eq(file_write(empty, NULL, 0, NULL), SQZ_OK);
    ck_assert_int_eq(file_map_open(empty, &map, NULL), SQZ_OK);
    ck_assert_int_eq(map.bytes, 0);
    file_map_close(&map);
    ck_assert_int_eq(file_map_open(scratch, &map, &err), SQZ_E_IO);
    ck_assert_int_eq(file_map_open("/nonexistent", &map, &err), SQZ_E_IO);
    free(empty);
    free(path);
}
END_TEST

/* FIPS 180-2: a million times "a". */
START_TEST(hashing)
{
    char *path = in("a"), *data = malloc(1000000), digest[DIGEST_TEXT], again[DIGEST_TEXT];
    memset(data, 'a', 1000000);
    ck_assert_int_eq(file_write(path, data, 1000000, NULL), SQZ_OK);
    ck_assert_int_eq(sha256_file(path, digest, NULL), SQZ_OK);
    ck_assert_str_eq(digest,
                     "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    sha256 *h = sha256_new();
    for (size_t at = 0, n = 1; at < 1000000; at += n, n = n * 3 + 1)
        sha256_update(h, data + at, at + n < 1000000 ? n : 1000000 - at);
    sha256_final(h, again);
    ck_assert_str_eq(again, digest);
    ck_assert_int_eq(sha256_file("/nonexistent", digest, NULL), SQZ_E_IO);
    ck_assert_str_eq(again, digest);
    free(data);
    free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, write_and_read);
    tcase_add_test(t, failures);
    tcase_add_test(t, reads_pipes);
    tcase_add_test(t, folders);
    tcase_add_test(t, mappings);
    tcase_add_test(t, hashing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
