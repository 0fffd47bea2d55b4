/* value.c - making and asking values; see value.h.  print.c writes them as text. */
#include "jinja/value.h"
#include "jinja/chars.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 100 }; /* of lists in lists, for recursion */

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct chunk {
    struct chunk *next;
    int64_t used, room;
    _Alignas(16) char data[];
} chunk;

void *arena_take(arena *a, int64_t bytes)
{
    int64_t want = (bytes + 15) & ~(int64_t)15;
    if (bytes < 0 || bytes > a->limit || a->used > a->limit - want) return NULL;
    chunk *c = a->chunks;
    if (!c || c->room - c->used < want) {
        int64_t room = want > 65536 ? want : 65536;
        c = calloc(1, sizeof *c + (size_t)room);
        if (!c) return NULL;
        c->room = room;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->used;
    c->used += want;
    a->used += want;
    return p;
}

void arena_free(arena *a)
{
    for (chunk *c = a->chunks; c;) {
        chunk *next = c->next;
        free(c);
        c = next;
    }
    *a = (arena){0};
}

static void *take(run *r, int64_t bytes)
{
    void *p = r->failed ? NULL : arena_take(&r->memory, bytes);
    if (!p)
        render_fail(r, SQZ_E_NOMEM,
                    "no memory, or more than the limit of %lld bytes for one rendering",
                    (long long)r->memory.limit);
    return p;
}

/* ---- the run --------------------------------------------------------------------------------- */

value render_fail(run *r, sqz_status code, const char *fmt, ...)
{
    if (!r->failed) {
        char text[600];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        err_set(r->err, code, "%s:%d: %s", r->name, r->line, text);
        r->failed = code;
    }
    return (value){.type = V_UNDEFINED, .at = ""};
}

int render_step(run *r, int64_t n)
{
    if (r->failed) return 0;
    r->steps -= n;
    if (r->steps >= 0) return 1;
    render_fail(r, ERR_MODEL, "the template takes too many steps");
    return 0;
}

/* ---- making ---------------------------------------------------------------------------------- */

value value_undefined(const char *name, int64_t n)
{
    return (value){.type = V_UNDEFINED, .at = name ? name : "", .n = name ? n : 0};
}

value value_none(void)
{
    return (value){.type = V_NONE};
}

value value_bool(int b)
{
    return (value){.type = V_BOOL, .i = b != 0};
}

value value_int(int64_t i)
{
    return (value){.type = V_INT, .i = i};
}

value value_float(double f)
{
    return (value){.type = V_FLOAT, .f = f};
}

value value_str(const char *borrowed, int64_t n)
{
    return (value){.type = V_STR, .at = borrowed, .n = n};
}

value value_copy(run *r, const char *bytes, int64_t n)
{
    char *p = take(r, n + 1);
    if (!p || !render_step(r, n / 64)) return value_undefined(NULL, 0);
    if (n) memcpy(p, bytes, (size_t)n);
    return value_str(p, n);
}

value value_take(run *r, text_buffer *b)
{
    value v = b->failed ? render_fail(r, SQZ_E_NOMEM, "no memory for a text")
                        : value_copy(r, b->at, b->n);
    text_free(b);
    *b = (text_buffer){0};
    return v;
}

value value_list_new(run *r, value_type type, int64_t room)
{
    list *l = take(r, (int64_t)sizeof *l);
    value *at = room > 0 && l ? take(r, room * (int64_t)sizeof *at) : NULL;
    if (!l || (room > 0 && !at)) return value_undefined(NULL, 0);
    *l = (list){.at = at, .room = room > 0 ? room : 0};
    return (value){.type = (uint8_t)type, .list = l};
}

int list_add(run *r, list *l, value v)
{
    if (r->failed) return 0;
    if (l->n == l->room) {
        int64_t room = l->room ? l->room * 2 : 8;
        value *at = take(r, room * (int64_t)sizeof *at);
        if (!at) return 0;
        if (l->n) memcpy(at, l->at, (size_t)l->n * sizeof *at);
        l->at = at;
        l->room = room;
    }
    l->at[l->n++] = v;
    return 1;
}

value value_dict_new(run *r, value_type type)
{
    dict *d = take(r, (int64_t)sizeof *d);
    return d ? (value){.type = (uint8_t)type, .dict = d} : value_undefined(NULL, 0);
}

static int dict_append(run *r, dict *d, value key, value v)
{
    if (d->n == d->room) {
        int64_t room = d->room ? d->room * 2 : 8;
        entry *at = take(r, room * (int64_t)sizeof *at);
        if (!at) return 0;
        if (d->n) memcpy(at, d->at, (size_t)d->n * sizeof *at);
        d->at = at;
        d->room = room;
    }
    d->at[d->n++] = (entry){key, v};
    return 1;
}

int dict_put(run *r, dict *d, value key, value v)
{
    if (!value_is_key(key) || key.type == V_UNDEFINED)
        render_fail(r, ERR_MODEL, "a key cannot be %s", value_word(key));
    value *old = dict_find(r, d, key);
    if (r->failed) return 0;
    if (!old) return dict_append(r, d, key, v);
    *old = v;
    return 1;
}

static value number_from_json(const cJSON *j)
{
    const char *text = j->valuestring; /* how it was written, when the reader kept that */
    if (text) {
        char *end;
        errno = 0;
        long long i = strtoll(text, &end, 10);
        if (!*end && !errno) return value_int(i);
        return value_float(j->valuedouble);
    }
    double v = j->valuedouble;
    return v == floor(v) && fabs(v) <= 0x1p53 ? value_int((int64_t)v) : value_float(v);
}

static value container_from_json(run *r, const cJSON *j, int depth)
{
    const cJSON *item;
    value out = cJSON_IsObject(j) ? value_dict_new(r, V_DICT) : value_list_new(r, V_LIST, 0);
    if (depth > MAX_NESTING) return render_fail(r, ERR_MODEL, "a variable is nested too deeply");
    if (!r->failed) cJSON_ArrayForEach(item, j)
        {
            value v = value_from_json(r, item, depth + 1);
            if (r->failed) break;
            if (out.type == V_LIST)
                list_add(r, out.list, v);
            else /* keys differ: the reader of the JSON saw to that */
                dict_append(r, out.dict, value_str(item->string, (int64_t)strlen(item->string)), v);
        }
    return out;
}

/* Texts are borrowed from the JSON. */
value value_from_json(run *r, const cJSON *j, int depth)
{
    if (!render_step(r, 1) || !j) return value_undefined(NULL, 0);
    if (cJSON_IsBool(j)) return value_bool(cJSON_IsTrue(j));
    if (cJSON_IsNumber(j)) return number_from_json(j);
    if (cJSON_IsArray(j) || cJSON_IsObject(j)) return container_from_json(r, j, depth);
    if (!cJSON_IsString(j)) return value_none();
    int64_t n = (int64_t)strlen(j->valuestring);
    if (utf8_check(j->valuestring, n) >= 0)
        return render_fail(r, ERR_MODEL, "a variable holds text that is not UTF-8");
    return value_str(j->valuestring, n);
}

/* ---- asking ---------------------------------------------------------------------------------- */

int value_is_str(value v, const char *text)
{
    return v.type == V_STR && (size_t)v.n == strlen(text) && !memcmp(v.at, text, (size_t)v.n);
}

int value_is_number(value v)
{
    return v.type == V_BOOL || v.type == V_INT || v.type == V_FLOAT;
}

int value_is_key(value v)
{
    if (v.type == V_TUPLE)
        for (int64_t i = 0; i < v.list->n; i++)
            if (v.list->at[i].type == V_TUPLE || !value_is_key(v.list->at[i])) return 0;
    return v.type != V_LIST && v.type != V_DICT;
}

int value_is_listlike(value v)
{
    return v.type == V_LIST || v.type == V_TUPLE || v.type == V_RANGE || v.type == V_VIEW;
}

int value_true(value v)
{
    switch ((value_type)v.type) {
    case V_UNDEFINED:
    case V_NONE: return 0;
    case V_BOOL:
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STR: return v.n != 0;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: return v.list->n != 0;
    case V_DICT: return v.dict->n != 0;
    default: return 1;
    }
}

const char *value_word(value v)
{
    static const char *const words[] = {[V_UNDEFINED] = "undefined",
                                        [V_NONE] = "none",
                                        [V_BOOL] = "a boolean",
                                        [V_INT] = "an integer",
                                        [V_FLOAT] = "a float",
                                        [V_STR] = "a string",
                                        [V_LIST] = "a list",
                                        [V_TUPLE] = "a tuple",
                                        [V_RANGE] = "a range",
                                        [V_VIEW] = "a view",
                                        [V_ITERATOR] = "an iterator",
                                        [V_DICT] = "a dictionary",
                                        [V_NAMESPACE] = "a namespace",
                                        [V_MACRO] = "a macro",
                                        [V_FUNCTION] = "a function",
                                        [V_METHOD] = "a method",
                                        [V_LOOP] = "a loop"};
    return words[v.type];
}

double value_as_double(value v)
{
    return v.type == V_FLOAT ? v.f : (double)v.i;
}

/* -1, 0, 1; 2 = one is not a number.  Exact also where an integer does not fit a double. */
static int compare_numbers(value a, value b)
{
    if (a.type != V_FLOAT && b.type != V_FLOAT) return a.i < b.i ? -1 : a.i > b.i;
    double x = value_as_double(a), y = value_as_double(b);
    if (isnan(x) || isnan(y)) return 2;
    if (x != y || (a.type == V_FLOAT && b.type == V_FLOAT)) return x < y ? -1 : x > y;
    if (fabs(x) >= 0x1p63) return a.type == V_FLOAT ? 1 : -1;
    int64_t i = a.type == V_FLOAT ? (int64_t)a.f : a.i, k = b.type == V_FLOAT ? (int64_t)b.f : b.i;
    return i < k ? -1 : i > k;
}

static int compare_bytes(value a, value b)
{
    int64_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.at, b.at, (size_t)n) : 0;
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static int equal_lists(run *r, const list *a, const list *b, int depth)
{
    if (a->n != b->n) return 0;
    for (int64_t i = 0; i < a->n; i++)
        if (!value_equal(r, a->at[i], b->at[i], depth + 1)) return 0;
    return 1;
}

static int equal_dicts(run *r, const dict *a, const dict *b, int depth)
{
    if (a->n != b->n) return 0;
    for (int64_t i = 0; i < a->n; i++) {
        value *other = dict_find(r, b, a->at[i].key);
        if (!other || !value_equal(r, a->at[i].value, *other, depth + 1)) return 0;
    }
    return 1;
}

int value_equal(run *r, value a, value b, int depth)
{
    if (!render_step(r, 1)) return 0;
    if (depth > MAX_NESTING) {
        render_fail(r, ERR_MODEL, "values are nested too deeply to compare");
        return 0;
    }
    if (value_is_number(a) && value_is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return 0;
    switch ((value_type)a.type) {
    case V_UNDEFINED:
    case V_NONE: return 1;
    case V_STR: return a.n == b.n && (!a.n || !memcmp(a.at, b.at, (size_t)a.n));
    case V_LIST:
    case V_TUPLE:
    case V_RANGE: return equal_lists(r, a.list, b.list, depth);
    case V_VIEW:
        return a.list == b.list || (a.which == b.which && equal_lists(r, a.list, b.list, depth));
    case V_DICT: return equal_dicts(r, a.dict, b.dict, depth);
    case V_FUNCTION: return a.which == b.which;
    default: return a.list == b.list; /* the same object */
    }
}

int value_less(run *r, value a, value b, int depth)
{
    if (!render_step(r, 1)) return 0;
    if (value_is_number(a) && value_is_number(b)) return compare_numbers(a, b) == -1;
    if (a.type == V_STR && b.type == V_STR) return compare_bytes(a, b) < 0;
    if (a.type == b.type && (a.type == V_LIST || a.type == V_TUPLE) && depth < MAX_NESTING) {
        int64_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
        for (int64_t i = 0; i < n && !r->failed; i++)
            if (!value_equal(r, a.list->at[i], b.list->at[i], depth + 1))
                return value_less(r, a.list->at[i], b.list->at[i], depth + 1);
        return a.list->n < b.list->n;
    }
    render_fail(r, ERR_MODEL, "%s and %s have no order", value_word(a), value_word(b));
    return 0;
}

int value_contains(run *r, value needle, value hay)
{
    if (hay.type == V_STR) {
        if (needle.type != V_STR) {
            render_fail(r, ERR_MODEL, "only a string can be in a string, not %s",
                        value_word(needle));
            return 0;
        }
        if (!needle.n) return 1;
        return render_step(r, hay.n / 64) &&
               memmem(hay.at, (size_t)hay.n, needle.at, (size_t)needle.n) != NULL;
    }
    if (hay.type == V_DICT && !value_is_key(needle)) {
        render_fail(r, ERR_MODEL, "%s cannot be a key", value_word(needle));
        return 0;
    }
    if (hay.type == V_DICT) return dict_find(r, hay.dict, needle) != NULL;
    value all = value_iterate(r, hay);
    if (r->failed) return 0;
    for (int64_t i = 0; i < all.list->n && !r->failed; i++)
        if (value_equal(r, all.list->at[i], needle, 0)) return 1;
    return 0;
}

value *dict_find(run *r, const dict *d, value key)
{
    if (!render_step(r, d->n / 8)) return NULL;
    for (int64_t i = 0; i < d->n; i++) {
        value k = d->at[i].key;
        if (k.type == V_STR && key.type == V_STR
                ? k.n == key.n && (!k.n || !memcmp(k.at, key.at, (size_t)k.n))
                : (k.type != V_STR || key.type != V_STR) && value_equal(r, k, key, 0))
            return &d->at[i].value;
    }
    return NULL;
}

int64_t value_length(run *r, value v)
{
    switch ((value_type)v.type) {
    case V_UNDEFINED: return 0;
    case V_STR: return render_step(r, v.n / 64) ? chars_count(v.at, v.n) : 0;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: return v.list->n;
    case V_DICT: return v.dict->n;
    default: render_fail(r, ERR_MODEL, "%s has no length", value_word(v)); return 0;
    }
}

static value iterate_str(run *r, value v)
{
    value out = value_list_new(r, V_LIST, v.n);
    for (int64_t i = 0; !r->failed && i < v.n;) {
        int k = char_length((unsigned char)v.at[i]);
        list_add(r, out.list, value_str(v.at + i, k));
        i += k;
    }
    return out;
}

value value_iterate(run *r, value v)
{
    value out = value_undefined(NULL, 0);
    switch ((value_type)v.type) {
    case V_UNDEFINED: return value_list_new(r, V_LIST, 0);
    case V_STR: return render_step(r, v.n) ? iterate_str(r, v) : out;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: return render_step(r, v.list->n) ? v : out;
    case V_ITERATOR:
        out = value_list_new(r, V_LIST, v.list->n - v.list->next);
        while (!r->failed && v.list->next < v.list->n)
            list_add(r, out.list, v.list->at[v.list->next++]);
        return out;
    case V_DICT:
        out = value_list_new(r, V_LIST, v.dict->n);
        for (int64_t i = 0; !r->failed && i < v.dict->n; i++)
            list_add(r, out.list, v.dict->at[i].key);
        return out;
    default: return render_fail(r, ERR_MODEL, "%s cannot be iterated", value_word(v));
    }
}

/* ---- parts ----------------------------------------------------------------------------------- */

value value_index(run *r, value object, value key, int *found)
{
    *found = 0;
    if (object.type == V_DICT) {
        value *v = dict_find(r, object.dict, key);
        *found = v != NULL;
        return v ? *v : value_undefined(NULL, 0);
    }
    int is_list = object.type == V_LIST || object.type == V_TUPLE || object.type == V_RANGE;
    if ((key.type != V_INT && key.type != V_BOOL) || (!is_list && object.type != V_STR))
        return value_undefined(NULL, 0);
    int64_t n = value_length(r, object), i = key.i < 0 ? key.i + n : key.i;
    if (i < 0 || i >= n || !render_step(r, 1)) return value_undefined(NULL, 0);
    *found = 1;
    if (is_list) return object.list->at[i];
    int64_t at = chars_offset(object.at, object.n, i);
    return value_str(object.at + at, char_length((unsigned char)object.at[at]));
}

/* One end of a slice as Python clips it; 0: the value is neither an integer nor none. */
static int slice_end(value v, int64_t n, int64_t step, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v.type == V_NONE) return 1;
    if (v.type != V_INT && v.type != V_BOOL) return 0;
    int64_t i = v.i < 0 ? v.i + n : v.i, low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    *out = i < low ? low : i > high ? high : i;
    return 1;
}

value value_slice(run *r, value object, value from, value to, value step)
{
    int is_list = object.type == V_LIST || object.type == V_TUPLE || object.type == V_RANGE;
    if (!is_list && object.type != V_STR)
        return render_fail(r, SQZ_E_UNSUPPORTED, "a slice of %s is not supported",
                           value_word(object));
    int64_t n = value_length(r, object), by = 1, begin, end;
    if (step.type == V_INT || step.type == V_BOOL) by = step.i;
    if (by == 0) return render_fail(r, ERR_MODEL, "a slice with step 0");
    if (by > INT32_MAX) by = INT32_MAX;
    if (by < -INT32_MAX) by = -INT32_MAX;
    if ((step.type != V_INT && step.type != V_BOOL && step.type != V_NONE) ||
        !slice_end(from, n, by, by < 0 ? n - 1 : 0, &begin) ||
        !slice_end(to, n, by, by < 0 ? -1 : n, &end))
        return render_fail(r, ERR_MODEL, "the ends of a slice are integers or none");
    if (!is_list && by == 1) {
        int64_t a = chars_offset(object.at, object.n, begin);
        int64_t b = end > begin ? chars_offset(object.at, object.n, end) : a;
        return render_step(r, object.n / 64) ? value_str(object.at + a, b - a) : object;
    }
    value all = value_iterate(r, object);
    value out = value_list_new(r, is_list ? (value_type)object.type : V_LIST, 0);
    for (int64_t i = begin; !r->failed && (by > 0 ? i < end : i > end); i += by)
        list_add(r, out.list, all.list->at[i]);
    if (is_list || r->failed) return out;
    text_buffer text = {0};
    for (int64_t i = 0; i < out.list->n; i++)
        text_add(&text, out.list->at[i].at, out.list->at[i].n);
    return value_take(r, &text);
}
