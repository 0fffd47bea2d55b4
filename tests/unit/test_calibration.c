/* test_calibration.c - mixes, packing, token counts and overlap, on rows whose tokens are known
 * from the tokenizer itself. */
#include "data/data.h"
#include "data/documents.h"
#include "data/overlap.h"
#include "scratch.h"
#include <string.h>

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"

static tokenizer *tok;

static void setup(void)
{
    sqz_error err = {0};
    scratch_make();
    ck_assert_msg(tokenizer_open(EXAMPLE "/model", &tok, &err) == SQZ_OK, "%s", err.text);
}

static void teardown(void)
{
    tokenizer_free(tok);
    scratch_remove();
}

static dataset *open_text(const char *name, const char *text)
{
    char *path = path_format("%s/%s", scratch, name);
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_msg(file_write(path, text, (int64_t)strlen(text), &err) == SQZ_OK, "%s", err.text);
    ck_assert_msg(dataset_open(path, &d, &err) == SQZ_OK, "%s", err.text);
    free(path);
    return d;
}

static dataset *open_example(const char *name)
{
    char *path = path_format("%s/data/%s", EXAMPLE, name);
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_msg(dataset_open(path, &d, &err) == SQZ_OK, "%s", err.text);
    free(path);
    return d;
}

/* bos, the text's tokens, eos; malloc'd. */
static int32_t *framed(const char *text, int64_t *n)
{
    int32_t *ids, *out;
    ck_assert_int_eq(tokenizer_encode(tok, text, (int64_t)strlen(text), 0, &ids, n, NULL), SQZ_OK);
    out = malloc((size_t)(*n + 2) * sizeof *out);
    out[0] = tokenizer_bos(tok);
    memcpy(out + 1, ids, (size_t)*n * sizeof *out);
    out[*n + 1] = tokenizer_eos(tok);
    *n += 2;
    free(ids);
    return out;
}

static calibration make(const dataset *d, const calibration_options *o)
{
    calibration c = {0};
    sqz_error err = {0};
    ck_assert_msg(calibration_make(d, tok, o, &c, &err) == SQZ_OK, "%s", err.text);
    return c;
}

static const char *const texts[] = {"2 + 3 = 5", "The garden is wet and the rain is cold", "9",
                                    "One day, Ada went to the garden without a coat"};

static dataset *open_texts(void)
{
    return open_text("t.jsonl", "{\"text\": \"2 + 3 = 5\"}\n"
                                "{\"text\": \"The garden is wet and the rain is cold\"}\n"
                                "{\"text\": \"9\"}\n"
                                "{\"text\": \"One day, Ada went to the garden without a coat\"}\n");
}

/* ---- packing -----------------------------------------------------------------------------------
 */

/* Every row is there, whole, once, longest first. */
START_TEST(one_row_a_window)
{
    dataset *d = open_texts();
    calibration_options o = {.samples = 10, .seq_len = 64, .packing = PACK_ROW};
    calibration c = make(d, &o);
    int64_t at = 0, total = 0, found = 0;
    ck_assert_int_eq(c.windows, 4);
    ck_assert_ptr_nonnull(c.lengths);
    for (int64_t w = 0; w < c.windows; w++) {
        ck_assert_int_le(c.lengths[w], w ? c.lengths[w - 1] : c.window);
        for (int i = 0; i < 4; i++) {
            int64_t n;
            int32_t *want = framed(texts[i], &n);
            found += n == c.lengths[w] && !memcmp(want, c.ids + at, (size_t)n * sizeof *want);
            free(want);
        }
        at += c.lengths[w];
    }
    ck_assert_int_eq(found, 4);
    ck_assert_int_eq(calibration_tokens(&c), at);
    calibration_free(&c);
    o.seq_len = 4; /* cut */
    c = make(d, &o);
    for (int64_t w = 0; w < c.windows; w++) total += c.lengths[w];
    ck_assert_int_eq(c.window, 4);
    ck_assert_int_eq(c.lengths[0], 4);
    ck_assert_int_eq(total, calibration_tokens(&c));
    calibration_free(&c);
    dataset_close(d);
}
END_TEST

/* A window is a part of one row; short rows are passed over. */
START_TEST(inside_one_document)
{
    dataset *d = open_texts();
    calibration_options o = {.samples = 10, .seq_len = 8, .packing = PACK_DOCUMENT};
    int64_t long_rows = 0;
    for (int i = 0; i < 4; i++) {
        int64_t n;
        free(framed(texts[i], &n));
        long_rows += n >= 8;
    }
    ck_assert_int_gt(long_rows, 0);
    ck_assert_int_lt(long_rows, 4);
    for (uint64_t seed = 0; seed < 8; seed++) {
        o.shuffle = seed > 0;
        o.seed = seed;
        calibration c = make(d, &o);
        ck_assert_int_eq(c.windows, long_rows);
        ck_assert_int_eq(c.passed_over, 4 - long_rows);
        ck_assert_ptr_null(c.lengths);
        for (int64_t w = 0; w < c.windows; w++) {
            int found = 0;
            for (int i = 0; i < 4; i++) {
                int64_t n;
                int32_t *row = framed(texts[i], &n);
                for (int64_t k = 0; k + 8 <= n; k++)
                    found |= !memcmp(row + k, c.ids + 8 * w, 8 * sizeof *row);
                free(row);
            }
            ck_assert_int_eq(found, 1);
        }
        calibration_free(&c);
    }
    dataset_close(d);
}
END_TEST

START_TEST(token_budget)
{
    dataset *d = open_example("calib.jsonl");
    calibration_options o = {.samples = 1, .seq_len = 128, .tokens = 1000};
    calibration c = make(d, &o);
    ck_assert_int_eq(c.windows, 7); /* 7 * 128 <= 1000 */
    calibration_free(&c);
    o.packing = PACK_ROW;
    c = make(d, &o);
    ck_assert_int_ge(calibration_tokens(&c), 1000);
    ck_assert_int_lt(calibration_tokens(&c), 1000 + 128);
    calibration_free(&c);
    dataset_close(d);
}
END_TEST

/* ---- mixes -------------------------------------------------------------------------------------
 */

START_TEST(shares_by_weight)
{
    dataset *a = open_example("calib.jsonl"), *b = open_example("arith_train.jsonl");
    calibration_options o = {.samples = 20, .seq_len = 32};
    calibration_part parts[] = {{.data = a, .weight = 3}, {.data = b, .weight = 1}};
    calibration c = {0}, only_a = {0}, only_b = {0}, again = {0};
    sqz_error err = {0};
    ck_assert_msg(calibration_mix(parts, 2, tok, &o, &c, &err) == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(c.windows, 20);
    ck_assert_int_eq(parts[0].windows, 15);
    ck_assert_int_eq(parts[1].windows, 5);
    only_a = make(a, &o);
    only_b = make(b, &o);
    int64_t next_a = 0,
            next_b = 0; /* in order, and spread: never more than three of a between two of b */
    for (int64_t w = 0, since = 0; w < 20; w++) {
        size_t bytes = 32 * sizeof *c.ids;
        if (!memcmp(c.ids + 32 * w, only_a.ids + 32 * next_a, bytes))
            next_a++, since++;
        else if (!memcmp(c.ids + 32 * w, only_b.ids + 32 * next_b, bytes))
            next_b++, since = 0;
        ck_assert_int_le(since, 3);
    }
    ck_assert_int_eq(next_a, 15);
    ck_assert_int_eq(next_b, 5);
    ck_assert_int_eq(calibration_mix(parts, 2, tok, &o, &again, &err), SQZ_OK);
    ck_assert_str_eq(again.digest, c.digest);
    parts[0].weight = 1;
    calibration_free(&again);
    ck_assert_int_eq(calibration_mix(parts, 2, tok, &o, &again, &err), SQZ_OK);
    ck_assert_str_ne(again.digest, c.digest);
    parts[0].weight = 100;
    ck_assert_int_eq(calibration_mix(parts, 2, tok, &o, &again, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "none of 20 windows"));
    calibration_free(&again);
    calibration_free(&only_a);
    calibration_free(&only_b);
    calibration_free(&c);
    dataset_close(a);
    dataset_close(b);
}
END_TEST

START_TEST(mix_texts)
{
    mix_spec m = {0};
    sqz_error err = {0};
    ck_assert_int_eq(mix_parse("a.jsonl@2,b=c.csv@0.5,d:train", &m, &err), SQZ_OK);
    ck_assert_int_eq(m.n, 3);
    ck_assert_str_eq(m.specs[0], "a.jsonl");
    ck_assert_double_eq(m.weights[0], 2);
    ck_assert_str_eq(m.specs[1], "b=c.csv");
    ck_assert_double_eq(m.weights[1], 0.5);
    ck_assert_str_eq(m.specs[2], "d:train");
    ck_assert_double_eq(m.weights[2], 1);
    mix_free(&m);
    static const char *const wrong[] = {"", "a,,b", "a@", "a@0", "a@-1", "a@nan", "a@inf", "a@1x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(mix_parse(wrong[i], &m, &err) == ERR_USAGE, "%s", wrong[i]);
    /* a folder that is here, with its split: @ and , behind it are the mix's */
    char *folders = path_format("%s:train@2,x=%s:main:train@3", scratch, scratch);
    ck_assert_int_eq(mix_parse(folders, &m, &err), SQZ_OK);
    ck_assert_int_eq(m.n, 2);
    ck_assert(m.weights[0] == 2 && m.weights[1] == 3);
    ck_assert_str_eq(strchr(m.specs[0], ':'), ":train");
    ck_assert_str_eq(strchr(m.specs[1], ':'), ":main:train");
    mix_free(&m);
    free(folders);
    dataset_close(open_text("odd@2,name.txt", "text")); /* a path may look like a mix */
    char *path = path_format("%s/odd@2,name.txt", scratch);
    ck_assert_int_eq(mix_parse(path, &m, &err), SQZ_OK);
    ck_assert_int_eq(m.n, 1);
    ck_assert_str_eq(m.specs[0], path);
    mix_free(&m);
    free(path);
}
END_TEST

/* ---- overlap -----------------------------------------------------------------------------------
 */

#define THIRTEEN "one two three four five six seven eight nine ten eleven twelve thirteen"

START_TEST(shared_words)
{
    dataset *a =
        open_text("a.jsonl",
                  "{\"text\": \"Start: " THIRTEEN " end.\"}\n"
                  "{\"text\": \"one two three four five six seven eight nine ten eleven twelve\"}\n"
                  "{\"text\": \"alpha  beta\\ngamma\"}\n{\"text\": \"of its own\"}\n");
    dataset *b = open_text(
        "b.jsonl",
        "{\"question\": \"zero ONE, two; three-four five six seven eight nine ten 'eleven' "
        "twelve... Thirteen?\", \"answer\": \"one\"}\n"
        "{\"question\": \"alpha beta gamma \", \"answer\": \"x\"}\n"
        "{\"question\": \"one two three four five six seven\", \"answer\": \"eight nine ten eleven "
        "twelve thirteen\"}\n");
    overlap o;
    const dataset *others[] = {b};
    ck_assert_int_eq(overlap_measure(a, others, 1, &o, NULL), SQZ_OK);
    ck_assert_int_eq(o.a.rows, 4);
    ck_assert_int_eq(o.a.long_rows, 1);
    ck_assert_int_eq(o.a.overlapping_rows, 1);
    ck_assert_int_eq(o.a.runs, 3);
    ck_assert_int_eq(o.a.shared_runs, 1);
    ck_assert_int_eq(o.a.exact_rows, 1);
    ck_assert_int_eq(o.b.rows, 3);
    ck_assert_int_eq(o.b.long_rows, 1); /* a run does not reach from one field into the next */
    ck_assert_int_eq(o.b.overlapping_rows, 1);
    ck_assert_int_eq(o.b.exact_rows, 1);
    int64_t duplicates;
    ck_assert_int_eq(documents_duplicates(a, &duplicates, NULL), SQZ_OK);
    ck_assert_int_eq(duplicates, 0);
    dataset_close(a);
    a = open_text(
        "d.jsonl",
        "{\"text\": \"x y\"}\n{\"text\": \"x  y \"}\n{\"text\": \"x\"}\n{\"text\": \"x y\"}\n");
    ck_assert_int_eq(documents_duplicates(a, &duplicates, NULL), SQZ_OK);
    ck_assert_int_eq(duplicates, 2);
    dataset_close(a);
    dataset_close(b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calibration");
    TCase *t = tcase_create("calibration");
    suite_add_tcase(suite, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, one_row_a_window);
    tcase_add_test(t, inside_one_document);
    tcase_add_test(t, token_budget);
    tcase_add_test(t, shares_by_weight);
    tcase_add_test(t, mix_texts);
    tcase_add_test(t, shared_words);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
