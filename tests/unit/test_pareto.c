/* test_pareto.c - front against brute force, volume against inclusion-exclusion and counted cells.
 */
#include "coordinator/pareto.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 12345;
static double draw(void)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state >> 11) * 0x1p-53;
}

/* Sum over non-empty subsets of (-1)^(k+1) times the box of their worst corner. */
static double inclusion_exclusion(const double *p, int n, int m, const double *r)
{
    double total = 0;
    for (int set = 1; set < 1 << n; set++) {
        double v = 1;
        for (int a = 0; a < m; a++) {
            double worst = -INFINITY;
            for (int i = 0; i < n; i++)
                if (set >> i & 1) worst = fmax(worst, p[i * m + a]);
            v *= fmax(0, r[a] - worst);
        }
        total += __builtin_popcount((unsigned)set) & 1 ? v : -v;
    }
    return total;
}

START_TEST(volume_is_exact)
{
    for (int m = 1; m <= 6; m++)
        for (int round = 0; round < 60; round++) {
            double p[12 * 6], r[6];
            int n = round % 13;
            for (int a = 0; a < m; a++) r[a] = 0.9 + 0.2 * draw();
            for (int i = 0; i < n * m; i++) /* a coarse grid gives ties and equal points */
                p[i] = round % 3 ? floor(draw() * 5) / 4 : draw() * 1.1;
            if (n > 3 && round % 2) memcpy(p + m, p, (size_t)m * sizeof *p);
            double want = inclusion_exclusion(p, n, m, r), have = pareto_hypervolume(p, n, m, r);
            ck_assert_msg(fabs(want - have) < 1e-11, "%d axes %d points: %.15g, want %.15g", m, n,
                          have, want);
        }
}
END_TEST

/* Points on integer coordinates: the volume is a number of unit cells. */
START_TEST(volume_counts_cells)
{
    enum { SIDE = 7 };
    for (int round = 0; round < 30; round++) {
        double p[40 * 3], r[3] = {SIDE, SIDE, SIDE};
        int n = 1 + (int)(draw() * 39), cells = 0;
        for (int i = 0; i < 3 * n; i++) p[i] = floor(draw() * (SIDE + 1));
        for (int c = 0; c < SIDE * SIDE * SIDE; c++) {
            int x = c % SIDE, y = c / SIDE % SIDE, z = c / SIDE / SIDE, covered = 0;
            for (int i = 0; i < n && !covered; i++)
                covered = p[3 * i] <= x && p[3 * i + 1] <= y && p[3 * i + 2] <= z;
            cells += covered;
        }
        ck_assert_double_eq(pareto_hypervolume(p, n, 3, r), cells);
    }
}
END_TEST

START_TEST(known_values)
{
    /* the textbook three: 2-D area by hand */
    double p[] = {1, 3, 2, 2, 3, 1}, r[] = {4, 4};
    ck_assert_double_eq(pareto_hypervolume(p, 3, 2, r), 6);
    ck_assert_double_eq(pareto_hypervolume(p, 0, 2, r), 0);
    double beyond[] = {5, 1, 1, 4, NAN, 0, -INFINITY, 0};
    ck_assert_double_eq(pareto_hypervolume(beyond, 4, 2, r), 0);
}
END_TEST

START_TEST(front_matches_brute_force)
{
    for (int round = 0; round < 2000; round++) {
        int m = 1 + round % 5, n = (int)(draw() * 30);
        double p[30 * 5];
        uint8_t on[30];
        for (int i = 0; i < n * m; i++) {
            double u = draw();
            p[i] = u < 0.02 ? NAN : u < 0.04 ? INFINITY : u < 0.05 ? -INFINITY : floor(draw() * 6);
        }
        int64_t count = pareto_front(p, n, m, on), want_count = 0;
        for (int i = 0; i < n; i++) {
            int want = 1;
            for (int a = 0; a < m; a++) want &= isfinite(p[i * m + a]) != 0;
            for (int k = 0; k < n && want; k++) {
                int all = 1, one = 0, finite = 1;
                for (int a = 0; a < m; a++) {
                    finite &= isfinite(p[k * m + a]) != 0;
                    all &= p[k * m + a] <= p[i * m + a];
                    one |= p[k * m + a] < p[i * m + a];
                }
                want = !(finite && all && one);
            }
            ck_assert_int_eq(on[i], want);
            want_count += want;
        }
        ck_assert_int_eq(count, want_count);
    }
}
END_TEST

/* A new point never shrinks the volume, and a dominated one does not change it. */
START_TEST(volume_is_monotone)
{
    double p[20 * 4], r[4] = {1, 1, 1, 1}, last = 0;
    for (int i = 0; i < 20; i++) {
        for (int a = 0; a < 4; a++) p[4 * i + a] = draw();
        double v = pareto_hypervolume(p, i + 1, 4, r);
        int dominated = 0;
        for (int k = 0; k < i; k++) dominated |= pareto_dominates(p + 4 * k, p + 4 * i, 4);
        ck_assert(dominated ? fabs(v - last) < 1e-12 : v > last);
        last = v;
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pareto");
    TCase *t = tcase_create("pareto");
    tcase_add_test(t, volume_is_exact);
    tcase_add_test(t, volume_counts_cells);
    tcase_add_test(t, known_values);
    tcase_add_test(t, front_matches_brute_force);
    tcase_add_test(t, volume_is_monotone);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
