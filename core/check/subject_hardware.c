/* subject_hardware.c - memory and the main operations of a backend, against the reference.
 *
 * Left out: attention, rotary embedding and the cache, whose tests live with the backends
 * (tests/unit); a backend that passes here still has those to pass. */
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

const check_case cases_hardware[] = {{"behave", "describes-itself", "hardware/1", TEST_USES, 60,
                                      describes_itself, "says what it is"},
                                     {"behave", "memory-roundtrip", "hardware/1", TEST_USES, 60,
                                      memory_roundtrip, "memory keeps what is stored"},
                                     {"behave", "products-exact", "hardware/1", TEST_USES, 60,
                                      products_exact, "products agree with the reference"},
                                     {"behave", "unknown-form-refused", "hardware/1", TEST_USES, 60,
                                      unknown_form_refused,
                                      "forms that it does not know are refused"},
                                     {"behave", "gemm-exact", "hardware/1", TEST_USES, 60,
                                      gemm_exact, "gemm agrees with the reference"},
                                     {NULL, NULL, NULL, 0, 0, NULL, NULL}};
