/* stop.c - when a run starts no further trial (A8): cancelled, targets reached, budget spent, no
 * gain, nothing new to propose. */
#include "coordinator/state.h"
#include <math.h>
#include <stdio.h>

enum { LEAST_PATIENCE = 20 };

static int target_reached(const run *r, char *text, size_t bytes)
{
    const config *c = r->config;
    if (!isfinite(c->target_accuracy_drop) && !isfinite(c->target_bytes)) return 0;
    for (int64_t i = 0; i < r->n_trials; i++) {
        const trial *t = &r->trials[i];
        const cJSON *m = json_get(t->json, "metrics");
        if (!t->feasible ||
            (isfinite(c->target_accuracy_drop) &&
             !(json_num(m, "accuracy_drop", NAN) <= c->target_accuracy_drop)) ||
            (isfinite(c->target_bytes) && !(json_num(m, "bytes", NAN) <= c->target_bytes)))
            continue;
        snprintf(text, bytes, "%s meets the targets of budget.until", trial_text(t, "strategy_id"));
        return 1;
    }
    return 0;
}

/* A trial that could not end in time is not begun. */
static int wall_spent(const run *r, char *text, size_t bytes)
{
    double wall = spec_num(r->spec, "budget_wall", NAN), elapsed = run_elapsed(r);
    double mean = r->n_trials ? r->trial_seconds / (double)r->n_trials : 0;
    if (!isfinite(wall) || elapsed + mean <= wall) return 0;
    snprintf(text, bytes, "the time budget of %.0f s is spent (%.0f s used, a trial takes %.1f s)",
             wall, elapsed, mean);
    return 1;
}

/* A proposal of a method that was put aside costs nothing and teaches nothing, so it takes no trial
 * of the budget; but when nearly all are such, the search has to end: as many again, at most. */
static int trials_spent(const run *r, int64_t budget)
{
    int64_t free_ones = r->n_aside < budget ? r->n_aside : budget;
    return r->n_trials - free_ones >= budget;
}

int stop_due(run *r, const char **kind, char *text, size_t bytes)
{
    int64_t budget = (int64_t)spec_num(r->spec, "budget_trials", 0);
    int64_t patience = r->config->patience;
    if (!patience)
        patience = 2 * r->space->n_dims > LEAST_PATIENCE ? 2 * r->space->n_dims : LEAST_PATIENCE;
    if (atomic_load(&r->cancel)) {
        *kind = "interrupted";
        snprintf(text, bytes, "interrupted by the user");
    } else if (target_reached(r, text, bytes)) {
        *kind = "target";
    } else if (budget > 0 && trials_spent(r, budget)) {
        *kind = "trials";
        snprintf(text, bytes, "the budget of %lld trials is spent", (long long)budget);
    } else if (wall_spent(r, text, bytes)) {
        *kind = "wall";
    } else if (r->search_failure) {
        *kind = "search";
        snprintf(text, bytes, "%s", r->search_failure);
    } else if (r->exhausted) {
        *kind = "exhausted";
        snprintf(text, bytes, "every strategy of the space was tried");
    } else if (r->next_seed >= r->seeds.n && r->since_gain >= patience) {
        *kind = "converged";
        snprintf(text, bytes, "the front has not grown for %lld trials", (long long)r->since_gain);
    } else {
        return 0;
    }
    return 1;
}
