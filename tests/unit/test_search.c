/* test_search.c - the search plugins through their tables alone, as the host calls them.
 *
 * For each: same seed and history give the same points, every value is legal, replaying asks and
 * tells rebuilds the state, nothing is proposed twice while points are left, a finite space is
 * exhausted exactly.  NSGA-II must beat random search on ZDT1 and on a discrete toy at 100 trials
 * (medians over seeds, area below a fixed reference point counted by an independent sweep). */
#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <sqz/space.h>
#include <stdio.h>
#include <stdlib.h>

static void host_log(const sqz_host *h, int32_t level, const char *text)
{
    (void)h;
    (void)level;
    fprintf(stderr, "%s\n", text);
}

static sqz_status host_fail(const sqz_host *h, sqz_status code, const char *text)
{
    host_log(h, SQZ_LOG_ERROR, text);
    return code;
}

static int32_t host_tick(const sqz_host *h, double done, const char *what)
{
    (void)h;
    (void)done;
    (void)what;
    return 0;
}

static const void *host_service(const sqz_host *h, const char *id)
{
    (void)h;
    (void)id;
    return NULL;
}

static const sqz_host host = {sizeof(sqz_host), 0,         NULL,      "test",
                              host_log,         host_fail, host_tick, host_service};

typedef struct searcher {
    const sqz_agent *agent;
    const sqz_search *table;
    void *self;
} searcher;

static searcher start(const char *folder, const sqz_space *space)
{
    char path[512];
    const char *dir = getenv("SQZ_TEST_PLUGINS");
    snprintf(path, sizeof path, "%s/%s.so", dir ? dir : SQZ_PLUGIN_DIR, folder);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", so ? "" : dlerror());
    const sqz_plugin *(*entry)(void) = (const sqz_plugin *(*)(void))dlsym(so, "sqz_plugin_v1");
    ck_assert(entry != NULL);
    searcher s = {entry()->agents, NULL, NULL};
    ck_assert_str_eq(s.agent->kind, "search/1");
    s.table = s.agent->extension(SQZ_SEARCH_1);
    ck_assert_int_eq(s.agent->open(&host, &s.self), SQZ_OK);
    ck_assert_int_eq(s.table->space(&host, s.self, space), SQZ_OK);
    return s;
}

static void stop(searcher s)
{
    s.agent->close(&host, s.self);
}

/* ---- spaces and objectives --------------------------------------------------------------------
 */

#define DIM(t, name, lo, hi, parent, value, n, values)                                             \
    {                                                                                              \
        sizeof(sqz_dim), t, name, lo, hi, 0, parent, value, n, values                              \
    }

static const double bit_values[] = {2, 3, 4, 8}, group_values[] = {-1, 32, 64, 128};
static const sqz_dim toy_dims[] = {DIM(SQZ_CHOICE, "method", 0, 2, -1, 0, 0, NULL),
                                   DIM(SQZ_INT, "bits", 2, 8, -1, 0, 4, bit_values),
                                   DIM(SQZ_INT, "group", -1, 128, -1, 0, 4, group_values),
                                   DIM(SQZ_BOOL, "symmetric", 0, 1, -1, 0, 0, NULL),
                                   DIM(SQZ_INT, "rounds", 1, 6, 0, 1, 0, NULL),
                                   DIM(SQZ_CHOICE, "order", 0, 2, 0, 2, 0, NULL),
                                   DIM(SQZ_INT, "damp", 0, 9, 0, 2, 0, NULL)};
static const sqz_space toy = {sizeof(sqz_space), sizeof(sqz_dim), 7, toy_dims, 2, 1};
/* method 0: 32 points; method 1: 32 x 6; method 2: 32 x 3 x 10 */
enum { TOY_POINTS = 32 + 192 + 960 };

static void toy_objectives(const double *x, double *f)
{
    double grid = x[2] < 0 ? 1.5 : x[2] == 32 ? 0.75 : x[2] == 64 ? 0.87 : 1.0;
    double over = x[2] < 0 ? 0 : 16.0 / x[2] * (x[3] != 0 ? 1 : 1.5);
    double skill = x[0] == 0   ? 1
                   : x[0] == 1 ? 0.9 - 0.05 * x[4]
                               : 0.5 + 0.02 * fabs(x[6] - 6) + 0.1 * x[5];
    f[0] = log1p(16 * pow(4, 2 - x[1]) * grid * skill * (x[3] != 0 ? 1 : 0.85));
    f[1] = x[1] + over;
}

static sqz_dim real_dims[8];
static sqz_space zdt_space(uint64_t seed)
{
    for (int i = 0; i < 8; i++) real_dims[i] = (sqz_dim)DIM(SQZ_REAL, "x", 0, 1, -1, 0, 0, NULL);
    return (sqz_space){sizeof(sqz_space), sizeof(sqz_dim), 8, real_dims, 2, seed};
}

static void zdt1(const double *x, double *f)
{
    double sum = 0;
    for (int i = 1; i < 8; i++) sum += x[i];
    double g = 1 + 9 * sum / 7;
    f[0] = x[0];
    f[1] = g * (1 - sqrt(x[0] / g));
}

/* Area between the points and the reference, by sorting on f0: independent of the core's code. */
static double area(double (*points)[2], int n, double r0, double r1)
{
    double total = 0, top = r1;
    char used[512] = {0};
    for (;;) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (!used[i] && (best < 0 || points[i][0] < points[best][0] ||
                             (points[i][0] == points[best][0] && points[i][1] < points[best][1])))
                best = i;
        if (best < 0) return total;
        used[best] = 1;
        if (points[best][0] < r0 && points[best][1] < top) {
            total += (r0 - points[best][0]) * (top - points[best][1]);
            top = points[best][1];
        }
    }
}

static double play(const char *folder, const sqz_space *space,
                   void (*objectives)(const double *, double *), int n, double r0, double r1)
{
    searcher s = start(folder, space);
    static double points[512][2];
    char why[200];
    for (int i = 0; i < n; i++) {
        double x[16];
        if (s.table->ask(&host, s.self, x, why, sizeof why) != SQZ_OK) {
            n = i;
            break;
        }
        objectives(x, points[i]);
        ck_assert_int_eq(s.table->tell(&host, s.self, x, points[i], 1), SQZ_OK);
    }
    stop(s);
    return area(points, n, r0, r1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_area(const char *folder, int discrete, int n, double *lowest)
{
    double v[15];
    for (int k = 0; k < 15; k++) {
        sqz_space space = discrete ? toy : zdt_space(0);
        space.seed = (uint64_t)k + 1;
        v[k] = discrete ? play(folder, &space, toy_objectives, n, 4, 13)
                        : play(folder, &space, zdt1, n, 11, 11);
    }
    qsort(v, 15, sizeof v[0], compare);
    if (lowest) *lowest = v[0];
    return v[7];
}

/* ---- properties ---------------------------------------------------------------------------------
 */

static const char *const folders[] = {"search_random", "search_nsga2", "search_grid"};

static void check_legal(const sqz_space *space, const double *x)
{
    for (int64_t i = 0; i < space->n_dims; i++) {
        const sqz_dim *d = &space->dims[i];
        ck_assert_msg(x[i] >= d->lo && x[i] <= d->hi, "%s = %g", d->name, x[i]);
        if (d->parent >= 0 && x[d->parent] != d->parent_value) {
            ck_assert_double_eq(x[i], d->n_values ? d->values[0] : d->lo);
            continue;
        }
        int legal = d->n_values == 0;
        for (int64_t k = 0; k < d->n_values; k++) legal |= d->values[k] == x[i];
        ck_assert_msg(legal, "%s = %g is no legal value", d->name, x[i]);
        if (d->type != SQZ_REAL) ck_assert_double_eq(x[i], floor(x[i]));
    }
}

START_TEST(every_point_once)
{
    const char *folder = folders[_i];
    searcher s = start(folder, &toy);
    double(*seen)[7] = calloc(TOY_POINTS + 1, sizeof *seen), f[2];
    char why[200];
    int n = 0;
    /* two points that the strategy never asked for, one of them a failure */
    double seed[7] = {0, 4, 128, 1, 1, 0, 0}, failed[7] = {1, 2, 32, 0, 3, 0, 0};
    double none[2] = {NAN, NAN};
    memcpy(seen[n++], seed, sizeof seed);
    memcpy(seen[n++], failed, sizeof failed);
    toy_objectives(seed, f);
    ck_assert_int_eq(s.table->tell(&host, s.self, seed, f, 1), SQZ_OK);
    ck_assert_int_eq(s.table->tell(&host, s.self, failed, none, 0), SQZ_OK);
    for (;;) {
        double x[7];
        sqz_status status = s.table->ask(&host, s.self, x, why, sizeof why);
        if (status == SQZ_SEARCH_EXHAUSTED) break;
        ck_assert_int_eq(status, SQZ_OK);
        ck_assert(why[0] != 0);
        check_legal(&toy, x);
        for (int i = 0; i < n; i++)
            ck_assert_msg(memcmp(seen[i], x, sizeof x) != 0, "%s repeats a point", folder);
        ck_assert_int_lt(n, TOY_POINTS);
        memcpy(seen[n++], x, sizeof x);
        toy_objectives(x, f);
        if (n % 7 == 0) f[0] = NAN;
        ck_assert_int_eq(s.table->tell(&host, s.self, x, f, n % 7 != 0 && n % 5 != 0), SQZ_OK);
    }
    ck_assert_int_eq(n, TOY_POINTS);
    ck_assert_int_eq(s.table->ask(&host, s.self, seen[0], why, sizeof why), SQZ_SEARCH_EXHAUSTED);
    free(seen);
    stop(s);
}
END_TEST

/* Three pending points at any time, told in another order than asked; at every length the history
 * is replayed into a fresh instance, whose next point must be the same. */
START_TEST(replay_rebuilds_the_state)
{
    const char *folder = folders[_i];
    enum { N = 40, PENDING = 3 };
    double x[N][7], again[7];
    struct {
        int ask, point;
    } history[2 * N];
    int n_history = 0, asked = 0, told[N] = {0};
    char why[200], why2[200];
    searcher s = start(folder, &toy);
    while (asked < N) {
        searcher copy = start(folder, &toy);
        for (int i = 0; i < n_history; i++) {
            double f[2];
            int p = history[i].point;
            if (history[i].ask) {
                ck_assert_int_eq(copy.table->ask(&host, copy.self, again, why2, sizeof why2),
                                 SQZ_OK);
                ck_assert(!memcmp(again, x[p], sizeof again));
            } else {
                toy_objectives(x[p], f);
                copy.table->tell(&host, copy.self, x[p], f, p % 4 != 3);
            }
        }
        ck_assert_int_eq(s.table->ask(&host, s.self, x[asked], why, sizeof why), SQZ_OK);
        ck_assert_int_eq(copy.table->ask(&host, copy.self, again, why2, sizeof why2), SQZ_OK);
        ck_assert_msg(!memcmp(again, x[asked], sizeof again), "%s: ask %d differs", folder, asked);
        ck_assert_str_eq(why, why2);
        stop(copy);
        history[n_history].ask = 1;
        history[n_history++].point = asked++;
        if (asked > PENDING) { /* tell the newest but one of the pending ones */
            int p = asked - 2;
            while (told[p]) p--;
            double f[2];
            toy_objectives(x[p], f);
            s.table->tell(&host, s.self, x[p], f, p % 4 != 3);
            told[p] = 1;
            history[n_history].ask = 0;
            history[n_history++].point = p;
        }
    }
    stop(s);
}
END_TEST

START_TEST(seeds_differ)
{
    double a = 0, b = 0;
    for (int k = 0; k < 2; k++) {
        sqz_space space = zdt_space((uint64_t)k + 1);
        searcher s = start("search_nsga2", &space);
        double x[8];
        char why[100];
        ck_assert_int_eq(s.table->ask(&host, s.self, x, why, sizeof why), SQZ_OK);
        *(k ? &b : &a) = x[0];
        stop(s);
    }
    ck_assert(a != b);
}
END_TEST

START_TEST(nsga2_beats_random)
{
    for (int discrete = 0; discrete < 2; discrete++) {
        double random = median_area("search_random", discrete, 100, NULL);
        double nsga2 = median_area("search_nsga2", discrete, 100, NULL);
        printf("%s, 100 trials, median area: random %.4f, nsga2 %.4f\n",
               discrete ? "discrete toy" : "zdt1(8)", random, nsga2);
        ck_assert_double_gt(nsga2, random);
    }
}
END_TEST

/* The best possible figure of the discrete toy, from the grid; nsga2 gets most of it. */
START_TEST(grid_is_the_optimum)
{
    double f[2], lowest;
    static double all[TOY_POINTS][2];
    searcher s = start("search_grid", &toy);
    double x[7];
    char why[100];
    int n = 0;
    while (s.table->ask(&host, s.self, x, why, sizeof why) == SQZ_OK) {
        toy_objectives(x, f);
        memcpy(all[n++], f, sizeof f);
    }
    stop(s);
    ck_assert_int_eq(n, TOY_POINTS);
    double kept[512][2];
    int k = 0; /* only points nobody beats matter to the area */
    for (int i = 0; i < n; i++) {
        int beaten = 0;
        for (int j = 0; j < n && !beaten; j++)
            beaten = all[j][0] <= all[i][0] && all[j][1] <= all[i][1] &&
                     (all[j][0] < all[i][0] || all[j][1] < all[i][1]);
        if (!beaten && k < 512) memcpy(kept[k++], all[i], sizeof f);
    }
    double best = area(kept, k, 4, 13), nsga2 = median_area("search_nsga2", 1, 100, &lowest);
    printf("discrete toy: optimum %.4f, nsga2 median %.4f lowest %.4f\n", best, nsga2, lowest);
    ck_assert_double_gt(nsga2, 0.97 * best);
    ck_assert_double_le(nsga2, best + 1e-9);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("search");
    TCase *t = tcase_create("search");
    tcase_add_loop_test(t, every_point_once, 0, 3);
    tcase_add_loop_test(t, replay_rebuilds_the_state, 0, 3);
    tcase_add_test(t, seeds_differ);
    tcase_add_test(t, nsga2_beats_random);
    tcase_add_test(t, grid_is_the_optimum);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
