/* data.c - opening a data set: which files, which kind, and the view that evaluations get.
 *
 * Left out and refused by name: files that no reader is for. */
#include "data/data.h"
#include "data/delimited.h"
#include "data/documents.h"
#include "data/folder.h"
#include "data/parquet.h"
#include "data/rows.h"
#include "data/unpack.h"
#include "hash/sha256.h"
#include "io/file.h"
#include "json/json.h"
#include "task/task.h"
#include <stdlib.h>
#include <string.h>

typedef struct open_set {
    dataset set;      /* first: a dataset is one of these */
    row_store *store; /* NULL: only the digest is wanted */
    char *name;
    const int64_t *order; /* row of the store behind each row of the view; NULL = as they are */
} open_set;

row_store *data_rows(const dataset *d)
{
    return ((const open_set *)d)->store;
}

/* ---- the view of evaluations --------------------------------------------------------------------
 */

static const row_store *store_of(const sqz_rows *r)
{
    return data_rows(r->impl);
}

static int64_t row_of(const sqz_rows *r, int64_t i)
{
    const open_set *o = r->impl;
    return o->order && i >= 0 && i < r->n_rows ? o->order[i] : i;
}

void dataset_reorder(dataset *d, const int64_t *order, int64_t n)
{
    ((open_set *)d)->order = order;
    d->rows.n_rows = n;
}

static const char *view_text(const sqz_rows *r, int64_t i, const char *name)
{
    return rows_text(store_of(r), row_of(r, i), name, NULL);
}

static int64_t view_list_length(const sqz_rows *r, int64_t i, const char *name)
{
    return rows_list_length(store_of(r), row_of(r, i), name);
}

static const char *view_list_text(const sqz_rows *r, int64_t i, const char *name, int64_t k)
{
    return rows_list_text(store_of(r), row_of(r, i), name, k);
}

static double view_number(const sqz_rows *r, int64_t i, const char *name, int32_t *ok)
{
    double value = 0;
    int found = rows_number(store_of(r), row_of(r, i), name, &value);
    if (ok) *ok = found;
    return found ? value : 0;
}

/* ---- which file ---------------------------------------------------------------------------------
 */

typedef struct source {
    char *path, *config, *split, *name; /* NULL where the spec says nothing */
} source;

static void source_free(source *s)
{
    free(s->path);
    free(s->config);
    free(s->split);
    free(s->name);
}

/* "PATH", "PATH:SPLIT" or "PATH:SUBSET:SPLIT"; 0: no such path. */
static int find_path(const char *text, source *s)
{
    if (path_exists(text)) {
        s->path = path_format("%s", text);
        return 1;
    }
    const char *last = strrchr(text, ':'), *middle = NULL;
    if (!last || last == text || !last[1]) return 0;
    char *path = path_format("%.*s", (int)(last - text), text);
    if (!path_exists(path)) {
        middle = memrchr(text, ':', (size_t)(last - text));
        path[middle ? middle - text : 0] = 0;
    }
    if (!path_is_dir(path) || (middle && middle + 1 == last)) {
        free(path);
        return 0;
    }
    s->path = path;
    if (middle) s->config = path_format("%.*s", (int)(last - middle - 1), middle + 1);
    s->split = path_format("%s", last + 1);
    return 1;
}

static sqz_status resolve(const char *spec, source *out, sqz_error *err)
{
    const char *equals = strchr(spec, '=');
    size_t n = equals ? (size_t)(equals - spec) : strlen(spec);
    if (find_path(spec, out)) return SQZ_OK;
    if (!equals || !n) {
        const char *near = strpbrk(spec, "/.:") ? NULL : task_near(spec, 3);
        return err_set(
            err, ERR_MODEL,
            "data set \"%s\": no such file%s%s%s; give a .jsonl, .json, .csv, .tsv, "
            ".parquet or .txt file, a FOLDER or FOLDER:SPLIT of such files, or NAME=FILE",
            spec, near ? " (did you mean the task " : "", near ? near : "", near ? "?)" : "");
    }
    if (!find_path(equals + 1, out))
        return err_set(err, ERR_MODEL, "data set \"%s\": no such file: %s", spec, equals + 1);
    out->name = strndup(spec, n);
    return out->name ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "data set \"%s\": no memory", spec);
}

char *dataset_path(const char *spec)
{
    source s = {0};
    char *path = NULL;
    if (resolve(spec, &s, NULL) == SQZ_OK) {
        path = s.path;
        s.path = NULL;
    }
    source_free(&s);
    return path;
}

static char *stem_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
}

static int ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), k = strlen(ending);
    return n >= k && !strcasecmp(path + n - k, ending);
}

/* ---- reading a file -----------------------------------------------------------------------------
 */

static const int64_t MAX_UNPACKED = (int64_t)16 << 30;

/* Is the text more than one line of JSON?  Otherwise it is one document. */
static int is_jsonl(const char *data, int64_t bytes)
{
    const char *end = memchr(data, '\n', (size_t)bytes);
    json_doc *doc = NULL;
    int64_t n = end ? end - data : bytes, rest = n;
    while (rest < bytes && strchr(" \t\r\n", data[rest]) && data[rest]) rest++;
    if (rest == bytes || json_parse(data, n, 0, "", &doc, NULL) != SQZ_OK) return 0;
    json_free(doc);
    return 1;
}

/* data: unpacked. */
static sqz_status read_rows(open_set *o, const char *path, const char *data, int64_t bytes,
                            const dataset_options *with, sqz_error *err)
{
    data_format format = format_of(path);
    int64_t begin = 0, max = with->max_rows > 0 ? with->max_rows : -1;
    if (bytes >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3)) begin = 3; /* byte order mark */
    int64_t i = begin;
    while (i < bytes && strchr(" \t\r\n", data[i]) && data[i]) i++;
    if (i == bytes)
        return err_set(err, ERR_MODEL, "%s: the file is empty; a data set needs at least one row",
                       path);
    if (format == FORMAT_PARQUET || (bytes >= 4 && !memcmp(data, "PAR1", 4))) {
        parquet_options p = {with->fields, with->n_fields, max};
        return rows_add_parquet(o->store, path, (const uint8_t *)data, bytes, &p, err);
    }
    if (format == FORMAT_TEXT) {
        o->set.is_txt = 1;
        return rows_add_text(o->store, path, data, bytes, err);
    }
    if (format == FORMAT_CSV || format == FORMAT_TSV) {
        delimited_options d = {.delimiter = format == FORMAT_CSV ? ',' : '\t',
                               .header = with->header,
                               .n_header = with->n_header,
                               .as_text = with->cells_as_text};
        return rows_add_delimited(o->store, path, data, bytes, &d, max, err);
    }
    if (data[i] == '[' || (format == FORMAT_JSON && !is_jsonl(data + i, bytes - i)))
        return rows_add_json(o->store, path, data, bytes, max, err);
    if (data[i] == '{' || format == FORMAT_JSONL || format == FORMAT_JSON)
        return rows_add_jsonl(o->store, path, data + begin, bytes - begin, max, err);
    return err_set(err, ERR_MODEL,
                   "%s: no data set by its name or its first bytes; JSONL, JSON, .csv, .tsv, "
                   ".parquet and .txt are read, also with .gz or .zst",
                   path);
}

static sqz_status read_mapped(open_set *o, const char *path, const file_map *map,
                              const dataset_options *with, sqz_error *err)
{
    static const char *const foreign[] = {".arrow", ".zip", ".xz",  ".bz2",   ".lz4",
                                          ".xlsx",  ".xml", ".pkl", ".pickle"};
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++)
        if (ends_with(path, foreign[k]))
            return err_set(err, SQZ_E_UNSUPPORTED,
                           "%s: %s files are not read; give JSONL, JSON, CSV, TSV, Parquet or .txt",
                           path, foreign[k]);
    int32_t codec = ends_with(path, ".gz")    ? CODEC_GZIP
                    : ends_with(path, ".zst") ? CODEC_ZSTD
                                              : CODEC_NONE;
    if (codec == CODEC_NONE)
        return read_rows(o, path, (const char *)map->data, map->bytes, with, err);
    char *data;
    int64_t bytes;
    sqz_status st =
        unpack_file(path, codec, map->data, map->bytes, MAX_UNPACKED, &data, &bytes, err);
    if (st != SQZ_OK) return st;
    st = read_rows(o, path, data, bytes, with, err);
    free(data);
    return st;
}

/* Adds the file's rows. */
static sqz_status add_file(open_set *o, const char *path, const dataset_options *with,
                           char digest[DIGEST_TEXT], sqz_error *err)
{
    file_map map = {0};
    sqz_status st = file_map_open(path, &map, err);
    if (st != SQZ_OK) {
        if (err && st != SQZ_E_NOMEM) err->code = ERR_MODEL;
        return st == SQZ_E_NOMEM ? st : ERR_MODEL;
    }
    if (o->store) st = read_mapped(o, path, &map, with, err);
    if (st == SQZ_OK) sha256_buffer(map.data, (size_t)map.bytes, digest);
    file_map_close(&map);
    return st;
}

/* ---- which kind ---------------------------------------------------------------------------------
 */

static int has(const row_store *s, int64_t i, const char *name)
{
    return rows_text(s, i, name, NULL) != NULL;
}

static data_kind row_kind(const row_store *s, int64_t i)
{
    const char *choices = document_choices(s, i);
    if (choices && (has(s, i, "ctx") || has(s, i, "question")) &&
        (has(s, i, "label") || has(s, i, "answer")))
        return DATA_CHOICE;
    if (choices && has(s, i, "query") && has(s, i, "gold")) return DATA_CHOICE;
    if (has(s, i, "question") && has(s, i, "answer") && !choices) return DATA_GENERATE;
    if (rows_is_string(s, i, "text")) return DATA_TEXT;
    return rows_list_length(s, i, "messages") >= 0 ? DATA_CHAT : DATA_OTHER;
}

const char *data_kind_name(data_kind kind)
{
    static const char *const names[] = {"text", "generation", "choice", "other", "task", "chat"};
    return names[kind];
}

static sqz_status check_choice(const open_set *o, int64_t i, sqz_error *err)
{
    const row_store *s = o->store;
    const char *list = document_choices(s, i);
    int64_t n = rows_list_length(s, i, list);
    if (n < 1 || document_gold(s, i, n) < 0)
        return err_set(err, ERR_MODEL,
                       "%s:%lld: the right one of %lld %s is not given by label, answer or gold",
                       rows_path(s, i), (long long)rows_line(s, i), (long long)n, list);
    return SQZ_OK;
}

static sqz_status find_kind(open_set *o, sqz_error *err)
{
    static const char *const wants[] = {"\"text\"",
                                        "\"question\" and \"answer\"",
                                        "a question with its choices and the right one",
                                        "",
                                        "",
                                        "\"messages\""};
    const row_store *s = o->store;
    int64_t n = rows_count(s);
    if (n == 0)
        return err_set(err, ERR_MODEL, "%s: no rows; a data set needs at least one", o->set.path);
    data_kind kind = row_kind(s, 0);
    for (int64_t i = 0; i < n && kind != DATA_OTHER; i++) {
        if (row_kind(s, i) != kind)
            return err_set(err, ERR_MODEL, "%s:%lld: this row has not what the first row has: %s",
                           rows_path(s, i), (long long)rows_line(s, i), wants[kind]);
        sqz_status st = kind == DATA_CHOICE ? check_choice(o, i, err) : SQZ_OK;
        if (st != SQZ_OK) return st;
    }
    o->set.kind = kind;
    return SQZ_OK;
}

/* ---- opening ------------------------------------------------------------------------------------
 */

static sqz_status choose_split(const data_folder *f, const source *from,
                               const dataset_options *with, const data_split **out, sqz_error *err)
{
    const char *config = from->config ? from->config : with->config;
    const char *split = from->split ? from->split : with->split;
    sqz_status st = SQZ_OK;
    *out = NULL;
    if (with->for_calibration && !split) *out = folder_calibration(f, config);
    if (!*out) st = folder_find(f, config, split, out, err);
    if (st == SQZ_OK && with->for_calibration && !strcmp(split_meaning((*out)->name), "test"))
        st = err_set(err, ERR_USAGE,
                     "%s: calibration on the %s split would spoil every figure measured on it; "
                     "name another split, or the file itself if it must be",
                     f->path, (*out)->name);
    return st;
}

static sqz_status add_folder(open_set *o, const source *from, const dataset_options *with,
                             sqz_error *err)
{
    data_folder f;
    const data_split *split = NULL;
    sqz_status st = folder_scan(from->path, &f, err);
    if (st != SQZ_OK) return st;
    if (with->pattern) st = folder_match(&f, with->pattern, with->split, &split, err);
    if (st == SQZ_OK && !split) st = choose_split(&f, from, with, &split, err);
    sha256 *all = st == SQZ_OK ? sha256_new() : NULL;
    for (int64_t i = 0; all && i < split->n_files && st == SQZ_OK; i++) {
        char digest[DIGEST_TEXT] = "";
        const char *inside = split->files[i] + strlen(f.path) + 1;
        if (with->max_rows > 0 && o->store && rows_count(o->store) >= with->max_rows) break;
        st = add_file(o, split->files[i], with, digest, err);
        sha256_update(all, inside, strlen(inside) + 1);
        sha256_update(all, digest, strlen(digest) + 1);
    }
    if (all) sha256_final(all, o->set.digest);
    if (st == SQZ_OK) {
        o->set.n_files = split->n_files;
        o->set.config = strdup(split->config);
        o->set.split = strdup(split->name);
        if (!o->set.config || !o->set.split)
            st = err_set(err, SQZ_E_NOMEM, "%s: no memory", from->path);
    }
    folder_free(&f);
    return st;
}

static sqz_status read_all(open_set *o, const source *from, const dataset_options *with,
                           sqz_error *err)
{
    _Static_assert(sizeof o->set.digest >= DIGEST_TEXT, "room for a digest");
    if (path_is_dir(from->path)) return add_folder(o, from, with, err);
    o->set.n_files = 1;
    return add_file(o, from->path, with, o->set.digest, err);
}

static sqz_status fill(open_set *o, source *from, const dataset_options *with, sqz_error *err)
{
    sqz_status st = rows_new(&o->store, err);
    if (st == SQZ_OK) st = read_all(o, from, with, err);
    if (st != SQZ_OK) return st;
    o->name = from->name ? from->name : stem_of(from->path);
    o->set.path = from->path;
    from->name = from->path = NULL;
    if (!o->name) return err_set(err, SQZ_E_NOMEM, "%s: no memory", o->set.path);
    o->set.kind = DATA_OTHER;
    return with->any_rows ? SQZ_OK : find_kind(o, err);
}

static sqz_status task_digest(const char *spec, const dataset_options *with, char digest[72],
                              sqz_error *err)
{
    dataset *d;
    sqz_status st = task_dataset(spec, with ? with : &(dataset_options){0}, &d, err);
    if (st) return st;
    memcpy(digest, d->digest, sizeof d->digest);
    dataset_close(d);
    return SQZ_OK;
}

sqz_status dataset_digest(const char *spec, const dataset_options *with, char digest[72],
                          sqz_error *err)
{
    open_set o = {0};
    source from = {0};
    int is_task;
    sqz_status st = task_spec(spec, &is_task, err);
    if (st || is_task) return st ? st : task_digest(spec, with, digest, err);
    st = resolve(spec, &from, err);
    if (st == SQZ_OK) st = read_all(&o, &from, with ? with : &(dataset_options){0}, err);
    if (st == SQZ_OK) memcpy(digest, o.set.digest, sizeof o.set.digest);
    free(o.set.config);
    free(o.set.split);
    source_free(&from);
    return st;
}

static void show_rows(open_set *o)
{
    o->set.rows = (sqz_rows){
        .struct_size = sizeof(sqz_rows),
        .impl = &o->set,
        .name = o->name,
        .n_rows = rows_count(o->store),
        .text = view_text,
        .list_length = view_list_length,
        .list_text = view_list_text,
        .number = view_number,
    };
}

sqz_status dataset_of_requests(row_store *rows, task *t, const char *path, dataset **out,
                               sqz_error *err)
{
    open_set *o = calloc(1, sizeof *o);
    if (!o) {
        rows_free(rows);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory", path);
    }
    o->store = rows;
    o->name = strdup(t->name);
    o->set.path = strdup(path);
    o->set.kind = DATA_TASK;
    o->set.n_files = 1;
    if (!o->name || !o->set.path) {
        dataset_close(&o->set);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory", path);
    }
    o->set.task = t;
    show_rows(o);
    *out = &o->set;
    return SQZ_OK;
}

/* The task behind the rows of one of these data sets, or NULL (also for rows of another make). */
task *dataset_task(const sqz_rows *rows)
{
    return rows->text == view_text ? ((const dataset *)rows->impl)->task : NULL;
}

sqz_status dataset_open(const char *spec, dataset **out, sqz_error *err)
{
    return dataset_open_with(spec, &(dataset_options){0}, out, err);
}

sqz_status dataset_open_with(const char *spec, const dataset_options *with, dataset **out,
                             sqz_error *err)
{
    source from = {0};
    int is_task;
    sqz_status st = task_spec(spec, &is_task, err);
    if (st || is_task) return st ? st : task_dataset(spec, with, out, err);
    st = resolve(spec, &from, err);
    open_set *o = st == SQZ_OK ? calloc(1, sizeof *o) : NULL;
    if (st == SQZ_OK && !o) st = err_set(err, SQZ_E_NOMEM, "%s: no memory", spec);
    if (st == SQZ_OK) st = fill(o, &from, with, err);
    source_free(&from);
    if (st != SQZ_OK) {
        if (o) dataset_close(&o->set);
        return st;
    }
    show_rows(o);
    *out = &o->set;
    return SQZ_OK;
}

void dataset_close(dataset *d)
{
    if (!d) return;
    open_set *o = (open_set *)d;
    rows_free(o->store);
    task_free(d->task);
    free(o->name);
    free(d->path);
    free(d->config);
    free(d->split);
    free(o);
}
