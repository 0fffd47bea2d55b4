/* alloc.c - see alloc.h. */
#include "alloc.h"
#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_FRAMES = 24, OWN_FRAMES = 2 };

static atomic_int armed;
static atomic_long counted;
static long first;
static int all_after;
static uint64_t *noted;
static long note_room;
static int note_frames;

void alloc_begin(long fails_at, int all)
{
    void *warm[2];
    backtrace(warm, 2); /* its first call allocates */
    first = fails_at;
    all_after = all;
    atomic_store(&counted, 0);
    atomic_store(&armed, 1);
}

void alloc_pause(void)
{
    atomic_store(&armed, 0);
}

void alloc_continue(void)
{
    atomic_store(&armed, 1);
}

long alloc_counted(void)
{
    return atomic_load(&counted);
}

void alloc_note(uint64_t *sites, long room, int callers)
{
    note_frames = OWN_FRAMES + callers;
    noted = sites;
    note_room = room;
}

static __attribute__((noinline)) uint64_t caller_hash(void)
{
    void *at[MOST_FRAMES];
    int n = backtrace(at, note_frames);
    uint64_t h = 1469598103934665603ull;
    for (int i = OWN_FRAMES; i < n; i++) h = (h ^ (uint64_t)(uintptr_t)at[i]) * 1099511628211ull;
    return h ? h : 1;
}

static __attribute__((noinline)) int fails(void)
{
    if (!atomic_load(&armed)) return 0;
    long n = atomic_fetch_add(&counted, 1) + 1;
    if (noted && n <= note_room) noted[n - 1] = caller_hash();
    if (!first || (all_after ? n < first : n != first)) return 0;
    if (getenv("SQZ_ALLOC_TRACE")) {
        void *at[MOST_FRAMES];
        backtrace_symbols_fd(at, backtrace(at, MOST_FRAMES), 2);
    }
    errno = ENOMEM;
    return 1;
}

#define WRAP(type, name, parameters, arguments, otherwise)                                         \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails() ? (otherwise) : __real_##name arguments;                                    \
    }

WRAP(void *, malloc, (size_t bytes), (bytes), NULL)
WRAP(void *, calloc, (size_t n, size_t bytes), (n, bytes), NULL)
WRAP(void *, realloc, (void *p, size_t bytes), (p, bytes), NULL)
WRAP(char *, strdup, (const char *text), (text), NULL)
WRAP(char *, strndup, (const char *text, size_t most), (text, most), NULL)
WRAP(int, posix_memalign, (void **p, size_t align, size_t bytes), (p, align, bytes), ENOMEM)
WRAP(int, vasprintf, (char **text, const char *format, va_list ap), (text, format, ap), -1)
WRAP(int, __vasprintf_chk, (char **text, int flag, const char *format, va_list ap),
     (text, flag, format, ap), -1)
WRAP(FILE *, open_memstream, (char **text, size_t *bytes), (text, bytes), NULL)
