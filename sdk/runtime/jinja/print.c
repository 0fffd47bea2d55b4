/* print.c - values as text: Python's str and repr, and JSON as its json module writes it. */
#include "jinja/chars.h"
#include "jinja/value.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 100 };

static void add_text(text_buffer *out, const char *text)
{
    text_add(out, text, (int64_t)strlen(text));
}

/* ---- str and repr ---------------------------------------------------------------------------- */

static void repr_char(text_buffer *out, uint32_t c, char quote)
{
    char escape[16];
    if (c == (uint32_t)quote || c == '\\')
        snprintf(escape, sizeof escape, "\\%c", (char)c);
    else if (c == '\n' || c == '\r' || c == '\t')
        snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else if (char_printable(c)) {
        text_add_char(out, c);
        return;
    } else if (c < 0x100)
        snprintf(escape, sizeof escape, "\\x%02x", c);
    else
        snprintf(escape, sizeof escape, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    add_text(out, escape);
}

static void repr_str(value v, text_buffer *out)
{
    char quote =
        v.n && memchr(v.at, '\'', (size_t)v.n) && !memchr(v.at, '"', (size_t)v.n) ? '"' : '\'';
    text_add(out, &quote, 1);
    for (int64_t i = 0; i < v.n;) {
        uint32_t c;
        int k = utf8_next(v.at + i, v.n - i, &c);
        if (!k) break;
        repr_char(out, c, quote);
        i += k;
    }
    text_add(out, &quote, 1);
}

static void repr_items(run *r, value v, text_buffer *out, int depth)
{
    add_text(out, v.type == V_TUPLE ? "(" : "[");
    for (int64_t i = 0; i < v.list->n && !r->failed; i++) {
        if (i) add_text(out, ", ");
        value_repr(r, v.list->at[i], out, depth + 1);
    }
    if (v.type == V_TUPLE && v.list->n == 1) add_text(out, ",");
    add_text(out, v.type == V_TUPLE ? ")" : "]");
}

static void repr_dict(run *r, const dict *d, text_buffer *out, int depth)
{
    add_text(out, "{");
    for (int64_t i = 0; i < d->n && !r->failed; i++) {
        if (i) add_text(out, ", ");
        value_repr(r, d->at[i].key, out, depth + 1);
        add_text(out, ": ");
        value_repr(r, d->at[i].value, out, depth + 1);
    }
    add_text(out, "}");
}

void value_repr(run *r, value v, text_buffer *out, int depth)
{
    static const char *const views[] = {"dict_keys(", "dict_values(", "dict_items("};
    char number[40];
    if (!render_step(r, 1 + (v.type == V_STR ? v.n / 16 : 0))) return;
    if (depth > MAX_NESTING) {
        render_fail(r, ERR_MODEL, "a value is nested too deeply to print");
        return;
    }
    switch ((value_type)v.type) {
    case V_NONE: add_text(out, "None"); return;
    case V_BOOL: add_text(out, v.i ? "True" : "False"); return;
    case V_INT:
        snprintf(number, sizeof number, "%lld", (long long)v.i);
        add_text(out, number);
        return;
    case V_FLOAT:
        float_text(v.f, number);
        add_text(out, number);
        return;
    case V_STR:
        if (v.markup) break;
        repr_str(v, out);
        return;
    case V_LIST:
    case V_TUPLE: repr_items(r, v, out, depth); return;
    case V_DICT: repr_dict(r, v.dict, out, depth); return;
    case V_VIEW:
        add_text(out, views[v.which]);
        repr_items(r, (value){.type = V_LIST, .list = v.list}, out, depth);
        add_text(out, ")");
        return;
    case V_UNDEFINED: add_text(out, "Undefined"); return;
    default: break;
    }
    render_fail(r, SQZ_E_UNSUPPORTED, "%s cannot be printed", value_word(v));
}

void value_print(run *r, value v, text_buffer *out)
{
    if (v.type == V_STR)
        text_add(out, v.at, render_step(r, v.n / 64) ? v.n : 0);
    else if (v.type != V_UNDEFINED)
        value_repr(r, v, out, 0);
}

value value_to_str(run *r, value v)
{
    if (v.type == V_STR) return v;
    text_buffer text = {0};
    value_print(r, v, &text);
    return value_take(r, &text);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_char(text_buffer *out, uint32_t c, int ascii)
{
    static const char plain[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    const char *hit = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
    char escape[16];
    if (hit)
        snprintf(escape, sizeof escape, "\\%c", letter[hit - plain]);
    else if (c >= 0x10000 && ascii)
        snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                 0xDC00 + ((c - 0x10000) & 0x3FF));
    else if (c < 0x20 || (ascii && c > 0x7E))
        snprintf(escape, sizeof escape, "\\u%04x", c);
    else {
        text_add_char(out, c);
        return;
    }
    add_text(out, escape);
}

static void json_str_text(value v, const json_style *s, text_buffer *out)
{
    add_text(out, "\"");
    for (int64_t i = 0; i < v.n;) {
        uint32_t c;
        int k = utf8_next(v.at + i, v.n - i, &c);
        if (!k) break;
        json_char(out, c, s->ascii);
        i += k;
    }
    add_text(out, "\"");
}

static void json_break(const json_style *s, text_buffer *out, int depth)
{
    if (!s->indent) return;
    add_text(out, "\n");
    for (int i = 0; i < depth; i++) text_add(out, s->indent, s->n_indent);
}

static void json_number(value v, text_buffer *out)
{
    char number[40];
    if (v.type == V_INT)
        snprintf(number, sizeof number, "%lld", (long long)v.i);
    else if (!isfinite(v.f))
        snprintf(number, sizeof number, "%s",
                 isnan(v.f) ? "NaN"
                 : v.f > 0  ? "Infinity"
                            : "-Infinity");
    else
        float_text(v.f, number);
    add_text(out, number);
}

/* Keys of other types become the text of their value. */
static void json_key(run *r, value key, const json_style *s, text_buffer *out)
{
    if (key.type == V_STR) {
        json_str_text(key, s, out);
    } else if (key.type == V_NONE || value_is_number(key)) {
        add_text(out, "\"");
        value_json(r, key, s, out, 0);
        add_text(out, "\"");
    } else {
        render_fail(r, ERR_MODEL, "tojson: a key cannot be %s", value_word(key));
    }
}

typedef struct sorter {
    run *r;
} sorter;

static int by_key(const void *a, const void *b, void *ctx)
{
    run *r = ((sorter *)ctx)->r;
    value x = ((const entry *)a)->key, y = ((const entry *)b)->key;
    return value_less(r, x, y, 0) ? -1 : value_less(r, y, x, 0);
}

static const entry *sorted_entries(run *r, const dict *d, const json_style *s)
{
    if (!s->sort || d->n < 2) return d->at;
    entry *copy = arena_take(&r->memory, d->n * (int64_t)sizeof *copy);
    if (!copy) {
        render_fail(r, SQZ_E_NOMEM, "tojson: no memory to sort");
        return d->at;
    }
    memcpy(copy, d->at, (size_t)d->n * sizeof *copy);
    qsort_r(copy, (size_t)d->n, sizeof *copy, by_key, &(sorter){r});
    return copy;
}

static void json_items(run *r, value v, const json_style *s, text_buffer *out, int depth)
{
    int is_dict = v.type == V_DICT;
    int64_t n = is_dict ? v.dict->n : v.list->n;
    const entry *entries = is_dict ? sorted_entries(r, v.dict, s) : NULL;
    add_text(out, is_dict ? "{" : "[");
    for (int64_t i = 0; i < n && !r->failed; i++) {
        if (i) text_add(out, s->item_separator.at, s->item_separator.n);
        json_break(s, out, depth + 1);
        if (is_dict) {
            json_key(r, entries[i].key, s, out);
            text_add(out, s->key_separator.at, s->key_separator.n);
        }
        value_json(r, is_dict ? entries[i].value : v.list->at[i], s, out, depth + 1);
    }
    if (n) json_break(s, out, depth);
    add_text(out, is_dict ? "}" : "]");
}

void value_json(run *r, value v, const json_style *s, text_buffer *out, int depth)
{
    if (!render_step(r, 1 + (v.type == V_STR ? v.n / 16 : 0))) return;
    if (depth > MAX_NESTING || out->n > r->output_limit) {
        render_fail(r, ERR_MODEL, "tojson: the value is too deep or too large");
        return;
    }
    switch ((value_type)v.type) {
    case V_NONE: add_text(out, "null"); return;
    case V_BOOL: add_text(out, v.i ? "true" : "false"); return;
    case V_INT:
    case V_FLOAT: json_number(v, out); return;
    case V_STR: json_str_text(v, s, out); return;
    case V_LIST:
    case V_TUPLE:
    case V_DICT: json_items(r, v, s, out, depth); return;
    default: render_fail(r, ERR_MODEL, "tojson: %s is no JSON value", value_word(v));
    }
}
