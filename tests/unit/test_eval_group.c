/* test_eval_group.c - figures of a group of tasks from those of its members.  The references are
 * aggregate_subtask_metrics and pooled_sample_stderr of lm-evaluation-harness on the same figures.
 */
#include "json/json.h"
#include "worker/eval_group.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

/* Every member has n(k) rows, right(k) of them right; the standard error where it has two. */
static cJSON *members(const task_set *s, int (*n)(int), int (*right)(int))
{
    cJSON *results = cJSON_CreateObject();
    for (int k = 0; k < s->names.n; k++) {
        cJSON *r = cJSON_AddObjectToObject(results, s->names.at[k]);
        double p = (double)right(k) / n(k);
        json_add_num(r, "acc", p);
        if (n(k) > 1) json_add_num(r, "acc_stderr", sqrt(p * (1 - p) / (n(k) - 1)));
        json_add_num(r, "n", n(k));
        json_add_num(r, "seconds", 0.5);
        json_add_num(r, "tokens_per_second", 100);
        cJSON_AddStringToObject(r, "primary", "acc");
    }
    return results;
}

static int growing(int k)
{
    return k + 2;
}

static int one(int k)
{
    (void)k;
    return 1;
}

static int by_three(int k)
{
    return k % 3;
}

static int every_other(int k)
{
    return k % 2;
}

static const cJSON *group_of(cJSON *results, const task_set *s)
{
    eval_group_add(s, results);
    const cJSON *g = json_get(results, "mmlu_stem");
    ck_assert_ptr_nonnull(g);
    ck_assert_ptr_null(json_get(g, "tokens_per_second"));
    ck_assert_double_eq_tol(json_num(g, "seconds", 0), 9.5, 1e-12);
    return g;
}

START_TEST(test_pooled)
{
    task_set s;
    ck_assert_int_eq(task_set_open("mmlu_stem", &s, NULL), SQZ_OK);
    ck_assert_int_eq(s.names.n, 19);
    cJSON *results = members(&s, growing, by_three);
    const cJSON *g = group_of(results, &s);
    ck_assert_double_eq(json_num(g, "n", 0), 209);
    ck_assert_double_eq_tol(json_num(g, "acc", 0), 0.0861244019138756, 1e-12);
    ck_assert_double_eq_tol(json_num(g, "acc_stderr", 0), 0.019071685559716996, 1e-12);
    cJSON_Delete(results);
    task_set_free(&s);
}
END_TEST

/* One row of each member has no standard error, but a mean. */
START_TEST(test_one_row_each)
{
    task_set s;
    ck_assert_int_eq(task_set_open("mmlu_stem", &s, NULL), SQZ_OK);
    cJSON *results = members(&s, one, every_other);
    const cJSON *g = group_of(results, &s);
    ck_assert_double_eq(json_num(g, "n", 0), 19);
    ck_assert_double_eq_tol(json_num(g, "acc", 0), 9.0 / 19, 1e-12);
    ck_assert_ptr_null(json_get(g, "acc_stderr"));
    cJSON_Delete(results);
    task_set_free(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("eval_group");
    TCase *c = tcase_create("eval_group");
    tcase_add_test(c, test_pooled);
    tcase_add_test(c, test_one_row_each);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
