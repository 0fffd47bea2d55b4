/* sink.c - the thread of one tracker: from its spool to the plugin, in order, again and again until
 * it succeeds.
 *
 * A record is acknowledged after a flush behind it succeeded; after any failure delivery begins
 * again at the first one that is not.  An event that the tracker can never deliver is remembered
 * and passed over, or it would block all that follow. */
#include "tracker/sink.h"
#include "io/file.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 32, MAX_TRIES = 3, MAX_SAVED = 4 << 20 };
static const double MAX_PAUSE_S = 60, MAX_ASKED_PAUSE_S = 600;

typedef struct session {
    sink *sink;
    host *host;
    agent *agent;
    const sqz_tracker *table;
    sqz_tracking tracking;
    char *study, *state;
    int begun;
    int64_t next;    /* record to hand over */
    int64_t stuck;   /* record that failed for a reason of the plugin's own ... */
    int stuck_tries; /* ... and how often */
} session;

double sink_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what the plugin may ask of the host ----------------------------------------------------- */
static void on_log(void *ctx, int level, const char *agent_id, const char *text)
{
    sink *k = ctx;
    char *line = path_format("%s: %s", agent_id, text);
    k->tell(k->ctx, level, line);
    free(line);
}

static int on_tick(void *ctx, double done, const char *what)
{
    sink *k = ctx;
    (void)what;
    if (done != k->last_done) {
        k->last_done = done;
        atomic_store(&k->moved_s, sink_now());
    }
    return atomic_load(&k->stop);
}

static sqz_status on_save(const sqz_tracking *t, const char *text)
{
    session *s = t->impl;
    sqz_error err = {0};
    const sqz_host *h = agent_host(s->agent);
    if (!text || strnlen(text, MAX_SAVED) == MAX_SAVED)
        return h->fail(h, SQZ_E_INVALID, "save: at most 4 MiB of text can be kept");
    if (!spool_save_text(s->sink->spool, text, &err)) return SQZ_OK;
    return h->fail(h, SQZ_E_IO, err.text);
}

static void on_later(const sqz_tracking *t, double seconds)
{
    session *s = t->impl;
    if (isfinite(seconds) && seconds > 0)
        atomic_store(&s->sink->later_s, fmin(seconds, MAX_ASKED_PAUSE_S));
}

/* ---- opening --------------------------------------------------------------------------------- */
static sqz_status session_begin(session *s, sqz_error *err)
{
    sink *k = s->sink;
    const cJSON *head = spool_record(k->spool, 0);
    if (!s->agent) {
        host_hooks hooks = {on_log, on_tick, k};
        sqz_status status = agent_open(s->host = host_new(&hooks), k->info, &s->agent, err);
        if (status) return status;
        s->table = agent_extension(s->agent, SQZ_TRACKER_1);
        if (!s->table)
            return err_set(err, ERR_PLUGIN, "%s: offers no %s", k->info->id, SQZ_TRACKER_1);
        if (cJSON_GetArraySize(k->info->params))
            status = agent_call(s->agent, NULL, json_get(head, "with"), err);
        if (status) return status;
        s->study = json_text(json_get(head, "data"), 0);
        s->state = spool_text(k->spool);
        s->tracking = (sqz_tracking){sizeof s->tracking, 0,        s,       s->study,
                                     k->folder,          s->state, on_save, on_later};
    }
    sqz_status status = s->table->begin(agent_host(s->agent), agent_self(s->agent), &s->tracking);
    if (status) return agent_error(s->agent, status, err);
    s->begun = 1;
    return SQZ_OK;
}

static void session_end(session *s)
{
    if (s->begun && SQZ_HAS(s->table, sqz_tracker, end) && s->table->end)
        s->table->end(agent_host(s->agent), agent_self(s->agent));
    agent_close(s->agent);
    host_free(s->host);
    free(s->study);
    free(s->state);
}

/* ---- delivering ------------------------------------------------------------------------------ */
static sqz_status hand_over(session *s, const cJSON *record, sqz_error *err)
{
    char *json = json_text(json_get(record, "data"), 0);
    sqz_track_event e = {sizeof e,
                         0,
                         json_int(record, "seq", 0),
                         json_int(record, "time_ms", 0),
                         json_str(record, "type", ""),
                         json_str(record, "key", ""),
                         json ? json : "{}"};
    sqz_status status = s->table->event(agent_host(s->agent), agent_self(s->agent), &e);
    free(json);
    return status ? agent_error(s->agent, status, err) : SQZ_OK;
}

static sqz_status flush(session *s, sqz_error *err)
{
    if (!s->table->flush) return SQZ_OK;
    sqz_status status = s->table->flush(agent_host(s->agent), agent_self(s->agent));
    return status ? agent_error(s->agent, status, err) : SQZ_OK;
}

/* Is this failure the event's own, so that trying again is useless? */
static int hopeless(session *s, sqz_status status)
{
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
            if (n > 0 && !flush(s, NULL)) (void)spool_acknowledge(k->spool, s->next, NULL);
            return status;
        }
        if (status) give_up_event(s, record, err->text);
        s->next++;
        atomic_store(&k->moved_s, sink_now());
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
        double now = sink_now();
        int64_t done = spool_delivered(k->spool);
        int work = spool_length(k->spool) > (done > 0 ? done : 1);
        if (atomic_load(&k->stop) || (work && now >= not_before_s)) break;
        wait_until(k, work ? not_before_s : now + 3600);
    }
    pthread_mutex_unlock(&k->lock);
    return !atomic_load(&k->stop);
}

static void note_failure(sink *k, sqz_status status, const sqz_error *err)
{
    pthread_mutex_lock(&k->lock);
    snprintf(k->error, sizeof k->error, "%s", err->text);
    pthread_mutex_unlock(&k->lock);
    if (status != SQZ_E_IO && status != SQZ_E_CANCELLED) atomic_store(&k->dead, 1);
    if (status != SQZ_E_CANCELLED && atomic_fetch_add(&k->failures, 1) == 0) {
        char *line = path_format("%s; the events are kept in the run folder", err->text);
        k->tell(k->ctx, SQZ_LOG_WARN, line);
        free(line);
    }
}

static double next_attempt(sink *k)
{
    double pause = k->retry_s * pow(2, fmin(atomic_load(&k->failures) - 1, 10));
    return sink_now() + fmax(fmin(pause, MAX_PAUSE_S), atomic_load(&k->later_s));
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
        /* a full disk or a broken plugin may heal; only one that cannot begin is out */
        note_failure(k, begun ? status : status == SQZ_E_CANCELLED ? status : SQZ_E_IO, &err);
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
    atomic_store(&k->moved_s, sink_now());
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
}
