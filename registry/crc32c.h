/* crc32c.h - CRC-32C (Castagnoli), the checksum of journal records. */
#ifndef SQZ_CRC32C_H
#define SQZ_CRC32C_H
#include <stddef.h>
#include <stdint.h>
uint32_t crc32c(const void *data, size_t bytes);
#endif
