/* fuzz.h - what the fuzz targets share: a file without a disk, a folder that goes away, and
 * mutators that repair what plain mutation breaks first.
 *
 * A target is one fuzz_NAME.c with LLVMFuzzerTestOneInput.  Readers take paths, so the input
 * becomes a memory file; nothing is written to a disk. */
#ifndef SQZ_TESTS_FUZZ_H
#define SQZ_TESTS_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
/* libFuzzer's own mutation, for custom mutators. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Path of a memory file that holds the bytes; the same path, overwritten, every time. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* A new folder in memory that is removed when the process ends. */
const char *fuzz_folder(void);
/* Writes folder/name; aborts on failure, as no result could be trusted then. */
void fuzz_write(const char *folder, const char *name, const void *data, size_t size);
/* Reads every byte, so that the sanitizers see a range that does not exist. */
void fuzz_touch(const void *data, size_t size);
/* The bytes as a zero-terminated string of their own length; caller frees. */
char *fuzz_text(const uint8_t *data, size_t size);

/* Mutates a safetensors file: header and data apart, then the header's length (mostly) made right
 * again and the data (mostly) cut or filled to what the header's offsets need. */
size_t fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
#endif
