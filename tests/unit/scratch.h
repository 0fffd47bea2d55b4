/* scratch.h - a fresh folder for each test, removed afterwards; use as a checked fixture. */
#ifndef SQZ_TEST_SCRATCH_H
#define SQZ_TEST_SCRATCH_H
#include "io/file.h"
#include <check.h>
#include <stdlib.h>

static char scratch[64];

static inline void scratch_make(void)
{
    snprintf(scratch, sizeof scratch, "/tmp/sqz-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(scratch));
}

static inline void scratch_remove(void)
{
    ck_assert_int_eq(dir_remove(scratch, NULL), SQZ_OK);
}
#endif
