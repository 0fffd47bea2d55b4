/* long_context.h - what the two evaluations of this plugin share: lengths, speeds, metric names. */
#ifndef EVAL_LONG_CONTEXT_H
#define EVAL_LONG_CONTEXT_H
#include <sqz/eval.h>
#include <sqz/help.h>

enum { MAX_LENGTHS = 48 };

/* Lengths in tokens that are measured, rising. */
typedef struct lengths {
    int64_t at[MAX_LENGTHS];
    int n;
} lengths;
/* shortest, 2 * shortest, ... and the longest where it is half as long again as the one before.
 * The longest is --window, else the model's context.  `who` begins the messages. */
sqz_status lengths_plan(const sqz_host *, const sqz_eval *, const char *who, int64_t shortest,
                        lengths *out);
/* Without those beyond `most`. */
void lengths_cut(lengths *, int64_t most);

/* Tokens per second of single requests of one length. */
typedef struct speeds {
    double *at; /* [room] */
    int64_t n, room;
} speeds;
double now_s(void);
/* The median; 0 of none.  Sorts. */
double speeds_median(speeds *);
/* tokens_per_second,LENGTH (median) with its smallest and largest.  Returns the median. */
double speeds_report(const sqz_eval *, speeds *, int64_t length);

/* NAME,LENGTH; length 0: NAME alone. */
void report_at(const sqz_eval *, const char *name, int64_t length, double value, double stderr_,
               int64_t n);
/* The same for a share of n; its standard error is that of a proportion. */
void report_share(const sqz_eval *, const char *name, int64_t length, int64_t hits, int64_t n);

/* Are the rows those of a task of this kind? */
int rows_are(const sqz_rows *, const char *kind);
/* The running text of row i: of a task, or of a plain row; NULL: none. */
const char *row_text(const sqz_rows *, int64_t i);

typedef struct needle_options {
    int64_t shortest, depths, samples, choices, distractors, seed;
    int32_t prompts;
} needle_options;
sqz_status needle_score(const sqz_host *, const sqz_eval *, const needle_options *);
typedef struct growth_options {
    int64_t shortest, windows, scored;
} growth_options;
sqz_status growth_score(const sqz_host *, const sqz_eval *, const growth_options *);
#endif
