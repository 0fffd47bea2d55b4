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

/* The text in one piece, as a corpus is read; the fastest of three rounds. */
static int count(void)
{
    char *text = NULL;
    size_t n = 0, got, room = 0;
    do {
        room += 1 << 20;
        char *more = realloc(text, room);
        if (!more) return 1;
        text = more;
        got = fread(text + n, 1, room - n, stdin);
        n += got;
    } while (n == room);
    double best = 1e30;
    int64_t made = 0;
    for (int round = 0; round < 3; round++) {
        int32_t *ids;
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        if (tokenizer_encode(t, text, (int64_t)n, 0, &ids, &made, &err)) return fail("encode");
        clock_gettime(CLOCK_MONOTONIC, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (s < best) best = s;
        free(ids);
    }
    printf("%lld %.6f\n", (long long)made, best);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    int counting = argc == 3 && !strcmp(argv[2], "--count");
    if (argc != 2 && !counting) {
        fprintf(stderr, "usage: tokenizer_stream FOLDER [--count]\n");
        return 2;
    }
    if (tokenizer_open(argv[1], &t, &err)) return fail("open");
    int failed = counting ? count() : serve();
    tokenizer_free(t);
    return failed;
}
