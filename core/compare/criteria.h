/* criteria.h - acceptance of a compressed model: measured values against the limits of a preset
 * (docs/validate.md). */
#ifndef SQZ_CORE_COMPARE_CRITERIA_H
#define SQZ_CORE_COMPARE_CRITERIA_H
#include "error/error.h"
#include "json/json.h"

/* A value with its interval; NaN bounds: not known. */
typedef struct criterion_value {
    double value, low, high;
} criterion_value;

typedef struct criteria {
    const cJSON
        *preset; /* {"certainty","criteria":{NAME:{"most"|"least": number | {BITS: number}}}} */
    const char
        *bits;   /* of the model's weights, "4"; chooses among limits by bits; "" = not known */
    cJSON *list; /* results, in the order measured */
    int failed;  /* how many */
} criteria;

/* Is every key of the preset known and every limit a number? */
sqz_status criteria_check(const cJSON *preset, const char *where, sqz_error *err);
/* The k-th criterion's name and what its value is, or NULL after the last. */
const char *criterion_name(int k, const char **meaning);
/* Judges one value and adds {"name","of","value","low","high","most"|"least","verdict","meaning"}:
 * "pass", "fail", "told" (no limit), "not measured" (the value is not finite).  of: the data set,
 * or NULL. */
void criteria_judge(criteria *, const char *name, const char *of, criterion_value);
#endif
