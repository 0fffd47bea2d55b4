/* segv_in_entry.c - its tables point nowhere. */
#include "bad.h"
SQZ_PLUGIN_STAMP(0);
static const sqz_plugin plugin = {sizeof plugin,        1, 0, 0, 0, 1, sizeof(sqz_agent), 0,
                                  (const sqz_agent *)16};

const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
