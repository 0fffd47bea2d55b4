/* hostile.h - a compression method that misbehaves: HOSTILE("name") makes a method/1 agent whose
 * run calls attack(host, linear).  dull() hands over a valid but useless result (every weight
 * zero), for attacks that go on working. */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H
#include <sqz/sqz.h>
#include <stdlib.h>
#include <string.h>

#define HOSTILE_PARAMS(P)                                                                          \
    P(SQZ_INT, bits, 8, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, group_size, 32, 32, 128, "32|64|128", SQZ_SEARCH, "features that share a scale")
SQZ_CALL(hostile_run, HOSTILE_PARAMS);
static sqz_status attack(const sqz_host *, const sqz_linear *);

__attribute__((unused)) static sqz_status dull(const sqz_host *host, const sqz_linear *l,
                                               float scale)
{
    int64_t n = l->rows * l->cols;
    uint8_t *codes = malloc((size_t)n), *zeros = malloc((size_t)n);
    float *scales = malloc((size_t)n * sizeof *scales);
    sqz_status st = codes && zeros && scales ? SQZ_OK : SQZ_E_NOMEM;
    for (int64_t i = 0; i < n && !st; i++) codes[i] = zeros[i] = 128, scales[i] = scale;
    if (!st) st = l->set_affine(l, host, 8, 8, 1, codes, scales, zeros);
    free(codes);
    free(zeros);
    free(scales);
    return st;
}

static sqz_status hostile_run(const sqz_host *host, void *self, void *subject, int64_t bits,
                              int64_t group_size)
{
    (void)self, (void)bits, (void)group_size;
    host->tick(host, 0.25, "about to misbehave");
    return attack(host, subject);
}

static const sqz_method_steps hostile_steps = {sizeof hostile_steps, SQZ_PER_LINEAR, 0, 0,
                                               SQZ_FORM_INT_AFFINE};
static const void *hostile_extension(const char *id)
{
    return strcmp(id, SQZ_METHOD_STEPS_1) ? NULL : &hostile_steps;
}

#define HOSTILE_ID(ID)                                                                             \
    static const sqz_agent hostile_agents[] = {{.struct_size = sizeof(sqz_agent),                  \
                                                .rank = 1,                                         \
                                                .id = ID,                                          \
                                                .kind = "method/1",                                \
                                                .name = ID,                                        \
                                                .summary = "misbehaves on purpose",                \
                                                .version = "1.0.0",                                \
                                                .license = "MIT",                                  \
                                                .run = &hostile_run_call,                          \
                                                .extension = hostile_extension}};                  \
    static const sqz_plugin hostile_plugin = {.struct_size = sizeof hostile_plugin,                \
                                              .abi_major = SQZ_ABI_MAJOR,                          \
                                              .n_agents = 1,                                       \
                                              .agent_stride = sizeof(sqz_agent),                   \
                                              .agents = hostile_agents};                           \
    SQZ_PLUGIN_STAMP(0);                                                                           \
    const sqz_plugin *sqz_plugin_v1(void)                                                          \
    {                                                                                              \
        return &hostile_plugin;                                                                    \
    }
#define HOSTILE(NAME) HOSTILE_ID("org.example." NAME)
#endif
