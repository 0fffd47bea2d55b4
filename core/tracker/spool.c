/* spool.c - see spool.h. */
#include "tracker/spool.h"
#include "io/file.h"
#include "journal.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STATE = 16 << 20, MAX_REJECTED = 50 };

struct spool {
    pthread_mutex_t lock;
    journal *journal;
    char *state_path;
    int64_t delivered, n_rejected;
    char *text;
    cJSON *rejected; /* the first MAX_REJECTED of them */
    uint64_t *keys;  /* [room] hashes of keys, 0 = empty; open addressing */
    size_t n_keys, room;
};

/* ---- keys ------------------------------------------------------------------------------------ */
static uint64_t key_hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char *p = (const unsigned char *)key; *p; p++)
        h = (h ^ *p) * 0x100000001b3u;
    return h ? h : 1;
}

static int keys_find(const spool *s, uint64_t h)
{
    for (size_t i = s->room ? h % s->room : 0; s->room && s->keys[i]; i = (i + 1) % s->room)
        if (s->keys[i] == h) return 1;
    return 0;
}

static void keys_put(uint64_t *keys, size_t room, uint64_t h)
{
    size_t i = h % room;
    while (keys[i]) i = (i + 1) % room;
    keys[i] = h;
}

static int keys_add(spool *s, uint64_t h)
{
    if ((s->n_keys + 1) * 2 > s->room) {
        size_t room = s->room ? s->room * 2 : 256;
        uint64_t *grown = calloc(room, sizeof *grown);
        if (!grown) return 0;
        for (size_t i = 0; i < s->room; i++)
            if (s->keys[i]) keys_put(grown, room, s->keys[i]);
        free(s->keys);
        s->keys = grown;
        s->room = room;
    }
    keys_put(s->keys, s->room, h);
    s->n_keys++;
    return 1;
}

/* ---- state ----------------------------------------------------------------------------------- */
/* A state that cannot be read is none: delivery begins again, and trackers recognise what is
 * there. */
static void state_load(spool *s)
{
    json_doc *doc = NULL;
    s->rejected = cJSON_CreateArray();
    if (!path_exists(s->state_path) || json_read(s->state_path, MAX_STATE, 0, &doc, NULL)) return;
    const cJSON *root = json_root(doc), *item;
    const char *text = json_str(root, "text", NULL);
    s->delivered = json_int(root, "delivered", 0);
    s->n_rejected = json_int(root, "n_rejected", 0);
    if (text) s->text = path_format("%s", text);
    cJSON_ArrayForEach(item, json_get(root, "rejected"))
        cJSON_AddItemToArray(s->rejected, cJSON_Duplicate(item, 1));
    json_free(doc);
    int64_t n = journal_length(s->journal);
    if (s->delivered < 0) s->delivered = 0;
    if (s->delivered > n) s->delivered = n; /* the spool lost its damaged end */
}

static sqz_status state_write(spool *s, sqz_error *err)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "schema", "sqz.spool/1");
    cJSON_AddNumberToObject(j, "delivered", (double)s->delivered);
    cJSON_AddNumberToObject(j, "n_rejected", (double)s->n_rejected);
    cJSON_AddItemToObject(j, "rejected", cJSON_Duplicate(s->rejected, 1));
    if (s->text) cJSON_AddStringToObject(j, "text", s->text);
    char *out = json_text(j, 1);
    sqz_status status = file_printf(s->state_path, err, "%s\n", out);
    free(out);
    cJSON_Delete(j);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------- */
static sqz_status load_keys(spool *s, sqz_error *err)
{
    for (int64_t i = 0; i < journal_length(s->journal); i++) {
        const char *key = json_str(journal_record(s->journal, i), "key", "");
        if (!keys_add(s, key_hash(key))) return err_set(err, SQZ_E_NOMEM, "spool: out of memory");
    }
    return SQZ_OK;
}

sqz_status spool_open(const char *run_dir, const char *name, spool **out, sqz_error *err)
{
    spool *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, SQZ_E_NOMEM, "spool: out of memory");
    pthread_mutex_init(&s->lock, NULL);
    char *dir = path_format("%s/spool", run_dir), *path = path_format("%s/%s.jsonl", dir, name);
    s->state_path = path_format("%s/%s.state.json", dir, name);
    sqz_status status = dir_make(dir, err);
    if (!status) status = journal_open(path, &s->journal, NULL, err);
    if (!status) status = load_keys(s, err);
    if (!status) state_load(s);
    free(path);
    free(dir);
    if (status)
        spool_close(s);
    else
        *out = s;
    return status;
}

void spool_close(spool *s)
{
    if (!s) return;
    if (s->journal) journal_close(s->journal);
    cJSON_Delete(s->rejected);
    pthread_mutex_destroy(&s->lock);
    free(s->state_path);
    free(s->text);
    free(s->keys);
    free(s);
}

/* ---- records --------------------------------------------------------------------------------- */
int64_t spool_length(spool *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t n = journal_length(s->journal);
    pthread_mutex_unlock(&s->lock);
    return n;
}

const cJSON *spool_record(spool *s, int64_t seq)
{
    pthread_mutex_lock(&s->lock);
    const cJSON *r = journal_record(s->journal, seq);
    pthread_mutex_unlock(&s->lock);
    return r;
}

const cJSON *spool_last(spool *s, const char *kind)
{
    const cJSON *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (int64_t i = journal_length(s->journal) - 1; i >= 0 && !found; i--) {
        const cJSON *r = journal_record(s->journal, i);
        if (!strcmp(json_str(r, "type", ""), kind)) found = r;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

int spool_has(spool *s, const char *key)
{
    pthread_mutex_lock(&s->lock);
    int found = keys_find(s, key_hash(key));
    pthread_mutex_unlock(&s->lock);
    return found;
}

sqz_status spool_append(spool *s, cJSON *record, int *added, sqz_error *err)
{
    uint64_t h = key_hash(json_str(record, "key", ""));
    sqz_status status = SQZ_OK;
    pthread_mutex_lock(&s->lock);
    int known = keys_find(s, h);
    if (known)
        cJSON_Delete(record);
    else
        status = journal_append(s->journal, record, err);
    if (!known && !status && !keys_add(s, h))
        status = err_set(err, SQZ_E_NOMEM, "spool: out of memory");
    pthread_mutex_unlock(&s->lock);
    if (added) *added = !known && !status;
    return status;
}

/* ---- how far --------------------------------------------------------------------------------- */
int64_t spool_delivered(spool *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t n = s->delivered;
    pthread_mutex_unlock(&s->lock);
    return n;
}

sqz_status spool_acknowledge(spool *s, int64_t delivered, sqz_error *err)
{
    pthread_mutex_lock(&s->lock);
    s->delivered = delivered;
    sqz_status status = state_write(s, err);
    pthread_mutex_unlock(&s->lock);
    return status;
}

char *spool_text(spool *s)
{
    pthread_mutex_lock(&s->lock);
    char *text = s->text ? path_format("%s", s->text) : NULL;
    pthread_mutex_unlock(&s->lock);
    return text;
}

sqz_status spool_save_text(spool *s, const char *text, sqz_error *err)
{
    pthread_mutex_lock(&s->lock);
    free(s->text);
    s->text = path_format("%s", text);
    sqz_status status = state_write(s, err);
    pthread_mutex_unlock(&s->lock);
    return status;
}

void spool_reject(spool *s, int64_t seq, const char *why)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_rejected++ < MAX_REJECTED) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddNumberToObject(j, "seq", (double)seq);
        cJSON_AddStringToObject(j, "why", why);
        cJSON_AddItemToArray(s->rejected, j);
    }
    pthread_mutex_unlock(&s->lock);
}

int64_t spool_rejected(spool *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t n = s->n_rejected;
    pthread_mutex_unlock(&s->lock);
    return n;
}
