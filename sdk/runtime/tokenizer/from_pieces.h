/* from_pieces.h - a tokenizer from a list of pieces with scores and kinds: what a SentencePiece
 * model holds, apart from how its file is read. */
#ifndef SQZ_RUNTIME_TOKENIZER_FROM_PIECES_H
#define SQZ_RUNTIME_TOKENIZER_FROM_PIECES_H
#include "tokenizer/tokenizer.h"

/* The numbers of SentencePiece's ModelProto. */
typedef enum piece_kind {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,      /* found in the text, left out of decoded text on request */
    PIECE_USER_DEFINED = 4, /* found in the text */
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6 /* <0xHH> */
} piece_kind;

typedef struct piece_entry {
    const char *text; /* UTF-8, not zero-terminated */
    int64_t n;
    float score;
    int32_t kind; /* piece_kind */
} piece_entry;

typedef struct piece_list {
    const char *file; /* for messages */
    const piece_entry *pieces;
    int64_t n;             /* the position is the id */
    int merged;            /* BPE, merges follow from the order of the pieces; else Unigram */
    int32_t unk, bos, eos; /* -1: none */
    int add_bos, add_eos;  /* around a single text, where special tokens are asked for */
    int byte_fallback;
    /* Objects of a tokenizer.json, as text. */
    const char *normalizer, *pre_tokenizer, *decoder;
    const void *charsmap; /* Precompiled, runs before the normalizer; NULL: none */
    int64_t n_charsmap;
} piece_list;

/* All but the index of added tokens (load.h).  t is empty; everything is copied. */
sqz_status load_pieces(const piece_list *, tokenizer *t, sqz_error *err);
#endif
