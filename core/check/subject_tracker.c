/* subject_tracker.c - a small study for trackers: told, told again, told after a crash.
 *
 * The study lies in a folder of its own that is removed afterwards; nobody listens where requests
 * go, so a tracker of a server shows how it fails, one of files what it writes.  Left out: what a
 * server makes of it, which is the tracker's own test. */
#include "check/probe.h"
#include "io/file.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_STATE = 4 << 20, MAX_FILE = 16 << 20 };

typedef struct story {
    char *folder, *state;
    sqz_tracking tracking;
} story;

static const char STUDY[] =
    "{\"id\":\"check-study\",\"name\":\"check\",\"experiment\":\"toy on check\",\"model\":\"/m/"
    "toy\",\"datasets\":[\"/d/check.jsonl\"],\"objectives\":[\"quality\",\"bytes\"],"
    "\"started_ms\":1767225600000,\"version\":\"1\",\"seed\":1,\"params\":{\"budget\":\"3\"},"
    "\"tags\":{},\"registered_model\":\"toy\"}";

/* The whole life of a study: parameters, metrics with steps, an artifact, its end. */
static const struct {
    const char *kind, *key, *json;
} events[] = {
    {"trial_begin", "trial_begin/s0001",
     "{\"trial\":\"s0001\",\"label\":\"one\",\"index\":1,\"kind\":\"search\",\"proposed_by\":"
     "\"org.example.search\",\"why\":\"first\",\"params\":{\"bits\":\"4\"},\"steps\":[]}"},
    {"trial_end", "trial_end/s0001",
     "{\"trial\":\"s0001\",\"label\":\"one\",\"index\":1,\"kind\":\"search\",\"params\":{\"bits\":"
     "\"4\"},\"steps\":[],\"outcome\":\"ok\",\"reason\":\"\",\"feasible\":true,\"front\":true,"
     "\"violations\":[],\"artifact\":\"sha256:00\",\"seconds\":1.5,\"metrics\":[{\"name\":"
     "\"quality\",\"value\":0.5,\"step\":0},{\"name\":\"quality\",\"value\":0.25,\"step\":1}],"
     "\"nonfinite\":[]}"},
    {"progress", "progress/1",
     "{\"metrics\":[{\"name\":\"hypervolume\",\"value\":0.5,\"step\":1}]}"},
    {"front", "front/1",
     "{\"members\":[\"s0001\"],\"objectives\":[\"quality\",\"bytes\"],\"reference\":[1,2],"
     "\"hypervolume\":0.5,\"metrics\":[]}"},
    {"file", "file/report.md/0",
     "{\"path\":\"report.md\",\"bytes\":9,\"sha256\":\"sha256:"
     "0000000000000000000000000000000000000000000000000000000000000000\",\"media_type\":"
     "\"text/markdown\"}"},
    {"end", "end/done/3", "{\"state\":\"done\",\"summary\":\"# report\\n\"}"}};
enum { N_EVENTS = sizeof events / sizeof *events };

/* ---- the host's side ------------------------------------------------------------------------- */
static sqz_status on_save(const sqz_tracking *t, const char *text)
{
    story *s = t->impl;
    if (!text || strnlen(text, MAX_STATE) == MAX_STATE) return SQZ_E_INVALID;
    free(s->state);
    s->state = path_format("%s", text);
    return SQZ_OK;
}

static void on_later(const sqz_tracking *t, double seconds)
{
    (void)t, (void)seconds;
}

static int story_begin(probe *p, story *s)
{
    char *here = getcwd(NULL, 0), *report;
    s->folder = path_format("%s/tmp/study", here ? here : ".");
    s->state = NULL;
    free(here);
    dir_remove(s->folder, NULL);
    report = path_format("%s/report.md", s->folder);
    int made = !dir_make(s->folder, NULL) && !file_write(report, "# report\n", 9, NULL);
    if (!made) FAIL(p, "no folder for the study");
    free(report);
    s->tracking =
        (sqz_tracking){sizeof s->tracking, 0, s, STUDY, s->folder, NULL, on_save, on_later};
    return made;
}

static void story_end(story *s)
{
    dir_remove(s->folder, NULL);
    free(s->folder);
    free(s->state);
}

/* A server that is not there is no fault of the tracker. */
static int is_absence(sqz_status s)
{
    return s == SQZ_E_IO;
}

/* ---- telling --------------------------------------------------------------------------------- */
/* The parameters, and for one that wants an address where nobody listens. */
static cJSON *with_address(const probe *p, const cJSON *with)
{
    cJSON *all = with ? cJSON_Duplicate(with, 1) : cJSON_CreateObject();
    const cJSON *row;
    cJSON_ArrayForEach(row, p->info->params)
    {
        const char *name = json_str(row, "name", "");
        if ((!strcmp(name, "uri") || !strcmp(name, "url")) && !*json_str(all, name, "")) {
            cJSON_DeleteItemFromObjectCaseSensitive(all, name);
            cJSON_AddStringToObject(all, name, "http://127.0.0.1:9");
        }
    }
    return all;
}

static sqz_status begin(probe *p, agent *a, story *s, const cJSON *with, const sqz_tracker **table,
                        sqz_error *err)
{
    *table = agent_extension(a, SQZ_TRACKER_1);
    if (!*table || !(*table)->begin || !(*table)->event)
        return err_set(err, ERR_PLUGIN, "offers no %s with begin and event", SQZ_TRACKER_1);
    sqz_status status = SQZ_OK;
    cJSON *all = with_address(p, with);
    if (cJSON_GetArraySize(p->info->params)) status = agent_call(a, NULL, all, err);
    cJSON_Delete(all);
    if (status) return status;
    s->tracking.state = s->state ? strdup(s->state) : NULL;
    status = (*table)->begin(agent_host(a), agent_self(a), &s->tracking);
    return status ? agent_error(a, status, err) : SQZ_OK;
}

static sqz_status tell(agent *a, const sqz_tracker *t, int64_t seq, const char *kind,
                       const char *key, const char *json, sqz_error *err)
{
    sqz_track_event e = {sizeof e, 0, seq, 1767225600000 + seq, kind, key, json};
    sqz_status s = t->event(agent_host(a), agent_self(a), &e);
    return s ? agent_error(a, s, err) : SQZ_OK;
}

static sqz_status tell_all(probe *p, agent *a, const sqz_tracker *t, sqz_error *err)
{
    sqz_status s = SQZ_OK;
    for (int i = 0; i < N_EVENTS && !s; i++) {
        probe_at(p, "event %s", events[i].key);
        s = tell(a, t, i + 1, events[i].kind, events[i].key, events[i].json, err);
    }
    if (!s && t->flush) {
        s = t->flush(agent_host(a), agent_self(a));
        if (s) s = agent_error(a, s, err);
    }
    return s;
}

static void finish(agent *a, const sqz_tracker *t, story *s)
{
    if (SQZ_HAS(t, sqz_tracker, end) && t->end) t->end(agent_host(a), agent_self(a));
    free((char *)s->tracking.state);
    s->tracking.state = NULL;
}

/* ---- what it wrote --------------------------------------------------------------------------- */
static void digest_folder(const char *folder, int depth, sha256 *sum)
{
    struct dirent **list = NULL;
    int n = depth < 8 ? scandir(folder, &list, NULL, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        struct stat st;
        char *path = path_format("%s/%s", folder, list[i]->d_name), *text = NULL;
        int64_t bytes = 0;
        if (list[i]->d_name[0] != '.' && lstat(path, &st) == 0) {
            sha256_update(sum, list[i]->d_name, strlen(list[i]->d_name));
            if (S_ISDIR(st.st_mode)) digest_folder(path, depth + 1, sum);
            if (S_ISREG(st.st_mode) && !file_read(path, MAX_FILE, &text, &bytes, NULL))
                sha256_update(sum, text, (size_t)bytes);
        }
        free(text);
        free(path);
        free(list[i]);
    }
    free(list);
}

static void written(const story *s, char out[DIGEST_TEXT])
{
    sha256 *sum = sha256_new();
    digest_folder(s->folder, 0, sum);
    if (s->state) sha256_update(sum, s->state, strlen(s->state));
    sha256_final(sum, out);
}

static sqz_status use(probe *p, agent *a, const cJSON *with, int size, sha256 *digest,
                      sqz_error *err)
{
    const sqz_tracker *t = NULL;
    story s;
    char found[DIGEST_TEXT];
    (void)size;
    if (!story_begin(p, &s)) return SQZ_E_IO;
    sqz_status status = begin(p, a, &s, with, &t, err);
    int begun = !status;
    if (begun) status = tell_all(p, a, t, err);
    if (begun) finish(a, t, &s);
    written(&s, found);
    sha256_update(digest, found, strlen(found));
    story_end(&s);
    if (begun && is_absence(status)) status = SQZ_OK;
    return status;
}

const subject_kind subject_tracker = {"tracker/1", use};

/* ---- tests ----------------------------------------------------------------------------------- */
static int open_story(probe *p, agent **a, story *s, const sqz_tracker **t)
{
    sqz_error err = {0};
    if (agent_open(p->host, p->info, a, &err)) {
        FAIL(p, "%s", err.text);
        return 0;
    }
    if (!begin(p, *a, s, NULL, t, &err)) return 1;
    FAIL(p, "begin: %s", err.text);
    agent_close(*a);
    return 0;
}

static void begins_offline(probe *p)
{
    const sqz_tracker *t;
    agent *a;
    story s;
    if (!story_begin(p, &s)) return;
    double before = clock_s();
    if (open_story(p, &a, &s, &t)) {
        if (clock_s() - before > 1)
            FAIL(p, "begin takes %.1f s; it must not wait", clock_s() - before);
        finish(a, t, &s);
        agent_close(a);
    }
    story_end(&s);
}

static void delivers_once(probe *p)
{
    const sqz_tracker *t;
    sqz_error err = {0};
    char first[DIGEST_TEXT], again[DIGEST_TEXT];
    agent *a;
    story s;
    if (!story_begin(p, &s)) return;
    for (int session = 0; session < 2 && open_story(p, &a, &s, &t); session++) {
        /* In the second session, as after a crash: all of it once more. */
        sqz_status status = tell_all(p, a, t, &err);
        if (status && !is_absence(status)) FAIL(p, "%s", err.text);
        if (is_absence(status)) SKIP(p, "its server is not here: %s", err.text);
        if (!session) written(&s, first);
        if (!status && !session) {
            probe_at(p, "the same events a second time");
            if (tell_all(p, a, t, &err)) FAIL(p, "the same events again: %s", err.text);
        }
        finish(a, t, &s);
        agent_close(a);
        written(&s, again);
        if (!status && strcmp(first, again) != 0)
            FAIL(p, "events that were delivered are there twice when they are told again %s",
                 session ? "after a crash" : "in the same session");
    }
    story_end(&s);
}

static void odd_events(probe *p)
{
    static const struct {
        const char *kind, *json;
        int valid;
    } rows[] = {{"trial_begin", "{", 0},
                {"trial_end", "[1,2]", 0},
                {"trial_end", "{\"trial\":\"../../etc\",\"metrics\":[{}],\"params\":7}", 0},
                {"file", "{\"path\":\"../../../etc/passwd\",\"bytes\":1}", 0},
                {"org.example.unheard-of", "{\"x\":1}", 1},
                {"progress", "{\"metrics\":[],\"later\":{\"deep\":[[[[]]]]}}", 1},
                {"end", "{\"state\":\"unheard-of\",\"summary\":\"<script>alert(1)</script>\"}", 0}};
    const sqz_tracker *t;
    agent *a;
    story s;
    if (!story_begin(p, &s)) return;
    if (open_story(p, &a, &s, &t)) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            sqz_error err = {0};
            char key[64];
            snprintf(key, sizeof key, "odd/%zu", i);
            probe_at(p, "event %s with %s", rows[i].kind, rows[i].json);
            sqz_status status = tell(a, t, (int64_t)i + 1, rows[i].kind, key, rows[i].json, &err);
            if (status && rows[i].valid && !is_absence(status))
                FAIL(p, "does not skip what it does not know (%s): %s", rows[i].kind, err.text);
            else if (status && strstr(err.text, "without saying why"))
                FAIL(p, "refuses %s without a sentence", rows[i].json);
        }
        finish(a, t, &s);
        agent_close(a);
    }
    story_end(&s);
}

const check_case cases_tracker[] = {{"behave", "begins-offline", "tracker/1", TEST_USES, 60,
                                     begins_offline, "begins without its server"},
                                    {"behave", "delivers-once", "tracker/1", TEST_USES, 60,
                                     delivers_once, "what it is told again is there once"},
                                    {"behave", "odd-events", "tracker/1", TEST_USES, 60, odd_events,
                                     "skips what it does not know, refuses rubbish in a sentence"},
                                    {NULL, NULL, NULL, 0, 0, NULL, NULL}};
