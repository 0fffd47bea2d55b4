/* trie.c - see trie.h. */
#include "tokenizer/trie.h"
#include <stdlib.h>
#include <string.h>

typedef struct edge {
    uint64_t key; /* node << 8 | byte, plus 1; 0: free */
    int32_t child;
} edge;

struct trie {
    edge *edges;
    uint64_t n_slots, n_edges; /* n_slots is a power of two */
    int32_t *values;           /* [room] of a node; -1: no string ends there */
    int64_t n_nodes, room;
    int32_t roots[256]; /* child of node 0, or -1 */
};

trie *trie_new(void)
{
    trie *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    for (int i = 0; i < 256; i++) t->roots[i] = -1;
    t->n_nodes = 1;
    return t;
}

void trie_free(trie *t)
{
    if (!t) return;
    free(t->edges);
    free(t->values);
    free(t);
}

static uint64_t edge_key(int32_t node, uint8_t byte)
{
    return ((uint64_t)(uint32_t)node << 8 | byte) + 1;
}

static edge *edge_slot(edge *edges, uint64_t n_slots, uint64_t key)
{
    uint64_t i = key * UINT64_C(0x9E3779B97F4A7C15);
    i ^= i >> 32;
    while (edges[i & (n_slots - 1)].key && edges[i & (n_slots - 1)].key != key) i++;
    return &edges[i & (n_slots - 1)];
}

int32_t trie_child(const trie *t, int32_t node, uint8_t byte)
{
    if (!node) return t->roots[byte];
    if (!t->n_slots) return -1;
    const edge *e = edge_slot(t->edges, t->n_slots, edge_key(node, byte));
    return e->key ? e->child : -1;
}

int32_t trie_value(const trie *t, int32_t node)
{
    return node > 0 ? t->values[node] : -1;
}

int32_t trie_walk(const trie *t, const char *text, int64_t n)
{
    int32_t node = 0;
    for (int64_t i = 0; i < n && node >= 0; i++) node = trie_child(t, node, (uint8_t)text[i]);
    return node;
}

static int edges_grow(trie *t)
{
    uint64_t n = t->n_slots ? 2 * t->n_slots : 256;
    edge *edges = calloc(n, sizeof *edges);
    if (!edges) return 0;
    for (uint64_t i = 0; i < t->n_slots; i++)
        if (t->edges[i].key) *edge_slot(edges, n, t->edges[i].key) = t->edges[i];
    free(t->edges);
    t->edges = edges;
    t->n_slots = n;
    return 1;
}

static int32_t node_new(trie *t)
{
    if (t->n_nodes >= INT32_MAX) return -1;
    if (t->n_nodes >= t->room) {
        int64_t room = t->room ? 2 * t->room : 256;
        int32_t *more = realloc(t->values, (size_t)room * sizeof *more);
        if (!more) return -1;
        memset(more + t->room, 0xFF, (size_t)(room - t->room) * sizeof *more);
        t->values = more;
        t->room = room;
    }
    return (int32_t)t->n_nodes++;
}

int trie_add(trie *t, const char *text, int64_t n, int32_t value)
{
    int32_t node = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (2 * (t->n_edges + 1) > t->n_slots && !edges_grow(t)) return 0;
        int32_t child = trie_child(t, node, byte);
        if (child < 0) {
            child = node_new(t);
            if (child < 0) return 0;
            if (node) {
                uint64_t key = edge_key(node, byte);
                *edge_slot(t->edges, t->n_slots, key) = (edge){key, child};
                t->n_edges++;
            } else {
                t->roots[byte] = child;
            }
        }
        node = child;
    }
    if (node && t->values[node] < 0) t->values[node] = value;
    return 1;
}
