/* sink.c - the thread of one tracker: from its spool to the plugin's process (carrier.h), in order,
 * again and again until it succeeds.
 *
 * A record is acknowledged after a flush behind it succeeded; after any failure delivery begins
 * again at the first one that is not.  An event that the tracker can never deliver is remembered
 * and passed over, or it would block all that follow.  A plugin that lost its process three times
 * is put aside: the events stay for `sqz sync`, which may find it repaired. */
#include "tracker/sink.h"
#include "io/file.h"
#include "worker/carrier.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, MAX_TRIES = 3, MAX_LOST = 3 };
static const double MAX_PAUSE_S = 60, MAX_ASKED_PAUSE_S = 600;

typedef struct session {
    sink *sink;
    carrier *carrier; /* NULL when there is no process */
    int begun, lost;  /* lost: processes, in this session */
    int64_t next;     /* record to hand over */
    int64_t stuck;    /* record that failed for a reason of the plugin's own ... */
    int stuck_tries;  /* ... and how often */
} session;

/* ---- what the plugin may ask of the host ----------------------------------------------------- */
static void on_log(void *ctx, int level, const char *text)
{
    sink *k = ctx;
    k->tell(k->ctx, level, text);
}

static void on_moved(void *ctx)
{
    sink *k = ctx;
    atomic_store(&k->moved_s, clock_s());
}

static int on_stop(void *ctx)
{
    sink *k = ctx;
    return atomic_load(&k->stop);
}

static sqz_status on_save(void *ctx, const char *text, sqz_error *err)
{
    sink *k = ctx;
    return spool_save_text(k->spool, text, err);
}

static void on_later(void *ctx, double seconds)
{
    sink *k = ctx;
    if (isfinite(seconds) && seconds > 0)
        atomic_store(&k->later_s, fmin(seconds, MAX_ASKED_PAUSE_S));
}

/* ---- calls ----------------------------------------------------------------------------------- */
static sqz_status start_process(session *s, sqz_error *err)
{
    sink *k = s->sink;
    char *log = path_format("%s/spool/%s.log", k->folder, k->name);
    carrier_options o = {
        k->info, "tracker", k->log, k->silence_s, {on_log, on_moved, on_later, on_save, on_stop, k}};
    free(k->log);
    o.log = k->log = log;
    return carrier_start(&o, &s->carrier, err);
}

/* One call of the plugin; what waits for it is told at the run's end. */
static sqz_status call(session *s, cJSON *request, sqz_error *err)
{
    sink *k = s->sink;
    atomic_store(&k->called_s, clock_s());
    sqz_status status = carrier_call(s->carrier, request, err);
    atomic_store(&k->called_s, 0);
    if (carrier_lost(s->carrier)) {
        carrier_end(s->carrier);
        s->carrier = NULL;
        s->begun = 0;
        s->lost += status != SQZ_E_CANCELLED;
    }
    return status;
}

static cJSON *request_new(const char *name)
{
    cJSON *r = cJSON_CreateObject();
    cJSON_AddStringToObject(r, "call", name);
    return r;
}

static sqz_status session_begin(session *s, sqz_error *err)
{
    sink *k = s->sink;
    const cJSON *head = spool_record(k->spool, 0);
    sqz_status status = s->carrier ? SQZ_OK : start_process(s, err);
    if (status) return status;
    cJSON *r = request_new("begin");
    char *study = json_text(json_get(head, "data"), 0), *state = spool_text(k->spool);
    carrier_name(r, k->info, json_get(head, "with"));
    cJSON_AddStringToObject(r, "study", study ? study : "{}");
    cJSON_AddStringToObject(r, "folder", k->folder);
    if (state) cJSON_AddStringToObject(r, "state", state);
    free(study);
    free(state);
    status = call(s, r, err);
    s->begun = !status;
    return status;
}

static void session_end(session *s)
{
    carrier_end(s->carrier);
}

/* ---- delivering ------------------------------------------------------------------------------ */
static sqz_status hand_over(session *s, const cJSON *record, sqz_error *err)
{
    cJSON *r = request_new("event");
    json_add_num(r, "seq", json_num(record, "seq", 0));
    json_add_num(r, "time_ms", json_num(record, "time_ms", 0));
    cJSON_AddStringToObject(r, "kind", json_str(record, "type", ""));
    cJSON_AddStringToObject(r, "key", json_str(record, "key", ""));
    cJSON_AddItemToObject(r, "data", cJSON_Duplicate(json_get(record, "data"), 1));
    return call(s, r, err);
}

static sqz_status flush(session *s, sqz_error *err)
{
    return call(s, request_new("flush"), err);
}

/* What sqz.http/1 refuses then is only put off. */
static int is_offline(void)
{
    const char *offline = getenv("SQZ_OFFLINE");
    return offline && *offline && strcmp(offline, "0") != 0;
}

/* Is this failure the event's own, so that trying again is useless? */
static int hopeless(session *s, sqz_status status)
{
    if (!s->carrier || (status == SQZ_E_UNSUPPORTED && is_offline())) return 0;
    if (status == SQZ_E_IO || status == SQZ_E_CANCELLED || status == SQZ_E_NOMEM) return 0;
    if (status == SQZ_E_INVALID) return 1;
    if (s->stuck != s->next) s->stuck_tries = 0;
    s->stuck = s->next;
    return ++s->stuck_tries >= MAX_TRIES;
}

static void give_up_event(session *s, const cJSON *record, const char *why)
{
    sink *k = s->sink;
    spool_reject(k->spool, s->next, why);
    char *line = path_format("%s cannot be delivered: %s", json_str(record, "key", "?"), why);
    k->tell(k->ctx, SQZ_LOG_WARN, line);
    free(line);
}

static sqz_status deliver_batch(session *s, sqz_error *err)
{
    sink *k = s->sink;
    s->next = spool_delivered(k->spool);
    if (s->next == 0) s->next = 1; /* record 0 went to begin */
    for (int n = 0; n < BATCH && !atomic_load(&k->stop); n++) {
        const cJSON *record = spool_record(k->spool, s->next);
        if (!record) break;
        sqz_status status = hand_over(s, record, err);
        if (status && !hopeless(s, status)) {
            /* what went before it in this batch need not be repeated */
            if (n > 0 && s->carrier && !flush(s, NULL))
                (void)spool_acknowledge(k->spool, s->next, NULL);
            return status;
        }
        if (status) give_up_event(s, record, err->text);
        s->next++;
        atomic_store(&k->moved_s, clock_s());
    }
    sqz_status status = flush(s, err);
    return status ? status : spool_acknowledge(k->spool, s->next, err);
}

/* ---- the thread ------------------------------------------------------------------------------ */
static void wait_until(sink *k, double when_s)
{
    struct timespec t = {(time_t)when_s, (long)((when_s - floor(when_s)) * 1e9)};
    pthread_cond_timedwait(&k->wake, &k->lock, &t);
}

/* Waits for records, and after a failure for the time of the next attempt.  0 = stop. */
static int wait_for_work(sink *k, double not_before_s)
{
    pthread_mutex_lock(&k->lock);
    for (;;) {
        double now = clock_s();
        int64_t done = spool_delivered(k->spool);
        int work = spool_length(k->spool) > (done > 0 ? done : 1);
        if (atomic_load(&k->stop) || (work && now >= not_before_s)) break;
        wait_until(k, work ? not_before_s : now + 3600);
    }
    pthread_mutex_unlock(&k->lock);
    return !atomic_load(&k->stop);
}

static void note_failure(sink *k, sqz_status status, int given_up, const sqz_error *err)
{
    if (status == SQZ_E_CANCELLED) return;
    pthread_mutex_lock(&k->lock);
    snprintf(k->error, sizeof k->error, "%s", err->text);
    pthread_mutex_unlock(&k->lock);
    atomic_store(&k->dead, given_up);
    if (atomic_fetch_add(&k->failures, 1) == 0 || given_up) {
        char *line = path_format("%s; %sthe events are kept in the run folder", err->text,
                                 given_up ? "it is put aside, " : "");
        k->tell(k->ctx, SQZ_LOG_WARN, line);
        free(line);
    }
}

static double next_attempt(sink *k)
{
    double pause = k->retry_s * pow(2, fmin(atomic_load(&k->failures) - 1, 10));
    return clock_s() + fmax(fmin(pause, MAX_PAUSE_S), atomic_load(&k->later_s));
}

static void *deliver(void *arg)
{
    sink *k = arg;
    session s = {.sink = k, .stuck = -1};
    double not_before = 0;
    while (!atomic_load(&k->dead) && wait_for_work(k, not_before)) {
        sqz_error err = {0};
        atomic_store(&k->later_s, 0);
        sqz_status begun = s.begun ? SQZ_OK : session_begin(&s, &err);
        sqz_status status = begun ? begun : deliver_batch(&s, &err);
        if (status == SQZ_OK) {
            if (atomic_exchange(&k->failures, 0)) k->tell(k->ctx, SQZ_LOG_INFO, "delivering again");
            continue;
        }
        /* a full disk or a lost process may heal; a plugin that cannot begin does not */
        int given_up = s.lost >= MAX_LOST || (begun && s.carrier && status != SQZ_E_IO);
        note_failure(k, status, given_up, &err);
        not_before = next_attempt(k);
    }
    session_end(&s);
    return NULL;
}

sqz_status sink_start(sink *k, sqz_error *err)
{
    sigset_t all, before;
    pthread_condattr_t attr;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->wake, &attr);
    pthread_condattr_destroy(&attr);
    atomic_store(&k->moved_s, clock_s());
    /* Ctrl-C belongs to the program, and a broken pipe to nobody. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&k->thread, NULL, deliver, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    k->started = !failure;
    return failure ? err_set(err, SQZ_E_NOMEM, "%s: no thread: %s", k->name, strerror(failure))
                   : SQZ_OK;
}

void sink_wake(sink *k)
{
    pthread_mutex_lock(&k->lock);
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
}

void sink_stop(sink *k)
{
    if (k->started) {
        atomic_store(&k->stop, 1);
        sink_wake(k);
        pthread_join(k->thread, NULL);
        pthread_mutex_destroy(&k->lock);
        pthread_cond_destroy(&k->wake);
    }
    spool_close(k->spool);
    free(k->name);
    free(k->log);
}
