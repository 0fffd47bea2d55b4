/* space.h - the strategies a run can try, as points: the configured steps, the methods each may
 * use, and the parameters that are searched.  Nothing here names a method: everything comes from
 * the catalogue's descriptions. */
#ifndef SQZ_CORE_SPACE_H
#define SQZ_CORE_SPACE_H
#include "config/config.h"
#include "host/host.h"
#include <sqz/space.h>

typedef struct space_step {
    const agent_info **methods; /* [n_methods] preferred first */
    int n_methods;
    int method_dim; /* the dimension that chooses, -1 when there is one method */
    const cJSON *with, *search, *rules; /* of the configuration; borrowed */
} space_step;

/* What a dimension means. */
typedef struct space_dim {
    int step;
    const agent_info *method; /* NULL: the choice of the method itself */
    const cJSON *row;         /* the parameter's description; NULL likewise */
    char *name;               /* "METHOD.bits" */
    double *values;           /* owned copy behind sqz_dim.values */
} space_dim;

typedef struct strategy_space {
    sqz_space table; /* what the search plugin sees */
    sqz_dim *dims;
    space_dim *meaning;
    int n_dims;
    space_step *steps;
    int n_steps;
    cJSON *none; /* the implicit step of an empty list */
} strategy_space;

sqz_status space_build(const config *, const catalogue *, const cJSON *spec, int n_objectives,
                       strategy_space **out, sqz_error *err);
void space_free(strategy_space *);
/* The steps at a point, parameters resolved: [{"use","with","origin","rules"}]; by says who chose
 * the searched ones ("seed", "search").  Caller frees. */
sqz_status space_steps(const strategy_space *, const double *x, const char *by, cJSON **steps,
                       sqz_error *err);
/* What makes two strategies the same: canonical text of use, with and rules; malloc'd. */
char *space_identity(const cJSON *steps);
/* "METHOD 4-bit g128 sym", by the names of declared parameters; malloc'd. */
char *space_label(const strategy_space *, const cJSON *steps);
/* {"name":[legal values]} of the dimensions of one method of one step; caller frees. */
cJSON *space_describe(const strategy_space *, const agent_info *);
/* The row of a parameter, or NULL. */
const cJSON *space_param(const agent_info *, const char *name);
#endif
