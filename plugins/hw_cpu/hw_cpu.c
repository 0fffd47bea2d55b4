/* hw_cpu.c - the agent: picks the instruction set, holds the device, and lists the operations.
 *
 * SQZ_CPU_ISA=generic|avx2|avx512|avx512_bf16 caps the choice, for tests and comparisons; a machine
 * that lacks the named set gets the best below it.
 * Left out: operations (linear.c, rows.c, attend.c, algebra.c) and kernels (kernels_*.c). */
#include "device.h"

#include <sqz/sqz.h>
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

SQZ_PLUGIN_STAMP(0);

/* ---- what the files share ------------------------------------------------------------------ */

void device_for(device *d, int64_t n, int64_t grain, pool_body *body, void *arg)
{
    if (n > 0) d->pool->parallel_for(d->host, n, grain, body, arg);
}

int32_t device_threads(const device *d)
{
    int32_t n = d->pool->threads(d->host);
    return n < 1 ? 1 : n;
}

sqz_status device_fail(device *d, sqz_status code, const char *text)
{
    return d->host->fail(d->host, code, text);
}

void *device_scratch(device *d, int64_t bytes)
{
    if (bytes < 0 || (size_t)bytes <= d->scratch_bytes) return d->scratch;
    void *p = NULL;
    size_t size = (size_t)round_up(bytes, 64 << 10);
    free(d->scratch);
    d->scratch = NULL;
    d->scratch_bytes = 0;
    if (posix_memalign(&p, 64, size)) {
        sqz_failf(d->host, SQZ_E_NOMEM, "hw_cpu: no memory for %zu bytes of work space", size);
        return NULL;
    }
    d->scratch = p;
    d->scratch_bytes = size;
    return p;
}

void device_blas(device *d)
{
    int32_t n = device_threads(d);
    if (n != d->threads_set) openblas_set_num_threads(n);
    d->threads_set = n;
}

/* ---- instruction set ----------------------------------------------------------------------- */

static const kernels *best_kernels(void)
{
#if defined(__x86_64__)
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512_bf16"};
    const char *cap = getenv("SQZ_CPU_ISA");
    int level = 3;
    for (int i = 0; cap && i < 4; i++)
        if (strcmp(cap, names[i]) == 0) level = i;
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (level >= 3 && avx512 && __builtin_cpu_supports("avx512bf16")) return kernels_avx512_bf16();
    if (level >= 2 && avx512) return kernels_avx512();
    if (level >= 1 && avx2) return kernels_avx2();
#endif
    return kernels_generic();
}

static void cpu_name(char *name, size_t size)
{
    snprintf(name, size, "CPU");
#if defined(__x86_64__)
    unsigned r[12];
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, r + 4 * i, r + 4 * i + 1, r + 4 * i + 2, r + 4 * i + 3))
            return;
    snprintf(name, size, "%.48s", (const char *)r);
#endif
}

/* Of the last level of cache, as Linux tells it; sysconf gives the sum of all sockets' parts. */
static int64_t cache_bytes(void)
{
    long long kib = 0;
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (f && fscanf(f, "%lldK", &kib) != 1) kib = 0;
    if (f) fclose(f);
    return kib > 0 && kib < 1 << 20 ? kib << 10 : 32 << 20;
}

/* ---- the table ----------------------------------------------------------------------------- */

static sqz_status cpu_describe(void *dev, sqz_device_info *out)
{
    device *d = dev;
    uint32_t size = out->struct_size;
    if (size < sizeof *out)
        return device_fail(d, SQZ_E_INVALID, "hw_cpu: the device description is from an older SDK");
    memset(out, 0, sizeof *out);
    out->struct_size = size;
    out->threads = device_threads(d);
    cpu_name(out->name, sizeof out->name);
    snprintf(out->isa, sizeof out->isa, "%s", d->k->isa);
    out->memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    out->fast_bf16 = d->k->pairs;
    return SQZ_OK;
}

static const sqz_hardware operations = {
    .struct_size = sizeof(sqz_hardware),
    .describe = cpu_describe,
    .alloc = mem_alloc,
    .release = mem_release,
    .map = mem_map,
    .upload = mem_upload,
    .download = mem_download,
    .sync = queue_sync,
    .pack = linear_pack,
    .packed_free = linear_packed_free,
    .packed_bytes = linear_packed_bytes,
    .linear = linear_run,
    .embed = rows_embed,
    .norm = rows_norm,
    .rope = rows_rope,
    .attend = attend_run,
    .gate = rows_gate,
    .add = rows_add,
    .score = rows_score,
    .kv_new = kv_new,
    .kv_free = kv_free,
    .kv_append = kv_append,
    .kv_copy = kv_copy,
    .second_moment = algebra_second_moment,
    .gemm = algebra_gemm,
    .inverse_factor = algebra_inverse_factor,
    .measure = algebra_measure,
    .reverse_cholesky = algebra_reverse_cholesky,
    .features = SQZ_HARDWARE_SOFTCAP | SQZ_HARDWARE_COPIES | SQZ_HARDWARE_READS,
    .layer_norm = rows_layer_norm,
    .activate = rows_activate,
    .scale = rows_scale,
    .softcap = rows_softcap,
    .gather = rows_gather,
    .scatter = rows_scatter,
    .gemm_rounded = algebra_gemm_rounded,
    .begin = queue_begin,
};

/* ---- the agent ----------------------------------------------------------------------------- */

static sqz_status cpu_open(const sqz_host *host, void **self)
{
    const sqz_pool *pool = host->service(host, SQZ_POOL_1);
    if (!pool)
        return host->fail(host, SQZ_E_UNSUPPORTED,
                          "hw_cpu: the host offers no sqz.pool/1; use a host of ABI 1.0 or later");
    device *d = calloc(1, sizeof *d);
    if (!d) return host->fail(host, SQZ_E_NOMEM, "hw_cpu: no memory for the device");
    d->host = host;
    d->pool = pool;
    d->k = best_kernels();
    d->cache_bytes = cache_bytes();
    *self = d;
    return SQZ_OK;
}

static void cpu_close(const sqz_host *host, void *self)
{
    (void)host;
    device *d = self;
    if (d) {
        queue_free(d);
        mem_drop(d);
        store_drop(d);
        free(d->scratch);
    }
    free(d);
}

static const void *cpu_extension(const char *id)
{
    return strcmp(id, SQZ_HARDWARE_1) == 0 ? &operations : NULL;
}

static const char *const tags[] = {"cpu", NULL};

static const sqz_agent agents[] = {{
    .struct_size = sizeof(sqz_agent),
    .rank = 100,
    .id = "org.sqz.cpu",
    .kind = "hardware/1",
    .name = "CPU",
    .summary = "vector kernels chosen at run time (AVX-512 bfloat16, AVX-512, AVX2, generic)",
    .version = SQZ_VERSION,
    .license = "Apache-2.0",
    .tags = tags,
    .open = cpu_open,
    .close = cpu_close,
    .extension = cpu_extension,
}};

const sqz_plugin *sqz_plugin_v1(void)
{
    static const sqz_plugin plugin = {
        .struct_size = sizeof(sqz_plugin),
        .abi_major = SQZ_ABI_MAJOR,
        .abi_minor = SQZ_ABI_MINOR,
        .n_agents = 1,
        .agent_stride = sizeof(sqz_agent),
        .agents = agents,
    };
    return &plugin;
}
