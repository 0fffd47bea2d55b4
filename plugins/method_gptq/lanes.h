/* lanes.h - sixteen rows at once: the vector type of the inner loops and their run-time dispatch.
 *
 * Every inner loop of the plugin works on columns of a transposed tile, so that neighbouring lanes
 * are neighbouring output rows, which never interact.  The loops are written once with the vector
 * extension of gcc and clang and compiled three times; the plugin is built for the baseline CPU and
 * picks a copy when it runs.  The copies differ in fused multiply-add, so a result depends on the
 * instruction set, never on threads.
 * Left out: matrix products, which are the host's (sqz.linalg/1). */
#ifndef GPTQ_LANES_H
#define GPTQ_LANES_H
#include <stdint.h>
#include <string.h>

typedef float lane_f __attribute__((vector_size(64)));
typedef int32_t lane_i __attribute__((vector_size(64)));
typedef uint8_t lane_u8 __attribute__((vector_size(16)));

enum { LANES = 16, TILE_ROWS = 64, TILE_COLS = 128, STRIP = 64 };
#define LANE_INLINE static inline __attribute__((always_inline, unused))

LANE_INLINE lane_f lane_set(float x)
{
    return (lane_f){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
LANE_INLINE lane_f lane_load(const float *p)
{
    lane_f v;
    memcpy(&v, p, sizeof v);
    return v;
}
LANE_INLINE void lane_store(float *p, lane_f v)
{
    memcpy(p, &v, sizeof v);
}
LANE_INLINE lane_f lane_load_u8(const uint8_t *p)
{
    lane_u8 v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(__builtin_convertvector(v, lane_i), lane_f);
}
LANE_INLINE void lane_store_u8(uint8_t *p, lane_f v)
{
    lane_u8 b = __builtin_convertvector(__builtin_convertvector(v, lane_i), lane_u8);
    memcpy(p, &b, sizeof b);
}
LANE_INLINE lane_f lane_pick(lane_i mask, lane_f yes, lane_f no)
{
    return (lane_f)((mask & (lane_i)yes) | (~mask & (lane_i)no));
}
/* All bits where a < b; both finite.  From the sign of a difference: gcc takes a comparison that is
 * used more than once apart into sixteen. */
LANE_INLINE lane_i lane_below(lane_f a, lane_f b)
{
    return (lane_i)(a - b) >> 31;
}
LANE_INLINE lane_f lane_min(lane_f a, lane_f b)
{
    return lane_pick(a < b, a, b);
}
LANE_INLINE lane_f lane_max(lane_f a, lane_f b)
{
    return lane_pick(a > b, a, b);
}
LANE_INLINE lane_f lane_abs(lane_f a)
{
    return (lane_f)((lane_i)a & 0x7fffffff);
}
/* Sixteen vectors as a square: rows become columns.  Four rounds, each of which exchanges halves,
 * quarters, eighths and sixteenths of two vectors. */
#define LANE_SWAP(a, b, ...)                                                                       \
    do {                                                                                           \
        const lane_f swap_a = a, swap_b = b;                                                       \
        a = __builtin_shufflevector(swap_a, swap_b, LANE_LOW_##__VA_ARGS__);                       \
        b = __builtin_shufflevector(swap_a, swap_b, LANE_HIGH_##__VA_ARGS__);                      \
    } while (0)
#define LANE_LOW_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define LANE_HIGH_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LANE_LOW_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define LANE_HIGH_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LANE_LOW_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define LANE_HIGH_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LANE_LOW_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define LANE_HIGH_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31

LANE_INLINE void lane_transpose(lane_f x[LANES])
{
    for (int i = 0; i < 8; i++) LANE_SWAP(x[i], x[i + 8], 8);
    for (int i = 0; i < 16; i += 8)
        for (int j = i; j < i + 4; j++) LANE_SWAP(x[j], x[j + 4], 4);
    for (int i = 0; i < 16; i += 4)
        for (int j = i; j < i + 2; j++) LANE_SWAP(x[j], x[j + 2], 2);
    for (int i = 0; i < 16; i += 2) LANE_SWAP(x[i], x[i + 1], 1);
}

/* Nearest integer, ties to even; |a| < 2^22. */
LANE_INLINE lane_f lane_round(lane_f a)
{
    const lane_f magic = lane_set(12582912.0f);
    return (a + magic) - magic;
}
/* Nearest level of the grid lo..hi for a weight already divided by its scale. */
LANE_INLINE lane_f lane_level(lane_f a, lane_f lo, lane_f hi)
{
    return lane_round(lane_min(lane_max(a, lo), hi));
}
/* Nearest IEEE half, as float; magnitudes are kept within [2^-24, 65504] so that a scale is neither
 * zero nor infinite. */
LANE_INLINE lane_f lane_half(lane_f a)
{
    lane_i bits = (lane_i)a, sign = bits & (int32_t)0x80000000;
    lane_f m = lane_min(lane_max(lane_abs(a), lane_set(0x1p-24f)), lane_set(65504.0f));
    lane_i normal = (lane_i)m;
    normal = (normal + 0xfff + ((normal >> 13) & 1)) & (int32_t)0xffffe000;
    lane_f tiny = lane_round(m * lane_set(0x1p24f)) * lane_set(0x1p-24f);
    lane_f r = lane_pick(lane_below(m, lane_set(0x1p-14f)), tiny, (lane_f)normal);
    return (lane_f)((lane_i)r | sign);
}

/* A step of scale s towards the minimum of den x^2 - 2 num x over steps x.  The new scale is a
 * half, so the gain is looked at again; a scale does not cross zero. */
LANE_INLINE lane_f lane_scale_step(lane_f s, lane_f num, lane_f den)
{
    const lane_f none = lane_set(0);
    lane_i usable = lane_below(none, den);
    lane_f best = num / lane_pick(usable, den, lane_set(1));
    lane_f new = lane_half(s + best), step = new - s;
    lane_i keep =
        usable & lane_below(den * step * (step - 2 * best), none) & lane_below(none, new *s);
    return lane_pick(keep, step, none);
}

/* Defines `pick()`, which returns the copy of the pool body `name` that suits this CPU. */
typedef void lane_body(void *arg, int64_t begin, int64_t end, int32_t thread);
#if defined(__x86_64__)
#define LANE_DISPATCH(pick, name)                                                                  \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))) static void name##_avx512(       \
        void *arg, int64_t begin, int64_t end, int32_t thread)                                     \
    {                                                                                              \
        name(arg, begin, end, thread);                                                             \
    }                                                                                              \
    __attribute__((target("avx2,fma"))) static void name##_avx2(void *arg, int64_t begin,          \
                                                                int64_t end, int32_t thread)       \
    {                                                                                              \
        name(arg, begin, end, thread);                                                             \
    }                                                                                              \
    static void name##_any(void *arg, int64_t begin, int64_t end, int32_t thread)                  \
    {                                                                                              \
        name(arg, begin, end, thread);                                                             \
    }                                                                                              \
    static lane_body *pick(void)                                                                   \
    {                                                                                              \
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&             \
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))              \
            return name##_avx512;                                                                  \
        return __builtin_cpu_supports("avx2") ? name##_avx2 : name##_any;                          \
    }
#else
#define LANE_DISPATCH(pick, name)                                                                  \
    static void name##_any(void *arg, int64_t begin, int64_t end, int32_t thread)                  \
    {                                                                                              \
        name(arg, begin, end, thread);                                                             \
    }                                                                                              \
    static lane_body *pick(void)                                                                   \
    {                                                                                              \
        return name##_any;                                                                         \
    }
#endif
#endif
