/* bad.h - the common part of plugins that misbehave: one agent of a made-up kind with function run.
 */
#ifndef TESTS_BAD_H
#define TESTS_BAD_H
#include <sqz/sqz.h>
#define BAD_NO_PARAMS(P) P(SQZ_INT, n, 1, 0, 100, NULL, 0, "any number")
/* A plugin whose agent NAME calls its own static function bad_run when run. */
#define BAD_PLUGIN(NAME, MAJOR, NEEDS)                                                             \
    SQZ_CALL(bad_run, BAD_NO_PARAMS);                                                              \
    static const sqz_agent bad_agents[] = {{sizeof(sqz_agent), 1, "org.example." NAME, "bad/1",    \
                                            NAME, "misbehaves on purpose", "1.0.0", "MIT", NULL,   \
                                            NULL, NULL, &bad_run_call, NULL}};                     \
    static const sqz_plugin bad_plugin = {sizeof bad_plugin, MAJOR, 0,         NEEDS, 0, 1,        \
                                          sizeof(sqz_agent), 0,     bad_agents};                   \
    const sqz_plugin *sqz_plugin_v1(void)                                                          \
    {                                                                                              \
        return &bad_plugin;                                                                        \
    }
#endif
