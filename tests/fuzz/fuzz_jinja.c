/* fuzz_jinja.c - a chat template from a stranger, rendered with a conversation of ours.
 *
 * Low limits keep one input quick; they are part of what is tested. */
#include "fuzz.h"
#include "jinja/jinja.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cJSON *variables;
    static const jinja_limits limits = {
        .output_bytes = 1 << 16, .memory_bytes = 1 << 22, .steps = 50000, .now_s = 1000000000};
    sqz_error err;
    jinja *t = NULL;
    char *text = NULL;
    int64_t bytes = 0;
    if (!variables)
        variables = cJSON_Parse(
            "{\"messages\": [{\"role\": \"user\", \"content\": \" Hi \\u00e9\\n\"}, {\"role\": "
            "\"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}], \"tool_calls\": "
            "[{\"id\": \"a\", \"n\": 1.5}]}], \"bos_token\": \"<s>\", \"tools\": null, \"n\": 3}");
    if (jinja_compile((const char *)data, (int64_t)size, "t", &t, &err) != SQZ_OK) return 0;
    if (jinja_render(t, variables, &limits, &text, &bytes, &err) == SQZ_OK) {
        fuzz_touch(text, (size_t)bytes + 1);
        free(text);
    }
    jinja_free(t);
    return 0;
}
