/* cmd_estimate.c - sqz estimate: memory of a model from its config.json alone.
 *
 * Weights: the linears of the blocks at each precision (group 128: a half-precision scale and a
 * zero point per group), everything else (embedding, head, norms) in 16 bits.  Left out: estimates
 * from a bare name, and the catalogue of target hardware. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "model/model.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_option options[] = {
    {"batch", CLI_INT, "N", "1", 1, 1e6, "sequences at once, for the key/value cache"},
    {"context", CLI_INT, "N", NULL, 1, 1e9,
     "positions per sequence (default: min(4096, the model's))"},
    {"max-vram", CLI_SIZE, "SIZE", NULL, 0, 0,
     "recommend for this much memory instead of this machine's"},
};

/* Precisions from wide to narrow; group scale 16 bits and zero point `bits` bits per 128 weights.
 */
static const struct {
    const char *name;
    double bits;
    int grouped;
} precisions[] = {{"fp32", 32, 0}, {"fp16", 16, 0}, {"int8", 8, 1},
                  {"int4", 4, 1},  {"int3", 3, 1},  {"int2", 2, 1}};
enum { N_PRECISIONS = sizeof precisions / sizeof *precisions };

static double weight_bytes(int i, double total, double linears)
{
    double bits = precisions[i].bits;
    if (!precisions[i].grouped) return total * bits / 8;
    return linears * (bits + (16 + bits) / 128) / 8 + (total - linears) * 2;
}

static sqz_status read_config(const char *dir, model_config *out, sqz_error *err)
{
    sqz_status s = subject_check_path(dir, err);
    if (s) {
        if (!path_exists(dir))
            err_set(err, s,
                    "%s: no such folder; estimates from a bare name are not built yet, give "
                    "a folder with config.json (the weights may be absent)",
                    dir);
        return s;
    }
    char *path = path_format("%s/config.json", dir), *text = NULL;
    int64_t bytes = 0;
    s = checkpoint_text(dir, "config.json", 16 << 20, &text, &bytes, err);
    if (s && s != SQZ_E_NOMEM)
        s = err_set(err, ERR_MODEL, "%s", err->text);
    else if (!s && !text)
        s = err_set(err, ERR_MODEL, "%s: there is no such file", path);
    else if (!s)
        s = model_config_parse(text, path, out, err);
    free(text);
    free(path);
    return s;
}

static int64_t available_memory(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    long long kb = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kb) == 1) break;
    if (f) fclose(f);
    return kb > 0 ? (int64_t)kb * 1024 : (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

typedef struct estimate {
    double parameters, linears, kv, working, totals[N_PRECISIONS];
    int64_t context, batch, memory;
    int pick; /* widest precision that fits; -1 = none */
} estimate;

static void compute(const cli *c, const model_config *m, estimate *e)
{
    int64_t linears = 0;
    e->parameters = (double)model_parameters(m, &linears);
    e->linears = (double)linears;
    e->batch = cli_int(c, "batch");
    e->context = cli_given(c, "context")               ? cli_int(c, "context")
                 : m->context > 0 && m->context < 4096 ? m->context
                                                       : 4096;
    e->kv = 2.0 * (double)m->layers * (double)m->kv_heads * (double)m->head_dim *
            (double)e->context * (double)e->batch * 4; /* float32 */
    /* Activations of a 2048-token chunk: hidden twice, the widest MLP row twice, logits of a slice.
     */
    double rows = (double)(e->context < 2048 ? e->context : 2048);
    e->working =
        rows * 4 * (4 * (double)m->hidden + 2 * (double)m->ffn) + 256 * 4 * (double)m->vocab;
    e->memory = cli_given(c, "max-vram") ? cli_int(c, "max-vram") : available_memory();
    e->pick = -1;
    for (int i = 0; i < N_PRECISIONS; i++) {
        e->totals[i] = weight_bytes(i, e->parameters, e->linears) + e->kv + e->working;
        if (e->pick < 0 && i > 0 && e->totals[i] <= (double)e->memory) e->pick = i;
    }
}

static void add_json(cli *c, const estimate *e, const char *sentence)
{
    cJSON *j = c->json;
    cJSON_AddNumberToObject(j, "parameters", e->parameters);
    cJSON *weights = cJSON_AddObjectToObject(j, "weights");
    for (int i = 0; i < N_PRECISIONS; i++)
        cJSON_AddNumberToObject(weights, precisions[i].name,
                                (double)(int64_t)weight_bytes(i, e->parameters, e->linears));
    cJSON *kv = cJSON_AddObjectToObject(j, "kv_cache");
    cJSON_AddNumberToObject(kv, "batch", (double)e->batch);
    cJSON_AddNumberToObject(kv, "context", (double)e->context);
    cJSON_AddNumberToObject(kv, "fp32", e->kv);
    cJSON_AddNumberToObject(kv, "fp16", e->kv / 2);
    cJSON_AddNumberToObject(kv, "bytes_per_token", e->kv / (double)(e->context * e->batch));
    cJSON_AddNumberToObject(j, "activations", e->working);
    cJSON *total = cJSON_AddObjectToObject(j, "total");
    for (int i = 0; i < N_PRECISIONS; i++)
        cJSON_AddNumberToObject(total, precisions[i].name, (double)(int64_t)e->totals[i]);
    cJSON *r = cJSON_AddObjectToObject(j, "recommended");
    if (e->pick >= 0) cJSON_AddStringToObject(r, "precision", precisions[e->pick].name);
    cJSON_AddNumberToObject(r, "memory_bytes", (double)e->memory);
    cJSON_AddBoolToObject(r, "fits", e->pick >= 0);
    cJSON_AddStringToObject(r, "text", sentence);
}

static sqz_status run(cli *c, sqz_error *err)
{
    model_config m;
    estimate e = {0};
    char a[32], b[32], sentence[256];
    sqz_status s = read_config(c->args[0], &m, err);
    if (s) return s;
    compute(c, &m, &e);
    format_size(e.memory, a);
    if (e.pick >= 0) {
        format_size((int64_t)e.totals[e.pick], b);
        snprintf(sentence, sizeof sentence, "%s: %s in all, of %s %s", precisions[e.pick].name, b,
                 a, cli_given(c, "max-vram") ? "allowed" : "available on this machine");
    } else {
        format_size((int64_t)e.totals[N_PRECISIONS - 1], b);
        snprintf(sentence, sizeof sentence, "does not fit %s even at 2 bits, which needs %s", a, b);
    }
    cli_say(c, "%s, %s: %.4g M parameters, %.4g M of them in the linears of %lld blocks\n\n",
            c->args[0], m.architecture, e.parameters / 1e6, e.linears / 1e6, (long long)m.layers);
    cli_say(c, "%-8s %12s %12s\n", "weights", "file", "in memory");
    for (int i = 0; i < N_PRECISIONS; i++) {
        format_size((int64_t)weight_bytes(i, e.parameters, e.linears), a);
        format_size((int64_t)e.totals[i], b);
        cli_say(c, "%-8s %12s %12s%s\n", precisions[i].name, a, b,
                i == e.pick ? "  <- widest that fits" : "");
    }
    format_size((int64_t)e.kv, a);
    format_size((int64_t)e.working, b);
    cli_say(c,
            "\nin memory = weights + key/value cache %s (batch %lld, context %lld, float32) + "
            "activations %s\nrecommended: %s\n",
            a, (long long)e.batch, (long long)e.context, b, sentence);
    add_json(c, &e, sentence);
    model_config_free(&m);
    return SQZ_OK;
}

const command cmd_estimate = {
    .name = "estimate",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "memory at each precision, from config.json alone",
    .details =
        "Nothing is loaded; a folder with only config.json will do. Quantized sizes are those "
        "of group 128 in the blocks' linears, the rest in 16 bits.",
    .examples = "  sqz estimate examples/tiny-arith/model\n"
                "  sqz estimate /models/qwen2.5-7b --context 32768 --batch 4 --max-vram 24GB\n",
    OPTIONS(options),
    .run = run};
