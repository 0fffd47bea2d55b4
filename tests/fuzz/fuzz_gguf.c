/* fuzz_gguf.c - a whole GGUF file: keys, tensors, their values, the configuration and the tokenizer
 * that are made from the keys. */
#include "checkpoint/gguf_model.h"
#include "fuzz.h"
#include "quant/affine.h"
#include "quant/gguf_affine.h"
#include "tokenizer/gguf_tokenizer.h"
#include <stdlib.h>
#include <string.h>

static void read_model(const gguf_file *f)
{
    st_tensor *tensors = NULL;
    tensor_source *sources = NULL;
    sqz_error err;
    int64_t n = 0;
    if (gguf_tensors(f, &tensors, &sources, &n, &err) != SQZ_OK) return;
    for (int64_t i = 0; i < n; i++) {
        void *owned = NULL;
        sqz_affine a;
        const void *bytes = tensor_bytes(&tensors[i], &owned, &err);
        if (bytes) fuzz_touch(bytes, (size_t)tensors[i].bytes);
        free(owned);
        if (gguf_is_affine(&tensors[i]) && gguf_affine(&tensors[i], &a, &err) == SQZ_OK)
            affine_free(&a);
    }
    gguf_tensors_free(tensors, sources, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gguf_file *f = NULL;
    sqz_error err;
    char *text = NULL;
    int64_t total = 0;
    if (gguf_open(fuzz_file(data, size), &f, &err) != SQZ_OK) return 0;
    for (int64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        fuzz_touch(t->data, (size_t)t->bytes);
        total += t->bytes;
        if (gguf_find_tensor(f, t->name) != t) abort();
    }
    if (total > (int64_t)size) abort(); /* tensors that overlap */
    for (int64_t i = 0; i < f->n_entries; i++)
        if (gguf_find(f, f->entries[i].key) != &f->entries[i]) abort();
    read_model(f);
    if (gguf_config(f, &text, &err) == SQZ_OK) free(text);
    if (gguf_tokenizer(f, &text, &err) == SQZ_OK) free(text);
    if (gguf_tokenizer_config(f, &text, &err) == SQZ_OK) free(text);
    gguf_close(f);
    return 0;
}
