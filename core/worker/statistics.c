/* statistics.c - second moments X^T X of the inputs of every linear, computed once per (model,
 * calibration, compute class), kept in the registry, and shared by every bit width, group size,
 * method and trial.
 *
 * Beside it, for methods that ask for it, the moments of the already quantized prefix, which belong
 * to one step and are never kept.
 *
 * One pass over the original model, a block at a time: memory is the hidden states of the
 * calibration, one block's weights and one block's matrices, whatever the depth.  On disk the upper
 * triangles, one safetensors object per block, and how many tokens each input saw: an expert sees
 * those that were routed to it, and its matrix is made when the first one comes. */
#include "io/disk.h"
#include "pool/pool.h"
#include "worker/tasks.h"
#include <stdlib.h>
#include <string.h>

/* Matrices of the block that is being accumulated, in device memory. */
typedef struct sum {
    char input[32];
    int64_t n, tokens;
    void *handle; /* NULL until a token came */
} sum;

typedef struct accumulator {
    const char *only; /* one input, or NULL for all */
    job_state *job;
    const device *device;
    int32_t compute;
    sum *sums;
    int64_t n;
    int64_t layer, layers;
    sqz_status status;
} accumulator;

static int64_t triangle(int64_t n)
{
    return n * (n + 1) / 2;
}

static sum *find_sum(const accumulator *a, const char *input)
{
    for (int64_t k = 0; k < a->n; k++)
        if (strcmp(a->sums[k].input, input) == 0) return &a->sums[k];
    return NULL;
}

static sqz_status begin_layer(accumulator *a, const model_config *c, int64_t layer, sqz_error *err)
{
    int64_t n = model_linear_count(c, layer);
    a->layer = layer;
    a->n = 0;
    a->sums = calloc((size_t)n, sizeof *a->sums);
    if (!a->sums) return err_set(err, SQZ_E_NOMEM, "no memory for the statistics of a block");
    for (int64_t i = 0; i < n; i++) {
        linear_spec spec;
        model_linear(c, layer, i, &spec);
        /* Linears that share an input follow one another. */
        if (i && strcmp(a->sums[a->n - 1].input, spec.input) == 0) continue;
        memcpy(a->sums[a->n].input, spec.input, sizeof spec.input);
        a->sums[a->n++].n = spec.cols;
    }
    return SQZ_OK;
}

static void end_layer(accumulator *a)
{
    for (int64_t k = 0; k < a->n; k++)
        if (a->sums[k].handle) a->device->hw->release(a->device->dev, a->sums[k].handle);
    free(a->sums);
    a->sums = NULL;
    a->n = 0;
}

static int capture(void *ctx, int64_t layer, const char *input, int64_t tokens, int64_t cols,
                   const sqz_mem *x)
{
    accumulator *a = ctx;
    (void)layer;
    sum *k = a->only && strcmp(a->only, input) != 0 ? NULL : find_sum(a, input);
    if (!k || k->n != cols) return 0;
    if (!k->handle) {
        size_t bytes = (size_t)(cols * cols) * sizeof(float);
        a->status = a->device->hw->alloc(a->device->dev, (int64_t)bytes, &k->handle);
        if (a->status) return 1;
        memset(a->device->hw->map(a->device->dev, k->handle), 0, bytes);
    }
    sqz_mem s = {k->handle, 0};
    k->tokens += tokens;
    a->status = a->device->hw->second_moment(a->device->dev, a->compute, tokens, cols, x, &s);
    return a->status != SQZ_OK;
}

static int pass_tick(void *ctx, double done, const char *what)
{
    accumulator *a = ctx;
    (void)what;
    char text[64];
    snprintf(text, sizeof text, "calibrating block %lld of %lld", (long long)a->layer + 1,
             (long long)a->layers);
    return job_tick(a->job, 0.6 * ((double)a->layer + done) / (double)a->layers, text);
}

/* The upper triangle, divided by the tokens. */
static sqz_status save_sum(const accumulator *a, const sum *k, st_writer *w, sqz_error *err)
{
    int64_t n = k->n;
    const float *s = a->device->hw->map(a->device->dev, k->handle);
    float scale = 1.0f / (float)k->tokens;
    float *packed = malloc((size_t)triangle(n) * sizeof *packed), *p = packed;
    if (!packed) return err_set(err, SQZ_E_NOMEM, "no memory to store statistics");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++) *p++ = s[i * n + j] * scale;
    sqz_status st =
        st_writer_write(w, k->input, packed, triangle(n) * (int64_t)sizeof *packed, err);
    free(packed);
    return st;
}

/* The block's matrices as one object: triangles of the inputs that came, tokens of all of them. */
static sqz_status save_layer(accumulator *a, char digest[DIGEST_TEXT], sqz_error *err)
{
    char *path = object_temp(a->job->registry);
    int64_t *tokens = calloc((size_t)a->n, sizeof *tokens), count[1] = {a->n};
    st_writer *w;
    sqz_status st = path && tokens ? st_writer_new(path, &w, err)
                                   : err_set(err, SQZ_E_NOMEM, "no memory to store statistics");
    if (st) {
        free(tokens);
        free(path);
        return st;
    }
    for (int64_t k = 0; k < a->n && !st; k++) {
        int64_t shape[1] = {triangle(a->sums[k].n)};
        tokens[k] = a->sums[k].tokens;
        if (tokens[k]) st = st_writer_declare(w, a->sums[k].input, SQZ_F32, 1, shape, err);
    }
    if (!st) st = st_writer_declare(w, "tokens", SQZ_I64, 1, count, err);
    if (!st) st = st_writer_write(w, "tokens", tokens, a->n * (int64_t)sizeof *tokens, err);
    for (int64_t k = 0; k < a->n && !st; k++)
        if (tokens[k]) st = save_sum(a, &a->sums[k], w, err);
    free(tokens);
    if (st)
        st_writer_abort(w);
    else
        st = st_writer_finish(w, err);
    if (!st) st = object_adopt(a->job->registry, path, digest, err);
    free(path);
    return st;
}

/* Experts that saw little: said once a block, before any method meets them. */
static void report_experts(const accumulator *a, int64_t tokens)
{
    int64_t none = 0, few = 0, experts = 0;
    for (int64_t k = 0; k < a->n; k++) {
        size_t n = strlen(a->sums[k].input);
        if (strncmp(a->sums[k].input, "expert.", 7) || strcmp(a->sums[k].input + n - 3, ".in"))
            continue;
        experts++;
        none += a->sums[k].tokens == 0;
        few += a->sums[k].tokens > 0 && a->sums[k].tokens < a->sums[k].n;
    }
    if (none || few)
        job_log(
            a->job, SQZ_LOG_WARN,
            "block %lld: of %lld experts %lld saw no calibration token and %lld fewer than they "
            "have input features (%lld tokens in all); calibrate with more text",
            (long long)a->layer, (long long)experts, (long long)none, (long long)few,
            (long long)tokens);
}

/* Windows from i on that have one length and go together, so that nothing is padded. */
static int64_t same_length(const calibration *c, int64_t i, int64_t *length)
{
    int64_t n = 1;
    *length = c->lengths ? c->lengths[i] : c->window;
    if (!c->lengths) return c->windows - i;
    while (i + n < c->windows && c->lengths[i + n] == *length) n++;
    return n;
}

static sqz_status run_embed(model *m, const calibration *c, int64_t hidden, float *states,
                            sqz_error *err)
{
    const int32_t *ids = c->ids;
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < c->windows && st == SQZ_OK;) {
        int64_t length, n = same_length(c, i, &length);
        st = model_embed(m, ids, n, length, states, err);
        ids += n * length;
        states += n * length * hidden;
        i += n;
    }
    return st;
}

/* One block over all windows. */
static sqz_status run_block(accumulator *a, model *m, const calibration *c, int64_t hidden,
                            float *states, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < c->windows && st == SQZ_OK;) {
        int64_t length, n = same_length(c, i, &length);
        st = model_block(m, a->layer, n, length, states, capture, a, err);
        states += n * length * hidden;
        i += n;
    }
    return st;
}

static sqz_status compute_layers(job_state *s, subject *subj, const calibration *c, cJSON *layers,
                                 sqz_error *err)
{
    model *m;
    sqz_status st = subject_model(subj, &m, err);
    if (st) return st;
    int64_t tokens = calibration_tokens(c), hidden = subj->config.hidden;
    st = disk_check("the calibration statistics of this model",
                    (double)model_moment_bytes(&subj->config), registry_dir(s->registry),
                    "`sqz registry gc` may free some, --registry names another disk, and a method "
                    "without calibration needs none",
                    err);
    if (st) return st;
    float *states = malloc((size_t)(tokens * hidden) * sizeof *states);
    if (!states)
        return err_set(err, SQZ_E_NOMEM,
                       "no memory for the hidden states of %lld calibration tokens",
                       (long long)tokens);
    accumulator a = {.job = s,
                     .device = &s->backend.device,
                     .compute = subj->compute,
                     .layers = subj->config.layers};
    model_set_tick(m, pass_tick, &a);
    st = run_embed(m, c, hidden, states, err);
    for (int64_t l = 0; l < subj->config.layers && !st; l++) {
        char digest[DIGEST_TEXT];
        st = begin_layer(&a, &subj->config, l, err);
        if (!st) st = run_block(&a, m, c, hidden, states, err);
        if (a.status)
            st = err_set(err, a.status,
                         "the backend could not accumulate the statistics of block %lld",
                         (long long)l);
        if (!st) st = save_layer(&a, digest, err);
        if (!st) report_experts(&a, tokens);
        if (!st) cJSON_AddItemToArray(layers, cJSON_CreateString(digest));
        end_layer(&a);
    }
    model_set_tick(m, NULL, NULL);
    free(states);
    return st;
}

/* What names the statistics.  The number in the schema goes up when the program computes other
 * bytes from the same inputs. */
static cJSON *statistics_inputs(job_state *s, subject *subj, const calibration *c)
{
    char class[96];
    backend_compute_class(&s->backend, subj->compute, class);
    cJSON *k = cJSON_CreateObject();
    cJSON_AddStringToObject(k, "schema", "sqz.second-moment/3");
    cJSON_AddStringToObject(k, "base", s->base);
    if (s->artifact[0]) cJSON_AddStringToObject(k, "artifact", s->artifact);
    cJSON_AddStringToObject(k, "calibration", c->digest);
    cJSON_AddStringToObject(k, "compute_class", class);
    return k;
}

/* A cached index counts only while every object it names is there. */
static int index_usable(job_state *s, const cJSON *index, int64_t layers)
{
    const cJSON *list = json_get(index, "layers"), *item;
    if (cJSON_GetArraySize(list) != layers) return 0;
    cJSON_ArrayForEach(item, list)
    {
        char *path = cJSON_IsString(item) ? object_path(s->registry, item->valuestring) : NULL;
        if (!path) return 0;
        free(path);
    }
    return 1;
}

sqz_status statistics_ensure(job_state *s, subject *subj, const calibration *c, statistics *out,
                             sqz_error *err)
{
    char key[SHA256_HEX];
    double start = clock_s();
    cJSON *inputs = statistics_inputs(s, subj, c);
    action_key(inputs, key);
    cJSON_Delete(inputs);
    cJSON *index = action_get(s->registry, key);
    if (index && index_usable(s, index, subj->config.layers)) {
        job_log(s, SQZ_LOG_INFO,
                "calibration statistics reused: %lld tokens, %lld blocks (key %.12s)",
                (long long)json_int(index, "tokens", 0), (long long)subj->config.layers, key);
        *out = (statistics){index, 1, clock_s() - start};
        return SQZ_OK;
    }
    cJSON_Delete(index);
    index = cJSON_CreateObject();
    json_add_num(index, "tokens", (double)calibration_tokens(c));
    cJSON *layers = cJSON_AddArrayToObject(index, "layers");
    sqz_status st = compute_layers(s, subj, c, layers, err);
    if (!st) st = action_put(s->registry, key, index, err);
    if (st) {
        cJSON_Delete(index);
        return st;
    }
    *out = (statistics){index, 0, clock_s() - start};
    job_log(s, SQZ_LOG_INFO,
            "calibration statistics computed: %lld tokens, %lld blocks, %.1f s (key %.12s)",
            (long long)calibration_tokens(c), (long long)subj->config.layers, out->seconds, key);
    return SQZ_OK;
}

void statistics_free(statistics *st)
{
    cJSON_Delete(st->index);
    st->index = NULL;
}

enum { TILE = 32 };
typedef struct unpack_job {
    const float *packed; /* upper triangle, row by row */
    float *m;            /* [n, n] */
    int64_t n;
} unpack_job;

/* Rows of the lower half are columns of the upper: in tiles. */
static void mirror_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const unpack_job *u = arg;
    int64_t n = u->n;
    (void)thread;
    for (int64_t i0 = begin * TILE; i0 < end * TILE && i0 < n; i0 += TILE)
        for (int64_t j0 = 0; j0 <= i0; j0 += TILE)
            for (int64_t i = i0; i < i0 + TILE && i < n; i++)
                for (int64_t j = j0; j < j0 + TILE && j < i; j++) u->m[i * n + j] = u->m[j * n + i];
}

static void unpack(const unpack_job *j)
{
    int64_t n = j->n;
    for (int64_t i = 0; i < n; i++)
        memcpy(j->m + i * n + i, j->packed + i * n - i * (i - 1) / 2,
               (size_t)(n - i) * sizeof *j->m);
    mirror_rows((void *)(uintptr_t)j, 0, (n + TILE - 1) / TILE, 0);
}

/* A block's object while it is read: what can be done at the same time, by number. */
enum { PROVE, BESIDE, UNPACK /* and following: one matrix each */ };
typedef struct reading {
    const st_file *file;
    char digest[DIGEST_TEXT]; /* of what was read */
    void (*beside)(void *);
    void *ctx;
    unpack_job *matrices;
} reading;

static void read_parts(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    reading *r = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (i == PROVE)
            sha256_buffer(r->file->map.data, (size_t)r->file->map.bytes, r->digest);
        else if (i == BESIDE && r->beside)
            r->beside(r->ctx);
        else if (i >= UNPACK)
            unpack(&r->matrices[i - UNPACK]);
}

static sqz_status find_moment(const st_tensor *t, moment *m, unpack_job *j, sqz_error *err)
{
    int64_t n = m->n;
    if (!t || t->dtype != SQZ_F32 || t->bytes != triangle(n) * (int64_t)sizeof(float))
        return err_set(err, ERR_STORAGE,
                       "a statistics object has the wrong shape; remove it with `sqz registry gc`");
    m->xtx = malloc((size_t)(n * n) * sizeof *m->xtx);
    if (!m->xtx)
        return err_set(err, SQZ_E_NOMEM, "no memory for a %lld x %lld matrix", (long long)n,
                       (long long)n);
    *j = (unpack_job){(const float *)(const void *)t->data, m->xtx, n}; /* the writer aligns */
    return SQZ_OK;
}

/* One input's record from the block's object. */
static sqz_status load_moment(const st_file *file, int64_t layer, const linear_spec *spec,
                              int64_t k, layer_statistics *out, unpack_job *matrix, int64_t *n,
                              sqz_error *err)
{
    const st_tensor *t = st_find(file, "tokens");
    if (!t || t->dtype != SQZ_I64 || t->bytes < (k + 1) * 8)
        return err_set(
            err, ERR_STORAGE,
            "a statistics object lacks its token counts; remove it with `sqz registry gc`");
    moment *m = &out->moments[k];
    memcpy(m->input, spec->input, sizeof m->input);
    m->n = spec->cols;
    m->id = (uint64_t)(layer + 1) << 32 | (uint64_t)(k + 1);
    memcpy(&m->tokens, (const uint8_t *)t->data + 8 * k, 8);
    out->n = k + 1;
    if (m->tokens <= 0) return SQZ_OK;
    sqz_status st = find_moment(st_find(file, spec->input), m, &matrix[*n], err);
    *n += st == SQZ_OK;
    return st;
}

/* The inputs of the block, their matrices made but not filled; *matrices of them hold data. */
static sqz_status list_moments(const subject *subj, const st_file *file, int64_t layer,
                               layer_statistics *out, unpack_job **matrix, int64_t *matrices,
                               sqz_error *err)
{
    int64_t n = model_linear_count(&subj->config, layer), k = 0;
    *matrix = calloc((size_t)n, sizeof **matrix);
    out->moments = calloc((size_t)n, sizeof *out->moments);
    if (!*matrix || !out->moments)
        return err_set(err, SQZ_E_NOMEM, "no memory for the statistics of a block");
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st; i++) {
        linear_spec spec;
        model_linear(&subj->config, layer, i, &spec);
        if (k && strcmp(out->moments[k - 1].input, spec.input) == 0) continue;
        st = load_moment(file, layer, &spec, k++, out, *matrix, matrices, err);
    }
    return st;
}

/* What is wrong with an object whose contents make no sense: its bytes, if they are not its name's.
 */
static sqz_status blame_object(const job_state *s, const char *digest, sqz_status st,
                               sqz_error *err)
{
    sqz_error why = {0};
    sqz_status bytes = object_verify(s->registry, digest, &why);
    if (bytes && err) *err = why;
    return bytes ? bytes : st;
}

sqz_status statistics_load(job_state *s, subject *subj, const statistics *stats, int64_t layer,
                           void (*beside)(void *), void *ctx, layer_statistics *out, sqz_error *err)
{
    const cJSON *name = cJSON_GetArrayItem(json_get(stats->index, "layers"), (int)layer);
    const char *digest = name->valuestring; /* index_usable has looked */
    reading r = {.beside = beside, .ctx = ctx};
    st_file *file = NULL;
    int64_t matrices = 0;
    char *path = object_path(s->registry, digest);
    memset(out, 0, sizeof *out);
    sqz_status st = path ? st_open(path, &file, err) : ERR_STORAGE;
    if (!st) st = list_moments(subj, file, layer, out, &r.matrices, &matrices, err);
    r.file = file;
    if (!st) {
        pool_for(UNPACK + matrices, 1, read_parts, &r);
        if (strcmp(r.digest, digest) != 0)
            st = err_set(err, ERR_STORAGE, "object %s changed while it was read", digest);
    } else if (beside) {
        beside(ctx);
    }
    if (st && st != SQZ_E_NOMEM) st = blame_object(s, digest, st, err);
    st_close(file);
    free(path);
    free(r.matrices);
    if (st) layer_statistics_free(out);
    return st;
}

void layer_statistics_free(layer_statistics *ls)
{
    for (int64_t i = 0; i < ls->n; i++) free(ls->moments[i].xtx);
    free(ls->moments);
    *ls = (layer_statistics){0};
}

const moment *layer_statistics_find(const layer_statistics *ls, const char *input)
{
    for (int64_t i = 0; i < ls->n; i++)
        if (strcmp(ls->moments[i].input, input) == 0) return &ls->moments[i];
    return NULL;
}

/* ---- the quantized prefix (true-sequential) ---------------------------------------------------
 */

struct prefix {
    accumulator sums;
    subject *subject;
    const calibration *windows;
    weight_overlay overlay; /* fresh results first, then the subject's */
    prefix_results fresh;
    model *model;
    float *states, *tried; /* hidden states before the block; a copy that a trial pass uses up */
};

static int prefix_linear(void *impl, const char *module, sqz_weight *out, sqz_error *err)
{
    const prefix *p = impl;
    const sqz_affine *a = p->fresh.find(p->fresh.ctx, module);
    if (!a) return subject_linear(p->subject, module, out, err);
    *out = (sqz_weight){.struct_size = sizeof *out,
                        .form = SQZ_FORM_INT_AFFINE,
                        .rows = a->rows,
                        .cols = a->cols,
                        .affine = a};
    return 1;
}

static void prefix_linear_done(void *impl, const char *module)
{
    const prefix *p = impl;
    if (!p->fresh.find(p->fresh.ctx, module)) subject_linear_done(p->subject, module);
}

sqz_status prefix_open(job_state *s, subject *subj, const calibration *c, prefix_results fresh,
                       prefix **out, sqz_error *err)
{
    if (subj->config.experts)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "true_sequential is not built for models with routed experts");
    size_t bytes = (size_t)(calibration_tokens(c) * subj->config.hidden) * sizeof(float);
    prefix *p = calloc(1, sizeof *p);
    if (p) p->states = malloc(bytes);
    if (p) p->tried = malloc(bytes);
    if (!p || !p->states || !p->tried) {
        prefix_close(p);
        return err_set(err, SQZ_E_NOMEM, "no memory for the hidden states of the calibration");
    }
    p->sums = (accumulator){.job = s,
                            .device = &s->backend.device,
                            .compute = subj->compute,
                            .layers = subj->config.layers};
    p->subject = subj;
    p->windows = c;
    p->fresh = fresh;
    p->overlay = (weight_overlay){p, prefix_linear, prefix_linear_done};
    model_options o = {.device = s->backend.device,
                       .compute = subj->compute,
                       .overlay = &p->overlay,
                       .batch_tokens = subj->options.batch_tokens};
    sqz_status st = model_open(subj->checkpoint, &o, &p->model, err);
    if (!st) st = run_embed(p->model, c, subj->config.hidden, p->states, err);
    if (st)
        prefix_close(p);
    else
        *out = p;
    return st;
}

void prefix_close(prefix *p)
{
    if (!p) return;
    if (p->model) model_close(p->model);
    free(p->states);
    free(p->tried);
    free(p);
}

/* The sum of `input`, full and divided by the tokens. */
static sqz_status take_moment(accumulator *a, const sum *k, moment *m, sqz_error *err)
{
    int64_t n = k->n;
    m->n = n;
    m->tokens = k->tokens;
    memcpy(m->input, k->input, sizeof m->input);
    m->id = (uint64_t)(a->layer + 1) << 32 | (uint64_t)(k - a->sums + 1);
    if (!k->tokens) return SQZ_OK;
    m->xtx = malloc((size_t)(n * n) * sizeof *m->xtx);
    if (!m->xtx) return err_set(err, SQZ_E_NOMEM, "no memory for the statistics of a linear");
    const float *s = a->device->hw->map(a->device->dev, k->handle);
    float scale = 1.0f / (float)k->tokens;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++) m->xtx[i * n + j] = s[i * n + j] * scale;
    pool_for((n + TILE - 1) / TILE, 1, mirror_rows, &(unpack_job){NULL, m->xtx, n});
    return SQZ_OK;
}

sqz_status prefix_statistics(prefix *p, int64_t layer, const char *input, layer_statistics *out,
                             sqz_error *err)
{
    int64_t hidden = p->subject->config.hidden;
    accumulator *a = &p->sums;
    memcpy(p->tried, p->states, (size_t)(calibration_tokens(p->windows) * hidden) * sizeof(float));
    memset(out, 0, sizeof *out);
    a->only = input;
    sqz_status st = begin_layer(a, &p->subject->config, layer, err);
    if (!st) st = run_block(a, p->model, p->windows, hidden, p->tried, err);
    if (a->status)
        st =
            err_set(err, a->status, "the backend could not accumulate the statistics of block %lld",
                    (long long)layer);
    const sum *k = st ? NULL : find_sum(a, input);
    if (k) out->moments = calloc(1, sizeof *out->moments);
    if (k && !out->moments) st = err_set(err, SQZ_E_NOMEM, "no memory for statistics");
    if (k && !st) {
        out->n = 1;
        st = take_moment(a, k, out->moments, err);
    }
    end_layer(a);
    if (st) layer_statistics_free(out);
    return st;
}

sqz_status prefix_advance(prefix *p, int64_t layer, sqz_error *err)
{
    p->sums.only = "";
    p->sums.layer = layer;
    return run_block(&p->sums, p->model, p->windows, p->subject->config.hidden, p->states, err);
}
