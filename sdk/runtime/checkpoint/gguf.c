/* gguf.c - reading one GGUF file: mapped, and checked before anything is used.
 *
 * Only the pages of the header are touched here.  What the values mean for a model is in
 * gguf_model.c, the packed types are in gguf_blocks.c. */
#include "checkpoint/gguf.h"
#include <stdlib.h>
#include <string.h>

enum {
    MAX_KEY = 65535,
    MAX_NAME = 63,
    MIN_ENTRY = 8 + 1 + 4 + 1,      /* bytes of the smallest key and value */
    MIN_TENSOR = 8 + 1 + 4 + 4 + 8, /* bytes of the smallest tensor info */
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 24
};

/* Bytes of a value; 0 where they vary. */
static const uint8_t value_bytes[GGUF_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

int gguf_is_path(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf") && !path_is_dir(path);
}

/* ---- a bounded reader ------------------------------------------------------------------------ */
typedef struct cursor {
    const gguf_file *f;
    int64_t at, end;
    sqz_error *err;
} cursor;

static sqz_status bad(const cursor *c, const char *what)
{
    return err_set(c->err, ERR_MODEL, "%s: %s at byte %lld", c->f->path, what, (long long)c->at);
}

static sqz_status take(cursor *c, int64_t n, const uint8_t **out)
{
    if (n < 0 || n > c->end - c->at)
        return err_set(c->err, ERR_MODEL,
                       "%s: %lld bytes are announced at byte %lld of %lld; the file is damaged or "
                       "cut short, copy or download it again",
                       c->f->path, (long long)n, (long long)c->at, (long long)c->end);
    *out = c->f->map.data + c->at;
    c->at += n;
    return SQZ_OK;
}

static uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static sqz_status take_u32(cursor *c, uint32_t *out)
{
    const uint8_t *p = NULL;
    sqz_status st = take(c, 4, &p);
    if (!st) *out = (uint32_t)little(p, 4);
    return st;
}

/* A 64-bit count; beyond 2^62 it is nonsense and would overflow later. */
static sqz_status take_count(cursor *c, int64_t *out)
{
    const uint8_t *p = NULL;
    sqz_status st = take(c, 8, &p);
    if (st) return st;
    uint64_t v = little(p, 8);
    if (v >> 62) return bad(c, "an impossible count");
    *out = (int64_t)v;
    return SQZ_OK;
}

/* A name of 1 to max bytes of printable ASCII, malloc'd. */
static sqz_status take_name(cursor *c, int64_t max, const char *what, char **out)
{
    int64_t n;
    const uint8_t *p = NULL;
    sqz_status st = take_count(c, &n);
    if (!st && (n < 1 || n > max))
        return err_set(c->err, ERR_MODEL, "%s: a %s of %lld bytes at byte %lld; 1 to %lld may be",
                       c->f->path, what, (long long)n, (long long)c->at, (long long)max);
    if (!st) st = take(c, n, &p);
    for (int64_t i = 0; !st && i < n; i++)
        if (p[i] < 0x21 || p[i] > 0x7E) {
            c->at -= n;
            return err_set(c->err, ERR_MODEL, "%s: a %s is not printable ASCII at byte %lld",
                           c->f->path, what, (long long)c->at);
        }
    if (st) return st;
    *out = strndup((const char *)p, (size_t)n);
    return *out ? SQZ_OK : err_set(c->err, SQZ_E_NOMEM, "%s: no memory for its header", c->f->path);
}

/* ---- key/value pairs ------------------------------------------------------------------------- */
static sqz_status skip_strings(cursor *c, int64_t count)
{
    sqz_status st = SQZ_OK;
    const uint8_t *p = NULL;
    int64_t n;
    /* each takes 8 bytes or more, so a count that is too large ends at the file's end */
    for (int64_t i = 0; i < count && !st; i++) {
        st = take_count(c, &n);
        if (!st) st = take(c, n, &p);
    }
    return st;
}

static sqz_status check_bools(cursor *c, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] > 1) return bad(c, "a truth value is neither 0 nor 1");
    return SQZ_OK;
}

static sqz_status take_array(cursor *c, gguf_entry *e)
{
    uint32_t element;
    int64_t bytes;
    sqz_status st = take_u32(c, &element);
    if (!st) st = take_count(c, &e->count);
    if (st) return st;
    if (element == GGUF_ARRAY)
        return err_set(c->err, ERR_MODEL, "%s: %s is an array of arrays, which is not supported",
                       c->f->path, e->key);
    if (element >= GGUF_VALUE_TYPES)
        return err_set(c->err, ERR_MODEL, "%s: %s is an array of the unknown type %u", c->f->path,
                       e->key, element);
    e->element = (int32_t)element;
    e->at = c->f->map.data + c->at;
    if (element == GGUF_STRING) return skip_strings(c, e->count);
    if (__builtin_mul_overflow(e->count, (int64_t)value_bytes[element], &bytes))
        return bad(c, "an impossible count");
    st = take(c, bytes, &e->at);
    return st || element != GGUF_BOOL ? st : check_bools(c, e->at, e->count);
}

static sqz_status take_entry(cursor *c, gguf_entry *e)
{
    uint32_t type = 0;
    sqz_status st = take_name(c, MAX_KEY, "key", &e->key);
    if (!st) st = take_u32(c, &type);
    if (st) return st;
    if (type >= GGUF_VALUE_TYPES)
        return err_set(c->err, ERR_MODEL, "%s: %.200s has the unknown type %u", c->f->path, e->key,
                       type);
    e->type = (int32_t)type;
    e->count = 1;
    if (type == GGUF_ARRAY) return take_array(c, e);
    if (type == GGUF_STRING) {
        st = take_count(c, &e->count);
        return st ? st : take(c, e->count, &e->at);
    }
    st = take(c, value_bytes[type], &e->at);
    return st || type != GGUF_BOOL ? st : check_bools(c, e->at, 1);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(gguf_entry *const *)a)->key, (*(gguf_entry *const *)b)->key);
}

static sqz_status take_entries(gguf_file *f, cursor *c, int64_t n)
{
    if (n > (c->end - c->at) / MIN_ENTRY) return bad(c, "more keys than the file has room for");
    f->entries = calloc((size_t)n + 1, sizeof *f->entries);
    f->by_key = calloc((size_t)n + 1, sizeof *f->by_key);
    if (!f->entries || !f->by_key)
        return err_set(c->err, SQZ_E_NOMEM, "%s: no memory for its header", f->path);
    sqz_status st = SQZ_OK;
    for (int64_t i = 0; i < n && !st; i++) {
        f->by_key[i] = &f->entries[i];
        f->n_entries++;
        st = take_entry(c, &f->entries[i]);
    }
    if (st) return st;
    qsort(f->by_key, (size_t)n, sizeof *f->by_key, by_key);
    for (int64_t i = 1; i < n; i++)
        if (!by_key(&f->by_key[i - 1], &f->by_key[i]))
            return err_set(c->err, ERR_MODEL, "%s: key %.200s is there twice", f->path,
                           f->by_key[i]->key);
    return SQZ_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */
static sqz_status bad_tensor(const cursor *c, const gguf_tensor *t, const char *what)
{
    return err_set(c->err, ERR_MODEL, "%s: tensor '%s': %s", c->f->path, t->name, what);
}

/* expected: the sum of the padded sizes so far. */
static sqz_status take_tensor(cursor *c, gguf_tensor *t, int64_t expected)
{
    uint32_t rank, type;
    int64_t offset;
    sqz_status st = take_name(c, MAX_NAME, "tensor name", &t->name);
    if (!st) st = take_u32(c, &rank);
    if (st) return st;
    if (rank > GGUF_MAX_RANK) return bad_tensor(c, t, "more than 4 dimensions");
    t->rank = (int32_t)rank;
    t->elements = 1;
    for (int i = t->rank - 1; i >= 0 && !st; i--) {
        st = take_count(c, &t->shape[i]);
        if (!st && __builtin_mul_overflow(t->elements, t->shape[i], &t->elements))
            return bad_tensor(c, t, "its number of elements overflows");
    }
    if (!st) st = take_u32(c, &type);
    if (!st) st = take_count(c, &offset);
    if (st) return st;
    t->type = type < 1u << 16 ? (int32_t)type : -1;
    int64_t block = ggml_block_elements(t->type), row = t->rank ? t->shape[t->rank - 1] : 1;
    if (!block)
        return err_set(c->err, ERR_MODEL, "%s: tensor '%s' has the unknown type %u", c->f->path,
                       t->name, type);
    if (row % block)
        return err_set(c->err, ERR_MODEL,
                       "%s: tensor '%s': rows of %lld are no multiple of the %lld that a block of "
                       "%s holds",
                       c->f->path, t->name, (long long)row, (long long)block,
                       ggml_type_name(t->type));
    if (__builtin_mul_overflow(t->elements / block, ggml_block_bytes(t->type), &t->bytes) ||
        t->bytes > c->end)
        return bad_tensor(c, t, "is larger than the file");
    if (offset != expected)
        return err_set(c->err, ERR_MODEL,
                       "%s: tensor '%s' begins at %lld of the data, but the tensors before it end "
                       "at %lld",
                       c->f->path, t->name, (long long)offset, (long long)expected);
    return SQZ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(gguf_tensor *const *)a)->name, (*(gguf_tensor *const *)b)->name);
}

static int64_t padded(int64_t n, int64_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

/* The data begin after the last info, aligned; every tensor must end within the file. */
static sqz_status place_tensors(gguf_file *f, const cursor *c)
{
    int64_t at = padded(c->at, f->alignment);
    for (int64_t i = 0; i < f->n_tensors; i++) {
        gguf_tensor *t = &f->tensors[i];
        if (t->bytes > c->end - at)
            return err_set(c->err, ERR_MODEL,
                           "%s: tensor '%s' ends at byte %lld of %lld; the file is cut short, copy "
                           "or download it again",
                           f->path, t->name, (long long)(at + t->bytes), (long long)c->end);
        t->data = f->map.data + at;
        at = padded(at + t->bytes, f->alignment);
    }
    return SQZ_OK;
}

static sqz_status take_tensors(gguf_file *f, cursor *c, int64_t n)
{
    if (n > (c->end - c->at) / MIN_TENSOR) return bad(c, "more tensors than the file has room for");
    f->tensors = calloc((size_t)n + 1, sizeof *f->tensors);
    f->by_name = calloc((size_t)n + 1, sizeof *f->by_name);
    if (!f->tensors || !f->by_name)
        return err_set(c->err, SQZ_E_NOMEM, "%s: no memory for its header", f->path);
    int64_t expected = 0;
    for (int64_t i = 0; i < n; i++) {
        gguf_tensor *t = &f->tensors[i];
        f->by_name[i] = t;
        f->n_tensors++;
        sqz_status st = take_tensor(c, t, expected);
        if (st) return st;
        /* no overflow: at most file size + alignment are added, and a sum beyond the file fails */
        expected += padded(t->bytes, f->alignment);
        if (expected > c->end + f->alignment) return bad_tensor(c, t, "ends beyond the file");
    }
    qsort(f->by_name, (size_t)n, sizeof *f->by_name, by_name);
    for (int64_t i = 1; i < n; i++)
        if (!by_name(&f->by_name[i - 1], &f->by_name[i]))
            return bad_tensor(c, f->by_name[i], "is there twice");
    return place_tensors(f, c);
}

/* ---- the file -------------------------------------------------------------------------------- */
static sqz_status take_version(gguf_file *f, cursor *c)
{
    const uint8_t *magic = NULL;
    sqz_status st = take(c, 4, &magic);
    if (st || !magic || memcmp(magic, "GGUF", 4) != 0)
        return err_set(c->err, ERR_MODEL, "%s: does not begin with GGUF; not a GGUF file", f->path);
    st = take_u32(c, &f->version);
    if (st) return st;
    if (f->version && !(f->version & 0xFFFF))
        return err_set(c->err, ERR_MODEL, "%s: is big-endian; only little-endian GGUF is read",
                       f->path);
    if (f->version != 2 && f->version != 3)
        return err_set(c->err, ERR_MODEL,
                       "%s: is of GGUF version %u; versions 2 and 3 are read; convert it again",
                       f->path, f->version);
    return SQZ_OK;
}

static sqz_status read_alignment(gguf_file *f, const cursor *c)
{
    const gguf_entry *e = gguf_find(f, "general.alignment");
    f->alignment = DEFAULT_ALIGNMENT;
    if (!e) return SQZ_OK;
    f->alignment = e->type == GGUF_U32 ? (int64_t)little(e->at, 4) : 0;
    if (f->alignment < 1 || f->alignment > MAX_ALIGNMENT || f->alignment & (f->alignment - 1))
        return err_set(c->err, ERR_MODEL,
                       "%s: general.alignment must be a u32 and a power of two up to %d", f->path,
                       MAX_ALIGNMENT);
    return SQZ_OK;
}

static sqz_status read_file(gguf_file *f, sqz_error *err)
{
    cursor c = {f, 0, f->map.bytes, err};
    int64_t tensors = 0, entries = 0;
    sqz_status st = take_version(f, &c);
    if (!st) st = take_count(&c, &tensors);
    if (!st) st = take_count(&c, &entries);
    if (!st) st = take_entries(f, &c, entries);
    if (!st) st = read_alignment(f, &c);
    if (st) return st;
    if (gguf_int(f, "split.count", 1) > 1)
        return err_set(err, ERR_MODEL,
                       "%s: is one of %lld parts, and split files are not read; join them: "
                       "llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf",
                       f->path, (long long)gguf_int(f, "split.count", 1));
    return take_tensors(f, &c, tensors);
}

sqz_status gguf_open(const char *path, gguf_file **out, sqz_error *err)
{
    gguf_file *f = calloc(1, sizeof *f);
    if (!f) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", path);
    f->path = path_format("%s", path);
    f->map.fd = -1;
    sqz_status st = file_map_open(path, &f->map, err);
    if (!st) st = read_file(f, err);
    if (st) {
        gguf_close(f);
        return st;
    }
    *out = f;
    return SQZ_OK;
}

void gguf_close(gguf_file *f)
{
    if (!f) return;
    for (int64_t i = 0; i < f->n_entries; i++) free(f->entries[i].key);
    for (int64_t i = 0; i < f->n_tensors; i++) free(f->tensors[i].name);
    free(f->entries);
    free(f->by_key);
    free(f->tensors);
    free(f->by_name);
    file_map_close(&f->map);
    free(f->path);
    free(f);
}

/* ---- values ---------------------------------------------------------------------------------- */
static int key_against(const void *key, const void *item)
{
    return strcmp(key, (*(gguf_entry *const *)item)->key);
}

const gguf_entry *gguf_find(const gguf_file *f, const char *key)
{
    gguf_entry **e = bsearch(key, f->by_key, (size_t)f->n_entries, sizeof *f->by_key, key_against);
    return e ? *e : NULL;
}

static int name_against(const void *key, const void *item)
{
    return strcmp(key, (*(gguf_tensor *const *)item)->name);
}

const gguf_tensor *gguf_find_tensor(const gguf_file *f, const char *name)
{
    gguf_tensor **t =
        bsearch(name, f->by_name, (size_t)f->n_tensors, sizeof *f->by_name, name_against);
    return t ? *t : NULL;
}

static int is_integer(int32_t type)
{
    return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

static int64_t integer_at(const uint8_t *p, int32_t type)
{
    int bytes = value_bytes[type];
    uint64_t v = little(p, bytes);
    int is_signed = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
    if (is_signed && bytes < 8 && v >> (8 * bytes - 1)) v |= ~0ull << (8 * bytes);
    if (!is_signed && v >> 63) return INT64_MAX;
    return (int64_t)v;
}

static double real_at(const uint8_t *p, int32_t type)
{
    float f;
    double d;
    if (type == GGUF_F32) {
        memcpy(&f, p, sizeof f);
        return (double)f;
    }
    if (type == GGUF_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    return type == GGUF_BOOL ? *p : (double)integer_at(p, type);
}

int64_t gguf_int(const gguf_file *f, const char *key, int64_t fallback)
{
    const gguf_entry *e = gguf_find(f, key);
    if (e && is_integer(e->type)) return integer_at(e->at, e->type);
    if (!e || e->type != GGUF_ARRAY || !is_integer(e->element) || e->count < 1) return fallback;
    int64_t first = integer_at(e->at, e->element);
    for (int64_t i = 1; i < e->count; i++)
        if (integer_at(e->at + i * value_bytes[e->element], e->element) != first) return fallback;
    return first;
}

double gguf_real(const gguf_file *f, const char *key, double fallback)
{
    const gguf_entry *e = gguf_find(f, key);
    int fits = e && (is_integer(e->type) || e->type == GGUF_F32 || e->type == GGUF_F64);
    return fits ? real_at(e->at, e->type) : fallback;
}

int gguf_bool(const gguf_file *f, const char *key, int fallback)
{
    const gguf_entry *e = gguf_find(f, key);
    return e && e->type == GGUF_BOOL ? *e->at : fallback;
}

char *gguf_string(const gguf_file *f, const char *key)
{
    const gguf_entry *e = gguf_find(f, key);
    return e && e->type == GGUF_STRING ? strndup((const char *)e->at, (size_t)e->count) : NULL;
}

double gguf_element(const gguf_entry *e, int64_t i)
{
    return real_at(e->at + i * value_bytes[e->element], e->element);
}

void gguf_next_string(const uint8_t **at, const char **text, int64_t *bytes)
{
    *bytes = (int64_t)little(*at, 8);
    *text = (const char *)*at + 8;
    *at += 8 + *bytes;
}
