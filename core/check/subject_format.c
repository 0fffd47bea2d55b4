/* subject_format.c - a checkpoint in memory for formats: written, read back, damaged.
 *
 * Tensors handed to an importer end at the end of a page: reading beyond them is a crash, not luck.
 */
#include "check/probe.h"
#include "quant/affine.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    LAYERS = 2,
    PER_LAYER = 7,
    LINEARS = LAYERS * PER_LAYER,
    DENSE = 3 + 2 * LAYERS,
    MAX_OUT = 256
};

static const struct {
    const char *suffix;
    int rows, cols;
} shapes[PER_LAYER] = {{"self_attn.q_proj", 64, 64}, {"self_attn.k_proj", 32, 64},
                       {"self_attn.v_proj", 32, 64}, {"self_attn.o_proj", 64, 64},
                       {"mlp.gate_proj", 96, 64},    {"mlp.up_proj", 96, 64},
                       {"mlp.down_proj", 64, 96}};

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,"
    "\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"vocab_size\":128,\"torch_dtype\":\"bfloat16\"}";

typedef struct out_tensor {
    char *name;
    sqz_tensor_view view; /* data on guarded pages */
    int written;
} out_tensor;

typedef struct memory_folder {
    probe *probe;
    char module[LINEARS][80];
    sqz_affine affine[LINEARS];
    char dense_name[DENSE][80];
    uint16_t *dense; /* shared by all dense tensors */
    out_tensor out[MAX_OUT];
    int n_out, n_texts;
    char *config_out;
    /* a damaged view for the importer */
    const char *hurt;
    int how;
} memory_folder;

/* ---- the source ------------------------------------------------------------------------------ */
static sqz_status source_tensor(const sqz_export *e, int64_t i, sqz_tensor_view *out)
{
    memory_folder *c = e->impl;
    if (i < 0 || i >= e->n_tensors) return SQZ_E_INVALID;
    *out = (sqz_tensor_view){.struct_size = sizeof *out, .dtype = SQZ_BF16, .data = c->dense};
    if (i < DENSE) {
        out->name = c->dense_name[i];
        out->rank = i < 2 ? 2 : 1;
        out->shape[0] = i < 2 ? 128 : 64;
        out->shape[1] = 64;
        out->bytes = 2 * (i < 2 ? 128 * 64 : 64);
        return SQZ_OK;
    }
    static char name[96]; /* valid until the next call, as promised */
    const sqz_affine *a = &c->affine[i - DENSE];
    snprintf(name, sizeof name, "%s.weight", c->module[i - DENSE]);
    out->name = name;
    out->rank = 2;
    out->shape[0] = a->rows;
    out->shape[1] = a->cols;
    out->bytes = 2 * a->rows * a->cols;
    return SQZ_OK;
}

static sqz_status source_linear(const sqz_export *e, int64_t i, const char **module, sqz_weight *w)
{
    memory_folder *c = e->impl;
    if (i < 0 || i >= LINEARS) return SQZ_E_INVALID;
    *module = c->module[i];
    *w = (sqz_weight){.struct_size = sizeof *w,
                      .form = SQZ_FORM_INT_AFFINE,
                      .rows = c->affine[i].rows,
                      .cols = c->affine[i].cols,
                      .affine = &c->affine[i]};
    return SQZ_OK;
}

/* ---- the sink -------------------------------------------------------------------------------- */
static out_tensor *find_out(memory_folder *c, const char *name)
{
    for (int i = 0; i < c->n_out; i++)
        if (strcmp(c->out[i].name, name) == 0) return &c->out[i];
    return NULL;
}

/* n bytes whose last one is the last of a page before forbidden memory; never freed: the child
 * ends. */
static void *guarded(int64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = ((size_t)n + page - 1) / page * page;
    char *p = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + pages, page, PROT_NONE) != 0) return NULL;
    return p + pages - (size_t)n;
}

static sqz_status sink_declare(const sqz_export *e, const sqz_tensor_view *v)
{
    memory_folder *c = e->impl;
    int64_t n = 1;
    if (!v->name || find_out(c, v->name)) {
        FAIL(c->probe, "declares tensor %.100s twice or without name", v->name ? v->name : "");
        return SQZ_E_INVALID;
    }
    if (c->n_out == MAX_OUT) return SQZ_E_INVALID;
    for (int i = 0; i < v->rank && v->rank <= 8; i++) n *= v->shape[i];
    if (v->rank < 0 || v->rank > 8 || n < 0 || v->bytes < 0)
        FAIL(c->probe, "declares %.100s with an impossible shape", v->name);
    out_tensor *t = &c->out[c->n_out++];
    *t = (out_tensor){.name = strdup(v->name), .view = *v};
    t->view.name = t->name;
    t->view.data = guarded(v->bytes);
    return SQZ_OK;
}

static sqz_status sink_write(const sqz_export *e, const char *name, const void *data, int64_t bytes)
{
    memory_folder *c = e->impl;
    out_tensor *t = find_out(c, name);
    if (!t || bytes != t->view.bytes || t->written++) {
        FAIL(c->probe, "writes %.100s undeclared, twice or with another size", name);
        return SQZ_E_INVALID;
    }
    memcpy((void *)(uintptr_t)t->view.data, data, (size_t)bytes);
    return SQZ_OK;
}

static sqz_status sink_text(const sqz_export *e, const char *file, const char *text)
{
    memory_folder *c = e->impl;
    c->n_texts++;
    if (strchr(file, '/')) FAIL(c->probe, "writes a file outside the folder: %.100s", file);
    if (strcmp(file, "config.json") != 0) return SQZ_OK;
    free(c->config_out);
    c->config_out = strdup(text);
    return SQZ_OK;
}

/* ---- reading back ---------------------------------------------------------------------------- */
enum { WHOLE, ABSENT, SHORT, OTHER_DTYPE, OTHER_RANK, OTHER_SHAPE, RUBBISH, DAMAGES };

static sqz_status back_tensor(const sqz_import *im, const char *name, sqz_tensor_view *out)
{
    memory_folder *c = im->impl;
    out_tensor *t = find_out(c, name);
    if (!t) return SQZ_E_UNSUPPORTED;
    *out = t->view;
    if (!c->hurt || strcmp(c->hurt, name) != 0) return SQZ_OK;
    if (c->how == ABSENT) return SQZ_E_UNSUPPORTED;
    if (c->how == SHORT) {
        out->bytes /= 2;
        out->shape[0] /= 2;
        out->data = (const char *)out->data + (t->view.bytes - out->bytes);
    }
    if (c->how == OTHER_DTYPE) out->dtype = out->dtype == SQZ_F64 ? SQZ_F32 : SQZ_F64;
    if (c->how == OTHER_RANK) out->rank = 0;
    if (c->how == OTHER_SHAPE) out->shape[0] = INT64_MAX / 2;
    if (c->how == RUBBISH) {
        void *copy = guarded(out->bytes);
        memset(copy, 0xff, (size_t)out->bytes);
        out->data = copy;
    }
    return SQZ_OK;
}

/* Imports linear i into arrays on guarded pages. */
static sqz_status import_one(memory_folder *c, agent *a, const char *module, const char *text,
                             sqz_affine *out)
{
    const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
    sqz_import im = {
        .struct_size = sizeof im, .impl = c, .config_json = text, .tensor = back_tensor};
    *out = (sqz_affine){.struct_size = sizeof *out};
    sqz_status s = f->import_linear(agent_host(a), agent_self(a), &im, module, out);
    if (s) return s;
    if (out->rows <= 0 || out->cols <= 0 || out->rows > 4096 || out->cols > 4096 || out->bits < 1 ||
        out->bits > 8 || out->group_size <= 0)
        return SQZ_E_INVALID; /* the host refuses such a header */
    int64_t groups = affine_groups(out->cols, out->group_size);
    out->codes = guarded(out->rows * affine_row_bytes(out->bits, out->cols));
    out->scales = guarded(out->rows * groups * 2);
    out->zeros = guarded(out->rows * groups);
    return f->import_linear(agent_host(a), agent_self(a), &im, module, out);
}

static int same_affine(const sqz_affine *a, const sqz_affine *b)
{
    if (a->bits != b->bits || a->rows != b->rows || a->cols != b->cols) return 0;
    float *x = malloc((size_t)(a->rows * a->cols) * sizeof *x);
    float *y = malloc((size_t)(a->rows * a->cols) * sizeof *y);
    affine_dequantize(a, 0, a->rows, x);
    affine_dequantize(b, 0, b->rows, y);
    int same = memcmp(x, y, (size_t)(a->rows * a->cols) * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* ---- making one ------------------------------------------------------------------------------ */
static void make_linear(const probe *p, memory_folder *c, int i, int bits)
{
    enum { GROUP = 32 };
    int rows = shapes[i % PER_LAYER].rows, cols = shapes[i % PER_LAYER].cols;
    int64_t n = (int64_t)rows * cols, groups = (int64_t)rows * (cols / GROUP);
    uint8_t *codes = malloc((size_t)n), *zeros = malloc((size_t)groups);
    float *scales = malloc((size_t)groups * sizeof *scales);
    for (int64_t k = 0; k < n; k++)
        codes[k] =
            (uint8_t)((probe_random(p, 50 + (uint64_t)i, (uint64_t)k) + 1) / 2 * (1 << bits));
    for (int64_t k = 0; k < groups; k++) {
        scales[k] = (float)(1 + k % 7) * 0x1p-8f;
        zeros[k] = (uint8_t)(1 << (bits - 1));
    }
    snprintf(c->module[i], sizeof c->module[i], "model.layers.%d.%s", i / PER_LAYER,
             shapes[i % PER_LAYER].suffix);
    affine_pack(bits, rows, cols, GROUP, 1, codes, scales, zeros, &c->affine[i], NULL);
    free(codes);
    free(zeros);
    free(scales);
}

static memory_folder *folder_new(probe *p, int bits)
{
    memory_folder *c = calloc(1, sizeof *c);
    c->probe = p;
    c->dense = calloc(128 * 96, sizeof *c->dense);
    for (int i = 0; i < LINEARS; i++) make_linear(p, c, i, bits);
    static const char *const top[] = {"model.embed_tokens.weight", "lm_head.weight",
                                      "model.norm.weight"};
    for (int i = 0; i < 3; i++) snprintf(c->dense_name[i], 80, "%s", top[i]);
    for (int i = 0; i < 2 * LAYERS; i++)
        snprintf(c->dense_name[3 + i], 80, "model.layers.%d.%s.weight", i / 2,
                 i % 2 ? "post_attention_layernorm" : "input_layernorm");
    return c;
}

static void folder_free(memory_folder *c)
{
    for (int i = 0; i < LINEARS; i++) affine_free(&c->affine[i]);
    for (int i = 0; i < c->n_out; i++) free(c->out[i].name);
    free(c->config_out);
    free(c->dense);
    free(c);
}

static int exports(const probe *p)
{
    return json_bool(json_get(p->info->extensions, SQZ_FORMAT_1), "exports", 0);
}

static int imports(const probe *p)
{
    return json_bool(json_get(p->info->extensions, SQZ_FORMAT_1), "imports", 0);
}

static sqz_status export_all(probe *p, agent *a, memory_folder *c, sqz_error *err)
{
    const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
    sqz_export e = {.struct_size = sizeof e,
                    .impl = c,
                    .config_json = config,
                    .n_tensors = DENSE + LINEARS,
                    .n_linears = LINEARS,
                    .tensor = source_tensor,
                    .linear = source_linear,
                    .declare = sink_declare,
                    .write = sink_write,
                    .text = sink_text};
    sqz_status s = f->check(agent_host(a), agent_self(a), &e);
    if (!s) s = f->export_model(agent_host(a), agent_self(a), &e);
    if (s) return agent_error(a, s, err);
    for (int i = 0; i < c->n_out; i++)
        if (!c->out[i].written) FAIL(p, "declares %.100s and never writes it", c->out[i].name);
    return SQZ_OK;
}

static void digest_out(const memory_folder *c, sha256 *digest)
{
    for (int i = 0; i < c->n_out; i++) {
        sha256_update(digest, c->out[i].name, strlen(c->out[i].name));
        sha256_update(digest, c->out[i].view.data, (size_t)c->out[i].view.bytes);
    }
    if (c->config_out) sha256_update(digest, c->config_out, strlen(c->config_out));
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    sqz_status s = SQZ_OK;
    (void)with, (void)size; /* formats take no parameters in format/1 */
    if (!exports(p)) {
        const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
        int32_t answer = f->probe(config);
        sha256_update(digest, &answer, sizeof answer);
        return SQZ_OK;
    }
    memory_folder *c = folder_new(p, 4);
    s = export_all(p, a, c, err);
    digest_out(c, digest);
    folder_free(c);
    return s;
}

const subject_kind subject_format = {"format/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
static void roundtrip(probe *p)
{
    static const int widths[] = {2, 3, 4, 8};
    int refused = 0;
    if (!exports(p) || !imports(p)) {
        SKIP(p, "%s only", exports(p) ? "writes" : "reads");
        return;
    }
    for (int k = 0; k < 4; k++) {
        memory_folder *c = folder_new(p, widths[k]);
        sqz_error err = {0};
        agent *a;
        probe_at(p, "a checkpoint of %d bits", widths[k]);
        if (agent_open(p->host, p->info, &a, &err)) {
            FAIL(p, "%s", err.text);
            return;
        }
        const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
        sqz_status s = export_all(p, a, c, &err);
        if (s == SQZ_E_UNSUPPORTED && !strstr(err.text, "without saying why")) {
            refused++;
        } else if (s) {
            FAIL(p, "%d bits: %s", widths[k], err.text);
        } else if (!c->config_out || f->probe(c->config_out) != 1) {
            FAIL(p, "does not recognise the config.json that it wrote");
        } else {
            for (int i = 0; i < LINEARS; i++) {
                sqz_affine back;
                s = import_one(c, a, c->module[i], c->config_out, &back);
                if (s)
                    FAIL(p, "%d bits: cannot read back %s", widths[k], c->module[i]);
                else if (!same_affine(&back, &c->affine[i]))
                    FAIL(p, "%d bits: %s changes when written and read", widths[k], c->module[i]);
            }
        }
        agent_close(a);
        folder_free(c);
    }
    if (refused == 4) FAIL(p, "writes none of 2, 3, 4 and 8 bits");
    PASS(p, "%d of 4 bit widths written and read back exactly", 4 - refused);
}

static void damaged(probe *p)
{
    static const char *const names[] = {"whole",           "absent",        "cut short",
                                        "of another type", "without shape", "of a huge shape",
                                        "full of ones"};
    sqz_error err = {0};
    agent *a;
    if (!exports(p) || !imports(p)) {
        SKIP(p, "%s only", exports(p) ? "writes" : "reads");
        return;
    }
    memory_folder *c = folder_new(p, 4);
    if (agent_open(p->host, p->info, &a, &err) || export_all(p, a, c, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < c->n_out; i++) {
        if (strncmp(c->out[i].name, c->module[0], strlen(c->module[0])) != 0) continue;
        for (c->how = ABSENT; c->how < DAMAGES; c->how++) {
            sqz_affine back;
            c->hurt = c->out[i].name;
            probe_at(p, "%s is %s", c->hurt, names[c->how]);
            sqz_status s = import_one(c, a, c->module[0], c->config_out, &back);
            /* What the host's own check catches is fine. */
            if (s == SQZ_OK && affine_check(&back, NULL) == SQZ_OK && c->how != RUBBISH &&
                c->how != ABSENT)
                WARN(p, "takes %s although it is %s", c->hurt, names[c->how]);
        }
    }
    agent_close(a);
    folder_free(c);
}

static void strange_configs(probe *p)
{
    static const char *const texts[] = {
        "{}",
        "",
        "not json",
        "[]",
        "null",
        "{\"quantization_config\":4}",
        "{\"quantization_config\":{\"quant_method\":7,\"bits\":\"four\"}}",
        "{\"quantization_config\":{\"quant_method\":\"nobody-knows-this\"}}",
        "{\"a\":"};
    sqz_error err = {0};
    agent *a;
    if (!imports(p)) {
        SKIP(p, "writes only");
        return;
    }
    if (agent_open(p->host, p->info, &a, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    const sqz_format *f = agent_extension(a, SQZ_FORMAT_1);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        probe_at(p, "probing %s", texts[i]);
        if (f->probe(texts[i]) != 0) FAIL(p, "claims that this is its format: %s", texts[i]);
    }
    agent_close(a);
}

const check_case cases_format[] = {{"behave", "roundtrip", "format/1", TEST_USES, 60, roundtrip,
                                    "what it writes it reads back exactly"},
                                   {"behave", "damaged-tensors", "format/1", TEST_USES, 60, damaged,
                                    "damaged tensors are refused, not followed"},
                                   {"behave", "strange-configs", "format/1", TEST_USES, 60,
                                    strange_configs, "claims only its own config.json"},
                                   {NULL, NULL, NULL, 0, 0, NULL, NULL}};
