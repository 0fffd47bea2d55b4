/* rope.c - rotary frequencies and the tables of cosines and sines.
 *
 * All kinds but `dynamic` have one fixed table that grows with the longest position seen.  Dynamic
 * NTK scaling depends on the length of the sequence once that exceeds the context: like
 * transformers, each call rotates its new tokens for the length reached so far and leaves cached
 * keys as they are.  Rows of such sequences are made anew for each batch, behind the fixed ones.
 * Angles are float32 products and cos/sin float32 values, as in transformers. */
#include "model/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- frequencies -------------------------------------------------------------------------------
 * d: head_dim; f_i = theta^(-2i/d); O: original context; M: context.  (formats 2.2) */
static void plain(double theta, int64_t d, float *freq)
{
    for (int64_t i = 0; i < d / 2; i++)
        freq[i] = (float)(1.0 / pow(theta, (double)(2 * i) / (double)d));
}

static void llama3(const rope_config *r, int64_t d, float *freq)
{
    double context = (double)r->original_context;
    double low = context / r->low_freq_factor, high = context / r->high_freq_factor;
    for (int64_t i = 0; i < d / 2; i++) {
        double f = freq[i], wave = 2 * M_PI / f;
        double s =
            (context / wave - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        if (wave > low)
            f /= r->factor;
        else if (wave >= high)
            f = (1 - s) * f / r->factor + s * f;
        freq[i] = (float)f;
    }
}

/* The dimension whose wavelength makes `rotations` turns within the original context. */
static double yarn_dim(const rope_config *r, int64_t d, double rotations)
{
    return (double)d * log((double)r->original_context / (rotations * 2 * M_PI)) /
           (2 * log(r->theta));
}

static void yarn(const rope_config *r, int64_t d, float *freq)
{
    double lo = yarn_dim(r, d, r->beta_fast), hi = yarn_dim(r, d, r->beta_slow);
    if (r->truncate) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0);
    hi = fmin(hi, (double)(d - 1));
    if (lo == hi) hi += 0.001;
    for (int64_t i = 0; i < d / 2; i++) {
        double ramp = fmin(fmax(((double)i - lo) / (hi - lo), 0), 1);
        freq[i] = (float)(freq[i] / r->factor * ramp + freq[i] * (1 - ramp));
    }
}

static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double attention_scale(const rope_config *r)
{
    if (r->kind != ROPE_YARN) return 1;
    if (r->attention_factor > 0) return r->attention_factor;
    if (r->mscale > 0 && r->mscale_all_dim > 0)
        return yarn_scale(r->factor, r->mscale) / yarn_scale(r->factor, r->mscale_all_dim);
    return yarn_scale(r->factor, 1);
}

static void dynamic(const model_config *c, int64_t length, float *freq)
{
    double d = (double)c->head_dim, factor = c->rope.factor;
    double stretch = factor * (double)length / (double)c->context - (factor - 1);
    plain(c->rope.theta * pow(stretch, d / (d - 2)), c->head_dim, freq);
}

sqz_status rope_open(model *m, sqz_error *err)
{
    const model_config *c = &m->config;
    int64_t half = c->head_dim / 2;
    m->rope.freq = malloc((size_t)half * 2 * sizeof(float));
    if (!m->rope.freq) return err_set(err, SQZ_E_NOMEM, "model: no memory for the rotary tables");
    plain(c->rope.theta, c->head_dim, m->rope.freq);
    if (c->rope.kind == ROPE_LINEAR)
        for (int64_t i = 0; i < half; i++)
            m->rope.freq[i] = (float)(m->rope.freq[i] / c->rope.factor);
    if (c->rope.kind == ROPE_LLAMA3) llama3(&c->rope, c->head_dim, m->rope.freq);
    if (c->rope.kind == ROPE_YARN) yarn(&c->rope, c->head_dim, m->rope.freq);
    m->rope.scale = attention_scale(&c->rope);
    return SQZ_OK;
}

void rope_close(model *m)
{
    free(m->rope.freq);
    free(m->rope.stage);
    if (m->rope.cosines) m->hw->release(m->dev, m->rope.cosines);
    if (m->rope.sines) m->hw->release(m->dev, m->rope.sines);
    m->rope = (rope_tables){0};
}

/* ---- tables ---------------------------------------------------------------------------------- */
static sqz_status reserve(model *m, int64_t rows, sqz_error *err)
{
    rope_tables *t = &m->rope;
    if (rows <= t->capacity) return SQZ_OK;
    int64_t half = m->config.head_dim / 2, capacity = 512;
    while (capacity < rows) capacity *= 2;
    if (t->cosines) m->hw->release(m->dev, t->cosines);
    if (t->sines) m->hw->release(m->dev, t->sines);
    free(t->stage);
    t->cosines = t->sines = NULL;
    t->capacity = t->rows = 0;
    int64_t bytes = capacity * half * (int64_t)sizeof(float);
    t->stage = malloc((size_t)bytes * 2);
    if (!t->stage)
        return err_set(err, SQZ_E_NOMEM, "model: no memory for %lld rotary positions",
                       (long long)capacity);
    sqz_status st = m->hw->alloc(m->dev, bytes, &t->cosines);
    if (!st) st = m->hw->alloc(m->dev, bytes, &t->sines);
    if (st) return device_failed(m, st, "memory for the rotary tables", err);
    t->capacity = capacity;
    return SQZ_OK;
}

/* Table rows row .. row + n - 1 for positions from `position`. */
static sqz_status fill(model *m, int64_t row, int64_t n, int64_t position, const float *freq,
                       sqz_error *err)
{
    rope_tables *t = &m->rope;
    int64_t half = m->config.head_dim / 2;
    float *cosines = t->stage + row * half, *sines = cosines + t->capacity * half;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (float)(position + i) * freq[j];
            cosines[i * half + j] = (float)((float)cos(angle) * t->scale);
            sines[i * half + j] = (float)((float)sin(angle) * t->scale);
        }
    int64_t offset = row * half * (int64_t)sizeof(float);
    int64_t bytes = n * half * (int64_t)sizeof(float);
    sqz_mem c = {t->cosines, offset}, s = {t->sines, offset};
    sqz_status st = m->hw->upload(m->dev, &c, cosines, bytes);
    if (!st) st = m->hw->upload(m->dev, &s, sines, bytes);
    return st ? device_failed(m, st, "upload of the rotary tables", err) : SQZ_OK;
}

static int stretched(const model *m, int64_t length)
{
    return m->config.rope.kind == ROPE_DYNAMIC && length > m->config.context;
}

/* Whether sequence s can use the rows made for the one before it. */
static int same_rows(const batch *b, int64_t s)
{
    return s > 0 && b->length[s] == b->length[s - 1] && b->past[s] == b->past[s - 1] &&
           b->first[s + 1] - b->first[s] == b->first[s] - b->first[s - 1];
}

sqz_status rope_prepare(model *m, batch *b, sqz_error *err)
{
    int64_t fixed = m->rope.rows, extra = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        int64_t n = b->first[s + 1] - b->first[s];
        if (!stretched(m, b->length[s])) {
            if (b->past[s] + n > fixed) fixed = b->past[s] + n;
        } else if (!same_rows(b, s)) {
            extra += n;
        }
    }
    sqz_status st = reserve(m, fixed + extra, err);
    if (st) return st;
    if (fixed > m->rope.rows) {
        /* Up to the capacity, so that a growing sequence does not come here at every step. */
        if (!extra) fixed = m->rope.capacity;
        st = fill(m, m->rope.rows, fixed - m->rope.rows, m->rope.rows, m->rope.freq, err);
        if (st) return st;
        m->rope.rows = fixed;
    }
    int64_t next = m->rope.rows, row = 0;
    float *freq = m->rope.freq + m->config.head_dim / 2;
    for (int64_t s = 0; s < b->sequences; s++) {
        int64_t n = b->first[s + 1] - b->first[s];
        if (!stretched(m, b->length[s])) {
            row = b->past[s];
        } else if (!same_rows(b, s)) {
            dynamic(&m->config, b->length[s], freq);
            st = fill(m, next, n, b->past[s], freq, err);
            if (st) return st;
            row = next;
            next += n;
        }
        for (int64_t i = 0; i < n; i++) b->position[b->first[s] + i] = (int32_t)(row + i);
    }
    return SQZ_OK;
}
