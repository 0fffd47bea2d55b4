/* seeds.h - the first candidates of every run: conservative, balanced, aggressive. */
#ifndef SQZ_CORE_SEEDS_H
#define SQZ_CORE_SEEDS_H
#include "coordinator/space.h"

typedef struct seed {
    double *x; /* [n_dims] */
    char *name, *why;
} seed;
typedef struct seed_list {
    seed *at;
    int n;
} seed_list;
seed_list seeds_make(const strategy_space *);
void seeds_free(seed_list *);
#endif
