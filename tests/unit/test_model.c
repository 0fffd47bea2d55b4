/* test_model.c - the runtime's models against transformers' recorded outputs, and against
 * themselves.
 *
 * Golden cases (tests/golden/models, made by make_golden.py) run with the naive reference backend
 * and with the CPU plugin, in both spellings of config.json, streamed and resident.  What the
 * golden data does not hold is checked against plain loops written here. */
#include "data/data.h"
#include "json/json.h"
#include "model/internal.h"
#include "pool/pool.h"
#include "quant/affine.h"
#include "reference/reference.h"
#include "tokenizer/tokenizer.h"
#include <sqz/services.h>
#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SQZ_SOURCE_DIR "/tests/golden/models/"
#define TINY SQZ_SOURCE_DIR "/examples/tiny-arith/"

static const char *const cases[] = {"gemma2",
                                    "gemma3",
                                    "gpt2",
                                    "gpt_neox",
                                    "gpt_neox-serial",
                                    "llama",
                                    "llama-headdim",
                                    "llama-mha-tied-bias",
                                    "llama-rope-dynamic",
                                    "llama-rope-linear",
                                    "llama-rope-llama3",
                                    "llama-rope-yarn",
                                    "llama-rope-yarn-options",
                                    "mistral",
                                    "mistral-swa",
                                    "mixtral",
                                    "opt",
                                    "opt-post-norm",
                                    "phi3",
                                    "phi3-longrope",
                                    "qwen2",
                                    "qwen2-swa",
                                    "qwen2-tied",
                                    "qwen3",
                                    "qwen3_moe",
                                    "starcoder2"};
enum { N_CASES = sizeof cases / sizeof *cases };

/* The larger set, when SQZ_SHARED names the folder that has it. */
static const char *const shared_cases[] = {"gemma2",
                                           "gemma3",
                                           "gpt2",
                                           "gpt_neox",
                                           "gpt_neox-serial",
                                           "llama",
                                           "llama-headdim",
                                           "mistral",
                                           "llama-rope-linear",
                                           "llama-mha-tied-bias",
                                           "mistral-swa",
                                           "llama-rope-yarn",
                                           "mixtral",
                                           "llama-rope-llama3",
                                           "llama-rope-dynamic",
                                           "opt",
                                           "phi3",
                                           "phi3-longrope",
                                           "qwen2",
                                           "qwen2-tied",
                                           "qwen3",
                                           "qwen3_moe"};
enum { N_SHARED = sizeof shared_cases / sizeof *shared_cases };

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.text[0] = 0;                                                                           \
        sqz_status ok_status = (call);                                                             \
        ck_assert_msg(ok_status == SQZ_OK, "%s: %s (%d)", #call, err.text, ok_status);             \
    } while (0)

/* ---- backends -------------------------------------------------------------------------------- */
static void host_log(const sqz_host *h, int32_t level, const char *msg)
{
    (void)h;
    if (level >= SQZ_LOG_WARN) fprintf(stderr, "%s\n", msg);
}

static sqz_status host_fail(const sqz_host *h, sqz_status code, const char *msg)
{
    (void)h;
    fprintf(stderr, "backend: %s\n", msg);
    return code;
}

static int32_t host_tick(const sqz_host *h, double done, const char *what)
{
    (void)h, (void)done, (void)what;
    return 0;
}

static int32_t host_threads(const sqz_host *h)
{
    (void)h;
    return pool_threads();
}

static void host_for(const sqz_host *h, int64_t n, int64_t grain,
                     void (*body)(void *, int64_t, int64_t, int32_t), void *arg)
{
    (void)h;
    pool_for(n, grain, body, arg);
}

static const sqz_pool host_pool = {sizeof host_pool, 0, host_threads, host_for};

static const void *host_service(const sqz_host *h, const char *id)
{
    (void)h;
    return strcmp(id, SQZ_POOL_1) ? NULL : &host_pool;
}

static const sqz_host host = {sizeof host, 0,         NULL,      "test",
                              host_log,    host_fail, host_tick, host_service};

static device reference_device(void)
{
    return (device){reference_hardware(), NULL};
}

/* The CPU plugin's device; opened once.  hw NULL when it is not built. */
static device cpu_device(void)
{
    static device d;
    static sqz_hardware table;
    if (d.hw) return d;
    void *so = dlopen(SQZ_PLUGIN_DIR "/hw_cpu.so", RTLD_NOW | RTLD_LOCAL);
    if (!so && access(SQZ_PLUGIN_DIR "/hw_cpu.so", F_OK)) return d;
    ck_assert_msg(so != NULL, "%s", so ? "" : dlerror());
    const sqz_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "sqz_plugin_v1");
    ck_assert_ptr_nonnull(entry);
    const sqz_agent *agent = entry()->agents;
    const sqz_hardware *hw = agent->extension(SQZ_HARDWARE_1);
    ck_assert_ptr_nonnull(hw);
    if (agent->open) ck_assert_int_eq(agent->open(&host, &d.dev), SQZ_OK);
    hardware_complete(hw, &table);
    d.hw = &table;
    return d;
}

static device nth_device(int i)
{
    return i ? cpu_device() : reference_device();
}

/* ---- cases ----------------------------------------------------------------------------------- */
typedef struct subject {
    checkpoint *ck;
    model *m;
    st_file *golden;
    int64_t b, t;
    int32_t ids[2 * 48];
} subject;

static const char *golden_dir = GOLDEN;

static char *read_text(const char *path)
{
    char *text;
    int64_t bytes;
    sqz_error err;
    OK(file_read(path, 1 << 20, &text, &bytes, &err));
    return text;
}

static subject subject_open(const char *name, const char *config, device d, int resident,
                            int64_t batch_tokens)
{
    subject s = {0};
    sqz_error err;
    char path[512];
    snprintf(path, sizeof path, "%s%s", golden_dir, name);
    OK(checkpoint_open(path, &s.ck, &err));
    snprintf(path, sizeof path, "%s%s/%s", golden_dir, name, config);
    free(s.ck->config_text);
    s.ck->config_text = read_text(path);
    snprintf(path, sizeof path, "%s%s/golden.safetensors", golden_dir, name);
    OK(st_open(path, &s.golden, &err));
    model_options o = {
        .device = d, .compute = SQZ_F32, .resident = resident, .batch_tokens = batch_tokens};
    OK(model_open(s.ck, &o, &s.m, &err));
    const st_tensor *t = st_find(s.golden, "input_ids");
    ck_assert_ptr_nonnull(t);
    s.b = t->shape[0];
    s.t = t->shape[1];
    ck_assert_int_eq(s.b * s.t, 96);
    for (int64_t i = 0; i < s.b * s.t; i++) {
        int64_t id;
        memcpy(&id, t->data + 8 * i, 8);
        s.ids[i] = (int32_t)id;
    }
    return s;
}

static void subject_close(subject *s)
{
    model_close(s->m);
    st_close(s->golden);
    checkpoint_close(s->ck);
}

static const float *golden(const subject *s, const char *name)
{
    const st_tensor *t = st_find(s->golden, name);
    ck_assert_msg(t != NULL, "golden tensor %s", name);
    return (const float *)(const void *)t->data;
}

static double max_abs(const float *v, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)v[i]));
    return top;
}

static double max_diff(const float *a, const float *b, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= top)) top = d; /* a NaN sticks */
    }
    return top;
}

/* ---- golden ---------------------------------------------------------------------------------- */
/* The worst of a case's forwards, and how many of its greedy ids are those of transformers. */
typedef struct agreement {
    double logits, hidden; /* hidden: of the largest of its block */
    int greedy, asked;
} agreement;

static void check_forward(subject *s, const char *label, agreement *a)
{
    const model_config *c = model_get_config(s->m);
    int64_t n = s->b * s->t, nh = n * c->hidden;
    float *logits = malloc((size_t)(n * c->vocab) * sizeof *logits);
    float *hidden = malloc((size_t)(nh * (c->layers + 1)) * sizeof *hidden);
    sqz_error err;
    OK(model_logits(s->m, s->ids, s->b, s->t, logits, hidden, &err));
    for (int64_t l = 0; l <= c->layers; l++) {
        char name[32];
        snprintf(name, sizeof name, "hidden.%lld", (long long)l);
        const float *want = golden(s, name);
        double limit = 2e-4 * max_abs(want, nh), off = max_diff(want, hidden + l * nh, nh);
        ck_assert_msg(off <= limit, "%s: after %s %lld the hidden states are off by %g (limit %g)",
                      label, l ? "block" : "the embedding, block", (long long)(l ? l - 1 : 0), off,
                      limit);
        a->hidden = fmax(a->hidden, off / max_abs(want, nh));
    }
    double off = max_diff(golden(s, "logits"), logits, n * c->vocab);
    ck_assert_msg(off <= 2e-4, "%s: logits are off by %g", label, off);
    a->logits = fmax(a->logits, off);
    free(logits);
    free(hidden);
}

static void check_greedy(subject *s, const char *label, agreement *a)
{
    int32_t out[2][16];
    sqz_generation r[2];
    for (int i = 0; i < 2; i++)
        r[i] = (sqz_generation){.prompt = s->ids + i * s->t, .n_prompt = s->t, .ids = out[i]};
    sqz_error err;
    generate_times times;
    OK(model_generate(s->m, r, 2, 16, NULL, 1, NULL, NULL, &times, &err));
    ck_assert(times.ttft_s > 0 && times.tpot_s > 0);
    const st_tensor *t = st_find(s->golden, "greedy");
    const float *margin = golden(s, "greedy_margin");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(r[i].n_ids, 16);
        ck_assert_int_eq(r[i].stopped, 0);
        for (int k = 0; k < 16; k++) {
            int64_t want;
            memcpy(&want, t->data + 8 * (i * 16 + k), 8);
            a->asked++;
            a->greedy += want == out[i][k];
            if (want == out[i][k]) continue;
            ck_assert_msg(margin[i * 16 + k] < 1e-3,
                          "%s: greedy token %d of sequence %d is %d, not %lld (margin %g)", label,
                          k, i, out[i][k], (long long)want, margin[i * 16 + k]);
            break; /* from here on the texts differ */
        }
    }
}

static agreement check_case(const char *name, device d)
{
    agreement a = {0};
    if (!d.hw) {
        printf("skipped: %s/hw_cpu.so is not built\n", SQZ_PLUGIN_DIR);
        return a;
    }
    for (int way = 0; way < 4; way++) {
        const char *config = way & 1 ? "config.legacy.json" : "config.json";
        char path[512], label[128];
        snprintf(path, sizeof path, "%s%s/%s", golden_dir, name, config);
        if (access(path, F_OK)) continue; /* gemma3 has one spelling */
        /* 20: the windows exceed the chunk, and the embedding is cut within them */
        subject s = subject_open(name, config, d, way < 2, way == 2 ? 20 : 0);
        snprintf(label, sizeof label, "%s %s %s", s.m->info.name, name, config);
        check_forward(&s, label, &a);
        if (way < 2) check_greedy(&s, label, &a);
        subject_close(&s);
    }
    return a;
}

START_TEST(golden_case)
{
    check_case(cases[_i % N_CASES], nth_device(_i / N_CASES));
}
END_TEST

START_TEST(shared_golden_case)
{
    static char dir[512];
    const char *shared = getenv("SQZ_SHARED");
    if (!shared) {
        if (!_i)
            printf("skipped: the larger golden set; SQZ_SHARED names the folder with golden/\n");
        return;
    }
    snprintf(dir, sizeof dir, "%s/golden/", shared);
    golden_dir = dir;
    agreement a = check_case(shared_cases[_i], cpu_device());
    printf("| %s | %.1e | %.1e | %d of %d |\n", shared_cases[_i], a.logits, a.hidden, a.greedy,
           a.asked);
    golden_dir = GOLDEN;
}
END_TEST

/* ---- scores ---------------------------------------------------------------------------------- */
static double log_softmax(const float *row, int64_t n, int32_t id)
{
    double top = row[0], sum = 0;
    for (int64_t i = 1; i < n; i++) top = fmax(top, row[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(row[i] - top);
    return row[id] - top - log(sum);
}

START_TEST(windows_score_as_their_logits)
{
    for (int resident = 0; resident < 2; resident++) {
        subject s = subject_open("qwen3", "config.json", nth_device(_i), resident, 50);
        if (!s.m->hw) return;
        const float *want = golden(&s, "logits");
        int64_t v = s.m->config.vocab, w = 12, n = 8;
        float lp[96];
        int32_t best[96];
        sqz_error err;
        OK(model_score_windows(s.m, s.ids, 2, s.t, lp, best, &err));
        for (int64_t i = 0; i < 96; i++) {
            int64_t t = i % s.t;
            double expect = t ? log_softmax(want + (i - 1) * v, v, s.ids[i]) : 0;
            ck_assert_double_eq_tol(lp[i], expect, 3e-4);
            for (int64_t k = 0; k < v; k++)
                ck_assert(want[i * v + k] <= want[i * v + best[i]] + 5e-4);
        }
        /* Shorter windows: the first of each sequence agrees with the golden prefix. */
        OK(model_score_windows(s.m, s.ids, n, w, lp, NULL, &err));
        for (int64_t i = 0; i < n; i += 4)
            for (int64_t t = 1; t < w; t++)
                ck_assert_double_eq_tol(
                    lp[i * w + t], log_softmax(want + (i * w + t - 1) * v, v, s.ids[i * w + t]),
                    3e-4);
        subject_close(&s);
    }
}
END_TEST

/* Every request alone, without sharing: the full forward of what is fed (all but the last token).
 */
static void naive_loglik(subject *s, sqz_loglik *r)
{
    int64_t n = r->n_context + r->n_continuation, v = s->m->config.vocab;
    int32_t ids[256];
    memcpy(ids, r->context, (size_t)r->n_context * 4);
    memcpy(ids + r->n_context, r->continuation, (size_t)r->n_continuation * 4);
    float *logits = malloc((size_t)(n * v) * sizeof *logits);
    sqz_error err;
    OK(model_logits(s->m, ids, 1, n - 1, logits, NULL, &err));
    r->logprob = 0;
    r->greedy = 1;
    for (int64_t i = 0; i < r->n_continuation; i++) {
        const float *row = logits + (r->n_context - 1 + i) * v;
        r->logprob += log_softmax(row, v, r->continuation[i]);
        for (int64_t k = 0; k < v; k++)
            if (row[k] > row[r->continuation[i]]) r->greedy = 0;
    }
    free(logits);
}

static void check_loglik(const char *name, device d, int64_t batch_tokens)
{
    subject s = subject_open(name, "config.json", d, 1, batch_tokens);
    enum { N = 23 };
    sqz_loglik r[N], want;
    int32_t copy[48]; /* equal ids at another address are the same context */
    memcpy(copy, s.ids, sizeof copy);
    for (int i = 0; i < N; i++) {
        r[i] = (sqz_loglik){.context = i % 3 == 2 ? s.ids + 48
                                       : i % 2    ? copy
                                                  : s.ids,
                            .n_context = i % 3 == 2 ? 20 + i / 12
                                         : i < 16   ? 30
                                                    : 31,
                            .continuation = s.ids + 2 * i,
                            .n_continuation = i > 18 ? 1 : 1 + i % 5};
    }
    r[7] = (sqz_loglik){
        .context = s.ids, .n_context = 1, .continuation = s.ids + 1, .n_continuation = 40};
    int32_t greedy[3];
    sqz_generation g = {.prompt = s.ids, .n_prompt = 30, .ids = greedy};
    sqz_error err;
    OK(model_generate(s.m, &g, 1, 3, NULL, 1, NULL, NULL, NULL, &err));
    r[4].continuation = greedy; /* one that is greedy */
    r[4].context = s.ids;
    r[4].n_context = 30;
    r[4].n_continuation = 3;
    OK(model_loglik(s.m, r, N, &err));
    for (int i = 0; i < N; i++) {
        want = r[i];
        naive_loglik(&s, &want);
        ck_assert_msg(fabs(want.logprob - r[i].logprob) < 3e-4,
                      "%s: request %d: %.7f shared, %.7f alone", name, i, r[i].logprob,
                      want.logprob);
        ck_assert_int_eq(want.greedy, r[i].greedy);
    }
    ck_assert_int_eq(r[4].greedy, 1);
    subject_close(&s);
}

START_TEST(shared_contexts_change_nothing)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    check_loglik("llama", d, 0);
    check_loglik("mistral-swa", d, 40);
    check_loglik("qwen3", d, 64);
    check_loglik("llama-rope-dynamic", d, 0); /* context 32: sharing only where it is exact */
}
END_TEST

static int64_t largest(const float *v, int64_t n)
{
    int64_t top = 0;
    for (int64_t i = 1; i < n; i++)
        if (v[i] > v[top]) top = i;
    return top;
}

/* Partition KL over the K largest and the rest, from full logits. */
static double naive_kl(const float *p, const float *q, int64_t v, int64_t k)
{
    char *used = calloc((size_t)v, 1);
    double kl = 0, rest_p = 1, rest_q = 1;
    for (int64_t i = 0; i < k; i++) {
        int64_t best = 0;
        while (used[best]) best++;
        for (int64_t j = best + 1; j < v; j++)
            if (!used[j] && p[j] > p[best]) best = j;
        used[best] = 1;
        double lp = log_softmax(p, v, (int32_t)best), lq = log_softmax(q, v, (int32_t)best);
        kl += exp(lp) * (lp - lq);
        rest_p -= exp(lp);
        rest_q -= exp(lq);
    }
    free(used);
    return kl + rest_p * (log(rest_p) - log(rest_q));
}

START_TEST(divergence_is_that_of_the_logits)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    subject p = subject_open("llama", "config.json", d, 1, 0);
    subject q =
        subject_open("mistral", "config.json", d, 0, 0); /* other weights, same vocabulary */
    int64_t v = p.m->config.vocab, n = 96;
    int32_t *ids = malloc(sizeof *ids * (size_t)(n * MODEL_KL_TOP));
    float *lp = malloc(sizeof *lp * (size_t)(n * MODEL_KL_TOP));
    sqz_error err;
    model_divergence apart;
    OK(model_top_record(p.m, p.ids, 2, 48, ids, lp, &err));
    OK(model_kl(p.m, p.ids, 2, 48, ids, lp, &apart, &err));
    ck_assert_double_le(fabs(apart.kl), 1e-6);
    ck_assert_double_le(apart.kl_max, 1e-5);
    ck_assert_int_eq(apart.flips, 0);
    ck_assert_int_eq(apart.positions, 96);
    float *a = malloc(sizeof *a * (size_t)(n * v)), *b = malloc(sizeof *b * (size_t)(n * v));
    OK(model_logits(p.m, p.ids, 2, 48, a, NULL, &err));
    OK(model_logits(q.m, p.ids, 2, 48, b, NULL, &err));
    double want = 0, loss = 0, half[2] = {0}, most = 0;
    int64_t flips = 0;
    for (int64_t i = 0; i < n; i++) {
        double one = naive_kl(a + i * v, b + i * v, v, MODEL_KL_TOP);
        half[i / 48] += one / 48;
        most = fmax(most, one);
        flips += largest(a + i * v, v) != largest(b + i * v, v);
        if (i % 48 < 47) loss -= log_softmax(b + i * v, v, p.ids[i + 1]) / 94;
    }
    want = (half[0] + half[1]) / 2;
    OK(model_kl(q.m, p.ids, 2, 48, ids, lp, &apart, &err));
    ck_assert_double_gt(want, 0.1);
    ck_assert_double_eq_tol(apart.kl, want, 1e-4 * want);
    ck_assert_double_eq_tol(apart.kl_stderr, fabs(half[0] - half[1]) / 2, 1e-3 * want);
    ck_assert_double_eq_tol(apart.kl_max, most, 1e-3 * most);
    ck_assert_double_lt(apart.kl_median, apart.kl_p99);
    ck_assert_double_eq_tol(apart.perplexity, exp(loss), 1e-3 * exp(loss));
    ck_assert_int_gt(flips, 0);
    ck_assert_int_eq(apart.flips, flips);
    ck_assert_double_eq_tol(apart.same_top, 1 - (double)flips / 96, 1e-12);
    free(ids), free(lp), free(a), free(b);
    subject_close(&p);
    subject_close(&q);
}
END_TEST

/* One compute class, one result: streaming, residency and repetition do not change a bit. */
START_TEST(streamed_equals_resident_bit_for_bit)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    static float lp[3][96], hidden[2][4 * 96 * 64], logits[96 * 320];
    sqz_error err;
    for (int way = 0; way < 3; way++) {
        subject s = subject_open("qwen2-swa", "config.json", d, way != 1, 36);
        OK(model_score_windows(s.m, s.ids, 8, 12, lp[way], NULL, &err));
        if (way < 2) OK(model_logits(s.m, s.ids, 2, 48, logits, hidden[way], &err));
        subject_close(&s);
    }
    ck_assert(!memcmp(lp[0], lp[1], sizeof lp[0]));
    ck_assert(!memcmp(lp[0], lp[2], sizeof lp[0]));
    ck_assert(!memcmp(hidden[0], hidden[1], sizeof hidden[0]));
}
END_TEST

/* ---- generation ------------------------------------------------------------------------------ */
typedef struct heard {
    int32_t ids[80][40];
    int n[80], stop_at, total;
} heard;

static int hear(void *ctx, int64_t request, int32_t id)
{
    heard *h = ctx;
    h->ids[request][h->n[request]++] = id;
    return ++h->total == h->stop_at;
}

START_TEST(many_at_once_equal_one_by_one)
{
    device d = nth_device(1);
    if (!d.hw) return;
    subject s = subject_open("mistral-swa", "config.json", d, 1, 100);
    enum { N = 70, NEW = 9 };
    static int32_t out[N][NEW], alone[NEW];
    static heard h;
    memset(&h, 0, sizeof h);
    sqz_generation r[N];
    for (int i = 0; i < N; i++)
        r[i] =
            (sqz_generation){.prompt = s.ids + i % 40, .n_prompt = 1 + (i * 7) % 50, .ids = out[i]};
    sqz_error err;
    OK(model_generate(s.m, r, N, NEW, NULL, 0, hear, &h, NULL, &err));
    for (int i = 0; i < N; i++) {
        sqz_generation one = r[i];
        one.ids = alone;
        OK(model_generate(s.m, &one, 1, NEW, NULL, 0, NULL, NULL, NULL, &err));
        ck_assert_int_eq(one.n_ids, r[i].n_ids);
        ck_assert_int_eq(one.stopped, r[i].stopped);
        ck_assert_int_eq(h.n[i], r[i].n_ids);
        for (int64_t k = 0; k < one.n_ids; k++) {
            ck_assert_msg(alone[k] == out[i][k], "request %d, token %lld: %d alone, %d beside", i,
                          (long long)k, alone[k], out[i][k]);
            ck_assert_int_eq(h.ids[i][k], out[i][k]);
        }
    }
    memset(&h, 0, sizeof h);
    h.stop_at = 5;
    OK(model_generate(s.m, r, 1, NEW, NULL, 1, hear, &h, NULL, &err));
    ck_assert_int_eq(r[0].n_ids, 5);
    subject_close(&s);
}
END_TEST

START_TEST(eos_stops)
{
    subject s = subject_open("llama", "config.json", reference_device(), 1, 0);
    int32_t out[16];
    sqz_generation r = {.prompt = s.ids, .n_prompt = s.t, .ids = out};
    sqz_error err;
    OK(model_generate(s.m, &r, 1, 4, NULL, 1, NULL, NULL, NULL, &err));
    s.m->config.eos[0] = out[2];
    int64_t first = out[0] == out[2] ? 0 : out[1] == out[2] ? 1 : 2;
    OK(model_generate(s.m, &r, 1, 4, NULL, 0, NULL, NULL, NULL, &err));
    ck_assert_int_eq(r.n_ids, first);
    ck_assert_int_eq(r.stopped, 1);
    subject_close(&s);
}
END_TEST

START_TEST(sampling_follows_the_distribution)
{
    enum { V = 6, DRAWS = 20000 };
    const float logits[V] = {1, 3, 2, -1, 2.5f, 0};
    float scratch[V];
    int32_t order[V];
    const sampling ways[] = {{.temperature = 1, .top_p = 1, .seed = 5},
                             {.temperature = 0.7, .top_p = 1, .top_k = 3, .seed = 6},
                             {.temperature = 1, .top_p = 0.7, .seed = 7},
                             {.temperature = 2, .top_p = 0.8, .top_k = 4, .seed = 8}};
    const int kept[] = {6, 3, 2, 3}; /* checked by hand: ids 1 4 2 0 5 3 in falling order */
    const int rank[V] = {1, 4, 2, 0, 5, 3};
    for (int w = 0; w < 4; w++) {
        double p[V] = {0}, total = 0;
        for (int i = 0; i < kept[w]; i++)
            total += p[rank[i]] = exp(logits[rank[i]] / ways[w].temperature);
        int count[V] = {0};
        for (uint64_t i = 0; i < DRAWS; i++)
            count[sample_draw(logits, V, &ways[w], i % 7, i, scratch, order)]++;
        for (int i = 0; i < V; i++) {
            double share = p[i] / total, sigma = sqrt(share * (1 - share) / DRAWS);
            ck_assert_msg(fabs(count[i] / (double)DRAWS - share) <= 4.5 * sigma,
                          "way %d: id %d drawn %d times of %d, expected %.4f", w, i, count[i],
                          DRAWS, share);
        }
    }
    sampling one = {.temperature = 1, .top_p = 1, .top_k = 1, .seed = 1};
    for (uint64_t i = 0; i < 50; i++)
        ck_assert_int_eq(sample_draw(logits, V, &one, 0, i, scratch, order), 1);
    ck_assert(sample_uniform(1, 2, 3) == sample_uniform(1, 2, 3));
    ck_assert(sample_uniform(1, 2, 3) != sample_uniform(1, 3, 2));
}
END_TEST

START_TEST(a_seed_decides_the_text)
{
    subject s = subject_open("llama", "config.json", reference_device(), 1, 0);
    int32_t out[3][12];
    sqz_generation r = {.prompt = s.ids, .n_prompt = 10};
    sampling how = {.temperature = 1, .top_p = 0.95, .seed = 11};
    sqz_error err;
    for (int i = 0; i < 3; i++) {
        how.seed = i < 2 ? 11 : 12;
        r.ids = out[i];
        OK(model_generate(s.m, &r, 1, 12, &how, 1, NULL, NULL, NULL, &err));
    }
    ck_assert(!memcmp(out[0], out[1], sizeof out[0]));
    ck_assert(memcmp(out[0], out[2], sizeof out[0]));
    subject_close(&s);
}
END_TEST

/* ---- capture and forms ----------------------------------------------------------------------- */
typedef struct recording {
    model *m;
    float *rows[4];
    int64_t n[4], cols[4];
} recording;

static int record(void *ctx, int64_t layer, const char *input, int64_t tokens, int64_t cols,
                  const sqz_mem *x)
{
    static const char *const names[] = {"attn_in", "attn_out", "mlp_in", "mlp_mid"};
    recording *r = ctx;
    ck_assert_int_eq(layer, 1);
    int i = 0;
    while (i < 4 && strcmp(names[i], input)) i++;
    ck_assert_int_lt(i, 4);
    r->cols[i] = cols;
    r->rows[i] = realloc(r->rows[i], (size_t)((r->n[i] + tokens) * cols) * sizeof(float));
    ck_assert_int_eq(r->m->hw->download(r->m->dev, r->rows[i] + r->n[i] * cols, x,
                                        tokens * cols * (int64_t)sizeof(float)),
                     SQZ_OK);
    r->n[i] += tokens;
    return 0;
}

/* y += W x of a float32 tensor. */
static void add_linear(const subject *s, const char *name, const float *x, double *y)
{
    const st_tensor *t = checkpoint_find(s->ck, name);
    ck_assert_ptr_nonnull(t);
    const float *w = (const float *)(const void *)t->data;
    for (int64_t r = 0; r < t->shape[0]; r++)
        for (int64_t c = 0; c < t->shape[1]; c++) y[r] += (double)w[r * t->shape[1] + c] * x[c];
}

/* What the hooks see explains the block: h' = h + O attn_out + D mlp_mid, and mlp_mid from mlp_in.
 */
START_TEST(hooks_see_the_inputs_of_linears)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    subject s = subject_open("llama", "config.json", d, 0, 20);
    const model_config *c = model_get_config(s.m);
    recording r = {.m = s.m};
    int64_t h = c->hidden, n = 96;
    float *x = malloc((size_t)(n * h) * sizeof *x);
    memcpy(x, golden(&s, "hidden.1"), (size_t)(n * h) * sizeof *x);
    sqz_error err;
    OK(model_block(s.m, 1, 8, 12, x, record, &r, &err));
    const int64_t cols[] = {c->hidden, c->heads * c->head_dim, c->hidden, c->ffn};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(r.n[i], n);
        ck_assert_int_eq(r.cols[i], cols[i]);
    }
    for (int64_t t = 0; t < n; t += 5) {
        double sum[64] = {0}, gate[160] = {0}, up[160] = {0};
        add_linear(&s, "model.layers.1.self_attn.o_proj.weight", r.rows[1] + t * cols[1], sum);
        add_linear(&s, "model.layers.1.mlp.down_proj.weight", r.rows[3] + t * cols[3], sum);
        for (int64_t i = 0; i < h; i++)
            ck_assert_double_eq_tol(x[t * h + i], golden(&s, "hidden.1")[t * h + i] + sum[i], 1e-4);
        add_linear(&s, "model.layers.1.mlp.gate_proj.weight", r.rows[2] + t * h, gate);
        add_linear(&s, "model.layers.1.mlp.up_proj.weight", r.rows[2] + t * h, up);
        for (int64_t i = 0; i < c->ffn; i++)
            ck_assert_double_eq_tol(r.rows[3][t * c->ffn + i],
                                    gate[i] / (1 + exp(-gate[i])) * up[i], 1e-4);
    }
    for (int i = 0; i < 4; i++) free(r.rows[i]);
    free(x);
    subject_close(&s);
}
END_TEST

/* Quantized up projections of every layer, from memory; or the same numbers as dense ones. */
typedef struct forms {
    sqz_affine a[3];
    float *plain[3];
    int as_dense, asked, done;
} forms;

static int form_linear(void *impl, const char *module, sqz_weight *out, sqz_error *err)
{
    forms *f = impl;
    (void)err;
    int layer;
    char tail[32];
    if (sscanf(module, "model.layers.%d.%31s", &layer, tail) != 2) return 0;
    if (strcmp(tail, "mlp.up_proj")) return 0;
    f->asked++;
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .dtype = SQZ_F32,
                        .form = f->as_dense ? SQZ_FORM_DENSE : SQZ_FORM_INT_AFFINE,
                        .rows = f->a[layer].rows,
                        .cols = f->a[layer].cols,
                        .data = f->plain[layer],
                        .affine = f->as_dense ? NULL : &f->a[layer]};
    return 1;
}

static void form_done(void *impl, const char *module)
{
    (void)module;
    ((forms *)impl)->done++;
}

static void make_forms(forms *f)
{
    sqz_error err;
    for (int l = 0; l < 3; l++) {
        uint8_t codes[160 * 64], zeros[160 * 2];
        float scales[160 * 2];
        for (int i = 0; i < 160 * 64; i++) codes[i] = (uint8_t)((i * 7 + i / 13 + l) % 16);
        for (int i = 0; i < 320; i++)
            scales[i] = f16_to_f32(f32_to_f16(0.01f + 0.0001f * (float)i)), zeros[i] = 8;
        OK(affine_pack(4, 160, 64, 32, 1, codes, scales, zeros, &f->a[l], &err));
        f->plain[l] = malloc(sizeof(float) * 160 * 64);
        affine_dequantize(&f->a[l], 0, 160, f->plain[l]);
    }
}

START_TEST(overlaid_forms_run)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    subject s = subject_open("llama", "config.json", d, 1, 0);
    forms f = {0};
    make_forms(&f);
    float *out[2];
    sqz_error err;
    weight_overlay overlay = {&f, form_linear, form_done};
    for (int i = 0; i < 2; i++) {
        model_options o = {.device = d, .compute = SQZ_F32, .overlay = &overlay, .resident = i};
        model *m;
        f.as_dense = i;
        f.asked = f.done = 0;
        out[i] = malloc(sizeof(float) * 96 * 320);
        OK(model_open(s.ck, &o, &m, &err));
        OK(model_logits(m, s.ids, 2, 48, out[i], NULL, &err));
        int64_t bytes = model_weight_bytes(m), dense = model_weight_bytes(s.m);
        ck_assert(i ? bytes == dense : bytes > 0 && bytes < dense);
        model_close(m);
        ck_assert_int_eq(f.asked, f.done);
        ck_assert_int_ge(f.asked, 3);
    }
    ck_assert_double_le(max_diff(out[0], out[1], 96 * 320), 2e-4);
    ck_assert_double_gt(max_diff(out[0], golden(&s, "logits"), 96 * 320), 0.1);
    for (int l = 0; l < 3; l++) free(f.plain[l]), affine_free(&f.a[l]);
    /* A form of another shape is refused by name. */
    f.a[1].rows = 150;
    model *m;
    OK(model_open(s.ck, &(model_options){.device = d, .compute = SQZ_F32, .overlay = &overlay}, &m,
                  &err));
    ck_assert_int_eq(model_logits(m, s.ids, 1, 4, out[0], NULL, &err), ERR_MODEL);
    ck_assert_msg(strstr(err.text, "model.layers.0.mlp.up_proj") != NULL, "%s", err.text);
    model_close(m);
    free(out[0]), free(out[1]);
    subject_close(&s);
}
END_TEST

/* Every linear of a model rounded to 4 bits, in the form of the backend or as the same numbers
 * dense: linears that hold several (fused, taking turns, transposed, experts) must be split alike.
 */
typedef struct rounded {
    const model_config *c;
    const checkpoint *ck;
    int as_dense;
    struct {
        char module[128];
        sqz_affine a;
        float *plain;
    } held[256];
    int n;
} rounded;

static void round_linear(rounded *r, const linear_spec *spec)
{
    sqz_error err;
    int64_t n = spec->rows * spec->cols, groups = affine_groups(spec->cols, 8);
    float *w = malloc((size_t)n * sizeof *w), *scales = malloc((size_t)n * sizeof *scales);
    uint8_t *codes = malloc((size_t)n), *zeros = malloc((size_t)n);
    OK(model_dense_values(r->c, r->ck, spec, w, &err));
    for (int64_t i = 0; i < spec->rows * groups; i++) {
        int64_t row = i / groups, from = i % groups * 8;
        int64_t width = spec->cols - from < 8 ? spec->cols - from : 8;
        double top = max_abs(w + row * spec->cols + from, width);
        scales[i] = f16_to_f32(f32_to_f16((float)(top / 7 + 1e-6)));
        zeros[i] = 8;
        for (int64_t k = row * spec->cols + from; k < row * spec->cols + from + width; k++)
            codes[k] = (uint8_t)fmin(15, fmax(0, 8 + rint(w[k] / scales[i])));
    }
    snprintf(r->held[r->n].module, 128, "%s", spec->module);
    OK(affine_pack(4, spec->rows, spec->cols, 8, 1, codes, scales, zeros, &r->held[r->n].a, &err));
    affine_dequantize(&r->held[r->n].a, 0, spec->rows, w);
    r->held[r->n++].plain = w;
    free(scales), free(codes), free(zeros);
}

static int rounded_linear(void *impl, const char *module, sqz_weight *out, sqz_error *err)
{
    rounded *r = impl;
    (void)err;
    for (int i = 0; i < r->n; i++) {
        if (strcmp(r->held[i].module, module)) continue;
        *out = (sqz_weight){.struct_size = sizeof *out,
                            .dtype = SQZ_F32,
                            .form = r->as_dense ? SQZ_FORM_DENSE : SQZ_FORM_INT_AFFINE,
                            .rows = r->held[i].a.rows,
                            .cols = r->held[i].a.cols,
                            .data = r->held[i].plain,
                            .affine = r->as_dense ? NULL : &r->held[i].a};
        return 1;
    }
    return 0;
}

static const char *const split_cases[] = {"phi3", "gpt2",    "gpt_neox",
                                          "opt",  "mixtral", "qwen3_moe"};

START_TEST(quantized_linears_split_alike)
{
    device d = cpu_device();
    if (!d.hw) return;
    subject s = subject_open(split_cases[_i], "config.json", d, 1, 0);
    const model_config *c = model_get_config(s.m);
    rounded r = {.c = c, .ck = s.ck};
    sqz_error err;
    for (int64_t l = 0; l < c->layers; l++)
        for (int64_t i = 0; i < model_linear_count(c, l); i++) {
            linear_spec spec;
            model_linear(c, l, i, &spec);
            ck_assert_int_lt(r.n, 256);
            round_linear(&r, &spec);
        }
    weight_overlay overlay = {&r, rounded_linear, NULL};
    int64_t n = 96 * c->vocab;
    float *out[2];
    for (int i = 0; i < 2; i++) {
        model_options o = {.device = d, .compute = SQZ_F32, .overlay = &overlay, .resident = i};
        model *m;
        r.as_dense = i;
        out[i] = malloc(sizeof(float) * (size_t)n);
        OK(model_open(s.ck, &o, &m, &err));
        OK(model_logits(m, s.ids, 2, 48, out[i], NULL, &err));
        model_close(m);
    }
    ck_assert_double_le(max_diff(out[0], out[1], n), 5e-4);
    ck_assert_double_gt(max_diff(out[0], golden(&s, "logits"), n), 0.01);
    for (int i = 0; i < r.n; i++) free(r.held[i].plain), affine_free(&r.held[i].a);
    free(out[0]), free(out[1]);
    subject_close(&s);
}
END_TEST

/* All experts of a layer in one tensor, as transformers 5 may write them, give the same logits. */
static void fuse(const subject *s, const char *path)
{
    const model_config *c = model_get_config(s->m);
    sqz_error err;
    st_writer *w;
    OK(st_writer_new(path, &w, &err));
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < s->ck->n_tensors; i++) {
            const st_tensor *t = s->ck->tensors[i];
            if (strstr(t->name, ".experts.")) continue;
            char name[192], *at;
            snprintf(name, sizeof name, "%s", t->name);
            if ((at = strstr(name, ".block_sparse_moe.gate"))) strcpy(at, ".mlp.gate.weight");
            if (pass)
                OK(st_writer_write(w, name, t->data, t->bytes, &err));
            else
                OK(st_writer_declare(w, name, t->dtype, t->rank, t->shape, &err));
        }
        for (int64_t l = 0; l < c->layers; l++) {
            char up[128], down[128];
            snprintf(up, sizeof up, "model.layers.%d.mlp.experts.gate_up_proj", (int)l);
            snprintf(down, sizeof down, "model.layers.%d.mlp.experts.down_proj", (int)l);
            int64_t wide = c->expert_ffn * c->hidden, e = c->experts;
            int64_t us[] = {e, 2 * c->expert_ffn, c->hidden}, ds[] = {e, c->hidden, c->expert_ffn};
            if (!c->sparse[l]) continue;
            if (!pass) {
                OK(st_writer_declare(w, up, SQZ_F32, 3, us, &err));
                OK(st_writer_declare(w, down, SQZ_F32, 3, ds, &err));
                continue;
            }
            float *all = malloc((size_t)(e * 3 * wide) * sizeof *all);
            for (int64_t k = 0, own = model_linear_count(c, l) - 3 * e; k < 3 * e; k++) {
                linear_spec spec;
                model_linear(c, l, own + k, &spec);
                int64_t to = k % 3 == 2 ? (2 * e + k / 3) * wide : (2 * (k / 3) + k % 3) * wide;
                OK(model_dense_values(c, s->ck, &spec, all + to, &err));
            }
            OK(st_writer_write(w, up, all, e * 2 * wide * 4, &err));
            OK(st_writer_write(w, down, all + e * 2 * wide, e * wide * 4, &err));
            free(all);
        }
    }
    OK(st_writer_finish(w, &err));
}

START_TEST(fused_experts_are_the_same)
{
    device d = cpu_device();
    if (!d.hw) return;
    subject s = subject_open(_i ? "qwen3_moe" : "mixtral", "config.json", d, 1, 0);
    char dir[] = "/tmp/sqz_fused_XXXXXX", path[128];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    fuse(&s, path);
    snprintf(path, sizeof path, "%s/config.json", dir);
    sqz_error err;
    OK(file_write(path, s.ck->config_text, (int64_t)strlen(s.ck->config_text), &err));
    checkpoint *ck;
    model *m;
    OK(checkpoint_open(dir, &ck, &err));
    OK(model_open(ck, &(model_options){.device = d, .compute = SQZ_F32}, &m, &err));
    ck_assert_int_eq(model_get_config(m)->fused_experts, 1);
    int64_t n = 96 * s.m->config.vocab;
    float *out = malloc(sizeof(float) * (size_t)n);
    OK(model_logits(m, s.ids, 2, 48, out, NULL, &err));
    ck_assert_double_le(max_diff(out, golden(&s, "logits"), n), 2e-4);
    free(out);
    model_close(m);
    checkpoint_close(ck);
    OK(dir_remove(dir, &err));
    subject_close(&s);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */
#define SHAPE                                                                                      \
    "\"hidden_size\":64,\"num_attention_heads\":4,\"num_hidden_layers\":2,\"vocab_size\":100,"
static const struct {
    const char *json, *message;
} bad_configs[] = {
    {"{\"model_type\":\"bloom\"}",
     "\"bloom\" is not known; known families: llama, mistral, qwen2, qwen3, gemma2"},
    {"{}", "model_type is missing; known families: llama, mistral, qwen2, qwen3"},
    {"[1]", "is not a JSON object"},
    {"{\"model_type\":\"llama\"", "c.json"},
    {"{\"model_type\":7}", "model_type is not a string"},
    {"{\"model_type\":\"llama\",\"architectures\":[\"LlamaForTokenClassification\"]}",
     "\"LlamaForTokenClassification\" is not built"},
    {"{\"model_type\":\"llama\",\"hidden_size\":-64}",
     "hidden_size is -64; it must be a whole number from 1"},
    {"{\"model_type\":\"llama\",\"hidden_size\":64.5}", "hidden_size is 64.5"},
    {"{\"model_type\":\"llama\",\"vocab_size\":\"many\"}", "vocab_size is not a number"},
    {"{\"model_type\":\"llama\",\"num_hidden_layers\":1e9}",
     "num_hidden_layers is 1000000000; it must be a whole number from 1 to 4096"},
    {"{\"model_type\":\"llama\",\"vocab_size\":1e300}", "vocab_size is 1"},
    {"{\"model_type\":\"llama\",\"intermediate_size\":0}", "intermediate_size is 0"},
    {"{\"model_type\":\"llama\",\"hidden_size\":64,\"num_attention_heads\":5}",
     "hidden_size 64 is not a multiple of num_attention_heads 5"},
    {"{\"model_type\":\"llama\"," SHAPE "\"num_key_value_heads\":3}",
     "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
    {"{\"model_type\":\"qwen3\"," SHAPE "\"num_key_value_heads\":2,\"head_dim\":15}",
     "head_dim is 15; rotary embeddings need an even number"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rms_norm_eps\":-1}", "rms_norm_eps is -1"},
    {"{\"model_type\":\"llama\"," SHAPE "\"hidden_act\":\"mish\"}",
     "hidden_act \"mish\" is not known"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rope_theta\":0}", "rope_theta is 0"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rope_scaling\":{\"type\":\"ntk\"}}",
     "rope type \"ntk\" is not built; known: default, linear"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rope_scaling\":{\"type\":\"longrope\"}}",
     "short_factor must be a list of 8 numbers"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rope_scaling\":{\"rope_type\":\"linear\"}}",
     "the rope scaling has no factor"},
    {"{\"model_type\":\"llama\"," SHAPE
     "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":-2}}",
     "factor is -2"},
    {"{\"model_type\":\"llama\"," SHAPE "\"rope_parameters\":{\"full_attention\":{}}}",
     "rope parameters per layer type are not built"},
    {"{\"model_type\":\"llama\"," SHAPE "\"partial_rotary_factor\":0.5}",
     "partial_rotary_factor 0.5 is not built"},
    {"{\"model_type\":\"mistral\"," SHAPE "\"num_key_value_heads\":2,\"sliding_window\":-8}",
     "sliding_window is -8"},
    {"{\"model_type\":\"qwen2\"," SHAPE
     "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"layer_types\":[\"full_attention\"]}",
     "layer_types must be a list of num_hidden_layers = 2"},
    {"{\"model_type\":\"qwen2\"," SHAPE
     "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"layer_types\":[\"mamba\",\"x\"]}",
     "layer type \"mamba\" is not built"},
    {"{\"model_type\":\"llama\"," SHAPE "\"eos_token_id\":[1,\"x\"]}", "eos_token_id is not an id"},
    {"{\"model_type\":\"llama\"," SHAPE "\"tie_word_embeddings\":1}",
     "tie_word_embeddings is neither true nor false"},
};

START_TEST(bad_config_is_named)
{
    model_config c;
    sqz_error err = {0};
    ck_assert_int_eq(model_config_parse(bad_configs[_i].json, "c.json", &c, &err), ERR_MODEL);
    ck_assert_msg(strstr(err.text, bad_configs[_i].message) != NULL, "%s: %s", bad_configs[_i].json,
                  err.text);
    ck_assert_msg(!strncmp(err.text, "c.json", 6), "%s", err.text);
}
END_TEST

/* Damaged files give an error or a config within its ranges, never a crash. */
START_TEST(damaged_configs_are_survived)
{
    char path[512];
    int good = 0;
    for (int round = 0; round < 6000; round++) {
        snprintf(path, sizeof path, GOLDEN "%s/%s", cases[round % N_CASES],
                 round & 1 ? "config.json" : "config.legacy.json");
        if (access(path, F_OK)) continue;
        char *text = read_text(path);
        size_t n = strlen(text);
        for (int k = 0; k < 1 + round % 3; k++) {
            double u = sample_uniform(3, (uint64_t)round, (uint64_t)k);
            double v = sample_uniform(4, (uint64_t)round, (uint64_t)k);
            static const char letters[] = "0123456789-.e{}[]\",:ntf ";
            text[(size_t)(u * (double)n)] = letters[(size_t)(v * (double)(sizeof letters - 1))];
        }
        model_config c;
        sqz_error err;
        if (!model_config_parse(text, "c.json", &c, &err)) {
            good++;
            ck_assert(c.heads % c.kv_heads == 0 && c.rotary % 2 == 0 && c.head_dim > 0);
            ck_assert(c.vocab > 0 && c.hidden > 0 && c.ffn > 0 && c.layers > 0 && c.context > 0);
            ck_assert(isfinite(c.rope.theta) && isfinite(c.rope.factor) && c.rope.factor > 0);
            ck_assert(model_parameters(&c, NULL) > 0);
            model_config_free(&c);
        }
        free(text);
    }
    ck_assert_int_gt(good, 100);
}
END_TEST

/* transformers reads both caps of a Gemma 3 and applies the one of the logits. */
START_TEST(caps_of_families)
{
    static const struct {
        const char *type;
        double attention;
    } families[] = {{"gemma2", 30}, {"gemma3_text", 0}};
    for (int i = 0; i < 2; i++) {
        model_config c;
        sqz_error err;
        char *text = path_format("{\"model_type\":\"%s\"," SHAPE
                                 "\"num_key_value_heads\":2,\"attn_logit_softcapping\":30,"
                                 "\"final_logit_softcapping\":20}",
                                 families[i].type);
        OK(model_config_parse(text, "c", &c, &err));
        ck_assert_double_eq(c.attn_softcap, families[i].attention);
        ck_assert_double_eq(c.final_softcap, 20);
        model_config_free(&c);
        free(text);
    }
}
END_TEST

START_TEST(windows_of_families)
{
    model_config c;
    sqz_error err;
    OK(model_config_parse("{\"model_type\":\"mistral\"," SHAPE "\"num_key_value_heads\":2}", "c",
                          &c, &err));
    ck_assert(c.window == 4096 && c.sliding[0] && c.sliding[1]);
    ck_assert_int_eq(c.kv_heads, 2);
    model_config_free(&c);
    OK(model_config_parse("{\"model_type\":\"mistral\"," SHAPE
                          "\"num_key_value_heads\":2,\"sliding_window\":null}",
                          "c", &c, &err));
    ck_assert(c.window == 0 && !c.sliding[0]);
    model_config_free(&c);
    OK(model_config_parse("{\"model_type\":\"qwen2\"," SHAPE
                          "\"num_key_value_heads\":2,\"sliding_window\":9}",
                          "c", &c, &err));
    ck_assert(c.window == 0 && !c.sliding[1] && c.qkv_bias && !c.o_bias && c.n_eos == 0 &&
              c.bos == -1);
    model_config_free(&c);
    OK(model_config_parse("{\"model_type\":\"qwen2\"," SHAPE
                          "\"num_key_value_heads\":2,\"sliding_window\":9,"
                          "\"use_sliding_window\":true,\"max_window_layers\":1}",
                          "c", &c, &err));
    ck_assert(c.window == 9 && !c.sliding[0] && c.sliding[1]);
    model_config_free(&c);
    OK(model_config_parse(
        "{\"model_type\":\"qwen3\"," SHAPE
        "\"num_key_value_heads\":2,\"sliding_window\":9,\"eos_token_id\":[4,5],"
        "\"use_sliding_window\":true,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}",
        "c", &c, &err));
    ck_assert(c.window == 9 && c.sliding[0] && !c.sliding[1] && c.head_dim == 128 && c.qk_norm &&
              c.n_eos == 2);
    int64_t linears, all = model_parameters(&c, &linears);
    ck_assert_int_eq(linears, 2 * (64 * 512 * 2 + 64 * 256 * 2 + 3 * 64 * 22016));
    ck_assert_int_eq(all, linears + 2 * (2 * 64 + 2 * 128) + 64 + 2 * 100 * 64);
    model_config_free(&c);
}
END_TEST

/* What model_open says about the llama case under another config or with a renamed tensor. */
static void open_fails(const char *from, const char *to, const char *tensor, const char *message)
{
    checkpoint *ck;
    sqz_error err;
    OK(checkpoint_open(GOLDEN "llama", &ck, &err));
    char *text = ck->config_text, *at = from ? strstr(text, from) : NULL;
    if (from) {
        ck_assert_ptr_nonnull(at);
        ck->config_text = path_format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        free(text);
    }
    st_tensor *t = tensor ? (st_tensor *)(uintptr_t)checkpoint_find(ck, tensor) : NULL;
    if (t) t->dtype = SQZ_I64;
    model *m = NULL;
    model_options o = {.device = reference_device(), .compute = SQZ_F32};
    sqz_status st = model_open(ck, &o, &m, &err);
    ck_assert_int_ne(st, SQZ_OK);
    ck_assert_ptr_null(m);
    ck_assert_msg(strstr(err.text, message) != NULL, "%s", err.text);
    checkpoint_close(ck);
}

START_TEST(bad_weights_are_named)
{
    open_fails("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", NULL,
               "tensor model.layers.3.self_attn.q_proj.weight is missing; config.json describes a "
               "llama model of 4 layers");
    open_fails("\"intermediate_size\": 160", "\"intermediate_size\": 161", NULL,
               "tensor model.layers.0.mlp.gate_proj.weight has shape [160, 64], but config.json "
               "makes it [161, 64]");
    open_fails(
        "\"vocab_size\": 320", "\"vocab_size\": 321", NULL,
        "tensor model.embed_tokens.weight has shape [320, 64], but config.json makes it [321, 64]");
    open_fails("\"attention_bias\": false", "\"attention_bias\": true", NULL,
               "tensor model.layers.0.self_attn.q_proj.bias is missing");
    open_fails("\"use_cache\"",
               "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"use_cache\"", NULL,
               "the weights are quantized (quant_method gptq)");
    open_fails(NULL, NULL, "model.norm.weight",
               "tensor model.norm.weight has dtype I64; weights must be");
    subject s = subject_open("llama", "config.json", reference_device(), 0, 0);
    int32_t ids[3] = {5, 320, 1};
    float lp[3];
    sqz_error err;
    ck_assert_int_eq(model_score_windows(s.m, ids, 1, 3, lp, NULL, &err), ERR_MODEL);
    ck_assert_str_eq(err.text, "token id 320 at position 1 is outside the vocabulary of 320");
    sqz_generation g = {.prompt = ids, .n_prompt = 0, .ids = ids};
    ck_assert_int_eq(model_generate(s.m, &g, 1, 1, NULL, 1, NULL, NULL, NULL, &err), SQZ_E_INVALID);
    sqz_loglik r = {.context = ids, .n_context = 1, .continuation = ids, .n_continuation = 0};
    ck_assert_int_eq(model_loglik(s.m, &r, 1, &err), SQZ_E_INVALID);
    subject_close(&s);
}
END_TEST

/* A copy of the llama case whose file begins with a one-byte tensor, so that every float32 tensor
 * stands at an odd address. */
static void write_misaligned(const char *dir)
{
    char *data, *path = path_format("%s/model.safetensors", dir);
    int64_t bytes;
    sqz_error err;
    OK(file_read(GOLDEN "llama/model.safetensors", 1 << 24, &data, &bytes, &err));
    uint64_t header;
    memcpy(&header, data, 8);
    json_doc *doc;
    OK(json_parse(data + 8, (int64_t)header, 0, "header", &doc, &err));
    cJSON *root = json_root(doc), *item;
    cJSON_ArrayForEach(item, root)
    {
        cJSON *at = json_get(item, "data_offsets");
        for (int i = 0; at && i < 2; i++) {
            cJSON *n = cJSON_GetArrayItem(at, i);
            cJSON_SetNumberValue(n, n->valuedouble + 1);
        }
    }
    cJSON_AddItemToObject(root, "pad",
                          cJSON_Parse("{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}"));
    char *text = json_text(root, 0);
    uint64_t n = strlen(text), padded = (n + 7) / 8 * 8;
    int64_t total = 8 + (int64_t)padded + 1 + bytes - 8 - (int64_t)header;
    char *out = malloc((size_t)total);
    memset(out, ' ', (size_t)total);
    memcpy(out, &padded, 8);
    memcpy(out + 8, text, n);
    memcpy(out + 8 + padded + 1, data + 8 + header, (size_t)bytes - 8 - header);
    OK(file_write(path, out, total, &err));
    free(out), free(text), free(data), free(path);
    json_free(doc);
}

START_TEST(misaligned_tensors_are_copied)
{
    device d = nth_device(_i);
    if (!d.hw) return;
    char dir[] = "/tmp/sqz_model_XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    write_misaligned(dir);
    char *config = path_format("%s/config.json", dir),
         *text = read_text(GOLDEN "llama/config.json");
    sqz_error err;
    OK(file_write(config, text, (int64_t)strlen(text), &err));
    static float logits[2][96 * 320];
    subject s = subject_open("llama", "config.json", d, 1, 0);
    checkpoint *ck;
    OK(checkpoint_open(dir, &ck, &err));
    const st_tensor *t = checkpoint_find(ck, "model.layers.1.mlp.up_proj.weight");
    ck_assert_int_ne((uintptr_t)t->data % 4, 0);
    OK(model_logits(s.m, s.ids, 2, 48, logits[0], NULL, &err));
    for (int resident = 0; resident < 2; resident++) {
        model_options o = {.device = d, .compute = SQZ_F32, .resident = resident};
        model *m;
        OK(model_open(ck, &o, &m, &err));
        OK(model_logits(m, s.ids, 2, 48, logits[1], NULL, &err));
        model_close(m);
        ck_assert(!memcmp(logits[0], logits[1], sizeof logits[0]));
    }
    checkpoint_close(ck);
    subject_close(&s);
    OK(dir_remove(dir, &err));
    free(config), free(text);
}
END_TEST

static int stop_at_half(void *ctx, double done, const char *what)
{
    (void)what;
    *(double *)ctx = done;
    return done >= 0.5;
}

START_TEST(a_tick_cancels)
{
    for (int resident = 0; resident < 2; resident++) {
        subject s = subject_open("llama", "config.json", reference_device(), resident, 12);
        float lp[96];
        double seen = 0;
        sqz_error err;
        model_set_tick(s.m, stop_at_half, &seen);
        ck_assert_int_eq(model_score_windows(s.m, s.ids, 8, 12, lp, NULL, &err), SQZ_E_CANCELLED);
        ck_assert_double_ge(seen, 0.5);
        ck_assert_double_le(seen, 0.7);
        subject_close(&s);
    }
}
END_TEST

/* ---- the bundled model ----------------------------------------------------------------------- */
static double tiny_perplexity(device d, int32_t compute, int64_t limit, int64_t *scored)
{
    checkpoint *ck;
    tokenizer *tok;
    dataset *data;
    int32_t *ids;
    int64_t n;
    model *m;
    sqz_error err;
    OK(checkpoint_open(TINY "model", &ck, &err));
    OK(tokenizer_open(TINY "model", &tok, &err));
    OK(dataset_open(TINY "data/test.jsonl", &data, &err));
    OK(data_stream(data, tok, FRAME_DEFAULT, NULL, &ids, &n, &err));
    model_options o = {.device = d, .compute = compute, .resident = compute == SQZ_BF16};
    OK(model_open(ck, &o, &m, &err));
    int64_t windows = n / 256;
    if (limit && windows > limit) windows = limit;
    float *lp = malloc((size_t)(windows * 256) * sizeof *lp);
    OK(model_score_windows(m, ids, windows, 256, lp, NULL, &err));
    double sum = 0;
    for (int64_t i = 0; i < windows * 256; i++) sum -= lp[i];
    *scored = windows * 255;
    free(lp), free(ids);
    model_close(m);
    dataset_close(data);
    tokenizer_free(tok);
    checkpoint_close(ck);
    return exp(sum / (double)*scored);
}

/* Both figures are those of transformers (float32 compute on the bf16 weights); sanitizers are ten
 * times slower and take the first windows only. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { PERPLEXITY_WINDOWS = 24 };
#define PERPLEXITY 1.676627
#else
enum { PERPLEXITY_WINDOWS = 0 };
#define PERPLEXITY 1.66995
#endif

START_TEST(tiny_arith_perplexity)
{
    device d = cpu_device();
    if (!d.hw) {
        printf("skipped: %s/hw_cpu.so is not built\n", SQZ_PLUGIN_DIR);
        return;
    }
    int64_t scored;
    double ppl = tiny_perplexity(d, SQZ_F32, PERPLEXITY_WINDOWS, &scored);
    ck_assert_int_eq(scored, 255 * (PERPLEXITY_WINDOWS ? PERPLEXITY_WINDOWS : 438));
    printf("tiny-arith: perplexity %.6f at float32", ppl);
    ck_assert_double_eq_tol(ppl, PERPLEXITY, 3e-4);
    ppl = tiny_perplexity(d, SQZ_BF16, PERPLEXITY_WINDOWS, &scored);
    printf(", %.6f at bfloat16\n", ppl);
    ck_assert_double_eq_tol(ppl, PERPLEXITY, 1e-3);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, golden_case, 0, 2 * N_CASES);
    tcase_add_loop_test(t, quantized_linears_split_alike, 0, 6);
    tcase_add_loop_test(t, fused_experts_are_the_same, 0, 2);
    tcase_add_loop_test(t, windows_score_as_their_logits, 0, 1);
    tcase_add_loop_test(t, shared_contexts_change_nothing, 0, 2);
    tcase_add_loop_test(t, divergence_is_that_of_the_logits, 0, 2);
    tcase_add_test(t, many_at_once_equal_one_by_one);
    tcase_add_test(t, eos_stops);
    tcase_add_test(t, sampling_follows_the_distribution);
    tcase_add_test(t, a_seed_decides_the_text);
    tcase_add_loop_test(t, hooks_see_the_inputs_of_linears, 0, 2);
    tcase_add_loop_test(t, overlaid_forms_run, 0, 2);
    tcase_add_loop_test(t, bad_config_is_named, 0, sizeof bad_configs / sizeof *bad_configs);
    tcase_add_test(t, damaged_configs_are_survived);
    tcase_add_test(t, windows_of_families);
    tcase_add_test(t, caps_of_families);
    tcase_add_test(t, bad_weights_are_named);
    tcase_add_loop_test(t, streamed_equals_resident_bit_for_bit, 0, 2);
    tcase_add_loop_test(t, misaligned_tensors_are_copied, 0, 2);
    tcase_add_test(t, a_tick_cancels);
    suite_add_tcase(s, t);
    t = tcase_create("shared"); /* CK_RUN_CASE=shared prints its table */
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, shared_golden_case, 0, N_SHARED);
    suite_add_tcase(s, t);
    t = tcase_create("tiny-arith");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, tiny_arith_perplexity);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
