/* scan.h - describing a plugin file in a child process that may crash, hang or lie. */
#ifndef SQZ_CORE_HOST_SCAN_H
#define SQZ_CORE_HOST_SCAN_H
#include "error/error.h"
#include "json/json.h"

/* What a failed scan says about the file. */
typedef enum scan_fault {
    SCAN_REFUSED,  /* nothing beyond the message: it is refused with a reason, or was not scanned */
    SCAN_CRASHED,  /* it crashed or ended the process: not to be opened again until it changes */
    SCAN_TIMED_OUT /* it hung, or the machine was busy */
} scan_fault;

/* Runs `PROGRAM --scan-plugin FILE` for at most timeout_s and returns its description (see
 * describe.h), or why not. */
sqz_status scan_file(const char *file, double timeout_s, cJSON **out, scan_fault *fault,
                     sqz_error *err);
#endif
