/* undefined_symbol.c - leans on a function that nobody offers. */
#include "bad.h"
BAD_PLUGIN("undefined_symbol", 1, 0)
SQZ_PLUGIN_STAMP(0);
int nobody_offers_this(void);

static sqz_status bad_run(const sqz_host *host, void *self, void *subject, int64_t n)
{
    (void)host, (void)self, (void)subject, (void)n;
    return nobody_offers_this();
}
