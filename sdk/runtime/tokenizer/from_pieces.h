/* from_pieces.h - a tokenizer from a bare list of pieces: what SentencePiece models and GGUF files
 * hold.
 *
 * The formats differ in how they are read; what they say is the same: pieces with a score and a
 * kind, the ends of a text, and a few switches.  Left out: vocabularies of WordPiece kind. */
#ifndef SQZ_RUNTIME_TOKENIZER_FROM_PIECES_H
#define SQZ_RUNTIME_TOKENIZER_FROM_PIECES_H
#include "tokenizer/tokenizer.h"

/* The numbers of SentencePiece's ModelProto and of GGUF's tokenizer.ggml.token_type. */
typedef enum piece_kind {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,      /* found in the text, left out of decoded text on request */
    PIECE_USER_DEFINED = 4, /* found in the text */
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6 /* <0xHH> */
} piece_kind;

typedef struct piece_entry {
    const char *text; /* UTF-8, not zero-terminated; byte-level pieces in GPT-2's characters */
    int64_t n;
    float score;
    int32_t kind; /* piece_kind */
} piece_entry;

typedef enum piece_model {
    PIECES_UNIGRAM,   /* Viterbi over the scores                                          */
    PIECES_MERGED,    /* SentencePiece-style BPE: merges follow from the order of pieces  */
    PIECES_BYTE_LEVEL /* BPE with explicit merges over GPT-2's characters                 */
} piece_model;

/* The order of the merges that make PIECES_MERGED: by id, or by descending score. */
typedef enum piece_order { ORDER_ID, ORDER_SCORE } piece_order;

typedef struct piece_list {
    const char *file; /* for messages */
    const piece_entry *pieces;
    int64_t n; /* the position is the id */
    piece_model model;
    piece_order order;
    const piece_entry *merges; /* PIECES_BYTE_LEVEL: "a b", text and n only */
    int64_t n_merges;
    const char *split;     /* PIECES_BYTE_LEVEL: GGUF's name of the expression, e.g. "llama-bpe" */
    int32_t unk, bos, eos; /* -1: none */
    int add_bos, add_eos;  /* around a single text, where special tokens are asked for */
    int byte_fallback;
    /* Objects of a tokenizer.json, as text, in place of the usual stages; NULL: the usual ones. */
    const char *normalizer, *pre_tokenizer, *decoder;
    int no_space_prefix;  /* usual stages: put no space in front of a text */
    const void *charsmap; /* Precompiled, runs before the normalizer; NULL: none */
    int64_t n_charsmap;
} piece_list;

/* Everything is copied. */
sqz_status tokenizer_from_pieces(const piece_list *, tokenizer **out, sqz_error *err);
#endif
