/* @name@.c - a tracker: one line a finished trial in a CSV file of the run folder.
 *
 * Events come in order and may come twice after a crash: the number of the last written one is kept
 * by save(), and the file is cut back to the length it had then. */
#include <sqz/tracker.h>
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct state {
    const sqz_tracking *study;
    FILE *out;
    long long seq, bytes; /* as saved */
} state;

static sqz_status open_state(const sqz_host *host, void **self)
{
    *self = calloc(1, sizeof(state));
    return *self ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "@name@: no memory");
}

static void close_state(const sqz_host *host, void *self)
{
    state *s = self;
    (void)host;
    if (s->out) fclose(s->out);
    free(s);
}

static sqz_status begin(const sqz_host *host, void *self, const sqz_tracking *study)
{
    state *s = self;
    char path[4096];
    s->study = study;
    if (study->state) sscanf(study->state, "%lld %lld", &s->seq, &s->bytes);
    snprintf(path, sizeof path, "%s/@name@.csv", study->folder);
    s->out = fopen(path, "a");
    if (!s->out) return sqz_failf(host, SQZ_E_IO, "@name@: %s cannot be opened", path);
    if (ftruncate(fileno(s->out), s->bytes)) return sqz_failf(host, SQZ_E_IO, "@name@: %s cannot be cut", path);
    if (s->bytes == 0) fputs("seq,time_ms,trial,outcome\n", s->out);
    return SQZ_OK;
}

/* The text of a string key of a flat part of the JSON, without quotes; enough for ids and words. */
static void text_of(const char *json, const char *key, char *out, size_t room)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *p = strstr(json, quoted);
    size_t n = 0;
    p = p ? strchr(p + strlen(quoted), '"') : NULL;
    while (p && p[1 + n] && p[1 + n] != '"' && p[1 + n] != '\\' && n + 1 < room) n++;
    memcpy(out, p ? p + 1 : "", n);
    out[n] = 0;
}

static sqz_status event(const sqz_host *host, void *self, const sqz_track_event *e)
{
    state *s = self;
    char trial[80], outcome[40];
    if (e->seq <= s->seq || strcmp(e->kind, "trial_end")) return SQZ_OK;
    text_of(e->json, "trial", trial, sizeof trial);
    text_of(e->json, "outcome", outcome, sizeof outcome);
    if (fprintf(s->out, "%lld,%lld,%s,%s\n", (long long)e->seq, (long long)e->time_ms, trial, outcome) < 0)
        return host->fail(host, SQZ_E_IO, "@name@: the file cannot be written");
    s->seq = e->seq;
    return SQZ_OK;
}

static sqz_status flush(const sqz_host *host, void *self)
{
    state *s = self;
    char text[64];
    if (fflush(s->out) || fsync(fileno(s->out))) return host->fail(host, SQZ_E_IO, "@name@: cannot write");
    s->bytes = ftell(s->out);
    snprintf(text, sizeof text, "%lld %lld", s->seq, s->bytes);
    return s->study->save(s->study, text);
}

static const sqz_tracker tracker = {sizeof tracker, 0, begin, event, flush, NULL};
static const void *extension(const char *id) { return strcmp(id, SQZ_TRACKER_1) ? NULL : &tracker; }
static const sqz_agent agent = {sizeof agent, 10, "@id@", "tracker/1", "@name@",
                                "one line a trial in a CSV file", "0.1.0", "MIT", NULL, open_state,
                                close_state, NULL, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent,
                                  0, &agent};
SQZ_PLUGIN_STAMP(0);
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
