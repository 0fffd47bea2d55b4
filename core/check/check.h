/* check.h - is a plugin fit to be given to others?  Every test in a child process of its own.
 *
 * What `sqz plugin check FILE` does: the file's ELF tables, loading, the description, parameters,
 * the life of instances, behaviour on built-in subjects of the agent's kind, control and manners.
 * Works without a model.  Left out: whether a method is any good, which is what runs measure. */
#ifndef SQZ_CORE_CHECK_H
#define SQZ_CORE_CHECK_H
#include "error/error.h"
#include "json/json.h"

typedef struct check_row {
    const char *stage, *test, *agent; /* agent NULL: the file as a whole */
    const char *verdict;              /* pass, warn, fail, skip, crash, timeout */
    const char *text;                 /* what was found, or what the test asks */
    double seconds;
} check_row;

typedef struct check_options {
    const char *file;
    const char *only; /* one test by name, or NULL */
    uint64_t seed;
    double fuzz_s;  /* goes on with random parameters and inputs for so long, each agent; 0 = no */
    int in_process; /* runs tests in this process, for a debugger: a crash is ours, nothing is timed
                     */
    void (*done)(void *ctx, const check_row *); /* after each test; may be NULL */
    int (*stop)(void *ctx);                     /* polled; non-zero ends the check; may be NULL */
    void *ctx;
} check_options;

/* Runs the tests; `out` becomes the JSON result (schema sqz.check/1).  *passed: no fail, crash or
 * timeout.  ERR_USAGE when the file or the test's name is unknown. */
sqz_status check_run(const check_options *, cJSON *out, int *passed, sqz_error *err);

/* The tests in order, for --list; returns their number. */
int check_tests(void);
void check_test(int i, const char **stage, const char **name, const char **kind, const char **says);

/* One test in this process, reported on a descriptor that is closed (what --check-plugin does in
 * the child, and --in-process here). */
void check_here(const char *file, const char *test, const char *agent, uint64_t seed, int report);
/* The hidden child: `sqz --check-plugin FILE TEST AGENT SEED` ("-" = no agent).  Ends the process.
 */
int check_child_main(const char *file, const char *test, const char *agent, const char *seed);
#endif
