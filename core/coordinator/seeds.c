/* seeds.c - points of the space chosen by what the methods declare, not by who they are.
 *
 *   conservative  the most bits the method lists
 *   balanced      four bits (or the nearest), groups of 128 (or the nearest)
 *   aggressive    three bits where listed, else the fewest, with the smallest groups
 * all with the preferred method, other parameters at their defaults; then balanced with every other
 * method, so that the search starts from a comparison of methods at the same size. */
#include "coordinator/seeds.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum profile { CONSERVATIVE, BALANCED, AGGRESSIVE } profile;

static double nearest_level(const sqz_dim *d, double want)
{
    if (sqz_dim_levels(d) > 0) return sqz_dim_level(d, sqz_dim_index(d, want));
    return want < d->lo ? d->lo : want > d->hi ? d->hi : want;
}

/* The smallest level that is at least `least`; the lowest one when there is none. */
static double level_from(const sqz_dim *d, double least)
{
    int64_t n = sqz_dim_levels(d);
    for (int64_t k = 0; k < n; k++)
        if (sqz_dim_level(d, k) >= least) return sqz_dim_level(d, k);
    return n > 0 ? sqz_dim_level(d, n - 1) : nearest_level(d, least);
}

static double default_of(const sqz_dim *d, const cJSON *row)
{
    const cJSON *v = json_get(row, "default"), *item;
    double x = cJSON_IsNumber(v) ? v->valuedouble : cJSON_IsTrue(v);
    if (cJSON_IsString(v)) {
        x = 0;
        cJSON_ArrayForEach(item, json_get(row, "choices"))
        {
            if (!strcmp(item->valuestring, v->valuestring)) break;
            x += 1;
        }
    }
    return nearest_level(d, x);
}

static double choose(const sqz_dim *d, const cJSON *row, profile p)
{
    const char *name = json_str(row, "name", "");
    if (!strcmp(name, "bits"))
        return p == CONSERVATIVE ? nearest_level(d, d->hi)
               : p == BALANCED   ? nearest_level(d, 4)
                                 : level_from(d, 3 <= d->hi ? 3 : d->lo);
    if (!strcmp(name, "group_size") && p == BALANCED) return nearest_level(d, 128);
    if (!strcmp(name, "group_size") && p == AGGRESSIVE) return level_from(d, 1);
    return default_of(d, row);
}

static void add_seed(const strategy_space *s, seed_list *list, profile p, int method,
                     const char *name, const char *why)
{
    double *x = calloc((size_t)s->n_dims + 1, sizeof *x);
    if (!x) memory_failed("the seeds");
    for (int i = 0; i < s->n_dims; i++) {
        const space_step *step = &s->steps[s->meaning[i].step];
        x[i] = s->meaning[i].row ? choose(&s->dims[i], s->meaning[i].row, p)
                                 : (method < step->n_methods ? method : 0);
    }
    sqz_space_settle(&s->table, x);
    for (int k = 0; k < list->n; k++)
        if (!memcmp(list->at[k].x, x, (size_t)s->n_dims * sizeof *x)) {
            free(x);
            return;
        }
    list->at = realloc(list->at, (size_t)(list->n + 1) * sizeof *list->at);
    if (!list->at) memory_failed("the seeds");
    list->at[list->n++] = (seed){x, path_format("%s", name), path_format("%s", why)};
}

seed_list seeds_make(const strategy_space *s)
{
    seed_list list = {0};
    int most = 1;
    add_seed(s, &list, BALANCED, 0, "balanced",
             "four bits with groups of 128: the usual compromise of size and quality");
    add_seed(s, &list, CONSERVATIVE, 0, "conservative",
             "the most bits on offer: quality first, still smaller than the dense model");
    add_seed(s, &list, AGGRESSIVE, 0, "aggressive",
             "few bits in small groups: how far the model can be pressed");
    for (int i = 0; i < s->n_steps; i++)
        if (s->steps[i].n_methods > most) most = s->steps[i].n_methods;
    for (int k = 1; k < most; k++) {
        const char *id = s->steps[0].methods[k < s->steps[0].n_methods ? k : 0]->id;
        char *why =
            path_format("the balanced setting with %s: what the method itself is worth", id);
        add_seed(s, &list, BALANCED, k, "balanced, another method", why);
        free(why);
    }
    return list;
}

void seeds_free(seed_list *list)
{
    for (int i = 0; i < list->n; i++) {
        free(list->at[i].x);
        free(list->at[i].name);
        free(list->at[i].why);
    }
    free(list->at);
    *list = (seed_list){0};
}
