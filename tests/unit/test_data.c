/* test_data.c - data sets: kinds, rows, framing, token streams, calibration windows.
 *
 * The bundled data give figures that are known from elsewhere (438 windows of 256 in test.jsonl);
 * small files made here give the rest. */
#include "data/data.h"
#include "hash/sha256.h"
#include "io/file.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"

static char folder[] = "/tmp/sqz_data_XXXXXX";
static tokenizer *tok;

static void setup(void)
{
    sqz_error err = {0};
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_msg(tokenizer_open(EXAMPLE "/model", &tok, &err) == SQZ_OK, "%s", err.text);
}

static void teardown(void)
{
    tokenizer_free(tok);
    dir_remove(folder, NULL);
}

static dataset *open_ok(const char *spec)
{
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_msg(dataset_open(spec, &d, &err) == SQZ_OK, "%s", err.text);
    return d;
}

static char *write_file(const char *name, const char *text)
{
    char *path = path_format("%s/%s", folder, name);
    sqz_error err = {0};
    ck_assert_msg(file_write(path, text, (int64_t)strlen(text), &err) == SQZ_OK, "%s", err.text);
    return path;
}

static dataset *open_text(const char *name, const char *text)
{
    char *path = write_file(name, text);
    dataset *d = open_ok(path);
    free(path);
    return d;
}

/* The message must hold `part`; where it matters, the line. */
static void expect_error(const char *name, const char *text, sqz_status code, const char *part)
{
    char *path = write_file(name, text);
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(dataset_open(path, &d, &err), code);
    ck_assert_int_eq(err.code, code);
    ck_assert_ptr_null(d);
    ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" has no \"%s\"", err.text, part);
    free(path);
}

/* ---- the bundled data ---------------------------------------------------------------------------
 */

START_TEST(test_window_count)
{
    dataset *d = open_ok(EXAMPLE "/data/test.jsonl");
    sqz_error err = {0};
    int32_t *ids;
    int64_t n;
    ck_assert_int_eq(d->kind, DATA_TEXT);
    ck_assert_str_eq(d->rows.name, "test");
    ck_assert_msg(data_stream(d, tok, FRAME_BOS_EOS, NULL, &ids, &n, &err) == SQZ_OK, "%s",
                  err.text);
    ck_assert_int_eq(n / 256, 438);
    ck_assert_int_eq(ids[0], 0);
    ck_assert_int_eq(ids[n - 1], 1);
    int64_t bos = 0, eos = 0;
    for (int64_t i = 0; i < n; i++) {
        bos += ids[i] == 0;
        eos += ids[i] == 1;
    }
    ck_assert_int_eq(bos, d->rows.n_rows);
    ck_assert_int_eq(eos, d->rows.n_rows);
    int32_t *same;
    int64_t n_same;
    ck_assert_int_eq(data_stream(d, tok, FRAME_DEFAULT, NULL, &same, &n_same, &err), SQZ_OK);
    ck_assert_int_eq(n_same, n);
    ck_assert_mem_eq(same, ids, (size_t)n * sizeof *ids);
    free(same);
    free(ids);
    char digest[DIGEST_TEXT];
    ck_assert_int_eq(sha256_file(EXAMPLE "/data/test.jsonl", digest, &err), SQZ_OK);
    ck_assert_str_eq(d->digest, digest);
    dataset_close(d);
}
END_TEST

START_TEST(test_kinds)
{
    static const struct {
        const char *file;
        data_kind kind;
    } want[] = {{"arith_test", DATA_GENERATE},
                {"endings_test", DATA_CHOICE},
                {"facts_test", DATA_CHOICE},
                {"calib", DATA_TEXT}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char *path = path_format("%s/data/%s.jsonl", EXAMPLE, want[i].file);
        char *text = NULL;
        int64_t bytes, lines = 0;
        dataset *d = open_ok(path);
        ck_assert_int_eq(d->kind, want[i].kind);
        ck_assert_str_eq(d->rows.name, want[i].file);
        ck_assert_int_eq(file_read(path, 1 << 24, &text, &bytes, NULL), SQZ_OK);
        for (int64_t k = 0; k < bytes; k++) lines += text[k] == '\n';
        ck_assert_int_eq(d->rows.n_rows, lines);
        dataset_close(d);
        free(text);
        free(path);
    }
}
END_TEST

START_TEST(test_fields)
{
    dataset *d = open_ok("ends=" EXAMPLE "/data/endings_test.jsonl");
    const sqz_rows *r = &d->rows;
    int32_t ok;
    ck_assert_str_eq(r->name, "ends");
    ck_assert_str_eq(r->text(r, 0, "ctx"), "One day, Ada went to the garden without a coat. Soon "
                                           "the rain came and she was wet and cold.");
    ck_assert_int_eq(r->list_length(r, 0, "endings"), 4);
    ck_assert_str_eq(r->list_text(r, 0, "endings", 2),
                     "She ran home and sat by the fire with hot cheese.");
    ck_assert_ptr_null(r->list_text(r, 0, "endings", 4));
    ck_assert_double_eq(r->number(r, 0, "label", &ok), 2);
    ck_assert_int_eq(ok, 1);
    ck_assert_str_eq(r->text(r, 0, "label"), "2");
    ck_assert_double_eq(r->number(r, 0, "ctx", &ok), 0);
    ck_assert_int_eq(ok, 0);
    ck_assert_int_eq(r->list_length(r, 0, "ctx"), -1);
    ck_assert_ptr_null(r->text(r, 0, "endings"));
    ck_assert_ptr_null(r->text(r, 0, "absent"));
    ck_assert_ptr_null(r->text(r, r->n_rows, "ctx"));
    dataset_close(d);
}
END_TEST

/* ---- files made here ----------------------------------------------------------------------------
 */

START_TEST(test_shapes)
{
    dataset *d = open_text("a.json", "[{\"text\": \"x\"},\n {\"text\": \"y\", \"n\": 1.5}]");
    int32_t ok;
    ck_assert_int_eq(d->kind, DATA_TEXT);
    ck_assert_int_eq(d->rows.n_rows, 2);
    ck_assert_str_eq(d->rows.text(&d->rows, 1, "n"), "1.5");
    dataset_close(d);
    d = open_text("b.jsonl", "\xEF\xBB\xBF{\"text\": \"\\u00e9\"}\r\n\r\n{\"text\": \"\"}");
    ck_assert_int_eq(d->rows.n_rows, 2);
    ck_assert_str_eq(d->rows.text(&d->rows, 0, "text"), "\xC3\xA9");
    dataset_close(d);
    d = open_text("c.txt", "{\"not\": json\n");
    ck_assert_int_eq(d->is_txt, 1);
    ck_assert_int_eq(d->rows.n_rows, 1);
    ck_assert_str_eq(d->rows.text(&d->rows, 0, "text"), "{\"not\": json\n");
    dataset_close(d);
    d = open_text("d.jsonl", "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 1}\n");
    ck_assert_int_eq(d->kind, DATA_CHOICE);
    dataset_close(d);
    d = open_text("e.jsonl", "{\"question\": \"q\", \"choices\": {\"text\": [\"a\"], \"label\": "
                             "[\"A\"]}, \"id\": null, \"yes\": true, \"s\": \"3\"}\n");
    ck_assert_int_eq(d->kind, DATA_OTHER);
    ck_assert_str_eq(d->rows.list_text(&d->rows, 0, "choices.text", 0), "a");
    ck_assert_ptr_null(d->rows.text(&d->rows, 0, "id"));
    ck_assert_double_eq(d->rows.number(&d->rows, 0, "yes", &ok), 1);
    ck_assert_double_eq(d->rows.number(&d->rows, 0, "s", &ok), 3);
    ck_assert_int_eq(ok, 1);
    dataset_close(d);
}
END_TEST

START_TEST(test_malformed)
{
    expect_error("a.jsonl", "", ERR_MODEL, "empty");
    expect_error("b.jsonl", " \n\n", ERR_MODEL, "empty");
    expect_error("c.json", "[]", ERR_MODEL, "no rows");
    expect_error("d.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n", ERR_MODEL, "d.jsonl:2:");
    expect_error("e.jsonl", "{\"text\": \"a\"}\n\n{\"other\": 1}\n", ERR_MODEL, "e.jsonl:3: ");
    expect_error("f.jsonl", "{\"text\": \"a\"}\n[1]\n", ERR_MODEL, "f.jsonl:2: a row must be");
    expect_error("g.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\\ud800\"}\n", ERR_MODEL,
                 "g.jsonl:2:");
    expect_error("h.jsonl", "{\"ctx\": \"c\", \"endings\": [\"a\", \"b\"], \"label\": 2}\n",
                 ERR_MODEL, "h.jsonl:1: the right one of 2 endings");
    expect_error("i.jsonl", "{\"ctx\": \"c\", \"endings\": [], \"label\": 0}\n", ERR_MODEL,
                 "of 0 endings");
    expect_error("j.txt", "ok\nbad \xFF\n", ERR_MODEL, "j.txt:2: invalid UTF-8");
    expect_error("k.csv", "a,b\n", ERR_MODEL, "no rows");
    expect_error("k.xz", "a,b\n", SQZ_E_UNSUPPORTED, ".xz");
    expect_error("l.json", "[{\"text\": \"a\"},\n 5]", ERR_MODEL, "l.json:2: a row must be");
    expect_error("m.dat", "some words", ERR_MODEL, ".txt");
    expect_error("n.jsonl", "{\"text\": \"a\"}\n{\"text\": \"a\", \"text\": \"b\"}\n", ERR_MODEL,
                 "duplicate");
}
END_TEST

START_TEST(test_names)
{
    dataset *d = NULL;
    sqz_error err = {0};
    /* A known task: without rows, and with rows that are not its own. */
    ck_assert_int_eq(dataset_open("hellaswag", &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "hellaswag=FILE"));
    ck_assert_int_eq(dataset_open("hellaswag=" EXAMPLE "/data/calib.jsonl", &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "activity_label"));
    ck_assert_int_eq(dataset_open("no_such_file.jsonl", &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "NAME=FILE"));
    ck_assert_int_eq(dataset_open("mine=/no/such/file", &d, &err), ERR_MODEL);
    ck_assert_int_eq(dataset_open(folder, &d, &err), ERR_MODEL); /* nothing in it */
    ck_assert_ptr_null(d);
}
END_TEST

/* ---- framing ------------------------------------------------------------------------------------
 */

static void expect_stream(const dataset *d, framing frame, const uint8_t *skip, const char *want)
{
    int32_t *ids;
    int64_t n;
    sqz_error err = {0};
    char got[200] = "";
    ck_assert_msg(data_stream(d, tok, frame, skip, &ids, &n, &err) == SQZ_OK, "%s", err.text);
    for (int64_t i = 0; i < n; i++) {
        char *text;
        int64_t bytes;
        if (ids[i] < 2) {
            strcat(got, ids[i] ? ")" : "(");
            continue;
        }
        ck_assert_int_eq(tokenizer_decode(tok, ids + i, 1, 0, &text, &bytes, &err), SQZ_OK);
        strcat(got, text);
        free(text);
    }
    ck_assert_str_eq(got, want);
    free(ids);
}

START_TEST(test_framing)
{
    framing f;
    ck_assert(framing_parse("bos+eos", &f) && f == FRAME_BOS_EOS);
    ck_assert(framing_parse("none", &f) && f == FRAME_NONE);
    ck_assert(!framing_parse("both", &f));
    dataset *d = open_text("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"two\"}");
    expect_stream(d, FRAME_DEFAULT, NULL, "(one)()(two)");
    expect_stream(d, FRAME_BOS_EOS, NULL, "(one)()(two)");
    expect_stream(d, FRAME_BOS, NULL, "(one((two");
    expect_stream(d, FRAME_EOS, NULL, "one))two)");
    expect_stream(d, FRAME_NONE, NULL, "onetwo");
    expect_stream(d, FRAME_DEFAULT, (const uint8_t[]){0, 1, 1}, "(one)");
    dataset_close(d);
    d = open_text("a.txt", "one"); /* the template adds bos only */
    expect_stream(d, FRAME_DEFAULT, NULL, "(one");
    expect_stream(d, FRAME_BOS_EOS, NULL, "(one)");
    dataset_close(d);
}
END_TEST

/* A tokenizer without bos: nothing by default, an error when it is asked for. */
START_TEST(test_missing_bos)
{
    sqz_error err = {0};
    int32_t *ids;
    int64_t n;
    free(write_file("tokenizer.json",
                    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"</s>\":1},\"merges\":[]}}"));
    free(write_file("tokenizer_config.json", "{\"bos_token\":null,\"eos_token\":\"</s>\"}"));
    tokenizer_free(tok);
    ck_assert_int_eq(tokenizer_open(folder, &tok, &err), SQZ_OK);
    dataset *d = open_text("a.jsonl", "{\"text\": \"aa\"}\n");
    ck_assert_int_eq(data_stream(d, tok, FRAME_DEFAULT, NULL, &ids, &n, &err), SQZ_OK);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(ids[2], 1);
    free(ids);
    ck_assert_int_eq(data_stream(d, tok, FRAME_BOS, NULL, &ids, &n, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "no bos"));
    dataset_close(d);
}
END_TEST

/* Zeros in a text file are tokens like others. */
START_TEST(test_zero_bytes)
{
    char *path = path_format("%s/z.txt", folder);
    sqz_error err = {0};
    int32_t *ids, *rest;
    int64_t n, n_rest;
    ck_assert_int_eq(file_write(path, "one\0two", 7, &err), SQZ_OK);
    dataset *d = open_ok(path);
    ck_assert_int_eq(data_stream(d, tok, FRAME_NONE, NULL, &ids, &n, &err), SQZ_OK);
    ck_assert_int_eq(tokenizer_encode(tok, "one\0two", 7, 0, &rest, &n_rest, &err), SQZ_OK);
    ck_assert_int_eq(n, n_rest);
    ck_assert_int_gt(n, 2);
    ck_assert_mem_eq(ids, rest, (size_t)n * sizeof *ids);
    free(ids);
    free(rest);
    free(path);
    dataset_close(d);
    /* In a row a text would end there for evaluations. */
    path = path_format("%s/z.csv", folder);
    ck_assert_int_eq(file_write(path, "text,n\na,1\nb\0c,2\n", 17, &err), SQZ_OK);
    ck_assert_int_eq(dataset_open(path, &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "z.csv:3: the field \"text\" has a zero byte"));
    free(path);
}
END_TEST

/* ---- calibration --------------------------------------------------------------------------------
 */

static calibration make_ok(const dataset *d, const calibration_options *o)
{
    calibration c = {0};
    sqz_error err = {0};
    ck_assert_msg(calibration_make(d, tok, o, &c, &err) == SQZ_OK, "%s", err.text);
    return c;
}

START_TEST(test_calibration_windows)
{
    dataset *d = open_ok(EXAMPLE "/data/calib.jsonl");
    int32_t *ids;
    int64_t n;
    sqz_error err = {0};
    ck_assert_int_eq(data_stream(d, tok, FRAME_DEFAULT, NULL, &ids, &n, &err), SQZ_OK);
    calibration_options o = {.samples = 128, .seq_len = 256};
    calibration a = make_ok(d, &o), b = make_ok(d, &o);
    ck_assert_int_eq(a.windows, 128);
    ck_assert_int_eq(a.window, 256);
    ck_assert_int_eq(a.left_out, 0);
    ck_assert_mem_eq(a.ids, ids, 128 * 256 * sizeof *ids);
    ck_assert_str_eq(a.digest, b.digest);
    ck_assert(digest_valid(a.digest));
    calibration_free(&b);

    o.shuffle = 1;
    o.seed = 7;
    b = make_ok(d, &o);
    calibration again = make_ok(d, &o);
    ck_assert_str_ne(a.digest, b.digest);
    ck_assert_str_eq(again.digest, b.digest);
    int64_t found =
        0; /* each drawn window is a window of the stream, and no two are the same one */
    uint8_t used[4096] = {0};
    for (int64_t i = 0; i < b.windows; i++)
        for (int64_t k = 0; k < n / 256; k++)
            if (!used[k] && !memcmp(b.ids + i * 256, ids + k * 256, 256 * sizeof *ids)) {
                used[k] = 1;
                found++;
                break;
            }
    ck_assert_int_eq(found, 128);
    calibration_free(&again);
    calibration_free(&b);

    o = (calibration_options){.samples = 1 << 20, .seq_len = 256}; /* more than there are */
    b = make_ok(d, &o);
    ck_assert_int_eq(b.windows, n / 256);
    calibration_free(&b);
    o.seq_len = 255; /* the shape is part of the digest, the ids are */
    b = make_ok(d, &o);
    ck_assert_str_ne(a.digest, b.digest);
    calibration_free(&b);
    calibration_free(&a);
    free(ids);
    dataset_close(d);
}
END_TEST

static void expect_left_out(const char *calib, const char *eval_name, const char *eval,
                            int64_t left_out)
{
    dataset *d = open_text("calib.jsonl", calib), *e = open_text(eval_name, eval);
    const dataset *sets[] = {e};
    calibration_options o = {.samples = 1, .seq_len = 2, .leak_check = sets, .n_leak_check = 1};
    calibration c = make_ok(d, &o);
    ck_assert_int_eq(c.left_out, left_out);
    int32_t *ids;
    int64_t n;
    sqz_error err = {0};
    ck_assert_int_eq(tokenizer_encode(tok, "kept", 4, 1, &ids, &n, &err), SQZ_OK);
    /* the first document used is the one that was kept, or the first of all */
    ck_assert_int_eq(c.ids[1] == ids[1], left_out > 0);
    free(ids);
    calibration_free(&c);
    dataset_close(d);
    dataset_close(e);
}

START_TEST(test_leak_check)
{
    static const char kept[] = "{\"text\": \"kept\"}\n";
    char *calib = path_format("{\"text\": \"a  secret \\n text\"}\n%s", kept);
    expect_left_out(calib, "e.jsonl", "{\"text\": \"a secret text\"}\n", 1);
    expect_left_out(calib, "e.txt", "first line\na secret text here\nlast\n", 0);
    free(calib);
    /* a rendered question is known by the question, whatever its answer */
    calib = path_format("{\"text\": \"Question: Who?\\nAnswer: no one\"}\n%s", kept);
    expect_left_out(calib, "e.jsonl",
                    "{\"question\": \"Who?\", \"choices\": [\"he\", \"she\"], \"answer\": 1}\n", 1);
    expect_left_out(calib, "e.jsonl", "{\"question\": \"Who?\", \"answer\": \"#### 1\"}\n", 1);
    expect_left_out(calib, "e.jsonl", "{\"question\": \"Why?\", \"answer\": \"#### 1\"}\n", 0);
    free(calib);
}
END_TEST

START_TEST(test_leak_lines)
{
    dataset *d = open_text("calib.jsonl", "{\"text\": \"one whole line of a file\"}\n"
                                          "{\"text\": \"kept\"}\n");
    dataset *e = open_text("e.txt", "title\none whole line of a file\nend\n");
    const dataset *sets[] = {e};
    calibration_options o = {.samples = 1, .seq_len = 2, .leak_check = sets, .n_leak_check = 1};
    calibration c = make_ok(d, &o);
    ck_assert_int_eq(c.left_out, 1);
    calibration_free(&c);
    dataset_close(e);

    const dataset *self[] = {d};
    o.leak_check = self;
    sqz_error err = {0};
    ck_assert_int_eq(calibration_make(d, tok, &o, &c, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "2 rows left out"));
    dataset_close(d);
}
END_TEST

/* Every calibration row whose text or question is evaluated is found: compared with a slow search.
 */
START_TEST(test_leak_bundled)
{
    dataset *d = open_ok(EXAMPLE "/data/calib.jsonl"),
            *e = open_ok(EXAMPLE "/data/facts_test.jsonl");
    const dataset *sets[] = {e};
    int64_t want = 0;
    for (int64_t i = 0; i < d->rows.n_rows; i++) {
        const char *text = d->rows.text(&d->rows, i, "text");
        int leak = 0;
        for (int64_t k = 0; k < e->rows.n_rows && !leak; k++) {
            char *head =
                path_format("Question: %s\nAnswer:", e->rows.text(&e->rows, k, "question"));
            leak = !strncmp(text, head, strlen(head));
            free(head);
        }
        want += leak;
    }
    calibration_options o = {.samples = 8, .seq_len = 256, .leak_check = sets, .n_leak_check = 1};
    calibration c = make_ok(d, &o);
    ck_assert_int_gt(want, 0);
    ck_assert_int_eq(c.left_out, want);
    calibration_free(&c);
    dataset_close(d);
    dataset_close(e);
}
END_TEST

START_TEST(test_rendered_rows)
{
    static const char *const rows[] = {
        "{\"question\": \"Who?\", \"answer\": \"me\"}\n",
        "Question: Who?\nAnswer: me",
        "{\"ctx\": \"One\", \"endings\": [\"x\", \"two\"], \"label\": 1}\n",
        "One two",
        "{\"question\": \"Who?\", \"choices\": [\"x\", \"you\"], \"answer\": \"B\"}\n",
        "Question: Who?\nAnswer: you",
        "{\"query\": \"Q:\", \"choices\": [\"x\"], \"gold\": 0}\n",
        "Q: x",
        "{\"context\": \"A b\", \"continuation\": \"c\"}\n",
        "A b c"};
    for (int i = 0; i < 10; i += 2) {
        dataset *d = open_text("r.jsonl", rows[i]);
        int32_t *ids;
        int64_t n;
        sqz_error err = {0};
        ck_assert_int_eq(
            tokenizer_encode(tok, rows[i + 1], (int64_t)strlen(rows[i + 1]), 1, &ids, &n, &err),
            SQZ_OK);
        calibration_options o = {.samples = 1, .seq_len = n};
        calibration c = make_ok(d, &o);
        ck_assert_mem_eq(c.ids, ids, (size_t)n * sizeof *ids);
        calibration_free(&c);
        free(ids);
        dataset_close(d);
    }
    dataset *d = open_text("o.jsonl", "{\"text\": \"a\"}\n"), *other;
    calibration c;
    sqz_error err = {0};
    calibration_options o = {.samples = 1, .seq_len = 256};
    ck_assert_int_eq(calibration_make(d, tok, &o, &c, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "--seq-len"));
    o.samples = 0;
    ck_assert_int_eq(calibration_make(d, tok, &o, &c, &err), ERR_USAGE);
    dataset_close(d);
    other = open_text("p.jsonl", "{\"foo\": \"a\"}\n");
    o.samples = 1;
    ck_assert_int_eq(calibration_make(other, tok, &o, &c, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "p.jsonl:1: "));
    dataset_close(other);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data");
    TCase *c = tcase_create("data");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_window_count);
    tcase_add_test(c, test_kinds);
    tcase_add_test(c, test_fields);
    tcase_add_test(c, test_shapes);
    tcase_add_test(c, test_malformed);
    tcase_add_test(c, test_names);
    tcase_add_test(c, test_framing);
    tcase_add_test(c, test_missing_bos);
    tcase_add_test(c, test_zero_bytes);
    tcase_add_test(c, test_calibration_windows);
    tcase_add_test(c, test_leak_check);
    tcase_add_test(c, test_leak_lines);
    tcase_add_test(c, test_leak_bundled);
    tcase_add_test(c, test_rendered_rows);
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
