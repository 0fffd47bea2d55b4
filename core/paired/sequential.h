/* sequential.h - is the mean difference of two models above or below a margin?  Asked after every
 * item, with one error rate for all the looks together.
 *
 * The items come in random order (the caller draws it) from a set of n_all.  What is decided is the
 * sign of (mean over the whole set) - margin: what an evaluation of every item would have said.
 * Two wealth processes bet against "the mean is at most / at least the margin"; each has expected
 * value at most 1 while its hypothesis holds, so that by Ville's inequality the chance that it ever
 * passes 1 / alpha is at most alpha.  A decision for either side is wrong with probability alpha at
 * most.
 *
 * BOUNDED: differences in [lo, hi].  Betting on means, drawn without replacement; exact for every n
 * (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86,
 * 2024, sections 4 and 5; bets by their aGRAPA rule).
 * NORMAL: differences without bounds.  Mixture sequential probability ratio test (Robbins 1970)
 * with the half-normal mixture and the standard deviation seen so far; its error rate holds in the
 * limit of many items (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit
 * theory and asymptotic confidence sequences", Annals of Statistics 52, 2024), therefore no
 * decision before SEQUENTIAL_FEWEST items. */
#ifndef SQZ_CORE_PAIRED_SEQUENTIAL_H
#define SQZ_CORE_PAIRED_SEQUENTIAL_H
#include <stdint.h>

enum { SEQUENTIAL_FEWEST = 64 };
typedef enum sequential_kind { SEQUENTIAL_BOUNDED, SEQUENTIAL_NORMAL } sequential_kind;

typedef struct sequential {
    sequential_kind kind;
    double margin, alpha, lo, hi;
    int64_t n_all;
    /* state */
    int64_t n;
    double mean, squares; /* of the differences; squares around the mean */
    double above, below;  /* log wealth of the bets against "at most", "at least" the margin */
    int decided;          /* 1 above, -1 below, 0 open; stays once it is not 0 */
    int64_t decided_at;   /* items it took */
} sequential;

/* lo and hi: of BOUNDED.  0 < alpha < 1. */
void sequential_begin(sequential *, sequential_kind, double margin, double alpha, double lo,
                      double hi, int64_t n_all);
/* One more difference; returns decided. */
int sequential_add(sequential *, double difference);
/* Log of the mean likelihood ratio over half-normal alternatives of the scale sqrt(rho2), of n
 * standardised values with the sum z sqrt(n). */
double sequential_mixture(double z, double n, double rho2);
/* A random order of 0 .. n - 1, by the seed. */
void sequential_shuffle(int64_t *order, int64_t n, uint64_t seed);
#endif
