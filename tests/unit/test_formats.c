/* test_formats.c - files of every format against what their reference readers see in them (goldens
 * by make_data.py), damaged files, packed files, folders with subsets and splits. */
#include "data/data.h"
#include "data/delimited.h"
#include "data/documents.h"
#include "data/folder.h"
#include "data/parquet.h"
#include "scratch.h"
#include <string.h>
#include <zlib.h>

#define GOLDEN SQZ_SOURCE_DIR "/tests/golden/data/"

static char *read_all(const char *path, int64_t *bytes)
{
    char *data;
    sqz_error err = {0};
    ck_assert_msg(file_read(path, 1 << 24, &data, bytes, &err) == SQZ_OK, "%s", err.text);
    return data;
}

static row_store *new_store(void)
{
    row_store *s;
    ck_assert_int_eq(rows_new(&s, NULL), SQZ_OK);
    return s;
}

static row_store *parquet_ok(const char *name, const parquet_options *o)
{
    sqz_error err = {0};
    char *path = path_format("%s%s.parquet", GOLDEN, name);
    int64_t bytes;
    char *data = read_all(path, &bytes);
    row_store *s = new_store();
    ck_assert_msg(rows_add_parquet(s, path, (uint8_t *)data, bytes, o, &err) == SQZ_OK, "%s",
                  err.text);
    free(data);
    free(path);
    return s;
}

/* ---- goldens -----------------------------------------------------------------------------------
 */

/* "name" of a text or a list, "name.#" of the text of a number, true or false. */
static void same_field(const row_store *got, const row_store *want, int64_t i, const char *name)
{
    int64_t n = 0, list = rows_list_length(want, i, name);
    const char *text = rows_text(want, i, name, &n);
    size_t length = strlen(name);
    int number = length > 2 && !strcmp(name + length - 2, ".#");
    char *field = path_format("%.*s", (int)(number ? length - 2 : length), name);
    if (list >= 0) {
        ck_assert_msg(rows_list_length(got, i, field) == list, "row %d, %s: %d elements", (int)i,
                      field, (int)rows_list_length(got, i, field));
        for (int64_t k = 0; k < list; k++)
            ck_assert_str_eq(rows_list_text(got, i, field, k), rows_list_text(want, i, name, k));
    } else if (text) {
        const char *have = rows_text(got, i, field, NULL);
        ck_assert_msg(have != NULL, "row %d: no %s", (int)i, field);
        ck_assert_msg(!strcmp(have, text), "row %d, %s: \"%s\", not \"%s\"", (int)i, field, have,
                      text);
        ck_assert_int_eq(rows_is_string(got, i, field), !number);
    }
    free(field);
}

static int64_t count_fields(const row_store *s, int64_t i)
{
    int64_t n = 0;
    for (int64_t k = 0; k < rows_n_names(s); k++)
        n += rows_text(s, i, rows_name(s, k), NULL) || rows_list_length(s, i, rows_name(s, k)) >= 0;
    return n;
}

static void same_rows(const row_store *got, const char *name)
{
    sqz_error err = {0};
    char *path = path_format("%s%s.rows.jsonl", GOLDEN, name);
    int64_t bytes;
    char *data = read_all(path, &bytes);
    row_store *want = new_store();
    ck_assert_msg(rows_add_jsonl(want, path, data, bytes, -1, &err) == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(rows_count(got), rows_count(want));
    for (int64_t i = 0; i < rows_count(want); i++) {
        ck_assert_int_eq(count_fields(got, i), count_fields(want, i));
        for (int64_t k = 0; k < rows_n_names(want); k++)
            same_field(got, want, i, rows_name(want, k));
    }
    rows_free(want);
    free(data);
    free(path);
}

static const char *const parquets[] = {"snappy_dictionary", "zstd_v2_delta",
                                       "gzip_plain_int96",  "nested_snappy_groups",
                                       "nested_zstd_v2",    "nested_old_names"};
enum { N_PARQUETS = sizeof parquets / sizeof *parquets };

START_TEST(parquet_rows)
{
    parquet_options all = {.max_rows = -1};
    row_store *s = parquet_ok(parquets[_i], &all);
    same_rows(s, parquets[_i]);
    rows_free(s);
}
END_TEST

START_TEST(delimited_rows)
{
    static const struct {
        const char *name, *ending;
        char delimiter;
    } files[] = {{"quotes", "csv", ','}, {"tabs", "tsv", '\t'}};
    for (int i = 0; i < 2; i++) {
        sqz_error err = {0};
        char *path = path_format("%s%s.%s", GOLDEN, files[i].name, files[i].ending);
        int64_t bytes;
        char *data = read_all(path, &bytes);
        row_store *s = new_store();
        delimited_options o = {.delimiter = files[i].delimiter};
        ck_assert_msg(rows_add_delimited(s, path, data, bytes, &o, -1, &err) == SQZ_OK, "%s",
                      err.text);
        same_rows(s, files[i].name);
        rows_free(s);
        free(data);
        free(path);
    }
}
END_TEST

START_TEST(parquet_part)
{
    static const char *const wanted[] = {"answer", "choices"};
    parquet_options o = {wanted, 2, 13}; /* beyond the first row group of 11, inside the second */
    row_store *s = parquet_ok("nested_snappy_groups", &o);
    ck_assert_int_eq(rows_count(s), 13);
    ck_assert_str_eq(rows_text(s, 12, "answer", NULL), "12");
    ck_assert_int_eq(rows_n_names(s), 3); /* answer, choices.text, choices.label */
    rows_free(s);
    static const char *const nothing[] = {"absent"};
    sqz_error err = {0};
    int64_t bytes;
    char *data = read_all(GOLDEN "nested_zstd_v2.parquet", &bytes);
    o = (parquet_options){nothing, 1, -1};
    s = new_store();
    ck_assert_int_eq(rows_add_parquet(s, "p", (uint8_t *)data, bytes, &o, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "none of the columns"));
    rows_free(s);
    free(data);
    s = parquet_ok("no_rows", &(parquet_options){.max_rows = -1}); /* a row group of nothing */
    ck_assert_int_eq(rows_count(s), 0);
    rows_free(s);
}
END_TEST

/* Cut anywhere and changed anywhere: refused or read, never a crash, and a checksum is believed. */
START_TEST(parquet_damage)
{
    parquet_options all = {.max_rows = -1};
    char *path = path_format("%s%s.parquet", GOLDEN, parquets[_i]);
    int64_t bytes, refused = 0;
    char *data = read_all(path, &bytes);
    for (int64_t n = 0; n < bytes; n += 7) {
        row_store *s = new_store();
        ck_assert_int_ne(rows_add_parquet(s, path, (uint8_t *)data, n, &all, NULL), SQZ_OK);
        rows_free(s);
    }
    for (int64_t n = 0; n < bytes; n++) {
        row_store *s = new_store();
        char was = data[n];
        data[n] ^= (char)(1 << n % 8);
        refused += rows_add_parquet(s, path, (uint8_t *)data, bytes, &all, NULL) != SQZ_OK;
        data[n] = was;
        rows_free(s);
    }
    ck_assert_int_gt(refused, bytes / 4);
    free(data);
    free(path);
}
END_TEST

/* ---- CSV by hand -------------------------------------------------------------------------------
 */

START_TEST(delimited_options_hold)
{
    static const char *const names[] = {"question", "a", "b", "answer"};
    const char *text = "What?,1,None,B\n\"Say \"\"x\"\"\",,3,A\n";
    delimited_options o = {.delimiter = ',', .header = names, .n_header = 4, .as_text = 1};
    row_store *s = new_store();
    ck_assert_int_eq(rows_add_delimited(s, "m.csv", text, (int64_t)strlen(text), &o, -1, NULL),
                     SQZ_OK);
    ck_assert_int_eq(rows_count(s), 2);
    ck_assert_str_eq(rows_text(s, 0, "b", NULL), "None");
    ck_assert_int_eq(rows_is_string(s, 0, "a"), 1);
    ck_assert_str_eq(rows_text(s, 1, "question", NULL), "Say \"x\"");
    ck_assert_str_eq(rows_text(s, 1, "a", NULL), "");
    rows_free(s);
    s = new_store();
    ck_assert_int_eq(rows_add_delimited(s, "m.csv", text, (int64_t)strlen(text), &o, 1, NULL),
                     SQZ_OK);
    ck_assert_int_eq(rows_count(s), 1);
    rows_free(s);
}
END_TEST

/* ---- JSON, packed files ------------------------------------------------------------------------
 */

static char *put(const char *name, const char *text, int64_t bytes)
{
    char *path = path_format("%s/%s", scratch, name), *slash = strrchr(path, '/');
    sqz_error err = {0};
    *slash = 0;
    ck_assert_msg(dir_make(path, &err) == SQZ_OK, "%s", err.text);
    *slash = '/';
    ck_assert_msg(file_write(path, text, bytes < 0 ? (int64_t)strlen(text) : bytes, &err) == SQZ_OK,
                  "%s", err.text);
    return path;
}

static dataset *open_ok(const char *spec)
{
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_msg(dataset_open(spec, &d, &err) == SQZ_OK, "%s", err.text);
    return d;
}

START_TEST(json_shapes)
{
    static const struct {
        const char *name, *text;
        int rows;
    } files[] = {
        {"a.json", "{\"version\": 1,\n \"data\": [{\"text\": \"x\"},\n {\"text\": \"y\"}]}", 2},
        {"b.json", "{\"text\": \"x\"}\n{\"text\": \"y\"}\n{\"text\": \"z\"}\n", 3},
        {"c.json", "{\"text\":\n \"x\"}", 1},
        {"d.json", "  {\"text\": \"x\", \"list\": [1, 2]}  ", 1},
        {"e.jsonl", "{\"text\": \"x\", \"rows\": [{\"a\": 1}]}", 1}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = put(files[i].name, files[i].text, -1);
        dataset *d = open_ok(path);
        ck_assert_int_eq(d->rows.n_rows, files[i].rows);
        ck_assert_int_eq(d->kind, DATA_TEXT);
        dataset_close(d);
        free(path);
    }
}
END_TEST

START_TEST(packed_files)
{
    /* two gzip members of two rows each */
    char plain[2][64] = {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
                         "{\"text\": \"c\"}\n{\"text\": \"d\"}\n"};
    uint8_t packed[512];
    int64_t n = 0;
    for (int i = 0; i < 2; i++) {
        z_stream z = {0};
        ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (uint8_t *)plain[i];
        z.avail_in = (uInt)strlen(plain[i]);
        z.next_out = packed + n;
        z.avail_out = (uInt)(sizeof packed - (size_t)n);
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        n += (int64_t)z.total_out;
        deflateEnd(&z);
    }
    char *path = put("x.jsonl.gz", (char *)packed, n);
    dataset *d = open_ok(path);
    ck_assert_int_eq(d->rows.n_rows, 4);
    ck_assert_str_eq(d->rows.text(&d->rows, 3, "text"), "d");
    dataset_close(d);
    sqz_error err = {0};
    free(put("x.jsonl.gz", (char *)packed, n - 9));
    ck_assert_int_eq(dataset_open(path, &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "cut short"));
    free(path);
}
END_TEST

/* ---- folders -----------------------------------------------------------------------------------
 */

static void expect_text(const char *spec, const char *first, const char *split)
{
    char *full = path_format("%s/%s", scratch, spec);
    dataset *d = open_ok(full);
    ck_assert_str_eq(d->rows.text(&d->rows, 0, "text"), first);
    ck_assert_str_eq(d->split, split);
    free(full);
    dataset_close(d);
}

static void expect_refusal(const char *spec, const dataset_options *o, sqz_status code,
                           const char *part)
{
    sqz_error err = {0};
    dataset *d = NULL;
    char *full = path_format("%s/%s", scratch, spec);
    ck_assert_int_eq(dataset_open_with(full, o, &d, &err), code);
    ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" has no \"%s\"", err.text, part);
    free(full);
}

START_TEST(folder_splits)
{
    static const char *const files[][2] = {
        {"d/data/train-00001-of-00002.jsonl", "second"},
        {"d/data/train-00000-of-00002.jsonl", "first"},
        {"d/data/test-00000-of-00001.jsonl", "tested"},
        {"d/data/test-00000-of-00001.json", "the same in another format"},
        {"d/dataset_infos.json", "about"},
        {"d/.git/train.jsonl", "hidden"},
        {"m/main/train-00000-of-00001.jsonl", "main train"},
        {"m/socratic/val.jsonl", "socratic validation"},
        {"m/socratic/auxiliary_train-00000-of-00001.jsonl", "auxiliary"},
        {"t/train.jsonl", "only"},
        {"s/dev/a.jsonl", "in a folder"},
        {"s/piqa_test.jsonl", "by a word"},
        {"hub/snapshots/0123abcd/data/validation-00000-of-00001.jsonl", "cached"},
        {"hub/snapshots/ffff/data/validation-00000-of-00001.jsonl", "another commit"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *text = path_format("{\"text\": \"%s\"}\n", files[i][1]);
        free(put(files[i][0], text, -1));
        free(text);
    }
    free(put("hub/refs/main", "0123abcd", -1));
    expect_text("d", "tested", "test");
    expect_text("d:train", "first", "train");
    expect_text("d:default:test", "tested", "test");
    expect_text("m", "main train", "train"); /* "main" is the usual subset; one split, so that */
    expect_text("m:socratic:dev", "socratic validation", "validation");
    expect_text("m:socratic:auxiliary_train", "auxiliary", "auxiliary_train");
    expect_text("t", "only", "train");
    expect_text("s:validation", "in a folder", "validation");
    expect_text("s", "by a word", "test");
    expect_text("hub", "cached", "validation");
    dataset_options calibration = {.for_calibration = 1};
    expect_refusal("d:dev", &(dataset_options){0}, ERR_MODEL, "it has test, train");
    expect_refusal("m:nothing:train", &(dataset_options){0}, ERR_MODEL, "socratic");
    expect_refusal("d:test", &calibration, ERR_USAGE, "calibration on the test split");
    char *spec = path_format("%s/d", scratch);
    dataset *d;
    ck_assert_int_eq(dataset_open_with(spec, &calibration, &d, NULL), SQZ_OK);
    ck_assert_str_eq(d->split, "train");
    ck_assert_int_eq(d->rows.n_rows, 2);
    ck_assert_int_eq(d->n_files, 2);
    char digest[72];
    ck_assert_int_eq(dataset_digest(spec, &calibration, digest, NULL), SQZ_OK);
    ck_assert_str_eq(digest, d->digest);
    dataset_close(d);
    free(spec);
    spec = path_format("%s/d/data/test-00000-of-00001.jsonl", scratch); /* said by file: allowed */
    ck_assert_int_eq(dataset_open_with(spec, &calibration, &d, NULL), SQZ_OK);
    dataset_close(d);
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("formats");
    TCase *t = tcase_create("formats");
    suite_add_tcase(suite, t);
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_loop_test(t, parquet_rows, 0, N_PARQUETS);
    tcase_add_test(t, delimited_rows);
    tcase_add_test(t, parquet_part);
    tcase_add_loop_test(t, parquet_damage, 0, N_PARQUETS);
    tcase_add_test(t, delimited_options_hold);
    tcase_add_test(t, json_shapes);
    tcase_add_test(t, packed_files);
    tcase_add_test(t, folder_splits);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
