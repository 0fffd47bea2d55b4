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
        int64_t in_blocks = 0, all = model_parameters(&c, &in_blocks);
        if (all <= 0 || in_blocks < 0 || in_blocks > all || c.layers < 1) abort();
        int64_t n = model_linear_count(&c, c.layers - 1);
        if (n < 1 || model_moment_bytes(&c) < 1) abort();
        for (int64_t i = 0; i < n; i++) {
            linear_spec spec;
            model_linear(&c, c.layers - 1, i, &spec);
            if (spec.rows < 1 || spec.cols < 1) abort();
        }
        fuzz_touch(c.sparse, c.sparse ? (size_t)c.layers : 0);
        fuzz_touch(c.sliding, c.sliding ? (size_t)c.layers : 0);
        model_config_free(&c);
    }
    free(text);
    return 0;
}
