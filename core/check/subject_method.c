/* subject_method.c - a synthetic linear layer for methods, and what they must do with it.
 *
 * Weights are bell-shaped with a few outlier columns, inputs are correlated: what trained layers
 * look like to a quantizer.  Results pass the same checks as in a run (affine_pack). */
#include "check/probe.h"
#include "quant/affine.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct synthetic {
    int64_t rows, cols, tokens;
    float *weight, *xtx; /* xtx NULL when not asked for */
    sqz_affine result;
    int results;
    int notes;
} synthetic;

static sqz_status take_affine(const sqz_linear *l, const sqz_host *h, int32_t bits,
                              int64_t group_size, int32_t symmetric, const uint8_t *codes,
                              const float *scales, const uint8_t *zeros)
{
    synthetic *y = l->impl;
    sqz_error err = {0};
    if (y->results++)
        return h->fail(h, SQZ_E_INVALID, "set_affine was called twice for one linear");
    sqz_status s = affine_pack(bits, l->rows, l->cols, group_size, symmetric, codes, scales, zeros,
                               &y->result, &err);
    if (s) y->results = 0;
    return s ? h->fail(h, s, err.text) : SQZ_OK;
}

static void take_note(const sqz_linear *l, const sqz_host *h, const char *text)
{
    synthetic *y = l->impl;
    (void)h;
    y->notes += text != NULL;
}

static int wants_xtx(const probe *p)
{
    const cJSON *steps = json_get(p->info->extensions, SQZ_METHOD_STEPS_1);
    return (json_int(steps, "statistics", 0) & SQZ_STAT_XTX) != 0;
}

static void fill_weights(const probe *p, synthetic *y)
{
    for (int64_t i = 0; i < y->rows * y->cols; i++) {
        double sum = 0;
        for (uint64_t k = 0; k < 4; k++) sum += probe_random(p, 1 + k, (uint64_t)i);
        y->weight[i] = (float)(0.02 * sum * (i % y->cols % 31 == 7 ? 6 : 1));
    }
}

/* (1/T) sum x x^T of inputs that share a direction; rank-deficient when cols > tokens, as in life.
 */
static sqz_status fill_moments(const probe *p, synthetic *y, sqz_error *err)
{
    int64_t n = y->cols;
    y->tokens = n < 128 ? 3 * n : 256;
    float *x = malloc((size_t)(y->tokens * n) * sizeof *x);
    y->xtx = calloc((size_t)(n * n), sizeof *y->xtx);
    if (!x || !y->xtx) {
        free(x);
        return err_set(err, SQZ_E_NOMEM, "no memory for synthetic statistics");
    }
    for (int64_t t = 0; t < y->tokens; t++)
        for (int64_t j = 0; j < n; j++)
            x[t * n + j] = (float)(probe_random(p, 7, (uint64_t)(t * n + j)) +
                                   0.5 * probe_random(p, 8, (uint64_t)t));
    for (int64_t t = 0; t < y->tokens; t++)
        for (int64_t i = 0; i < n; i++) {
            float a = x[t * n + i] / (float)y->tokens;
            for (int64_t j = 0; j < n; j++) y->xtx[i * n + j] += a * x[t * n + j];
        }
    free(x);
    return SQZ_OK;
}

static void synthetic_free(synthetic *y)
{
    free(y->weight);
    free(y->xtx);
    affine_free(&y->result);
    *y = (synthetic){0};
}

static sqz_status synthetic_new(const probe *p, int64_t rows, int64_t cols, synthetic *y,
                                sqz_error *err)
{
    *y = (synthetic){.rows = rows, .cols = cols};
    y->weight = malloc((size_t)(rows * cols) * sizeof *y->weight);
    if (!y->weight) return err_set(err, SQZ_E_NOMEM, "no memory for a synthetic linear");
    fill_weights(p, y);
    sqz_status s = wants_xtx(p) ? fill_moments(p, y, err) : SQZ_OK;
    if (s) synthetic_free(y);
    return s;
}

/* Calls the method on y.  Its inputs must come back unchanged. */
static sqz_status apply(probe *p, agent *a, const cJSON *with, synthetic *y, sqz_error *err)
{
    char before[DIGEST_TEXT], after[DIGEST_TEXT];
    size_t bytes = (size_t)(y->rows * y->cols) * sizeof *y->weight;
    sqz_linear l = {.struct_size = sizeof l,
                    .layer = 0,
                    .module = "model.layers.0.mlp.up_proj",
                    .role = "up",
                    .rows = y->rows,
                    .cols = y->cols,
                    .weight = y->weight,
                    .xtx = y->xtx,
                    .tokens = y->tokens,
                    .seed = p->seed,
                    .impl = y,
                    .set_affine = take_affine,
                    .note = take_note};
    sha256_buffer(y->weight, bytes, before);
    sqz_status s = agent_call(a, &l, with, err);
    sha256_buffer(y->weight, bytes, after);
    if (strcmp(before, after) != 0) FAIL(p, "writes into the weights, which are only lent to it");
    if (!s && !y->results)
        return err_set(err, SQZ_E_INTERNAL, "returned success without a result (set_affine)");
    if (s && y->results) WARN(p, "hands over a result and then fails");
    return s;
}

static void digest_result(const synthetic *y, sha256 *digest)
{
    const sqz_affine *r = &y->result;
    int64_t groups = affine_groups(r->cols, r->group_size), header[] = {r->bits, r->group_size};
    sha256_update(digest, header, sizeof header);
    sha256_update(digest, r->codes, (size_t)(r->rows * affine_row_bytes(r->bits, r->cols)));
    sha256_update(digest, r->scales, (size_t)(r->rows * groups) * 2);
    sha256_update(digest, r->zeros, (size_t)(r->rows * groups));
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    synthetic y;
    sqz_status s = size == USE_LARGE ? synthetic_new(p, 512, 512, &y, err)
                                     : synthetic_new(p, 48, 160, &y, err);
    if (s) return s;
    s = apply(p, a, with, &y, err);
    if (!s) digest_result(&y, digest);
    synthetic_free(&y);
    return s;
}

const subject_kind subject_method = {"method/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
static sqz_status apply_fresh(probe *p, synthetic *y, sqz_error *err)
{
    agent *a;
    sqz_status s = agent_open(p->host, p->info, &a, err);
    if (s) return s;
    s = apply(p, a, NULL, y, err);
    agent_close(a);
    return s;
}

/* Squared error of the result over the squared weights; NAN when a value is not finite. */
static double relative_error(const synthetic *y)
{
    double error = 0, power = 0;
    float *w = malloc((size_t)(y->rows * y->cols) * sizeof *w);
    if (!w) return NAN;
    affine_dequantize(&y->result, 0, y->rows, w);
    for (int64_t i = 0; i < y->rows * y->cols; i++) {
        double d = (double)w[i] - (double)y->weight[i];
        error += d * d;
        power += (double)y->weight[i] * (double)y->weight[i];
    }
    free(w);
    return power > 0 ? error / power : error;
}

static void finite_output(probe *p)
{
    synthetic y;
    sqz_error err = {0};
    if (synthetic_new(p, 64, 192, &y, &err) || apply_fresh(p, &y, &err)) {
        FAIL(p, "%s", err.text);
    } else {
        double e = relative_error(&y);
        if (!isfinite(e)) FAIL(p, "its result holds NaN or infinite values");
        if (e > 1) WARN(p, "its result is farther from the weights than zero is (error %.3g)", e);
        PASS(p, "relative error %.3g at %.2f bits a weight", e, affine_bits_per_weight(&y.result));
    }
    synthetic_free(&y);
}

static void odd_shapes(probe *p)
{
    static const int64_t shapes[][2] = {{1, 1},  {1, 3},   {3, 5},    {7, 33},
                                        {64, 1}, {1, 129}, {17, 127}, {5, 260}};
    int refused = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        synthetic y = {0};
        sqz_error err = {0};
        probe_at(p, "a linear of shape [%d, %d]", (int)shapes[i][0], (int)shapes[i][1]);
        sqz_status s = synthetic_new(p, shapes[i][0], shapes[i][1], &y, &err);
        if (!s) s = apply_fresh(p, &y, &err);
        if (s == SQZ_E_UNSUPPORTED && !strstr(err.text, "without saying why"))
            refused++;
        else if (s)
            FAIL(p, "shape [%d, %d]: %s", (int)shapes[i][0], (int)shapes[i][1], err.text);
        else if (!isfinite(relative_error(&y)))
            FAIL(p, "shape [%d, %d]: its result is not finite", (int)shapes[i][0],
                 (int)shapes[i][1]);
        synthetic_free(&y);
    }
    PASS(p, "%d of 8 odd shapes taken, %d refused in a sentence", 8 - refused, refused);
}

static void special_weights(probe *p)
{
    static const struct {
        const char *what;
        float value;
        int exact; /* a grid can hold it */
    } cases[] = {{"all zero", 0, 1},
                 {"all equal", 0.125f, 0},
                 {"all tiny", 1e-30f, 0},
                 {"all denormal", 1e-41f, 0},
                 {"all huge", 1e30f, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        synthetic y;
        sqz_error err = {0};
        if (synthetic_new(p, 24, 96, &y, &err)) return;
        for (int64_t k = 0; k < y.rows * y.cols; k++) y.weight[k] = cases[i].value;
        probe_at(p, "weights %s", cases[i].what);
        sqz_status s = apply_fresh(p, &y, &err);
        if (s && (strstr(err.text, "without saying why") || cases[i].value < 1))
            FAIL(p, "weights %s: %s", cases[i].what, err.text);
        if (!s && !isfinite(relative_error(&y)))
            FAIL(p, "weights %s: its result is not finite", cases[i].what);
        if (!s && cases[i].exact && relative_error(&y) != 0)
            FAIL(p, "weights %s do not stay zero", cases[i].what);
        synthetic_free(&y);
    }
}

static void nan_refused(probe *p)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        synthetic y;
        sqz_error err = {0};
        if (synthetic_new(p, 24, 96, &y, &err)) return;
        y.weight[24 * 96 / 2 + 5] = bad[i];
        probe_at(p, "one weight is %g", (double)bad[i]);
        sqz_status s = apply_fresh(p, &y, &err);
        if (s == SQZ_OK)
            FAIL(p, "one weight is %g and it says nothing; return SQZ_E_NUMERIC", (double)bad[i]);
        else if (strstr(err.text, "without saying why"))
            FAIL(p, "%s; call host->fail with a sentence", err.text);
        synthetic_free(&y);
    }
}

static void dead_inputs(probe *p)
{
    synthetic y;
    sqz_error err = {0};
    if (!wants_xtx(p)) {
        SKIP(p, "asks for no statistics");
        return;
    }
    if (synthetic_new(p, 24, 96, &y, &err)) return;
    for (int64_t i = 0; i < 96; i++)
        for (int64_t j = 0; j < 96; j++)
            if (i < 40 || j < 40) y.xtx[i * 96 + j] = 0;
    probe_at(p, "inputs that never fire");
    if (apply_fresh(p, &y, &err))
        FAIL(p, "40 of 96 inputs never fire: %s", err.text);
    else if (!isfinite(relative_error(&y)))
        FAIL(p, "40 of 96 inputs never fire: its result is not finite");
    synthetic_free(&y);
}

const check_case cases_method[] = {
    {"behave", "finite-output", "method/1", TEST_USES, 60, finite_output,
     "its result is finite and near the weights"},
    {"behave", "odd-shapes", "method/1", TEST_USES, 60, odd_shapes,
     "small and uneven layers work or are refused in a sentence"},
    {"behave", "zero-weights", "method/1", TEST_USES, 60, special_weights,
     "zero, equal, tiny and huge weights do not upset it"},
    {"behave", "nan-input-refused", "method/1", TEST_USES, 60, nan_refused,
     "NaN and infinite weights are refused in a sentence"},
    {"behave", "dead-inputs", "method/1", TEST_USES, 60, dead_inputs,
     "input features that never fire do not upset it"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
