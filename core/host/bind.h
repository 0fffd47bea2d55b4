/* bind.h - from resolved parameters to a call of a plain C function, through libffi. */
#ifndef SQZ_CORE_HOST_BIND_H
#define SQZ_CORE_HOST_BIND_H
#include "error/error.h"
#include "json/json.h"
#include <sqz/plugin.h>

typedef struct binding binding; /* a prepared call, used by one thread at a time */

/* The call's table must have passed describe_plugin. */
sqz_status binding_new(const sqz_call *, binding **out, sqz_error *err);
void binding_free(binding *);
/* Calls fn(host, self, subject, one argument a row) and stores what it returned.  `resolved` is the
 * result of params_resolve, checked again only as far as memory safety needs; strings are borrowed for
 * the call. */
sqz_status binding_call(binding *, const sqz_host *, void *self, void *subject,
                        const cJSON *resolved, sqz_status *returned, sqz_error *err);
#endif
