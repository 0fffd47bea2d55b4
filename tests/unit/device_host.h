/* device_host.h - a host that offers the process's pool and nothing else, for tests that call the
 * CPU backend directly.  A test may put other functions into pool_service. */
#ifndef SQZ_TEST_DEVICE_HOST_H
#define SQZ_TEST_DEVICE_HOST_H
#include "pool/pool.h"

#include <sqz/sqz.h> /* before check.h, whose macro `fail` would rename a field */
#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static char last_failure[256];

static inline void host_log(const sqz_host *h, int32_t level, const char *text)
{
    (void)h;
    (void)level;
    (void)text;
}
static inline sqz_status host_fail(const sqz_host *h, sqz_status code, const char *text)
{
    (void)h;
    snprintf(last_failure, sizeof last_failure, "%s", text);
    return code;
}
static inline int32_t host_tick(const sqz_host *h, double done, const char *what)
{
    (void)h;
    (void)done;
    (void)what;
    return 0;
}
static inline int32_t service_threads(const sqz_host *h)
{
    (void)h;
    return pool_threads();
}
static inline void service_for(const sqz_host *h, int64_t n, int64_t grain,
                               void (*body)(void *, int64_t, int64_t, int32_t), void *arg)
{
    (void)h;
    pool_for(n, grain, body, arg);
}
static sqz_pool pool_service = {sizeof(sqz_pool), 0, service_threads, service_for};
static inline const void *host_service(const sqz_host *h, const char *id)
{
    (void)h;
    return strcmp(id, SQZ_POOL_1) == 0 ? &pool_service : NULL;
}
static const sqz_host host = {sizeof(sqz_host), SQZ_ABI_MINOR, NULL,      "test",
                              host_log,         host_fail,     host_tick, host_service};

static const sqz_hardware *hw;
static const sqz_agent *agent;

/* The CPU backend, not opened yet. */
static inline void load_backend(void)
{
    void *so = dlopen(SQZ_PLUGIN_DIR "/hw_cpu.so", RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    const sqz_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "sqz_plugin_v1");
    ck_assert(entry != NULL);
    agent = entry()->agents;
    hw = agent->extension(SQZ_HARDWARE_1);
}
#endif
