/* cases_host.c - what every kind of agent owes: parameters, life, determinism, control. */
#include "check/probe.h"
#include "pool/pool.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- parameters ------------------------------------------------------------------------------ */
static void help_present(probe *p)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, p->info->params)
    {
        const char *help = json_str(row, "help", "");
        if (!*help) FAIL(p, "parameter %s has no help", json_str(row, "name", ""));
        if (strlen(help) > 160)
            WARN(p, "help of %s has %zu characters; one line is enough", json_str(row, "name", ""),
                 strlen(help));
    }
}

static void unknown_key_refused(probe *p)
{
    cJSON *with = cJSON_CreateObject(), *resolved = NULL;
    sqz_error err = {0};
    cJSON_AddNumberToObject(with, "no_such_parameter", 1);
    if (params_resolve(p->info, with, NULL, &resolved, &err) == SQZ_OK)
        FAIL(p, "a parameter named no_such_parameter was accepted");
    cJSON_Delete(resolved);
    cJSON_Delete(with);
}

/* Resolved defaults must resolve to themselves and satisfy the schema that editors get. */
static void schema_roundtrip(probe *p)
{
    cJSON *once = NULL, *twice = NULL, *schema = params_schema(p->info);
    sqz_error err = {0};
    const cJSON *row;
    cJSON *with = cJSON_CreateObject();
    cJSON_ArrayForEach(row, p->info->params) /* required ones have a default, too */
        cJSON_AddItemToObject(with, json_str(row, "name", ""),
                              cJSON_Duplicate(json_get(row, "default"), 1));
    if (params_resolve(p->info, with, NULL, &once, &err) ||
        params_resolve(p->info, once, NULL, &twice, &err)) {
        FAIL(p, "its defaults are refused: %s", err.text);
    } else {
        char *a = json_canonical(once), *b = json_canonical(twice);
        if (strcmp(a, b) != 0)
            FAIL(p, "resolved parameters change when resolved again: %s, %s", a, b);
        free(a);
        free(b);
        const cJSON *value;
        cJSON_ArrayForEach(value,
                           once) if (!json_get(json_get(schema, "properties"), value->string))
            FAIL(p, "its schema lacks %s", value->string);
    }
    cJSON_Delete(with);
    cJSON_Delete(once);
    cJSON_Delete(twice);
    cJSON_Delete(schema);
}

/* An answer that a good plugin may give to strange but legal parameters. */
static void judge_use(probe *p, sqz_status s, const sqz_error *err, const char *what)
{
    if (s == SQZ_OK || s == SQZ_E_UNSUPPORTED || s == SQZ_E_INVALID || s == SQZ_E_NOMEM) {
        if (s && strstr(err->text, "without saying why")) FAIL(p, "%s: %s", what, err->text);
        return;
    }
    FAIL(p, "%s: %s", what, err->text);
}

static void try_value(probe *p, const char *name, const cJSON *value)
{
    cJSON *with = cJSON_CreateObject();
    sqz_error err = {0};
    char what[200], *text = json_text(value, 0);
    snprintf(what, sizeof what, "%s = %.100s", name, text);
    free(text);
    cJSON_AddItemToObject(with, name, cJSON_Duplicate(value, 1));
    probe_at(p, "%s", what);
    judge_use(p, probe_use(p, with, USE_SMALL, NULL, &err), &err, what);
    cJSON_Delete(with);
}

static void binding_at_borders(probe *p)
{
    const cJSON *row, *item;
    cJSON_ArrayForEach(row, p->info->params)
    {
        const char *name = json_str(row, "name", ""), *type = json_str(row, "type", "");
        if (json_get(row, "choices")) {
            cJSON_ArrayForEach(item, json_get(row, "choices")) try_value(p, name, item);
        } else if (!strcmp(type, "bool")) {
            cJSON *both[] = {cJSON_CreateFalse(), cJSON_CreateTrue()};
            for (int i = 0; i < 2; i++) try_value(p, name, both[i]);
            for (int i = 0; i < 2; i++) cJSON_Delete(both[i]);
        } else {
            if (json_get(row, "lo")) try_value(p, name, json_get(row, "lo"));
            if (json_get(row, "hi")) try_value(p, name, json_get(row, "hi"));
        }
    }
}

/* A legal value, drawn evenly. */
static cJSON *draw(const probe *p, const cJSON *row, uint64_t stream, uint64_t index)
{
    double u = (probe_random(p, stream, index) + 1) / 2;
    int n = cJSON_GetArraySize(json_get(row, "choices"));
    if (n > 0)
        return cJSON_Duplicate(cJSON_GetArrayItem(json_get(row, "choices"), (int)(u * n)), 1);
    if (!strcmp(json_str(row, "type", ""), "bool")) return cJSON_CreateBool(u < 0.5);
    if (!json_get(row, "lo") || !json_get(row, "hi"))
        return cJSON_Duplicate(json_get(row, "default"), 1);
    double lo = json_num(row, "lo", 0), hi = json_num(row, "hi", 0), x = lo + u * (hi - lo);
    /* Wide ranges are cost, not meaning: most draws stay where people use them. */
    if (hi - lo > 1000) x = lo + (u * u * u * u) * (hi - lo);
    return cJSON_CreateNumber(!strcmp(json_str(row, "type", ""), "int") ? floor(x) : x);
}

static void fuzz_inside(probe *p)
{
    enum { ROUNDS = 12 };
    if (cJSON_GetArraySize(p->info->params) == 0) SKIP(p, "takes no parameters");
    for (uint64_t k = 0; k < ROUNDS && cJSON_GetArraySize(p->info->params); k++) {
        cJSON *with = cJSON_CreateObject();
        const cJSON *row;
        sqz_error err = {0};
        uint64_t i = 0;
        cJSON_ArrayForEach(row, p->info->params)
            cJSON_AddItemToObject(with, json_str(row, "name", ""), draw(p, row, 100 + k, i++));
        char *text = json_text(with, 0);
        probe_at(p, "%s", text);
        judge_use(p, probe_use(p, with, USE_SMALL, NULL, &err), &err, text);
        free(text);
        cJSON_Delete(with);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */
static void open_close_100(probe *p)
{
    sqz_error err = {0};
    for (int i = 0; i < 100; i++) {
        agent *a;
        probe_at(p, "open and close number %d", i + 1);
        if (agent_open(p->host, p->info, &a, &err)) {
            FAIL(p, "open number %d: %s", i + 1, err.text);
            return;
        }
        agent_close(a);
    }
}

static void works_once(probe *p)
{
    sqz_error err = {0};
    probe_at(p, "one ordinary use");
    if (probe_use(p, NULL, USE_SMALL, NULL, &err)) FAIL(p, "%s", err.text);
}

static void two_instances(probe *p)
{
    const subject_kind *kind = subject_of(p->info->kind);
    char alone[DIGEST_TEXT], d[2][DIGEST_TEXT];
    sqz_error err = {0};
    agent *a[2];
    if (probe_use(p, NULL, USE_SMALL, alone, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (agent_open(p->host, p->info, &a[i], &err)) {
            FAIL(p, "instance %d: %s", i + 1, err.text);
            return;
        }
    for (int i = 1; i >= 0; i--) {
        sha256 *sum = sha256_new();
        probe_at(p, "using instance %d of two", i + 1);
        if (kind->use(p, a[i], NULL, USE_SMALL, sum, &err)) FAIL(p, "%s", err.text);
        sha256_final(sum, d[i]);
    }
    agent_close(a[0]);
    agent_close(a[1]);
    if (!p->verdict && (strcmp(d[0], d[1]) != 0 || strcmp(d[0], alone) != 0))
        FAIL(p, "two instances at once give other results than one alone");
}

static void use_after_failure(probe *p)
{
    char before[DIGEST_TEXT], after[DIGEST_TEXT];
    sqz_error err = {0};
    if (probe_use(p, NULL, USE_SMALL, before, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    p->stop_at_tick = 1;
    probe_at(p, "a use that is told to stop");
    probe_use(p, NULL, USE_SMALL, NULL, NULL);
    p->stop_at_tick = 0;
    probe_at(p, "the use after it");
    if (probe_use(p, NULL, USE_SMALL, after, &err))
        FAIL(p, "does not work any more after a stopped use: %s", err.text);
    else if (strcmp(before, after) != 0)
        FAIL(p, "gives other results after a stopped use");
}

/* ---- behaviour ------------------------------------------------------------------------------- */
static void deterministic(probe *p)
{
    char first[DIGEST_TEXT], again[DIGEST_TEXT];
    sqz_error err = {0};
    if (probe_use(p, NULL, USE_SMALL, first, &err)) {
        FAIL(p, "%s", err.text);
        return;
    }
    for (int i = 0; i < 3; i++) {
        void *shift = malloc(4096 * (size_t)(i + 1)); /* other addresses, other rubbish in memory */
        if (shift) memset(shift, 0xa5, 4096 * (size_t)(i + 1));
        free(i == 1 ? shift : NULL);
        if (probe_use(p, NULL, USE_SMALL, again, &err)) FAIL(p, "%s", err.text);
        if (strcmp(first, again) != 0)
            FAIL(p, "the same input twice gave different bytes (unset memory, time or addresses?)");
        if (i != 1) free(shift);
    }
}

static void independent_of_threads(probe *p)
{
    static const int counts[] = {1, 2, 4};
    char digest[3][DIGEST_TEXT];
    sqz_error err = {0};
    for (int i = 0; i < 3; i++) {
        pool_set_threads(counts[i]);
        probe_at(p, "with %d threads", counts[i]);
        if (probe_use(p, NULL, USE_SMALL, digest[i], &err)) {
            FAIL(p, "with %d threads: %s", counts[i], err.text);
            return;
        }
    }
    if (strcmp(digest[0], digest[1]) != 0 || strcmp(digest[1], digest[2]) != 0)
        WARN(p, "results depend on the number of threads");
}

/* ---- control --------------------------------------------------------------------------------- */
static void ticks_often(probe *p)
{
    sqz_error err = {0};
    double begin = clock_s(), seconds;
    if (probe_use(p, NULL, USE_LARGE, NULL, &err)) FAIL(p, "%s", err.text);
    seconds = clock_s() - begin;
    if (p->ticks == 0 && seconds > 0.5)
        FAIL(p, "worked %.1f s without one tick; call tick at least every 100 ms", seconds);
    if (p->widest_gap_s > 2)
        FAIL(p, "%.1f s without a tick; call it at least every 100 ms", p->widest_gap_s);
    else if (p->widest_gap_s > 0.25)
        WARN(p, "%.0f ms without a tick; call it at least every 100 ms", 1e3 * p->widest_gap_s);
    PASS(p, "%d ticks, at most %.0f ms apart", p->ticks, 1e3 * p->widest_gap_s);
}

static void cancel_within_1s(probe *p)
{
    sqz_error err = {0};
    double worst = 0;
    for (int at = 1; at <= 3; at++) {
        p->stop_at_tick = at;
        probe_at(p, "told to stop at tick %d", at);
        sqz_status s = probe_use(p, NULL, USE_LARGE, NULL, &err);
        if (p->stopped_s == 0) {
            if (at == 1) SKIP(p, "done before it ever asked whether to stop");
            return;
        }
        double took = clock_s() - p->stopped_s;
        if (took > worst) worst = took;
        if (s == SQZ_OK)
            FAIL(p, "was told to stop at tick %d and finished as if nothing happened", at);
        else if (s != SQZ_E_CANCELLED)
            FAIL(p, "was told to stop and returned \"%s\" instead of SQZ_E_CANCELLED", err.text);
    }
    if (worst > 1) FAIL(p, "took %.1f s to stop; at most 1 s", worst);
    PASS(p, "stops within %.0f ms", 1e3 * worst);
}

const check_case cases_host[] = {
    {"params", "help-present", NULL, 0, 20, help_present, "every parameter says what it means"},
    {"params", "unknown-key-refused", NULL, 0, 20, unknown_key_refused,
     "misspelt parameters are refused"},
    {"params", "schema-roundtrip", NULL, 0, 20, schema_roundtrip,
     "its defaults are legal and stay what they are"},
    {"life", "open-close-100", NULL, 0, 30, open_close_100, "instances come and go"},
    {"life", "works-once", NULL, TEST_USES | TEST_GATE, 60, works_once, "an ordinary use succeeds"},
    {"params", "binding-at-borders", NULL, TEST_USES, 120, binding_at_borders,
     "the ends of every range work or are refused in a sentence"},
    {"params", "fuzz-inside", NULL, TEST_USES, 120, fuzz_inside,
     "any legal parameters work or are refused in a sentence"},
    {"life", "two-instances", NULL, TEST_USES, 60, two_instances,
     "two instances do not disturb each other"},
    {"life", "use-after-failure", NULL, TEST_USES, 60, use_after_failure,
     "works on after a stopped use"},
    {"behave", "deterministic-same-seed", NULL, TEST_USES, 60, deterministic,
     "the same input gives the same bytes"},
    {"behave", "independent-of-threads", NULL, TEST_USES, 60, independent_of_threads,
     "the number of threads changes nothing"},
    {"control", "ticks-often", NULL, TEST_USES, 120, ticks_often, "reports progress often"},
    {"control", "cancel-within-1s", NULL, TEST_USES, 120, cancel_within_1s, "stops when told to"},
    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
