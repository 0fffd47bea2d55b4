/* parquet_encoding.c - the packed integers of Parquet: the run-length / bit-packed hybrid of levels
 * and dictionary indices, and delta-packed integers. */
#include "data/parquet_parts.h"
#include <string.h>

typedef struct bits {
    const uint8_t *at;
    int64_t n, i; /* bytes; position in them */
} bits;

static int read_varint(bits *b, uint64_t *out)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && b->i < b->n; shift += 7) {
        uint8_t byte = b->at[b->i++];
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return 1;
        }
    }
    return 0;
}

/* Number k of values packed `width` bits each, lowest bit first.  The caller checked the bytes. */
static uint64_t packed_at(const uint8_t *p, int64_t k, int width)
{
    int64_t bit = k * width;
    uint64_t v = 0;
    for (int got = 0; got < width;) {
        int at = (int)(bit & 7), take = 8 - at < width - got ? 8 - at : width - got;
        uint64_t part = (uint64_t)(p[bit >> 3] >> at) & ((1u << take) - 1);
        v |= part << got;
        got += take;
        bit += take;
    }
    return v;
}

int pq_hybrid(const uint8_t *src, int64_t n_src, int width, int64_t n, uint32_t *out)
{
    bits b = {src, n_src, 0};
    int bytes = (width + 7) / 8;
    if (width < 0 || width > 32) return 0;
    for (int64_t i = 0; i < n;) {
        uint64_t head;
        if (!read_varint(&b, &head)) return 0;
        uint64_t count = head >> 1;
        if (head & 1) {
            int64_t packed; /* bytes of count groups of eight */
            if (count > (uint64_t)INT64_MAX / 8 ||
                __builtin_mul_overflow((int64_t)count, (int64_t)width, &packed))
                return 0;
            /* The last group may be cut where no value is left. */
            int64_t take = (int64_t)count * 8 < n - i ? (int64_t)count * 8 : n - i;
            if ((take * width + 7) / 8 > b.n - b.i) return 0;
            for (int64_t k = 0; k < take; k++) out[i++] = (uint32_t)packed_at(b.at + b.i, k, width);
            b.i += packed < b.n - b.i ? packed : b.n - b.i;
        } else {
            uint32_t value = 0;
            if (bytes > b.n - b.i) return 0;
            memcpy(&value, b.at + b.i, (size_t)bytes); /* little-endian, as the file */
            b.i += bytes;
            if (width < 32 && value >> width) return 0;
            for (; count && i < n; count--) out[i++] = value;
        }
        if (!(head >> 1)) return 0; /* an empty run would never end */
    }
    return 1;
}

int pq_delta(const uint8_t *src, int64_t n_src, int64_t n, int64_t *out, int64_t *used)
{
    bits b = {src, n_src, 0};
    uint64_t block, minis, total, first, least;
    if (!read_varint(&b, &block) || !read_varint(&b, &minis) || !read_varint(&b, &total) ||
        !read_varint(&b, &first) || total != (uint64_t)n)
        return 0;
    if (!minis || minis > 512 || !block || block > 1 << 20 || block % minis || (block / minis) % 8)
        return 0;
    int64_t per = (int64_t)(block / minis), i = 0;
    uint64_t value = first >> 1 ^ -(first & 1); /* zigzag; sums wrap, as in the format */
    if (n) out[i++] = (int64_t)value;
    while (i < n) {
        if (!read_varint(&b, &least) || (int64_t)minis > b.n - b.i) return 0;
        const uint8_t *widths = b.at + b.i;
        b.i += (int64_t)minis;
        least = least >> 1 ^ -(least & 1);
        for (uint64_t m = 0; m < minis && i < n; m++) {
            int64_t bytes = per * widths[m] / 8;
            if (widths[m] > 64 || bytes > b.n - b.i) return 0;
            for (int64_t k = 0; k < per && i < n; k++) {
                value += least + packed_at(b.at + b.i, k, widths[m]);
                out[i++] = (int64_t)value;
            }
            b.i += bytes;
        }
    }
    *used = b.i;
    return 1;
}
