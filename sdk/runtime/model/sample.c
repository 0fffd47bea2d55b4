/* sample.c - drawing a token: temperature, top-k, top-p, in the order of transformers.
 *
 * The random number of a draw is a pure function of (seed, request, step), so that a sequence does
 * not depend on what else is generated beside it. */
#include "model/internal.h"
#include <math.h>

/* SplitMix64's finalizer (Steele, Lea, Flood 2014): a bijection whose outputs pass BigCrush. */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double sample_uniform(uint64_t seed, uint64_t request, uint64_t step)
{
    uint64_t bits = mix(mix(mix(seed) ^ request) ^ step);
    return (double)(bits >> 11) * 0x1p-53;
}

static int before(const float *p, int32_t a, int32_t b)
{
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift_down(const float *p, int32_t *heap, int64_t n, int64_t i)
{
    for (;;) {
        int64_t best = i, left = 2 * i + 1;
        if (left < n && before(p, heap[left], heap[best])) best = left;
        if (left + 1 < n && before(p, heap[left + 1], heap[best])) best = left + 1;
        if (best == i) return;
        int32_t t = heap[i];
        heap[i] = heap[best];
        heap[best] = t;
        i = best;
    }
}

/* The most probable ids, in order, moved to the end of `heap`, until k of them or the mass top_p
 * (of what k leaves) is reached.  Returns how many; *mass is their sum. */
static int64_t select_top(const float *p, int64_t n, int64_t k, double top_p, int32_t *heap,
                          double *mass)
{
    for (int64_t i = 0; i < n; i++) heap[i] = (int32_t)i;
    for (int64_t i = n / 2; i-- > 0;) sift_down(p, heap, n, i);
    int64_t kept = 0;
    double sum = 0, total = 1;
    while (kept < k) {
        int64_t last = n - 1 - kept;
        int32_t top = heap[0];
        heap[0] = heap[last];
        heap[last] = top;
        sift_down(p, heap, last, 0);
        sum += p[top];
        kept++;
        if (k == n && sum >= top_p) break;
    }
    if (k < n) { /* top-p counts the mass that top-k left */
        total = sum;
        sum = 0;
        int64_t i = 0;
        while (i < kept && sum < top_p * total) sum += p[heap[n - 1 - i++]];
        kept = i;
    }
    *mass = sum;
    return kept;
}

int32_t sample_draw(const float *logits, int64_t n, const sampling *s, uint64_t request,
                    uint64_t step, float *scratch, int32_t *order)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    if (s->temperature <= 0) return (int32_t)best;
    double total = 0, u = sample_uniform(s->seed, request, step);
    for (int64_t i = 0; i < n; i++) {
        scratch[i] = (float)exp(((double)logits[i] - (double)logits[best]) / s->temperature);
        total += scratch[i];
    }
    for (int64_t i = 0; i < n; i++) scratch[i] = (float)(scratch[i] / total);
    int64_t k = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    double p = s->top_p > 0 && s->top_p < 1 ? s->top_p : 1, sum = 0;
    if (k == n && p == 1) {
        int64_t last = best;
        for (int64_t i = 0; i < n; i++) {
            if (scratch[i] <= 0) continue;
            last = i;
            sum += scratch[i];
            if (sum > u) break;
        }
        return (int32_t)last;
    }
    double mass;
    int64_t kept = select_top(scratch, n, k, p, order, &mass);
    for (int64_t i = 0; i < kept; i++) {
        sum += scratch[order[n - 1 - i]];
        if (sum > u * mass) return order[n - 1 - i];
    }
    return order[n - kept];
}
