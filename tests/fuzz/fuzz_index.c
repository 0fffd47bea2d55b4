/* fuzz_index.c - model.safetensors.index.json beside one good shard: nothing outside the folder may
 * be opened, whatever the index names. */
#include "checkpoint/checkpoint.h"
#include "fuzz.h"
#include <stdlib.h>
#include <string.h>

static const char *prepare(void)
{
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}";
    uint8_t shard[8 + sizeof header - 1 + 8] = {sizeof header - 1};
    memcpy(shard + 8, header, sizeof header - 1);
    const char *folder = fuzz_folder();
    fuzz_write(folder, "config.json", "{}", 2);
    fuzz_write(folder, "s1.safetensors", shard, sizeof shard);
    return folder;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *folder;
    checkpoint *c = NULL;
    sqz_error err;
    if (!folder) folder = prepare();
    fuzz_write(folder, "model.safetensors.index.json", data, size);
    if (checkpoint_open(folder, &c, &err) != SQZ_OK) return 0;
    for (int64_t i = 0; i < c->n_tensors; i++) {
        fuzz_touch(c->tensors[i]->data, (size_t)c->tensors[i]->bytes);
        if (checkpoint_find(c, c->tensors[i]->name) == NULL) abort();
    }
    for (int64_t i = 0; i < c->n_files; i++)
        if (strncmp(c->files[i]->path, folder, strlen(folder)) != 0) abort();
    checkpoint_close(c);
    return 0;
}
