/* failing.c - see failing.h.  The plugin's own relocation entries are rewritten: each names a
 * symbol and the place that its address was put.  What libraries allocate for it is left alone. */
#include "check/failing.h"
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_HELD = 1 << 16 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *held[MAX_HELD]; /* open addressing; DELETED where one was */
static int64_t calls, fail_at, n_held;
static char deleted;
#define DELETED ((void *)&deleted)

static size_t place_of(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 48) % MAX_HELD;
}

static void remember(void *p)
{
    if (!p || n_held >= MAX_HELD / 2) return;
    size_t i = place_of(p);
    while (held[i] && held[i] != DELETED) i = (i + 1) % MAX_HELD;
    held[i] = p;
    n_held++;
}

static void forget(const void *p)
{
    size_t i = place_of(p);
    for (int k = 0; k < MAX_HELD && held[i] && held[i] != p; k++) i = (i + 1) % MAX_HELD;
    if (held[i] != p) return; /* made by a library for the plugin */
    held[i] = DELETED;
    n_held--;
}

/* Shall this allocation fail? */
static int due(void)
{
    pthread_mutex_lock(&lock);
    int now = ++calls == fail_at;
    pthread_mutex_unlock(&lock);
    if (now) errno = ENOMEM;
    return now;
}

static void *kept(void *p)
{
    pthread_mutex_lock(&lock);
    remember(p);
    pthread_mutex_unlock(&lock);
    return p;
}

static void *our_malloc(size_t n)
{
    return due() ? NULL : kept(malloc(n));
}

static void *our_calloc(size_t n, size_t size)
{
    return due() ? NULL : kept(calloc(n, size));
}

static void *our_aligned_alloc(size_t align, size_t n)
{
    return due() ? NULL : kept(aligned_alloc(align, n));
}

static int our_posix_memalign(void **out, size_t align, size_t n)
{
    if (due()) return ENOMEM;
    int failure = posix_memalign(out, align, n);
    if (!failure) kept(*out);
    return failure;
}

static void our_free(void *p)
{
    if (p) {
        pthread_mutex_lock(&lock);
        forget(p);
        pthread_mutex_unlock(&lock);
    }
    free(p);
}

static void *our_realloc(void *p, size_t n)
{
    if (due()) return NULL;
    pthread_mutex_lock(&lock);
    if (p) forget(p);
    pthread_mutex_unlock(&lock);
    return kept(realloc(p, n));
}

static const struct {
    const char *name;
    void *ours;
} stand_ins[] = {{"malloc", our_malloc},   {"calloc", our_calloc},
                 {"realloc", our_realloc}, {"aligned_alloc", our_aligned_alloc},
                 {"free", our_free},       {"posix_memalign", our_posix_memalign}};

/* Writes where relocated data may have been made read-only. */
static void put(void **place, void *value)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)place & ~(page - 1);
    if (*place == value) return;
    if (mprotect((void *)begin, page, PROT_READ | PROT_WRITE) == 0) *place = value;
}

static int replace(uintptr_t base, const ElfW(Rela) * r, size_t n, const ElfW(Sym) * symbols,
                   const char *names)
{
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = names + symbols[ELF64_R_SYM(r[i].r_info)].st_name;
        for (size_t k = 0; k < sizeof stand_ins / sizeof *stand_ins; k++)
            if (!strcmp(name, stand_ins[k].name)) {
                put((void **)(base + r[i].r_offset), stand_ins[k].ours);
                found |= strcmp(name, "free") != 0;
            }
    }
    return found;
}

int failing_install(const char *file)
{
    struct link_map *map;
    const ElfW(Rela) *jumps = NULL, *data = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    size_t n_jumps = 0, n_data = 0;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) return 0;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) { /* glibc has made the addresses absolute */
        case DT_JMPREL: jumps = (const void *)d->d_un.d_ptr; break;
        case DT_PLTRELSZ: n_jumps = d->d_un.d_val / sizeof *jumps; break;
        case DT_RELA: data = (const void *)d->d_un.d_ptr; break;
        case DT_RELASZ: n_data = d->d_un.d_val / sizeof *data; break;
        case DT_SYMTAB: symbols = (const void *)d->d_un.d_ptr; break;
        case DT_STRTAB: names = (const void *)d->d_un.d_ptr; break;
        default: break;
        }
    }
    if (!symbols || !names) return 0;
    int found = jumps ? replace(map->l_addr, jumps, n_jumps, symbols, names) : 0;
    return (data ? replace(map->l_addr, data, n_data, symbols, names) : 0) | found;
}

void failing_at(int64_t n)
{
    pthread_mutex_lock(&lock);
    fail_at = n;
    calls = 0;
    pthread_mutex_unlock(&lock);
}

int64_t failing_calls(void)
{
    return calls;
}

int64_t failing_held(void)
{
    return n_held;
}
