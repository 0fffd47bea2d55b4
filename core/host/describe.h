/* describe.h - the tables of a loaded plugin: checked, indexed by their own strides, told as JSON.
 *
 * The description is what the catalogue caches and what a loaded file must still say.  Used by the
 * scanning child and, again, by the process that loads a plugin to run it. */
#ifndef SQZ_CORE_HOST_DESCRIBE_H
#define SQZ_CORE_HOST_DESCRIBE_H
#include "error/error.h"
#include "json/json.h"
#include <sqz/sqz.h>

enum { PLUGIN_MAX_AGENTS = 64, CALL_MAX_PARAMS = 48 };

/* Finds sqz_plugin_v1 in a dlopen handle and calls it.  ERR_PLUGIN when it is not there. */
sqz_status describe_entry(void *handle, const char *file, const sqz_plugin **out, sqz_error *err);
/* {"abi","needs","agents":[{id,kind,name,summary,version,license,rank,tags,params,extensions}]};
 * ERR_PLUGIN naming the agent and the row when a table breaks the contract. */
sqz_status describe_plugin(const sqz_plugin *, const char *file, cJSON **out, sqz_error *err);

/* Elements of the plugin's arrays, found by the writer's stride, never by this program's sizeof. */
const sqz_agent *plugin_agent(const sqz_plugin *, uint32_t i);
const sqz_param *call_param(const sqz_call *, uint32_t i);
#endif
