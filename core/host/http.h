/* http.h - sqz.http/1: the table that plugins get, and what tests set. */
#ifndef SQZ_CORE_HOST_HTTP_H
#define SQZ_CORE_HOST_HTTP_H
#include <sqz/services.h>

/* Never NULL: without a usable library, or with SQZ_OFFLINE=1, requests say so. */
const sqz_http *http_table(void);
#endif
