/* pieces.c - see pieces.h. */
#include "tokenizer/pieces.h"
#include <stdlib.h>
#include <string.h>

/* New room for at least `want` elements of `size` bytes, at least doubling; 0 when impossible. */
static int64_t grow(void *array_pointer, int64_t room, int64_t want, size_t size)
{
    int64_t more = room < 16 ? 32 : room;
    while (more < want)
        if (__builtin_mul_overflow(more, 2, &more)) return 0;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)more, size, &bytes)) return 0;
    void *old, *grown;
    memcpy(&old, array_pointer, sizeof old);
    grown = realloc(old, bytes);
    if (!grown) return 0;
    memcpy(array_pointer, &grown, sizeof grown);
    return more;
}

static int text_room(text_buffer *t, int64_t n)
{
    if (t->failed) return 0;
    if (t->room - t->n >= n) return 1;
    int64_t want = t->n + n > 2 * t->room ? t->n + n : 2 * t->room;
    int64_t room = grow(&t->at, t->room, want, 1);
    if (room)
        t->room = room;
    else
        t->failed = 1;
    return !t->failed;
}

void text_add(text_buffer *t, const char *bytes, int64_t n)
{
    if (n <= 0 || !text_room(t, n)) return;
    memcpy(t->at + t->n, bytes, (size_t)n);
    t->n += n;
}

void text_add_char(text_buffer *t, uint32_t code_point)
{
    char bytes[4];
    text_add(t, bytes, utf8_put(code_point, bytes));
}

void text_free(text_buffer *t)
{
    free(t->at);
    *t = (text_buffer){0};
}

void text_swap(text_buffer *a, text_buffer *b)
{
    text_buffer c = *a;
    *a = *b;
    *b = c;
}

void pieces_clear(pieces *p)
{
    p->text.n = p->n = 0;
}

void pieces_add_span(pieces *p, int64_t at, int64_t n)
{
    if (p->failed) return;
    if (!p->text.at) text_room(&p->text, 1); /* spans of nothing but empty words have an address */
    if (p->n == p->room) {
        int64_t room = grow(&p->spans, p->room, 2 * p->room, sizeof *p->spans);
        if (!room) {
            p->failed = 1;
            return;
        }
        p->room = room;
    }
    p->spans[p->n++] = (span){at, n};
}

void pieces_add(pieces *p, const char *bytes, int64_t n)
{
    int64_t at = p->text.n;
    text_add(&p->text, bytes, n);
    pieces_add_span(p, at, n);
}

int pieces_ok(const pieces *p)
{
    return !p->failed && !p->text.failed;
}

void pieces_free(pieces *p)
{
    text_free(&p->text);
    free(p->spans);
    *p = (pieces){0};
}

void pieces_swap(pieces *a, pieces *b)
{
    pieces c = *a;
    *a = *b;
    *b = c;
}

int32_t *ids_reserve(id_list *l, int64_t n)
{
    if (l->failed) return NULL;
    if (l->room - l->n < n) {
        int64_t want = l->n + n > 2 * l->room ? l->n + n : 2 * l->room;
        int64_t room = grow(&l->at, l->room, want, sizeof *l->at);
        if (!room) {
            l->failed = 1;
            return NULL;
        }
        l->room = room;
    }
    return l->at + l->n;
}

void ids_add(id_list *l, int32_t id)
{
    int32_t *p = ids_reserve(l, 1);
    if (!p) return;
    *p = id;
    l->n++;
}

void ids_free(id_list *l)
{
    free(l->at);
    *l = (id_list){0};
}

/* ---- UTF-8 --------------------------------------------------------------------------------------
 */

/* Range of the second byte after `lead`, and the whole length; 0 for a byte that begins nothing. */
static int lead_length(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead == 0xE0) *low = 0xA0;
    if (lead == 0xED) *high = 0x9F;
    if (lead == 0xF0) *low = 0x90;
    if (lead == 0xF4) *high = 0x8F;
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    return lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
}

/* Length of the well-formed prefix at s of the sequence that its lead byte announces. */
static int valid_prefix(const uint8_t *s, int64_t n, int *whole)
{
    uint8_t low, high;
    *whole = lead_length(s[0], &low, &high);
    if (!*whole) return 0;
    int got = 1;
    while (got < *whole && got < n && s[got] >= low && s[got] <= high) {
        got++;
        low = 0x80;
        high = 0xBF;
    }
    return got;
}

int utf8_next(const char *s, int64_t n, uint32_t *c)
{
    const uint8_t *b = (const uint8_t *)s;
    if (n <= 0) return 0;
    if (b[0] < 0x80) {
        *c = b[0];
        return 1;
    }
    int whole, got = valid_prefix(b, n, &whole);
    if (!got || got < whole) return 0;
    uint32_t v = b[0] & (0x7Fu >> whole);
    for (int i = 1; i < whole; i++) v = v << 6 | (b[i] & 0x3F);
    *c = v;
    return whole;
}

int utf8_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xF0u) | c);
    return n;
}

int64_t utf8_check(const char *s, int64_t n)
{
    uint32_t c;
    for (int64_t i = 0; i < n;) {
        uint64_t eight;
        if (n - i >= 8) { /* most text is ASCII */
            memcpy(&eight, s + i, 8);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        int length = utf8_next(s + i, n - i, &c);
        if (!length) return i;
        i += length;
    }
    return -1;
}

void utf8_lossy(text_buffer *out, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int whole, got = valid_prefix((const uint8_t *)s + i, n - i, &whole);
        if (got && got == whole)
            text_add(out, s + i, got);
        else
            text_add_char(out, 0xFFFD);
        i += got ? got : 1;
    }
}

/* ---- GPT-2's bytes ------------------------------------------------------------------------------
 */

static int byte_is_printable(uint32_t b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

/* The 68 others follow U+0100 in their own order: 0-32, 127-160, 173. */
uint32_t byte_to_char(uint8_t byte)
{
    if (byte_is_printable(byte)) return byte;
    if (byte <= 32) return 0x100u + byte;
    if (byte <= 160) return 0x100u + 33 + (byte - 127u);
    return 0x100u + 67;
}

int char_to_byte(uint32_t c)
{
    if (c < 0x100) return byte_is_printable(c) ? (int)c : -1;
    if (c <= 0x100 + 32) return (int)(c - 0x100);
    if (c < 0x100 + 67) return (int)(c - 0x100 - 33 + 127);
    return c == 0x100 + 67 ? 173 : -1;
}
