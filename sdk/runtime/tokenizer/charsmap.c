/* charsmap.c - see charsmap.h. */
#include "tokenizer/charsmap.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_BLOB = 64 << 20, WHOLE_CLUSTER = 6 /* bytes; shorter clusters are looked up whole */ };

struct charsmap {
    uint32_t *units; /* [n_units], the double array */
    int64_t n_units;
    char *text; /* replacements, each ended by a zero byte; one more ends the whole */
    int64_t n_text;
};

sqz_status charsmap_new(const void *blob, int64_t n, const char *file, charsmap **out,
                        sqz_error *err)
{
    const uint8_t *b = blob;
    uint32_t bytes =
        n >= 4 ? b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24 : 0;
    if (n < 4 || n > MAX_BLOB || bytes % 4 || bytes > n - 4 || !bytes)
        return err_set(err, ERR_MODEL,
                       "%s: the precompiled charsmap of %lld bytes is damaged or beyond %d", file,
                       (long long)n, MAX_BLOB);
    charsmap *m = calloc(1, sizeof *m);
    if (m) m->units = malloc(bytes);
    if (m) m->text = malloc((size_t)(n - 4 - bytes) + 1);
    if (!m || !m->units || !m->text) {
        charsmap_free(m);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for the precompiled charsmap", file);
    }
    m->n_units = bytes / 4;
    for (int64_t i = 0; i < m->n_units; i++) { /* little-endian on every machine */
        const uint8_t *u = b + 4 + 4 * i;
        m->units[i] = u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    m->n_text = n - 4 - bytes;
    memcpy(m->text, b + 4 + bytes, (size_t)m->n_text);
    m->text[m->n_text] = 0;
    int64_t bad = utf8_check(m->text, m->n_text);
    if (bad >= 0) {
        charsmap_free(m);
        return err_set(err, ERR_MODEL, "%s: the precompiled charsmap's texts are not UTF-8", file);
    }
    *out = m;
    return SQZ_OK;
}

void charsmap_free(charsmap *m)
{
    if (!m) return;
    free(m->units);
    free(m->text);
    free(m);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

sqz_status charsmap_base64(const char *text, const char *file, charsmap **out, sqz_error *err)
{
    int64_t n = (int64_t)strlen(text), made = 0;
    while (n && text[n - 1] == '=') n--;
    uint8_t *blob = malloc((size_t)n + 1);
    if (!blob) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the precompiled charsmap", file);
    uint32_t held = 0;
    for (int64_t i = 0; i < n; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) {
            free(blob);
            return err_set(err, ERR_MODEL, "%s: the precompiled charsmap is no base64 at byte %lld",
                           file, (long long)i);
        }
        held = held << 6 | (uint32_t)digit;
        if (i % 4) blob[made++] = (uint8_t)(held >> (6 - 2 * (i % 4)));
    }
    sqz_status st = charsmap_new(blob, made, file, out, err);
    free(blob);
    return st;
}

/* ---- looking up ---------------------------------------------------------------------------------
 * A unit: bits 0-7 and 31 its label, bit 8 "an entry ends here", bits 10-30 the offset of its
 * children, shifted by 8 more where bit 9 is set; an entry's own unit holds its value in bits 0-30.
 */

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement for the shortest entry that s begins with, or NULL. */
static const char *look_up(const charsmap *m, const char *s, int64_t n)
{
    uint32_t at = offset_of(m->units[0]);
    for (int64_t i = 0; i < n && s[i]; i++) {
        at ^= (uint8_t)s[i];
        if (at >= m->n_units) return NULL;
        uint32_t unit = m->units[at];
        if ((unit & (1u << 31 | 0xFF)) != (uint8_t)s[i]) return NULL;
        at ^= offset_of(unit);
        if (at >= m->n_units) return NULL;
        if (!(unit >> 8 & 1)) continue;
        int64_t value = m->units[at] & INT32_MAX;
        if (value > m->n_text || (value < m->n_text && ((uint8_t)m->text[value] & 0xC0) == 0x80))
            return NULL; /* damaged: outside, or inside a character */
        return m->text + value;
    }
    return NULL;
}

static void run_cluster(const charsmap *m, const char *s, int64_t n, text_buffer *out)
{
    const char *whole = n < WHOLE_CLUSTER ? look_up(m, s, n) : NULL;
    uint32_t c;
    if (whole) {
        text_add(out, whole, (int64_t)strlen(whole));
        return;
    }
    for (int64_t i = 0, length; i < n && (length = utf8_next(s + i, n - i, &c)); i += length) {
        const char *one = look_up(m, s + i, length);
        if (one)
            text_add(out, one, (int64_t)strlen(one));
        else
            text_add(out, s + i, length);
    }
}

void charsmap_run(const charsmap *m, const char *s, int64_t n, text_buffer *out)
{
    int64_t begin = 0, length;
    utf8proc_int32_t state = 0;
    uint32_t c, before = 0;
    for (int64_t i = 0; i < n && (length = utf8_next(s + i, n - i, &c)); i += length) {
        if (i && utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c,
                                                  &state)) {
            run_cluster(m, s + begin, i - begin, out);
            begin = i;
        }
        before = c;
    }
    if (begin < n) run_cluster(m, s + begin, n - begin, out);
}
