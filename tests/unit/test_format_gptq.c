/* test_format_gptq.c - the GPTQ layout to the bit: golden words, export to a fake sink, import of
 * what was written and of what a hostile file might hold. */
#include "quant/affine.h"
#include <cjson/cJSON.h>
#include <sqz/sqz.h>
#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a minimal host -------------------------------------------------------------------------- */

static char failure[1024];
static char warning[1024];
static void hear(const sqz_host *h, int32_t level, const char *text)
{
    (void)h;
    if (level == SQZ_LOG_WARN) snprintf(warning, sizeof warning, "%s", text);
}
static sqz_status remember(const sqz_host *h, sqz_status code, const char *text)
{
    (void)h;
    snprintf(failure, sizeof failure, "%s", text);
    return code;
}
static int32_t go_on(const sqz_host *h, double done, const char *what)
{
    (void)h, (void)done, (void)what;
    return 0;
}
static const void *no_service(const sqz_host *h, const char *id)
{
    (void)h, (void)id;
    return NULL;
}
static const sqz_host host = {sizeof host, SQZ_ABI_MINOR, NULL,  "9.9",
                              hear,        remember,      go_on, no_service};
static const sqz_format *format;

static void load(void)
{
    void *so = dlopen(SQZ_PLUGIN_DIR "/format_gptq.so", RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    const sqz_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "sqz_plugin_v1");
    ck_assert_ptr_nonnull(entry);
    format = entry()->agents[0].extension(SQZ_FORMAT_1);
    ck_assert_ptr_nonnull(format);
    failure[0] = warning[0] = 0;
}

/* ---- a model in memory and a sink that keeps what it is given -------------------------------- */

enum { MAX = 64 };
typedef struct stored {
    char name[128];
    sqz_tensor_view view;
    void *data; /* NULL until written */
} stored;
typedef struct folder {
    sqz_export ex;
    sqz_tensor_view source[MAX];
    const char *module[MAX];
    sqz_affine affine[MAX]; /* bits 0: dense */
    stored out[MAX];
    int n_out;
    char *config, *quantize_config, *readme;
} folder;

static sqz_status source_tensor(const sqz_export *ex, int64_t i, sqz_tensor_view *out)
{
    *out = ((folder *)ex->impl)->source[i];
    return SQZ_OK;
}
static sqz_status source_linear(const sqz_export *ex, int64_t i, const char **module, sqz_weight *w)
{
    folder *f = ex->impl;
    sqz_affine *a = &f->affine[i];
    *module = f->module[i];
    *w = (sqz_weight){.struct_size = sizeof *w,
                      .form = a->bits ? SQZ_FORM_INT_AFFINE : SQZ_FORM_DENSE,
                      .rows = a->rows,
                      .cols = a->cols,
                      .affine = a->bits ? a : NULL};
    return SQZ_OK;
}
static stored *find_out(folder *f, const char *name)
{
    for (int i = 0; i < f->n_out; i++)
        if (strcmp(f->out[i].name, name) == 0) return &f->out[i];
    return NULL;
}
static sqz_status sink_declare(const sqz_export *ex, const sqz_tensor_view *v)
{
    folder *f = ex->impl;
    ck_assert_int_lt(f->n_out, MAX);
    ck_assert_ptr_null(find_out(f, v->name));
    stored *s = &f->out[f->n_out++];
    snprintf(s->name, sizeof s->name, "%s", v->name);
    s->view = *v;
    s->view.name = s->name;
    return SQZ_OK;
}
static sqz_status sink_write(const sqz_export *ex, const char *name, const void *data,
                             int64_t bytes)
{
    stored *s = find_out(ex->impl, name);
    ck_assert_ptr_nonnull(s);
    ck_assert_ptr_null(s->data);
    ck_assert_int_eq(s->view.bytes, bytes);
    s->data = malloc((size_t)bytes);
    memcpy(s->data, data, (size_t)bytes);
    s->view.data = s->data;
    return SQZ_OK;
}
static sqz_status sink_text(const sqz_export *ex, const char *file, const char *text)
{
    folder *f = ex->impl;
    char **to = strcmp(file, "config.json") == 0            ? &f->config
                : strcmp(file, "quantize_config.json") == 0 ? &f->quantize_config
                                                            : &f->readme;
    ck_assert_ptr_null(*to);
    *to = strdup(text);
    return SQZ_OK;
}

static folder *folder_new(const char *config)
{
    folder *f = calloc(1, sizeof *f);
    f->ex = (sqz_export){.struct_size = sizeof f->ex,
                         .impl = f,
                         .config_json = config,
                         .tensor = source_tensor,
                         .linear = source_linear,
                         .declare = sink_declare,
                         .write = sink_write,
                         .text = sink_text};
    return f;
}
static void folder_free(folder *f)
{
    for (int i = 0; i < f->ex.n_linears; i++)
        if (f->affine[i].bits) affine_free(&f->affine[i]);
    for (int i = 0; i < f->n_out; i++) free(f->out[i].data);
    free(f->config);
    free(f->readme);
    free(f->quantize_config);
    free(f);
}

static uint32_t state = 1;
static uint32_t next_random(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Adds a quantized linear; codes count up so that golden words are known: code = (row + col) mod
 * 2^b. */
static void add_linear(folder *f, const char *module, const char *weight, int bits, int64_t rows,
                       int64_t cols, int64_t group, int symmetric)
{
    int64_t groups = (cols + group - 1) / group;
    uint8_t *codes = malloc((size_t)(rows * cols)), *zeros = malloc((size_t)(rows * groups));
    float *scales = malloc((size_t)(rows * groups) * sizeof *scales);
    for (int64_t i = 0; i < rows * cols; i++)
        codes[i] = (uint8_t)((i / cols + i % cols) & ((1 << bits) - 1));
    for (int64_t i = 0; i < rows * groups; i++) {
        scales[i] = (float)(1 + next_random() % 1000) / 1024.0f;
        zeros[i] = (uint8_t)(symmetric ? 1u << (bits - 1) : 1 + next_random() % ((1u << bits) - 1));
    }
    int64_t k = f->ex.n_linears++, t = f->ex.n_tensors++;
    sqz_error err;
    f->module[k] = module;
    ck_assert_msg(affine_pack(bits, rows, cols, group, symmetric, codes, scales, zeros,
                              &f->affine[k], &err) == SQZ_OK,
                  "%s", err.text);
    f->source[t] = (sqz_tensor_view){
        sizeof(sqz_tensor_view), SQZ_BF16, weight, 2, 0, {rows, cols}, "", rows * cols * 2};
    free(codes);
    free(zeros);
    free(scales);
}
static void add_dense_linear(folder *f, const char *module)
{
    int64_t k = f->ex.n_linears++;
    f->module[k] = module;
    f->affine[k] = (sqz_affine){.rows = 32, .cols = 32};
}

/* ---- import from what the sink kept ---------------------------------------------------------- */

static sqz_status stored_tensor(const sqz_import *im, const char *name, sqz_tensor_view *out)
{
    stored *s = find_out(im->impl, name);
    if (!s) return SQZ_E_UNSUPPORTED;
    *out = s->view;
    return SQZ_OK;
}
static sqz_status import_module(folder *f, const char *config, const char *module, sqz_affine *out)
{
    sqz_import im = {sizeof im, 0, f, config, stored_tensor};
    *out = (sqz_affine){.struct_size = sizeof *out};
    failure[0] = 0;
    sqz_status st = format->import_linear(&host, NULL, &im, module, out);
    if (st != SQZ_OK) return st;
    int64_t groups = affine_groups(out->cols, out->group_size);
    out->codes = calloc(1, (size_t)(out->rows * affine_row_bytes(out->bits, out->cols)));
    out->scales = calloc((size_t)(out->rows * groups), 2);
    out->zeros = calloc((size_t)(out->rows * groups), 1);
    return format->import_linear(&host, NULL, &im, module, out);
}
static void import_free(sqz_affine *a)
{
    free((void *)(uintptr_t)a->codes);
    free((void *)(uintptr_t)a->scales);
    free((void *)(uintptr_t)a->zeros);
    *a = (sqz_affine){0};
}

#define Q0 "model.layers.0.self_attn.q_proj"
#define Q1 "model.layers.1.self_attn.q_proj"
#define D0 "model.layers.0.mlp.down_proj"
#define D1 "model.layers.1.mlp.down_proj"
static const char plain_config[] = "{\n  \"hidden_size\": 64,\n  \"rms_norm_eps\": 1e-05,\n"
                                   "  \"torch_dtype\": \"bfloat16\"\n}\n";

static const uint32_t *words(folder *f, const char *name)
{
    stored *s = find_out(f, name);
    ck_assert_ptr_nonnull(s);
    ck_assert_ptr_nonnull(s->data);
    return s->data;
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(golden_words)
{
    static const struct {
        int bits;
        uint32_t code[3], zero[3];
    } golden[] = {{4, {0x76543210}, {0x77777777}},
                  {8, {0x03020100}, {0x7F7F7F7F}},
                  {2, {0xE4E4E4E4}, {0x55555555}},
                  /* code 3 = binary 011, eight times in three bytes: DB B6 6D */
                  {3, {0x88FAC688, 0xC688FAC6, 0xFAC688FA}, {0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D}}};
    load();
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        folder *f = folder_new(plain_config);
        add_linear(f, Q0, Q0 ".weight", golden[i].bits, 32, 64, 32, 1);
        ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
        const uint32_t *q = words(f, Q0 ".qweight"), *z = words(f, Q0 ".qzeros");
        for (int k = 0; k < (golden[i].bits == 3 ? 3 : 1); k++) {
            ck_assert_uint_eq(q[k * 32], golden[i].code[k]); /* word k of output 0 */
            ck_assert_uint_eq(z[k], golden[i].zero[k]);
        }
        const uint32_t *g = words(f, Q0 ".g_idx");
        for (uint32_t c = 0; c < 64; c++) ck_assert_uint_eq(g[c], c / 32);
        stored *s = find_out(f, Q0 ".scales");
        ck_assert_int_eq(s->view.dtype, SQZ_F16);
        ck_assert_int_eq(s->view.shape[0], 2);
        ck_assert_int_eq(s->view.shape[1], 32);
        ck_assert_ptr_null(find_out(f, Q0 ".weight"));
        folder_free(f);
    }
}
END_TEST

START_TEST(round_trip)
{
    static const int bits[] = {2, 3, 4, 8};
    load();
    for (int i = 0; i < 4 * 2 * 3; i++) {
        int b = bits[i % 4], symmetric = i / 4 % 2;
        int64_t group = (int64_t[]){32, 64, 96}[i / 8], cols = 96;
        folder *f = folder_new(plain_config);
        add_linear(f, Q0, Q0 ".weight", b, 64, cols, group, symmetric);
        add_linear(f, Q1, Q1 ".weight", b, 32, cols, group, symmetric);
        ck_assert_int_eq(format->check(&host, NULL, &f->ex), SQZ_OK);
        ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
        ck_assert_int_eq(format->probe(f->config), 1);
        ck_assert_int_eq(format->probe(plain_config), 0);
        for (int k = 0; k < 2; k++) {
            sqz_affine *a = &f->affine[k], back;
            ck_assert_msg(import_module(f, f->config, f->module[k], &back) == SQZ_OK, "%s",
                          failure);
            ck_assert_int_eq(back.bits, b);
            ck_assert_int_eq(back.rows, a->rows);
            ck_assert_int_eq(back.cols, cols);
            ck_assert_int_eq(back.group_size, group);
            ck_assert_int_eq(back.symmetric, symmetric);
            size_t scales = (size_t)(a->rows * affine_groups(cols, group));
            ck_assert_mem_eq(back.codes, a->codes, (size_t)(a->rows * affine_row_bytes(b, cols)));
            ck_assert_mem_eq(back.scales, a->scales, scales * 2);
            ck_assert_mem_eq(back.zeros, a->zeros, scales);
            import_free(&back);
        }
        sqz_affine none;
        ck_assert_int_eq(import_module(f, f->config, D0, &none), SQZ_E_UNSUPPORTED);
        ck_assert_str_eq(failure, ""); /* dense is no failure */
        folder_free(f);
    }
}
END_TEST

START_TEST(config_is_kept)
{
    static const char *const before[] = {
        plain_config, "{}", "{\"a\":[1,{\"quantization_config\":2}],\"s\":\"}\\\"{\"}",
        "{\"quantization_config\": {\"quant_method\": \"awq\", \"x\": [\"}\"]} , \"z\": 1.50}"};
    load();
    for (int i = 0; i < 4; i++) {
        folder *f = folder_new(before[i]);
        add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 64, 1);
        add_dense_linear(f, D0);
        ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
        cJSON *root = cJSON_Parse(f->config), *old = cJSON_Parse(before[i]);
        ck_assert_msg(root != NULL, "%s", f->config);
        cJSON *q = cJSON_DetachItemFromObject(root, "quantization_config");
        ck_assert_str_eq(cJSON_GetObjectItem(q, "quant_method")->valuestring, "gptq");
        ck_assert_int_eq(cJSON_GetObjectItem(q, "group_size")->valueint, -1);
        cJSON *subset = cJSON_GetObjectItem(q, "modules_in_block_to_quantize");
        ck_assert_str_eq(subset->child->child->valuestring, "self_attn.q_proj");
        ck_assert_ptr_null(subset->child->child->next);
        cJSON *side = cJSON_Parse(f->quantize_config);
        ck_assert(cJSON_Compare(side, q, 1));
        cJSON_DeleteItemFromObject(old, "quantization_config");
        ck_assert(cJSON_Compare(root, old, 1));
        cJSON_Delete(root);
        cJSON_Delete(old);
        cJSON_Delete(q);
        cJSON_Delete(side);
        folder_free(f);
    }
    folder *f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 64, 1);
    ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
    ck_assert_ptr_nonnull(strstr(f->config, "\"rms_norm_eps\": 1e-05,\n")); /* spelling kept */
    ck_assert_ptr_nonnull(strstr(f->readme, "AutoModelForCausalLM"));
    ck_assert_ptr_null(strstr(f->config, "modules_in_block"));
    folder_free(f);
}
END_TEST

/* An export of `n` linears, symmetric or not; the folder is the caller's. */
static folder *exported(const char *const *modules, int n, int symmetric)
{
    static char names[MAX][160];
    folder *f = folder_new(plain_config);
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s.weight", modules[i]);
        add_linear(f, modules[i], names[i], 4, 32, 64, 32, symmetric);
    }
    ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
    return f;
}

/* Readers that swap every linear of a block would swap the router, which is stored dense: so all
 * quantized modules are named, experts one by one; and the README names who loads them. */
START_TEST(experts_are_named)
{
    static const char *const mixtral[] = {"model.layers.0.self_attn.q_proj",
                                          "model.layers.0.block_sparse_moe.experts.0.w1",
                                          "model.layers.0.block_sparse_moe.experts.1.w1",
                                          "model.layers.1.block_sparse_moe.experts.1.w1"};
    static const char *const qwen[] = {"model.layers.0.mlp.experts.0.up_proj",
                                       "model.layers.1.mlp.experts.0.up_proj",
                                       "model.layers.2.mlp.up_proj"};
    static const char *const want[] = {"self_attn.q_proj", "block_sparse_moe.experts.0.w1",
                                       "block_sparse_moe.experts.1.w1"};
    load();
    folder *f = exported(mixtral, 1, 0);
    ck_assert_str_eq(warning, "");
    folder_free(f);
    f = exported(mixtral, 4, 0);
    ck_assert_ptr_nonnull(strstr(warning, "transformers 5"));
    cJSON *q = cJSON_Parse(f->quantize_config);
    const cJSON *list = cJSON_GetObjectItem(q, "modules_in_block_to_quantize")->child;
    ck_assert_int_eq(cJSON_GetArraySize(list), 3);
    for (int i = 0; i < 3; i++) ck_assert_str_eq(cJSON_GetArrayItem(list, i)->valuestring, want[i]);
    cJSON_Delete(q);
    ck_assert_ptr_nonnull(strstr(f->readme, "transformers==4.57.6"));
    ck_assert_ptr_nonnull(strstr(f->readme, "backend=\"torch\""));
    ck_assert_ptr_nonnull(strstr(f->readme, "Not for transformers 5"));
    ck_assert_ptr_null(strstr(f->readme, "GPTQModel"));
    folder_free(f);
    f = exported(qwen, 2, 1);
    ck_assert_ptr_nonnull(strstr(f->readme, "GPTQModel.load"));
    ck_assert_ptr_null(strstr(f->readme, "backend=\"torch\""));
    ck_assert_ptr_nonnull(strstr(f->readme, "vllm serve"));
    folder_free(f);
    f = exported(qwen, 3, 1); /* gptqmodel leaves the dense block's linears unread */
    ck_assert_ptr_null(strstr(f->readme, "GPTQModel.load"));
    folder_free(f);
}
END_TEST

static void expect_unsupported(folder *f, const char *says)
{
    failure[0] = 0;
    ck_assert_int_eq(format->check(&host, NULL, &f->ex), SQZ_E_UNSUPPORTED);
    ck_assert_msg(strstr(failure, says) != NULL, "\"%s\" does not say \"%s\"", failure, says);
    ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_E_UNSUPPORTED);
    ck_assert_int_eq(f->n_out, 0);
    folder_free(f);
}

START_TEST(what_the_format_cannot_say)
{
    load();
    folder *f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 1);
    add_linear(f, D0, D0 ".weight", 3, 32, 64, 32, 1);
    expect_unsupported(f, "one bit width");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 128, 32, 1);
    add_linear(f, D0, D0 ".weight", 4, 32, 128, 64, 1);
    expect_unsupported(f, "one group size");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 128, 32, 1);
    add_linear(f, D0, D0 ".weight", 4, 32, 128, 128, 1);
    expect_unsupported(f, "whole row");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 1);
    add_linear(f, D0, D0 ".weight", 4, 32, 64, 32, 0);
    expect_unsupported(f, "one kind of grid");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 172, 32, 1);
    expect_unsupported(f, "multiples of 32");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 7, 64, 32, 1);
    expect_unsupported(f, "multiples of 32");
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 1);
    add_dense_linear(f, D0);
    add_dense_linear(f, Q1);
    add_dense_linear(f, D1);
    expect_unsupported(f, "dense in others");
    f = folder_new(plain_config);
    add_dense_linear(f, Q0);
    expect_unsupported(f, "no linear is quantized");
    /* a whole row of 32 beside groups of 32 is the same thing */
    f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 1);
    add_linear(f, D0, D0 ".weight", 4, 32, 32, 32, 1);
    ck_assert_int_eq(format->check(&host, NULL, &f->ex), SQZ_OK);
    folder_free(f);
}
END_TEST

static void expect_refused(folder *f, const char *config, const char *says)
{
    sqz_affine a;
    sqz_status st = import_module(f, config ? config : f->config, Q0, &a);
    ck_assert_msg(st != SQZ_OK, "accepted, should say: %s", says);
    ck_assert_msg(strstr(failure, says) != NULL, "\"%s\" does not say \"%s\"", failure, says);
    if (a.codes) import_free(&a);
}

START_TEST(hostile_files)
{
    load();
    folder *f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 0);
    ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
#define CONFIG(rest) "{\"quantization_config\":{\"quant_method\":\"gptq\"," rest "}}"
    expect_refused(f, "{}", "quantization_config");
    expect_refused(f, CONFIG("\"bits\":5,\"group_size\":32"), "bits");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":0"), "group_size");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":64"), "shape");
    expect_refused(f, CONFIG("\"bits\":8,\"group_size\":32"), "shape");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"marlin\""),
                   "checkpoint_format marlin");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":32,\"dynamic\":{\"a\":{}}"), "dynamic");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":32,\"pack_dtype\":\"int8\""), "pack_dtype");

    stored *s = find_out(f, Q0 ".scales");
    uint16_t *scale = s->data, kept = scale[3];
    scale[3] = 0x7e00;
    expect_refused(f, NULL, "NaN");
    scale[3] = kept;
    s->view.dtype = SQZ_BF16;
    expect_refused(f, NULL, "F16");
    s->view.dtype = SQZ_F16;
    s->view.bytes -= 2;
    expect_refused(f, NULL, "bytes");
    s->view.bytes += 2;
    s->view.shape[0] = INT64_MAX;
    expect_refused(f, NULL, "shape");
    s->view.shape[0] = 2;

    s = find_out(f, Q0 ".qweight");
    s->view.shape[0] = (int64_t)1 << 60;
    expect_refused(f, NULL, "qweight");
    s->view.shape[0] = 8;

    s = find_out(f, Q0 ".qzeros");
    uint32_t *zero = s->data, word = zero[0];
    zero[0] |= 0xf; /* v1: 15 + 1 wraps */
    expect_refused(f, NULL, "wrapped");
    zero[0] &= ~0xfu; /* v2: plain 0 */
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"gptq_v2\""),
                   "zero point 0");
    zero[0] = word;

    s = find_out(f, Q0 ".g_idx");
    int32_t *g = s->data;
    g[0] = 1;
    expect_refused(f, NULL, "desc_act");
    g[0] = 0;
    snprintf(s->name, sizeof s->name, "elsewhere");
    expect_refused(f, CONFIG("\"bits\":4,\"group_size\":32,\"desc_act\":true"), "no g_idx");
    sqz_affine a;
    ck_assert_int_eq(import_module(f, f->config, Q0, &a), SQZ_OK); /* natural order needs none */
    import_free(&a);
    s = find_out(f, Q0 ".qzeros");
    snprintf(s->name, sizeof s->name, "nowhere");
    expect_refused(f, NULL, "no qzeros");
    folder_free(f);
}
END_TEST

/* The same zero points, stored without the minus one. */
START_TEST(version_two)
{
    load();
    folder *f = folder_new(plain_config);
    add_linear(f, Q0, Q0 ".weight", 4, 32, 64, 32, 0);
    ck_assert_int_eq(format->export_model(&host, NULL, &f->ex), SQZ_OK);
    uint32_t *zero = find_out(f, Q0 ".qzeros")->data;
    for (int i = 0; i < 8; i++) zero[i] += 0x11111111u; /* no field is 15: no carry */
    sqz_affine a;
    ck_assert_int_eq(
        import_module(f, CONFIG("\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"gptq_v2\""),
                      Q0, &a),
        SQZ_OK);
    ck_assert_mem_eq(a.zeros, f->affine[0].zeros, 64);
    import_free(&a);
    folder_free(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("format_gptq");
    TCase *t = tcase_create("layout");
    tcase_add_test(t, golden_words);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, config_is_kept);
    tcase_add_test(t, experts_are_named);
    tcase_add_test(t, what_the_format_cannot_say);
    tcase_add_test(t, hostile_files);
    tcase_add_test(t, version_two);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
