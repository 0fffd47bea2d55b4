/* predict.c - size, memory and time of a trial before it runs.
 *
 * Size is nearly exact (shapes and bits are known); memory is an upper estimate of the formulas
 * below; time is a rough figure from floating-point operations, corrected by the measured baseline.
 */
#include "coordinator/state.h"
#include "io/file.h"
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Sustained products per second and thread in float32, low end of current CPUs. */
static const double FLOPS_PER_THREAD = 2.5e10;
static const double PROCESS_BYTES = 96e6; /* libraries, buffers of the process itself */
/* What each thread of the pool holds besides: the touched part of its stack, an arena, and the
 * panels that products are packed into. */
static const double THREAD_BYTES = 6e6;
static const double BATCH_TOKENS = 2048;

static double param_of(const cJSON *with, const char *name, double fallback)
{
    return json_num(with, name, fallback);
}

/* Parameters of one module after the step's rules; NULL = skipped. */
static const cJSON *rule_for(const cJSON *step, const char *module, const char *role, int *skip)
{
    const cJSON *rule, *with = NULL;
    *skip = 0;
    cJSON_ArrayForEach(rule, json_get(step, "rules"))
    {
        const char *match = json_str(rule, "match", "");
        if (fnmatch(match, module, 0) != 0 && fnmatch(match, role, 0) != 0) continue;
        *skip = json_bool(rule, "skip", 0);
        with = json_get(rule, "with");
    }
    return with;
}

/* Packed codes, half-precision scales, zeros at the code's width. */
static double packed_bytes(const cJSON *step, const char *module, const char *role, double rows,
                           double cols, double dense)
{
    int skip;
    const cJSON *with = json_get(step, "with"), *over = rule_for(step, module, role, &skip);
    double bits = param_of(over, "bits", param_of(with, "bits", NAN));
    double group = param_of(over, "group_size", param_of(with, "group_size", cols));
    if (skip || !isfinite(bits)) return dense;
    if (group <= 0 || group > cols) group = cols;
    double groups = ceil(cols / group);
    return rows * cols * bits / 8 + rows * groups * (2 + bits / 8) + 4 * cols;
}

static double strategy_bytes(const model_config *m, const cJSON *spec, const cJSON *steps)
{
    double total = spec_num(spec, "weight_bytes", 0),
           in_blocks = spec_num(spec, "block_parameters", 0);
    double all = spec_num(spec, "parameters", 1), width = total / all;
    const cJSON *step = cJSON_GetArrayItem(steps, cJSON_GetArraySize(steps) - 1);
    if (!step) return total;
    if (!m) /* only a name is known: blocks shrink as one large matrix would */
        return total - width * in_blocks +
               packed_bytes(step, "", "", in_blocks / 4096, 4096, width * in_blocks);
    for (int64_t l = 0; l < m->layers; l++)
        for (int64_t k = 0, n = model_linear_count(m, l); k < n; k++) {
            linear_spec one;
            model_linear(m, l, k, &one);
            double rows = (double)one.rows, cols = (double)one.cols;
            double dense = width * rows * cols;
            total += packed_bytes(step, one.module, one.role, rows, cols, dense) - dense;
        }
    return total;
}

/* Tokens of the evaluations: a token is about four bytes of the file, and rows are about equal. */
static double eval_tokens(const config *c, double context)
{
    double tokens = 0;
    for (int i = 0; i < c->n_datasets; i++) {
        const config_dataset *d = &c->datasets[i];
        const char *equals = strchr(d->source, '=');
        struct stat st;
        if (stat(d->source, &st) != 0 && (!equals || stat(equals + 1, &st) != 0)) continue;
        double all = (double)st.st_size / 4;
        double limit = (double)(d->limit ? d->limit : json_int(c->full_eval, "limit", 0));
        double window = d->window ? (double)d->window : c->window ? (double)c->window : context;
        tokens += limit > 0 ? fmin(all, limit * fmin(window, 512)) : all;
    }
    return tokens;
}

static double process_bytes(const cJSON *spec)
{
    return PROCESS_BYTES + THREAD_BYTES * spec_num(spec, "threads", 1);
}

/* Weights at the width of computing, logits of one batch, a few activations, the KV cache of a
 * batch. */
static double eval_memory(const model_config *m, const cJSON *spec)
{
    double parameters = spec_num(spec, "parameters", 0);
    double vocab = m ? (double)m->vocab : 32000, hidden = m ? (double)m->hidden : 4096;
    double width = strcmp(spec_str(spec, "compute", "auto"), "bf16") ? 4 : 2;
    return process_bytes(spec) + width * parameters + 4 * vocab * 512 +
           4 * BATCH_TOKENS * hidden * 12;
}

/* A method works on one linear at a time: its weights, their errors and codes, the second moments
 * and their factor, in float32; each thread holds a few rows of it. */
static double scratch_bytes(const cJSON *spec, double hidden, double ffn)
{
    double largest = hidden * ffn, widest = fmax(hidden, ffn);
    return 3 * 4 * largest + 2 * 4 * widest * widest +
           spec_num(spec, "threads", 1) * 8 * 4 * widest;
}

/* A few blocks in float32, the statistics of one block twice, the calibration's hidden states. */
static double steps_memory(const model_config *m, const cJSON *spec)
{
    double hidden = m ? (double)m->hidden : 4096, ffn = m ? (double)m->ffn : 4 * hidden;
    double layers = m ? (double)m->layers : 32;
    double block = spec_num(spec, "block_parameters", 0) / layers;
    double tokens =
        spec_num(spec, "calibration_samples", 128) * spec_num(spec, "calibration_seq_len", 2048);
    return process_bytes(spec) + scratch_bytes(spec, hidden, ffn) + 3 * 4 * block +
           4 * (3 * hidden * hidden + 2 * ffn * ffn) + 4 * tokens * hidden;
}

/* The largest calibration that fits; 16-bit products where those would make the evaluation fit. */
char *room_advice(const model_config *m, const cJSON *spec, double limit)
{
    double hidden = m ? (double)m->hidden : 4096;
    double samples = spec_num(spec, "calibration_samples", 128);
    double sample_bytes = 4 * spec_num(spec, "calibration_seq_len", 2048) * hidden;
    double over_steps = steps_memory(m, spec) - limit, over_eval = eval_memory(m, spec) - limit;
    double narrow = 2 * spec_num(spec, "parameters", 0);
    double fewer = floor(samples - over_steps / sample_bytes);
    int wide = strcmp(spec_str(spec, "compute", "auto"), "bf16") != 0;
    if (over_eval > 0 && wide && over_eval <= narrow && over_steps <= 0)
        return path_format("; hardware.compute=bf16 would fit");
    if (over_eval > 0)
        return path_format("; the model itself needs %.2f GB to be evaluated here",
                           eval_memory(m, spec) / 1e9);
    if (over_steps > 0 && fewer >= 1)
        return path_format("; calibration.samples=%.0f would fit", fewer);
    if (over_steps > 0) return path_format("; a method without calibration may fit");
    return path_format("%s", "");
}

static double rate(const cJSON *spec)
{
    return FLOPS_PER_THREAD * spec_num(spec, "threads", 1);
}

prediction predict_baseline(const model_config *m, const cJSON *spec, const config *c)
{
    double parameters = spec_num(spec, "parameters", 0), context = spec_num(spec, "context", 2048);
    double tokens = eval_tokens(c, context) + (double)json_int(c->proxy, "kl_tokens", 0);
    return (prediction){spec_num(spec, "weight_bytes", 0), eval_memory(m, spec),
                        1 + 2 * parameters * tokens / rate(spec)};
}

prediction predict_trial(const model_config *m, const cJSON *spec, const config *c,
                         const cJSON *steps)
{
    prediction p = predict_baseline(m, spec, c);
    double blocks = spec_num(spec, "block_parameters", 0), hidden = m ? (double)m->hidden : 4096;
    double steps_bytes = steps_memory(m, spec);
    p.bytes = strategy_bytes(m, spec, steps);
    if (steps_bytes > p.memory_bytes) p.memory_bytes = steps_bytes;
    /* Error feedback along a row touches each weight once a column: rows x cols x cols. */
    p.seconds += 2 * blocks * hidden / rate(spec) * (double)cJSON_GetArraySize(steps);
    return p;
}
