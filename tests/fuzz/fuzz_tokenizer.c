/* fuzz_tokenizer.c - tokenizer.json, then text through it and back.
 *
 * The texts are fixed: the file is the untrusted part here; fuzz_encode-like inputs are covered
 * because patterns and vocabularies of the file decide the path. */
#include "fuzz.h"
#include "tokenizer/tokenizer.h"
#include <stdlib.h>
#include <string.h>

static void through(tokenizer *t, const char *text, size_t bytes)
{
    sqz_error err;
    int32_t *ids = NULL;
    int64_t n = 0, back_bytes = 0;
    char *back = NULL;
    if (tokenizer_encode(t, text, (int64_t)bytes, 1, &ids, &n, &err) != SQZ_OK) return;
    fuzz_touch(ids, (size_t)n * sizeof *ids);
    if (tokenizer_decode(t, ids, n, 0, &back, &back_bytes, &err) == SQZ_OK) {
        fuzz_touch(back, (size_t)back_bytes + 1);
        free(back);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Hello, it's 12 x\n\xc3\xa9\xe2\x82\xac <s>\0 \xf0\x9f\x98\x80 aab\xff";
    static const char *folder;
    const int32_t odd[] = {-1, 0, 1, 5, INT32_MAX, INT32_MIN};
    tokenizer *t = NULL;
    sqz_error err;
    char *back = NULL;
    int64_t bytes = 0;
    if (!folder) folder = fuzz_folder();
    fuzz_write(folder, "tokenizer.json", data, size);
    if (tokenizer_open(folder, &t, &err) != SQZ_OK) return 0;
    through(t, text, sizeof text - 1);
    through(t, "", 0);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (tokenizer_decode(t, &odd[i], 1, 1, &back, &bytes, &err) == SQZ_OK) free(back);
    if (tokenizer_size(t) < 0) abort();
    tokenizer_free(t);
    return 0;
}
