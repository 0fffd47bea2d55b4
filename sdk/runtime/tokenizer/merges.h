/* merges.h - the BPE merges that a list of pieces implies: every way to put a piece together from
 * two others, in the order in which they are tried.  Shared by tokenizer.model and GGUF files,
 * which hold pieces with scores and no merges. */
#ifndef SQZ_RUNTIME_TOKENIZER_MERGES_H
#define SQZ_RUNTIME_TOKENIZER_MERGES_H
#include "tokenizer/from_pieces.h"
#include "tokenizer/vocab.h"

/* By the pieces' ids, of one piece the shorter left side first; or by their scores, the best first,
 * then by ids, of one piece the longer left side first, and of normal pieces only. */
typedef enum merge_order { MERGES_BY_ID, MERGES_BY_SCORE } merge_order;

typedef struct piece_merge {
    int32_t id, left, right; /* what it makes, of what */
    int32_t cut;             /* bytes of the left side */
    float score;
} piece_merge;

typedef struct merge_list {
    piece_merge *at; /* the caller frees it, also after an error */
    int64_t n, room;
} merge_list;

/* v: finds the pieces and names the file in messages. */
sqz_status merges_find(const vocab *v, const piece_entry *pieces, int64_t n, merge_order,
                       merge_list *out, sqz_error *err);
#endif
