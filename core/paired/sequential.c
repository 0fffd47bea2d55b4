/* sequential.c - see sequential.h. */
#include "paired/sequential.h"
#include "paired/paired.h"
#include <math.h>

void sequential_begin(sequential *s, sequential_kind kind, double margin, double alpha, double lo,
                      double hi, int64_t n_all)
{
    *s = (sequential){
        .kind = kind, .margin = margin, .alpha = alpha, .lo = lo, .hi = hi, .n_all = n_all};
}

/* The share of the wealth to bet on values above m, when the values so far suggest it: aGRAPA, the
 * bet that maximises the approximate growth rate, at most 3/4 of what could be lost. */
static double bet(double mean, double variance, double m)
{
    double edge = mean - m;
    if (!(edge > 0)) return 0;
    return fmin(edge / (variance + edge * edge), 0.75 / m);
}

/* What is left of the set must have the mean m if the whole has the margin as its mean; below 0 or
 * above 1 that is impossible, and the sign is certain whatever comes. */
static void add_bounded(sequential *s, double difference)
{
    double span = s->hi - s->lo, n = (double)s->n, all = (double)s->n_all;
    double x = (difference - s->lo) / span, margin = (s->margin - s->lo) / span;
    double sum = n * (s->mean - s->lo) / span, left = all - n;
    double m = left >= 1 ? (all * margin - sum) / left : margin;
    /* as if one value of 1/2 with the variance 1/4 had come first */
    double mean = (sum + 0.5) / (n + 1);
    double variance = (s->squares / (span * span) + 0.25) / (n + 1);
    if (m < 0 || (m == 0 && x > 0))
        s->above = INFINITY;
    else if (m > 1 || (m == 1 && x < 1))
        s->below = INFINITY;
    else if (m > 0 && m < 1) {
        s->above += log1p(bet(mean, variance, m) * (x - m));
        s->below += log1p(bet(1 - mean, variance, 1 - m) * (m - x));
    }
}

double sequential_mixture(double z, double n, double rho2)
{
    double shrink = n * rho2 / (1 + n * rho2), u = z * sqrt(shrink);
    return log(2) - 0.5 * log1p(n * rho2) + 0.5 * u * u + log(0.5 * erfc(-u / sqrt(2)));
}

static void weigh_normal(sequential *s)
{
    double n = (double)s->n, sd = sqrt(s->squares / (n - 1)), edge = s->mean - s->margin;
    /* The mixture is tightest around a quarter of the set. */
    double best = fmax(SEQUENTIAL_FEWEST, (double)s->n_all / 4), two = -2 * log(s->alpha);
    double rho2 = (two + log(two + 1)) / best;
    double z = sd > 0 ? edge / sd * sqrt(n) : edge > 0 ? INFINITY : edge < 0 ? -INFINITY : 0;
    s->above = z == INFINITY    ? INFINITY
               : z == -INFINITY ? -INFINITY
                                : sequential_mixture(z, n, rho2);
    s->below = z == INFINITY    ? -INFINITY
               : z == -INFINITY ? INFINITY
                                : sequential_mixture(-z, n, rho2);
}

int sequential_add(sequential *s, double difference)
{
    if (s->kind == SEQUENTIAL_BOUNDED) add_bounded(s, difference);
    s->n++;
    double before = difference - s->mean;
    s->mean += before / (double)s->n;
    s->squares += before * (difference - s->mean);
    if (s->decided) return s->decided;
    if (s->kind == SEQUENTIAL_NORMAL && s->n >= SEQUENTIAL_FEWEST) weigh_normal(s);
    double enough = -log(s->alpha);
    if (s->above >= enough)
        s->decided = 1;
    else if (s->below >= enough)
        s->decided = -1;
    if (s->decided) s->decided_at = s->n;
    return s->decided;
}

void sequential_shuffle(int64_t *order, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = (int64_t)(((__uint128_t)random_next(&seed) * (uint64_t)(i + 1)) >> 64);
        int64_t t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
}
