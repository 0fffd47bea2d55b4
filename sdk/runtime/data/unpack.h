/* unpack.h - decompression with a limit: pages of Parquet, and whole .gz and .zst files.
 *
 * Both by the libraries of the formats (zlib, zstd, snappy).  Left out: LZ4, Brotli, LZO. */
#ifndef SQZ_RUNTIME_UNPACK_H
#define SQZ_RUNTIME_UNPACK_H
#include "error/error.h"

/* Numbers as Parquet writes them. */
enum { CODEC_NONE = 0, CODEC_SNAPPY = 1, CODEC_GZIP = 2, CODEC_ZSTD = 6 };
const char *codec_name(int32_t codec); /* also of codecs that are not read; "codec" when unknown */
int codec_known(int32_t codec);

/* src becomes exactly n_dst bytes at dst.  0: it does not (corrupt, or another size). */
int unpack_block(int32_t codec, const uint8_t *src, int64_t n_src, uint8_t *dst, int64_t n_dst);

/* A whole gzip or zstd file (several members or frames follow each other) into a malloc'd buffer of
 * at most max_bytes. */
sqz_status unpack_file(const char *path, int32_t codec, const uint8_t *src, int64_t n_src,
                       int64_t max_bytes, char **out, int64_t *n, sqz_error *err);
#endif
