/* paired.c - see paired.h. */
#include "paired/paired.h"
#include <math.h>
#include <stdlib.h>

/* ---- mean ------------------------------------------------------------------------------------ */
paired paired_mean(const double *a, const double *b, int64_t n)
{
    paired p = {NAN, NAN, NAN, n, NAN};
    double sum = 0, squares = 0;
    if (n < 2) return p;
    for (int64_t i = 0; i < n; i++) sum += b[i] - a[i];
    p.mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += pow(b[i] - a[i] - p.mean, 2);
    p.sd = sqrt(squares / (double)(n - 1));
    p.stderr_ = p.sd / sqrt((double)n);
    p.p = p.stderr_ > 0 ? erfc(fabs(p.mean) / p.stderr_ / sqrt(2)) : p.mean == 0 ? 1 : 0;
    return p;
}

int paired_binary(const double *a, const double *b, int64_t n)
{
    int binary = 1;
    for (int64_t i = 0; i < n; i++) binary &= (a[i] == 0 || a[i] == 1) && (b[i] == 0 || b[i] == 1);
    return binary;
}

/* ---- McNemar --------------------------------------------------------------------------------- */
/* Probability of k heads in n fair throws; logarithms, as the coefficients pass double's range. */
static double fair_binomial(int64_t n, int64_t k)
{
    double m = (double)n, x = (double)k;
    return exp(lgamma(m + 1) - lgamma(x + 1) - lgamma(m - x + 1) - m * log(2));
}

mcnemar paired_mcnemar(const double *a, const double *b, int64_t n)
{
    mcnemar r = {0, 0, 1, 1};
    for (int64_t i = 0; i < n; i++) {
        r.lost += a[i] > 0.5 && !(b[i] > 0.5);
        r.gained += !(a[i] > 0.5) && b[i] > 0.5;
    }
    int64_t all = r.lost + r.gained, few = r.lost < r.gained ? r.lost : r.gained;
    if (!all) return r;
    double tail = 0, at = fair_binomial(all, few);
    for (int64_t k = 0; k <= few; k++) tail += fair_binomial(all, k);
    r.exact = fmin(1, 2 * tail);
    /* Half of the observed outcome counts: once in each tail, which share it in the middle. */
    r.mid = r.lost == r.gained ? 1 - at / 2 : 2 * tail - at;
    return r;
}

/* ---- bootstrap ------------------------------------------------------------------------------- */
/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int paired_bootstrap(const double *a, const double *b, int64_t n, int64_t draws, double confidence,
                     uint64_t seed, interval *out)
{
    double *means = malloc((size_t)draws * sizeof *means), sum = 0;
    if (!means) return -1;
    for (int64_t i = 0; i < n; i++) sum += b[i] - a[i];
    for (int64_t d = 0; d < draws; d++) {
        double s = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t k = (int64_t)(((__uint128_t)random_next(&seed) * (uint64_t)n) >> 64);
            s += b[k] - a[k];
        }
        means[d] = s / (double)n;
    }
    qsort(means, (size_t)draws, sizeof *means, ascending);
    double tail = (1 - confidence) / 2;
    int64_t lo = (int64_t)floor(tail * (double)(draws - 1)), hi = draws - 1 - lo;
    *out = (interval){sum / (double)n, means[lo], means[hi]};
    free(means);
    return 0;
}

/* ---- items needed ---------------------------------------------------------------------------- */
double normal_quantile(double p)
{
    double lo = -40, hi = 40; /* bisection on erfc: 100 halvings reach the last bit */
    for (int i = 0; i < 100; i++) {
        double mid = (lo + hi) / 2;
        if (0.5 * erfc(-mid / sqrt(2)) < p)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

double paired_items_needed(double sd, double difference, double alpha, double power)
{
    double tail = normal_quantile(1 - alpha / 2), z = tail + normal_quantile(power);
    return difference != 0 ? ceil(pow(z * sd / difference, 2) + tail * tail / 2) : INFINITY;
}

double mcnemar_items_needed(double discordant, double difference, double alpha, double power)
{
    double d = fabs(difference), all = fmax(discordant, d);
    double z =
        normal_quantile(1 - alpha / 2) * sqrt(all) + normal_quantile(power) * sqrt(all - d * d);
    return d > 0 ? ceil(pow(z / d, 2)) : INFINITY;
}
