/* unpack.c - see unpack.h. */
#include "data/unpack.h"
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

const char *codec_name(int32_t codec)
{
    static const char *const names[] = {"none",   "snappy", "gzip", "lzo",
                                        "brotli", "lz4",    "zstd", "lz4_raw"};
    return codec >= 0 && codec < 8 ? names[codec] : "codec";
}

int codec_known(int32_t codec)
{
    return codec == CODEC_NONE || codec == CODEC_SNAPPY || codec == CODEC_GZIP ||
           codec == CODEC_ZSTD;
}

/* ---- one block of a known size ------------------------------------------------------------------
 */

enum { GZIP_OR_ZLIB = 32 + 15 }; /* window bits of inflateInit2: the header says which */

static int inflate_block(const uint8_t *src, int64_t n_src, uint8_t *dst, int64_t n_dst)
{
    z_stream z = {0};
    if (n_src > UINT32_MAX || n_dst > UINT32_MAX || inflateInit2(&z, GZIP_OR_ZLIB) != Z_OK)
        return 0;
    uint8_t none[1];
    z.next_in = (uint8_t *)src; /* zlib does not write there */
    z.avail_in = (uInt)n_src;
    z.next_out = n_dst ? dst : none;
    z.avail_out = (uInt)n_dst;
    int end = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return end == Z_STREAM_END && z.avail_out == 0;
}

static int snappy_block(const uint8_t *src, int64_t n_src, uint8_t *dst, int64_t n_dst)
{
    size_t n = 0;
    const char *from = (const char *)src;
    if (snappy_uncompressed_length(from, (size_t)n_src, &n) != SNAPPY_OK || n != (size_t)n_dst)
        return 0;
    return snappy_uncompress(from, (size_t)n_src, (char *)dst, &n) == SNAPPY_OK &&
           n == (size_t)n_dst;
}

int unpack_block(int32_t codec, const uint8_t *src, int64_t n_src, uint8_t *dst, int64_t n_dst)
{
    if (n_src < 0 || n_dst < 0) return 0;
    switch (codec) {
    case CODEC_NONE:
        if (n_src != n_dst) return 0;
        if (n_dst) memcpy(dst, src, (size_t)n_dst);
        return 1;
    case CODEC_SNAPPY: return snappy_block(src, n_src, dst, n_dst);
    case CODEC_GZIP: return inflate_block(src, n_src, dst, n_dst);
    case CODEC_ZSTD:
        return ZSTD_decompress(dst, (size_t)n_dst, src, (size_t)n_src) == (size_t)n_dst;
    default: return 0;
    }
}

/* ---- whole files --------------------------------------------------------------------------------
 */

typedef struct sink {
    const char *path;
    char *at;
    int64_t n, room, limit;
} sink;

/* Room for more; at least one byte, or an error. */
static sqz_status sink_grow(sink *s, sqz_error *err)
{
    if (s->n < s->room) return SQZ_OK;
    if (s->room >= s->limit)
        return err_set(err, ERR_MODEL,
                       "%s: holds more than %lld MB of data; unpack it, or give a part", s->path,
                       (long long)(s->limit >> 20));
    int64_t room = s->room ? 2 * s->room : 1 << 16;
    if (room > s->limit) room = s->limit;
    char *more = realloc(s->at, (size_t)room);
    if (!more) return err_set(err, SQZ_E_NOMEM, "%s: no memory to unpack it", s->path);
    s->at = more;
    s->room = room;
    return SQZ_OK;
}

static sqz_status damaged(const sink *s, const char *kind, sqz_error *err)
{
    return err_set(err, ERR_MODEL, "%s: the %s data is damaged or cut short", s->path, kind);
}

static uInt chunk_of(int64_t n)
{
    return n > 1 << 30 ? 1u << 30 : (uInt)n;
}

static sqz_status unpack_gzip(sink *s, const uint8_t *src, int64_t n_src, sqz_error *err)
{
    z_stream z = {0};
    int64_t used = 0;
    sqz_status st = SQZ_OK;
    if (inflateInit2(&z, GZIP_OR_ZLIB) != Z_OK)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory to unpack it", s->path);
    for (int end = Z_OK; !(end == Z_STREAM_END && used == n_src);) {
        if ((st = sink_grow(s, err)) != SQZ_OK) break;
        if (end == Z_STREAM_END) inflateReset(&z); /* members follow each other */
        z.next_in = (uint8_t *)src + used;
        uInt in = z.avail_in = chunk_of(n_src - used);
        z.next_out = (uint8_t *)s->at + s->n;
        uInt out = z.avail_out = chunk_of(s->room - s->n);
        end = inflate(&z, Z_NO_FLUSH);
        int moved = z.avail_in != in || z.avail_out != out;
        used += in - z.avail_in;
        s->n += out - z.avail_out;
        if ((end != Z_OK && end != Z_STREAM_END) || !moved) {
            st = damaged(s, "gzip", err);
            break;
        }
    }
    inflateEnd(&z);
    return st;
}

static sqz_status unpack_zstd(sink *s, const uint8_t *src, int64_t n_src, sqz_error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {src, (size_t)n_src, 0};
    sqz_status st = SQZ_OK;
    size_t left = 1; /* 0: a frame has ended */
    if (!z) return err_set(err, SQZ_E_NOMEM, "%s: no memory to unpack it", s->path);
    ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax,
                           27); /* 128 MiB, zstd's own limit for strangers */
    for (;;) {
        if ((st = sink_grow(s, err)) != SQZ_OK) break;
        ZSTD_outBuffer out = {s->at, (size_t)s->room, (size_t)s->n};
        size_t before = in.pos;
        left = ZSTD_decompressStream(z, &out, &in);
        int moved = in.pos != before || out.pos != (size_t)s->n;
        s->n = (int64_t)out.pos;
        if (ZSTD_isError(left)) {
            st = damaged(s, "zstd", err);
            break;
        }
        if (in.pos == in.size && (left == 0 || out.pos < out.size || !moved)) break;
    }
    if (st == SQZ_OK && left != 0) st = damaged(s, "zstd", err);
    ZSTD_freeDStream(z);
    return st;
}

sqz_status unpack_file(const char *path, int32_t codec, const uint8_t *src, int64_t n_src,
                       int64_t max_bytes, char **out, int64_t *n, sqz_error *err)
{
    sink s = {.path = path, .limit = max_bytes};
    sqz_status st =
        codec == CODEC_ZSTD ? unpack_zstd(&s, src, n_src, err) : unpack_gzip(&s, src, n_src, err);
    if (st != SQZ_OK) {
        free(s.at);
        return st;
    }
    *out = s.at;
    *n = s.n;
    return SQZ_OK;
}
