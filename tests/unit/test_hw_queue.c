/* test_hw_queue.c - operations that wait (begin ... sync) give the bytes of operations that run at
 * once.
 *
 * Random programs over a few buffers, so that steps often read or overwrite what steps just before
 * them wrote; each runs at once on one copy of the buffers and waiting, with syncs at random
 * places, on another.  Lists in host memory are spoilt as soon as an operation has returned.  Pools
 * are the real one with 1 and 4 threads, and one that promises four and gives one, last part first.
 */
#include "device_host.h"
#include "quant/affine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOKENS = 8,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 32,
    WIDTH = HEADS * DIM, /* of x, q and attention */
    WIDE = 320,          /* of the middle */
    REGION = TOKENS * WIDE,
    REGIONS = 6,
    WEIGHTS = 6,
    CAPACITY = 64,
    LAYERS = 2,
    OPS = 700 /* more than wait at once */
};

/* ---- a pool that promises four threads and gives one --------------------------------------- */

static int32_t four_promised(const sqz_host *h)
{
    (void)h;
    return 4;
}

static void one_given(const sqz_host *h, int64_t n, int64_t grain,
                      void (*body)(void *, int64_t, int64_t, int32_t), void *arg)
{
    (void)h;
    for (int64_t end = n; end > 0; end -= grain) body(arg, end > grain ? end - grain : 0, end, 0);
}

/* ---- what programs work on ----------------------------------------------------------------- */

static uint64_t seed;

static int64_t below(int64_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(seed >> 33) % n;
}

static float uniform(void) /* -1 .. 1 */
{
    return (float)below(1 << 20) / (1 << 19) - 1;
}

static void *dev;
static float cosines[CAPACITY * DIM / 2], sines[CAPACITY * DIM / 2], vector[WIDE];

typedef struct weight {
    int64_t rows, cols;
    float *data;
    sqz_affine affine;
    int32_t compute;
    void *packed;
} weight;
static weight weights[WEIGHTS];

/* Odd ones are 4-bit, even ones dense; products in both computes. */
static void make_weight(int i)
{
    weight *w = &weights[i];
    w->rows = i % 3 == 2 ? WIDE : WIDTH;
    w->cols = i % 3 == 1 ? WIDE : WIDTH;
    w->compute = i < WEIGHTS / 2 ? SQZ_F32 : SQZ_BF16;
    int64_t n = w->rows * w->cols, groups = affine_groups(w->cols, 64);
    w->data = malloc((size_t)n * sizeof(float));
    for (int64_t e = 0; e < n; e++) w->data[e] = uniform() / 8;
    sqz_weight from = {sizeof from, SQZ_F32, SQZ_FORM_DENSE, w->rows, w->cols, w->data, NULL};
    if (i % 2) {
        uint8_t *codes = malloc((size_t)n), *zeros = malloc((size_t)(w->rows * groups));
        float *scales = malloc((size_t)(w->rows * groups) * sizeof *scales);
        for (int64_t e = 0; e < n; e++) codes[e] = (uint8_t)below(16);
        for (int64_t e = 0; e < w->rows * groups; e++) {
            scales[e] = 0.015625F;
            zeros[e] = (uint8_t)(i == 1 ? 7 : 8);
        }
        sqz_error err;
        ck_assert_int_eq(
            affine_pack(4, w->rows, w->cols, 64, i != 1, codes, scales, zeros, &w->affine, &err),
            SQZ_OK);
        free(codes);
        free(zeros);
        free(scales);
        from =
            (sqz_weight){sizeof from, 0, SQZ_FORM_INT_AFFINE, w->rows, w->cols, NULL, &w->affine};
    }
    ck_assert_int_eq(hw->pack(dev, &from, w->compute, &w->packed), SQZ_OK);
}

static void set_up(void)
{
    load_backend();
    ck_assert(SQZ_HAS(hw, sqz_hardware, begin) && hw->begin);
    ck_assert_int_eq(agent->open(&host, &dev), SQZ_OK);
    seed = 7;
    for (int i = 0; i < WEIGHTS; i++) make_weight(i);
    for (int i = 0; i < CAPACITY * DIM / 2; i++) {
        cosines[i] = uniform();
        sines[i] = uniform();
    }
    for (int i = 0; i < WIDE; i++) vector[i] = 1 + uniform() / 4;
}

static void tear_down(void)
{
    for (int i = 0; i < WEIGHTS; i++) {
        hw->packed_free(dev, weights[i].packed);
        free(weights[i].data);
        if (i % 2) affine_free(&weights[i].affine);
    }
    agent->close(&host, dev);
}

/* The buffers of one run. */
typedef struct state {
    void *arena; /* [REGIONS * REGION] */
    void *kv;
} state;

static state fresh_state(void)
{
    state s;
    sqz_kv_desc d = {.struct_size = sizeof d,
                     .layers = LAYERS,
                     .slots = TOKENS,
                     .capacity = CAPACITY,
                     .kv_heads = KV_HEADS,
                     .head_dim = DIM,
                     .schema = "f32/1"};
    ck_assert_int_eq(hw->alloc(dev, REGIONS * REGION * 4, &s.arena), SQZ_OK);
    ck_assert_int_eq(hw->kv_new(dev, &d, &s.kv), SQZ_OK);
    float *x = hw->map(dev, s.arena);
    seed = 11;
    for (int i = 0; i < REGIONS * REGION; i++) x[i] = uniform();
    return s;
}

static void drop_state(state *s)
{
    hw->release(dev, s->arena);
    hw->kv_free(dev, s->kv);
}

/* ---- programs ------------------------------------------------------------------------------ */

enum { LINEAR, NORM, LAYER_NORM, ROPE, GATE, ACTIVATE, ADD, SCALE, SOFTCAP, ATTEND, MOVE, KINDS };

typedef struct operation {
    int kind, weight, accumulate, layer, act, sync;
    int64_t tokens, past, a, b, c; /* a, b, c: floats into the arena */
} operation;

/* Somewhere in a region, so that operands often touch and often miss one another. */
static int64_t somewhere(int64_t region, int64_t floats)
{
    int64_t room = REGION - floats;
    return region * REGION + (room > 0 ? below(room / 64 + 1) * 64 : 0);
}

static void make_program(operation *p, uint64_t from)
{
    seed = from;
    for (int i = 0; i < OPS; i++) {
        operation *o = &p[i];
        *o = (operation){.kind = (int)below(KINDS + 4), /* every third a product */
                         .weight = (int)below(WEIGHTS),
                         .accumulate = below(4) == 0,
                         .layer = (int)below(LAYERS),
                         .act = 1 + (int)below(4),
                         .sync = below(60) == 0,
                         .tokens = below(40) == 0 ? TOKENS : 1 + below(3),
                         .past = below(CAPACITY - TOKENS)};
        if (o->kind >= KINDS) o->kind = LINEAR;
        const weight *w = &weights[o->weight];
        int64_t in = o->tokens * (o->kind == LINEAR ? w->cols : WIDTH);
        int64_t out = o->tokens * (o->kind == LINEAR ? w->rows : WIDTH);
        /* three regions: within one operation, operands do not touch */
        int64_t region = below(REGIONS), step = 1 + below(2);
        o->a = somewhere(region, in);
        o->b = somewhere((region + step) % REGIONS, out);
        o->c = somewhere((region + 2 * step) % REGIONS, out);
    }
}

static void run_linear(const operation *o, const state *s)
{
    const weight *w = &weights[o->weight];
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = w->compute,
                        .packed = w->packed,
                        .tokens = o->tokens,
                        .x = {s->arena, o->a * 4},
                        .y = {s->arena, o->b * 4},
                        .bias = {o->act == 1 ? vector : NULL, 0},
                        .accumulate = o->accumulate};
    ck_assert_int_eq(hw->linear(dev, &op), SQZ_OK);
    memset(&op, 0xff, sizeof op);
}

static void run_norm(const operation *o, const state *s)
{
    sqz_mem x = {s->arena, o->a * 4}, y = {s->arena, (o->accumulate ? o->a : o->b) * 4};
    sqz_op_norm op = {.struct_size = sizeof op,
                      .rows = o->tokens,
                      .n = WIDTH,
                      .x = x,
                      .y = y,
                      .weight = {vector, 0},
                      .eps = 1e-5};
    sqz_op_layer_norm layer = {.struct_size = sizeof layer,
                               .rows = o->tokens,
                               .n = WIDTH,
                               .x = x,
                               .y = y,
                               .weight = {vector, 0},
                               .bias = {vector, 0},
                               .eps = 1e-5};
    ck_assert_int_eq(o->kind == NORM ? hw->norm(dev, &op) : hw->layer_norm(dev, &layer), SQZ_OK);
    memset(&op, 0xff, sizeof op);
    memset(&layer, 0xff, sizeof layer);
}

static void run_rope(const operation *o, const state *s)
{
    int32_t position[TOKENS];
    for (int64_t t = 0; t < o->tokens; t++) position[t] = (int32_t)(o->past + t);
    sqz_op_rope op = {.struct_size = sizeof op,
                      .tokens = o->tokens,
                      .heads = HEADS,
                      .head_dim = DIM,
                      .n = DIM,
                      .x = {s->arena, o->a * 4},
                      .cosines = {cosines, 0},
                      .sines = {sines, 0},
                      .position = position};
    ck_assert_int_eq(hw->rope(dev, &op), SQZ_OK);
    memset(position, 0xff, sizeof position);
}

/* Keys and values from a, appended; then queries from c over all of them into b.  Even layers are
 * one sequence, odd ones a sequence for each token. */
static void run_attend(const operation *o, const state *s)
{
    int64_t n = o->layer % 2 ? o->tokens : 1, first[TOKENS + 1], past[TOKENS];
    int32_t slot[TOKENS];
    for (int64_t i = 0; i < n; i++) {
        first[i] = i;
        past[i] = o->past;
        slot[i] = (int32_t)i;
    }
    first[n] = o->tokens;
    sqz_mem k = {s->arena, o->a * 4}, v = {s->arena, (o->a + o->tokens * KV_HEADS * DIM) * 4};
    sqz_op_kv_append append = {.struct_size = sizeof append,
                               .layer = o->layer,
                               .sequences = n,
                               .first = first,
                               .slot = slot,
                               .past = past,
                               .k = k,
                               .v = v,
                               .kv = s->kv};
    sqz_op_attend op = {.struct_size = sizeof op,
                        .layer = o->layer,
                        .sequences = n,
                        .first = first,
                        .slot = slot,
                        .past = past,
                        .heads = HEADS,
                        .kv_heads = KV_HEADS,
                        .head_dim = DIM,
                        .scale = 0.2,
                        .q = {s->arena, o->c * 4},
                        .k = k,
                        .v = v,
                        .y = {s->arena, o->b * 4},
                        .kv = s->kv};
    ck_assert_int_eq(hw->kv_append(dev, &append), SQZ_OK);
    ck_assert_int_eq(hw->attend(dev, &op), SQZ_OK);
    memset(first, 0xff, sizeof first);
    memset(past, 0xff, sizeof past);
    memset(slot, 0xff, sizeof slot);
}

/* Rows gathered; and what is not left undone: bytes brought out and in again, a cache copied. */
static void run_move(const operation *o, const state *s)
{
    static float bytes[REGION];
    sqz_mem a = {s->arena, o->a * 4}, b = {s->arena, o->b * 4};
    int64_t rows[TOKENS];
    for (int64_t t = 0; t < o->tokens; t++) rows[t] = o->tokens - 1 - t;
    if (o->act == 1) {
        ck_assert_int_eq(hw->gather(dev, o->tokens, WIDTH, rows, &a, &b), SQZ_OK);
        memset(rows, 0xff, sizeof rows);
        return;
    }
    if (o->act == 2) {
        ck_assert_int_eq(hw->kv_copy(dev, s->kv, 0, 1, o->past), SQZ_OK);
        return;
    }
    ck_assert_int_eq(hw->download(dev, bytes, &a, o->tokens * WIDTH * 4), SQZ_OK);
    ck_assert_int_eq(hw->upload(dev, &b, bytes, o->tokens * WIDTH * 4), SQZ_OK);
}

static void run_one(const operation *o, const state *s)
{
    sqz_mem a = {s->arena, o->a * 4}, b = {s->arena, o->b * 4}, c = {s->arena, o->c * 4};
    int64_t n = o->tokens * WIDTH;
    switch (o->kind) {
    case LINEAR: run_linear(o, s); break;
    case NORM:
    case LAYER_NORM: run_norm(o, s); break;
    case ROPE: run_rope(o, s); break;
    case GATE: ck_assert_int_eq(hw->gate(dev, o->act, n, &a, &b, &c), SQZ_OK); break;
    case ACTIVATE: ck_assert_int_eq(hw->activate(dev, o->act, n, &a, &a), SQZ_OK); break;
    case ADD: ck_assert_int_eq(hw->add(dev, n, &a, &b), SQZ_OK); break;
    case SCALE: ck_assert_int_eq(hw->scale(dev, n, 0.5, &a), SQZ_OK); break;
    case SOFTCAP: ck_assert_int_eq(hw->softcap(dev, n, 4, &a), SQZ_OK); break;
    case ATTEND: run_attend(o, s); break;
    default: run_move(o, s);
    }
    /* sizes stay within bounds */
    if (o->kind == LINEAR || o->kind == ADD || o->kind == GATE) {
        sqz_mem y = o->kind == GATE ? c : b;
        int64_t floats = o->kind == LINEAR ? o->tokens * weights[o->weight].rows : n;
        ck_assert_int_eq(hw->softcap(dev, floats, 8, &y), SQZ_OK);
    }
}

/* The arena after the program, on the heap. */
static float *result_of(const operation *p, int waits)
{
    state s = fresh_state();
    float *out = malloc(REGIONS * REGION * 4);
    if (waits) ck_assert_int_eq(hw->begin(dev), SQZ_OK);
    for (int i = 0; i < OPS; i++) {
        run_one(&p[i], &s);
        if (!waits || !p[i].sync) continue;
        ck_assert_int_eq(hw->sync(dev), SQZ_OK);
        ck_assert_int_eq(hw->begin(dev), SQZ_OK);
    }
    ck_assert_int_eq(hw->sync(dev), SQZ_OK);
    memcpy(out, hw->map(dev, s.arena), REGIONS * REGION * 4);
    drop_state(&s);
    return out;
}

static void check_programs(int programs)
{
    static operation p[OPS];
    for (int i = 0; i < programs; i++) {
        make_program(p, 1000 + (uint64_t)i);
        float *now = result_of(p, 0), *later = result_of(p, 1);
        int64_t finite = 0;
        for (int e = 0; e < REGIONS * REGION; e++) {
            ck_assert_msg(memcmp(now + e, later + e, 4) == 0, "program %d, entry %d: %g, not %g", i,
                          e, (double)later[e], (double)now[e]);
            finite += now[e] - now[e] == 0;
        }
        ck_assert_int_eq(finite, REGIONS * REGION);
        free(now);
        free(later);
    }
}

START_TEST(one_thread)
{
    pool_set_threads(1);
    check_programs(6);
}
END_TEST

START_TEST(four_threads)
{
    pool_set_threads(4);
    check_programs(6);
}
END_TEST

/* The same bytes whatever the threads. */
START_TEST(threads_agree)
{
    static operation p[OPS];
    make_program(p, 5);
    pool_set_threads(1);
    float *one = result_of(p, 1);
    pool_set_threads(3);
    float *three = result_of(p, 1);
    ck_assert_mem_eq(one, three, REGIONS * REGION * 4);
    free(one);
    free(three);
}
END_TEST

/* A loop whose parts one thread runs after the other must end, and lose nothing. */
START_TEST(mean_pool)
{
    const sqz_pool real = pool_service;
    pool_service = (sqz_pool){sizeof(sqz_pool), 0, four_promised, one_given};
    check_programs(2);
    pool_service = real;
}
END_TEST

/* What waits is done before memory that it needs is given back, and by close without harm. */
START_TEST(given_back)
{
    static operation p[OPS];
    make_program(p, 9);
    state s = fresh_state();
    ck_assert_int_eq(hw->begin(dev), SQZ_OK);
    for (int i = 0; i < 50; i++) run_one(&p[i], &s);
    drop_state(&s);
    s = fresh_state();
    for (int i = 0; i < 50; i++) run_one(&p[i], &s);
    hw->packed_free(dev, weights[0].packed);
    free(weights[0].data);
    make_weight(0);
    ck_assert_int_eq(hw->sync(dev), SQZ_OK);
    drop_state(&s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {one_thread, four_threads, threads_agree, mean_pool, given_back};
    Suite *suite = suite_create("hw_queue");
    TCase *tc = tcase_create("waiting");
    tcase_add_unchecked_fixture(tc, set_up, tear_down); /* one process: OpenMP and fork */
    tcase_set_timeout(tc, 120);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
