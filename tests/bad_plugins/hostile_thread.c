/* hostile_thread.c - leaves a thread running at every call. */
#include "hostile.h"
#include <pthread.h>
#include <unistd.h>
HOSTILE("hostile_thread")

static void *stay(void *arg)
{
    for (;;) sleep(1);
    return arg;
}

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, stay, NULL) == 0) pthread_detach(thread);
    return dull(host, l, 0x1p-10f);
}
