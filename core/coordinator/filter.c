/* filter.c - the proxy rung: which candidates are worth the full evaluation.
 *
 * Both tests can only drop a candidate, never prefer one:
 *   accuracy    on the subset, item by item against the dense model: dropped when the drop is over
 * its limit even at the optimistic end of the confidence interval divergence  dropped when a fully
 * evaluated candidate is no larger and its divergence from the dense model is smaller by a factor
 * of SLACK at the unfavourable ends of both intervals. Divergence ranks bad compressions well and
 * near-lossless ones not at all, so candidates under NOISE_FLOOR always pass; when it stops
 * agreeing with measured quality (rank correlation under 0.6 over 20 trials) it is not used any
 * more. */
#include "coordinator/state.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double SLACK = 2;
static const double NOISE_FLOOR = 0.01; /* nats a token */
enum { FEWEST_ITEMS = 16, PAIRS = 20 };

static int drops_accuracy(const run *r, const trial *t, double z, char *why, size_t bytes)
{
    const char *dataset = r->config->datasets[0].name;
    const cJSON *m0 = json_get(r->baseline.json, "metrics");
    paired p = judge_paired(r, judge_items(&r->baseline, "full", dataset),
                            judge_items(t, "proxy", dataset));
    double limit = spec_num(r->spec, "max_accuracy_drop", INFINITY);
    if (p.n < FEWEST_ITEMS) return 0;
    int higher = json_bool(m0, "quality_higher_is_better", 1);
    double drop = higher ? -p.mean - z * p.stderr_ : exp(p.mean - z * p.stderr_) - 1;
    if (!(drop > limit)) return 0;
    snprintf(why, bytes,
             "on %lld items it loses at least %.3f (limit %.3f), so the full evaluation "
             "would not save it",
             (long long)p.n, drop, limit);
    return 1;
}

static const cJSON *kl_of(const trial *t)
{
    return json_get(json_get(json_get(t->json, "rungs"), "proxy"), "kl");
}

static double bytes_of(const trial *t)
{
    return json_num(json_get(t->json, "steps_result"), "bytes", NAN);
}

static void ranks_of(const double *x, int n, double *rank)
{
    for (int i = 0; i < n; i++) {
        rank[i] = 0;
        for (int k = 0; k < n; k++) rank[i] += (x[k] < x[i]) + 0.5 * (x[k] == x[i]);
    }
}

/* Spearman's correlation between divergence and loss of quality over the evaluated trials. */
static int still_trusted(run *r)
{
    if (r->kl_distrusted) return 0;
    double *v = calloc((size_t)(4 * r->n_trials + 4), sizeof *v);
    if (!v) return 1;
    double *kl = v, *drop = v + r->n_trials + 1, *a = drop + r->n_trials + 1;
    double *b = a + r->n_trials + 1;
    int n = 0;
    for (int64_t i = 0; i < r->n_trials; i++) {
        const trial *t = &r->trials[i];
        kl[n] = json_num(kl_of(t), "mean", NAN);
        drop[n] = json_num(json_get(t->json, "metrics"), "accuracy_drop", NAN);
        n += t->evaluated && isfinite(kl[n]) && isfinite(drop[n]);
    }
    double sa = 0, sb = 0, sab = 0, mean = 0.5 * (double)n;
    ranks_of(kl, n, a);
    ranks_of(drop, n, b);
    for (int i = 0; i < n; i++) {
        sa += (a[i] - mean) * (a[i] - mean);
        sb += (b[i] - mean) * (b[i] - mean);
        sab += (a[i] - mean) * (b[i] - mean);
    }
    r->kl_distrusted = n >= PAIRS && sa > 0 && sb > 0 && sab / sqrt(sa * sb) < 0.6;
    free(v);
    return !r->kl_distrusted;
}

/* Speed and memory are not known before the bench, so dominance may only be claimed without them.
 */
static int only_quality_and_size(const run *r)
{
    for (int k = 0; k < r->n_objectives; k++)
        if (!r->objectives[k].dataset && strcmp(r->objectives[k].name, "bytes") != 0) return 0;
    return 1;
}

static int drops_divergence(run *r, const trial *t, double z, char *why, size_t bytes)
{
    const cJSON *kl = kl_of(t);
    double low = json_num(kl, "mean", NAN) - z * json_num(kl, "stderr", 0), size = bytes_of(t);
    if (!(low > NOISE_FLOOR) || !isfinite(size) || !only_quality_and_size(r) || !still_trusted(r))
        return 0;
    for (int64_t i = 0; i < r->n_trials; i++) {
        const trial *o = &r->trials[i];
        const cJSON *other = kl_of(o);
        double high = json_num(other, "mean", NAN) + z * json_num(other, "stderr", 0);
        if (o == t || !o->evaluated || !o->feasible || !(bytes_of(o) <= size) ||
            !(SLACK * high < low))
            continue;
        snprintf(
            why, bytes,
            "%s is no larger and diverges %.1f times less from the dense model (%.4f against %.4f "
            "nats a token)",
            trial_text(o, "strategy_id"), json_num(kl, "mean", 0) / json_num(other, "mean", 1),
            json_num(other, "mean", 0), json_num(kl, "mean", 0));
        return 1;
    }
    return 0;
}

int filter_promotes(run *r, const trial *t, char *why, size_t bytes)
{
    double z = normal_quantile(json_num(r->config->proxy, "confidence", 0.95));
    if (!json_bool(r->config->proxy, "enabled", 1)) {
        snprintf(why, bytes, "the proxy is switched off");
        return 1;
    }
    if (drops_accuracy(r, t, z, why, bytes) || drops_divergence(r, t, z, why, bytes)) return 0;
    snprintf(why, bytes, "the proxy gives no reason against it");
    return 1;
}
