/* text.c - keys and values as an MLflow server accepts them; the texts come from models, data sets
 * and users. */
#include "mlflow.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Letters, digits and _ - . space / make a key, and it must be a normalised relative path.  A colon
 * is legal on some servers only. */
void text_key(const char *key, char out[MAX_KEY + 1])
{
    size_t n = 0;
    for (const char *p = key; *p && n < MAX_KEY; p++) {
        unsigned char c = (unsigned char)*p;
        char keep = c < 128 && (isalnum(c) || strchr("_-. /", c)) ? (char)c : '_';
        if (keep == '/' && (n == 0 || out[n - 1] == '/')) continue;
        out[n++] = keep;
    }
    while (n > 0 && out[n - 1] == '/') n--;
    out[n] = 0;
    for (char *part = out; part && *part;) {
        size_t length = strcspn(part, "/");
        if (strspn(part, ".") == length) memset(part, '_', length);
        part = part[length] ? part + length + 1 : NULL;
    }
    if (!n) memcpy(out, "_", 2);
}

char *text_value(const char *value, size_t max)
{
    size_t n = strlen(value), k = 0;
    if (n > max) {
        n = max;
        while (n > 0 && ((unsigned char)value[n] & 0xC0) == 0x80) n--; /* no half character */
    }
    char *out = malloc(n + 1);
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c >= ' ' ? c != 127 : c == '\n' || c == '\t') out[k++] = value[i];
    }
    out[k] = 0;
    return out;
}

char *text_plain(const char *value, size_t max)
{
    char *clean = text_value(value, max / 5), *out = clean ? malloc(strlen(clean) * 5 + 1) : NULL;
    size_t k = 0;
    for (const char *p = clean; out && *p; p++) {
        if (*p == '<' || *p == '>' || *p == '&') {
            const char *name = *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : "&amp;";
            memcpy(out + k, name, strlen(name));
            k += strlen(name);
            continue;
        }
        if (strchr("\\`*_{}[]()#+-!|~", *p)) out[k++] = '\\';
        out[k++] = *p == '\n' || *p == '\t' ? ' ' : *p;
    }
    if (out) out[k] = 0;
    free(clean);
    return out;
}
