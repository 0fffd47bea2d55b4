/* test_config.c - pipeline.json: the shipped schema is the table, messages name line and column,
 * shorthand and --set give what the long form gives.
 *
 * SQZ_WRITE_SCHEMA=1 rewrites configs/schema/pipeline.schema.json from the table instead of
 * comparing. */
#include "config/keys.h"
#include "io/file.h"
#include "config/config.h"
#include "io/file.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static config *parse(const char *text, const config_override *o, int n, sqz_error *err)
{
    config *c = NULL;
    sqz_error e = {0};
    sqz_status s =
        config_parse(text, (int64_t)strlen(text), "p.json", "/nowhere", o, n, &c, err ? err : &e);
    if (!err) ck_assert_msg(s == SQZ_OK, "%s", e.text);
    return s ? NULL : c;
}

static void refused(const char *text, const char *set, const char *expected)
{
    sqz_error err = {0};
    config_override o = {set, NULL};
    config *c = parse(text, &o, set ? 1 : 0, &err);
    ck_assert_msg(!c, "accepted: %s %s", text, set ? set : "");
    ck_assert_int_eq(err.code, ERR_USAGE);
    ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" lacks \"%s\"", err.text, expected);
}

#define MIN "{\"model\":\"m\",\"dataset\":\"d.jsonl\"}"

START_TEST(schema_is_shipped)
{
    cJSON *schema = config_schema();
    char *text = json_text(schema, 1), *have = NULL;
    const char *path = SQZ_SOURCE_DIR "/configs/schema/pipeline.schema.json";
    int64_t bytes = 0;
    sqz_error err;
    if (getenv("SQZ_WRITE_SCHEMA")) ck_assert_int_eq(file_printf(path, &err, "%s\n", text), SQZ_OK);
    ck_assert_msg(!file_read(path, 1 << 20, &have, &bytes, &err), "%s", err.text);
    cJSON *shipped = cJSON_Parse(have);
    ck_assert_msg(cJSON_Compare(schema, shipped, 1),
                  "the schema file differs from the table: run with SQZ_WRITE_SCHEMA=1");
    cJSON_Delete(shipped);
    cJSON_Delete(schema);
    free(text);
    free(have);
}
END_TEST

START_TEST(defaults_are_visible)
{
    config *c = parse(MIN, NULL, 0, NULL);
    ck_assert_int_eq(c->n_datasets, 1);
    ck_assert_str_eq(c->datasets[0].name, "d");
    ck_assert_int_eq(c->n_objectives, 2);
    ck_assert_str_eq(c->objectives[1], "bytes");
    ck_assert(isnan(c->max_accuracy_drop) && isnan(c->budget_wall_s));
    ck_assert_double_eq(c->weights[1], 0.3);
    ck_assert_str_eq(json_str(json_get(c->full, "hardware"), "compute", ""), "auto");
    ck_assert(cJSON_IsNull(json_get(json_get(c->full, "budget"), "trials")));
    ck_assert_int_eq(json_int(c->proxy, "kl_tokens", 0), 8192);
    /* the full form is itself a config that says the same: resume reads it back */
    char *text = json_text(c->full, 0);
    config *again = parse(text, NULL, 0, NULL);
    ck_assert(cJSON_Compare(again->full, c->full, 1));
    free(text);
    config_free(again);
    config_free(c);
}
END_TEST

/* Folders of plugins are relative to the file, those of the command line to the working directory.
 */
START_TEST(plugin_paths_are_resolved)
{
    const char *text =
        "{\"model\":\"m\",\"dataset\":\"d\",\"plugins\":{\"path\":[\"unit\",\"/x\"]}}";
    const config_override o[] = {{"plugins.path=.", "--set"}, {"plugins.path[0]=.", "--set"}};
    sqz_error err = {0};
    char *here = realpath(".", NULL);
    for (int i = 0; i < 3; i++) {
        config *c = NULL;
        ck_assert_msg(!config_parse(text, (int64_t)strlen(text), "test", SQZ_SOURCE_DIR "/tests",
                                    i ? &o[i - 1] : NULL, i > 0, &c, &err),
                      "%s", err.text);
        ck_assert_str_eq(c->plugin_paths[0], i ? here : SQZ_SOURCE_DIR "/tests/unit");
        if (i != 1) ck_assert_str_eq(c->plugin_paths[1], "/x");
        config_free(c);
    }
    free(here);
}
END_TEST

START_TEST(short_and_long_forms_agree)
{
    config *a =
        parse("// a comment\n{\"model\":\"m\",\"dataset\":[\"a.jsonl\",{\"source\":\"N=b.jsonl\","
              "\"limit\":7,}],\"budget\":\"1h30m\",\"steps\":\"gptq\",\"search\":\"nsga2\","
              "\"constraints\":{\"max_vram\":\"8GB\"},\"weights\":{\"\xce\xb1\":2},\"x-me\":1}",
              NULL, 0, NULL);
    config *b =
        parse("{\"model\":{\"source\":\"m\"},\"dataset\":[{\"source\":\"a.jsonl\"},"
              "{\"source\":\"N=b.jsonl\",\"limit\":7}],\"budget\":{\"wall\":5400},"
              "\"steps\":[{\"use\":\"gptq\",\"with\":{}}],\"search\":{\"use\":\"nsga2\"},"
              "\"constraints\":{\"max_vram\":8000000000},\"weights\":{\"alpha\":2},\"x-me\":1}",
              NULL, 0, NULL);
    ck_assert(cJSON_Compare(a->full, b->full, 1));
    ck_assert_str_eq(a->datasets[1].name, "N");
    ck_assert_int_eq(a->datasets[1].limit, 7);
    ck_assert_double_eq(a->budget_wall_s, 5400);
    ck_assert_double_eq(a->max_vram, 8e9);
    ck_assert_double_eq(a->weights[0], 2);
    config_free(a);
    config_free(b);
}
END_TEST

START_TEST(messages_name_the_place)
{
    refused("{\"model\":\"m\",\n  \"dataset\":\"d\",\n  \"budgte\":{}}", NULL, "p.json:3:3");
    refused("{\"model\":\"m\",\n  \"dataset\":\"d\",\n  \"budgte\":{}}", NULL, "mean \"budget\"");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\n\"budget\":{\"trials\":0}}", NULL,
            "budget.trials: is 0, must be at least 1");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\n\"budget\":{\"trials\":1.5}}", NULL, "integer");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\"budget\":\"soon\"}", NULL, "");
    refused("{\"model\":\"m\",\"dataset\":[{\"source\":\"d\",\"limt\":3}]}", NULL,
            "dataset[0]: unknown key \"limt\"; did you mean \"limit\"?");
    refused("{\"model\":\"m\",\"dataset\":[]}", NULL, "at least 1");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\"objectives\":[\"qualty\"]}", NULL, "quality");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\"objectives\":[\"bytes\",\"bytes\"]}", NULL,
            "twice");
    refused("{\"model\":\"m\",\"dataset\":\"d\",\"constraints\":{\"max_vram\":\"8 bananas\"}}",
            NULL, "no size");
    refused("{\"model\":\"m\",\"dataset\":[\"a/d.jsonl\",\"b/d.jsonl\"]}", NULL, "NAME=FILE");
    refused("{\"model\":\"m\"}", NULL, "\"dataset\" is missing");
    refused("{\"model\":7,\"dataset\":\"d\"}", NULL, "string or object");
    refused("{\"model\":\"m\",\"model\":\"n\",\"dataset\":\"d\"}", NULL, "duplicate");
    refused("[1]", NULL, "no JSON object");
    refused("{\"model\":\"m\",\"dataset\":\"d\"", NULL, "p.json:1:");
}
END_TEST

START_TEST(overrides_are_typed)
{
    config_override o[] = {{"budget.trials=20", "--set"},
                           {"budget=2h", "--budget"},
                           {"dataset.limit=9", "--set"},
                           {"steps=[{\"use\":\"rtn\"}]", "--set"},
                           {"steps[0].with.bits=4", "--set"},
                           {"steps[0].with.order=static", "--set"},
                           {"objectives=quality,memory,tpot", "--set"},
                           {"constraints.max_bytes=1.5MB", "--set"},
                           {"eval.proxy.enabled=false", "--set"},
                           {"~eval.proxy.limit", "--set"},
                           {"seed=7", "--seed"},
                           {"output=7", "--output"}};
    config *c = parse(MIN, o, (int)(sizeof o / sizeof o[0]), NULL);
    ck_assert_int_eq(c->budget_trials, 0); /* --budget 2h replaced the whole object */
    ck_assert_double_eq(c->budget_wall_s, 7200);
    ck_assert_int_eq(c->datasets[0].limit, 9);
    const cJSON *with = json_get(cJSON_GetArrayItem(c->steps, 0), "with");
    ck_assert_int_eq(json_int(with, "bits", 0), 4);
    ck_assert_str_eq(json_str(with, "order", ""), "static");
    ck_assert_int_eq(c->n_objectives, 3);
    ck_assert_double_eq(c->max_bytes, 1.5e6);
    ck_assert(!json_bool(c->proxy, "enabled", 1));
    ck_assert_int_eq(json_int(c->proxy, "limit", 0), 64);
    ck_assert_int_eq(c->seed, 7);
    ck_assert_str_eq(c->output, "7");
    char *origin = config_origin(c, "budget.wall");
    ck_assert_str_eq(origin, "--budget");
    free(origin);
    origin = config_origin(c, "model.source");
    ck_assert_str_eq(origin, "p.json:1:2");
    free(origin);
    origin = config_origin(c, "eval.window");
    ck_assert_str_eq(origin, "default");
    free(origin);
    config_free(c);

    config_override flags[] = {{"model=m", "--model"}, {"dataset=a.jsonl,b.jsonl", "--dataset"}};
    c = NULL;
    sqz_error err = {0};
    ck_assert_msg(!config_load(NULL, flags, 2, &c, &err), "%s", err.text);
    ck_assert_int_eq(c->n_datasets, 2);
    config_free(c);
    ck_assert_int_eq(config_load(NULL, flags, 1, &c, &err), ERR_USAGE);
    ck_assert(strstr(err.text, "--dataset") != NULL);
}
END_TEST

START_TEST(bad_overrides_are_refused)
{
    refused(MIN, "budget.trails=3", "did you mean \"trials\"?");
    refused(MIN, "budget.trials=many", "whole number");
    refused(MIN, "budget.trials=0", "at least 1");
    refused(MIN, "dataset[3].limit=3", "has 1 elements");
    refused(MIN, "steps.with.bits=3", "empty");
    refused(MIN, "seed", "key=value");
    refused(MIN, "=3", "key=value");
    refused(MIN, "a..b=3", "key=value");
    refused(MIN, "~model", "required");
    refused(MIN, "eval.proxy.enabled=maybe", "true or false");
    refused(MIN, "hardware.compute=fp8", "fp32");
    refused(MIN, "seed.x=3", "");
}
END_TEST

START_TEST(paths_are_of_the_file)
{
    sqz_error err = {0};
    config *c = NULL;
    ck_assert_msg(
        !config_load(SQZ_SOURCE_DIR "/configs/pipelines/quickstart.json", NULL, 0, &c, &err), "%s",
        err.text);
    ck_assert_msg(path_exists(c->model), "%s", c->model);
    ck_assert_int_eq(c->n_datasets, 4);
    for (int i = 0; i < c->n_datasets; i++)
        ck_assert_msg(path_exists(c->datasets[i].source), "%s", c->datasets[i].source);
    ck_assert(path_exists(c->calibration));
    config_free(c);
}
END_TEST

START_TEST(sizes_and_durations)
{
    double x;
    ck_assert(config_parse_bytes("8GB", &x) && x == 8e9);
    ck_assert(config_parse_bytes("512MiB", &x) && x == 512.0 * 1048576);
    ck_assert(config_parse_bytes("1.5 kb", &x) && x == 1500);
    ck_assert(config_parse_bytes("1e9", &x) && x == 1e9);
    ck_assert(!config_parse_bytes("8 apples", &x) && !config_parse_bytes("", &x));
    ck_assert(!config_parse_bytes("-1", &x) && !config_parse_bytes("nan", &x));
    ck_assert(!config_parse_bytes("0x10", &x) && !config_parse_bytes("1e300", &x));
    ck_assert(config_parse_seconds("90", &x) && x == 90);
    ck_assert(config_parse_seconds("1h30m", &x) && x == 5400);
    ck_assert(config_parse_seconds("20ms", &x) && fabs(x - 0.02) < 1e-15);
    ck_assert(config_parse_seconds("2d 1s", &x) && x == 172801);
    ck_assert(!config_parse_seconds("1h30", &x) && !config_parse_seconds("soon", &x));
    ck_assert(!config_parse_seconds("", &x) && !config_parse_seconds("1y", &x));
}
END_TEST

START_TEST(every_key_is_documented)
{
    char *page;
    int64_t bytes;
    ck_assert_int_eq(file_read(SQZ_SOURCE_DIR "/docs/config.md", 1 << 20, &page, &bytes, NULL),
                     SQZ_OK);
    for (int i = 0; i < config_n_keys; i++) {
        char *cell = path_format("| `%s` |", config_keys[i].path);
        ck_assert_msg(strstr(page, cell) != NULL, "docs/config.md lacks %s", config_keys[i].path);
        free(cell);
    }
    free(page);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_test(t, schema_is_shipped);
    tcase_add_test(t, defaults_are_visible);
    tcase_add_test(t, plugin_paths_are_resolved);
    tcase_add_test(t, short_and_long_forms_agree);
    tcase_add_test(t, messages_name_the_place);
    tcase_add_test(t, overrides_are_typed);
    tcase_add_test(t, bad_overrides_are_refused);
    tcase_add_test(t, paths_are_of_the_file);
    tcase_add_test(t, sizes_and_durations);
    tcase_add_test(t, every_key_is_documented);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
