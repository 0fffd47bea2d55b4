/* statistics.c - second moments X^T X of the inputs of every linear, computed once per (model,
 * calibration, compute class), kept in the registry, and shared by every bit width, group size,
 * method and trial.
 *
 * One pass over the original model, a block at a time: memory is the hidden states of the
 * calibration, one block's weights and one block's matrices, whatever the depth.  On disk the upper
 * triangles, one safetensors object per block. */
#include "io/disk.h"
#include "pool/pool.h"
#include "worker/tasks.h"
#include <stdlib.h>
#include <string.h>

/* Matrices of the block that is being accumulated, in device memory. */
typedef struct accumulator {
    job_state *job;
    const device *device;
    int32_t compute;
    struct {
        const char *input;
        int64_t n;
        void *handle;
    } sums[MODEL_MAX_LINEARS];
    int n;
    int64_t layer, layers;
    sqz_status status;
} accumulator;

static int64_t triangle(int64_t n)
{
    return n * (n + 1) / 2;
}

static sqz_status begin_layer(accumulator *a, const model_config *c, int64_t layer, sqz_error *err)
{
    linear_spec specs[MODEL_MAX_LINEARS];
    int n_specs = model_linears(c, layer, specs);
    a->layer = layer;
    a->n = 0;
    for (int i = 0; i < n_specs; i++) {
        int known = 0;
        for (int k = 0; k < a->n; k++) known |= strcmp(a->sums[k].input, specs[i].input) == 0;
        if (known) continue;
        int64_t n = specs[i].cols, bytes = n * n * (int64_t)sizeof(float);
        void *handle;
        if (a->device->hw->alloc(a->device->dev, bytes, &handle))
            return err_set(err, SQZ_E_NOMEM, "no memory for the statistics of block %lld (%lld MB)",
                           (long long)layer, (long long)(bytes >> 20));
        memset(a->device->hw->map(a->device->dev, handle), 0, (size_t)bytes);
        a->sums[a->n].input = specs[i].input;
        a->sums[a->n].n = n;
        a->sums[a->n++].handle = handle;
    }
    return SQZ_OK;
}

static void end_layer(accumulator *a)
{
    for (int k = 0; k < a->n; k++) a->device->hw->release(a->device->dev, a->sums[k].handle);
    a->n = 0;
}

static int capture(void *ctx, int64_t layer, const char *input, int64_t tokens, int64_t cols,
                   const sqz_mem *x)
{
    accumulator *a = ctx;
    (void)layer;
    for (int k = 0; k < a->n; k++) {
        if (strcmp(a->sums[k].input, input) != 0 || a->sums[k].n != cols) continue;
        sqz_mem s = {a->sums[k].handle, 0};
        a->status = a->device->hw->second_moment(a->device->dev, a->compute, tokens, cols, x, &s);
        return a->status != SQZ_OK;
    }
    return 0;
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

/* The block's matrices as one object: upper triangles, divided by the tokens. */
static sqz_status save_layer(accumulator *a, int64_t tokens, char digest[DIGEST_TEXT],
                             sqz_error *err)
{
    char *path = object_temp(a->job->registry);
    st_writer *w;
    sqz_status st = st_writer_new(path, &w, err);
    for (int k = 0; k < a->n && !st; k++) {
        int64_t shape[1] = {triangle(a->sums[k].n)};
        st = st_writer_declare(w, a->sums[k].input, SQZ_F32, 1, shape, err);
    }
    float scale = 1.0f / (float)tokens;
    for (int k = 0; k < a->n && !st; k++) {
        int64_t n = a->sums[k].n;
        const float *s = a->device->hw->map(a->device->dev, a->sums[k].handle);
        float *packed = malloc((size_t)triangle(n) * sizeof *packed), *p = packed;
        if (!packed) {
            st = err_set(err, SQZ_E_NOMEM, "no memory to store statistics");
            break;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i; j < n; j++) *p++ = s[i * n + j] * scale;
        st = st_writer_write(w, a->sums[k].input, packed, triangle(n) * (int64_t)sizeof *packed,
                             err);
        free(packed);
    }
    if (st)
        st_writer_abort(w);
    else
        st = st_writer_finish(w, err);
    if (!st) st = object_adopt(a->job->registry, path, digest, err);
    free(path);
    return st;
}

/* One block over all windows; those of one length go together, so that nothing is padded. */
static sqz_status run_block(accumulator *a, model *m, const calibration *c, int64_t hidden,
                            float *states, sqz_error *err)
{
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < c->windows && st == SQZ_OK;) {
        int64_t length = c->lengths ? c->lengths[i] : c->window, n = 1;
        if (!c->lengths) n = c->windows;
        while (c->lengths && i + n < c->windows && c->lengths[i + n] == length) n++;
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
    st = model_embed(m, c->ids, tokens, states, err);
    for (int64_t l = 0; l < subj->config.layers && !st; l++) {
        char digest[DIGEST_TEXT];
        st = begin_layer(&a, &subj->config, l, err);
        if (!st) st = run_block(&a, m, c, hidden, states, err);
        if (a.status)
            st = err_set(err, a.status,
                         "the backend could not accumulate the statistics of block %lld",
                         (long long)l);
        if (!st) st = save_layer(&a, tokens, digest, err);
        if (!st) cJSON_AddItemToArray(layers, cJSON_CreateString(digest));
        end_layer(&a);
    }
    model_set_tick(m, NULL, NULL);
    free(states);
    return st;
}

static cJSON *statistics_inputs(job_state *s, subject *subj, const calibration *c)
{
    char class[96];
    backend_compute_class(&s->backend, subj->compute, class);
    cJSON *k = cJSON_CreateObject();
    cJSON_AddStringToObject(k, "schema", "sqz.second-moment/1");
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

int64_t statistics_tokens(const statistics *st)
{
    return json_int(st->index, "tokens", 0);
}

enum { TILE = 32 };
typedef struct unpack_job {
    const float *packed; /* upper triangle, row by row */
    float *m;            /* [n, n] */
    int64_t n;
} unpack_job;

static void unpack_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const unpack_job *j = arg;
    int64_t n = j->n;
    (void)thread;
    for (int64_t i = begin * TILE; i < end * TILE && i < n; i++)
        memcpy(j->m + i * n + i, j->packed + i * n - i * (i - 1) / 2,
               (size_t)(n - i) * sizeof *j->m);
}

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

static sqz_status unpack_moment(const st_tensor *t, int64_t n, float **out, sqz_error *err)
{
    if (!t || t->dtype != SQZ_F32 || t->bytes != triangle(n) * (int64_t)sizeof(float))
        return err_set(err, ERR_STORAGE,
                       "a statistics object has the wrong shape; remove it with `sqz registry gc`");
    float *m = malloc((size_t)(n * n) * sizeof *m);
    if (!m)
        return err_set(err, SQZ_E_NOMEM, "no memory for a %lld x %lld matrix", (long long)n,
                       (long long)n);
    unpack_job j = {(const float *)(const void *)t->data, m, n}; /* the writer aligns tensors */
    pool_for((n + TILE - 1) / TILE, 1, unpack_rows, &j);
    pool_for((n + TILE - 1) / TILE, 1, mirror_rows, &j);
    *out = m;
    return SQZ_OK;
}

sqz_status statistics_load(job_state *s, subject *subj, const statistics *stats, int64_t layer,
                           layer_statistics *out, sqz_error *err)
{
    linear_spec specs[MODEL_MAX_LINEARS];
    int n_specs = model_linears(&subj->config, layer, specs);
    const cJSON *digest = cJSON_GetArrayItem(json_get(stats->index, "layers"), (int)layer);
    memset(out, 0, sizeof *out);
    sqz_status st = object_verify(s->registry, digest->valuestring, err);
    if (st) return st;
    char *path = object_path(s->registry, digest->valuestring);
    st_file *file;
    st = st_open(path, &file, err);
    free(path);
    if (st) return st;
    for (int i = 0; i < n_specs && !st; i++) {
        if (layer_statistics_find(out, specs[i].input)) continue;
        moment *m = &out->moments[out->n];
        st = unpack_moment(st_find(file, specs[i].input), specs[i].cols, &m->xtx, err);
        if (st) break;
        m->input = specs[i].input;
        m->n = specs[i].cols;
        m->id = (uint64_t)(layer + 1) << 32 | (uint64_t)++out->n;
    }
    st_close(file);
    if (st) layer_statistics_free(out);
    return st;
}

void layer_statistics_free(layer_statistics *ls)
{
    for (int i = 0; i < ls->n; i++) free(ls->moments[i].xtx);
    ls->n = 0;
}

const moment *layer_statistics_find(const layer_statistics *ls, const char *input)
{
    for (int i = 0; i < ls->n; i++)
        if (strcmp(ls->moments[i].input, input) == 0) return &ls->moments[i];
    return NULL;
}
