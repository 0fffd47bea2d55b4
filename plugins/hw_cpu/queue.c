/* queue.c - work on few tokens: operations as steps that the pool's threads go through together.
 *
 * A step is the work of one operation, cut into units that may run in any order.  Consecutive steps
 * that touch nothing of one another make a stage; a stage begins when the one before is done.  By
 * itself an operation is one step that runs at once.  Between begin and sync steps wait, and run as
 * one loop of the pool, so that a token costs a few such loops and not hundreds; a member of the
 * loop that has to wait fetches the weights that it will read next, so that memory does not rest.
 *
 * The units of a stage are cut into one slice for each member, which makes each one read one stream
 * of memory; who is done with its own slice helps with the others.  Nobody waits for a member to
 * arrive: whoever is there does what is left, so a pool that gives fewer threads than were asked
 * for costs time only.  Results depend neither on the members nor on who ran what.
 *
 * Units are numbered on from stage to stage and a slice's counter only grows: where it stands below
 * the slice, nobody has taken of it.  So nothing is set back between stages, and a member that
 * comes late finds nothing to take. */
#include "device.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS_MOST = 384,
    STAGE_STEPS = 4,
    MEMBER_BYTES = 64 << 10, /* of memory read in a stage: what a member is worth starting for */
    FETCH_BYTES = 256 << 10, /* most that a member fetches while it waits; caches have 1 MiB */
    FETCH_LINES = 4,         /* between two looks whether the stage is done, */
    START_LINES = 128,       /* and before it prepares x */
    SPINS = 2000             /* looks without it before the processor is offered to others */
};

typedef struct step {
    pool_body *body; /* to follows: as in work */
    int64_t n, chunk;
    stretch weights;
    const stretch *follows;
    const struct stage *stage;
    int64_t at, units; /* its first unit in the stage, and how many */
    _Alignas(64) char job[JOB_BYTES];
} step;

typedef struct stage {
    int64_t base, units; /* number of its first unit, and how many */
    int64_t bytes;       /* of memory read */
    const step *first;
    int32_t steps;
    const struct stage *next; /* that reads weights, or NULL */
} stage;

typedef struct member {
    _Alignas(64) atomic_llong next; /* unit of its slice that nobody has taken */
    const void *holds;              /* what its own memory holds, see queue_own */
    const stage *ahead;             /* stage whose weights it fetches, */
    const uint8_t *fetch, *end;     /* and what of them it may */
} member;

struct queue {
    int32_t waits; /* between begin and sync */
    int32_t n_steps, n_stages, n_touches, members;
    int64_t own_bytes;
    member *member;
    char *own;                                 /* [members, own_bytes] */
    touch touches[STAGE_STEPS * STEP_TOUCHES]; /* of the last stage */
    _Alignas(64) atomic_llong done;            /* units */
    stage stages[STEPS_MOST];
    step steps[STEPS_MOST];
};

/* ---- building ------------------------------------------------------------------------------ */

static sqz_status queue_ready(device *d)
{
    if (d->queue) return SQZ_OK;
    void *p = NULL;
    if (posix_memalign(&p, 64, sizeof *d->queue))
        return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for the list of operations");
    d->queue = p;
    memset(p, 0, offsetof(queue, stages)); /* the rest is written before it is read */
    return SQZ_OK;
}

void queue_free(device *d)
{
    free(d->queue);
    d->queue = NULL;
}

int queue_waits(const device *d)
{
    return d->queue && d->queue->waits;
}

sqz_status queue_begin(void *dev)
{
    device *d = dev;
    sqz_status st = queue_ready(d);
    if (st == SQZ_OK) d->queue->waits = 1;
    return st;
}

sqz_status queue_sync(void *dev)
{
    device *d = dev;
    if (d->queue) d->queue->waits = 0;
    return queue_run(d);
}

sqz_status queue_job(device *d, void **job)
{
    sqz_status st = queue_ready(d);
    if (st == SQZ_OK && d->queue->n_steps == STEPS_MOST) st = queue_run(d);
    if (st != SQZ_OK) return st;
    step *s = &d->queue->steps[d->queue->n_steps];
    for (int i = 0; i < 4; i++) /* the next step's lines, which weights have driven out of caches */
        __builtin_prefetch((const char *)(s + 1) + 64 * i, 1);
    *job = s->job;
    return SQZ_OK;
}

static int overlap(const touch *a, const touch *b)
{
    uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
    return x < y + (uintptr_t)b->bytes && y < x + (uintptr_t)a->bytes;
}

/* Whether the step may run together with the last stage. */
static int joins(const queue *q, const work *w)
{
    if (!q->n_stages) return 0;
    const stage *last = &q->stages[q->n_stages - 1];
    if (last->steps == STAGE_STEPS || !last->first->weights.at != !w->weights.at) return 0;
    for (int32_t i = 0; i < q->n_touches; i++)
        for (int32_t j = 0; j < w->n_touches; j++)
            if ((q->touches[i].writes || w->touches[j].writes) &&
                overlap(&q->touches[i], &w->touches[j]))
                return 0;
    return 1;
}

sqz_status queue_put(device *d, const work *w)
{
    queue *q = d->queue;
    step *s = &q->steps[q->n_steps];
    int64_t units = (w->n + w->chunk - 1) / w->chunk;
    if (!joins(q, w)) {
        const stage *last = q->n_stages ? &q->stages[q->n_stages - 1] : NULL;
        q->stages[q->n_stages++] = (stage){.base = last ? last->base + last->units : 0, .first = s};
        q->n_touches = 0;
    }
    stage *to = &q->stages[q->n_stages - 1];
    s->body = w->body;
    s->n = w->n;
    s->chunk = w->chunk;
    s->weights = w->weights;
    s->follows = w->follows;
    s->stage = to;
    s->at = to->units;
    s->units = units;
    to->units += units;
    to->bytes += w->bytes;
    to->steps++;
    memcpy(q->touches + q->n_touches, w->touches, (size_t)w->n_touches * sizeof *w->touches);
    q->n_touches += w->n_touches;
    if (q->own_bytes < w->own_bytes) q->own_bytes = w->own_bytes;
    q->n_steps++;
    return q->waits ? SQZ_OK : queue_run(d);
}

/* ---- what is read next --------------------------------------------------------------------- */

static int64_t slice_begin(const queue *q, int64_t units, int64_t s)
{
    return s * units / q->members;
}

static const step *step_at(const stage *st, int64_t unit)
{
    const step *s = st->first;
    while (unit >= s->at + s->units) s++;
    return s;
}

static const uint8_t *unit_at(const step *s, int64_t unit)
{
    return s->weights.at + (unit - s->at) * s->weights.bytes;
}

/* Where a slice of a stage's weights begins, and how many bytes of it follow one another. */
static const uint8_t *slice_at(const queue *q, const stage *st, int64_t slice, int64_t *bytes)
{
    int64_t first = slice_begin(q, st->units, slice);
    const step *s = step_at(st, first);
    *bytes =
        (least(slice_begin(q, st->units, slice + 1), s->at + s->units) - first) * s->weights.bytes;
    return unit_at(s, first);
}

const uint8_t *queue_after(const device *d, const void *job, int64_t unit)
{
    const queue *q = d->queue;
    const step *s = (const step *)(const void *)((const char *)job - offsetof(step, job));
    const stage *st = s->stage;
    int64_t at = s->at + unit, slice = ((at + 1) * q->members - 1) / st->units, bytes;
    if (at + 1 < slice_begin(q, st->units, slice + 1)) return unit_at(step_at(st, at + 1), at + 1);
    if (st->next) return slice_at(q, st->next, slice, &bytes);
    const stretch *then = st->first[st->steps - 1].follows; /* as of the last time */
    return then && then->at ? then->at + slice_begin(q, then->units, slice) * then->bytes
                            : unit_at(s, at + 1);
}

/* ---- running ------------------------------------------------------------------------------- */

/* The next units of a slice; returns how many.  Of weights many at a time, since each call starts
 * anew, and fewer towards the end, so that members finish together. */
static int64_t take_units(const queue *q, const stage *st, int64_t slice, int64_t *unit)
{
    enum { MANY = 16, NEAR = 6 };
    atomic_llong *next = &q->member[slice].next;
    int64_t begin = st->base + slice_begin(q, st->units, slice), n;
    int64_t end = st->base + slice_begin(q, st->units, slice + 1);
    long long was = atomic_load_explicit(next, memory_order_relaxed), at;
    do {
        at = was < begin ? begin : was;
        if (at >= end) return 0;
        n = st->first->weights.at && end - at > NEAR ? least(MANY, (end - at) / 2) : 1;
    } while (!atomic_compare_exchange_weak_explicit(next, &was, at + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    *unit = at - st->base;
    return n;
}

static void run_units(const stage *st, int64_t unit, int64_t n, int32_t id)
{
    while (n > 0) {
        const step *s = step_at(st, unit);
        int64_t some = least(n, s->at + s->units - unit), from = unit - s->at;
        s->body((void *)(uintptr_t)s->job, from * s->chunk, least(s->n, (from + some) * s->chunk),
                id);
        unit += some;
        n -= some;
    }
}

/* Up to `lines` lines more of the member's slice of a stage; 0 when it has its share. */
static int fetch_lines(const queue *q, const stage *of, member *me, int lines)
{
    if (me->ahead != of) {
        int64_t bytes;
        me->ahead = of;
        me->fetch = slice_at(q, of, me - q->member, &bytes);
        me->end = me->fetch + least(bytes, FETCH_BYTES);
    }
    int i = 0;
    for (; i < lines && me->fetch < me->end; i++, me->fetch += 64)
        __builtin_prefetch(me->fetch, 0, 2);
    return i;
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_done(const queue *q, const stage *st, member *me)
{
    int64_t spins = 0;
    while (atomic_load_explicit(&q->done, memory_order_acquire) < st->base + st->units) {
        if (st->next && fetch_lines(q, st->next, me, FETCH_LINES)) continue;
        if (++spins < SPINS)
            pause_briefly();
        else
            sched_yield();
    }
}

static void run_member(queue *q, int32_t id)
{
    member *me = &q->member[id];
    for (const stage *st = q->stages; st < q->stages + q->n_stages; st++) {
        int64_t unit, n, mine = 0;
        if (st->first->weights.at) fetch_lines(q, st, me, START_LINES);
        for (int32_t i = 0; i < q->members; i++)
            while ((n = take_units(q, st, (id + i) % q->members, &unit)) > 0) {
                run_units(st, unit, n, id);
                mine += n;
            }
        if (mine) atomic_fetch_add_explicit(&q->done, mine, memory_order_release);
        wait_done(q, st, me);
    }
}

static void run_members(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread; /* a member is a place in the list's work, whichever thread fills it */
    for (int64_t id = begin; id < end; id++) run_member(arg, (int32_t)id);
}

static int32_t members_for(const queue *q, int32_t threads)
{
    int64_t bytes = 0, units = 0;
    for (int32_t i = 0; i < q->n_stages; i++) {
        if (bytes < q->stages[i].bytes) bytes = q->stages[i].bytes;
        if (units < q->stages[i].units) units = q->stages[i].units;
    }
    return (int32_t)least(threads, least(units, 1 + bytes / MEMBER_BYTES));
}

sqz_status queue_run(device *d)
{
    queue *q = d->queue;
    if (!q || !q->n_steps) return SQZ_OK;
    const stage *next = NULL;
    q->members = members_for(q, device_threads(d));
    int64_t head = q->members * (int64_t)sizeof(member);
    char *work = device_scratch(d, head + q->members * q->own_bytes);
    if (work) {
        q->member = (member *)(void *)work;
        q->own = work + head;
        for (int32_t i = 0; i < q->members; i++) {
            q->member[i] = (member){0};
            atomic_init(&q->member[i].next, 0);
        }
        for (stage *st = q->stages + q->n_stages; st-- > q->stages;) {
            st->next = next;
            if (st->first->weights.at) next = st;
        }
        atomic_store_explicit(&q->done, 0, memory_order_relaxed);
        device_for(d, q->members, 1, run_members, q);
    }
    q->n_steps = q->n_stages = q->n_touches = 0;
    q->own_bytes = 0;
    return work ? SQZ_OK : SQZ_E_NOMEM;
}

void *queue_own(const device *d, const void *job, int32_t id, int *prepared)
{
    queue *q = d->queue;
    member *me = &q->member[id];
    *prepared = me->holds == job;
    me->holds = job;
    return q->own + id * q->own_bytes;
}
