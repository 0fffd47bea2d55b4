/* test_paired.c - paired statistics against scipy's binomial and normal distributions. */
#include "report/paired.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

START_TEST(mcnemar_as_scipy)
{
    static const struct {
        int lost, gained;
        double exact, mid;
    } cases[] = {{0, 0, 1, 1},
                 {5, 5, 1, 0.876953125},
                 {9, 3, 0.14599609375, 0.09228515625},
                 {0, 6, 0.03125, 0.015625},
                 {40, 62, 0.0370667674385606, 0.0296822146316268},
                 {900, 1000, 0.0231088451089012, 0.0217914992537136}};
    static double a[2000], b[2000];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = cases[i].lost + cases[i].gained;
        for (int k = 0; k < n; k++) {
            a[k] = k < cases[i].lost;
            b[k] = !(k < cases[i].lost);
        }
        a[n] = b[n] = 1;
        mcnemar m = paired_mcnemar(a, b, n + 1);
        ck_assert_int_eq(m.lost, cases[i].lost);
        ck_assert_int_eq(m.gained, cases[i].gained);
        ck_assert_double_eq_tol(m.exact, cases[i].exact, 1e-9);
        ck_assert_double_eq_tol(m.mid, cases[i].mid, 1e-9);
    }
}
END_TEST

/* The interval of a mean of n independent values is mean +- 1.96 sd / sqrt(n). */
START_TEST(bootstrap_as_the_normal_interval)
{
    enum { N = 400 };
    double a[N] = {0}, b[N];
    for (int i = 0; i < N; i++) b[i] = i % 4 == 0;
    interval x, y;
    ck_assert_int_eq(paired_bootstrap(a, b, N, 20000, 0.95, 7, &x), 0);
    ck_assert_int_eq(paired_bootstrap(a, b, N, 20000, 0.95, 7, &y), 0);
    double half = 1.959964 * sqrt(0.25 * 0.75 / N);
    ck_assert_double_eq(x.mean, 0.25);
    ck_assert_double_eq_tol(x.lo, 0.25 - half, 0.004);
    ck_assert_double_eq_tol(x.hi, 0.25 + half, 0.004);
    ck_assert(x.lo == y.lo && x.hi == y.hi);
}
END_TEST

START_TEST(items_and_quantiles)
{
    ck_assert_double_eq_tol(normal_quantile(0.975), 1.959963984540054, 1e-10);
    ck_assert_double_eq_tol(normal_quantile(0.999), 3.090232306167813, 1e-10);
    /* ((1.959964 + 0.841621) * 0.5 / 0.02)^2 = 4905.6 */
    ck_assert_double_eq(paired_items_needed(0.5, 0.02, 0.05, 0.8), 4906);
    ck_assert(isinf(paired_items_needed(0.5, 0, 0.05, 0.8)));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("paired");
    TCase *t = tcase_create("statistics");
    tcase_add_test(t, mcnemar_as_scipy);
    tcase_add_test(t, bootstrap_as_the_normal_interval);
    tcase_add_test(t, items_and_quantiles);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
