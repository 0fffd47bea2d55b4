/* fuzz_stamp.c - the ABI stamp of a would-be plugin, read from an ELF file nobody has checked.  The
 * mutator keeps the first 20 bytes (magic, class, type, machine) of most inputs right. */
#include "fuzz.h"
#include "host/stamp.h"
#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    uint8_t head[20];
    if (size < sizeof head || seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
    memcpy(head, data, sizeof head);
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size >= sizeof head) memcpy(data, head, sizeof head);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    plugin_stamp stamp = {-1, -1};
    sqz_error err = {0};
    if (stamp_read(fuzz_file(data, size), &stamp, &err) == SQZ_OK) {
        if (stamp.major < 0 || stamp.needs_minor < 0) abort();
        stamp_accept(&stamp, "file", &err);
    } else if (err.code != ERR_PLUGIN || !err.text[0])
        abort();
    return 0;
}
