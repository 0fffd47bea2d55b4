/* safetensors.c - reading one safetensors file: mapped, and checked before anything is used.
 *
 * Only the header's pages are touched here; tensors are pointers into the mapping.
 * The writer is in safetensors_write.c. */
#include "checkpoint/safetensors.h"
#include "json/json.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100000000 }; /* of the reference reader */

/* Every dtype of the format.  dtype 0: known in size, but not computed with. */
static const struct {
    const char *name;
    int32_t dtype;
    int bits;
} dtypes[] = {
    {"BOOL", SQZ_BOOL8, 8},
    {"F4", 0, 4},
    {"F6_E2M3", 0, 6},
    {"F6_E3M2", 0, 6},
    {"U8", SQZ_U8, 8},
    {"I8", SQZ_I8, 8},
    {"F8_E5M2", SQZ_F8_E5M2, 8},
    {"F8_E4M3", SQZ_F8_E4M3, 8},
    {"F8_E8M0", 0, 8},
    {"F8_E4M3FNUZ", 0, 8},
    {"F8_E5M2FNUZ", 0, 8},
    {"I16", SQZ_I16, 16},
    {"U16", SQZ_U16, 16},
    {"F16", SQZ_F16, 16},
    {"BF16", SQZ_BF16, 16},
    {"I32", SQZ_I32, 32},
    {"U32", SQZ_U32, 32},
    {"F32", SQZ_F32, 32},
    {"C64", 0, 64},
    {"F64", SQZ_F64, 64},
    {"I64", SQZ_I64, 64},
    {"U64", SQZ_U64, 64},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

int st_dtype_bits(int32_t dtype)
{
    for (int i = 0; i < N_DTYPES && dtype; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].bits;
    return 0;
}

const char *st_dtype_name(int32_t dtype)
{
    for (int i = 0; i < N_DTYPES && dtype; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    return "unknown";
}

/* ---- one entry of the header ----------------------------------------------------------------- */

/* A whole number 0 .. 2^53, which is what a double holds exactly. */
static int whole(const cJSON *v, int64_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 0x1p53)) return 0;
    *out = (int64_t)v->valuedouble;
    return (double)*out == v->valuedouble;
}

static sqz_status bad(const char *path, const char *name, const char *what, sqz_error *err)
{
    return err_set(err, ERR_MODEL, "%s: tensor '%.200s': %s", path, name, what);
}

static sqz_status read_shape(const cJSON *shape, const char *path, st_tensor *t, int64_t *elements,
                             sqz_error *err)
{
    if (!cJSON_IsArray(shape)) return bad(path, t->name, "shape is not an array", err);
    int64_t count = 1;
    int overflow = 0, zero = 0;
    for (const cJSON *c = shape->child; c; c = c->next) {
        if (t->rank == ST_MAX_RANK)
            return bad(path, t->name, "more than 8 dimensions are not supported", err);
        int64_t n;
        if (!whole(c, &n)) return bad(path, t->name, "a dimension is not a whole number", err);
        t->shape[t->rank++] = n;
        zero |= n == 0;
        overflow |= __builtin_mul_overflow(count, n, &count);
    }
    if (overflow && !zero) return bad(path, t->name, "its number of elements overflows", err);
    *elements = zero ? 0 : count;
    return SQZ_OK;
}

static sqz_status read_entry(const cJSON *entry, const char *path, st_tensor *t, sqz_error *err)
{
    t->name = strdup(entry->string);
    if (!t->name) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its header", path);
    if (!cJSON_IsObject(entry)) return bad(path, t->name, "its header entry is no object", err);
    const char *dtype = json_str(entry, "dtype", NULL);
    int bits = 0;
    for (int i = 0; i < N_DTYPES && dtype; i++)
        if (!strcmp(dtypes[i].name, dtype)) {
            t->dtype = dtypes[i].dtype;
            bits = dtypes[i].bits;
        }
    if (!bits) return bad(path, t->name, "missing or unknown dtype", err);
    int64_t elements = 0, total_bits;
    sqz_status st = read_shape(json_get(entry, "shape"), path, t, &elements, err);
    if (st != SQZ_OK) return st;
    if (__builtin_mul_overflow(elements, (int64_t)bits, &total_bits))
        return bad(path, t->name, "its size in bits overflows", err);
    if (total_bits % 8) return bad(path, t->name, "its size is not a whole number of bytes", err);
    const cJSON *offsets = json_get(entry, "data_offsets");
    int64_t end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole(offsets->child, &t->begin) || !whole(offsets->child->next, &end) || end < t->begin)
        return bad(path, t->name, "data_offsets must be two whole numbers [begin, end]", err);
    t->bytes = end - t->begin;
    if (t->bytes != total_bits / 8)
        return err_set(err, ERR_MODEL,
                       "%s: tensor '%.200s': data_offsets span %lld bytes, its shape and dtype "
                       "need %lld",
                       path, t->name, (long long)t->bytes, (long long)(total_bits / 8));
    return SQZ_OK;
}

static sqz_status read_metadata(const cJSON *object, st_file *f, sqz_error *err)
{
    if (!cJSON_IsObject(object))
        return err_set(err, ERR_MODEL, "%s: __metadata__ is not an object", f->path);
    for (const cJSON *c = object->child; c; c = c->next)
        if (!cJSON_IsString(c))
            return err_set(err, ERR_MODEL, "%s: __metadata__ '%.200s' is not a string", f->path,
                           c->string);
    f->metadata = json_text(object, 0);
    return SQZ_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const st_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty ones first */
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(st_tensor *const *)a)->name, (*(st_tensor *const *)b)->name);
}

static sqz_status check_layout(st_file *f, int64_t header_bytes, sqz_error *err)
{
    int64_t data_bytes = f->map.bytes - 8 - header_bytes, at = 0;
    for (int64_t i = 0; i < f->n; i++) {
        st_tensor *t = &f->tensors[i];
        if (t->begin != at)
            return err_set(err, ERR_MODEL,
                           "%s: tensor '%.200s' begins at %lld, but the data before it ends at "
                           "%lld: %s",
                           f->path, t->name, (long long)t->begin, (long long)at,
                           t->begin < at ? "tensors overlap" : "there is a hole");
        at += t->bytes; /* no overflow: both at most 2^53, and at <= data_bytes below */
        if (at > data_bytes)
            return err_set(err, ERR_MODEL,
                           "%s: tensor '%.200s' ends at %lld of %lld data bytes; the file is cut "
                           "short, copy or download it again",
                           f->path, t->name, (long long)at, (long long)data_bytes);
        t->data = f->map.data + 8 + header_bytes + t->begin;
    }
    if (at != data_bytes)
        return err_set(err, ERR_MODEL, "%s: %lld bytes after the last tensor", f->path,
                       (long long)(data_bytes - at));
    return SQZ_OK;
}

static sqz_status read_entries(const cJSON *root, st_file *f, sqz_error *err)
{
    int64_t room = 0;
    for (const cJSON *c = root->child; c; c = c->next) room++;
    f->tensors = calloc((size_t)room + 1, sizeof *f->tensors);
    f->by_name = calloc((size_t)room + 1, sizeof *f->by_name);
    if (!f->tensors || !f->by_name)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for its header", f->path);
    sqz_status st = SQZ_OK;
    for (const cJSON *c = root->child; c && st == SQZ_OK; c = c->next)
        if (!strcmp(c->string, "__metadata__"))
            st = read_metadata(c, f, err);
        else
            st = read_entry(c, f->path, &f->tensors[f->n++], err);
    return st;
}

static sqz_status read_header(st_file *f, sqz_error *err)
{
    uint64_t n = 0;
    if (f->map.bytes < 8)
        return err_set(err, ERR_MODEL, "%s: %lld bytes are too few for a safetensors file", f->path,
                       (long long)f->map.bytes);
    for (int i = 7; i >= 0; i--) n = n << 8 | f->map.data[i];
    if (n > MAX_HEADER || (int64_t)n > f->map.bytes - 8)
        return err_set(err, ERR_MODEL,
                       "%s: announces a header of %llu bytes; the limits are %d and the file's "
                       "%lld bytes; not a safetensors file, or cut short",
                       f->path, (unsigned long long)n, MAX_HEADER, (long long)f->map.bytes);
    const char *text = (const char *)f->map.data + 8;
    if (n == 0 || text[0] != '{')
        return err_set(err, ERR_MODEL, "%s: its header does not begin with '{'", f->path);
    json_doc *doc;
    sqz_status st = json_parse(text, (int64_t)n, 0, f->path, &doc, err);
    if (st != SQZ_OK) {
        err_prefix(err, "safetensors header");
        return st == SQZ_E_INVALID ? err_set(err, ERR_MODEL, "%s", err ? err->text : "") : st;
    }
    st = read_entries(json_root(doc), f, err);
    json_free(doc);
    if (st != SQZ_OK) return st;
    qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, by_offset);
    for (int64_t i = 0; i < f->n; i++) f->by_name[i] = &f->tensors[i];
    qsort(f->by_name, (size_t)f->n, sizeof *f->by_name, by_name);
    return check_layout(f, (int64_t)n, err);
}

sqz_status st_open(const char *path, st_file **out, sqz_error *err)
{
    st_file *f = calloc(1, sizeof *f);
    if (!f) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", path);
    f->path = path_format("%s", path);
    f->map.fd = -1;
    sqz_status st = file_map_open(path, &f->map, err);
    if (st == SQZ_OK) st = read_header(f, err);
    if (st != SQZ_OK) {
        st_close(f);
        return st;
    }
    *out = f;
    return SQZ_OK;
}

static int name_against(const void *key, const void *item)
{
    return strcmp(key, (*(st_tensor *const *)item)->name);
}

const st_tensor *st_find(const st_file *f, const char *name)
{
    st_tensor **t = bsearch(name, f->by_name, (size_t)f->n, sizeof *f->by_name, name_against);
    return t ? *t : NULL;
}

void st_close(st_file *f)
{
    if (!f) return;
    for (int64_t i = 0; i < f->n; i++) free(f->tensors[i].name);
    free(f->tensors);
    free(f->by_name);
    free(f->metadata);
    file_map_close(&f->map);
    free(f->path);
    free(f);
}
