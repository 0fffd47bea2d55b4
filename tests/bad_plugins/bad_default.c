/* bad_default.c - a parameter whose default is none of its legal values. */
#include "bad.h"
#define PARAMS(P) P(SQZ_INT, bits, 5, 2, 8, "2|3|4|8", 0, "bits per weight")
SQZ_CALL(run, PARAMS);
SQZ_PLUGIN_STAMP(0);

static sqz_status run(const sqz_host *host, void *self, void *subject, int64_t bits)
{
    (void)host, (void)self, (void)subject, (void)bits;
    return SQZ_OK;
}

static const sqz_agent agents[] = {{sizeof(sqz_agent), 1, "org.example.bad_default", "bad/1", "Bad",
                                    "misbehaves on purpose", "1.0.0", "MIT", NULL, NULL, NULL,
                                    &run_call, NULL}};
static const sqz_plugin plugin = {sizeof plugin, 1, 0, 0, 0, 1, sizeof(sqz_agent), 0, agents};

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
