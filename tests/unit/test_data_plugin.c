/* test_data_plugin.c - rows that data plugins give: what is taken, what is refused, and which
 * plugin reads a file.  The rows are filled here, as a plugin would. */
#include "data/data.h"
#include "hash/sha256.h"
#include "host/row_line.h"
#include "host/source.h"
#include "io/file.h"
#include "worker/convert.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PLUGIN SQZ_BUILD_DIR "/tests/bad_plugins/hostile/hostile_data.so"

static char folder[] = "/tmp/sqz_rows_XXXXXX";
static catalogue *plugins;
static const agent_info *info;
static host *own;
static agent *reader;
static row_line line;

static void setup(void)
{
    sqz_error err = {0};
    const char *paths[] = {PLUGIN};
    catalogue_options o = {.paths = paths, .n_paths = 1, .only_paths = 1};
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_msg(!catalogue_open(&o, &plugins, &err), "%s", err.text);
    ck_assert_msg(!catalogue_find(plugins, "data/1", "hostile_data", &info, &err), "%s", err.text);
    own = host_new(NULL);
    ck_assert_msg(!agent_open(own, info, &reader, &err), "%s", err.text);
    row_line_init(&line, agent_host(reader));
    ck_assert(row_line_begin(&line, 7));
}

static void teardown(void)
{
    row_line_free(&line);
    agent_close(reader);
    host_free(own);
    catalogue_close(plugins);
    dir_remove(folder, NULL);
}

static void expect_row(const char *json)
{
    char *text = json_text(line.row, 0);
    ck_assert_msg(!line.failure.code, "%s", line.failure.text);
    ck_assert_str_eq(text, json);
    free(text);
}

static void expect_refusal(sqz_status returned, const char *words)
{
    ck_assert_int_ne(returned, SQZ_OK);
    ck_assert_int_ne(line.failure.code, SQZ_OK);
    ck_assert_msg(strstr(line.failure.text, words) != NULL, "%s", line.failure.text);
    ck_assert_msg(!strncmp(line.failure.text, "row 7: ", 7), "%s", line.failure.text);
}

START_TEST(rows_of_every_kind)
{
    const sqz_row *r = &line.table;
    ck_assert_int_eq(r->text(r, "text", "a \"b\"\n\xc3\xa9", -1), SQZ_OK);
    ck_assert_int_eq(r->text(r, "cut", "abcdef", 3), SQZ_OK);
    ck_assert_int_eq(r->number(r, "label", 3), SQZ_OK);
    ck_assert_int_eq(r->number(r, "score", -0.1), SQZ_OK);
    ck_assert_int_eq(r->item(r, "choices", "yes", -1), SQZ_OK);
    ck_assert_int_eq(r->item(r, "choices", "nowhere", 2), SQZ_OK);
    ck_assert_int_eq(r->item(r, "none", NULL, 0), SQZ_OK);
    ck_assert_int_eq(r->text(r, "empty", "", 0), SQZ_OK);
    expect_row("{\"text\":\"a \\\"b\\\"\\n\xc3\xa9\",\"cut\":\"abc\",\"label\":3,\"score\":-0.1,"
               "\"choices\":[\"yes\",\"no\"],\"none\":[],\"empty\":\"\"}");
    ck_assert(row_line_begin(&line, 8)); /* the next row is empty again */
    expect_row("{}");
}
END_TEST

static const struct {
    const char *name, *text;
    int64_t n;
    const char *words;
} bad[] = {{"text", "\xff", 1, "no UTF-8"},         {"text", "a\0b", 3, "zero bytes"},
           {"text", "\xed\xa0\x80", 3, "no UTF-8"}, /* half a surrogate */
           {"text", NULL, 0, "has no text"},        {"", "x", 1, "name must be"},
           {NULL, "x", 1, "name must be"},          {"\xc3", "x", 1, "name must be"},
           {"there", "x", 1, "given twice"}};

START_TEST(bad_fields_are_refused)
{
    const sqz_row *r = &line.table;
    ck_assert_int_eq(r->text(r, "there", "x", 1), SQZ_OK);
    expect_refusal(r->text(r, bad[_i].name, bad[_i].text, bad[_i].n), bad[_i].words);
    /* What was wrong stays wrong, and is what is said in the end. */
    expect_refusal(r->text(r, "fine", "x", 1), bad[_i].words);
}
END_TEST

START_TEST(bad_numbers_and_lists_are_refused)
{
    const sqz_row *r = &line.table;
    if (_i < 2) expect_refusal(r->number(r, "x", _i ? INFINITY : NAN), "no finite number");
    ck_assert_int_eq(_i < 2 ? 0 : r->item(r, "a", "1", 1), SQZ_OK);
    ck_assert_int_eq(_i < 2 ? 0 : r->item(r, "b", "1", 1), SQZ_OK);
    if (_i == 2) expect_refusal(r->item(r, "a", "2", 1), "must follow each other");
    if (_i == 3) expect_refusal(r->text(r, "b", "2", 1), "given twice");
}
END_TEST

START_TEST(rows_are_bounded)
{
    const sqz_row *r = &line.table;
    char name[ROW_MAX_NAME + 2];
    memset(name, 'n', sizeof name);
    name[ROW_MAX_NAME] = 0;
    ck_assert_int_eq(r->text(r, name, "x", 1), SQZ_OK);
    name[ROW_MAX_NAME] = 'n';
    name[ROW_MAX_NAME + 1] = 0;
    if (_i == 0) expect_refusal(r->text(r, name, "x", 1), "1 to 200 bytes");
    for (int i = 1; _i == 1 && i < ROW_MAX_FIELDS; i++) {
        snprintf(name, sizeof name, "f%d", i);
        ck_assert_int_eq(r->number(r, name, i), SQZ_OK);
    }
    if (_i == 1) expect_refusal(r->number(r, "more", 1), "more than 1024 fields");
    char *big = _i == 2 ? malloc((size_t)ROW_MAX_BYTES) : NULL;
    if (_i == 2) {
        memset(big, 'a', (size_t)ROW_MAX_BYTES);
        ck_assert_int_eq(r->text(r, "half", big, ROW_MAX_BYTES / 2), SQZ_OK);
        expect_refusal(r->text(r, "rest", big, ROW_MAX_BYTES / 2), "more than 64 MiB");
    }
    free(big);
}
END_TEST

/* ---- which plugin ---------------------------------------------------------------------------- */
START_TEST(names_and_endings)
{
    static const char *const names[][2] = {{"/a/b.evil", "b.evil"},
                                           {"b.evil.gz", "b.evil"},
                                           {"b.evil.ZST", "b.evil"},
                                           {"/a/.gz", ".gz"},
                                           {"/data/set/", "/data/set/"}};
    static const struct {
        const char *name;
        int n;
    } claims[] = {{"x.evil", 1}, {"X.EVIL", 1}, {".evil", 0}, {"x.evil.txt", 0}, {"evil", 0}};
    const agent_info *one[1];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *name = source_name(names[i][0]);
        ck_assert_str_eq(name, names[i][1]);
        free(name);
    }
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        ck_assert_msg(source_readers(plugins, claims[i].name, one, 1) == claims[i].n, "%s",
                      claims[i].name);
    ck_assert_int_eq(source_readers(plugins, NULL, one, 1), 0); /* it has no probe */
}
END_TEST

static char *write_file(const char *name, const char *text)
{
    char *path = path_format("%s/%s", folder, name);
    sqz_error err = {0};
    ck_assert_msg(!file_write(path, text, (int64_t)strlen(text), &err), "%s", err.text);
    return path;
}

static sqz_status convert_named(const char *spec, const char *use, char **local, sqz_error *err)
{
    char *store = path_format("%s/store", folder);
    const convert_options o = {plugins, store, {60, 0}, NULL};
    const reader_choice choice = {use, NULL};
    sqz_status s = convert_dataset(&o, spec, &choice, local, NULL, err);
    free(store);
    return s;
}

/* The same rows as a file of JSON lines that was written by hand. */
START_TEST(converted_once_and_the_same)
{
    char *evil = write_file("rows.evil", "one\ntwo words\n"), *local, *again, *spec;
    char *plain = write_file("rows.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two words\"}\n");
    char digest[2][DIGEST_TEXT];
    sqz_error err = {0};
    ck_assert(convert_may_need(evil, NULL) && !convert_may_need(plain, NULL));
    ck_assert_msg(!convert_named(evil, NULL, &local, &err), "%s", err.text);
    ck_assert_msg(!strncmp(local, "rows=/", 6), "%s", local);
    ck_assert(!dataset_digest(local, NULL, digest[0], &err));
    ck_assert(!dataset_digest(plain, NULL, digest[1], &err));
    ck_assert_str_eq(digest[0], digest[1]);
    spec = path_format("mine=%s", evil);
    ck_assert_msg(!convert_named(spec, "hostile_data", &again, &err), "%s", err.text);
    ck_assert_msg(!strncmp(again, "mine=/", 6), "%s", again);
    ck_assert_str_eq(strchr(again, '='), strchr(local, '='));
    free(again);
    ck_assert(!convert_named(plain, NULL, &again, &err)); /* none is needed */
    ck_assert_str_eq(again, plain);
    free(again), free(local), free(spec), free(plain), free(evil);
}
END_TEST

/* The stem of a file may be a task's name; it must not be taken for the task. */
START_TEST(named_like_a_task)
{
    char *evil = write_file("gsm8k.evil", "one\n"), *local;
    sqz_error err = {0};
    dataset *d;
    ck_assert_msg(!convert_named(evil, NULL, &local, &err), "%s", err.text);
    ck_assert_msg(!dataset_open(local, &d, &err), "%s", err.text);
    ck_assert_int_eq(d->kind, DATA_TEXT);
    ck_assert_str_eq(d->rows.name, "gsm8k.evil");
    dataset_close(d);
    free(local);
    free(evil);
}
END_TEST

START_TEST(mixes_keep_their_weights)
{
    char *evil = write_file("a.evil", "one\n"),
         *plain = write_file("b.jsonl", "{\"text\":\"b\"}\n");
    char *mix = path_format("%s@2,%s@0.5", evil, plain), *store = path_format("%s/store", folder);
    char *local = NULL;
    mix_spec parts;
    sqz_error err = {0};
    const convert_options o = {plugins, store, {60, 0}, NULL};
    ck_assert_msg(!convert_mix(&o, mix, NULL, &local, &err), "%s", err.text);
    ck_assert(!mix_parse(local, &parts, &err));
    ck_assert_int_eq(parts.n, 2);
    ck_assert(parts.weights[0] == 2 && parts.weights[1] == 0.5);
    ck_assert_msg(!strncmp(parts.specs[0], "a=/", 3), "%s", parts.specs[0]);
    ck_assert_str_eq(parts.specs[1], plain);
    mix_free(&parts);
    free(local);
    ck_assert(!convert_mix(&o, plain, NULL, &local, &err));
    ck_assert_str_eq(local, plain);
    free(local), free(store), free(mix), free(plain), free(evil);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data_plugin");
    TCase *t = tcase_create("rows");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rows_of_every_kind);
    tcase_add_loop_test(t, bad_fields_are_refused, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_loop_test(t, bad_numbers_and_lists_are_refused, 0, 4);
    tcase_add_loop_test(t, rows_are_bounded, 0, 3);
    tcase_add_test(t, names_and_endings);
    tcase_add_test(t, converted_once_and_the_same);
    tcase_add_test(t, named_like_a_task);
    tcase_add_test(t, mixes_keep_their_weights);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
