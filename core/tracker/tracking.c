/* tracking.c - see tracking.h. */
#include "tracker/tracking.h"
#include "io/file.h"
#include "tracker/events.h"
#include "tracker/sink.h"
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SINKS = 8, MAX_QUEUE = 4096, MAX_NOTES = 64 };
/* Share of a run's time that its end may wait, and seconds after which a call is worth a word. */
static const double MAX_SHARE = 0.007, SLOW_S = 2;

typedef struct note {
    int level;
    char *text;
} note;

struct tracking {
    tracking_options options;
    char *dir;
    cJSON *study, *objectives;
    sink sinks[MAX_SINKS];
    int n_sinks;
    double cost_s; /* the caller's thread's */

    pthread_t writer;
    int started;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake, idle;
    cJSON *queue[MAX_QUEUE]; /* ring of record arrays */
    int head, n_queue, writing, stop;
    int ended;   /* what the finished run's folder holds is to be added */
    int hurried; /* on stop the queue is left: `sqz sync` makes it again from the folder */
    int64_t dropped;
    note notes[MAX_NOTES];
    int n_notes;
};

/* ---- messages: made on any thread, told on the caller's -------------------------------------- */
static void tell(void *ctx, int level, const char *text)
{
    tracking *t = ctx;
    pthread_mutex_lock(&t->lock);
    if (t->n_notes < MAX_NOTES) t->notes[t->n_notes++] = (note){level, path_format("%s", text)};
    pthread_mutex_unlock(&t->lock);
}

static void show_notes(tracking *t)
{
    note taken[MAX_NOTES];
    pthread_mutex_lock(&t->lock);
    int n = t->n_notes;
    memcpy(taken, t->notes, (size_t)n * sizeof *taken);
    t->n_notes = 0;
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < n; i++) {
        if (t->options.log) t->options.log(t->options.ctx, taken[i].level, taken[i].text);
        free(taken[i].text);
    }
}

/* ---- the queue ------------------------------------------------------------------------------- */
/* Takes ownership of an array of records. */
static void enqueue(tracking *t, cJSON *records)
{
    if (!records) return;
    pthread_mutex_lock(&t->lock);
    int full = t->n_queue == MAX_QUEUE;
    if (full) {
        t->dropped++; /* the end of the run adds it again from the folder */
    } else {
        t->queue[(t->head + t->n_queue++) % MAX_QUEUE] = records;
        pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
    if (full) cJSON_Delete(records);
}

static void append_to(tracking *t, sink *k, const cJSON *records)
{
    const cJSON *r;
    int any = 0;
    sqz_error err = {0};
    cJSON_ArrayForEach(r, records)
    {
        int added = 0;
        sqz_status s = spool_append(k->spool, cJSON_Duplicate(r, 1), &added, &err);
        any |= added;
        if (s) {
            tell(t, SQZ_LOG_WARN, err.text);
            break;
        }
    }
    if (any) sink_wake(k);
}

/* The next of the queue, or NULL when only the folder is left; under lock. */
static cJSON *take(tracking *t)
{
    if (!t->n_queue) {
        t->ended = 0;
        return NULL;
    }
    cJSON *records = t->queue[t->head];
    t->head = (t->head + 1) % MAX_QUEUE;
    t->n_queue--;
    return records;
}

static cJSON *folder_records(tracking *t)
{
    cJSON *records = NULL;
    sqz_error err = {0};
    if (events_of_folder(t->dir, EVENTS_ENDED, &records, &err)) tell(t, SQZ_LOG_WARN, err.text);
    return records;
}

static void *write_queue(void *arg)
{
    tracking *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->n_queue && !t->ended && !t->stop) pthread_cond_wait(&t->wake, &t->lock);
        if ((!t->n_queue && !t->ended) || (t->stop && t->hurried)) break;
        cJSON *records = take(t);
        t->writing = 1;
        pthread_mutex_unlock(&t->lock);
        if (!records) records = folder_records(t);
        for (int i = 0; i < t->n_sinks; i++) append_to(t, &t->sinks[i], records);
        cJSON_Delete(records);
        pthread_mutex_lock(&t->lock);
        t->writing = 0;
        pthread_cond_broadcast(&t->idle);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */
static sqz_status refuse_secret(const cJSON *with, const char *use, sqz_error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, with)
    {
        const char *scheme = cJSON_IsString(item) ? strstr(item->valuestring, "://") : NULL;
        if (scheme && memchr(scheme + 3, '@', strcspn(scheme + 3, "/?#")))
            return err_set(err, ERR_USAGE,
                           "tracker \"%s\": \"%s\" holds a user or password, which would end up "
                           "in the run folder; give them by environment or file",
                           use, item->string);
    }
    return SQZ_OK;
}

sqz_status tracking_check(const cJSON *trackers, const catalogue *cat, sqz_error *err)
{
    const cJSON *t;
    if (cJSON_GetArraySize(trackers) > MAX_SINKS)
        return err_set(err, ERR_USAGE, "tracker: at most %d at once", MAX_SINKS);
    cJSON_ArrayForEach(t, trackers)
    {
        const agent_info *info = NULL;
        cJSON *resolved = NULL;
        const char *use = json_str(t, "use", "");
        sqz_status s = refuse_secret(json_get(t, "with"), use, err);
        if (!s) s = catalogue_find(cat, "tracker/1", use, &info, err);
        if (!s) s = params_resolve(info, json_get(t, "with"), NULL, &resolved, err);
        cJSON_Delete(resolved);
        if (s) return s;
    }
    return SQZ_OK;
}

static sqz_status write_head(const tracking *t, sink *k, const cJSON *with, sqz_error *err)
{
    cJSON *head = cJSON_CreateObject();
    cJSON_AddStringToObject(head, "type", "study");
    cJSON_AddStringToObject(head, "key", "study");
    cJSON_AddNumberToObject(head, "time_ms", (double)events_now_ms());
    cJSON_AddStringToObject(head, "agent", k->info->id);
    cJSON_AddItemToObject(head, "with", with ? cJSON_Duplicate(with, 1) : cJSON_CreateObject());
    cJSON_AddItemToObject(head, "data", cJSON_Duplicate(t->study, 1));
    return spool_append(k->spool, head, NULL, err);
}

/* A spool belongs to one agent with one set of parameters. */
static sqz_status check_head(const sink *k, const cJSON *with, sqz_error *err)
{
    const cJSON *head = spool_record(k->spool, 0);
    cJSON *none = cJSON_CreateObject();
    const cJSON *a = json_get(head, "with"), *b = with ? with : none;
    int same = !strcmp(json_str(head, "agent", ""), k->info->id) && cJSON_Compare(a, b, 1);
    cJSON_Delete(none);
    return same ? SQZ_OK
                : err_set(err, ERR_CONFLICT,
                          "spool/%s.jsonl was begun by %s with other parameters; it is left alone",
                          k->name, json_str(head, "agent", "?"));
}

/* Takes the spool over.  with NULL: as the spool says.  A spool is never closed and opened again
 * while other sinks start their processes: one that has not come to its exec holds the lock, too.
 */
static sqz_status add_sink(tracking *t, const char *name, spool *records, const agent_info *info,
                           const cJSON *with, sqz_error *err)
{
    sqz_status s = SQZ_OK;
    sink *k = &t->sinks[t->n_sinks];
    memset(k, 0, sizeof *k);
    k->folder = t->dir;
    k->info = info;
    k->name = path_format("%s", name);
    k->retry_s = t->options.retry_s > 0 ? t->options.retry_s : 1;
    k->silence_s = t->options.silence_s;
    k->tell = tell;
    k->ctx = t;
    k->spool = records;
    if (spool_length(k->spool) == 0) s = write_head(t, k, with, err);
    if (!s && with) s = check_head(k, with, err);
    if (!s) s = sink_start(k, err);
    if (s)
        sink_stop(k);
    else
        t->n_sinks++;
    return s;
}

/* "org.sqz.x" as "x", the second one as "x-2". */
static char *sink_name(const tracking *t, const char *id)
{
    const char *dot = strrchr(id, '.');
    char *name = path_format("%s", dot ? dot + 1 : id);
    for (int n = 2, clash = 1; clash; n++) {
        clash = 0;
        for (int i = 0; i < t->n_sinks; i++) clash |= !strcmp(t->sinks[i].name, name);
        if (!clash) break;
        free(name);
        name = path_format("%s-%d", dot ? dot + 1 : id, n);
    }
    return name;
}

static void open_named(tracking *t)
{
    const cJSON *j;
    cJSON_ArrayForEach(j, t->options.trackers)
    {
        sqz_error err = {0};
        const agent_info *info = NULL;
        cJSON *none = cJSON_CreateObject();
        const cJSON *with = json_get(j, "with");
        if (t->n_sinks == MAX_SINKS) break;
        sqz_status s =
            catalogue_find(t->options.catalogue, "tracker/1", json_str(j, "use", ""), &info, &err);
        char *name = s ? NULL : sink_name(t, info->id);
        spool *records = NULL;
        if (!s) s = spool_open(t->dir, name, &records, &err);
        if (!s) s = add_sink(t, name, records, info, cJSON_IsObject(with) ? with : none, &err);
        if (s) tell(t, SQZ_LOG_WARN, err.text);
        free(name);
        cJSON_Delete(none);
    }
}

/* The sink of a spool file, with the agent that it was begun by. */
static sqz_status open_begun(tracking *t, const char *name, sqz_error *err)
{
    spool *records = NULL;
    const agent_info *info = NULL;
    sqz_status s = spool_open(t->dir, name, &records, err);
    if (s) return s;
    const char *id = json_str(spool_record(records, 0), "agent", NULL);
    s = id ? catalogue_find(t->options.catalogue, "tracker/1", id, &info, err)
           : err_set(err, ERR_STORAGE, "spool/%s.jsonl: its first record is damaged", name);
    if (!s) return add_sink(t, name, records, info, NULL, err);
    spool_close(records);
    return s;
}

static void open_existing(tracking *t)
{
    char *dir = path_format("%s/spool", t->dir);
    struct dirent **list = NULL;
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        sqz_error err = {0};
        char *name = list[i]->d_name, *end = strstr(name, ".jsonl");
        if (end && !end[6] && name[0] != '.' && t->n_sinks < MAX_SINKS) {
            *end = 0;
            if (open_begun(t, name, &err)) tell(t, SQZ_LOG_WARN, err.text);
        }
        free(list[i]);
    }
    free(list);
    free(dir);
}

static sqz_status start_writer(tracking *t, sqz_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&t->writer, NULL, write_queue, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    t->started = !failure;
    return failure ? err_set(err, SQZ_E_NOMEM, "trackers: no thread: %s", strerror(failure))
                   : SQZ_OK;
}

sqz_status tracking_open(const tracking_options *o, tracking **out, sqz_error *err)
{
    tracking *t = calloc(1, sizeof *t);
    if (!t) return err_set(err, SQZ_E_NOMEM, "trackers: out of memory");
    double start = clock_s();
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->idle, NULL);
    t->options = *o;
    t->dir = realpath(o->dir, NULL);
    if (!t->dir) t->dir = path_format("%s", o->dir);
    sqz_status s = events_study(t->dir, &t->study, err);
    if (!s) {
        t->objectives = json_get(t->study, "objectives");
        if (o->trackers)
            open_named(t);
        else
            open_existing(t);
        t->options.trackers = NULL; /* was borrowed for this call */
        s = start_writer(t, err);
    }
    show_notes(t);
    t->cost_s = clock_s() - start;
    if (s)
        tracking_close(t);
    else
        *out = t;
    return s;
}

/* ---- telling --------------------------------------------------------------------------------- */
void tracking_observe(void *ctx, const run_event *e)
{
    tracking *t = ctx;
    double start = clock_s();
    enqueue(t, events_of_run(e, t->objectives));
    show_notes(t);
    t->cost_s += clock_s() - start;
}

/* A study that goes on after an end says so first. */
static cJSON *resume_records(tracking *t)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < t->n_sinks; i++) {
        const cJSON *end = spool_last(t->sinks[i].spool, "end");
        if (!end || cJSON_GetArraySize(list)) continue;
        cJSON *r = cJSON_CreateObject();
        char *key = path_format("resume/%s", json_str(end, "key", ""));
        cJSON_AddStringToObject(r, "type", "resume");
        cJSON_AddStringToObject(r, "key", key);
        cJSON_AddNumberToObject(r, "time_ms", (double)events_now_ms());
        cJSON_AddItemToObject(r, "data", cJSON_CreateObject());
        cJSON_AddItemToArray(list, r);
        free(key);
    }
    return list;
}

void tracking_add_folder(tracking *t, int ended)
{
    cJSON *records = NULL;
    sqz_error err = {0};
    if (ended) { /* nothing changes any more: the writer has the time to read it */
        pthread_mutex_lock(&t->lock);
        t->ended = 1;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->lock);
        return;
    }
    enqueue(t, resume_records(t));
    if (events_of_folder(t->dir, ended, &records, &err))
        tell(t, SQZ_LOG_WARN, err.text);
    else
        enqueue(t, records);
    show_notes(t);
}

/* ---- waiting --------------------------------------------------------------------------------- */
static int64_t left_of(sink *k)
{
    int64_t done = spool_delivered(k->spool);
    return spool_length(k->spool) - (done > 0 ? done : 1);
}

/* May this one still get further? */
static int hopeful(sink *k, const tracking_wait *w, double since)
{
    double moved = fmax(atomic_load(&k->moved_s), since);
    int failures = atomic_load(&k->failures);
    if (atomic_load(&k->dead)) return 0;
    if (failures > 0) return failures < w->max_failures;
    return w->quiet_s <= 0 || clock_s() - moved < w->quiet_s;
}

static int queue_idle(tracking *t)
{
    pthread_mutex_lock(&t->lock);
    int idle = !t->n_queue && !t->ended && !t->writing;
    pthread_mutex_unlock(&t->lock);
    return idle;
}

void tracking_drain(tracking *t, const tracking_wait *w)
{
    double start = clock_s();
    struct timespec nap = {0, 5000000};
    for (;;) {
        int pending = !queue_idle(t), hope = pending;
        for (int i = 0; i < t->n_sinks; i++) {
            if (left_of(&t->sinks[i]) <= 0) continue;
            pending = 1;
            hope |= hopeful(&t->sinks[i], w, start);
        }
        if (!pending || !hope || (w->total_s > 0 && clock_s() - start > w->total_s)) break;
        if (w->stop && w->stop(w->ctx)) break;
        nanosleep(&nap, NULL);
        show_notes(t);
    }
    show_notes(t);
}

int64_t tracking_undelivered(tracking *t)
{
    int64_t n = 0;
    for (int i = 0; i < t->n_sinks; i++) n += left_of(&t->sinks[i]) > 0 ? left_of(&t->sinks[i]) : 0;
    return n;
}

/* The trackers that are behind, for the line at the end of a run, with what keeps one that has not
 * failed yet; caller frees. */
static char *who_waits(tracking *t)
{
    char *text = path_format("%s", "");
    for (int i = 0; i < t->n_sinks; i++) {
        sink *k = &t->sinks[i];
        double called = atomic_load(&k->called_s), since = called > 0 ? clock_s() - called : 0;
        if (left_of(k) <= 0) continue;
        char *before = text, why[80] = "";
        if (since > SLOW_S) snprintf(why, sizeof why, ": a call has taken %.0f s so far", since);
        text = path_format("%s%s%s%s", before, *before ? ", " : "", k->info->id, why);
        free(before);
    }
    return text;
}

void tracking_finish(tracking *t, double elapsed_s)
{
    double start = clock_s();
    tracking_add_folder(t, EVENTS_ENDED);
    /* All that tracking takes of a run is less than one percent of it, however short it was. */
    tracking_wait w = {.total_s = fmax(MAX_SHARE * elapsed_s - t->cost_s, 0.001), .quiet_s = 0.5};
    tracking_drain(t, &w);
    pthread_mutex_lock(&t->lock);
    t->hurried = 1;
    int waiting = t->n_queue || t->ended || t->writing;
    pthread_mutex_unlock(&t->lock);
    int64_t left = tracking_undelivered(t);
    if (left || waiting) {
        char *who = who_waits(t);
        char *line = path_format("the trackers were not waited for; `sqz sync %s` delivers the "
                                 "rest%s%s%s",
                                 t->dir, *who ? " (" : "", who, *who ? ")" : "");
        tell(t, SQZ_LOG_WARN, line);
        free(line);
        free(who);
    }
    show_notes(t);
    t->cost_s += clock_s() - start;
}

double tracking_cost_s(const tracking *t)
{
    return t->cost_s;
}

cJSON *tracking_status(tracking *t)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < t->n_sinks; i++) {
        sink *k = &t->sinks[i];
        cJSON *j = cJSON_CreateObject();
        int64_t done = spool_delivered(k->spool);
        cJSON_AddStringToObject(j, "name", k->name);
        cJSON_AddStringToObject(j, "agent", k->info->id);
        cJSON_AddNumberToObject(j, "events", (double)(spool_length(k->spool) - 1));
        cJSON_AddNumberToObject(j, "delivered", (double)(done > 0 ? done - 1 : 0));
        cJSON_AddNumberToObject(j, "rejected", (double)spool_rejected(k->spool));
        pthread_mutex_lock(&k->lock);
        if (left_of(k) > 0 && k->error[0]) cJSON_AddStringToObject(j, "error", k->error);
        pthread_mutex_unlock(&k->lock);
        cJSON_AddItemToArray(list, j);
    }
    return list;
}

void tracking_close(tracking *t)
{
    if (!t) return;
    if (t->started) {
        pthread_mutex_lock(&t->lock);
        t->stop = 1;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->lock);
        pthread_join(t->writer, NULL);
    }
    for (int i = 0; i < t->n_sinks; i++) atomic_store(&t->sinks[i].stop, 1); /* all at once */
    for (int i = 0; i < t->n_sinks; i++) sink_stop(&t->sinks[i]);
    while (t->n_queue) cJSON_Delete(take(t));
    show_notes(t);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->idle);
    cJSON_Delete(t->study);
    free(t->dir);
    free(t);
}
