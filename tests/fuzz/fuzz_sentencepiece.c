/* fuzz_sentencepiece.c - tokenizer.model, then text through it and back.
 *
 * The first byte chooses the class that tokenizer_config.json names; the rest is the model. */
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
    static const char *const configs[] = {
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"legacy\":true,\"add_bos_token\":true}",
        "{\"tokenizer_class\":\"GemmaTokenizer\"}",
        "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":3}",
        "{}",
    };
    static const char text[] = "Hello,  it's 12 x\n\xc3\xa9\xe2\x82\xac <s>\0 \xf0\x9f\x98\x80 aab "
                               "\xe2\x96\x81 e\xcc\x81 \xef\xac\x81";
    static const char *folder;
    tokenizer *t = NULL;
    sqz_error err;
    if (!size) return 0;
    if (!folder) folder = fuzz_folder();
    const char *config = configs[data[0] % 4];
    fuzz_write(folder, "tokenizer_config.json", (const uint8_t *)config, strlen(config));
    fuzz_write(folder, "tokenizer.model", data + 1, size - 1);
    if (tokenizer_open(folder, &t, &err) != SQZ_OK) return 0;
    through(t, text, sizeof text - 1);
    through(t, "", 0);
    if (tokenizer_size(t) < 0) abort();
    tokenizer_free(t);
    return 0;
}
