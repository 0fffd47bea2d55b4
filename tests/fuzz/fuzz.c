/* fuzz.c - see fuzz.h. */
#include "fuzz.h"
#include "io/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The harness itself failed: stop loudly, or a run without a single real execution would look good.
 */
static void give_up(const char *what)
{
    perror(what);
    abort();
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        if (fd < 0) give_up("memfd_create");
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) give_up("memory file");
    return path;
}

static char folder_path[64];

static void remove_folder(void)
{
    dir_remove(folder_path, NULL);
}

const char *fuzz_folder(void)
{
    snprintf(folder_path, sizeof folder_path, "/dev/shm/sqz_fuzz_XXXXXX");
    if (!mkdtemp(folder_path)) give_up("/dev/shm");
    atexit(remove_folder);
    return folder_path;
}

void fuzz_write(const char *folder, const char *name, const void *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) give_up(path);
}

void fuzz_touch(const void *data, size_t size)
{
    static volatile uint8_t sink;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) sum ^= ((const uint8_t *)data)[i];
    sink = sum;
    (void)sink;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) give_up("malloc");
    memcpy(text, data, size);
    text[size] = 0;
    return text;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

/* The largest number that ends a "data_offsets":[a,b] of the header. */
static size_t data_needed(const char *header, size_t bytes)
{
    static const char KEY[] = "data_offsets";
    size_t most = 0;
    for (size_t i = 0; i + sizeof KEY < bytes; i++) {
        unsigned long long begin, end;
        char text[64] = "";
        if (memcmp(header + i, KEY, sizeof KEY - 1) != 0) continue;
        size_t n =
            bytes - i - sizeof KEY < sizeof text - 1 ? bytes - i - sizeof KEY : sizeof text - 1;
        memcpy(text, header + i + sizeof KEY, n);
        if (sscanf(text, " : [ %llu , %llu", &begin, &end) == 2 && end < 65536 && end > most)
            most = end;
    }
    return most;
}

size_t fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    uint64_t header = 0;
    if (size < 10 || max_size < 64 || seed % 16 == 0) return LLVMFuzzerMutate(data, size, max_size);
    memcpy(&header, data, 8);
    if (header > size - 8) header = size - 8;
    if (seed % 4 == 1) { /* only the tensors' bytes */
        size_t at = 8 + header;
        return at + LLVMFuzzerMutate(data + at, size - at, max_size - at);
    }
    size_t tail = size - 8 - header, room = max_size - 8;
    uint8_t *rest = malloc(tail + 1);
    if (!rest) return size;
    memcpy(rest, data + 8 + header, tail);
    header = LLVMFuzzerMutate(data + 8, header, room);
    size_t want = seed % 8 == 2 ? tail : data_needed((char *)data + 8, header);
    if (want > room - header) want = room - header;
    size_t kept = tail < want ? tail : want;
    memcpy(data + 8 + header, rest, kept);
    memset(data + 8 + header + kept, 0, want - kept);
    free(rest);
    if (seed % 32 != 3) memcpy(data, &header, 8);
    return 8 + header + want;
}
