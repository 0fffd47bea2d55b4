/* rope.c - rotary frequencies and the tables of cosines and sines.
 *
 * All kinds but `dynamic` and `longrope` have one fixed table that grows with the longest position
 * seen.  Dynamic NTK scaling depends on the length of the sequence once that exceeds the context,
 * and longrope takes its long factors once the original context is exceeded: like transformers,
 * each call rotates its new tokens for the length reached so far and leaves cached keys as they
 * are.  Rows of such sequences are made anew for each batch, behind the fixed ones.
 * Where sliding layers rotate by a base of their own, they have a second table.
 * Frequencies, angles, cosines and sines are float32, rounded after each operation as transformers
 * does: a last digit of a frequency is 500 of them in the angle at position 500, the same for every
 * sequence, and adds up over a text instead of cancelling. */
#include "model/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- frequencies -------------------------------------------------------------------------------
 * d: rotated entries of a head; f_i = theta^(-2i/d); O: original context; M: context. (formats 2.2)
 */
static float wave_base(float theta, int64_t i, int64_t d)
{
    return powf(theta, (float)(2 * i) / (float)d);
}

static void plain(double theta, int64_t d, float *freq)
{
    for (int64_t i = 0; i < d / 2; i++) freq[i] = 1 / wave_base((float)theta, i, d);
}

static void llama3(const rope_config *r, int64_t d, float *freq)
{
    double context = (double)r->original_context;
    float low = (float)(context / r->low_freq_factor),
          high = (float)(context / r->high_freq_factor);
    float factor = (float)r->factor, from = (float)r->low_freq_factor;
    float span = (float)(r->high_freq_factor - r->low_freq_factor);
    for (int64_t i = 0; i < d / 2; i++) {
        float f = freq[i], wave = (1 / f) * (float)(2 * M_PI);
        float s = ((1 / wave) * (float)context - from) / span;
        if (wave > low)
            f /= factor;
        else if (wave >= high)
            f = (1 - s) * f / factor + s * f;
        freq[i] = f;
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
        float ramp = fminf(fmaxf(((float)i - (float)lo) / (float)(hi - lo), 0), 1), keep = 1 - ramp;
        float stretched = 1 / ((float)r->factor * wave_base((float)r->theta, i, d));
        freq[i] = stretched * (1 - keep) + freq[i] * keep;
    }
}

static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double attention_scale(const rope_config *r)
{
    if (r->kind != ROPE_YARN && r->kind != ROPE_LONGROPE) return 1;
    if (r->attention_factor > 0) return r->attention_factor;
    if (r->kind == ROPE_LONGROPE)
        return r->factor <= 1 || r->original_context < 2
                   ? 1
                   : sqrt(1 + log(r->factor) / log((double)r->original_context));
    if (r->mscale > 0 && r->mscale_all_dim > 0)
        return yarn_scale(r->factor, r->mscale) / yarn_scale(r->factor, r->mscale_all_dim);
    return yarn_scale(r->factor, 1);
}

static void divided(const rope_config *r, const float *by, int64_t d, float *freq)
{
    for (int64_t i = 0; i < d / 2; i++) freq[i] = 1 / (by[i] * wave_base((float)r->theta, i, d));
}

/* Of a sequence that is longer than the fixed table is for. */
static void stretch(const model_config *c, int64_t length, float *freq)
{
    if (c->rope.kind == ROPE_LONGROPE) {
        divided(&c->rope, c->rope.long_factor, c->rotary, freq);
        return;
    }
    double d = (double)c->rotary, factor = c->rope.factor;
    float by = (float)factor * (float)length / (float)c->context - (float)(factor - 1);
    plain((float)c->rope.theta * powf(by, (float)(d / (d - 2))), c->rotary, freq);
}

static int has_local(const model_config *c)
{
    return c->rotary && c->local_theta > 0;
}

sqz_status rope_open(model *m, sqz_error *err)
{
    const model_config *c = &m->config;
    int64_t half = c->rotary / 2;
    for (int k = 0; k < ROPE_TABLES && c->rotary; k++) {
        m->rope[k].freq = malloc((size_t)half * 2 * sizeof(float));
        if (!m->rope[k].freq)
            return err_set(err, SQZ_E_NOMEM, "model: no memory for the rotary tables");
        plain(k == ROPE_LOCAL ? c->local_theta : c->rope.theta, c->rotary, m->rope[k].freq);
        m->rope[k].scale = 1;
        if (!has_local(c)) break;
    }
    if (!c->rotary) return SQZ_OK;
    float *freq = m->rope[ROPE_FULL].freq;
    if (c->rope.kind == ROPE_LINEAR)
        for (int64_t i = 0; i < half; i++) freq[i] /= (float)c->rope.factor;
    if (c->rope.kind == ROPE_LLAMA3) llama3(&c->rope, c->rotary, freq);
    if (c->rope.kind == ROPE_YARN) yarn(&c->rope, c->rotary, freq);
    if (c->rope.kind == ROPE_LONGROPE) divided(&c->rope, c->rope.short_factor, c->rotary, freq);
    m->rope[ROPE_FULL].scale = attention_scale(&c->rope);
    return SQZ_OK;
}

void rope_close(model *m)
{
    for (int k = 0; k < ROPE_TABLES; k++) {
        free(m->rope[k].freq);
        free(m->rope[k].stage);
        if (m->rope[k].cosines) m->hw->release(m->dev, m->rope[k].cosines);
        if (m->rope[k].sines) m->hw->release(m->dev, m->rope[k].sines);
        m->rope[k] = (rope_tables){0};
    }
}

sqz_status learned_check(const model *m, int64_t position, sqz_error *err)
{
    if (position < m->config.context) return SQZ_OK;
    return err_set(err, ERR_MODEL,
                   "position %lld: this model learned only %lld positions; use shorter windows or "
                   "prompts",
                   (long long)position, (long long)m->config.context);
}

/* ---- tables ---------------------------------------------------------------------------------- */
static sqz_status reserve(model *m, rope_tables *t, int64_t rows, sqz_error *err)
{
    if (rows <= t->capacity) return SQZ_OK;
    int64_t half = m->config.rotary / 2, capacity = 512;
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
static sqz_status fill(model *m, rope_tables *t, int64_t row, int64_t n, int64_t position,
                       const float *freq, sqz_error *err)
{
    int64_t half = m->config.rotary / 2;
    float scale = (float)t->scale;
    float *cosines = t->stage + row * half, *sines = cosines + t->capacity * half;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (float)(position + i) * freq[j];
            cosines[i * half + j] = (float)cos(angle) * scale;
            sines[i * half + j] = (float)sin(angle) * scale;
        }
    int64_t offset = row * half * (int64_t)sizeof(float);
    int64_t bytes = n * half * (int64_t)sizeof(float);
    sqz_mem c = {t->cosines, offset}, s = {t->sines, offset};
    sqz_status st = m->hw->upload(m->dev, &c, cosines, bytes);
    if (!st) st = m->hw->upload(m->dev, &s, sines, bytes);
    return st ? device_failed(m, st, "upload of the rotary tables", err) : SQZ_OK;
}

int rope_stretched(const model_config *c, int64_t length)
{
    if (c->rope.kind == ROPE_LONGROPE) return length > c->rope.original_context;
    return c->rope.kind == ROPE_DYNAMIC && length > c->context;
}

/* Whether sequence s can use the rows made for the one before it. */
static int same_rows(const batch *b, int64_t s)
{
    return s > 0 && b->length[s] == b->length[s - 1] && b->past[s] == b->past[s - 1] &&
           b->first[s + 1] - b->first[s] == b->first[s] - b->first[s - 1];
}

static int needs_own_rows(const model *m, const rope_tables *t, const batch *b, int64_t s)
{
    return t == &m->rope[ROPE_FULL] && rope_stretched(&m->config, b->length[s]);
}

static sqz_status fixed_rows(model *m, rope_tables *t, int64_t rows, int64_t extra, sqz_error *err)
{
    sqz_status st = reserve(m, t, rows + extra, err);
    if (st || rows <= t->rows) return st;
    /* Up to the capacity, so that a growing sequence does not come here at every step. */
    if (!extra) rows = t->capacity;
    st = fill(m, t, t->rows, rows - t->rows, t->rows, t->freq, err);
    if (!st) t->rows = rows;
    return st;
}

static sqz_status prepare_table(model *m, rope_tables *t, batch *b, int32_t *position,
                                sqz_error *err)
{
    int64_t fixed = t->rows, extra = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        int64_t n = b->first[s + 1] - b->first[s];
        if (!needs_own_rows(m, t, b, s)) {
            if (b->past[s] + n > fixed) fixed = b->past[s] + n;
        } else if (!same_rows(b, s)) {
            extra += n;
        }
    }
    sqz_status st = fixed_rows(m, t, fixed, extra, err);
    if (st) return st;
    int64_t next = t->rows, row = 0;
    float *freq = t->freq + m->config.rotary / 2;
    for (int64_t s = 0; s < b->sequences; s++) {
        int64_t n = b->first[s + 1] - b->first[s];
        if (!needs_own_rows(m, t, b, s)) {
            row = b->past[s];
        } else if (!same_rows(b, s)) {
            stretch(&m->config, b->length[s], freq);
            st = fill(m, t, next, n, b->past[s], freq, err);
            if (st) return st;
            row = next;
            next += n;
        }
        for (int64_t i = 0; i < n; i++) position[b->first[s] + i] = (int32_t)(row + i);
    }
    return SQZ_OK;
}

/* Rows of the learned table; it ends somewhere. */
static sqz_status learned_rows(const model *m, batch *b, sqz_error *err)
{
    for (int64_t s = 0; s < b->sequences; s++)
        for (int64_t t = b->first[s]; t < b->first[s + 1]; t++) {
            int64_t position = b->past[s] + t - b->first[s];
            sqz_status st = learned_check(m, position, err);
            if (st) return st;
            b->position[0][t] = (int32_t)(position + m->config.family->position_offset);
        }
    return SQZ_OK;
}

sqz_status rope_prepare(model *m, batch *b, sqz_error *err)
{
    if (!m->config.rotary) return learned_rows(m, b, err);
    sqz_status st = prepare_table(m, &m->rope[ROPE_FULL], b, b->position[ROPE_FULL], err);
    if (st || !has_local(&m->config)) return st;
    return prepare_table(m, &m->rope[ROPE_LOCAL], b, b->position[ROPE_LOCAL], err);
}
