/* gguf_config.h - the keys of an architecture ("llama.block_count"), for the files of checkpoint/.
 */
#ifndef SQZ_RUNTIME_GGUF_CONFIG_H
#define SQZ_RUNTIME_GGUF_CONFIG_H
#include "checkpoint/gguf.h"

/* {architecture}.key */
int64_t gguf_arch_int(const gguf_file *, const char *key, int64_t fallback);
double gguf_arch_real(const gguf_file *, const char *key, double fallback);
#endif
