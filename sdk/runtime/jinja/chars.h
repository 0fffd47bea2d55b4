/* chars.h - texts as Python sees them: characters instead of bytes, its white space, its cases. */
#ifndef SQZ_RUNTIME_JINJA_CHARS_H
#define SQZ_RUNTIME_JINJA_CHARS_H
#include "tokenizer/pieces.h"

/* Bytes of the white space at the start (or the end) of a text that is not empty; 0: none. */
int space_at(const char *s, int64_t n);
int space_before(const char *s, int64_t n);
int64_t chars_count(const char *s, int64_t n);
/* Offset of the character with this index (index may be the count). */
int64_t chars_offset(const char *s, int64_t n, int64_t index);
int char_length(unsigned char first); /* bytes of the character that begins with this byte */
int char_printable(uint32_t c);
/* str.upper, lower, title, capitalize, swapcase */
typedef enum text_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL } text_case;
void text_add_case(text_buffer *, const char *s, int64_t n, text_case);
int char_is_upper(uint32_t c);
int char_is_lower(uint32_t c);
/* Python's repr of a float: the fewest digits that read back. */
void float_text(double v, char out[40]);
#endif
