/* aside.c - methods that keep killing their workers are put aside for the rest of the run.
 *
 * A crash costs a trial; the third one of the same agent says that the next will cost one, too. The
 * count is taken from the finished trials, so a resumed run decides the same.  A trial counts
 * against an agent when its worker's end names it: crashed, out of time, out of memory, or out of
 * protocol. */
#include "coordinator/state.h"
#include "io/file.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LIVES = 3 };

/* Does the sentence name the id, not merely a longer one that begins with it? */
static int names_agent(const char *text, const char *id)
{
    size_t n = strlen(id);
    for (const char *at = n ? strstr(text, id) : NULL; at; at = strstr(at + 1, id))
        if (!isalnum((unsigned char)at[n]) && at[n] != '_' && at[n] != '-') return 1;
    return 0;
}

static int killed_worker(const trial *t, const char *id)
{
    static const char *const ends[] = {"crashed", "timeout", "oom", "protocol"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (!strcmp(trial_text(t, "outcome"), ends[i]))
            return names_agent(trial_text(t, "reason"), id);
    return 0;
}

char *aside_refusal(const run *r, const cJSON *steps)
{
    const cJSON *step;
    cJSON_ArrayForEach(step, steps)
    {
        const char *id = json_str(step, "use", "");
        int64_t deaths = 0, last = -1;
        for (int64_t i = 0; i < r->n_trials; i++)
            if (killed_worker(&r->trials[i], id)) deaths++, last = i;
        if (deaths >= LIVES)
            return path_format(
                "%s is put aside for this run: it ended %lld workers, last in %s (%s)", id,
                (long long)deaths, trial_text(&r->trials[last], "strategy_id"),
                trial_text(&r->trials[last], "reason"));
    }
    return NULL;
}
