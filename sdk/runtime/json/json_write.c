/* json_write.c - JSON text: readable, or canonical (sorted keys, no spaces) for hashing; and the
 * nearest name for "did you mean".
 *
 * cJSON's own printer rounds numbers to 15 digits when they are "equal" within an epsilon; ours
 * prints the fewest digits that read back to the same double. */
#include "json/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    char *p;
    size_t n, room;
    int pretty, sorted;
} writer;

static void out_of_memory(void)
{
    memory_failed("JSON text");
}

static void put(writer *w, const char *text, size_t n)
{
    if (w->room - w->n < n + 1) {
        size_t room = w->room * 2 + n + 1;
        char *more = realloc(w->p, room);
        if (!more) out_of_memory();
        w->p = more;
        w->room = room;
    }
    memcpy(w->p + w->n, text, n);
    w->n += n;
    w->p[w->n] = 0;
}

static void put_text(writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_line(writer *w, int depth)
{
    if (!w->pretty) return;
    put(w, "\n", 1);
    for (int i = 0; i < depth; i++) put(w, "  ", 2);
}

static void put_number(writer *w, double v)
{
    char text[40];
    if (!isfinite(v)) { /* JSON has no word for it */
        put(w, "null", 4);
        return;
    }
    if (v == floor(v) && fabs(v) <= 0x1p53) {
        snprintf(text, sizeof text, "%.0f", v);
    } else {
        for (int digits = 15; digits <= 17; digits++) { /* %g drops trailing zeros */
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v) break;
        }
    }
    char *comma = strchr(text, ','); /* locales with a decimal comma */
    if (comma) *comma = '.';
    put_text(w, text);
}

/* Bytes of the well-formed UTF-8 sequence at p, or 0. */
static size_t sequence(const unsigned char *p)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] > 0xF4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0;
    if (p[0] == 0xED && p[1] > 0x9F) return 0;
    if (p[0] == 0xF0 && p[1] < 0x90) return 0;
    if (p[0] == 0xF4 && p[1] > 0x8F) return 0;
    return n;
}

static void put_string(writer *w, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    put(w, "\"", 1);
    while (*p) {
        size_t run = 0;
        while (p[run] >= 0x20 && p[run] < 0x80 && p[run] != '"' && p[run] != '\\') run++;
        put(w, (const char *)p, run);
        p += run;
        if (!*p) break;
        static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
        const char *found = strchr(plain, *p);
        size_t n = sequence(p);
        char escape[8];
        if (found) {
            snprintf(escape, sizeof escape, "\\%c", letter[found - plain]);
            put_text(w, escape);
        } else if (*p < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", *p);
            put_text(w, escape);
        } else if (n) {
            put(w, (const char *)p, n);
        } else { /* a path, say, with other bytes: keep the JSON valid */
            put_text(w, "\xEF\xBF\xBD");
        }
        p += n ? n : 1;
    }
    put(w, "\"", 1);
}

static int by_key(const void *a, const void *b)
{
    const cJSON *x = *(const cJSON *const *)a, *y = *(const cJSON *const *)b;
    return strcmp(x->string, y->string);
}

static void put_value(writer *w, const cJSON *v, int depth);

static void put_group(writer *w, const cJSON *group, int depth)
{
    int object = cJSON_IsObject(group);
    size_t n = 0, i = 0;
    for (const cJSON *c = group->child; c; c = c->next) n++;
    const cJSON **order = malloc((n ? n : 1) * sizeof *order);
    if (!order) out_of_memory();
    for (const cJSON *c = group->child; c; c = c->next) order[i++] = c;
    if (object && w->sorted) qsort(order, n, sizeof *order, by_key);
    put(w, object ? "{" : "[", 1);
    for (i = 0; i < n; i++) {
        if (i) put(w, ",", 1);
        put_line(w, depth + 1);
        if (object) {
            put_string(w, order[i]->string);
            put_text(w, w->pretty ? ": " : ":");
        }
        put_value(w, order[i], depth + 1);
    }
    if (n) put_line(w, depth);
    put(w, object ? "}" : "]", 1);
    free((void *)order);
}

static void put_value(writer *w, const cJSON *v, int depth)
{
    if (cJSON_IsObject(v) || cJSON_IsArray(v))
        put_group(w, v, depth);
    else if (cJSON_IsString(v))
        put_string(w, v->valuestring);
    else if (cJSON_IsNumber(v))
        put_number(w, v->valuedouble);
    else if (cJSON_IsRaw(v))
        put_text(w, v->valuestring);
    else
        put_text(w, cJSON_IsTrue(v) ? "true" : cJSON_IsFalse(v) ? "false" : "null");
}

static char *print(const cJSON *v, int pretty, int sorted)
{
    writer w = {.pretty = pretty, .sorted = sorted};
    put(&w, "", 0);
    put_value(&w, v, 0);
    return w.p;
}

char *json_text(const cJSON *v, int pretty)
{
    return print(v, pretty, 0);
}

char *json_canonical(const cJSON *v)
{
    return print(v, 0, 1);
}

/* ---- nearest name ---------------------------------------------------------------------------- */

enum { LONGEST = 64 };

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), d[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *json_nearest(const char *name, const char *const *names, int n)
{
    return json_nearest_within(name, 3, names, n);
}

const char *json_nearest_within(const char *name, int most, const char *const *names, int n)
{
    const char *found = NULL;
    size_t length = strlen(name);
    int best = most + 1;
    if (length > LONGEST) return NULL;
    if (length <= 5 && best > 3) best = 3; /* three letters of four make any word of another */
    if ((int)length < best) best = (int)length;
    for (int i = 0; i < n; i++) {
        if (strlen(names[i]) > LONGEST) continue;
        int d = distance(name, names[i]);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
