/* fuzz_affine.c - a stored object of quantized linears: found, checked, unpacked, dequantized. */
#include "fuzz.h"
#include "quant/affine.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_WEIGHTS = 1 << 16 }; /* unpack no more; the checks run on everything */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}

static void use(const sqz_affine *a)
{
    if (a->rows > MAX_WEIGHTS || a->cols > MAX_WEIGHTS || a->rows * a->cols > MAX_WEIGHTS) return;
    uint8_t *codes = malloc((size_t)a->cols);
    float *w = malloc((size_t)a->cols * sizeof *w);
    for (int64_t r = 0; r < a->rows && codes && w; r++) {
        affine_unpack_row(a, r, codes);
        affine_dequantize(a, r, 1, w);
        for (int64_t c = 0; c < a->cols; c++)
            if (codes[c] >> a->bits || w[c] - w[c] != 0) abort(); /* checked objects are finite */
    }
    free(codes);
    free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char TAIL[] = ".header";
    st_file *f = NULL;
    sqz_error err;
    if (st_open(fuzz_file(data, size), &f, &err) != SQZ_OK) return 0;
    for (int64_t i = 0; i < f->n; i++) {
        size_t n = strlen(f->tensors[i].name), k = sizeof TAIL - 1;
        if (n < k || strcmp(f->tensors[i].name + n - k, TAIL) != 0) continue;
        char *key = strndup(f->tensors[i].name, n - k);
        sqz_affine a;
        if (key && affine_load(f, key, &a, &err) == SQZ_OK) use(&a);
        free(key);
    }
    st_close(f);
    return 0;
}
