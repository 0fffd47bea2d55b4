/* The pool: every index once, ranges that do not depend on the threads, nested and concurrent
 * calls. */
#include "pool/pool.h"
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct seen {
    atomic_int *hits;
    atomic_llong *begins; /* [n] begin of the range that index belonged to */
    atomic_int bad;
    int64_t n, grain;
} seen;

static void mark(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    seen *s = arg;
    if (begin < 0 || end > s->n || begin >= end || thread < 0 || thread >= pool_threads())
        atomic_store(&s->bad, 1);
    if (end - begin < s->grain && end != s->n) atomic_store(&s->bad, 1);
    for (int64_t i = begin; i < end; i++) {
        atomic_fetch_add(&s->hits[i], 1);
        atomic_store(&s->begins[i], begin);
    }
}

static seen cover(int64_t n, int64_t grain)
{
    seen s = {.n = n, .grain = grain};
    s.hits = calloc((size_t)n + 1, sizeof *s.hits);
    s.begins = calloc((size_t)n + 1, sizeof *s.begins);
    pool_for(n, grain, mark, &s);
    ck_assert(!s.bad);
    for (int64_t i = 0; i < n; i++)
        if (s.hits[i] != 1) ck_abort_msg("index %lld visited %d times", (long long)i, s.hits[i]);
    ck_assert_int_eq(s.hits[n], 0);
    return s;
}

START_TEST(covers_once_in_fixed_ranges)
{
    static const int64_t sizes[] = {0, 1, 2, 63, 127, 128, 129, 1000, 65537};
    static const int64_t grains[] = {0, 1, 7, 100, 1000000};
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < 5; j++) {
            pool_set_threads(1);
            seen one = cover(sizes[i], grains[j]);
            for (int threads = 2; threads <= 5; threads++) {
                pool_set_threads(threads);
                ck_assert_int_eq(pool_threads(), threads);
                seen many = cover(sizes[i], grains[j]);
                for (int64_t k = 0; k < sizes[i]; k++)
                    if (one.begins[k] != many.begins[k]) ck_abort_msg("ranges differ");
                free(many.hits);
                free(many.begins);
            }
            free(one.hits);
            free(one.begins);
        }
}
END_TEST

typedef struct nest {
    atomic_int sum, wrong;
} nest;

typedef struct inner_call {
    nest *n;
    pthread_t self;
    int32_t thread;
} inner_call;

static void inner(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    inner_call *c = arg;
    if (!pthread_equal(c->self, pthread_self()) || thread != c->thread)
        atomic_store(&c->n->wrong, 1);
    atomic_fetch_add(&c->n->sum, (int)(end - begin));
}

static void outer(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    for (int64_t i = begin; i < end; i++) {
        inner_call c = {arg, pthread_self(), thread};
        pool_for(1000, 1, inner, &c);
    }
}

START_TEST(nested_calls_are_serial)
{
    nest n = {0};
    pool_set_threads(4);
    pool_for(50, 1, outer, &n);
    ck_assert_int_eq(n.sum, 50000);
    ck_assert_int_eq(n.wrong, 0);
}
END_TEST

static void *other_thread(void *arg)
{
    for (int i = 0; i < 50; i++) {
        seen s = cover(1000, 1);
        free(s.hits);
        free(s.begins);
    }
    return arg;
}

/* Loops from several threads of the host at once. */
START_TEST(concurrent_callers)
{
    pthread_t ids[3];
    pool_set_threads(3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&ids[i], NULL, other_thread, NULL), 0);
    for (int i = 0; i < 3; i++) pthread_join(ids[i], NULL);
}
END_TEST

static void meet(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    atomic_int *arrived = arg;
    (void)begin;
    (void)end;
    (void)thread;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 2) sched_yield(); /* never ends unless two threads work */
}

START_TEST(really_parallel)
{
    atomic_int arrived = 0;
    pool_set_threads(2);
    pool_for(2, 1, meet, &arrived);
    ck_assert_int_eq(arrived, 2);
}
END_TEST

START_TEST(default_threads)
{
    ck_assert_int_ge(pool_threads(), 1);
    pool_set_threads(0);
    int all = pool_threads();
    ck_assert_int_ge(all, 1);
    pool_set_threads(-1);
    ck_assert_int_eq(pool_threads(), all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool");
    TCase *t = tcase_create("pool");
    tcase_add_test(t, default_threads);
    tcase_add_test(t, covers_once_in_fixed_ranges);
    tcase_add_test(t, nested_calls_are_serial);
    tcase_add_test(t, concurrent_callers);
    tcase_add_test(t, really_parallel);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
