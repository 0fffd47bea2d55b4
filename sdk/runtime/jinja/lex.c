/* lex.c - a template's source as tokens, with Jinja's rules about the white space around tags.
 *
 * trim_blocks: the first line end after a block or comment goes; lstrip_blocks: white space
 * between the start of a line and a block or comment goes; a minus sign beside the tag takes all
 * white space on that side, a plus sign keeps it.  One line end at the end of the source goes. */
#include "jinja/ast.h"
#include "jinja/chars.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    run *r;
    const char *p;
    int64_t at, end;
    int64_t counted; /* line ends before this offset are in r->line */
    int line_start;  /* does a line begin at `at`? */
    token_list *out;
} lexer;

static void mark_line(lexer *l, int64_t offset)
{
    for (; l->counted < offset; l->counted++) l->r->line += l->p[l->counted] == '\n';
}

static int starts(const lexer *l, int64_t at, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(l->end - at) >= n && !memcmp(l->p + at, text, n);
}

static int64_t skip_space(const lexer *l, int64_t at)
{
    for (int k; (k = space_at(l->p + at, l->end - at));) at += k;
    return at;
}

static token *add(lexer *l, token_type type, int64_t from, int64_t to)
{
    token_list *list = l->out;
    mark_line(l, from);
    if (list->n == list->room) {
        int64_t room = list->room ? list->room * 2 : 64;
        token *at = arena_take(&l->r->memory, room * (int64_t)sizeof *at);
        if (!at) {
            render_fail(l->r, SQZ_E_NOMEM, "the template is too large");
            return NULL;
        }
        if (list->n) memcpy(at, list->at, (size_t)list->n * sizeof *at);
        list->at = at;
        list->room = room;
    }
    list->at[list->n] =
        (token){.type = type, .line = l->r->line, .at = l->p + from, .n = to - from};
    return &list->at[list->n++];
}

/* ---- text between tags ----------------------------------------------------------------------- */

/* Text up to a tag that begins at `tag` with the given sign. */
static void add_text(lexer *l, int64_t tag, char sign, int strips)
{
    int64_t from = l->at, to = tag;
    if (sign == '-') {
        for (int k; (k = space_before(l->p + from, to - from));) to -= k;
    } else if (sign != '+' && strips) {
        int64_t line = to;
        while (line > from && l->p[line - 1] != '\n') line--;
        if ((line > from || l->line_start) && skip_space(l, line) >= to) to = line;
    }
    if (to > from) add(l, T_DATA, from, to);
}

/* Length of the end of a tag at `at` (with the white space that it takes), or 0. */
static int64_t tag_end(const lexer *l, int64_t at, const char *close)
{
    int64_t from = at;
    char sign = at < l->end && (l->p[at] == '-' || l->p[at] == '+') ? l->p[at] : 0;
    if (sign == '+' && close[0] == '}') return 0; /* no such thing after an expression */
    if (sign) at++;
    if (!starts(l, at, close)) return 0;
    at += 2;
    if (sign == '-')
        at = skip_space(l, at);
    else if (!sign && close[0] != '}' && at < l->end && l->p[at] == '\n')
        at++;
    return at - from;
}

static char sign_at(const lexer *l, int64_t at)
{
    return at < l->end && (l->p[at] == '-' || l->p[at] == '+') ? l->p[at] : 0;
}

static void lex_comment(lexer *l, int64_t tag)
{
    char sign = sign_at(l, tag + 2);
    add_text(l, tag, sign, 1);
    for (int64_t i = tag + 2 + (sign != 0); i < l->end; i++) {
        int64_t n = tag_end(l, i, "#}");
        if (!n) continue;
        l->at = i + n;
        l->line_start = l->p[l->at - 1] == '\n';
        return;
    }
    mark_line(l, tag);
    render_fail(l->r, ERR_MODEL, "a comment without its end, #}");
}

/* {% raw %} ... {% endraw %}: 1 when one begins here. */
static int64_t raw_tag(const lexer *l, int64_t tag, const char *word)
{
    int64_t at = skip_space(l, tag + 2 + (sign_at(l, tag + 2) != 0));
    if (!starts(l, at, word)) return 0;
    return skip_space(l, at + (int64_t)strlen(word));
}

static int lex_raw(lexer *l, int64_t tag)
{
    int64_t at = raw_tag(l, tag, "raw");
    if (!at) return 0;
    if (starts(l, at, "-%}"))
        at = skip_space(l, at + 3);
    else if (starts(l, at, "%}"))
        at += 2;
    else
        return 0;
    add_text(l, tag, sign_at(l, tag + 2), 1);
    l->at = at;
    l->line_start = l->p[at - 1] == '\n';
    for (int64_t i = at; i < l->end; i++) {
        int64_t close = starts(l, i, "{%") ? raw_tag(l, i, "endraw") : 0;
        int64_t n = close ? tag_end(l, close, "%}") : 0;
        if (!n) continue;
        add_text(l, i, sign_at(l, i + 2), 1);
        l->at = close + n;
        l->line_start = l->p[l->at - 1] == '\n';
        return 1;
    }
    mark_line(l, tag);
    if (at < l->end) render_fail(l->r, ERR_MODEL, "raw without endraw");
    return 1;
}

/* ---- inside of tags -------------------------------------------------------------------------- */

static uint32_t digits(const lexer *l, int64_t at, int n, int base, int64_t *next)
{
    uint32_t c = 0;
    int k = 0;
    for (; k < n && at + k < l->end && isxdigit((unsigned char)l->p[at + k]); k++) {
        char d = l->p[at + k];
        int v = d <= '9' ? d - '0' : (d | 32) - 'a' + 10;
        if (v >= base) break;
        c = c * (uint32_t)base + (uint32_t)v;
    }
    *next = base == 8 || k == n ? at + k : -1;
    return c;
}

/* One escape of a string literal, as Python reads it; at is behind the backslash. */
static int64_t lex_escape(lexer *l, int64_t at, text_buffer *out)
{
    static const char plain[] = "nrtabfv0\\'\"", means[] = "\n\r\t\a\b\f\v\0\\'\"";
    char c = l->p[at];
    const char *hit = c ? strchr(plain, c) : NULL;
    int64_t next = -1;
    uint32_t code = 0;
    if (c == '\n') return at + 1;
    if (c >= '0' && c <= '7')
        code = digits(l, at, 3, 8, &next);
    else if (hit) {
        text_add(out, &means[hit - plain], 1);
        return at + 1;
    } else if (c == 'x' || c == 'u' || c == 'U')
        code = digits(l, at + 1, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, &next);
    else if (c != 'N' && (unsigned char)c < 0x80) { /* Python keeps what it does not know */
        text_add(out, &l->p[at - 1], 2);
        return at + 1;
    }
    if (next < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        render_fail(l->r, SQZ_E_UNSUPPORTED, "the escape \\%c of this string is not supported",
                    c & 0x80 ? '?' : c);
    else
        text_add_char(out, code);
    return next < 0 ? at + 1 : next;
}

static void lex_string(lexer *l)
{
    char quote = l->p[l->at];
    int64_t i = l->at + 1;
    text_buffer text = {0};
    while (i < l->end && l->p[i] != quote && !l->r->failed) {
        if (l->p[i] == '\\' && i + 1 < l->end)
            i = lex_escape(l, i + 1, &text);
        else
            text_add(&text, &l->p[i++], 1);
    }
    if (i >= l->end && !l->r->failed) render_fail(l->r, ERR_MODEL, "a string without its end");
    token *t = l->r->failed ? NULL : add(l, T_STRING, l->at, i + 1);
    value v = value_take(l->r, &text);
    if (t) t->value = v;
    l->at = i + 1;
}

static int64_t digit_run(const lexer *l, int64_t at)
{
    while (at < l->end &&
           (isdigit((unsigned char)l->p[at]) ||
            (l->p[at] == '_' && at + 1 < l->end && isdigit((unsigned char)l->p[at + 1]))))
        at++;
    return at;
}

static void lex_number(lexer *l)
{
    int64_t from = l->at, to = digit_run(l, from), e = 0;
    int real = 0, after_dot = from > 0 && l->p[from - 1] == '.';
    if (!after_dot && to + 1 < l->end && l->p[to] == '.' && isdigit((unsigned char)l->p[to + 1])) {
        to = digit_run(l, to + 1);
        real = 1;
    }
    if (!after_dot && to < l->end && (l->p[to] | 32) == 'e') {
        e = to + 1 + (to + 1 < l->end && (l->p[to + 1] == '+' || l->p[to + 1] == '-'));
        if (e < l->end && isdigit((unsigned char)l->p[e])) {
            to = digit_run(l, e);
            real = 1;
        }
    }
    char text[64];
    size_t n = 0;
    for (int64_t i = from; i < to && n < sizeof text - 1; i++)
        if (l->p[i] != '_') text[n++] = l->p[i];
    text[n] = 0;
    errno = 0;
    long long integer = strtoll(text, NULL, 10);
    int ok = !(to < l->end && isalnum((unsigned char)l->p[to])) && n < sizeof text - 1 &&
             (real || (!errno && (text[0] != '0' || strspn(text, "0") == n)));
    token *t = ok ? add(l, T_NUMBER, from, to) : NULL;
    if (t) t->value = real ? value_float(strtod(text, NULL)) : value_int(integer);
    if (!ok) render_fail(l->r, SQZ_E_UNSUPPORTED, "the number %s... is not supported", text);
    l->at = to;
}

static void lex_sign(lexer *l, char *open, int *depth, int room)
{
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = l->p[l->at];
    int64_t n = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (starts(l, l->at, pairs[i])) n = 2;
    if (!c || !strchr("+-/*%~[](){}=><.:|,;!", c) || (c == '!' && n == 1)) {
        render_fail(l->r, ERR_MODEL, "the character '%c' has no meaning here",
                    c >= ' ' && c < 127 ? c : '?');
        return;
    }
    if (strchr("([{", c)) {
        if (*depth == room)
            render_fail(l->r, ERR_MODEL, "more than %d brackets inside each other", room);
        else
            open[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c) && (!*depth || open[--*depth] != c)) {
        render_fail(l->r, ERR_MODEL, "'%c' closes nothing that is open", c);
    }
    add(l, T_SIGN, l->at, l->at + n);
    l->at += n;
}

static void lex_inside(lexer *l, const char *close)
{
    char open[200];
    int depth = 0;
    while (!l->r->failed) {
        l->at = skip_space(l, l->at);
        mark_line(l, l->at);
        if (l->at >= l->end) {
            render_fail(l->r, ERR_MODEL, "a tag without its end, %s", close);
            return;
        }
        unsigned char c = (unsigned char)l->p[l->at];
        int64_t n = depth ? 0 : tag_end(l, l->at, close);
        if (n) {
            add(l, close[0] == '}' ? T_CLOSE : T_FINISH, l->at, l->at);
            l->at += n;
            l->line_start = l->p[l->at - 1] == '\n';
            return;
        }
        if (isdigit(c)) {
            lex_number(l);
        } else if (isalpha(c) || c == '_') {
            int64_t to = l->at;
            while (to < l->end && (isalnum((unsigned char)l->p[to]) || l->p[to] == '_')) to++;
            add(l, T_NAME, l->at, to);
            l->at = to;
        } else if (c == '"' || c == '\'') {
            lex_string(l);
        } else {
            lex_sign(l, open, &depth, (int)sizeof open);
        }
    }
}

/* ---- all ------------------------------------------------------------------------------------- */

void jinja_lex(run *r, const char *source, int64_t bytes, token_list *out)
{
    lexer l = {.r = r, .p = source, .end = bytes, .line_start = 1, .out = out};
    r->line = 1;
    while (!r->failed) {
        int64_t tag = l.at;
        while (tag + 1 < l.end &&
               !(source[tag] == '{' && strchr("{%#", source[tag + 1]) && source[tag + 1]))
            tag++;
        if (tag + 1 >= l.end) break;
        char kind = source[tag + 1];
        if (kind == '#') {
            lex_comment(&l, tag);
        } else if (kind == '{') {
            char sign = sign_at(&l, tag + 2);
            add_text(&l, tag, sign, 0);
            add(&l, T_OPEN, tag, tag);
            l.at = tag + 2 + (sign != 0);
            lex_inside(&l, "}}");
        } else if (!lex_raw(&l, tag)) {
            char sign = sign_at(&l, tag + 2);
            add_text(&l, tag, sign, 1);
            add(&l, T_BEGIN, tag, tag);
            l.at = tag + 2 + (sign != 0);
            lex_inside(&l, "%}");
        }
    }
    if (!r->failed && l.at < l.end) add(&l, T_DATA, l.at, l.end);
    add(&l, T_END, l.end, l.end);
}
