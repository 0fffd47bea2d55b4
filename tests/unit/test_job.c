/* test_job.c - the tasks of a job on the bundled model, in this process: statistics computed once
 * and shared, steps reused by key, rules, evaluation, export with load-back, refusals. */
#include "io/file.h"
#include "registry.h"
#include "worker/subject.h"
#include "worker/worker.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"

static char store[256];

/* Counts of log lines: what was computed or reused, rules that met nothing. */
typedef struct counts {
    int computed, reused, steps_reused, again, idle;
} counts;

static void count_log(void *ctx, int level, const char *text)
{
    counts *c = ctx;
    (void)level;
    c->computed += strstr(text, "statistics computed") != NULL;
    c->reused += strstr(text, "statistics reused") != NULL;
    c->steps_reused += strstr(text, "done before") != NULL;
    c->again += strstr(text, "is done again") != NULL;
    c->idle += strstr(text, "\"*.down_porj\" matches no linear") != NULL;
}

static cJSON *run_job(const char *tasks, counts *c, sqz_status *status, sqz_error *err)
{
    char *text = path_format(
        "{\"schema\":\"sqz.job/1\",\"job\":\"test\",\"store\":\"%s\",\"threads\":2,\"seed\":7,"
        "\"plugins\":{\"path\":[\"" SQZ_PLUGIN_DIR "\"]},\"model\":\"" EXAMPLE "/model\","
        "\"compute\":\"auto\",\"tasks\":%s}",
        store, tasks);
    cJSON *job = cJSON_Parse(text), *result = NULL;
    ck_assert_msg(job != NULL, "test job is no JSON: %s", text);
    job_context ctx = {.log = count_log, .ctx = c};
    *status = job_execute(job, &ctx, &result, err);
    cJSON_Delete(job);
    free(text);
    return result;
}

static cJSON *task_of(const cJSON *result, int i)
{
    return cJSON_GetArrayItem(json_get(result, "tasks"), i);
}

#define CALIBRATION                                                                                \
    "\"calibration\":{\"source\":\"" EXAMPLE "/data/calib.jsonl\",\"samples\":16,\"seq_len\":128}"
#define STEPS(use, with, rules)                                                                    \
    "[{\"task\":\"steps\"," CALIBRATION ",\"steps\":[{\"use\":\"" use "\",\"with\":" with          \
    ",\"rules\":" rules "}]}]"

START_TEST(statistics_are_computed_once)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    static const char *const withs[] = {"{\"bits\":4}", "{\"bits\":3}",
                                        "{\"bits\":4,\"group_size\":64}",
                                        "{\"bits\":2,\"group_size\":32,\"symmetric\":false}"};
    for (int i = 0; i < 4; i++) {
        char *tasks = path_format("[{\"task\":\"steps\"," CALIBRATION
                                  ",\"steps\":[{\"use\":\"gptq\",\"with\":%s}]}]",
                                  withs[i]);
        cJSON *r = run_job(tasks, &c, &st, &err);
        ck_assert_msg(st == SQZ_OK, "%s", err.text);
        ck_assert_int_eq(json_bool(json_get(task_of(r, 0), "calibration"), "cached", -1), i > 0);
        ck_assert_int_eq(cJSON_GetArraySize(json_get(task_of(r, 0), "layers")), 28);
        cJSON_Delete(r);
        free(tasks);
    }
    ck_assert_int_eq(c.computed, 1);
    ck_assert_int_eq(c.reused, 3);
}
END_TEST

static double error_of(const cJSON *result, const char *module)
{
    const cJSON *layer;
    cJSON_ArrayForEach(layer, json_get(task_of(result, 0), "layers"))
    {
        if (!strcmp(json_str(layer, "name", ""), module)) return json_num(layer, "error", -1);
    }
    return -1;
}

#define ONLY(pattern) "[{\"match\":\"*\",\"skip\":true},{\"match\":\"" pattern "\",\"with\":{}}]"
#define SEQUENTIAL "{\"bits\":2,\"true_sequential\":true}"

/* What block 1 reads behind a quantized block 0: measured on the way, and again as the statistics
 * of the artifact that holds it. */
START_TEST(true_sequential_is_of_the_quantized_prefix)
{
    static const char q[] = "model.layers.1.self_attn.q_proj",
                      o[] = "model.layers.1.self_attn.o_proj";
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    cJSON *whole = run_job(STEPS("gptq", SEQUENTIAL, ONLY("model.layers.[01].*")), &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(c.computed + c.reused, 0);
    cJSON *parts = run_job(
        "[{\"task\":\"steps\"," CALIBRATION ",\"steps\":[{\"use\":\"gptq\",\"with\":" SEQUENTIAL
        ",\"rules\":" ONLY("model.layers.0.*") "},{\"use\":\"gptq\",\"with\":{\"bits\":2},"
                                               "\"rules\":" ONLY("model.layers.1.*") "}]}]",
        &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    cJSON *plain =
        run_job(STEPS("gptq", "{\"bits\":2}", ONLY("model.layers.[01].*")), &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert(error_of(whole, q) > 0);
    ck_assert(error_of(whole, q) == error_of(parts, q));
    ck_assert(error_of(whole, q) != error_of(plain, q));
    /* q, k and v were not quantized in the artifact's statistics of what o reads */
    ck_assert(error_of(whole, o) != error_of(parts, o));
    cJSON_Delete(whole);
    cJSON_Delete(parts);
    cJSON_Delete(plain);
}
END_TEST

START_TEST(a_step_is_done_once)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    cJSON *a = run_job(STEPS("rtn", "{\"bits\":4}", "[]"), &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    cJSON *b = run_job(STEPS("rtn", "{\"bits\":4}", "[]"), &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(c.steps_reused, 1);
    ck_assert_str_eq(json_str(task_of(a, 0), "artifact", "a"),
                     json_str(task_of(b, 0), "artifact", "b"));
    ck_assert_int_eq(cJSON_GetArraySize(json_get(task_of(b, 0), "layers")), 28);
    cJSON_Delete(a);
    cJSON_Delete(b);
}
END_TEST

static void damage_first_object(const char *artifact)
{
    registry *r = NULL;
    sqz_error err = {0};
    ck_assert_msg(!registry_open(store, &r, &err), "%s", err.text);
    cJSON *manifest = artifact_manifest(r, artifact, &err);
    ck_assert_ptr_nonnull(manifest);
    char *path = object_path(r, json_str(json_get(manifest, "tensors")->child, "object", ""));
    ck_assert_int_eq(chmod(path, 0644), 0);
    FILE *f = fopen(path, "r+b");
    ck_assert(f && !fseek(f, -5, SEEK_END) && fputs("DAMAG", f) >= 0 && !fclose(f));
    free(path);
    cJSON_Delete(manifest);
    registry_close(r);
}

/* Weights of other bytes than were recorded are neither reused nor evaluated. */
START_TEST(damaged_artifact)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    static const char twice[] =
        "[{\"task\":\"steps\",\"steps\":[{\"use\":\"rtn\",\"with\":{\"bits\":3}}]}]";
    cJSON *a = run_job(twice, &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    const char *artifact = json_str(task_of(a, 0), "artifact", "");
    damage_first_object(artifact);
    subject *s = NULL;
    subject_options o = {.model = EXAMPLE "/model", .artifact = artifact, .compute = "fp32"};
    ck_assert_int_eq(registry_open(store, &o.registry, &err), SQZ_OK);
    ck_assert_int_eq(subject_open(&o, &s, &err), SQZ_OK);
    sqz_weight w;
    ck_assert_int_eq(subject_linear(s, "model.layers.0.self_attn.q_proj", &w, &err), -104);
    ck_assert_ptr_nonnull(strstr(err.text, "is corrupt"));
    subject_close(s);
    registry_close(o.registry);
    cJSON *b = run_job(twice, &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(c.steps_reused, 0);
    ck_assert_int_eq(c.again, 1);
    ck_assert_str_eq(json_str(task_of(b, 0), "artifact", "b"), artifact);
    cJSON_Delete(a);
    cJSON_Delete(run_job(twice, &c, &st, &err));
    ck_assert_int_eq(c.steps_reused, 1);
    cJSON_Delete(b);
}
END_TEST

START_TEST(rules_skip_and_override)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    cJSON *r =
        run_job(STEPS("rtn", "{\"bits\":4,\"group_size\":128}",
                      "[{\"match\":\"*.down_proj\",\"skip\":true},{\"match\":\"model.layers."
                      "0.*\",\"with\":{\"bits\":8}},{\"match\":\"*.down_porj\",\"skip\":true}]"),
                &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(c.idle, 1);
    const cJSON *layer;
    int eight = 0, n = 0;
    cJSON_ArrayForEach(layer, json_get(task_of(r, 0), "layers"))
    {
        n++;
        eight += json_int(layer, "bits", 0) == 8;
        ck_assert_ptr_null(strstr(json_str(layer, "name", ""), "layers.1.mlp.down_proj"));
    }
    /* the later rule wins: block 0 keeps its down_proj conversion */
    ck_assert_int_eq(n, 4 * 7 - 3);
    ck_assert_int_eq(eight, 7);
    cJSON_Delete(r);
    r = run_job(STEPS("rtn", "{}", "[{\"match\":\"*\",\"skip\":true}]"), &c, &st, &err);
    ck_assert_int_eq(st, -101);
    ck_assert_ptr_nonnull(strstr(err.text, "skip every linear"));
    cJSON_Delete(r);
}
END_TEST

START_TEST(mixed_bits_are_unsupported_by_the_format)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    cJSON *r = run_job("[{\"task\":\"steps\",\"steps\":[{\"use\":\"rtn\",\"with\":{\"bits\":4},"
                       "\"rules\":[{\"match\":\"q\",\"with\":{\"bits\":8}}]}]},"
                       "{\"task\":\"export\",\"format\":\"gptq\",\"output\":\"" SQZ_BUILD_DIR
                       "/tests/export_mixed\"}]",
                       &c, &st, &err);
    ck_assert_int_eq(st, SQZ_E_UNSUPPORTED);
    ck_assert_str_eq(json_str(r, "state", ""), "unsupported");
    ck_assert_int_eq(path_exists(SQZ_BUILD_DIR "/tests/export_mixed"), 0);
    cJSON_Delete(r);
    /* a run asks before it evaluates; `sqz quantize` without an export may keep such an artifact */
    r = run_job("[{\"task\":\"steps\",\"must_export\":true,\"steps\":[{\"use\":\"rtn\",\"with\":"
                "{\"bits\":4},\"rules\":[{\"match\":\"q\",\"with\":{\"bits\":8}}]}]}]",
                &c, &st, &err);
    ck_assert_int_eq(st, SQZ_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot be exported: org.sqz.format.gptq"));
    cJSON_Delete(r);
}
END_TEST

START_TEST(evaluate_export_and_load_back)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    char *tasks = path_format(
        "[{\"task\":\"steps\"," CALIBRATION
        ",\"steps\":[{\"use\":\"gptq\",\"with\":{\"bits\":4}}]},"
        "{\"task\":\"eval\",\"evals\":[{\"name\":\"t\",\"dataset\":\"" EXAMPLE
        "/data/test.jsonl\",\"window\":256,\"limit\":16},"
        "{\"name\":\"e\",\"dataset\":\"" EXAMPLE "/data/endings_test.jsonl\",\"limit\":20},"
        "{\"name\":\"a\",\"dataset\":\"" EXAMPLE "/data/arith_test.jsonl\",\"limit\":20}]},"
        "{\"task\":\"bench\",\"prompt_tokens\":32,\"new_tokens\":8,\"repeats\":2},"
        "{\"task\":\"export\",\"output\":\"" SQZ_BUILD_DIR "/tests/export_4bit\"}]");
    cJSON *r = run_job(tasks, &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    const cJSON *results = json_get(task_of(r, 1), "results");
    double ppl = json_num(json_get(results, "t"), "perplexity", 0);
    ck_assert_msg(ppl > 1.5 && ppl < 1.8, "perplexity %g",
                  ppl); /* the dense model has 1.670 on the whole set */
    ck_assert_int_eq(json_int(json_get(results, "t"), "n", 0), 16 * 255);
    ck_assert_double_ge(json_num(json_get(results, "e"), "acc", 0), 0.9);
    ck_assert_double_ge(json_num(json_get(results, "a"), "exact_match", 0), 0.8);
    ck_assert_double_gt(json_num(json_get(task_of(r, 2), "tpot_seconds"), "median", 0), 0);
    const cJSON *back = json_get(task_of(r, 3), "load_back");
    ck_assert_int_eq(json_int(back, "linears_bit_equal", 0), 28);
    ck_assert_double_eq(json_num(back, "max_logit_difference", 1), 0);
    /* what was counted beforehand is what was written */
    ck_assert_double_eq(json_num(task_of(r, 0), "bytes", 1), json_num(task_of(r, 3), "bytes", 2));
    cJSON_Delete(r);
    free(tasks);

    /* the exported folder evaluates to the same number through its format */
    char *text =
        path_format("{\"schema\":\"sqz.job/"
                    "1\",\"job\":\"back\",\"store\":\"%s\",\"threads\":2,\"plugins\":{\"path\":["
                    "\"" SQZ_PLUGIN_DIR "\"]},"
                    "\"model\":\"" SQZ_BUILD_DIR "/tests/"
                    "export_4bit\",\"compute\":\"bf16\",\"tasks\":[{"
                    "\"task\":\"eval\",\"evals\":[{\"name\":\"t\","
                    "\"dataset\":\"" EXAMPLE "/data/test.jsonl\",\"window\":256,\"limit\":16}]}]}",
                    store);
    cJSON *job = cJSON_Parse(text);
    st = job_execute(job, NULL, &r, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    double again = json_num(json_get(json_get(task_of(r, 0), "results"), "t"), "perplexity", 0);
    ck_assert_double_eq_tol(again, ppl, 2e-3); /* fp32 or bf16, whichever `auto` chose above */
    cJSON_Delete(job);
    cJSON_Delete(r);
    free(text);
}
END_TEST

START_TEST(divergence_from_itself_is_zero)
{
    counts c = {0};
    sqz_error err = {0};
    sqz_status st;
    cJSON *r = run_job("[{\"task\":\"eval\",\"evals\":[],\"kl\":{\"dataset\":\"" EXAMPLE
                       "/data/calib.jsonl\",\"tokens\":1024,\"window\":128,\"make\":true}}]",
                       &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    char *record = path_format("%s", json_str(json_get(task_of(r, 0), "kl"), "record", ""));
    cJSON_Delete(r);
    char *tasks =
        path_format("[{\"task\":\"eval\",\"evals\":[],\"kl\":{\"record\":\"%s\"}},{\"task\":"
                    "\"steps\",\"steps\":[{\"use\":\"rtn\",\"with\":{\"bits\":3}}]},"
                    "{\"task\":\"eval\",\"evals\":[],\"kl\":{\"record\":\"%s\"}}]",
                    record, record);
    r = run_job(tasks, &c, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    ck_assert_double_eq_tol(json_num(json_get(task_of(r, 0), "kl"), "mean", 1), 0, 1e-6);
    ck_assert_double_gt(json_num(json_get(task_of(r, 2), "kl"), "mean", 0), 1e-4);
    cJSON_Delete(r);
    free(tasks);
    free(record);
}
END_TEST

START_TEST(refusals_name_the_problem)
{
    static const struct {
        const char *tasks, *words;
    } cases[] = {
        {"[{\"task\":\"fly\"}]", "fly"},
        {"[{\"task\":\"steps\",\"steps\":[{\"use\":\"gtpq\"}]}]", "gptq"},
        {"[{\"task\":\"steps\",\"steps\":[{\"use\":\"gptq\",\"with\":{\"bist\":4}}]}]", "bits"},
        {"[{\"task\":\"steps\",\"steps\":[{\"use\":\"gptq\",\"with\":{\"bits\":4}}]}]",
         "calibration"},
        {"[{\"task\":\"eval\",\"evals\":[{\"dataset\":\"/no/such.jsonl\"}]}]", "/no/such.jsonl"},
        {"[{\"task\":\"export\",\"output\":\"/tmp/x\"}]", "no compressed model"},
        {"[{\"task\":\"bench\",\"prompt_tokens\":600}]", "context"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        counts c = {0};
        sqz_error err = {0};
        sqz_status st;
        cJSON *r = run_job(cases[i].tasks, &c, &st, &err);
        ck_assert_int_ne(st, SQZ_OK);
        ck_assert_msg(strstr(err.text, cases[i].words) != NULL, "case %zu: \"%s\" lacks \"%s\"", i,
                      err.text, cases[i].words);
        ck_assert_ptr_nonnull(
            strstr(json_str(json_get(r, "error"), "message", ""), cases[i].words));
        cJSON_Delete(r);
    }
}
END_TEST

int main(void)
{
    setenv("SQZ_EXE", SQZ_BUILD_DIR "/bin/sqz", 1); /* plugins are scanned by the program */
    char *dir = path_format(SQZ_BUILD_DIR "/tests/job_store");
    dir_remove(dir, NULL);
    snprintf(store, sizeof store, "%s", dir);
    free(dir);
    Suite *s = suite_create("job");
    TCase *t = tcase_create("tasks");
    tcase_add_test(t, statistics_are_computed_once);
    tcase_add_test(t, true_sequential_is_of_the_quantized_prefix);
    tcase_add_test(t, a_step_is_done_once);
    tcase_add_test(t, damaged_artifact);
    tcase_add_test(t, rules_skip_and_override);
    tcase_add_test(t, mixed_bits_are_unsupported_by_the_format);
    tcase_add_test(t, evaluate_export_and_load_back);
    tcase_add_test(t, divergence_from_itself_is_zero);
    tcase_add_test(t, refusals_name_the_problem);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK); /* thread pools do not survive a fork */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
