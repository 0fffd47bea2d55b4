/* probe.h - one test inside its child process: the plugin at hand, what to watch, the verdict. */
#ifndef SQZ_CORE_CHECK_PROBE_H
#define SQZ_CORE_CHECK_PROBE_H
#include "check/check.h"
#include "hash/sha256.h"
#include "host/host.h"
#include "host/program.h"
#include "io/clock.h"

typedef struct probe {
    const char *file; /* absolute */
    uint64_t seed;
    catalogue *catalogue;   /* NULL in tests of the bare file */
    const agent_info *info; /* NULL in tests without an agent */
    host *host;
    /* progress, watched by the host's tick */
    int stop_at_tick; /* from this tick on the plugin is told to stop; 0 = never */
    double stop_at_s; /* from this time on; 0 = never */
    int ticks;
    double last_tick_s, widest_gap_s, stopped_s;
    /* verdict */
    const char *verdict;
    char text[800];
    int report_fd;
} probe;

/* The verdict of the test, worst wins: pass < skip < warn < fail.  The first text of the worst
 * stays.
 */
__attribute__((format(printf, 3, 4))) void verdict(probe *, const char *verdict, const char *fmt,
                                                   ...);
#define FAIL(p, ...) verdict(p, "fail", __VA_ARGS__)
#define WARN(p, ...) verdict(p, "warn", __VA_ARGS__)
#define SKIP(p, ...) verdict(p, "skip", __VA_ARGS__)
#define PASS(p, ...) verdict(p, "pass", __VA_ARGS__)
/* What is being tried now: named when the process dies of it. */
__attribute__((format(printf, 2, 3))) void probe_at(probe *, const char *fmt, ...);
/* A number in [-1, 1) that depends on the seed, a stream and an index only. */
double probe_random(const probe *, uint64_t stream, uint64_t index);

/* ---- subjects: one ordinary use of an agent of a kind -------------------------------------------
 */
enum { USE_SMALL, USE_LARGE };
typedef struct subject_kind {
    const char *kind;
    /* Uses a freshly opened agent once; digest takes in everything it produced. */
    sqz_status (*use)(probe *, agent *, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err);
} subject_kind;
extern const subject_kind subject_method, subject_eval, subject_search, subject_format,
    subject_hardware, subject_tracker, subject_data;
/* NULL when no subject is built in for the kind. */
const subject_kind *subject_of(const char *kind);
/* Opens, uses, closes.  digest may be NULL. */
sqz_status probe_use(probe *, const cJSON *with, int size, char digest[DIGEST_TEXT],
                     sqz_error *err);

/* ---- the table of tests
 * -------------------------------------------------------------------------- */
enum {
    TEST_FILE = 1,  /* needs the file only: nothing is loaded by the frame */
    TEST_ONCE = 2,  /* once a file, not once an agent */
    TEST_USES = 4,  /* uses the agent: skipped when the gate test did not survive */
    TEST_GATE = 8,  /* its crash or timeout makes the later TEST_USES pointless */
    TEST_LOADS = 16 /* same for everything that loads the file */
};
typedef struct check_case {
    const char *stage, *name, *kind; /* kind NULL: all */
    int flags;
    double timeout_s;
    void (*run)(probe *);
    const char *says; /* one sentence: what a good plugin does */
} check_case;

extern const check_case cases_file[], cases_host[], cases_method[], cases_eval[], cases_search[],
    cases_format[], cases_hardware[], cases_tracker[], cases_data[], cases_age[],
    cases_manners[]; /* each ends with a NULL stage */
#endif
