/* fuzz_model_config.c - config.json of a model; what is accepted must give sizes that cannot
 * overflow. */
#include "fuzz.h"
#include "model/model.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    model_config c = {0};
    sqz_error err;
    if (model_config_parse(text, "config.json", &c, &err) == SQZ_OK) {
        linear_spec specs[MODEL_MAX_LINEARS];
        int64_t in_blocks = 0, all = model_parameters(&c, &in_blocks);
        if (all <= 0 || in_blocks < 0 || in_blocks > all || c.layers < 1) abort();
        int n = model_linears(&c, c.layers - 1, specs);
        if (n < 1 || n > MODEL_MAX_LINEARS) abort();
        for (int i = 0; i < n; i++)
            if (specs[i].rows < 1 || specs[i].cols < 1) abort();
        fuzz_touch(c.sliding, c.sliding ? (size_t)c.layers : 0);
        model_config_free(&c);
    }
    free(text);
    return 0;
}
