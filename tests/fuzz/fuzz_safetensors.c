/* fuzz_safetensors.c - a whole safetensors file: header, offsets, names; every accepted range is
 * read. */
#include "checkpoint/safetensors.h"
#include "fuzz.h"
#include <stdlib.h>

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    st_file *f = NULL;
    sqz_error err;
    if (st_open(fuzz_file(data, size), &f, &err) != SQZ_OK) return 0;
    int64_t total = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const st_tensor *t = &f->tensors[i];
        fuzz_touch(t->data, (size_t)t->bytes);
        total += t->bytes;
        if (st_find(f, t->name) == NULL) abort();
    }
    if (total > (int64_t)size) abort(); /* tensors that overlap */
    st_close(f);
    return 0;
}
