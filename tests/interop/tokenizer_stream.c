/* tokenizer_stream.c - a tokenizer behind a pipe, for comparisons with other implementations.
 *
 *     tokenizer_stream FOLDER < frames > frames
 *
 * In: a text as its length (uint32, little-endian) and its bytes, again and again.  Out for each:
 * the ids without special tokens and the ids with them, each as a count (uint32) and int32 values,
 * then the text decoded from the first ids with special tokens kept, as length and bytes.  A
 * failure ends the program with its message.  With --count: only the number of ids of the whole
 * input, and the seconds of `tokenizer_encode`. */
#include "tokenizer/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static tokenizer *t;
static sqz_error err;

static int fail(const char *what)
{
    fprintf(stderr, "tokenizer_stream: %s: %s\n", what, err.text);
    return 1;
}

static void put(const void *data, uint32_t n, size_t size)
{
    fwrite(&n, sizeof n, 1, stdout);
    fwrite(data, size, n, stdout);
}

static int one(const char *text, uint32_t bytes)
{
    int32_t *ids;
    int64_t n, m, length;
    char *back;
    if (tokenizer_encode(t, text, bytes, 1, &ids, &n, &err)) return fail("encode");
    int32_t *plain;
    if (tokenizer_encode(t, text, bytes, 0, &plain, &m, &err)) return fail("encode");
    if (tokenizer_decode(t, plain, m, 0, &back, &length, &err)) return fail("decode");
    put(plain, (uint32_t)m, sizeof *plain);
    put(ids, (uint32_t)n, sizeof *ids);
    put(back, (uint32_t)length, 1);
    free(ids);
    free(plain);
    free(back);
    return 0;
}

static int serve(void)
{
    uint32_t bytes;
    char *text = NULL;
    int failed = 0;
    while (!failed && fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        char *more = realloc(text, (size_t)bytes + 1);
        if (!more) break;
        text = more;
        if (fread(text, 1, bytes, stdin) != bytes) break;
        failed = one(text, bytes);
    }
    free(text);
    return failed;
}

static char *read_all(size_t *n)
{
    char *text = NULL;
    size_t got, room = 0;
    *n = 0;
    do {
        room += 1 << 20;
        char *more = realloc(text, room);
        if (!more) return NULL;
        text = more;
        got = fread(text + *n, 1, room - *n, stdin);
        *n += got;
    } while (*n == room);
    return text;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Ids of all parts, or -1. */
static int64_t encode_parts(const char *text, size_t n, size_t part)
{
    int64_t made = 0;
    for (size_t at = 0; at < n;) {
        size_t end = at + part < n ? at + part : n;
        const char *line = memchr(text + end, '\n', n - end);
        end = line ? (size_t)(line - text) + 1 : n;
        int32_t *ids;
        int64_t count;
        if (tokenizer_encode(t, text + at, (int64_t)(end - at), 0, &ids, &count, &err)) return -1;
        free(ids);
        made += count;
        at = end;
    }
    return made;
}

static int count(size_t part)
{
    size_t n;
    char *text = read_all(&n);
    double first = 0, best = 1e30;
    int64_t made = text ? 0 : -1;
    for (int round = 0; round < 3 && made >= 0; round++) {
        double begin = seconds();
        made = encode_parts(text, n, part);
        double s = seconds() - begin;
        if (!round) first = s;
        if (s < best) best = s;
    }
    free(text);
    if (made < 0) return fail("encode");
    printf("%lld %.6f %.6f\n", (long long)made, first, best);
    return 0;
}

int main(int argc, char **argv)
{
    int counting = argc == 4 && !strcmp(argv[2], "--count");
    if (argc != 2 && !counting) {
        fprintf(stderr, "usage: tokenizer_stream FOLDER [--count BYTES]\n");
        return 2;
    }
    if (tokenizer_open(argv[1], &t, &err)) return fail("open");
    int failed = counting ? count((size_t)strtoull(argv[3], NULL, 10)) : serve();
    tokenizer_free(t);
    return failed;
}
