/* test_task.c - tasks: requests of the known ones as lm-evaluation-harness makes them, answers
 * through filters, its random numbers, templates, and definitions that are refused.
 *
 * tests/golden/tasks was made with the harness (make_tasks.py there); the draws of Python's random
 * are published vectors of CPython. */
#include "data/data.h"
#include "data/documents.h"
#include "io/file.h"
#include "json/json.h"
#include "task/random.h"
#include "task/regex.h"
#include "task/task.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SQZ_SOURCE_DIR "/tests/golden/tasks"

static json_doc *read_golden(const char *name)
{
    char *path = path_format("%s/%s", GOLDEN, name);
    json_doc *doc = NULL;
    sqz_error err = {0};
    ck_assert_msg(json_read(path, 1 << 26, 0, &doc, &err) == SQZ_OK, "%s", err.text);
    free(path);
    return doc;
}

/* ---- random numbers ------------------------------------------------------------------------- */

START_TEST(test_sample)
{
    static const int64_t want[3][5] = {
        {6374, 3610, 957, 61, 742}, {7462, 6610, 4769, 286, 5501}, {5677, 687, 806, 6279, 2905}};
    python_random r;
    int64_t got[5];
    python_random_seed(&r, 1234);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(python_random_sample(&r, 7473, 5, got, NULL), SQZ_OK);
        ck_assert_mem_eq(got, want[i], sizeof got);
    }
    ck_assert_int_ne(python_random_sample(&r, 3, 4, got, NULL), SQZ_OK);
    python_random_seed(&r, 0); /* random.Random(0).random() */
    ck_assert_double_eq_tol(python_random_next(&r), 0.8444218515250481, 1e-16);
}
END_TEST

START_TEST(test_bootstrap)
{
    /* For few spread values the bootstrap is close to the delta method without Bessel. */
    double values[400], mean = 0, square = 0, got;
    python_random r;
    python_random_seed(&r, 5);
    for (int i = 0; i < 400; i++) values[i] = -2 - python_random_next(&r);
    for (int i = 0; i < 400; i++) mean += values[i] / 400;
    for (int i = 0; i < 400; i++) square += (values[i] - mean) * (values[i] - mean) / 400;
    ck_assert_int_eq(bootstrap_perplexity(values, 400, &got, NULL), SQZ_OK);
    ck_assert_double_eq_tol(got, exp(-mean) * sqrt(square / 400), 0.01 * got);
}
END_TEST

/* ---- requests ------------------------------------------------------------------------------- */

static dataset *open_task(const char *name, int64_t shots)
{
    const char *folder = strncmp(name, "mmlu_", 5) ? name : "mmlu_us_foreign_policy";
    char *spec = path_format("%s=%s/%s", name, GOLDEN, folder);
    dataset_options with = {.shots = shots + 1};
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_msg(dataset_open_with(spec, &with, &d, &err) == SQZ_OK, "%s", err.text);
    free(spec);
    return d;
}

static const char *text_at(const dataset *d, int64_t row, const char *field, const char *list,
                           int k)
{
    const char *text = d->rows.text(&d->rows, row, field);
    return text ? text : d->rows.list_text(&d->rows, row, list, k);
}

/* The k-th request of a row as the harness's arguments. */
static void check_request(const dataset *d, const char *name, int64_t row, int k, const cJSON *want)
{
    const char *first = cJSON_GetArrayItem(want, 0)->valuestring;
    const cJSON *second = cJSON_GetArrayItem(want, 1);
    const char *context, *continuation;
    if (d->task->output == TASK_GENERATE || d->task->output == TASK_ROLLING) {
        context = text_at(d, row, "request.prompt", "", 0);
        if (!context) context = text_at(d, row, "request.text", "", 0);
        ck_assert_msg(!strcmp(context, first), "%s row %d:\n%s\n--- wanted\n%s", name, (int)row,
                      context, first);
        return;
    }
    context = text_at(d, row, "request.context", "request.contexts", k);
    continuation = text_at(d, row, "request.continuation", "request.continuations", k);
    ck_assert_msg(!strcmp(context, first), "%s row %d:\n%s\n--- wanted\n%s", name, (int)row,
                  context, first);
    ck_assert_str_eq(continuation, second->valuestring);
}

START_TEST(test_requests)
{
    json_doc *doc = read_golden("requests.json");
    const cJSON *of, *runs, *rows, *requests;
    int checked = 0;
    cJSON_ArrayForEach(of, json_root(doc)) cJSON_ArrayForEach(runs, of)
    {
        dataset *d = open_task(of->string, json_int(runs, "shots", 0));
        int64_t row = 0;
        cJSON_ArrayForEach(rows, json_get(runs, "requests"))
        {
            int k = 0;
            cJSON_ArrayForEach(requests, rows) check_request(d, of->string, row, k++, requests);
            checked += k;
            row++;
        }
        ck_assert_int_eq(row, d->rows.n_rows);
        dataset_close(d);
    }
    ck_assert_int_gt(checked, 200);
    json_free(doc);
}
END_TEST

START_TEST(test_answers)
{
    json_doc *doc = read_golden("answers.json");
    const cJSON *item, *filter;
    task *t = NULL;
    text_buffer extracted = {0};
    ck_assert_int_eq(task_open("gsm8k", &t, NULL), SQZ_OK);
    ck_assert_int_eq(answers_filters(t->judge), 2);
    ck_assert_str_eq(answers_name(t->judge, 1), "flexible-extract");
    cJSON_ArrayForEach(item, json_root(doc))
    {
        int k = 0;
        cJSON_ArrayForEach(filter, json_get(item, "filters"))
        {
            const char *want = cJSON_GetArrayItem(filter, 0)->valuestring;
            int same = -1;
            ck_assert_int_eq(answers_judge(t->judge, k++, json_str(item, "response", ""),
                                           json_str(item, "target", ""), &extracted, &same, NULL),
                             SQZ_OK);
            ck_assert_int_eq(extracted.n, strlen(want));
            ck_assert_mem_eq(extracted.at ? extracted.at : "", want, strlen(want));
            ck_assert_int_eq(same, cJSON_GetArrayItem(filter, 1)->valueint);
        }
    }
    text_free(&extracted);
    task_free(t);
    json_free(doc);
}
END_TEST

/* ---- texts ---------------------------------------------------------------------------------- */

static const char *no_more(const void *ctx, const char *name, int64_t element, int64_t *n)
{
    (void)ctx;
    const char *text = strcmp(name, "a") ? NULL
                       : element < 0     ? "  One_Two_three "
                       : element         ? NULL
                                         : "x";
    if (text) *n = (int64_t)strlen(text);
    return text;
}

static char *render(const char *source, sqz_status want)
{
    text_template *t = NULL;
    text_source from = {no_more, NULL};
    text_buffer out = {0};
    sqz_error err = {0};
    sqz_status st = text_template_new(source, NULL, "test", &t, &err);
    if (!st) st = text_template_render(t, &from, &out, &err);
    ck_assert_msg(st == want, "%s: %d %s", source, st, err.text);
    text_template_free(t);
    text_add(&out, "", 1);
    return out.at;
}

static void expect_text(const char *source, const char *want)
{
    char *got = render(source, SQZ_OK);
    ck_assert_str_eq(got, want);
    free(got);
}

START_TEST(test_templates)
{
    expect_text("<{{a}}|{{ a | trim }}>", "<  One_Two_three |One_Two_three>");
    expect_text("{{a | before('_') | trim_left}}", "One");
    expect_text("{{a|after('_')|upper}}", "TWO_THREE ");
    expect_text("{{a|before_last(\"_\")|trim}}-{{a|after_last('_')|trim_right}}", "One_Two-three");
    expect_text("{{a|before('#')|trim}}|{{a|after('#')}}|{{a|before_last('#')}}|",
                "One_Two_three|||");
    expect_text("{{a|trim|capitalize}}", "One_two_three");
    expect_text("{{a|trim|regex('_([Tt])','-\\1')}}{{a[0]}}", "One-Two-threex");
    free(render("{{b}}", ERR_MODEL));
    free(render("{{a[1]}}", ERR_MODEL));
    free(render("{{a", ERR_USAGE));
    free(render("{{a + 1}}", ERR_USAGE));
    free(render("{{a|shout}}", ERR_USAGE));
    free(render("{{a|replace('x')}}", ERR_USAGE));
    free(render("{{a|regex('(','')}}", ERR_USAGE));
    free(render("{% if a %}", ERR_USAGE));
}
END_TEST

START_TEST(test_regex)
{
    /* Matches as Python's re.sub replaces them, empty ones too. */
    static const char *const cases[][4] = {{"x*", "-", "abxd", "-a-b--d-"},
                                           {"[.]+", "", "a..b.", "ab"},
                                           {"(?s).*#### ", "", "a\n#### 1 #### 2", "2"},
                                           {"\\.$", "", "12.\n", "12\n"},
                                           {"\\s", "_",
                                            "a\xC2\xA0"
                                            "b",
                                            "a_b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        regex *r = NULL;
        text_buffer t = {0};
        ck_assert_int_eq(regex_new(cases[i][0], "test", &r, NULL), SQZ_OK);
        text_add(&t, cases[i][2], (int64_t)strlen(cases[i][2]));
        ck_assert_int_eq(regex_replace(r, cases[i][1], &t, NULL), SQZ_OK);
        ck_assert_int_eq(t.n, strlen(cases[i][3]));
        ck_assert_mem_eq(t.at, cases[i][3], strlen(cases[i][3]));
        text_free(&t);
        regex_free(r);
    }
}
END_TEST

/* ---- definitions ---------------------------------------------------------------------------- */

static void refuse(const char *definition, const char *part)
{
    json_doc *doc = NULL;
    task *t = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(json_parse(definition, (int64_t)strlen(definition), 0, "d", &doc, &err),
                     SQZ_OK);
    ck_assert_int_eq(task_parse(json_root(doc), "d.json", NULL, &t, &err), ERR_USAGE);
    ck_assert_msg(strstr(err.text, part) != NULL, "%s", err.text);
    json_free(doc);
}

START_TEST(test_refusals)
{
#define BASE                                                                                       \
    "\"task\":\"t\",\"test_split\":\"test\",\"doc_to_text\":\"{{q}}\",\"doc_to_target\":\"{{a}}\""
    refuse("{" BASE ",\"output_type\":\"magic\"}", "output_type");
    refuse("{" BASE ",\"output_type\":\"generate_until\",\"doc_to_txt\":\"x\"}", "doc_to_text");
    refuse("{" BASE ",\"output_type\":\"multiple_choice\"}", "doc_to_choice");
    refuse("{" BASE ",\"output_type\":\"generate_until\",\"metric_list\":[\"acc\"]}", "acc");
    refuse("{" BASE ",\"output_type\":\"generate_until\",\"num_fewshot\":-1}", "num_fewshot");
    refuse("{" BASE
           ",\"output_type\":\"generate_until\",\"fewshot_config\":{\"sampler\":\"balanced\"}}",
           "balanced");
    refuse("{" BASE
           ",\"output_type\":\"generate_until\",\"generation_kwargs\":{\"temperature\":1}}",
           "greedy");
    refuse("{" BASE
           ",\"output_type\":\"generate_until\",\"filter_list\":[{\"name\":\"n\",\"filter\":"
           "[{\"function\":\"majority_vote\"}]}]}",
           "majority_vote");
    refuse("{" BASE
           ",\"output_type\":\"loglikelihood\",\"dataset_kwargs\":{\"trust_remote_code\":true}}",
           "trust_remote_code");
    refuse("{" BASE
           ",\"output_type\":\"loglikelihood\",\"dataset_kwargs\":{\"data_files\":{\"test\":7}}}",
           "data_files.test");
    refuse("{\"task\":\"t\",\"output_type\":\"generate_until\"}", "test_split");
    refuse("[]", "object");
}
END_TEST

/* The files of a split in a repository, for a task and for the member of a group. */
START_TEST(test_patterns)
{
    static const char *const cases[][3] = {
        {"lambada_openai", "test", "data/lambada_test.jsonl"},
        {"arc_easy", "train", "ARC-Easy/train-*.parquet"},
        {"mmlu_us_foreign_policy", "dev", "us_foreign_policy/dev-*.parquet"},
        {"gsm8k", "validation", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        task *t = NULL;
        char *pattern = NULL;
        ck_assert_int_eq(task_open(cases[i][0], &t, NULL), SQZ_OK);
        ck_assert_int_eq(task_pattern(t, cases[i][1], &pattern, NULL), SQZ_OK);
        ck_assert_str_eq(pattern ? pattern : "", cases[i][2]);
        free(pattern);
        task_free(t);
    }
}
END_TEST

START_TEST(test_known)
{
    const char *about;
    int n = 0;
    for (const char *name; (name = task_known(n, &about)); n++) {
        task_set s;
        sqz_error err = {0};
        int known = 0;
        ck_assert(task_exists(name, &known, &err) == SQZ_OK && known && *about);
        ck_assert_msg(task_set_open(name, &s, &err) == SQZ_OK, "%s", err.text);
        for (int k = 0; k < s.tasks.n; k++) {
            task *t = NULL;
            ck_assert_msg(task_open(s.tasks.at[k], &t, &err) == SQZ_OK, "%s", err.text);
            ck_assert_str_eq(t->name, s.names.at[k]);
            task_free(t);
        }
        task_set_free(&s);
    }
    ck_assert_int_ge(n, 12);
    task_set s;
    ck_assert_int_eq(task_set_open("mmlu", &s, NULL), SQZ_OK);
    ck_assert_int_eq(s.tasks.n, 57);
    ck_assert_int_eq(s.n_groups, 5);
    ck_assert_str_eq(s.groups[4].name, "mmlu");
    task_set_free(&s);
    ck_assert_int_eq(task_set_open("mmlu_stem", &s, NULL), SQZ_OK);
    ck_assert_int_eq(s.tasks.n, 19);
    task_set_free(&s);
    static const char *const none[] = {"mmlu_cooking", "nothing", "/no/file.json"};
    for (int i = 0; i < 3; i++) {
        int known = 1;
        ck_assert(task_exists(none[i], &known, NULL) == SQZ_OK && !known);
    }
}
END_TEST

/* Rows of one member are never measured as another's. */
START_TEST(test_members_of_a_folder)
{
    char folder[] = "/tmp/sqz_members_XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    char *inside = path_format("%s/test", folder);
    char *file = path_format("%s/anatomy_test.csv", inside);
    char *anatomy = path_format("mmlu_anatomy=%s", folder);
    char *astronomy = path_format("mmlu_astronomy=%s", folder);
    dataset *d = NULL;
    sqz_error err = {0};
    ck_assert_int_eq(dir_make(inside, &err), SQZ_OK);
    ck_assert_int_eq(file_printf(file, &err, "q,1,2,3,4,A\n"), SQZ_OK);
    ck_assert_msg(dataset_open(anatomy, &d, &err) == SQZ_OK, "%s", err.text);
    dataset_close(d);
    ck_assert_int_eq(dataset_open(astronomy, &d, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "neither test/astronomy_test.csv"));
    ck_assert_ptr_nonnull(strstr(err.text, "nor a subset astronomy; put"));
    ck_assert_ptr_null(strstr(err.text, "FOLDER:SUBSET:SPLIT")); /* no spec of a task's rows */
    ck_assert_int_eq(task_group_rows("mmlu", "mmlu_anatomy", folder, &err), SQZ_OK);
    /* a task's own files in a folder of several */
    char *other = path_format("%s/gsm8k_test.jsonl", folder);
    char *gsm8k = path_format("gsm8k=%s", folder);
    ck_assert_int_eq(file_printf(other, &err, "{\"question\":\"q\",\"answer\":\"#### 1\"}\n"),
                     SQZ_OK);
    dataset_options none = {.shots = 1};
    ck_assert_msg(dataset_open_with(gsm8k, &none, &d, &err) == SQZ_OK, "%s", err.text);
    dataset_close(d);
    free(other);
    free(gsm8k);
    dataset *none_such = NULL; /* a slip of the finger */
    ck_assert_int_eq(dataset_open("hellaswagg", &none_such, &err), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(err.text, "did you mean the task hellaswag?"));
    static const char *const undivided[] = {GOLDEN "/mmlu_us_foreign_policy",
                                            GOLDEN "/mmlu_us_foreign_policy/test.jsonl"};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(task_group_rows("mmlu", "mmlu_anatomy", undivided[i], &err), ERR_USAGE);
        ck_assert_ptr_nonnull(strstr(err.text, "not of every member"));
    }
    dir_remove(folder, NULL);
    free(inside);
    free(file);
    free(anatomy);
    free(astronomy);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("task");
    TCase *c = tcase_create("task");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_sample);
    tcase_add_test(c, test_bootstrap);
    tcase_add_test(c, test_requests);
    tcase_add_test(c, test_answers);
    tcase_add_test(c, test_templates);
    tcase_add_test(c, test_regex);
    tcase_add_test(c, test_refusals);
    tcase_add_test(c, test_patterns);
    tcase_add_test(c, test_known);
    tcase_add_test(c, test_members_of_a_folder);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
