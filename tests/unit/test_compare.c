/* test_compare.c - repetition loops, surprise, criteria and pages, on cases made by hand. */
#include "compare/compare.h"
#include "compare/criteria.h"
#include "compare/degenerate.h"
#include "io/file.h"
#include "paired/paired.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- loops ----------------------------------------------------------------------------------- */
START_TEST(loops_are_found)
{
    int32_t ids[200];
    repetition r;
    for (int period = 1; period <= 40; period += 3) { /* an own beginning, then turns to the end */
        for (int i = 0; i < 20; i++) ids[i] = 1000 + i;
        for (int i = 20; i < 200; i++) ids[i] = (i - 20) % period;
        ck_assert_msg(repetition_find(ids, 200, &r), "period %d", period);
        ck_assert_int_eq(r.period, period);
        ck_assert_int_eq(r.tokens, 180);
        ck_assert_double_gt(r.repeated, 0.5);
    }
    /* in the middle */
    for (int i = 0; i < 200; i++) ids[i] = i < 60 || i >= 100 ? 500 + i : i % 5;
    ck_assert(repetition_find(ids, 200, &r));
    ck_assert_int_eq(r.period, 5);
    ck_assert_int_eq(r.tokens, 40);
}
END_TEST

START_TEST(text_is_no_loop)
{
    int32_t ids[300];
    uint64_t state = 5;
    repetition r;
    for (int i = 0; i < 300; i++) ids[i] = (int32_t)(random_next(&state) % 20);
    ck_assert(!repetition_find(ids, 300, &r));
    for (int i = 0; i < 300; i++) ids[i] = i % 90; /* a refrain, not a loop of phrases */
    ck_assert(!repetition_find(ids, 300, &r));
    static const int32_t three[] = {7, 8, 9, 7, 8, 9, 7, 8, 9, 1, 2, 3}; /* said three times */
    ck_assert(!repetition_find(three, 12, &r));
    static const int32_t dots[] = {4, 4, 4, 4, 4, 4, 4, 4}; /* an ellipsis */
    ck_assert(!repetition_find(dots, 8, &r));
    ck_assert(!repetition_find(dots, 0, &r));
    ck_assert_double_eq(r.repeated, 0);
    const int32_t *texts[] = {three, dots};
    static const int64_t lengths[] = {12, 8};
    /* 7 8, 8 9, 9 7, 9 1, 1 2, 2 3 and 4 4, of 11 + 7 */
    ck_assert_double_eq_tol(distinct_pairs(texts, lengths, 2), 7.0 / 18, 1e-12);
    ck_assert(isnan(distinct_pairs(texts, lengths, 0)));
}
END_TEST

/* Mean 2, squares 2.5. */
START_TEST(limits_of_surprise)
{
    static const double five[] = {1, 1.5, 2, 2.5, 3};
    double sd = sqrt(2.5 / 4);
    ck_assert_double_eq_tol(surprise_limit(five, 5), 2 + 3.090232306 * sd * sqrt(1.2), 1e-8);
    ck_assert(isinf(surprise_limit(five, 3)));
}
END_TEST

/* ---- generations ----------------------------------------------------------------------------- */
static const char *const base_json =
    "[{\"prompt\":\"p\",\"ids\":[1,2,3,4,5,6,7,8,9],\"text\":\"caf\u00e9 "
    "now\",\"loss\":0.1,\"worst\":0.2},"
    "{\"prompt\":\"<b>\",\"ids\":[1,2],\"text\":\"same\",\"loss\":0.1,\"worst\":0.1},"
    "{\"prompt\":\"r\",\"ids\":[3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3],\"text\":\"x\",\"loss\":0.1,"
    "\"worst\":0.1}]";
static const char *const model_json =
    "[{\"prompt\":\"p\",\"ids\":[1,2,3,4,5,6,7,8,8],\"text\":\"caf\u00e8 <now>\"},"
    "{\"prompt\":\"<b>\",\"ids\":[1,2],\"text\":\"same\"},"
    "{\"prompt\":\"r\",\"ids\":[],\"text\":\"\"}]";

START_TEST(generations_side_by_side)
{
    cJSON *base = cJSON_Parse(base_json), *model = cJSON_Parse(model_json);
    cJSON *scored = cJSON_Parse("[{\"loss\":3,\"worst\":9},{\"loss\":3,\"worst\":9},{}]");
    cJSON *samples = cJSON_Parse("[{\"loss\":1,\"worst\":2},{\"loss\":1.5,\"worst\":2},"
                                 "{\"loss\":1,\"worst\":2.5},{\"loss\":0.9,\"worst\":2}]");
    cJSON *g = compare_generations(base, model, scored, samples);
    ck_assert_int_eq(json_int(g, "n", 0), 3);
    ck_assert_int_eq(json_int(g, "same", 0), 1);
    ck_assert_int_eq(json_int(g, "new_failures", 0), 2);
    /* the base's own loop is no failure of the model; two tokens are no text */
    ck_assert_int_eq(json_int(json_get(g, "loop"), "base", 0), 1);
    ck_assert_int_eq(json_int(json_get(g, "loop"), "new", 9), 0);
    ck_assert_int_eq(json_int(json_get(g, "incoherent"), "new", 0), 1);
    ck_assert_int_eq(json_int(json_get(g, "empty"), "new", 0), 1);
    const cJSON *first = cJSON_GetArrayItem(json_get(g, "pairs"), 0);
    ck_assert_int_eq(json_int(first, "first_difference", 0), 8);
    ck_assert_int_eq(json_int(first, "common_bytes", 0), 3); /* not inside of é */
    cJSON *none = compare_generations(base, model, NULL, NULL);
    ck_assert_int_eq(json_int(json_get(none, "incoherent"), "model", 9), 0);
    cJSON_Delete(none);

    cJSON *page = cJSON_Parse("{\"base\":\"a\",\"model\":\"<script>\",\"comparisons\":{\"<s>\":{"
                              "\"summary\":\"one | sentence\",\"differ\":[{\"i\":1,\"change\":"
                              "\"lost\",\"base_answer\":\"<i>|\",\"model_answer\":\"\"}]}}}");
    cJSON_AddItemToObject(page, "generations", g);
    char *html = compare_html(page), *md = compare_markdown(page);
    ck_assert_ptr_nonnull(strstr(html, "<mark>\u00e8 &lt;now&gt;</mark>"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;script&gt;"));
    ck_assert(!strstr(html, "<script") && !strstr(html, "<i>") && !strstr(html, "<s>"));
    ck_assert_ptr_nonnull(strstr(html, "one | sentence"));
    ck_assert_ptr_nonnull(strstr(md, "one \\| sentence"));
    ck_assert(!strstr(md, "<i>") && strstr(md, "&lt;i&gt;\\|"));
    free(html);
    free(md);
    cJSON_Delete(page);
    cJSON_Delete(base);
    cJSON_Delete(model);
    cJSON_Delete(scored);
    cJSON_Delete(samples);
}
END_TEST

/* ---- criteria -------------------------------------------------------------------------------- */
static const char *verdict(const char *preset, const char *bits, const char *name, double value,
                           double low, double high)
{
    static char out[32];
    cJSON *p = cJSON_Parse(preset);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(criteria_check(p, "test", NULL), SQZ_OK);
    criteria k = {p, bits, cJSON_CreateArray(), 0};
    criteria_judge(&k, name, NULL, (criterion_value){value, low, high});
    snprintf(out, sizeof out, "%s", json_str(k.list->child, "verdict", ""));
    ck_assert_int_eq(k.failed, !strcmp(out, "fail"));
    cJSON_Delete(k.list);
    cJSON_Delete(p);
    return out;
}

START_TEST(verdicts)
{
    static const char *const limits =
        "{\"criteria\":{\"accuracy_drop\":{\"most\":0.02},\"smaller\":{"
        "\"least\":{\"4\":3.5,\"8\":1.8}},\"memory\":{}}}";
    static const char *const whole =
        "{\"certainty\":\"interval\",\"criteria\":{\"accuracy_drop\":{\"most\":0.02}}}";
    ck_assert_str_eq(verdict(limits, "4", "accuracy_drop", 0.02, -1, 1), "pass");
    ck_assert_str_eq(verdict(limits, "4", "accuracy_drop", 0.021, -1, 1), "fail");
    ck_assert_str_eq(verdict(limits, "4", "accuracy_drop", NAN, NAN, NAN), "not measured");
    ck_assert_str_eq(verdict(whole, "4", "accuracy_drop", 0.01, -0.01, 0.03), "fail");
    ck_assert_str_eq(verdict(whole, "4", "accuracy_drop", 0.01, 0.005, 0.015), "pass");
    ck_assert_str_eq(verdict(whole, "4", "accuracy_drop", 0.01, NAN, NAN), "pass");
    ck_assert_str_eq(verdict(limits, "4", "smaller", 3.4, NAN, NAN), "fail");
    ck_assert_str_eq(verdict(limits, "8", "smaller", 3.4, NAN, NAN), "pass");
    ck_assert_str_eq(verdict(limits, "", "smaller", 1, NAN, NAN), "told");
    ck_assert_str_eq(verdict(limits, "4", "memory", 1, NAN, NAN), "told");
    ck_assert_str_eq(verdict(limits, "4", "loops", 1, NAN, NAN), "told");
}
END_TEST

/* The shipped presets name every criterion, and nothing else. */
START_TEST(shipped_presets)
{
    static const char *const files[] = {"strict", "lenient"};
    for (int i = 0; i < 2; i++) {
        char *path = path_format("%s/configs/acceptance/%s.json", SQZ_SOURCE_DIR, files[i]);
        json_doc *doc;
        sqz_error err = {0};
        const char *meaning;
        ck_assert_int_eq(json_read(path, 1 << 20, JSON_COMMENTS, &doc, &err), SQZ_OK);
        ck_assert_msg(!criteria_check(json_root(doc), path, &err), "%s", err.text);
        for (int k = 0; criterion_name(k, &meaning); k++)
            ck_assert_msg(json_get(json_get(json_root(doc), "criteria"), criterion_name(k, NULL)) &&
                              *meaning,
                          "%s: %s", path, criterion_name(k, NULL));
        json_free(doc);
        free(path);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("compare");
    TCase *t = tcase_create("compare");
    tcase_add_test(t, loops_are_found);
    tcase_add_test(t, text_is_no_loop);
    tcase_add_test(t, limits_of_surprise);
    tcase_add_test(t, generations_side_by_side);
    tcase_add_test(t, verdicts);
    tcase_add_test(t, shipped_presets);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
