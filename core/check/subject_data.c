/* subject_data.c - sources for data plugins: the example that each brings, repeated, cut short and
 * damaged, and sources that are nobody's.
 *
 * Every source ends before a page that nobody may touch, so reading behind it is a crash here and
 * not at a user's.  A plugin of names without files is only asked for its example; that its service
 * is not here is no fault.  Left out: what the rows are good for. */
#include "check/probe.h"
#include "host/row_line.h"
#include "host/source.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE_BYTES = 4 << 20, MOST_ROWS = 2000000, MOST_CUTS = 160, DAMAGED = 240 };

/* ---- sources --------------------------------------------------------------------------------- */
typedef struct ground {
    char *pages;
    size_t mapped;
    sqz_source table;
} ground;

static const sqz_data *table_of(const agent *a)
{
    return agent_extension(a, SQZ_DATA_1);
}

/* Its sources are files? */
static int reads_files(const sqz_data *t)
{
    return !(t->flags & SQZ_DATA_NAMED) || (t->endings && *t->endings);
}

/* n bytes (filled by the caller) that end where the forbidden page begins. */
static char *ground_open(ground *g, const sqz_data *t, int64_t n)
{
    static char name[64];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), data = ((size_t)n + page) / page * page;
    const char *ending = t->endings ? t->endings : "";
    snprintf(name, sizeof name, "example%.*s", (int)strcspn(ending, "|"), ending);
    *g = (ground){.mapped = data + page};
    g->pages = mmap(NULL, g->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->pages == MAP_FAILED || mprotect(g->pages + data, page, PROT_NONE) != 0)
        memory_failed("a source");
    char *bytes = g->pages + data - n;
    g->table = (sqz_source){sizeof(sqz_source), 0, NULL, name, "/nowhere/example", bytes, n};
    return bytes;
}

static void ground_close(ground *g)
{
    munmap(g->pages, g->mapped);
}

/* The example, `copies` times; of a plugin of names its name. */
static void ground_example(ground *g, const sqz_data *t, int64_t copies)
{
    int64_t n = t->example_bytes;
    char *bytes = ground_open(g, t, n * copies);
    for (int64_t i = 0; i < copies; i++) memcpy(bytes + i * n, t->example, (size_t)n);
    if (reads_files(t)) return;
    g->table.name = t->example;
    g->table.path = NULL;
    g->table.data = NULL;
    g->table.bytes = 0;
}

/* ---- reading --------------------------------------------------------------------------------- */
typedef struct taken {
    sha256 *digest; /* or NULL */
    int64_t rows, empty;
} taken;

static sqz_status take(void *ctx, const cJSON *row, sqz_error *err)
{
    taken *t = ctx;
    char *text = json_text(row, 0);
    if (t->digest) sha256_update(t->digest, text, strlen(text) + 1);
    free(text);
    t->empty += !row->child;
    return ++t->rows <= MOST_ROWS
               ? SQZ_OK
               : err_set(err, SQZ_E_INTERNAL, "more than %d rows of a small source", MOST_ROWS);
}

static sqz_status read_with(agent *a, const sqz_source *s, const cJSON *with, taken *t,
                            sqz_error *err)
{
    int64_t n;
    return source_read(a, s, with, take, t, &n, err);
}

/* The service of a plugin of names need not be here. */
static int is_absence(const sqz_data *t, sqz_status s)
{
    return !reads_files(t) && s == SQZ_E_IO;
}

/* Rows of so many copies of the example; -1: they cannot be read. */
static int64_t rows_of(agent *a, const cJSON *with, int64_t copies)
{
    ground g;
    taken t = {0};
    ground_example(&g, table_of(a), copies);
    sqz_status s = read_with(a, &g.table, with, &t, NULL);
    ground_close(&g);
    return s ? -1 : t.rows;
}

/* Can the example be made large by repeating it?  The watch on progress does not see the trying. */
static int can_repeat(probe *p, agent *a, const cJSON *with)
{
    probe was = *p;
    p->stop_at_tick = 0;
    p->stop_at_s = 0;
    int more = rows_of(a, with, 2) > rows_of(a, with, 1);
    *p = was;
    p->last_tick_s = clock_s();
    return more;
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    const sqz_data *table = table_of(a);
    ground g;
    taken t = {.digest = digest};
    int64_t copies = 1;
    if (size == USE_LARGE && reads_files(table) && can_repeat(p, a, with))
        copies = LARGE_BYTES / table->example_bytes + 1;
    ground_example(&g, table, copies);
    sqz_status s = read_with(a, &g.table, with, &t, err);
    ground_close(&g);
    return is_absence(table, s) ? SQZ_OK : s;
}

const subject_kind subject_data = {"data/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
static int open_agent(probe *p, agent **a)
{
    sqz_error err = {0};
    if (agent_open(p->host, p->info, a, &err) == SQZ_OK) return 1;
    FAIL(p, "%s", err.text);
    return 0;
}

/* What a source may come to: rows, or a refusal in a sentence. */
static void judge_odd(probe *p, agent *a, const sqz_source *s, const char *what)
{
    taken t = {0};
    sqz_error err = {0};
    probe_at(p, "%s", what);
    sqz_status status = read_with(a, s, NULL, &t, &err);
    if (t.rows > MOST_ROWS)
        FAIL(p, "%s: gives rows without end", what);
    else if (status == SQZ_E_INTERNAL || strstr(err.text, "without saying why"))
        FAIL(p, "%s: %s", what, err.text);
}

static void example_gives_rows(probe *p)
{
    agent *a;
    ground g;
    taken t = {0};
    sqz_error err = {0};
    if (!open_agent(p, &a)) return;
    ground_example(&g, table_of(a), 1);
    sqz_status s = read_with(a, &g.table, NULL, &t, &err);
    if (is_absence(table_of(a), s))
        SKIP(p, "its source is not here: %s", err.text);
    else if (s)
        FAIL(p, "its example cannot be read: %s", err.text);
    else if (!t.rows)
        FAIL(p, "finds no rows in its example");
    else if (t.empty)
        FAIL(p, "%lld of %lld rows of its example have no fields", (long long)t.empty,
             (long long)t.rows);
    else
        PASS(p, "%lld rows in its example of %lld bytes", (long long)t.rows,
             (long long)table_of(a)->example_bytes);
    ground_close(&g);
    agent_close(a);
}

static sqz_status stop_early(void *ctx, const cJSON *row, sqz_error *err)
{
    (void)ctx, (void)row;
    return err_set(err, SQZ_E_CANCELLED, "enough");
}

static void same_rows_again(probe *p)
{
    agent *a;
    char digest[2][DIGEST_TEXT];
    sqz_error err = {0};
    if (!open_agent(p, &a)) return;
    for (int i = 0; i < 2; i++) {
        ground g;
        taken t = {.digest = sha256_new()};
        int64_t n;
        ground_example(&g, table_of(a), 1);
        probe_at(p, i ? "the example once more on the same instance" : "the example");
        sqz_status s = read_with(a, &g.table, NULL, &t, &err);
        if (s && is_absence(table_of(a), s))
            SKIP(p, "its source is not here: %s", err.text);
        else if (s)
            FAIL(p, "%s", err.text);
        sha256_final(t.digest, digest[i]);
        probe_at(p, "left after the first row");
        if (!i) source_read(a, &g.table, NULL, stop_early, NULL, &n, NULL);
        ground_close(&g);
    }
    if (strcmp(digest[0], digest[1]) != 0)
        FAIL(p, "the same source gives other rows when it is opened again");
    agent_close(a);
}

/* Behind the last row there is nothing, however often it is asked. */
static void ends_once(probe *p)
{
    agent *a;
    ground g;
    row_line line;
    taken t = {0};
    if (!open_agent(p, &a)) return;
    const sqz_data *table = table_of(a);
    ground_example(&g, table, 1);
    row_line_init(&line, agent_host(a));
    if (read_with(a, &g.table, NULL, &t, NULL) == SQZ_OK)
        for (int i = 0; i < 3 && row_line_begin(&line, t.rows + 1); i++) {
            int32_t more = 0;
            probe_at(p, "asked for a row behind the last one");
            sqz_status s = table->next(agent_host(a), agent_self(a), &line.table, &more);
            if (!s && more) FAIL(p, "gives a row after it said that there are no more");
        }
    row_line_free(&line);
    ground_close(&g);
    agent_close(a);
}

static void odd_sources(probe *p)
{
    static const struct {
        const char *what, *unit; /* repeated to fill the bytes; NULL: random */
        int64_t bytes;
    } rows[] = {{"an empty source", "", 0},
                {"one byte", "x", 1},
                {"one line end", "\n", 1},
                {"zero bytes", "\0", 4096},
                {"bytes that are no text", "\xff", 4096},
                {"spaces and line ends", " \r\n\t", 4096},
                {"one long line", "a", 1 << 20},
                {"open brackets", "[{(<", 65536},
                {"a long number", "9", 4096},
                {"a table", "a,b,c\n1,2,3\n", 4096},
                {"headers", "Name: value\r\n", 4096},
                {"random bytes", NULL, 65536}};
    agent *a;
    if (!open_agent(p, &a)) return;
    if (!reads_files(table_of(a))) SKIP(p, "reads no files");
    for (size_t i = 0; i < sizeof rows / sizeof *rows && reads_files(table_of(a)); i++) {
        ground g;
        char *bytes = ground_open(&g, table_of(a), rows[i].bytes);
        size_t unit = rows[i].unit && *rows[i].unit ? strlen(rows[i].unit) : 1;
        for (int64_t k = 0; k < rows[i].bytes; k++)
            bytes[k] = rows[i].unit ? rows[i].unit[(size_t)k % unit]
                                    : (char)(128 * probe_random(p, 7, (uint64_t)k));
        judge_odd(p, a, &g.table, rows[i].what);
        ground_close(&g);
    }
    agent_close(a);
}

static void cut_short(probe *p)
{
    agent *a;
    if (!open_agent(p, &a)) return;
    const sqz_data *t = table_of(a);
    int64_t n = t->example_bytes, stride = n / MOST_CUTS + 1;
    if (!reads_files(t)) SKIP(p, "reads no files");
    for (int64_t cut = n - 1; cut > 0 && reads_files(t); cut -= stride) {
        ground g;
        char what[80];
        snprintf(what, sizeof what, "its example cut after %lld bytes", (long long)cut);
        memcpy(ground_open(&g, t, cut), t->example, (size_t)cut);
        judge_odd(p, a, &g.table, what);
        ground_close(&g);
    }
    agent_close(a);
}

/* Bytes changed, digits made large, parts doubled. */
static void damage(const probe *p, char *bytes, int64_t n, uint64_t round)
{
    static const char odd[] = {0, '\n', '\r', (char)0xff, '9', '-', ' ', '"'};
    for (uint64_t k = 0; k <= round % 4; k++) {
        double where = (probe_random(p, 500 + round, 2 * k) + 1) / 2;
        double which = (probe_random(p, 500 + round, 2 * k + 1) + 1) / 2;
        int64_t at = (int64_t)(where * (double)n);
        if (round % 3 == 0)
            bytes[at] ^= (char)(1 << (int)(which * 8));
        else
            bytes[at] = odd[(size_t)(which * sizeof odd)];
        if (round % 5 == 0 && at > 8) memmove(bytes + at - 8, bytes + at, (size_t)(n - at));
    }
}

static void damaged(probe *p)
{
    agent *a;
    if (!open_agent(p, &a)) return;
    const sqz_data *t = table_of(a);
    int64_t n = t->example_bytes;
    if (!reads_files(t)) SKIP(p, "reads no files");
    for (uint64_t round = 0; round < DAMAGED && reads_files(t); round++) {
        ground g;
        char what[80], *bytes = ground_open(&g, t, n);
        snprintf(what, sizeof what, "its example, damaged (number %d)", (int)round);
        memcpy(bytes, t->example, (size_t)n);
        damage(p, bytes, n, round);
        judge_odd(p, a, &g.table, what);
        ground_close(&g);
    }
    agent_close(a);
}

static void probe_is_picky(probe *p)
{
    static const char json[] = "{\"text\": \"a row of JSON lines\"}\n";
    agent *a;
    ground g;
    if (!open_agent(p, &a)) return;
    const sqz_data *t = table_of(a);
    if (!t->probe || !reads_files(t)) {
        SKIP(p, "has no probe");
        agent_close(a);
        return;
    }
    ground_example(&g, t, 1);
    int64_t n = t->example_bytes < 4096 ? t->example_bytes : 4096;
    int32_t own = t->probe("nameless", g.table.data, n);
    if (own <= 0) FAIL(p, "does not know its own example by its first bytes");
    if (own > 100) FAIL(p, "is %d of 100 sure", own);
    for (int64_t k = n - 1; k > 0; k -= n / 64 + 1)
        t->probe("nameless", (const char *)g.table.data + t->example_bytes - k, k);
    ground_close(&g);
    char *bytes = ground_open(&g, t, 4096);
    for (int k = 0; k < 4096; k++) bytes[k] = (char)(128 * probe_random(p, 9, (uint64_t)k));
    if (t->probe("nameless", bytes, 4096) > 0) FAIL(p, "claims random bytes");
    if (t->probe("nameless", bytes + 4096, 0) > 0) FAIL(p, "claims an empty file");
    if (t->probe("nameless", memcpy(bytes + 4096 - sizeof json + 1, json, sizeof json - 1),
                 sizeof json - 1) > 50)
        WARN(p, "is rather sure of a file of JSON lines");
    ground_close(&g);
    agent_close(a);
}

/* ---- a host whose rows fail ------------------------------------------------------------------ */
static struct {
    const sqz_row *ours;
    int calls, fail_at;
} failing;

static sqz_status due(sqz_status (*real)(const sqz_row *, const char *, const char *, int64_t),
                      const char *name, const char *text, int64_t n)
{
    return ++failing.calls >= failing.fail_at ? SQZ_E_NOMEM : real(failing.ours, name, text, n);
}

static sqz_status text_or_fail(const sqz_row *r, const char *name, const char *text, int64_t n)
{
    (void)r;
    return due(failing.ours->text, name, text, n);
}

static sqz_status item_or_fail(const sqz_row *r, const char *name, const char *text, int64_t n)
{
    (void)r;
    return due(failing.ours->item, name, text, n);
}

static sqz_status number_or_fail(const sqz_row *r, const char *name, double value)
{
    (void)r;
    return ++failing.calls >= failing.fail_at ? SQZ_E_NOMEM
                                              : failing.ours->number(failing.ours, name, value);
}

/* Reads the example while the host's call number fail_at fails; *reached: it came to that. */
static sqz_status read_failing(agent *a, const sqz_source *source, int fail_at, int *reached)
{
    const sqz_data *t = table_of(a);
    row_line line;
    sqz_status s = agent_call(a, (void *)source, NULL, NULL);
    row_line_init(&line, agent_host(a));
    failing.ours = &line.table;
    failing.calls = 0;
    failing.fail_at = fail_at;
    const sqz_row row = {sizeof row, 0, NULL, text_or_fail, number_or_fail, item_or_fail};
    int32_t more = 1;
    for (int64_t i = 1; !s && more && row_line_begin(&line, i); i++) {
        more = 0;
        s = t->next(agent_host(a), agent_self(a), &row, &more);
        if (failing.calls >= fail_at) break;
    }
    row_line_free(&line);
    *reached = failing.calls >= fail_at;
    return s;
}

static void failures_passed_on(probe *p)
{
    agent *a;
    ground g;
    if (!open_agent(p, &a)) return;
    ground_example(&g, table_of(a), 1);
    for (int at = 1, reached = 1; at < 40 && reached; at++) {
        probe_at(p, "the host's call number %d fails", at);
        sqz_status s = read_failing(a, &g.table, at, &reached);
        if (reached && s == SQZ_OK)
            FAIL(p, "a failing call of the host (number %d) is ignored", at);
    }
    ground_close(&g);
    agent_close(a);
}

const check_case cases_data[] = {
    {"behave", "example-gives-rows", "data/1", TEST_USES, 60, example_gives_rows,
     "finds rows in its own example"},
    {"behave", "same-rows-again", "data/1", TEST_USES, 60, same_rows_again,
     "a source opened again gives the same rows"},
    {"behave", "ends-once", "data/1", TEST_USES, 60, ends_once, "behind the last row is nothing"},
    {"behave", "odd-sources", "data/1", TEST_USES, 60, odd_sources,
     "empty, tiny and foreign sources are refused in a sentence"},
    {"behave", "cut-short", "data/1", TEST_USES, 60, cut_short,
     "a source that ends anywhere gives rows or a sentence"},
    {"behave", "damaged", "data/1", TEST_USES, 60, damaged,
     "a damaged source gives rows or a sentence"},
    {"behave", "probe-is-picky", "data/1", TEST_USES, 60, probe_is_picky,
     "knows its own sources and claims no others"},
    {"behave", "failures-passed-on", "data/1", TEST_USES, 60, failures_passed_on,
     "a failing call of the host ends it"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
