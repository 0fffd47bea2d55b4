/* spec.c - infer_spec; see spec.h.
 *
 * Rules, in this order for every value: what the configuration says; what config.json or the rows
 * of a file say; what the name says; a conservative default.  Conservative: an unknown model counts
 * as eight billion parameters, so that plans err on the large side. */
#include "coordinator/spec.h"
#include "tracker/tracking.h"
#include "data/data.h"
#include "data/folder.h"
#include "host/source.h"
#include "io/file.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double UNKNOWN_PARAMETERS = 8e9;

typedef struct builder {
    const config *config;
    const catalogue *catalogue;
    const spec_machine *machine;
    sources *data; /* or NULL */
    cJSON *spec;
    int has_config; /* the model's config.json was read */
    model_config model;
    sqz_error *err;
} builder;

/* ---- the object ------------------------------------------------------------------------------ */

static void add(builder *b, const char *key, cJSON *value, const char *origin)
{
    cJSON *entry = cJSON_AddObjectToObject(b->spec, key);
    cJSON_AddItemToObject(entry, "value", value ? value : cJSON_CreateNull());
    cJSON_AddStringToObject(entry, "origin", origin);
}

static void add_num(builder *b, const char *key, double x, const char *origin)
{
    add(b, key, isfinite(x) ? cJSON_CreateNumber(x) : NULL, origin);
}

static void add_str(builder *b, const char *key, const char *text, const char *origin)
{
    add(b, key, text ? cJSON_CreateString(text) : NULL, origin);
}

const cJSON *spec_value(const cJSON *spec, const char *key)
{
    const cJSON *v = json_get(json_get(spec, key), "value");
    return v && !cJSON_IsNull(v) ? v : NULL;
}

double spec_num(const cJSON *spec, const char *key, double fallback)
{
    const cJSON *v = spec_value(spec, key);
    return cJSON_IsNumber(v) ? v->valuedouble : fallback;
}

const char *spec_str(const cJSON *spec, const char *key, const char *fallback)
{
    const cJSON *v = spec_value(spec, key);
    return cJSON_IsString(v) ? v->valuestring : fallback;
}

/* The configuration's number with its place, or the fallback with its reason. */
static void add_given(builder *b, const char *key, const char *path, double given, double fallback,
                      const char *reason)
{
    if (!isfinite(given)) {
        add_num(b, key, fallback, reason);
        return;
    }
    char *origin = config_origin(b->config, path);
    add_num(b, key, given, origin);
    free(origin);
}

/* ---- the machine ------------------------------------------------------------------------------
 */

static int64_t read_number_file(const char *path)
{
    char text[64] = "";
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    return strtoll(text, NULL, 10); /* "max" reads as 0: no limit */
}

static int64_t available_memory(void)
{
    char line[256];
    long long kb = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld", &kb) == 1) break;
    if (f) fclose(f);
    int64_t available = kb * 1024, limit = read_number_file("/sys/fs/cgroup/memory.max");
    int64_t used = read_number_file("/sys/fs/cgroup/memory.current");
    if (limit > 0 && limit - used < available) available = limit - used;
    return available > 0 ? available : 0;
}

void spec_detect(spec_machine *m)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    *m = (spec_machine){available_memory(), 0, n > 0 ? (int)n : 1};
}

/* ---- the model --------------------------------------------------------------------------------
 */

sqz_status spec_model_config(const char *dir, model_config *out, sqz_error *err)
{
    char *path = path_format("%s/config.json", dir), *text = NULL;
    int64_t bytes;
    sqz_status s = gguf_is_path(dir) && !path_exists(dir)
                       ? SQZ_OK
                       : checkpoint_text(dir, "config.json", 16 << 20, &text, &bytes, err);
    if (!s && !text) s = err_set(err, SQZ_E_UNSUPPORTED, "%s: holds no config.json", dir);
    if (!s) s = model_config_parse(text, path, out, err);
    free(text);
    free(path);
    return s;
}

static const char *dtype_word(int32_t dtype)
{
    return dtype == SQZ_BF16 ? "bf16" : dtype == SQZ_F16 ? "fp16" : "fp32";
}

static void model_by_config(builder *b)
{
    const model_config *m = &b->model;
    int64_t in_blocks = 0, all = model_parameters(m, &in_blocks);
    double width = m->dtype == SQZ_F32 ? 4 : 2;
    add_num(b, "parameters", (double)all, "config.json");
    add_num(b, "block_parameters", (double)in_blocks, "config.json");
    add_str(b, "architecture", m->architecture, "config.json");
    add_num(b, "context", (double)m->context, "config.json");
    add_str(b, "dtype", dtype_word(m->dtype), "config.json");
    add_num(b, "weight_bytes", width * (double)all, "parameters and dtype of config.json");
    add_num(b, "memory_fp16_bytes", spec_fp16_bytes((double)all), "2.3 bytes a parameter");
}

static void model_by_name(builder *b)
{
    const char *name = b->config->model, *family = spec_name_family(name);
    double n = spec_name_parameters(name);
    const char *origin =
        n > 0 ? "the model's name" : "unknown name: counted as 8 billion parameters";
    if (n <= 0) n = UNKNOWN_PARAMETERS;
    add_num(b, "parameters", n, origin);
    /* Embeddings and norms are 2 to 25 % of real models; a tenth is typical from 1 B on. */
    add_num(b, "block_parameters", 0.9 * n, "nine tenths of the parameters");
    add_str(b, "architecture", family, family ? "the model's name" : "unknown name");
    add_num(b, "context", 2048, "default without config.json");
    add_str(b, "dtype", "bf16", "default without config.json");
    add_num(b, "weight_bytes", 2 * n, "two bytes a parameter");
    add_num(b, "memory_fp16_bytes", spec_fp16_bytes(n), "2.3 bytes a parameter");
}

static sqz_status infer_model(builder *b)
{
    sqz_error local = {0};
    sqz_status s = spec_model_config(b->config->model, &b->model, &local);
    if (s == SQZ_OK) {
        b->has_config = 1;
        if (b->model.quant_method[0])
            return err_set(b->err, ERR_MODEL,
                           "%s: is already quantized (%s); start from the original checkpoint",
                           b->config->model, b->model.quant_method);
        model_by_config(b);
        return SQZ_OK;
    }
    if (s != SQZ_E_UNSUPPORTED) { /* a config.json that cannot be used is never guessed around */
        if (b->err) *b->err = local;
        return s;
    }
    if (b->config->model[0] == '/' ||
        b->config->model[0] == '.') /* a path, so no name to guess by */
        return err_set(b->err, ERR_MODEL, "%s: no model folder (it holds no config.json)",
                       b->config->model);
    model_by_name(b);
    return SQZ_OK;
}

/* ---- the data ---------------------------------------------------------------------------------
 */

/* What the rows say; NULL when there is no such file. */
static sqz_status metric_by_rows(builder *b, const char **metric)
{
    dataset *d = NULL;
    sqz_status s = b->data ? sources_dataset(b->data, b->config, 0, b->err) : SQZ_OK;
    if (s) return s;
    const char *source = sources_dataset_spec(b->data, b->config, 0);
    char *path = dataset_path(source);
    *metric = NULL;
    if (!path) return SQZ_OK;
    free(path);
    s = dataset_open(source, &d, b->err);
    if (s) return s;
    *metric = d->kind == DATA_TEXT       ? "perplexity"
              : d->kind == DATA_GENERATE ? "exact_match"
              : d->kind == DATA_CHOICE   ? "accuracy"
                                         : NULL;
    dataset_close(d);
    return SQZ_OK;
}

/* A path, so no name of a data set to guess by. */
static int is_path(const char *source)
{
    static const char *const endings[] = {".jsonl", ".json",    ".csv", ".tsv",
                                          ".txt",   ".parquet", ".gz",  ".zst"};
    const char *equals = strchr(source, '=');
    if (equals) source = equals + 1;
    size_t n = strlen(source);
    int is = *source == '/' || *source == '.' || *source == '~';
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i]);
        is |= n > k && !strcmp(source + n - k, endings[i]);
    }
    return is;
}

static sqz_status check_there(builder *b, const char *source, int is_read)
{
    char *path = dataset_path(source);
    int missing = !path && !is_read && is_path(source);
    free(path);
    return missing ? err_set(b->err, ERR_MODEL, "data set \"%s\": no such file or folder", source)
                   : SQZ_OK;
}

static sqz_status infer_data(builder *b)
{
    const config *c = b->config;
    const char *goal = spec_dataset_goal(c->datasets[0].name), *metric;
    sqz_status s = SQZ_OK;
    for (int i = 0; i < c->n_datasets && !s; i++)
        s = check_there(b, c->datasets[i].source, c->datasets[i].reader != NULL);
    if (!s && c->calibration && !strpbrk(c->calibration, ",@"))
        s = check_there(b, c->calibration, c->calibration_reader != NULL);
    if (!s) s = metric_by_rows(b, &metric);
    if (s) return s;
    if (!strcmp(goal, "unknown") && metric) {
        goal = strcmp(metric, "perplexity") ? "reasoning" : "language";
        add_str(b, "goal", goal, "the rows of the primary data set");
    } else {
        add_str(b, "goal", goal, "the name of the primary data set");
    }
    if (metric)
        add_str(b, "metric", metric, "the rows of the primary data set");
    else
        add_str(b, "metric", strcmp(goal, "language") ? "accuracy" : "perplexity",
                "the name of the primary data set");
    cJSON *objectives = cJSON_CreateArray();
    for (int i = 0; i < b->config->n_objectives; i++)
        cJSON_AddItemToArray(objectives, cJSON_CreateString(b->config->objectives[i]));
    char *origin = config_origin(b->config, "objectives");
    if (!strcmp(origin, "default") && !strcmp(goal, "chat")) {
        cJSON_AddItemToArray(objectives, cJSON_CreateString("tpot"));
        add(b, "objectives", objectives, "default, and latency because the data is chat");
    } else {
        add(b, "objectives", objectives, origin);
    }
    free(origin);
    return SQZ_OK;
}

/* The training rows of a folder that is evaluated on another split; NULL = none. */
static char *find_split(const char *source, const char *path)
{
    data_folder f;
    char *spec = NULL;
    dataset *evaluated = NULL;
    if (folder_scan(path, &f, NULL)) return NULL;
    if (!dataset_open_with(source, &(dataset_options){.max_rows = 1}, &evaluated, NULL)) {
        const data_split *s = folder_calibration(&f, evaluated->config);
        if (s && evaluated->split && strcmp(s->name, evaluated->split) != 0)
            spec = path_format("%s:%s:%s", path, s->config, s->name);
    }
    dataset_close(evaluated);
    folder_free(&f);
    return spec;
}

static int is_evaluated(const config *c, const char *path)
{
    int used = 0;
    for (int i = 0; i < c->n_datasets && !used; i++) {
        char *other = dataset_path(c->datasets[i].source);
        used = other && !strcmp(other, path);
        free(other);
    }
    return used;
}

/* A file that sqz or a data plugin reads. */
static int is_data_file(const catalogue *c, const char *file)
{
    const agent_info *reader[1];
    char *name = source_name(file);
    int readable = format_of(file) != FORMAT_NONE || source_readers(c, name, reader, 1);
    free(name);
    return readable;
}

/* A file beside `file` that is meant for calibration; NULL = none.  In order of names: calib*,
 * valid*, *train*. */
static char *find_beside(const config *c, const catalogue *cat, const char *file)
{
    static const char *const words[] = {"calib", "valid", "train"};
    const char *slash = strrchr(file, '/');
    char *dir = slash ? path_format("%.*s", (int)(slash - file), file) : path_format(".");
    char *best = NULL;
    int best_rank = 3;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_data_file(cat, e->d_name)) continue;
        int rank = 0;
        while (rank < 3 && !(rank < 2 ? !strncmp(e->d_name, words[rank], strlen(words[rank]))
                                      : strstr(e->d_name, words[rank]) != NULL))
            rank++;
        char *full = path_format("%s/%s", dir, e->d_name);
        const char *best_name = best ? strrchr(best, '/') + 1 : "";
        if (rank < 3 && !is_evaluated(c, full) &&
            (rank < best_rank || (rank == best_rank && strcmp(e->d_name, best_name) < 0))) {
            free(best);
            best = full;
            best_rank = rank;
        } else {
            free(full);
        }
    }
    if (d) closedir(d);
    free(dir);
    return best;
}

static char *find_calibration(const config *c, const catalogue *cat)
{
    char *path = dataset_path(c->datasets[0].source);
    char *found = !path               ? NULL
                  : path_is_dir(path) ? find_split(c->datasets[0].source, path)
                                      : find_beside(c, cat, path);
    free(path);
    return found;
}

static void infer_calibration(builder *b)
{
    const config *c = b->config;
    if (c->calibration) {
        char *origin = config_origin(c, "calibration.source");
        add_str(b, "calibration", c->calibration, origin);
        free(origin);
    } else {
        char *found = find_calibration(c, b->catalogue);
        add_str(b, "calibration", found,
                found ? "beside the primary data set"
                      : "no calib*, valid* or *train* file beside the primary data set");
        free(found);
    }
    double context = spec_num(b->spec, "context", 2048);
    double seq = context < 2048 ? context : 2048;
    add_given(b, "calibration_seq_len", "calibration.seq_len",
              c->calibration_seq_len ? (double)c->calibration_seq_len : NAN, seq,
              "min(2048, the model's context)");
    seq = spec_num(b->spec, "calibration_seq_len", seq);
    double samples = floor(262144 / seq);
    samples = samples < 128 ? 128 : samples > 1024 ? 1024 : samples;
    if (c->calibration_tokens) { /* the job counts tokens; these are for the predictions */
        samples = floor((double)c->calibration_tokens / seq);
        add_given(b, "calibration_samples", "calibration.tokens", samples < 1 ? 1 : samples, 1, "");
        return;
    }
    add_given(b, "calibration_samples", "calibration.samples",
              c->calibration_samples ? (double)c->calibration_samples : NAN, samples,
              "about 262,144 tokens, 128 to 1024 windows");
}

/* ---- methods ----------------------------------------------------------------------------------
 */

/* Why a method cannot take part, or NULL.  Facts of the catalogue only. */
static const char *method_refusal(const builder *b, const agent_info *a)
{
    const cJSON *steps = json_get(a->extensions, "sqz.method.steps/1");
    if (!steps) return "works on whole models, which this version does not run";
    if (json_int(steps, "granularity", 0) != 1)
        return "asks for a granularity this version does not run";
    if (strcmp(json_str(steps, "form", ""), SQZ_FORM_INT_AFFINE) != 0)
        return "makes a form this version cannot run";
    if (json_int(steps, "statistics", 0) != 0 && !spec_str(b->spec, "calibration", NULL))
        return "needs calibration data and there is none";
    return NULL;
}

/* Methods that look at activations come before those that do not; then by rank, then by id. */
static int method_before(const agent_info *a, const agent_info *b)
{
    int sa = json_int(json_get(a->extensions, "sqz.method.steps/1"), "statistics", 0) != 0;
    int sb = json_int(json_get(b->extensions, "sqz.method.steps/1"), "statistics", 0) != 0;
    if (sa != sb) return sa > sb;
    if (a->rank != b->rank) return a->rank > b->rank;
    return strcmp(a->id, b->id) < 0;
}

static sqz_status infer_methods(builder *b)
{
    const agent_info *list[64];
    int n = 0;
    cJSON *left_out = cJSON_CreateObject();
    for (int i = 0; i < catalogue_count(b->catalogue); i++) {
        const agent_info *a = catalogue_at(b->catalogue, i);
        if (strcmp(a->kind, "method/1") != 0 || a->shadowed) continue;
        const char *why = method_refusal(b, a);
        if (why || n == 64) {
            cJSON_AddStringToObject(left_out, a->id, why ? why : "more than 64 methods");
            continue;
        }
        int k = n++;
        for (; k > 0 && method_before(a, list[k - 1]); k--) list[k] = list[k - 1];
        list[k] = a;
    }
    cJSON *ids = cJSON_CreateArray();
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(ids, cJSON_CreateString(list[i]->id));
    add(b, "methods", ids, "catalogue: per-linear methods, those that use activations first");
    add_str(b, "preferred_method", n ? list[0]->id : NULL, "the first of methods");
    add(b, "methods_left_out", left_out, "catalogue");
    add_str(
        b, "recovery", "skipped",
        "fine-tuning and distillation are not built in this version, so no recovery step is added "
        "when the accuracy drop passes its threshold");
    return SQZ_OK;
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void infer_limits(builder *b)
{
    const config *c = b->config;
    const spec_machine *m = b->machine;
    add_given(b, "max_accuracy_drop", "constraints.max_accuracy_drop", c->max_accuracy_drop, 0.02,
              "default");
    add_given(b, "max_vram", "constraints.max_vram", c->max_vram,
              m->vram_bytes > 0 ? (double)m->vram_bytes : NAN,
              m->vram_bytes > 0 ? "detected" : "no accelerator detected: unset");
    double limit = json_num(json_get(c->full, "hardware"), "memory", NAN);
    add_given(b, "memory_limit", "hardware.memory", limit, floor(0.9 * (double)m->memory_bytes),
              "nine tenths of the memory available now");
    add_given(b, "threads", "hardware.threads", c->threads ? (double)c->threads : NAN, m->threads,
              "detected");
    char *origin = config_origin(c, "hardware.compute");
    add_str(b, "compute", c->compute, origin);
    free(origin);
    int open_ended = !c->budget_trials && isnan(c->budget_wall_s);
    add_given(b, "budget_trials", "budget.trials",
              c->budget_trials ? (double)c->budget_trials : NAN, open_ended ? 32 : NAN,
              open_ended ? "default without any budget" : "unset");
    add_given(b, "budget_wall", "budget.wall", c->budget_wall_s, NAN, "unset");
}

static sqz_status refuse_unbuilt(const builder *b)
{
    const cJSON *f = b->config->full;
    const char *target = json_str(f, "target", "local");
    if (strcmp(target, "local") != 0)
        return err_set(b->err, ERR_USAGE,
                       "target \"%s\": the catalogue of targets is not built; only \"local\" is",
                       target);
    if (cJSON_IsNumber(json_get(json_get(f, "budget"), "gpu_hours")))
        return err_set(b->err, ERR_USAGE,
                       "budget.gpu_hours: no GPU backend is built; use budget.wall");
    if (cJSON_GetArraySize(json_get(f, "export")) > 1)
        return err_set(b->err, ERR_USAGE, "export: one format per run is built, %d are given",
                       cJSON_GetArraySize(json_get(f, "export")));
    return tracking_check(b->config->tracker, b->catalogue, b->err);
}

sqz_status infer_spec(const config *c, const catalogue *cat, const spec_machine *machine,
                      sources *data, cJSON **spec, sqz_error *err)
{
    builder b = {c, cat, machine, data, cJSON_CreateObject(), 0, {0}, err};
    sqz_status s = refuse_unbuilt(&b);
    if (!s) s = infer_model(&b);
    if (!s) s = infer_data(&b);
    if (!s) {
        infer_calibration(&b);
        infer_limits(&b);
        s = infer_methods(&b);
    }
    if (b.has_config) model_config_free(&b.model);
    if (s)
        cJSON_Delete(b.spec);
    else
        *spec = b.spec;
    return s;
}
