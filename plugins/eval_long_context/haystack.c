/* haystack.c - see haystack.h.
 *
 * Made sentences have four parts drawn independently, 12 * 14 * 12 * 10 of them, and no digit.  A
 * user's text is cut behind . ! ? and line ends; what is longer than a sentence may be is cut at a
 * blank, or between characters. */
#include "haystack.h"
#include "long_context.h"
#include <stdlib.h>
#include <string.h>

uint64_t number_of(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* ---- made text ---------------------------------------------------------------------------------
 */

static const char *const who[] = {"The baker",     "The old sailor", "A young teacher",
                                  "My neighbour",  "The gardener",   "A tired postman",
                                  "The miller",    "Her brother",    "The night guard",
                                  "A shy student", "The carpenter",  "Our doctor"};
static const char *const does[] = {"carried",  "looked for", "painted",   "forgot",  "repaired",
                                   "washed",   "sold",       "described", "admired", "hid",
                                   "borrowed", "cleaned",    "dropped",   "measured"};
static const char *const what[] = {"a heavy basket",   "the wooden ladder",  "two warm blankets",
                                   "a bag of apples",  "the broken clock",   "an empty bottle",
                                   "the blue curtain", "a letter from home", "the garden chairs",
                                   "a small lantern",  "the kitchen table",  "a pair of boots"};
static const char *const where[] = {"near the river.",         "behind the school.",
                                    "before the rain came.",   "on a quiet morning.",
                                    "at the end of the road.", "beside the tall trees.",
                                    "after the long winter.",  "under the stone bridge.",
                                    "in front of the shop.",   "while the children slept."};

#define PICK(list, random) list[(random) % (sizeof list / sizeof *list)]

static size_t make_sentence(uint64_t seed, uint64_t k, char out[HAYSTACK_SENTENCE])
{
    uint64_t r = number_of(seed, k);
    int n =
        snprintf(out, HAYSTACK_SENTENCE, "%s %s %s %s", PICK(who, r & 0xFFFF),
                 PICK(does, r >> 16 & 0xFFFF), PICK(what, r >> 32 & 0xFFFF), PICK(where, r >> 48));
    return (size_t)n;
}

/* ---- a user's text ------------------------------------------------------------------------------
 */

static int is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes of the sentence that begins at `text`, at most HAYSTACK_SENTENCE - 1. */
static size_t sentence_bytes(const char *text, size_t n)
{
    size_t most = n < HAYSTACK_SENTENCE - 1 ? n : HAYSTACK_SENTENCE - 1, blank = 0;
    for (size_t i = 0; i < most; i++) {
        char c = text[i];
        if (c == '\n') return i + 1;
        if (is_blank(c)) blank = i + 1;
        if ((c == '.' || c == '!' || c == '?') && (i + 1 == n || is_blank(text[i + 1])))
            return i + 1;
    }
    if (most == n) return n;
    if (blank) return blank;
    size_t cut = most;
    while (cut > most - 4 && ((unsigned char)text[cut] & 0xC0) == 0x80) cut--; /* UTF-8 inside */
    return cut;
}

static int add_unit(haystack *h, span unit, int64_t *room)
{
    if (h->n_units == *room) {
        int64_t more = *room ? 2 * *room : 1024;
        span *grown = realloc(h->units, (size_t)more * sizeof *grown);
        if (!grown) return 0;
        h->units = grown;
        *room = more;
    }
    h->units[h->n_units++] = unit;
    h->bytes += (int64_t)unit.n;
    return 1;
}

static int add_text(haystack *h, const char *text, int64_t *room)
{
    size_t n = strlen(text);
    while (n) {
        size_t take = sentence_bytes(text, n), from = 0, to = take;
        while (from < to && is_blank(text[from])) from++;
        while (to > from && is_blank(text[to - 1])) to--;
        if (to > from && !add_unit(h, (span){text + from, to - from}, room)) return 0;
        text += take;
        n -= take;
    }
    return 1;
}

sqz_status haystack_open(const sqz_host *host, const sqz_rows *rows, uint64_t seed, haystack *out)
{
    int64_t room = 0;
    *out = (haystack){.seed = seed};
    for (int64_t i = 0; i < rows->n_rows; i++) {
        const char *text = row_text(rows, i);
        if (text && !add_text(out, text, &room)) {
            haystack_close(out);
            return host->fail(host, SQZ_E_NOMEM, "needle: no memory for the sentences of the text");
        }
    }
    return SQZ_OK;
}

void haystack_close(haystack *h)
{
    free(h->units);
    *h = (haystack){0};
}

size_t haystack_sentence(const haystack *h, uint64_t k, char out[HAYSTACK_SENTENCE])
{
    if (!h->n_units) return make_sentence(h->seed, k, out);
    span unit = h->units[k % (uint64_t)h->n_units];
    memcpy(out, unit.at, unit.n);
    out[unit.n] = 0;
    return unit.n;
}
