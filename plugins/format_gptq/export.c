/* export.c - a checkpoint in GPTQ v1 layout: codes transposed, zero points minus one.
 *
 * Only what every reader understands is written: one bit width, group size and symmetry for all
 * linears, groups in natural order (desc_act false, g_idx monotone).  Which linears stay dense must
 * repeat from block to block, since the format names them by suffix.  Anything else is unsupported,
 * in a sentence, and found by `check` before a byte is written.  One linear is in memory at a time.
 * Left out: gptq_v2 and per-module overrides, which few readers know. */
#include "gptq_file.h"
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>

enum { SUFFIXES = 4096 }; /* three a routed expert */

typedef struct entry {
    char *name; /* of the source tensor, "....weight" */
    int64_t linear;
} entry;

typedef struct plan {
    int bits, symmetric;
    int64_t group_size; /* as announced: -1 or the group */
    entry *entries;     /* [n] quantized linears, sorted by name */
    int64_t n;
    char *suffix[SUFFIXES]; /* "self_attn.q_proj", in order of appearance */
    int quantized[SUFFIXES], dense[SUFFIXES];
    int n_suffixes;
    /* while collecting */
    int64_t widest_whole; /* most columns of a linear whose group is its whole row */
    int64_t partial;      /* group size of the others, 0 = none seen */
} plan;

static void plan_free(plan *p)
{
    for (int64_t i = 0; i < p->n; i++) free(p->entries[i].name);
    for (int i = 0; i < p->n_suffixes; i++) free(p->suffix[i]);
    free(p->entries);
    *p = (plan){0};
}

/* The part after the block number: "self_attn.q_proj" of "model.layers.3.self_attn.q_proj". */
static const char *suffix_of(const char *module)
{
    for (const char *p = module; (p = strchr(p, '.')); p++) {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits > 0 && p[1 + digits] == '.') return p + 2 + digits;
    }
    return module;
}

static sqz_status plan_suffix(const sqz_host *host, plan *p, const char *module, int quantized)
{
    const char *suffix = suffix_of(module);
    int i = 0;
    while (i < p->n_suffixes && strcmp(p->suffix[i], suffix) != 0) i++;
    if (i == p->n_suffixes) {
        if (i == SUFFIXES)
            return sqz_failf(host, SQZ_E_UNSUPPORTED,
                             "gptq: more than %d kinds of linears in a block", SUFFIXES);
        p->suffix[i] = strdup(suffix);
        if (!p->suffix[i]) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for names");
        p->n_suffixes++;
    }
    if (quantized)
        p->quantized[i]++;
    else
        p->dense[i]++;
    if (p->quantized[i] && p->dense[i])
        return sqz_failf(
            host, SQZ_E_UNSUPPORTED,
            "gptq: %s is quantized in some blocks and dense in others; the format names "
            "dense linears by suffix, so let the rule hold for every block",
            suffix);
    return SQZ_OK;
}

static sqz_status plan_shape(const sqz_host *host, plan *p, const char *module, const sqz_affine *a)
{
    if (a->rows % 32 != 0 || a->cols % 32 != 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "gptq: %s is %lld x %lld; the format needs input and output features in "
                         "multiples of 32",
                         module, (long long)a->rows, (long long)a->cols);
    if (p->n > 0 && a->bits != p->bits)
        return sqz_failf(
            host, SQZ_E_UNSUPPORTED,
            "gptq: %s has %d bits, linears before it %d; the format holds one bit width", module,
            a->bits, p->bits);
    if (p->n > 0 && a->symmetric != p->symmetric)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "gptq: %s is %ssymmetric, linears before it are not; the format holds one "
                         "kind of grid",
                         module, a->symmetric ? "" : "a");
    p->bits = a->bits;
    p->symmetric = a->symmetric;
    if (a->group_size >= a->cols) {
        if (a->cols > p->widest_whole) p->widest_whole = a->cols;
    } else if (p->partial && p->partial != a->group_size) {
        return sqz_failf(
            host, SQZ_E_UNSUPPORTED,
            "gptq: %s has groups of %lld, linears before it %lld; the format holds one "
            "group size",
            module, (long long)a->group_size, (long long)p->partial);
    } else {
        p->partial = a->group_size;
    }
    return SQZ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static sqz_status plan_linear(const sqz_host *host, const sqz_export *ex, int64_t i, plan *p)
{
    const char *module;
    sqz_weight w = {.struct_size = sizeof w};
    sqz_status st = ex->linear(ex, i, &module, &w);
    if (st != SQZ_OK) return st;
    int quantized = strcmp(w.form, SQZ_FORM_INT_AFFINE) == 0;
    if (!quantized && strcmp(w.form, SQZ_FORM_DENSE) != 0)
        return sqz_failf(host, SQZ_E_UNSUPPORTED, "gptq: %s has form %.40s, which is not written",
                         module, w.form);
    st = plan_suffix(host, p, module, quantized);
    if (st != SQZ_OK || !quantized) return st;
    st = plan_shape(host, p, module, w.affine);
    if (st != SQZ_OK) return st;
    size_t length = strlen(module) + sizeof ".weight";
    entry e = {malloc(length), i};
    if (!e.name) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for names");
    snprintf(e.name, length, "%s.weight", module);
    p->entries[p->n++] = e;
    return SQZ_OK;
}

/* A whole-row group and groups of g give the same tensors where the row is not longer than g. */
static sqz_status plan_groups(const sqz_host *host, plan *p)
{
    p->group_size = p->partial ? p->partial : -1;
    if (p->partial && p->widest_whole > p->partial)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "gptq: groups of %lld beside a whole row of %lld; the format holds one "
                         "group size",
                         (long long)p->partial, (long long)p->widest_whole);
    return SQZ_OK;
}

static sqz_status plan_make(const sqz_host *host, const sqz_export *ex, plan *p)
{
    *p = (plan){0};
    if (ex->n_linears < 0 || ex->n_linears > (1 << 24) || !ex->config_json)
        return host->fail(host, SQZ_E_INVALID, "gptq: the export has no linears or no config.json");
    p->entries = calloc((size_t)ex->n_linears + 1, sizeof *p->entries);
    if (!p->entries) return host->fail(host, SQZ_E_NOMEM, "gptq: no memory for names");
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; st == SQZ_OK && i < ex->n_linears; i++) {
        st = plan_linear(host, ex, i, p);
        if (st == SQZ_OK && host->tick(host, 0.02, "check")) st = SQZ_E_CANCELLED;
    }
    if (st == SQZ_OK && p->n == 0)
        st = host->fail(host, SQZ_E_UNSUPPORTED,
                        "gptq: no linear is quantized; write the model as it is instead");
    if (st == SQZ_OK) st = plan_groups(host, p);
    if (st == SQZ_OK) qsort(p->entries, (size_t)p->n, sizeof *p->entries, by_name);
    if (st != SQZ_OK) plan_free(p);
    return st;
}

sqz_status gptq_check(const sqz_host *host, void *self, const sqz_export *ex)
{
    plan p;
    (void)self;
    sqz_status st = plan_make(host, ex, &p);
    if (st == SQZ_OK) plan_free(&p);
    return st;
}

/* ---- tensors --------------------------------------------------------------------------------- */

enum { QWEIGHT, QZEROS, SCALES, G_IDX, PARTS };
static const char *const part_name[PARTS] = {"qweight", "qzeros", "scales", "g_idx"};

static sqz_tensor_view part_view(const sqz_affine *a, int part)
{
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    sqz_tensor_view v = {.struct_size = sizeof v, .dtype = SQZ_I32, .rank = 2};
    switch (part) {
    case QWEIGHT:
        v.shape[0] = a->cols * a->bits / 32;
        v.shape[1] = a->rows;
        break;
    case QZEROS:
        v.shape[0] = groups;
        v.shape[1] = a->rows * a->bits / 32;
        break;
    case SCALES:
        v.dtype = SQZ_F16;
        v.shape[0] = groups;
        v.shape[1] = a->rows;
        break;
    default:
        v.rank = 1;
        v.shape[0] = a->cols;
        v.shape[1] = 1;
    }
    v.bytes = v.shape[0] * v.shape[1] * (v.dtype == SQZ_F16 ? 2 : 4);
    if (v.rank == 1) v.shape[1] = 0;
    return v;
}

static void fill_part(const sqz_host *host, const sqz_affine *a, int part, void *out)
{
    int64_t groups = (a->cols + a->group_size - 1) / a->group_size;
    int64_t zero_bytes = a->rows * a->bits / 8;
    switch (part) {
    case QWEIGHT: layout_turn(host, a->codes, a->rows, a->cols * a->bits / 32, out); break;
    case QZEROS:
        for (int64_t k = 0; k < groups; k++)
            layout_put_zeros(a->zeros + k, groups, a->rows, a->bits,
                             (uint8_t *)out + k * zero_bytes);
        break;
    case SCALES:
        for (int64_t k = 0; k < groups; k++)
            for (int64_t r = 0; r < a->rows; r++)
                ((uint16_t *)out)[k * a->rows + r] = a->scales[r * groups + k];
        break;
    default:
        for (int64_t c = 0; c < a->cols; c++) ((int32_t *)out)[c] = (int32_t)(c / a->group_size);
    }
}

/* Declares (write = 0) or writes the four tensors that replace one weight. */
static sqz_status put_linear(const sqz_host *host, const sqz_export *ex, const entry *e, int write)
{
    const char *module;
    sqz_weight w = {.struct_size = sizeof w};
    sqz_status st = ex->linear(ex, e->linear, &module, &w);
    for (int part = 0; st == SQZ_OK && part < PARTS; part++) {
        sqz_tensor_view v = part_view(w.affine, part);
        size_t length = strlen(e->name) + 16;
        char *name = malloc(length);
        void *data = write ? calloc(1, (size_t)v.bytes) : NULL;
        if (!name || (write && !data)) {
            st = sqz_failf(host, SQZ_E_NOMEM, "gptq: no memory for %s of %s", part_name[part],
                           e->name);
        } else {
            snprintf(name, length, "%.*s%s", (int)(strlen(e->name) - strlen("weight")), e->name,
                     part_name[part]);
            v.name = name;
            if (write) fill_part(host, w.affine, part, data);
            st = write ? ex->write(ex, name, data, v.bytes) : ex->declare(ex, &v);
        }
        free(data);
        free(name);
    }
    return st;
}

static sqz_status put_tensors(const sqz_host *host, const sqz_export *ex, const plan *p, int write)
{
    int64_t replaced = 0;
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; st == SQZ_OK && i < ex->n_tensors; i++) {
        sqz_tensor_view t = {.struct_size = sizeof t};
        st = ex->tensor(ex, i, &t);
        if (st != SQZ_OK) break;
        entry wanted = {(char *)(uintptr_t)t.name, 0};
        const entry *e = bsearch(&wanted, p->entries, (size_t)p->n, sizeof wanted, by_name);
        replaced += e != NULL;
        if (e)
            st = put_linear(host, ex, e, write);
        else
            st = write ? ex->write(ex, t.name, t.data, t.bytes) : ex->declare(ex, &t);
        double done = ((double)i / (double)ex->n_tensors + write) / 2;
        if (st == SQZ_OK && host->tick(host, done, write ? "write" : "declare"))
            st = SQZ_E_CANCELLED;
    }
    if (st == SQZ_OK && replaced != p->n)
        st = sqz_failf(host, SQZ_E_INVALID,
                       "gptq: %lld linears are quantized, but the source holds the weights of %lld",
                       (long long)p->n, (long long)replaced);
    return st;
}

static int plan_kind(const sqz_export *ex, const plan *p)
{
    int kind = config_kind(ex->config_json), plain_mlp = 0;
    for (int i = 0; i < p->n_suffixes; i++) {
        int in_mlp = strncmp(p->suffix[i], "mlp.", 4) == 0;
        int expert = strstr(p->suffix[i], "experts.") != NULL;
        plain_mlp |= in_mlp && !expert;
        if (expert && p->quantized[i]) kind |= GPTQ_EXPERTS | (in_mlp ? GPTQ_EXPERTS_IN_MLP : 0);
    }
    return plain_mlp ? kind & ~GPTQ_EXPERTS_IN_MLP : kind;
}

/* The quantized linears are named where others of the block stay dense: those that a rule left out,
 * and the router of experts, which is no linear here but one to readers that swap all of them. */
static sqz_status put_config(const sqz_host *host, const sqz_export *ex, const plan *p)
{
    const char *subset[SUFFIXES];
    int n = 0, kind = plan_kind(ex, p);
    for (int i = 0; i < p->n_suffixes; i++)
        if (p->quantized[i]) subset[n++] = p->suffix[i];
    int named = n < p->n_suffixes || kind & GPTQ_EXPERTS;
    char *object =
        config_object(host, p->bits, p->group_size, p->symmetric, named ? subset : NULL, n);
    char *config = object ? config_splice(ex->config_json, object) : NULL;
    sqz_status st = config ? ex->text(ex, "config.json", config)
                           : host->fail(host, SQZ_E_INVALID,
                                        "gptq: the source's config.json is not a JSON object");
    if (st == SQZ_OK) st = ex->text(ex, "quantize_config.json", object);
    char *readme = gptq_readme(p->bits, p->group_size, p->symmetric, n < p->n_suffixes, kind);
    if (st == SQZ_OK)
        st = readme ? ex->text(ex, "README.md", readme)
                    : host->fail(host, SQZ_E_NOMEM, "gptq: no memory for README.md");
    if (st == SQZ_OK && kind & GPTQ_EXPERTS)
        host->log(host, SQZ_LOG_WARN,
                  "transformers 5 fills quantized experts with random numbers; who loads this "
                  "checkpoint is in its README.md");
    free(readme);
    free(config);
    free(object);
    return st;
}

sqz_status gptq_export(const sqz_host *host, void *self, const sqz_export *ex)
{
    plan p;
    (void)self;
    sqz_status st = plan_make(host, ex, &p);
    if (st != SQZ_OK) return st;
    st = put_tensors(host, ex, &p, 0);
    if (st == SQZ_OK) st = put_tensors(host, ex, &p, 1);
    if (st == SQZ_OK) st = put_config(host, ex, &p);
    plan_free(&p);
    return st;
}
