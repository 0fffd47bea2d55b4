/* job.h - one linear on its way through the plugin: what the stages hand to each other.
 *
 * Stages: factor (order and L), grids, walk (the GPTQ columns; polish), descend (refinement),
 * hand-over.
 * Working matrices are transposed, [cols, stride] with stride = rows rounded up to whole tiles, so
 * that inner loops run over rows; the padding rows are zero weights.  Symbols as in
 * docs/methods/gptq.md. */
#ifndef GPTQ_JOB_H
#define GPTQ_JOB_H
#include "grid.h"
#include <sqz/sqz.h>

enum { ORDER_NATURAL, ORDER_ACTIVATION, ORDER_GROUP };

/* Kept by the instance from call to call: linears that read the same input share the factor. */
typedef struct factor {
    int64_t cols;
    uint64_t id;   /* of the statistics; 0: none, or not to be recognised */
    double asked;  /* damping asked for */
    double damp;   /* and the one that worked */
    float *l;      /* [cols, cols] lower, in walking order, unit diagonal: H = L^T D L */
    float *h;      /* [cols] damped diagonal of H, in the weight's order */
    float *late;   /* [cols] weights of grids fitted on the way, in walking order */
    float *cost;   /* [cols] D: what an error costs that later columns make up for; that order */
    float *within; /* [cols, within_group + 1] what factor_within says; NULL until it is asked */
    int64_t within_group;
    int32_t *perm; /* [cols] column walked at each position, then [cols] position of each column */
} factor;

typedef struct gptq_job {
    const sqz_host *host;
    const sqz_pool *pool;
    const sqz_linalg *linalg;
    const sqz_linear *linear;
    grid_rule rule;
    int order;
    int late_grids; /* fit a group's grid when the walk reaches it */
    int polish;     /* and refine its codes and scale before the walk goes on */
    int sweeps;     /* of the refinement */
    double damp;
    int64_t rows, cols, group, n_groups, stride;
    factor *factor; /* NULL while data-free */
    float *work;    /* w and f lie in it, each line of the cache whole */
    float *w;       /* [cols, stride] weights in walking order; the residual once walked */
    float *f;       /* [cols, stride] feedback of the walk; descend exchanges the two */
    uint8_t *codes; /* [cols, stride] in the weight's order */
    float *scales;  /* [n_groups, stride] */
    float *zeros;   /* [n_groups, stride] */
} gptq_job;

/* factor.c */
sqz_status factor_prepare(const sqz_host *host, const sqz_pool *pool, const sqz_linalg *linalg,
                          const sqz_linear *linear, int order, int64_t group, double damp,
                          factor *out);
/* For polishing, per group of the walk: row j holds, from the diagonal on, column j of D L, which
 * turns the group's errors into the gradient of its code j, before it row j of L^T D L, which
 * carries the steps of codes before it, and last the diagonal of that.  Groups lie together in the
 * factor's order. */
sqz_status factor_within(const sqz_host *host, const sqz_pool *pool, int64_t group, factor *);
void factor_free(factor *);

/* walk.c */
sqz_status grids_fit(gptq_job *, const float *h /* [cols] */);
sqz_status walk_columns(gptq_job *);
sqz_status round_nearest(gptq_job *);

/* descend.c */
sqz_status descend(gptq_job *);
#endif
