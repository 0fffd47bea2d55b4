/* added.c - see added.h.
 *
 * Searching walks a trie from every position that a token may begin at: the cost is bounded by the
 * longest token, and most bytes begin none. */
#include "tokenizer/added.h"
#include "tokenizer/trie.h"
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>

struct added_set {
    trie *contents;
    const added_token **tokens; /* [n_tokens] what the trie's values number */
    int64_t n_tokens, token_room;
    added_match *matches;
    int64_t n_matches, match_room;
};

added_set *added_set_new(void)
{
    added_set *s = calloc(1, sizeof *s);
    if (s && (s->contents = trie_new())) return s;
    free(s);
    return NULL;
}

void added_set_free(added_set *s)
{
    if (!s) return;
    trie_free(s->contents);
    free(s->tokens);
    free(s->matches);
    free(s);
}

int added_set_add(added_set *s, const char *text, int64_t n, const added_token *token)
{
    if (s->n_tokens == s->token_room) {
        int64_t room = s->token_room ? 2 * s->token_room : 16;
        const added_token **more = realloc(s->tokens, (size_t)room * sizeof *more);
        if (!more) return 0;
        s->tokens = more;
        s->token_room = room;
    }
    s->tokens[s->n_tokens] = token;
    return trie_add(s->contents, text, n, (int32_t)s->n_tokens++);
}

/* Longest token that begins at `at`, and the bytes it takes. */
static const added_token *match_at(const added_set *s, const char *text, int64_t n, int64_t at,
                                   int64_t *bytes)
{
    int32_t found = -1, node = 0;
    for (int64_t i = at; i < n; i++) {
        node = trie_child(s->contents, node, (uint8_t)text[i]);
        if (node < 0) break;
        if (trie_value(s->contents, node) >= 0) {
            found = trie_value(s->contents, node);
            *bytes = i + 1 - at;
        }
    }
    return found < 0 ? NULL : s->tokens[found];
}

static int add_match(added_set *s, int64_t at, int64_t n, int32_t id)
{
    if (s->n_matches == s->match_room) {
        int64_t room = s->match_room ? 2 * s->match_room : 64;
        added_match *more = realloc(s->matches, (size_t)room * sizeof *more);
        if (!more) return 0;
        s->matches = more;
        s->match_room = room;
    }
    s->matches[s->n_matches++] = (added_match){at, n, id};
    return 1;
}

/* The character before `at`, or 0 bytes at the beginning. */
static int char_before(const char *text, int64_t at, uint32_t *c)
{
    int64_t i = at;
    while (i > 0 && i > at - 4) {
        i--;
        if (((uint8_t)text[i] & 0xC0) != 0x80) return utf8_next(text + i, at - i, c);
    }
    return 0;
}

static int stands_alone(const char *text, int64_t n, int64_t begin, int64_t end)
{
    uint32_t c;
    if (char_before(text, begin, &c) && char_is(c, CHAR_WORD)) return 0;
    return !(utf8_next(text + end, n - end, &c) && char_is(c, CHAR_WORD));
}

sqz_status added_set_split(added_set *s, const char *text, int64_t n, const added_match **matches,
                           int64_t *n_matches, sqz_error *err)
{
    int64_t done = 0, bytes = 0; /* text before `done` is in a match already */
    int ok = 1;
    s->n_matches = 0;
    for (int64_t i = 0; i < n && ok;) {
        if (trie_child(s->contents, 0, (uint8_t)text[i]) < 0) {
            i++;
            continue;
        }
        const added_token *t = match_at(s, text, n, i, &bytes);
        if (!t) {
            i++;
            continue;
        }
        int64_t begin = i, end = i + bytes, length;
        uint32_t c;
        i = end;
        if (t->single_word && !stands_alone(text, n, begin, end)) continue;
        while (t->lstrip && begin > done && (length = char_before(text, begin, &c)) &&
               char_is(c, CHAR_SPACE))
            begin -= length;
        if (t->lstrip && begin < done) begin = done; /* the last match took these spaces */
        while (t->rstrip && (length = utf8_next(text + end, n - end, &c)) && char_is(c, CHAR_SPACE))
            end += length;
        if (begin > done) ok = add_match(s, done, begin - done, -1);
        if (ok && end > begin) ok = add_match(s, begin, end - begin, t->id);
        done = end;
    }
    if (ok && done < n) ok = add_match(s, done, n - done, -1);
    if (!ok) return err_set(err, SQZ_E_NOMEM, "tokenizer: no memory for the added tokens");
    *matches = s->matches;
    *n_matches = s->n_matches;
    return SQZ_OK;
}
