/* no_entry.c - stamped, but exports no entry. */
#include "bad.h"
SQZ_PLUGIN_STAMP(0);
SQZ_EXPORT int sqz_plugin_v2(void);
int sqz_plugin_v2(void)
{
    return 0;
}
