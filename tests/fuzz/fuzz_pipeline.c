/* fuzz_pipeline.c - pipeline.json, and behind a zero byte what --set is given. */
#include "config/config.h"
#include "fuzz.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = memchr(data, 0, size);
    size_t n = zero ? (size_t)(zero - data) : size;
    char *text = fuzz_text(data, n), *set = zero ? fuzz_text(zero + 1, size - n - 1) : NULL;
    config_override o = {.text = set, .origin = "--set"};
    config *c = NULL;
    sqz_error err;
    if (config_parse(text, (int64_t)n, "p.json", "/base", &o, set ? 1 : 0, &c, &err) == SQZ_OK) {
        for (int i = 0; i < c->n_datasets; i++)
            fuzz_touch(c->datasets[i].name, strlen(c->datasets[i].name));
        free(config_origin(c, "budget.trials"));
        free(config_origin(c, "dataset[0].source"));
        config_free(c);
    } else if (err.code != ERR_USAGE && err.code != SQZ_E_NOMEM)
        abort(); /* the user could not tell that the config is at fault */
    free(text);
    free(set);
    return 0;
}
