/* layout.c - the two moves between int-affine/1 and the file: matrices of words are turned over,
 * and zero points become one stream a group.
 *
 * A row of int-affine/1 is the same bit stream as a column of qweight, so whole words change place.
 * Left out: what the numbers mean (export.c, import.c). */
#include "gptq_file.h"

enum { SIDE = 4, BAND = 32 }; /* words of a square; of a stretch that stays in cache */

typedef uint32_t words __attribute__((vector_size(16)));

typedef struct turn_job {
    const uint8_t *from;
    uint8_t *to;
    int64_t rows, cols;
} turn_job;

static words load_words(const uint8_t *p)
{
    words w;
    memcpy(&w, p, sizeof w);
    return w;
}

static void turn_square(const turn_job *j, int64_t r, int64_t c)
{
    words a[SIDE], b[SIDE];
    for (int i = 0; i < SIDE; i++) a[i] = load_words(j->from + ((r + i) * j->cols + c) * 4);
    b[0] = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5);
    b[1] = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7);
    b[2] = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
    b[3] = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
    a[0] = __builtin_shufflevector(b[0], b[2], 0, 1, 4, 5);
    a[1] = __builtin_shufflevector(b[0], b[2], 2, 3, 6, 7);
    a[2] = __builtin_shufflevector(b[1], b[3], 0, 1, 4, 5);
    a[3] = __builtin_shufflevector(b[1], b[3], 2, 3, 6, 7);
    for (int i = 0; i < SIDE; i++) memcpy(j->to + ((c + i) * j->rows + r) * 4, &a[i], sizeof a[i]);
}

static void turn_band(const turn_job *j, int64_t r0, int64_t r1, int64_t c0, int64_t c1)
{
    int64_t whole_r = r0 + (r1 - r0) / SIDE * SIDE, whole_c = c0 + (c1 - c0) / SIDE * SIDE;
    for (int64_t c = c0; c < whole_c; c += SIDE)
        for (int64_t r = r0; r < whole_r; r += SIDE) turn_square(j, r, c);
    for (int64_t c = c0; c < c1; c++)
        for (int64_t r = c < whole_c ? whole_r : r0; r < r1; r++)
            memcpy(j->to + (c * j->rows + r) * 4, j->from + (r * j->cols + c) * 4, 4);
}

static void turn_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const turn_job *j = arg;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        int64_t r0 = b * BAND, r1 = r0 + BAND < j->rows ? r0 + BAND : j->rows;
        for (int64_t c0 = 0; c0 < j->cols; c0 += BAND)
            turn_band(j, r0, r1, c0, c0 + BAND < j->cols ? c0 + BAND : j->cols);
    }
}

void layout_turn(const sqz_host *host, const void *from, int64_t rows, int64_t cols, void *to)
{
    turn_job j = {from, to, rows, cols};
    int64_t bands = (rows + BAND - 1) / BAND;
    const sqz_pool *pool = host->service ? host->service(host, SQZ_POOL_1) : NULL;
    if (pool)
        pool->parallel_for(host, bands, 4, turn_rows, &j);
    else
        turn_rows(&j, 0, bands, 0);
}

void layout_put_zeros(const uint8_t *zeros, int64_t stride, int64_t n, int bits, uint8_t *stream)
{
    uint32_t hold = 0;
    int held = 0;
    for (int64_t i = 0; i < n; i++) {
        hold |= ((uint32_t)zeros[i * stride] - 1) << held;
        for (held += bits; held >= 8; held -= 8, hold >>= 8) *stream++ = (uint8_t)hold;
    }
}

void layout_get_zeros(const uint8_t *stream, int64_t n, int bits, int offset, uint16_t *zeros)
{
    uint32_t hold = 0, mask = (1u << bits) - 1;
    int held = 0;
    for (int64_t i = 0; i < n; i++) {
        for (; held < bits; held += 8) hold |= (uint32_t)*stream++ << held;
        zeros[i] = (uint16_t)((hold & mask) + (uint32_t)offset);
        hold >>= bits;
        held -= bits;
    }
}
