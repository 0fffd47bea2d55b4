/* random.c - see random.h. */
#include "task/random.h"
#include "pool/pool.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 624, M = 397, CHUNKS = 100, PER_CHUNK = 1000 };

static void init(python_random *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->at = N;
}

/* init_by_array with the one word that a small seed is. */
void python_random_seed(python_random *r, uint32_t seed)
{
    uint32_t *s = r->state;
    init(r, 19650218u);
    int i = 1;
    for (int k = N; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + seed;
        if (++i >= N) s[0] = s[N - 1], i = 1;
    }
    for (int k = N - 1; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i >= N) s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
}

static void refill(python_random *r)
{
    uint32_t *s = r->state;
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

static uint32_t next32(python_random *r)
{
    if (r->at >= N) refill(r);
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

double python_random_next(python_random *r)
{
    uint32_t a = next32(r) >> 5, b = next32(r) >> 6;
    return (a * 67108864.0 + b) * (1.0 / 9007199254740992.0);
}

/* Below n by rejection; n < 2^32. */
static int64_t below(python_random *r, int64_t n)
{
    int bits = 64 - __builtin_clzll((unsigned long long)n);
    for (;;) {
        int64_t v = next32(r) >> (32 - bits);
        if (v < n) return v;
    }
}

/* Up to here sample() shuffles a pool; beyond, it draws until the index is new. */
static int64_t pool_limit(int64_t k)
{
    return 21 + (k > 5 ? (int64_t)pow(4, ceil(log((double)k * 3) / log(4))) : 0);
}

sqz_status python_random_sample(python_random *r, int64_t n, int64_t k, int64_t *out,
                                sqz_error *err)
{
    if (k < 0 || k > n || n > UINT32_MAX)
        return err_set(err, SQZ_E_INVALID, "sample: %lld of %lld rows", (long long)k, (long long)n);
    if (n > pool_limit(k)) {
        for (int64_t i = 0; i < k; i++) {
            int64_t known = i;
            while (known >= 0) {
                out[i] = below(r, n);
                for (known = i - 1; known >= 0 && out[known] != out[i];) known--;
            }
        }
        return SQZ_OK;
    }
    int64_t *pool = malloc((size_t)(n ? n : 1) * sizeof *pool);
    if (!pool) return err_set(err, SQZ_E_NOMEM, "sample: no memory");
    for (int64_t i = 0; i < n; i++) pool[i] = i;
    for (int64_t i = 0; i < k; i++) {
        int64_t j = below(r, n - i);
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    free(pool);
    return SQZ_OK;
}

typedef struct bootstrap {
    const double *values;
    int64_t n;
    double *draws; /* [CHUNKS * PER_CHUNK] */
} bootstrap;

static void resample(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    bootstrap *b = arg;
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        python_random r;
        python_random_seed(&r, (uint32_t)c);
        for (int64_t i = 0; i < PER_CHUNK; i++) {
            double sum = 0;
            for (int64_t k = 0; k < b->n; k++)
                sum += b->values[(int64_t)(python_random_next(&r) * (double)b->n)];
            b->draws[c * PER_CHUNK + i] = exp(-(sum / (double)b->n));
        }
    }
}

sqz_status bootstrap_perplexity(const double *values, int64_t n, double *out, sqz_error *err)
{
    enum { DRAWS = CHUNKS * PER_CHUNK };
    bootstrap b = {values, n, malloc(DRAWS * sizeof(double))};
    double mean = 0, square = 0;
    if (!b.draws) return err_set(err, SQZ_E_NOMEM, "bootstrap: no memory");
    if (n > 0) pool_for(CHUNKS, 1, resample, &b);
    for (int64_t i = 0; i < DRAWS && n > 0; i++) mean += b.draws[i] / DRAWS;
    for (int64_t i = 0; i < DRAWS && n > 0; i++)
        square += (b.draws[i] - mean) * (b.draws[i] - mean);
    free(b.draws);
    *out = sqrt(square / (DRAWS - 1));
    return SQZ_OK;
}
