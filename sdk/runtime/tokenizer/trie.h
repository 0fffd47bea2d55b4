/* trie.h - byte strings that are searched together, a byte at a time.
 *
 * Added tokens, Unigram and WordPiece pieces.  Node 0 is the root; the edges of all nodes are in
 * one hash table, so that a quarter of a million pieces stay small.  Left out: removing. */
#ifndef SQZ_RUNTIME_TOKENIZER_TRIE_H
#define SQZ_RUNTIME_TOKENIZER_TRIE_H
#include <stdint.h>

typedef struct trie trie;
trie *trie_new(void); /* NULL without memory */
void trie_free(trie *);
/* value >= 0; of equal strings the first stays.  The empty string is not kept.  0 without memory.
 */
int trie_add(trie *, const char *text, int64_t n, int32_t value);
int32_t trie_child(const trie *, int32_t node, uint8_t byte); /* -1: none */
int32_t trie_value(const trie *, int32_t node);               /* -1: no string ends here */
/* The node after walking `text` from the root, or -1. */
int32_t trie_walk(const trie *, const char *text, int64_t n);
#endif
