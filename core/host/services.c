/* services.c - see services.h: log, fail, tick, and the tables of sqz/services.h.
 *
 * The tables are constant and live as long as the process, as the ABI promises; what differs
 * between agents is found through the sqz_host that every call carries. */
#include "host/services.h"
#include "host/evaluation.h"
#include "host/http.h"
#include "io/clock.h"
#include "pool/pool.h"
#include "reference/reference.h"
#include <string.h>

static host_seat *seat_of(const sqz_host *h)
{
    return h->impl;
}

/* ---- log, fail, tick
 * ------------------------------------------------------------------------------------ */
static void on_log(const sqz_host *h, int32_t level, const char *text)
{
    const host_hooks *hooks = &seat_of(h)->owner->hooks;
    if (hooks->log && text) hooks->log(hooks->ctx, level, seat_of(h)->info->id, text);
}

static sqz_status on_fail(const sqz_host *h, sqz_status code, const char *text)
{
    host_seat *seat = seat_of(h);
    seat->code = code;
    seat->own = SQZ_OK;
    snprintf(seat->text, sizeof seat->text, "%s", text ? text : "");
    return code;
}

sqz_status host_fail(const sqz_host *h, sqz_status status, const char *text)
{
    sqz_status known = status >= SQZ_E_INTERNAL ? status
                       : status == ERR_STORAGE  ? SQZ_E_IO
                       : status == ERR_MODEL    ? SQZ_E_INVALID
                                                : SQZ_E_INTERNAL;
    on_fail(h, known, text);
    seat_of(h)->own = status;
    return known;
}

static int32_t on_tick(const sqz_host *h, double done, const char *what)
{
    const host_hooks *hooks = &seat_of(h)->owner->hooks;
    return hooks->tick ? hooks->tick(hooks->ctx, done, what ? what : "") != 0 : 0;
}

/* ---- sqz.pool/1
 * ----------------------------------------------------------------------------------------- */
static int32_t pool_size(const sqz_host *h)
{
    (void)h;
    return pool_threads();
}

static void pool_parallel_for(const sqz_host *h, int64_t n, int64_t grain,
                              void (*body)(void *arg, int64_t begin, int64_t end, int32_t thread),
                              void *arg)
{
    (void)h;
    pool_for(n, grain, body, arg);
}

/* ---- sqz.linalg/1: the device's, or the reference where the device has none
 * ----------------------------- */
static sqz_status linalg_gemm(const sqz_host *h, int32_t ta, int32_t tb, int64_t m, int64_t n,
                              int64_t k, double alpha, const float *a, int64_t lda, const float *b,
                              int64_t ldb, double beta, float *c, int64_t ldc)
{
    const device *d = &seat_of(h)->owner->device;
    if (SQZ_HAS(d->hw, sqz_hardware, gemm) && d->hw->gemm)
        return d->hw->gemm(d->dev, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return reference_hardware()->gemm(NULL, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static sqz_status linalg_inverse_factor(const sqz_host *h, float *a, int64_t n)
{
    const device *d = &seat_of(h)->owner->device;
    if (SQZ_HAS(d->hw, sqz_hardware, inverse_factor) && d->hw->inverse_factor)
        return d->hw->inverse_factor(d->dev, a, n);
    return reference_hardware()->inverse_factor(NULL, a, n);
}

static sqz_status linalg_reverse_cholesky(const sqz_host *h, float *a, int64_t n)
{
    const device *d = &seat_of(h)->owner->device;
    if (SQZ_HAS(d->hw, sqz_hardware, reverse_cholesky) && d->hw->reverse_cholesky)
        return d->hw->reverse_cholesky(d->dev, a, n);
    return reference_hardware()->reverse_cholesky(NULL, a, n);
}

static sqz_status linalg_gemm_rounded(const sqz_host *h, int64_t m, int64_t n, int64_t k,
                                      const float *a, int64_t lda, const float *b, int64_t ldb,
                                      double beta, float *c, int64_t ldc)
{
    const device *d = &seat_of(h)->owner->device;
    if (SQZ_HAS(d->hw, sqz_hardware, gemm_rounded) && d->hw->gemm_rounded)
        return d->hw->gemm_rounded(d->dev, m, n, k, a, lda, b, ldb, beta, c, ldc);
    return linalg_gemm(h, 0, 0, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

/* ---- sqz.rng/1
 * ------------------------------------------------------------------------------------------ */
/* The finalizer of splitmix64: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* splitmix64 begun at a key of (seed, name) and advanced index + 1 steps, which takes one product
 * because its state is a counter.  The name enters by FNV-1a.  These bits are part of reproducible
 * results: they never change within rng/1. */
static uint64_t rng_bits(const sqz_host *h, uint64_t seed, const char *name, uint64_t index)
{
    static const uint64_t GOLDEN = 0x9e3779b97f4a7c15u;
    uint64_t fnv = 0xcbf29ce484222325u;
    (void)h;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        fnv = (fnv ^ *p) * 0x100000001b3u;
    uint64_t key = mix(mix(seed + GOLDEN) ^ fnv);
    return mix(key + (index + 1) * GOLDEN);
}

/* ---- sqz.clock/1
 * ---------------------------------------------------------------------------------------- */
static double monotonic_now(const sqz_host *h)
{
    (void)h;
    return clock_s();
}

/* ---- by id
 * ------------------------------------------------------------------------------------------------
 */
static const sqz_pool pool_table = {sizeof pool_table, 0, pool_size, pool_parallel_for};
static const sqz_linalg linalg_table = {
    sizeof linalg_table, 0, linalg_gemm, linalg_inverse_factor, linalg_reverse_cholesky,
    linalg_gemm_rounded};
static const sqz_rng rng_table = {sizeof rng_table, 0, rng_bits};
static const sqz_clock clock_table = {sizeof clock_table, 0, monotonic_now};

static const void *on_service(const sqz_host *h, const char *id)
{
    if (!id) return NULL;
    if (!strcmp(id, SQZ_POOL_1)) return &pool_table;
    if (!strcmp(id, SQZ_RNG_1)) return &rng_table;
    if (!strcmp(id, SQZ_CLOCK_1)) return &clock_table;
    if (!strcmp(id, SQZ_HTTP_1)) return http_table();
    if (!strcmp(id, SQZ_TASK_1)) return evaluation_table();
    if (!strcmp(id, SQZ_LINALG_1)) return seat_of(h)->owner->device.hw ? &linalg_table : NULL;
    return NULL;
}

void seat_init(host_seat *seat, host *owner, const agent_info *info)
{
    memset(seat, 0, sizeof *seat);
    seat->owner = owner;
    seat->info = info;
    seat->table = (sqz_host){
        sizeof seat->table, SQZ_ABI_MINOR, seat, SQZ_VERSION, on_log, on_fail, on_tick, on_service};
    seat->shown = owner->dress ? owner->dress(owner->dress_ctx, &seat->table) : &seat->table;
}
