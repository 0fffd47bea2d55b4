/* test_paired.c - paired statistics against scipy and statsmodels
 * (tests/golden/make_statistics.py), and how often the sequential test is wrong. */
#include "paired/outcomes.h"
#include "paired/paired.h"
#include "paired/sequential.h"
#include "scratch.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- golden values --------------------------------------------------------------------------- */
static double unit(uint64_t *state)
{
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

static void check_mcnemar(const char *line)
{
    static double a[2001], b[2001];
    int lost, gained;
    double exact, mid;
    ck_assert_int_eq(sscanf(line, "mcnemar %d %d %lf %lf", &lost, &gained, &exact, &mid), 4);
    int n = lost + gained;
    for (int k = 0; k < n; k++) {
        a[k] = k < lost;
        b[k] = !(k < lost);
    }
    a[n] = b[n] = 1;
    mcnemar m = paired_mcnemar(a, b, n + 1);
    ck_assert_int_eq(m.lost, lost);
    ck_assert_int_eq(m.gained, gained);
    ck_assert_double_eq_tol(m.exact, exact, 1e-9);
    ck_assert_double_eq_tol(m.mid, mid, 1e-9);
    ck_assert(paired_binary(a, b, n + 1));
}

static void check_mean(const char *line)
{
    static double a[1000], b[1000];
    int n;
    unsigned long long seed;
    double mean, error, p;
    ck_assert_int_eq(sscanf(line, "mean %d %llu %lf %lf %lf", &n, &seed, &mean, &error, &p), 5);
    uint64_t state = seed;
    for (int i = 0; i < n; i++) {
        a[i] = unit(&state);
        b[i] = unit(&state) + 0.05;
    }
    paired got = paired_mean(a, b, n);
    ck_assert_int_eq(got.n, n);
    ck_assert_double_eq_tol(got.mean, mean, 1e-12);
    ck_assert_double_eq_tol(got.stderr_, error, 1e-12);
    ck_assert_double_eq_tol(got.p, p, 1e-9 * p);
    ck_assert(!paired_binary(a, b, n));
}

static void check_wealth(const char *line)
{
    long long n, n_all;
    unsigned long long seed;
    double margin, above, below;
    ck_assert_int_eq(sscanf(line, "wealth %lld %lld %lf %llu %lf %lf", &n, &n_all, &margin, &seed,
                            &above, &below),
                     6);
    uint64_t state = seed;
    sequential s;
    sequential_begin(&s, SEQUENTIAL_BOUNDED, margin, 0.05, -1, 1, n_all);
    for (long long i = 0; i < n; i++) {
        double u = unit(&state);
        sequential_add(&s, u < 0.1 ? -1 : u > 0.95 ? 1 : 0);
    }
    ck_assert_double_eq_tol(s.above, above, 1e-9);
    ck_assert_double_eq_tol(s.below, below, 1e-9);
}

START_TEST(as_scipy_and_statsmodels)
{
    FILE *f = fopen(SQZ_SOURCE_DIR "/tests/golden/statistics/paired.txt", "r");
    ck_assert_ptr_nonnull(f);
    char line[256];
    double v[5], want;
    int n = 0;
    while (fgets(line, sizeof line, f)) {
        n++;
        if (!strncmp(line, "mcnemar ", 8)) check_mcnemar(line);
        if (!strncmp(line, "mean", 4)) check_mean(line);
        if (!strncmp(line, "wealth", 6)) check_wealth(line);
        if (sscanf(line, "quantile %lf %lf", v, &want) == 2)
            ck_assert_double_eq_tol(normal_quantile(v[0]), want, 1e-9);
        if (sscanf(line, "power %lf %lf %lf %lf %lf", v, v + 1, v + 2, v + 3, &want) == 5)
            ck_assert_double_le(fabs(paired_items_needed(v[0], v[1], v[2], v[3]) - want), 1);
        if (sscanf(line, "mcnemar_power %lf %lf %lf %lf %lf", v, v + 1, v + 2, v + 3, &want) == 5) {
            /* never too few, never a quarter too many */
            ck_assert_double_ge(mcnemar_items_needed(v[0], v[1], v[2], v[3]), want);
            ck_assert_double_le(mcnemar_items_needed(v[0], v[1], v[2], v[3]), 1.25 * want);
        }
        if (sscanf(line, "normal_wealth %lf %lf %lf %lf", v, v + 1, v + 2, &want) == 4)
            ck_assert_double_eq_tol(sequential_mixture(v[1], v[0], v[2]), want, 1e-6);
    }
    fclose(f);
    ck_assert_int_ge(n, 32);
    mcnemar none = paired_mcnemar(v, v, 0);
    ck_assert(none.exact == 1 && none.mid == 1);
    ck_assert(isinf(paired_items_needed(0.5, 0, 0.05, 0.8)));
    ck_assert(isinf(mcnemar_items_needed(0.5, 0, 0.05, 0.8)));
    /* differences that leave fewer items discordant than themselves are all of one kind */
    ck_assert_double_eq(mcnemar_items_needed(0, -0.1, 0.05, 0.8),
                        mcnemar_items_needed(0.1, 0.1, 0.05, 0.8));
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

/* ---- outcomes -------------------------------------------------------------------------------- */
START_TEST(outcomes_are_paired_by_row)
{
    char *path = path_format("%s/a.jsonl", scratch);
    ck_assert(
        !file_printf(path, NULL,
                     "{\"i\":4,\"outcome\":1,\"note\":\"four\"}\n{\"i\":1,\"outcome\":0}\nnot "
                     "JSON\n{\"i\":2}\n{\"dataset\":\"other\",\"i\":9,\"outcome\":1}\n"
                     "{\"i\":7,\"outcome\":1}\n{\"i\":4,\"outcome\":0}"));
    outcomes a, b;
    outcome_pairs p;
    ck_assert(!outcomes_read(path, "mine", 1, &a, NULL));
    ck_assert_int_eq(a.n, 3);
    ck_assert(a.at[0].i == 1 && a.at[1].i == 4 && a.at[2].i == 7);
    ck_assert(!file_printf(path, NULL,
                           "{\"i\":7,\"outcome\":0}\n{\"i\":8,\"outcome\":0}\n"
                           "{\"i\":1,\"outcome\":0.5}\n"));
    ck_assert(!outcomes_read(path, NULL, 0, &b, NULL));
    ck_assert(!outcomes_pair(&a, &b, &p, NULL));
    ck_assert_int_eq(p.n, 2);
    ck_assert(p.a[0] == 0 && p.b[0] == 0.5 && p.a[1] == 1 && p.b[1] == 0);
    ck_assert(p.first[1]->i == 7 && p.second[1]->i == 7);
    outcome_pairs_free(&p);
    outcomes_free(&a);
    outcomes_free(&b);
    free(path);
}
END_TEST

/* ---- the sequential test --------------------------------------------------------------------- */
enum { ITEMS = 1000, TIMES = 1000 };
static const double ALPHA = 0.05;

typedef struct trials {
    double above, below, items; /* shares, and the mean number of items until the decision */
} trials;

/* The set in so many random orders. */
static trials decide(const double *set, sequential_kind kind, double margin, uint64_t seed)
{
    static int64_t order[ITEMS];
    trials t = {0, 0, 0};
    for (int k = 0; k < TIMES; k++) {
        sequential s;
        sequential_shuffle(order, ITEMS, seed + (uint64_t)k);
        sequential_begin(&s, kind, margin, ALPHA, -1, 1, ITEMS);
        for (int i = 0; i < ITEMS && !s.decided; i++) sequential_add(&s, set[order[i]]);
        t.above += s.decided > 0;
        t.below += s.decided < 0;
        t.items += (double)s.n;
    }
    return (trials){t.above / TIMES, t.below / TIMES, t.items / TIMES};
}

static void fill(double *set, int lost, int gained)
{
    for (int i = 0; i < ITEMS; i++) set[i] = i < lost ? -1 : i < lost + gained ? 1 : 0;
}

/* Means just beside the margin are the hardest; the side that is wrong must stay below alpha. */
START_TEST(wrong_decisions_are_rare)
{
    static const struct {
        int lost, gained;
    } sets[] = {{40, 20}, {120, 100}, {21, 1}, {300, 280}};
    double set[ITEMS];
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++) {
        fill(set, sets[k].lost, sets[k].gained); /* mean -0.02 */
        trials under = decide(set, SEQUENTIAL_BOUNDED, -0.0195, 11);
        trials over = decide(set, SEQUENTIAL_BOUNDED, -0.0205, 12);
        ck_assert_msg(under.above <= ALPHA, "%d lost: %g above", sets[k].lost, under.above);
        ck_assert_msg(over.below <= ALPHA, "%d lost: %g below", sets[k].lost, over.below);
    }
}
END_TEST

START_TEST(clear_cases_end_early)
{
    double set[ITEMS];
    fill(set, 0, 0);
    trials same = decide(set, SEQUENTIAL_BOUNDED, -0.05, 13);
    ck_assert_double_eq(same.above, 1);
    ck_assert_double_lt(same.items, ITEMS / 5.0);
    fill(set, 200, 10);
    trials worse = decide(set, SEQUENTIAL_BOUNDED, -0.02, 14);
    ck_assert_double_ge(worse.below, 1 - ALPHA);
    ck_assert_double_lt(worse.items, ITEMS / 4.0);
    fill(set, 20, 20);
    trials noise = decide(set, SEQUENTIAL_BOUNDED, -0.03, 15);
    ck_assert_double_ge(noise.above, 1 - ALPHA);
    ck_assert_double_lt(noise.items, ITEMS / 1.5);
}
END_TEST

/* Losses: skewed, without bounds. */
START_TEST(losses_of_text)
{
    double set[ITEMS], mean = 0, spread = 0.1;
    uint64_t state = 21;
    for (int i = 0; i < ITEMS; i++) {
        set[i] = -spread * log(1 - unit(&state));
        mean += set[i] / ITEMS;
    }
    trials under = decide(set, SEQUENTIAL_NORMAL, mean + 1e-6, 31);
    trials over = decide(set, SEQUENTIAL_NORMAL, mean - 1e-6, 32);
    ck_assert_msg(under.above <= ALPHA, "%g above", under.above);
    ck_assert_msg(over.below <= ALPHA, "%g below", over.below);
    trials clear = decide(set, SEQUENTIAL_NORMAL, mean + spread / 2, 33);
    ck_assert_double_ge(clear.below, 1 - ALPHA);
    ck_assert_double_lt(clear.items, ITEMS / 5.0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("paired");
    TCase *t = tcase_create("statistics");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, as_scipy_and_statsmodels);
    tcase_add_test(t, bootstrap_as_the_normal_interval);
    tcase_add_test(t, outcomes_are_paired_by_row);
    tcase_add_test(t, wrong_decisions_are_rare);
    tcase_add_test(t, clear_cases_end_early);
    tcase_add_test(t, losses_of_text);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
