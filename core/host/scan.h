/* scan.h - describing a plugin file in a child process that may crash, hang or lie. */
#ifndef SQZ_CORE_HOST_SCAN_H
#define SQZ_CORE_HOST_SCAN_H
#include "error/error.h"
#include "json/json.h"

/* Runs `PROGRAM --scan-plugin FILE` for at most timeout_s and returns its description (see
 * describe.h).  On failure *deny tells whether the file must not be opened again until it changes:
 * it crashed, hung or ended the process, as opposed to being refused with a reason. */
sqz_status scan_file(const char *file, double timeout_s, cJSON **out, int *deny, sqz_error *err);
#endif
