/* safetensors_write.c - the streaming writer: tensors are declared, then written in any order, each
 * straight from the caller's memory to its place in the file.
 *
 * Order, header text and padding are the reference writer's, so that the same tensors give the
 * same bytes.  Left out: sharding (the exporter's job). */
#include "checkpoint/safetensors.h"
#include "json/json.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct entry {
    char *name;
    int32_t dtype, rank;
    int64_t shape[ST_MAX_RANK];
    int64_t bytes, begin;
    int written;
} entry;

struct st_writer {
    char *path, *temp;
    cJSON *metadata;
    entry *entries; /* by declaration, from begin on in file order */
    int64_t n, room;
    entry **by_name; /* [n], from begin on */
    int64_t data_at; /* file offset of the data; 0 until begin */
    int fd;
    int later; /* dir_sync makes it durable */
};

sqz_status st_writer_new(const char *path, st_writer **out, sqz_error *err)
{
    st_writer *w = calloc(1, sizeof *w);
    if (!w) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its writer", path);
    w->path = path_format("%s", path);
    w->fd = -1;
    w->metadata = cJSON_CreateObject();
    cJSON_AddStringToObject(w->metadata, "format", "pt");
    *out = w;
    return SQZ_OK;
}

void st_writer_abort(st_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp);
    }
    for (int64_t i = 0; i < w->n; i++) free(w->entries[i].name);
    free(w->entries);
    free(w->by_name);
    cJSON_Delete(w->metadata);
    free(w->temp);
    free(w->path);
    free(w);
}

sqz_status st_writer_metadata(st_writer *w, const char *key, const char *value, sqz_error *err)
{
    if (w->fd >= 0)
        return err_set(err, SQZ_E_INVALID, "%s: metadata '%s' comes after the first write", w->path,
                       key);
    cJSON_DeleteItemFromObjectCaseSensitive(w->metadata, key);
    cJSON_AddStringToObject(w->metadata, key, value);
    return SQZ_OK;
}

sqz_status st_writer_declare(st_writer *w, const char *name, int32_t dtype, int32_t rank,
                             const int64_t *shape, sqz_error *err)
{
    int64_t bytes = st_dtype_bits(dtype) / 8;
    if (w->fd >= 0)
        return err_set(err, SQZ_E_INVALID, "%s: '%s' is declared after the first write", w->path,
                       name);
    if (!bytes)
        return err_set(err, SQZ_E_INVALID, "%s: '%s' has no dtype that can be written (%d)",
                       w->path, name, dtype);
    if (rank < 0 || rank > ST_MAX_RANK)
        return err_set(err, SQZ_E_INVALID, "%s: '%s' has %d dimensions; the limit is %d", w->path,
                       name, rank, ST_MAX_RANK);
    for (int32_t i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes))
            return err_set(err, SQZ_E_INVALID, "%s: the size of '%s' overflows", w->path, name);
    if (w->n == w->room) {
        int64_t room = w->room ? w->room * 2 : 64;
        entry *more = realloc(w->entries, (size_t)room * sizeof *more);
        if (!more) return err_set(err, SQZ_E_NOMEM, "%s: no memory for '%s'", w->path, name);
        w->entries = more;
        w->room = room;
    }
    entry *e = &w->entries[w->n++];
    *e = (entry){.name = path_format("%s", name), .dtype = dtype, .rank = rank, .bytes = bytes};
    if (rank) memcpy(e->shape, shape, (size_t)rank * sizeof *shape);
    return SQZ_OK;
}

/* ---- header ---------------------------------------------------------------------------------- */

/* Position in the format's list of dtypes; the strictest alignment comes last there. */
static int alignment_order(int32_t dtype)
{
    static const int32_t order[] = {SQZ_BOOL8, SQZ_U8,  SQZ_I8,  SQZ_F8_E5M2, SQZ_F8_E4M3,
                                    SQZ_I16,   SQZ_U16, SQZ_F16, SQZ_BF16,    SQZ_I32,
                                    SQZ_U32,   SQZ_F32, SQZ_F64, SQZ_I64,     SQZ_U64};
    for (int i = 0; i < (int)(sizeof order / sizeof *order); i++)
        if (order[i] == dtype) return i;
    return -1;
}

static int by_layout(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int p = alignment_order(x->dtype), q = alignment_order(y->dtype);
    return p != q ? q - p : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(entry *const *)a)->name, (*(entry *const *)b)->name);
}

static char *json_quote(const char *text)
{
    cJSON *s = cJSON_CreateString(text);
    char *quoted = json_text(s, 0);
    cJSON_Delete(s);
    return quoted;
}

static void print_entry(FILE *out, const entry *e)
{
    char *name = json_quote(e->name);
    fprintf(out, ",%s:{\"dtype\":\"%s\",\"shape\":[", name, st_dtype_name(e->dtype));
    for (int32_t i = 0; i < e->rank; i++)
        fprintf(out, "%s%lld", i ? "," : "", (long long)e->shape[i]);
    fprintf(out, "],\"data_offsets\":[%lld,%lld]}", (long long)e->begin,
            (long long)(e->begin + e->bytes));
    free(name);
}

/* The whole file up to the data: length, JSON, spaces. */
static sqz_status make_header(const st_writer *w, char **text, size_t *bytes, sqz_error *err)
{
    FILE *out = open_memstream(text, bytes);
    if (!out) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its header", w->path);
    char *metadata = json_text(w->metadata, 0);
    fprintf(out, "12345678{\"__metadata__\":%s", metadata);
    free(metadata);
    for (int64_t i = 0; i < w->n; i++) print_entry(out, &w->entries[i]);
    fputc('}', out);
    long length = ftell(out);
    for (; length >= 0 && length % 8; length++) fputc(' ', out);
    int failed = ferror(out) || length < 0;
    if (fclose(out) != 0 || failed) {
        free(*text);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for its header", w->path);
    }
    uint64_t n = *bytes - 8;
    for (int i = 0; i < 8; i++) (*text)[i] = (char)(n >> 8 * i);
    return SQZ_OK;
}

static sqz_status lay_out(st_writer *w, int64_t *data_bytes, sqz_error *err)
{
    w->by_name = malloc(((size_t)w->n + 1) * sizeof *w->by_name);
    if (!w->by_name) return err_set(err, SQZ_E_NOMEM, "%s: no memory to lay it out", w->path);
    if (w->n) qsort(w->entries, (size_t)w->n, sizeof *w->entries, by_layout);
    int64_t at = 0;
    for (int64_t i = 0; i < w->n; i++) {
        w->by_name[i] = &w->entries[i];
        w->entries[i].begin = at;
        if (__builtin_add_overflow(at, w->entries[i].bytes, &at) || at > (int64_t)1 << 53)
            return err_set(err, SQZ_E_INVALID, "%s: its size overflows", w->path);
    }
    qsort(w->by_name, (size_t)w->n, sizeof *w->by_name, by_name);
    for (int64_t i = 1; i < w->n; i++)
        if (!strcmp(w->by_name[i - 1]->name, w->by_name[i]->name))
            return err_set(err, SQZ_E_INVALID, "%s: '%s' is declared twice", w->path,
                           w->by_name[i]->name);
    *data_bytes = at;
    return SQZ_OK;
}

/* Lays the file out, reserves its space (a full disk shows now, not after an hour) and writes the
 * header. */
static sqz_status begin(st_writer *w, sqz_error *err)
{
    if (w->by_name) return err_set(err, SQZ_E_INVALID, "%s: writing has failed before", w->path);
    int64_t data_bytes = 0;
    char *text;
    size_t bytes;
    sqz_status st = lay_out(w, &data_bytes, err);
    if (st == SQZ_OK) st = make_header(w, &text, &bytes, err);
    if (st != SQZ_OK) return st;
    w->temp = file_temp_name(w->path);
    w->data_at = (int64_t)bytes;
    w->fd = open(w->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0)
        st = err_set(err, ERR_STORAGE, "%s: cannot be created: %s%s", w->path, strerror(errno),
                     file_room_hint(errno));
    else if (fallocate(w->fd, 0, 0, w->data_at + data_bytes) < 0 &&
             (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        st = err_set(err, ERR_STORAGE, "%s: no space for %lld bytes: %s; free some and try again",
                     w->path, (long long)(w->data_at + data_bytes), strerror(errno));
    else
        st = file_pwrite(w->fd, w->path, text, (int64_t)bytes, 0, err);
    free(text);
    return st;
}

/* ---- data ------------------------------------------------------------------------------------ */

static int name_against(const void *key, const void *item)
{
    return strcmp(key, (*(entry *const *)item)->name);
}

sqz_status st_writer_write(st_writer *w, const char *name, const void *data, int64_t bytes,
                           sqz_error *err)
{
    if (w->fd < 0) {
        sqz_status st = begin(w, err);
        if (st != SQZ_OK) return st;
    }
    entry **found = bsearch(name, w->by_name, (size_t)w->n, sizeof *w->by_name, name_against);
    if (!found) return err_set(err, SQZ_E_INVALID, "%s: '%s' was not declared", w->path, name);
    entry *e = *found;
    if (e->written) return err_set(err, SQZ_E_INVALID, "%s: '%s' is written twice", w->path, name);
    if (bytes != e->bytes)
        return err_set(err, SQZ_E_INVALID,
                       "%s: '%s' is written with %lld bytes, declared with %lld", w->path, name,
                       (long long)bytes, (long long)e->bytes);
    sqz_status st = file_pwrite(w->fd, w->path, data, bytes, w->data_at + e->begin, err);
    if (st != SQZ_OK) return st;
    e->written = 1;
    return SQZ_OK;
}

void st_writer_sync_later(st_writer *w)
{
    w->later = 1;
}

sqz_status st_writer_finish(st_writer *w, sqz_error *err)
{
    sqz_status st = w->fd < 0 ? begin(w, err) : SQZ_OK; /* a file without tensors is legal */
    for (int64_t i = 0; i < w->n && st == SQZ_OK; i++)
        if (!w->entries[i].written && w->entries[i].bytes)
            st = err_set(err, SQZ_E_INVALID, "%s: '%s' was declared but not written", w->path,
                         w->entries[i].name);
    if (st == SQZ_OK) {
        st = w->later ? file_commit_later(w->fd, w->temp, w->path, err)
                      : file_commit(w->fd, w->temp, w->path, err);
        w->fd = -1;
    }
    st_writer_abort(w);
    return st;
}
