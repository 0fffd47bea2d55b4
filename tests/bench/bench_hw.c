/* bench_hw.c - what the CPU backend reaches on this machine, beside its own measured ceilings.
 *
 *   ninja bench_hw hw_cpu && tests/bench_hw [threads]
 *
 * Prints the best of several repetitions: products in GFLOP/s, decode in GB/s of weights read (each
 * weight set is larger than the caches) and as a part of the measured read bandwidth. */
#include "pool/pool.h"

#include <dlfcn.h>
#include <sqz/sqz.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void host_log(const sqz_host *h, int32_t level, const char *text)
{
    (void)h;
    (void)level;
    fprintf(stderr, "%s\n", text);
}
static sqz_status host_fail(const sqz_host *h, sqz_status code, const char *text)
{
    (void)h;
    fprintf(stderr, "%s\n", text);
    return code;
}
static int32_t host_tick(const sqz_host *h, double done, const char *what)
{
    (void)h;
    (void)done;
    (void)what;
    return 0;
}
static int32_t service_threads(const sqz_host *h)
{
    (void)h;
    return pool_threads();
}
static void service_for(const sqz_host *h, int64_t n, int64_t grain,
                        void (*body)(void *, int64_t, int64_t, int32_t), void *arg)
{
    (void)h;
    pool_for(n, grain, body, arg);
}
static const sqz_pool pool_service = {sizeof(sqz_pool), 0, service_threads, service_for};
static const void *host_service(const sqz_host *h, const char *id)
{
    (void)h;
    return strcmp(id, SQZ_POOL_1) == 0 ? &pool_service : NULL;
}
static const sqz_host host = {sizeof(sqz_host), SQZ_ABI_MINOR, NULL,      "bench",
                              host_log,         host_fail,     host_tick, host_service};

static const sqz_hardware *hw;
static void *dev;
static double bandwidth;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *block(int64_t bytes, int byte)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, (size_t)bytes)) exit(1);
    memset(p, byte, (size_t)bytes);
    return p;
}

static float *numbers(int64_t n)
{
    float *p = block(n * 4, 0);
    uint32_t seed = 1;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) * 0x1p-24f - 0.5f;
    }
    return p;
}

static sqz_mem mem(void *p)
{
    return (sqz_mem){p, 0};
}

/* Best seconds of op within about half a second. */
#define BEST(seconds, op)                                                                          \
    do {                                                                                           \
        (seconds) = 1e9;                                                                           \
        for (double start_ = seconds_now(); seconds_now() - start_ < 0.5;) {                       \
            double t_ = seconds_now();                                                             \
            if ((op) != SQZ_OK) exit(1);                                                           \
            t_ = seconds_now() - t_;                                                               \
            (seconds) = t_ < (seconds) ? t_ : (seconds);                                           \
        }                                                                                          \
    } while (0)

static void prefill(const char *name, const sqz_weight *w, int32_t compute, int64_t tokens)
{
    float *x = numbers(tokens * w->cols), *y = block(tokens * w->rows * 4, 0);
    void *packed;
    double t;
    if (hw->pack(dev, w, compute, &packed) != SQZ_OK) exit(1);
    sqz_op_linear op = {.struct_size = sizeof op,
                        .compute = compute,
                        .packed = packed,
                        .tokens = tokens,
                        .x = mem(x),
                        .y = mem(y)};
    BEST(t, hw->linear(dev, &op));
    printf("  %-22s %5lld x %5lld, %5lld tokens  %8.1f GFLOP/s\n", name, (long long)w->rows,
           (long long)w->cols, (long long)tokens,
           2e-9 * (double)w->rows * (double)w->cols * (double)tokens / t);
    hw->packed_free(dev, packed);
    free(x);
    free(y);
}

/* Several weights in turn, together about 200 MB, as a model's layers would be. */
static void decode(const char *name, const sqz_weight *w, int32_t compute, int64_t tokens)
{
    enum { MOST = 128 };
    void *packed[MOST];
    float *x = numbers(tokens * w->cols), *y = block(tokens * w->rows * 4, 0);
    int64_t bytes = 0;
    int n = 0;
    double t;
    sqz_weight copies[MOST];
    sqz_affine affine[MOST];
    int64_t dense = w->rows * w->cols * (w->dtype == SQZ_F32 ? 4 : 2);
    int64_t codes = w->affine ? w->rows * ((w->cols * w->affine->bits + 31) / 32 * 4) : 0;
    while (bytes < (int64_t)200 << 20 && n < MOST) {
        copies[n] = *w;
        if (w->affine) {
            affine[n] = *w->affine;
            affine[n].codes = memcpy(block(codes, 0), w->affine->codes, (size_t)codes);
            copies[n].affine = &affine[n];
        } else {
            copies[n].data = memcpy(block(dense, 0), w->data, (size_t)dense);
        }
        if (hw->pack(dev, &copies[n], compute, &packed[n]) != SQZ_OK) exit(1);
        bytes += hw->packed_bytes(dev, packed[n]);
        n++;
    }
    t = 1e9;
    for (int round = 0; round < 8; round++) {
        double start = seconds_now();
        for (int i = 0; i < n; i++) {
            sqz_op_linear op = {.struct_size = sizeof op,
                                .compute = compute,
                                .packed = packed[i],
                                .tokens = tokens,
                                .x = mem(x),
                                .y = mem(y)};
            if (hw->linear(dev, &op) != SQZ_OK) exit(1);
        }
        start = seconds_now() - start;
        t = start < t ? start : t;
    }
    printf("  %-22s %5lld x %5lld, %5lld tokens  %8.2f GB/s  %4.0f %% of reads\n", name,
           (long long)w->rows, (long long)w->cols, (long long)tokens, 1e-9 * (double)bytes / t,
           100 * (double)bytes / t / bandwidth);
    for (int i = 0; i < n; i++) {
        hw->packed_free(dev, packed[i]);
        free(w->affine ? (void *)affine[i].codes : (void *)copies[i].data);
    }
    free(x);
    free(y);
}

static sqz_affine packed_bits(int bits, int64_t rows, int64_t cols, int64_t group, int symmetric)
{
    int64_t groups = (cols + group - 1) / group, row_bytes = (cols * bits + 31) / 32 * 4;
    uint16_t *scales = block(rows * groups * 2, 0);
    for (int64_t i = 0; i < rows * groups; i++) scales[i] = 0x2000; /* 2^-7 */
    return (sqz_affine){.struct_size = sizeof(sqz_affine),
                        .bits = bits,
                        .rows = rows,
                        .cols = cols,
                        .group_size = group,
                        .symmetric = symmetric,
                        .codes = block(rows * row_bytes, 0x5a),
                        .scales = scales,
                        .zeros = block(rows * groups, 1 << (bits - 1))};
}

static void linears(int64_t rows, int64_t cols)
{
    float *data = numbers(rows * cols);
    uint16_t *half = block(rows * cols * 2, 0x3c);
    sqz_weight single = {sizeof single, SQZ_F32, SQZ_FORM_DENSE, rows, cols, data, NULL};
    sqz_weight narrow = {sizeof narrow, SQZ_BF16, SQZ_FORM_DENSE, rows, cols, half, NULL};
    printf("linear\n");
    for (int64_t tokens = 2048; tokens >= 32; tokens /= 8) {
        prefill("f32 x f32", &single, SQZ_F32, tokens);
        prefill("bf16 weights, f32", &narrow, SQZ_F32, tokens);
        prefill("bf16 weights, bf16", &narrow, SQZ_BF16, tokens);
    }
    decode("f32", &single, SQZ_F32, 1);
    decode("bf16", &narrow, SQZ_F32, 1);
    decode("bf16", &narrow, SQZ_F32, 4);
    decode("bf16", &narrow, SQZ_F32, 8);
    static const int bits[] = {4, 8, 3, 2};
    for (int b = 0; b < 4; b++)
        for (int symmetric = 1; symmetric >= 0; symmetric--) {
            sqz_affine q = packed_bits(bits[b], rows, cols, 128, symmetric);
            sqz_weight w = {sizeof w, 0, SQZ_FORM_INT_AFFINE, rows, cols, NULL, &q};
            char name[32];
            snprintf(name, sizeof name, "int%d g128 %s", bits[b], symmetric ? "symmetric" : "asym");
            if (symmetric) {
                prefill(name, &w, SQZ_F32, 2048);
                prefill(name, &w, SQZ_BF16, 2048);
                prefill(name, &w, SQZ_BF16, 64);
            }
            decode(name, &w, SQZ_F32, 1);
            if (symmetric) decode(name, &w, SQZ_F32, 8);
            free((void *)q.codes);
            free((void *)q.scales);
            free((void *)q.zeros);
        }
    free(data);
    free(half);
}

static void attention(int64_t sequences, int64_t length, int64_t heads, int64_t kv_heads,
                      int64_t dim)
{
    int64_t tokens = sequences * length, *first = block((sequences + 1) * 8, 0);
    for (int64_t s = 0; s <= sequences; s++) first[s] = s * length;
    float *q = numbers(tokens * heads * dim), *k = numbers(tokens * kv_heads * dim);
    float *v = numbers(tokens * kv_heads * dim), *y = block(tokens * heads * dim * 4, 0);
    sqz_op_attend op = {.struct_size = sizeof op,
                        .sequences = sequences,
                        .first = first,
                        .heads = heads,
                        .kv_heads = kv_heads,
                        .head_dim = dim,
                        .scale = 0.125,
                        .q = mem(q),
                        .k = mem(k),
                        .v = mem(v),
                        .y = mem(y)};
    double t;
    BEST(t, hw->attend(dev, &op));
    printf("  prefill %lld x %lld, %lld/%lld heads of %lld  %.2f ms, %.1f GFLOP/s of the causal "
           "half\n",
           (long long)sequences, (long long)length, (long long)heads, (long long)kv_heads,
           (long long)dim, t * 1e3,
           2e-9 * (double)tokens * (double)(length + 1) * (double)(heads * dim) / t);
    free(first);
    free(q);
    free(k);
    free(v);
    free(y);
}

static void attention_step(int64_t past, int64_t heads, int64_t kv_heads, int64_t dim)
{
    enum { LAYERS = 32 };
    sqz_kv_desc desc = {sizeof desc, LAYERS, 1, past + 1, kv_heads, dim, "f32/1"};
    void *kv;
    if (hw->kv_new(dev, &desc, &kv) != SQZ_OK) exit(1);
    int64_t first[2] = {0, past}, zero = 0;
    int32_t slot = 0;
    float *x = numbers((past + 1) * heads * dim), *y = block(heads * dim * 4, 0);
    double t = 1e9;
    for (int layer = 0; layer < LAYERS; layer++) {
        sqz_op_kv_append a = {.struct_size = sizeof a,
                              .layer = layer,
                              .sequences = 1,
                              .first = first,
                              .slot = &slot,
                              .past = &zero,
                              .k = mem(x),
                              .v = mem(x),
                              .kv = kv};
        if (hw->kv_append(dev, &a) != SQZ_OK) exit(1);
    }
    first[1] = 1;
    int64_t at = past - 1;
    for (int round = 0; round < 8; round++) {
        double start = seconds_now();
        for (int layer = 0; layer < LAYERS; layer++) {
            sqz_op_attend op = {.struct_size = sizeof op,
                                .layer = layer,
                                .sequences = 1,
                                .first = first,
                                .slot = &slot,
                                .past = &at,
                                .heads = heads,
                                .kv_heads = kv_heads,
                                .head_dim = dim,
                                .scale = 0.125,
                                .q = mem(x),
                                .y = mem(y),
                                .kv = kv};
            if (hw->attend(dev, &op) != SQZ_OK) exit(1);
        }
        start = (seconds_now() - start) / LAYERS;
        t = start < t ? start : t;
    }
    double bytes = (double)(2 * past * kv_heads * dim * 4);
    printf("  step after %lld, %lld/%lld heads of %lld  %.1f us, %.1f GB/s of cache, %.0f %% of "
           "reads\n",
           (long long)past, (long long)heads, (long long)kv_heads, (long long)dim, t * 1e6,
           bytes / t * 1e-9, 100 * bytes / t / bandwidth);
    hw->kv_free(dev, kv);
    free(x);
    free(y);
}

static void statistics(int64_t tokens, int64_t n)
{
    float *x = numbers(tokens * n), *s = block(n * n * 4, 0);
    sqz_mem mx = mem(x), ms = mem(s);
    double t;
    for (int32_t compute = SQZ_F32; compute <= SQZ_BF16; compute++) {
        BEST(t, hw->second_moment(dev, compute, tokens, n, &mx, &ms));
        printf("  second moment %s %lld x %lld  %.2f ms, %.1f GFLOP/s of the triangle\n",
               compute == SQZ_F32 ? "f32 " : "bf16", (long long)tokens, (long long)n, t * 1e3,
               1e-9 * (double)tokens * (double)n * (double)(n + 1) / t);
    }
    memset(s, 0, (size_t)(n * n) * 4);
    hw->second_moment(dev, SQZ_F32, tokens, n, &mx, &ms);
    float *a = block(n * n * 4, 0);
    for (int64_t i = 0; i < n; i++) s[i * n + i] += (float)tokens;
    t = 1e9;
    for (int round = 0; round < 5; round++) {
        memcpy(a, s, (size_t)(n * n) * 4);
        double start = seconds_now();
        if (hw->inverse_factor(dev, a, n) != SQZ_OK) exit(1);
        start = seconds_now() - start;
        t = start < t ? start : t;
    }
    printf("  inverse factor %lld  %.2f ms, %.1f GFLOP/s\n", (long long)n, t * 1e3,
           2.0 / 3 * 1e-9 * (double)n * (double)n * (double)n / t);
    BEST(t, hw->gemm(dev, 1, 0, n, n, 128, -1, x, n, x, n, 1, s, n));
    printf("  gemm A^T B %lld x %lld x 128  %.1f GFLOP/s\n", (long long)n, (long long)n,
           2e-9 * (double)n * (double)n * 128 / t);
    free(x);
    free(s);
    free(a);
}

int main(int argc, char **argv)
{
    if (argc > 1) pool_set_threads(atoi(argv[1]));
    void *so = dlopen(SQZ_PLUGIN_DIR "/hw_cpu.so", RTLD_NOW | RTLD_LOCAL);
    if (!so) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const sqz_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "sqz_plugin_v1");
    const sqz_agent *agent = entry()->agents;
    hw = agent->extension(SQZ_HARDWARE_1);
    sqz_device_info info = {.struct_size = sizeof info};
    double single, half;
    if (agent->open(&host, &dev) != SQZ_OK || hw->describe(dev, &info) != SQZ_OK ||
        hw->measure(dev, &bandwidth, &single, &half) != SQZ_OK)
        return 1;
    printf("%s, %s, %d threads\nread %.1f GB/s, f32 %.1f GFLOP/s, bf16 %.1f GFLOP/s\n", info.name,
           info.isa, info.threads, bandwidth * 1e-9, single * 1e-9, half * 1e-9);
    linears(2048, 768);
    linears(768, 2048);
    printf("attention\n");
    attention(8, 256, 12, 4, 64);
    attention(1, 2048, 12, 4, 64);
    attention_step(256, 12, 4, 64);
    attention_step(2048, 12, 4, 64);
    printf("statistics\n");
    statistics(2048, 768);
    statistics(2048, 2048);
    agent->close(&host, dev);
    return 0;
}
