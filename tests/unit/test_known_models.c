/* test_known_models.c - the shipped tables: every known shape against its published total, look-up
 * by name, the user's own files, what is recommended. */
#include "cli/known_models.h"
#include "io/file.h"
#include "model/model.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TABLE SQZ_SOURCE_DIR "/configs/models.json"

static char folder[] = "/tmp/test_known_models_XXXXXX";

/* The published totals count what the checkpoint stores, so an error in any dimension shows. */
START_TEST(shapes_give_the_published_totals)
{
    json_doc *doc;
    int n = 0;
    ck_assert_int_eq(json_read(TABLE, 16 << 20, 0, &doc, NULL), SQZ_OK);
    const cJSON *model;
    cJSON_ArrayForEach(model, json_get(json_root(doc), "models"))
    {
        const char *name = json_str(model, "name", "");
        char *text = json_text(json_get(model, "config"), 0);
        model_config c;
        sqz_error err = {0};
        ck_assert_msg(!model_config_parse(text, name, &c, &err), "%s: %s", name, err.text);
        double published = json_num(model, "parameters", 0),
               ours = (double)model_parameters(&c, NULL);
        ck_assert_msg(fabs(ours / published - 1) < 1e-4, "%s: shape %.0f, published %.0f", name,
                      ours, published);
        model_config_free(&c);
        free(text);
        n++;
    }
    ck_assert_int_ge(n, 40);
    json_free(doc);
}
END_TEST

START_TEST(every_name_is_found_and_is_one_models)
{
    json_doc *doc;
    ck_assert_int_eq(json_read(TABLE, 16 << 20, 0, &doc, NULL), SQZ_OK);
    const cJSON *model, *alias;
    cJSON_ArrayForEach(model, json_get(json_root(doc), "models"))
    {
        known_model k;
        const char *name = json_str(model, "name", "");
        ck_assert_int_eq(known_model_find(name, &k, NULL), SQZ_OK);
        ck_assert_str_eq(k.name, name);
        ck_assert_ptr_nonnull(k.config);
        free(k.config);
        cJSON_ArrayForEach(alias, json_get(model, "aliases"))
        {
            ck_assert_int_eq(known_model_find(alias->valuestring, &k, NULL), SQZ_OK);
            ck_assert_str_eq(k.name, name);
            free(k.config);
        }
    }
    json_free(doc);
}
END_TEST

START_TEST(names_in_any_case_and_siblings)
{
    static const struct {
        const char *word, *name;
    } cases[] = {{"GPT2", "openai-community/gpt2"},
                 {"qwen/QWEN2.5-7b", "Qwen/Qwen2.5-7B"},
                 {"Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B"},
                 {"llama-2-7b", "meta-llama/Llama-2-7b-hf"}};
    known_model k;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(known_model_find(cases[i].word, &k, NULL), SQZ_OK);
        ck_assert_ptr_nonnull(k.config);
        ck_assert_str_eq(k.name, cases[i].name);
        free(k.config);
    }
    ck_assert_int_eq(known_model_find("other/Qwen2.5-7B-Instruct", &k, NULL), SQZ_OK);
    ck_assert_ptr_null(k.config);
    ck_assert_int_eq(known_model_find("qwen2.5-7c", &k, NULL), SQZ_OK);
    ck_assert_ptr_null(k.config);
    ck_assert_str_eq(k.name, "Qwen2.5-7B");
}
END_TEST

static void write_own(const char *file, const char *text)
{
    char *path = path_format("%s/sqz/%s", folder, file);
    ck_assert_int_eq(file_write(path, text, (int64_t)strlen(text), NULL), SQZ_OK);
    free(path);
}

START_TEST(own_files_go_first)
{
    known_model k;
    write_own("models.json",
              "{\"models\": [{\"name\": \"me/gpt2\", \"config\": {\"model_type\": \"gpt2\", "
              "\"n_layer\": 1}}, {\"name\": \"me/none\"}]}");
    ck_assert_int_eq(known_model_find("gpt2", &k, NULL), SQZ_OK);
    ck_assert_str_eq(k.name, "me/gpt2");
    free(k.config);
    ck_assert_int_eq(known_model_find("gpt2-xl", &k, NULL), SQZ_OK);
    ck_assert_str_eq(k.name, "openai-community/gpt2-xl");
    free(k.config);
    sqz_error err = {0};
    ck_assert_int_eq(known_model_find("me/none", &k, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "no object \"config\""));
    write_own("models.json", "{\"models\": [");
    ck_assert_int_eq(known_model_find("gpt2", &k, &err), ERR_USAGE);

    recommendation r;
    write_own("recommendations.json", "{\"hardware\": [{\"name\": \"mine\", \"device\": \"cpu\", "
                                      "\"memory_bytes\": 100}], \"strategies\": []}");
    ck_assert_int_eq(recommendation_open(&r, NULL), SQZ_OK);
    ck_assert_str_eq(recommend_hardware(&r, "cpu", 100), "mine");
    ck_assert_ptr_null(recommend_hardware(&r, "cpu", 101));
    ck_assert_ptr_null(recommend_strategy(&r, "cpu", 1));
    recommendation_close(&r);
    write_own("recommendations.json", "{\"usable_fraction\": 0}");
    ck_assert_int_eq(recommendation_open(&r, &err), ERR_USAGE);
}
END_TEST

START_TEST(recommends_by_size_and_device)
{
    recommendation r;
    ck_assert_int_eq(recommendation_open(&r, NULL), SQZ_OK);
    ck_assert_int_eq(json_int(recommend_strategy(&r, "cpu", 5e8), "bits", 0), 8);
    ck_assert_int_eq(json_int(recommend_strategy(&r, "edge", 5e8), "bits", 0), 4);
    ck_assert_ptr_nonnull(
        strstr(json_str(recommend_strategy(&r, "gpu", 1e11), "text", ""), "mixed"));
    ck_assert_ptr_nonnull(
        strstr(json_str(recommend_strategy(&r, "gpu", 65e9), "text", ""), "sharded"));
    /* 0.9 of 24 GB is 21.6 GB */
    ck_assert_ptr_nonnull(strstr(recommend_hardware(&r, "gpu", 21e9), "24 GB"));
    ck_assert_ptr_nonnull(strstr(recommend_hardware(&r, "gpu", 22e9), "48 GB"));
    ck_assert_ptr_null(recommend_hardware(&r, "gpu", 1e15));
    recommendation_close(&r);
}
END_TEST

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    char *own = path_format("%s/sqz", folder);
    ck_assert_int_eq(mkdir(own, 0700), 0);
    free(own);
    setenv("XDG_CONFIG_HOME", folder, 1);
}

static void teardown(void)
{
    char *own = path_format("%s/sqz/models.json", folder);
    remove(own);
    free(own);
    own = path_format("%s/sqz/recommendations.json", folder);
    remove(own);
    free(own);
    own = path_format("%s/sqz", folder);
    remove(own);
    free(own);
    remove(folder);
    strcpy(folder + sizeof folder - 7, "XXXXXX");
}

int main(void)
{
    Suite *s = suite_create("known_models");
    TCase *t = tcase_create("tables");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, shapes_give_the_published_totals);
    tcase_add_test(t, every_name_is_found_and_is_one_models);
    tcase_add_test(t, names_in_any_case_and_siblings);
    tcase_add_test(t, own_files_go_first);
    tcase_add_test(t, recommends_by_size_and_device);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
