/* double.c - stands in for the sqz program in tests: scans plugins as sqz does, and runs jobs whose
 * "behave" says how this worker shall end. */
#include "host/host.h"
#include "worker/serve.h"
#include "io/file.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *folder;

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Leaves a process behind whose number is written to DIR/orphan. */
static void start_orphan(void)
{
    char path[4096];
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) sleep(1);
    }
    snprintf(path, sizeof path, "%s/orphan", folder);
    file_printf(path, NULL, "%d\n", (int)pid);
}

static sqz_status wait_for_stop(const job_context *context, sqz_error *err)
{
    for (int i = 0; i < 1000; i++) {
        if (context->tick(context->ctx, i / 1000.0, "waiting"))
            return err_set(err, SQZ_E_CANCELLED, "stopped as asked");
        pause_ms(20);
    }
    return SQZ_OK;
}

/* Calls the run function of an agent in BAD_DIR through the real host. */
static sqz_status call_agent(const cJSON *job, const job_context *context, sqz_error *err)
{
    const char *paths[] = {json_str(job, "plugin", "")};
    catalogue_options options = {
        .paths = paths, .n_paths = 1, .cache_dir = folder, .only_paths = 1};
    catalogue *plugins = NULL;
    const agent_info *info;
    agent *a;
    host_hooks hooks = {.tick = context->tick, .ctx = context->ctx};
    host *h = host_new(&hooks);
    host_set_enter(h, context->enter, context->leave, context->ctx);
    sqz_status status = catalogue_open(&options, &plugins, err);
    if (!status) status = catalogue_find(plugins, "bad/1", json_str(job, "use", ""), &info, err);
    if (!status) status = agent_open(h, info, &a, err);
    if (!status) {
        status = agent_call(a, NULL, NULL, err);
        agent_close(a);
    }
    catalogue_close(plugins);
    host_free(h);
    return status;
}

static sqz_status execute(const cJSON *job, const job_context *context, cJSON **result,
                          sqz_error *err)
{
    const char *behave = json_str(job, "behave", "");
    if (json_bool(job, "orphan", 0)) start_orphan();
    if (!strcmp(behave, "agent")) return call_agent(job, context, err);
    if (!strcmp(behave, "failed")) return err_set(err, SQZ_E_NUMERIC, "layer 3 diverged");
    if (!strcmp(behave, "unsupported")) return err_set(err, SQZ_E_UNSUPPORTED, "no such layers");
    if (!strcmp(behave, "nomem")) return err_set(err, SQZ_E_NOMEM, "no memory for statistics");
    if (!strcmp(behave,
                "reserve")) { /* 3 GiB that are never touched: invisible in resident memory */
        void *p = mmap(NULL, (size_t)3 << 30, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return err_set(err, SQZ_E_NOMEM, "3 GiB were refused");
    }
    if (!strcmp(behave, "wait")) return wait_for_stop(context, err);
    if (!strcmp(behave, "abort")) {
        fprintf(stderr, "about to abort\n");
        abort();
    }
    if (!strcmp(behave, "exit")) exit(3);
    if (!strcmp(behave, "exit_well")) _exit(0);
    if (!strcmp(behave, "deaf")) { /* hears neither stop nor SIGTERM */
        signal(SIGTERM, SIG_IGN);
        context->tick(context->ctx, 0.1, "deaf now");
        for (;;) sleep(1);
    }
    if (!strcmp(behave,
                "babble")) { /* writes rubbish to every open socket, the parent's included */
        for (int fd = 3; fd < 64; fd++) send(fd, "\xff\xff\xff\xff rubbish", 12, MSG_NOSIGNAL);
        for (;;) sleep(1);
    }
    if (!strcmp(behave, "lie")) { /* a result of another job */
        char path[4096];
        snprintf(path, sizeof path, "%s/result.json", folder);
        file_printf(path, NULL,
                    "{\"schema\":\"sqz.result/1\",\"job\":\"other\",\"state\":\"ok\"}\n");
        _exit(0);
    }
    printf("a plugin prints\n");
    for (int i = 1; i <= 60; i++) fprintf(stderr, "line %d\n", i);
    context->log(context->ctx, SQZ_LOG_WARN, "a warning");
    context->tick(context->ctx, 0.5, "half");
    *result = cJSON_CreateObject();
    cJSON_AddArrayToObject(*result, "tasks");
    return SQZ_OK;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--scan-plugin")) return host_scan_main(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "worker")) {
        folder = argv[2];
        return worker_serve(argv[2], execute);
    }
    fprintf(stderr, "usage: sqz_double --scan-plugin FILE | worker DIR\n");
    return 2;
}
