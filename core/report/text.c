/* text.c - see text.h. */
#include "report/text.h"
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- buffer ---------------------------------------------------------------------------------- */
static void reserve(txt *t, size_t more)
{
    if (t->n + more + 1 <= t->room) return;
    size_t room = t->room ? t->room : 4096;
    while (room < t->n + more + 1) room *= 2;
    char *grown = realloc(t->data, room);
    if (!grown) memory_failed("the report");
    t->data = grown;
    t->room = room;
}

static void put(txt *t, const char *s, size_t n)
{
    reserve(t, n);
    memcpy(t->data + t->n, s, n);
    t->data[t->n += n] = 0;
}

char *txt_take(txt *t)
{
    reserve(t, 0);
    t->data[t->n] = 0;
    char *data = t->data;
    *t = (txt){0};
    return data;
}

void txt_add(txt *t, const char *literal)
{
    put(t, literal, strlen(literal));
}

void txt_addf(txt *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    reserve(t, (size_t)n);
    vsnprintf(t->data + t->n, (size_t)n + 1, fmt, again);
    va_end(again);
    t->n += (size_t)n;
}

/* ---- escaping -------------------------------------------------------------------------------- */
/* The code point at s when it is one that nobody should see work: a C1 control (terminals take
 * U+009B for an escape sequence) or a mark that turns the direction of text; its bytes go to *n.
 * Else 0. */
static unsigned invisible(const char *s, int *n)
{
    const unsigned char *c = (const unsigned char *)s;
    unsigned code = 0;
    *n = 1;
    if ((c[0] == 0xc2 || c[0] == 0xd8) && (c[1] & 0xc0) == 0x80) {
        code = (c[0] & 0x1fu) << 6 | (c[1] & 0x3fu);
        *n = 2;
    } else if (c[0] == 0xe2 && (c[1] == 0x80 || c[1] == 0x81) && (c[2] & 0xc0) == 0x80) {
        code = 0x2000u | (c[1] & 0x3fu) << 6 | (c[2] & 0x3fu);
        *n = 3;
    }
    int bad = (code >= 0x80 && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
              (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
    return bad ? code : 0;
}

void txt_html(txt *t, const char *s)
{
    int n;
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (invisible(s, &n))
            txt_add(t, "\xef\xbf\xbd"), s += n - 1;
        else if (c == '&')
            txt_add(t, "&amp;");
        else if (c == '<')
            txt_add(t, "&lt;");
        else if (c == '>')
            txt_add(t, "&gt;");
        else if (c == '"')
            txt_add(t, "&quot;");
        else if (c == '\'')
            txt_add(t, "&#39;");
        else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            txt_add(t, "\xef\xbf\xbd");
        else
            put(t, s, 1);
    }
}

void txt_md(txt *t, const char *s)
{
    int n;
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (invisible(s, &n))
            txt_add(t, "\xef\xbf\xbd"), s += n - 1;
        else if (c == '<')
            txt_add(t, "&lt;");
        else if (c == '>')
            txt_add(t, "&gt;");
        else if (c == '&')
            txt_add(t, "&amp;");
        else if (c < 0x20 || c == 0x7f)
            txt_add(t, " ");
        else {
            if (strchr("\\`*_[]|#!", c)) txt_add(t, "\\");
            put(t, s, 1);
        }
    }
}

void txt_script_json(txt *t, const cJSON *v)
{
    char *text = json_text(v, 0);
    int n;
    unsigned code;
    for (const char *s = text ? text : "null"; *s; s++) {
        /* The HTML parser ends the element at </script and knows <!--; U+2028/9 end old JS lines.
         */
        if (*s == '<')
            txt_add(t, "\\u003c");
        else if (*s == '>')
            txt_add(t, "\\u003e");
        else if (*s == '&')
            txt_add(t, "\\u0026");
        else if (strncmp(s, "\xe2\x80\xa8", 3) == 0)
            txt_add(t, "\\u2028"), s += 2;
        else if (strncmp(s, "\xe2\x80\xa9", 3) == 0)
            txt_add(t, "\\u2029"), s += 2;
        else if ((code = invisible(s, &n)))
            txt_addf(t, "\\u%04x", code), s += n - 1;
        else
            put(t, s, 1);
    }
    free(text);
}

void txt_href(txt *t, const char *path)
{
    if (!path || !*path || *path == '/' || strstr(path, "..")) {
        txt_add(t, "#");
        return;
    }
    for (const char *s = path; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (isalnum(c) || strchr("-._~/", c))
            put(t, s, 1);
        else
            txt_addf(t, "%%%02X", c); /* also ':', so that no scheme can begin */
    }
}

/* ---- numbers --------------------------------------------------------------------------------- */
num show_bytes(double v)
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB"};
    num o = {"-"};
    int u = 0;
    if (!isfinite(v)) return o;
    while (fabs(v) >= 999.5 && u < 4) v /= 1000, u++;
    snprintf(o.s, sizeof o.s,
             u == 0            ? "%.0f %s"
             : fabs(v) < 9.995 ? "%.2f %s"
                               : "%.1f %s",
             v, names[u]);
    return o;
}

num show_seconds(double s)
{
    num o = {"-"};
    if (!isfinite(s) || s < 0) return o;
    if (s < 0.0995)
        snprintf(o.s, sizeof o.s, "%.1f ms", s * 1e3);
    else if (s < 59.5)
        snprintf(o.s, sizeof o.s, s < 9.95 ? "%.1f s" : "%.0f s", s);
    else if (s < 3599.5)
        snprintf(o.s, sizeof o.s, "%d min %02d s", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else
        snprintf(o.s, sizeof o.s, "%.0f h %02d min", floor(s / 3600), (int)(fmod(s, 3600) / 60));
    return o;
}

num show_ms(double v)
{
    num o = {"-"};
    if (isfinite(v))
        snprintf(o.s, sizeof o.s, v < 9.995 ? "%.2f ms" : v < 99.95 ? "%.1f ms" : "%.0f ms", v);
    return o;
}

num show_value(double v)
{
    num o = {"-"};
    double a = fabs(v);
    if (!isfinite(v)) return o;
    if (v == 0)
        snprintf(o.s, sizeof o.s, "0");
    else if (a >= 1e7 || a < 1e-4)
        snprintf(o.s, sizeof o.s, "%.3g", v);
    else {
        int decimals = 3 - (int)floor(log10(a));
        snprintf(o.s, sizeof o.s, "%.*f", decimals < 0 ? 0 : decimals > 6 ? 6 : decimals, v);
    }
    return o;
}

num show_signed(double v)
{
    num o = show_value(v), out = o;
    if (isfinite(v) && v > 0) snprintf(out.s, sizeof out.s, "+%.46s", o.s);
    return out;
}

num show_pm(double v, double se)
{
    if (!isfinite(v) || !isfinite(se) || se <= 0) return show_value(v);
    num o;
    int decimals = 1 - (int)floor(log10(se));
    if (decimals < 0) decimals = 0;
    if (decimals > 6) decimals = 6;
    snprintf(o.s, sizeof o.s, "%.*f \u00b1 %.*f", decimals, v, decimals, se);
    return o;
}
