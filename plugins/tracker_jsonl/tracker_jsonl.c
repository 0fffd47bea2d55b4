/* tracker_jsonl.c - a study as plain files: study.json and events.jsonl, one event a line.
 *
 * For scripts, and the smallest example of a tracker.  A line begins with its sequence number, so
 * the last whole line says what is there already; a torn end is cut before anything is added. */
#include <sqz/sqz.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct state {
    char folder[4096]; /* of the parameter, then resolved */
    FILE *events;
    int64_t last; /* sequence number of the last whole line, 0 = none */
} state;

#define JSONL_PARAMS(P)                                                                            \
    P(SQZ_TEXT, folder, 0, 0, 0, "", 0, "where to write; empty: tracking/ in the run folder")
SQZ_CALL(jsonl_params, JSONL_PARAMS);

static sqz_status jsonl_params(const sqz_host *host, void *self, void *subject, const char *folder)
{
    state *s = self;
    (void)subject;
    if (strlen(folder) >= sizeof s->folder / 2)
        return host->fail(host, SQZ_E_INVALID, "folder: the path is too long");
    snprintf(s->folder, sizeof s->folder, "%s", folder);
    return SQZ_OK;
}

static sqz_status open_state(const sqz_host *host, void **self)
{
    (void)host;
    *self = calloc(1, sizeof(state));
    return *self ? SQZ_OK : SQZ_E_NOMEM;
}

static void close_state(const sqz_host *host, void *self)
{
    state *s = self;
    (void)host;
    if (s->events) fclose(s->events);
    free(s);
}

/* Whole or absent. */
static sqz_status write_study(const sqz_host *host, const state *s, const char *study)
{
    char path[4200], temp[4210];
    snprintf(path, sizeof path, "%s/study.json", s->folder);
    snprintf(temp, sizeof temp, "%s.tmp", path);
    FILE *f = fopen(temp, "we");
    int ok = f && fprintf(f, "%s\n", study) > 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (f && fclose(f)) ok = 0;
    if (ok && rename(temp, path) == 0) return SQZ_OK;
    return sqz_failf(host, SQZ_E_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* Finds the last whole line and cuts what is behind it. */
static sqz_status open_events(const sqz_host *host, state *s)
{
    char path[4200], *line = NULL;
    size_t room = 0;
    ssize_t n;
    long whole = 0;
    s->last = 0;
    snprintf(path, sizeof path, "%s/events.jsonl", s->folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    s->events = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!s->events)
        return sqz_failf(host, SQZ_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    while ((n = getline(&line, &room, s->events)) > 0 && line[n - 1] == '\n') {
        if (sscanf(line, "{\"seq\":%" SCNd64, &s->last) != 1) break;
        whole = ftell(s->events);
    }
    free(line);
    if (ftruncate(fd, whole) || fseek(s->events, whole, SEEK_SET)) {
        fclose(s->events);
        s->events = NULL;
        return sqz_failf(host, SQZ_E_IO, "%s: its torn end cannot be cut: %s", path,
                         strerror(errno));
    }
    return SQZ_OK;
}

static sqz_status begin(const sqz_host *host, void *self, const sqz_tracking *t)
{
    state *s = self;
    if (!*s->folder) {
        if (strlen(t->folder) >= sizeof s->folder - 16)
            return host->fail(host, SQZ_E_INVALID, "the run folder's path is too long");
        snprintf(s->folder, sizeof s->folder, "%s/tracking", t->folder);
    }
    if (mkdir(s->folder, 0777) && errno != EEXIST)
        return sqz_failf(host, SQZ_E_IO, "%.500s: cannot be made: %s", s->folder, strerror(errno));
    sqz_status status = write_study(host, s, t->study);
    return status ? status : open_events(host, s);
}

static sqz_status event(const sqz_host *host, void *self, const sqz_track_event *e)
{
    state *s = self;
    sqz_status status = s->events ? SQZ_OK : open_events(host, s);
    if (status || e->seq <= s->last) return status;
    if (fprintf(s->events,
                "{\"seq\":%" PRId64 ",\"time_ms\":%" PRId64 ",\"kind\":\"%s\",\"data\":%s}\n",
                e->seq, e->time_ms, e->kind, e->json) < 0)
        return sqz_failf(host, SQZ_E_IO, "events.jsonl: cannot be written: %s", strerror(errno));
    s->last = e->seq;
    return SQZ_OK;
}

/* After a failure what the stream held is uncertain: the next event reads the file again. */
static sqz_status flush(const sqz_host *host, void *self)
{
    state *s = self;
    if (!s->events) return SQZ_OK;
    if (fflush(s->events) == 0 && fdatasync(fileno(s->events)) == 0) return SQZ_OK;
    sqz_failf(host, SQZ_E_IO, "events.jsonl: cannot be written: %s", strerror(errno));
    fclose(s->events);
    s->events = NULL;
    return SQZ_E_IO;
}

static const sqz_tracker tracker = {sizeof(sqz_tracker), 0, begin, event, flush, NULL};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_TRACKER_1) == 0 ? &tracker : NULL;
}

static const char *const tags[] = {"tracker", "builtin", NULL};
static const sqz_agent agents[] = {{sizeof(sqz_agent), 90, "org.sqz.jsonl", "tracker/1",
                                    "JSON lines", "Writes a study as study.json and events.jsonl",
                                    "1.0.0", "Apache-2.0", tags, open_state, close_state,
                                    &jsonl_params_call, extension}};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
