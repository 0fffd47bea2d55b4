/* sqz/search.h - search strategies: ask for the next point, be told how it went.
 *
 * A strategy is a pure function of (space, seed, the sequence of asks and tells): the host rebuilds
 * its state after a crash by replaying the journal.  ask may be called with earlier points still
 * pending, and tell comes in any order.  Objectives are always minimised.
 * Offered through extension("sqz.search/1") of an agent of kind "search/1"; the agent's `run`, when
 * present, is only a parameter list bound once after `space` (subject NULL). */
#ifndef SQZ_SEARCH_H
#define SQZ_SEARCH_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_SEARCH_1 "sqz.search/1"

/* One dimension.  Values are doubles: an INT or REAL is itself, a BOOL is 0 or 1, a CHOICE the
 * index.  When n_values > 0 exactly these values are legal (and lo, hi are their ends).
 * A dimension with parent >= 0 matters only where dims[parent] has the value parent_value; elsewhere
 * the host stores its first legal value. */
typedef struct sqz_dim {
    uint32_t struct_size;
    int32_t type; /* SQZ_INT, SQZ_REAL, SQZ_BOOL, SQZ_CHOICE */
    const char *name;
    double lo, hi;
    uint32_t flags; /* SQZ_LOG */
    int32_t parent; /* index of a dimension before this one, or -1 */
    double parent_value;
    int64_t n_values;
    const double *values; /* [n_values] ascending */
} sqz_dim;
SQZ_SEALED(sqz_dim, values, 64);

typedef struct sqz_space {
    uint32_t struct_size;
    uint32_t dim_stride;
    int64_t n_dims;
    const sqz_dim *dims;
    int64_t n_objectives;
    uint64_t seed;
} sqz_space;
SQZ_SEALED(sqz_space, seed, 40);

enum { SQZ_SEARCH_EXHAUSTED = 1 }; /* ask: nothing new is left to propose */

typedef struct sqz_search {
    uint32_t struct_size;
    uint32_t zero;
    /* Called once, first.  The space is borrowed until close.  [call] */
    sqz_status (*space)(const sqz_host *, void *self, const sqz_space *);
    /* Writes the next point and one sentence saying why; returns SQZ_OK or SQZ_SEARCH_EXHAUSTED.
     * Should not repeat a point already asked or told while others are left.  [call] */
    sqz_status (*ask)(const sqz_host *, void *self, double *x /* [n_dims], out */,
                      char *why /* out */, int64_t why_bytes);
    /* A finished point (also ones the strategy never asked for, such as seeds).  feasible = 0:
     * constraints missed or the trial failed; then objectives may be NaN.  [call] */
    sqz_status (*tell)(const sqz_host *, void *self, const double *x /* [n_dims] */,
                       const double *objectives /* [n_objectives] */, int32_t feasible);
} sqz_search;
SQZ_SEALED(sqz_search, tell, 32);

#ifdef __cplusplus
}
#endif
#endif
