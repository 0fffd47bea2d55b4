/* cases_age.c - hosts that are older, newer or poorer than this one, and memory that runs out.
 *
 * An old host has tables that end where those of minor 0 ended; behind them lies a page that nobody
 * may touch, so reading a field without asking for it is a crash here and not at a user's. */
#include "check/failing.h"
#include "check/probe.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- tables of other sizes ------------------------------------------------------------------- */
enum { MAX_TABLES = 32, GROWN = 256 };
/* What minor 0 had; sdk/abi/1.0.txt pins the same numbers. */
static const struct {
    const char *id;
    uint32_t bytes;
} baseline[] = {
    {SQZ_POOL_1, 24}, {SQZ_LINALG_1, 24}, {SQZ_RNG_1, 16}, {SQZ_CLOCK_1, 16}, {SQZ_HTTP_1, 16}};
enum { N_SERVICES = sizeof baseline / sizeof *baseline };

static struct {
    int larger;
    const char *missing;                           /* a service that is not there, "*" = none is */
    int asked;                                     /* somebody wanted a missing one */
    const sqz_host *ours;                          /* the table that is imitated */
    const void *from[MAX_TABLES], *to[MAX_TABLES]; /* tables that were made */
    int n;
} dressed;

/* A copy whose last byte stands before a page without access. */
static void *before_a_wall(const void *table, uint32_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0) return NULL;
    void *copy = pages + page - bytes;
    memcpy(copy, table, bytes);
    memcpy(copy, &bytes, sizeof bytes); /* struct_size stands first in every table */
    return copy;
}

/* A copy with fields that nobody knows yet. */
static void *grown(const void *table)
{
    uint32_t bytes, more;
    memcpy(&bytes, table, sizeof bytes);
    more = bytes + GROWN;
    char *copy = malloc(more);
    if (!copy) return NULL;
    memset(copy, 0xa5, more);
    memcpy(copy, table, bytes);
    memcpy(copy, &more, sizeof more);
    return copy;
}

static const void *resized(const void *table, uint32_t old_bytes)
{
    for (int i = 0; i < dressed.n; i++)
        if (dressed.from[i] == table) return dressed.to[i];
    if (!table || dressed.n == MAX_TABLES) return table;
    const void *copy = dressed.larger ? grown(table) : before_a_wall(table, old_bytes);
    if (!copy) return table;
    dressed.from[dressed.n] = table;
    dressed.to[dressed.n++] = copy;
    return copy;
}

static const void *other_service(const sqz_host *h, const char *id)
{
    const void *table = dressed.ours->service(h, id);
    for (int i = 0; i < N_SERVICES && id; i++)
        if (!strcmp(id, baseline[i].id)) return resized(table, baseline[i].bytes);
    return table;
}

static const sqz_host *other_size(void *ctx, const sqz_host *table)
{
    static sqz_host ours;
    sqz_host changed = *table;
    (void)ctx;
    ours = *table;
    dressed.ours = &ours;
    changed.service = other_service;
    changed.abi_minor = dressed.larger ? SQZ_ABI_MINOR + 7 : 0;
    const void *copy = dressed.larger ? grown(&changed) : before_a_wall(&changed, 56);
    return copy ? copy : table;
}

static void use_on(probe *p, int larger)
{
    char here[DIGEST_TEXT], there[DIGEST_TEXT];
    sqz_error err = {0};
    probe_at(p, "one ordinary use");
    if (probe_use(p, NULL, USE_SMALL, here, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    dressed.larger = larger;
    host_set_dress(p->host, other_size, NULL);
    probe_at(p, larger ? "a use on a host of a newer minor" : "a use on a host of minor 0");
    sqz_status s = probe_use(p, NULL, USE_SMALL, there, &err);
    if (s && larger)
        FAIL(p, "does not work on a host of a newer minor: %s", err.text);
    else if (s && !*err.text)
        FAIL(p, "refuses a host of minor 0 without saying why");
    else if (s)
        PASS(p, "refuses a host of minor 0: %s", err.text);
    else if (strcmp(here, there) != 0)
        FAIL(p, "gives other results on a host of another minor");
}

static void host_smaller(probe *p)
{
    use_on(p, 0);
}

static void host_larger(probe *p)
{
    use_on(p, 1);
}

/* ---- services -------------------------------------------------------------------------------- */
static const void *poorer_service(const sqz_host *h, const char *id)
{
    if (id && (!strcmp(dressed.missing, "*") || !strcmp(dressed.missing, id))) {
        dressed.asked = 1;
        return NULL;
    }
    return dressed.ours->service(h, id);
}

static const sqz_host *poorer(void *ctx, const sqz_host *table)
{
    static sqz_host ours, changed;
    (void)ctx;
    ours = *table;
    dressed.ours = &ours;
    changed = *table;
    changed.service = poorer_service;
    return &changed;
}

static void service_missing(probe *p)
{
    int refused = 0;
    host_set_dress(p->host, poorer, NULL);
    for (int i = 0; i <= N_SERVICES; i++) {
        sqz_error err = {0};
        dressed.missing = i < N_SERVICES ? baseline[i].id : "*";
        dressed.asked = 0;
        probe_at(p, "a host without %s", i < N_SERVICES ? dressed.missing : "any service");
        sqz_status s = probe_use(p, NULL, USE_SMALL, NULL, &err);
        if (!s) continue;
        refused++;
        if (!dressed.asked) FAIL(p, "fails for another reason than the service: %s", err.text);
        if (strstr(err.text, "without saying why") || strstr(err.text, "no status of"))
            FAIL(p, "fails without a sentence on a host without %s", dressed.missing);
        else if (i < N_SERVICES && !strstr(err.text, dressed.missing))
            WARN(p, "does not name the service that is missing (%s): %s", dressed.missing,
                 err.text);
    }
    PASS(p, "%d of %d refused in a sentence, the others not needed", refused, N_SERVICES + 1);
}

/* ---- memory ---------------------------------------------------------------------------------- */
static void alloc_fails(probe *p)
{
    enum { MOST = 48 };
    char right[DIGEST_TEXT], after[DIGEST_TEXT];
    sqz_error err = {0};
    if (probe_use(p, NULL, USE_SMALL, right, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    if (PROGRAM_SANITIZED || !failing_install(p->file)) {
        SKIP(p, PROGRAM_SANITIZED ? "the sanitizer's allocator is in the way"
                                  : "calls no allocator by itself");
        return;
    }
    failing_at(0);
    probe_use(p, NULL, USE_SMALL, NULL, NULL);
    int64_t n = failing_calls(), holds = failing_held();
    int64_t stride = n > MOST ? n / MOST : 1;
    for (int64_t k = 1; k <= n; k += stride) {
        probe_at(p, "allocation %lld of %lld fails", (long long)k, (long long)n);
        failing_at(k);
        sqz_status s = probe_use(p, NULL, USE_SMALL, NULL, &err);
        failing_at(0);
        if (s && (strstr(err.text, "no status of") || !*err.text))
            FAIL(p, "allocation %lld fails: %s", (long long)k, err.text);
        if (failing_held() > holds) {
            FAIL(p, "when allocation %lld fails it keeps %lld blocks", (long long)k,
                 (long long)(failing_held() - holds));
            return;
        }
    }
    if (probe_use(p, NULL, USE_SMALL, after, &err))
        FAIL(p, "does not work any more after memory ran out: %s", err.text);
    else if (strcmp(right, after) != 0)
        FAIL(p, "gives other results after memory ran out");
    PASS(p, "%lld allocations of its own", (long long)n);
}

/* ---- time ------------------------------------------------------------------------------------ */
static void deadline_kept(probe *p)
{
    static const double parts[] = {0.1, 0.4, 0.7};
    sqz_error err = {0};
    double begin = clock_s(), worst = 0;
    if (probe_use(p, NULL, USE_LARGE, NULL, &err)) FAIL(p, "%s", err.text);
    double whole = clock_s() - begin;
    for (int i = 0; i < 3; i++) {
        p->stop_at_s = clock_s() + parts[i] * whole;
        probe_at(p, "a deadline at %.0f %% of its time", 100 * parts[i]);
        probe_use(p, NULL, USE_LARGE, NULL, NULL);
        double late = clock_s() - p->stop_at_s;
        if (late > worst) worst = late;
    }
    p->stop_at_s = 0;
    if (worst > 1) FAIL(p, "goes on for %.1f s after its deadline; at most 1 s", worst);
    PASS(p, "ends within %.0f ms of its deadline", 1e3 * (worst > 0 ? worst : 0));
}

const check_case cases_age[] = {
    {"old/new", "host-smaller", NULL, TEST_USES, 60, host_smaller,
     "works on, or refuses, a host of the first minor"},
    {"old/new", "host-larger", NULL, TEST_USES, 60, host_larger,
     "works on a host with fields that it does not know"},
    {"old/new", "service-missing", NULL, TEST_USES, 60, service_missing,
     "says which service it misses"},
    {"life", "alloc-fails-at-n", NULL, TEST_USES, 120, alloc_fails,
     "survives that memory runs out, and keeps none"},
    {"control", "deadline-kept", NULL, TEST_USES, 120, deadline_kept, "stops at its deadline"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
