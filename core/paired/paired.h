/* paired.h - statistics of two models on the same items.
 *
 * Pairing removes the spread of the items themselves: only items on which the models differ carry
 * information.  The coordinator, sqz compare, sqz validate and sqz eval --against share it.  Left
 * out: corrections for several comparisons; the caller says how many it made. */
#ifndef SQZ_CORE_PAIRED_H
#define SQZ_CORE_PAIRED_H
#include <stdint.h>

/* The mean difference b - a with its standard error; NaN without two items. */
typedef struct paired {
    double mean, stderr_, sd;
    int64_t n;
    double p; /* two-sided, normal approximation */
} paired;
paired paired_mean(const double *a, const double *b, int64_t n);

typedef struct mcnemar {
    int64_t lost;   /* right in the first, wrong in the second */
    int64_t gained; /* wrong in the first, right in the second */
    double exact;   /* two-sided p-value of the binomial test on lost + gained; 1 without any */
    double mid;     /* mid-p: counts half of the observed outcome; less conservative */
} mcnemar;
/* Outcomes above 1/2 are right. */
mcnemar paired_mcnemar(const double *a, const double *b, int64_t n);
/* Are all outcomes 0 or 1? */
int paired_binary(const double *a, const double *b, int64_t n);

typedef struct interval {
    double mean, lo, hi; /* of b - a; percentiles of the resampled means */
} interval;
/* Bootstrap over items, `draws` resamples, the given confidence in (0, 1); deterministic by the
 * seed.  n >= 1.  0, or -1 without memory. */
int paired_bootstrap(const double *a, const double *b, int64_t n, int64_t draws, double confidence,
                     uint64_t seed, interval *out);

/* Items needed for a two-sided paired test at `alpha` to see a mean difference of `difference` with
 * probability `power`; infinite for no difference.  The t test, where the per-item difference has
 * the standard deviation `sd`: normal approximation with the correction of Guenther (The American
 * Statistician 35, 1981).  McNemar's test, where the models differ on the share `discordant` of the
 * items (at least |difference|): Connor (Biometrics 43, 1987). */
double paired_items_needed(double sd, double difference, double alpha, double power);
double mcnemar_items_needed(double discordant, double difference, double alpha, double power);
/* z with P(Z <= z) = p, 0 < p < 1. */
double normal_quantile(double p);
/* The next number of a splitmix64 stream. */
uint64_t random_next(uint64_t *state);
#endif
