/* memory.c - host memory behind opaque handles; a handle is the pointer itself.
 *
 * Page faults on fresh memory cost more than most operations, so released blocks are kept, up to a
 * cap that holds the peak down, and handed out again when the size fits closely. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 64 }; /* before each block, so that the block stays 64-byte aligned */
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
    (void)dev;
    if (bytes > 0) memcpy(mem_at(dst), src, (size_t)bytes);
    return SQZ_OK;
}

sqz_status mem_download(void *dev, void *dst, const sqz_mem *src, int64_t bytes)
{
    (void)dev;
    if (bytes > 0) memcpy(dst, mem_at(src), (size_t)bytes);
    return SQZ_OK;
}
