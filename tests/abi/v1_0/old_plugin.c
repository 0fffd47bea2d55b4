/* old_plugin.c - a plugin of the past: built with the headers of version 1.0 that lie beside it,
 * run on today's host.  Neither this file nor those headers change any more.
 *
 * Three agents in one file, so that the arrays are walked by the writer's stride; every type of
 * parameter; every service of 1.0; a method that uses statistics and notes. */
#include <sqz/sqz.h>
#include <sqz/help.h>
#include <sqz/space.h>

/* ---- a method: rounding with the error weighted by the inputs' second moments -------------------
 */
#define METHOD_PARAMS(P)                                                                           \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_REAL, shrink, 0.9, 0.5, 1, NULL, SQZ_SEARCH, "smallest scale tried, of the widest")      \
    P(SQZ_BOOL, weighted, 1, 0, 1, NULL, 0, "weigh errors by the inputs")                          \
    P(SQZ_CHOICE, steps, 1, 0, 2, "one|eight|many", 0, "scales tried")                             \
    P(SQZ_TEXT, remark, 0, 0, 0, "", 0, "a remark for the record")
SQZ_CALL(old_linear, METHOD_PARAMS);

static float half_round(float x)
{
    int e;
    if (!(x > 0x1p-14f)) return 0x1p-14f;
    if (x >= 65504.0f) return 65504.0f;
    float m = frexpf(x, &e);
    return ldexpf(rintf(m * 2048.0f) / 2048.0f, e);
}

typedef struct old_job {
    const sqz_linear *l;
    int64_t tries;
    double shrink;
    int bits, weighted;
    uint8_t *codes;
    float *scales;
} old_job;

static float code_of(float w, float scale, int zero)
{
    float q = rintf(w / scale) + (float)zero;
    return q < 0 ? 0 : q > (float)(2 * zero - 1) ? (float)(2 * zero - 1) : q;
}

static void old_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const old_job *j = arg;
    const int zero = 1 << (j->bits - 1);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *w = j->l->weight + r * j->l->cols;
        float widest = 0, best_scale = 0;
        double best = -1;
        for (int64_t c = 0; c < j->l->cols; c++) widest = fmaxf(widest, fabsf(w[c]));
        for (int64_t t = 0; t < j->tries; t++) {
            double part =
                j->tries > 1 ? 1 - (1 - j->shrink) * (double)t / (double)(j->tries - 1) : 1;
            float scale = half_round((float)part * widest / (float)(zero > 1 ? zero - 1 : 1));
            double error = 0;
            for (int64_t c = 0; c < j->l->cols; c++) {
                double d =
                    (double)w[c] - (double)scale * ((double)code_of(w[c], scale, zero) - zero);
                error += d * d * (j->weighted && j->l->xtx ? j->l->xtx[c * j->l->cols + c] : 1);
            }
            if (best < 0 || error < best) best = error, best_scale = scale;
        }
        j->scales[r] = best_scale;
        for (int64_t c = 0; c < j->l->cols; c++)
            j->codes[r * j->l->cols + c] = (uint8_t)code_of(w[c], best_scale, zero);
    }
}

static sqz_status old_linear(const sqz_host *host, void *self, void *subject, int64_t bits,
                             double shrink, int32_t weighted, int32_t steps, const char *remark)
{
    static const int64_t counts[] = {1, 8, 32};
    const sqz_linear *l = subject;
    const sqz_pool *pool = host->service(host, SQZ_POOL_1);
    const sqz_rng *rng = host->service(host, SQZ_RNG_1);
    const sqz_clock *clock = host->service(host, SQZ_CLOCK_1);
    (void)self;
    if (!pool || !rng || !clock || !SQZ_HAS(l, sqz_linear, note))
        return host->fail(host, SQZ_E_UNSUPPORTED, "old: a service of ABI 1.0 is missing");
    if (rng->bits(host, l->seed, "old", 1) != rng->bits(host, l->seed, "old", 1) ||
        clock->now_s(host) < 0 || pool->threads(host) < 1)
        return host->fail(host, SQZ_E_INTERNAL, "old: a service of ABI 1.0 does not keep its word");
    for (int64_t i = 0; i < l->rows * l->cols; i++)
        if (!isfinite(l->weight[i]))
            return sqz_failf(host, SQZ_E_NUMERIC, "old: %s holds NaN or infinity", l->module);
    if (host->tick(host, 0, l->module)) return SQZ_E_CANCELLED;
    size_t n = (size_t)(l->rows * l->cols);
    uint8_t *codes = malloc(n), *zeros = malloc((size_t)l->rows);
    float *scales = malloc((size_t)l->rows * sizeof *scales);
    sqz_status st =
        codes && zeros && scales ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "old: no memory");
    old_job job = {l, counts[steps], shrink, (int)bits, weighted, codes, scales};
    for (int64_t r = 0; r < l->rows && !st; r += 64) {
        if (host->tick(host, (double)r / (double)l->rows, l->module)) st = SQZ_E_CANCELLED;
        old_job part = job;
        sqz_linear rows = *l;
        rows.weight += r * l->cols;
        part.l = &rows;
        part.codes += r * l->cols;
        part.scales += r;
        if (!st) pool->parallel_for(host, l->rows - r < 64 ? l->rows - r : 64, 4, old_rows, &part);
    }
    if (!st) memset(zeros, 1 << (bits - 1), (size_t)l->rows);
    if (!st) st = l->set_affine(l, host, (int32_t)bits, l->cols, 1, codes, scales, zeros);
    if (!st && *remark) l->note(l, host, remark);
    free(codes);
    free(zeros);
    free(scales);
    return st;
}

static const sqz_method_steps old_steps = {sizeof old_steps, SQZ_PER_LINEAR, SQZ_STAT_XTX, 0,
                                           SQZ_FORM_INT_AFFINE};

/* ---- an evaluation: mean log-probability of a row's text
 * ------------------------------------------ */
#define EVAL_PARAMS(P) P(SQZ_INT, most, 64, 2, 4096, NULL, 0, "tokens of a row that are scored")
SQZ_CALL(old_eval, EVAL_PARAMS);

static sqz_status old_eval(const sqz_host *host, void *self, void *subject, int64_t most)
{
    const sqz_eval *e = subject;
    int64_t rows = e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows,
            used = 0;
    double sum = 0;
    (void)self;
    for (int64_t i = 0; i < rows; i++) {
        const char *text = e->rows->text(e->rows, i, "text");
        const int32_t *ids;
        int64_t n;
        if (host->tick(host, (double)i / (double)rows, "scoring")) return SQZ_E_CANCELLED;
        if (!text)
            return sqz_failf(host, SQZ_E_INVALID, "old: row %lld has no text", (long long)i + 1);
        sqz_status st = e->encode(e, text, 1, &ids, &n);
        if (st) return st;
        if (n > most) n = most;
        if (n > e->context_size) n = e->context_size;
        if (n < 2) continue;
        sqz_loglik q = {
            .context = ids, .n_context = 1, .continuation = ids + 1, .n_continuation = n - 1};
        if ((st = e->loglik(e, &q, 1))) return st;
        sum += q.logprob / (double)(n - 1);
        used++;
        e->item(e, i, -q.logprob / (double)(n - 1), NULL);
    }
    if (!used) return host->fail(host, SQZ_E_INVALID, "old: no row has two tokens");
    e->metric(e, "mean_logprob", sum / (double)used, -1, used);
    return SQZ_OK;
}

static int32_t old_match(const sqz_rows *rows)
{
    return rows->n_rows > 0 && rows->text(rows, 0, "text") ? 1 : 0;
}
static const sqz_eval_match old_matcher = {sizeof old_matcher, 0, old_match, "mean_logprob", 1, 0};

/* ---- a search: the points of the space in their fixed order
 * ---------------------------------------- */
typedef struct old_state {
    const sqz_space *space;
    sqz_points seen;
    double *x;
    int begun, done;
} old_state;

static sqz_status old_open(const sqz_host *host, void **self)
{
    *self = calloc(1, sizeof(old_state));
    return *self ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "old: no memory");
}

static void old_close(const sqz_host *host, void *self)
{
    old_state *s = self;
    (void)host;
    free(s->seen.x);
    free(s->x);
    free(s);
}

static sqz_status old_space(const sqz_host *host, void *self, const sqz_space *space)
{
    old_state *s = self;
    s->space = space;
    s->seen.n_dims = space->n_dims;
    s->x = calloc((size_t)space->n_dims + 1, sizeof *s->x);
    if (!s->x) return host->fail(host, SQZ_E_NOMEM, "old: no memory");
    sqz_space_first(space, s->x);
    sqz_space_settle(space, s->x);
    return SQZ_OK;
}

static sqz_status old_ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    old_state *s = self;
    if (s->begun && !s->done) s->done = !sqz_space_next(s->space, s->x);
    s->begun = 1;
    while (!s->done && sqz_points_has(&s->seen, s->x)) s->done = !sqz_space_next(s->space, s->x);
    if (s->done) return SQZ_SEARCH_EXHAUSTED;
    memcpy(x, s->x, (size_t)s->space->n_dims * sizeof *x);
    snprintf(why, (size_t)why_bytes, "next in order");
    return sqz_points_add(&s->seen, x) ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "old: no memory");
}

static sqz_status old_tell(const sqz_host *host, void *self, const double *x,
                           const double *objectives, int32_t feasible)
{
    old_state *s = self;
    (void)objectives, (void)feasible;
    return sqz_points_add(&s->seen, x) ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "old: no memory");
}

static const sqz_search old_search = {sizeof old_search, 0, old_space, old_ask, old_tell};

/* ---- description
 * ------------------------------------------------------------------------------------ */
static const void *method_extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) ? NULL : &old_steps;
}
static const void *eval_extension(const char *id)
{
    return strcmp(id, SQZ_EVAL_MATCH_1) ? NULL : &old_matcher;
}
static const void *search_extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) ? NULL : &old_search;
}

static const char *const tags[] = {"test", NULL};
static const sqz_agent agents[] = {
    {sizeof(sqz_agent), 1, "com.old.method", "method/1", "Old method", "built for ABI 1.0", "1.0.0",
     "MIT", tags, NULL, NULL, &old_linear_call, method_extension},
    {sizeof(sqz_agent), 1, "com.old.eval", "eval/1", "Old evaluation", "built for ABI 1.0", "1.0.0",
     "MIT", tags, NULL, NULL, &old_eval_call, eval_extension},
    {sizeof(sqz_agent), 1, "com.old.search", "search/1", "Old search", "built for ABI 1.0", "1.0.0",
     "MIT", tags, old_open, old_close, NULL, search_extension}};
static const sqz_plugin plugin = {
    sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 3, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
