/* experts.c - the routed MLP: a router chooses a few experts for every token, each expert runs on
 * the tokens that chose it, and their weighted outputs are added to the residual stream.
 *
 * The router's probabilities are a softmax over all experts; the chosen ones are the largest, ties
 * going to the lower number.  Experts run one after another in the order of their numbers, so that
 * sums come out the same on every run. */
#include "model/internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct routing {
    int64_t rows;
    int32_t *expert; /* [rows, experts_per_token] */
    float *share;    /* of the same */
    float *order;    /* [experts] probabilities of one row */
    int64_t *row;    /* [rows] that chose the running expert */
    float *weight;   /* [rows] */
} routing;

void experts_close(model *m)
{
    routing *r = m->routing;
    if (!r) return;
    free(r->expert);
    free(r->share);
    free(r->order);
    free(r->row);
    free(r->weight);
    free(r);
    m->routing = NULL;
}

static sqz_status routing_ensure(model *m, int64_t rows, sqz_error *err)
{
    const model_config *c = &m->config;
    if (m->routing && m->routing->rows >= rows) return SQZ_OK;
    experts_close(m);
    routing *r = m->routing = calloc(1, sizeof *r);
    size_t n = (size_t)rows, chosen = n * (size_t)c->experts_per_token;
    if (r) {
        r->rows = rows;
        r->expert = malloc(chosen * sizeof *r->expert);
        r->share = malloc(chosen * sizeof *r->share);
        r->order = malloc((size_t)c->experts * sizeof *r->order);
        r->row = malloc(n * sizeof *r->row);
        r->weight = malloc(n * sizeof *r->weight);
    }
    if (r && r->expert && r->share && r->order && r->row && r->weight) return SQZ_OK;
    experts_close(m);
    return err_set(err, SQZ_E_NOMEM, "model: no memory to route %lld tokens", (long long)rows);
}

/* The experts of one token and their shares, from the router's logits. */
static void choose(const model_config *c, const float *logits, float *p, int32_t *expert,
                   float *share)
{
    double top = logits[0], total = 0, kept = 0;
    for (int64_t e = 1; e < c->experts; e++) top = fmax(top, (double)logits[e]);
    for (int64_t e = 0; e < c->experts; e++) {
        p[e] = expf((float)(logits[e] - top));
        if (!(p[e] >= 0)) p[e] = 0; /* of NaN: the choice stays one of different experts */
        total += p[e];
    }
    for (int64_t k = 0; k < c->experts_per_token; k++) {
        int64_t best = 0;
        for (int64_t e = 1; e < c->experts; e++)
            if (p[e] > p[best]) best = e;
        expert[k] = (int32_t)best;
        share[k] = (float)(p[best] / total);
        kept += share[k];
        p[best] = -1;
    }
    for (int64_t k = 0; k < c->experts_per_token && c->norm_topk; k++)
        share[k] = (float)(share[k] / kept);
}

static sqz_status route(model *m, int64_t layer, int64_t n, sqz_mem y, sqz_error *err)
{
    const model_config *c = &m->config;
    sqz_mem at = forward_region(m, m->arena.route);
    sqz_status st = routing_ensure(m, n, err);
    if (!st) st = forward_linear(m, layer, SLOT_ROUTER, n, y, at, 0, err);
    if (st) return st;
    const float *logits = device_read(m, &at, n * c->experts, err);
    if (!logits) return SQZ_E_DEVICE;
    routing *r = m->routing;
    for (int64_t t = 0; t < n; t++)
        choose(c, logits + t * c->experts, r->order, r->expert + t * c->experts_per_token,
               r->share + t * c->experts_per_token);
    return SQZ_OK;
}

/* Tokens that chose expert e. */
static int64_t members(const model *m, int64_t n, int64_t e)
{
    routing *r = m->routing;
    int64_t k = m->config.experts_per_token, count = 0;
    for (int64_t i = 0; i < n * k; i++) {
        if (r->expert[i] != e) continue;
        r->row[count] = i / k;
        r->weight[count++] = r->share[i];
    }
    return count;
}

static int captured(model_capture capture, void *ctx, int64_t layer, int64_t expert,
                    const char *what, int64_t n, int64_t cols, const sqz_mem *x)
{
    char input[32];
    if (!capture) return 0;
    snprintf(input, sizeof input, "expert.%lld.%s", (long long)expert, what);
    return capture(ctx, layer, input, n, cols, x);
}

static sqz_status run_expert(model *m, int64_t layer, int64_t e, int64_t n, sqz_mem y, sqz_mem x,
                             model_capture capture, void *ctx, sqz_error *err)
{
    const model_config *c = &m->config;
    const routing *r = m->routing;
    int64_t slot = SLOT_EXPERT + 3 * e;
    sqz_mem in = forward_region(m, m->arena.routed), gate = forward_region(m, m->arena.gate);
    sqz_mem up = forward_region(m, m->arena.up);
    int stopped;
    sqz_status st = m->hw->gather(m->dev, n, c->hidden, r->row, &y, &in);
    if (st) return device_failed(m, st, "gather", err);
    stopped = captured(capture, ctx, layer, e, "in", n, c->hidden, &in);
    if (!stopped) st = forward_linear(m, layer, slot, n, in, gate, 0, err);
    if (!stopped && !st) st = forward_linear(m, layer, slot + 1, n, in, up, 0, err);
    if (st) return st;
    if (!stopped) st = m->hw->gate(m->dev, c->act, n * c->expert_ffn, &gate, &up, &gate);
    if (st) return device_failed(m, st, "gate", err);
    if (!stopped) stopped = captured(capture, ctx, layer, e, "mid", n, c->expert_ffn, &gate);
    if (stopped)
        return err_set(err, SQZ_E_CANCELLED, "stopped while recording expert %lld", (long long)e);
    st = forward_linear(m, layer, slot + 2, n, gate, in, 0, err);
    if (st) return st;
    st = m->hw->scatter(m->dev, n, c->hidden, r->row, r->weight, &in, &x);
    return st ? device_failed(m, st, "scatter", err) : SQZ_OK;
}

sqz_status experts_forward(model *m, int64_t layer, int64_t n, sqz_mem y, sqz_mem x,
                           model_capture capture, void *ctx, sqz_error *err)
{
    sqz_status st = route(m, layer, n, y, err);
    for (int64_t e = 0; e < m->config.experts && !st; e++) {
        int64_t count = members(m, n, e);
        if (count) st = run_expert(m, layer, e, count, y, x, capture, ctx, err);
    }
    return st;
}
