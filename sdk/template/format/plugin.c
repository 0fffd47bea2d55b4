/* @name@.c - a checkpoint format: the compressed weights as ordinary bfloat16 tensors.
 *
 * No smaller on disk, but every program that reads the original model reads this folder, and finds
 * the compressed model's quality in it.  Written only; reading needs nothing new. */
#include <sqz/format.h>
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>

static float half_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float x = e ? (float)(m | 1024) : (float)m;
    for (int k = e ? e : 1; k < 25; k++) x *= 0.5f;
    for (int k = 25; k < e; k++) x *= 2;
    return h & 0x8000 ? -x : x;
}

static uint16_t to_bf16(float x) /* nearest, ties to even */
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void decode(const sqz_affine *a, uint16_t *out) /* [rows, cols] */
{
    int64_t row_bytes = 4 * ((a->cols * a->bits + 31) / 32);
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t c = 0; c < a->cols; c++) {
            int64_t bit = c * a->bits, group = r * groups + c / a->group_size;
            const uint8_t *p = a->codes + r * row_bytes + bit / 8;
            int last = bit / 8 + 1 < row_bytes, code = (p[0] | (last ? p[1] << 8 : 0)) >> bit % 8;
            code &= (1 << a->bits) - 1;
            out[r * a->cols + c] = to_bf16(half_value(a->scales[group]) * (float)(code - a->zeros[group]));
        }
}

/* The compressed linear whose weight tensor has this name, or NULL. */
static const sqz_affine *affine_of(const sqz_export *ex, const char *tensor)
{
    for (int64_t i = 0; i < ex->n_linears; i++) {
        const char *module;
        sqz_weight w = {.struct_size = sizeof w};
        if (ex->linear(ex, i, &module, &w) || strcmp(w.form, SQZ_FORM_INT_AFFINE) != 0) continue;
        size_t n = strlen(module);
        if (!strncmp(tensor, module, n) && !strcmp(tensor + n, ".weight")) return w.affine;
    }
    return NULL;
}

static sqz_status check(const sqz_host *host, void *self, const sqz_export *ex)
{
    (void)host, (void)self, (void)ex;
    return SQZ_OK; /* every form can be written as plain numbers */
}

static sqz_status export_model(const sqz_host *host, void *self, const sqz_export *ex)
{
    sqz_status st = SQZ_OK;
    (void)self;
    for (int64_t k = 0; k < 2 * ex->n_tensors && !st; k++) { /* first declare all, then write all */
        int writing = k >= ex->n_tensors;
        sqz_tensor_view v = {.struct_size = sizeof v};
        if (host->tick(host, (double)k / (double)(2 * ex->n_tensors), "write")) return SQZ_E_CANCELLED;
        if ((st = ex->tensor(ex, k % ex->n_tensors, &v))) break;
        const sqz_affine *a = affine_of(ex, v.name);
        if (a) v.dtype = SQZ_BF16, v.bytes = 2 * a->rows * a->cols;
        uint16_t *plain = a && writing ? malloc((size_t)v.bytes) : NULL;
        if (a && writing && !plain) return sqz_failf(host, SQZ_E_NOMEM, "@name@: no memory for %s", v.name);
        if (plain) decode(a, plain);
        if (!writing) v.data = NULL;
        st = writing ? ex->write(ex, v.name, plain ? (void *)plain : v.data, v.bytes) : ex->declare(ex, &v);
        free(plain);
    }
    return st ? st : ex->text(ex, "config.json", ex->config_json);
}

static const sqz_format format = {sizeof format, 0, NULL, check, export_model, NULL};
static const void *extension(const char *id) { return strcmp(id, SQZ_FORMAT_1) ? NULL : &format; }
static const sqz_agent agent = {sizeof agent, 10, "@id@", "format/1", "@name@",
                                "plain bfloat16 tensors that any reader takes", "0.1.0", "MIT", NULL,
                                NULL, NULL, NULL, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
