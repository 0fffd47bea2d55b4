/* test_long_context.c - the evaluations of growing context on the bundled model: log-likelihoods of
 * needles and windows as transformers computes them, what is reported, what is refused.
 *
 * tests/golden/long_context was made by tests/interop/long_context.py --golden. */
#include "io/file.h"
#include "json/json.h"
#include "worker/worker.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"
#define TEXT EXAMPLE "/data/test.jsonl"

static char store[256];

static void no_log(void *ctx, int level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static cJSON *evaluate(const char *evals, sqz_status *status, sqz_error *err)
{
    char *text = path_format("{\"schema\":\"sqz.job/1\",\"job\":\"test\",\"store\":\"%s\","
                             "\"threads\":2,\"seed\":7,\"plugins\":{\"path\":[\"" SQZ_PLUGIN_DIR
                             "\"]},\"model\":\"" EXAMPLE "/model\",\"compute\":\"fp32\","
                             "\"tasks\":[{\"task\":\"eval\",\"evals\":%s}]}",
                             store, evals);
    cJSON *job = cJSON_Parse(text), *result = NULL;
    job_context ctx = {.log = no_log};
    ck_assert_msg(job != NULL, "test job is no JSON: %s", text);
    *status = job_execute(job, &ctx, &result, err);
    cJSON_Delete(job);
    free(text);
    return result;
}

static const cJSON *first_task(const cJSON *result)
{
    return cJSON_GetArrayItem(json_get(result, "tasks"), 0);
}

/* The lines of a data set's outcomes, one JSON object each. */
static cJSON *items_of(const cJSON *result, const char *name)
{
    char *text = NULL, *save = NULL;
    const char *path = json_str(json_get(first_task(result), "items"), name, "");
    ck_assert_int_eq(file_read(path, 1 << 26, &text, NULL, NULL), SQZ_OK);
    cJSON *all = cJSON_CreateArray();
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        cJSON_AddItemToArray(all, cJSON_Parse(line));
    free(text);
    return all;
}

static json_doc *golden(void)
{
    json_doc *doc = NULL;
    sqz_error err = {0};
    ck_assert_msg(json_read(SQZ_SOURCE_DIR "/tests/golden/long_context/tiny-arith.json", 1 << 20, 0,
                            &doc, &err) == SQZ_OK,
                  "%s", err.text);
    return doc;
}

static double at(const cJSON *row, int k)
{
    return cJSON_GetArrayItem(row, k)->valuedouble;
}

/* "length 256 depth 0 tokens 251 exact 0 48213:-51.25 ..." */
static void check_needles(const cJSON *items, const cJSON *want, int n)
{
    ck_assert_int_eq(cJSON_GetArraySize(items), n);
    for (int i = 0; i < n; i++) {
        const cJSON *row = cJSON_GetArrayItem(want, i);
        const char *number = cJSON_GetArrayItem(row, 2)->valuestring;
        const char *note = json_str(cJSON_GetArrayItem(items, i), "note", "");
        double length, depth, tokens, logprob;
        int exact;
        char first[16];
        ck_assert_int_eq(sscanf(note, "length %lf depth %lf tokens %lf exact %d %15[0-9]:%lf",
                                &length, &depth, &tokens, &exact, first, &logprob),
                         6);
        ck_assert(length == at(row, 0) && depth == at(row, 1));
        ck_assert_double_le(tokens, length);
        ck_assert_double_gt(tokens, length - 64);
        ck_assert_str_eq(first, number);
        ck_assert_double_eq_tol(logprob, at(row, 3), 1e-3);
    }
}

START_TEST(needles_and_windows_are_those_of_transformers)
{
    sqz_error err = {0};
    sqz_status st;
    json_doc *doc = golden();
    cJSON *r = evaluate("[{\"name\":\"n\",\"dataset\":\"needle\",\"window\":256,\"limit\":4},"
                        "{\"name\":\"p\",\"dataset\":\"long_perplexity=" TEXT
                        "\",\"with\":{\"windows\":6}}]",
                        &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    cJSON *needles = items_of(r, "n"), *windows = items_of(r, "p");
    check_needles(needles, json_get(json_root(doc), "needle"), 4);
    const cJSON *want = json_get(json_root(doc), "long_perplexity");
    double sums[2] = {0};
    ck_assert_int_eq(cJSON_GetArraySize(windows), 12);
    for (int i = 0; i < 12; i++) {
        const cJSON *row = cJSON_GetArrayItem(want, i), *item = cJSON_GetArrayItem(windows, i);
        char *note = path_format("length %.0f end %.0f", at(row, 0), at(row, 1));
        ck_assert_str_eq(json_str(item, "note", ""), note);
        ck_assert_double_eq_tol(json_num(item, "outcome", 0), at(row, 2), 1e-4);
        sums[i / 6] += at(row, 2);
        free(note);
    }
    const cJSON *results = json_get(first_task(r), "results"), *p = json_get(results, "p");
    double last = exp(sums[1] / 6);
    ck_assert_double_eq_tol(json_num(p, "perplexity,256", 0), exp(sums[0] / 6), 1e-3);
    ck_assert_double_eq_tol(json_num(p, "perplexity,512", 0), last, 1e-3 * last);
    ck_assert(json_num(p, "perplexity,512", 0) == json_num(p, "perplexity", -1));
    ck_assert(json_num(p, "error_rate", -1) == 0 && json_num(p, "throughput_ratio", -1) > 0);
    ck_assert(json_get(p, "perplexity_stderr,512") && json_int(p, "n", 0) == 6 * 128);
    const cJSON *n = json_get(results, "n");
    ck_assert_int_eq(json_int(n, "n", 0), 4);
    ck_assert(json_num(n, "error_rate,256", -1) == 1 - json_num(n, "exact_match,256", -1));
    ck_assert(json_get(n, "acc,depth0") && json_get(n, "acc,depth75") &&
              !json_get(n, "acc,depth100"));
    double least = json_num(n, "tokens_per_second_min,256", 0),
           middle = json_num(n, "tokens_per_second,256", 0);
    ck_assert(least > 0 && least <= middle &&
              middle <= json_num(n, "tokens_per_second_max,256", 0));
    cJSON_Delete(needles);
    cJSON_Delete(windows);
    cJSON_Delete(r);
    json_free(doc);
}
END_TEST

static const char *prompt_of(const cJSON *items, int i)
{
    const char *line = strchr(json_str(cJSON_GetArrayItem(items, i), "note", ""), '\n');
    ck_assert_ptr_nonnull(line);
    return line + 1;
}

/* The needle's place, the distractors, the user's own text, and the same prompts at every run. */
START_TEST(prompts)
{
    sqz_error err = {0};
    sqz_status st;
    static const char evals[] = "[{\"name\":\"n\",\"dataset\":\"needle=" TEXT
                                "\",\"window\":256,\"with\":{\"samples\":1,\"depths\":3,"
                                "\"choices\":3,\"distractors\":2,\"prompts\":true}}]";
    cJSON *r = evaluate(evals, &st, &err);
    ck_assert_msg(st == SQZ_OK, "%s", err.text);
    cJSON *items = items_of(r, "n");
    ck_assert_int_eq(cJSON_GetArraySize(items), 3);
    for (int i = 0; i < 3; i++) {
        const char *prompt = prompt_of(items, i), *p = prompt, *asked = strrchr(prompt, '\n') + 1;
        char colour[16], wanted[64];
        int boxes = 0;
        ck_assert_int_eq(sscanf(asked, "What is the number in the %15s box?", colour), 1);
        snprintf(wanted, sizeof wanted, "The number in the %s box is ", colour);
        const char *needle = strstr(prompt, wanted);
        ck_assert_ptr_nonnull(needle);
        while ((p = strstr(p, " box is ")) && p < asked) p++, boxes++;
        ck_assert_int_eq(boxes, 3);
        if (i == 0) ck_assert_ptr_eq(needle, prompt);
        if (i == 2)
            ck_assert(!strncmp(strchr(needle, '.'), ".\n\n", 3) || strstr(needle, ". The n"));
    }
    cJSON *again = evaluate(evals, &st, &err), *same = items_of(again, "n");
    ck_assert(cJSON_Compare(items, same, 1));
    cJSON_Delete(items);
    cJSON_Delete(same);
    cJSON_Delete(r);
    cJSON_Delete(again);
}
END_TEST

START_TEST(refused_with_a_reason)
{
    static const char *const cases[][2] = {
        {"[{\"dataset\":\"needle\",\"window\":1024}]", "beyond the model's context of 512"},
        {"[{\"dataset\":\"needle\",\"window\":128}]", "min_length"},
        {"[{\"dataset\":\"needle\",\"window\":24,\"with\":{\"min_length\":16}}]", "too few"},
        {"[{\"dataset\":\"needle\",\"window\":256,\"with\":{\"choices\":2,\"distractors\":2}}]",
         "fewer than choices"},
        {"[{\"dataset\":\"long_perplexity\"}]", "names no data"},
        {"[{\"dataset\":\"long_perplexity=" TEXT "\",\"with\":{\"scored\":256}}]",
         "min_length=256"},
        {"[{\"dataset\":\"long_perplexity=%s/short.txt\"}]", "give more text"},
    };
    char *path = path_format("%s/short.txt", store);
    ck_assert_int_eq(dir_make(store, NULL), SQZ_OK);
    ck_assert_int_eq(file_write(path, "A few words.", 12, NULL), SQZ_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sqz_error err = {0};
        sqz_status st;
        char evals[512];
        const char *mark = strstr(cases[i][0], "%s");
        snprintf(evals, sizeof evals, "%.*s%s%s", (int)(mark ? mark - cases[i][0] : 500),
                 cases[i][0], mark ? store : "", mark ? mark + 2 : "");
        cJSON *r = evaluate(evals, &st, &err);
        ck_assert_msg(st != SQZ_OK, "%s: not refused", evals);
        ck_assert_msg(strstr(err.text, cases[i][1]) != NULL, "%s: %s", evals, err.text);
        cJSON_Delete(r);
    }
    free(path);
}
END_TEST

int main(void)
{
    setenv("SQZ_EXE", SQZ_BUILD_DIR "/bin/sqz", 1); /* plugins are scanned by the program */
    char *dir = path_format(SQZ_BUILD_DIR "/tests/long_context_store");
    dir_remove(dir, NULL);
    snprintf(store, sizeof store, "%s", dir);
    free(dir);
    Suite *s = suite_create("long_context");
    TCase *t = tcase_create("evaluations");
    tcase_add_test(t, needles_and_windows_are_those_of_transformers);
    tcase_add_test(t, prompts);
    tcase_add_test(t, refused_with_a_reason);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK); /* thread pools do not survive a fork */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
