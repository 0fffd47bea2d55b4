/* json.c - strict JSON: our scanner decides what is accepted, cJSON builds the tree.
 *
 * cJSON alone takes things JSON forbids (leading zeros, raw control characters, duplicate keys) and
 * knows no positions.  The scanner walks a copy of the text first, notes where every value begins,
 * and overwrites comments and trailing commas with spaces, so that offsets stay true.  Both see
 * values in the same order, which is how a tree node finds its offset.
 * Left out: integers beyond 2^53 (cJSON holds doubles) and "\u0000" (cJSON's strings end there). */
#include "json/json.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 64,
    MAX_NUMBER = 63 /* characters: cJSON's buffer */
};

struct json_doc {
    char *name;
    char *text; /* copy, comments blanked */
    int64_t bytes;
    cJSON *root;
    int64_t *offsets;    /* [n] of value i, or of its key, in order of the text */
    const cJSON **items; /* [n] the same values in the tree */
    int64_t n, room;
};

/* ---- memory ---------------------------------------------------------------------------------- */

/* cJSON's builders return NULL without memory and its adders then drop what they were given, which
 * would make a record that lacks a key.  So its nodes are always had or the process ends - except
 * while a foreign text is parsed, where the size is not ours and the caller can be told. */
static _Thread_local int may_fail;

static void *take_node(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p && !may_fail) memory_failed("JSON");
    return p;
}

__attribute__((constructor)) static void guard_nodes(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = take_node, .free_fn = free});
}

/* ---- positions ------------------------------------------------------------------------------- */

static void line_column(const json_doc *d, int64_t offset, int *line, int *column)
{
    *line = *column = 1;
    for (int64_t i = 0; i < offset && i < d->bytes; i++) {
        if (d->text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)d->text[i] & 0xC0) != 0x80) { /* count characters, not bytes */
            ++*column;
        }
    }
}

static sqz_status fail_at(const json_doc *d, int64_t offset, sqz_error *err, const char *what)
{
    int line, column;
    line_column(d, offset, &line, &column);
    return err_set(err, SQZ_E_INVALID, "%s:%d:%d: %s", d->name, line, column, what);
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Bytes of the well-formed sequence at p, or 0 (Unicode 15, table 3-7). */
static int utf8_length(const unsigned char *p, int64_t left)
{
    if (p[0] < 0x80) return 1;
    int n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || left < n) return 0;
    unsigned char low = 0x80, high = 0xBF;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    if (p[1] < low || p[1] > high) return 0;
    for (int i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return n;
}

static sqz_status check_utf8(const json_doc *d, sqz_error *err)
{
    const unsigned char *p = (const unsigned char *)d->text;
    for (int64_t i = 0; i < d->bytes;) {
        int n = utf8_length(p + i, d->bytes - i);
        if (!n) return fail_at(d, i, err, "invalid UTF-8; save the file as UTF-8");
        i += n;
    }
    return SQZ_OK;
}

/* ---- scanner --------------------------------------------------------------------------------- */

typedef struct scanner {
    json_doc *d;
    char *p;
    int64_t at, end;
    int comments;
    sqz_error *err;
} scanner;

static sqz_status scan_fail(const scanner *s, const char *what)
{
    return fail_at(s->d, s->at, s->err, what);
}

static int peek(const scanner *s)
{
    return s->at < s->end ? (unsigned char)s->p[s->at] : -1;
}

/* Blanks [begin, end) but keeps line ends, so that lines stay true. */
static void blank(scanner *s, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        if (s->p[i] != '\n' && s->p[i] != '\r') s->p[i] = ' ';
}

static sqz_status skip_space(scanner *s)
{
    for (;;) {
        int c = peek(s);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            s->at++;
            continue;
        }
        if (c != '/' || s->at + 1 >= s->end) return SQZ_OK;
        char next = s->p[s->at + 1];
        if (next != '/' && next != '*') return SQZ_OK;
        if (!s->comments) return scan_fail(s, "comments are not allowed in this file");
        int64_t begin = s->at, stop = -1;
        for (int64_t i = begin + 2; i < s->end && stop < 0; i++) {
            if (next == '/' && s->p[i] == '\n') stop = i;
            if (next == '*' && i > begin + 2 && s->p[i - 1] == '*' && s->p[i] == '/') stop = i + 1;
        }
        if (stop < 0 && next == '*') return scan_fail(s, "comment without its end");
        if (stop < 0) stop = s->end;
        /* A multi-byte character becomes that many spaces: columns after it on the line shift. */
        blank(s, begin, stop);
        s->at = stop;
    }
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        v = v * 16 + digit;
    }
    return v;
}

/* at is on the backslash. */
static sqz_status scan_escape(scanner *s)
{
    if (s->at + 1 >= s->end) return scan_fail(s, "string without its closing quote");
    char c = s->p[s->at + 1];
    if (c != 'u') {
        if (!c || !strchr("\"\\/bfnrt", c))
            return scan_fail(s, "unknown escape; write a backslash as \\\\");
        s->at += 2;
        return SQZ_OK;
    }
    int v = s->at + 6 <= s->end ? hex4(s->p + s->at + 2) : -1;
    if (v < 0) return scan_fail(s, "\\u needs four hexadecimal digits");
    if (v == 0) return scan_fail(s, "\\u0000 inside a string is not supported");
    if (v >= 0xDC00 && v <= 0xDFFF) return scan_fail(s, "half of a surrogate pair");
    if (v >= 0xD800 && v <= 0xDBFF) {
        const char *low = s->p + s->at + 6;
        int second = s->at + 12 <= s->end && low[0] == '\\' && low[1] == 'u' ? hex4(low + 2) : -1;
        if (second < 0xDC00 || second > 0xDFFF) return scan_fail(s, "half of a surrogate pair");
        s->at += 6;
    }
    s->at += 6;
    return SQZ_OK;
}

static sqz_status scan_string(scanner *s)
{
    int64_t begin = s->at++;
    for (;;) {
        int c = peek(s);
        if (c == '"') {
            s->at++;
            return SQZ_OK;
        }
        if (c < 0 || c == '\n') {
            s->at = begin;
            return scan_fail(s, "string without its closing quote");
        }
        if (c < 0x20) return scan_fail(s, "control character in a string; write it as an escape");
        if (c != '\\') {
            s->at++;
            continue;
        }
        sqz_status st = scan_escape(s);
        if (st != SQZ_OK) return st;
    }
}

static int skip_digits(scanner *s)
{
    int64_t begin = s->at;
    while (peek(s) >= '0' && peek(s) <= '9') s->at++;
    return s->at > begin;
}

static sqz_status scan_number(scanner *s)
{
    int64_t begin = s->at;
    if (peek(s) == '-') s->at++;
    int ok = peek(s) == '0' ? (s->at++, 1) : skip_digits(s);
    if (ok && peek(s) == '.') {
        s->at++;
        ok = skip_digits(s);
    }
    if (ok && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        ok = skip_digits(s);
    }
    int c = peek(s);
    if (ok && c >= 0 && (strchr(".+-_", c) || (c >= '0' && c <= '9') || (c | 32) == 'e')) ok = 0;
    int64_t length = s->at - begin;
    if (!ok || length > MAX_NUMBER) s->at = begin;
    if (!ok) return scan_fail(s, "not a number JSON allows");
    return length > MAX_NUMBER ? scan_fail(s, "number of more than 63 characters") : SQZ_OK;
}

static sqz_status scan_word(scanner *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        int64_t n = (int64_t)strlen(words[i]);
        if (s->end - s->at >= n && !memcmp(s->p + s->at, words[i], (size_t)n)) {
            s->at += n;
            return SQZ_OK;
        }
    }
    static const char *const bad[] = {"NaN", "Infinity", "-Infinity", "nan", "inf"};
    for (int i = 0; i < 5; i++)
        if (s->end - s->at >= (int64_t)strlen(bad[i]) &&
            !memcmp(s->p + s->at, bad[i], strlen(bad[i])))
            return scan_fail(s, "numbers must be finite");
    return scan_fail(s,
                     peek(s) < 0 ? "the text ends where a value is expected" : "expected a value");
}

static sqz_status note_value(scanner *s, int64_t offset)
{
    json_doc *d = s->d;
    if (d->n == d->room) {
        int64_t room = d->room ? d->room * 2 : 64;
        int64_t *more = realloc(d->offsets, (size_t)room * sizeof *more);
        if (!more) return err_set(s->err, SQZ_E_NOMEM, "%s: no memory to parse it", d->name);
        d->offsets = more;
        d->room = room;
    }
    d->offsets[d->n++] = offset;
    return SQZ_OK;
}

static sqz_status scan_value(scanner *s, int64_t offset, int depth);

static sqz_status scan_key(scanner *s)
{
    if (peek(s) != '"')
        return scan_fail(s, peek(s) < 0 ? "the text ends inside an object"
                                        : "expected a key in double quotes");
    sqz_status st = scan_string(s);
    if (st == SQZ_OK) st = skip_space(s);
    if (st != SQZ_OK) return st;
    if (peek(s) != ':') return scan_fail(s, "expected ':' after the key");
    s->at++;
    return SQZ_OK;
}

/* Members of an object or elements of an array; at is on the opening bracket. */
static sqz_status scan_group(scanner *s, int depth)
{
    int object = peek(s) == '{', close = object ? '}' : ']';
    int64_t comma = -1;
    if (depth > MAX_DEPTH) return scan_fail(s, "nested deeper than 64 levels");
    s->at++;
    for (;;) {
        sqz_status st = skip_space(s);
        if (st != SQZ_OK) return st;
        if (peek(s) == close && (comma < 0 || s->comments)) {
            if (comma >= 0) s->p[comma] = ' ';
            s->at++;
            return SQZ_OK;
        }
        if (peek(s) == close) {
            s->at = comma;
            return scan_fail(s, object ? "comma after the last key" : "comma after the last value");
        }
        int64_t offset = s->at;
        if (object) {
            st = scan_key(s);
            if (st == SQZ_OK) st = skip_space(s);
        }
        if (st == SQZ_OK) st = scan_value(s, offset, depth);
        if (st == SQZ_OK) st = skip_space(s);
        if (st != SQZ_OK) return st;
        comma = -1;
        if (peek(s) == ',')
            comma = s->at++;
        else if (peek(s) != close)
            return scan_fail(s, peek(s) < 0 ? "the text ends before a bracket is closed"
                                : object    ? "expected ',' or '}'"
                                            : "expected ',' or ']'");
    }
}

/* offset: where the value, or its key, begins.  depth: brackets open around it. */
static sqz_status scan_value(scanner *s, int64_t offset, int depth)
{
    sqz_status st = note_value(s, offset);
    if (st != SQZ_OK) return st;
    int c = peek(s);
    if (c == '{' || c == '[') return scan_group(s, depth + 1);
    if (c == '"') return scan_string(s);
    if ((c >= '0' && c <= '9') || (c == '-' && !(s->at + 1 < s->end && s->p[s->at + 1] == 'I')))
        return scan_number(s);
    return scan_word(s);
}

static sqz_status scan_text(scanner *s)
{
    if (s->end >= 3 && !memcmp(s->p, "\xEF\xBB\xBF", 3))
        blank(s, 0, 3); /* editors' byte order mark */
    sqz_status st = skip_space(s);
    if (st == SQZ_OK && peek(s) < 0) return scan_fail(s, "empty; expected a JSON value");
    if (st == SQZ_OK) st = scan_value(s, s->at, 0);
    if (st == SQZ_OK) st = skip_space(s);
    if (st == SQZ_OK && peek(s) >= 0) st = scan_fail(s, "unexpected text after the value");
    return st;
}

/* ---- the tree -------------------------------------------------------------------------------- */

static void collect(json_doc *d, const cJSON *item, int64_t *i)
{
    if (*i < d->n) d->items[*i] = item;
    ++*i;
    for (const cJSON *child = item->child; child; child = child->next) collect(d, child, i);
}

static int compare_items(const void *a, const void *b)
{
    const cJSON *x = *(const cJSON *const *)a, *y = *(const cJSON *const *)b;
    return strcmp(x->string, y->string);
}

static sqz_status fail_item(const json_doc *d, const cJSON *item, sqz_error *err, const char *what)
{
    int line, column;
    json_where(d, item, &line, &column);
    return err_set(err, SQZ_E_INVALID, "%s:%d:%d: %s", d->name, line, column, what);
}

static sqz_status check_keys(const json_doc *d, const cJSON *object, sqz_error *err)
{
    int64_t n = 0;
    for (const cJSON *c = object->child; c; c = c->next) n++;
    if (n < 2) return SQZ_OK;
    const cJSON **keys = malloc((size_t)n * sizeof *keys);
    if (!keys) return err_set(err, SQZ_E_NOMEM, "%s: no memory to check its keys", d->name);
    n = 0;
    for (const cJSON *c = object->child; c; c = c->next) keys[n++] = c;
    qsort(keys, (size_t)n, sizeof *keys, compare_items);
    const cJSON *twice = NULL;
    for (int64_t i = 1; i < n && !twice; i++)
        if (!strcmp(keys[i - 1]->string, keys[i]->string)) twice = keys[i];
    /* sorting forgets which came first; report the second occurrence */
    const cJSON *first = NULL, *second = NULL;
    for (const cJSON *c = twice ? object->child : NULL; c && !second; c = c->next)
        if (!strcmp(c->string, twice->string)) *(first ? &second : &first) = c;
    free(keys);
    if (!second) return SQZ_OK;
    char what[200];
    snprintf(what, sizeof what, "duplicate key \"%.100s\"", second->string);
    return fail_item(d, second, err, what);
}

static sqz_status check_tree(const json_doc *d, const cJSON *item, sqz_error *err)
{
    if (cJSON_IsNumber(item) && !isfinite(item->valuedouble))
        return fail_item(d, item, err, "number too large for a double");
    sqz_status st = cJSON_IsObject(item) ? check_keys(d, item, err) : SQZ_OK;
    for (const cJSON *c = item->child; c && st == SQZ_OK; c = c->next)
        if (c->child || cJSON_IsNumber(c)) st = check_tree(d, c, err);
    return st;
}

static sqz_status build_tree(json_doc *d, sqz_error *err)
{
    const char *end = NULL;
    may_fail = 1;
    d->root = cJSON_ParseWithLengthOpts(d->text, (size_t)d->bytes + 1, &end, 1);
    may_fail = 0;
    if (!d->root) /* the scanner has accepted the text */
        return err_set(err, SQZ_E_NOMEM, "%s: no memory to parse it (at byte %lld of %lld)",
                       d->name, (long long)(end ? end - d->text : 0), (long long)d->bytes);
    d->items = malloc((size_t)d->n * sizeof *d->items);
    if (!d->items) return err_set(err, SQZ_E_NOMEM, "%s: no memory to parse it", d->name);
    int64_t i = 0;
    collect(d, d->root, &i);
    if (i != d->n) return err_set(err, SQZ_E_INTERNAL, "%s: scanner and parser disagree", d->name);
    return check_tree(d, d->root, err);
}

/* The text of every number beside its value; the scanner noted where it (or its key) begins. */
static sqz_status keep_numbers(json_doc *d, sqz_error *err)
{
    for (int64_t i = 0; i < d->n; i++) {
        cJSON *item = (cJSON *)(uintptr_t)d->items[i];
        if (!cJSON_IsNumber(item)) continue;
        const char *p = d->text + d->offsets[i];
        if (*p == '"') { /* the key: its end, the colon, the value */
            for (p++; *p != '"'; p++) p += *p == '\\';
            p += 1 + strspn(p + 1, " \t\r\n:");
        }
        item->valuestring = strndup(p, strspn(p, "+-.0123456789eE"));
        if (!item->valuestring) return err_set(err, SQZ_E_NOMEM, "%s: no memory", d->name);
    }
    return SQZ_OK;
}

sqz_status json_parse(const char *text, int64_t bytes, int flags, const char *name, json_doc **out,
                      sqz_error *err)
{
    json_doc *d = calloc(1, sizeof *d);
    char *copy = d ? malloc((size_t)bytes + 1) : NULL;
    if (!copy) {
        free(d);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for %lld bytes", name, (long long)bytes);
    }
    if (bytes) memcpy(copy, text, (size_t)bytes);
    copy[bytes] = 0;
    d->name = path_format("%s", name);
    d->text = copy;
    d->bytes = bytes;
    sqz_status st = check_utf8(d, err);
    if (st == SQZ_OK) {
        scanner s = {d, copy, 0, bytes, (flags & JSON_COMMENTS) != 0, err};
        st = scan_text(&s);
    }
    if (st == SQZ_OK) st = build_tree(d, err);
    if (st == SQZ_OK && (flags & JSON_NUMBER_TEXT)) st = keep_numbers(d, err);
    if (st != SQZ_OK) {
        json_free(d);
        return st;
    }
    *out = d;
    return SQZ_OK;
}

sqz_status json_read(const char *path, int64_t max_bytes, int flags, json_doc **out, sqz_error *err)
{
    char *text;
    int64_t bytes;
    sqz_status st = file_read(path, max_bytes, &text, &bytes, err);
    if (st != SQZ_OK) return st;
    st = json_parse(text, bytes, flags, path, out, err);
    free(text);
    return st;
}

cJSON *json_root(const json_doc *d)
{
    return d->root;
}

void json_where(const json_doc *d, const cJSON *item, int *line, int *column)
{
    *line = *column = 0;
    for (int64_t i = 0; item && i < d->n; i++)
        if (d->items[i] == item) {
            line_column(d, d->offsets[i], line, column);
            return;
        }
}

const char *json_name(const json_doc *d)
{
    return d->name;
}

void json_free(json_doc *d)
{
    if (!d) return;
    cJSON_Delete(d->root);
    free(d->offsets);
    free((void *)d->items);
    free(d->text);
    free(d->name);
    free(d);
}

/* ---- getters --------------------------------------------------------------------------------- */

cJSON *json_get(const cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

const char *json_str(const cJSON *object, const char *key, const char *fallback)
{
    const cJSON *v = json_get(object, key);
    return cJSON_IsString(v) && v->valuestring ? v->valuestring : fallback;
}

double json_num(const cJSON *object, const char *key, double fallback)
{
    const cJSON *v = json_get(object, key);
    return cJSON_IsNumber(v) ? v->valuedouble : fallback;
}

/* From valuedouble, because valueint saturates at 32 bits. */
int64_t json_int(const cJSON *object, const char *key, int64_t fallback)
{
    const cJSON *v = json_get(object, key);
    if (!cJSON_IsNumber(v)) return fallback;
    double d = v->valuedouble;
    if (!(d >= -0x1p63 && d < 0x1p63) || d != floor(d)) return fallback;
    return (int64_t)d;
}

int json_bool(const cJSON *object, const char *key, int fallback)
{
    const cJSON *v = json_get(object, key);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : fallback;
}

void json_add_num(cJSON *object, const char *key, double value)
{
    if (isfinite(value)) cJSON_AddNumberToObject(object, key, value);
}
