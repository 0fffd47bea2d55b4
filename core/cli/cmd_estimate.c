/* cmd_estimate.c - sqz estimate: memory of a model from its shape alone.
 *
 * The shape comes from a folder's config.json, from the table of known models, or from the
 * config.json of a hub name.  Weights: the linears of the blocks at each precision (group 128: a
 * half-precision scale and a zero point per group), everything else (embedding, head, norms) in 16
 * bits.  Left out: fragmentation, the runtime's own memory, the shorter cache of sliding windows.
 */
#include "cli/known_models.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "model/model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_option options[] = {
    {"batch", CLI_INT, "N", "1", 1, 1e6, "sequences at once, for the key/value cache"},
    {"context", CLI_INT, "N", NULL, 1, 1e9,
     "positions per sequence (default: min(4096, the model's))"},
    {"kv", CLI_CHOICE, "fp32|fp16|int8|int4", "fp32", 0, 0,
     "precision of the key/value cache in the totals; sqz's own is fp32"},
    {"device", CLI_CHOICE, "cpu|gpu|edge", "cpu", 0, 0, "kind of hardware to recommend"},
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

static sqz_status read_folder(const char *dir, model_config *out, sqz_error *err)
{
    sqz_status s = subject_check_path(dir, err);
    if (s) return s;
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

/* A folder goes before a known name, a known name before the hub. */
static sqz_status read_config(const char *word, model_config *out, known_model *known,
                              sqz_error *err)
{
    *known = (known_model){0};
    if (path_exists(word)) return read_folder(word, out, err);
    sqz_status s = known_model_find(word, known, err);
    if (s) return s;
    if (known->config) return model_config_parse(known->config, known->name, out, err);
    if (hub_is_name(word)) {
        char *folder = NULL;
        s = cli_model_folder(word, HUB_CONFIG, &folder, err);
        if (!s) s = read_folder(folder, out, err);
        free(folder);
        return s;
    }
    return err_set(err, ERR_MODEL,
                   "%s: no such folder and no known model%s%s%s; give a folder with config.json "
                   "(the weights may be absent), a name of the hub (owner/name), or add its shape "
                   "to ~/.config/sqz/models.json",
                   word, *known->name ? " (nearest: " : "", known->name, *known->name ? ")" : "");
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

/* Of the key/value cache; the integers with a half-precision scale per vector of a head. */
static const struct {
    const char *name;
    double bits, scale_bits;
} caches[] = {{"fp32", 32, 0}, {"fp16", 16, 0}, {"int8", 8, 16}, {"int4", 4, 16}};
enum { N_CACHES = sizeof caches / sizeof *caches };

typedef struct estimate {
    double parameters, linears, working, totals[N_PRECISIONS];
    double cache[N_CACHES]; /* bytes at each precision */
    int kv;                 /* which of them the totals count */
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
    double vectors =
        2.0 * (double)m->layers * (double)m->kv_heads * (double)e->context * (double)e->batch;
    for (int i = 0; i < N_CACHES; i++) {
        e->cache[i] = vectors * ((double)m->head_dim * caches[i].bits + caches[i].scale_bits) / 8;
        if (!strcmp(caches[i].name, cli_text(c, "kv"))) e->kv = i;
    }
    /* Activations of a 2048-token chunk: hidden twice, the widest MLP row twice, logits of a slice.
     */
    double rows = (double)(e->context < 2048 ? e->context : 2048);
    e->working =
        rows * 4 * (4 * (double)m->hidden + 2 * (double)m->ffn) + 256 * 4 * (double)m->vocab;
    e->memory = cli_given(c, "max-vram") ? cli_int(c, "max-vram") : available_memory();
    e->pick = -1;
    for (int i = 0; i < N_PRECISIONS; i++) {
        e->totals[i] = weight_bytes(i, e->parameters, e->linears) + e->cache[e->kv] + e->working;
        if (e->pick < 0 && i > 0 && e->totals[i] <= (double)e->memory) e->pick = i;
    }
}

static void add_json(cli *c, const estimate *e, const char *sentence)
{
    cJSON *j = c->json;
    cJSON_AddTrueToObject(j, "estimated");
    cJSON_AddNumberToObject(j, "parameters", e->parameters);
    cJSON *weights = cJSON_AddObjectToObject(j, "weights");
    for (int i = 0; i < N_PRECISIONS; i++)
        cJSON_AddNumberToObject(weights, precisions[i].name,
                                (double)(int64_t)weight_bytes(i, e->parameters, e->linears));
    cJSON *kv = cJSON_AddObjectToObject(j, "kv_cache");
    cJSON_AddNumberToObject(kv, "batch", (double)e->batch);
    cJSON_AddNumberToObject(kv, "context", (double)e->context);
    for (int i = 0; i < N_CACHES; i++)
        cJSON_AddNumberToObject(kv, caches[i].name, (double)(int64_t)e->cache[i]);
    cJSON_AddStringToObject(kv, "precision", caches[e->kv].name);
    cJSON_AddNumberToObject(kv, "bytes_per_token",
                            e->cache[e->kv] / ((double)e->context * (double)e->batch));
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

/* What the tables say about hardware and strategy. */
static sqz_status recommend(cli *c, const estimate *e, sqz_error *err)
{
    recommendation r;
    sqz_status s = recommendation_open(&r, err);
    if (s || !r.doc) return s;
    const char *device = cli_text(c, "device");
    cJSON *j = json_get(c->json, "recommended"), *hardware = cJSON_AddObjectToObject(j, "hardware");
    cJSON_AddStringToObject(j, "device", device);
    cli_say(c, "\nsmallest %s hardware\n", device);
    for (int i = 0; i < N_PRECISIONS; i++) {
        const char *name = recommend_hardware(&r, device, e->totals[i]);
        cli_say(c, "%-8s %s\n", precisions[i].name, name ? name : "none of the table holds it");
        if (name) cJSON_AddStringToObject(hardware, precisions[i].name, name);
    }
    const cJSON *row = recommend_strategy(&r, device, e->parameters);
    if (row) {
        const char *text = json_str(row, "text", ""), *method = json_str(row, "method", NULL);
        cli_say(c, "strategy for this size: %s\n", text);
        cJSON_AddStringToObject(j, "strategy", text);
        if (method) cJSON_AddStringToObject(j, "method", method);
        json_add_num(j, "bits", json_num(row, "bits", NAN));
    }
    recommendation_close(&r);
    return SQZ_OK;
}

static void say_table(const cli *c, const estimate *e, const char *sentence)
{
    char a[32], b[32];
    cli_say(c, "%-8s %12s %12s\n", "weights", "file", "in memory");
    for (int i = 0; i < N_PRECISIONS; i++) {
        format_size((int64_t)weight_bytes(i, e->parameters, e->linears), a);
        format_size((int64_t)e->totals[i], b);
        cli_say(c, "%-8s %12s %12s%s\n", precisions[i].name, a, b,
                i == e->pick ? "  <- widest that fits" : "");
    }
    format_size((int64_t)e->cache[e->kv], a);
    format_size((int64_t)e->working, b);
    cli_say(c,
            "\nin memory = weights + key/value cache %s (batch %lld, context %lld, %s) + "
            "activations %s\nrecommended: %s\n",
            a, (long long)e->batch, (long long)e->context, caches[e->kv].name, b, sentence);
}

static void say_fit(const cli *c, const estimate *e, char *sentence, size_t bytes)
{
    char a[32], b[32];
    format_size(e->memory, a);
    format_size((int64_t)e->totals[e->pick >= 0 ? e->pick : N_PRECISIONS - 1], b);
    if (e->pick >= 0)
        snprintf(sentence, bytes, "%s: %s in all, of %s %s", precisions[e->pick].name, b, a,
                 cli_given(c, "max-vram") ? "allowed" : "available on this machine");
    else
        snprintf(sentence, bytes, "does not fit %s even at 2 bits, which needs %s", a, b);
}

/* Four digits, and all of them where there are more before the point. */
static const char *millions(double n, char text[32])
{
    snprintf(text, 32, n < 1e9 ? "%.4g" : "%.0f", n / 1e6);
    return text;
}

static sqz_status run(cli *c, sqz_error *err)
{
    model_config m;
    known_model known;
    estimate e = {0};
    char sentence[256];
    sqz_status s = read_config(c->args[0], &m, &known, err);
    if (!s) {
        compute(c, &m, &e);
        say_fit(c, &e, sentence, sizeof sentence);
        char all[32], linears[32];
        cli_say(c,
                "%s, %s: %s M parameters, %s M of them in the linears of %lld blocks "
                "(an estimate, nothing was loaded)\n\n",
                known.config ? known.name : c->args[0], m.architecture, millions(e.parameters, all),
                millions(e.linears, linears), (long long)m.layers);
        say_table(c, &e, sentence);
        add_json(c, &e, sentence);
        if (known.config) {
            cJSON_AddStringToObject(c->json, "known_model", known.name);
            if (known.parameters > 0)
                cJSON_AddNumberToObject(c->json, "published_parameters", known.parameters);
        }
        s = recommend(c, &e, err);
        model_config_free(&m);
    }
    free(known.config);
    return s;
}

const command cmd_estimate = {
    .name = "estimate",
    .arguments = "MODEL|NAME",
    .min_args = 1,
    .max_args = 1,
    .summary = "memory and hardware at each precision, from the shape alone",
    .details =
        "Nothing is loaded; a folder with only config.json will do, and so will the name of a "
        "well-known model (share/sqz/configs/models.json, your own in "
        "~/.config/sqz/models.json). Hardware and strategy come from recommendations.json "
        "beside it. Quantized sizes are those "
        "of group 128 in the blocks' linears, the rest in 16 bits.",
    .examples = "  sqz estimate examples/tiny-arith/model\n"
                "  sqz estimate llama-2-7b --kv fp16 --device gpu\n"
                "  sqz estimate Qwen/Qwen2.5-7B --context 32768 --batch 4 --max-vram 24GB\n",
    OPTIONS(options),
    .run = run};
