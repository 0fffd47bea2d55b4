/* @name@.c - a hardware backend: host memory, and RMSNorm summed in double precision on all threads.
 *
 * What a backend leaves NULL the host takes from its reference, so that operations can be added one
 * by one.  (That needs handles which are the pointers themselves, as here.) */
#include <sqz/hardware.h>
#include <sqz/services.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct device {
    const sqz_host *host;
    const sqz_pool *pool;
} device;

static sqz_status open_device(const sqz_host *host, void **self)
{
    device *d = calloc(1, sizeof *d);
    if (!d) return host->fail(host, SQZ_E_NOMEM, "@name@: no memory");
    d->host = host;
    d->pool = host->service(host, SQZ_POOL_1);
    *self = d;
    return d->pool ? SQZ_OK : (free(d), host->fail(host, SQZ_E_UNSUPPORTED, "@name@: no sqz.pool/1"));
}

static void close_device(const sqz_host *host, void *self) { (void)host, free(self); }

static sqz_status describe(void *dev, sqz_device_info *out)
{
    const device *d = dev;
    uint32_t size = out->struct_size;
    memset(out, 0, sizeof *out);
    out->struct_size = size;
    out->threads = d->pool->threads(d->host);
    snprintf(out->name, sizeof out->name, "@name@");
    snprintf(out->isa, sizeof out->isa, "double");
    out->memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return SQZ_OK;
}

static sqz_status alloc(void *dev, int64_t bytes, void **handle)
{
    (void)dev;
    *handle = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
    return *handle ? SQZ_OK : SQZ_E_NOMEM;
}
static void release(void *dev, void *handle) { (void)dev, free(handle); }
static void *map(void *dev, void *handle) { return (void)dev, handle; }
static void *at(const sqz_mem *m) { return (char *)m->handle + m->offset; }
static sqz_status upload(void *dev, const sqz_mem *to, const void *from, int64_t bytes)
{
    return (void)dev, memcpy(at(to), from, (size_t)bytes), SQZ_OK;
}
static sqz_status download(void *dev, void *to, const sqz_mem *from, int64_t bytes)
{
    return (void)dev, memcpy(to, at(from), (size_t)bytes), SQZ_OK;
}
static sqz_status wait_all(void *dev) { return (void)dev, SQZ_OK; }

static void norm_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const sqz_op_norm *o = arg;
    const float *weight = at(&o->weight);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = (const float *)at(&o->x) + r * o->n;
        float *y = (float *)at(&o->y) + r * o->n;
        double sum = 0;
        for (int64_t i = 0; i < o->n; i++) sum += (double)x[i] * (double)x[i];
        double scale = 1 / sqrt(sum / (double)o->n + o->eps);
        for (int64_t i = 0; i < o->n; i++) y[i] = (float)((double)x[i] * scale * (double)weight[i]);
    }
}
static sqz_status norm(void *dev, const sqz_op_norm *op)
{
    const device *d = dev;
    return d->pool->parallel_for(d->host, op->rows, 16, norm_rows, (void *)op), SQZ_OK;
}

static const sqz_hardware table = {.struct_size = sizeof table, .describe = describe, .alloc = alloc,
    .release = release, .map = map, .upload = upload, .download = download, .sync = wait_all, .norm = norm};
static const void *extension(const char *id) { return strcmp(id, SQZ_HARDWARE_1) ? NULL : &table; }
static const sqz_agent agent = {sizeof agent, 1, "@id@", "hardware/1", "@name@",
                                "host memory, RMSNorm in double precision", "0.1.0", "MIT", NULL,
                                open_device, close_device, NULL, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
