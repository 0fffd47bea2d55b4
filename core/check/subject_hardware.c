/* subject_hardware.c - memory and every operation of a backend, against the reference.
 *
 * Left out: odd sizes of each operation and its speed, whose tests live with the backends
 * (tests/unit). */
#include "check/probe.h"
#include "quant/affine.h"
#include "reference/reference.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 5, ROWS = 40, COLS = 96 };

static void fill(const probe *p, uint64_t stream, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = (float)probe_random(p, stream, (uint64_t)i);
}

static sqz_status told(agent *a, sqz_status s, sqz_error *err)
{
    return s ? agent_error(a, s, err) : SQZ_OK;
}

/* y = x W^T by the backend; x and y are host arrays. */
static sqz_status linear(const sqz_hardware *hw, void *dev, const sqz_weight *w, int32_t compute,
                         const float *x, int64_t tokens, float *y)
{
    void *packed = NULL, *hx = NULL, *hy = NULL;
    int64_t in = tokens * w->cols * 4, out = tokens * w->rows * 4;
    sqz_status s = hw->alloc(dev, in, &hx);
    if (!s) s = hw->alloc(dev, out, &hy);
    if (!s) s = hw->upload(dev, &(sqz_mem){hx, 0}, x, in);
    if (!s) s = hw->pack(dev, w, compute, &packed);
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = compute,
                        .packed = packed,
                        .tokens = tokens,
                        .x = {hx, 0},
                        .y = {hy, 0}};
    if (!s) s = hw->linear(dev, &op);
    if (!s) s = hw->sync(dev);
    if (!s) s = hw->download(dev, y, &(sqz_mem){hy, 0}, out);
    if (packed) hw->packed_free(dev, packed);
    if (hx) hw->release(dev, hx);
    if (hy) hw->release(dev, hy);
    return s;
}

typedef struct layer {
    float weight[ROWS * COLS], x[TOKENS * COLS], y[TOKENS * ROWS];
    double want[TOKENS * ROWS];
    sqz_affine affine;
    sqz_weight dense, quantized;
} layer;

static layer *make_layer(const probe *p)
{
    enum { GROUP = 32, GROUPS = COLS / GROUP };
    layer *l = calloc(1, sizeof *l);
    uint8_t codes[ROWS * COLS], zeros[ROWS * GROUPS];
    float scales[ROWS * GROUPS];
    for (int i = 0; i < ROWS * COLS; i++)
        codes[i] = (uint8_t)((probe_random(p, 3, (uint64_t)i) + 1) * 8);
    for (int i = 0; i < ROWS * GROUPS; i++) scales[i] = 0x1p-6f * (float)(1 + i % 3), zeros[i] = 8;
    affine_pack(4, ROWS, COLS, GROUP, 1, codes, scales, zeros, &l->affine, NULL);
    affine_dequantize(&l->affine, 0, ROWS, l->weight);
    fill(p, 4, l->x, TOKENS * COLS);
    for (int t = 0; t < TOKENS; t++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++)
                l->want[t * ROWS + r] +=
                    (double)l->x[t * COLS + c] * (double)l->weight[r * COLS + c];
    l->dense = (sqz_weight){.struct_size = sizeof l->dense,
                            .dtype = SQZ_F32,
                            .form = SQZ_FORM_DENSE,
                            .rows = ROWS,
                            .cols = COLS,
                            .data = l->weight};
    l->quantized = (sqz_weight){.struct_size = sizeof l->quantized,
                                .form = SQZ_FORM_INT_AFFINE,
                                .rows = ROWS,
                                .cols = COLS,
                                .affine = &l->affine};
    return l;
}

static void free_layer(layer *l)
{
    affine_free(&l->affine);
    free(l);
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    const sqz_hardware *hw = agent_extension(a, SQZ_HARDWARE_1);
    layer *l = make_layer(p);
    (void)with, (void)size;
    sqz_status s = SQZ_OK;
    if (hw->pack && hw->linear) {
        s = linear(hw, agent_self(a), &l->dense, SQZ_F32, l->x, TOKENS, l->y);
        sha256_update(digest, l->y, sizeof l->y);
        if (!s) s = linear(hw, agent_self(a), &l->quantized, SQZ_F32, l->x, TOKENS, l->y);
        sha256_update(digest, l->y, sizeof l->y);
    }
    free_layer(l);
    return told(a, s, err);
}

const subject_kind subject_hardware = {"hardware/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
static int open_agent(probe *p, agent **a, const sqz_hardware **hw)
{
    sqz_error err = {0};
    if (agent_open(p->host, p->info, a, &err)) {
        FAIL(p, "%s", err.text);
        return 0;
    }
    *hw = agent_extension(*a, SQZ_HARDWARE_1);
    return 1;
}

static void describes_itself(probe *p)
{
    const sqz_hardware *hw;
    agent *a;
    sqz_device_info info = {.struct_size = sizeof info};
    if (!open_agent(p, &a, &hw)) return;
    if (hw->describe(agent_self(a), &info)) FAIL(p, "describe fails");
    if (!memchr(info.name, 0, sizeof info.name) || !info.name[0]) FAIL(p, "has no name");
    if (!memchr(info.isa, 0, sizeof info.isa) || !info.isa[0]) FAIL(p, "has no instruction set");
    if (info.threads < 1 || info.memory_bytes < 1)
        FAIL(p, "claims %d threads and %lld bytes of memory", info.threads,
             (long long)info.memory_bytes);
    PASS(p, "%.90s, %.30s", info.name, info.isa);
    agent_close(a);
}

static void memory_roundtrip(probe *p)
{
    static const int64_t sizes[] = {1, 3, 64, 4097, 1 << 20};
    const sqz_hardware *hw;
    agent *a;
    if (!open_agent(p, &a, &hw)) return;
    void *dev = agent_self(a);
    for (int i = 0; i < 5; i++) {
        void *handle = NULL;
        int64_t n = sizes[i];
        unsigned char *out = malloc((size_t)n), *back = malloc((size_t)n);
        for (int64_t k = 0; k < n; k++) out[k] = (unsigned char)(k * 7 + i);
        probe_at(p, "%lld bytes of device memory", (long long)n);
        if (hw->alloc(dev, n, &handle) || hw->upload(dev, &(sqz_mem){handle, 0}, out, n) ||
            hw->sync(dev) || hw->download(dev, back, &(sqz_mem){handle, 0}, n) || hw->sync(dev))
            FAIL(p, "%lld bytes cannot be stored and read", (long long)n);
        else if (memcmp(out, back, (size_t)n) != 0)
            FAIL(p, "%lld bytes come back changed", (long long)n);
        hw->release(dev, handle);
        free(out);
        free(back);
    }
    agent_close(a);
}

static double worst_error(const layer *l)
{
    double worst = 0;
    for (int i = 0; i < TOKENS * ROWS; i++) {
        double d = fabs((double)l->y[i] - l->want[i]) / (1 + fabs(l->want[i]));
        if (!(d <= worst)) worst = d;
    }
    return worst;
}

static void products_exact(probe *p)
{
    static const struct {
        const char *what;
        int quantized;
        int32_t compute;
        double most;
    } rows[] = {{"dense float32", 0, SQZ_F32, 1e-5},
                {"int-affine float32", 1, SQZ_F32, 1e-5},
                {"dense bfloat16", 0, SQZ_BF16, 2e-2},
                {"int-affine bfloat16", 1, SQZ_BF16, 2e-2}};
    const sqz_hardware *hw;
    agent *a;
    if (!open_agent(p, &a, &hw)) return;
    if (!hw->pack || !hw->linear) SKIP(p, "leaves products to the reference");
    for (int i = 0; i < 4 && hw->pack && hw->linear; i++) {
        layer *l = make_layer(p);
        sqz_error err = {0};
        probe_at(p, "a %s product", rows[i].what);
        sqz_status s = linear(hw, agent_self(a), rows[i].quantized ? &l->quantized : &l->dense,
                              rows[i].compute, l->x, TOKENS, l->y);
        if (s == SQZ_E_UNSUPPORTED)
            WARN(p, "cannot do %s products", rows[i].what);
        else if (told(a, s, &err))
            FAIL(p, "%s: %s", rows[i].what, err.text);
        else if (worst_error(l) > rows[i].most)
            FAIL(p, "%s products are off by %.3g", rows[i].what, worst_error(l));
        free_layer(l);
    }
    agent_close(a);
}

static void unknown_form_refused(probe *p)
{
    const sqz_hardware *hw;
    agent *a;
    if (!open_agent(p, &a, &hw)) return;
    layer *l = make_layer(p);
    void *packed = NULL;
    l->dense.form = "org.example.unheard-of/1";
    probe_at(p, "packing an unknown form");
    if (hw->pack && hw->pack(agent_self(a), &l->dense, SQZ_F32, &packed) == SQZ_OK)
        FAIL(p, "packs a weight of a form that it cannot know");
    free_layer(l);
    agent_close(a);
}

static void gemm_exact(probe *p)
{
    enum { M = 7, N = 9, K = 33 };
    float x[M * K], y[K * N], mine[M * N], want[M * N];
    const sqz_hardware *hw;
    agent *a;
    if (!open_agent(p, &a, &hw)) return;
    if (!hw->gemm) SKIP(p, "leaves gemm to the reference");
    for (int t = 0; t < 4 && hw->gemm; t++) {
        int ta = t & 1, tb = t >> 1;
        fill(p, 11, x, M * K);
        fill(p, 12, y, K * N);
        fill(p, 13, mine, M * N);
        memcpy(want, mine, sizeof mine);
        int64_t lda = ta ? M : K, ldb = tb ? K : N;
        if (hw->gemm(agent_self(a), ta, tb, M, N, K, 0.5, x, lda, y, ldb, 2, mine, N))
            FAIL(p, "gemm fails");
        reference_hardware()->gemm(NULL, ta, tb, M, N, K, 0.5, x, lda, y, ldb, 2, want, N);
        for (int i = 0; i < M * N; i++)
            if (!(fabsf(mine[i] - want[i]) <= 1e-4f)) FAIL(p, "gemm is off (ta %d, tb %d)", ta, tb);
    }
    agent_close(a);
}

/* ---- the operations of a block, on two devices -------------------------------------------------
 */
typedef struct device_pair {
    probe *p;
    const sqz_hardware *hw[2]; /* the plugin's and the reference */
    void *dev[2];
} device_pair;

static int open_pair(probe *p, agent **a, device_pair *d)
{
    *d = (device_pair){.p = p, .hw = {NULL, reference_hardware()}};
    if (!open_agent(p, a, &d->hw[0])) return 0;
    d->dev[0] = agent_self(*a);
    return 1;
}

/* An operation that a backend does not have is the reference's; then there is nothing to compare.
 */
static int left_to_reference(const device_pair *d, agent *a, int has)
{
    if (has) return 0;
    SKIP(d->p, "leaves it to the reference");
    agent_close(a);
    return 1;
}

/* n floats on device i that hold the numbers of a stream. */
static sqz_mem stored(const device_pair *d, int i, uint64_t stream, int64_t n)
{
    sqz_mem m = {NULL, 0};
    float *x = malloc((size_t)n * sizeof *x);
    fill(d->p, stream, x, n);
    if (d->hw[i]->alloc(d->dev[i], n * 4, &m.handle) || d->hw[i]->upload(d->dev[i], &m, x, n * 4))
        FAIL(d->p, "%lld floats cannot be stored", (long long)n);
    free(x);
    return m;
}

/* Compares what the devices hold, and releases it. */
static void compare(const device_pair *d, const char *what, sqz_mem m[2], int64_t n, double most)
{
    float *x[2];
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        x[i] = calloc((size_t)n, sizeof(float));
        if (d->hw[i]->sync(d->dev[i]) || d->hw[i]->download(d->dev[i], x[i], &m[i], n * 4) ||
            d->hw[i]->sync(d->dev[i]))
            FAIL(d->p, "%s: its result cannot be read", what);
        d->hw[i]->release(d->dev[i], m[i].handle);
    }
    for (int64_t k = 0; k < n; k++) {
        double off = fabs((double)x[0][k] - (double)x[1][k]) / (1 + fabs((double)x[1][k]));
        if (!(off <= worst)) worst = off;
    }
    if (!(worst <= most)) FAIL(d->p, "%s is off by %.3g", what, worst);
    free(x[0]);
    free(x[1]);
}

static void judge_op(const device_pair *d, int i, const char *what, sqz_status s)
{
    if (s) FAIL(d->p, "%s fails on the %s (%d)", what, i ? "reference" : "device", s);
}

static void elementwise_exact(probe *p)
{
    enum { N = 16, WIDTH = 48, ALL = N * WIDTH };
    static const int32_t acts[] = {SQZ_ACT_SILU, SQZ_ACT_GELU_TANH, SQZ_ACT_GELU, SQZ_ACT_RELU};
    device_pair d;
    agent *a;
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(&d, a, d.hw[0]->norm && d.hw[0]->gate && d.hw[0]->add)) return;
    sqz_mem y[2], w, u;
    for (int i = 0; i < 2; i++) {
        y[i] = stored(&d, i, 21, ALL), w = stored(&d, i, 22, WIDTH);
        sqz_op_norm op = {sizeof op, 0, N, WIDTH, y[i], y[i], w, 1e-6};
        probe_at(p, "norm");
        judge_op(&d, i, "norm", d.hw[i]->norm(d.dev[i], &op));
        d.hw[i]->sync(d.dev[i]);
        d.hw[i]->release(d.dev[i], w.handle);
    }
    compare(&d, "norm", y, ALL, 1e-5);
    for (int k = 0; k < 5; k++) { /* the last one is add */
        for (int i = 0; i < 2; i++) {
            y[i] = stored(&d, i, 23, ALL), u = stored(&d, i, 24, ALL);
            probe_at(p, k < 4 ? "gate with activation %d" : "add", k < 4 ? acts[k] : 0);
            judge_op(&d, i, k < 4 ? "gate" : "add",
                     k < 4 ? d.hw[i]->gate(d.dev[i], acts[k], ALL, &y[i], &u, &y[i])
                           : d.hw[i]->add(d.dev[i], ALL, &u, &y[i]));
            d.hw[i]->sync(d.dev[i]);
            d.hw[i]->release(d.dev[i], u.handle);
        }
        compare(&d, k < 4 ? "gate" : "add", y, ALL, 1e-5);
    }
    agent_close(a);
}

static void rope_exact(probe *p)
{
    enum { TOKENS_ = 6, HEADS = 3, DIM = 16, POSITIONS = 32 };
    int32_t position[TOKENS_] = {0, 1, 2, 9, 17, 31};
    device_pair d;
    agent *a;
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(&d, a, d.hw[0]->rope != NULL)) return;
    for (int64_t n = DIM; n >= DIM / 2; n /= 2) {
        sqz_mem x[2];
        for (int i = 0; i < 2; i++) {
            x[i] = stored(&d, i, 31, TOKENS_ * HEADS * DIM);
            sqz_mem c = stored(&d, i, 32, POSITIONS * n / 2),
                    s = stored(&d, i, 33, POSITIONS * n / 2);
            sqz_op_rope op = {sizeof op, 0, TOKENS_, HEADS, DIM, n, x[i], c, s, position};
            probe_at(p, "rope of %lld of %d dimensions", (long long)n, DIM);
            judge_op(&d, i, "rope", d.hw[i]->rope(d.dev[i], &op));
            d.hw[i]->sync(d.dev[i]);
            d.hw[i]->release(d.dev[i], c.handle);
            d.hw[i]->release(d.dev[i], s.handle);
        }
        compare(&d, "rope", x, TOKENS_ * HEADS * DIM, 1e-5);
    }
    agent_close(a);
}

enum { QH = 4, KVH = 2, HD = 16, LAYERS = 2, SLOTS = 3, ROOM = 16 };

/* Two sequences of 5 and 3 tokens. */
static const int64_t first[] = {0, 5, 8};
enum { BATCH_TOKENS = 8 };

static void attend_exact(probe *p)
{
    device_pair d;
    agent *a;
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(&d, a, d.hw[0]->attend != NULL)) return;
    for (int64_t window = 0; window <= 2; window += 2) {
        sqz_mem y[2];
        for (int i = 0; i < 2; i++) {
            sqz_mem q = stored(&d, i, 41, BATCH_TOKENS * QH * HD),
                    k = stored(&d, i, 42, BATCH_TOKENS * KVH * HD),
                    v = stored(&d, i, 43, BATCH_TOKENS * KVH * HD);
            y[i] = stored(&d, i, 44, BATCH_TOKENS * QH * HD);
            sqz_op_attend op = {sizeof op, 0,    2, first, NULL, NULL, QH,   KVH, HD,
                                window,    0.25, q, k,     v,    y[i], NULL, 0};
            probe_at(p, "attention without a cache, window %lld", (long long)window);
            judge_op(&d, i, "attend", d.hw[i]->attend(d.dev[i], &op));
            d.hw[i]->sync(d.dev[i]);
            d.hw[i]->release(d.dev[i], q.handle);
            d.hw[i]->release(d.dev[i], k.handle);
            d.hw[i]->release(d.dev[i], v.handle);
        }
        compare(&d, "attention", y, BATCH_TOKENS * QH * HD, 1e-4);
    }
    agent_close(a);
}

/* Appends the same tokens at `past` of slots 1 and 2, and attends to the cache. */
static void step_with_cache(const device_pair *d, int i, void *kv, const int64_t past[2],
                            const int32_t slot[2], uint64_t stream, sqz_mem *y)
{
    const sqz_hardware *hw = d->hw[i];
    void *dev = d->dev[i];
    sqz_mem q = stored(d, i, stream, BATCH_TOKENS * QH * HD),
            k = stored(d, i, stream + 1, BATCH_TOKENS * KVH * HD),
            v = stored(d, i, stream + 2, BATCH_TOKENS * KVH * HD);
    *y = stored(d, i, stream + 3, BATCH_TOKENS * QH * HD);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        sqz_op_kv_append put = {sizeof put, layer, 2, first, slot, past, k, v, kv};
        judge_op(d, i, "kv_append", hw->kv_append(dev, &put));
        sqz_op_attend op = {sizeof op, layer, 2, first, slot, past, QH, KVH, HD,
                            0,         0.25,  q, k,     v,    *y,   kv, 0};
        judge_op(d, i, "attend with a cache", hw->attend(dev, &op));
    }
    hw->sync(dev);
    hw->release(dev, q.handle);
    hw->release(dev, k.handle);
    hw->release(dev, v.handle);
}

static void cache_exact(probe *p)
{
    static const int64_t begin[] = {0, 0}, later[] = {5, 3};
    static const int32_t slots[] = {1, 2}, copied[] = {0, 2};
    const sqz_kv_desc desc = {sizeof desc, LAYERS, SLOTS, ROOM, KVH, HD, "f32/1"};
    device_pair d;
    agent *a;
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(
            &d, a, d.hw[0]->kv_new && d.hw[0]->kv_append && d.hw[0]->kv_copy && d.hw[0]->attend))
        return;
    sqz_mem y[3][2];
    for (int i = 0; i < 2; i++) {
        void *kv = NULL;
        probe_at(p, "a cache of %d slots", SLOTS);
        sqz_status s = d.hw[i]->kv_new(d.dev[i], &desc, &kv);
        judge_op(&d, i, "kv_new", s);
        if (s) {
            agent_close(a);
            return;
        }
        step_with_cache(&d, i, kv, begin, slots, 51, &y[0][i]);
        probe_at(p, "copying a slot, then both go on");
        judge_op(&d, i, "kv_copy", d.hw[i]->kv_copy(d.dev[i], kv, 1, 0, 5));
        step_with_cache(&d, i, kv, later, slots, 61, &y[1][i]);
        step_with_cache(&d, i, kv, later, copied, 71, &y[2][i]);
        d.hw[i]->kv_free(d.dev[i], kv);
    }
    compare(&d, "attention with a cache", y[0], BATCH_TOKENS * QH * HD, 1e-4);
    compare(&d, "attention to what was appended before", y[1], BATCH_TOKENS * QH * HD, 1e-4);
    compare(&d, "attention to a copied slot", y[2], BATCH_TOKENS * QH * HD, 1e-4);
    agent_close(a);
}

static void tables_exact(probe *p)
{
    enum { N = 24, WIDTH = 20, TAKEN = 5, ROWS_ = 6 };
    static const int32_t ids[TAKEN] = {0, 23, 7, 7, 1}, target[ROWS_] = {0, 19, -1, 3, 4, 5};
    float table[N * WIDTH], logprob[2][ROWS_] = {{0}}, sum[2][ROWS_];
    int32_t best[2][ROWS_];
    device_pair d;
    agent *a;
    sqz_mem y[2];
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(&d, a, d.hw[0]->embed && d.hw[0]->score)) return;
    fill(p, 81, table, N * WIDTH);
    for (int i = 0; i < 2; i++) {
        y[i] = stored(&d, i, 82, TAKEN * WIDTH);
        probe_at(p, "embed");
        judge_op(&d, i, "embed",
                 d.hw[i]->embed(d.dev[i], table, SQZ_F32, WIDTH, ids, TAKEN, &y[i]));
    }
    compare(&d, "embed", y, TAKEN * WIDTH, 0);
    for (int i = 0; i < 2; i++) {
        sqz_mem x = stored(&d, i, 83, ROWS_ * WIDTH);
        sqz_op_score op = {sizeof op, 0, ROWS_, WIDTH, x, target, logprob[i], best[i], sum[i]};
        probe_at(p, "score");
        judge_op(&d, i, "score", d.hw[i]->score(d.dev[i], &op));
        d.hw[i]->sync(d.dev[i]);
        d.hw[i]->release(d.dev[i], x.handle);
    }
    for (int r = 0; r < ROWS_; r++)
        if (best[0][r] != best[1][r] || !(fabsf(sum[0][r] - sum[1][r]) <= 1e-4f) ||
            !(target[r] < 0 || fabsf(logprob[0][r] - logprob[1][r]) <= 1e-4f))
            FAIL(p, "score is off in row %d", r);
    agent_close(a);
}

static void moments_exact(probe *p)
{
    enum { T = 9, N = 40 };
    device_pair d;
    agent *a;
    if (!open_pair(p, &a, &d)) return;
    if (left_to_reference(&d, a, d.hw[0]->second_moment != NULL)) return;
    float s[2][N * N];
    for (int i = 0; i < 2; i++) {
        sqz_mem x = stored(&d, i, 91, T * N), m = stored(&d, i, 92, N * N);
        probe_at(p, "second_moment");
        judge_op(&d, i, "second_moment", d.hw[i]->second_moment(d.dev[i], SQZ_F32, T, N, &x, &m));
        d.hw[i]->sync(d.dev[i]);
        d.hw[i]->download(d.dev[i], s[i], &m, sizeof s[i]);
        d.hw[i]->sync(d.dev[i]);
        d.hw[i]->release(d.dev[i], x.handle);
        d.hw[i]->release(d.dev[i], m.handle);
    }
    for (int r = 0; r < N; r++)
        for (int c = r; c < N; c++)
            if (!(fabsf(s[0][r * N + c] - s[1][r * N + c]) <= 1e-4f))
                FAIL(p, "second_moment is off");
    agent_close(a);
}

/* Operations after begin, each on what the one before wrote, and with lists that are gone at once.
 */
static void begun_exact(probe *p)
{
    enum { N = 6, HEADS = 3, DIM = 16, WIDTH = HEADS * DIM, ALL = N * WIDTH, POSITIONS = 32 };
    device_pair d;
    agent *a;
    sqz_mem x[2], y[2];
    if (!open_pair(p, &a, &d)) return;
    const sqz_hardware *hw = d.hw[0];
    if (left_to_reference(&d, a,
                          SQZ_HAS(hw, sqz_hardware, begin) && hw->begin && hw->norm && hw->rope &&
                              hw->gate && hw->add))
        return;
    probe_at(p, "norm, rope, add and gate between begin and sync");
    for (int i = 0; i < 2; i++) {
        int32_t position[N] = {0, 1, 2, 9, 17, 31};
        hw = d.hw[i];
        if (!i && (hw->begin(d.dev[0]) || hw->begin(d.dev[0]))) FAIL(p, "begin fails");
        x[i] = stored(&d, i, 101, ALL), y[i] = stored(&d, i, 102, ALL);
        sqz_mem w = stored(&d, i, 103, WIDTH), c = stored(&d, i, 104, POSITIONS * DIM / 2),
                s = stored(&d, i, 105, POSITIONS * DIM / 2);
        sqz_op_norm norm = {sizeof norm, 0, N, WIDTH, x[i], y[i], w, 1e-6};
        sqz_op_rope rope = {sizeof rope, 0, N, HEADS, DIM, DIM, y[i], c, s, position};
        judge_op(&d, i, "norm", hw->norm(d.dev[i], &norm));
        judge_op(&d, i, "rope", hw->rope(d.dev[i], &rope));
        memset(position, 0xff, sizeof position);
        judge_op(&d, i, "add", hw->add(d.dev[i], ALL, &y[i], &x[i]));
        judge_op(&d, i, "gate", hw->gate(d.dev[i], SQZ_ACT_SILU, ALL, &x[i], &y[i], &y[i]));
        hw->release(d.dev[i], w.handle);
        hw->release(d.dev[i], c.handle);
        hw->release(d.dev[i], s.handle);
    }
    compare(&d, "an operation after begin", x, ALL, 1e-5);
    compare(&d, "an operation on what others left undone", y, ALL, 1e-5);
    agent_close(a);
}

const check_case cases_hardware[] = {
    {"behave", "describes-itself", "hardware/1", TEST_USES, 60, describes_itself,
     "says what it is"},
    {"behave", "memory-roundtrip", "hardware/1", TEST_USES, 60, memory_roundtrip,
     "memory keeps what is stored"},
    {"behave", "products-exact", "hardware/1", TEST_USES, 60, products_exact,
     "products agree with the reference"},
    {"behave", "unknown-form-refused", "hardware/1", TEST_USES, 60, unknown_form_refused,
     "forms that it does not know are refused"},
    {"behave", "gemm-exact", "hardware/1", TEST_USES, 60, gemm_exact,
     "gemm agrees with the reference"},
    {"behave", "elementwise-exact", "hardware/1", TEST_USES, 60, elementwise_exact,
     "norm, gate and add agree"},
    {"behave", "rope-exact", "hardware/1", TEST_USES, 60, rope_exact, "rotary embedding agrees"},
    {"behave", "attend-exact", "hardware/1", TEST_USES, 60, attend_exact,
     "attention agrees, with a window and without"},
    {"behave", "cache-exact", "hardware/1", TEST_USES, 60, cache_exact,
     "the key-value cache keeps and copies"},
    {"behave", "tables-exact", "hardware/1", TEST_USES, 60, tables_exact,
     "embedding and scores agree"},
    {"behave", "moments-exact", "hardware/1", TEST_USES, 60, moments_exact, "second moments agree"},
    {"behave", "begun-exact", "hardware/1", TEST_USES, 60, begun_exact,
     "what waits for sync is done in order"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
