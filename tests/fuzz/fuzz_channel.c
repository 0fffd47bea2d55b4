/* fuzz_channel.c - what a worker process says to its parent, in pieces as a socket delivers them.
 * The mutator mutates one frame's text and repairs its length. */
#include "fuzz.h"
#include "worker/channel.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 4, PIECE = 1000 };

static size_t frame_bytes(const uint8_t *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size_t at = 0, n = 0, skip = seed / 8 % 4;
    if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
    for (size_t next = 0; next + HEAD <= size; next += HEAD + n) {
        n = frame_bytes(data + next);
        if (n > size - next - HEAD) break;
        at = next;
        if (skip-- == 0) break;
    }
    if (at + HEAD >= size) return LLVMFuzzerMutate(data, size, max_size);
    n = frame_bytes(data + at);
    if (n > size - at - HEAD) n = size - at - HEAD;
    size_t body = at + HEAD, tail = size - body - n;
    uint8_t *rest = malloc(tail + 1);
    if (!rest) return size;
    memcpy(rest, data + body + n, tail);
    n = LLVMFuzzerMutate(data + body, n, max_size - body - tail);
    memcpy(data + body + n, rest, tail);
    free(rest);
    for (int i = 0; i < HEAD; i++) data[at + (size_t)i] = (uint8_t)(n >> (8 * i));
    return body + n + tail;
}

static void take_all(channel *c)
{
    cJSON *m;
    while ((m = channel_take(c))) {
        const char *type = json_str(m, "type", "");
        fuzz_touch(type, strlen(type));
        json_num(m, "done", 0);
        json_int(m, "level", 1);
        cJSON_Delete(m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) abort();
    channel c = {.fd = pair[0]};
    for (size_t at = 0; at < size && !c.broken;) {
        size_t n = size - at < PIECE ? size - at : PIECE;
        ssize_t sent = send(pair[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0) break;
        at += (size_t)sent;
        take_all(&c);
    }
    close(pair[1]);
    if (!c.broken) take_all(&c);
    channel_close(&c);
    free(c.bytes);
    return 0;
}
