/* pool.c - parallel loops on libgomp's threads, or on a pthread pool for ThreadSanitizer.
 *
 * A loop is cut into at most MAX_CHUNKS ranges that depend on n and grain only, never on the number
 * of threads, so even a body that sums within its range gives the same bits on every machine.
 * Threads take the next range from an atomic counter, which evens out unequal ranges.
 * libgomp is entered by its own symbol because clang would turn "#pragma omp" into calls to another
 * OpenMP runtime, and two pools in one process oversubscribe the machine. */
#include "pool/pool.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

enum { MAX_CHUNKS = 128 };

typedef struct loop {
    int64_t n, chunk;
    void (*body)(void *arg, int64_t begin, int64_t end, int32_t thread);
    void *arg;
    atomic_llong next; /* first index nobody has taken */
} loop;

/* The pool's thread that this one is, plus 1 while inside a loop; 0 outside. */
static _Thread_local int32_t inside;

static void take_ranges(loop *l, int32_t thread)
{
    int32_t before = inside;
    inside = thread + 1;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&l->next, l->chunk, memory_order_relaxed);
        if (begin >= l->n) break;
        int64_t end = l->n - begin < l->chunk ? l->n : begin + l->chunk;
        l->body(l->arg, begin, end, thread);
    }
    inside = before;
}

#ifndef SQZ_POOL_PTHREAD
/* ---- libgomp --------------------------------------------------------------------------------- */
extern void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int);
extern int omp_get_thread_num(void);
extern int omp_in_parallel(void);
extern int omp_get_num_procs(void);

static atomic_int wanted; /* 0 = not decided yet */

void pool_set_threads(int n)
{
    if (n <= 0) n = omp_get_num_procs();
    atomic_store(&wanted, n);
    omp_set_num_threads(n); /* what OpenBLAS and oneDNN called from this thread will use */
}

int pool_threads(void)
{
    int n = atomic_load(&wanted);
    if (n > 0) return n;
    /* libgomp has already looked at OMP_NUM_THREADS and the affinity mask. */
    n = omp_get_max_threads();
    atomic_store(&wanted, n);
    return n;
}

static void member(void *arg)
{
    take_ranges(arg, omp_get_thread_num());
}

static void run_parallel(loop *l, int threads)
{
    GOMP_parallel(member, l, (unsigned)threads, 0);
}

static int in_loop(void)
{
    return inside || omp_in_parallel();
}

static int32_t this_thread(void)
{
    return inside ? inside - 1 : omp_in_parallel() ? omp_get_thread_num() : 0;
}

#else
/* ---- pthreads -------------------------------------------------------------------------------- */
#include <pthread.h>
#include <sched.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t one_loop = PTHREAD_MUTEX_INITIALIZER; /* held while a loop runs */
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER, ended = PTHREAD_COND_INITIALIZER;
static int wanted, started;  /* threads to use; threads made so far, without the callers */
static loop *current;        /* the running loop */
static int members;          /* helpers 1..members may join it */
static int working;          /* helpers that have not left it yet */
static unsigned long number; /* of the running loop */

static int default_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    int n = text ? atoi(text) : 0;
    if (n > 0) return n;
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

void pool_set_threads(int n)
{
    if (n <= 0) {
        cpu_set_t set;
        n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    pthread_mutex_lock(&lock);
    wanted = n;
    pthread_mutex_unlock(&lock);
}

int pool_threads(void)
{
    pthread_mutex_lock(&lock);
    if (wanted <= 0) wanted = default_threads();
    int n = wanted;
    pthread_mutex_unlock(&lock);
    return n;
}

static void *helper(void *arg)
{
    int id = (int)(intptr_t)arg;
    unsigned long seen = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!current || number == seen || id > members) {
            pthread_cond_wait(&begun, &lock);
        }
        seen = number;
        loop *l = current;
        pthread_mutex_unlock(&lock);
        take_ranges(l, id);
        pthread_mutex_lock(&lock);
        if (--working == 0) pthread_cond_signal(&ended);
    }
    return NULL;
}

static void run_parallel(loop *l, int threads)
{
    if (pthread_mutex_trylock(&one_loop) != 0) { /* another host thread has the pool */
        take_ranges(l, 0);
        return;
    }
    pthread_mutex_lock(&lock);
    while (started < threads - 1) {
        pthread_t id;
        if (pthread_create(&id, NULL, helper, (void *)(intptr_t)(started + 1)) != 0) break;
        pthread_detach(id);
        started++;
    }
    members = started < threads - 1 ? started : threads - 1;
    working = members;
    current = l;
    number++;
    pthread_cond_broadcast(&begun);
    pthread_mutex_unlock(&lock);
    take_ranges(l, 0);
    pthread_mutex_lock(&lock);
    while (working > 0) pthread_cond_wait(&ended, &lock);
    current = NULL;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&one_loop);
}

static int in_loop(void)
{
    return inside != 0;
}

static int32_t this_thread(void)
{
    return inside ? inside - 1 : 0;
}
#endif

void pool_for(int64_t n, int64_t grain,
              void (*body)(void *arg, int64_t begin, int64_t end, int32_t thread), void *arg)
{
    if (n <= 0) return;
    int64_t chunk = n / MAX_CHUNKS + (n % MAX_CHUNKS != 0);
    if (chunk < grain) chunk = grain < n ? grain : n;
    loop l = {.n = n, .chunk = chunk, .body = body, .arg = arg};
    int64_t ranges = n / chunk + (n % chunk != 0);
    int threads = ranges > 1 && !in_loop() ? pool_threads() : 1;
    if (threads > ranges) threads = (int)ranges;
    if (threads > 1)
        run_parallel(&l, threads);
    else /* a nested loop keeps its outer thread's number, so per-thread scratch stays private */
        take_ranges(&l, this_thread());
}
