/* data.c - opening a data set: which file, which kind, and the view that evaluations get.
 *
 * Left out and refused by name: the protocols of known tasks, folders, and files other than JSONL,
 * a JSON array and plain text. */
#include "data/data.h"
#include "data/documents.h"
#include "data/rows.h"
#include "hash/sha256.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

typedef struct open_set {
    dataset set; /* first: a dataset is one of these */
    row_store *store;
    char *name;
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

static const char *view_text(const sqz_rows *r, int64_t i, const char *name)
{
    return rows_text(store_of(r), i, name, NULL);
}

static int64_t view_list_length(const sqz_rows *r, int64_t i, const char *name)
{
    return rows_list_length(store_of(r), i, name);
}

static const char *view_list_text(const sqz_rows *r, int64_t i, const char *name, int64_t k)
{
    return rows_list_text(store_of(r), i, name, k);
}

static double view_number(const sqz_rows *r, int64_t i, const char *name, int32_t *ok)
{
    double value = 0;
    int found = rows_number(store_of(r), i, name, &value);
    if (ok) *ok = found;
    return found ? value : 0;
}

/* ---- which file ---------------------------------------------------------------------------------
 */

static int is_known_task(const char *name, size_t n)
{
    static const char *const tasks[] = {
        "arc",           "arc_challenge",  "arc_easy",       "boolq",     "c4",
        "cnn_dailymail", "commonsense_qa", "gsm8k",          "hellaswag", "humaneval",
        "imagenet",      "lambada",        "lambada_openai", "mmlu",      "openbook_qa",
        "openbookqa",    "pile",           "piqa",           "ptb",       "squad",
        "triviaqa",      "truthfulqa",     "wikitext",       "wikitext2", "winogrande"};
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strlen(tasks[i]) == n && !strncmp(tasks[i], name, n)) return 1;
    return 0;
}

static sqz_status resolve(const char *spec, const char **path, char **name, sqz_error *err)
{
    const char *equals = strchr(spec, '=');
    size_t n = equals ? (size_t)(equals - spec) : strlen(spec);
    *name = NULL;
    *path = spec;
    if (path_exists(spec)) return SQZ_OK;
    if (is_known_task(spec, n))
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "data set \"%s\": the protocol of task %.*s is not built; give a file, or "
                       "NAME=FILE with another name",
                       spec, (int)n, spec);
    if (!equals || !n)
        return err_set(err, ERR_MODEL,
                       "data set \"%s\": no such file; give a .jsonl, .json or .txt file, or "
                       "NAME=FILE",
                       spec);
    if (!path_exists(equals + 1))
        return err_set(err, ERR_MODEL, "data set \"%s\": no such file: %s", spec, equals + 1);
    *path = equals + 1;
    *name = strndup(spec, n);
    return *name ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "data set \"%s\": no memory", spec);
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

static sqz_status read_rows(open_set *o, const file_map *map, sqz_error *err)
{
    const char *path = o->set.path, *data = (const char *)map->data;
    static const char *const foreign[] = {".csv", ".tsv", ".parquet", ".arrow",
                                          ".gz",  ".zst", ".zip",     ".xz"};
    int64_t i = 0;
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++)
        if (ends_with(path, foreign[k]))
            return err_set(err, SQZ_E_UNSUPPORTED,
                           "%s: %s files are not read; give JSONL, a JSON array or .txt", path,
                           foreign[k]);
    if (map->bytes >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3)) i = 3; /* byte order mark */
    int64_t begin = i;
    while (i < map->bytes && strchr(" \t\r\n", data[i]) && data[i]) i++;
    if (i == map->bytes)
        return err_set(err, ERR_MODEL, "%s: the file is empty; a data set needs at least one row",
                       path);
    if (ends_with(path, ".txt")) {
        o->set.is_txt = 1;
        return rows_from_text(path, data, map->bytes, &o->store, err);
    }
    if (data[i] == '[') return rows_from_array(path, data, map->bytes, &o->store, err);
    if (data[i] == '{' || ends_with(path, ".jsonl") || ends_with(path, ".json"))
        return rows_from_jsonl(path, data + begin, map->bytes - begin, &o->store, err);
    return err_set(err, ERR_MODEL, "%s: neither JSONL nor a JSON array; plain text is named .txt",
                   path);
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
    return rows_is_string(s, i, "text") ? DATA_TEXT : DATA_OTHER;
}

static sqz_status check_choice(const open_set *o, int64_t i, sqz_error *err)
{
    const row_store *s = o->store;
    const char *list = document_choices(s, i);
    int64_t n = rows_list_length(s, i, list);
    if (n < 1 || document_gold(s, i, n) < 0)
        return err_set(err, ERR_MODEL,
                       "%s:%lld: the right one of %lld %s is not given by label, answer or gold",
                       o->set.path, (long long)rows_line(s, i), (long long)n, list);
    return SQZ_OK;
}

static sqz_status find_kind(open_set *o, sqz_error *err)
{
    static const char *const wants[] = {"\"text\"", "\"question\" and \"answer\"",
                                        "a question with its choices and the right one", ""};
    const row_store *s = o->store;
    int64_t n = rows_count(s);
    if (n == 0)
        return err_set(err, ERR_MODEL, "%s: no rows; a data set needs at least one", o->set.path);
    data_kind kind = row_kind(s, 0);
    for (int64_t i = 0; i < n && kind != DATA_OTHER; i++) {
        if (row_kind(s, i) != kind)
            return err_set(err, ERR_MODEL, "%s:%lld: this row has not what the first row has: %s",
                           o->set.path, (long long)rows_line(s, i), wants[kind]);
        sqz_status st = kind == DATA_CHOICE ? check_choice(o, i, err) : SQZ_OK;
        if (st != SQZ_OK) return st;
    }
    o->set.kind = kind;
    return SQZ_OK;
}

/* ---- opening ------------------------------------------------------------------------------------
 */

static sqz_status fill(open_set *o, const char *path, char *name, sqz_error *err)
{
    file_map map = {0};
    o->name = name ? name : stem_of(path);
    o->set.path = strdup(path);
    if (!o->name || !o->set.path) return err_set(err, SQZ_E_NOMEM, "%s: no memory", path);
    if (path_is_dir(path))
        return err_set(err, SQZ_E_UNSUPPORTED, "%s: a folder; give one .jsonl, .json or .txt file",
                       path);
    sqz_status st = file_map_open(path, &map, err);
    if (st != SQZ_OK) {
        if (err && st != SQZ_E_NOMEM) err->code = ERR_MODEL;
        return st == SQZ_E_NOMEM ? st : ERR_MODEL;
    }
    st = read_rows(o, &map, err);
    if (st == SQZ_OK) {
        _Static_assert(sizeof o->set.digest >= DIGEST_TEXT, "room for a digest");
        sha256_buffer(map.data, (size_t)map.bytes, o->set.digest);
        st = find_kind(o, err);
    }
    file_map_close(&map);
    return st;
}

sqz_status dataset_open(const char *spec, dataset **out, sqz_error *err)
{
    const char *path;
    char *name;
    sqz_status st = resolve(spec, &path, &name, err);
    if (st != SQZ_OK) return st;
    open_set *o = calloc(1, sizeof *o);
    if (!o) {
        free(name);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory", path);
    }
    st = fill(o, path, name, err);
    if (st != SQZ_OK) {
        dataset_close(&o->set);
        return st;
    }
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
    *out = &o->set;
    return SQZ_OK;
}

void dataset_close(dataset *d)
{
    if (!d) return;
    open_set *o = (open_set *)d;
    rows_free(o->store);
    free(o->name);
    free(d->path);
    free(o);
}
