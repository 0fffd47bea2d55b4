/* facts.h - what both reports say, worked out once from the run's files: the picks, the comparison
 * with the dense model, the funnel, the advice.  No layout here. */
#ifndef SQZ_CORE_REPORT_FACTS_H
#define SQZ_CORE_REPORT_FACTS_H
#include "report/report.h"
#include "report/text.h"

enum { MAX_ADVICE = 8, MAX_WHY = 8 };

typedef struct facts {
    const report_data *data;
    const cJSON *members;  /* array (may be NULL) */
    const cJSON *dense;    /* metrics of the baseline, or NULL */
    char *model, *dataset; /* names for the title */
    const char *metric;    /* "perplexity", "exact_match" ... */
    int higher;            /* a higher quality value is better */
    const cJSON *conservative, *balanced,
        *aggressive; /* members, may coincide; NULL = empty front */
    int64_t n_members, n_trials, n_evaluated, n_failed, n_killed, n_refused, n_infeasible;
    double seconds;    /* of all trials */
    const char *state; /* of run.json */
    char *answer;      /* one sentence, plain text */
    char *why[MAX_WHY];
    int n_why;
    char *advice[MAX_ADVICE];
    int n_advice;
} facts;
void facts_make(const report_data *, facts *);
void facts_free(facts *);

/* The trial record of a member, or NULL. */
const cJSON *facts_trial(const facts *, const cJSON *member);
const char *member_label(const cJSON *member_or_trial);
/* Why a member has no checkpoint, or NULL. */
const char *member_unexported(const cJSON *member);
/* It ended otherwise than well, and not by the proxy. */
int trial_went_wrong(const cJSON *trial);
/* Relative change of quality, positive = worse; NaN when unknown. */
double quality_drop(const facts *, const cJSON *metrics, double *se);
/* "exact_match 0.912 -> 0.904" style change for people: "-0.8 points" or "+0.12 %". */
num show_drop(const facts *, const cJSON *metrics);
/* One line of what a strategy does: "use(bits 4, group_size 128)"; caller frees. */
char *describe_steps(const cJSON *steps, int all);
int is_baseline(const cJSON *trial);
/* What plugins did that they should not have, as {text: trials}; caller frees. */
cJSON *facts_manners(const facts *);
#endif
