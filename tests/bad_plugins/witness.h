/* witness.h - the subject of witness.c, shared with the tests. */
#ifndef TESTS_WITNESS_H
#define TESTS_WITNESS_H
#include <sqz/services.h>
enum { WITNESS_OK, WITNESS_FAIL, WITNESS_SILENT, WITNESS_ODD };
typedef struct witness {
    int wish; /* in: what run shall do */
    int64_t bits, big, rows;
    double damp;
    int32_t act_order, order, opened;
    char note[64];
    const sqz_pool *pool;
    const sqz_rng *rng;
    const sqz_clock *clock;
    const sqz_linalg *linalg;
    const void *unknown;
} witness;
#endif
