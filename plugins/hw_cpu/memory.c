/* memory.c - host memory behind opaque handles; a handle is the pointer itself.
 *
 * Page faults on fresh memory cost more than most operations, so released blocks are kept, up to a
 * cap that holds the peak down, and handed out again when the size fits closely.
 *
 * Packed weights lie one after the other in chunks of large pages: decode reads all of them once
 * per token, and with small pages looking up addresses would cost a tenth of the memory's rate. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    HEAD = 64, /* before each block, so that the block stays 64-byte aligned */
    LARGE_PAGE = 2 << 20
};
static const int64_t kept_cap = (int64_t)64 << 20;

static int64_t *capacity_of(void *handle)
{
    return (int64_t *)((char *)handle - HEAD);
}

static void drop_at(device *d, int32_t i)
{
    d->kept_bytes -= *capacity_of(d->kept[i]);
    free((char *)d->kept[i] - HEAD);
    d->kept[i] = d->kept[--d->n_kept];
}

void mem_drop(device *d)
{
    while (d->n_kept) drop_at(d, d->n_kept - 1);
}

/* The smallest kept block that holds `bytes` without wasting more than a quarter. */
static void *take_kept(device *d, int64_t bytes)
{
    int32_t best = -1;
    for (int32_t i = 0; i < d->n_kept; i++) {
        int64_t size = *capacity_of(d->kept[i]);
        if (size >= bytes && size <= bytes + bytes / 4 + (64 << 10) &&
            (best < 0 || size < *capacity_of(d->kept[best])))
            best = i;
    }
    if (best < 0) return NULL;
    void *p = d->kept[best];
    d->kept_bytes -= *capacity_of(p);
    d->kept[best] = d->kept[--d->n_kept];
    return p;
}

/* Large pages for the middle of a block that a model keeps; small ones work, too. */
static void large_pages(void *p, int64_t bytes)
{
#ifdef MADV_HUGEPAGE
    uintptr_t begin = ((uintptr_t)p + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)p + (uintptr_t)bytes) & ~(uintptr_t)(LARGE_PAGE - 1);
    if (bytes > kept_cap && end > begin) (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
    (void)p;
    (void)bytes;
#endif
}

sqz_status mem_alloc(void *dev, int64_t bytes, void **handle)
{
    device *d = dev;
    if (bytes < 0 || bytes > INT64_MAX - 4096)
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: a negative number of bytes was asked for");
    void *p = take_kept(d, bytes), *raw = NULL;
    if (!p) {
        int64_t size = round_up(bytes ? bytes : 1, 64);
        int failed = posix_memalign(&raw, 64, (size_t)(size + HEAD));
        if (failed) { /* what is kept may be what is missing */
            mem_drop(d);
            failed = posix_memalign(&raw, 64, (size_t)(size + HEAD));
        }
        if (failed) {
            char text[96];
            snprintf(text, sizeof text, "hw_cpu: no memory for a buffer of %lld bytes",
                     (long long)bytes);
            return device_fail(d, SQZ_E_NOMEM, text);
        }
        large_pages(raw, size + HEAD);
        p = (char *)raw + HEAD;
        *capacity_of(p) = size;
    }
    *handle = p;
    return SQZ_OK;
}

void mem_release(void *dev, void *handle)
{
    device *d = dev;
    if (!handle) return;
    (void)queue_run(d); /* what waits may touch it */
    int64_t size = *capacity_of(handle);
    if (size > kept_cap) {
        free((char *)handle - HEAD);
        return;
    }
    while (d->n_kept && (d->kept_bytes + size > kept_cap || d->n_kept == KEPT_BLOCKS))
        drop_at(d, 0);
    d->kept[d->n_kept++] = handle;
    d->kept_bytes += size;
}

void *mem_map(void *dev, void *handle)
{
    (void)dev;
    return handle;
}

sqz_status mem_upload(void *dev, const sqz_mem *dst, const void *src, int64_t bytes)
{
    sqz_status st = queue_run(dev);
    if (st == SQZ_OK && bytes > 0) memcpy(mem_at(dst), src, (size_t)bytes);
    return st;
}

sqz_status mem_download(void *dev, void *dst, const sqz_mem *src, int64_t bytes)
{
    sqz_status st = queue_run(dev);
    if (st == SQZ_OK && bytes > 0) memcpy(dst, mem_at(src), (size_t)bytes);
    return st;
}

/* ---- packed weights ------------------------------------------------------------------------ */

enum { CHUNK = 32 << 20 };

typedef struct chunk {
    struct chunk *next;
    char *base; /* a multiple of LARGE_PAGE */
    void *mapping;
    int64_t size, used, mapped;
    int64_t live; /* blocks in use */
} chunk;

static chunk *chunk_new(int64_t bytes)
{
    chunk *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->size = round_up(bytes < CHUNK ? CHUNK : bytes, LARGE_PAGE);
    c->mapped = c->size + LARGE_PAGE;
    c->mapping = mmap(NULL, (size_t)c->mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->mapping == MAP_FAILED) {
        free(c);
        return NULL;
    }
    c->base = (char *)c->mapping + (-(uintptr_t)c->mapping & (LARGE_PAGE - 1));
#ifdef MADV_HUGEPAGE
    (void)madvise(c->base, (size_t)c->size, MADV_HUGEPAGE); /* small pages work, too */
#endif
    return c;
}

void *store_take(device *d, int64_t bytes, void **owner)
{
    chunk *c = d->chunks;
    bytes = round_up(bytes, 64);
    while (c && c->size - c->used < bytes) c = c->next;
    if (!c) {
        c = chunk_new(bytes);
        if (!c) {
            char text[96];
            snprintf(text, sizeof text, "hw_cpu: no memory for a packed weight of %lld bytes",
                     (long long)bytes);
            device_fail(d, SQZ_E_NOMEM, text);
            return NULL;
        }
        c->next = d->chunks;
        d->chunks = c;
    }
    void *p = c->base + c->used;
    c->used += bytes;
    c->live++;
    *owner = c;
    return p;
}

int64_t store_bytes(const device *d)
{
    int64_t n = 0;
    for (const chunk *c = d->chunks; c; c = c->next) n += c->used;
    return n;
}

const char *store_at(const device *d, int64_t offset, int64_t *bytes)
{
    const chunk *c = d->chunks;
    for (; offset >= c->used; c = c->next) offset -= c->used;
    *bytes = c->used - offset;
    return c->base + offset;
}

/* Chunks without blocks go back to the system, but for one, which the next weights will need. */
static void trim_chunks(device *d, int keep)
{
    for (chunk **at = &d->chunks; *at;) {
        chunk *c = *at;
        if (c->live == 0) c->used = 0;
        if (c->live || (keep && c->size == CHUNK)) {
            keep = keep && c->live;
            at = &c->next;
            continue;
        }
        *at = c->next;
        munmap(c->mapping, (size_t)c->mapped);
        free(c);
    }
}

void store_give(device *d, void *owner)
{
    chunk *c = owner;
    if (--c->live == 0) trim_chunks(d, 1);
}

void store_drop(device *d)
{
    trim_chunks(d, 0);
}
