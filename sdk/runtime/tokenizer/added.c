/* added.c - see added.h.
 *
 * A trie whose edges are in one hash table.  Searching walks it from every position that a token
 * may begin at: the cost is bounded by the longest token, and most bytes begin none. */
#include "tokenizer/added.h"
#include <stdlib.h>
#include <string.h>

typedef struct edge {
    uint64_t key; /* node << 8 | byte, plus 1; 0: free */
    int32_t child;
} edge;

struct added_set {
    edge *edges;
    uint64_t n_slots, n_edges; /* n_slots is a power of two */
    const added_token **ends;  /* [nodes] the token that ends at a node, or NULL */
    int64_t n_nodes, room;
    int32_t roots[256]; /* child of node 0, or -1 */
    added_match *matches;
    int64_t n_matches, match_room;
};

added_set *added_set_new(void)
{
    added_set *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    for (int i = 0; i < 256; i++) s->roots[i] = -1;
    s->n_nodes = 1;
    return s;
}

void added_set_free(added_set *s)
{
    if (!s) return;
    free(s->edges);
    free(s->ends);
    free(s->matches);
    free(s);
}

static edge *edge_slot(edge *edges, uint64_t n_slots, uint64_t key)
{
    uint64_t i = key * UINT64_C(0x9E3779B97F4A7C15);
    i ^= i >> 32;
    while (edges[i & (n_slots - 1)].key && edges[i & (n_slots - 1)].key != key) i++;
    return &edges[i & (n_slots - 1)];
}

static int32_t child_of(const added_set *s, int32_t node, uint8_t byte)
{
    if (!node) return s->roots[byte];
    const edge *e = edge_slot(s->edges, s->n_slots, ((uint64_t)(uint32_t)node << 8 | byte) + 1);
    return e->key ? e->child : -1;
}

static int edges_grow(added_set *s)
{
    uint64_t n = s->n_slots ? 2 * s->n_slots : 256;
    edge *edges = calloc(n, sizeof *edges);
    if (!edges) return 0;
    for (uint64_t i = 0; i < s->n_slots; i++)
        if (s->edges[i].key) *edge_slot(edges, n, s->edges[i].key) = s->edges[i];
    free(s->edges);
    s->edges = edges;
    s->n_slots = n;
    return 1;
}

static int32_t node_new(added_set *s)
{
    if (s->n_nodes >= s->room) {
        int64_t room = s->room ? 2 * s->room : 256;
        const added_token **more = realloc(s->ends, (size_t)room * sizeof *more);
        if (!more) return -1;
        memset(more + s->room, 0, (size_t)(room - s->room) * sizeof *more);
        s->ends = more;
        s->room = room;
    }
    return (int32_t)s->n_nodes++;
}

int added_set_add(added_set *s, const char *text, int64_t n, const added_token *token)
{
    int32_t node = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (2 * (s->n_edges + 1) > s->n_slots && !edges_grow(s)) return 0;
        int32_t child = child_of(s, node, byte);
        if (child < 0) {
            child = node_new(s);
            if (child < 0) return 0;
            if (node) {
                uint64_t key = ((uint64_t)(uint32_t)node << 8 | byte) + 1;
                *edge_slot(s->edges, s->n_slots, key) = (edge){key, child};
                s->n_edges++;
            } else {
                s->roots[byte] = child;
            }
        }
        node = child;
    }
    if (node && !s->ends[node]) s->ends[node] = token;
    return 1;
}

/* Longest token that begins at `at`, and the bytes it takes. */
static const added_token *match_at(const added_set *s, const char *text, int64_t n, int64_t at,
                                   int64_t *bytes)
{
    const added_token *found = NULL;
    int32_t node = 0;
    for (int64_t i = at; i < n; i++) {
        node = child_of(s, node, (uint8_t)text[i]);
        if (node < 0) break;
        if (s->ends[node]) {
            found = s->ends[node];
            *bytes = i + 1 - at;
        }
    }
    return found;
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
        if (s->roots[(uint8_t)text[i]] < 0) {
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
