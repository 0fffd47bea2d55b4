/* overlap.h - how much of one data set stands in another: shared runs of 13 words.
 *
 * The measure of contamination that language model evaluations publish: texts are lowered, split
 * into words (letters and digits; punctuation drops out), and two rows overlap when they share 13
 * words in a row.  Shorter texts cannot overlap by this measure; whole rows are leaks.c's. */
#ifndef SQZ_RUNTIME_OVERLAP_H
#define SQZ_RUNTIME_OVERLAP_H
#include "data/data.h"

enum { OVERLAP_WORDS = 13 };

typedef struct overlap_side {
    int64_t rows, long_rows;   /* long: of at least 13 words in one field */
    int64_t exact_rows;        /* whose text or question also occurs in the other side */
    int64_t overlapping_rows;  /* that share 13 words in a row with the other side */
    int64_t runs, shared_runs; /* of 13 words, counted as often as they stand there */
} overlap_side;

typedef struct overlap {
    overlap_side a, b;
} overlap;

/* b: several sets counted as one. */
sqz_status overlap_measure(const dataset *a, const dataset *const *b, int64_t n_b, overlap *out,
                           sqz_error *err);
#endif
