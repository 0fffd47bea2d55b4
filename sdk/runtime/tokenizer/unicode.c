/* unicode.c - see unicode.h.
 *
 * Normalization sorts the marks of a character by class: libraries do it by insertion, which a text
 * of nothing but marks makes quadratic; here runs are sorted by counting. */
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct class_range {
    uint32_t first, last;
    int in;
} class_range;
#include "tokenizer/unicode_tables.h"

typedef struct script_range {
    uint32_t first, last;
    uint8_t script;
} script_range;
#include "tokenizer/unicode_scripts.h"

/* ---- classes ------------------------------------------------------------------------------------
 */

/* 1 or 0 where the table says so, else -1. */
static int override_of(const class_range *table, size_t n, uint32_t c)
{
    size_t low = 0, high = n - 1; /* the first range that ends at or after c */
    if (c < table[0].first) return -1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return table[low].first <= c && c <= table[low].last ? table[low].in : -1;
}
#define OVERRIDE(table, c) override_of(table, sizeof(table) / sizeof *(table), c)

static int is_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static int is_letter(utf8proc_category_t k)
{
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static int is_mark(utf8proc_category_t k)
{
    return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME;
}

static int is_number(utf8proc_category_t k)
{
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

/* Alphabetic adds letter numbers and the circled letters to the letters. */
static int is_word(uint32_t c, utf8proc_category_t k)
{
    return is_letter(k) || is_mark(k) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL ||
           k == UTF8PROC_CATEGORY_PC || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
}

static int ascii_is(uint32_t c, char_class which)
{
    int letter = (c | 32) >= 'a' && (c | 32) <= 'z', digit = c >= '0' && c <= '9';
    switch (which) {
    case CHAR_DIGIT:
    case CHAR_NUMBER: return digit;
    case CHAR_LETTER: return letter;
    case CHAR_WORD: return letter || digit || c == '_';
    case CHAR_PUNCTUATION: return c > ' ' && c < 0x7F && !digit && !letter;
    case CHAR_OTHER: return (c < ' ' || c == 0x7F) && c != '\t' && c != '\n' && c != '\r';
    default: return 0;
    }
}

int char_is(uint32_t c, char_class which)
{
    if (which == CHAR_SPACE) return is_space(c);
    if (c < 0x80) return ascii_is(c, which);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    int in = -1;
    switch (which) {
    case CHAR_MARK: in = OVERRIDE(mark_ranges, c); return in < 0 ? is_mark(k) : in;
    case CHAR_NONSPACING:
        in = OVERRIDE(nonspacing_ranges, c);
        return in < 0 ? k == UTF8PROC_CATEGORY_MN : in;
    case CHAR_DIGIT: in = OVERRIDE(digit_ranges, c); return in < 0 ? is_number(k) : in;
    case CHAR_NUMBER: in = OVERRIDE(number_ranges, c); return in < 0 ? is_number(k) : in;
    case CHAR_LETTER: in = OVERRIDE(letter_ranges, c); return in < 0 ? is_letter(k) : in;
    case CHAR_PUNCTUATION:
        in = OVERRIDE(punctuation_ranges, c);
        return in < 0 ? k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO : in;
    case CHAR_WORD: in = OVERRIDE(word_ranges, c); return in < 0 ? is_word(c, k) : in;
    case CHAR_OTHER: in = OVERRIDE(other_ranges, c); return in < 0 ? k >= UTF8PROC_CATEGORY_CC : in;
    default: return 0;
    }
}

int char_script(uint32_t c)
{
    size_t low = 0, high = sizeof script_ranges / sizeof *script_ranges;
    while (low < high) { /* the first range that ends at or after c */
        size_t middle = (low + high) / 2;
        if (script_ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    int in = low < sizeof script_ranges / sizeof *script_ranges && script_ranges[low].first <= c;
    return in ? script_ranges[low].script : 0;
}

uint32_t char_lower(uint32_t c)
{
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    for (size_t i = 0; i < sizeof lower_pairs / sizeof *lower_pairs; i++) {
        if (c < lower_pairs[i][0]) break;
        if (c == lower_pairs[i][0]) return lower_pairs[i][1];
    }
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

/* ---- normalization forms ------------------------------------------------------------------------
 */

enum { LONGEST_DECOMPOSITION = 32, SHORT_RUN = 24 };

void unicode_free(unicode_scratch *u)
{
    free(u->code);
    free(u->sorted);
    free(u->order);
    *u = (unicode_scratch){0};
}

static int reserve(unicode_scratch *u, int64_t n)
{
    if (u->room - u->n >= n) return 1;
    int64_t room = u->room ? u->room : 256;
    while (room - u->n < n) room *= 2;
    int32_t *code = realloc(u->code, (size_t)room * sizeof *code);
    if (code) u->code = code;
    int32_t *sorted = realloc(u->sorted, (size_t)room * sizeof *sorted);
    if (sorted) u->sorted = sorted;
    uint8_t *order = realloc(u->order, (size_t)room);
    if (order) u->order = order;
    if (code && sorted && order)
        u->room = room;
    else
        u->failed = 1;
    return !u->failed;
}

static void decompose(unicode_scratch *u, uint32_t c, int compat)
{
    if (!reserve(u, LONGEST_DECOMPOSITION)) return;
    int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0), bounds = 0;
    utf8proc_ssize_t n = 1;
    u->code[u->n] = (int32_t)c;
    if (c >= 0xC0 - 0x20 * (uint32_t)compat && OVERRIDE(kept_ranges, c) < 0)
        n = utf8proc_decompose_char((utf8proc_int32_t)c, u->code + u->n, LONGEST_DECOMPOSITION,
                                    (utf8proc_option_t)options, &bounds);
    for (int64_t i = u->n; i < u->n + n; i++) {
        uint32_t one = (uint32_t)u->code[i];
        u->order[i] = 0;
        if (one >= 0x300 && OVERRIDE(starter_ranges, one) < 0)
            u->order[i] = (uint8_t)utf8proc_get_property((utf8proc_int32_t)one)->combining_class;
    }
    u->n += n;
}

/* Few marks, the usual case. */
static void sort_short(unicode_scratch *u, int64_t begin, int64_t end)
{
    for (int64_t i = begin + 1; i < end; i++) {
        int32_t code = u->code[i];
        uint8_t order = u->order[i];
        int64_t k = i;
        for (; k > begin && u->order[k - 1] > order; k--) {
            u->code[k] = u->code[k - 1];
            u->order[k] = u->order[k - 1];
            u->steps++;
        }
        u->code[k] = code;
        u->order[k] = order;
    }
}

static void sort_long(unicode_scratch *u, int64_t begin, int64_t end)
{
    int64_t at[257] = {0};
    for (int64_t i = begin; i < end; i++) at[u->order[i] + 1]++;
    for (int k = 1; k < 257; k++) at[k] += at[k - 1];
    for (int64_t i = begin; i < end; i++) u->sorted[at[u->order[i]]++] = u->code[i];
    memcpy(u->code + begin, u->sorted, (size_t)(end - begin) * sizeof *u->code);
}

/* Marks between two starters, by combining class; equals stay in order. */
static void sort_marks(unicode_scratch *u)
{
    for (int64_t i = 0, end; i < u->n; i = end) {
        end = i + 1;
        if (!u->order[i]) continue;
        while (end < u->n && u->order[end]) end++;
        if (end - i <= SHORT_RUN)
            sort_short(u, i, end);
        else
            sort_long(u, i, end);
    }
}

void unicode_normalize(unicode_scratch *u, unicode_form form, const char *s, int64_t n,
                       text_buffer *out)
{
    int compat = form == UNICODE_NFKC || form == UNICODE_NFKD;
    uint32_t c;
    u->n = u->failed = 0;
    for (int64_t i = 0, length; i < n && (length = utf8_next(s + i, n - i, &c)); i += length)
        decompose(u, c, compat);
    if (u->failed) {
        out->failed = 1;
        return;
    }
    u->steps += u->n;
    sort_marks(u);
    if ((form == UNICODE_NFC || form == UNICODE_NFKC) && u->n)
        u->n = utf8proc_normalize_utf32(u->code, u->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (int64_t i = 0; i < u->n; i++) text_add_char(out, (uint32_t)u->code[i]);
}
