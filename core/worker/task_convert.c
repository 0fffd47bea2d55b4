/* task_convert.c - a source that only a data plugin can read becomes a file of JSON lines in the
 * registry.
 *
 * {"task":"convert","source":FILE or name,"reader":{"use","with"},"temp":FILE to write first, which
 * the parent removes when this process dies}; without `use` the plugin that claims the file's
 * ending, or the one whose probe() is surest.  The result:
 * {"source","reader","version","rows","bytes","object":digest,"path","cached"}.
 * The file is kept under the hash of the source's bytes, the plugin and its parameters, so a file
 * is read once; a source that is no file is read each time.  Left out: what the rows are good for.
 */
#include "host/source.h"
#include "worker/tasks.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_READERS = 32, PROBE_BYTES = 4096 };
static const int64_t MAX_BYTES = (int64_t)16 << 30; /* of the rows as JSON */

/* ---- which plugin ---------------------------------------------------------------------------- */
/* How sure the plugin is that the source is its own; a plugin that cannot be opened is not. */
static int probe(job_state *s, const agent_info *info, const sqz_source *source)
{
    agent *a;
    sqz_error err = {0};
    if (agent_open(s->host, info, &a, &err)) {
        job_log(s, SQZ_LOG_WARN, "%s", err.text);
        return 0;
    }
    const sqz_data *t = agent_extension(a, SQZ_DATA_1);
    int64_t n = source->bytes < PROBE_BYTES ? source->bytes : PROBE_BYTES;
    agent_enter(a);
    int sure = t && t->probe ? t->probe(source->name, source->data, n) : 1;
    agent_leave(a);
    agent_close(a);
    return sure;
}

static void ask_all(job_state *s, const sqz_source *source, const agent_info **candidates, int n,
                    const agent_info **out)
{
    int best = 0;
    for (int i = 0; i < n; i++) {
        int sure = probe(s, candidates[i], source);
        if (sure > best) *out = candidates[i];
        if (sure > best) best = sure;
    }
}

static sqz_status choose(job_state *s, const sqz_source *source, const char *use,
                         const agent_info **out, sqz_error *err)
{
    const agent_info *candidates[MAX_READERS];
    *out = NULL;
    if (use) return catalogue_find(s->catalogue, "data/1", use, out, err);
    if (!source->data)
        return err_set(err, ERR_MODEL,
                       "%s: no such file; a source that is no file needs the name of the data "
                       "plugin that reads it",
                       source->name);
    int n = source_readers(s->catalogue, source->name, candidates, MAX_READERS);
    if (n == 1) *out = candidates[0];
    if (n == 0) n = source_readers(s->catalogue, NULL, candidates, MAX_READERS);
    if (!*out) ask_all(s, source, candidates, n, out);
    if (*out) return SQZ_OK;
    return err_set(err, ERR_MODEL,
                   "%s: no data set by its name or its first bytes; JSONL, JSON, .csv, .tsv, "
                   ".parquet and .txt are read, also with .gz or .zst, and none of %d data plugins "
                   "knows this file",
                   source->path, n);
}

/* ---- the key --------------------------------------------------------------------------------- */
static void key_of(const source *from, const agent_info *reader, const cJSON *with,
                   char key[SHA256_HEX])
{
    cJSON *k = cJSON_CreateObject();
    cJSON_AddStringToObject(k, "schema", "sqz.rows/1");
    cJSON_AddStringToObject(k, "source", from->digest);
    cJSON_AddStringToObject(k, "name", from->name); /* a plugin may go by it */
    cJSON_AddStringToObject(k, "reader", reader->id);
    cJSON_AddStringToObject(k, "version", reader->version);
    cJSON_AddStringToObject(k, "plugin", reader->file_digest);
    cJSON_AddItemToObject(k, "with", cJSON_Duplicate(with, 1));
    action_key(k, key);
    cJSON_Delete(k);
}

/* The finished file of an earlier job; 0: there is none. */
static int take_cached(const job_state *s, const char *key, cJSON *result)
{
    cJSON *record = action_get(s->registry, key);
    const char *digest = json_str(record, "object", "");
    char *path = digest_valid(digest) ? object_path(s->registry, digest) : NULL;
    int found = path && object_verify(s->registry, digest, NULL) == SQZ_OK;
    if (found) {
        cJSON_AddStringToObject(result, "object", digest);
        cJSON_AddStringToObject(result, "path", path);
        json_add_num(result, "rows", json_num(record, "rows", 0));
        json_add_num(result, "bytes", json_num(record, "bytes", 0));
    }
    free(path);
    cJSON_Delete(record);
    return found;
}

/* ---- writing --------------------------------------------------------------------------------- */
typedef struct lines {
    FILE *file;
    const char *path;
    int64_t bytes;
} lines;

static sqz_status add_line(void *ctx, const cJSON *row, sqz_error *err)
{
    lines *l = ctx;
    char *text = json_text(row, 0);
    if (!text) return err_set(err, SQZ_E_NOMEM, "no memory for a row");
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the zero */
    int written = fwrite(text, 1, n + 1, l->file) == n + 1;
    int failure = errno;
    free(text);
    if (!written)
        return err_set(err, ERR_STORAGE, "%s: cannot be written: %s%s", l->path, strerror(failure),
                       file_room_hint(failure));
    l->bytes += (int64_t)n + 1;
    return l->bytes <= MAX_BYTES
               ? SQZ_OK
               : err_set(err, ERR_MODEL, "gives more than %lld GiB of rows; split the source",
                         (long long)(MAX_BYTES >> 30));
}

/* Reads the source into a file of the store's own file system. */
static sqz_status write_rows(job_state *s, const source *from, const agent_info *reader,
                             const cJSON *with, lines *l, int64_t *rows, sqz_error *err)
{
    agent *a = NULL;
    sqz_status st = agent_open(s->host, reader, &a, err);
    if (st) return st;
    l->file = fopen(l->path, "wxe");
    if (!l->file)
        st = err_set(err, ERR_STORAGE, "%s: cannot be made: %s%s", l->path, strerror(errno),
                     file_room_hint(errno));
    if (!st) st = source_read(a, &from->table, with, add_line, l, rows, err);
    if (l->file && fclose(l->file) != 0 && !st)
        st = err_set(err, ERR_STORAGE, "%s: cannot be written: %s%s", l->path, strerror(errno),
                     file_room_hint(errno));
    agent_close(a);
    if (!st && !*rows)
        st = err_set(err, ERR_MODEL, "%s finds no rows in it; a data set needs at least one",
                     reader->id);
    return st;
}

static sqz_status convert(job_state *s, const source *from, const agent_info *reader,
                          const cJSON *with, const char *into, cJSON *result, sqz_error *err)
{
    char digest[DIGEST_TEXT], *temp = into ? path_format("%s", into) : object_temp(s->registry);
    lines l = {.path = temp};
    int64_t rows = 0;
    sqz_status st = write_rows(s, from, reader, with, &l, &rows, err);
    if (!st) st = object_adopt(s->registry, temp, digest, err);
    if (st) unlink(temp);
    free(temp);
    if (st) return st;
    char *path = object_path(s->registry, digest);
    cJSON_AddStringToObject(result, "object", digest);
    cJSON_AddStringToObject(result, "path", path ? path : "");
    json_add_num(result, "rows", (double)rows);
    json_add_num(result, "bytes", (double)l.bytes);
    free(path);
    return SQZ_OK;
}

static sqz_status remember(const job_state *s, const char *key, const cJSON *result, sqz_error *err)
{
    cJSON *record = cJSON_CreateObject();
    cJSON_AddStringToObject(record, "object", json_str(result, "object", ""));
    json_add_num(record, "rows", json_num(result, "rows", 0));
    json_add_num(record, "bytes", json_num(result, "bytes", 0));
    sqz_status st = action_put(s->registry, key, record, err);
    cJSON_Delete(record);
    return st;
}

static sqz_status read_source(job_state *s, const source *from, const cJSON *task, cJSON *result,
                              sqz_error *err)
{
    const cJSON *given = json_get(task, "reader");
    const agent_info *reader;
    cJSON *with = NULL;
    char key[SHA256_HEX];
    sqz_status st = choose(s, &from->table, json_str(given, "use", NULL), &reader, err);
    if (!st) st = params_resolve(reader, json_get(given, "with"), NULL, &with, err);
    const cJSON *facts = st ? NULL : json_get(reader->extensions, SQZ_DATA_1);
    if (!st && !from->table.data && !json_bool(facts, "named", 0))
        st = err_set(err, ERR_MODEL, "%s: %s, and %s reads files only", from->name,
                     from->path ? "is a folder" : "no such file", reader->id);
    if (st) {
        cJSON_Delete(with);
        return st;
    }
    key_of(from, reader, with, key);
    cJSON_AddStringToObject(result, "reader", reader->id);
    cJSON_AddStringToObject(result, "version", reader->version);
    int cached = from->digest[0] && take_cached(s, key, result);
    if (!cached) st = convert(s, from, reader, with, json_str(task, "temp", NULL), result, err);
    if (!cached && !st && from->digest[0]) st = remember(s, key, result, err);
    cJSON_AddBoolToObject(result, "cached", cached);
    cJSON_Delete(with);
    return st;
}

sqz_status task_convert(job_state *s, const cJSON *task, cJSON *result, sqz_error *err)
{
    const char *text = json_str(task, "source", "");
    source from;
    sqz_status st = source_open(text, &from, err);
    if (st) return st;
    cJSON_AddStringToObject(result, "source", text);
    st = read_source(s, &from, task, result, err);
    source_close(&from);
    if (st && err && !strstr(err->text, text)) err_prefix(err, "%s", text);
    return st;
}
