/* segv_method.c - a compression method that reads through a null pointer on its first linear. */
#include <sqz/sqz.h>

SQZ_PLUGIN_STAMP(0);

#define SEGV_PARAMS(P) P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")
SQZ_CALL(segv_run, SEGV_PARAMS);

static sqz_status segv_run(const sqz_host *host, void *self, void *subject, int64_t bits)
{
    volatile int *nowhere = NULL;
    (void)self, (void)subject, (void)bits;
    host->tick(host, 0.25, "about to crash");
    return *nowhere;
}

static const sqz_method_steps steps = {sizeof steps, SQZ_PER_LINEAR, 0, 0, SQZ_FORM_INT_AFFINE};

static const void *extension(const char *id)
{
    return __builtin_strcmp(id, SQZ_METHOD_STEPS_1) == 0 ? &steps : NULL;
}

static const char *const tags[] = {"quant", NULL};
static const sqz_agent agents[] = {{
    .struct_size = sizeof(sqz_agent),
    .rank = 1,
    .id = "org.example.segv_method",
    .kind = "method/1",
    .name = "Crash",
    .summary = "Segfaults on its first linear, on purpose.",
    .version = "1.0.0",
    .license = "MIT",
    .tags = tags,
    .run = &segv_run_call,
    .extension = extension,
}};
static const sqz_plugin plugin = {.struct_size = sizeof plugin,
                                  .abi_major = SQZ_ABI_MAJOR,
                                  .abi_minor = SQZ_ABI_MINOR,
                                  .n_agents = 1,
                                  .agent_stride = sizeof(sqz_agent),
                                  .agents = agents};
const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
