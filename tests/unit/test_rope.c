/* test_rope.c - rotary frequencies bit for bit with transformers' (tests/golden/rope.json, made by
 * make_rope.py): a last digit of one is hundreds of them in the angle of a late position. */
#include "json/json.h"
#include "model/internal.h"
#include <check.h>
#include <stdlib.h>

static void check_case(const cJSON *c)
{
    sqz_error err = {0};
    model m = {0};
    char *config = json_text(json_get(c, "config"), 0);
    ck_assert_msg(model_config_parse(config, "golden", &m.config, &err) == SQZ_OK, "%s", err.text);
    ck_assert_msg(rope_open(&m, &err) == SQZ_OK, "%s", err.text);
    const cJSON *want = json_get(c, "inv_freq"), *f;
    ck_assert_int_eq(cJSON_GetArraySize(want), m.config.rotary / 2);
    int i = 0;
    cJSON_ArrayForEach(f, want)
    {
        float got = m.rope[0].freq[i];
        ck_assert_msg(got == (float)f->valuedouble, "%s: entry %d is %.9g, not %.9g", config, i,
                      (double)got, f->valuedouble);
        i++;
    }
    rope_close(&m);
    model_config_free(&m.config);
    free(config);
}

START_TEST(frequencies_of_transformers)
{
    sqz_error err = {0};
    json_doc *doc = NULL;
    sqz_status st = json_read(SQZ_SOURCE_DIR "/tests/golden/rope.json", 1 << 20, 0, &doc, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    const cJSON *c;
    ck_assert_int_ge(cJSON_GetArraySize(json_root(doc)), 6);
    cJSON_ArrayForEach(c, json_root(doc)) check_case(c);
    json_free(doc);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rope");
    TCase *t = tcase_create("rope");
    tcase_add_test(t, frequencies_of_transformers);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
