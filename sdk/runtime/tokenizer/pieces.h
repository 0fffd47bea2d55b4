/* pieces.h - what the tokenizer's stages hand to each other: growing text, spans in it, ids.
 *
 * Growing never returns an error: a container that could not grow sets `failed` and ignores what
 * follows, so that loops stay readable; the stage's caller looks once (pieces_ok and friends).
 * Left out: freeing between calls; the containers belong to one tokenizer and are reused. */
#ifndef SQZ_RUNTIME_TOKENIZER_PIECES_H
#define SQZ_RUNTIME_TOKENIZER_PIECES_H
#include <stdint.h>

typedef struct text_buffer {
    char *at; /* not zero-terminated */
    int64_t n, room;
    int failed;
} text_buffer;

typedef struct span {
    int64_t at, n; /* bytes */
} span;

/* Consecutive words of one text; a word may be anywhere in `text`, in any order. */
typedef struct pieces {
    text_buffer text;
    span *spans;
    int64_t n, room;
    int failed;
} pieces;

typedef struct id_list {
    int32_t *at;
    int64_t n, room;
    int failed;
} id_list;

void text_add(text_buffer *, const char *bytes, int64_t n);
void text_add_char(text_buffer *, uint32_t code_point);
void text_free(text_buffer *);
void text_swap(text_buffer *, text_buffer *);

void pieces_clear(pieces *);
void pieces_add_span(pieces *, int64_t at, int64_t n);
/* Copies the bytes to the end of the text and adds their span. */
void pieces_add(pieces *, const char *bytes, int64_t n);
int pieces_ok(const pieces *);
void pieces_free(pieces *);
void pieces_swap(pieces *, pieces *);

void ids_add(id_list *, int32_t id);
/* Room for n more, or NULL; the caller advances `n` itself. */
int32_t *ids_reserve(id_list *, int64_t n);
void ids_free(id_list *);

/* ---- UTF-8 ----------------------------------------------------------------------------------
 */

/* Decodes the well-formed sequence at s into *c and returns its length; 0 when it is ill-formed. */
int utf8_next(const char *s, int64_t n, uint32_t *c);
int utf8_put(uint32_t c, char out[4]);
/* Offset of the first ill-formed byte, or -1. */
int64_t utf8_check(const char *s, int64_t n);
/* Appends s with every ill-formed subsequence replaced by U+FFFD (maximal subparts, Unicode 3.9).
 */
void utf8_lossy(text_buffer *out, const char *s, int64_t n);

/* GPT-2's map of bytes to printable characters (formats, "Byte-level tokenizers"). */
uint32_t byte_to_char(uint8_t byte);
int char_to_byte(uint32_t c); /* -1: not one of the 256 */
#endif
