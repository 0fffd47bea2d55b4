/* error.h - one failure: a code and a sentence that says what, where and what to try.
 *
 * Functions of the runtime, the registry and the core return sqz_status and fill *err when it is
 * not SQZ_OK; err may be NULL.  Outputs are untouched on failure and nothing is left to free. */
#ifndef SQZ_RUNTIME_ERROR_H
#define SQZ_RUNTIME_ERROR_H
#include <sqz/plugin.h>

/* Codes beyond the ABI's, chosen so that each maps to one exit code (contracts). */
enum {
    ERR_USAGE = -101,    /* command line or configuration            exit 2 */
    ERR_MODEL = -102,    /* model, tokenizer or data invalid         exit 3 */
    ERR_PLUGIN = -103,   /* a plugin cannot be loaded                exit 4 */
    ERR_STORAGE = -104,  /* disk full, checksum, permission          exit 7 */
    ERR_REMOTE = -105,   /* tracker, executor                        exit 8 */
    ERR_CONFLICT = -106, /* resume conflict                          exit 9 */
    ERR_NO_RESULT = -107,/* no candidate meets the constraints       exit 5 */
    ERR_BUDGET = -108    /* budget spent before any full evaluation  exit 6 */
};

typedef struct sqz_error {
    sqz_status code;
    char text[1024];
} sqz_error;

/* Fills *err (when not NULL) and returns code. */
__attribute__((format(printf, 3, 4))) sqz_status err_set(sqz_error *err, sqz_status code,
                                                        const char *fmt, ...);
/* Puts "context: " before the text. */
__attribute__((format(printf, 2, 3))) void err_prefix(sqz_error *err, const char *fmt, ...);
/* The one way out where a few bytes cannot be had and no caller could go on: says for what, and
 * ends the process with status 1.  Journals and stores are durable at every moment, so a run
 * continues with --resume.  What reads foreign files reports SQZ_E_NOMEM instead. */
_Noreturn void memory_failed(const char *what);
/* Another exit status for it: a worker's parent tells it from what a plugin does. */
void memory_failed_status(int status);
int err_exit_code(sqz_status code);
/* "unsupported", "storage", ...: stable words for JSON. */
const char *err_name(sqz_status code);
#endif
