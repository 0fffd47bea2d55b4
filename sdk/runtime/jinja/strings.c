/* strings.c - the methods of Python's str that templates use. */
#include "jinja/builtin.h"
#include "jinja/chars.h"
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>

/* ---- parts ----------------------------------------------------------------------------------- */

static value part(value text, int64_t from, int64_t to)
{
    value v = value_str(text.at + from, to - from);
    v.markup = text.markup;
    return v;
}

/* Is one of the characters of `set` at s?  Its length, or 0. */
static int one_of(const char *s, int64_t n, value set)
{
    int k = n > 0 ? char_length((unsigned char)s[0]) : 0;
    for (int64_t i = 0; k && i < set.n; i += char_length((unsigned char)set.at[i]))
        if (char_length((unsigned char)set.at[i]) == k && !memcmp(s, set.at + i, (size_t)k))
            return k;
    return 0;
}

static int one_of_before(const char *s, int64_t n, value set)
{
    int k = 1;
    while (k < 4 && k < n && ((unsigned char)s[n - k] & 0xC0) == 0x80) k++;
    return n > 0 ? one_of(s + n - k, k, set) : 0;
}

value str_strip(run *r, value text, value chars, strip_side side)
{
    int64_t from = 0, to = text.n;
    int spaces = chars.type != V_STR, k;
    if (spaces && chars.type != V_NONE && chars.type != V_UNDEFINED)
        return render_fail(r, ERR_MODEL, "strip takes a string, not %s", value_word(chars));
    if (!render_step(r, spaces ? 1 : 1 + chars.n / 8)) return text;
    if (side & STRIP_LEFT)
        while ((k = spaces ? space_at(text.at + from, to - from)
                           : one_of(text.at + from, to - from, chars)))
            from += k;
    if (side & STRIP_RIGHT)
        while ((k = spaces ? space_before(text.at + from, to - from)
                           : one_of_before(text.at + from, to - from, chars)))
            to -= k;
    return part(text, from, to);
}

value str_case(run *r, value text, int how)
{
    text_buffer out = {0};
    if (render_step(r, text.n / 8)) text_add_case(&out, text.at, text.n, (text_case)how);
    value v = value_take(r, &out);
    v.markup = text.markup;
    return v;
}

static int64_t find(value text, int64_t from, value what)
{
    if (from > text.n) return -1;
    if (!what.n) return from;
    const char *hit = memmem(text.at + from, (size_t)(text.n - from), what.at, (size_t)what.n);
    return hit ? hit - text.at : -1;
}

/* Last occurrence that ends at or before `to`, or -1. */
static int64_t find_last(value text, int64_t to, value what)
{
    for (int64_t at = to - what.n; at >= 0; at--)
        if (!memcmp(text.at + at, what.at, (size_t)what.n) &&
            (at == text.n || ((unsigned char)text.at[at] & 0xC0) != 0x80))
            return at;
    return -1;
}

/* count < 0: all. */
value str_replace(run *r, value text, value old, value new, int64_t count)
{
    text_buffer out = {0};
    int64_t at = 0;
    while (count != 0 && render_step(r, 1)) {
        int64_t hit = find(text, at, old);
        if (hit < 0 || (!old.n && hit > text.n)) break;
        text_add(&out, text.at + at, hit - at);
        text_add(&out, new.at, new.n);
        at = hit + old.n;
        if (!old.n) { /* between all characters, and at the end */
            if (at >= text.n) {
                at = text.n;
                break;
            }
            int k = char_length((unsigned char)text.at[at]);
            text_add(&out, text.at + at, k);
            at += k;
        }
        if (count > 0) count--;
        if (out.n > r->output_limit) render_fail(r, ERR_MODEL, "a string longer than the limit");
    }
    text_add(&out, text.at + at, text.n - at);
    return value_take(r, &out);
}

/* Items must be strings. */
static value join_strings(run *r, value glue, value items)
{
    text_buffer out = {0};
    items = value_iterate(r, items);
    for (int64_t i = 0; !r->failed && i < items.list->n; i++) {
        value v = argument_str(r, "join", items.list->at[i]);
        if (i) text_add(&out, glue.at, glue.n);
        text_add(&out, v.at, v.n);
        if (out.n > r->output_limit) render_fail(r, ERR_MODEL, "a string longer than the limit");
    }
    return value_take(r, &out);
}

value str_join(run *r, value glue, value items)
{
    value texts = value_list_new(r, V_LIST, 0);
    items = value_iterate(r, items);
    for (int64_t i = 0; !r->failed && i < items.list->n; i++)
        list_add(r, texts.list, value_to_str(r, items.list->at[i]));
    return r->failed ? glue : join_strings(r, glue, texts);
}

/* ---- splitting ------------------------------------------------------------------------------- */

static value split_spaces(run *r, value text, int64_t most)
{
    value out = value_list_new(r, V_LIST, 0);
    int64_t at = 0;
    for (int k; !r->failed;) {
        while ((k = space_at(text.at + at, text.n - at))) at += k;
        if (at >= text.n) break;
        if (most == 0) { /* the rest as it is */
            list_add(r, out.list, part(text, at, text.n));
            break;
        }
        int64_t from = at;
        while (at < text.n && !space_at(text.at + at, text.n - at))
            at += char_length((unsigned char)text.at[at]);
        list_add(r, out.list, part(text, from, at));
        if (most > 0) most--;
    }
    return out;
}

static value split(run *r, value text, value by, int64_t most)
{
    value out = value_list_new(r, V_LIST, 0);
    int64_t at = 0, hit;
    if (!by.n) return render_fail(r, ERR_MODEL, "split by an empty string");
    while (!r->failed && most != 0 && (hit = find(text, at, by)) >= 0) {
        list_add(r, out.list, part(text, at, hit));
        at = hit + by.n;
        if (most > 0) most--;
    }
    if (!r->failed) list_add(r, out.list, part(text, at, text.n));
    return out;
}

static void reverse_list(list *l)
{
    for (int64_t i = 0, k = l->n - 1; i < k; i++, k--) {
        value v = l->at[i];
        l->at[i] = l->at[k];
        l->at[k] = v;
    }
}

static value split_from_right(run *r, value text, value by, int64_t most)
{
    value out = value_list_new(r, V_LIST, 0);
    int64_t end = text.n, hit;
    if (!by.n) return render_fail(r, ERR_MODEL, "split by an empty string");
    if (!render_step(r, text.n / 8)) return out;
    while (!r->failed && most != 0 && (hit = find_last(text, end, by)) >= 0) {
        list_add(r, out.list, part(text, hit + by.n, end));
        end = hit;
        if (most > 0) most--;
    }
    if (r->failed) return out;
    list_add(r, out.list, part(text, 0, end));
    if (!r->failed) reverse_list(out.list);
    return out;
}

static value split_spaces_from_right(run *r, value text, int64_t most)
{
    value out = value_list_new(r, V_LIST, 0);
    int64_t end = text.n;
    for (int k; !r->failed;) {
        while ((k = space_before(text.at, end))) end -= k;
        if (end <= 0) break;
        int64_t from = end;
        if (most == 0) {
            list_add(r, out.list, part(text, 0, end));
            break;
        }
        while (from > 0 && !space_before(text.at, from)) from--;
        list_add(r, out.list, part(text, from, end));
        end = from;
        if (most > 0) most--;
    }
    if (!r->failed) reverse_list(out.list);
    return out;
}

/* Length of the line end at s (those of str.splitlines), or 0. */
static int line_end(const char *s, int64_t n)
{
    unsigned char c = n > 0 ? (unsigned char)s[0] : 0;
    if (c == '\r') return n > 1 && s[1] == '\n' ? 2 : 1;
    if (c == '\n' || c == 0x0B || c == 0x0C || (c >= 0x1C && c <= 0x1E)) return n > 0;
    if (n > 1 && c == 0xC2 && (unsigned char)s[1] == 0x85) return 2;
    if (n > 2 && c == 0xE2 && (unsigned char)s[1] == 0x80 && ((unsigned char)s[2] & 0xFE) == 0xA8)
        return 3;
    return 0;
}

value str_lines(run *r, value text, int keep_ends)
{
    value out = value_list_new(r, V_LIST, 0);
    for (int64_t at = 0, from = 0; !r->failed && from < text.n;) {
        int k = 0;
        while (at < text.n && !(k = line_end(text.at + at, text.n - at))) at++;
        list_add(r, out.list, part(text, from, at + (keep_ends ? k : 0)));
        from = at = at + k;
    }
    return out;
}

static value partition(run *r, value text, value by, int from_right)
{
    value out = value_list_new(r, V_TUPLE, 3);
    int64_t hit = from_right ? find_last(text, text.n, by) : find(text, 0, by);
    if (!by.n) render_fail(r, ERR_MODEL, "partition by an empty string");
    if (r->failed) return out;
    value empty = value_str("", 0);
    if (hit >= 0) {
        list_add(r, out.list, part(text, 0, hit));
        list_add(r, out.list, by);
        list_add(r, out.list, part(text, hit + by.n, text.n));
    } else {
        list_add(r, out.list, from_right ? empty : text);
        list_add(r, out.list, empty);
        list_add(r, out.list, from_right ? text : empty);
    }
    return out;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int at_end(value text, value what, int end)
{
    if (what.n > text.n) return 0;
    return !what.n || !memcmp(text.at + (end ? text.n - what.n : 0), what.at, (size_t)what.n);
}

static value at_one_end(run *r, value self, const arguments *a, int end)
{
    value what = a->at[0];
    if (a->n > 1)
        return render_fail(r, SQZ_E_UNSUPPORTED, "startswith with a start is not supported");
    if (what.type != V_TUPLE)
        return value_bool(at_end(self, argument_str(r, "startswith", what), end));
    for (int64_t i = 0; i < what.list->n && !r->failed; i++)
        if (at_end(self, argument_str(r, "startswith", what.list->at[i]), end))
            return value_bool(1);
    return value_bool(0);
}

static value count_of(run *r, value self, value what)
{
    int64_t n = 0, at = 0, hit;
    if (!what.n) return value_int(chars_count(self.at, self.n) + 1);
    while (render_step(r, 1) && (hit = find(self, at, what)) >= 0) {
        n++;
        at = hit + what.n;
    }
    return value_int(n);
}

typedef enum whole { ALL_DIGIT, ALL_ALPHA, ALL_ALNUM, ALL_SPACE, ALL_UPPER, ALL_LOWER } whole;

static value is_all(run *r, value self, whole what)
{
    int cased = 0;
    if (!render_step(r, self.n / 8)) return self;
    for (int64_t i = 0; i < self.n;) {
        uint32_t c = 0;
        int k = utf8_next(self.at + i, self.n - i, &c), ok = 1;
        int alpha =
            char_is(c, CHAR_WORD) && !char_is(c, CHAR_NUMBER) && !char_is(c, CHAR_MARK) && c != '_';
        if (c >= 0x80 && what <= ALL_ALNUM && !alpha)
            return render_fail(r, SQZ_E_UNSUPPORTED,
                               "digits and signs beyond ASCII are not classified");
        if (what == ALL_DIGIT) ok = c >= '0' && c <= '9';
        if (what == ALL_ALPHA) ok = alpha;
        if (what == ALL_ALNUM) ok = alpha || (c >= '0' && c <= '9');
        if (what == ALL_SPACE) ok = space_at(self.at + i, self.n - i) > 0;
        if (what == ALL_UPPER) ok = !char_is_lower(c);
        if (what == ALL_LOWER) ok = !char_is_upper(c);
        cased |= char_is_lower(c) || char_is_upper(c);
        if (!ok || !k) return value_bool(0);
        i += k;
    }
    return value_bool(self.n > 0 && (what < ALL_UPPER || cased));
}

/* find and rfind count characters. */
static value position(run *r, value self, const arguments *a, int last, int must)
{
    value what = argument_str(r, "find", a->at[0]);
    if (a->n > 1) return render_fail(r, SQZ_E_UNSUPPORTED, "find with a start is not supported");
    if (r->failed || !render_step(r, self.n / 8)) return self;
    int64_t hit = last ? find_last(self, self.n, what) : find(self, 0, what);
    if (hit < 0 && must) return render_fail(r, ERR_MODEL, "index: the string is not there");
    return value_int(hit < 0 ? -1 : chars_count(self.at, hit));
}

static value pad(run *r, value self, const arguments *a, int left, int right)
{
    int64_t width = argument_int(r, "width", a->at[0]);
    value fill = argument_str(r, "fill", argument(a, 1, NULL, value_str(" ", 1)));
    int64_t missing = r->failed ? 0 : width - value_length(r, self);
    if (r->failed || missing <= 0) return self;
    if (missing > r->output_limit)
        return render_fail(r, ERR_MODEL, "a string longer than the limit");
    int64_t before = left && right ? missing / 2 + (missing & width & 1) : left ? missing : 0;
    text_buffer out = {0};
    for (int64_t i = 0; i < before; i++) text_add(&out, fill.at, fill.n);
    text_add(&out, self.at, self.n);
    for (int64_t i = before; i < missing; i++) text_add(&out, fill.at, fill.n);
    return value_take(r, &out);
}

/* ---- the table ------------------------------------------------------------------------------- */

typedef enum method {
    M_STRIP,
    M_LSTRIP,
    M_RSTRIP,
    M_UPPER,
    M_LOWER,
    M_TITLE,
    M_CAPITALIZE,
    M_SPLIT,
    M_RSPLIT,
    M_SPLITLINES,
    M_STARTSWITH,
    M_ENDSWITH,
    M_REPLACE,
    M_JOIN,
    M_COUNT,
    M_FIND,
    M_RFIND,
    M_INDEX,
    M_RINDEX,
    M_PARTITION,
    M_RPARTITION,
    M_REMOVEPREFIX,
    M_REMOVESUFFIX,
    M_ISDIGIT,
    M_ISALPHA,
    M_ISALNUM,
    M_ISSPACE,
    M_ISUPPER,
    M_ISLOWER,
    M_LJUST,
    M_RJUST,
    M_CENTER
} method;

static const struct {
    const char *name;
    method method;
    int least;         /* arguments */
    const char *names; /* that may be given by position (and by name where Python allows) */
} methods[] = {
    {"strip", M_STRIP, 0, "chars"},
    {"lstrip", M_LSTRIP, 0, "chars"},
    {"rstrip", M_RSTRIP, 0, "chars"},
    {"upper", M_UPPER, 0, ""},
    {"lower", M_LOWER, 0, ""},
    {"title", M_TITLE, 0, ""},
    {"capitalize", M_CAPITALIZE, 0, ""},
    {"split", M_SPLIT, 0, "sep maxsplit"},
    {"rsplit", M_RSPLIT, 0, "sep maxsplit"},
    {"splitlines", M_SPLITLINES, 0, "keepends"},
    {"startswith", M_STARTSWITH, 1, "prefix start end"},
    {"endswith", M_ENDSWITH, 1, "suffix start end"},
    {"replace", M_REPLACE, 2, "old new count"},
    {"join", M_JOIN, 1, "iterable"},
    {"count", M_COUNT, 1, "sub"},
    {"find", M_FIND, 1, "sub start end"},
    {"rfind", M_RFIND, 1, "sub start end"},
    {"index", M_INDEX, 1, "sub start end"},
    {"rindex", M_RINDEX, 1, "sub start end"},
    {"partition", M_PARTITION, 1, "sep"},
    {"rpartition", M_RPARTITION, 1, "sep"},
    {"removeprefix", M_REMOVEPREFIX, 1, "prefix"},
    {"removesuffix", M_REMOVESUFFIX, 1, "suffix"},
    {"isdigit", M_ISDIGIT, 0, ""},
    {"isalpha", M_ISALPHA, 0, ""},
    {"isalnum", M_ISALNUM, 0, ""},
    {"isspace", M_ISSPACE, 0, ""},
    {"isupper", M_ISUPPER, 0, ""},
    {"islower", M_ISLOWER, 0, ""},
    {"ljust", M_LJUST, 1, "width fillchar"},
    {"rjust", M_RJUST, 1, "width fillchar"},
    {"center", M_CENTER, 1, "width fillchar"},
};

int string_method_find(const char *name, int64_t n)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strlen(methods[i].name) == (size_t)n && !memcmp(methods[i].name, name, (size_t)n))
            return (int)i;
    return -1;
}

int string_method_known(const char *name, int64_t n)
{
    static const char *const others[] = {"casefold",   "encode",    "expandtabs",  "format",
                                         "format_map", "isascii",   "isdecimal",   "isidentifier",
                                         "isnumeric",  "istitle",   "isprintable", "maketrans",
                                         "swapcase",   "translate", "zfill"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strlen(others[i]) == (size_t)n && !memcmp(others[i], name, (size_t)n)) return 1;
    return 0;
}

static value call_split(run *r, value self, const arguments *a, int from_right)
{
    value by = argument(a, 0, "sep", value_none());
    int64_t most = argument_int(r, "maxsplit", argument(a, 1, "maxsplit", value_int(-1)));
    if (r->failed) return self;
    if (by.type == V_NONE)
        return from_right ? split_spaces_from_right(r, self, most) : split_spaces(r, self, most);
    by = argument_str(r, "split", by);
    if (r->failed) return self;
    return from_right ? split_from_right(r, self, by, most) : split(r, self, by, most);
}

static value call_replace(run *r, value self, const arguments *a)
{
    value old = argument_str(r, "replace", argument(a, 0, "old", value_none()));
    value new = argument_str(r, "replace", argument(a, 1, "new", value_none()));
    int64_t count = argument_int(r, "count", argument(a, 2, "count", value_int(-1)));
    return r->failed ? self : str_replace(r, self, old, new, count);
}

static value call_text(run *r, method m, value self, const arguments *a)
{
    value what = argument_str(r, "a string method", a->at[0]);
    if (r->failed) return self;
    switch (m) {
    case M_COUNT: return count_of(r, self, what);
    case M_PARTITION: return partition(r, self, what, 0);
    case M_RPARTITION: return partition(r, self, what, 1);
    case M_REMOVEPREFIX: return at_end(self, what, 0) ? part(self, what.n, self.n) : self;
    default: return at_end(self, what, 1) ? part(self, 0, self.n - what.n) : self;
    }
}

value string_method_call(run *r, int which, value self, const arguments *a)
{
    method m = methods[which].method;
    if (!arguments_check(r, methods[which].name, a, methods[which].least, methods[which].names))
        return self;
    if (self.markup && m > M_CAPITALIZE)
        return render_fail(r, SQZ_E_UNSUPPORTED, "%s of a string from |safe is not supported",
                           methods[which].name);
    value first = argument(a, 0, "chars", value_none());
    switch (m) {
    case M_STRIP: return str_strip(r, self, first, STRIP_BOTH);
    case M_LSTRIP: return str_strip(r, self, first, STRIP_LEFT);
    case M_RSTRIP: return str_strip(r, self, first, STRIP_RIGHT);
    case M_UPPER: return str_case(r, self, CASE_UPPER);
    case M_LOWER: return str_case(r, self, CASE_LOWER);
    case M_TITLE: return str_case(r, self, CASE_TITLE);
    case M_CAPITALIZE: return str_case(r, self, CASE_CAPITAL);
    case M_SPLIT: return call_split(r, self, a, 0);
    case M_RSPLIT: return call_split(r, self, a, 1);
    case M_SPLITLINES:
        return str_lines(r, self, value_true(argument(a, 0, "keepends", value_none())));
    case M_STARTSWITH: return at_one_end(r, self, a, 0);
    case M_ENDSWITH: return at_one_end(r, self, a, 1);
    case M_REPLACE: return call_replace(r, self, a);
    case M_JOIN: return join_strings(r, self, first);
    case M_FIND: return position(r, self, a, 0, 0);
    case M_RFIND: return position(r, self, a, 1, 0);
    case M_INDEX: return position(r, self, a, 0, 1);
    case M_RINDEX: return position(r, self, a, 1, 1);
    case M_LJUST: return pad(r, self, a, 0, 1);
    case M_RJUST: return pad(r, self, a, 1, 0);
    case M_CENTER: return pad(r, self, a, 1, 1);
    case M_ISDIGIT: return is_all(r, self, ALL_DIGIT);
    case M_ISALPHA: return is_all(r, self, ALL_ALPHA);
    case M_ISALNUM: return is_all(r, self, ALL_ALNUM);
    case M_ISSPACE: return is_all(r, self, ALL_SPACE);
    case M_ISUPPER: return is_all(r, self, ALL_UPPER);
    case M_ISLOWER: return is_all(r, self, ALL_LOWER);
    default: return call_text(r, m, self, a);
    }
}
