/* task_bench.c - speed, memory and energy of the current artifact on this machine.
 *
 * {"task":"bench","prompt_tokens","new_tokens","batch","repeats"}: every repeat generates
 * new_tokens after a prompt of prompt_tokens random ids (seeded; speed does not depend on which).
 * Time to first token (TTFT) and time per further token (TPOT) are measured apart, on the packed
 * weights that would be exported. What decode reads is told as a share of what memory gives in the
 * same seconds. Peak memory is VmHWM of this process, reset just before the model is opened. Energy
 * comes from the RAPL counters where the kernel lets us read them, and is otherwise an estimate,
 * labelled so: seconds x threads x ESTIMATE_WATTS_PER_THREAD. */
#include "worker/tasks.h"
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A busy server core with its share of the package; only used where nothing can be measured. */
static const double ESTIMATE_WATTS_PER_THREAD = 6.0;

/* ---- this process's memory
 * --------------------------------------------------------------------------- */

static int64_t status_kb(const char *key)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long long kb = 0;
    size_t n = strlen(key);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') kb = strtoll(line + n + 1, NULL, 10);
    if (f) fclose(f);
    return kb;
}

/* Start VmHWM anew from what is resident now. */
static void reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}

/* ---- energy
 * -------------------------------------------------------------------------------------------- */

/* Sum of the package counters in microjoules, or -1 where they cannot be read. */
static double rapl_uj(void)
{
    double sum = -1;
    for (int i = 0; i < 16; i++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/energy_uj", i);
        FILE *f = fopen(path, "re");
        double uj;
        if (!f) continue;
        if (fscanf(f, "%lf", &uj) == 1) sum = (sum < 0 ? 0 : sum) + uj;
        fclose(f);
    }
    return sum;
}

static void add_energy(cJSON *result, double uj, double seconds, double tokens, int threads)
{
    int measured = uj > 0; /* a wrapped counter is no measurement */
    double joules = measured ? uj * 1e-6 : seconds * threads * ESTIMATE_WATTS_PER_THREAD;
    json_add_num(result, "energy_j_per_1k_tokens", 1000.0 * joules / tokens);
    cJSON_AddStringToObject(result, "energy_origin", measured ? "measured" : "estimate");
    if (!measured)
        cJSON_AddStringToObject(result, "energy_method",
                                "decode seconds x threads x 6 W; no RAPL counters here");
}

/* ---- measurement
 * --------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_spread(cJSON *result, const char *key, double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    cJSON *o = cJSON_AddObjectToObject(result, key);
    json_add_num(o, "median", n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]));
    json_add_num(o, "min", v[0]);
    json_add_num(o, "max", v[n - 1]);
}

typedef struct plan {
    int64_t prompt, new_tokens, batch;
    int repeats;
} plan;

static sqz_status make_plan(const cJSON *task, const model_config *c, plan *p, sqz_error *err)
{
    p->new_tokens = json_int(task, "new_tokens", 128);
    p->batch = json_int(task, "batch", 1);
    p->repeats = (int)json_int(task, "repeats", 5);
    if (p->new_tokens >= c->context) p->new_tokens = c->context / 2;
    int64_t left = c->context - p->new_tokens;
    p->prompt = json_int(task, "prompt_tokens", left < 512 ? left : 512);
    if (p->prompt < 1 || p->new_tokens < 2 || p->batch < 1 || p->batch > 64 || p->repeats < 1 ||
        p->repeats > 1000)
        return err_set(err, ERR_USAGE,
                       "bench: prompt_tokens must be at least 1, new_tokens at least 2, batch 1 to "
                       "64, repeats 1 to 1000");
    if (p->prompt + p->new_tokens > c->context)
        return err_set(err, ERR_USAGE,
                       "bench: %lld prompt and %lld new tokens exceed the model's context of %lld",
                       (long long)p->prompt, (long long)p->new_tokens, (long long)c->context);
    return SQZ_OK;
}

typedef struct timings {
    double *ttft, *tpot, *prefill, *decode; /* [repeats] */
    double *reads, *share; /* [repeats] bytes/s of memory beside it, and what decode took of them */
    int64_t peak_kb;
    double decode_s, uj; /* of all repeats */
} timings;

static sqz_status repeat_once(model *m, const plan *p, const int32_t *prompt, int32_t *out,
                              generate_times *t, sqz_error *err)
{
    sqz_generation g[64];
    sampling greedy = {.top_p = 1};
    for (int64_t b = 0; b < p->batch; b++)
        g[b] = (sqz_generation){.prompt = prompt + b * p->prompt,
                                .n_prompt = p->prompt,
                                .ids = out + b * p->new_tokens};
    return model_generate(m, g, p->batch, p->new_tokens, &greedy, 1, NULL, NULL, t, err);
}

static void note_peak(timings *t)
{
    int64_t kb = status_kb("VmHWM");
    if (kb > t->peak_kb) t->peak_kb = kb;
}

/* What memory gives moves from second to second, so it is measured right before and after each
 * repeat; 0 where the backend cannot tell quickly.  The memory that this takes is no part of the
 * peak. */
static double reads_now(job_state *s, timings *t)
{
    const sqz_hardware *hw = &s->backend.table;
    double rate = 0;
    if (!(hw->features & SQZ_HARDWARE_READS)) return 0;
    note_peak(t);
    sqz_status st = hw->measure(s->backend.device.dev, &rate, NULL, NULL);
    reset_peak();
    return st == SQZ_OK ? rate : 0;
}

static sqz_status measure(job_state *s, model *m, const plan *p, timings *t, sqz_error *err)
{
    int64_t n = p->batch * p->prompt, vocab = model_get_config(m)->vocab;
    int32_t *prompt = malloc((size_t)n * sizeof *prompt),
            *out = malloc((size_t)(p->batch * p->new_tokens) * sizeof *out);
    if (!prompt || !out) {
        free(prompt);
        free(out);
        return err_set(err, SQZ_E_NOMEM, "no memory for prompts of %lld tokens", (long long)n);
    }
    uint64_t x = 0x9e3779b97f4a7c15ull;
    for (int64_t i = 0; i < n; i++) { /* a fixed linear congruential stream */
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        prompt[i] = (int32_t)((x >> 33) % (uint64_t)vocab);
    }
    generate_times warm;
    sqz_status st = repeat_once(m, p, prompt, out, &warm, err);
    double bytes = st ? 0 : (double)model_weight_bytes(m), before = st ? 0 : reads_now(s, t);
    for (int i = 0; i < p->repeats && !st; i++) {
        generate_times g;
        double uj = rapl_uj();
        if (job_tick(s, (double)i / p->repeats, "measuring speed"))
            st = err_set(err, SQZ_E_CANCELLED, "cancelled");
        else
            st = repeat_once(m, p, prompt, out, &g, err);
        if (st) break;
        t->ttft[i] = g.ttft_s;
        t->tpot[i] = g.tpot_s;
        t->prefill[i] = (double)n / g.ttft_s;
        t->decode[i] = (double)p->batch / g.tpot_s;
        t->decode_s += g.tpot_s * (double)(p->new_tokens - 1);
        t->uj += uj < 0 ? 0 : rapl_uj() - uj;
        double after = reads_now(s, t);
        t->reads[i] = 0.5 * (before + after);
        t->share[i] = before > 0 && after > 0 ? bytes / g.tpot_s / t->reads[i] : 0;
        before = after;
    }
    note_peak(t);
    free(prompt);
    free(out);
    return st;
}

static void add_bandwidth(job_state *s, model *m, const plan *p, timings *t, cJSON *result)
{
    double bandwidth = 0, f32 = 0, bf16 = 0, tpot = t->tpot[p->repeats / 2];
    double bytes = (double)model_weight_bytes(m), share;
    int known = t->share[0] > 0; /* beside every repeat */
    s->backend.table.measure(s->backend.device.dev, known ? NULL : &bandwidth, &f32, &bf16);
    share = bandwidth > 0 ? bytes / tpot / bandwidth : 0;
    qsort(t->reads, (size_t)p->repeats, sizeof *t->reads, by_value);
    qsort(t->share, (size_t)p->repeats, sizeof *t->share, by_value);
    if (known) {
        bandwidth = t->reads[p->repeats / 2];
        share = t->share[p->repeats / 2];
    }
    json_add_num(result, "weight_bytes_read_per_token", bytes);
    json_add_num(result, "read_bandwidth_bytes_per_second", bandwidth);
    if (share > 0 && p->batch == 1) json_add_num(result, "bandwidth_fraction", share);
    json_add_num(result, "f32_flops", f32);
    if (bf16 > 0) json_add_num(result, "bf16_flops", bf16);
}

sqz_status task_bench(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    subject *subj;
    model *m;
    plan p;
    malloc_trim(0);
    reset_peak();
    int64_t floor_kb = status_kb("VmRSS");
    sqz_status st = job_subject(s, 1, 1, &subj, err);
    if (st) return st;
    st = make_plan(task, &subj->config, &p, err);
    if (!st) st = subject_model(subj, &m, err);
    double *room = st ? NULL : calloc((size_t)p.repeats * 6 + 6, sizeof *room);
    if (!st && !room) st = err_set(err, SQZ_E_NOMEM, "no memory for %d timings", (int)p.repeats);
    if (st) {
        subject_close(subj);
        return st;
    }
    timings t = {.ttft = room,
                 .tpot = room + p.repeats,
                 .prefill = room + 2 * p.repeats,
                 .decode = room + 3 * p.repeats,
                 .reads = room + 4 * p.repeats,
                 .share = room + 5 * p.repeats};
    st = measure(s, m, &p, &t, err);
    if (!st) {
        add_spread(result, "ttft_seconds", t.ttft, p.repeats);
        add_spread(result, "tpot_seconds", t.tpot, p.repeats);
        add_spread(result, "prefill_tokens_per_second", t.prefill, p.repeats);
        add_spread(result, "decode_tokens_per_second", t.decode, p.repeats);
        json_add_num(result, "prompt_tokens", (double)p.prompt);
        json_add_num(result, "new_tokens", (double)p.new_tokens);
        json_add_num(result, "batch", (double)p.batch);
        json_add_num(result, "repeats", p.repeats);
        json_add_num(result, "peak_rss_bytes", 1024.0 * (double)t.peak_kb);
        json_add_num(result, "process_floor_bytes", 1024.0 * (double)floor_kb);
        cJSON_AddStringToObject(result, "compute", subj->compute == SQZ_BF16 ? "bf16" : "fp32");
        add_energy(result, t.uj, t.decode_s, (double)(p.repeats * p.batch * (p.new_tokens - 1)),
                   s->backend.info.threads);
        add_bandwidth(s, m, &p, &t, result);
    }
    free(room);
    subject_close(subj);
    return st;
}
